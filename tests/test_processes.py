"""Several processes: the launcher against the operating system's own book-keeping, and JAX's against each other."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from mirjax import processes

LAUNCHER = """
import os, sys
from mirjax import processes
count, grace, communicate, *command = sys.argv[1:]
command = [sys.executable, *command]
sys.exit(processes.launch_local(int(count), command, os.environ, communicate=communicate == "True", grace=float(grace)))
"""
WORKER = """
import os, signal, sys, time
from pathlib import Path
from mirjax import processes
out, rank = Path(sys.argv[1]), int(os.environ["MIRJAX_PROCESS_ID"])
processes.follow_launcher(os.environ)

def started(*pids):
    (out / f"{rank}.tmp").write_text(" ".join(map(str, (os.getpid(), *pids))))
    os.replace(out / f"{rank}.tmp", out / f"{rank}.pid")
"""
JOINING = """
def work():
    processes.join(os.environ, timeout=float(os.environ.get("SECONDS", "60")))
    import jax, json
    import numpy as np
    from jax.experimental import multihost_utils
"""


def start(folder, count, body, *, grace=30.0, communicate=True, **environment):
    """A launcher of workers that run `body`."""
    worker = folder / "worker.py"
    worker.write_text(WORKER + body)
    command = [sys.executable, "-c", LAUNCHER, str(count), str(grace), str(communicate), str(worker), str(folder)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )


def finish(launcher, within):
    """(status, standard output, standard error), in good time."""
    try:
        output, errors = launcher.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        launcher.send_signal(signal.SIGKILL)
        pytest.fail(f"the launcher did not end within {within} s")
    return launcher.returncode, output, errors


def pids(folder, count):
    """Process numbers that the workers wrote, and those of their children."""
    deadline = time.monotonic() + 20
    files = [folder / f"{rank}.pid" for rank in range(count)]
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, "the workers did not start"
        time.sleep(0.02)
    return [int(pid) for file in files for pid in file.read_text().split()]


def is_alive(pid):
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return done.stdout.strip()[:1] not in ("", "Z")


def all_end(numbers, within=10.0):
    """Whether all end by themselves; those that do not are ended, so that a failing test leaves nothing behind."""
    deadline = time.monotonic() + within
    while any(map(is_alive, numbers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [number for number in numbers if is_alive(number)]
    for number in left:
        os.kill(number, signal.SIGKILL)
    return not left


SLEEP = "started()\ntime.sleep(600)\n"


def test_output_and_status_of_workers_that_end_well(tmp_path):
    """Oracle: what each worker wrote; the first one's as it is, the others' behind their number."""
    launcher = start(
        tmp_path,
        3,
        "print('out of', rank)\nprint('err of', rank, file=sys.stderr)\nsys.exit(0 if sys.stdin.read() == '' else 5)",
    )
    status, output, errors = finish(launcher, 20)
    assert status == 0
    assert sorted(output.splitlines()) == ["[1] out of 1", "[2] out of 2", "out of 0"]
    assert sorted(errors.splitlines()) == ["[1] err of 1", "[2] err of 2", "err of 0"]


@pytest.mark.parametrize(
    ("last", "status", "words"),
    [
        ("os._exit(7)", 7, "process 1 of 3 ended with status 7"),
        ("raise RuntimeError('no more disk')", 1, "[1] RuntimeError: no more disk"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "process 1 of 3 ended by SIGKILL"),
    ],
)
def test_the_first_that_fails_ends_all(last, status, words, tmp_path):
    """Oracle: the shell's convention of statuses (128 + n after signal n), and the process table afterwards."""
    body = f"""
import subprocess
child = subprocess.Popen(["sleep", "600"])
started(child.pid)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if rank == 1:
    while len(list(out.glob("*.pid"))) < 3: time.sleep(0.02)
    {last}
time.sleep(600)
"""
    launcher = start(tmp_path, 3, body)
    found, _, errors = finish(launcher, 20)
    assert found == status
    assert words in errors
    assert "the others are stopped" in errors
    assert all_end(pids(tmp_path, 3))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
def test_who_fails_first_gives_the_status(tmp_path):
    """Oracle: the order of the ends: process 0 fails only when process 1 is gone, as the fellows of a dead one do."""
    body = """
started()
if rank == 1: os._exit(7)
while not (out / "1.pid").exists(): time.sleep(0.001)
while os.path.exists("/proc/" + (out / "1.pid").read_text()): pass
os._exit(9)
"""
    for _ in range(3):
        status, _, errors = finish(start(tmp_path, 2, body), 20)
        assert status == 7
        assert "process 1 of 2 ended with status 7" in errors
        (tmp_path / "1.pid").unlink()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("communicate", [True, False])
def test_a_launcher_told_to_stop_lets_its_workers_save(number, communicate, tmp_path):
    """Oracle: the files that the workers write when it reaches them, and status 128 + n.

    Those that communicate are always told by SIGTERM, on which they can agree.
    """
    body = (
        f"PASSED = {int(signal.SIGTERM if communicate else number)}"
        + """
def save(*_):
    time.sleep(0.3)
    (out / f"{rank}.saved").touch()
    sys.exit(0)
signal.signal(PASSED, save)
started()
time.sleep(600)
"""
    )
    launcher = start(tmp_path, 2, body, communicate=communicate)
    numbers = pids(tmp_path, 2)
    launcher.send_signal(number)
    assert finish(launcher, 20)[0] == 128 + number
    assert sorted(path.name for path in tmp_path.glob("*.saved")) == ["0.saved", "1.saved"]
    assert all_end(numbers)


@pytest.mark.parametrize("signals", [1, 2])
def test_workers_that_will_not_stop_are_killed(signals, tmp_path):
    """Oracle: the process table after the grace of a second; a second signal does not wait for the long one."""
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SLEEP
    launcher = start(tmp_path, 2, body, grace=1.0 if signals == 1 else 600.0)
    numbers = pids(tmp_path, 2)
    for _ in range(signals):
        launcher.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    assert finish(launcher, 20)[0] == 128 + signal.SIGTERM
    assert all_end(numbers)


def test_no_orphans_of_a_killed_launcher(tmp_path):
    """Oracle: the process table: workers and their children are gone seconds after their launcher's SIGKILL."""
    body = """
import subprocess
started(subprocess.Popen(["sleep", "600"]).pid)
while True: pass
"""
    launcher = start(tmp_path, 2, body)
    numbers = pids(tmp_path, 2)
    assert len(numbers) == 4 and all(map(is_alive, numbers))
    launcher.send_signal(signal.SIGKILL)
    launcher.wait()
    assert all_end(numbers, within=5.0)


def test_processes_communicate_and_agree(tmp_path):
    """Oracle: ranks and their sum by hand; the groups of equal values by hand."""
    body = f"""{JOINING}
    assert processes.join({{}}) is False
    gathered = multihost_utils.process_allgather(np.array([rank + 1.0]))
    processes.agree("the same", "data")
    try:
        processes.agree(f"clips of {{rank % 2}}", "data")
    except ValueError as error:
        told = str(error)
    facts = {{"index": jax.process_index(), "sum": float(gathered.sum()), "told": told}}
    (out / f"{{rank}}.json").write_text(json.dumps(facts))
    listening = open("/proc/net/tcp6").read() if os.path.exists("/proc/net/tcp6") else ""
    port = int(os.environ["JAX_COORDINATOR_ADDRESS"].split(":")[1])
    assert f"{{'0' * 32}}:{{port:04X}}" not in listening, "the coordinator listens on all interfaces"
with processes.ending_at_once():
    work()
"""
    status, _, errors = finish(start(tmp_path, 2, body), 90)
    assert status == 0, errors
    facts = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [fact["index"] for fact in facts] == [0, 1]
    assert [fact["sum"] for fact in facts] == [3.0, 3.0]
    for fact in facts:
        assert fact["told"].startswith("data differs between processes (0 | 1); ")


def test_an_exception_in_a_joined_worker_ends_all_at_once(tmp_path):
    """Oracle: the traceback and status of the worker; JAX's own exit would wait 300 s for its fellow."""
    body = f"""{JOINING}
    if rank == 1:
        raise RuntimeError("clip 17 is torn")
    multihost_utils.process_allgather(np.zeros(1))
with processes.ending_at_once():
    work()
"""
    began = time.monotonic()
    status, _, errors = finish(start(tmp_path, 2, body), 60)
    assert status == 1
    assert "[1] Traceback" in errors and "[1] RuntimeError: clip 17 is torn" in errors
    assert time.monotonic() - began < 45


def test_a_signal_between_two_trainings_is_met_by_the_next(tmp_path):
    """Hand-worked: five questions, SIGTERM, then three: one of these, the same in both processes, is told to stop."""
    body = f"""{JOINING}
    from mirjax import train
    with train._Interruption() as interruption:
        first = [interruption.requested() for _ in range(5)]
    if rank == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(3)
    multihost_utils.process_allgather(np.zeros(1))
    with train._Interruption() as interruption:
        second = [interruption.requested() for _ in range(3)]
    (out / f"{{rank}}.json").write_text(json.dumps([first, second]))
with processes.ending_at_once():
    work()
"""
    status, _, errors = finish(start(tmp_path, 2, body), 90)
    assert status == 0, errors
    answers = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert answers[0] == answers[1]
    assert not any(answers[0][0]) and sum(answers[0][1]) == 1


def test_a_coordinator_that_cannot_be_reached(tmp_path):
    """Oracle: a port at which nobody listens; JAX by itself aborts with a stack trace of C++."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    worker = tmp_path / "worker.py"
    worker.write_text(f"{WORKER}{JOINING}\nwith processes.ending_at_once():\n    work()\n")
    own = {"MIRJAX_NUM_PROCESSES": "2", "MIRJAX_PROCESS_ID": "1", "JAX_COORDINATOR_ADDRESS": address, "SECONDS": "2"}
    done = subprocess.run(
        [sys.executable, str(worker), str(tmp_path)], capture_output=True, text=True, env=os.environ | own, timeout=60
    )
    assert done.returncode == 1
    assert f"TimeoutError: process 1 of 2 waited 2 s for the coordinator at {address}" in done.stderr
    assert "Check failure" not in done.stderr


def test_an_address_at_which_process_0_cannot_listen():
    """Oracle: the operating system, which gives a port once; what is no address at all."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        own = {"MIRJAX_NUM_PROCESSES": "2", "MIRJAX_PROCESS_ID": "0"}
        with pytest.raises(OSError, match=f"cannot listen at {address}: .*choose another JAX_COORDINATOR_ADDRESS"):
            processes.join(own | {"JAX_COORDINATOR_ADDRESS": address})
    with pytest.raises(ValueError, match="'localhost' must be HOST:PORT"):
        processes.join(own | {"JAX_COORDINATOR_ADDRESS": "localhost"})
    with pytest.raises(ValueError, match="no JAX_COORDINATOR_ADDRESS"):
        processes.join(own)


SLURM = {"SLURM_JOB_ID": "9", "SLURM_STEP_NODELIST": "node1", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"MIRJAX_NUM_PROCESSES": "4", "MIRJAX_PROCESS_ID": "3"}, (3, 4)),
        (SLURM | {"SLURM_NTASKS": "8", "SLURM_PROCID": "2"}, (2, 8)),
        (SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),  # a job of one task: `processes=4` is free to start
        ({"SLURM_NTASKS": "8", "SLURM_JOB_ID": "9"}, None),  # a batch script, outside srun
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, (1, 2)),
        (
            SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "MIRJAX_NUM_PROCESSES": "2", "MIRJAX_PROCESS_ID": "1"},
            (1, 2),
        ),
    ],
)
def test_places(environment, expected):
    """Oracle: the variables as srun, mpirun and the launcher set them; by hand."""
    assert processes.place(environment) == expected


def test_places_that_cannot_be():
    """Oracle: rank 2 of 2, and words for numbers."""
    for rank in ("2", "-1", "first"):
        with pytest.raises(ValueError, match=f"MIRJAX_PROCESS_ID={rank!r} must be a number"):
            processes.place({"MIRJAX_NUM_PROCESSES": "2", "MIRJAX_PROCESS_ID": rank})


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [
        ("0,1,2,3", 4, ["0", "1", "2", "3"]),
        ("4,5,6,7", 2, ["4,5", "6,7"]),
        ("0", 2, ["0", "0"]),
        ("0,1", 4, ["0", "1", "0", "1"]),
    ],
)
def test_gpus_are_shared_out(visible, count, expected):
    """Oracle: by hand."""
    environment = {"CUDA_VISIBLE_DEVICES": visible}
    shares = [processes._devices(rank, count, environment)["CUDA_VISIBLE_DEVICES"] for rank in range(count)]
    assert shares == expected
    assert processes._devices(0, 2, {"CUDA_VISIBLE_DEVICES": ""}) == {}


TASK = {"SLURM_NTASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "1"} | {
    "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_TASKS_PER_NODE": "4(x2)", "CUDA_VISIBLE_DEVICES": "0,1,2,3"
}  # fmt: skip


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, [1]),  # --gpus-per-node=4: each task sees all of its node's
        ({"CUDA_VISIBLE_DEVICES": "0", "SLURM_GPUS_PER_TASK": "1"}, [0]),
        ({"CUDA_VISIBLE_DEVICES": "4,5", "SLURM_GPUS_PER_TASK": "2"}, [0, 1]),
        ({"SLURM_STEP_TASKS_PER_NODE": "2(x4)"}, [2, 3]),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x8)", "SLURM_LOCALID": "0"}, [0, 1, 2, 3]),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_LOCALID": "3"}, [1]),  # more tasks than GPUs
        ({"CUDA_VISIBLE_DEVICES": ""}, None),  # no GPUs
        ({"JAX_LOCAL_DEVICE_IDS": "3"}, None),  # set by hand
    ],
)
def test_gpus_of_a_slurm_task(monkeypatch, variables, expected):
    """Hand-worked: what JAX is told, of nodes with four GPUs; it joins nothing here."""
    told = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda **settings: told.update(settings))
    assert processes.join(TASK | variables)
    assert told.get("local_device_ids") == expected and "num_processes" not in told


def test_one_process_agrees_with_itself_and_counts_are_checked():
    """Oracle: by hand."""
    processes.agree("anything", "data")
    assert processes.join({}) is False
    with pytest.raises(ValueError, match="processes=0 must be at least 1"):
        processes.launch_local(0, ["true"], {})

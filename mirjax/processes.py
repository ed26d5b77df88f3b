"""Several processes: started on this machine, or joined where a cluster started them.

`launch_local` is the parent's side: it starts copies of one command on 127.0.0.1, passes their output on, and ends all
of them when one fails. A worker calls, in this order: `follow_launcher`; `ending_at_once` around its work; `join`
before anything touches JAX's devices; `agree` once configuration and data are known.

Environment
-----------
Every look-up is in a mapping that the caller gives (`os.environ`, at the one door). The launcher tells its workers
`MIRJAX_NUM_PROCESSES`, `MIRJAX_PROCESS_ID`, `MIRJAX_LIFELINE` and, where they communicate, `JAX_COORDINATOR_ADDRESS`;
the first two and the address may also be set by hand, for machines without a cluster manager. Under SLURM and Open MPI
number and rank are theirs.

Names: `Place`, `place`, `launch_local`, `follow_launcher`, `ending_at_once`, `join`, `agree`.
Source: the multi-process pages of JAX's documentation; how its services behave when a process dies was measured.
"""

import contextlib
import hashlib
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

NUMBER, RANK, LIFELINE = "MIRJAX_NUM_PROCESSES", "MIRJAX_PROCESS_ID", "MIRJAX_LIFELINE"
ADDRESS = "JAX_COORDINATOR_ADDRESS"
# Variables of which all must be there, number and rank first: as JAX recognises these managers.
MANAGERS = (
    (NUMBER, RANK),
    ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_JOB_ID", "SLURM_STEP_NODELIST"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
)
GRACE = 30.0  # seconds that workers told to stop have for saving
TIMEOUT = 60.0  # seconds in which all processes must have come together
HEARTBEAT = 20  # seconds; JAX's own 100 are for networks worse than a machine's own


class Place(NamedTuple):
    """A process among its fellows: its rank, from 0, and how many they are."""

    rank: int
    count: int


def place(environment: Mapping[str, str]) -> Place | None:
    """The place that a launcher or a cluster manager gave this process; None where it is the only one.

    Raises:
      ValueError: variables that contradict each other or are no numbers.
    """
    for names in MANAGERS:
        if not all(name in environment for name in names):
            continue
        number, rank = environment[names[0]], environment[names[1]]
        if not (number.isdecimal() and rank.isdecimal() and int(rank) < int(number)):
            raise ValueError(f"{names[1]}={rank!r} must be a number from 0 and less than {names[0]}={number!r}")
        if int(number) > 1:
            return Place(int(rank), int(number))
    return None


# ── the launcher ──────────────────────────────────────────────────────────────────────────────────


def launch_local(
    count: int,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    communicate: bool = True,
    grace: float = GRACE,
) -> int:
    """Run copies of a command on this machine until all are done or one has failed.

    What process 0 writes appears as it is; each line of process i > 0 comes behind `[i] `. The first that fails ends
    the others at once. SIGINT and SIGTERM are passed on, so that the workers can save (to those that communicate both
    as SIGTERM, on which they can agree); whoever is left after `grace`, or at a second signal, is killed. If the
    launcher itself is killed, workers that called `follow_launcher` end too.

    Args:
      count: number of processes, at least 1.
      command: program and arguments.
      environment: of the workers, beside what tells them their place.
      communicate: give them the address of a coordinator, for `join`.
      grace: seconds.

    Returns:
      0 when all ended so; else the exit status of the first that failed, 128 + n after signal n; 128 + n too when this
      process was told by signal n to stop.

    Raises:
      ValueError: a count below 1.
      OSError: the command cannot be started.
    """
    if count < 1:
        raise ValueError(f"processes={count} must be at least 1")
    shared = {NUMBER: str(count)}
    if communicate:
        shared[ADDRESS] = f"127.0.0.1:{_free_port()}"
    ended, followed = queue.SimpleQueue(), []
    worker_end, our_end = os.pipe()
    workers = []
    told = []  # signals to this process

    def pass_on(number, _):
        told.append(number)
        for worker in workers:
            first = signal.SIGTERM if communicate else number
            worker.send_signal(first if len(told) == 1 else signal.SIGKILL)

    handlers = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for rank in range(count):
            if told:
                break
            own = shared | {RANK: str(rank), LIFELINE: str(worker_end)} | _devices(rank, count, environment)
            pipe = subprocess.PIPE if rank else None
            worker = subprocess.Popen(
                command,
                env={**environment, **own},
                stdin=subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
                pass_fds=[worker_end],
                start_new_session=True,  # a Ctrl-C reaches it through this process only, and only once
            )
            workers.append(worker)
            threading.Thread(target=_tell_end, args=(rank, worker, ended), daemon=True).start()
            if rank:
                followed += [_follow(worker.stdout, sys.stdout, rank), _follow(worker.stderr, sys.stderr, rank)]
        return _watch(workers, ended, told, grace)
    finally:
        for worker in workers:
            _kill_group(worker)
        for thread in followed:
            thread.join(timeout=5)  # the last lines; a stray grandchild may hold the pipe open for ever
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(worker_end)
        os.close(our_end)


def _watch(workers, ended, told, grace) -> int:
    """Wait for all workers, ending them where there is reason to; the status of the whole."""
    status, deadline = 0, None
    running = len(workers)
    while running:
        if told and deadline is None:
            deadline = time.monotonic() + grace
        try:
            rank, code = ended.get(timeout=0.1)
        except queue.Empty:
            if deadline is not None and time.monotonic() > deadline:
                for worker in workers:
                    worker.kill()
            continue
        running -= 1
        if code and not status and not told:
            status = code if code > 0 else 128 - code
            how = f"with status {code}" if code > 0 else f"by {signal.Signals(-code).name}"
            others = "; the others are stopped" if running else ""
            sys.stderr.write(f"process {rank} of {len(workers)} ended {how}{others}\n")
            for worker in workers:
                worker.kill()  # without it the others can do nothing but wait, and what they wrote stands a kill
    return 128 + told[0] if told else status


def _tell_end(rank: int, worker: subprocess.Popen, ended: queue.SimpleQueue) -> None:
    """One thread a worker, so that the ends come in their order: who failed first made the others fail."""
    ended.put((rank, worker.wait()))


def _kill_group(worker: subprocess.Popen) -> None:
    """End a worker and its children; those of one that ended well end by themselves."""
    if worker.returncode != 0:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.pid, signal.SIGKILL)


def _follow(source, target, rank: int) -> threading.Thread:
    """Pass the lines of a worker on; to the end, even where nobody reads them, since a full pipe stops its writer."""

    def pass_on():
        for line in source:
            with contextlib.suppress(OSError, ValueError):
                target.write(f"[{rank}] {line.decode(errors='replace').rstrip()}\n")
                target.flush()

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    return thread


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _devices(rank: int, count: int, environment: Mapping[str, str]) -> dict[str, str]:
    """A worker's share of this machine's NVIDIA GPUs, one at least: two processes on one fight for its memory."""
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    there = [name for name in (listed or "").split(",") if name]
    if listed is None:
        there = [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
    if not there:
        return {}
    return {"CUDA_VISIBLE_DEVICES": ",".join(_block(there, rank, count))}


def _block(there: Sequence, rank: int, count: int) -> list:
    """What one of so many processes gets of what is there: a block, one at least."""
    each = max(1, len(there) // count)
    start = rank * each % len(there)
    return list(there[start : start + each])


# ── a worker ──────────────────────────────────────────────────────────────────────────────────────


def follow_launcher(environment: Mapping[str, str]) -> None:
    """In a worker of `launch_local`: end this process and its children when the launcher is gone, however it went.

    The launcher holds the other end of a pipe and never writes; the system closes it with the launcher.
    """
    if LIFELINE not in environment:
        return

    def wait():
        with contextlib.suppress(OSError):
            os.read(int(environment[LIFELINE]), 1)
            os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """Let a failure inside end this process if it has joined others.

    At a usual exit JAX waits minutes for all processes to get there; the fellows of one that failed never do.
    """
    try:
        yield
    except BaseException as error:
        status = (error.code or 0) if isinstance(error, SystemExit) else 1
        if status == 0 or not _has_joined():
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        elif isinstance(status, str):
            sys.stderr.write(f"{status}\n")
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)


def _has_joined() -> bool:
    # What has not imported JAX has not joined, and should not pay for the import when it ends.
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


def join(environment: Mapping[str, str], *, ask_jax: bool = False, timeout: float = TIMEOUT) -> bool:
    """Join the other processes, if there are any; to be called before anything touches JAX's devices.

    By the variables of `launch_local` (or set by hand) if they are there; else, under SLURM, Open MPI and on TPU pods
    that name their workers, by what JAX finds out by itself.

    Args:
      environment: variables of this process.
      ask_jax: let JAX look for a cluster where the variables name none (`processes=auto`): TPU pods, Kubernetes.
      timeout: seconds in which all processes must have come.

    Returns:
      Whether this process has joined others; `jax.process_index()` is its rank then.

    Raises:
      TimeoutError: the coordinator cannot be reached, or not all processes came.
      OSError: process 0 cannot listen at the coordinator's address.
      ValueError: there is no cluster, or no address.
    """
    found = place(environment)
    several_hosts = "," in environment.get("TPU_WORKER_HOSTNAMES", "")
    if not (found or several_hosts or ask_jax):
        return False
    import jax

    settings, address = {}, environment.get(ADDRESS)
    if found and address:
        if found.rank == 0:
            _check_port(address)
        settings = {"coordinator_address": address, "num_processes": found.count, "process_id": found.rank}
    if (own := _slurm_devices(environment)) is not None:
        settings["local_device_ids"] = own
    if found and NUMBER in environment:
        if not address:
            raise ValueError(f"{NUMBER}={found.count} but no {ADDRESS}; set it to HOST:PORT of process 0")
        settings["coordinator_bind_address"] = address  # JAX's default are all interfaces of the machine
        settings |= {"heartbeat_timeout_seconds": HEARTBEAT, "cluster_detection_method": "deactivate"}
    failure = []

    def initialise():
        try:
            # Where this time is over JAX aborts the process without a word of what to do, so ours is over before.
            jax.distributed.initialize(**settings, initialization_timeout=int(timeout) + 60)
        except Exception as error:  # whatever it is, it is told by the thread that waits
            failure.append(error)

    waiting = threading.Thread(target=initialise, daemon=True)
    waiting.start()
    waiting.join(timeout)
    if waiting.is_alive():
        who = f"process {found.rank} of {found.count}" if found else "this process"
        where = f" at {address}" if address else ""
        raise TimeoutError(
            f"{who} waited {timeout:g} s for the coordinator{where} and all others; see that every process was "
            "started, that process 0 runs there and that its port is open, or wait longer (MIRJAX_JOIN_SECONDS)"
        )
    if failure:
        raise ValueError(
            f"JAX cannot join other processes here: {failure[0]}; under SLURM start with srun, elsewhere set "
            f"{ADDRESS}, {NUMBER} and {RANK}"
        ) from failure[0]
    return True


def _slurm_devices(environment: Mapping[str, str]) -> list[int] | None:
    """Which of the GPUs that it sees are a SLURM task's own; None where there is nothing to say.

    JAX takes the one with the task's number on its node, which is none of those that `--gpus-per-task` leaves it, and
    one of many where a node has a single task (jax-ml/jax issues 16788, 28194, 29669).
    """
    visible = len([name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name])
    local, tasks = environment.get("SLURM_LOCALID"), environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    if NUMBER in environment or "JAX_LOCAL_DEVICE_IDS" in environment or not visible or local is None:
        return None
    count = max(map(int, re.findall(r"(\d+)(?:\(x\d+\))?", tasks)), default=1)
    if "SLURM_GPUS_PER_TASK" in environment or count == 1 or visible == 1:
        return list(range(visible))
    return _block(range(visible), int(local), count)


def _check_port(address: str) -> None:
    """Refuse an address at which this process cannot listen: JAX's coordinator would crash on it."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65_536):
        raise ValueError(f"{ADDRESS}={address!r} must be HOST:PORT")
    try:
        family, kind, _, _, where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"process 0 cannot listen at {address}: {reason}; choose another {ADDRESS}") from error


def agree(value: str, what: str) -> None:
    """Check that all processes were given the same, which each of them must call in the same order.

    Args:
      value: what to compare, for instance a fingerprint of the configuration or of the data.
      what: its name in the error.

    Raises:
      ValueError: it differs; names the processes that see the same, group by group.
    """
    import jax
    import numpy as np

    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
    groups: dict[bytes, list[str]] = {}
    for rank, theirs in enumerate(np.asarray(multihost_utils.process_allgather(digest))):
        groups.setdefault(theirs.tobytes(), []).append(str(rank))
    if len(groups) > 1:
        told = " | ".join(", ".join(ranks) for ranks in groups.values())
        raise ValueError(f"{what} differs between processes ({told}); give all of them the same files and settings")

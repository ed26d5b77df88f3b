"""Training over loopback processes of this machine, through the one door, against one process."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

LAUNCH = Path(__file__).parents[1] / "launch.py"
STUDY = '''"""A small training. launch.py run study"""
from mirjax.experiments.training import Training
experiment = Training(data="rhythm_small", architectures="tutorial_genre", n="4", folds=("0",), epochs={epochs},
                      normalise="all", classifiers=(), rule="constant()", optimiser="sgd", learning_rate=0.002,
                      batch_size=8, seconds={seconds}, seeds=(1,))
'''
# At five times this rate rounding grows: another order of summing lets one of two nearly equal maxima be chosen, and
# weights part by 7e-6 (two processes on one core, seed 1) or 8e-3 (four, seed 0). Here they stay within 2e-7.


def start(folder, *overrides, epochs=5, seconds="None", name="study.py"):
    study = folder / name
    study.write_text(STUDY.format(epochs=epochs, seconds=seconds))
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, str(LAUNCH), "run", str(study), *overrides]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return output


def weights(run):
    (path,) = (run / "weights").glob("*.npz")
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files if stored[name].dtype.kind == "f"}


def difference(first, second):
    """Largest difference over the largest value, of parameters and of running averages, whichever is larger."""
    kinds = {name.partition("/")[0] for name in second}
    found = []
    for kind in kinds:
        names = [name for name in second if name.startswith(kind)]
        largest = max(np.abs(second[name]).max() for name in names)
        found.append(max(np.abs(first[name] - second[name]).max() for name in names) / largest)
    return max(found)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Weights and records of one process with one device: 20 SGD steps, batch norm and dropout."""
    folder = tmp_path_factory.mktemp("alone")
    finish(start(folder, f"workdir={folder / 'run'}"))
    return folder / "run"


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_agree_with_one(alone, tmp_path, processes):
    """Oracle: one process after 20 SGD steps, batch norm included; records and decisions too."""
    output = finish(start(tmp_path, f"workdir={tmp_path / 'run'}", f"processes={processes}"))
    assert "tutorial_genre" in output
    (curve,) = (tmp_path / "run" / "curves").glob("*.jsonl")
    rows = [json.loads(line) for line in curve.read_text().splitlines()]
    assert rows[-1]["step"] == 20 and abs(rows[-1]["train_loss"] - rows[0]["train_loss"]) > 1e-3  # it has learnt
    assert difference(weights(tmp_path / "run"), weights(alone)) < 1e-6
    values = [
        [json.loads(line)["value"] for line in (run / "records.jsonl").read_text().splitlines()]
        for run in (tmp_path / "run", alone)
    ]
    assert values[0] == values[1]


def test_pmap_over_processes_is_one_process(tmp_path):
    """Oracle: one process under jit, 20 SGD steps of a network with batch norm (pmap draws dropout by device)."""
    network = ["architectures=space/square3-d2-f8-p2x2-relu-bn-mean", "n=", "patch=3"]
    ways = {"alone": [], "pmap": ["parallel=pmap"], "processes": ["parallel=pmap", "processes=2"]}
    for name, settings in ways.items():
        finish(start(tmp_path, f"workdir={tmp_path / name}", *network, *settings))
    alone = weights(tmp_path / "alone")
    assert any("var" in name for name in alone)
    for name in ("pmap", "processes"):
        assert difference(weights(tmp_path / name), alone) < 1e-6


@pytest.mark.parametrize("then", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_terminated_processes_save_and_go_on(tmp_path, then):
    """Oracle: two processes undisturbed, bit for bit; SIGTERM comes amid 60 epochs, and each is made once.

    One process can go on as well, with other rounding: the state is anyone's.
    """
    run, epochs = tmp_path / "run", 60
    process = start(tmp_path, f"workdir={run}", "processes=2", epochs=epochs)
    deadline = time.monotonic() + 200
    while not (curves := list((run / "curves").glob("*.jsonl"))) or not curves[0].read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0, errors[-2000:]
    saved = [int(path.name) for path in (run / "checkpoints").glob("*/[0-9]*")]
    assert saved and 0 < max(saved) < 4 * epochs, errors[-2000:]
    finish(start(tmp_path, f"workdir={run}", f"processes={then}", epochs=epochs))
    steps = [json.loads(line)["step"] for line in curves[0].read_text().splitlines()]
    assert steps == list(range(4, 4 * epochs + 1, 4))
    if then == 2:
        finish(start(tmp_path, f"workdir={tmp_path / 'whole'}", "processes=2", epochs=epochs))
        resumed, whole = weights(run), weights(tmp_path / "whole")
        assert all(np.array_equal(resumed[name], whole[name]) for name in whole)


def test_a_batch_that_processes_cannot_share(tmp_path):
    """Hand-worked: eight rows and three processes of a device each."""
    process = start(tmp_path, f"workdir={tmp_path / 'run'}", "processes=3", seconds="1.0")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2, errors[-2000:]
    said = "batch_size=8: batches of 8 rows (38 training examples) cannot be shared by 3 devices of 3 processes"
    assert said in errors and "choose a multiple of 3, at most 38" in errors


# What the second process sees of a checkpoint folder that is not on a common file system.
OTHER_FOLDER = """
from mirjax.checkpoint import Checkpoints
Checkpoints.steps = [7]
"""


@pytest.mark.parametrize("what", ["configuration", "data", "checkpoints"])
def test_processes_that_see_different_things_say_so(tmp_path, what):
    """Hand-worked: two processes by hand, for which a length differs, a clip or what is saved; both end and say so."""
    import socket

    soundfile = pytest.importorskip("soundfile")
    for rank in range(2):
        folder = tmp_path / f"{rank}" / "clips"
        for i in range(12):
            (folder / f"{i % 2}").mkdir(parents=True, exist_ok=True)
            wave = np.sin(np.arange(12_000) * (0.1 + 0.01 * i + (1e-3 * rank if i == 7 else 0)))
            soundfile.write(folder / f"{i % 2}" / f"{i}.wav", wave, 12_000)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    started = []
    for rank in range(2):
        study = tmp_path / f"study{rank}.py"
        other = OTHER_FOLDER if what == "checkpoints" and rank else ""
        study.write_text(STUDY.format(epochs=1, seconds=6.0 + (what == "configuration") * rank) + other)
        environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {
            "JAX_NUM_CPU_DEVICES": "1",
            "JAX_COORDINATOR_ADDRESS": address,
            "MIRJAX_NUM_PROCESSES": "2",
            "MIRJAX_PROCESS_ID": str(rank),
        }
        command = [sys.executable, str(LAUNCH), "run", str(study), f"workdir={tmp_path / 'run'}"]
        if what == "data":  # the same path, seen from two folders
            command += ["data=clips", f"cache={tmp_path / str(rank) / 'cache'}"]
        where = tmp_path / f"{rank}"
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=where))
    told = [process.communicate(timeout=200)[1] for process in started]
    assert all(process.returncode for process in started)
    named = "/run/checkpoints/rhythm_small" if what == "checkpoints" else what
    pattern = rf"{named}\S* differs between processes \(0 \| 1\)"
    assert any(re.search(pattern, errors) for errors in told), told

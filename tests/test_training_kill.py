"""Trainings that are killed at any moment, and trainings that cannot go on: what is left, and what is said."""

import csv
import dataclasses
import json
import multiprocessing
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mirjax
from mirjax.config import UsageError
from mirjax.experiments.training import Training
from mirjax.models import weights

# Batch statistics, Adam's moments, a moving average, augmentation's draws, the best weights: all must come back.
STUDY = Training(
    data="rhythm_small",
    architectures="space/frames-d1-f8-p2-relu-bn-mean",
    seconds=3.0,
    folds=("0",),
    seeds=2,
    epochs=6,
    normalise="all",
    augment="spec_augment",
    learning_rate=0.03,
    monitor="valid_accuracy",
    average=0.5,
    rule="halve_every(2)",
    classifiers=(),
    save_seconds=0.0,
)
# A server that has imported everything forks the runs, so that most of a run's time is work and not imports.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["mirjax.experiments.training_run", "orbax.checkpoint", "grain", "soundfile"])


def run(folder, saves=0, seconds=None):
    """Run the study; whether it came to its end before it was killed, so many seconds after so many checkpoints."""
    process = SERVER.Process(target=STUDY.run, args=(str(folder),), kwargs={"progress": False})
    before, seen = checkpoints(folder), set()
    process.start()
    while process.is_alive() and len(seen) < saves:
        seen |= checkpoints(folder) - before
        time.sleep(0.005)
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


def checkpoints(folder):
    """Those that are whole."""
    return {path for path in folder.glob("checkpoints/*/*") if path.name.isdecimal()}


def result(folder):
    """All that a run leaves but its timings, and the commit, which may be another by now: {file: content}."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name in ("log.txt", ".lock"):
            continue
        if path.suffix == ".npz":
            with np.load(path) as stored:
                found[name] = {key: (stored[key].dtype, stored[key].tobytes()) for key in stored.files}
            found[name][":metadata"] = {k: v for k, v in weights.metadata(path).items() if k != "commit"}
        elif path.suffix == ".jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in row.items() if "seconds" not in k and k != "commit"} for row in rows]
        else:
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(what the undisturbed run left, the seconds that it took)."""
    folder, began = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
    assert run(folder)
    took, found = time.monotonic() - began, result(folder)
    last = STUDY.epochs * 2  # steps
    assert any(row["hyperparameters"]["best_step"] < last for row in found["records.jsonl"] if row["hyperparameters"])
    return found, took


@pytest.mark.parametrize("kills", [3, pytest.param(25, marks=pytest.mark.slow)])
def test_killed_at_random_moments(undisturbed, tmp_path, kills):
    """Oracle: the undisturbed run: weights, curves, decisions and records, bit for bit, and no other file.

    Every second kill comes at any moment of a run (imports, compilation, evaluation, records); the others come while a
    network is trained and saved.
    """
    expected, took = undisturbed
    rng, folders = np.random.default_rng(kills), [tmp_path / "0"]
    for kill in range(kills):
        while run(folders[-1], *moment(rng, kill, took)):
            folders.append(tmp_path / str(len(folders)))  # done before the kill: another
    assert run(folders[-1])
    for folder in folders:
        found = result(folder)
        assert set(found) == set(expected)
        assert [name for name in expected if found[name] != expected[name]] == []


def moment(rng, kill, took):
    """(checkpoints, seconds after the last of them)."""
    return (0, rng.uniform(0, took)) if kill % 2 else (rng.integers(1, 8), rng.uniform(0, 0.2))


# ── what cannot go on ──

CONFIG = '''"""A study of large steps. launch.py run study"""
from mirjax.experiments.training import Training
experiment = Training(data="rhythm_small", architectures="space/frames-d1-f8-p2-relu-bn-mean", seconds=3.0,
                      folds=("0",), normalise="all", classifiers=(), optimiser="sgd", rule="constant()", epochs=4,
                      save_seconds=0.0)
'''


def stopped(folder, rate):
    """The last line of a run that must end with status 1 and keep the checkpoint of step 1."""
    (folder / "study.py").write_text(CONFIG)
    launch = Path(__file__).parents[1] / "launch.py"
    command = [sys.executable, str(launch), "run", "study.py", "workdir=run", f"learning_rate={rate}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [path.name for path in folder.glob("run/checkpoints/*/*")] == ["1"]
    return done.stderr.splitlines()[-1]


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    """Hand-worked: the second step overflows. One line says so; the checkpoint before it stays, the second time too."""
    for _ in range(2):
        line = stopped(tmp_path, "1e30")
        assert re.match(r"launch.py: step 1: the loss is \S+ and its gradient's norm \S+ on clips \S+\.ogg, ", line)
        assert "the last checkpoint is kept. Lower the learning rate, clip gradients" in line


def test_scores_that_are_no_numbers_stop_the_run(tmp_path):
    """Hand-worked: the losses of the epoch are large but finite, the scores of the validation clips are not."""
    assert re.match("launch.py: .*not finite", stopped(tmp_path, "1e9"))


@pytest.mark.parametrize("batch_size, accumulate, multiple", [(15, 1, 2), (8, 8, 16), (12, 4, 8)])
def test_a_batch_that_devices_cannot_share(tmp_path, batch_size, accumulate, multiple):
    """Hand-worked: two devices and so many parts each; the message names the numbers and what would do."""
    study = dataclasses.replace(STUDY, batch_size=batch_size, accumulate=accumulate)
    said = f"batch_size={batch_size}.* cannot be shared by 2 devices in accumulate={accumulate} parts"
    with pytest.raises(UsageError, match=f"{said}; choose a multiple of {multiple}"):
        study.run(tmp_path, progress=False)


def spoken(folder, place_of):
    """Sixteen spoken digits, 0 and 1, with a manifest: (digit, number among its eight) → {column: place}."""
    source = Path(mirjax.__file__).parent / "data" / "embedded" / "digits_small" / "audio"
    rows = []
    for digit in "01":
        for number, path in enumerate(sorted(source.glob(f"{digit}_*.wav"))[:8]):
            shutil.copy(path, folder)
            rows.append({"path": path.name, "label": digit, **place_of(digit, number)})
    with open(folder / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return dataclasses.replace(STUDY, data=(str(folder),), folds=None, seeds=1, epochs=1, seconds=0.5, batch_size=4)


@pytest.mark.parametrize(
    "place_of, told",
    [
        (lambda digit, number: {"fold": digit}, "the test clips of fold '0' have no training clips (0)"),
        (
            lambda digit, number: {"split": "valid" if digit == "1" else "train" if number else "test"},
            "the validation clips of fold 'split' have no training clips (1)",
        ),
    ],
)
def test_a_fold_whose_training_clips_have_one_class(tmp_path, place_of, told):
    """Hand-worked: there is nothing to learn; said before anything is computed, with a remedy."""
    with pytest.raises(ValueError, match=re.escape(told) + "; move clips between folds"):
        spoken(tmp_path, place_of).run(tmp_path / "run", progress=False)


def test_a_fold_whose_test_clips_have_one_class(tmp_path):
    """Hand-worked: the other folds train it as any other; every metric is a number from 0 to 1."""
    study = spoken(tmp_path, lambda digit, number: {"fold": "a" if digit == "0" and number < 4 else "bcd"[number % 3]})
    records = dataclasses.replace(study, folds=("a",)).run(tmp_path / "run", progress=False)
    values = {record["metric"]: record["value"] for record in records if record["classifier"] == "trained"}
    assert set(values) == {"accuracy", "balanced_accuracy", "macro_f1"}
    assert all(0 <= value <= 1 for value in values.values())

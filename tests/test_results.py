"""Oracles: the contract's promises about a run folder, and an undisturbed run's bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from mirjax import results
from mirjax.results import ConfigMismatch, RunFolder, RunFolderBusy

CONFIG = {
    "data": ["a"],
    "architectures": ["vgg"],
    "seeds": [0],
    "classifiers": ["elm"],
    "n": {"vgg": 24},
    "fit": "zero",
}


def record(seed, fold, metric="accuracy", **other):
    identity = {"seed": seed, "fold": fold, "metric": metric}
    return (
        dict.fromkeys(results.RECORD_FIELDS)
        | identity
        | {"value": 0.5, "fingerprint": results.fingerprint(**identity)}
        | other
    )


DATASETS = {"a": {"hash": "h", "classes": ["x", "y"], "num_clips": 4}}


def cell(seed, folds=3, **other):
    return [record(seed, str(fold), **other) for fold in range(folds)]


def rows(seed, clips=4):
    return [
        {"id": f"c{i}", "fold": "0", "group": None, "label": "x", "prediction": "y", "scores": {"x": 0.25, "y": seed}}
        for i in range(clips)
    ]


def prints(records):
    return [r["fingerprint"] for r in records]


def content(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_fields_are_the_contracts():
    # Oracle: CONTRACT.md, "What a run leaves", word for word, and the name of the decisions.
    contract = (
        "experiment, dataset, fold, architecture, width, n, input, options, seed, classifier, scaling, protocol, "
        "selection, hyperparameters, metric, value, n_train, n_test, num_parameters, num_features, gflops, seconds, "
        "feature_seconds_per_clip, split_hash, commit, versions, fingerprint"
    )
    assert results.RECORD_FIELDS == (*contract.split(", "), "predictions")


def test_fingerprint_is_a_hash_of_the_canonical_json():
    # Oracle: sha256sum of '{"a":[1,2],"b":"é"}' (UTF-8), by coreutils.
    canonical = '{"a":[1,2],"b":"é"}'.encode()
    process = subprocess.run(["sha256sum"], input=canonical, capture_output=True, check=True)
    expected = process.stdout.decode()[:16]
    assert results.fingerprint(b="é", a=(1, 2)) == results.fingerprint(a=np.array([1, 2]), b="é") == expected
    assert results.fingerprint(b="é", a=(2, 1)) != expected
    with pytest.raises(ValueError):
        results.fingerprint(a=float("nan"))


def test_what_is_appended_is_read_back(tmp_path):
    # Identity: records and decisions come back as they were; a second opening adds nothing.
    config = CONFIG | {"datasets": DATASETS}
    with RunFolder.open(tmp_path / "run", config) as run:
        run.append(cell(0, value=np.float64(0.25)), rows(0), "zero.jsonl")
        run.append(cell("no decisions\u2028"))
        assert run.done == set(prints(cell(0) + cell("no decisions\u2028")))
    before = content(tmp_path / "run")
    read = results.read_records(tmp_path / "run")
    assert [r["value"] for r in read] == [0.25] * 3 + [0.5] * 3
    assert [r["predictions"] for r in read] == ["zero.jsonl"] * 3 + [None] * 3
    assert list(read[0]) == list(results.RECORD_FIELDS)
    assert results.read_predictions(tmp_path / "run", "zero.jsonl") == rows(0)
    with RunFolder.open(tmp_path / "run", config) as run:
        assert run.keep_complete({0: prints(cell(0))}) == 0
        assert run.records == read
    assert content(tmp_path / "run") == before
    assert set(before) == {"config.json", "records.jsonl", "zero.jsonl", ".lock"}


def test_extending_keeps_the_union(tmp_path):
    # By hand: lists grow at their end, dicts by new keys, and a shorter list forgets nothing.
    for config in (
        CONFIG,
        CONFIG | {"seeds": [1, 0], "n": {"vgg": 24, "frame": 3}, "fast": True},
        CONFIG | {"architectures": ["7x96"]},
    ):
        config = {key: value for key, value in config.items() if key != "fast"}
        with RunFolder.open(tmp_path, config, extendable=("data", "architectures", "seeds", "classifiers", "n")):
            pass
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored == CONFIG | {"seeds": [0, 1], "architectures": ["vgg", "7x96"], "n": {"vgg": 24, "frame": 3}}


def test_another_configuration_is_refused_and_nothing_written(tmp_path):
    # By hand: every differing key is named with both values; the folder's bytes and files stay.
    with RunFolder.open(tmp_path, CONFIG | {"datasets": DATASETS}) as run:
        run.append(cell(0), rows(0), "zero.jsonl")
    before = content(tmp_path)
    changed = CONFIG | {"fit": "repeat", "n": {"vgg": 32}, "new": 1, "seeds": [5]}
    with pytest.raises(ConfigMismatch) as caught, RunFolder.open(tmp_path, changed):
        pytest.fail("opened")
    message = str(caught.value)
    assert "fit='repeat' (there: 'zero')" in message and "new=1 (there: None)" in message and "n.vgg=32" in message
    assert "seeds" not in message
    with pytest.raises(ConfigMismatch, match="fit is not given"):
        RunFolder.open(tmp_path, {k: v for k, v in CONFIG.items() if k != "fit"}).__enter__()
    assert content(tmp_path) == before
    other = CONFIG | {"datasets": {"a": DATASETS["a"] | {"hash": "other"}}}
    with pytest.raises(ConfigMismatch, match=r"datasets\.a\.hash='other' \(there: 'h'\)\. Choose"):
        RunFolder.open(tmp_path, other).__enter__()
    assert content(tmp_path) == before
    with RunFolder.open(tmp_path, CONFIG | {"fit": "repeat"}, ignored=("fit",)) as run:
        assert run.config["fit"] == "repeat"


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_torn_last_line_and_half_a_cell_are_cut_off(tmp_path, cut):
    # Oracle: the bytes before the cell that was torn.
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.append(cell(0), rows(0), "zero.jsonl")
        whole = (tmp_path / "records.jsonl").read_bytes()
        run.append(cell(1), rows(1), "one.jsonl")
        complete = (tmp_path / "records.jsonl").read_bytes()
    (tmp_path / "records.jsonl").write_bytes(complete[:-cut])
    with pytest.warns(UserWarning, match="torn"):
        assert len(results.read_records(tmp_path)) == 5
    planned = {seed: prints(cell(seed)) for seed in (0, 1)}
    with RunFolder.open(tmp_path, CONFIG) as run:
        assert len(run.records) == 5
        assert run.keep_complete(planned) == 2
        assert run.done == set(planned[0])
        assert (tmp_path / "records.jsonl").read_bytes() == whole
        run.append(cell(1), rows(1), "one.jsonl")
    assert (tmp_path / "records.jsonl").read_bytes() == complete


def test_records_without_their_decisions_do_not_count(tmp_path):
    # By hand: the cell whose predictions file is gone is computed again, others stay, unplanned ones too.
    with RunFolder.open(tmp_path, CONFIG) as run:
        for seed in range(3):
            run.append(cell(seed), rows(seed), f"{seed}.jsonl")
    (tmp_path / "predictions" / "1.jsonl").unlink()
    with pytest.raises(ValueError, match=r"1\.jsonl is missing"):
        results.read_predictions(tmp_path, "1.jsonl")
    with RunFolder.open(tmp_path, CONFIG) as run:
        assert run.keep_complete({seed: prints(cell(seed)) for seed in (0, 1)}) == 3
        assert run.done == set(prints(cell(0) + cell(2)))
    assert [r["seed"] for r in results.read_records(tmp_path)] == [0] * 3 + [2] * 3


def test_damage_elsewhere_is_named(tmp_path):
    # By hand: a broken line before the last is no torn one.
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.append(cell(0), rows(0), "zero.jsonl")
    lines = (tmp_path / "records.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "records.jsonl").write_text("".join([lines[0], "{broken\n", lines[2]]))
    with pytest.raises(ValueError, match=r"records\.jsonl, line 2"):
        results.read_records(tmp_path)
    with pytest.raises(ValueError, match="line 2"), RunFolder.open(tmp_path, CONFIG):
        pytest.fail("opened")
    with pytest.raises(ValueError, match=r"no records\.jsonl"):
        results.read_records(tmp_path / "elsewhere")


def test_refuses_records_that_break_the_contract(tmp_path):
    # By hand: unknown and missing fields, repeated fingerprints, values that are not finite, names that are paths.
    with RunFolder.open(tmp_path, CONFIG) as run:
        with pytest.raises(ValueError, match="colour"):
            run.append([record(0, "0") | {"colour": 1}])
        with pytest.raises(ValueError, match="plain file name"):
            run.append(cell(0), rows(0), "../x.jsonl")
        with pytest.raises(ValueError):
            run.append(cell(0, value=float("nan")), rows(0), "zero.jsonl")
        run.append(cell(0))
        with pytest.raises(ValueError, match="repeat"):
            run.append(cell(0))
    assert len(results.read_records(tmp_path)) == 3


def test_a_full_disk_leaves_whole_cells(tmp_path, monkeypatch):
    # Oracle: the bytes before the write that failed half-way.
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.append(cell(0), rows(0), "zero.jsonl")
        before = (tmp_path / "records.jsonl").read_bytes()
        write = os.write

        def half(file, data):
            if len(data) < 300:
                raise OSError(28, "No space left on device")
            return write(file, data[: len(data) // 2])

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            run.append(cell(1), rows(1), "one.jsonl")
        monkeypatch.undo()
        assert (tmp_path / "records.jsonl").read_bytes() == before
        run.append(cell(1), rows(1), "one.jsonl")
    assert len(results.read_records(tmp_path)) == 6


SCRIPT = """
    import sys, time
    from mirjax import results

    folds, metrics = 4, ("accuracy", "macro_f1")
    plan = {}
    for seed in range(30):
        plan[seed] = [
            dict.fromkeys(results.RECORD_FIELDS)
            | {"seed": seed, "fold": str(f), "metric": m, "value": seed / 30, "options": {"filler": "x" * 2000}}
            | {"fingerprint": results.fingerprint(seed=seed, fold=f, metric=m)}
            for f in range(folds)
            for m in metrics
        ]
    with results.RunFolder.open(sys.argv[1], {"seeds": list(range(30))}) as run:
        print("open", flush=True)
        run.keep_complete({seed: [r["fingerprint"] for r in records] for seed, records in plan.items()})
        for seed, records in plan.items():
            if run.done.issuperset(r["fingerprint"] for r in records):
                continue
            rows = [
                {"id": str(i), "fold": str(i % 4), "group": None, "label": "a", "prediction": "b", "scores": None}
                for i in range(500)
            ]
            run.append(records, rows, f"{seed}.jsonl")
            time.sleep(float(sys.argv[2]))
"""


def start(tmp_path, folder, pause):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), str(pause)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_at_random_moments_ends_as_undisturbed(tmp_path):
    # Oracle: the bytes of an undisturbed run, after SIGKILLs at random moments and reruns.
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    process = start(tmp_path, calm, 0)
    process.communicate()
    assert process.returncode == 0
    moments, kills = random.Random(0), 0
    for _ in range(12):
        process = start(tmp_path, stormy, 0.001)
        process.stdout.readline()
        time.sleep(moments.uniform(0, 0.04))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    process = start(tmp_path, stormy, 0)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert kills >= 4
    before, after = content(calm), content(stormy)
    assert {name: text for name, text in after.items() if not name.startswith(".")} == {
        name: text for name, text in before.items() if not name.startswith(".")
    }


def test_a_second_process_is_told_who_is_at_work(tmp_path):
    # Oracle: the first process's number; after its SIGKILL the folder is free at once.
    process = start(tmp_path, tmp_path / "run", 1)
    assert process.stdout.readline() == "open\n"
    with pytest.raises(RunFolderBusy, match=rf"process {process.pid} on "):
        RunFolder.open(tmp_path / "run", {"seeds": list(range(30))}).__enter__()
    process.kill()
    process.communicate()
    with RunFolder.open(tmp_path / "run", {"seeds": list(range(30))}) as run:
        assert run.config == {"seeds": list(range(30))}

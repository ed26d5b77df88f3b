"""Screening end to end on small generated sounds, against scikit-learn and against itself undisturbed."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from flax import linen as nn
from sklearn.svm import SVC

from mirjax import features, metrics, results
from mirjax.config import UsageError
from mirjax.data import audio, dataset, splits
from mirjax.experiments.screening import Screening
from mirjax.models import frontends, layers, taggers, zoo
from mirjax.results import RECORD_FIELDS, ConfigMismatch, read_predictions, read_records
from mirjax.signal import representations

TIMINGS = ("seconds", "feature_seconds_per_clip")


def make_sounds(folder, clips=8, header="path,label,fold", rate=12_000):
    """Three classes of one-second sounds (steady, pulsed, gliding) with noise, two folds, as a manifest."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    t = np.arange(rate) / rate
    rows = [header]
    for label in ("steady", "pulsed", "gliding"):
        for i in range(clips):
            pitch = rng.uniform(300, 600)
            tone = np.sin(2 * np.pi * pitch * (t + (t**2 if label == "gliding" else 0)))
            tone *= (np.sin(2 * np.pi * 8 * t) > 0) if label == "pulsed" else 1
            sound = 0.3 * tone + 0.05 * rng.normal(size=len(t))
            soundfile.write(folder / f"{label}{i}.wav", sound.astype(np.float32), rate)
            rows.append(f"{label}{i}.wav,{label},{i % 4}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return make_sounds(tmp_path_factory.mktemp("data") / "sounds")


@pytest.fixture(scope="module")
def screening(sounds, tmp_path_factory):
    return Screening(
        name="small",
        data=str(sounds),
        architectures="temporal,7x96",
        n="temporal:8,7x96:12",
        seeds=2,
        classifiers="elm,svm",
        scaling="standard",
        seconds=1.0,
        cache=str(tmp_path_factory.mktemp("cache")),
    )


@pytest.fixture(scope="module")
def finished(screening, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    return folder, screening.run(folder, progress=False)


def untimed(records):
    return [{key: value for key, value in record.items() if key not in TIMINGS} for record in records]


def open_clips(sounds):
    clips = audio.load_clips(dataset.open_source(str(sounds)), progress=False)
    return clips, splits.partition(clips)


def test_records_have_the_contracts_fields(finished):
    """Oracle: CONTRACT, "A record"."""
    folder, records = finished
    for record in records:
        assert set(record) == set(RECORD_FIELDS)
    assert len({record["fingerprint"] for record in records}) == len(records)
    # chance, majority, mfcc (elm × 2 seeds, svm), two networks × 2 seeds × 2 classifiers; 4 folds × 3 metrics
    assert len(records) == (1 + 1 + 3 + 8) * 4 * 3
    assert {record["metric"] for record in records} == set(metrics.METRICS)
    network = next(record for record in records if record["architecture"] == "7x96")
    assert (network["num_parameters"], network["num_features"]) == (7 * 96 * 12 + 12, 12)
    assert (network["n_train"], network["n_test"], network["selection"], network["protocol"]) == (18, 6, "nested", "cv")
    for name in ("config.json", "log.txt", "records.jsonl"):
        assert (folder / name).stat().st_size


def test_metrics_follow_from_the_predictions(finished):
    """Oracle: scikit-learn's metrics on the stored predictions of each fold."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

    folder, records = finished
    for record in records:
        if record["predictions"] is None:
            assert record["architecture"] == "chance"
            assert record["value"] == pytest.approx(1 / 3)
            continue
        rows = [row for row in read_predictions(folder, record["predictions"]) if row["fold"] == record["fold"]]
        labels, found = [row["label"] for row in rows], [row["prediction"] for row in rows]
        expected = {
            "accuracy": accuracy_score(labels, found),
            "balanced_accuracy": balanced_accuracy_score(labels, found),
            "macro_f1": f1_score(labels, found, average="macro"),
        }[record["metric"]]
        assert record["value"] == pytest.approx(expected, abs=1e-12)
        assert len(rows) == record["n_test"]


def test_better_than_chance(tmp_path):
    """Oracle: chance is 1/8, and the independent baseline of temporal features on these rhythms is far above it."""
    study = Screening(
        data="rhythm_small", architectures="temporal", seeds=1, classifiers="svm", seconds=12.0, cache=str(tmp_path)
    )
    records = study.run(tmp_path / "run", progress=False)
    values = [r["value"] for r in records if r["architecture"] == "temporal" and r["metric"] == "accuracy"]
    assert np.mean(values) > 0.35


@pytest.mark.parametrize("selection", ["nested", "legacy"])
def test_svm_scores_equal_scikit_learn(selection, screening, sounds, tmp_path):
    """Oracle: scikit-learn's SVC, every setting fitted anew, chosen on inner folds or (legacy) on the test folds."""
    study = dataclasses.replace(
        screening, architectures="7x96", n="12", seeds=1, classifiers="svm", scaling="standard", selection=selection
    )
    records = study.run(tmp_path / "run", progress=False)
    clips, partition = open_clips(sounds)
    x = study.features(progress=False)["features"].astype(np.float64)
    y = clips.labels
    gammas = [2.0**-k for k in (3, 5, 7, 9, 11, 13)] + ["auto"]
    settings = [("rbf", gamma, c) for gamma in gammas for c in (0.1, 2, 8, 32)]
    settings += [("linear", "auto", c) for c in (0.1, 2, 8, 32)]

    def accuracies(train, test):
        mean, deviation = x[train].mean(axis=0), x[train].std(axis=0)
        scaled = (x - mean) / np.where(deviation == 0, 1, deviation)
        fitted = [SVC(kernel=k, gamma=g, C=c).fit(scaled[train], y[train]) for k, g, c in settings]
        return np.array([np.mean(model.predict(scaled[test]) == y[test]) for model in fitted])

    outer = np.array([accuracies(fold.train, fold.test) for fold in partition.folds])
    if selection == "legacy":
        expected = outer[:, outer.mean(axis=0).argmax()]
    else:
        inner = [
            np.mean([accuracies(*pair) for pair in splits.inner_folds(fold, partition, y, max_folds=3)], axis=0)
            for fold in partition.folds
        ]
        expected = [scores[choice.argmax()] for scores, choice in zip(outer, inner, strict=True)]
    found = [r["value"] for r in records if r["architecture"] == "7x96" and r["metric"] == "accuracy"]
    assert found == pytest.approx(list(expected), abs=1e-12)


def test_split_data_is_chosen_on_validation_and_fitted_on_train(screening, tmp_path):
    """Oracle: numpy's pinv of the re-stated ELM, chosen on `valid`, scored on `test`."""
    folder = make_sounds(tmp_path / "divided", clips=9)
    lines = (folder / "manifest.csv").read_text().splitlines()
    parts = ["train", "train", "train", "train", "valid", "valid", "test", "test", "test"]
    rows = [line.rsplit(",", 1)[0] + "," + parts[i % 9] for i, line in enumerate(lines[1:])]
    (folder / "manifest.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    study = dataclasses.replace(
        screening, data=str(folder), architectures="temporal", n="4", seeds=1, classifiers="elm", scaling="standard"
    )
    record = next(
        r
        for r in study.run(tmp_path / "run", progress=False)
        if (r["architecture"], r["metric"]) == ("temporal", "accuracy")
    )
    assert (record["protocol"], record["selection"], record["n_train"], record["n_test"]) == (
        "split",
        "validation",
        12,
        9,
    )
    from mirjax.classifiers.hidden import draw_layer

    table = study.features(progress=False)
    x, y = table["features"].astype(np.float64), table["labels"]
    part = np.array(parts * 3)
    train = part == "train"
    deviation = x[train].std(axis=0)
    x = (x - x[train].mean(axis=0)) / np.where(deviation == 0, 1, deviation)
    layer = draw_layer(x.shape[1], 2500, 0)
    weights, bias = layer.weights, layer.bias
    classes = np.unique(y)
    targets = np.where(y[:, None] == classes, 1.0, -1.0)

    def predict(units, test):
        hidden = np.maximum(x @ weights[:, :units] + bias[:units], 0)
        beta = np.linalg.pinv(hidden[train], rcond=1e6 * np.finfo(float).eps) @ targets[train]
        return classes[(hidden[test] @ beta).argmax(axis=1)]

    sizes = (100, 250, 500, 1200, 1800, 2500)
    valid = [np.mean(predict(units, part == "valid") == y[part == "valid"]) for units in sizes]
    chosen = sizes[int(np.argmax(valid))]
    assert record["hyperparameters"] == {"hidden_units": chosen}
    assert record["value"] == pytest.approx(np.mean(predict(chosen, part == "test") == y[part == "test"]))


def test_standardised_train_sees_training_clips_only(screening, sounds, tmp_path):
    """Oracle: numpy's moments of the log-mel of the training clips of each fold."""
    from mirjax.experiments import screening_run

    study = dataclasses.replace(screening, input="standardised_train")
    work = screening_run.Run(study, [dataset.open_source(str(sounds))], False)
    (clips,) = work.load()
    partition = work.divide(clips)
    network = study.networks()[0]
    log_mel = representations.LogMel()
    for fold in partition.folds:
        values = np.stack([np.asarray(log_mel(clips.audio(i)), np.float64) for i in fold.train])
        mean, deviation = work.moments(network, clips, fold.train)
        assert (mean, deviation) == (pytest.approx(values.mean(), rel=1e-6), pytest.approx(values.std(), rel=1e-6))
    with pytest.raises(UsageError, match="differs by fold"):
        study.features()


def test_repeated_and_extended_runs(screening, finished, tmp_path):
    """Oracle: the run made in one go: growing step by step ends with the same records."""
    folder = tmp_path / "grown"
    small = dataclasses.replace(screening, architectures="temporal", n="temporal:8", seeds=1, classifiers="elm")
    wide = dataclasses.replace(screening, architectures="temporal", n="temporal:8", seeds=2, classifiers="elm,svm")
    small.run(folder, progress=False)
    before = (folder / "records.jsonl").read_bytes()
    small.run(folder, progress=False)
    assert (folder / "records.jsonl").read_bytes() == before
    wide.run(folder, progress=False)
    after = (folder / "records.jsonl").read_bytes()
    assert after.startswith(before)
    wanted = {r["fingerprint"]: r["value"] for r in finished[1] if r["architecture"] != "7x96"}
    assert {r["fingerprint"]: r["value"] for r in read_records(folder)} == wanted
    assert len(json.loads((folder / "config.json").read_text())["seeds"]) == 2


@pytest.mark.parametrize("change", [{"seconds": 0.9}, {"input": "standardised"}, {"scaling": "none"}])
def test_another_configuration_is_refused_and_nothing_written(change, screening, finished):
    """Oracle: the folder's bytes before and after."""
    folder, _ = finished
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ConfigMismatch, match=next(iter(change))):
        dataclasses.replace(screening, **change).run(folder, progress=False)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_changed_data_under_the_same_name_is_refused(screening, tmp_path):
    """Oracle: the error, and the records before and after."""
    folder = make_sounds(tmp_path / "moving")
    study = dataclasses.replace(
        screening, data=str(folder), architectures="temporal", n="4", seeds=1, classifiers="elm"
    )
    study.run(tmp_path / "run", progress=False)
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    soundfile.write(folder / "steady0.wav", np.ones(12_000, np.float32) / 4, 12_000)
    with pytest.raises(ConfigMismatch, match="moving"):
        study.run(tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before


def test_changed_data_or_code_without_a_workdir_go_to_a_folder_beside(screening, tmp_path, monkeypatch):
    """Oracle: CONTRACT: any other change, without `workdir`: a new folder; the old one keeps its bytes."""
    monkeypatch.chdir(tmp_path)
    folder = make_sounds(tmp_path / "moving")
    study = dataclasses.replace(
        screening, data=str(folder), architectures="temporal", n="4", seeds=1, classifiers="elm"
    )
    first = study.execute(progress=False)[1]
    before = (first / "records.jsonl").read_bytes()
    assert study.execute(progress=False)[1] == first
    soundfile.write(folder / "steady0.wav", np.ones(12_000, np.float32) / 4, 12_000)
    second = study.execute(progress=False)[1]
    assert second != first
    assert study.execute(progress=False)[1] == second
    assert dataclasses.replace(study, seeds=2).execute(progress=False)[1] == second
    assert dataclasses.replace(study, n="8").default_workdir() != study.default_workdir()
    assert (first / "records.jsonl").read_bytes() == before


def test_architectures_of_free_width_extend_in_place(screening, tmp_path):
    """Oracle: CONTRACT: more architectures extend a run; another n of a known one does not."""
    folder = tmp_path / "run"
    small = dataclasses.replace(screening, architectures="temporal", n="temporal:4", seeds=1, classifiers="elm")
    small.run(folder, progress=False)
    more = dataclasses.replace(small, architectures="temporal,7x96", n="temporal:4,7x96:6")
    assert len(more.run(folder, progress=False)) > len(read_records(folder)) / 2
    with pytest.raises(ConfigMismatch, match=r"n\.temporal"):
        dataclasses.replace(small, n="temporal:8").run(folder, progress=False)


class Scaled(nn.Module):
    """A front-end whose code changes between two runs."""

    feature_layers = ("out",)
    power = 1.0

    @nn.compact
    def __call__(self, x, *, train=False):
        kernel, bias = layers.Weights((96, 4), name="conv")()
        x = jnp.abs(x @ kernel + bias.reshape(1, 1, -1)) ** self.power
        layers.expose(self, "out", x)
        return x


def test_edited_code_gets_no_old_features_and_no_old_records(screening, tmp_path, monkeypatch):
    """Oracle: the powers themselves; fields and names of the class stay the same, only its code changes."""
    module = taggers.Network(representations.LogMel(), Scaled())
    study = dataclasses.replace(screening, architectures=(module,), n=None, seeds=1, classifiers="elm")
    first = study.features(progress=False)["features"]
    study.run(tmp_path / "run", progress=False)
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    monkeypatch.setattr(Scaled, "power", 2.0)
    features._trace.cache_clear()
    features._compiled.cache_clear()
    assert np.abs(study.features(progress=False)["features"] / first).min() > 2
    with pytest.raises(ConfigMismatch, match="made by other code"):
        study.run(tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before


def test_programs_are_told_apart_and_the_same_in_every_process():
    """Oracle: a second process; fields, lengths and precision that change what is computed."""
    code = (
        "from mirjax import features\nfrom mirjax.models import zoo\nprint(features.program(zoo.build('vgg', 4), 9000))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    vgg = zoo.build("vgg", 4)
    assert done.stdout.strip() == features.program(vgg, 9000)
    others = [features.program(vgg, 9001), features.program(zoo.build("vgg", 5), 9000)]
    assert len({features.program(vgg, 9000), *others}) == 3


def test_divisions_that_cannot_work_are_refused_before_any_work(screening, tmp_path):
    """Oracle: data set and fold named, nothing written."""
    folder = make_sounds(tmp_path / "lopsided")
    rows = (folder / "manifest.csv").read_text().splitlines()
    rows = [rows[0]] + [f"{row.rsplit(',', 1)[0]},{0 if 'steady' in row else 1}" for row in rows[1:]]
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(ValueError, match="lopsided"):
        dataclasses.replace(screening, data=str(folder)).run(tmp_path / "run", progress=False)
    with pytest.raises(UsageError, match="selection=validation"):
        dataclasses.replace(screening, selection="validation").run(tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_bad_file_changes_nothing_else(screening, sounds, finished, tmp_path):
    """Oracle: the features of the good clips in the run without the bad files."""
    folder = make_sounds(tmp_path / "sounds")
    (folder / "text.wav").write_text("not audio at all")
    (folder / "empty.wav").write_bytes(b"")
    with (folder / "manifest.csv").open("a") as manifest:
        manifest.write("text.wav,steady,0\nempty.wav,pulsed,1\ngone.wav,gliding,2\n")
    study = dataclasses.replace(screening, data=str(folder))
    with pytest.warns(UserWarning, match="3 of 27 clips left out"):
        records = study.run(tmp_path / "run", progress=False)
    assert [r["value"] for r in records] == [r["value"] for r in finished[1]]
    log = (tmp_path / "run" / "log.txt").read_text()
    for name in ("text.wav", "empty.wav", "gone.wav"):
        assert name in log
    with pytest.raises(ValueError, match="3 of 27 clips are faulty"):
        dataclasses.replace(study, strict=True).run(tmp_path / "strict", progress=False)


def test_a_linen_module_is_accepted(screening, tmp_path):
    """Oracle: the same network by its name gives the same values."""
    module = taggers.Network(representations.LogMel(), frontends.Temporal(4))
    by_module = dataclasses.replace(screening, architectures=(module,), n=None, seeds=1, classifiers="elm")
    by_name = dataclasses.replace(screening, architectures="temporal", n="4", seeds=1, classifiers="elm")
    one, other = by_module.run(tmp_path / "a", progress=False), by_name.run(tmp_path / "b", progress=False)
    assert [r["value"] for r in one] == [r["value"] for r in other]
    assert one[-1]["architecture"].startswith("Temporal-")


def test_two_data_sets_and_features(screening, sounds, tmp_path):
    """Oracle: features.extract on one clip; counts by hand."""
    other = make_sounds(tmp_path / "others", clips=4)
    study = dataclasses.replace(screening, data=(str(sounds), str(other)), seeds=2)
    table = study.features(progress=False)
    assert table["features"].shape == (24 + 12, 2 * (112 + 12)) == (len(table["ids"]), len(table["names"]))
    assert table["names"][0] == "temporal/8/raw/0/temporal_165/0"
    assert list(np.unique(table["datasets"])) == ["others", "sounds"]
    clips, _ = open_clips(sounds)
    model = zoo.build("temporal", 8)
    variables = features.initialise(model, jax.random.key(0))
    expected = features.extract(model, variables, clips.audio(3)[None, :12_000])[0]
    np.testing.assert_array_equal(table["features"][3, :112], expected)
    with pytest.raises(UsageError, match="two data sets are called 'sounds'"):
        dataclasses.replace(study, data=(str(sounds), str(sounds) + "/")).run(tmp_path / "x", progress=False)


def test_dry_run_computes_nothing(screening, tmp_path):
    """Oracle: hand-counted cells (8 of networks, 3 of mfcc, majority, chance); no folder appears."""
    study = dataclasses.replace(screening, dry_run=True)
    assert study.run(tmp_path / "run") == []
    assert not (tmp_path / "run").exists()
    assert study.forecast().startswith("13 cells: 1 data sets (24 clips) × 2 networks")


def test_unknown_data_is_a_usage_error(screening, tmp_path):
    """Oracle: the nearest known name in the error."""
    with pytest.raises(UsageError, match="nearest: digits_small"):
        dataclasses.replace(screening, data="digit_small").run(tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_clips_too_short_for_a_network(screening, tmp_path):
    """Oracle: a 7×96 filter needs 7 frames; said before any work, and nothing is written."""
    with pytest.raises(UsageError, match=r"7x96 cannot take clips of 0.1 s: .* at least 7 frames and got 5"):
        dataclasses.replace(screening, seconds=0.1).run(tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_disk_full_while_caching_features(screening, finished, tmp_path, monkeypatch):
    """Oracle: the undisturbed run; every write of a feature block fails with ENOSPC."""
    from mirjax.experiments import store

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.np, "savez", full)
    with pytest.warns(UserWarning, match="features are not cached any more"):
        records = dataclasses.replace(screening, cache=str(tmp_path / "cache")).run(tmp_path / "run", progress=False)
    assert [r["value"] for r in records] == [r["value"] for r in finished[1]]
    assert not list((tmp_path / "cache").rglob("*.tmp"))


CHILD = """
import sys, json
from mirjax.experiments.screening import Screening
fields = json.loads(sys.argv[1])
print("started", flush=True)
Screening(**fields).run(sys.argv[2], progress=False)
"""


def start(screening, folder, cache):
    fields = {
        "name": screening.name, "data": list(screening.data), "architectures": list(screening.architectures),
        "n": screening.n, "seeds": 2, "classifiers": list(screening.classifiers), "scaling": "standard",
        "seconds": 1.0, "cache": str(cache),
    }  # fmt: skip
    command = [sys.executable, "-c", CHILD, json.dumps(fields), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def test_killed_at_any_moment_and_run_again(screening, finished, tmp_path):
    """Oracle: the undisturbed run: after SIGKILLs at random moments the records are the same, timings aside."""
    folder, cache = tmp_path / "run", tmp_path / "cache"
    moments = random.Random(0)
    kills = 0
    for cells_done in (0, 3, 7):  # kill once so many cells are written, and a moment later
        process = start(screening, folder, cache)
        process.stdout.readline()
        file = folder / "records.jsonl"
        while process.poll() is None and (file.read_bytes().count(b"\n") if file.exists() else 0) < 12 * cells_done:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.1) if cells_done else moments.uniform(0, 3))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    if (folder / "records.jsonl").exists():  # and a torn last line on top
        with (folder / "records.jsonl").open("a") as file:
            file.write('{"experiment": "sma')
    dataclasses.replace(screening, cache=str(cache)).run(folder, progress=False)
    assert kills
    assert untimed(read_records(folder)) == untimed(read_records(finished[0]))
    ours = {path.name: path.read_bytes() for path in (folder / "predictions").iterdir()}
    theirs = {path.name: path.read_bytes() for path in (finished[0] / "predictions").iterdir()}
    assert ours == theirs


def test_a_second_process_is_told_so(screening, finished):
    """Oracle: CONTRACT: a second process on the same workdir is told so and stops."""
    folder, _ = finished
    with results.RunFolder.open(folder, screening.settings()):
        process = start(screening, folder, screening.cache)
        _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert f"in use by process {os.getpid()}" in errors

"""Whole small trainings under the options that no study's own test runs, and what they must not change."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirjax import results, train
from mirjax.experiments import fitting, recipes, training_run
from mirjax.experiments.training import Training
from mirjax.signal import augment
from mirjax.tasks import tagger

soundfile = pytest.importorskip("soundfile")

PITCHES = (300, 900, 2000)
LABELS = {
    "one": lambda level: f"tone{int(level.argmax())}",
    "many": lambda level: "|".join(f"tone{k}" for k in np.flatnonzero(level > 0.5)) or "-",
    "values": lambda level: "|".join(f"tone{k}:{value:.3f}" for k, value in enumerate(level)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty clips of three tones at levels from 0 to 1, a manifest for each kind of labels; a split without `valid`."""
    folder, rng = tmp_path_factory.mktemp("tones"), np.random.default_rng(0)
    rows = {kind: ["path,label,split"] for kind in LABELS}
    for i in range(40):
        level = rng.uniform(0, 1, 3)
        level[i % 3] = 1
        level[(i + 1) % 3] = level[(i + 1) % 3] * (i % 2)
        time = np.arange(6000) / 12_000
        wave = 0.2 * level @ np.sin(2 * np.pi * np.outer(PITCHES, time)) + 0.01 * rng.normal(size=6000)
        soundfile.write(folder / f"{i:02d}.wav", wave, 12_000)
        for kind, label in LABELS.items():
            rows[kind].append(f"{i:02d}.wav,{label(level)},{'test' if i % 4 == 3 else 'train'}")
    for kind, lines in rows.items():
        (folder / f"{kind}.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def experiment(folder):
    """kind of labels, options → a training of one small network."""

    def make(kind="one", **options):
        settings = {
            "data": str(folder / f"{kind}.csv"), "labels": kind, "architectures": "7x96", "n": "4", "patch": 0.25,
            "epochs": 2, "batch_size": 10, "classifiers": ("elm",), "learning_rate": 0.01,
            "cache": str(folder / "cache"),
        }  # fmt: skip
        return Training(**settings | options)

    return make


def weights_of(workdir):
    (path,) = (workdir / "weights").glob("*.npz")
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files if stored[name].dtype.kind == "f"}


def curve_of(workdir):
    (path,) = (workdir / "curves").glob("*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


# ── augmentation ──


@pytest.mark.parametrize("name", recipes.AUGMENTATIONS)
def test_every_augmentation_can_be_named(name):
    """Oracle: the function of `signal.augment` itself; another key changes the example otherwise."""
    place, needed = recipes.AUGMENTATIONS[name]
    function = recipes.augmentation((name,), place, 12_000)
    shape = (2, 6000) if place == "audio" else (2, 40, 96)
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    outcomes = [np.asarray(augment.per_example(function)(jax.random.key(seed), x)) for seed in range(4)]
    assert all(each.shape == shape and np.isfinite(each).all() for each in outcomes)
    assert any(np.abs(each - outcomes[0]).max() > 1e-3 for each in outcomes[1:])
    own = jax.random.split(jax.random.split(jax.random.key(0), 2)[1], 1)[0]  # of the row, and of the first function
    options = {"sample_rate": 12_000} if needed else {}
    expected = np.asarray(getattr(augment, name)(own, x[1], **options))
    np.testing.assert_allclose(outcomes[0][1], expected, atol=1e-4)


def test_augmentations_apart_by_what_they_change():
    """Hand-worked: none of audio, one of the representation; the same names give the same function."""
    names = ("spec_augment",)
    assert recipes.augmentation(names, "audio", 12_000) is None
    assert recipes.augmentation(names, "representation", 12_000) is recipes.augmentation(
        names, "representation", 12_000
    )


def test_training_with_all_augmentations(experiment, tmp_path):
    """Oracle: the same training without them: other losses, the same clips and test."""
    augmented = experiment(augment=tuple(recipes.AUGMENTATIONS), epochs=1)
    runs = {"all": augmented, "none": dataclasses.replace(augmented, augment=(), hear="in_step")}
    losses = {}
    for name, each in runs.items():
        rows = each.run(tmp_path / name, progress=False)
        assert {row["n_train"] for row in rows if row["classifier"] == "trained"} == {24}
        losses[name] = curve_of(tmp_path / name)[0]["train_loss"]
    assert np.isfinite(list(losses.values())).all() and abs(losses["all"] - losses["none"]) > 1e-3


# ── labels, weights, schedules, workers ──


def test_values_are_judged_by_their_error(experiment, tmp_path):
    """Oracle: numpy's root of the mean squared error of the stored scores, by the manifest's own numbers."""
    rows = experiment("values", monitor="valid_rmse", rule="plateau(valid_rmse)").run(tmp_path, progress=False)
    (record,) = [row for row in rows if row["metric"] == "rmse" and row["classifier"] == "trained"]
    errors = []
    for row in results.read_predictions(tmp_path, record["predictions"]):
        truth = dict(part.split(":") for part in row["label"].split("|"))
        errors += [row["scores"][tag] - float(value) for tag, value in truth.items()]
    assert len(errors) == 30
    assert record["value"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-5)
    assert "valid_rmse" in curve_of(tmp_path)[0]


def test_balanced_tags_weigh_their_positives(experiment):
    """Oracle: numpy's binary cross-entropy of a batch, positives times (absent / present)."""
    study = experiment("many", weights="balanced", validation=0.0, rule="constant()", monitor="train_loss")
    run = training_run.Run(study, study.sources(), False)
    clips = run.load()[0]
    (fold,) = run.folds(run.divide(clips), clips)
    table = run.labels(clips)
    has = table.values[fold.train]
    assert table.balanced(fold.train) == pytest.approx(((1 - has).sum(0) / has.sum(0)).tolist())
    cell = next(cell for cell in run.cells(clips) if cell.classifier == "trained")
    fitted = run.fitting(cell, clips, run.divide(clips), fold, "name", [])
    task, batch = fitted.task(fold.train), fitted.batches(fold.train)[0]
    params, state = task.init(jax.random.key(0), batch)
    state |= {"input": fitted.statistics(fold.train)}
    losses, rows, _ = task.losses(params, state, batch, None, train=False)
    scores = np.asarray(task.scores({"params": params, **state}, batch)[0], np.float64)
    positive = batch["label"] * np.log(scores) * (1 - has).sum(0) / has.sum(0)
    expected = -(positive + (1 - batch["label"]) * np.log(1 - scores)).mean(1)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    np.testing.assert_array_equal(rows, 1)


@pytest.mark.parametrize("level", ["none", "peak"])
@pytest.mark.parametrize("seconds", [None, 0.4, 0.7])
def test_patches_of_audio_are_those_of_whole_clips(experiment, level, seconds):
    """Oracle: patches of clips that are read whole, bit for bit; a clip as it is, cropped and repeated."""
    study = experiment(hear="in_step", level=level, seconds=seconds)
    run = training_run.Run(study, study.sources(), False)
    clips = run.load()[0]
    heard = run.patches_of(next(cell for cell in run.cells(clips) if cell.classifier == "trained"), clips)
    assert heard.key == "audio"
    for clip, start in ((0, 0), (3, 1000), (7, 4500)):
        patch, whole = heard.patch(clip, start, 3000), dataclasses.replace(heard, cut=None).patch(clip, start, 3000)
        assert patch.dtype == whole.dtype and np.array_equal(patch, whole)
    if seconds != 0.4:  # the peak of a cropped clip may be in what is cropped
        assert bool(np.abs(heard.patch(0, 0, 6000)).max() == 1) is (level == "peak")


def test_worker_processes_change_nothing(experiment, tmp_path):
    """Oracle: the weights of a run without worker processes, bit for bit; another schedule gives others."""
    alone, helped, slower = tmp_path / "alone", tmp_path / "helped", tmp_path / "slower"
    experiment(hear="in_step").run(alone, progress=False)
    experiment(hear="in_step", workers=1).run(helped, progress=False)
    experiment(hear="in_step", schedule="cosine").run(slower, progress=False)
    first, second, third = map(weights_of, (alone, helped, slower))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert any(np.abs(first[name] - third[name]).max() > 1e-4 for name in first)


@pytest.mark.parametrize(("optimiser", "told"), [("adam", True), ("adamw", False)])
def test_a_penalty_is_told_where_it_is_minimised(experiment, optimiser, told):
    """Hand-worked: of decoupled weight decay the loss has no term."""
    assert (fitting._penalty(experiment(optimiser=optimiser, l2=0.1)) is not None) is told
    assert fitting._penalty(experiment(optimiser=optimiser)) is None
    assert fitting._penalty(experiment(optimiser="adam", l2=0.1, l2_coupled=False)) is None


# ── validation clips ──


@pytest.mark.parametrize("kind", ["one", "many"])
def test_validation_share_of_a_split_without_valid(experiment, kind):
    """Hand-worked: 30 training clips; the share asked for chooses, none for 0; the usual fifth is as carved."""
    for share, count in ((0.1, 3), (0.2, 6), (0.3, 9), (0.5, 15), (0.0, 0)):
        study = experiment(kind, validation=share, rule="constant()", monitor="train_loss")
        run = training_run.Run(study, study.sources(), False)
        clips = run.load()[0]
        partition = run.divide(clips)
        (fold,) = run.folds(partition, clips)
        assert abs(len(fold.valid) - count) <= (kind == "one") and len(fold.train) + len(fold.valid) == 30
        assert not set(fold.train) & set(fold.valid) and len(fold.test) == 10
        if share == 0.2:
            np.testing.assert_array_equal(fold.valid, partition.folds[0].valid)
        else:
            assert f"for what is trained {share:g} of train" in partition.note
        assert ("stratified" in partition.note) is (kind == "one")


def test_without_validation_the_last_weights_are_taken(experiment, tmp_path):
    """Hand-worked: the step of the best weights is the last one, and records say how they were chosen."""
    rows = experiment(validation=0.0, rule="constant()", monitor="train_loss").run(tmp_path, progress=False)
    own = [row for row in rows if row["classifier"] == "trained"]
    assert {row["selection"] for row in own} == {"last"}
    assert {row["hyperparameters"]["best_step"] for row in own} == {6} and {row["n_train"] for row in own} == {30}


def test_tags_that_no_training_clip_has_are_named(folder, experiment):
    """Hand-worked: one tag is of two test clips alone."""
    lines = (folder / "many.csv").read_text().splitlines()
    lines = [line.replace(",test", "|rare,test") if line[:2] in ("03", "07") else line for line in lines]
    lines = [line.replace("-|rare", "rare") for line in lines]
    (folder / "rare.csv").write_text("\n".join(lines) + "\n")
    study = experiment("many", data=str(folder / "rare.csv"))
    run = training_run.Run(study, study.sources(), False)
    clips = run.load()[0]
    with pytest.warns(UserWarning, match=r"rare, fold 'split': 1 tags have no training clip \(rare\); what is"):
        run.folds(run.divide(clips), clips)


def test_a_test_fold_without_a_tag_to_measure_is_told_before_the_training(folder, experiment, tmp_path):
    """Hand-worked: no test clip has a tag; the folder holds no curve and no weights afterwards."""
    lines = (folder / "many.csv").read_text().splitlines()
    lines = [",".join([*line.split(",")[:1], "-", "test"]) if line.endswith(",test") else line for line in lines]
    (folder / "bare.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="bare, fold 'split': no tag that some test clips have and others have not"):
        experiment("many", data=str(folder / "bare.csv")).run(tmp_path / "run", progress=False)
    assert not list((tmp_path / "run").glob("*/*.npz")) and not list((tmp_path / "run").glob("curves/*"))


# ── what cannot go on ──


def test_networks_that_would_begin_with_a_diverged_one_are_left_out(experiment, tmp_path, monkeypatch):
    """Hand-worked: `time` diverges; `frequency` is trained, `time_frequency` is not, and the error is the first one."""
    study = experiment(
        architectures=("time", "frequency", "time_frequency"), n="time:4,frequency:4,time_frequency:4",
        begin_with=("time", "frequency"), epochs=1, patch=None,
    )  # fmt: skip
    trained = []

    def fit(self, chosen, valid, epochs, name):
        trained.append((self.cell.architecture, bool(self.begin)))
        if self.cell.architecture == "time":
            raise train.NotFinite("step 3: the loss is nan")
        return original(self, chosen, valid, epochs, name)

    original = fitting.Fitting.train
    monkeypatch.setattr(fitting.Fitting, "train", fit)
    with pytest.raises(train.NotFinite, match="step 3: the loss is nan"):
        study.run(tmp_path, progress=False)
    assert trained == [("time", False), ("frequency", False), ("time_frequency", False)]
    log = (tmp_path / "log.txt").read_text()
    assert "time_frequency is not trained, since time diverged" in log


def test_a_fault_of_the_clip_itself_is_named(experiment):
    """Hand-worked: a training whose fourth row holds a value that is no number, though its loss may be one."""
    study = experiment()
    run = training_run.Run(study, study.sources(), False)
    clips = run.load()[0]
    partition = run.divide(clips)
    cell = next(cell for cell in run.cells(clips) if cell.classifier == "trained")
    fitted = run.fitting(cell, clips, partition, run.folds(partition, clips)[0], "name", [])
    batches = fitted.batches(fitted.fold.train)
    bad = batches.own(0)[3]
    read = fitted.clips.read
    broken = dataclasses.replace(fitted.clips, read=lambda i: read(i) * (np.nan if i == bad else 1))
    faulty = dataclasses.replace(batches, clips=broken)
    rows = np.ones(10, bool)
    assert fitted._named(faulty, 0, rows) == clips.ids[bad]
    assert fitted._named(batches, 0, rows).endswith("and 2 more")
    assert fitted._named(batches, 0, np.arange(10) == 5) == clips.ids[batches.own(0)[5]]


# ── labelling ──


def test_labelling_goes_as_the_run_did(folder, experiment, tmp_path):
    """Oracle: scores that a run with contexts, and one without last windows, stored of its test clips."""
    for name, options in {
        "context": {"context": 0.1, "patches": "windows", "hop": 0.05, "evaluation_hop": 0.05, "patch": 0.15},
        "dropped": {"drop_last_window": True, "patches": "windows", "patch": 0.2},
    }.items():
        rows = experiment("many", **options).run(tmp_path / name, progress=False)
        record = next(row for row in rows if row["classifier"] == "trained")
        stored = results.read_predictions(tmp_path / name, record["predictions"])
        (path,) = (tmp_path / name / "weights").glob("*.npz")
        loaded = tagger.load_tagger(path)
        clips = [soundfile.read(folder / row["id"], dtype="float32")[0] for row in stored]
        scores = np.array([[row["scores"][tag] for tag in loaded.names] for row in stored])
        np.testing.assert_allclose(loaded.scores(clips), scores, atol=2e-5)
        plain = dataclasses.replace(loaded, context=0.0, drop_last_window=False)
        assert np.abs(plain.scores(clips) - scores).max() > 1e-4
        files = [folder / row["id"] for row in stored]
        low = loaded.label(files, threshold=0.0)
        assert low == [list(loaded.names)] * 10
        third = {tag: np.median(scores[:, i]) for i, tag in enumerate(loaded.names)}
        told = loaded.label(files, threshold=third)
        assert told == [[t for t, s in zip(loaded.names, row, strict=True) if s > third[t]] for row in scores]
        with pytest.raises(ValueError, match="must be from 0 to 1, or that for each tag"):
            loaded.label(files, threshold={"tone0": 0.5})

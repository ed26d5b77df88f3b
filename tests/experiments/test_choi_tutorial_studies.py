"""Choi's structures and the tutorial's three tasks: the procedures of §9.1 and §10, and what a run leaves."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import special

from mirjax import config, features, optimisers, results, rules
from mirjax.data import dataset
from mirjax.experiments import fitting, labels, training_run
from mirjax.experiments.training import Training
from mirjax.models import backends, blocks, taggers, weights, zoo
from mirjax.models.counts import count
from mirjax.signal.representations import LogMel
from mirjax.tasks import tagger

CONFIGS = Path(__file__).parents[2] / "configs"
TUTORIAL = ("tutorial_vocal", "tutorial_genre", "tutorial_moods")
CHOI = ("choi_structures", "choi_singing", "choi_chroma")


def study(name, **changes) -> Training:
    """The experiment of a config, changed."""
    return dataclasses.replace(config.load(name, CONFIGS)[0], **changes)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Decoded audio."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A manifest of 40 spoken digits: two classes, and one of four moods or several."""
    folder, source = tmp_path_factory.mktemp("digits"), dataset.open_source("digits_small")
    rows, moods = [], ["calm|sad", "happy", "-", "tense|calm|happy", "sad"]
    for i in range(0, len(source), 6):
        name = source[i].id.rsplit("/", 1)[1]
        (folder / name).write_bytes(source.encoded(i))
        rows.append((name, "voice" if i % 4 else "none", moods[int(source[i].label) % 5]))
    for column, file in ((1, "vocal.csv"), (2, "moods.csv")):
        lines = [f"{row[0]},{row[column]}" for row in rows]
        (folder / file).write_text("\n".join(["path,label", *lines]) + "\n")
    return folder


def fitting_of(experiment) -> fitting.Fitting:
    """The first training of an experiment, before it starts."""
    run = training_run.Run(experiment, experiment.sources(), False)
    (clips,) = run.load()
    partition = run.divide(clips)
    cell = next(cell for cell in run.cells(clips) if cell.classifier == "trained")
    return fitting.Fitting(run, cell, clips, run.folds(partition, clips)[0], "first")


# ── the tutorial ──


@pytest.mark.parametrize(
    ("name", "outputs", "counts"),
    [
        ("tutorial_vocal", 1, (6_230_689, 1_330_097)),
        ("tutorial_genre", 8, (106_536,)),
        ("tutorial_moods", 4, (106_020,)),
    ],
)
def test_networks_of_the_tutorial(name, outputs, counts):
    """Oracle: the parameter counts that the notebooks print (trainable)."""
    built = [tagger.build(each, None, outputs) for each in study(name).architectures]
    assert tuple(count(model) for model in built) == counts


def test_procedures_of_the_tutorial():
    """Oracle: ARCHITECTURES §9.1, written out."""
    vocal, genre, moods = map(study, TUTORIAL)
    assert (vocal.optimiser, vocal.loss, vocal.batch_size, vocal.epochs) == ("sgd", "binary_cross_entropy", 32, 10)
    assert (genre.optimiser, genre.learning_rate, moods.learning_rate) == ("adam", 0.003, 0.003)
    for each in (vocal, genre, moods):
        assert (each.normalise, each.normalise_on, each.level, each.validation) == ("place", "train", "peak", 0)
        assert each.seconds * 16_000 == 81 * 2048
        assert (each.made_folds, each.folds) == (4, ("0",))
        assert each.schedule == ("constant" if each is vocal else "inverse(decay=.01)")


def test_keras_decay():
    """Hand-worked: rate / (1 + .01 · update); after 100 updates half of it, whatever the epochs."""
    schedule = optimisers.read_schedule(study("tutorial_genre").schedule, 0.003)
    np.testing.assert_allclose([schedule(t) for t in (0, 1, 100, 300)], [0.003, 0.003 / 1.01, 0.0015, 0.00075])
    steps = optimisers.read_schedule("steps(boundaries=2/5, factor=.5)", 1.0)
    assert [float(steps(t)) for t in (0, 1, 2, 4, 5, 9)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    half_way = optimisers.read_schedule("cosine", 1.0, num_steps=100)(50)
    assert float(half_way) == pytest.approx(0.5, abs=0.02)


def test_one_output_one_patch_a_clip_and_a_quarter_held_out(digits, cache):
    """Hand-worked: 40 clips, two classes: one sigmoid, ten test clips of both classes, each clip's first 80 frames."""
    first = fitting_of(study("tutorial_vocal", data=(str(digits / "vocal.csv"),), cache=cache))
    assert first.table.num_outputs("binary_cross_entropy") == 1
    assert len(first.fold.test) == 10 and len(first.fold.train) == 30 and not len(first.fold.valid)
    shares = [(first.clips_.labels[part] == "voice").mean() for part in (first.fold.test, first.fold.train)]
    assert abs(shares[0] - shares[1]) < 0.07
    batches = first.batches(first.fold.train)
    assert len(batches.examples) == 30 and not batches.examples[:, 1].any()
    assert batches[0]["representation"].shape == (30, 80, 80)
    assert first.task(first.fold.train).output == "sigmoid"


@pytest.mark.parametrize("kind", ["train", "everything"])
def test_every_value_of_the_patch_is_standardised(digits, cache, kind):
    """Oracle: numpy over peak-normalised, repeated clips; of the training clips, or (row 36, legacy) of all."""
    first = fitting_of(study("tutorial_vocal", data=(str(digits / "vocal.csv"),), cache=cache, normalise_on=kind))
    representation = first.network.module.representation
    among = first.fold.train if kind == "train" else np.arange(40)
    x = []
    for clip in among:
        audio = first.run_.heard(first.clips_, first.network).audio(clip)
        audio = np.resize(audio / np.abs(audio).max(), 81 * 2048).astype("f4")
        x.append(np.asarray(jax.jit(representation)(audio))[:80])
    found = first.statistics(first.fold.train)
    np.testing.assert_allclose(found["mean"], np.mean(x, axis=0, dtype="f8"), rtol=1e-4)
    np.testing.assert_allclose(found["deviation"], np.std(np.asarray(x, "f8"), axis=0), rtol=2e-3)
    assert found["mean"].shape == (80, 80)


@pytest.mark.slow
@pytest.mark.parametrize("name", TUTORIAL)
def test_the_tutorial_learns(name, cache, tmp_path):
    """Oracle: chance; the whole study on the embedded rhythms lowers its training loss by a fifth and more."""
    experiment = study(name, cache=cache, classifiers=("elm",))
    experiment.run(tmp_path, progress=False)
    for curve in (tmp_path / "curves").glob("*.jsonl"):
        losses = [json.loads(line)["train_loss"] for line in curve.read_text().splitlines()]
        assert len(losses) == 10 and losses[-1] < 0.8 * losses[0]


def test_moods_from_stored_predictions(digits, cache, tmp_path):
    """Oracle: the run's own ROC-AUC, and by hand the exact matches of its stored predictions."""
    settings = {"data": (str(digits / "moods.csv"),), "cache": cache, "n": "4", "epochs": 2, "batch_size": 10}
    experiment = study("tutorial_moods", architectures=("tutorial_genre",), **settings)
    records = {record["metric"]: record for record in experiment.run(tmp_path, progress=False)}
    assert set(records) == {"roc_auc", "pr_auc"}
    rows = results.read_predictions(tmp_path, records["roc_auc"]["predictions"])
    assert len(rows) == 10 and set(rows[0]["scores"]) == {"calm", "happy", "sad", "tense"}
    found = labels.judge_decisions(rows)
    assert found["roc_auc"] == pytest.approx(records["roc_auc"]["value"], abs=1e-6)
    right = [set(row["label"].split("|")) == set(row["prediction"].split("|")) for row in rows]
    assert found["exact_match"] == pytest.approx(np.mean(right))
    assert 0 <= found["hamming_loss"] <= 1 and 0 <= found["rounded_roc_auc"] <= 1
    assert (tmp_path / "weights").is_dir()
    note = weights.metadata(next((tmp_path / "weights").glob("*.npz")))
    assert np.shape(note["input"]["mean"]) == (80, 80) and note["level"] == "peak"


# ── Choi ──


def test_all_of_choi_s_taggers_are_trained():
    """Oracle: the zoo; §10's structures, but for the ones that have no output and a second spelling."""
    trained = {each.partition("/")[0] for name in CHOI for each in study(name).architectures}
    family = {name for name in zoo.families()["choi"] if zoo.lookup(name).output != "none"}
    assert trained == (family - {"crnn"}) | {"leglaive"}  # crnn is music_tagger_crnn
    for size in ("m0_1", "m0_25", "m0_5", "m1", "m3"):
        assert f"k2c2/{size}" in (CONFIGS / "choi_structures.py").read_text(encoding="utf-8")
        zoo.lookup(f"k2c2/{size}")


def test_procedure_of_the_singing_voice_nets(cache):
    """Oracle: ARCHITECTURES §10, written out; the rate after e epochs is .01 · .85ᵉ, and kernels begin orthogonal."""
    experiment = study("choi_singing", cache=cache, n="singing_voice_2016:8")
    assert (experiment.optimiser, experiment.nesterov, experiment.momentum) == ("sgd", True, 0.95)
    assert (experiment.learning_rate, experiment.epochs, experiment.batch_size) == (0.01, 20, 32)
    rule = rules.make_rule(experiment.rule)
    state = rule.init()
    for epoch in range(1, 6):
        state = rule.update(state, {"train_loss": 1.0})
        assert float(state.scale) == pytest.approx(0.85**epoch)
    first = fitting_of(experiment)
    assert first.task(first.fold.train).targets == (0.02, 0.98)
    assert first.batches(first.fold.train)[0]["representation"].shape == (32, 115, 80)
    for name in ("singing_voice_2016", "singing_voice_2015"):
        kernels = [
            np.asarray(leaf).reshape(-1, leaf.shape[-1])
            for leaf in jax.tree.leaves(features.initialise(zoo.build(name, 8), jax.random.key(1), 40_000)["params"])
            if leaf.ndim > 1
        ]
        assert len(kernels) >= 7
        for kernel in kernels:
            gram = kernel.T @ kernel if kernel.shape[0] >= kernel.shape[1] else kernel @ kernel.T
            np.testing.assert_allclose(gram, gram[0, 0] * np.eye(len(gram)), atol=1e-5)


def test_softened_targets_bound_the_loss(digits, cache, tmp_path):
    """Hand-worked: with .02 and .98 no row's loss is below their entropy, .098, however long is trained."""
    back_end = backends.GlobalPool(("mean", "max"))
    network = taggers.Network(LogMel(), blocks.Stack((blocks.Conv(16, (3,)),)), back_end, blocks.Head(1))
    settings = {"data": (str(digits / "vocal.csv"),), "cache": cache, "folds": ("0",), "epochs": 60}
    study("choi_singing", architectures=(network,), rule="constant()", **settings).run(tmp_path, progress=False)
    (curve,) = (tmp_path / "curves").glob("*.jsonl")
    losses = [json.loads(line)["train_loss"] for line in curve.read_text().splitlines()]
    assert min(losses) >= special.entr([0.02, 0.98]).sum() - 1e-6
    assert losses[-1] < 0.5 * losses[0]


def test_procedure_of_deep_chroma(cache):
    """Oracle: ARCHITECTURES §10, written out; L2 on the kernels as ½ Σ w², told in the loss."""
    experiment = study("choi_chroma", cache=cache)
    assert (experiment.optimiser, experiment.learning_rate, experiment.l2) == ("adam", 1e-4, 1e-4)
    assert (experiment.batch_size, experiment.epochs) == (512, 500)
    rule = rules.make_rule(experiment.rule)
    state = rule.update(rule.init(), {"valid_loss": 1.0})
    for _ in range(19):
        assert not state.stop
        state = rule.update(state, {"valid_loss": 1.0})
    assert not state.stop
    assert rule.update(state, {"valid_loss": 1.0}).stop


def test_the_taggers_hear_29_seconds(cache):
    """Oracle: §10: 1,366 frames of 96 bands at 12 kHz, of clips of 12 s repeated; one output for each tag."""
    for architecture in ("conv1d", "compact_cnn", "music_tagger_crnn"):
        first = fitting_of(study("choi_structures", cache=cache, architectures=(architecture,), n="4"))
        assert first.batches(first.fold.train)[0]["representation"].shape == (16, 1366, 96)
        task = first.task(first.fold.train)
        assert (task.loss, task.output, first.table.num_outputs("auto")) == ("binary_cross_entropy", "sigmoid", 8)

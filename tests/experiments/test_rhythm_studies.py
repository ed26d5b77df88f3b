"""The studies of rhythm networks: windows and votes, filters of networks trained before, folds that are made."""

import dataclasses
import json
import os
import shutil
import signal
import types
from collections import Counter
from pathlib import Path

import jax
import numpy as np
import pytest

from mirjax import config, features, train
from mirjax.config import UsageError
from mirjax.data import patches, splits
from mirjax.experiments import curves, fitting, training_run
from mirjax.experiments.training import Training
from mirjax.models import weights
from mirjax.tasks import tagger, tagging

CONFIGS = Path(__file__).parents[2] / "configs"
FRAMES_OF_30_S = 1292  # at 44.1 kHz, hop 1024: 1 + ⌊1,323,000 / 1024⌋


def study(name, **changes):
    return dataclasses.replace(config.load(name, CONFIGS)[0], **changes)


SMALL = study(
    "ballroom_cnns",
    architectures=("time", "frequency", "time_frequency"),
    n="time:4,frequency:4,time_frequency:4",
    seconds=12.0,
    folds=("0",),
    epochs=2,
    learning_rate=0.05,
    classifiers=("knn",),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run of three networks, the third with drawn and with given filters: (experiment, folder, weights at step 0)."""
    folder = tmp_path_factory.mktemp("ballroom")
    experiment = dataclasses.replace(SMALL, cache=str(folder / "cache"))
    begun, init = [], train.Step.init

    def spy(step, key, batch, rule, variables=None):
        begun.append(jax.tree.map(np.array, dict(variables)))
        return init(step, key, batch, rule, variables)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Step, "init", spy)
        experiment.run(folder / "run", progress=False)
    return experiment, folder / "run", begun


def records(folder):
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def kept_weights(folder):
    """The weights of the four trainings, in the order of the records."""
    prints = {r["fingerprint"][:6]: None for r in records(folder) if r["classifier"] == "trained"}
    found = [list((folder / "weights").glob(f"*-{each}-0.npz")) for each in prints]
    return [paths[0] for paths in found if paths]


# ── windows and votes ──


def fitting_of(experiment, lengths, patch):
    """A training of clips of so many frames; the clips themselves are never read."""
    made = object.__new__(fitting.Fitting)
    made.experiment, made.patch, made.name = experiment, patch, "by hand"
    made.clips = patches.Clips(None, np.asarray(lengths), np.zeros(len(lengths), np.int32))
    made.network = types.SimpleNamespace(module=tagger.build("time", None, 8), sample_rate=44_100)
    made.cell, made.run_ = types.SimpleNamespace(seed=0), types.SimpleNamespace(share=(0, 1))
    return made


def evaluated(made, monkeypatch):
    """Windows of every clip that an evaluation hears."""
    heard = []
    monkeypatch.setattr(tagging, "predict", lambda task, variables, batches, chosen, **_: heard.append(batches))
    made.predict(None, None, np.arange(len(made.clips.lengths)))
    return Counter(clip for rows, _ in heard[0]._batches for clip, _ in rows)


@pytest.mark.parametrize(
    ("patch", "settings", "windows"),
    [
        (80, {}, 16),  # 16 · 80 = 1280, the tail of 12 frames is dropped
        (250, {}, 5),  # 5 · 250 = 1250
        (250, {"drop_last_window": True}, 4),  # range(0, ⌊1042 / 250⌋ · 250, 250)
        (250, {"hop": 1.8576, "evaluation_hop": 1.8576}, 14),  # 0, 80, …, 1040
        (250, {"hop": 1.8576, "evaluation_hop": 1.8576, "drop_last_window": True}, 13),
    ],
)
def test_windows_of_ballroom(patch, settings, windows, monkeypatch):
    """Hand-worked: windows of a song of 30 s; 698 songs have 698 times as many, in full batches of 10."""
    made = fitting_of(study("ballroom_cnns", **settings), [FRAMES_OF_30_S] * 698, patch)
    batches = made.batches(np.arange(698))
    assert len(batches.examples) == 698 * windows
    assert batches.steps_per_epoch == 698 * windows // 10
    assert set(evaluated(made, monkeypatch).values()) == {windows}


@pytest.mark.parametrize("hop", [80, 250])
def test_windows_as_the_code_cuts_them(hop, monkeypatch):
    """Oracle: `range(0, floor((L − 250) / hop) · hop, hop)`; one window of a song where that leaves none."""
    lengths = np.arange(200, 1400, 7)
    seconds = hop * 1024 / 44_100
    legacy = study("onset_pattern_nets", hop=seconds, evaluation_hop=seconds, drop_last_window=True)
    made = fitting_of(legacy, lengths, 250)
    expected = [max(1, len(range(0, (length - 250) // hop * hop, hop))) for length in lengths]
    starts = made.batches(np.arange(len(lengths))).examples
    assert np.bincount(starts[:, 0]).tolist() == expected
    assert set(starts[:, 1] % hop) == {0}
    heard = evaluated(made, monkeypatch)
    assert [heard[clip] for clip in range(len(lengths))] == expected


def test_random_patches_and_whole_clips_lose_no_window(monkeypatch):
    """Hand-worked: there is no last window to leave out."""
    made = fitting_of(Training(drop_last_window=True, whole=True), [500, 600], 250)
    assert made.batches(np.arange(2)).clips.lengths.tolist() == [500, 600]
    heard = []
    monkeypatch.setattr(tagging, "predict", lambda task, variables, batches, chosen, **_: heard.append(batches))
    made.predict(None, None, np.arange(2))
    assert heard[0].clips.lengths.tolist() == [500, 600]


def test_songs_are_decided_by_the_majority_of_their_windows(small):
    """Oracle: windows cut, standardised by the training songs' one mean and deviation, and counted by hand."""
    experiment, folder, _ = small
    run = training_run.Run(experiment, experiment.sources(), False)
    clips = run.load()[0]
    partition = run.divide(clips)
    fold = run.folds(partition, clips)[0]
    network = run.networks_of(clips)[0]
    heard = run.heard(clips, network)
    represent = jax.jit(network.module.representation)
    values = [np.asarray(represent(heard.audio(i)[: 12 * 44_100])) for i in range(len(clips))]
    trained = np.concatenate([values[i] for i in fold.train]).astype(np.float64)
    found = tagger.load_tagger(kept_weights(folder)[0])
    assert found.variables["input"]["mean"] == pytest.approx(trained.mean(), rel=1e-5)
    assert found.variables["input"]["deviation"] == pytest.approx(trained.std(), rel=1e-5)
    assert found.variables["input"]["mean"].shape == ()

    path = next((folder / "predictions").glob("*-time-*"))
    rows = {row["id"]: row for row in map(json.loads, path.read_text().splitlines())}
    assert set(rows) == {clips.ids[i] for i in fold.test}
    own = {kind: tree for kind, tree in found.variables.items() if kind != "input"}
    logits = jax.jit(lambda x: found.task.model.apply(own, x, method="embed")["logits"])
    for i in fold.test:
        x = (values[i] - trained.mean()) / trained.std()
        windows = np.stack([x[start : start + 80] for start in range(0, 517 - 79, 80)]).astype(np.float32)
        assert len(windows) == 6
        votes = np.bincount(np.asarray(logits(windows)).argmax(-1), minlength=8)
        row = rows[clips.ids[i]]
        assert list(row["scores"].values()) == pytest.approx(votes / 6, abs=1e-5)
        assert votes[found.names.index(row["prediction"])] == votes.max()


# ── filters of networks trained before ──


def test_filters_are_those_of_the_trained_networks(small):
    """Oracle: the weights kept of `time` and `frequency`, bit for bit, at step 0; the rest is drawn; all is trained."""
    _, folder, begun = small
    time, frequency, plain, ours = map(weights.load, kept_weights(folder))
    assert len(begun) == 4
    first = weights.flatten(begun[3]["params"])
    drawn = weights.flatten(begun[2]["params"])
    seen = set()
    for name, source in (("time", time), ("frequency", frequency)):
        for leaf, value in source["params"]["front_end"][f"{name}_block"].items():
            path = f"front_end/{name}_block/{leaf}"
            assert np.array_equal(first[path], value)
            assert not np.array_equal(drawn[path], value)
            seen.add(path)
    assert len(seen) == 4
    assert all(np.array_equal(first[path], drawn[path]) for path in first.keys() - seen)
    assert len(first) == 8  # two dense layers besides
    assert begun[3]["input"] == begun[2]["input"]
    for path, value in weights.flatten(ours["params"]).items():
        assert not np.array_equal(value, first[path]), path
    for path, value in weights.flatten(plain["params"]).items():
        assert not np.array_equal(value, drawn[path]), path
    network = tagger.build("time_frequency", 4, 8)
    again = weights.flatten(features.initialise(network, jax.random.key(0), 80_896)["params"])
    assert all(np.array_equal(again[path], drawn[path]) for path in drawn)


def test_with_and_without_are_two_rows(small):
    """Hand-worked: records differ in one option, and the report names it."""
    experiment, folder, _ = small
    rows = [r for r in records(folder) if r["metric"] == "accuracy"]
    options = [r["options"] for r in rows if r["architecture"] == "time_frequency"]
    assert len(options) == 2
    assert options[1] == options[0] | {"begin_with": "time+frequency"} and "begin_with" not in options[0]
    assert not any("begin_with" in r["options"] for r in rows if r["architecture"] != "time_frequency")
    tables = [table for table in experiment.report([folder]).tables if table.classifier == "trained"]
    labels = [table.label(row) for table in tables for row in table.rows]
    assert "time_frequency" in labels and "time_frequency (begin_with=time+frequency)" in labels


def without_the_last_cell(folder, copy):
    """The run folder as it was before the network with given filters."""
    shutil.copytree(folder, copy)
    kept_weights(copy)[3].unlink()
    lines = (copy / "records.jsonl").read_text().splitlines(keepends=True)
    (copy / "records.jsonl").write_text("".join(line for line in lines if '"begin_with":' not in line))
    assert len(records(copy)) == len(records(folder)) - 3
    return copy


def test_goes_on_after_an_interruption(small, tmp_path, monkeypatch):
    """Oracle: the undisturbed run, bit for bit; SIGTERM comes after an epoch of the network with given filters."""
    experiment, folder, _ = small
    copy = without_the_last_cell(folder, tmp_path / "run")
    add = curves.CurveWriter.add

    def stop(curve, row):
        add(curve, row)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(curves.CurveWriter, "add", stop)
        with pytest.raises(train.Interrupted):
            experiment.run(copy, progress=False)
    assert (copy / "checkpoints").is_dir() and len(kept_weights(copy)) == 3
    experiment.run(copy, progress=False)
    first, second = (weights.flatten(weights.load(kept_weights(each)[3])) for each in (folder, copy))
    assert first.keys() == second.keys() and all(np.array_equal(first[path], second[path]) for path in first)
    assert [r["value"] for r in records(copy)] == [r["value"] for r in records(folder)]
    assert [r["fingerprint"] for r in records(copy)] == [r["fingerprint"] for r in records(folder)]


def test_weights_that_are_gone_are_named(small, tmp_path):
    """Hand-worked: the file, what needs it, and a remedy."""
    experiment, folder, _ = small
    copy = without_the_last_cell(folder, tmp_path / "run")
    gone = kept_weights(copy)[1]
    gone.unlink()
    with pytest.raises(ValueError, match=rf"needs the weights of frequency, and .*{gone.name} is not there"):
        experiment.run(copy, progress=False)


def test_what_cannot_begin_is_refused():
    """Hand-worked: networks without such a function, others that are not trained or of another size, leaks."""
    with pytest.raises(
        UsageError, match=r"no network of architectures=time,frequency,black_box begins .* \(begin_with=\)"
    ):
        study("ballroom_cnns", architectures=("time", "frequency", "black_box"))
    with pytest.raises(UsageError, match=r"begin_with=time: no network of .* time_frequency with time,frequency"):
        study("ballroom_cnns", begin_with=("time",))
    with pytest.raises(UsageError, match="begin_with=time,frequency,black_box: no network of"):
        study("ballroom_cnns", begin_with="time,frequency,black_box")
    with pytest.raises(UsageError, match="frequency is not trained in this run; add it to architectures"):
        study("ballroom_cnns", architectures=("time", "time_frequency"))
    with pytest.raises(UsageError, match="must be the same for time_frequency"):
        study("ballroom_cnns", n="time:16")
    with pytest.raises(UsageError, match="would know the validation clips"):
        study("ballroom_cnns", retrain=True)
    assert study("ballroom_cnns", n="time:32").beginners == ("time_frequency",)
    assert study("ballroom_cnns", begin_with=()).beginners == ()


def test_smoke_has_all_that_begins():
    """Hand-worked: the network with given filters and those that give them."""
    assert study("ballroom_cnns").smoke().architectures == ("time", "frequency", "time_frequency")
    assert study("onset_pattern_nets").smoke().architectures == ("o_net",)


# ── folds that are made ──


def test_made_folds(tmp_path):
    """Hand-worked: nine clips of each of eight classes make nine folds of one a class; ten cannot be made."""
    experiment = Training(made_folds=9, cache=str(tmp_path))
    run = training_run.Run(experiment, experiment.sources(), False)
    clips = run.load()[0]
    assert [fold.name for fold in run.divide(clips).folds] == ["0", "1", "2"]  # its own come first
    bare = dataclasses.replace(clips, folds=None, splits=None)
    partition = run.divide(bare)
    assert partition.kind == "cv" and partition.note == "9 made folds, stratified, shuffled"
    assert [sorted(bare.labels[fold.test]) for fold in partition.folds] == [sorted(set(bare.labels))] * 9
    assert np.array_equal(np.sort(np.concatenate([fold.test for fold in partition.folds])), np.arange(72))
    usual = dataclasses.replace(experiment, made_folds=5)
    assert len(training_run.Run(usual, [], False).divide(bare).folds) == 5
    more = training_run.Run(dataclasses.replace(experiment, made_folds=10), [], False)
    with pytest.raises(UsageError, match="made_folds=10: rhythm_small has clips or groups for 9 only"):
        more.divide(bare)


def test_validation_is_a_fold_of_songs():
    """Hand-worked: of ten folds one tests, the next chooses, eight train: 80–10–10 %."""
    labels = np.repeat([f"dance{i}" for i in range(8)], 20)
    everything, column = np.arange(160), np.arange(160) % 10
    folds = tuple(splits.Fold(str(k), everything[column != k], None, everything[column == k]) for k in range(10))
    ids = np.array([f"{i:03d}" for i in everything])
    whole = splits.Partition("cv", folds, "", "", ids, ids)
    share = study("ballroom_cnns").validation
    assert share == study("onset_pattern_nets").validation
    rest, valid = splits.validation(folds[9], whole, labels, share=share)
    assert np.array_equal(valid, folds[0].test) and len(rest) == 128

"""Labelling with trained weights: what a run stored of its test clips, whole clips and windows, foreign files."""

import dataclasses
import functools

import numpy as np
import pytest

from mirjax import results
from mirjax.data import audio, dataset
from mirjax.experiments.training import Training
from mirjax.models import backends, taggers, weights
from mirjax.models.blocks import Conv, Head, Stack
from mirjax.signal.representations import LogMel
from mirjax.tasks import tagger

PLAIN = {"architectures": "7x96", "n": "4", "patch": 0.25, "seconds": None}
SPACE = "space/frames-d2-f8-p2-relu-nonorm-mean"  # masks padding
RUNS = {
    "ahead": PLAIN,
    "in step": PLAIN | {"hear": "in_step", "evaluation_hop": 0.1, "level": "peak", "normalise": "place"},
    "whole": {"architectures": SPACE, "patch": 0.25, "whole": True, "labels": "many"},
    "windows": {"architectures": SPACE, "patch": 0.25},
    "waveform": PLAIN | {"architectures": "frame", "aggregate": "vote", "normalise": "all", "evaluation_hop": 0.05},
    "two classes": PLAIN | {"loss": "binary_cross_entropy", "aggregate": "vote", "seconds": 0.6, "fit": "zero"},
    "fixed": PLAIN | {"architectures": "tutorial_vocal", "patch": None, "normalise": "place", "dtype": "bfloat16"},
}
KINDS = {"whole": "tags", "two classes": "two"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of 36 spoken digits, and manifests of three classes, of two, and of tags."""
    folder, source = tmp_path_factory.mktemp("digits"), dataset.open_source("digits_small")
    lines = {"three": [], "two": [], "tags": []}
    for i in range(0, len(source), 2):
        digit, name = source[i].label, source[i].id.rsplit("/", 1)[1]
        if digit not in "016":
            continue
        (folder / name).write_bytes(source.encoded(i))
        split = "test" if "_4." in name else "train"
        speaker = name.split("_")[1]
        lines["three"].append(f"{name},{digit},{split}")
        lines["tags"].append(f"{name},digit{digit}|{speaker},{split}")
        if digit != "1":
            lines["two"].append(f"{name},{'zero' if digit == '0' else 'six'},{split}")
    for kind, rows in lines.items():
        (folder / f"{kind}.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    """Name of a run → (path of its weights, what it stored of its test clips)."""

    @functools.cache
    def train(name):
        options = {
            "data": str(folder / f"{KINDS.get(name, 'three')}.csv"),
            "group": "none",
            "epochs": 3,
            "batch_size": 8,
        }
        options |= {"classifiers": ("elm",), "learning_rate": 0.01, "cache": str(folder / "cache")} | RUNS[name]
        workdir = folder / f"run {name}"
        records = Training(**options).run(workdir, progress=False)
        record = next(record for record in records if record["classifier"] == "trained")
        (path,) = (workdir / "weights").glob("*.npz")
        return path, results.read_predictions(workdir, record["predictions"])

    return train


@pytest.mark.parametrize("name", RUNS)
def test_a_run_s_predictions_come_again(trained, folder, name):
    """Oracle: the predictions and scores that the run stored of its test clips, from their files alone."""
    path, rows = trained(name)
    files = [folder / row["id"] for row in rows]
    loaded = tagger.load_tagger(path)
    clips = [audio.decode(file.read_bytes(), sample_rate=loaded.sample_rate) for file in files]
    scores = loaded.scores(clips)
    stored = np.array([[row["scores"][tag] for tag in loaded.names] for row in rows])
    np.testing.assert_allclose(scores, stored, atol=2e-3 if name == "fixed" else 2e-5)
    told = loaded.label(files)
    if name == "whole":
        told = ["|".join(tags) or "-" for tags in told]
    assert told == [row["prediction"] for row in rows]
    assert len(rows) >= 4 and np.ptp(stored, axis=0).max() > 1e-3  # not all alike


def test_windows_and_whole_clips(trained, folder):
    """Oracle: the network itself, called with the clip, and with each of its windows; the mean of these by numpy."""
    path, rows = trained("windows")
    loaded = tagger.load_tagger(path)
    model, mean, deviation = loaded.task.model, *(loaded.variables["input"][k] for k in ("mean", "deviation"))
    own = {kind: tree for kind, tree in loaded.variables.items() if kind != "input"}
    clip = audio.decode((folder / rows[0]["id"]).read_bytes(), sample_rate=loaded.sample_rate)
    x = (np.asarray(model.representation(clip)) - mean[None]) / deviation[None]
    patch = model.representation.shape(loaded.patch)[0]

    def say(x):
        logits = np.asarray(model.apply(own, x[None], method="embed")["logits"], np.float64)[0]
        return np.exp(logits) / np.exp(logits).sum()

    np.testing.assert_allclose(loaded.scores([clip], whole=True)[0], say(x), atol=1e-5)
    hop = 2 / model.representation.frame_rate
    by_hand = np.mean([say(x[start : start + patch]) for start in range(0, len(x) - patch + 1, 2)], axis=0)
    np.testing.assert_allclose(loaded.scores([clip], hop=hop)[0], by_hand, atol=1e-5)
    assert np.abs(by_hand - say(x)).max() > 1e-4
    together = loaded.scores([clip, clip[:2000], np.tile(clip, 3)], whole=True)
    np.testing.assert_allclose(together[0], say(x), atol=1e-5)  # padding of the others is not heard


def test_short_and_silent_clips_are_heard(trained):
    """Hand-worked: a clip of a few samples is repeated to a window; silence at peak level stays silence."""
    loaded = tagger.load_tagger(trained("in step")[0])
    scores = loaded.scores([np.ones(40, np.float32), np.zeros(9000, np.float32)])
    assert scores.shape == (2, 3) and np.isfinite(scores).all()
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)


def test_level():
    """Hand-worked: the largest sample becomes 1, of either sign and channel."""
    clip = np.array([0.1, -0.5, 0.2], np.float32)
    np.testing.assert_allclose(tagger.set_level(clip, "peak"), [0.2, -1, 0.4])
    assert tagger.set_level(clip, "none") is clip
    assert not tagger.set_level(np.zeros(3), "peak").any()
    with pytest.raises(ValueError, match="level='loud' is not one of none, peak"):
        tagger.set_level(clip, "loud")


def test_what_cannot_be_labelled_is_named(trained, folder, tmp_path):
    """Hand-worked: a missing file, text, no files, an empty clip, an impossible hop, whole clips of a fixed network."""
    loaded = tagger.load_tagger(trained("ahead")[0])
    (tmp_path / "notes.wav").write_text("no audio, but some text")
    with pytest.raises(ValueError, match=r"gone.wav cannot be labelled: .*No such file"):
        loaded.label([tmp_path / "gone.wav"])
    with pytest.raises(ValueError, match=r"notes.wav cannot be labelled: text"):
        loaded.label([tmp_path / "notes.wav"])
    with pytest.raises(ValueError, match="give at least one, of at least a sample"):
        loaded.label([])
    with pytest.raises(ValueError, match="give at least one, of at least a sample"):
        loaded.scores([np.zeros(0)])
    with pytest.raises(ValueError, match="hop=-1 must be a number of seconds above 0"):
        loaded.scores([np.ones(9000)], hop=-1)
    for kind in ("fixed", "ahead"):
        with pytest.raises(ValueError, match="whole=True: this network does not mask padding; leave it out, and it"):
            tagger.load_tagger(trained(kind)[0]).scores([np.ones(300_000)], whole=True)


def test_damaged_and_foreign_weights_are_refused(trained, tmp_path):
    """Hand-worked: a torn file, text, weights without a training's notes, those of another network or input."""
    path, _ = trained("ahead")
    torn = tmp_path / "torn.npz"
    torn.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"torn.npz holds no weights"):
        tagger.load_tagger(torn)
    torn.write_text("weights")
    with pytest.raises(ValueError, match=r"torn.npz holds no weights"):
        tagger.load_tagger(torn)
    bare, own = tmp_path / "bare.npz", weights.load(path)
    weights.save(bare, own, metadata={"architecture": "7x96"})
    with pytest.raises(
        ValueError, match=r"bare.npz does not say classes, labels, loss, input, patch, fit, aggregate; give"
    ):
        tagger.load_tagger(bare)
    note, foreign = weights.metadata(path), tmp_path / "foreign.npz"
    weights.save(foreign, own, metadata=note | {"n": 5})
    with pytest.raises(ValueError, match=r"foreign.npz: its variables do not fit this network"):
        tagger.load_tagger(foreign)
    with pytest.raises(ValueError, match=r"trained on LogMel.* give the network that representation"):
        model = tagger.build("7x96", 4, 3)
        tagger.load_tagger(path, model=model.clone(representation=dataclasses.replace(model.representation, power=1.0)))


def test_a_network_without_a_name_is_given(tmp_path, folder):
    """Oracle: the run's own predictions; without the network the error says what to do."""
    front_end, back_end = Stack((Conv(4, (3,)),)), backends.GlobalPool(("mean",))
    module = taggers.Network(LogMel(), front_end, back_end, Head(3))
    settings = {
        "data": str(folder / "three.csv"),
        "group": "none",
        "epochs": 1,
        "classifiers": ("elm",),
        "batch_size": 8,
    }
    records = Training(architectures=(module,), cache=str(folder / "cache"), **settings).run(tmp_path, progress=False)
    (path,) = (tmp_path / "weights").glob("*.npz")
    rows = results.read_predictions(tmp_path, next(r["predictions"] for r in records if r["classifier"] == "trained"))
    with pytest.raises(ValueError, match=r"its network cannot be built by name, give it as model=.*Stack-"):
        tagger.load_tagger(path)
    told = tagger.load_tagger(path, model=module).label([folder / row["id"] for row in rows])
    assert told == [row["prediction"] for row in rows]


@pytest.mark.parametrize(
    ("name", "n", "outputs"), [("vgg", 4, 5), ("vgg-n4", None, 5), ("k2c2/m0_1", None, 2), ("conv1d", 4, 1)]
)
def test_build(name, n, outputs):
    """Oracle: the shape of the logits; the study's networks, which have no head, get one."""
    model = tagger.build(name, n, outputs)
    assert model.head.features[-1] == outputs if hasattr(model.head, "features") else model.head is not None
    with pytest.raises(ValueError, match="nearest: vgg"):
        tagger.build("vggg", None, 2)

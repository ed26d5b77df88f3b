"""Parts of the timbre studies: threshold rules, areas without a tag, mixtures of frames, context, training on tags."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.fft
import scipy.signal
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from mirjax import results
from mirjax.config import UsageError
from mirjax.data import dataset, patches
from mirjax.experiments import fitting, frame_mixture, thresholds
from mirjax.experiments.training import Training

EMBEDDED = Path(dataset.__file__).parent / "embedded" / "digits_small"
TAGS = ("cel", "flu", "pia")


# ── stored scores of tags ──


def rows_of(targets, scores, fold="split"):
    labels = ["|".join(tag for tag, has in zip(TAGS, row, strict=True) if has) or "-" for row in targets]
    return [
        {"id": f"{fold}{i}", "fold": fold, "group": str(i), "label": label, "prediction": "-",
         "scores": dict(zip(TAGS, map(float, row), strict=True))}
        for i, (label, row) in enumerate(zip(labels, scores, strict=True))
    ]  # fmt: skip


def make_run(folder, test, valid=None, **options):
    """A run folder with one network's records and the scores (targets, scores) of its clips."""
    record = dict.fromkeys(results.RECORD_FIELDS) | {
        "dataset": "set", "architecture": "net", "classifier": "trained", "fold": "split", "seed": 0,
        "options": {"labels": "many", "aggregate": "mean", "monitor": "valid_loss", **options},
        "hyperparameters": {} if valid is None else {"valid_loss": 0.5}, "selection": "validation", "value": 0.5,
    }  # fmt: skip
    own = [record | {"metric": m, "fingerprint": m} for m in ("roc_auc", "pr_auc")]
    with results.RunFolder.open(folder, {}) as run:
        run.append(own, rows_of(*test), "net.jsonl")
        run.append([record | {"classifier": "svm", "metric": "accuracy", "fingerprint": "svm"}])
    if valid is not None:
        thresholds.keep_validation(folder, "net.jsonl", rows_of(*valid))
    return folder


def drawn(seed, clips=40):
    rng = np.random.default_rng(seed)
    targets = rng.random((clips, 3)) < 0.4
    windows = rng.random((clips, 4, 3)) * 0.3 + 0.15 * targets[:, None]
    return targets, windows


def test_rules_against_scikit_learn(tmp_path):
    """Oracle: scikit-learn's precision, recall and F1 of decisions on the windows' means and normalised sums."""
    (targets, windows), (seen, before) = drawn(0), drawn(1)
    run = make_run(tmp_path / "run", (targets, windows.mean(1)), (seen, before.mean(1)))
    found = {
        (r["hyperparameters"]["rule"], r["selection"], r["metric"]): (r["value"], r["hyperparameters"]["threshold"])
        for r in thresholds.score_thresholds(run)
    }
    assert len(found) == 3 * 6  # s1 twice, s2 once; three measures, micro and macro
    by = {"s1": lambda w: w.mean(1), "s2": lambda w: w.sum(1) / w.sum(1).max(1, keepdims=True)}
    grids = {"s1": np.arange(0.10, 0.25, 0.02), "s2": np.arange(0.25, 0.61, 0.05)}

    def scored(decided, truth, average):
        return precision_recall_fscore_support(truth, decided, average=average, zero_division=0)[:3]

    for rule, how in (("s1", "published"), ("s1", "validation"), ("s2", "validation")):
        threshold = 0.2
        if how == "validation":
            best = np.argmax([scored(by[rule](before) >= t - 1e-12, seen, "micro")[2] for t in grids[rule]])
            threshold = grids[rule][best]
        for average in ("micro", "macro"):
            expected = scored(by[rule](windows) >= threshold - 1e-12, targets, average)
            for measure, value in zip(("precision", "recall", "f1"), expected, strict=True):
                assert found[rule, how, f"{average}_{measure}"] == pytest.approx((value, threshold), abs=1e-9)
    assert found["s1", "published", "micro_f1"] != found["s1", "validation", "micro_f1"]


def test_rules_by_hand(tmp_path):
    """Hand-worked: three clips; without validation clips there is the published threshold alone."""
    targets = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]], bool)
    scores = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.15, 0.1, 0.19]])  # at .2: {cel, flu, pia}, {flu}, {}
    records = thresholds.score_thresholds(make_run(tmp_path / "run", (targets, scores)))
    values = {r["metric"]: r["value"] for r in records}
    assert values["micro_precision"] == 0.75 and values["micro_recall"] == 1
    assert values["micro_f1"] == pytest.approx(6 / 7)
    assert values["macro_f1"] == pytest.approx(2 / 3)  # pia, which no clip has, counts 0
    assert {(r["selection"], r["hyperparameters"]["rule"]) for r in records} == {("published", "s1")}
    assert all(set(r) == set(results.RECORD_FIELDS) for r in records)
    assert len({r["fingerprint"] for r in records}) == len(records)
    assert "net, s1 (published at 0.2): micro_precision 75.0" in thresholds.to_text(records)


def test_areas_without_a_tag(tmp_path):
    """Oracle: scikit-learn's areas of the tags that are left."""
    targets, windows = drawn(2)
    scores = windows.mean(1)
    run = make_run(tmp_path / "run", (targets, scores))
    for without, kept in (((), [0, 1, 2]), (("flu",), [0, 2])):
        values = {r["metric"]: r["value"] for r in thresholds.score_areas(run, without)}
        assert values["roc_auc"] == pytest.approx(roc_auc_score(targets[:, kept], scores[:, kept]))
        assert values["pr_auc"] == pytest.approx(average_precision_score(targets[:, kept], scores[:, kept]))
    with pytest.raises(ValueError, match=r"without='oud' is no tag of set; known: cel, flu, pia"):
        thresholds.score_areas(run, ["oud"])


def test_what_cannot_be_scored(tmp_path):
    """Hand-worked: votes, unknown rules, runs without tags, validation scores that are gone."""
    targets, windows = drawn(3)
    test = targets, windows.mean(1)
    with pytest.raises(ValueError, match="shares of votes"):
        thresholds.score_thresholds(make_run(tmp_path / "votes", test, aggregate="vote"))
    with pytest.raises(ValueError, match="rules='s3' is not one of s1, s2"):
        thresholds.score_thresholds(tmp_path, ("s3",))
    with pytest.raises(ValueError, match="no network trained with labels=many"):
        thresholds.score_areas(make_run(tmp_path / "classes", test, labels="one"))
    run = make_run(tmp_path / "gone", test, test)
    shutil.rmtree(run / "validation")
    with pytest.raises(ValueError, match=r"net.jsonl is missing, by which thresholds"):
        thresholds.score_thresholds(run)


# ── the mixture of frames ──


def test_frames_against_scipy(embedded_clip):
    """Oracle: scipy's cosine transform and Savitzky-Golay derivatives of the networks' log-mel."""
    audio = embedded_clip[0].astype(np.float32)
    log_mel = np.asarray(frame_mixture.FRAMES.log_mel(audio), np.float64)
    cepstra = scipy.fft.dct(log_mel, norm="ortho")[:, :13]
    derivatives = [
        scipy.signal.savgol_filter(cepstra, 11, order, deriv=order, axis=0, mode="nearest") for order in (1, 2)
    ]
    expected = np.concatenate([cepstra, *derivatives], axis=1)
    made = np.asarray(frame_mixture.FRAMES(audio))
    assert made.shape == (len(log_mel), 39)
    assert np.abs(made - expected).max() < 1e-5 * np.abs(expected).max()


def test_mixture_against_scikit_learn():
    """Oracle: scikit-learn's GaussianMixture of every class on frames standardised by hand; decisions and scores."""
    rng = np.random.default_rng(0)
    labels = np.array(list("abcabcabcabcabcabc"))
    centres = {"a": (-1.0, 1.0), "b": (0.0, 3.0), "c": (-3.0, -2.0)}
    frames = []
    for k in labels:
        modes = rng.choice(centres[k], (rng.integers(8, 15), 1))
        frames.append((modes + rng.normal(size=(len(modes), 4))) * [1, 100, 1, 0.01] + 7)
    train, test = np.arange(12), np.arange(12, 18)
    decided, scores, classes = frame_mixture.classify(frames, labels, train, test, components=2, seed=3)
    scaler = StandardScaler().fit(np.concatenate([frames[i] for i in train]))
    expected = []
    for k in "abc":
        own = np.concatenate([scaler.transform(frames[i]) for i in train if labels[i] == k])
        mixture = GaussianMixture(2, covariance_type="diag", random_state=3).fit(own - own.mean(axis=0))
        expected.append([mixture.score(scaler.transform(frames[i]) - own.mean(axis=0)) for i in test])
    assert classes.tolist() == list("abc")
    assert np.abs(scores - np.transpose(expected)).max() < 1e-6 * np.abs(expected).max()
    assert decided.tolist() == [classes[i] for i in np.argmax(expected, axis=0)]
    assert (decided == labels[test]).mean() > 0.6


# ── context ──


@pytest.mark.parametrize("patch", [1, 4, 5, 21, 22])
@pytest.mark.parametrize("time_axis", [0, -1])
def test_context_is_never_the_middle(patch, time_axis):
    """Hand-worked: with a hop of 1 the middles of the windows are the labelled steps, each once, for every patch."""
    context, lengths = 10, np.array([23, 25, 60])
    whole = [np.arange(n, dtype=np.float32)[:, None] for n in lengths]
    read = (lambda i: whole[i]) if time_axis == 0 else (lambda i: whole[i][:, 0])
    clips = patches.Clips(read, lengths, np.zeros(3, np.int32), time_axis=time_axis)
    trained = SimpleNamespace(
        patch=patch, experiment=SimpleNamespace(context=0.1), _hop=lambda seconds: round(100 * seconds),
        clips_=SimpleNamespace(name="set", ids=list("xyz")),
    )  # fmt: skip
    trimmed = fitting.Fitting._without_context(trained, clips)
    for number, length in enumerate(lengths):
        starts = patches.windows(trimmed.lengths[number], patch, 1)
        middles = [trimmed.patch(number, start, patch).ravel()[patch // 2] for start in starts]
        assert len(trimmed.read(number)) == trimmed.lengths[number]
        wanted = np.arange(max(context, patch // 2), length - max(context, (patch - 1) // 2))
        assert np.array_equal(middles, wanted)
    trained.experiment.context = 0.12
    with pytest.raises(ValueError, match=r"1 clips are no longer than two contexts of 0.12 s, first x"):
        fitting.Fitting._without_context(trained, clips)


def test_settings_that_cannot_be():
    """Hand-worked: a mixture of tags, a negative context or mixture."""
    with pytest.raises(UsageError, match="mixture=2 needs one class a clip, not labels=many"):
        Training(mixture=2, labels="many")
    with pytest.raises(UsageError, match="context=-1"):
        Training(context=-1.0)
    with pytest.raises(UsageError, match="mixture=-1 must be at least 0"):
        Training(mixture=-1)


# ── trainings ──


def make_manifest(folder, label, takes=6, digits="012"):
    """Clips of digits_small with a label of their row, and a split by take: train, valid, test."""
    folder.mkdir()
    with open(EMBEDDED / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] in digits]
    kept = []
    seen = sorted({row["take"] for row in rows}, key=int)[:takes]
    for row in rows:
        if row["take"] not in seen:
            continue
        place = seen.index(row["take"])
        split = "test" if place >= takes - 2 else "valid" if place == takes - 3 else "train"
        name = Path(row["path"]).name
        shutil.copy(EMBEDDED / row["path"], folder / name)
        kept.append({"path": name, "label": label(row, split), "split": split})
    with open(folder / "manifest.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "split"])
        writer.writeheader()
        writer.writerows(kept)
    return str(folder / "manifest.csv")


SMALL = Training(
    name="small",
    architectures=("phonemes_mlp_dan",),
    n="16",
    seeds=1,
    seconds=0.6,
    patches="windows",
    hop=0.05,
    evaluation_hop=0.05,
    normalise="band",
    rule="stop_early(valid_loss, 4)",
    epochs=12,
    batch_size=64,
    l2=1e-5,
    l2_reduction="sum",
)


def test_tags_are_learnt(tmp_path):
    """Chance: .5. Several tags a clip, none (`-`), one that no test clip has; speakers and digits of real clips."""

    def label(row, split):
        tags = [row["speaker"]] * (row["speaker"] != "nicolas") + [f"d{row['label']}"] * (row["label"] != "2")
        return "|".join(tags + ["rare"] * (split == "train" and row["take"] == "0")) or "-"

    data = make_manifest(tmp_path / "tags", label)
    study = dataclasses.replace(SMALL, data=(data,), labels="many", cache=str(tmp_path / "cache"))
    records = study.run(tmp_path / "run", progress=False)
    values = {record["metric"]: record["value"] for record in records}
    assert set(values) == {"roc_auc", "pr_auc"}
    assert values["roc_auc"] > 0.75
    (record,) = [record for record in records if record["metric"] == "roc_auc"]
    rows = results.read_predictions(tmp_path / "run", record["predictions"])
    assert any(row["label"] == "-" for row in rows)
    assert "rare" in rows[0]["scores"]
    scored = thresholds.score_thresholds(tmp_path / "run")
    f1 = {(r["hyperparameters"]["rule"], r["selection"]): r["value"] for r in scored if r["metric"] == "micro_f1"}
    truth = np.array([[tag in row["label"].split("|") for tag in row["scores"]] for row in rows])
    everything = 2 * truth.sum() / (truth.sum() + truth.size)  # F1 of giving every tag to every clip
    assert f1["s1", "validation"] > everything + 0.05
    areas = {r["metric"]: r["value"] for r in thresholds.score_areas(tmp_path / "run")}
    assert areas == pytest.approx(values, abs=1e-5)  # stored scores have six digits
    kept = [json.loads(line) for line in (tmp_path / "run" / "validation" / record["predictions"]).open()]
    assert len(kept) == 12 and {row["id"] for row in kept}.isdisjoint(row["id"] for row in rows)
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    assert study.run(tmp_path / "run", progress=False) == records
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before


def test_phonemes_in_small(tmp_path):
    """Chance: 1/3. Frames within context, retraining on validation clips, and the mixtures beside the network."""
    data = make_manifest(tmp_path / "digits", lambda row, split: row["label"])
    study = dataclasses.replace(
        SMALL, data=(data,), retrain=True, context=0.05, mixture=4, classifiers=(), cache=str(tmp_path / "cache")
    )
    records = {r["architecture"]: r for r in study.run(tmp_path / "run", progress=False) if r["metric"] == "accuracy"}
    network, mixture = records["phonemes_mlp_dan"], records["mfcc_frames"]
    assert network["value"] > 0.55 and mixture["value"] > 0.55
    assert network["selection"] == mixture["selection"] == "validation_refit"
    assert mixture["classifier"] == "gmm" and mixture["num_parameters"] == 3 * 4 * (2 * 39 + 1)
    assert mixture["n_train"] == 48 and mixture["n_test"] == 24
    chosen = network["hyperparameters"]
    assert chosen["retrained_epochs"] * (chosen["best_step"] // chosen["retrained_epochs"]) == chosen["best_step"]
    assert np.isfinite(chosen["valid_loss"])
    curves = [path.read_text().splitlines() for path in (tmp_path / "run" / "curves").glob("*again.jsonl")]
    assert [len(lines) for lines in curves] == [chosen["retrained_epochs"]]
    assert "valid_loss" not in json.loads(curves[0][0])

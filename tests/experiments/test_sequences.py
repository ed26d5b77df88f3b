"""The study of sequences: its front end, its records, and that test clips take no part in any choice."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.linear_model import RidgeCV
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import StandardScaler

from mirjax import config, results
from mirjax.classifiers import grid
from mirjax.classifiers.hidden import draw_layer
from mirjax.config import UsageError
from mirjax.data import audio, dataset
from mirjax.experiments import sequences
from mirjax.experiments.sequences import FrontEnd, SequenceStudy

EMBEDDED = Path(dataset.__file__).parent / "embedded" / "digits_small"
SPEAKERS, DIGITS = ("jackson", "nicolas"), "01234"
CONFIGS = Path(__file__).parents[2] / "configs"


def make_manifest(folder, splits=("test", "train", "train", "valid", "train", "train"), relabel=False):
    """Real clips of digits_small with a split by take; `relabel` moves the test labels on by one class."""
    folder.mkdir()
    with open(EMBEDDED / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["speaker"] in SPEAKERS and row["label"] in DIGITS]
    takes = sorted({row["take"] for row in rows}, key=int)
    for row in rows:
        row["split"] = splits[takes.index(row["take"]) % len(splits)]
        if relabel and row["split"] == "test":
            row["label"] = str((int(row["label"]) + 1) % 5)
        (folder / row["path"]).parent.mkdir(exist_ok=True)
        clip, rate = soundfile.read(EMBEDDED / row["path"])
        # Two lengths, for which the statistics are compiled; test_folds takes clips as they are.
        num_samples = 4000 if len(clip) > 3600 else 3200
        soundfile.write(folder / row["path"], np.pad(clip[:num_samples], (0, max(0, num_samples - len(clip)))), rate)
    with open(folder / "manifest.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(folder / "manifest.csv")


@pytest.fixture
def study(tmp_path):
    return SequenceStudy(
        data=(make_manifest(tmp_path / "digits"),),
        seeds=2,
        architectures=("mfcc_elm", "mfcc_svm", "esn"),
        units=40,
        leak_rates=(0.1, 0.3),
        spectral_radii=(0.9,),
        input_scales=(0.3, 0.6),
        cache=str(tmp_path / "cache"),
    )


def values(records):
    changing = ("seconds", "feature_seconds_per_clip")
    return [{key: value for key, value in record.items() if key not in changing} for record in records]


def test_front_end():
    """Oracle: librosa's MFCC of the same windows, on real clips, away from the padded end."""
    import librosa

    front_end, source = FrontEnd(), dataset.open_source("digits_small")
    for i in (0, 77, 239):
        clip = audio.decode(source.encoded(i), sample_rate=8000)
        settings = {"n_mfcc": 13, "n_fft": 256, "win_length": 200, "hop_length": 80, "n_mels": 40}
        expected = librosa.feature.mfcc(y=clip.astype(np.float64), sr=8000, **settings, pad_mode="constant").T
        found = front_end.frames(clip)
        assert found.shape == expected.shape
        inner = slice(2, -2)
        assert np.abs(found[inner] - expected[inner]).max() / np.abs(expected).max() < 2e-5


def test_records(study, tmp_path):
    """Oracle: accuracies of scikit-learn from the stored decisions; sizes of the split counted by hand."""
    records = study.run(tmp_path / "run", progress=False)
    found = {(r["architecture"], r["seed"], r["options"].get("fitted_on")) for r in records}
    drawn = {(name, seed, on) for name in ("mfcc_elm", "esn") for seed in (0, 1) for on in ("train", "train+valid")}
    svm = {("mfcc_svm", 0, on) for on in ("train", "train+valid")}
    assert found == drawn | svm | {("chance", 0, None), ("majority", 0, None)}
    for record in records:
        if record["architecture"] == "chance" or record["metric"] != "accuracy":
            continue
        rows = results.read_predictions(tmp_path / "run", record["predictions"])
        share = accuracy_score([row["label"] for row in rows], [row["prediction"] for row in rows])
        assert abs(record["value"] - share) < 1e-12
        assert record["n_test"] == len(rows) == 10
        assert record["n_train"] == (50 if record["options"].get("fitted_on") == "train+valid" else 40)
    best = np.mean([r["value"] for r in records if r["architecture"] == "esn" and r["metric"] == "accuracy"])
    assert best > 0.6


def test_test_clips_take_no_part(study, tmp_path):
    """Oracle: other labels for the test clips; every choice and every decision stays."""
    first = study.run(tmp_path / "run", progress=False)
    (tmp_path / "other").mkdir()
    other = dataclasses.replace(study, data=(make_manifest(tmp_path / "other" / "digits", relabel=True),))
    second = other.run(tmp_path / "other_run", progress=False)
    assert [r["hyperparameters"] for r in first] == [r["hyperparameters"] for r in second]
    for a, b in zip(first, second, strict=True):
        if a["predictions"] and a["architecture"] != "majority":
            decided = [
                {row["id"]: row["prediction"] for row in results.read_predictions(tmp_path / folder, r["predictions"])}
                for folder, r in (("run", a), ("other_run", b))
            ]
            assert decided[0] == decided[1]


def test_resume(study, tmp_path):
    """Oracle: the records of one undisturbed run, byte for byte but for the seconds."""
    whole = study.run(tmp_path / "whole", progress=False)
    one = dataclasses.replace(study, seeds=1, architectures=("esn",))
    one.run(tmp_path / "run", progress=False)
    file = tmp_path / "run" / "records.jsonl"
    file.write_bytes(file.read_bytes()[:-100])  # killed in its last line
    study.run(tmp_path / "run", progress=False)
    again = (tmp_path / "run" / "records.jsonl").read_bytes()
    records = study.run(tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == again

    def by_print(items):
        return sorted(values(items), key=lambda record: record["fingerprint"])

    assert by_print(records) == by_print(whole)


def test_other_settings_are_refused(study, tmp_path):
    """Oracle: a folder keeps to one configuration; the error names the key and nothing is written."""
    study.run(tmp_path / "run", progress=False)
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    with pytest.raises(results.ConfigMismatch, match="units"):
        dataclasses.replace(study, units=50).run(tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before


def test_report(study, tmp_path):
    """Oracle: numbers of correct clips counted from the stored decisions."""
    records = study.run(tmp_path / "run", progress=False)
    text = study.report([tmp_path / "run"]).to_text()
    right = [
        sum(row["label"] == row["prediction"] for row in results.read_predictions(tmp_path / "run", r["predictions"]))
        for r in records
        if r["architecture"] == "esn" and r["metric"] == "accuracy" and r["options"]["fitted_on"] == "train"
    ]
    share = 100 * np.array(right) / 10
    assert f"esn            {share.mean():5.1f} ± {share.std(ddof=1):.1f} %  {np.mean(right):.1f} of 10" in text


def test_split_without_validation_clips(study, tmp_path):
    """Oracle: the loader's rule; a fifth of the training clips decides, once a random choice is asked for by name."""
    manifest = make_manifest(tmp_path / "plain", splits=("test", "train"))
    plain = dataclasses.replace(study, data=(manifest,), seeds=1, architectures=("esn",))
    with pytest.raises(ValueError, match="group=none"):
        plain.run(tmp_path / "refused", progress=False)
    records = dataclasses.replace(plain, group="none").run(tmp_path / "run", progress=False)
    trained = {r["options"]["fitted_on"]: r["n_train"] for r in records if r["architecture"] == "esn"}
    assert trained == {"train": 24, "train+valid": 30}


def test_folds(study, tmp_path):
    """Oracle: digits_small has four speakers, each the test fold once, and no validation clips to refit with."""
    folds = dataclasses.replace(study, data=("digits_small",), seeds=1, architectures=("esn",), leak_rates=(0.1,))
    records = [r for r in folds.run(tmp_path / "run", progress=False) if r["architecture"] == "esn"]
    assert {r["selection"] for r in records} == {"nested"}
    assert sorted(r["n_test"] for r in records if r["metric"] == "accuracy") == [60] * 4
    assert {r["options"]["fitted_on"] for r in records} == {"train"}
    assert np.mean([r["value"] for r in records if r["metric"] == "accuracy"]) > 0.4


def leave_one_out(x, y, test_x, test_y, ridges):
    """Which test clips are right, and the setting chosen: sizes and ridges rated by clips that are held out singly."""
    scaler = StandardScaler().fit(x)
    layer = draw_layer(x.shape[1], grid.ELM_HIDDEN_UNITS[-1], 0)
    hidden, test_hidden = layer(scaler.transform(x)), layer(scaler.transform(test_x))
    classes = np.unique(y)
    targets = np.where(y[:, None] == classes, 1.0, -1.0)
    penalties = np.array(ridges) * (hidden**2).sum() / hidden.shape[1]
    rated = []
    for units in grid.ELM_HIDDEN_UNITS:
        for r, penalty in enumerate(penalties):
            ridge = RidgeCV([penalty], fit_intercept=False, store_cv_results=True)
            errors = ridge.fit(hidden[:, :units], targets).cv_results_[:, :, 0]
            # Errors are squared: the held-out score is the target less its root, on the side that the fit is on.
            sides = np.sign(targets - ridge.predict(hidden[:, :units]))
            scores = targets - sides * np.sqrt(errors)
            rated.append(((scores.argmax(1) == targets.argmax(1)).mean(), -errors.mean(), units, ridges[r], ridge))
    *_, units, ridge, model = max(rated, key=lambda item: item[:2])
    right = classes[model.predict(test_hidden[:, :units]).argmax(1)] == test_y
    return right, {"hidden_units": units, "ridge": ridge}


def test_leave_one_out_elm(study, tmp_path):
    """Oracle: scikit-learn's RidgeCV by leave-one-out on the drawn activations, behind its StandardScaler."""
    from mirjax import features

    study = dataclasses.replace(study, architectures=("mfcc_elm_loo",), seeds=1, ridges=(1e-3, 1e-1))
    records = study.run(tmp_path / "run", progress=False)
    found = next(r for r in records if r["metric"] == "accuracy" and r["options"] == {"fitted_on": "train+valid"})
    clips = audio.load_clips(study.sources()[0], sample_rate=12_000, cache=tmp_path / "cache", progress=False)
    x = features.mfcc_features([clips.audio(i) for i in range(len(clips))], sample_rate=12_000)
    test = clips.splits == "test"
    right, setting = leave_one_out(x[~test], clips.labels[~test], x[test], clips.labels[test], (1e-3, 1e-1))
    assert found["value"] == right.mean()
    assert found["hyperparameters"] == setting


def test_mean_frames_of_parts(study, tmp_path, monkeypatch):
    """Oracle: averages over every frame repeated four times and cut into quarters; scikit-learn's RidgeCV on them."""
    taken = []
    features = sequences._Parts.features
    monkeypatch.setattr(
        sequences._Parts, "features", lambda self, clips: (taken.append(features(self, clips)), taken[-1])[1]
    )
    study = dataclasses.replace(study, architectures=("parts_elm_loo",), seeds=1, ridges=(1e-3, 1e-1))
    records = study.run(tmp_path / "run", progress=False)
    found = next(r for r in records if r["metric"] == "accuracy" and r["options"] == {"fitted_on": "train"})
    clips = audio.load_clips(study.sources()[0], sample_rate=8000, cache=tmp_path / "cache", progress=False)
    frames = [study.front_end.frames(clips.audio(i)) for i in range(len(clips))]
    x = np.array([np.repeat(f, 4, axis=0).reshape(4, len(f), -1).mean(axis=1).ravel() for f in frames])
    train, test = clips.splits == "train", clips.splits == "test"
    assert found["num_features"] == 52
    np.testing.assert_allclose(taken[0][0], x, rtol=0, atol=1e-12 * np.abs(x).max())
    right, setting = leave_one_out(x[train], clips.labels[train], x[test], clips.labels[test], (1e-3, 1e-1))
    assert found["value"] == right.mean()
    assert found["hyperparameters"] == setting


def test_config():
    """Oracle: the command line's fields reach the experiment of the config file."""
    experiment, _ = config.load("spoken_digits", CONFIGS)
    assert len(experiment.seeds) >= 10
    changed = config.override(experiment, ["data=some/manifest.csv", "seeds=12", "leak_rates=0.1,0.5", "group=none"])
    assert changed.data == ("some/manifest.csv",)
    assert changed.seeds == tuple(range(12))
    assert changed.leak_rates == (0.1, 0.5)
    assert changed.group == "none"
    assert "reservoirs" in experiment.forecast()


BAD = [
    ({"architectures": ("esm",)}, "architectures='esm'.*nearest: esn"),
    ({"selection": "legacy"}, "selection=legacy"),
    ({"ridges": (0.0,)}, "ridges=0.0"),
    ({"leak_rates": (1.5,)}, "leak_rates="),
    ({"segments": (0,)}, "segments=0"),
    ({"segments": ()}, "segments="),
    ({"units": 0}, "units=0"),
    ({"seeds": 0}, "seeds=0"),
    ({"input_scales": (0.1, 0.1)}, "input_scales="),
]


@pytest.mark.parametrize(
    ("fields", "message"), BAD, ids=[next(iter(fields)) + str(i) for i, (fields, _) in enumerate(BAD)]
)
def test_bad_fields(fields, message):
    """Oracle: a usage error that names field and value."""
    with pytest.raises(UsageError, match=message):
        SequenceStudy(**fields)

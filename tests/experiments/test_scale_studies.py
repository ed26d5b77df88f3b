"""Studies at scale: shares of training clips, lines through them, whole clips against windows, boosted trees."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn import ensemble, metrics
from threadpoolctl import threadpool_limits

from mirjax import results
from mirjax.config import UsageError
from mirjax.data import audio, dataset, shares
from mirjax.experiments import descriptors_baseline, fitting, scale_report, screening
from mirjax.experiments.descriptors_baseline import BoostedTrees, Descriptors, boost
from mirjax.experiments.scale import ScaleStudy
from mirjax.models import backends, blocks, taggers
from mirjax.signal.representations import LogMel
from mirjax.tasks import tagger

ROOT = Path(__file__).parents[2]
CLASSES = np.array(list("aaaaaaaabbbb"))  # 8 and 4
IDS = np.array([f"clip{i:02d}" for i in range(12)])


# ── shares ──


def test_shares_are_stratified_and_nested():
    """Oracle: by hand: of 8 and 4 clips a quarter is 2 and 1, a half 4 and 2, three quarters 6 and 3."""
    taken = {share: set(shares.take(np.arange(12), IDS, CLASSES, share=share)) for share in (0.25, 0.5, 0.75, 1.0)}
    for share, (of_a, of_b) in {0.25: (2, 1), 0.5: (4, 2), 0.75: (6, 3), 1.0: (8, 4)}.items():
        assert [sum(CLASSES[i] == name for i in taken[share]) for name in "ab"] == [of_a, of_b]
    assert taken[0.25] < taken[0.5] < taken[0.75] < taken[1.0]


def test_shares_depend_on_the_clips_not_on_their_order():
    """Oracle: the same clips by name, in another order and under other numbers; another seed takes others."""
    order = np.random.default_rng(3).permutation(12)
    found = shares.take(np.arange(12), IDS, CLASSES, share=0.5)
    again = shares.take(np.random.default_rng(4).permutation(12), IDS[order], CLASSES[order], share=0.5)
    assert set(IDS[found]) == set(IDS[order][again])
    assert list(again) == sorted(again)
    assert any(set(shares.take(np.arange(12), IDS, CLASSES, share=0.5, seed=s)) != set(found) for s in range(1, 5))


def test_shares_without_classes_and_bad_ones():
    """Oracle: round(share · M) by hand; a share that loses a class is refused by its name."""
    few = shares.take(np.arange(2, 12), IDS, share=0.3)
    assert len(few) == 3 and set(few) < set(range(2, 12))
    with pytest.raises(ValueError, match="leaves none of 'b'"):
        shares.take(np.arange(12), IDS, CLASSES, share=0.1)
    with pytest.raises(ValueError, match="leaves none;"):
        shares.take(np.arange(12), IDS, share=0.01)
    with pytest.raises(ValueError, match="at most 1"):
        shares.take(np.arange(12), IDS, share=1.5)


# ── the line ──


def test_line_is_that_of_scipy():
    """Oracle: scipy.stats.linregress, its standard error and Student's quantile."""
    rng = np.random.default_rng(0)
    x = np.log10(np.repeat([100.0, 500.0, 1000.0], 3))
    y = 0.4 + 0.1 * x + 0.02 * rng.standard_normal(9)
    found, expected = scale_report.fit_line(x, y), stats.linregress(x, y)
    half = stats.t.ppf(0.975, 7) * expected.stderr
    assert found.slope == pytest.approx(expected.slope, rel=1e-12)
    assert found.intercept == pytest.approx(expected.intercept, rel=1e-12)
    assert found.r_squared == pytest.approx(expected.rvalue**2, rel=1e-12)
    assert (found.low, found.high) == pytest.approx((expected.slope - half, expected.slope + half), rel=1e-12)


def test_line_of_two_points():
    """Oracle: by hand, from (1, 2) to (3, 3): slope ½, 1½ at 0; two points leave no interval."""
    assert scale_report.fit_line([1, 3], [2, 3]) == (0.5, None, None, 1.5, 1.0)
    with pytest.raises(ValueError, match="two different x"):
        scale_report.fit_line([2, 2], [1, 3])


def record(share, seed, fold, value, *, whole=False, metric="roc_auc", size=None, predictions=None):
    return {
        "dataset": "set",
        "architecture": "net",
        "n": 4,
        "options": {"train_share": share, "whole": whole, "epochs": 2},
        "classifier": "trained",
        "seed": seed,
        "fold": fold,
        "metric": metric,
        "value": value,
        "n_train": size or round(1000 * share),
        "predictions": predictions,
    }


def test_fits_of_records():
    """Oracle: by hand: folds averaged first; 70, 80, 90 % at 10, 100, 1000 clips are 10 points a tenfold."""
    rows = [
        record(share, seed, fold, score + (0.01 if fold == "1" else -0.01))
        for share, score in ((1.0, 0.9), (0.01, 0.7), (0.1, 0.8))
        for seed in (0, 1)
        for fold in "12"
    ]
    (fit,) = scale_report.fit_shares([*rows, record(1.0, 0, "1", 0.5) | {"classifier": "svm"}])
    assert (fit.sizes, fit.runs, fit.whole) == ((10, 100, 1000), 2, False)
    assert fit.means == pytest.approx((0.7, 0.8, 0.9))
    assert fit.by_log.slope == pytest.approx(0.1) and fit.by_log.r_squared == pytest.approx(1)
    assert fit.by_log.low == pytest.approx(0.1) and fit.by_log.high == pytest.approx(0.1)
    expected = stats.linregress(np.repeat([1.0, 0.01, 0.1], 2), np.repeat([0.9, 0.7, 0.8], 2))  # thousands of clips
    assert fit.by_size.slope == pytest.approx(expected.slope)


def test_differences_over_trainings():
    """Oracle: Student's interval of scipy for the pairs of the same seed and fold; unpaired seeds are left out."""
    windows, whole = [0.8, 0.7, 0.9, 0.6], [0.75, 0.7, 0.8, 0.58]
    places = [(seed, fold) for seed in (0, 1) for fold in "12"]
    rows = [record(1.0, *place, value) for place, value in zip(places, windows, strict=True)]
    rows += [record(1.0, *place, value, whole=True) for place, value in zip(places, whole, strict=True)]
    rows += [record(0.5, 0, "1", 0.1), record(1.0, 7, "1", 0.1)]
    (found,) = scale_report.compare_evaluations(rows)
    expected = stats.ttest_rel(whole, windows).confidence_interval(0.95)
    assert (found.windows, found.whole) == pytest.approx((0.75, np.mean(whole)))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_difference_of_accuracy_is_paired_by_network(tmp_path):
    """Oracle: by hand: networks that differ much between seeds and lose the same clips when heard whole: no spread."""
    (tmp_path / "predictions").mkdir()
    rows = []
    for seed, right in enumerate((20, 40, 60)):  # of 80 clips; whole loses none or gains none, whichever the seed
        for whole in (False, True):
            name = f"{seed}-{whole}.jsonl"
            lines = [
                {"id": f"{i:03d}", "fold": "1", "group": None, "label": "a", "prediction": "a", "scores": None}
                for i in range(80)
            ]
            for i, line in enumerate(lines):
                if i >= right or (whole and i % 10 == 0 and i < 20):
                    line["prediction"] = "b"
            text = "".join(f"{json.dumps(line)}\n" for line in lines)
            (tmp_path / "predictions" / name).write_text(text)
            value = (right - 2 * whole) / 80
            rows.append(record(1.0, seed, "1", value, whole=whole, metric="accuracy", predictions=name))
    (found,) = scale_report.compare_evaluations(rows, [tmp_path])
    assert found.whole - found.windows == pytest.approx(-2 / 80)
    # Two of 80 clips lost by every network: the clips' spread alone, √(p(1 − p)/80) each way.
    spread = np.sqrt(2 / 80 * (1 - 2 / 80) / 79)
    assert -2 / 80 - 3 * spread < found.low < -2 / 80 - spread < -2 / 80 + spread < found.high < -2 / 80 + 3 * spread


# ── the study ──


def network():
    """Two small blocks, mean and maximum over time."""
    convs = tuple(blocks.Conv(4, (3, 3), norm=blocks.Norm(), pool=(2, 8)) for _ in range(2))
    pool = backends.GlobalPool(("mean", "max"))
    return taggers.Network(LogMel(), blocks.Stack(convs), pool, blocks.Head(8))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(study, run folder, records) of a network on half and all clips; a clip has two patches."""
    folder = tmp_path_factory.mktemp("scale")
    study = ScaleStudy(
        architectures=(network(),),
        evaluations=("windows", "whole"),
        shares=(0.5, 1.0),
        folds=("0",),
        seconds=4.0,
        patch=2.0,
        epochs=3,
        batch_size=8,
        classifiers=("elm",),
        cache=str(folder / "cache"),
    )
    return study, folder / "run", study.run(folder / "run", progress=False)


@pytest.fixture(scope="module")
def embedded_rhythms():
    """id → f32[N] at 12 kHz of the embedded rhythms."""
    source = dataset.open_source("rhythm_small")
    numbers = {str(clip): i for i, clip in enumerate(source.ids)}
    return lambda clip: audio.decode(source.encoded(numbers[clip]), sample_rate=12_000)


def scores(folder, rows, **wanted):
    """{clip: scores} of the one cell with these options."""
    (name,) = {row["predictions"] for row in rows if wanted.items() <= row["options"].items()}
    found = results.read_predictions(folder, name)
    return {row["id"]: np.array(list(row["scores"].values())) for row in found}


def test_both_evaluations_are_those_of_the_weights(run, embedded_rhythms):
    """Oracle: the network itself, with the weights that were kept, on a clip and on its two halves."""
    _, folder, rows = run
    rows = [row for row in rows if row["classifier"] == "trained"]
    model = network()
    answer = jax.jit(lambda variables, x: jax.nn.softmax(model.apply(variables, x, method="embed")["logits"][0]))
    kept = [row["predictions"].removesuffix(".jsonl") for row in rows[::3] if not row["options"]["whole"]]
    for share, name in zip((0.5, 1.0), kept, strict=True):
        variables = dict(tagger.load_tagger(folder / "weights" / f"{name}-0.npz", model=model).variables)
        statistics = variables.pop("input")
        found = {whole: scores(folder, rows, train_share=share, whole=whole) for whole in (False, True)}
        for clip in sorted(found[True])[:3]:
            x = model.representation(embedded_rhythms(clip)[:48_000])
            x = (x - statistics["mean"]) / statistics["deviation"]
            whole, half, other = (answer(variables, part[None]) for part in (x, x[:94], x[94:188]))
            assert np.abs(found[True][clip] - whole).max() < 1e-5
            assert np.abs(found[False][clip] - (half + other) / 2).max() < 1e-5
            assert np.abs(found[False][clip] - found[True][clip]).max() > 1e-4


def test_whole_clip_of_one_window_is_the_window(run, tmp_path):
    """Oracle: the averaged windows of clips that are exactly one window long, with the same weights."""
    study = dataclasses.replace(run[0], shares=(1.0,), patch=4.0, epochs=2)
    rows = [row for row in study.run(tmp_path, progress=False) if row["classifier"] == "trained"]
    windows, whole = (scores(tmp_path, rows, whole=way) for way in (False, True))
    assert windows.keys() == whole.keys() and len(windows) == 24
    assert max(np.abs(windows[clip] - whole[clip]).max() for clip in windows) < 1e-5


def test_training_clips_of_a_share(run):
    """Oracle: half of them, and the same weights kept once for both evaluations."""
    study, folder, rows = run
    sizes = {
        (r["options"]["train_share"], r["options"]["whole"]): r["n_train"] for r in rows if "whole" in r["options"]
    }
    assert sizes[0.5, False] == sizes[0.5, True] == round(sizes[1.0, False] / 2)
    assert len(list((folder / "weights").iterdir())) == len(list((folder / "curves").iterdir())) == len(study.shares)


def test_weights_are_not_trained_again(run, monkeypatch):
    """Oracle: with the records of whole clips gone, a run that cannot train brings them back."""
    study, folder, rows = run
    path = folder / "records.jsonl"
    content = path.read_text()
    kept = [line for line in content.splitlines(keepends=True) if '"whole": true' not in line]
    assert 0 < len(kept) < len(rows)
    path.write_text("".join(kept))
    monkeypatch.setattr(fitting.Fitting, "train", None)
    again = study.run(folder, progress=False)
    assert {r["fingerprint"]: r["value"] for r in again} == {r["fingerprint"]: r["value"] for r in rows}


def test_report_of_the_study(run):
    """Oracle: both tables are there, with as many lines of the .csv as networks and metrics."""
    study, folder, rows = run
    found = study.report([folder])
    assert "Lines through the shares" in found.summary and "Whole clips against" in found.summary
    assert found.summary in (folder / "scale.md").read_text()
    trained = [row for row in rows if row["classifier"] == "trained"]
    assert len((folder / "scale.csv").read_text().splitlines()) == 1 + len(trained)  # one fold
    assert len(found.fits) == 2 * 3 and len(found.differences) == 2 * 3
    assert max(map(len, found.summary.splitlines())) <= 160


def test_the_command_reports_it_from_its_folder(run, tmp_path):
    """Oracle: the study's own report; its tables are made of the records alone."""
    study, folder, _ = run
    command = [sys.executable, str(ROOT / "launch.py"), "report", str(folder), f"out={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert study.report([folder]).summary in done.stdout
    assert (tmp_path / "scale.md").is_file() and (tmp_path / "scale.csv").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shares": (0.5, 1.5)}, "shares=1.5"),
        ({"shares": (1.0, 1.0)}, "none twice"),
        ({"evaluations": ("song",)}, "windows, whole"),
        ({"whole": True}, "evaluations="),
        ({"train_share": 0.5}, "shares="),
        ({"evaluations": ("whole",), "processes": 2}, "processes=2"),
    ],
)
def test_bad_studies_are_refused(changes, message):
    """Oracle: the message names the field."""
    with pytest.raises(UsageError, match=message):
        ScaleStudy(**changes)


# ── boosted trees ──


@pytest.fixture(scope="module")
def described():
    """Numbers that tell four classes, two tags and a value, with noise: (x, classes, tags, values)."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((240, 6)).astype(np.float32)
    classes = (2 * (x[:, 0] > 0) + (x[:, 1] > 0)).astype(np.int32)
    tags = np.stack([x[:, 2] > 1, x[:, 3] + 0.5 * rng.standard_normal(240) > 0, np.zeros(240)], axis=1).astype("f4")
    return x, classes, tags, (x[:, 4:5] + 0.3 * rng.standard_normal((240, 1))).astype("f4")


TRAIN, VALID, TEST = np.arange(0, 140), np.arange(140, 190), np.arange(190, 240)


@pytest.mark.parametrize("kind", ["one", "many", "values"])
@threadpool_limits.wrap(1)
def test_boosting_is_that_of_scikit_learn(described, kind):
    """Oracle: scikit-learn's estimators with as many rounds as were chosen; log loss and squared error pick them."""
    x, classes, tags, values = described
    y = {"one": classes, "many": tags, "values": values}[kind]
    outputs = 4 if kind == "one" else y.shape[1]
    found = boost(x, y, TRAIN, VALID, TEST, kind=kind, num_outputs=outputs, rounds=14, learning_rate=0.5)
    for k, rounds in enumerate(found.rounds):
        of = y if kind == "one" else y[:, k]
        if kind == "many" and k == 2:  # no clip has the tag
            assert rounds == 0 and not found.scores[:, 2].any()
            continue
        make = {"values": ensemble.HistGradientBoostingRegressor}.get(kind, ensemble.HistGradientBoostingClassifier)
        losses = []
        for tried in range(1, 15):
            model = make(max_iter=tried, learning_rate=0.5, early_stopping=False).fit(x[TRAIN], of[TRAIN])
            if kind == "values":
                losses.append(metrics.mean_squared_error(of[VALID], model.predict(x[VALID])))
            else:
                losses.append(metrics.log_loss(of[VALID], model.predict_proba(x[VALID]), labels=model.classes_))
            if tried == rounds:
                answer = model.predict(x[TEST]) if kind == "values" else model.predict_proba(x[TEST])
        assert rounds == 1 + int(np.argmin(losses)) < 14
        expected = answer if kind != "many" else answer[:, 1]
        assert np.allclose(found.scores if kind == "one" else found.scores[:, k], expected, rtol=0, atol=1e-12)


@threadpool_limits.wrap(1)
def test_boosting_of_few_clips_without_validation_clips(described):
    """Oracle: scikit-learn with as many rounds, and leaves of a sixth of the clips."""
    x, classes, *_ = described
    found = boost(x, classes, TRAIN[:60], VALID[:0], TEST, kind="one", num_outputs=4, rounds=7)
    model = ensemble.HistGradientBoostingClassifier(max_iter=7, min_samples_leaf=10, early_stopping=False)
    assert found.rounds == (7,)
    assert np.allclose(found.scores, model.fit(x[TRAIN[:60]], classes[TRAIN[:60]]).predict_proba(x[TEST]), atol=1e-12)


@pytest.fixture(scope="module")
def pulse():
    """Twelve seconds of clicks twice a second over an A major chord at 12 kHz."""
    time = np.arange(12 * 12_000) / 12_000
    chord = sum(np.sin(2 * np.pi * f * time) for f in (440.0, 554.37, 659.26)) / 30
    clicks = (time % 0.5 < 0.01) * np.random.default_rng(0).standard_normal(len(time)) / 3
    return (chord + clicks).astype(np.float32)


def test_descriptors_hear_tempo_and_chord(pulse):
    """Oracle: the signal: the strongest tempo bands are 120 beats a minute and its parts; classes A, C sharp, E."""
    rhythm = Descriptors(("rhythm",))(pulse)
    assert rhythm.shape == (50,)
    bands = rhythm[2:26]
    edges = np.array(descriptors_baseline.TEMPI)
    strongest = np.argsort(bands)[::-1][:3]
    middles = np.sqrt(edges[:-1] * edges[1:])[strongest]
    assert all(min(abs(np.log2(middle / tempo)) for tempo in (30, 40, 60, 120)) < 1 / 6 for middle in middles)
    assert 120 > edges[:-1][strongest].min()
    harmony = Descriptors(("harmony",))(pulse)
    assert harmony.shape == (36,)
    assert set(np.argsort(harmony[:12])[::-1][:3]) == {9, 1, 4}


def test_descriptors_of_all_families_and_any_length(pulse):
    """Oracle: the families one by one; silence and a very short clip stay finite."""
    whole = Descriptors()(pulse)
    parts = [Descriptors((family,))(pulse) for family in descriptors_baseline.FAMILIES]
    assert whole.shape == (206,) and np.array_equal(whole, np.concatenate(parts))
    for clip in (np.zeros(30_000, np.float32), pulse[:100]):
        assert np.isfinite(Descriptors()(clip)).all()


def test_boosted_trees_beat_chance_in_one_table_with_networks(run, tmp_path):
    """Oracle: chance, an eighth; the report of both folders has trees and network in one table."""
    study, folder, _ = run
    trees = BoostedTrees(folds=("0",), rounds=10, families=("rhythm",), cache=study.cache)
    rows = trees.run(tmp_path / "run", progress=False)
    found = {r["architecture"]: r["value"] for r in rows if r["metric"] == "accuracy"}
    assert found["boosted_trees"] > 3 / 8
    assert trees.run(tmp_path / "run", progress=False) == rows  # nothing is added
    merged = trees.report([folder, tmp_path / "run"], tmp_path / "out")
    (table,) = [table for table in merged.tables if table.classifier == "trained"]
    assert {row.architecture for row in table.rows} >= {"boosted_trees", screening.name_of(network())}


def tagged(folder):
    """A manifest of the embedded rhythms with tags: fast or slow, and none for some."""
    import soundfile

    rng = np.random.default_rng(0)
    lines = ["path,label,split"]
    for i in range(30):
        noise = rng.standard_normal(24_000) * (np.arange(24_000) % (2000 + 4000 * (i % 2)) < 600) / 5
        soundfile.write(folder / f"{i}.wav", noise, 12_000)
        label = "slow" if i % 2 else "fast|loud" if i % 3 else "fast"
        lines.append(f"{i}.wav,{label},{('train', 'train', 'valid', 'test')[i // 2 % 4]}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return str(folder / "manifest.csv")


def test_tags_are_judged_by_areas(tmp_path):
    """Oracle: the manifest: records of ROC-AUC and PR-AUC; the trees tell the period of a pulse from another's."""
    trees = BoostedTrees(data=(tagged(tmp_path),), labels="many", families=("rhythm",), rounds=5)
    rows = dataclasses.replace(trees, cache=str(tmp_path / "cache")).run(tmp_path / "run", progress=False)
    found = {row["metric"]: row["value"] for row in rows}
    assert set(found) == {"roc_auc", "pr_auc"}
    assert found["roc_auc"] > 0.7
    prediction = results.read_predictions(tmp_path / "run", rows[0]["predictions"])[0]
    assert set(prediction["scores"]) == {"fast", "loud", "slow"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"families": ("melody",)}, "families='melody'"),
        ({"labels": "some"}, "labels='some'"),
        ({"rounds": 0}, "rounds=0"),
        ({"validation": 0.7}, "validation=0.7"),
        ({"learning_rate": 0.0}, "learning_rate=0"),
    ],
)
def test_bad_baselines_are_refused(changes, message):
    """Oracle: the message names the field and its value."""
    with pytest.raises(UsageError, match=message):
        BoostedTrees(**changes)

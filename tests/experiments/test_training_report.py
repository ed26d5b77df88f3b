"""Oracles: scikit-learn's metrics, derivatives by finite differences, a plain bootstrap, runs worked by hand."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mirjax import metrics, results, statistics
from mirjax.experiments import curves, render, report, tag_shares, trained

ROOT = Path(__file__).parents[2]
TRAINING = {
    "labels": "one",
    "loss": "auto",
    "rule": "stop_early(valid_loss,20)",
    "batch_size": 16,
    "learning_rate": 0.01,
}
TRAINING |= {"monitor": "valid_loss", "validation": 0.2, "augment": [], "average": None, "l2": 0.0, "l2_on": "kernels"}
FOLDS = {"f1": 24, "f2": 16}
CLASSES = ("jig", "reel", "waltz", "polka")
TAGS = ("calm", "loud", "$never$", "seldom")


# ── shares of clips in an area ──


def some_tags(num_clips=60, num_tags=5, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    targets = rng.random((num_clips, num_tags)) < 0.3
    scores = rng.normal(size=(num_clips, num_tags)) + targets
    return targets, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("metric", metrics.TAG_METRICS)
def test_shares_are_the_derivatives_of_the_area(metric):
    """Oracle: central differences of the weighted metric, with ties and a tag without clips; their mean is the area."""
    targets, scores = some_tags()
    targets[:, 4] = False
    shares = tag_shares.area_shares(targets, scores)[metric]
    area = metrics.score_tags(targets, scores)[metric].mean
    assert shares.mean() == pytest.approx(area, abs=1e-12)
    steps = 1e-5 * np.eye(len(targets))
    up, down = (
        [metrics.score_tags(targets, scores, weights=1 + sign * step)[metric].mean for step in steps]
        for sign in (1, -1)
    )
    derivatives = (np.array(up) - np.array(down)) / 2e-5
    np.testing.assert_allclose(shares, area + len(targets) * derivatives, atol=1e-7)


def test_shares_of_an_error_are_its_derivatives():
    """Oracle: central differences of the weighted error; errors of 0 have shares of 0."""
    rng = np.random.default_rng(1)
    targets, scores = rng.random((2, 30, 3))
    found = tag_shares.error_shares(targets, scores)
    error = metrics.score_values(targets, scores)["rmse"]
    moved = [
        [metrics.score_values(targets, scores, weights=1 + sign * step)["rmse"] for step in 1e-5 * np.eye(30)]
        for sign in (1, -1)
    ]
    np.testing.assert_allclose(found, error + 30 * (np.array(moved[0]) - np.array(moved[1])) / 2e-5, atol=1e-7)
    assert not tag_shares.error_shares(targets, targets).any()


@pytest.mark.parametrize("metric", metrics.TAG_METRICS)
def test_interval_is_that_of_a_plain_bootstrap(metric):
    """Oracle: areas of 300 resamples of the clips, computed anew; PR-AUC's are higher, for its bias, but as wide."""
    rng = np.random.default_rng(2)
    targets, scores = some_tags(300, 8, 3, ties=False)
    shares = tag_shares.area_shares(targets, scores)[metric]
    found = statistics.bootstrap_interval(shares[None])
    drawn = [np.bincount(rng.integers(300, size=300), minlength=300) for _ in range(300)]
    plain = [metrics.score_tags(targets, scores, weights=weights)[metric].mean for weights in drawn]
    low, high = np.quantile(plain, [0.025, 0.975])
    assert found.high - found.low == pytest.approx(high - low, rel=0.2)
    if metric == "roc_auc":
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_interval_covers_the_truth():
    """Oracle: the area of two normals one deviation apart, Φ(1/√2); 100 samples, of which 95 should cover it."""
    from scipy import stats

    truth, hits = stats.norm.cdf(1 / np.sqrt(2)), 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        targets = rng.random((120, 4)) < 0.3
        shares = tag_shares.area_shares(targets, rng.normal(size=targets.shape) + targets)["roc_auc"]
        found = statistics.bootstrap_interval(shares[None], num_resamples=500)
        hits += found.low <= truth <= found.high
    assert 88 <= hits <= 100


# ── run folders, worked by hand ──


class Maker:
    """Writes cells of a training into a run folder."""

    def __init__(self, run, folds=FOLDS, dataset="tunes"):
        self.run, self.folds, self.dataset = run, folds, dataset

    def records(self, architecture, values, *, seed, classifier, options, scaling, selection, hyperparameters):
        n = 8 if architecture not in report.BASELINES else None
        identity = {"dataset": self.dataset, "architecture": architecture, "width": None, "n": n, "input": "raw"}
        identity |= {"options": options, "seed": seed, "classifier": classifier, "scaling": scaling, "protocol": "cv"}
        identity |= {"selection": selection}
        common = {
            "experiment": "test",
            "num_parameters": 100,
            "num_features": 8,
            "gflops": 0.1 if n else 0,
            "seconds": 1.0,
        }
        common |= {"feature_seconds_per_clip": 0.0, "split_hash": "s", "commit": "0", "versions": {}}
        rows = [
            dict.fromkeys(results.RECORD_FIELDS)
            | identity
            | common
            | {"fold": fold, "metric": metric, "value": value, "hyperparameters": hyperparameters}
            | {"fingerprint": results.fingerprint(**identity, fold=fold, metric=metric, value=value)}
            for fold in self.folds
            for metric, value in values[fold].items()
        ]
        return rows, f"{results.fingerprint(**identity)}.jsonl"

    def classes(self, architecture, right, *, seed=0, classifier="trained", options=None, **other):
        """A cell of classes of which `right[fold]` clips are decided rightly, the first ones."""
        of_net = classifier == "trained"
        settings = {"scaling": "none" if of_net or classifier == "none" else "standard"}
        settings |= {"selection": "validation" if of_net else "nested", "hyperparameters": {} if of_net else {"C": 1.0}}
        settings |= {"hyperparameters": {"epochs": 3, "best_step": 4}} if of_net else {}
        values, rows = {}, []
        for fold, size in FOLDS.items():
            labels = np.arange(size) % 4
            said = (
                np.zeros(size, int) if architecture == "majority" else (labels + (np.arange(size) >= right[fold])) % 4
            )
            values[fold] = metrics.score(labels, said)
            if fold in self.folds:
                rows += [
                    {
                        "id": f"{fold}-{i:02d}",
                        "fold": fold,
                        "group": None,
                        "label": CLASSES[a],
                        "prediction": CLASSES[b],
                    }
                    | {"scores": None}
                    for i, (a, b) in enumerate(zip(labels, said, strict=True))
                ]
        options = (TRAINING if of_net else {}) if options is None else options
        made, name = self.records(
            architecture, values, seed=seed, classifier=classifier, options=options, **settings | other
        )
        self.run.append(made, rows, name)
        return made, name

    def tags(self, architecture, targets, scores, *, kind="many", seed=0, options=None, wrong=0.0):
        """A cell of tags or values; clips are shared out to the folds in turn."""
        folds = np.array(list(self.folds))[np.arange(len(targets)) % len(self.folds)]
        values = {}
        for fold in self.folds:
            own = folds == fold
            if kind == "many":
                found = metrics.score_tags(targets[own], scores[own])
                values[fold] = {metric: area.mean + wrong for metric, area in found.items()}
            else:
                values[fold] = metrics.score_values(targets[own], scores[own])
        made, name = self.records(
            architecture, values, seed=seed, classifier="trained", options=options or TRAINING | {"labels": kind},
            scaling="none", selection="validation", hyperparameters={},
        )  # fmt: skip
        label = tag_label if kind == "many" else value_label
        rows = [
            {"id": f"c{i:03d}", "fold": folds[i], "group": f"g{i // 2}", "label": label(targets[i]), "prediction": "-"}
            | {"scores": {tag: float(f"{score:.6g}") for tag, score in zip(TAGS, scores[i], strict=False)}}
            for i in range(len(targets))
        ]
        self.run.append(made, rows, name)


def tag_label(row):
    return "|".join(tag for tag, has in zip(TAGS, row, strict=False) if has) or "-"


def value_label(row):
    return "|".join(f"{tag}:{value:.3f}" for tag, value in zip(TAGS, row, strict=False))


def write(folder, fill, **settings):
    with results.RunFolder.open(folder, {"seeds": [0]}) as run:
        fill(Maker(run, **settings))
    return folder


def write_curve(folder, name, fold, epochs, steps=2, **other):
    (folder / "curves").mkdir(exist_ok=True)
    rows = [
        {
            "epoch": e,
            "step": steps * e,
            "seconds": 1.0,
            "scale": 0.5 ** (e // 2),
            "train_loss": 1 / e,
            "valid_loss": 2 / e,
        }
        | {"valid_accuracy": e / 10}
        for e in range(1, epochs + 1)
    ]
    path = folder / "curves" / f"{name.removesuffix('.jsonl')}-{fold}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + other.get("torn", ""))


def of_classes(make):
    make.classes("chance", {"f1": 6, "f2": 4}, classifier="none")
    make.classes("majority", {"f1": 6, "f2": 4}, classifier="none")
    make.classes("mfcc", {"f1": 12, "f2": 8}, classifier="svm")
    for seed in (0, 1):
        make.classes("vgg", {"f1": 22 + seed, "f2": 15}, seed=seed)
        _, name = make.classes("time_frequency", {"f1": 16, "f2": 12}, seed=seed)
        begun = TRAINING | {"begin_with": "time+frequency"}
        make.classes("time_frequency", {"f1": 18, "f2": 12}, seed=seed, options=begun)
        for fold in make.folds:
            write_curve(Path(make.run.path), name, fold, 3 + seed, torn='{"epoch": 9, "st')


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write(tmp_path_factory.mktemp("run"), of_classes)


def test_networks_and_their_baseline_share_a_table(run):
    """Worked by hand: means over two seeds and folds, ranks with the baseline among them, tested against the best."""
    (table,) = report.summarise([run]).tables
    labels = [table.label(row) for row in table.rows]
    assert labels[:4] == ["vgg", "time_frequency (begin_with=time+frequency)", "time_frequency", "mfcc (svm)"]
    assert set(labels[4:]) == {"majority", "chance"}
    vgg, _, _, mfcc, *rest = table.rows
    assert vgg.accuracy == pytest.approx(np.mean([22 / 24, 15 / 16, 23 / 24, 15 / 16]))
    assert mfcc.accuracy == pytest.approx(0.5) and mfcc.rank == 4 and mfcc.is_baseline
    assert mfcc.interval.low < 0.5 < mfcc.interval.high and mfcc.comparison.p_holm < 0.05
    assert vgg.comparison.p is None and all(row.rank is None for row in rest)
    assert (
        table.variance is not None
        and table.kendall == pytest.approx(1)
        and "vgg and time_frequency" in table.seeds_needed
    )
    assert not table.orderings and table.title == "tunes: trained, protocol cv, selection validation"


def test_options_are_said_once(run):
    """By hand: what all networks share stands below the table, without what is off; no row repeats it."""
    text = report.summarise([run]).to_text()
    assert text.count("learning_rate=0.01") == 1 and text.count("stop_early") == 1
    assert "augment" not in text and "average=" not in text and "l2_on" not in text
    assert "mfcc (svm): scaling standard, hyper-parameters nested" in text
    assert "Hyper-parameters validation" not in text and "best_step" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_own_and_shared_options():
    """Hand-worked: an option that is off is one that is not there; trees and trainings have no options in common."""
    plain, softened, trees = {"a": 1, "off": None}, {"a": 1, "targets": [0.02, 0.98]}, {"a": 7, "families": ["timbre"]}
    rows = [plain, softened | {"off": False}, trees, {}]
    assert trained.own_options(rows[0], rows) == []
    assert trained.own_options(rows[1], rows) == ["targets=0.02/0.98"]
    assert trained.own_options(trees, rows) == []
    assert trained.shared_options(rows[:2]) == {"a": 1}
    assert trained.shared_options([{"l2": 0.1, "l2_on": "all", "accumulate": 1}]) == {"l2": 0.1, "l2_on": "all"}


def test_csv_names_the_classifier_of_every_row(run):
    """Oracle: the table, read back by Python's csv; options are complete there."""
    made = report.summarise([run])
    lines = list(csv.DictReader(io.StringIO(made.to_csv())))
    assert [(line["architecture"], line["classifier"], line["scaling"]) for line in lines[:4:3]] == [
        ("vgg", "trained", "none"),
        ("mfcc", "svm", "standard"),
    ]
    assert json.loads(lines[0]["options"]) == TRAINING
    assert "# Training report" in made.to_markdown() and r"\begin{tabular}" in made.to_latex()


def test_training_beside_screening(tmp_path, run):
    """Worked by hand: trained on one fold of two, 14 of 16 right, against 11 untrained there; other tables stay."""

    def screen(make):
        of = {"scaling": "none", "selection": "nested", "hyperparameters": {}}
        make.classes("majority", {"f1": 6, "f2": 4}, classifier="none")
        make.classes("mfcc", {"f1": 10, "f2": 8}, classifier="elm", **of)
        make.classes("vgg", {"f1": 3, "f2": 11}, classifier="elm", options={"seconds": 3.0}, **of)
        make.classes("vgg", {"f1": 24, "f2": 10}, classifier="svm", options={"seconds": 3.0}, **of)

    def train(make):
        make.classes("mfcc", {"f1": 12, "f2": 8}, classifier="svm")
        make.classes("vgg", {"f1": 0, "f2": 14})

    folders = [write(tmp_path / "screen", screen), write(tmp_path / "train", train, folds={"f2": 16})]
    made = report.summarise(folders)
    alone = report.summarise(folders[:1])
    assert [table.title for table in made.tables if not table.is_trained] == [table.title for table in alone.tables]
    of_screening = [table for table in made.tables if not table.is_trained]
    assert [row.accuracy for table in of_screening for row in table.rows] == [
        row.accuracy for table in alone.tables for row in table.rows
    ]
    (gain,) = made.gains
    assert (gain.network, gain.trained, gain.untrained, gain.by) == ("vgg", 14 / 16, pytest.approx(11 / 16), "elm, raw")
    assert gain.difference.difference == pytest.approx(3 / 16) and gain.p_holm == gain.difference.p
    assert any("trainings are about folds f2, screenings about f1, f2" in warning for warning in made.warnings)
    assert "Trained against untrained" in made.to_text() and "# Training and screening report" in made.to_markdown()
    both = report.summarise([write(tmp_path / "whole", train), folders[1]])
    (table,) = both.tables
    assert {row.num_clips for row in table.rows} == {16}  # trainings are compared on the folds they share


def test_epochs_are_told_and_drawn(tmp_path, run):
    """By hand: three epochs by the records, the best after step 4 of 2 an epoch; torn lines and lost files."""
    made = report.build_report([run], tmp_path)
    assert "time_frequency 3, best 2" in made.to_text().replace("\n  ", " ")
    assert "vgg 3;" in made.to_text().replace("\n  ", " ")  # its files are not there
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG" and "curves.png" in made.to_markdown()
    ((dataset, network, found),) = made.curves
    assert (dataset, network) == ("tunes", "time_frequency") and len(found) == 4
    assert [len(curve.rows) for curve in found] == [3, 3, 4, 4] and {curve.metric for curve in found} == {
        "valid_accuracy"
    }
    other = [curve._replace(epochs=5, best=None) for curve in found[:1]]
    assert "a 5; b 3, best 2." in curves.describe([("a", other), ("b", found), ("c", ())]) and not curves.describe([])


def test_the_metric_that_chose_is_drawn(tmp_path):
    """By hand: the monitor when it is no loss, else the accuracy, else the area, else the error, else nothing."""
    record = {"classifier": "trained", "predictions": "x.jsonl", "fold": "0", "seed": 0}
    record |= {"hyperparameters": {"epochs": 1, "best_step": 1}}
    row = {"epoch": 1, "step": 1, "scale": 1.0, "train_loss": 1.0, "valid_loss": 1.0}

    (tmp_path / "curves").mkdir()

    def metric(monitor, *measured):
        (tmp_path / "curves" / "x-0.jsonl").write_text(json.dumps(row | dict.fromkeys(measured, 0.5)) + "\n")
        return curves.read_curves(tmp_path, [record | {"options": {"monitor": monitor}}])[0].metric

    assert metric("valid_macro_f1", "valid_accuracy", "valid_macro_f1") == "valid_macro_f1"
    assert metric("valid_loss", "valid_macro_f1", "valid_accuracy") == "valid_accuracy"
    assert metric("valid_loss", "valid_roc_auc", "valid_pr_auc") == "valid_roc_auc"
    assert metric("valid_loss", "valid_rmse") == "valid_rmse" and metric("valid_loss") is None


# ── tags ──


def tagged(num_clips=160, seed=0):
    """Tags of clips, one that none has and one that few have, and scores of a good and of a poor network in [0, 1]."""
    rng = np.random.default_rng(seed)
    targets = rng.random((num_clips, 4)) < (0.4, 0.3, 0, 0.1)
    targets[::2, 3] = False  # the first fold has no clip of it

    def scores(strength):
        return 1 / (1 + np.exp(-rng.normal(size=targets.shape) - strength * (2 * targets - 1)))

    return targets, scores


@pytest.fixture(scope="module")
def tag_run(tmp_path_factory):
    targets, scores = tagged()

    def fill(make):
        for seed in (0, 1, 2):
            make.tags("vgg", targets, scores(1.5), seed=seed)
            make.tags("frame", targets, scores(0.3), seed=seed)

    return write(tmp_path_factory.mktemp("tags"), fill)


def stored(folder, architecture):
    """[(targets, scores) of each seed and fold] as the predictions have them."""
    names = dict.fromkeys(r["predictions"] for r in results.read_records(folder) if r["architecture"] == architecture)
    found = []
    for name in names:
        rows = results.read_predictions(folder, name)
        for fold in FOLDS:
            own = [row for row in rows if row["fold"] == fold]
            targets = np.array([[tag in row["label"].split("|") for tag in TAGS] for row in own])
            found.append((targets, np.array([[row["scores"][tag] for tag in TAGS] for row in own])))
    return found


def test_tags_against_scikit_learn(tag_run):
    """Oracle: scikit-learn on the stored predictions, tags with a clip in the fold; chance by its constant scores."""
    from sklearn import metrics as sk

    (table,) = report.summarise([tag_run]).tag_tables
    vgg, frame, chance = table.rows
    assert [(row.architecture, row.rank) for row in table.rows] == [("vgg", 1), ("frame", 2), ("chance", None)]
    for row in (vgg, frame):
        found = {name: [] for name in row.values}
        for targets, scores in stored(tag_run, row.architecture):
            kept, rounded = targets.any(0), scores > 0.5
            found["roc_auc"].append(sk.roc_auc_score(targets[:, kept], scores[:, kept]))
            found["pr_auc"].append(sk.average_precision_score(targets[:, kept], scores[:, kept]))
            found["rounded_roc_auc"].append(sk.roc_auc_score(targets[:, kept], rounded[:, kept].astype(int)))
            found["exact_match"].append(sk.accuracy_score(targets, rounded))
            found["hamming_loss"].append(sk.hamming_loss(targets, rounded))
        assert row.values == pytest.approx({name: np.mean(values) for name, values in found.items()})
        for metric in table.metrics:
            assert row.intervals[metric].mean == pytest.approx(row.values[metric])
            assert row.intervals[metric].low < row.values[metric] < row.intervals[metric].high
    shares = [targets.mean(0)[targets.any(0)].mean() for targets, _ in stored(tag_run, "vgg")[:2]]
    assert chance.values == {"roc_auc": 0.5, "pr_auc": pytest.approx(np.mean(shares))}
    assert frame.comparisons["roc_auc"].p_holm < 0.05 and vgg.comparisons["pr_auc"].p is None
    difference = frame.values["pr_auc"] - vgg.values["pr_auc"]
    assert frame.comparisons["pr_auc"].difference == pytest.approx(difference)


def test_every_tag_and_those_left_out(tag_run):
    """Oracle: scikit-learn for each tag, means over the folds that have it; the rest by name."""
    from sklearn import metrics as sk

    made = report.summarise([tag_run])
    (table,) = made.tag_tables
    folds = stored(tag_run, "vgg")
    calm = np.mean([sk.roc_auc_score(targets[:, 0], scores[:, 0]) for targets, scores in folds])
    seldom = np.mean([sk.average_precision_score(t[:, 3], s[:, 3]) for t, s in folds if t[:, 3].any()])
    column = {tag: number for number, tag in enumerate(table.tags)}
    assert table.rows[0].by_tag["roc_auc"][column["calm"]] == pytest.approx(calm)
    assert table.rows[0].by_tag["pr_auc"][column["seldom"]] == pytest.approx(seldom)
    assert table.left_out == {"$never$": "no clip has it in all folds", "seldom": "no clip has it in fold f1"}
    text = made.to_text().replace("\n  ", " ")
    assert "Left out of the mean over tags: $never$ (no clip has it in all folds); seldom" in text
    lines = list(csv.DictReader(io.StringIO(render.tag_csv_lines(made))))
    assert len(lines) == 3 * 4
    (never,) = [line for line in lines if line["tag"] == "$never$" and line["network"] == "vgg"]
    assert never["roc_auc"] == "" and never["left_out"].startswith("no clip has it")


def test_files_of_tags(tmp_path, tag_run, run):
    """Identity: equal bytes again; the names of a screening's files; beside classes, figures of their own."""
    names = {"report.md", "report.csv", "report.tex", "confusion.csv", "accuracy.png", "pareto.png", "tags.csv"}
    made = report.build_report([tag_run], tmp_path / "a")
    report.build_report([tag_run], tmp_path / "b")
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    (line, *_) = csv.DictReader(io.StringIO(made.to_csv()))
    row = made.tag_tables[0].best
    assert float(line["roc_auc"]) == pytest.approx(row.values["roc_auc"], rel=1e-5)
    assert float(line["pr_auc_low"]) == pytest.approx(row.intervals["pr_auc"].low, rel=1e-5)
    assert max(map(len, made.to_text().splitlines())) <= 120
    assert made.to_latex().count(r"\begin{table}") == 1
    report.build_report([tag_run, write(tmp_path / "other", of_classes, dataset="beats")], tmp_path / "c")
    assert {"accuracy.png", "accuracy_tags.png", "pareto_tags.png"} <= {
        path.name for path in (tmp_path / "c").iterdir()
    }
    lines = list(csv.DictReader(io.StringIO((tmp_path / "c" / "report.csv").read_text())))
    assert {line["dataset"] for line in lines} == {"beats", "tunes"} and {bool(line["roc_auc"]) for line in lines} == {
        True,
        False,
    }


def test_values_against_scikit_learn(tmp_path):
    """Oracle: scikit-learn's error on the labels as written; the lower error ranks first; chance is the test means."""
    from sklearn.metrics import root_mean_squared_error

    rng = np.random.default_rng(0)
    targets = np.round(rng.random((80, 2)), 3)

    def fill(make):
        for seed in (0, 1):
            make.tags("vgg", targets, np.clip(targets + 0.1 * rng.normal(size=(80, 2)), 0, 1), kind="values", seed=seed)
            make.tags("frame", targets, rng.random((80, 2)), kind="values", seed=seed)

    made = report.summarise([write(tmp_path, fill)])
    (table,) = made.tag_tables
    vgg, frame, chance = table.rows
    folds = [np.arange(80) % 2 == fold for fold in (0, 1)]
    constant = [np.tile(targets[own].mean(0), (40, 1)) for own in folds]
    by_hand = [np.sqrt(((targets[own] - said) ** 2).mean()) for own, said in zip(folds, constant, strict=True)]
    assert chance.values["rmse"] == pytest.approx(np.mean(by_hand))
    assert (
        vgg.architecture == "vgg"
        and vgg.values["rmse"] < frame.values["rmse"]
        and frame.comparisons["rmse"].p_holm < 0.05
    )
    names = {r["predictions"] for r in results.read_records(tmp_path) if r["architecture"] == "vgg"}
    said = [[row["scores"]["calm"] for row in results.read_predictions(tmp_path, name)] for name in names]
    calm = [root_mean_squared_error(targets[own, 0], np.array(seed)[own]) for seed in said for own in folds]
    assert vgg.by_tag["rmse"][list(table.tags).index("calm")] == pytest.approx(np.mean(calm), rel=1e-4)
    (line, *_) = csv.DictReader(io.StringIO(made.to_csv()))
    assert float(line["rmse_low"]) < float(line["rmse"]) < float(line["rmse_high"])
    second = list(csv.DictReader(io.StringIO(made.to_csv())))[1]
    assert (
        float(second["rmse_difference_low"]) < float(second["rmse_difference"]) < float(second["rmse_difference_high"])
    )
    assert float(second["rmse_difference"]) == pytest.approx(frame.values["rmse"] - vgg.values["rmse"], rel=1e-5)
    assert "test clips of the fold" in made.to_markdown()


def test_tag_cells_that_do_not_fit_are_left_out(tmp_path):
    """By hand: records and scores that disagree, a missing file, a tag without a score are named; the rest stands."""
    targets, scores = tagged()

    def fill(make):
        make.tags("vgg", targets, scores(1.0))
        make.tags("frame", targets, scores(1.0), wrong=0.01)
        make.tags("sample", targets, scores(1.0))

    write(tmp_path, fill)
    names = {record["architecture"]: record["predictions"] for record in results.read_records(tmp_path)}
    (tmp_path / "predictions" / names["sample"]).unlink()
    made = report.summarise([tmp_path])
    assert [row.architecture for row in made.tag_tables[0].rows] == ["vgg", "chance"]
    assert len(made.warnings) == 2 and "disagree" in made.warnings[0] and "is missing" in made.warnings[1]
    path = tmp_path / "predictions" / names["frame"]  # the first by name, of which the clips' tags are
    path.write_text(path.read_text().replace('"label": "calm"', '"label": "quiet"'))
    assert "has a tag without a score, 'quiet'" in " ".join(report.summarise([tmp_path]).warnings)


def test_the_command_knows_what_a_folder_is_of(tmp_path, tag_run):
    """Oracle: exit status and text of `report`; a training is no batch-norm study though it has a batch size."""

    def launch(*arguments):
        command = [sys.executable, str(ROOT / "launch.py"), "report", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = launch(tag_run, f"out={tmp_path / 'out'}")
    assert done.returncode == 0 and "trained on 4 tags" in done.stdout, done.stderr
    (tmp_path / "rank" / "tunes" / "untrained").mkdir(parents=True)
    mixed = launch(tag_run, tmp_path / "rank")
    assert mixed.returncode == 2 and "rank correlations and screenings and trainings have reports" in mixed.stderr
    assert launch(tmp_path).returncode == 2


# ── a real training ──


def test_report_of_a_real_training_of_tags(tmp_path):
    """Oracle: the records of the run itself; its curves and TensorBoard's events, read back, are the same numbers."""
    soundfile = pytest.importorskip("soundfile")
    from mirjax.experiments.training import Training

    rng = np.random.default_rng(0)
    rows = ["path,label"]
    for i in range(24):
        has = np.array([i % 2, i % 3 == 0])
        wave = 0.05 * rng.normal(size=6000) + has @ (
            0.3 * np.sin(np.outer([300, 2000], 2 * np.pi * np.arange(6000) / 12_000))
        )
        soundfile.write(tmp_path / f"{i}.wav", wave, 12_000)
        rows.append(f"{i}.wav,{tag_label(has)}")
    (tmp_path / "tags.csv").write_text("\n".join(rows) + "\n")
    experiment = Training(
        data=str(tmp_path / "tags.csv"), labels="many", architectures="temporal", n="2", epochs=2, made_folds=2,
        seconds=0.5, folds=("0",), batch_size=4, cache=str(tmp_path / "cache"), tensorboard=True,
    )  # fmt: skip
    records = experiment.run(tmp_path / "run", progress=False)
    made = experiment.report([tmp_path / "run"])
    (table,) = made.tag_tables
    assert table.best.values["roc_auc"] == next(r["value"] for r in records if r["metric"] == "roc_auc")
    assert (tmp_path / "run" / "curves.png").is_file() and "temporal 2, best" in made.to_text()
    (curve,) = made.curves[0][2]
    found = read_events(next((tmp_path / "run" / "tensorboard").rglob("events*")))
    for row in curve.rows:
        assert found[row["step"], "train_loss"] == pytest.approx(row["train_loss"], rel=1e-6)
        assert found[row["step"], "valid_roc_auc"] == pytest.approx(row["valid_roc_auc"], rel=1e-6)


def read_events(path):
    """{(step, name): value} of a file of TensorBoard's events: records of length, checksum, content and checksum."""
    event_pb2 = pytest.importorskip(
        "tensorboardX.proto.event_pb2", reason="tensorboardX is not installed: events not read"
    )
    content, place, found = path.read_bytes(), 0, {}
    while place < len(content):
        size = int.from_bytes(content[place : place + 8], "little")
        event = event_pb2.Event.FromString(content[place + 12 : place + 12 + size])
        found |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
        place += size + 16
    return found


def test_a_curve_goes_on(tmp_path):
    """Hand-worked: two epochs, a third after the checkpoint, a torn line; seconds count from the start."""
    from mirjax.experiments import curves

    def row(step, seconds):
        return {"epoch": step // 10, "step": step, "seconds": seconds, "scale": 1.0, "train_loss": 0.5}

    for step, rows in ((0, [row(10, 1.5), row(20, 3.0), row(30, 4.5)]), (20, [row(30, 1.25), row(40, 2.5)])):
        curve = curves.CurveWriter(tmp_path, "x", step, False, True)
        for each in rows:
            curve.add(each)
        curve.close()
    path = tmp_path / "curves" / "x.jsonl"
    path.write_text(path.read_text() + '{"epoch": 5, "st')
    curves.CurveWriter(tmp_path, "x", 40, False, True).close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["seconds"]) for line in lines] == [(10, 1.5), (20, 3.0), (30, 4.25), (40, 5.5)]


def test_tensorboard_must_be_installed(tmp_path, monkeypatch):
    """By hand: without the package the error names the field, the package and the remedy."""
    from mirjax.config import UsageError
    from mirjax.experiments import curves

    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UsageError, match="tensorboard=true needs the package tensorboardX: pip install tensorboardX"):
        curves.CurveWriter(tmp_path, "x", 0, True, True)

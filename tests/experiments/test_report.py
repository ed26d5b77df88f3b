"""Oracles: synthetic runs whose means, ranks, counts and verdicts are known by hand; scipy for rank correlation."""

import csv
import io
import re
import shutil
import unicodedata

import numpy as np
import pytest
from scipy import stats

from mirjax import metrics, results
from mirjax.experiments import report

CLASSES = ("jig", "reel_50%", "waltz&co", "ワルツ")
FOLDS = {"f1": 24, "f2": 16}
NUM_CLIPS = sum(FOLDS.values())


def decide(labels, num_right, seed):
    """Predictions of which exactly `num_right` are right; the wrong ones say the next class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    wrong = np.isin(np.arange(len(labels)), order[num_right:])
    return np.where(wrong, (labels + 1) % len(CLASSES), labels)


class Maker:
    """Writes cells into a run folder; every fold has the number of right decisions that is asked for."""

    def __init__(
        self, run, dataset="tunes", protocol="cv", selection="nested", groups=False, split_hash="s", folds=FOLDS
    ):
        self.run, self.dataset, self.protocol, self.selection = run, dataset, protocol, selection
        self.groups, self.split_hash, self.folds = groups, split_hash, folds

    def cell(self, architecture, right, *, seed=0, n=None, classifier="elm", input="raw", options=None, **other):
        width = other.get("width", 120 if n else None)
        identity = {
            "dataset": self.dataset,
            "architecture": architecture,
            "width": width,
            "n": n,
            "input": input,
            "options": options or {},
            "seed": seed,
            "classifier": classifier,
            "scaling": "none",
            "protocol": self.protocol,
            "selection": self.selection,
        }
        records, rows, clip = [], [], 0
        for (fold, size), count in zip(self.folds.items(), right, strict=True):
            labels = np.arange(size) % len(CLASSES)
            # Clips are as hard for all: the same order of easy to hard, one clip swapped by seed.
            predictions = (
                np.zeros(size, int) if architecture == "majority" else decide(labels, count, other.get("luck", 0))
            )
            values = metrics.score(labels, predictions)
            if architecture == "chance":
                values = dict.fromkeys(metrics.METRICS, 1 / len(CLASSES))
            for metric, value in values.items():
                records.append(
                    dict.fromkeys(results.RECORD_FIELDS)
                    | identity
                    | {
                        "experiment": "test",
                        "fold": fold,
                        "metric": metric,
                        "value": value,
                        "hyperparameters": {"hidden": 100 if fold == "f1" else 250} if classifier == "elm" else {},
                        "num_parameters": 12_345 if n else 0,
                        "num_features": 14 * (n or 0),
                        "gflops": 0.25 * (n or 0),
                        "seconds": 0.5,
                        "feature_seconds_per_clip": 0.002 if n else 0.0,
                        "split_hash": self.split_hash,
                        "commit": "0123abcd",
                        "versions": {"jax": "0.10"},
                        "fingerprint": results.fingerprint(**identity, fold=fold, metric=metric, right=list(right)),
                    }
                )
            for label, prediction in zip(labels, predictions, strict=True):
                group = f"g{clip % 5}" if self.groups else f"c{clip:03d}"
                row = {"id": f"c{clip:03d}", "fold": fold, "group": group, "scores": None}
                rows.append(row | {"label": CLASSES[label], "prediction": CLASSES[prediction]})
                clip += 1
        name = None if architecture == "chance" else f"{results.fingerprint(**identity)}.jsonl"
        self.run.append(records, rows if name else (), name)

    def baselines(self, mfcc=(12, 8), classifiers=("elm",)):
        self.cell("chance", (0, 0), classifier="none")
        self.cell("majority", (0, 0), classifier="none")
        for classifier in classifiers:
            self.cell("mfcc", mfcc, classifier=classifier)


def write(folder, fill, **settings):
    with results.RunFolder.open(folder, {"seeds": [0]}) as run:
        fill(Maker(run, **settings))
    return folder


def ten(make, classifier="elm", lead=0, seeds=(0, 1, 2), **other):
    """Networks with known accuracies; the seeds are one clip apart."""
    for name, n, right in (
        ("sample", 23, (20, 14)),
        ("frame_many", 20, (12, 8)),
        ("frame", 40, (12, 8)),
        ("vgg", 32, (22 + lead, 15)),
    ):
        for seed in seeds:
            step = (0, 1, -1)[seed]
            make.cell(name, (right[0] + step, right[1]), seed=seed, n=n, classifier=classifier, luck=seed, **other)


def small(make):
    make.baselines()
    ten(make)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write(tmp_path_factory.mktemp("run"), small)


def rows_of(table):
    return {row.architecture: row for row in table.rows}


def test_means_ranks_and_counts(run):
    # Worked by hand: vgg (22/24 + 15/16)/2 on average over seeds 22, 23, 21; ranks in that order; mfcc 1/2.
    (table,) = report.summarise([run]).tables
    rows = rows_of(table)
    assert rows["vgg"].accuracy == pytest.approx((22 / 24 + 15 / 16) / 2)
    assert rows["sample"].accuracy == pytest.approx((20 / 24 + 14 / 16) / 2)
    assert rows["mfcc"].accuracy == pytest.approx(1 / 2)
    assert rows["majority"].accuracy == pytest.approx(1 / 4)
    assert rows["chance"].accuracy == pytest.approx(1 / 4)
    assert [row.rank for row in table.rows] == [1, 2, 3, 4, 5, None, None]
    assert [row.architecture for row in table.rows][:2] == ["vgg", "sample"]
    assert rows["vgg"].seeds == (0, 1, 2) and rows["vgg"].num_clips == NUM_CLIPS
    # The mean over folds differs from the one over clips, and the interval is about the former.
    assert rows["vgg"].interval.mean == pytest.approx(rows["vgg"].accuracy)
    assert rows["vgg"].interval.mean != pytest.approx((22 + 15) / 40)
    assert rows["vgg"].interval.low < rows["vgg"].accuracy < rows["vgg"].interval.high
    assert rows["chance"].interval is None and rows["majority"].comparison is None
    assert rows["vgg"].comparison.p is None and rows["sample"].comparison.p_holm > 0.05
    assert rows["mfcc"].comparison.p_holm < 0.05 and rows["frame"].comparison.p_holm < 0.05
    assert rows["vgg"].num_parameters == 12_345 and rows["vgg"].num_features == 14 * 32
    assert rows["vgg"].gflops == 8 and rows["vgg"].feature_seconds_per_clip == pytest.approx(0.002)
    assert rows["vgg"].hyperparameters == {"hidden": 100}


def test_t_test_and_balanced_scores(run):
    # Oracles: scipy's t-test over the networks' accuracies, by hand; the metrics of the records.
    (table,) = report.summarise([run]).tables
    rows = rows_of(table)
    vgg = [(count / 24 + 15 / 16) / 2 for count in (22, 23, 21)]
    sample = [(count / 24 + 14 / 16) / 2 for count in (20, 21, 19)]
    assert rows["sample"].comparison.t_test_p == pytest.approx(stats.ttest_ind(vgg, sample).pvalue)
    assert rows["sample"].comparison.difference == pytest.approx(np.mean(sample) - np.mean(vgg))
    stored = [r for r in results.read_records(run) if r["architecture"] == "sample"]
    for metric in metrics.METRICS:
        expected = np.mean([r["value"] for r in stored if r["metric"] == metric])
        assert getattr(rows["sample"], metric) == pytest.approx(expected)


def test_confusion_of_the_best(run):
    # By hand: 3 seeds × 40 clips, 111 right (22 + 23 + 21 + 3·15), wrong ones in the next class.
    (table,) = report.summarise([run]).tables
    assert table.confusion.sum() == 120 and table.confusion.trace() == 111
    assert table.classes == tuple(sorted(CLASSES))
    order = [sorted(CLASSES).index(name) for name in CLASSES]
    by_maker = table.confusion[np.ix_(order, order)]
    assert sum(by_maker[i, (i + 1) % 4] for i in range(4)) == 9
    assert (by_maker.sum(1) == 30).all()


def test_notes_say_what_is_not_there(tmp_path):
    # By hand: one seed, one split and legacy selection are each named below the table.
    def split(make):
        for name, right, n in (("chance", 0, None), ("majority", 0, None), ("mfcc", 20, None), ("vgg", 30, 32)):
            make.cell(name, (right,), n=n, classifier="elm" if name in ("mfcc", "vgg") else "none")

    write(tmp_path, split, protocol="split", selection="legacy", folds={"test": 40})
    (table,) = report.summarise([tmp_path]).tables
    notes = " ".join(table.notes)
    assert "spread between seeds" in notes and "choice of the split" in notes
    assert "optimistic" in notes and "very networks" in notes and "not to be told from one seed" in notes
    assert table.kendall is None and table.variance is None


def test_inputs_and_options_share_a_table(tmp_path):
    # By hand: raw and standardised vgg are two rows of one table; an option that differs is part of the name.
    def fill(make):
        make.baselines()
        common = {"fit": "repeat"}
        make.cell("vgg", (20, 12), n=32, options=common)
        make.cell("vgg", (22, 14), n=32, options=common, input="standardised")
        make.cell("frame", (10, 6), n=40, options=common | {"legacy_collapse": True})
        make.cell("sample", (15, 10), n=7, width=None, options=common)

    made = report.summarise([write(tmp_path, fill)])
    (table,) = made.tables
    assert [table.full_label(row) for row in table.rows][:2] == ["vgg standardised", "vgg raw"]
    assert "mfcc" in [table.full_label(row) for row in table.rows]
    (note,) = table.choices()
    assert "hidden=100 (vgg standardised, vgg raw, sample raw, mfcc, frame (legacy_collapse) raw)" in note
    assert "frame (legacy_collapse)" in [table.label(row) for row in table.rows]
    assert "sample" in rows_of(table)
    assert "standardised (transductive)" in made.to_markdown() and "std (transd.)" in made.to_text()
    assert any("fit=repeat" in note for note in table.notes)


def test_tables_are_told_apart_and_folders_merge(tmp_path, run):
    # By hand: two classifiers and two widths over two folders make four tables; the same folder twice adds nothing.
    def svm(make):
        make.baselines(classifiers=("svm",))
        ten(make, classifier="svm")

    def wide(make):
        make.baselines(classifiers=("svm", "elm"))
        for classifier in ("svm", "elm"):
            ten(make, classifier=classifier, width=3500)

    folders = [run, write(tmp_path / "svm", svm), write(tmp_path / "wide", wide)]
    made = report.summarise([*folders, run])
    assert [(t.classifier, t.width) for t in made.tables] == [("elm", 120), ("svm", 120), ("elm", 3500), ("svm", 3500)]
    assert all(len(t.rows) == 7 and {"mfcc", "chance", "majority"} <= rows_of(t).keys() for t in made.tables)
    alone = report.summarise([run]).tables[0]
    assert [r.accuracy for r in made.tables[0].rows] == [r.accuracy for r in alone.rows]


def test_several_data_sets_are_ranked_together(tmp_path):
    # Oracle: scipy's spearmanr on the accuracies; average ranks by hand.
    def other(make):
        make.baselines(mfcc=(16, 10))
        ten(make, lead=-8)  # vgg now ranks behind sample and mfcc

    folders = [write(tmp_path / "a", small), write(tmp_path / "b", other, dataset="beats", split_hash="t")]
    made = report.summarise(folders)
    (ranking,) = made.rankings
    assert ranking.datasets == ("beats", "tunes")
    beats, tunes = ({r.architecture: r.accuracy for r in t.rows if r.rank} for t in made.tables)
    names = sorted(beats)
    expected = stats.spearmanr([beats[k] for k in names], [tunes[k] for k in names]).statistic
    assert ranking.correlation == pytest.approx(np.array([[1, expected], [expected, 1]]))
    ranks = dict(zip(ranking.labels, ranking.ranks, strict=True))
    assert ranks["sample"] == pytest.approx((1 + 2) / 2) and ranks["vgg"] == pytest.approx((2 + 1) / 2)
    assert "Spearman" in made.to_text() and "average rank" in made.to_markdown()


def test_published_orderings(run):
    # By hand: sample is 35 points above frame_many (reproduced); frame_many and frame decide alike (undecided); the
    # best network is far above mfcc. Claims about absent networks are left out.
    verdicts = {(r.claim.first, r.claim.second): r for r in report.summarise([run]).orderings}
    assert verdicts["sample", "frame_many"].verdict == "reproduced"
    assert verdicts["sample", "frame_many"].difference.difference == pytest.approx((8 / 24 + 6 / 16) / 2)
    assert verdicts["frame_many", "frame"].verdict == "undecided"
    assert verdicts["best network", "mfcc"].verdict == "reproduced"
    assert set(verdicts) == {("sample", "frame_many"), ("frame_many", "frame"), ("best network", "mfcc")}


def test_refuted_and_equal(tmp_path):
    # By hand: 7x96 above 7x86 refutes `>` and `=`; vgg and timbral_temporal decide alike, so = holds.
    def fill(make):
        make.baselines(mfcc=(23, 16))
        for seed in range(3):
            make.cell("7x86", (10, 6), n=160, seed=seed, luck=seed)
            make.cell("7x96", (20, 14), n=160, seed=seed, luck=seed)
            make.cell("vgg", (18, 12), n=32, seed=seed)
            make.cell("timbral_temporal", (18, 12), n=4, seed=seed)

    found = {(r.claim.first, r.claim.relation): r.verdict for r in report.summarise([write(tmp_path, fill)]).orderings}
    assert found["7x86", ">"] == found["7x86", "="] == "refuted"
    assert found["vgg", "="] == "reproduced"
    assert found["best network", ">"] in ("refuted", "undecided")


def test_incomplete_cells_are_left_out_with_a_warning(tmp_path):
    # By hand: a cell that lacks a fold, one without decisions and one whose decisions disagree are named, not counted.
    write(tmp_path, small)
    path = tmp_path / "records.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not ('"frame"' in line and '"seed": 2' in line and '"f2"' in line)]
    assert len(lines) - len(kept) == 3
    path.write_text("".join(kept))
    records = results.read_records(tmp_path)
    names = {(r["architecture"], r["seed"]): r["predictions"] for r in records}
    (tmp_path / "predictions" / names["vgg", 1]).unlink()
    wrong = tmp_path / "predictions" / names["sample", 0]
    wrong.write_text(wrong.read_text().replace(f'"prediction": "{CLASSES[0]}"', f'"prediction": "{CLASSES[1]}"'))
    made = report.summarise([tmp_path])
    rows = rows_of(made.tables[0])
    assert rows["frame"].seeds == (0, 1) and rows["vgg"].seeds == (0, 2) and rows["sample"].seeds == (1, 2)
    text = made.to_markdown()
    for part in ("frame, n=40", "folds ['f2'] are missing", "vgg, n=32", "is missing", "sample, n=23", "disagree"):
        assert part in text
    assert len(made.warnings) == 3


def test_refuses_what_cannot_be_compared(tmp_path, run):
    # By hand: no folder, no records, and two splits of one data set.
    with pytest.raises(ValueError, match="no run folder"):
        report.summarise([])
    with pytest.raises(ValueError, match=r"no records\.jsonl"):
        report.summarise([tmp_path / "nothing"])
    with pytest.raises(ValueError, match="split differently"):
        report.summarise([run, write(tmp_path / "other", small, split_hash="another")])


def test_refuses_other_data_under_the_same_name(tmp_path, run):
    # By hand: the same cells with other results, so other fingerprints, in a second folder and then in one folder.
    def other(make):
        make.baselines()
        ten(make, lead=-8)

    folder = write(tmp_path / "other", other)
    with pytest.raises(ValueError, match=r"tunes, vgg, n=32.*rename one data set or report them apart") as error:
        report.summarise([run, folder])
    assert str(run) in str(error.value) and str(folder) in str(error.value)

    def twice(make):
        make.cell("mfcc", (12, 8))
        make.cell("mfcc", (14, 8))

    with pytest.raises(ValueError, match=r"tunes, mfcc.*twice holds two different results.*empty workdir"):
        report.summarise([write(tmp_path / "twice", twice)])


def test_says_when_nothing_is_complete_yet(tmp_path):
    # By hand: chance and majority alone make no table; a second data set that got no further is named beside the first.
    def begun(make):
        make.cell("chance", (0, 0), classifier="none")
        make.cell("majority", (0, 0), classifier="none")

    with results.RunFolder.open(tmp_path / "empty", {}) as run:
        run.append([])
    (tmp_path / "empty" / "records.jsonl").touch()
    for folder in (write(tmp_path / "begun", begun), tmp_path / "empty"):
        made = report.build_report([folder])
        assert not made.tables and made.to_csv() == made.to_confusion_csv() == ""
        for text in (made.to_text(), (folder / "report.md").read_text(encoding="utf-8")):
            assert "no complete cell of a network or of mfcc yet; run again to go on" in text
    with results.RunFolder.open(tmp_path / "begun", {"seeds": [0]}) as run:
        small(Maker(run, dataset="beats"))
    made = report.summarise([tmp_path / "begun"])
    assert [table.dataset for table in made.tables] == ["beats"]
    assert [warning.partition(":")[0] for warning in made.warnings] == ["tunes"]


@pytest.mark.parametrize("config", [None, '{"seeds": [0', "[]"])
def test_needs_no_configuration(tmp_path, run, config):
    # Identity: without config.json, or with a torn one, the report is the same.
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / "config.json").unlink()
    if config is not None:
        (folder / "config.json").write_text(config)
    made = report.build_report([folder], tmp_path / "out")
    assert made.to_markdown() == report.summarise([run]).to_markdown()


def test_damaged_decisions_are_named(tmp_path):
    # By hand: a torn line, JSON of another shape, a missing field and scores that are no dict are one kind of error.
    def fill(make):
        small(make)

    write(tmp_path, fill)
    names = {(r["architecture"], r["seed"]): r["predictions"] for r in results.read_records(tmp_path)}
    path = tmp_path / "predictions" / names["vgg", 1]
    whole = path.read_text(encoding="utf-8")
    wrong = ('{"id": "c0', '{"x": 1}', "[1, 2]", "3", "null", whole.splitlines()[0].replace("null", "5"))
    for line in (*wrong, whole.splitlines()[0].replace('"group"', '"grup"')):
        path.write_text(whole + line + "\n", encoding="utf-8")
        with pytest.raises(ValueError, match=rf"{path.name} is damaged: .*; delete it and run again"):
            results.read_predictions(tmp_path, path.name)
    made = report.summarise([tmp_path])
    assert rows_of(made.tables[0])["vgg"].seeds == (0, 2)
    assert len(made.warnings) == 1 and "line 41 is not a dict of id, fold, group" in made.warnings[0]


def test_control_characters_are_written_as_escapes(tmp_path):
    # Oracle: Unicode's own categories and line ends: no line but those of the report of harmless names.
    def fill(make):
        small(make)

    plain = report.summarise([write(tmp_path / "plain", fill, dataset="tunes")])
    folder = write(tmp_path / "nasty", fill, dataset="tu\nnes")
    for path in (folder / "predictions").iterdir():
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace('"jig"', r'"j\ni\tg\u0007\u001b[2J\u2028\r\ud800"'), encoding="utf-8")
    made = report.build_report([folder])
    assert made.tables[0].classes[0] == "j\ni\tg\a\x1b[2J\u2028\r\ud800"  # kept as they are in the data
    for writer in ("to_text", "to_markdown", "to_latex", "to_csv", "to_confusion_csv"):
        text = getattr(made, writer)()
        assert not {unicodedata.category(sign) for sign in text.replace("\n", "")} & {"Cc", "Cs", "Zl", "Zp"}
        assert len(text.splitlines()) == len(getattr(plain, writer)().splitlines())
    assert r"j\ni\tg\x07" in made.to_markdown() and r"j\textbackslash{}ni" in made.to_latex()
    assert r"## tu\nnes: elm" in made.to_markdown()


def test_terminal_is_brief_where_markdown_is_complete(tmp_path):
    # By hand: nine rows have hyper-parameters, two of five orderings (frame_many and frame, by input) are undecided.
    def fill(make):
        make.baselines()
        for kind in ("raw", "standardised"):
            ten(make, input=kind)

    made = report.summarise([write(tmp_path, fill)])
    text, markdown = made.to_text(), made.to_markdown()
    notes = [" ".join(part.split()) for part in re.findall(r"Most frequent choice[^.]*\.", text + markdown)]
    assert "the best 5 rows: hidden=100 (vgg raw, vgg standardised, sample raw, sample standardised, f" in notes[0]
    assert notes[0].count(",") == 5 and "mfcc" not in notes[0] and "rows" not in notes[1]
    assert all(name in notes[1] for name in ("frame_many raw", "frame standardised", "mfcc")) and len(notes) == 2
    assert [r.verdict for r in made.orderings].count("undecided") == 2 and len(made.orderings) == 5
    assert " undecided\n" not in text and markdown.count("| undecided |") == 2
    assert "2 of 5 are undecided; report.md lists them all." in text and "sample > frame_many" in text


def test_text_without_a_decided_ordering(tmp_path):
    # By hand: two networks that decide alike leave no row, only the number.
    def fill(make):
        make.cell("frame_many", (12, 8), n=20)
        make.cell("frame", (12, 8), n=40)

    text = report.summarise([write(tmp_path, fill)]).to_text()
    assert "1 of 1 are undecided" in text and "verdict" not in text


def test_files_are_complete_and_deterministic(tmp_path, run):
    # Identity: the same records give the same bytes; the first folder is the default place.
    first, second = tmp_path / "one", tmp_path / "two"
    made = report.build_report([run], first)
    report.build_report([run], second)
    names = {"report.md", "report.csv", "report.tex", "confusion.csv", "accuracy.png", "pareto.png"}
    assert {path.name for path in first.iterdir()} == names
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    report.build_report([run])
    assert (run / "report.md").read_text(encoding="utf-8") == made.to_markdown()


def test_text_fits_a_terminal(tmp_path):
    # By hand: at most 120 columns by Unicode's own widths; wide class names keep the confusion matrix straight.
    def fill(make):
        make.baselines(classifiers=("elm", "svm"))
        for classifier in ("elm", "svm"):
            ten(make, classifier=classifier, options={"seconds": 29.1667, "fit": "repeat"})
            make.cell("a_network_with_quite_a_long_name", (20, 12), n=3584, classifier=classifier, input="standardised")

    text = report.summarise([write(tmp_path, fill, groups=True)]).to_text()

    def width(line):
        return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in line)

    assert max(map(width, text.splitlines())) <= 120
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Confusion"))
    assert len({width(line) for line in lines[start + 1 : start + 6]}) == 1
    assert "vgg" in text and "12.3k" in text


def test_csv_holds_the_numbers(run):
    # Oracle: the table's own values, read back by Python's csv.
    made = report.summarise([run])
    lines = list(csv.DictReader(io.StringIO(made.to_csv())))
    assert len(lines) == 7
    for line, row in zip(lines, made.tables[0].rows, strict=True):
        assert line["architecture"] == row.architecture and line["dataset"] == "tunes"
        assert float(line["accuracy"]) == pytest.approx(row.accuracy, rel=1e-5)
        assert (line["low"] == "") == (row.interval is None)
        assert int(line["num_seeds"]) == len(row.seeds)


def test_confusion_csv_holds_the_matrix(run):
    # Oracle: scikit-learn's confusion matrix of the stored decisions, read back by Python's csv.
    from sklearn.metrics import confusion_matrix

    lines = list(csv.DictReader(io.StringIO(report.summarise([run]).to_confusion_csv())))
    names = {r["predictions"] for r in results.read_records(run) if r["architecture"] == "vgg"}
    rows = [row for name in names for row in results.read_predictions(run, name)]
    classes = sorted(CLASSES)
    expected = confusion_matrix([r["label"] for r in rows], [r["prediction"] for r in rows], labels=classes)
    found = np.zeros((4, 4), int)
    for line in lines:
        assert (line["dataset"], line["classifier"], line["width"], line["architecture"]) == (
            "tunes",
            "elm",
            "120",
            "vgg",
        )
        found[classes.index(line["true"]), classes.index(line["predicted"])] += int(line["count"])
    assert len(lines) == 16 and (found == expected).all() and found.sum() == 120


def test_latex_is_well_formed(run):
    # By hand: no bare special sign outside commands, environments closed, as many cells as columns; a table, its
    # confusion (four classes beside number and name) and the orderings.
    text = report.summarise([run]).to_latex()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 3
    assert re.search(r"frame\\_many", text) and not re.search(r"(?<!\\)[_#&%](?=\w)", text.replace("%\n", "\n"))
    first = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in first.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {14} and len(rows) == 8
    second = text[text.index("Confusion of the best, vgg") : text.index("Published orderings")]
    rows = [line for line in second.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {5} and len(rows) == 5
    assert r"reel\_50\%" in second and r"waltz\&co" in second
    for sign in "<>≥×–τ±":
        assert sign not in re.sub(r"\$[<>]\$|width>", "", text)
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")

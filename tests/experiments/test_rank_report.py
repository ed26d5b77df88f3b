"""What a rank correlation says, from a table whose numbers are known."""

import csv

import numpy as np
import pytest
from scipy import stats

from mirjax.experiments import rank_report

NETWORKS = ("sample-n23", "frame_many-n20", "frame-n40", *(f"net{i}" for i in range(3, 8)))
# Of two seeds, infinite for some networks; the last network has none.
SYNFLOW = ((-np.inf, 2.0), (1.0, -np.inf), (3.0, 4.0), (2.0, 3.0), (5.0, 5.0), (4.0, 7.0), (9.0, 9.0), ())


def packed(correct):
    return f"{len(correct)}:{np.packbits(correct).tobytes().hex()}"


@pytest.fixture
def table(tmp_path):
    """Decisions on 50 clips of eight networks, untrained (two seeds) and trained (two), and one proxy."""
    rng = np.random.default_rng(0)
    rows, means = [], {}
    for kind, method, given in (("untrained", "elm", "raw"), ("trained", "trained", "")):
        for i, network in enumerate(NETWORKS):
            for seed in range(2):
                correct = rng.random(50) < 0.2 + 0.07 * i + (0.1 if kind == "trained" else 0)
                means.setdefault(kind, {}).setdefault(network, []).append(correct.mean())
                rows.append([network, "set", kind, method, given, seed, correct.mean(), 1.0, "", packed(correct)])
    for i, network in enumerate(NETWORKS):
        rows.append([network, "set", "proxy", "num_parameters", "", 0, [3, 1, 2, 8, 5, 4, 7, 6][i], 0.0, "", ""])
        for seed, value in enumerate(SYNFLOW[i]):
            rows.append([network, "set", "proxy", "synflow", "", seed, value, 0.0, "", ""])
    path = tmp_path / "table.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([rank_report.COLUMNS, *rows])
    return path, {kind: np.array([np.mean(each[n]) for n in NETWORKS]) for kind, each in means.items()}


def test_correlations_and_regrets(table, tmp_path):
    """Oracle: scipy's Spearman and Kendall of the means over seeds; regret of the first one by hand."""
    path, means = table
    report = rank_report.build_report([path], tmp_path / "out")
    (found,) = report.sets
    elm = next(each for each in found.methods if each.name == "elm (raw)")
    assert elm.spearman.correlation == pytest.approx(stats.spearmanr(*means.values())[0])
    assert elm.kendall.correlation == pytest.approx(stats.kendalltau(*means.values())[0])
    assert elm.spearman.low <= elm.spearman.correlation <= elm.spearman.high
    highest = np.isclose(means["untrained"], means["untrained"].max())  # two networks tie: the mean of either choice
    first = means["trained"][highest].mean()
    assert elm.regrets[0].regret == pytest.approx(means["trained"].max() - first)
    proxy = next(each for each in found.methods if each.name == "num_parameters")
    expected = stats.spearmanr([3, 1, 2, 8, 5, 4, 7, 6], means["trained"])[0]
    assert proxy.spearman.correlation == pytest.approx(expected)
    synflow = next(each for each in found.methods if each.name == "synflow")
    ranks = stats.rankdata(np.array(SYNFLOW[:-1]), axis=0).mean(1)
    assert synflow.num_networks == 7 and len(found.networks) == 8
    assert synflow.spearman.correlation == pytest.approx(stats.spearmanr(ranks, means["trained"][:-1])[0])
    assert found.num_clips == 50 and found.trained.correct.shape == (8, 2, 50)
    text = (tmp_path / "out" / "report.md").read_text()
    assert f"{elm.spearman.correlation:.2f}" in text and "at random" in text
    orderings = [line for line in text.splitlines() if "(everywhere)" in line]
    assert [line.split(" (")[0] for line in orderings] == ["| sample > frame_many", "| frame_many > frame"]
    lead = 100 * (means["trained"][0] - means["trained"][1])
    assert orderings[0].split(" | ")[2].startswith(f"{lead:+.1f} (")
    assert " of 2, and in " in text
    assert "Judged on fewer networks: synflow: 7 of 8 networks." in text
    for name in ("rank_scatter.png", "rank_correlations.png"):
        assert (tmp_path / "out" / name).read_bytes()[:4] == b"\x89PNG"


def test_a_written_table_reads_back(table, tmp_path):
    """Hand-worked: the rows of the table that was given."""
    path, _ = table
    rank_report.build_report([path], tmp_path / "out")
    assert rank_report.read_table(tmp_path / "out" / "table.csv") == rank_report.read_table(path)


def test_several_data_sets_are_summed_up(table, tmp_path):
    """Oracle: the mean of the correlations of each; the second set is the first with its networks' names turned."""
    path, _ = table
    other = tmp_path / "other.csv"
    rows = list(csv.DictReader(open(path, encoding="utf-8", newline="")))
    turned = dict(zip(NETWORKS, NETWORKS[::-1], strict=True))
    for row in rows:
        row["set"] = "second"
        row["network"] = turned[row["network"]] if row["method"] == "num_parameters" else row["network"]
    with open(other, "w", newline="") as file:
        writer = csv.DictWriter(file, rank_report.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    report = rank_report.build_report([path, other], tmp_path / "out")
    proxies = [next(m.spearman.correlation for m in s.methods if m.name == "num_parameters") for s in report.sets]
    assert proxies[0] != proxies[1]
    lines = report.to_markdown().split("## All data sets")[1].splitlines()
    line = next(line for line in lines if line.startswith("| num_parameters"))
    assert line.split(" | ")[1:4] == [f"{value:.2f}" for value in (*proxies, np.mean(proxies))]


def test_what_is_no_table_is_told(table, tmp_path):
    """Hand-worked: another CSV, and an empty folder."""
    (tmp_path / "other.csv").write_text("path,label\na.wav,x\n")
    with pytest.raises(ValueError, match="is no table of a rank correlation"):
        rank_report.read_table(tmp_path / "other.csv")
    with pytest.raises(ValueError, match="holds no rank correlation"):
        rank_report.read_table(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a table; say where the report goes"):
        rank_report.build_report([table[0]])

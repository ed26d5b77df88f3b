"""The measured table of ranks, and what the page says of it."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mirjax.experiments import rank_report, rank_table
from mirjax.models import space

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "benchmarks" / "rank_correlation.csv"
PAGE = (ROOT / "docs" / "rank_correlation.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def values():
    """{set: {method: {network: [value of each seed]}}}, and accuracies counted from the decisions."""
    found: dict = {}
    for row in rank_table.read_table(TABLE):
        name = f"{row['method']} ({row['input']})" if row["input"] else row["method"]
        of_network = found.setdefault(row["set"], {}).setdefault(name, {}).setdefault(row["network"], {})
        assert row["seed"] not in of_network
        of_network[row["seed"]] = row["value"]
        if row["correct"]:
            count, _, digits = row["correct"].partition(":")
            of_network[row["seed"]] = bin(int(digits, 16)).count("1") / int(count)
            assert row["value"] == pytest.approx(of_network[row["seed"]], abs=1e-6)
    return found


def test_the_table_is_whole(values):
    """Hand-worked: on every set the same networks, the first of the space, with every method and as many seeds."""
    for methods in values.values():
        networks = set(methods["trained"])
        assert networks == set(space.names(len(networks))) and len(networks) >= 60
        for method, of_network in methods.items():
            if method not in ("synflow", "naswot"):  # which may be infinite
                assert set(of_network) == networks, method
                assert len({tuple(seeds) for seeds in of_network.values()}) == 1, method


def test_the_page_says_what_the_table_holds(values):
    """Oracle: scipy's Spearman of the means (of proxies: of ranks) over seeds, for every line of the page's summary."""
    summary = PAGE.split("\nSpearman's correlation with trained accuracy;")[1].split("\n\n")[1].splitlines()
    sets = [cell.strip() for cell in summary[0].strip("| ").split("|")][1:-3]
    assert sets == list(values)
    lines = {line.split(" | ")[0].strip("| "): line for line in summary[2:]}
    told = 0
    for method in values[sets[0]]:
        if method == "trained" or len(values[sets[0]][method]) < len(values[sets[0]]["trained"]):
            continue
        numbers = re.findall(r"-?\d+\.\d+", lines[method].removeprefix(f"| {method}"))
        expected = []
        for name in sets:
            trained, scores = values[name]["trained"], values[name][method]
            table = np.array([list(scores[network].values()) for network in trained])
            if "(" not in method:
                table = stats.rankdata(table, axis=0)
            truth = [np.mean(list(seeds.values())) for seeds in trained.values()]
            expected.append(stats.spearmanr(np.round(table.mean(1), 12), np.round(truth, 12)).statistic)
        assert [float(n) for n in numbers[: len(sets) + 1]] == pytest.approx([*expected, np.mean(expected)], abs=0.0051)
        told += 1
    assert told >= 10


def test_the_prose_says_what_the_tables_say():
    """Oracle: the page's tables; README and the page tell the best method's correlations, set by set."""
    lines = {line.split(" | ")[0].strip("| "): re.findall(r"-?\d+\.\d+", line) for line in PAGE.splitlines()}
    summary = PAGE.split("\nSpearman's correlation with trained accuracy;")[1]
    count = summary.split("\n\n")[1].splitlines()[0].count("|") - 5
    expected = lines["svm (standardised)"][:count]
    for text, begin in ((README, "correlates with the trained one by"), (PAGE, "Untrained accuracy ranks 60 networks")):
        said = re.findall(r"\b\d\.\d\d\b", text.split(begin)[1])[:count]
        assert said == expected, begin
    means = [lines[name][count] for name in ("gradient_norm", "snip", "synflow", "naswot")]
    lowest, highest = re.search(r"average (\S+) to (\d\.\d\d)", README).groups()
    assert [lowest.replace("−", "-"), highest] == [min(means, key=float), max(means, key=float)]


@pytest.mark.slow
def test_the_report_of_the_docs_is_of_the_table(tmp_path):
    """Oracle: what the command makes of the table; the page's own tables stand in it."""
    report = rank_report.build_report([TABLE], tmp_path).to_markdown()
    assert (ROOT / "docs" / "rank_correlation_sets.md").read_text(encoding="utf-8") == report
    tables = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert len(tables) > 20 and all(line in report for line in tables)


def test_the_example_of_the_page_runs(monkeypatch, capsys):
    """Hand-worked: a correlation comes out."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(compile(code, "docs/rank_correlation.md", "exec"), {})
    assert -1 <= float(capsys.readouterr().out) <= 1

"""Classifiers against one another: differences worked by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from mirjax.experiments.machines import cells, compare_machines


def row(name, right, *, seeds=(0, 1), rank=1, num_clips=10):
    """A row of a table in which seed s got right[s] of ten clips right."""
    correct = np.array([[clip < count for clip in range(num_clips)] for count in right], float)
    baseline = name in ("mfcc", "majority")
    return SimpleNamespace(
        setting=(name, 0, "raw", "{}"), seeds=seeds, correct=correct, rank=rank, is_baseline=baseline
    )


def table(dataset, classifier, *rows, scaling="none"):
    return SimpleNamespace(
        dataset=dataset,
        classifier=classifier,
        scaling=scaling,
        protocol="cv",
        selection="nested",
        width=120,
        rows=rows,
    )


TABLES = [
    table(
        "tunes", "svm", row("vgg", [7, 5]), row("mfcc", [6], seeds=(0,)), row("majority", [1], seeds=(0,), rank=None)
    ),
    table("tunes", "elm", row("vgg", [5, 6]), row("mfcc", [6, 8]), row("majority", [1, 1], rank=None)),
    table("songs", "svm", row("vgg", [4, 4])),
    table("songs", "elm", row("vgg", [2, 1])),
    table("songs", "elm_kernel", row("vgg", [9], seeds=(1,)), row("mfcc", [5], seeds=(0,))),
    table("songs", "elm", row("vgg", [10, 10]), scaling="standard"),  # the reference has no scaled row
]
KERNEL = [table("tunes", "elm_kernel", row("mfcc", [9], seeds=(0,)))]


def test_differences_by_hand():
    """Oracle: worked by hand. elm: vgg −.2, +.1; mfcc 0, +.2 against its one result; songs −.2, −.3."""
    assert [len(machine.differences) for machine in compare_machines([*TABLES, *KERNEL])] == [2, 5, 6]
    kernel, svm, elm = compare_machines(TABLES)
    assert (kernel.classifier, elm.classifier) == ("elm_kernel", "elm")
    assert sorted(elm.differences) == pytest.approx([-0.3, -0.2, -0.2, 0, 0.1, 0.2])
    assert elm.by_dataset == pytest.approx({"tunes": 0.025, "songs": -0.25})
    assert not any(svm.differences) and svm.accuracy == pytest.approx((0.6 + 0.4) / 2)
    assert kernel.differences == pytest.approx((0.5,))  # one seed meets the same seed, not the other network
    # Means of networks: tunes −.05 and .1, songs −.25: no draw leaves their range.
    assert -0.2501 < elm.low < np.mean([-0.05, 0.1, -0.25]) < elm.high < 0.1001
    assert kernel.low == kernel.high == pytest.approx(0.5)


def test_the_table_is_in_points():
    """Oracle: the same differences, written out; accuracy of elm: (.55 + .7) / 2 on tunes, .15 on songs."""
    head, (kernel, _, elm) = cells(compare_machines(TABLES))
    assert head[-2:] == ["songs", "tunes"]
    assert elm[:10] == ["elm", "none", "38.8", "6", "50 %", "33 %", "-10.0", "-30.0", "+20.0", "-6.7"]
    assert elm[-2:] == ["-25.0", "+2.5"]
    assert kernel[-2:] == ["+50.0", "–"] and kernel[3] == "1"


def test_nothing_to_compare():
    """Oracle: the contract: no table without the reference, or with it alone."""
    assert compare_machines(TABLES[:1]) == compare_machines(TABLES[1:2]) == compare_machines([]) == []


def test_interval_covers_what_data_sets_differ_by():
    """Oracle: a simulation with a known mean of 0: five data sets that differ, eleven networks that hardly do.

    With so few data sets a bootstrap falls short of 95 %; over networks alone it would cover less than half.
    """
    random = np.random.default_rng(0)
    covered = []
    for _ in range(40):
        of_set = random.normal(size=5)
        differences = np.clip(0.5 + 0.05 * (of_set[:, None] + 0.1 * random.normal(size=(5, 11))), 0, 1)
        tables = []
        for number, values in enumerate(differences):
            rows = [row(f"net{i}", [round(10_000 * v)], seeds=(0,), num_clips=10_000) for i, v in enumerate(values)]
            tables.append(table(f"set{number}", "elm", *rows))
            rows = [row(f"net{i}", [5000], seeds=(0,), num_clips=10_000) for i in range(11)]
            tables.append(table(f"set{number}", "svm", *rows))
        machine = next(machine for machine in compare_machines(tables) if machine.classifier == "elm")
        covered.append(machine.low <= 0 <= machine.high)
    assert np.mean(covered) >= 0.75

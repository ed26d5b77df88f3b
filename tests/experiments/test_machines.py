"""Classifiers against one another: differences worked by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from mirjax.experiments.machines import cells, compare_machines


def row(name, right, *, seeds=(0, 1), rank=1, num_clips=10):
    """A row of a table in which seed s got right[s] of ten clips right."""
    correct = np.array([[clip < count for clip in range(num_clips)] for count in right], float)
    return SimpleNamespace(setting=(name, 0, "raw", "{}"), seeds=seeds, correct=correct, rank=rank)


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
    table("songs", "kernel", row("vgg", [9], seeds=(0,))),
    table("songs", "elm", row("vgg", [10, 10]), scaling="standard"),  # the reference has no scaled row
]


def test_differences_by_hand():
    """Oracle: worked by hand. elm: vgg −.2, +.1; mfcc 0, +.2 against its one result; songs −.2, −.3."""
    kernel, elm = compare_machines(TABLES)
    assert (kernel.classifier, elm.classifier) == ("kernel", "elm")
    assert sorted(elm.differences) == pytest.approx([-0.3, -0.2, -0.2, 0, 0.1, 0.2])
    assert elm.by_dataset == pytest.approx({"tunes": 0.025, "songs": -0.25})
    assert kernel.differences == pytest.approx((0.5, 0.5))  # one result meets both seeds of the reference
    # The interval is of the mean over three networks, −.05, .1 and −.25: none of its draws leaves their range.
    assert -0.2501 < elm.low < np.mean([-0.05, 0.1, -0.25]) < elm.high < 0.1001
    assert kernel.low == kernel.high == pytest.approx(0.5)


def test_the_table_is_in_points():
    """Oracle: the same differences, written out."""
    head, (kernel, elm) = cells(compare_machines(TABLES))
    assert head[-2:] == ["songs", "tunes"]
    assert elm[:9] == ["elm", "none", "6", "50 %", "33 %", "-10.0", "-30.0", "+20.0", "-6.7"]
    assert elm[-2:] == ["-25.0", "+2.5"]
    assert kernel[-2:] == ["+50.0", "–"]


def test_nothing_to_compare():
    """Oracle: the contract: no table without the reference, or with it alone."""
    assert compare_machines(TABLES[:1]) == compare_machines(TABLES[1:2]) == compare_machines([]) == []

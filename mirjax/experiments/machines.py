"""Classifiers against one another: which of them, on the same features, gets more clips right.

A pair is one network (architecture, n, input), one seed and one data set, labelled by two classifiers; scaled features
are compared with scaled ones. Where one of the two draws nothing, its one result meets every seed of the other.

Names: `Machine`, `compare_machines`.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

REFERENCE = "svm"
DRAWS = 10_000
NOTE = (
    f"Every classifier against {REFERENCE} on the same features, scaled or not alike: points of accuracy, classifier "
    f"minus {REFERENCE}. A pair is a network, seed and data set; the 95 % interval of the mean is a bootstrap over "
    "networks and data sets, seeds averaged."
)
COLUMNS = ("classifier", "scaling", "pairs", "below", "above", "median", "worst", "best", "mean", "95 %")


@dataclass(frozen=True)
class Machine:
    """A classifier against the reference.

    Attributes:
        classifier, scaling: which.
        differences: accuracy less the reference's, one a pair.
        by_dataset: data set → mean difference.
        low, high: 95 % interval of the mean difference.
    """

    classifier: str
    scaling: str
    differences: tuple[float, ...]
    by_dataset: dict[str, float]
    low: float
    high: float


def compare_machines(tables) -> list[Machine]:
    """Every classifier and scaling of some tables against the reference of the same scaling.

    Args:
        tables: `report.Table`s.

    Returns:
        Best mean difference first; nothing where the reference or any other classifier is missing.
    """
    accuracies = {}
    for table in tables:
        place = (table.dataset, table.protocol, table.selection, table.width)
        for row in table.rows:
            if row.correct is not None and row.rank is not None:  # neither majority nor chance
                key = (table.classifier, table.scaling, (*place, row.setting))
                accuracies[key] = dict(zip(row.seeds, row.correct.mean(axis=1).tolist(), strict=True))
    networks = defaultdict(dict)
    for (classifier, scaling, network), own in accuracies.items():
        other = accuracies.get((REFERENCE, scaling, network))
        if classifier != REFERENCE and other is not None:
            networks[classifier, scaling][network] = _paired(own, other)
    found = {key: {network: pair for network, pair in pairs.items() if pair} for key, pairs in networks.items()}
    machines = [_summarise(*key, pairs) for key, pairs in found.items() if pairs]
    return sorted(machines, key=lambda machine: (-np.mean(machine.differences), machine.classifier, machine.scaling))


def cells(machines) -> tuple[list[str], list[list[str]]]:
    """Head and lines of the table, in points."""
    datasets = sorted({name for machine in machines for name in machine.by_dataset})
    lines = []
    for machine in machines:
        points = 100 * np.array(machine.differences)
        numbers = [np.median(points), points.min(), points.max(), points.mean()]
        lines.append(
            [
                machine.classifier,
                machine.scaling,
                str(len(points)),
                f"{100 * np.mean(points < 0):.0f} %",
                f"{100 * np.mean(points > 0):.0f} %",
                *(f"{number:+.1f}" for number in numbers),
                f"{100 * machine.low:+.1f} … {100 * machine.high:+.1f}",
                *(f"{100 * machine.by_dataset[name]:+.1f}" if name in machine.by_dataset else "–" for name in datasets),
            ]
        )
    return [*COLUMNS, *datasets], lines


def _paired(own, other):
    """Differences seed by seed; a classifier with one result meets all seeds of the other."""
    if len(other) == 1:
        return [value - next(iter(other.values())) for value in own.values()]
    if len(own) == 1:
        return [next(iter(own.values())) - value for value in other.values()]
    return [own[seed] - other[seed] for seed in own if seed in other]


def _summarise(classifier, scaling, pairs) -> Machine:
    means = np.array([np.mean(differences) for differences in pairs.values()])
    draws = np.random.default_rng(0).integers(0, len(means), (DRAWS, len(means)))
    low, high = np.quantile(means[draws].mean(axis=1), [0.025, 0.975])
    by_dataset = defaultdict(list)
    for (dataset, *_), differences in pairs.items():
        by_dataset[dataset] += differences
    flat = tuple(difference for differences in pairs.values() for difference in differences)
    return Machine(
        classifier,
        scaling,
        flat,
        {name: float(np.mean(values)) for name, values in by_dataset.items()},
        float(low),
        float(high),
    )

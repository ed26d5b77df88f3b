"""Classifiers against one another: which of them, on the same features, gets more clips right.

A pair is one network (architecture, n, input), one seed and one data set, labelled by two classifiers; scaled features
are compared with scaled ones. MFCC are the same for all seeds: where one of two classifiers draws nothing, its one
result there meets every seed of the other.

Names: `Machine`, `compare_machines`.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from mirjax.classifiers import DETERMINISTIC

REFERENCE = "svm"
DRAWS = 10_000
NOTE = (
    f"Every classifier against {REFERENCE} on the same features, scaled or not alike: points of accuracy, classifier "
    f"minus {REFERENCE}. A pair is a network, seed and data set; the 95 % interval of the mean is a bootstrap over "
    "data sets and, within each, networks, seeds averaged; of one data set it is over its networks alone."
)
COLUMNS = ("classifier", "scaling", "accuracy", "pairs", "below", "above", "median", "worst", "best", "mean", "95 %")


@dataclass(frozen=True)
class Machine:
    """A classifier against the reference.

    Attributes:
        classifier, scaling: which.
        accuracy: its mean over data sets, of the mean over their networks.
        differences: accuracy less the reference's, one a pair.
        by_dataset: data set → mean difference.
        low, high: 95 % interval of the mean difference.
    """

    classifier: str
    scaling: str
    accuracy: float
    differences: tuple[float, ...]
    by_dataset: dict[str, float]
    low: float
    high: float


def compare_machines(tables) -> list[Machine]:
    """Every classifier and scaling of some tables against the reference of the same scaling.

    Args:
        tables: `report.Table`s.

    Returns:
        Best mean difference first, the reference among them; nothing where it is alone or missing.
    """
    accuracies = {}
    for table in tables:
        place = (table.dataset, table.protocol, table.selection, table.width)
        for row in table.rows:
            if row.correct is not None and row.rank is not None:  # neither majority nor chance
                key = (table.classifier, table.scaling, (*place, row.setting))
                shares = row.correct.mean(axis=1).tolist()
                is_alike = row.is_baseline and table.classifier in DETERMINISTIC
                accuracies[key] = shares[0] if is_alike else dict(zip(row.seeds, shares, strict=True))
    networks = defaultdict(dict)
    for (classifier, scaling, network), own in accuracies.items():
        other = accuracies.get((REFERENCE, scaling, network))
        if other is not None:
            networks[classifier, scaling][network] = _paired(own, other)
    found = {key: {network: pairs for network, pairs in of.items() if pairs} for key, of in networks.items()}
    machines = [_summarise(*key, of) for key, of in found.items() if of]
    if all(machine.classifier == REFERENCE for machine in machines):
        return []
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
                f"{100 * machine.accuracy:.1f}",
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
    """(accuracy, difference) of the seeds that both have; a number is that of all seeds."""
    by_seed = [one for one in (own, other) if isinstance(one, dict)]
    seeds = sorted(set.intersection(*map(set, by_seed))) if by_seed else [0]
    own, other = ([one[seed] if isinstance(one, dict) else one for seed in seeds] for one in (own, other))
    return [(mine, mine - its) for mine, its in zip(own, other, strict=True)]


def _summarise(classifier, scaling, pairs) -> Machine:
    by_dataset, networks, accuracies = defaultdict(list), defaultdict(list), defaultdict(list)
    for (dataset, *_), both in pairs.items():
        own, differences = zip(*both, strict=True)
        by_dataset[dataset] += differences
        networks[dataset].append(np.mean(differences))
        accuracies[dataset].append(np.mean(own))
    low, high = np.quantile(_resampled_means(list(networks.values())), [0.025, 0.975])
    accuracy = float(np.mean([np.mean(values) for values in accuracies.values()]))
    flat = tuple(difference for both in pairs.values() for _, difference in both)
    return Machine(
        classifier,
        scaling,
        accuracy,
        flat,
        {name: float(np.mean(values)) for name, values in by_dataset.items()},
        float(low),
        float(high),
    )


def _resampled_means(groups):
    """Means f64[DRAWS] of networks drawn with replacement within data sets drawn with replacement."""
    random = np.random.default_rng(0)
    chosen = random.integers(0, len(groups), (DRAWS, len(groups)))
    sums, counts = np.zeros(DRAWS), np.zeros(DRAWS)
    for place in range(len(groups)):
        for number, group in enumerate(groups):
            rows = np.flatnonzero(chosen[:, place] == number)
            drawn = random.integers(0, len(group), (len(rows), len(group)))
            sums[rows] += np.asarray(group)[drawn].sum(axis=1)
            counts[rows] += len(group)
    return sums / counts

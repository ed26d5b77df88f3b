"""What a report says of trained networks alone: how they were trained, and what training adds to untrained features.

Convention: *options* are those of a record. An option that is off (None, False, 0, "none", an empty list, targets of 0
and 1) counts as one that is not there. Options of two rows can be compared when the names of one, and there are some,
hold those of the other: two trainings can, a training and the trees of the descriptors baseline cannot.
Names: :data:`NAME`, :func:`own_options`, :func:`shared_options`, :func:`options_text`, :func:`notes_on`, :class:`Gain`,
:func:`compare_with_untrained`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mirjax import statistics
from mirjax.experiments import curves
from mirjax.models import zoo

NAME = "trained"  # of the classifier in records of trained networks
OFF = (None, False, 0, "none", [], [0.0, 1.0])
# Said elsewhere, or of no meaning where what they belong to is off.
UNSAID = ("labels",)
USUAL = {"accumulate": 1, "train_share": 1.0, "parallel": "jit", "hear": "auto", "loss": "auto"}
BELONG_TO = {"l2_on": "l2", "l2_reduction": "l2", "l2_coupled": "l2"}
SELECTION_NOTES = {
    "validation": "validation: of the epoch that was best on the validation clips (the last one where there are none)",
    "validation_refit": "validation_refit: trained anew on training and validation clips for as many epochs",
}
GAIN_NOTE = (
    "Trained against untrained: each trained network against the best of its own untrained scores (over classifiers, "
    "inputs and scalings, picked on these very clips, so the gain is rather too small), on the clips that both were "
    "tested on; paired bootstrap clustered as above, Holm over the lines. Where data come in folds, trained networks "
    "give the clips that validate up, and untrained classifiers are fitted to them too."
)
GAIN_COLUMNS = ("data set", "network", "trained %", "untrained %", "by", "difference", "95 %", "p (Holm)")


def own_options(options: dict, others: Sequence[dict]) -> list[str]:
    """Options that tell a row from the others, as text.

    Args:
        options: the row's.
        others: of all rows, its own among them.

    Returns:
        `name=value` (`name` for True) of each, by name.
    """
    alike = [o for o in others if o and (o.keys() <= options.keys() or o.keys() >= options.keys())]
    return [
        name if value is True else f"{name}={value_text(value)}"
        for name, value in sorted(options.items())
        if any(_on(other.get(name)) != _on(value) for other in alike)
    ]


def shared_options(options: Sequence[dict]) -> dict:
    """Options that are on and the same in all rows.

    Args:
        options: of every row.
    """
    if not options:
        return {}
    first, *rest = options
    return {
        name: value
        for name, value in sorted(first.items())
        if _on(value) is not None
        and name not in UNSAID
        and value != USUAL.get(name)
        and (name not in BELONG_TO or _on(first.get(BELONG_TO[name])) is not None)
        and all(other.get(name) == value for other in rest)
    }


def options_text(options: dict) -> str:
    """Options as `name=value, …`."""
    return ", ".join(f"{name}={value_text(value)}" for name, value in options.items())


def value_text(value) -> str:
    """A value of an option, for a reader."""
    if isinstance(value, list):
        return "/".join(map(value_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _on(value):
    """The value, or None when it is off."""
    return None if value in OFF else value


def notes_on(table, networks: Sequence) -> list[str]:
    """What stands below a table of how its networks were trained.

    Args:
        table: a `report.Table` or `tag_report.TagTable`.
        networks: its rows but the baselines.

    Returns:
        How weights were chosen, the options that all share, and the epochs it took.
    """
    if not networks:
        return []
    notes = [f"Weights {note}." for name, note in SELECTION_NOTES.items() if name in table.selection.split()]
    if shared := shared_options([row.options for row in networks]):
        notes.append(f"How all networks were trained (what is off or usual is not said): {options_text(shared)}.")
    return [*notes, *filter(None, [curves.describe([(table.full_label(row), row.curves) for row in networks])])]


@dataclass(frozen=True)
class Gain:
    """What training adds to a network; the difference is trained minus untrained.

    Attributes:
        dataset: on which.
        network: name of its row.
        trained, untrained: accuracies on the clips that both were tested on.
        by: what the untrained score is of: classifier, input, scaling.
        difference: with interval and two-sided p.
        p_holm: over all gains of the report.
    """

    dataset: str
    network: str
    trained: float
    untrained: float
    by: str
    difference: statistics.Difference
    p_holm: float

    @property
    def cells(self) -> list[str]:
        """Under :data:`GAIN_COLUMNS`."""
        points = [100 * value for value in (self.difference.difference, self.difference.low, self.difference.high)]
        p = "<.001" if self.p_holm < 0.001 else f"{self.p_holm:.3f}"
        scores = [f"{100 * self.trained:.1f}", f"{100 * self.untrained:.1f}"]
        return [
            self.dataset,
            self.network,
            *scores,
            self.by,
            f"{points[0]:+.1f}",
            f"{points[1]:+.1f} to {points[2]:+.1f}",
            p,
        ]


def compare_with_untrained(tables: Sequence[tuple]) -> tuple[Gain, ...]:
    """Hold every trained network against its own untrained features.

    Args:
        tables: (a `report.Table`, its clips with `ids`, `groups` and `folds`), trained and untrained ones.

    Returns:
        A gain for each trained row that has untrained ones of the same architecture and n on the same data.
    """
    found = []
    for table, clips in tables:
        if table.classifier != NAME:
            continue
        beside = [
            (t, c)
            for t, c in tables
            if t.classifier != NAME and (t.dataset, t.protocol) == (table.dataset, table.protocol)
        ]
        for row in table.rows:
            if row.rank and not row.is_baseline and (gain := _gain(table, row, clips, beside)):
                found.append(gain)
    adjusted = statistics.holm([gain[-1].p for gain in found])
    return tuple(Gain(*gain, float(p)) for gain, p in zip(found, adjusted, strict=True))


def _gain(table, row, clips, beside):
    """The fields of a gain but the last, or None where there is no untrained row on the same clips."""
    best = None
    for other, its_clips in beside:
        places = {name: place for place, name in enumerate(its_clips.ids)}
        if not set(clips.ids) <= places.keys():
            continue
        chosen = np.array([places[name] for name in clips.ids])
        for its in other.rows:
            same = its.architecture == row.architecture and _filters(its) == _filters(row)
            if not same or its.is_baseline or not its.rank:
                continue
            correct = its.correct[:, chosen]
            accuracy = float(np.mean(correct @ clips.weights))
            if best is None or accuracy > best[0]:
                scaled = "" if other.scaling == "none" else f", scaling {other.scaling}"
                best = accuracy, f"{other.classifier}, {its.input}{scaled}", correct
    if best is None:
        return None
    difference = statistics.paired_difference(row.correct, best[2], clips.groups, weights=clips.weights)
    return table.dataset, table.full_label(row), row.accuracy, best[0], best[1], difference


def _filters(row) -> int | None:
    """The n of a row, the publication's where none was given."""
    if row.n is not None:
        return row.n
    try:
        return zoo.lookup(row.architecture).n
    except ValueError:  # a network of one's own, or of a space
        return None

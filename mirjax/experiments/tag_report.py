"""Tables of networks that were trained on tags (ROC-AUC, PR-AUC) or on values (RMSE), from records and predictions.

Convention
----------
Metrics are those of :mod:`mirjax.experiments.tag_cells`, averaged over seeds. Intervals and tests are those of
:mod:`mirjax.statistics`, on the clips' shares (:mod:`mirjax.experiments.tag_shares`). A row is one (architecture, n,
options); chance is computed from the labels alone and neither ranked nor tested.

What is here
------------
* :func:`make_tables`: cells → :class:`TagTable` of :class:`TagRow`
* :func:`score`, :func:`difference`, :func:`value_text`: how metrics are written (:mod:`mirjax.experiments.tag_lines`)
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np

from mirjax import metrics, statistics
from mirjax.experiments import trained
from mirjax.experiments.curves import Curve, read_curves
from mirjax.experiments.tag_cells import RMSE, Cell, Clips, by_fold, chance, left_out

MOST_RESAMPLES = 10_000
SHOWN = 5  # tags at either end
NAMES = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC", "rmse": "RMSE"}
AXIS = "score, %"  # of figures
EXTRAS = {"many": ("rounded_roc_auc", "exact_match", "hamming_loss"), "values": ()}
NOTES = {
    "many": (
        "ROC-AUC and PR-AUC (average precision) are means over tags, then over folds and seeds, in %. rounded: ROC-AUC "
        "of outputs rounded to 0 and 1, as the ISMIR 2018 tutorial has it; exact: clips of which all rounded outputs "
        "are right; Hamming: share of wrong ones. Chance: .5, and for PR-AUC the tags' shares of clips, averaged."
    ),
    "values": (
        "RMSE: the root of the mean squared error over clips and tags of a fold, averaged over folds and seeds; lower "
        "is better. Chance: for each tag the mean of the test clips of the fold (that of the training clips is not in "
        "the predictions), which no constant beats."
    ),
}


# ── tables ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class TagRow:
    """One line of a table: a network with its setting, averaged over seeds.

    Attributes:
        values: by metric, those of :data:`EXTRAS` too.
        intervals, comparisons: by metric; a comparison's difference is of scores.
        by_tag: f64[K] by metric, means over the folds where the tag has one and over seeds; NaN where it has none.
        shares: f64[S, M] by metric, whose means are scores.
    """

    architecture: str
    n: int | None
    input: str
    options: dict
    seeds: tuple
    values: dict[str, float]
    by_tag: dict[str, np.ndarray]
    num_clips: int
    num_parameters: int | None = None
    num_features: int | None = None
    gflops: float | None = None
    shares: dict[str, np.ndarray] | None = None
    curves: tuple[Curve, ...] = ()
    rank: int | None = None
    intervals: dict[str, statistics.Interval] | None = None
    comparisons: dict[str, statistics.Comparison] | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether it is none of the networks."""
        return self.architecture in ("chance", "boosted_trees")


@dataclass(frozen=True, eq=False)
class TagTable:
    """A ranked table of one data set and protocol, with what stands below it.

    Attributes:
        kind: `many` or `values`.
        metrics: of the kind; rows are ranked by the first.
        tags: K names.
        totals: f64[K], clips with each tag (of values: their mean).
        left_out: tag → where it has no area and why.
    """

    dataset: str
    protocol: str
    selection: str
    kind: str
    metrics: tuple[str, ...]
    rows: tuple[TagRow, ...]
    tags: tuple[str, ...]
    totals: np.ndarray
    left_out: dict[str, str]
    num_resamples: int
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> TagRow:
        """The row of rank 1."""
        return next(row for row in self.rows if row.rank == 1)

    @property
    def title(self) -> str:
        """Data set, and what sets the table apart."""
        what = "tags" if self.kind == "many" else "values"
        return (
            f"{self.dataset}: trained on {len(self.tags)} {what}, protocol {self.protocol}, selection {self.selection}"
        )

    def label(self, row: TagRow) -> str:
        """Name of a row: its architecture and the options that tell it from the others."""
        own = trained.own_options(row.options, [r.options for r in self.rows if r.rank])
        return row.architecture + (f" ({', '.join(own)})" if own else "")

    def full_label(self, row: TagRow) -> str:
        """Name of a row where no column tells its n."""
        several = len({r.n for r in self.rows if r.architecture == row.architecture}) > 1
        return self.label(row) + (f" n={row.n}" if several else "")

    @property
    def panels(self) -> list:
        """What :func:`mirjax.plots.plot_accuracy` and `plot_pareto` read of a table, a panel for each metric."""
        found = []
        for metric in self.metrics:
            rows = [
                SimpleNamespace(
                    architecture=row.architecture,
                    n=row.n,
                    input="raw",
                    rank=row.rank,
                    gflops=row.gflops,
                    is_baseline=row.is_baseline,
                    accuracy=score(metric, row.values[metric]),
                    interval=row.intervals and row.intervals[metric],
                    name=self.label(row),
                )
                for row in self.rows
            ]
            found.append(
                SimpleNamespace(
                    dataset=f"{self.dataset}: {'1 − RMSE' if metric == RMSE else NAMES[metric]}",
                    classifier=trained.NAME,
                    scaling="none",
                    selection=self.selection,
                    protocol=self.protocol,
                    width=None,
                    rows=rows,
                    label=lambda row: row.name,
                )
            )
        return found


def score(metric: str, value):
    """A metric as a score, and a score as the metric."""
    return 1 - value if metric == RMSE else value


def difference(metric: str, comparison: statistics.Comparison | None) -> dict[str, float] | None:
    """`difference`, `low` and `high` of a comparison of scores, as of the metric."""
    if comparison is None:
        return None
    found = {name: getattr(comparison, name) for name in ("difference", "low", "high")}
    return (
        {"difference": -found["difference"], "low": -found["high"], "high": -found["low"]} if metric == RMSE else found
    )


def make_tables(cells: Sequence[Cell]) -> list[TagTable]:
    """Make a table for each data set, protocol and kind of labels.

    Args:
        cells: from :func:`read_cell`.

    Returns:
        The tables, by data set.
    """
    families = defaultdict(list)
    for cell in cells:
        families[cell.key.dataset, cell.key.protocol, cell.kind].append(cell)
    return [_make_table(*place, family) for place, family in sorted(families.items())]


def _make_table(dataset, protocol, kind, cells: list[Cell]) -> TagTable:
    clips = cells[0].clips
    shown = metrics.VALUE_METRICS if kind == "values" else metrics.TAG_METRICS
    num_resamples = min(MOST_RESAMPLES, max(2000, MOST_RESAMPLES * 400 // len(clips.ids)))
    options = dict(weights=clips.weights, num_resamples=num_resamples)
    rows = _make_rows(cells, shown)
    for metric in shown:
        shares = [row.shares[metric] for row in rows]
        intervals = statistics.bootstrap_intervals(shares, clips.groups, single_split=protocol == "split", **options)
        compared = [None] * len(rows)
        if len(rows) > 1:
            compared = statistics.compare_with_best(shares, clips.groups, **options)
        rows = [
            replace(
                row, intervals=(row.intervals or {}) | {metric: i}, comparisons=(row.comparisons or {}) | {metric: c}
            )
            for row, i, c in zip(rows, intervals, compared, strict=True)
        ]
    first = shown[0]
    rows.sort(key=lambda row: (-round(score(first, row.values[first]), 9), _is_behind(row.comparisons[first])))
    ranked = [replace(row, rank=number) for number, row in enumerate(rows, 1)]
    selections = sorted({cell.key.selection for cell in cells})
    of_values = kind == "values"
    table = TagTable(
        dataset=dataset,
        protocol=protocol,
        selection=" and ".join(selections),
        kind=kind,
        metrics=shown,
        rows=(*ranked, _chance(kind, clips)),
        tags=clips.tags,
        totals=clips.targets.mean(0) if of_values else clips.targets.sum(0),
        left_out={} if of_values else left_out(clips),
        num_resamples=num_resamples,
    )
    return replace(table, notes=tuple(_notes(table, clips)))


def _is_behind(comparison) -> bool:
    return comparison is not None and comparison.p is not None


def _make_rows(cells: list[Cell], shown) -> list[TagRow]:
    grouped = defaultdict(list)
    for cell in cells:
        grouped[cell.key.architecture, cell.key.n, cell.key.input, cell.key.options].append(cell)
    rows = []
    for (architecture, n, kind, options), group in grouped.items():
        group = list({json.dumps(cell.seed): cell for cell in group}.values())
        found = [by_fold(cell) for cell in group]
        record = group[0].records[0]
        rows.append(
            TagRow(
                architecture=architecture,
                n=n,
                input=kind,
                options=json.loads(options) or {},
                seeds=tuple(cell.seed for cell in group),
                values={m: float(np.mean([cell.values[m] for cell in group])) for m in group[0].values},
                by_tag={m: np.mean([by_tag[m] for _, by_tag in found], axis=0) for m in shown},
                num_clips=len(group[0].clips.ids),
                num_parameters=record["num_parameters"],
                num_features=record["num_features"],
                gflops=record["gflops"],
                shares={m: np.stack([shares[m] for shares, _ in found]) for m in shown},
                curves=tuple(one for cell in group for one in read_curves(cell.workdir, cell.records)),
            )
        )
    return rows


def _chance(kind: str, clips: Clips) -> TagRow:
    values, by_tag = chance(kind, clips)
    return TagRow("chance", None, "raw", {}, (), values, by_tag, len(clips.ids))


# ── what stands below a table ─────────────────────────────────────────────────────────────────────


def _notes(table: TagTable, clips: Clips) -> list[str]:
    ranked = [row for row in table.rows if row.rank]
    networks = [row for row in ranked if not row.is_baseline]
    first = table.metrics[0]
    notes = [
        NOTES[table.kind],
        "Intervals: 95 %, cluster bootstrap over seeds and clips (groups where given) of the clips' shares in the "
        f"metric (of first order), {table.num_resamples:,} resamples. p: against the best, paired on the same clips, "
        "the choice of the best accounted for, Holm over the rows.",
    ]
    left = dict.fromkeys(row.intervals[first].leaves_out for row in ranked if row.intervals[first].leaves_out)
    if left:
        notes.append(f"The intervals leave out {'; '.join(left)}.")
    if networks and all(len(row.seeds) == 1 for row in networks):
        notes.append("With one seed, p compares these very networks, not their architectures.")
    notes += trained.notes_on(table, networks)
    several = [row for row in networks if len(row.seeds) > 1]
    if several:
        parts = [statistics.variance_components(row.shares[first]) for row in several]
        parts = np.mean([(part.seed, part.clip, part.residual) for part in parts], axis=0)
        seed, clip, rest = (f"{100 * part / (parts.sum() or 1):.1f}" for part in parts)
        notes.append(
            f"Variance of a clip's share in {NAMES[first]}, averaged over networks: seeds {seed} %, clips {clip} %, "
            f"rest {rest} %."
        )
    common = set.intersection(*(set(row.seeds) for row in networks)) if networks else set()
    if len(common) > 1:
        scores = [
            [row.shares[first][row.seeds.index(seed)] @ clips.weights for row in networks] for seed in sorted(common)
        ]
        tau = statistics.kendall_between_seeds(np.array(scores))
        notes += [f"Kendall's τ between the rankings of two seeds: {tau:.2f}."] if tau is not None else []
    if len(ranked) > 1 and all(len(row.seeds) > 1 for row in ranked[:2]):
        one, two = ranked[:2]
        number = statistics.seeds_to_separate(one.shares[first], two.shares[first], clips.groups, weights=clips.weights)
        names = f"{table.full_label(one)} and {table.full_label(two)}"
        answer = (
            "no number would, more clips are needed"
            if number is None
            else f"{number}, were the difference the true one"
        )
        notes.append(f"Seeds that would separate the first two ({names}) at the 5 % level: {answer}.")
    return [*notes, *_tag_notes(table)]


def _tag_notes(table: TagTable) -> Iterator[str]:
    """The best and worst tags of the best row, and those left out."""
    best, first = table.best, table.metrics[0]
    order = np.argsort(score(first, best.by_tag[first]), kind="stable")[::-1]
    order = [k for k in order if not np.isnan(best.by_tag[first][k])]
    shown = [("all tags", order)]
    if len(order) > 2 * SHOWN:
        shown = [("best tags", order[:SHOWN]), ("worst tags", order[-SHOWN:])]
    counted = "clips with the tag" if table.kind == "many" else "mean of the labels"
    said = " / ".join(NAMES[metric] for metric in table.metrics)
    for name, numbers in shown:
        values = [" / ".join(value_text(m, best.by_tag[m][k]) for m in table.metrics) for k in numbers]
        told = [f"{table.tags[k]} {value} ({_total(table, k)})" for k, value in zip(numbers, values, strict=True)]
        yield f"{name[0].upper()}{name[1:]} of {table.full_label(best)}, {said} ({counted}): {', '.join(told)}."
    if table.left_out:
        told = "; ".join(f"{tag} ({why})" for tag, why in table.left_out.items())
        yield f"Left out of the mean over tags: {told}."


def _total(table: TagTable, tag: int) -> str:
    return f"{int(table.totals[tag]):,}" if table.kind == "many" else f"{table.totals[tag]:.3g}"


def value_text(metric: str, value: float) -> str:
    """A metric for a table: areas and shares in %, errors as they are."""
    return f"{value:.4f}" if metric == RMSE else f"{100 * value:.2f}"

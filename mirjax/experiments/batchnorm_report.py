"""The report of the batch-norm experiment: accuracy against batch size, and an analysis of variance for each curve.

Convention: a *curve* is one way of filling batches (see `batchnorm`), an accuracy f64[B, S] for each of B batch sizes
and S seeds; a *panel* holds the curves of one data set and scaling.
Names: `build_report`, `summarise`, `BatchNormReport`, `Panel`, `Curve`, `Anova`, `analyse`.
"""

import csv
import dataclasses
import io
import math
import textwrap
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mirjax.experiments.batchnorm import ORDERS, WITHOUT

SIGNIFICANCE = 0.05


def build_report(workdirs: Sequence, out: str | Path | None = None) -> "BatchNormReport":
    """Summarise run folders; write report.md, report.csv and batchnorm.png to `out`, else to the first of them."""
    report = summarise(workdirs)
    report.write(Path(out) if out is not None else Path(workdirs[0]))
    return report


@dataclasses.dataclass(frozen=True)
class Anova:
    """One-way analysis of variance over batch sizes, seeds as replicates: F and p; None where it is undefined."""

    f: float | None
    p: float | None


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """Accuracy of one way of filling batches, by batch size and seed.

    Attributes:
      name: `sorted`, `shuffled`, or `WITHOUT`.
      batch_sizes: B sizes, ascending.
      seeds: S seeds that every batch size has.
      accuracy: f64[B, S], means over folds, in [0, 1].
      anova: whether the batch size matters.
    """

    name: str
    batch_sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    accuracy: np.ndarray
    anova: Anova

    @property
    def means(self) -> np.ndarray:
        """Mean over seeds f64[B]."""
        return self.accuracy.mean(axis=1)

    @property
    def deviations(self) -> np.ndarray:
        """Sample standard deviation over seeds f64[B]; NaN for one seed."""
        if len(self.seeds) < 2:
            return np.full(len(self.batch_sizes), np.nan)
        return self.accuracy.std(axis=1, ddof=1)

    @property
    def statement(self) -> str:
        """What the analysis of variance says, in a sentence."""
        name = WITHOUT if self.name == WITHOUT else f"with batch statistics, clips {_LONG[self.name]}"
        low, high = int(self.means.argmin()), int(self.means.argmax())
        spread = (
            f"{_percent(self.means[low])} % in batches of {self.batch_sizes[low]}, {_percent(self.means[high])} % in "
            f"batches of {self.batch_sizes[high]}"
        )
        anova = self.anova
        test = "" if anova.p is None else f"one-way ANOVA F = {anova.f:.3g}, p = {anova.p:.3g}"
        if len(self.batch_sizes) < 2:
            return f"{name}: one batch size only, nothing to compare."
        if not np.ptp(self.accuracy, axis=0).any():
            return f"{name}: every seed scores the same at every batch size ({test or 'nothing varies'})."
        if anova.p is None:
            return f"{name}: {spread}; no test with fewer than two seeds."
        verb = "depends" if anova.p < SIGNIFICANCE else "does not depend"
        return f"{name}: the score {verb} on the batch size at the 5 % level ({test}): {spread}."


_LONG = {"sorted": "sorted by class", "shuffled": "shuffled"}


@dataclasses.dataclass(frozen=True, eq=False)
class Panel:
    """The curves of one data set under one setting."""

    dataset: str
    n: int
    scaling: str
    protocol: str
    selection: str
    seconds: float
    fit: str
    curves: tuple[Curve, ...]

    @property
    def title(self) -> str:
        """Data set and setting."""
        return (
            f"{self.dataset}: VGG n={self.n}, svm, scaling {self.scaling}, protocol {self.protocol}, selection "
            f"{self.selection}, {self.seconds:g} s ({self.fit})"
        )

    @property
    def statements(self) -> list[str]:
        """What the analyses of variance say: a sentence a curve, and one on the order in the biggest batches."""
        found = [curve.statement for curve in self.curves]
        both = [curve for curve in self.curves if curve.name in ORDERS]
        if len(both) == 2 and both[0].batch_sizes[-1] == both[1].batch_sizes[-1] and both[0].seeds == both[1].seeds:
            last = np.stack([curve.accuracy[-1] for curve in both])
            anova = analyse(last)
            test = "" if anova.p is None else f" (ANOVA p = {anova.p:.3g})"
            means = ", ".join(f"{_LONG[curve.name]} {_percent(curve.means[-1])} %" for curve in both)
            found.append(f"in batches of {both[0].batch_sizes[-1]}, clips {means}{test}.")
        return [sentence[0].upper() + sentence[1:] for sentence in found]


_NOTES = (
    "Accuracy in %, mean over folds and seeds ± standard deviation over seeds. ANOVA: over batch sizes, seeds as "
    "independent replicates, as in the study (that all sizes share their seeds is left unused, which is cautious).",
    "Batches hold training and test clips alike. Sorted by class, their statistics carry the labels: what differs from "
    "the shuffled clips there, gain or loss, comes of the labels and is no merit of the network.",
)


@dataclasses.dataclass(frozen=True, eq=False)
class BatchNormReport:
    """All panels of some run folders.

    Attributes:
      panels: by data set and setting.
      provenance: commits that the records name.
      warnings: what was left out.
    """

    panels: tuple[Panel, ...]
    provenance: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_text(self) -> str:
        """The report for a terminal."""
        lines = []
        for panel in self.panels:
            head, rows = _table(panel)
            widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
            table = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in [head, *rows]]
            table.insert(1, "─" * len(table[0]))
            lines += ["", *_wrap(panel.title), "", *table, ""]
            lines += [line for sentence in panel.statements for line in _wrap(sentence)]
        for note in (*_NOTES, *self.warnings):
            lines += ["", *_wrap(note)]
        return "\n".join(lines).lstrip("\n")

    def to_markdown(self) -> str:
        """The report as Markdown, beside batchnorm.png."""
        lines = ["# Batch norm by the batch at hand", "", "![Accuracy against batch size](batchnorm.png)", ""]
        for panel in self.panels:
            head, rows = _table(panel)
            table = [head, ["--:"] * len(head), *rows]
            lines += [f"## {panel.title}", "", *(f"| {' | '.join(row)} |" for row in table), ""]
            lines += [*(f"- {sentence}" for sentence in panel.statements), ""]
        lines += [line for note in _NOTES for line in (note, "")]
        if self.warnings:
            lines += ["## Left out", "", *(f"- {note}" for note in self.warnings), ""]
        return "\n".join([*lines, "## From", "", *(f"- {note}" for note in self.provenance)]) + "\n"

    def to_csv(self) -> str:
        """One line for each batch size of each curve."""
        fields = [field.name for field in dataclasses.fields(Panel) if field.name != "curves"]
        head = [*fields, "batches", "batch_size", "num_seeds", "accuracy", "deviation", "anova_f", "anova_p"]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(head)
        for panel in self.panels:
            for curve in panel.curves:
                for size, mean, deviation in zip(curve.batch_sizes, curve.means, curve.deviations, strict=True):
                    values = [mean, deviation, curve.anova.f, curve.anova.p]
                    row = [*(getattr(panel, field) for field in fields), curve.name, size, len(curve.seeds)]
                    writer.writerow([*row, *("" if v is None or math.isnan(v) else f"{v:.6g}" for v in values)])
        return text.getvalue()

    def write(self, out: Path) -> None:
        """Write report.md, report.csv and batchnorm.png into a folder; it is made when it is not there."""
        from mirjax import plots

        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        for suffix, text in (("md", self.to_markdown()), ("csv", self.to_csv())):
            (out / f"report.{suffix}").write_text(text, encoding="utf-8", newline="\n")
        if self.panels:
            plots.plot_batchnorm(self.panels, out / "batchnorm.png")


def summarise(workdirs: Sequence) -> BatchNormReport:
    """Make the curves of some run folders, from their records.

    Args:
      workdirs: run folders; a record that several hold counts once.

    Returns:
      The report, nothing written.

    Raises:
      ValueError: no run folder, a folder without records, a damaged file, or one data set split in several ways.
    """
    from mirjax import results

    if not workdirs:
        raise ValueError("no run folder given; name at least one")
    panels = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    hashes, provenance = {}, set()
    for workdir in workdirs:
        for record in results.read_records(workdir):
            options = record["options"]
            if record["metric"] != "accuracy" or "batch_size" not in options:
                continue
            place = (record["dataset"], record["protocol"])
            if hashes.setdefault(place, record["split_hash"]) != record["split_hash"]:
                raise ValueError(
                    f"{record['dataset']} is split in several ways in these run folders; report them apart"
                )
            provenance.add(f"commit {record['commit'] or 'unknown'}")
            fields = ("dataset", "n", "scaling", "protocol", "selection")
            panel = (*(record[field] for field in fields), options["seconds"], options["fit"])
            curve = options["order"] if options["batch_norm"] else WITHOUT
            panels[panel][curve][options["batch_size"], record["seed"]][record["fold"]] = record["value"]
    made, problems = [], []
    for panel, curves in sorted(panels.items()):
        num_folds = max(len(folds) for curve in curves.values() for folds in curve.values())
        found = [
            _make_curve(name, curves[name], num_folds, f"{panel[0]}, {name}", problems)
            for name in (*ORDERS, WITHOUT)
            if name in curves
        ]
        made.append(Panel(*panel, tuple(curve for curve in found if curve is not None)))
    return BatchNormReport(tuple(made), tuple(sorted(provenance)), tuple(problems))


def _make_curve(name, values, num_folds, where, problems) -> Curve | None:
    """The curve over the seeds that all batch sizes have complete; what is left out goes to `problems`."""
    complete = {key: np.mean([*folds.values()]) for key, folds in values.items() if len(folds) == num_folds}
    sizes = sorted({size for size, _ in values})
    all_seeds = sorted({seed for _, seed in values})
    seeds = [seed for seed in all_seeds if all((size, seed) in complete for size in sizes)]
    if len(seeds) < len(all_seeds):
        problems.append(f"left out: {where}: seeds {sorted(set(all_seeds) - set(seeds))} lack folds or batch sizes")
    if not seeds:
        return None
    accuracy = np.array([[complete[size, seed] for seed in seeds] for size in sizes])
    return Curve(name, tuple(sizes), tuple(seeds), accuracy, analyse(accuracy))


def analyse(accuracy: np.ndarray) -> Anova:
    """One-way analysis of variance of accuracy f64[B, S]: do the B batch sizes differ, given S seeds each?

    With fewer than two sizes or seeds, or when no two values differ, there is no F.
    """
    from scipy import stats

    if min(accuracy.shape) < 2 or not np.ptp(accuracy):
        return Anova(None, None)
    if not np.ptp(accuracy, axis=0).any():  # equal to the bit, where rounding would leave F = −1e-17 and no p
        return Anova(0.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)  # seeds agree at every size: F = ∞ is right
        f, p = stats.f_oneway(*accuracy)
    return Anova(float(f), float(p))


def _percent(share) -> str:
    return f"{100 * share:.1f}"


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, 120, subsequent_indent="  ", break_on_hyphens=False)


def _table(panel: Panel) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one for each batch size, a column for each curve."""
    cells_of = defaultdict(dict)
    for curve in panel.curves:
        for size, mean, deviation in zip(curve.batch_sizes, curve.means, curve.deviations, strict=True):
            spread = "" if math.isnan(deviation) else f" ± {_percent(deviation)}"
            cells_of[size][curve.name] = _percent(mean) + spread
    names = [curve.name for curve in panel.curves]
    head = ["batch size", *(f"{_LONG.get(curve.name, curve.name)} (S={len(curve.seeds)})" for curve in panel.curves)]
    return head, [[str(size), *(cells_of[size].get(name, "–") for name in names)] for size in sorted(cells_of)]

"""Tables and figures of one or several run folders, from their records and predictions alone.

Convention
----------
A *table* holds what shares a data set, classifier, scaling, protocol, selection and width; networks whose n was set
freely stand in every table of their kind, and so do the baselines `mfcc`, `majority` and `chance`. A *row* is one
(architecture, n, input, options), averaged over its seeds. Accuracies are shares in [0, 1], shown in %. The mean is the
study's, over folds and seeds; clips are weighted so that intervals and tests are about that very mean, though folds
differ in size. Majority and chance are neither ranked nor tested. How records become cells, and which of them are left
out or refused, is in :mod:`mirjax.experiments.report_cells`.

The trained networks of a data set and protocol share one table, with the baselines of their run folders, each named
with its classifier; it is about the folds of the trainings, which may be fewer than those of a screening beside them.
Trained on tags or values instead of classes, they have tables of their own (:mod:`mirjax.experiments.tag_report`).

What is here
------------
* :func:`summarise`: run folders → :class:`Report` of :class:`Table` of :class:`Row`
* :func:`build_report`: the same, written as report.md, .csv, .tex, confusion.csv, accuracy.png, pareto.png, and where
  there are any curves.png, tags.csv, machines.png
* :data:`CLAIMS`: the published orderings, each reproduced, refuted or undecided (:mod:`mirjax.experiments.orderings`)

Source: Pons and Serra 2019, Randomly weighted CNNs for (music) audio classification; ARCHITECTURES §5.7.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from mirjax import metrics, statistics
from mirjax.experiments import render, tag_cells, tag_report, trained
from mirjax.experiments.curves import Curve, read_curves
from mirjax.experiments.machines import Machine, compare_machines
from mirjax.experiments.orderings import BEST_CLAIM, CLAIMS, ORDERING_NOTE, OrderingResult, judge
from mirjax.experiments.report_cells import UNTESTED, Cell, Clips, canonical, read_cells, sorting_key

BASELINES = ("mfcc", "majority", "chance", "boosted_trees")
MOST_RESAMPLES = 10_000
SELECTION_NOTES = {
    "legacy": "legacy: chosen on the test folds, optimistic",
    "nested": "nested: chosen on folds inside the training clips",
    "validation": "validation: chosen on the validation clips, fitted on the training clips only",
    "validation_refit": "validation_refit: chosen on the validation clips, then fitted to them and the training clips",
}


@dataclass(frozen=True, eq=False)
class Row:
    """One line of a table: an architecture with its setting, averaged over seeds."""

    architecture: str
    n: int | None
    input: str
    options: dict
    seeds: tuple
    accuracy: float
    balanced_accuracy: float | None
    macro_f1: float | None
    num_parameters: int | None
    num_features: int | None
    gflops: float | None
    feature_seconds_per_clip: float | None
    hyperparameters: dict  # the most frequent setting over folds and seeds, the first of equally frequent ones
    predicted: np.ndarray | None  # class numbers, int32 [S, M]
    correct: np.ndarray | None  # f64 [S, M]
    num_clips: int
    rank: int | None = None
    interval: statistics.Interval | None = None
    comparison: statistics.Comparison | None = None
    machine: tuple[str, ...] = ()  # classifier, scaling and selection of a baseline beside trained networks
    curves: tuple[Curve, ...] = ()

    @property
    def is_baseline(self) -> bool:
        """Whether it is none of the networks."""
        return self.architecture in BASELINES or bool(self.machine)

    @property
    def setting(self) -> tuple:
        """What tells rows of one table apart."""
        return (self.architecture, self.n or 0, self.input, canonical(self.options), self.machine)


@dataclass(frozen=True, eq=False)
class Table:
    """A ranked table with what stands below it."""

    dataset: str
    classifier: str
    scaling: str
    protocol: str
    selection: str
    width: int | None
    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    confusion: np.ndarray  # of the best row, summed over seeds, int64 [K, K]
    variance: statistics.VarianceComponents | None
    kendall: float | None
    seeds_needed: str
    notes: tuple[str, ...]
    orderings: tuple[OrderingResult, ...]

    @property
    def best(self) -> Row:
        """The row of rank 1."""
        return next(row for row in self.rows if row.rank == 1)

    @property
    def is_trained(self) -> bool:
        """Whether its networks are trained."""
        return self.classifier == trained.NAME

    @property
    def title(self) -> str:
        """Data set, classifier and what else sets the table apart."""
        if self.is_trained:
            return f"{self.dataset}: trained, protocol {self.protocol}, selection {self.selection}"
        width = "free n" if self.width is None else f"width {self.width}"
        parts = [self.classifier, f"scaling {self.scaling}", f"protocol {self.protocol}"]
        return f"{self.dataset}: {', '.join([*parts, f'selection {self.selection}', width])}"

    def label(self, row: Row) -> str:
        """Name of a row: its architecture and the options that not all networks of the table share."""
        if self.is_trained:
            own = [*row.machine[:1], *trained.own_options(row.options, [r.options for r in self.rows if r.rank])]
            return row.architecture + (f" ({', '.join(own)})" if own else "")
        if row.is_baseline:
            return row.architecture
        others = [r.options for r in self.rows if not r.is_baseline]
        own = [
            key if value is True else f"{key}={value}"
            for key, value in sorted(row.options.items())
            if any(options.get(key) != value for options in others)
        ]
        return row.architecture + (f" ({', '.join(own)})" if own else "")

    def full_label(self, row: Row) -> str:
        """Name of a row where no column tells its n and input."""
        parts = [self.label(row)]
        alike = [r.n for r in self.rows if r.architecture == row.architecture and r.input == row.input]
        if len(set(alike) if self.is_trained else alike) > 1:
            parts.append(f"n={row.n}")
        several = len({r.input for r in self.rows if not r.is_baseline}) > 1
        return " ".join([*parts, row.input] if row.input != "raw" or (several and not row.is_baseline) else parts)

    def choices(self, most: int | None = None) -> list[str]:
        """Note on the most frequent hyper-parameters of its rows.

        Args:
            most: of how many rows, the best first; all when None.

        Returns:
            The note, or nothing when no row has hyper-parameters.
        """
        rows = [row for row in self.rows if row.hyperparameters]
        chosen = defaultdict(list)
        for row in rows[:most]:
            chosen[_settings(row.hyperparameters)].append(self.full_label(row))
        best = f", the best {most} rows" if len(rows) > len(rows[:most]) else ""
        settings = "; ".join(f"{setting} ({', '.join(names)})" for setting, names in chosen.items())
        return [f"Most frequent choice over folds and seeds{best}: {settings}."] if chosen else []


@dataclass(frozen=True, eq=False)
class Ranking:
    """Average ranks over data sets, and how alike the data sets rank."""

    title: str
    datasets: tuple[str, ...]
    labels: tuple[str, ...]
    ranks: np.ndarray  # [K]
    correlation: np.ndarray  # [D, D]


@dataclass(frozen=True, eq=False)
class Report:
    """All tables of some run folders.

    Attributes:
        tables: the tables, by data set, width, scaling and classifier.
        rankings: over several data sets, if there are several.
        provenance: commits and versions that the records name.
        warnings: what was left out or is not there yet.
        tag_tables: of networks that were trained on tags or values.
        gains: of training over untrained features, where both are there.
    """

    tables: tuple[Table, ...]
    rankings: tuple[Ranking, ...]
    provenance: tuple[str, ...]
    warnings: tuple[str, ...]
    tag_tables: tuple[tag_report.TagTable, ...] = ()
    gains: tuple[trained.Gain, ...] = ()

    @property
    def curves(self) -> list[tuple[str, str, tuple[Curve, ...]]]:
        """(data set, network, its learning curves) of all trained networks that have any."""
        return [
            (table.dataset, table.full_label(row), row.curves)
            for table in (*self.tables, *self.tag_tables)
            for row in table.rows
            if any(curve.rows for curve in row.curves)
        ]

    @property
    def orderings(self) -> list[OrderingResult]:
        """The published orderings, in all tables, claim by claim."""
        found = [result for table in self.tables for result in table.orderings]
        order = {claim: index for index, claim in enumerate([*CLAIMS, BEST_CLAIM])}
        return sorted(found, key=lambda result: order[result.claim])

    @cached_property
    def machines(self) -> list[Machine]:
        """The classifiers against one another, where there are several."""
        return compare_machines([table for table in self.tables if not table.is_trained])

    @property
    def ordering_note(self) -> str:
        """How the orderings were decided."""
        return ORDERING_NOTE

    def to_text(self) -> str:
        """The report for a terminal, at most 120 columns wide (class names and paths aside)."""
        return render.text(self)

    def to_markdown(self) -> str:
        """The report in full, as Markdown."""
        return render.markdown(self)

    def to_csv(self) -> str:
        """One line for each row of each table, numbers unrounded to six digits."""
        return render.csv_lines(self)

    def to_confusion_csv(self) -> str:
        """One line for each pair of classes of each table: how often its best took the true one for the other."""
        return render.confusion_csv_lines(self)

    def to_latex(self) -> str:
        """The tables and the confusion of the best of each, for a document that uses booktabs and graphicx."""
        return render.latex(self)

    def write(self, out: Path) -> None:
        """Write report.md, report.csv, report.tex, confusion.csv, accuracy.png and pareto.png into a folder.

        Where there are several classifiers also machines.png, where networks were trained curves.png, where on tags
        tags.csv. Figures of tags and values beside those of classes are called accuracy_tags.png and pareto_tags.png.

        Args:
            out: the folder; made when it is not there.
        """
        from mirjax import plots

        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("report.md", self.to_markdown()),
            ("report.csv", self.to_csv()),
            ("confusion.csv", self.to_confusion_csv()),
            ("report.tex", self.to_latex()),
        ):
            (out / name).write_text(text, encoding="utf-8", newline="\n")
        if self.tables:
            plots.plot_accuracy(self.tables, out / "accuracy.png")
            plots.plot_pareto(self.tables, out / "pareto.png")
        if self.tag_tables:
            (out / "tags.csv").write_text(render.tag_csv_lines(self), encoding="utf-8", newline="\n")
            panels, beside = [panel for table in self.tag_tables for panel in table.panels], self.figure_suffix
            plots.plot_accuracy(panels, out / f"accuracy{beside}.png", what=tag_report.AXIS)
            plots.plot_pareto(panels, out / f"pareto{beside}.png", what=tag_report.AXIS)
        if self.machines:
            plots.plot_machines(self.machines, out / "machines.png")
        if self.curves:
            plots.plot_curves(self.curves, out / "curves.png")

    @property
    def figure_suffix(self) -> str:
        """Of the figures of tags: nothing where there are no others."""
        return "_tags" if self.tables else ""


def build_report(workdirs: Sequence, out: Path | None = None) -> Report:
    """Summarise run folders and write the report's files.

    Args:
        workdirs: run folders; what several of them hold is merged.
        out: where to write; the first run folder when None.

    Returns:
        The report.

    Raises:
        ValueError: no run folder, or what :func:`summarise` refuses.
    """
    report = summarise(workdirs)
    report.write(Path(out) if out is not None else Path(workdirs[0]))
    return report


def summarise(workdirs: Sequence) -> Report:
    """Make all tables of some run folders.

    Args:
        workdirs: run folders; a record that several hold counts once.

    Returns:
        The report, nothing written.

    Raises:
        ValueError: a folder without records, a damaged file, folders that split a data set differently, or records of
            different data under one name.
    """
    if not workdirs:
        raise ValueError("no run folder given; name at least one")
    cells, clips, warnings, provenance = read_cells([Path(workdir) for workdir in workdirs])
    of_tags = [cell for cell in cells if isinstance(cell, tag_cells.Cell)]
    made = _make_tables([cell for cell in cells if isinstance(cell, Cell)], clips)
    tables = [table for table, _ in made]
    return Report(
        tuple(tables),
        tuple(_make_rankings(tables)),
        tuple(provenance),
        tuple(warnings),
        tuple(tag_report.make_tables(of_tags)),
        trained.compare_with_untrained(made),
    )


# ── from cells to tables ──────────────────────────────────────────────────────────────────────────


def _make_tables(cells: list[Cell], clips: dict) -> list[tuple[Table, Clips]]:
    """The tables, each with its clips."""
    families = defaultdict(list)
    begun = {cell.key[:2] for cell in cells if cell.key.classifier == trained.NAME}
    for cell in cells:
        if cell.key.architecture not in UNTESTED:
            together = cell.of_training and cell.key[:2] in begun
            # data set, protocol, selection, scaling, classifier
            families[cell.of_training, *cell.key[: 2 if together else 5]].append(cell)
    tables = []
    for (of_training, *place), family in families.items():
        place = (of_training, *place[:2])
        untested = [c for c in cells if c.key.architecture in UNTESTED and (c.of_training, *c.key[:2]) == place]
        widths = {cell.key.width for cell in family if cell.key.width is not None} or {None}
        for width in sorted(widths, key=sorting_key):
            chosen = [cell for cell in family if cell.key.width in (width, None)]
            tables.append((_make_table(width, chosen, untested, clips[place]), clips[place]))
    names = ("dataset", "width", "scaling", "classifier", "protocol", "selection")
    return sorted(tables, key=lambda made: sorting_key(tuple(getattr(made[0], name) for name in names)))


def _make_rows(cells: list[Cell], clips: Clips) -> list[Row]:
    grouped, among_trained = defaultdict(list), any(cell.key.classifier == trained.NAME for cell in cells)
    for cell in cells:
        of_others = among_trained and cell.key.classifier not in (trained.NAME, "none")
        machine = (cell.key.classifier, cell.key.scaling, cell.key.selection) if of_others else ()
        grouped[cell.key.architecture, cell.key.n, cell.key.input, cell.key.options, machine].append(cell)
    rows = []
    for (architecture, n, kind, options, machine), group in sorted(
        grouped.items(), key=lambda item: sorting_key(item[0])
    ):
        # Chance and majority come with the run of every selection, and once is enough.
        group = list({canonical(cell.seed): cell for cell in group}.values())
        first = group[0].records[0]
        # What a network's training chose, epochs, is told by its curves.
        chosen = (None if r["classifier"] == trained.NAME else r["hyperparameters"] for c in group for r in c.records)
        settings = Counter(map(canonical, chosen))
        setting = min(settings, key=lambda text: (-settings[text], text))
        predicted = None
        if all(cell.predicted is not None for cell in group):
            predicted = np.stack([cell.predicted for cell in group])
        means = {m: _mean([cell.values.get(m) for cell in group]) for m in metrics.METRICS}
        rows.append(
            Row(
                architecture=architecture,
                n=n,
                input=kind,
                options=json.loads(options) or {},
                seeds=tuple(cell.seed for cell in group),
                **means,
                num_parameters=first["num_parameters"],
                num_features=first["num_features"],
                gflops=first["gflops"],
                feature_seconds_per_clip=_mean([[cell.records[0]["feature_seconds_per_clip"]] for cell in group]),
                hyperparameters=json.loads(setting) or {},
                predicted=predicted,
                correct=None if predicted is None else (predicted == clips.labels).astype(float),
                num_clips=len(clips.ids),
                machine=machine,
                curves=tuple(one for cell in group for one in read_curves(cell.workdir, cell.records)),
            )
        )
    return rows


def _mean(values) -> float | None:
    if any(value is None or None in value for value in values):
        return None
    return float(np.mean([np.mean(value) for value in values]))


def _make_table(width, cells, untested, clips: Clips) -> Table:
    first = next((cell for cell in cells if cell.key.classifier == trained.NAME), cells[0])
    selections = sorted({cell.key.selection for cell in cells if cell.key.classifier == first.key.classifier})
    rows = _make_rows([*cells, *untested], clips)
    decided = [row for row in rows if row.correct is not None]
    # Holm over twenty rows needs small p-values, and time allows them where clips are few.
    num_resamples = min(MOST_RESAMPLES, max(2000, MOST_RESAMPLES * 400 // len(clips.ids)))
    options = dict(weights=clips.weights, num_resamples=num_resamples)
    intervals = statistics.bootstrap_intervals(
        [row.correct for row in decided], clips.groups, single_split=first.key.protocol == "split", **options
    )
    with_interval = {row.setting: interval for row, interval in zip(decided, intervals, strict=True)}
    tested = [row for row in decided if row.architecture not in UNTESTED]
    compared = dict.fromkeys((row.setting for row in tested), None)
    if len(tested) > 1:
        comparisons = statistics.compare_with_best([row.correct for row in tested], clips.groups, **options)
        compared = {row.setting: comparison for row, comparison in zip(tested, comparisons, strict=True)}
    # The best of the test comes first also where rounding would order equal means otherwise.
    rows.sort(key=lambda r: (-round(r.accuracy, 9), r.setting not in compared, _is_behind(compared.get(r.setting))))
    rank, finished = 0, []
    for row in rows:
        rank += row.setting in compared
        finished.append(
            replace(
                row,
                rank=rank if row.setting in compared else None,
                interval=with_interval.get(row.setting),
                comparison=compared.get(row.setting),
            )
        )
    ranked = [row for row in finished if row.rank]
    networks = [row for row in ranked if not row.is_baseline]
    best = ranked[0]
    names = (*clips.classes, "other") if (best.predicted < 0).any() else clips.classes
    confusion = metrics.confusion_matrix(
        np.tile(clips.labels, len(best.predicted)),
        np.where(best.predicted < 0, len(clips.classes), best.predicted).ravel(),
        np.arange(len(names)),
    )
    several = [statistics.variance_components(row.correct) for row in networks if len(row.seeds) > 1]
    variance = None
    if several:
        parts = np.mean([(v.seed, v.clip, v.residual) for v in several], axis=0)
        variance = statistics.VarianceComponents(*map(float, parts))
    table = Table(
        dataset=first.key.dataset,
        classifier=first.key.classifier,
        scaling=first.key.scaling,
        protocol=first.key.protocol,
        selection=" and ".join(selections),
        width=width,
        rows=tuple(finished),
        classes=names,
        confusion=confusion,
        variance=variance,
        kendall=_kendall(networks, clips),
        seeds_needed="",
        notes=(),
        orderings=(),
    )
    table = replace(table, seeds_needed=_seeds_needed(table, ranked, clips))
    return replace(table, notes=tuple(_notes(table)), orderings=tuple(judge(table, clips)))


def _is_behind(comparison) -> bool:
    return comparison is not None and comparison.p is not None


def _kendall(networks: list[Row], clips: Clips) -> float | None:
    seeds = set.intersection(*(set(row.seeds) for row in networks)) if networks else set()
    accuracies = [
        [row.correct[row.seeds.index(seed)] @ clips.weights for row in networks]
        for seed in sorted(seeds, key=sorting_key)
    ]
    return statistics.kendall_between_seeds(np.array(accuracies)) if len(seeds) > 1 else None


def _seeds_needed(table: Table, ranked: list[Row], clips: Clips) -> str:
    if len(ranked) < 2:
        return ""
    first, second = ranked[:2]
    names = f"{table.full_label(first)} and {table.full_label(second)}"
    # A baseline without randomness has one seed; repeated, it is the same for every seed of the other.
    copies = [len(second.seeds) if first.is_baseline else 1, len(first.seeds) if second.is_baseline else 1]
    corrects = [
        np.repeat(row.correct, copy if len(row.seeds) == 1 else 1, axis=0)
        for row, copy in zip((first, second), copies, strict=True)
    ]
    if min(map(len, corrects)) < 2:
        return f"Seeds that would separate the first two ({names}): not to be told from one seed."
    number = statistics.seeds_to_separate(*corrects, clips.groups, weights=clips.weights)
    if number is None:
        answer = "no number would, the clips alone leave too much doubt; more clips or groups are needed"
    else:
        answer = f"{number}, were the observed difference the true one"
    return f"Seeds that would separate the first two ({names}) at the 5 % level: {answer}."


def _notes(table: Table) -> list[str]:
    """What stands below a table, but for :meth:`Table.choices`."""
    networks = [row for row in table.rows if row.rank and not row.is_baseline]
    notes = [
        "Intervals: 95 %, cluster bootstrap over seeds and clips (groups where given). p: against the best, paired on "
        "the same clips, the choice of the best accounted for, Holm over the rows; t: the study's two-sample t-test "
        "over networks, uncorrected."
    ]
    leaves_out = list(dict.fromkeys(row.interval.leaves_out for row in networks if row.interval.leaves_out))
    if leaves_out:
        notes.append(f"The intervals leave out {'; '.join(leaves_out)}.")
    if networks and all(len(row.seeds) == 1 for row in networks):
        notes.append("With one seed, p compares these very networks, not their architectures.")
    if table.is_trained:
        notes += _trained_notes(table, networks)
    else:
        notes.append(f"Hyper-parameters {SELECTION_NOTES.get(table.selection, table.selection)}.")
    if any(row.input == "standardised" for row in networks):
        notes.append(
            "standardised (transductive): one scalar mean and deviation over the whole set, test clips included."
        )
    shared = {
        key: value
        for row in networks[:1]
        for key, value in sorted(row.options.items())
        if all(other.options.get(key) == value for other in networks)
    }
    if shared and not table.is_trained:
        notes.append(f"All networks: {_settings(shared)}.")
    if table.variance:
        parts = (table.variance.seed, table.variance.clip, table.variance.residual)
        total = sum(parts) or 1.0
        seed, clip, rest = (f"{100 * part / total:.1f}" for part in parts)
        notes.append(f"Variance of a decision, averaged over networks: seeds {seed} %, clips {clip} %, rest {rest} %.")
    if table.kendall is not None:
        notes.append(f"Kendall's τ between the rankings of two seeds: {table.kendall:.2f}.")
    return [*notes, *filter(None, [table.seeds_needed])]


def _trained_notes(table: Table, networks: list[Row]) -> list[str]:
    """What is to be said of trained networks and of the baselines beside them."""
    notes = trained.notes_on(table, networks)
    for row in table.rows:
        if row.machine:
            classifier, scaling, selection = row.machine
            how = f", hyper-parameters {SELECTION_NOTES.get(selection, selection)}" if row.hyperparameters else ""
            notes.append(f"{row.architecture} ({classifier}): scaling {scaling}{how}.")
    return notes


def _settings(settings: dict) -> str:
    return ", ".join(f"{key}={_short(value)}" for key, value in settings.items())


def _short(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ── over tables ───────────────────────────────────────────────────────────────────────────────────


def _make_rankings(tables: list[Table]) -> list[Ranking]:
    grouped = defaultdict(list)
    for table in tables:
        grouped[table.classifier, table.scaling, table.width].append(table)
    rankings = []
    for (classifier, scaling, width), group in sorted(grouped.items(), key=lambda item: sorting_key(item[0])):
        if len({table.dataset for table in group}) < 2:
            continue
        ranked = [{row.setting: row for row in table.rows if row.rank} for table in group]
        common = [setting for setting in ranked[0] if all(setting in rows for rows in ranked)]
        if len(common) < 3:
            continue
        scores = np.array([[rows[setting].accuracy for setting in common] for rows in ranked])
        datasets = [table.dataset for table in group]
        if len(set(datasets)) < len(datasets):
            datasets = [f"{table.dataset} ({table.protocol}, {table.selection})" for table in group]
        ranks = statistics.average_ranks(np.round(scores, 9))
        order = np.argsort(ranks, kind="stable")
        rows = [ranked[0][common[index]] for index in order]
        correlation = statistics.rank_correlation(np.round(scores, 9))
        title = (
            classifier
            if classifier == trained.NAME
            else ", ".join([classifier, f"scaling {scaling}", "free n" if width is None else f"width {width}"])
        )
        labels = tuple(group[0].full_label(row) for row in rows)
        rankings.append(Ranking(title, tuple(datasets), labels, ranks[order], correlation))
    return rankings

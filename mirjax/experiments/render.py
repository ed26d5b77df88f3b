"""The report as terminal text, Markdown, CSV and LaTeX.

Convention
----------
Every writer takes a :class:`mirjax.experiments.report.Report` and returns text; equal reports give equal text.
Columns hold numbers right-aligned, names left-aligned. Terminal text is at most 120 columns wide: what is wider is
cut with an ellipsis. How tables look is in :mod:`mirjax.experiments.layout`.

What is here
------------
* :func:`text`, :func:`markdown`, :func:`csv_lines`, :func:`latex`: one writer each
* :func:`confusion_csv_lines`, :func:`tag_csv_lines`: confusion matrices, and every tag, for other files of CSV
"""

import json

import numpy as np

from mirjax.experiments import layout, machines, tag_lines, trained
from mirjax.experiments.tag_lines import COMPARED

TEXT_CHOICES = 5  # rows whose hyper-parameters the terminal names


def _sorted_json(value) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _interval(interval) -> str:
    return "–" if interval is None else f"{layout.percent(interval.low)}–{layout.percent(interval.high)}"


COLUMNS = (  # in full, and in the terminal's few columns
    ("rank", ""),
    ("architecture", "architecture"),
    ("n", "n"),
    ("input", "input"),
    ("accuracy %", "acc."),
    ("95 % interval", "95 %"),
    ("seeds × clips = decisions", "S×M"),
    ("p (Holm)", "p"),
    ("p (t-test)", "t"),
    ("balanced acc. %", "bal."),
    ("macro F1 %", "F1"),
    ("parameters", "params"),
    ("GFLOPs", "GFLOPs"),
    ("ms/clip", "ms"),
    ("features", "feat."),
)


def _columns(compact: bool) -> list[str]:
    return [names[compact] for names in COLUMNS]


COMPACT_NOTE = (
    "acc. accuracy, bal. balanced accuracy and F1 macro F1 in %; S×M seeds × clips, the test decisions; ms a clip for "
    "the features; feat. number of features; std (transd.) standardised over the whole set, test clips included."
)
LEFT = {1, 3}  # text columns; all others are numbers
GAIN_LEFT = {0, 1, 4}


def _cells_of(table, row, compact: bool) -> list[str]:
    inputs = {
        "standardised": "std (transd.)" if compact else "standardised (transductive)",
        "standardised_train": "std (train)" if compact else "standardised (train)",
    }
    seeds, clips = len(row.seeds), row.num_clips
    size = f"{seeds}×{clips}" if compact else f"{seeds} × {clips} = {seeds * clips:,}"
    comparison = row.comparison
    milliseconds = None if row.feature_seconds_per_clip is None else 1000 * row.feature_seconds_per_clip
    return [
        "–" if row.rank is None else str(row.rank),
        table.label(row),
        "–" if row.n is None else str(row.n),
        "–" if row.is_baseline else inputs.get(row.input, row.input),
        layout.percent(row.accuracy),
        _interval(row.interval),
        "–" if row.predicted is None else size,
        "best" if row.rank == 1 else layout.p_value(comparison and comparison.p_holm),
        layout.p_value(comparison and comparison.t_test_p),
        layout.percent(row.balanced_accuracy),
        layout.percent(row.macro_f1),
        layout.count(row.num_parameters, compact),
        layout.quantity(row.gflops),
        layout.quantity(milliseconds),
        layout.count(row.num_features, compact),
    ]


ORDERING_COLUMNS = ["claim", "made for", "data set", "classifier", "width", "input", "difference", "95 %", "verdict"]
ORDERING_LEFT = {0, 1, 2, 3, 5, 8}


def _ordering_cells(report) -> list[list[str]]:
    """A line for every ordering, the verdict last."""
    several = len({result.scaling for result in report.orderings}) > 1
    return [
        [
            f"{result.claim.first} {result.claim.relation} {result.claim.second}",
            result.claim.made_for,
            result.dataset,
            result.classifier + (f" ({result.scaling})" if several else ""),
            "–" if result.width is None else str(result.width),
            result.input,
            f"{100 * result.difference.difference:+.1f}",
            f"{100 * result.difference.low:+.1f} to {100 * result.difference.high:+.1f}",
            result.verdict,
        ]
        for result in report.orderings
    ]


def _confusion_lines(table) -> list[str]:
    digits = max(2, len(str(table.confusion.max())), len(str(len(table.classes))))
    names = [layout.cut(layout.visible(name), 24) for name in table.classes]
    width = max(map(layout.width, names))
    number = len(str(len(names)))
    head = " " * (number + 1 + width) + "".join(f" {index:>{digits}}" for index in range(1, len(names) + 1))
    lines = [
        f"{index:>{number}} {layout.pad(name, width)}" + "".join(f" {count:>{digits}}" for count in counts)
        for index, (name, counts) in enumerate(zip(names, table.confusion.tolist(), strict=True), 1)
    ]
    return [head, *lines]


def _confusion_cells(table) -> tuple[list[str], list[list[str]]]:
    rows = [
        [str(index), name, *map(str, counts)]
        for index, (name, counts) in enumerate(zip(table.classes, table.confusion.tolist(), strict=True), 1)
    ]
    return ["", "", *(row[0] for row in rows)], rows


def _confusion_title(table) -> str:
    best = table.best
    return (
        f"Confusion of the best, {table.full_label(best)}: true classes in rows, summed over {len(best.seeds)} seed"
        + ("s" if len(best.seeds) > 1 else "")
    )


def text(report) -> str:
    """Write the report for a terminal: every table, the confusion of the best of each data set, what spans tables.

    Of the hyper-parameters it says those of the best rows, of the published orderings those that are decided.

    Args:
        report: the report.

    Returns:
        Lines of at most 120 columns.
    """
    lines = []
    best_of = {}
    for table in report.tables:
        if table.dataset not in best_of or table.best.accuracy > best_of[table.dataset].best.accuracy:
            best_of[table.dataset] = table
    common = {}  # a note that stands below every table is said once
    for table in report.tables:
        for note in table.notes:
            common[note] = common.get(note, 0) + 1
    shared = [note for note, count in common.items() if count == len(report.tables) > 1]
    for table in report.tables:
        lines += ["", *layout.wrap(table.title), ""]
        cells = [_cells_of(table, row, compact=True) for row in table.rows]
        lines += layout.text_table(_columns(True), cells, LEFT, 1)
        for note in [*table.notes, *table.choices(TEXT_CHOICES)]:
            lines += [] if note in shared else layout.wrap(note)
        if best_of[table.dataset] is table:
            block = _confusion_lines(table)
            if max(map(layout.width, block)) <= layout.TEXT_COLUMNS:
                lines += ["", layout.visible(_confusion_title(table)), *block]
    if report.tables:
        lines += ["", "All tables"]
        for note in [COMPACT_NOTE, *shared]:
            lines += layout.wrap(note)
    for table in report.tag_tables:
        lines += ["", *layout.wrap(table.title), ""]
        cells = [tag_lines.cells(table, row, compact=True) for row in table.rows]
        lines += layout.text_table(tag_lines.columns(table, True), cells, tag_lines.LEFT, 1)
        for note in table.notes:
            lines += layout.wrap(note)
    if report.gains:
        lines += ["", *layout.wrap(trained.GAIN_NOTE), ""]
        lines += layout.text_table(list(trained.GAIN_COLUMNS), [gain.cells for gain in report.gains], GAIN_LEFT, 1)
    for ranking in report.rankings:
        lines += ["", *layout.wrap(f"Average ranks over {len(ranking.datasets)} data sets ({ranking.title})"), ""]
        rows = [[name, f"{rank:.2f}"] for name, rank in zip(ranking.labels, ranking.ranks, strict=True)]
        lines += layout.text_table(["architecture", "rank"], rows, {0}, 0)
        lines += ["", "Rank correlation between data sets (Spearman)"]
        lines += layout.text_table(*_correlation_cells(ranking), {0}, 0)
    if compared := report.machines:
        lines += ["", *layout.wrap(machines.NOTE), ""]
        head, rows = machines.cells(compared)
        few = len(machines.COLUMNS)
        lines += layout.text_table(head[:few], [row[:few] for row in rows], {0, 1}, 0)
    if report.orderings:
        cells = _ordering_cells(report)
        decided = [row for row in cells if row[-1] != "undecided"]
        lines += ["", *layout.wrap(report.ordering_note), ""]
        lines += layout.text_table(ORDERING_COLUMNS, decided, ORDERING_LEFT, 1) if decided else []
        if len(decided) < len(cells):
            lines.append(f"{len(cells) - len(decided)} of {len(cells)} are undecided; report.md lists them all.")
    for note in report.warnings:
        lines += layout.wrap(note)
    return "\n".join(lines).lstrip("\n")


def _correlation_cells(ranking) -> tuple[list[str], list[list[str]]]:
    rows = [
        [name, *("–" if np.isnan(value) else f"{value:.2f}" for value in values)]
        for name, values in zip(ranking.datasets, ranking.correlation, strict=True)
    ]
    return ["", *ranking.datasets], rows


def markdown(report) -> str:
    """Write the report in full as Markdown, beside accuracy.png and pareto.png.

    Args:
        report: the report.

    Returns:
        The document.
    """
    lines = [f"# {_kind(report)} report", ""]
    if report.tables:
        lines += ["![Accuracy with intervals](accuracy.png)", "", "![Accuracy against cost](pareto.png)", ""]
    if report.tag_tables:
        suffix = report.figure_suffix
        lines += [
            f"![Scores with intervals](accuracy{suffix}.png)",
            "",
            f"![Scores against cost](pareto{suffix}.png)",
            "",
        ]
    if report.curves:
        lines += ["![Learning curves](curves.png)", ""]
    for table in report.tables:
        cells = [_cells_of(table, row, compact=False) for row in table.rows]
        lines += [f"## {layout.visible(table.title)}", "", *layout.markdown_table(_columns(False), cells, LEFT), ""]
        lines += [f"- {layout.visible(note)}" for note in [*table.notes, *table.choices()]]
        lines += ["", f"{layout.visible(_confusion_title(table))}:", "", "```", *_confusion_lines(table), "```", ""]
    for table in report.tag_tables:
        cells = [tag_lines.cells(table, row, compact=False) for row in table.rows]
        lines += [
            f"## {layout.visible(table.title)}",
            "",
            *layout.markdown_table(tag_lines.columns(table, False), cells, tag_lines.LEFT),
            "",
        ]
        lines += [*(f"- {layout.visible(note)}" for note in table.notes), "", "All tags: tags.csv.", ""]
    if report.gains:
        lines += ["## Trained against untrained", "", trained.GAIN_NOTE, ""]
        lines += [
            *layout.markdown_table(list(trained.GAIN_COLUMNS), [gain.cells for gain in report.gains], GAIN_LEFT),
            "",
        ]
    for ranking in report.rankings:
        rows = [[name, f"{rank:.2f}"] for name, rank in zip(ranking.labels, ranking.ranks, strict=True)]
        lines += [f"## Over {len(ranking.datasets)} data sets: {ranking.title}", ""]
        lines += [*layout.markdown_table(["architecture", "average rank"], rows, {0}), ""]
        lines += ["Rank correlation between data sets (Spearman):", ""]
        lines += [*layout.markdown_table(*_correlation_cells(ranking), {0}), ""]
    if compared := report.machines:
        lines += ["## Classifiers", "", machines.NOTE, "", "![Classifiers](machines.png)", ""]
        lines += [*layout.markdown_table(*machines.cells(compared), {0, 1}), ""]
    if report.orderings:
        lines += ["## Published orderings", "", report.ordering_note, ""]
        lines += [*layout.markdown_table(ORDERING_COLUMNS, _ordering_cells(report), ORDERING_LEFT), ""]
    if report.warnings:
        lines += ["## Not in the tables", "", *(f"- {layout.visible(note)}" for note in report.warnings), ""]
    lines += ["## From", "", *(f"- {layout.visible(note)}" for note in report.provenance)]
    return "\n".join(lines) + "\n"


def _kind(report) -> str:
    """What the report is of, for its head."""
    is_trained = any(table.is_trained for table in report.tables) or report.tag_tables
    is_screened = any(not table.is_trained for table in report.tables)
    return "Training" if is_trained and not is_screened else "Training and screening" if is_trained else "Screening"


def csv_lines(report) -> str:
    """Write one line for each row of each table, numbers with six digits; columns of tags only where there are tags.

    Args:
        report: the report.

    Returns:
        Comma-separated lines under a line of names; empty without tables.
    """
    lines = []
    for table in report.tables:
        for row in table.rows:
            line = _table_keys(table, row) | {"rank": row.rank} | _row_keys(row) | {"accuracy": row.accuracy}
            line |= {key: getattr(row.interval, key, None) for key in ("low", "high")}
            line |= {"num_seeds": len(row.seeds), "num_clips": row.num_clips}
            line |= {name: getattr(row.comparison, key, None) for key, name in COMPARED.items()}
            names = ("balanced_accuracy", "macro_f1", "num_parameters", "gflops", "feature_seconds_per_clip")
            line |= {key: getattr(row, key) for key in (*names, "num_features")}
            line |= {"hyperparameters": _sorted_json(row.hyperparameters) if row.hyperparameters else None}
            line |= {"leaves_out": getattr(row.interval, "leaves_out", None)}
            lines.append(line)
    lines += [line for table in report.tag_tables for line in tag_lines.row_lines(table)]
    return layout.csv_text(lines)


def tag_csv_lines(report) -> str:
    """Write one line for each tag of each row of each table of tags, for a file beside the table's CSV.

    Args:
        report: the report.

    Returns:
        Comma-separated lines under a line of names (:func:`mirjax.experiments.tag_lines.tag_lines`); empty without
        tables.
    """
    return layout.csv_text([line for table in report.tag_tables for line in tag_lines.tag_lines(table)])


def confusion_csv_lines(report) -> str:
    """Write how often the best of each table took one class for another, summed over its seeds.

    Args:
        report: the report.

    Returns:
        Comma-separated lines under a line of names, one for every pair of classes: what names the table, its best
        row, `true`, `predicted` and `count`; empty without tables.
    """
    return layout.csv_text(
        [
            _table_keys(table, table.best)
            | _row_keys(table.best)
            | ({"options": table.label(table.best)} if table.is_trained else {})  # all of them would be long
            | {"true": true, "predicted": predicted, "count": count}
            for table in report.tables
            for true, counts in zip(table.classes, table.confusion.tolist(), strict=True)
            for predicted, count in zip(table.classes, counts, strict=True)
        ]
    )


def _table_keys(table, row) -> dict:
    keys = {key: getattr(table, key) for key in ("dataset", "classifier", "scaling", "protocol", "selection", "width")}
    return keys | dict(zip(("classifier", "scaling", "selection"), row.machine, strict=False))


def _row_keys(row) -> dict:
    return {"architecture": row.architecture, "n": row.n, "input": row.input, "options": _sorted_json(row.options)}


def latex(report) -> str:
    """Write the tables, each of classes with the confusion of its best, for a LaTeX document with booktabs, graphicx.

    Args:
        report: the report.

    Returns:
        `table` environments.
    """
    lines = [r"% needs \usepackage{booktabs,graphicx} and, for names beyond ASCII, a Unicode engine", ""]
    for table in report.tables:
        cells = [_cells_of(table, row, compact=False) for row in table.rows]
        notes = " ".join([*table.notes, *table.choices()])
        lines += layout.latex_table(f"{table.title}. {notes}", _columns(False), cells, LEFT)
        caption = f"{table.title}. {_confusion_title(table)}; predicted ones in columns, by number."
        lines += layout.latex_table(caption, *_confusion_cells(table), {1})
    for table in report.tag_tables:
        cells = [tag_lines.cells(table, row, compact=False) for row in table.rows]
        lines += layout.latex_table(
            f"{table.title}. {' '.join(table.notes)}", tag_lines.columns(table, False), cells, tag_lines.LEFT
        )
    if report.gains:
        lines += layout.latex_table(
            trained.GAIN_NOTE, list(trained.GAIN_COLUMNS), [gain.cells for gain in report.gains], GAIN_LEFT
        )
    for ranking in report.rankings:
        names = f"{len(ranking.datasets)} data sets ({ranking.title})"
        rows = [[name, f"{rank:.2f}"] for name, rank in zip(ranking.labels, ranking.ranks, strict=True)]
        lines += layout.latex_table(f"Average ranks over {names}", ["architecture", "average rank"], rows, {0})
        lines += layout.latex_table(f"Spearman's rank correlation between {names}", *_correlation_cells(ranking), {0})
    if compared := report.machines:
        lines += layout.latex_table(machines.NOTE, *machines.cells(compared), {0, 1})
    if report.orderings:
        lines += layout.latex_table(report.ordering_note, ORDERING_COLUMNS, _ordering_cells(report), ORDERING_LEFT)
    return "\n".join(lines)

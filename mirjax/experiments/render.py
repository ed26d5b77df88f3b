"""The report as terminal text, Markdown, CSV and LaTeX.

Convention
----------
Every writer takes a :class:`mirjax.experiments.report.Report` and returns text; equal reports give equal text.
Columns hold numbers right-aligned, names left-aligned. Terminal text is at most 120 columns wide: what is wider is
cut with an ellipsis. `–` stands for "does not apply". Control characters in names are written as escapes (`\\n`).

What is here
------------
* :func:`text`, :func:`markdown`, :func:`csv_lines`, :func:`latex`: one writer each
* :func:`confusion_csv_lines`: the confusion matrices, for a file beside the table's CSV
"""

import csv
import io
import json
import textwrap
import unicodedata

import numpy as np

from mirjax.experiments import machines

TEXT_COLUMNS = 120
TEXT_CHOICES = 5  # rows whose hyper-parameters the terminal names
UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's controls, lone surrogates, line and paragraph separators


def _visible(text: str) -> str:
    """Names with escapes for what would break a line, move a cursor or not encode."""
    return "".join(
        sign.encode("unicode_escape").decode() if unicodedata.category(sign) in UNPRINTABLE else sign for sign in text
    )


def _percent(value) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _p_value(value) -> str:
    if value is None:
        return "–"
    return "<.001" if value < 0.001 else "1" if value > 0.9995 else f"{value:.3f}"[1:]


def _quantity(value, digits=3) -> str:
    """Three significant digits without an exponent."""
    if not value:
        return "–"
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    return f"{value:.{min(decimals, 6)}f}"


def _sorted_json(value) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _count(value, compact: bool) -> str:
    if not value:
        return "–"
    if not compact or value < 10_000:
        return f"{value:,}" if not compact else str(value)
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{_quantity(value / unit)}{name}"
    raise AssertionError


def _interval(interval) -> str:
    return "–" if interval is None else f"{_percent(interval.low)}–{_percent(interval.high)}"


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
        _percent(row.accuracy),
        _interval(row.interval),
        "–" if row.predicted is None else size,
        "best" if row.rank == 1 else _p_value(comparison and comparison.p_holm),
        _p_value(comparison and comparison.t_test_p),
        _percent(row.balanced_accuracy),
        _percent(row.macro_f1),
        _count(row.num_parameters, compact),
        _quantity(row.gflops),
        _quantity(milliseconds),
        _count(row.num_features, compact),
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
    names = [_cut(_visible(name), 24) for name in table.classes]
    width = max(map(_width, names))
    number = len(str(len(names)))
    head = " " * (number + 1 + width) + "".join(f" {index:>{digits}}" for index in range(1, len(names) + 1))
    lines = [
        f"{index:>{number}} {_pad(name, width)}" + "".join(f" {count:>{digits}}" for count in counts)
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


def _width(text: str) -> int:
    """Columns of a terminal: wide East Asian signs take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def _pad(text: str, width: int, left: bool = True) -> str:
    blanks = " " * (width - _width(text))
    return text + blanks if left else blanks + text


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    while _width(text) > width - 1:
        text = text[:-1]
    return text + "…"


def _text_table(head: list[str], rows: list[list[str]], left: set[int], flexible: int) -> list[str]:
    """Aligned columns; the flexible one is cut where the line would be too long."""
    head, *rows = [[_visible(cell) for cell in row] for row in [head, *rows]]
    widths = [max(_width(row[index]) for row in [head, *rows]) for index in range(len(head))]
    excess = sum(widths) + len(widths) - 1 - TEXT_COLUMNS
    if excess > 0:
        widths[flexible] = max(8, widths[flexible] - excess)
    lines = []
    for row in [head, *rows]:
        parts = [_pad(_cut(cell, widths[i]), widths[i], i in left) for i, cell in enumerate(row)]
        lines.append(" ".join(parts).rstrip())
    lines.insert(1, "─" * max(map(_width, lines)))
    return lines


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(_visible(text), TEXT_COLUMNS, subsequent_indent="  ", break_on_hyphens=False)


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
        lines += ["", *_wrap(table.title), ""]
        cells = [_cells_of(table, row, compact=True) for row in table.rows]
        lines += _text_table(_columns(True), cells, LEFT, 1)
        for note in [*table.notes, *table.choices(TEXT_CHOICES)]:
            lines += [] if note in shared else _wrap(note)
        if best_of[table.dataset] is table:
            block = _confusion_lines(table)
            if max(map(_width, block)) <= TEXT_COLUMNS:
                lines += ["", _visible(_confusion_title(table)), *block]
    if report.tables:
        lines += ["", "All tables"]
        for note in [COMPACT_NOTE, *shared]:
            lines += _wrap(note)
    for ranking in report.rankings:
        lines += ["", *_wrap(f"Average ranks over {len(ranking.datasets)} data sets ({ranking.title})"), ""]
        rows = [[name, f"{rank:.2f}"] for name, rank in zip(ranking.labels, ranking.ranks, strict=True)]
        lines += _text_table(["architecture", "rank"], rows, {0}, 0)
        lines += ["", "Rank correlation between data sets (Spearman)"]
        lines += _text_table(*_correlation_cells(ranking), {0}, 0)
    if compared := report.machines:
        lines += ["", *_wrap(machines.NOTE), ""]
        head, rows = machines.cells(compared)
        few = len(machines.COLUMNS)
        lines += _text_table(head[:few], [row[:few] for row in rows], {0, 1}, 0)
    if report.orderings:
        cells = _ordering_cells(report)
        decided = [row for row in cells if row[-1] != "undecided"]
        lines += ["", *_wrap(report.ordering_note), ""]
        lines += _text_table(ORDERING_COLUMNS, decided, ORDERING_LEFT, 1) if decided else []
        if len(decided) < len(cells):
            lines.append(f"{len(cells) - len(decided)} of {len(cells)} are undecided; report.md lists them all.")
    for note in report.warnings:
        lines += _wrap(note)
    return "\n".join(lines).lstrip("\n")


def _correlation_cells(ranking) -> tuple[list[str], list[list[str]]]:
    rows = [
        [name, *("–" if np.isnan(value) else f"{value:.2f}" for value in values)]
        for name, values in zip(ranking.datasets, ranking.correlation, strict=True)
    ]
    return ["", *ranking.datasets], rows


def _markdown_table(head: list[str], rows: list[list[str]], left: set[int]) -> list[str]:
    escaped = [[_visible(cell).replace("|", "\\|") for cell in row] for row in [head, *rows]]
    rule = [":--" if index in left else "--:" for index in range(len(head))]
    return [f"| {' | '.join(row)} |" for row in [escaped[0], rule, *escaped[1:]]]


def markdown(report) -> str:
    """Write the report in full as Markdown, beside accuracy.png and pareto.png.

    Args:
        report: the report.

    Returns:
        The document.
    """
    lines = ["# Screening report", ""]
    if report.tables:
        lines += ["![Accuracy with intervals](accuracy.png)", "", "![Accuracy against cost](pareto.png)", ""]
    for table in report.tables:
        cells = [_cells_of(table, row, compact=False) for row in table.rows]
        lines += [f"## {_visible(table.title)}", "", *_markdown_table(_columns(False), cells, LEFT), ""]
        lines += [f"- {_visible(note)}" for note in [*table.notes, *table.choices()]]
        lines += ["", f"{_visible(_confusion_title(table))}:", "", "```", *_confusion_lines(table), "```", ""]
    for ranking in report.rankings:
        rows = [[name, f"{rank:.2f}"] for name, rank in zip(ranking.labels, ranking.ranks, strict=True)]
        lines += [f"## Over {len(ranking.datasets)} data sets: {ranking.title}", ""]
        lines += [*_markdown_table(["architecture", "average rank"], rows, {0}), ""]
        lines += ["Rank correlation between data sets (Spearman):", ""]
        lines += [*_markdown_table(*_correlation_cells(ranking), {0}), ""]
    if compared := report.machines:
        lines += ["## Classifiers", "", machines.NOTE, "", "![Classifiers](machines.png)", ""]
        lines += [*_markdown_table(*machines.cells(compared), {0, 1}), ""]
    if report.orderings:
        lines += ["## Published orderings", "", report.ordering_note, ""]
        lines += [*_markdown_table(ORDERING_COLUMNS, _ordering_cells(report), ORDERING_LEFT), ""]
    if report.warnings:
        lines += ["## Not in the tables", "", *(f"- {_visible(note)}" for note in report.warnings), ""]
    lines += ["## From", "", *(f"- {_visible(note)}" for note in report.provenance)]
    return "\n".join(lines) + "\n"


def csv_lines(report) -> str:
    """Write one line for each row of each table, numbers with six digits.

    Args:
        report: the report.

    Returns:
        Comma-separated lines under a line of names; empty without tables.
    """
    lines = []
    for table in report.tables:
        for row in table.rows:
            line = _table_keys(table) | {"rank": row.rank} | _row_keys(row) | {"accuracy": row.accuracy}
            line |= {key: getattr(row.interval, key, None) for key in ("low", "high")}
            line |= {"num_seeds": len(row.seeds), "num_clips": row.num_clips}
            names = {"difference": "difference", "low": "difference_low", "high": "difference_high"}
            names |= {"p": "p", "p_holm": "p_holm", "t_test_p": "t_test_p"}
            line |= {name: getattr(row.comparison, key, None) for key, name in names.items()}
            names = ("balanced_accuracy", "macro_f1", "num_parameters", "gflops", "feature_seconds_per_clip")
            line |= {key: getattr(row, key) for key in (*names, "num_features")}
            line |= {"hyperparameters": _sorted_json(row.hyperparameters) if row.hyperparameters else None}
            line |= {"leaves_out": getattr(row.interval, "leaves_out", None)}
            lines.append({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in line.items()})
    return _csv(lines)


def confusion_csv_lines(report) -> str:
    """Write how often the best of each table took one class for another, summed over its seeds.

    Args:
        report: the report.

    Returns:
        Comma-separated lines under a line of names, one for every pair of classes: what names the table, its best
        row, `true`, `predicted` and `count`; empty without tables.
    """
    return _csv(
        [
            _table_keys(table) | _row_keys(table.best) | {"true": true, "predicted": predicted, "count": count}
            for table in report.tables
            for true, counts in zip(table.classes, table.confusion.tolist(), strict=True)
            for predicted, count in zip(table.classes, counts, strict=True)
        ]
    )


def _table_keys(table) -> dict:
    return {key: getattr(table, key) for key in ("dataset", "classifier", "scaling", "protocol", "selection", "width")}


def _row_keys(row) -> dict:
    return {"architecture": row.architecture, "n": row.n, "input": row.input, "options": _sorted_json(row.options)}


def _csv(lines: list[dict]) -> str:
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: _visible(v) if isinstance(v, str) else v for k, v in line.items()} for line in lines)
    return text.getvalue()


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "<": r"$<$",
    ">": r"$>$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "τ": r"$\tau$",
    "–": "--",
    "…": r"\dots{}",
    "§": r"\S",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in _visible(text))


def _latex_table(caption: str, head: list[str], rows: list[list[str]], left: set[int]) -> list[str]:
    columns = "".join("l" if index in left else "r" for index in range(len(head)))
    lines = [" & ".join(map(_latex, row)) + r" \\" for row in [head, *rows]]
    return [
        r"\begin{table}[htbp]",
        r"\centering\small",
        rf"\caption{{{_latex(caption)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        lines[0],
        r"\midrule",
        *lines[1:],
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
        "",
    ]


def latex(report) -> str:
    """Write the tables, each with the confusion of its best, for a LaTeX document with booktabs and graphicx.

    Args:
        report: the report.

    Returns:
        `table` environments.
    """
    lines = [r"% needs \usepackage{booktabs,graphicx} and, for names beyond ASCII, a Unicode engine", ""]
    for table in report.tables:
        cells = [_cells_of(table, row, compact=False) for row in table.rows]
        notes = " ".join([*table.notes, *table.choices()])
        lines += _latex_table(f"{table.title}. {notes}", _columns(False), cells, LEFT)
        caption = f"{table.title}. {_confusion_title(table)}; predicted ones in columns, by number."
        lines += _latex_table(caption, *_confusion_cells(table), {1})
    for ranking in report.rankings:
        names = f"{len(ranking.datasets)} data sets ({ranking.title})"
        rows = [[name, f"{rank:.2f}"] for name, rank in zip(ranking.labels, ranking.ranks, strict=True)]
        lines += _latex_table(f"Average ranks over {names}", ["architecture", "average rank"], rows, {0})
        lines += _latex_table(f"Spearman's rank correlation between {names}", *_correlation_cells(ranking), {0})
    if compared := report.machines:
        lines += _latex_table(machines.NOTE, *machines.cells(compared), {0, 1})
    if report.orderings:
        lines += _latex_table(report.ordering_note, ORDERING_COLUMNS, _ordering_cells(report), ORDERING_LEFT)
    return "\n".join(lines)

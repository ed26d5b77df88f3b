"""Tables as terminal text, Markdown, CSV and LaTeX, whatever they are about.

Convention: a table is its head, its rows of text, and the numbers of its text columns, which are aligned on the left.
`–` stands for "does not apply". Control characters in names are written as escapes (`\\n`).
Names: :func:`text_table`, :func:`wrap`, :func:`markdown_table`, :func:`latex_table`, :func:`csv_text`; for cells
:func:`visible`, :func:`percent`, :func:`p_value`, :func:`quantity`, :func:`count`; for columns :func:`width`,
:func:`pad`, :func:`cut`.
"""

import csv
import io
import textwrap
import unicodedata

import numpy as np

TEXT_COLUMNS = 120
UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's controls, lone surrogates, line and paragraph separators


def visible(text: str) -> str:
    """Names with escapes for what would break a line, move a cursor or not encode."""
    return "".join(
        sign.encode("unicode_escape").decode() if unicodedata.category(sign) in UNPRINTABLE else sign for sign in text
    )


def percent(value) -> str:
    """A share in % with one decimal."""
    return "–" if value is None else f"{100 * value:.1f}"


def p_value(value) -> str:
    """A p-value with three decimals and no leading zero."""
    if value is None:
        return "–"
    return "<.001" if value < 0.001 else "1" if value > 0.9995 else f"{value:.3f}"[1:]


def quantity(value, digits=3) -> str:
    """Three significant digits without an exponent."""
    if not value:
        return "–"
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value)))))
    return f"{value:.{min(decimals, 6)}f}"


def count(value, compact: bool) -> str:
    """A whole number; compact ones of 10,000 and more have three digits and a unit."""
    if not value:
        return "–"
    if not compact or value < 10_000:
        return f"{value:,}" if not compact else str(value)
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{quantity(value / unit)}{name}"
    raise AssertionError


def width(text: str) -> int:
    """Columns of a terminal: wide East Asian signs take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def pad(text: str, columns: int, left: bool = True) -> str:
    """Text with blanks on its right, or left, side."""
    blanks = " " * (columns - width(text))
    return text + blanks if left else blanks + text


def cut(text: str, columns: int) -> str:
    """Text that is too wide, with an ellipsis for its end."""
    if width(text) <= columns:
        return text
    while width(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def text_table(head: list[str], rows: list[list[str]], left: set[int], flexible: int) -> list[str]:
    """Aligned columns; the flexible one is cut where the line would be too long."""
    head, *rows = [[visible(cell) for cell in row] for row in [head, *rows]]
    widths = [max(width(row[index]) for row in [head, *rows]) for index in range(len(head))]
    excess = sum(widths) + len(widths) - 1 - TEXT_COLUMNS
    if excess > 0:
        widths[flexible] = max(8, widths[flexible] - excess)
    lines = []
    for row in [head, *rows]:
        parts = [pad(cut(cell, widths[i]), widths[i], i in left) for i, cell in enumerate(row)]
        lines.append(" ".join(parts).rstrip())
    lines.insert(1, "─" * max(map(width, lines)))
    return lines


def wrap(text: str) -> list[str]:
    """Text as lines of a terminal, all but the first indented."""
    return textwrap.wrap(visible(text), TEXT_COLUMNS, subsequent_indent="  ", break_on_hyphens=False)


def markdown_table(head: list[str], rows: list[list[str]], left: set[int]) -> list[str]:
    """Lines of a table of Markdown."""
    escaped = [[visible(cell).replace("|", "\\|") for cell in row] for row in [head, *rows]]
    rule = [":--" if index in left else "--:" for index in range(len(head))]
    return [f"| {' | '.join(row)} |" for row in [escaped[0], rule, *escaped[1:]]]


def csv_text(lines: list[dict]) -> str:
    """Comma-separated lines under a line of their names; numbers have six digits, what is missing or NaN is empty."""
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _csv_value(value) for name, value in line.items()} for line in lines)
    return text.getvalue()


def _csv_value(value):
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.6g}"
    return visible(value) if isinstance(value, str) else value


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
    return "".join(_LATEX.get(sign, sign) for sign in visible(text))


def latex_table(caption: str, head: list[str], rows: list[list[str]], left: set[int]) -> list[str]:
    """Lines of a `table` environment, for a document with booktabs and graphicx."""
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

"""Tables of tags or values as cells and lines of CSV, for the writers of :mod:`mirjax.experiments.render`.

Names: :data:`LEFT`, :func:`columns`, :func:`cells`, :func:`row_lines`, :func:`tag_lines`.
"""

import json

from mirjax.experiments import layout, tag_report, trained
from mirjax.experiments.tag_report import TagRow, TagTable

LEFT = {1}  # text columns; all others are numbers
COMPARED = {"difference": "difference", "low": "difference_low", "high": "difference_high"}
COMPARED |= {"p": "p", "p_holm": "p_holm", "t_test_p": "t_test_p"}


def columns(table: TagTable, compact: bool) -> list[str]:
    """The head, in full or in a terminal's few columns."""
    percent = "" if compact or table.kind == "values" else " %"
    head = ["" if compact else "rank", "architecture", "n"]
    for metric in table.metrics:
        head += [tag_report.NAMES[metric] + percent, "95 %" if compact else "95 % interval"]
        head += ["p"] if compact else ["less the best", "95 % interval", "p (Holm)"]
    if table.kind == "many":
        head += ["rounded", "exact", "Hamming"] if compact else ["rounded ROC-AUC %", "exact match %", "Hamming loss %"]
    return [*head, "S×M" if compact else "seeds × clips", "params" if compact else "parameters", "GFLOPs"]


def cells(table: TagTable, row: TagRow, compact: bool) -> list[str]:
    """A row under :func:`columns`."""
    found = ["–" if row.rank is None else str(row.rank), table.label(row), "–" if row.n is None else str(row.n)]
    for metric in table.metrics:
        bounds, comparison = _bounds(row, metric), row.comparisons and row.comparisons[metric]
        found += [
            tag_report.value_text(metric, row.values[metric]),
            "–" if bounds is None else "–".join(tag_report.value_text(metric, bound) for bound in bounds),
        ]
        is_best = row.rank and (comparison is None or comparison.p is None)  # by each metric another row may be
        if not compact:
            apart = None if is_best else tag_report.difference(metric, comparison)
            texts = apart and {name: tag_report.value_text(metric, value) for name, value in apart.items()}
            found += [texts["difference"], f"{texts['low']} to {texts['high']}"] if texts else ["–", "–"]
        found.append("best" if is_best else layout.p_value(comparison and comparison.p_holm))
    for extra in tag_report.EXTRAS[table.kind]:
        found.append(tag_report.value_text(extra, row.values[extra]) if extra in row.values else "–")
    size = f"{len(row.seeds)}{'×' if compact else ' × '}{row.num_clips}"
    return [*found, size if row.seeds else "–", layout.count(row.num_parameters, compact), layout.quantity(row.gflops)]


def _bounds(row: TagRow, metric: str) -> list[float] | None:
    """The interval of a metric, the lower number first."""
    interval = row.intervals and row.intervals[metric]
    return interval and sorted(tag_report.score(metric, bound) for bound in (interval.low, interval.high))


def row_lines(table: TagTable) -> list[dict]:
    """A line of CSV for each row."""
    lines = []
    for row in table.rows:
        line = _keys(table, row) | {"num_seeds": len(row.seeds), "num_clips": row.num_clips}
        line |= {key: getattr(row, key) for key in ("num_parameters", "gflops", "num_features")}
        for metric in table.metrics:
            bounds, comparison = _bounds(row, metric), row.comparisons and row.comparisons[metric]
            line |= {metric: row.values[metric]}
            line |= {f"{metric}_{name}": bounds and bounds[i] for i, name in enumerate(("low", "high"))}
            compared = {key: getattr(comparison, key, None) for key in COMPARED}
            compared |= tag_report.difference(metric, comparison) or {}
            line |= {f"{metric}_{COMPARED[key]}": value for key, value in compared.items()}
        lines.append(line | {extra: row.values.get(extra) for extra in tag_report.EXTRAS[table.kind]})
    return lines


def tag_lines(table: TagTable) -> list[dict]:
    """A line of CSV for each tag of each row.

    `clips` are those with the tag (of values the labels' mean), metrics are means over folds and seeds, `left_out`
    says where there is none and why.
    """
    keys = {"dataset": table.dataset, "protocol": table.protocol, "selection": table.selection}
    return [
        keys
        | {"rank": row.rank, "network": table.full_label(row), "tag": tag, "clips": float(table.totals[k])}
        | {metric: float(row.by_tag[metric][k]) for metric in table.metrics}
        | {"left_out": table.left_out.get(tag)}
        for row in table.rows
        for k, tag in enumerate(table.tags)
    ]


def _keys(table: TagTable, row: TagRow) -> dict:
    options = json.dumps(row.options, sort_keys=True, ensure_ascii=False)
    keys = {
        "dataset": table.dataset,
        "classifier": trained.NAME,
        "protocol": table.protocol,
        "selection": table.selection,
    }
    return keys | {
        "rank": row.rank,
        "architecture": row.architecture,
        "n": row.n,
        "input": row.input,
        "options": options,
    }

"""The table of a rank correlation: a line for each network, data set, method, input and seed.

Columns: `network`, `set`, `kind` (`untrained`, `trained` or `proxy`), `method`, `input`, `seed`, `value` (accuracy on
the test clips, or a proxy's score), `seconds`, `epochs` (of trainings: of every fold, with a space between), `correct`:
the decisions on the test clips in the order of their ids, eight a byte, in hexadecimal, after their number. They are
those on the clips that the trained networks were tested on, so that all methods of a data set are judged by the same.
Names: `COLUMNS`, `read_table`, `unpack`, `to_csv`.
"""

import csv
import io
import math
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mirjax import results
from mirjax.experiments import proxy_scores

COLUMNS = ("network", "set", "kind", "method", "input", "seed", "value", "seconds", "epochs", "correct")
KINDS = ("untrained", "trained", "proxy")
_KEY = ("set", "kind", "method", "input", "network", "seed")


def read_table(*paths) -> list[dict]:
    """Rows of run folders and tables together; one told twice counts once.

    Args:
      paths: run folders of `rank_correlation`, or `.csv` tables such a run has written.

    Raises:
      ValueError: nothing of the kind is there; a line that is no row (named with its number); two rows of one network,
        method and seed that differ.
    """
    found: dict[tuple, tuple[dict, Path]] = {}
    for path in map(Path, paths):
        for row in _of_table(path) if path.is_file() else _of_folder(path):
            key = tuple(row[name] for name in _KEY)
            if key in found and any(found[key][0][name] != row[name] for name in ("value", "correct")):
                told = ", ".join(map(str, key))
                raise ValueError(f"{found[key][1]} and {path} differ in {told}; report them apart, or rename a set")
            found.setdefault(key, (row, path))
    return [row for row, _ in found.values()]


def to_csv(rows: Iterable[dict]) -> str:
    """The text of a table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def unpack(text: str) -> np.ndarray:
    """Decisions bool[M] of the column `correct`.

    Raises:
      ValueError: no number, no digits, or fewer of them than decisions.
    """
    count, _, digits = text.partition(":")
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))
    if not 0 < int(count) <= len(bits) < int(count) + 8:
        raise ValueError(f"{len(bits)} bits for {count} clips")
    return bits[: int(count)].astype(bool)


def _of_table(path: Path) -> list[dict]:
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if set(reader.fieldnames or ()) != set(COLUMNS):
            raise ValueError(f"{path} is no table of a rank correlation (columns {', '.join(COLUMNS)})")
        return [_checked(row, f"{path}, line {number}") for number, row in enumerate(reader, start=2)]


def _checked(row: dict, where: str) -> dict:
    if None in row or None in row.values():
        raise ValueError(f"{where}: {len(COLUMNS)} columns are needed; mend the line, or leave it out")
    found = dict(row)
    for column, kind in (("seed", int), ("value", float), ("seconds", float)):
        try:
            found[column] = kind(row[column])
        except ValueError:
            raise ValueError(f"{where}: {column}={row[column]!r} is no number; mend it, or drop the line") from None
    if not all(number.isdecimal() for number in row["epochs"].split()):
        raise ValueError(f"{where}: epochs={row['epochs']!r} are no whole numbers; mend them, or drop the line")
    if row["kind"] not in KINDS:
        raise ValueError(f"{where}: kind={row['kind']!r} is not one of {', '.join(KINDS)}")
    if (row["kind"] == "proxy") == bool(row["correct"]):
        raise ValueError(f"{where}: proxies have no decisions (`correct`), all others have; kind={row['kind']!r}")
    if row["correct"]:
        try:
            unpack(row["correct"])
        except ValueError as error:
            raise ValueError(f"{where}: correct={row['correct'][:20]!r}… holds no decisions ({error})") from None
    return found


def _of_folder(path: Path) -> list[dict]:
    rows = []
    for folder in sorted(each.parent for each in path.glob("*/untrained")):
        trained = [_row(folder.name, "trained", *cell) for cell in _cells(folder / "trained", "trained")]
        tested = set(trained[0][1]) if trained else None
        untrained = [_row(folder.name, "untrained", *cell) for cell in _cells(folder / "untrained", "untrained")]
        for row, decisions in trained + untrained:
            if tested is None or tested <= decisions.keys():
                rows.append(row | _packed([decisions[clip] for clip in sorted(tested or decisions)]))
        for line in proxy_scores.read_scores(folder / "proxies.jsonl"):
            if line["value"] is not None and math.isfinite(line["value"]):
                rows.append(
                    {"network": line["network"], "set": folder.name, "kind": "proxy", "method": line["proxy"],
                     "input": "", "seed": line["seed"], "value": float(f"{line['value']:.6g}"),
                     "seconds": line["seconds"], "epochs": "", "correct": ""}
                )  # fmt: skip
    if not rows:
        raise ValueError(
            f"{path} holds no rank correlation; give the folder that `launch.py run rank_correlation` made"
        )
    return rows


def _packed(decisions) -> dict:
    correct = np.array(decisions, bool)
    return {
        "value": round(float(correct.mean()), 6),
        "correct": f"{len(correct)}:{np.packbits(correct).tobytes().hex()}",
    }


def _row(name: str, kind: str, folds: list[dict], decisions: dict) -> tuple[dict, dict]:
    """A row without its decisions, and these: {clip: right}; from a record of each fold."""
    record, chosen = folds[0], [fold["hyperparameters"] or {} for fold in folds]
    seconds = record["seconds"] + record["feature_seconds_per_clip"] * (record["n_train"] + record["n_test"])
    return {
        "network": record["architecture"],
        "set": name,
        "kind": kind,
        "method": record["classifier"],
        "input": record["input"] if kind == "untrained" else "",
        "seed": record["seed"],
        "value": 0.0,
        "seconds": round(seconds, 4),
        "epochs": " ".join(str(each["epochs"]) for each in chosen if "epochs" in each) if kind == "trained" else "",
        "correct": "",
    }, decisions


def _cells(folder: Path, kind: str):
    """Of every network's cell a record of each fold, and the decisions {clip: right}."""
    if not (folder / "records.jsonl").is_file():
        return
    with warnings.catch_warnings(action="ignore"):
        records = results.read_records(folder)
    seen: dict[str, dict[str, dict]] = {}
    for record in records:
        is_network = record["classifier"] == "trained" or (kind == "untrained" and record["num_features"])
        if is_network and record["predictions"] and record["architecture"] != "mfcc":
            seen.setdefault(record["predictions"], {}).setdefault(record["fold"], record)
    for name, folds in seen.items():
        rows = results.read_predictions(folder, name)
        yield list(folds.values()), {row["id"]: row["label"] == row["prediction"] for row in rows}

"""From the records and decisions of run folders to cells: one seed of a row of a report.

A cell that lacks folds or decisions is left out with a warning; records that differ in nothing but their fingerprint,
so come of other data or code under one name, are refused. Networks trained on tags or values have cells of their own
(`tag_cells`).
Names: `Key`, `Clips`, `Cell`, `read_cells`, `canonical`, `sorting_key`.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mirjax import results, statistics
from mirjax.experiments import tag_cells, trained

NOTHING_YET = "no complete cell of a network or of mfcc yet; run again to go on"
UNTESTED = ("majority", "chance")


class Key(NamedTuple):
    """What a row of a table averages over seeds; options as sorted JSON."""

    dataset: str
    protocol: str
    selection: str
    scaling: str
    classifier: str
    architecture: str
    width: int | None
    n: int | None
    input: str
    options: str


@dataclass(frozen=True, eq=False)
class Clips:
    """The clips of a data set under one protocol, by id."""

    ids: list
    folds: np.ndarray
    groups: np.ndarray
    labels: np.ndarray  # class numbers
    classes: tuple[str, ...]

    @property
    def weights(self) -> np.ndarray:
        """Weights that turn the mean over clips into the mean over folds."""
        return statistics.fold_weights(self.folds)


@dataclass(frozen=True, eq=False)
class Cell:
    """One seed of a row: its values by metric, a record of every fold, and its decisions as class numbers."""

    key: Key
    seed: object
    values: dict[str, list[float]]
    records: list[dict]
    predicted: np.ndarray | None
    workdir: Path
    of_training: bool  # whether its run folder holds trained networks


def canonical(value) -> str:
    """A value as JSON, the same text for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def sorting_key(key) -> tuple:
    """Sorting key of tuples that hold numbers, text and None."""
    if isinstance(key, tuple):
        return tuple(sorting_key(part) for part in key)
    return (key is not None, isinstance(key, str), key if key is not None else 0)


def read_cells(workdirs: list[Path]):
    """All complete cells, the clips of each (of a training, dataset, protocol), warnings and provenance."""
    grouped, splits, prints, provenance = defaultdict(lambda: defaultdict(list)), {}, {}, set()
    for workdir in workdirs:
        found = results.read_records(workdir)
        of_training = any(record["classifier"] == trained.NAME for record in found)
        for record in found:
            place = (record["dataset"], record["protocol"])
            split, first = splits.setdefault(place, (record["split_hash"], workdir))
            if split != record["split_hash"]:
                raise ValueError(
                    f"{record['dataset']} is split differently in {first} and {workdir} "
                    f"({split}, {record['split_hash']}); report them apart"
                )
            versions = ", ".join(f"{name} {version}" for name, version in sorted((record["versions"] or {}).items()))
            provenance.add(f"commit {record['commit'] or 'unknown'}; {versions or 'versions unknown'}")
            key = Key(*(record[name] for name in Key._fields[:-1]), canonical(record["options"]))
            identity = (key, record["seed"], record["fold"], record["metric"])
            known, first = prints.setdefault(identity, (record["fingerprint"], workdir))
            if known != record["fingerprint"]:
                raise ValueError(_different(key, record["seed"], first, workdir))
            grouped[key, record["seed"], of_training][workdir].append(record)
    cells, clips = [], {}
    folds, warnings = _choose_folds(grouped)
    for (key, seed, of_training), folders in sorted(grouped.items(), key=lambda item: sorting_key(item[0])):
        problems, place = [], (of_training, *key[:2])
        for workdir, records in folders.items():  # a cell that several folders hold counts once
            try:
                if tag_cells.is_of_tags(records):
                    cells.append(tag_cells.read_cell(key, seed, workdir, records, folds[place], clips, place))
                else:
                    cells.append(_read_cell(key, seed, workdir, records, folds[place], clips, place))
                break
            except ValueError as error:
                problems.append(str(error))
        else:
            name = f"{key.dataset}, {key.architecture}, n={key.n}, {key.input}, {key.classifier}, seed {seed}"
            warnings.append(f"left out: {name}: {'; '.join(problems)}")
    begun = {cell.key.dataset for cell in cells if cell.key.architecture not in UNTESTED}
    warnings += [f"{dataset}: {NOTHING_YET}" for dataset in sorted({name for name, _ in splits} - begun)]
    if not splits:
        warnings.append(NOTHING_YET)
    return cells, clips, warnings, sorted(provenance)


def _choose_folds(grouped) -> tuple[dict, list[str]]:
    """The folds of every (of a training, dataset, protocol), and warnings where they are not the same.

    A screening is of all folds, so a cell that lacks one is not complete. A training may be of some, and trainings are
    compared on those that all their run folders have.
    """
    by_folder = defaultdict(lambda: defaultdict(set))
    for (key, _, of_training), folders in grouped.items():
        for workdir, records in folders.items():
            by_folder[of_training, *key[:2]][workdir] |= {record["fold"] for record in records}
    folds, warnings = {}, []
    for place, found in by_folder.items():
        folds[place] = whole = set.union(*found.values())
        if place[0] and (common := set.intersection(*found.values())):
            folds[place] = common
        if folds[place] != whole:
            warnings.append(
                f"{place[1]}: tables of trainings are about folds {_listed(folds[place])} of {_listed(whole)}"
            )
    for (of_training, *place), own in folds.items():
        if of_training and (others := folds.get((False, *place), own)) != own:
            warnings.append(f"{place[0]}: trainings are about folds {_listed(own)}, screenings about {_listed(others)}")
    return folds, warnings


def _listed(folds: set) -> str:
    return ", ".join(sorted(folds))


def _different(key: Key, seed, first: Path, second: Path) -> str:
    """What to say of two results for one cell of the same name."""
    name = f"{key.dataset}, {key.architecture}, n={key.n}, {key.input}, {key.classifier}, seed {seed}"
    cause = "the data, or the code that made them, differ under one name"
    if first == second:
        return f"{name}: {first} holds two different results; {cause}: run again into an empty workdir"
    return f"{name}: {first} and {second} hold different results; {cause}: rename one data set or report them apart"


def _read_cell(key: Key, seed, workdir: Path, records: list[dict], folds: set, clips: dict, place: tuple) -> Cell:
    by_metric = defaultdict(dict)
    for record in records:
        by_metric[record["metric"]][record["fold"]] = record
    missing = {fold for values in by_metric.values() for fold in folds - values.keys()}
    if missing or "accuracy" not in by_metric:
        raise ValueError(f"folds {sorted(missing)} are missing" if missing else "its accuracy is missing")
    values = {metric: [found[fold]["value"] for fold in sorted(folds)] for metric, found in by_metric.items()}
    records = [by_metric["accuracy"][fold] for fold in sorted(folds)]
    name, predicted = records[0]["predictions"], None
    if name is None and key.architecture not in UNTESTED:
        raise ValueError("it has no decisions")
    if name is not None:
        rows = sorted(results.read_predictions(workdir, name), key=lambda row: str(row["id"]))
        rows = [row for row in rows if row["fold"] in folds or not place[0]]
        if {row["fold"] for row in rows} != folds:
            raise ValueError("its decisions are not of the folds of its records")
        reference = clips.setdefault(place, clips.get(place) or _make_clips(rows))
        if reference.ids != [row["id"] for row in rows]:
            raise ValueError("its decisions are about other clips")
        numbers = {name: number for number, name in enumerate(reference.classes)}
        predicted = np.array([numbers.get(str(row["prediction"]), -1) for row in rows], np.int32)
        if abs((predicted == reference.labels) @ reference.weights - np.mean(values["accuracy"])) > 1e-6:
            raise ValueError("its records and decisions disagree")
    return Cell(key, seed, values, records, predicted, workdir, place[0])


def _make_clips(rows) -> Clips:
    known = {str(row["label"]) for row in rows} | {str(name) for row in rows for name in row["scores"] or ()}
    classes = tuple(sorted(known))
    numbers = {name: number for number, name in enumerate(classes)}
    return Clips(
        ids=[row["id"] for row in rows],
        folds=np.array([str(row["fold"]) for row in rows]),
        groups=np.array([str(row["id"] if row["group"] is None else row["group"]) for row in rows]),
        labels=np.array([numbers[str(row["label"])] for row in rows], np.int32),
        classes=classes,
    )

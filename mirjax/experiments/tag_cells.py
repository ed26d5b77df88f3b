"""What networks that were trained on tags or values said of their test clips: one seed of a row of a report.

Convention
----------
A metric is computed on every test fold and, for areas, averaged over the tags that have a clip in it; then over folds,
as in the records. *Scores* of networks are higher where a network is better: areas as they are, 1 − RMSE.
Names: :class:`Clips`, :class:`Cell`, :func:`is_of_tags`, :func:`read_cell`, :func:`by_fold`, :func:`chance`,
:func:`left_out`.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mirjax import decisions, metrics, results, statistics
from mirjax.experiments import tag_shares

TOLERANCE = 1e-3  # of a metric from stored scores, which have six digits: ties may be new
RMSE = "rmse"
KNOWN = (*metrics.TAG_METRICS, *metrics.VALUE_METRICS)


@dataclass(frozen=True, eq=False)
class Clips:
    """The test clips of a data set, by id.

    Attributes:
        tags: K names.
        targets: bool[M, K], or f64[M, K] values.
    """

    ids: list
    folds: np.ndarray
    groups: np.ndarray
    tags: tuple[str, ...]
    targets: np.ndarray

    @property
    def of_folds(self) -> list[np.ndarray]:
        """Numbers of the clips of every fold, folds by name."""
        return [np.flatnonzero(self.folds == fold) for fold in np.unique(self.folds)]

    @property
    def weights(self) -> np.ndarray:
        """Weights that turn the mean over clips into the mean over folds."""
        return statistics.fold_weights(self.folds)


@dataclass(frozen=True, eq=False)
class Cell:
    """One seed of a row: a record of every fold, and its scores f64[M, K] of the clips.

    Attributes:
        key: as `report_cells.Key`.
        kind: `many` or `values`.
        values: means over folds, by metric.
    """

    key: tuple
    seed: object
    kind: str
    values: dict[str, float]
    records: list[dict]
    scores: np.ndarray
    clips: Clips
    workdir: Path


def is_of_tags(records: Sequence[dict]) -> bool:
    """Whether the records of a cell are about tags or values."""
    return any(record["metric"] in KNOWN for record in records)


def read_cell(key, seed, workdir: Path, records: list[dict], folds: set, clips: dict, place: tuple) -> Cell:
    """Read the predictions of a cell and hold them against its records.

    Args:
        key: what the cell's row averages over seeds.
        seed: its seed.
        workdir: its run folder.
        records: all its records.
        folds: those it must have.
        clips: (place, kind) → the clips of its data set; filled in by the first cell.
        place: of its data set and protocol.

    Returns:
        The cell.

    Raises:
        ValueError: folds or files are missing; other clips or tags than those of the first cell; records and scores
            that disagree.
    """
    by_metric = defaultdict(dict)
    for record in records:
        by_metric[record["metric"]][record["fold"]] = record
    kind = "values" if RMSE in by_metric else "many"
    wanted = metrics.VALUE_METRICS if kind == "values" else metrics.TAG_METRICS
    missing = {fold for metric in wanted for fold in folds - by_metric[metric].keys()}
    if missing:
        raise ValueError(f"folds {sorted(missing)} are missing")
    records = [by_metric[wanted[0]][fold] for fold in sorted(folds)]
    if records[0]["predictions"] is None:
        raise ValueError("it has no scores")
    rows = [row for row in results.read_predictions(workdir, records[0]["predictions"]) if row["fold"] in folds]
    rows.sort(key=lambda row: str(row["id"]))
    if {row["fold"] for row in rows} != folds:
        raise ValueError("its scores are not of the folds of its records")
    reference = clips.setdefault((place, kind), clips.get((place, kind)) or _make_clips(rows, kind))
    if reference.ids != [row["id"] for row in rows]:
        raise ValueError("its scores are about other clips")
    if any(row["scores"] is None or row["scores"].keys() != set(reference.tags) for row in rows):
        raise ValueError("its scores are about other tags")
    scores = np.array([[row["scores"][tag] for tag in reference.tags] for row in rows], float)
    values = {metric: float(np.mean([by_metric[metric][fold]["value"] for fold in folds])) for metric in wanted}
    again = _metrics_of(kind, reference, scores)
    if any(abs(again[metric] - values[metric]) > TOLERANCE for metric in wanted):
        raise ValueError("its records and scores disagree")
    return Cell(key, seed, kind, again | values, records, scores, reference, workdir)


def _make_clips(rows, kind: str) -> Clips:
    tags = tuple(sorted(rows[0]["scores"] or ()))
    places = {tag: number for number, tag in enumerate(tags)}
    targets = np.zeros((len(rows), len(tags)))
    for row, target in zip(rows, targets, strict=True):
        for part in filter(lambda part: part not in ("", "-"), map(str.strip, str(row["label"]).split("|"))):
            name, _, value = part.rpartition(":") if kind == "values" and ":" in part else (part, "", "1")
            if name.strip() not in places:
                raise ValueError(f"label {row['label']!r} of {row['id']} has a tag without a score, {name.strip()!r}")
            target[places[name.strip()]] = float(value)
    return Clips(
        ids=[row["id"] for row in rows],
        folds=np.array([str(row["fold"]) for row in rows]),
        groups=np.array([str(row["id"] if row["group"] is None else row["group"]) for row in rows]),
        tags=tags,
        targets=targets > 0.5 if kind == "many" else targets,
    )


def _metrics_of(kind: str, clips: Clips, scores) -> dict[str, float]:
    """All metrics from scores, averaged over folds."""
    found = defaultdict(list)
    for chosen in clips.of_folds:
        truth, said = clips.targets[chosen], scores[chosen]
        if kind == "values":
            found[RMSE].append(metrics.score_values(truth, said)[RMSE])
            continue
        rounded = decisions.round_outputs(said)
        for metric, area in metrics.score_tags(truth, said).items():
            found[metric].append(area.mean)
        found["rounded_roc_auc"].append(metrics.roc_auc(truth, rounded).mean)
        found["exact_match"].append(metrics.exact_match(truth, rounded))
        found["hamming_loss"].append(metrics.hamming_loss(truth, rounded))
    return {metric: float(np.mean(values)) for metric, values in found.items()}


def by_fold(cell: Cell) -> tuple[dict, dict]:
    """Shares f64[M] of the clips in the cell's scores, and values of tags f64[K], both by metric.

    Values are means over the folds where a tag has one, NaN where it has none in any.
    """
    clips, shares, by_tag = cell.clips, defaultdict(lambda: np.zeros(len(cell.clips.ids))), defaultdict(list)
    for chosen in clips.of_folds:
        truth, said = clips.targets[chosen], cell.scores[chosen]
        if cell.kind == "values":
            shares[RMSE][chosen] = 1 - tag_shares.error_shares(truth, said)
            by_tag[RMSE].append(metrics.root_mean_squared_error(truth, said).values)
            continue
        for metric, values in tag_shares.area_shares(truth, said).items():
            shares[metric][chosen] = values
        for metric, area in metrics.score_tags(truth, said).items():
            by_tag[metric].append(area.values)
    return dict(shares), {metric: _mean_of_known(np.stack(values)) for metric, values in by_tag.items()}


def _mean_of_known(values):
    """Mean over the first axis of what is no NaN; NaN where all is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(0) / known.sum(0)


def chance(kind: str, clips: Clips) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """What the labels alone give, outputs that say nothing of the clip: values by metric, and those of the tags."""
    found, by_tag = defaultdict(list), defaultdict(list)
    for chosen in clips.of_folds:
        truth = clips.targets[chosen].astype(float)
        if kind == "values":
            error = metrics.root_mean_squared_error(truth, np.broadcast_to(truth.mean(0), truth.shape))
            found[RMSE].append(error.overall)
            by_tag[RMSE].append(error.values)
            continue
        for metric, area in metrics.score_tags(truth > 0.5, np.zeros(truth.shape)).items():
            found[metric].append(area.mean)
            by_tag[metric].append(area.values)
    values = {metric: float(np.mean(each)) for metric, each in found.items()}
    return values, {metric: _mean_of_known(np.stack(each)) for metric, each in by_tag.items()}


def left_out(clips: Clips) -> dict[str, str]:
    """Tag → the folds whose mean it is not in, and why."""
    found = {}
    names = np.unique(clips.folds)
    for k, tag in enumerate(clips.tags):
        counts = [(clips.targets[chosen, k].sum(), len(chosen)) for chosen in clips.of_folds]
        for kind, lacks in (("without", [c == 0 for c, _ in counts]), ("with", [c == n for c, n in counts])):
            if any(lacks):
                where = (
                    ""
                    if len(names) == 1
                    else f" in fold {', '.join(n for n, lack in zip(names, lacks, strict=True) if lack)}"
                )
                where = " in all folds" if all(lacks) and len(names) > 1 else where
                found[tag] = f"no clip {'has' if kind == 'without' else 'lacks'} it{where}"
    return found

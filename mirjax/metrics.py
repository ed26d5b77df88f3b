"""Scores of clips: single-label decisions, the tags of multi-label ones, and real values.

Convention
----------
*Single label*: labels are one-dimensional arrays of strings or integers, true ones first. Classes are those
that occur in truth or prediction, in sorted order, as in scikit-learn.

*Tags*: `targets[M, K]` says with 0 and 1 (or bool) which of K tags each of M clips has; `scores[M, K]` are real
numbers of any scale, higher where the tag is likelier; `decisions[M, K]` are 0 and 1. A curve over thresholds
has one point for each *distinct* score, so tied clips enter together and the order of clips cannot matter. A
tag for which a score means nothing (no positive clip; for ROC also no negative one) gets NaN, is named with
its reason in `left_out`, and is not in the mean. Ch. 3.4's released code also leaves out the last tag: for
that legacy number give `targets[:, :-1]` and `scores[:, :-1]`.

*Weights*: `weights[M] >= 0`, scikit-learn's `sample_weight`; a clip of weight 0 counts as absent.

Everything but the errors of values lies in [0, 1].

Metrics
-------
* :func:`accuracy`, :func:`balanced_accuracy`, :func:`macro_f1`, :func:`confusion_matrix`: single label;
  :func:`score` gives all of :data:`METRICS`
* :func:`roc_auc`, :func:`pr_auc`: ranking of clips by each tag; :func:`score_tags` gives all of
  :data:`TAG_METRICS`
* :func:`precision_recall_f1`, :func:`hamming_loss`, :func:`exact_match`: decisions on tags
* :func:`root_mean_squared_error`: real values; :func:`score_values` gives all of :data:`VALUE_METRICS`
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
TAG_METRICS = ("roc_auc", "pr_auc")
VALUE_METRICS = ("rmse",)


@dataclass(frozen=True, eq=False)
class TagScores:
    """One metric of every tag.

    Attributes:
        values: f64[K] in [0, 1], NaN for tags that are left out.
        mean: average over the other tags.
        left_out: `{tag: reason}` of those for which the metric means nothing.
    """

    values: np.ndarray
    mean: float
    left_out: Mapping[Hashable, str]


@dataclass(frozen=True, eq=False)
class ValueErrors:
    """Root of the mean squared error.

    Attributes:
        values: f64[K], √(mean over clips) of each tag.
        mean: average of `values` over the tags.
        overall: √(mean over clips and tags), never below `mean`.
    """

    values: np.ndarray
    mean: float
    overall: float


class PrecisionRecallF1(NamedTuple):
    """Precision, recall and their F1, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


def _check_weights(weights, num_clips: int) -> np.ndarray:
    """f64[M]: the weights of the clips, ones by default."""
    if weights is None:
        return np.ones(num_clips)
    weights = np.asarray(weights, np.float64)
    if weights.shape != (num_clips,) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise ValueError(
            f"weights {weights.shape} must be finite, >= 0, not all 0, and one for each of {num_clips} clips; "
            "give 0 to the clips that should not count"
        )
    return weights


def confusion_matrix(labels, predictions, classes=None, *, weights=None) -> np.ndarray:
    """Count how often each true class was given each prediction.

    Args:
        labels: true classes, str or int `[M]`.
        predictions: predicted classes, str or int `[M]`.
        classes: the K classes in the order of the rows; by default those that occur, sorted.
        weights: of the clips, f[M] >= 0; by default each counts once.

    Returns:
        int64 `[K, K]` (float64 with weights), true classes in rows, predicted ones in columns.

    Raises:
        ValueError: no labels, different lengths, a label that is not among `classes`, or unfit weights.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape or not len(labels):
        raise ValueError(
            f"labels {labels.shape} and predictions {predictions.shape} must be of one dimension and equal "
            "length, and not empty"
        )
    classes = np.unique(np.concatenate([labels, predictions])) if classes is None else np.asarray(classes)
    order = np.argsort(classes)
    rows, columns = (
        order[np.searchsorted(classes, values, sorter=order).clip(max=len(classes) - 1)]
        for values in (labels, predictions)
    )
    unknown = sorted(
        {*labels[classes[rows] != labels].tolist(), *predictions[classes[columns] != predictions].tolist()}
    )
    if unknown:
        raise ValueError(f"labels {unknown} are not among classes={classes.tolist()}; add them")
    counts = np.zeros((len(classes), len(classes)), np.int64 if weights is None else np.float64)
    np.add.at(counts, (rows, columns), 1 if weights is None else _check_weights(weights, len(labels)))
    return counts


def accuracy(labels, predictions, *, weights=None) -> float:
    """Share of right decisions.

    Args:
        labels: true classes `[M]`.
        predictions: predicted classes `[M]`.
        weights: of the clips, f[M] >= 0.

    Returns:
        Share in [0, 1].

    Raises:
        ValueError: as in :func:`confusion_matrix`.
    """
    return score(labels, predictions, weights=weights)["accuracy"]


def balanced_accuracy(labels, predictions, *, weights=None) -> float:
    """Recall, averaged over the classes that occur in the truth.

    Args:
        labels: true classes `[M]`.
        predictions: predicted classes `[M]`.
        weights: of the clips, f[M] >= 0.

    Returns:
        Share in [0, 1].

    Raises:
        ValueError: as in :func:`confusion_matrix`.

    Reference:
        Brodersen et al. 2010, The balanced accuracy and its posterior distribution.
    """
    return score(labels, predictions, weights=weights)["balanced_accuracy"]


def macro_f1(labels, predictions, *, weights=None) -> float:
    """F1 = 2·TP / (2·TP + FP + FN), averaged over the classes of truth or prediction.

    Args:
        labels: true classes `[M]`.
        predictions: predicted classes `[M]`.
        weights: of the clips, f[M] >= 0. A class whose clips all weigh 0 has F1 = 0, as in scikit-learn.

    Returns:
        Share in [0, 1].

    Raises:
        ValueError: as in :func:`confusion_matrix`.

    Reference:
        Sokolova and Lapalme 2009, A systematic analysis of performance measures for classification tasks.
    """
    return score(labels, predictions, weights=weights)["macro_f1"]


def score(labels, predictions, *, weights=None) -> dict[str, float]:
    """Compute every metric of :data:`METRICS` from one confusion matrix.

    Args:
        labels: true classes `[M]`.
        predictions: predicted classes `[M]`.
        weights: of the clips, f[M] >= 0.

    Returns:
        `{metric: value}` in the order of :data:`METRICS`.

    Raises:
        ValueError: as in :func:`confusion_matrix`.
    """
    counts = confusion_matrix(labels, predictions, weights=weights)
    right, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    return {
        "accuracy": float(right.sum() / counts.sum()),
        "balanced_accuracy": float(np.mean(right[true > 0] / true[true > 0])),
        "macro_f1": float(np.mean(_ratio(2 * right, true + predicted))),
    }


def roc_auc(targets, scores, *, weights=None, tags: Sequence[Hashable] | None = None) -> TagScores:
    """Area under the receiver operating characteristic of each tag.

    It is the chance that a clip with the tag scores above one without it, a tie counting one half.

    Args:
        targets: bool or 0/1 `[M, K]`.
        scores: f[M, K], finite; only their order within a tag matters.
        weights: of the clips, f[M] >= 0.
        tags: K different names; by default the numbers 0 … K−1.

    Returns:
        Areas in [0, 1], .5 for constant scores. Tags without a positive or a negative clip are left out.

    Raises:
        ValueError: shapes that differ, a target that is not 0 or 1, a score that is not finite (its clip and
            tag are named), unfit weights or names, or no tag that is left.

    Reference:
        Fawcett 2006, An introduction to ROC analysis. scikit-learn's `roc_auc_score`.
    """
    return _roc_auc(_curves(targets, scores, weights, tags))


def pr_auc(targets, scores, *, weights=None, tags: Sequence[Hashable] | None = None) -> TagScores:
    """Average precision of each tag, the usual area under the precision-recall curve:

        AP = Σ_n (R_n − R_{n−1}) P_n

    over the distinct scores from the highest down. This is scikit-learn's `average_precision_score`. The
    trapezoid over the same points, `auc(recall, precision)`, interpolates between them and is another number,
    mostly a higher one: do not compare the two.

    Args:
        targets: bool or 0/1 `[M, K]`.
        scores: f[M, K], finite; only their order within a tag matters.
        weights: of the clips, f[M] >= 0.
        tags: K different names; by default the numbers 0 … K−1.

    Returns:
        Areas in (0, 1], the share of positives for constant scores. Tags without a positive clip are left out.

    Raises:
        ValueError: as in :func:`roc_auc`.

    Reference:
        Davis and Goadrich 2006, The relationship between precision-recall and ROC curves.
    """
    return _pr_auc(_curves(targets, scores, weights, tags))


def score_tags(targets, scores, tags: Sequence[Hashable] | None = None, *, weights=None) -> dict[str, TagScores]:
    """Compute every metric of :data:`TAG_METRICS` from one sorting of the clips.

    Args:
        targets: bool or 0/1 `[M, K]`.
        scores: f[M, K], finite.
        tags: K different names; by default the numbers 0 … K−1.
        weights: of the clips, f[M] >= 0.

    Returns:
        `{metric: scores}` in the order of :data:`TAG_METRICS`. Each metric leaves out its own tags.

    Raises:
        ValueError: as in :func:`roc_auc`.
    """
    curves = _curves(targets, scores, weights, tags)
    return {"roc_auc": _roc_auc(curves), "pr_auc": _pr_auc(curves)}


class _Curves(NamedTuple):
    """Weights of clips at or above each threshold: E entries, tag by tag, thresholds from the highest down."""

    tags: Sequence[Hashable]
    tag: np.ndarray  # int[E], in ascending order
    true: np.ndarray  # f64[E], positives at or above the threshold
    false: np.ndarray  # f64[E], negatives at or above it
    new_true: np.ndarray  # f64[E], positives at the threshold
    new_false: np.ndarray  # f64[E], negatives at it
    lacking: Mapping[str, np.ndarray]  # bool[K]: tags without a positive or negative clip


def _curves(targets, scores, weights, tags) -> _Curves:
    targets, scores = _check_shapes(targets, scores, "scores")
    num_clips, num_tags = targets.shape
    tags = _check_tags(tags, num_tags)
    weights = _check_weights(weights, num_clips)
    targets, scores = _check_binary(targets, "targets", tags), _check_finite(scores, "scores", tags)

    present = weights > 0
    # Contiguous and stable: quick, and sums of weights are rounded alike on every machine.
    targets, scores = (np.ascontiguousarray(values[present].T) for values in (targets, scores))
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked, positive = (np.take_along_axis(values, order, axis=1) for values in (scores, targets))
    weights = weights[present][order]
    last_of_ties = np.ones(ranked.shape, bool)
    last_of_ties[:, :-1] = ranked[:, :-1] != ranked[:, 1:]
    tag = np.nonzero(last_of_ties)[0]
    first_of_tag = np.diff(tag, prepend=-1) > 0
    true, false = (np.cumsum(weights * kind, axis=1)[last_of_ties] for kind in (positive, ~positive))
    new_true, new_false = (np.where(first_of_tag, sums, np.diff(sums, prepend=0)) for sums in (true, false))
    lacking = {"positive": ~targets.any(1), "negative": targets.all(1)}
    return _Curves(tags, tag, true, false, new_true, new_false, lacking)


def _roc_auc(curves: _Curves) -> TagScores:
    tag, true, new_true, new_false = curves.tag, curves.true, curves.new_true, curves.new_false
    with np.errstate(invalid="ignore"):  # 0/0 where a tag lacks a kind of clip
        true_rate = (true - new_true / 2) / np.bincount(tag, new_true)[tag]  # half of the ties
        values = np.bincount(tag, new_false * true_rate) / np.bincount(tag, new_false)
    return _summarise("roc_auc", values, curves, ("positive", "negative"))


def _pr_auc(curves: _Curves) -> TagScores:
    tag, true, false, new_true = curves.tag, curves.true, curves.false, curves.new_true
    with np.errstate(invalid="ignore"):
        values = np.bincount(tag, new_true * (true / (true + false))) / np.bincount(tag, new_true)
    return _summarise("pr_auc", values, curves, ("positive",))


def _summarise(metric: str, values: np.ndarray, curves: _Curves, needs: Sequence[str]) -> TagScores:
    left_out = {curves.tags[k]: f"no {kind} clip" for kind in needs for k in np.flatnonzero(curves.lacking[kind])}
    kept = ~np.any([curves.lacking[kind] for kind in needs], axis=0)
    if not kept.any():
        raise ValueError(f"{metric} means nothing for any tag: {left_out}; give clips with and without a tag")
    return TagScores(values, float(values[kept].mean()), left_out)


def precision_recall_f1(targets, decisions, *, average: str = "micro", weights=None) -> PrecisionRecallF1:
    """Precision TP / (TP + FP), recall TP / (TP + FN) and F1 = 2·TP / (2·TP + FP + FN); 0/0 is 0.

    Args:
        targets: bool or 0/1 `[M, K]`.
        decisions: bool or 0/1 `[M, K]`.
        average: "micro" adds the counts of all tags first; "macro" averages each of the three over the tags
            (so its F1 is the mean of the tags' F1, not that of the two means). A tag that no clip has and none
            is given counts as 0 there, as in scikit-learn with `zero_division=0`.
        weights: of the clips, f[M] >= 0.

    Returns:
        The three, each in [0, 1].

    Raises:
        ValueError: another `average`, shapes that differ, a value that is not 0 or 1, or unfit weights.

    Reference:
        Sokolova and Lapalme 2009.
    """
    if average not in ("micro", "macro"):
        raise ValueError(f"average={average!r} is not known; choose 'micro' or 'macro'")
    targets, decisions, weights = _check_decisions(targets, decisions, weights)
    right, true, given = weights @ (targets & decisions), weights @ targets, weights @ decisions
    if average == "micro":
        right, true, given = right.sum(), true.sum(), given.sum()
    ratios = _ratio(right, given), _ratio(right, true), _ratio(2 * right, true + given)
    return PrecisionRecallF1(*(float(np.mean(ratio)) for ratio in ratios))


def hamming_loss(targets, decisions, *, weights=None) -> float:
    """Share of wrong decisions, over clips and tags.

    Args:
        targets: bool or 0/1 `[M, K]`.
        decisions: bool or 0/1 `[M, K]`.
        weights: of the clips, f[M] >= 0.

    Returns:
        Share in [0, 1], 0 at best.

    Raises:
        ValueError: as in :func:`precision_recall_f1`.
    """
    targets, decisions, weights = _check_decisions(targets, decisions, weights)
    return float(weights @ (targets != decisions).mean(1) / weights.sum())


def exact_match(targets, decisions, *, weights=None) -> float:
    """Share of clips of which every tag is decided rightly (scikit-learn's `accuracy_score` of tags).

    Args:
        targets: bool or 0/1 `[M, K]`.
        decisions: bool or 0/1 `[M, K]`.
        weights: of the clips, f[M] >= 0.

    Returns:
        Share in [0, 1].

    Raises:
        ValueError: as in :func:`precision_recall_f1`.
    """
    targets, decisions, weights = _check_decisions(targets, decisions, weights)
    return float(weights @ (targets == decisions).all(1) / weights.sum())


def root_mean_squared_error(targets, scores, *, weights=None) -> ValueErrors:
    """√MSE of quasi-uniform tags, which hold real values.

    `overall`, one number over all clips and tags, is what we compare with the thesis' table 5.1: the root of
    what its networks minimise. Whether the thesis took the root before the mean over tags (`mean`) is unknown.

    Args:
        targets: f[M, K], finite.
        scores: f[M, K], finite, in the unit of the targets.
        weights: of the clips, f[M] >= 0.

    Returns:
        Errors of each tag, their mean, and the overall one, in the unit of the targets.

    Raises:
        ValueError: shapes that differ, unfit weights, or a value that is not finite (clip and tag are named).

    Reference:
        Pons 2019, Deep neural networks for music and audio tagging, table 5.1.
    """
    targets, scores = _check_shapes(targets, scores, "scores")
    tags = range(targets.shape[1])
    weights = _check_weights(weights, len(targets))
    errors = _check_finite(scores, "scores", tags) - _check_finite(targets, "targets", tags)
    squares = weights @ errors**2 / weights.sum()
    values = np.sqrt(squares)
    return ValueErrors(values, float(values.mean()), float(np.sqrt(squares.mean())))


def score_values(targets, scores, *, weights=None) -> dict[str, float]:
    """Compute every metric of :data:`VALUE_METRICS`.

    Args:
        targets: f[M, K], finite.
        scores: f[M, K], finite.
        weights: of the clips, f[M] >= 0.

    Returns:
        `{metric: value}` in the order of :data:`VALUE_METRICS`: `rmse` over all clips and tags.

    Raises:
        ValueError: as in :func:`root_mean_squared_error`.
    """
    return {"rmse": root_mean_squared_error(targets, scores, weights=weights).overall}


def _ratio(part, whole) -> np.ndarray:
    """part / whole, and 0 for 0/0."""
    return part / np.where(whole > 0, whole, 1)


def _check_shapes(targets, values, name: str) -> tuple[np.ndarray, np.ndarray]:
    targets, values = np.asarray(targets), np.asarray(values)
    if targets.ndim != 2 or targets.shape != values.shape or not targets.size:
        raise ValueError(
            f"targets {targets.shape} and {name} {values.shape} must have one shape [clips, tags], and not be empty; "
            "give a single tag as [clips, 1]"
        )
    return targets, values


def _check_tags(tags, num_tags: int) -> Sequence[Hashable]:
    if tags is None:
        return range(num_tags)
    if len(tags) != num_tags or len(set(tags)) != num_tags:
        raise ValueError(
            f"tags holds {len(tags)} names, {len(set(tags))} of them different, for {num_tags} columns; "
            "give each column its own name"
        )
    return tags


def _check_each(good: np.ndarray, values: np.ndarray, name: str, tags, wanted: str) -> None:
    """Every value is good, or the first bad one is named."""
    if not good.all():
        clip, tag = np.argwhere(~good)[0]
        raise ValueError(
            f"{name}[{clip}, {tag}] = {values[clip, tag]} (clip {clip}, tag {tags[tag]!r}) is not {wanted}; "
            f"{np.sum(~good)} of {good.size} {name} are not: correct them, or leave their clips out"
        )


def _check_binary(values: np.ndarray, name: str, tags) -> np.ndarray:
    _check_each((values == 0) | (values == 1), values, name, tags, "0 or 1")
    return values.astype(bool)


def _check_finite(values: np.ndarray, name: str, tags) -> np.ndarray:
    values = values.astype(np.float64)
    _check_each(np.isfinite(values), values, name, tags, "finite")
    return values


def _check_decisions(targets, decisions, weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    targets, decisions = _check_shapes(targets, decisions, "decisions")
    tags = range(targets.shape[1])
    weights = _check_weights(weights, len(targets))
    return _check_binary(targets, "targets", tags), _check_binary(decisions, "decisions", tags), weights

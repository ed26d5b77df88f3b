"""Scores of single-label classification, from true and predicted labels.

Convention
---------- Labels are one-dimensional arrays of strings or integers, true ones first. Every score lies in [0,
1]. Classes are those that occur in truth or prediction, in sorted order, as in scikit-learn.

Metrics
-------
* :func:`accuracy`: share of right decisions
* :func:`balanced_accuracy`: recall averaged over the classes of the truth
* :func:`macro_f1`: F1 averaged over the classes of truth or prediction
* :func:`confusion_matrix`: counts, true classes in rows
* :func:`score`: all of :data:`METRICS` at once
"""

import numpy as np

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")


def confusion_matrix(labels, predictions, classes=None) -> np.ndarray:
    """Count how often each true class was given each prediction.

    Args:
        labels: true classes, str or int `[M]`.
        predictions: predicted classes, str or int `[M]`.
        classes: the K classes in the order of the rows; by default those that occur, sorted.

    Returns:
        int64 `[K, K]`, true classes in rows, predicted ones in columns.

    Raises:
        ValueError: no labels, different lengths, or a label that is not among `classes`.
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
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (rows, columns), 1)
    return counts


def accuracy(labels, predictions) -> float:
    """Share of right decisions.

    Args:
        labels: true classes `[M]`.
        predictions: predicted classes `[M]`.

    Returns:
        Share in [0, 1].

    Raises:
        ValueError: as in :func:`confusion_matrix`.
    """
    return score(labels, predictions)["accuracy"]


def balanced_accuracy(labels, predictions) -> float:
    """Recall, averaged over the classes that occur in the truth.

    Args:
        labels: true classes `[M]`.
        predictions: predicted classes `[M]`.

    Returns:
        Share in [0, 1].

    Raises:
        ValueError: as in :func:`confusion_matrix`.

    Reference:
        Brodersen et al. 2010, The balanced accuracy and its posterior distribution.
    """
    return score(labels, predictions)["balanced_accuracy"]


def macro_f1(labels, predictions) -> float:
    """F1 = 2·TP / (2·TP + FP + FN), averaged over the classes of truth or prediction.

    Args:
        labels: true classes `[M]`.
        predictions: predicted classes `[M]`.

    Returns:
        Share in [0, 1].

    Raises:
        ValueError: as in :func:`confusion_matrix`.

    Reference:
        Sokolova and Lapalme 2009, A systematic analysis of performance measures for classification tasks.
    """
    return score(labels, predictions)["macro_f1"]


def score(labels, predictions) -> dict[str, float]:
    """Compute every metric of :data:`METRICS` from one confusion matrix.

    Args:
        labels: true classes `[M]`.
        predictions: predicted classes `[M]`.

    Returns:
        `{metric: value}` in the order of :data:`METRICS`.

    Raises:
        ValueError: as in :func:`confusion_matrix`.
    """
    counts = confusion_matrix(labels, predictions)
    right, true, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
    return {
        "accuracy": float(right.sum() / counts.sum()),
        "balanced_accuracy": float(np.mean(right[true > 0] / true[true > 0])),
        "macro_f1": float(np.mean(2 * right / (true + predicted))),
    }

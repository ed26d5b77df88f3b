"""Nearest neighbours: the labels of the k closest training clips vote.

Conventions
-----------
`x f64[M, D]` features, one row a clip; every neighbour has one vote. Distances: Euclidean ‖x − x'‖, or cosine
1 − x·x' / (‖x‖‖x'‖). A row of zeros has no direction; its cosine distance is 1 to every row, a row of zeros
included. Of clips at one distance the earlier training row is the nearer, of classes with one number of votes the
first in sorted order wins.

Source
------
Cover and Hart (1967), Nearest neighbor pattern classification, IEEE Trans. Information Theory 13.

Names
-----
* `NearestNeighbours`: the classifier, in scikit-learn manners
* `measure_distances`, `rank_neighbours`, `count_votes`: its parts, shared with `grid`
"""

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, check_X_y, validate_data

from mirjax.classifiers import find_classes
from mirjax.classifiers.arithmetic import is_whole

METRICS = ("euclidean", "cosine")


def measure_distances(a, b, metric="euclidean"):
    """What orders the rows of b by their distance from those of a: f64[M, D], f64[N, D] → f64[M, N].

    Euclidean distances are left squared, in units of a power of two (a row's own, where it is 2¹⁰⁰ times the largest
    entry of b: it is equally far from all of b): exact, so that no square over- or underflows whatever the scale. Only
    entries of b below 1e-150 of its largest count as 0 where that lies outside 1e±100. The cosine distance is
    ½‖u − u'‖² of the rows divided by their norms: this is 1 − u·u' without its cancellation, so that rows in one
    direction are at most some 1e-32 apart.
    """
    if metric == "euclidean":
        largest = np.abs(b).max(initial=0)
        unit = 0 if 1e-100 < largest < 1e100 else np.frexp(largest)[1]
        above = np.maximum(np.frexp(np.abs(a).max(axis=1, initial=0))[1] - np.frexp(largest)[1] - 100, 0)
        return cdist(np.ldexp(a, -(unit + above)[:, None]), np.ldexp(b, -unit), "sqeuclidean")
    a, zero_a = _directions(a)
    b, zero_b = _directions(b)
    return np.where(zero_a[:, None] | zero_b[None, :], 1.0, cdist(a, b, "sqeuclidean") / 2)


def _directions(x):
    """Rows of norm 1 and which rows are zero; the largest entry goes first, so that no square over- or underflows."""
    largest = np.abs(x).max(axis=1, keepdims=True)
    zero = largest[:, 0] == 0
    x = x / np.where(zero[:, None], 1.0, largest)
    norms = np.sqrt(np.vecdot(x, x))[:, None]
    return x / np.where(zero[:, None], 1.0, norms), zero


def rank_neighbours(distances, n_neighbors):
    """The nearest training rows, nearest first: f64[m, n] → int[m, n_neighbors]."""
    return np.argsort(distances, axis=1, kind="stable")[:, :n_neighbors]


def count_votes(codes, n_neighbors, num_classes):
    """Votes of the first `n_neighbors` of each row of class indices: int[m, ≥ k] → int[m, K]."""
    first = codes[:, :n_neighbors]
    return (first[:, :, None] == np.arange(num_classes)[None, None, :]).sum(axis=1)


class NearestNeighbours(ClassifierMixin, BaseEstimator):
    """k nearest neighbours, exact.

    Args:
        n_neighbors: k, from 1 to the number of training rows.
        metric: "euclidean" or "cosine".

    Attributes:
        classes_: the labels, sorted [K].
        x_fit_, y_fit_: the training rows and labels.
        n_features_in_: D.

    Reference:
        Cover and Hart (1967).
    """

    def __init__(self, *, n_neighbors=1, metric="euclidean"):
        self.n_neighbors = n_neighbors
        self.metric = metric

    def fit(self, X, y):
        """Remember features X [M, D] and labels y [M] of at least two classes; returns self.

        Raises:
            ValueError: `n_neighbors` out of range, an unknown metric, features that are not finite, a single class.
        """
        if self.metric not in METRICS:
            raise ValueError(f"metric={self.metric!r} is none of {', '.join(METRICS)}")
        # Everything is checked before anything is remembered.
        checked, labels = check_X_y(X, y, dtype=np.float64, estimator=self)
        classes, _ = find_classes(labels)
        if not is_whole(self.n_neighbors) or self.n_neighbors > len(checked):
            raise ValueError(
                f"n_neighbors={self.n_neighbors!r} must be a whole number between 1 and the {len(checked)} training "
                "rows"
            )
        self.x_fit_, self.y_fit_ = validate_data(self, X, y, dtype=np.float64)
        self.classes_ = classes
        return self

    def predict_proba(self, X):
        """Share of the votes [M, K]."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        nearest = rank_neighbours(measure_distances(X, self.x_fit_, self.metric), self.n_neighbors)
        codes = np.searchsorted(self.classes_, self.y_fit_)[nearest]
        return count_votes(codes, self.n_neighbors, len(self.classes_)) / self.n_neighbors

    def predict(self, X):
        """The label [M] with most votes."""
        shares = self.predict_proba(X)
        return self.classes_[shares.argmax(axis=1)]

    def learnt(self):
        """The training rows and labels, for `mirjax.classifiers.save`."""
        return {"x": self.x_fit_, "y": self.y_fit_}

    def restore(self, arrays):
        """Fit again to what `learnt` gave; returns self."""
        return self.fit(arrays["x"], arrays["y"])

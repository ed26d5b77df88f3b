"""Nearest neighbours: the labels of the k closest training clips vote.

Conventions
-----------
`x f64[M, D]` features, one row a clip; Euclidean distance; every neighbour has one vote. Of clips at one
distance the earlier training row is the nearer, of classes with one number of votes the first in sorted order
wins.

Source
------
Cover and Hart (1967), Nearest neighbor pattern classification, IEEE Trans. Information Theory 13.

Names
-----
* `NearestNeighbours`: the classifier, in scikit-learn manners
* `rank_neighbours`, `count_votes`: its parts, shared with `grid`
"""

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from mirjax.classifiers import find_classes


def rank_neighbours(squared_distances, n_neighbors):
    """The nearest training rows, nearest first: f64[m, n] → int[m, n_neighbors]."""
    return np.argsort(squared_distances, axis=1, kind="stable")[:, :n_neighbors]


def count_votes(codes, n_neighbors, num_classes):
    """Votes of the first `n_neighbors` of each row of class indices: int[m, ≥ k] → int[m, K]."""
    first = codes[:, :n_neighbors]
    return (first[:, :, None] == np.arange(num_classes)[None, None, :]).sum(axis=1)


class NearestNeighbours(ClassifierMixin, BaseEstimator):
    """k nearest neighbours, exact.

    Args:
        n_neighbors: k, from 1 to the number of training rows.

    Attributes:
        classes_: the labels, sorted [K].
        x_fit_, y_fit_: the training rows and labels.
        n_features_in_: D.

    Reference:
        Cover and Hart (1967).
    """

    def __init__(self, *, n_neighbors=1):
        self.n_neighbors = n_neighbors

    def fit(self, X, y):
        """Remember features X [M, D] and labels y [M] of at least two classes; returns self.

        Raises:
            ValueError: `n_neighbors` out of range, features that are not finite, a single class.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        self.classes_, _ = find_classes(y)
        if not 1 <= self.n_neighbors <= len(X):
            raise ValueError(f"n_neighbors={self.n_neighbors!r} must be between 1 and the {len(X)} training rows")
        self.x_fit_, self.y_fit_ = X, y
        return self

    def predict_proba(self, X):
        """Share of the votes [M, K]."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        nearest = rank_neighbours(cdist(X, self.x_fit_, "sqeuclidean"), self.n_neighbors)
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

"""Nearest neighbours against scikit-learn's and hand-worked ties."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from mirjax.classifiers.knn import NearestNeighbours


@parametrize_with_checks([NearestNeighbours(), NearestNeighbours(n_neighbors=3)])
def test_scikit_learn_manners(estimator, check):
    """Oracle: scikit-learn's own suite, no expected failures."""
    check(estimator)


@pytest.mark.parametrize("n_neighbors", [1, 3, 10, 100])
@pytest.mark.parametrize("load", [load_wine, load_digits])
def test_predictions_are_scikit_learns(load, n_neighbors):
    """Oracle: KNeighborsClassifier by brute force, on rows moved a little so that no two distances are equal."""
    x, y = load(return_X_y=True)
    x = x[:400] + 1e-3 * np.random.default_rng(0).normal(size=x[:400].shape)
    train = np.arange(len(x)) % 3 != 0
    ours = NearestNeighbours(n_neighbors=n_neighbors).fit(x[train], y[:400][train])
    theirs = KNeighborsClassifier(n_neighbors, algorithm="brute").fit(x[train], y[:400][train])
    np.testing.assert_array_equal(ours.predict(x[~train]), theirs.predict(x[~train]))
    np.testing.assert_allclose(ours.predict_proba(x[~train]), theirs.predict_proba(x[~train]), rtol=1e-15)


def test_ties_by_hand():
    """Oracle: worked by hand. From 0 the rows ±1 are equally far: the earlier is nearer; a split vote goes to "a"."""
    x, y = [[1.0], [-1.0], [5.0]], ["b", "a", "b"]
    assert NearestNeighbours(n_neighbors=1).fit(x, y).predict([[0.0]]) == "b"
    assert NearestNeighbours(n_neighbors=2).fit(x, y).predict([[0.0]]) == "a"
    assert NearestNeighbours(n_neighbors=3).fit(x, y).predict([[0.0]]) == "b"


def test_refuses_more_neighbours_than_rows():
    """Oracle: the contract, the message carries name, value and what is there."""
    with pytest.raises(ValueError, match="n_neighbors=3 must be between 1 and the 2 training rows"):
        NearestNeighbours(n_neighbors=3).fit(np.eye(2), [0, 1])

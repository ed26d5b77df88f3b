"""Nearest neighbours against scikit-learn's and hand-worked ties."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import KNeighborsClassifier

from mirjax.classifiers.knn import NearestNeighbours, measure_distances


@pytest.mark.parametrize("n_neighbors", [1, 3, 10, 100])
@pytest.mark.parametrize("load", [load_wine, load_digits])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_predictions_are_scikit_learns(load, n_neighbors, metric):
    """Oracle: KNeighborsClassifier by brute force, on rows moved a little so that no two distances are equal."""
    x, y = load(return_X_y=True)
    x = x[:400] + 1e-3 * np.random.default_rng(0).normal(size=x[:400].shape)
    train = np.arange(len(x)) % 3 != 0
    ours = NearestNeighbours(n_neighbors=n_neighbors, metric=metric).fit(x[train], y[:400][train])
    theirs = KNeighborsClassifier(n_neighbors, algorithm="brute", metric=metric).fit(x[train], y[:400][train])
    np.testing.assert_array_equal(ours.predict(x[~train]), theirs.predict(x[~train]))
    np.testing.assert_allclose(ours.predict_proba(x[~train]), theirs.predict_proba(x[~train]), rtol=1e-15)


def test_ties_by_hand():
    """Oracle: worked by hand. From 0 the rows ±1 are equally far: the earlier is nearer; a split vote goes to "a"."""
    x, y = [[1.0], [-1.0], [5.0]], ["b", "a", "b"]
    assert NearestNeighbours(n_neighbors=1).fit(x, y).predict([[0.0]]) == "b"
    assert NearestNeighbours(n_neighbors=2).fit(x, y).predict([[0.0]]) == "a"
    assert NearestNeighbours(n_neighbors=3).fit(x, y).predict([[0.0]]) == "b"


def test_cosine_distances_are_scikit_learns():
    """Oracle: sklearn's cosine_distances, rows of zeros (dead features) included: distance 1 to every row."""
    x = load_digits().data[:60]
    x[[3, 50]] = 0
    ours = measure_distances(x[:20], x, "cosine")
    np.testing.assert_allclose(ours, cosine_distances(x[:20], x), rtol=0, atol=1e-15)
    assert (ours[3] == 1).all() and (ours[:, 50] == 1).all()


@pytest.mark.parametrize("scale", [1e-300, 1e300], ids=str)
def test_cosine_knows_no_scale(scale):
    """Oracle: the same rows at scale 1; no square over- or underflows."""
    x = load_digits().data[:60] + 1
    np.testing.assert_allclose(measure_distances(scale * x, x, "cosine"), measure_distances(x, x, "cosine"), atol=1e-15)


def test_cosine_ties_by_hand():
    """Oracle: worked by hand. Of (1, 0) the rows (0, ±1) and (0, 0) are at distance 1, (−1, 0) at 2, (8, 0) at 0."""
    x, y = [[0.0, 0.0], [0.0, 1.0], [0.0, -1.0], [-1.0, 0.0], [8.0, 0.0]], ["c", "b", "a", "a", "b"]
    np.testing.assert_array_equal(measure_distances(np.array([[1.0, 0.0]]), np.array(x), "cosine"), [[1, 1, 1, 2, 0]])
    cosine = {k: NearestNeighbours(n_neighbors=k, metric="cosine").fit(x, y) for k in (1, 2, 3, 5)}
    assert [fitted.predict([[1.0, 0.0]])[0] for fitted in cosine.values()] == ["b", "b", "b", "a"]
    np.testing.assert_array_equal(cosine[2].predict_proba([[1.0, 0.0]]), [[0, 0.5, 0.5]])
    assert cosine[1].predict([[0.0, 0.0]]) == "c"


def test_refuses_an_unknown_metric():
    """Oracle: the contract, the message carries name, value and what there is."""
    with pytest.raises(ValueError, match="metric='manhattan' is none of euclidean, cosine"):
        NearestNeighbours(metric="manhattan").fit(np.eye(2), [0, 1])


@pytest.mark.parametrize("y", [np.zeros(4), np.arange(4) / 3], ids=["one class", "continuous"])
def test_a_failed_fit_changes_nothing(y):
    """Oracle: the attributes before."""
    fitted = NearestNeighbours().fit(np.eye(3), [0, 1, 1])
    before = dict(vars(fitted))
    with pytest.raises(ValueError):
        fitted.fit(np.ones((4, 7)), y)
    assert vars(fitted) == before


def test_refuses_more_neighbours_than_rows():
    """Oracle: the contract, the message carries name, value and what is there."""
    with pytest.raises(ValueError, match="n_neighbors=3 must be a whole number between 1 and the 2 training rows"):
        NearestNeighbours(n_neighbors=3).fit(np.eye(2), [0, 1])


@pytest.mark.parametrize("n_neighbors", [0, 2.5, True, "3"], ids=repr)
def test_refuses_neighbours_that_are_no_whole_number(n_neighbors):
    """Oracle: the contract, at fit."""
    with pytest.raises(ValueError, match=f"n_neighbors={n_neighbors!r} must be a whole number between 1 and the 3"):
        NearestNeighbours(n_neighbors=n_neighbors).fit(np.eye(3), [0, 1, 1])


@pytest.mark.parametrize("exponent", [-1000, -560, 0, 560, 1000])
def test_euclidean_knows_no_scale(exponent):
    """Oracle: KNeighborsClassifier on the same rows at scale 1; a power of two is exact, so no tie is broken anew."""
    x, y = load_digits(return_X_y=True)
    x, y = x[:300], y[:300]
    train = np.arange(300) % 3 != 0
    theirs = KNeighborsClassifier(5, algorithm="brute").fit(x[train], y[train])
    moved = x[~train] + 1e-3 * np.random.default_rng(0).normal(size=x[~train].shape)
    ours = NearestNeighbours(n_neighbors=5).fit(np.ldexp(x[train], exponent), y[train])
    np.testing.assert_array_equal(ours.predict_proba(np.ldexp(moved, exponent)), theirs.predict_proba(moved))
    far = np.concatenate([np.ldexp(moved, exponent), np.full((1, 64), 1e300)])  # other rows' neighbours stay
    np.testing.assert_array_equal(ours.predict_proba(far)[:-1], theirs.predict_proba(moved))

"""Grids of ridge machines and probes against scikit-learn, setting by setting, and against their own estimators."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from mirjax.classifiers import DETERMINISTIC, GRIDS, ELMClassifier, Scaled
from mirjax.classifiers.elm import RIDGES
from mirjax.classifiers.grid import ELM_HIDDEN_UNITS, make_grid
from mirjax.classifiers.hidden import draw_layer
from mirjax.classifiers.kernel import arc_cosine_kernel

NAMES = [name for name, (module, _) in GRIDS.items() if module == "ridge_grid"]
KINDS = {"elm_ridge": "normal", "elm_orthogonal": "orthogonal", "elm_sparse": "sparse", "elm_whitened": "whitened"}
SCALINGS = pytest.mark.parametrize("scaling", ["none", "standard"])
CELLS = [(units, ridge) for units in ELM_HIDDEN_UNITS for ridge in RIDGES]
SOME = (0, 3, 17, 28, 33, 45, 59)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small LAPACK calls on two threads are ten times slower while another process is busy."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(autouse=True)
def quiet():
    """Perceptrons that stop early and machines of few digits say so; this is not what is tested here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def real(load=load_digits, num_clips=110):
    x, y = load(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(x))[:num_clips]
    return x[rows], np.array([f"class {label}" for label in y[rows]])


def fold(num_clips, of=4):
    rows = np.random.default_rng(1).permutation(num_clips)
    return rows[num_clips // of :], rows[: num_clips // of]


def scaled(x, train, scaling):
    return StandardScaler().fit(x[train]).transform(x) if scaling == "standard" else x


def ridge_scores(hidden, y, train, test, units, ridge):
    """Scikit-learn's Ridge, λ a share of the mean diagonal of HᵀH of the widest layer."""
    targets = np.where(y[train][:, None] == np.unique(y[train])[None, :], 1.0, -1.0)
    alpha = ridge * (hidden[train] ** 2).sum(0).mean()
    machine = Ridge(alpha, fit_intercept=False, solver="svd").fit(hidden[train, :units], targets)
    return machine.predict(hidden[test, :units])


@SCALINGS
@pytest.mark.parametrize("num_clips", [110, 500], ids=["few", "many"])
def test_every_cell_is_a_refit(scaling, num_clips):
    """Oracle: sklearn.linear_model.Ridge refitted in each cell, fewer and more clips than hidden units."""
    x, y = real(num_clips=num_clips)
    train, test = fold(num_clips)
    grid = make_grid("elm_ridge", x, y, scaling=scaling, seed=4)
    assert [tuple(setting.values()) for setting in grid.settings] == CELLS
    layer = np.random.default_rng(4).standard_normal((2500, x.shape[1] + 1))
    hidden = np.maximum(scaled(x, train, scaling) @ layer[:, :-1].T + layer[:, -1], 0)
    labels = grid.predict(train, test)
    for index in range(60) if num_clips == 110 else (2, 12, 26, 38):
        expected = ridge_scores(hidden, y, train, test, *CELLS[index])
        np.testing.assert_array_equal(labels[index], np.unique(y)[expected.argmax(1)], err_msg=str(CELLS[index]))
        if index in SOME:
            scores = grid.scores(index, train, test)[1]
            assert np.abs(scores - expected).max() <= 1e-6 * np.abs(expected).max()


@SCALINGS
@pytest.mark.parametrize("name", list(KINDS)[1:])
def test_other_weights_are_refits_too(name, scaling):
    """Oracle: sklearn.linear_model.Ridge on the layer of the training rows."""
    x, y = real(load_wine)
    train, test = fold(len(x))
    grid, z = make_grid(name, x, y, scaling=scaling, seed=2), scaled(x, train, scaling)
    hidden = draw_layer(x.shape[1], 2500, 2, weights=KINDS[name], x=z[train])(z)
    for index in SOME:
        expected = ridge_scores(hidden, y, train, test, *CELLS[index])
        labels, scores = grid.scores(index, train, test)
        assert np.abs(scores - expected).max() <= 1e-5 * np.abs(expected).max()
        np.testing.assert_array_equal(labels, np.unique(y)[expected.argmax(1)])


@SCALINGS
def test_the_kernel_limit_is_kernel_ridge(scaling):
    """Oracle: sklearn.kernel_ridge.KernelRidge on the precomputed kernel."""
    x, y = real(load_wine)
    train, test = fold(len(x))
    grid, z = make_grid("elm_kernel", x, y, scaling=scaling), scaled(x, train, scaling)
    kernel = arc_cosine_kernel(z)
    targets = np.where(y[train][:, None] == np.unique(y)[None, :], 1.0, -1.0)
    for index, ridge in enumerate(RIDGES):
        alpha = ridge * np.diag(kernel)[train].mean()
        machine = KernelRidge(alpha=alpha, kernel="precomputed").fit(kernel[np.ix_(train, train)], targets)
        expected = machine.predict(kernel[np.ix_(test, train)])
        assert np.abs(grid.scores(index, train, test)[1] - expected).max() <= 1e-5 * np.abs(expected).max()


@SCALINGS
def test_cosine_neighbours_are_scikit_learns(scaling):
    """Oracle: sklearn.neighbors.KNeighborsClassifier by cosine distance, where its vote has one winner."""
    x, y = real(load_wine)
    train, test = fold(len(x))
    grid, z = make_grid("knn_cosine", x, y, scaling=scaling), scaled(x, train, scaling)
    labels = grid.predict(train, test)
    for index, setting in enumerate(grid.settings):
        k = min(setting["n_neighbors"], len(train))
        machine = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(z[train], y[train])
        shares = np.sort(machine.predict_proba(z[test]), axis=1)
        sure = shares[:, -1] > shares[:, -2]
        np.testing.assert_array_equal(labels[index][sure], machine.predict(z[test])[sure])


def check_agreement(name, x, y, train, test, scaling):
    """`predict`, `scores` and `fit` of a grid say one thing."""
    grid = make_grid(name, x, y, scaling=scaling, seed=1)
    labels = grid.predict(train, test)
    assert labels.shape == (len(grid.settings), len(test))
    absent = ~np.isin(grid.classes, y[train])
    chosen = SOME if len(grid.settings) == 60 else range(len(grid.settings))
    for index in chosen:
        again, scores = grid.scores(index, train, test)
        np.testing.assert_array_equal(labels[index], again)
        assert scores.shape == (len(test), len(grid.classes)) and np.isfinite(scores).all()
        assert (scores[:, absent].max(axis=1, initial=-np.inf) < scores[:, ~absent].min(axis=1)).all()
        if name != "knn_cosine":  # whose votes tie
            np.testing.assert_array_equal(grid.classes[scores.argmax(1)], labels[index])
        fitted = grid.fit(index, train)
        assert isinstance(fitted, Scaled) == (scaling == "standard")
        np.testing.assert_array_equal(fitted.classes_, grid.classes[~absent])
        np.testing.assert_array_equal(fitted.predict(x[test]), labels[index], err_msg=str(grid.settings[index]))
        if hasattr(fitted, "decision_function"):
            own = fitted.decision_function(x[test])
            own = np.stack([-own, own], axis=1) if own.ndim == 1 else own
            size = np.abs(own).max()
            np.testing.assert_allclose(scores[:, ~absent] / size, own / size, atol=1e-5)
    np.testing.assert_array_equal(grid.predict(train, test), labels)


@SCALINGS
@pytest.mark.parametrize("name", NAMES)
def test_predictions_scores_and_estimators_agree(name, scaling):
    """Oracle: the estimator of each setting, fitted to the training rows alone."""
    x, y = real(load_wine, 90)
    check_agreement(name, x, y, *fold(90), scaling)


@pytest.mark.parametrize("name", NAMES)
def test_a_class_missing_from_training(name):
    """Oracle: the estimator of each setting, which does not know that class; its scores lie below all others."""
    x, y = real(load_wine, 90)
    train, test = fold(90)
    check_agreement(name, x, y, train[y[train] != "class 1"], test, "standard")


@pytest.mark.parametrize("name", NAMES)
def test_two_classes(name):
    """Oracle: the estimator of each setting, which has one column of scores."""
    x, y = real(load_breast_cancer, 80)
    check_agreement(name, x, y, *fold(80), "standard")


@pytest.mark.parametrize(("name", "params"), [("elm_loo", {"select": "loo"}), ("elm_gcv", {"select": "gcv"})])
def test_machines_that_choose_by_themselves(name, params):
    """Oracle: `ELMClassifier` on scaled rows with 60 cells to choose from (proved in test_readout)."""
    x, y = real(load_wine)
    train, test = fold(len(x))
    grid, z = make_grid(name, x, y, scaling="standard", seed=5), scaled(x, train, "standard")
    alone = ELMClassifier(hidden_units=ELM_HIDDEN_UNITS, ridge=RIDGES, random_state=5, **params).fit(z[train], y[train])
    np.testing.assert_array_equal(grid.predict(train, test), alone.predict(z[test])[None, :])
    fitted = grid.fit(0, train).estimator_
    assert (fitted.hidden_units_, fitted.ridge_) == (alone.hidden_units_, alone.ridge_)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed(name):
    """Oracle: `DETERMINISTIC`, the names of those that draw nothing."""
    x, y = real(load_wine, 60)
    train, test = fold(60)
    grids = [make_grid(name, x, y, seed=seed) for seed in (0, 1)]
    scores = [grid.scores(len(grid.settings) - 1, train, test)[1] for grid in grids]
    assert np.array_equal(*scores) == (name in DETERMINISTIC)


def test_mixtures_of_classes_with_few_clips():
    """Oracle: half the clips of the smallest class, and never more Gaussians than a training set has clips."""
    x, y = real(load_wine, 90)
    rare = np.flatnonzero(y == "class 0")
    kept = np.setdiff1d(np.arange(90), rare[5:])
    x, y = x[kept], y[kept]
    grid = make_grid("gmm", x, y)
    assert [setting["components"] for setting in grid.settings] == [1, 2]
    rare = np.flatnonzero(y == "class 0")
    train = np.setdiff1d(np.arange(len(x)), rare[2:])
    check_agreement("gmm", x, y, train, rare[2:], "none")
    one = np.setdiff1d(np.arange(len(x)), rare[1:])
    with pytest.raises(ValueError, match="needs 2 rows of every class"):
        grid.predict(one, rare[1:])

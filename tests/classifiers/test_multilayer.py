"""Multilayer extreme learning machines against a numpy restatement, and scikit-learn's checks."""

import functools
import pickle

import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.linear_model import Ridge
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from mirjax.classifiers import multilayer
from mirjax.classifiers.draws import random_stream
from mirjax.classifiers.multilayer import MultilayerELMClassifier, MultilayerELMRegressor, fit_autoencoder


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """LAPACK's threads wait for each other while another process is busy."""
    with threadpool_limits(1, user_api="blas"):
        yield


@functools.cache
def wine():
    return load_wine(return_X_y=True)


@functools.cache
def digits():
    x, y = load_digits(return_X_y=True)
    return train_test_split(x, y, train_size=600, random_state=0, stratify=y)


SMALL = {"layers": (20, 40)}


def drawn(num_features, units, seed, layer):
    """The random weights by numpy: Gram and Schmidt's basis of normal rows, one after the other; unit bias."""
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(4, layer)))
    few, many = sorted((num_features, units))
    rows = random.standard_normal((many, many))[:few]  # whole panels of 128 rows, or all of them
    for i in range(few):
        for _ in range(2):
            rows[i] -= rows[:i].T @ (rows[:i] @ rows[i])
        rows[i] /= np.linalg.norm(rows[i])
    bias = random.standard_normal(units)
    return rows if few == num_features else rows.T, bias / np.linalg.norm(bias)


def restated(x, layers, ridge, standardise, w, seed=0):
    """The last representation, by numpy's normal equations of the weighted problem."""
    if standardise:
        mean = np.average(x, axis=0, weights=w)
        x = (x - mean) / np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w))
    for number, units in enumerate(layers):
        weights, bias = drawn(x.shape[1], units, seed, number)
        a = expit(x @ weights + bias)
        gram = (a * w[:, None]).T @ a
        penalty = ridge * np.trace(gram) / units
        beta = np.linalg.solve(gram + penalty * np.eye(units), (a * w[:, None]).T @ x)
        following = x @ beta.T
        if standardise:
            mean = np.average(following, axis=0, weights=w)
            following = (following - mean) / np.sqrt(np.average((following - mean) ** 2, axis=0, weights=w))
        x = following if units == x.shape[1] else expit(following)
    return x


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("layers", [(7,), (13,), (40,), (7, 7, 30), (13, 20, 5)])
def test_representation_is_the_papers(layers, standardise):
    """Oracle: the definition in numpy: narrower, equal and wider layers, with sample weights."""
    x, y = wine()
    x = x / x.std(0)
    w = np.random.default_rng(0).uniform(0.5, 2, len(x))
    fitted = MultilayerELMClassifier(layers=layers, standardise=standardise).fit(x, y, w)
    expected = restated(x, layers, 1e-2, standardise, w)
    found = fitted.represent(x)
    assert found.shape == (len(x), layers[-1])
    assert np.abs(found - expected).max() / np.abs(expected).max() <= 1e-9


def test_autoencoder_reproduces_its_input():
    """Oracle: as many units as clips and hardly a ridge solve Aβ = X, so that A's pseudo-inverse times X is β."""
    x = wine()[0][:60]
    x = (x - x.mean(0)) / x.std(0)
    layer = fit_autoencoder(x, 90, random_stream(0, 4, 0), ridge=0.0, activation="tanh", standardise=False)
    weights, bias = drawn(13, 90, 0, 0)
    activations = np.tanh(x @ weights + bias)
    np.testing.assert_allclose(activations @ layer.weights.T, x, atol=1e-6)
    expected = np.linalg.pinv(activations, rcond=1e6 * np.finfo(float).eps) @ x
    assert np.abs(layer.weights.T - expected).max() / np.abs(expected).max() <= 1e-6


@pytest.mark.parametrize("num_features, units", [(13, 5), (13, 13), (13, 40), (200, 150), (150, 400)])
def test_random_weights_are_orthonormal(num_features, units):
    """Oracle: numpy's products: WᵀW = I, or WWᵀ = I of a wide layer; the bias of length 1."""
    weights, bias = multilayer._draw(num_features, units, np.random.default_rng(0))
    assert weights.shape == (num_features, units)
    gram = weights.T @ weights if units <= num_features else weights @ weights.T
    assert np.abs(gram - np.eye(len(gram))).max() <= 1e-12
    assert np.linalg.norm(bias) == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize("hidden_units", [None, 60])
def test_read_out_is_ridge_regression(hidden_units):
    """Oracle: scikit-learn's Ridge on the representation, or on a normal ReLU layer over it."""
    x, y = load_diabetes(return_X_y=True)
    fitted = MultilayerELMRegressor(layers=(20,), hidden_units=hidden_units, ridge=1e-2).fit(x, y)
    hidden = fitted.represent(x)
    if hidden_units:
        layer = np.random.default_rng(0).standard_normal((60, 21))
        hidden = np.maximum(hidden @ layer[:, :20].T + layer[:, 20], 0)
    oracle = Ridge(1e-2 * hidden.var(0).mean() * len(x)).fit(hidden, y)
    np.testing.assert_allclose(fitted.predict(x), oracle.predict(hidden), rtol=1e-8)
    assert fitted.hidden_units_ == hidden.shape[1]


def test_labels_digits():
    """Oracle: the labels of rows not seen; above a linear read-out of the pixels."""
    x, held, y, labels = digits()
    scores = [MultilayerELMClassifier(random_state=seed).fit(x, y).score(held, labels) for seed in range(3)]
    linear = make_pipeline(StandardScaler(), MultilayerELMClassifier(layers=(64,)))  # equal widths: linear throughout
    assert np.mean(scores) >= 0.955
    assert np.mean(scores) > linear.fit(x, y).score(held, labels) + 0.01


def test_selection_learns_the_layers_anew_in_every_fold():
    """Oracle: fits by hand to the same folds with single settings."""
    x, y = wine()
    ridges, folds = np.array([1e-3, 1.0]), 4
    settings = {"layers": (5,), "random_state": 1}
    sizes = (8, 24)
    fitted = MultilayerELMClassifier(
        **settings, hidden_units=sizes, ridge=ridges, select="kfold", criterion="accuracy", folds=folds
    ).fit(x, y)
    expected = np.zeros((2, 2))
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=1).split(x, y):
        wide = MultilayerELMClassifier(**settings, hidden_units=24).fit(x[train], y[train])
        activations = [wide._hidden(x[rows]) for rows in (train, test)]
        scale = activations[0].var(0).mean() * len(train)
        targets = np.where(y[train][:, None] == np.arange(3), 1.0, -1.0)
        for i, size in enumerate(sizes):
            for j, ridge in enumerate(ridges):
                outputs = Ridge(ridge * scale).fit(activations[0][:, :size], targets).predict(activations[1][:, :size])
                expected[i, j] += (outputs.argmax(1) == y[test]).sum() / len(x)
    np.testing.assert_allclose(fitted.selection_scores_, expected, rtol=1e-12)
    assert fitted.hidden_units_ == fitted.layer_.hidden_units == len(fitted.output_weights_)


def test_features_scaled_otherwise_make_no_difference():
    """Oracle: the scores before features were scaled and shifted."""
    x, y = wine()
    scale, shift = np.geomspace(1e-3, 1e3, 13), np.linspace(-3, 3, 13)
    plain = MultilayerELMClassifier(**SMALL).fit(x, y).decision_function(x)
    other = MultilayerELMClassifier(**SMALL).fit((x + shift) * scale, y).decision_function((x + shift) * scale)
    np.testing.assert_allclose(other, plain, atol=1e-6)


def test_one_row_is_the_batchs():
    """Oracle: the scores of the batch."""
    x, held, y, _ = digits()
    fitted = MultilayerELMClassifier(layers=(30, 100)).fit(x, y)
    single = np.concatenate([fitted.decision_function(row[None]) for row in held[:20]])
    np.testing.assert_allclose(single, fitted.decision_function(held[:20]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("hidden_units", [None, 30])
@pytest.mark.parametrize("kind", [MultilayerELMClassifier, MultilayerELMRegressor])
def test_learnt_there_and_back(kind, hidden_units, tmp_path):
    """Oracle: the predictions before it was written to a file of plain arrays, or pickled."""
    x, y = wine()
    fitted = kind(**SMALL, hidden_units=hidden_units).fit(x, y)
    np.savez(tmp_path / "learnt.npz", **fitted.learnt())
    with np.load(tmp_path / "learnt.npz", allow_pickle=False) as stored:
        back = clone(fitted).restore(dict(stored))
    np.testing.assert_array_equal(back.predict(x), fitted.predict(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(x), fitted.predict(x))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"layers": ()}, r"layers=\(\) must be one or more"),
        ({"layers": (5, 0)}, r"layers=\(5, 0\)"),
        ({"layers": 2.5}, "layers=2.5"),
        ({"layer_ridge": (1, 2, 3)}, "one for each of 2 layers"),
        ({"layer_ridge": -1.0}, "layer_ridge=-1.0 must be finite"),
        ({"activation": "relus"}, "activation='relus' is none of"),
        ({"hidden_units": 0}, "hidden_units=0"),
        ({"ridge": np.nan}, "ridge=nan"),
        ({"select": "loo"}, "use select='kfold'"),
    ],
)
def test_refuses_parameters_out_of_range(params, message):
    """Oracle: the contract, the message carries name and value."""
    with pytest.raises(ValueError, match=message):
        MultilayerELMClassifier(**params).fit(np.eye(3), [0, 1, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ridge": -1.0}, "ridge=-1.0 must be a number, finite and at least 0"),
        ({"ridge": "1"}, "ridge='1' must be a number"),
        ({"ridge": 1.0, "activation": "relus"}, "activation='relus' is none of"),
    ],
)
def test_autoencoder_refuses_parameters_out_of_range(change, message):
    """Oracle: the contract, the message carries the name given."""
    with pytest.raises(ValueError, match=message):
        fit_autoencoder(np.eye(3), 4, np.random.default_rng(0), **change)

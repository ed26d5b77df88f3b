"""The extreme learning machine against numpy's pseudo-inverse, hand-worked cases and scikit-learn's checks."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from mirjax.classifiers import elm
from mirjax.classifiers.arithmetic import double_precision
from mirjax.classifiers.elm import ELMClassifier
from mirjax.classifiers.hidden import HiddenLayer

CUTOFF = 1e6 * np.finfo(float).eps


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Numpy's pinv on two threads is ten times slower while another process is busy."""
    with threadpool_limits(1, user_api="blas"):
        yield


def restated(x, y, hidden_units, seed=0):
    """The definition in numpy: hidden layer, output weights, singular values."""
    layer = np.random.default_rng(seed).standard_normal((2500, x.shape[1] + 1))[:hidden_units]
    hidden = np.maximum(x @ layer[:, :-1].T + layer[:, -1], 0)
    targets = np.where(y[:, None] == np.unique(y), 1.0, -1.0)
    return layer, np.linalg.pinv(hidden, rcond=CUTOFF) @ targets, np.linalg.svd(hidden, compute_uv=False)


def dead_features(num_clips=240, num_features=112, seed=0):
    """Averages of ReLU maps of an untrained network: non-negative, alike, tens in size, a fifth of them dead."""
    random = np.random.default_rng(seed)
    loudness = np.abs(random.normal(size=(num_clips, 8))) @ np.abs(random.normal(size=(8, num_features)))
    x = 7 * loudness * (1 + 0.2 * random.normal(size=loudness.shape)) - 5 * random.exponential(size=num_features)
    x[:, random.random(num_features) < 0.2] = 0
    return np.maximum(x, 0), random.integers(0, 8, num_clips)


def test_two_by_two_by_hand(monkeypatch):
    """Oracle: worked by hand. x = I, W = [[1, 2], [3, 1]], b = 0: H = W, so β = W⁻¹ [−1, 1] = [3, −4] / 5·…"""
    # H = [[1, 2], [3, 1]], H⁻¹ = [[−1, 2], [3, −1]] / 5; targets (−1, 1): β = (1 + 2, −3 − 1) / 5 = (0.6, −0.8).
    layer = HiddenLayer(np.array([[1.0, 2.0], [3.0, 1.0]]), np.zeros(2))
    monkeypatch.setattr(elm, "draw_layer", lambda *_, **__: layer)
    fitted = ELMClassifier(hidden_units=2).fit(np.eye(2), ["a", "b"])
    np.testing.assert_allclose(fitted.output_weights_[:, 0], [0.6, -0.8], rtol=1e-14)
    # (2, 0) → H = (2, 4) → 1.2 − 3.2 = −2; (0, −1) → H = (0, 0) → 0, which is not above 0.
    np.testing.assert_allclose(fitted.decision_function([[2, 0], [0, -1]]), [-2, 0], rtol=1e-14)
    assert list(fitted.predict([[2, 0], [0, -1], [0, 1]])) == ["a", "a", "b"]


@pytest.mark.parametrize("hidden_units", [100, 500])
def test_output_weights_are_numpys(hidden_units):
    """Oracle: numpy.linalg.pinv in float64, on real features (wine), standardised: 1e-10 where H is regular."""
    x, y = load_wine(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    fitted = ELMClassifier(hidden_units=hidden_units).fit(x, y)
    layer, weights, s = restated(x, y, hidden_units)
    np.testing.assert_array_equal(fitted.hidden_weights_, layer[:, :-1].T)
    np.testing.assert_array_equal(fitted.hidden_bias_, layer[:, -1])
    assert np.abs(fitted.output_weights_ - weights).max() / np.abs(weights).max() <= 1e-10
    assert fitted.rank_ == (s > CUTOFF * s[0]).sum() and fitted.condition_number_ == pytest.approx(s[0] / s[-1])


@pytest.mark.parametrize("hidden_units", [100, 250, 1200])
def test_output_weights_of_a_rank_deficient_layer(hidden_units):
    """Oracle: numpy.linalg.pinv in float64; two exact algorithms may differ by eps times the condition number."""
    x, y = dead_features()
    train = np.arange(len(x)) % 10 != 0
    fitted = ELMClassifier(hidden_units=hidden_units).fit(x[train], y[train])
    layer, weights, s = restated(x[train], y[train], hidden_units)
    assert fitted.rank_ == (s > CUTOFF * s[0]).sum()
    assert (fitted.rank_ < min(hidden_units, train.sum())) == (hidden_units < 1200)
    error = np.abs(fitted.output_weights_ - weights).max() / np.abs(weights).max()
    assert error <= max(1e-10, 10 * np.finfo(float).eps * fitted.condition_number_)
    scores = np.maximum(x[~train] @ layer[:, :-1].T + layer[:, -1], 0) @ weights
    np.testing.assert_array_equal(fitted.predict(x[~train]), scores.argmax(1))


def test_ridge_is_tikhonovs():
    """Oracle: scikit-learn's Ridge on the hidden activations, α = ridge × mean diagonal of HᵀH, no intercept."""
    x, y = load_wine(return_X_y=True)
    layer, *_ = restated(x, y, 50)
    hidden = np.maximum(x @ layer[:, :-1].T + layer[:, -1], 0)
    targets = np.where(y[:, None] == np.arange(3), 1.0, -1.0)
    alpha = 1e-3 * np.diag(hidden.T @ hidden).mean()
    ridge = Ridge(alpha, fit_intercept=False, solver="svd").fit(hidden, targets)
    weights = ELMClassifier(hidden_units=50, ridge=1e-3).fit(x, y).output_weights_
    assert np.abs(weights - ridge.coef_.T).max() / np.abs(ridge.coef_).max() <= 1e-10


def test_as_many_units_as_samples_leave_no_training_error():
    """Oracle: Huang et al. (2006), theorem 2.2: H units interpolate H distinct samples."""
    x, y = load_digits(return_X_y=True)
    x, y = x[:200], np.random.default_rng(0).integers(0, 10, 200)
    fitted = ELMClassifier(hidden_units=300).fit(x, y)
    assert fitted.score(x, y) == 1
    targets = np.where(y[:, None] == np.arange(10), 1, -1)
    np.testing.assert_allclose(fitted.decision_function(x), targets, atol=1e-8)


def test_fewer_units_are_the_first_of_more():
    """Oracle: numpy's generator, one row of weights and bias a unit."""
    weights, bias = elm.draw_hidden_layer(7, 50, 3)
    fewer = elm.draw_hidden_layer(7, 20, 3)
    np.testing.assert_array_equal(fewer[0], weights[:, :20])
    np.testing.assert_array_equal(fewer[1], bias[:20])
    np.testing.assert_array_equal(np.random.default_rng(3).standard_normal(8), [*weights[:, 0], bias[0]])


@pytest.mark.parametrize("x64", [False, True])
def test_float64_whatever_the_flag_and_the_dtype(x64):
    """Oracle: the same fit to the same values in float64 with the flag the other way."""
    x, y = load_wine(return_X_y=True)
    x = x.astype(np.float32)
    expected = ELMClassifier(hidden_units=60).fit(x.astype(np.float64), y)
    with jax.enable_x64(x64):
        fitted = ELMClassifier(hidden_units=60).fit(x, y)
        scores = fitted.decision_function(jax.numpy.asarray(x))
        assert jax.config.jax_enable_x64 == x64
    assert fitted.output_weights_.dtype == scores.dtype == np.float64
    np.testing.assert_array_equal(fitted.output_weights_, expected.output_weights_)
    np.testing.assert_array_equal(scores, expected.decision_function(x))


def test_the_flag_survives_an_error():
    """Oracle: jax's own configuration."""
    before = jax.config.jax_enable_x64
    with pytest.raises(KeyError), double_precision():
        assert jax.config.jax_enable_x64
        raise KeyError
    assert jax.config.jax_enable_x64 == before


def test_a_backend_without_float64_solves_on_the_host(monkeypatch):
    """Oracle: jax's default device inside the context, the backend pretending to be a TPU."""
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    with double_precision():
        assert jax.config.jax_default_device.platform == "cpu"
    assert jax.config.jax_default_device is None


@pytest.mark.parametrize(
    ("params", "message"),
    [({"hidden_units": 0}, "hidden_units=0"), ({"ridge": -1.0}, "ridge=-1.0"), ({"ridge": np.nan}, "ridge=nan")],
)
def test_refuses_parameters_out_of_range(params, message):
    """Oracle: the contract, the message carries name and value."""
    with pytest.raises(ValueError, match=message):
        ELMClassifier(**params).fit(np.eye(2), [0, 1])


def test_refuses_one_class():
    """Oracle: the contract, the message names the class."""
    with pytest.raises(ValueError, match="one class only, 'tango'"):
        ELMClassifier().fit(np.eye(2), ["tango", "tango"])

"""The extreme learning machine against numpy's pseudo-inverse, hand-worked cases and scikit-learn's checks."""

import pickle
import re
import warnings

import jax
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_limits

from mirjax.classifiers import Gram, PrecisionWarning, arithmetic, elm, load, save
from mirjax.classifiers.arithmetic import double_precision
from mirjax.classifiers.elm import ELMClassifier, ELMRegressor
from mirjax.classifiers.hidden import HiddenLayer, draw_layer

EPS = np.finfo(float).eps
CUTOFF = 1e6 * EPS


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
    more, few = draw_layer(7, 50, 3), draw_layer(7, 20, 3)
    (weights, bias), fewer = (more.weights, more.bias), (few.weights, few.bias)
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


def test_refuses_one_class():
    """Oracle: the contract, the message names the class."""
    with pytest.raises(ValueError, match="one class only, 'tango'"):
        ELMClassifier().fit(np.eye(2), ["tango", "tango"])


# ── the general layer ──

NUMPYS = {
    "sine": np.sin,
    "tanh": np.tanh,
    "tribas": lambda a: np.maximum(1 - np.abs(a), 0),
    "inv_tribas": lambda a: np.minimum(np.abs(a), 1),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "hardlim": lambda a: np.where(a > 0, 1.0, 0.0),
    "softlim": lambda a: np.minimum(np.maximum(a, 0), 1),
    "gaussian": lambda a: np.exp(-np.square(a)),
    "multiquadric": lambda a: np.sqrt(1 + np.square(a)),
    "inv_multiquadric": lambda a: 1 / np.sqrt(1 + np.square(a)),
    "reclinear": lambda a: np.maximum(a, 0),
}


def general_layer(fitted, x, activation, alpha, units):
    """Hidden activations in numpy from the machine's arrays, the radius from its own definition."""
    layer, argument = fitted.layer_, 0.0
    if alpha > 0:
        argument = alpha * (x @ layer.weights + layer.bias)
    if alpha < 1:
        centres = layer.centres
        radius = cdist(centres, centres).max() / np.sqrt(2 * units)
        argument = argument + (1 - alpha) * 0.12 * cdist(x, centres) / radius
    return NUMPYS[activation](argument)


@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("activation", list(NUMPYS))
def test_eleven_activations_and_three_mixtures_are_numpys(activation, alpha):
    """Oracle: the layer restated in numpy and numpy.linalg.pinv; weights to 1e-10 of the largest, labels equal."""
    x, y = load_digits(return_X_y=True)
    x, train, test = (x - x.mean(0)) / 32, slice(0, 300), slice(300, 450)
    params = {"hidden_units": 40, "activation": activation, "alpha": alpha, "rbf_width": 0.12, "random_state": 2}
    fitted = ELMClassifier(**params).fit(x[train], y[train])
    drawn = np.random.default_rng(2).standard_normal((40, 65))
    if alpha > 0:
        np.testing.assert_array_equal(fitted.hidden_weights_, drawn[:, :-1].T)
    if alpha < 1:
        assert (fitted.layer_.centres >= x[train].min(0)).all() and (fitted.layer_.centres <= x[train].max(0)).all()
    hidden = general_layer(fitted, x, activation, alpha, 40)
    targets = np.where(y[train][:, None] == np.arange(10), 1.0, -1.0)
    weights = np.linalg.pinv(hidden[train], rcond=CUTOFF) @ targets
    scores = hidden[test] @ weights
    np.testing.assert_array_equal(fitted.predict(x[test]), scores.argmax(1))
    error = np.abs(fitted.output_weights_ - weights).max() / np.abs(weights).max()
    assert error <= max(1e-10, 10 * EPS * fitted.condition_number_)
    # All but the radial layers are regular here, where 1e-10 is what is asked.
    assert error <= 1e-10 or (alpha == 0 and fitted.condition_number_ > 1e4)
    assert fitted.condition_number_ == pytest.approx(numpys_condition(hidden[train]), rel=1e-6)


def numpys_condition(hidden):
    s = np.linalg.svd(hidden, compute_uv=False)
    kept = s[s > CUTOFF * s[0]]
    return kept[0] / kept[-1]


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "multiquadric"])
def test_what_rank_deficient_layers_cost_in_digits(activation):
    """Oracle: numpy.linalg.pinv. Raw features: up to log10(condition) of 16 digits of the weights go, no label."""
    x, y = dead_features()
    train = np.arange(len(x)) % 10 != 0
    fitted = ELMClassifier(hidden_units=150, activation=activation, digits=0).fit(x[train], y[train])
    hidden = general_layer(fitted, x, activation.replace("relu", "reclinear"), 1, 150)
    targets = np.where(y[train][:, None] == np.arange(8), 1.0, -1.0)
    weights = np.linalg.pinv(hidden[train], rcond=CUTOFF) @ targets
    error = np.abs(fitted.output_weights_ - weights).max() / np.abs(weights).max()
    assert error <= 10 * EPS * fitted.condition_number_
    if activation != "sigmoid":  # a saturated layer has no gap at the cut-off
        np.testing.assert_array_equal(fitted.predict(x), (hidden @ weights).argmax(1))


# ── what does not change the answer ──


@pytest.mark.parametrize("params", [{}, {"ridge": 1e-3, "fit_intercept": True}], ids=["published", "ridge"])
def test_order_of_hidden_units_does_not_matter(params, monkeypatch):
    """Oracle: the same units in another order: the weights in that order, the scores as they were."""
    x, y = load_wine(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    order = np.random.default_rng(5).permutation(60)
    fitted = ELMClassifier(hidden_units=60, **params).fit(x, y)
    layer = HiddenLayer(fitted.hidden_weights_[:, order], fitted.hidden_bias_[order])
    monkeypatch.setattr(elm, "draw_layer", lambda *_, **__: layer)
    again = ELMClassifier(hidden_units=60, **params).fit(x, y)
    np.testing.assert_allclose(again.output_weights_, fitted.output_weights_[order], atol=1e-10)
    np.testing.assert_allclose(again.decision_function(x), fitted.decision_function(x), atol=1e-10)


def test_units_of_measure_do_not_matter_when_standardising():
    """Oracle: the same clips in other units: powers of two to the bit, any factor and offset to rounding."""
    x, y = load_wine(return_X_y=True)
    factors = 2.0 ** np.random.default_rng(0).integers(-20, 20, x.shape[1])
    params = {"hidden_units": 60, "ridge": 1e-3, "scaling": "standard"}
    fitted = ELMClassifier(**params).fit(x, y)
    doubled = ELMClassifier(**params).fit(x * factors, y)
    np.testing.assert_array_equal(doubled.output_weights_, fitted.output_weights_)
    np.testing.assert_array_equal(doubled.decision_function(x * factors), fitted.decision_function(x))
    other = ELMClassifier(**params).fit(3 * x + 7, y)
    np.testing.assert_allclose(other.decision_function(3 * x + 7), fitted.decision_function(x), atol=1e-10)


def test_standardising_is_a_pipelines():
    """Oracle: sklearn's Pipeline(StandardScaler, machine)."""
    x, y = load_wine(return_X_y=True)
    fitted = ELMClassifier(hidden_units=60, scaling="standard").fit(x, y)
    pipeline = make_pipeline(StandardScaler(), ELMClassifier(hidden_units=60)).fit(x, y)
    np.testing.assert_allclose(fitted.decision_function(x), pipeline.decision_function(x), atol=1e-10)


@pytest.mark.parametrize("kind", [ELMClassifier, ELMRegressor], ids=["classifier", "regressor"])
def test_values_are_interpolated_by_as_many_units_as_samples(kind):
    """Oracle: Huang et al. (2006), theorem 2.2; by batches too, with half the digits."""
    x, y = load_digits(return_X_y=True)
    x, y = x[:100], (np.random.default_rng(0).integers(0, 4, 100) if kind is ELMClassifier else x[:100, 20] ** 2)
    fitted = kind(hidden_units=150).fit(x, y)
    assert fitted.score(x, y) == pytest.approx(1, abs=1e-12)
    batches = kind(hidden_units=150, digits=0).partial_fit(x, y)
    assert batches.score(x, y) == pytest.approx(1, abs=1e-8)


# ── digits ──


FLOAT32 = [
    pytest.param("digits", {"ridge": 1e-2, "scaling": "standard"}, False, id="digits-standard"),
    pytest.param("digits", {"ridge": 1e-4}, False, id="digits-raw"),
    pytest.param("digits", {"ridge": 1e-2, "fit_intercept": True}, False, id="digits-intercept"),
    pytest.param("wine", {"ridge": 1e-2, "scaling": "standard"}, False, id="wine-standard"),
    pytest.param("wine", {"ridge": 1e-10}, True, id="wine-raw"),
    pytest.param("wine", {}, True, id="wine-published"),
    pytest.param("dead", {}, True, id="dead-published"),
    pytest.param("dead", {"activation": "sigmoid"}, True, id="dead-sigmoid"),
]


@pytest.mark.parametrize(("name", "params", "warns"), FLOAT32)
@pytest.mark.parametrize("batches", [False, True], ids=["whole", "batches"])
def test_float32_says_how_many_digits_it_leaves(name, params, warns, batches):
    """Oracle: float64; the scores of other clips keep `digits_` but for a factor of 30, and fewer than 4 warn."""
    x, y = {"digits": load_digits, "wine": load_wine}.get(name, lambda **_: dead_features(500))(return_X_y=True)
    if batches and params.get("scaling") == "standard":
        x, params = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9), {"ridge": params["ridge"]}
    rows = np.random.default_rng(0).permutation(len(x))[:500]
    train, test = rows[: len(rows) * 2 // 3], rows[len(rows) * 2 // 3 :]
    fit = "partial_fit" if batches else "fit"
    exact = getattr(ELMClassifier(hidden_units=100, digits=0, **params), fit)(x[train], y[train])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = getattr(ELMClassifier(hidden_units=100, dtype="float32", **params), fit)(x[train], y[train])
    said = [str(one.message) for one in caught if one.category is PrecisionWarning]
    expected, scores = exact.decision_function(x[test]), fitted.decision_function(x[test])
    error = np.abs(scores - expected).max() / np.abs(expected).max()
    assert error <= 30 * 10**-fitted.digits_ or fitted.digits_ < 0.5
    assert fitted.digits_ <= 7 and fitted.output_weights_.dtype == np.float64
    assert bool(said) == (fitted.digits_ < 4) == warns
    assert len(said) <= 1
    if said:
        assert "digits of 4 asked for" in said[0] and f"condition number is {fitted.condition_number_:.1e}" in said[0]
    else:
        assert error <= 1e-4


def test_float64_warns_where_digits_are_few():
    """Oracle: numpy.linalg.cond; the digits asked for against those of eps times the condition number."""
    x, y = dead_features()
    with pytest.warns(PrecisionWarning, match="digits of 12 asked for.*the condition number is"):
        fitted = ELMClassifier(hidden_units=300, digits=12).fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ELMClassifier(hidden_units=300, digits=4).fit(x, y)
        ELMClassifier(hidden_units=50, ridge=1e-2, scaling="standard", digits=10).fit(x, y)
    hidden = fitted.layer_(x)
    assert fitted.condition_number_ == pytest.approx(numpys_condition(hidden), rel=1e-6)
    # With a ridge it is that of HᵀH + λ, estimated from below.
    z, y = load_wine(return_X_y=True)
    fitted = ELMClassifier(hidden_units=50, ridge=1e-3, scaling="standard").fit(z, y)
    hidden = fitted.layer_((z - z.mean(0)) / z.std(0))
    condition = np.linalg.cond(hidden.T @ hidden + fitted.penalty_ * np.eye(50))
    assert 0.5 * condition <= fitted.condition_number_ <= 1.001 * condition


# ── batch by batch ──


def batches_of(x, y, count, seed=0, w=None):
    """The table cut into parts of different sizes, in an order of its own."""
    random = np.random.default_rng(seed)
    cuts = np.sort(random.choice(np.arange(1, len(x)), count - 1, replace=False))
    parts = np.split(random.permutation(len(x)), cuts)
    return [(x[rows], y[rows], None if w is None else w[rows]) for rows in parts]


def streamed(one, batches, classes=None):
    for x, y, w in batches:
        one.partial_fit(x, y, classes, w) if classes is not None else one.partial_fit(x, y, sample_weight=w)
    return one


def state(machine):
    return pickle.dumps(vars(machine))


STREAMS = {
    "plain": {},
    "intercept": {"fit_intercept": True},
    "weights": {"fit_intercept": True, "weighted": True},
    "classes": {"class_weight": {0: 0.5, 1: 1, 2: 2}, "weighted": True},
}


@pytest.mark.parametrize("name", list(STREAMS))
@pytest.mark.parametrize("count", [1, 4, 37])
def test_batches_give_what_the_whole_table_gives(name, count):
    """Oracle: numpy.linalg.solve of the whole normal equations; the stated bound, 100 n eps cond, is met by far."""
    params = dict(STREAMS[name])
    x, y = load_wine(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    w = np.random.default_rng(1).uniform(0, 2, len(x)) if params.pop("weighted", False) else None
    fitted = streamed(ELMClassifier(hidden_units=60, ridge=1e-3, **params), batches_of(x, y, count, w=w), [0, 1, 2])
    hidden = np.maximum(x @ fitted.hidden_weights_ + fitted.hidden_bias_, 0)
    total = np.ones(len(x)) if w is None else w
    total = total * compute_sample_weight(params.get("class_weight"), y)
    targets = np.where(y[:, None] == np.arange(3), 1.0, -1.0)
    h_mean = np.average(hidden, axis=0, weights=total) * ("fit_intercept" in params)
    y_mean = np.average(targets, axis=0, weights=total) * ("fit_intercept" in params)
    gram = (hidden - h_mean).T @ (total[:, None] * (hidden - h_mean))
    matrix = gram + 1e-3 * np.diag(gram).mean() * np.eye(60)
    weights = np.linalg.solve(matrix, (hidden - h_mean).T @ (total[:, None] * (targets - y_mean)))
    scores = hidden @ weights + (y_mean - h_mean @ weights)
    bound = 100 * len(x) * EPS * np.linalg.cond(matrix)
    assert np.abs(fitted.output_weights_ - weights).max() <= min(bound, 1e-9) * np.abs(weights).max()
    np.testing.assert_allclose(fitted.decision_function(x), scores, atol=1e-10)
    whole = ELMClassifier(hidden_units=60, ridge=1e-3, **params).fit(x, y, sample_weight=w)
    np.testing.assert_allclose(fitted.decision_function(x), whole.decision_function(x), atol=1e-10)
    assert fitted.penalty_ == pytest.approx(whole.penalty_, rel=1e-12)


def test_order_of_batches_does_not_matter():
    """Oracle: another order and other sizes; the same to rounding."""
    x, y = load_digits(return_X_y=True)
    x, y = x[:300], y[:300]
    params = {"hidden_units": 80, "ridge": 1e-3}
    scores = [
        streamed(ELMClassifier(**params), batches_of(x, y, count, seed), np.arange(10)).decision_function(x)
        for count, seed in ((2, 0), (11, 1), (40, 2))
    ]
    assert np.ptp(scores, axis=0).max() <= 1e-10


@pytest.mark.parametrize("kind", [ELMClassifier, ELMRegressor], ids=["classifier", "regressor"])
def test_merging_is_commutative_and_associative(kind):
    """Oracle: a + b = b + a to the bit, (a + b) + c = a + (b + c) and the whole table to rounding."""
    x, y = load_wine(return_X_y=True)
    x, y = (x - x.mean(0)) / x.std(0), y if kind is ELMClassifier else x[:, 0]
    more = {"classes": [0, 1, 2]} if kind is ELMClassifier else {}
    parts = np.array_split(np.random.default_rng(0).permutation(len(x)), 3)

    def part(number):
        rows = parts[number]
        return kind(hidden_units=40, ridge=1e-3).partial_fit(x[rows], y[rows], **more)

    def scores(machine):
        return machine._scores(x)

    np.testing.assert_array_equal(scores(part(0).merge(part(1))), scores(part(1).merge(part(0))))
    left, right = part(0).merge(part(1)).merge(part(2)), part(0).merge(part(1).merge(part(2)))
    whole = kind(hidden_units=40, ridge=1e-3).fit(x, y)
    for other in (right, whole):
        np.testing.assert_allclose(scores(left), scores(other), rtol=1e-10, atol=1e-10)
    second = part(1)
    before = state(second)
    part(0).merge(second)
    assert state(second) == before


def test_what_is_forgotten_was_never_there():
    """Oracle: a fit to the other rows; and the batch can come back."""
    x, y = load_wine(return_X_y=True)
    x, w = (x - x.mean(0)) / x.std(0), np.random.default_rng(0).uniform(0.5, 2, len(x))
    gone = np.arange(len(x)) % 3 == 0
    params = {"hidden_units": 40, "ridge": 1e-3, "fit_intercept": True, "class_weight": {0: 1, 1: 2, 2: 3}}
    fitted = ELMClassifier(**params).partial_fit(x, y, sample_weight=w)
    before = fitted.decision_function(x)
    fitted.forget(x[gone], y[gone], w[gone])
    expected = ELMClassifier(**params).fit(x[~gone], y[~gone], sample_weight=w[~gone])
    np.testing.assert_allclose(fitted.decision_function(x), expected.decision_function(x), atol=1e-10)
    fitted.partial_fit(x[gone], y[gone], sample_weight=w[gone])
    np.testing.assert_allclose(fitted.decision_function(x), before, atol=1e-10)


def test_accumulate_solves_when_asked():
    """Oracle: partial_fit, to the bit; until then there is nothing to predict by."""
    x, y = load_wine(return_X_y=True)
    gathered = ELMClassifier(hidden_units=20, ridge=1e-2).accumulate(x[::2], y[::2], [0, 1, 2])
    with pytest.raises(NotFittedError):
        gathered.predict(x)
    gathered.accumulate(x[1::2], y[1::2]).solve()
    fitted = ELMClassifier(hidden_units=20, ridge=1e-2).partial_fit(x[::2], y[::2], [0, 1, 2])
    fitted.partial_fit(x[1::2], y[1::2])
    np.testing.assert_array_equal(gathered.decision_function(x), fitted.decision_function(x))
    # Another ridge needs no rows.
    gathered.set_params(ridge=1.0).solve()
    other = ELMClassifier(hidden_units=20, ridge=1.0).fit(x, y)
    assert gathered.ridge_ == 1.0
    np.testing.assert_allclose(gathered.decision_function(x), other.decision_function(x), atol=1e-10)
    before = state(gathered)
    gathered.hidden_units = 30
    with pytest.raises(ValueError, match="hidden_units=30, but the sums are those of 20"):
        gathered.solve()
    gathered.hidden_units = 20
    assert state(gathered) == before


@pytest.mark.parametrize("way", ["pickle", "save"])
def test_resumes_half_way(way, tmp_path):
    """Oracle: the machine that was not interrupted, to the bit."""
    x, y = load_wine(return_X_y=True)
    parts = batches_of(x, y, 6)
    whole = streamed(ELMClassifier(hidden_units=30, ridge=1e-3), parts, [0, 1, 2])
    half = streamed(ELMClassifier(hidden_units=30, ridge=1e-3), parts[:3], [0, 1, 2])
    if way == "pickle":
        again = pickle.loads(pickle.dumps(half))
    else:
        save(half, tmp_path / "machine.npz")
        half.gram_.save(tmp_path / "sums.npz")
        again = load(tmp_path / "machine.npz")
        again.gram_ = Gram.load(tmp_path / "sums.npz")
    streamed(again, parts[3:], [0, 1, 2])
    np.testing.assert_array_equal(again.decision_function(x), whole.decision_function(x))


def test_fit_and_partial_fit_begin_anew():
    """Oracle: machines that never saw other rows, to the bit; nothing of the fit before stays."""
    x, y = load_wine(return_X_y=True)
    fitted = ELMClassifier(hidden_units=20, ridge=(1e-3, 1e-2), select="loo").fit(x[::3], y[::3])
    fitted.set_params(ridge=1e-2, select=None).partial_fit(x[::2], y[::2])
    fresh = ELMClassifier(hidden_units=20, ridge=1e-2).partial_fit(x[::2], y[::2])
    np.testing.assert_array_equal(fitted.output_weights_, fresh.output_weights_)
    assert vars(fitted).keys() == vars(fresh).keys() and fitted.gram_.count == 89
    fitted.fit(x, y)
    assert "gram_" not in vars(fitted)
    expected = ELMClassifier(hidden_units=20, ridge=1e-2).fit(x, y)
    assert vars(fitted).keys() == vars(expected).keys()
    np.testing.assert_array_equal(fitted.output_weights_, expected.output_weights_)


def test_the_pseudo_inverse_from_sums():
    """Oracle: numpy.linalg.pinv where the layer is regular; half of the digits."""
    x, y = load_digits(return_X_y=True)
    x, y = (x[:400] - x.mean(0)) / 16, y[:400]
    fitted = streamed(ELMClassifier(hidden_units=60), batches_of(x, y, 5), np.arange(10))
    _, weights, s = restated(x, y, 60)
    error = np.abs(fitted.output_weights_ - weights).max() / np.abs(weights).max()
    assert error <= 1000 * EPS * (s[0] / s[-1]) ** 2 and error <= 1e-9


def test_several_labels_and_values_come_in_batches():
    """Oracle: one machine a column."""
    x, y = load_wine(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    labels, values = np.stack([y == 0, y == 1, y > 0], 1).astype(int), x[:, :2] ** 2
    for kind, table in ((ELMClassifier, labels), (ELMRegressor, values)):
        fitted = kind(hidden_units=30, ridge=1e-3)
        for rows in (slice(0, 60), slice(60, None)):
            fitted.partial_fit(x[rows], table[rows])
        for k in range(table.shape[1]):
            alone = kind(hidden_units=30, ridge=1e-3).fit(x, table[:, k])
            np.testing.assert_allclose(fitted._scores(x)[:, k], alone._scores(x)[:, 0], atol=1e-10)


def begun():
    x, y = load_wine(return_X_y=True)
    return ELMClassifier(hidden_units=20, ridge=1e-2, class_weight={0: 1, 1: 1, 2: 1}).partial_fit(x, y)


WINE_X, WINE_Y = load_wine(return_X_y=True)
TORN = np.where(np.arange(WINE_X.size).reshape(WINE_X.shape) == 40, np.nan, WINE_X)
FAILURES = {
    "width": (lambda m: m.partial_fit(WINE_X[:, 1:], WINE_Y), "X has 12 features, but ELMClassifier is expecting 13"),
    "nan": (lambda m: m.partial_fit(TORN, WINE_Y), "contains NaN"),
    "empty": (lambda m: m.partial_fit(WINE_X[:0], WINE_Y[:0]), r"0 sample\(s\)"),
    "label": (lambda m: m.set_params(class_weight=None).partial_fit(WINE_X, WINE_Y + 1), r"unseen at fit, \[3\]"),
    "class weight": (lambda m: m.partial_fit(WINE_X, WINE_Y + 1), r"no weight for \[3\]"),
    "classes": (lambda m: m.partial_fit(WINE_X, WINE_Y, [0, 1]), r"classes=\[0, 1\] are not those of the first batch"),
    "weights": (lambda m: m.partial_fit(WINE_X, WINE_Y, None, -np.ones(178)), "Negative values"),
    "few weights": (lambda m: m.partial_fit(WINE_X, WINE_Y, None, np.ones(3)), "sample_weight.shape"),
    "rows": (lambda m: m.partial_fit(WINE_X, WINE_Y[1:]), "inconsistent numbers of samples"),
    "overflow": (lambda m: m.partial_fit(1e200 * WINE_X, WINE_Y), "exceed float64"),
    "ridge": (lambda m: m.set_params(ridge=-1).partial_fit(WINE_X, WINE_Y), "ridge=-1"),
    "forget others": (lambda m: m.forget(10 * WINE_X, WINE_Y), "not among those added"),
    "forget more": (lambda m: m.forget(np.tile(WINE_X, (2, 1)), np.tile(WINE_Y, 2)), "356 rows cannot be taken away"),
    "forget all": (lambda m: m.forget(WINE_X, WINE_Y), "holds no rows"),
    "merge nothing": (lambda m: m.merge(ELMClassifier()), "has no sums; call partial_fit first"),
    "merge sums": (lambda m: m.merge(m.gram_), "other is a Gram; only a ELMClassifier merges"),
    "merge width": (
        lambda m: m.merge(ELMClassifier(hidden_units=30, ridge=1e-2).partial_fit(WINE_X, WINE_Y)),
        "different hidden layers; give both the same hidden_units",
    ),
    "merge seed": (
        lambda m: m.merge(ELMClassifier(hidden_units=20, random_state=1, ridge=1e-2).partial_fit(WINE_X, WINE_Y)),
        "different hidden layers",
    ),
    "merge classes": (
        lambda m: m.merge(ELMClassifier(hidden_units=20, ridge=1e-2).partial_fit(WINE_X, WINE_Y, [0, 1, 2, 3])),
        "different classes.*name all of them in the first call",
    ),
    "merge labels": (
        lambda m: m.merge(
            ELMClassifier(hidden_units=20, ridge=1e-2).partial_fit(WINE_X, (WINE_Y[:, None] == [0, 1, 2]).astype(int))
        ),
        "different classes",
    ),
}


@pytest.mark.parametrize("name", list(FAILURES))
def test_a_failed_batch_changes_nothing(name):
    """Oracle: everything the machine holds, pickled before and after."""
    call, message = FAILURES[name]
    fitted = begun()
    before, learnt = fitted.decision_function(WINE_X), state(fitted)
    with pytest.raises(ValueError, match=message):
        call(fitted)
    if name not in ("label", "ridge"):  # these change a parameter before they fail
        assert state(fitted) == learnt
    np.testing.assert_array_equal(fitted.decision_function(WINE_X), before)
    assert fitted.gram_.count == 178


@pytest.mark.parametrize(
    "call",
    [
        lambda m: m.partial_fit(WINE_X, np.ones(178)),
        lambda m: m.partial_fit(WINE_X, WINE_Y, None, np.zeros(178)),
        lambda m: m.partial_fit(TORN, WINE_Y),
        lambda m: m.forget(WINE_X, WINE_Y),
        lambda m: m.solve(),
    ],
    ids=["one class", "no weight", "nan", "forget", "solve"],
)
def test_a_failed_first_batch_leaves_an_unfitted_machine(call):
    """Oracle: the machine before."""
    machine = ELMClassifier(hidden_units=20, ridge=1e-2)
    before = state(machine)
    with pytest.raises(ValueError):
        call(machine)
    assert state(machine) == before


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"scaling": "standard"}, "learnt from all training rows.*scale the features before"),
        ({"weights": "whitened"}, "learnt from all training rows"),
        ({"alpha": 0.5}, "learnt from all training rows"),
        ({"select": "loo", "ridge": (0.1, 1)}, "batch by batch there is nothing to select by"),
        ({"calibration": "platt"}, "both need all rows at once"),
        ({"class_weight": "balanced"}, "both need all rows at once"),
    ],
    ids=str,
)
def test_what_needs_all_rows_takes_no_batches(params, message):
    """Oracle: the contract; as scikit-learn has it the method is not there, and the cause says why."""
    machine = ELMClassifier(hidden_units=20, **params)
    assert not hasattr(machine, "partial_fit") and not hasattr(machine, "accumulate")
    with pytest.raises(AttributeError) as caught:
        machine.partial_fit(WINE_X, WINE_Y)
    assert re.search(message, str(caught.value.__cause__))


def test_more_units_than_memory(monkeypatch):
    """Oracle: the contract, on a machine of 100 KiB; by batches the activations are smaller, the sums are not."""
    monkeypatch.setattr(arithmetic, "physical_memory", lambda: 100 * 2**10)
    with pytest.raises(
        ValueError, match=r"hidden activations \[178, 100\] would take .* fit batch by batch with partial"
    ):
        ELMClassifier(hidden_units=100).fit(WINE_X, WINE_Y)
    machine = ELMClassifier(hidden_units=100).partial_fit(WINE_X[:60], WINE_Y[:60])
    assert machine.gram_.count == 60
    with pytest.raises(ValueError, match=r"the Gram matrix \[200, 200\] would take .* use fewer hidden_units"):
        ELMClassifier(hidden_units=200).partial_fit(WINE_X[:10], WINE_Y[:10], [0, 1, 2])
    with pytest.raises(ValueError, match=r"the hidden layer \[2000, 14\] would take .* use fewer hidden_units"):
        ELMClassifier(hidden_units=2000).partial_fit(WINE_X, WINE_Y)

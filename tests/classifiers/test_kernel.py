"""The arc-cosine kernel against extended precision, drawn layers and scikit-learn's kernel ridge."""

import functools
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris, load_wine
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import StratifiedKFold, train_test_split
from threadpoolctl import threadpool_limits

from mirjax.classifiers import arithmetic, kernel
from mirjax.classifiers.hidden import draw_layer
from mirjax.classifiers.kernel import ArcCosineClassifier, ArcCosineRegressor, arc_cosine_kernel
from mirjax.classifiers.solvers import PrecisionWarning

EPS = np.finfo(float).eps


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """LAPACK's threads wait for each other while another process is busy."""
    with threadpool_limits(1, user_api="blas"):
        yield


@functools.cache
def wine():
    x, y = load_wine(return_X_y=True)
    return (x - x.mean(0)) / x.std(0), y


@functools.cache
def digits():
    x, y = load_digits(return_X_y=True)
    return train_test_split(x / 16, y, train_size=400, random_state=0, stratify=y)


def extended(a, b):
    """The definition at 64-bit mantissas: the angle from sums and differences of directions, not from its cosine."""
    a, b = (np.concatenate([x, np.ones((len(x), 1))], axis=1).astype(np.longdouble) for x in (a, b))
    lengths = [np.sqrt((x**2).sum(1)) for x in (a, b)]
    u, v = (x / length[:, None] for x, length in zip((a, b), lengths, strict=True))
    difference = np.sqrt(((u[:, None] - v[None]) ** 2).sum(-1))
    total = np.sqrt(((u[:, None] + v[None]) ** 2).sum(-1))
    t = 2 * np.arctan2(difference, total)
    pi = 4 * np.arctan(np.longdouble(1))
    size = lengths[0][:, None] * lengths[1][None]
    return size * (np.sin(t) + (pi - t) * np.cos(t)) / (2 * pi), size


def test_kernel_by_hand():
    """Oracle: worked by hand: equal rows |u|²/2, right angles |u||u'|/2π, the zero row 1/2, opposite ones nearly 0."""
    x = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0], [-1.0, 0.0]])
    found = arc_cosine_kernel(x)
    # u = (0, 0, 1), (3, 4, 1), (1, 0, 1), (-1, 0, 1): the last two are at right angles and √2 long each.
    np.testing.assert_allclose(np.diagonal(found), [1 / 2, 26 / 2, 2 / 2, 2 / 2], rtol=1e-15)
    np.testing.assert_allclose(found[2, 3], 2 / (2 * np.pi), rtol=1e-15)
    # (0, 1) and (1, 1): t = π/4, so √2 (√½ + ¾π √½) / 2π = (1 + ¾π) / 2π.
    np.testing.assert_allclose(found[0, 2], (1 + 0.75 * np.pi) / (2 * np.pi), rtol=1e-15)
    far = arc_cosine_kernel(np.array([[1e6, 0.0]]), np.array([[-1e6, 0.0]]))
    assert 0 <= far[0, 0] <= 1e12 * EPS


@pytest.mark.parametrize("scale", [1e-3, 1, 1e3])
def test_kernel_to_rounding(scale):
    """Oracle: the definition in extended precision, from another form of the angle, on wine: 4 roundings of |u||u'|."""
    x = wine()[0] * scale
    expected, size = extended(x[:60], x)
    assert (np.abs(arc_cosine_kernel(x[:60], x) - expected) / size).max() <= 4 * EPS
    assert (np.abs(arc_cosine_kernel(x)[:60] - expected) / size).max() <= 4 * EPS


@pytest.mark.parametrize("apart", [1e-16, 1e-12, 1e-9, 1e-8, 1e-7, 1e-4])
def test_kernel_of_rows_that_are_nearly_alike_or_opposite(apart):
    """Oracle: extended precision; angles near 0, where an arccos alone is wrong by 1e-8, and near π."""
    x = 5 * wine()[0][:40]
    for near in (x + apart * x[::-1], -x + apart * x[::-1]):
        expected, size = extended(x, near)
        error = np.abs(arc_cosine_kernel(x, near) - expected) / size
        assert np.diagonal(error).max() <= 4 * EPS


def test_kernel_is_a_kernel():
    """Oracle: numpy's eigenvalues: symmetric to the last bit, none below 0 by more than rounding; rows repeated."""
    x = np.repeat(wine()[0], 2, axis=0)
    found = arc_cosine_kernel(x)
    np.testing.assert_array_equal(found, found.T)
    values = np.linalg.eigvalsh(found)
    assert values[0] >= -10 * EPS * values[-1]
    np.testing.assert_allclose(np.diagonal(found), ((x**2).sum(1) + 1) / 2, rtol=1e-14)
    assert np.abs(found[::2, 1::2] - found[::2, ::2]).max() <= 4 * EPS * found.max()


def test_chunks_do_not_matter(monkeypatch):
    """Oracle: the same kernel in one block."""
    x = wine()[0]
    whole, across = arc_cosine_kernel(x), arc_cosine_kernel(x[:50], x)
    monkeypatch.setattr(kernel, "_CHUNK_BYTES", 8 * len(x) * 7)
    np.testing.assert_allclose(arc_cosine_kernel(x), whole, rtol=1e-13)
    np.testing.assert_allclose(arc_cosine_kernel(x[:50], x), across, rtol=1e-13)
    np.testing.assert_array_equal(arc_cosine_kernel(x), arc_cosine_kernel(x).T)


@pytest.mark.parametrize("weights", ["normal", "orthogonal"])
def test_drawn_layers_tend_to_the_kernel(weights):
    """Oracle: HHᵀ/h of drawn layers; deviation below sqrt(3/2h)|u||u'|, its variance's bound, and as 1/sqrt(h)."""
    x = wine()[0][:60]
    limit = arc_cosine_kernel(x)
    bound = np.sqrt(1.5) * 2 * np.sqrt(np.outer(np.diagonal(limit), np.diagonal(limit)))
    errors = []
    for hidden_units in (1600, 102_400):
        activations = draw_layer(13, hidden_units, 0, weights=weights)(x)
        deviation = activations @ activations.T / hidden_units - limit
        errors.append(np.sqrt(np.mean((deviation / bound) ** 2)) * np.sqrt(hidden_units))
    assert max(errors) <= 1
    assert 0.4 <= errors[1] / errors[0] <= 2.5  # 8 times smaller for 64 times the units, within the spread of draws


def by_numpy(gram, targets, penalty, weight):
    """Dual coefficients and intercept from the bordered system of the weighted problem with an intercept."""
    n = len(gram)
    system = np.zeros((n + 1, n + 1))
    system[:n, :n] = gram + penalty * np.diag(1 / weight)
    system[n, :n] = system[:n, n] = 1
    solution = np.linalg.solve(system, np.concatenate([targets, np.zeros((1, targets.shape[1]))]))
    return solution[:n], solution[n]


@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 1.0])
def test_read_out_without_intercept_is_kernel_ridge(ridge):
    """Oracle: sklearn.kernel_ridge.KernelRidge with sample weights, λ = ridge × weighted mean diagonal."""
    x, y = wine()
    weight = np.random.default_rng(0).uniform(0.5, 2, len(x))
    fitted = ArcCosineClassifier(ridge=ridge, fit_intercept=False).fit(x, y, weight)
    gram = arc_cosine_kernel(x)
    penalty = ridge * np.average(np.diagonal(gram), weights=weight)
    targets = np.where(y[:, None] == np.arange(3), 1.0, -1.0)
    oracle = KernelRidge(alpha=penalty, kernel="precomputed").fit(gram, targets, weight)
    assert fitted.penalty_ == pytest.approx(penalty, rel=1e-12)
    error = np.abs(fitted.output_weights_ - oracle.dual_coef_).max() / np.abs(oracle.dual_coef_).max()
    assert error <= 100 * EPS / ridge
    scores = fitted.decision_function(x)
    assert np.abs(scores - oracle.predict(gram)).max() <= 1e-9
    np.testing.assert_array_equal(fitted.predict(x), oracle.predict(gram).argmax(1))


@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 1.0])
def test_read_out_with_intercept(ridge):
    """Oracle: numpy's solution of the bordered system; λ from the kernel centred by weighted means."""
    x, y = load_diabetes(return_X_y=True)
    x, y, weight = 10 * x[:150], y[:150], np.random.default_rng(0).uniform(0.5, 2, 150)
    fitted = ArcCosineRegressor(ridge=ridge).fit(x, y, weight)
    gram, shares = arc_cosine_kernel(x), weight / weight.sum()
    centring = np.eye(150) - np.outer(np.ones(150), shares)
    penalty = ridge * shares @ np.diagonal(centring @ gram @ centring.T)
    coefficients, intercept = by_numpy(gram, y[:, None], penalty, weight)
    assert fitted.penalty_ == pytest.approx(penalty, rel=1e-10)
    assert np.abs(fitted.output_weights_ - coefficients).max() <= 1e-6 * np.abs(coefficients).max()
    assert fitted.intercept_ == pytest.approx(intercept, rel=1e-6)
    np.testing.assert_allclose(fitted.predict(x), gram @ coefficients[:, 0] + intercept, rtol=1e-7)
    assert abs(fitted.output_weights_.sum()) <= 1e-10 * np.abs(fitted.output_weights_).sum()


def test_no_ridge_interpolates():
    """Oracle: the kernel of rows that differ is definite, so the training targets come back."""
    x, y = wine()
    fitted = ArcCosineClassifier(ridge=0.0).fit(x, y)
    targets = np.where(y[:, None] == np.arange(3), 1.0, -1.0)
    np.testing.assert_allclose(fitted.decision_function(x), targets, atol=1e-8)


def test_wide_machines_tend_to_it():
    """Oracle: scikit-learn's Ridge on drawn layers, their ridge h/M times as large: nearer with more units."""
    x, y = wine()
    train, test = np.arange(0, 178, 2), np.arange(1, 178, 2)
    fitted = ArcCosineRegressor(ridge=1e-2).fit(x[train], y[train])
    limit, errors = fitted.predict(x[test]), []
    for hidden_units in (400, 25_600):
        layer = draw_layer(13, hidden_units, 1)
        machine = Ridge(fitted.penalty_ * hidden_units, solver="cholesky").fit(layer(x[train]), y[train])
        errors.append(np.sqrt(np.mean((machine.predict(layer(x[test])) - limit) ** 2)))
    assert errors[1] <= 0.02 and 4 <= errors[0] / errors[1] <= 16


def test_one_row_is_the_batchs():
    """Oracle: the scores of the batch."""
    x, held, y, _ = digits()
    fitted = ArcCosineClassifier().fit(x, y)
    batch = fitted.decision_function(held[:50])
    single = np.concatenate([fitted.decision_function(row[None]) for row in held[:50]])
    np.testing.assert_allclose(single, batch, rtol=0, atol=1e-10)


def test_labels_digits():
    """Oracle: the labels of rows not seen: 400 digits teach to know 96 % of the others, as an RBF machine does."""
    x, held, y, labels = digits()
    fitted = ArcCosineClassifier(ridge=np.geomspace(1e-5, 1, 6), select="loo").fit(x, y)
    assert fitted.score(held, labels) >= 0.96
    assert fitted.hidden_units_ == np.inf


def refits(x, targets, gram, parts, penalties):
    """Held-out outputs [ridges, M, K] by fitting anew without every part."""
    outputs = np.empty((len(penalties), *targets.shape))
    for row, penalty in enumerate(penalties):
        for test in parts:
            train = np.setdiff1d(np.arange(len(x)), test)
            coefficients, intercept = by_numpy(gram[np.ix_(train, train)], targets[train], penalty, np.ones(len(train)))
            outputs[row, test] = gram[np.ix_(test, train)] @ coefficients + intercept
    return outputs


@pytest.mark.parametrize("select", ["loo", "kfold"])
def test_selection_is_that_of_refits(select):
    """Oracle: fits by numpy without every row or fold, λ being that of all rows."""
    x, y = wine()
    ridges = np.geomspace(1e-5, 10, 4)
    fitted = ArcCosineClassifier(ridge=ridges, select=select, criterion="squared_error", folds=5, random_state=3)
    fitted.fit(x, y)
    gram = arc_cosine_kernel(x)
    mean = np.trace(gram - gram.mean(0)) / len(x)
    parts = [np.array([i]) for i in range(len(x))]
    if select == "kfold":
        parts = [test for _, test in StratifiedKFold(5, shuffle=True, random_state=3).split(x, y)]
    targets = np.where(y[:, None] == np.arange(3), 1.0, -1.0)
    outputs = refits(x, targets, gram, parts, ridges * mean)
    errors = ((outputs - targets) ** 2).mean((1, 2))
    np.testing.assert_allclose(-fitted.selection_scores_[0], errors, rtol=1e-6)
    assert fitted.ridge_ == ridges[errors.argmin()]


def test_selection_by_generalised_cross_validation():
    """Oracle: n |y − Sy|² / tr(I − S)² per weight, the smoother S written out with numpy."""
    x, y = wine()
    ridges = np.geomspace(1e-4, 10, 4)
    fitted = ArcCosineRegressor(ridge=ridges, select="gcv").fit(x, y)
    centring = np.eye(len(x)) - 1 / len(x)
    gram = centring @ arc_cosine_kernel(x) @ centring
    expected = []
    for ridge in ridges:
        smoother = gram @ np.linalg.inv(gram + ridge * np.trace(gram) / len(x) * np.eye(len(x))) + 1 / len(x)
        residual = y - smoother @ y
        expected.append(np.mean(residual**2) / (1 - np.trace(smoother) / len(x)) ** 2)
    np.testing.assert_allclose(-fitted.selection_scores_[0], expected, rtol=1e-6)


def test_selection_by_validation():
    """Oracle: the errors of single fits on the same clips."""
    x, held, y, labels = digits()
    ridges = np.array([1e-4, 1e-1, 10.0])
    settings = {"select": "validation", "criterion": "accuracy"}
    fitted = ArcCosineClassifier(ridge=ridges, **settings).fit(x, y, validation=(held, labels))
    singles = [ArcCosineClassifier(ridge=ridge).fit(x, y).score(held, labels) for ridge in ridges]
    np.testing.assert_allclose(fitted.selection_scores_[0], singles, rtol=1e-12)


def test_probabilities():
    """Oracle: probabilities sum to one; their order is the scores'."""
    x, held, y, labels = digits()
    fitted = ArcCosineClassifier(calibration="temperature").fit(x, y)
    probabilities = fitted.predict_proba(held)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    np.testing.assert_array_equal(fitted.classes_[probabilities.argmax(1)], fitted.predict(held))
    assert -np.log(probabilities[np.arange(len(held)), labels]).mean() <= 0.4


@pytest.mark.parametrize("estimator", [ArcCosineClassifier(), ArcCosineRegressor(ridge=1e-2)])
def test_learnt_there_and_back(estimator):
    """Oracle: the predictions before it was written to plain arrays, or pickled."""
    x, y = wine()
    fitted = estimator.fit(x, y)
    back = clone(fitted).restore(fitted.learnt())
    np.testing.assert_array_equal(back.predict(x), fitted.predict(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict(x), fitted.predict(x))


def test_permuted_rows_and_features():
    """Oracle: the same table in another order."""
    x, y = wine()
    random = np.random.default_rng(0)
    rows, columns = random.permutation(178), random.permutation(13)
    plain = ArcCosineRegressor().fit(x, y).predict(x)
    other = ArcCosineRegressor().fit(x[rows][:, columns], y[rows]).predict(x[:, columns])
    np.testing.assert_allclose(other, plain, atol=1e-9)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"ridge": -1.0}, "ridge=-1.0"),
        ({"ridge": [1e-3, 1e-2]}, "leave a choice"),
        ({"select": "press"}, "select='press'"),
        ({"ridge": 0.0, "select": "loo"}, "no closed form at 0"),
    ],
)
def test_refuses_parameters_out_of_range(params, message):
    """Oracle: the contract, the message carries name and value."""
    with pytest.raises(ValueError, match=message):
        ArcCosineClassifier(**params).fit(np.eye(3), [0, 1, 1])


def test_refuses_tables():
    """Oracle: the contract; a machine of 1 MiB."""
    with pytest.raises(ValueError, match=r"shape \(3, 3\), b has shape \(2, 2\)"):
        arc_cosine_kernel(np.eye(3), np.eye(2))
    with pytest.raises(ValueError, match="scale the features"):
        arc_cosine_kernel(np.array([[1e200]]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "physical_memory", lambda: 2.0**20)
        with pytest.raises(ValueError, match=r"kernel \[400, 400\] would take .* give fewer rows"):
            ArcCosineClassifier().fit(digits()[0], digits()[2])


def test_several_labels():
    """Oracle: sklearn.kernel_ridge.KernelRidge on the same ±1 columns."""
    x, y = wine()
    labels = np.stack([y == 0, y != 1, x[:, 0] > 0], axis=1).astype(int)
    fitted = ArcCosineClassifier(fit_intercept=False).fit(x, labels)
    gram = arc_cosine_kernel(x)
    oracle = KernelRidge(alpha=fitted.penalty_, kernel="precomputed").fit(gram, 2.0 * labels - 1)
    np.testing.assert_allclose(fitted.decision_function(x), oracle.predict(gram), atol=1e-9)
    np.testing.assert_array_equal(fitted.predict(x), oracle.predict(gram) > 0)


@pytest.mark.parametrize("select", [None, "loo", "kfold", "gcv"])
def test_small_features_make_it_linear(select):
    """Oracle: scikit-learn's Ridge on x itself: k(x, x') = (1 + x·x') / 2 but for |x|³, its λ twice the kernel's."""
    x, y = load_iris(return_X_y=True)
    ridge = 0.1 if select is None else np.geomspace(1e-6, 0.1, 6)
    fitted = ArcCosineRegressor(ridge=ridge, select=select).fit(1e-6 * x, y)
    oracle = Ridge(fitted.ridge_ * x.var(axis=0).sum()).fit(x, y)
    # The kernel's 16 digits are those of ½, and its spread is 1e-12.
    limit = 1e-3 / fitted.ridge_ if fitted.ridge_ >= 1e-3 else np.inf
    assert np.abs(fitted.predict(1e-6 * x) - oracle.predict(x)).max() <= limit
    assert fitted.score(1e-6 * x, y) >= 0.9


def test_features_far_from_0_say_that_digits_are_lost():
    """Oracle: the roundings: of a kernel of 2e12 they are 1e-4 and more, of a penalty of 2e-3 a tenth."""
    x, y = load_iris(return_X_y=True)
    with pytest.warns(PrecisionWarning, match="standardise the features"):
        fitted = ArcCosineClassifier(ridge=np.geomspace(1e-6, 1, 7), select="loo").fit(x + 1e6, y)
    assert fitted.digits_ < 4 and fitted.score(x + 1e6, y) >= 0.8


@pytest.mark.parametrize("x", [np.full((7, 3), 0.1), 1e-9 * wine()[0][:7]], ids=["constant", "all but constant"])
@pytest.mark.parametrize("params", [{}, {"ridge": 0.0}, {"ridge": (1e-3, 1.0), "select": "loo"}], ids=str)
def test_rows_that_differ_by_rounding(x, params):
    """Oracle: by hand: the weighted mean of the values, the label of most weight; and a warning."""
    y, weight = np.array([0, 1, 1, 2, 2, 2, 0]), np.array([1.0, 3, 3, 1, 1, 1, 1])
    with pytest.warns(PrecisionWarning, match="scale or standardise the features"):
        values = ArcCosineRegressor(**params).fit(x, y, weight).predict(x)
    np.testing.assert_allclose(values, np.average(y, weights=weight), rtol=1e-6)
    with pytest.warns(PrecisionWarning, match="scale or standardise the features"):
        labels = ArcCosineClassifier(**params).fit(x, y, weight).predict(x)
    np.testing.assert_array_equal(labels, 1)

"""Probes against the scikit-learn estimators they wrap, scipy's densities, and hand-worked mixtures."""

import io
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.mixture import GaussianMixture
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import scale
from sklearn.svm import LinearSVC

from mirjax.classifiers.mixture import GMMClassifier
from mirjax.classifiers.probes import LinearProbe, MLPProbe, MLPProbeRegressor, SGDProbe, solve_squared_hinge

X, Y = load_digits(return_X_y=True)
X, Y = X[:500], Y[:500]
PAIR = Y < 2
DIGITS = {"ten": (X, Y), "two": (X[PAIR], Y[PAIR])}
PROBES = [
    LinearProbe(),
    LinearProbe(kind="svm", C=0.1),
    SGDProbe(max_iter=50),
    MLPProbe(hidden=(20,), max_iter=40),
    GMMClassifier(components=2, priors="training"),
]


@pytest.fixture(autouse=True)
def _short_fits_may_stop_early():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@pytest.mark.parametrize("data", DIGITS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (LinearProbe(C=0.1), LogisticRegression(C=0.1, solver="newton-cg", tol=1e-6)),
        (SGDProbe(random_state=3), SGDClassifier(random_state=3)),
        (MLPProbe(hidden=(30, 20), max_iter=60), MLPClassifier((30, 20), max_iter=60, random_state=0)),
    ],
    ids=["logistic", "sgd", "mlp"],
)
def test_scores_are_scikit_learns(ours, theirs, data):
    """Oracle: the scikit-learn classifier at the same settings: labels, scores and probabilities of unseen digits."""
    x, y = DIGITS[data]
    train = np.arange(len(x)) % 3 != 0
    names = np.array([f"digit {digit}" for digit in range(10)])
    ours, theirs = ours.fit(x[train], names[y[train]]), theirs.fit(x[train], y[train])
    np.testing.assert_array_equal(ours.predict(x[~train]), names[theirs.predict(x[~train])])
    for method in ("decision_function", "predict_proba"):
        if hasattr(theirs, method):
            expected = getattr(theirs, method)(x[~train])
            found = getattr(ours, method)(x[~train])
            assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()
    assert hasattr(ours, "predict_proba") == hasattr(theirs, "predict_proba")


@pytest.mark.parametrize("data", DIGITS)
@pytest.mark.parametrize("C", [0.1, 1, 2])
def test_svm_is_liblinears(data, C):
    """Oracle: sklearn.svm.LinearSVC on standardised digits: its weights, and a loss that is nowhere lower."""
    x, y = DIGITS[data]
    x = scale(x)
    ours = LinearProbe(kind="svm", C=C).fit(x, y)
    theirs = LinearSVC(C=C, tol=1e-9, max_iter=20_000, random_state=0).fit(x, y)
    assert np.abs(ours.coef_ - theirs.coef_).max() <= 1e-4 * np.abs(theirs.coef_).max()
    targets = np.where(y[:, None] == (np.arange(10) if data == "ten" else 1), 1, -1)

    def losses(machine):
        slack = np.maximum(1 - targets * machine.decision_function(x).reshape(targets.shape), 0)
        return ((machine.coef_**2).sum(axis=1) + machine.intercept_**2) / 2 + C * (slack**2).sum(axis=0)

    assert (losses(ours) <= losses(theirs) * (1 + 1e-13)).all()


@pytest.mark.parametrize("wide", [False, True], ids=["D < M", "D > M"])
def test_squared_hinge_is_at_its_minimum(wide):
    """Oracle: the gradient by hand, w − 2 Σ c max(1 − y x·w, 0) y x = 0, on raw features and random ones of them."""
    x, y = DIGITS["two"]
    if wide:
        x = np.maximum(x @ np.random.default_rng(0).normal(size=(64, 600)), 0)
    signs, costs = 2.0 * y - 1, np.random.default_rng(1).uniform(0.1, 2, len(y))
    w, _, reached = solve_squared_hinge(x, signs, costs, 100)
    pull = 2 * ((costs * np.maximum(1 - signs * (x @ w), 0) * signs)[:, None] * x).sum(axis=0)
    # The slacks 1 − y x·w of the wide problem are 1e-7 to 1e-5, and have as many digits fewer.
    assert reached and np.abs(w - pull).max() <= (1e-7 if wide else 1e-9) * np.abs(w).max()


def test_default_mlp_is_kims():
    """Oracle: Kim et al.'s specification as sklearn.neural_network.MLPClassifier, fitted to standardised wine."""
    x, y = load_wine(return_X_y=True)
    x = scale(x)
    ours = MLPProbe().fit(x, y)
    theirs = MLPClassifier((256, 256), activation="relu", solver="adam", max_iter=200, random_state=0).fit(x, y)
    assert [layer.shape for layer in ours.weights_] == [(13, 256), (256, 256), (256, 3)]
    for ours_layer, theirs_layer in zip(ours.weights_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(ours_layer, theirs_layer, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", ["one value", "one column", "two columns"])
def test_values_are_scikit_learns(shape):
    """Oracle: sklearn.neural_network.MLPRegressor on real values (diabetes); y's shape comes back."""
    x, y = load_diabetes(return_X_y=True)
    y = {"one value": y, "one column": y[:, None], "two columns": np.stack([y, x[:, 0]], axis=1)}[shape]
    ours = MLPProbeRegressor(hidden=(20,), max_iter=30).fit(x[:300], y[:300])
    theirs = MLPRegressor(hidden_layer_sizes=(20,), max_iter=30, random_state=0).fit(
        x[:300], y[:300] if shape != "one column" else y[:300, 0]
    )
    found, expected = ours.predict(x[300:]), theirs.predict(x[300:])
    assert found.shape == y[300:].shape
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_weights_are_repetitions(kind):
    """Oracle: the same fit to rows written as often as their weight says; a class of weight 0 is not there."""
    weight = np.random.default_rng(0).integers(0, 4, len(X))
    weight[Y == 7] = 0
    probe = LinearProbe(kind=kind, C=0.01, tol=1e-10)
    weighted, repeated = clone(probe).fit(X, Y, weight), clone(probe).fit(X.repeat(weight, 0), Y.repeat(weight))
    assert 7 not in weighted.classes_ and len(weighted.classes_) == 9
    assert np.abs(weighted.coef_ - repeated.coef_).max() <= 1e-7 * np.abs(repeated.coef_).max()


def test_logistic_regression_is_at_its_minimum():
    """Oracle: the gradient of ½|w|² + C Σ loss as documented, of two classes, by hand."""
    x, y = DIGITS["two"]
    probe = LinearProbe(C=0.02, tol=1e-9).fit(x, y)
    signs = 2 * y - 1
    pull = 0.02 * signs / (1 + np.exp(signs * probe.decision_function(x)))
    assert np.abs(probe.coef_[0] - pull @ x).max() <= 1e-6 * np.abs(probe.coef_).max()
    assert abs(pull.sum()) <= 1e-6 * np.abs(pull).sum()


@pytest.mark.parametrize("priors", ["equal", "training"])
@pytest.mark.parametrize("data", DIGITS)
def test_mixtures_are_scikit_learns(data, priors):
    """Oracle: sklearn.mixture.GaussianMixture of each class, score_samples and the shares of the classes."""
    x, y = DIGITS[data]
    x = x + 1.0
    train = np.arange(len(x)) % 3 != 0
    ours = GMMClassifier(components=3, priors=priors, reg_covar=1e-2).fit(x[train], y[train])
    classes, counts = np.unique(y[train], return_counts=True)
    mixtures = [
        GaussianMixture(3, covariance_type="diag", reg_covar=1e-2, random_state=0).fit(x[train][y[train] == k])
        for k in classes
    ]
    expected = np.stack([mixture.score_samples(x[~train]) for mixture in mixtures], axis=1)
    assert np.abs(ours.log_likelihoods(x[~train]) - expected).max() <= 1e-10 * np.abs(expected).max()
    joint = expected + (np.log(counts / counts.sum()) if priors == "training" else 0)
    np.testing.assert_array_equal(ours.predict(x[~train]), classes[joint.argmax(axis=1)])
    scores = ours.decision_function(x[~train])
    if data == "two":
        np.testing.assert_allclose(scores, joint[:, 1] - joint[:, 0], rtol=1e-8, atol=1e-6)
    odds = np.exp(joint - joint.max(axis=1, keepdims=True))
    np.testing.assert_allclose(ours.predict_proba(x[~train]), odds / odds.sum(axis=1, keepdims=True), atol=1e-7)


def test_a_gaussian_a_class_by_hand():
    """Oracle: scipy.stats.multivariate_normal about each class's mean and population variance."""
    x, y = load_wine(return_X_y=True)
    x = x + 1e4  # far from 0, where E[x²] − μ² leaves some six digits
    ours = GMMClassifier(reg_covar=0.0).fit(x, y)
    classes = [x[y == k] for k in range(3)]
    expected = [multivariate_normal(c.mean(axis=0), np.diag(c.var(axis=0))).logpdf(x) for c in classes]
    assert np.abs(ours.log_likelihoods(x).T - expected).max() <= 1e-11 * np.abs(expected).max()
    np.testing.assert_array_equal(ours.predict(x), np.argmax(expected, axis=0))


@pytest.mark.parametrize("data", DIGITS)
def test_clips_are_the_sum_of_their_frames(data):
    """Oracle: the definition with scikit-learn's score_samples, clip by clip; the prior enters once."""
    x, y = DIGITS[data]
    ours = GMMClassifier(components=2, priors="training").fit(x, y)
    random = np.random.default_rng(0)
    clips = [x[random.integers(0, len(x), length)] for length in (1, 7, 3, 20)]
    expected = np.stack([ours.log_likelihoods(clip).sum(axis=0) for clip in clips])
    assert np.abs(ours.score_clips(clips) - expected).max() <= 1e-12 * np.abs(expected).max()
    labels = ours.classes_[(expected + np.log(np.bincount(y) / len(y))).argmax(axis=1)]
    np.testing.assert_array_equal(ours.predict_clips(clips), labels)
    one_class = [x[y == k][:10] for k in ours.classes_]
    np.testing.assert_array_equal(ours.predict_clips(one_class), ours.classes_)


@pytest.mark.parametrize("probe", PROBES, ids=repr)
@pytest.mark.parametrize("data", DIGITS)
@pytest.mark.parametrize("labels", ["text", "int"])
def test_restored_probes_score_the_same(probe, data, labels):
    """Oracle: the probe that was fitted; parameters, labels and scores to the bit, through a file without pickles."""
    x, y = DIGITS[data]
    y = np.array([f"digit {digit}" for digit in y]) if labels == "text" else y
    fitted = clone(probe).fit(x[::2], y[::2])
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **fitted.learnt())
    file.seek(0)
    again = clone(probe).restore(dict(np.load(file, allow_pickle=False)))
    assert again.get_params() == fitted.get_params()
    assert again.n_features_in_ == 64
    assert set(vars(again)) == set(vars(fitted))
    for method in ("predict", "decision_function", "predict_proba", "log_likelihoods"):
        if hasattr(fitted, method):
            np.testing.assert_array_equal(getattr(again, method)(x), getattr(fitted, method)(x))


@pytest.mark.parametrize("columns", [0, 2])
def test_a_restored_regressor_predicts_the_same(columns):
    """Oracle: the regressor that was fitted, to the bit; JSON's list of widths is a tuple again."""
    x, y = load_diabetes(return_X_y=True)
    y = y if columns == 0 else np.stack([y, -y], axis=1)
    fitted = MLPProbeRegressor(hidden=(9, 8), max_iter=5).fit(x, y)
    again = MLPProbeRegressor(hidden=[9, 8], max_iter=5).restore({k: np.asarray(v) for k, v in fitted.learnt().items()})
    assert again.get_params() == fitted.get_params()
    np.testing.assert_array_equal(again.predict(x), fitted.predict(x))


@pytest.mark.parametrize("probe", PROBES, ids=repr)
def test_fits_repeat_and_failures_change_nothing(probe):
    """Oracle: the first fit, to the bit; after a failed fit the attributes are the same objects."""
    fitted, again = (clone(probe).fit(X, Y) for _ in range(2))
    for name, value in fitted.learnt().items():
        np.testing.assert_array_equal(again.learnt()[name], value)
    before = dict(vars(fitted))
    with pytest.raises(ValueError, match="one class only"):
        fitted.fit(X[:, :7], np.zeros(len(X)))
    assert vars(fitted).keys() == before.keys() and all(vars(fitted)[name] is before[name] for name in before)


@pytest.mark.parametrize(
    "probe",
    [
        LinearProbe(max_iter=1),
        LinearProbe(kind="svm", max_iter=1),
        SGDProbe(max_iter=1),
        MLPProbe(hidden=(5,), max_iter=1),
        GMMClassifier(components=5, max_iter=1),
    ],
    ids=repr,
)
def test_says_when_it_has_not_converged(probe):
    """Oracle: scikit-learn's ConvergenceWarning, passed on."""
    with pytest.warns(ConvergenceWarning):
        probe.fit(X, Y)


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (LinearProbe(kind="ridge"), "kind='ridge' must be 'logistic' or 'svm'"),
        (LinearProbe(C=0), "C=0 must be a number, finite and above 0"),
        (LinearProbe(tol=0.0), "tol=0.0 must be a number, finite and above 0"),
        (LinearProbe(max_iter=0), "max_iter=0 must be a whole number, at least 1"),
        (LinearProbe(kind="svm", max_iter=1.5), "max_iter=1.5 must be a whole number"),
        (LinearProbe(C="1"), "C='1' must be a number"),
        (LinearProbe(tol="small"), "tol='small' must be a number"),
        (SGDProbe(alpha="1"), "alpha='1' must be a number"),
        (SGDProbe(max_iter=2.5), "max_iter=2.5 must be a whole number"),
        (MLPProbe(hidden=True), "hidden=True must be the widths"),
        (MLPProbe(hidden="20"), "hidden='20' must be the widths"),
        (GMMClassifier(components=1.5), "components=1.5 must be a whole number"),
        (GMMClassifier(reg_covar="0"), "reg_covar='0' must be a number"),
        (SGDProbe(alpha=-1.0), "alpha=-1.0 must be a number, finite and above 0"),
        (MLPProbe(hidden=()), r"hidden=\(\) must be the widths"),
        (MLPProbe(hidden=(20, 0)), r"hidden=\(20, 0\) must be the widths"),
        (MLPProbe(hidden=(2.5,)), r"hidden=\(2.5,\) must be the widths"),
        (GMMClassifier(components=0), "components=0 must be a whole number, at least 1"),
        (GMMClassifier(priors="none"), "priors='none' must be 'equal' or 'training'"),
        (GMMClassifier(reg_covar=-1.0), "reg_covar=-1.0 must be a number, finite and at least 0"),
        (GMMClassifier(components=60), "components=60 needs 60 rows of every class; 8 has 46; lower components"),
    ],
    ids=repr,
)
def test_refuses_parameters_out_of_range(probe, message):
    """Oracle: the contract, the message carries name, value and remedy."""
    with pytest.raises(ValueError, match=message):
        probe.fit(X, Y)


@pytest.mark.parametrize("weight", [-np.ones(len(X)), np.zeros(len(X))], ids=["negative", "zero"])
def test_refuses_weights_without_meaning(weight):
    """Oracle: the contract."""
    with pytest.raises(ValueError, match="weight"):
        LinearProbe().fit(X, Y, weight)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "clips is empty"),
        ([X[:2], X[:0]], r"clips\[1\] has shape \(0, 64\)"),
        ([X[:2, :3]], r"clips\[0\] has shape \(2, 3\); it must be \[T ≥ 1, 64\]"),
        ([X[:2] * np.nan], "NaN"),
    ],
    ids=["none", "no frame", "width", "nan"],
)
def test_refuses_clips(clips, message):
    """Oracle: the contract, the message names the clip."""
    with pytest.raises(ValueError, match=message):
        GMMClassifier().fit(X, Y).score_clips(clips)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3, 1e6], ids=str)
def test_svm_on_columns_of_any_scale(unit):
    """Oracle: scipy's L-BFGS of the same objective in columns of deviation 1 finds no lower loss."""
    x, y = load_breast_cancer(return_X_y=True)
    signs, deviation = 2 * y - 1, np.append(unit * x.std(axis=0), 1)
    columns = np.column_stack([unit * x, np.ones(len(x))]) / deviation
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe = LinearProbe(kind="svm").fit(unit * x, y)

    def loss(v):
        slack = np.maximum(1 - signs * (columns @ v), 0)
        penalty = v / deviation**2
        return penalty @ v / 2 + slack @ slack, penalty - 2 * (signs * slack) @ columns

    options = {"maxiter": 2000, "maxcor": 60, "ftol": 1e-15, "gtol": 1e-9}
    lowest = minimize(loss, np.zeros(31), jac=True, method="L-BFGS-B", options=options).fun
    assert loss(np.append(probe.coef_, probe.intercept_) * deviation)[0] <= lowest * (1 + 1e-9)


def test_svm_says_where_it_stopped_early():
    """Oracle: the steps the minimum takes, some 80 on these columns; 5 are not enough."""
    x, y = load_breast_cancer(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match="raise max_iter, or standardise"):
        LinearProbe(kind="svm", max_iter=5).fit(x * 1e6, y)
    with pytest.warns(ConvergenceWarning, match="standardise"):  # slacks of 1e-10 beside 1, and squares of 1e24
        LinearProbe(kind="svm").fit(x * 1e9, y)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "log_likelihoods"])
def test_mixtures_refuse_rows_beyond_float64(method):
    """Oracle: the contract: a message in place of NaN."""
    with pytest.raises(ValueError, match="leaves float64; scale the features"):
        GMMClassifier().fit(X * 1e200, Y)
    fitted = GMMClassifier().fit(X, Y)
    with pytest.raises(ValueError, match="in row 1 that the square of the distance leaves float64; scale"):
        getattr(fitted, method)(np.stack([X[0], X[0] * 1e200]))

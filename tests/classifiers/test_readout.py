"""Choosing, weighing and calibrating a read-out, against loops of scikit-learn's refits on the same activations."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.linear_model import Ridge, RidgeClassifierCV, RidgeCV
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelBinarizer, MultiLabelBinarizer, StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_limits

from mirjax.classifiers import calibration
from mirjax.classifiers.elm import ELMClassifier, ELMRegressor
from mirjax.classifiers.readout import _first_best

SIZES, RIDGES = (20, 60, 150), (1e-6, 1e-3, 1e-1)
SEED = 3


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small LAPACK calls on two threads are ten times slower while another process is busy."""
    with threadpool_limits(1, user_api="blas"):
        yield


def real(load, num_clips=120):
    x, y = load(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(x))[:num_clips]
    x = x[rows] - x[rows].mean(0)
    return x / np.maximum(x.std(0), 1e-9), y[rows]


WINE, DIGITS, DIABETES = real(load_wine), real(load_digits), real(load_diabetes)
TABLES = pytest.mark.parametrize("table", [WINE, DIGITS, DIABETES], ids=["wine", "digits", "diabetes"])
INTERCEPTS = pytest.mark.parametrize("fit_intercept", [False, True], ids=["plain", "intercept"])


def machine(y, **params):
    params = {"hidden_units": SIZES, "ridge": RIDGES, "random_state": SEED} | params
    return (ELMRegressor if np.ndim(y) == 1 and y.dtype.kind == "f" and len(set(y)) > 20 else ELMClassifier)(**params)


def activations(x, units=SIZES[-1], seed=SEED):
    layer = np.random.default_rng(seed).standard_normal((units, x.shape[1] + 1))
    return np.maximum(x @ layer[:, :-1].T + layer[:, -1], 0)


def as_targets(y):
    if y.dtype.kind == "f" and len(set(y.ravel())) > 20:
        return y.reshape(len(y), -1)
    return LabelBinarizer(neg_label=-1).fit_transform(y).astype(float)


def penalty(hidden, ridge, w=None, fit_intercept=False):
    w = np.ones(len(hidden)) if w is None else w
    center = np.average(hidden, axis=0, weights=w) if fit_intercept else 0
    return ridge * (w[:, None] * (hidden - center) ** 2).sum(0).mean()


def refit(hidden, targets, train, test, alpha, w=None, fit_intercept=False):
    """Scikit-learn's Ridge at a fixed absolute penalty, fitted to `train`: outputs [m, K]."""
    ridge = Ridge(alpha, fit_intercept=fit_intercept, solver="svd" if w is None else "cholesky")
    ridge.fit(hidden[train], targets[train], sample_weight=None if w is None else w[train])
    return ridge.predict(hidden[test]).reshape(len(test), -1)


def brute_force(hidden, targets, splits, w=None, fit_intercept=False):
    """Outputs [sizes, ridges, n, K] of rows held out, λ being that of all rows and units."""
    outputs = np.empty((len(SIZES), len(RIDGES), *targets.shape))
    for i, size in enumerate(SIZES):
        for j, ridge in enumerate(RIDGES):
            alpha = penalty(hidden, ridge, w, fit_intercept)
            for train, test in splits:
                outputs[i, j, test] = refit(hidden[:, :size], targets, train, test, alpha, w, fit_intercept)
    return outputs


def rated(outputs, targets, w=None):
    """Shares of weight labelled rightly, and mean squared errors."""
    w = np.ones(len(targets)) if w is None else w
    single = targets.shape[1] == 1
    labels = (outputs[..., 0] > 0) if single else outputs.argmax(-1)
    true = (targets[:, 0] > 0) if single else targets.argmax(-1)
    error = ((outputs - targets) ** 2).mean(-1)
    return np.average(labels == true, axis=-1, weights=w), np.average(error, axis=-1, weights=w)


def best(right, error):
    """The largest share, of equal ones that of the smallest error."""
    cells = [(-round(r, 9), e, i) for i, (r, e) in enumerate(zip(right.ravel(), error.ravel(), strict=True))]
    return np.unravel_index(min(cells)[2], right.shape)


def check(fitted, outputs, targets, w=None, criterion="accuracy"):
    right, error = rated(outputs, targets, w)
    if criterion == "squared_error" or isinstance(fitted, ELMRegressor):
        np.testing.assert_allclose(fitted.selection_scores_, -error, rtol=1e-7)
        right = -error
    else:
        np.testing.assert_allclose(fitted.selection_scores_, right, atol=1e-12)
    i, j = best(right, error)
    assert (fitted.hidden_units_, fitted.ridge_) == (SIZES[i], RIDGES[j])
    return i, j


# ── choosing ──


def folds_of(y, count, groups=None):
    """The folds that the docstring promises."""
    x, params = np.zeros((len(y), 1)), {"n_splits": count, "shuffle": True, "random_state": SEED}
    if y.dtype.kind == "f" and len(set(y)) > 20:
        return list((GroupKFold if groups is not None else KFold)(**params).split(x, groups=groups))
    return list((StratifiedGroupKFold if groups is not None else StratifiedKFold)(**params).split(x, y, groups))


@TABLES
@INTERCEPTS
@pytest.mark.parametrize("criterion", ["auto", "squared_error"])
def test_kfold_is_a_loop_of_refits(table, fit_intercept, criterion):
    """Oracle: sklearn.linear_model.Ridge refitted in each of scikit-learn's folds, 9 cells, weights given too."""
    x, y = table
    hidden, targets = activations(x), as_targets(y)
    for w in (None, np.random.default_rng(1).uniform(0.2, 3, len(x))):
        params = {"select": "kfold", "folds": 4, "fit_intercept": fit_intercept, "criterion": criterion}
        fitted = machine(y, **params).fit(x, y, sample_weight=w)
        outputs = brute_force(hidden, targets, folds_of(y, 4), w, fit_intercept)
        i, j = check(fitted, outputs, targets, w, criterion)
        # The read-out that follows is scikit-learn's as well.
        alpha, rows = penalty(hidden, RIDGES[j], w, fit_intercept), np.arange(len(x))
        assert fitted.penalty_ == pytest.approx(alpha, rel=1e-12)
        expected = refit(hidden[:, : SIZES[i]], targets, rows, rows, alpha, w, fit_intercept)
        scores = fitted._scores(x)
        assert np.abs(scores - expected).max() <= 1e-8 * np.abs(expected).max()


@INTERCEPTS
@pytest.mark.parametrize("table", [WINE, DIABETES], ids=["wine", "diabetes"])
def test_loo_is_a_loop_of_refits(table, fit_intercept):
    """Oracle: sklearn.linear_model.Ridge refitted without each clip."""
    x, y = (part[:50] for part in table)
    hidden, targets = activations(x), as_targets(y)
    fitted = machine(y, select="loo", fit_intercept=fit_intercept).fit(x, y)
    outputs = brute_force(hidden, targets, list(LeaveOneOut().split(x)), None, fit_intercept)
    check(fitted, outputs, targets)


@TABLES
@INTERCEPTS
def test_loo_is_ridge_cvs(table, fit_intercept):
    """Oracle: sklearn.linear_model.RidgeCV and RidgeClassifierCV, their squared errors of clips left out."""
    x, y = table
    hidden = activations(x)
    fitted = machine(y, select="loo", criterion="squared_error", fit_intercept=fit_intercept).fit(x, y)
    alphas = [penalty(hidden, ridge, fit_intercept=fit_intercept) for ridge in RIDGES]
    kind = RidgeCV if isinstance(fitted, ELMRegressor) else RidgeClassifierCV
    for i, size in enumerate(SIZES):
        cv = kind(alphas, fit_intercept=fit_intercept, store_cv_results=True).fit(hidden[:, :size], y)
        errors = cv.cv_results_.reshape(len(x), -1, len(RIDGES)).mean((0, 1))
        np.testing.assert_allclose(fitted.selection_scores_[i], -errors, rtol=1e-6)


@TABLES
@INTERCEPTS
def test_gcv_is_its_formula(table, fit_intercept):
    """Oracle: Golub, Heath and Wahba (1979), n |(I − S) y|² / tr(I − S)², with the hat matrix S in numpy."""
    x, y = table
    hidden, targets, n = activations(x), as_targets(y), len(x)
    fitted = machine(y, select="gcv", fit_intercept=fit_intercept).fit(x, y)
    expected = np.empty((len(SIZES), len(RIDGES)))
    for i, size in enumerate(SIZES):
        part = hidden[:, :size] - (hidden[:, :size].mean(0) if fit_intercept else 0)
        for j, ridge in enumerate(RIDGES):
            alpha = penalty(hidden, ridge, fit_intercept=fit_intercept)
            hat = part @ np.linalg.solve(part.T @ part + alpha * np.eye(size), part.T)
            rest = np.eye(n) - hat - (1 / n if fit_intercept else 0)
            expected[i, j] = n * ((rest @ targets) ** 2).sum(0).mean() / np.trace(rest) ** 2
    np.testing.assert_allclose(fitted.selection_scores_, -expected, rtol=1e-5)
    i, j = np.unravel_index(expected.argmin(), expected.shape)
    assert (fitted.hidden_units_, fitted.ridge_) == (SIZES[i], RIDGES[j])


@TABLES
@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_validation_clips_decide(table, scaling):
    """Oracle: sklearn.linear_model.Ridge on the training clips, rated on the others; scaled by the training clips."""
    x, y = table
    x = 5 * x + 1
    train, other = np.arange(80), np.arange(80, 120)
    fitted = machine(y, select="validation", scaling=scaling).fit(x[train], y[train], validation=(x[other], y[other]))
    z = StandardScaler().fit(x[train]).transform(x) if scaling == "standard" else x
    hidden, targets = activations(z), as_targets(y)
    outputs = np.empty((len(SIZES), len(RIDGES), 40, targets.shape[1]))
    for i, size in enumerate(SIZES):
        for j, ridge in enumerate(RIDGES):
            outputs[i, j] = refit(hidden[:, :size], targets, train, other, penalty(hidden[train], ridge))
    check(fitted, outputs, targets[other])


def test_classes_weigh_in_validation_too():
    """Oracle: sklearn.utils.class_weight.compute_sample_weight of the validation clips."""
    x, y = DIGITS[0], np.where(DIGITS[1] < 2, DIGITS[1], 2)
    train, other = np.arange(80), np.arange(80, 120)
    fitted = machine(y, select="validation", class_weight="balanced")
    fitted.fit(x[train], y[train], validation=(x[other], y[other]))
    hidden, targets = activations(x), as_targets(y)
    w, weights = compute_sample_weight("balanced", y[train]), compute_sample_weight("balanced", y[other])
    outputs = np.empty((len(SIZES), len(RIDGES), 40, 3))
    for i, size in enumerate(SIZES):
        for j, ridge in enumerate(RIDGES):
            alpha = penalty(hidden[train], ridge, w)
            model = Ridge(alpha, fit_intercept=False).fit(hidden[train, :size], targets[train], sample_weight=w)
            outputs[i, j] = model.predict(hidden[other, :size])
    check(fitted, outputs, targets[other], weights)


@TABLES
@pytest.mark.parametrize("params", [{"scaling": "standard"}, {"weights": "whitened"}], ids=["standard", "whitened"])
def test_kfold_learns_the_layer_anew_in_every_fold(table, params):
    """Oracle: cross_val_predict of a Pipeline(StandardScaler, machine), or of the machine, one cell at a time."""
    x, y = table
    x = 5 * x + np.arange(x.shape[1])
    fitted = machine(y, select="kfold", folds=3, **params).fit(x, y)
    splits, targets = folds_of(y, 3), as_targets(y)
    for i, j in ((0, 1), (1, 0), (2, 2)):
        # One size of the widest layer's scale: λ in units of its own mean diagonal.
        outputs = np.empty(targets.shape)
        for train, test in splits:
            scaler = StandardScaler().fit(x[train])
            z = scaler.transform(x) if "scaling" in params else x
            # The machine draws; the solution is scikit-learn's.
            layer = machine(y, hidden_units=SIZES[-1], ridge=1.0, **params).fit(x[train], y[train]).layer_
            hidden = layer(z)
            alpha = penalty(hidden[train], RIDGES[j])
            outputs[test] = refit(hidden[:, : SIZES[i]], targets, train, test, alpha)
        right, error = rated(outputs, targets)
        expected = -error if isinstance(fitted, ELMRegressor) else right
        np.testing.assert_allclose(fitted.selection_scores_[i, j], expected, rtol=1e-8)


def test_kfold_of_a_scaled_machine_is_that_of_a_pipeline():
    """Oracle: sklearn's cross_val_predict of Pipeline(StandardScaler, ELMClassifier), one size, three ridges."""
    x, y = WINE
    x = 5 * x + np.arange(x.shape[1])
    params = {"select": "kfold", "folds": StratifiedKFold(5), "scaling": "standard", "criterion": "squared_error"}
    fitted = machine(y, hidden_units=60, **params).fit(x, y)
    for j, ridge in enumerate(RIDGES):
        pipeline = make_pipeline(StandardScaler(), machine(y, hidden_units=60, ridge=ridge))
        outputs = cross_val_predict(pipeline, x, y, cv=StratifiedKFold(5), method="decision_function")
        error = ((outputs - as_targets(y)) ** 2).mean()
        assert fitted.selection_scores_[0, j] == pytest.approx(-error, rel=1e-9)


@pytest.mark.parametrize("select", ["loo", "gcv"])
@pytest.mark.parametrize("params", [{"scaling": "standard"}, {"weights": "whitened"}, {"alpha": 0.5}], ids=str)
def test_a_layer_learnt_from_all_rows_is_refused(select, params):
    """Oracle: the contract; the message names the remedy."""
    with pytest.raises(ValueError, match=f"select='{select}' would leave the held-out clip.*use select='kfold'"):
        machine(WINE[1], select=select, **params).fit(*WINE)


@pytest.mark.parametrize("table", [WINE, DIABETES], ids=["wine", "diabetes"])
def test_groups_are_held_out_together(table):
    """Oracle: Ridge refitted in the folds of StratifiedGroupKFold, GroupKFold and LeaveOneGroupOut."""
    x, y = table
    x, y = np.repeat(x[:40], 3, axis=0), np.repeat(y[:40], 3)
    groups = np.repeat(np.arange(40) // 2, 3)
    hidden, targets = activations(x), as_targets(y)
    for folds, splits in (
        (4, folds_of(y, 4, groups)),
        (LeaveOneGroupOut(), list(LeaveOneGroupOut().split(x, y, groups))),
    ):
        fitted = machine(y, select="kfold", folds=folds).fit(x, y, groups=groups)
        check(fitted, brute_force(hidden, targets, splits), targets)
    # Copies that stay in training make the same clips look easy.
    alone = machine(y, select="kfold", folds=4).fit(x, y).selection_scores_
    assert alone.mean() > fitted.selection_scores_.mean()


def test_groups_of_a_class_rarer_than_the_folds():
    """Oracle: sklearn.model_selection.GroupKFold, which asks nothing of the classes."""
    x, y = WINE[0][:24], np.arange(24) % 8
    groups = np.arange(24) // 2
    fitted = machine(y, select="kfold", folds=5).fit(x, y, groups=groups)
    splits = list(GroupKFold(5, shuffle=True, random_state=SEED).split(x, groups=groups))
    check(fitted, brute_force(activations(x), as_targets(y), splits), as_targets(y))


def test_ridge_zero_is_refitted_and_changes_no_other_cell():
    """Oracle: numpy.linalg.pinv refitted in every fold; the other ridges as without it."""
    x, y = WINE
    fitted = machine(y, ridge=(0, *RIDGES), select="kfold", folds=4, criterion="squared_error").fit(x, y)
    alone = machine(y, ridge=RIDGES, select="kfold", folds=4, criterion="squared_error").fit(x, y)
    np.testing.assert_array_equal(fitted.selection_scores_[:, 1:], alone.selection_scores_)
    hidden, targets = activations(x), as_targets(y)
    for i, size in enumerate(SIZES):
        outputs = np.empty(targets.shape)
        for train, test in folds_of(y, 4):
            weights = np.linalg.pinv(hidden[train, :size], rcond=1e6 * np.finfo(float).eps) @ targets[train]
            outputs[test] = hidden[test, :size] @ weights
        assert fitted.selection_scores_[i, 0] == pytest.approx(-((outputs - targets) ** 2).mean(), rel=1e-8)


@pytest.mark.parametrize("seed", [2**40, (1, 2), np.random.SeedSequence(7), np.int64(5)], ids=str)
def test_any_seed_of_a_layer_is_one_of_folds(seed):
    """Oracle: scores [sizes, ridges] that come again with the seed, and not with another."""
    scores = [
        machine(DIABETES[1], random_state=one, select="kfold", folds=3).fit(*DIABETES).selection_scores_
        for one in (seed, seed, 11)
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert (scores[0] != scores[2]).all()


def test_of_equal_accuracies_the_smaller_error_wins():
    """Oracle: worked by hand."""
    assert _first_best(np.array([[0.5, 0.9], [0.9, 0.2]]), -np.array([[0.1, 0.3], [0.2, 0.9]])) == (1, 0)
    assert _first_best(np.array([[0.5, 0.9], [0.9, 0.2]]), -np.array([[0.1, 0.2], [0.2, 0.9]])) == (0, 1)
    assert _first_best(np.array([[0.5, 0.9 - 1e-16], [0.9, 0.2]]), -np.array([[0.1, 0.2], [0.3, 0.9]])) == (0, 1)
    assert _first_best(-np.array([[3.0, 1e-20], [2e-20, 5.0]]), -np.array([[3.0, 1e-20], [2e-20, 5.0]])) == (0, 1)
    # Two clouds a world apart: every cell labels every clip rightly.
    random = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = random.normal(size=(60, 5)) + 40 * y[:, None]
    fitted = machine(y, select="loo").fit(x, y)
    errors = -machine(y, select="loo", criterion="squared_error").fit(x, y).selection_scores_
    equal = fitted.selection_scores_ == fitted.selection_scores_.max()
    assert equal.sum() > 1
    i, j = np.unravel_index(np.where(equal, errors, np.inf).argmin(), errors.shape)
    assert (fitted.hidden_units_, fitted.ridge_) == (SIZES[i], RIDGES[j])


# ── weights ──


@INTERCEPTS
@pytest.mark.parametrize("params", [{}, {"scaling": "standard"}, {"select": "loo"}], ids=["none", "standard", "loo"])
def test_a_row_without_weight_is_no_row(fit_intercept, params):
    """Oracle: the same machine without these rows, to the bit; and rows given twice for a weight of 2."""
    x, y = WINE
    w = np.random.default_rng(0).integers(0, 3, len(x)).astype(float)
    one = machine(y, hidden_units=60, ridge=1e-3, fit_intercept=fit_intercept, **params)
    fitted = clone(one).fit(x, y, sample_weight=w)
    kept = clone(one).fit(x[w > 0], y[w > 0], sample_weight=w[w > 0])
    np.testing.assert_array_equal(fitted.decision_function(x), kept.decision_function(x))
    rows = np.repeat(np.arange(len(x)), w.astype(int))
    np.testing.assert_allclose(
        fitted.decision_function(x), clone(one).fit(x[rows], y[rows]).decision_function(x), rtol=1e-8, atol=1e-9
    )


@pytest.mark.parametrize("class_weight", ["balanced", {0: 0.2, 1: 3, 2: 1}], ids=["balanced", "dict"])
@pytest.mark.parametrize("params", [{}, {"scaling": "standard", "select": "kfold"}], ids=["none", "kfold"])
def test_class_weights_are_sample_weights(class_weight, params):
    """Oracle: sklearn.utils.class_weight.compute_sample_weight."""
    x, y = WINE[0], np.where(WINE[1] == 0, 0, np.where(np.arange(120) % 5 == 0, 1, 2))
    one = machine(y, hidden_units=60, ridge=1e-3, **params)
    fitted = clone(one).set_params(class_weight=class_weight).fit(x, y)
    expected = clone(one).fit(x, y, sample_weight=compute_sample_weight(class_weight, y))
    np.testing.assert_array_equal(fitted.decision_function(x), expected.decision_function(x))


# ── several outputs ──


def several_labels(y):
    return MultiLabelBinarizer().fit_transform([(label % 3, 3 + label % 2) for label in y])


@INTERCEPTS
def test_labels_and_values_in_columns_are_fits_of_their_own(fit_intercept):
    """Oracle: one fit a column; scikit-learn's Ridge takes columns one by one too."""
    x, y = DIGITS
    params = {"hidden_units": 60, "ridge": 1e-3, "fit_intercept": fit_intercept, "random_state": SEED}
    labels = several_labels(y)
    fitted = ELMClassifier(**params).fit(x, labels)
    assert fitted.predict(x).shape == fitted.decision_function(x).shape == labels.shape
    for k in range(labels.shape[1]):
        column = ELMClassifier(**params).fit(x, labels[:, k])
        np.testing.assert_allclose(fitted.decision_function(x)[:, k], column.decision_function(x), atol=1e-12)
        np.testing.assert_array_equal(fitted.predict(x)[:, k], column.predict(x))
    values = x[:, 20:23] ** 2
    several = ELMRegressor(**params).fit(x, values)
    for k in range(3):
        alone = ELMRegressor(**params).fit(x, values[:, k]).predict(x)
        np.testing.assert_allclose(several.predict(x)[:, k], alone, atol=1e-12 * np.abs(alone).max())


@pytest.mark.parametrize("select", ["kfold", "loo", "gcv", "validation"])
def test_several_labels_are_chosen_by_their_squared_error(select):
    """Oracle: the regression of ±1 on the same folds and rows; accuracy, when asked for, counts every label."""
    x, labels = DIGITS[0], several_labels(DIGITS[1])
    signs, kfold = 2.0 * labels - 1, KFold(4)
    params = {"hidden_units": SIZES, "ridge": RIDGES, "random_state": SEED, "select": select, "folds": kfold}
    more = {"validation": (x[90:], labels[90:])} if select == "validation" else {}
    other = {"validation": (x[90:], signs[90:])} if select == "validation" else {}
    fitted = ELMClassifier(**params).fit(x[:90], labels[:90], **more)
    expected = ELMRegressor(**params).fit(x[:90], signs[:90], **other)
    np.testing.assert_allclose(fitted.selection_scores_, expected.selection_scores_, rtol=1e-12)
    if select == "kfold":
        fitted = ELMClassifier(**params, criterion="accuracy").fit(x[:90], labels[:90])
        outputs = brute_force(activations(x[:90]), signs[:90], list(kfold.split(x[:90])))
        right = ((outputs > 0) == labels[:90]).mean((-1, -2))
        np.testing.assert_allclose(fitted.selection_scores_, right, atol=1e-12)


# ── calibration ──


@pytest.mark.parametrize("kind", ["temperature", "platt"])
@pytest.mark.parametrize("problem", ["two", "three", "several"])
@pytest.mark.parametrize("select", [None, "kfold", "loo"], ids=str)
def test_probabilities_are_learnt_on_clips_held_out(kind, problem, select):
    """Oracle: calibration.fit on scores of scikit-learn's Ridge refitted without the clips."""
    x, y = WINE
    y = {"two": y == 1, "three": y, "several": several_labels(y)}[problem]
    targets = 2.0 * y - 1 if problem == "several" else as_targets(y)
    params = {"hidden_units": 60, "ridge": 1e-2, "select": select, "random_state": SEED, "folds": 4}
    fitted = ELMClassifier(**params, calibration=kind).fit(x, y)
    kfold = KFold(4, shuffle=True, random_state=SEED).split(x) if problem == "several" else folds_of(y, 4)
    splits = list(kfold) if select == "kfold" else list(LeaveOneOut().split(x))
    hidden, scores = activations(x, 60), np.empty(targets.shape)
    for train, test in splits:
        scores[test] = refit(hidden, targets, train, test, penalty(hidden, 1e-2))
    plain = ELMClassifier(**params).fit(x, y)
    learnt = calibration.fit(scores, targets, kind=kind, problem="multilabel" if problem == "several" else "classes")
    expected = learnt.probabilities(plain.decision_function(x).reshape(len(x), -1))
    if problem == "two":
        expected = np.concatenate([1 - expected, expected], axis=1)
    np.testing.assert_allclose(fitted.predict_proba(x), expected, atol=1e-7)
    if problem != "several":
        np.testing.assert_allclose(fitted.predict_proba(x).sum(1), 1, rtol=1e-14)
    np.testing.assert_array_equal(fitted.predict(x), plain.predict(x))
    np.testing.assert_array_equal(fitted.decision_function(x), plain.decision_function(x))
    assert not hasattr(plain, "predict_proba") and plain.calibration_ is None
    assert not hasattr(ELMRegressor(), "predict_proba")


def test_calibration_keeps_groups_together():
    """Oracle: calibration.fit on Ridge's scores in the folds of StratifiedGroupKFold."""
    x, y = np.repeat(WINE[0][:40], 3, axis=0), np.repeat(WINE[1][:40], 3)
    groups, targets, hidden = np.repeat(np.arange(40), 3), as_targets(y), activations(x, 60)
    fitted = machine(y, hidden_units=60, ridge=1e-2, calibration="platt", folds=4).fit(x, y, groups=groups)
    scores = np.empty(targets.shape)
    for train, test in folds_of(y, 4, groups):
        scores[test] = refit(hidden, targets, train, test, penalty(hidden, 1e-2))
    expected = calibration.fit(scores, targets, kind="platt").probabilities(fitted.decision_function(x))
    np.testing.assert_allclose(fitted.predict_proba(x), expected, atol=1e-7)


# ── bad input ──

X, Y = WINE
MISSING = np.where(np.arange(X.size).reshape(X.shape) == 17, np.nan, X)
INFINITE = np.where(np.arange(X.size).reshape(X.shape) == 17, np.inf, X)


@pytest.mark.parametrize("kind", [ELMClassifier, ELMRegressor], ids=["classifier", "regressor"])
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"ridge": -1}, "ridge=-1 must be one number or a sequence of them, finite and at least 0"),
        ({"ridge": np.nan}, "ridge=nan"),
        ({"ridge": np.inf}, "ridge=inf"),
        ({"ridge": ()}, r"ridge=\(\)"),
        ({"ridge": "small"}, "ridge='small'"),
        ({"ridge": "1"}, "ridge='1'"),
        ({"ridge": None}, "ridge=None"),
        ({"ridge": [[1.0, 2.0]]}, "ridge=.*must be one number"),
        ({"ridge": [[1.0], [1.0, 2.0]]}, "ridge=.*must be one number"),
        ({"hidden_units": 0}, "hidden_units=0 must be whole numbers of at least 1"),
        ({"hidden_units": 2.5}, "hidden_units=2.5"),
        ({"hidden_units": "10"}, "hidden_units='10'"),
        ({"hidden_units": True}, "hidden_units=True"),
        ({"hidden_units": None}, "hidden_units=None"),
        ({"hidden_units": ()}, r"hidden_units=\(\)"),
        ({"hidden_units": ((1, 2), (3,))}, "hidden_units="),
        ({"hidden_units": (20, 10), "select": "kfold"}, r"hidden_units=\(20, 10\) must rise"),
        ({"hidden_units": (10, 10), "select": "kfold"}, "must rise"),
        ({"hidden_units": (10, 20)}, "leave a choice; give one of each, or select='loo'"),
        ({"ridge": (0.1, 1)}, "1 sizes and 2 ridges leave a choice"),
        ({"select": "best"}, "select='best' is unknown; there are"),
        ({"select": "validation"}, "select='validation' and validation=None"),
        ({"select": "loo", "ridge": (0, 1)}, "has no closed form at 0; give ridges above 0"),
        ({"select": "gcv", "ridge": 0}, "has no closed form at 0"),
        ({"criterion": "f1"}, "criterion='f1' is unknown"),
        ({"select": "gcv", "criterion": "accuracy"}, "criterion='accuracy'"),
        ({"folds": 1}, "folds=1 must be a whole number of at least 2, or a scikit-learn splitter"),
        ({"folds": 2.5}, "folds=2.5"),
        ({"folds": "10"}, "folds='10'"),
        ({"folds": ShuffleSplit(2), "select": "kfold"}, "must hold out every row once"),
        ({"digits": 20}, "digits=20 must lie from 0 to 16"),
        ({"digits": np.nan}, "digits=nan"),
        ({"digits": "many"}, "digits='many'"),
        ({"dtype": "float16"}, "dtype='float16' must be 'float64' or 'float32'"),
        ({"scaling": "robust"}, "scaling='robust' is unknown; there are none, standard"),
        ({"activation": "rleu"}, "activation='rleu'.*did you mean 'relu'"),
        ({"weights": "gaussian"}, "weights='gaussian'"),
        ({"alpha": 1.5}, r"alpha=1.5 must be in \[0, 1\]"),
        ({"alpha": "half"}, "alpha='half' must be a number"),
        ({"rbf_width": 0}, "rbf_width=0"),
        ({"density": None}, "density=None must be a number"),
        ({"random_state": -1}, r"random_state=-1 must be whole, at least 0 \(or None\)"),
        ({"random_state": "first"}, "random_state='first' must be whole"),
        ({"random_state": 1.5}, "random_state=1.5 must be whole"),
    ],
    ids=str,
)
def test_refuses_parameters(kind, params, message):
    """Oracle: the contract; name, value and remedy, and a machine fitted before stays as it was."""
    fitted = kind(hidden_units=5, ridge=0.1).fit(X, Y)
    fitted.set_params(**params)
    before = pickle.dumps(fitted)
    with pytest.raises(ValueError, match=message):
        fitted.fit(X, Y)
    assert pickle.dumps(fitted) == before


def test_refuses_parameters_of_one_kind():
    """Oracle: the contract."""
    with pytest.raises(ValueError, match="calibration='isotonic' is unknown; there are"):
        ELMClassifier(hidden_units=5, calibration="isotonic").fit(X, Y)
    with pytest.raises(ValueError, match="class_weight='even' is neither"):
        ELMClassifier(hidden_units=5, class_weight="even").fit(X, Y)
    with pytest.raises(ValueError, match=r"class_weight has no weight for \[2\]"):
        ELMClassifier(hidden_units=5, class_weight={0: 1, 1: 1}).fit(X, Y)
    with pytest.raises(ValueError, match="criterion='accuracy': a regression goes by the squared error"):
        ELMRegressor(hidden_units=5, criterion="accuracy").fit(X, Y)


@pytest.mark.parametrize(
    ("arguments", "more", "message"),
    [
        ((X[:0], Y[:0]), {}, r"Found array with 0 sample\(s\)"),
        ((X[:, :0], Y), {}, r"0 feature\(s\)"),
        ((X, Y[:-1]), {}, "inconsistent numbers of samples"),
        ((X, np.full(len(X), "tango")), {}, "one class only, 'tango'"),
        ((MISSING, Y), {}, "contains NaN"),
        ((INFINITE, Y), {}, "contains infinity"),
        ((X, Y), {"sample_weight": np.ones(3)}, r"sample_weight.shape == \(3,\), expected \(120,\)"),
        ((X, Y), {"sample_weight": -np.ones(len(X))}, "Negative values in data passed to `sample_weight`"),
        ((X, Y), {"sample_weight": np.zeros(len(X))}, "(?i)sample_weight.*0|zero"),
        ((X, Y), {"sample_weight": np.full(len(X), np.nan)}, "sample_weight contains NaN"),
        ((X, Y), {"sample_weight": np.where(Y == 1, 1.0, 0.0)}, "one class only, 1"),
        ((X, Y), {"groups": np.ones(3)}, "groups has shape"),
        ((X, Y), {"groups": np.ones(len(X))}, "groups are all alike"),
        ((X, Y), {"validation": (X, Y)}, "select='kfold' and validation=given"),
    ],
)
def test_refuses_tables(arguments, more, message):
    """Oracle: the contract; a machine fitted before stays as it was."""
    fitted = ELMClassifier(hidden_units=5, ridge=(0.1, 1), select="kfold").fit(X, Y)
    before = pickle.dumps(fitted)
    with pytest.raises(ValueError, match=message):
        fitted.fit(*arguments, **more)
    assert pickle.dumps(fitted) == before
    if not more:
        with pytest.raises(ValueError, match=r"(?i)feature|NaN|infinity|sample"):
            fitted.predict(arguments[0][:, :-1])


@pytest.mark.parametrize("select", ["loo", "gcv"])
def test_groups_are_not_passed_over(select):
    """Oracle: the contract; what would hold out clips of a group one by one says so."""
    fitted = ELMClassifier(hidden_units=5, ridge=(0.1, 1), select=select)
    with pytest.raises(ValueError, match=f"groups are given, but select='{select}' holds out clip by clip"):
        fitted.fit(X, Y, groups=np.arange(len(X)) // 2)


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (X, r"validation must be a pair \(X, y\)"),
        (3, r"validation must be a pair \(X, y\)"),
        ((X, Y, Y), r"validation must be a pair \(X, y\)"),
        ((X, Y[:-1]), "validation has 120 rows in X and 119 in y"),
        ((X[:, 1:], Y), "validation: X has 12 features, but ELMClassifier is expecting 13"),
        ((X[:0], Y[:0]), r"validation: Found array with 0 sample\(s\)"),
        ((MISSING, Y), "validation: .*NaN"),
        ((X, np.full(len(X), 9)), r"validation: y has labels unseen at fit, \[9\]"),
    ],
)
def test_refuses_validation_clips(validation, message):
    """Oracle: the contract."""
    with pytest.raises(ValueError, match=message):
        ELMClassifier(hidden_units=5, ridge=(0.1, 1), select="validation").fit(X, Y, validation=validation)


def test_constant_features_are_no_trouble():
    """Oracle: numpy.linalg.pinv; all clips get the scores of the mean, and the rank is 1."""
    x = np.full((30, 4), 2.5)
    y = np.arange(30) % 3
    for params in ({}, {"scaling": "standard"}, {"fit_intercept": True}, {"ridge": 1e-3}):
        fitted = ELMClassifier(hidden_units=20, random_state=SEED, **params).fit(x, y)
        np.testing.assert_allclose(fitted.decision_function(x), np.full((30, 3), -1 / 3), atol=1e-2)
    with pytest.raises(ValueError, match="x is constant in all features"):
        ELMClassifier(hidden_units=20, weights="whitened").fit(x, y)
    with pytest.raises(ValueError, match="x is constant in all features"):
        ELMClassifier(hidden_units=20, alpha=0.5).fit(x, y)

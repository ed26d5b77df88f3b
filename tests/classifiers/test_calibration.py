"""Calibration against scikit-learn's and scipy's minimisers, hand-worked cases and held-out real clips."""

import dataclasses
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, logsumexp, softmax
from sklearn.calibration import CalibratedClassifierCV, _SigmoidCalibration, _TemperatureScaling
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict

from mirjax.classifiers import calibration
from mirjax.classifiers.calibration import Calibration, CalibrationWarning


def held_out(load, rows=600, alpha=1.0):
    """Five-fold scores [M, K] of a ridge classifier on real features, targets of ±1, labels."""
    x, y = load(return_X_y=True)
    x, y = x[:rows], y[:rows]
    scores = cross_val_predict(RidgeClassifier(alpha), x, y, cv=5, method="decision_function")
    scores = scores if scores.ndim == 2 else scores[:, None]
    columns = np.arange(scores.shape[1]) if scores.shape[1] > 1 else np.array([1])
    return scores, np.where(y[:, None] == columns, 1.0, -1.0), y


SETS = [load_digits, load_wine, load_breast_cancer]


@pytest.mark.parametrize("load", SETS)
def test_temperature_is_scikit_learns(load):
    """Oracle: sklearn's CalibratedClassifierCV(method="temperature")'s part, to the tolerance of its minimiser."""
    scores, targets, y = held_out(load)
    weight = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    for w in (None, weight):
        ours = calibration.fit(scores, targets, kind="temperature", sample_weight=w)
        theirs = _TemperatureScaling().fit(scores, y, w)
        assert ours.slope == pytest.approx(theirs.beta_, rel=2e-6)
        expected = theirs.predict(scores)
        expected = expected if scores.shape[1] > 1 else expected[:, 1:]
        assert np.abs(ours.probabilities(scores) - expected).max() < 2e-6


@pytest.mark.parametrize("load", SETS)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6], ids=str)
def test_temperature_satisfies_its_equation(load, scale):
    """Oracle: the stationary equation Σ w (E_p[s] − s_y) = 0, and scipy.optimize.minimize_scalar of the loss."""
    scores, targets, y = held_out(load)
    scores = scale * scores
    slope = calibration.fit(scores, targets, kind="temperature").slope
    logits = scores if scores.shape[1] > 1 else np.concatenate([-scores, scores], axis=1)
    true = logits[np.arange(len(y)), y]
    expected = (softmax(slope * logits, axis=1) * logits).sum(axis=1)
    assert abs((expected - true).sum()) <= 1e-13 * np.abs(expected - true).sum()

    def loss(a):
        return (logsumexp(a / scale * logits, axis=1) - a / scale * true).sum()

    assert slope * scale == pytest.approx(minimize_scalar(loss, bounds=(0.01, 100), method="bounded").x, rel=1e-4)
    assert loss(slope * scale) <= min(loss(slope * scale * change) for change in (0.99, 1.01))


@pytest.mark.parametrize("load", SETS)
def test_platt_is_scikit_learns(load):
    """Oracle: sklearn's _SigmoidCalibration column by column, to the tolerance of its L-BFGS."""
    scores, targets, y = held_out(load)
    weight = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    for w in (None, weight):
        ours = calibration.fit(scores, targets, kind="platt", problem="multilabel", sample_weight=w)
        for k, column in enumerate(scores.T):
            theirs = _SigmoidCalibration().fit(column, targets[:, k] > 0, w)
            assert ours.slope[k] == pytest.approx(-theirs.a_, rel=1e-3)
            assert np.abs(ours.probabilities(scores)[:, k] - theirs.predict(column)).max() < 2e-4


@pytest.mark.parametrize("load", SETS)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6], ids=str)
def test_platt_is_the_minimum(load, scale):
    """Oracle: the gradient of Platt's loss is 0, and scipy.optimize.minimize gets no lower."""
    scores, targets, _ = held_out(load)
    scores = scale * (scores + 3)
    found = calibration.fit(scores, targets, kind="platt", problem="multilabel")
    for k, s in enumerate(scores.T):
        positive = targets[:, k] > 0
        plus, minus = positive.sum(), (~positive).sum()
        t = np.where(positive, (plus + 1) / (plus + 2), 1 / (minus + 2))
        error = expit(found.slope[k] * s + found.intercept[k]) - t
        assert abs(error.sum()) <= 1e-12 * np.abs(error).sum()
        assert abs(error @ s) <= 1e-12 * np.abs(error * s).sum()

        def loss(ab, s=s, t=t):
            logits = ab[0] * s / scale + ab[1]
            return -(t * log_expit(logits) + (1 - t) * log_expit(-logits)).sum()

        theirs = minimize(loss, [1.0, 0.0], method="BFGS")
        assert loss([found.slope[k] * scale, found.intercept[k]]) <= theirs.fun * (1 + 1e-12)


@pytest.mark.parametrize("load", [load_digits, load_breast_cancer])
@pytest.mark.parametrize("kind", ["temperature", "platt"])
def test_probabilities_are_those_of_calibrated_classifier_cv(load, kind):
    """Oracle: sklearn.calibration.CalibratedClassifierCV around a frozen classifier."""
    x, y = load(return_X_y=True)
    x, y = x[:500], y[:500]
    classifier = RidgeClassifier(10.0).fit(x[:250], y[:250])
    method = {"platt": "sigmoid"}.get(kind, kind)
    theirs = CalibratedClassifierCV(FrozenEstimator(classifier), method=method).fit(x[250:], y[250:])
    scores = classifier.decision_function(x)
    scores = scores if scores.ndim == 2 else scores[:, None]
    columns = np.arange(scores.shape[1]) if scores.shape[1] > 1 else np.array([1])
    targets = np.where(y[:, None] == columns, 1.0, -1.0)
    ours = calibration.fit(scores[250:], targets[250:], kind=kind).probabilities(scores)
    expected = theirs.predict_proba(x)
    expected = expected if ours.shape[1] > 1 else expected[:, 1:]
    assert np.abs(ours - expected).max() < 1e-3
    if ours.shape[1] > 1:
        np.testing.assert_allclose(ours.sum(axis=1), 1, rtol=1e-14)


@pytest.mark.parametrize("load", SETS)
@pytest.mark.parametrize("kind", ["temperature", "platt"])
def test_held_out_clips_are_told_better_odds(load, kind):
    """Oracle: sklearn.metrics.log_loss on clips that neither the classifier nor the calibration saw."""
    scores, targets, y = held_out(load, rows=1000)
    learn = np.random.default_rng(0).random(len(y)) < 0.5
    found = calibration.fit(scores[learn], targets[learn], kind=kind)
    ours, uncalibrated = found.probabilities(scores[~learn]), softmax(scores[~learn], axis=1)
    if scores.shape[1] == 1:
        ours, uncalibrated = np.hstack([1 - ours, ours]), np.hstack([expit(-2 * scores), expit(2 * scores)])[~learn]
    assert log_loss(y[~learn], ours) < 0.8 * log_loss(y[~learn], uncalibrated)


@pytest.mark.parametrize("kind", ["temperature", "platt"])
@pytest.mark.parametrize("problem", ["classes", "multilabel"])
def test_weights_are_repetitions(kind, problem):
    """Oracle: the same fit to rows written as often as their weight says, those of weight 0 left out."""
    scores, targets, _ = held_out(load_digits, 300)
    weight = np.random.default_rng(1).integers(0, 4, len(scores))
    ours = calibration.fit(scores, targets, kind=kind, problem=problem, sample_weight=weight)
    again = calibration.fit(scores.repeat(weight, 0), targets.repeat(weight, 0), kind=kind, problem=problem)
    np.testing.assert_allclose(ours.slope, again.slope, rtol=1e-11)
    np.testing.assert_allclose(ours.intercept, again.intercept, rtol=1e-11)


def test_one_column_is_the_pair_of_two():
    """Oracle: the definition, one column s is the pair (−s, s) of one against the rest."""
    scores, targets, _ = held_out(load_breast_cancer)
    one = calibration.fit(scores, targets, kind="temperature")
    pair = calibration.fit(np.hstack([-scores, scores]), np.hstack([-targets, targets]), kind="temperature")
    assert one.slope == pytest.approx(pair.slope, rel=1e-12)
    both = pair.probabilities(np.hstack([-scores, scores]))
    np.testing.assert_allclose(one.probabilities(scores), both[:, 1:], rtol=1e-11)


def test_temperature_by_hand():
    """Oracle: worked by hand. Scores ±1, three of four right: 1/(1 + e^(−2a)) = 3/4, so a = log(3)/2."""
    targets = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    scores = np.array([[1.0], [1.0], [-1.0], [1.0]])
    found = calibration.fit(scores, targets, kind="temperature")
    assert found.slope == pytest.approx(np.log(3) / 2, rel=1e-14)
    np.testing.assert_allclose(found.probabilities([[1.0], [-1.0]]), [[0.75], [0.25]], rtol=1e-14)


def test_platt_by_hand():
    """Oracle: worked by hand. At two scores the sigmoid meets the mean smoothed target of each.

    Three clips of +1 (t = 4/5) and one of −1 (t = 1/3): at s = 1 (two of +1) 4/5; at s = 0 (one of each) 17/30.
    """
    scores, targets = np.array([[1.0], [1.0], [0.0], [0.0]]), np.array([[1.0], [1.0], [1.0], [-1.0]])
    found = calibration.fit(scores, targets, kind="platt")
    np.testing.assert_allclose(found.probabilities([[1.0], [0.0]]), [[4 / 5], [17 / 30]], rtol=1e-14)


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_without_an_error_stay_bounded(classes):
    """Oracle: Laplace's rule: N equally well separated clips get the probability (N + 1)/(N + 2)."""
    codes = np.arange(24) % classes
    targets = np.where(codes[:, None] == np.arange(classes), 1.0, -1.0)[:, classes == 2 :]
    with pytest.warns(CalibrationWarning, match="next to no error"):
        found = calibration.fit(targets, targets, kind="temperature")
    p = found.probabilities(targets)
    np.testing.assert_allclose(np.where(targets > 0, p, 0).max(axis=0), 25 / 26, rtol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = calibration.fit(1e9 * targets, targets, kind="platt")
    assert np.isfinite(found.slope).all() and (found.slope > 0).all()
    plus, minus = (targets > 0).sum(axis=0), (targets < 0).sum(axis=0)
    smoothed = expit(found.slope * 1e9 * targets + found.intercept)
    np.testing.assert_allclose(smoothed, np.where(targets > 0, (plus + 1) / (plus + 2), 1 / (minus + 2)), rtol=1e-12)


def test_ties_without_an_error_stay_bounded():
    """Oracle: the loss a tie cannot fall below, log 2, and Laplace's rule for the rest."""
    targets = np.array([[1.0], [1.0], [-1.0]])
    with pytest.warns(CalibrationWarning, match="next to no error"):
        found = calibration.fit(np.array([[1.0], [0.0], [-1.0]]), targets, kind="temperature")
    p = found.probabilities(np.array([[1.0]]))[0, 0]
    assert -2 * np.log(p) / 3 == pytest.approx(np.log(5 / 4), rel=1e-12)


@pytest.mark.parametrize("scores", [-1.0, 0.0], ids=["wrong way round", "all equal"])
def test_scores_without_worth_are_told_and_stay_flat(scores):
    """Oracle: the best slope of such scores by hand: 0 or below."""
    targets = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    with pytest.warns(CalibrationWarning, match="same probability"):
        found = calibration.fit(scores * targets, targets, kind="temperature")
    assert found.slope >= 0
    np.testing.assert_allclose(found.probabilities(scores * targets), 0.5, atol=1e-6)


def test_platt_of_scores_the_wrong_way_round():
    """Oracle: the mirror image; and a constant column, whose probability is the mean smoothed target 3/4, 1/4: ½."""
    scores, targets, _ = held_out(load_breast_cancer)
    right = calibration.fit(scores, targets, kind="platt")
    with pytest.warns(CalibrationWarning, match=r"columns \[0\] have a negative slope"):
        wrong = calibration.fit(-scores, targets, kind="platt")
    np.testing.assert_allclose(wrong.slope, -right.slope, rtol=1e-10)
    constant = calibration.fit(np.full((4, 1), 1e8), np.array([[1.0], [1.0], [-1.0], [-1.0]]), kind="platt")
    assert constant.slope == 0
    np.testing.assert_allclose(constant.probabilities([[1e8]]), 0.5, rtol=1e-14)


def test_a_column_without_a_positive():
    """Oracle: worked by hand: all N targets are 1/(N + 2), met by no slope at all."""
    scores, targets, _ = held_out(load_digits, 200)
    targets[:, 3] = -1
    found = calibration.fit(scores, targets, kind="platt", problem="multilabel")
    assert found.slope[3] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(found.probabilities(scores)[:, 3], 1 / 202, rtol=1e-9)


def test_probabilities_of_far_scores_stay_finite():
    """Oracle: the limit: the quotient of sigmoids that underflow is that of their exponentials."""
    found = Calibration("platt", np.ones(3), np.zeros(3))
    p = found.probabilities(np.array([[-1000.0, -1001.0, -1002.0]]))
    np.testing.assert_allclose(p, softmax([[2.0, 1.0, 0.0]], axis=1), rtol=1e-12)


@pytest.mark.parametrize("kind", ["temperature", "platt"])
def test_arrays_bring_it_back(kind, tmp_path):
    """Oracle: the calibration that was written; equal to the bit, without pickles."""
    scores, targets, _ = held_out(load_wine)
    found = calibration.fit(scores, targets, kind=kind)
    np.savez(tmp_path / "c.npz", **found.arrays())
    with np.load(tmp_path / "c.npz", allow_pickle=False) as file:
        again = Calibration.from_arrays(file)
    for name, value in dataclasses.asdict(found).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    np.testing.assert_array_equal(again.probabilities(scores), found.probabilities(scores))


PAIR = np.array([[1.0, -1.0], [-1.0, 1.0]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "isotonic"}, "kind='isotonic' is none of temperature, platt"),
        ({"problem": "regression"}, "problem='regression' is none of classes, multilabel"),
        ({"scores": PAIR[:, 0]}, r"scores \(2,\) and targets \(2, 2\)"),
        ({"scores": PAIR * np.nan}, "scores holds 4 values that are not finite"),
        ({"targets": PAIR * 2}, "targets holds 2; they must be ±1"),
        ({"targets": np.ones((2, 2))}, r"targets has 2 times \+1 in row 0"),
        ({"sample_weight": [1.0]}, r"sample_weight has shape \(1,\)"),
        ({"sample_weight": [1.0, -1.0]}, r"sample_weight lies in \[-1.0, 1.0\]"),
        ({"sample_weight": [0.0, 0.0]}, "not all 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_refuses_bad_input(change, message):
    """Oracle: the contract, the message carries name, value and remedy."""
    given = {"scores": PAIR, "targets": PAIR, "kind": "platt"} | change
    with pytest.raises(ValueError, match=message):
        calibration.fit(given.pop("scores"), given.pop("targets"), **given)


def test_refuses_other_widths():
    """Oracle: the contract."""
    with pytest.raises(ValueError, match=r"shape \(2, 2\); the calibration was learnt for \[M, 3\]"):
        Calibration("platt", np.ones(3), np.zeros(3)).probabilities(PAIR)


@pytest.mark.parametrize("kind", ["temperature", "platt"])
@pytest.mark.parametrize("exponent", [-1000, -560, 560, 1000])
def test_probabilities_know_no_scale_of_scores(kind, exponent):
    """Oracle: the probabilities of the same scores at scale 1, times a power of two: the same to the bit."""
    scores, targets, _ = held_out(load_wine)
    plain, scaled = (calibration.fit(np.ldexp(scores, e), targets, kind=kind) for e in (0, exponent))
    np.testing.assert_allclose(np.ldexp(scaled.slope, exponent), plain.slope, rtol=1e-14)
    expected = plain.probabilities(scores)
    np.testing.assert_allclose(scaled.probabilities(np.ldexp(scores, exponent)), expected, rtol=1e-12)


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_platt_of_weights_of_any_size(size):
    """Oracle: its targets' limits by hand; scipy's minimum of the loss with these: ½ for no clips, 0 and 1 for many."""
    scores, targets, _ = held_out(load_breast_cancer)
    found = calibration.fit(scores, targets, kind="platt", sample_weight=np.full(len(scores), size))
    t = (targets[:, 0] > 0) * 1.0 if size > 1 else np.full(len(scores), 0.5)

    def loss(ab):
        logits = ab[0] * scores[:, 0] + ab[1]
        return -(t * log_expit(logits) + (1 - t) * log_expit(-logits)).mean()

    theirs = minimize(loss, [1.0, 0.0], method="BFGS").x
    np.testing.assert_allclose([found.slope[0], found.intercept[0]], theirs, rtol=1e-3, atol=1e-4)

"""Probabilities from scores: temperature and Platt's sigmoid, learnt on scores of clips the classifier has not seen.

Conventions
-----------
`scores f64[M, K]` and `targets f64[M, K]` of ±1 as `targets.Encoding` makes them: one column a class (one +1 a
row), a single column for two classes (+1 for the second), one column a label for several labels a clip. A score
without meaning to the reader, such as a least-squares output about ±1, becomes a probability:

    temperature   p = softmax(a s), one slope a ≥ 0 for all columns;
                  a single column, or a label, stands for the pair (−s, s): p = 1 / (1 + exp(−2 a s))
    platt         p_k = 1 / (1 + exp(−(a_k s_k + b_k))), every column for itself;
                  for classes divided by their sum

A temperature keeps the order of the scores, so that the most probable class is the predicted one; Platt's has an
intercept for every class and may change it. Scores of the clips the classifier was fitted to are too good: give
leave-one-out, k-fold or validation scores (a Platt slope learnt on training scores is too steep).

Source
------
Platt (1999), Probabilistic outputs for support vector machines, in Advances in Large Margin Classifiers: the
sigmoid and its smoothed targets. Lin, Lin and Weng (2007), A note on Platt's probabilistic outputs for support
vector machines, Machine Learning 68: Newton's method for it. Guo, Pleiss, Sun and Weinberger (2017), On calibration
of modern neural networks, ICML: the temperature (its T is 1/a). Zadrozny and Elkan (2002): one against the rest,
normalised.

Names
-----
* `Calibration`: what was learnt; `probabilities(scores)`
* `fit`: learn it from held-out scores
* `CalibrationWarning`: the scores leave the slope undetermined or rank the clips the wrong way round
"""

import dataclasses
import warnings

import numpy as np
from scipy.special import expit, log_expit, logsumexp, softmax

KINDS = ("temperature", "platt")
PROBLEMS = ("classes", "multilabel")

_FLAT = 1e-6  # the largest a·|s| where the best temperature slope would be 0 or less
_BACKTRACKS = 40
_ITERATIONS = 100


class CalibrationWarning(UserWarning):
    """The held-out scores do not determine a calibration that can be taken at its word."""


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """A map from scores to probabilities.

    Attributes:
        kind: "temperature" or "platt".
        slope: a, f64[] for a temperature, f64[K] for Platt's.
        intercept: b, f64[K]; zeros for a temperature.
        problem: "classes" (a row of probabilities sums to 1) or "multilabel" (every label for itself).
    """

    kind: str
    slope: np.ndarray
    intercept: np.ndarray
    problem: str = "classes"

    def probabilities(self, scores):
        """Probabilities of scores.

        Args:
            scores: f64[M, K], finite.

        Returns:
            f64[M, K]; a single column of a classes problem is the probability of the second class, `classes_[1]`.

        Raises:
            ValueError: another number of columns than was learnt.
        """
        scores = np.asarray(scores, np.float64)
        columns = len(self.intercept)
        if scores.ndim != 2 or scores.shape[1] != columns:
            raise ValueError(f"scores has shape {scores.shape}; the calibration was learnt for [M, {columns}]")
        one_of_many = self.problem == "classes" and columns > 1
        if self.kind == "temperature":
            return softmax(self.slope * scores, axis=1) if one_of_many else expit(2 * self.slope * scores)
        logits = self.slope[None, :] * scores + self.intercept[None, :]
        if not one_of_many:
            return expit(logits)
        # The quotient p_k / Σp through logarithms: it stays finite where every p is too small for float64.
        shares = log_expit(logits)
        return np.exp(shares - logsumexp(shares, axis=1, keepdims=True))

    def arrays(self):
        """Plain arrays that `from_arrays` takes back."""
        return {name: np.asarray(value) for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_arrays(cls, arrays):
        """The calibration that `arrays` gave."""
        slope, intercept = (np.asarray(arrays[name], np.float64) for name in ("slope", "intercept"))
        return cls(str(arrays["kind"]), slope, intercept, str(arrays["problem"]))


def fit(scores, targets, *, kind, problem="classes", sample_weight=None):
    """Learn a calibration from held-out scores.

    Args:
        scores: f64[M, K], finite.
        targets: f64[M, K] of ±1; for classes in two columns or more one +1 in every row.
        kind: "temperature" or "platt".
        problem: "classes" or "multilabel".
        sample_weight: w f64[M], at least 0; a weight of 2 is the row twice. None is 1 for all.

    Returns:
        `Calibration`. The temperature minimises Σ w (−log p_y), so that Σ w (E_p[s] − s_y) = 0, over a ≥ 0; Platt's
        minimises Σ w (−t log p − (1 − t) log(1 − p)) in every column, with t = (N₊ + 1)/(N₊ + 2) for its N₊ clips
        of +1 and t = 1/(N₋ + 2) for its N₋ clips of −1. Both to rounding error.

        Scores without an error would make the temperature's slope infinite. It ends where the mean loss is
        log((N + 2)/(N + 1)) of the N = Σ w clips (labels times clips for several labels): Laplace's rule, the same
        that smooths Platt's targets.

    Raises:
        ValueError: an unknown kind or problem, shapes that differ, scores that are not finite, targets other than
            ±1, weights below 0 or all 0.

    Warns:
        CalibrationWarning: the slope was ended by that rule; the best slope is 0 or less (a temperature is then
            so flat that all classes are equally probable to 1e-6, Platt's keeps its negative slope).
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is none of {', '.join(KINDS)}")
    if problem not in PROBLEMS:
        raise ValueError(f"problem={problem!r} is none of {', '.join(PROBLEMS)}")
    scores, targets, weight = _checked(scores, targets, problem, sample_weight)
    if kind == "temperature":
        slope = _fit_temperature(scores, targets, problem, weight)
        return Calibration(kind, np.asarray(slope), np.zeros(scores.shape[1]), problem)
    return Calibration(kind, *_fit_platt(scores, targets, weight), problem)


def _checked(scores, targets, problem, sample_weight):
    """The three arrays in float64, without the rows of weight 0."""
    scores, targets = np.asarray(scores, np.float64), np.asarray(targets, np.float64)
    if scores.ndim != 2 or scores.shape != targets.shape or not scores.size:
        raise ValueError(f"scores {scores.shape} and targets {targets.shape} must have one shape [M, K], M and K ≥ 1")
    if not np.isfinite(scores).all():
        raise ValueError(
            f"scores holds {(~np.isfinite(scores)).sum()} values that are not finite; leave their rows out"
        )
    if not (np.abs(targets) == 1).all():
        odd = targets[np.abs(targets) != 1][0]
        raise ValueError(f"targets holds {odd:g}; they must be ±1 (a regression has no probabilities to calibrate)")
    positives = (targets > 0).sum(axis=1)
    if problem == "classes" and targets.shape[1] > 1 and not (positives == 1).all():
        row = np.flatnonzero(positives != 1)[0]
        raise ValueError(
            f"targets has {positives[row]} times +1 in row {row}; classes have one a row; "
            "problem='multilabel' takes any number"
        )
    weight = np.ones(len(scores)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if weight.shape != (len(scores),):
        raise ValueError(f"sample_weight has shape {weight.shape}; it must be ({len(scores)},), one a row of scores")
    if not (np.isfinite(weight.sum()) and (weight >= 0).all() and weight.any()):
        raise ValueError(
            f"sample_weight lies in [{weight.min()}, {weight.max()}]; weights and their sum must be "
            "finite, at least 0 and not all 0"
        )
    kept = weight > 0
    return scores[kept], targets[kept], weight[kept]


def _fit_temperature(scores, targets, problem, weight):
    """The slope a of softmax(a s), bounded on both sides."""
    if problem == "classes" and scores.shape[1] > 1:
        margins = scores - np.take_along_axis(scores, targets.argmax(axis=1)[:, None], axis=1)
    else:
        # softmax over the pair (−s, s) relative to the true one of them; all entries count alike.
        margins = np.stack([np.zeros(scores.size), (-2 * targets * scores).ravel()], axis=1)
        weight = np.repeat(weight, scores.shape[1])
    spread = np.abs(margins).max()
    if spread == 0:
        _warn_flat("all scores of a clip are equal")
        return 0.0
    margins, total = margins / spread, weight.sum()  # a·spread is searched; E_p[s] − s_y = E_p[margin]

    def derivatives(a):
        """The mean loss, d loss/da = mean E_p[margin], and its derivative, the mean variance of the margin."""
        logits = a * margins
        largest = logits.max(axis=1)
        p = np.exp(logits - largest[:, None])
        sums = p.sum(axis=1)
        loss = weight @ (largest + np.log(sums))
        mean = np.vecdot(p, margins) / sums
        variance = np.vecdot(p, (margins - mean[:, None]) ** 2) / sums
        return loss / total, weight @ mean / total, weight @ variance / total

    if derivatives(_FLAT)[1] >= 0:
        _warn_flat("the scores rank the true classes no higher than chance")
        return _FLAT / spread
    least = np.log1p(1 / (total + 1))
    if margins.max() == 0:
        # No score above the true one: a clip that shares the highest with c − 1 others loses log c at best.
        least += weight @ np.log((margins == 0).sum(axis=1)) / total
    low, high = _FLAT, 1.0
    loss, slope, _ = derivatives(high)
    while slope < 0 and loss > least:
        low, high = high, 2 * high
        loss, slope, _ = derivatives(high)
    best = high
    if slope >= 0:
        best = _find_root(lambda a: derivatives(a)[1:], low, high)
        loss = derivatives(best)[0]
    if loss < least:

        def below(a):
            loss, slope, _ = derivatives(a)
            return least - loss, -slope

        best = _find_root(below, _FLAT, best)
        warnings.warn(
            f"the {len(weight)} scores have next to no error, so that every steeper temperature is better; the slope "
            f"ends at {best / spread:.4g}, where the mean loss is log((N + 2)/(N + 1)); more held-out clips allow more",
            CalibrationWarning,
            stacklevel=3,
        )
    return best / spread


def _warn_flat(reason):
    warnings.warn(
        f"{reason}: every class gets the same probability; are the scores those of these targets?",
        CalibrationWarning,
        stacklevel=4,
    )


def _find_root(function, low, high):
    """The root of a rising function in [low, high], to rounding error: Newton's steps, bisection where they leave.

    Args:
        function: number → (value, derivative), value(low) ≤ 0 ≤ value(high).
    """
    a = low + (high - low) / 2
    for _ in range(200):
        value, derivative = function(a)
        low, high = (a, high) if value < 0 else (low, a)
        step = a - value / derivative if derivative > 0 else high
        after = step if low < step < high else low + (high - low) / 2
        if value == 0 or abs(after - a) <= 2 * np.finfo(float).eps * abs(a):
            return a
        a = after
    return a


def _fit_platt(scores, targets, weight):
    """Slopes and intercepts of all columns at once: Newton's method with backtracking (Lin, Lin and Weng 2007).

    The steps see scores of at most 1 and weights that sum to 1; the counts N₊ and N₋ are of the weights as given.
    """
    positive = targets > 0
    num_positive, num_negative = weight @ positive, weight @ ~positive
    weight = weight / weight.sum()
    unit = np.frexp(np.abs(scores).max(axis=0))[1]  # powers of two: exact
    scores = np.ldexp(scores, -unit[None, :])
    centre = weight @ scores
    scale = np.sqrt(weight @ (scores - centre[None, :]) ** 2)
    constant = scale <= 1e-14 * np.abs(scores).max(axis=0)
    scale = np.where(constant, 1.0, scale)
    s = np.where(constant[None, :], 0.0, (scores - centre[None, :]) / scale[None, :])
    t = np.where(positive, ((num_positive + 1) / (num_positive + 2))[None, :], (1 / (num_negative + 2))[None, :])

    def loss(a, b):
        logits = a[None, :] * s + b[None, :]
        return weight @ (-log_expit(-logits) - t * logits)  # −t log p − (1 − t) log(1 − p), as 1 − p = p e^(−logit)

    # Platt's start: no slope, and the smoothed share of +1.
    a, b = np.zeros(s.shape[1]), np.log((num_positive + 1) / (num_negative + 1))
    active = np.ones(s.shape[1], bool)
    for _ in range(_ITERATIONS):
        p = expit(a[None, :] * s + b[None, :])
        error, curvature = p - t, weight[:, None] * p * (1 - p)
        gradient_a, gradient_b = weight @ (error * s), weight @ error
        aa, ab, bb = (curvature * s**2).sum(axis=0), (curvature * s).sum(axis=0), curvature.sum(axis=0)
        # The ridge keeps the matrix regular where a column is constant; it moves no stationary point.
        aa, bb = aa + 1e-12, bb + 1e-12
        determinant = aa * bb - ab**2
        step_a = (ab * gradient_b - bb * gradient_a) / determinant
        step_b = (ab * gradient_a - aa * gradient_b) / determinant
        decrease = -(gradient_a * step_a + gradient_b * step_b)
        # Newton squares the error: a step of this promise is the last that changes more than the rounding.
        last = decrease <= 1e-16
        share = _backtrack(loss, a, b, step_a, step_b, decrease, done=last | ~active)
        a, b = a + active * share * step_a, b + active * share * step_b
        active &= ~last
        if not active.any():
            break
    else:
        warnings.warn(
            f"columns {np.flatnonzero(active).tolist()} have not converged in {_ITERATIONS} steps",
            CalibrationWarning,
            stacklevel=3,
        )
    if (a < 0).any():
        warnings.warn(
            f"columns {np.flatnonzero(a < 0).tolist()} have a negative slope: higher scores are less probable there; "
            "are the scores those of these targets?",
            CalibrationWarning,
            stacklevel=3,
        )
    slope = a / scale
    return np.ldexp(slope, -unit), b - slope * centre


def _backtrack(loss, a, b, step_a, step_b, decrease, done):
    """The largest of 1, ½, ¼ … of each column's step that lowers its loss enough (Armijo's rule, 1e-4)."""
    before, share = loss(a, b), np.ones(len(a))
    for _ in range(_BACKTRACKS):
        done = done | (loss(a + share * step_a, b + share * step_b) <= before - 1e-4 * share * decrease)
        if done.all():
            break
        share = np.where(done, share, share / 2)
    return share

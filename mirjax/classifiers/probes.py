"""Probes: the other classifiers that the literature puts on features, fitted by scikit-learn (the SVM by us).

Conventions
-----------
`x f64[M, D]` features, one row a clip (of frames: one row a frame); D features, K classes. Features are taken as they
are: put a probe in `Scaled` to standardise them. scikit-learn fits; what it learnt is kept as plain arrays, and scores
are computed from these, so that a probe read back by `mirjax.classifiers.load` gives the same scores to the bit. A
fit that fails leaves the probe as it was; scikit-learn's `ConvergenceWarning` is passed on.

Weights of clips are taken where they mean repetition: by the linear probe. The others are fitted by chance passes over
the rows (`SGDProbe`, the MLPs) or know no weights (the mixtures), and their `fit` has no `sample_weight`.

Source
------
Linear SVM, SGD and MLP(20) with 600 iterations: beside the ELM in the released code of Pons and Serra (2019),
Randomly weighted CNNs for (music) audio classification. MLP 2 × 256: Kim, Urbano, Liem and Hanjalic (2020), One deep
music representation to rule them all? GMM: 40 diagonal components a class on MFCC frames in Pons, Slizovskaia, Gong,
Gomez and Serra (2017), Timbre analysis of music audio signals with convolutional neural networks.

Names
-----
* `LinearProbe`: logistic regression or a linear SVM; `SGDProbe`: a linear SVM by stochastic gradient descent
* `MLPProbe`, `MLPProbeRegressor`: multilayer perceptron
* `GMMClassifier`: a mixture of diagonal Gaussians for every class
"""

import contextlib
import warnings

import numpy as np
from scipy.linalg import solve
from scipy.special import expit, logsumexp, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.mixture import GaussianMixture
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from mirjax.classifiers import find_classes
from mirjax.classifiers.arithmetic import one_blas_thread


class _Probe(BaseEstimator):
    """What all probes share: checked fits, plain arrays, scores."""

    _LEARNT = ()

    def _checked(self, X):
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, reset=False)

    @contextlib.contextmanager
    def _all_or_nothing(self):
        """One BLAS thread; after an error the probe is what it was before."""
        before = dict(vars(self))
        try:
            with one_blas_thread():
                yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _refuse(self, name, holds, remedy):
        if not holds:
            raise ValueError(f"{name}={getattr(self, name)!r} must be {remedy}")

    def learnt(self):
        """What `fit` learnt, by name, for `mirjax.classifiers.save`."""
        return {name: getattr(self, name) for name in self._LEARNT}

    def restore(self, arrays):
        """Take back what `learnt` gave; returns self."""
        for name in self._LEARNT:
            setattr(self, name, arrays[name] if np.ndim(arrays[name]) else arrays[name].item())
        return self


class _ProbeClassifier(ClassifierMixin, _Probe):
    """A probe with scores [M, K], of two classes [M, 1], from `_scores`."""

    def decision_function(self, X):
        """Scores [M, K], the label being that of the largest; with two classes [M], positive for `classes_[1]`."""
        scores = self._scores(self._checked(X))
        return scores if scores.shape[1] > 1 else scores[:, 0]

    def predict(self, X):
        """The label [M] of the largest score."""
        return self._labels(self._scores(self._checked(X)))

    def _labels(self, scores):
        return self.classes_[scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(int)]

    def _odds(self, scores):
        """Probabilities [M, K] of scores that are logits."""
        return softmax(scores, axis=1) if scores.shape[1] > 1 else np.hstack([expit(-scores), expit(scores)])


class _Linear(_ProbeClassifier):
    _LEARNT = ("classes_", "coef_", "intercept_", "n_iter_", "n_features_in_")

    def _keep(self, fitted):
        self.coef_, self.intercept_ = np.ascontiguousarray(fitted.coef_), np.ascontiguousarray(fitted.intercept_)
        self.n_iter_ = int(np.max(fitted.n_iter_))
        return self

    def _scores(self, x):
        return x @ self.coef_.T + self.intercept_[None, :]


def solve_squared_hinge(x, signs, costs, max_iter):
    """Minimise ½|w|² + Σ c_i max(1 − y_i x_i·w, 0)² over w by Newton's method on the active rows.

    With A = {i: y_i x_i·w < 1} Newton's point is a ridge regression of the active rows,

        (I + 2 X_Aᵀ C_A X_A) w = 2 X_Aᵀ C_A y_A,

    solved on the smaller side. When a full step leaves A as it is, w is the minimum: the loss is quadratic there.

    Args:
        x: f64[M, D].
        signs: y, ±1 [M].
        costs: c f64[M], above 0.
        max_iter: most steps.

    Returns:
        w f64[D], the steps taken, and whether the minimum was reached.

    Reference:
        Keerthi and DeCoste (2005), A modified finite Newton method for fast solution of large scale linear SVMs.
    """

    def evaluate(w):
        slack = 1 - signs * (x @ w)
        active = slack > 0
        return w @ w / 2 + costs[active] @ slack[active] ** 2, active

    w = np.zeros(x.shape[1])
    loss, active = evaluate(w)
    for step in range(1, max_iter + 1):
        rows, y, c = x[active], signs[active], costs[active]
        if len(rows) < x.shape[1]:
            point = rows.T @ solve(rows @ rows.T + np.diag(1 / (2 * c)), y, assume_a="pos")
        else:
            scaled = np.sqrt(2 * c)[:, None] * rows
            point = solve(scaled.T @ scaled + np.eye(x.shape[1]), 2 * rows.T @ (c * y), assume_a="pos")
        gradient = w - 2 * rows.T @ (c * (y - rows @ w))
        slope, share = gradient @ (point - w), 1.0
        after, active_after = evaluate(point)
        while after > loss + 1e-4 * share * slope and share * -slope > 1e-15 * loss:
            share /= 2
            after, active_after = evaluate(w + share * (point - w))
        done = share == 1 and np.array_equal(active, active_after)
        if done or share * -slope <= 1e-15 * loss:  # no lower loss within rounding
            return point if done else w, step, True
        w, loss, active = w + share * (point - w), after, active_after
    return w, max_iter, False


class LinearProbe(_Linear):
    """Logistic regression or a linear support vector machine.

    Minimises ½|w|² + C Σ w_i loss_i. `logistic`: the multinomial loss (of two classes the binomial one), intercept
    free, by scikit-learn's Newton-CG. `svm`: the squared hinge, one class against the rest, intercept penalised like a
    weight (what scikit-learn's `LinearSVC` minimises), by `solve_squared_hinge`: liblinear was measured
    to stop up to 10 % above the minimum on 1,000 features of 1,797 digits.

    Args:
        kind: "logistic" or "svm".
        C: inverse regularisation, above 0; the thesis' code has 0.1, 1 and 2 for the SVM.
        tol: logistic regression stops where no entry of the gradient of the mean loss is larger; the SVM is solved to
            rounding error.
        max_iter: most Newton steps, at least 1.

    Attributes:
        classes_: the labels, sorted [K].
        coef_, intercept_: f64[K, D] and f64[K]; with two classes f64[1, D] and f64[1], for `classes_[1]`.
        n_iter_: Newton steps taken, the most of any class.
        n_features_in_: D.

    Reference:
        Fan, Chang, Hsieh, Wang and Lin (2008), LIBLINEAR: a library for large linear classification (the losses).
    """

    def __init__(self, *, kind="logistic", C=1.0, tol=1e-6, max_iter=200):
        self.kind = kind
        self.C = C
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X, y, sample_weight=None):
        """Fit to features X [M, D] and labels y [M] of at least two classes; returns self.

        Args:
            X: features, finite.
            y: labels.
            sample_weight: f64[M], at least 0; 2 is the row twice, 0 is the row left out.

        Raises:
            ValueError: a parameter out of range, features that are not finite, a single class, a negative weight.

        Warns:
            ConvergenceWarning: `max_iter` steps were not enough.
        """
        self._refuse("kind", self.kind in ("logistic", "svm"), "'logistic' or 'svm'")
        self._refuse("C", 0 < self.C < np.inf, "finite and above 0")
        self._refuse("tol", self.tol > 0, "above 0")
        self._refuse("max_iter", self.max_iter >= 1, "at least 1")
        with self._all_or_nothing():
            X, y = validate_data(self, X, y, dtype=np.float64)
            weight = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True, allow_all_zero_weights=False
            )
            kept = weight > 0
            X, y, weight = X[kept], y[kept], weight[kept]
            self.classes_, codes = find_classes(y)
            if self.kind == "logistic":
                machine = LogisticRegression(solver="newton-cg", C=self.C, tol=self.tol, max_iter=self.max_iter)
                return self._keep(machine.fit(X, y, weight))
            return self._fit_svm(X, codes, weight)

    def _fit_svm(self, x, codes, weight):
        x = np.column_stack([x, np.ones(len(x))])
        columns = range(len(self.classes_)) if len(self.classes_) > 2 else [1]
        solved = [
            solve_squared_hinge(x, np.where(codes == k, 1.0, -1.0), self.C * weight, self.max_iter) for k in columns
        ]
        weights = np.stack([w for w, _, _ in solved])
        self.coef_, self.intercept_ = np.ascontiguousarray(weights[:, :-1]), np.ascontiguousarray(weights[:, -1])
        self.n_iter_ = max(steps for _, steps, _ in solved)
        if not all(reached for _, _, reached in solved):
            warnings.warn(
                f"the SVM has not reached its minimum in max_iter={self.max_iter} steps; raise max_iter",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    @available_if(lambda self: self.kind == "logistic")
    def predict_proba(self, X):
        """Probabilities [M, K] (of logistic regression; calibrate the SVM's scores with `calibration`)."""
        return self._odds(self._scores(self._checked(X)))


class SGDProbe(_Linear):
    """Linear support vector machine by stochastic gradient descent, one class against the rest.

    Args:
        alpha: weight of the penalty ½|w|² against the mean hinge loss, above 0.
        max_iter: most passes over the rows, at least 1.
        random_state: seed of the order of the rows.

    Attributes:
        classes_, coef_, intercept_, n_iter_, n_features_in_: as of `LinearProbe`.

    Reference:
        Shalev-Shwartz, Singer and Srebro (2007), Pegasos; scikit-learn's `SGDClassifier` at its defaults.
    """

    def __init__(self, *, alpha=1e-4, max_iter=1000, random_state=0):
        self.alpha = alpha
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X, y):
        """Fit to features X [M, D] and labels y [M] of at least two classes; returns self.

        Raises:
            ValueError: a parameter out of range, features that are not finite, a single class.
        """
        self._refuse("alpha", 0 < self.alpha < np.inf, "finite and above 0")
        self._refuse("max_iter", self.max_iter >= 1, "at least 1")
        with self._all_or_nothing():
            X, y = validate_data(self, X, y, dtype=np.float64)
            self.classes_, _ = find_classes(y)
            machine = SGDClassifier(alpha=self.alpha, max_iter=self.max_iter, random_state=self.random_state)
            return self._keep(machine.fit(X, y))


class _MLP(_Probe):
    def _checked_hidden(self):
        hidden = tuple(np.atleast_1d(self.hidden).tolist())
        whole = all(isinstance(units, int) and units >= 1 for units in hidden)
        self._refuse("hidden", hidden and whole, "the widths of the hidden layers, whole numbers of at least 1")
        self._refuse("max_iter", self.max_iter >= 1, "at least 1")
        return {"hidden_layer_sizes": hidden, "max_iter": self.max_iter, "random_state": self.random_state}

    def _keep(self, fitted):
        self.weights_ = [np.ascontiguousarray(layer) for layer in fitted.coefs_]
        self.biases_ = [np.ascontiguousarray(layer) for layer in fitted.intercepts_]
        self.n_iter_ = int(fitted.n_iter_)
        return self

    def _scores(self, x):
        """h₀ = x, h_l = max(h_{l−1} W_l + b_l, 0); the last layer without the maximum."""
        for weights, bias in zip(self.weights_[:-1], self.biases_[:-1], strict=True):
            x = np.maximum(x @ weights + bias[None, :], 0)
        return x @ self.weights_[-1] + self.biases_[-1][None, :]

    def learnt(self):
        """What `fit` learnt, by name, for `mirjax.classifiers.save`."""
        layers = {f"weights_{i}": layer for i, layer in enumerate(self.weights_)}
        return super().learnt() | layers | {f"biases_{i}": layer for i, layer in enumerate(self.biases_)}

    def restore(self, arrays):
        """Take back what `learnt` gave; returns self."""
        self.weights_ = [arrays[f"weights_{i}"] for i in range(sum(key.startswith("weights_") for key in arrays))]
        self.biases_ = [arrays[f"biases_{i}"] for i in range(len(self.weights_))]
        if isinstance(self.hidden, list):
            self.hidden = tuple(self.hidden)  # the file's JSON knows no tuples
        return super().restore(arrays)


class MLPProbe(_MLP, _ProbeClassifier):
    """Multilayer perceptron of rectified linear units, cross-entropy, by Adam.

    Args:
        hidden: widths of the hidden layers. (256, 256) with 200 iterations is Kim et al.'s, (20,) with 600 the
            one beside Pons and Serra's ELM.
        max_iter: most passes over the rows, at least 1.
        random_state: seed of the first weights and of the batches.

    Attributes:
        classes_: the labels, sorted [K].
        weights_, biases_: of every layer, lists of f64[inputs, outputs] and f64[outputs].
        n_iter_: passes taken.
        n_features_in_: D.

    Reference:
        Kim, Urbano, Liem and Hanjalic (2020), section 4.4; everything else is scikit-learn's default (L2 1e-4,
        batches of 200, learning rate 1e-3, stops when the training loss stands still for 10 passes).
    """

    _LEARNT = ("classes_", "n_iter_", "n_features_in_")

    def __init__(self, *, hidden=(256, 256), max_iter=200, random_state=0):
        self.hidden = hidden
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X, y):
        """Fit to features X [M, D] and labels y [M] of at least two classes; returns self.

        Raises:
            ValueError: a parameter out of range, features that are not finite, a single class.
        """
        params = self._checked_hidden()
        with self._all_or_nothing():
            X, y = validate_data(self, X, y, dtype=np.float64)
            self.classes_, codes = find_classes(y)
            return self._keep(MLPClassifier(**params).fit(X, codes))

    def predict_proba(self, X):
        """Probabilities [M, K]."""
        return self._odds(self._scores(self._checked(X)))


class MLPProbeRegressor(RegressorMixin, _MLP):
    """Multilayer perceptron of rectified linear units, squared error, by Adam; for one value a clip or several.

    Args:
        hidden, max_iter, random_state: as of `MLPProbe`.

    Attributes:
        weights_, biases_, n_iter_, n_features_in_: as of `MLPProbe`.
        is_flat_: whether y had one axis.

    Reference:
        Kim, Urbano, Liem and Hanjalic (2020), section 4.4 (arousal and valence).
    """

    _LEARNT = ("n_iter_", "n_features_in_", "is_flat_")

    def __init__(self, *, hidden=(256, 256), max_iter=200, random_state=0):
        self.hidden = hidden
        self.max_iter = max_iter
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X, y):
        """Fit to features X [M, D] and values y [M] or [M, L]; returns self.

        Raises:
            ValueError: a parameter out of range, features or values that are not finite.
        """
        params = self._checked_hidden()
        with self._all_or_nothing():
            X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
            self.is_flat_ = y.ndim == 1
            return self._keep(MLPRegressor(**params).fit(X, y if y.ndim == 1 or y.shape[1] > 1 else y[:, 0]))

    def predict(self, X):
        """Values, [M] or [M, L] as y was."""
        values = self._scores(self._checked(X))
        return values[:, 0] if self.is_flat_ else values


class GMMClassifier(_ProbeClassifier):
    """A mixture of Gaussians with diagonal covariances for every class; the likeliest class wins.

    log p(x | k) = log Σ_j π_kj N(x; μ_kj, diag σ²_kj), by expectation-maximisation from k-means.

    Args:
        components: Gaussians a class, at least 1. On frames of MFCC the thesis has 40; every class needs as many
            rows (and 2), so a set of some clips a class takes 1 to 5.
        priors: "equal", or "training" for the shares of the training rows.
        reg_covar: added to every variance (in the square of the features' unit), at least 0.
        max_iter: most iterations of EM, at least 1.
        random_state: seed of k-means.

    Attributes:
        classes_: the labels, sorted [K].
        weights_, means_, variances_: π f64[K, J], μ and σ² f64[K, J, D].
        log_priors_: f64[K].
        n_iter_: iterations taken, int[K].
        n_features_in_: D.

    Reference:
        Reynolds and Rose (1995), Robust text-independent speaker identification using Gaussian mixture speaker models.
    """

    _LEARNT = ("classes_", "weights_", "means_", "variances_", "log_priors_", "n_iter_", "n_features_in_")

    def __init__(self, *, components=1, priors="equal", reg_covar=1e-6, max_iter=100, random_state=0):
        self.components = components
        self.priors = priors
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X, y):
        """Fit to features X [M, D] and labels y [M] of at least two classes; returns self.

        Raises:
            ValueError: a parameter out of range, features that are not finite, a single class, a class with fewer
                rows than components (or with one row).
        """
        self._refuse("components", self.components >= 1, "at least 1")
        self._refuse("priors", self.priors in ("equal", "training"), "'equal' or 'training'")
        self._refuse("reg_covar", 0 <= self.reg_covar < np.inf, "finite and at least 0")
        self._refuse("max_iter", self.max_iter >= 1, "at least 1")
        with self._all_or_nothing():
            X, y = validate_data(self, X, y, dtype=np.float64)
            self.classes_, codes = find_classes(y)
            rows = np.bincount(codes)
            least = max(self.components, 2)
            if rows.min() < least:
                rarest = self.classes_.tolist()[rows.argmin()]
                raise ValueError(
                    f"components={self.components!r} needs {least} rows of every class; {rarest!r} has {rows.min()}; "
                    "lower components or leave the class out"
                )
            # EM takes variances as E[x²] − μ², which cancels far from 0: it works about the mean of the class.
            centres = np.stack([X[codes == k].mean(axis=0) for k in range(len(rows))])
            # k-means adds up in the order in which its threads finish; one thread makes the sum the same every time.
            with threadpool_limits(1):
                mixtures = [self._mixture().fit(X[codes == k] - centre) for k, centre in enumerate(centres)]
            self.weights_, means, self.variances_ = (
                np.stack([getattr(mixture, name) for mixture in mixtures])
                for name in ("weights_", "means_", "covariances_")
            )
            self.means_ = centres[:, None, :] + means
            shares = rows / rows.sum() if self.priors == "training" else np.full(len(rows), 1 / len(rows))
            self.log_priors_ = np.log(shares)
            self.n_iter_ = np.array([mixture.n_iter_ for mixture in mixtures])
        return self

    def _mixture(self):
        return GaussianMixture(
            self.components,
            covariance_type="diag",
            reg_covar=self.reg_covar,
            max_iter=self.max_iter,
            random_state=self.random_state,
        )

    def log_likelihoods(self, X):
        """log p(x | k) of every row and class, f64[M, K]."""
        return self._log_likelihoods(self._checked(X))

    def _log_likelihoods(self, x):
        likelihoods = np.empty((len(x), len(self.classes_)))
        for k, (weights, means, variances) in enumerate(zip(self.weights_, self.means_, self.variances_, strict=True)):
            # Σ (x − μ)²/σ² as three products, about the middle of the class so that little cancels.
            middle = means.mean(axis=0)
            z, means, precisions = x - middle[None, :], means - middle[None, :], 1 / variances
            distances = z**2 @ precisions.T - 2 * z @ (precisions * means).T + (precisions * means**2).sum(axis=1)
            logarithms = np.log(2 * np.pi * variances).sum(axis=1)
            with np.errstate(divide="ignore"):  # a component without a row weighs nothing
                log_weights = np.log(weights)
            likelihoods[:, k] = logsumexp(log_weights[None, :] - (distances + logarithms[None, :]) / 2, axis=1)
        return likelihoods

    def _scores(self, x):
        return self._posterior_scores(self._log_likelihoods(x))

    def _posterior_scores(self, likelihoods):
        """log p(x | k) + log p(k); of two classes the difference [M, 1]."""
        scores = likelihoods + self.log_priors_[None, :]
        return scores if scores.shape[1] > 2 else scores[:, 1:] - scores[:, :1]

    def predict_proba(self, X):
        """Probabilities p(k | x), f64[M, K]."""
        return self._odds(self._scores(self._checked(X)))

    def score_clips(self, clips):
        """Log-likelihoods of clips, their frames taken for independent: Σ_t log p(x_t | k).

        Args:
            clips: M sequences of frames f64[T, D], each T ≥ 1 of its own.

        Returns:
            f64[M, K], without the priors.

        Raises:
            ValueError: no clip, a clip without a frame, of another width, or not finite.
        """
        check_is_fitted(self)
        clips = [np.asarray(clip, np.float64) for clip in clips]
        for i, clip in enumerate(clips):
            if clip.ndim != 2 or not len(clip) or clip.shape[1] != self.n_features_in_:
                raise ValueError(f"clips[{i}] has shape {clip.shape}; it must be [T ≥ 1, {self.n_features_in_}]")
        if not clips:
            raise ValueError("clips is empty; give one clip of frames [T, D] or more")
        frames = self.log_likelihoods(np.concatenate(clips))
        return np.add.reduceat(frames, np.cumsum([0, *(len(clip) for clip in clips[:-1])]), axis=0)

    def predict_clips(self, clips):
        """The label [M] of every clip of frames [T, D], from `score_clips` and the priors (once a clip)."""
        return self._labels(self._posterior_scores(self.score_clips(clips)))

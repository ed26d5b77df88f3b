"""Probes: the other classifiers that the literature puts on features, fitted by scikit-learn (the SVM by us).

Conventions
-----------
`x f64[M, D]` features, one row a clip; D features, K classes. Features are taken as they
are: put a probe in `Scaled` to standardise them. scikit-learn fits; what it learnt is kept as plain arrays, and scores
are computed from these, so that a probe read back by `mirjax.classifiers.load` gives the same scores to the bit. A
fit that fails leaves the probe as it was; scikit-learn's `ConvergenceWarning` is passed on.

Weights of clips are taken where they mean repetition: by the linear probe. The others are fitted by chance passes over
the rows, and their `fit` has no `sample_weight`.

Source
------
Linear SVM, SGD and MLP(20) with 600 iterations: beside the ELM in the released code of Pons and Serra (2019),
Randomly weighted CNNs for (music) audio classification. MLP 2 × 256: Kim, Urbano, Liem and Hanjalic (2020), One deep
music representation to rule them all?

Names
-----
* `LinearProbe`: logistic regression or a linear SVM; `SGDProbe`: a linear SVM by stochastic gradient descent
* `MLPProbe`, `MLPProbeRegressor`: multilayer perceptron
* `solve_squared_hinge`: the linear SVM's minimum

`probe_base` has what they share, `mixture` the Gaussian mixtures.
"""

import warnings

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, validate_data

from mirjax.classifiers import find_classes
from mirjax.classifiers.arithmetic import is_whole
from mirjax.classifiers.probe_base import Probe, ProbeClassifier
from mirjax.classifiers.solvers import solve_rows


class _Linear(ProbeClassifier):
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

    solved by `solvers.solve_rows`, to its digits. Half of −gradient·step is what the loss would still fall if A stayed
    as it is, whatever the scale of the columns: steps end where it is rounding, or where none finds a lower loss.

    Args:
        x: f64[M, D].
        signs: y, ±1 [M].
        costs: c f64[M], above 0.
        max_iter: most steps.

    Returns:
        w f64[D], the steps taken, and whether the minimum was reached: the last step promised no more
        than 1e-8 of the loss.

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
        root = np.sqrt(2 * c)
        point = solve_rows(root[:, None] * rows, (root * y)[:, None], 1.0)[0][:, 0] if len(rows) else np.zeros_like(w)
        gradient = w - 2 * rows.T @ (c * (y - rows @ w))
        promise, share = abs(gradient @ (point - w)), 1.0
        after, active_after = evaluate(point)
        while after > loss - 1e-4 * share * promise and share * promise > 1e-15 * loss:
            share /= 2
            after, active_after = evaluate(w + share * (point - w))
        if share * promise <= 1e-15 * loss:  # no lower loss within rounding
            return w, step, bool(promise <= 1e-8 * loss)
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
            ConvergenceWarning: `max_iter` steps, or the digits of float64, were not enough.
        """
        self._refuse("kind", self.kind in ("logistic", "svm"), "'logistic' or 'svm'")
        self._need_above_0("C")
        self._need_above_0("tol")
        self._need_whole("max_iter")
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
                f"the SVM has not reached its minimum in {self.n_iter_} of max_iter={self.max_iter} steps; raise "
                "max_iter, or standardise the features (Scaled)",
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
        self._need_above_0("alpha")
        self._need_whole("max_iter")
        with self._all_or_nothing():
            X, y = validate_data(self, X, y, dtype=np.float64)
            self.classes_, _ = find_classes(y)
            machine = SGDClassifier(alpha=self.alpha, max_iter=self.max_iter, random_state=self.random_state)
            return self._keep(machine.fit(X, y))


class _MLP(Probe):
    def _checked_hidden(self):
        hidden = tuple(self.hidden) if isinstance(self.hidden, tuple | list | np.ndarray) else (self.hidden,)
        self._refuse(
            "hidden",
            hidden and all(map(is_whole, hidden)),
            "the widths of the hidden layers, whole numbers of at least 1",
        )
        self._need_whole("max_iter")
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


class MLPProbe(_MLP, ProbeClassifier):
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

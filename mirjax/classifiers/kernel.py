"""The extreme learning machine of infinitely many ReLU units: ridge regression with the arc-cosine kernel.

Conventions
-----------
`x f64[M, D]`; u = (x, 1), the row that weights and bias (w, b) ~ N(0, I) meet. With t the angle between u and u',

    k(x, x') = E[max(w·x + b, 0) max(w·x' + b, 0)] = |u| |u'| (sin t + (π - t) cos t) / 2π,

which HHᵀ/h of a drawn layer of h units tends to as 1/sqrt(h). The read-out f(x) = Σ_i α_i k(x_i, x) + b minimises

    Σ_i w_i |y_i - f(x_i)|² + λ αᵀKα,    λ = ridge · mean diagonal of K (weighted, centred with b).

A machine of h units on M clips has the same λ relative to HHᵀ/h where its own ridge is h/M times as large.

Source
------
Cho and Saul (2009), Kernel methods for deep learning, NIPS, section 2 (n = 1, to which the half of the Gaussian
expectation is added here); Saunders, Gammerman and Vovk (1998) for ridge regression in dual variables.

Names
-----
* `arc_cosine_kernel`: k for two tables of rows
* `ArcCosineClassifier`, `ArcCosineRegressor`: the read-outs
"""

import dataclasses

import numpy as np
from sklearn.utils.validation import check_is_fitted

from mirjax.classifiers.arithmetic import check_memory, one_blas_thread
from mirjax.classifiers.readout import ClassifierReadout, RegressorReadout

_CHUNK_BYTES = 16 * 2**20


def arc_cosine_kernel(a, b=None):
    """k(a_i, b_j), the mean product of two rows' ReLU activations over normal weights and biases.

    The cosine c of the angle is rounded once, and sine and angle are functions of that same c: dk/dc ∝ π - t, so
    that the rounding costs no digits where rows are alike, though arccos by itself would lose half of them there.

    Args:
        a: f64[m, D], finite.
        b: f64[n, D]; left out, a itself: the result is symmetric and its diagonal (|a_i|² + 1) / 2.

    Returns:
        f64[m, n].

    Raises:
        ValueError: tables of different width, or more than the memory holds.

    Reference:
        Cho and Saul (2009), equations 1 and 6.
    """
    a = np.asarray(a, np.float64)
    alike, b = b is None, a if b is None else np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"a has shape {a.shape}, b has shape {b.shape}; both are rows of as many features")
    check_memory("the kernel", (len(a), len(b)), np.float64, "give fewer rows, or draw a layer (ELMClassifier)")
    a, b = _with_one(a), _with_one(b)
    with np.errstate(over="ignore"):
        lengths_a, lengths_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    largest = max(lengths_a.max(initial=0), lengths_b.max(initial=0))
    if not largest <= 1e150:
        raise ValueError(f"a row is {largest:.3g} long, or not finite; its square leaves float64: scale the features")
    a, b = a / lengths_a[:, None], b / lengths_b[:, None]
    kernel = np.empty((len(a), len(b)))
    step = max(1, _CHUNK_BYTES // (8 * max(len(b), 1)))
    with one_blas_thread():
        for start in range(0, len(a), step):
            stop = min(start + step, len(a))
            width = stop if alike else len(b)
            block = _mean_product(a[start:stop] @ b[:width].T)
            kernel[start:stop, :width] = block * lengths_a[start:stop, None] * lengths_b[None, :width]
            if alike:
                kernel[:start, start:stop] = kernel[start:stop, :start].T
                square = kernel[start:stop, start:stop]
                square[:] = (square + square.T) / 2
    if alike:
        np.fill_diagonal(kernel, lengths_a**2 / 2)
    return kernel


def _with_one(x):
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _mean_product(cosine):
    """(sin t + (π - t) cos t) / 2π of cos t, which is overwritten."""
    cosine = np.clip(cosine, -1, 1, out=cosine)
    opposite = np.arccos(-cosine)  # π - t with all its digits where it is small
    return np.maximum(np.sqrt((1 - cosine) * (1 + cosine)) + opposite * cosine, 0) / (2 * np.pi)


class _ArcCosine:
    """What classifier and regressor share: the kernel to the training rows stands for the hidden activations."""

    def _sizes(self):
        return (1,)  # one width only, infinite

    def _draw(self, x, sample_weight):
        check_memory("the kernel", (len(x), len(x)), np.float64, "give fewer rows, or draw a layer (ELMClassifier)")
        self.x_fit_ = x

    def _hidden(self, x):
        return arc_cosine_kernel(x) if x is self.x_fit_ else arc_cosine_kernel(x, self.x_fit_)

    def _path(self, hidden, targets, sizes, ridges, sample_weight):
        from mirjax.classifiers.kernel_path import KernelPath

        return KernelPath(hidden, targets, ridges=ridges, sample_weight=sample_weight, fit_intercept=self.fit_intercept)

    def _solve(self, table, size):
        """α = √w γ, (PSKSP + λI) γ = PSY with S = diag √w; P takes off S1, of which an intercept takes care."""
        from mirjax.classifiers.kernel_path import is_rounding
        from mirjax.classifiers.solvers import solve_gram

        root = np.sqrt(table.sample_weight)
        products, right = root[:, None] * table.hidden * root[None, :], root[:, None] * table.targets
        total = table.sample_weight.sum()
        if self.fit_intercept:
            axis = root / np.sqrt(total)
            products, right = _project(products, axis), right - axis[:, None] * (axis @ right)[None, :]
        if is_rounding(products, table.hidden, table.sample_weight):
            products = np.zeros_like(products)
        # A row at the mean has a diagonal entry of 0, but for rounding.
        np.fill_diagonal(products, np.maximum(products.diagonal(), 0))
        spread = np.trace(products)
        mean = spread / total
        self.penalty_ = float(self.ridge_ * mean)
        if self.fit_intercept:
            # The axis taken off gets the mean eigenvalue: no right side lies along it, and nothing is singular.
            products += mean * axis[:, None] * axis[None, :]
        solution, diagnosis = solve_gram(products, right, self.penalty_)
        if self.fit_intercept:
            solution -= axis[:, None] * (axis @ solution)[None, :]
        self.output_weights_ = root[:, None] * solution
        self.intercept_ = np.zeros(right.shape[1])
        if self.fit_intercept:
            residual = table.targets - table.hidden @ self.output_weights_
            self.intercept_ = table.sample_weight @ residual / total
        if spread > 0:  # K is rounded as it was before its mean was taken off
            size = table.sample_weight @ table.hidden.diagonal()
            digits = max(diagnosis.digits - max(np.log10(size / spread), 0), 0)
            diagnosis = dataclasses.replace(diagnosis, digits=float(digits))
        self._diagnose(diagnosis.check(self.digits, type(self).__name__))

    def _keep(self, size):
        pass

    def fit(self, X, y, sample_weight=None, *, groups=None, validation=None):
        """Solve for the dual coefficients; arguments and errors as in `readout.Readout.fit`; returns self."""
        super().fit(X, y, sample_weight, groups=groups, validation=validation)
        self.hidden_units_ = np.inf
        return self

    def _learnt_layer(self):
        check_is_fitted(self)
        return {"x": self.x_fit_}

    def _restore_layer(self, arrays):
        self.x_fit_ = arrays["x"]


def _project(matrix, axis):
    """PAP of a symmetric A [n, n], P = I - qqᵀ with q the axis [n]."""
    row = matrix @ axis
    row = row - axis * (axis @ row) / 2
    return matrix - axis[:, None] * row[None, :] - row[:, None] * axis[None, :]


class ArcCosineClassifier(_ArcCosine, ClassifierReadout):
    """Ridge regression of ±1 targets with the arc-cosine kernel: the ELM of infinitely many units.

    Args:
        ridge: λ in units of the kernel's mean diagonal (weighted, centred with an intercept), at least 0; several,
            of which `select` chooses one.
        fit_intercept: whether the outputs have an intercept, which is not penalised.
        select: None, `validation`, `kfold`, `loo` or `gcv`; all ridges come from one eigendecomposition.
        criterion: `accuracy`, `squared_error` or `auto`: what decides (`readout`).
        folds: number of folds, or a scikit-learn splitter.
        class_weight: None, `balanced` or a dict of weights of labels.
        calibration: None, `temperature` or `platt`: how `predict_proba` is learnt, on clips held out.
        digits: decimal digits of the training predictions below which fit warns.
        random_state: seed of the folds; nothing else is random.

    Attributes:
        x_fit_: the training rows [n, D], those of weight 0 left out.
        output_weights_: dual coefficients α f64[n, K]; of two classes f64[n, 1].
        intercept_: f64[K].
        hidden_units_: infinity.
        ridge_, penalty_, condition_number_, digits_, selection_scores_, classes_, n_features_in_: as in
            `readout.Readout`.

    Reference:
        Cho and Saul (2009).
    """

    def __init__(
        self,
        *,
        ridge=1e-3,
        fit_intercept=True,
        select=None,
        criterion="auto",
        folds=10,
        class_weight=None,
        calibration=None,
        digits=4,
        random_state=0,
    ):
        self.ridge = ridge
        self.fit_intercept = fit_intercept
        self.select = select
        self.criterion = criterion
        self.folds = folds
        self.class_weight = class_weight
        self.calibration = calibration
        self.digits = digits
        self.random_state = random_state


class ArcCosineRegressor(_ArcCosine, RegressorReadout):
    """Ridge regression with the arc-cosine kernel: the ELM of infinitely many units.

    Args:
        ridge, fit_intercept, select, folds, digits, random_state: as of `ArcCosineClassifier`.
        criterion: `squared_error` or `auto`, which are one here.

    Attributes: as of `ArcCosineClassifier`, without classes.

    Reference:
        Cho and Saul (2009).
    """

    def __init__(
        self,
        *,
        ridge=1e-3,
        fit_intercept=True,
        select=None,
        criterion="auto",
        folds=10,
        digits=4,
        random_state=0,
    ):
        self.ridge = ridge
        self.fit_intercept = fit_intercept
        self.select = select
        self.criterion = criterion
        self.folds = folds
        self.digits = digits
        self.random_state = random_state

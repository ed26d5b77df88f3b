"""Ridge regression on a kernel matrix, all ridges from one eigendecomposition.

Conventions
-----------
`kernel K f[n, n]` of the rows fitted, `targets f[n, K]`, w ≥ 0 a weight per row. The function Σ_i α_i k(x_i, x) + b
minimises

    Σᵢ wᵢ |yᵢ − (Kα)ᵢ − b|² + λ αᵀKα,    α = √w (√w K √w + λ)⁻¹ √w (Y − b),

K and Y being centred with an intercept. Folds are left out as in `closed_form` for more units than rows.

Source
------
Saunders, Gammerman and Vovk (1998), Ridge regression learning algorithm in dual variables, ICML; Rifkin and Lippert
(2007), Notes on regularized least squares, MIT-CSAIL-TR-2007-025.

Names
-----
* `KernelPath`: all ridges for a given kernel matrix
* `is_rounding`: whether a centred kernel is nothing else
"""

import functools
import warnings

import numpy as np

from mirjax.classifiers.arithmetic import one_blas_thread
from mirjax.classifiers.inverses import SpectralInverse, held_out_of_inverse, kernel_spectrum
from mirjax.classifiers.path import RegressionPath, checked_matrix
from mirjax.classifiers.pseudo_inverse import CUTOFF
from mirjax.classifiers.solvers import PrecisionWarning


def is_rounding(centred, kernel, weight):
    """Whether all of √w PKP √w [n, n] is rounding of K [n, n], of which a `PrecisionWarning` is given."""
    spread = np.trace(centred)
    rounding = 10 * np.finfo(kernel.dtype).eps * (weight @ np.abs(np.diagonal(kernel)))
    if len(kernel) == 1 or not rounding or spread > rounding or np.diagonal(centred).min() < -rounding:
        return False
    warnings.warn(
        f"the rows differ by rounding only (spread {spread:.1g}, rounding {rounding:.1g}), and the predictions are the "
        "mean: scale or standardise the features",
        PrecisionWarning,
        stacklevel=3,
    )
    return True


class KernelPath(RegressionPath):
    """Ridge regression on a kernel matrix for all ridges: `RidgePath` in its dual, one eigendecomposition for all.

    With α in place of β: predictions k(x)ᵀα + b, penalty λ αᵀKα. If K = HHᵀ, they are those of H with the same λ. A
    ridge of 0 keeps the eigenvalues above `CUTOFF` of the largest.

    Args:
        kernel: K f[n, n], symmetric, positive semidefinite.
        targets: f[n, K], finite.
        ridges: penalties in units of the (weighted) mean diagonal of K, centred if there is an intercept; at least 0.
        sample_weight: f[n], at least 0; a weight of 2 is the row twice, of 0 no row.
        fit_intercept: whether a constant is fitted, without penalty.

    Attributes:
        sizes: (n,).
        ridges: f64[R], as given.
        penalties: f64[R], λ.

    Raises:
        ValueError: as `RidgePath`; a kernel that is not square, symmetric and (seen when first solved) positive
            semidefinite.
    """

    def __init__(self, kernel, targets, *, ridges, sample_weight=None, fit_intercept=False):
        kernel = self._kernel = checked_matrix("kernel", kernel)
        if kernel.shape[0] != kernel.shape[1]:
            raise ValueError(f"kernel has shape {kernel.shape}; the kernel of the rows fitted is square")
        asymmetry = np.abs(kernel - kernel.T).max()
        if asymmetry > 1e3 * np.finfo(kernel.dtype).eps * np.abs(kernel).max():
            raise ValueError(f"kernel differs from its transpose by {asymmetry:.3g}; give a symmetric matrix")
        super().__init__(len(kernel), targets, ridges, sample_weight, fit_intercept, np.float64)
        self.sizes = (len(kernel),)
        with one_blas_thread():
            kernel = kernel[np.ix_(self._live, self._live)].astype(np.float64)
            kernel = (kernel + kernel.T) / 2
            self._mean_kernel = np.zeros(len(kernel))
            if fit_intercept:
                share = self._weight[self._live] / self._total
                self._mean_kernel = kernel @ share
                kernel = kernel - self._mean_kernel[:, None] - self._mean_kernel[None, :] + self._mean_kernel @ share
            self._centred = kernel * self._root[:, None] * self._root[None, :]
            # Entries are rounded as K's are, not as the smaller centred ones.
            weight, whole = self._weight[self._live], self._kernel[np.ix_(self._live, self._live)]
            self._rounding = len(whole) * np.finfo(whole.dtype).eps * np.abs(whole).max() * weight.max()
            if is_rounding(self._centred, whole, weight):
                self._centred = np.zeros_like(self._centred)
            self._set_scale(np.trace(self._centred) / self._total)

    @functools.cached_property
    def _spectrum(self):
        lowest, values, vectors = kernel_spectrum(self._centred, self._unit)
        if lowest < -self._rounding - 1e-8 * values[-1:].sum():
            raise ValueError(
                f"kernel has the eigenvalue {lowest:.3g} beside {values[-1]:.3g}; it must be positive semidefinite: "
                "use another kernel or add to its diagonal"
            )
        return np.where(values > self._rounding, values, 0.0), vectors

    def _inverse(self, ridge):
        values, vectors = self._spectrum
        if not self.ridges[ridge]:
            kept = values > CUTOFF * values[-1:].sum()
            values, vectors = values[kept], vectors[:, kept]
        return SpectralInverse(vectors, values, self.penalties[ridge])

    def _dual_weights(self, ridge):
        weights = np.zeros_like(self._all_targets)
        weights[self._live] = self._inverse(ridge).solve(self._targets) * self._root[:, None]
        return weights, self._mean_targets - self._mean_kernel @ weights[self._live]

    @one_blas_thread()
    def solve(self, size_index, ridge_index):
        """Dual weights α f64[n, K] and intercept f64[K] for one ridge; `size_index` is 0."""
        self._check_cell(size_index, ridge_index)
        return self._dual_weights(ridge_index)

    @one_blas_thread()
    def predict(self, kernel):
        """Predictions for all ridges.

        Args:
            kernel: f[m, n], of the rows to be predicted with the rows fitted.

        Returns:
            f64[1, R, m, K].

        Raises:
            ValueError: not a finite matrix of n columns.
        """
        kernel = checked_matrix("kernel", kernel)
        if kernel.shape[1] != len(self._kernel):
            raise ValueError(f"kernel has {kernel.shape[1]} columns, the kernel fitted {len(self._kernel)} rows")
        out = np.empty(self._shape(len(kernel), self._all_targets.shape[1]))
        for j in range(len(self.ridges)):
            weights, intercept = self._dual_weights(j)
            out[0, j] = kernel @ weights + intercept[None, :]
        return out

    def fitted(self):
        """Predictions for the rows fitted: f64[1, R, n, K]."""
        return self.predict(self._kernel)

    def _without(self, rows):
        keep = np.delete(np.arange(len(self._kernel)), rows)
        path = KernelPath(
            self._kernel[np.ix_(keep, keep)],
            self._all_targets[keep],
            ridges=self.ridges,
            sample_weight=self._weight[keep],
            fit_intercept=self._fit_intercept,
        )
        path.penalties = self.penalties
        path._rows = keep
        return path

    _rows = slice(None)

    def _seen_from(self, rows, path):
        return self._kernel[rows][:, path._rows]

    def _held_out(self, folds):
        out = np.full(self._shape(*self._targets.shape), np.nan)
        for j in range(len(self.ridges)):
            held_out_of_inverse(self._inverse(j), self._targets, folds, out[0, j])
        return out

    def _training_cells(self):
        rows = len(self._live) - (0 if self._unit is None else 1)
        for j, penalty in enumerate(self.penalties):
            inverse = self._inverse(j)
            dual = inverse.solve(self._targets)
            if penalty:
                yield 0, j, penalty * inverse.trace(), penalty * dual
            else:
                yield 0, j, rows - inverse.rank, self._targets - self._centred @ dual

    @one_blas_thread()
    def condition_numbers(self):
        """Condition number of K + λ (weighted; centred if there is an intercept), from its eigenvalues: f64[1, R].

        For ridge 0 that of the part of K above the cut-off.
        """
        values, _ = self._spectrum
        kept = values[values > CUTOFF * values[-1:].sum()]
        lowest = np.where(self.ridges > 0, values[:1].sum(), kept[:1].sum())
        if not len(kept):
            return np.ones(self._shape())
        return ((values[-1] + self.penalties) / (lowest + self.penalties))[None, :]

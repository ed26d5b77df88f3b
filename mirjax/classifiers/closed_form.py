"""Ridge regression in closed form: one factorisation for all ridges, nested sizes and held-out rows.

Conventions
-----------
`hidden f[n, H]` activations, `targets f[n, K]`, w ≥ 0 a weight per row (1 without). A *size* h stands for the first h
hidden units, a *ridge* r for the penalty λ = r · mean diagonal of the full-width Gram matrix, one λ for all sizes and
folds. A cell (size, ridge) minimises

    Σᵢ wᵢ |yᵢ − hᵢβ − b|² + λ|β|²        (b = 0 without an intercept).

In the rows' own units, A = √w (H − mean), B = √w (Y − mean) and u = √w / |√w| (means and u only with an intercept),

    β = (AᵀA + λ)⁻¹ AᵀB = Aᵀ(AAᵀ + λ)⁻¹B,        S = A (AᵀA + λ)⁻¹ Aᵀ + uuᵀ,

and without the rows f of a fold the held-out residuals are x_f = (I − S)_ff⁻¹ (B − Aβ)_f, exactly. The work:

* h ≤ n: AᵀA + λ = LLᵀ once a ridge. Leading blocks of L belong to fewer units, and so do the first columns of
  Q = AL⁻ᵀ, where S = QQᵀ + uuᵀ: fits, leverages and fold blocks of all sizes are partial sums. Where that is cheaper,
  AᵀA = V diag(μ) Vᵀ once a size, Q = AV (μ + λ)^−½ for all ridges.
* h > n: K = AAᵀ grows by blocks of units. K = U diag(μ) Uᵀ once a size gives P = (K + λ)⁻¹ for all ridges (a Cholesky
  factor for few), and I − S = λP beside u, so that x_f = P_ff⁻¹ (PB)_f. u is split off as an eigenvector.
* Where rounding times the condition number exceeds 1e-6 (float32: 1e-2), L comes from a QR decomposition of A (h > n:
  of Aᵀ) once, then of its triangle over √λ I, whose error grows with the root of the condition number only. A fold
  whose leverages are so near 1 that (I − S)_ff loses its digits is fitted again without its rows.

Source
------
Golub, Heath and Wahba (1979), Generalized cross-validation as a method for choosing a good ridge parameter,
Technometrics 21; Rifkin and Lippert (2007), Notes on regularized least squares, MIT-CSAIL-TR-2007-025.

Names
-----
* `RidgePath`: all sizes and ridges for given activations

`inverses` has the factorisations, `path` what is asked of them, `kernel_path` the same for a kernel matrix.
"""

import functools

import numpy as np
from scipy.linalg import eigh, get_lapack_funcs, qr, solve_triangular, svd

from mirjax.classifiers.arithmetic import one_blas_thread
from mirjax.classifiers.inverses import (
    CHOLESKY,
    EIGH,
    INVERSE,
    PASSES,
    PRODUCT,
    TRIANGULAR,
    cholesky,
    dual_inverses,
    eigen,
    fit_residuals,
    held_out_of_inverse,
    leading_solve,
    leave_fold_out_of,
    leave_one_out_of,
    plus_diagonal,
    trusts,
)
from mirjax.classifiers.path import RegressionPath, checked_matrix
from mirjax.classifiers.pseudo_inverse import CUTOFF

_PANEL = 64  # columns that LAPACK reflects at a time


class RidgePath(RegressionPath):
    """Ridge regression on hidden activations for all sizes and ridges; holds the problem, solves on request.

    The matrices are not copied and must not be changed afterwards. Apart from the results [S, R, n, K], memory is a
    few matrices like the activations. A ridge of 0 is the pseudo-inverse with `CUTOFF`, always in float64.

    Args:
        hidden: f[n, H], finite.
        targets: f[n, K], finite.
        sizes: numbers of leading hidden units, ascending, from 1 to H; None is H alone.
        ridges: penalties in units of the mean diagonal of the full-width Gram matrix AᵀA, at least 0.
        sample_weight: f[n], at least 0; a weight of 2 is the row twice, of 0 no row.
        fit_intercept: whether a constant is fitted, without penalty.
        dtype: float64 or float32, the arithmetic; results are float64. In float32, held-out predictions differ by
            up to about 1e-2 of the largest at a ridge of 1e-4, 2e-3 at 1e-2, 1e-4 at 0.1 (digits, 500 units); small
            ridges need the slower QR and singular values, so that it is then no faster than float64.

    Attributes:
        sizes: tuple of ints [S].
        ridges: f64[R], as given.
        penalties: f64[R], λ.

    Raises:
        ValueError: shapes that do not fit, no rows, values that are not finite, sizes not ascending or above H, a
            negative ridge or weight.
    """

    def __init__(
        self, hidden, targets, *, sizes=None, ridges, sample_weight=None, fit_intercept=False, dtype=np.float64
    ):
        self._hidden = checked_matrix("hidden", hidden)
        super().__init__(len(self._hidden), targets, ridges, sample_weight, fit_intercept, dtype)
        width = self._hidden.shape[1]
        self.sizes = (width,) if sizes is None else tuple(int(size) for size in sizes)
        if not self.sizes or self.sizes[0] < 1 or self.sizes[-1] > width or (np.diff(self.sizes) < 1).any():
            raise ValueError(f"sizes={self.sizes} must ascend from at least 1 to at most the {width} hidden units")
        with one_blas_thread():
            self._mean_hidden, scaled = np.zeros(width), self._hidden
            if len(self._live) < len(scaled):
                scaled = scaled[self._live]
            if fit_intercept:
                self._mean_hidden = self._mean(self._hidden)
                scaled = scaled - self._mean_hidden[None, :]
                # What is left of a constant unit is rounding.
                rounding = 10 * np.finfo(self._hidden.dtype).eps * np.abs(self._mean_hidden)
                scaled[:, np.abs(scaled).max(0) <= rounding] = 0
            if sample_weight is not None:
                scaled = scaled * self._root[:, None]
            self._set_scale(np.einsum("nh,nh->", scaled, scaled, dtype=np.float64) / width)
            # In C order, for products of the leading columns.
            self._activations = np.ascontiguousarray(scaled, self._dtype)
        self._kept_kernel = {}
        self._plan()

    def _plan(self):
        """Which sizes are solved by AᵀA and which by AAᵀ, and for which ridges."""
        self._primal = [i for i, size in enumerate(self.sizes) if size <= len(self._live)]
        self._dual = list(range(len(self._primal), len(self.sizes)))
        self._positive = np.flatnonzero(self.ridges)

    @functools.cached_property
    def _gram(self):
        leading = self._activations[:, : self.sizes[self._primal[-1]]]
        return leading.T @ leading

    @functools.cached_property
    def _gram_norm(self):
        return np.abs(self._gram).sum(0).max()

    def _kernels(self):
        """AAᵀ of every size above n, each grown from the one before; that of the most units is kept."""
        kernel, start = 0, 0
        for i in self._dual:
            size = self.sizes[i]
            if size in self._kept_kernel:
                kernel = self._kept_kernel[size]
            else:
                block = self._activations[:, start:size]
                kernel = kernel + block @ block.T
            start = size
            yield i, kernel
        if self._dual:
            self._kept_kernel = {start: kernel}

    def _triangle(self, penalty, width):
        """L and L⁻¹AᵀB for the first `width` units: by Cholesky, or by QR where that would lose too many digits."""
        bound = penalty / (self._gram_norm + penalty)
        factor, reciprocal = cholesky(plus_diagonal(self._gram[:width, :width], penalty), bound)
        leading = self._activations[:, :width]
        if factor is not None and trusts(reciprocal, self._dtype):
            moment = leading.T @ self._targets
            return factor, solve_triangular(factor, moment, lower=True, check_finite=False)
        # The triangle of [R, C; √λ I, 0] is [Lᵀ, L⁻¹AᵀB; 0, ·]; two triangles cost h³ · 2/3, whatever n.
        triangle, moment = (a[:width] for a in self._row_triangle)
        triangle = triangle[:, :width]
        tpqrt, tpmqrt = get_lapack_funcs(("tpqrt", "tpmqrt"), (triangle,))
        damping = np.asfortranarray(np.sqrt(penalty) * np.eye(width, dtype=self._dtype))
        triangle, reflectors, factors, _ = tpqrt(width, min(_PANEL, width), triangle, damping, overwrite_b=1)
        moment = tpmqrt(width, reflectors, factors, moment, np.zeros_like(moment), trans="T")[0]
        return np.asfortranarray(triangle.T), moment

    @functools.cached_property
    def _row_triangle(self):
        """R [h, h] and C [h, K] of the most units up to n: AᵀA = RᵀR and AᵀB = RᵀC, with the digits that AᵀA loses.

        Leading blocks belong to fewer units.
        """
        width = self.sizes[self._primal[-1]]
        both = np.concatenate([self._activations[:, :width], self._targets], 1)
        (triangle,) = qr(both, mode="r", overwrite_a=True, check_finite=False)
        return triangle[:width, :width].copy(order="F"), triangle[:width, width:].copy(order="F")

    def _prefers_spectrum(self, *, rows=0, fold=0, inverse=0.0):
        """Whether an eigendecomposition per size is cheaper than a Cholesky factor per ridge, by operations.

        Args:
            rows: of Q, if that is needed.
            fold: mean number of rows of a fold, if fold blocks are needed.
            inverse: what is spent on L⁻¹, in units of h³.
        """
        h = np.array([self.sizes[i] for i in self._primal], np.float64)
        ridges = len(self._positive)
        nested = ridges * ((CHOLESKY + inverse) * h**3 + TRIANGULAR * rows * h**2 + rows * (fold + PASSES) * h)[-1]
        return nested > (EIGH * h**3 + PRODUCT * rows * h**2 + ridges * rows * (fold + PASSES) * h).sum()

    def _primal_spectra(self):
        """Of every size up to n: eigenvalues, eigenvectors, and the ridges for which they have digits enough."""
        for i in self._primal:
            values, vectors = eigen(self._gram[: self.sizes[i], : self.sizes[i]])
            values = np.maximum(values, 0)
            penalties = self.penalties[self._positive]
            trusted = trusts((values[0] + penalties) / (values[-1] + penalties), self._dtype)
            yield i, values, vectors, self._positive[trusted], self._positive[~trusted]

    # Weights ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _singular(self, size, dtype):
        """UᵀB, singular values and Vᵀ of A."""
        activations = self._activations[:, :size].astype(dtype, copy=False)
        u, s, vt = svd(activations, full_matrices=False, check_finite=False)
        return u.T @ self._targets, s, vt

    def _pseudo_inverse(self, size):
        """pinv(A) B and the singular values above the cut-off, in float64."""
        moment, s, vt = self._singular(size, np.float64)
        rank = int((s > CUTOFF * s[0]).sum())
        return vt[:rank].T @ (moment[:rank] / s[:rank, None]), s[:rank]

    def _triangular_weights(self, ridge, size_indices):
        factor, moment = self._triangle(self.penalties[ridge], self.sizes[size_indices[-1]])
        for i in size_indices:
            yield i, ridge, leading_solve(factor, moment, self.sizes[i])

    def _weights(self):
        """(size index, ridge index, β [h, K]) of all cells."""
        for j in np.flatnonzero(self.ridges == 0):
            for i, size in enumerate(self.sizes):
                yield i, j, self._pseudo_inverse(size)[0]
        if self._primal and self._prefers_spectrum():
            moment = self._activations[:, : len(self._gram)].T @ self._targets
            for i, values, vectors, trusted, others in self._primal_spectra():
                rotated = vectors.T @ moment[: self.sizes[i]]
                for j in trusted:
                    yield i, j, vectors @ (rotated / (values + self.penalties[j])[:, None]).astype(self._dtype)
                for j in others:
                    yield from self._triangular_weights(j, [i])
        elif self._primal:
            for j in self._positive:
                yield from self._triangular_weights(j, self._primal)
        if self._dual and len(self._positive):
            for i, kernel in self._kernels():
                leading = self._activations[:, : self.sizes[i]]
                singular = None
                inverses = dual_inverses(kernel, self._unit, self.penalties[self._positive])
                for j, inverse in zip(self._positive, inverses, strict=True):
                    if inverse is not None:
                        yield i, j, leading.T @ inverse.solve(self._targets)
                        continue
                    moment, values, vt = singular = singular or self._singular(self.sizes[i], self._dtype)
                    shares = (values / (values**2 + self.penalties[j])).astype(self._dtype)
                    yield i, j, vt.T @ (shares[:, None] * moment)

    @one_blas_thread()
    def solve(self, size_index, ridge_index):
        """Weights f64[h, K] and intercept f64[K] of one cell, without solving the others."""
        self._check_cell(size_index, ridge_index)
        path = self._cells([size_index], [ridge_index])
        ((_, _, weights),) = path._weights()
        weights = weights.astype(np.float64, copy=False)
        return weights, self._mean_targets - self._mean_hidden[: len(weights)] @ weights

    def _cells(self, sizes, ridges):
        """The same problem, some of the cells only."""
        path = object.__new__(RidgePath)
        path.__dict__.update(
            {name: value for name, value in self.__dict__.items() if name not in ("_gram", "_gram_norm")}
        )
        path.sizes = tuple(self.sizes[i] for i in sizes)
        path.ridges, path.penalties = self.ridges[ridges], self.penalties[ridges]
        path._plan()
        if path._primal and "_gram" in self.__dict__:
            width = path.sizes[path._primal[-1]]
            path.__dict__["_gram"] = self._gram[:width, :width]
        return path

    @one_blas_thread()
    def predict(self, hidden):
        """Predictions of all cells for other rows.

        Args:
            hidden: f[m, H], finite.

        Returns:
            f64[S, R, m, K].

        Raises:
            ValueError: not a finite matrix of H columns.
        """
        hidden = checked_matrix("hidden", hidden)
        if hidden.shape[1] != self._hidden.shape[1]:
            raise ValueError(f"hidden has {hidden.shape[1]} units, the fitted activations {self._hidden.shape[1]}")
        if self._fit_intercept:
            hidden = hidden - self._mean_hidden[None, :]
        hidden = hidden.astype(self._dtype, copy=False)
        out = np.empty(self._shape(len(hidden), self._all_targets.shape[1]))
        for i, j, weights in self._weights():
            weights = weights.astype(self._dtype, copy=False)
            out[i, j] = hidden[:, : len(weights)] @ weights + self._mean_targets[None, :]
        return out

    def fitted(self):
        """Predictions of all cells for the rows fitted: f64[S, R, n, K]."""
        return self.predict(self._hidden)

    # Held-out rows ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _without(self, rows, sizes=slice(None), ridges=slice(None)):
        """The problem without some rows, at the same penalties."""
        keep = np.delete(np.arange(len(self._weight)), rows)
        path = RidgePath(
            self._hidden[keep],
            self._all_targets[keep],
            sizes=np.array(self.sizes)[sizes],
            ridges=self.ridges[ridges],
            sample_weight=self._weight[keep],
            fit_intercept=self._fit_intercept,
            dtype=self._dtype,
        )
        path.penalties = self.penalties[ridges]
        return path

    def _seen_from(self, rows, path):
        return self._hidden[rows]

    def _refit(self, rows, sizes, ridge):
        """Scaled held-out residuals of live rows [f] for some sizes and one ridge, by a fit without the rows."""
        rows_of_all = self._live[rows]
        predicted = self._without(rows_of_all, sizes, [ridge]).predict(self._hidden[rows_of_all])[:, 0]
        return (self._all_targets[rows_of_all] - predicted) * self._root[rows, None]

    def _hat_factors(self, fold):
        """(size indices, ridge index, Q) for all sizes up to n: S = QQᵀ + uuᵀ; `fold` rows in a fold, for the cost."""
        if not self._primal:
            return
        leading = self._activations[:, : len(self._gram)]

        def triangular(size_indices, j):
            width = self.sizes[size_indices[-1]]
            factor, _ = self._triangle(self.penalties[j], width)
            return size_indices, j, solve_triangular(factor, leading[:, :width].T, lower=True, check_finite=False).T

        if self._prefers_spectrum(rows=len(self._activations), fold=fold):
            for i, values, vectors, trusted, others in self._primal_spectra():
                rotated = leading[:, : self.sizes[i]] @ vectors
                for j in trusted:
                    yield [i], j, rotated * (1 / np.sqrt(values + self.penalties[j])).astype(self._dtype)[None, :]
                for j in others:
                    yield triangular([i], j)
        else:
            for j in self._positive:
                yield triangular(self._primal, j)

    def _held_out(self, folds):
        """Scaled held-out residuals [S, R, n, K] of the live rows, NaN for those of no fold; folds None: each alone."""
        out = np.full(self._shape(*self._targets.shape), np.nan)
        for size_indices, j, q in self._hat_factors(0 if folds is None else np.mean([len(rows) for rows in folds])):
            ends = [self.sizes[i] for i in size_indices]
            residuals = fit_residuals(q, ends, self._targets)
            if folds is None:
                out[size_indices, j], lost = leave_one_out_of(q, self._unit, ends, residuals)
                lost = [(size_indices[k], np.array([row])) for k, row in zip(*np.nonzero(lost), strict=True)]
            else:
                lost = []
                for rows in folds:
                    unit = None if self._unit is None else self._unit[rows]
                    for i, x in zip(
                        size_indices, leave_fold_out_of(q[rows], unit, ends, residuals[:, rows]), strict=True
                    ):
                        if x is None:
                            lost.append((i, rows))
                        else:
                            out[i, j, rows] = x
            for i, rows in lost:
                out[i, j, rows] = self._refit(rows, [i], j)[0]
        for i, kernel in self._kernels():
            inverses = dual_inverses(kernel, self._unit, self.penalties, self._activations[:, : self.sizes[i]])
            for j, inverse in enumerate(inverses):
                for rows in held_out_of_inverse(inverse, self._targets, folds, out[i, j]):
                    out[i, j, rows] = self._refit(rows, [i], j)[0]
        return out

    def _training_cells(self):
        """(size index, ridge index, n − df, scaled residuals [n, K]) of all cells."""
        rows = len(self._live) - (0 if self._unit is None else 1)
        for j in np.flatnonzero(self.ridges == 0):
            for i, size in enumerate(self.sizes):
                weights, values = self._pseudo_inverse(size)
                yield i, j, rows - len(values), self._targets - self._activations[:, :size] @ weights
        if self._primal and self._prefers_spectrum(inverse=INVERSE):
            for i, values, vectors, trusted, others in self._primal_spectra():
                leading = self._activations[:, : self.sizes[i]]
                rotated = vectors.T @ (leading.T @ self._targets)
                for j in trusted:
                    weights = vectors @ (rotated / (values + self.penalties[j])[:, None]).astype(self._dtype)
                    degrees = (values / (values + self.penalties[j])).sum(dtype=np.float64)
                    yield i, j, rows - degrees, self._targets - leading @ weights
                for j in others:
                    yield from self._triangular_training_cells(j, [i])
        elif self._primal:
            for j in self._positive:
                yield from self._triangular_training_cells(j, self._primal)
        if len(self._positive):
            for i, kernel in self._kernels():
                penalties = self.penalties[self._positive]
                inverses = dual_inverses(kernel, self._unit, penalties, self._activations[:, : self.sizes[i]])
                for j, inverse in zip(self._positive, inverses, strict=True):
                    # I − S = λP beside u.
                    yield i, j, self.penalties[j] * inverse.trace(), self.penalties[j] * inverse.solve(self._targets)

    def _triangular_training_cells(self, ridge, size_indices):
        rows = len(self._live) - (0 if self._unit is None else 1)
        factor, moment = self._triangle(self.penalties[ridge], self.sizes[size_indices[-1]])
        # tr(A (AᵀA + λ)⁻¹ Aᵀ) = h − λ |L⁻¹|², where L⁻¹ is nested as L is.
        (trtri,) = get_lapack_funcs(("trtri",), (factor,))
        norms = np.cumsum((trtri(factor, lower=1)[0] ** 2).sum(1, dtype=np.float64))
        for i in size_indices:
            size = self.sizes[i]
            weights = leading_solve(factor, moment, size)
            free = rows - size + self.penalties[ridge] * norms[size - 1]
            yield i, ridge, free, self._targets - self._activations[:, :size] @ weights

    def _estimated_conditions(self, penalty):
        gram = self._gram
        factor, _ = cholesky(plus_diagonal(gram, penalty))
        for i in self._primal:
            size = self.sizes[i]
            if factor is None:
                s = svd(self._activations[:, :size], compute_uv=False, check_finite=False).astype(np.float64)
                yield (s[0] ** 2 + penalty) / (s[-1] ** 2 + penalty)
            else:
                (pocon,) = get_lapack_funcs(("pocon",), (factor,))
                norm = (np.abs(gram[:size, :size]).sum(0) + penalty).max()
                yield 1 / max(pocon(factor[:size, :size], norm, uplo="L")[0], np.finfo(np.float64).tiny)

    @one_blas_thread()
    def condition_numbers(self):
        """Condition number of AᵀA + λ (centred if there is an intercept): f64[S, R].

        From eigenvalues (2-norm) for h > n and where there are many ridges, else LAPACK's estimate from the Cholesky
        factor (1-norm, which is up to √h times larger); for ridge 0 that of the part of AᵀA above the cut-off.
        """
        out = np.empty(self._shape())
        for j in np.flatnonzero(self.ridges == 0):
            for i, size in enumerate(self.sizes):
                kept = self._pseudo_inverse(size)[1]
                out[i, j] = (kept[0] / kept[-1]) ** 2 if len(kept) else 1.0
        if self._primal and self._prefers_spectrum():
            for i, values, *_ in self._primal_spectra():
                penalties = self.penalties[self._positive]
                out[i, self._positive] = (values[-1] + penalties) / (values[0] + penalties)
        elif self._primal:
            for j in self._positive:
                out[self._primal, j] = list(self._estimated_conditions(self.penalties[j]))
        if len(self._positive):
            for i, kernel in self._kernels():
                last = [len(kernel) - 1] * 2
                (largest,) = eigh(kernel, eigvals_only=True, subset_by_index=last, check_finite=False)
                out[i, self._positive] = 1 + max(largest, 0) / self.penalties[self._positive]
        return out

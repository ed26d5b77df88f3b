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
* Where rounding times the condition number exceeds 1e-6 (float32: 1e-2), L comes from a QR decomposition of A over √λ I
  and U from singular values, whose error grows with the root of the condition number only. A fold whose leverages are
  so near 1 that (I − S)_ff loses its digits is fitted again without its rows.

Source
------
Golub, Heath and Wahba (1979), Generalized cross-validation as a method for choosing a good ridge parameter,
Technometrics 21; Rifkin and Lippert (2007), Notes on regularized least squares, MIT-CSAIL-TR-2007-025.

Names
-----
* `RidgePath`: all sizes and ridges for given activations
* `KernelPath`: all ridges for a given kernel matrix
* `CUTOFF`: singular values at or below this share of the largest count as zero where the ridge is 0
"""

import functools

import numpy as np
from scipy.linalg import cho_solve, get_lapack_funcs, qr, solve_triangular, svd
from scipy.linalg import eigh as _eigh

from mirjax.classifiers.arithmetic import one_blas_thread

CUTOFF = 1e6 * np.finfo(np.float64).eps
"""Singular values at or below this share of the largest count as zero where the ridge is 0."""

_TOLERANCE = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-2}

# Operations on matrices of h columns and n rows, in units of h³ or n h² (the passes over Q: n h) at the rate of a
# matrix product, measured on one core, OpenBLAS, h = 300 to 2500.
_EIGH, _CHOLESKY, _INVERSE, _TRIANGULAR, _PRODUCT, _PASSES = 7.7, 0.45, 0.5, 1.2, 2.0, 300.0


def _on_one_thread(method):
    @functools.wraps(method)
    def run(*args, **kwargs):
        with one_blas_thread():
            return method(*args, **kwargs)

    return run


# ── small pieces ────────────────────────────────────────────────────────────────────────────────────────────────────


def _eigen(matrix):
    return _eigh(matrix, driver="evd", check_finite=False)


def _cholesky(matrix, at_least=0.0):
    """Lower factor and 1 / condition number: a known lower bound if that is enough, else LAPACK's estimate (1-norm).

    (None, 0) if the matrix is not positive definite. The matrix is used up.
    """
    potrf, pocon = get_lapack_funcs(("potrf", "pocon"), (matrix,))
    enough = _trusts(at_least, matrix.dtype)
    norm = None if enough else np.abs(matrix).sum(0).max()
    factor, failed = potrf(matrix, lower=1, clean=1, overwrite_a=1)
    if failed:
        return None, 0.0
    return factor, at_least if enough else pocon(factor, norm, uplo="L")[0]


def _plus_diagonal(matrix, penalty):
    shifted = matrix.T.copy(order="F")  # symmetric
    shifted.flat[:: len(matrix) + 1] += penalty
    return shifted


def _trusts(reciprocal_condition, dtype):
    return np.finfo(dtype).eps <= _TOLERANCE[dtype] * reciprocal_condition


def _leading_solve(factor, moment, size):
    """L⁻ᵀ moment for the leading block of L."""
    return solve_triangular(factor[:size, :size], moment[:size], trans=1, lower=True, check_finite=False)


def _solve_positive(matrix, right, scale=1):
    """matrix⁻¹ right for a part of I − S or, with its scale, P; None where its digits are lost to rounding."""
    (potrf, potrs) = get_lapack_funcs(("potrf", "potrs"), (matrix,))
    factor, failed = potrf(matrix, lower=1, clean=0)
    lost = failed or not _trusts(np.diagonal(factor).min() ** 2 / scale, matrix.dtype)
    return None if lost else potrs(factor, right, lower=1)[0]


# ── h ≤ n: S = QQᵀ + uuᵀ with nested columns ────────────────────────────────────────────────────────────────────────


def _residuals(q, ends, targets):
    """B − QQᵀB for the leading columns of Q: f[S, n, K]."""
    out, fit, start = [], np.zeros_like(targets), 0
    for end in ends:
        block = q[:, start:end]
        fit = fit + block @ (block.T @ targets)
        out.append(targets - fit)
        start = end
    return np.stack(out)


def _leave_one_out_of(q, unit, ends, residuals):
    """x_i = r_i / (1 − S_ii) for all sizes, and which of them lost their digits: f[S, n, K], bool[S, n]."""
    squares = np.stack([(q[:, start:end] ** 2).sum(1) for start, end in zip((0, *ends), ends, strict=False)])
    rest = 1 - np.cumsum(squares, 0) - (0 if unit is None else unit**2)
    lost = ~_trusts(np.maximum(rest, 0), q.dtype)
    return residuals / np.where(lost, 1, rest)[:, :, None], lost


def _leave_fold_out_of(q, unit, ends, residuals):
    """x_f = (I − S_ff)⁻¹ r_f of one fold for all sizes; None where its digits are lost.

    For fewer units than rows, (I − QQᵀ)⁻¹ = I + VVᵀ with V = QT⁻ᵀ and I − QᵀQ = TTᵀ, whose leading blocks belong to
    fewer units; for more, I − S_ff itself, a sum over blocks of units.

    Args:
        q: the fold's rows of Q, [f, h].
        unit: the fold's part of u, [f], or None.
        ends: sizes in ascending order [S].
        residuals: [S, f, K].
    """
    if unit is not None:  # one more unit, the first
        q, ends = np.concatenate([unit[:, None], q], 1), [end + 1 for end in ends]
    few = sum(end < len(q) for end in ends)
    out = []
    if few:
        factor, _ = _cholesky(_plus_diagonal(-(q[:, : ends[few - 1]].T @ q[:, : ends[few - 1]]), 1), 1.0)
        if factor is None or not _trusts(np.diagonal(factor).min() ** 2, q.dtype):
            out = [None] * few
        else:
            v = solve_triangular(factor, q[:, : ends[few - 1]].T, lower=True, check_finite=False).T
            out = [r + v[:, :end] @ (v[:, :end].T @ r) for end, r in zip(ends[:few], residuals, strict=False)]
    rest, start = np.eye(len(q), dtype=q.dtype) if few < len(ends) else None, 0
    for end, r in zip(ends[few:], residuals[few:], strict=True):
        rest -= q[:, start:end] @ q[:, start:end].T
        out.append(_solve_positive(rest, r))
        start = end
    return out


# ── h > n: P = (K + λ)⁻¹ beside u ───────────────────────────────────────────────────────────────────────────────────


class _SpectralInverse:
    """P = U diag(1 / (μ + λ)) Uᵀ."""

    def __init__(self, vectors, values, penalty):
        self._vectors, self._inverse = vectors, (1 / (values + penalty)).astype(vectors.dtype)
        self.rank = len(values)

    def solve(self, right):
        return self._vectors @ (self._inverse[:, None] * (self._vectors.T @ right))

    def diagonal(self):
        return self._vectors**2 @ self._inverse

    def block(self, rows):
        half = self._vectors[rows] * np.sqrt(self._inverse)[None, :]
        return half @ half.T

    def trace(self):
        return self._inverse.sum(dtype=np.float64)


class _CholeskyInverse:
    """P = WᵀW − shift uuᵀ, with W = L⁻¹ and LLᵀ = K + λ + uuᵀ (1 / shift − λ)."""

    def __init__(self, factor, unit, shift):
        self._factor, self._unit, self._shift = factor, unit, shift

    @functools.cached_property
    def _half(self):
        (trtri,) = get_lapack_funcs(("trtri",), (self._factor,))
        return trtri(self._factor, lower=1)[0]

    def solve(self, right):  # right is orthogonal to u
        return cho_solve((self._factor, True), right, check_finite=False)

    def diagonal(self):
        return (self._half**2).sum(0) - (0 if self._unit is None else self._shift * self._unit**2)

    def block(self, rows):
        half = self._half[:, rows]
        unit = 0 if self._unit is None else self._shift * np.outer(self._unit[rows], self._unit[rows])
        return half.T @ half - unit

    def trace(self):
        return (self._half**2).sum(dtype=np.float64) - (0 if self._unit is None else self._shift)


def _inverses(kernel, unit, penalties, activations=None):
    """P for every penalty > 0, in order.

    Args:
        kernel: K = AAᵀ, [n, n].
        unit: u [n], an eigenvector of K to be left out, or None.
        penalties: [R].
        activations: A [n, h], for when K has lost too many digits; None if `solve` alone will be asked of P, which
            is then None in such a case (and Aᵀ(PB) no way to get β, whatever P).
    """
    values, vectors = None, None
    if len(penalties) * (_CHOLESKY + (0 if activations is None else _INVERSE)) > _EIGH:
        _, values, vectors = _kernel_spectrum(kernel, unit)
    exact = None
    shift = np.trace(kernel) / len(kernel) or 1.0
    for penalty in penalties:
        if values is not None:
            reciprocal = (values[0] + penalty) / (values[-1] + penalty)
            inverse = _SpectralInverse(vectors, values, penalty)
        else:
            shifted = _plus_diagonal(kernel, penalty)
            if unit is not None:
                shifted += shift * np.outer(unit, unit)
            factor, reciprocal = _cholesky(shifted)
            inverse = _CholeskyInverse(factor, unit, 1 / (shift + penalty))
        if not _trusts(reciprocal, kernel.dtype):
            if activations is None:
                yield None
                continue
            exact = exact or _activation_spectrum(activations, unit)
            inverse = _SpectralInverse(exact[1], exact[0], penalty)
        yield inverse


def _kernel_spectrum(kernel, unit):
    """The lowest eigenvalue; eigenvalues [r], ascending and at least 0, and eigenvectors [n, r] of K but for u."""
    if unit is None:
        values, vectors = _eigen(kernel)
        return values[0], np.maximum(values, 0), vectors
    # u, of eigenvalue 0, is moved above all others, where no other eigenvector mixes with it.
    above = 2 * np.linalg.norm(kernel) or 1.0
    values, vectors = _eigen(kernel + above * np.outer(unit, unit))
    return values[0], np.maximum(values[:-1], 0), vectors[:, :-1]


def _activation_spectrum(activations, unit):
    """Those eigenvalues and eigenvectors from the singular values of A (h ≥ n), with the digits that AAᵀ loses."""
    columns = activations.T
    if unit is not None:
        above = 2 * np.linalg.norm(activations) or 1.0
        columns = np.concatenate([columns, above * unit[None, :]])
    (triangle,) = qr(columns, mode="r", check_finite=False)
    vectors, values, _ = svd(triangle[: len(activations)].T, check_finite=False)
    first = 0 if unit is None else 1
    return values[first:][::-1] ** 2, vectors[:, first:][:, ::-1]


def _held_out_of_inverse(inverse, targets, folds, out):
    """x_f = P_ff⁻¹ (PB)_f into out [n, K]; returns the folds whose digits are lost: P_ff small beside all of P."""
    dual, diagonal = inverse.solve(targets), inverse.diagonal()
    if folds is None:
        out[:] = dual / diagonal[:, None]
        return [np.array([row]) for row in np.flatnonzero(~_trusts(diagonal / diagonal.max(), dual.dtype))]
    lost = []
    for rows in folds:
        block = inverse.block(rows)
        x = _solve_positive(block, dual[rows], diagonal.max())
        if x is None:
            lost.append(rows)
            x = np.linalg.solve(block, dual[rows])
        out[rows] = x
    return lost


# ── what the two paths share ────────────────────────────────────────────────────────────────────────────────────────


def _matrix(name, values, rows=None):
    values = np.asarray(values)
    if values.dtype != np.float32:
        values = values.astype(np.float64, copy=False)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"{name} has shape {values.shape}; give a matrix of at least one row and one column")
    if rows is not None and len(values) != rows:
        raise ValueError(f"{name} has {len(values)} rows, the activations {rows}; give one row a clip to both")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise ValueError(f"{name} is not finite in row {row}; remove or repair such rows")
    return values


class _Path:
    """Targets, weights and ridges, checked; and all that does not depend on how a cell is solved."""

    def __init__(self, num_rows, targets, ridges, sample_weight, fit_intercept, dtype):
        self._dtype = np.dtype(dtype)
        if self._dtype not in _TOLERANCE:
            raise ValueError(f"dtype={dtype!r} must be float64 or float32")
        self._all_targets = _matrix("targets", targets, num_rows).astype(np.float64, copy=False)
        self.ridges = np.atleast_1d(np.asarray(ridges, np.float64))
        if self.ridges.ndim != 1 or not self.ridges.size:
            raise ValueError(f"ridges={ridges!r} must be a sequence of at least one number")
        if not ((self.ridges >= 0) & np.isfinite(self.ridges)).all():
            raise ValueError(f"ridges={self.ridges.tolist()} must be finite and at least 0")
        weight = np.ones(num_rows) if sample_weight is None else np.asarray(sample_weight, np.float64)
        if weight.shape != (num_rows,) or not ((weight >= 0) & np.isfinite(weight)).all() or not weight.any():
            raise ValueError(
                f"sample_weight of shape {weight.shape} must hold {num_rows} finite numbers of at least 0, not all 0"
            )
        self._weight, self._fit_intercept = weight, bool(fit_intercept)
        self._live = np.flatnonzero(weight)
        self._root = np.sqrt(weight[self._live])
        self._total = weight.sum()
        self._unit = (self._root / np.sqrt(self._total)).astype(self._dtype) if fit_intercept else None
        self._mean_targets = np.zeros(self._all_targets.shape[1])
        if fit_intercept:
            self._mean_targets = self._mean(self._all_targets)
        targets = (self._all_targets[self._live] - self._mean_targets[None, :]) * self._root[:, None]
        self._targets = targets.astype(self._dtype, copy=False)

    def _mean(self, values):
        return self._weight @ values / self._total

    def _set_scale(self, scale):
        # Activations of nothing but zeros have no scale; any penalty gives them weights of 0.
        self.penalties = self.ridges * (scale if scale > 0 else 1.0)
        self.ridges.flags.writeable = self.penalties.flags.writeable = False

    def _need_ridge(self, what):
        if not self.ridges.all():
            raise ValueError(f"{what} needs ridges above 0, these are {self.ridges.tolist()}; leave 0 out or raise it")

    def _shape(self, *rest):
        return (len(self.sizes), len(self.ridges), *rest)

    def _check_cell(self, size_index, ridge_index):
        for name, index, count in zip(("size", "ridge"), (size_index, ridge_index), self._shape(), strict=True):
            if not 0 <= index < count:
                raise ValueError(f"{name}_index={index} must be from 0 to {count - 1}")

    def _check_folds(self, folds):
        num_rows = len(self._weight)
        seen = np.zeros(num_rows, bool)
        checked = []
        for number, rows in enumerate(folds):
            rows = np.asarray(rows)
            if rows.ndim != 1 or not rows.size or not np.issubdtype(rows.dtype, np.integer):
                raise ValueError(f"fold {number} must be a non-empty vector of row numbers, not {rows!r:.60}")
            if rows.min() < 0 or rows.max() >= num_rows:
                raise ValueError(
                    f"fold {number} holds row {rows.min() if rows.min() < 0 else rows.max()}; "
                    f"rows go from 0 to {num_rows - 1}"
                )
            if seen[rows].any() or len(np.unique(rows)) < len(rows):
                raise ValueError(f"fold {number} holds a row twice or one of an earlier fold; a row is held out once")
            if not np.delete(self._weight, rows).any():
                raise ValueError(f"fold {number} leaves no row of positive weight to fit; use more folds")
            seen[rows] = True
            checked.append(rows)
        if not checked:
            raise ValueError("folds is empty; give at least one vector of row numbers")
        return checked

    @_on_one_thread
    def leave_one_out(self):
        """Prediction of every row by the fit without it (PRESS), exact and without refits.

        The fit does not see a row of weight 0, whose prediction is that of the whole fit.

        Returns:
            f64[S, R, n, K].

        Raises:
            ValueError: a ridge of 0, or a single row of positive weight.
        """
        self._need_ridge("leave_one_out")
        if len(self._live) < 2:
            raise ValueError("leave_one_out needs two rows of positive weight or more, there is 1")
        out = np.empty(self._shape(*self._all_targets.shape))
        residuals = self._held_out(None)
        out[:, :, self._live] = self._all_targets[self._live] - residuals / self._root[:, None]
        self._predict_weightless(out, np.arange(len(self._weight)), self)
        return out

    @_on_one_thread
    def leave_out(self, folds):
        """Prediction of every fold's rows by the fit without them, exact and without refits.

        The penalties are those of all rows. The fit does not see rows of weight 0; their predictions are those of
        the fit without the other rows of their fold (which is refitted if it holds such a row).

        Args:
            folds: vectors of row numbers; they may be unequal, and need not cover all rows.

        Returns:
            f64[S, R, n, K]; NaN for the rows of no fold.

        Raises:
            ValueError: a ridge of 0; a row outside 0..n − 1, or in two folds or twice in one; a fold without rows or
                with all rows of positive weight.
        """
        self._need_ridge("leave_out")
        folds = self._check_folds(folds)
        position = np.cumsum(self._weight > 0) - 1
        live_folds = [position[rows[self._weight[rows] > 0]] for rows in folds]
        residuals = self._held_out([rows for rows in live_folds if len(rows)])
        out = np.full(self._shape(*self._all_targets.shape), np.nan)
        out[:, :, self._live] = self._all_targets[self._live] - residuals / self._root[:, None]
        for rows in folds:
            if not self._weight[rows].all():
                self._predict_weightless(out, rows, self._without(rows))
        return out

    def _predict_weightless(self, out, rows, path):
        rows = rows[self._weight[rows] == 0]
        if len(rows):
            out[:, :, rows] = path.predict(self._seen_from(rows, path))

    @_on_one_thread
    def degrees_of_freedom(self):
        """Trace of the hat matrix, the intercept included; for ridge 0 the rank: f64[S, R]."""
        out = np.empty(self._shape())
        for i, j, free, _ in self._training_cells():
            out[i, j] = len(self._live) - free
        return out

    @_on_one_thread
    def generalised_cross_validation(self):
        """N · RSS / (N − df)², averaged over outputs; RSS is the weighted sum of squares and N the sum of weights.

        Weights count as repetitions, so that a weight of 2 is the row twice.

        Returns:
            f64[S, R].

        Raises:
            ValueError: a ridge of 0; weights whose sum does not exceed the degrees of freedom.

        Reference:
            Golub, Heath and Wahba (1979), equation 1.4.
        """
        self._need_ridge("generalised_cross_validation")
        out = np.empty(self._shape())
        for i, j, free, residuals in self._training_cells():
            free = self._total - len(self._live) + free
            if not free > 0:
                raise ValueError(
                    f"sample_weight sums to {self._total:.6g}, not above the degrees of freedom "
                    f"{self._total - free:.6g}; weights count as repetitions: scale them to sum to the number of rows"
                )
            squares = np.square(residuals, dtype=np.float64).sum(0)
            out[i, j] = self._total * squares.mean() / free**2
        return out


# ── the two paths ───────────────────────────────────────────────────────────────────────────────────────────────────


class RidgePath(_Path):
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
        self._hidden = _matrix("hidden", hidden)
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
        """AAᵀ of every size above n, each grown from the one before."""
        kernel, start = 0, 0
        for i in self._dual:
            block = self._activations[:, start : self.sizes[i]]
            kernel, start = kernel + block @ block.T, self.sizes[i]
            yield i, kernel

    def _triangle(self, penalty, width):
        """L and L⁻¹AᵀB for the first `width` units: by Cholesky, or by QR where that would lose too many digits."""
        bound = penalty / (self._gram_norm + penalty)
        factor, reciprocal = _cholesky(_plus_diagonal(self._gram[:width, :width], penalty), bound)
        leading = self._activations[:, :width]
        if factor is not None and _trusts(reciprocal, self._dtype):
            moment = leading.T @ self._targets
            return factor, solve_triangular(factor, moment, lower=True, check_finite=False)
        # The triangle of [A, B; √λ I, 0] is [Lᵀ, L⁻¹AᵀB; 0, ·].
        damping = np.zeros((width, width + self._targets.shape[1]), self._dtype)
        damping.flat[:: damping.shape[1] + 1] = np.sqrt(penalty)
        both = np.concatenate([np.concatenate([leading, self._targets], 1), damping])
        (triangle,) = qr(both, mode="r", overwrite_a=True, check_finite=False)
        return np.asfortranarray(triangle[:width, :width].T), triangle[:width, width:]

    def _prefers_spectrum(self, *, rows=0, fold=0, inverse=0.0):
        """Whether an eigendecomposition per size is cheaper than a Cholesky factor per ridge, by operations.

        Args:
            rows: of Q, if that is needed.
            fold: mean number of rows of a fold, if fold blocks are needed.
            inverse: what is spent on L⁻¹, in units of h³.
        """
        h = np.array([self.sizes[i] for i in self._primal], np.float64)
        ridges = len(self._positive)
        nested = ridges * ((_CHOLESKY + inverse) * h**3 + _TRIANGULAR * rows * h**2 + rows * (fold + _PASSES) * h)[-1]
        return nested > (_EIGH * h**3 + _PRODUCT * rows * h**2 + ridges * rows * (fold + _PASSES) * h).sum()

    def _primal_spectra(self):
        """Of every size up to n: eigenvalues, eigenvectors, and the ridges for which they have digits enough."""
        for i in self._primal:
            values, vectors = _eigen(self._gram[: self.sizes[i], : self.sizes[i]])
            values = np.maximum(values, 0)
            penalties = self.penalties[self._positive]
            trusted = _trusts((values[0] + penalties) / (values[-1] + penalties), self._dtype)
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
            yield i, ridge, _leading_solve(factor, moment, self.sizes[i])

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
                inverses = _inverses(kernel, self._unit, self.penalties[self._positive])
                for j, inverse in zip(self._positive, inverses, strict=True):
                    if inverse is not None:
                        yield i, j, leading.T @ inverse.solve(self._targets)
                        continue
                    moment, values, vt = singular = singular or self._singular(self.sizes[i], self._dtype)
                    shares = (values / (values**2 + self.penalties[j])).astype(self._dtype)
                    yield i, j, vt.T @ (shares[:, None] * moment)

    @_on_one_thread
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

    @_on_one_thread
    def predict(self, hidden):
        """Predictions of all cells for other rows.

        Args:
            hidden: f[m, H], finite.

        Returns:
            f64[S, R, m, K].

        Raises:
            ValueError: not a finite matrix of H columns.
        """
        hidden = _matrix("hidden", hidden)
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
            residuals = _residuals(q, ends, self._targets)
            if folds is None:
                out[size_indices, j], lost = _leave_one_out_of(q, self._unit, ends, residuals)
                lost = [(size_indices[k], np.array([row])) for k, row in zip(*np.nonzero(lost), strict=True)]
            else:
                lost = []
                for rows in folds:
                    unit = None if self._unit is None else self._unit[rows]
                    for i, x in zip(
                        size_indices, _leave_fold_out_of(q[rows], unit, ends, residuals[:, rows]), strict=True
                    ):
                        if x is None:
                            lost.append((i, rows))
                        else:
                            out[i, j, rows] = x
            for i, rows in lost:
                out[i, j, rows] = self._refit(rows, [i], j)[0]
        for i, kernel in self._kernels():
            inverses = _inverses(kernel, self._unit, self.penalties, self._activations[:, : self.sizes[i]])
            for j, inverse in enumerate(inverses):
                for rows in _held_out_of_inverse(inverse, self._targets, folds, out[i, j]):
                    out[i, j, rows] = self._refit(rows, [i], j)[0]
        return out

    def _training_cells(self):
        """(size index, ridge index, n − df, scaled residuals [n, K]) of all cells."""
        rows = len(self._live) - (0 if self._unit is None else 1)
        for j in np.flatnonzero(self.ridges == 0):
            for i, size in enumerate(self.sizes):
                weights, values = self._pseudo_inverse(size)
                yield i, j, rows - len(values), self._targets - self._activations[:, :size] @ weights
        if self._primal and self._prefers_spectrum(inverse=_INVERSE):
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
                inverses = _inverses(kernel, self._unit, penalties, self._activations[:, : self.sizes[i]])
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
            weights = _leading_solve(factor, moment, size)
            free = rows - size + self.penalties[ridge] * norms[size - 1]
            yield i, ridge, free, self._targets - self._activations[:, :size] @ weights

    def _estimated_conditions(self, penalty):
        gram = self._gram
        factor, _ = _cholesky(_plus_diagonal(gram, penalty))
        for i in self._primal:
            size = self.sizes[i]
            if factor is None:
                s = svd(self._activations[:, :size], compute_uv=False, check_finite=False).astype(np.float64)
                yield (s[0] ** 2 + penalty) / (s[-1] ** 2 + penalty)
            else:
                (pocon,) = get_lapack_funcs(("pocon",), (factor,))
                norm = (np.abs(gram[:size, :size]).sum(0) + penalty).max()
                yield 1 / max(pocon(factor[:size, :size], norm, uplo="L")[0], np.finfo(np.float64).tiny)

    @_on_one_thread
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
                (largest,) = _eigh(kernel, eigvals_only=True, subset_by_index=last, check_finite=False)
                out[i, self._positive] = 1 + max(largest, 0) / self.penalties[self._positive]
        return out


class KernelPath(_Path):
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
        kernel = self._kernel = _matrix("kernel", kernel)
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
            self._set_scale(np.trace(self._centred) / self._total)

    @functools.cached_property
    def _spectrum(self):
        lowest, values, vectors = _kernel_spectrum(self._centred, self._unit)
        if lowest < -1e-8 * values[-1:].sum():
            raise ValueError(
                f"kernel has the eigenvalue {lowest:.3g} beside {values[-1]:.3g}; it must be positive semidefinite: "
                "use another kernel or add to its diagonal"
            )
        return values, vectors

    def _inverse(self, ridge):
        values, vectors = self._spectrum
        if not self.ridges[ridge]:
            kept = values > CUTOFF * values[-1:].sum()
            values, vectors = values[kept], vectors[:, kept]
        return _SpectralInverse(vectors, values, self.penalties[ridge])

    def _dual_weights(self, ridge):
        weights = np.zeros_like(self._all_targets)
        weights[self._live] = self._inverse(ridge).solve(self._targets) * self._root[:, None]
        return weights, self._mean_targets - self._mean_kernel @ weights[self._live]

    @_on_one_thread
    def solve(self, size_index, ridge_index):
        """Dual weights α f64[n, K] and intercept f64[K] for one ridge; `size_index` is 0."""
        self._check_cell(size_index, ridge_index)
        return self._dual_weights(ridge_index)

    @_on_one_thread
    def predict(self, kernel):
        """Predictions for all ridges.

        Args:
            kernel: f[m, n], of the rows to be predicted with the rows fitted.

        Returns:
            f64[1, R, m, K].

        Raises:
            ValueError: not a finite matrix of n columns.
        """
        kernel = _matrix("kernel", kernel)
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
            _held_out_of_inverse(self._inverse(j), self._targets, folds, out[0, j])
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

    @_on_one_thread
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

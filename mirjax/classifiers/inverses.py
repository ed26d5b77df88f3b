"""Factorisations of ridge regression, and what a held-out row or fold needs of them.

Conventions
-----------
n rows, h units; A f[n, h] and B f[n, K] are activations and targets in the rows' own units, u f[n] the unit vector of
the intercept (or None), S = A (AᵀA + λ)⁻¹ Aᵀ + uuᵀ the hat matrix. See `closed_form`, whose two forms these are:

    h ≤ n:  S = QQᵀ + uuᵀ                              x_f = (I − S)_ff⁻¹ (B − QQᵀB)_f
    h > n:  P = (AAᵀ + λ)⁻¹, I − S = λP beside u       x_f = P_ff⁻¹ (PB)_f

x_f being the residuals of the rows f by the fit without them. All is float64 or float32, as the arrays given. A result
that has lost its digits to rounding (`trusts`) is said to be lost, and the caller solves in another way.

Source
------
Golub, Heath and Wahba (1979), Generalized cross-validation as a method for choosing a good ridge parameter,
Technometrics 21; Rifkin and Lippert (2007), Notes on regularized least squares, MIT-CSAIL-TR-2007-025.

Names
-----
* `eigen`, `cholesky`, `plus_diagonal`, `leading_solve`, `solve_positive`: LAPACK's, as they are needed here
* `trusts`: whether a condition number leaves digits enough, by `TOLERANCE`
* `fit_residuals`, `leave_one_out_of`, `leave_fold_out_of`: from Q, for nested sizes
* `dual_inverses`, `SpectralInverse`, `kernel_spectrum`, `held_out_of_inverse`: from P
* `EIGH`, `CHOLESKY`, `INVERSE`, `TRIANGULAR`, `PRODUCT`, `PASSES`: what these cost
"""

import functools

import numpy as np
from scipy.linalg import cho_solve, eigh, get_lapack_funcs, qr, solve_triangular

TOLERANCE = {np.dtype(np.float64): 1e-6, np.dtype(np.float32): 1e-2}
"""Rounding times the condition number may be so much."""

# Operations on matrices of h columns and n rows, in units of h³ or n h² (the passes over Q: n h) at the rate of a
# matrix product, measured on one core, OpenBLAS, h = 300 to 2500.
EIGH, CHOLESKY, INVERSE, TRIANGULAR, PRODUCT, PASSES = 7.7, 0.45, 0.5, 1.2, 2.0, 300.0


# ── small pieces ────────────────────────────────────────────────────────────────────────────────────────────────────


def eigen(matrix):
    """Eigenvalues, ascending, and eigenvectors of a symmetric matrix."""
    return eigh(matrix, driver="evd", check_finite=False)


def cholesky(matrix, at_least=0.0):
    """Lower factor and 1 / condition number: a known lower bound if that is enough, else LAPACK's estimate (1-norm).

    (None, 0) if the matrix is not positive definite. The matrix is used up.
    """
    potrf, pocon = get_lapack_funcs(("potrf", "pocon"), (matrix,))
    enough = trusts(at_least, matrix.dtype)
    norm = None if enough else np.abs(matrix).sum(0).max()
    factor, failed = potrf(matrix, lower=1, clean=1, overwrite_a=1)
    if failed:
        return None, 0.0
    return factor, at_least if enough else pocon(factor, norm, uplo="L")[0]


def plus_diagonal(matrix, penalty):
    """A copy of a symmetric matrix, the penalty added to its diagonal, in the order LAPACK wants."""
    shifted = matrix.T.copy(order="F")
    shifted.flat[:: len(matrix) + 1] += penalty
    return shifted


def trusts(reciprocal_condition, dtype):
    """Whether 1 / condition number leaves digits enough in a dtype."""
    return np.finfo(dtype).eps <= TOLERANCE[dtype] * reciprocal_condition


def leading_solve(factor, moment, size):
    """L⁻ᵀ moment for the leading block of L."""
    return solve_triangular(factor[:size, :size], moment[:size], trans=1, lower=True, check_finite=False)


def solve_positive(matrix, right, scale=1):
    """matrix⁻¹ right for a part of I − S or, with its scale, P; None where its digits are lost to rounding."""
    (potrf, potrs) = get_lapack_funcs(("potrf", "potrs"), (matrix,))
    factor, failed = potrf(matrix, lower=1, clean=0)
    lost = failed or not trusts(np.diagonal(factor).min() ** 2 / scale, matrix.dtype)
    return None if lost else potrs(factor, right, lower=1)[0]


# ── h ≤ n: S = QQᵀ + uuᵀ with nested columns ────────────────────────────────────────────────────────────────────────


def fit_residuals(q, ends, targets):
    """B − QQᵀB for the leading columns of Q: f[S, n, K]."""
    out, fit, start = [], np.zeros_like(targets), 0
    for end in ends:
        block = q[:, start:end]
        fit = fit + block @ (block.T @ targets)
        out.append(targets - fit)
        start = end
    return np.stack(out)


def leave_one_out_of(q, unit, ends, residuals):
    """x_i = r_i / (1 − S_ii) for all sizes, and which of them lost their digits: f[S, n, K], bool[S, n]."""
    squares = np.stack([(q[:, start:end] ** 2).sum(1) for start, end in zip((0, *ends), ends, strict=False)])
    rest = 1 - np.cumsum(squares, 0) - (0 if unit is None else unit**2)
    lost = ~trusts(np.maximum(rest, 0), q.dtype)
    return residuals / np.where(lost, 1, rest)[:, :, None], lost


def leave_fold_out_of(q, unit, ends, residuals):
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
        factor, _ = cholesky(plus_diagonal(-(q[:, : ends[few - 1]].T @ q[:, : ends[few - 1]]), 1), 1.0)
        if factor is None or not trusts(np.diagonal(factor).min() ** 2, q.dtype):
            out = [None] * few
        else:
            v = solve_triangular(factor, q[:, : ends[few - 1]].T, lower=True, check_finite=False).T
            out = [r + v[:, :end] @ (v[:, :end].T @ r) for end, r in zip(ends[:few], residuals, strict=False)]
    rest, start = np.eye(len(q), dtype=q.dtype) if few < len(ends) else None, 0
    for end, r in zip(ends[few:], residuals[few:], strict=True):
        rest -= q[:, start:end] @ q[:, start:end].T
        out.append(solve_positive(rest, r))
        start = end
    return out


# ── h > n: P = (K + λ)⁻¹ beside u ───────────────────────────────────────────────────────────────────────────────────


class SpectralInverse:
    """P = U diag(1 / (μ + λ)) Uᵀ.

    Args:
        vectors: U f[n, r], in whose dtype P is.
        values: μ [r], at least 0.
        penalty: λ.

    Attributes:
        rank: r.
    """

    def __init__(self, vectors, values, penalty):
        self._vectors, self._inverse = vectors, (1 / (values + penalty)).astype(vectors.dtype)
        self.rank = len(values)

    def solve(self, right):
        """P right, [n, K]."""
        return self._vectors @ (self._inverse[:, None] * (self._vectors.T @ right))

    def diagonal(self):
        """Diagonal of P [n]."""
        return self._vectors**2 @ self._inverse

    def block(self, rows):
        """P_ff of the rows f, [f, f]."""
        half = self._vectors[rows] * np.sqrt(self._inverse)[None, :]
        return half @ half.T

    def trace(self):
        """Trace of P."""
        return self._inverse.sum(dtype=np.float64)


class _CholeskyInverse:
    """P = WᵀW − shift uuᵀ, with W = L⁻¹ and LLᵀ = K + λ + uuᵀ (1 / shift − λ); asked as `SpectralInverse` is."""

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


def dual_inverses(kernel, unit, penalties, activations=None):
    """P for every penalty > 0, in order.

    Args:
        kernel: K = AAᵀ, [n, n].
        unit: u [n], an eigenvector of K to be left out, or None.
        penalties: [R].
        activations: A [n, h], for when K has lost too many digits; None if `solve` alone will be asked of P, which
            is then None in such a case (and Aᵀ(PB) no way to get β, whatever P).
    """
    values, vectors = None, None
    if len(penalties) * (CHOLESKY + (0 if activations is None else INVERSE)) > EIGH:
        _, values, vectors = kernel_spectrum(kernel, unit)
    triangle = None
    shift = np.trace(kernel) / len(kernel) or 1.0
    for penalty in penalties:
        if values is not None:
            reciprocal = (values[0] + penalty) / (values[-1] + penalty)
            inverse = SpectralInverse(vectors, values, penalty)
        else:
            shifted = plus_diagonal(kernel, penalty)
            if unit is not None:
                shifted += shift * np.outer(unit, unit)
            factor, reciprocal = cholesky(shifted)
            inverse = _CholeskyInverse(factor, unit, 1 / (shift + penalty))
        if not trusts(reciprocal, kernel.dtype):
            if activations is None:
                yield None
                continue
            if triangle is None:
                triangle = _column_triangle(activations, unit, shift)
            inverse = _CholeskyInverse(_damped(triangle, penalty), unit, 1 / (shift + penalty))
        yield inverse


def kernel_spectrum(kernel, unit):
    """The lowest eigenvalue; eigenvalues [r], ascending and at least 0, and eigenvectors [n, r] of K but for u."""
    if unit is None:
        values, vectors = eigen(kernel)
        return values[0], np.maximum(values, 0), vectors
    # u, of eigenvalue 0, is moved above all others, where no other eigenvector mixes with it.
    above = 2 * np.linalg.norm(kernel) or 1.0
    values, vectors = eigen(kernel + above * np.outer(unit, unit))
    return values[0], np.maximum(values[:-1], 0), vectors[:, :-1]


def _column_triangle(activations, unit, shift):
    """R [n, n] with RᵀR = AAᵀ + shift uuᵀ, with the digits that AAᵀ loses (h ≥ n)."""
    columns = activations.T
    if unit is not None:
        columns = np.concatenate([columns, np.sqrt(shift) * unit[None, :]]).astype(activations.dtype, copy=False)
    (triangle,) = qr(columns, mode="r", check_finite=False)
    return np.asfortranarray(triangle[: len(activations)])


def _damped(triangle, penalty):
    """L with LLᵀ = RᵀR + λ, from R over √λ I."""
    (tpqrt,) = get_lapack_funcs(("tpqrt",), (triangle,))
    damping = np.asfortranarray(np.sqrt(penalty) * np.eye(len(triangle), dtype=triangle.dtype))
    triangle = tpqrt(len(triangle), min(64, len(triangle)), triangle, damping, overwrite_b=1)[0]
    return np.asfortranarray(triangle.T)


def held_out_of_inverse(inverse, targets, folds, out):
    """x_f = P_ff⁻¹ (PB)_f into out [n, K]; returns the folds whose digits are lost: P_ff small beside all of P."""
    dual, diagonal = inverse.solve(targets), inverse.diagonal()
    if folds is None:
        out[:] = dual / diagonal[:, None]
        return [np.array([row]) for row in np.flatnonzero(~trusts(diagonal / diagonal.max(), dual.dtype))]
    lost = []
    for rows in folds:
        block = inverse.block(rows)
        x = solve_positive(block, dual[rows], diagonal.max())
        if x is None:
            lost.append(rows)
            x = np.linalg.solve(block, dual[rows])
        out[rows] = x
    return lost

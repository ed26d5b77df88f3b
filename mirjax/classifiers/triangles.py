"""Triangular factors of least-squares problems: how they are made, solved with, and how well conditioned they are.

Conventions
-----------
G [m, p] is a matrix of float64 or float32, R its upper triangle with RᵀR = GᵀG + λI; a triangle is stored in the order
that LAPACK wants, and all results are of the dtype given.

Source
------
Björck (1996), Numerical methods for least squares problems, sections 2.2 and 2.4; Demmel, Grigori, Hoemmen and Langou
(2012), Communication-optimal parallel and sequential QR and LU factorizations, SIAM J. Sci. Comput. 34 (TSQR).

Names
-----
* `gram_of`, `add_penalty`, `cholesky`: R from GᵀG
* `triangle_of`, `with_penalty`, `tsqr`: R from G itself
* `solve_upper`, `solve_normal`: with R
* `condition_of`: its condition number
"""

import numpy as np
import scipy.linalg

VECTORS, STEPS = 4, 6
"""Vectors and steps of the power method for condition numbers."""
BLOCK = 2048
"""Rows of a block in TSQR, at least; four times the columns where that is more."""


def gram_of(matrix):
    """Upper triangle of GᵀG, which costs half the product; zeros below."""
    syrk = scipy.linalg.get_blas_funcs("syrk", (matrix,))
    return syrk(1.0, matrix.T) if matrix.flags.c_contiguous else syrk(1.0, matrix, trans=1)


def add_penalty(gram, penalty):
    """GᵀG + λI, in place."""
    gram[np.diag_indices_from(gram)] += gram.dtype.type(penalty)
    return gram


def cholesky(gram, penalty):
    """Cholesky factor R of a symmetric matrix given by its upper triangle and κ(RᵀR), or None where it is singular.

    Without a penalty a matrix that is positive definite by the luck of rounding only is singular too.
    """
    (potrf,) = scipy.linalg.get_lapack_funcs(("potrf",), (gram,))
    factor, failed = potrf(gram, lower=0, clean=1)
    if failed or not np.isfinite(factor[-1, -1]):
        return None
    condition = condition_of(factor) ** 2
    lucky = np.finfo(gram.dtype).eps * condition >= 1
    return None if lucky and penalty == 0 else (factor, condition)


def solve_upper(factor, right, *, transposed=False):
    """R⁻¹B, or R⁻ᵀB."""
    trtrs = scipy.linalg.get_lapack_funcs("trtrs", (factor,))
    solution, _ = trtrs(factor, right, trans=int(transposed))
    return solution


def solve_normal(factor, right):
    """(RᵀR)⁻¹ B."""
    return solve_upper(factor, solve_upper(factor, right, transposed=True))


def condition_of(factor):
    """Condition number of a triangle R, inf where it is singular.

    The largest eigenvalues of RᵀR and of its inverse by `STEPS` steps of the power method with a few vectors: at the
    price of some triangular products within a factor of 2, where the 1-norm of LAPACK's trcon is up to h times too
    large.
    """
    if not np.abs(factor.diagonal()).min() > 0:
        return np.inf
    start = np.random.default_rng(0).standard_normal((len(factor), min(VECTORS, len(factor)))).astype(factor.dtype)
    (trmm,) = scipy.linalg.get_blas_funcs(("trmm",), (factor,))
    gain = 1.0
    for steps in (
        (lambda v: trmm(1.0, factor, v), lambda v: trmm(1.0, factor, v, trans_a=1)),
        (lambda v: solve_upper(factor, v, transposed=True), lambda v: solve_upper(factor, v)),
    ):
        vectors = start / np.linalg.norm(start, axis=0)
        for _ in range(STEPS):
            half = steps[0](vectors)
            largest = np.linalg.norm(half, axis=0).max()
            vectors = steps[1](half / largest)
            lengths = np.linalg.norm(vectors, axis=0)
            if not (np.isfinite(largest) and np.isfinite(lengths).all() and lengths.min() > 0):
                return np.inf
            vectors = vectors / lengths
        gain *= float(largest)
    return gain


def triangle_of(matrix):
    """R of a QR factorisation, with as many rows as the smaller side; the matrix is overwritten."""
    return scipy.linalg.qr(matrix, mode="r", overwrite_a=True, check_finite=False)[0][: min(matrix.shape)]


def with_penalty(rows, penalty):
    """[G; √λ I] of G [m, p], in the order LAPACK wants."""
    m, p = rows.shape
    augmented = np.zeros((m + p, p), rows.dtype, order="F")
    augmented[:m] = rows
    augmented[m + np.arange(p), np.arange(p)] = np.sqrt(penalty)
    return augmented


def tsqr(hidden, targets, penalty, *, block=None):
    """R of [H Y; √λ I 0] by a tree: one QR a block of rows, then of two triangles of equal age at a time.

    At any time there are at most log₂(blocks) + 1 triangles and one block.

    Args:
        hidden: H f[n, h].
        targets: Y f[n, K].
        penalty: λ.
        block: rows of a block.

    Returns:
        R f[h, h] and QᵀY f[h, K].
    """
    h, width = hidden.shape[1], hidden.shape[1] + targets.shape[1]
    block = block or max(BLOCK, 4 * width)
    triangles = []  # of (age, R)
    for start in range(0, len(hidden), block):
        rows = np.concatenate([hidden[start : start + block], targets[start : start + block]], axis=1)
        triangles.append((0, triangle_of(np.asfortranarray(rows))))
        while len(triangles) > 1 and triangles[-1][0] == triangles[-2][0]:
            (age, newer), (_, older) = triangles.pop(), triangles.pop()
            triangles.append((age + 1, triangle_of(np.concatenate([older, newer]))))
    end = np.zeros((h, width), hidden.dtype)
    end[np.arange(h), np.arange(h)] = np.sqrt(penalty)
    whole = triangle_of(np.concatenate([triangle for _, triangle in triangles] + [end]))[:h]
    return np.asfortranarray(whole[:, :h]), whole[:, h:]

"""One regularised least-squares problem, solved with a statement of how many digits of the answer are right.

Conventions
-----------
n rows (clips), h hidden units, K outputs: `hidden` H [n, h], `targets` Y [n, K], penalty λ ≥ 0 (absolute). All
methods minimise |Hβ − Y|² + λ|β|²; with λ = 0 the answer is the shortest β of those that minimise.

    "cholesky"  (HᵀH + λI) β = HᵀY              loses the digits of κ² (κ: condition number of [H; √λ I])
    "dual"      β = Hᵀα, (HHᵀ + λI) α = Y       the same for n < h
    "qr"        [H; √λ I] = QR, Rβ = Qᵀ[Y; 0]   loses the digits of κ; of the transposed matrix where n < h
    "tsqr"      the same R from blocks of rows, two factors at a time: memory for blocks, not for Q
    "svd"       H = U diag(σ) Vᵀ, β = V diag(σ / (σ² + λ)) UᵀY; λ = 0: 0 for σ ≤ cut-off · σ_max
    "refined"   a factor in float32, corrected by residuals in float64 until they no longer shrink
    "auto"      the cheapest that promises the digits asked for

A `Diagnosis` comes with every answer. Its digits are those of the predictions Hβ, relative to the largest: with
backward stable steps they lose a factor that the condition number *of the factorised matrix* bounds. They hold for
rows like those fitted; the weights themselves may have half as many. docs/conditioning.md has what was measured.

Host arithmetic is LAPACK's, in float64 or float32. The functions ending in `_f32` are for devices that have no
float64 and are JAX throughout.

Source
------
Björck (1996), Numerical methods for least squares problems, sections 2.4, 2.7 and 2.9; Demmel, Grigori, Hoemmen and
Langou (2012), Communication-optimal parallel and sequential QR and LU factorizations, SIAM J. Sci. Comput. 34 (TSQR);
Dekker (1971), A floating-point technique for extending the available precision, Numer. Math. 18 (double-float).

Names
-----
* `solve_rows`: from H and Y; `solve_gram`: from HᵀH and HᵀY
* `Diagnosis`: method, condition number, digits, rank; `PrecisionWarning`: what its `check` gives
* `cholesky_f32`, `tsqr_f32`, `refined_f32`: on a device, in float32
"""

import dataclasses
import functools
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import lax

from mirjax.classifiers.arithmetic import one_blas_thread

METHODS = ("auto", "cholesky", "dual", "qr", "tsqr", "svd", "refined")
CUTOFF = {np.dtype(np.float64): 1e6 * np.finfo(np.float64).eps, np.dtype(np.float32): 1e3 * np.finfo(np.float32).eps}
"""Singular values at or below this share of the largest count as zero where there is no penalty."""
DIGITS = {np.dtype(np.float64): 6.0, np.dtype(np.float32): 3.0}
"""What "auto" asks for where the caller does not say."""
ROUNDS = 20
"""Corrections that "refined" tries at most."""
VECTORS, STEPS = 4, 6
"""Vectors and steps of the power method for condition numbers."""
GROWTH = 10
"""Errors are taken for so many times eps times the condition number: rounding adds up over rows and units."""
NOISE = 10
"""Singular values below this many eps of the largest are taken for rounding."""
BLOCK = 2048
"""Rows of a block in TSQR, at least; four times the columns where that is more."""


class PrecisionWarning(UserWarning):
    """An answer has fewer correct digits than were asked for."""


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What is known of an answer.

    Attributes:
        method: how it was computed; "eigh" where Cholesky found the matrix not positive definite.
        condition: condition number of the matrix that was factorised (of its kept part where values were cut off).
        digits: estimated correct decimal digits of the predictions, 0 to 16.
        rank: number of singular values or eigenvalues kept, where a method knows it.
        converged: False where a refinement stopped before its residual was as small as it can be.
    """

    method: str
    condition: float
    digits: float
    rank: int | None = None
    converged: bool = True

    def check(self, asked, what="the output weights", *, stacklevel=2):
        """Warn if there are fewer digits than asked for.

        Args:
            asked: decimal digits wanted, 0 to 16.
            what: what was solved for, the subject of the warning.
            stacklevel: of `warnings.warn`; 2 is the caller of this.

        Returns:
            self.
        """
        if self.digits < asked:
            stalled = "" if self.converged else ", whose corrections did not converge"
            warnings.warn(
                f"{what}: about {self.digits:.1f} correct digits of {asked:g} asked for, by {self.method}{stalled}; "
                f"the condition number is {self.condition:.1e}. Raise the ridge, standardise the features, or solve "
                "in float64 by method='qr' or 'svd'",
                PrecisionWarning,
                stacklevel=stacklevel,
            )
        return self


def _digits(error):
    """Correct decimal digits of a relative error, 0 to 16."""
    return float(np.clip(-np.log10(max(error, 1e-300)), 0, 16)) if np.isfinite(error) else 0.0


def _diagnose(method, condition, dtype, **more):
    condition = float(condition) if np.isfinite(condition) else np.inf
    return Diagnosis(method, condition, _digits(GROWTH * np.finfo(dtype).eps * condition), **more)


# ── what is refused ──


def physical_memory():
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _refuse_memory(floats, dtype, what, remedy):
    need = floats * np.dtype(dtype).itemsize
    if need > physical_memory():
        raise ValueError(
            f"{what} needs {need / 2**30:.1f} GiB, this machine has {physical_memory() / 2**30:.1f} GiB; {remedy}"
        )


def _checked(penalty, dtype, **matrices):
    """The penalty as a float, the dtype, and the two matrices, whose leading axes agree, as finite arrays."""
    if not 0 <= penalty < np.inf:
        raise ValueError(f"penalty={penalty!r} must be finite and at least 0")
    dtype = np.dtype(dtype)
    if dtype not in CUTOFF:
        raise ValueError(f"dtype={dtype} must be float64 or float32")
    arrays = []
    for name, array in matrices.items():
        array = np.asarray(array)
        if array.dtype not in CUTOFF:
            array = array.astype(np.float64)
        if array.ndim != 2 or not array.size:
            raise ValueError(f"{name} has shape {array.shape}; it must have two axes, none of them empty")
        if not np.isfinite(array.sum(dtype=np.float64)) and not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise ValueError(f"{name}[{row}, {column}] is {array[row, column]}; remove or replace such values first")
        arrays.append(array)
    (one, a), (other, b) = zip(matrices, arrays, strict=True)
    if len(a) != len(b):
        raise ValueError(f"{one} has {len(a)} rows, {other} {len(b)}; they must be of the same rows")
    return float(penalty), dtype, *arrays


# ── triangles ──


def _gram(matrix):
    """Upper triangle of GᵀG, which costs half the product; zeros below."""
    syrk = scipy.linalg.get_blas_funcs("syrk", (matrix,))
    return syrk(1.0, matrix.T) if matrix.flags.c_contiguous else syrk(1.0, matrix, trans=1)


def _add_penalty(gram, penalty):
    gram[np.diag_indices_from(gram)] += gram.dtype.type(penalty)
    return gram


def _cholesky(gram, penalty):
    """Cholesky factor R of a symmetric matrix given by its upper triangle and κ(RᵀR), or None where it is singular.

    Without a penalty a matrix that is positive definite by the luck of rounding only is singular too.
    """
    (potrf,) = scipy.linalg.get_lapack_funcs(("potrf",), (gram,))
    factor, failed = potrf(gram, lower=0, clean=1)
    if failed or not np.isfinite(factor[-1, -1]):
        return None
    condition = _condition(factor) ** 2
    lucky = np.finfo(gram.dtype).eps * condition >= 1
    return None if lucky and penalty == 0 else (factor, condition)


def _solve_upper(factor, right, *, transposed=False):
    trtrs = scipy.linalg.get_lapack_funcs("trtrs", (factor,))
    solution, _ = trtrs(factor, right, trans=int(transposed))
    return solution


def _solve_normal(factor, right):
    """(RᵀR)⁻¹ B."""
    return _solve_upper(factor, _solve_upper(factor, right, transposed=True))


def _condition(factor):
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
        (lambda v: _solve_upper(factor, v, transposed=True), lambda v: _solve_upper(factor, v)),
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


def _solve_triangle(factor, right, name, rows, *, transposed=False):
    """R⁻¹B or R⁻ᵀB and its diagnosis; by singular values with the cut-off where R is singular in its precision."""
    condition = _condition(factor)
    if np.finfo(factor.dtype).eps * condition < 1:
        return _solve_upper(factor, right, transposed=transposed), _diagnose(name, condition, factor.dtype)
    solution, diagnosis = _by_svd(factor.T if transposed else factor, right, 0.0, rows)
    return solution, dataclasses.replace(diagnosis, method=f"{name}, svd")


def _triangle(matrix):
    """R of a QR factorisation, with as many rows as the smaller side; the matrix is overwritten."""
    return scipy.linalg.qr(matrix, mode="r", overwrite_a=True, check_finite=False)[0][: min(matrix.shape)]


def _square(rows, penalty):
    """[G; √λ I] of G [m, p], in the order LAPACK wants."""
    m, p = rows.shape
    augmented = np.zeros((m + p, p), rows.dtype, order="F")
    augmented[:m] = rows
    augmented[m + np.arange(p), np.arange(p)] = np.sqrt(penalty)
    return augmented


# ── from Gram matrices ──


def _solve_cut_off(gram, right, method_of_rows, dtype):
    """By eigenvalues, those at most H·eps·largest counting as zero: (solution, diagnosis).

    What is lost with them cannot be seen in a Gram matrix itself, only in the right-hand sides: their part v_dᵀB
    along what was dropped. Of the dual system that is the missing part of the targets. Of the primal system it is σ
    times as much, of which σ is known only to lie above the cut-off of the singular value decomposition.
    """
    dtype = np.dtype(dtype)
    values, vectors = scipy.linalg.eigh(gram, lower=False, check_finite=False)
    noise = len(values) * np.finfo(dtype).eps
    kept = values > noise * values[-1]
    rank = int(kept.sum())
    if not rank:  # a matrix of zeros: the shortest answer is zero
        return np.zeros_like(right), Diagnosis("eigh", 1.0, 16.0, 0)
    solution = vectors[:, kept] @ ((vectors[:, kept].T @ right) / values[kept][:, None])
    smallest = values[kept][0] / values[-1]
    error = noise / smallest
    if rank < len(values):
        lost = np.linalg.norm(vectors[:, ~kept].T @ right) / max(np.linalg.norm(right), np.finfo(dtype).tiny)
        unseen = np.sqrt(len(right)) if method_of_rows == "dual" else 1 / CUTOFF[np.dtype(np.float64)]
        error = max(error, lost * unseen)
    return solution, Diagnosis("eigh", float(1 / smallest), _digits(error), rank)


def _refine(residual, factor, solution, rounds, *, floor, measure=None):
    """Corrections δ = (RᵀR)⁻¹ r in float64, as long as each is at most half the one before.

    Args:
        residual: x f64[p, K] → r = B − Ax, in float64.
        factor: R of some precision, RᵀR ≈ A.
        solution: the first x.
        rounds: corrections at most.
        floor: size of a correction that is but rounding.
        measure: r, x → size of the correction; by default |Rδ| / |Rx|.

    Returns:
        x, the relative error left, whether the corrections came down to the floor.
    """
    factor = factor.astype(np.float64)
    before = 1.0
    for _ in range(rounds):
        left = residual(solution)
        half = _solve_upper(factor, left, transposed=True)  # R⁻ᵀr = Rδ
        total = np.linalg.norm(factor @ solution)
        size = measure(left) if measure else np.linalg.norm(half) / total if total > 0 else 0.0
        if not size <= before / 2:
            return solution, size, bool(size <= floor(solution))
        solution = solution + _solve_upper(factor, half)
        if size <= floor(solution):
            return solution, size, True
        before = size
    return solution, before, False


def solve_gram(products, cross, penalty, *, dtype=np.float64, refine=0):
    """Solve (HᵀH + λI) β = HᵀY by Cholesky, or by eigenvalues where that matrix is not positive definite.

    Units that never fire (zeros on the diagonal) get the weight zero and do not count in the condition number.

    Args:
        products: HᵀH [H, H], symmetric; its upper triangle is read.
        cross: HᵀY [H, K].
        penalty: λ, finite, at least 0.
        dtype: float64, or float32 for the factorisation and the triangles.
        refine: corrections by residuals in float64 at most; for `dtype` float32.

    Returns:
        β f64[H, K] and its Diagnosis. "eigh" as method says that the matrix was singular in this precision:
        eigenvalues at most H·eps·largest count as zero, `rank` is the number of the others.

    Raises:
        ValueError: values that are not finite, a penalty below 0, widths that differ.

    Reference:
        Björck (1996), section 2.2 (Cholesky), 2.9 (refinement).
    """
    penalty, dtype, products, cross = _checked(penalty, dtype, products=products, cross=cross)
    if products.shape[0] != products.shape[1]:
        raise ValueError(f"products has shape {products.shape}; HᵀH is square")
    width, outputs = cross.shape
    diagonal = products.diagonal()
    if diagonal.min() < 0:
        raise ValueError(f"products has {diagonal.min():.3g} on its diagonal, which HᵀH cannot have; give HᵀH itself")
    alive = diagonal > 0
    weights = np.zeros((width, outputs))
    if not alive.any():
        return weights, Diagnosis("cholesky", 1.0, 16.0, 0)
    wide = products[np.ix_(alive, alive)].astype(np.float64)
    right = cross[alive].astype(np.float64)
    with one_blas_thread():
        # A power of two, so that float32 neither over- nor underflows and nothing is rounded.
        scale = 2.0 ** -np.round(np.log2(diagonal.max()))
        gram = _add_penalty(np.asfortranarray(np.triu(wide) * scale), penalty * scale)
        size = np.abs(right).max() or 1.0
        narrow = (right / size).astype(dtype)
        found = _cholesky(gram.astype(dtype, order="F"), penalty)
        if found is None:
            solution, diagnosis = _solve_cut_off(gram.astype(dtype), narrow, "primal", dtype)
            weights[alive] = solution.astype(np.float64) * (scale * size)
            return weights, diagnosis
        factor, condition = found
        solution = _solve_normal(factor, narrow).astype(np.float64)
        diagnosis = _diagnose("cholesky", condition, dtype)
        if refine:
            whole = gram + np.triu(gram, 1).T
            floor = np.finfo(np.float64).eps * condition
            left = functools.partial(_gram_residual, whole, right / size)
            solution, error, done = _refine(left, factor, solution, refine, floor=lambda _: floor)
            digits = _digits(GROWTH * max(error, floor))
            diagnosis = Diagnosis("refined", condition, digits, converged=done)
        weights[alive] = solution * (scale * size)
    return weights, diagnosis


def _gram_residual(whole, right, solution):
    return right - whole @ solution


# ── from rows ──


def _by_cholesky(hidden, targets, penalty, dual, *, cut_off=True):
    """By the Gram matrix of one side: (weights, diagnosis), or None where it is singular and must not be cut off."""
    dtype = hidden.dtype
    side = hidden.T if dual else hidden
    right = targets if dual else hidden.T @ targets
    gram = _add_penalty(_gram(side), penalty)
    found = _cholesky(gram, penalty)
    method = "dual" if dual else "cholesky"
    if found is None and not cut_off:
        return None
    if found is None:
        solution, diagnosis = _solve_cut_off(gram, right, method, dtype)
    else:
        factor, condition = found
        solution, diagnosis = _solve_normal(factor, right), _diagnose(method, condition, dtype)
    return side @ solution if dual else solution, diagnosis


def _by_qr(hidden, targets, penalty):
    n, h = hidden.shape
    if n >= h:
        augmented = _square(hidden, penalty)
        right = np.zeros((n + h, targets.shape[1]), hidden.dtype, order="F")
        right[:n] = targets
        product, factor = scipy.linalg.qr_multiply(augmented, right.T, mode="right", overwrite_a=True)
        return _solve_triangle(np.asfortranarray(factor), product.T, "qr", n)
    # [Hᵀ; √λ I] = QR and RᵀR = HHᵀ + λI: β = Hᵀ(RᵀR)⁻¹Y = Q₁R⁻ᵀY.
    q, factor = scipy.linalg.qr(_square(hidden.T, penalty), mode="economic", overwrite_a=True, check_finite=False)
    solution, diagnosis = _solve_triangle(np.asfortranarray(factor), targets, "qr", n, transposed=True)
    return q[:h] @ solution, diagnosis


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
        triangles.append((0, _triangle(np.asfortranarray(rows))))
        while len(triangles) > 1 and triangles[-1][0] == triangles[-2][0]:
            (age, newer), (_, older) = triangles.pop(), triangles.pop()
            triangles.append((age + 1, _triangle(np.concatenate([older, newer]))))
    end = np.zeros((h, width), hidden.dtype)
    end[np.arange(h), np.arange(h)] = np.sqrt(penalty)
    whole = _triangle(np.concatenate([triangle for _, triangle in triangles] + [end]))[:h]
    return np.asfortranarray(whole[:, :h]), whole[:, h:]


def _by_tsqr(hidden, targets, penalty):
    return _solve_triangle(*tsqr(hidden, targets, penalty), "tsqr", len(hidden))


def _by_svd(hidden, targets, penalty, rows=None):
    """By singular values of H, or of R in its place (of so many `rows`).

    Without a penalty the answer hangs on the gap at the cut-off, σ_max / (σ_k − σ_k+1), and float32 drops what float64
    would keep: |U_dᵀY| bounds the largest prediction lost, held against the root mean square of Y.
    """
    dtype = hidden.dtype
    u, s, vt = scipy.linalg.svd(hidden, full_matrices=False, check_finite=False)
    if s[0] == 0:
        return np.zeros((hidden.shape[1], targets.shape[1]), dtype), Diagnosis("svd", 1.0, 16.0, 0)
    kept = s > (0 if penalty > 0 else CUTOFF[dtype] * s[0])
    rank = int(kept.sum())
    left, u, vt, used = u, u[:, :rank], vt[:rank], s[:rank].astype(np.float64)
    shrunk = (used / (used**2 + penalty)).astype(dtype)
    weights = vt.T @ (shrunk[:, None] * (u.T @ targets))
    if penalty > 0:
        smallest = s[-1] if len(s) == hidden.shape[1] else 0  # [H; √λ I] has h singular values
        condition = np.sqrt((float(s[0]) ** 2 + penalty) / (float(smallest) ** 2 + penalty))
        return weights, _diagnose("svd", condition, dtype, rank=rank)
    gap = used[-1] - (float(s[rank]) if rank < len(s) else 0.0)
    error = GROWTH * np.finfo(dtype).eps * used[0] / gap
    if dtype == np.float32:  # what float64 would keep and float32 cannot tell from nothing
        lost = (s <= CUTOFF[dtype] * s[0]) & (s > NOISE * np.finfo(dtype).eps * s[0])
        share = np.linalg.norm(left[:, lost].T @ targets) / max(np.linalg.norm(targets), 1e-30)
        error = max(error, float(share * np.sqrt(rows or len(hidden))))
    return weights, Diagnosis("svd", float(used[0] / used[-1]), _digits(error), rank)


def _by_refinement(hidden, targets, penalty):
    """A factor in float32, of the Gram matrix or, where that fails, of the rows; residuals in float64."""
    n, h = hidden.shape
    dual = n < h
    wide, right, narrow = hidden, targets, hidden.astype(np.float32)
    narrow_right = (right if dual else wide.T @ right).astype(np.float32)
    side = narrow.T if dual else narrow
    eps = np.finfo(np.float64).eps

    def residual(x):
        if dual:
            return right - wide @ (wide.T @ x) - penalty * x
        return wide.T @ (right - wide @ x) - penalty * x

    total, largest = np.linalg.norm(right) or 1.0, np.linalg.norm(side) ** 2

    def measure(left):
        return np.linalg.norm(left) / total

    outcome = None
    for attempt in ("cholesky", "qr"):
        if attempt == "cholesky":
            found = _cholesky(_add_penalty(_gram(side), penalty), penalty)
            if found is None:
                continue
            factor, condition = found[0], np.sqrt(found[1])
        else:
            factor = np.asfortranarray(_triangle(_square(side, penalty)))
            condition = _condition(factor)
        if not np.isfinite(condition):
            continue
        first = _solve_normal(factor, narrow_right).astype(np.float64)
        if dual:  # the residual is what the predictions HHᵀα lack; it is rounded as the terms of its sums are
            sizes = {"floor": lambda x: eps * largest * np.linalg.norm(x) / total, "measure": measure}
        else:
            sizes = {"floor": lambda _: 4 * eps * condition}  # noqa: B023  called in this round only
        solution, error, done = _refine(residual, factor, first, ROUNDS, **sizes)
        floor = sizes["floor"](solution)
        if outcome is None or error < outcome[1]:
            outcome = solution, error, done, condition, floor
        if done:
            break
    if outcome is None:
        return np.zeros((h, targets.shape[1])), Diagnosis("refined", np.inf, 0.0, converged=False)
    solution, error, done, condition, floor = outcome
    weights = wide.T @ solution if dual else solution
    return weights, Diagnosis("refined", float(condition), _digits(GROWTH * max(error, floor)), converged=done)


def solve_rows(hidden, targets, penalty, *, method="auto", dtype=np.float64, digits=None):
    """Minimise |Hβ − Y|² + λ|β|² from the rows themselves.

    Args:
        hidden: H f[n, h], finite.
        targets: Y f[n, K], finite.
        penalty: λ, finite, at least 0. With 0 "auto" is the singular value decomposition with the published
            cut-off, 1e6·eps·σ_max (float32: 1e3·eps·σ_max).
        method: one of `METHODS`, see the head of this module. "auto" tries the Cholesky factor of the smaller side,
            then QR of [H; √λ I], until one promises `digits`.
        dtype: float64 or float32, of the factorisation. For "refined" it is float32 whatever is given.
        digits: decimal digits of the predictions asked for; a `PrecisionWarning` is given where there are fewer.
            None asks for 6 (float64) or 3 (float32) in the choice of "auto" and warns of nothing, but of a
            refinement that did not converge.

    Returns:
        β f64[h, K] and its Diagnosis.

    Raises:
        ValueError: values that are not finite, a penalty below 0, numbers of rows that differ, an unknown method,
            more memory than this machine has.

    Reference:
        Björck (1996), sections 2.2, 2.4, 2.7 and 2.9; Demmel et al. (2012), section 3.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown; choose from {', '.join(METHODS)}")
    penalty, dtype, hidden, targets = _checked(penalty, dtype, hidden=hidden, targets=targets)
    n, h = hidden.shape
    side = {"cholesky": h, "dual": n, "tsqr": h}.get(method, min(n, h))
    rows = 0 if method in ("cholesky", "dual", "tsqr", "auto") else n * h
    what = f"method={method!r} on {n} rows of h={h} units"
    _refuse_memory(2 * side**2 + rows, dtype, what, "lower h, or use fewer rows than units and method='dual'")
    asked = DIGITS[dtype] if digits is None else digits
    with one_blas_thread():
        # Powers of two: exact, and no square leaves the range of float32.
        scale, size = (2.0 ** -np.round(np.log2(float(np.abs(a).max()) or 1.0)) for a in (hidden, targets))
        work = np.dtype(np.float64) if method == "refined" else dtype
        scaled = np.ascontiguousarray(hidden * hidden.dtype.type(scale), work)
        weights, diagnosis = _solve_scaled(
            scaled, (targets * targets.dtype.type(size)).astype(work), penalty * scale**2, method, asked
        )
        weights = weights.astype(np.float64) * (scale / size)
    if digits is not None or not diagnosis.converged:
        diagnosis.check(asked, stacklevel=3)
    return weights, diagnosis


def _solve_scaled(hidden, targets, penalty, method, asked):
    dual = len(hidden) < hidden.shape[1]
    solvers = {
        "cholesky": lambda: _by_cholesky(hidden, targets, penalty, dual=False),
        "dual": lambda: _by_cholesky(hidden, targets, penalty, dual=True),
        "qr": lambda: _by_qr(hidden, targets, penalty),
        "tsqr": lambda: _by_tsqr(hidden, targets, penalty),
        "svd": lambda: _by_svd(hidden, targets, penalty),
        "refined": lambda: _by_refinement(hidden, targets, penalty),
    }
    if method != "auto":
        return solvers[method]()
    if penalty == 0:
        return solvers["svd"]()
    found = _by_cholesky(hidden, targets, penalty, dual, cut_off=False)
    return found if found is not None and found[1].digits >= asked else solvers["qr"]()


# ── on a device without float64 ──


def _times(a, b):
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _normal_f32(factor, right):
    """(RᵀR)⁻¹ B."""
    return lax.linalg.triangular_solve(
        factor, lax.linalg.triangular_solve(factor, right, left_side=True, transpose_a=True), left_side=True
    )


def _condition_f32(factor):
    """Condition number of R as `_condition` has it; inf where the factor is not finite."""
    start = jax.random.normal(jax.random.key(0), (len(factor), min(VECTORS, len(factor))), factor.dtype)

    def largest(apply):
        def step(vectors, _):
            vectors = apply(vectors / jnp.linalg.norm(vectors, axis=0, keepdims=True))
            return vectors, jnp.linalg.norm(vectors, axis=0).max()

        return jnp.sqrt(lax.scan(step, start, None, length=STEPS)[1][-1])

    condition = largest(lambda v: _times(factor.T, _times(factor, v))) * largest(lambda v: _normal_f32(factor, v))
    return jnp.where(jnp.isfinite(condition), condition, jnp.inf)


@jax.jit
def cholesky_f32(hidden, targets, penalty):
    """The normal equations of the smaller side in float32.

    Args:
        hidden: H f32[n, h].
        targets: Y f32[n, K].
        penalty: λ > 0.

    Returns:
        β f32[h, K], NaN where HᵀH + λI is singular in float32, and the condition number of that matrix.
    """
    dual = len(hidden) < hidden.shape[1]
    side = hidden.T if dual else hidden
    gram = _times(side.T, side)
    factor = jnp.linalg.cholesky(gram + penalty * jnp.eye(len(gram), dtype=gram.dtype)).T
    solution = _normal_f32(factor, targets if dual else _times(hidden.T, targets))
    return _times(side, solution) if dual else solution, _condition_f32(factor) ** 2


def _tree_f32(hidden, targets, penalty, block):
    """R [h, h] and QᵀY [h, K]: all blocks at once, then neighbours two at a time."""
    n, h = hidden.shape
    width = h + targets.shape[1]
    block = max(block, width)
    rows = jnp.pad(jnp.concatenate([hidden, targets], axis=1), ((0, -n % block), (0, 0)))
    triangles = jnp.linalg.qr(rows.reshape(-1, block, width), mode="r")
    while len(triangles) > 1:
        triangles = jnp.pad(triangles, ((0, len(triangles) % 2), (0, 0), (0, 0)))
        triangles = jnp.linalg.qr(triangles.reshape(-1, 2 * triangles.shape[1], width), mode="r")
    end = jnp.pad(jnp.sqrt(penalty) * jnp.eye(h, dtype=hidden.dtype), ((0, 0), (0, targets.shape[1])))
    whole = jnp.linalg.qr(jnp.concatenate([triangles[0], end]), mode="r")[:h]
    return whole[:, :h], whole[:, h:]


@functools.partial(jax.jit, static_argnames="block")
def tsqr_f32(hidden, targets, penalty, *, block=BLOCK):
    """QR of [H; √λ I] in float32 by a tree over blocks of rows.

    Args:
        hidden: H f32[n, h].
        targets: Y f32[n, K], n ≥ h: the tree is over the rows.
        penalty: λ > 0.
        block: rows of a block, at least h + K.

    Returns:
        β f32[h, K] and the condition number of R.
    """
    factor, product = _tree_f32(hidden, targets, jnp.asarray(penalty, hidden.dtype), block)
    return lax.linalg.triangular_solve(factor, product, left_side=True), _condition_f32(factor)


def _two_sum(a, b):
    """a + b as rounded and the rounding error (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a, b):
    """a · b as two addends, the first of which is exact: the product of the first 12 bits of each (Dekker's split).

    Being exact, it is the same whether or not a compiler fuses the product with the sum that follows.
    """

    def split(x):
        high = lax.bitcast_convert_type(lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFFF000), jnp.float32)
        return high, x - high

    (a1, a2), (b1, b2) = split(a), split(b)
    return a1 * b1, (a1 * b2 + a2 * b1) + a2 * b2


def _accumulate(columns, high, low):
    """Σ_j columns[j] ⊗ (high + low)[j] as a sum of two floats: `[J, p], [J, K] → [p, K]` twice."""

    def add(total, row):
        column, upper, lower = row
        product, error = _two_product(column[:, None], upper[None, :])
        whole, lost = _two_sum(total[0], product)
        return (whole, total[1] + (lost + error + column[:, None] * lower[None, :])), None

    zero = jnp.zeros((columns.shape[1], high.shape[1]), high.dtype)
    return _two_sum(*lax.scan(add, (zero, zero), (columns, high, low))[0])


@functools.partial(jax.jit, static_argnames=("rounds", "block"))
def refined_f32(hidden, targets, penalty, *, rounds=3, block=BLOCK):
    """`tsqr_f32`, corrected by residuals in pairs of floats: float32 only, yet its error is that of twice the digits.

    Of [Hᵀ; √λ I] where n < h, so that β stays among the combinations of rows.

    Args:
        hidden: H f32[n, h].
        targets: Y f32[n, K].
        penalty: λ > 0.
        rounds: corrections; one that would be larger than half the one before is left out, with all after it.
        block: rows of a block, at least h + K.

    Returns:
        β as two addends f32[h, K], the condition number of R, and the relative size of the last correction made
        (1: none was).
    """
    penalty = jnp.asarray(penalty, hidden.dtype)
    dual = len(hidden) < hidden.shape[1]
    if dual:
        factor, _ = _tree_f32(hidden.T, jnp.zeros((hidden.shape[1], 0), hidden.dtype), penalty, block)
        high = _normal_f32(factor, targets)
    else:
        factor, product = _tree_f32(hidden, targets, penalty, block)
        high = lax.linalg.triangular_solve(factor, product, left_side=True)

    def residual(high, low):
        """Y − HHᵀα − λα, or Hᵀ(Y − Hβ) − λβ."""
        if dual:
            fitted, rest = _accumulate(hidden.T, *_accumulate(hidden, high, low))
            whole, lost = _two_sum(targets, -fitted)
            lost = lost - rest
        else:
            fitted, rest = _accumulate(hidden.T, high, low)
            whole, lost = _two_sum(targets, -fitted)
            whole, lost = _accumulate(hidden, whole, lost - rest)
        shrunk, error = _two_product(penalty * jnp.ones_like(high), high)
        whole, more = _two_sum(whole, -shrunk)
        return whole + (more + lost - error - penalty * low)

    def correct(_, state):
        high, low, before, going = state
        left = residual(high, low)
        half = lax.linalg.triangular_solve(factor, left, left_side=True, transpose_a=True)
        pair = (left, targets) if dual else (half, _times(factor, high))
        size = jnp.linalg.norm(pair[0]) / jnp.linalg.norm(pair[1])
        going = going & (size <= before / 2)
        step = lax.linalg.triangular_solve(factor, half, left_side=True)
        upper, lower = _two_sum(high, jnp.where(going, step, 0) + low)
        return upper, lower, jnp.where(going, size, before), going

    start = (high, jnp.zeros_like(high), jnp.ones((), high.dtype), jnp.array(True))
    high, low, size, _ = lax.fori_loop(0, rounds, correct, start)
    if dual:
        high, low = _accumulate(hidden, high, low)
    return high, low, _condition_f32(factor), size

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

The arithmetic is LAPACK's, in float64 or float32. `solvers_f32` is for devices that have no float64.

Source
------
Björck (1996), Numerical methods for least squares problems, sections 2.4, 2.7 and 2.9; Demmel, Grigori, Hoemmen and
Langou (2012), Communication-optimal parallel and sequential QR and LU factorizations, SIAM J. Sci. Comput. 34 (TSQR).

Names
-----
* `solve_rows`: from H and Y; `solve_gram`: from HᵀH and HᵀY
* `Diagnosis`: method, condition number, digits, rank; `PrecisionWarning`: what its `check` gives
* `check_penalty`, `check_dtype`: refuse what is no penalty, no precision
"""

import dataclasses
import functools
import warnings

import numpy as np
import scipy.linalg

from mirjax.classifiers.arithmetic import check_bytes, one_blas_thread
from mirjax.classifiers.pseudo_inverse import CUTOFF
from mirjax.classifiers.triangles import (
    add_penalty,
    cholesky,
    condition_of,
    gram_of,
    solve_normal,
    solve_upper,
    triangle_of,
    tsqr,
    with_penalty,
)

METHODS = ("auto", "cholesky", "dual", "qr", "tsqr", "svd", "refined")
CUTOFFS = {np.dtype(np.float64): CUTOFF, np.dtype(np.float32): 1e3 * np.finfo(np.float32).eps}
"""Singular values at or below this share of the largest count as zero where there is no penalty."""
DIGITS = {np.dtype(np.float64): 6.0, np.dtype(np.float32): 3.0}
"""What "auto" asks for where the caller does not say."""
ROUNDS = 20
"""Corrections that "refined" tries at most."""
GROWTH = 10
"""Errors are taken for so many times eps times the condition number: rounding adds up over rows and units."""
NOISE = 10
"""Singular values below this many eps of the largest are taken for rounding."""


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
                f"the condition number is {self.condition:.1e}. Raise the ridge, standardise the features (centre "
                "them before they are summed), or solve in float64 by method='qr' or 'svd'",
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


def check_penalty(name, value):
    """The value as a float; a ValueError unless it is a number, finite and at least 0."""
    number = np.asarray(value)
    if number.shape or number.dtype.kind not in "fiub":
        raise ValueError(f"{name}={value!r} must be a number, finite and at least 0")
    if not 0 <= number < np.inf:
        raise ValueError(f"{name}={value!r} must be finite and at least 0")
    return float(value)


def check_dtype(dtype):
    """The numpy dtype; a ValueError unless it is float64 or float32."""
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = repr(dtype)
    if found not in CUTOFFS:
        raise ValueError(f"dtype={found} must be float64 or float32")
    return found


def _checked(penalty, dtype, **matrices):
    """The penalty as a float, the dtype, and the two matrices, whose leading axes agree, as finite arrays."""
    penalty, dtype = check_penalty("penalty", penalty), check_dtype(dtype)
    arrays = []
    for name, array in matrices.items():
        array = np.asarray(array)
        if array.dtype not in CUTOFFS:
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
    return penalty, dtype, *arrays


# ── powers of two: exact, and no square leaves the range of float32 ──


def _exponent(array):
    """e for which 2ᵉ brings the largest value near 1, as far as 2ᵉ itself is a normal number of the array's dtype."""
    kind, largest = np.finfo(array.dtype), float(np.abs(array).max()) or 1.0
    return int(np.clip(-np.round(np.log2(largest)), kind.minexp, kind.maxexp - 1))


def _scaled_penalty(penalty, exponents, dtype):
    """λ times powers of two, one after the other: λ = 0 stays 0, and what is finite at the end is so at each step."""
    scaled = penalty
    for exponent in exponents:
        scaled *= 2.0**exponent
    if not scaled <= float(np.finfo(dtype).max):
        raise ValueError(
            f"penalty={penalty:g} is out of the range of {dtype} beside features as small as these; scale the features "
            "up, or lower the penalty"
        )
    return scaled


def _unscaled(weights, exponent):
    """The weights times a power of two, in float64; a ValueError where that cannot hold them."""
    with np.errstate(over="ignore", under="ignore"):
        found = np.ldexp(weights.astype(np.float64), exponent)
    largest = np.abs(found).max()
    if not np.isfinite(largest) or (largest < np.finfo(np.float64).tiny and weights.any()):
        raise ValueError(
            f"the output weights, up to {np.abs(weights).max():.1g}·2^{exponent}, are out of the range of float64 "
            "(2e-308 to 1.8e308); scale the features and targets to sizes near 1"
        )
    return found


# ── from a triangle ──


def _solve_triangle(factor, right, name, rows, *, transposed=False):
    """R⁻¹B or R⁻ᵀB and its diagnosis; by singular values with the cut-off where R is singular in its precision."""
    condition = condition_of(factor)
    if np.finfo(factor.dtype).eps * condition < 1:
        return solve_upper(factor, right, transposed=transposed), _diagnose(name, condition, factor.dtype)
    solution, diagnosis = _by_svd(factor.T if transposed else factor, right, 0.0, rows)
    return solution, dataclasses.replace(diagnosis, method=f"{name}, svd")


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
        unseen = np.sqrt(len(right)) if method_of_rows == "dual" else 1 / CUTOFF
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
        half = solve_upper(factor, left, transposed=True)  # R⁻ᵀr = Rδ
        total = np.linalg.norm(factor @ solution)
        size = measure(left) if measure else np.linalg.norm(half) / total if total > 0 else 0.0
        if not size <= before / 2:
            return solution, size, bool(size <= floor(solution))
        solution = solution + solve_upper(factor, half)
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
        ValueError: values that are not finite, a penalty below 0, widths that differ, weights beyond float64.

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
        scale, size = _exponent(diagonal.astype(np.float64)), _exponent(right)
        gram = np.asfortranarray(np.triu(wide) * 2.0**scale)
        gram = add_penalty(gram, _scaled_penalty(penalty, [scale], dtype))
        right *= 2.0**size
        narrow = right.astype(dtype)
        found = cholesky(gram.astype(dtype, order="F"), penalty)
        if found is None:
            solution, diagnosis = _solve_cut_off(gram.astype(dtype), narrow, "primal", dtype)
        else:
            factor, condition = found
            solution = solve_normal(factor, narrow).astype(np.float64)
            diagnosis = _diagnose("cholesky", condition, dtype)
        if found and refine:
            whole = gram + np.triu(gram, 1).T
            floor = np.finfo(np.float64).eps * condition
            left = functools.partial(_gram_residual, whole, right)
            solution, error, done = _refine(left, factor, solution, refine, floor=lambda _: floor)
            digits = _digits(GROWTH * max(error, floor))
            diagnosis = Diagnosis("refined", condition, digits, converged=done)
    weights[alive] = _unscaled(solution, scale - size)
    # Sums of squares below the normal numbers were rounded to multiples of the smallest number.
    lost = np.log10(max(1.0, np.finfo(products.dtype).tiny / float(diagonal.max())))
    return weights, dataclasses.replace(diagnosis, digits=max(0.0, diagnosis.digits - float(lost)))


def _gram_residual(whole, right, solution):
    return right - whole @ solution


# ── from rows ──


def _by_cholesky(hidden, targets, penalty, dual, *, cut_off=True):
    """By the Gram matrix of one side: (weights, diagnosis), or None where it is singular and must not be cut off."""
    dtype = hidden.dtype
    side = hidden.T if dual else hidden
    right = targets if dual else hidden.T @ targets
    gram = add_penalty(gram_of(side), penalty)
    found = cholesky(gram, penalty)
    method = "dual" if dual else "cholesky"
    if found is None and not cut_off:
        return None
    if found is None:
        solution, diagnosis = _solve_cut_off(gram, right, method, dtype)
    else:
        factor, condition = found
        solution, diagnosis = solve_normal(factor, right), _diagnose(method, condition, dtype)
    return side @ solution if dual else solution, diagnosis


def _by_qr(hidden, targets, penalty):
    n, h = hidden.shape
    if n >= h:
        augmented = with_penalty(hidden, penalty)
        right = np.zeros((n + h, targets.shape[1]), hidden.dtype, order="F")
        right[:n] = targets
        product, factor = scipy.linalg.qr_multiply(augmented, right.T, mode="right", overwrite_a=True)
        return _solve_triangle(np.asfortranarray(factor), product.T, "qr", n)
    # [Hᵀ; √λ I] = QR and RᵀR = HHᵀ + λI: β = Hᵀ(RᵀR)⁻¹Y = Q₁R⁻ᵀY.
    q, factor = scipy.linalg.qr(with_penalty(hidden.T, penalty), mode="economic", overwrite_a=True, check_finite=False)
    solution, diagnosis = _solve_triangle(np.asfortranarray(factor), targets, "qr", n, transposed=True)
    return q[:h] @ solution, diagnosis


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
    kept = s > (0 if penalty > 0 else CUTOFFS[dtype] * s[0])
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
        lost = (s <= CUTOFFS[dtype] * s[0]) & (s > NOISE * np.finfo(dtype).eps * s[0])
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
            found = cholesky(add_penalty(gram_of(side), penalty), penalty)
            if found is None:
                continue
            factor, condition = found[0], np.sqrt(found[1])
        else:
            factor = np.asfortranarray(triangle_of(with_penalty(side, penalty)))
            condition = condition_of(factor)
        if not np.isfinite(condition):
            continue
        first = solve_normal(factor, narrow_right).astype(np.float64)
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
            more memory than this machine has, weights beyond float64.

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
    remedy = "lower h, or use fewer rows than units and method='dual'"
    check_bytes(what, (2 * side**2 + rows) * dtype.itemsize, remedy)
    asked = DIGITS[dtype] if digits is None else digits
    with one_blas_thread():
        work = np.dtype(np.float64) if method == "refined" else dtype
        scale, size = _exponent(hidden), _exponent(targets)
        weights, diagnosis = _solve_scaled(
            np.ascontiguousarray(hidden * hidden.dtype.type(2.0**scale), work),
            (targets * targets.dtype.type(2.0**size)).astype(work),
            _scaled_penalty(penalty, [scale, scale], dtype),
            method,
            asked,
        )
        weights = _unscaled(weights, scale - size)
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

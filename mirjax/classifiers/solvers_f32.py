"""The regularised least-squares problem of `solvers` on devices that have no float64: JAX in float32 throughout.

Conventions
-----------
`hidden H f32[n, h]`, `targets Y f32[n, K]`, penalty λ > 0; all minimise |Hβ − Y|² + λ|β|², each in one compiled
program, and say the condition number of what they factorise. docs/conditioning.md has what was measured.

Source
------
Björck (1996), Numerical methods for least squares problems, sections 2.4 and 2.9; Demmel, Grigori, Hoemmen and Langou
(2012), Communication-optimal parallel and sequential QR and LU factorizations, SIAM J. Sci. Comput. 34 (TSQR); Dekker
(1971), A floating-point technique for extending the available precision, Numer. Math. 18 (double-float).

Names
-----
* `cholesky_f32`: by the normal equations; `tsqr_f32`: by QR over blocks; `refined_f32`: the same, corrected
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from mirjax.classifiers.triangles import BLOCK, STEPS, VECTORS


def _times(a, b):
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _normal_f32(factor, right):
    """(RᵀR)⁻¹ B."""
    return lax.linalg.triangular_solve(
        factor, lax.linalg.triangular_solve(factor, right, left_side=True, transpose_a=True), left_side=True
    )


def _condition_f32(factor):
    """Condition number of R as `triangles.condition_of` has it; inf where the factor is not finite."""
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

"""The compiled programs of `seeds`: closed forms of one hidden layer, run for all pairs of a chunk.

Conventions
-----------
A chunk has a feature sets f[a, M, D] and s seeds each, layers f[a, s, D, H] and f[a, s, H]; targets Y f[M, K]; Z sizes,
R ridges. H = φ(xW + b) [n, h] of one pair, λ = ridge · mean diagonal of HᵀH; F folds of at most m rows are given as
`rows int[F, m]`, `mask f[F, m]` (0 for padding) and `position int[M]`, each row's place in [F·m]. The formulas are at
the head of `seeds`, for n < h (dual) and n ≥ h (primal). Pairs are vmapped, or follow each other (`lax.map`) where
`vmapped` is False. All is of the dtype given.

Condition numbers are those of HHᵀ + λI (dual) or HᵀH + λI (primal). The primal held-out scores lose digits once more in
I − Z_fᵀZ_f, where rows determine their own scores: they are multiplied by 1 over the square of its factor's smallest
diagonal element, up to the bound 1 + trace(HᵀH) / λ of both.

Source
------
Dubrule (1983), Cross validation of kriging in a unique neighborhood, Mathematical Geology 15.

Names
-----
* `held_out`, `solved`: held-out scores and output weights of a chunk, with condition numbers; `predicted`: scores
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import solve_triangular

from mirjax.classifiers.hidden import ACTIVATIONS

STEPS = 5  # of the power method: eigenvalues within a small factor

_dot = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def _each(function, values, vmapped):
    """The function of each item: vmapped, or one after the other."""
    return jax.vmap(function)(values) if vmapped else lax.map(function, values)


def _over_pairs(function, x, per_pair, vmapped):
    """The function of (x, layer, ...) for feature sets [a, ...] and for values [a, s, ...] of pairs."""

    def over_seeds(one):
        x, values = one
        return _each(lambda value: function(x, *value), values, vmapped)

    return _each(over_seeds, (x, per_pair), vmapped)


def _activations(x, weights, bias, activation):
    return ACTIVATIONS[activation](_dot(x, weights) + bias[None, :])


def _centred(values, fit_intercept):
    mean = jnp.mean(values, axis=0) if fit_intercept else jnp.zeros(values.shape[1], values.dtype)
    return values - mean[None, :], mean


def _largest_eigenvalue(product, size, dtype):
    """Of a positive semi-definite matrix given by its product with a vector; some steps of the power method."""

    def step(_, vector):
        return product(vector / jnp.linalg.norm(vector))

    start = jnp.asarray(np.random.default_rng(0).standard_normal(size), dtype)
    return jnp.linalg.norm(lax.fori_loop(0, STEPS, step, start))


def _condition(matrix, factor):
    """Condition number of a positive definite matrix [p, p] with Cholesky factor L, within a small factor."""

    def inverse(vector):
        half = solve_triangular(factor, vector, lower=True)
        return solve_triangular(factor, half, lower=True, trans=1)

    product = functools.partial(_dot, matrix)
    size, dtype = len(matrix), matrix.dtype
    return _largest_eigenvalue(product, size, dtype) * _largest_eigenvalue(inverse, size, dtype)


@functools.partial(jax.jit, static_argnames=("sizes", "activation", "fit_intercept", "vmapped"))
def held_out(x, weights, bias, targets, ridges, rows, mask, position, *, sizes, activation, fit_intercept, vmapped):
    """Chunk [a, M, D], [a, s, D, H], [a, s, H] → scores [a, s, Z, R, M, K] and condition numbers [a, s, R]."""

    def one(x, weights, bias):
        hidden, _ = _centred(_activations(x, weights, bias, activation), fit_intercept)
        centred, _ = _centred(targets, fit_intercept)
        penalties = ridges * (jnp.sum(hidden**2) / hidden.shape[1])
        parts = hidden, centred, penalties, rows, mask
        common = {"fit_intercept": fit_intercept, "vmapped": vmapped}
        primal = tuple(size for size in sizes if size <= len(hidden))
        dual = sizes[len(primal) :]
        found = _primal_residuals(*parts, sizes=primal, **common) if primal else []
        found += _dual_residuals(*parts, sizes=dual, **common) if dual else []
        residuals, conditions = zip(*found, strict=True)
        flat = jnp.stack(residuals).reshape(len(sizes), len(ridges), rows.size, targets.shape[1])
        return targets[None, None] - flat[:, :, position], jnp.max(jnp.stack(conditions), axis=0)

    return _over_pairs(one, x, (weights, bias), vmapped)


def _primal_residuals(hidden, targets, penalties, rows, mask, *, sizes, fit_intercept, vmapped):
    """Held-out residuals [R, F, m, K] and condition numbers [R] of each size, from one Cholesky factor a ridge."""
    hidden = hidden[:, : sizes[-1]]
    gram = _dot(hidden.T, hidden)
    pairs = mask[:, :, None] * mask[:, None, :]
    eye = jnp.eye(rows.shape[1], dtype=hidden.dtype)[None]

    def one_ridge(penalty):
        regular = gram + penalty * jnp.eye(len(gram), dtype=gram.dtype)
        factor = jnp.linalg.cholesky(regular)
        # Leading blocks, the Gram matrices of smaller sizes, are conditioned no worse.
        condition = _condition(regular, factor)
        z = solve_triangular(factor, hidden.T, lower=True)
        residuals, left, hat = [], targets, pairs * (float(fit_intercept) / len(hidden))
        for start, stop in zip((0, *sizes[:-1]), sizes, strict=True):
            block = z[start:stop]
            left = left - _dot(block.T, _dot(block, targets))
            held = block.T[rows] * mask[:, :, None]
            hat = hat + _dot(held, held.transpose(0, 2, 1))
            found, pivot = _solve_each(eye - hat, left[rows] * mask[:, :, None], vmapped)
            residuals.append((found, jnp.minimum(condition / pivot, 1 + jnp.trace(gram) / penalty)))
        return residuals

    return lax.map(one_ridge, penalties)


def _dual_residuals(hidden, targets, penalties, rows, mask, *, sizes, fit_intercept, vmapped):
    """Held-out residuals [R, F, m, K] and condition numbers [R] of each size, from its eigendecomposition."""
    n = len(hidden)
    pairs = mask[:, :, None] * mask[:, None, :]
    padding = (1 - mask)[:, :, None] * jnp.eye(rows.shape[1], dtype=hidden.dtype)[None]
    kernel, residuals = jnp.zeros((n, n), hidden.dtype), []
    for start, stop in zip((0, *sizes[:-1]), sizes, strict=True):
        block = hidden[:, start:stop]
        kernel = kernel + _dot(block, block.T)
        # The ones' eigenvalue is moved from 0 to the mean one: its part of Q is then small, and known.
        moved = jnp.trace(kernel) / n * float(fit_intercept)
        values, vectors = jnp.linalg.eigh(kernel + moved / n)
        values = jnp.maximum(values, 0)
        projected = _dot(vectors.T, targets)
        held = vectors[rows] * mask[:, :, None]

        def one_ridge(penalty, values=values, held=held, projected=projected, moved=moved):
            weighted = held / (values + penalty)[None, None, :]
            q = _dot(weighted, held.transpose(0, 2, 1)) + padding
            if fit_intercept:
                q = q - pairs / (n * (moved + penalty))
            return _solve_each(q, _dot(weighted, projected), vmapped)[0]

        residuals.append((lax.map(one_ridge, penalties), (values[-1] + penalties) / (values[0] + penalties)))
    return residuals


def _solve_each(matrices, right, vmapped):
    """The solutions of positive definite systems [F, m, m], [F, m, K], and the smallest pivot of all."""
    if matrices.shape[-1] == 1:
        return right / matrices, jnp.min(matrices)
    found, factors = _each(lambda system: _solve(*system), (matrices, right), vmapped)
    return found, jnp.min(jnp.diagonal(factors, axis1=1, axis2=2)) ** 2


def _solve(matrix, right):
    """The solution of a positive definite system [m, m], [m, K], and its Cholesky factor."""
    factor = jnp.linalg.cholesky(matrix)
    return solve_triangular(factor, solve_triangular(factor, right, lower=True), lower=True, trans=1), factor


@functools.partial(jax.jit, static_argnames=("activation", "fit_intercept", "vmapped"))
def solved(x, weights, bias, targets, ridge, *, activation, fit_intercept, vmapped):
    """Chunk → output weights [a, s, H, K], intercepts [a, s, K] and condition numbers [a, s]."""

    def one(x, weights, bias):
        hidden, means = _centred(_activations(x, weights, bias, activation), fit_intercept)
        centred, offset = _centred(targets, fit_intercept)
        n, h = hidden.shape
        penalty = ridge * (jnp.sum(hidden**2) / h)
        small = _dot(hidden, hidden.T) if n < h else _dot(hidden.T, hidden)
        right = centred if n < h else _dot(hidden.T, centred)
        regular = small + penalty * jnp.eye(len(small), dtype=small.dtype)
        found, factor = _solve(regular, right)
        beta = _dot(hidden.T, found) if n < h else found
        return beta, offset - _dot(means, beta), _condition(regular, factor)

    return _over_pairs(one, x, (weights, bias), vmapped)


@functools.partial(jax.jit, static_argnames=("activation", "vmapped"))
def predicted(x, weights, bias, beta, intercepts, *, activation, vmapped):
    """Chunk → scores [a, s, M, K]."""

    def one(x, weights, bias, beta, intercept):
        return _dot(_activations(x, weights, bias, activation), beta) + intercept[None, :]

    return _over_pairs(one, x, (weights, bias, beta, intercepts), vmapped)

"""The compiled programs of `seeds`: closed forms of one hidden layer, run for all pairs of a chunk.

Conventions
-----------
A chunk has a feature sets f[a, M, D] and s seeds each, layers f[a, s, D, H] and f[a, s, H]; targets Y f[M, K]; Z sizes,
R ridges. H = φ(xW + b) [n, h] of one pair, λ = ridge · mean diagonal of HᵀH; F folds of at most m rows are given as
`rows int[F, m]`, `mask f[F, m]` (0 for padding) and `position int[M]`, each row's place in [F·m]. The formulas are at
the head of `seeds`, for n < h (dual) and n ≥ h (primal). Pairs are vmapped, or follow each other (`lax.map`) where
`vmapped` is False. All is of the dtype given.

Source
------
Dubrule (1983), Cross validation of kriging in a unique neighborhood, Mathematical Geology 15.

Names
-----
* `held_out`, `solved`, `predicted`: held-out scores, output weights and scores of a chunk
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular

from mirjax.classifiers.hidden import ACTIVATIONS

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


@functools.partial(jax.jit, static_argnames=("sizes", "activation", "fit_intercept", "vmapped"))
def held_out(x, weights, bias, targets, ridges, rows, mask, position, *, sizes, activation, fit_intercept, vmapped):
    """Chunk [a, M, D], [a, s, D, H], [a, s, H] → scores [a, s, Z, R, M, K]."""

    def one(x, weights, bias):
        hidden, _ = _centred(_activations(x, weights, bias, activation), fit_intercept)
        centred, _ = _centred(targets, fit_intercept)
        penalties = ridges * (jnp.sum(hidden**2) / hidden.shape[1])
        parts = hidden, centred, penalties, rows, mask
        common = {"fit_intercept": fit_intercept, "vmapped": vmapped}
        primal = tuple(size for size in sizes if size <= len(hidden))
        dual = sizes[len(primal) :]
        residuals = _primal_residuals(*parts, sizes=primal, **common) if primal else []
        residuals += _dual_residuals(*parts, sizes=dual, **common) if dual else []
        flat = jnp.stack(residuals).reshape(len(sizes), len(ridges), rows.size, targets.shape[1])
        return targets[None, None] - flat[:, :, position]

    return _over_pairs(one, x, (weights, bias), vmapped)


def _primal_residuals(hidden, targets, penalties, rows, mask, *, sizes, fit_intercept, vmapped):
    """Z tables [R, F, m, K] of held-out residuals from one Cholesky factorisation for each ridge."""
    hidden = hidden[:, : sizes[-1]]
    gram = _dot(hidden.T, hidden)
    pairs = mask[:, :, None] * mask[:, None, :]
    eye = jnp.eye(rows.shape[1], dtype=hidden.dtype)[None]

    def one_ridge(penalty):
        factor = jnp.linalg.cholesky(gram + penalty * jnp.eye(len(gram), dtype=gram.dtype))
        z = solve_triangular(factor, hidden.T, lower=True)
        residuals, left, hat = [], targets, pairs * (float(fit_intercept) / len(hidden))
        for start, stop in zip((0, *sizes[:-1]), sizes, strict=True):
            block = z[start:stop]
            left = left - _dot(block.T, _dot(block, targets))
            held = block.T[rows] * mask[:, :, None]
            hat = hat + _dot(held, held.transpose(0, 2, 1))
            residuals.append(_solve_each(eye - hat, left[rows] * mask[:, :, None], vmapped))
        return residuals

    return lax.map(one_ridge, penalties)


def _dual_residuals(hidden, targets, penalties, rows, mask, *, sizes, fit_intercept, vmapped):
    """Z tables [R, F, m, K] of held-out residuals from one eigendecomposition for each size."""
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
            return _solve_each(q, _dot(weighted, projected), vmapped)

        residuals.append(lax.map(one_ridge, penalties))
    return residuals


def _solve_each(matrices, right, vmapped):
    """The solutions of positive definite systems [F, m, m], [F, m, K]."""
    if matrices.shape[-1] == 1:
        return right / matrices
    return _each(lambda system: _solve(*system), (matrices, right), vmapped)


def _solve(matrix, right):
    """The solution of a positive definite system [m, m], [m, K]."""
    factor = jnp.linalg.cholesky(matrix)
    return solve_triangular(factor, solve_triangular(factor, right, lower=True), lower=True, trans=1)


@functools.partial(jax.jit, static_argnames=("activation", "fit_intercept", "vmapped"))
def solved(x, weights, bias, targets, ridge, *, activation, fit_intercept, vmapped):
    """Chunk → output weights [a, s, H, K] and intercepts [a, s, K]."""

    def one(x, weights, bias):
        hidden, means = _centred(_activations(x, weights, bias, activation), fit_intercept)
        centred, offset = _centred(targets, fit_intercept)
        n, h = hidden.shape
        penalty = ridge * (jnp.sum(hidden**2) / h)
        small = _dot(hidden, hidden.T) if n < h else _dot(hidden.T, hidden)
        right = centred if n < h else _dot(hidden.T, centred)
        found = _solve(small + penalty * jnp.eye(len(small), dtype=small.dtype), right)
        beta = _dot(hidden.T, found) if n < h else found
        return beta, offset - _dot(means, beta)

    return _over_pairs(one, x, (weights, bias), vmapped)


@functools.partial(jax.jit, static_argnames=("activation", "vmapped"))
def predicted(x, weights, bias, beta, intercepts, *, activation, vmapped):
    """Chunk → scores [a, s, M, K]."""

    def one(x, weights, bias, beta, intercept):
        return _dot(_activations(x, weights, bias, activation), beta) + intercept[None, :]

    return _over_pairs(one, x, (weights, bias, beta, intercepts), vmapped)

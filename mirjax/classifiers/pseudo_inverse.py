"""The published extreme learning machine's solution: the pseudo-inverse with the released cut-off, in JAX.

Conventions
-----------
`x f64[M, D]` features, hidden activations `H f64[M, H]`, targets `Y f64[M, K]` of ±1:

    H = max(xW + b, 0),    β = pinv(H) Y,

where the pseudo-inverse keeps the singular values above 1e6·eps·σ_max. Callers choose the arithmetic
(`arithmetic.double_precision`).

Source
------
Huang, Zhu and Siew (2006), Extreme learning machine: theory and applications, Neurocomputing 70; cut-off as in the
released code of Pons and Serra (2019), Randomly weighted CNNs for (music) audio classification.

Names
-----
* `CUTOFF`: the cut-off
* `activate`, `pseudo_inverse_product`: the two steps
* `reduce_activations`, `fit_and_score`: for many fits to subsets of the same rows
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

CUTOFF = 1e6 * np.finfo(np.float64).eps
"""Singular values at or below this share of the largest count as zero."""


@jax.jit
def activate(x, weights, bias):
    """Hidden activations max(xW + b, 0): `[M, D], [D, H], [H] → [M, H]`."""
    return jnp.maximum(x @ weights + bias[None, :], 0)


@jax.jit
def pseudo_inverse_product(hidden, targets, ridge=0.0):
    """pinv(H) Y by the singular value decomposition H = U diag(σ) Vᵀ.

    Without a ridge 1/σ stands for σ > `CUTOFF`·σ_max and 0 for the rest. With one, σ/(σ² + λ) stands for
    every σ (Tikhonov), where λ = ridge · mean(diag(HᵀH)).

    Args:
        hidden: H, [M, H]; rows of zeros leave the result as it is without them.
        targets: Y, [M, K]; zero where a row of `hidden` is.
        ridge: λ in units of the mean diagonal of HᵀH, at least 0.

    Returns:
        The product [H, K] and the singular values [min(M, H)] in descending order.
    """
    u, s, vt = jnp.linalg.svd(hidden, full_matrices=False)
    penalty = ridge * jnp.sum(s**2) / hidden.shape[1]
    kept = s > jnp.where(ridge > 0, 0, CUTOFF * s[0])
    inverse = jnp.where(kept, s / jnp.where(kept, s**2 + penalty, 1), 0)
    return vt.T @ (inverse[:, None] * (u.T @ targets)), s


@functools.partial(jax.jit, static_argnums=1)
def reduce_activations(hidden, sizes):
    """Small matrices that stand for the first h columns of H in closed forms over any of its rows.

    Where h ≥ M, H = LQ with orthonormal rows in Q; then pinv(H) = Qᵀ pinv(L) and H' pinv(H) = L' pinv(L) for
    all subsets of rows, and L has the singular values of H. L of more units follows from L of fewer and the
    new units.

    Args:
        hidden: H, [M, max(sizes)].
        sizes: numbers of hidden units in ascending order.

    Returns:
        For every size h the first h columns of H [M, h] if h < M, else L [M, M].
    """
    designs, factor, used = [], jnp.zeros((0, len(hidden))), 0
    for size in sizes:
        if size < len(hidden):
            designs.append(hidden[:, :size])
        else:
            factor = jnp.linalg.qr(jnp.concatenate([factor, hidden[:, used:size].T]), mode="r")
            designs.append(factor.T)
            used = size
    return designs


@jax.jit
def fit_and_score(design, in_train, targets):
    """Outputs [M, K] for all rows of a design, fitted to the rows where `in_train` [M, 1] is 1 and not 0.

    Rows of zeros leave the pseudo-inverse of the rest as it is, so all training sets share one compiled
    program.
    """
    weights, _ = pseudo_inverse_product(design * in_train, targets * in_train)
    return design @ weights

"""Random weights, directions and centres: what `hidden.draw_layer` draws a layer from.

Conventions
-----------
D features, H hidden units; `rows f64[M, D]` are training rows and `row_weights f64[M]` theirs, above 0. A kind of
weights is a function (D, H, stream, …) → weights f64[D, H], bias f64[H], where `stream(i)` is the i-th generator beside
that of the seed. `hidden` says what the kinds are and cites their sources.

Names
-----
* `KINDS`: kind of weights → its function; `CHUNK_BYTES`: so much of a larger array is made at a time
* `rbf_shape`, `grbf_shape`: radii (and exponents) of centres
* `random_stream`: the generators of a seed; `orthonormal_rows`: rows of a random basis
"""

import numpy as np
import scipy.linalg
from scipy.spatial.distance import cdist

from mirjax.classifiers.arithmetic import one_blas_thread, power_of_two

GRBF_LAMBDA = 1e-3
"""λ of the generalised radial basis."""

ZERO_VARIANCE = 1e-10
"""Eigenvalues of the correlation matrix at or below this share of the largest count as zero in whitening."""

CHUNK_BYTES = 64 * 2**20
_PANEL = 128


def random_stream(seed, *which):
    """The generator of a seed, or an independent one beside it for each number."""
    if isinstance(seed, (np.random.Generator, np.random.BitGenerator, np.random.RandomState)):
        raise ValueError(f"seed={seed!r} would draw another layer each time; pass a whole number")
    try:
        root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"seed={seed!r} (random_state) must be a whole number of at least 0, a sequence of them, or None"
        ) from error
    return np.random.default_rng(np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, *which)))


def _normal(num_features, hidden_units, stream):
    layer = stream().standard_normal((hidden_units, num_features + 1))
    return layer[:, :num_features].T, layer[:, num_features]


def _uniform(num_features, hidden_units, stream):
    weights = stream(1).uniform(-1, 1, (hidden_units, num_features))
    return weights.T, stream(2).standard_normal(hidden_units)


def _orthogonal(num_features, hidden_units, stream):
    directions, random = np.empty((hidden_units, num_features)), stream(1)
    for start in range(0, hidden_units, num_features):
        block = directions[start : start + num_features]
        block[:] = orthonormal_rows(num_features, len(block), random)
    lengths = np.sqrt(stream(3).chisquare(num_features, hidden_units))
    return (lengths[:, None] * directions).T, stream(2).standard_normal(hidden_units)


def orthonormal_rows(num_features, num_rows, random):
    """The first rows of a random orthonormal basis f64[num_rows, D], uniform over all bases.

    It is Gram and Schmidt's of a D×D normal matrix, made in panels of rows that are always whole, so that no digit
    depends on the number of rows asked for. Every panel is projected twice, which leaves the basis orthogonal to
    rounding.

    Args:
        num_features: D.
        num_rows: at most D.
        random: a numpy Generator.
    """
    basis = np.empty((0, num_features))
    with one_blas_thread():
        for start in range(0, num_rows, _PANEL):
            panel = random.standard_normal((min(_PANEL, num_features - start), num_features))
            for _ in range(2):
                panel = panel - (panel @ basis.T) @ basis
                q, r = scipy.linalg.qr(panel.T, mode="economic")
                panel = (q * np.where(np.diagonal(r) < 0, -1.0, 1.0)).T
            basis = np.concatenate([basis, panel])
    return basis[:num_rows]


def _sparse(num_features, hidden_units, stream, density):
    weights, bias = _normal(num_features, hidden_units, stream)
    kept = max(1, round(density * num_features))
    if kept == num_features:
        return weights, bias
    rows, random = weights.T, stream(1)
    step = max(1, CHUNK_BYTES // (8 * num_features))
    for start in range(0, hidden_units, step):
        chunk = rows[start : start + step]
        left_out = np.argpartition(random.random(chunk.shape), kept, axis=1)[:, kept:]
        np.put_along_axis(chunk, left_out, 0, axis=1)
    weights *= np.sqrt(num_features / kept)
    return weights, bias


def _whitened(num_features, hidden_units, stream, rows, row_weights):
    """w = C^(-1/2) z / |P z| for normal z, C being the correlation matrix and P the projection on what is kept of it.

    Features are scaled to deviation 1 first, so that the cut-off does not depend on their units. The root is the
    symmetric one: it is a continuous function of the data, which eigenvectors are not.
    """
    normal, bias = _normal(num_features, hidden_units, stream)
    mean, deviation, correlation = _moments(rows, row_weights)
    with one_blas_thread():
        variances, directions = scipy.linalg.eigh(correlation)
        kept = (variances > ZERO_VARIANCE * variances[-1]) & (variances > 0)
        if not kept.any():
            raise ValueError("x is constant in all features; weights='whitened' needs rows that differ")
        coordinates = directions[:, kept].T @ normal
        coordinates /= np.linalg.norm(coordinates, axis=0)
        weights = (directions[:, kept] / np.sqrt(variances[kept])) @ coordinates
        weights = weights / np.where(deviation > 0, deviation, np.inf)[:, None]
    return weights, bias - mean @ weights


def _moments(rows, row_weights):
    """Weighted mean [D], deviation [D] (0 for a constant feature) and correlation matrix [D, D] of rows."""
    shares, size = row_weights / row_weights.sum(), power_of_two(np.abs(rows).max(0))
    # A spread in the last digits of a feature is rounding; whitening would make as much of it as of any other.
    mean, varies = shares @ rows, np.ptp(rows, axis=0) > 1e-12 * np.abs(rows).max(0)
    covariance = np.zeros((rows.shape[1],) * 2)
    step = max(1, CHUNK_BYTES // (8 * rows.shape[1]))
    with one_blas_thread():
        for start in range(0, len(rows), step):
            part = np.sqrt(shares[start : start + step, None]) * ((rows[start : start + step] - mean) / size)
            covariance += part.T @ part
    deviation = np.where(varies, np.sqrt(np.diagonal(covariance)), 0)
    scale = np.where(deviation > 0, deviation, np.inf)
    return mean, deviation * size, covariance / scale[:, None] / scale[None, :]


KINDS = {
    "normal": _normal,
    "uniform": _uniform,
    "orthogonal": _orthogonal,
    "sparse": _sparse,
    "whitened": _whitened,
}
"""Kinds of input weights; `sparse` takes density beside the rest, `whitened` rows and row_weights."""


def _nearest_and_furthest(centres):
    """Distances of each centre to its nearest and its furthest other one, in chunks of rows."""
    nearest, furthest = np.empty(len(centres)), np.empty(len(centres))
    step = max(1, CHUNK_BYTES // (8 * len(centres)))
    for start in range(0, len(centres), step):
        distances = cdist(centres[start : start + step], centres)
        furthest[start : start + step] = distances.max(1)
        distances[np.arange(len(distances)), start + np.arange(len(distances))] = np.inf
        nearest[start : start + step] = distances.min(1)
    return nearest, furthest


def rbf_shape(centres):
    """The radius of all units, as `radii` [H], of centres [H, D]."""
    _, furthest = _nearest_and_furthest(centres)
    if not furthest.max() > 0:
        raise ValueError("x is constant in all features, so all centres are one; alpha < 1 needs rows that differ")
    return {"radii": np.full(len(centres), furthest.max() / np.sqrt(2 * len(centres)))}


def grbf_shape(centres):
    """`exponents` τ and `radii` r, each [H], of centres [H, D]."""
    nearest, furthest = _nearest_and_furthest(centres)
    if not (0 < nearest).all() or not (nearest < furthest).all():
        raise ValueError("some centre is as far from its nearest as from its furthest; 'grbf' needs rows that differ")
    exponents = np.log(np.log(GRBF_LAMBDA) / np.log1p(-GRBF_LAMBDA)) / np.log(furthest / nearest)
    return {"exponents": exponents, "radii": furthest / (-np.log(GRBF_LAMBDA)) ** (1 / exponents)}

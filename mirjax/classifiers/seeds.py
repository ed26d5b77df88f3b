"""Many seeds and feature sets at once: the closed forms of an extreme learning machine, vmapped and cut to memory.

Conventions
-----------
`x f64[A, M, D]` A sets of features of the same M clips (or `[M, D]`, or a list of `[M, D]` of several widths);
targets `Y f64[M, K]`; S seeds; Z hidden sizes, the first units of one layer; R ridges; n = M rows. For one feature
set and seed H = φ(xW + b), W and b from `hidden.draw_layer`, and λ = ridge · mean diagonal of HᵀH at full width
(of centred H with an intercept), for every size and fold. With fold f held out the residuals of its rows are

    n < h:  HHᵀ = U diag(w) Uᵀ,  Q = U diag(1/(w + λ)) Uᵀ,           e_f = Q_ff⁻¹ (QY)_f
    n ≥ h:  HᵀH + λI = LLᵀ,  Z = L⁻¹Hᵀ, first h rows for h units,    e_f = (I − Z_fᵀZ_f)⁻¹ (Y − ZᵀZY)_f

which is exact: no model is fitted again. With an intercept (no penalty on it) H and Y are centred, 11ᵀ/n is added
to ZᵀZ, and the vector of ones, on which a centred kernel is 0, is taken out of Q.

A chunk of seeds (times feature sets) is one call of one compiled program; layers are drawn, and scores leave the
device, chunk by chunk. A chunk is as many pairs as fit into `memory`, by the model of `chunk_bytes`; input, result
and JAX itself come on top (some 200 MB, and 10 to 50 MB for a compilation and what the allocator keeps).

On an accelerator the pairs of a chunk are vmapped. On a CPU they follow each other (`lax.map`) inside the program,
as jaxlib's batched LAPACK calls wait for threads of the pool they run on, and two at once on two cores wait for
ever (jaxlib 0.10.2). So on a CPU the scores do not depend on the chunk; on an accelerator another order of
summation changes them by rounding.

Digits: a condition number κ² of the regularised Gram matrix costs log₁₀(10 · eps · κ²) of them. It is at most
1 + H / ridge; the programs estimate it, and a `PrecisionWarning` tells where fewer than `DIGITS` are left.

Source
------
Huang, Zhu and Siew (2006), Extreme learning machine, Neurocomputing 70; Dubrule (1983), Cross validation of kriging
in a unique neighborhood, Mathematical Geology 15 (the leave-fold-out identity, with unpenalised functions);
Allen (1974), The relationship between variable selection and data augmentation, Technometrics 16 (PRESS).

Names
-----
* `held_out_scores`: exact leave-fold-out scores of all feature sets, seeds, sizes and ridges
* `fit_seeds`, `predict_seeds`: output weights of many seeds, and their scores of other clips
* `FittedSeeds`: what `fit_seeds` returns
* `chunk_bytes`: the memory model

`seed_programs` has the compiled programs.
"""

import dataclasses
import functools
import numbers
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from mirjax.classifiers.arithmetic import double_precision, one_blas_thread
from mirjax.classifiers.hidden import draw_layer
from mirjax.classifiers.seed_programs import held_out, predicted, solved
from mirjax.classifiers.solvers import GROWTH, PrecisionWarning

DIGITS = {np.dtype(np.float64): 4.0, np.dtype(np.float32): 2.0}
"""Correct decimal digits of the scores that are asked for; fewer warn."""


def held_out_scores(
    x,
    targets,
    folds,
    seeds,
    *,
    hidden_units,
    ridges,
    weights="normal",
    activation="relu",
    fit_intercept=False,
    memory=2**30,
    dtype=np.float64,
):
    """Scores of every row by the model that was fitted without the row's fold; all seeds and feature sets.

    Args:
        x: features f[A, M, D], f[M, D], or a list of f[M, D_a]; finite.
        targets: Y, f[M, K].
        folds: the fold of each row, int[M], two different ones or more; each row its own is leave-one-out.
        seeds: whole numbers [S], at least 0.
        hidden_units: a size, or ascending sizes; fewer units are the first of the largest size.
        ridges: λ in units of the mean diagonal of HᵀH at full width, above 0, [R].
        weights: a kind of `hidden.draw_layer` that does not look at the features.
        activation: a name of `hidden.ACTIVATIONS`.
        fit_intercept: whether an intercept without penalty is fitted.
        memory: bytes a chunk may take beside input and result, see `chunk_bytes`.
        dtype: float64, or float32, which needs ridges of about 1e-2 and more.

    Returns:
        Scores f64[A, S, Z, R, M, K]; A = 1 for features [M, D], Z = 1 for one size.

    Raises:
        ValueError: an argument out of range, one seed takes more than `memory`, or a ridge is too small for the
            dtype (scores that are not finite).

    Warns:
        PrecisionWarning: a condition number leaves the scores fewer than `DIGITS` correct decimal digits.
    """
    x, widths = _feature_sets(x)
    targets = _table("targets", targets, len(x[0]))
    sizes, ridges, seeds, dtype = _sizes(hidden_units), _ridges("ridges", ridges), _seeds(seeds), _dtype(dtype)
    if weights == "whitened":
        raise ValueError("weights='whitened' looks at the rows held out; take weights that are drawn without features")
    rows, mask, position = _fold_rows(folds, len(targets))
    counts = {"rows": len(targets), "features": x.shape[2], "sizes": sizes, "outputs": targets.shape[1]}
    taken = functools.partial(chunk_bytes, **counts, ridges=len(ridges), fold=rows.shape, dtype=dtype)
    chunk = _chunk(memory, taken, len(x), len(seeds))
    settings = {"sizes": sizes, "activation": activation, "fit_intercept": bool(fit_intercept), "vmapped": _vmapped()}
    scores = np.empty((len(x), len(seeds), len(sizes), len(ridges), *targets.shape))
    conditions = np.empty((len(x), len(seeds), len(ridges)))
    with one_blas_thread(), double_precision():
        shared = [jnp.asarray(value, dtype) for value in (targets, ridges)]
        shared += [jnp.asarray(rows), jnp.asarray(mask, dtype), jnp.asarray(position)]
        for sets, some, drawn in _chunks(x, widths, seeds, chunk, sizes[-1], weights, activation, dtype):
            found = held_out(*drawn, *shared, **settings)
            del drawn  # before the next layers are drawn
            for value, part in zip((scores, conditions), found, strict=True):
                value[sets, some] = np.asarray(part)[: sets.stop - sets.start, : some.stop - some.start]
            del found, part
    _check_finite(scores.transpose(3, 0, 1, 2, 4, 5), ridges, dtype)
    _check_digits("held_out_scores", conditions, seeds, ridges, dtype)
    return scores


@dataclasses.dataclass(frozen=True)
class FittedSeeds:
    """Output weights of A feature sets and S seeds.

    Attributes:
        layers: the hidden layers, tuple [A] of tuples [S].
        output_weights: f64[A, S, H, K].
        intercepts: f64[A, S, K], zeros without an intercept.
        condition_numbers: of the regularised Gram matrix that was factorised, of rows or units whichever are fewer;
            f64[A, S], within a small factor.
        activation: of the layers, a name of `hidden.ACTIVATIONS`.
        widths: D of each feature set, int[A].
    """

    layers: tuple
    output_weights: np.ndarray
    intercepts: np.ndarray
    condition_numbers: np.ndarray
    activation: str
    widths: tuple


def fit_seeds(
    x,
    targets,
    seeds,
    *,
    hidden_units,
    ridge,
    weights="normal",
    activation="relu",
    fit_intercept=False,
    memory=2**30,
    dtype=np.float64,
):
    """Output weights of one size and one ridge for all seeds and feature sets: min ‖Y − Hβ − b‖² + λ‖β‖².

    Args:
        x, targets, seeds, activation, fit_intercept, memory, dtype: as for `held_out_scores`.
        hidden_units: H, at least 1.
        ridge: λ in units of the mean diagonal of HᵀH, above 0.
        weights: a kind of `hidden.draw_layer`.

    Returns:
        A `FittedSeeds` with all layers (8·S·H·(D + 1) bytes a width) and weights.

    Raises:
        ValueError: as for `held_out_scores`.

    Warns:
        PrecisionWarning: as `held_out_scores`, of the scores of rows like those fitted.
    """
    x, widths = _feature_sets(x)
    targets = _table("targets", targets, len(x[0]))
    seeds, dtype = _seeds(seeds), _dtype(dtype)
    sizes, ridges = _sizes([hidden_units]), _ridges("ridge", [ridge])
    counts = {"rows": len(targets), "features": x.shape[2], "sizes": sizes, "outputs": targets.shape[1]}
    chunk = _chunk(
        memory, functools.partial(chunk_bytes, **counts, ridges=1, fold=(1, 1), dtype=dtype), len(x), len(seeds)
    )
    settings = {"activation": activation, "fit_intercept": bool(fit_intercept), "vmapped": _vmapped()}
    layers = [[None] * len(seeds) for _ in widths]
    beta = np.empty((len(x), len(seeds), sizes[0], targets.shape[1]))
    intercepts = np.empty((len(x), len(seeds), targets.shape[1]))
    conditions = np.empty((len(x), len(seeds)))
    with one_blas_thread(), double_precision():
        shared = jnp.asarray(targets, dtype), jnp.asarray(ridges[0], dtype)
        for sets, some, drawn in _chunks(x, widths, seeds, chunk, sizes[0], weights, activation, dtype, layers):
            found = solved(*drawn, *shared, **settings)
            del drawn  # before the next layers are drawn
            for value, part in zip((beta, intercepts, conditions), found, strict=True):
                value[sets, some] = np.asarray(part)[: sets.stop - sets.start, : some.stop - some.start]
            del found, part
    _check_finite(beta[None], ridges, dtype)
    _check_digits("fit_seeds", conditions[:, :, None], seeds, ridges, dtype)
    return FittedSeeds(tuple(map(tuple, layers)), beta, intercepts, conditions, activation, widths)


def predict_seeds(fitted, x, *, memory=2**30, dtype=np.float64):
    """Scores Hβ + b of clips by every seed.

    Args:
        fitted: a `FittedSeeds`.
        x: the same feature sets of other clips, f[A, M, D], f[M, D] or a list.
        memory, dtype: as for `held_out_scores`.

    Returns:
        Scores f64[A, S, M, K].

    Raises:
        ValueError: other feature sets than those of the fit.
    """
    x, widths = _feature_sets(x)
    dtype = _dtype(dtype)
    if widths != fitted.widths:
        raise ValueError(f"x has feature sets of {widths} columns, fitted were {fitted.widths}; pass the same sets")
    num_seeds, hidden_units, outputs = fitted.output_weights.shape[1:]
    carried = 2 * x[0].size + 3 * (x.shape[2] + 1 + outputs) * hidden_units + 2 * x.shape[1] * outputs
    sets, some = _chunk(
        memory, lambda pairs: dtype.itemsize * pairs * (carried + 2 * x.shape[1] * hidden_units), len(x), num_seeds
    )
    scores = np.empty((len(x), num_seeds, x.shape[1], outputs))
    with one_blas_thread(), double_precision():
        for a, s in _blocks(len(x), num_seeds, (sets, some)):
            drawn = _stacked(x[a], fitted.layers[a], s, dtype)
            learnt = (jnp.asarray(value[a, s], dtype) for value in (fitted.output_weights, fitted.intercepts))
            scores[a, s] = np.asarray(predicted(*drawn, *learnt, activation=fitted.activation, vmapped=_vmapped()))
    return scores


def chunk_bytes(pairs, *, rows, features, sizes, outputs, ridges, fold, dtype):
    """Memory model: bytes that a chunk of pairs of a feature set and a seed takes in `held_out_scores`.

    In numbers of `dtype`, with n rows, D features, H = the largest size, F folds of at most m rows. Every pair has
    its layer as drawn, in line and on the device 3(D + 1)H, its features 2nD, its scores 3ZRnK. The work on a pair,
    once on a CPU and for every pair where pairs are vmapped: activations 3nH; the larger of the dual form
    6n² + 2Fmn and of the primal form 3p² + (3n + Fm)p, with p the largest size ≤ n; fold blocks 3Fm².

    Args:
        pairs: number of pairs.
        rows, features: n and D.
        sizes: the hidden sizes, ascending.
        outputs, ridges: K and R.
        fold: (F, m).
        dtype: of the computation.
    """
    n, widest = rows, sizes[-1]
    number, length = fold
    primal = max((size for size in sizes if size <= n), default=0)
    solving = max(
        6 * n * n + 2 * number * length * n if widest > n else 0,
        3 * primal * primal + (3 * n + number * length) * primal,
    )
    carried = 3 * (features + 1) * widest + 2 * n * features + 3 * len(sizes) * ridges * n * outputs
    working = 3 * n * widest + solving + 3 * number * length**2
    return int(np.dtype(dtype).itemsize * (pairs * carried + (pairs if _vmapped() else 1) * working))


def _vmapped():
    """Whether pairs are vmapped: on accelerators, see the head of this module."""
    device = jax.config.jax_default_device
    return getattr(device, "platform", device or jax.default_backend()) != "cpu"


# Chunks.


def _chunk(memory, taken, num_sets, num_seeds):
    """How many feature sets and seeds one call takes: all seeds of some sets, or some seeds of one set.

    `taken` says how many bytes a number of pairs takes; it grows linearly.
    """
    if not (isinstance(memory, numbers.Real) and memory > 0):
        raise ValueError(f"memory={memory!r} must be a number of bytes above 0")
    if taken(1) > memory:
        raise ValueError(
            f"memory={memory} bytes is less than the {taken(1)} bytes that one seed takes; raise memory, or lower "
            "hidden_units or the number of rows or ridges"
        )
    memory = min(memory, taken(num_sets * num_seeds))  # it may be infinite
    pairs = 1 + int((memory - taken(1)) // (taken(2) - taken(1)))
    if pairs < num_seeds:
        # As even as can be: padding is computed too.
        return 1, -(-num_seeds // -(-num_seeds // pairs))
    return min(num_sets, pairs // num_seeds), num_seeds


def _blocks(num_sets, num_seeds, chunk):
    """Slices of feature sets and seeds that cover all of them."""
    for a in range(0, num_sets, chunk[0]):
        for s in range(0, num_seeds, chunk[1]):
            yield slice(a, min(a + chunk[0], num_sets)), slice(s, min(s + chunk[1], num_seeds))


def _chunks(x, widths, seeds, chunk, hidden_units, weights, activation, dtype, kept=None):
    """Slices and (x, weights, bias) of each chunk, filled up to one shape; layers go to `kept` [A][S] if given."""
    for sets, some in _blocks(len(widths), len(seeds), chunk):
        layers, known = [], {}
        for a in range(sets.start, sets.stop):
            layers.append([])
            for s in range(some.start, some.stop):
                # Sets of one width share their layers, unless a layer is learnt from the features.
                key = (seeds[s], a if weights == "whitened" else widths[a])
                if key not in known:
                    known[key] = draw_layer(
                        widths[a],
                        hidden_units,
                        seeds[s],
                        weights=weights,
                        activation=activation,
                        x=x[a, :, : widths[a]],
                    )
                layers[-1].append(known[key])
            if kept is not None:
                kept[a][some] = layers[-1]
        layers = [row + row[:1] * (chunk[1] - len(row)) for row in layers]
        filled = np.minimum(np.arange(sets.start, sets.start + chunk[0]), sets.stop - 1)
        layers += layers[:1] * (chunk[0] - len(layers))
        stacked = _stacked(x[filled], layers, slice(None), dtype)
        # A generator keeps its names while it waits: nothing of a chunk may outlive it.
        del layers, known
        yield sets, some, stacked
        del stacked


def _stacked(x, layers, seeds, dtype):
    """Features [a, M, D], weights [a, s, D, H] and biases [a, s, H] on the device; narrow sets get zero weights."""
    rows = [row[seeds] for row in layers]
    hidden_units = len(rows[0][0].bias)
    weights = np.zeros((len(rows), len(rows[0]), x.shape[2], hidden_units), dtype)
    bias = np.empty((len(rows), len(rows[0]), hidden_units), dtype)
    for a, row in enumerate(rows):
        for s, layer in enumerate(row):
            weights[a, s, : layer.weights.shape[0]] = layer.weights
            bias[a, s] = layer.bias
    return jnp.asarray(x, dtype), jnp.asarray(weights), jnp.asarray(bias)


def _fold_rows(folds, num_rows):
    """Rows of each fold int[F, m], which of them are rows and not padding [F, m], and each row's place in [F·m]."""
    folds = np.asarray(folds)
    if folds.shape != (num_rows,) or not np.issubdtype(folds.dtype, np.integer):
        raise ValueError(f"folds {folds.dtype}{list(folds.shape)} must be a whole number for each of {num_rows} rows")
    numbers, codes, counts = np.unique(folds, return_inverse=True, return_counts=True)
    if len(numbers) < 2:
        raise ValueError(f"folds has one fold only, {numbers.tolist()}; nothing is left to fit to, give two or more")
    order = np.argsort(codes, kind="stable")
    place = np.arange(num_rows) - np.repeat(np.cumsum(counts) - counts, counts)
    rows, mask = np.zeros((len(counts), counts.max()), np.int32), np.zeros((len(counts), counts.max()))
    rows[codes[order], place], mask[codes[order], place] = order, 1
    position = np.empty(num_rows, np.int32)
    position[order] = codes[order] * counts.max() + place
    return rows, mask, position


# Checks of arguments.


def _feature_sets(x):
    """Feature sets f64[A, M, D], narrow ones filled up with columns of zeros, and their widths."""
    if not isinstance(x, (list, tuple)):
        x = np.asarray(x)
        if x.ndim not in (2, 3):
            raise ValueError(f"x has shape {list(x.shape)}; expected [M, D], [A, M, D] or a list of [M, D]")
        x = x[None] if x.ndim == 2 else x
    sets = [np.asarray(one) for one in x]
    shapes = [one.shape for one in sets]
    if not sets or any(len(shape) != 2 or shape[0] != shapes[0][0] or 0 in shape for shape in shapes):
        raise ValueError(f"x has feature sets of shapes {shapes}; expected [M, D] each, with the same M of 1 or more")
    widths = tuple(shape[1] for shape in shapes)
    filled = np.zeros((len(sets), shapes[0][0], max(widths)))
    for a, one in enumerate(sets):
        filled[a, :, : widths[a]] = one
        if not np.isfinite(filled[a]).all():
            row = int(np.flatnonzero(~np.isfinite(filled[a]).all(axis=1))[0])
            raise ValueError(f"x: feature set {a} has NaN or infinite values, first in row {row}; leave such rows out")
    return filled, widths


def _table(name, values, num_rows):
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or len(values) != num_rows or not values.shape[1]:
        raise ValueError(f"{name} has shape {list(values.shape)}; expected [{num_rows}, K], a row for each row of x")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has NaN or infinite values; leave such rows out")
    return values


def _sizes(hidden_units):
    sizes = np.atleast_1d(hidden_units)
    whole = np.issubdtype(sizes.dtype, np.integer) and sizes.ndim == 1 and sizes.size
    if not whole or sizes[0] < 1 or (np.diff(sizes) <= 0).any():
        raise ValueError(f"hidden_units={hidden_units!r} must be whole numbers of at least 1, in ascending order")
    return tuple(sizes.tolist())


def _ridges(name, ridges):
    try:
        values = np.atleast_1d(np.asarray(ridges, np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"{name}={ridges!r} must be numbers above 0") from None
    if values.ndim != 1 or not values.size or not ((values > 0) & np.isfinite(values)).all():
        raise ValueError(f"{name}={ridges!r} must be finite and above 0 (0 is ELMClassifier's pseudo-inverse)")
    return values


def _seeds(seeds):
    values = np.asarray(seeds)
    if values.ndim != 1 or not values.size or not np.issubdtype(values.dtype, np.integer) or (values < 0).any():
        raise ValueError(f"seeds={seeds!r} must be a list of whole numbers of at least 0")
    return values.tolist()


def _dtype(dtype):
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in DIGITS:
        raise ValueError(f"dtype={dtype!r} must be float32 or float64")
    return found


def _check_finite(values, ridges, dtype):
    """An error where a ridge's values [R, ...] are not finite."""
    bad = [ridge for ridge, value in zip(ridges.tolist(), values, strict=True) if not np.isfinite(value).all()]
    if bad:
        raise ValueError(
            f"ridge {bad} is too small for these features in {dtype}: no factorisation; raise it"
            + (" or take dtype=float64" if dtype == np.float32 else "")
        )


def _check_digits(what, conditions, seeds, ridges, dtype):
    """One warning a call, of the worst pair, where condition numbers [A, S, R] leave fewer digits than asked for."""
    a, s, r = np.unravel_index(np.argmax(conditions), conditions.shape)
    error = GROWTH * np.finfo(dtype).eps * conditions[a, s, r]
    digits = float(np.clip(-np.log10(error), 0, 16))
    if digits < DIGITS[dtype]:
        warnings.warn(
            f"{what}: about {digits:.1f} correct digits of {DIGITS[dtype]:g} asked for, at worst (ridge {ridges[r]:g}, "
            f"feature set {a}, seed {seeds[s]}); the condition number is {conditions[a, s, r]:.1e}. Raise the ridge, "
            "standardise the features" + (" or take dtype=float64" if dtype == np.float32 else ""),
            PrecisionWarning,
            stacklevel=3,
        )

"""Random hidden layers: how they are drawn, and their activations.

Conventions
-----------
`x f[M, D]` features, one row a clip; H hidden units. Unit j answers with g(a_j), where

    a_j = α (x·w_j + b_j) + (1 - α) · rbf_width · |x - c_j| / r.

With α = 1 (chapter 4 of the thesis, and the default here) no centre is drawn, with α = 0 no weight. The default of
the released layer is α = 0.5. Centres c_j are uniform in the bounding box of the data, and the radius
r = (largest distance between two centres) / sqrt(2H) is one for all units. The generalised radial basis (`grbf`, with
α = 0) has a radius and an exponent per unit instead:

    g_j = exp(-(|x - c_j| / r_j)^τ_j),  τ_j = ln(ln λ / ln(1 - λ)) / ln(F_j / N_j),  r_j = F_j / (-ln λ)^(1/τ_j),

N_j and F_j being the distances of c_j to the nearest and to the furthest other centre and λ = 0.001, so that the unit
answers 1 - λ at the one distance and λ at the other.

The input weights come in five kinds, all with biases from N(0, 1):

* `normal`: N(0, 1); weights and bias of a unit are one row of a single draw
* `uniform`: uniform in (-1, 1)
* `orthogonal`: blocks of D mutually orthogonal directions of independent χ_D-distributed lengths, so that each unit by
  itself is N(0, I)
* `sparse`: of the normal weights each unit keeps k = max(1, round(density · D)) at random, times sqrt(D / k), which
  keeps the variance of the argument
* `whitened`: random directions in the space where the training rows are white, so that x·w_j has variance 1 over the
  training rows; the mean is taken off through the bias, b_j = N(0, 1) - mean·w_j

Weights, biases and centres are nested: those of the first units do not depend on how many follow (whitened ones to
rounding, the others to the last bit). The radii and τ of the radial parts do (they are functions of all centres), and
`first` keeps those of the full layer.

Source
------
Pons and Serrà (2019), the extended random layer of their ELM, which is Python-ELM's (D. C. Lambert, 2013);
Fernández-Navarro, Hervás-Martínez, Sánchez-Monedero and Gutiérrez (2011), MELM-GRBF, Neurocomputing 74, for `grbf`;
Yu et al. (2016), Orthogonal random features, NIPS, for `orthogonal`.

Names
-----
* `ACTIVATIONS`: name → elementwise function
* `draw_layer`: a random layer, as a `HiddenLayer`
* `HiddenLayer`: its arrays and settings; called on x it gives the activations as a numpy array
* `apply`: the activations as a pure function, for use inside jit, vmap and shard_map

The random numbers come from `draws`.
"""

import dataclasses
import difflib
import functools
import numbers

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.classifiers.arithmetic import check_memory, double_precision, is_whole
from mirjax.classifiers.draws import CHUNK_BYTES, KINDS, grbf_shape, random_stream, rbf_shape

SPREADS = 1e-140, 1e150
"""Between these the squares of distances, and of parts of them, are numbers of float64."""


def _relu(a):
    return jnp.maximum(a, 0)


ACTIVATIONS = {
    "sine": jnp.sin,
    "tanh": jnp.tanh,
    "tribas": lambda a: jnp.clip(1 - jnp.abs(a), 0, 1),
    "inv_tribas": lambda a: jnp.clip(jnp.abs(a), 0, 1),
    "sigmoid": lambda a: 1 / (1 + jnp.exp(-a)),
    "hardlim": lambda a: (a > 0).astype(a.dtype),
    "softlim": lambda a: jnp.clip(a, 0, 1),
    "gaussian": lambda a: jnp.exp(-(a**2)),
    # hypot(1, a) is sqrt(1 + a²) without the overflow of a².
    "multiquadric": lambda a: jnp.hypot(jnp.ones_like(a), a),
    "inv_multiquadric": lambda a: 1 / jnp.hypot(jnp.ones_like(a), a),
    "reclinear": _relu,
    "relu": _relu,
}
"""The eleven activations of the released layer, and `relu`, the usual name of its `reclinear`."""


def apply(params, x, *, activation="relu", alpha=1.0, rbf_width=1.0):
    """Activations of a layer: a pure function of its arrays.

    Args:
        params: what `HiddenLayer.params` gives: `weights` [D, H] and `bias` [H]; with alpha < 1 `centres` [H, D] and
            `radii` [H]; for `grbf` also `exponents` [H]. They are in the dtype of x.
        x: [M, D].
        activation: a key of `ACTIVATIONS`, or `grbf`.
        alpha: share of the projection, in [0, 1].
        rbf_width: factor of the distances.

    Returns:
        [M, H], in the dtype of x.
    """
    argument = 0.0
    if "weights" in params:
        projection = jnp.matmul(x, params["weights"], precision=lax.Precision.HIGHEST) + params["bias"][None, :]
        argument = alpha * projection
    if "centres" in params:
        # The differences are squared as they are: |x|² + |c|² - 2x·c would lose half of the digits of near points.
        # XLA runs the sum without storing its [M, H, D] terms.
        distances = jnp.sqrt(jnp.sum((x[:, None, :] - params["centres"][None, :, :]) ** 2, axis=-1))
        distances = distances / params["radii"][None, :]
        if activation == "grbf":
            return jnp.exp(-(distances ** params["exponents"][None, :]))
        argument = argument + (1 - alpha) * rbf_width * distances
    return ACTIVATIONS[activation](argument)


_apply = jax.jit(apply, static_argnames=("activation", "alpha", "rbf_width"))


@dataclasses.dataclass(frozen=True, eq=False)
class HiddenLayer:
    """A drawn hidden layer: numpy arrays in float64 and settings.

    Attributes:
        weights: input weights [D, H]; None with alpha = 0.
        bias: [H]; None with alpha = 0.
        centres: [H, D]; None with alpha = 1.
        radii: [H]; None with alpha = 1.
        exponents: τ [H] of `grbf`, else None.
        activation: a key of `ACTIVATIONS`, or `grbf`.
        alpha: share of the projection, in [0, 1].
        rbf_width: factor of the distances.
    """

    weights: np.ndarray | None
    bias: np.ndarray | None
    centres: np.ndarray | None = None
    radii: np.ndarray | None = None
    exponents: np.ndarray | None = None
    activation: str = "relu"
    alpha: float = 1.0
    rbf_width: float = 1.0

    _ARRAYS = ("weights", "bias", "centres", "radii", "exponents")
    _SETTINGS = ("activation", "alpha", "rbf_width")

    @property
    def hidden_units(self):
        """H."""
        return len(self.radii if self.bias is None else self.bias)

    @property
    def num_features(self):
        """D."""
        return self.centres.shape[1] if self.weights is None else self.weights.shape[0]

    @property
    def settings(self):
        """The keyword arguments of `apply`."""
        return {name: getattr(self, name) for name in self._SETTINGS}

    def params(self, dtype=np.float64):
        """The arrays of `apply` that this layer has, as numpy arrays of a dtype."""
        arrays = {name: getattr(self, name) for name in self._ARRAYS}
        return {name: np.asarray(array, dtype) for name, array in arrays.items() if array is not None}

    def __call__(self, x, dtype=np.float64):
        """Activations of x f[M, D] as a numpy array f[M, H], in `dtype` (float64 or float32), by chunks of rows.

        Raises:
            ValueError: another width than the layer's, a dtype that is neither, or more than the memory holds.
        """
        dtype, x = np.dtype(dtype), np.asarray(x)
        if dtype not in (np.float64, np.float32):
            raise ValueError(f"dtype={dtype.name} must be float64 or float32")
        if x.ndim != 2 or x.shape[1] != self.num_features:
            raise ValueError(f"x has shape {x.shape}, but the hidden layer takes [M, {self.num_features}]")
        if dtype == np.float64:
            with double_precision():
                return self._activations(x, dtype)
        return self._activations(x, dtype)

    def _activations(self, x, dtype):
        num_rows, width = len(x), max(self.hidden_units, self.num_features)
        check_memory("the hidden activations", (num_rows, self.hidden_units), dtype)
        params = jax.tree.map(jnp.asarray, self.params(dtype))
        activations = np.empty((num_rows, self.hidden_units), dtype)
        step = max(1, CHUNK_BYTES // (dtype.itemsize * width))
        for start in range(0, num_rows, step):
            rows = x[start : start + step]
            # Rows of zeros fill a chunk up to a power of two, so that few programs serve all numbers of rows.
            padded = np.zeros((min(step, 1 << (len(rows) - 1).bit_length()), self.num_features), dtype)
            padded[: len(rows)] = rows
            activations[start : start + step] = np.asarray(_apply(params, padded, **self.settings))[: len(rows)]
        return activations

    def first(self, hidden_units):
        """The layer of the first units; radii and exponents stay those of this layer."""
        if not 1 <= hidden_units <= self.hidden_units:
            raise ValueError(f"hidden_units={hidden_units!r} must be between 1 and the layer's {self.hidden_units}")
        kept = {name: getattr(self, name) for name in self._ARRAYS if getattr(self, name) is not None}
        cut = {
            name: array[:, :hidden_units] if name == "weights" else array[:hidden_units] for name, array in kept.items()
        }
        return dataclasses.replace(self, **cut)

    def arrays(self):
        """Everything that `from_arrays` needs, as a flat dict of arrays."""
        return self.params() | {name: np.asarray(value) for name, value in self.settings.items()}

    @classmethod
    def from_arrays(cls, arrays):
        """The layer whose `arrays` these are; other keys are passed over.

        Raises:
            KeyError: a setting is missing.
        """
        found = {name: np.asarray(arrays[name], np.float64) for name in cls._ARRAYS if name in arrays}
        settings = {name: np.asarray(arrays[name]).item() for name in cls._SETTINGS}
        return cls(**({"weights": None, "bias": None} | found | settings))


def draw_layer(
    num_features,
    hidden_units,
    seed,
    *,
    weights="normal",
    activation="relu",
    alpha=1.0,
    rbf_width=1.0,
    density=0.1,
    x=None,
    sample_weight=None,
):
    """Draw a hidden layer.

    Args:
        num_features: D, at least 1.
        hidden_units: H, at least 1 (2 with alpha < 1, 3 for `grbf`).
        seed: a whole number, a sequence of them or None, for `numpy.random.SeedSequence`.
        weights: kind of input weights: `normal`, `uniform`, `orthogonal`, `sparse` or `whitened`.
        activation: a key of `ACTIVATIONS`, or `grbf`, which has no projection and needs alpha = 0.
        alpha: share of the projection in the argument, in [0, 1]; the rest is the distance to the unit's centre.
        rbf_width: factor of the distances, above 0.
        density: share of the features that a unit of `sparse` weights sees, in (0, 1].
        x: the training rows f[M, D], which alpha < 1 and `whitened` look at.
        sample_weight: f[M], at least 0; rows of weight 0 count as absent. Centres look at nothing else of it,
            whitening weighs mean and covariance by it.

    Returns:
        A `HiddenLayer`.

    Raises:
        ValueError: a parameter out of range; x or sample_weight needed but missing, not finite, without spread, or so
            large or small that distances are beyond float64.
    """
    _check(num_features, hidden_units, weights, activation, alpha, rbf_width, density)
    check_memory("the hidden layer", (hidden_units, num_features + 1), np.float64, "use fewer hidden_units")
    rows = row_weights = None
    if alpha < 1 or weights == "whitened":
        why = "weights='whitened'" if alpha == 1 else f"alpha={alpha!r}"
        rows, row_weights = _counted_rows(x, sample_weight, num_features, why)
    drawn = {"weights": None, "bias": None}
    if alpha > 0:
        stream = functools.partial(random_stream, seed)
        extra = {"sparse": (density,), "whitened": (rows, row_weights)}.get(weights, ())
        drawn["weights"], drawn["bias"] = KINDS[weights](num_features, hidden_units, stream, *extra)
    if alpha < 1:
        low, high = rows.min(0), rows.max(0)
        if (spread := (high / 2 - low / 2).max()) > 0 and not SPREADS[0] < spread < SPREADS[1]:
            raise ValueError(
                f"x spreads over {2 * spread:.1e}, whose square is beyond float64, and alpha={alpha!r} needs "
                "distances; standardise the features"
            )
        centres = low + (high - low) * random_stream(seed, 0).random((hidden_units, num_features))
        drawn |= {"centres": centres} | (grbf_shape(centres) if activation == "grbf" else rbf_shape(centres))
    return HiddenLayer(**drawn, activation=activation, alpha=float(alpha), rbf_width=float(rbf_width))


def _check(num_features, hidden_units, weights, activation, alpha, rbf_width, density):
    names = (*ACTIVATIONS, "grbf")
    least = 1 if alpha == 1 else 3 if activation == "grbf" else 2
    for name, value in (("alpha", alpha), ("rbf_width", rbf_width), ("density", density)):
        if not isinstance(value, numbers.Real):
            raise ValueError(f"{name}={value!r} must be a number")
    for name, value in (("activation", activation), ("weights", weights)):
        known = names if name == "activation" else tuple(KINDS)
        if value not in known:
            near = difflib.get_close_matches(str(value), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{name}={value!r} is none of {', '.join(known)}{hint}")
    if not is_whole(num_features):
        raise ValueError(f"num_features={num_features!r} must be a whole number of at least 1")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha!r} must be in [0, 1]")
    if activation == "grbf" and alpha != 0:
        raise ValueError(f"activation='grbf' has no projection, but alpha={alpha!r}; set alpha=0")
    if not is_whole(hidden_units, least):
        why = (
            "" if least == 1 else f" with alpha={alpha!r} and activation={activation!r}: radii are distances of centres"
        )
        raise ValueError(f"hidden_units={hidden_units!r} must be a whole number of at least {least}{why}")
    if alpha == 0 and weights != "normal":
        raise ValueError(f"weights={weights!r} have no part in the layer at alpha=0; leave them at 'normal'")
    if not 0 < rbf_width < np.inf:
        raise ValueError(f"rbf_width={rbf_width!r} must be finite and above 0")
    if not 0 < density <= 1:
        raise ValueError(f"density={density!r} must be in (0, 1]")


def _counted_rows(x, sample_weight, num_features, why):
    """The rows of weight above 0 and their weights."""
    if x is None:
        raise ValueError(f"{why} needs the training rows; pass x [M, {num_features}]")
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or x.shape[1] != num_features:
        raise ValueError(f"x has shape {x.shape}; expected [M, {num_features}]")
    weights = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if weights.shape != (len(x),) or not ((weights >= 0) & (weights < np.inf)).all():
        raise ValueError(f"sample_weight of shape {weights.shape} must be {len(x)} finite numbers of at least 0")
    counted = weights > 0
    if not counted.any():
        raise ValueError("x has no row of weight above 0; the hidden layer needs one or more")
    x, weights = (x, weights) if counted.all() else (x[counted], weights[counted])
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"x[{row}, {column}] is {x[row, column]} (of the rows that count); remove or replace it first")
    return x, weights

"""Rhythm networks of Pons' thesis (3.2, 3.3): what the shape of a filter can see; and front-ends of many shapes.

Arrays: spectrograms `[B, T, F]` → maps `[B, T', F', C]` or `[B, T', D]`; shapes are (time × frequency). A filter that
is long and one band tall sees rhythm, one that is tall and one frame long sees timbre.
The general part is `ManyShapes`: convolutions side by side, each with its own pooling. It composes with any back-end.
Source: Pons, Lidy & Serra, "Experimenting with musically motivated convolutional neural networks", CBMI 2016, and
Pons & Serra, "Designing efficient architectures for modeling temporal features with convolutional neural networks",
ICASSP 2017; ARCHITECTURES §2, §3.
Names: `ManyShapes`, `black_box`, `time`, `frequency`, `time_frequency`, `initialise_from`, `o_net`, `p_net`, `op_net`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from mirjax.models import backends, blocks, geometry, layers, taggers
from mirjax.models.blocks import ALL, Conv, ConvBlock, Head, conv_windows, initialiser, mask_time
from mirjax.models.geometry import Window
from mirjax.models.zoo import scaled
from mirjax.signal.presets import preset

MERGES = ("channels", "bands", "all")
O_LENGTHS = tuple(range(6, 42, 5))  # frames of 23 ms: onsets
P_LENGTHS = tuple(range(46, 217, 5))  # patterns, up to 5 s


class _Weights(nn.Module):
    """Kernel and bias of a `Conv`, as its block has them."""

    spec: Conv
    channels: int

    @nn.compact
    def __call__(self):
        shape = (*self.spec.kernel, self.channels, self.spec.filters)
        kernel = self.param("kernel", initialiser(self.spec.init), shape)
        return kernel, self.param("bias", lambda key, shape: jnp.zeros(shape), shape[-1:])


def _in_groups(specs):
    """Numbers of the branches in groups that differ in nothing but length, up to double, and filters.

    One convolution computes a group, kernels filled up with zeros: tens of lengths compile in a fraction of the time.
    """
    groups = []
    for i, spec in enumerate(specs):
        plain = spec.padding == "valid" and spec.pool and spec.pool[0] == ALL and spec.pool[1] > 0 and spec.bias
        plain = plain and spec.pool_kind == "max" and not (spec.stride or spec.pool_stride or spec.norm or spec.dropout)
        first = specs[groups[-1][0]] if groups else spec
        alike = dataclasses.replace(spec, kernel=(), filters=0) == dataclasses.replace(first, kernel=(), filters=0)
        if (
            groups
            and plain
            and alike
            and spec.kernel[1] == first.kernel[1]
            and 1 < spec.kernel[0] <= 2 * first.kernel[0]
        ):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _longest_over_time(x, weights, spec, steps):
    """Valid convolutions of several lengths by one, maximum over all time and `spec.pool` bands: a map for each."""
    x = mask_time(x, steps)
    num_steps, num_bands = x.shape[1], x.shape[2] - spec.kernel[1] + 1
    lengths = [kernel.shape[0] for kernel, _ in weights]
    for (kernel, _), length in zip(weights, lengths, strict=True):
        layers.tally((num_steps - length + 1) * num_bands, kernel)
    full = [jnp.pad(kernel, ((0, max(lengths) - len(kernel)), (0, 0), (0, 0), (0, 0))) for kernel, _ in weights]
    y = lax.conv_general_dilated(
        layers.pad_time(x, 0, max(lengths) - min(lengths)),
        jnp.concatenate(full, axis=-1).astype(x.dtype),
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
    )
    filters = [kernel.shape[-1] for kernel, _ in weights]
    last = (jnp.full((1,), num_steps) if steps is None else steps)[:, None] - np.repeat(lengths, filters)[None]
    inside = jnp.arange(y.shape[1])[None, :, None] <= last[:, None]  # the longer the filter, the fewer its positions
    y = jnp.where(inside[:, :, None], y, -jnp.inf).max(axis=1)
    pooled = num_bands // spec.pool[1]
    y = y[:, : pooled * spec.pool[1]].reshape(y.shape[0], 1, pooled, spec.pool[1], -1).max(axis=3)
    bias = jnp.concatenate([bias for _, bias in weights]).astype(x.dtype)
    y = blocks.activation(spec.activation)(y + bias[None, None, None])
    return jnp.split(y, np.cumsum(filters)[:-1], axis=-1)


class ManyShapes(nn.Module):
    """Convolutions of several shapes on the same input, side by side, each with its own norm, activation and pooling.

    Attributes:
      specs: the convolutions.
      names: of their maps; `shape_60x1` (frames × bands) and the like when empty.
      merge: how the maps become one. `channels`: [B, T', F', ΣC], for maps of the same steps and bands; `bands`: bands
        and channels flattened, [B, T', Σ F'·C], for maps of the same steps; `all`: everything flattened, [B, 1, D].
    """

    specs: tuple[Conv, ...]
    names: tuple[str, ...] = ()
    merge: str = "bands"

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the maps, in order.

        Raises:
          ValueError: fewer or more names than branches, or two of one name.
        """
        names = self.names or tuple("shape_" + "x".join(map(str, spec.kernel)) for spec in self.specs)
        if len(set(names)) < len(names) or len(names) != len(self.specs):
            raise ValueError(f"names={names}: {len(self.specs)} branches need as many names, all different")
        return names

    @property
    def masks(self) -> bool:
        """Padding cannot be told apart once time is flattened."""
        return self.merge != "all"

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the branch with the longest reach does to time."""
        longest = max(self._branches(), key=lambda each: (geometry.receptive_field(each), geometry.shortest(each)))
        return (*longest, geometry.everything("flatten")) if self.merge == "all" else longest

    def _branches(self, axis=0):
        named = zip(self.specs, self.feature_layers, strict=True)
        return [conv_windows((spec,), (name,), axis=axis) for spec, name in named]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Spectrogram [B, T, F] or map [B, T, F, C] → the branches' maps as one (see `merge`).

        Raises:
          ValueError: an unknown `merge`; an input too short or with too few bands for a branch; maps that do not fit
            together.
        """
        if self.merge not in MERGES:
            raise ValueError(f"merge={self.merge!r} is not one of {', '.join(MERGES)}")
        x = x[..., None] if x.ndim == 3 else x
        for in_time, in_frequency in zip(self._branches(), self._branches(axis=1), strict=True):
            geometry.require(in_time, x.shape[1], "a front-end of many shapes")
            geometry.require(in_frequency, x.shape[2], "a front-end of many shapes", "bands")
        names, maps = self.feature_layers, []
        for group in _in_groups(self.specs):
            spec = self.specs[group[0]]
            if len(group) == 1:
                maps.append(ConvBlock(spec, name=f"{names[group[0]]}_block")(x, train=train, steps=steps))
            else:
                weights = [_Weights(self.specs[i], x.shape[-1], name=f"{names[i]}_block")() for i in group]
                maps += _longest_over_time(x, weights, spec, steps)
        for name, y, window in zip(names, maps, self._branches(), strict=True):
            layers.expose(self, name, y, steps=None if steps is None else geometry.num_steps(window, steps))
        return self._merged(maps)

    def _merged(self, maps):
        if self.merge == "all":
            return jnp.concatenate([y.reshape(y.shape[0], 1, -1) for y in maps], axis=-1)
        axes = slice(1, 3) if self.merge == "channels" else slice(1, 2)
        if len(sizes := {y.shape[axes] for y in maps}) > 1:
            raise ValueError(f"merge={self.merge!r}: maps of {sorted(sizes)} positions; pool them to the same sizes")
        if self.merge == "bands":
            maps = [y.reshape(*y.shape[:2], -1) for y in maps]
        return jnp.concatenate(maps, axis=-1)


# ── one or two shapes (CBMI 2016) ──


def _ballroom(front_end, head, num_steps, *, fixed):
    # Where the maximum over all time is taken already, the pooling that follows sees one step and only drops the axis.
    back_end = backends.Flatten() if fixed else backends.GlobalPool(("max",))
    representation = preset("ballroom").representation
    return taggers.Network(representation, front_end, back_end, head, num_steps=num_steps, fixed=fixed)


def _conv(filters, kernel, pool, init="glorot_uniform"):
    return Conv(filters, kernel, padding="valid", pool=pool, init=init)


def black_box(n: int = 32, *, num_classes: int = 8, long: bool = False) -> taggers.Network:
    """Rectangular filters that nobody designed, 8 × 12 (frames × bands), and a dense layer.

    Args:
      n: filters; the dense layer has 200 at 32.
      num_classes: outputs.
      long: filters of 200 × 12 on 250 frames.
    """
    front_end = ManyShapes((_conv(n, (200 if long else 8, 12), (1, 4)),), ("rectangular",))
    head = Head(num_classes, hidden=(scaled(200, n, 32),), dropout=0.5)
    return _ballroom(front_end, head, 250 if long else 80, fixed=True)


def time(n: int = 32, *, num_classes: int = 8, long: bool = False) -> taggers.Network:
    """Filters of one band, 60 × 1, and the maximum over the bands: rhythm.

    Args:
      n: filters.
      num_classes: outputs.
      long: filters of 200 × 1 on 250 frames.
    """
    front_end = ManyShapes((_conv(n, (200 if long else 60, 1), (1, ALL)),), ("time",))
    return _ballroom(front_end, Head(num_classes, dropout=0.5), 250 if long else 80, fixed=True)


def frequency(n: int = 32, *, num_classes: int = 8, height: int = 32) -> taggers.Network:
    """Filters of one frame, 1 × `height`, and the maximum over time: timbre.

    Args:
      n: filters.
      num_classes: outputs.
      height: bands of a filter; published are 30, 32, … 40.

    Raises:
      ValueError: a height that is not in 1…40, the number of bands.
    """
    if not 1 <= height <= 40:
        raise ValueError(f"height={height} must be in 1…40: the input has 40 mel bands")
    front_end = ManyShapes((_conv(n, (1, height), (ALL, 1)),), ("frequency",))
    return _ballroom(front_end, Head(num_classes, dropout=0.5), 80, fixed=False)


def time_frequency(n: int = 32, *, num_classes: int = 8) -> taggers.Network:
    """The filters of `time` and of `frequency` side by side, and a dense layer.

    Args:
      n: filters of each shape; the dense layer has 200 at 32.
      num_classes: outputs.
    """
    specs = (_conv(n, (60, 1), (1, ALL)), _conv(n, (1, 32), (ALL, 1)))
    front_end = ManyShapes(specs, ("time", "frequency"), merge="all")
    head = Head(num_classes, hidden=(scaled(200, n, 32),), dropout=0.5)
    return _ballroom(front_end, head, 80, fixed=True)


def initialise_from(time_variables: dict, frequency_variables: dict, variables: dict) -> dict:
    """Variables of `time_frequency` with the convolutions of trained `time` and `frequency` networks.

    That is the published pre-initialised version; everything is then trained.

    Args:
      time_variables: of `time`, with as many filters.
      frequency_variables: of `frequency`, height 32, with as many filters.
      variables: of `time_frequency`; not changed.

    Returns:
      A tree like `variables`.

    Raises:
      ValueError: convolutions of other shapes.
    """
    front_end = dict(variables["params"]["front_end"])
    for name, source in (("time", time_variables), ("frequency", frequency_variables)):
        given, wanted = source["params"].get("front_end", {}).get(f"{name}_block"), front_end[f"{name}_block"]
        shapes = [None if tree is None else jax.tree.map(jnp.shape, dict(tree)) for tree in (given, wanted)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{name}_variables: the {name} convolution is {shapes[0]} and must be {shapes[1]}; give the variables "
                f"of `{name}` with the same n"
            )
        front_end[f"{name}_block"] = given
    return {**variables, "params": {**variables["params"], "front_end": front_end}}


# ── many lengths (ICASSP 2017) ──


def _lengths(groups, num_classes):
    specs = tuple(
        _conv(filters, (length, 1), (ALL, 4), "lecun_uniform") for filters, lengths in groups for length in lengths
    )
    return _ballroom(ManyShapes(specs, merge="channels"), Head(num_classes, dropout=0.5), 250, fixed=False)


def o_net(n: int = 1, *, num_classes: int = 8) -> taggers.Network:
    """Onsets: filters of one band and 6, 11, … 41 frames; the maximum over all time and over four bands.

    Args:
      n: copies of the branches, each of 5 filters of every length.
      num_classes: outputs.
    """
    return _lengths(((5 * n, O_LENGTHS),), num_classes)


def p_net(n: int = 1, *, num_classes: int = 8) -> taggers.Network:
    """Patterns: filters of one band and 46, 51, … 216 frames; the maximum over all time and over four bands.

    Args:
      n: copies of the branches, each of one filter of every length.
      num_classes: outputs.
    """
    return _lengths(((n, P_LENGTHS),), num_classes)


def op_net(n: int = 1, *, num_classes: int = 8) -> taggers.Network:
    """The branches of `o_net` and of `p_net` side by side.

    Args:
      n: copies of both.
      num_classes: outputs.
    """
    return _lengths(((5 * n, O_LENGTHS), (n, P_LENGTHS)), num_classes)

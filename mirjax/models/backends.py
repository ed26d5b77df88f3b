"""Back-ends: the part of a network that summarises a front-end's map.

Arrays: maps `[B, T, C]` or `[B, T, F, C]` in; one vector `[B, D]` for each clip out, or a map `[B, T', C]`. A map with
bands meets a back-end over time as `[B, T, F·C]` (`as_sequence`). `steps int32[B]` counts the real steps of each row;
what lies beyond has no part in any result.
Source: Pons' thesis (ARCHITECTURES §5.2, §6.6) and Choi's tutorial (§10). Attention is in `attention`.
Names: `as_sequence`, `GlobalPool`, `Flatten`, `DenseConcat`, `StridedConv`, `FullyConvolutional`, `ExtraLayers`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mirjax.models import blocks, geometry, layers, pooling
from mirjax.models.blocks import Conv, ConvBlock, Norm
from mirjax.models.geometry import Window

POOLS = ("max", "mean", "std")


def as_sequence(x: jax.Array) -> jax.Array:
    """Map [B, T, C] as it is; [B, T, F, C] with its bands as channels: [B, T, F·C].

    Raises:
      ValueError: another number of axes.
    """
    if x.ndim not in (3, 4):
        raise ValueError(f"a map of shape {x.shape}; a back-end takes [B, T, C] or [B, T, F, C]")
    return x.reshape(*x.shape[:2], -1)


def _deviation(x, mean, steps):
    """Population standard deviation over all positions; gradient 0, not NaN, where the values are all the same."""
    centred = x - mean.reshape(mean.shape[0], *(1,) * (x.ndim - 2), mean.shape[-1])
    variance = layers.mean_over_positions(centred**2, steps)
    varies = variance > 0
    return jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 0)


def _maximum(x, steps):
    highest = blocks.mask_time(x, steps, -jnp.inf).max(axis=tuple(range(1, x.ndim - 1)))
    return highest if steps is None else jnp.where((steps > 0)[:, None], highest, 0)


class GlobalPool(nn.Module):
    """Statistics over time, side by side.

    Attributes:
      kinds: which, in the order of the output: `max`, `mean`, `std` (population).
      over_bands: pool [B, T, F, C] over time and frequency; else over time, every band with its own statistics.
    """

    kinds: tuple[str, ...] = ("max", "mean")
    over_bands: bool = False

    feature_layers = ()
    windows = (geometry.everything("the global pooling"),)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, C] or [B, T, F, C] → [B, C·kinds], with bands and without `over_bands` [B, F·C·kinds].

        Raises:
          ValueError: an unknown kind, or none.
        """
        if unknown := [kind for kind in self.kinds if kind not in POOLS] or not self.kinds:
            raise ValueError(f"kinds={self.kinds!r}: {unknown or 'nothing'} is not known; choose of {', '.join(POOLS)}")
        x = x if self.over_bands else as_sequence(x)
        mean = layers.mean_over_positions(x, steps)
        statistics = {
            "max": lambda: _maximum(x, steps),
            "mean": lambda: mean,
            "std": lambda: _deviation(x, mean, steps),
        }
        return jnp.concatenate([statistics[kind]() for kind in self.kinds], axis=-1)


class Flatten(nn.Module):
    """All positions and channels as one vector, in the order time, frequency, channel: for one input length only."""

    masks = False
    feature_layers = ()
    windows = (geometry.everything("flatten"),)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Map [B, T, …, C] → [B, T·…·C]."""
        return x.reshape(x.shape[0], -1)


class DenseConcat(nn.Module):
    """musicnn's middle: convolutions with residual sums, all of them beside the input (ARCHITECTURES §6.6).

    y₁ = N(relu(x ∗ k₁)), yᵢ = yᵢ₋₁ + N(relu(yᵢ₋₁ ∗ kᵢ)), with N the batch normalisation; result x ‖ y₁ ‖ y₂ ‖ y₃.

    Attributes:
      n: filters of every convolution.
      num_layers: convolutions.
      kernel: their length in steps; zeros keep the number of steps.
      dense: concatenate the input and all layers; else only the last layer is the result.
      norm: batch normalisation after each ReLU, or None.
      legacy_residual: add relu(yᵢ₋₁ ∗ kᵢ) without N from the second layer on, as the training repository does: those
        normalisations have their parameters and no effect (§11, row 42).

    Reference:
      Pons & Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", LBD of ISMIR 2019.
    """

    n: int = 64
    num_layers: int = 3
    kernel: int = 7
    dense: bool = True
    norm: Norm | None = Norm()
    legacy_residual: bool = False

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the layers' maps, in order."""
        return tuple(f"mid{i + 1}" for i in range(self.num_layers))

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the layers do to time."""
        return tuple(Window(name, self.kernel, padding="same") for name in self.feature_layers)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, C] → [B, T, C + n · num_layers]; without `dense` [B, T, n]."""
        x = as_sequence(x)
        maps = [x]
        for i, name in enumerate(self.feature_layers):
            y = ConvBlock(Conv(self.n, (self.kernel,)), name=f"{name}_block")(maps[-1], train=train, steps=steps)
            if self.norm:
                normed = blocks.BatchNorm(self.norm, name=f"{name}_norm")(y, train=train, steps=steps)
                y = y if i and self.legacy_residual else normed
            maps.append(y + maps[-1] if i else y)
            layers.expose(self, name, maps[-1], steps=steps)
        return jnp.concatenate(maps, axis=-1) if self.dense else maps[-1]


class StridedConv(nn.Module):
    """Strided convolutions in the place of pooling: the aggregation over time is learnt (ARCHITECTURES §10).

    Attributes:
      filters: of every convolution.
      kernel: steps that one of them sees.
      stride: steps from window to window, at most `kernel`, so that no step is left out between two windows.
      num_layers: convolutions, one after the other.
      activation: name in `blocks.ACTIVATIONS`.
      norm: batch normalisation after the activation, or None.
      pool: statistics over the steps that are left, as in `GlobalPool`; () keeps the steps.
    """

    filters: int
    kernel: int = 4
    stride: int = 2
    num_layers: int = 1
    activation: str = "relu"
    norm: Norm | None = None
    pool: tuple[str, ...] = ("mean",)

    @property
    def _specs(self) -> tuple[Conv, ...]:
        spec = Conv(self.filters, (self.kernel,), (self.stride,), "valid", self.activation, self.norm)
        return (spec,) * self.num_layers

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the layers' maps, in order."""
        return tuple(f"strided{i + 1}" for i in range(self.num_layers))

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the layers do to time."""
        return blocks.conv_windows(self._specs, self.feature_layers) + (GlobalPool.windows if self.pool else ())

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, C] or [B, T, F, C] → [B, filters · pool]; with pool=() the map [B, T', filters].

        Raises:
          ValueError: a stride longer than the kernel, or fewer steps than the layers need.
        """
        if not 1 <= self.stride <= self.kernel:
            raise ValueError(f"stride={self.stride} with kernel={self.kernel}: give a stride from 1 to the kernel")
        x = as_sequence(x)
        geometry.require(self.windows, x.shape[1], "the strided convolution", "steps")
        for name, spec in zip(self.feature_layers, self._specs, strict=True):
            x = ConvBlock(spec, name=f"{name}_block")(x, train=train, steps=steps)
            if steps is not None:
                steps = geometry.num_steps(blocks.conv_windows((spec,)), steps)
            layers.expose(self, name, x, steps=steps)
        return GlobalPool(self.pool)(x, steps=steps) if self.pool else x


class FullyConvolutional(nn.Module):
    """A convolution, then the mean of its maps over time: no dense layer sees more than one position.

    With `filters` classes, activation "linear" and no head, the maps are class maps and the embedding is their average,
    the clip's scores. With a head on top, the head's one dense layer commutes with the mean, so the network equals
    one that scores every position by a 1×1 convolution and averages the scores.

    Attributes:
      filters: maps.
      kernel: (kt,) over time, bands as channels; or (kt, kf) on maps with bands, averaged over frequency too.
      activation: name in `blocks.ACTIVATIONS`.
      norm: batch normalisation after the activation, or None.
    """

    filters: int
    kernel: tuple[int, ...] = (1,)
    activation: str = "relu"
    norm: Norm | None = None

    feature_layers = ("class_maps",)

    @property
    def _spec(self) -> Conv:
        return Conv(self.filters, self.kernel, activation=self.activation, norm=self.norm)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The convolution, and all of time."""
        return (*blocks.conv_windows((self._spec,), self.feature_layers), geometry.everything("the mean of class maps"))

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, C] or [B, T, F, C] → [B, filters].

        Raises:
          ValueError: a kernel over frequency for a map without bands.
        """
        if len(self.kernel) == 1:
            x = as_sequence(x)
        if x.ndim != len(self.kernel) + 2:
            raise ValueError(f"kernel={self.kernel} for a map of shape {x.shape}; give one size for each axis")
        x = ConvBlock(self._spec, name="class_maps_block")(x, train=train, steps=steps)
        layers.expose(self, "class_maps", x, steps=steps)
        return layers.mean_over_positions(x, steps)


class ExtraLayers(nn.Module):
    """Convolution, residual, max-pooling by two, residual; each convolution 7 steps long and followed by ReLU.

    The residual adds the activated output to its input, with no activation after the sum.

    Attributes:
      n: filters of every layer.
      legacy_collapse: average as the released code does: of each map one number (its mean over time and channels) in
        the first slot, and zeros in the other n − 1.
    """

    n: int
    legacy_collapse: bool = False

    masks = False
    feature_layers = ("extra1", "extra2", "extra3")
    windows = (
        Window("extra1", 7),
        Window("extra2", 7, padding="same"),
        Window("the pooling after extra2", 2, 2),
        Window("extra3", 7, padding="same"),
    )

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Map f32[B, T, C] → map f32[B, (T − 6) // 2, n]."""
        geometry.require(self.windows, x.shape[1], "the extra layers", "steps")
        x = as_sequence(x)
        x = self._convolve(x, "extra1", same=False)
        self._expose("extra1", x)
        x = x + self._convolve(x, "extra2", same=True)
        self._expose("extra2", x)
        x = pooling.max_pool(x, (2,))
        x = x + self._convolve(x, "extra3", same=True)
        self._expose("extra3", x)
        return x

    def _convolve(self, x, name, *, same):
        kernel, bias = layers.Weights((7, x.shape[-1], self.n), name=f"conv_{name}")(x.dtype)
        return layers.conv1d(x, kernel, bias, same=same)

    def _expose(self, name, x):
        mean = None
        if self.legacy_collapse:
            mean = jnp.zeros((x.shape[0], self.n), x.dtype).at[:, 0].set(x.mean(axis=(1, 2)))
        layers.expose(self, name, x, mean=mean)

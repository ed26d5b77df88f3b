"""Front-ends: the part of a network that meets the signal.

Arrays: spectrograms `[B, T, F]` or waveforms `[B, N]` in, maps `[B, T', C]` (`VGG`: `[B, T', F', C]`) out. Shapes of
kernels are (time × frequency). Every front-end exposes its layers' maps by name (`layers.expose`) and lists the names
in `feature_layers`, in the order in which their averages make the feature vector.
Source: Pons & Serra, "Randomly weighted CNNs for (music) audio classification", ICASSP 2019; ARCHITECTURES §5.2;
`FilterShapes`, their trained kin, §6.2 and §6.6.
Names: `VGG`, `Vertical`, `Timbral`, `Temporal`, `Parallel`, `FilterShapes`, `SampleLevel`, `FrameLevel`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from mirjax.models import geometry, layers
from mirjax.models.blocks import ALL, BatchNorm, Conv, ConvBlock, Norm, conv_windows, statistics_axis
from mirjax.models.geometry import Window


class VGG(nn.Module):
    """Five blocks of 3×3 convolution, ELU and max-pooling.

    A spectrogram of fewer than 1376 frames is repeated in time up to 1376, so that five poolings leave one position.

    Attributes:
      n: filters of every layer.
      batch_norm: normalise between convolution and ELU by the statistics of the batch at hand, always, as an untrained
        network has no others: a clip's maps then depend on the clips beside it.
    """

    n: int
    batch_norm: bool = False

    pools = ((4, 2), (4, 3), (5, 2), (4, 2), (4, 4))
    num_frames = 1376
    masks = False
    feature_layers = tuple(f"pool{i}" for i in range(1, 6))
    windows = tuple(
        window
        for i, (pool, _) in enumerate(pools, start=1)
        for window in (Window(f"conv{i}", 3, padding="same"), Window(f"pool{i}", pool, pool))
    )

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Spectrogram f32[B, T, 96] → map f32[B, T', 1, n]; T' = 1 for 1376 frames."""
        if x.shape[1] < self.num_frames:
            x = jnp.tile(x, (1, -(-self.num_frames // x.shape[1]), 1))[:, : self.num_frames]
        bands = tuple(Window(f"pool{i}", pool, pool) for i, (_, pool) in enumerate(self.pools, start=1))
        geometry.require(bands, x.shape[2], "this VGG", "bands")
        x = x[..., None]
        for i, pool in enumerate(self.pools, start=1):
            kernel, bias = layers.Weights((3, 3, x.shape[-1], self.n), name=f"conv{i}")(x.dtype)
            if self.batch_norm:
                x = nn.elu(layers.conv2d_norm_max(x, kernel, pool=pool, axis_name=statistics_axis()))
            else:
                x = nn.elu(layers.conv2d_max(x, kernel, bias, pool=pool))
            layers.expose(self, f"pool{i}", x)
        return x


class Vertical(nn.Module):
    """One layer of filters 7 frames long and `height` bands tall, ReLU, maximum over the frequency positions.

    Attributes:
      n: filters.
      height: bands a filter covers: 96 (all of them, "7×96") or 86 ("7×86", pooled over its 11 positions).
    """

    n: int
    height: int

    masks = False
    feature_layers = ("pool",)
    windows = (Window("conv", 7),)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Spectrogram f32[B, T, F] → map f32[B, T − 6, n]."""
        geometry.require(self.windows, x.shape[1], f"a 7×{self.height} filter")
        geometry.require((Window("conv", self.height),), x.shape[2], f"a 7×{self.height} filter", "bands")
        kernel, bias = layers.Weights((7, self.height, 1, self.n), name="conv")(x.dtype)
        x = layers.vertical_max(x, kernel, bias, same_time=False)
        layers.expose(self, "pool", x)
        return x


class Timbral(nn.Module):
    """Vertical filters of six shapes, each pooled over frequency so that a timbre counts at any pitch.

    Attributes:
      n: filters of the longest shapes; 14 n maps in all.
    """

    n: int

    shapes = ((7, 86, 1), (3, 86, 2), (1, 86, 4), (7, 38, 1), (3, 38, 2), (1, 38, 4))
    masks = False
    feature_layers = tuple(f"timbral_{frames}x{bands}" for frames, bands, _ in shapes)
    windows = (Window("timbral", 7, padding="same"),)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Spectrogram f32[B, T, F ≥ 86] → map f32[B, T, 14 n]."""
        geometry.require((Window("the tallest filter", 86),), x.shape[2], "this front-end", "bands")
        maps = []
        for name, (frames, bands, factor) in zip(self.feature_layers, self.shapes, strict=True):
            kernel, bias = layers.Weights((frames, bands, 1, factor * self.n), name=f"conv_{name}")(x.dtype)
            maps.append(layers.vertical_max(x, kernel, bias, same_time=True))
            layers.expose(self, name, maps[-1])
        return jnp.concatenate(maps, axis=-1)


class Temporal(nn.Module):
    """Long 1-D filters on the mean over frequency: rhythm without timbre.

    Attributes:
      n: width; the four lengths have n − r, 2n − r, 4n − r, 8n − r filters with r = n // 4, which is 14 n in all when 4
        divides n.
      lengths: filter lengths in frames, longest first.
    """

    n: int
    lengths: tuple[int, ...] = (165, 128, 64, 32)

    masks = False

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the maps that are averaged, in order."""
        return tuple(f"temporal_{length}" for length in self.lengths)

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the longest filters do to time."""
        return (Window("temporal", max(self.lengths), padding="same"),)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Spectrogram f32[B, T, F] → map f32[B, T, 14 n]."""
        x = x.mean(axis=2)[..., None]
        maps = []
        for i, (name, length) in enumerate(zip(self.feature_layers, self.lengths, strict=True)):
            kernel, bias = layers.Weights((length, 1, self.n * 2**i - self.n // 4), name=f"conv_{name}")(x.dtype)
            maps.append(layers.conv1d(x, kernel, bias, same=True))
            layers.expose(self, name, maps[-1])
        return jnp.concatenate(maps, axis=-1)


class Parallel(nn.Module):
    """Front-ends side by side on the same input, their maps concatenated.

    Attributes:
      branches: front-ends whose maps have the same number of steps.
    """

    branches: tuple[nn.Module, ...]

    @property
    def masks(self) -> bool:
        """Whether every branch masks padding."""
        return all(getattr(branch, "masks", True) for branch in self.branches)

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the branch with the longest reach does to time."""
        return geometry.longest(branch.windows for branch in self.branches)

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the maps that are averaged, in order."""
        return tuple(name for branch in self.branches for name in branch.feature_layers)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Input of the branches → map f32[B, T, sum of their C]."""
        real = {} if steps is None else {"steps": steps}
        return jnp.concatenate([branch(x, train=train, **real) for branch in self.branches], axis=-1)


class FilterShapes(nn.Module):
    """Filters of several shapes side by side, each pooled over all bands: timbre at any pitch, and rhythm of any band.

    Each shape: convolution, zeros at both ends of time, ReLU, batch norm, maximum over frequency.

    Attributes:
      timbral: (frames, bands, filters) of the shapes that stay within the bands (`valid` in frequency).
      temporal: (frames, filters) of the shapes one band tall, on every band.
      input_norm: batch normalisation of the input, or None.
      kernel_init: name of an initialiser.
    """

    timbral: tuple[tuple[int, int, int], ...]
    temporal: tuple[tuple[int, int], ...] = ()
    input_norm: Norm | None = Norm()
    kernel_init: str = "glorot_uniform"

    @property
    def specs(self) -> dict[str, Conv]:
        """Blocks by name."""

        def block(frames, bands, filters):
            padding = ("same", "valid")
            return Conv(filters, (frames, bands), padding=padding, norm=Norm(), pool=(1, ALL), init=self.kernel_init)

        timbral = {f"timbral_{frames}x{bands}": block(frames, bands, n) for frames, bands, n in self.timbral}
        return timbral | {f"temporal_{frames}": block(frames, 1, n) for frames, n in self.temporal}

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the shapes' maps, in order."""
        return tuple(self.specs)

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the longest filters do to time."""
        return geometry.longest(conv_windows((spec,), (name,)) for name, spec in self.specs.items())

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Spectrogram [B, T, F] → map [B, T, filters of all shapes].

        Raises:
          ValueError: fewer bands than the tallest filters have.
        """
        geometry.require(
            (Window("the tallest filter", max(s.kernel[1] for s in self.specs.values())),),
            x.shape[2],
            "this front-end",
            "bands",
        )
        x = x[..., None]
        if self.input_norm:
            x = BatchNorm(self.input_norm, name="input_norm")(x, train=train, steps=steps)
        maps = []
        for name, spec in self.specs.items():
            maps.append(ConvBlock(spec, name=f"{name}_block")(x, train=train, steps=steps)[:, :, 0])
            layers.expose(self, name, maps[-1], steps=steps)
        return jnp.concatenate(maps, axis=-1)


class SampleLevel(nn.Module):
    """Seven layers of filters three samples long: the waveform without a frame in sight.

    Attributes:
      n: filters of every layer.
    """

    n: int

    masks = False
    feature_layers = ("conv1", *(f"pool{i}" for i in range(2, 8)))
    windows = (
        Window("conv1", 3, 3),
        *(w for i in range(2, 8) for w in (Window(f"conv{i}", 3, padding="same"), Window(f"pool{i}", 3, 3))),
    )

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Waveform f32[B, N] → map f32[B, N // 3⁷, n]."""
        geometry.require(self.windows, x.shape[1], "a sample-level network", "samples")
        shapes = [(3, 1 if i == 0 else self.n, self.n) for i in range(7)]
        weights = [layers.Weights(shape, name=f"stack{i}")(x.dtype) for i, shape in enumerate(shapes, start=1)]
        if self.is_mutable_collection("maps"):
            first = layers.strided_conv(x, *weights[0], stride=3)
            layers.expose(self, "conv1", first)
            x = layers.conv1d_max(first, *weights[1], pool=3)
        else:
            mean, x = layers.sample_stacks(x, weights[0], weights[1], pool=3)
            layers.expose(self, "conv1", mean, mean=mean)
        layers.expose(self, "pool2", x)
        for i, (kernel, bias) in enumerate(weights[2:], start=3):
            x = layers.conv1d_max(x, kernel, bias, pool=3)
            layers.expose(self, f"pool{i}", x)
        return x


class FrameLevel(nn.Module):
    """Strided filters as long as a spectrogram's frames, of one or several lengths.

    Attributes:
      n: filters of each length.
      lengths: filter lengths in samples.
      same: zeros at both ends so that all lengths give the same number of steps.
    """

    n: int
    lengths: tuple[int, ...] = (512,)
    same: bool = False

    stride = 32
    masks = False

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the longest filters do to time."""
        return (Window("frame", max(self.lengths), self.stride, "same" if self.same else 0),)

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the maps that are averaged, in order."""
        return tuple(f"frame_{length}" for length in self.lengths)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Waveform f32[B, N] → map f32[B, T', n · lengths], T' about N / 32."""
        geometry.require(self.windows, x.shape[1], "a frame-level network", "samples")
        joined = None
        for i, (name, length) in enumerate(zip(self.feature_layers, self.lengths, strict=True)):
            kernel, bias = layers.Weights((length, 1, self.n), name=f"conv_{name}")(x.dtype)
            map_ = layers.strided_conv(x, kernel, bias, stride=self.stride, same=self.same)
            layers.expose(self, name, map_)
            if len(self.lengths) == 1:
                return map_
            if joined is None:
                joined = jnp.zeros((*map_.shape[:2], len(self.lengths) * self.n), map_.dtype)
            # In place, where a concatenation would hold all maps twice.
            joined = lax.dynamic_update_slice_in_dim(joined, map_, i * self.n, axis=2)
        return joined

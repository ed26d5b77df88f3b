"""Front-ends at scale and the back-end they share: waveform against spectrogram (chapter 5 of Pons' thesis).

Arrays: waveforms `[B, N]` or spectrograms `[B, T, F]` → front-end `[B, T', C]` → back-end `[B, 2 F]` → tags.
Inside a block the order is convolution, ReLU, batch normalisation, pooling. All parts mask padding and compose with any
other part. `n` scales a whole network; `front`, `filters` and `units` are the thesis' capacity studies.
Source: Pons, Nieto, Prockup, Schmidt, Ehmann & Serra, "End-to-end learning for music audio tagging at scale", ISMIR
2018; ARCHITECTURES §1.2, §6.1–6.3. Squeeze-excitation: Kim, Lee & Nam, ICASSP 2018.
Names: `SqueezeExcitation`, `sample_stack`, `HorizontalShapes`, `SharedBackEnd`, `shared_head`,
`at_scale_waveform`, `at_scale_spectrogram`.
"""

import fractions

import jax
import jax.numpy as jnp
from flax import linen as nn

from mirjax.models import backends, blocks, geometry, layers, taggers
from mirjax.models.blocks import Conv, ConvBlock, Norm
from mirjax.models.frontends import FilterShapes, Parallel
from mirjax.models.geometry import Window
from mirjax.models.zoo import scaled
from mirjax.signal.presets import preset

_STACKS = {7: (64, 64, 64, 128, 128, 128, 256), 9: (64, 64, 64, 128, 128, 128, 128, 128, 256)}
_SAMPLES = {7: 48_000, 9: 240_000}
# (frames, bands, filters at n = 1) and (frames, filters at n = 1)
_TIMBRAL = ((7, 86, 1), (3, 86, 2), (1, 86, 4), (7, 38, 1), (3, 38, 2), (1, 38, 4))
_TEMPORAL = ((165, 1), (128, 2), (64, 4), (32, 8))


# ── front-ends ──


class SqueezeExcitation(nn.Module):
    """Gates of each channel from the average over time: y = x · σ(W₂ relu(W₁ mean(x) + b₁) + b₂).

    Attributes:
      name_of_map: under which the gated map is exposed.
      ratio: units of the hidden layer for each channel; the network amplifies where images' networks squeeze.

    Reference: Kim, Lee & Nam (2018), "Sample-level CNN architectures for music auto-tagging using raw waveforms".
    """

    name_of_map: str
    ratio: int = 16

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Name of the gated map."""
        return (self.name_of_map,)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The gates see all steps."""
        return (geometry.everything(self.name_of_map, keeps=True),)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, C] → [B, T, C].

        Raises:
          ValueError: a ratio below 1.
        """
        if self.ratio < 1:
            raise ValueError(f"ratio={self.ratio} must be at least 1; squeeze_excitation=False leaves the gates out")
        channels = x.shape[-1]
        hidden = blocks.Dense(self.ratio * channels, name="squeeze")(layers.mean_over_positions(x, steps))
        hidden = nn.relu(layers.units(hidden))
        gates = nn.sigmoid(blocks.Dense(channels, name="excite")(hidden))
        x = x * gates[:, None]
        layers.expose(self, self.name_of_map, x, steps=steps)
        return x


def sample_stack(specs: tuple[Conv, ...], ratio: int = 0) -> nn.Module:
    """Sample-level front-end: waveform [B, N] → [B, T', C].

    Args:
      specs: a strided convolution `conv1`, then convolutions that pool: `pool2`, `pool3`, …
      ratio: with a ratio, squeeze-excitation after every pooling gives the maps `gated2`, …; 0: without.
    """
    names = ("conv1", *(f"pool{i}" for i in range(2, len(specs) + 1)))
    if not ratio:
        return blocks.Stack(specs, names=names, unit="samples")
    parts = [blocks.Stack(specs[:1], names=names[:1], unit="samples")]
    for i, (name, spec) in enumerate(zip(names[1:], specs[1:], strict=True), start=2):
        parts += [blocks.Stack((spec,), names=(name,), unit="steps"), SqueezeExcitation(f"gated{i}", ratio)]
    return blocks.Chain(tuple(parts), features=("conv1", *(f"gated{i}" for i in range(2, len(specs) + 1))))


class HorizontalShapes(nn.Module):
    """Filters of several lengths on the mean over frequency: rhythm without timbre.

    Attributes:
      shapes: (frames, filters) of each.
      activation: name in `blocks.ACTIVATIONS`.
      norm: batch normalisation after the activation, or None.
    """

    shapes: tuple[tuple[int, int], ...]
    activation: str = "relu"
    norm: Norm | None = Norm()

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the maps, in order."""
        return tuple(f"temporal_{frames}" for frames, _ in self.shapes)

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the longest filters do to time."""
        return (Window("temporal", max(frames for frames, _ in self.shapes), padding="same"),)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Spectrogram [B, T, F] → map [B, T, all filters]."""
        x = x.mean(axis=2)[..., None]
        maps = []
        for name, (frames, filters) in zip(self.feature_layers, self.shapes, strict=True):
            spec = Conv(filters, (frames,), activation=self.activation, norm=self.norm)
            maps.append(ConvBlock(spec, name=f"{name}_block")(x, train=train, steps=steps))
            layers.expose(self, name, maps[-1], steps=steps)
        return jnp.concatenate(maps, axis=-1)


# ── the shared back-end ──


class SharedBackEnd(nn.Module):
    """Back-end of both front-ends: a convolution, two residual ones with a pooling between, max ‖ mean over time.

    y₁ = N(relu(x ∗ k₁)), `valid`; y₂ = y₁ + N(relu(y₁ ∗ k₂)); y₃ = p + N(relu(p ∗ k₃)), p = max-pool₂(y₂); max(y₃) ‖
    mean(y₃). Every kernel is 7 steps long, N is batch normalisation.

    Attributes:
      filters: of every convolution (F).
      legacy_batchnorm: the second and third N have one scale and one shift for the whole map, as in the released code,
        which transposes before it normalises (ARCHITECTURES §11, row 20); the published counts contain it.

    Reference: Pons et al. (2018), section 3; ARCHITECTURES §6.3.
    """

    filters: int = 512
    legacy_batchnorm: bool = False

    feature_layers = ("shared1", "shared2", "shared3")
    windows = (
        Window("shared1", 7),
        Window("shared2", 7, padding="same"),
        Window("the pooling after shared2", 2, 2),
        Window("shared3", 7, padding="same"),
        *backends.GlobalPool.windows,
    )

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, C] or [B, T, F, C], T ≥ 8 → [B, 2 · filters].

        Raises:
          ValueError: too few steps.
        """
        x = backends.as_sequence(x)
        geometry.require(self.windows, x.shape[1], "the shared back-end", "steps")

        def convolve(x, name, steps, padding, norm):
            spec = Conv(self.filters, (7,), padding=padding, norm=norm)
            return ConvBlock(spec, name=f"{name}_block")(x, train=train, steps=steps)

        def reduced(i, steps):
            return None if steps is None else self.windows[i].num_steps(steps)

        norm = Norm(axis=None) if self.legacy_batchnorm else Norm()
        x = convolve(x, "shared1", steps, "valid", Norm())
        steps = reduced(0, steps)
        layers.expose(self, "shared1", x, steps=steps)
        x = x + convolve(x, "shared2", steps, "same", norm)
        layers.expose(self, "shared2", x, steps=steps)
        x = blocks.pool(x, (2,))
        steps = reduced(2, steps)
        x = x + convolve(x, "shared3", steps, "same", norm)
        layers.expose(self, "shared3", x, steps=steps)
        return backends.GlobalPool(("max", "mean"), name="pooling")(x, steps=steps)


def shared_head(units: int, num_classes: int) -> blocks.Head:
    """Dropout ½, dense ReLU layer, batch normalisation, dropout ½, tags."""
    return blocks.Head(
        num_classes, (units,), dropout=0.5, norm=Norm(), kernel_init="he_truncated", output_init="he_truncated"
    )


# ── networks ──


def _front(sizes, n, published, front):
    """Sizes of the front-end's layers: scaled by n and by the capacity study's multiplier."""
    if isinstance(front, bool) or not isinstance(front, int | float) or not 0 < front < float("inf"):
        raise ValueError(f"front={front!r} must be a positive number, such as 0.5 or 2")
    factor = fractions.Fraction(front)
    return tuple(scaled(size * factor.numerator, n, published * factor.denominator) for size in sizes)


def _network(representation, front_end, n, published, num_steps, *, filters, units, legacy_batchnorm, num_classes):
    return taggers.Network(
        representation,
        front_end,
        SharedBackEnd(scaled(filters, n, published), legacy_batchnorm),
        shared_head(scaled(units, n, published), num_classes),
        num_steps=num_steps,
    )


def at_scale_waveform(
    n: int,
    *,
    num_classes: int = 50,
    stacks: int = 7,
    padding: str = "valid",
    squeeze_excitation: bool = False,
    ratio: int = 16,
    front: float = 1,
    filters: int = 512,
    units: int = 500,
    legacy_batchnorm: bool = False,
) -> taggers.Network:
    """Sample-level front-end and the shared back-end.

    Args:
      n: filters of the first layer; all other widths go with it (64, F = 512, U = 500).
      num_classes: tags.
      stacks: layers of the front-end: 7, or 9 as for the 1.2 million songs, which needs clips of 15 s.
      padding: of all but the first convolution: `valid` or `same`.
      squeeze_excitation: gate every pooled map (`SqueezeExcitation`); not in the thesis.
      ratio: of the gates' hidden layer.
      front: multiplier of the front-end's filters alone.
      filters: F, filters of the back-end at n = 64.
      units: U, of the dense layer at n = 64.
      legacy_batchnorm: as in `SharedBackEnd`; the published counts contain it.

    Raises:
      ValueError: another number of stacks, another padding, a multiplier that is not positive.
    """
    if stacks not in _STACKS:
        raise ValueError(f"stacks={stacks!r} must be {' or '.join(map(str, _STACKS))}")
    if padding not in ("valid", "same"):
        raise ValueError(f"padding={padding!r} must be valid or same")
    first, *others = _front(_STACKS[stacks], n, 64, front)
    specs = (
        Conv(first, (3,), (3,), padding="valid", norm=Norm()),
        *(Conv(width, (3,), padding=padding, norm=Norm(), pool=(3,)) for width in others),
    )
    return _network(
        preset("at_scale_waveform").representation,
        sample_stack(specs, ratio if squeeze_excitation else 0),
        n,
        64,
        _SAMPLES[stacks],
        filters=filters,
        units=units,
        legacy_batchnorm=legacy_batchnorm,
        num_classes=num_classes,
    )


def at_scale_spectrogram(
    n: int,
    *,
    num_classes: int = 50,
    front: float = 1,
    filters: int = 512,
    units: int = 500,
    legacy_batchnorm: bool = False,
) -> taggers.Network:
    """Timbral and temporal filters and the shared back-end.

    Args:
      n: filters of the rarest shapes; 29 n in the front-end, all other widths go with it (16, F = 512, U = 500).
      num_classes: tags.
      front: multiplier of the front-end's filters alone.
      filters: F, filters of the back-end at n = 16.
      units: U, of the dense layer at n = 16.
      legacy_batchnorm: as in `SharedBackEnd`; the published counts contain it.

    Raises:
      ValueError: a multiplier that is not positive.
    """
    timbral = _front((16 * factor for *_, factor in _TIMBRAL), n, 16, front)
    temporal = _front((16 * factor for *_, factor in _TEMPORAL), n, 16, front)
    front_end = Parallel(
        (
            FilterShapes(
                tuple((*shape, width) for (*shape, _), width in zip(_TIMBRAL, timbral, strict=True)),
                input_norm=None,
                kernel_init="he_truncated",
            ),
            HorizontalShapes(tuple((*shape, width) for (*shape, _), width in zip(_TEMPORAL, temporal, strict=True))),
        )
    )
    return _network(
        preset("at_scale").representation,
        front_end,
        n,
        16,
        preset("at_scale").num_frames,
        filters=filters,
        units=units,
        legacy_batchnorm=legacy_batchnorm,
        num_classes=num_classes,
    )

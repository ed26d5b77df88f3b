"""Two networks of later years, for contrast: harmonic filters with a residual CNN, and a small patch transformer.

Arrays: spectrograms `[B, T, F]` in; harmonic tensor `[B, T, F, H]`, whose channels are the harmonics; patches
`[B, T', F', C]`. Both take any length from their receptive field on and mask padding.
Source: Won et al. (2020), layers after the authors' public code; the transformer is ours, after Gong et al. (2021).
Names: `HarmonicFilters`, `ResidualCNN`, `PatchEncoder`, `harmonic_cnn`, `patch_transformer`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from mirjax.models import attention, backends, blocks, geometry, layers, taggers
from mirjax.models.blocks import Conv, ConvBlock, Head, Norm
from mirjax.models.geometry import Window
from mirjax.models.zoo import scaled
from mirjax.signal.compression import LogScaled
from mirjax.signal.representations import LogMel, Spectrogram

_TORCH = Norm(epsilon=1e-5, momentum=0.9, unbiased=True)


class HarmonicFilters(nn.Module):
    """Triangular band-pass filters at the harmonics of a grid of notes, their common quality Q learnt; in decibels.

    Λ(f; h, c) = max(0, 1 − 2 |f − h c| / w(h c)), w(f) = (0.1079 f + 24.7) / Q; y = 10 log10(max(Σ_f Λ x, 1e-10)).
    Each of the lowest filters may lie between two bins of a short Fourier transform, and is then silent.

    Attributes:
      sample_rate: of the audio behind the spectrogram, hertz.
      num_harmonics: H.
      num_bands: F, notes of the grid.
      bands_per_semitone: notes in a semitone.
      fmin: lowest note, hertz; C1.
      q: initial Q; kept above 0.05 whatever an optimiser does.
      learn_q: False keeps Q as it is, without a parameter.

    Reference:
      Won, Chun, Nieto & Serra, "Data-driven harmonic filters for audio representation learning", ICASSP 2020.
    """

    sample_rate: float = 16_000
    num_harmonics: int = 6
    num_bands: int = 128
    bands_per_semitone: int = 2
    fmin: float = 32.70319566257483
    q: float = 1.0
    learn_q: bool = True

    feature_layers = ("harmonics",)
    windows = ()

    def centres(self) -> np.ndarray:
        """Centre frequencies h c, in hertz: f64[F, H].

        Raises:
          ValueError: the highest harmonic of the highest note is above half the sample rate.
        """
        notes = self.fmin * 2 ** (np.arange(self.num_bands) / (12 * self.bands_per_semitone))
        centres = notes[:, None] * np.arange(1, self.num_harmonics + 1)[None]
        if centres.max() > self.sample_rate / 2:
            raise ValueError(
                f"num_bands={self.num_bands} with num_harmonics={self.num_harmonics} reaches {centres.max():.0f} Hz, "
                f"above half of sample_rate={self.sample_rate}; lower one of them"
            )
        return centres

    @nn.compact
    def filters(self, num_bins: int) -> jax.Array:
        """The filter bank f32[num_bins, F, H] for bins from 0 to half the sample rate."""
        q = jnp.asarray(self.q, jnp.result_type(float))
        if self.learn_q:
            q = self.param("q", lambda key: q)
        centres = self.centres()[None]
        bins = np.linspace(0, self.sample_rate / 2, num_bins)[:, None, None]
        # At Q = 1 the triangle falls by this for each bin's distance.
        fall = 2 * np.abs(bins - centres) / (0.1079 * centres + 24.7)
        return jnp.maximum(1 - jnp.asarray(fall, q.dtype) * jnp.maximum(jnp.abs(q), 0.05), 0)

    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Power spectrogram [B, T, bins] → [B, T, F, H], in decibels.

        Raises:
          ValueError: an input that is no spectrogram.
        """
        if x.ndim != 3:
            raise ValueError(f"an input of shape {x.shape}; harmonic filters take a power spectrogram [B, T, bins]")
        kernel = self.filters(x.shape[-1]).astype(x.dtype).reshape(x.shape[-1], -1)
        layers.tally(x.shape[1], kernel)
        y = jnp.matmul(x, kernel, precision=lax.Precision.HIGHEST)
        y = 10 / math.log(10) * jnp.log(jnp.maximum(y, 1e-10))
        y = y.reshape(*x.shape[:2], self.num_bands, self.num_harmonics)
        layers.expose(self, "harmonics", y, steps=steps)
        return y


class ResidualCNN(nn.Module):
    """Layers of 3×3 convolutions, batch normalisation and ReLU, each followed by max-pooling; some are residual.

    A plain layer is P(relu(N(x ∗ k))), a residual one P(relu(x + N(relu(N(x ∗ k₁)) ∗ k₂))).

    Attributes:
      filters: of each layer; a residual layer has as many as the one before.
      pools: max-pooling windows (time, frequency) of each layer.
      residual: which layers are residual.
      norm: batch normalisation.
    """

    filters: tuple[int, ...]
    pools: tuple[tuple[int, int], ...]
    residual: tuple[bool, ...]
    norm: Norm = _TORCH

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the layers' maps, in order."""
        return tuple(f"layer{i + 1}" for i in range(len(self.filters)))

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the layers do to time."""
        return self._windows(0)

    def _windows(self, axis) -> tuple[Window, ...]:
        return tuple(
            window
            for name, pool, residual in zip(self.feature_layers, self.pools, self.residual, strict=True)
            for window in (
                *(Window(name, 3, padding="same"),) * (1 + residual),
                Window(f"the pooling after {name}", pool[axis], pool[axis]),
            )
        )

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, F, C] → [B, T', F', filters].

        Raises:
          ValueError: too few steps or bands for the poolings.
        """
        geometry.require(self.windows, x.shape[1], "this residual CNN")
        geometry.require(self._windows(1), x.shape[2], "this residual CNN", "bands")
        x = blocks.BatchNorm(self.norm, name="input_norm")(x, train=train, steps=steps)
        for i, name in enumerate(self.feature_layers):
            spec = Conv(self.filters[i], (3, 3), norm=self.norm, norm_first=True, init="torch")
            y = ConvBlock(spec, name=f"{name}_block")(x, train=train, steps=steps)
            if self.residual[i]:
                last = Conv(self.filters[i], (3, 3), activation="linear", norm=self.norm, norm_first=True, init="torch")
                y = x + ConvBlock(last, name=f"{name}_block2")(y, train=train, steps=steps)
                y = nn.relu(layers.units(y))
            x = blocks.pool(y, self.pools[i])
            if steps is not None:
                steps = steps // self.pools[i][0]
            layers.expose(self, name, x, steps=steps)
        return x


def harmonic_cnn(n: int, *, num_classes: int = 50, num_harmonics: int = 6, learn_q: bool = True) -> taggers.Network:
    """Harmonic filters and seven layers of 3×3 convolutions, for 5 s of audio or more.

    Args:
      n: filters of the first four layers; the last three and the hidden layer have 2 n. Published: 128.
      num_classes: outputs.
      num_harmonics: harmonics of each note, the channels of the first layer.
      learn_q: learn the filters' Q.
    """
    n, wide = scaled(128, n, 128), scaled(256, n, 128)
    return taggers.Network(
        Spectrogram(sample_rate=16_000, n_fft=512, hop_length=256, power=2.0),
        blocks.Chain(
            (
                HarmonicFilters(num_harmonics=num_harmonics, learn_q=learn_q),
                ResidualCNN(
                    filters=(n,) * 4 + (wide,) * 3,
                    pools=((2, 2),) * 5 + ((3, 2),) * 2,
                    residual=(False, True, True, True, False, True, True),
                ),
            )
        ),
        backends.GlobalPool(("max",)),
        Head(
            num_classes,
            hidden=(wide,),
            dropout=(0.0, 0.5),
            norm=_TORCH,
            norm_first=True,
            kernel_init="torch",
            output_init="torch",
        ),
        num_steps=313,
    )


class PatchEncoder(nn.Module):
    """Transformer blocks over the positions of a map: a learnt place in frequency, sines and cosines for time.

    Attributes:
      num_blocks: pre-norm blocks.
      heads: of each attention.
      expansion: hidden units of the dense parts, as a multiple of C.
      dropout: rate after each attention and dense part.
    """

    num_blocks: int = 4
    heads: int = 4
    expansion: int = 4
    dropout: float = 0.0

    windows = (geometry.everything("the attention", keeps=True),)

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the blocks' maps, in order."""
        return tuple(f"block{i + 1}" for i in range(self.num_blocks))

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, F, C] → [B, T, F, C], normalised over C after the last block."""
        shape = x.shape
        places = self.param("frequency", blocks.initialiser("normal_01"), shape[2:]).astype(x.dtype)
        times = jnp.asarray(attention.sinusoids(shape[1], shape[-1]), x.dtype)
        x = blocks.mask_time(x + places[None, None] + times[None, :, None], steps)
        real = attention.real_steps(steps, shape[1])
        if real is not None:
            real = jnp.repeat(real, shape[2], axis=1)
        x = x.reshape(shape[0], -1, shape[-1])
        for i, name in enumerate(self.feature_layers):
            block = attention.TransformerBlock(self.heads, self.expansion, self.dropout, name=f"transformer{i + 1}")
            x = block(x, real, train=train)
            layers.expose(self, name, x.reshape(shape), steps=steps)
        return attention.layer_norm("norm", x).reshape(shape)


def patch_transformer(n: int, *, num_classes: int = 50, num_blocks: int = 4, dropout: float = 0.1) -> taggers.Network:
    """A small transformer over patches of 16 frames × 16 bands, mean over all patches, one dense layer; ours.

    Args:
      n: channels of every patch, 4 n hidden units; one head for 32 channels. Ours: 128.
      num_classes: outputs.
      num_blocks: transformer blocks.
      dropout: rate in the blocks.
    """
    patches = Conv(n, (16, 16), (16, 16), "valid", "linear", init="glorot_uniform")
    return taggers.Network(
        LogMel(sample_rate=16_000, compression=LogScaled(10_000, 10)),
        blocks.Chain(
            (
                blocks.Stack((patches,), input_norm=Norm(), names=("patches",)),
                PatchEncoder(num_blocks=num_blocks, heads=max(1, n // 32), dropout=dropout),
            )
        ),
        backends.GlobalPool(("mean",), over_bands=True),
        Head(num_classes),
        num_steps=313,
    )

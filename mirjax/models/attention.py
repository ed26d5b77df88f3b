"""Attention: weights over time that the map itself decides, to summarise a clip or to relate its steps.

Arrays: maps `[B, T, C]` (or `[B, T, F, C]`, see `backends.as_sequence`) in; vectors `[B, C]` from `Attention` and
`AutoPool`, maps `[B, T, C]` from `SelfAttention`, `MultiHeadAttention` and `TransformerBlock`. Padding beyond `steps`
gets weight 0 exactly. Softmaxes run in float32 at least, products at `Precision.HIGHEST`.
Source: the companion networks of Pons' thesis (ARCHITECTURES §6.6), Choi's tutorial (§10); Vaswani et al. (2017).
Names: `Attention`, `AutoPool`, `SelfAttention`, `MultiHeadAttention`, `TransformerBlock`, `sinusoids`,
`masked_softmax`, `real_steps`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from mirjax.models import blocks, geometry, layers
from mirjax.models.backends import as_sequence
from mirjax.models.blocks import Conv, ConvBlock, Dense

_HIGHEST = lax.Precision.HIGHEST


def sinusoids(num_steps: int, channels: int, *, legacy: bool = False) -> np.ndarray:
    """Positions as sines and cosines: p(t, 2i) = sin(t / 10000^(2i / C)), p(t, 2i + 1) = cos(t / 10000^(2i / C)).

    Args:
      num_steps: T.
      channels: C.
      legacy: as in the code of the companion networks, where channel j has the exponent 2j / C: sines and cosines are
        no pairs of one frequency there, and wavelengths go up to 10000².

    Returns:
      f64[T, C].

    Reference:
      Vaswani et al., "Attention is all you need", NeurIPS 2017, section 3.5.
    """
    channel = np.arange(channels)
    exponent = 2 * (channel if legacy else channel // 2) / channels
    angle = np.arange(num_steps)[:, None] / 10_000.0 ** exponent[None]
    return np.where(channel[None] % 2, np.cos(angle), np.sin(angle))


def real_steps(steps: jax.Array | None, length: int) -> jax.Array | None:
    """bool[B, T], true for the first `steps` int32[B] of `length` steps; None for None."""
    return None if steps is None else jnp.arange(length)[None] < steps[:, None]


def masked_softmax(scores: jax.Array, real: jax.Array | None, axis: int) -> jax.Array:
    """Softmax along an axis, 0 where not real (the same everywhere where nothing is).

    Args:
      scores: f32[...].
      real: bool of as many axes, each as long or 1; None: all are real.
      axis: along which the weights sum to 1.
    """
    dtype = scores.dtype
    scores = scores.astype(jnp.promote_types(dtype, jnp.float32))
    if real is not None:
        scores = jnp.where(real, scores, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(scores, axis=axis).astype(dtype)


def _weighted_sum(x, scores, steps):
    """Σ_t x(t) softmax_t(scores), and the weights."""
    real = real_steps(steps, x.shape[1])
    weights = masked_softmax(scores, None if real is None else real[..., None], axis=1)
    return jnp.where(weights > 0, x * weights, 0).sum(axis=1), weights


# ── one vector for each clip ──


class Attention(nn.Module):
    """A convolution scores every step and channel; y = Σ_t x(t) · softmax_t(x ∗ k), with positions added to x before.

    The weights are exposed as `attention`.

    Attributes:
      units: scores of each step: C, one for each channel (None), or 1 for all channels together.
      kernel: steps that a score looks at.
      positions: add sines and cosines of the step's number to the map.
      legacy_positions: those of the companion networks' code (`sinusoids`).
    """

    units: int | None = None
    kernel: int = 3
    positions: bool = True
    legacy_positions: bool = False

    feature_layers = ()
    windows = (geometry.everything("the attention"),)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, C] or [B, T, F, C] → [B, C] or [B, F·C].

        Raises:
          ValueError: `units` that are neither 1 nor the map's channels.
        """
        x = as_sequence(x)
        units = self.units or x.shape[-1]
        if units not in (1, x.shape[-1]):
            raise ValueError(f"units={units} for a map of {x.shape[-1]} channels; give 1, or None for one a channel")
        if self.positions:
            x = x + jnp.asarray(sinusoids(*x.shape[1:], legacy=self.legacy_positions)[None], x.dtype)
        spec = Conv(units, (self.kernel,), activation="linear")
        scores = ConvBlock(spec, name="score_block")(x, train=train, steps=steps)
        y, weights = _weighted_sum(x, scores, steps)
        layers.expose(self, "attention", weights, steps=steps)
        return y


class AutoPool(nn.Module):
    """Softmax pooling of learnt sharpness: y = Σ_t x(t) · softmax_t(α x); α = 0 is the mean, α → ∞ the maximum.

    Attributes:
      per_channel: an α for each channel; else one for all.

    Reference:
      McFee, Salamon & Bello, "Adaptive pooling operators for weakly labeled sound event detection", TASLP 2018.
    """

    per_channel: bool = False

    feature_layers = ()
    windows = (geometry.everything("the auto-pool"),)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, C] or [B, T, F, C] → [B, C] or [B, F·C]."""
        x = as_sequence(x)
        alpha = self.param("alpha", lambda key, shape: jnp.zeros(shape), x.shape[-1:] if self.per_channel else ())
        alpha = alpha.astype(x.dtype)
        alpha = alpha[None, None] if self.per_channel else alpha[None, None, None]
        # Counted from its largest value (smallest, for a negative α) the map's softmax is the same, and stays exact for
        # any map: the largest score is 0, however the product and the softmax are fused.
        high = blocks.mask_time(x, steps, -jnp.inf).max(axis=1, keepdims=True)
        low = blocks.mask_time(x, steps, jnp.inf).min(axis=1, keepdims=True)
        start = lax.stop_gradient(jnp.where(alpha >= 0, high, low))
        start = jnp.where(jnp.isfinite(start), start, 0)
        return _weighted_sum(x, alpha * (x - start), steps)[0]


# ── one vector for each step ──


class SelfAttention(nn.Module):
    """Every step becomes a mixture of all steps: y(t) = Σ_n α(t, n) x(n), α(t, ·) = softmax_n b(t, n).

    b(t, n) = x(t)ᵀ W x(n) / √C (`bilinear`), or x(t)ᵀ x(n) / √C (`dot`, no parameters).

    Attributes:
      score: `bilinear` or `dot`.
      num_layers: one after the other.
    """

    score: str = "bilinear"
    num_layers: int = 1

    windows = (geometry.everything("the self-attention", keeps=True),)

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the layers' maps, in order."""
        return tuple(f"self_attention{i + 1}" for i in range(self.num_layers))

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, C] or [B, T, F, C] → [B, T, C] or [B, T, F·C].

        Raises:
          ValueError: an unknown score.
        """
        if self.score not in ("bilinear", "dot"):
            raise ValueError(f"score={self.score!r} is not one of bilinear, dot")
        x = blocks.mask_time(as_sequence(x), steps)
        real = real_steps(steps, x.shape[1])
        for name in self.feature_layers:
            asking = x
            if self.score == "bilinear":
                asking = Dense(x.shape[-1], bias=False, name=f"{name}_bilinear")(x)
            x = _attend(asking, x, x, real)
            layers.expose(self, name, x, steps=steps)
        return x


def _attend(queries, keys, values, real):
    """Scaled dot-product attention: [..., T, D] thrice → [..., T, D]; real bool[B, T] of the keys, or None."""
    num_queries, size = queries.shape[-2:]
    layers.tally(2 * math.prod(queries.shape[1:-2]) * num_queries * keys.shape[-2] * size)
    # Scaled before the product: a factor after it would be fused with the softmax, where large scores, rounded
    # otherwise beside the maximum than within it, give infinite or no weights at all.
    queries = queries / math.sqrt(size)
    scores = jnp.einsum("...td,...nd->...tn", queries, keys, precision=_HIGHEST)
    if real is not None:
        real = real.reshape(real.shape[0], *(1,) * (scores.ndim - 2), real.shape[1])
    weights = masked_softmax(scores, real, axis=-1)
    return jnp.einsum("...tn,...nd->...td", weights, values, precision=_HIGHEST)


class MultiHeadAttention(nn.Module):
    """Scaled dot-product self-attention in several heads of ⌊C / heads⌋ channels each, with an output projection.

    Attributes:
      heads: number of heads, at most C.
    """

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array, real: jax.Array | None = None) -> jax.Array:
        """x [B, N, C] → [B, N, C]; real bool[B, N] marks what may be looked at, all when None.

        Raises:
          ValueError: more heads than channels.
        """
        channels = x.shape[-1]
        if not 1 <= self.heads <= channels:
            raise ValueError(f"heads={self.heads} for {channels} channels; give 1 to {channels}")
        width = channels // self.heads * self.heads

        def project(name):
            y = Dense(width, name=name)(x)
            return y.reshape(*x.shape[:2], self.heads, -1).swapaxes(1, 2)

        y = _attend(project("query"), project("key"), project("value"), real)
        return Dense(channels, name="output")(y.swapaxes(1, 2).reshape(*x.shape[:2], width))


class TransformerBlock(nn.Module):
    """Pre-norm block: x + attention(N(x)), then x + dense(gelu(dense(N(x)))), with N the layer normalisation.

    Attributes:
      heads: of the attention.
      expansion: hidden units of the dense part, as a multiple of C.
      dropout: rate, after the attention and after the dense part.
    """

    heads: int
    expansion: int = 4
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, real: jax.Array | None = None, *, train: bool = False) -> jax.Array:
        """x [B, N, C] → [B, N, C]; real bool[B, N] as in `MultiHeadAttention`."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        y = MultiHeadAttention(self.heads, name="attention")(layer_norm("attention_norm", x), real)
        x = x + drop(y)
        y = Dense(self.expansion * x.shape[-1], name="dense1")(layer_norm("dense_norm", x))
        return x + drop(Dense(x.shape[-1], name="dense2")(nn.gelu(y, approximate=False)))


def layer_norm(name: str, x: jax.Array) -> jax.Array:
    """Layer normalisation over the last axis, with scale and shift, as a submodule of the module that calls it."""
    layer = nn.LayerNorm(
        epsilon=1e-5, dtype=x.dtype, param_dtype=jnp.result_type(float), use_fast_variance=False, name=name
    )
    return layer(x)

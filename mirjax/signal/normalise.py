"""Normalisation of spectrograms: standardisation with fitted statistics, and adaptive whitening.

Arrays: spectrograms f32[..., T, F]; statistics f32[F] per band or f32[] over all.
Source: Chan, Golub & LeVeque (1983) for statistics of a stream; Stowell & Plumbley (2007) for whitening.
Names: `Statistics`, `init`, `update`, `merge`, `finish`, `standardise`, `unstandardise`; `adaptive_whitening`.

Statistics of a training set, batch after batch, then used on any spectrogram:

    statistics = init(num_bands=96)
    for batch in batches:
        statistics = update(statistics, log_mel(batch["audio"]), mask=real_frames)
    mean, deviation = finish(statistics)
    x = standardise(x, mean=mean, deviation=deviation)
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, compression


@functools.partial(jax.tree_util.register_dataclass, data_fields=("count", "mean", "squares"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Statistics:
    """What a stream of frames was like so far; a pytree.

    Attributes:
      count: int32[] frames seen, at most 2³¹ − 1 (a year and a half of audio at 43 frames a second).
      mean: f32[F] of each band.
      squares: f32[F] sum of squared deviations from the mean.
    """

    count: jax.Array
    mean: jax.Array
    squares: jax.Array


def init(num_bands: int, *, dtype=None) -> Statistics:
    """Statistics of no frames; `dtype` is JAX's default float when None."""
    checks.integer(num_bands=num_bands)
    dtype = jnp.result_type(float) if dtype is None else dtype
    # Two arrays, not one twice: a donated state must not hold the same buffer two times.
    return Statistics(jnp.zeros((), jnp.int32), jnp.zeros(num_bands, dtype), jnp.zeros(num_bands, dtype))


def merge(one: Statistics, other: Statistics) -> Statistics:
    """Statistics of the frames of both.

    With n = n₁ + n₂ and δ = m₂ − m₁: m = m₁ + δ n₂ / n and S = S₁ + S₂ + δ² n₁ n₂ / n.

    Reference: Chan, Golub & LeVeque (1983), equation 2.1.
    """
    count = one.count + other.count
    share = other.count.astype(one.mean.dtype) / jnp.maximum(count, 1).astype(one.mean.dtype)
    difference = other.mean - one.mean
    mean = one.mean + difference * share
    between = difference**2 * share * one.count.astype(one.mean.dtype)
    return Statistics(count, mean, one.squares + other.squares + between)


def update(statistics: Statistics, spectrogram: jax.Array, *, mask: jax.Array | None = None) -> Statistics:
    """Take in the frames of a batch.

    The batch's own mean is subtracted before anything is squared, so that float32 is enough far from 0 (decibels).

    Args:
      statistics: from `init` or `update`.
      spectrogram: f32[..., T, F].
      mask: bool[..., T], True for real frames; None when all are.

    Raises:
      ValueError: for another number of bands or a mask of another shape.
    """
    # What a mask hides may be anything.
    spectrogram = checks.as_array(spectrogram, "spectrogram", min_ndim=2, check_finite=mask is None)
    spectrogram = spectrogram.astype(statistics.mean.dtype)
    if spectrogram.shape[-1:] != statistics.mean.shape:
        raise ValueError(f"spectrogram has {spectrogram.shape[-1]} bands, the statistics have {len(statistics.mean)}")
    if mask is not None and np.shape(mask) != spectrogram.shape[:-1]:
        raise ValueError(f"mask of shape {np.shape(mask)} must be {spectrogram.shape[:-1]}: one claim for each frame")
    frames = spectrogram.reshape(-1, spectrogram.shape[-1])
    real = jnp.ones(len(frames), bool) if mask is None else jnp.asarray(mask, bool).reshape(-1)
    count = jnp.sum(real, dtype=jnp.int32)
    mean = jnp.sum(frames, axis=0, where=real[:, None]) / jnp.maximum(count, 1).astype(frames.dtype)
    squares = jnp.sum((frames - mean[None]) ** 2, axis=0, where=real[:, None])
    return merge(statistics, Statistics(count, mean, squares))


def finish(statistics: Statistics, *, per_band: bool = True) -> tuple[jax.Array, jax.Array]:
    """Mean and population standard deviation: f32[F] each, or f32[] over all bands when not `per_band`.

    Raises:
      ValueError: outside of `jit`, if no frame was seen.
    """
    count = statistics.count
    if not isinstance(count, jax.core.Tracer) and np.asarray(count) == 0:
        raise ValueError("statistics of 0 frames; update them with at least one real frame")
    mean = statistics.mean
    variance = statistics.squares / jnp.maximum(count, 1).astype(mean.dtype)
    if not per_band:  # all bands have the same number of values: variance within plus variance between
        overall = mean.mean()
        mean, variance = overall, variance.mean() + ((mean - overall) ** 2).mean()
    constant = variance == 0  # where the square root has no gradient
    return mean, jnp.where(constant, 0, jnp.sqrt(jnp.where(constant, 1, variance)))


def _for_bands(values, name, spectrogram):
    values = jnp.asarray(values, spectrogram.dtype)
    if values.shape not in ((), spectrogram.shape[-1:]):
        bands = spectrogram.shape[-1]
        raise ValueError(f"{name} of shape {values.shape} must be one number, or one for each of {bands} bands")
    return values.reshape(*[1] * (spectrogram.ndim - values.ndim), *values.shape)


def standardise(spectrogram: jax.Array, *, mean, deviation, eps: float = 1e-10) -> jax.Array:
    """(x − mean) / (deviation + eps).

    Args:
      spectrogram: f32[..., T, F].
      mean, deviation: f32[F] per band, or one number for all.
      eps: for bands that never change.

    Returns:
      f32[..., T, F].
    """
    spectrogram = compression.as_spectrogram(spectrogram)
    mean, deviation = _for_bands(mean, "mean", spectrogram), _for_bands(deviation, "deviation", spectrogram)
    return (spectrogram - mean) / (deviation + eps)


def unstandardise(spectrogram: jax.Array, *, mean, deviation, eps: float = 1e-10) -> jax.Array:
    """Inverse of `standardise`."""
    spectrogram = compression.as_spectrogram(spectrogram)
    mean, deviation = _for_bands(mean, "mean", spectrogram), _for_bands(deviation, "deviation", spectrogram)
    return spectrogram * (deviation + eps) + mean


@jax.jit
def _whiten(magnitude, memory, floor, state):
    def step(peak, frame):
        peak = jnp.maximum(jnp.maximum(frame, floor), memory * peak)
        return peak, frame / peak

    state, whitened = lax.scan(step, state, jnp.moveaxis(magnitude, -2, 0))
    return jnp.moveaxis(whitened, 0, -2), state


def adaptive_whitening(
    magnitude: jax.Array,
    *,
    sample_rate: float,
    hop_length: int,
    relaxation_time: float = 250.0,
    floor: float = 1e-4,
    state: jax.Array | None = None,
    return_state: bool = False,
):
    """Divide each band by its recent peak, so that all bands have a similar range whatever the timbre.

    P[t] = max(|X[t]|, r, m P[t−1]);  Y[t] = |X[t]| / P[t], with m = 10^(−3 · hop / (rate · relaxation_time)): without
    new peaks P falls by 60 dB in a relaxation time.

    Args:
      magnitude: f32[..., T, F], not negative.
      sample_rate: hertz.
      hop_length: samples from frame to frame.
      relaxation_time: seconds; the default is aubio's.
      floor: r, smallest peak, in the units of the magnitude; the default is aubio's.
      state: f32[..., F], P before the first frame; zeros when None.
      return_state: also return P after the last frame, with which the next block of frames goes on.

    Returns:
      f32[..., T, F] in [0, 1]; or (f32[..., T, F], f32[..., F]).

    Raises:
      ValueError: for settings not above 0, a state of another shape, integer or non-finite input.

    Reference: Stowell & Plumbley (2007), equations 1 and 2.
    """
    magnitude = checks.as_array(magnitude, "magnitude", min_ndim=2)
    checks.positive(sample_rate=sample_rate, hop_length=hop_length, relaxation_time=relaxation_time, floor=floor)
    memory = math.exp(-3 * math.log(10) * hop_length / (sample_rate * relaxation_time))
    shape = magnitude.shape[:-2] + magnitude.shape[-1:]
    state = jnp.zeros(shape, magnitude.dtype) if state is None else jnp.asarray(state, magnitude.dtype)
    if state.shape != shape:
        raise ValueError(f"state of shape {state.shape} must be {shape}: one value for each band of each item")
    dtype = magnitude.dtype
    whitened, state = _whiten(magnitude, np.asarray(memory, dtype), np.asarray(floor, dtype), state)
    return (whitened, state) if return_state else whitened

"""Fundamental frequency by YIN.

Arrays: audio `[..., N]` → fundamental frequency in hertz `[..., T]`.
Source: de Cheveigné & Kawahara (2002) in the form of librosa 0.11: the whole frame is correlated (no shorter inner
window), the parabola goes through the normalised difference d′.
Names: `yin`, `yin_frames`, `normalised_difference`, `period_range`.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from mirjax.signal import checks, rhythm, stft


def period_range(*, fmin: float, fmax: float, sample_rate: float, frame_length: int) -> tuple[int, int]:
    """Shortest and longest period searched, samples: ⌊sample_rate / fmax⌋ and ⌈sample_rate / fmin⌉.

    Raises:
      ValueError: unless 0 < fmin < fmax ≤ sample_rate / 2 and a period of `fmin` fits in a frame.
    """
    checks.integer(frame_length=frame_length)
    checks.positive(fmin=fmin, fmax=fmax)
    checks.frequency_range(fmin, fmax, sample_rate)
    if sample_rate / fmin >= frame_length - 1:
        raise ValueError(
            f"fmin={fmin} has a period of {sample_rate / fmin:.1f} samples, too long for frame_length={frame_length}; "
            f"raise fmin above {sample_rate / (frame_length - 1):.2f} Hz or frame_length to "
            f"{math.floor(sample_rate / fmin) + 2} (twice that is better)"
        )
    return math.floor(sample_rate / fmax), math.ceil(sample_rate / fmin)


def normalised_difference(frames: jax.Array, *, min_period: int, max_period: int) -> jax.Array:
    """Cumulative mean normalised difference d′(τ) = d(τ) / ((1/τ) Σ_{j=1}^{τ} d(j)) for min_period ≤ τ ≤ max_period.

    The difference is d(τ) = 2 (r(0) − r(τ)) − Σ_{n<τ} x[n]² with the frame's autocorrelation r. In a silent frame d′
    is 0, with gradient 0.

    Args:
      frames: f32[..., L].
      min_period, max_period: samples, 1 ≤ min_period ≤ max_period < L.

    Returns:
      f32[..., max_period − min_period + 1].

    Raises:
      ValueError: for periods that do not fit in the frame, and for integer, empty or non-finite frames.

    Reference: de Cheveigné & Kawahara (2002), equations 7 and 8.
    """
    frames = checks.as_array(frames, "frames")
    checks.integer(min_period=min_period, max_period=max_period)
    if not min_period <= max_period < frames.shape[-1]:
        raise ValueError(
            f"need min_period <= max_period < {frames.shape[-1]} (frame), got {min_period} and {max_period}"
        )
    # d′ does not depend on the scale. A power of two loses no digit and keeps squares of faint sounds off underflow.
    _, exponent = jnp.frexp(lax.stop_gradient(jnp.abs(frames).max(axis=-1, keepdims=True)))
    frames = frames * jnp.ldexp(jnp.ones((), frames.dtype), -jnp.maximum(exponent, -100))
    correlation = rhythm.autocorrelate(frames, max_size=max_period + 1)
    # librosa 0.11 leaves x[0]² out of d(1), which moves f0 by some 1e-4; kept, so that the numbers are the same.
    energy = jnp.cumsum(frames[..., :max_period] ** 2, axis=-1).at[..., 0].set(0)
    difference = 2 * (correlation[..., :1] - correlation[..., 1:]) - energy
    tau = jnp.arange(1, max_period + 1, dtype=frames.dtype).reshape((1,) * (frames.ndim - 1) + (-1,))
    mean = jnp.cumsum(difference, axis=-1) / tau
    difference, mean = difference[..., min_period - 1 :], mean[..., min_period - 1 :]
    silent = jnp.abs(mean) < jnp.finfo(frames.dtype).tiny
    return jnp.where(silent, 0, difference) / jnp.where(silent, 1, mean)


def yin_frames(
    frames: jax.Array, *, fmin: float, fmax: float, sample_rate: float, trough_threshold: float = 0.1
) -> jax.Array:
    """What `yin` makes of each frame: f32[..., T, L] → hertz f32[..., T]; arguments and errors as there."""
    frames = checks.as_array(frames, "frames")
    checks.positive(trough_threshold=trough_threshold)
    shortest, longest = period_range(fmin=fmin, fmax=fmax, sample_rate=sample_rate, frame_length=frames.shape[-1])
    values = normalised_difference(frames, min_period=shortest, max_period=longest)
    # A trough is lower than the lag before and not higher than the lag after; at either end only one side counts.
    falls, rises = values[..., 1:] < values[..., :-1], values[..., 1:] >= values[..., :-1]
    first, last = values[..., :1] < values[..., 1:2], falls[..., -1:]
    trough = jnp.concatenate([first, falls[..., :-1] & rises[..., 1:], last], axis=-1)
    deep = trough & (values < trough_threshold)
    index = jnp.where(deep.any(axis=-1), jnp.argmax(deep, axis=-1), jnp.argmin(values, axis=-1))
    # The parabola through the lag and its neighbours; the ends, and vertices beyond a neighbour, stay.
    centre = jnp.clip(index, 1, values.shape[-1] - 2)[..., None]
    before, here, after = (jnp.take_along_axis(values, centre + k, axis=-1)[..., 0] for k in (-1, 0, 1))
    curvature, slope = after + before - 2 * here, (after - before) / 2
    inside = (jnp.abs(slope) < jnp.abs(curvature)) & (index == centre[..., 0])
    shift = jnp.where(inside, -slope / jnp.where(inside, curvature, 1), 0)
    return sample_rate / (shortest + index + shift)


@functools.partial(
    jax.jit,
    static_argnames=("frame_length", "hop_length", "center", "pad_mode", "settings"),
)
def _yin(audio, *, settings, **framing):
    return stft.map_frames(audio, functools.partial(yin_frames, **dict(settings)), **framing)


def yin(
    audio: jax.Array,
    *,
    fmin: float,
    fmax: float,
    sample_rate: float,
    frame_length: int = 2048,
    hop_length: int | None = None,
    trough_threshold: float = 0.1,
    center: bool = True,
    pad_mode: str = "constant",
) -> jax.Array:
    """Fundamental frequency of each frame by YIN; every frame gets one, voiced or not.

    The period is the first trough of the normalised difference below the threshold, or its global minimum if there is
    none, refined by a parabola. The gradient is that of the refinement; the choice of the trough has none.

    Args:
      audio: f32[..., N].
      fmin, fmax: range searched, hertz; at least two periods of `fmin` should fit in a frame.
      sample_rate: hertz.
      frame_length: samples a frame, all of which are correlated.
      hop_length: samples from frame to frame; frame_length // 4 when None.
      trough_threshold: normalised difference that a period has to stay below.
      center: put the middle of frame t at sample t · hop_length; otherwise it begins there.
      pad_mode: what centred frames see outside the clip, as `stft.stft`.

    Returns:
      Hertz, f32[..., T]; sample_rate / ⌊sample_rate / fmax⌋ in silent frames.

    Raises:
      ValueError: for bad audio, 0 < fmin < fmax ≤ sample_rate / 2 not fulfilled, a period of `fmin` that does not fit
        in the frame, or settings that are not positive.

    Reference: de Cheveigné & Kawahara (2002), steps 1–5.
    """
    audio = checks.as_audio(audio)
    checks.integer(frame_length=frame_length)
    hop_length = frame_length // 4 if hop_length is None else hop_length
    checks.integer(hop_length=hop_length)
    checks.positive(trough_threshold=trough_threshold)
    period_range(fmin=fmin, fmax=fmax, sample_rate=sample_rate, frame_length=frame_length)
    settings = {"fmin": fmin, "fmax": fmax, "sample_rate": sample_rate, "trough_threshold": trough_threshold}
    return _yin(
        audio,
        settings=tuple(settings.items()),
        frame_length=frame_length,
        hop_length=hop_length,
        center=center,
        pad_mode=pad_mode,
    )

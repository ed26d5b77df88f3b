"""Tuning: how far a recording lies from A440.

Arrays: audio `[..., N]` or magnitudes `[..., T, F]` → pitches and magnitudes `[..., T, F]`, 0 where no peak is; one
tuning in fractions of a bin for each clip `[...]`. It needs the whole clip.
Source: sinusoidal peaks by parabolic interpolation (Smith, 2011), thresholds and histogram as librosa has them.
Names: `piptrack`, `spectrogram_peaks`, `pitch_tuning`, `estimate_tuning`, `spectrogram_tuning`.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from mirjax.signal import checks, stft


@functools.partial(jax.jit, static_argnames=("sample_rate", "n_fft", "fmin", "fmax", "threshold"))
def _peaks(magnitudes, *, sample_rate, n_fft, fmin, fmax, threshold):
    # Silence the bins that are too weak first, as it decides which neighbours a peak has.
    reference = threshold * magnitudes.max(axis=-1, keepdims=True)
    strong = jnp.where(magnitudes > reference, magnitudes, 0)
    edges = [(0, 0)] * (magnitudes.ndim - 1) + [(1, 1)]
    around = jnp.pad(strong, edges, mode="edge")
    peaks = (strong > around[..., :-2]) & (strong >= around[..., 2:])
    frequencies = np.arange(magnitudes.shape[-1]) * (sample_rate / n_fft)
    within = (frequencies >= fmin) & (frequencies < fmax)
    within[[0, -1]] = False  # no parabola without two neighbours
    peaks &= jnp.asarray(within).reshape((1,) * (magnitudes.ndim - 1) + (-1,))

    inner = magnitudes[..., 1:-1]
    slope = (magnitudes[..., 2:] - magnitudes[..., :-2]) / 2
    curvature = magnitudes[..., 2:] + magnitudes[..., :-2] - 2 * inner
    valid = jnp.abs(slope) < jnp.abs(curvature)
    shift = jnp.where(valid, -slope / jnp.where(valid, curvature, 1), 0)
    index = jnp.arange(1, magnitudes.shape[-1] - 1, dtype=magnitudes.dtype)
    index = index.reshape((1,) * (magnitudes.ndim - 1) + (-1,))
    pitch = jnp.pad((index + shift) * (sample_rate / n_fft), edges)
    height = jnp.pad(inner + slope * shift / 2, edges)
    return jnp.where(peaks, pitch, 0), jnp.where(peaks, height, 0)


def spectrogram_peaks(
    magnitudes: jax.Array,
    *,
    sample_rate: float,
    n_fft: int | None = None,
    fmin: float = 150.0,
    fmax: float = 4000.0,
    threshold: float = 0.1,
) -> tuple[jax.Array, jax.Array]:
    """Frequencies and heights of a spectrogram's peaks, each frame for itself.

    Args:
      magnitudes: f32[..., n_fft // 2 + 1].
      sample_rate: hertz.
      n_fft: transform length; 2 (F − 1) when None.
      fmin: lowest bin considered, hertz.
      fmax: bins below it are considered, at most half the sample rate.
      threshold: peaks must be above this share of the frame's maximum.

    Returns:
      Pitch in hertz and magnitude, f32[..., F] each, interpolated at the peaks and 0 elsewhere.

    Raises:
      ValueError: for settings out of range.

    Reference: Smith (2011), "Quadratic interpolation of spectral peaks".
    """
    magnitudes = checks.as_array(magnitudes, "magnitudes")
    checks.positive(sample_rate=sample_rate)
    if magnitudes.shape[-1] < 3:
        raise ValueError(f"magnitudes of shape {magnitudes.shape} need at least 3 bins; raise n_fft")
    if not 0 <= threshold < math.inf:
        raise ValueError(f"threshold={threshold} must not be negative; 0.1 keeps peaks above a tenth of the maximum")
    checks.frequency_range(fmin, min(fmax, sample_rate / 2), sample_rate)
    n_fft = 2 * (magnitudes.shape[-1] - 1) if n_fft is None else n_fft
    checks.integer(n_fft=n_fft)
    return _peaks(
        magnitudes,
        sample_rate=float(sample_rate),
        n_fft=int(n_fft),
        fmin=float(fmin),
        fmax=float(min(fmax, sample_rate / 2)),
        threshold=float(threshold),
    )


def piptrack(
    audio: jax.Array,
    *,
    sample_rate: float,
    n_fft: int = 2048,
    hop_length: int | None = None,
    fmin: float = 150.0,
    fmax: float = 4000.0,
    threshold: float = 0.1,
    **transform,
) -> tuple[jax.Array, jax.Array]:
    """Peaks of the magnitude spectrogram: f32[..., N] → pitch, magnitude f32[..., T, n_fft // 2 + 1].

    Args, returns and errors: as `spectrogram_peaks`, and `stft.stft` for the transform.
    """
    spectrogram = stft.spectrogram(audio, n_fft=n_fft, hop_length=hop_length, **transform)
    return spectrogram_peaks(
        spectrogram, sample_rate=sample_rate, n_fft=n_fft, fmin=fmin, fmax=fmax, threshold=threshold
    )


@functools.partial(jax.jit, static_argnames=("resolution", "bins_per_octave"))
def _pitch_tuning(frequencies, *, resolution, bins_per_octave):
    edges = np.linspace(-0.5, 0.5, math.ceil(1 / resolution) + 1)
    sounding = frequencies > 0
    octaves = jnp.log2(jnp.where(sounding, frequencies, 1) / 27.5)
    # A frequency on the edge of two cells belongs to the upper one, whatever the last digit of its logarithm.
    slack = max(1e-6 * resolution, 64 * float(jnp.finfo(octaves.dtype).eps))
    residual = jnp.mod(bins_per_octave * octaves + slack, 1)
    residual = jnp.where(residual >= 0.5, residual - 1, residual)
    cell = jnp.searchsorted(jnp.asarray(edges, residual.dtype), residual, side="right") - 1
    cell = jnp.clip(cell, 0, len(edges) - 2)

    def count(cell, sounding):
        return jnp.zeros(len(edges) - 1, jnp.int32).at[cell].add(sounding.astype(jnp.int32))

    counts = jax.vmap(count)(cell, sounding)
    peak = jnp.asarray(edges, residual.dtype)[counts.argmax(axis=-1)]
    return jnp.where(sounding.any(axis=-1), peak, 0)


def pitch_tuning(frequencies: jax.Array, *, resolution: float = 0.01, bins_per_octave: int = 12) -> jax.Array:
    """Deviation from A440 that most frequencies share: f32[..., M] hertz → f32[...] in [-0.5, 0.5) of a bin.

    The lower edge of the fullest cell of a histogram of deviations; 0 if no frequency is above 0.

    Args:
      frequencies: hertz; those that are not above 0 are left out.
      resolution: width of the histogram's cells.
      bins_per_octave: bins an octave.

    Raises:
      ValueError: for a resolution outside of (0, 1).
    """
    frequencies = checks.as_array(frequencies, "frequencies")
    checks.integer(bins_per_octave=bins_per_octave)
    if not 0 < resolution < 1:
        raise ValueError(f"resolution={resolution} must lie between 0 and 1, fractions of a bin")
    flat = frequencies.reshape(-1, frequencies.shape[-1])
    tuning = _pitch_tuning(flat, resolution=float(resolution), bins_per_octave=int(bins_per_octave))
    return tuning.reshape(frequencies.shape[:-1])


def _median(values, where):
    """Median along the last axis of the values `where`; 0 if there are none."""
    count = where.sum(axis=-1, keepdims=True)
    ordered = jnp.sort(jnp.where(where, values, jnp.inf), axis=-1)
    middle = [jnp.take_along_axis(ordered, jnp.maximum(i, 0), axis=-1) for i in ((count - 1) // 2, count // 2)]
    return jnp.where(count > 0, (middle[0] + middle[1]) / 2, 0)


def spectrogram_tuning(
    magnitudes: jax.Array, *, sample_rate: float, resolution: float = 0.01, bins_per_octave: int = 12, **peaks
) -> jax.Array:
    """Tuning of each clip from a spectrogram: f32[..., T, F] → f32[...], in fractions of a bin.

    It counts the peaks that are at least as high as the clip's median peak. Args and errors: as `spectrogram_peaks`
    and `pitch_tuning`.
    """
    magnitudes = checks.as_array(magnitudes, "magnitudes", min_ndim=2)
    pitch, height = spectrogram_peaks(magnitudes, sample_rate=sample_rate, **peaks)
    pitch, height = (x.reshape(*x.shape[:-2], -1) for x in (pitch, height))
    high = height >= _median(height, pitch > 0)
    return pitch_tuning(jnp.where(high, pitch, 0), resolution=resolution, bins_per_octave=bins_per_octave)


def estimate_tuning(
    audio: jax.Array,
    *,
    sample_rate: float,
    n_fft: int = 2048,
    hop_length: int | None = None,
    resolution: float = 0.01,
    bins_per_octave: int = 12,
    **peaks,
) -> jax.Array:
    """Tuning of each clip: f32[..., N] → f32[...], in fractions of a bin.

    The transforms take tuning as a number: `float(estimate_tuning(clip, …))`, outside of `jit`. In float32 a deviation
    at the edge of two cells of the histogram may fall on either side, which moves the answer by one `resolution`.

    Args:
      audio: f32[..., N], whole clips.
      sample_rate: hertz.
      n_fft, hop_length: as `stft.stft`.
      resolution, bins_per_octave: as `pitch_tuning`.
      **peaks: `fmin`, `fmax`, `threshold` of `spectrogram_peaks`.

    Raises:
      ValueError: as `spectrogram_peaks` and `pitch_tuning`.
    """
    spectrogram = stft.spectrogram(audio, n_fft=n_fft, hop_length=hop_length)
    return spectrogram_tuning(
        spectrogram,
        sample_rate=sample_rate,
        n_fft=n_fft,
        resolution=resolution,
        bins_per_octave=bins_per_octave,
        **peaks,
    )

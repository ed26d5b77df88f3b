"""Onset envelopes and what repeats in them: spectral flux, onset strength, tempograms.

Arrays: spectrogram `[..., T, F]` → onset envelope `[..., T]` → tempogram `[..., T, lags or tempi]`.
Source: librosa's conventions; Böck & Widmer (2013) for onsets, Grosche, Müller & Kurth (2010) for tempograms.
Names: `spectral_flux`, `onset_strength`, `remove_mean`, `autocorrelate`, `tempogram`, `fourier_tempogram`,
`tempo_frequencies`, `fourier_tempo_frequencies`.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, filtered, stft

AGGREGATES = ("mean", "sum", "median", "max")


def spectral_flux(spectrogram: jax.Array, *, lag: int = 1, max_size: int = 1) -> jax.Array:
    """Sum of the rises of all bands, Σ_f max(0, X[t, f] − X[t − lag, f]): f32[..., T, F] → f32[..., T].

    Args and errors: as `filtered.positive_differences`; the first `lag` frames are 0. `max_size` 3 makes it SuperFlux.
    """
    return filtered.positive_differences(spectrogram, lag=lag, max_size=max_size).sum(axis=-1)


def onset_strength(
    spectrogram: jax.Array,
    *,
    lag: int = 1,
    max_size: int = 1,
    reference: jax.Array | None = None,
    detrend: bool = False,
    center: bool = True,
    n_fft: int = 2048,
    hop_length: int = 512,
    aggregate: str = "mean",
) -> jax.Array:
    """Onset envelope: the mean rise over the bands, moved to where the frames that saw it have their middle.

    Args:
      spectrogram: f32[..., T, F], logarithmic (librosa takes a mel spectrogram in decibels).
      lag: frames between the two that are compared.
      max_size: width of the maximum filter over the bands of the earlier frame; 1 is none.
      reference: f32[..., T, F] to be compared with instead of the (filtered) spectrogram itself.
      detrend: pass the envelope through `remove_mean`.
      center: delay the envelope by n_fft // (2 hop_length) more frames and cut it to T.
      n_fft, hop_length: of the transform, in samples; used for that delay alone.
      aggregate: over bands: "mean", "sum", "median" or "max".

    Returns:
      f32[..., T].

    Raises:
      ValueError: for settings that are not positive, an unknown aggregate, or a reference of another shape.
    """
    checks.integer(lag=lag, max_size=max_size, n_fft=n_fft, hop_length=hop_length)
    checks.choice("aggregate", aggregate, AGGREGATES)
    spectrogram = checks.as_array(spectrogram, "spectrogram", min_ndim=2)
    frames = spectrogram.shape[-2]
    if reference is None:
        reference = spectrogram if max_size == 1 else filtered.maximum_filter(spectrogram, max_size)
    else:
        reference = checks.as_array(reference, "reference", min_ndim=2)
        if reference.shape != spectrogram.shape:
            raise ValueError(f"reference of shape {reference.shape} must have the spectrogram's, {spectrogram.shape}")
    rises = jax.nn.relu(spectrogram[..., lag:, :] - reference[..., : max(0, frames - lag), :])
    envelope = getattr(jnp, aggregate)(rises, axis=-1)
    delay = lag + (n_fft // (2 * hop_length) if center else 0)
    envelope = jnp.pad(envelope, [(0, 0)] * (envelope.ndim - 1) + [(delay, 0)])
    if detrend:
        envelope, _ = remove_mean(envelope)
    return envelope[..., :frames]


def remove_mean(envelope: jax.Array, state=None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """High-pass filter over time, y[t] = x[t] − x[t − 1] + 0.99 y[t − 1]: f32[..., T] → f32[..., T] and its state.

    Args:
      envelope: f32[..., T].
      state: (x, y) of the frame before, each f32[...]; zeros when None.
    """
    envelope = checks.as_array(envelope, "envelope")
    if state is None:
        state = (jnp.zeros_like(envelope[..., 0]),) * 2
    return _remove_mean(envelope, state)


@jax.jit
def _remove_mean(envelope, state):
    def step(state, value):
        previous, output = state
        output = value - previous + 0.99 * output
        return (value, output), output

    state, output = lax.scan(step, state, jnp.moveaxis(envelope, -1, 0))
    return jnp.moveaxis(output, 0, -1), state


def _smooth_length(least: int) -> int:
    """Smallest 2^a 3^b 5^c ≥ `least`: a length that every FFT likes."""
    lengths = (2**a * 3**b * 5**c for a in range(least.bit_length() + 1) for b in range(3) for c in range(2))
    return min(length for length in lengths if length >= least)


def autocorrelate(values: jax.Array, *, max_size: int | None = None) -> jax.Array:
    """Autocorrelation r[k] = Σ_n x[n] x[n + k] by the FFT: f32[..., N] → f32[..., min(max_size, N)].

    Args:
      values: f32[..., N].
      max_size: lags to return, from 0; all N when None.

    Raises:
      ValueError: for bad `values` or `max_size` below 1.
    """
    values = checks.as_array(values)
    size = values.shape[-1] if max_size is None else max_size
    checks.integer(max_size=size)
    size = min(size, values.shape[-1])
    # Circular wrap-around reaches lag n_fft − N + 1 and beyond only.
    n_fft = _smooth_length(values.shape[-1] + size - 1)
    return jnp.fft.irfft(stft.power(jnp.fft.rfft(values, n=n_fft)), n=n_fft)[..., :size]


def _normalise(values: jax.Array, norm: float | None) -> jax.Array:
    """Divide the last axis by its `norm`; where that is 0, values stay."""
    if norm is None:
        return values
    size = jnp.abs(values)
    if norm == math.inf:
        total = size.max(axis=-1, keepdims=True)
        silent = total < jnp.finfo(values.dtype).tiny
    else:
        total = (size if norm == 1 else size**norm).sum(axis=-1, keepdims=True)
        silent = total < jnp.finfo(values.dtype).tiny
        total = jnp.where(silent, 1, total) ** (1 / norm)
    return values / jnp.where(silent, 1, total)


@functools.partial(jax.jit, static_argnames=("center", "norm"))
def _tempogram(envelope, window, *, center, norm):
    win_length = len(window)
    frames = envelope.shape[-1]
    if center:
        pad = [(0, 0)] * (envelope.ndim - 1) + [(win_length // 2, win_length // 2)]
        envelope = jnp.pad(envelope, pad, mode="linear_ramp")

    def transform(parts):
        return _normalise(autocorrelate(parts * window[None]), norm)

    output = stft.map_frames(envelope, transform, frame_length=win_length, hop_length=1, center=False)
    return output[..., :frames, :]


def tempogram(
    onset_envelope: jax.Array,
    *,
    win_length: int = 384,
    center: bool = True,
    window="hann",
    norm: float | None = math.inf,
) -> jax.Array:
    """Local autocorrelation of an onset envelope: strength of each period around each frame.

    Args:
      onset_envelope: f32[..., T].
      win_length: frames of the window, and lags returned.
      center: window t is centred on frame t, the envelope falling linearly to 0 outside; otherwise it begins there.
      window: name, (name, parameter) or values (`stft.get_window`).
      norm: each frame is divided by this norm (any number above 0, infinity for the maximum), not at all when None.

    Returns:
      f32[..., T, win_length] (T − win_length + 1 frames if not centred); lag k is `tempo_frequencies`[k] beats per
      minute.

    Raises:
      ValueError: for a bad envelope, window or norm, or an uncentred window longer than the envelope.

    Reference: Grosche, Müller & Kurth (2010), section 3.
    """
    checks.integer(win_length=win_length)
    if norm is not None and not norm > 0:
        raise ValueError(f"norm={norm!r} must be above 0, infinity or None")
    onset_envelope = checks.as_array(onset_envelope, "onset_envelope")
    values = jnp.asarray(stft.get_window(window, win_length), onset_envelope.dtype)
    return _tempogram(onset_envelope, values, center=center, norm=norm)


def fourier_tempogram(
    onset_envelope: jax.Array, *, win_length: int = 384, center: bool = True, window="hann"
) -> jax.Array:
    """Short-time Fourier transform of an onset envelope with a hop of one frame.

    Args:
      onset_envelope: f32[..., T].
      win_length, center, window: as in `tempogram`, with zeros outside.

    Returns:
      c64[..., T', 1 + win_length // 2]; T' = T + 1 for centred windows of even length, as librosa counts. Bin k is
      `fourier_tempo_frequencies`[k] beats a minute.

    Raises:
      ValueError: as `stft.stft`.
    """
    checks.integer(win_length=win_length)
    onset_envelope = checks.as_array(onset_envelope, "onset_envelope")
    return stft.stft(onset_envelope, n_fft=win_length, hop_length=1, center=center, window=window)


def tempo_frequencies(num_bins: int, *, sample_rate: float = 22_050, hop_length: int = 512) -> np.ndarray:
    """Tempo of each lag of `tempogram`, beats a minute: 60 · sample_rate / (hop_length · k), infinite for lag 0."""
    checks.integer(num_bins=num_bins, hop_length=hop_length)
    checks.positive(sample_rate=sample_rate)
    return np.concatenate([[np.inf], 60 * sample_rate / (hop_length * np.arange(1, num_bins))])


def fourier_tempo_frequencies(
    *, win_length: int = 384, sample_rate: float = 22_050, hop_length: int = 512
) -> np.ndarray:
    """Tempo of each bin of `fourier_tempogram`, beats a minute, float64[1 + win_length // 2]."""
    checks.integer(win_length=win_length, hop_length=hop_length)
    checks.positive(sample_rate=sample_rate)
    return np.arange(1 + win_length // 2) * (60 * sample_rate / (hop_length * win_length))

"""Mel spectrograms, decibels and cepstra.

Arrays: power spectra `[..., T, n_fft // 2 + 1]` → mel `[..., T, n_mels]` → MFCC `[..., T, num_coefficients]`.
Source: Slaney's Auditory Toolbox scale (1998) as librosa has it (linear below 1 kHz, triangles of unit area); the MFCC
baseline of Pons & Serra (2019, section 4.4).
Names: `mel_filters`, `mel_spectrogram`, `power_to_db`, `mfcc`, `mfcc_statistics`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import stft

_HIGHEST = lax.Precision.HIGHEST


def hz_to_mel(frequency):
    """Slaney's mel scale: 3 mel per 200 Hz up to 1 kHz, then 27 steps per factor 6.4."""
    frequency = np.asarray(frequency, np.float64)
    above = np.maximum(frequency, 1000.0)
    return np.where(frequency < 1000, 3 * frequency / 200, 15 + 27 * np.log(above / 1000) / np.log(6.4))


def mel_to_hz(mel):
    """Inverse of `hz_to_mel`."""
    mel = np.asarray(mel, np.float64)
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp(np.log(6.4) * (mel - 15) / 27))


@functools.lru_cache
def mel_filters(
    *, sample_rate: float, n_fft: int, n_mels: int, fmin: float = 0.0, fmax: float | None = None
) -> np.ndarray:
    """Triangular mel filters of unit area (Slaney), float64[n_mels, n_fft // 2 + 1].

    Args:
      sample_rate: hertz.
      n_fft: transform length in samples.
      n_mels: number of bands.
      fmin: lower edge of the first band, hertz.
      fmax: upper edge of the last band, hertz; half the sample rate when None.

    Raises:
      ValueError: if the edges are out of order or a band covers no bin.
    """
    fmax = sample_rate / 2 if fmax is None else fmax
    if not 0 <= fmin < fmax <= sample_rate / 2:
        raise ValueError(f"need 0 <= fmin < fmax <= {sample_rate / 2} Hz, got fmin={fmin}, fmax={fmax}")
    bins = np.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
    edges = mel_to_hz(np.linspace(hz_to_mel(fmin), hz_to_mel(fmax), n_mels + 2))
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rise, fall = (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)
    filters = np.maximum(0, np.minimum(rise, fall)) * (2 / (upper - lower))
    empty = int((filters.max(axis=1) == 0).sum())
    if empty:
        raise ValueError(
            f"n_mels={n_mels} leaves {empty} empty bands at n_fft={n_fft}, {sample_rate:g} Hz; "
            "lower n_mels or raise n_fft"
        )
    filters.setflags(write=False)
    return filters


def apply_filters(power: jax.Array, filters: np.ndarray, *, num_blocks: int = 4) -> jax.Array:
    """Project power spectra on a banded filter bank: f32[..., F] → f32[..., n_mels].

    The bank is cut into blocks of rows and each is multiplied only with the bins it touches, which halves the work
    of the dense product.
    """
    parts = []
    for rows in np.array_split(filters, min(num_blocks, len(filters))):
        touched = np.flatnonzero(rows.any(axis=0))
        low, high = int(touched[0]), int(touched[-1]) + 1
        block = jnp.asarray(rows[:, low:high].T, power.dtype)
        parts.append(jnp.matmul(power[..., low:high], block, precision=_HIGHEST))
    return jnp.concatenate(parts, axis=-1)


def mel_spectrogram(
    audio: jax.Array,
    *,
    sample_rate: float,
    n_fft: int,
    hop_length: int,
    n_mels: int,
    fmin: float = 0.0,
    fmax: float | None = None,
) -> jax.Array:
    """Power mel spectrogram: audio f32[..., N] → f32[..., T, n_mels], T = 1 + N // hop_length.

    Args and errors: as `mel_filters` and `stft.map_frames`.
    """
    filters = mel_filters(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
    return stft.map_frames(
        audio,
        lambda frames: apply_filters(stft.power_spectrum(frames), filters),
        n_fft=n_fft,
        hop_length=hop_length,
    )


def power_to_db(power: jax.Array, *, amin: float = 1e-10, top_db: float | None = 80.0) -> jax.Array:
    """Decibels 10·log10(max(amin, power)), clipped `top_db` below each clip's maximum (over the last two axes)."""
    db = 10 * jnp.log10(jnp.maximum(power, amin))
    return db if top_db is None else jnp.maximum(db, db.max(axis=(-2, -1), keepdims=True) - top_db)


def dct_matrix(num_coefficients: int, num_bands: int) -> np.ndarray:
    """Orthonormal DCT-II, float64[num_coefficients, num_bands]."""
    k, n = np.arange(num_coefficients)[:, None], np.arange(num_bands)
    basis = np.sqrt(2 / num_bands) * np.cos(np.pi * k * (2 * n + 1) / (2 * num_bands))
    basis[0] /= np.sqrt(2)
    return basis


def mfcc(
    audio: jax.Array,
    *,
    sample_rate: float,
    num_coefficients: int = 20,
    n_fft: int = 2048,
    hop_length: int = 512,
    n_mels: int = 128,
    length: jax.Array | None = None,
) -> jax.Array:
    """Mel-frequency cepstral coefficients with librosa's defaults.

    Args:
      audio: f32[..., N].
      sample_rate: hertz.
      num_coefficients: cepstral coefficients kept.
      n_fft: frame length in samples.
      hop_length: hop in samples.
      n_mels: mel bands.
      length: int[...] real samples when the audio is padded with zeros at the end; the 80 dB floor then hangs from the
        maximum over the frames of the real clip. None: all samples are real.

    Returns:
      f32[..., T, num_coefficients].
    """
    mel = mel_spectrogram(audio, sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels)
    db = power_to_db(mel, top_db=None)
    frames = jnp.arange(db.shape[-2])
    last = frames[-1] if length is None else jnp.asarray(length)[..., None] // hop_length
    real = (frames <= last)[..., None]
    db = jnp.maximum(db, jnp.max(db, axis=(-2, -1), keepdims=True, where=real, initial=-jnp.inf) - 80)
    return jnp.matmul(db, jnp.asarray(dct_matrix(num_coefficients, n_mels).T, db.dtype), precision=_HIGHEST)


def mfcc_statistics(
    audio: jax.Array, *, sample_rate: float, length: jax.Array | None = None, hop_length: int = 512
) -> jax.Array:
    """The MFCC baseline: 120 numbers a clip.

    Mean, then population standard deviation over time, of the 20 coefficients, of their first differences and of
    their second differences.

    Args:
      audio: f32[..., N], padded with zeros at the end; at least 2048 samples.
      sample_rate: hertz.
      length: int[...] real samples of each clip (at least 2048); None when all are real.
      hop_length: hop in samples.

    Returns:
      f32[..., 120].

    Reference: Pons & Serra (2019), section 4.4; plain differences as in the released code, not regression deltas.
    """
    if audio.shape[-1] < 2048:
        raise ValueError(f"audio of {audio.shape[-1]} samples is shorter than one frame; pad it to 2048 samples")
    coefficients = mfcc(audio, sample_rate=sample_rate, length=length, hop_length=hop_length)
    num_samples = audio.shape[-1] if length is None else length
    num_real = 1 + jnp.asarray(num_samples)[..., None] // hop_length
    statistics = []
    for order in range(3):
        values = jnp.diff(coefficients, n=order, axis=-2)
        real = (jnp.arange(values.shape[-2]) < num_real - order)[..., None]
        # A clip of two frames has no second difference: its mean and deviation are 0.
        count = jnp.maximum(num_real - order, 1).astype(values.dtype)
        mean = jnp.sum(values, axis=-2, where=real) / count
        squares = jnp.sum((values - mean[..., None, :]) ** 2, axis=-2, where=real)
        statistics += [mean, jnp.sqrt(squares / count)]
    return jnp.concatenate(statistics, axis=-1)

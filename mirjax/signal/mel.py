"""Mel spectrograms and the way back.

Arrays: audio `[..., N]` → mel `[..., T, n_mels]` → spectrum `[..., T, 1 + n_fft // 2]` → audio.
Source: librosa's conventions and defaults; the inverse is a non-negative least-squares fit by accelerated projected
gradients (Beck & Teboulle 2009) with one step size for each bin.
Names: `mel_spectrogram`, `mel_of_frames`, `mel_to_spectrogram`, `mel_to_audio`; `power_to_db` is `compression`'s.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, stft
from mirjax.signal.compression import power_to_db as power_to_db
from mirjax.signal.filters import apply_filters, mel_filters

_HIGHEST = lax.Precision.HIGHEST
_BLOCK_ROWS = 512  # frames inverted at once: 2 MB an array at n_fft 2048


def mel_of_frames(frames: jax.Array, *, window: jax.Array, filters: np.ndarray, power: float = 2.0) -> jax.Array:
    """Mel bands of frames of samples: f32[..., n_fft] → f32[..., n_mels].

    Args:
      frames: f32[..., n_fft].
      window: f[n_fft], padded with zeros to n_fft.
      filters: numpy f64[n_mels, 1 + n_fft // 2].
      power: exponent of the magnitude, 1 or 2.
    """
    window = jnp.asarray(window, frames.dtype).reshape(*[1] * (frames.ndim - 1), -1)
    energy = stft.power(jnp.fft.rfft(frames * window))
    return apply_filters(stft.to_power(energy, power), filters)


@functools.partial(jax.jit, static_argnames=("power", "hop_length", "center", "pad_mode", "bank"))
def _mel_spectrogram(audio, window, *, power, hop_length, center, pad_mode, bank):
    return stft.map_frames(
        audio,
        functools.partial(mel_of_frames, window=window, filters=mel_filters(**dict(bank)), power=power),
        frame_length=len(window),
        hop_length=hop_length,
        center=center,
        pad_mode=pad_mode,
    )


def mel_spectrogram(
    audio: jax.Array,
    *,
    sample_rate: float,
    n_fft: int = 2048,
    hop_length: int | None = None,
    win_length: int | None = None,
    window="hann",
    center: bool = True,
    pad_mode: str = "constant",
    power: float = 2.0,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
    scale: str = "slaney",
    norm="slaney",
    weighting: str = "hertz",
    allow_empty: bool = False,
) -> jax.Array:
    """Mel spectrogram: mel filters times |STFT|^power, f32[..., N] → f32[..., T, n_mels].

    Args:
      audio: f32[..., N].
      sample_rate: hertz.
      n_fft, hop_length, win_length, window, center, pad_mode: as in `stft.stft`; the hop is win_length // 4 when None.
      power: 2 for energies, 1 for magnitudes.
      n_mels, fmin, fmax, scale, norm, weighting, allow_empty: as in `filters.mel_filters`.

    Returns:
      f32[..., T, n_mels].

    Raises:
      ValueError: as `stft.stft` and `filters.mel_filters`.
    """
    checks.positive(power=power, sample_rate=sample_rate)
    audio = checks.as_audio(audio)
    bank = {
        "sample_rate": sample_rate,
        "n_fft": n_fft,
        "n_mels": n_mels,
        "fmin": fmin,
        "fmax": fmax,
        "scale": scale,
        "norm": norm,
        "weighting": weighting,
        "allow_empty": allow_empty,
    }
    hop_length, window = stft.windowed(n_fft, hop_length, win_length, window)
    mel_filters(**bank)  # its errors, before anything is compiled
    return _mel_spectrogram(
        audio,
        jnp.asarray(window, audio.dtype),
        power=float(power),
        hop_length=hop_length,
        center=center,
        pad_mode=pad_mode,
        bank=tuple(bank.items()),
    )


def _fit(target, basis, num_iterations):
    """x ≥ 0 that lessens |A x − y|² / 2 for every row y of [R, M], from the clipped pseudo-inverse: [R, F].

    FISTA in the metric of D = diag(A'A 1), which majorises A'A as A is not negative: the step of bin k is 1 / D[k].
    """
    curvature = basis.T @ basis.sum(axis=1)
    step = np.divide(1, curvature, out=np.zeros_like(curvature), where=curvature > 0)
    forward, back = jnp.asarray(basis.T, target.dtype), jnp.asarray(basis * step, target.dtype)
    inverse = jnp.asarray(np.linalg.pinv(basis).T, target.dtype)
    start = jnp.maximum(jnp.matmul(target, inverse, precision=_HIGHEST), 0)

    # Nesterov's weights, the same for all: w = (t − 1) / t⁺ with t⁺ = (1 + √(1 + 4t²)) / 2.
    t, weights = 1.0, []
    for _ in range(num_iterations):
        following = (1 + np.sqrt(1 + 4 * t**2)) / 2
        weights.append((t - 1) / following)
        t = following

    def iterate(carry, weight):
        x, ahead = carry
        residual = jnp.matmul(ahead, forward, precision=_HIGHEST) - target
        nearer = jnp.maximum(ahead - jnp.matmul(residual, back, precision=_HIGHEST), 0)
        return (nearer, nearer + weight * (nearer - x)), None

    (x, _), _ = lax.scan(iterate, (start, start), jnp.asarray(weights, target.dtype))
    return x


@functools.partial(jax.jit, static_argnames=("power", "bank", "num_iterations"))
def _mel_to_spectrogram(mel, *, power, bank, num_iterations):
    basis = mel_filters(**dict(bank))
    rows = mel.reshape(-1, mel.shape[-1])
    blocks = -(-len(rows) // _BLOCK_ROWS)
    size = -(-len(rows) // blocks)
    padded = jnp.pad(rows, ((0, blocks * size - len(rows)), (0, 0))).reshape(blocks, size, -1)
    energy = lax.map(lambda block: _fit(block, basis, num_iterations), padded)
    energy = energy.reshape(blocks * size, -1)[: len(rows)].reshape(*mel.shape[:-1], -1)
    silent = energy == 0
    root = jnp.where(silent, 1, energy) ** (1 / power)
    return jnp.where(silent, 0, root)


def mel_to_spectrogram(
    mel: jax.Array,
    *,
    sample_rate: float,
    n_fft: int = 2048,
    power: float = 2.0,
    fmin: float = 0.0,
    fmax: float | None = None,
    scale: str = "slaney",
    norm="slaney",
    weighting: str = "hertz",
    allow_empty: bool = False,
    num_iterations: int = 200,
) -> jax.Array:
    """Magnitudes |X| ≥ 0 whose mel spectrogram is nearest to `mel` in the least squares.

    There are more bins than bands, so many spectra fit equally well; this one lies near the clipped pseudo-inverse.

    Args:
      mel: f32[..., T, n_mels], not negative.
      sample_rate: hertz.
      n_fft: transform length of the result.
      power: exponent with which `mel` was made.
      fmin, fmax, scale, norm, weighting, allow_empty: as in `filters.mel_filters`.
      num_iterations: of the fit, fixed.

    Returns:
      f32[..., T, 1 + n_fft // 2].

    Raises:
      ValueError: as `filters.mel_filters`; for integer, non-finite or empty input.

    Reference: Beck & Teboulle (2009), section 4.
    """
    mel = checks.as_array(mel, "mel", min_ndim=2)
    checks.positive(power=power)
    checks.integer(num_iterations=num_iterations)
    bank = {
        "sample_rate": sample_rate,
        "n_fft": n_fft,
        "n_mels": mel.shape[-1],
        "fmin": fmin,
        "fmax": fmax,
        "scale": scale,
        "norm": norm,
        "weighting": weighting,
        "allow_empty": allow_empty,
    }
    mel_filters(**bank)
    return _mel_to_spectrogram(mel, power=float(power), bank=tuple(bank.items()), num_iterations=num_iterations)


def mel_to_audio(
    mel: jax.Array,
    *,
    sample_rate: float,
    n_fft: int = 2048,
    hop_length: int | None = None,
    win_length: int | None = None,
    window="hann",
    center: bool = True,
    pad_mode: str = "constant",
    power: float = 2.0,
    num_iterations: int = 32,
    length: int | None = None,
    key: jax.Array | None = None,
    **bank,
) -> jax.Array:
    """Audio of a mel spectrogram, by `mel_to_spectrogram` and `stft.griffin_lim`.

    Args:
      mel: f32[..., T, n_mels], not negative.
      sample_rate: hertz.
      n_fft, hop_length, win_length, window, center, pad_mode: of the transform.
      power: exponent with which `mel` was made.
      num_iterations: of Griffin and Lim.
      length: samples to return; all that the frames cover when None.
      key: PRNG key of the initial phases; all 0 when None.
      **bank: fmin, fmax, scale, norm, weighting, allow_empty of `filters.mel_filters`.

    Returns:
      f32[..., length].
    """
    magnitude = mel_to_spectrogram(mel, sample_rate=sample_rate, n_fft=n_fft, power=power, **bank)
    return stft.griffin_lim(
        magnitude,
        key=key,
        num_iterations=num_iterations,
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        window=window,
        center=center,
        pad_mode=pad_mode,
        length=length,
    )

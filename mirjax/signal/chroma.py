"""Chroma: what sounds in each pitch class, whatever its octave.

Arrays: audio `[..., N]`, power spectra or constant-Q magnitudes `[..., T, F]` → chroma `[..., T, n_chroma]`, from C
upwards; tonnetz `[..., T, 6]`.
Source: Ellis (2007) for the filter bank over STFT bins; Müller & Ewert (2011) for CENS; Harte, Sandler & Gasser (2006)
for the tonal centroids; librosa's settings. The tuning is an argument, 0 by default: to estimate it (`tuning`) takes
the whole clip.
Names: `chroma_stft`, `chroma_cqt`, `chroma_cens`, `tonnetz`; pointwise in time: `spectrogram_to_chroma`,
`cqt_to_chroma`, `fold_octaves`, `chroma_to_tonnetz`, `normalise_frames`; over time: `smooth_cens`; constants:
`chroma_filters`, `cq_to_chroma`.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, cqt, filters, stft
from mirjax.signal.windows import get_window

_HIGHEST = lax.Precision.HIGHEST
CENS_STEPS = (0.4, 0.2, 0.1, 0.05)  # each that a normalised value exceeds adds a quarter


def _as_norm(norm) -> float | None:
    """Check a norm's order: above 0, infinity, or None for no normalisation."""
    if norm is not None and (isinstance(norm, str | bool) or not norm > 0):
        raise ValueError(f"norm={norm!r} must be 1, 2, another number above 0, inf (the maximum) or None")
    return norm


def normalise_frames(values: jax.Array, *, norm: float | None = np.inf, threshold: float | None = None) -> jax.Array:
    """Divide each frame by the norm of its bins: f32[..., F] → f32[..., F].

    Args:
      values: f32[..., F].
      norm: order, above 0; inf divides by the largest magnitude; None changes nothing.
      threshold: frames whose norm is below it are left as they are; the smallest normal number when None.

    Raises:
      ValueError: for another norm or a threshold that is not positive.
    """
    values = checks.as_array(values)
    if _as_norm(norm) is None:
        return values
    threshold = float(jnp.finfo(values.dtype).tiny) if threshold is None else threshold
    checks.positive(threshold=threshold)
    magnitudes = jnp.abs(values)
    # Relative to the maximum, no power under- or overflows. A frame's norm is homogeneous, so its own scale may be
    # a constant to the gradient.
    peak = lax.stop_gradient(magnitudes.max(axis=-1, keepdims=True))
    peak = jnp.where(peak > 0, peak, 1)
    relative = magnitudes / peak
    if norm == np.inf:
        length = relative.max(axis=-1, keepdims=True)
    elif norm == 1:
        length = relative.sum(axis=-1, keepdims=True)
    else:
        powers = jnp.where(relative > 0, jnp.where(relative > 0, relative, 1) ** norm, 0)
        total = powers.sum(axis=-1, keepdims=True)
        length = jnp.where(total > 0, total, 1) ** (1 / norm)
    loud = (length * peak >= threshold) & (length > 0)
    return jnp.where(loud, values / peak / jnp.where(loud, length, 1), values)


@functools.lru_cache(typed=True)
def chroma_filters(
    *,
    sample_rate: float,
    n_fft: int,
    n_chroma: int = 12,
    tuning: float = 0.0,
    ctroct: float = 5.0,
    octwidth: float | None = 2.0,
    norm: float | None = 2,
    base_c: bool = True,
) -> np.ndarray:
    """Bank from STFT bins to pitch classes, float64[n_chroma, n_fft // 2 + 1].

    Each bin falls on the classes near its pitch, by a Gaussian of two standard deviations a class (or a bin, where
    bins are wider), and counts by a Gaussian over octaves.

    Args:
      sample_rate: hertz.
      n_fft: transform length in samples.
      n_chroma: pitch classes an octave.
      tuning: deviation from A440 in fractions of a class.
      ctroct: centre of the octave weights, in octaves above A0 (27.5 Hz).
      octwidth: standard deviation of the octave weights, in octaves; None weighs all alike.
      norm: norm of each column before the octave weights: a number above 0, inf or None.
      base_c: begin at C instead of A.

    Raises:
      ValueError: for settings out of range.

    Reference: Ellis (2007).
    """
    checks.positive(sample_rate=sample_rate, **({} if octwidth is None else {"octwidth": octwidth}))
    checks.integer(n_chroma=n_chroma)
    checks.integer(least=2, n_fft=n_fft)
    frequencies = np.arange(1, n_fft) * (sample_rate / n_fft)
    position = n_chroma * filters.hz_to_octs(frequencies, tuning=tuning, bins_per_octave=n_chroma)
    # The bin at 0 Hz has no pitch: it is put 1.5 octaves below the first, where it is as wide.
    position = np.append(position[0] - 1.5 * n_chroma, position)
    width = np.append(np.maximum(np.diff(position), 1), 1)
    half = np.round(n_chroma / 2)
    distance = np.mod(position - np.arange(n_chroma)[:, None] + half, n_chroma) - half
    weights = np.exp(-2 * (distance / width) ** 2)
    if _as_norm(norm) is not None:
        lengths = np.linalg.norm(weights, norm, axis=0)
        weights /= np.where(lengths < np.finfo(np.float64).tiny, 1, lengths)
    if octwidth is not None:
        weights *= np.exp(-0.5 * ((position / n_chroma - ctroct) / octwidth) ** 2)
    if base_c:
        weights = np.roll(weights, -3 * (n_chroma // 12), axis=0)
    weights = np.ascontiguousarray(weights[:, : n_fft // 2 + 1])
    weights.setflags(write=False)
    return weights


def cq_to_chroma(
    n_input: int,
    *,
    bins_per_octave: int = 12,
    n_chroma: int = 12,
    fmin: float | None = None,
    window=None,
    base_c: bool = True,
) -> np.ndarray:
    """Matrix that adds constant-Q bins of one pitch class, float64[n_chroma, n_input].

    Args:
      n_input: constant-Q bins.
      bins_per_octave: of the constant-Q transform, a multiple of `n_chroma`.
      n_chroma: pitch classes an octave.
      fmin: frequency of the first bin, hertz; C1 when None.
      window: weights over neighbouring bins, with which each row is convolved; None for none.
      base_c: begin at C instead of A.

    Raises:
      ValueError: if the bins of an octave do not divide by the classes.
    """
    checks.integer(n_input=n_input, bins_per_octave=bins_per_octave, n_chroma=n_chroma)
    checks.positive(fmin=cqt.C1 if fmin is None else fmin)
    if bins_per_octave % n_chroma:
        raise ValueError(
            f"bins_per_octave={bins_per_octave} must be a multiple of n_chroma={n_chroma}; "
            f"take {math.ceil(bins_per_octave / n_chroma) * n_chroma}"
        )
    merged = bins_per_octave // n_chroma
    first = np.mod(filters.hz_to_midi(cqt.C1 if fmin is None else fmin), 12) - (0 if base_c else 9)
    shift = int(np.round(first * n_chroma / 12))
    # A class takes the bins around its own: half of them lie below it.
    classes = (np.arange(n_input) + merged // 2) // merged + shift
    matrix = (np.arange(n_chroma)[:, None] == np.mod(classes, n_chroma)).astype(np.float64)
    if window is not None:
        window = np.atleast_1d(np.asarray(window, np.float64))
        start = (len(window) - 1) // 2
        matrix = np.stack([np.convolve(row, window)[start : start + n_input] for row in matrix])
    return matrix


def spectrogram_to_chroma(
    power: jax.Array, *, sample_rate: float, norm: float | None = np.inf, tuning: float = 0.0, **bank
) -> jax.Array:
    """Chroma of power spectra: f32[..., n_fft // 2 + 1] → f32[..., n_chroma], n_fft even; as `chroma_stft`."""
    power = checks.as_array(power, "power")
    matrix = chroma_filters(sample_rate=sample_rate, n_fft=2 * (power.shape[-1] - 1), tuning=float(tuning), **bank)
    return normalise_frames(jnp.matmul(power, jnp.asarray(matrix.T, power.dtype), precision=_HIGHEST), norm=norm)


@functools.partial(jax.jit, static_argnames=("norm", "hop_length", "center", "pad_mode"))
def _chroma_stft(audio, window, matrix, *, norm, **frames):
    def transform(part):
        power = stft.power(jnp.fft.rfft(part * window[None]))
        return normalise_frames(jnp.matmul(power, matrix, precision=_HIGHEST), norm=norm)

    return stft.map_frames(audio, transform, frame_length=len(window), **frames)


def chroma_stft(
    audio: jax.Array,
    *,
    sample_rate: float,
    n_fft: int = 2048,
    hop_length: int = 512,
    win_length: int | None = None,
    window="hann",
    center: bool = True,
    pad_mode: str = "constant",
    norm: float | None = np.inf,
    tuning: float = 0.0,
    **bank,
) -> jax.Array:
    """Chroma from power spectra.

    Args:
      audio: f32[..., N].
      sample_rate: hertz.
      n_fft, hop_length, win_length, window, center, pad_mode: as `stft.stft`.
      norm: norm of each frame's classes that becomes 1, inf for the maximum, or None.
      tuning: deviation from A440 in fractions of a class, a number (`tuning.estimate_tuning` of the whole clip).
      **bank: `n_chroma`, `ctroct`, `octwidth`, `base_c` of `chroma_filters`.

    Returns:
      f32[..., T, n_chroma]. A silent frame is 0.

    Raises:
      ValueError: as `stft.stft`, `chroma_filters` and `normalise_frames`.
    """
    audio = checks.as_audio(audio)
    _as_norm(norm)
    hop_length, window = stft.windowed(n_fft, hop_length, win_length, window)
    matrix = chroma_filters(sample_rate=sample_rate, n_fft=n_fft, tuning=float(tuning), **bank)
    window, matrix = jnp.asarray(window, audio.dtype), jnp.asarray(matrix.T, audio.dtype)
    return _chroma_stft(audio, window, matrix, norm=norm, hop_length=hop_length, center=center, pad_mode=pad_mode)


def cqt_to_chroma(
    magnitudes: jax.Array,
    *,
    bins_per_octave: int = 36,
    n_chroma: int = 12,
    fmin: float | None = None,
    norm: float | None = np.inf,
    threshold: float | None = 0.0,
    window=None,
) -> jax.Array:
    """Chroma of constant-Q magnitudes: f32[..., F] → f32[..., n_chroma]; arguments and errors as `chroma_cqt`."""
    magnitudes = checks.as_array(magnitudes, "magnitudes")
    matrix = cq_to_chroma(
        magnitudes.shape[-1], bins_per_octave=bins_per_octave, n_chroma=n_chroma, fmin=fmin, window=window
    )
    chroma = jnp.matmul(magnitudes, jnp.asarray(matrix.T, magnitudes.dtype), precision=_HIGHEST)
    if threshold is not None:
        chroma = jnp.where(chroma < threshold, 0, chroma)
    return normalise_frames(chroma, norm=norm)


def fold_octaves(magnitudes: jax.Array, *, bins_per_octave: int = 12) -> jax.Array:
    """C(b) = Σ_z |X(b + zβ)|, β = bins_per_octave: magnitudes f32[..., F] → f32[..., β].

    Class 0 is the transform's first bin; the last octave may be incomplete.

    Reference: Choi et al. (2017), section on chroma; ARCHITECTURES §10.
    """
    magnitudes = checks.as_array(magnitudes, "magnitudes")
    checks.integer(bins_per_octave=bins_per_octave)
    missing = -magnitudes.shape[-1] % bins_per_octave
    padded = jnp.pad(jnp.abs(magnitudes), [(0, 0)] * (magnitudes.ndim - 1) + [(0, missing)])
    return padded.reshape(*magnitudes.shape[:-1], -1, bins_per_octave).sum(axis=-2)


def chroma_cqt(
    audio: jax.Array,
    *,
    sample_rate: float,
    hop_length: int = 512,
    fmin: float | None = None,
    norm: float | None = np.inf,
    threshold: float | None = 0.0,
    tuning: float = 0.0,
    n_chroma: int = 12,
    n_octaves: int = 7,
    window=None,
    bins_per_octave: int = 36,
    cqt_mode: str = "full",
) -> jax.Array:
    """Chroma from constant-Q magnitudes.

    Args:
      audio: f32[..., N].
      sample_rate: hertz.
      hop_length, fmin, tuning, bins_per_octave: as `cqt.vqt`; `bins_per_octave` is a multiple of `n_chroma`.
      norm: as `chroma_stft`.
      threshold: classes below it (before `norm`) become 0; None keeps all.
      n_chroma: pitch classes an octave.
      n_octaves: octaves from `fmin` on.
      window: weights over neighbouring constant-Q bins (`cq_to_chroma`).
      cqt_mode: "full" for `cqt.cqt`, "hybrid" for `cqt.hybrid_cqt`.

    Returns:
      f32[..., T, n_chroma].

    Raises:
      ValueError: as `cqt.vqt` and `cq_to_chroma`.
    """
    checks.choice("cqt_mode", cqt_mode, ("full", "hybrid"))
    checks.integer(n_octaves=n_octaves)
    _as_norm(norm)
    setting = {
        "sample_rate": sample_rate,
        "hop_length": hop_length,
        "fmin": fmin,
        "n_bins": n_octaves * bins_per_octave,
        "bins_per_octave": bins_per_octave,
        "tuning": tuning,
    }
    full = cqt_mode == "full"
    magnitudes = cqt.magnitude(cqt.cqt(audio, **setting)) if full else cqt.hybrid_cqt(audio, **setting)
    return cqt_to_chroma(
        magnitudes,
        bins_per_octave=bins_per_octave,
        n_chroma=n_chroma,
        fmin=fmin,
        norm=norm,
        threshold=threshold,
        window=window,
    )


def smooth_cens(
    chroma: jax.Array, *, norm: float | None = 2, win_len_smooth: int | None = 41, smoothing_window="hann"
) -> jax.Array:
    """CENS of chroma that is not normalised yet: L1 norm, quantisation, smoothing over time, `norm`.

    Frame t depends on the `win_len_smooth` // 2 frames before it and after it (one more with windows that do not end
    in zeros). As each value is one of five levels, the gradient is 0.

    Args:
      chroma: f32[..., T, n_chroma], not negative.
      norm: norm of each frame that becomes 1.
      win_len_smooth: frames of the window; None for no smoothing.
      smoothing_window: name or (name, parameter).

    Returns:
      f32[..., T, n_chroma].

    Reference: Müller & Ewert (2011), section 2.3.
    """
    chroma = checks.as_array(chroma, "chroma", min_ndim=2)
    chroma = normalise_frames(chroma, norm=1)
    levels = sum((chroma > step).astype(chroma.dtype) for step in CENS_STEPS) / len(CENS_STEPS)
    if win_len_smooth is not None:
        checks.integer(win_len_smooth=win_len_smooth)
        periodic = get_window(smoothing_window, win_len_smooth + 1)
        weights = np.append(periodic, periodic[0])  # the symmetric window, two longer as its ends are 0
        weights = weights / weights.sum()
        count, after = levels.shape[-2], len(weights) // 2
        before = len(weights) - 1 - after
        padded = jnp.pad(levels, [(0, 0)] * (levels.ndim - 2) + [(before, after), (0, 0)])
        terms = [
            float(weight) * lax.slice_in_dim(padded, start, start + count, axis=-2)
            for start, weight in enumerate(weights[::-1])
            if weight
        ]
        levels = sum(terms)
    return normalise_frames(levels, norm=norm)


def chroma_cens(
    audio: jax.Array,
    *,
    sample_rate: float,
    norm: float | None = 2,
    win_len_smooth: int | None = 41,
    smoothing_window="hann",
    **settings,
) -> jax.Array:
    """Chroma energy normalised statistics: f32[..., N] → f32[..., T, n_chroma].

    Args:
      audio: f32[..., N].
      sample_rate: hertz.
      norm, win_len_smooth, smoothing_window: as `smooth_cens`.
      **settings: as `chroma_cqt`, whose own norm does not enter.

    Raises:
      ValueError: as `chroma_cqt` and `smooth_cens`.

    Reference: Müller & Ewert (2011), section 2.3.
    """
    chroma = chroma_cqt(audio, sample_rate=sample_rate, norm=None, **settings)
    return smooth_cens(chroma, norm=norm, win_len_smooth=win_len_smooth, smoothing_window=smoothing_window)


def chroma_to_tonnetz(chroma: jax.Array) -> jax.Array:
    """Tonal centroids of chroma from C on: f32[..., n_chroma] → f32[..., 6].

    With c the L1-normalised chroma and l in semitones: Σ_l c[l] r (sin, cos)(φ l) for the circles of fifths (φ = 7π/6,
    r = 1), minor thirds (3π/2, 1) and major thirds (2π/3, 1/2).

    Reference: Harte, Sandler & Gasser (2006), section 3.
    """
    chroma = normalise_frames(checks.as_array(chroma, "chroma"), norm=1)
    semitones = np.arange(chroma.shape[-1]) * 12 / chroma.shape[-1]
    circles = ((7 / 6, 1.0), (3 / 2, 1.0), (2 / 3, 0.5))
    basis = [r * f(np.pi * phi * semitones) for phi, r in circles for f in (np.sin, np.cos)]
    return jnp.matmul(chroma, jnp.asarray(np.stack(basis, axis=-1), chroma.dtype), precision=_HIGHEST)


def tonnetz(audio: jax.Array, *, sample_rate: float, **settings) -> jax.Array:
    """Tonal centroids of `chroma_cqt`: f32[..., N] → f32[..., T, 6]; settings and errors as there."""
    return chroma_to_tonnetz(chroma_cqt(audio, sample_rate=sample_rate, **settings))

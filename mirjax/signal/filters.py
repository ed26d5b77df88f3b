"""Auditory frequency scales and filter banks.

Arrays: frequencies in hertz, any shape; banks float64[n_bands, 1 + n_fft // 2], read-only constants, made once per
setting and cast where they are used. `apply_filters` takes spectra `[..., F]` to bands `[..., n_bands]`.
Source: mel by Slaney (1998, Auditory Toolbox) and by HTK; Bark by Traunmüller (1990) and by Schroeder et al. (1979);
ERB by Glasberg & Moore (1990); gammatones by Patterson et al. (1987). librosa's and Essentia's banks are reproduced.
Names: `mel_filters`, `bark_filters`, `erb_filters`, `gammatone_filters`, `apply_filters`; `hz_to_mel`, `mel_to_hz`,
`hz_to_bark`, `bark_to_hz`, `hz_to_erb`, `erb_to_hz`, `erb_bandwidth`, `hz_to_midi`, `midi_to_hz`, `hz_to_octs`,
`octs_to_hz`.
"""

import functools
import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks

MEL_SCALES = ("slaney", "htk")
BARK_SCALES = ("traunmuller", "schroeder")
WEIGHTINGS = ("hertz", "scale", "essentia")


def hz_to_mel(frequency, *, scale: str = "slaney") -> np.ndarray:
    """Mel of a frequency in hertz, f64 of the same shape.

    "slaney": 3 mel per 200 Hz up to 1 kHz, then 27 steps per factor 6.4. "htk": 2595 log10(1 + f / 700).
    """
    checks.choice("scale", scale, MEL_SCALES)
    frequency = np.asarray(frequency, np.float64)
    if scale == "htk":
        return 2595 * np.log10(1 + frequency / 700)
    above = np.maximum(frequency, 1000.0)
    return np.where(frequency < 1000, 3 * frequency / 200, 15 + 27 * np.log(above / 1000) / np.log(6.4))


def mel_to_hz(mel, *, scale: str = "slaney") -> np.ndarray:
    """Inverse of `hz_to_mel`."""
    checks.choice("scale", scale, MEL_SCALES)
    mel = np.asarray(mel, np.float64)
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp(np.log(6.4) * (np.maximum(mel, 15) - 15) / 27))


def hz_to_bark(frequency, *, scale: str = "traunmuller") -> np.ndarray:
    """Bark of a frequency in hertz.

    "traunmuller": z = 26.81 f / (1960 + f) − 0.53, then z + 0.15 (2 − z) below 2 and z + 0.22 (z − 20.1) above 20.1.
    "schroeder": z = 7 asinh(f / 650).

    Reference: Traunmüller (1990), equation 6 and its corrections; Schroeder, Atal & Hall (1979).
    """
    checks.choice("scale", scale, BARK_SCALES)
    frequency = np.asarray(frequency, np.float64)
    if scale == "schroeder":
        return 7 * np.arcsinh(frequency / 650)
    z = 26.81 * frequency / (1960 + frequency) - 0.53
    return z + np.where(z < 2, 0.15 * (2 - z), 0) + np.where(z > 20.1, 0.22 * (z - 20.1), 0)


def bark_to_hz(bark, *, scale: str = "traunmuller") -> np.ndarray:
    """Inverse of `hz_to_bark`."""
    checks.choice("scale", scale, BARK_SCALES)
    bark = np.asarray(bark, np.float64)
    if scale == "schroeder":
        return 650 * np.sinh(bark / 7)
    z = np.where(bark < 2, (bark - 0.3) / 0.85, np.where(bark > 20.1, (bark + 0.22 * 20.1) / 1.22, bark))
    return 1960 * (z + 0.53) / (26.28 - z)


def hz_to_erb(frequency) -> np.ndarray:
    """Number of equivalent rectangular bandwidths below a frequency: E = 21.4 log10(1 + 0.00437 f).

    Reference: Glasberg & Moore (1990), equation 4.
    """
    return 21.4 * np.log10(1 + 0.00437 * np.asarray(frequency, np.float64))


def erb_to_hz(erb) -> np.ndarray:
    """Inverse of `hz_to_erb`."""
    return (10 ** (np.asarray(erb, np.float64) / 21.4) - 1) / 0.00437


def erb_bandwidth(frequency) -> np.ndarray:
    """Equivalent rectangular bandwidth in hertz: 24.7 (1 + 0.00437 f) (Glasberg & Moore 1990, equation 3)."""
    return 24.7 * (1 + 0.00437 * np.asarray(frequency, np.float64))


def hz_to_midi(frequency) -> np.ndarray:
    """MIDI note number, 69 at 440 Hz, not rounded."""
    return 69 + 12 * np.log2(np.asarray(frequency, np.float64) / 440)


def midi_to_hz(note) -> np.ndarray:
    """Inverse of `hz_to_midi`."""
    return 440 * 2 ** ((np.asarray(note, np.float64) - 69) / 12)


def hz_to_octs(frequency, *, tuning: float = 0.0, bins_per_octave: int = 12) -> np.ndarray:
    """Octaves above A0 (27.5 Hz), shifted by `tuning` bins of `bins_per_octave`."""
    return np.log2(np.asarray(frequency, np.float64) / 27.5) - tuning / bins_per_octave


def octs_to_hz(octs, *, tuning: float = 0.0, bins_per_octave: int = 12) -> np.ndarray:
    """Inverse of `hz_to_octs`."""
    return 27.5 * 2 ** (np.asarray(octs, np.float64) + tuning / bins_per_octave)


def _bin_frequencies(sample_rate, n_fft):
    return np.arange(1 + n_fft // 2) * (sample_rate / n_fft)


def _triangles(edges, bins, warp=None):
    """Triangles of height 1 that rise and fall linearly in `warp(f)` between three neighbouring edges."""
    if warp is not None:
        edges, bins = warp(edges), warp(bins)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rise, fall = (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)
    return np.maximum(0, np.minimum(rise, fall))


def _normalise(filters, norm, widths):
    """Scale each filter: "slaney" to unit area in hertz, a number p (or "l1") to unit l_p norm, None not at all."""
    if norm is None:
        return filters
    if norm == "slaney" and widths is not None:
        return filters * (2 / widths[:, None])
    order = 1 if norm == "l1" else norm
    if isinstance(order, bool) or not isinstance(order, numbers.Real) or not order > 0:
        area = "'slaney' (unit area), " if widths is not None else ""
        raise ValueError(f"norm={norm!r} is unknown; choose {area}'l1', a number p > 0 (unit l_p norm) or None")
    size = np.linalg.norm(filters, ord=order, axis=1, keepdims=True)
    return filters / np.where(size > 0, size, 1)


def _finish(filters, covered, name, n_fft, sample_rate, allow_empty):
    """The bank as a read-only constant, after refusing filters that cover no bin."""
    empty = int((~covered).sum())
    if empty and not allow_empty:
        raise ValueError(
            f"{name}={len(filters)} leaves {empty} empty bands at n_fft={n_fft}, {sample_rate:g} Hz "
            f"(the first is band {int(np.argmin(covered))}); lower {name}, raise n_fft or raise fmin"
        )
    filters.setflags(write=False)
    return filters


@functools.lru_cache(typed=True)
def mel_filters(
    *,
    sample_rate: float,
    n_fft: int = 2048,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
    scale: str = "slaney",
    norm="slaney",
    weighting: str = "hertz",
    allow_empty: bool = False,
) -> np.ndarray:
    """Triangular filters evenly spaced on a mel scale, f64[n_mels, 1 + n_fft // 2].

    Args:
      sample_rate: hertz.
      n_fft: transform length in samples, even or odd.
      n_mels: number of bands.
      fmin: lower edge of the first band, hertz.
      fmax: upper edge of the last band, hertz; half the sample rate when None.
      scale: "slaney" or "htk" (`hz_to_mel`).
      norm: "slaney" for unit area in hertz, "l1" or 1 for weights that sum to 1, any p > 0 for unit l_p norm, None for
        height 1.
      weighting: the triangles' sides are straight in "hertz" (librosa) or in mel ("scale", HTK). "essentia" is "scale"
        without the bin that lies less than half a bin below a band's upper edge, as Essentia's TriangularBands rounds
        the edge to a bin and leaves that out; with scale="htk" and norm="l1" this is MelBands by default.
      allow_empty: keep bands that cover no bin as rows of zeros, instead of an error.

    Raises:
      ValueError: if the edges are out of order or beyond half the sample rate, a name is unknown, or a band covers no
        bin.
    """
    checks.integer(n_fft=n_fft, n_mels=n_mels)
    checks.choice("weighting", weighting, WEIGHTINGS)
    fmax = checks.frequency_range(fmin, fmax, sample_rate)
    bins = _bin_frequencies(sample_rate, n_fft)
    warp = functools.partial(hz_to_mel, scale=scale)
    edges = mel_to_hz(np.linspace(warp(fmin), warp(fmax), n_mels + 2), scale=scale)
    filters = _triangles(edges, bins, None if weighting == "hertz" else warp)
    if weighting == "essentia":
        past = np.floor(edges[2:, None] * (n_fft / sample_rate) + 0.5)
        filters = np.where(np.arange(len(bins)) < past, filters, 0)
    filters = _normalise(filters, norm, edges[2:] - edges[:-2])
    return _finish(filters, filters.max(axis=1) > 0, "n_mels", n_fft, sample_rate, allow_empty)


def _scale_filters(to_scale, to_hz, sample_rate, n_fft, n_bands, fmin, fmax, norm, allow_empty):
    """Triangles evenly spaced, and with straight sides, on a scale."""
    checks.integer(n_fft=n_fft, n_bands=n_bands)
    fmax = checks.frequency_range(fmin, fmax, sample_rate)
    edges = np.linspace(to_scale(fmin), to_scale(fmax), n_bands + 2)
    filters = _triangles(edges, to_scale(_bin_frequencies(sample_rate, n_fft)))
    hertz = to_hz(edges)
    filters = _normalise(filters, norm, hertz[2:] - hertz[:-2])
    return _finish(filters, filters.max(axis=1) > 0, "n_bands", n_fft, sample_rate, allow_empty)


@functools.lru_cache(typed=True)
def bark_filters(
    *,
    sample_rate: float,
    n_fft: int,
    n_bands: int,
    fmin: float = 0.0,
    fmax: float | None = None,
    scale: str = "traunmuller",
    norm=None,
    allow_empty: bool = False,
) -> np.ndarray:
    """Triangular filters evenly spaced on the Bark scale, f64[n_bands, 1 + n_fft // 2].

    The sides are straight in Bark; `scale` is "traunmuller" or "schroeder" (`hz_to_bark`), the rest as `mel_filters`.
    """
    to_scale, to_hz = (functools.partial(function, scale=scale) for function in (hz_to_bark, bark_to_hz))
    return _scale_filters(to_scale, to_hz, sample_rate, n_fft, n_bands, fmin, fmax, norm, allow_empty)


@functools.lru_cache(typed=True)
def erb_filters(
    *,
    sample_rate: float,
    n_fft: int,
    n_bands: int,
    fmin: float = 0.0,
    fmax: float | None = None,
    norm=None,
    allow_empty: bool = False,
) -> np.ndarray:
    """Triangular filters evenly spaced on the ERB-number scale, f64[n_bands, 1 + n_fft // 2].

    The sides are straight in ERB numbers; arguments and errors as `mel_filters`.
    """
    return _scale_filters(hz_to_erb, erb_to_hz, sample_rate, n_fft, n_bands, fmin, fmax, norm, allow_empty)


@functools.lru_cache(typed=True)
def gammatone_filters(
    *,
    sample_rate: float,
    n_fft: int,
    n_bands: int,
    fmin: float = 50.0,
    fmax: float | None = None,
    order: int = 4,
    power: float = 2.0,
    norm=None,
    allow_empty: bool = False,
) -> np.ndarray:
    """|H(f)|^power of gammatone filters, f64[n_bands, 1 + n_fft // 2], for power (2) or magnitude (1) spectra.

    h(t) = t^(order−1) exp(−2πbt) cos(2πf_c t) with b = 1.019 ERB(f_c), hence
    H(f) ∝ (1 + i (f − f_c) / b)^−order + (1 + i (f + f_c) / b)^−order, scaled to |H(f_c)| = 1.

    Args:
      sample_rate: hertz.
      n_fft: transform length in samples.
      n_bands: number of filters.
      fmin: centre of the first, hertz.
      fmax: centre of the last, hertz; half the sample rate when None. Between them evenly in ERB numbers.
      order: of the filters.
      power: exponent of the magnitude response; that of the spectrum they are applied to.
      norm: "l1" for weights that sum to 1, any p > 0 for unit l_p norm, None for 1 at the centre.
      allow_empty: keep filters that fall between two bins (all weights below half of the centre's).

    Raises:
      ValueError: for centres out of order, or a filter that falls between two bins.

    Reference: Patterson, Nimmo-Smith, Holdsworth & Rice (1987); Slaney (1993).
    """
    checks.integer(n_fft=n_fft, n_bands=n_bands, order=order)
    checks.positive(power=power)
    fmax = checks.frequency_range(fmin, fmax, sample_rate)
    centre = erb_to_hz(np.linspace(hz_to_erb(fmin), hz_to_erb(fmax), n_bands))[:, None]
    b = 1.019 * erb_bandwidth(centre)

    def magnitude(f):
        return np.abs((1 + 1j * (f - centre) / b) ** -order + (1 + 1j * (f + centre) / b) ** -order)

    filters = (magnitude(_bin_frequencies(sample_rate, n_fft)) / magnitude(centre)) ** power
    covered = filters.max(axis=1) >= 0.5
    return _finish(_normalise(filters, norm, None), covered, "n_bands", n_fft, sample_rate, allow_empty)


def _blocks(filters, num_blocks):
    """Slices (rows, first bin, last bin + 1) that hold all that is not zero; one when bands do not help."""
    blocks = []
    for rows in np.array_split(np.arange(len(filters)), min(num_blocks, len(filters))):
        touched = np.flatnonzero(filters[rows].any(axis=0))
        low, high = (int(touched[0]), int(touched[-1]) + 1) if len(touched) else (0, 1)
        blocks.append((slice(int(rows[0]), int(rows[-1]) + 1), low, high))
    work = sum((rows.stop - rows.start) * (high - low) for rows, low, high in blocks)
    return blocks if work < 0.75 * math.prod(filters.shape) else [(slice(None), 0, filters.shape[1])]


def apply_filters(power: jax.Array, filters: np.ndarray, *, num_blocks: int = 4) -> jax.Array:
    """Project spectra on a filter bank: f32[..., F] → f32[..., n_bands].

    The bank is cut into blocks of rows and each is multiplied only with the bins it touches, which halves the work of
    the dense product for mel banks. A bank of long rows (gammatones) is multiplied in one piece.

    Args:
      power: f32[..., F].
      filters: numpy f64[n_bands, F], a constant.
      num_blocks: blocks of rows.
    """
    if power.shape[-1] != filters.shape[1]:
        raise ValueError(
            f"power has {power.shape[-1]} bins, the filters have {filters.shape[1]}; use one n_fft for both"
        )
    parts = []
    for rows, low, high in _blocks(filters, num_blocks):
        block = jnp.asarray(filters[rows, low:high].T, power.dtype)
        parts.append(jnp.matmul(power[..., low:high], block, precision=lax.Precision.HIGHEST))
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=-1)

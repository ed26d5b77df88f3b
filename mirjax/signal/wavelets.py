"""Wavelets of the constant-Q transforms, float64 constants.

A wavelet is a windowed phasor; a bank of them has the centre frequencies of a scale and lengths of Q periods each.
Source: Brown (1991); Schörkhuber et al. (2014) for the variable Q; librosa's conventions on where a filter of
fractional length begins and ends.
Names: `cqt_frequencies`, `relative_bandwidths`, `wavelet_lengths`, `wavelet`, `Bank`, `make_bank`, `bank_lengths`,
`bank_gains`, `bank_wavelets`, `bank_kernels`.
"""

import dataclasses
import functools
import math
import numbers

import numpy as np

from mirjax.signal import checks
from mirjax.signal.windows import get_window

C1 = 440 * 2.0 ** (-45 / 12)  # Hz, the lowest bin by default
_MAX_KERNEL_VALUES = 1 << 27


@dataclasses.dataclass(frozen=True)
class Bank:
    """A bank of wavelets: everything that their samples depend on."""

    frequencies: tuple[float, ...]
    bandwidths: tuple[float, ...]  # relative, α of the paper
    grids: tuple[int, ...]  # a filter begins and ends on a multiple of so many samples
    sample_rate: float
    filter_scale: float
    norm: float | None
    window: str | tuple
    gamma: float | None
    scale: bool


def cqt_frequencies(
    *,
    n_bins: int = 84,
    fmin: float = C1,
    bins_per_octave: int = 12,
    tuning: float = 0.0,
    intervals: tuple[float, ...] | None = None,
) -> np.ndarray:
    """Centre frequencies fmin · 2^((k + tuning) / bins_per_octave) in hertz, float64[n_bins].

    `intervals`, the ratios of one octave to its first bin, replace the equal temperament.
    """
    checks.integer(n_bins=n_bins, bins_per_octave=bins_per_octave)
    checks.positive(fmin=fmin)
    fmin = fmin * 2.0 ** (tuning / bins_per_octave)
    if intervals is None:
        return fmin * 2.0 ** (np.arange(n_bins) / bins_per_octave)
    octaves = 2.0 ** np.arange(-(-n_bins // len(intervals)))
    return fmin * np.sort((octaves[:, None] * np.asarray(intervals, np.float64)).reshape(-1)[:n_bins])


def relative_bandwidths(frequencies: np.ndarray, *, bins_per_octave: int = 12) -> np.ndarray:
    """α = (r² − 1) / (r² + 1), r the step from bin to bin: the mean of the two steps on both sides of a bin.

    `bins_per_octave` gives the step of a bank of one filter.
    """
    if len(frequencies) == 1:
        steps = np.array([1 / bins_per_octave])
    else:
        between = np.diff(np.log2(frequencies))
        steps = (np.append(between[0], between) + np.append(between, between[-1])) / 2
    return (4.0**steps - 1) / (4.0**steps + 1)


def wavelet_lengths(
    frequencies,
    *,
    sample_rate: float,
    window="hann",
    filter_scale: float = 1.0,
    gamma: float | None = 0.0,
    bandwidths=None,
) -> tuple[np.ndarray, float]:
    """Lengths Q·sr / (f + γ/α), Q = filter_scale / α, in (fractional) samples, and the highest frequency reached.

    Args:
      frequencies: ascending, hertz.
      sample_rate: hertz.
      window: name or (name, parameter).
      filter_scale: below 1 for shorter filters.
      gamma: hertz added to each bandwidth; None: as wide as the ear's (ERB).
      bandwidths: relative bandwidth α of each filter; from the neighbours when None.

    Returns:
      float64[n_bins], and the upper edge of the highest filter in hertz.

    Reference: Schörkhuber et al. (2014), section 2; Glasberg & Moore (1990) for γ = α · 24.7 / 0.108.
    """
    frequencies = np.asarray(frequencies, np.float64)
    checks.positive(sample_rate=sample_rate, filter_scale=filter_scale)
    if gamma is not None and (not isinstance(gamma, numbers.Real) or not 0 <= gamma < math.inf):
        raise ValueError(
            f"gamma={gamma!r} must be hertz of at least 0, or None; 0 gives the constant Q, None the ear's bandwidths"
        )
    if frequencies.ndim != 1 or not (frequencies > 0).all() or (np.diff(frequencies) <= 0).any():
        raise ValueError("frequencies must be positive and strictly ascending; sort them and drop the doubles")
    alpha = relative_bandwidths(frequencies) if bandwidths is None else np.asarray(bandwidths, np.float64)
    gamma = alpha * 24.7 / 0.108 if gamma is None else gamma
    q = filter_scale / alpha
    values = get_window(window, 1000)
    noise_bandwidth = 1000 * (values**2).sum() / values.sum() ** 2
    cutoff = np.max(frequencies * (1 + noise_bandwidth / (2 * q)) + gamma / 2)
    return q * sample_rate / (frequencies + gamma / alpha), float(cutoff)


def _decimations(n_bins: int, bins_per_octave: int, hop_length: int, headroom: float) -> tuple[int, ...]:
    """By what power of two librosa decimates the audio for each bin.

    It halves the rate before the first octave while the highest filter, reaching 1 / `headroom` of the Nyquist
    frequency, stays a factor of 4 clear of it, then once from octave to octave, and as often as the hop can be halved.
    """
    halvings = (hop_length & -hop_length).bit_length() - 1
    octaves = -(-n_bins // bins_per_octave)
    early = min(max(0, math.ceil(math.log2(headroom)) - 2), max(0, halvings - octaves + 1))
    return tuple(2 ** min(early + (n_bins - 1 - k) // bins_per_octave, halvings) for k in range(n_bins))


def make_bank(
    *,
    sample_rate: float,
    hop_length: int = 512,
    fmin: float | None = None,
    n_bins: int = 84,
    bins_per_octave: int = 12,
    tuning: float = 0.0,
    filter_scale: float = 1.0,
    norm: float | None = 1,
    window="hann",
    scale: bool = True,
    gamma: float | None = 0.0,
    intervals: tuple[float, ...] | None = None,
) -> Bank:
    """Check the settings of a transform and gather them; arguments and errors as `vqt`."""
    checks.integer(hop_length=hop_length)
    checks.positive(sample_rate=sample_rate, filter_scale=filter_scale)
    checks.choice("norm", norm, (1, 2, np.inf, None))
    if tuning is None or isinstance(tuning, str) or not math.isfinite(tuning):
        raise ValueError(f"tuning={tuning!r} must be a number of bins; estimate it from the clip (estimate_tuning)")
    if not isinstance(window, str | tuple):
        raise ValueError("window must be a name or (name, parameter): every filter has its own length")
    if intervals is not None:
        intervals = tuple(map(float, intervals))
        if not intervals or not all(0 < ratio < math.inf for ratio in intervals):
            raise ValueError(f"intervals={intervals} must be ratios above 0, one for each bin of an octave")
        bins_per_octave = len(intervals)
    frequencies = cqt_frequencies(
        n_bins=n_bins,
        fmin=C1 if fmin is None else fmin,
        bins_per_octave=bins_per_octave,
        tuning=tuning,
        intervals=intervals,
    )
    alpha = relative_bandwidths(frequencies, bins_per_octave=bins_per_octave)
    lengths, cutoff = wavelet_lengths(
        frequencies,
        sample_rate=sample_rate,
        window=window,
        filter_scale=filter_scale,
        gamma=gamma,
        bandwidths=alpha,
    )
    if cutoff > sample_rate / 2:
        raise ValueError(
            f"n_bins={n_bins} with bins_per_octave={bins_per_octave} reaches {cutoff:.0f} Hz (centre "
            f"{frequencies[-1]:.0f} Hz), above half the sample rate, {sample_rate / 2:g} Hz; lower n_bins or fmin"
        )
    if 2 * lengths.sum() > _MAX_KERNEL_VALUES:
        raise ValueError(
            f"the filter at {frequencies[0]:.4g} Hz is {lengths[0]:.0f} samples long; "
            "raise fmin, or lower bins_per_octave, filter_scale or the sample rate"
        )
    return Bank(
        tuple(map(float, frequencies)),
        tuple(map(float, alpha)),
        _decimations(n_bins, bins_per_octave, hop_length, sample_rate / 2 / cutoff),
        float(sample_rate),
        float(filter_scale),
        norm,
        window,
        gamma,
        bool(scale),
    )


def bank_lengths(bank: Bank) -> np.ndarray:
    """Lengths of a bank's wavelets in (fractional) samples, float64[n_bins]."""
    return wavelet_lengths(
        bank.frequencies,
        sample_rate=bank.sample_rate,
        window=bank.window,
        filter_scale=bank.filter_scale,
        gamma=bank.gamma,
        bandwidths=bank.bandwidths,
    )[0]


def wavelet(
    frequency: float, length: float, *, sample_rate: float, window, norm: float | None = 1, grid: int = 1
) -> tuple[np.ndarray, int]:
    """Windowed phasor w[n] exp(2πi·frequency·n / sample_rate), complex128, and the n of its first sample.

    Args:
      frequency: hertz.
      length: samples, may be fractional: n runs from −⌈length / 2⌉ to ⌊length / 2⌋ − 1.
      sample_rate: hertz.
      window: name or (name, parameter).
      norm: 1, 2 or inf norm of the magnitudes that becomes 1; None leaves the window as it is.
      grid: n begins and ends on a multiple of it. librosa samples its filters at a decimated rate; this is where they
        begin and end, which matters (1.5 % of the maximum) as much as its resampling does (0.8 %).
    """
    n = np.arange(-math.ceil(length / 2 / grid) * grid, math.floor(length / 2 / grid) * grid)
    if len(n) < 2:
        raise ValueError(f"the filter at {frequency:.0f} Hz has {length:.3g} samples; raise filter_scale")
    values = get_window(window, len(n)) * np.exp(2j * np.pi * frequency / sample_rate * n)
    return values if norm is None else values / np.linalg.norm(values, norm), int(n[0])


def bank_wavelets(bank: Bank) -> list[tuple[np.ndarray, int]]:
    """Wavelets of a bank, as `wavelet` gives them, from low to high frequency."""
    return [
        wavelet(f, length, sample_rate=bank.sample_rate, window=bank.window, norm=bank.norm, grid=grid)
        for f, length, grid in zip(bank.frequencies, bank_lengths(bank), bank.grids, strict=True)
    ]


def bank_gains(bank: Bank) -> np.ndarray:
    """What multiplies the response to a wavelet: its length, or its square root when `scale`."""
    lengths = bank_lengths(bank)
    return np.sqrt(lengths) if bank.scale else lengths


@functools.lru_cache(maxsize=4)
def bank_kernels(bank: Bank) -> tuple[np.ndarray, ...]:
    """Correlation kernels, float64[2h, 2n] each: n neighbouring filters that fit in h samples either side.

    A filter joins the group of its lower neighbour unless it is about half as long as the group's first. Convolution
    with a wavelet is correlation with the wavelet reversed; columns are real, then imaginary parts.
    """
    wavelets, gains = bank_wavelets(bank), bank_gains(bank)
    # The last sample of a wavelet meets the earliest audio sample: h must cover −first and be above the last n.
    halves = [max(-first, first + len(values)) + 1 for values, first in wavelets]
    starts = [0]
    for k, half in enumerate(halves):
        if half <= 0.51 * halves[starts[-1]]:
            starts.append(k)
    kernels = []
    for begin, end in zip(starts, [*starts[1:], len(halves)], strict=True):
        half = max(halves[begin:end])
        kernel = np.zeros((2 * half, 2, end - begin))
        for k in range(begin, end):
            values, first = wavelets[k]
            last_row = half - first  # of the first wavelet sample, as time runs backwards in a convolution
            rows = slice(last_row + 1 - len(values), last_row + 1)
            kernel[rows, :, k - begin] = gains[k] * np.stack([values.real, values.imag], axis=-1)[::-1]
        kernels.append(kernel.reshape(2 * half, -1))
    for kernel in kernels:
        kernel.setflags(write=False)
    return tuple(kernels)

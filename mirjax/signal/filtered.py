"""Spectrograms through filter banks of FFT bins: the input of onset, beat, downbeat and chord networks.

Arrays: audio `[..., N]` → magnitudes → bands `[..., T, F]`. Several frame sizes give several resolutions, side by side
on the last axis; with their rises over time each bank stands as [bands, rises], so the width doubles.
A small frame is a slice of the large one at the same place, therefore all resolutions are one function of the largest
frame (`filtered_frames`), which is what a stream has to keep.
Source: the rules of madmom (Böck et al. 2016) as ARCHITECTURES §9.3, 9.4 and 10 list them: Hann window with both end
points 0 (`numpy.hanning`), frame_size // 2 bins (the Nyquist bin is left out), centre frequencies moved to the nearest
bin, triangles between neighbouring centres; SuperFlux: Böck & Widmer (2013).
Names: `log_frequencies`, `log_filters`, `mel_bin_filters`, `triangular_filters`, `band_counts`, `filtered_spectrogram`,
`filtered_frames`, `frame_length`, `num_frames`, `difference_lag`, `positive_differences`, `stack_differences`,
`filtered_differences`, `maximum_filter`.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, stft
from mirjax.signal.filters import apply_filters, hz_to_mel, mel_to_hz

SCALES = ("log", "mel")
LOGARITHMS = ("log10", "log", None)
ORIGINS = ("center", "online")
ENDS = ("normal", "extend")


def log_frequencies(
    bands_per_octave: int, *, fmin: float = 30.0, fmax: float = 17_000.0, fref: float = 440.0
) -> np.ndarray:
    """Frequencies fref · 2^(k / bands_per_octave) for all whole k that fall in [fmin, fmax], hertz, float64[K].

    Raises:
      ValueError: for fewer than 1 band per octave, a reference that is not positive, or 0 < fmin < fmax not fulfilled.
    """
    checks.integer(bands_per_octave=bands_per_octave)
    checks.positive(fmin=fmin, fmax=fmax, fref=fref)
    if fmin >= fmax:
        raise ValueError(f"fmin={fmin} must be below fmax={fmax}")
    first = math.floor(bands_per_octave * math.log2(fmin / fref))
    last = math.ceil(bands_per_octave * math.log2(fmax / fref))
    frequencies = fref * 2.0 ** (np.arange(first, last + 1) / bands_per_octave)
    return frequencies[(frequencies >= fmin) & (frequencies <= fmax)]


def _nearest_bins(frequencies: np.ndarray, *, sample_rate: float, frame_size: int, unique: bool) -> np.ndarray:
    """Indices of the nearest of the frame_size // 2 FFT bins; halfway goes up; increasing."""
    nearest = np.floor(frequencies * (frame_size / sample_rate) + 0.5).astype(int)
    nearest = np.clip(nearest, 0, frame_size // 2 - 1)
    return np.unique(nearest) if unique else nearest


def triangular_filters(bins: np.ndarray, *, num_bins: int, norm: bool = True) -> np.ndarray:
    """One triangle for each inner entry of `bins`: 0 at its left neighbour, 1 at itself, 0 at its right neighbour.

    Where neighbours coincide (frequencies closer than the bins lie), the flank between them vanishes, and three
    neighbours within one bin give that single bin.

    Args:
      bins: int[K + 2], increasing.
      num_bins: bins of the spectrum.
      norm: scale every filter to a sum of 1; otherwise its peak is 1.

    Returns:
      float64[K, num_bins].

    Raises:
      ValueError: if there are fewer than 3 bins, or a centre coincides with its right neighbour alone.
    """
    bins = np.asarray(bins)
    if len(bins) < 3:
        raise ValueError(f"{len(bins)} distinct bins give no filter (3 do); widen fmin..fmax or enlarge frames")
    start, centre, stop = bins[:-2, None], bins[1:-1, None], bins[2:, None]
    narrow = stop - start < 2
    centre, stop = np.where(narrow, start, centre), np.where(narrow, start + 1, stop)
    if (centre >= stop).any():
        raise ValueError(f"two filter edges fall in bin {int(stop[centre >= stop][0])}; lower fmax or enlarge frames")
    k = np.arange(num_bins)[None]
    rise, fall = (k - start) / np.maximum(centre - start, 1), (stop - k) / (stop - centre)
    filters = np.where(k < centre, np.maximum(rise, 0), np.maximum(fall, 0))
    return filters / filters.sum(axis=1, keepdims=True) if norm else filters


@functools.lru_cache
def log_filters(
    *,
    sample_rate: float,
    frame_size: int,
    bands_per_octave: int = 12,
    fmin: float = 30.0,
    fmax: float = 17_000.0,
    fref: float = 440.0,
    unique: bool = True,
    norm: bool = True,
) -> np.ndarray:
    """Triangular filters with centres on a logarithmic scale, moved to FFT bins: float64[bands, frame_size // 2].

    Args:
      sample_rate: hertz.
      frame_size: samples a frame.
      bands_per_octave: centre frequencies per octave.
      fmin, fmax: range of the centre frequencies, the outermost of which are only edges; hertz.
      fref: a frequency on the scale, hertz.
      unique: keep one of several centre frequencies that fall in one bin (there are fewer bands at low frequencies);
        otherwise the bands are as many as centre frequencies, less two.
      norm: filters of unit area; otherwise of unit height.

    Raises:
      ValueError: if the range leaves the spectrum, is empty, or holds fewer than 3 distinct bins.

    Reference: madmom's LogarithmicFilterbank (Böck et al. 2016); ARCHITECTURES §9.4.
    """
    checks.integer(least=2, frame_size=frame_size)
    checks.frequency_range(fmin, fmax, sample_rate)
    frequencies = log_frequencies(bands_per_octave, fmin=fmin, fmax=fmax, fref=fref)
    bins = _nearest_bins(frequencies, sample_rate=sample_rate, frame_size=frame_size, unique=unique)
    filters = triangular_filters(bins, num_bins=frame_size // 2, norm=norm)
    filters.setflags(write=False)
    return filters


@functools.lru_cache
def mel_bin_filters(
    *,
    sample_rate: float,
    frame_size: int,
    num_bands: int = 80,
    fmin: float = 27.5,
    fmax: float = 16_000.0,
    unique: bool = False,
    norm: bool = True,
) -> np.ndarray:
    """Triangular mel filters whose corners are FFT bins: float64[num_bands, frame_size // 2].

    Unlike in `filters.mel_filters`, corners are rounded to bins, so no filter is ever empty. The defaults are those of
    madmom's onset CNN.

    Args:
      sample_rate: hertz.
      frame_size: samples a frame.
      num_bands: bands in all (fewer with `unique`, if corners fall in one bin).
      fmin, fmax: outer corners, hertz.
      unique, norm: as in `log_filters`.

    Raises:
      ValueError: as `log_filters`.

    Reference: madmom's MelFilterbank (HTK's scale); Schlüter & Böck (2014).
    """
    checks.integer(least=2, frame_size=frame_size)
    checks.integer(num_bands=num_bands)
    checks.frequency_range(fmin, fmax, sample_rate)
    edges = [float(hz_to_mel(f, scale="htk")) for f in (fmin, fmax)]
    corners = mel_to_hz(np.linspace(*edges, num_bands + 2), scale="htk")
    bins = _nearest_bins(corners, sample_rate=sample_rate, frame_size=frame_size, unique=unique)
    filters = triangular_filters(bins, num_bins=frame_size // 2, norm=norm)
    filters.setflags(write=False)
    return filters


def _pairs(frame_sizes, num_bands) -> tuple[tuple[int, int], ...]:
    """(frame size, bands) of each resolution; a single number of bands holds for all."""
    sizes = (frame_sizes,) if np.ndim(frame_sizes) == 0 else tuple(frame_sizes)
    bands = (num_bands,) * len(sizes) if np.ndim(num_bands) == 0 else tuple(num_bands)
    if not sizes or len(sizes) != len(bands):
        raise ValueError(f"frame_sizes={frame_sizes} and num_bands={num_bands} must be of the same length, not empty")
    for size in sizes:
        checks.integer(least=2, frame_sizes=size)
    return tuple(zip(sizes, bands, strict=True))


def _banks(
    *, sample_rate, frame_sizes, num_bands, scale="log", fmin=30.0, fmax=17_000.0, fref=440.0, unique=True, norm=True
) -> list[np.ndarray]:
    """The filter bank of each resolution."""
    checks.choice("scale", scale, SCALES)
    shared = {"sample_rate": sample_rate, "fmin": fmin, "fmax": fmax, "unique": unique, "norm": norm}
    if scale == "mel":
        return [
            mel_bin_filters(frame_size=size, num_bands=bands, **shared)
            for size, bands in _pairs(frame_sizes, num_bands)
        ]
    return [
        log_filters(frame_size=size, bands_per_octave=bands, fref=fref, **shared)
        for size, bands in _pairs(frame_sizes, num_bands)
    ]


def band_counts(*, sample_rate: float, frame_sizes=2048, num_bands=12, **bank) -> tuple[int, ...]:
    """Bands of each resolution of `filtered_spectrogram`, whose arguments (of the banks) these are."""
    banks = _banks(sample_rate=sample_rate, frame_sizes=frame_sizes, num_bands=num_bands, **bank)
    return tuple(len(filters) for filters in banks)


def _check_output(mul, add, log, origin) -> None:
    checks.choice("log", log, LOGARITHMS)
    checks.choice("origin", origin, ORIGINS)
    checks.positive(mul=mul)
    if log is not None:
        checks.positive(add=add)


def _compress(magnitude: jax.Array, mul: float, add: float, log: str | None) -> jax.Array:
    """log(mul · x + add); with add = 1 by log1p, which keeps the digits of small x."""
    if log is None:
        return magnitude
    natural = jnp.log1p(mul * magnitude) if add == 1 else jnp.log(mul * magnitude + add)
    return natural / math.log(10) if log == "log10" else natural


def filtered_frames(
    frames: jax.Array,
    *,
    sample_rate: float,
    frame_sizes=2048,
    num_bands=12,
    mul: float = 1.0,
    add: float = 1.0,
    log: str | None = "log10",
    origin: str = "center",
    **bank,
) -> jax.Array:
    """What `filtered_spectrogram` makes of each frame: f32[..., T, max(frame_sizes)] → f32[..., T, F].

    Args and errors: as `filtered_spectrogram`; also a ValueError for frames of another length. Half-precision frames
    become float32.
    """
    frames = checks.as_array(frames, "frames")
    _check_output(mul, add, log, origin)
    banks = _banks(sample_rate=sample_rate, frame_sizes=frame_sizes, num_bands=num_bands, **bank)
    longest = frame_length(frame_sizes)
    if frames.shape[-1] != longest:
        raise ValueError(f"frames of {frames.shape[-1]} samples; frame_sizes={frame_sizes} needs {longest}")
    outputs = []
    for (size, _), filters in zip(_pairs(frame_sizes, num_bands), banks, strict=True):
        begin = longest // 2 - size // 2 if origin == "center" else longest - size
        window = jnp.asarray(np.hanning(size), frames.dtype).reshape((1,) * (frames.ndim - 1) + (size,))
        spectrum = jnp.fft.rfft(frames[..., begin : begin + size] * window)[..., : size // 2]
        bands = apply_filters(stft.to_power(stft.power(spectrum), 1), filters)
        outputs.append(_compress(bands, mul, add, log))
    return jnp.concatenate(outputs, axis=-1)


def frame_length(frame_sizes) -> int:
    """Samples that one frame of all resolutions needs: the largest of them."""
    return max(frame_sizes) if np.ndim(frame_sizes) else frame_sizes


def num_frames(num_samples: int, *, hop_length: int, end: str = "normal") -> int:
    """Frames of `filtered_spectrogram`: ⌈N / hop⌉ ("normal") or 1 + ⌊N / hop⌋ ("extend", librosa's count)."""
    checks.integer(hop_length=hop_length)
    checks.choice("end", end, ENDS)
    return -(-num_samples // hop_length) if end == "normal" else 1 + num_samples // hop_length


@functools.partial(jax.jit, static_argnames=("hop_length", "end", "settings"))
def _filtered(audio, *, hop_length, end, settings):
    settings = dict(settings)
    longest = frame_length(settings["frame_sizes"])
    frames = num_frames(audio.shape[-1], hop_length=hop_length, end=end)
    before = longest // 2 if settings["origin"] == "center" else longest - 1
    needed = (frames - 1) * hop_length + longest
    after = max(0, needed - before - audio.shape[-1])
    padded = jnp.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(before, after)])[..., :needed]
    return stft.map_frames(
        padded,
        functools.partial(filtered_frames, **settings),
        frame_length=longest,
        hop_length=hop_length,
        center=False,
    )


def filtered_spectrogram(
    audio: jax.Array,
    *,
    sample_rate: float,
    frame_sizes=2048,
    hop_length: int = 441,
    num_bands=12,
    mul: float = 1.0,
    add: float = 1.0,
    log: str | None = "log10",
    origin: str = "center",
    end: str = "normal",
    **bank,
) -> jax.Array:
    """Magnitude spectrogram through a filter bank, log(mul · bands + add), in one resolution or several side by side.

    Args:
      audio: f32[..., N]; zeros are assumed outside of it.
      sample_rate: hertz.
      frame_sizes: samples a frame, or one number for each resolution.
      hop_length: samples from frame to frame, the same for all.
      num_bands: bands per octave (scale "log") or in all (scale "mel"); one number, or one for each resolution.
      mul, add: factor and offset under the logarithm.
      log: "log10", "log" (natural), or None for the bands themselves.
      origin: "center" puts the middle of each frame at sample t · hop_length; "online" lets it end with that sample, so
        that nothing of the future is seen.
      end: "normal" for ⌈N / hop_length⌉ frames (as long as t · hop_length is inside the clip), "extend" for
        1 + ⌊N / hop_length⌋ (one more where the hop divides N; librosa's count).
      **bank: `scale` ("log" or "mel"), `fmin`, `fmax`, `fref`, `unique`, `norm` as in `log_filters` and
        `mel_bin_filters`; 30, 17,000, 440, True and True for both.

    Returns:
      f32[..., T, F], F = sum of `band_counts`; the resolutions in the order of `frame_sizes`.

    Raises:
      ValueError: for bad audio, unknown names, or settings that a bank refuses.

    Reference: Böck et al. (2016), madmom; ARCHITECTURES §9.4.
    """
    audio = checks.as_audio(audio)
    _check_output(mul, add, log, origin)
    num_frames(audio.shape[-1], hop_length=hop_length, end=end)
    pairs = _pairs(frame_sizes, num_bands)
    settings = {
        "sample_rate": sample_rate,
        "frame_sizes": tuple(size for size, _ in pairs),
        "num_bands": tuple(bands for _, bands in pairs),
        "mul": mul,
        "add": add,
        "log": log,
        "origin": origin,
        **bank,
    }
    return _filtered(audio, hop_length=hop_length, end=end, settings=tuple(settings.items()))


def difference_lag(frame_size: int, hop_length: int, *, diff_ratio: float = 0.5) -> int:
    """Frames between a frame and the one its spectrum is compared with, at least 1.

    The window first exceeds `diff_ratio` of its maximum `d` samples before its middle; the lag is round(d / hop). At a
    ratio of 0.5 the two windows cross at half their height.

    Raises:
      ValueError: for sizes below 1 or a ratio outside of [0, 1).
    """
    checks.integer(least=2, frame_size=frame_size)
    checks.integer(hop_length=hop_length)
    if not 0 <= diff_ratio < 1:
        raise ValueError(f"diff_ratio={diff_ratio!r} must be at least 0 and below 1")
    window = np.hanning(frame_size)
    first = int(np.argmax(window > diff_ratio * window.max()))
    return max(1, round((frame_size / 2 - first) / hop_length))


def maximum_filter(values: jax.Array, size: int, *, axis: int = -1) -> jax.Array:
    """Largest of the `size` values around each along `axis` (of an even number, one more before than after).

    Raises:
      ValueError: for values that are not floating-point numbers, a size below 1, an axis that `values` do not have.
    """
    checks.integer(size=size)
    values = checks.as_array(values, check_finite=False)  # the logarithm of silence may be −∞
    if axis not in range(-values.ndim, values.ndim):
        raise ValueError(f"axis={axis!r} is not an axis of values, whose shape is {values.shape}")
    axis %= values.ndim
    before = size // 2
    pad = [(0, 0)] * values.ndim
    pad[axis] = (before, size - 1 - before)
    # Maxima over windows of 1, 2, 4, … values; two that overlap then make up `size`.
    widest, width = jnp.pad(values, pad, constant_values=-jnp.inf), 1
    while width < size:
        step = min(width, size - width)
        end = widest.shape[axis]
        early, late = lax.slice_in_dim(widest, 0, end - step, axis=axis), lax.slice_in_dim(widest, step, end, axis=axis)
        widest, width = jnp.maximum(early, late), width + step
    return widest


def positive_differences(spectrogram: jax.Array, *, lag: int = 1, max_size: int = 1) -> jax.Array:
    """Rises over time: max(0, X[t, f] − max_{|g − f| ≤ max_size // 2} X[t − lag, g]).

    Args:
      spectrogram: f32[..., T, F], usually logarithmic.
      lag: frames between the two.
      max_size: width of the maximum filter over frequency, bins; 3 is SuperFlux's, which forgives vibrato; 1 is none.

    Returns:
      f32[..., T, F]; the first `lag` frames, which have nothing to be compared with, are 0.

    Raises:
      ValueError: for a lag or width below 1.

    Reference: Böck & Widmer (2013), section 3.
    """
    checks.integer(lag=lag, max_size=max_size)
    spectrogram = checks.as_array(spectrogram, "spectrogram", min_ndim=2)
    frames = spectrogram.shape[-2]
    if frames <= lag:
        return jnp.zeros_like(spectrogram)
    reference = spectrogram[..., : frames - lag, :]
    if max_size > 1:
        reference = maximum_filter(reference, max_size)
    rises = jax.nn.relu(spectrogram[..., lag:, :] - reference)
    return jnp.pad(rises, [(0, 0)] * (spectrogram.ndim - 2) + [(lag, 0), (0, 0)])


def stack_differences(spectrogram: jax.Array, *, counts, lags, max_size: int = 1) -> jax.Array:
    """Bands and their rises, resolution by resolution: [s₁, s₂, …] → [s₁, d₁, s₂, d₂, …].

    Args:
      spectrogram: f32[..., T, F].
      counts: bands of each resolution (`band_counts`), which add up to F.
      lags: frames between the two of each difference (`difference_lag`), one for each resolution.
      max_size: as in `positive_differences`.

    Returns:
      f32[..., T, 2·F].

    Raises:
      ValueError: if `counts` do not add up to F or there are not as many `lags`.
    """
    spectrogram = checks.as_array(spectrogram, "spectrogram", min_ndim=2)
    counts, lags = tuple(counts), tuple(lags)
    if sum(counts) != spectrogram.shape[-1] or len(lags) != len(counts):
        raise ValueError(
            f"counts={counts} must add up to the {spectrogram.shape[-1]} bands given, with one of lags={lags} each"
        )
    parts, begin = [], 0
    for count, lag in zip(counts, lags, strict=True):
        bands = spectrogram[..., begin : begin + count]
        parts += [bands, positive_differences(bands, lag=lag, max_size=max_size)]
        begin += count
    return jnp.concatenate(parts, axis=-1)


def filtered_differences(
    audio: jax.Array,
    *,
    sample_rate: float,
    frame_sizes=2048,
    hop_length: int = 441,
    num_bands=12,
    diff_ratio: float = 0.5,
    max_size: int = 1,
    mul: float = 1.0,
    add: float = 1.0,
    log: str | None = "log10",
    origin: str = "center",
    end: str = "normal",
    **bank,
) -> jax.Array:
    """Filtered spectrogram with its rises stacked: audio f32[..., N] → f32[..., T, 2·F], as onset and beat nets see it.

    Args and errors: as `filtered_spectrogram`, `difference_lag` and `positive_differences`.
    """
    bank = {"sample_rate": sample_rate, "frame_sizes": frame_sizes, "num_bands": num_bands, **bank}
    lags = [difference_lag(size, hop_length, diff_ratio=diff_ratio) for size, _ in _pairs(frame_sizes, num_bands)]
    checks.integer(max_size=max_size)
    spectrogram = filtered_spectrogram(
        audio, hop_length=hop_length, mul=mul, add=add, log=log, origin=origin, end=end, **bank
    )
    return stack_differences(spectrogram, counts=band_counts(**bank), lags=lags, max_size=max_size)

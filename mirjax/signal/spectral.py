"""Simple descriptions of audio, frame by frame, and the two emphasis filters.

Arrays: audio f32[..., N] or magnitude spectrograms f32[..., T, F] → one row of values a frame: f32[..., T], or
f32[..., T, bands] where there are several.
Source: Klapuri & Davy (2007, chapter 5); Jiang et al. (2002) for the contrast; Dubnov (2004) for the flatness; with
librosa's conventions and defaults.

Every description comes twice. `centroid`, `bandwidth`, … map spectra f32[..., F] to values and know nothing of time, so
that they can be streamed; `spectral_centroid`, `spectral_bandwidth`, … take the audio, or a spectrogram instead of it.
Names: `spectral_centroid`, `spectral_bandwidth`, `spectral_rolloff`, `spectral_contrast`, `spectral_flatness`,
`poly_features`, `rms`, `zero_crossing_rate`; per frame `centroid`, `bandwidth`, `rolloff`, `contrast`, `flatness`,
`polynomial`, `rms_of_frames`, `rms_of_spectra`, `zero_crossings`; `preemphasis`, `deemphasis`.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, loudness, stft


def _divide(numerator, total):
    """numerator / total, or numerator where the total is (nearly) 0, as librosa.util.normalize."""
    return numerator / jnp.where(total < jnp.finfo(total.dtype).tiny, 1, total)


def _root(values, exponent=0.5):
    """values^exponent with gradient 0 at 0."""
    positive = values > 0
    return jnp.where(positive, jnp.where(positive, values, 1) ** exponent, 0)


def centroid(spectra: jax.Array, frequencies) -> jax.Array:
    """Mean frequency Σ f·S / Σ S of magnitudes f32[..., F] at `frequencies` f64[F]: f32[...], 0 for silence."""
    weights = _divide(spectra, spectra.sum(axis=-1, keepdims=True))
    return (weights * _aligned(frequencies, spectra)).sum(axis=-1)


def _aligned(frequencies, spectra):
    frequencies = jnp.asarray(frequencies, spectra.dtype)
    return frequencies.reshape((1,) * (spectra.ndim - frequencies.ndim) + frequencies.shape)


def bandwidth(
    spectra: jax.Array, frequencies, *, centroid: jax.Array | None = None, norm: bool = True, p: float = 2.0
) -> jax.Array:
    """Spread (Σ S·|f − centroid|^p)^(1/p) of magnitudes f32[..., F]: f32[...], S made to sum to 1 if `norm`."""
    centre = _centroid(spectra, frequencies) if centroid is None else jnp.asarray(centroid, spectra.dtype)
    if centre.shape != spectra.shape[:-1]:
        raise ValueError(f"centroid of shape {centre.shape} must hold one number a frame, {spectra.shape[:-1]}")
    deviation = jnp.abs(_aligned(frequencies, spectra) - centre[..., None])
    weights = _divide(spectra, spectra.sum(axis=-1, keepdims=True)) if norm else spectra
    return _root((weights * deviation**p).sum(axis=-1), 1 / p)


_centroid = centroid  # the keyword of `bandwidth` hides the function


def rolloff(spectra: jax.Array, frequencies, *, roll_percent: float = 0.85) -> jax.Array:
    """Lowest frequency up to which `roll_percent` of the sum of magnitudes f32[..., F] lies: f32[...]."""
    total = jnp.cumsum(spectra, axis=-1)
    reached = total >= roll_percent * total[..., -1:]
    return jnp.where(reached, _aligned(frequencies, spectra), jnp.inf).min(axis=-1)


def contrast(
    spectra: jax.Array, frequencies, *, fmin: float = 200.0, n_bands: int = 6, quantile: float = 0.02
) -> tuple[jax.Array, jax.Array]:
    """Peaks and valleys of magnitudes f32[..., F] in octave bands: two f32[..., n_bands + 1].

    The means of the highest and of the lowest `quantile` of the bins (at least one) of each band.
    """
    _one_axis(frequencies)
    peaks, valleys = [], []
    for start, stop, count in _contrast_bands(np.asarray(frequencies, np.float64), fmin, n_bands, quantile):
        ordered = jnp.sort(spectra[..., start:stop], axis=-1)
        peaks.append(ordered[..., -count:].mean(axis=-1))
        valleys.append(ordered[..., :count].mean(axis=-1))
    return jnp.stack(peaks, axis=-1), jnp.stack(valleys, axis=-1)


def _contrast_bands(frequencies, fmin, n_bands, quantile):
    """(first bin, last bin + 1, bins in a quantile) of each band, with librosa's overlaps.

    A band takes in the bin below it; all but the last then leave out their highest bin, which is counted in the
    quantile nevertheless; the last goes on to the end.
    """
    edges = np.concatenate([[0.0], fmin * 2.0 ** np.arange(n_bands + 1)])
    bands = []
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = np.flatnonzero((frequencies >= low) & (frequencies <= high))
        if not len(inside):
            raise ValueError(
                f"band {k} of the contrast ({low:g} to {high:g} Hz) holds no bin; raise fmin={fmin} or n_fft"
            )
        start, stop = max(int(inside[0]) - (k > 0), 0), int(inside[-1]) + 1
        if k == n_bands:
            stop = len(frequencies)
        count = max(1, int(np.rint(quantile * (stop - start))))
        stop -= k < n_bands
        if stop <= start:
            raise ValueError(
                f"band {k} of the contrast ({low:g} to {high:g} Hz) holds a single bin; raise fmin={fmin} or n_fft"
            )
        bands.append((start, stop, count))
    return bands


def flatness(spectra: jax.Array, *, amin: float = 1e-10, power: float = 2.0) -> jax.Array:
    """Geometric over arithmetic mean of max(amin, S^power), f32[..., F] → f32[...]: 1 for white noise and silence."""
    values = jnp.maximum(spectra**2 if power == 2 else _root(spectra, power), amin)
    return jnp.exp(jnp.log(values).mean(axis=-1)) / values.mean(axis=-1)


def polynomial(spectra: jax.Array, frequencies, *, order: int = 1) -> jax.Array:
    """Least-squares polynomial in frequency through magnitudes f32[..., F]: f32[..., order + 1], high powers first."""
    _one_axis(frequencies)
    bins, highest = len(frequencies), float(np.abs(frequencies).max())
    # The highest power must be a float64, and must have more bins than coefficients to be fitted to.
    most = min(bins - 1, int(300 / max(np.log10(max(highest, 1)), 1e-3)))
    if order > most:
        raise ValueError(f"order={order} is too high for {bins} bins up to {highest:g} Hz; take {most} or less")
    return _dot(spectra, jnp.asarray(_fit(tuple(frequencies), order), spectra.dtype))


def _one_axis(frequencies):
    if np.ndim(frequencies) != 1:
        raise ValueError(f"freq of shape {np.shape(frequencies)} must have one axis here: the same bins in every frame")


@functools.lru_cache(maxsize=16)
def _fit(frequencies, order):
    # Columns of equal norm, as numpy.polyfit has them, or the pseudo-inverse would take high powers for noise.
    powers = np.vander(np.asarray(frequencies, np.float64), order + 1)
    norms = np.sqrt((powers**2).sum(axis=0))
    return np.linalg.pinv(powers / norms).T / norms


def rms_of_frames(frames: jax.Array) -> jax.Array:
    """Root of the mean square of frames f32[..., frame_length]: f32[...]."""
    return _root((frames**2).mean(axis=-1))


def rms_of_spectra(spectra: jax.Array, *, frame_length: int) -> jax.Array:
    """The same from magnitudes f32[..., 1 + frame_length // 2], by Parseval's theorem."""
    weights = np.full(spectra.shape[-1], 2 / frame_length**2)
    weights[0] /= 2
    if frame_length % 2 == 0:
        weights[-1] /= 2
    return _root(_dot(spectra**2, jnp.asarray(weights, spectra.dtype)))


def zero_crossings(frames: jax.Array, *, threshold: float = 1e-10, zero_pos: bool = True) -> jax.Array:
    """Share of samples whose sign differs from the one before, f32[..., frame_length] → f32[...].

    Args:
      frames: f32[..., frame_length]; its first sample has none before it and never counts.
      threshold: magnitudes up to it are 0.
      zero_pos: 0 has the sign of positive numbers; otherwise it is a sign of its own.
    """
    values = jnp.where(jnp.abs(frames) <= threshold, 0, frames)
    signs = values < 0 if zero_pos else jnp.sign(values)
    crossed = (signs[..., 1:] != signs[..., :-1]).astype(frames.dtype)
    return crossed.sum(axis=-1) / frames.shape[-1]


def _dot(spectra, weights):
    return jnp.matmul(spectra, weights, precision=lax.Precision.HIGHEST)


def _frequencies(freq, sample_rate, bins, n_fft):
    """Bin frequencies in hertz, f64[F] or, one row for each frame, f64[..., T, F]."""
    if freq is None:
        checks.positive(sample_rate=sample_rate)
        return np.fft.rfftfreq(n_fft, 1 / sample_rate)
    freq = np.asarray(freq, np.float64)
    if freq.ndim < 1 or freq.shape[-1] != bins:
        raise ValueError(f"freq of shape {freq.shape} must hold one frequency for each of the {bins} bins")
    if not np.isfinite(freq).all():
        raise ValueError("freq holds NaN or infinity; give the hertz of every bin")
    return freq


def _describe(audio, spectrogram, function, *, sample_rate=None, freq=None, n_fft=2048, hop_length=512, **frame):
    """`function(spectra, frequencies)` of the audio's magnitude spectrogram, or of the one given."""
    if (audio is None) == (spectrogram is None):
        raise ValueError("give audio or spectrogram=, one of the two")
    if spectrogram is None:
        frequencies = _frequencies(freq, sample_rate, 1 + n_fft // 2, n_fft)
        return function(stft.spectrogram(audio, n_fft=n_fft, hop_length=hop_length, **frame), frequencies)
    spectra = checks.as_array(spectrogram, "spectrogram", min_ndim=2)
    if not isinstance(spectra, jax.core.Tracer) and (np.asarray(spectra) < 0).any():
        raise ValueError("spectrogram holds negative numbers; give magnitudes, not decibels")
    bins = spectra.shape[-1]
    # An n_fft that does not fit the spectrogram is taken to be the even one that does, as librosa takes it.
    n_fft = n_fft if 1 + n_fft // 2 == bins else 2 * (bins - 1)
    return function(spectra, _frequencies(freq, sample_rate, bins, n_fft))


def spectral_centroid(audio=None, *, spectrogram=None, sample_rate=None, freq=None, **frame) -> jax.Array:
    """Mean frequency of each frame, Σ f·S / Σ S, in hertz; 0 for silence.

    Args:
      audio: f32[..., N]; or
      spectrogram: magnitudes f32[..., T, F] instead.
      sample_rate: hertz; needed unless `freq` is given.
      freq: hertz of the bins, [F] or [..., T, F]; those of the FFT when None.
      **frame: n_fft (2048), hop_length (512), win_length, window, center, pad_mode of the audio's frames, as
        `stft.spectrogram`.

    Returns:
      f32[..., T].

    Raises:
      ValueError: for both or none of audio and spectrogram, a `freq` that does not fit, negative magnitudes, bad input.

    Reference: Klapuri & Davy (2007), chapter 5.
    """
    return _describe(audio, spectrogram, centroid, sample_rate=sample_rate, freq=freq, **frame)


def spectral_bandwidth(
    audio=None, *, spectrogram=None, sample_rate=None, freq=None, centroid=None, norm=True, p=2.0, **frame
) -> jax.Array:
    """Spread of each frame about its centroid, (Σ S·|f − centroid|^p)^(1/p), in hertz; 0 for silence.

    Args:
      audio, spectrogram, sample_rate, freq, **frame: as `spectral_centroid`.
      centroid: f32[..., T] hertz; computed when None.
      norm: make each frame's magnitudes sum to 1.
      p: exponent, above 0.

    Returns:
      f32[..., T].

    Raises:
      ValueError: as `spectral_centroid`, and for p not above 0 or a centroid of another shape.
    """
    checks.positive(p=p)
    function = functools.partial(bandwidth, centroid=centroid, norm=norm, p=p)
    return _describe(audio, spectrogram, function, sample_rate=sample_rate, freq=freq, **frame)


def spectral_rolloff(
    audio=None, *, spectrogram=None, sample_rate=None, freq=None, roll_percent=0.85, **frame
) -> jax.Array:
    """Frequency below which `roll_percent` of each frame's magnitudes lies, in hertz; the lowest bin for silence.

    Args:
      audio, spectrogram, sample_rate, freq, **frame: as `spectral_centroid`.
      roll_percent: share in (0, 1).

    Returns:
      f32[..., T]. A step function of the audio: its gradient is 0.

    Raises:
      ValueError: as `spectral_centroid`, and for a share outside (0, 1).
    """
    _share(roll_percent=roll_percent)
    function = functools.partial(rolloff, roll_percent=roll_percent)
    return _describe(audio, spectrogram, function, sample_rate=sample_rate, freq=freq, **frame)


def spectral_contrast(
    audio=None,
    *,
    spectrogram=None,
    sample_rate=None,
    freq=None,
    fmin=200.0,
    n_bands=6,
    quantile=0.02,
    linear=False,
    top_db=80.0,
    **frame,
) -> jax.Array:
    """Peak over valley in octave bands: [0, fmin], [fmin, 2·fmin], … , the last open at the top.

    In float32 the valleys of empty bands hold rounding noise, up to 7 dB off float64; compute under jax_enable_x64
    where they matter.

    Args:
      audio, spectrogram, sample_rate, **frame: as `spectral_centroid`.
      freq: hertz of the bins, rising, [F]; those of the FFT when None.
      fmin: upper edge of the lowest band, hertz.
      n_bands: octave bands above it.
      quantile: share of the bins taken for peak and for valley, in (0, 1).
      linear: difference of magnitudes instead of 10·log₁₀ of their ratio.
      top_db: peaks, and valleys, are raised to this far below their maximum over the clip, which takes the whole
        clip, at least 0; None: not.

    Returns:
      f32[..., T, n_bands + 1].

    Raises:
      ValueError: as `spectral_centroid`; for a band above half the sample rate or without bins, a negative `top_db`.

    Reference: Jiang et al. (2002).
    """
    checks.positive(fmin=fmin)
    checks.integer(n_bands=n_bands)
    _share(quantile=quantile)
    if top_db is not None and not 0 <= top_db < np.inf:
        raise ValueError(f"top_db={top_db!r} must be at least 0; None sets no floor")
    if sample_rate is not None and fmin * 2.0 ** (n_bands - 1) >= sample_rate / 2:
        raise ValueError(
            f"fmin={fmin} and n_bands={n_bands} put a band above {sample_rate / 2:g} Hz, half the sample rate; "
            "lower fmin or n_bands"
        )

    def decibels(values):
        # The magnitudes are treated as powers, as librosa does.
        level = 10 * jnp.log10(jnp.maximum(values, 1e-10))
        return level if top_db is None else jnp.maximum(level, level.max(axis=(-2, -1), keepdims=True) - top_db)

    def function(spectra, frequencies):
        peaks, valleys = contrast(spectra, frequencies, fmin=fmin, n_bands=n_bands, quantile=quantile)
        return peaks - valleys if linear else decibels(peaks) - decibels(valleys)

    return _describe(audio, spectrogram, function, sample_rate=sample_rate, freq=freq, **frame)


def spectral_flatness(audio=None, *, spectrogram=None, amin=1e-10, power=2.0, **frame) -> jax.Array:
    """Geometric over arithmetic mean of each frame's max(amin, S^power): 1 for white noise, near 0 for a tone.

    Args:
      audio, spectrogram, **frame: as `spectral_centroid`.
      amin: floor, above 0.
      power: exponent of the magnitudes.

    Returns:
      f32[..., T] in (0, 1].

    Raises:
      ValueError: as `spectral_centroid`, and for a floor or exponent not above 0.

    Reference: Dubnov (2004).
    """
    checks.positive(amin=amin, power=power)
    # Any rate will do: the frequencies play no part.
    function = functools.partial(_flatness_of, amin=amin, power=power)
    return _describe(audio, spectrogram, function, sample_rate=1.0, **frame)


def _flatness_of(spectra, frequencies, **settings):
    return flatness(spectra, **settings)


def poly_features(audio=None, *, spectrogram=None, sample_rate=None, freq=None, order=1, **frame) -> jax.Array:
    """Coefficients of a polynomial in frequency fitted to each frame's magnitudes.

    Args:
      audio, spectrogram, sample_rate, **frame: as `spectral_centroid`.
      freq: hertz of the bins, [F]; those of the FFT when None.
      order: of the polynomial, below the number of bins and low enough for the powers to be float64 numbers.

    Returns:
      f32[..., T, order + 1], highest power first.

    Raises:
      ValueError: as `spectral_centroid`, and for a negative order or one too high.
    """
    checks.integer(order=order, least=0)
    function = functools.partial(polynomial, order=order)
    return _describe(audio, spectrogram, function, sample_rate=sample_rate, freq=freq, **frame)


@functools.partial(jax.jit, static_argnames=("function", "frame_length", "hop_length", "center", "pad_mode"))
def _map_frames(audio, function, **settings):
    return stft.map_frames(audio, function, **settings)


def rms(
    audio=None, *, spectrogram=None, frame_length=2048, hop_length=512, center=True, pad_mode="constant"
) -> jax.Array:
    """Root-mean-square of each frame.

    Args:
      audio: f32[..., N]; or
      spectrogram: magnitudes f32[..., T, 1 + frame_length // 2] of frames with a rectangular window instead.
      frame_length, hop_length, center, pad_mode: frames, as `stft.frame`.

    Returns:
      f32[..., T].

    Raises:
      ValueError: for both or none of audio and spectrogram, a spectrogram that does not fit `frame_length`, bad input.
    """
    if (audio is None) == (spectrogram is None):
        raise ValueError("give audio or spectrogram=, one of the two")
    checks.integer(frame_length=frame_length, hop_length=hop_length)
    if spectrogram is None:
        audio = checks.as_audio(audio)
        settings = {"frame_length": frame_length, "hop_length": hop_length, "center": center, "pad_mode": pad_mode}
        return _map_frames(audio, rms_of_frames, **settings)
    spectra = checks.as_array(spectrogram, "spectrogram", min_ndim=2)
    bins = spectra.shape[-1]
    if bins != 1 + frame_length // 2:
        raise ValueError(
            f"spectrogram has {bins} bins and frame_length={frame_length} gives {1 + frame_length // 2}; "
            f"frame_length must be {2 * bins - 2} or {2 * bins - 1}"
        )
    return rms_of_spectra(spectra, frame_length=frame_length)


def zero_crossing_rate(
    audio: jax.Array, *, frame_length=2048, hop_length=512, center=True, threshold=1e-10, zero_pos=True
) -> jax.Array:
    """Share of the samples of each frame at which the sign changes.

    Args:
      audio: f32[..., N]; its first and last sample go on outside the clip.
      frame_length, hop_length, center: frames, as `stft.frame`.
      threshold, zero_pos: as `zero_crossings`.

    Returns:
      f32[..., T] in [0, 1). A step function of the audio: its gradient is 0.

    Raises:
      ValueError: for a negative threshold and bad audio.
    """
    if not threshold >= 0:
        raise ValueError(f"threshold={threshold!r} must be at least 0")
    audio = checks.as_audio(audio)
    # Zeroed here once, so that the function of the frames is always the same object and compiles once.
    quiet = jnp.where(jnp.abs(audio) <= threshold, 0, audio)
    function = _crossings if zero_pos else _crossings_of_three_signs
    settings = {"frame_length": frame_length, "hop_length": hop_length, "center": center, "pad_mode": "edge"}
    return _map_frames(quiet, function, **settings)


def _crossings(frames):
    return zero_crossings(frames, threshold=0.0)


def _crossings_of_three_signs(frames):
    return zero_crossings(frames, threshold=0.0, zero_pos=False)


def _initial(audio, zi):
    zi = jnp.asarray(zi, audio.dtype)
    shape = (*audio.shape[:-1], 1)
    if zi.shape not in (shape, (1,), ()):
        raise ValueError(f"zi of shape {zi.shape} does not fit audio of shape {audio.shape}; it must be {shape}")
    return jnp.broadcast_to(zi.reshape((1,) * (audio.ndim - zi.ndim) + zi.shape), shape)


def preemphasis(audio: jax.Array, *, coef: float = 0.97, zi=None, return_zf: bool = False):
    """Raise high frequencies: y[n] = x[n] − coef·x[n−1].

    Args:
      audio: f32[..., N].
      coef: 0 to 1.
      zi: f32[..., 1], what is added to the first sample: −coef times the one before. None: as if a straight line
        through the first two samples went on before them, 2·x[0] − x[1].
      return_zf: return the `zi` that continues the audio, too.

    Returns:
      f32[..., N], or (f32[..., N], f32[..., 1]).

    Raises:
      ValueError: for a coefficient outside [0, 1], a single sample without `zi`, a `zi` of another shape, bad audio.
    """
    if not 0 <= coef <= 1:
        raise ValueError(f"coef={coef!r} must be from 0 to 1; 0.97 is usual")
    audio = checks.as_audio(audio, min_samples=2 if zi is None else 1)
    zi = 2 * audio[..., :1] - audio[..., 1:2] if zi is None else _initial(audio, zi)
    output = audio + jnp.concatenate([zi, -coef * audio[..., :-1]], axis=-1)
    return (output, -coef * audio[..., -1:]) if return_zf else output


def deemphasis(audio: jax.Array, *, coef: float = 0.97, zi=None, return_zf: bool = False):
    """Undo `preemphasis`: y[n] = x[n] + coef·y[n−1].

    Args:
      audio: f32[..., N].
      coef: 0 to below 1.
      zi: f32[..., 1], what is added to the first sample: coef times the output before. None: the start that undoes
        `preemphasis` with its own.
      return_zf: return the `zi` that continues the audio, too.

    Returns:
      f32[..., N], or (f32[..., N], f32[..., 1]).

    Raises:
      ValueError: as `preemphasis`, and for a coefficient outside [0, 1).
    """
    if not 0 <= coef < 1:
        raise ValueError(f"coef={coef!r} must be at least 0 and below 1, or the sum never ends")
    audio = checks.as_audio(audio, min_samples=2 if zi is None else 1)
    if zi is None:
        zi = -((2 - coef) * audio[..., :1] - audio[..., 1:2]) / (3 - coef)
    first = audio[..., :1] + _initial(audio, zi)
    audio = jnp.concatenate([first, audio[..., 1:]], axis=-1)
    output, _ = loudness.recursive_filter(audio, loudness.Filter((((1.0,), (1.0, -float(coef))),)))
    return (output, coef * output[..., -1:]) if return_zf else output


def _share(**values):
    for name, value in values.items():
        if not 0 < value < 1:
            raise ValueError(f"{name}={value!r} must lie between 0 and 1")

"""Augmentation, drawn anew for every example, on device.

Arrays: one example is audio `[..., N]` or a spectrogram `[..., T, F]`; all its leading axes (channels) share one draw.
Random functions are `(key, x, *, settings) → x` of the same shape; `per_example` gives every row of a batch its own
key, as `jax.vmap(function)(keys, batch)` does. Their deterministic halves (`time_stretch_by`, `pitch_shift_by`, …) take
what was drawn as a traced number, one for all clips or one for each: shapes never depend on it.
Source: Flanagan & Golden (1966), phase vocoder; Smith (2002), resampling; Schlüter & Grill (2015), random filters;
Zhang et al. (2018), mixup; Park et al. (2019), SpecAugment.
Names: `time_stretch(_by)`, `pitch_shift(_by)`, `gain(_by)`, `polarity`, `time_shift`,
`random_crop`, `noise`, `add_noise`, `equalise`, `filter_spectrogram`, `gaussian_response`, `low_pass(_by)`, `mixup`,
`spec_augment`, `compose`, `per_example`.
"""

import functools
import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, stft
from mirjax.signal.stretch import clips_with, pitch_shift_by, time_stretch_by


def _is_number(value, kind=numbers.Real) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value):
    """A Python number out of an array without axes."""
    return value.item() if hasattr(value, "item") else value


def _range(name: str, low: float, high: float, *, above: float = -math.inf) -> None:
    if not (_is_number(low) and _is_number(high)):
        raise ValueError(f"{name} from {low!r} to {high!r} must be finite numbers")
    if not above < low <= high:
        bound = "" if above == -math.inf else f"{above:g} < "
        raise ValueError(f"{name} from {low:g} to {high:g}: need {bound}low <= high")


def _uniform(key, low, high, dtype):
    return jnp.minimum(jax.random.uniform(key, (), dtype, low, high), high)  # scaling may round above `high`


def compose(*functions):
    """One augmentation out of several: `compose(a, b)(key, x)` is b(key₂, a(key₁, x)) with keys split from `key`."""

    def composed(key, x):
        for part, function in zip(jax.random.split(key, max(1, len(functions))), functions, strict=False):
            x = function(part, x)
        return x

    return composed


def per_example(function):
    """A function of (key, batch) that applies `function` (key, x) to every row with its own key.

    The rows are computed one after the other on a CPU (memory of one example) and by `vmap` elsewhere. It is compiled
    once for each shape, so make it once and keep it. The batch is an array or a tree of arrays with the same number of
    rows; anything else is a ValueError.
    """

    @jax.jit
    def batched(key, batch):
        return stft.per_clip(function, jax.random.split(key, _rows(batch)), batch)

    return batched


def _rows(batch) -> int:
    """Rows of a batch, which all arrays of its tree have."""
    shapes = [x.shape for x in jax.tree.leaves(batch)]
    if not shapes or () in shapes:
        raise ValueError("batch must hold arrays of B rows each; turn lists of numbers into arrays")
    rows = {shape[0] for shape in shapes}
    if len(rows) != 1:
        raise ValueError(f"all arrays of a batch must have the same number of rows, got {sorted(rows)}")
    return rows.pop()


# ── time and pitch ──


def time_stretch(
    key: jax.Array,
    audio: jax.Array,
    *,
    low: float = 0.8,
    high: float = 1.25,
    n_fft: int = 2048,
    hop_length: int | None = None,
    fit: str = "zero",
) -> jax.Array:
    """Stretch one example by a rate drawn evenly on a logarithmic scale from [low, high]; see `time_stretch_by`."""
    _range("rate", low, high, above=0)
    audio = checks.as_audio(audio)
    rate = jnp.exp(_uniform(key, math.log(low), math.log(high), audio.dtype))
    return time_stretch_by(audio, rate, n_fft=n_fft, hop_length=hop_length, fit=fit)


def pitch_shift(
    key: jax.Array,
    audio: jax.Array,
    *,
    low: float = -2.0,
    high: float = 2.0,
    n_fft: int = 2048,
    hop_length: int | None = None,
) -> jax.Array:
    """Shift one example by an interval drawn evenly from [low, high] semitones; see `pitch_shift_by`."""
    _range("semitones", low, high)
    audio = checks.as_audio(audio)
    semitones = _uniform(key, low, high, audio.dtype)
    return pitch_shift_by(audio, semitones, n_fft=n_fft, hop_length=hop_length, max_semitones=max(0, high))


# ── level, sign and place ──


def gain_by(audio: jax.Array, decibels) -> jax.Array:
    """Audio f32[..., N] times 10^(decibels / 20); one number, or one for each clip f32[...]."""
    clips, decibels, shape = clips_with(audio, "decibels", decibels)
    return (clips * (10 ** (decibels / 20))[:, None]).reshape(shape)


def gain(key: jax.Array, audio: jax.Array, *, low: float = -6.0, high: float = 6.0) -> jax.Array:
    """Change the level of one example by decibels drawn evenly from [low, high]."""
    _range("decibels", low, high)
    audio = checks.as_audio(audio)
    return gain_by(audio, _uniform(key, low, high, audio.dtype))


def polarity(key: jax.Array, audio: jax.Array) -> jax.Array:
    """Turn the sign of one example, every second time."""
    audio = checks.as_audio(audio)
    return jnp.where(jax.random.bernoulli(key), -audio, audio)


def time_shift(key: jax.Array, audio: jax.Array, *, low: int = 0, high: int | None = None) -> jax.Array:
    """Roll one example by a number of samples drawn from low … high (N − 1 when None); what leaves comes back in.

    Both are whole numbers, negative ones shift to the left.
    """
    audio = checks.as_audio(audio)
    high = audio.shape[-1] - 1 if high is None else high
    for name, value in (("low", low), ("high", high)):
        if not _is_number(value, numbers.Integral) or abs(value) >= 2**31 - 1:
            raise ValueError(f"{name}={value!r} must be a whole number of samples, less than 2³¹ − 1 from 0")
    _range("time shift in samples", low, high)
    return jnp.roll(audio, jax.random.randint(key, (), int(low), int(high) + 1), axis=-1)


def random_crop(key: jax.Array, x: jax.Array, *, length: int, axis: int = -1) -> jax.Array:
    """A part of `length` steps from a random place of one example, which may have just as many but not fewer.

    Args:
      key: PRNG key.
      x: array of any type (audio: axis −1; spectrogram f32[..., T, F]: axis −2).
      length: steps to keep.
      axis: axis to crop.

    Raises:
      ValueError: if the axis has fewer than `length` steps, or there is no such axis.
    """
    checks.integer(length=length)
    x = jnp.asarray(x)
    if not _is_number(axis, numbers.Integral) or not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis={axis!r} is not an axis of x, whose shape is {x.shape}")
    steps = x.shape[axis]
    if length > steps:
        raise ValueError(f"length={length} exceeds the {steps} steps of axis {axis}; pad the example or lower length")
    start = jax.random.randint(key, (), 0, steps - length + 1)
    return lax.dynamic_slice_in_dim(x, start, length, axis=axis % x.ndim)


# ── noise ──


def add_noise(audio: jax.Array, noise: jax.Array, snr) -> jax.Array:
    """Audio plus noise, scaled so that each clip stands `snr` decibels above it.

    10 log₁₀(Σ x² / Σ (g n)²) = snr over the last axis, at any level that the type holds. A silent clip stays silent;
    silent noise adds nothing.

    Args:
      audio: f32[..., N].
      noise: of the same shape.
      snr: decibels; one number, or one for each clip f32[...].
    """
    clips, snr, shape = clips_with(audio, "snr", snr)
    noise = checks.as_audio(noise, "noise")
    if noise.shape != shape:
        raise ValueError(f"noise of shape {noise.shape} must have the shape of the audio, {shape}")
    noise = noise.reshape(clips.shape).astype(clips.dtype)
    peaks = [lax.stop_gradient(jnp.abs(x).max(axis=-1)) for x in (clips, noise)]
    some = (peaks[0] > 0) & (peaks[1] > 0)
    # Over their peaks, so that no square is too large or too small.
    peak, noise_peak = (jnp.where(some, x, 1) for x in peaks)
    clip_power = jnp.where(some, ((clips / peak[:, None]) ** 2).sum(axis=-1), 1)
    noise = noise / noise_peak[:, None]
    noise_power = jnp.where(some, (noise**2).sum(axis=-1), 1)
    scale = jnp.where(some, jnp.sqrt(clip_power / noise_power) * peak * 10 ** (-snr / 20), 0)
    return (clips + scale[:, None] * noise).reshape(shape)


def noise(
    key: jax.Array, audio: jax.Array, *, low: float = 10.0, high: float = 30.0, recording: jax.Array | None = None
) -> jax.Array:
    """Add noise at a signal-to-noise ratio drawn evenly from [low, high] decibels.

    Args:
      key: PRNG key.
      audio: f32[..., N].
      low: lowest ratio, decibels.
      high: highest ratio, decibels.
      recording: f32[M], noise to add from a random place on, repeated as needed; white Gaussian noise when None.
    """
    _range("snr", low, high)
    audio = checks.as_audio(audio)
    level_key, noise_key = jax.random.split(key)
    if recording is None:
        added = jax.random.normal(noise_key, audio.shape, audio.dtype)
    else:
        recording = checks.as_audio(recording, "recording")
        if recording.ndim != 1:
            raise ValueError(f"recording of shape {recording.shape} must be one clip of noise, f32[M]")
        start = jax.random.randint(noise_key, (), 0, recording.shape[0])
        # Wrapped once, so that start + n needs no modulo of large numbers and one gather does it.
        index = (start + jnp.arange(audio.shape[-1])) % recording.shape[0]
        added = jnp.broadcast_to(recording[index].astype(audio.dtype), audio.shape)
    return add_noise(audio, added, _uniform(level_key, low, high, audio.dtype))


# ── filters ──


def gaussian_response(frequencies, centre, width, decibels) -> jax.Array:
    """Random filter of Schlüter & Grill: s · exp(−½ ((x − μ) / σ)²) decibels, x in semitones.

    Args:
      frequencies: hertz, f64[F].
      centre: hertz (μ).
      width: semitones (σ).
      decibels: height (s).
    """
    frequencies = np.asarray(frequencies, np.float64)
    octaves = jnp.asarray(np.log2(np.maximum(frequencies, 1e-3)), jnp.result_type(centre))
    return decibels * jnp.exp(-0.5 * ((12 * (octaves - jnp.log2(centre))) / width) ** 2)


def _draw_response(key, frequencies, *, low, high, dtype):
    keys = jax.random.split(key, 3)
    centre = jnp.exp(_uniform(keys[0], math.log(150), math.log(8000), dtype))
    width = _uniform(keys[1], 5, 7, dtype)
    return gaussian_response(frequencies, centre, width, _uniform(keys[2], low, high, dtype))


_SCALES = {"decibel": 0, "power": 10, "amplitude": 20}


def filter_spectrogram(
    key: jax.Array,
    spectrogram: jax.Array,
    *,
    frequencies,
    scale: str = "power",
    low: float = -10.0,
    high: float = 10.0,
) -> jax.Array:
    """Lift or lower a random band of one example.

    The response is a Gaussian over log-frequency: centre 150 Hz to 8 kHz (logarithmic), width 5 to 7 semitones,
    height [low, high] decibels.

    Args:
      key: PRNG key.
      spectrogram: f32[..., T, F].
      frequencies: hertz of the F bins (mel: the bands' centres).
      scale: what the values are: `decibel` (added to), `power` or `amplitude` (multiplied).
      low: lowest height, decibels.
      high: highest height, decibels.

    Reference: Schlüter & Grill (2015), section 4.2.3.
    """
    _range("decibels", low, high)
    checks.choice("scale", scale, _SCALES)
    spectrogram = checks.as_array(spectrogram, "spectrogram", min_ndim=2)
    if np.shape(frequencies) != spectrogram.shape[-1:]:
        raise ValueError(f"frequencies of shape {np.shape(frequencies)} must name the {spectrogram.shape[-1]} bins")
    response = _draw_response(key, frequencies, low=low, high=high, dtype=spectrogram.dtype)
    response = response.reshape((1,) * (spectrogram.ndim - 1) + (-1,))
    return spectrogram + response if scale == "decibel" else spectrogram * 10 ** (response / _SCALES[scale])


def _filtered(audio, response, size):
    """Audio [..., N] with its spectrum of `size` samples multiplied by a real, zero-phase response [size // 2 + 1]."""
    spectrum = jnp.fft.rfft(audio, size) * response.reshape((1,) * (audio.ndim - 1) + (-1,))
    return jnp.fft.irfft(spectrum, size)[..., : audio.shape[-1]]


def _fast_length(size: int) -> int:
    import scipy.fft

    return scipy.fft.next_fast_len(size, real=True)


@functools.partial(jax.jit, static_argnames=("sample_rate", "low", "high"))
def _equalise(key, audio, *, sample_rate, low, high):
    # The response is smooth on the scale of 100 Hz, so its echo is short: 50 ms of silence keep the ends apart.
    size = _fast_length(audio.shape[-1] + math.ceil(sample_rate / 20))
    frequencies = np.arange(size // 2 + 1) * (sample_rate / size)
    response = _draw_response(key, frequencies, low=low, high=high, dtype=audio.dtype)
    return _filtered(audio, 10 ** (response / 20), size)


def equalise(
    key: jax.Array, audio: jax.Array, *, sample_rate: float, low: float = -10.0, high: float = 10.0
) -> jax.Array:
    """The filter of `filter_spectrogram` on one example's waveform f32[..., N], without phase."""
    _range("decibels", low, high)
    checks.positive(sample_rate=sample_rate)
    audio = checks.as_audio(audio)
    return _equalise(key, audio, sample_rate=float(sample_rate), low=float(low), high=float(high))


@functools.partial(jax.jit, static_argnames=("sample_rate", "num_taps"))
def _low_pass(clips, cutoffs, *, sample_rate, num_taps):
    half = num_taps // 2
    size = _fast_length(max(num_taps, clips.shape[-1] + half))
    cutoffs = jnp.clip(cutoffs, 0, sample_rate / 2)
    window = 0.54 + 0.46 * np.cos(np.pi * np.arange(-half, half + 1) / max(half, 1))
    n = jnp.arange(-half, half + 1, dtype=clips.dtype)

    def one(clip, cutoff):
        taps = jnp.sinc(2 * cutoff / sample_rate * n) * jnp.asarray(window, clip.dtype)
        taps = taps / taps.sum()
        response = jnp.fft.rfft(jnp.roll(jnp.pad(taps, (0, size - num_taps)), -half)).real
        return _filtered(clip, response, size)

    return stft.per_clip(one, clips, cutoffs)


def low_pass_by(audio: jax.Array, cutoff, *, sample_rate: float, num_taps: int = 255) -> jax.Array:
    """Keep what lies below a cut-off: a windowed-sinc FIR (Hamming) without delay.

    Args:
      audio: f32[..., N].
      cutoff: hertz, where the amplitude is one half; one number, or one for each clip f32[...]. May be traced: a traced
        one is limited to 0 … sample_rate / 2, at which all passes.
      sample_rate: hertz.
      num_taps: odd length of the filter; the transition is about 3.3 · sample_rate / num_taps wide.

    Returns:
      f32[..., N].

    Raises:
      ValueError: for a cut-off that is known and not in 0 < cutoff ≤ sample_rate / 2, cut-offs that do not match the
        clips, an even `num_taps`.
    """
    checks.positive(sample_rate=sample_rate)
    checks.integer(num_taps=num_taps)
    if num_taps % 2 == 0:
        raise ValueError(f"num_taps={num_taps} must be odd, so that the filter has a middle")
    clips, cutoffs, shape = clips_with(audio, "cutoff", cutoff, above=0, most=sample_rate / 2)
    return _low_pass(clips, cutoffs, sample_rate=float(sample_rate), num_taps=num_taps).reshape(shape)


def low_pass(
    key: jax.Array,
    audio: jax.Array,
    *,
    sample_rate: float,
    low: float = 1000.0,
    high: float | None = None,
    num_taps: int = 255,
) -> jax.Array:
    """Low-pass one example at a cut-off drawn evenly on a logarithmic scale from [low, high] hertz.

    `high` is half the sample rate when None, and may not be above it; see `low_pass_by`.
    """
    checks.positive(sample_rate=sample_rate)
    high = sample_rate / 2 if high is None else high
    _range("cutoff in hertz", low, high, above=0)
    if high > sample_rate / 2:
        raise ValueError(
            f"high={high:g} Hz lies above half the sample rate, {sample_rate / 2:g} Hz; lower it or leave it out"
        )
    audio = checks.as_audio(audio)
    # The exponential of the logarithm may round above `high`.
    cutoff = jnp.minimum(jnp.exp(_uniform(key, math.log(low), math.log(high), audio.dtype)), high)
    return low_pass_by(audio, cutoff, sample_rate=sample_rate, num_taps=num_taps)


# ── mixtures and masks ──


def mixup(key: jax.Array, batch, *, alpha: float = 0.2):
    """Mix every example of a batch, and its target, with another of the batch.

    x̃ᵢ = λᵢ xᵢ + (1 − λᵢ) x_π(i), λᵢ ~ Beta(α, α), π a random permutation.

    Args:
      key: PRNG key.
      batch: array or tree of arrays with B rows each, such as (audio f32[B, N], one-hot labels f32[B, K]).
      alpha: α; small values mix little.

    Returns:
      The mixed batch, of the same structure.

    Raises:
      ValueError: for integer arrays (class numbers cannot be mixed), arrays of different numbers of rows, or none.

    Reference: Zhang, Cisse, Dauphin & Lopez-Paz (2018); one λ an example.
    """
    checks.positive(alpha=alpha)
    batch = jax.tree.map(lambda x: checks.as_array(x, "a part of batch"), batch)
    count = _rows(batch)
    weight_key, order_key = jax.random.split(key)
    weights = jax.random.beta(weight_key, alpha, alpha, (count,))
    order = jax.random.permutation(order_key, count)

    def mix(x):
        weight = weights.astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))
        return weight * x + (1 - weight) * x[order]

    return jax.tree.map(mix, batch)


def _mask(key, steps, *, count, width):
    """Which of `steps` lie in any of `count` masks; each is 0 … width steps long, at a random place: bool[steps]."""
    width_key, start_key = jax.random.split(key)
    widths = jax.random.randint(width_key, (count,), 0, width + 1)
    starts = jax.random.randint(start_key, (count,), 0, steps - widths + 1)
    place = jnp.arange(steps)[None]
    return ((place >= starts[:, None]) & (place < (starts + widths)[:, None])).any(axis=0)


def spec_augment(
    key: jax.Array,
    spectrogram: jax.Array,
    *,
    num_time_masks: int = 2,
    time_width: int = 100,
    num_frequency_masks: int = 2,
    frequency_width: int = 27,
    max_time_fraction: float = 1.0,
    fill: float | None = None,
) -> jax.Array:
    """Cover random stretches of time and bands of frequency of one example.

    The defaults are the paper's LibriSpeech double policy; its time warping is left out (`time_stretch` does more).

    Args:
      key: PRNG key.
      spectrogram: f32[..., T, F], compressed.
      num_time_masks: masks in time (m_T).
      time_width: frames of the longest mask (T).
      num_frequency_masks: masks in frequency (m_F).
      frequency_width: bins of the widest mask (F).
      max_time_fraction: no time mask is longer than this part of the clip (p).
      fill: value under the masks; the mean over the last two axes when None.

    Returns:
      f32[..., T, F].

    Raises:
      ValueError: for negative or fractional counts and widths, a fraction outside of [0, 1], a fill that is not finite.

    Reference: Park et al. (2019), section 2 and table 1 (policy LD).
    """
    checks.integer(
        least=0,
        num_time_masks=num_time_masks,
        time_width=time_width,
        num_frequency_masks=num_frequency_masks,
        frequency_width=frequency_width,
    )
    if not _is_number(max_time_fraction) or not 0 <= max_time_fraction <= 1:
        raise ValueError(f"max_time_fraction={max_time_fraction!r} must lie between 0 and 1")
    if fill is not None and not isinstance(fill, jax.core.Tracer) and (np.ndim(fill) or not _is_number(_plain(fill))):
        raise ValueError(f"fill={fill!r} must be a finite number, or None for the mean")
    spectrogram = checks.as_array(spectrogram, "spectrogram", min_ndim=2)
    frames, bins = spectrogram.shape[-2:]
    time_key, frequency_key = jax.random.split(key)
    longest = min(time_width, int(max_time_fraction * frames))
    hidden_frames = _mask(time_key, frames, count=num_time_masks, width=longest)
    hidden_bins = _mask(frequency_key, bins, count=num_frequency_masks, width=min(frequency_width, bins))
    hidden = (hidden_frames[:, None] | hidden_bins[None]).reshape((1,) * (spectrogram.ndim - 2) + (frames, bins))
    if fill is None:
        value = spectrogram.mean(axis=(-2, -1), keepdims=True)
    else:
        value = jnp.full((1,) * spectrogram.ndim, fill, spectrogram.dtype)
    return jnp.where(hidden, value, spectrogram)

"""Time stretching and pitch shifting on device, at a rate of its own for every clip.

Arrays: audio `[..., N]` → the same shape, whatever the rates: they are traced numbers, one for all clips or one each.
Source: Flanagan & Golden (1966), phase vocoder; Smith (2002), resampling by a windowed sinc.
Names: `time_stretch_by`, `pitch_shift_by`, `phase_vocoder_by`; `augment` draws the rates.
"""

import functools
import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, stft

# The interpolation filter of pitch shifting: zero crossings on each side, and the pass band as a part of the whole.
_ZERO_CROSSINGS = 32
_ROLL_OFF = 0.94
_BLOCK_SAMPLES = 4096


def _for_each_clip(name, value, leading, dtype, *, above=-math.inf, most=math.inf):
    """One number for each clip, [*leading]; what is known of it is held against its bounds, as `dtype` has them."""
    if any(isinstance(part, jax.core.Tracer) for part in jax.tree.leaves(value)):
        value, known = jnp.asarray(value), None
    else:
        value = known = np.asarray(value)
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        raise ValueError(f"{name}={value} is {value.dtype}; give real numbers")
    if value.shape not in ((), leading):
        raise ValueError(f"{name} of shape {value.shape} must be one number or one for each clip {leading}")
    if known is not None:
        with np.errstate(over="ignore"):
            known = known.astype(np.float64).astype(dtype)
        if not (np.isfinite(known) & (known > above) & (known <= np.asarray(most, dtype))).all():
            lower = "" if above == -math.inf else f" above {above:g}"
            upper = "" if most == math.inf else f" and at most {most:g}"
            raise ValueError(f"{name}={value} must be finite{lower}{upper}")
    return jnp.broadcast_to(jnp.asarray(value, dtype), leading)


def clips_with(audio, name, value, *, above=-math.inf, most=math.inf):
    """Audio as [M, N] and one value a clip as [M]; a value that is known is held against its bounds."""
    audio = checks.as_audio(audio)
    values = _for_each_clip(name, value, audio.shape[:-1], audio.dtype, above=above, most=most)
    return audio.reshape(-1, audio.shape[-1]), values.reshape(-1), audio.shape


def _is_rate(rate):
    return (rate > 0) & (rate < jnp.inf)


def _phasor(spectrum):
    """Unit phasors; 1 where the spectrum is 0. Scaled first, so that tiny values keep a finite gradient."""
    size = lax.stop_gradient(jnp.maximum(jnp.abs(spectrum.real), jnp.abs(spectrum.imag)))
    silent = size < jnp.finfo(size.dtype).tiny ** 0.5
    scaled = jnp.where(silent, 1, spectrum / jnp.where(silent, 1, size))
    return scaled / jnp.sqrt(stft.power(scaled))


def _vocode(spectrum, rate, *, num_frames):
    """The spectrum [T, F] of one clip at one rate: [num_frames, F]."""
    steps = jnp.arange(num_frames, dtype=rate.dtype) * jnp.where(_is_rate(rate), rate, jnp.nan)
    before = jnp.floor(steps)
    share = (steps - before)[:, None]
    index = jnp.minimum(before, len(spectrum)).astype(jnp.int32)
    # Two frames of silence behind the last one; all steps beyond fall on them.
    padded = jnp.pad(spectrum, ((0, 2), (0, 0)))
    magnitude = stft.to_power(stft.power(padded), 1)
    phasor = _phasor(padded)
    interpolated = (1 - share) * magnitude[index] + share * magnitude[index + 1]
    advance = phasor[index[:-1] + 1] * jnp.conj(phasor[index[:-1]])
    turns = jnp.concatenate([phasor[:1], advance])
    return interpolated * lax.associative_scan(jnp.multiply, turns)


@functools.partial(jax.jit, static_argnames="num_frames")
def _vocode_all(spectrum, rates, *, num_frames):
    clips = spectrum.reshape(-1, *spectrum.shape[-2:])
    vocode = functools.partial(_vocode, num_frames=num_frames)
    clips = stft.per_clip(vocode, clips, rates.reshape(-1))
    return clips.reshape(*spectrum.shape[:-2], *clips.shape[-2:])


def phase_vocoder_by(spectrum: jax.Array, rate, *, num_frames: int) -> jax.Array:
    """Phase vocoder whose rate may be traced.

    Output frame t has the magnitude interpolated at input frame s = t · rate and the phase
    φ(t) = φ(t − 1) + arg X[⌊s⌋ + 1] − arg X[⌊s⌋] (s of t − 1): advances between neighbouring input frames, accumulated.
    The sum of angles is a product of unit phasors, which stays exact to a few roundings however long the clip.
    Phases jump where t · rate passes a whole frame; the gradient with respect to the rate is that between the jumps.

    Args:
      spectrum: c64[..., T, F].
      rate: above 1 is faster; one number, or one for each clip f32[...]. May be traced: a clip whose traced rate is not
        finite and above 0 becomes NaN throughout.
      num_frames: output frames; those from ⌈T / rate⌉ on are 0.

    Returns:
      c64[..., num_frames, F]: the numbers of `stft.phase_vocoder`, cut or padded.

    Raises:
      ValueError: for a rate that is known and not finite and above 0, rates that do not match the clips, a spectrum
        that is real, empty or not finite.

    Reference: Flanagan & Golden (1966).
    """
    checks.integer(num_frames=num_frames)
    spectrum = jnp.asarray(spectrum)
    if spectrum.ndim < 2 or 0 in spectrum.shape:
        raise ValueError(f"spectrum of shape {spectrum.shape} must be [..., T, F] and not empty")
    if not jnp.issubdtype(spectrum.dtype, jnp.complexfloating):
        raise ValueError(f"spectrum is {spectrum.dtype}; a complex one is needed, as `stft.stft` gives it")
    if not isinstance(spectrum, jax.core.Tracer) and not np.isfinite(np.asarray(spectrum)).all():
        raise ValueError("spectrum holds NaN or infinity; repair or drop such clips")
    rates = _for_each_clip("rate", rate, spectrum.shape[:-2], spectrum.real.dtype, above=0)
    return _vocode_all(spectrum, rates, num_frames=num_frames)


def _stretched(clip, rate, *, length, n_fft, hop_length):
    """The first `length` samples of a clip [N] played `rate` times as fast."""
    # Silence after the clip: its last frames fade as the signal does, and no edge is left to normalise.
    spectrum = stft.stft(jnp.pad(clip, (0, n_fft)), n_fft=n_fft, hop_length=hop_length)
    num_frames = 1 + -(-(length + n_fft // 2) // hop_length)
    spectrum = _vocode(spectrum, rate, num_frames=num_frames)
    return stft.istft(spectrum, n_fft=n_fft, hop_length=hop_length, length=length)


@functools.partial(jax.jit, static_argnames=("n_fft", "hop_length", "fit"))
def _time_stretch(clips, rates, *, n_fft, hop_length, fit):
    num_samples = clips.shape[-1]

    def stretch(clip, rate):
        audio = _stretched(clip, rate, length=num_samples, n_fft=n_fft, hop_length=hop_length)
        kept = jnp.where(_is_rate(rate), jnp.clip(jnp.round(num_samples / rate), 1, num_samples), num_samples)
        kept = kept.astype(jnp.int32)
        samples = jnp.arange(num_samples)
        return audio[samples % kept] if fit == "repeat" else jnp.where(samples < kept, audio, 0)

    return stft.per_clip(stretch, clips, rates)


def time_stretch_by(
    audio: jax.Array, rate, *, n_fft: int = 2048, hop_length: int | None = None, fit: str = "zero"
) -> jax.Array:
    """Play clips faster or slower at the same pitch, each at its own rate.

    A phase vocoder loses level where neighbouring bins fall out of phase: the RMS of white noise becomes 0.84 of itself
    at rate 0.5, 0.69 at 0.8, 0.67 at 1.25 and 0.66 at 2, as in librosa. Music loses about as much, a steady tone less
    (0.87 at rate 0.5).

    Args:
      audio: f32[..., N].
      rate: above 1 is faster; one number, or one for each clip f32[...]. May be traced: a clip whose traced rate is not
        finite and above 0 becomes NaN throughout.
      n_fft: frame length of the phase vocoder in samples.
      hop_length: samples from frame to frame; n_fft // 4 when None.
      fit: what follows the round(N / rate) samples of a faster clip: `zero`, or `repeat` for the clip from its start.
        A slower clip is cut after N samples.

    Returns:
      f32[..., N].

    Raises:
      ValueError: for a rate that is known and not finite and above 0, rates that do not match the clips, an unknown
        `fit`.

    Reference: Flanagan & Golden (1966); Schlüter & Grill (2015) for its use.
    """
    clips, rates, shape = clips_with(audio, "rate", rate, above=0)
    checks.choice("fit", fit, ("zero", "repeat"))
    hop_length, _ = stft.windowed(n_fft, hop_length, None, "hann")
    return _time_stretch(clips, rates, n_fft=n_fft, hop_length=hop_length, fit=fit).reshape(shape)


def _multiply(n, fraction):
    """n · fraction / 2³² for uint32 numbers, exactly: (whole part, fraction of 2³²)."""
    mask = jnp.uint32(0xFFFF)
    n_low, n_high, f_low, f_high = n & mask, n >> 16, fraction & mask, fraction >> 16
    middle = n_high * f_low + (n_low * f_low >> 16)
    other = n_low * f_high + (middle & mask)
    return n_high * f_high + (middle >> 16) + (other >> 16), n * fraction


def _sinc(cutoff, taps, shift):
    """Blackman-windowed sinc(c τ) at τ = taps − shift, by the addition theorems: no sine is taken for each pair."""

    def turn(speed):
        at_taps, at_shift = speed * taps, speed * shift
        sines = jnp.sin(at_taps) * jnp.cos(at_shift) - jnp.cos(at_taps) * jnp.sin(at_shift)
        cosines = jnp.cos(at_taps) * jnp.cos(at_shift) + jnp.sin(at_taps) * jnp.sin(at_shift)
        return sines, cosines

    angle = np.pi * cutoff * (taps - shift)
    near = jnp.abs(angle) < 0.3  # there the difference of the two products has lost its digits
    square = jnp.where(near, angle, 0) ** 2
    series = functools.reduce(lambda total, n: 1 - total * square / (n * (n + 1)), (12, 10, 8, 6, 4, 2), 1)
    sinc = jnp.where(near, series, turn(np.pi * cutoff)[0] / jnp.where(near, 1, angle))
    cosine = turn(np.pi / _ZERO_CROSSINGS * cutoff)[1]
    window = 0.34 + 0.5 * cosine + 0.16 * cosine**2  # Blackman, with cos 2a = 2 cos² a − 1
    return jnp.where(jnp.abs(angle) < np.pi * _ZERO_CROSSINGS, sinc * window, 0)


def _resampled(signal, ratio, *, length, most):
    """signal [M] read at n · ratio, n < length, by a windowed sinc that passes what the new rate can hold.

    h(τ) = sinc(c τ) · Blackman(c τ), |c τ| ≤ 32, c = 0.94 · min(1, 1 / ratio), over its own sum.
    """
    drift = ratio - lax.stop_gradient(ratio)  # 0, with the derivative that whole numbers have lost
    ratio = jnp.where(_is_rate(ratio), ratio, jnp.nan)
    half = math.ceil(_ZERO_CROSSINGS * max(1, most) / _ROLL_OFF)
    padded = jnp.pad(signal, (half, 2 * half))
    blocks = -(-length // _BLOCK_SAMPLES)
    # Positions as whole samples and 32 bits of fraction: a float would lose the phase after some seconds.
    whole = jnp.floor(ratio)
    fraction = ((ratio - whole) * 2.0**32).astype(jnp.uint32)
    cutoff = _ROLL_OFF * jnp.minimum(1, 1 / ratio)
    taps = jnp.arange(1 - half, half + 1, dtype=signal.dtype)[None]

    def block(start):
        n = start + jnp.arange(_BLOCK_SAMPLES, dtype=jnp.uint32)
        carried, rest = _multiply(n, fraction)
        first = jnp.minimum((n * whole.astype(jnp.uint32) + carried).astype(jnp.int32) + 1, len(signal) + half)
        windows = jax.vmap(lambda i: lax.dynamic_slice(padded, (i,), (2 * half,)))(first)
        shift = rest.astype(signal.dtype) * 2.0**-32 + n.astype(signal.dtype) * drift
        weights = _sinc(cutoff, taps, shift[:, None])
        return (windows * weights).sum(axis=-1) / weights.sum(axis=-1)

    starts = jnp.arange(blocks, dtype=jnp.uint32) * jnp.uint32(_BLOCK_SAMPLES)
    return lax.map(block, starts).reshape(-1)[:length]


@functools.partial(jax.jit, static_argnames=("n_fft", "hop_length", "most"))
def _pitch_shift(clips, semitones, *, n_fft, hop_length, most):
    num_samples = clips.shape[-1]

    def shift(clip, semitones):
        ratio = jnp.minimum(jnp.exp2(semitones / 12), most)
        length = math.ceil(num_samples * max(1, most))
        audio = _stretched(clip, 1 / ratio, length=length, n_fft=n_fft, hop_length=hop_length)
        return _resampled(audio, ratio, length=num_samples, most=most)

    return stft.per_clip(shift, clips, semitones)


def pitch_shift_by(
    audio: jax.Array,
    semitones,
    *,
    n_fft: int = 2048,
    hop_length: int | None = None,
    max_semitones: float = 12.0,
) -> jax.Array:
    """Raise or lower the pitch of clips at the same speed, each by its own interval.

    Stretched in time by 2^(semitones / 12), then read that much faster through an interpolation filter whose cut-off
    goes down with the new rate.

    Args:
      audio: f32[..., N].
      semitones: positive is higher; one number, or one for each clip f32[...]; fractions are welcome. May be traced: a
        clip whose traced shift is NaN becomes NaN throughout.
      n_fft: frame length of the phase vocoder in samples.
      hop_length: samples from frame to frame; n_fft // 4 when None.
      max_semitones: the highest shift, which decides the size of the work; a traced shift above it is limited to it.

    Returns:
      f32[..., N].

    Raises:
      ValueError: for a shift that is known and above `max_semitones` or not finite, or shifts that do not match the
        clips.

    Reference: Flanagan & Golden (1966); Smith (2002), "Digital audio resampling".
    """
    real = isinstance(max_semitones, numbers.Real) and not isinstance(max_semitones, bool)
    if not real or not 0 <= max_semitones < math.inf:
        raise ValueError(f"max_semitones={max_semitones!r} must be a number of at least 0")
    clips, semitones, shape = clips_with(audio, "semitones", semitones, most=max_semitones)
    hop_length, _ = stft.windowed(n_fft, hop_length, None, "hann")
    most = float(2 ** (max_semitones / 12))
    return _pitch_shift(clips, semitones, n_fft=n_fft, hop_length=hop_length, most=most).reshape(shape)

"""Time stretching and pitch shifting on device, at a rate of its own for every clip.

Arrays: audio `[..., N]` → the same shape, whatever the rates: they are traced numbers, one for all clips or one each.
Source: Flanagan & Golden (1966), phase vocoder; Smith (2002), resampling by a windowed sinc.
Names: `time_stretch_by`, `pitch_shift_by`, `phase_vocoder_by`; `augment` draws the rates.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, stft

# The interpolation filter of pitch shifting: zero crossings on each side, and the pass band as a part of the whole.
_ZERO_CROSSINGS = 32
_ROLL_OFF = 0.94
_BLOCK_SAMPLES = 4096


def clips_with(audio, name, value, *, above=-math.inf, most=math.inf):
    """Audio as [M, N] and one value a clip as [M]; a value that is known is held against its bounds."""
    audio = checks.as_audio(audio)
    leading = audio.shape[:-1]
    if np.shape(value) not in ((), leading):
        raise ValueError(f"{name} of shape {np.shape(value)} must be one number or one for each clip {leading}")
    if not isinstance(value, jax.core.Tracer):
        known = np.asarray(value, np.float64)
        if not (np.isfinite(known) & (known > above) & (known <= most)).all():
            lower = "" if above == -math.inf else f" above {above:g}"
            upper = "" if most == math.inf else f" and at most {most:g}"
            raise ValueError(f"{name}={value} must be finite{lower}{upper}")
    values = jnp.broadcast_to(jnp.asarray(value, audio.dtype), leading)
    return audio.reshape(-1, audio.shape[-1]), values.reshape(-1), audio.shape


def _phasor(spectrum):
    """Unit phasors; 1 where the spectrum is 0. Scaled first, so that tiny values keep a finite gradient."""
    size = lax.stop_gradient(jnp.maximum(jnp.abs(spectrum.real), jnp.abs(spectrum.imag)))
    silent = size < jnp.finfo(size.dtype).tiny ** 0.5
    scaled = jnp.where(silent, 1, spectrum / jnp.where(silent, 1, size))
    return scaled / jnp.sqrt(stft.power(scaled))


@functools.partial(jax.jit, static_argnames="num_frames")
def _vocode(spectrum, rate, *, num_frames):
    frames = spectrum.shape[-2]
    steps = jnp.arange(num_frames, dtype=spectrum.real.dtype) * rate
    before = jnp.floor(steps)
    share = (steps - before)[:, None].reshape((1,) * (spectrum.ndim - 2) + (-1, 1))
    index = jnp.minimum(before, frames).astype(jnp.int32)
    # Two frames of silence behind the last one; all steps beyond fall on them.
    padded = jnp.pad(spectrum, [(0, 0)] * (spectrum.ndim - 2) + [(0, 2), (0, 0)])
    magnitude = stft.to_power(stft.power(padded), 1)
    phasor = _phasor(padded)

    def at(values, index):
        return jnp.take(values, index, axis=-2)

    interpolated = (1 - share) * at(magnitude, index) + share * at(magnitude, index + 1)
    advance = at(phasor, index[:-1] + 1) * jnp.conj(at(phasor, index[:-1]))
    turns = jnp.concatenate([phasor[..., :1, :], advance], axis=-2)
    return interpolated * lax.associative_scan(jnp.multiply, turns, axis=turns.ndim - 2)


def phase_vocoder_by(spectrum: jax.Array, rate, *, num_frames: int) -> jax.Array:
    """Phase vocoder whose rate may be traced.

    Output frame t has the magnitude interpolated at input frame s = t · rate and the phase
    φ(t) = φ(t − 1) + arg X[⌊s⌋ + 1] − arg X[⌊s⌋] (s of t − 1): advances between neighbouring input frames, accumulated.
    The sum of angles is a product of unit phasors, which stays exact to a few roundings however long the clip.

    Args:
      spectrum: c64[..., T, F].
      rate: one number above 0 for all clips; above 1 is faster.
      num_frames: output frames; those from ⌈T / rate⌉ on are 0.

    Returns:
      c64[..., num_frames, F]: the numbers of `stft.phase_vocoder`, cut or padded.

    Reference: Flanagan & Golden (1966).
    """
    checks.integer(num_frames=num_frames)
    return _vocode(spectrum, rate, num_frames=num_frames)


def _stretched(clip, rate, *, length, n_fft, hop_length):
    """The first `length` samples of a clip [N] played `rate` times as fast."""
    # Silence after the clip: its last frames fade as the signal does, and no edge is left to normalise.
    spectrum = stft.stft(jnp.pad(clip, (0, n_fft)), n_fft=n_fft, hop_length=hop_length)
    num_frames = 1 + -(-(length + n_fft // 2) // hop_length)
    spectrum = phase_vocoder_by(spectrum, rate, num_frames=num_frames)
    return stft.istft(spectrum, n_fft=n_fft, hop_length=hop_length, length=length)


@functools.partial(jax.jit, static_argnames=("n_fft", "hop_length", "fit"))
def _time_stretch(clips, rates, *, n_fft, hop_length, fit):
    num_samples = clips.shape[-1]

    def stretch(clip, rate):
        audio = _stretched(clip, rate, length=num_samples, n_fft=n_fft, hop_length=hop_length)
        kept = jnp.clip(jnp.round(num_samples / rate), 1, num_samples).astype(jnp.int32)
        samples = jnp.arange(num_samples)
        return audio[samples % kept] if fit == "repeat" else jnp.where(samples < kept, audio, 0)

    return stft.per_clip(stretch, clips, rates)


def time_stretch_by(
    audio: jax.Array, rate, *, n_fft: int = 2048, hop_length: int | None = None, fit: str = "zero"
) -> jax.Array:
    """Play clips faster or slower at the same pitch, each at its own rate.

    Args:
      audio: f32[..., N].
      rate: above 1 is faster; one number, or one for each clip f32[...]. May be traced.
      n_fft: frame length of the phase vocoder in samples.
      hop_length: samples from frame to frame; n_fft // 4 when None.
      fit: what follows the round(N / rate) samples of a faster clip: `zero`, or `repeat` for the clip from its start.
        A slower clip is cut after N samples.

    Returns:
      f32[..., N].

    Raises:
      ValueError: for a rate that is known and not above 0, rates that do not match the clips, an unknown `fit`.

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
        weights = _sinc(cutoff, taps, rest.astype(signal.dtype)[:, None] * 2.0**-32)
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
      semitones: positive is higher; one number, or one for each clip f32[...]. May be traced; fractions are welcome.
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
    if not 0 <= max_semitones < math.inf:
        raise ValueError(f"max_semitones={max_semitones!r} must be a number of at least 0")
    clips, semitones, shape = clips_with(audio, "semitones", semitones, most=max_semitones)
    hop_length, _ = stft.windowed(n_fft, hop_length, None, "hann")
    most = float(2 ** (max_semitones / 12))
    return _pitch_shift(clips, semitones, n_fft=n_fft, hop_length=hop_length, most=most).reshape(shape)

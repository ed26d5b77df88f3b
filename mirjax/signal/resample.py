"""Resampling between any two rates whose ratio is a fraction of moderate terms.

Arrays: audio f32[..., N] → f32[..., ⌈N · up / down⌉], up / down = target_rate / orig_rate in lowest terms.
Source: the polyphase form of a windowed-sinc filter (Crochiere & Rabiner 1983, chapter 3; Kaiser's window).

Output n is the continuous filter g laid over the samples around input time n · down / up:
y[n] = Σ_k x[k] g(n · down / up − k). The pattern of weights repeats every `up` outputs, so outputs are computed in
frames: `hop_length` samples further in, the same matrices give the next outputs. The filter is symmetric: no delay.
Names: `resample`, `plan`, `Plan`, `resample_frames`, `rational`, `prototype`.
"""

import dataclasses
import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, stft

_LARGEST_FACTOR = 16_384
# Outputs of one matrix product. With the default filter its columns then overlap by two thirds or more.
_GROUP = 128


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """How to resample by up / down in frames, all of them alike.

    Attributes:
      up, down: the ratio in lowest terms.
      frame_length: input samples that one frame of outputs depends on.
      hop_length: input samples from frame to frame.
      before: samples of the first frame that lie before the clip (zeros).
      num_outputs: output samples a frame.
      groups: (first sample in the frame, weights f64[samples, outputs]) of successive runs of outputs.
    """

    up: int
    down: int
    frame_length: int
    hop_length: int
    before: int
    num_outputs: int
    groups: tuple[tuple[int, np.ndarray], ...]


def rational(orig_rate: float, target_rate: float) -> tuple[int, int]:
    """(up, down) = target_rate / orig_rate in lowest terms, both at most 16,384.

    A ratio of larger terms is replaced by its neighbour when that is within 1e-8 of it (44,100 / 1.001 hertz).

    Raises:
      ValueError: for rates that are not above 0, and where no fraction of such terms is near enough.
    """
    checks.positive(orig_rate=orig_rate, target_rate=target_rate)
    orig, target = (Fraction(int(r) if r == int(r) else float(r)) for r in (orig_rate, target_rate))
    exact = target / orig
    # The larger term is the denominator of the ratio that is below 1.
    below = min(exact, 1 / exact)
    near = below.limit_denominator(_LARGEST_FACTOR)
    if abs(near / below - 1) > 1e-8:
        raise ValueError(
            f"target_rate / orig_rate = {target_rate} / {orig_rate} needs a fraction of terms above {_LARGEST_FACTOR}; "
            f"choose rates of a simpler ratio, such as {_simpler(exact)}"
        )
    up, down = (near.numerator, near.denominator) if exact <= 1 else (near.denominator, near.numerator)
    return up, down


def _simpler(ratio):
    if ratio < 1:
        near = ratio.limit_denominator(1000) or Fraction(1, _LARGEST_FACTOR)
    else:
        near = 1 / ((1 / ratio).limit_denominator(1000) or Fraction(1, _LARGEST_FACTOR))
    return f"{near.numerator} / {near.denominator}"


def prototype(up: int, down: int, *, num_zeros: int = 128, rolloff: float = 0.975, beta: float = 10.2) -> np.ndarray:
    """Low-pass filter at `up` times the input rate, f64[2 · half + 1]: a sinc under a Kaiser window; it sums to `up`.

    Args:
      up, down: the ratio.
      num_zeros: zero crossings of the sinc on either side.
      rolloff: −6 dB point as a fraction of the lower of the two Nyquist frequencies.
      beta: the window's shape.
    """
    largest = max(up, down)
    width = num_zeros * largest / rolloff
    j = np.arange(-int(width), int(width) + 1)
    weights = np.sinc(j * (rolloff / largest)) * np.i0(beta * np.sqrt(np.maximum(0, 1 - (j / width) ** 2)))
    return weights * (up / weights.sum())


@functools.lru_cache(maxsize=32)
def plan(
    *, orig_rate: float, target_rate: float, num_zeros: int = 128, rolloff: float = 0.975, beta: float = 10.2
) -> Plan:
    """Frames and weights that resample from `orig_rate` to `target_rate`; arguments and errors as `resample`."""
    up, down = rational(orig_rate, target_rate)
    checks.integer(num_zeros=num_zeros)
    checks.positive(rolloff=rolloff)
    if rolloff > 1:
        raise ValueError(f"rolloff={rolloff!r} is above 1, the lower Nyquist frequency; choose 0 < rolloff <= 1")
    if not 0 <= beta < np.inf:
        raise ValueError(f"beta={beta!r} must be a number of at least 0; 10 gives about 100 dB of rejection")
    weights = prototype(up, down, num_zeros=num_zeros, rolloff=rolloff, beta=beta)
    half = len(weights) // 2
    before = half // up
    repeats = max(1, round(_GROUP / up))
    num_outputs = repeats * up
    groups = []
    for outputs in np.array_split(np.arange(num_outputs), -(-num_outputs // _GROUP)):
        first = -((half - int(outputs[0]) * down) // up)
        last = (int(outputs[-1]) * down + half) // up
        # Tap at high-rate distance i · down − k · up between output i and input k.
        distance = outputs * down - np.arange(first, last + 1)[:, None] * up
        matrix = np.where(np.abs(distance) <= half, weights[np.clip(distance + half, 0, 2 * half)], 0.0)
        matrix.setflags(write=False)
        groups.append((first + before, matrix))
    start, matrix = groups[-1]
    return Plan(up, down, start + len(matrix), repeats * down, before, num_outputs, tuple(groups))


def resample_frames(frames: jax.Array, plan: Plan) -> jax.Array:
    """Outputs of frames of input: f32[..., plan.frame_length] → f32[..., plan.num_outputs].

    Frame t begins at input sample t · plan.hop_length − plan.before and gives the outputs from t · plan.num_outputs on.
    """
    runs = [
        jnp.matmul(
            frames[..., start : start + len(matrix)],
            jnp.asarray(matrix, frames.dtype),
            precision=lax.Precision.HIGHEST,
        )
        for start, matrix in plan.groups
    ]
    return runs[0] if len(runs) == 1 else jnp.concatenate(runs, axis=-1)


@functools.partial(jax.jit, static_argnames=("plan",))
def _resample(audio, plan):
    num_samples = audio.shape[-1]
    length = -(-num_samples * plan.up // plan.down)
    frames = -(-length // plan.num_outputs)
    after = max(0, (frames - 1) * plan.hop_length + plan.frame_length - plan.before - num_samples)

    def run(clip):
        output = stft.map_frames(
            jnp.pad(clip, (plan.before, after)),
            lambda part: resample_frames(part, plan),
            frame_length=plan.frame_length,
            hop_length=plan.hop_length,
            center=False,
        )
        return output[:frames].reshape(-1)[:length]

    # Clip by clip: a batch's outputs, frames and padding at once would be paged in anew at every call.
    output = stft.per_clip(run, audio.reshape(-1, num_samples))
    return output.reshape(*audio.shape[:-1], length)


def resample(
    audio: jax.Array,
    *,
    orig_rate: float,
    target_rate: float,
    num_zeros: int = 128,
    rolloff: float = 0.975,
    beta: float = 10.2,
    scale: bool = False,
) -> jax.Array:
    """Resample audio with a linear-phase polyphase filter; zeros are assumed outside the clip.

    With the defaults the pass band is flat within 0.0001 dB up to 0.95 of the lower Nyquist frequency, and what lies
    above that frequency is at least 101 dB down. num_zeros=32, rolloff=0.9 is quicker and ends the pass band at 0.8
    with the same rejection.

    Args:
      audio: f32[..., N].
      orig_rate: hertz.
      target_rate: hertz.
      num_zeros: zero crossings of the filter on either side: its length.
      rolloff: cut-off (−6 dB) as a fraction of the lower Nyquist frequency, at most 1.
      beta: shape of the Kaiser window: more rejection and a wider transition as it grows.
      scale: divide by √(target_rate / orig_rate), so that the energy (not the level) stays.

    Returns:
      f32[..., ⌈N · target_rate / orig_rate⌉]; the input itself where the rates agree.

    Raises:
      ValueError: for rates that are not above 0 or whose ratio is no fraction of terms up to 16,384, for a filter
        outside the ranges above, and for integer, empty or non-finite audio.

    Reference: Crochiere & Rabiner (1983), Multirate Digital Signal Processing, chapter 3; Smith, Digital Audio
      Resampling (https://ccrma.stanford.edu/~jos/resample/).
    """
    audio = checks.as_audio(audio)
    settings = plan(orig_rate=orig_rate, target_rate=target_rate, num_zeros=num_zeros, rolloff=rolloff, beta=beta)
    if settings.up == settings.down:
        return audio
    output = _resample(audio, settings)
    return output / (settings.up / settings.down) ** 0.5 if scale else output

"""Resampling between any two rates.

Arrays: audio f32[..., N] → f32[..., ⌈N · up / down⌉], up / down = target_rate / orig_rate in lowest terms.
Source: the polyphase form of a windowed-sinc filter (Crochiere & Rabiner 1983, chapter 3; Kaiser's window).

Output n is the continuous filter g laid over the samples around input time n · down / up:
y[n] = Σ_k x[k] g(n · down / up − k). The pattern of weights repeats every `up` outputs, so outputs are computed in
frames: `hop_length` samples further in, the same matrices give the next outputs. The filter is symmetric: no delay.
Where the matrices would hold too many numbers (16,000 → 16,001) they are computed from the formula of g, block of
outputs by block, where they are needed.
Names: `resample`, `plan`, `Plan`, `resample_frames`, `rational`, `prototype`.
"""

import dataclasses
import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import i0e

from mirjax.signal import checks, stft

_SMALL_TERMS = 16_384
_LARGEST_TERMS = 1 << 20
# Outputs of one matrix product. With the default filter its columns then overlap by two thirds or more.
_GROUP = 128
_MATRIX_VALUES = 1 << 20
_LONGEST_FILTER = 1 << 23
# Frames up to here go through `stft.map_frames`, 128 at a time; of longer ones, as many as make up the second number.
_LONG_FRAME = 1 << 16
_FRAME_VALUES = 1 << 22


@dataclasses.dataclass(frozen=True, eq=False)
class _Formula:
    """Weights that are computed when they are needed, block of outputs by block.

    Attributes:
      block: outputs a block.
      width: input samples a block.
      starts: first input sample of each block in the frame, i32[blocks].
      offsets: distance from that sample to the block's first output at `up` times the input rate, i32[blocks].
      half: longest distance of a weight that is not 0.
      slope: zero crossings a step at the high rate.
      width_of_window: half the window's width, may be fractional.
      beta: the window's shape.
      gain: weight at distance 0.
    """

    block: int
    width: int
    starts: np.ndarray
    offsets: np.ndarray
    half: int
    slope: float
    width_of_window: float
    beta: float
    gain: float


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """How to resample by up / down in frames, all of them alike.

    Attributes:
      up, down: the ratio in lowest terms.
      frame_length: input samples that one frame of outputs depends on.
      hop_length: input samples from frame to frame.
      before: samples of the first frame that lie before the clip (zeros).
      num_outputs: output samples a frame.
      groups: (first sample in the frame, weights f64[samples, outputs]) of successive runs of outputs; none where the
        weights are too many and `formula` computes them.
      formula: what computes them.
    """

    up: int
    down: int
    frame_length: int
    hop_length: int
    before: int
    num_outputs: int
    groups: tuple[tuple[int, np.ndarray], ...]
    formula: _Formula | None = None


def rational(orig_rate: float, target_rate: float) -> tuple[int, int]:
    """(up, down) = target_rate / orig_rate in lowest terms, both at most 1,048,576.

    A ratio of terms above 16,384 is replaced by its neighbour among the smaller ones when that is within 1e-8 of it
    (44,100 / 1.001 hertz), and one above the limit by its neighbour below.

    Raises:
      ValueError: for rates that are not above 0, and where no fraction of such terms is near enough.
    """
    checks.positive(orig_rate=orig_rate, target_rate=target_rate)
    orig, target = (Fraction(int(r) if r == int(r) else float(r)) for r in (orig_rate, target_rate))
    exact = target / orig
    # The larger term is the denominator of the ratio that is below 1.
    below = min(exact, 1 / exact)
    for largest in (_SMALL_TERMS, _LARGEST_TERMS):
        near = below.limit_denominator(largest)
        if abs(near / below - 1) <= 1e-8:
            return (near.numerator, near.denominator) if exact <= 1 else (near.denominator, near.numerator)
    if near:
        instead = float(orig * near if exact <= 1 else orig / near)
        remedy = f"target_rate={instead!r} is {float(abs(near / below - 1)):.1g} away and has one"
    else:
        remedy = "resample in two steps"
    raise ValueError(
        f"target_rate={target_rate} / orig_rate={orig_rate} is no fraction of terms up to {_LARGEST_TERMS}; {remedy}"
    )


def prototype(up: int, down: int, *, num_zeros: int = 128, rolloff: float = 0.975, beta: float = 10.2) -> np.ndarray:
    """Low-pass filter at `up` times the input rate, f64[2 · half + 1]: a sinc under a Kaiser window; it sums to `up`.

    Args:
      up, down: the ratio.
      num_zeros: zero crossings of the sinc on either side.
      rolloff: −6 dB point as a fraction of the lower of the two Nyquist frequencies.
      beta: the window's shape.
    """
    largest = max(up, down)
    width = _width(up, down, num_zeros, rolloff)
    j = np.arange(-int(width), int(width) + 1)
    weights = np.sinc(j * (rolloff / largest)) * np.i0(beta * np.sqrt(np.maximum(0, 1 - (j / width) ** 2)))
    return weights * (up / weights.sum())


def _width(up, down, num_zeros, rolloff):
    """Half the filter's width in steps at `up` times the input rate."""
    return num_zeros * max(up, down) / rolloff


def _group_size(taps, ratio):
    """Most outputs of one product, at most 128, whose weights (taps + outputs · ratio) · outputs keep in the budget."""
    most = (np.sqrt(taps**2 + 4 * ratio * _MATRIX_VALUES) - taps) / (2 * ratio)
    return max(1, min(_GROUP, int(most)))


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
    if not 0 <= beta <= 700:
        raise ValueError(f"beta={beta!r} must be a number from 0 to 700; 10 gives about 100 dB of rejection")
    half = int(_width(up, down, num_zeros, rolloff))
    taps = 2 * half // up + 1
    group = _group_size(taps, down / up)
    # Distances at the high rate are 32-bit numbers where weights are computed.
    if taps > _LONGEST_FILTER or 2 * half + group * down + up >= 1 << 31:
        raise ValueError(
            f"resampling by {up} / {down} with num_zeros={num_zeros} and rolloff={rolloff} takes a filter of {taps} "
            "samples; lower num_zeros, or resample in two steps, the first by a simple ratio"
        )
    before = half // up
    num_outputs = max(1, round(group / up)) * up
    runs = np.array_split(np.arange(num_outputs), -(-num_outputs // group))
    if num_outputs * (taps + len(runs[0]) * down // up) > _MATRIX_VALUES:
        formula = _formula(up, down, num_outputs, group, num_zeros, rolloff, beta)
        frame_length = int(formula.starts[-1]) + formula.width
        return Plan(up, down, frame_length, num_outputs // up * down, before, num_outputs, (), formula)
    weights = prototype(up, down, num_zeros=num_zeros, rolloff=rolloff, beta=beta)
    groups = []
    for outputs in runs:
        first = -((half - int(outputs[0]) * down) // up)
        last = (int(outputs[-1]) * down + half) // up
        # Tap at high-rate distance i · down − k · up between output i and input k.
        distance = outputs * down - np.arange(first, last + 1)[:, None] * up
        matrix = np.where(np.abs(distance) <= half, weights[np.clip(distance + half, 0, 2 * half)], 0.0)
        matrix.setflags(write=False)
        groups.append((first + before, matrix))
    start, matrix = groups[-1]
    return Plan(up, down, start + len(matrix), num_outputs // up * down, before, num_outputs, tuple(groups))


def _formula(up, down, num_outputs, block, num_zeros, rolloff, beta):
    width = _width(up, down, num_zeros, rolloff)
    half = int(width)
    first_outputs = np.arange(0, num_outputs, block, dtype=np.int64) * down
    starts = -((half - first_outputs) // up)
    # The sum of all weights by Simpson's rule: the steps at the high rate are so small that it is the integral.
    x = np.linspace(0, 1, 64 * num_zeros + 1)
    values = np.sinc(x * num_zeros) * np.i0(beta * np.sqrt(1 - x**2)) / np.i0(beta)
    mean = (values[0] + 4 * values[1::2].sum() + 2 * values[2:-1:2].sum() + values[-1]) / (3 * (len(x) - 1))
    return _Formula(
        block,
        (2 * half + (block - 1) * down) // up + 1,
        (starts + half // up).astype(np.int32),
        (first_outputs - starts * up).astype(np.int32),
        half,
        num_zeros / width,
        width,
        beta,
        up / (2 * width * mean),
    )


def _weights(formula, offset, up, down, dtype):
    """Weights [width, block] of the block whose first output lies `offset` steps after its first sample."""
    outputs, samples = (jnp.arange(n, dtype=jnp.int32) for n in (formula.block, formula.width))
    steps = (offset + outputs * down)[None] - (samples * up)[:, None]
    distance = steps.astype(dtype)
    root = jnp.sqrt(jnp.maximum(0, 1 - (distance / formula.width_of_window) ** 2))
    # I₀(βr) / I₀(β) without their overflow.
    window = i0e(formula.beta * root) / i0e(jnp.asarray(formula.beta, dtype)) * jnp.exp(formula.beta * (root - 1))
    return jnp.where(jnp.abs(steps) <= formula.half, formula.gain * jnp.sinc(distance * formula.slope) * window, 0)


def _by_formula(frames, plan, num_outputs):
    """The first `num_outputs` outputs of each frame."""
    formula = plan.formula
    blocks = -(-num_outputs // formula.block)

    # Linear in the frames: the weights are computed again in the backward pass, not kept.
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def respond(place):
        start, offset = place
        part = lax.dynamic_slice_in_dim(frames, start, formula.width, axis=-1)
        weights = _weights(formula, offset, plan.up, plan.down, frames.dtype)
        return jnp.matmul(part, weights, precision=lax.Precision.HIGHEST)

    output = lax.map(respond, (jnp.asarray(formula.starts[:blocks]), jnp.asarray(formula.offsets[:blocks])))
    return jnp.moveaxis(output, 0, -2).reshape(*frames.shape[:-1], -1)[..., :num_outputs]


def resample_frames(frames: jax.Array, plan: Plan) -> jax.Array:
    """Outputs of frames of input: f32[..., plan.frame_length] → f32[..., plan.num_outputs].

    Frame t begins at input sample t · plan.hop_length − plan.before and gives the outputs from t · plan.num_outputs on.

    Raises:
      ValueError: for frames of another length, and for integer, empty or non-finite ones.
    """
    frames = checks.as_array(frames, "frames")
    if frames.shape[-1] != plan.frame_length:
        raise ValueError(f"frames of {frames.shape[-1]} samples; this plan needs {plan.frame_length} (frame_length)")
    if plan.formula is not None:
        return _by_formula(frames, plan, plan.num_outputs)
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
        clip = jnp.pad(clip, (plan.before, after))
        if plan.formula is not None and frames == 1:
            return _by_formula(clip[: plan.frame_length], plan, length)
        if plan.frame_length <= _LONG_FRAME and plan.formula is None:
            output = stft.map_frames(
                clip,
                lambda part: resample_frames(part, plan),
                frame_length=plan.frame_length,
                hop_length=plan.hop_length,
                center=False,
            )
        else:

            def take(start):
                return resample_frames(lax.dynamic_slice(clip, (start,), (plan.frame_length,)), plan)

            starts = jnp.arange(frames, dtype=jnp.int32) * plan.hop_length
            output = lax.map(take, starts, batch_size=min(frames, max(1, _FRAME_VALUES // plan.frame_length)))
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
      beta: shape of the Kaiser window, at most 700: more rejection and a wider transition as it grows.
      scale: divide by √(target_rate / orig_rate), so that the energy (not the level) stays.

    Returns:
      f32[..., ⌈N · target_rate / orig_rate⌉]; the input itself where the rates agree.

    Raises:
      ValueError: for rates that are not above 0 or whose ratio is no fraction of terms up to 1,048,576, for a filter
        outside the ranges above or longer than 8 million samples, and for integer, empty or non-finite audio.

    Reference: Crochiere & Rabiner (1983), Multirate Digital Signal Processing, chapter 3; Smith, Digital Audio
      Resampling (https://ccrma.stanford.edu/~jos/resample/).
    """
    audio = checks.as_audio(audio)
    settings = plan(orig_rate=orig_rate, target_rate=target_rate, num_zeros=num_zeros, rolloff=rolloff, beta=beta)
    if settings.up == settings.down:
        return audio
    output = _resample(audio, settings)
    return output / (settings.up / settings.down) ** 0.5 if scale else output

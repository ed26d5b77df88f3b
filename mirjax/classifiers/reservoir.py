"""A random recurrent layer over sequences of frames, and what a clip's sequence is.

Conventions
-----------
A clip is a sequence of frames u_t, `f[T, F]`; M clips are a list of such arrays, or `f[M, T, F]` with `lengths int[M]`
(frames from a clip's length on are padding). H units hold the state

    s_t = (1 − a) s_{t−1} + a tanh(W_in u_t + W s_{t−1} + b),    s_0 = 0,

with leak rate a, and W rescaled so that its largest |eigenvalue| is the spectral radius. Nothing is trained. Padding
changes nothing, nor do a clip's neighbours: to the last bit, as clips are computed in blocks of one size. Run backwards
too (`bidirectional`), the same weights meet the frames from last to first, and the states of both directions stand side
by side.

Source
------
Jaeger (2001), The "echo state" approach to analysing and training recurrent neural networks, GMD report 148; Jaeger,
Lukoševičius, Popovici and Siewert (2007), Optimization and applications of echo state networks with leaky-integrator
neurons.

Names
-----
* `Reservoir`: the recurrent layer; `Reservoir.draw` draws one
* `as_sequences`: clips as a list of f64[T, F], checked
* `segment_weights`: the mean over parts of a clip as weights of its frames
* `BLOCK`: clips that are computed together
"""

import dataclasses
import functools
from collections.abc import Sequence
from numbers import Integral, Real

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.classifiers.arithmetic import check_bytes, double_precision, one_blas_thread

BLOCK = 64  # clips of one compiled program; the last block is filled up, so that a clip's digits are its own
STEP = 32  # frames are padded to a multiple of it: few programs for many lengths


def segment_weights(length: int, segments: int) -> np.ndarray:
    """Weights of a clip's frames in the means over its equal parts.

    Frame t lasts from t to t + 1, part j from jT/S to (j + 1)T/S; a frame counts in a part as much as they overlap:

        w_jt = S/T · max(0, min(t + 1, (j + 1)T/S) − max(t, jT/S)).

    Args:
        length: T frames, at least 1.
        segments: S parts, at least 1; more than there are frames repeat them.

    Returns:
        f64[S, T], every row summing to 1.
    """
    t = np.arange(length)[None, :]
    edges = np.arange(segments + 1)[:, None] * (length / segments)
    return np.maximum(0, np.minimum(t + 1, edges[1:]) - np.maximum(t, edges[:-1])) * (segments / length)


def as_sequences(X, lengths=None) -> list[np.ndarray]:
    """Clips as a list of f64[T, F].

    Args:
        X: a list of [T, F] arrays; an array [M, T, F]; or a table [M, F] of clips of one frame.
        lengths: int[M] real frames of an array [M, T, F]; None when all are real.

    Raises:
        ValueError: no clips; a clip without frames, of another width, or with values that are not finite; lengths
            that do not fit.
    """
    if lengths is not None and not (hasattr(X, "ndim") and X.ndim == 3):
        raise ValueError("lengths belong to an array X[M, T, F]; a list of clips tells their lengths itself")
    if hasattr(X, "ndim") and X.ndim == 2:
        X = np.asarray(X)[:, None, :]
    clips = [_as_clip(i, clip) for i, clip in enumerate(X)]
    if not clips:
        raise ValueError("X holds no clips; give at least one [T, F] array")
    if lengths is not None:
        lengths = np.asarray(lengths)
        if lengths.shape != (len(clips),) or not np.issubdtype(lengths.dtype, np.integer):
            raise ValueError(
                f"lengths is {lengths.dtype}{list(lengths.shape)}; give one whole number a clip, {len(clips)}"
            )
        if lengths.min() < 1 or lengths.max() > len(clips[0]):
            raise ValueError(
                f"lengths={lengths.min()}…{lengths.max()} must lie from 1 to the {len(clips[0])} frames of X"
            )
        clips = [clip[:length] for clip, length in zip(clips, lengths, strict=True)]
    for i, clip in enumerate(clips):
        if clip.shape[1] != clips[0].shape[1]:
            raise ValueError(f"clip {i} has {clip.shape[1]} features a frame and clip 0 has {clips[0].shape[1]}")
        if not np.isfinite(clip).all():
            raise ValueError(f"clip {i} holds NaN or infinity; leave those frames out or mend them")
    return clips


def _as_clip(i: int, clip) -> np.ndarray:
    clip = np.asarray(clip, np.float64)
    if clip.ndim != 2 or 0 in clip.shape:
        raise ValueError(f"clip {i} has shape {clip.shape}; give [frames, features], one frame and feature or more")
    return clip


@dataclasses.dataclass(frozen=True, eq=False)
class Reservoir:
    """A recurrent layer with fixed weights.

    Attributes:
        input_weights: W_in, f64[H, F].
        recurrent_weights: W, f64[H, H].
        bias: b, f64[H].
        leak_rate: a, above 0, at most 1.
        bidirectional: run from last to first frame too; states are then 2H wide.
    """

    input_weights: np.ndarray
    recurrent_weights: np.ndarray
    bias: np.ndarray
    leak_rate: float = 1.0
    bidirectional: bool = False

    @classmethod
    def draw(
        cls,
        num_inputs: int,
        units: int,
        seed,
        *,
        spectral_radius: float = 0.9,
        input_scale: float = 0.1,
        bias_scale: float = 0.1,
        density: float = 0.1,
        leak_rate: float = 0.3,
        bidirectional: bool = False,
    ) -> "Reservoir":
        """Draw a layer from normal distributions.

        Args:
            num_inputs: F.
            units: H.
            seed: for `numpy.random.default_rng`.
            spectral_radius: largest |eigenvalue| of W, at least 0; below 1 states forget in practice.
            input_scale: standard deviation of W_in, at least 0.
            bias_scale: standard deviation of b, at least 0.
            density: share of connections that there are, above 0, at most 1.
            leak_rate: a, above 0, at most 1.
            bidirectional: run from last to first frame too.

        Raises:
            ValueError: a value out of range; more units than the memory holds; so few connections that none close a
                circle (all eigenvalues 0).
        """
        for name, value in (("num_inputs", num_inputs), ("units", units)):
            if not (isinstance(value, Integral) and value >= 1):
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
        for name, value in (
            ("spectral_radius", spectral_radius),
            ("input_scale", input_scale),
            ("bias_scale", bias_scale),
        ):
            if not (isinstance(value, Real) and 0 <= value < np.inf):
                raise ValueError(f"{name}={value!r} must be finite and at least 0")
        for name, value in (("density", density), ("leak_rate", leak_rate)):
            if not (isinstance(value, Real) and 0 < value <= 1):
                raise ValueError(f"{name}={value!r} must be above 0 and at most 1")
        # Three arrays of this size are there at once while they are drawn.
        check_bytes(f"the recurrent weights [{units}, {units}]", 3 * 8 * float(units) ** 2, "use fewer hidden_units")
        generator = np.random.default_rng(seed)
        weights = generator.standard_normal((units, units)) * (generator.random((units, units)) < density)
        with one_blas_thread():
            radius = np.abs(np.linalg.eigvals(weights)).max()
        if spectral_radius > 0:
            # Rounding gives the eigenvalues of a nilpotent matrix as roots of eps.
            if radius <= 1e-3 * np.abs(weights).max(initial=0) or radius == 0:
                raise ValueError(
                    f"density={density} leaves {units} units without a circle of connections, so no spectral radius "
                    "to scale; raise density or units"
                )
            weights = weights * (spectral_radius / radius)
        else:
            weights = np.zeros_like(weights)
        return cls(
            input_scale * generator.standard_normal((units, num_inputs)),
            weights,
            bias_scale * generator.standard_normal(units),
            float(leak_rate),
            bool(bidirectional),
        )

    @property
    def num_states(self) -> int:
        """Width of a state: H, or 2H in both directions."""
        return len(self.bias) * (2 if self.bidirectional else 1)

    def states(self, clips: Sequence, *, initial=None) -> list[np.ndarray]:
        """The state after every frame.

        Args:
            clips: M arrays f[T, F].
            initial: state before the first frame, f[H]; zeros when None.

        Returns:
            M arrays f64[T, H]; with both directions f64[T, 2H], the second half being that of the reversed clip at
            the same frame.
        """
        found: list = [None] * len(clips)
        for members, frames, lengths in self._blocks(clips):
            with double_precision():
                states = np.asarray(_states(frames, lengths, *self._weights(initial)))
            for row, i in enumerate(members):
                found[i] = states[: len(clips[i]), row]
        if self.bidirectional:
            other = dataclasses.replace(self, bidirectional=False).states(_reversed(clips), initial=initial)
            found = [np.concatenate([a, b[::-1]], axis=1) for a, b in zip(found, other, strict=True)]
        return found

    def summaries(self, clips: Sequence, *, summary: str = "mean", segments: int = 1) -> np.ndarray:
        """One row a clip from its states, without keeping them.

        Args:
            clips: M arrays f[T, F].
            summary: `mean` over the frames of each part, or `last`: the state after the last frame (backwards: after
                the first).
            segments: S equal parts of the clip (`mean`).

        Returns:
            f64[M, S · H]: part by part, in each the states forwards and, in both directions, backwards.
        """
        parts = segments if summary == "mean" else 1
        found = np.empty((len(clips), parts, len(self.bias)))
        for members, frames, lengths in self._blocks(clips):
            weights = np.zeros((len(frames), BLOCK, parts))
            for row, i in enumerate(members):
                length = len(clips[i])
                if summary == "mean":
                    weights[:length, row] = segment_weights(length, parts).T
                else:
                    weights[length - 1, row] = 1
            with double_precision():
                found[members] = np.asarray(_weighted_states(frames, lengths, weights, *self._weights()))[
                    : len(members)
                ]
        if self.bidirectional:
            # The first part of a clip is the last of the reversed one.
            forwards = dataclasses.replace(self, bidirectional=False)
            other = forwards.summaries(_reversed(clips), summary=summary, segments=segments)
            found = np.concatenate([found, other.reshape(found.shape)[:, ::-1]], axis=2)
        return found.reshape(len(clips), -1)

    def _weights(self, initial=None):
        initial = np.zeros(len(self.bias)) if initial is None else np.asarray(initial, np.float64)
        if initial.shape != self.bias.shape:
            raise ValueError(f"initial has shape {initial.shape}; give one value for each of {len(self.bias)} units")
        initial = np.broadcast_to(initial, (BLOCK, len(initial)))
        return self.input_weights.T, self.recurrent_weights.T, self.bias, self.leak_rate, initial

    def _blocks(self, clips):
        """Clip numbers, frames f64[T, BLOCK, F] and lengths int32[BLOCK] of clips of similar length."""
        lengths = np.array([len(clip) for clip in clips], np.int32)
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), BLOCK):
            members = order[start : start + BLOCK]
            frames = np.zeros((-(-lengths[members[-1]] // STEP) * STEP, BLOCK, self.input_weights.shape[1]))
            for row, i in enumerate(members):
                if np.shape(clips[i])[1:] != frames.shape[2:]:
                    raise ValueError(f"clip {i} has shape {np.shape(clips[i])}; give [frames, {frames.shape[2]}]")
                frames[: lengths[i], row] = clips[i]
            yield members, frames, np.concatenate([lengths[members], np.zeros(BLOCK - len(members), np.int32)])


def _reversed(clips):
    return [np.asarray(clip)[::-1] for clip in clips]


def _update(state, frame, t, lengths, input_weights, recurrent_weights, bias, leak_rate):
    """The state after frame t [B, F]; clips that are over keep theirs."""
    product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    drive = jnp.tanh(product(frame, input_weights) + product(state, recurrent_weights) + bias[None, :])
    return jnp.where((t < lengths)[:, None], (1 - leak_rate) * state + leak_rate * drive, state)


@jax.jit
def _states(frames, lengths, input_weights, recurrent_weights, bias, leak_rate, initial):
    """`[T, B, F] → [T, B, H]`."""

    def step(state, inputs):
        state = _update(state, *inputs, lengths, input_weights, recurrent_weights, bias, leak_rate)
        return state, state

    return lax.scan(step, initial, (frames, jnp.arange(len(frames))))[1]


@jax.jit
def _weighted_states(frames, lengths, weights, input_weights, recurrent_weights, bias, leak_rate, initial):
    """Sums of states over time with weights [T, B, S]: `[T, B, F] → [B, S, H]`, memory independent of T."""

    def step(carry, inputs):
        state, total = carry
        frame, t, weight = inputs
        state = _update(state, frame, t, lengths, input_weights, recurrent_weights, bias, leak_rate)
        return (state, total + weight[:, :, None] * state[:, None, :]), None

    total = jnp.zeros((*weights.shape[1:], initial.shape[1]), initial.dtype)
    return lax.scan(step, (initial, total), (frames, jnp.arange(len(frames)), weights))[0][1]

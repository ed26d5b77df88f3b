"""Streams: the same numbers whether a clip comes whole or in pieces.

A representation is a chain of stages, from samples `[..., N]` to frames `[..., T, F]`. Called, a stage transforms a
whole clip. Streamed, it is three pure functions:

    state = stage.init()
    state, ready = stage.step(state, chunk)        any number of times, chunks of any length, also 0
    rest = stage.finish(state)                     only now is the clip's end known

and the pieces, put together along time, equal the whole. There are four ways to depend on the past and the future, and
one that cannot be streamed:

    Pointwise    each frame for itself
    Frames       overlapping frames of samples
    Local        `before` frames back and `after` frames ahead
    Recurrence   the past through a state
    WholeClip    everything at once: refuses, with the reason and the remedy

States are pytrees whose buffers have static lengths, so a `step` under `jit` compiles once for each pair of chunk
length and buffer length. `representations` therefore feed their chains by whole hops (`Chain.rhythm`), whatever the
chunks are.
Names: `Chain`, `Frames`, `Local`, `Pointwise`, `Recurrence`, `WholeClip`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mirjax.signal import stft


@functools.partial(jax.tree_util.register_dataclass, data_fields=("values",), meta_fields=("begun", "skip"))
@dataclasses.dataclass(frozen=True)
class Buffer:
    """What a stage has seen and still needs.

    Attributes:
      values: samples [..., P] or frames [..., P, F]; None before the first chunk.
      begun: whether the padding before the clip is in `values`.
      skip: how many values from the buffer's first one the next frame begins.
    """

    values: jax.Array | None = None
    begun: bool = False
    skip: int = 0

    def extended(self, chunk, axis):
        """Buffered values and the chunk."""
        return chunk if self.values is None else jnp.concatenate([self.values, chunk], axis=axis)


def _nothing(function, like, shape):
    """What `function` gives of no frames, known from what it gives of an array of `shape`, without running it."""
    out = jax.eval_shape(function, jax.ShapeDtypeStruct(shape, like.dtype))
    return out.shape, out.dtype


@dataclasses.dataclass(frozen=True)
class Pointwise:
    """Frames for themselves, `function([..., T, F]) → [..., T, F']`; `axis` is the output's time axis."""

    function: Callable[[jax.Array], jax.Array]
    axis: int = -2

    def __call__(self, values):
        """The whole clip."""
        return self.function(values)

    def init(self):
        """Nothing to remember."""
        return None

    def step(self, state, chunk):
        """Transform a chunk."""
        return state, self.function(chunk)

    def finish(self, state):
        """Nothing is left."""
        return None


@dataclasses.dataclass(frozen=True)
class Frames:
    """Overlapping frames of samples, as `stft.map_frames`: audio [..., N] → [..., T, ...].

    `whole`, where given, is a faster form for whole clips, equal up to the order of its sums.
    """

    function: Callable[[jax.Array], jax.Array]
    frame_length: int
    hop_length: int
    center: bool | tuple[int, int] = True
    pad_mode: str = "constant"
    whole: Callable[[jax.Array], jax.Array] | None = None
    axis = -2

    @property
    def sides(self) -> tuple[int, int]:
        """Samples padded before and after a clip."""
        return stft.padding(self.center, self.frame_length)

    def _map(self, samples, center):
        return stft.map_frames(
            samples,
            self.function,
            frame_length=self.frame_length,
            hop_length=self.hop_length,
            center=center,
            pad_mode=self.pad_mode,
        )

    def _no_frames(self, samples):
        shape, dtype = _nothing(self.function, samples, (1, self.frame_length))
        return jnp.zeros((*samples.shape[:-1], 0, *shape[1:]), dtype)

    def _pad(self, samples, before, after):
        mode = "constant" if self.pad_mode == "empty" else self.pad_mode
        return jnp.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(before, after)], mode=mode)

    def __call__(self, audio):
        """The whole clip."""
        return self._map(audio, self.center) if self.whole is None else self.whole(audio)

    def init(self):
        """State before the first sample."""
        return Buffer(begun=not self.sides[0])

    @property
    def _context(self):
        """Samples that the padding at an end of the clip is made of: a mirror image shows one less than it needs."""
        return 1 if self.pad_mode in ("constant", "empty") else max(self.sides) + 1

    def step(self, state, chunk):
        """Samples [..., n] → the frames they complete."""
        samples = state.extended(chunk, -1)
        if not state.begun:
            if samples.shape[-1] < self._context:
                return dataclasses.replace(state, values=samples), self._no_frames(samples)
            samples = self._pad(samples, self.sides[0], 0)
        count = max(0, 1 + (samples.shape[-1] - state.skip - self.frame_length) // self.hop_length)
        frames = self._map(samples[..., state.skip :], False) if count else self._no_frames(samples)
        following = state.skip + count * self.hop_length
        first = max(0, min(following, samples.shape[-1] - (self._context if self.sides[1] else 0)))
        return Buffer(samples[..., first:], True, following - first), frames

    def finish(self, state):
        """The last frames, which see the padding after the clip."""
        if state.values is None:
            return None
        if not state.begun:
            return self(state.values) if state.values.shape[-1] else self._no_frames(state.values)
        samples = self._pad(state.values, 0, self.sides[1])[..., state.skip :]
        return self._map(samples, False) if samples.shape[-1] >= self.frame_length else self._no_frames(state.values)


@dataclasses.dataclass(frozen=True)
class Local:
    """A neighbourhood in time: `function` keeps the number of frames, and frame t depends on t − before … t + after.

    What the function does at the ends of a clip is its own affair, as long as it looks no farther there either.
    `axis` is the time axis: −2 for frames `[..., T, F]`, −1 for samples.
    """

    function: Callable[[jax.Array], jax.Array]
    before: int
    after: int
    axis: int = -2

    def __call__(self, values):
        """The whole clip."""
        return self.function(values)

    def init(self):
        """State before the first frame."""
        return Buffer(begun=True)

    def _cut(self, values, first, last=None):
        return values[..., first:last, :] if self.axis == -2 else values[..., first:last]

    def _no_frames(self, values):
        shape = list(values.shape)
        shape[self.axis] = self.before + self.after + 1
        shape, dtype = _nothing(self.function, values, tuple(shape))
        shape = list(shape)
        shape[self.axis] = 0
        return jnp.zeros(shape, dtype)

    def step(self, state, chunk):
        """Frames [..., t, F] → the frames whose neighbourhood is complete."""
        values = state.extended(chunk, self.axis)
        count = max(0, values.shape[self.axis] - self.after - state.skip)
        if not count:
            return dataclasses.replace(state, values=values), self._no_frames(values)
        following = state.skip + count
        ready = self._cut(self.function(values), state.skip, following)
        first = max(0, following - self.before)
        return Buffer(self._cut(values, first), True, following - first), ready

    def finish(self, state):
        """The last `after` frames."""
        if state.values is None:
            return None
        if state.values.shape[self.axis] == state.skip:
            return self._no_frames(state.values)
        return self._cut(self.function(state.values), state.skip)


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """The past through a state: `function([..., T, F], state) → ([..., T, F'], state)`, state None at the beginning.

    `axis` is the time axis, −1 for samples.
    """

    function: Callable[[jax.Array, Any], tuple[jax.Array, Any]]
    axis: int = -2

    def __call__(self, values):
        """The whole clip."""
        return self.function(values, None)[0]

    def init(self):
        """State before the first frame."""
        return None

    def step(self, state, chunk):
        """Transform a chunk and go on from its end."""
        if chunk.shape[self.axis]:
            ready, state = self.function(chunk, state)
            return state, ready
        shape = list(chunk.shape)
        shape[self.axis] = 1
        shape, dtype = _nothing(lambda values: self.function(values, state)[0], chunk, tuple(shape))
        shape = list(shape)
        shape[self.axis] = 0
        return state, jnp.zeros(shape, dtype)

    def finish(self, state):
        """Nothing is left."""
        return None


@dataclasses.dataclass(frozen=True)
class WholeClip:
    """What needs the whole clip: `function([..., T, F]) → [..., T, F']`; `reason` says why and what to do instead."""

    function: Callable[[jax.Array], jax.Array]
    reason: str
    axis: int = -2

    def __call__(self, values):
        """The whole clip."""
        return self.function(values)

    def init(self):
        """Refuse.

        Raises:
          ValueError: always.
        """
        raise ValueError(f"cannot be streamed: {self.reason}")


@dataclasses.dataclass(frozen=True)
class Chain:
    """Stages one after another."""

    stages: tuple

    def __call__(self, values):
        """The whole clip."""
        for stage in self.stages:
            values = stage(values)
        return values

    @property
    def rhythm(self) -> tuple[int, int]:
        """Samples that complete the first frame, and those that complete another one each time."""
        ahead = 0
        for stage in self.stages:
            if isinstance(stage, Frames):
                return max(1, ahead + stage.frame_length - stage.sides[0]), stage.hop_length
            if stage.axis != -1:
                break
            ahead += stage.after if isinstance(stage, Local) else 0
        return 0, 1

    def init(self) -> tuple:
        """State before the first sample.

        Raises:
          ValueError: if a stage needs the whole clip.
        """
        return tuple(stage.init() for stage in self.stages)

    def step(self, states, chunk):
        """Samples [..., n] → (state, the frames [..., t, F] that they complete, t ≥ 0)."""
        following = []
        for stage, state in zip(self.stages, states, strict=True):
            state, chunk = stage.step(state, chunk)
            following.append(state)
        return tuple(following), chunk

    def finish(self, states):
        """The frames that waited for the end of the clip, [..., t, F]; None if no stage waits."""
        rest = None
        for stage, state in zip(self.stages, states, strict=True):
            if rest is None:
                rest = stage.finish(state)
                continue
            state, ready = stage.step(state, rest)
            last = stage.finish(state)
            rest = ready if last is None else jnp.concatenate([ready, last], axis=stage.axis)
        return rest

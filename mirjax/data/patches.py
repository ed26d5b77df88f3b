"""What a network is trained and evaluated on: patches of clips, in batches that follow from the step alone.

A *clip* is an array with time on one axis: audio `f32[N]` (or `[C, N]`: time last) or its representation `f32[T, F]`
(or `[T, F, C]`: time first). A *patch* is so many steps of it. Training draws one random patch a clip and epoch, or
takes every window of every clip; evaluation takes every window, so that no clip is lost.

Batch number s is a function of the seed and of s: whatever the number of workers, threads and processes, and wherever
a run was interrupted, the same clips and the same patches come. Each process makes its own consecutive rows of it.
Batches are read through grain (`MapDataset`: random access, threads, worker processes).

Arrays of a batch: the patches under the name asked for, `f32[B, …]`; `label int32[B]` or `f32[B, K]`; `mask bool[B]`
(False for rows that only fill a batch up); `clip int32[B]` (number of the clip); with `whole` clips also `steps
int32[B]` (real steps of a row).
Names: `Clips`, `TrainingBatches`, `EvaluationBatches`, `windows`, `without_context`, `context_surplus`.
"""

import dataclasses
import functools
import signal
from collections.abc import Callable, Iterator

import numpy as np

from mirjax.data.loader import fit_length

PATCHES = ("random", "windows")


@dataclasses.dataclass(frozen=True, eq=False)
class Clips:
    """Random access to arrays of which patches are cut.

    Attributes:
      read: clip number → its array.
      lengths: int64[M], steps of every clip.
      labels: int32[M] (one class a clip) or f32[M, K] (many tags, or values).
      key: what the patches are called in a batch: `audio` or `representation`.
      time_axis: of the array: −1 for audio, 0 for a representation.
      fit: how a clip shorter than a patch is brought to its length: `repeat` or `zero`.
      cut: clip number, first step, end → these steps, for clips that need not be read whole; None: of `read`.
    """

    read: Callable[[int], np.ndarray] = dataclasses.field(repr=False)
    lengths: np.ndarray
    labels: np.ndarray
    key: str = "representation"
    time_axis: int = 0
    fit: str = "repeat"
    cut: Callable[[int, int, int], np.ndarray] | None = dataclasses.field(default=None, repr=False)

    def patch(self, clip: int, start: int, length: int) -> np.ndarray:
        """`length` steps of a clip from `start` on; a shorter clip is repeated, or filled up with zeros."""
        if self.cut is None:
            values = np.moveaxis(self.read(clip), self.time_axis, -1)[..., start : start + length]
        else:
            values = np.moveaxis(self.cut(clip, start, start + length), self.time_axis, -1)
        values = fit_length(values, length, self.fit)
        return np.moveaxis(values, -1, self.time_axis)

    def batch(self, clips, starts, length: int, rows: int) -> dict[str, np.ndarray]:
        """Patches of clips as a batch of so many rows; rows beyond them are zeros with a mask that is False."""
        first = self.patch(clips[0], starts[0], length)
        values = np.zeros((rows, *first.shape), np.float32)
        for row, (clip, start) in enumerate(zip(clips, starts, strict=True)):
            values[row] = first if row == 0 else self.patch(clip, start, length)
        label = np.zeros((rows, *self.labels.shape[1:]), self.labels.dtype)
        label[: len(clips)] = self.labels[clips]
        number = np.zeros(rows, np.int32)
        number[: len(clips)] = clips
        return {self.key: values, "label": label, "mask": np.arange(rows) < len(clips), "clip": number}


def windows(length: int, patch: int, hop: int) -> range:
    """First steps of the windows of a clip: every `hop` steps as long as a window fits; a shorter clip has one."""
    return range(0, max(1, length - patch + 1), hop)


def without_context(clip: np.ndarray, context: int, patch: int, axis: int) -> np.ndarray:
    """A clip less the steps at both ends in which no labelled one is the middle of a patch.

    Args:
      clip: any array.
      context: steps at both ends that only surround what the label is about.
      patch: steps of a patch.
      axis: of time, which must be longer than two contexts.
    """
    before, after = context_surplus(context, patch)
    return np.take(clip, np.arange(before, clip.shape[axis] - after), axis)


def context_surplus(context: int, patch: int) -> tuple[int, int]:
    """Steps of a context, before and after, that no patch around a labelled step reaches."""
    return max(0, context - patch // 2), max(0, context - (patch - 1) // 2)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingBatches:
    """The batches of a training run; `batches[s]` is number s.

    Attributes:
      clips: what patches are cut of.
      chosen: int[M'], the training clips.
      batch_size: rows of a batch, over all processes.
      patch: steps of a patch; at most the training clips' own when they are all shorter.
      patches: `random` (one a clip and epoch) or `windows` (each of them once an epoch).
      hop: steps from window to window; the patch when None.
      seed: of the order and of random patches.
      share: (number of this process, number of processes): it makes rows
        `number · batch_size / count` to `(number + 1) · batch_size / count`.

    An epoch is a pass in a new order. Rows that do not fill a batch are left out of that epoch, others in each.

    Raises:
      ValueError: fewer examples than a batch has rows, a batch that the processes cannot share evenly, no clips, an
        unknown way of cutting patches.
    """

    clips: Clips
    chosen: np.ndarray
    batch_size: int
    patch: int
    patches: str = "random"
    hop: int | None = None
    seed: int = 0
    share: tuple[int, int] = (0, 1)

    def __post_init__(self):
        if self.patches not in PATCHES:
            raise ValueError(f"patches={self.patches!r} is not one of {', '.join(PATCHES)}")
        if not len(self.chosen):
            raise ValueError("there are no training clips; choose at least one")
        if self.batch_size < 1 or self.batch_size > len(self.examples):
            raise ValueError(
                f"batch_size={self.batch_size} must lie from 1 to the {len(self.examples)} training examples (one a "
                f"clip with patches=random, one a window with patches=windows)"
            )
        if self.batch_size % self.share[1]:
            raise ValueError(
                f"batch_size={self.batch_size} cannot be shared by {self.share[1]} processes evenly; choose a multiple"
            )

    @functools.cached_property
    def examples(self) -> np.ndarray:
        """int64[E, 2]: clip and first step of every example of an epoch; −1 where the step is drawn anew."""
        if self.patches == "random":
            return np.stack([self.chosen, np.full(len(self.chosen), -1)], axis=1).astype(np.int64)
        hop = self.hop or self.patch
        return np.array(
            [(clip, start) for clip in self.chosen for start in windows(self.clips.lengths[clip], self.patch, hop)],
            np.int64,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return len(self.examples) // self.batch_size

    def __len__(self) -> int:
        return 2**31 - 1  # as many as a run has steps

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        epoch, place = divmod(step, self.steps_per_epoch)
        own = self.batch_size // self.share[1]
        first = place * self.batch_size + self.share[0] * own
        rows = self._order(epoch)[first : first + own]
        clips, starts = self.examples[rows].T
        starts = [self._draw(epoch, clip) if start < 0 else start for clip, start in zip(clips, starts, strict=True)]
        return self.clips.batch(clips, starts, self.patch, own)

    def _order(self, epoch: int) -> np.ndarray:
        """The examples in the order of an epoch."""
        return _permutation(self.seed, epoch, len(self.examples))

    def _draw(self, epoch: int, clip: int) -> int:
        """First step of a clip's random patch in an epoch."""
        spare = int(self.clips.lengths[clip]) - self.patch
        return int(np.random.default_rng((self.seed, 1, epoch, int(clip))).integers(spare + 1)) if spare > 0 else 0

    def ids(self, step: int) -> np.ndarray:
        """Numbers of the clips of a whole batch, of all processes."""
        epoch, place = divmod(step, self.steps_per_epoch)
        rows = self._order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        return self.examples[rows][:, 0]

    def own(self, step: int) -> np.ndarray:
        """Numbers of the clips of this process' rows of a batch."""
        count = self.batch_size // self.share[1]
        return self.ids(step)[self.share[0] * count : (self.share[0] + 1) * count]

    def iterate(self, first: int = 0, *, threads: int = 2, workers: int = 0, ahead: int = 4) -> Iterator[dict]:
        """Batches from number `first` on, without end.

        Args:
          first: number of the first batch.
          threads: that make batches ahead of their use.
          workers: processes that do; 0 makes them in this one.
          ahead: batches made ahead.
        """
        return _through_grain(self, first, threads, workers, ahead)


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationBatches:
    """Every window of every chosen clip once, or whole clips, in batches of one size whose last is filled up.

    Attributes:
      clips: what windows are cut of.
      chosen: int[M'], the clips to evaluate.
      batch_size: rows of a batch.
      patch: steps of a window, or None: whole clips, filled up with zeros to common lengths, `steps` telling theirs.
      hop: steps from window to window; the patch when None.
      share: (number of this process, number of processes): it takes every so-manieth clip.
    """

    clips: Clips
    chosen: np.ndarray
    batch_size: int
    patch: int | None
    hop: int | None = None
    share: tuple[int, int] = (0, 1)

    @functools.cached_property
    def _batches(self) -> list[tuple[list, int]]:
        """Rows (clip, first step) of every batch, and their number of steps."""
        mine = [int(clip) for clip in self.chosen[self.share[0] :: self.share[1]]]
        lengths = self.clips.lengths
        if self.patch is not None:
            rows = [(c, start) for c in mine for start in windows(lengths[c], self.patch, self.hop or self.patch)]
            groups = {self.patch: rows}
        else:
            groups = {}
            for clip in mine:  # few lengths, so that few programs are compiled; at most an eighth is padding
                groups.setdefault(_round_up(int(lengths[clip])), []).append((clip, 0))
        size = self.batch_size
        return [(rows[i : i + size], n) for n, rows in sorted(groups.items()) for i in range(0, len(rows), size)]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        rows, steps = self._batches[number]
        clips, starts = (list(column) for column in zip(*rows, strict=True))
        if self.patch is not None:
            return self.clips.batch(clips, starts, self.patch, self.batch_size)
        batch = dataclasses.replace(self.clips, fit="zero").batch(clips, starts, steps, self.batch_size)
        real = np.full(self.batch_size, steps, np.int32)
        real[: len(clips)] = self.clips.lengths[clips]
        return batch | {"steps": real}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return (self[i] for i in range(len(self)))


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, epoch)).permutation(count)


def _round_up(length: int) -> int:
    """The next of the numbers 8…15 times a power of two."""
    unit = 1 << max(0, length.bit_length() - 4)
    return -(-length // unit) * unit


def _leave_to_parent(*_) -> None:
    """A terminal's Ctrl-C reaches worker processes too; what to do of it is their parent's to say."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _through_grain(batches: TrainingBatches, first: int, threads: int, workers: int, ahead: int) -> Iterator[dict]:
    import grain

    dataset = grain.MapDataset.source(batches)[first:]
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    stream = dataset.to_iter_dataset(reading)
    if workers:
        from absl import flags

        if not flags.FLAGS.is_parsed():  # grain's workers read a flag
            flags.FLAGS.mark_as_parsed()
        stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), worker_init_fn=_leave_to_parent)
    return iter(stream)

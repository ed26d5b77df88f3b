"""Labelling new audio with trained weights: the network, its input and what its outputs are called, in one file.

`load_tagger("weights/….npz").label(["song.wav"])` decodes the files at the network's sample rate, cuts them into
windows of the length it was trained on, and averages what it says of them (or hears the whole song at once).
Names: `Tagger`, `load_tagger`, `build`, `set_level`, `peak`.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from mirjax.data import patches
from mirjax.data.loader import fit_length
from mirjax.models import space, weights, zoo
from mirjax.signal.representations import Waveform
from mirjax.tasks import tagging


@dataclasses.dataclass(frozen=True, eq=False)
class Tagger:
    """Tags audio.

    Attributes:
      task: with the network.
      variables: its weights and the statistics of its input.
      names: K classes or tags.
      patch: samples of a window, at the network's sample rate.
      seconds: clips are cropped or brought to this length first, as in training; None leaves them as they are.
      fit: how a clip shorter than a window is brought to it: `repeat` or `zero`.
      aggregate: of windows: `mean` or `vote`.
      single: one class a clip; else every tag with a score above a threshold.
      level: of clips, before anything else: `none` or `peak`, as in training.
      ahead: cut windows of the clips' representation; else of their audio, as a training does that hears in step.
      hop: seconds from window to window; the window itself when None.
      whole: hear each clip at once (networks of variable length).
      context: seconds at both ends of every clip that only surround what its label is about, as in training.
      drop_last_window: leave out the last full window of every clip that has several, as in training.
    """

    task: tagging.Tagging
    variables: Mapping
    names: tuple[str, ...]
    patch: int
    seconds: float | None
    fit: str
    aggregate: str
    single: bool
    level: str = "none"
    ahead: bool = True
    hop: float | None = None
    whole: bool = False
    context: float = 0.0
    drop_last_window: bool = False

    @property
    def sample_rate(self) -> int:
        """Hertz at which the network hears."""
        return self.task.model.representation.sample_rate

    def scores(self, clips: Iterable[np.ndarray], *, hop: float | None = None, whole: bool | None = None) -> np.ndarray:
        """Scores f64[M, K] of clips f32[N] (or [C, N]) at the network's sample rate, of any lengths.

        Args:
          clips: the audio.
          hop: seconds from window to window, above 0; the tagger's own when None.
          whole: hear each clip at once (a network of variable length); the tagger's own when None.

        Raises:
          ValueError: no clips, a hop that is not above 0, clips that the network cannot take (by number), or whole
            clips for a network of one length.
        """
        hop, whole = self.hop if hop is None else hop, self.whole if whole is None else whole
        if hop is not None and not hop > 0:
            raise ValueError(f"hop={hop} must be a number of seconds above 0")
        if whole and not self.task.model.is_variable:
            raise ValueError("whole=True: this network does not mask padding; leave it out, and it hears windows")
        clips = [np.asarray(clip, np.float32) for clip in clips]
        if not clips or not all(clip.size for clip in clips):
            raise ValueError("there are no clips, or one without samples; give at least one, of at least a sample")
        clips = [set_level(clip, self.level) for clip in clips]
        if self.seconds is not None:
            clips = [fit_length(clip, round(self.seconds * self.sample_rate), self.fit) for clip in clips]
        representation = self.task.model.representation
        if isinstance(representation, Waveform) or not self.ahead:
            key, axis, steps, rate = "audio", -1, self.patch, self.sample_rate
        else:
            import jax

            represent = jax.jit(representation)
            clips = [np.asarray(represent(clip)) for clip in clips]
            key, axis, steps = "representation", 0, representation.shape(self.patch)[0]
            rate = representation.frame_rate
        if getattr(self.task.model, "fixed", False) and key == "representation":
            steps = self.task.model.num_steps
        context = max(1, round(self.context * rate)) if self.context else 0
        if any(patches.context_surplus(context, steps)):
            if short := [i for i, clip in enumerate(clips) if clip.shape[axis] <= 2 * context]:
                raise ValueError(
                    f"clip {short[0]} (of {len(clips)}, from 0) is no longer than two contexts of {self.context} s, "
                    "which surround what a label is about; lengthen it or leave it out"
                )
            clips = [patches.without_context(clip, context, steps, axis) for clip in clips]
        lengths = np.array([clip.shape[axis] for clip in clips])
        labels = np.zeros(len(clips), np.int32) if self.single else np.zeros((len(clips), len(self.names)), np.float32)
        among = patches.Clips(clips.__getitem__, lengths, labels, key, axis, self.fit)
        step = None if hop is None else max(1, round(hop * rate))
        if self.drop_last_window and not whole:
            among = dataclasses.replace(among, lengths=lengths - (step or steps))
        batches = patches.EvaluationBatches(among, np.arange(len(clips)), 16, None if whole else steps, step)
        scores = tagging.predict(
            self.task, self.variables, batches, np.arange(len(clips)), aggregate=self.aggregate
        ).scores
        return np.concatenate([1 - scores, scores], axis=1) if scores.shape[1] < len(self.names) else scores

    def label(
        self,
        paths: Iterable[str | Path],
        *,
        hop: float | None = None,
        whole: bool | None = None,
        threshold: float | Mapping[str, float] = 0.5,
    ) -> list:
        """Classes of audio files (or, of a tagger of many, the list of tags of each).

        Args:
          paths: of the files.
          hop, whole: as in `scores`.
          threshold: of a tagger of many, above which a tag is said of a file; one, or one for each tag by name. Of
            networks whose tags share one softmax (IRMAS) one half is too much: the paper's is 0.2.

        Raises:
          ValueError: no files, or one that cannot be read (by name) or heard (by number); a threshold outside of
            [0, 1], or none for a tag.
        """
        above = threshold if isinstance(threshold, Mapping) else dict.fromkeys(self.names, threshold)
        if lacking := [name for name in self.names if not 0 <= above.get(name, -1) <= 1]:
            raise ValueError(f"threshold={threshold!r} must be from 0 to 1, or that for each tag (see {lacking[0]!r})")
        from mirjax.data import audio

        channels, clips = getattr(self.task.model.representation, "num_channels", 1), []
        for path in paths:
            try:
                clips.append(audio.decode(Path(path).read_bytes(), sample_rate=self.sample_rate, channels=channels))
            except (OSError, ValueError) as error:
                raise ValueError(f"{path} cannot be labelled: {error}") from error
        scores = self.scores(clips, hop=hop, whole=whole)
        if self.single:
            return [self.names[i] for i in scores.argmax(-1)]
        return [[name for name, score in zip(self.names, row, strict=True) if score > above[name]] for row in scores]


def load_tagger(path: str | Path, *, model=None) -> Tagger:
    """Read the weights that a training left in its folder `weights/`, with all that labelling takes.

    Args:
      path: the .npz file.
      model: the network itself, for weights of one that has no name.

    Raises:
      ValueError: a file that holds no such weights, weights that do not fit the network or its input, or those of a
        network without a name when `model` is not given.
    """
    note = weights.metadata(path)
    needed = ("architecture", "classes", "labels", "loss", "input", "patch", "fit", "aggregate")
    if missing := [name for name in needed if name not in note]:
        raise ValueError(f"{path} does not say {', '.join(missing)}; give a file of a training's folder weights/")
    one, names = note["labels"] == "one", tuple(note["classes"])
    outputs = 1 if one and len(names) == 2 and note["loss"] != "cross_entropy" else len(names)
    if model is None:
        try:
            model = build(note["architecture"], note.get("n"), outputs)
        except ValueError as error:
            raise ValueError(f"{path}: its network cannot be built by name, give it as model=: {error}") from None
    variables = weights.load(path, model=model)
    variables["input"] = {name: np.asarray(value, np.float32) for name, value in note["input"].items()}
    output = "softmax" if note["loss"] == "cross_entropy" else "sigmoid"
    return Tagger(
        tagging.Tagging(model, note["loss"], output, dtype=note.get("dtype")),
        variables,
        names,
        note["patch"],
        note.get("seconds"),
        note["fit"],
        note["aggregate"],
        one,
        note.get("level", "none"),
        note.get("hear", "ahead") == "ahead",
        note.get("hop"),
        note.get("whole", False),
        note.get("context", 0.0),
        note.get("drop_last_window", False),
    )


def set_level(audio: np.ndarray, level: str) -> np.ndarray:
    """Audio as it is (`none`), or so that its largest sample is 1 (`peak`); silence stays what it is.

    Raises:
      ValueError: another level.
    """
    if level not in ("none", "peak"):
        raise ValueError(f"level={level!r} is not one of none, peak")
    loudest = peak(audio) if level == "peak" else 0
    return audio / loudest if loudest > 0 else audio


def peak(audio: np.ndarray) -> np.floating:
    """The largest sample, whatever its sign."""
    return np.abs(audio).max()


def build(name: str, n: int | None, num_outputs: int):
    """A network with so many outputs: of the zoo (the study's get a dense layer on their averages) or of the space.

    Raises:
      ValueError: an unknown name.
    """
    if name.startswith("space/") or name.rpartition("-n")[0] in zoo.STUDY:
        return space.build(name, num_classes=num_outputs)
    if name in zoo.STUDY:
        return space.with_head(zoo.build(name, n), num_outputs)
    return zoo.build(name, n, num_classes=num_outputs)

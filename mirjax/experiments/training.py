"""Training architectures: names × seeds × folds, to the same records, predictions and report as a screening.

`Training` is a frozen value and is the configuration; `run(workdir)` computes what a run folder lacks. Each cell is one
network, trained anew on every fold of a data set from the weights of its seed (those of a screening under that seed),
with the best weights by the validation clips. Records have `classifier` `trained`; beside what every run leaves
(CONTRACT: "What a run leaves") the folder holds `curves/` (a JSON line an epoch), `curves.png`, `weights/` (one .npz
a fold, with all that labelling new audio takes: `mirjax.tasks.tagger.load_tagger`), and, while a cell is at work,
`checkpoints/`.
Names: `Training`.
"""

import dataclasses

from mirjax import config, metrics, rules
from mirjax.config import UsageError
from mirjax.experiments import recipes, screening
from mirjax.experiments.experiment import Experiment
from mirjax.experiments.screening import SAMPLE_RATE
from mirjax.models import zoo

LABELS = ("one", "many", "values")
NORMALISE = ("none", "all", "band", "place", "patch_mean")
LOSSES = ("auto", "cross_entropy", "binary_cross_entropy", "squared_error")
HEAR = ("auto", "ahead", "in_step")
_CHOICES = {
    "labels": LABELS,
    "loss": LOSSES,
    "weights": ("none", "balanced"),
    "patches": ("random", "windows"),
    "aggregate": ("mean", "vote"),
    "level": ("none", "peak"),
    "normalise": NORMALISE,
    "normalise_on": ("train", "everything"),
    "hear": HEAR,
    "parallel": ("jit", "pmap"),
    "fit": ("repeat", "zero"),
    "optimiser": ("sgd", "adam", "adamw"),
    "dtype": (None, "float32", "bfloat16", "float16", "float64"),
    "l2_on": ("kernels", "convolutions", "all"),
    "l2_reduction": ("half", "sum"),
}
# Where a run lies and what it runs on; the rest decides its numbers.
_ELSEWHERE = (
    "data_dir", "cache", "workdir", "strict", "dry_run", "processes", "tensorboard", "save_seconds", "workers",
    "threads",
)  # fmt: skip
# What says how a network is trained, and is one of a record's options.
OPTIONS = (
    "labels", "loss", "weights", "targets", "level", "seconds", "fit", "patch", "patches", "hop", "evaluation_hop",
    "drop_last_window", "context",
    "aggregate", "whole",
    "normalise", "normalise_on", "hear", "augment", "optimiser", "learning_rate", "momentum", "nesterov", "schedule",
    "l2",
    "l2_on", "l2_reduction", "l2_coupled", "clip_norm", "clip_value", "rule", "epochs", "batch_size", "accumulate",
    "average", "monitor", "back_to_best", "validation", "train_share", "retrain", "parallel", "dtype",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Training(Experiment):
    """Train architectures on the folds of data sets.

    Attributes:
      name: names the run folder.
      data: embedded names, prepared TFDS names, folders (`class/clip`), manifest files.
      architectures: names of the zoo (`NAME/VARIANT` too), of `mirjax.models.space`, or, from Python, modules with a
        head.
      n: width parameters, as `vgg:24,sample:17`; the publication's when None.
      seeds: N for seeds 0…N−1, or a list; of weights, order, patches, dropout.
      folds: names of the folds to train on; all when None.
      protocol, group: as in a screening.
      made_folds: folds that are made where the data have none.
      begin_with: architectures of this run with whose trained weights (of the same data, fold and seed) others begin:
        `time_frequency` with `time,frequency`. These are trained twice, from drawn weights and from those.
      labels: `one` (a class a clip), `many` (tags a|b|c; `-` for none) or `values` (tag:0.3|other:0.9).
      loss: `cross_entropy` (softmax), `binary_cross_entropy` or `squared_error` (sigmoid); `auto`: by the labels.
      weights: of classes or tags: `none`, or `balanced` (inverse to their training clips).
      targets: what outputs shall be without and with a tag, softened as to `.02,.98`; not of cross-entropy.
      level: of a clip, before it is cropped: `none` (as it is), or `peak` (its largest sample is 1).
      seconds: clips are cropped or brought to this length first; left as they are when None.
      fit: how a shorter clip gets there, or to the length of a patch: `repeat` or `zero`.
      patch: seconds of a patch; the published length when None (the whole clip where that is longer or unknown).
      patches: `random` (one a clip and epoch) or `windows` (all of them, every epoch).
      hop: seconds between windows in training; the patch when None.
      evaluation_hop: seconds between windows in evaluation; the patch when None.
      context: seconds at both ends of every clip that only surround what its label is about: every step between them is
        the middle of a window, and no step of the context is.
      drop_last_window: leave out the last full window of every clip that has several, as some code did.
      aggregate: of windows: `mean` of their scores, or `vote`.
      whole: evaluate whole clips at once (networks of variable length).
      normalise: the representation: `none`, `all` (one mean and deviation), `band`, `place` (each step and band of a
        patch), or `patch_mean` (the mean of each, subtracted).
      normalise_on: clips that give the statistics: `train`, or `everything` (test clips too, as some papers did).
      hear: make the representation `ahead`, of whole clips, kept in memory; or `in_step`, of each patch, on the device;
        `auto`: ahead, unless audio is augmented or it would take more than 4 GB.
      augment: functions by name: `gain`, `polarity`, `time_shift`, `noise`, `equalise`, `pitch_shift`, `time_stretch`,
        `low_pass` (of audio), `spec_augment` (of the standardised representation).
      optimiser, learning_rate, momentum, nesterov, schedule, l2, l2_on, l2_reduction, l2_coupled, clip_norm,
        clip_value:
        see `mirjax.optimisers`; a schedule with its options as `inverse(decay=.01)`, `steps(boundaries=100/200)`.
      rule: see `mirjax.rules.make_rule`.
      epochs: at most.
      batch_size: clips (or windows) of a step, over all devices; at most the examples there are.
      accumulate, average, parallel: see `mirjax.train.make_step`.
      monitor: the metric that chooses the weights: `valid_loss`, `valid_accuracy`, …
      back_to_best: whenever the rule lowers the learning rate, go on from the best weights so far.
      validation: share of the training clips that choose the weights, where the data have no validation clips of
        their own; 0 for none: the last weights are taken.
      train_share: of the clips that are left for training, stratified by class, the smaller share within the larger.
      retrain: train once more on training and validation clips together, for as many epochs as were best.
      dtype: of the computation, such as `bfloat16`; weights stay float32.
      classifiers: of the MFCC baseline.
      mixture: Gaussians a class of a baseline of MFCC frames (`mirjax.experiments.frame_mixture`); 0 for none.
      threads, workers: that make batches (`mirjax.data.patches`).
      tensorboard: write curves for TensorBoard too (needs tensorboardX).
      save_seconds: between two checkpoints.
      processes: loopback processes of this machine, or `auto` under a cluster's launcher; see `launch.py`.
      strict, dry_run, data_dir, cache, workdir: as in a screening.
    """

    name: str = "training"
    data: tuple[str, ...] = ("rhythm_small",)
    architectures: tuple[str, ...] = ("musicnn",)
    n: str | None = None
    seeds: int | tuple[int, ...] = 1
    folds: tuple[str, ...] | None = None
    protocol: str = "auto"
    group: str | None = None
    made_folds: int = 5
    begin_with: tuple[str, ...] = ()
    labels: str = "one"
    loss: str = "auto"
    weights: str = "none"
    targets: tuple[float, ...] = (0.0, 1.0)
    level: str = "none"
    seconds: float | None = None
    fit: str = "repeat"
    patch: float | None = None
    patches: str = "random"
    hop: float | None = None
    evaluation_hop: float | None = None
    context: float = 0.0
    drop_last_window: bool = False
    aggregate: str = "mean"
    whole: bool = False
    normalise: str = "band"
    normalise_on: str = "train"
    hear: str = "auto"
    augment: tuple[str, ...] = ()
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    schedule: str = "constant"
    l2: float = 0.0
    l2_on: str = "kernels"
    l2_reduction: str = "half"
    l2_coupled: bool | None = None
    clip_norm: float | None = None
    clip_value: float | None = None
    rule: str = "stop_early(valid_loss,20)"
    epochs: int = 200
    batch_size: int = 16
    accumulate: int = 1
    average: float | None = None
    monitor: str = "valid_loss"
    back_to_best: bool = False
    validation: float = 0.2
    train_share: float = 1.0
    retrain: bool = False
    parallel: str = "jit"
    dtype: str | None = None
    classifiers: tuple[str, ...] = ("svm",)
    mixture: int = 0
    threads: int = 2
    workers: int = 0
    tensorboard: bool = False
    save_seconds: float = 60.0
    processes: int | str | None = None
    strict: bool = False
    dry_run: bool = False
    data_dir: str | None = None
    cache: str | None = None
    workdir: str | None = None

    growing = ("data", "architectures", "n", "seeds", "classifiers")
    communicates = True  # its processes work on the same step (`launch.py`)
    selection = "auto"  # of the baselines' settings; networks' weights are chosen on validation clips

    def __post_init__(self):
        for field in ("data", "architectures", "seeds", "classifiers", "folds", "augment", "begin_with"):
            value = getattr(self, field)
            if value is None or (field in ("augment", "classifiers", "begin_with") and not value):
                continue
            object.__setattr__(self, field, screening.as_tuple(field, value))
        for field, choices in _CHOICES.items():
            if getattr(self, field) not in choices:
                raise UsageError(f"{field}={getattr(self, field)!r} is not one of {', '.join(map(str, choices))}")
        for name in self.augment:
            if name not in recipes.AUGMENTATIONS:
                near = config.nearest(name, recipes.AUGMENTATIONS)
                raise UsageError(f"augment={name!r} is not known; nearest: {near}")
        leasts = {
            "epochs": 1,
            "batch_size": 1,
            "accumulate": 1,
            "threads": 1,
            "workers": 0,
            "made_folds": 2,
            "mixture": 0,
        }
        for field, least in leasts.items():
            if getattr(self, field) < least:
                raise UsageError(f"{field}={getattr(self, field)} must be at least {least}")
        for field in ("seconds", "patch", "hop", "evaluation_hop"):
            value = getattr(self, field)
            if value is not None and not 1e-4 <= value < 86_400:
                raise UsageError(f"{field}={value} must be a positive number of seconds, less than a day")
        if len(self.targets) != 2 or not 0 <= self.targets[0] < self.targets[1] <= 1:
            raise UsageError(f"targets={self.targets} must be two numbers within [0, 1], the lower one first: .02,.98")
        if self.aggregate == "vote" and self.labels != "one":
            raise UsageError(f"aggregate=vote is for one class a clip; with labels={self.labels} use mean")
        if self.whole and self.normalise in ("place", "patch_mean"):
            raise UsageError(f"normalise={self.normalise} is of patches of one length; with whole=true use all or band")
        if not 0 <= self.context < 60:
            raise UsageError(f"context={self.context} must be a number of seconds from 0 to below 60")
        if self.mixture and self.labels != "one":
            raise UsageError(f"mixture={self.mixture} needs one class a clip, not labels={self.labels}; use mixture=0")
        if not 0 <= self.validation < 0.6:
            raise UsageError(f"validation={self.validation} must be a share from 0 to below 0.6")
        if not 0 < self.train_share <= 1:
            raise UsageError(f"train_share={self.train_share} must be above 0, at most 1")
        if not self.validation and ("valid_" in self.rule or self.retrain or self.back_to_best):
            raise UsageError(
                f"validation=0 leaves no clips for rule={self.rule!r}, retrain or back_to_best; use train_loss, or "
                "a share"
            )
        if self.average is not None and not 0 <= self.average < 1:
            raise UsageError(f"average={self.average} must be a decay from 0 to below 1, such as 0.999")
        for name in self.classifiers:
            if name not in screening.CLASSIFIERS:
                raise UsageError(f"classifiers={name!r} is not one of {', '.join(screening.CLASSIFIERS)}")
        if not self.save_seconds >= 0:
            raise UsageError(f"save_seconds={self.save_seconds} must be at least 0")
        if not self.learning_rate > 0:
            raise UsageError(f"learning_rate={self.learning_rate} must be positive")
        rule = rules.make_rule(self.rule)
        of_clips = {"one": metrics.METRICS, "many": metrics.TAG_METRICS, "values": metrics.VALUE_METRICS}[self.labels]
        monitors = ("train_loss", "valid_loss", *(f"valid_{name}" for name in of_clips))
        if self.monitor not in monitors:
            known = ", ".join(monitors)
            raise UsageError(f"monitor={self.monitor!r} is not measured with labels={self.labels}; known: {known}")
        try:
            rule.update(rule.init(), dict.fromkeys(monitors, 0.5))
        except ValueError as error:
            raise UsageError(f"rule={self.rule!r} with labels={self.labels}: {error}") from None
        if not (
            self.processes in (None, "auto")
            or (isinstance(self.processes, int) and not isinstance(self.processes, bool) and self.processes >= 1)
        ):
            raise UsageError(f"processes={self.processes!r} must be a whole number of at least 1, or auto")
        for architecture in self.architectures:
            if isinstance(architecture, str):
                _known(architecture)
            elif not hasattr(architecture, "feature_layers"):
                raise UsageError(f"architecture {architecture!r} is neither a name nor a `models.taggers.Network`")
        _widths(self)
        _check_beginnings(self)

    @property
    def num_samples(self) -> int:
        """Samples of a clip at the study's 12 kHz, for the baselines' sake."""
        return round((self.seconds or 30.0) * SAMPLE_RATE)

    def sources(self) -> list:
        """The data sets, opened but not decoded; raises as a screening's."""
        return screening.open_sources(self.data, self.data_dir, self.group)

    def networks(self) -> list:
        """The networks (`training_run.Trainee`), to be built when the number of classes is known."""
        from mirjax.experiments import training_run

        return [
            training_run.Trainee(screening.name_of(architecture), None, n, architecture, 0)
            for architecture, n in zip(self.architectures, _widths(self), strict=True)
        ]

    @property
    def beginners(self) -> tuple[str, ...]:
        """Names of the architectures that are trained once more, from weights trained before (`begin_with`)."""
        names = map(screening.name_of, self.architectures)
        return tuple(
            name
            for name in names
            if name in recipes.BEGINNINGS and set(recipes.BEGINNINGS[name][0]) <= set(self.begin_with)
        )

    def smoke(self) -> "Training":
        """The same study, tiny: an architecture (or what `begin_with` needs), seed, fold, two epochs, embedded data.

        Classes are taken as tags where the study has tags; windows give way to one patch a clip.
        """
        chosen = (*self.begin_with, *self.beginners) or self.architectures[:1]
        return dataclasses.replace(
            self,
            data=("rhythm_small",),
            architectures=chosen,
            n=self.n if len(self.architectures) == 1 else None,
            seeds=1,
            folds=("0",),
            protocol="auto",
            group=None,
            labels="one" if self.labels == "values" else self.labels,
            monitor=self.monitor if self.labels != "values" else "valid_loss",
            seconds=12.0,
            patches="random",
            hop=None,
            evaluation_hop=6.0,
            context=0.0,
            mixture=min(1, self.mixture),
            epochs=2,
            workers=0,
            processes=None,
        )

    def settings(self) -> dict:
        """What a run folder remembers, as JSON values; where things lie is not part of it."""
        kept = [field.name for field in dataclasses.fields(self) if field.name not in _ELSEWHERE]
        names = [screening.name_of(architecture) for architecture in self.architectures]
        widths: dict[str, list] = {}
        for name, n in zip(names, _widths(self), strict=True):
            widths.setdefault(name, []).append(n)
        return config.plain({name: getattr(self, name) for name in kept} | {"architectures": names, "n": widths})

    def options(self) -> dict:
        """How networks are trained, as JSON values: the options of every record."""
        return config.plain({name: getattr(self, name) for name in OPTIONS})

    def check(self) -> None:
        """Refuse settings that no optimiser has, and names that are none of the space."""
        from mirjax.experiments import fitting

        screening.check_space(self.architectures)
        try:
            fitting.optimiser(self, 1_000_000)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def worker(self, sources: list, progress: bool):
        """What trains the cells."""
        from mirjax.experiments import training_run

        return training_run.Run(self, sources, progress)

    def forecast(self) -> str:
        """What a run would compute."""
        sources = self.sources()
        clips = sum(len(source) for source in sources)
        names = [screening.name_of(architecture) for architecture in self.architectures]
        names += [f"{name} begun with {'+'.join(recipes.BEGINNINGS[name][0])}" for name in self.beginners]
        return (
            f"{len(names)} networks ({', '.join(names)}) × {len(self.seeds)} seeds on {len(sources)} data sets "
            f"({clips} clips), each fold up to {self.epochs} epochs in batches of {self.batch_size}"
        )


def _known(architecture: str) -> None:
    if screening.is_of_space(architecture):
        return
    try:
        entry = zoo.lookup(architecture)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if entry.output == "none" and architecture not in zoo.STUDY:
        raise UsageError(f"architectures={architecture!r} has no output to be trained as a tagger")


def _check_beginnings(training: Training) -> None:
    """Hold `begin_with` against the architectures: others that this run trains, of a size, and a network for them."""
    if not training.begin_with:
        return
    given = f"begin_with={','.join(training.begin_with)}"
    names = [screening.name_of(architecture) for architecture in training.architectures]
    if set(training.begin_with) != {other for name in training.beginners for other in recipes.BEGINNINGS[name][0]}:
        known = "; ".join(f"{name} with {','.join(others)}" for name, (others, _) in recipes.BEGINNINGS.items())
        raise UsageError(
            f"{given}: no network of architectures={','.join(names)} begins with just these; "
            f"what there is: {known}; or leave it out (begin_with=)"
        )
    if missing := [name for name in training.begin_with if name not in names]:
        raise UsageError(f"{given}: {missing[0]} is not trained in this run; add it to architectures")
    if training.retrain:
        raise UsageError(f"{given} cannot go with retrain=true: weights to begin with would know the validation clips")
    widths = dict(zip(names, _widths(training), strict=True))
    for name in training.beginners:
        sizes = {each: widths[each] or zoo.lookup(each).n for each in (name, *recipes.BEGINNINGS[name][0])}
        if len(set(sizes.values())) > 1:
            raise UsageError(f"{given}: n={sizes} must be the same for {name} and those it begins with")


def _widths(training: Training) -> list[int | None]:
    """n of every architecture."""
    names = [screening.name_of(architecture) for architecture in training.architectures]
    given = {}
    for part in (str(training.n) if training.n is not None else "").split(","):
        name, _, number = part.strip().rpartition(":")
        if not part.strip():
            continue
        name = name or (names[0] if len(names) == 1 else "")
        if name not in names:
            raise UsageError(
                f"n={part.strip()!r} names no architecture of {', '.join(names)}; write n=vgg:24,sample:17, or "
                "n= for the usual widths"
            )
        if not (number.isascii() and number.isdigit() and 1 <= int(number) <= zoo.LARGEST_N):
            raise UsageError(f"n={part.strip()!r}: {number!r} must be a whole number from 1 to {zoo.LARGEST_N}")
        given[name] = int(number)
    return [given.get(name) for name in names]

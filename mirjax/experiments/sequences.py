"""Sequences of frames: an echo state network against classifiers of whole clips, none of them trained by gradients.

Five methods, all on the same clips:

=================  ================================================================================================
method             what it is, and how its hyper-parameters are chosen
=================  ================================================================================================
`mfcc_elm`         120 MFCC statistics, scaled; the published ELM (pseudo-inverse), size chosen on clips held out
`mfcc_elm_loo`     the same statistics; ELM with a ridge, size and ridge by leave-one-out of the clips it is fitted to
`mfcc_svm`         the same statistics; the screening's SVM grid, chosen on clips held out
`parts_elm_loo`    the network's frames averaged over its parts of the clip; ELM as in `mfcc_elm_loo`: what is left of
                   the network without its recurrence
`esn`              13 MFCC a frame; echo state network, its settings chosen on clips held out
=================  ================================================================================================

The clips held out are the validation clips of a split, or inner folds of the training clips (`splits.inner_folds`);
test clips take no part. With a split every method is then fitted twice: to the training clips alone, and to training
and validation clips (option `fitted_on`, selection `validation_refit`).

Convention: a row of a report is a method over its seeds (of the random layer), clips as in a screening.

Source: Jaeger (2001) and Lukoševičius (2012) for the network; Davis and Mermelstein (1980), Comparison of parametric
representations for monosyllabic word recognition, for its front end; Pons and Serra (2019) for the statistics, the ELM
and the SVM grid.
Names: `SequenceStudy`, `FrontEnd`, `SequenceReport`.
"""

import copy
import dataclasses
import functools
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mirjax import config, metrics
from mirjax.config import UsageError
from mirjax.experiments import cells, screening, screening_run
from mirjax.experiments.experiment import Experiment

ARCHITECTURES = ("mfcc_elm", "mfcc_elm_loo", "mfcc_svm", "parts_elm_loo", "esn")
GRID_OF = {"mfcc_elm": "elm", "mfcc_svm": "svm"}
DETERMINISTIC = ("mfcc_svm",)
FITTED_ON = ("train", "train+valid")
RIDGES = tuple(float(f"{10.0**exponent:.3g}") for exponent in np.arange(-6, 1.01, 0.5))
NUMBERS = 1  # raise when the same inputs come to give other numbers
_PADDED_TO = 4000  # samples: few programs for many lengths

_ELSEWHERE = ("data_dir", "cache", "workdir", "strict", "dry_run")
_GROWING = ("data", "seeds", "architectures")


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """Mel-frequency cepstral coefficients of every frame.

    The defaults are those of speech: windows of 25 ms every 10 ms at 8 kHz, 40 bands, 13 coefficients with the 0th.

    Attributes:
      sample_rate: hertz.
      n_mfcc: coefficients.
      win_length, hop_length, n_fft: samples.
      n_mels: bands.
    """

    sample_rate: int = 8000
    n_mfcc: int = 13
    win_length: int = 200
    hop_length: int = 80
    n_fft: int = 256
    n_mels: int = 40

    @property
    def program(self) -> str:
        """Fingerprint of its settings."""
        return config.digest(dataclasses.asdict(self))

    def frames(self, audio: np.ndarray) -> np.ndarray:
        """Coefficients f64[1 + N // hop_length, n_mfcc] of a clip f32[N]."""
        import jax.numpy as jnp

        length = len(audio)
        audio = np.pad(audio, (0, -length % _PADDED_TO))
        coefficients = _mfcc(self)(jnp.asarray(audio), jnp.asarray(length))
        return np.asarray(coefficients)[: 1 + length // self.hop_length].astype(np.float64)


@functools.lru_cache(maxsize=8)
def _mfcc(front_end: FrontEnd):
    import jax

    from mirjax.signal import cepstral

    settings = dataclasses.asdict(front_end)
    return jax.jit(lambda audio, length: cepstral.mfcc(audio, length=length, **settings))


@dataclasses.dataclass(frozen=True)
class SequenceStudy(Experiment):
    """An echo state network against ELM and SVM of MFCC statistics.

    Attributes:
      name: names the run folder.
      data: embedded names, prepared TFDS names, folders (`class/clip`), manifest files.
      seeds: N for seeds 0…N−1, or a list of seeds; of the reservoir, and of the ELM's hidden layer.
      architectures: the methods: `mfcc_elm`, `mfcc_elm_loo`, `mfcc_svm`, `parts_elm_loo`, `esn`.
      units: of the reservoir.
      segments, leak_rates, spectral_radii, input_scales: of the network, to choose from; every combination is tried.
      bidirectional: run the network backwards too.
      ridges: of the network's read-out, and of the ELMs' by leave-one-out, to choose from.
      protocol: `auto` (the data's split when it has one, else its folds, else 5 made ones), `cv`, `split`.
      selection: where hyper-parameters are chosen: `auto`; `validation` (the default with a split), `nested` (inner
        folds of the training clips, the default with folds).
      group: metadata column that must not straddle a fold; `none` to ask for a random split by name.
      front_end: of the network.
      strict: stop at the first faulty file instead of leaving it out.
      dry_run: print what would be computed, and compute nothing.
      data_dir: where prepared sets lie.
      cache: where decoded audio and features lie; the user's cache folder when None.
      workdir: where the run lies; `runs/NAME-FINGERPRINT` when None.
    """

    name: str = "sequences"
    data: tuple[str, ...] = ("digits_small",)
    seeds: int | tuple[int, ...] = 3
    architectures: tuple[str, ...] = ARCHITECTURES
    units: int = 400
    segments: tuple[int, ...] = (4,)
    leak_rates: tuple[float, ...] = (0.1, 0.2)
    spectral_radii: tuple[float, ...] = (0.9, 1.2)
    input_scales: tuple[float, ...] = (0.3, 0.6, 1.0)
    bidirectional: bool = False
    ridges: tuple[float, ...] = RIDGES
    protocol: str = "auto"
    selection: str = "auto"
    group: str | None = None
    front_end: FrontEnd = dataclasses.field(default_factory=FrontEnd)
    strict: bool = False
    dry_run: bool = False
    data_dir: str | None = None
    cache: str | None = None
    workdir: str | None = None

    growing = _GROWING

    def __post_init__(self):
        for field in ("architectures", "segments", "leak_rates", "spectral_radii", "input_scales", "ridges"):
            value = getattr(self, field)
            value = (value,) if isinstance(value, str | int | float) else tuple(value)
            if not value or len(set(value)) < len(value):
                raise UsageError(f"{field}={value!r} must name at least one, and none twice")
            object.__setattr__(self, field, value)
        for field in ("data", "seeds"):  # a screening checks and completes what it has too
            object.__setattr__(self, field, getattr(self._screening, field))
        for method in self.architectures:
            if method not in ARCHITECTURES:
                raise UsageError(
                    f"architectures={method!r} is not one of {', '.join(ARCHITECTURES)}; nearest: "
                    f"{config.nearest(method, ARCHITECTURES)}"
                )
        if self.selection == "legacy":
            raise UsageError("selection=legacy chooses on the test clips, which this study never does; use auto")
        for field in ("ridges", "leak_rates", "input_scales"):
            if min(getattr(self, field)) <= 0:
                raise UsageError(f"{field}={min(getattr(self, field))} must be above 0")
        for field in ("segments", "spectral_radii"):
            if min(getattr(self, field)) < (least := int(field == "segments")):
                raise UsageError(f"{field}={min(getattr(self, field))} must be at least {least}")
        if self.units < 1 or max(self.leak_rates) > 1:
            raise UsageError(f"units={self.units} must be at least 1, leak_rates={self.leak_rates} at most 1")

    @property
    def _screening(self) -> screening.Screening:
        """The screening of the same clips, for what it checks."""
        shared = ("data", "seeds", "protocol", "selection", "group", "strict", "data_dir")
        return screening.Screening(architectures=("vgg",), **{field: getattr(self, field) for field in shared})

    @property
    def candidates(self) -> list[dict]:
        """All settings of the network."""
        names = ("segments", "leak_rate", "spectral_radius", "input_scale")
        values = (self.segments, self.leak_rates, self.spectral_radii, self.input_scales)
        return [dict(zip(names, setting, strict=True)) for setting in itertools.product(*values)]

    @property
    def num_samples(self) -> int:
        """Samples a clip: none are fixed here, a network takes clips as they are."""
        return 0

    def has_split(self, source) -> bool:
        """Whether a data set's own split is used."""
        return self.protocol == "split" or (self.protocol == "auto" and source.splits is not None)

    def sources(self) -> list:
        """The data sets, opened but not decoded; raises as a screening's."""
        return self._screening.sources()

    def networks(self) -> list:
        """What a run's fingerprint is about beside the clips: the front end."""
        return [self.front_end]

    def smoke(self) -> "SequenceStudy":
        """The same study, tiny: embedded data, one seed, a small reservoir, one setting."""
        return dataclasses.replace(
            self,
            data=("digits_small",),
            seeds=1,
            architectures=("mfcc_elm_loo", "esn"),
            units=40,
            **{
                field: getattr(self, field)[-1:]
                for field in ("segments", "leak_rates", "spectral_radii", "input_scales")
            },
            group=None,
            protocol="auto",
            selection="auto",
        )

    def settings(self) -> dict:
        """What a run folder remembers, as JSON values; where things lie is not part of it."""
        kept = [field.name for field in dataclasses.fields(self) if field.name not in _ELSEWHERE]
        return config.plain(
            {name: getattr(self, name) for name in kept} | {"front_end": dataclasses.asdict(self.front_end)}
        )

    def worker(self, sources: list, progress: bool) -> screening_run.Run:
        """What computes the study: `architecture` of its records is the method, `options` what it was fitted on."""
        return _Run(self, sources, progress)

    def forecast(self) -> str:
        """What a run would compute, with estimated time."""
        lines, seconds = [], 0.0
        for source in self.sources():
            fits = len(self.candidates) * len(self.seeds) * ("esn" in self.architectures)
            fits *= 1 if self.has_split(source) else cells.INNER_FOLDS * len(set(source.folds or range(5)))
            # One reservoir over one clip of half a second, on one core of a laptop.
            seconds += fits * len(source) * 1e-3 * (self.units / 400) ** 2
            lines.append(f"  {source.facts.name}: {len(source)} clips, {fits} reservoirs to choose from")
        methods = ", ".join(self.architectures)
        return "\n".join([f"{methods}; {len(self.seeds)} seeds", *lines, f"about {seconds / 60:.1f} minutes"])

    def report(self, workdirs: Sequence, out: str | Path | None = None) -> "SequenceReport":
        """Tables of run folders, from their records."""
        from mirjax.experiments import report

        return SequenceReport(report.build_report(workdirs, out))


# ── the work ──────────────────────────────────────────────────────────────────────────────────────


class _Run(screening_run.Run):
    """The study at work; `screening` is the study."""

    def __init__(self, study, sources, progress):
        super().__init__(study, sources, progress)
        self._sequences, self._chosen = {}, {}

    def check_lengths(self) -> None:
        """Clips of any length will do."""

    def divide(self, clips):
        run = copy.copy(self)
        run.screening = dataclasses.replace(
            self.screening, protocol="split" if self.screening.has_split(clips) else self.screening.protocol
        )
        return super(_Run, run).divide(clips)

    def cells(self, clips):
        study = self.screening
        for name in ("chance", "majority"):
            yield cells.Cell(name, None, "raw", {}, 0, "none", "none")
        for method in study.architectures:
            for seed in (0,) if method in DETERMINISTIC else study.seeds:
                for fitted_on in FITTED_ON if study.has_split(clips) else FITTED_ON[:1]:
                    options = {"fitted_on": fitted_on}
                    yield cells.Cell(method, None, "raw", options, seed, "own", "standard")

    def fingerprints(self, cell, clips, partition):
        from mirjax import results

        study = self.screening
        settings = {key: value for key, value in study.settings().items() if key not in (*_GROWING, "name")}
        of = {"esn": settings, "parts_elm_loo": settings, "mfcc_elm_loo": {"ridges": study.ridges}}
        of = of.get(cell.architecture, {})
        known = super().fingerprints(cell, clips, partition)
        return [results.fingerprint(base=base, study=of, numbers=NUMBERS) for base in known]

    def sequences(self, clips) -> tuple[list[np.ndarray], float]:
        """Frames f64[T, F] of every clip, and seconds a clip."""
        from mirjax.data import audio

        if clips.name not in self._sequences:
            front_end = self.screening.front_end
            source = next(source for source in self.sources if source.facts.name == clips.name)
            decoded = audio.load_clips(
                source,
                sample_rate=front_end.sample_rate,
                cache=self.cache,
                strict=self.screening.strict,
                progress=False,
            )
            frames, durations = [], []
            for i in range(len(decoded)):
                began = time.perf_counter()
                frames.append(front_end.frames(decoded.audio(i)))
                durations.append(time.perf_counter() - began)
            # The median leaves out the clips whose length was new and had to be compiled for.
            self._sequences[clips.name] = frames, float(np.median(durations))
        return self._sequences[clips.name]

    def compute(self, clips, partition, todo, bar):
        for cell, prints in todo:
            bar.set_postfix_str(f"{clips.name} {cell.architecture}")
            if cell.architecture in ("chance", "majority"):
                yield cell, *self.without_features(cell, clips, partition, prints)
            else:
                yield cell, *self.fit_and_score(cell, clips, partition, prints)

    def fit_and_score(self, cell, clips, partition, prints) -> tuple[list[dict], list[dict]]:
        """Records and predictions of one cell."""
        began = time.perf_counter()
        method = _FITTED[cell.architecture](self, clips, cell)
        outcomes, predictions = [], []
        for fold in partition.folds:
            key = (clips.name, cell.architecture, cell.seed, fold.name)
            if key not in self._chosen:
                self._chosen[key] = method.choose(fold, partition)
            rows = fold.train
            if cell.options["fitted_on"] == "train+valid":
                rows = np.sort(np.concatenate([fold.train, fold.valid]))
            labels, scores, classes, setting = method.fit(self._chosen[key], rows, fold.test)
            fitted = dataclasses.replace(fold, train=rows)
            outcomes.append((fitted, metrics.score(clips.labels[fold.test], labels), setting))
            predictions += cells.prediction_rows(clips, partition, fold, labels, scores, classes)
        seconds = time.perf_counter() - began
        sizes = {"num_features": method.num_features, "feature_seconds_per_clip": method.seconds}
        records = self.records(cell, clips, partition, outcomes, prints, seconds, sizes)
        changed = {"num_parameters": method.num_parameters}
        if cell.options["fitted_on"] == "train+valid":
            changed["selection"] = "validation_refit"
        return [record | changed for record in records], predictions


class _Statistics:
    """Classifiers of MFCC statistics from the screening's grids."""

    num_parameters = 0  # as for the baselines of a screening: nothing is drawn for the features

    def __init__(self, run, clips, cell):
        self.run, self.labels = run, clips.labels
        self.x, self.seconds = self.features(clips)
        self.num_features = self.x.shape[1]
        self.seed = cell.seed
        self.prepare(cell)

    def features(self, clips):
        """Features f[M, D] and seconds a clip."""
        return self.run.mfcc(clips)

    def prepare(self, cell):
        from mirjax.classifiers import grid

        self.grid = grid.make_grid(GRID_OF[cell.architecture], self.x, self.labels, scaling="standard", seed=self.seed)

    def choose(self, fold, partition):
        return screening_run.select(self.grid, self.labels, fold, partition, self.run.selection(partition))

    def fit(self, chosen, rows, test):
        labels, scores = self.grid.scores(chosen, rows, test)
        return labels, scores, self.grid.classes, self.grid.settings[chosen]


class _LeaveOneOut(_Statistics):
    """ELM with a ridge; size and ridge by leave-one-out of the rows it is fitted to, so nothing is chosen before."""

    def prepare(self, cell):
        from mirjax.classifiers import ELMClassifier, grid

        elm = ELMClassifier(
            hidden_units=grid.ELM_HIDDEN_UNITS, ridge=self.run.screening.ridges, select="loo", random_state=self.seed
        )
        self.classifier = grid.Scaled(elm)

    def choose(self, fold, partition):
        return None

    def fit(self, chosen, rows, test):
        self.classifier.fit(self.x[rows], self.labels[rows])
        fitted = self.classifier.estimator_
        setting = {"hidden_units": int(fitted.hidden_units_), "ridge": float(fitted.ridge_)}
        return *_decide(self.classifier, self.x[test]), setting


class _Parts(_LeaveOneOut):
    """The same ELM on the mean frame of every part of a clip (the largest number of parts that there is)."""

    def features(self, clips):
        from mirjax.classifiers.reservoir import segment_weights

        frames, seconds = self.run.sequences(clips)
        parts = max(self.run.screening.segments)
        return np.stack([(segment_weights(len(clip), parts) @ clip).ravel() for clip in frames]), seconds


class _EchoState:
    """The network; all settings are tried on clips held out, the best (the first of equals) is taken."""

    def __init__(self, run, clips, cell):
        self.run, self.labels, self.seed = run, clips.labels, cell.seed
        frames, self.seconds = run.sequences(clips)
        self.frames = np.empty(len(frames), object)
        for i, clip in enumerate(frames):
            self.frames[i] = clip
        study = run.screening
        self.num_features, self.num_parameters = frames[0].shape[1], 0
        self.fixed = {"hidden_units": study.units, "bidirectional": study.bidirectional, "random_state": self.seed}

    def choose(self, fold, partition):
        from mirjax.classifiers.echo import EchoStateClassifier
        from mirjax.data import splits

        study, x, y = self.run.screening, self.frames, self.labels
        if self.run.selection(partition) == "validation":
            pairs = [(fold.train, fold.valid)]
        else:
            pairs = splits.inner_folds(fold, partition, y, max_folds=cells.INNER_FOLDS)
        scores = []
        for setting in study.candidates:
            tried = EchoStateClassifier(
                **self.fixed, **setting, ridge=study.ridges, select="validation", criterion=CRITERION, digits=0
            )
            fits = [tried.fit(x[a], y[a], validation=(x[b], y[b])).selection_scores_[0] for a, b in pairs]
            scores.append(np.mean(fits, axis=0))
        best, ridge = np.unravel_index(np.argmax(scores), np.shape(scores))
        return study.candidates[best] | {"ridge": study.ridges[ridge]}

    def fit(self, chosen, rows, test):
        from mirjax.classifiers.echo import EchoStateClassifier

        classifier = EchoStateClassifier(**self.fixed, **chosen).fit(self.frames[rows], self.labels[rows])
        self.num_features = int(classifier.hidden_units_)
        reservoir = classifier.reservoir_
        drawn = (reservoir.input_weights, reservoir.recurrent_weights, reservoir.bias)
        self.num_parameters = sum(np.count_nonzero(weights) for weights in drawn)
        return *_decide(classifier, self.frames[test]), chosen


CRITERION = "squared_error"  # finer than the accuracy, which many settings share on few clips

_FITTED = {
    "mfcc_elm": _Statistics,
    "mfcc_svm": _Statistics,
    "mfcc_elm_loo": _LeaveOneOut,
    "parts_elm_loo": _Parts,
    "esn": _EchoState,
}


def _decide(classifier, x):
    """Labels [m], scores f64[m, K] and the K classes."""
    scores = classifier.decision_function(x)
    scores = scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)
    return classifier.predict(x), scores, classifier.classes_


# ── the report ────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, eq=False)
class SequenceReport:
    """A screening's report with, before it, how many clips each method got right.

    Attributes:
      report: `report.Report`.
    """

    report: object

    @property
    def summary(self) -> str:
        """Accuracy as mean ± deviation over seeds, clips right of all, and the 95 % interval; a line a method."""
        lines = []
        for table in self.report.tables:
            lines.append(f"{table.dataset}, selection {table.selection}")
            for row in table.rows:
                if row.correct is None:
                    continue
                right = row.correct.sum(axis=1)
                share = 100 * right / row.num_clips
                spread = f" ± {share.std(ddof=1):.1f}" if len(right) > 1 else ""
                interval = f"{100 * row.interval.low:.1f}–{100 * row.interval.high:.1f}" if row.interval else "–"
                lines.append(
                    f"  {table.label(row):14s} {share.mean():5.1f}{spread} %  {right.mean():.1f} of {row.num_clips} "
                    f"({right.min():.0f}–{right.max():.0f}, {len(right)} seeds)  95 %: {interval}"
                )
        return "\n".join(lines)

    def to_text(self) -> str:
        """The report for a terminal."""
        return f"{self.summary}\n\n{self.report.to_text()}"

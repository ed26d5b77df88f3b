"""Gradient-boosted trees on descriptors of timbre, rhythm and harmony: the baseline that a network has to beat.

The published baseline has one model for each tag and private descriptors. Here a clip is described by

* timbre: mean and deviation of 20 MFCC, their first and second differences (`features.mfcc_features`), 120 numbers;
* rhythm: mean and deviation of the onset envelope, and of the local autocorrelation of it (tempogram) in 24 bands of
  tempo from 30 to 480 beats a minute, 50 numbers;
* harmony: mean and deviation of chroma and of their tonal centroids, 36 numbers;

and scikit-learn's `HistGradientBoosting` learns one classifier for all classes, one for each tag, or one regressor for
each value, on the training clips. The number of trees is the one with the least loss on the validation clips, as the
weights of a network are chosen: the same clips train, choose and test as in a `Training` with the same settings, and
records are of `classifier` `trained`, so that the reports of both run folders make one table.

Source: Pons et al., "End-to-end learning for music audio tagging at scale", ISMIR 2018, section 4; ARCHITECTURES §6.6;
Ke et al., LightGBM, NeurIPS 2017, for the trees.
Names: `BoostedTrees`, `Descriptors`, `boost`.
"""

import dataclasses
import functools
import itertools
from typing import NamedTuple

import numpy as np

from mirjax import config
from mirjax.config import UsageError
from mirjax.experiments import screening
from mirjax.experiments.experiment import Experiment
from mirjax.experiments.training import LABELS

FAMILIES = ("timbre", "rhythm", "harmony")
ARCHITECTURE = "boosted_trees"
SAMPLE_RATE = 12_000
HOP = 256
TEMPI = tuple(30 * 2 ** (step / 6) for step in range(25))  # beats a minute, edges of 24 bands
NUMBERS = 1  # raise when the same inputs come to give other numbers
FEW_CLIPS = 10_000  # for which trees grow on one thread
_LAGS = 384
_ELSEWHERE = ("data_dir", "cache", "workdir", "strict", "dry_run")


# ── descriptors ───────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class Descriptors:
    """Numbers that describe a clip of audio at 12 kHz, of any length.

    Attributes:
      families: which of `timbre`, `rhythm`, `harmony`, in that order.
    """

    families: tuple[str, ...] = FAMILIES

    @property
    def program(self) -> str:
        """Fingerprint of what is computed."""
        return config.digest([NUMBERS, self.families, SAMPLE_RATE, HOP, _LAGS, TEMPI])

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """f32[N] → f32[D]; a clip of fewer than 4,096 samples is filled up with zeros."""
        from mirjax import features

        parts = []
        if "timbre" in self.families:
            parts.append(features.mfcc_features([audio], sample_rate=SAMPLE_RATE)[0])
        if {"rhythm", "harmony"} & set(self.families):
            frames = 1 + max(len(audio), 4096) // HOP
            padded = np.zeros(_round_up(max(len(audio), 4096)), np.float32)
            padded[: len(audio)] = audio
            found = {name: np.asarray(values)[:frames] for name, values in _transforms()(padded).items()}
            of = {"rhythm": ("onsets", "tempogram"), "harmony": ("chroma", "tonnetz")}
            parts += [
                statistic(found[name], axis=0)
                for family in ("rhythm", "harmony")
                if family in self.families
                for name in of[family]
                for statistic in (np.mean, np.std)
            ]
        return np.concatenate(parts).astype(np.float32)


@functools.cache
def _transforms():
    """Compiled: audio f32[N] → {name: f32[T, …]}."""
    import jax

    from mirjax.signal import chroma, descriptors, rhythm
    from mirjax.signal.compression import Decibels
    from mirjax.signal.representations import LogMel

    log_mel = LogMel(SAMPLE_RATE, 2048, HOP, 96, compression=Decibels(top_db=None))
    envelope = descriptors.OnsetStrength(log_mel)
    tempi = rhythm.tempo_frequencies(_LAGS, sample_rate=SAMPLE_RATE, hop_length=HOP)
    bands = np.array([(tempi >= low) & (tempi < high) for low, high in itertools.pairwise(TEMPI)], float)
    bands = (bands / np.maximum(1, bands.sum(1, keepdims=True))).T.astype(np.float32)

    def transform(audio):
        onsets = envelope(audio)
        classes = chroma.chroma_stft(audio, sample_rate=SAMPLE_RATE, n_fft=4096, hop_length=HOP)
        return {
            "onsets": onsets,
            "tempogram": rhythm.tempogram(onsets[..., 0], win_length=_LAGS) @ bands,
            "chroma": classes,
            "tonnetz": chroma.chroma_to_tonnetz(classes),
        }

    return jax.jit(transform)


def _round_up(length: int) -> int:
    """The next of the numbers 8…15 times a power of two, so that few programs are compiled."""
    unit = 1 << max(0, length.bit_length() - 4)
    return -(-length // unit) * unit


# ── trees ─────────────────────────────────────────────────────────────────────────────────────────


class Boosted(NamedTuple):
    """Scores of the clips asked for, f64[m, K], and the number of trees (in rounds) that each model chose."""

    scores: np.ndarray
    rounds: tuple[int, ...]


def boost(x, labels, train, valid, test, *, kind: str, num_outputs: int, rounds: int = 100, **settings) -> Boosted:
    """Fit gradient-boosted trees and score clips.

    Args:
      x: f32[M, D].
      labels: int[M] classes, or f32[M, K] tags or values.
      train, valid, test: clip numbers; `valid` chooses the number of rounds; without any all are made.
      kind: `one`, `many` or `values`.
      num_outputs: K.
      rounds: at most.
      **settings: of scikit-learn's `HistGradientBoostingClassifier` and `…Regressor`; without `min_samples_leaf` it is
        scikit-learn's 20, or a sixth of the training clips where that is less.

    Returns:
      Probabilities of classes or tags, or values. A tag that all or none of the training clips have is its share.
    """
    from threadpoolctl import threadpool_limits

    # Threads wait for each other longer than they work where clips are few, thirty times as long on busy cores.
    with threadpool_limits(1 if len(train) < FEW_CLIPS else None, user_api="openmp"):
        return _boost(x, labels, train, valid, test, kind, num_outputs, rounds, settings)


def _boost(x, labels, train, valid, test, kind, num_outputs, rounds, settings) -> Boosted:
    if kind == "one":
        columns, best = _boost_one(x, labels, train, valid, test, "class", rounds, settings)
        scores = np.zeros((len(test), num_outputs))
        scores[:, np.unique(labels[train])] = columns
        return Boosted(scores, (best,))
    target = "tag" if kind == "many" else "value"
    found = [_boost_one(x, labels[:, k], train, valid, test, target, rounds, settings) for k in range(num_outputs)]
    return Boosted(np.column_stack([scores[:, -1] for scores, _ in found]), tuple(best for _, best in found))


def _boost_one(x, y, train, valid, test, target, rounds, settings):
    """Scores f64[m, …] of one model, and its number of rounds."""
    from sklearn import ensemble

    if target == "tag":
        y = (y > 0.5).astype(int)
    if len(set(y[train].tolist())) < 2:
        return np.full((len(test), 1), 1.0 if target == "class" else y[train].mean()), 0
    # Its own early stopping would take clips off the training clips at random.
    options = {"max_iter": rounds, "early_stopping": False, "random_state": 0} | settings
    if options.get("min_samples_leaf") is None:  # with more, trees of few clips have no branches
        options["min_samples_leaf"] = min(20, max(2, len(train) // 6))
    if target == "value":
        model = ensemble.HistGradientBoostingRegressor(**options).fit(x[train], y[train])
        staged, loss = lambda rows: (v[:, None] for v in model.staged_predict(x[rows])), _squared_error
    else:
        model = ensemble.HistGradientBoostingClassifier(**options).fit(x[train], y[train])
        staged, loss = lambda rows: model.staged_predict_proba(x[rows]), functools.partial(_log_loss, model.classes_)
    best = rounds
    if len(valid):
        best = 1 + int(np.argmin([loss(y[valid], scores) for scores in staged(valid)]))
    return next(scores for number, scores in enumerate(staged(test), 1) if number == best), best


def _squared_error(truth, scores) -> float:
    return float(((truth - scores[:, 0]) ** 2).mean())


def _log_loss(classes, truth, scores) -> float:
    own = scores[np.arange(len(truth)), np.searchsorted(classes, truth)]
    return float(-np.log(np.maximum(own, 1e-15)).mean())


# ── the experiment ────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True)
class BoostedTrees(Experiment):
    """Boosted trees on descriptors, on the folds of data sets.

    Attributes:
      name: names the run folder.
      data: embedded names, prepared TFDS names, folders (`class/clip`), manifest files.
      families: of descriptors: `timbre`, `rhythm`, `harmony`.
      folds, protocol, group, labels, made_folds, validation: as in `training.Training`.
      rounds: of boosting, at most; the validation clips choose.
      learning_rate, max_leaf_nodes, l2_regularization: scikit-learn's, and its defaults.
      min_samples_leaf: 20 (scikit-learn's), or a sixth of the training clips where that is less, when None.
      strict, dry_run, data_dir, cache, workdir: as in a screening.
    """

    name: str = "boosted_trees"
    data: tuple[str, ...] = ("rhythm_small",)
    families: tuple[str, ...] = FAMILIES
    folds: tuple[str, ...] | None = None
    protocol: str = "auto"
    group: str | None = None
    labels: str = "one"
    made_folds: int = 5
    validation: float = 0.2
    rounds: int = 100
    learning_rate: float = 0.1
    max_leaf_nodes: int = 31
    min_samples_leaf: int | None = None
    l2_regularization: float = 0.0
    strict: bool = False
    dry_run: bool = False
    data_dir: str | None = None
    cache: str | None = None
    workdir: str | None = None

    selection = "auto"

    def __post_init__(self):
        for field in ("data", "families", "folds"):
            if getattr(self, field) is not None:
                object.__setattr__(self, field, screening.as_tuple(field, getattr(self, field)))
        for family in self.families:
            if family not in FAMILIES:
                raise UsageError(f"families={family!r} is not one of {', '.join(FAMILIES)}")
        object.__setattr__(self, "families", tuple(family for family in FAMILIES if family in self.families))
        if self.labels not in LABELS:
            raise UsageError(f"labels={self.labels!r} is not one of {', '.join(LABELS)}")
        for field, least in (("rounds", 1), ("max_leaf_nodes", 2), ("min_samples_leaf", 1), ("made_folds", 2)):
            if (value := getattr(self, field)) is not None and value < least:
                raise UsageError(f"{field}={getattr(self, field)} must be at least {least}")
        if not 0 <= self.validation < 0.6:
            raise UsageError(f"validation={self.validation} must be a share from 0 to below 0.6")
        if not self.learning_rate > 0:
            raise UsageError(f"learning_rate={self.learning_rate} must be positive")
        if self.l2_regularization < 0:
            raise UsageError(f"l2_regularization={self.l2_regularization} must be at least 0")

    @property
    def num_samples(self) -> int:
        """Samples a clip: none are fixed here, clips are described as they are."""
        return 0

    def sources(self) -> list:
        """The data sets, opened but not decoded; raises as a screening's."""
        return screening.open_sources(self.data, self.data_dir, self.group)

    def networks(self) -> list:
        """What a run's fingerprint is about beside the clips: the descriptors."""
        return [Descriptors(self.families)]

    def trees(self) -> dict:
        """Settings of every model, as scikit-learn calls them, and `rounds`."""
        names = ("rounds", "learning_rate", "max_leaf_nodes", "min_samples_leaf", "l2_regularization")
        return {name: getattr(self, name) for name in names}

    def options(self) -> dict:
        """What tells its records apart."""
        return config.plain(
            {"families": self.families, "labels": self.labels, "validation": self.validation} | self.trees()
        )

    def smoke(self) -> "BoostedTrees":
        """The same study, tiny: embedded data, one fold, few rounds, one family."""
        return dataclasses.replace(
            self,
            data=("rhythm_small",),
            families=self.families[:2],
            folds=("0",),
            protocol="auto",
            group=None,
            labels="one",
            rounds=5,
        )

    def settings(self) -> dict:
        """What a run folder remembers, as JSON values; where things lie is not part of it."""
        kept = [field.name for field in dataclasses.fields(self) if field.name not in _ELSEWHERE]
        return config.plain({name: getattr(self, name) for name in kept})

    def worker(self, sources: list, progress: bool):
        """What computes the study."""
        from mirjax.experiments import descriptors_run

        return descriptors_run.Run(self, sources, progress)

    def forecast(self) -> str:
        """What a run would compute."""
        clips = sum(len(source) for source in self.sources())
        return f"boosted trees on descriptors of {', '.join(self.families)}: {len(self.data)} data sets, {clips} clips"

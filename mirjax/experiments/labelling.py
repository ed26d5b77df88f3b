"""Labelling new audio: a network, its input and a fitted classifier in one piece that saves and loads.

Names: `Labeller`, `fit_labeller`, `load_labeller`.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mirjax.config import UsageError
from mirjax.data import loader
from mirjax.experiments import screening_run
from mirjax.models import zoo

_DESCRIPTION = "labeller.json"
_CLASSIFIER = "classifier.npz"


@dataclasses.dataclass(frozen=True, eq=False)
class Labeller:
    """Labels audio files as a screening's best setting would.

    Attributes:
      architecture: name in the zoo.
      n: its width parameter.
      seed: of its random weights.
      legacy_collapse: as in the screening.
      moments: mean and deviation by which its input is standardised.
      layers: names of the maps that make the features; the network's own choice when empty.
      num_samples: length to which clips are fitted, at the network's sample rate.
      fit: how shorter clips get there.
      hyperparameters: of the classifier, as chosen.
      classes: sorted labels.
      classifier: fitted, of `mirjax.classifiers`.
    """

    architecture: str
    n: int
    seed: int
    legacy_collapse: bool
    layers: tuple[str, ...]
    moments: tuple[float, float]
    num_samples: int
    fit: str
    hyperparameters: dict
    classes: tuple[str, ...]
    classifier: object = dataclasses.field(repr=False)

    def features(self, audio: Iterable[np.ndarray]) -> np.ndarray:
        """Features f32[M, D] of clips f32[N] at the network's sample rate, of any lengths."""
        import jax

        from mirjax import features

        model = self._network()
        variables = features.initialise(model, jax.random.key(self.seed), self.num_samples)
        fitted = (loader.fit_length(clip, self.num_samples, self.fit) for clip in audio)
        return features.extract(model, variables, fitted, moments=self.moments, layers=self.layers or None)

    def _network(self):
        options = {"legacy_collapse": True} if self.legacy_collapse else {}
        return zoo.build(self.architecture, self.n, **options)

    def predict(self, paths: Iterable[str | Path]) -> list[str]:
        """Labels of audio files.

        Raises:
          ValueError: no files, or one that cannot be used; it is named.
        """
        from mirjax.data import audio

        clips, sample_rate = [], self._network().representation.sample_rate
        for path in paths:
            try:
                clips.append(audio.decode(Path(path).read_bytes(), sample_rate=sample_rate))
            except (OSError, ValueError) as error:
                raise ValueError(f"{path} cannot be labelled: {error}") from error
        return [str(label) for label in self.classifier.predict(self.features(clips).astype(np.float64))]

    def save(self, folder: str | Path) -> None:
        """Write the labeller to a folder: a description in JSON and the classifier as .npz."""
        from mirjax import classifiers

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        described = {key: value for key, value in dataclasses.asdict(self).items() if key != "classifier"}
        (folder / _DESCRIPTION).write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        classifiers.save(self.classifier, folder / _CLASSIFIER)


def load_labeller(folder: str | Path) -> Labeller:
    """Read a labeller that `Labeller.save` wrote.

    Raises:
      ValueError: the folder holds none, or a damaged one.
    """
    from mirjax import classifiers

    file = Path(folder) / _DESCRIPTION
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
        described |= {key: tuple(described[key]) for key in ("moments", "classes", "layers")}
        return Labeller(**described, classifier=classifiers.load(Path(folder) / _CLASSIFIER))
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} holds no labeller that can be read: {error!r}; save one there first") from error


def fit_labeller(screening, *, progress: bool = True) -> Labeller:
    """Fit one network and one classifier to all clips of one data set.

    The classifier's setting is the one with the best mean accuracy over the data's folds (or on its validation clips);
    it is then fitted to every clip.

    Args:
      screening: a `Screening` of one data set, architecture, seed, classifier, input (`raw` or `standardised`) and
        scaling.
      progress: show a progress bar.

    Raises:
      UsageError: the screening names several of something.
    """
    from mirjax.classifiers import grid as grids

    for field in ("data", "architectures", "seeds", "classifiers", "input", "scaling"):
        if len(values := getattr(screening, field)) != 1:
            raise UsageError(f"{field} names {len(values)}, and a labeller has one; choose one of {values}")
    if screening.input[0] == "standardised_train":
        raise UsageError("input=standardised_train differs by fold; a labeller takes raw or standardised")
    if not isinstance(screening.architectures[0], str):
        raise UsageError("a labeller is saved by the name of its architecture; give a name of the zoo")
    work = screening_run.Run(screening, screening.sources(), progress)
    (clips,), (network,) = work.load(), work.networks
    partition = work.divide(clips)
    seed = screening.seeds[0]
    moments = work.moments(network, clips) if screening.input == ("standardised",) else (0.0, 1.0)
    x, _ = work.network_features(network, clips, [seed], moments)[seed]
    grid = grids.make_grid(screening.classifiers[0], x, clips.labels, scaling=screening.scaling[0], seed=seed)
    pairs = [(fold.train, fold.test if fold.valid is None else fold.valid) for fold in partition.folds]
    scores = np.mean([screening_run.accuracies(grid, clips.labels, train, valid) for train, valid in pairs], axis=0)
    best = int(scores.argmax())
    return Labeller(
        architecture=network.name,
        n=network.n,
        seed=seed,
        legacy_collapse=screening.legacy_collapse and network.name in zoo.COLLAPSING,
        layers=screening.layers,
        moments=moments,
        num_samples=network.num_samples,
        fit=screening.fit,
        hyperparameters=grid.settings[best],
        classes=tuple(str(label) for label in grid.classes),
        classifier=grid.fit(best, np.arange(len(clips))),
    )

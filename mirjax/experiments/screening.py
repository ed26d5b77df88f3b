"""Screening: rank architectures without training them.

Randomly weighted networks make features, a closed-form or grid-searched classifier scores them on every fold, and each
score becomes a record as soon as it is known. A run that was interrupted, or repeated with more seeds, architectures,
classifiers or data sets, goes on where it stands.

Source: Pons & Serra, "Randomly weighted CNNs for (music) audio classification", ICASSP 2019; protocol in ARCHITECTURES §5.
Names: `Screening`.
"""

import contextlib
import dataclasses
import importlib.metadata
import itertools
import logging
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mirjax import config, metrics
from mirjax.config import UsageError
from mirjax.data import catalogue, loader
from mirjax.experiments.store import BLOCK, FeatureStore
from mirjax.models import zoo

CLASSIFIERS = ("elm", "svm", "knn")
INPUTS = ("raw", "standardised", "standardised_train")
SCALINGS = ("none", "standard")
PROTOCOLS = ("auto", "cv", "split")
SELECTIONS = ("auto", "nested", "validation", "legacy")
SAMPLE_RATE = 12_000
STUDY_SECONDS = 350_000 / SAMPLE_RATE  # 29.17 s
# Raise when the same inputs come to give other numbers: stored features and records are then computed anew.
NUMBERS = 1

_LISTS = ("data", "architectures", "width", "seeds", "classifiers", "input", "scaling")
_GROWING = ("data", "architectures", "seeds", "classifiers")
_ELSEWHERE = ("data_dir", "cache", "workdir", "strict", "dry_run")
_DETERMINISTIC = ("svm", "knn")  # of the classifiers, those that draw nothing

_log = logging.getLogger("mirjax")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network to be screened: its name, its width setting and the module."""

    name: str
    width: int | None
    n: int | None
    module: object = dataclasses.field(repr=False)

    @property
    def structure(self) -> str:
        """Text that two networks share only if they compute the same function of their weights."""
        return repr(self.module)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row of work: a feature extractor, a classifier and a data set; it is scored on every fold."""

    architecture: str
    network: Architecture | None
    input: str
    options: dict
    seed: int
    classifier: str
    scaling: str


@dataclasses.dataclass(frozen=True)
class Screening:
    """A screening of untrained architectures.

    Attributes:
      name: names the run folder.
      data: embedded names, prepared TFDS names, folders (`class/clip`), manifest files.
      architectures: `all`, names of the zoo, or Linen modules (`taggers.Network`).
      width: 120 or 3500 features, nearly: the n of ARCHITECTURES table 1.6.
      n: free width parameter: a number for one architecture, or `vgg:24,sample:17`.
      seeds: N for seeds 0…N−1, or a list of seeds.
      classifiers: `elm`, `svm`, `knn`.
      input: `raw`; `standardised` (one scalar mean and deviation over the whole set: transductive);
        `standardised_train` (per fold, from its training clips).
      scaling: of the features: `none`, or `standard` (by training clips).
      protocol: `auto`, `cv`, `split`.
      selection: of hyper-parameters: `nested` (default with folds), `validation` (default with a split), `legacy`
        (the best score on the test folds, as in the study).
      group: metadata column that must not straddle a fold; `none` to ask for a random split by name.
      seconds: clip length of the networks; the study's 350,000 samples (29.17 s) when None.
      fit: how a shorter waveform gets there: `repeat` or `zero`.
      legacy_collapse: average the frame-level networks' extra layers as the released code does.
      strict: stop at the first faulty file instead of leaving it out.
      dry_run: print what would be computed, and compute nothing.
      data_dir: where prepared sets lie.
      cache: where decoded audio and features lie; the user's cache folder when None.
      workdir: where the run lies; `runs/NAME-FINGERPRINT` when None.
    """

    name: str = "screening"
    data: tuple[str, ...] = ("digits_small", "rhythm_small")
    architectures: tuple[str, ...] = ("all",)
    width: tuple[int, ...] = (120,)
    n: str | None = None
    seeds: int | tuple[int, ...] = 3
    classifiers: tuple[str, ...] = ("elm", "svm")
    input: tuple[str, ...] = ("raw",)
    scaling: tuple[str, ...] = ("none",)
    protocol: str = "auto"
    selection: str = "auto"
    group: str | None = None
    seconds: float | None = None
    fit: str = "repeat"
    legacy_collapse: bool = False
    strict: bool = False
    dry_run: bool = False
    data_dir: str | None = None
    cache: str | None = None
    workdir: str | None = None

    def __post_init__(self):
        for field in _LISTS:
            value = getattr(self, field)
            if isinstance(value, str):
                value = tuple(part.strip() for part in value.split(",") if part.strip())
            elif isinstance(value, list):
                value = tuple(value)
            elif field == "seeds" and isinstance(value, int):
                if value < 1:
                    raise UsageError(f"seeds={value} must be at least 1")
                value = tuple(range(value))
            elif not isinstance(value, tuple):
                value = (value,)
            if not value:
                raise UsageError(f"{field} is empty; give at least one")
            if repeated := [item for i, item in enumerate(value) if item in value[:i]]:
                raise UsageError(f"{field} names {repeated[0]!r} twice")
            object.__setattr__(self, field, value)
        if isinstance(self.n, int):
            object.__setattr__(self, "n", str(self.n))
        if self.architectures == ("all",):
            object.__setattr__(self, "architectures", zoo.names())
        for field, choices in (
            ("classifiers", CLASSIFIERS),
            ("input", INPUTS),
            ("scaling", SCALINGS),
            ("protocol", PROTOCOLS),
            ("selection", SELECTIONS),
            ("fit", loader.FITS),
        ):
            value = getattr(self, field)
            for item in value if isinstance(value, tuple) else (value,):
                if item not in choices:
                    raise UsageError(f"{field}={item!r} is not one of {', '.join(choices)}")
        if any(seed < 0 for seed in self.seeds):
            raise UsageError(f"seeds={min(self.seeds)} must not be negative")
        if self.seconds is not None and not 0 < self.seconds < 86_400:
            raise UsageError(f"seconds={self.seconds} must be positive, and less than a day")
        _widths(self)

    @property
    def num_samples(self) -> int:
        """Samples of every clip after fitting."""
        return round((self.seconds or STUDY_SECONDS) * SAMPLE_RATE)

    def smoke(self) -> "Screening":
        """The same study, tiny: one architecture, one seed, embedded data."""
        return dataclasses.replace(
            self,
            data=("rhythm_small",),
            architectures=("temporal",),
            n=None,
            seeds=1,
            classifiers=("elm",),
            seconds=6.0,
            group=None,
            protocol="auto",
            selection="auto",
        )

    def settings(self) -> dict:
        """What a run folder remembers, as JSON values; where things lie is not part of it."""
        return {key: value for key, value in config.to_dict(self).items() if key not in _ELSEWHERE}

    def default_workdir(self) -> Path:
        """`runs/NAME-FINGERPRINT`; what may grow in place does not count."""
        fixed = {key: value for key, value in self.settings().items() if key not in _GROWING}
        return Path("runs") / f"{self.name}-{config.digest(fixed)}"

    def run(self, workdir: str | Path | None = None, *, progress: bool = True) -> list[dict]:
        """Compute what is missing and return the records of this screening.

        Args:
          workdir: the run folder; `self.workdir`, else `default_workdir()`, when None.
          progress: show progress bars.

        Returns:
          Records in the order of the run folder (CONTRACT: "What a run leaves"); with `dry_run`, none.

        Raises:
          UsageError: something unknown was asked for.
          ValueError: data that cannot be used; a run folder of another configuration, which is left as it is.
        """
        sources = _open_sources(self)
        if self.dry_run:
            return []
        return _Run(self, sources, progress).execute(Path(workdir or self.workdir or self.default_workdir()))

    def forecast(self) -> str:
        """What a run would compute, with estimated time and memory, from shapes alone."""
        return _forecast(self, _open_sources(self))

    def report(self, workdirs, out: str | Path | None = None):
        """Tables and figures of run folders, from their records (`report.build_report`)."""
        from mirjax.experiments import report

        return report.build_report(workdirs, out)

    def features(self, *, progress: bool = True) -> dict[str, np.ndarray]:
        """The features themselves, of all data sets, architectures and seeds.

        Returns:
          `features` f32[M, D], `ids` [M], `datasets` [M], `labels` [M] and `names` [D], a column's name being
          `architecture/n/seed/layer/channel`.

        Raises:
          ValueError: as `run`; an input standardised per fold, of which there is no single table.
        """
        if "standardised_train" in self.input:
            raise UsageError("input=standardised_train differs by fold; ask for features of raw or standardised input")
        return _Run(self, _open_sources(self), progress).tables()


def _widths(screening: Screening) -> list[tuple[object, int | None, int | None]]:
    """(architecture, width, n) of every network, from `architectures`, `width` and `n`."""
    names = [name for name in screening.architectures if isinstance(name, str)]
    for name in names:
        try:
            zoo.lookup(name)
        except ValueError as error:
            raise UsageError(str(error)) from None
    free = {}
    for part in (screening.n or "").split(","):
        name, colon, number = part.strip().rpartition(":")
        if not part.strip():
            continue
        if not colon:
            if len(screening.architectures) != 1 or not names:
                raise UsageError(f"n={number} is for one architecture; for several write n=vgg:24,sample:17")
            name = names[0]
        if name not in names:
            raise UsageError(f"n names {name!r}, which is not screened; nearest: {config.nearest(name, names)}")
        if not number.isdigit() or not 1 <= int(number) <= 10_000:
            raise UsageError(f"n={part.strip()!r}: {number!r} must be a whole number from 1 to 10000")
        free[name] = int(number)
    networks = []
    for architecture in screening.architectures:
        if not isinstance(architecture, str):
            networks.append((architecture, None, None))
        elif architecture in free:
            networks.append((architecture, None, free[architecture]))
        else:
            for width in screening.width:
                try:
                    networks.append((architecture, width, zoo.num_filters(architecture, width)))
                except ValueError as error:
                    raise UsageError(str(error)) from None
    return networks


def _open_sources(screening: Screening) -> list:
    from mirjax.data import dataset

    sources = []
    for name in screening.data:
        if name not in catalogue.names() and not Path(name).exists():
            known = config.nearest(name, catalogue.names())
            raise UsageError(f"data={name!r} is neither a known data set nor a folder or manifest; nearest: {known}")
        sources.append(dataset.open_source(name, data_dir=screening.data_dir, group=screening.group))
    names = [source.facts.name for source in sources]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise UsageError(f"two data sets are called {twice[0]!r}; rename one folder")
    return sources


def _architectures(screening: Screening) -> list[Architecture]:
    built = []
    for architecture, width, n in _widths(screening):
        if isinstance(architecture, str):
            module = zoo.build(architecture, n, legacy_collapse=screening.legacy_collapse)
            built.append(Architecture(architecture, width, n, module))
        else:
            name = f"{type(architecture.front_end).__name__}-{config.digest(repr(architecture), 6)}"
            built.append(Architecture(name, None, None, architecture))
    return built


def _forecast(screening: Screening, sources) -> str:
    """Cells, estimated time and memory, from shapes alone."""
    from mirjax import features

    networks = _architectures(screening)
    clips = sum(len(source) for source in sources)
    repeats = len(screening.input) * len(screening.seeds)
    lines, total, cells = [], 0.0, 0
    for network in networks:
        gflops = features.gigaflops(network.module, screening.num_samples)
        weights = 4e-6 * features.num_parameters(network.module, screening.num_samples) * len(screening.seeds)
        seconds = clips * repeats * (0.004 + gflops / 50)  # 50 GFLOP/s: two cores of a laptop
        total += seconds
        lines.append(
            f"  {network.name:18s} n={network.n}  {gflops:9.3f} GFLOP a clip  about {seconds:8.1f} s"
            f"  about {200 + weights:6.0f} MB"
        )
    cells = len(networks) * repeats * len(screening.scaling) * len(screening.classifiers) * len(sources)
    return "\n".join(
        [
            f"{cells} cells: {len(sources)} data sets ({clips} clips) × {len(networks)} networks × {repeats} inputs and "
            f"seeds × {len(screening.scaling)} scalings × {len(screening.classifiers)} classifiers",
            *lines,
            f"about {total / 60:.1f} minutes of feature extraction on two cores, classification beside it; the rest of "
            "the memory is under 1 GB",
        ]
    )


class _Run:
    """A screening at work: what is open and shared while cells are computed."""

    def __init__(self, screening: Screening, sources, progress: bool):
        self.screening = screening
        self.sources = sources
        self.progress = progress
        self.cache = Path(screening.cache) if screening.cache else Path.home() / ".cache" / "mirjax"
        self.store = FeatureStore(self.cache)
        self.networks = _architectures(screening)
        self.commit = _commit()
        self.versions = _versions()
        self._sums = {}

    def load(self) -> list:
        """Decoded clips and their partition, for every data set."""
        from mirjax.data import audio, splits

        loaded = []
        for source in self.sources:
            clips = audio.load_clips(
                source,
                sample_rate=SAMPLE_RATE,
                cache=self.cache,
                strict=self.screening.strict,
                progress=self.progress,
            )
            loaded.append((clips, splits.partition(clips, protocol=self.screening.protocol)))
        return loaded

    def execute(self, workdir: Path) -> list[dict]:
        from mirjax import results

        with (
            results.RunFolder.open(workdir, self.screening.settings(), extendable=_GROWING) as folder,
            _logging_to(workdir),
        ):
            loaded = self.load()
            plans = []
            for clips, partition in loaded:
                folder.note_dataset(
                    clips.name,
                    hash=f"{clips.content_hash[:16]}-{partition.hash}",
                    classes=sorted(set(clips.labels.tolist())),
                    num_clips=len(clips),
                )
                _log.info("%s: %d clips, %s", clips.name, len(clips), partition.note)
                for note in clips.notes:
                    _log.info(note)
                plans.append([(cell, self.fingerprints(cell, clips, partition)) for cell in self.cells()])
            planned = [fingerprints for plan in plans for _, fingerprints in plan]
            folder.keep_complete(dict(enumerate(planned)))
            missing = sum(not folder.done.issuperset(fingerprints) for fingerprints in planned)
            _log.info("%d of %d cells to compute in %s", missing, len(planned), workdir)
            from tqdm import tqdm

            with tqdm(total=missing, desc=self.screening.name, unit="cell", disable=not self.progress) as bar:
                for (clips, partition), plan in zip(loaded, plans, strict=True):
                    todo = [(cell, prints) for cell, prints in plan if not folder.done.issuperset(prints)]
                    for cell, rows, predictions in self.compute(clips, partition, todo, bar):
                        name = predictions and f"{_file_name(clips.name, cell)}-{rows[0]['fingerprint'][:6]}.jsonl"
                        folder.append(rows, predictions or (), name)
                        bar.update()
            wanted = {fingerprint for fingerprints in planned for fingerprint in fingerprints}
            return [record for record in results.read_records(workdir) if record["fingerprint"] in wanted]

    # ── the plan ──────────────────────────────────────────────────────────────────────────────────

    def cells(self) -> Iterator[Cell]:
        """All cells of a data set: chance and majority, the MFCC baseline, then the networks."""
        screening = self.screening
        for name in ("chance", "majority"):
            yield Cell(name, None, "raw", {}, 0, "none", "none")
        for scaling in screening.scaling:
            for classifier in screening.classifiers:
                for seed in (0,) if classifier in _DETERMINISTIC else screening.seeds:
                    yield Cell("mfcc", None, "raw", {}, seed, classifier, scaling)
        for network in self.networks:
            options = {"seconds": round(screening.num_samples / SAMPLE_RATE, 4), "fit": screening.fit}
            if screening.legacy_collapse and getattr(network.module, "back_end", None) is not None:
                options["legacy_collapse"] = True
            for kind in screening.input:
                for seed in screening.seeds:
                    for scaling in screening.scaling:
                        for classifier in screening.classifiers:
                            yield Cell(network.name, network, kind, options, seed, classifier, scaling)

    def selection(self, partition) -> str:
        if self.screening.selection != "auto":
            return self.screening.selection
        return "validation" if partition.kind == "split" else "nested"

    def fingerprints(self, cell: Cell, clips, partition) -> list[str]:
        """Of all records of a cell, in the order in which they are written."""
        from mirjax import results

        network = cell.network
        identity = {
            "numbers": NUMBERS,
            "data": clips.content_hash,
            "split": partition.hash,
            "protocol": partition.kind,
            "selection": self.selection(partition),
            "architecture": cell.architecture,
            "structure": network and network.structure,
            "n": network and network.n,
            "input": cell.input,
            "options": cell.options,
            "seed": cell.seed,
            "classifier": cell.classifier,
            "scaling": cell.scaling,
        }
        return [
            results.fingerprint(**identity, fold=fold.name, metric=metric)
            for fold in partition.folds
            for metric in metrics.METRICS
        ]

    # ── features ──────────────────────────────────────────────────────────────────────────────────

    def mfcc(self, clips) -> tuple[np.ndarray, float]:
        """The MFCC baseline of all clips f32[M, 120], and seconds a clip."""
        from mirjax import features

        key = config.digest([NUMBERS, self.versions, clips.content_hash, "mfcc"], 32)
        rows, seconds = [], 0.0
        for start in range(0, len(clips), BLOCK):
            block = self.store.get(key, start)
            if block is None:
                began = time.perf_counter()
                audio = (clips.audio(i) for i in range(start, min(start + BLOCK, len(clips))))
                values = features.mfcc_features(audio, sample_rate=SAMPLE_RATE)
                block = values, (time.perf_counter() - began) / len(values)
                self.store.put(key, start, *block)
            rows.append(block[0])
            seconds += block[1] * len(block[0])
        return np.concatenate(rows), seconds / len(clips)

    def moments(self, network: Architecture, clips, indices=None) -> tuple[float, float]:
        """Mean and deviation of the representation over clips (all, or some)."""
        from mirjax import features

        key = (clips.name, network.module.representation)
        if key not in self._sums:
            batches = loader.batches(clips, num_samples=self.screening.num_samples, fit=self.screening.fit)
            self._sums[key] = features.representation_sums(network.module, batches)
        sums = self._sums[key]
        mean, deviation = features.moments(sums if indices is None else [sums[i] for i in indices])
        if deviation == 0:
            raise ValueError(f"{clips.name}: every clip's input is constant; nothing to standardise, use input=raw")
        return mean, deviation

    def network_features(self, network, clips, seeds, moments) -> dict[int, tuple[np.ndarray, float]]:
        """Features f32[M, D] and seconds a clip, for every seed; blocks that are stored are not computed."""
        import jax

        from mirjax import features

        screening = self.screening
        identity = [
            NUMBERS,
            self.versions,
            clips.content_hash,
            network.structure,
            screening.num_samples,
            screening.fit,
        ]
        keys = {seed: config.digest([*identity, list(moments), seed], 32) for seed in seeds}
        found = {seed: [] for seed in seeds}
        trees = {}
        for start in range(0, len(clips), BLOCK):
            stored = {seed: self.store.get(keys[seed], start) for seed in seeds}
            missing = [seed for seed in seeds if stored[seed] is None]
            for seed in missing:
                if seed not in trees:
                    trees[seed] = features.initialise(network.module, jax.random.key(seed), screening.num_samples)
            if missing:
                indices = range(start, min(start + BLOCK, len(clips)))

                def extract(indices, chosen):
                    batches = loader.batches(
                        clips, num_samples=screening.num_samples, fit=screening.fit, indices=indices
                    )
                    return features.extract_each(
                        network.module, [trees[seed] for seed in chosen], batches, moments=moments
                    )

                if start == 0:
                    extract(indices[:1], missing[:1])  # compiles, so that seconds are those of the work
                began = time.perf_counter()
                values = extract(indices, missing)
                seconds = (time.perf_counter() - began) / (len(indices) * len(missing))
                for seed, rows in zip(missing, values, strict=True):
                    if not np.isfinite(rows).all():
                        raise ValueError(f"{network.name} seed {seed} on {clips.name}: features are not finite")
                    stored[seed] = rows, seconds
                    self.store.put(keys[seed], start, rows, seconds)
            for seed in seeds:
                found[seed].append(stored[seed])
        return {
            seed: (
                np.concatenate([rows for rows, _ in blocks]),
                sum(len(rows) * seconds for rows, seconds in blocks) / len(clips),
            )
            for seed, blocks in found.items()
        }

    def tables(self) -> dict[str, np.ndarray]:
        """What `Screening.features` returns."""
        from mirjax import features

        parts, names = [], None
        for clips, _ in self.load():
            columns, names = [], []
            for network in self.networks:
                for kind in self.screening.input:
                    moments = self.moments(network, clips) if kind == "standardised" else (0.0, 1.0)
                    found = self.network_features(network, clips, self.screening.seeds, moments)
                    for seed, (values, _) in found.items():
                        columns.append(values)
                        label = f"{network.name}/{network.n}/{kind}/{seed}"
                        names += [f"{label}/{name}" for name in features.feature_names(network.module)]
            parts.append((np.concatenate(columns, axis=1), clips))
        return {
            "features": np.concatenate([values for values, _ in parts]),
            "ids": np.concatenate([clips.ids for _, clips in parts]),
            "datasets": np.concatenate([np.full(len(clips), clips.name) for _, clips in parts]),
            "labels": np.concatenate([clips.labels for _, clips in parts]),
            "names": np.array(names),
        }

    # ── scores ────────────────────────────────────────────────────────────────────────────────────

    def compute(self, clips, partition, todo, bar) -> Iterator[tuple[Cell, list[dict], list[dict] | None]]:
        """Compute cells in order; cells of one network and input share its features."""
        for (network, kind, name), group in itertools.groupby(
            todo, key=lambda item: (item[0].network, item[0].input, item[0].architecture)
        ):
            group = list(group)
            bar.set_postfix_str(f"{clips.name} {name}")
            if name in ("chance", "majority"):
                for cell, prints in group:
                    yield cell, *self.without_features(cell, clips, partition, prints)
                continue
            seeds = sorted({cell.seed for cell, _ in group})
            if name == "mfcc":
                table = self.mfcc(clips)
                by_fold = [{seed: table for seed in seeds}]
            elif kind == "standardised_train":
                by_fold = [
                    self.network_features(network, clips, seeds, self.moments(network, clips, fold.train))
                    for fold in partition.folds
                ]
            else:
                moments = self.moments(network, clips) if kind == "standardised" else (0.0, 1.0)
                by_fold = [self.network_features(network, clips, seeds, moments)]
            for cell, prints in group:
                yield (
                    cell,
                    *self.classify(cell, clips, partition, [tables[cell.seed] for tables in by_fold], prints),
                )

    def classify(self, cell, clips, partition, tables, prints) -> tuple[list[dict], list[dict]]:
        """Records and predictions of one cell, from one table of features for all folds or one for each."""
        from mirjax.classifiers import grid as grids

        began = time.perf_counter()
        made = [
            grids.make_grid(cell.classifier, x, clips.labels, scaling=cell.scaling, seed=cell.seed) for x, _ in tables
        ]
        of_fold = made if len(made) > 1 else made * len(partition.folds)
        if (selection := self.selection(partition)) == "legacy":
            scored = [
                _accuracies(grid, clips.labels, fold.train, fold.test)
                for grid, fold in zip(of_fold, partition.folds, strict=True)
            ]
            chosen = [int(np.mean(scored, axis=0).argmax())] * len(partition.folds)
        else:
            chosen = [
                _select(grid, clips.labels, fold, partition, selection)
                for grid, fold in zip(of_fold, partition.folds, strict=True)
            ]
        outcomes, predictions = [], []
        for grid, fold, setting in zip(of_fold, partition.folds, chosen, strict=True):
            labels, scores = grid.scores(setting, fold.train, fold.test)
            outcomes.append((fold, metrics.score(clips.labels[fold.test], labels), grid.settings[setting]))
            predictions += _prediction_rows(clips, partition, fold, labels, scores, grid.classes)
        seconds = time.perf_counter() - began
        feature_seconds = float(np.mean([seconds for _, seconds in tables]))
        sizes = {"num_features": int(tables[0][0].shape[1]), "feature_seconds_per_clip": feature_seconds}
        return self.records(cell, clips, partition, outcomes, prints, seconds, sizes), predictions

    def without_features(self, cell, clips, partition, prints) -> tuple[list[dict], list[dict] | None]:
        """Chance and the majority class: no network, no classifier."""
        outcomes, predictions = [], []
        for fold in partition.folds:
            truth = clips.labels[fold.test]
            if cell.architecture == "majority":
                classes, counts = np.unique(clips.labels[fold.train], return_counts=True)
                label = classes[counts.argmax()]
                labels = np.full(len(truth), label)
                known = np.unique(clips.labels)
                scores = np.repeat((known == label)[None].astype(float), len(truth), axis=0)
                predictions += _prediction_rows(clips, partition, fold, labels, scores, known)
                outcomes.append((fold, metrics.score(truth, labels), {}))
            else:
                share = 1 / len(np.unique(clips.labels))
                priors = np.unique(truth, return_counts=True)[1] / len(truth)
                f1 = float(np.mean(2 * priors * share / (priors + share)))  # at the expected counts
                values = {"accuracy": share, "balanced_accuracy": share, "macro_f1": f1}
                outcomes.append((fold, values, {}))
        sizes = {"num_features": 0, "feature_seconds_per_clip": 0.0}
        return self.records(cell, clips, partition, outcomes, prints, 0.0, sizes), predictions or None

    def records(self, cell, clips, partition, outcomes, prints, seconds, sizes) -> list[dict]:
        from mirjax import features

        network = cell.network
        num_samples = self.screening.num_samples
        rows = []
        for fold, values, hyperparameters in outcomes:
            for metric in metrics.METRICS:
                rows.append(
                    {
                        "experiment": self.screening.name,
                        "dataset": clips.name,
                        "fold": fold.name,
                        "architecture": cell.architecture,
                        "width": network and network.width,
                        "n": network and network.n,
                        "input": cell.input,
                        "options": cell.options,
                        "seed": cell.seed,
                        "classifier": cell.classifier,
                        "scaling": cell.scaling,
                        "protocol": partition.kind,
                        "selection": self.selection(partition),
                        "hyperparameters": hyperparameters,
                        "metric": metric,
                        "value": values[metric],
                        "n_train": len(fold.train),
                        "n_test": len(fold.test),
                        "num_parameters": features.num_parameters(network.module, num_samples) if network else 0,
                        "num_features": sizes["num_features"],
                        "gflops": features.gigaflops(network.module, num_samples) if network else 0.0,
                        "seconds": round(seconds, 4),
                        "feature_seconds_per_clip": round(sizes["feature_seconds_per_clip"], 6),
                        "split_hash": partition.hash,
                        "commit": self.commit,
                        "versions": self.versions,
                        "fingerprint": prints[len(rows)],
                        "predictions": None,
                    }
                )
        return rows


def _accuracies(grid, labels, train, test) -> np.ndarray:
    """Accuracy of every setting, f64[G]."""
    return (grid.predict(train, test) == labels[test][None]).mean(axis=1)


def _select(grid, labels, fold, partition, selection) -> int:
    """The setting with the best accuracy inside the training clips, or on the validation clips; the first if tied."""
    from mirjax.data import splits

    if selection == "validation":
        if fold.valid is None:
            raise UsageError(
                "selection=validation needs a split with validation clips; use nested or legacy with folds"
            )
        return int(_accuracies(grid, labels, fold.train, fold.valid).argmax())
    inner = splits.inner_folds(fold, partition, labels)
    return int(np.mean([_accuracies(grid, labels, train, valid) for train, valid in inner], axis=0).argmax())


def _prediction_rows(clips, partition, fold, labels, scores, classes) -> list[dict]:
    return [
        {
            "id": str(clips.ids[i]),
            "fold": fold.name,
            "group": str(partition.groups[i]),
            "label": str(clips.labels[i]),
            "prediction": str(label),
            "scores": {str(name): float(f"{score:.6g}") for name, score in zip(classes, row, strict=True)},
        }
        for i, label, row in zip(fold.test, labels, scores, strict=True)
    ]


def _file_name(dataset: str, cell: Cell) -> str:
    network = cell.network
    parts = [
        dataset,
        cell.architecture,
        f"n{network.n}" if network and network.n else "",
        cell.input,
        cell.scaling,
        cell.classifier,
        f"s{cell.seed}",
    ]
    return "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", part) for part in parts if part)


def _versions() -> dict[str, str]:
    import jax

    packages = ("mirjax", "jax", "jaxlib", "flax", "numpy", "scipy", "scikit-learn", "soundfile", "soxr")
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | {"platform": jax.default_backend()}


def _commit() -> str | None:
    """The commit of the code that runs, with `-dirty` when files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


@contextlib.contextmanager
def _logging_to(workdir: Path):
    """Let `workdir/log.txt` collect what the package logs."""
    handler = logging.FileHandler(workdir / "log.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = _log.level
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        _log.setLevel(level)
        handler.close()

"""The work of a screening: cells, their features, their scores, their records.

A cell is one feature extractor, one classifier and one data set, scored on every fold. Cells are computed in a fixed
order, those of one network and input sharing its features, and written as soon as they are known.
Names: `Architecture`, `Cell`, `Run`.
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
from mirjax.data import loader
from mirjax.experiments.store import BLOCK, FeatureStore

SAMPLE_RATE = 12_000
# Raise when the same inputs come to give other numbers: stored features and records are then computed anew.
NUMBERS = 1

# What may grow in a run folder; the rest of a configuration is fixed.
GROWING = ("data", "architectures", "seeds", "classifiers")
INNER_FOLDS = 3  # of nested selection; the data's folds that are left, merged into so many
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


class Run:
    """A screening at work: what is open and shared while cells are computed."""

    def __init__(self, screening, sources, progress: bool):
        self.screening = screening
        self.sources = sources
        self.progress = progress
        self.cache = Path(screening.cache) if screening.cache else Path.home() / ".cache" / "mirjax"
        self.store = FeatureStore(self.cache)
        self.networks = screening.networks()
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
        """Compute what the run folder lacks; returns the records of all planned cells."""
        from mirjax import results

        self.check_lengths()
        with (
            results.RunFolder.open(workdir, self.screening.settings(), extendable=GROWING) as folder,
            _logging_to(workdir),
        ):
            loaded = self.load()
            plans = []
            for source, (clips, partition) in zip(self.sources, loaded, strict=True):
                for note in source.notes:  # what was left out while decoding is in the log already
                    _log.info("%s: %s", clips.name, note)
                folder.note_dataset(
                    clips.name,
                    hash=f"{clips.content_hash[:16]}-{partition.hash}",
                    classes=sorted(set(clips.labels.tolist())),
                    num_clips=len(clips),
                )
                _log.info("%s: %d clips, %s", clips.name, len(clips), partition.note)
                plans.append([(cell, self.fingerprints(cell, clips, partition)) for cell in self.cells(clips)])
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

    def check_lengths(self) -> None:
        """Refuse, before any work, clips too short for a network."""
        from mirjax import features

        for network in self.networks:
            try:
                features.num_features(network.module, self.screening.num_samples)
            except ValueError as error:
                raise UsageError(f"{network.name} cannot take clips of {self.screening.seconds} s: {error}") from None

    # ── the plan ──────────────────────────────────────────────────────────────────────────────────

    def cells(self, clips) -> Iterator[Cell]:
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
        """How hyper-parameters are chosen on this data set."""
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
                values, durations = [], []
                for i in range(start, min(start + BLOCK, len(clips))):
                    began = time.perf_counter()
                    values.append(features.mfcc_features([clips.audio(i)], sample_rate=SAMPLE_RATE))
                    durations.append(time.perf_counter() - began)
                # The median leaves out the clips whose length was new and had to be compiled for.
                block = np.concatenate(values), float(np.median(durations))
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
                accuracies(grid, clips.labels, fold.train, fold.test)
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
        """Records of a cell, all folds × metrics, from (fold, values by metric, hyper-parameters) of each fold."""
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


def accuracies(grid, labels, train, test) -> np.ndarray:
    """Accuracy of every setting of a grid, fitted to `train` and scored on `test`: f64[G]."""
    return (grid.predict(train, test) == labels[test][None]).mean(axis=1)


def _select(grid, labels, fold, partition, selection) -> int:
    """The setting with the best accuracy inside the training clips, or on the validation clips; the first if tied."""
    from mirjax.data import splits

    if selection == "validation":
        if fold.valid is None:
            raise UsageError(
                "selection=validation needs a split with validation clips; use nested or legacy with folds"
            )
        return int(accuracies(grid, labels, fold.train, fold.valid).argmax())
    inner = splits.inner_folds(fold, partition, labels, max_folds=INNER_FOLDS)
    return int(np.mean([accuracies(grid, labels, train, valid) for train, valid in inner], axis=0).argmax())


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

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
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mirjax import config, metrics
from mirjax.classifiers import DETERMINISTIC
from mirjax.config import UsageError
from mirjax.data import loader
from mirjax.experiments import shards
from mirjax.experiments.store import BLOCK, FeatureStore
from mirjax.models import zoo

SAMPLE_RATE = 12_000
# Raise when the same inputs come to give other numbers: stored features and records are then computed anew.
NUMBERS = 1

# What may grow in a run folder; the rest of a configuration is fixed.
GROWING = ("data", "architectures", "n", "seeds", "classifiers")
INNER_FOLDS = 3  # of nested selection; the data's folds that are left, merged into so many
_CELL_KEYS = ("dataset", "architecture", "n", "input", "options", "seed", "classifier", "scaling")

_log = logging.getLogger("mirjax")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network to be screened: its name, its width setting, the module, and the length of its clips."""

    name: str
    width: int | None
    n: int | None
    module: object = dataclasses.field(repr=False)
    num_samples: int

    @property
    def sample_rate(self) -> int:
        """Hertz at which the network listens."""
        return getattr(self.module.representation, "sample_rate", SAMPLE_RATE)

    @property
    def program(self) -> str:
        """Fingerprint of what the network computes (`features.program`)."""
        from mirjax import features

        return features.program(self.module, self.num_samples)


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
        from mirjax import features

        self.screening = screening
        self.sources = sources
        self.progress = progress
        self.cache = Path(screening.cache) if screening.cache else Path.home() / ".cache" / "mirjax"
        self.store = FeatureStore(self.cache)
        self.networks = screening.networks()
        self.part = None  # all cells are this run's
        if getattr(screening, "shard", None) is not None:
            self.part = shards.part(screening, sources, self.networks)
            self.sources = [source for source in sources if any(u.dataset == source.facts.name for u in self.part)]
        self.beside = shards.Beside()
        self.commit = _commit()
        self.numerics = features.numerics()
        self.versions = _versions() | {key: str(value) for key, value in self.numerics.items()}
        self._sums = {}
        self._at_rate = {}

    def load(self) -> list:
        """Decoded clips of every data set, at the study's sample rate."""
        return [self._decode(source, SAMPLE_RATE) for source in self.sources]

    def _decode(self, source, sample_rate):
        from mirjax.data import audio

        settings = {"cache": self.cache, "strict": self.screening.strict, "progress": self.progress}
        return audio.load_clips(source, sample_rate=sample_rate, **settings)

    def heard(self, clips, network: Architecture):
        """The same clips at the sample rate of a network."""
        rate = network.sample_rate
        if rate == clips.sample_rate:
            return clips
        if (clips.name, rate) not in self._at_rate:
            source = next(source for source in self.sources if source.facts.name == clips.name)
            with warnings.catch_warnings(action="ignore"):  # its faults were told already
                again = self._decode(source, rate)
            if again.content_hash != clips.content_hash:
                raise ValueError(f"{clips.name} has changed since it was loaded; run again")
            self._at_rate[clips.name, rate] = again
        return self._at_rate[clips.name, rate]

    def batches(self, clips, network: Architecture, indices=None):
        """Fitted clips as a network hears them."""
        heard = self.heard(clips, network)
        return loader.batches(heard, num_samples=network.num_samples, fit=self.screening.fit, indices=indices)

    def divide(self, clips):
        """The partition of a data set, checked: every fit, of the inner folds too, meets two classes or more.

        Raises:
          UsageError: the selection asked for is not to be had with this partition.
          ValueError: the data cannot be divided so; data set and fold are named.
        """
        from mirjax.data import splits

        partition = splits.partition(clips, protocol=self.screening.protocol)
        for fold in partition.folds:
            parts = [fold.train]
            if (selection := self.selection(partition)) == "validation" and fold.valid is None:
                raise UsageError(
                    f"selection=validation needs a split with validation clips, and {clips.name} has folds"
                )
            if selection == "nested":
                parts += [train for train, _ in _inner_folds(fold, partition, clips.labels)]
            if any(len(set(clips.labels[part])) < 2 for part in parts):
                raise ValueError(
                    f"{clips.name}, fold {fold.name!r}: training clips of one class only (selection={selection}); "
                    "give that fold clips of another class, or use other folds"
                )
        return partition

    def execute(self, workdir: Path, *, or_beside: bool = False) -> tuple[list[dict], Path]:
        """Compute what the run folder lacks.

        Args:
          workdir: the run folder.
          or_beside: if it holds a run of other data or code, use a folder beside it whose name tells them apart.

        Returns:
          (records of all planned cells, the run folder used).
        """
        from mirjax import results

        self.check_lengths()
        settings = self.screening.settings()
        requested = workdir
        if not or_beside:
            results.check_config(workdir, settings)  # before hours of decoding
        loaded = [(clips, self.divide(clips)) for clips in self.load()]
        plans, datasets = [], {}
        for clips, partition in loaded:
            datasets[clips.name] = {
                "hash": f"{clips.content_hash[:16]}-{partition.hash}",
                "classes": sorted(set(clips.labels.tolist())),
                "num_clips": len(clips),
            }
            mine = [c for c in self.cells(clips) if self.part is None or shards.holds(self.part, clips.name, c)]
            plans.append([(cell, self.fingerprints(cell, clips, partition)) for cell in mine])
        complete = settings | {"datasets": datasets}
        try:
            results.check_config(workdir, complete)
            self.check_records(workdir, loaded, plans)
        except results.ConfigMismatch:
            if not or_beside:
                raise
            told_apart_by = [datasets, self.numerics, self.networks[0].program]
            workdir = workdir.with_name(f"{workdir.name}-{config.digest(told_apart_by)}")
        with results.RunFolder.open(workdir, complete) as folder, _logging_to(workdir):
            for clips, partition in loaded:
                for note in (f"{len(clips)} clips, {partition.note}", *clips.notes):
                    _log.info("%s: %s", clips.name, note.removeprefix(f"{clips.name}: "))
            planned = [fingerprints for plan in plans for _, fingerprints in plan]
            folder.keep_complete(dict(enumerate(planned)))
            if hasattr(self.screening, "shard"):
                (workdir / "records.jsonl").touch()  # a part without cells is a run like any other
                self.beside = shards.Beside(shards.related(requested, workdir))
            self.fill(folder, loaded, plans)
        wanted = {fingerprint for fingerprints in planned for fingerprint in fingerprints}
        return [record for record in results.read_records(workdir) if record["fingerprint"] in wanted], workdir

    def fill(self, folder, loaded, plans) -> None:
        """Append the cells that the folder lacks: taken over where they lie beside it, else computed."""
        from tqdm import tqdm

        done = folder.done
        missing = sum(not done.issuperset(prints) for plan in plans for _, prints in plan)
        _log.info("%d of %d cells to compute", missing, sum(map(len, plans)))
        with tqdm(total=missing, desc=self.screening.name, unit="cell", disable=not self.progress) as bar:
            for (clips, partition), plan in zip(loaded, plans, strict=True):
                todo = [(cell, prints) for cell, prints in plan if not done.issuperset(prints)]
                for cell, rows, predictions in self.taken_or_computed(clips, partition, todo, bar):
                    name = predictions and f"{file_name(clips.name, cell)}-{rows[0]['fingerprint'][:6]}.jsonl"
                    folder.append(rows, predictions or (), name)
                    bar.update()

    def taken_or_computed(self, clips, partition, todo, bar) -> Iterator[tuple[Cell, list[dict], list[dict] | None]]:
        """Cells in order, as `compute` gives them; those that lie in folders beside are not computed."""
        for there, stretch in itertools.groupby(todo, key=lambda item: self.beside.holds(item[1])):
            if there:
                yield from ((cell, *self.beside.take(prints)) for cell, prints in stretch)
            else:
                yield from self.compute(clips, partition, list(stretch), bar)

    def check_records(self, workdir: Path, loaded, plans) -> None:
        """Refuse a folder whose records of these very cells were made by other code or settings of JAX.

        Raises:
          ConfigMismatch: names the first such cell.
        """
        from mirjax import results

        if not (workdir / "records.jsonl").is_file():
            return
        there = {}
        with warnings.catch_warnings(action="ignore"):  # a torn last line, which opening the folder mends
            records = results.read_records(workdir)
        for record in records:
            there.setdefault(tuple(str(record.get(key)) for key in _CELL_KEYS), set()).add(record["fingerprint"])
        for (clips, _), plan in zip(loaded, plans, strict=True):
            for cell, prints in plan:
                n = cell.network and cell.network.n
                key = (
                    clips.name,
                    cell.architecture,
                    n,
                    cell.input,
                    cell.options,
                    cell.seed,
                    cell.classifier,
                    cell.scaling,
                )
                if not there.get(tuple(map(str, key)), set()) <= set(prints):
                    raise results.ConfigMismatch(
                        f"{workdir} holds records of {cell.architecture} on {clips.name} made by other code, or with "
                        "other settings of JAX (64 bits, random numbers); choose another workdir"
                    )

    def check_lengths(self) -> None:
        """Refuse, before any work, clips too short for a network."""
        from mirjax import features

        for network in self.networks:
            try:
                features.num_features(network.module, network.num_samples)
            except ValueError as error:
                seconds = self.screening.num_samples / SAMPLE_RATE
                raise UsageError(f"{network.name} cannot take clips of {seconds:g} s: {error}") from None

    # ── the plan ──────────────────────────────────────────────────────────────────────────────────

    def cells(self, clips) -> Iterator[Cell]:
        """All cells of a data set: chance and majority, the MFCC baseline, then the networks."""
        screening = self.screening
        for name in ("chance", "majority"):
            yield Cell(name, None, "raw", {}, 0, "none", "none")
        for scaling in screening.scaling:
            for classifier in screening.classifiers:
                for seed in (0,) if classifier in DETERMINISTIC else screening.seeds:
                    yield Cell("mfcc", None, "raw", {}, seed, classifier, scaling)
        for network in self.networks:
            options = {"seconds": round(screening.num_samples / SAMPLE_RATE, 6), "fit": screening.fit}
            if screening.legacy_collapse and network.name in zoo.COLLAPSING:
                options["legacy_collapse"] = True
            if screening.layers:
                options["layers"] = list(screening.layers)
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
            "numerics": self.numerics,
            "data": clips.content_hash,
            "split": partition.hash,
            "protocol": partition.kind,
            "selection": self.selection(partition),
            "architecture": cell.architecture,
            "program": network and network.program,
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
            self._sums[key] = features.representation_sums(network.module, self.batches(clips, network))
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
            network.program,
            network.num_samples,
            network.sample_rate,
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
                    trees[seed] = features.initialise(network.module, jax.random.key(seed), network.num_samples)
            if missing:
                indices = range(start, min(start + BLOCK, len(clips)))

                def extract(indices, chosen):
                    batches = self.batches(clips, network, indices)
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
        self.check_lengths()
        for clips in self.load():
            columns, names = [], []
            for network in self.networks:
                for kind in self.screening.input:
                    moments = self.moments(network, clips) if kind == "standardised" else (0.0, 1.0)
                    found = self.network_features(network, clips, self.screening.seeds, moments)
                    for seed, (values, _) in found.items():
                        columns.append(values)
                        label = f"{network.name}/{network.n}/{kind}/{seed}"
                        names += [
                            f"{label}/{name}" for name in features.feature_names(network.module, network.num_samples)
                        ]
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
                select(grid, clips.labels, fold, partition, selection)
                for grid, fold in zip(of_fold, partition.folds, strict=True)
            ]
        outcomes, predictions = [], []
        for grid, fold, setting in zip(of_fold, partition.folds, chosen, strict=True):
            labels, scores = grid.scores(setting, fold.train, fold.test)
            outcomes.append((fold, metrics.score(clips.labels[fold.test], labels), grid.settings[setting]))
            predictions += prediction_rows(clips, partition, fold, labels, scores, grid.classes)
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
                predictions += prediction_rows(clips, partition, fold, labels, scores, known)
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
        num_samples = network and network.num_samples
        rows = []
        for fold, values, hyperparameters in outcomes:
            for metric in values:
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


def select(grid, labels, fold, partition, selection) -> int:
    """The setting with the best accuracy inside the training clips, or on the validation clips; the first if tied."""
    if len(grid.settings) == 1:
        return 0
    if selection == "validation":
        return int(accuracies(grid, labels, fold.train, fold.valid).argmax())
    inner = _inner_folds(fold, partition, labels)
    return int(np.mean([accuracies(grid, labels, train, valid) for train, valid in inner], axis=0).argmax())


def _inner_folds(fold, partition, labels):
    from mirjax.data import splits

    return splits.inner_folds(fold, partition, labels, max_folds=INNER_FOLDS)


def prediction_rows(clips, partition, fold, labels, scores, classes) -> list[dict]:
    """What is kept of every test clip of a fold: id, fold, group, label, prediction and scores."""
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


def file_name(dataset: str, cell: Cell) -> str:
    """Name of a cell in file names; not unique by itself."""
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
    handler = logging.FileHandler(workdir / "log.txt", encoding="utf-8", errors="backslashreplace")
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

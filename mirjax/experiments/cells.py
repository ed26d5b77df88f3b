"""What every study made of cells shares: their plan, the run folder that they grow in, their records.

A cell is one feature extractor, one classifier and one data set, scored on every fold. Cells are computed in a fixed
order and written as soon as they are known; what a folder has is not computed again. How they are computed is the
study's: `screening_run`, `training_run`, `batchnorm`, `sequences`.
Names: `Architecture`, `Cell`, `Run`.
"""

import dataclasses
import itertools
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from mirjax import config, metrics
from mirjax.config import UsageError
from mirjax.data import loader
from mirjax.experiments import provenance, shards
from mirjax.experiments.store import FeatureStore

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
    """A study at work: what is open and shared while its cells are computed; `screening` is the study."""

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
        self.commit = provenance.commit()
        self.numerics = features.numerics()
        self.versions = provenance.versions() | {key: str(value) for key, value in self.numerics.items()}
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
                parts += [train for train, _ in inner_folds(fold, partition, clips.labels)]
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
        with results.RunFolder.open(workdir, complete) as folder, provenance.logging_to(workdir):
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
        """All cells of a data set, in the order in which they are computed."""
        raise NotImplementedError

    def compute(self, clips, partition, todo, bar) -> Iterator[tuple[Cell, list[dict], list[dict] | None]]:
        """Compute cells, in order: each with its records and what is kept of its test clips.

        Args:
          clips: the decoded clips.
          partition: how they are divided.
          todo: (cell, fingerprints of its records) of those that lack.
          bar: the progress bar, to say what is being done.
        """
        raise NotImplementedError

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

    # ── records ───────────────────────────────────────────────────────────────────────────────────

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


def inner_folds(fold, partition, labels) -> list[tuple]:
    """(train, valid) of the folds inside a fold's training clips, for nested selection."""
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

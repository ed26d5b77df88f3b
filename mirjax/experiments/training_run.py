"""The work of a training: cells, each a network trained on every fold of a data set under one seed.

It plans, writes and resumes as a screening does (`cells.Run`); a cell that is interrupted goes on from its checkpoint.
With several processes all of them compute the same cells together and the first one writes.
Names: `Trainee`, `Run`.
"""

import dataclasses
import functools
import glob
import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from mirjax import checkpoint, config, processes, train
from mirjax.classifiers import DETERMINISTIC
from mirjax.config import UsageError
from mirjax.data import patches
from mirjax.data.loader import fit_length
from mirjax.experiments import cells, frame_mixture, labels, recipes, screening_run, thresholds
from mirjax.experiments.fitting import Fitting, Fold
from mirjax.models import taggers
from mirjax.signal.representations import Waveform
from mirjax.tasks import tagger, tagging

MOST_REPEATED = 10  # times that a clip is repeated to fill a patch of a length asked for
AHEAD_BYTES = 4 << 30  # of representations kept in memory
PATH_BYTES = 4096
CARVED = 0.2  # share of the training clips that `splits.partition` makes validation clips where a split has none

_log = logging.getLogger("mirjax")


@dataclasses.dataclass(frozen=True)
class Trainee(cells.Architecture):
    """A network to be trained: its name, its n, the module with a head, and the samples of its patches.

    Until a data set is known, the module is a name and there are no samples.
    """

    @property
    def program(self) -> str:
        """Fingerprint of what the network computes."""
        return super().program if self.num_samples else ""


class Run(screening_run.Run):
    """A training at work; `screening` is the experiment."""

    def __init__(self, experiment, sources, progress: bool):
        self._built = {}
        self._memory = {}
        self._partitions = {}
        self._divided = {}
        self._told = set()
        super().__init__(experiment, sources, progress and jax.process_index() == 0)
        self.share = (jax.process_index(), jax.process_count())

    # ── the plan ──────────────────────────────────────────────────────────────────────────────────

    def networks_of(self, clips) -> list[cells.Architecture]:
        """The networks for a data set: their heads have its classes, their patches fit its clips."""
        experiment = self.screening
        found = []
        for trainee in self.networks:
            key = (trainee.name, trainee.n, clips.name)
            if key not in self._built:
                table = self.labels(clips)
                module, outputs = trainee.module, table.num_outputs(experiment.loss)
                if isinstance(module, str):
                    module = tagger.build(module, trainee.n, outputs)
                num_samples = self._patch_samples(trainee.name, module, clips)
                if experiment.whole and not module.is_variable:
                    raise UsageError(f"whole=true: {trainee.name} does not mask padding; evaluate it by windows")
                self._built[key] = dataclasses.replace(trainee, module=module, num_samples=num_samples)
            found.append(self._built[key])
        return found

    @functools.lru_cache(maxsize=16)  # noqa: B019  (lives as long as the run)
    def labels(self, clips) -> labels.Table:
        """The labels of a data set as a task takes them."""
        return labels.table(clips, self.screening.labels)

    def _patch_samples(self, name: str, module, clips) -> int:
        """Samples of a patch, at the network's sample rate."""
        experiment, representation = self.screening, module.representation
        rate = getattr(representation, "sample_rate", cells.SAMPLE_RATE)
        published = module.num_steps and taggers.num_samples(representation, module.num_steps)
        if getattr(module, "fixed", False):
            if experiment.patch is not None and not np.isclose(experiment.patch * rate, published, rtol=0.02):
                raise UsageError(
                    f"patch={experiment.patch:g} s: {name} takes {published / rate:.4g} s, no more and no less; "
                    "leave patch out, or train it in a run of its own"
                )
            return published
        if experiment.patch is not None:
            longest = experiment.seconds or clips.lengths.max() / clips.sample_rate
            if experiment.patch > MOST_REPEATED * longest:
                raise UsageError(
                    f"patch={experiment.patch:g} s is more than {MOST_REPEATED} times as long as the clips of "
                    f"{clips.name} (at most {longest:.3g} s), which would be repeated to fill it; lower patch"
                )
            return round(experiment.patch * rate)
        if experiment.seconds is not None:
            whole = round(experiment.seconds * rate)
        else:
            whole = int(np.ceil(np.median(clips.lengths) * rate / clips.sample_rate))
        return min(published or whole, whole)

    def divide(self, clips):
        """The partition of a data set; `folds=` leaves the others out."""
        from mirjax.data import splits

        if self.screening.labels == "one":
            folded = self._with_folds(clips)
            whole = super().divide(folded)
        else:  # tags have no classes to stratify by
            folded = self._with_folds(dataclasses.replace(clips, labels=np.full(len(clips), "")))
            whole = splits.partition(folded, protocol=self.screening.protocol)
        if folded.folds is not clips.folds:
            whole = dataclasses.replace(whole, note=f"{self.screening.made_folds} made folds, stratified, shuffled")
        if self.screening.labels != "one":
            whole = dataclasses.replace(whole, note=whole.note.replace("stratified, ", ""))
        if self._draws_its_own(clips, whole):
            note = f"{whole.note} for baselines; for what is trained {self.screening.validation:g} of train"
            whole = dataclasses.replace(whole, note=note)
        self._partitions[clips.name] = whole
        wanted, names = self.screening.folds, [fold.name for fold in whole.folds]
        if wanted is None:
            return whole
        if unknown := [name for name in wanted if name not in names]:
            raise UsageError(f"folds={unknown[0]!r} is no fold of {clips.name}; known: {', '.join(names)}")
        return dataclasses.replace(whole, folds=tuple(fold for fold in whole.folds if fold.name in wanted))

    def _with_folds(self, clips):
        """The clips, with `made_folds` folds where they have neither their own nor a split that is used."""
        from mirjax.data import splits

        protocol, count = self.screening.protocol, self.screening.made_folds
        divided = clips.folds is not None or protocol == "split" or (protocol == "auto" and clips.splits is not None)
        if divided or count == splits.NUM_FOLDS:
            return clips
        usual = splits.partition(clips, protocol="cv")  # refuses what must not be divided at random
        whole = splits.Fold("all", np.arange(len(clips)), None, np.array([], int))
        parts = splits.inner_folds(whole, dataclasses.replace(usual, folds=()), clips.labels, max_folds=count)
        if len(parts) < count:
            raise UsageError(f"made_folds={count}: {clips.name} has clips or groups for {len(parts)} only; lower it")
        names = np.empty(len(clips), f"<U{len(str(count))}")
        for number, (_, test) in enumerate(parts):
            names[test] = str(number)
        return dataclasses.replace(clips, folds=names)

    def check_lengths(self) -> None:
        """Patches are checked when the data are known."""

    def earlier(self, cell, clips) -> list[cells.Cell]:
        """The cells with whose trained weights a cell begins; none for most."""
        if "begin_with" not in cell.options:
            return []
        networks = {network.name: network for network in self.networks_of(clips)}
        others = [networks[name] for name in cell.options["begin_with"].split("+")]
        plain = {name: value for name, value in cell.options.items() if name != "begin_with"}
        return [dataclasses.replace(cell, architecture=o.name, network=o, options=plain) for o in others]

    def cells(self, clips) -> Iterator[cells.Cell]:
        """The baselines' cells, those of frames, the networks' and last those that begin with others' weights."""
        experiment = self.screening
        if experiment.labels == "one":
            for name in ("chance", "majority"):
                yield cells.Cell(name, None, "raw", {}, 0, "none", "none")
            for classifier in experiment.classifiers:
                for seed in (0,) if classifier in DETERMINISTIC else experiment.seeds:
                    yield cells.Cell("mfcc", None, "raw", {}, seed, classifier, "standard")
            yield from frame_mixture.cells_of(experiment)
        for network in self.networks_of(clips):
            for seed in experiment.seeds:
                yield cells.Cell(network.name, network, "raw", experiment.options(), seed, "trained", "none")
        for network in self.networks_of(clips):
            if network.name in experiment.beginners:
                options = experiment.options() | {"begin_with": "+".join(recipes.BEGINNINGS[network.name][0])}
                for seed in experiment.seeds:
                    yield cells.Cell(network.name, network, "raw", options, seed, "trained", "none")

    # ── several processes ─────────────────────────────────────────────────────────────────────────

    def execute(self, workdir: Path, *, or_beside: bool = False) -> tuple[list[dict], Path]:
        """As a screening's; several processes compute the same cells together, and the first one writes."""
        if jax.process_count() == 1:
            return super().execute(workdir, or_beside=or_beside)
        processes.agree(config.digest([self.screening.settings(), self.numerics], 32), "configuration")
        loaded = [(clips, self.divide(clips)) for clips in self.load()]
        processes.agree(config.digest([[c.content_hash, p.hash] for c, p in loaded], 32), "data")
        if jax.process_index() == 0:
            return super().execute(workdir, or_beside=or_beside)
        # The first process has the folder, and tells which it is, and of each plan what there is to do.
        self.folder = Path(_tell(np.zeros(PATH_BYTES, np.uint8)).tobytes().rstrip(b"\0").decode())
        for clips, partition in loaded:
            plan = [(cell, self.fingerprints(cell, clips, partition)) for cell in self.cells(clips)]
            todo = _tell(np.zeros(len(plan), bool)).astype(bool)
            chosen = [each for each, wanted in zip(plan, todo, strict=True) if wanted]
            for _ in self.compute(clips, partition, chosen, None):
                pass
        return [], workdir

    def fill(self, folder, loaded, plans, *rest) -> None:
        """As a screening's; tells the other processes what there is to do."""
        self.folder = Path(folder.path)
        if jax.process_count() == 1:
            super().fill(folder, loaded, plans, *rest)
            return checkpoint.clear(self.folder / "checkpoints")
        _tell(np.frombuffer(str(self.folder.absolute()).encode().ljust(PATH_BYTES, b"\0"), np.uint8))
        for one, plan in zip(loaded, plans, strict=True):
            _tell(np.array([not folder.done.issuperset(prints) for _, prints in plan]))
            super().fill(folder, [one], [plan], *rest)
        return checkpoint.clear(self.folder / "checkpoints")

    # ── a cell ────────────────────────────────────────────────────────────────────────────────────

    def compute(self, clips, partition, todo, bar):
        """Compute cells in order; checkpoints of a network are cleared when its records are written."""
        own = [item for item in todo if item[0].classifier != "trained"]
        if jax.process_index() == 0 or bar is not None:
            of_frames = [item for item in own if item[0].architecture == frame_mixture.NAME]
            yield from super().compute(clips, partition, [item for item in own if item not in of_frames], bar)
            yield from frame_mixture.compute(self, clips, partition, of_frames)
        diverged = []  # cells and what was said of them
        for cell, prints in todo:
            if cell.classifier != "trained":
                continue
            gone = [each for each, _ in diverged]
            if missing := [each for each in self.earlier(cell, clips) if each in gone]:
                _log.error("%s is not trained, since %s diverged", cell.architecture, missing[0].architecture)
                continue
            if bar is not None:
                bar.set_postfix_str(f"{clips.name} {cell.architecture} seed {cell.seed}")
            try:
                done = self.train_cell(cell, clips, partition, prints)
            except train.NotFinite as error:
                if jax.process_count() > 1:
                    raise
                _log.error("%s: %s", cell.architecture, error)
                diverged.append((cell, str(error)))  # the other networks are not to wait for it
                continue
            yield cell, *done
            if jax.process_index() == 0:  # its records are written
                for folder in (self.folder / "checkpoints").glob(f"{glob.escape(file_name(clips, cell, prints))}-*"):
                    checkpoint.clear(folder)
        if diverged:
            raise train.NotFinite("; ".join(told for _, told in diverged))

    def train_cell(self, cell, clips, partition, prints) -> tuple[list[dict], list[dict]]:
        """Records and predictions of a cell: a training on every fold."""
        began = time.perf_counter()
        table, name = self.labels(clips), file_name(clips, cell, prints)
        earlier = [(each, self.fingerprints(each, clips, partition)) for each in self.earlier(cell, clips)]
        outcomes, predictions, validated, features, interrupted = [], [], [], 0, 0.0
        for fold in self.folds(partition, clips, cell.options["train_share"]):
            begin = [(each.network, f"{file_name(clips, each, own)}-{fold.name}") for each, own in earlier]
            fitted = self.fitting(cell, clips, partition, fold, f"{name}-{fold.name}", begin)
            outcome, chosen, features = fitted.run()
            interrupted += fitted.earlier
            truth = table.values[fold.test]
            values = tagging.judge(outcome, table.values, loss=table.loss("auto"), tags=table.names)  # by the labels
            values = {metric: values[metric] for metric in table.metrics}
            outcomes.append((fold, values, chosen))
            predictions += labels.prediction_rows(clips, partition, fold, truth, outcome.scores, table)
            if fitted.validated is not None:
                held_out, scores = dataclasses.replace(fold, test=fold.valid), fitted.validated.scores
                truth = table.values[fold.valid]
                validated += labels.prediction_rows(clips, partition, held_out, truth, scores, table)
        seconds = time.perf_counter() - began + interrupted
        sizes = {"num_features": features, "feature_seconds_per_clip": 0.0}
        rows = self.records(cell, clips, partition, outcomes, prints, seconds, sizes)
        selection = "validation_refit" if self.screening.retrain else "validation"
        last = not any(len(fold.valid) for fold, _, _ in outcomes)  # the last weights were taken
        rows = [row | {"selection": "last" if last else selection} for row in rows]
        if jax.process_index() == 0:
            if validated:
                thresholds.keep_validation(self.folder, f"{name}.jsonl", validated)
        return rows, predictions

    def fitting(self, cell, clips, partition, fold, name, begin) -> Fitting:
        """What trains a cell on a fold; a study may put something else in its place."""
        return Fitting(self, cell, clips, fold, name, begin)

    def folds(self, partition, clips, train_share: float = 1.0) -> list[Fold]:
        """The folds to train on, each with validation clips; these stay when a share of the training clips is taken."""
        from mirjax.data import shares

        experiment, found = self.screening, []
        for fold in partition.folds:
            rest, valid = self._without_validation(fold, clips, partition)
            if experiment.labels == "many":
                there = self.labels(clips).values[fold.test]
                if not (there.any(0) & ~there.all(0)).any():  # told before hours of training
                    raise ValueError(
                        f"{clips.name}, fold {fold.name!r}: no tag that some test clips have and others have not, so "
                        "nothing can be measured; give it other test clips, or other folds"
                    )
            classes = clips.labels if experiment.labels == "one" else None  # tags have no classes to stratify by
            rest = shares.take(rest, clips.ids, classes, share=train_share)
            if experiment.labels == "many":
                table = self.labels(clips)
                if (lacking := np.flatnonzero(~table.values[rest].any(0))).size:
                    told = ", ".join(table.names[i] for i in lacking[:8])
                    self._warn(
                        f"{clips.name}, fold {fold.name!r}: {len(lacking)} tags have no training clip ({told}); what "
                        "is trained learns to deny them, and they count in the means wherever test clips have them"
                    )
            found.append(Fold(fold.name, rest, valid, fold.test))
        return found

    def _draws_its_own(self, clips, partition) -> bool:
        """Whether a split's validation clips were made of training clips, and another share of these is asked for."""
        carved = partition.kind == "split" and not (clips.splits == "valid").any()
        return carved and self.screening.validation != CARVED

    def _without_validation(self, fold, clips, partition) -> tuple[np.ndarray, np.ndarray]:
        """(training clips, validation clips) of a fold of the partition."""
        from mirjax.data import splits

        key, share = (clips.name, fold.name), self.screening.validation
        if key not in self._divided:
            if self._draws_its_own(clips, partition):
                fold = dataclasses.replace(fold, train=np.union1d(fold.train, fold.valid), valid=None)
            rest, valid = fold.train, np.array([], int) if fold.valid is None else fold.valid
            if fold.valid is None and share:
                column = clips.labels if self.screening.labels == "one" else np.full(len(clips), "")
                rest, valid = splits.validation(fold, self._partitions[clips.name], column, share=share)
            self._divided[key] = rest, valid
        return self._divided[key]

    def _warn(self, message: str) -> None:
        """Tell something once a run, on the terminal and in its log."""
        if message not in self._told:
            self._told.add(message)
            warnings.warn(message, stacklevel=2)
            _log.warning("%s", message)

    def fingerprints(self, cell, clips, partition) -> list[str]:
        """Of all records of a cell, in the order in which they are written."""
        from mirjax import metrics

        if cell.classifier != "trained":
            return super().fingerprints(cell, clips, partition)
        identity = {
            "numbers": cells.NUMBERS,
            "numerics": self.numerics,
            "data": clips.content_hash,
            "split": partition.hash,
            "protocol": partition.kind,
            "architecture": cell.architecture,
            "program": cell.network.program,
            "n": cell.network.n,
            "options": cell.options,
            "seed": cell.seed,
        }
        if earlier := self.earlier(cell, clips):
            identity["earlier"] = [self.fingerprints(each, clips, partition) for each in earlier]
        shown = metrics.METRICS if self.screening.labels == "one" else self.labels(clips).metrics
        return self.fingerprints_of(identity, clips, partition, shown)

    def fingerprints_of(self, identity, clips, partition, shown) -> list[str]:
        """Of the records of every fold; validation clips that the partition does not have are part of theirs."""
        from mirjax import results

        found = []
        for fold in partition.folds:
            _, valid = self._without_validation(fold, clips, partition)
            own = {"validation": config.digest(sorted(clips.ids[valid].tolist()))}
            given = np.array_equal(valid, [] if fold.valid is None else fold.valid)
            about = identity if given else identity | own
            found += [results.fingerprint(**about, fold=fold.name, metric=metric) for metric in shown]
        return found

    # ── clips as a network hears them ─────────────────────────────────────────────────────────────

    def patches_of(self, cell, clips) -> patches.Clips:
        """Random access to the clips as patches are cut of them: audio, or representations kept in memory."""
        experiment, network = self.screening, cell.network
        heard, representation = self.heard(clips, network), network.module.representation
        length = experiment.seconds and round(experiment.seconds * network.sample_rate)

        def audio(i):
            clip = tagger.set_level(heard.audio(i), experiment.level)
            return clip if length is None else fit_length(clip, length, experiment.fit)

        peaks = {}  # of whole clips

        def cut(i, start, stop):
            if length is not None and heard.lengths[i] < length:
                return audio(i)[..., start:stop]
            piece = heard.piece(i, start, stop if length is None else min(stop, length))
            if experiment.level == "none":
                return piece
            if i not in peaks:
                peaks[i] = tagger.peak(heard.audio(i))
            return piece / peaks[i] if peaks[i] > 0 else piece

        lengths = np.full(len(clips), length) if length else heard.lengths
        values, ahead = self.labels(clips).values, self._ahead(network, lengths)
        if isinstance(representation, Waveform) or not ahead:
            return patches.Clips(audio, lengths, values, "audio", -1, experiment.fit, cut)
        key = (clips.name, representation)
        if key not in self._memory:
            self._memory = {key: _represent(representation, audio, len(clips), self.progress)}
        made = self._memory[key]
        lengths = np.array([len(x) for x in made])
        return patches.Clips(made.__getitem__, lengths, values, "representation", 0, experiment.fit)

    def _ahead(self, network, lengths) -> bool:
        experiment, representation = self.screening, network.module.representation
        draws_audio = any(recipes.AUGMENTATIONS[name][0] == "audio" for name in experiment.augment)
        if experiment.hear == "ahead" and draws_audio:
            raise UsageError(f"hear=ahead cannot go with augment={','.join(experiment.augment)}, which changes audio")
        if draws_audio or isinstance(representation, Waveform):
            return False
        if experiment.hear != "auto":
            return experiment.hear == "ahead"
        sizes, counts = np.unique(lengths, return_counts=True)
        values = sum(c * np.prod(representation.shape(int(n)), dtype=float) for n, c in zip(sizes, counts, strict=True))
        return 4 * values < AHEAD_BYTES


def file_name(clips, cell, prints) -> str:
    """Of the files of a cell, to which the fold is added."""
    return f"{cells.file_name(clips.name, cell)}-{prints[0][:6]}"


def _represent(representation, audio, count, progress) -> list[np.ndarray]:
    from tqdm import tqdm

    compiled = jax.jit(representation)
    numbers = tqdm(range(count), desc="representations", unit="clip", leave=False, disable=not progress)
    return [np.asarray(compiled(audio(i))) for i in numbers]


def _tell(values: np.ndarray) -> np.ndarray:
    """The first process' answer, in all of them."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(values)).astype(values.dtype)

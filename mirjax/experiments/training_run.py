"""The work of a training: cells, each a network trained on every fold of a data set under one seed.

It plans, writes and resumes as a screening does (`cells.Run`); a cell that is interrupted goes on from its checkpoint.
With several processes all of them compute the same cells together and the first one writes.
Names: `Trainee`, `Run`.
"""

import dataclasses
import functools
import glob
import importlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from mirjax import checkpoint, config, optimisers, processes, rules, train
from mirjax.config import UsageError
from mirjax.data import patches
from mirjax.data.loader import fit_length
from mirjax.experiments import cells, frame_mixture, labels, thresholds, training
from mirjax.models import taggers, weights
from mirjax.signal import augment
from mirjax.signal.representations import Waveform
from mirjax.tasks import tagger, tagging

AHEAD_BYTES = 4 << 30  # of representations kept in memory
EVALUATION_ROWS = 32
PATH_BYTES = 4096

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


@dataclasses.dataclass(frozen=True, eq=False)
class Fold:
    """One training of a cell: which clips, and where its files lie."""

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


class Run(cells.Run):
    """A training at work; `screening` is the experiment."""

    def __init__(self, experiment, sources, progress: bool):
        self._built = {}
        self._memory = {}
        self._partitions = {}
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
                num_samples = self._patch_samples(module, clips)
                if experiment.whole and not module.is_variable:
                    raise UsageError(f"whole=true: {trainee.name} does not mask padding; evaluate it by windows")
                self._built[key] = dataclasses.replace(trainee, module=module, num_samples=num_samples)
            found.append(self._built[key])
        return found

    @functools.lru_cache(maxsize=16)  # noqa: B019  (lives as long as the run)
    def labels(self, clips) -> labels.Table:
        """The labels of a data set as a task takes them."""
        return labels.table(clips, self.screening.labels)

    def _patch_samples(self, module, clips) -> int:
        """Samples of a patch, at the network's sample rate."""
        experiment, representation = self.screening, module.representation
        rate = getattr(representation, "sample_rate", cells.SAMPLE_RATE)
        published = module.num_steps and taggers.num_samples(representation, module.num_steps)
        if getattr(module, "fixed", False):
            return published
        if experiment.patch is not None:
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
                for seed in (0,) if classifier in cells.DETERMINISTIC else experiment.seeds:
                    yield cells.Cell("mfcc", None, "raw", {}, seed, classifier, "standard")
            yield from frame_mixture.cells_of(experiment)
        for network in self.networks_of(clips):
            for seed in experiment.seeds:
                yield cells.Cell(network.name, network, "raw", experiment.options(), seed, "trained", "none")
        for network in self.networks_of(clips):
            if network.name in experiment.beginners:
                options = experiment.options() | {"begin_with": "+".join(training.BEGINNINGS[network.name][0])}
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
        for cell, prints in todo:
            if cell.classifier != "trained":
                continue
            if bar is not None:
                bar.set_postfix_str(f"{clips.name} {cell.architecture} seed {cell.seed}")
            yield cell, *self.train_cell(cell, clips, partition, prints)
            if jax.process_index() == 0:  # its records are written
                for folder in (self.folder / "checkpoints").glob(f"{glob.escape(file_name(clips, cell, prints))}-*"):
                    checkpoint.clear(folder)

    def train_cell(self, cell, clips, partition, prints) -> tuple[list[dict], list[dict]]:
        """Records and predictions of a cell: a training on every fold."""
        began = time.perf_counter()
        table, name = self.labels(clips), file_name(clips, cell, prints)
        earlier = [(each, self.fingerprints(each, clips, partition)) for each in self.earlier(cell, clips)]
        outcomes, predictions, validated, features = [], [], [], 0
        for fold in self.folds(partition, clips, cell.options["train_share"]):
            begin = [(each.network, f"{file_name(clips, each, own)}-{fold.name}") for each, own in earlier]
            fitted = self.fitting(cell, clips, partition, fold, f"{name}-{fold.name}", begin)
            outcome, chosen, features = fitted.run()
            truth = table.values[fold.test]
            values = tagging.judge(outcome, table.values, loss=table.loss("auto"), tags=table.names)  # by the labels
            values = {metric: values[metric] for metric in table.metrics}
            outcomes.append((fold, values, chosen))
            predictions += labels.prediction_rows(clips, partition, fold, truth, outcome.scores, table)
            if fitted.validated is not None:
                held_out, scores = dataclasses.replace(fold, test=fold.valid), fitted.validated.scores
                truth = table.values[fold.valid]
                validated += labels.prediction_rows(clips, partition, held_out, truth, scores, table)
        seconds = time.perf_counter() - began
        sizes = {"num_features": features, "feature_seconds_per_clip": 0.0}
        rows = self.records(cell, clips, partition, outcomes, prints, seconds, sizes)
        selection = "validation_refit" if self.screening.retrain else "validation"
        last = not self.screening.validation and partition.kind == "cv"  # the last weights were taken
        rows = [row | {"selection": "last" if last else selection} for row in rows]
        if jax.process_index() == 0:
            if validated:
                thresholds.keep_validation(self.folder, f"{name}.jsonl", validated)
        return rows, predictions

    def fitting(self, cell, clips, partition, fold, name, begin) -> "Fitting":
        """What trains a cell on a fold; a study may put something else in its place."""
        return Fitting(self, cell, clips, fold, name, begin)

    def folds(self, partition, clips, train_share: float = 1.0) -> list[Fold]:
        """The folds to train on, each with validation clips; these stay when a share of the training clips is taken."""
        from mirjax.data import shares, splits

        experiment, found = self.screening, []
        for fold in partition.folds:
            rest, valid = fold.train, np.array([], int)
            if fold.valid is not None:
                valid = fold.valid
            elif experiment.validation:
                column = clips.labels if experiment.labels == "one" else np.full(len(clips), "")
                whole = self._partitions[clips.name]
                rest, valid = splits.validation(fold, whole, column, share=experiment.validation)
            if experiment.labels == "one" and len(set(clips.labels[rest])) < 2:
                raise ValueError(
                    f"{clips.name}, fold {fold.name!r}: clips of one class only are left to train on; give it others"
                )
            classes = clips.labels if experiment.labels == "one" else None  # tags have no classes to stratify by
            found.append(Fold(fold.name, shares.take(rest, clips.ids, classes, share=train_share), valid, fold.test))
        return found

    def fingerprints(self, cell, clips, partition) -> list[str]:
        """Of all records of a cell, in the order in which they are written."""
        from mirjax import metrics, results

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
        return [
            results.fingerprint(**identity, fold=fold.name, metric=metric)
            for fold in partition.folds
            for metric in shown
        ]

    # ── clips as a network hears them ─────────────────────────────────────────────────────────────

    def patches_of(self, cell, clips) -> patches.Clips:
        """Random access to the clips as patches are cut of them: audio, or representations kept in memory."""
        experiment, network = self.screening, cell.network
        heard, representation = self.heard(clips, network), network.module.representation
        length = experiment.seconds and round(experiment.seconds * network.sample_rate)

        def audio(i):
            clip = tagger.set_level(heard.audio(i), experiment.level)
            return clip if length is None else fit_length(clip, length, experiment.fit)

        lengths = np.full(len(clips), length) if length else heard.lengths
        values, ahead = self.labels(clips).values, self._ahead(network, lengths)
        if isinstance(representation, Waveform) or not ahead:
            return patches.Clips(audio, lengths, values, "audio", -1, experiment.fit)
        key = (clips.name, representation)
        if key not in self._memory:
            self._memory = {key: _represent(representation, audio, len(clips), self.progress)}
        made = self._memory[key]
        lengths = np.array([len(x) for x in made])
        return patches.Clips(made.__getitem__, lengths, values, "representation", 0, experiment.fit)

    def _ahead(self, network, lengths) -> bool:
        experiment, representation = self.screening, network.module.representation
        draws_audio = any(training.AUGMENTATIONS[name][0] == "audio" for name in experiment.augment)
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


class Fitting:
    """One training: a cell on one fold; `begin`: networks trained before and the names of their weights."""

    def __init__(self, run: Run, cell, clips, fold: Fold, name: str, begin=()):
        self.run_, self.cell, self.clips_, self.fold, self.name = run, cell, clips, fold, name
        self.experiment, self.network, self.begin = run.screening, cell.network, begin
        self.table = run.labels(clips)
        self.clips = run.patches_of(cell, clips)
        self.patch = self._steps(self.network.num_samples)
        self.clips = self._without_context(self.clips)
        self.validated = None  # what it says of the validation clips, kept of tags: their thresholds are chosen by it
        self.first = jax.process_index() == 0

    def _steps(self, samples: int) -> int:
        """Samples as steps of what patches are cut of."""
        if self.clips.key == "audio":
            return samples
        if getattr(self.network.module, "fixed", False):
            return self.network.module.num_steps
        return self.network.module.representation.shape(samples)[0]

    def _without_context(self, clips: patches.Clips) -> patches.Clips:
        """The clips less the steps at both ends in which no labelled one is the middle of a patch."""
        context = self._hop(self.experiment.context) if self.experiment.context else 0
        before, after = (max(0, context - half) for half in (self.patch // 2, (self.patch - 1) // 2))
        if not before + after:
            return clips
        if (short := np.flatnonzero(clips.lengths <= 2 * context)).size:
            raise ValueError(
                f"{self.clips_.name}: {len(short)} clips are no longer than two contexts "
                f"of {self.experiment.context} s, first {self.clips_.ids[short[0]]}; lengthen them, leave them out or "
                "lower context"
            )

        def read(i):
            whole = clips.read(i)
            return np.take(whole, np.arange(before, whole.shape[clips.time_axis] - after), clips.time_axis)

        return dataclasses.replace(clips, read=read, lengths=clips.lengths - before - after)

    def _without_last(self, hop: int | None) -> patches.Clips:
        """The clips as windows are cut of them: a hop shorter, so one window fewer, with `drop_last_window`."""
        if not self.experiment.drop_last_window:
            return self.clips
        return dataclasses.replace(self.clips, lengths=self.clips.lengths - (hop or self.patch))

    def _hop(self, seconds: float | None) -> int | None:
        if seconds is None:
            return None
        rate = self.network.sample_rate
        if self.clips.key == "representation":
            rate = self.network.module.representation.frame_rate
        return max(1, round(seconds * rate))

    def task(self, chosen) -> tagging.Tagging:
        """The task for these training clips."""
        experiment = self.experiment
        loss = self.table.loss(experiment.loss)
        output = "softmax" if loss == "cross_entropy" else "sigmoid"
        of_classes = self.table.balanced(chosen) if experiment.weights == "balanced" else None
        drawn = {"audio": [], "representation": []}
        for name in experiment.augment:
            place, options = training.AUGMENTATIONS[name]
            options = {key: self.network.sample_rate if key == "sample_rate" else v for key, v in options.items()}
            drawn[place].append((name, tuple(options.items())))
        audio, other = (_augmentation(tuple(drawn[place])) for place in ("audio", "representation"))
        return tagging.Tagging(
            self.network.module, loss, output, of_classes, tuple(experiment.targets), augment_audio=audio,
            augment=other,
            dtype=experiment.dtype,
        )  # fmt: skip

    def statistics(self, chosen) -> dict[str, np.ndarray]:
        """Of the input, over the training clips (or all)."""
        experiment = self.experiment
        among = range(len(self.clips_)) if experiment.normalise_on == "everything" else chosen
        representation = self.network.module.representation
        hears = self.clips.key == "audio" and not isinstance(representation, Waveform)
        hear = jax.jit(representation) if hears else np.asarray
        hop = (self._hop(experiment.hop) if experiment.patches == "windows" else None) or self.patch

        def values():
            for clip in among:
                if experiment.normalise in ("place", "patch_mean"):
                    starts = patches.windows(self.clips.lengths[clip], self.patch, hop)
                    yield from (np.asarray(hear(self.clips.patch(clip, start, self.patch))) for start in starts)
                else:
                    yield np.asarray(hear(self.clips.read(clip)))

        kind = experiment.normalise
        if isinstance(representation, Waveform) and kind == "band":
            kind = "none"  # a waveform has no bands
        return tagging.input_statistics(values(), kind)

    def run(self) -> tuple[tagging.Outcome, dict, int]:
        """(what it says of the test clips, how it was trained, size of its embedding)."""
        fold = self.fold
        best, epochs = self.train(fold.train, fold.valid, self.experiment.epochs, self.name)
        chosen = {"epochs": epochs, "best_step": int(best.step)}
        if len(fold.valid):
            chosen[self.experiment.monitor] = float(best.value)
        if len(fold.valid) and self.table.kind == "many":
            self.validated = self.predict(self.task(fold.train), best.variables, fold.valid)
        if self.experiment.retrain and len(fold.valid):
            per_epoch = max(1, self.batches(fold.train).steps_per_epoch)
            again = max(1, round(int(best.step) / per_epoch))
            best, _ = self.train(np.union1d(fold.train, fold.valid), (), again, f"{self.name}-again")
            chosen["retrained_epochs"] = again
        task = self.task(fold.train)
        self.keep_weights(best.variables)
        return self.predict(task, best.variables, fold.test), chosen, self.embedding_size(best.variables)

    def embedding_size(self, variables) -> int:
        """Length of the embedding."""
        own = {kind: tree for kind, tree in variables.items() if kind != "input"}
        answer = jax.eval_shape(lambda: self.network.module.apply(own, _spec_of(self), method="embed"))
        return int(answer["embedding"].shape[-1])

    def batches(self, chosen) -> patches.TrainingBatches:
        """The training batches of some clips."""
        experiment = self.experiment
        hop = self._hop(experiment.hop)
        clips = self._without_last(hop) if experiment.patches == "windows" else self.clips
        settings = {"patches": experiment.patches, "hop": hop, "seed": self.cell.seed}
        examples = patches.TrainingBatches(clips, chosen, 1, self.patch, **settings).examples
        even = jax.device_count() * experiment.accumulate
        size = min(experiment.batch_size, len(examples))
        if size % even:  # a smaller batch would make the numbers depend on the devices
            raise UsageError(
                f"batch_size={experiment.batch_size}: batches of {size} rows ({len(examples)} training examples) "
                f"cannot be shared by {jax.device_count()} devices in accumulate={experiment.accumulate} parts; choose "
                f"a multiple of {even}, at most {len(examples)}"
            )
        return patches.TrainingBatches(clips, chosen, size, self.patch, share=self.run_.share, **settings)

    def train(self, chosen, valid, epochs, name) -> tuple[train.Best, int]:
        """(best weights, epochs made) of a training on some clips; goes on from its checkpoint if there is one."""
        from mirjax import features

        experiment = self.experiment
        batches, task = self.batches(chosen), self.task(chosen)
        rule = rules.make_rule(experiment.rule if len(valid) else _without_validation(experiment.rule))
        step = train.make_step(
            task,
            _optimiser(experiment, batches.steps_per_epoch * epochs),
            parallel=experiment.parallel,
            accumulate=experiment.accumulate,
            average=experiment.average,
            penalty=_penalty(experiment.l2, experiment.l2_reduction, experiment.l2_on) if experiment.l2 else None,
        )
        key = jax.random.key(self.cell.seed)
        drawn = features.initialise(self.network.module, key, self.network.num_samples)
        variables = self.begun(drawn) | {"input": self.statistics(chosen)}
        state = step.init(key, batches[0], rule, variables)
        host = step.host(state)
        best = train.Best(step.host(state.variables), np.float32(train.worst(experiment.monitor)), np.int32(0))
        folder = self.run_.folder / "checkpoints" / name
        checkpoints = checkpoint.Checkpoints(folder, self._about(chosen, valid, epochs, batches.batch_size))
        if (found := checkpoints.restore({"state": host, "best": best})) is not None:
            state, best = step.place(found["state"]), found["best"]
            _log.info("%s goes on from step %d", name, int(found["state"].step))
        curve = _Curve(self.run_.folder, name, int(step.host(state.step)), experiment.tensorboard, self.first)
        total = epochs * batches.steps_per_epoch
        with _bar(total, int(step.host(state.step)), f"  {name}", self.run_.progress) as bar:
            state, best = train.fit(
                step,
                state,
                functools.partial(batches.iterate, threads=experiment.threads, workers=experiment.workers),
                rule=rule,
                epochs=epochs,
                steps_per_epoch=batches.steps_per_epoch,
                evaluate=self.evaluator(task, valid) if len(valid) else None,
                best=best,
                monitor=experiment.monitor,
                save=lambda state, best: checkpoints.save({"state": state, "best": best}),
                save_seconds=experiment.save_seconds,
                on_epoch=curve.add,
                name_clips=lambda number: ", ".join(map(str, self.clips_.ids[np.unique(batches.ids(number))][:8])),
                progress=bar,
            )
        curve.close()
        return best, int(step.host(state.step)) // batches.steps_per_epoch

    def begun(self, drawn: dict) -> dict:
        """The weights before the first step: as drawn, or with those of networks trained before.

        Raises:
          ValueError: weights that are not in the run folder any more, or do not fit.
        """
        if not self.begin:
            return drawn
        trained = []
        for network, name in self.begin:
            path = self.run_.folder / "weights" / f"{name}.npz"
            if not path.is_file():
                raise ValueError(
                    f"begin_with: {self.cell.architecture} needs the weights of {network.name}, and {path} is not "
                    "there; put it back, or train all of them in a new workdir"
                )
            trained.append(weights.load(path, model=network.module))
        module, function = training.BEGINNINGS[self.cell.architecture][1].split(":")
        return getattr(importlib.import_module(f"mirjax.models.{module}"), function)(*trained, drawn)

    def _about(self, chosen, valid, epochs, rows) -> dict:
        """What a checkpoint belongs to."""
        return {
            "architecture": self.cell.architecture,
            "n": self.network.n,
            "program": self.network.program,
            "data": self.clips_.content_hash,
            "fold": self.fold.name,
            "clips": config.digest([np.asarray(chosen).tolist(), np.asarray(valid).tolist()]),
            "seed": self.cell.seed,
            **self.cell.options,
            "epochs": epochs,
            "rows": rows,
        }

    def evaluator(self, task, valid):
        """variables → metrics of the validation clips, named `valid_…`."""

        def evaluate(variables):
            outcome = self.predict(task, variables, valid)
            try:
                found = tagging.judge(outcome, self.table.values, loss=self.table.loss("auto"), tags=self.table.names)
            except ValueError as error:  # no tag that some of these clips have and others have not
                if self.experiment.monitor != "valid_loss":
                    where = f"{self.clips_.name}, fold {self.fold.name!r}, validation clips"
                    raise ValueError(f"{where}: {error}; use monitor=valid_loss, or more of them") from error
                found = {"loss": outcome.loss}
            return {f"valid_{name}": value for name, value in found.items()}

        return evaluate

    def predict(self, task, variables, chosen) -> tagging.Outcome:
        """Scores of clips."""
        experiment = self.experiment
        hop = self._hop(experiment.evaluation_hop)
        batches = patches.EvaluationBatches(
            self.clips if experiment.whole else self._without_last(hop),
            np.asarray(chosen),
            EVALUATION_ROWS,
            None if experiment.whole else self.patch,
            hop,
            self.run_.share,
        )
        return tagging.predict(task, variables, batches, chosen, aggregate=experiment.aggregate)

    def keep_weights(self, variables) -> None:
        """The best weights, with all that labelling new audio takes."""
        if not self.first:
            return
        experiment = self.experiment
        folder = self.run_.folder / "weights"
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.name.startswith(f".{self.name}.npz."):  # of a run that was killed while it wrote
                path.unlink()
        note = {
            "architecture": self.cell.architecture,
            "n": self.network.n,
            "classes": list(self.table.names),
            "labels": experiment.labels,
            "loss": self.table.loss(experiment.loss),
            "input": {name: np.asarray(value).tolist() for name, value in variables["input"].items()},
            "patch": self.network.num_samples,
            "seconds": experiment.seconds,
            "fit": experiment.fit,
            "aggregate": experiment.aggregate,
            "level": experiment.level,
            "hear": "in_step" if self.clips.key == "audio" else "ahead",
            "hop": experiment.evaluation_hop,
            "whole": experiment.whole,
            "dtype": experiment.dtype,
            "commit": self.run_.commit,
        }
        own = {kind: tree for kind, tree in variables.items() if kind != "input"}
        weights.save(folder / f"{self.name}.npz", own, model=self.network.module, metadata=note)


def _spec_of(fitting):
    import jax.numpy as jnp

    shape = fitting.network.module.representation.shape(fitting.network.num_samples)
    return jnp.zeros((1, *shape))


def _without_validation(rule: str) -> str:
    """The parts of a rule that look at no validation clips."""
    kept = [part for part in rule.split("+") if "valid_" not in part]
    return "+".join(kept) or "constant()"


def _schedule(text: str, rate: float, num_steps: int):
    """A schedule from its text: `cosine`, `inverse(decay=.01)`, `steps(boundaries=100/200, factor=.1)`."""
    name, _, inside = text.strip().removesuffix(")").partition("(")
    options = {}
    try:
        for part in filter(None, (part.strip() for part in inside.split(","))):
            option, value = part.split("=")
            numbers = tuple(int(n) if n.isdigit() else float(n) for n in value.strip().split("/"))
            options[option.strip()] = numbers if option.strip() == "boundaries" else numbers[0]
    except ValueError:
        raise UsageError(f"schedule={text!r} must be a name, or name(option=number, …) as inverse(decay=.01)") from None
    try:
        return optimisers.make_schedule(name.strip(), rate, num_steps=num_steps, **options)
    except ValueError as error:
        raise UsageError(f"schedule={text!r}: {error}") from None


@functools.lru_cache(maxsize=8)
def _optimiser_of(settings):
    options = dict(settings)
    schedule, rate, num_steps = options.pop("schedule"), options.pop("learning_rate"), options.pop("num_steps")
    rate = rate if schedule == "constant" else _schedule(schedule, rate, num_steps)
    return optimisers.make_optimiser(options.pop("optimiser"), rate, **options)


def _optimiser(experiment, num_steps):
    """The optimiser of an experiment, the same object for the same settings, so that programs are compiled once."""
    names = (
        "optimiser", "learning_rate", "momentum", "nesterov", "schedule", "l2", "l2_on", "l2_reduction", "l2_coupled",
        "clip_norm", "clip_value",
    )  # fmt: skip
    settings = {name: getattr(experiment, name) for name in names}
    return _optimiser_of(
        tuple((settings | {"num_steps": num_steps if experiment.schedule != "constant" else None}).items())
    )


@functools.lru_cache(maxsize=8)
def _penalty(l2, reduction, on):
    return functools.partial(optimisers.penalty, l2=l2, l2_reduction=reduction, l2_on=on)


@functools.lru_cache(maxsize=8)
def _augmentation(named):
    if not named:
        return None
    return augment.compose(*(functools.partial(getattr(augment, name), **dict(options)) for name, options in named))


class _Curve:
    """The learning curve of one training: a JSON line an epoch, and TensorBoard's events if asked for."""

    def __init__(self, folder, name, step, tensorboard, writes):
        self.file, self.board = None, None
        if not writes:
            return
        path = Path(folder) / "curves" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        kept = [line for line in _lines(path) if line["step"] <= step]  # what came after the checkpoint comes again
        unfinished = path.with_name(f".{path.name}")  # a kill in between must not lose the epochs of the checkpoint
        unfinished.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        unfinished.replace(path)
        self.file = open(path, "a", encoding="utf-8")
        if tensorboard:
            try:
                from tensorboardX import SummaryWriter
            except ImportError as error:
                raise UsageError("tensorboard=true needs the package tensorboardX: pip install tensorboardX") from error
            self.board = SummaryWriter(str(Path(folder) / "tensorboard" / name), purge_step=step)

    def add(self, row: dict) -> None:
        if self.file is None:
            return
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()
        if self.board is not None:
            for name, value in row.items():
                if name not in ("epoch", "step"):
                    self.board.add_scalar(name, value, row["step"])

    def close(self) -> None:
        for each in (self.file, self.board):
            if each is not None:
                each.close()


def _lines(path: Path) -> list[dict]:
    """Rows of a curve; a torn last line is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _bar(total, initial, name, progress):
    from tqdm import tqdm

    return tqdm(total=total, initial=initial, desc=name, unit="step", leave=False, disable=not progress)

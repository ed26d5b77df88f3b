"""One training: a network on one fold of a data set under one seed, from its first weights to its answers.

`Fitting` reads the configuration, makes batches, task and optimiser of it, goes on from its checkpoint, and keeps the
curve (`WORKDIR/curves`) and the best weights (`WORKDIR/weights`).
Names: `Fold`, `Fitting`, `optimiser`.
"""

import dataclasses
import functools
import importlib
import logging

import jax
import numpy as np

from mirjax import checkpoint, config, optimisers, processes, rules, train
from mirjax.config import UsageError
from mirjax.data import patches
from mirjax.experiments import curves, recipes
from mirjax.models import weights
from mirjax.signal.representations import Waveform
from mirjax.tasks import tagging

EVALUATION_ROWS = 32

_log = logging.getLogger("mirjax")


@dataclasses.dataclass(frozen=True, eq=False)
class Fold:
    """The clips of one training, by number: those it learns from, those that choose its weights, and the test."""

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


class Fitting:
    """One training: a cell on one fold; `begin`: networks trained before and the names of their weights."""

    def __init__(self, run, cell, clips, fold: Fold, name: str, begin=()):
        self.run_, self.cell, self.clips_, self.fold, self.name = run, cell, clips, fold, name
        self.experiment, self.network, self.begin = run.screening, cell.network, begin
        self.table = run.labels(clips)
        self.clips = run.patches_of(cell, clips)
        self.patch = self._steps(self.network.num_samples)
        self.clips = self._without_context(self.clips)
        self.validated = None  # what it says of the validation clips, kept of tags: their thresholds are chosen by it
        self.first = jax.process_index() == 0
        self.earlier = 0.0  # seconds of its epochs before it was interrupted

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
        before, after = patches.context_surplus(context, self.patch)
        if not before + after:
            return clips
        if (short := np.flatnonzero(clips.lengths <= 2 * context)).size:
            raise ValueError(
                f"{self.clips_.name}: {len(short)} clips are no longer than two contexts "
                f"of {self.experiment.context} s, first {self.clips_.ids[short[0]]}; lengthen them, leave them out or "
                "lower context"
            )

        def read(i):
            return patches.without_context(clips.read(i), context, self.patch, clips.time_axis)

        return dataclasses.replace(clips, read=read, cut=None, lengths=clips.lengths - before - after)

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
        audio, other = (
            recipes.augmentation(tuple(experiment.augment), place, self.network.sample_rate)
            for place in ("audio", "representation")
        )
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
            devices = f"{jax.device_count()} devices"
            if jax.process_count() > 1:
                devices += f" of {jax.process_count()} processes"
            raise UsageError(
                f"batch_size={experiment.batch_size}: batches of {size} rows ({len(examples)} training examples) "
                f"cannot be shared by {devices} in accumulate={experiment.accumulate} parts; choose a multiple of "
                f"{even}, at most {len(examples)}"
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
            optimiser(experiment, batches.steps_per_epoch * epochs),
            parallel=experiment.parallel,
            accumulate=experiment.accumulate,
            average=experiment.average,
            penalty=_penalty(experiment),
        )
        key = jax.random.key(self.cell.seed)
        drawn = features.initialise(self.network.module, key, self.network.num_samples)
        variables = self.begun(drawn) | {"input": self.statistics(chosen)}
        state = step.init(key, batches[0], rule, variables)
        host = step.host(state)
        best = train.Best(step.host(state.variables), np.float32(train.worst(experiment.monitor)), np.int32(0))
        folder = self.run_.folder / "checkpoints" / name
        checkpoints = checkpoint.Checkpoints(folder, self._about(chosen, valid, epochs, batches.batch_size))
        # Hosts that do not share the folder would train from different states, or wait for each other for ever.
        processes.agree(str(checkpoints.steps), f"what is in {folder}")
        if (found := checkpoints.restore({"state": host, "best": best})) is not None:
            state, best = step.place(found["state"]), found["best"]
            _log.info("%s goes on from step %d", name, int(found["state"].step))
        processes.agree("new" if found is None else str(int(found["state"].step)), f"the checkpoint read from {folder}")
        begun, total = int(step.host(state.step)), epochs * batches.steps_per_epoch
        curve = curves.CurveWriter(self.run_.folder, name, begun, experiment.tensorboard, self.first)
        self.earlier += curve.earlier
        with _bar(total, begun, f"  {name}", self.run_.progress) as bar:
            try:
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
                    back_to_best=experiment.back_to_best,
                    save=lambda state, best: checkpoints.save({"state": state, "best": best}),
                    save_seconds=experiment.save_seconds,
                    on_epoch=curve.add,
                    name_clips=functools.partial(self._named, batches),
                    progress=bar,
                )
            except train.NotFinite as error:
                raise train.NotFinite(f"{error} ({name})") from None
            finally:
                curve.close()
        return best, int(step.host(state.step)) // batches.steps_per_epoch

    def _named(self, batches, number, rows) -> str:
        """The clips of some rows of this process in a batch, eight at most; of all rows, those that hold the fault."""
        if rows.all():  # maxima drop what is not a number, so a loss may be finite though its clip is not
            values = batches[number][self.clips.key]
            broken = ~np.isfinite(values).reshape(len(values), -1).all(1)
            rows = broken if broken.any() else rows
        clips = np.unique(batches.own(number)[rows])
        more = f" and {len(clips) - 8} more" if len(clips) > 8 else ""
        return ", ".join(map(str, self.clips_.ids[clips[:8]])) + more

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
        module, function = recipes.BEGINNINGS[self.cell.architecture][1].split(":")
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
        try:
            return tagging.predict(task, variables, batches, chosen, aggregate=experiment.aggregate)
        except tagging.NotFiniteScores as error:
            named = ", ".join(map(str, self.clips_.ids[error.clips[:8]]))
            raise train.NotFinite(
                f"the scores of {len(error.clips)} clips are not finite, first {named}; the last checkpoint is kept. "
                "Lower the learning rate, clip gradients (clip_norm=5), or look at those clips"
            ) from error

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
            "context": experiment.context,
            "drop_last_window": experiment.drop_last_window,
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


@functools.lru_cache(maxsize=8)
def _optimiser_of(settings):
    options = dict(settings)
    schedule, rate, num_steps = options.pop("schedule"), options.pop("learning_rate"), options.pop("num_steps")
    rate = rate if schedule == "constant" else optimisers.read_schedule(schedule, rate, num_steps=num_steps)
    return optimisers.make_optimiser(options.pop("optimiser"), rate, **options)


def optimiser(experiment, num_steps: int):
    """The optimiser of an experiment, the same object for the same settings, so that programs are compiled once.

    Raises:
      ValueError: settings that no optimiser or schedule can have.
    """
    names = (
        "optimiser", "learning_rate", "momentum", "nesterov", "schedule", "l2", "l2_on", "l2_reduction", "l2_coupled",
        "clip_norm", "clip_value",
    )  # fmt: skip
    settings = {name: getattr(experiment, name) for name in names}
    return _optimiser_of(
        tuple((settings | {"num_steps": num_steps if experiment.schedule != "constant" else None}).items())
    )


def _penalty(experiment):
    """What is told of the L2 term in the loss: nothing where it is no part of what is minimised (decoupled)."""
    coupled = experiment.optimiser != "adamw" if experiment.l2_coupled is None else experiment.l2_coupled
    if not (experiment.l2 and coupled):
        return None
    return _penalty_of(experiment.l2, experiment.l2_reduction, experiment.l2_on)


@functools.lru_cache(maxsize=8)
def _penalty_of(l2, reduction, on):
    return functools.partial(optimisers.penalty, l2=l2, l2_reduction=reduction, l2_on=on)


def _bar(total, initial, name, progress):
    from tqdm import tqdm

    return tqdm(total=total, initial=initial, desc=name, unit="step", leave=False, disable=not progress)

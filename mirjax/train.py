"""Training: one loop, from one device to many hosts.

A *task* says what is learnt: `init(key, batch) → (params, state)` and `losses(params, state, batch, key, train=…) →
(losses f32[B], weights f32[B], state)`, a loss for every row and what it counts; rows that only fill a batch up weigh
nothing. The loss of a batch is Σ weights·losses / Σ weights, over all devices and processes and over the parts in which
gradients are accumulated, so that none of these changes what is learnt.

`make_step` turns task and optimiser into a step on many devices: `jit` lets the compiler divide the batch's rows
(`NamedSharding`, the default); `pmap` runs the same on every device, which then agree. `fit` is the loop: it takes
batches by number, so that a run goes on exactly where it was interrupted, and keeps the best weights by validation.
Everything that the continuation depends on is in `TrainState` and `Best`, which `mirjax.checkpoint` saves.

Dropout and augmentation draw for the whole batch under jit, whatever the devices; under pmap every device draws its
own.

Names: `TrainState`, `Best`, `Step`, `make_step`, `fit`, `is_better`, `worst`, `NotFinite`, `Interrupted`.
"""

import contextlib
import dataclasses
import functools
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mirjax.models import blocks
from mirjax.rules import Rule, direction

PARALLEL = ("jit", "pmap")
_AXIS = "data"


class NotFinite(ValueError):
    """The loss or its gradient became NaN or infinite; names the step and the clips."""


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop (SIGTERM, Ctrl-C) and has saved what it had."""


class Task(Protocol):
    """What is learnt."""

    def init(self, key: jax.Array, batch: Mapping) -> tuple[dict, dict]:
        """Params, and the state beside them (running averages, statistics of the input)."""

    def losses(
        self, params: dict, state: dict, batch: Mapping, key: jax.Array, *, train: bool
    ) -> tuple[jax.Array, jax.Array, dict]:
        """Losses f32[B], weights f32[B] (0 for rows outside the mask) and the new state."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "params", "state", "optimiser", "rule", "average", "totals", "key"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that the next step depends on, besides its batch.

    Attributes:
      step: int32[], steps made.
      params: trained weights, float32 (or float64 under x64).
      state: what the task keeps besides: batch statistics, input statistics.
      optimiser: optax's state.
      rule: the state of the learning-rate and stop rule (`mirjax.rules`).
      average: moving average of the weights, or None.
      totals: f32[2], Σ weights·losses and Σ weights of the epoch so far.
      key: PRNG key; that of a step is folded in with its number.
    """

    step: jax.Array
    params: Any
    state: Any
    optimiser: Any
    rule: Any
    average: Any
    totals: jax.Array
    key: jax.Array

    @property
    def variables(self) -> dict:
        """Weights to evaluate with: the moving average if there is one, else the trained ones; and the state."""
        return {"params": self.params if self.average is None else self.average, **self.state}


@functools.partial(jax.tree_util.register_dataclass, data_fields=("variables", "value", "step"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Best:
    """The best weights so far, by a metric of the validation clips.

    Attributes:
      variables: params and state.
      value: float32[], their metric; −inf or inf before the first epoch.
      step: int32[], steps made then.
    """

    variables: Any
    value: Any
    step: Any


# ── one step ──────────────────────────────────────────────────────────────────────────────────────


def _sums(task, params, state, batch, key, axis):
    """Gradients of Σ weights·losses, that sum and Σ weights, the new state and the losses of the rows."""

    def objective(params):
        losses, weights, new = task.losses(params, state, batch, key, train=True)
        return (weights * losses).sum(), (weights.sum(), new, losses)

    with blocks.statistics_over(axis) if axis else contextlib.nullcontext():
        (total, (weight, state, losses)), gradients = jax.value_and_grad(objective, has_aux=True)(params)
    return gradients, jnp.stack([total, weight]), state, losses


def _accumulated(task, params, state, batch, key, axis, parts):
    """`_sums` over a batch in parts, one after the other; batch statistics are those of each part."""
    # Part a has the rows a, a + parts, …: rows stay on the device that has them.
    split = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), batch)

    def add(carry, part):
        gradients, sums, state = carry
        number, rows = part
        more, added, state, losses = _sums(task, params, state, rows, jax.random.fold_in(key, number), axis)
        return (jax.tree.map(jnp.add, gradients, more), sums + added, state), losses

    start = jax.tree.map(jnp.zeros_like, params), jnp.zeros(2, jnp.result_type(float)), state
    # Within a loop XLA differentiates convolutions dozens of times slower on a CPU.
    unroll = parts if jax.default_backend() == "cpu" else 1
    (gradients, sums, state), losses = lax.scan(add, start, (jnp.arange(parts), split), unroll=unroll)
    return gradients, sums, state, jnp.moveaxis(losses, 0, 1).reshape(-1)


def _update(task, optimiser, parts, decay, penalty, axis, state: TrainState, batch):
    """One step: (new state, metrics)."""
    key = jax.random.fold_in(state.key, state.step)
    if axis:
        key = jax.random.fold_in(key, lax.axis_index(axis))
    compute = _sums if parts == 1 else functools.partial(_accumulated, parts=parts)
    gradients, sums, task_state, losses = compute(task, state.params, state.state, batch, key, axis)
    if axis:
        gradients, sums = lax.psum((gradients, sums), axis)
    weight = jnp.maximum(sums[1], jnp.finfo(sums.dtype).tiny)
    gradients = jax.tree.map(lambda g: g / weight.astype(g.dtype), gradients)
    updates, optimiser_state = optimiser.update(gradients, state.optimiser, state.params)
    scale = jnp.asarray(state.rule.scale)
    params = optax.apply_updates(state.params, jax.tree.map(lambda u: u * scale.astype(u.dtype), updates))
    reported = sums
    if penalty is not None:
        reported = sums + jnp.stack([sums[1] * penalty(state.params).astype(sums.dtype), jnp.zeros((), sums.dtype)])
    average = state.average
    if decay is not None:
        # A short memory at first, or the drawn weights would stay in it for long.
        keep = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(lambda old, new: (old + (1 - keep) * (new - old)).astype(old.dtype), average, params)
    new = TrainState(
        step=state.step + 1,
        params=params,
        state=task_state,
        optimiser=optimiser_state,
        rule=state.rule,
        average=average,
        totals=state.totals + reported.astype(state.totals.dtype),
        key=state.key,
    )
    metrics = {"loss": reported[0] / weight, "gradient_norm": optax.tree.norm(gradients), "losses": losses}
    return new, metrics


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A compiled training step and how states and batches get to its devices.

    `step(state, batch)` takes a state and the rows of this process, and returns the new state and the metrics `loss`
    and `gradient_norm` (both over all rows) and `losses` (of rows). The old state must not be used again.

    Attributes:
      task, optimiser: what is learnt, and how.
      mesh: of all devices of all processes.
      parallel: `jit` or `pmap`.
      accumulate: parts of a batch, one after the other.
      average: decay of the weights' moving average, or None.
      penalty: params → what is added to the reported loss, or None.
    """

    task: Task
    optimiser: optax.GradientTransformation
    mesh: Mesh
    parallel: str
    accumulate: int
    average: float | None
    penalty: Callable | None

    @property
    def num_devices(self) -> int:
        """Devices of this process."""
        return sum(device.process_index == jax.process_index() for device in self.mesh.devices.flat)

    @property
    def _whole(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def _rows(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(_AXIS))

    def init(self, key: jax.Array, batch: Mapping, rule: Rule, variables: Mapping | None = None) -> TrainState:
        """The state before the first step.

        Args:
          key: PRNG key: one part draws the weights, another is that of the steps.
          batch: any batch, for its shapes.
          rule: the learning-rate and stop rule.
          variables: params and state to begin with, in place of drawn ones.
        """
        drawing, running = jax.random.split(key)
        if variables is None:
            params, state = self.task.init(drawing, batch)
        else:
            params, state = variables["params"], {kind: v for kind, v in variables.items() if kind != "params"}
        return self.place(
            TrainState(
                step=jnp.int32(0),
                params=params,
                state=state,
                optimiser=self.optimiser.init(params),
                rule=rule.init(),
                average=None if self.average is None else params,
                totals=jnp.zeros(2, jnp.result_type(float)),
                key=running,
            )
        )

    def begin_again(self, state: TrainState, variables: Mapping) -> TrainState:
        """A state with other weights (host arrays) and an optimiser that has seen nothing; all else goes on."""
        params, own = variables["params"], {kind: v for kind, v in variables.items() if kind != "params"}
        return dataclasses.replace(
            state,
            params=self.place(params),
            state=self.place(own),
            optimiser=self.place(self.optimiser.init(params)),
            average=None if self.average is None else self.place(params),
        )

    def place(self, tree):
        """A tree on every device, as the step takes it; the same values in every process."""
        tree = jax.tree.map(jnp.array, tree)  # copies: the step gives its old state's memory away
        if self.parallel == "pmap":
            return jax.tree.map(lambda leaf: jnp.stack([leaf] * self.num_devices), tree)
        return _replicate(tree, self._whole)

    def host(self, tree):
        """The opposite of `place`: the values as numpy arrays (typed keys as they are)."""

        def fetch(leaf):
            if not isinstance(leaf, jax.Array):
                return leaf
            leaf = leaf.addressable_data(0)
            leaf = leaf[0] if self.parallel == "pmap" else leaf
            return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.asarray(leaf)

        return jax.tree.map(fetch, tree)

    def put(self, batch: Mapping) -> dict:
        """The rows of this process as part of the whole batch on all devices.

        Raises:
          ValueError: rows that the devices, or the parts of an accumulation, cannot share evenly.
        """
        rows, devices = len(batch["mask"]), self.num_devices
        if rows % (devices * self.accumulate):
            raise ValueError(
                f"a batch of {rows} rows (of this process) cannot be shared by {devices} devices in {self.accumulate} "
                f"parts each; choose a multiple of {devices * self.accumulate}, or fewer devices"
            )
        if self.parallel == "pmap":
            return {name: v.reshape(devices, -1, *v.shape[1:]) for name, v in batch.items()}
        if jax.process_count() == 1:
            return jax.device_put(dict(batch), self._rows)
        return {name: jax.make_array_from_process_local_data(self._rows, v) for name, v in batch.items()}

    @functools.cached_property
    def _compiled(self) -> Callable:
        settings = (self.task, self.optimiser, self.accumulate, self.average, self.penalty)
        if self.parallel == "pmap":
            devices = None if jax.process_count() > 1 else list(self.mesh.devices.flat)
            update = functools.partial(_update, *settings, _AXIS)
            return jax.pmap(update, axis_name=_AXIS, donate_argnums=0, devices=devices)
        out = (self._whole, {"loss": self._whole, "gradient_norm": self._whole, "losses": self._rows})
        return jax.jit(functools.partial(_update, *settings, None), donate_argnums=0, out_shardings=out)

    def __call__(self, state: TrainState, batch: Mapping) -> tuple[TrainState, dict[str, jax.Array]]:
        """One step."""
        return self._compiled(state, self.put(batch))


def _replicate(tree, sharding):
    """A tree of host or local arrays, replicated over a mesh that may span processes."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def whole(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = jax.make_array_from_process_local_data(sharding, np.asarray(jax.random.key_data(leaf)))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))

    return jax.tree.map(whole, tree)


@functools.lru_cache(maxsize=32)
def make_step(
    task: Task,
    optimiser: optax.GradientTransformation,
    *,
    parallel: str = "jit",
    accumulate: int = 1,
    average: float | None = None,
    penalty: Callable | None = None,
    devices: tuple | None = None,
) -> Step:
    """Compile a training step of a task; the same arguments give the same step, already compiled.

    Args:
      task: what is learnt; hashable.
      optimiser: from `mirjax.optimisers.make_optimiser`, or any of optax's.
      parallel: `jit` or `pmap`.
      accumulate: parts in which a batch is worked through, for memory.
      average: decay of a moving average of the weights, with which is evaluated, at most (1 + t) / (10 + t) after t
        steps; None for none.
      penalty: params → number, such as an L2 term that the optimiser adds to gradients, to be told in the loss as well.
      devices: all of all processes when None.

    Raises:
      ValueError: an unknown name, or a number out of its range.
    """
    if parallel not in PARALLEL:
        raise ValueError(f"parallel={parallel!r} is not one of {', '.join(PARALLEL)}")
    if accumulate < 1:
        raise ValueError(f"accumulate={accumulate} must be at least 1")
    if average is not None and not 0 <= average < 1:
        raise ValueError(f"average={average} must be a decay from 0 to below 1, such as 0.999, or None")
    devices = jax.devices() if devices is None else list(devices)
    mesh = jax.make_mesh((len(devices),), (_AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    return Step(task, optimiser, mesh, parallel, accumulate, average, penalty)


# ── the loop ──────────────────────────────────────────────────────────────────────────────────────


def fit(
    step: Step,
    state: TrainState,
    batches: Callable[[int], Iterator[Mapping]],
    *,
    rule: Rule,
    epochs: int,
    steps_per_epoch: int,
    evaluate: Callable[[dict], Mapping[str, float]] | None = None,
    best: Best | None = None,
    monitor: str = "valid_loss",
    back_to_best: bool = False,
    save: Callable[[TrainState, Best], None] | None = None,
    save_seconds: float = 60.0,
    on_epoch: Callable[[dict], None] | None = None,
    name_clips: Callable[[int, np.ndarray], Any] | None = None,
    progress: Any = None,
) -> tuple[TrainState, Best]:
    """Train until the epochs are over or the rule stops.

    Args:
      step: from `make_step`.
      state: from `step.init`, or a saved one placed by `step.place`.
      batches: number of a step → the batches from that step on, rows of this process.
      rule: the learning-rate and stop rule; it sees each epoch's metrics.
      epochs: at most.
      steps_per_epoch: batches of an epoch.
      evaluate: variables → metrics of the validation clips, named `valid_…`; called after each epoch.
      best: of a saved run; None at the start.
      monitor: the metric by which the best weights are kept (`rules.direction` says whether the smallest or the
        largest); without `evaluate`, the last weights are the best.
      back_to_best: whenever the rule lowers the learning rate, go on from the best weights so far, and with an
        optimiser that has seen nothing (a schedule of it begins anew). Changes nothing without `evaluate`.
      save: writes a checkpoint of the whole run. Called about every `save_seconds` (with several processes, at the next
        end of an epoch), at the end and when interrupted.
      save_seconds: between two checkpoints.
      on_epoch: takes the row of each epoch: `epoch, step, seconds, scale, train_loss, …`.
      name_clips: number of a step and bool[B], some rows of this process → what to call their clips in an error.
      progress: a tqdm bar, moved by one a step.

    Returns:
      (the last state, the best weights).

    Raises:
      NotFinite: loss or gradient is NaN or infinite; nothing is saved of it.
      Interrupted: SIGTERM (or Ctrl-C, once) came; everything has been saved.
    """
    total = epochs * steps_per_epoch
    number = int(step.host(state.step))
    best = best or Best(step.host(state.variables), np.float32(worst(monitor)), np.int32(0))
    saved_at = began = time.monotonic()
    pending = None
    finished = number >= total or bool(step.host(state.rule.stop))
    with _Interruption() as interruption:
        stream = iter(()) if finished else batches(number)
        while not finished:
            state, metrics = step(state, next(stream))
            # One step late, so that the device is never waited for.
            _check(step, pending, name_clips)
            pending = (number, metrics)
            number += 1
            if progress is not None:
                progress.update()
            if number % steps_per_epoch == 0:
                _check(step, pending, name_clips)
                pending = None
                variables, totals = step.host(state.variables), step.host(state.totals)
                row = {
                    "epoch": number // steps_per_epoch,
                    "step": number,
                    "seconds": round(time.monotonic() - began, 3),
                    "scale": float(step.host(state.rule).scale),
                    "train_loss": float(totals[0] / max(totals[1], np.finfo(totals.dtype).tiny)),
                    **(evaluate(variables) if evaluate is not None else {}),
                }
                before = step.host(state.rule)
                looked = rule.update(before, row)
                state = dataclasses.replace(state, rule=step.place(looked), totals=step.place(np.zeros_like(totals)))
                best = _better(best, variables, row, monitor if evaluate is not None else None)
                if back_to_best and evaluate is not None and looked.scale < before.scale:
                    state = step.begin_again(state, best.variables)
                if on_epoch is not None:
                    on_epoch(row)
                if progress is not None:
                    progress.set_postfix({name: f"{row[name]:.4g}" for name in ("train_loss", monitor) if name in row})
                finished = number >= total or bool(looked.stop)
            stop = interruption.requested()
            due = time.monotonic() - saved_at > save_seconds
            if jax.process_count() > 1:  # all of them save together, or none; one clock decides, at the end of an epoch
                due = number % steps_per_epoch == 0 and _first_says(due)
            if save is not None and (finished or stop or due):
                _check(step, pending, name_clips)
                save(step.host(state), best)
                saved_at = time.monotonic()
            if stop:  # after the last step too, or the next training would not know of it
                raise Interrupted(f"stopped after step {number}; the same command goes on from there")
    return state, best


def is_better(monitor: str, value, than) -> bool:
    """Whether a value of the metric is better than another; NaN never is."""
    return bool(value < than if direction(monitor) == "min" else value > than)


def worst(monitor: str) -> float:
    """What every value of the metric is better than."""
    return np.inf if is_better(monitor, 0, 1) else -np.inf


def _better(best, variables, row, monitor):
    """The best weights after an epoch; the last ones when nothing is measured."""
    if monitor is None:
        return Best(variables, best.value, np.int32(row["step"]))
    if monitor not in row:
        known = ", ".join(name for name in row if name not in ("epoch", "step", "seconds", "scale"))
        raise ValueError(f"monitor={monitor!r} is not measured; known: {known}")
    value = np.float32(row[monitor])
    return Best(variables, value, np.int32(row["step"])) if is_better(monitor, value, best.value) else best


def _check(step, pending, name_clips) -> None:
    """Raise NotFinite if a step's loss or gradient is not a number; names the rows to blame, or all of them."""
    if pending is None:
        return
    number, metrics = pending
    loss, norm = (float(step.host(metrics[name])) for name in ("loss", "gradient_norm"))
    if np.isfinite(loss) and np.isfinite(norm):
        return
    blamed = ~np.isfinite(_own_rows(metrics["losses"]))
    if blamed.any() or jax.process_count() == 1:
        named = "" if name_clips is None else f" on clips {name_clips(number, blamed if blamed.any() else ~blamed)}"
    else:
        named = " (not by a loss of this process' rows)"
    raise NotFinite(
        f"step {number}: the loss is {loss:g} and its gradient's norm {norm:g}{named}; the last checkpoint is kept. "
        "Lower the learning rate, clip gradients (clip_norm=5), or look at those clips"
    )


def _own_rows(values: jax.Array) -> np.ndarray:
    """Values of a batch's rows, those of this process, in order."""
    shards = {shard.index[0].start or 0: np.asarray(shard.data) for shard in values.addressable_shards}
    return np.concatenate([shards[start] for start in sorted(shards)]).reshape(-1)


def _first_says(claim: bool) -> bool:
    """What the first process claims, in all of them."""
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.asarray(claim)))


class _Interruption:
    """Whether SIGTERM or Ctrl-C came, the same answer after the same step in every process.

    A second Ctrl-C interrupts at once. Of several processes JAX's preemption service takes SIGTERM and makes them agree
    on a step; it compares numbers, so they go on over all trainings of a process and never begin anew: a signal that
    came between two is met by the next.
    """

    _asked = itertools.count(1)

    def __init__(self):
        self._came = False
        self._before = {}

    def __enter__(self):
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        if self._came and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._came = True

    def requested(self) -> bool:
        if jax.process_count() == 1:
            return self._came
        from jax.experimental import multihost_utils

        return multihost_utils.reached_preemption_sync_point(next(self._asked))

"""Tagging: one label a clip, or many, learnt from patches and judged by clips.

Convention
----------
A batch has `audio` f32[B, N] (or [B, C, N]) or `representation` f32[B, T, F] (or [B, T, F, C]), `label` int32[B] (one
class) or f32[B, K] (many tags, or values), `mask` bool[B], and perhaps `steps` int32[B] (real steps of a row: samples
of audio, frames of a representation). Variables are {"params", "batch_stats", "input"}; "input" holds `mean` and
`deviation` (of all values: [], of each band: [F]; or of each place of a patch: [T, F]) by which the representation is
standardised, and travels with the weights. A network that decides at every step tags by the mean of its logits over
time.

Losses
------
* `cross_entropy`: −log softmax of the class; of several tags the (weighted) mean over them, and the row counts as many.
* `binary_cross_entropy`: mean over tags; a tag's weight multiplies its positive half.
* `squared_error`: of the output (sigmoid, softmax or as it is), mean over tags; a tag's weight multiplies its error.

Where a clip has one class, the weight of its class multiplies the row, which counts as many rows, whatever the loss.

Source: J. Pons (2019), chapters 3 and 5.
Names: `Tagging`, `Outcome`, `NotFiniteScores`, `predict`, `judge`, `input_statistics`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mirjax import decisions, metrics
from mirjax.models import taggers
from mirjax.signal import augment

LOSSES = ("cross_entropy", "binary_cross_entropy", "squared_error")
OUTPUTS = {
    "softmax": functools.partial(jax.nn.softmax, axis=-1),
    "sigmoid": jax.nn.sigmoid,
    "linear": lambda logits: logits,
}
NORMALISE = ("none", "all", "band", "place", "patch_mean")
_BY_PLACE = ("place", "patch_mean")


@dataclasses.dataclass(frozen=True)
class Tagging:
    """The task of tagging with one network.

    Attributes:
      model: a `taggers.Model` with a head.
      loss: name in `LOSSES`.
      output: what makes scores of logits: `softmax`, `sigmoid` or `linear`.
      weights: of K classes or tags, as the module's head says; None weighs all alike.
      targets: what the outputs shall be without and with a tag; binary targets may be softened, as to (.02, .98).
      augment_audio: (key, f32[N]) → f32[N], drawn for every row, or None; needs batches of audio.
      augment: (key, f32[T, F]) → f32[T, F], of the standardised representation, or None.
      dtype: of the computation; weights, losses and statistics stay float32.
    """

    model: object
    loss: str = "cross_entropy"
    output: str = "softmax"
    weights: tuple[float, ...] | None = None
    targets: tuple[float, float] = (0.0, 1.0)
    augment_audio: Callable | None = None
    augment: Callable | None = None
    dtype: str | None = None

    def __post_init__(self):
        for field, known in (("loss", LOSSES), ("output", tuple(OUTPUTS))):
            if getattr(self, field) not in known:
                raise ValueError(f"{field}={getattr(self, field)!r} is not one of {', '.join(known)}")
        if self.loss != "squared_error" and self.output != _OUTPUT_OF[self.loss]:
            raise ValueError(f"loss={self.loss!r} goes with output={_OUTPUT_OF[self.loss]!r}, not {self.output!r}")
        if len(self.targets) != 2 or not 0 <= self.targets[0] < self.targets[1] <= 1:
            raise ValueError(f"targets={self.targets} must be two numbers within [0, 1], the lower one first")
        if self.loss == "cross_entropy" and tuple(self.targets) != (0, 1):
            raise ValueError(f"targets={self.targets} soften binary outputs; loss='cross_entropy' has (0, 1)")
        if self.dtype not in (None, "float32", "bfloat16", "float16", "float64"):
            raise ValueError(f"dtype={self.dtype!r} is not one of float32, bfloat16, float16, float64")
        if self.dtype == "float64" and jnp.result_type(float) != np.float64:
            raise ValueError("dtype='float64' needs JAX's 64 bits; set JAX_ENABLE_X64=1")

    def init(self, key: jax.Array, batch: Mapping) -> tuple[dict, dict]:
        """Random params, and batch statistics and the statistics (0, 1) of an input that is left as it is."""
        x = jax.eval_shape(lambda batch: self._hear(batch, None, None), dict(batch))
        variables = self.model.lazy_init(key, x, method="embed", mutable=["params", "batch_stats"])
        state = {kind: tree for kind, tree in variables.items() if kind != "params"}
        return variables["params"], state | {"input": input_statistics(())}

    def losses(self, params, state, batch, key, *, train=True):
        """Losses and weights f32[B] of the rows, and the new state; see `mirjax.train`."""
        hearing, dropping = (None, None) if key is None else jax.random.split(key)
        x = self._hear(batch, state["input"], hearing if train else None)
        variables = {"params": params, **{k: v for k, v in state.items() if k != "input"}}
        options = {"method": "embed", "train": train, "steps": self._steps(batch)}
        if train:
            answer, new = self.model.apply(variables, x, rngs={"dropout": dropping}, mutable=["batch_stats"], **options)
            state = state | new
        else:
            answer = self.model.apply(variables, x, **options)
        losses, weights = self._compare(self._logits(answer), batch["label"])
        return losses, weights * batch["mask"], state

    def scores(self, variables: Mapping, batch: Mapping) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Scores f32[B, K], and losses and weights f32[B], of the rows of a batch; no augmentation, no dropout."""
        x = self._hear(batch, variables["input"], None)
        own = {kind: tree for kind, tree in variables.items() if kind != "input"}
        logits = self._logits(self.model.apply(own, x, method="embed", steps=self._steps(batch)))
        losses, weights = self._compare(logits, batch["label"])
        return OUTPUTS[self.output](logits), losses, weights * batch["mask"]

    def _hear(self, batch, statistics, key):
        """The batch as the network takes it: represented, standardised, augmented when a key is given."""
        if "audio" in batch:
            audio = batch["audio"]
            if key is not None and self.augment_audio is not None:
                key, own = jax.random.split(key)
                audio = augment.per_example(self.augment_audio)(own, audio)
            x = self.model.representation(audio)
        elif key is not None and self.augment_audio is not None:
            raise ValueError("augment_audio needs batches of audio; these hold the representation")
        else:
            x = batch["representation"]
        if statistics is not None:
            mean, deviation = (_as_row(statistics[name], x) for name in ("mean", "deviation"))
            x = (x - mean) / deviation
        if key is not None and self.augment is not None:
            x = augment.per_example(self.augment)(key, x)
        return x if self.dtype is None else x.astype(self.dtype)

    def _steps(self, batch):
        """Real frames of the rows (samples, if the network hears the waveform), or None."""
        steps = batch.get("steps")
        return taggers.real_steps(self.model.representation, steps) if steps is not None and "audio" in batch else steps

    def _logits(self, answer):
        logits = answer["logits"]
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        return logits.mean(axis=1) if logits.ndim == 3 else logits

    def _compare(self, logits, label):
        """Loss and weight of every row."""
        classes, of_rows, of_tags = logits.shape[-1], jnp.ones(len(logits)), jnp.ones((1, logits.shape[-1]))
        if label.ndim == 2:
            targets, of_tags = label, of_tags if self.weights is None else jnp.asarray(self.weights)[None]
        else:  # a single output tells the second of two classes
            targets = label[:, None].astype(logits.dtype) if classes == 1 else jax.nn.one_hot(label, classes)
            of_rows = of_rows if self.weights is None else jnp.asarray(self.weights)[label]
        if self.loss == "cross_entropy":
            if label.ndim == 1:
                return optax.softmax_cross_entropy(logits, targets), of_rows
            shares = targets * of_tags  # of several tags each counts once, so a row with more of them weighs more
            total = shares.sum(-1)
            return optax.softmax_cross_entropy(logits, shares / jnp.maximum(total, 1e-30)[:, None]), total
        targets = self.targets[0] + (self.targets[1] - self.targets[0]) * targets
        if self.loss == "squared_error":
            losses = of_tags * (OUTPUTS[self.output](logits) - targets) ** 2
        else:
            losses = -of_tags * targets * jax.nn.log_sigmoid(logits) - (1 - targets) * jax.nn.log_sigmoid(-logits)
        return losses.mean(-1), of_rows


_OUTPUT_OF = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}


def _as_row(values, x):
    if values.shape != x.shape[x.ndim - values.ndim :]:
        raise ValueError(
            f"input of shape {x.shape}, but statistics of {values.shape} (normalise=place or band); give windows of "
            "the length and bands that the network was trained on"
        )
    return values.reshape((1,) * (x.ndim - values.ndim) + values.shape).astype(x.dtype)


def input_statistics(representations, kind: str = "none") -> dict[str, np.ndarray]:
    """Statistics by which the input is standardised, of some clips' representations.

    Args:
      representations: f32[T, F] (or [T, F, C], or waveforms f32[N]) of the training clips.
      kind: `none` (mean 0, deviation 1), `all` (of all values), `band` (of each band), `place` (of each place of
        patches of one length), or `patch_mean` (the mean of each place is taken away, and nothing divided).

    Returns:
      {"mean", "deviation"}, f32[], f32[F] or f32[T, F]; a deviation of 0 is 1.

    Raises:
      ValueError: an unknown kind, or no representations where there must be some.
    """
    if kind not in NORMALISE:
        raise ValueError(f"normalise={kind!r} is not one of {', '.join(NORMALISE)}")
    if kind == "none":
        return {"mean": np.float32(0), "deviation": np.float32(1)}
    count, total, squares = 0, 0.0, 0.0
    for x in representations:
        x = np.asarray(x, np.float64)
        axes = {"all": None, "band": 0}.get(kind, ())
        count += {"all": x.size, "band": len(x)}.get(kind, 1)
        total, squares = total + x.sum(axis=axes), squares + (x**2).sum(axis=axes)
    if not count:
        raise ValueError(f"normalise={kind!r} needs training clips; there are none")
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0)) if kind != "patch_mean" else np.ones(())
    # Rounding leaves a little of a deviation that is 0.
    flat = deviation <= 1e-7 * np.abs(mean) if kind != "patch_mean" else deviation < 0
    return {"mean": np.asarray(mean, np.float32), "deviation": np.where(flat, 1, deviation).astype(np.float32)}


# ── evaluation ────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What a network says of some clips.

    Attributes:
      clips: int[M], numbers of the clips, in the order asked for.
      scores: f64[M, K], of the clips: means over their windows (or the share of their windows' votes).
      loss: of the windows, weighted.
    """

    clips: np.ndarray
    scores: np.ndarray
    loss: float


class NotFiniteScores(ValueError):
    """A network gives some clips scores that are no numbers.

    Attributes:
      clips: their numbers.
    """

    def __init__(self, clips):
        super().__init__(f"the scores of {len(clips)} clips (numbers {', '.join(map(str, clips[:8]))}) are not finite")
        self.clips = clips


@functools.lru_cache(maxsize=32)
def _scorer(task):
    mesh = jax.make_mesh(
        (jax.local_device_count(),), ("rows",), axis_types=(AxisType.Auto,), devices=jax.local_devices()
    )
    whole, rows = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("rows"))
    return jax.jit(task.scores, out_shardings=rows), whole, rows


def predict(
    task: Tagging, variables: Mapping, batches: Iterable[Mapping], clips, *, aggregate: str = "mean"
) -> Outcome:
    """Scores of clips from all their windows, on the devices of this process, gathered over all processes.

    Args:
      task: what was learnt.
      variables: {"params", "batch_stats", "input"}.
      batches: `patches.EvaluationBatches` of this process' share of the clips.
      clips: int[M], numbers of all clips, of all processes.
      aggregate: `mean` of the windows' scores, or `vote`: the share of windows whose highest score a class has.

    Raises:
      ValueError: an unknown way, no clips, or a clip without windows.
      NotFiniteScores: scores or losses that are NaN or infinite.
    """
    if not len(clips):
        raise ValueError("there are no clips to score; choose at least one")
    if aggregate not in ("mean", "vote"):
        raise ValueError(f"aggregate={aggregate!r} is not one of mean, vote")
    score, whole, rows = _scorer(task)
    variables = jax.device_put(dict(variables), whole)
    found = []
    for batch in batches:
        padded, real = _shareable(batch, jax.local_device_count()), batch["mask"]
        values = score(variables, jax.device_put(padded, rows))
        found.append([np.asarray(batch["clip"])[real], *(np.asarray(v)[: len(real)][real] for v in values)])
    columns = [np.concatenate(each) for each in zip(*found, strict=True)] if found else None
    if jax.process_count() > 1:
        columns = _gathered(columns)
    number, scores, losses, weights = columns
    if not (sound := np.isfinite(scores).all(-1) & np.isfinite(losses)).all():
        raise NotFiniteScores(np.unique(number[~sound]))
    place = {int(clip): i for i, clip in enumerate(clips)}
    number = np.array([place[int(clip)] for clip in number])
    scores = np.asarray(scores, np.float64)
    if aggregate == "vote":
        single = scores.shape[1] == 1  # a single output tells the second of two classes
        ballots = np.concatenate([1 - scores, scores], axis=1) if single else scores
        votes = decisions.majority_vote(ballots, number, num_clips=len(place))
        scores = votes.shares + 1e-9 * np.eye(ballots.shape[1])[votes.winners]  # the winner of a tie comes first
        scores = scores[:, 1:] if single else scores
    else:
        scores = decisions.mean_over_windows(scores, number, num_clips=len(place))
    loss = float((losses * weights).sum(dtype=np.float64) / max(weights.sum(dtype=np.float64), 1e-300))
    return Outcome(np.asarray(clips), scores, loss)


def _shareable(batch, devices):
    """A batch whose rows the devices can share: filled up with rows outside the mask."""
    surplus = -len(batch["mask"]) % devices
    if not surplus:
        return dict(batch)
    return {k: np.concatenate([v, np.repeat(v[:1], surplus, axis=0) * (k != "mask")]) for k, v in batch.items()}


def _gathered(columns):
    """The rows of all processes, in their order; processes may have different numbers of rows, or none."""
    from jax.experimental import multihost_utils

    share = np.int64(0 if columns is None else len(columns[0]))
    counts = np.ravel(multihost_utils.process_allgather(share))
    width = np.int64(0 if columns is None else columns[1].shape[1])
    width = int(np.max(multihost_utils.process_allgather(width)))
    table = np.zeros((int(counts.max()), width + 3), np.float32)
    if columns is not None:
        number, scores, losses, weights = columns
        table[: len(number)] = np.column_stack([number.astype(np.float32), losses, weights, scores])
    parts = np.asarray(multihost_utils.process_allgather(table)).reshape(len(counts), *table.shape)
    rows = np.concatenate([part[:count] for part, count in zip(parts, counts, strict=True)])
    return rows[:, 0].astype(np.int64), rows[:, 3:], rows[:, 1], rows[:, 2]


def judge(outcome: Outcome, labels, *, loss: str, tags=None) -> dict[str, float]:
    """Metrics of clips: those of one label a clip, of many tags, or of values, by what the labels are.

    Args:
      outcome: from `predict`.
      labels: int32[M'] or f32[M', K] of all clips of the data set.
      loss: of the task: under `squared_error` many tags are values, and the metric is their `rmse`.
      tags: K names, for tags that must be left out.

    Returns:
      {"loss", …} and `accuracy`, `balanced_accuracy`, `macro_f1`; or `roc_auc`, `pr_auc`; or `rmse`.
    """
    truth = labels[outcome.clips]
    if labels.ndim == 1:
        decided = outcome.scores.argmax(-1) if outcome.scores.shape[1] > 1 else (outcome.scores[:, 0] > 0.5).astype(int)
        return {"loss": outcome.loss, **metrics.score(truth, decided)}
    if loss == "squared_error":
        return {"loss": outcome.loss, **metrics.score_values(truth, outcome.scores)}
    found = metrics.score_tags(truth > 0.5, outcome.scores, tags)
    return {"loss": outcome.loss, **{name: score.mean for name, score in found.items()}}

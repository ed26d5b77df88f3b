"""One step on many devices against one device; the loop against its own interruption."""

import dataclasses
import functools
import os
import re
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mirjax import checkpoint, optimisers, rules, train
from mirjax.data import patches
from mirjax.models import backends, blocks, taggers
from mirjax.signal.representations import LogMel
from mirjax.tasks import tagging

FRAMES, BANDS, CLASSES, ROWS = 24, 96, 3, 8


def network(dropout=0.0, norm=True):
    """Two blocks, batch norm between convolution and activation, mean and maximum over time."""
    make = blocks.Norm if norm else lambda: None
    front_end = blocks.Stack(
        tuple(
            blocks.Conv(6, (3, 3), norm=make(), norm_first=True, bias=not norm, pool=(2, 4), dropout=dropout)
            for _ in range(2)
        )
    )
    return taggers.Network(LogMel(), front_end, backends.GlobalPool(("mean", "max")), blocks.Head(CLASSES))


def clips(count=20, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % CLASSES
    arrays = [rng.standard_normal((FRAMES + 6, BANDS)).astype("f4") + labels[i] * 0.3 for i in range(count)]
    return patches.Clips(arrays.__getitem__, np.full(count, FRAMES + 6), labels)


def batches(**options):
    options = {"chosen": np.arange(20), "batch_size": ROWS, "patch": FRAMES, "seed": 3} | options
    return patches.TrainingBatches(clips(), **options)


def trained(steps=20, *, task=None, optimiser=None, rows=ROWS, **options):
    """Params and the last metrics after some steps; the weights are those of key 0 in every call."""
    task = task or tagging.Tagging(network())
    step = train.make_step(task, optimiser or optimisers.make_optimiser("sgd", 0.05), **options)
    data = batches(batch_size=rows)
    state = step.init(jax.random.key(0), data[0], rules.constant())
    for number in range(steps):
        state, metrics = step(state, data[number])
    return step.host(state), step.host({k: metrics[k] for k in ("loss", "gradient_norm")})


def difference(first, second):
    """Largest difference of two trees over the largest value."""
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(second))
    return max(float(np.abs(a - b).max()) for a, b in pairs) / largest


ONE = tuple(jax.devices()[:1])
KEY = jax.random.key(0)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_devices_agree(parallel):
    """Oracle: one device with the whole batch, batch norm and its running averages included, after 20 SGD steps."""
    alone, told = trained(devices=ONE)
    many, also = trained(parallel=parallel)
    assert jax.device_count() == 2
    assert difference(many.params, alone.params) < 1e-6
    assert difference(many.state["batch_stats"], alone.state["batch_stats"]) < 1e-6
    assert abs(also["loss"] - told["loss"]) < 1e-6 * told["loss"]
    assert difference(alone.params, trained(steps=19, devices=ONE)[0].params) > 1e-4  # it moves


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_class_weights_and_padding_rows_agree_over_devices(parallel):
    """Oracle: gradient of the weighted mean by hand, whatever rows a device has."""
    task = tagging.Tagging(network(norm=False), weights=(0.2, 1.0, 5.0))
    rule = rules.constant()
    data = batches()[0]
    data["mask"] = np.arange(ROWS) < 3  # all of the second device's rows only fill the batch up
    step = train.make_step(task, optimisers.make_optimiser("sgd", 1.0), parallel=parallel)
    state = step.init(jax.random.key(0), data, rule)
    before = step.host(state)

    def mean(params):
        x = jnp.asarray(data["representation"][:3])
        logits = task.model.apply({"params": params}, x, method="embed")["logits"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(data["label"][:3]))
        weights = jnp.asarray(task.weights)[data["label"][:3]]
        return (weights * losses).sum() / weights.sum()

    loss, gradient = jax.value_and_grad(mean)(before.params)
    state, metrics = step(state, data)
    moved = jax.tree.map(lambda old, new: old - new, before.params, step.host(state).params)
    assert difference(moved, gradient) < 2e-6
    assert step.host(metrics["loss"]) == pytest.approx(float(loss), rel=1e-6)


def test_accumulation_is_the_whole_batch():
    """Oracle: the same batch at once, without batch norm (whose statistics are those of each part)."""
    task = tagging.Tagging(network(norm=False), weights=(0.5, 1.0, 3.0))
    at_once, _ = trained(task=task)
    for parallel in ("jit", "pmap"):
        in_parts, _ = trained(task=task, accumulate=4 if parallel == "jit" else 2, parallel=parallel)
        assert difference(in_parts.params, at_once.params) < 1e-6


def test_moving_average_and_clipping():
    """Oracle: hand-worked average of the weights of every step; the norm of an update is rate times the clip."""
    decay, seen = 0.6, []
    task = tagging.Tagging(network())
    step = train.make_step(task, optimisers.make_optimiser("sgd", 0.5, clip_norm=1e-3), average=decay)
    data = batches()
    state = step.init(jax.random.key(0), data[0], rules.constant())
    average = step.host(state).params
    for number in range(4):
        before = step.host(state).params
        state, metrics = step(state, data[number])
        now = step.host(state).params
        keep = min(decay, (1 + number) / (10 + number))
        average = jax.tree.map(lambda a, n, keep=keep: keep * a + (1 - keep) * n, average, now)
        seen.append(float(optax.tree.norm(jax.tree.map(lambda a, b: a - b, now, before))))
        assert step.host(metrics["gradient_norm"]) > 1e-3
    assert difference(step.host(state).average, average) < 1e-6
    assert seen == pytest.approx([0.5e-3] * 4, rel=1e-3)
    assert difference(step.host(state).variables["params"], average) < 1e-6


def test_bfloat16_keeps_float32_weights():
    """Oracle: the float32 run; bfloat16 has 8 bits, and all convolutions of a step are in it."""
    task = tagging.Tagging(network(), dtype="bfloat16")
    half, _ = trained(task=task)
    full, _ = trained()
    batch = batches()[0]
    program = str(jax.make_jaxpr(lambda *given: task.losses(*given, train=True))(*task.init(KEY, batch), batch, KEY))
    assert set(re.findall(r":(\w+)\[[^]]*\] = conv_general_dilated", program)) == {"bf16"}
    assert {leaf.dtype for leaf in jax.tree.leaves(half.params)} == {np.dtype("float32")}
    assert 1e-6 < difference(half.params, full.params) < 0.1


def test_penalty_is_told():
    """Oracle: ½·l2·Σ kernels², of the weights before the step, beside the loss without it."""
    l2 = 0.3
    plain = optimisers.make_optimiser("sgd", 0.05, l2=l2)
    task, data = tagging.Tagging(network()), batches()
    told = []
    for penalty in (None, PENALTY):
        step = train.make_step(task, plain, penalty=penalty)
        state = step.init(jax.random.key(0), data[0], rules.constant())
        kernels = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state.params) if path[-1].key == "kernel"]
        expected = 0.5 * l2 * sum(float((leaf**2).sum()) for leaf in kernels)
        state, metrics = step(state, data[0])
        told.append(float(metrics["loss"]))
        assert float(state.totals[0] / state.totals[1]) == pytest.approx(told[-1], rel=1e-6)
    assert told[1] - told[0] == pytest.approx(expected, rel=1e-4)


def PENALTY(params):
    return optimisers.penalty(params, 0.3)


# ── the loop ──


def fitted(
    folder=None,
    *,
    epochs=6,
    rule=None,
    stop_at=None,
    by=signal.SIGTERM,
    evaluate=True,
    parallel="jit",
    devices=None,
    rate=0.05,
    back_to_best=False,
):
    """A run of the loop; with a folder it goes on from its checkpoint. `stop_at`: a signal comes during that step."""
    task, rule = tagging.Tagging(network(dropout=0.3)), rule or rules.stop_early("valid_loss", 3)
    step = train.make_step(task, OPTIMISER if rate == 0.05 else _sgd(rate), average=0.9,
                           parallel=parallel, devices=devices)  # fmt: skip
    data = batches(chosen=np.arange(16))
    state = step.init(jax.random.key(1), data[0], rule)
    best, rows = None, []
    saved = folder and checkpoint.Checkpoints(folder, {"architecture": "small"})
    if saved:
        template = train.Best(step.host(state.variables), np.float32(0), np.int32(0))
        found = saved.restore({"state": step.host(state), "best": template})
        if found:
            state, best = step.place(found["state"]), found["best"]

    def stream(first):
        for number, batch in enumerate(data.iterate(first), first):
            if number == stop_at:
                os.kill(os.getpid(), by)
            yield batch

    held_out = patches.EvaluationBatches(data.clips, np.arange(16, 20), 4, FRAMES)

    def judged(variables):
        outcome = tagging.predict(task, variables, held_out, np.arange(16, 20))
        return {"valid_loss": outcome.loss}

    state, best = train.fit(
        step,
        state,
        stream,
        rule=rule,
        epochs=epochs,
        steps_per_epoch=data.steps_per_epoch,
        evaluate=judged if evaluate else None,
        best=best,
        back_to_best=back_to_best,
        save=saved and (lambda state, best: saved.save({"state": state, "best": best})),
        save_seconds=0.0,
        on_epoch=rows.append,
        name_clips=lambda number, rows: data.own(number)[rows].tolist(),
    )
    return step.host(state), best, rows


OPTIMISER = optimisers.make_optimiser("adam", 0.05)


@functools.cache
def _sgd(rate):
    return optimisers.make_optimiser("sgd", rate)


def same(first, second):
    def plain(leaf):
        return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)

    return all(
        np.array_equal(plain(a), plain(b)) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_interrupted_goes_on_bit_for_bit(tmp_path, parallel):
    """Oracle: the undisturbed run: weights, moments, averages, key, rule, best weights and curve."""
    whole, best, rows = fitted(parallel=parallel)
    told = []
    for stop_at in (1, 2, 7):  # within an epoch, at its end, later
        with pytest.raises(train.Interrupted, match="goes on"):
            fitted(tmp_path / "run", stop_at=stop_at, parallel=parallel)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    again, best_again, told = fitted(tmp_path / "run", parallel=parallel)
    assert same(again, whole) and same(best_again, best)
    kept = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in told] == kept[-len(told) :]
    finished, also, none = fitted(tmp_path / "run", parallel=parallel)  # a finished run does nothing more
    assert same(finished, whole) and same(also, best) and none == []


def test_interrupted_in_the_last_step(tmp_path):
    """Oracle: the undisturbed run; what comes next is not begun, and nothing is trained again."""
    with pytest.raises(train.Interrupted, match="after step 12"):
        fitted(tmp_path, stop_at=11)
    again, best, rows = fitted(tmp_path)
    whole, best_of_whole, _ = fitted()
    assert same(again, whole) and same(best, best_of_whole) and rows == []


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_resumes_on_other_devices(tmp_path, parallel):
    """Oracle: the same run on two devices throughout; rounding is all that may differ, and under Adam it grows."""
    plain = {"rate": 0.01, "evaluate": False, "rule": rules.constant()}
    with pytest.raises(train.Interrupted):
        fitted(tmp_path, stop_at=5, parallel=parallel, **plain)
    resumed, _, _ = fitted(tmp_path, devices=ONE, **plain)
    if parallel == "jit":  # dropout under pmap draws for each device
        assert difference(resumed.params, fitted(**plain)[0].params) < 1e-5
    assert resumed.step == 12


def test_best_weights_are_those_of_the_best_epoch():
    """Oracle: the curve; the best weights evaluate to its smallest loss, and the rule stops three epochs after."""
    state, best, rows = fitted(epochs=40)
    losses = [row["valid_loss"] for row in rows]
    assert best.value == pytest.approx(min(losses)) and best.step == rows[int(np.argmin(losses))]["step"]
    if len(rows) < 40:
        assert len(rows) == int(np.argmin(losses)) + 4
    assert state.step == rows[-1]["step"]


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_back_to_the_best_weights(parallel):
    """Oracle: the steps by hand: the weights of the first epoch, momentum from nothing, batches and keys go on."""
    task, rule = tagging.Tagging(network(dropout=0.3)), rules.halve_every(2)
    step = train.make_step(task, optimisers.make_optimiser("sgd", 0.05, momentum=0.9), average=0.9, parallel=parallel)
    data, told = batches(chosen=np.arange(16)), iter([1.0, 2.0, 3.0])
    state, best = train.fit(
        step,
        step.init(jax.random.key(1), data[0], rule),
        data.iterate,
        rule=rule,
        epochs=3,
        steps_per_epoch=data.steps_per_epoch,
        evaluate=lambda variables: {"valid_loss": next(told)},
        back_to_best=True,
    )
    assert best.step == 2 and float(step.host(state.rule).scale) == 0.5
    by_hand = step.init(jax.random.key(1), data[0], rule)
    for number in range(2):
        by_hand, _ = step(by_hand, data[number])
    by_hand = step.init(jax.random.key(1), data[0], rule, variables=step.host(by_hand).variables)
    rule_then = step.place(rule.init()._replace(scale=np.float32(0.5)))
    by_hand = dataclasses.replace(by_hand, step=step.place(jnp.int32(4)), rule=rule_then)
    for number in range(4, 6):
        by_hand, _ = step(by_hand, data[number])
    assert same(step.host(state).variables, step.host(by_hand).variables)
    assert same(step.host(state).params, step.host(by_hand).params)


def test_interrupted_after_going_back(tmp_path):
    """Oracle: the undisturbed run, which goes back from its fourth epoch to its third."""
    going_back = {"rule": rules.halve_every(4), "back_to_best": True}
    whole, best, rows = fitted(**going_back)
    assert rows[3]["valid_loss"] > rows[2]["valid_loss"]
    for stop_at in (7, 10):  # in the step after which it goes back, and later
        with pytest.raises(train.Interrupted):
            fitted(tmp_path, stop_at=stop_at, **going_back)
    again, best_again, _ = fitted(tmp_path, **going_back)
    assert same(again, whole) and same(best_again, best)


def test_without_validation_the_last_weights_are_the_best():
    """Hand-worked: nothing to choose by."""
    state, best, _ = fitted(evaluate=False, rule=rules.constant())
    assert best.step == 12
    assert same(best.variables, dataclasses.replace(state).variables)


def test_nan_names_step_and_clips_and_keeps_the_checkpoint(tmp_path):
    """Hand-worked: a run goes on at a rate of 1e30: its next loss is the last finite one, and what it saves then too.

    The message has the step, the clips and a remedy.
    """
    with pytest.raises(train.Interrupted):
        fitted(tmp_path, stop_at=1, rate=0.01)
    assert sorted(path.name for path in tmp_path.glob("[0-9]*")) == ["1", "2"]
    with pytest.raises(train.NotFinite, match=r"step 3: .*clips \[\d+.*clip_norm"):
        fitted(tmp_path, rate=1e30)
    assert sorted(path.name for path in tmp_path.glob("[0-9]*")) == ["2", "3"]


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_nan_names_the_clip_whose_loss_it_is(parallel, accumulate):
    """Hand-worked: the loss of one clip of eight is NaN."""
    data = batches(chosen=np.arange(8))
    bad = int(data.ids(0)[5])

    class Broken(tagging.Tagging):
        def losses(self, params, state, batch, key, **options):
            losses, weights, state = super().losses(params, state, batch, key, **options)
            return jnp.where(batch["clip"] == bad, jnp.nan, losses), weights, state

    task = Broken(network(norm=False))
    step = train.make_step(task, optimisers.make_optimiser("sgd", 0.05), parallel=parallel, accumulate=accumulate)
    state = step.init(jax.random.key(0), data[0], rules.constant())
    with pytest.raises(train.NotFinite, match=rf"step 0: .* on clips \[{bad}\]; "):
        train.fit(
            step, state, data.iterate, rule=rules.constant(), epochs=1, steps_per_epoch=1,
            name_clips=lambda number, rows: data.own(number)[rows].tolist(),
        )  # fmt: skip


def test_ctrl_c_saves_and_a_second_one_does_not_wait(tmp_path):
    """Oracle: the undisturbed run; the handler from before is back afterwards."""
    before = signal.getsignal(signal.SIGINT)  # ignored, where the tests run in the background
    with pytest.raises(train.Interrupted, match="goes on"):
        fitted(tmp_path / "run", stop_at=3, by=signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert same(fitted(tmp_path / "run")[0], fitted()[0])
    with train._Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.sigtimedwait([], 0.1)


def test_wrong_arguments_are_told():
    """Hand-worked: names, values and remedies in the messages."""
    task, optimiser = tagging.Tagging(network()), optimisers.make_optimiser("sgd", 0.1)
    with pytest.raises(ValueError, match="parallel='xmap' is not one of jit, pmap"):
        train.make_step(task, optimiser, parallel="xmap")
    with pytest.raises(ValueError, match="accumulate=0 must be at least 1"):
        train.make_step(task, optimiser, accumulate=0)
    with pytest.raises(ValueError, match=r"average=1.0 must be a decay"):
        train.make_step(task, optimiser, average=1.0)
    step = train.make_step(task, optimiser, accumulate=3)
    data = batches()[0]
    state = step.init(jax.random.key(0), data, rules.constant())
    with pytest.raises(ValueError, match=r"a batch of 8 rows .* 2 devices in 3 parts .* multiple of 6"):
        step(state, data)
    with pytest.raises(ValueError, match=r"monitor='valid_accuracy' is not measured; known: train_loss, valid_loss"):
        train.fit(
            train.make_step(task, optimiser),
            train.make_step(task, optimiser).init(jax.random.key(0), data, rules.constant()),
            batches().iterate, rule=rules.constant(), epochs=1, steps_per_epoch=1, monitor="valid_accuracy",
            evaluate=lambda variables: {"valid_loss": 1.0},
        )  # fmt: skip

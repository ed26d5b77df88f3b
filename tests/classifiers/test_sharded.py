"""Gram matrices over devices and processes against numpy's products of the whole table."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from mirjax.classifiers.gram import Gram
from mirjax.classifiers.hidden import draw_layer
from mirjax.classifiers.sharded import accumulate

WORKER = Path(__file__).with_name("_loopback_worker.py")
U32 = 2.0**-24


def digits():
    x, y = load_digits(return_X_y=True)
    weights = np.random.default_rng(0).random(len(x))
    weights[::7] = 0
    return x / 16, np.where(y[:, None] == np.arange(10), 1.0, -1.0), weights


def in_batches(size, *tables):
    for i in range(0, len(tables[0]), size):
        yield tuple(table[i : i + size] for table in tables)


def mesh(count):
    return jax.sharding.Mesh(np.array(jax.devices()[:count]), "any")


def errors(gram, hidden, targets, weights):
    """Largest error of products and of cross, each over sqrt(d_i d_j) of its row and column."""
    hidden, targets = hidden.astype(np.longdouble), targets.astype(np.longdouble)
    products, cross = hidden.T @ (weights[:, None] * hidden), hidden.T @ (weights[:, None] * targets)
    d, t = np.sqrt(np.diagonal(products)), np.sqrt(np.sum(weights[:, None] * targets**2, axis=0))
    d = np.where(d > 0, d, 1)
    found = np.abs(gram.products - products) / (d[:, None] * d), np.abs(gram.cross - cross) / (d[:, None] * t)
    return tuple(float(error.max()) for error in found)


def test_equals_numpy_on_one_and_two_devices():
    """Oracle: numpy's H'WH and H'WY in extended precision; bound stated in `gram` (n·2⁻⁵³ of the diagonal)."""
    x, targets, weights = digits()
    layer = draw_layer(64, 150, 0)
    hidden = layer(x)
    assert jax.device_count() == 2
    for count, size in ((1, 100), (2, 100), (2, 7), (2, 5000)):
        gram = accumulate(layer, in_batches(size, x, targets, weights), mesh=mesh(count))
        assert max(errors(gram, hidden, targets, weights)) < len(x) * 2.0**-53
        assert (gram.rounding <= (len(x) + 20) * 2.0**-53 * np.diagonal(gram.products)).all()
        assert gram.count == np.count_nonzero(weights)
        np.testing.assert_allclose(gram.weight, weights.sum(), rtol=1e-13)
        np.testing.assert_allclose(gram.hidden_sum, weights @ hidden, rtol=1e-12)
        np.testing.assert_allclose(gram.target_sum, weights @ targets, rtol=1e-11)
        np.testing.assert_allclose(gram.target_squares, np.full(10, weights.sum()), rtol=1e-13)
        np.testing.assert_array_equal(gram.products, gram.products.T)


def test_blocks_of_wide_layers():
    """Oracle: numpy. 1,100 + 2 + 1 columns are four blocks, the last of another width."""
    random = np.random.default_rng(0)
    x, targets = random.normal(size=(60, 1100)), random.normal(size=(60, 2))
    gram = accumulate(lambda x: x, in_batches(16, x, targets))
    np.testing.assert_allclose(gram.products, x.T @ x, atol=1e-12)
    np.testing.assert_allclose(gram.cross, x.T @ targets, atol=1e-12)
    assert (gram.hidden_units, gram.num_outputs, gram.count, gram.weight) == (1100, 2, 60, 60)


def test_whole_numbers_are_exact_whatever_the_devices():
    """Oracle: integer arithmetic."""
    random = np.random.default_rng(1)
    x, targets = random.integers(-9, 9, (500, 30)), random.integers(-1, 2, (500, 4))
    for dtype, count in ((np.float64, 2), (np.float32, 2), (np.float32, 1)):
        gram = accumulate(lambda x: x, in_batches(33, x, targets), dtype=dtype, mesh=mesh(count))
        np.testing.assert_array_equal(gram.products, x.T @ x)
        np.testing.assert_array_equal(gram.cross, x.T @ targets)
        np.testing.assert_array_equal(gram.target_squares, (targets**2).sum(0))


@pytest.mark.parametrize("count", [1, 2])
def test_pairs_keep_the_digits_that_plain_float32_loses(count):
    """Oracle: numpy in float64 on the same float32 activations; 10⁵ rows in 1,000 batches."""
    x = np.random.default_rng(2).random((100_000, 40), dtype=np.float32)
    targets = np.ones((100_000, 1), np.float32)
    exact = x.astype(np.float64).T @ x.astype(np.float64)

    def error(**settings):
        gram = accumulate(lambda x: x, in_batches(100, x, targets), dtype=np.float32, mesh=mesh(count), **settings)
        assert gram.count == 100_000
        assert (np.abs(gram.products - exact) <= np.sqrt(np.outer(gram.rounding, gram.rounding))).all()
        return np.abs(gram.products - exact).max() / exact.max(), abs(gram.weight - 100_000)

    pairs, plain = error(), error(compensated=False)
    assert pairs[0] < U32 and pairs[0] < plain[0] / 20
    assert pairs[1] == 0
    print(f"\n{count} device(s), 10⁵ rows: pairs {pairs[0]:.1e}, plain float32 {plain[0]:.1e}")


@pytest.mark.parametrize("compensated", [True, False])
@pytest.mark.parametrize("size", [1e-18, 1e-20, 1e-22, 1e-30, 1e-39])
def test_rounding_holds_where_squares_underflow(size, compensated):
    """Oracle: numpy in float64 on the same float32 activations; one of them is near 1, one is dead."""
    random = np.random.default_rng(3)
    x = (random.random((1000, 8)) * size * 10.0 ** np.arange(8)).astype(np.float32)
    x[:, 6], x[:, 7] = random.random(1000), 0
    targets = np.full((1000, 1), np.float32(size))
    gram = accumulate(lambda x: x, in_batches(50, x, targets), dtype=np.float32, compensated=compensated)
    exact = x.astype(float).T @ x.astype(float)
    assert (np.abs(gram.products - exact) <= np.sqrt(np.outer(gram.rounding, gram.rounding))).all()
    assert abs(gram.target_squares[0] - 1000 * float(np.float32(size)) ** 2) <= gram.target_rounding[0]
    assert gram.digits[6] > 4


def test_float32_reduction_is_exact_to_the_last_pair():
    """Oracle: numpy in float64. One device holds 2²⁴, the other 1: float32 alone cannot hold their sum."""
    x = np.array([[4096.0, 1.0], [1.0, 0.0]], np.float32)
    gram = accumulate(lambda x: x, [(x, np.ones((2, 1)))], dtype=np.float32)
    np.testing.assert_array_equal(gram.products, [[2**24 + 1, 4096], [4096, 1]])


def test_weights_are_repetitions_and_no_weights_are_ones():
    """Oracle: the same rows repeated."""
    x, targets, _ = digits()
    counts = np.random.default_rng(0).integers(0, 4, len(x))
    layer = draw_layer(64, 50, 0)
    weighted = accumulate(layer, in_batches(100, x, targets, counts.astype(float)))
    repeated = accumulate(layer, in_batches(100, np.repeat(x, counts, axis=0), np.repeat(targets, counts, axis=0)))
    np.testing.assert_allclose(weighted.products, repeated.products, rtol=1e-12)
    np.testing.assert_allclose(weighted.cross, repeated.cross, rtol=1e-10)
    assert weighted.weight == pytest.approx(counts.sum(), rel=1e-13) and weighted.count == np.count_nonzero(counts)


def test_zero_weight_hides_whatever_the_layer_makes():
    """Oracle: the rows of weight above 0 alone; 1 / x is infinite for the rows that fill up a batch, too."""
    x = np.array([[1.0], [0.0], [2.0]])
    gram = accumulate(lambda x: 1 / x, [(x, np.ones((3, 1)), np.array([1.0, 0.0, 1.0]))])
    assert gram.products[0, 0] == 1.25 and gram.count == 2


def test_buffers_of_the_caller_may_be_used_again():
    """Oracle: fresh arrays. A reader that fills one buffer again and again is usual."""
    x, targets, _ = digits()
    x, targets = x[:1700], targets[:1700]

    def aligned(*shape):  # JAX takes such memory as it is, without a copy
        bytes_ = np.empty(8 * shape[0] * shape[1] + 64, np.uint8)
        start = -bytes_.ctypes.data % 64
        return bytes_[start : start + 8 * shape[0] * shape[1]].view(np.float64).reshape(shape)

    def refilled():
        buffer, labels = aligned(100, 64), aligned(100, 10)
        for i in range(0, 1700, 100):
            buffer[:], labels[:] = x[i : i + 100], targets[i : i + 100]
            yield buffer, labels
            buffer[:], labels[:] = np.nan, np.nan

    found, expected = (
        accumulate(lambda x: x, batches, mesh=mesh(1)) for batches in (refilled(), in_batches(100, x, targets))
    )
    np.testing.assert_array_equal(found.products, expected.products)


def test_batches_are_made_outside_of_float64():
    """Oracle: jax's own default. What a caller computes in his generator is not to change its dtype."""
    seen = []

    def made():
        for key in jax.random.split(jax.random.key(0), 3):
            x = jax.random.normal(key, (10, 4))
            seen.append(x.dtype)
            yield x, x[:, :1]

    gram = accumulate(jnp.tanh, made())
    assert set(seen) == {jnp.dtype(jnp.float32)}
    x = np.concatenate([np.asarray(jax.random.normal(k, (10, 4))) for k in jax.random.split(jax.random.key(0), 3)])
    np.testing.assert_allclose(gram.products, np.tanh(x.astype(float)).T @ np.tanh(x.astype(float)), rtol=1e-13)


def test_memory_does_not_grow_with_the_batches():
    """Oracle: the bytes of all live arrays, after 5 batches and after 60."""
    live = []

    def made():
        random = np.random.default_rng(0)
        for _ in range(60):
            x = random.normal(size=(50, 200))
            live.append(sum(array.nbytes for array in jax.live_arrays()))
            yield x, x[:, :2]

    accumulate(jnp.tanh, made())
    assert max(live[30:]) <= max(live[5:30])


def one(x=None, targets=None, *weights):
    x = np.ones((4, 3)) if x is None else x
    return (x, np.ones((4, 2)) if targets is None else targets, *weights)


@pytest.mark.parametrize(
    ("batches", "settings", "message"),
    [
        ([], {}, "there are no batches"),
        ([one(np.ones((0, 3)), np.ones((0, 2)))], {}, "there are no batches"),
        ([one(), one(np.full((4, 3), np.nan))], {}, "batch 1 has .* not finite"),
        ([one(), one(np.full((9, 3), np.inf), np.ones((9, 2))), one()], {}, "batch 1 has .* not finite"),
        ([one(None, np.full((4, 2), np.inf))], {}, "batch 0 has .* not finite"),
        ([one(None, None, np.array([1, 1, -1, 1.0]))], {}, "weights below 0"),
        ([one(None, None, np.array([1, 1, np.nan, 1.0]))], {}, "batch 0 has .* not finite"),
        ([one(), one(np.ones((4, 5)))], {}, "batch 1 has 5 hidden units and 2 outputs, the first one had 3 and 2"),
        ([one(), one(None, np.ones((4, 3)))], {}, "batch 1 has 3 hidden units and 3 outputs"),
        ([one(None, np.ones(4))], {}, r"batch 0 has x \(4, 3\) and targets \(4,\)"),
        ([one(None, np.ones((5, 2)))], {}, r"targets \(5, 2\)"),
        ([one(None, None, np.ones(3))], {}, r"weights \(3,\); expected \(4,\)"),
        ([one(np.full((4, 3), 1e200))], {}, r"exceed float64 \(1\.8e308\)"),
        ([one(np.full((4, 3), 1e19))] * 2, {"dtype": np.float32}, r"exceed float32 \(3\.4e38\)"),
        ([one()[:1]], {}, r"batch 0 has 1 parts; expected \(x, targets\)"),
        ([one(), np.ones((2, 3))], {}, "batch 1 is a ndarray; expected"),
        ([one()], {"dtype": "abc"}, "dtype='abc' must be float64 or float32"),
        ([one()], {"dtype": np.float16}, "float16 must be float64 or float32"),
        ([one()], {"precision": "most"}, "precision='most' must be one of highest"),
    ],
    ids=[
        "none", "empty", "nan", "large-batch", "targets", "negative", "nan-weight", "widths", "outputs", "1d", "rows",
        "weights", "overflow", "float32-overflow", "one-part", "no-tuple", "no-dtype", "dtype", "precision",
    ],
)  # fmt: skip
def test_bad_input(batches, settings, message):
    """Oracle: the errors the docstring promises."""
    with pytest.raises(ValueError, match=message):
        accumulate(lambda x: x, batches, **settings)


@pytest.mark.parametrize(("layer", "message"), [(lambda x: x[0], "the layer makes"), (3, "layer=3 must be")])
def test_bad_layers(layer, message):
    """Oracle: the errors the docstring promises."""
    with pytest.raises(ValueError, match=message):
        accumulate(layer, [one()])


def test_x_of_another_width():
    """Oracle: the contract; a layer of 64 features is given 3, in the second batch."""
    x, targets, _ = digits()
    with pytest.raises(ValueError, match=r"the layer does not take x \(4, 3\) of batch 1: "):
        accumulate(draw_layer(64, 5, 0), [(x[:9], targets[:9, :2]), one()])


def start(out, count, devices, **extra):
    """Worker processes on loopback: exit codes and outputs when all have ended; peers of a failed one are killed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    workers = []
    try:
        for i in range(count):
            with open(out / f"{i}.txt", "w") as log:
                command = [sys.executable, str(WORKER), str(out), str(i), str(count), address]
                workers.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment | extra))
        end = time.monotonic() + 150
        while any(worker.poll() is None for worker in workers) and time.monotonic() < end:
            if any(worker.poll() for worker in workers):
                time.sleep(3)  # the others may yet say something
                break
            time.sleep(0.05)
    finally:
        for worker in workers:
            worker.kill()  # does nothing to one that has ended
            worker.wait()
    return [worker.returncode for worker in workers], [(out / f"{i}.txt").read_text() for i in range(count)]


def check_results(out, count, devices):
    codes, logs = start(out, count, devices)
    assert codes == [0] * count, "\n".join(logs)
    facts = [json.loads((out / f"{i}.json").read_text()) for i in range(count)]
    assert [(fact["devices"], fact["local"]) for fact in facts] == [(count * devices, devices)] * count
    x, targets, weights = digits()
    layer = draw_layer(64, 150, 0)
    # The float32 run sums x itself (sixteenths): what is left is the rounding of weights, products and sums.
    for kind, hidden, bound in (("float64", layer(x), len(x) * 2.0**-53), ("float32", x, 8 * U32)):
        grams = [Gram.load(out / f"{i}-{kind}.npz") for i in range(count)]
        found = errors(grams[0], hidden, targets, weights)
        assert max(found) < bound
        assert grams[0].count == np.count_nonzero(weights)
        for other in grams[1:]:
            np.testing.assert_array_equal(other.products, grams[0].products)
            np.testing.assert_array_equal(other.cross, grams[0].cross)
        print(f"\n{count} process(es) of {devices} device(s), {kind}: {max(found):.1e}")
    return facts, grams


def test_eight_devices(tmp_path):
    """Oracle: numpy; a process of its own, as this one has two devices."""
    check_results(tmp_path, 1, 8)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_over_loopback(tmp_path, count):
    """Oracle: numpy. Numbers and sizes of batches differ; one process has none; then one fails, and all are told."""
    facts, _ = check_results(tmp_path, count, 2 if count == 2 else 1)
    alone, local = ([Gram.load(tmp_path / f"{i}-{kind}.npz") for i in range(count)] for kind in ("alone", "local"))
    x, targets, weights = digits()
    hidden = draw_layer(64, 150, 0)(x[:1003])
    assert max(errors(local[0], hidden, targets[:1003], weights[:1003])) < 1003 * 2.0**-53
    for gram in alone:
        np.testing.assert_allclose(gram.products, local[0].products, rtol=1e-12, atol=1e-12)
    assert sum(local[1:], local[0]).count == np.count_nonzero(weights)
    for i, fact in enumerate(facts):
        assert fact["widths"].startswith("ValueError: processes have different widths (process 0: 100 hidden units, 10")
        expected = "ValueError: file 17 is torn" if i == 1 else "RuntimeError: process(es) [1] failed"
        assert fact["broken"].startswith(expected)
        assert fact["nothing"].startswith("ValueError: there are no batches")


def test_a_lost_process_is_reported_and_leaves_no_orphans(tmp_path):
    """Oracle: the exit code and the words of the process that ended; its peer does not outlive the call."""
    codes, logs = start(tmp_path, 2, 1, FAULT="exit")
    assert codes[1] == 3 and codes[0] != 0
    assert "process 1 is out of disk" in logs[1]

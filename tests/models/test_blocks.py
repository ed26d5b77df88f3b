"""Convolution blocks, batch normalisation and heads. Oracles: `lax` written literally, numpy, scipy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from scipy import stats

from mirjax.models import blocks, frontends, trackers
from mirjax.models.blocks import ALL, BatchNorm, Chain, Conv, ConvBlock, Head, Norm, Stack


def random_variables(module, x, seed=0):
    """Variables with nothing at its initial 0 or 1."""
    drawn = module.init(jax.random.key(seed), x)
    kept = {kind: drawn[kind] for kind in ("params", "batch_stats") if kind in drawn}
    leaves, tree = jax.tree.flatten(kept)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    moved = [leaf + 0.3 * jax.random.uniform(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, moved)


ORDERS = {
    "relu": Conv(4, (3, 3), pool=(2, 2)),
    "norm last": Conv(4, (3, 3), norm=Norm(), pool=(2, 3)),
    "norm first": Conv(4, (3, 3), norm=Norm(1e-5, 0.9), norm_first=True, activation="elu", pool=(3, 2)),
    "valid": Conv(4, (2, 5), padding="valid", activation="leaky_relu_0.33", bias=False),
    "uneven": Conv(4, (3, 4), padding=((0, 2), (1, 0)), activation="tanh", stride=(2, 1)),
    "tall": Conv(4, (3, ALL), padding=((1, 1), "valid"), norm=Norm(), pool=(4, 1), activation="sigmoid"),
    "overlapping": Conv(4, (3, 3), pool=(4, 1), pool_stride=(2, 2)),
    "mean": Conv(4, (3, 3), pool=(2, 2), pool_kind="mean"),
    "linear": Conv(4, (1, 1), activation="linear"),
}
ACTIVATE = {
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "leaky_relu_0.33": lambda x: np.where(x > 0, x, 0.33 * x),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "linear": lambda x: x,
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_block_written_out(order):
    """Oracle: one clip in plain numpy loops over positions, in the order that `Conv` promises."""
    spec = ORDERS[order]
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 2))
    variables = random_variables(ConvBlock(spec), x)
    found = np.asarray(ConvBlock(spec).apply(variables, x))
    parameters = jax.tree.map(np.asarray, variables)
    kernel = parameters["params"]["kernel"]
    padding = spec.padding if isinstance(spec.padding, tuple) else (spec.padding,) * 2
    pads = []
    for size, each, stride, length in zip(kernel.shape, padding, spec.strides, (9, 8), strict=False):
        if each == "same":  # TensorFlow's rule
            surplus = max((-(-length // stride) - 1) * stride + size - length, 0)
            each = (surplus // 2, surplus - surplus // 2)
        pads.append((0, 0) if each == "valid" else each)
    maps = np.pad(np.asarray(x[0]), (*pads, (0, 0)))
    (kt, kf), (st, sf) = kernel.shape[:2], spec.strides
    rows, columns = (maps.shape[0] - kt) // st + 1, (maps.shape[1] - kf) // sf + 1
    y = np.array(
        [
            [np.einsum("tfc,tfcn->n", maps[i * st : i * st + kt, j * sf : j * sf + kf], kernel) for j in range(columns)]
            for i in range(rows)
        ]
    )
    y = y + parameters["params"].get("bias", 0)

    def normalise(y):
        averages, scale = parameters["batch_stats"]["batch_norm"], parameters["params"]["batch_norm"]
        return (y - averages["mean"]) / np.sqrt(averages["var"] + spec.norm.epsilon) * scale["scale"] + scale["bias"]

    y = normalise(y) if spec.norm and spec.norm_first else y
    y = ACTIVATE[spec.activation](y)
    y = normalise(y) if spec.norm and not spec.norm_first else y
    if spec.pool:
        (wt, wf), (pt, pf) = spec.pool, spec.pool_stride or spec.pool
        best = np.max if spec.pool_kind == "max" else np.mean
        y = np.array(
            [
                [
                    best(y[i * pt : i * pt + wt, j * pf : j * pf + wf], axis=(0, 1))
                    for j in range((y.shape[1] - wf) // pf + 1)
                ]
                for i in range((y.shape[0] - wt) // pt + 1)
            ]
        )
    assert found[0].shape == y.shape
    assert np.abs(found[0] - y).max() <= 2e-6 * np.abs(y).max()


def test_one_dimensional_blocks():
    """Oracle: `lax.conv_general_dilated`, and a pooling over all of time."""
    spec = Conv(5, (3,), stride=(2,), padding="valid", pool=(ALL,))
    x = jax.random.normal(jax.random.key(0), (2, 21, 4))
    variables = random_variables(ConvBlock(spec), x)
    plain = lax.conv_general_dilated(
        x, variables["params"]["kernel"], (2,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
    )
    plain = nn.relu(plain + variables["params"]["bias"][None, None]).max(axis=1, keepdims=True)
    assert jnp.abs(ConvBlock(spec).apply(variables, x) - plain).max() < 1e-5


@pytest.mark.parametrize(("axis", "unbiased"), [(-1, False), (-1, True), (1, False), (2, True), (None, False)])
def test_batch_norm_by_numpy(axis, unbiased):
    """Oracle: numpy's mean and variance over the other axes (of everything for a single scale); the running rule."""
    norm = BatchNorm(Norm(epsilon=1e-2, momentum=0.7, axis=axis, unbiased=unbiased))
    x = jax.random.normal(jax.random.key(0), (3, 4, 5, 2)) * 3 + 1
    variables = random_variables(norm, x)
    found, state = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    values = np.asarray(x, np.float64)
    others = tuple(i for i in range(4) if axis is None or i != axis % 4)
    mean, variance = values.mean(others, keepdims=True), values.var(others, keepdims=True)
    shape = [1] * 4 if axis is None else [values.shape[i] if i == axis % 4 else 1 for i in range(4)]
    scale, bias = (np.asarray(variables["params"][name]).reshape(shape) for name in ("scale", "bias"))
    wanted = (values - mean) / np.sqrt(variance + 1e-2) * scale + bias
    assert np.abs(found - wanted).max() <= 1e-5
    for name, batch in (("mean", mean), ("var", values.var(others, ddof=int(unbiased)))):
        old = np.asarray(variables["batch_stats"][name])
        np.testing.assert_allclose(state["batch_stats"][name], 0.7 * old + 0.3 * np.ravel(batch), rtol=1e-5)


def test_padding_does_not_count_in_batch_statistics():
    """Oracle: the statistics of the real steps alone, gathered in numpy."""
    norm = BatchNorm(Norm())
    x = jax.random.normal(jax.random.key(0), (2, 6, 3))
    x = x.at[1, 2:].set(1e3)
    variables = norm.init(jax.random.key(1), x)
    found, _ = norm.apply(variables, x, train=True, steps=jnp.array([6, 2]), mutable=["batch_stats"])
    real = np.concatenate([np.asarray(x[0]), np.asarray(x[1, :2])])
    wanted = (real - real.mean(axis=0)) / np.sqrt(real.var(axis=0) + 1e-3)
    assert np.abs(np.concatenate([found[0], found[1, :2]]) - wanted).max() < 1e-5


FAN_IN, FAN_OUT = 3 * 20, 3 * 50
INITIALISERS = {
    "he_truncated": (2 / FAN_IN, stats.truncnorm(-2, 2)),
    "he_normal": (2 / FAN_IN, stats.norm()),
    "he_uniform": (2 / FAN_IN, stats.uniform(-1, 2)),
    "lecun_uniform": (1 / FAN_IN, stats.uniform(-1, 2)),
    "glorot_uniform": (2 / (FAN_IN + FAN_OUT), stats.uniform(-1, 2)),
    "torch": (1 / (3 * FAN_IN), stats.uniform(-1, 2)),
    "normal_01": ((0.01 * stats.truncnorm(-2, 2).std()) ** 2, stats.truncnorm(-2, 2)),
}


@pytest.mark.parametrize("name", INITIALISERS)
def test_initialisers(name):
    """Oracle: scipy's distributions, scaled to the variance of ARCHITECTURES §0 (Kolmogorov and Smirnov's test)."""
    variance, distribution = INITIALISERS[name]
    draws = np.asarray(blocks.initialiser(name)(jax.random.key(0), (3, 20, 50))).ravel()
    unit = draws / np.sqrt(variance) * distribution.std()
    assert stats.kstest(unit, distribution.cdf).pvalue > 1e-3
    with pytest.raises(ValueError, match="'he' is not one of he_truncated"):
        blocks.initialiser("he")


def test_orthogonal_initialiser():
    """Oracle: columns of length 1 at right angles."""
    kernel = np.asarray(blocks.initialiser("orthogonal")(jax.random.key(0), (3, 4, 6))).reshape(12, 6)
    assert np.abs(kernel.T @ kernel - np.eye(6)).max() < 1e-5


def test_head_written_out():
    """Oracle: numpy: dense, norm, activation as ordered; the embedding is the last hidden layer, logits follow."""
    head = Head(3, hidden=(5,), activation="elu", input_norm=Norm(), norm=Norm(1e-5), norm_first=True)
    x = jax.random.normal(jax.random.key(0), (4, 6))
    variables = random_variables(head, x)
    embedding, logits = head.apply(variables, x)
    p, s = (jax.tree.map(np.asarray, variables[kind]) for kind in ("params", "batch_stats"))

    def normalise(y, name, epsilon):
        return (y - s[name]["mean"]) / np.sqrt(s[name]["var"] + epsilon) * p[name]["scale"] + p[name]["bias"]

    y = normalise(np.asarray(x), "input_norm", 1e-3) @ p["dense1_layer"]["kernel"] + p["dense1_layer"]["bias"]
    y = ACTIVATE["elu"](normalise(y, "dense1_norm", 1e-5))
    assert np.abs(embedding - y).max() < 1e-5
    assert np.abs(logits - (y @ p["output"]["kernel"] + p["output"]["bias"])).max() < 1e-5
    assert Head(0, hidden=(5,)).init_with_output(jax.random.key(0), x)[0][1] is None


def test_dropout_acts_in_training_only():
    """Oracle: the expectation: kept units are scaled by 1 / (1 − rate), others 0."""
    stack = Stack((Conv(64, (1,), activation="linear", dropout=0.5),), input_dropout=0.0)
    x = jnp.ones((1, 50, 4))
    variables = stack.init(jax.random.key(0), x)
    still = stack.apply(variables, x)
    moved = stack.apply(variables, x, train=True, rngs={"dropout": jax.random.key(1)})
    kept = np.asarray(moved) != 0
    assert 0.4 < kept.mean() < 0.6
    np.testing.assert_allclose(np.asarray(moved)[kept], 2 * np.asarray(still)[kept], rtol=1e-5)


def test_stack_refuses_what_does_not_fit():
    """Oracle: hand-worked shortest inputs, in time and in frequency."""
    stack = Stack((Conv(2, (3, 3), padding="valid", pool=(2, 4)), Conv(2, (3, 3), padding="valid")))
    for shape, message in (
        ((1, 7, 40), "at least 8 frames and got 7: conv2 needs 3 steps and has 2 left"),
        ((1, 20, 13), "at least 14 bands and got 13: conv2 needs 3 steps and has 2 left"),
        ((1, 20, 40, 1, 1), "must have 4 axes"),
    ):
        with pytest.raises(ValueError, match=message):
            stack.init(jax.random.key(0), jnp.zeros(shape))
    assert stack.init_with_output(jax.random.key(0), jnp.zeros((1, 8, 14)))[0].shape == (1, 1, 1, 2)


def test_chain_hands_on_steps_and_knows_what_masks():
    """Oracle: the row alone."""
    from mirjax.models import backends

    first, second = (Stack((Conv(3, (3,), pool=(2,)),), names=(name,)) for name in ("a", "b"))
    chain = Chain((first, second, backends.GlobalPool(("mean",))))
    assert chain.masks
    assert not Chain((first, backends.Flatten())).masks
    assert chain.feature_layers[:2] == ("a", "b")
    x = jax.random.normal(jax.random.key(0), (2, 16, 2))
    variables = chain.init(jax.random.key(1), x)
    run = functools.partial(chain.apply, {"params": variables["params"]})
    padded = run(x.at[1, 9:].set(50), steps=jnp.array([16, 9]))
    assert jnp.abs(padded[1] - run(x[1:, :9])[0]).max() < 1e-6


class _Normed(nn.Module):
    """Two normalised layers, by the channels and (first) by the bands."""

    @nn.compact
    def __call__(self, x, *, train=True, steps=None):
        first = Conv(4, (3, 3), norm=Norm(1e-3, 0.9, unbiased=True), norm_first=True, pool=(2, 2))
        x = Stack((first, Conv(3, (3, 3), norm=Norm())), input_norm=Norm(axis=2))(x, train=train, steps=steps)
        return blocks.mask_time(x, None if steps is None else steps // 2)


@pytest.mark.parametrize("lengths", [None, (12, 10, 3, 5)])
def test_statistics_over_devices(lengths):
    """Oracle: one device with the whole batch, whose statistics are numpy's (above)."""
    x = 3 * jax.random.normal(jax.random.key(0), (4, 12, 6)) + jnp.arange(4.0)[:, None, None]
    target = jax.random.normal(jax.random.key(1), (4, 6, 3, 3))
    steps = None if lengths is None else jnp.array(lengths)
    variables = random_variables(_Normed(), x)

    def run(params, x, target, steps):
        def loss(params):
            y, state = _Normed().apply({**variables, "params": params}, x, steps=steps, mutable=["batch_stats"])
            return (y * target).sum(), (y, state)

        gradients, (y, state) = jax.grad(loss, has_aux=True)(params)
        return y, gradients, state

    def run_on_each(*arguments):
        with blocks.statistics_over("devices"):
            y, gradients, state = run(*arguments)
        return y, lax.psum(gradients, "devices"), state

    def share(value):
        return None if value is None else value.reshape(2, 2, *value.shape[1:])

    wanted = jax.jit(run)(variables["params"], x, target, steps)
    mapped = jax.pmap(run_on_each, "devices", in_axes=(None, 0, 0, 0), devices=jax.devices()[:2])
    y, *replicated = mapped(variables["params"], share(x), share(target), share(steps))
    found = (y.reshape(wanted[0].shape), *(jax.tree.map(lambda leaf: leaf[1], tree) for tree in replicated))
    for tree, other in zip(found, wanted, strict=True):
        largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(other))
        for leaf, expected in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
            assert jnp.abs(leaf - expected).max() <= 2e-6 * largest
    assert jnp.abs(wanted[0]).max() > 0.1


@pytest.mark.parametrize("network", ["vgg", "onset_cnn"])
def test_statistics_of_other_layers_over_devices(network):
    """Oracle: one device with the whole batch, for layers that take statistics in a way of their own."""
    if network == "vgg":
        part, x = frontends.VGG(2, batch_norm=True), jax.random.normal(jax.random.key(0), (4, 1376, 96))
    else:
        part, x = trackers.SideBySide(3), jax.random.normal(jax.random.key(0), (4, 5, 12))
    x = x + jnp.arange(4.0)[:, None, None]
    variables = part.init(jax.random.key(1), x[:1])

    def run(x):
        return part.apply(variables, x, train=True, mutable=["batch_stats"])

    def run_on_each(x):
        with blocks.statistics_over("devices"):
            return run(x)

    y, state = jax.jit(run)(x)
    mapped, states = jax.pmap(run_on_each, "devices", devices=jax.devices()[:2])(x.reshape(2, 2, *x.shape[1:]))
    apart = jax.jit(run)(x[:2])[0]
    largest = jnp.abs(y).max()
    assert jnp.abs(mapped.reshape(y.shape) - y).max() <= 2e-6 * largest < jnp.abs(mapped[0] - apart).max()
    for leaf, expected in zip(jax.tree.leaves(states), jax.tree.leaves(state), strict=True):
        assert jnp.abs(leaf[1] - expected).max() <= 1e-6 * jnp.abs(expected).max()


def test_statistics_stay_with_each_device_unless_asked():
    """Oracle: each half of the batch alone."""
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5)) + jnp.arange(2.0).reshape(2, 1, 1, 1)
    norm = BatchNorm(Norm())
    variables = norm.init(jax.random.key(0), x[0])
    run = functools.partial(norm.apply, variables, train=True, mutable=["batch_stats"])
    found = jax.pmap(lambda part: run(part)[0], "devices", devices=jax.devices()[:2])(x)
    for part, alone in zip(found, x, strict=True):
        assert jnp.abs(part - run(alone)[0]).max() <= 1e-6

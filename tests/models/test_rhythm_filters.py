"""Rhythm filters: counts, sizes and options against ARCHITECTURES, outputs against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity
import pytest
from flax import linen as nn

from mirjax.models import backends, counts, rhythm_filters, zoo
from mirjax.models.blocks import ALL, Conv
from mirjax.models.rhythm_filters import ManyShapes


def _shapes(model):
    return jax.tree.map(jnp.shape, counts.variable_shapes(model)["params"])


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("black_box", 16_352),
        ("black_box/long", 11_424),
        ("time", 32 * 21),
        ("time/long", 32 * 51),
        *((f"frequency/f{height}", 32 * (41 - height)) for height in (30, 34, 36, 38, 40)),
        ("frequency", 32 * 9),
        ("time_frequency", 960),
        ("o_net", 400),
        ("p_net", 350),
        ("op_net/x2", 2 * 750),
    ],
)
def test_flattened_sizes(name, size):
    """Oracle: ARCHITECTURES sections 2, 3 and 12."""
    head = _shapes(zoo.build(name))["head"]
    first = head.get("dense1_layer", head["output"])
    assert first["kernel"][0] == size


@pytest.mark.parametrize("copies", [1, 2, 3, 8])
def test_copies_count_by_the_closed_form(copies):
    """Oracle: ARCHITECTURES section 3: 980 k and 4,620 k weights in the branches, 80 · channels + 8 in the output."""
    weights = {"o_net": (980, 40), "p_net": (4620, 35), "op_net": (980 + 4620, 75)}
    for name, (branches, channels) in weights.items():
        by_hand = branches * copies + 8 * 10 * channels * copies + 8
        assert counts.count(zoo.build(name, copies)) == by_hand


@pytest.mark.parametrize("make", ["black_box", "time", "frequency", "time_frequency"])
def test_widths_scale_and_outputs_do_not(make):
    """Oracle: the rule of the zoo: every width scales with n, num_classes never."""
    for n, dense in ((1, 6), (8, 50), (64, 400)):
        shapes = _shapes(getattr(rhythm_filters, make)(n, num_classes=5))
        assert all(block["bias"] == (n,) for block in shapes["front_end"].values())
        assert shapes["head"]["output"]["bias"] == (5,)
        if make in ("black_box", "time_frequency"):
            assert shapes["head"]["dense1_layer"]["bias"] == (dense,)


def test_initialise_from_copies_the_convolutions():
    """Oracle: ARCHITECTURES section 2: convolutions from the single networks, the rest its own."""
    makes = (rhythm_filters.time, rhythm_filters.frequency, rhythm_filters.time_frequency)
    variables = []
    for value, make in enumerate(makes):
        shapes = counts.variable_shapes(make(2))
        variables.append(jax.tree.map(lambda leaf, value=value: np.full(leaf.shape, value), shapes))
    both = rhythm_filters.initialise_from(*variables)
    assert jax.tree.map(np.shape, both) == jax.tree.map(np.shape, variables[2])
    front_end = both["params"]["front_end"]
    assert (front_end["time_block"]["kernel"] == 0).all()
    assert (front_end["frequency_block"]["bias"] == 1).all()
    assert all((leaf == 2).all() for leaf in jax.tree.leaves(both["params"]["head"]))
    assert (variables[2]["params"]["front_end"]["time_block"]["kernel"] == 2).all()
    with pytest.raises(ValueError, match="frequency_variables"):
        rhythm_filters.initialise_from(variables[0], variables[0], variables[2])


def test_many_shapes_compose_with_any_back_end():
    """Oracle: hand-worked sizes: 21 of 30 steps and 11 of 20 bands, pooled by 3 × 5 to 7 × 2, are 7 × 2 · 4 maps."""
    specs = tuple(Conv(4, kernel, padding="valid", pool=(3, 5)) for kernel in ((10, 10), (9, 8), (8, 7)))
    x = jax.ShapeDtypeStruct((2, 30, 20), jnp.float32)
    for merge, back_end, expected in (
        ("bands", None, (2, 7, 24)),
        ("channels", None, (2, 7, 2, 12)),
        ("all", None, (2, 1, 168)),
        ("bands", backends.GlobalPool(("max", "mean")), (2, 48)),
        ("channels", backends.Flatten(), (2, 168)),
    ):
        front_end = ManyShapes(specs, merge=merge)
        model = nn.Sequential([front_end] + ([back_end] if back_end else []))
        found = jax.eval_shape(lambda x, model=model: model.init_with_output(jax.random.key(0), x)[0], x)
        assert found.shape == expected
    assert front_end.feature_layers == ("shape_10x10", "shape_9x8", "shape_8x7")


@pytest.mark.parametrize(
    ("front_end", "shape", "message"),
    [
        (ManyShapes((Conv(1, (3, 3)),), merge="sum"), (1, 9, 9), "merge='sum'"),
        (ManyShapes((Conv(1, (3, 3)), Conv(2, (3, 3)))), (1, 9, 9), "all different"),
        (ManyShapes((Conv(1, (3, 3)),), names=("a", "b")), (1, 9, 9), "as many names"),
        (ManyShapes((Conv(1, (9, 1), padding="valid"),)), (1, 5, 9), "shape_9x1 needs 9 steps"),
        (ManyShapes((Conv(1, (1, 9), padding="valid"),)), (1, 5, 8), "9 bands"),
        (ManyShapes((Conv(1, (3, 1)), Conv(1, (5, 1), pool=(ALL, 1)))), (1, 9, 9), "positions"),
    ],
)
def test_many_shapes_refuse(front_end, shape, message):
    """Oracle: the contract of errors: the name, the value and the remedy."""
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: front_end.init(jax.random.key(0), jnp.zeros(shape)))


def test_bad_options():
    """Oracle: the contract of errors."""
    with pytest.raises(ValueError, match="height=41"):
        rhythm_filters.frequency(height=41)
    with pytest.raises(ValueError, match="at least 216"):
        model = rhythm_filters.p_net()
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 215, 40)), method="embed"))


MODELS = {
    "black_box": rhythm_filters.black_box(2),
    "time_frequency": rhythm_filters.time_frequency(2),
    "op_net": rhythm_filters.op_net(1),
}


@pytest.mark.parametrize("case", MODELS)
def test_same_as_torch(case):
    """Oracle: torch, frozen (torch_rhythm_filters.py)."""
    parity.assert_same(MODELS[case], *parity.load("rhythm_filters", case))


def test_same_as_torch_live():
    """Oracle: torch, live."""
    for case, made in parity.live("rhythm_filters").items():
        parity.assert_same(MODELS[case], *made)


@pytest.mark.parametrize("steps", [217, 230])
def test_padding_of_the_lengths_is_invisible(steps):
    """Oracle: the same clip alone; branches see fewer steps the longer they are."""
    x, variables, _ = parity.load("rhythm_filters", "op_net")
    model = MODELS["op_net"]
    padded = model.apply(variables, x, steps=jnp.array([steps, 250]), method="embed")
    alone = model.apply(variables, x[:1, :steps], method="embed")
    np.testing.assert_allclose(padded["embedding"][0], alone["embedding"][0], rtol=0, atol=1e-5)


def test_loss_falls():
    """Oracle: a gradient step that lowers the loss on real clips."""
    from mirjax.data import audio, dataset

    source = dataset.open_source("rhythm_small")
    chosen = range(0, 72, 6)
    model = rhythm_filters.time_frequency(4)
    rate = model.representation.sample_rate
    clips = np.stack([audio.decode(source.encoded(i), sample_rate=rate)[: rate * 2] for i in chosen])
    x = model.representation(clips)[:, :80]
    x = (x - x.mean()) / x.std()
    labels = np.unique([source.labels[i] for i in chosen], return_inverse=True)[1]
    params = model.init(jax.random.key(0), x, method="embed")["params"]
    optimiser = optax.adam(3e-3)

    @jax.jit
    def step(params, state, key):
        def loss(params):
            found = model.apply({"params": params}, x, train=True, method="embed", rngs={"dropout": key})
            return optax.softmax_cross_entropy_with_integer_labels(found["logits"], labels).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimiser.init(params), []
    for key in jax.random.split(jax.random.key(1), 25):
        params, state, value = step(params, state, key)
        losses.append(float(value))
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])

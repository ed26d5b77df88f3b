"""musicnn and its companion networks: counts, sizes, options, torch's outputs, and a loss that falls."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity
import pytest

from mirjax import features
from mirjax.data import audio, dataset
from mirjax.models import backends, companions, counts, zoo
from mirjax.models.blocks import Head
from mirjax.models.entries.companions import ENTRIES
from mirjax.models.taggers import Network
from mirjax.signal.presets import preset

KEY = jax.random.key(0)
NAMES = [entry.name for entry in ENTRIES]
CASES = {
    "musicnn": ("musicnn", 2, {}),
    "musicnn_legacy": ("musicnn", 2, {"legacy_residual": True}),
    "musicnn_attention": ("musicnn_attention", 1, {}),
    "musicnn_autopool": ("musicnn_autopool", 1, {}),
    "musicnn_rnn": ("musicnn_rnn", 2, {}),
    "vgg_32": ("vgg_32", 2, {}),
    "dieleman_66k": ("dieleman_66k", 2, {}),
    "timbre_185k": ("timbre_185k", 2, {}),
}


def shapes_of(name, n=None, **options):
    params = counts.variable_shapes(zoo.build(name, n, **options))["params"]
    return {path: tuple(leaf.shape) for path, leaf in parity.flatten(jax.tree.map(lambda s: np.zeros(s.shape), params))}


# ── counts and sizes ──


@pytest.mark.parametrize("name", NAMES)
def test_counts(name):
    """Oracle: ARCHITECTURES 1.2, last paragraph: the integer, and the printed short form by truncation."""
    (expected,) = zoo.lookup(name).counts
    assert counts.count(zoo.build(name)) == expected.reproduced
    if expected.published:
        unit = {"k": 1000, "M": 100_000}[expected.published[-1]]
        printed = expected.published[:-1].replace(".", "")
        assert expected.reproduced // unit == int(printed)


def test_legacy_flags_keep_the_counts():
    """Oracle: ARCHITECTURES 6.6: the unused batch norms are counted all the same; positions have no parameters."""
    for name in NAMES[:6]:
        assert counts.count(zoo.build(name, legacy_residual=True)) == zoo.lookup(name).counts[0].reproduced
    assert counts.count(zoo.build("musicnn_attention", legacy_positions=True)) == 2_406_940


def test_layer_sizes():
    """Oracle: ARCHITECTURES 6.6, widths of each part at the published n, and the flattened sizes that follow."""
    musicnn = shapes_of("musicnn")
    assert musicnn["front_end/timbral_7x38_block/kernel"] == (7, 38, 1, 204)
    assert musicnn["front_end/timbral_7x67_block/kernel"] == (7, 67, 1, 204)
    for length in (128, 64, 32):
        assert musicnn[f"front_end/temporal_{length}_block/kernel"] == (length, 1, 1, 51)
    assert musicnn["back_end/parts_0/mid1_block/kernel"] == (7, 561, 64)
    assert musicnn["head/dense1_layer/kernel"] == (2 * (561 + 3 * 64), 200)
    assert shapes_of("musicnn_big")["head/dense1_layer/kernel"] == (2 * (561 + 3 * 512), 500)
    assert shapes_of("musicnn_residual")["head/dense1_layer/kernel"] == (128, 200)
    assert shapes_of("musicnn_rnn")["back_end/parts_1/recurrent1_forward/kernel"] == (64, 4 * 512)
    assert shapes_of("musicnn_attention")["back_end/parts_1/score_block/kernel"] == (3, 768, 768)
    assert shapes_of("musicnn_autopool")["back_end/parts_1/alpha"] == ()
    assert shapes_of("dieleman_66k")["head/dense1_layer/kernel"] == (9 * 32, 100)
    assert shapes_of("vgg_32")["head/output/kernel"] == (2 * 1 * 32, 50)
    assert shapes_of("timbre_185k")["front_end/parts_1/conv2_block/kernel"] == (8, 92, 32)
    assert shapes_of("timbre_185k")["head/dense1_layer/kernel"] == (45 * 32, 100)


def test_width_scales_all_layers_but_the_output():
    """Oracle: widths by hand, half the published ones; and n = 1 builds."""
    half = shapes_of("musicnn", 32, num_classes=7)
    assert half["front_end/timbral_7x38_block/kernel"][-1] == 102
    assert half["front_end/temporal_64_block/kernel"][-1] == 26  # half of 51, up
    assert half["head/dense1_layer/kernel"][-1] == 100
    assert half["head/output/kernel"] == (100, 7)
    for name in NAMES:
        assert shapes_of(name, 1)["head/output/bias"] == (50,)


def test_lengths():
    """Oracle: ARCHITECTURES 6.6: a flattened map ties a network to 187 frames, pooling over time does not."""
    for name in NAMES:
        model = zoo.build(name, 1)
        assert model.num_steps == 187
        assert model.fixed == (not name.startswith("musicnn")) == (not model.is_variable)
    with pytest.raises(ValueError, match="this network takes 187"):
        zoo.build("vgg_32", 1).embed(jnp.zeros((1, 100, 96)))


# ── parts and outputs ──


def test_front_end_composes():
    """Oracle: shapes; musicnn's front-end before another back-end."""
    head = Head(3)
    model = Network(preset("musicnn").representation, companions.musicnn_shapes(4, 2), backends.ExtraLayers(4), head)
    init = functools.partial(model.init, method="embed")
    variables = jax.eval_shape(init, KEY, jnp.zeros((1, 40, 96)))
    assert variables["params"]["back_end"]["conv_extra1"]["kernel"].shape == (7, 14, 4)


def test_front_end_refuses_few_bands():
    """Oracle: the message."""
    with pytest.raises(ValueError, match="at least 67 bands and got 40"):
        companions.musicnn_shapes(1, 1).init(KEY, jnp.zeros((1, 40, 40)))


@pytest.mark.parametrize("case", CASES)
def test_against_frozen_torch(case):
    """Oracle: torch, frozen by parity.py."""
    name, n, options = CASES[case]
    parity.assert_same(zoo.build(name, n, **options), *parity.load("companions", case))


def test_against_live_torch():
    """Oracle: torch, live."""
    for case, values in parity.live("companions").items():
        name, n, options = CASES[case]
        parity.assert_same(zoo.build(name, n, **options), *values)


def test_padding_is_invisible():
    """Identity: a padded row gives what the row alone gives, through front-end, middle and pooling."""
    x = jax.random.uniform(KEY, (1, 30, 96))
    padded = jnp.concatenate([jnp.pad(x, ((0, 0), (0, 9), (0, 0)), constant_values=3.0), jnp.ones((1, 39, 96))])
    for case in ("musicnn", "musicnn_attention"):
        name, n, _ = CASES[case]
        _, variables, _ = parity.load("companions", case)
        embed = jax.jit(functools.partial(zoo.build(name, n).apply, method="embed"))
        alone = embed(variables, x)["logits"][0]
        beside = embed(variables, padded, steps=jnp.array([30, 39]))["logits"][0]
        assert np.abs(alone - beside).max() <= 1e-5 * np.abs(alone).max(), name


def test_loss_falls():
    """Learning: musicnn on eight recordings."""
    source = dataset.open_source("rhythm_small")
    labels = sorted(set(source.labels))
    rows = range(0, len(source), 9)
    clips = np.stack([audio.decode(source.encoded(i), sample_rate=16_000)[:9000] for i in rows])
    targets = jnp.array([labels.index(source.labels[i]) for i in rows])
    model = zoo.build("musicnn", 3, num_classes=len(labels))
    x = model.representation(jnp.asarray(clips))
    variables = features.initialise(model, KEY)
    optimiser = optax.adam(1e-2)

    def loss(params, stats, key):
        outputs, new = model.apply(
            {"params": params, "batch_stats": stats},
            x,
            train=True,
            method="embed",
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        entropy = optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], targets)
        return entropy.mean(), new["batch_stats"]

    @jax.jit
    def update(params, stats, state, key):
        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params, stats, key)
        change, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, change), stats, state, value

    params, stats, values = variables["params"], variables["batch_stats"], []
    state = optimiser.init(params)
    for key in jax.random.split(KEY, 14):
        params, stats, state, value = update(params, stats, state, key)
        values.append(float(value))
    assert np.mean(values[-3:]) < 0.8 * np.mean(values[:3])

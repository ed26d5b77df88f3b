"""Timbre filters and their baselines: sizes and options against ARCHITECTURES, outputs against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity
import pytest

from mirjax.models import counts, timbre_filters, zoo
from mirjax.models.timbre_filters import ReshapedAxes
from mirjax.signal.presets import preset


def _shapes(model):
    return jax.tree.map(jnp.shape, counts.variable_shapes(model)["params"])


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("phonemes", 4_480),
        ("phonemes_small_rectangular", 60),
        ("phonemes_mlp_dan", 400),
        ("irmas_single", 1_792),
        ("irmas_multi", 128),
        ("han", 256),
        ("mtt_timbre", 9 * 32),
        ("mtt_timbre/x2", 9 * 64),
        ("mtt_timbre/x4", 9 * 128),
        ("mtt_dieleman", 9 * 32),
        ("mtt_small_rectangular", 448),
        ("mtt_choi", 2048),
        ("mtt_choi/fcn4", 2048),
    ],
)
def test_flattened_sizes(name, size):
    """Oracle: ARCHITECTURES sections 4 and 12."""
    head = _shapes(zoo.build(name))["head"]
    first = head.get("dense1_layer", head["output"])
    assert first["kernel"][0] == size


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("mtt_dieleman", {"conv1": 45, "conv2": 9}),
        ("mtt_timbre", {"shape_1x100": 46, "shape_7x25": 46, "conv1": 9}),
        ("mtt_small_rectangular", {"conv1": 46, "conv5": 7}),
        ("irmas_multi", {"shape_5x80": 4, "conv1": 2, "conv2": 1}),
        ("han", {"conv1": 45, "conv2": 15, "conv4": 6, "conv6": 3, "conv8": 7}),
    ],
)
def test_step_sizes(name, steps):
    """Oracle: ARCHITECTURES section 4; for Han et al. 43 + 2 · 2 frames a pair of layers, and a third of it after."""
    model = zoo.build(name)
    maps = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, method="embed", mutable=True)["maps"], counts.input_spec(model)
    )
    found = {path[-1].key: leaf.shape[1] for path, leaf in jax.tree_util.tree_leaves_with_path(maps)}
    assert {layer: found[layer] for layer in steps} == steps


def test_reshaped_axes_hold_whole_channels():
    """Oracle: ARCHITECTURES section 12: row r of the 46-row map equals channels 2 r and 2 r + 1."""
    x = np.random.default_rng(0).normal(size=(2, 46, 92)).astype(np.float32)
    found = np.asarray(ReshapedAxes().apply({}, x))
    for r in range(46):
        np.testing.assert_array_equal(found[:, r, :46], x[:, :, 2 * r])
        np.testing.assert_array_equal(found[:, r, 46:], x[:, :, 2 * r + 1])


def test_legacy_reshape_changes_the_outputs_only():
    """Oracle: ARCHITECTURES section 4.3: parameter counts and shapes are unaffected."""
    models = [timbre_filters.mtt_timbre(legacy_reshape=flag) for flag in (False, True)]
    for convention in counts.CONVENTIONS:
        assert counts.count(models[0], convention) == counts.count(models[1], convention)


@pytest.mark.parametrize("make", [timbre_filters.irmas_single, timbre_filters.irmas_multi])
def test_legacy_power(make):
    """Oracle: ARCHITECTURES section 11, row 12."""
    assert make().representation == preset("irmas").representation
    assert make(legacy_power=True).representation == preset("irmas_legacy").representation


def test_inputs():
    """Oracle: ARCHITECTURES sections 4.2 and 4.3: one second of 43 frames × 128 mel; 187 × 96 for the FCN."""
    han, choi = timbre_filters.han(), timbre_filters.mtt_choi()
    assert (han.representation.num_bins, int(han.representation.frame_rate)) == (128, 43)
    assert (choi.representation.num_bins, choi.num_steps) == (96, 187)
    with pytest.raises(ValueError, match="num_layers=3"):
        timbre_filters.mtt_choi(num_layers=3)


@pytest.mark.parametrize(
    ("make", "n", "filters"),
    [
        ("phonemes", 1, [32, 32, 16, 16, 8, 8]),
        ("phonemes_small_rectangular", 5, [5, 7, 7, 7, 5]),
        ("irmas_single", 2, [8, 8, 4, 4, 2, 2]),
        ("han", 1, [1, 1, 2, 2, 4, 4, 8, 8]),
        ("mtt_dieleman", 1, [1, 1]),
        ("mtt_small_rectangular", 1, [1, 1, 2, 1, 1]),
        ("mtt_choi", 1, [1, 2, 4, 8, 16]),
    ],
)
def test_widths_scale_and_outputs_do_not(make, n, filters):
    """Oracle: ARCHITECTURES section 4, widths in proportion (halves up, at least 1), num_classes never."""
    shapes = _shapes(getattr(timbre_filters, make)(n, num_classes=7))
    found = [block["kernel"][-1] for block in shapes["front_end"].values()]
    assert sorted(found) == sorted(filters)
    assert shapes["head"]["output"]["bias"] == (7,)


MODELS = {
    "phonemes": timbre_filters.phonemes(1, num_classes=3),
    "irmas_multi": timbre_filters.irmas_multi(1),
    "han": timbre_filters.han(1),
    "mtt_timbre": timbre_filters.mtt_timbre(num_classes=3),
    "mtt_timbre_legacy": timbre_filters.mtt_timbre(num_classes=3, legacy_reshape=True),
    "mtt_small_rectangular": timbre_filters.mtt_small_rectangular(4),
}


@pytest.mark.parametrize("case", MODELS)
def test_same_as_torch(case):
    """Oracle: torch, frozen (torch_timbre_filters.py)."""
    parity.assert_same(MODELS[case], *parity.load("timbre_filters", case))


def test_same_as_torch_live():
    """Oracle: torch, live."""
    for case, made in parity.live("timbre_filters").items():
        parity.assert_same(MODELS[case], *made)


@pytest.mark.parametrize(("case", "steps"), [("phonemes", 13), ("han", 30)])
def test_padding_is_invisible(case, steps):
    """Oracle: the same clip alone."""
    x, variables, _ = parity.load("timbre_filters", case)
    model = MODELS[case]
    padded = model.apply(variables, x, steps=jnp.array([steps, x.shape[1]]), method="embed")
    alone = model.apply(variables, x[:1, :steps], method="embed")
    np.testing.assert_allclose(padded["logits"][0], alone["logits"][0], rtol=0, atol=1e-5)


def test_loss_falls():
    """Oracle: gradient steps lower the loss on real clips."""
    from mirjax.data import audio, dataset

    source = dataset.open_source("rhythm_small")
    chosen = range(0, 72, 6)
    model = timbre_filters.phonemes(1)
    rate = model.representation.sample_rate
    clips = np.stack([audio.decode(source.encoded(i), sample_rate=rate)[:rate] for i in chosen])
    x = model.representation(clips)[:, 40:61]
    x = (x - x.mean()) / x.std()
    labels = np.unique([source.labels[i] for i in chosen], return_inverse=True)[1]
    params = model.init(jax.random.key(0), x, method="embed")["params"]
    optimiser = optax.adam(1e-3)

    @jax.jit
    def step(params, state, key):
        def loss(params):
            found = model.apply({"params": params}, x, train=True, method="embed", rngs={"dropout": key})
            return optax.softmax_cross_entropy_with_integer_labels(found["logits"], labels).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimiser.init(params), []
    for key in jax.random.split(jax.random.key(1), 15):
        params, state, value = step(params, state, key)
        losses.append(float(value))
    assert np.mean(losses[-3:]) < 0.9 * losses[0]

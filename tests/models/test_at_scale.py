"""The front-ends at scale and the back-end they share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity
import pytest
from jax import lax

from mirjax import features
from mirjax.data import audio, dataset
from mirjax.models import at_scale, backends, blocks, counts, frontends, taggers, zoo
from mirjax.models.at_scale import HorizontalShapes, SharedBackEnd, SqueezeExcitation
from mirjax.models.frontends import FilterShapes
from mirjax.signal.representations import LogMel, Waveform

KEY = jax.random.key(0)
CASES = {
    "waveform": ("at_scale_waveform", 2, {"squeeze_excitation": True, "ratio": 2}),
    "spectrogram": ("at_scale_spectrogram", 1, {}),
    "spectrogram_legacy": ("at_scale_spectrogram", 1, {"legacy_batchnorm": True}),
    "sample_cnn": ("sample_cnn", 2, {}),
    "timbre": ("timbre_220k", 2, {}),
}


def map_shapes(model, steps):
    """{name: (steps, channels)} of all maps, from shapes alone."""

    def run(x):
        return model.init_with_output(KEY, x, method="embed", mutable=["params", "batch_stats", "maps"])[1]["maps"]

    tree = jax.eval_shape(run, counts.input_spec(model, steps))
    return {path[-1].key: leaf.shape[1:] for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def steps_of(model, steps):
    shapes = map_shapes(model, steps)
    return [shapes[name][0] for name in model.feature_layers]


def drawn(part, x):
    """Random variables of a part, running averages, scales and shifts away from 0 and 1; without running it."""
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda x: part.init(KEY, x), x)
    return jax.tree.map(lambda leaf: random.uniform(0.2, 1.2, leaf.shape).astype(np.float32), shapes)


# ── counts and steps ──


@pytest.mark.parametrize(
    ("variant", "published", "default"),
    [("back_64_200", 222_878, 223_130), ("back_128_200", 524_766, 525_274)],
)
def test_the_published_counts_hold_with_the_legacy_normalisation_only(variant, published, default):
    """Oracle: ARCHITECTURES section 1.2, the rows that only the quirk explains, and the default's integers."""
    name = f"at_scale_spectrogram/front_half_{variant}"
    assert counts.count(zoo.build(name, legacy_batchnorm=True)) == published
    assert counts.count(zoo.build(name)) == default


def test_the_table_has_all_rows_of_the_study():
    """Oracle: ARCHITECTURES section 1.2, 14 rows a signal; the rule of section 6.3 for the default's integer."""
    for name, entry in zoo.ARCHITECTURES.items():
        if name.startswith("at_scale_"):
            assert len(entry.counts) == 14
            for count in entry.counts:
                filters = count.options.get("filters", 512)
                assert count.trainable == count.reproduced + 2 * 2 * (filters - 1)
                million = not count.published.endswith("k")
                unit, digits = (1_000_000, "M") if million else (1_000, "k")
                decimals = len(count.published.rstrip(digits).partition(".")[2])
                shortened = int(count.reproduced / unit * 10**decimals) / 10**decimals
                assert shortened == float(count.published.rstrip(digits))


@pytest.mark.parametrize(
    ("options", "samples", "expected"),
    [
        ({}, 48_000, [16_000, 5_332, 1_776, 591, 196, 64, 20, 14, 14, 7]),
        ({}, 240_000, [80_000, 26_666, 8_888, 2_962, 986, 328, 108, 102, 102, 51]),
        ({"stacks": 9}, 240_000, [80_000, 26_666, 8_888, 2_962, 986, 328, 108, 35, 11, 5, 5, 2]),
        ({"squeeze_excitation": True}, 48_000, [16_000, 5_332, 1_776, 591, 196, 64, 20, 14, 14, 7]),
        ({"padding": "same"}, 48_000, [16_000, 5_333, 1_777, 592, 197, 65, 21, 15, 15, 7]),
    ],
)
def test_steps_of_the_waveform_network(options, samples, expected):
    """Oracle: ARCHITECTURES sections 6.2 and 6.3; the last row by hand."""
    assert steps_of(at_scale.at_scale_waveform(1, **options), samples) == expected


def test_steps_and_channels_of_the_spectrogram_network():
    """Oracle: ARCHITECTURES sections 6.2 and 6.3: 29 n channels, 187 → 181 → 90 steps, 2 F at the end."""
    shapes = map_shapes(at_scale.at_scale_spectrogram(16), 187)
    channels = {name: shape[1] for name, shape in shapes.items() if name.startswith(("timbral", "temporal"))}
    assert sum(channels.values()) == 464
    assert channels["timbral_1x38"] == 64 and channels["temporal_165"] == 16 and channels["temporal_32"] == 128
    assert [shapes[f"shared{i}"] for i in (1, 2, 3)] == [(181, 512), (181, 512), (90, 512)]
    model = at_scale.at_scale_spectrogram(16)
    spec = counts.input_spec(model)
    assert spec.shape == (1, 187, 96)
    result = jax.eval_shape(lambda x: model.init_with_output(KEY, x, method="embed")[0], spec)
    assert result["embedding"].shape == (1, 500) and result["logits"].shape == (1, 50)


def test_n_scales_the_whole_network_and_front_its_front_end():
    """Oracle: ARCHITECTURES section 6.2: waveform filters × {4, 2, 1, ½, ¼}, spectrogram n = {2, 4, 8, 16, 32}."""
    whole = map_shapes(at_scale.at_scale_waveform(128), 48_000)
    assert [whole[name][-1] for name in ("conv1", "pool4", "pool7", "shared1", "dense1")] == [128, 256, 512, 1024, 1000]
    front = map_shapes(at_scale.at_scale_waveform(64, front=0.25), 48_000)
    assert [front[name][-1] for name in ("conv1", "pool4", "pool7", "shared1", "dense1")] == [16, 32, 64, 512, 500]
    eighth = map_shapes(at_scale.at_scale_spectrogram(16, front=0.125, filters=64, units=200), 187)
    assert [eighth[name][-1] for name in ("timbral_7x86", "temporal_32", "shared3", "dense1")] == [2, 16, 64, 200]
    assert map_shapes(at_scale.at_scale_waveform(1), 48_000)["conv1"] == (16_000, 1)


# ── identities ──


def test_front_end_is_plain_convolution_at_initial_statistics():
    """Identity: with averages 0 and 1, ReLU of lax convolutions written out, over √(1 + ε)."""
    timbral = ((7, 86, 2), (3, 86, 3), (1, 38, 4), (7, 96, 2))
    temporal = ((165, 2), (32, 3), (9, 1))
    part = frontends.Parallel((FilterShapes(timbral, input_norm=None), HorizontalShapes(temporal)))
    x = jax.random.normal(KEY, (2, 30, 96))
    variables = part.lazy_init(KEY, jax.ShapeDtypeStruct(x.shape, x.dtype), mutable=["params", "batch_stats"])
    maps, params = jax.jit(part.apply)(variables, x), variables["params"]
    expected = []
    for frames, bands, _ in timbral:
        weights = params["branches_0"][f"timbral_{frames}x{bands}_block"]
        padded = jnp.pad(x, ((0, 0), ((frames - 1) // 2, frames // 2), (0, 0)))[..., None]
        conv = lax.conv_general_dilated(
            padded, weights["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
        )
        expected.append(jnp.maximum(conv, 0).max(axis=2))
    for frames, _ in temporal:
        weights = params["branches_1"][f"temporal_{frames}_block"]
        conv = lax.conv_general_dilated(
            x.mean(axis=2)[..., None],
            weights["kernel"],
            (1,),
            [((frames - 1) // 2, frames // 2)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            precision="highest",
        )
        expected.append(jnp.maximum(conv, 0))
    expected = jnp.concatenate(expected, axis=-1) / np.sqrt(1 + 1e-3)
    assert maps.shape == (2, 30, 17)
    assert jnp.abs(maps - expected).max() <= 1e-5 * jnp.abs(expected).max()


def test_legacy_normalisation_averages_over_the_whole_map():
    """Identity: one training step's running averages, from lax: one number for batch, time and channels."""
    x = jax.random.normal(KEY, (3, 12, 5))
    for legacy in (True, False):
        part = SharedBackEnd(4, legacy_batchnorm=legacy)
        variables = part.lazy_init(KEY, jax.ShapeDtypeStruct(x.shape, x.dtype), mutable=["params", "batch_stats"])
        train = functools.partial(part.apply, train=True, mutable=["batch_stats", "maps"])
        _, state = jax.jit(train)(variables, x)
        kernel = variables["params"]["shared2_block"]["kernel"]
        y = lax.conv_general_dilated(
            state["maps"]["shared1"], kernel, (1,), [(3, 3)], dimension_numbers=("NWC", "WIO", "NWC")
        )
        y = jnp.maximum(y, 0)
        mean = y.mean() if legacy else y.mean(axis=(0, 1))
        found = state["batch_stats"]["shared2_block"]["batch_norm"]["mean"]
        assert found.shape == ((1,) if legacy else (4,))
        np.testing.assert_allclose(found, 0.01 * jnp.atleast_1d(mean), rtol=1e-4)
        assert state["batch_stats"]["shared1_block"]["batch_norm"]["mean"].shape == (4,)


def test_gates_are_between_nothing_and_the_map():
    """Hand-worked: without weights every gate is σ(0) = ½, whatever the padding."""
    part = SqueezeExcitation("gated", 2)
    x = jax.random.normal(KEY, (2, 6, 3))
    variables = jax.tree.map(np.zeros_like, drawn(part, x))
    np.testing.assert_allclose(part.apply(variables, x, steps=jnp.array([6, 2])), x / 2, rtol=1e-6)


@pytest.mark.parametrize("legacy", [False, True])
def test_padding_is_invisible(legacy):
    """Identity: a padded map gives what it gives alone, behind gates and the shared back-end."""
    part = blocks.Chain((SqueezeExcitation("gated", 2), SharedBackEnd(4, legacy_batchnorm=legacy)))
    x = np.random.default_rng(1).normal(size=(2, 14, 3)).astype(np.float32)
    variables = drawn(part, x)
    together = jax.jit(part.apply)(variables, x, steps=jnp.array([14, 9]))
    for i, count in enumerate((14, 9)):
        alone = jax.jit(part.apply)(variables, x[i : i + 1, :count])
        assert jnp.abs(together[i] - alone[0]).max() <= 1e-5 * jnp.abs(alone).max()


# ── parts compose, bad input ──


def test_parts_compose_with_others():
    """Hand-worked shapes: any front-end with the shared back-end, these front-ends with another one."""
    vgg = taggers.Network(LogMel(), frontends.VGG(2), SharedBackEnd(3))
    spec = jax.ShapeDtypeStruct((1, 1376 * 9, 96), jnp.float32)
    assert jax.eval_shape(lambda x: vgg.init_with_output(KEY, x, method="embed")[0], spec)["embedding"].shape == (1, 6)
    bands = jax.ShapeDtypeStruct((1, 9, 5, 2), jnp.float32)
    assert jax.eval_shape(lambda x: SharedBackEnd(3).init_with_output(KEY, x)[0], bands).shape == (1, 6)
    stack = at_scale.sample_stack(
        (blocks.Conv(2, (3,), (3,), padding="valid"), blocks.Conv(4, (3,), pool=(3,))), ratio=1
    )
    network = taggers.Network(Waveform(), stack, backends.GlobalPool(("mean",)), blocks.Head(7))
    result = jax.eval_shape(lambda x: network.init_with_output(KEY, x)[0], jax.ShapeDtypeStruct((1, 90), jnp.float32))
    assert result["embedding"].shape == (1, 4) and result["logits"].shape == (1, 7)
    assert network.feature_layers == ("conv1", "gated2")


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        ("at_scale_waveform", {"stacks": 8}, "stacks=8 must be 7 or 9"),
        ("at_scale_waveform", {"padding": "reflect"}, "padding='reflect' must be valid or same"),
        ("at_scale_waveform", {"front": 0}, "front=0 must be a positive number"),
        ("at_scale_spectrogram", {"front": "half"}, "front='half' must be a positive number"),
        ("at_scale_spectrogram", {"front": True}, "front=True must be a positive number"),
    ],
)
def test_bad_options_are_refused_by_name(make, options, message):
    """Hand-worked: what the message must say."""
    with pytest.raises(ValueError, match=message):
        getattr(at_scale, make)(4, **options)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (at_scale.at_scale_waveform(1), (1, 19_000), "at least 19680 samples and got 19000: "),
        (at_scale.at_scale_waveform(1, stacks=9), (1, 48_000), "at least 177144 samples"),
        (at_scale.at_scale_spectrogram(1), (1, 7, 96), "at least 8 frames and got 7: the pooling after shared2"),
        (at_scale.at_scale_spectrogram(1), (1, 20, 80), "this network takes"),
        (at_scale.at_scale_waveform(1, squeeze_excitation=True, ratio=0), (1, 48_000), None),
        (at_scale.at_scale_waveform(1, squeeze_excitation=True, ratio=-1), (1, 48_000), "ratio=-1"),
    ],
)
def test_bad_input_is_refused_by_name(model, shape, message):
    """Hand-worked: 8 steps before the back-end, (3 s + 2) backwards through each stack, 3 samples a step."""
    spec = jax.ShapeDtypeStruct(shape, jnp.float32)
    if message is None:  # a ratio of 0 leaves the gates out
        assert jax.eval_shape(lambda x: model.init(KEY, x, method="embed"), spec)
        return
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda x: model.init(KEY, x, method="embed"), spec)


def test_too_few_bands_for_a_filter():
    """Hand-worked: a filter of 86 bands on 40."""
    with pytest.raises(ValueError, match="86 bands and got 40"):
        jax.eval_shape(
            lambda x: FilterShapes(((1, 86, 2),), input_norm=None).init(KEY, x),
            jax.ShapeDtypeStruct((1, 9, 40), jnp.float32),
        )


# ── parity and learning ──


@pytest.mark.parametrize("case", CASES)
def test_same_as_torch_when_frozen(case):
    """Oracle: torch, `torch_at_scale.py`, frozen."""
    name, n, options = CASES[case]
    parity.assert_same(zoo.build(name, n, **options), *parity.load("at_scale", case))


@pytest.mark.parametrize("case", CASES)
def test_same_as_torch_now(case):
    """Oracle: torch, live."""
    name, n, options = CASES[case]
    parity.assert_same(zoo.build(name, n, **options), *parity.live("at_scale")[case])


def test_loss_falls():
    """Oracle: the loss before training, on two classes of real recordings, the same units dropped at every step."""
    source = dataset.open_source("rhythm_small")
    examples = [source[i] for i in range(len(source))]
    classes = sorted({example.label for example in examples})[:2]
    chosen = [example for example in examples if example.label in classes]
    model = at_scale.at_scale_waveform(2, num_classes=2)
    clips = np.stack([audio.decode(example.encoded, sample_rate=16_000)[:20_000] for example in chosen])
    x = jnp.asarray(clips)
    y = jnp.array([classes.index(example.label) for example in chosen])
    variables = features.initialise(model, KEY)
    optimiser = optax.adam(0.003)

    def loss(params, state):
        apply = functools.partial(model.apply, train=True, method="embed", mutable=["batch_stats"])
        outputs, state = apply({"params": params, **state}, x, rngs={"dropout": KEY})
        return optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], y).mean(), state

    @jax.jit
    def step(params, state, memory):
        (value, state), gradients = jax.value_and_grad(loss, has_aux=True)(params, state)
        updates, memory = optimiser.update(gradients, memory)
        return optax.apply_updates(params, updates), state, memory, value

    params, state = variables["params"], {"batch_stats": variables["batch_stats"]}
    memory, losses = optimiser.init(params), []
    for _ in range(12):
        params, state, memory, value = step(params, state, memory)
        losses.append(float(value))
    assert losses[-1] < 0.6 * losses[0]

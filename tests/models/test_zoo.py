"""The ten networks against the published counts and the golden vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from mirjax import features
from mirjax.models import zoo

# ARCHITECTURES table 1.6: (name, n, features, parameters).
COUNTS = [
    ("vgg", 32, 160, 37_312),
    ("vgg", 717, 3585, 18_517_242),
    ("7x96", 160, 160, 107_680),
    ("7x96", 3585, 3585, 2_412_705),
    ("7x86", 160, 160, 96_480),
    ("7x86", 3585, 3585, 2_161_755),
    ("timbral", 8, 112, 16_976),
    ("timbral", 256, 3584, 543_232),
    ("temporal", 8, 112, 6_798),
    ("temporal", 256, 3584, 217_536),
    ("timbral_temporal", 4, 112, 8_488 + 3_399),
    ("timbral_temporal", 128, 3584, 271_616 + 108_768),
    ("timbral_time", 4, 112, 8_488 + 960),
    ("timbral_time", 128, 3584, 271_616 + 30_720),
    ("sample", 23, 161, 9_752),
    ("sample", 512, 3584, 4_723_712),
    ("frame", 40, 160, 54_240),
    ("frame", 896, 3584, 17_321_472),
    ("frame_many", 20, 160, 39_600),
    ("frame_many", 448, 3584, 10_282_496),
]


@pytest.mark.parametrize(("name", "n", "length", "parameters"), COUNTS)
def test_lengths_and_parameter_counts(name, n, length, parameters):
    """Oracle: ARCHITECTURES table 1.6."""
    width = 120 if n < 200 and length < 200 else 3500
    assert zoo.num_filters(name, width) == n
    model = zoo.build(name, n)
    assert features.num_features(model) == length
    assert features.num_parameters(model) == parameters
    assert len(features.feature_names(model)) == len(set(features.feature_names(model))) == length


@pytest.mark.parametrize("name", zoo.STUDY)
def test_golden_features(name, golden_inputs, golden_network):
    """Oracle: the golden vectors (librosa and torch), from the waveform on."""
    n, variables, expected, legacy = golden_network(name)
    audio = golden_inputs["wave12k"][None]
    for collapse, wanted in ((False, expected), (True, legacy)):
        if wanted is None:
            continue
        model = zoo.build(name, n, **({"legacy_collapse": True} if collapse else {}))
        shapes = jax.tree.map(np.shape, features.initialise(model, jax.random.key(0)))
        assert jax.tree.map(np.shape, variables) == shapes
        values = features.extract(model, variables, audio)[0]
        assert np.abs(values - wanted).max() / np.abs(wanted).max() <= 1e-5


def test_multiply_adds_by_hand():
    """Oracle: hand-worked counts for one 350,000-sample clip, 1,368 log-mel frames."""
    frames = 1368
    by_hand = {
        ("7x96", 160): (frames - 6) * 7 * 96 * 160,
        ("7x86", 160): (frames - 6) * 11 * 7 * 86 * 160,
        ("temporal", 8): frames * (165 * 6 + 128 * 14 + 64 * 30 + 32 * 62),
        # 1,376 × 96 positions shrink by 4×2, 4×3, 5×2, 4×2; the input has one channel.
        ("vgg", 32): 9 * 32 * (1376 * 96 + 32 * (344 * 48 + 86 * 16 + 17 * 8 + 4 * 4)),
    }
    for (name, n), multiply_adds in by_hand.items():
        assert features.gigaflops(zoo.build(name, n)) == pytest.approx(2e-9 * multiply_adds, rel=1e-12)


def test_initial_weights_are_he_truncated():
    """Oracle: scipy's truncated normal at ±2, rescaled to variance 2 / fan-in; biases 0 (ARCHITECTURES §5.1)."""
    from scipy import stats

    variables = features.initialise(zoo.build("7x96", 512), jax.random.key(7))
    weights = variables["params"]["front_end"]["conv"]
    kernel = np.asarray(weights["kernel"]).ravel()
    std = np.sqrt(2 / (7 * 96))
    limit = 2 * std / stats.truncnorm(-2, 2).std()
    assert np.abs(kernel).max() <= limit * (1 + 1e-6)
    assert kernel.std() == pytest.approx(std, rel=0.01)
    assert stats.kstest(kernel[:20_000] / limit * 2, stats.truncnorm(-2, 2).cdf).pvalue > 1e-3
    assert not np.asarray(weights["bias"]).any()


@pytest.mark.parametrize(("name", "n"), [("7x86", 5), ("7x86", 40), ("timbral", 3), ("sample", 5), ("sample", 70)])
def test_fast_forms_equal_plain_convolutions(name, n):
    """Oracle: lax.conv_general_dilated written literally, with biases that are not zero."""
    model = zoo.build(name, n)
    variables = features.initialise(model, jax.random.key(1))
    variables = jax.tree.map(
        lambda leaf: leaf if leaf.ndim > 1 else jax.random.normal(jax.random.key(2), leaf.shape), variables
    )
    parameters = variables["params"]["front_end"]
    keys = jax.random.split(jax.random.key(3))
    if name == "sample":
        x = jax.random.normal(keys[0], (2, 9_001))
        maps, y = {}, x[..., None]
        for i in range(1, 8):
            weights = parameters[f"stack{i}"]
            stride, padding = (3, "VALID") if i == 1 else (1, "SAME")
            y = lax.conv_general_dilated(
                y, weights["kernel"], (stride,), padding, dimension_numbers=("NWC", "WIO", "NWC")
            )
            y = nn.relu(y + weights["bias"][None, None])
            y = y if i == 1 else nn.max_pool(y, (3,), (3,))
            maps["conv1" if i == 1 else f"pool{i}"] = y
    else:
        x = 10 * jax.random.normal(keys[0], (2, 50, 96))
        maps = {}
        for layer, weights in parameters.items():
            padding = "VALID" if name == "7x86" else ((weights["kernel"].shape[0] // 2,) * 2, (0, 0))
            y = lax.conv_general_dilated(
                x[..., None], weights["kernel"], (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            y = nn.relu(y + weights["bias"][None, None, None]).max(axis=2)
            maps["pool" if name == "7x86" else layer.removeprefix("conv_")] = y
    _, state = model.apply(variables, x, method="embed", mutable=["maps", "features"])
    _, lean = model.apply(variables, x, method="embed", mutable=["features"])
    for layer in model.feature_layers:
        scale = float(jnp.abs(maps[layer]).max())
        assert float(jnp.abs(state["maps"]["front_end"][layer] - maps[layer]).max()) <= 2e-6 * scale
        mean = maps[layer].mean(axis=1)
        for found in (state, lean):
            assert float(jnp.abs(found["features"]["front_end"][layer] - mean).max()) <= 2e-6 * scale


@pytest.mark.parametrize("name", zoo.STUDY)
def test_contract_of_every_network(name):
    """Oracle: DESIGN §7 (contract tests): finite, row i independent of the others, two lengths, jit = eager."""
    model = zoo.build(name, 4)
    variables = features.initialise(model, jax.random.key(0))
    rng = np.random.default_rng(0)
    for length in (20_000, 30_001):
        audio = jnp.asarray(rng.normal(size=(3, length)).astype(np.float32))
        x = model.representation(audio)

        def run(x):
            return features.layer_means(model, variables, x)

        together, alone = jax.jit(run)(x), run(x[1:2])
        for layer in model.feature_layers:
            assert np.isfinite(np.asarray(together[layer])).all()
            scale = float(jnp.abs(alone[layer]).max())
            assert float(jnp.abs(together[layer][1] - alone[layer][0]).max()) <= 1e-5 * scale


@pytest.mark.parametrize(
    ("name", "samples", "unit"), [("7x96", 1_000, "frames"), ("sample", 2_000, "samples"), ("frame", 700, "samples")]
)
def test_clips_too_short_are_named(name, samples, unit):
    """Oracle: hand-worked smallest inputs: 7 frames, 3⁷ samples, 736 samples."""
    model = zoo.build(name, 4)
    with pytest.raises(ValueError, match=f"{unit} and got .*raise `seconds`"):
        features.extract(model, features.initialise(model, jax.random.key(0)), np.zeros((1, samples)))


def test_unknown_names_list_the_nearest():
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match="timbral_temporal"):
        zoo.build("timbral_tempral", 4)
    with pytest.raises(ValueError, match="width=500"):
        zoo.num_filters("vgg", 500)
    with pytest.raises(ValueError, match="no widths of variants; give n= for black_box/long"):
        zoo.num_filters("black_box/long", 120)
    with pytest.raises(ValueError, match="n=0"):
        zoo.build("vgg", 0)


def test_embedding_of_legacy_collapse_has_the_documented_gaps():
    """Oracle: ARCHITECTURES §5.2: 43 informative values of 160 (frame), 103 of 160 (many shapes)."""
    rng = np.random.default_rng(0)
    for name, n, informative in (("frame", 40, 43), ("frame_many", 20, 103)):
        model = zoo.build(name, n, legacy_collapse=True)
        values = features.random_features(model, jax.random.split(jax.random.key(0), 1), rng.normal(size=(1, 9_000)))
        assert values.shape[-1] == 160
        assert np.count_nonzero(values[0, 0]) == informative


@pytest.mark.parametrize(
    ("name", "target", "n"),
    [
        ("vgg", {"num_features": 122}, 24),  # 5 n: 120 is nearer than 125
        ("vgg", {"num_features": 125}, 25),
        ("timbral", {"num_features": 119}, 8),  # 14 n: 112 and 126 tie
        ("timbral", {"num_features": 120}, 9),
        ("7x96", {"num_features": 3585}, 3585),
        ("vgg", {"num_parameters": 37_312}, 32),  # 36 n² + 14 n … at 32: table 1.6
        ("7x86", {"num_parameters": 96_480}, 160),
        ("vgg", {"num_features": 3}, 1),  # 5 is nearer than nothing
    ],
)
def test_match_by_hand(name, target, n):
    """Hand-worked: the closed forms of ARCHITECTURES table 1.6 (5 n, 14 n, n; counts)."""
    assert zoo.match(name, **target) == n


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_features": 2}, "num_features=2 cannot be matched by vgg: at n=1 it has 5, the least"),
        ({"num_features": 60_000}, "at n=10000 it has 50000, the most"),
        ({"num_features": 0}, "num_features=0 must be a whole number"),
        ({"num_features": 120.5}, "must be a whole number"),
        ({"num_features": 5, "num_parameters": 5}, "one target"),
        ({}, "one target"),
    ],
)
def test_match_refuses(settings, message):
    """Oracle: the errors the docstring promises."""
    with pytest.raises(ValueError, match=message):
        zoo.match("vgg", **settings)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("musicn", {}, "architectures='musicn' is not known; nearest: musicnn"),
        ("black_box/short", {}, "no such variant; known: black_box/long"),
        ("vgg/x2", {}, "vgg has none"),
        ("vgg", {"n": 0}, "n=0 for vgg must be a whole number"),
        ("vgg", {"n": 2.5}, "n=2.5"),
        ("vgg", {"n": True}, "n=True"),
        ("musicnn", {"num_clases": 10}, "num_clases is no option of musicnn; known: num_classes"),
        ("musicnn", {"num_classes": 0}, "num_classes=0 for musicnn must be a whole number, at least 1"),
        ("musicnn", {"legacy_residual": 1}, "legacy_residual=1 for musicnn must be True or False"),
        ("beat_blstm", {"peephole": False}, "peephole is no option of beat_blstm; known: peepholes"),
        ("at_scale_waveform", {"filters": 0}, "filters=0"),
        ("at_scale_waveform", {"units": 1.5}, "units=1.5"),
        ("at_scale_waveform", {"front": -1}, "front=-1"),
        ("dieleman_waveform", {"stride": 0}, "stride=0"),
        ("patch_transformer", {"dropout": 1.0}, "dropout=1.0 for patch_transformer must be a rate"),
        ("onset_cnn", {"activation": "swish"}, "swish"),
    ],
)
def test_build_refuses(name, options, message):
    """Oracle: the errors the docstring promises."""
    with pytest.raises(ValueError, match=message):
        zoo.build(name, **options)


def test_names_of_groups_and_networks_differ():
    """Oracle: a config's word means one thing: no network is called as a family, `all` or `zoo`."""
    groups = {"all", "zoo", *zoo.families()}
    assert not groups & set(zoo.names())
    assert sorted(sum(zoo.families().values(), ())) == sorted(zoo.names())
    assert zoo.STUDY == zoo.names()[:10]
    assert all("/" not in name and "," not in name and ":" not in name for name in zoo.names())


def test_scaled_by_hand():
    """Hand-worked: halves up, at least 1, the published n gives the published size."""
    assert [zoo.scaled(128, n, 64) for n in (64, 32, 1, 96)] == [128, 64, 2, 192]
    assert zoo.scaled(3, 1, 64) == 1
    assert zoo.scaled(5, 1, 2) == 3  # 2.5
    assert zoo.scaled(51, 10, 64) == 8  # 7.97


def test_an_untrained_network_of_the_study_learns(embedded_clip):
    """Oracle: the loss: ten steps of Adam on real clips with a head on `timbral_time` bring it down by a third."""
    import optax

    from mirjax.models import blocks, taggers

    model = zoo.build("timbral_time", 2)
    model = taggers.Network(model.representation, model.front_end, _Mean(), blocks.Head(6))
    clips = np.stack([np.resize(clip, 6_000) for clip in embedded_clip])
    x, labels = model.representation(jnp.asarray(clips)) / 40, jnp.arange(6)
    params = model.init(jax.random.key(0), x, method="embed")["params"]
    optimiser = optax.adam(3e-2)
    state = optimiser.init(params)

    def loss(params):
        logits = model.apply({"params": params}, x, method="embed")["logits"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    step = jax.jit(jax.value_and_grad(loss))
    first, _ = step(params)
    for _ in range(10):
        _, gradients = step(params)
        updates, state = optimiser.update(gradients, state)
        params = optax.apply_updates(params, updates)
    assert float(step(params)[0]) < 2 / 3 * float(first)


class _Mean(nn.Module):
    """A back-end of the simplest kind, as a user may write one."""

    feature_layers = ()

    def __call__(self, x, *, train=False):
        return x.mean(axis=1)


@pytest.mark.parametrize("name", [name for name in zoo.names() if zoo.lookup(name).same_features])
def test_networks_that_are_one_untrained(name):
    """Oracle: the other network's features, bit for bit, at one seed and width; the group `zoo` holds one of them."""
    other = zoo.lookup(name).same_features
    assert name not in zoo.screened() and other in zoo.screened()
    models = [zoo.build(each, 2) for each in (name, other)]
    audio = np.random.default_rng(0).normal(size=(1, 6_000)).astype(np.float32)
    first, second = (features.random_features(model, jax.random.split(jax.random.key(1), 1), audio) for model in models)
    np.testing.assert_array_equal(first, second)


def test_steps_of_the_study():
    """Oracle: ARCHITECTURES §5.2 and §12: 10,922 and 10,938 frames of 350,000 samples, 38,888 … 160, VGG's maps."""
    spec = {"shape": (1, 350_000), "dtype": jnp.float32}
    steps = {name: _map_sizes(zoo.build(name, 2), jax.ShapeDtypeStruct(**spec)) for name in ("frame", "frame_many")}
    assert steps["frame"]["frame_512"] == (10_922,)
    assert all(steps["frame_many"][f"frame_{length}"] == (10_938,) for length in (512, 256, 128, 64, 32))
    sample = _map_sizes(zoo.build("sample", 2), jax.ShapeDtypeStruct(**spec))
    assert [size for (size,) in sample.values()] == [116_666, 38_888, 12_962, 4_320, 1_440, 480, 160]
    vgg = _map_sizes(zoo.build("vgg", 2), jax.ShapeDtypeStruct((1, 1376, 96), jnp.float32))
    assert list(vgg.values()) == [(344, 48), (86, 16), (17, 8), (4, 4), (1, 1)]


def _map_sizes(model, spec):
    """{layer: positions (T,) or (T, F)} of the maps that make the features."""
    maps = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, method="embed")["maps"], spec)
    found = {path[-1].key: leaf.shape[1:-1] for path, leaf in jax.tree_util.tree_leaves_with_path(maps)}
    return {name: found[name] for name in model.feature_layers}

"""SampleCNN, Dieleman & Schrauwen, reference taggers, and networks on learnt filter banks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirjax.models import blocks, counts, geometry, layers, learnable, waveform_nets, zoo
from mirjax.models.at_scale import SharedBackEnd
from mirjax.signal.representations import Waveform

KEY = jax.random.key(0)


def map_shapes(model, steps):
    """{name: shape without the batch} of all maps, from shapes alone."""

    def run(x):
        return model.init_with_output(KEY, x, method="embed", mutable=["params", "batch_stats", "maps"])[1]["maps"]

    tree = jax.eval_shape(run, counts.input_spec(model, steps))
    return {path[-1].key: leaf.shape[1:] for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def kernel_shape(model, *path):
    node = counts.variable_shapes(model)["params"]
    for part in path:
        node = node[part]
    return node["kernel"].shape


def test_steps_of_sample_cnn():
    """Oracle: ARCHITECTURES section 6.6: 19683, 6561, …, 3, 1; widths as there."""
    shapes = map_shapes(waveform_nets.sample_cnn(128), 59_049)
    names = waveform_nets.sample_cnn(128).feature_layers
    assert [shapes[name][0] for name in names] == [3**k for k in range(9, -1, -1)] + [1]
    assert [shapes[name][1] for name in names] == [128] * 3 + [256] * 6 + [512] * 2


def test_sample_cnn_takes_longer_clips_and_gates():
    """Hand-worked: 3 · 59,049 samples leave three steps, of which the mean is taken; gates add 16 C² · 2 + 17 C."""
    model = waveform_nets.sample_cnn(2)
    assert map_shapes(model, 3 * 59_049)["conv11"] == (3, 8)
    gated = waveform_nets.sample_cnn(2, squeeze_excitation=True)
    more = sum(32 * c * c + 17 * c for c in (2, 2, 4, 4, 4, 4, 4, 4, 8))
    assert counts.count(gated) - counts.count(model) == more
    with pytest.raises(ValueError, match="last_kernel=2 must be 3 or 1"):
        waveform_nets.sample_cnn(2, last_kernel=2)


@pytest.mark.parametrize(
    ("name", "steps", "flat"),
    [
        ("dieleman_waveform", [187, 45, 9], 9 * 32),
        ("dieleman_spectrogram", [45, 9], 9 * 32),
        ("dieleman_waveform_194k", [186, 44, 9], 9 * 64),
        ("dieleman_waveform_194k/frames_256", [187, 45, 9], 9 * 64),
        ("timbre_220k", [187] * 12 + [45], 45 * 32),
    ],
)
def test_flattened_sizes(name, steps, flat):
    """Oracle: ARCHITECTURES sections 4.3 (187 → 180 → 45 → 38 → 9) and 1.2 (194,046; 222,158: 45 · 32 values)."""
    model = zoo.build(name)
    shapes = map_shapes(model, model.num_steps)
    assert [shapes[layer][0] for layer in model.feature_layers] == steps
    assert kernel_shape(model, "head", "dense1_layer") == (flat, 100)
    with pytest.raises(ValueError, match=f"this network takes {model.num_steps}"):
        jax.eval_shape(lambda x: model.init(KEY, x, method="embed"), counts.input_spec(model, model.num_steps + 1))


def test_maps_of_the_reference_vgg():
    """Hand-worked: 1366 frames of 96 bands by the poolings of ARCHITECTURES section 6.6."""
    shapes = map_shapes(waveform_nets.vgg_450k(64), 1366)
    expected = [(341, 48, 64), (85, 24, 128), (21, 12, 128), (4, 4, 128), (1, 1, 64)]
    assert [shapes[f"pool{i}"] for i in range(1, 6)] == expected
    assert map_shapes(waveform_nets.vgg_450k(2), 2560)["pool5"] == (2, 1, 2)


def test_timbre_has_the_companion_codes_shapes():
    """Oracle: ARCHITECTURES section 6.6, filters doubled: 184 channels; 76, 57 and 19 of 96 bands."""
    shapes = map_shapes(waveform_nets.timbre_220k(20), 187)
    channels = {name: shape[1] for name, shape in shapes.items() if name.startswith("timbral")}
    assert sum(channels.values()) == 184
    assert channels["timbral_1x76"] == 20 and channels["timbral_7x57"] == 10 and channels["timbral_3x19"] == 20


# ── learnt filter banks ──


@pytest.mark.parametrize(
    ("part", "shape"),
    [
        (learnable.SincNet(num_filters=2, widths=(3, 2)), (1, 5_000)),
        (learnable.SincNet(num_filters=2, length=51, widths=(), pool=4), (1, 333)),
        (learnable.Leaf(num_filters=2), (1, 1_601)),
        (learnable.LearnableSTFT(n_fft=64), (1, 500)),
        (learnable.LearnableSTFT(n_fft=65, hop_length=7, center=False), (1, 500)),
        (learnable.LearnableMel(16_000, n_fft=64, n_mels=4), (1, 9, 33)),
        (learnable.SPCEN(), (1, 9, 4)),
        (learnable.LogLearn(), (1, 9, 4)),
        (
            blocks.Chain((learnable.LearnableSTFT(n_fft=64), learnable.LearnableMel(8_000, n_fft=64, n_mels=4))),
            (1, 777),
        ),
    ],
)
def test_windows_tell_the_number_of_steps(part, shape):
    """Identity: the steps of the map itself."""
    spec = jax.ShapeDtypeStruct(shape, jnp.float32)
    steps = jax.eval_shape(lambda x: part.init_with_output(KEY, x)[0], spec).shape[1]
    assert geometry.num_steps(part.windows, shape[1]) == steps


def test_shortest_input_of_sincnet():
    """Hand-worked: 1 → 3 → 7 → 21 → 25 → 75 → 325 samples backwards through pooling and kernels."""
    part = learnable.SincNet()
    assert part.least_samples == geometry.shortest(part.windows) == 325
    jax.eval_shape(lambda x: part.init(KEY, x), jax.ShapeDtypeStruct((1, 325), jnp.float32))
    with pytest.raises(ValueError, match="at least 325"):
        jax.eval_shape(lambda x: part.init(KEY, x), jax.ShapeDtypeStruct((1, 324), jnp.float32))


def test_multiply_adds_of_learnt_filters():
    """Hand-worked: positions of each convolution times its kernel's weights, for one clip."""
    spec = jax.ShapeDtypeStruct((2, 16_000), jnp.float32)
    with layers.count_multiply_adds() as sinc:
        jax.eval_shape(lambda x: learnable.SincNet().init(KEY, x), spec)
    assert sinc == [15_750 * 251 * 80, 5_246 * 5 * 80 * 60, 1_744 * 5 * 60 * 60]
    with layers.count_multiply_adds() as leaf:
        jax.eval_shape(lambda x: learnable.Leaf().init(KEY, x), spec)
    assert leaf == [16_000 * 401 * 80, 100 * 401 * 40]


def test_frame_by_frame_parts_mask_padding():
    """Identity: padded rows of log-learn and sPCEN give their own frames and averages."""
    chain = blocks.Chain((learnable.LogLearn(), learnable.SPCEN()))
    assert chain.masks and not blocks.Chain((learnable.Leaf(),)).masks
    x = np.random.default_rng(0).uniform(0, 2, (2, 9, 3)).astype(np.float32)
    run = jax.jit(lambda x, steps: chain.init_with_output(KEY, x, steps=steps, mutable=["params", "features"]))
    maps, state = run(x, jnp.array([9, 5]))
    alone, state_alone = run(x[1:, :5], None)
    np.testing.assert_allclose(maps[1:, :5], alone, rtol=1e-5)
    found, wanted = (s["features"]["parts_1"]["spcen"] for s in (state, state_alone))
    np.testing.assert_allclose(found[1], wanted[0], rtol=1e-5)


@pytest.mark.parametrize("name", ["sincnet", "leaf"])
def test_learnt_networks(name):
    """Oracle: ARCHITECTURES section 7.3b (160 and 7 N parameters in the filters); shapes by hand; bfloat16 stays."""
    model = zoo.build(name)
    tree = counts.variable_shapes(model)["params"]["front_end"]["part"]
    filters = tree["filters"] if name == "sincnet" else {key: tree[key] for key in ("filters", "low_pass", "spcen")}
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(filters)) == {"sincnet": 160, "leaf": 280}[name]
    shapes = map_shapes(model, 48_000)
    assert shapes["shared1"] == {"sincnet": (1760, 64), "leaf": (294, 64)}[name]
    half = jax.ShapeDtypeStruct((1, 48_000), jnp.bfloat16)
    result = jax.eval_shape(lambda x: zoo.build(name, 1).init_with_output(KEY, x, method="embed")[0], half)
    assert {value.dtype for value in result.values()} == {jnp.dtype(jnp.bfloat16)}
    assert not model.is_variable and isinstance(model.representation, Waveform)
    assert isinstance(model.back_end, SharedBackEnd) and model.back_end.filters == 64

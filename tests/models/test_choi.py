"""Choi's taggers, the networks of his tutorial, deep chroma and singing voice."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity
import pytest

from mirjax.data import audio, dataset
from mirjax.models import blocks, choi, counts, singing, zoo

KEY = jax.random.key(0)
CASES = {
    "crnn": lambda: choi.music_tagger_crnn(8, num_classes=5),
    "singing": lambda: singing.singing_voice_2016(4),
}


def shapes(model, steps=None):
    """{name: shape} of all maps, for the published input."""
    return {layer.name: layer.shape for layer in counts.layers_of(model, steps)}


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def start(model, x):
    """First variables, compiled as one program."""
    return jax.jit(functools.partial(model.init, method="embed"))(KEY, x)


def run(model, variables, x, **options):
    """The network, compiled as one program."""
    return jax.jit(functools.partial(model.apply, method="embed", **options))(variables, x)


def small_autoencoder():
    """Two blocks on 31 frames, both of which drop an incomplete window."""
    block = blocks.Conv(2, (3, 3), activation="elu", norm=blocks.Norm(), norm_first=True, pool=(4, 5))
    encoder = blocks.Stack((block, dataclasses.replace(block, filters=3, pool=(3, 2))))
    return choi.Autoencoder(choi.autoencoder(1).representation, encoder, 4, num_steps=31)


# ── counts ──


@pytest.mark.parametrize(
    ("make", "n", "trainable", "total", "default"),
    [
        (choi.music_tagger_cnn, 32, 865_950, 870_154, 863_410),
        (choi.music_tagger_crnn, 64, 396_786, 400_562, 394_098),
    ],
)
def test_released_taggers_normalise_frames(make, n, trainable, total, default):
    """Oracle: ARCHITECTURES section 1.5; the default's integer: 2 · 96 instead of 2 · 1366 (1440) parameters."""
    legacy = make(n, legacy_input_norm=True)
    assert counts.count(legacy) == trainable
    assert counts.count(legacy, "total") == total
    frames = 1366 if n == 32 else 1440
    assert counts.count(make(n)) == default == trainable - 2 * frames + 2 * 96
    assert legacy.fixed
    assert not legacy.is_variable


def test_compact_cnn_has_five_norms_and_160_features():
    """Oracle: ARCHITECTURES section 1.5 (38,962 without batch norm, 320 in it) and section 10 (five averages)."""
    model = choi.compact_cnn(32)
    assert counts.count(model, "no batch norm") == 38_962
    assert counts.count(model) == 38_962 + 320
    assert counts.num_features(model) == 160
    assert counts.num_features(choi.compact_cnn(7)) == 35


@pytest.mark.parametrize(
    ("variant", "count"),
    [("m0_1", 96_328), ("m0_25", 245_301), ("m0_5", 496_182), ("m1", 1_002_206), ("m3", 3_043_331)],
)
def test_sizes_of_k2c2(variant, count):
    """Oracle: ARCHITECTURES section 1.5; the published sizes within 5 %."""
    model = zoo.build(f"k2c2/{variant}")
    assert counts.count(model, "no batch norm") == count
    assert abs(count / 1e6 / float(variant[1:].replace("_", ".")) - 1) < 0.05


@pytest.mark.parametrize(
    ("make", "n", "count"),
    [
        (choi.deep_chroma, 512, 1_899_020),
        (choi.deep_chroma_madmom, 256, 538_124),
        (singing.singing_voice_2016, 64, 1_604_961),
        (singing.singing_voice_2015, 64, 1_408_225),
    ],
)
def test_counts_of_the_tutorials_structures(make, n, count):
    """Oracle: ARCHITECTURES section 1.5."""
    assert counts.count(make(n)) == count


def test_counts_of_our_own_structures():
    """Hand-worked: dense = in · out + out, conv = 9 · in · out + out, GRU = 3 · units · (in + units + 1)."""
    norms = 2 * 32 * 9
    mirrored = 4 * (9 * 32 * 32 + 32) + (9 * 32 + 1)
    assert counts.count(choi.autoencoder(32)) == 37_312 + (32 * 64 + 64) + (64 * 32 + 32) + mirrored + norms
    grus = 3 * 128 * (96 + 128 + 1) + 3 * 128 * (128 + 128 + 1)
    assert counts.count(choi.seq2seq_autoencoder(128)) == grus + 128 * 96 + 96


# ── shapes ──


def test_flattened_sizes_of_singing_voice():
    """Oracle: ARCHITECTURES section 12: 3,968 and 4,928."""
    assert shapes(singing.singing_voice_2016(64))["conv5"] == (31, 1, 128)
    assert shapes(singing.singing_voice_2015(64))["conv4"] == (11, 7, 64)
    for make, flat in ((singing.singing_voice_2016, 3_968), (singing.singing_voice_2015, 4_928)):
        kernel = counts.variable_shapes(make(64))["params"]["head"]["dense1_layer"]["kernel"]
        assert kernel.shape == (flat, 256)


def test_one_position_is_left_of_1366_frames():
    """Oracle: ARCHITECTURES section 10: the flattened map of MusicTaggerCNN has 256 values, of the compact CNN 32."""
    assert shapes(choi.music_tagger_cnn(32))["conv5"] == (1, 1, 256)
    assert shapes(choi.compact_cnn(32))["conv5"] == (1, 1, 32)
    assert shapes(choi.k2c2(20))["conv5"] == (1, 1, 83)
    kernel = counts.variable_shapes(choi.music_tagger_cnn(32))["params"]["head"]["output"]["kernel"]
    assert kernel.shape == (256, 50)


def test_crnn_has_15_recurrent_steps():
    """Oracle: ARCHITECTURES section 10: 1366 + 74 frames, 15 steps of 128 values, GRU 32, GRU 32."""
    found = shapes(choi.music_tagger_crnn(64))
    assert found["conv4"] == (15, 1, 128)
    assert found["gru1"] == found["gru2"] == (15, 32)


def test_input_of_deep_chroma_is_its_context():
    """Oracle: ARCHITECTURES section 10: 15 × 178 = 2,670 and 15 × 105 = 1,575 inputs of the first layer."""
    for make, inputs in ((choi.deep_chroma, 2_670), (choi.deep_chroma_madmom, 1_575)):
        kernel = counts.variable_shapes(make(8))["params"]["front_end"]["conv1_block"]["kernel"]
        assert kernel.shape[0] * kernel.shape[1] == inputs


# ── layers ──


@pytest.mark.parametrize("case", CASES)
def test_torch_agrees_frozen(case):
    """Oracle: torch 2.13, outputs frozen by `torch_choi.py`."""
    parity.assert_same(CASES[case](), *parity.load("choi", case))


def test_torch_agrees_live():
    """Oracle: torch, run now."""
    for case, arrays in parity.live("choi").items():
        if case in CASES:
            parity.assert_same(CASES[case](), *arrays)


def test_a_convolution_equals_a_dense_layer_with_context():
    """Identity (ARCHITECTURES section 10): a c1 with kernel F × W equals a d2 with a context of W frames."""
    model, x = choi.deep_chroma(6), normal(2, 20, 178)
    variables = start(model, x)
    output, state = run(model, variables, x, mutable=["maps"])
    weights = variables["params"]["front_end"]["conv1_block"]
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (7, 7), (0, 0)))
    context = np.stack([padded[:, t : t + 15].reshape(2, -1) for t in range(20)], axis=1)
    dense = np.asarray(weights["kernel"], np.float64).reshape(15 * 178, 6)
    expected = np.maximum(context @ dense + np.asarray(weights["bias"]), 0)
    np.testing.assert_allclose(state["maps"]["front_end"]["conv1"], expected, atol=1e-5)
    assert output["logits"].shape == (2, 20, 12)


def test_a_convolution_of_one_frame_equals_a_dense_layer():
    """Identity (ARCHITECTURES section 10): a c1 with kernel F × 1 equals a d1, a dense layer for every frame."""
    x = normal(2, 9, 5)
    block, dense = blocks.ConvBlock(blocks.Conv(3, (1,), activation="linear")), blocks.Dense(3)
    variables = block.init(KEY, x)
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"] + 0.5
    found = block.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    np.testing.assert_allclose(found, dense.apply({"params": {"kernel": kernel[0], "bias": bias}}, x), atol=1e-6)


def test_stretch_undoes_a_pooling():
    """Hand-worked: repeats; what an incomplete window dropped gets the last value."""
    x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    found = choi.stretch(x, (2, 3), (5, 7))[0, ..., 0]
    rows = np.array([[0, 0, 0, 1, 1, 1, 1], [2, 2, 2, 3, 3, 3, 3]])
    np.testing.assert_array_equal(found, rows[[0, 0, 1, 1, 1]])
    np.testing.assert_array_equal(jnp.asarray(rows[None, ::2, ::3][..., None], jnp.float32)[:, :, :2], x[:, :1])


def test_autoencoder_mirrors_its_input():
    """Oracle: the input's shape, odd sizes too; the embedding is all that the reconstruction is made of."""
    model, x = small_autoencoder(), normal(2, 31, 96)
    variables = start(model, x)
    found = run(model, variables, x)
    assert found["reconstruction"].shape == x.shape
    assert found["embedding"].shape == (2, 4)
    assert "logits" not in found
    assert np.abs(found["reconstruction"][0] - found["reconstruction"][1]).max() > 1e-3
    zero = jax.tree.map(jnp.zeros_like, variables["params"]["bottleneck_layer"])
    cut = {**variables, "params": {**variables["params"], "bottleneck_layer": zero}}
    alike = run(model, cut, x)["reconstruction"]
    np.testing.assert_array_equal(alike[0], alike[1])
    published = counts.variable_shapes(choi.autoencoder(2))["params"]
    assert published["bottleneck_layer"]["kernel"].shape == (2, 4)


def test_sequence_to_sequence_writes_backwards():
    """Oracle: the decoder's own states, exposed: frame t of T is read off step T − 1 − t, in every row's own length."""
    model, x = choi.seq2seq_autoencoder(3), normal(2, 9, 96)
    variables = start(model, x)
    found, state = run(model, variables, x, steps=jnp.array([9, 5]), mutable=["maps"])
    output = jax.tree.map(np.asarray, variables["params"]["output"])
    frames = np.asarray(state["maps"]["decoder"]["decoded"]) @ output["kernel"] + output["bias"]
    for row, steps in enumerate((9, 5)):
        np.testing.assert_allclose(found["reconstruction"][row, :steps], frames[row, :steps][::-1], atol=1e-6)
        np.testing.assert_allclose(found["embedding"][row], state["maps"]["encoder"]["encoded"][row, steps - 1])
    assert not found["reconstruction"][1, 5:].any()


def test_zeros_around_a_padded_clip():
    """Oracle: the clip by itself: its 37 frames of zeros follow its last real frame."""
    part, x = choi.Padded(2), normal(1, 5, 3)
    alone = part.apply({}, x[:, :3])
    padded = part.apply({}, x, steps=jnp.array([3]))
    np.testing.assert_array_equal(padded[:, :7], alone)
    assert not padded[:, 7:].any()
    assert part.windows[0].num_steps(5) == 9


# ── widths, errors, learning ──


@pytest.mark.parametrize("name", [name for name, entry in zoo.ARCHITECTURES.items() if entry.family == "choi"])
def test_one_filter_and_twice_the_filters(name):
    """Oracle: n = 1 builds, and twice the filters have about four times the parameters of hidden layers."""
    n = zoo.lookup(name).n
    assert counts.count(zoo.build(name, 1)) > 0
    assert 1.4 < counts.count(zoo.build(name, 2 * n)) / counts.count(zoo.build(name, n)) < 4.1


def test_errors_name_what_is_wrong():
    """Oracle: DESIGN section 6.8: the name, the value, the remedy."""
    with pytest.raises(ValueError, match=r"widths=\(1, 2\)"):
        choi.k2c2(1, widths=(1, 2))
    with pytest.raises(ValueError, match="1280"):
        choi.music_tagger_cnn(1).init(KEY, normal(1, 1279, 96), method="embed")
    with pytest.raises(ValueError, match="115"):
        singing.singing_voice_2015(1).init(KEY, normal(1, 116, 80), method="embed")
    with pytest.raises(ValueError, match="legacy_input_norm"):
        zoo.build("compact_cnn", legacy_input_norm=True)


def test_loss_falls():
    """Oracle: an autoencoder that learns: squared error of the log-mel falls, on embedded audio."""
    source = dataset.open_source("rhythm_small")
    chosen = range(0, len(source), 9)
    clips = jnp.stack([audio.decode(source.encoded(i), sample_rate=12_000)[: 31 * 256 - 1] for i in chosen])
    model = small_autoencoder()
    x = model.representation(clips)[:, :31]
    x = (x - x.mean()) / x.std()
    variables = start(model, x)
    params, stats, optimiser = variables["params"], variables["batch_stats"], optax.adam(1e-2)
    state, losses = optimiser.init(params), []

    def loss(params, stats):
        variables = {"params": params, "batch_stats": stats}
        output, new = model.apply(variables, x, train=True, method="embed", mutable=["batch_stats"])
        return ((output["reconstruction"] - x) ** 2).mean(), new["batch_stats"]

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for _ in range(20):
        (value, stats), gradients = step(params, stats)
        updates, state = optimiser.update(gradients, state)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    assert losses[-1] < 0.8 * losses[0]

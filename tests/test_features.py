"""Features over seeds: identities, independence of how the work is cut, and bounded memory."""

import json
import os
import subprocess
import sys

import jax
import librosa
import numpy as np
import pytest

from mirjax import features
from mirjax.models import zoo

SECONDS = 24_000


@pytest.fixture(scope="module")
def audio():
    """Four clips of two seconds, real enough: shifts of a recorded-like chirp with noise."""
    rng = np.random.default_rng(0)
    chirp = librosa.chirp(fmin=100, fmax=4000, sr=12_000, length=SECONDS)
    return np.stack([np.roll(chirp, 500 * i) + 0.1 * rng.normal(size=SECONDS) for i in range(4)]).astype(np.float32)


@pytest.mark.parametrize("name", ["vgg", "timbral_temporal", "sample", "frame_many"])
def test_bits_do_not_depend_on_batch_order_or_seeds(name, audio):
    """Oracle: CONTRACT, "Determinism": the same bits for any batch, order of clips and number of seeds."""
    model = zoo.build(name, 4)
    keys = jax.random.split(jax.random.key(0), 3)
    whole = features.random_features(model, keys, audio)
    assert whole.shape == (3, 4, features.num_features(model))
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(features.random_features(model, keys, audio[order]), whole[:, order])
    np.testing.assert_array_equal(features.random_features(model, keys[1:2], audio[3:]), whole[1:2, 3:])
    np.testing.assert_array_equal(features.random_features(model, keys, iter(audio)), whole)
    again = features.extract(model, features.initialise(model, keys[2]), audio)
    np.testing.assert_array_equal(again, whole[2])
    assert np.abs(whole[0] - whole[1]).max() > 1e-3, "two seeds must differ"


def test_batches_leave_out_the_rows_that_fill_up(audio):
    """Oracle: the same clips as one array."""
    model, key = zoo.build("temporal", 4), jax.random.key(0)[None]
    batches = [
        {"audio": audio[:3], "mask": np.array([True, True, True])},
        {"audio": np.stack([audio[3], 0 * audio[3], 0 * audio[3]]), "mask": np.array([True, False, False])},
    ]
    np.testing.assert_array_equal(
        features.random_features(model, key, batches), features.random_features(model, key, audio)
    )


def test_compiled_once_per_architecture(audio):
    """Oracle: JAX's own count of compiled programs, over seeds, batches and moments."""
    model = zoo.build("temporal", 12)
    for seed in range(3):
        key = jax.random.key(seed)[None]
        features.random_features(model, key, audio[: seed + 1], moments=(float(seed), 1.0 + seed))
    represent, embed, *_ = features._compiled(model, jax.device_count())
    assert represent._cache_size() == embed._cache_size() == 1


def test_moments_against_numpy(audio):
    """Oracle: numpy's mean and population deviation of all values, in float64."""
    model = zoo.build("temporal", 4)
    sums = features.representation_sums(model, audio)
    values = np.asarray(model.representation(audio), np.float64)
    mean, deviation = features.moments(sums)
    assert mean == pytest.approx(values.mean(), rel=1e-6)
    assert deviation == pytest.approx(values.std(), rel=1e-6)
    assert features.moments(sums[::-1]) == (mean, deviation)
    variables = features.initialise(model, jax.random.key(0))
    standardised = features.extract(model, variables, audio, moments=(mean, deviation))
    by_hand = features.layer_means(model, variables, (model.representation(audio) - mean) / deviation)
    expected = np.concatenate([np.asarray(part) for part in by_hand.values()], axis=1)
    assert np.abs(standardised - expected).max() <= 1e-5 * np.abs(expected).max()


def test_mfcc_of_clips_of_any_length(embedded_clip):
    """Oracle: librosa MFCC and numpy statistics, clip by clip, short ones padded to 2,048 samples."""
    lengths = [300, 2_047, 2_048, 5_000, 30_000]
    clips = [np.resize(embedded_clip[i], length) for i, length in enumerate(lengths)]
    values = features.mfcc_features(clips, sample_rate=12_000)
    for row, clip in zip(values, clips, strict=True):
        clip = np.pad(clip, (0, max(0, 2_048 - len(clip))))
        coefficients = librosa.feature.mfcc(y=clip.astype(np.float64), sr=12_000)
        orders = [np.diff(coefficients, n=order) for order in range(3)]
        expected = np.concatenate([np.concatenate([v.mean(axis=1), v.std(axis=1)]) for v in orders])
        assert np.abs(row - expected).max() <= 1e-3


def test_no_clips_and_constant_input(audio):
    """Oracle: the errors the docstrings promise."""
    model = zoo.build("temporal", 4)
    variables = features.initialise(model, jax.random.key(0))
    with pytest.raises(ValueError, match="no clips"):
        features.extract(model, variables, audio[:0])
    with pytest.raises(ValueError, match="deviation must be positive"):
        features.extract(model, variables, audio, moments=(0.0, 0.0))


CHILD = """
import json, os, sys
import jax, numpy as np
from mirjax import features
from mirjax.models import zoo

name, n, clips, seeds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
rng = np.random.default_rng(0)
audio = rng.normal(size=(clips, 24_000 if n < 100 else 350_000)).astype(np.float32)
model = zoo.build(name, n)
trees = [features.initialise(model, jax.random.key(seed)) for seed in range(seeds)]
represent, embed, *_ = features._compiled(model, jax.device_count())
before = peak()
values = features.extract_each(model, trees, audio)
found = {"devices": jax.device_count(), "megabytes": peak() - before, "values": values.tolist() if n < 100 else 0}
print(json.dumps(found))
"""


def in_child(*arguments, devices=1):
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, "-c", CHILD, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["timbral_temporal", "frame"])
def test_devices_agree(name):
    """Oracle: CONTRACT: across devices within 1e-5 of the largest value; here 1 device against 8 fake ones."""
    one, many = in_child(name, 4, 5, 2), in_child(name, 4, 5, 2, devices=8)
    assert (one["devices"], many["devices"]) == (1, 8)
    one, many = np.array(one["values"]), np.array(many["values"])
    assert np.abs(one - many).max() <= 1e-5 * np.abs(one).max()


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak memory from /proc")
@pytest.mark.parametrize(("name", "n"), [("7x86", 3585), ("timbral", 256), ("sample", 512), ("frame_many", 448)])
def test_memory_is_bounded_at_3500_features(name, n):
    """Oracle: PERFORMANCE §9: at most 200 MB above input and weights, whatever the width (peak of the process)."""
    assert in_child(name, n, 1, 1)["megabytes"] <= 200


def test_float64_end_to_end(golden_inputs, golden_network):
    """Oracle: the golden features (torch, float32): a float64 run lies within their rounding, and stays float64."""
    for name in ("vgg", "timbral_temporal", "sample", "frame_many"):
        n, variables, expected, _ = golden_network(name)
        with jax.enable_x64(True):
            variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
            audio = golden_inputs["wave12k"][None].astype(np.float64)
            values = features.extract(zoo.build(name, n), variables, audio)[0]
        assert values.dtype == np.float64
        assert np.abs(values - expected).max() <= 2e-6 * np.abs(expected).max()


def test_chosen_layers(audio):
    """Oracle: the same columns of the features of all layers; a layer of the head by numpy."""
    model, keys = zoo.build("vgg", 4), jax.random.split(jax.random.key(0), 2)
    whole = features.random_features(model, keys, audio)
    chosen = features.random_features(model, keys, audio, layers=("pool5", "pool2"))
    np.testing.assert_array_equal(chosen, np.concatenate([whole[..., 16:20], whole[..., 4:8]], axis=-1))
    selected = features.select(model, "pool2")
    assert features.num_features(selected) == 4
    assert features.feature_names(selected) == ("pool2/0", "pool2/1", "pool2/2", "pool2/3")
    assert features.program(selected, SECONDS) != features.program(model, SECONDS)
    assert features.select(selected, model.feature_layers) != selected
    with pytest.raises(ValueError, match=r"layers='pool6' is not exposed by this network; known: pool1, pool2"):
        features.random_features(model, keys, audio, layers=("pool6",))
    with pytest.raises(ValueError, match="at least one layer"):
        features.select(model, ())


def test_fixed_networks_see_windows(audio):
    """Oracle: each window by itself, averaged; what is left over is dropped; a short clip is repeated."""
    model = zoo.build("tutorial_genre", 4)  # 80 frames, hop 1024
    key = jax.random.key(0)
    variables = features.initialise(model, key, SECONDS)
    x = model.representation(np.tile(audio[:1], (1, 9)))  # 211 frames: two windows
    assert x.shape[1] // 80 == 2
    alone = [features.layer_means(model, variables, x[:, i : i + 80]) for i in (0, 80)]
    for name, values in features.layer_means(model, variables, x).items():
        wanted = np.mean([np.asarray(each[name]) for each in alone], axis=0)
        assert np.abs(np.asarray(values) - wanted).max() <= 1e-6 * np.abs(wanted).max()
    short = features.layer_means(model, variables, x[:, :30])
    again = features.layer_means(model, variables, np.concatenate([x[:, :30]] * 3, axis=1)[:, :80])
    for name, values in short.items():
        np.testing.assert_array_equal(values, again[name])
    assert features.gigaflops(model, 1024 * 200) == pytest.approx(2 * features.gigaflops(model, 1024 * 90))


def test_short_clips_are_repeated_up_to_the_published_length(audio):
    """Oracle: the repeated representation by itself (compact CNN: 1366 frames; two seconds are 94)."""
    model = zoo.build("compact_cnn", 2)
    variables = features.initialise(model, jax.random.key(0), SECONDS)
    x = np.asarray(model.representation(audio[:1]))
    long = np.tile(x, (1, 15, 1))[:, :1366]
    whole, found = features.layer_means(model, variables, long), features.layer_means(model, variables, x)
    for name, values in found.items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-5)


def test_mono_clips_go_to_both_channels(audio):
    """Oracle: the clips repeated on a channel axis by numpy."""
    model, keys = zoo.build("kim_ss_r", 2), jax.random.split(jax.random.key(0), 1)
    mono = features.random_features(model, keys, audio[:2])
    stereo = features.random_features(model, keys, np.stack([audio[:2]] * 2, axis=1))
    np.testing.assert_array_equal(mono, stereo)
    with pytest.raises(ValueError, match="one length"):
        features.random_features(model, keys, np.stack([audio[:2]] * 3, axis=1))
    with pytest.raises(ValueError, match="one length"):
        features.random_features(zoo.build("temporal", 2), keys, np.stack([audio[:2]] * 2, axis=1))

"""Compressions against librosa in float64, on the mel spectrogram of a real clip."""

import functools
import math

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from jax.test_util import check_grads

from mirjax.signal import compression


def worst(a, b):
    return np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max()


@pytest.fixture(scope="module")
def power(golden_inputs):
    """Mel power f64[2, T, F] of two passages; the first begins with silence."""
    filters = librosa.filters.mel(sr=12_000, n_fft=512, n_mels=40, dtype=np.float64)
    audio = golden_inputs["wave12k"][:48_000].astype(np.float64).reshape(2, -1)
    audio[0, :4000] = 0
    spectrum = np.abs(librosa.stft(audio, n_fft=512, hop_length=256)) ** 2
    return np.swapaxes(filters @ spectrum, -1, -2)


def per_item(function, values):
    """librosa's function of each item in turn (its maxima are over the whole array)."""
    return np.stack([function(item.T).T for item in values])


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("top_db", [80.0, 30.0, None])
@pytest.mark.parametrize(("ref", "theirs"), [(1.0, 1.0), (-0.5, -0.5), ("max", np.max), (1e-12, 1e-12)])
def test_decibels(power, ref, theirs, top_db, x64):
    """Oracle: librosa.power_to_db and amplitude_to_db in float64, item by item."""
    with jax.enable_x64(x64):
        x = jnp.asarray(power, jnp.result_type(float))
        expected = per_item(lambda s: librosa.power_to_db(s, ref=theirs, amin=1e-9, top_db=top_db), power)
        assert worst(compression.power_to_db(x, ref=ref, amin=1e-9, top_db=top_db), expected) < (1e-14 if x64 else 1e-6)
        expected = per_item(lambda s: librosa.amplitude_to_db(s, ref=theirs, top_db=top_db), power)
        assert worst(compression.amplitude_to_db(x, ref=ref, top_db=top_db), expected) < (1e-14 if x64 else 1e-6)


def test_reference_for_each_item(power):
    """Oracle: each item with its own reference."""
    x, refs = jnp.asarray(power, jnp.float32), jnp.array([0.1, 20.0])
    together = compression.power_to_db(x, ref=refs)
    for item, ref, found in zip(x, refs, together, strict=True):
        np.testing.assert_allclose(found, compression.power_to_db(item, ref=float(ref)), atol=1e-4)
    np.testing.assert_allclose(compression.power_to_db(x, ref="max").max(axis=(1, 2)), 0, atol=1e-5)
    assert compression.power_to_db(jnp.float32(100.0)) == pytest.approx(20)
    np.testing.assert_allclose(compression.power_to_db(jnp.array([1e-9, 10.0]), top_db=20), [-10, 10], atol=1e-5)


@pytest.mark.parametrize("x64", [False, True])
def test_decibels_and_back(power, x64):
    """Oracle: librosa.db_to_power and db_to_amplitude; the inverse of the forward map."""
    with jax.enable_x64(x64):
        db = np.linspace(-100, 60, 50)
        x = jnp.asarray(db, jnp.result_type(float))
        tolerance = 1e-14 if x64 else 2e-6
        assert worst(compression.db_to_power(x, ref=2.0), librosa.db_to_power(db, ref=2.0)) < tolerance
        assert worst(compression.db_to_amplitude(x, ref=2.0), librosa.db_to_amplitude(db, ref=2.0)) < tolerance
        values = jnp.maximum(jnp.asarray(power, x.dtype), 1e-10)
        back = compression.db_to_power(compression.power_to_db(values, top_db=None))
        np.testing.assert_allclose(back, values, rtol=1e-12 if x64 else 2e-5)


@pytest.mark.parametrize("x64", [False, True])
def test_logarithms(power, x64):
    """Oracle: numpy in float64."""
    with jax.enable_x64(x64):
        x, tolerance = jnp.asarray(power, jnp.result_type(float)), 1e-14 if x64 else 1e-6
        for base in (math.e, 10, 2):
            log = lambda v, base=base: np.log(v) / np.log(base)  # noqa: E731
            assert worst(compression.log_offset(x, offset=0.01, base=base), log(power + 0.01)) < tolerance
            assert worst(compression.log_floor(x, floor=1e-7, base=base), log(np.maximum(power, 1e-7))) < tolerance
            assert worst(compression.log_scaled(x, scale=500.0, base=base), log(1 + 500 * power)) < tolerance


PCEN = [
    {},
    {"gain": 0.8, "bias": 10.0, "power": 0.25, "time_constant": 0.06, "eps": 1e-3},
    {"power": 0},
    {"bias": 0, "max_size": 3},
    {"b": 0.3, "max_size": 4},
    {"b": 1.0, "gain": 1.0, "max_size": 7},
    {"b": 0.01, "gain": 0},
]


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("settings", PCEN)
def test_pcen(power, settings, x64):
    """Oracle: librosa.pcen in float64, with its first state and with a given one."""
    rates = {"sr": 12_000, "hop_length": 256}
    with jax.enable_x64(x64), np.errstate(divide="ignore"):  # librosa takes the log of 0 for bias 0
        x = jnp.asarray(power, jnp.result_type(float)) * 2**20
        ours = functools.partial(compression.pcen, sample_rate=12_000, hop_length=256, **settings)
        theirs = functools.partial(librosa.pcen, **rates, **settings)
        expected = per_item(theirs, power * 2**20)
        found, state = ours(x, return_state=True)
        assert found.dtype == x.dtype and state.shape == (2, 40)
        assert worst(found, expected) < (1e-12 if x64 else 2e-5)
        b = (
            settings.get("b")
            if "b" in settings
            else compression.pcen_coefficient(
                sample_rate=12_000, hop_length=256, time_constant=settings.get("time_constant", 0.4)
            )
        )
        first = power[0, 5] * 2**20
        expected = theirs(power[0].T * 2**20, zi=(1 - b) * first[:, None]).T
        assert worst(ours(x[0], state=jnp.asarray(first, x.dtype)), expected) < (1e-12 if x64 else 2e-5)


def test_pcen_in_blocks_equals_the_whole(power):
    """Oracle: the whole clip at once, bit for bit."""
    x = jnp.asarray(power, jnp.float32)
    value = compression.PCEN(sample_rate=12_000, hop_length=256, scale=2.0**31)
    whole, last = value.step(x, None)
    pieces, state = [], None
    for start, stop in ((0, 1), (1, 30), (30, 31), (31, x.shape[1])):
        piece, state = value.step(x[:, start:stop], state)
        pieces.append(piece)
    np.testing.assert_array_equal(jnp.concatenate(pieces, axis=1), whole)
    np.testing.assert_array_equal(state, last)
    np.testing.assert_array_equal(value(x), whole)


VALUES = [
    compression.Linear(),
    compression.Decibels(),
    compression.Decibels(ref="max", amin=1e-7, top_db=None),
    compression.LogOffset(0.01),
    compression.LogOffset(1e-6, base=10),
    compression.LogFloor(1e-7),
    compression.LogScaled(),
    compression.LogScaled(1.0, base=math.e),
    compression.PCEN(sample_rate=12_000, hop_length=256),
    compression.PCEN(bias=0, max_size=3),
    compression.PCEN(power=0),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values(power, value):
    """Oracle: itself without jit, item by item, and finite differences."""
    x = jnp.asarray(power[:, 10:30], jnp.float32)
    together = value(x)
    assert together.shape == x.shape and hash(value) == hash(type(value)(**vars(value)))
    np.testing.assert_allclose(jax.jit(value)(x), together, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(value)(x)[1], value(x[1]), rtol=1e-5, atol=1e-5)
    assert bool(value.needs_whole_clip) == isinstance(value, compression.Decibels)
    silence = jnp.zeros((6, 5))
    gradient = jax.jit(jax.grad(lambda s: value(s).sum()))
    assert jnp.isfinite(value(silence)).all()
    for clip in (x[0, :6, :5], silence):
        assert jnp.isfinite(gradient(clip)).all()
    low = value(x.astype(jnp.bfloat16))
    assert jnp.isfinite(low).all()
    if not isinstance(value, compression.PCEN):  # a chunk of a stream that completes no frame
        assert value(jnp.zeros((0, 5))).shape == (0, 5)
    with jax.enable_x64(True):
        # Away from the kinks at amin, the floor and the maximum.
        smooth = compression.Decibels(amin=1e-30, top_db=None) if isinstance(value, compression.Decibels) else value
        check_grads(jax.jit(smooth), (jnp.asarray(power[0, 20:24, 3:7]) + 1e-3,), order=1, modes=["rev"], rtol=2e-3)


def test_reasons_for_the_whole_clip():
    """Oracle: the sentences the docstring promises."""
    assert "top_db=80" in compression.Decibels().needs_whole_clip
    assert "ref='max'" in compression.Decibels(ref="max").needs_whole_clip
    assert compression.Decibels(top_db=None).needs_whole_clip == ""


X = jnp.ones((4, 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compression.power_to_db(X, ref=0), "ref=0"),
        (lambda: compression.power_to_db(X, ref="min"), "ref='min'"),
        (lambda: compression.power_to_db(X, ref=jnp.ones(3)), r"ref of shape \(3,\).*give shape \(\)"),
        (lambda: compression.power_to_db(X, amin=0), "amin=0"),
        (lambda: compression.power_to_db(X, top_db=-1), "top_db=-1"),
        (lambda: compression.power_to_db(X.astype(int)), "int32"),
        (lambda: compression.power_to_db(X * jnp.nan), "NaN"),
        (lambda: compression.power_to_db(X + 1j), "complex64"),
        (lambda: compression.log_offset(X, offset=0), "offset=0"),
        (lambda: compression.log_scaled(X, scale=-1), "scale=-1"),
        (lambda: compression.log_scaled(X, base=1), "base=1"),
        (lambda: compression.pcen(X[0]), "at least 2 axes"),
        (lambda: compression.pcen(X, gain=-1), "gain=-1"),
        (lambda: compression.pcen(X, b=1.5), "b=1.5"),
        (lambda: compression.pcen(X, hop_length=0), "hop_length=0"),
        (lambda: compression.pcen(X, eps=0), "eps=0"),
        (lambda: compression.pcen(X, max_size=0), "max_size=0"),
        (lambda: compression.pcen(X, state=jnp.ones(4)), r"state of shape \(4,\) must be \(3,\)"),
    ],
)
def test_bad_input_is_named(call, message):
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match=message):
        call()

"""Harmonic-percussive separation against librosa and scipy."""

import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.ndimage

from mirjax.signal import hpss as separation
from mirjax.signal.hpss import hpss, hpss_audio, median_filter, softmask, two_stage_hpss


def worst(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


@pytest.fixture(scope="module")
def spectrum(golden_inputs):
    """STFT c128[60, 257] of a real clip."""
    return librosa.stft(golden_inputs["wave12k"].astype(np.float64), n_fft=512)[:, 100:160].T


@pytest.mark.parametrize("size", [1, 3, 31, 81])
@pytest.mark.parametrize("axis", [-2, -1])
def test_median_filter(spectrum, size, axis):
    """Oracle: scipy.ndimage.median_filter(mode="reflect"), equal to the last bit; 81 frames exceed the clip."""
    magnitude = np.abs(spectrum).astype(np.float32)
    shape = (size, 1) if axis == -2 else (1, size)
    ours = median_filter(jnp.asarray(magnitude), kernel_size=size, axis=axis)
    np.testing.assert_array_equal(ours, scipy.ndimage.median_filter(magnitude, size=shape, mode="reflect"))


def test_network_selects_the_median_of_every_odd_size():
    """Oracle: numpy.median of random permutations."""
    rng = np.random.default_rng(0)
    for size in range(1, 40, 2):
        columns = rng.permuted(np.tile(np.arange(size), (20, 1)), axis=1).T.astype(float)
        wires = dict(enumerate(columns))
        with jax.disable_jit():
            np.testing.assert_array_equal(separation._median(list(wires.values())), np.median(columns, axis=0))


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, np.inf])
@pytest.mark.parametrize("split_zeros", [True, False])
def test_softmask(power, split_zeros):
    """Oracle: librosa.util.softmask, with zeros in either and in both."""
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 8, 9)) * (rng.random((2, 8, 9)) > 0.3)
    expected = librosa.util.softmask(a, b, power=power, split_zeros=split_zeros)
    with jax.enable_x64(True):
        ours = softmask(jnp.asarray(a), jnp.asarray(b), power=power, split_zeros=split_zeros)
        assert ours.dtype == jnp.float64
        assert worst(ours, expected.astype(float)) <= 1e-14


@pytest.mark.parametrize(
    "setting, complex_values, mask",
    [
        ({}, True, False),
        ({"kernel_size": (13, 5)}, False, False),
        ({"kernel_size": 5, "margin": 3.0}, False, True),
        ({"kernel_size": 5, "margin": (1.0, 5.0), "power": 1.0}, True, False),
        ({"kernel_size": 5, "power": np.inf}, False, True),
    ],
)
def test_hpss(spectrum, setting, complex_values, mask):
    """Oracle: librosa.decompose.hpss in float64, of the complex spectrum, of magnitudes, and its masks."""
    values = spectrum if complex_values else np.abs(spectrum)
    expected = librosa.decompose.hpss(values.T, mask=mask, **setting)
    single = hpss(jnp.asarray(values.astype(np.complex64 if complex_values else np.float32)), mask=mask, **setting)
    with jax.enable_x64(True):
        double = hpss(jnp.asarray(values), mask=mask, **setting)
    for ours, precise, reference in zip(single, double, expected, strict=True):
        assert worst(ours, reference.T.astype(values.dtype)) <= 1e-5
        assert worst(precise, reference.T.astype(values.dtype)) <= 1e-12


def test_hpss_audio(golden_inputs):
    """Oracle: librosa.effects.hpss in float64; with margin 1 the parts add up to the audio."""
    audio = golden_inputs["wave12k"][:30_000].astype(np.float64)
    setting = {"n_fft": 512, "hop_length": 128, "kernel_size": (17, 31)}
    expected = librosa.effects.hpss(audio, **setting)
    parts = hpss_audio(jnp.asarray(audio.astype(np.float32)), **setting)
    for ours, reference in zip(parts, expected, strict=True):
        assert worst(ours, reference) <= 1e-5
    assert worst(parts[0] + parts[1], audio) <= 1e-6
    with jax.enable_x64(True):
        for ours, reference in zip(hpss_audio(jnp.asarray(audio), **setting), expected, strict=True):
            assert worst(ours, reference) <= 1e-10


def test_two_stages(golden_inputs):
    """Oracle: librosa.effects.hpss twice, in float64; and a made-up mixture goes where the convention says."""
    audio = golden_inputs["wave12k"][:64_000].astype(np.float64)
    sustained, rest = librosa.effects.hpss(audio, n_fft=4096, hop_length=2048)
    harmonic, percussive = librosa.effects.hpss(rest, n_fft=512, hop_length=256)
    parts = two_stage_hpss(jnp.asarray(audio.astype(np.float32)))
    for ours, reference in zip(parts, (sustained, harmonic, percussive), strict=True):
        assert np.abs(np.asarray(ours) - reference).max() <= 1e-5 * np.abs(audio).max()
    assert worst(sum(parts), audio) <= 1e-6
    # A held tone, a melody of half a second a note and clicks, at 16 kHz; the ends are left out.
    time = np.arange(64_000) / 16_000
    held = np.sin(2 * np.pi * 500 * time)
    melody = np.sin(2 * np.pi * np.cumsum(1000 + 170 * (2 * time).astype(int)) / 16_000)
    clicks = np.where(np.arange(64_000) % 5000 == 2500, 20.0, 0.0)
    parts = two_stage_hpss(jnp.asarray((held + melody + clicks).astype(np.float32)))
    for index, source in enumerate((held, melody, clicks)):
        heard = [abs(float(np.vdot(part[8000:-8000], source[8000:-8000]))) for part in parts]
        assert int(np.argmax(heard)) == index


def test_leading_axes_and_jit(spectrum):
    """Oracle: one spectrogram at a time."""
    magnitude = jnp.asarray(np.abs(spectrum).astype(np.float32))
    stack = jnp.stack([magnitude, magnitude[::-1]])[:, None]
    split = functools.partial(hpss, kernel_size=7)
    both = split(stack)
    assert both[0].shape == stack.shape
    for i in range(2):
        for ours, alone in zip(both, split(stack[i, 0]), strict=True):
            np.testing.assert_allclose(ours[i, 0], alone, rtol=1e-6, atol=1e-7)
    for ours, jitted, mapped in zip(both, jax.jit(split)(stack), jax.vmap(split)(stack), strict=True):
        np.testing.assert_allclose(ours, jitted, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(ours, mapped, rtol=1e-6, atol=1e-7)


def test_gradients(spectrum):
    """Oracle: finite differences in float64; finite at silence; the gradient of a median of equals is shared."""

    def loss(values):
        harmonic, percussive = hpss(values, kernel_size=(5, 3), margin=2.0)
        return jnp.sum(harmonic**2) + jnp.sum(percussive)

    with jax.enable_x64(True):
        values = jnp.asarray(np.abs(spectrum[:9, :8]))
        gradient = jax.jit(jax.grad(loss))(values)
        step = jnp.asarray(np.random.default_rng(2).standard_normal(values.shape))
        slope = (loss(values + 1e-7 * step) - loss(values - 1e-7 * step)) / 2e-7
        assert abs(jnp.vdot(gradient, step) / slope - 1) <= 1e-6
        assert abs(jax.jit(lambda v, t: jax.jvp(loss, (v,), (t,))[1])(values, step) / slope - 1) <= 1e-6
    for silence in (jnp.zeros((9, 8)), jnp.zeros((9, 8), jnp.complex64)):
        for power in (0.5, 2.0):
            part = functools.partial(hpss, kernel_size=3, power=power)
            gradient = jax.jit(jax.grad(lambda x, part=part: jnp.sum(part(x)[0].real)))(silence)
            assert np.isfinite(np.asarray(gradient)).all()
    gradient = jax.grad(lambda x: median_filter(x, kernel_size=3, axis=-2).sum())(jnp.ones((7, 2)))
    np.testing.assert_allclose(gradient.sum(), 14, rtol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kernel_size": 30}, "is even"),
        ({"kernel_size": (31, 0)}, r"kernel_size\[1\]=0 must be a whole number"),
        ({"kernel_size": (3, 3, 3)}, "give one number or"),
        ({"power": 0}, "power=0 must be above 0"),
        ({"margin": 0.5}, "must be numbers of at least 1"),
        ({"spectrum": -np.ones((4, 4), np.float32)}, "holds negative numbers"),
        ({"spectrum": np.ones((4, 4), np.int32)}, "spectrum is int32"),
        ({"spectrum": np.ones(4, np.float32)}, "at least 2 axes"),
        ({"spectrum": np.full((4, 4), np.nan + 0j, np.complex64)}, "holds NaN"),
    ],
)
def test_bad_input(change, message):
    """Oracle: the message names the value and the remedy."""
    setting = {"spectrum": np.ones((4, 4), np.float32)} | change
    with pytest.raises(ValueError, match=message):
        hpss(setting.pop("spectrum"), **setting)


def test_lists_are_taken():
    """Oracle: the same numbers in an array."""
    audio = np.sin(np.arange(300) / 5)
    setting = {"n_fft": 64, "kernel_size": 3}
    listed, given = hpss_audio(audio.tolist(), **setting), hpss_audio(jnp.asarray(audio, jnp.float32), **setting)
    np.testing.assert_allclose(np.stack(listed), np.stack(given), atol=1e-6)
    stages = two_stage_hpss(audio.tolist(), n_fft=(64, 16), hop_length=(32, 8), kernel_size=3)
    np.testing.assert_allclose(sum(stages), audio, atol=1e-5)


def test_bad_input_elsewhere():
    """Oracle: the message names the value and the remedy."""
    ones = jnp.ones((4, 4))
    with pytest.raises(ValueError, match="axis=0 is unknown"):
        median_filter(ones, kernel_size=3, axis=0)
    with pytest.raises(ValueError, match="must agree"):
        softmask(ones, ones[:2])
    with pytest.raises(ValueError, match="audio is int"):
        hpss_audio([1, 2, 3])
    with pytest.raises(ValueError, match="audio is int"):
        two_stage_hpss([1, 2, 3])
    with pytest.raises(ValueError, match=r"give \(long, short\) windows"):
        two_stage_hpss(jnp.ones(9000), n_fft=(512, 4096))

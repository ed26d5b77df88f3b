"""YIN against librosa in float64 on real clips, and against tones of known frequency."""

import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from jax.test_util import check_grads

from mirjax.signal import pitch, stft

RATE = 12_000
SEARCH = {"fmin": 65.0, "fmax": 2000.0, "sample_rate": RATE}


def worst(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


def reference(audio, *, sample_rate, **setting):
    return librosa.yin(np.asarray(audio, np.float64), sr=sample_rate, **setting)


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"frame_length": 1024, "hop_length": 100, "center": False},
        {"trough_threshold": 0.5, "pad_mode": "reflect"},
        {"frame_length": 1001, "fmin": 40.0, "fmax": 6000.0, "trough_threshold": 0.02},
    ],
)
@pytest.mark.parametrize("wide", [False, True])
def test_yin(golden_inputs, setting, wide):
    """Oracle: librosa.yin in float64, on a real clip of 3 s."""
    audio = golden_inputs["wave12k"][20_000:56_000]
    setting = SEARCH | setting
    expected = reference(audio, **setting)
    with jax.enable_x64(wide):
        given = pitch.yin(jnp.asarray(audio.astype(np.float64 if wide else np.float32)), **setting)
        assert given.dtype == (jnp.float64 if wide else jnp.float32)
    assert given.shape == expected.shape
    relative = np.abs(np.asarray(given) - expected) / expected
    if wide:
        assert relative.max() <= 1e-12
    else:
        # Where two troughs are alike, rounding chooses: that may happen in one frame of a hundred.
        assert np.mean(relative > 1e-5) <= 0.01
        assert np.median(relative) <= 1e-6


def test_yin_speech(embedded_clip):
    """Oracle: librosa.yin in float64, on spoken digits: every frame within 1e-5."""
    for audio in embedded_clip[:2]:
        audio = np.pad(audio, (0, max(0, 8000 - len(audio))))[:8000]
        expected = reference(audio, **SEARCH)
        assert (np.abs(np.asarray(pitch.yin(jnp.asarray(audio), **SEARCH)) - expected) <= 1e-5 * expected).all()


def test_normalised_difference(golden_inputs):
    """Oracle: librosa's cumulative mean normalised difference in float64."""
    from librosa.core.pitch import _cumulative_mean_normalized_difference as difference

    frames = librosa.util.frame(golden_inputs["wave12k"].astype(np.float64), frame_length=1024, hop_length=1500)
    expected = difference(frames.copy(), 6, 185).T
    given = pitch.normalised_difference(jnp.asarray(frames.T, jnp.float32), min_period=6, max_period=185)
    assert worst(given, expected) <= 1e-5
    with jax.enable_x64(True):
        given = pitch.normalised_difference(jnp.asarray(frames.T), min_period=6, max_period=185)
        assert worst(given, expected) <= 1e-13


def test_difference_is_the_papers():
    """Oracle: d(τ) = Σ_n (x[n] − x[n + τ])² over a frame that is followed by nothing, less what leaves it (by hand)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(64)
    # In full: Σ_{n<L−τ} (x[n] − x[n+τ])² = 2 (r(0) − r(τ)) − Σ_{n<τ} x[n]² − Σ_{n≥L−τ} x[n]²; librosa keeps the last
    # sum, and the first one from τ = 2 on.
    d = np.array([np.sum((x[: 64 - t] - x[t:]) ** 2) + np.sum(x[64 - t :] ** 2) for t in range(1, 33)])
    d[0] += x[0] ** 2
    expected = d / (np.cumsum(d) / np.arange(1, 33))
    with jax.enable_x64(True):
        given = pitch.normalised_difference(jnp.asarray(x), min_period=1, max_period=32)
        assert worst(given, expected) <= 1e-12


@pytest.mark.parametrize("frequency", [82.4, 110.0, 329.6, 440.0, 1046.5])
def test_tones(frequency):
    """Oracle: the frequency of a pure tone, within 0.5 %, from next to nothing to full scale.

    Fewer than nine periods in a frame bias the method itself (librosa alike): the lowest tone gets longer frames.
    """
    setting = {"fmin": 65, "fmax": 2093, "sample_rate": 22_050, "frame_length": 2048 if frequency > 100 else 4096}
    t = np.arange(22_050 // 2) / 22_050
    tone = np.sin(2 * np.pi * frequency * t)
    for level in (1.0, 1e-4, 1e-15):
        given = pitch.yin(jnp.asarray(level * tone, jnp.float32), center=False, **setting)
        assert np.abs(np.asarray(given) / frequency - 1).max() <= 0.005


def test_frames_of_a_stream_and_leading_axes(golden_inputs):
    """Identity: `yin_frames` of separate frames, a batch, jit and eager give the same numbers."""
    audio = jnp.asarray(golden_inputs["wave12k"][20_000:32_000])
    whole = pitch.yin(audio, frame_length=1024, **SEARCH)
    frames = stft.frame(audio, frame_length=1024, hop_length=256)
    np.testing.assert_array_equal(whole, jax.jit(functools.partial(pitch.yin_frames, **SEARCH))(frames))
    batch = jnp.stack([audio, audio[::-1]])[None]
    given = pitch.yin(batch, frame_length=1024, **SEARCH)
    assert given.shape == (1, 2, *whole.shape)
    np.testing.assert_array_equal(given[0, 0], whole)
    np.testing.assert_allclose(jax.jit(functools.partial(pitch.yin, frame_length=1024, **SEARCH))(audio), whole)


def test_gradient():
    """Oracle: finite differences in float64; finite at silence and at subnormal numbers."""
    with jax.enable_x64(True):
        t = np.arange(600) / RATE
        tone = jnp.asarray(np.sin(2 * np.pi * 300 * t) + 0.3 * np.sin(2 * np.pi * 617 * t))
        mean = jax.jit(lambda x: pitch.yin_frames(x, fmin=100, fmax=2000, sample_rate=RATE).mean())
        check_grads(mean, (tone[None],), order=1, modes=["rev"], atol=1e-4, rtol=1e-4)
    frames = np.zeros((4, 600), np.float32)
    frames[1], frames[2, 300], frames[3, :5] = 1e-40, 1e-30, 1.0
    total = functools.partial(pitch.yin_frames, fmin=100, fmax=2000, sample_rate=RATE)
    value, slope = jax.value_and_grad(lambda x: total(x).sum())(jnp.asarray(frames))
    assert np.isfinite(value) and np.isfinite(slope).all()
    assert total(jnp.asarray(frames))[0] == RATE / 6  # the shortest period, as librosa's


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fmin": 0.0}, "fmin=0.0 must be a number above 0"),
        ({"fmin": 500.0, "fmax": 300.0}, "0 <= fmin < fmax"),
        ({"fmax": 7000.0}, "half the sample rate"),
        ({"fmin": 5.0}, "raise fmin above 5.86 Hz or frame_length to 2402"),
        ({"hop_length": 0}, "hop_length=0"),
        ({"frame_length": 2.5}, "frame_length=2.5"),
        ({"trough_threshold": 0.0}, "trough_threshold"),
        ({"pad_mode": "mirror"}, "pad_mode='mirror'"),
        ({"sample_rate": 0}, "sample_rate=0"),
        ({"audio": np.zeros(4000, np.int16)}, "int16"),
        ({"audio": np.full(4000, np.nan, np.float32)}, "NaN"),
        ({"audio": np.zeros(0, np.float32)}, "at least 1 samples"),
        ({"audio": np.zeros(100, np.float32), "center": False}, "shorter than one frame"),
    ],
)
def test_bad_input(change, message):
    """Contract: the error names the value and the remedy."""
    setting = {"audio": np.zeros(4000, np.float32), **SEARCH, **change}
    with pytest.raises(ValueError, match=message):
        pitch.yin(setting.pop("audio"), **setting)


def test_frames_may_be_lists_and_are_checked():
    """Contract: a list of floats is an array; integers and NaN are refused by name."""
    tone = np.sin(2 * np.pi * 300 * np.arange(600) / RATE)
    setting = {"fmin": 100, "fmax": 2000, "sample_rate": RATE}
    np.testing.assert_allclose(pitch.yin_frames(tone.tolist(), **setting), 300, rtol=5e-3)
    with pytest.raises(ValueError, match="frames is int"):
        pitch.yin_frames([1, 2, 3] * 200, **setting)
    with pytest.raises(ValueError, match="frames holds NaN"):
        pitch.normalised_difference(np.full((2, 64), np.nan), min_period=1, max_period=32)


def test_bad_periods():
    """Contract: periods longer than the frame are refused."""
    with pytest.raises(ValueError, match="min_period <= max_period < 64"):
        pitch.normalised_difference(jnp.zeros((2, 64)), min_period=1, max_period=64)

"""Resampling against analytic sinusoids, scipy's polyphase resampler and soxr."""

import jax
import jax.numpy as jnp
import jax.test_util
import librosa
import numpy as np
import pytest
import scipy.signal
import soxr

from mirjax.signal import resample as resampling
from mirjax.signal.resample import prototype, rational, resample

RATES = [(44_100, 22_050), (12_000, 16_000), (44_100, 16_000), (16_000, 11_025), (12_000, 18_000.0), (192_000, 11_025)]


def worst(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


def sine(frequency, rate, samples, phase=0.3):
    return np.sin(2 * np.pi * frequency / rate * np.arange(samples) + phase)


@pytest.mark.parametrize("orig, target", RATES)
def test_equals_scipy_with_the_same_filter(golden_inputs, orig, target):
    """Oracle: scipy.signal.resample_poly in float64 with our filter, on a real clip."""
    audio = golden_inputs["wave12k"][:5003].astype(np.float64)
    up, down = rational(orig, target)
    expected = scipy.signal.resample_poly(audio, up, down, window=prototype(up, down) / up)
    single = resample(jnp.asarray(audio.astype(np.float32)), orig_rate=orig, target_rate=target)
    assert single.shape == expected.shape and single.dtype == jnp.float32
    assert worst(single, expected) <= 2e-6
    with jax.enable_x64(True):
        double = resample(jnp.asarray(audio), orig_rate=orig, target_rate=target)
        assert double.dtype == jnp.float64
        assert worst(double, expected) <= 1e-10


@pytest.mark.parametrize("num_zeros, rolloff, beta", [(16, 0.85, 8.0), (64, 0.945, 14.77), (1, 1.0, 0.0)])
def test_other_filters_and_short_clips(num_zeros, rolloff, beta):
    """Oracle: scipy.signal.resample_poly; one sample gives the filter itself."""
    setting = {"num_zeros": num_zeros, "rolloff": rolloff, "beta": beta}
    weights = prototype(3, 4, **setting) / 3
    with jax.enable_x64(True):
        for samples in (1, 7, 300):
            audio = np.random.default_rng(samples).standard_normal(samples)
            expected = scipy.signal.resample_poly(audio, 3, 4, window=weights)
            ours = resample(jnp.asarray(audio), orig_rate=16_000, target_rate=12_000, **setting)
            assert ours.shape == (-(-3 * samples // 4),)
            assert worst(ours, expected) <= 1e-12


@pytest.mark.parametrize("orig, target", RATES)
def test_sinusoids_in_the_pass_band(orig, target):
    """Oracle: the analytic sinusoid at the new rate, up to 0.95 of the lower Nyquist frequency (100 dB)."""
    samples = 8_000 * max(1, orig // target)
    with jax.enable_x64(True):
        for part in (0.01, 0.5, 0.9, 0.95):
            frequency = part * min(orig, target) / 2
            ours = np.asarray(resample(jnp.asarray(sine(frequency, orig, samples)), orig_rate=orig, target_rate=target))
            middle = slice(len(ours) // 4, -len(ours) // 4)
            assert np.abs(ours - sine(frequency, target, len(ours)))[middle].max() <= 2e-5


@pytest.mark.parametrize("orig, target", [(44_100, 22_050), (44_100, 16_000), (16_000, 11_025), (12_000, 16_000)])
def test_aliases_and_images_are_100_db_down(orig, target):
    """Oracle: a tone above the new Nyquist frequency leaves nothing; a tone below the old one has no image."""
    with jax.enable_x64(True):
        if target < orig:
            for part in (1.0, 1.05, 1.5, 1.9):
                frequency = part * target / 2
                if frequency < orig / 2:
                    tone = jnp.asarray(sine(frequency, orig, 40_000))
                    ours = np.asarray(resample(tone, orig_rate=orig, target_rate=target))
                    assert np.abs(ours)[len(ours) // 4 : -len(ours) // 4].max() <= 1e-5
        else:
            tone = jnp.asarray(sine(0.93 * orig / 2, orig, 40_000))
            ours = np.asarray(resample(tone, orig_rate=orig, target_rate=target))
            middle = ours[len(ours) // 4 : -len(ours) // 4]
            spectrum = np.abs(np.fft.rfft(middle * np.blackman(len(middle)) ** 2))
            bins = np.fft.rfftfreq(len(middle), 1 / target)
            assert spectrum[bins > orig / 2].max() <= 1e-5 * spectrum.max()


@pytest.mark.parametrize("orig, target", [(44_100, 22_050), (16_000, 11_025), (12_000, 16_000)])
def test_response_of_the_default_filter(orig, target):
    """Oracle: scipy.signal.freqz: 0.0002 dB ripple up to 0.95, 100 dB of rejection from the lower Nyquist frequency."""
    up, down = rational(orig, target)
    lower = 1 / max(up, down)
    weights = prototype(up, down) / up
    below = scipy.signal.freqz(weights, worN=np.linspace(0, 0.95 * lower, 500), fs=2)[1]
    above = scipy.signal.freqz(weights, worN=np.linspace(lower, min(1, 6 * lower), 5000), fs=2)[1]
    assert np.abs(20 * np.log10(np.abs(below))).max() <= 2e-4
    assert 20 * np.log10(np.abs(above).max()) <= -100


@pytest.mark.parametrize("orig, target", [(44_100, 16_000), (12_000, 16_000)])
def test_close_to_soxr_in_the_pass_band(golden_inputs, orig, target):
    """Oracle: soxr VHQ, whose pass band ends a little below ours, on a real clip without its top of the band."""
    weights = scipy.signal.firwin(801, 0.8 * min(1, target / orig), window=("kaiser", 12.0))
    audio = np.convolve(golden_inputs["wave12k"][:20_000].astype(np.float64), weights)
    expected = soxr.resample(audio, orig, target, quality="VHQ")
    with jax.enable_x64(True):
        ours = np.asarray(resample(jnp.asarray(audio), orig_rate=orig, target_rate=target))
    assert len(ours) == librosa.resample(audio, orig_sr=orig, target_sr=target).shape[-1]
    assert worst(ours[: len(expected)], expected[: len(ours)]) <= 3e-5


def test_lengths_scale_and_equal_rates():
    """Oracle: librosa.resample's length ⌈N · ratio⌉ and its `scale`; equal rates change nothing."""
    audio = np.random.default_rng(0).standard_normal(1001).astype(np.float32)
    for orig, target in ((3, 2), (2, 3), (44_100, 16_000)):
        ours = resample(jnp.asarray(audio), orig_rate=orig, target_rate=target, num_zeros=8)
        assert ours.shape == librosa.resample(audio, orig_sr=orig, target_sr=target, res_type="polyphase").shape
        scaled = resample(jnp.asarray(audio), orig_rate=orig, target_rate=target, num_zeros=8, scale=True)
        assert worst(scaled, np.asarray(ours) / np.sqrt(target / orig)) <= 1e-6
    np.testing.assert_array_equal(resample(jnp.asarray(audio), orig_rate=8000, target_rate=8000.0), audio)


def test_long_clips_in_blocks_leading_axes_and_jit():
    """Oracle: the same samples one clip at a time; a clip long enough to be computed in blocks of frames."""
    audio = jnp.asarray(np.random.default_rng(1).standard_normal((2, 1, 600_000)).astype(np.float32))
    setting = {"orig_rate": 3, "target_rate": 1, "num_zeros": 32}
    both = resample(audio, **setting)
    assert both.shape == (2, 1, 200_000)
    np.testing.assert_array_equal(both, jax.jit(lambda x: resample(x, **setting))(audio))
    np.testing.assert_allclose(both[1, 0], resample(audio[1, 0], **setting), atol=1e-6)
    np.testing.assert_allclose(both[0], jax.vmap(lambda x: resample(x, **setting))(audio[0]), atol=1e-6)


def test_frames_stream():
    """Oracle: the whole clip; frames of input, wherever they come from, give the same outputs."""
    audio = np.random.default_rng(2).standard_normal(3000).astype(np.float32)
    setting = {"orig_rate": 4, "target_rate": 3, "num_zeros": 16}
    plan = resampling.plan(**setting)
    padded = np.pad(audio, (plan.before, plan.frame_length + plan.hop_length))
    starts = range(0, len(audio), plan.hop_length)
    parts = [resampling.resample_frames(jnp.asarray(padded[s : s + plan.frame_length]), plan) for s in starts]
    whole = resample(jnp.asarray(audio), **setting)
    np.testing.assert_allclose(np.concatenate(parts)[: len(whole)], whole, atol=1e-6)


@pytest.mark.parametrize(
    "orig, target, seconds",
    [(16_000, 16_001, 0.5), (22_050, 22_051, 0.3), (48_000, 47_999, 1.1), (16_000, 10, 0.5), (4_001, 3_000, 3.0)],
)
def test_large_terms_and_long_decimations(orig, target, seconds):
    """Oracle: scipy.signal.resample_poly in float64; no matrix of weights holds more than 2^20 numbers."""
    audio = np.random.default_rng(4).standard_normal(int(orig * seconds))
    setting = {"orig_rate": orig, "target_rate": target, "num_zeros": 24, "rolloff": 0.9}
    plan = resampling.plan(**setting)
    if plan.formula is None:
        assert all(matrix.size <= 1 << 20 for _, matrix in plan.groups)
    else:
        assert not plan.groups and plan.formula.block * plan.formula.width <= 1 << 20
    weights = prototype(plan.up, plan.down, num_zeros=24, rolloff=0.9) / plan.up
    expected = scipy.signal.resample_poly(audio, plan.up, plan.down, window=weights)
    single = resample(jnp.asarray(audio, jnp.float32), **setting)
    assert single.shape == expected.shape and worst(single, expected) <= 2e-6
    with jax.enable_x64(True):
        assert worst(resample(jnp.asarray(audio), **setting), expected) <= 1e-10


def test_default_filter_of_large_terms_is_bounded():
    """Oracle: the plan itself: 22,050 → 22,051 and the like keep no weights, 16,000 → 10 those of two outputs."""
    for rates in ((22_050, 22_051), (48_000, 47_999), (16_000, 16_001), (16_000, 1)):
        plan = resampling.plan(orig_rate=rates[0], target_rate=rates[1])
        assert not plan.groups and plan.formula.block * plan.formula.width <= 1 << 23
    assert resampling.plan(orig_rate=16_000, target_rate=10).num_outputs == 2
    for rates in ((44_100, 16_000), (44_100, 48_000), (44_100, 22_050), (192_000, 11_025)):
        assert resampling.plan(orig_rate=rates[0], target_rate=rates[1]).formula is None


def test_computed_weights_stream_batch_and_differentiate():
    """Oracle: frames equal the whole; one clip at a time; the adjoint identity <y, A x> = <Aᵀ y, x>."""
    setting = {"orig_rate": 2_001, "target_rate": 2_000, "num_zeros": 200}
    plan = resampling.plan(**setting)
    assert plan.formula is not None
    audio = np.random.default_rng(5).standard_normal((2, 5000)).astype(np.float32)
    whole = resample(jnp.asarray(audio), **setting)
    padded = np.pad(audio[0], (plan.before, plan.frame_length + plan.hop_length))
    frames = [padded[s : s + plan.frame_length] for s in range(0, 5000, plan.hop_length)]
    parts = resampling.resample_frames(np.stack(frames), plan)
    np.testing.assert_allclose(parts.reshape(-1)[: whole.shape[-1]], whole[0], atol=2e-6)
    np.testing.assert_allclose(whole[1], resample(jnp.asarray(audio[1]), **setting), atol=2e-6)
    with jax.enable_x64(True):
        x = jnp.asarray(audio, jnp.float64)
        y, adjoint = jax.vjp(lambda x: resample(x, **setting), x)
        other = jnp.asarray(np.random.default_rng(6).standard_normal(y.shape))
        assert abs(jnp.vdot(other, y) / jnp.vdot(adjoint(other)[0], x) - 1) <= 1e-10


def test_frames_are_checked():
    """Oracle: the message names the value; a list is refused or taken, not half read."""
    plan = resampling.plan(orig_rate=4, target_rate=3, num_zeros=2)
    frame = [0.5] * plan.frame_length
    np.testing.assert_array_equal(
        resampling.resample_frames(frame, plan), resampling.resample_frames(np.asarray(frame, np.float32), plan)
    )
    with pytest.raises(ValueError, match="frames of 3 samples; this plan needs"):
        resampling.resample_frames(np.zeros(3, np.float32), plan)


def test_gradient():
    """Oracle: finite differences in float64; finite at silence."""

    def energy(x):
        return jnp.sum(resample(x, orig_rate=3, target_rate=2, num_zeros=4) ** 2)

    with jax.enable_x64(True):
        audio = jnp.asarray(np.random.default_rng(3).standard_normal(50))
        jax.test_util.check_grads(energy, (audio,), order=1, modes=["rev"], atol=1e-5, rtol=1e-5)
    assert not np.asarray(jax.grad(energy)(jnp.zeros(50))).any()


def test_rational():
    """Oracle: fractions in lowest terms; a rate of 44,100 / 1.001 within 1e-8."""
    assert rational(44_100, 48_000) == (160, 147)
    assert rational(22_050.0, 16_000) == (320, 441)
    assert rational(0.5, 1.25) == (5, 2)
    assert rational(22_050, 22_051) == (22_051, 22_050) and rational(48_000, 47_999) == (47_999, 48_000)
    assert rational(np.int32(48_000), np.float32(44_100)) == (147, 160)
    up, down = rational(44_100, 44_100 / 1.001)
    assert abs(up / down * 1.001 - 1) < 1e-8


@pytest.mark.parametrize(
    "change, message",
    [
        ({"target_rate": 0}, "target_rate=0 must be a number above 0"),
        ({"orig_rate": float("nan")}, "orig_rate=nan must be a number above 0"),
        ({"orig_rate": 10**8, "target_rate": 10**8 - 10}, "terms up to 1048576; target_rate=100000000.0 is 1e-07 away"),
        ({"orig_rate": 3_000_000, "target_rate": 1}, "terms up to 1048576; resample in two steps"),
        ({"orig_rate": 100_000, "target_rate": 1}, "filter of 26256411 samples; lower num_zeros, or resample in two"),
        ({"orig_rate": 22_050, "target_rate": 22_051, "num_zeros": 10**6}, "num_zeros=1000000 .* lower num_zeros"),
        ({"num_zeros": 0}, "num_zeros=0 must be a whole number"),
        ({"rolloff": 1.2}, "rolloff=1.2 is above 1"),
        ({"beta": -1.0}, "beta=-1.0 must be a number from 0 to 700"),
        ({"beta": 1000.0}, "beta=1000.0 must be a number from 0 to 700"),
        ({"audio": np.zeros(8, np.int16)}, "audio is int16"),
        ({"audio": np.zeros(0, np.float32)}, "at least 1 samples"),
        ({"audio": np.full(8, np.nan, np.float32)}, "holds NaN"),
    ],
)
def test_bad_input(change, message):
    """Oracle: the message names the value and the remedy."""
    setting = {"audio": np.zeros(8, np.float32), "orig_rate": 44_100, "target_rate": 44_100 // 2} | change
    with pytest.raises(ValueError, match=message):
        resample(setting.pop("audio"), **setting)

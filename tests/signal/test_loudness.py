"""BS.1770 against its own table, EBU Tech 3341's test signals and scipy's recursive filter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from mirjax.signal import loudness
from mirjax.signal.loudness import (
    Filter,
    integrated_loudness,
    k_weight,
    k_weighting,
    momentary_loudness,
    normalise_loudness,
    recursive_filter,
    short_term_loudness,
)


def worst(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


def lfilter(filter, audio):
    for b, a in filter.sections:
        audio = scipy.signal.lfilter(b, a, audio)
    return audio


def tones(*seconds_and_levels, rate=48_000, frequency=1000.0):
    """Sine in both channels, f32[2, N], of successive lengths (seconds) and peak levels (dBFS)."""
    gain = np.concatenate([np.full(round(s * rate), 10 ** (level / 20)) for s, level in seconds_and_levels])
    wave = gain * np.sin(2 * np.pi * frequency / rate * np.arange(len(gain)))
    return jnp.asarray(np.stack([wave, wave]), jnp.float32)


def test_coefficients_at_48_khz():
    """Oracle: tables 1 and 2 of BS.1770-5, annex 1."""
    shelf, high_pass = k_weighting(48_000).sections
    np.testing.assert_allclose(shelf[0], [1.53512485958697, -2.69169618940638, 1.19839281085285], atol=1e-12)
    np.testing.assert_allclose(shelf[1], [1, -1.69065929318241, 0.73248077421585], atol=1e-12)
    np.testing.assert_allclose(high_pass[0], [1, -2, 1], atol=1e-12)
    np.testing.assert_allclose(high_pass[1], [1, -1.99004745483398, 0.99007225036621], atol=1e-12)


@pytest.mark.parametrize("rate, bound", [(44_100, 0.01), (96_000, 0.05), (22_050, 0.1), (16_000, 0.2)])
def test_response_at_other_rates(rate, bound):
    """Oracle: the response at 48 kHz from 20 Hz to a quarter of the rate (the bilinear transform bends the rest)."""
    frequencies = np.geomspace(20, rate / 4, 200)

    def decibels(at):
        response = np.prod(
            [scipy.signal.freqz(b, a, worN=frequencies, fs=at)[1] for b, a in k_weighting(at).sections], axis=0
        )
        return 20 * np.log10(np.abs(response))

    assert np.abs(decibels(rate) - decibels(48_000)).max() <= bound


@pytest.mark.parametrize("rate", [48_000, 192_000, 12_000])
def test_k_weight_against_scipy(golden_inputs, rate):
    """Oracle: scipy.signal.lfilter in float64 on a real clip with an offset."""
    audio = golden_inputs["wave12k"][:50_001] + np.float32(0.1)
    expected = lfilter(k_weighting(rate), audio.astype(np.float64))
    single, _ = k_weight(jnp.asarray(audio), sample_rate=rate)
    assert single.dtype == jnp.float32
    assert worst(single, expected) <= 1e-6
    with jax.enable_x64(True):
        assert worst(k_weight(jnp.asarray(audio.astype(np.float64)), sample_rate=rate)[0], expected) <= 1e-10


@pytest.mark.parametrize(
    "sections",
    [
        (((1.0,), (1.0, -0.97)),),
        (((0.2, -0.3, 0.5), (1.0,)),),
        (((2.0,), (1.0,)), ((1.0, 1.0), (1.0, 0.5))),
        (((0.5, 0.1), (1.0, 0.2, 0.3, -0.4)), ((1.0, 1.0), (1.0, -0.9))),
    ],
)
def test_other_filters(sections):
    """Oracle: scipy.signal.lfilter: first order, no recursion, a gain before a filter, a cascade of unequal orders."""
    audio = np.random.default_rng(0).standard_normal((2, 1000))
    with jax.enable_x64(True):
        for samples in (1, 128, 129, 1000):
            ours, state = recursive_filter(jnp.asarray(audio[:, :samples]), Filter(sections))
            assert worst(ours, lfilter(Filter(sections), audio[:, :samples])) <= 1e-12
            assert state.shape == (2, Filter(sections).num_states)


def test_chunks_chained_by_the_state(golden_inputs):
    """Oracle: the whole clip: within 1e-6 of float32, 1e-12 of float64, whatever the chunks."""
    audio = golden_inputs["wave12k"][:3000]
    for wide, bound in ((False, 1e-6), (True, 1e-12)):
        with jax.enable_x64(wide):
            values = jnp.asarray(audio.astype(np.float64 if wide else np.float32))
            whole, last = k_weight(values, sample_rate=12_000)
            parts, state = [], None
            for start, stop in ((0, 1), (1, 128), (128, 1300), (1300, 3000)):
                part, state = k_weight(values[start:stop], sample_rate=12_000, state=state)
                parts.append(part)
            assert worst(np.concatenate(parts), np.asarray(whole)) <= bound
            assert worst(state, np.asarray(last)) <= bound


def test_full_scale_sine_reads_minus_3_01():
    """Oracle: BS.1770-5, annex 1: a 0 dBFS sine of 997 Hz in one channel is −3.01 LKFS; in two, 3.01 more."""
    wave = tones((5, 0.0), frequency=997.0)
    assert abs(float(integrated_loudness(wave[0], sample_rate=48_000)) + 3.01) <= 0.005
    assert abs(float(integrated_loudness(wave, sample_rate=48_000, channels="stereo"))) <= 0.005
    np.testing.assert_allclose(momentary_loudness(wave[0], sample_rate=48_000)[3:], -3.01, atol=0.01)
    assert short_term_loudness(wave[0], sample_rate=48_000).shape == (21,)
    np.testing.assert_allclose(short_term_loudness(wave[0], sample_rate=48_000)[5:], -3.01, atol=0.01)


@pytest.mark.parametrize(
    "signal, expected",
    [
        ([(20, -23.0)], -23.0),
        ([(20, -33.0)], -33.0),
        ([(10, -36.0), (60, -23.0), (10, -36.0)], -23.0),
        ([(10, -72.0), (10, -36.0), (60, -23.0), (10, -36.0), (10, -72.0)], -23.0),
        ([(20, -26.0), (20.1, -20.0), (20, -26.0)], -23.0),
    ],
)
def test_ebu_3341_cases_1_to_5(signal, expected):
    """Oracle: EBU Tech 3341, table 1, cases 1–5 (stereo sines of 1 kHz, ± 0.1 LU)."""
    audio = tones(*signal)
    assert abs(float(integrated_loudness(audio, sample_rate=48_000, channels="stereo")) - expected) <= 0.1
    if len(signal) == 1:
        for meter in (momentary_loudness, short_term_loudness):
            np.testing.assert_allclose(meter(audio, sample_rate=48_000, channels="stereo")[5:], expected, atol=0.1)


def test_ebu_3341_case_6_surround():
    """Oracle: EBU Tech 3341, case 6: L, R −28, C −24, Ls, Rs −30 dBFS read −23.0; the LFE does not count."""
    wave = tones((5, 0.0))[0]
    levels = jnp.asarray(10 ** (np.array([-28.0, -28.0, -24.0, 0.0, -30.0, -30.0]) / 20), jnp.float32)
    audio = levels[:, None] * wave[None]
    assert abs(float(integrated_loudness(audio, sample_rate=48_000, channels="5.1")) + 23.0) <= 0.1
    without = jnp.delete(audio, 3, axis=0, assume_unique_indices=True)
    assert abs(float(integrated_loudness(without, sample_rate=48_000, channels="5.0")) + 23.0) <= 0.1


def test_gating_by_hand(golden_inputs):
    """Oracle: equations 3–7 written out with loops in float64, on a real clip with silence and a quiet part."""
    rate = 12_000
    audio = np.concatenate(
        [golden_inputs["wave12k"][:60_000], np.zeros(12_000), golden_inputs["wave12k"][:30_000] / 50]
    )
    filtered = lfilter(k_weighting(rate), audio.astype(np.float64))
    starts = range(0, len(audio) - 4 * 1200 + 1, 1200)
    energies = np.array([np.mean(filtered[s : s + 4800] ** 2) for s in starts])
    levels = -0.691 + 10 * np.log10(np.maximum(energies, 1e-12))
    gate = -0.691 + 10 * np.log10(energies[levels > -70].mean()) - 10
    kept = (levels > -70) & (levels > gate)
    assert 0 < kept.sum() < (levels > -70).sum() < len(levels)
    expected = -0.691 + 10 * np.log10(energies[kept].mean())
    assert abs(float(integrated_loudness(jnp.asarray(audio), sample_rate=rate)) - expected) <= 1e-4
    ours = momentary_loudness(jnp.asarray(audio), sample_rate=rate)
    assert ours.shape == levels.shape and np.abs(np.asarray(ours) - levels).max() <= 1e-3
    with jax.enable_x64(True):
        wide = jnp.asarray(audio.astype(np.float64))
        assert abs(float(integrated_loudness(wide, sample_rate=rate)) - expected) <= 1e-9


def test_normalise(golden_inputs):
    """Oracle: the loudness measured again; silence stays; leading axes are clips, or clips of channels."""
    audio = jnp.asarray(golden_inputs["wave12k"][:48_000].reshape(2, 2, 12_000))
    setting = {"sample_rate": 12_000}
    once = normalise_loudness(audio, target=-18.0, **setting)
    np.testing.assert_allclose(integrated_loudness(once, **setting), np.full((2, 2), -18.0), atol=1e-3)
    stereo = normalise_loudness(audio, channels="stereo", **setting)
    np.testing.assert_allclose(integrated_loudness(stereo, channels=(1.0, 1.0), **setting), [-23.0] * 2, atol=1e-3)
    np.testing.assert_allclose(stereo[1], normalise_loudness(audio[1], channels="stereo", **setting), rtol=1e-5)
    np.testing.assert_allclose(stereo, jax.jit(lambda x: normalise_loudness(x, channels="stereo", **setting))(audio))
    mapped = jax.vmap(lambda x: normalise_loudness(x, channels="stereo", **setting))(audio)
    np.testing.assert_allclose(stereo, mapped, rtol=1e-5)
    silence = jnp.zeros(12_000)
    np.testing.assert_array_equal(normalise_loudness(silence, **setting), silence)
    assert abs(float(integrated_loudness(silence, **setting)) + 120.691) < 1e-3


def test_energies_beyond_float32(golden_inputs):
    """Oracle: infinity is not silence; normalising does not depend on the level given."""
    audio = jnp.asarray(golden_inputs["wave12k"][:24_000].reshape(2, 12_000))
    loud = audio * jnp.asarray([[1e22], [1.0]], jnp.float32)
    measured = integrated_loudness(loud, sample_rate=12_000)
    assert measured[0] == jnp.inf and measured[1] == integrated_loudness(audio, sample_rate=12_000)[1]
    once = normalise_loudness(loud, sample_rate=12_000)
    np.testing.assert_allclose(once, normalise_loudness(audio, sample_rate=12_000), rtol=1e-4, atol=1e-6)
    stereo = normalise_loudness(audio * 1e22, sample_rate=12_000, channels="stereo")
    assert worst(stereo, np.asarray(normalise_loudness(audio, sample_rate=12_000, channels="stereo"))) <= 1e-4


def test_gradients():
    """Oracle: finite differences in float64; finite at silence."""

    def loss(x):
        return integrated_loudness(x, sample_rate=4000) + jnp.sum(normalise_loudness(x, sample_rate=4000) ** 3)

    assert np.isfinite(np.asarray(jax.jit(jax.grad(loss))(jnp.zeros(2000)))).all()
    with jax.enable_x64(True):
        x, step = jnp.asarray(np.random.default_rng(0).standard_normal((2, 2000)))
        slope = (loss(x + 1e-6 * step) - loss(x - 1e-6 * step)) / 2e-6
        assert abs(jnp.vdot(jax.jit(jax.grad(loss))(x), step) / slope - 1) <= 1e-6


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: integrated_loudness(x[:100], sample_rate=8000), "shorter than one window of 0.4 s"),
        (lambda x: short_term_loudness(x, sample_rate=8000), "shorter than one window of 3 s"),
        (lambda x: integrated_loudness(x, sample_rate=0), "sample_rate=0 must be a number above 0"),
        (lambda x: integrated_loudness(x, sample_rate=3000), "sample_rate=3000 is too low for K-weighting; take 3700"),
        (lambda x: integrated_loudness(x, sample_rate=8000, channels="steroe"), "did you mean 'stereo'"),
        (lambda x: integrated_loudness(x, sample_rate=8000, channels="stereo"), r"must be \[..., 2, N\]"),
        (lambda x: integrated_loudness(x, sample_rate=8000, channels=(1.0, -1.0)), "one weight of at least 0"),
        (lambda x: normalise_loudness(x, sample_rate=8000, target=-np.inf), "target=-inf must be a number of LKFS"),
        (lambda x: integrated_loudness(x.astype(np.int16), sample_rate=8000), "audio is int16"),
        (lambda x: k_weight(x, sample_rate=8000, state=np.zeros(3)), r"it must be \(4,\)"),
        (lambda x: recursive_filter(x, loudness.Filter((((1.0,), (1.0, -1.0)),))), "pole at radius 1; poles must lie"),
        (lambda x: recursive_filter(x, Filter((((1.0,), (2.0, 0.1)),))), r"a=\(2.0, 0.1\) must .* a\[0\] = 1; divide"),
        (lambda x: recursive_filter(x, Filter((((1.0,), (1.0, np.nan)),))), "must hold finite numbers"),
        (lambda x: recursive_filter(x, loudness.Filter((((2.0,), (1.0,)),))), "has no memory; multiply by its gain 2"),
    ],
)
def test_bad_input(call, message):
    """Oracle: the message names the value and the remedy."""
    with pytest.raises(ValueError, match=message):
        call(np.ones(8000, np.float32))

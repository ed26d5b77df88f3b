"""Onset envelopes and tempograms against librosa in float64 on real clips, and against clicks of known tempo."""

import functools
import math

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from jax.test_util import check_grads

from mirjax.signal import rhythm

RATE, HOP, CD = 12_000, 128, 44_100


def worst(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


@pytest.fixture(scope="module")
def decibels(golden_inputs):
    """Log-mel of a real clip by librosa, F × T, float64."""
    audio = golden_inputs["wave12k"][:80_000].astype(np.float64)
    mel = librosa.feature.melspectrogram(y=audio, sr=RATE, hop_length=HOP, n_fft=512, n_mels=40)
    return librosa.power_to_db(mel.astype(np.float64))


@pytest.fixture(scope="module")
def envelope(decibels):
    """Its onset envelope by librosa, float64."""
    return librosa.onset.onset_strength(S=decibels, sr=RATE)


def clicks(period, count, dtype=np.float32):
    values = np.zeros(period * count, dtype)
    values[::period] = 1
    return values


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("setting", "aggregate"),
    [
        ({}, np.mean),
        ({"lag": 2, "max_size": 3}, np.median),
        ({"max_size": 4, "detrend": True}, np.mean),
        ({"center": False, "lag": 3}, np.sum),
        ({"n_fft": 512, "hop_length": 128, "detrend": True}, np.max),
    ],
)
def test_onset_strength(decibels, setting, aggregate, wide):
    """Oracle: librosa.onset.onset_strength of the same spectrogram in float64."""
    expected = librosa.onset.onset_strength(S=decibels, sr=RATE, aggregate=aggregate, **setting)
    with jax.enable_x64(wide):
        values = jnp.asarray(decibels.T.astype(np.float64 if wide else np.float32))
        name = {np.mean: "mean", np.median: "median", np.sum: "sum", np.max: "max"}[aggregate]
        given = rhythm.onset_strength(values, aggregate=name, **setting)
        assert given.dtype == values.dtype and given.shape == expected.shape
        assert worst(given, expected) <= (1e-12 if wide else 1e-6)


def test_onset_reference_and_short_clips(decibels):
    """Oracle: librosa's `ref`; zeros where there are not more frames than the lag."""
    expected = librosa.onset.onset_strength(S=decibels, ref=decibels * 0.9, sr=RATE)
    values = jnp.asarray(decibels.T, jnp.float32)
    assert worst(rhythm.onset_strength(values, reference=values * 0.9), expected) <= 1e-6
    for aggregate in rhythm.AGGREGATES:
        np.testing.assert_array_equal(rhythm.onset_strength(values[:2], lag=3, aggregate=aggregate), [0, 0])


def test_flux(decibels):
    """Oracle: the sum of positive differences in numpy; 40 times the mean of librosa without its delay."""
    values = decibels.T
    expected = np.concatenate([[0], np.maximum(np.diff(values, axis=0), 0).sum(axis=1)])
    assert worst(rhythm.spectral_flux(jnp.asarray(values, jnp.float32)), expected) <= 1e-6
    strength = librosa.onset.onset_strength(S=decibels, lag=2, max_size=3, center=False)
    assert worst(rhythm.spectral_flux(jnp.asarray(values, jnp.float32), lag=2, max_size=3), 40 * strength) <= 1e-6


def test_remove_mean_in_pieces(envelope):
    """Oracle: scipy.signal.lfilter; identity: the state carries it over any cut, to the last bit."""
    import scipy.signal

    values = jnp.asarray(envelope, jnp.float32)
    whole, _ = rhythm.remove_mean(values)
    assert worst(whole, scipy.signal.lfilter([1, -1], [1, -0.99], envelope)) <= 1e-6
    first, state = rhythm.remove_mean(values[:100])
    rest, _ = rhythm.remove_mean(values[100:], state)
    np.testing.assert_array_equal(np.concatenate([first, rest]), whole)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"win_length": 101, "norm": 1, "window": "hamming"},
        {"win_length": 64, "norm": 2, "center": False, "window": "boxcar"},
        {"win_length": 7, "norm": None, "window": np.linspace(1, 2, 7)},
    ],
)
def test_tempogram(envelope, setting, wide):
    """Oracle: librosa.feature.tempogram of the same envelope in float64."""
    expected = librosa.feature.tempogram(onset_envelope=envelope, sr=RATE, **setting).T
    with jax.enable_x64(wide):
        values = jnp.asarray(envelope.astype(np.float64 if wide else np.float32))
        given = rhythm.tempogram(values, **setting)
        assert given.dtype == values.dtype and given.shape == expected.shape
        assert worst(given, expected) <= (1e-12 if wide else 2e-6)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("setting", [{}, {"win_length": 101, "center": False}])
def test_fourier_tempogram(envelope, setting, wide):
    """Oracle: librosa.feature.fourier_tempogram of the same envelope in float64."""
    expected = librosa.feature.fourier_tempogram(onset_envelope=envelope, sr=RATE, **setting).T
    with jax.enable_x64(wide):
        values = jnp.asarray(envelope.astype(np.float64 if wide else np.float32))
        given = rhythm.fourier_tempogram(values, **setting)
        assert given.shape == expected.shape
        assert worst(given, expected) <= (1e-12 if wide else 2e-6)


@pytest.mark.parametrize("period", [17, 40])
def test_clicks(period):
    """Oracle: clicks every `period` frames correlate at its multiples alone, and have that tempo."""
    values = jnp.asarray(clicks(period, 20))
    middle = np.asarray(rhythm.tempogram(values, win_length=160, window="boxcar"))[160:-160]
    lags = np.arange(160)
    assert middle[:, lags % period != 0].max() <= 1e-6
    # Of m clicks in the window, m − j meet another one j periods later.
    count = np.stack([np.asarray(values)[t - 80 : t + 80].sum() for t in range(160, len(values) - 160)])
    for j in range(1, 160 // period):
        np.testing.assert_allclose(middle[:, j * period], np.maximum(count - j, 0) / count, atol=1e-6)
    tempi = rhythm.tempo_frequencies(160, sample_rate=CD, hop_length=441)
    assert tempi[period] == pytest.approx(60 * 100 / period)


def test_fourier_tempogram_of_a_pulse_wave():
    """Oracle: a cosine of exactly 120 beats a minute stands in the bin of 120."""
    t = np.arange(600)
    values = 1 + np.cos(2 * np.pi * 2 * t / 100)
    spectrum = np.abs(np.asarray(rhythm.fourier_tempogram(jnp.asarray(values, jnp.float32), win_length=200)))[200:-200]
    tempi = rhythm.fourier_tempo_frequencies(win_length=200, sample_rate=CD, hop_length=441)
    assert tempi[2 + spectrum[:, 2:].mean(axis=0).argmax()] == pytest.approx(120)


def test_tempo_frequencies():
    """Oracle: librosa.tempo_frequencies and fourier_tempo_frequencies."""
    expected = librosa.tempo_frequencies(384, sr=RATE, hop_length=HOP)
    np.testing.assert_allclose(rhythm.tempo_frequencies(384, sample_rate=RATE, hop_length=HOP), expected)
    expected = librosa.fourier_tempo_frequencies(sr=RATE, hop_length=HOP, win_length=101)
    given = rhythm.fourier_tempo_frequencies(win_length=101, sample_rate=RATE, hop_length=HOP)
    np.testing.assert_allclose(given, expected)


@pytest.mark.parametrize(("length", "size"), [(50, None), (64, 10), (7, 100), (1, None)])
def test_autocorrelation(envelope, length, size):
    """Oracle: librosa.autocorrelate and the sum itself."""
    values = envelope[40 : 40 + length]
    full = np.correlate(values, values, mode="full")[length - 1 :]
    given = rhythm.autocorrelate(jnp.asarray(values, jnp.float32), max_size=size)
    assert worst(given, full[:size]) <= 2e-6
    assert worst(given, librosa.autocorrelate(values, max_size=size)) <= 2e-6


def test_batches_and_jit(envelope, decibels):
    """Identity: leading axes, jit and eager give the same numbers."""
    values = jnp.asarray(np.stack([envelope[:300], envelope[100:400]])[None], jnp.float32)
    function = functools.partial(rhythm.tempogram, win_length=64)
    whole = function(values)
    assert whole.shape == (1, 2, 300, 64)
    np.testing.assert_allclose(whole[0, 1], function(values[0, 1]), atol=1e-6)
    np.testing.assert_allclose(jax.jit(function)(values), whole, atol=1e-6)
    spectra = jnp.asarray(np.stack([decibels.T[:50], decibels.T[50:100]])[None], jnp.float32)
    function = functools.partial(rhythm.onset_strength, max_size=3, detrend=True)
    whole = function(spectra)
    np.testing.assert_allclose(whole[0, 1], function(spectra[0, 1]), atol=1e-5)
    np.testing.assert_allclose(jax.jit(function)(spectra), whole, atol=1e-5)


def test_gradients():
    """Oracle: finite differences in float64; finite at silence, for every norm."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):

        def chain(values):
            onsets = rhythm.onset_strength(values, max_size=3, detrend=True, n_fft=4, hop_length=2)
            return (rhythm.tempogram(onsets, win_length=6, norm=2) ** 3).sum() + rhythm.spectral_flux(values).sum()

        check_grads(jax.jit(chain), (jnp.asarray(rng.standard_normal((9, 4))),), order=1, modes=["rev"], rtol=1e-4)
    for norm in (math.inf, 1, 2, None):
        slope = jax.grad(lambda x, norm=norm: rhythm.tempogram(x, win_length=6, norm=norm).sum())(jnp.zeros(20))
        assert np.isfinite(slope).all()


ENVELOPE, SPECTRUM = np.ones(50, np.float32), np.ones((9, 4), np.float32)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: rhythm.tempogram(ENVELOPE, win_length=0), "win_length=0"),
        (lambda: rhythm.tempogram(ENVELOPE, norm=-1), "norm=-1"),
        (lambda: rhythm.tempogram(ENVELOPE, win_length=64, center=False), "shorter than one frame"),
        (lambda: rhythm.tempogram(ENVELOPE, window="hahn"), "hahn"),
        (lambda: rhythm.tempogram(np.ones(5, np.int32)), "int32"),
        (lambda: rhythm.fourier_tempogram(ENVELOPE, win_length=-1), "win_length=-1"),
        (lambda: rhythm.onset_strength(ENVELOPE), "at least 2 axes"),
        (lambda: rhythm.onset_strength(SPECTRUM, lag=0), "lag=0"),
        (lambda: rhythm.onset_strength(SPECTRUM, max_size=0), "max_size=0"),
        (lambda: rhythm.onset_strength(SPECTRUM, aggregate="average"), "aggregate='average'"),
        (lambda: rhythm.onset_strength(SPECTRUM, reference=SPECTRUM[:3]), "must have the spectrogram's"),
        (lambda: rhythm.spectral_flux(SPECTRUM * np.nan), "NaN"),
        (lambda: rhythm.autocorrelate(ENVELOPE, max_size=0), "max_size=0"),
        (lambda: rhythm.tempo_frequencies(5, sample_rate=0), "sample_rate=0"),
        (lambda: rhythm.fourier_tempo_frequencies(hop_length=0), "hop_length=0"),
    ],
)
def test_bad_input(function, message):
    """Contract: the error names the value and the remedy."""
    with pytest.raises(ValueError, match=message):
        function()

"""Cepstra and differences against librosa and scipy in float64, on real clips."""

import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.fft
from jax.test_util import check_grads

from mirjax.signal import cepstral, mel, stft


def worst(a, b):
    return np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max()


@pytest.fixture(scope="module")
def log_mel(golden_inputs):
    """Decibels f64[2, T, 40] of two passages, by librosa."""
    bank = librosa.filters.mel(sr=12_000, n_fft=512, n_mels=40, dtype=np.float64)
    audio = golden_inputs["wave12k"][:24_000].astype(np.float64).reshape(2, -1)
    spectrum = np.abs(librosa.stft(audio, n_fft=512, hop_length=256)) ** 2
    return np.swapaxes(librosa.power_to_db(bank @ spectrum), -1, -2)


TYPES = [(1, None), (1, "ortho"), (2, None), (2, "ortho"), (3, None), (3, "ortho")]


@pytest.mark.parametrize(("dct_type", "norm"), TYPES)
@pytest.mark.parametrize("size", [2, 13, 40])
def test_dct_matrices(dct_type, norm, size):
    """Oracle: scipy.fft.dct and idct of the identity."""
    settings = {"dct_type": dct_type, "norm": norm}
    expected = scipy.fft.dct(np.eye(size), type=dct_type, norm=norm, axis=0)
    np.testing.assert_allclose(cepstral.dct_matrix(size, size, **settings), expected, atol=1e-13)
    kept = max(1, size // 2)
    np.testing.assert_array_equal(
        cepstral.dct_matrix(kept, size, **settings), cepstral.dct_matrix(size, size, **settings)[:kept]
    )
    expected = scipy.fft.idct(np.eye(size, kept), type=dct_type, norm=norm, axis=0)
    np.testing.assert_allclose(cepstral.idct_matrix(size, kept, **settings), expected, atol=1e-13)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(("dct_type", "norm"), TYPES)
@pytest.mark.parametrize("lifter", [0, 22])
def test_cepstra_of_a_log_mel_and_back(log_mel, dct_type, norm, lifter, x64):
    """Oracle: librosa.feature.mfcc of S, feature.inverse.mfcc_to_mel, in float64."""
    settings = {"dct_type": dct_type, "norm": norm, "lifter": lifter}
    transposed = np.swapaxes(log_mel, -1, -2)
    expected = librosa.feature.mfcc(S=transposed, n_mfcc=13, **settings)
    back = librosa.feature.inverse.mfcc_to_mel(expected, n_mels=40, **settings)
    with jax.enable_x64(x64):
        x = jnp.asarray(log_mel, jnp.result_type(float))
        found = cepstral.log_mel_to_mfcc(x, n_mfcc=13, **settings)
        assert worst(found, np.swapaxes(expected, -1, -2)) < (1e-13 if x64 else 1e-6)
        coefficients = jnp.asarray(np.swapaxes(expected, -1, -2), x.dtype)
        found = cepstral.mfcc_to_mel(coefficients, n_mels=40, **settings)
        assert worst(found, np.swapaxes(back, -1, -2)) < (1e-12 if x64 else 2e-5)
        whole = cepstral.log_mel_to_mfcc(x, n_mfcc=40, **settings)
        assert worst(cepstral.mfcc_to_log_mel(whole, n_mels=40, **settings), log_mel) < (1e-12 if x64 else 1e-5)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        (
            {"n_mfcc": 13, "n_mels": 40, "n_fft": 512, "hop_length": 128, "lifter": 22, "dct_type": 3, "fmax": 4000},
            {"n_mfcc": 13, "n_mels": 40, "n_fft": 512, "hop_length": 128, "lifter": 22, "dct_type": 3, "fmax": 4000},
        ),
        ({"scale": "htk", "mel_norm": None, "norm": None}, {"htk": True, "mel_norm": None, "norm": None}),
        ({"win_length": 1000, "center": False}, {"win_length": 1000, "center": False}),
    ],
)
def test_mfcc_of_audio(golden_inputs, ours, theirs, x64):
    """Oracle: librosa.feature.mfcc in float64 (its mel bank is float32: hence 2e-7 in x64)."""
    audio = golden_inputs["wave12k"][:60_000]
    expected = librosa.feature.mfcc(y=audio.astype(np.float64), sr=12_000, **theirs).T
    with jax.enable_x64(x64):
        found = cepstral.mfcc(jnp.asarray(audio, jnp.result_type(float)), sample_rate=12_000, **ours)
        assert found.dtype == jnp.result_type(float)
        assert worst(found, expected) < (2e-7 if x64 else 2e-5)


def test_mfcc_of_other_floors_and_lengths(golden_inputs):
    """Oracle: the float64 chain in numpy; the clip before it was padded."""
    audio = jnp.asarray(golden_inputs["wave12k"][:30_000])
    bank = librosa.filters.mel(sr=12_000, n_fft=2048, dtype=np.float64)
    power = bank @ np.abs(librosa.stft(np.asarray(audio, np.float64), hop_length=512)) ** 2
    for top_db in (20.0, None):
        expected = scipy.fft.dct(librosa.power_to_db(power, top_db=top_db), axis=0, norm="ortho")[:20].T
        assert worst(cepstral.mfcc(audio, sample_rate=12_000, top_db=top_db), expected) < 2e-5
    padded = jnp.stack([jnp.pad(audio, (0, 4000)), jnp.pad(audio[:20_000], (0, 14_000))])
    lengths = np.array([30_000, 20_000])
    for center in (True, False):
        settings = {"sample_rate": 12_000, "top_db": 30.0, "center": center}
        transform = jax.jit(functools.partial(cepstral.mfcc, **settings))
        found = transform(padded, length=lengths)
        for clip, length, values in zip((audio, audio[:20_000]), lengths, found, strict=True):
            alone = transform(clip)
            # The last frames of the clip alone see its end, those of the padded one too.
            assert len(alone) == stft.num_frames(length, frame_length=2048, hop_length=512, center=center)
            np.testing.assert_allclose(values[: len(alone)], alone, atol=2e-3)


def test_golden_mfcc(golden_inputs):
    """Oracle: the golden vector, made by librosa."""
    statistics = jax.jit(functools.partial(cepstral.mfcc_statistics, sample_rate=12_000))
    baseline = statistics(golden_inputs["wave12k"])
    assert np.abs(np.asarray(baseline) - golden_inputs["mfcc120"]).max() <= 1e-3


def test_statistics_equal_librosa_and_ignore_padding(embedded_clip):
    """Oracle: librosa.feature.mfcc, numpy differences, means and deviations; a clip's padding and neighbours."""
    clips = [np.pad(clip, (0, max(0, 2048 - len(clip)))) for clip in embedded_clip]
    lengths = np.array([len(clip) for clip in clips])
    padded = np.stack([np.pad(clip, (0, lengths.max() + 3000 - len(clip))) for clip in clips])
    statistics = jax.jit(functools.partial(cepstral.mfcc_statistics, sample_rate=12_000))
    for clip, found in zip(clips, statistics(padded, length=lengths), strict=True):
        coefficients = librosa.feature.mfcc(y=clip.astype(np.float64), sr=12_000)
        orders = [np.diff(coefficients, n=order) for order in range(3)]
        expected = np.concatenate([np.concatenate([v.mean(axis=1), v.std(axis=1)]) for v in orders])
        assert np.abs(np.asarray(found) - expected).max() <= 1e-3
    assert jnp.isfinite(jax.jit(jax.grad(lambda x: statistics(x).sum()))(jnp.zeros(4096))).all()


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("mode", ["interp", "nearest", "mirror", "constant", "wrap"])
@pytest.mark.parametrize(("width", "order", "polyorder"), [(9, 1, None), (3, 1, None), (9, 2, None), (7, 1, 3)])
def test_delta(log_mel, width, order, polyorder, mode, x64):
    """Oracle: librosa.feature.delta in float64."""
    rest = {} if polyorder is None else {"polyorder": polyorder}
    expected = librosa.feature.delta(log_mel, width=width, order=order, axis=-2, mode=mode, **rest)
    with jax.enable_x64(x64):
        found = cepstral.delta(
            jnp.asarray(log_mel, jnp.result_type(float)), width=width, order=order, polyorder=polyorder, mode=mode
        )
        assert worst(found, expected) < (1e-12 if x64 else 2e-6)


def test_differences(log_mel):
    """Oracle: numpy.diff; a straight line has a delta of its slope everywhere (hand-worked)."""
    x = jnp.asarray(log_mel, jnp.float32)
    for order in (1, 2):
        np.testing.assert_allclose(cepstral.difference(x, order=order), np.diff(x, n=order, axis=1), atol=1e-5)
    line = 3 * jnp.arange(12.0)[:, None] + 5
    np.testing.assert_allclose(cepstral.delta(line), 3, rtol=1e-5)
    np.testing.assert_allclose(cepstral.delta(line**2, order=2), 18, rtol=1e-4)


def test_delta_of_the_shortest_clip(log_mel):
    """Oracle: librosa.feature.delta of exactly `width` frames."""
    expected = librosa.feature.delta(log_mel[:, :9], axis=-2)
    assert worst(cepstral.delta(jnp.asarray(log_mel[:, :9], jnp.float32)), expected) < 2e-6


FUNCTIONS = {
    "log_mel_to_mfcc": functools.partial(cepstral.log_mel_to_mfcc, n_mfcc=5, lifter=22),
    "mfcc_to_mel": functools.partial(cepstral.mfcc_to_mel, n_mels=50, ref=2.0),
    "delta": cepstral.delta,
    "delta_nearest": functools.partial(cepstral.delta, order=2, mode="nearest"),
    "difference": cepstral.difference,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_contract(log_mel, name):
    """Oracle: itself without jit, one item at a time, finite differences."""
    function, x = FUNCTIONS[name], jnp.asarray(log_mel[:, :12], jnp.float32) / 20
    together = function(x)
    np.testing.assert_allclose(jax.jit(function)(x), together, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(function)(x), together, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(function(x[1]), together[1], rtol=1e-4, atol=1e-5)
    with jax.enable_x64(True):
        check_grads(jax.jit(function), (jnp.asarray(log_mel[0, :10, :6] / 20),), order=1, modes=["rev"], rtol=1e-4)


def test_mfcc_gradient(golden_inputs):
    """Oracle: finite differences in float64; finite at silence."""
    settings = {"sample_rate": 12_000, "n_fft": 128, "hop_length": 64, "n_mels": 8, "n_mfcc": 4}
    transform = jax.jit(functools.partial(cepstral.mfcc, **settings))
    with jax.enable_x64(True):
        audio = jnp.asarray(golden_inputs["wave12k"][20_000:20_300], jnp.float64)
        check_grads(transform, (audio,), order=1, modes=["rev"], rtol=1e-3, eps=1e-7)
        assert jnp.isfinite(jax.grad(lambda x: transform(x).sum())(jnp.zeros(300))).all()


X = jnp.ones((9, 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cepstral.dct_matrix(7, 6), "7 coefficients of 6 bands"),
        (lambda: cepstral.dct_matrix(3, 6, dct_type=4), "dct_type=4"),
        (lambda: cepstral.dct_matrix(3, 6, norm="forward"), "norm='forward'"),
        (lambda: cepstral.dct_matrix(1, 1, dct_type=1), "size=1"),
        (lambda: cepstral.idct_matrix(3, 6), "6 coefficients need at least as many bands, not 3"),
        (lambda: cepstral.idct_matrix(6, 3, dct_type=0), "dct_type=0"),
        (lambda: cepstral.log_mel_to_mfcc(X, n_mfcc=20), "20 coefficients of 6 bands"),
        (lambda: cepstral.log_mel_to_mfcc(X, n_mfcc=4, lifter=-1), "lifter=-1"),
        (lambda: cepstral.mfcc_to_log_mel(X, lifter=2), "lifter=2 sets coefficient 2 to 0"),
        (lambda: cepstral.delta(X, width=8), "width=8 must be an odd"),
        (lambda: cepstral.delta(X, width=1), "width=1"),
        (lambda: cepstral.delta(X, order=0), "order=0"),
        (lambda: cepstral.delta(X, width=3, order=3), "polyorder < width"),
        (lambda: cepstral.delta(X, width=11), "fits 11 frames and there are 9"),
        (lambda: cepstral.delta(X, mode="reflect"), "mode='reflect'"),
        (lambda: cepstral.difference(X, order=0), "order=0"),
        (lambda: cepstral.mfcc(jnp.ones(4000), sample_rate=12_000, n_mfcc=200), "200 coefficients of 128"),
        (lambda: cepstral.mfcc_statistics(jnp.zeros(2000), sample_rate=12_000), "2048"),
    ],
)
def test_bad_input_is_named(call, message):
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match=message):
        call()


def test_inverse_to_audio_chain(golden_inputs):
    """Oracle: the mel spectrogram, when no coefficient was dropped."""
    audio = jnp.asarray(golden_inputs["wave12k"][:6000])
    settings = {"sample_rate": 12_000, "n_fft": 512, "hop_length": 256, "n_mels": 40}
    bands = mel.mel_spectrogram(audio, **settings)
    coefficients = cepstral.mfcc(audio, n_mfcc=40, top_db=None, **settings)
    assert worst(cepstral.mfcc_to_mel(coefficients, n_mels=40), bands) < 1e-4

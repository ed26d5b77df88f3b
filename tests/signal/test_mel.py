"""Log-mel and MFCC against librosa in float64, on real clips."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from mirjax.signal import mel, representations, stft

SETTING = {"sample_rate": 12_000, "n_fft": 512, "hop_length": 256, "n_mels": 96}


def reference(audio, *, sample_rate, n_fft, hop_length, n_mels):
    filters = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, dtype=np.float64)
    return (filters @ np.abs(librosa.stft(audio.astype(np.float64), n_fft=n_fft, hop_length=hop_length)) ** 2).T


def worst(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


def clips(golden_inputs, embedded_clip):
    return [golden_inputs["wave12k"], *embedded_clip]


def test_mel_power_within_1e6_of_float64(golden_inputs, embedded_clip):
    """Oracle: librosa.filters.mel and librosa.stft in float64."""
    for audio in clips(golden_inputs, embedded_clip):
        assert worst(mel.mel_spectrogram(jnp.asarray(audio), **SETTING), reference(audio, **SETTING)) <= 1e-6


def test_decibels_within_5e3_of_float64(golden_inputs, embedded_clip):
    """Oracle: librosa.power_to_db of the float64 mel spectrogram."""
    for audio in clips(golden_inputs, embedded_clip):
        expected = librosa.power_to_db(reference(audio, **SETTING), top_db=80)
        assert np.abs(np.asarray(representations.LogMel()(jnp.asarray(audio))) - expected).max() <= 5e-3


def test_float64_end_to_end(golden_inputs, embedded_clip):
    """Oracle: the same, under jax_enable_x64."""
    with jax.enable_x64(True):
        for audio in clips(golden_inputs, embedded_clip)[:3]:
            audio = audio.astype(np.float64)
            power, expected = mel.mel_spectrogram(jnp.asarray(audio), **SETTING), reference(audio, **SETTING)
            assert power.dtype == jnp.float64
            assert worst(power, expected) <= 1e-9
            decibels = representations.LogMel()(jnp.asarray(audio))
            assert np.abs(np.asarray(decibels) - librosa.power_to_db(expected, top_db=80)).max() <= 1e-6


@pytest.mark.parametrize(
    "setting",
    [
        {"sample_rate": 22_050, "n_fft": 1024, "hop_length": 512, "n_mels": 128},
        {"sample_rate": 44_100, "n_fft": 2048, "hop_length": 512, "n_mels": 128},
    ],
)
def test_other_settings_and_blocks_of_frames(golden_inputs, setting):
    """Oracle: librosa in float64; the second setting is long enough to be computed in blocks."""
    audio = np.tile(golden_inputs["wave12k"], 3)
    assert worst(mel.mel_spectrogram(jnp.asarray(audio), **setting), reference(audio, **setting)) <= 1e-6


def test_golden_log_mel_and_mfcc(golden_inputs):
    """Oracle: the golden vectors, made by librosa."""
    audio = jnp.asarray(golden_inputs["wave12k"])
    assert np.abs(np.asarray(representations.LogMel()(audio)) - golden_inputs["logmel"]).max() <= 5e-3
    baseline = mel.mfcc_statistics(audio, sample_rate=12_000)
    assert np.abs(np.asarray(baseline) - golden_inputs["mfcc120"]).max() <= 1e-3


def test_mfcc_equals_librosa_and_ignores_padding(embedded_clip):
    """Oracle: librosa.feature.mfcc, numpy differences, means and deviations."""
    for audio in embedded_clip:
        audio = np.pad(audio, (0, max(0, 2048 - len(audio))))
        coefficients = librosa.feature.mfcc(y=audio.astype(np.float64), sr=12_000)
        orders = [np.diff(coefficients, n=order) for order in range(3)]
        expected = np.concatenate([np.concatenate([v.mean(axis=1), v.std(axis=1)]) for v in orders])
        padded = jnp.asarray(np.pad(audio, (0, 3000)))
        for values in (
            mel.mfcc_statistics(jnp.asarray(audio), sample_rate=12_000),
            mel.mfcc_statistics(padded, sample_rate=12_000, length=len(audio)),
        ):
            assert np.abs(np.asarray(values) - expected).max() <= 1e-3


def test_leading_axes_and_shapes(golden_inputs):
    """Oracle: the transform of each clip alone; librosa's number of frames."""
    audio = jnp.asarray(golden_inputs["wave12k"][:24_000]).reshape(2, 2, 6_000)
    log_mel = representations.LogMel()
    together = log_mel(audio)
    assert together.shape == (2, 2, *log_mel.shape(6_000)) == (2, 2, 1 + 6_000 // 256, 96)
    alone = log_mel(audio[1, 0])
    np.testing.assert_allclose(together[1, 0], alone, rtol=0, atol=1e-4)


def test_silence_is_finite():
    """Oracle: hand-worked, 10·log10(1e-10) = -100 dB everywhere."""
    values = representations.LogMel()(jnp.zeros(6_000))
    assert np.asarray(values == -100.0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_mels": 400}, "empty bands"),
        ({"n_fft": 511}, "even number"),
        ({"hop_length": 0}, "hop_length=0"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match=message):
        mel.mel_spectrogram(jnp.ones(1_000), **SETTING | arguments)


def test_no_samples_and_bad_edges():
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match="no samples"):
        stft.power_spectrogram(jnp.zeros((2, 0)), n_fft=512, hop_length=256)
    with pytest.raises(ValueError, match="fmin=7000"):
        mel.mel_filters(sample_rate=12_000, n_fft=512, n_mels=96, fmin=7000)
    with pytest.raises(ValueError, match="2048"):
        mel.mfcc_statistics(jnp.zeros(2_000), sample_rate=12_000)

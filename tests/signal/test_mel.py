"""Mel spectrograms and their inverse against librosa in float64, on real clips."""

import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from mirjax.signal import compression, filters, mel, stft

SETTING = {"sample_rate": 12_000, "n_fft": 512, "hop_length": 256, "n_mels": 96}


def reference(audio, *, sample_rate, n_fft, hop_length, n_mels, power=2.0, fmin=0.0, fmax=None, scale="slaney", **rest):
    """librosa.feature.melspectrogram with a float64 bank (its own is float32)."""
    norm = rest.pop("norm", "slaney")
    bank = librosa.filters.mel(
        sr=sample_rate,
        n_fft=n_fft,
        n_mels=n_mels,
        fmin=fmin,
        fmax=fmax,
        htk=scale == "htk",
        norm=norm,
        dtype=np.float64,
    )
    spectrum = np.abs(librosa.stft(audio.astype(np.float64), n_fft=n_fft, hop_length=hop_length, **rest))
    return np.swapaxes(bank @ spectrum**power, -1, -2)


def worst(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


def log_mel(audio):
    """Decibels floored 80 dB below the clip's maximum."""
    return compression.power_to_db(mel.mel_spectrogram(audio, **SETTING))


def slope(function, x, direction, step=1e-7):
    """Central difference of a function along a direction; a short step, as magnitudes have kinks at 0."""
    return float((function(x + step * direction) - function(x - step * direction)) / (2 * step))


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
        assert np.abs(np.asarray(log_mel(jnp.asarray(audio))) - expected).max() <= 5e-3


def test_float64_end_to_end(golden_inputs, embedded_clip):
    """Oracle: the same, under jax_enable_x64."""
    with jax.enable_x64(True):
        for audio in clips(golden_inputs, embedded_clip)[:3]:
            audio = audio.astype(np.float64)
            power, expected = mel.mel_spectrogram(jnp.asarray(audio), **SETTING), reference(audio, **SETTING)
            assert power.dtype == jnp.float64
            assert worst(power, expected) <= 1e-13
            decibels = log_mel(jnp.asarray(audio))
            assert np.abs(np.asarray(decibels) - librosa.power_to_db(expected, top_db=80)).max() <= 1e-9


OTHER = [
    {"sample_rate": 22_050, "n_fft": 1024, "hop_length": 512, "n_mels": 128},
    {"sample_rate": 44_100, "n_fft": 2048, "hop_length": 512, "n_mels": 128},
    SETTING | {"power": 1.0, "norm": None, "window": "hamming"},
    SETTING | {"win_length": 400, "n_mels": 40, "scale": "htk", "norm": 1, "fmin": 125, "fmax": 3800.5},
    SETTING | {"center": False, "hop_length": 100, "n_mels": 40},
    SETTING | {"pad_mode": "reflect", "n_mels": 40, "window": np.sin(np.pi * np.arange(512) / 512)},
]


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("setting", OTHER)
def test_other_settings_and_blocks_of_frames(golden_inputs, setting, x64):
    """Oracle: librosa in float64; the second setting is long enough to be computed in blocks."""
    audio = np.tile(golden_inputs["wave12k"], 3)[:250_001]
    with jax.enable_x64(x64):
        found = mel.mel_spectrogram(jnp.asarray(audio, jnp.result_type(float)), **setting)
        assert worst(found, reference(audio, **setting)) <= (1e-13 if x64 else 1e-6)


def test_odd_n_fft(golden_inputs):
    """Oracle: librosa's stft and the float64 bank."""
    audio, setting = golden_inputs["wave12k"][:20_000], {"sample_rate": 12_000, "n_fft": 501, "n_mels": 40}
    bank = filters.mel_filters(**setting)
    spectrum = np.abs(librosa.stft(audio.astype(np.float64), n_fft=501)) ** 2
    assert worst(mel.mel_spectrogram(jnp.asarray(audio), **setting), (bank @ spectrum).T) <= 1e-6


def test_golden_log_mel(golden_inputs):
    """Oracle: the golden vectors, made by librosa."""
    audio = jnp.asarray(golden_inputs["wave12k"])
    assert np.abs(np.asarray(log_mel(audio)) - golden_inputs["logmel"]).max() <= 5e-3


def test_leading_axes_and_shapes(golden_inputs):
    """Oracle: the transform of each clip alone; librosa's number of frames; vmap and jit."""
    audio = jnp.asarray(golden_inputs["wave12k"][:24_000]).reshape(2, 2, 6_000)
    transform = functools.partial(mel.mel_spectrogram, **SETTING)
    together = transform(audio)
    assert together.shape == (2, 2, 1 + 6_000 // 256, 96)
    np.testing.assert_allclose(together[1, 0], transform(audio[1, 0]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.jit(transform)(audio), together, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(transform)(audio), together, rtol=1e-5, atol=1e-6)


def test_frames_alone(golden_inputs):
    """Oracle: the mel spectrogram; what a stream applies to its frames."""
    audio = jnp.asarray(golden_inputs["wave12k"][:6_000])
    frames = stft.frame(audio, frame_length=512, hop_length=256)
    bank = filters.mel_filters(sample_rate=12_000, n_fft=512, n_mels=96)
    found = mel.mel_of_frames(frames, window=stft.get_window("hann", 512), filters=bank)
    np.testing.assert_allclose(found, mel.mel_spectrogram(audio, **SETTING), rtol=1e-5, atol=1e-7)


def test_silence_is_finite():
    """Oracle: hand-worked, 10·log10(1e-10) = -100 dB everywhere."""
    values = log_mel(jnp.zeros(6_000))
    assert np.asarray(values == -100.0).all()


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_gradients(golden_inputs, power):
    """Oracle: finite differences in float64; 0 at silence."""
    transform = functools.partial(mel.mel_spectrogram, sample_rate=12_000, n_fft=128, n_mels=10, power=power)
    with jax.enable_x64(True):
        audio = jnp.asarray(golden_inputs["wave12k"][5_000:5_300], jnp.float64)
        total = jax.jit(lambda x: transform(x).sum())
        direction = jnp.asarray(np.random.default_rng(0).normal(size=300))
        assert slope(total, audio, direction) == pytest.approx(float(jax.grad(total)(audio) @ direction), rel=1e-5)
        assert (jax.grad(total)(jnp.zeros(300)) == 0).all()


def test_low_precision_input(golden_inputs):
    """Oracle: the float32 result of the same samples rounded to bfloat16; the transform itself is in float32."""
    audio = jnp.asarray(golden_inputs["wave12k"][:6_000]).astype(jnp.bfloat16)
    found = mel.mel_spectrogram(audio, **SETTING)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, mel.mel_spectrogram(audio.astype(jnp.float32), **SETTING))


INVERSE = {"sample_rate": 12_000, "n_fft": 512}


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("setting", [{"n_mels": 40}, {"n_mels": 96, "power": 1.0}, {"n_mels": 96}])
def test_inverse_is_nearer_than_librosa(golden_inputs, setting, x64):
    """Oracle: librosa.feature.inverse.mel_to_stft: ours fits the bands, and the true spectrum, better."""
    audio, power = golden_inputs["wave12k"][20_000:23_000].astype(np.float64), setting.get("power", 2.0)
    given = reference(audio, **INVERSE, hop_length=256, **setting)
    theirs = librosa.feature.inverse.mel_to_stft(given.T, sr=12_000, n_fft=512, power=power).T
    true = np.abs(librosa.stft(audio, n_fft=512, hop_length=256)).T
    with jax.enable_x64(x64):
        found = mel.mel_to_spectrogram(jnp.asarray(given, jnp.result_type(float)), **INVERSE, power=power)
        found = np.asarray(found, np.float64)
    bank = filters.mel_filters(n_mels=setting["n_mels"], **INVERSE)
    misfit = [np.linalg.norm(s**power @ bank.T - given) / np.linalg.norm(given) for s in (found, theirs)]
    distance = [np.linalg.norm(s - true) / np.linalg.norm(true) for s in (found, theirs)]
    assert found.min() >= 0
    assert misfit[0] < min(misfit[1], 1e-3), misfit
    assert distance[0] < distance[1], distance


def test_inverse_of_unfeasible_bands():
    """Oracle: scipy.optimize.nnls, whose least sum of squares is unique where the spectrum is not."""
    import scipy.optimize

    given = np.random.default_rng(0).uniform(0, 1, (3, 20))  # no spectrum has such bands
    with jax.enable_x64(True):
        found = mel.mel_to_spectrogram(
            jnp.asarray(given), sample_rate=8_000, n_fft=64, allow_empty=True, num_iterations=2000
        )
    bank = filters.mel_filters(sample_rate=8_000, n_fft=64, n_mels=20, allow_empty=True)
    for row, target in zip(np.asarray(found) ** 2, given, strict=True):
        _, least = scipy.optimize.nnls(bank, target)
        assert np.linalg.norm(bank @ row - target) <= least * (1 + 1e-6)


def test_inverse_leading_axes_and_gradients(golden_inputs):
    """Oracle: one item at a time; finite differences in float64; finite at silence."""
    audio = jnp.asarray(golden_inputs["wave12k"][20_000:24_000]).reshape(2, 2_000)
    bands = mel.mel_spectrogram(audio, sample_rate=12_000, n_fft=128, n_mels=12)
    inverse = functools.partial(mel.mel_to_spectrogram, sample_rate=12_000, n_fft=128, num_iterations=20)
    together = inverse(bands)
    np.testing.assert_allclose(together[1], inverse(bands[1]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(jax.jit(inverse)(bands), together, rtol=1e-4, atol=1e-4)
    assert (inverse(jnp.zeros((2, 12))) == 0).all()
    assert jnp.isfinite(jax.grad(lambda m: inverse(m).sum())(jnp.zeros((2, 12)))).all()
    with jax.enable_x64(True):
        total = jax.jit(lambda m: inverse(m, power=1.0).sum())
        x = jnp.asarray(bands[0, 5:7], jnp.float64)
        assert slope(total, x, 0.1 * x) == pytest.approx(float((jax.grad(total)(x) * 0.1 * x).sum()), rel=1e-5)


def test_mel_to_audio(golden_inputs):
    """Oracle: the mel spectrogram that was inverted, within 15 % (found: 9 %; librosa: 10 %)."""
    audio = golden_inputs["wave12k"][20_000:32_000]
    setting = {"sample_rate": 12_000, "n_fft": 512, "hop_length": 128}
    given = mel.mel_spectrogram(jnp.asarray(audio), n_mels=64, power=1.0, **setting)
    found = mel.mel_to_audio(given, power=1.0, length=12_000, key=jax.random.key(0), num_iterations=32, **setting)
    assert found.shape == (12_000,)
    again = mel.mel_spectrogram(found, n_mels=64, power=1.0, **setting)
    assert jnp.linalg.norm(again - given) < 0.15 * jnp.linalg.norm(given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_mels": 400}, "empty bands"),
        ({"n_fft": 0}, "n_fft=0"),
        ({"hop_length": 0}, "hop_length=0"),
        ({"win_length": 513}, "513"),
        ({"power": 0}, "power=0"),
        ({"fmin": 7000}, "fmin=7000"),
        ({"fmax": 7000}, "fmax=7000"),
        ({"sample_rate": 0}, "sample_rate=0"),
        ({"scale": "mel"}, "scale='mel'"),
        ({"pad_mode": "zeros"}, "pad_mode='zeros'"),
        ({"window": "hnan"}, "hnan"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match=message):
        mel.mel_spectrogram(jnp.ones(1_000), **SETTING | arguments)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (jnp.zeros((2, 0)), r"\(2, 0\) needs at least 1 sample"),
        (jnp.ones(1_000, jnp.int16), "int16"),
        (jnp.ones(1_000).at[3].set(jnp.nan), "NaN"),
        (jnp.float32(1), r"shape \(\)"),
    ],
)
def test_bad_audio_is_named(audio, message):
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match=message):
        mel.mel_spectrogram(audio, **SETTING)


def test_bad_inverses_are_named():
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match="num_iterations=0"):
        mel.mel_to_spectrogram(jnp.ones((3, 40)), **INVERSE, num_iterations=0)
    with pytest.raises(ValueError, match="n_mels=400"):
        mel.mel_to_spectrogram(jnp.ones((3, 400)), **INVERSE)

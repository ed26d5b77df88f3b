"""Representations as values: shapes, rates, channels, dtypes; the presets' table, field by field."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from mirjax.signal import chroma, cqt, filtered, pitch, presets, rhythm, stft
from mirjax.signal.compression import PCEN, Decibels, Linear, LogFloor, LogOffset, LogScaled
from mirjax.signal.descriptors import (
    HarmonicPercussive,
    Loudness,
    OnsetStrength,
    Pitch,
    PreEmphasis,
    Resampled,
    SpectralShape,
    Tempogram,
    TwoStageHPSS,
)
from mirjax.signal.representations import CENS, MFCC, Chroma, FilteredSpectrogram, LogCQT, LogMel, Spectrogram, Waveform


def worst(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


@pytest.fixture(scope="module")
def clip(golden_inputs):
    """3 s of music at 12 kHz."""
    return golden_inputs["wave12k"][30_000:66_000]


ALL = {
    **{name: preset.representation for name, preset in presets.PRESETS.items()},
    "spectrogram": Spectrogram(),
    "cqt": LogCQT(sample_rate=12_000, n_bins=60),
    "chroma": Chroma(),
    "cens": CENS(sample_rate=12_000, n_octaves=4, bins_per_octave=12, fmin=65.4),
    "onsets": OnsetStrength(),
    "tempogram": Tempogram(win_length=48),
    "pitch": Pitch(),
    "shape": SpectralShape(),
    "loudness": Loudness(12_000),
    "harmonic": HarmonicPercussive(),
}


@pytest.mark.parametrize("name", ALL)
def test_contract(name, clip):
    """Identity: a hashable value that tells its shape, width and rate; jit = eager; rows independent; no NaN."""
    representation = ALL[name]
    assert hash(representation) == hash(dataclasses.replace(representation)) and representation.sample_rate > 0
    audio = np.stack([clip, 0 * clip, clip[::-1]])
    if representation.num_channels == 2:
        audio = np.stack([audio, audio[::-1]], axis=1)
    values = np.asarray(representation(audio))
    assert values.shape[1:] == representation.shape(audio.shape[-1]) and np.isfinite(values).all()
    np.testing.assert_allclose(values, jax.jit(representation)(audio), rtol=0, atol=1e-6 * np.abs(values).max())
    np.testing.assert_allclose(values[2], representation(audio[2]), rtol=0, atol=1e-5 * np.abs(values).max())
    if isinstance(representation, Waveform):
        return
    assert values.shape[2] == representation.num_bins
    seconds = audio.shape[-1] / representation.sample_rate
    assert abs(values.shape[1] - seconds * representation.frame_rate) <= 4
    gradient = jax.grad(lambda x: representation(x).sum())(jnp.asarray(audio[1]))
    assert np.isfinite(gradient).all()


def test_values_are_the_functions(clip):
    """Identity: a representation is its function with the same settings."""
    x = clip
    power = stft.spectrogram(x, n_fft=1024, hop_length=300, power=2.0)
    np.testing.assert_array_equal(Spectrogram(12_000, 1024, 300, power=2.0)(x), power)
    magnitudes = np.abs(cqt.cqt(x, sample_rate=12_000, n_bins=60))
    assert worst(LogCQT(12_000, n_bins=60, power=1.0, compression=Linear())(x), magnitudes) <= 1e-6
    assert worst(Chroma(12_000)(x), np.asarray(chroma.chroma_stft(x, sample_rate=12_000))) <= 1e-5
    settings = {"sample_rate": 12_000, "n_octaves": 4, "bins_per_octave": 12, "fmin": 65.4}
    np.testing.assert_allclose(CENS(**settings)(x), chroma.chroma_cens(x, **settings), rtol=0, atol=1e-5)
    ours, theirs = (
        FilteredSpectrogram()(x),
        filtered.filtered_differences(x, sample_rate=44_100, frame_sizes=(1024, 2048, 4096), num_bands=(3, 6, 12)),
    )
    assert worst(ours, np.asarray(theirs)) <= 1e-6
    frequencies = pitch.yin(x, fmin=65.41, fmax=2093.0, sample_rate=12_000, hop_length=512)
    np.testing.assert_allclose(Pitch(12_000)(x)[:, 0], frequencies, rtol=1e-5)
    log_mel = LogMel(12_000, 2048, 512, 64, compression=Decibels(top_db=None))
    envelope = rhythm.onset_strength(log_mel(x))
    assert worst(OnsetStrength(log_mel)(x)[:, 0], np.asarray(envelope)) <= 1e-5
    tempogram = rhythm.tempogram(envelope, win_length=48)
    assert worst(Tempogram(OnsetStrength(log_mel), win_length=48)(x), np.asarray(tempogram)) <= 1e-4


def test_mfcc_equals_librosa(clip):
    """Oracle: librosa.feature.mfcc and librosa.feature.delta in float64."""
    expected = librosa.feature.mfcc(y=clip.astype(np.float64), sr=12_000, n_mfcc=13, lifter=22)
    expected = np.concatenate([expected, librosa.feature.delta(expected, mode="nearest")]).T
    ours = MFCC(LogMel(12_000, 2048, 512, 128), n_mfcc=13, lifter=22, deltas=1)(clip)
    assert worst(ours, expected) <= 2e-6


def test_log_mel_golden_and_silent(golden_inputs):
    """Oracle: the golden vectors, made by librosa; hand-worked, 10·log10(1e-10) = −100 dB at silence."""
    assert np.abs(np.asarray(LogMel()(golden_inputs["wave12k"])) - golden_inputs["logmel"]).max() <= 5e-3
    assert np.asarray(LogMel()(np.zeros(6_000)) == -100.0).all()


def test_stereo_is_two_channels_last(clip):
    """Identity: Kim et al.'s input is the mono representation of each channel."""
    kim = presets.preset("kim").representation
    audio = np.stack([clip, clip[::-1]])
    both = kim(audio)
    assert both.shape == kim.shape(len(clip)) == (1 + len(clip) // 256, 128, 2)
    mono = dataclasses.replace(kim, num_channels=1)
    np.testing.assert_allclose(both[..., 1], mono(audio[1]), rtol=0, atol=1e-4)
    assert kim(np.stack([audio] * 3)).shape == (3, *both.shape)
    with pytest.raises(ValueError, match=r"audio of shape \(36000,\) must be \[..., 2, N\].*repeat a mono clip"):
        kim(clip)


def test_channels_go_through_compositions(clip):
    """Identity: what is made of a two-channel representation is the mono one of each channel, channels last."""
    stereo = LogMel(num_channels=2, compression=LogScaled())
    audio = np.stack([clip, clip[::-1]])
    for wrap in (
        lambda log_mel: MFCC(log_mel, deltas=1),
        OnsetStrength,
        lambda log_mel: Tempogram(OnsetStrength(log_mel), win_length=32),
        HarmonicPercussive,
        PreEmphasis,
        lambda log_mel: Resampled(log_mel, sample_rate=16_000),
    ):
        both, one = wrap(stereo), wrap(dataclasses.replace(stereo, num_channels=1))
        values = both(audio)
        assert values.shape == both.shape(len(clip)) == (*one.shape(len(clip)), 2)
        np.testing.assert_allclose(values[..., 1], one(audio[1]), rtol=0, atol=1e-4)
        with pytest.raises(ValueError, match=r"must be \[..., 2, N\]"):
            both(clip)
    with pytest.raises(ValueError, match="num_channels=2: the separation takes one channel"):
        TwoStageHPSS(LogMel(16_000, num_channels=2))(audio)


def test_settings_must_be_hashable():
    """Oracle: representations are values; arrays and lists cannot be."""
    with pytest.raises(ValueError, match=r"LogMel holds a setting that cannot be hashed.*windows by name"):
        LogMel(window=np.hanning(512))
    with pytest.raises(ValueError, match="Spectrogram holds a setting that cannot be hashed"):
        Spectrogram(window=[1.0, 2.0])
    for bad in (LogMel(hop_length=0), Waveform(-1)):
        with pytest.raises(ValueError, match="must be a number above 0"):
            _ = bad.frame_rate


def test_half_precision_inputs(clip):
    """Oracle: float64 log-mel of librosa. bfloat16 keeps 8 bits: its rounding noise lies 50 dB below the signal, so the
    bound holds for bands within 30 dB of the maximum; all values are finite."""
    filters = librosa.filters.mel(sr=12_000, n_fft=512, n_mels=96, dtype=np.float64)
    power = (filters @ np.abs(librosa.stft(clip.astype(np.float64), n_fft=512, hop_length=256)) ** 2).T
    expected = librosa.power_to_db(power)
    loud = expected > expected.max() - 30
    for dtype, limit in ((jnp.bfloat16, 0.3), (jnp.float16, 0.03)):
        ours = LogMel()(jnp.asarray(clip, dtype))
        assert ours.dtype == jnp.float32 and np.isfinite(ours).all()
        assert np.abs(np.asarray(ours) - expected)[loud].max() <= limit
        quiet = LogMel()(jnp.asarray(clip * 1e-20, dtype))
        assert np.isfinite(quiet).all()


@pytest.mark.parametrize(
    ("representation", "message"),
    [
        (LogMel(hop_length=0), "hop_length=0"),
        (LogMel(n_mels=400), "n_mels=400 leaves"),
        (LogMel(fmin=6000.0), "fmin=6000"),
        (LogMel(fmax=7000.0), "fmax=7000"),
        (LogMel(win_length=600), "win_length=600 is longer than n_fft=512"),
        (LogMel(sample_rate=0), "sample_rate=0"),
        (Waveform(0), "sample_rate=0"),
        (Spectrogram(-1), "sample_rate=-1"),
        (SpectralShape(0), "sample_rate=0"),
        (LogMel(power=0.0), "power=0.0"),
        (LogMel(mel_power=-1.0), "mel_power=-1.0"),
        (LogMel(num_channels=0), "num_channels=0"),
        (LogMel(compression="db"), "compression='db' must be a value such as"),
        (MFCC(deltas=3), "deltas=3 must be 0, 1 or 2"),
        (LogMel(window="hannn"), "window='hannn'"),
        (LogMel(scale="bark"), "scale='bark'"),
        (Spectrogram(n_fft=0), "n_fft=0"),
        (MFCC(n_mfcc=200), "200 coefficients of 128 bands"),
        (LogCQT(n_bins=200), "half the sample rate|Nyquist"),
        (FilteredSpectrogram(fmax=30_000.0), "fmax=30000"),
        (FilteredSpectrogram(end="later"), "end='later'"),
        (Pitch(fmin=3000.0), "fmin=3000"),
    ],
)
def test_bad_settings_are_named(representation, message, clip):
    """Oracle: the errors the docstrings promise, the same under jit."""
    for call in (representation, jax.jit(representation)):
        with pytest.raises(ValueError, match=message):
            call(clip)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(0, np.float32), "needs at least 1 samples"),
        (np.zeros((0, 512), np.float32), "none of them empty"),
        (np.zeros(512, np.int16), "divide integer samples by 32768"),
        (np.full(512, np.nan, np.float32), "NaN or infinity"),
    ],
)
def test_bad_audio_is_named(audio, message):
    """Oracle: the errors the docstrings promise."""
    for representation in (LogMel(), Waveform(), FilteredSpectrogram(), LogCQT(n_bins=12)):
        with pytest.raises(ValueError, match=message):
            representation(audio)


# The sources' values, as ARCHITECTURES §2–10 state them: sample rate, frame, hop, bands, lowest and highest frequency,
# compression, frames of the input, normalisation.
LOG_MEL = {
    "ballroom": (44_100, 2048, 1024, 40, 0, 22_050, LogScaled(10_000, 10), 80, "global"),
    "phonemes": (44_100, 2204, 441, 80, 0, 11_000, LogScaled(100_000, math.e), 21, "per band"),
    "irmas": (12_000, 512, 256, 96, 0, 6000, Decibels(), 128, "global"),
    "irmas_legacy": (12_000, 512, 256, 96, 0, 6000, Decibels(), 128, "mean patch"),
    "mtt_timbre": (16_000, 512, 256, 128, 0, 8000, LogScaled(10_000, 10), 187, "per band"),
    "elmarc": (12_000, 512, 256, 96, 0, 6000, Decibels(1.0, 1e-10, 80.0), 1376, "none"),
    "at_scale": (16_000, 512, 256, 96, 0, 8000, LogScaled(10_000, 10), 187, "global"),
    "few_shot": (44_100, 1024, 1024, 128, 0, 22_050, LogOffset(2.2e-16, 10), 128, "none"),
    "few_shot_linear": (44_100, 1024, 1024, 128, 0, 22_050, Linear(), 128, "none"),
    "musicnn": (16_000, 512, 256, 96, 0, 8000, LogScaled(10_000, 10), 187, "none"),
    "vggish": (16_000, 512, 160, 64, 125, 7500, LogOffset(0.01, math.e), 96, "none"),
    "choi_tagger": (12_000, 512, 256, 96, 0, 6000, Decibels(), 1366, "none"),
    "choi_tagger_legacy": (12_000, 512, 256, 96, 0, 6000, Decibels(), 1366, "none"),
    "kim": (22_050, 1024, 256, 128, 0, 11_025, Decibels(), 216, "per band"),
    "singing_voice": (22_050, 1024, 315, 80, 27.5, 8000, LogFloor(1e-7), 115, "per band"),
    "tutorial": (16_000, 2048, 1024, 80, 0, 8000, Decibels(), 80, "per value"),
}
DEFAULTS = {
    "scale": "slaney",
    "norm": "slaney",
    "weighting": "hertz",
    "win_length": None,
    "window": "hann",
    "center": True,
    "pad_mode": "constant",
    "power": 2.0,
    "start_aligned": False,
    "mel_power": 1.0,
    "half_precision": False,
    "num_channels": 1,
}
ESSENTIA = {"scale": "htk", "norm": "l1", "weighting": "essentia"}
DEVIATIONS = {
    "ballroom": ESSENTIA | {"window": "essentia_blackmanharris62"},
    "phonemes": ESSENTIA | {"window": "essentia_hann", "win_length": 1102},
    "irmas_legacy": {"mel_power": 2.0},
    "choi_tagger_legacy": {"mel_power": 2.0},
    "musicnn": {"half_precision": True},
    "vggish": {
        "scale": "htk",
        "norm": None,
        "weighting": "scale",
        "win_length": 400,
        "power": 1.0,
        "center": False,
        "start_aligned": True,
    },
    "kim": {"num_channels": 2},
    "singing_voice": {"power": 1.0},
}
# Frame sizes, hop, bands per octave, lowest and highest frequency, factor, difference ratio, inputs.
FILTERED = {
    "tutorial_onset": ((1024, 2048, 4096), 441, (3, 6, 12), 30, 17_000, 1, 0.5, 314),
    "onset_rnn": ((1024, 2048, 4096), 441, (6, 6, 6), 30, 17_000, 5, 0.25, 266),
    "onset_rnn_online": ((512, 1024, 2048), 441, (6, 6, 6), 30, 17_000, 5, 0.25, 236),
    "onset_cnn": ((2048, 1024, 4096), 441, (80, 80, 80), 27.5, 16_000, 1, None, 240),
    "beat_blstm": ((1024, 2048, 4096), 441, (6, 6, 6), 30, 17_000, 1, 0.5, 266),
    "beat_lstm_online": ((2048,), 441, (12,), 30, 17_000, 1, 0.5, 162),
    "downbeat_blstm": ((1024, 2048, 4096), 441, (3, 6, 12), 30, 17_000, 1, 0.5, 314),
    "deep_chroma": ((8192,), 4410, (24,), 30, 5500, 1, None, 178),
    "deep_chroma_madmom": ((8192,), 4410, (24,), 65, 2100, 1, None, 105),
}
OTHERS = {"elmarc_waveform", "at_scale_waveform", "sample_cnn", "mfcc", "leglaive"}


def test_the_table_is_complete():
    """Oracle: the rows below are all the presets there are."""
    assert set(LOG_MEL) | set(FILTERED) | OTHERS == set(presets.PRESETS)


@pytest.mark.parametrize("name", LOG_MEL)
def test_log_mel_presets(name):
    """Oracle: ARCHITECTURES §2–10, field by field."""
    preset = presets.preset(name)
    mel = preset.representation
    fmax = mel.sample_rate / 2 if mel.fmax is None else mel.fmax
    row = (mel.sample_rate, mel.n_fft, mel.hop_length, mel.n_mels, mel.fmin, fmax, mel.compression)
    assert (*row, preset.num_frames, preset.normalisation) == LOG_MEL[name]
    others = {field: getattr(mel, field) for field in DEFAULTS}
    assert others == DEFAULTS | DEVIATIONS.get(name, {})
    named = {field.name for field in dataclasses.fields(mel)}
    assert named == set(DEFAULTS) | {"sample_rate", "n_fft", "hop_length", "n_mels", "fmin", "fmax", "compression"}


@pytest.mark.parametrize("name", FILTERED)
def test_filtered_presets(name):
    """Oracle: ARCHITECTURES §9.3, 9.4 and 10, field by field."""
    preset = presets.preset(name)
    value = preset.representation
    row = (value.frame_sizes, value.hop_length, value.num_bands, value.fmin, value.fmax, value.mul, value.diff_ratio)
    assert (*row, value.num_bins) == FILTERED[name]
    assert value.sample_rate == 44_100 and value.end == "normal" and value.max_size == 1
    assert value.origin == ("online" if name.endswith("online") else "center")
    cnn = name == "onset_cnn"
    assert (value.bank_scale, value.log) == (("mel", "log") if cnn else ("log", "log10"))
    assert value.add == (np.finfo(float).eps if cnn else 1)
    assert value.unique == (name not in ("deep_chroma", "onset_cnn"))
    assert preset.num_frames == (15 if cnn or name.startswith("deep_chroma") else None)


def test_other_presets():
    """Oracle: ARCHITECTURES §5.1, 5.4, 6.2, 6.6 and 10."""
    for name, rate, samples in (
        ("elmarc_waveform", 12_000, 350_000),
        ("at_scale_waveform", 16_000, 48_000),
        ("sample_cnn", 22_050, 59_049),
    ):
        assert presets.preset(name).representation == Waveform(rate) and presets.preset(name).num_frames == samples
    mfcc = presets.preset("mfcc").representation
    assert mfcc == MFCC(LogMel(12_000, 2048, 512, 128), n_mfcc=20, dct_type=2, norm="ortho", lifter=0, deltas=0)
    leglaive = presets.preset("leglaive")
    value = leglaive.representation
    assert (value.n_fft, value.hop_length_stages, value.num_bins) == ((4096, 512), (2048, 256), 80)
    assert value.sample_rate == 16_000 and leglaive.num_frames == 218
    with pytest.raises(ValueError, match="did you mean 'musicnn'"):
        presets.preset("musicn")


def test_frames_of_papers():
    """Oracle: ARCHITECTURES §12, librosa's centred frames; 96 VGGish frames in 0.96 s and 240 samples."""
    for name, seconds, frames in (("elmarc", 30, 1407), ("at_scale", 15, 938), ("musicnn", 3, 188), ("kim", 2.5, 216)):
        value = presets.preset(name).representation
        assert value.shape(round(seconds * value.sample_rate))[0] == frames
    assert presets.preset("vggish").representation.shape(96 * 160 + 240) == (96, 64)


def test_vggish_is_its_formula(clip):
    """Oracle: a re-statement in numpy: uncentred frames of 400 samples, FFT 512, HTK triangles straight in mel."""
    frames = np.lib.stride_tricks.sliding_window_view(clip.astype(np.float64), 400)[::160]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    magnitude = np.abs(np.fft.rfft(frames * window, 512))

    def to_mel(hertz):
        return 1127 * np.log(1 + np.asarray(hertz) / 700)

    edges = np.linspace(to_mel(125), to_mel(7500), 66)
    bins = to_mel(np.arange(257) * 16_000 / 512)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    expected = np.log(magnitude @ np.maximum(0, np.minimum(rise, fall)) + 0.01)
    value = presets.preset("vggish").representation
    assert worst(value(clip), expected) <= 5e-5  # ln(x + 0.01) of bands whose float32 error hangs from the loudest bin
    with jax.enable_x64(True):
        assert worst(value(clip.astype(np.float64)), expected) <= 1e-12


def test_musicnn_rounds_to_half_precision(clip):
    """Oracle: librosa's float64 mel bands, cast to float16 by numpy before log10(10000 x + 1)."""
    filters = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=96, dtype=np.float64)
    power = (filters @ np.abs(librosa.stft(clip.astype(np.float64), n_fft=512, hop_length=256)) ** 2).T
    expected = np.log10(10_000 * power.astype(np.float16).astype(np.float64) + 1)
    ours = np.asarray(presets.preset("musicnn").representation(clip))
    # float32 and float64 fall on different sides of a few roundings; such values differ by one step of float16.
    assert np.mean(np.abs(ours - expected) > 1e-5) < 0.002 and np.abs(ours - expected).max() < 5e-4


def test_legacy_squares_the_power(clip):
    """Hand-worked: decibels of amplitude⁴ are twice those of the power, before the floors."""
    power = LogMel(compression=Decibels(amin=1e-10, top_db=None))(clip)
    fourth = LogMel(compression=Decibels(amin=1e-20, top_db=None), mel_power=2.0)(clip)
    np.testing.assert_allclose(fourth, 2 * power, rtol=0, atol=1e-3)


def test_essentia_bands(clip):
    """Hand-worked: a full-scale sine in the middle of a band's bin has magnitude 1 after a window of sum 2."""
    value = presets.preset("ballroom").representation
    frequency = 100 * 44_100 / 2048
    audio = np.sin(2 * np.pi * frequency * np.arange(44_100) / 44_100)
    with jax.enable_x64(True):
        linear = dataclasses.replace(value, compression=Linear())(audio)[20]
    filters = value.filters()
    np.testing.assert_allclose(filters.sum(axis=1), 1, atol=1e-12)
    window = stft.get_window("essentia_blackmanharris62", 2048)
    around = np.abs(np.fft.rfft(np.sin(2 * np.pi * 100 * np.arange(2048) / 2048) * window)) ** 2
    np.testing.assert_allclose(linear, filters @ around, rtol=0, atol=1e-3 * linear.max())
    assert abs(around[100] - 1) < 1e-2


def test_pcen_representation(clip):
    """Oracle: librosa.pcen of librosa's float64 mel power."""
    value = LogMel(compression=PCEN(sample_rate=12_000, hop_length=256, scale=2.0**31))
    filters = librosa.filters.mel(sr=12_000, n_fft=512, n_mels=96, dtype=np.float64)
    power = filters @ np.abs(librosa.stft(clip.astype(np.float64), n_fft=512, hop_length=256)) ** 2
    expected = librosa.pcen(power * 2.0**31, sr=12_000, hop_length=256).T
    assert worst(value(clip), expected) <= 5e-6

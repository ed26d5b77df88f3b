"""Descriptions of frames and the emphasis filters against librosa in float64, on real clips."""

import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.signal

from mirjax.signal import spectral

RATE = 12_000
FRAME = {"n_fft": 512, "hop_length": 200}
# Ours, librosa's name, settings, whether it takes a rate, float32 bound relative to the maximum.
CASES = [
    ("spectral_centroid", {}, True, 5e-6),
    ("spectral_bandwidth", {}, True, 5e-6),
    ("spectral_bandwidth", {"p": 3.0, "norm": False}, True, 5e-6),
    ("spectral_contrast", {"n_bands": 4}, True, 1e-3),
    ("spectral_contrast", {"n_bands": 3, "fmin": 300.0, "quantile": 0.1, "linear": True}, True, 5e-6),
    ("spectral_flatness", {}, False, 1e-5),
    ("spectral_flatness", {"power": 1.0, "amin": 1e-6}, False, 5e-4),
    ("poly_features", {"order": 2}, True, 1e-5),
]


def worst(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


def rows(values):
    """librosa's [..., d, T] as [..., T, d], or [..., T] where d is 1."""
    values = np.swapaxes(values, -1, -2)
    return values[..., 0] if values.shape[-1] == 1 else values


@pytest.mark.parametrize("name, setting, takes_rate, bound", CASES)
def test_against_librosa(golden_inputs, embedded_clip, name, setting, takes_rate, bound):
    """Oracle: librosa.feature in float64, from audio and from a magnitude spectrogram."""
    ours, reference = getattr(spectral, name), getattr(librosa.feature, name)
    for audio in (golden_inputs["wave12k"][20_000:36_000], embedded_clip[0][:16_000]):
        # Above 4 kHz the spoken digit is empty: the logarithm of the highest valley is that of float32's noise.
        kept = slice(0, 4) if setting == {"n_bands": 4} and len(audio) < 16_000 else slice(None)
        wide = audio.astype(np.float64)
        expected = rows(reference(y=wide, **FRAME, **({"sr": RATE} if takes_rate else {}), **setting))
        given = setting | ({"sample_rate": RATE} if takes_rate else {})
        single = ours(jnp.asarray(audio), **FRAME, **given)
        assert worst(single[..., kept], expected[..., kept]) <= bound
        magnitude = np.abs(librosa.stft(wide, **FRAME)).T
        assert worst(ours(spectrogram=jnp.asarray(magnitude, jnp.float32), **given), expected) <= bound
        with jax.enable_x64(True):
            double = ours(jnp.asarray(wide), **FRAME, **given)
            assert double.dtype == jnp.float64
            assert worst(double, expected) <= 1e-9


@pytest.mark.parametrize("roll_percent", [0.85, 0.1])
def test_rolloff(golden_inputs, roll_percent):
    """Oracle: librosa.feature.spectral_rolloff: equal in float64, at most one bin away in few frames of float32."""
    audio = golden_inputs["wave12k"][:48_000]
    wide = audio.astype(np.float64)
    expected = rows(librosa.feature.spectral_rolloff(y=wide, sr=RATE, roll_percent=roll_percent, **FRAME))
    setting = {"sample_rate": RATE, "roll_percent": roll_percent, **FRAME}
    single = np.asarray(spectral.spectral_rolloff(jnp.asarray(audio), **setting))
    assert np.abs(single - expected).max() <= RATE / 512 * 1.001
    assert (np.abs(single - expected) > 1).mean() <= 0.01
    with jax.enable_x64(True):
        assert worst(spectral.spectral_rolloff(jnp.asarray(wide), **setting), expected) <= 1e-12


def test_frequencies_of_the_bins(golden_inputs):
    """Oracle: librosa with `freq` one for all frames and one for each frame."""
    magnitude = np.abs(librosa.stft(golden_inputs["wave12k"][:8000].astype(np.float64), n_fft=256))
    freq = np.geomspace(20, 6000, len(magnitude))
    varying = freq[:, None] * np.linspace(1, 1.1, magnitude.shape[1])
    with jax.enable_x64(True):
        for name in ("spectral_centroid", "spectral_bandwidth", "spectral_rolloff"):
            for values in (freq, varying):
                expected = rows(getattr(librosa.feature, name)(S=magnitude, freq=values))
                ours = getattr(spectral, name)(spectrogram=jnp.asarray(magnitude.T), freq=values.T)
                assert worst(ours, expected) <= 1e-12


@pytest.mark.parametrize("frame_length", [512, 511])
@pytest.mark.parametrize("center", [True, False])
def test_rms(golden_inputs, frame_length, center):
    """Oracle: librosa.feature.rms in float64, from audio and from rectangular frames' spectra (Parseval)."""
    audio = golden_inputs["wave12k"][:20_000]
    wide = audio.astype(np.float64)
    setting = {"frame_length": frame_length, "hop_length": 128, "center": center}
    expected = rows(librosa.feature.rms(y=wide, dtype=np.float64, **setting))
    assert worst(spectral.rms(jnp.asarray(audio), **setting), expected) <= 1e-6
    with jax.enable_x64(True):
        assert worst(spectral.rms(jnp.asarray(wide), **setting), expected) <= 1e-12
        if not center:
            frames = librosa.util.frame(wide, frame_length=frame_length, hop_length=128).T
            magnitude = jnp.asarray(np.abs(np.fft.rfft(frames)))
            assert worst(spectral.rms(spectrogram=magnitude, frame_length=frame_length), expected) <= 1e-12


@pytest.mark.parametrize("setting", [{}, {"zero_pos": False, "center": False}, {"threshold": 0.01}])
def test_zero_crossing_rate(golden_inputs, setting):
    """Oracle: librosa.feature.zero_crossing_rate, with runs of zeros in the clip."""
    audio = golden_inputs["wave12k"][:20_000].copy()
    audio[5000:7000] = 0
    audio[5100:7000:150] = -1e-12
    frame = {"frame_length": 400, "hop_length": 160}
    expected = rows(librosa.feature.zero_crossing_rate(audio, **frame, **setting))
    assert worst(spectral.zero_crossing_rate(jnp.asarray(audio), **frame, **setting), expected) <= 1e-6


@pytest.mark.parametrize("coef", [0.97, 0.5, 0.0])
def test_emphasis(golden_inputs, coef):
    """Oracle: librosa.effects.preemphasis and deemphasis in float64, with their initial states."""
    audio = np.stack([golden_inputs["wave12k"][:5003], golden_inputs["wave12k"][9000:14_003]])
    wide = audio.astype(np.float64)
    up, state = librosa.effects.preemphasis(wide, coef=coef, return_zf=True)
    ours, zf = spectral.preemphasis(jnp.asarray(audio), coef=coef, return_zf=True)
    assert worst(ours, up) <= 5e-7 and np.abs(zf - state).max() <= 1e-6
    down = librosa.effects.deemphasis(wide, coef=coef)
    assert worst(spectral.deemphasis(jnp.asarray(audio), coef=coef), down) <= 1e-6
    with jax.enable_x64(True):
        assert worst(spectral.preemphasis(jnp.asarray(wide), coef=coef), up) <= 1e-14
        assert worst(spectral.deemphasis(jnp.asarray(wide), coef=coef), down) <= 1e-12
        zi = np.full((2, 1), 0.3)
        reference, last = scipy.signal.lfilter([1.0], [1.0, -coef], wide, zi=zi)
        ours, zf = spectral.deemphasis(jnp.asarray(wide), coef=coef, zi=zi, return_zf=True)
        assert worst(ours, reference) <= 1e-12 and np.abs(zf - last).max() <= 1e-12
        there_and_back = spectral.deemphasis(spectral.preemphasis(jnp.asarray(wide), coef=coef), coef=coef)
        assert worst(there_and_back, wide) <= 1e-12


@pytest.mark.parametrize("function", [spectral.preemphasis, spectral.deemphasis])
def test_emphasis_in_chunks(golden_inputs, function):
    """Oracle: the whole clip, from chunks of any length chained by the state."""
    audio = jnp.asarray(golden_inputs["wave12k"][:3000])
    whole = function(audio, zi=jnp.zeros(1))
    state, parts = jnp.zeros(1), []
    for start, stop in ((0, 1), (1, 130), (130, 1700), (1700, 3000)):
        part, state = function(audio[start:stop], zi=state, return_zf=True)
        parts.append(part)
    assert worst(np.concatenate(parts), np.asarray(whole)) <= 1e-6


FUNCTIONS = {
    "centroid": functools.partial(spectral.spectral_centroid, sample_rate=RATE, **FRAME),
    "bandwidth": functools.partial(spectral.spectral_bandwidth, sample_rate=RATE, **FRAME),
    "rolloff": functools.partial(spectral.spectral_rolloff, sample_rate=RATE, **FRAME),
    "contrast": functools.partial(spectral.spectral_contrast, sample_rate=RATE, n_bands=4, **FRAME),
    "flatness": functools.partial(spectral.spectral_flatness, **FRAME),
    "poly": functools.partial(spectral.poly_features, sample_rate=RATE, **FRAME),
    "rms": functools.partial(spectral.rms, frame_length=512, hop_length=200),
    "crossings": functools.partial(spectral.zero_crossing_rate, frame_length=512, hop_length=200),
    "preemphasis": spectral.preemphasis,
    "deemphasis": spectral.deemphasis,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_leading_axes_jit_and_gradient(golden_inputs, name):
    """Oracle: one clip at a time; finite differences in float64; librosa's values and finite gradients at silence."""
    function = FUNCTIONS[name]
    audio = jnp.asarray(golden_inputs["wave12k"][20_000:23_200].reshape(2, 1, 1600))
    both = function(audio)
    for i in range(2):
        assert worst(both[i, 0], np.asarray(function(audio[i, 0]))) <= 2e-6
    jitted = jax.jit(function)(audio)
    # A step function of rounding may move by a bin.
    assert worst(jitted, np.asarray(both)) <= (2e-2 if name == "rolloff" else 5e-6)

    def loss(x):
        return jnp.sum(function(x) ** 2)

    gradient = jax.jit(jax.grad(loss))
    assert np.isfinite(np.asarray(gradient(jnp.zeros(1600)))).all()
    assert np.isfinite(np.asarray(function(jnp.zeros(1600)))).all()
    if name in ("rolloff", "crossings"):
        assert not np.asarray(gradient(audio[0, 0])).any()
        return
    with jax.enable_x64(True):
        # Noise: in the empty bins of a real clip the magnitude bends within the step.
        x, step = jnp.asarray(np.random.default_rng(0).standard_normal((2, 1600)))
        value = jax.jit(loss)
        slope = (value(x + 1e-7 * step) - value(x - 1e-7 * step)) / 2e-7
        assert abs(jnp.vdot(gradient(x), step) / slope - 1) <= 1e-5


def test_silence():
    """Oracle: librosa's values for digital silence."""
    silence = np.zeros(3000)
    for name in ("centroid", "bandwidth", "rolloff", "contrast", "flatness"):
        keywords = dict(FUNCTIONS[name].keywords)
        rate = {"sr": keywords.pop("sample_rate")} if "sample_rate" in keywords else {}
        expected = rows(getattr(librosa.feature, f"spectral_{name}")(y=silence, **rate, **keywords))
        np.testing.assert_allclose(FUNCTIONS[name](jnp.asarray(silence, jnp.float32)), expected, rtol=1e-6, atol=1e-7)


def test_contrast_without_a_floor_needs_no_whole_clip(golden_inputs):
    """Oracle: with top_db=None each frame is the frame's own, and equals librosa's where that floor is not reached."""
    audio = golden_inputs["wave12k"][20_000:36_000]
    setting = {"sample_rate": RATE, "n_bands": 4, "top_db": None, **FRAME}
    whole = spectral.spectral_contrast(jnp.asarray(audio), **setting)
    part = spectral.spectral_contrast(jnp.asarray(audio[:8000]), **setting)
    assert worst(part[:38], np.asarray(whole[:38])) <= 1e-5


ONES = np.ones((3, 257), np.float32)
CLIP = np.ones(1000, np.float32)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: spectral.spectral_centroid(sample_rate=1), "give audio or spectrogram="),
        (lambda: spectral.spectral_centroid(CLIP, spectrogram=ONES, sample_rate=1), "give audio or spectrogram="),
        (lambda: spectral.spectral_centroid(CLIP), "sample_rate=None must be a number above 0"),
        (lambda: spectral.spectral_centroid(spectrogram=-ONES, sample_rate=1), "holds negative numbers"),
        (lambda: spectral.spectral_centroid(spectrogram=ONES, freq=np.ones(9)), r"freq of shape \(9,\) must hold"),
        (lambda: spectral.spectral_bandwidth(CLIP, sample_rate=1, p=0), "p=0 must be a number above 0"),
        (lambda: spectral.spectral_rolloff(CLIP, sample_rate=1, roll_percent=1.0), "roll_percent=1.0 must lie between"),
        (lambda: spectral.spectral_contrast(CLIP, sample_rate=8000), "put a band above 4000 Hz"),
        (lambda: spectral.spectral_contrast(CLIP, sample_rate=44_100, n_fft=64), "holds .* bin; raise fmin"),
        (lambda: spectral.spectral_contrast(CLIP, sample_rate=44_100, quantile=0), "quantile=0 must lie between"),
        (lambda: spectral.spectral_contrast(spectrogram=ONES, freq=ONES), "must have one axis here"),
        (lambda: spectral.spectral_flatness(CLIP, amin=0), "amin=0 must be a number above 0"),
        (lambda: spectral.poly_features(CLIP, sample_rate=1, order=-1), "order=-1 must be a whole number"),
        (lambda: spectral.rms(spectrogram=ONES, frame_length=1024), "frame_length must be 512 or 513"),
        (lambda: spectral.rms(), "give audio or spectrogram="),
        (lambda: spectral.zero_crossing_rate(CLIP, threshold=-1), "threshold=-1 must be at least 0"),
        (lambda: spectral.zero_crossing_rate(CLIP, hop_length=0), "hop_length=0 must be a whole number"),
        (lambda: spectral.preemphasis(CLIP[:1]), "at least 2 samples"),
        (lambda: spectral.preemphasis(CLIP, zi=np.ones(2)), r"zi of shape \(2,\) does not fit"),
        (lambda: spectral.spectral_centroid(spectrogram=ONES, freq=np.full(257, np.nan)), "freq holds NaN or infinity"),
        (
            lambda: spectral.spectral_bandwidth(CLIP, sample_rate=1, centroid=np.ones(9)),
            r"centroid of shape \(9,\)",
        ),
        (lambda: spectral.spectral_contrast(CLIP, sample_rate=44_100, top_db=-5), "top_db=-5 must be at least 0"),
        (
            lambda: spectral.poly_features(CLIP, sample_rate=16_000, order=200),
            "order=200 is too .* take 76 or less",
        ),
        (
            lambda: spectral.poly_features(spectrogram=ONES[:, :3], freq=np.arange(3), order=3),
            "3 bins .* take 2 or",
        ),
        (lambda: spectral.preemphasis(CLIP, coef=5), "coef=5 must be from 0 to 1"),
        (lambda: spectral.preemphasis(CLIP, coef=float("nan")), "coef=nan must be from 0 to 1"),
        (lambda: spectral.deemphasis(CLIP, coef=1.0), "coef=1.0 must be at least 0 and below 1"),
    ],
)
def test_bad_input(call, message):
    """Oracle: the message names the value and the remedy."""
    with pytest.raises(ValueError, match=message):
        call()

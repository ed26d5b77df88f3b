"""Chroma, tonal centroids and tuning against librosa in float64, on real clips."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from jax.test_util import check_grads

from mirjax.signal import chroma, cqt, tuning

RATE = 12_000


@pytest.fixture(scope="module")
def clip(golden_inputs):
    return golden_inputs["wave12k"][:36_000]


@pytest.fixture(scope="module")
def constant_q(clip):
    """Magnitudes of librosa's constant-Q transform, float64[T, 180]."""
    return np.abs(librosa.cqt(clip.astype(np.float64), sr=RATE, n_bins=180, bins_per_octave=36)).T


def worst(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    return np.abs(a - b).max() / np.abs(b).max()


def in_float64(function, values, **setting):
    with jax.enable_x64(True):
        out = function(jnp.asarray(values, jnp.float64), **setting)
        assert out.dtype == jnp.float64
        return np.asarray(out)


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"n_chroma": 24, "tuning": 0.3},
        {"n_chroma": 19, "base_c": False, "octwidth": None},
        {"norm": 1, "ctroct": 4.0, "octwidth": 1.0},
        {"norm": np.inf, "tuning": -0.45},
        {"norm": None, "n_fft": 1001},
    ],
)
def test_filters_are_librosas(setting):
    """Oracle: librosa.filters.chroma in float64, to 1e-12."""
    setting = {"n_fft": 2048} | setting
    expected = librosa.filters.chroma(sr=22_050, dtype=np.float64, **setting)
    assert worst(chroma.chroma_filters(sample_rate=22_050, **setting), expected) <= 1e-12


@pytest.mark.parametrize(
    ("n_input", "setting"),
    [
        (84, {}),
        (252, {"bins_per_octave": 36}),
        (250, {"bins_per_octave": 36, "fmin": 110.0}),
        (60, {"bins_per_octave": 24, "fmin": 440 * 2 ** (-8 / 12), "base_c": False}),
        (96, {"bins_per_octave": 24, "n_chroma": 24, "fmin": 98.0}),
        (84, {"window": [0.25, 0.5, 0.25]}),
        (84, {"window": [0.1, 0.5, 0.3, 0.1]}),
    ],
)
def test_constant_q_matrix_is_librosas(n_input, setting):
    """Oracle: librosa.filters.cq_to_chroma in float64, to 1e-12."""
    theirs = setting | ({"window": np.array(setting["window"])} if "window" in setting else {})
    expected = librosa.filters.cq_to_chroma(n_input, dtype=np.float64, **theirs)
    assert worst(chroma.cq_to_chroma(n_input, **setting), expected) <= 1e-12


@pytest.mark.parametrize("norm", [np.inf, 1, 2, 3, 0.5, None])
@pytest.mark.parametrize("threshold", [None, 0.5])
def test_normalise_frames(norm, threshold):
    """Oracle: librosa.util.normalize in float64, with negative, tiny and silent frames."""
    values = np.random.default_rng(0).standard_normal((5, 12))
    values[1] = 0
    values[2] *= 1e-25  # its squares are below float32's range
    values[3] *= 0.01
    expected = librosa.util.normalize(values, norm=norm, axis=-1, threshold=threshold)
    assert worst(in_float64(chroma.normalise_frames, values, norm=norm, threshold=threshold), expected) <= 1e-14
    ours = chroma.normalise_frames(jnp.asarray(values, jnp.float32), norm=norm, threshold=threshold)
    assert worst(ours, expected) <= 1e-6
    if norm is not None and threshold is None:
        np.testing.assert_allclose(np.linalg.norm(np.asarray(ours), norm, axis=-1)[[0, 2, 3]], 1, rtol=1e-5)


def direct_chroma(audio, *, n_fft=2048, hop_length=512, norm=np.inf, **setting):
    """librosa.feature.chroma_stft with a float64 bank (its own is float32)."""
    bank = {key: setting.pop(key) for key in ("tuning", "n_chroma", "ctroct", "octwidth", "base_c") if key in setting}
    power = np.abs(librosa.stft(audio.astype(np.float64), n_fft=n_fft, hop_length=hop_length, **setting)) ** 2
    bank = librosa.filters.chroma(sr=RATE, n_fft=n_fft, dtype=np.float64, **{"tuning": 0.0} | bank)
    return librosa.util.normalize(bank @ power, norm=norm, axis=0).T


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"norm": 1, "tuning": 0.21, "n_fft": 1024, "hop_length": 300, "win_length": 800, "window": "hamming"},
        {"norm": None, "center": False, "n_chroma": 24, "octwidth": 3.0},
        {"norm": 2, "pad_mode": "reflect", "base_c": False},
    ],
)
def test_chroma_stft(clip, embedded_clip, setting):
    """Oracle: librosa.stft and librosa.filters.chroma in float64."""
    for audio in (clip, np.pad(embedded_clip[1], (0, 3000))):
        expected = direct_chroma(audio, **setting)
        assert worst(in_float64(chroma.chroma_stft, audio, sample_rate=RATE, **setting), expected) <= 1e-11
        assert worst(chroma.chroma_stft(jnp.asarray(audio), sample_rate=RATE, **setting), expected) <= 1e-5


def test_chroma_stft_is_librosas_own(clip):
    """Oracle: librosa.feature.chroma_stft, whose filter bank is float32; spectrogram_to_chroma agrees."""
    expected = librosa.feature.chroma_stft(y=clip.astype(np.float64), sr=RATE, tuning=0.1).T
    assert worst(chroma.chroma_stft(jnp.asarray(clip), sample_rate=RATE, tuning=0.1), expected) <= 1e-5
    power = np.abs(librosa.stft(clip)).T ** 2
    ours = chroma.spectrogram_to_chroma(jnp.asarray(power), sample_rate=RATE, tuning=0.1)
    assert worst(ours, expected) <= 1e-5


@pytest.mark.parametrize("setting", [{}, {"norm": 2, "n_chroma": 36, "threshold": 0.05}, {"window": [0.5, 1, 0.5]}])
def test_cqt_to_chroma(constant_q, setting):
    """Oracle: librosa.feature.chroma_cqt of the same magnitudes, with its float32 matrix of zeros and ones."""
    theirs = setting | ({"window": np.array(setting["window"])} if "window" in setting else {})
    expected = librosa.feature.chroma_cqt(C=constant_q.T, sr=RATE, bins_per_octave=36, **theirs).T
    assert worst(in_float64(chroma.cqt_to_chroma, constant_q, **setting), expected) <= 1e-12
    assert worst(chroma.cqt_to_chroma(jnp.asarray(constant_q, jnp.float32), **setting), expected) <= 1e-6


@pytest.mark.parametrize("mode", ["full", "hybrid"])
def test_chroma_cqt_within_one_per_cent(clip, mode):
    """Oracle: librosa.feature.chroma_cqt, norm None: before frames of little energy are blown up."""
    shared = {"n_octaves": 6, "bins_per_octave": 24, "cqt_mode": mode, "tuning": 0.2, "norm": None}
    expected = librosa.feature.chroma_cqt(y=clip.astype(np.float64), sr=RATE, **shared).T
    assert worst(chroma.chroma_cqt(jnp.asarray(clip), sample_rate=RATE, **shared), expected) <= 1e-2


@pytest.mark.parametrize(
    "setting", [{}, {"win_len_smooth": None}, {"win_len_smooth": 10, "smoothing_window": "hamming", "norm": 1}]
)
def test_cens_of_the_same_magnitudes(constant_q, setting):
    """Oracle: librosa.feature.chroma_cens of the same constant-Q magnitudes."""
    expected = librosa.feature.chroma_cens(C=constant_q.T, sr=RATE, **setting).T
    raw = in_float64(chroma.cqt_to_chroma, constant_q, norm=None)
    assert worst(in_float64(chroma.smooth_cens, raw, **setting), expected) <= 1e-12
    # In float32 a value on a quantisation step might fall on its other side; on this clip none does.
    assert worst(chroma.smooth_cens(jnp.asarray(raw, jnp.float32), **setting), expected) <= 1e-6


def test_cens_and_tonnetz_of_audio(clip):
    """Oracle: smooth_cens and chroma_to_tonnetz of chroma_cqt; librosa.feature.tonnetz of our chroma."""
    setting = {"sample_rate": RATE, "n_octaves": 5, "bins_per_octave": 12}
    raw = chroma.chroma_cqt(jnp.asarray(clip), norm=None, **setting)
    assert worst(chroma.chroma_cens(jnp.asarray(clip), **setting), chroma.smooth_cens(raw)) == 0
    expected = librosa.feature.tonnetz(chroma=np.asarray(raw, np.float64).T).T
    assert worst(chroma.tonnetz(jnp.asarray(clip), **setting), expected) <= 1e-6


@pytest.mark.parametrize("n_chroma", [12, 24])
def test_tonnetz(n_chroma):
    """Oracle: librosa.feature.tonnetz of random chroma, in float64."""
    values = np.random.default_rng(0).uniform(size=(7, n_chroma))
    expected = librosa.feature.tonnetz(chroma=values.T).T
    assert worst(in_float64(chroma.chroma_to_tonnetz, values), expected) <= 1e-12
    assert worst(chroma.chroma_to_tonnetz(jnp.asarray(values, jnp.float32)), expected) <= 2e-6


def test_fold_octaves():
    """Oracle: hand-worked sums; an incomplete last octave."""
    magnitudes = jnp.asarray([[1.0, 2, 3, 10, 20, 30, 100]])
    np.testing.assert_array_equal(chroma.fold_octaves(magnitudes, bins_per_octave=3), [[111, 22, 33]])
    values = np.random.default_rng(0).uniform(size=(2, 84))
    assert worst(in_float64(chroma.fold_octaves, values), values @ librosa.filters.cq_to_chroma(84).T) <= 1e-12


@pytest.mark.parametrize("octaves", [0, 1, 2, 3])
def test_tones_have_their_pitch_class_in_every_octave(octaves):
    """Oracle: identity; G in four octaves is class 7, by a neighbouring class' margin."""
    frequency = 440 * 2 ** (-14 / 12) * 2.0**octaves  # G3, 196 Hz
    tone = jnp.asarray(0.1 * np.sin(2 * np.pi * frequency / RATE * np.arange(RATE)), jnp.float32)
    for values in (
        chroma.chroma_stft(tone, sample_rate=RATE, n_fft=4096),
        chroma.chroma_cqt(tone, sample_rate=RATE, n_octaves=6, bins_per_octave=24),
    ):
        middle = np.asarray(values)[len(values) // 2]
        assert middle.argmax() == 7
        assert np.delete(middle, [6, 7, 8]).max() < 0.25


def test_octave_invariance(constant_q):
    """Oracle: identity; moved up by whole octaves, magnitudes have the same chroma."""
    moved = np.roll(constant_q, 36, axis=1)
    for function in (chroma.cqt_to_chroma, lambda x: chroma.fold_octaves(x, bins_per_octave=36)):
        assert worst(in_float64(function, moved), in_float64(function, constant_q)) <= 1e-12


def test_leading_axes_and_jit(clip):
    """Oracle: each clip alone, eagerly."""
    audio = jnp.asarray(clip).reshape(2, 2, -1)
    shared = {"sample_rate": RATE, "n_octaves": 3, "bins_per_octave": 12, "fmin": 130.0}
    functions = [
        lambda x: chroma.chroma_stft(x, sample_rate=RATE),
        lambda x: chroma.chroma_cens(x, **shared),
        lambda x: tuning.estimate_tuning(x, sample_rate=RATE, n_fft=1024),
    ]
    for function in functions:
        together = function(audio)
        assert worst(together[1, 0], function(audio[1, 0])) <= 1e-5
        assert worst(jax.jit(function)(audio), together) <= 1e-5


def test_silence_is_zero_and_has_a_finite_gradient():
    """Oracle: hand-worked, nothing sounds in silence; a gradient of silence is finite."""
    silence = jnp.zeros(6000)
    shared = {"sample_rate": RATE, "n_octaves": 3, "bins_per_octave": 12, "fmin": 130.0}
    for function in (lambda x: chroma.chroma_stft(x, sample_rate=RATE), lambda x: chroma.tonnetz(x, **shared)):
        assert (np.asarray(function(silence)) == 0).all()
        assert np.isfinite(jax.grad(lambda x, f=function: f(x).sum())(silence)).all()
    for norm in (1, 2, 0.5, np.inf):
        gradient = jax.grad(lambda x, p=norm: chroma.normalise_frames(x, norm=p).sum())(jnp.zeros((2, 12)))
        assert np.isfinite(gradient).all()
    assert tuning.estimate_tuning(silence, sample_rate=RATE) == 0


@pytest.mark.parametrize("norm", [1, 2, 3, np.inf])
def test_gradients(clip, norm):
    """Oracle: finite differences in float64."""
    with jax.enable_x64(True):
        values = jnp.asarray(np.random.default_rng(0).standard_normal((3, 12)))
        check_grads(lambda x: chroma.normalise_frames(x, norm=norm), (values,), order=1, modes=["rev"], rtol=1e-4)
        if norm == 2:
            audio = jnp.asarray(clip[4000:6000], jnp.float64)
            setting = {"sample_rate": RATE, "n_fft": 512, "norm": norm}
            check_grads(
                lambda x: jnp.sum(chroma.chroma_stft(x, **setting) ** 3), (audio,), order=1, modes=["rev"], rtol=1e-3
            )


@pytest.mark.parametrize("setting", [{}, {"fmin": 300.0, "fmax": 9000.0, "threshold": 0.3, "n_fft": 1024}])
def test_piptrack(clip, setting):
    """Oracle: librosa.piptrack in float64; in float32 where both see a peak."""
    expected = librosa.piptrack(y=clip.astype(np.float64), sr=RATE, **setting)
    with jax.enable_x64(True):
        for ours, theirs in zip(
            tuning.piptrack(jnp.asarray(clip, jnp.float64), sample_rate=RATE, **setting), expected, strict=True
        ):
            assert worst(ours, theirs.T) <= 1e-10
    ours = [np.asarray(x).T for x in tuning.piptrack(jnp.asarray(clip), sample_rate=RATE, **setting)]
    both = (ours[0] > 0) & (expected[0] > 0)
    assert both.sum() >= 0.999 * (expected[0] > 0).sum()
    for x, y in zip(ours, expected, strict=True):
        assert np.abs(x - y)[both].max() <= 1e-4 * np.abs(y).max()


@pytest.mark.parametrize("setting", [{}, {"resolution": 0.05, "bins_per_octave": 24}, {"n_fft": 4096, "fmin": 100.0}])
def test_estimate_tuning(clip, embedded_clip, setting):
    """Oracle: librosa.estimate_tuning in float64; float32 within one cell of the histogram."""
    for audio in (clip, embedded_clip[0]):
        expected = librosa.estimate_tuning(y=audio.astype(np.float64), sr=RATE, **setting)
        assert abs(in_float64(tuning.estimate_tuning, audio, sample_rate=RATE, **setting) - expected) <= 1e-12
        ours = float(tuning.estimate_tuning(jnp.asarray(audio), sample_rate=RATE, **setting))
        assert abs(ours - expected) <= 1.01 * setting.get("resolution", 0.01)


@pytest.mark.parametrize("shift", [-0.42, -0.1, 0.005, 0.333])
def test_tuning_of_detuned_notes(shift):
    """Oracle: hand-worked, notes that are all `shift` semitones sharp; librosa.pitch_tuning."""
    notes = 440 * 2.0 ** ((np.array([-9, -5, -2, 3, 10, 12]) + shift) / 12)
    notes = np.append(notes, [0.0, 0.0])
    ours = in_float64(tuning.pitch_tuning, notes)
    assert ours <= shift + 1e-9 and shift < ours + 0.0101
    # On the edge of two cells (-0.42, -0.1) librosa's last digit decides; ours takes the upper cell.
    assert min(abs(ours - librosa.pitch_tuning(notes) - cell) for cell in (0, 0.01)) <= 1e-9
    assert tuning.pitch_tuning(jnp.zeros(3)) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chroma.chroma_filters(sample_rate=RATE, n_fft=512, n_chroma=0), "n_chroma=0"),
        (lambda: chroma.chroma_filters(sample_rate=RATE, n_fft=512, octwidth=0), "octwidth=0"),
        (lambda: chroma.chroma_filters(sample_rate=-1, n_fft=512), "sample_rate=-1"),
        (lambda: chroma.cq_to_chroma(84, bins_per_octave=30), "bins_per_octave=30 must be a multiple .* take 36"),
        (lambda: chroma.cq_to_chroma(84, fmin=0), "fmin=0"),
        (lambda: chroma.normalise_frames(jnp.ones(3), norm=-1), "norm=-1"),
        (lambda: chroma.normalise_frames(jnp.ones(3), norm="max"), "norm='max'"),
        (lambda: chroma.normalise_frames(jnp.ones(3), threshold=0), "threshold=0"),
        (lambda: chroma.chroma_stft(jnp.ones(300, jnp.int32), sample_rate=RATE), "int32"),
        (lambda: chroma.chroma_cqt(jnp.ones(300), sample_rate=RATE, cqt_mode="ful"), "did you mean 'full'"),
        (lambda: chroma.chroma_cqt(jnp.ones(300), sample_rate=RATE, n_octaves=8), "half the sample rate"),
        (lambda: chroma.smooth_cens(jnp.ones((3, 12)), win_len_smooth=0), "win_len_smooth=0"),
        (lambda: tuning.pitch_tuning(jnp.ones(3), resolution=0), "resolution=0"),
        (lambda: tuning.piptrack(jnp.ones(300), sample_rate=RATE, fmin=5000), "fmin=5000"),
        (lambda: tuning.piptrack(jnp.ones(300), sample_rate=RATE, threshold=-1), "threshold=-1"),
    ],
)
def test_bad_input_is_named(call, message):
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match=message):
        call()


def test_constants_are_the_same_object():
    """Oracle: the bank is built once and cannot be written to."""
    bank = chroma.chroma_filters(sample_rate=RATE, n_fft=512)
    assert bank is chroma.chroma_filters(sample_rate=RATE, n_fft=512)
    assert not bank.flags.writeable
    assert cqt.C1 == pytest.approx(librosa.note_to_hz("C1"))

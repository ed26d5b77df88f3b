"""Short-time Fourier transforms against librosa and scipy in float64, on real clips; identities."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.signal
from jax.test_util import check_grads

from mirjax.signal import stft, windows

SETTINGS = [
    {},
    {"n_fft": 512, "hop_length": 256},
    {"n_fft": 511, "hop_length": 100},
    {"n_fft": 1024, "win_length": 400, "hop_length": 160, "window": "hamming"},
    {"n_fft": 513, "win_length": 256, "window": "blackman"},
    {"n_fft": 512, "center": False},
    {"n_fft": 512, "win_length": 300, "hop_length": 75, "center": False},
    {"n_fft": 256, "window": ("kaiser", 8.0)},
    {"n_fft": 64, "win_length": 1, "hop_length": 1},
    {"n_fft": 256, "hop_length": 64, "window": np.hanning(256)},
    {"n_fft": 256, "hop_length": 64, "window": scipy.signal.windows.hann},
]
INVERTIBLE = [setting for setting in SETTINGS if setting.get("center", True)]


def name(setting):
    return ", ".join(f"{key} {getattr(value, '__name__', value)}" for key, value in setting.items()) or "defaults"


def worst(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


@pytest.fixture(scope="module")
def clip(golden_inputs):
    """3.3 s of music, an odd number of samples."""
    return golden_inputs["wave12k"][30_000:70_001].astype(np.float64)


@pytest.mark.parametrize("setting", SETTINGS, ids=name)
def test_stft_equals_librosa(clip, setting):
    """Oracle: librosa.stft in float64."""
    expected = np.swapaxes(librosa.stft(clip, **setting), -1, -2)
    assert worst(stft.stft(clip, **setting), expected) <= 2e-7
    assert worst(stft.spectrogram(clip, **setting), np.abs(expected)) <= 3e-7
    with jax.enable_x64(True):
        ours = stft.stft(clip, **setting)
        assert ours.dtype == jnp.complex128
        assert worst(ours, expected) <= 1e-14


@pytest.mark.parametrize("pad_mode", ["constant", "reflect", "edge", "symmetric", "linear_ramp"])
@pytest.mark.parametrize("length", [1, 2, 100, 255, 256, 257, 1000])
def test_pad_modes_and_short_clips(clip, pad_mode, length):
    """Oracle: librosa.stft of numpy's padding, also where the clip is shorter than a frame."""
    audio = clip[:length]
    padded = np.pad(audio, 128, mode=pad_mode)
    expected = np.swapaxes(librosa.stft(padded, n_fft=256, hop_length=50, center=False), -1, -2)
    ours = stft.stft(audio, n_fft=256, hop_length=50, pad_mode=pad_mode)
    assert ours.shape == expected.shape
    assert worst(ours, expected) <= 5e-7
    assert len(expected) == stft.num_frames(length, frame_length=256, hop_length=50)


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_powers(clip, power):
    """Oracle: numpy.abs of librosa.stft to the power."""
    expected = np.abs(librosa.stft(clip, n_fft=512)).T ** power
    assert worst(stft.spectrogram(clip, n_fft=512, power=power), expected) <= 5e-7


@pytest.mark.parametrize("setting", SETTINGS, ids=name)
def test_istft_equals_librosa(clip, setting):
    """Oracle: librosa.istft in float64, whole and with `length` (uncentred edges divide by tiny window sums)."""
    inverse = {key: value for key, value in setting.items() if key != "pad_mode"}
    spectrum = librosa.stft(clip, **setting)
    inverse |= {"n_fft": setting["n_fft"]} if "n_fft" in setting else {}
    with jax.enable_x64(True):
        for length in (None, 30_001, 45_000):
            expected = librosa.istft(spectrum, length=length, **inverse)
            ours = stft.istft(spectrum.T, length=length, **inverse)
            assert ours.shape == expected.shape
            assert worst(ours, expected) <= (1e-14 if setting.get("center", True) else 1e-11)
    if setting.get("center", True):
        ours = stft.istft(spectrum.T.astype(np.complex64), **inverse)
        assert worst(ours, librosa.istft(spectrum, **inverse)) <= 5e-7


@pytest.mark.parametrize("setting", INVERTIBLE, ids=name)
def test_inverse_of_the_transform_is_the_clip(clip, setting):
    """Identity: ISTFT(STFT(x)) = x."""
    inverse = {"n_fft": setting.get("n_fft", 2048), **setting}
    assert worst(stft.istft(stft.stft(clip, **setting), length=len(clip), **inverse), clip) <= 1e-6
    with jax.enable_x64(True):
        assert worst(stft.istft(stft.stft(clip, **setting), length=len(clip), **inverse), clip) <= 1e-13


def test_parseval_linearity_and_shift(clip):
    """Identities: energy of a frame, STFT(ax + by) = a STFT(x) + b STFT(y), a shift by a hop moves frames by one."""
    with jax.enable_x64(True):
        frames = np.asarray(stft.frame(clip, frame_length=256, hop_length=100, center=False))
        windowed = frames * windows.get_window("hann", 256)
        spectrum = np.asarray(stft.stft(clip, n_fft=256, hop_length=100, center=False))
        energy = np.abs(spectrum) ** 2
        energy = energy[:, 0] + 2 * energy[:, 1:-1].sum(1) + energy[:, -1]
        np.testing.assert_allclose(energy / 256, (windowed**2).sum(1), rtol=0, atol=1e-12 * energy.max())
        other = clip[::-1]
        both = stft.stft(0.5 * clip - 2 * other, n_fft=256)
        apart = 0.5 * stft.stft(clip, n_fft=256) - 2 * stft.stft(other, n_fft=256)
        assert worst(both, np.asarray(apart)) <= 1e-14
        shifted = stft.stft(clip[100:], n_fft=256, hop_length=100, center=False)
        np.testing.assert_array_equal(np.asarray(shifted), spectrum[1:])


def test_blocks_of_frames_equal_the_whole(golden_inputs):
    """Oracle: librosa in float64; long enough to go through several blocks, two clips, odd rest."""
    clip = golden_inputs["wave12k"]
    audio = np.stack([np.resize(clip, 200_003), np.resize(clip[::-1], 200_003)])
    expected = np.abs(librosa.stft(audio.astype(np.float64), n_fft=2048, hop_length=256, pad_mode="reflect"))
    ours = stft.spectrogram(audio, n_fft=2048, hop_length=256, pad_mode="reflect")
    assert worst(ours, np.swapaxes(expected, -1, -2)) <= 3e-7


@pytest.mark.parametrize("frames", [1, 70, 128, 129, 300])
def test_any_number_of_long_frames(clip, frames):
    """Oracle: librosa in float64; a block is 128 frames, of which the last may be partly used."""
    audio = np.resize(clip, (frames - 1) * 200 + 1)
    ours = stft.spectrogram(audio, n_fft=16_384, hop_length=200)
    expected = np.abs(librosa.stft(audio, n_fft=16_384, hop_length=200)).T
    assert ours.shape == expected.shape
    assert worst(ours, expected) <= 5e-7


def test_leading_axes_and_jit(clip):
    """Identity: any leading axes, under jit or not, as one clip at a time."""
    audio = jnp.asarray(clip[:24_000].reshape(2, 3, 4000), jnp.float32)
    together = stft.stft(audio, n_fft=256)
    np.testing.assert_array_equal(np.asarray(together[1, 2]), np.asarray(stft.stft(audio[1, 2], n_fft=256)))
    compiled = jax.jit(lambda x: stft.stft(x, n_fft=256))(audio)
    np.testing.assert_array_equal(np.asarray(compiled), np.asarray(together))
    mapped = jax.vmap(lambda x: stft.stft(x, n_fft=256))(audio)
    assert worst(mapped, np.asarray(together)) <= 2e-7
    back = stft.istft(together, length=4000)
    assert back.shape == audio.shape and worst(back, np.asarray(audio)) <= 1e-6


def test_gradients(clip):
    """Oracle: finite differences; the gradient of a silent magnitude is 0, not NaN."""
    with jax.enable_x64(True):
        audio = jnp.asarray(clip[5000:5300] / np.abs(clip[5000:5300]).max())
        check_grads(lambda x: stft.spectrogram(x, n_fft=64, power=1.0), (audio,), 1, modes=["rev"])
        check_grads(lambda x: stft.istft(stft.stft(x, n_fft=64) * 0.5, length=300), (audio,), 1, modes=["rev"])
    for power in (1.0, 2.0, 0.7):
        gradient = jax.grad(lambda x, power=power: stft.spectrogram(x, n_fft=64, power=power).sum())(jnp.zeros(300))
        assert np.asarray(gradient == 0).all()
    gradient = jax.grad(lambda x: jnp.abs(stft.phase_vocoder(stft.stft(x, n_fft=64), rate=1.2)).sum())(jnp.zeros(300))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("rate", [0.7, 1.0, 1.3, 2.0])
@pytest.mark.parametrize("setting", [{"n_fft": 512}, {"n_fft": 511, "hop_length": 100}], ids=str)
def test_phase_vocoder_equals_librosa(clip, rate, setting):
    """Oracle: librosa.phase_vocoder in float64 (its phases are summed without a modulus)."""
    spectrum = librosa.stft(clip, **setting)
    expected = librosa.phase_vocoder(spectrum, rate=rate, **setting).T
    with jax.enable_x64(True):
        assert worst(stft.phase_vocoder(spectrum.T, rate=rate, **setting), expected) <= 1e-9
    # In float32 a phase of some hundred summed advances keeps three digits.
    assert worst(stft.phase_vocoder(spectrum.T.astype(np.complex64), rate=rate, **setting), expected) <= 3e-3


@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_griffin_lim_equals_librosa(clip, momentum):
    """Oracle: librosa.griffinlim in float64 with all phases 0 at the start."""
    magnitude = np.abs(librosa.stft(clip[:20_000], n_fft=512))
    settings = {"momentum": momentum, "length": 20_000}
    expected = librosa.griffinlim(magnitude, init=None, n_iter=8, n_fft=512, **settings)
    with jax.enable_x64(True):
        ours = stft.griffin_lim(magnitude.T, num_iterations=8, n_fft=512, **settings)
        assert worst(ours, expected) <= 1e-10
    ours = stft.griffin_lim(magnitude.T, num_iterations=8, n_fft=512, **settings)
    assert worst(ours, expected) <= 1e-3


def test_griffin_lim_converges_from_random_phases(clip):
    """Identity: the rebuilt magnitude comes nearer with the rounds; a key decides the phases."""
    magnitude = stft.spectrogram(clip[:20_000], n_fft=512)

    def misfit(rounds, seed):
        key = jax.random.key(seed)
        audio = stft.griffin_lim(magnitude, key=key, num_iterations=rounds, n_fft=512, length=20_000)
        rebuilt = stft.spectrogram(audio, n_fft=512)
        return float(jnp.linalg.norm(rebuilt - magnitude) / jnp.linalg.norm(magnitude)), np.asarray(audio)

    few, _ = misfit(2, 0)
    many, audio = misfit(60, 0)
    assert many < 0.5 * few
    assert np.abs(audio - misfit(60, 1)[1]).max() > 1e-3


@pytest.mark.parametrize("name", ["hann", "hamming", "blackman", "ones", "nuttall", ("kaiser", 6.0)])
def test_windows_equal_scipy(name):
    """Oracle: scipy.signal.get_window."""
    theirs = np.ones(51) if name == "ones" else scipy.signal.get_window(name, 51)
    np.testing.assert_allclose(windows.get_window(name, 51), theirs, rtol=0, atol=1e-15)


def test_essentia_windows():
    """Hand-worked: symmetric, absolute sum 2; the 62 dB Blackman-Harris of ARCHITECTURES §2 at its middle."""
    for name in ("essentia_hann", "essentia_blackmanharris62"):
        window = windows.get_window(name, 2048)
        np.testing.assert_allclose(window, window[::-1], rtol=0, atol=1e-17)
        assert abs(np.abs(window).sum() - 2) < 1e-12
    window = windows.get_window("essentia_blackmanharris62", 2047)
    shape = 0.44959 - 0.49364 * np.cos(2 * np.pi * 500 / 2046) + 0.05677 * np.cos(4 * np.pi * 500 / 2046)
    assert abs(window[500] / window[1023] - shape / (0.44959 + 0.49364 + 0.05677)) < 1e-12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hop_length": 0}, "hop_length=0 must be a whole number of at least 1"),
        ({"hop_length": 2.5}, "hop_length=2.5 must be a whole number"),
        ({"n_fft": 0}, "n_fft=0"),
        ({"n_fft": 256, "win_length": 400}, "win_length=400 is longer than n_fft=256; shorten"),
        ({"n_fft": 256, "win_length": 0}, "win_length=0"),
        ({"n_fft": 256, "window": "hannn"}, "window='hannn' is unknown"),
        ({"n_fft": 256, "window": np.ones(100)}, r"window of shape \(100,\) must have win_length=256 values"),
        ({"n_fft": 2048, "center": False}, "1000 samples are shorter than one frame of 2048; pad the audio"),
        ({"n_fft": 256, "pad_mode": "reflct"}, "did you mean 'reflect'"),
        ({"n_fft": 256, "window": np.full(256, np.nan)}, "window holds complex numbers, NaN or infinity"),
        ({"n_fft": 256, "window": np.full(256, 1j)}, "window holds complex numbers, NaN or infinity"),
        ({"n_fft": 256, "center": "yes"}, "center='yes' must be True, False"),
        ({"n_fft": 256, "pad_mode": "wrap"}, "pad_mode='wrap' is unknown"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    """Oracle: the errors the docstrings promise; the same under jit."""
    with pytest.raises(ValueError, match=message):
        stft.stft(jnp.ones(1000), **arguments)
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda x: stft.stft(x, **arguments))(jnp.ones(1000))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ("clip.wav", "audio is 'clip.wav'; give an array"),
        (None, "audio is None; give an array"),
        (np.zeros((2, 0)), r"audio of shape \(2, 0\) needs at least 1 samples"),
        (np.float32(1), "needs at least 1 samples"),
        (np.zeros((0, 100)), "none of them empty"),
        (np.zeros(1000, np.int16), "divide integer samples by 32768"),
        (np.zeros(1000, np.complex64), "give real floats"),
        (np.array([0.0, np.nan, 0.0]), "NaN or infinity"),
        (jnp.array([0.0, jnp.inf]), "NaN or infinity"),
    ],
)
def test_bad_audio_is_named(audio, message):
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match=message):
        stft.stft(audio, n_fft=64)
    with pytest.raises(ValueError, match=message):
        stft.spectrogram(audio, n_fft=64)


def test_bad_spectra_are_named():
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match="a complex one is needed"):
        stft.istft(jnp.ones((5, 9)))
    with pytest.raises(ValueError, match="9 bins, but n_fft=512 gives 257"):
        stft.istft(jnp.ones((5, 9), jnp.complex64), n_fft=512)
    with pytest.raises(ValueError, match="length=0"):
        stft.istft(jnp.ones((5, 9), jnp.complex64), length=0)
    with pytest.raises(ValueError, match=r"must be \[..., T, F\]"):
        stft.istft(jnp.ones(9, jnp.complex64))
    with pytest.raises(ValueError, match="a complex one is needed"):
        stft.phase_vocoder(jnp.ones((5, 9)), rate=1.0)
    with pytest.raises(ValueError, match="spectrum holds NaN"):
        stft.istft(jnp.full((5, 9), jnp.nan + 0j))
    with pytest.raises(ValueError, match="rate=0"):
        stft.phase_vocoder(jnp.ones((5, 9), jnp.complex64), rate=0)
    with pytest.raises(ValueError, match="momentum=-1"):
        stft.griffin_lim(jnp.ones((5, 9)), momentum=-1)
    with pytest.raises(ValueError, match="num_iterations=0"):
        stft.griffin_lim(jnp.ones((5, 9)), num_iterations=0)


def test_batches_over_devices(clip):
    """Identity: two devices, by an explicit mesh, shard_map and pmap, give the numbers of one and keep the layout."""
    audio = np.resize(clip, (4, 9000)).astype(np.float32)

    def transform(x):
        return stft.istft(stft.stft(x, n_fft=256) * 0.5, length=9000), stft.spectrogram(x, n_fft=256)

    expected = transform(audio)
    mesh = jax.make_mesh((2,), ("clips",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        laid_out = jax.device_put(audio, jax.NamedSharding(mesh, jax.P("clips")))
        explicit = jax.jit(transform)(laid_out)
        assert [leaf.sharding.spec[0] for leaf in explicit] == ["clips", "clips"]
    automatic = jax.make_mesh((2,), ("clips",), axis_types=(jax.sharding.AxisType.Auto,))
    mapped = jax.jit(
        jax.shard_map(transform, mesh=automatic, in_specs=jax.P("clips"), out_specs=jax.P("clips"), check_vma=False)
    )(audio)
    each = jax.pmap(transform)(audio.reshape(2, 2, -1))
    for i, ours in enumerate(expected):
        for other in (explicit[i], mapped[i], np.asarray(each[i]).reshape(ours.shape)):
            assert worst(other, np.asarray(ours)) <= 1e-6


def test_the_form_for_accelerators_has_the_same_numbers(clip, monkeypatch):
    """Oracle: librosa in float64; on GPU and TPU all frames of all clips are transformed in one piece."""
    audio = np.resize(clip, (2, 200_003)).astype(np.float32)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()
    try:
        text = str(jax.make_jaxpr(lambda x: stft.spectrogram(x, n_fft=2048))(audio))
        assert "scan" not in text and "while" not in text
        expected = np.abs(librosa.stft(audio.astype(np.float64), n_fft=2048))
        assert worst(stft.spectrogram(audio, n_fft=2048), np.swapaxes(expected, -1, -2)) <= 3e-7
        back = stft.istft(stft.stft(audio, n_fft=2048), length=audio.shape[-1])
        assert worst(back, audio) <= 1e-6
    finally:
        jax.clear_caches()


def test_arrays_that_a_traced_function_closes_over(clip):
    """Identity: checks see a constant's values without tracing them."""
    audio = jnp.asarray(clip[:1000], jnp.float32)
    expected = stft.istft(stft.stft(audio, n_fft=64))
    ours = jax.jit(lambda scale: scale * stft.istft(stft.stft(audio, n_fft=64)))(1.0)
    assert worst(ours, np.asarray(expected)) <= 1e-6
    bad = audio * jnp.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        jax.jit(lambda scale: scale * stft.stft(bad, n_fft=64))(1.0)

"""Constant-Q transforms against their definition in numpy, librosa, and the value that a pure tone has."""

import inspect
import warnings

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
from jax.test_util import check_grads

from mirjax.signal import cqt

RATE = 12_000
DEFAULT = {"n_bins": 72}
SETTINGS = [
    DEFAULT,
    {"n_bins": 60, "scale": False, "fmin": 60.0, "hop_length": 300},
    {"n_bins": 96, "bins_per_octave": 24, "hop_length": 256, "fmin": 80.0, "tuning": 0.3, "window": "hamming"},
    {"n_bins": 31, "hop_length": 1001, "filter_scale": 0.5, "fmin": 100.0, "pad_mode": "reflect"},
]


@pytest.fixture(scope="module")
def clip(golden_inputs):
    return golden_inputs["wave12k"][:36_000]


def worst(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    return np.abs(a - b).max() / np.abs(b).max()


def in_float64(function, audio, **setting):
    with jax.enable_x64(True):
        out = function(jnp.asarray(audio, jnp.float64), **setting)
        assert out.dtype in (jnp.complex128, jnp.float64)
        return np.asarray(out)


def definition(audio, *, sample_rate, hop_length, fmin, n_bins, gamma=0.0, scale=True, norm=1):
    """X[t, k] = g Σ_n x[t·hop − n] w[n] exp(2πifn / sr), filter by filter, with librosa's wavelets."""
    audio = audio.astype(np.float64)
    frequencies = librosa.cqt_frequencies(n_bins, fmin=fmin)
    filters, lengths = librosa.filters.wavelet(
        freqs=frequencies, sr=sample_rate, gamma=gamma, norm=norm, pad_fft=True, dtype=np.complex128
    )
    half = filters.shape[1] // 2
    rows = [np.convolve(audio, row)[half : half + len(audio) + 1 : hop_length] for row in filters]
    return (np.array(rows) * np.where(scale, np.sqrt(lengths), lengths)[:, None]).T


@pytest.mark.parametrize(
    "setting",
    [
        {"gamma": 0.0},
        {"gamma": None},
        {"gamma": 15.0, "scale": False},
        {"gamma": 0.0, "norm": 2},
        {"gamma": 0.0, "norm": None, "scale": False},
    ],
)
def test_one_octave_is_the_definition(clip, setting):
    """Oracle: numpy.convolve with librosa.filters.wavelet in float64."""
    shared = {"sample_rate": RATE, "hop_length": 200, "fmin": 1500.0, "n_bins": 12} | setting
    expected = definition(clip, **shared)
    assert worst(cqt.vqt(jnp.asarray(clip), **shared), expected) <= 2e-6
    assert worst(in_float64(cqt.vqt, clip, **shared), expected) <= 1e-12


@pytest.mark.parametrize("norm", [2, np.inf, None])
def test_other_norms_over_octaves_are_the_definition(clip, norm):
    """Oracle: a direct numpy sum with librosa's wavelets over three octaves, where librosa itself jumps at each."""
    shared = {"sample_rate": RATE, "hop_length": 201, "fmin": 400.0, "n_bins": 36, "norm": norm}
    assert worst(in_float64(cqt.cqt, clip[:9000], **shared), definition(clip[:9000], **shared)) <= 1e-12


@pytest.mark.parametrize("setting", SETTINGS)
def test_cqt_within_half_a_per_cent_of_librosa(clip, setting):
    """Oracle: librosa.cqt in float64 (which resamples, and drops 1 % of each filter unless `sparsity` is 0)."""
    ours = in_float64(cqt.cqt, clip, sample_rate=RATE, **setting)
    audio = clip.astype(np.float64)
    assert worst(ours, librosa.cqt(audio, sr=RATE, sparsity=0, **setting).T) <= 5e-3
    assert worst(ours, librosa.cqt(audio, sr=RATE, **setting).T) <= 1e-2
    assert worst(cqt.cqt(jnp.asarray(clip), sample_rate=RATE, **setting), ours) <= 2e-6


@pytest.mark.parametrize("gamma", [None, 0.0, 20.0])
def test_vqt_within_one_per_cent_of_librosa(clip, gamma):
    """Oracle: librosa.vqt in float64, with ERB-wide, constant-Q and widened filters."""
    expected = librosa.vqt(clip.astype(np.float64), sr=RATE, n_bins=72, gamma=gamma, sparsity=0).T
    assert worst(in_float64(cqt.vqt, clip, sample_rate=RATE, n_bins=72, gamma=gamma), expected) <= 1e-2


def test_vqt_of_other_temperaments(clip):
    """Oracle: librosa.vqt with an array of intervals."""
    intervals = tuple(2 ** (np.arange(19) / 19) * (1 + 0.002 * np.sin(np.arange(19))))
    shared = {"n_bins": 57, "gamma": 0.0, "fmin": 100.0}
    expected = librosa.vqt(clip.astype(np.float64), sr=RATE, intervals=np.array(intervals), sparsity=0, **shared).T
    assert worst(in_float64(cqt.vqt, clip, sample_rate=RATE, intervals=intervals, **shared), expected) <= 1e-2


def test_early_downsampling_makes_no_difference(clip):
    """Oracle: librosa.cqt, which decimates before the first octave at these settings.

    The clip fades in and out: at abrupt ends librosa's resampler is off by up to 4 % in the lowest bins.
    """
    faded = clip * np.minimum(1, np.minimum(np.arange(len(clip)), np.arange(len(clip))[::-1]) / 4000)
    shared = {"n_bins": 48, "fmin": 40.0}
    expected = librosa.cqt(faded.astype(np.float64), sr=44_100, sparsity=0, **shared).T
    assert worst(in_float64(cqt.cqt, faded, sample_rate=44_100, **shared), expected) <= 1e-2


@pytest.mark.parametrize("setting", [DEFAULT, {"n_bins": 60, "scale": False, "fmin": 60.0, "hop_length": 300}])
def test_pseudo_and_hybrid_against_librosa(clip, setting):
    """Oracle: librosa.pseudo_cqt (whose filters are complex64) and librosa.hybrid_cqt."""
    audio = clip.astype(np.float64)
    pseudo = librosa.pseudo_cqt(audio, sr=RATE, **setting).T
    assert worst(cqt.pseudo_cqt(jnp.asarray(clip), sample_rate=RATE, **setting), pseudo) <= 2e-6
    assert worst(in_float64(cqt.pseudo_cqt, clip, sample_rate=RATE, **setting), pseudo) <= 3e-7
    hybrid = librosa.hybrid_cqt(audio, sr=RATE, **setting).T
    assert worst(cqt.hybrid_cqt(jnp.asarray(clip), sample_rate=RATE, **setting), hybrid) <= 1e-2


def test_harmonic_cqt_is_a_cqt_per_harmonic(clip):
    """Oracle: cqt from h · fmin; librosa.cqt for the third harmonic."""
    shared = {"n_bins": 36, "bins_per_octave": 12, "hop_length": 256}
    harmonics = (1, 3, 0.5, 2)
    together = in_float64(cqt.harmonic_cqt, clip, sample_rate=RATE, harmonics=harmonics, fmin=100.0, **shared)
    for channel, h in enumerate(harmonics):
        assert (
            worst(together[..., channel], in_float64(cqt.cqt, clip, sample_rate=RATE, fmin=100.0 * h, **shared)) < 0.02
        )
    expected = librosa.cqt(clip.astype(np.float64), sr=RATE, fmin=300.0, sparsity=0, **shared).T
    assert worst(together[..., 1], expected) <= 1e-2


JUST = (1, 16 / 15, 9 / 8, 6 / 5, 5 / 4, 4 / 3, 45 / 32, 3 / 2, 8 / 5, 5 / 3, 9 / 5, 15 / 8)


def test_harmonic_cqt_of_other_temperaments(clip):
    """Oracle: cqt from h · fmin with the same intervals, whose bins an octave are not `bins_per_octave`."""
    shared = {"n_bins": 14, "bins_per_octave": 60, "hop_length": 256, "intervals": JUST, "sample_rate": RATE}
    together = in_float64(cqt.harmonic_cqt, clip[:8000], harmonics=(1, 2, 1.5), fmin=300.0, **shared)
    for channel, h in enumerate((1, 2, 1.5)):
        alone = in_float64(cqt.cqt, clip[:8000], fmin=300.0 * h, **shared)
        assert worst(together[..., channel], alone) <= 1e-12


def test_hybrid_cqt_of_other_temperaments():
    """Oracle: a tone at each bin is loudest there, though the pseudo part (from bin 2 on) begins inside an octave."""
    shared = {"n_bins": 20, "fmin": 280.0, "intervals": (1, 1.1, 1.25, 1.6, 1.8)}
    frequencies = cqt.cqt_frequencies(**shared)
    tones = np.cos(2 * np.pi * frequencies[:, None] * np.arange(8192) / RATE)
    heard = in_float64(cqt.hybrid_cqt, tones, sample_rate=RATE, hop_length=256, **shared)[:, 16]
    np.testing.assert_array_equal(heard.argmax(axis=-1), np.arange(20))


def test_magnitude_neither_underflows_nor_overflows():
    """Oracle: numpy.abs in float64; gradient 0 at 0 and of length 1 elsewhere; a list is refused or taken whole."""
    values = np.array([3e-30 + 4e-30j, 3e30 - 4e30j, 0, -2, 1e-45j], np.complex64)
    np.testing.assert_allclose(cqt.magnitude(values)[:4], np.abs(values.astype(np.complex128))[:4], rtol=1e-6)
    np.testing.assert_allclose(cqt.magnitude([3 + 4j, 0j]), [5, 0], rtol=1e-6)
    gradient = jax.grad(lambda x: cqt.magnitude(x).sum())(jnp.asarray(values))
    np.testing.assert_allclose(np.abs(np.asarray(gradient)[:4].astype(np.complex128)), [1, 1, 0, 1], rtol=1e-6)
    with pytest.raises(ValueError, match="spectrum is float32; a complex one is needed"):
        cqt.magnitude([1.0, 2.0])


def test_short_hops_compile_in_seconds(clip):
    """Oracle: the definition; and the traced program of a hop of 1 has no hundreds of slices."""
    shared = {"sample_rate": RATE, "hop_length": 1, "fmin": 400.0, "n_bins": 24}
    audio = jnp.asarray(clip[:500])
    assert worst(cqt.cqt(audio, **shared), definition(clip[:500], **shared)) <= 2e-6
    program = str(jax.make_jaxpr(lambda x: cqt.cqt(x, **shared))(audio))
    assert program.count(" slice[") <= 40


@pytest.mark.parametrize("scale", [True, False])
def test_tone_has_its_analytic_value(scale):
    """Oracle: A √L / 2 with scale, A L / 2 without, at the tone's bin; a Hann window's side lobes elsewhere."""
    frequencies = cqt.cqt_frequencies(n_bins=60, fmin=55.0)
    lengths, _ = cqt.wavelet_lengths(frequencies, sample_rate=RATE)
    for k in (12, 33, 58):
        tone = 0.3 * np.cos(2 * np.pi * frequencies[k] / RATE * np.arange(RATE) + 0.7)
        magnitudes = np.abs(in_float64(cqt.cqt, tone, sample_rate=RATE, n_bins=60, fmin=55.0, scale=scale))
        middle = magnitudes[magnitudes.shape[0] // 2]
        expected = 0.3 / 2 * (np.sqrt(lengths[k]) if scale else lengths[k])
        assert abs(middle[k] / expected - 1) <= 1e-3
        assert middle.argmax() == k or not scale  # without scale a longer neighbour may pass
        # Four bins are 2.5 main lobes away at the least.
        assert np.delete(middle, range(max(0, k - 3), min(60, k + 4))).max() <= 0.03 * expected


def test_white_noise_is_flat():
    """Oracle: E|X|² = σ² Σ w² / (Σ w)² · L = 1.5 σ² at every bin, by the energy of a Hann window."""
    noise = np.random.default_rng(0).standard_normal(20 * RATE).astype(np.float32)
    power = np.abs(np.asarray(cqt.cqt(jnp.asarray(noise), sample_rate=RATE, n_bins=60, fmin=65.0))) ** 2
    np.testing.assert_allclose(power.mean(axis=0), 1.5, rtol=0.25)


def test_time_shift_and_linearity(clip):
    """Oracle: identities; a delay of two hops is two frames, and the transform is linear."""
    setting = {"sample_rate": RATE, "hop_length": 256, "n_bins": 36, "fmin": 200.0}
    late = np.pad(clip, (512, 0))[: len(clip)]
    x, y = in_float64(cqt.cqt, clip, **setting), in_float64(cqt.cqt, late, **setting)
    assert worst(y[6:-6], x[4:-8]) <= 1e-12
    assert worst(in_float64(cqt.cqt, 2 * clip.astype(np.float64) - late, **setting), 2 * x - y) <= 1e-12


@pytest.mark.parametrize("setting", [DEFAULT, {"n_bins": 40, "hop_length": 64, "fmin": 65.0, "gamma": 5.0}])
def test_frames_equal_the_whole(clip, setting):
    """Oracle: vqt of the whole clip, which is computed in blocks of frames for the second setting."""
    setting = {"gamma": 0.0, "sample_rate": RATE} | setting
    whole = cqt.vqt(jnp.asarray(clip), **setting)
    length, hop = cqt.cqt_frame_length(**setting), setting.get("hop_length", 512)
    padded = np.pad(clip, length // 2)
    frames = np.stack([padded[t * hop : t * hop + length] for t in range(1 + len(clip) // hop)])
    assert worst(cqt.cqt_frames(jnp.asarray(frames), **setting), whole) <= 2e-6


def test_long_clips_go_in_blocks(clip):
    """Oracle: the definition; a clip of many blocks, two at a time."""
    long = np.tile(clip, 8)
    shared = {"sample_rate": RATE, "hop_length": 64, "fmin": 1500.0, "n_bins": 12}
    assert worst(cqt.cqt(jnp.asarray(long), **shared), definition(long, **shared)) <= 2e-6


def test_leading_axes_jit_and_vmap(clip):
    """Oracle: each clip alone, eagerly."""
    audio = jnp.asarray(clip).reshape(2, 2, -1)
    setting = {"sample_rate": RATE, "n_bins": 36, "fmin": 100.0}
    together = cqt.cqt(audio, **setting)
    alone = jnp.stack([jnp.stack([cqt.cqt(x, **setting) for x in pair]) for pair in audio])
    assert worst(together, alone) <= 1e-6
    assert worst(jax.jit(lambda x: cqt.cqt(x, **setting))(audio), together) <= 1e-6
    assert worst(jax.vmap(lambda x: cqt.cqt(x, **setting))(audio), together) <= 1e-6


@pytest.mark.parametrize("function", [cqt.cqt, cqt.pseudo_cqt])
def test_gradients(clip, function):
    """Oracle: finite differences in float64; zeros at silence."""
    setting = {"sample_rate": RATE, "n_bins": 14, "fmin": 300.0}

    def energy(audio):
        out = function(audio, **setting)
        return jnp.sum(cqt.magnitude(out) if jnp.iscomplexobj(out) else out)

    with jax.enable_x64(True):
        check_grads(energy, (jnp.asarray(clip[5000:7000], jnp.float64),), order=1, modes=["rev"], rtol=2e-3)
        assert (np.asarray(jax.grad(energy)(jnp.zeros(2000))) == 0).all()


@pytest.mark.parametrize(
    "setting",
    [
        {"hop_length": 32},
        {"hop_length": 32, "scale": False},
        {"hop_length": 16, "gamma": None},
        {"hop_length": 16, "filter_scale": 0.5},
        {"hop_length": 32, "bins_per_octave": 24, "window": "hamming"},
    ],
)
def test_inverse_of_a_chirp(setting):
    """Oracle: identity within one per cent inside the bins' range; librosa.icqt is no nearer."""
    chirp = librosa.chirp(fmin=250, fmax=1200, sr=RATE, length=18_000)
    n_bins = 3 * setting.get("bins_per_octave", 12) + 12
    shared = {"sample_rate": RATE, "fmin": 150.0, "gamma": 0.0} | setting
    spectrum = in_float64(cqt.vqt, chirp, n_bins=n_bins, **shared)
    rebuilt = in_float64(lambda _, **s: cqt.ivqt(jnp.asarray(spectrum), length=len(chirp), **s), chirp, **shared)
    assert rebuilt.shape == chirp.shape
    middle = slice(3000, -3000)
    error = np.sqrt(np.mean((rebuilt - chirp)[middle] ** 2) / np.mean(chirp**2))
    assert error <= 1e-2
    if setting == {"hop_length": 32}:
        theirs = librosa.icqt(
            librosa.cqt(chirp, sr=RATE, fmin=150.0, n_bins=n_bins, hop_length=32),
            sr=RATE,
            fmin=150.0,
            hop_length=32,
            length=len(chirp),
        )
        assert error <= 1.1 * np.sqrt(np.mean((theirs - chirp)[middle] ** 2) / np.mean(chirp**2))


def test_inverse_default_length_and_leading_axes(clip):
    """Oracle: (T − 1) · hop samples, as librosa; each clip alone."""
    setting = {"sample_rate": RATE, "hop_length": 64, "fmin": 300.0}
    spectrum = cqt.cqt(jnp.asarray(clip[:6400]).reshape(2, -1), n_bins=24, **setting)
    audio = cqt.icqt(spectrum, **setting)
    assert audio.shape == (2, 3200)
    assert worst(audio[1], cqt.icqt(spectrum[1], **setting)) <= 1e-6


def test_inverse_warns_of_gaps():
    """Oracle: the docstring: a hop above half the shortest filter is warned of, with the hop that will do."""
    spectrum = jnp.ones((4, 24), jnp.complex64)
    with pytest.warns(UserWarning, match="hop_length=512 is more than half the shortest filter, 184 samples: .*=91 or"):
        cqt.icqt(spectrum, sample_rate=RATE, fmin=300.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cqt.icqt(spectrum, sample_rate=RATE, fmin=300.0, hop_length=91)


@pytest.mark.parametrize("arguments", [{}, {"filter_scale": 0.5, "gamma": None}, {"gamma": 10.0, "window": "blackman"}])
def test_lengths_are_librosas(arguments):
    """Oracle: librosa.filters.wavelet_lengths."""
    frequencies = cqt.cqt_frequencies(n_bins=40, fmin=50.0, bins_per_octave=18, tuning=0.2)
    expected = librosa.cqt_frequencies(40, fmin=50.0, bins_per_octave=18, tuning=0.2)
    np.testing.assert_allclose(frequencies, expected, rtol=1e-14)
    lengths, cutoff = cqt.wavelet_lengths(frequencies, sample_rate=RATE, **arguments)
    expected, expected_cutoff = librosa.filters.wavelet_lengths(freqs=expected, sr=RATE, **arguments)
    np.testing.assert_allclose(lengths, expected, rtol=1e-12)
    np.testing.assert_allclose(cutoff, expected_cutoff, rtol=1e-3)  # librosa tables the windows' bandwidths


@pytest.mark.parametrize("name", ["cqt", "vqt", "pseudo_cqt", "hybrid_cqt"])
def test_defaults_are_librosas(name):
    """Oracle: the signatures of librosa's functions."""
    theirs = inspect.signature(getattr(librosa, name)).parameters
    for ours in (cqt.vqt, getattr(cqt, name)):
        for key, parameter in inspect.signature(ours).parameters.items():
            if key in theirs and parameter.default is not parameter.empty and key not in ("gamma", "intervals"):
                assert parameter.default == theirs[key].default, key


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_bins": 96}, "n_bins=96 .* above half the sample rate"),
        ({"hop_length": 0}, "hop_length=0"),
        ({"fmin": -1.0}, "fmin=-1.0"),
        ({"fmin": 0.01, "n_bins": 24}, "samples long; raise fmin"),
        ({"filter_scale": 0}, "filter_scale=0"),
        ({"filter_scale": 0.001}, "half the sample rate"),
        ({"norm": 3}, "norm=3"),
        ({"tuning": None}, "estimate_tuning"),
        ({"window": np.ones(4)}, "every filter has its own length"),
        ({"window": "hanning"}, "hanning"),
        ({"pad_mode": "mirror"}, "pad_mode='mirror'"),
        ({"n_bins": 0}, "n_bins=0"),
        ({"sample_rate": 0}, "sample_rate=0"),
        ({"gamma": 1.0}, "call vqt"),
        ({"intervals": ()}, "must be ratios above 0"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match=message):
        cqt.cqt(jnp.ones(4000), **{"sample_rate": RATE, "n_bins": 60} | arguments)


def test_bad_arrays_are_named():
    """Oracle: the errors the docstrings promise."""
    setting = {"sample_rate": RATE, "n_bins": 24}
    for audio, message in (
        (jnp.ones(400, jnp.int32), "int32"),
        (jnp.zeros((2, 0)), "at least 1 samples"),
        (jnp.full(400, jnp.nan), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            cqt.cqt(audio, **setting)
    with pytest.raises(ValueError, match="complex one"):
        cqt.icqt(jnp.ones((3, 24)), sample_rate=RATE)
    with pytest.raises(ValueError, match="cqt_frame_length"):
        cqt.cqt_frames(jnp.ones((3, 24)), **setting)
    with pytest.raises(ValueError, match="sparsity=1"):
        cqt.pseudo_cqt(jnp.ones(400), sparsity=1, **setting)
    for gamma in (-1, "erb", float("nan")):
        with pytest.raises(ValueError, match=f"gamma={gamma!r} must be hertz of at least 0, or None"):
            cqt.vqt(jnp.ones(400), gamma=gamma, **setting)
    with pytest.raises(ValueError, match=r"harmonics=\(\) names no channel"):
        cqt.harmonic_cqt(jnp.ones(400), harmonics=(), **setting)
    with pytest.raises(ValueError, match="spectrum holds NaN"):
        cqt.icqt(jnp.full((3, 24), jnp.nan, jnp.complex64), sample_rate=RATE)
    with pytest.raises(ValueError, match="has one frame and so no default length; give length="):
        cqt.icqt(jnp.ones((1, 24), jnp.complex64), sample_rate=RATE)
    with pytest.raises(ValueError, match="sparsity=1"):
        cqt.hybrid_cqt(jnp.ones(400), sparsity=1, **setting)
    with pytest.raises(ValueError, match="pad_mode='mirror'"):
        cqt.hybrid_cqt(jnp.ones(400), pad_mode="mirror", **setting)

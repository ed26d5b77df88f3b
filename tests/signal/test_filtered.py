"""Filter banks against madmom's published sizes and rules worked by hand, spectrograms against librosa."""

import functools

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.ndimage
from jax.test_util import check_grads

from mirjax.signal import filtered, stft

CD = 44_100
THREE = {"sample_rate": CD, "frame_sizes": (1024, 2048, 4096), "num_bands": (3, 6, 12)}


def worst(a, b):
    return np.abs(np.asarray(a) - b).max() / np.abs(b).max()


def magnitude(audio, size, hop):
    """|STFT| with madmom's window, without the Nyquist bin, T × F, float64 by librosa."""
    window = np.hanning(size)
    return np.abs(librosa.stft(np.asarray(audio, np.float64), n_fft=size, hop_length=hop, window=window)).T[
        :, : size // 2
    ]


def triangles(bins, num_bins):
    """Unit-area triangles through (left, centre, right), by interpolation."""
    grid = np.arange(num_bins)
    bank = np.array([np.interp(grid, bins[i : i + 3], [0, 1, 0]) for i in range(len(bins) - 2)])
    return bank / bank.sum(axis=1, keepdims=True)


def reference_bank(rate, size, bands, fmin, fmax):
    """The rule in words: nearest bin of each centre frequency, each bin once."""
    k = np.arange(-200, 200)
    centres = 440 * 2 ** (k / bands)
    centres = centres[(centres >= fmin) & (centres <= fmax)]
    grid = np.arange(size // 2) * rate / size
    return triangles(np.unique([np.abs(grid - f).argmin() for f in centres]), size // 2)


@pytest.mark.parametrize(
    ("frame_sizes", "num_bands", "bank", "expected"),
    [
        ((1024, 2048, 4096), (3, 6, 12), {}, (21, 45, 91)),
        ((1024, 2048, 4096), 6, {}, (39, 45, 49)),
        ((512, 1024, 2048), 6, {}, (34, 39, 45)),
        (2048, 12, {}, (81,)),
        (2048, 24, {}, (140,)),
        (8192, 24, {"fmin": 65.0, "fmax": 2100.0}, (105,)),
        (8192, 24, {"fmin": 30.0, "fmax": 5500.0, "unique": False}, (178,)),
        ((2048, 1024, 4096), 80, {"scale": "mel", "fmin": 27.5, "fmax": 16e3, "unique": False}, (80, 80, 80)),
    ],
)
def test_sizes(frame_sizes, num_bands, bank, expected):
    """Oracle: ARCHITECTURES §9.3, 9.4, 10 and madmom's documentation (140 bands of SuperFlux)."""
    counts = filtered.band_counts(sample_rate=CD, frame_sizes=frame_sizes, num_bands=num_bands, **bank)
    assert counts == expected


def test_frequencies():
    """Oracle: the equal-tempered scale by hand, and madmom's published counts (55 and 110 between 30 and 17,000 Hz)."""
    np.testing.assert_allclose(filtered.log_frequencies(1, fmin=100, fmax=1000), [110, 220, 440, 880])
    np.testing.assert_allclose(filtered.log_frequencies(1, fmin=110, fmax=880), [110, 220, 440, 880])
    np.testing.assert_allclose(filtered.log_frequencies(1, fmin=100, fmax=500, fref=441), [110.25, 220.5, 441])
    np.testing.assert_allclose(
        filtered.log_frequencies(12, fmin=260, fmax=300), librosa.note_to_hz(["C4", "C#4", "D4"])
    )
    assert len(filtered.log_frequencies(6)) == 55 and len(filtered.log_frequencies(12)) == 110


def test_filters_by_hand():
    """Oracle: triangles on bins (0, 2, 3, 6), on coinciding ones, and centres published in madmom's tests."""
    third = 1 / 3
    np.testing.assert_allclose(
        filtered.triangular_filters([0, 2, 3, 6], num_bins=8, norm=False),
        [[0, 0.5, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 2 * third, third, 0, 0]],
    )
    np.testing.assert_allclose(
        filtered.triangular_filters([1, 1, 1, 2, 3], num_bins=4), [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    )
    np.testing.assert_allclose(filtered.triangular_filters([1, 1, 3], num_bins=4), [[0, 2 * third, third, 0]])
    bank = filtered.log_filters(sample_rate=CD, frame_size=2048)
    centres = bank.argmax(axis=1) * CD / 2048
    np.testing.assert_allclose(centres[[0, 1, 40, 80]], [43.066406, 64.599609, 1571.923828, 15805.371094], atol=1e-5)
    corners = np.flatnonzero(bank[80])[[0, -1]] * CD / 2048
    np.testing.assert_allclose(corners, [14944.042968, 16731.298828], atol=1e-5)
    np.testing.assert_allclose(bank.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("size", "bands", "fmin", "fmax"), [(1024, 3, 30, 17_000), (4096, 12, 30, 17e3), (8192, 24, 65, 2100)]
)
def test_banks(size, bands, fmin, fmax):
    """Oracle: the rule in words, worked with numpy's interpolation."""
    given = filtered.log_filters(sample_rate=CD, frame_size=size, bands_per_octave=bands, fmin=fmin, fmax=fmax)
    np.testing.assert_allclose(given, reference_bank(CD, size, bands, fmin, fmax), atol=1e-12)


def test_mel_bank():
    """Oracle: HTK mel frequencies of librosa moved to the nearest bins; three corners in one bin give that bin."""
    for size in (1024, 2048, 4096):
        corners = librosa.mel_frequencies(82, fmin=27.5, fmax=16_000, htk=True)
        bins = np.floor(corners * size / CD + 0.5).astype(int)
        bank = filtered.mel_bin_filters(sample_rate=CD, frame_size=size)
        assert bank.shape == (80, size // 2) and (bank.sum(axis=1) > 0.999).all()
        apart = np.flatnonzero((np.diff(bins)[1:] > 0) & (np.diff(bins)[:-1] > 0))
        for band in apart:
            np.testing.assert_allclose(bank[band], triangles(bins[band : band + 3], size // 2)[0], atol=1e-12)
        assert (bank[bins[2:] - bins[:-2] < 2].max(axis=1) == 1).all()


@pytest.mark.parametrize("wide", [False, True])
def test_spectrograms(golden_inputs, wide):
    """Oracle: librosa.stft in float64 with the symmetric window, the banks by interpolation, log10(x + 1)."""
    audio = golden_inputs["wave12k"][:52_920]
    expected = np.concatenate(
        [
            np.log10(1 + magnitude(audio, size, 441) @ reference_bank(CD, size, bands, 30, 17_000).T)
            for size, bands in zip(THREE["frame_sizes"], THREE["num_bands"], strict=True)
        ],
        axis=-1,
    )
    with jax.enable_x64(wide):
        audio = jnp.asarray(audio.astype(np.float64 if wide else np.float32))
        given = filtered.filtered_spectrogram(audio, end="extend", **THREE)
        assert given.dtype == audio.dtype and given.shape == expected.shape == (121, 157)
        assert worst(given, expected) <= (1e-12 if wide else 2e-6)
        # 120 · 441 samples: madmom's count leaves the last frame out, whose middle is behind the end.
        shorter = filtered.filtered_spectrogram(audio, **THREE)
        assert shorter.shape == (120, 157)
        np.testing.assert_allclose(shorter, given[:-1], atol=1e-6)


@pytest.mark.parametrize(
    ("log", "mul", "add", "function", "bound"),
    [
        ("log10", 5, 1, lambda x: np.log10(5 * x + 1), 2e-6),
        ("log", 1, 2.0**-52, lambda x: np.log(x + 2.0**-52), 1e-4),
        (None, 1, 0, abs, 2e-6),
    ],
)
def test_compressions(golden_inputs, log, mul, add, function, bound):
    """Oracle: the formula on librosa's magnitudes in float64; the second is the onset CNN's, with its mel bank.

    A natural logarithm without a floor shows the rounding of the faintest bands, hence its wider bound.
    """
    audio = golden_inputs["wave12k"][:30_000]
    bank = filtered.mel_bin_filters(sample_rate=CD, frame_size=1024)
    given = filtered.filtered_spectrogram(
        jnp.asarray(audio), sample_rate=CD, frame_sizes=1024, num_bands=80, scale="mel", fmin=27.5, fmax=16e3,
        unique=False, mul=mul, add=add, log=log,
    )  # fmt: skip
    expected = function(magnitude(audio, 1024, 441) @ bank.T)
    assert worst(given, expected[: len(given)]) <= bound


def test_online_frames_end_with_their_sample(golden_inputs):
    """Oracle: uncentred librosa frames of audio with size − 1 zeros before; nothing after a sample changes the past."""
    audio = golden_inputs["wave12k"][:9000].astype(np.float64)
    setting = {"sample_rate": 12_000, "frame_sizes": (512, 1024), "num_bands": 6, "fmax": 5500.0, "hop_length": 120}
    with jax.enable_x64(True):
        given = filtered.filtered_spectrogram(jnp.asarray(audio), origin="online", **setting)
        assert given.shape[0] == 75
        parts = []
        for size in (512, 1024):
            padded = np.concatenate([np.zeros(size - 1), audio])
            window = np.hanning(size)
            spectrum = librosa.stft(padded, n_fft=size, hop_length=120, window=window, center=False)[: size // 2]
            parts.append(np.log10(1 + np.abs(spectrum).T @ reference_bank(12_000, size, 6, 30, 5500).T))
        assert worst(given, np.concatenate(parts, axis=-1)[:75]) <= 1e-12
        changed = audio.copy()
        changed[40 * 120 + 1 :] = 0
        again = filtered.filtered_spectrogram(jnp.asarray(changed), origin="online", **setting)
        np.testing.assert_allclose(again[:41], given[:41], atol=1e-14)
        assert np.abs(again[42:] - given[42:]).max() > 0.01


def test_frames_batches_and_jit(golden_inputs):
    """Identity: `filtered_frames` of separate frames, a batch, jit and eager give the same numbers."""
    audio = jnp.asarray(golden_inputs["wave12k"][:9600])
    setting = {"sample_rate": 12_000, "frame_sizes": (512, 256), "num_bands": (6, 3), "fmax": 5500.0}
    spectrogram = functools.partial(filtered.filtered_spectrogram, hop_length=120, end="extend", **setting)
    whole = spectrogram(audio)
    frames = stft.frame(audio, frame_length=filtered.frame_length(setting["frame_sizes"]), hop_length=120)
    assert frames.shape[0] == filtered.num_frames(9600, hop_length=120, end="extend") == len(whole)
    np.testing.assert_allclose(
        jax.jit(functools.partial(filtered.filtered_frames, **setting))(frames), whole, atol=1e-6
    )
    batch = spectrogram(jnp.stack([audio, audio[::-1]])[None])
    assert batch.shape == (1, 2, *whole.shape)
    np.testing.assert_allclose(batch[0, 0], whole, atol=1e-6)
    np.testing.assert_allclose(jax.jit(spectrogram)(audio), whole, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_frames_become_float32(golden_inputs, dtype):
    """Identity: the same numbers given as float32."""
    frames = jnp.asarray(golden_inputs["wave12k"][:2048].reshape(4, 512), dtype)
    function = functools.partial(filtered.filtered_frames, sample_rate=12_000, frame_sizes=512, fmax=5500.0)
    values = function(frames)
    assert values.dtype == jnp.float32
    np.testing.assert_array_equal(values, function(frames.astype(jnp.float32)))


def test_lags():
    """Oracle: sin²(πn/N) exceeds 1/2 at n = N/4 and 1/4 at N/6, so that d = N/4 and N/3 samples before the middle."""
    sizes = (512, 1024, 2048, 4096, 8192)
    assert [filtered.difference_lag(size, 441) for size in sizes] == [max(1, round(s / 4 / 441)) for s in sizes]
    quarter = [filtered.difference_lag(size, 441, diff_ratio=0.25) for size in sizes]
    assert quarter == [max(1, round(s / 3 / 441)) for s in sizes] == [1, 1, 2, 3, 6]
    assert filtered.difference_lag(2048, 220, diff_ratio=0) == round(1023 / 220)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 11])
def test_maximum_filter(size):
    """Oracle: scipy.ndimage.maximum_filter1d, also for even sizes, exactly."""
    values = np.random.default_rng(0).standard_normal((2, 5, 12)).astype(np.float32)
    for axis in (-1, -2):
        if size <= values.shape[axis]:
            expected = scipy.ndimage.maximum_filter1d(values, size, axis=axis)
            np.testing.assert_array_equal(filtered.maximum_filter(jnp.asarray(values), size, axis=axis), expected)


def test_maximum_filter_takes_lists_and_minus_infinity():
    """Hand-worked: [1, −∞, 3] in windows of 3."""
    np.testing.assert_array_equal(filtered.maximum_filter([1.0, -np.inf, 3.0], 3), [1, 3, 3])


@pytest.mark.parametrize(("lag", "max_size"), [(1, 1), (2, 3), (9, 1), (10, 1), (11, 3)])
def test_positive_differences(golden_inputs, lag, max_size):
    """Oracle: the formula in numpy on a real log-mel; the first frames are 0, also when there are no others."""
    values = librosa.feature.melspectrogram(y=golden_inputs["wave12k"][:5000], sr=12_000, n_mels=30)
    values = np.log(values.T[:10] + 1e-3)
    wide = scipy.ndimage.maximum_filter1d(values, max_size, axis=-1)
    expected = np.zeros_like(values)
    for t in range(lag, 10):
        expected[t] = np.maximum(values[t] - wide[t - lag], 0)
    np.testing.assert_array_equal(
        filtered.positive_differences(jnp.asarray(values), lag=lag, max_size=max_size), expected
    )


@pytest.mark.parametrize(
    ("sizes", "bands", "expected"),
    [((1024, 2048, 4096), (3, 6, 12), 314), ((1024, 2048, 4096), 6, 266), (2048, 12, 162), ((512, 1024, 2048), 6, 236)],
)
def test_inputs_of_the_networks(sizes, bands, expected):
    """Oracle: input sizes of madmom's networks, ARCHITECTURES §9.4 (shapes alone; nothing is computed)."""
    function = functools.partial(filtered.filtered_differences, sample_rate=CD, frame_sizes=sizes, num_bands=bands)
    assert jax.eval_shape(function, jax.ShapeDtypeStruct((3, CD), jnp.float32)).shape == (3, 100, expected)


def test_stack_goes_resolution_by_resolution(golden_inputs):
    """Oracle: bands and rises of each resolution computed alone, put side by side."""
    audio = jnp.asarray(golden_inputs["wave12k"][:9000])
    setting = {"sample_rate": CD, "diff_ratio": 0.25}
    given = filtered.filtered_differences(audio, frame_sizes=[1024, 4096], num_bands=[3, 12], **setting)
    alone = [
        filtered.filtered_differences(audio, frame_sizes=s, num_bands=b, **setting) for s, b in ((1024, 3), (4096, 12))
    ]
    np.testing.assert_allclose(given, np.concatenate(alone, axis=-1), atol=1e-6)
    np.testing.assert_array_equal(given[:3, 42 + 91 :], 0)
    assert (given[3, 42 + 91 :] > 0).any()


def test_gradients():
    """Oracle: finite differences in float64; finite at silence."""
    setting = {"sample_rate": 8000, "frame_sizes": 64, "num_bands": 2, "fmin": 100.0, "fmax": 3500.0}
    function = functools.partial(filtered.filtered_differences, hop_length=50, max_size=3, **setting)
    with jax.enable_x64(True):
        audio = jnp.asarray(np.random.default_rng(0).standard_normal(200))
        check_grads(jax.jit(lambda x: (function(x) ** 2).sum()), (audio,), order=1, modes=["rev"], atol=1e-4, rtol=1e-4)
    for log, add in (("log10", 1.0), ("log", 2.0**-52)):
        slope = jax.grad(lambda x, log=log, add=add: function(x, log=log, add=add).sum())(jnp.zeros(200))
        assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fmax": 30_000.0}, "half the sample rate"),
        ({"fmin": 0.0}, "fmin=0.0"),
        ({"fmin": 400.0, "fmax": 600.0, "num_bands": 1}, "give no filter"),
        ({"num_bands": 0}, "bands_per_octave=0"),
        ({"frame_sizes": (1024, 2048), "num_bands": (3, 6, 12)}, "of the same length"),
        ({"frame_sizes": 0}, "frame_sizes=0"),
        ({"hop_length": 0}, "hop_length=0"),
        ({"log": "ln"}, "log='ln'"),
        ({"add": 0.0}, "add=0.0"),
        ({"mul": -1.0}, "mul=-1.0"),
        ({"origin": "centre"}, "did you mean 'center'"),
        ({"end": "pad"}, "end='pad'"),
        ({"scale": "bark"}, "scale='bark'"),
        ({"diff_ratio": 1.0}, "diff_ratio=1.0"),
        ({"max_size": 0}, "max_size=0"),
        ({"audio": np.zeros(4000, np.int16)}, "int16"),
        ({"audio": np.full(4000, np.inf, np.float32)}, "infinity"),
        ({"audio": np.zeros(0, np.float32)}, "at least 1 samples"),
    ],
)
def test_bad_input(change, message):
    """Contract: the error names the value and the remedy."""
    setting = {"audio": np.zeros(4000, np.float32), "sample_rate": CD, **change}
    with pytest.raises(ValueError, match=message):
        filtered.filtered_differences(setting.pop("audio"), **setting)


def test_bad_parts():
    """Contract: frames, bins and counts that do not fit are refused."""
    with pytest.raises(ValueError, match="needs 2048"):
        filtered.filtered_frames(jnp.zeros((3, 1024)), sample_rate=CD)
    with pytest.raises(ValueError, match="frames is int16; floating-point numbers are needed: divide"):
        filtered.filtered_frames(jnp.zeros((3, 2048), jnp.int16), sample_rate=CD)
    with pytest.raises(ValueError, match="floating-point numbers are needed"):
        filtered.maximum_filter([1, 2, 3], 3)
    with pytest.raises(ValueError, match=r"axis=1 is not an axis of values, whose shape is \(3,\)"):
        filtered.maximum_filter([1.0, 2.0, 3.0], 3, axis=1)
    with pytest.raises(ValueError, match="two filter edges fall in bin 7"):
        filtered.triangular_filters([5, 7, 7], num_bins=8)
    with pytest.raises(ValueError, match="must add up to the 7 bands"):
        filtered.stack_differences(jnp.zeros((3, 7)), counts=(3, 3), lags=(1, 1))
    with pytest.raises(ValueError, match="lag=0"):
        filtered.positive_differences(jnp.zeros((3, 7)), lag=0)
    with pytest.raises(ValueError, match="must be below fmax"):
        filtered.log_frequencies(12, fmin=100, fmax=50)

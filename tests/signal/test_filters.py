"""Frequency scales and filter banks against librosa, scipy and hand-worked values."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest
import scipy.signal

from mirjax.signal import filters

FREQUENCIES = np.concatenate([[0.0], np.geomspace(20, 20_000, 200), [1000.0]])


def worst(a, b):
    return np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max()


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_scales(scale):
    """Oracle: librosa.hz_to_mel and mel_to_hz."""
    mel = filters.hz_to_mel(FREQUENCIES, scale=scale)
    assert worst(mel, librosa.hz_to_mel(FREQUENCIES, htk=scale == "htk")) < 1e-14
    assert worst(filters.mel_to_hz(mel, scale=scale), librosa.mel_to_hz(mel, htk=scale == "htk")) < 1e-14
    assert mel.dtype == np.float64


def test_musical_scales():
    """Oracle: librosa.hz_to_midi, hz_to_octs and their inverses."""
    f = FREQUENCIES[1:]
    assert worst(filters.hz_to_midi(f), librosa.hz_to_midi(f)) < 1e-14
    assert worst(filters.midi_to_hz(np.arange(128)), librosa.midi_to_hz(np.arange(128))) < 1e-14
    for tuning, bins in ((0.0, 12), (-0.3, 24)):
        octs = filters.hz_to_octs(f, tuning=tuning, bins_per_octave=bins)
        assert worst(octs, librosa.hz_to_octs(f, tuning=tuning, bins_per_octave=bins)) < 1e-14
        assert worst(filters.octs_to_hz(octs, tuning=tuning, bins_per_octave=bins), f) < 1e-14


def test_auditory_scales():
    """Oracle: Zwicker's band edges (0.3 Bark and 0.5 Bark are the fits' accuracy); hand-worked ERB; inverses."""
    edges = [100, 200, 300, 400, 510, 630, 770, 920, 1080, 1270, 1480, 1720, 2000, 2320, 2700, 3150, 3700, 4400, 5300]
    edges += [6400, 7700, 9500, 12_000, 15_500]
    for scale, tolerance, top in (("traunmuller", 0.3, 24), ("schroeder", 0.5, 17)):
        bark = filters.hz_to_bark(edges, scale=scale)
        assert np.abs(bark - np.arange(1, 25))[:top].max() < tolerance
        assert worst(filters.bark_to_hz(filters.hz_to_bark(FREQUENCIES, scale=scale), scale=scale), FREQUENCIES) < 1e-13
    assert filters.hz_to_bark(1000) == pytest.approx(26.81 / 2.96 - 0.53, abs=1e-12)
    assert filters.erb_bandwidth(1000) == pytest.approx(24.7 * 5.37, abs=1e-12)
    assert filters.hz_to_erb(1000) == pytest.approx(21.4 * np.log10(5.37), abs=1e-12)
    assert worst(filters.erb_to_hz(filters.hz_to_erb(FREQUENCIES)), FREQUENCIES) < 1e-13


@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "n_mels", "fmin", "fmax"),
    [
        (12_000, 512, 96, 0, None),
        (22_050, 2048, 128, 27.5, 8000),
        (16_000, 511, 40, 125, 7500.5),
        (44_100, 1023, 1, 0, 5000),
    ],
)
@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", None, 1, 2, np.inf])
def test_mel_filters(sample_rate, n_fft, n_mels, fmin, fmax, scale, norm):
    """Oracle: librosa.filters.mel in float64, n_fft even and odd."""
    # A coarse HTK scale has bands between the bins; librosa warns of them and keeps rows of zeros.
    found = filters.mel_filters(
        sample_rate=sample_rate,
        n_fft=n_fft,
        n_mels=n_mels,
        fmin=fmin,
        fmax=fmax,
        scale=scale,
        norm=norm,
        allow_empty=True,
    )
    expected = librosa.filters.mel(
        sr=sample_rate,
        n_fft=n_fft,
        n_mels=n_mels,
        fmin=fmin,
        fmax=fmax,
        htk=scale == "htk",
        norm=norm,
        dtype=np.float64,
    )
    assert found.shape == (n_mels, 1 + n_fft // 2) and found.dtype == np.float64
    assert worst(found, expected) < 1e-12
    assert not found.flags.writeable


def test_norms():
    """Oracle: the definitions: weights that sum to 1, triangles of area 1 hertz, height 1."""
    setting = {"sample_rate": 22_050, "n_fft": 4096, "n_mels": 30}
    np.testing.assert_allclose(filters.mel_filters(**setting, norm="l1").sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(filters.mel_filters(**setting).sum(axis=1) * 22_050 / 4096, 1, rtol=2e-2)
    assert filters.mel_filters(**setting, norm=None).max() <= 1


def essentia_bank(sample_rate, n_fft, n_mels, fmin, fmax):
    """MelBands by default, band by band and bin by bin as its documentation has it, in plain Python."""
    mel = lambda f: 1127.01048 * np.log(f / 700 + 1)  # noqa: E731
    edges = [700 * (np.exp(m / 1127.01048) - 1) for m in np.linspace(mel(fmin), mel(fmax), n_mels + 2)]
    width = (sample_rate / 2) / (n_fft // 2)
    bank = np.zeros((n_mels, 1 + n_fft // 2))
    for i in range(n_mels):
        for j in range(int(edges[i] / width + 0.5), int(edges[i + 2] / width + 0.5)):
            f = j * width
            if edges[i] <= f < edges[i + 1]:
                bank[i, j] = (mel(f) - mel(edges[i])) / (mel(edges[i + 1]) - mel(edges[i]))
            elif edges[i + 1] <= f < edges[i + 2]:
                bank[i, j] = (mel(edges[i + 2]) - mel(f)) / (mel(edges[i + 2]) - mel(edges[i + 1]))
        bank[i] /= bank[i].sum()
    return bank


@pytest.mark.parametrize("n_mels", [24, 40])
def test_essentia_mel_bands(n_mels):
    """Oracle: a plain loop over bands and bins after the documentation of Essentia's MelBands (HTK, unit sum)."""
    found = filters.mel_filters(
        sample_rate=44_100, n_fft=2048, n_mels=n_mels, fmax=22_050, scale="htk", norm="l1", weighting="essentia"
    )
    assert worst(found, essentia_bank(44_100, 2048, n_mels, 0, 22_050)) < 1e-7  # its constant has nine digits
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


def test_sides_straight_in_mel():
    """Oracle: a triangle's value halfway in mel between its lower edge and its centre is 1/2 (hand-worked)."""
    edges = filters.mel_to_hz(np.linspace(0, filters.hz_to_mel(8000, scale="htk"), 4), scale="htk")
    f = filters.mel_to_hz(filters.hz_to_mel(edges[1:3], scale="htk").mean(), scale="htk")
    k = round(f / (16_000 / 65_536))
    for weighting, expected in (("scale", 0.5), ("hertz", (f - edges[1]) / (edges[2] - edges[1]))):
        bank = filters.mel_filters(
            sample_rate=16_000, n_fft=65_536, n_mels=2, scale="htk", norm=None, weighting=weighting
        )
        assert bank[1, k] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("make", [filters.bark_filters, filters.erb_filters])
def test_triangles_on_auditory_scales(make):
    """Oracle: neighbouring triangles of height 1 add up to 1 between the first and the last centre."""
    bank = make(sample_rate=16_000, n_fft=1024, n_bands=20, fmin=50)
    assert bank.shape == (20, 513) and not bank.flags.writeable
    peaks = bank.argmax(axis=1)
    assert (np.diff(peaks) > 0).all()
    np.testing.assert_allclose(bank.sum(axis=0)[peaks[0] + 1 : peaks[-1]], 1, rtol=1e-12)
    np.testing.assert_allclose(make(sample_rate=16_000, n_fft=1024, n_bands=20, fmin=50, norm="l1").sum(axis=1), 1)
    area = make(sample_rate=16_000, n_fft=8192, n_bands=20, fmin=50, norm="slaney").sum(axis=1) * 16_000 / 8192
    np.testing.assert_allclose(area, 1, rtol=0.06)  # sides straight in Bark or ERB are not quite straight in hertz


def test_gammatones():
    """Oracle: the magnitude response of scipy.signal.gammatone, finite (1 %) and recursive (Slaney's, 2 dB in band)."""
    rate, n_fft = 16_000, 1024
    bank = filters.gammatone_filters(sample_rate=rate, n_fft=n_fft, n_bands=10, fmin=100, fmax=4000, power=1)
    centres = filters.erb_to_hz(np.linspace(filters.hz_to_erb(100), filters.hz_to_erb(4000), 10))
    bins = np.arange(513) * rate / n_fft
    for centre, row in zip(centres, bank, strict=True):
        b, a = scipy.signal.gammatone(centre, "fir", order=4, numtaps=8192, fs=rate)
        response = np.abs(scipy.signal.freqz(b, a, worN=np.append(bins, centre), fs=rate)[1])
        assert np.abs(row - response[:-1] / response[-1]).max() < 1e-2
        b, a = scipy.signal.gammatone(centre, "iir", fs=rate)
        response = np.abs(scipy.signal.freqz(b, a, worN=bins, fs=rate)[1])
        near = np.abs(bins - centre) < filters.erb_bandwidth(centre) / 2
        assert np.abs(20 * np.log10(row[near] / response[near])).max() < 2
    power = filters.gammatone_filters(sample_rate=rate, n_fft=n_fft, n_bands=10, fmin=100, fmax=4000)
    np.testing.assert_allclose(power, bank**2)
    assert filters.gammatone_filters(sample_rate=rate, n_fft=255, n_bands=3, fmin=900, norm=1).shape == (3, 128)


@pytest.mark.parametrize("x64", [False, True])
def test_apply_filters(golden_inputs, x64):
    """Oracle: the dense product in numpy float64, of banded, dense and partly empty banks."""
    power = np.abs(librosa.stft(golden_inputs["wave12k"][:30_000].astype(np.float64), n_fft=512).T) ** 2
    mel = filters.mel_filters(sample_rate=12_000, n_fft=512, n_mels=96)
    holes = np.where(np.arange(96)[:, None] // 24 == 2, 0, mel)
    gammatone = filters.gammatone_filters(sample_rate=12_000, n_fft=512, n_bands=20, fmin=200)
    with jax.enable_x64(x64):
        for bank in (mel, holes, gammatone, mel[:2]):
            found = filters.apply_filters(jnp.asarray(power, jnp.result_type(float)), bank)
            assert worst(found, power @ bank.T) < (1e-14 if x64 else 5e-7)


def test_apply_filters_is_banded():
    """Oracle: hand-counted: the four blocks of 96 bands hold at most 60 % of the dense product's work."""
    bank = filters.mel_filters(sample_rate=12_000, n_fft=512, n_mels=96)
    blocks = filters._blocks(bank, 4)
    assert len(blocks) == 4
    assert sum((rows.stop - rows.start) * (high - low) for rows, low, high in blocks) < 0.6 * bank.size
    gammatone = filters.gammatone_filters(sample_rate=12_000, n_fft=512, n_bands=20, fmin=200)
    assert len(filters._blocks(gammatone, 4)) == 1


MEL = {"sample_rate": 12_000, "n_fft": 512, "n_mels": 96}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_mels": 400}, r"n_mels=400 leaves \d+ empty bands at n_fft=512, 12000 Hz .*lower n_mels, raise n_fft"),
        ({"fmin": 7000}, "fmin=7000"),
        ({"fmin": 500, "fmax": 500}, "fmin=500, fmax=500"),
        ({"fmax": 6001}, r"6000 Hz \(half the sample rate\).*fmax=6001"),
        ({"fmin": -1}, "fmin=-1"),
        ({"sample_rate": 0}, "sample_rate=0"),
        ({"n_fft": 0}, "n_fft=0"),
        ({"n_mels": 2.5}, "n_mels=2.5"),
        ({"scale": "slany"}, "did you mean 'slaney'"),
        ({"norm": "garbage"}, "norm='garbage'"),
        ({"norm": 0}, "norm=0"),
        ({"weighting": "hz"}, "weighting='hz'"),
    ],
)
def test_bad_banks_are_named(arguments, message):
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match=message):
        filters.mel_filters(**MEL | arguments)


def test_other_errors():
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match=r"n_bands=40 leaves .* empty bands"):
        filters.gammatone_filters(sample_rate=44_100, n_fft=512, n_bands=40, fmin=20)
    with pytest.raises(ValueError, match="norm='slaney'"):
        filters.gammatone_filters(sample_rate=16_000, n_fft=1024, n_bands=4, norm="slaney", fmin=500)
    with pytest.raises(ValueError, match="empty bands"):
        filters.bark_filters(sample_rate=44_100, n_fft=256, n_bands=48)
    with pytest.raises(ValueError, match="scale='bark'"):
        filters.hz_to_bark(100, scale="bark")
    with pytest.raises(ValueError, match="257 bins, the filters have 129"):
        filters.apply_filters(jnp.ones((3, 257)), filters.mel_filters(sample_rate=8000, n_fft=256, n_mels=10))

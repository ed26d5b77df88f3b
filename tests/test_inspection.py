"""Oracles: made-up networks whose answers are known by hand; the input itself; NumPy's Fourier transform."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mirjax import inspection
from mirjax.models import blocks, counts, layers, taggers, zoo
from mirjax.models.geometry import Window
from mirjax.signal.compression import PCEN, Decibels, LogFloor, LogOffset, LogScaled
from mirjax.signal.presets import preset
from mirjax.signal.representations import MFCC, LogMel, Spectrogram, Waveform

RATE = 8000
SPECTROGRAM = Spectrogram(RATE, 512, 128)


class Known(taggers.Model):
    """Logits are written down: class 0 is the mean of the window's samples, class 1 is −1."""

    representation: object = Waveform(RATE)
    num_steps: int | None = 4000
    fixed: bool = False

    feature_layers = ("copy",)
    windows = ()

    @nn.compact
    def forward(self, x, *, train=False, steps=None):
        layers.expose(self, "copy", x[..., None] if x.ndim == 2 else x)
        mean = x.reshape(x.shape[0], -1).mean(axis=1)
        return {"embedding": mean[:, None], "logits": jnp.stack([mean, jnp.full_like(mean, -1)], axis=-1)}


class Bands(taggers.Model):
    """Two channels: the bands of a range (by weights of one), and those of its mirror image, rectified."""

    representation: object
    first: int
    last: int

    num_steps = None
    feature_layers = ("bands",)
    windows = ()

    @nn.compact
    def forward(self, x, *, train=False, steps=None):
        inside = jnp.zeros(x.shape[-1]).at[self.first : self.last].set(1)
        sums = jnp.stack([(x * inside[None, None]).sum(-1), (x * inside[None, None, ::-1]).sum(-1)], axis=-1)
        maps = nn.relu(sums)
        layers.expose(self, "bands", maps)
        return {"embedding": maps.mean(axis=1)}


def noise(seconds=1.0, rate=RATE, level=0.1):
    return (level * np.random.RandomState(0).standard_normal(int(seconds * rate))).astype(np.float32)


def centre(sound, rate):
    """Mean frequency of the energy, and its share between half and twice 1 kHz."""
    energy = np.abs(np.fft.rfft(sound)) ** 2
    frequencies = np.fft.rfftfreq(len(sound), 1 / rate)
    near = (frequencies > 500) & (frequencies < 2000)
    return (energy * frequencies).sum() / energy.sum(), energy[near].sum() / energy.sum()


# ── taggrams ──


def test_taggram_of_known_logits():
    """Hand-worked: a clip that is 0, 1, 2 in its three half seconds; windows of half a second every quarter."""
    audio = np.repeat(np.float32([0, 1, 2]), 4000)
    times, values = inspection.taggram(Known(), {}, audio, hop=0.25, answer="linear")
    np.testing.assert_allclose(values[:, 0], [0, 0.5, 1, 1.5, 2], atol=1e-6)
    np.testing.assert_allclose(values[:, 1], -1)
    np.testing.assert_allclose(times, np.arange(0.25, 1.26, 0.25) - 0.5 / RATE)
    _, values = inspection.taggram(Known(), {}, audio)
    np.testing.assert_allclose(values[:, 0], 1 / (1 + np.exp(-np.arange(3.0))), atol=1e-6)
    _, values = inspection.taggram(Known(), {}, audio, answer="softmax", moments=(1.0, 2.0))
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.log(values[:, 0] / values[:, 1]), (np.arange(3) - 1) / 2 + 1, atol=1e-5)


def test_taggram_of_many_windows_and_a_spectrogram():
    """Hand-worked: 21 windows are more than one batch; frames of a centred spectrogram lie at multiples of the hop."""
    audio = np.arange(24_000, dtype=np.float32) / 24_000
    _, values = inspection.taggram(Known(), {}, audio, hop=1000 / RATE, answer="linear")
    starts = np.arange(0, 20_001, 1000)
    np.testing.assert_allclose(values[:, 0], (starts + 1999.5) / 24_000, atol=1e-5)
    model = Known(representation=SPECTROGRAM, num_steps=3)
    times, values = inspection.taggram(model, {}, noise())
    frames = np.asarray(SPECTROGRAM(noise()))
    np.testing.assert_allclose(times, (3 * np.arange(len(times)) + 1) * 128 / RATE)
    wanted = frames[: 3 * len(times)].reshape(len(times), -1).mean(axis=1)
    np.testing.assert_allclose(values[:, 0], 1 / (1 + np.exp(-wanted)), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (Known(), {"window": 2.0}, r"a window has 16000 \(2 s\)"),
        (Known(), {"hop": 1e-9}, "hop=1e-09 seconds is not a frame"),
        (Known(), {"answer": "loud"}, "answer='loud' is not one of sigmoid, softmax, linear"),
        (Known(fixed=True), {"window": 0.25}, "takes 4000 frames, 0.5 s, and no other length"),
        (Known(num_steps=None), {}, "say how many seconds"),
        (Known(), {"moments": (0.0, 0.0)}, "deviation must be positive"),
        (Bands(SPECTROGRAM, 0, 2), {"window": 0.5}, "has no head"),
    ],
)
def test_taggram_errors(model, options, said):
    """Hand-worked: each message has the value and what to do."""
    with pytest.raises(ValueError, match=said):
        inspection.taggram(model, {}, noise(), **options)


# ── filters and maps ──


def test_first_layer_filters_of_the_study():
    """Oracle: ARCHITECTURES section 5.2, shapes of the first layers (time × frequency)."""
    shapes = {
        "7x96": [(7, 96, 2)],
        "timbral": [(1, 38, 8), (1, 86, 8), (3, 38, 4), (3, 86, 4), (7, 38, 2), (7, 86, 2)],
        "vgg": [(3, 3, 2)],
        "temporal": [(128, 4), (165, 2), (32, 16), (64, 8)],
        "frame": [(512, 2)],
        "sample": [(3, 2)],
    }
    for name, wanted in shapes.items():
        model = zoo.build(name, 2)
        draws = np.random.RandomState(0)
        variables = jax.tree.map(lambda leaf, draws=draws: draws.normal(size=leaf.shape), counts.variable_shapes(model))
        found = inspection.first_layer_filters(model, variables)
        assert [kernel.shape for _, kernel in found] == wanted
        assert all(path.startswith("front_end/") for path, _ in found)


def test_filters_are_the_kernels():
    """Hand-worked: one kernel, and two channels of one."""
    for channels in (1, 2):
        kernel = np.random.RandomState(0).normal(size=(3, 4, channels, 5))
        model = taggers.Network(LogMel(n_mels=8, num_channels=channels), blocks.Stack((blocks.Conv(5, (3, 4)),)))
        found = inspection.first_layer_filters(model, {"params": {"front_end": {"conv1_block": {"kernel": kernel}}}})
        assert len(found) == channels
        for i, (_, part) in enumerate(found):
            np.testing.assert_array_equal(part, kernel[:, :, i])
    dense = {"params": {"head": {"kernel": np.zeros((3, 4))}}}
    with pytest.raises(ValueError, match="no kernel of this network meets its input"):
        inspection.first_layer_filters(model, dense)


def test_feature_maps_and_their_times():
    """Hand-worked: `valid` 5, stride 1, then pooling by 4: centres at 2, and at 2 + 1.5, every 4 frames."""
    specs = (blocks.Conv(3, (5, 1), padding="valid", pool=(4, 2)), blocks.Conv(2, (3, 3)))
    model = taggers.Network(LogMel(RATE, 512, 128, 16), blocks.Stack(specs))
    audio = noise()
    x = model.representation(audio)[None]
    variables = model.init(jax.random.key(0), x, method="embed")
    maps = inspection.feature_maps(model, variables, audio)
    assert list(maps) == ["conv1", "conv2"]
    assert maps["conv1"].values.shape == (14, 8, 3) and maps["conv2"].values.shape == (14, 8, 2)
    for each in maps.values():
        np.testing.assert_allclose(each.times, (3.5 + 4 * np.arange(14)) * 128 / RATE)
    kernel = np.asarray(variables["params"]["front_end"]["conv1_block"]["kernel"])[:, 0, 0]
    row = np.correlate(np.asarray(x)[0, :, 3], kernel[:, 1], "valid")[:56]
    other = np.correlate(np.asarray(x)[0, :, 2], kernel[:, 1], "valid")[:56]
    wanted = np.maximum(np.maximum(row, other).reshape(14, 4).max(axis=1), 0)
    np.testing.assert_allclose(maps["conv1"].values[:, 1, 1], wanted, atol=1e-3)
    with pytest.raises(ValueError, match=r"give one clip \[N\]"):
        inspection.feature_maps(model, variables, np.stack([audio, audio]))


def test_step_times_of_other_geometries():
    """Hand-worked: a map of the input's length, a global one, `same` and strides, and frames that are not centred."""
    model = Bands(SPECTROGRAM, 0, 1)
    np.testing.assert_allclose(inspection.step_times(model, 5, 5), np.arange(5) * 0.016)
    np.testing.assert_allclose(inspection.step_times(model, 1, 5), [2 * 0.016])
    np.testing.assert_allclose(inspection.step_times(model, 2, 5), [0.75 * 0.016, 3.25 * 0.016])

    class Strided(Known):
        windows = (Window("a", 3, padding="same"), Window("b", 3, 3))

    np.testing.assert_allclose(inspection.step_times(Strided(), 3, 9) * RATE, [1, 4, 7])
    vggish = Known(representation=preset("vggish").representation)
    np.testing.assert_allclose(inspection.step_times(vggish, 4, 4), 0.0125 + 0.01 * np.arange(4))


# ── auralisation ──


@pytest.mark.parametrize(
    "representation",
    [
        SPECTROGRAM,
        Spectrogram(RATE, 512, 128, power=2.0, compression=LogScaled(10_000)),
        LogMel(RATE, 512, 128, 40, compression=LogScaled(10_000)),
        LogMel(RATE, 512, 128, 40),
        LogMel(RATE, 512, 128, 40, mel_power=2.0),
        LogMel(RATE, 512, 128, 40, compression=LogFloor(1e-7), power=1.0),
        LogMel(RATE, 512, 128, 40, compression=Decibels(top_db=None), window="hamming", win_length=400),
        Waveform(RATE),
    ],
    ids=lambda r: f"{type(r).__name__}-{type(getattr(r, 'compression', 0)).__name__}-{getattr(r, 'mel_power', 1)}",
)
def test_a_network_that_is_the_identity_gives_the_clip_back(representation):
    """Oracle: the clip itself; mel banks leave out 0 Hz and half the rate, so their neighbourhood is too."""
    audio = noise()
    sound = inspection.auralise(Known(representation=representation), {}, audio, "copy")
    assert sound.shape == audio.shape and sound.dtype == np.float32
    spectra = [np.fft.rfft(each)[200:-200] for each in (audio, sound)]  # of one second: hertz
    assert np.abs(spectra[0] - spectra[1]).max() < 0.02 * np.abs(spectra[0]).max()
    if not isinstance(representation, LogMel):
        np.testing.assert_allclose(sound, audio, atol=2e-3 * np.abs(audio).max())


def test_vggish_frames_come_back():
    """Oracle: the clip itself, within VGGish's bands (125–7500 Hz) and away from its ends."""
    audio = noise(rate=16_000)
    model = Known(representation=preset("vggish").representation)
    assert isinstance(model.representation.compression, LogOffset)
    sound = inspection.auralise(model, {}, audio, "copy")
    spectra = [np.fft.rfft(each[1000:-1000] * np.hanning(14_000))[180:6400] for each in (audio, sound)]
    assert np.abs(spectra[0] - spectra[1]).max() < 0.05 * np.abs(spectra[0]).max()


@pytest.mark.parametrize(
    "representation",
    [SPECTROGRAM, LogMel(RATE, 512, 128, 64, compression=LogScaled(10_000)), LogMel(RATE, 512, 128, 64)],
    ids=["spectrogram", "log-mel", "decibels"],
)
def test_a_filter_around_1_khz_gives_a_sound_around_1_khz(representation):
    """Oracle: the energy of NumPy's Fourier transform; the clip is white noise, so that all of it could be there."""
    moments = (-100.0, 20.0) if isinstance(getattr(representation, "compression", None), Decibels) else (0.0, 1.0)
    if isinstance(representation, LogMel):
        peaks = representation.filters().argmax(axis=1) * RATE / 512
    else:
        peaks = np.arange(257) * RATE / 512
    first, last = np.searchsorted(peaks, (900, 1100))
    model = Bands(representation, int(first), int(last))
    audio = noise()
    sound = inspection.auralise(model, {}, audio, "bands", 0, moments=moments)
    mean, share = centre(sound, RATE)
    assert 900 < mean < 1150 and share > 0.95
    assert centre(audio, RATE)[0] > 1900
    mirrored = inspection.auralise(model, {}, audio, "bands", 1, moments=moments)
    both = inspection.auralise(model, {}, audio, "bands", moments=moments)
    assert mean + 100 < centre(both, RATE)[0] < centre(mirrored, RATE)[0]
    assert all((each**2).sum() < (audio**2).sum() for each in (sound, mirrored))


def test_a_filter_of_a_waveform_network():
    """Oracle: the Fourier transform; a sine of 1 kHz, 64 samples long, as the only filter."""
    kernel = np.sin(2 * np.pi * 1000 * np.arange(64) / RATE)[:, None, None] * np.hanning(64)[:, None, None]
    model = taggers.Network(Waveform(RATE), blocks.Stack((blocks.Conv(1, (64,)),), unit="samples"))
    variables = {"params": {"front_end": {"conv1_block": {"kernel": kernel, "bias": np.zeros(1)}}}}
    mean, share = centre(inspection.auralise(model, variables, noise(), "conv1", 0), RATE)
    assert 900 < mean < 1100 and share > 0.98


def test_pooling_goes_back_to_where_the_maximum_was():
    """Hand-worked: a click in one frame, pooled over all time: the sound is where the click was."""
    audio = np.zeros(RATE, np.float32)
    audio[4096] = 1.0
    spec = blocks.Conv(1, (1, 1), pool=(blocks.ALL, 1))
    model = taggers.Network(SPECTROGRAM, blocks.Stack((spec,)))
    kernel = {"kernel": np.ones((1, 1, 1, 1)), "bias": np.zeros(1)}
    sound = inspection.auralise(model, {"params": {"front_end": {"conv1_block": kernel}}}, audio, "conv1", 0)
    assert np.argmax(np.abs(sound)) == 4096
    assert (sound[4096 - 256 : 4096 + 256] ** 2).sum() > 0.99 * (sound**2).sum() > 0


def test_silence_stays_silent():
    """Hand-worked: a clip of zeros has no map above that of silence."""
    model = Bands(LogMel(RATE, 512, 128, 32), 3, 9)
    assert not inspection.auralise(model, {}, np.zeros(RATE, np.float32), "bands", 0).any()


@pytest.mark.parametrize(
    ("representation", "layer", "channel", "said"),
    [
        (SPECTROGRAM, "conv9", 0, "layer='conv9' is not one of bands"),
        (SPECTROGRAM, "bands", 2, "channel=2: bands has 2 channels"),
        (MFCC(), "bands", 0, "no way back from MFCC"),
        (LogMel(RATE, 512, 128, 32, compression=PCEN()), "bands", 0, "no way back through PCEN"),
        (LogMel(RATE, 512, 128, 32, num_channels=2), "bands", 0, "one channel's waveform"),
    ],
)
def test_auralise_errors(representation, layer, channel, said):
    """Hand-worked: each message names what is wrong and what there is."""
    with pytest.raises(ValueError, match=said):
        inspection.auralise(Bands(representation, 3, 9), {}, noise(), layer, channel)


def test_write_wav(tmp_path):
    """Oracle: soundfile reads back what was written, turned down where it was too loud."""
    soundfile = pytest.importorskip("soundfile")
    inspection.write_wav(tmp_path / "a.wav", noise(), RATE)
    read, rate = soundfile.read(tmp_path / "a.wav")
    assert rate == RATE
    np.testing.assert_allclose(read, noise(), atol=1 / 32_000)
    inspection.write_wav(tmp_path / "b.wav", 4 * np.ones(10), RATE)
    assert soundfile.read(tmp_path / "b.wav")[0].max() == pytest.approx(1, abs=1e-4)
    for audio, rate in ((np.zeros((2, 3)), RATE), (np.array([np.nan]), RATE), (np.zeros(3), 0)):
        with pytest.raises(ValueError, match=r"give one channel|must be a whole number"):
            inspection.write_wav(tmp_path / "c.wav", audio, rate)


def test_needs_no_audio_library():
    """Oracle: DESIGN section 2: the core runs without soundfile and matplotlib."""
    code = "import sys; sys.modules['soundfile'] = sys.modules['matplotlib'] = None; import mirjax.inspection"
    subprocess.run([sys.executable, "-c", code], check=True)

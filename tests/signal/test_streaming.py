"""One contract for all representations: streamed in any pieces, they give what the whole clip gives.

Oracle: the representation of the whole clip (itself held against librosa and scipy elsewhere). Stated bounds, relative
to the largest value, in float32: 1e-6; 5e-6 behind a resampler and 2e-6 for the constant-Q transform, which sum
otherwise when they stream; 1e-5 for decibels, whose small powers amplify such differences, and 5e-5 for both; 1e-4, one
step of float16, where bands are rounded to it.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirjax.signal import presets, streaming
from mirjax.signal.compression import PCEN, Decibels, Linear, LogScaled
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
from mirjax.signal.representations import CENS, MFCC, Chroma, LogCQT, LogMel, Spectrogram, Waveform

DB = Decibels(top_db=None)
NUM_SAMPLES = 30_011
REPRESENTATIONS = {
    **{name: preset.representation for name, preset in presets.PRESETS.items()},
    "log_mel db": LogMel(compression=DB),
    "log_mel stereo": LogMel(compression=LogScaled(), num_channels=2),
    "log_mel pcen": LogMel(compression=PCEN(sample_rate=12_000, hop_length=256)),
    "log_mel hop > frame": LogMel(n_fft=512, hop_length=700, compression=Linear()),
    "log_mel reflect": LogMel(pad_mode="reflect", compression=Linear()),
    "log_mel uncentred": LogMel(center=False, compression=Linear()),
    "spectrogram odd": Spectrogram(n_fft=511, hop_length=130, win_length=300, window="hamming", pad_mode="edge"),
    "spectrogram symmetric": Spectrogram(n_fft=512, hop_length=128, pad_mode="symmetric", power=2.0),
    "mfcc deltas": MFCC(LogMel(compression=DB), deltas=2),
    "mfcc deltas mirror": MFCC(LogMel(compression=DB), deltas=1, delta_mode="mirror"),
    "mfcc deltas constant": MFCC(LogMel(compression=DB), deltas=1, delta_mode="constant"),
    "mfcc stereo": MFCC(LogMel(compression=DB, num_channels=2)),
    "resampled stereo": Resampled(LogMel(8_000, num_channels=2, compression=Linear()), sample_rate=12_000),
    "mfcc deltas interp": MFCC(LogMel(compression=DB), deltas=1, delta_mode="interp"),
    "cqt": LogCQT(sample_rate=12_000, n_bins=60, compression=Linear()),
    "cqt db": LogCQT(sample_rate=12_000, n_bins=60, compression=DB),
    "vqt": LogCQT(sample_rate=12_000, n_bins=48, gamma=10.0, fmin=65.4, compression=Linear()),
    "chroma": Chroma(sample_rate=12_000),
    "cens": CENS(sample_rate=12_000, n_octaves=4, bins_per_octave=12, fmin=65.4),
    "onset strength": OnsetStrength(),
    "onset strength superflux": OnsetStrength(lag=2, max_size=3),
    "tempogram": Tempogram(win_length=48),
    "pitch": Pitch(sample_rate=12_000),
    "spectral shape": SpectralShape(sample_rate=12_000),
    "loudness momentary": Loudness(12_000),
    "loudness short-term": Loudness(8_000, windows=30),
    "harmonic percussive": HarmonicPercussive(LogMel(compression=LogScaled())),
    "pre-emphasis": PreEmphasis(LogMel(compression=LogScaled())),
    "resampled up": Resampled(LogMel(16_000, compression=LogScaled()), sample_rate=12_000),
    "resampled down": Resampled(Waveform(8_000), sample_rate=12_000),
    "resampled not": Resampled(Waveform(12_000), sample_rate=12_000),
}
WHOLE_CLIP = {
    "log_mel": (LogMel(), "top_db=80 is measured from the loudest frame of the clip; set top_db=None"),
    "ref": (LogMel(compression=Decibels(ref="max", top_db=None)), "ref='max' is relative to the loudest frame"),
    "mfcc": (MFCC(), "set top_db=None"),
    "cqt": (LogCQT(), "set top_db=None"),
    "onset": (OnsetStrength(LogMel()), "set top_db=None"),
    "tempogram": (Tempogram(OnsetStrength(LogMel())), "set top_db=None"),
    "two stages": (TwoStageHPSS(), "invert a transform of the whole clip; use HarmonicPercussive"),
    "resampled": (Resampled(LogMel()), "set top_db=None"),
    "deltas": (MFCC(LogMel(compression=DB), deltas=1, delta_mode="wrap"), "use 'nearest'"),
}


def bound(name, representation):
    special = {"cqt": 2e-6, "vqt": 2e-6, "cqt db": 5e-5, "resampled up": 5e-6, "musicnn": 1e-4}
    if name in special:
        return special[name]
    return 1e-5 if getattr(representation, "compression", None) == DB or name.startswith("mfcc") else 1e-6


def can_stream(representation):
    return not any(isinstance(stage, streaming.WholeClip) for stage in representation.stages())


STREAMS = sorted(name for name, representation in REPRESENTATIONS.items() if can_stream(representation))


def time_axis(representation, frames):
    if isinstance(representation, Waveform) or isinstance(getattr(representation, "then", None), Waveform):
        return -1
    return -3 if representation.num_channels > 1 else -2


def streamed(representation, audio, sizes):
    state, pieces, start = representation.init(), [], 0
    for size in (*sizes, audio.shape[-1] - sum(sizes)):
        state, frames = representation.step(state, audio[..., start : start + size])
        pieces.append(np.asarray(frames))
        start += size
    rest = representation.finish(state)
    pieces += [] if rest is None else [np.asarray(rest)]
    return np.concatenate(pieces, axis=time_axis(representation, pieces[0])), pieces


@pytest.fixture(scope="module")
def music(golden_inputs):
    return golden_inputs["wave12k"][20_000 : 20_000 + NUM_SAMPLES]


@pytest.mark.parametrize("name", STREAMS)
def test_pieces_equal_the_whole(name, music):
    """Identity: tiny, odd and empty chunks, two clips at once, put together as the whole clip's frames."""
    representation = REPRESENTATIONS[name]
    audio = np.stack([music, music[::-1]])
    whole = np.asarray(representation(audio))
    together, pieces = streamed(representation, audio, (1, 3021, 0, 22_000))
    assert together.shape == whole.shape
    assert np.abs(together - whole).max() <= bound(name, representation) * np.abs(whole).max()
    assert whole.shape[0 if representation.num_channels > 1 else 1 :] == representation.shape(NUM_SAMPLES)
    assert sum(piece.shape[time_axis(representation, piece)] > 0 for piece in pieces) > 1, "nothing came before the end"


@pytest.mark.parametrize(
    "name",
    [
        "tutorial_onset",
        "log_mel db",
        "log_mel pcen",
        "mfcc deltas interp",
        "cqt db",
        "cens",
        "tempogram",
        "resampled up",
    ],
)
def test_pieces_equal_the_whole_in_float64(name, music):
    """Identity: one of each kind under jax_enable_x64, to 1e-9 (the smallest powers in decibels; others to 1e-12)."""
    representation = REPRESENTATIONS[name]
    audio = music.astype(np.float64)
    with jax.enable_x64(True):
        whole = representation(audio)
        assert whole.dtype == jnp.float64
        together, _ = streamed(representation, audio, (7001,))
    assert together.dtype == np.float64 and together.shape == whole.shape
    assert np.abs(together - np.asarray(whole)).max() <= 1e-9 * np.abs(whole).max()


@pytest.mark.parametrize("name", WHOLE_CLIP)
def test_what_needs_the_whole_clip_says_so(name):
    """Oracle: issue 4, item 7."""
    representation, message = WHOLE_CLIP[name]
    with pytest.raises(ValueError, match="cannot be streamed: .*" + message):
        representation.init()


def test_every_preset_streams_or_refuses():
    """Oracle: the presets with top_db or two separations refuse, all others stream."""
    for name, preset in presets.PRESETS.items():
        if name in STREAMS:
            assert preset.representation.init() is not None
        else:
            with pytest.raises(ValueError, match="cannot be streamed"):
                preset.representation.init()
    assert sum(name in STREAMS for name in presets.PRESETS) >= 18


def test_short_clips_and_none(music):
    """Identity: clips shorter than a frame, and a stream without a sample."""
    for name in ("log_mel reflect", "pre-emphasis", "resampled up"):
        representation = REPRESENTATIONS[name]
        for length in (2, 257):
            whole = np.asarray(representation(music[:length]))
            together, _ = streamed(representation, music[:length], (1,))
            assert together.shape == whole.shape
            np.testing.assert_allclose(together, whole, rtol=0, atol=1e-5 * max(1, np.abs(whole).max()))
        assert representation.finish(representation.init()) is None


@pytest.mark.parametrize("size", [100, 441, 1024])
def test_chunks_of_any_size_compile_a_few_programs(music, size):
    """Oracle: the number of times that jax asks for the stages; frames come as early as they can."""
    traces = []

    @dataclasses.dataclass(frozen=True)
    class Counted(LogMel):
        def stages(self):
            traces.append(1)
            return super().stages()

    representation = Counted(compression=LogScaled(), hop_length=441)
    state, frames = representation.init(), 0
    for i in range(25):
        state, ready = representation.step(state, music[i * size : (i + 1) * size])
        frames += len(ready)
        # Frame t needs t · 441 + 256 samples.
        assert frames == max(0, ((i + 1) * size - 256) // 441 + 1)
        if i == 12:
            traces.clear()
    assert len(traces) <= 1


def test_bad_chunks_are_named(music):
    """Oracle: the errors the docstrings promise."""
    representation = LogMel(compression=LogScaled())
    with pytest.raises(ValueError, match="NaN or infinity"):
        representation.step(representation.init(), np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="divide integer samples"):
        representation.step(representation.init(), np.zeros(300, np.int16))
    state, _ = representation.step(representation.init(), music[:1000])
    with pytest.raises(ValueError, match=r"does not go on from chunks of shape \('...',\)"):
        representation.step(state, music[None, :1000])
    with pytest.raises(ValueError, match="state is NoneType; begin with"):
        representation.step(None, music)
    stereo = REPRESENTATIONS["log_mel stereo"]
    with pytest.raises(ValueError, match=r"must be \[..., 2, N\]"):
        stereo.step(stereo.init(), music[:0])
    with pytest.raises(ValueError, match=r"must be \[..., 2, N\]"):
        stereo.step(stereo.init(), music[:300])


@pytest.mark.parametrize("center", [True, False, (5, 0), (0, 9)])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize(("length", "hop"), [(16, 4), (15, 7), (9, 40)])
def test_frames_of_any_geometry(center, pad_mode, length, hop):
    """Identity: every offset of the last frame, hops longer than frames, odd lengths; bit for bit."""
    rng = np.random.default_rng(0)
    stage = streaming.Chain((streaming.Frames(lambda frames: frames, length, hop, center, pad_mode),))
    for size in (100, 100 + hop // 2):
        audio = jnp.asarray(rng.standard_normal(size), jnp.float32)
        whole = stage(audio)
        state, pieces = stage.init(), []
        for chunk in np.split(audio, (3, 3, 45)):
            state, frames = stage.step(state, jnp.asarray(chunk))
            pieces.append(frames)
        rest = stage.finish(state)
        np.testing.assert_array_equal(np.concatenate([*pieces, rest]), whole)

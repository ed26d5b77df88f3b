"""Inputs of published systems, by name: the representation, what is done to it, how many frames a network sees.

The representation itself has no parameters; `normalisation` says what is still to be fitted on training data (with
`normalise`), `num_frames` the length of the patch. `legacy` names mark slips of released code that published numbers
contain (ARCHITECTURES §11). Where a source leaves a value open, the note says so. Systems of the years before librosa
0.9 (2022) that centred their frames with it padded clips by reflection, which their sources do not mention: zeros are
the default here as in librosa today, `dataclasses.replace(representation, pad_mode="reflect")` has their
first and last frames.
Source: ARCHITECTURES §2–10, cited per entry.
Names: `Preset`, `PRESETS`, `preset`.
"""

import dataclasses
import functools

from mirjax.signal import checks
from mirjax.signal.compression import Linear, LogFloor, LogOffset, LogScaled
from mirjax.signal.descriptors import TwoStageHPSS
from mirjax.signal.representations import MFCC, FilteredSpectrogram, LogMel, Representation, Waveform


@dataclasses.dataclass(frozen=True)
class Preset:
    """How a published system prepares its input.

    Attributes:
      representation: audio f32[..., N] → f32[..., T, F].
      source: the system, and where its values are from.
      num_frames: frames (or samples) of a network's input; None where it takes any number.
      normalisation: what is fitted on training data: "none", "global" (one mean and deviation), "per band", "per value"
        (each frame and band of the patch), "mean patch" (subtracted, not divided).
      note: what the source leaves open.
    """

    representation: Representation
    source: str
    num_frames: int | None = None
    normalisation: str = "none"
    note: str = ""


_BALLROOM = LogMel(
    sample_rate=44_100,
    n_fft=2048,
    hop_length=1024,
    n_mels=40,
    window="essentia_blackmanharris62",
    scale="htk",
    norm="l1",
    weighting="essentia",
    compression=LogScaled(10_000, 10),
)
_MUSICNN = LogMel(sample_rate=16_000, n_fft=512, hop_length=256, n_mels=96, compression=LogScaled(10_000, 10))
_FEW_SHOT = LogMel(sample_rate=44_100, n_fft=1024, hop_length=1024, n_mels=128, compression=LogOffset(2.2e-16, base=10))
_VGGISH = LogMel(
    sample_rate=16_000,
    n_fft=512,
    win_length=400,
    hop_length=160,
    n_mels=64,
    fmin=125.0,
    fmax=7500.0,
    scale="htk",
    norm=None,
    weighting="scale",
    power=1.0,
    center=False,
    start_aligned=True,
    compression=LogOffset(0.01),
)
_ONSET_RNN = FilteredSpectrogram(num_bands=(6, 6, 6), mul=5.0, diff_ratio=0.25)

PRESETS = {
    # Pons' thesis
    "ballroom": Preset(
        _BALLROOM,
        "thesis 3.2 and 3.3, single filter shapes, O-net, P-net (CBMI 2016, ICASSP 2017); §2",
        num_frames=80,
        normalisation="global",
        note="Essentia's defaults of today, those of the 2016 release were not checked; 250 frames in the long nets",
    ),
    "phonemes": Preset(
        LogMel(
            sample_rate=44_100,
            n_fft=2204,
            win_length=1102,
            hop_length=441,
            n_mels=80,
            fmax=11_000.0,
            window="essentia_hann",
            scale="htk",
            norm="l1",
            weighting="essentia",
            compression=LogScaled(100_000, 2.718281828459045),
        ),
        "thesis 3.4.1, singing-voice phonemes (EUSIPCO 2017); §4.1",
        num_frames=21,
        normalisation="per band",
        note="Essentia's mel bands and window scaling as in `ballroom`",
    ),
    "irmas": Preset(
        LogMel(),
        "thesis 3.4.2, predominant instrument (EUSIPCO 2017); §4.2",
        num_frames=128,
        normalisation="global",
    ),
    "irmas_legacy": Preset(
        LogMel(mel_power=2.0),
        "the same as released: decibels of the squared power, mean patch subtracted; §4.2",
        num_frames=128,
        normalisation="mean patch",
    ),
    "mtt_timbre": Preset(
        LogMel(sample_rate=16_000, n_fft=512, hop_length=256, n_mels=128, compression=LogScaled(10_000, 10)),
        "thesis 3.4.3, auto-tagging (EUSIPCO 2017); §4.3",
        num_frames=187,
        normalisation="per band",
    ),
    "elmarc": Preset(LogMel(), "thesis 4, randomly weighted CNNs (ICASSP 2019); §5.1", num_frames=1376),
    "elmarc_waveform": Preset(Waveform(), "thesis 4, waveform networks; §5.1", num_frames=350_000),
    "mfcc": Preset(
        MFCC(LogMel(sample_rate=12_000, n_fft=2048, hop_length=512, n_mels=128)),
        "thesis 4, the baseline whose statistics `cepstral.mfcc_statistics` takes; §5.4",
    ),
    "at_scale": Preset(
        _MUSICNN,
        "thesis 5, front-ends at scale (ISMIR 2018); §6.1",
        num_frames=187,
        normalisation="global",
        note="window, hop and compression are the companion repository's; 3 s are 187 frames there",
    ),
    "at_scale_waveform": Preset(Waveform(16_000), "thesis 5, waveform front-end, 3 s; §6.2", num_frames=48_000),
    "few_shot": Preset(_FEW_SHOT, "thesis 6, few training examples, log-EPS (ICASSP 2019); §7.1", num_frames=128),
    "few_shot_linear": Preset(
        dataclasses.replace(_FEW_SHOT, compression=Linear()),
        "thesis 6, input of the log-learn layer; §7.3",
        num_frames=128,
    ),
    # Reference taggers
    "musicnn": Preset(
        dataclasses.replace(_MUSICNN, half_precision=True),
        "musicnn's release (2019); §6.6",
        num_frames=187,
        note="the cast is its; its logarithm is in float16 as well, so that bands above 6.55 overflow there",
    ),
    "sample_cnn": Preset(Waveform(22_050), "SampleCNN 3⁹ (Lee et al. 2017); §6.6", num_frames=59_049),
    "vggish": Preset(_VGGISH, "VGGish (Hershey et al. 2017); §7.5", num_frames=96),
    "choi_tagger": Preset(
        LogMel(), "MusicTaggerCNN and CRNN, the compact CNN (Choi et al. 2016, 2017); §10", num_frames=1366
    ),
    "choi_tagger_legacy": Preset(
        LogMel(mel_power=2.0),
        "the same as MusicTaggerCNN's weights were trained: decibels of amplitude⁴; §10",
        num_frames=1366,
    ),
    "kim": Preset(
        LogMel(sample_rate=22_050, n_fft=1024, hop_length=256, n_mels=128, num_channels=2),
        "Kim et al. (2020), stereo; §8.1",
        num_frames=216,
        normalisation="per band",
    ),
    # Choi's tutorial
    "singing_voice": Preset(
        LogMel(
            sample_rate=22_050,
            n_fft=1024,
            hop_length=315,
            n_mels=80,
            fmin=27.5,
            fmax=8000.0,
            power=1.0,
            compression=LogFloor(1e-7),
        ),
        "singing-voice convnets (Schlüter & Grill 2015, Schlüter 2016); §10",
        num_frames=115,
        normalisation="per band",
        note="magnitudes, and librosa's mel bank: the source states neither",
    ),
    "leglaive": Preset(
        TwoStageHPSS(),
        "singing-voice BLSTM (Leglaive et al. 2015), 40 harmonic and 40 percussive mel bands; §10",
        num_frames=218,
        note="decibels, and the second stage's frames: the source states neither",
    ),
    "deep_chroma": Preset(
        FilteredSpectrogram(
            frame_sizes=(8192,), hop_length=4410, num_bands=(24,), fmax=5500.0, unique=False, diff_ratio=None
        ),
        "deep chroma as published (Korzeniowski & Widmer 2016), 178 bins; §10",
        num_frames=15,
    ),
    "deep_chroma_madmom": Preset(
        FilteredSpectrogram(
            frame_sizes=(8192,), hop_length=4410, num_bands=(24,), fmin=65.0, fmax=2100.0, diff_ratio=None
        ),
        "deep chroma in madmom, 105 bins; §10",
        num_frames=15,
    ),
    # ISMIR 2018 tutorial
    "tutorial": Preset(
        LogMel(sample_rate=16_000, n_fft=2048, hop_length=1024, n_mels=80),
        "ISMIR 2018 tutorial, classification; §9.1",
        num_frames=80,
        normalisation="per value",
        note="clips are peak-normalised and cut to 81 · 2048 samples before; its `norm=1` was unit area at the time",
    ),
    "tutorial_onset": Preset(FilteredSpectrogram(), "ISMIR 2018 tutorial, onsets, 314 inputs; §9.3"),
    # madmom
    "onset_rnn": Preset(_ONSET_RNN, "madmom's onset RNN, 266 inputs; §9.4"),
    "onset_rnn_online": Preset(
        dataclasses.replace(_ONSET_RNN, frame_sizes=(512, 1024, 2048), origin="online"),
        "madmom's online onset RNN, 236 inputs; §9.4",
    ),
    "onset_cnn": Preset(
        FilteredSpectrogram(
            frame_sizes=(2048, 1024, 4096),
            num_bands=(80, 80, 80),
            bank_scale="mel",
            fmin=27.5,
            fmax=16_000.0,
            unique=False,
            add=2.220446049250313e-16,
            log="log",
            diff_ratio=None,
        ),
        "madmom's onset CNN (Schlüter & Böck 2014), three channels of 80 bands side by side; §9.4",
        num_frames=15,
        normalisation="per band",
    ),
    "beat_blstm": Preset(FilteredSpectrogram(num_bands=(6, 6, 6)), "madmom's beat BLSTM, 266 inputs; §9.4"),
    "beat_lstm_online": Preset(
        FilteredSpectrogram(frame_sizes=(2048,), num_bands=(12,), origin="online"),
        "madmom's online beat LSTM, 162 inputs; §9.4",
    ),
    "downbeat_blstm": Preset(FilteredSpectrogram(), "madmom's downbeat BLSTM, 314 inputs; §9.4"),
}


@functools.lru_cache
def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
      ValueError: for an unknown name; it lists all.
    """
    checks.choice("preset", name, PRESETS)
    return PRESETS[name]

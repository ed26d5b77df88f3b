"""Precision of every transform of `mirjax.signal`: errors against float64 oracles on sound, held against budgets.

Each row of `ROWS` is one function, an independent oracle in float64 (librosa with float64 filter banks, scipy, numpy)
and two budgets. The error is max|a − b| / max|b|, the worst of three clips: two of music (`rhythm_small`: sampled
instruments played from scores) and a recorded spoken digit (`digits_small`). Inputs are rounded to float32 once, and
oracle and function, in float32 and in float64, are given the same numbers; so the error is the function's own.
`tests/signal/test_precision.py` holds every row against its budget on a short clip.

Usage: python benchmarks/precision.py [--seconds 5] [--recordings FILE ...] [--output docs/precision.md]
Writes the page and exits 1 where a budget is exceeded.
"""

import sys

sys.path.append(sys.path.pop(0))  # benchmarks/signal.py would hide the standard library's `signal`

import argparse
import dataclasses
import datetime
import functools
import importlib.metadata
import itertools
import platform
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.signal
import soundfile

from mirjax.signal import (
    augment,
    cepstral,
    chroma,
    compression,
    cqt,
    filtered,
    filters,
    hpss,
    loudness,
    mel,
    normalise,
    pitch,
    representations,
    resample,
    rhythm,
    spectral,
    stft,
    stretch,
    tuning,
    wavelets,
)

RATE = 22_050
FAR = 0.01  # share of the values of a function of steps that may fall on another step in float32
COMMAND = "python benchmarks/precision.py"


@dataclasses.dataclass(frozen=True)
class Row:
    """A function, its oracle and what is promised.

    Attributes:
      function: module and name below `mirjax.signal`, and settings worth a mention.
      oracle: what it is held against.
      ours: inputs, arrays of JAX → array or tuple of arrays.
      expected: the same inputs, float64 or complex128 of numpy → the same.
      budget, budget64: largest error in float32 and float64.
      prepare: audio f64[N] → the inputs; the audio itself by default.
      unit: "dB" for decibels, whose largest difference is tabled as well; "bin" where the error is the difference.
      steps: it chooses or counts, so that rounding may move a value by a step; such values are counted instead.
    """

    function: str
    oracle: str
    ours: Callable
    expected: Callable
    budget: float = 1e-6
    budget64: float = 1e-12
    prepare: Callable = lambda audio: (audio,)
    unit: str = ""
    steps: bool = False


@dataclasses.dataclass(frozen=True)
class Measured:
    """Errors of one row on one clip, or the worst of several."""

    float32: float
    float64: float
    decibels: float = 0.0
    far: float = 0.0

    def worst(self, other):
        return Measured(*map(max, dataclasses.astuple(self), dataclasses.astuple(other)))

    def exceeds(self, row) -> bool:
        return not (self.float32 <= row.budget and self.float64 <= row.budget64 and self.far <= FAR)


# ── oracles ──


def swap(values):
    """librosa's [..., F, T] ↔ our [..., T, F]."""
    return np.swapaxes(values, -1, -2)


def power_of(audio, **settings):
    return swap(np.abs(librosa.stft(audio, **settings)) ** 2)


def mel_of(audio, *, power=2.0, **settings):
    frame = {name: settings.pop(name) for name in ("n_fft", "hop_length", "win_length") if name in settings}
    return swap(librosa.feature.melspectrogram(y=audio, sr=RATE, power=power, dtype=np.float64, **frame, **settings))


def decibels_of(audio, **settings):
    return swap(librosa.power_to_db(swap(mel_of(audio, **settings))))


@functools.cache
def _envelope(audio):
    return librosa.onset.onset_strength(S=swap(decibels_of(np.frombuffer(audio))), sr=RATE)


def envelope_of(audio):
    return _envelope(audio.tobytes())


@functools.cache
def _constant_q(audio):
    return swap(np.abs(librosa.cqt(np.frombuffer(audio), sr=RATE, n_bins=108, bins_per_octave=36, fmin=130.0)))


def constant_q_of(audio):
    return _constant_q(audio.tobytes())


def magnitudes(audio):
    return (np.sqrt(power_of(audio)),)


def mel_power(audio):
    return (mel_of(audio),)


def statistics_of(coefficients):
    orders = [np.diff(coefficients, n=order, axis=0) for order in range(3)]
    return np.concatenate([part for values in orders for part in (values.mean(0), values.std(0))])


def one_octave(audio, *, fmin, n_bins, hop_length):
    """X[t, k] = √L Σ_n x[t·hop − n] w[n] exp(2πifn / sr), filter by filter, with librosa's wavelets."""
    frequencies = librosa.cqt_frequencies(n_bins, fmin=fmin)
    bank, lengths = librosa.filters.wavelet(freqs=frequencies, sr=RATE, pad_fft=True, dtype=np.complex128)
    half = bank.shape[1] // 2
    rows = [scipy.signal.oaconvolve(audio, row)[half : half + len(audio) + 1 : hop_length] for row in bank]
    return (np.array(rows) * np.sqrt(lengths)[:, None]).T


def by_convolution(audio, *, hop_length, **settings):
    """The constant Q as above over all octaves, with our own wavelets."""
    bank = wavelets.make_bank(sample_rate=RATE, hop_length=hop_length, **settings)
    rows = []
    for (values, first), gain in zip(wavelets.bank_wavelets(bank), wavelets.bank_gains(bank), strict=True):
        whole = gain * scipy.signal.oaconvolve(np.pad(audio, len(values)), values)
        rows.append(whole[len(values) - first :: hop_length][: 1 + len(audio) // hop_length])
    return np.array(rows).T


def two_harmonics(audio):
    whole = by_convolution(audio, hop_length=256, fmin=110.0, n_bins=48)
    return np.stack([whole[:, :36], whole[:, 12:48]], axis=-1)


def interpolated_bank(size, bands, *, fmin, fmax):
    """madmom's rule in words: the nearest bin of each centre frequency, each bin once, triangles of unit area."""
    centres = 440 * 2 ** (np.arange(-200, 200) / bands)
    centres = centres[(centres >= fmin) & (centres <= fmax)]
    hertz, grid = np.arange(size // 2) * RATE / size, np.arange(size // 2)
    bins = np.unique([np.abs(hertz - f).argmin() for f in centres])
    bank = np.array([np.interp(grid, bins[i : i + 3], [0, 1, 0]) for i in range(len(bins) - 2)])
    return bank / bank.sum(axis=1, keepdims=True)


FILTERED = {"frame_sizes": (1024, 2048, 4096), "num_bands": (3, 6, 12), "hop_length": 220, "fmax": 10_000.0}


def filtered_parts(audio):
    parts = []
    for size, bands in zip(FILTERED["frame_sizes"], FILTERED["num_bands"], strict=True):
        spectrum = np.abs(librosa.stft(audio, n_fft=size, hop_length=220, window=np.hanning(size)))[: size // 2]
        parts.append(np.log10(1 + interpolated_bank(size, bands, fmin=30.0, fmax=10_000.0) @ spectrum).T)
    return parts


def rises(values, lag, width=1):
    reference = values if width == 1 else scipy.ndimage.maximum_filter1d(values, width, axis=-1)
    output = np.zeros_like(values)
    output[lag:] = np.maximum(values[lag:] - reference[:-lag], 0)
    return output


def filtered_differences(audio):
    # The window passes half its height a quarter of its length before its middle.
    lags = [max(1, round(size / 4 / 220)) for size in FILTERED["frame_sizes"]]
    parts = filtered_parts(audio)
    return np.concatenate([x for part, lag in zip(parts, lags, strict=True) for x in (part, rises(part, lag))], axis=-1)


def whitened(magnitude):
    memory, peak, output = 10 ** (-3 * 512 / (RATE * 250.0)), np.zeros(magnitude.shape[1]), []
    for frame in magnitude:
        peak = np.maximum(np.maximum(frame, 1e-4), memory * peak)
        output.append(frame / peak)
    return np.array(output)


def two_stages(audio):
    sustained, rest = librosa.effects.hpss(audio, n_fft=4096, hop_length=2048, kernel_size=17)
    return sustained, *librosa.effects.hpss(rest, n_fft=512, hop_length=256, kernel_size=17)


def k_weighted(audio):
    for b, a in loudness.k_weighting(RATE).sections:
        audio = scipy.signal.lfilter(b, a, audio)
    return audio


def window_energies(audio, tenths):
    hop, weighted = round(RATE / 10), k_weighted(audio)
    starts = range(0, len(audio) - tenths * hop + 1, hop)
    return np.array([np.mean(weighted[s : s + tenths * hop] ** 2) for s in starts])


def level(energies):
    return -0.691 + 10 * np.log10(np.maximum(energies, 1e-12))


def gated(audio):
    """BS.1770-5, annex 1, equations 3–7."""
    energies = window_energies(audio, 4)
    levels = level(energies)
    audible = levels > -70
    return level(energies[audible & (levels > level(energies[audible].mean()) - 10)].mean())


def resampled(audio, target, **settings):
    up, down = resample.rational(RATE, target)
    return scipy.signal.resample_poly(audio, up, down, window=resample.prototype(up, down, **settings) / up)


def stretched(audio, rate):
    return librosa.effects.time_stretch(audio, rate=rate)[: _inner(len(audio), rate)]


def _inner(length, rate):
    """Samples up to the last whole frame of the stretched clip, which librosa treats in its own way."""
    return min(length, round(length / rate)) - (2048 if rate > 1 else 0)


def butterworth(order, cutoff):
    sections = scipy.signal.butter(order, cutoff, fs=RATE, output="sos")
    return loudness.Filter(tuple((tuple(s[:3].tolist()), tuple(s[3:].tolist())) for s in sections))


def low_passed(audio, cutoff):
    taps = scipy.signal.firwin(255, cutoff, window="hamming", fs=RATE)
    return np.convolve(audio, taps)[127 : 127 + len(audio)]


def noisy(audio, noise, snr):
    return audio + noise * np.sqrt(np.sum(audio**2) / np.sum(noise**2) / 10 ** (snr / 10))


def shape_of(function, **settings):
    return lambda audio: swap(getattr(librosa.feature, function)(y=audio, sr=RATE, **settings))


def first_of(function, **settings):
    return lambda audio: getattr(librosa.feature, function)(y=audio, **settings)[0]


# ── rows ──

HTK = {"n_fft": 1024, "hop_length": 256, "n_mels": 64}
SPEECH = {"n_fft": 512, "hop_length": 160, "win_length": 400, "window": "hamming"}
OCTAVE = {"fmin": 1500.0, "n_bins": 12, "hop_length": 200}
YIN = {"fmin": 65.41, "fmax": 2093.0}
CQT_NOTE = "librosa.{} (resamples from octave to octave)"

ROWS = [
    # Short-time Fourier transform
    Row("stft.stft", "librosa.stft", stft.stft, lambda x: swap(librosa.stft(x))),
    Row(
        "stft.stft, win_length 400 < n_fft 512, not centred",
        "librosa.stft",
        lambda x: stft.stft(x, center=False, **SPEECH),
        lambda x: swap(librosa.stft(x, center=False, **SPEECH)),
    ),
    Row(
        "stft.istft",
        "librosa.istft",
        stft.istft,
        lambda x: librosa.istft(swap(x)),
        prepare=lambda x: (swap(librosa.stft(x)),),
    ),
    Row("stft.spectrogram, power 2", "librosa.stft", lambda x: stft.spectrogram(x, power=2.0), power_of),
    Row("stft.spectrogram, power 1", "librosa.stft", stft.spectrogram, lambda x: magnitudes(x)[0]),
    Row(
        "stft.frame",
        "librosa.util.frame",
        lambda x: stft.frame(x, frame_length=1000, hop_length=300, center=False),
        lambda x: swap(librosa.util.frame(x, frame_length=1000, hop_length=300)),
        budget=0,
        budget64=0,
    ),
    Row(
        "stft.phase_vocoder, rate 1.25",
        "librosa.phase_vocoder",
        lambda x: stft.phase_vocoder(x, rate=1.25),
        lambda x: swap(librosa.phase_vocoder(swap(x), rate=1.25)),
        prepare=lambda x: (swap(librosa.stft(x)),),
        budget=1e-4,
        budget64=1e-9,
    ),
    Row(
        "stft.griffin_lim, 8 rounds",
        "librosa.griffinlim",
        lambda x: stft.griffin_lim(x, num_iterations=8),
        lambda x: librosa.griffinlim(swap(x), n_iter=8, init=None),
        prepare=magnitudes,
        budget=1e-2,
        budget64=1e-9,
    ),
    # Mel
    Row(
        "mel.mel_spectrogram",
        "librosa.feature.melspectrogram",
        lambda x: mel.mel_spectrogram(x, sample_rate=RATE),
        mel_of,
    ),
    Row(
        "mel.mel_spectrogram, HTK, norm None, power 1",
        "librosa.feature.melspectrogram",
        lambda x: mel.mel_spectrogram(x, sample_rate=RATE, scale="htk", norm=None, power=1.0, **HTK),
        lambda x: mel_of(x, htk=True, norm=None, power=1.0, **HTK),
    ),
    Row(
        "filters.apply_filters, gammatones",
        "numpy, the float64 bank",
        lambda x: filters.apply_filters(x, filters.gammatone_filters(sample_rate=RATE, n_fft=2048, n_bands=32)),
        lambda x: x @ filters.gammatone_filters(sample_rate=RATE, n_fft=2048, n_bands=32).T,
        prepare=lambda x: (power_of(x),),
    ),
    Row(
        "mel.mel_to_spectrogram",
        "the mel bands it was given, made again",
        lambda x: filters.apply_filters(
            mel.mel_to_spectrogram(x, sample_rate=RATE) ** 2, filters.mel_filters(sample_rate=RATE)
        ),
        lambda x: x,
        prepare=mel_power,
        budget=5e-3,
        budget64=5e-3,
    ),
    # Compressions
    Row(
        "compression.power_to_db",
        "librosa.power_to_db",
        compression.power_to_db,
        lambda x: librosa.power_to_db(x),
        prepare=mel_power,
        unit="dB",
    ),
    Row(
        "compression.amplitude_to_db",
        "librosa.amplitude_to_db",
        compression.amplitude_to_db,
        lambda x: librosa.amplitude_to_db(x),
        prepare=magnitudes,
        unit="dB",
    ),
    Row(
        "compression.db_to_power",
        "librosa.db_to_power",
        compression.db_to_power,
        librosa.db_to_power,
        prepare=lambda x: (decibels_of(x),),
    ),
    Row(
        "compression.db_to_amplitude",
        "librosa.db_to_amplitude",
        compression.db_to_amplitude,
        librosa.db_to_amplitude,
        prepare=lambda x: (decibels_of(x),),
    ),
    Row(
        "compression.log_offset, 1e-6",
        "numpy",
        lambda x: compression.log_offset(x, offset=1e-6),
        lambda x: np.log(x + 1e-6),
        prepare=mel_power,
    ),
    Row(
        "compression.log_floor, 1e-7",
        "numpy",
        lambda x: compression.log_floor(x, floor=1e-7),
        lambda x: np.log(np.maximum(x, 1e-7)),
        prepare=mel_power,
    ),
    Row(
        "compression.log_scaled",
        "numpy",
        compression.log_scaled,
        lambda x: np.log10(1 + 1e4 * x),
        prepare=mel_power,
    ),
    Row(
        "compression.pcen",
        "librosa.pcen",
        compression.pcen,
        lambda x: swap(librosa.pcen(swap(x), sr=RATE)),
        prepare=lambda x: (mel_of(x, power=1.0) * 2.0**31,),
        budget=1e-5,
    ),
    Row(
        "representations.LogMel, of audio",
        "librosa.power_to_db(librosa.feature.melspectrogram)",
        representations.LogMel(RATE, 2048, 512, 128),
        decibels_of,
        unit="dB",
        budget=1e-4,
    ),
    # Cepstrum
    Row(
        "cepstral.mfcc",
        "librosa.feature.mfcc",
        lambda x: cepstral.mfcc(x, sample_rate=RATE),
        lambda x: swap(librosa.feature.mfcc(S=swap(decibels_of(x)))),
    ),
    Row(
        "cepstral.log_mel_to_mfcc, lifter 22, DCT type 3",
        "librosa.feature.mfcc",
        lambda x: cepstral.log_mel_to_mfcc(x, lifter=22, dct_type=3),
        lambda x: swap(librosa.feature.mfcc(S=swap(x), lifter=22, dct_type=3)),
        prepare=lambda x: (decibels_of(x),),
    ),
    Row(
        "cepstral.mfcc_to_log_mel",
        "scipy.fft.idct",
        cepstral.mfcc_to_log_mel,
        lambda x: scipy.fft.idct(x, n=128, norm="ortho"),
        prepare=lambda x: (swap(librosa.feature.mfcc(S=swap(decibels_of(x)))),),
    ),
    Row(
        "cepstral.mfcc_to_mel",
        "librosa.feature.inverse.mfcc_to_mel",
        cepstral.mfcc_to_mel,
        lambda x: swap(librosa.feature.inverse.mfcc_to_mel(swap(x))),
        prepare=lambda x: (swap(librosa.feature.mfcc(S=swap(decibels_of(x)))),),
        budget=1e-5,
    ),
    Row(
        "cepstral.delta",
        "librosa.feature.delta",
        cepstral.delta,
        lambda x: librosa.feature.delta(x, axis=0),
        prepare=lambda x: (decibels_of(x),),
    ),
    Row(
        "cepstral.difference",
        "numpy.diff",
        cepstral.difference,
        lambda x: np.diff(x, axis=0),
        prepare=lambda x: (decibels_of(x),),
    ),
    Row(
        "cepstral.mfcc_statistics",
        "librosa.feature.mfcc, numpy",
        lambda x: cepstral.mfcc_statistics(x, sample_rate=RATE),
        lambda x: statistics_of(swap(librosa.feature.mfcc(S=swap(decibels_of(x))))),
        budget=2e-6,
    ),
    # Normalisation
    Row(
        "normalise.update and normalise.finish",
        "numpy",
        lambda x: normalise.finish(normalise.update(normalise.init(x.shape[-1]), x)),
        lambda x: (x.mean(0), x.std(0)),
        prepare=lambda x: (decibels_of(x),),
    ),
    Row(
        "normalise.standardise",
        "numpy",
        lambda x, mean, deviation: normalise.standardise(x, mean=mean, deviation=deviation),
        lambda x, mean, deviation: (x - mean) / (deviation + 1e-10),
        prepare=lambda x: (decibels_of(x), decibels_of(x).mean(0), decibels_of(x).std(0)),
    ),
    Row(
        "normalise.adaptive_whitening",
        "numpy",
        lambda x: normalise.adaptive_whitening(x, sample_rate=RATE, hop_length=512),
        whitened,
        prepare=magnitudes,
        budget=2e-5,
    ),
    # Constant Q
    Row(
        "cqt.cqt, one octave",
        "convolution with librosa.filters.wavelet",
        lambda x: cqt.cqt(x, sample_rate=RATE, **OCTAVE),
        lambda x: one_octave(x, **OCTAVE),
    ),
    Row(
        "cqt.cqt",
        "convolution (scipy) with the same wavelets",
        lambda x: cqt.cqt(x, sample_rate=RATE),
        lambda x: by_convolution(x, hop_length=512),
        budget=2e-6,
    ),
    Row(
        "cqt.cqt",
        CQT_NOTE.format("cqt"),
        lambda x: cqt.cqt(x, sample_rate=RATE),
        lambda x: swap(librosa.cqt(x, sr=RATE, sparsity=0)),
        budget=2e-2,
        budget64=2e-2,
    ),
    Row(
        "cqt.vqt",
        "convolution (scipy) with the same wavelets",
        lambda x: cqt.vqt(x, sample_rate=RATE),
        lambda x: by_convolution(x, hop_length=512, gamma=None),
        budget=2e-6,
    ),
    Row(
        "cqt.vqt",
        CQT_NOTE.format("vqt"),
        lambda x: cqt.vqt(x, sample_rate=RATE),
        lambda x: swap(librosa.vqt(x, sr=RATE, sparsity=0)),
        budget=5e-2,
        budget64=5e-2,
    ),
    Row(
        "cqt.pseudo_cqt",
        "librosa.pseudo_cqt (complex64 filters)",
        lambda x: cqt.pseudo_cqt(x, sample_rate=RATE),
        lambda x: swap(librosa.pseudo_cqt(x, sr=RATE)),
        budget=2e-6,
        budget64=2e-7,
    ),
    Row(
        "cqt.hybrid_cqt",
        CQT_NOTE.format("hybrid_cqt"),
        lambda x: cqt.hybrid_cqt(x, sample_rate=RATE),
        lambda x: swap(librosa.hybrid_cqt(x, sr=RATE)),
        budget=2e-2,
        budget64=2e-2,
    ),
    Row(
        "cqt.harmonic_cqt, harmonics 1 and 2",
        "convolution (scipy) with the same wavelets",
        lambda x: cqt.harmonic_cqt(x, sample_rate=RATE, harmonics=(1, 2), fmin=110.0, n_bins=36, bins_per_octave=12),
        two_harmonics,
    ),
    # Chroma and tuning
    Row(
        "chroma.chroma_stft",
        "librosa.feature.chroma_stft",
        lambda x: chroma.chroma_stft(x, sample_rate=RATE),
        lambda x: swap(librosa.feature.chroma_stft(y=x, sr=RATE, tuning=0.0, dtype=np.float64)),
        budget=5e-6,
    ),
    Row(
        "chroma.spectrogram_to_chroma",
        "librosa.feature.chroma_stft",
        lambda x: chroma.spectrogram_to_chroma(x, sample_rate=RATE),
        lambda x: swap(librosa.feature.chroma_stft(S=swap(x), sr=RATE, tuning=0.0, dtype=np.float64)),
        prepare=lambda x: (power_of(x),),
        budget=5e-6,
    ),
    Row(
        "chroma.chroma_cqt, norm None",
        CQT_NOTE.format("feature.chroma_cqt"),
        lambda x: chroma.chroma_cqt(x, sample_rate=RATE, norm=None, bins_per_octave=12),
        lambda x: swap(librosa.feature.chroma_cqt(y=x, sr=RATE, norm=None, tuning=0.0, bins_per_octave=12)),
        budget=2e-2,
        budget64=2e-2,
    ),
    Row(
        "chroma.cqt_to_chroma",
        "librosa.feature.chroma_cqt",
        lambda x: chroma.cqt_to_chroma(x, fmin=130.0),
        lambda x: swap(librosa.feature.chroma_cqt(C=swap(x), sr=RATE, fmin=130.0)),
        prepare=lambda x: (constant_q_of(x),),
    ),
    Row(
        "chroma.smooth_cens",
        "librosa.feature.chroma_cens",
        lambda x: chroma.smooth_cens(chroma.cqt_to_chroma(x, fmin=130.0, norm=None)),
        lambda x: swap(librosa.feature.chroma_cens(C=swap(x), sr=RATE, fmin=130.0)),
        prepare=lambda x: (constant_q_of(x),),
        steps=True,
    ),
    Row(
        "chroma.chroma_to_tonnetz",
        "librosa.feature.tonnetz",
        chroma.chroma_to_tonnetz,
        lambda x: swap(librosa.feature.tonnetz(chroma=swap(x))),
        prepare=lambda x: (swap(librosa.feature.chroma_stft(y=x, sr=RATE, tuning=0.0)),),
    ),
    Row(
        "chroma.fold_octaves",
        "numpy",
        lambda x: chroma.fold_octaves(x, bins_per_octave=36),
        lambda x: x.reshape(len(x), 3, 36).sum(axis=1),
        prepare=lambda x: (constant_q_of(x),),
    ),
    Row(
        "chroma.normalise_frames, norm 2",
        "librosa.util.normalize",
        lambda x: chroma.normalise_frames(x, norm=2),
        lambda x: librosa.util.normalize(x, norm=2, axis=-1),
        prepare=lambda x: (constant_q_of(x),),
    ),
    Row(
        "tuning.piptrack, pitches",
        "librosa.piptrack",
        lambda x: tuning.piptrack(x, sample_rate=RATE)[0],
        lambda x: swap(librosa.piptrack(y=x, sr=RATE)[0]),
        steps=True,
        budget=1e-6,
    ),
    Row(
        "tuning.estimate_tuning",
        "librosa.estimate_tuning",
        lambda x: tuning.estimate_tuning(x, sample_rate=RATE),
        lambda x: np.asarray(librosa.estimate_tuning(y=x, sr=RATE)),
        budget=0.0101,
        unit="bin",
    ),
    # Pitch
    Row(
        "pitch.yin",
        "librosa.yin",
        lambda x: pitch.yin(x, sample_rate=RATE, **YIN),
        lambda x: librosa.yin(x, sr=RATE, **YIN),
        steps=True,
        budget=1e-5,
    ),
    # Filtered spectrograms
    Row(
        "filtered.filtered_spectrogram",
        "librosa.stft, banks by numpy.interp",
        lambda x: filtered.filtered_spectrogram(x, sample_rate=RATE, end="extend", **FILTERED),
        lambda x: np.concatenate(filtered_parts(x), axis=-1),
        budget=2e-6,
    ),
    Row(
        "filtered.filtered_differences",
        "the same, and differences in numpy",
        lambda x: filtered.filtered_differences(x, sample_rate=RATE, end="extend", **FILTERED),
        filtered_differences,
        budget=2e-6,
    ),
    Row(
        "filtered.positive_differences, max_size 3",
        "numpy, scipy.ndimage.maximum_filter1d",
        lambda x: filtered.positive_differences(x, lag=2, max_size=3),
        lambda x: rises(x, 2, 3),
        prepare=lambda x: (decibels_of(x),),
    ),
    # Rhythm
    Row(
        "rhythm.onset_strength",
        "librosa.onset.onset_strength",
        rhythm.onset_strength,
        lambda x: librosa.onset.onset_strength(S=swap(x), sr=RATE),
        prepare=lambda x: (decibels_of(x),),
    ),
    Row(
        "rhythm.spectral_flux",
        "numpy",
        rhythm.spectral_flux,
        lambda x: rises(x, 1).sum(axis=-1),
        prepare=lambda x: (decibels_of(x),),
    ),
    Row(
        "rhythm.remove_mean",
        "scipy.signal.lfilter",
        lambda x: rhythm.remove_mean(x)[0],
        lambda x: scipy.signal.lfilter([1, -1], [1, -0.99], x),
        prepare=lambda x: (envelope_of(x),),
    ),
    Row(
        "rhythm.autocorrelate",
        "librosa.autocorrelate",
        rhythm.autocorrelate,
        librosa.autocorrelate,
        prepare=lambda x: (envelope_of(x),),
    ),
    Row(
        "rhythm.tempogram",
        "librosa.feature.tempogram",
        lambda x: rhythm.tempogram(x, win_length=128),
        lambda x: swap(librosa.feature.tempogram(onset_envelope=x, sr=RATE, win_length=128)),
        prepare=lambda x: (envelope_of(x),),
    ),
    Row(
        "rhythm.fourier_tempogram",
        "librosa.feature.fourier_tempogram",
        lambda x: rhythm.fourier_tempogram(x, win_length=128),
        lambda x: swap(librosa.feature.fourier_tempogram(onset_envelope=x, sr=RATE, win_length=128)),
        prepare=lambda x: (envelope_of(x),),
    ),
    # Separation
    Row(
        "hpss.median_filter, 31 frames",
        "scipy.ndimage.median_filter",
        lambda x: hpss.median_filter(x, kernel_size=31, axis=-2),
        lambda x: scipy.ndimage.median_filter(x, size=(31, 1), mode="reflect"),
        prepare=magnitudes,
        budget=0,
        budget64=0,
    ),
    Row(
        "hpss.softmask",
        "librosa.util.softmask",
        lambda x, y: hpss.softmask(x, y, power=2.0),
        lambda x, y: librosa.util.softmask(x, y, power=2.0),
        prepare=lambda x: (magnitudes(x)[0], np.roll(magnitudes(x)[0], 5, axis=0)),
    ),
    Row(
        "hpss.hpss",
        "librosa.decompose.hpss",
        hpss.hpss,
        lambda x: tuple(map(swap, librosa.decompose.hpss(swap(x)))),
        prepare=lambda x: (swap(librosa.stft(x)),),
    ),
    Row(
        "hpss.hpss_audio",
        "librosa.effects.hpss",
        hpss.hpss_audio,
        librosa.effects.hpss,
        budget=5e-6,
    ),
    Row(
        "hpss.two_stage_hpss, 17 frames",
        "librosa.effects.hpss, twice",
        lambda x: hpss.two_stage_hpss(x, kernel_size=17),
        two_stages,
        budget=1e-4,
    ),
    # Description of spectra
    Row(
        "spectral.spectral_centroid",
        "librosa.feature.spectral_centroid",
        lambda x: spectral.spectral_centroid(x, sample_rate=RATE),
        first_of("spectral_centroid", sr=RATE),
        budget=1e-5,
    ),
    Row(
        "spectral.spectral_bandwidth",
        "librosa.feature.spectral_bandwidth",
        lambda x: spectral.spectral_bandwidth(x, sample_rate=RATE),
        first_of("spectral_bandwidth", sr=RATE),
        budget=5e-5,
    ),
    Row(
        "spectral.spectral_rolloff",
        "librosa.feature.spectral_rolloff",
        lambda x: spectral.spectral_rolloff(x, sample_rate=RATE),
        first_of("spectral_rolloff", sr=RATE),
        steps=True,
    ),
    Row(
        "spectral.spectral_contrast",
        "librosa.feature.spectral_contrast",
        lambda x: spectral.spectral_contrast(x, sample_rate=RATE),
        shape_of("spectral_contrast"),
        unit="dB",
        budget=0.2,
        budget64=1e-7,
    ),
    Row(
        "spectral.spectral_flatness",
        "librosa.feature.spectral_flatness",
        spectral.spectral_flatness,
        first_of("spectral_flatness"),
        budget=1e-3,
        budget64=1e-11,
    ),
    Row(
        "spectral.poly_features, order 2",
        "librosa.feature.poly_features",
        lambda x: spectral.poly_features(x, sample_rate=RATE, order=2),
        shape_of("poly_features", order=2),
    ),
    Row("spectral.rms", "librosa.feature.rms", spectral.rms, first_of("rms", dtype=np.float64)),
    Row(
        "spectral.zero_crossing_rate",
        "librosa.feature.zero_crossing_rate",
        spectral.zero_crossing_rate,
        first_of("zero_crossing_rate"),
    ),
    Row(
        "spectral.preemphasis",
        "librosa.effects.preemphasis",
        spectral.preemphasis,
        librosa.effects.preemphasis,
        budget=2e-6,
    ),
    Row("spectral.deemphasis", "librosa.effects.deemphasis", spectral.deemphasis, librosa.effects.deemphasis),
    # Loudness
    Row(
        "loudness.k_weight",
        "scipy.signal.lfilter",
        lambda x: loudness.k_weight(x, sample_rate=RATE)[0],
        k_weighted,
        budget64=1e-11,
    ),
    Row(
        "loudness.recursive_filter, Butterworth, order 4, 1 kHz",
        "scipy.signal.sosfilt",
        lambda x: loudness.recursive_filter(x, butterworth(4, 1000.0))[0],
        lambda x: scipy.signal.sosfilt(scipy.signal.butter(4, 1000.0, fs=RATE, output="sos"), x),
        budget64=1e-10,
    ),
    Row(
        "loudness.recursive_filter, Butterworth, order 8, 100 Hz",
        "scipy.signal.sosfilt",
        lambda x: loudness.recursive_filter(x, butterworth(8, 100.0))[0],
        lambda x: scipy.signal.sosfilt(scipy.signal.butter(8, 100.0, fs=RATE, output="sos"), x),
        budget=5e-6,
        budget64=1e-10,
    ),
    Row(
        "loudness.momentary_loudness",
        "BS.1770-5 written out, scipy.signal.lfilter",
        lambda x: loudness.momentary_loudness(x, sample_rate=RATE),
        lambda x: level(window_energies(x, 4)),
        unit="dB",
    ),
    Row(
        "loudness.short_term_loudness",
        "BS.1770-5 written out, scipy.signal.lfilter",
        lambda x: loudness.short_term_loudness(x, sample_rate=RATE),
        lambda x: level(window_energies(x, 30)),
        prepare=lambda x: (np.resize(x, max(len(x), 4 * RATE)),),
        unit="dB",
    ),
    Row(
        "loudness.integrated_loudness",
        "BS.1770-5 written out, scipy.signal.lfilter",
        lambda x: loudness.integrated_loudness(x, sample_rate=RATE),
        gated,
        unit="dB",
    ),
    Row(
        "loudness.normalise_loudness",
        "BS.1770-5 written out, scipy.signal.lfilter",
        lambda x: loudness.normalise_loudness(x, sample_rate=RATE),
        lambda x: x * 10 ** ((-23 - gated(x)) / 20),
    ),
    # Resampling
    Row(
        "resample.resample, to 16,000 Hz",
        "scipy.signal.resample_poly, the same filter",
        lambda x: resample.resample(x, orig_rate=RATE, target_rate=16_000),
        lambda x: resampled(x, 16_000),
        budget=2e-6,
    ),
    Row(
        "resample.resample, to 44,100 Hz",
        "scipy.signal.resample_poly, the same filter",
        lambda x: resample.resample(x, orig_rate=RATE, target_rate=44_100),
        lambda x: resampled(x, 44_100),
        budget=2e-6,
    ),
    # Augmentation: what follows the draw
    Row(
        "stretch.phase_vocoder_by, rate 1.25",
        "librosa.phase_vocoder",
        lambda x: stretch.phase_vocoder_by(x, 1.25, num_frames=int(np.ceil(x.shape[0] / 1.25))),
        lambda x: swap(librosa.phase_vocoder(swap(x), rate=1.25)),
        prepare=lambda x: (swap(librosa.stft(x)),),
        budget=1e-4,
        budget64=1e-9,
    ),
    Row(
        "stretch.time_stretch_by, rate 0.75",
        "librosa.effects.time_stretch",
        lambda x: stretch.time_stretch_by(x, 0.75)[: _inner(len(x), 0.75)],
        lambda x: stretched(x, 0.75),
        budget=5e-2,
        budget64=1e-8,
    ),
    Row(
        "augment.low_pass_by, 2,000 Hz",
        "scipy.signal.firwin, numpy.convolve",
        lambda x: augment.low_pass_by(x, 2000.0, sample_rate=RATE),
        lambda x: low_passed(x, 2000.0),
    ),
    Row("augment.gain_by, −3 dB", "numpy", lambda x: augment.gain_by(x, -3.0), lambda x: x * 10 ** (-3 / 20)),
    Row(
        "augment.add_noise, 10 dB",
        "numpy",
        lambda x, noise: augment.add_noise(x, noise, 10.0),
        lambda x, noise: noisy(x, noise, 10.0),
        prepare=lambda x: (x, np.random.default_rng(0).standard_normal(len(x))),
    ),
]


# ── measuring ──


def _rounded(values):
    """The float64 values of what float32 can hold, so that both precisions start from the same numbers."""
    values = np.asarray(values)
    single = values.astype(np.complex64 if np.iscomplexobj(values) else np.float32)
    return single.astype(np.complex128 if np.iscomplexobj(values) else np.float64)


def _parts(output):
    return [np.asarray(part) for part in (output if isinstance(output, tuple) else (output,))]


def differences(row, inputs, expected, wide):
    """Error of every value of one call, relative to the largest value of its array; and the largest difference."""
    with jax.enable_x64(wide):
        real, complex_ = (jnp.float64, jnp.complex128) if wide else (jnp.float32, jnp.complex64)
        arrays = [jnp.asarray(x, complex_ if np.iscomplexobj(x) else real) for x in inputs]
        output = _parts(jax.jit(row.ours)(*arrays))
    errors, largest = [], 0.0
    for given, wanted in zip(output, expected, strict=True):
        if given.shape != wanted.shape or given.dtype != np.dtype(complex_ if np.iscomplexobj(given) else real):
            raise ValueError(f"{row.function}: {given.dtype}{given.shape} for {wanted.dtype}{wanted.shape}")
        difference = np.abs(given - wanted)
        largest = max(largest, float(difference.max()))
        errors.append((difference if row.unit == "bin" else difference / np.abs(wanted).max()).reshape(-1))
    return np.concatenate(errors), largest


def measure(row: Row, audio) -> Measured:
    """Errors of one row on one clip f32[N]."""
    inputs = [_rounded(x) for x in row.prepare(np.asarray(audio, np.float64))]
    expected = _parts(row.expected(*inputs))
    single, decibels = differences(row, inputs, expected, wide=False)
    double, _ = differences(row, inputs, expected, wide=True)
    far = 0.0
    if row.steps:
        beyond = single > row.budget
        far, single = float(beyond.mean()), single[~beyond]
    return Measured(float(single.max()), float(double.max()), decibels, far)


def silent_gradient_is_finite(row: Row, samples: int = 24_000) -> bool:
    """Whether the float32 gradient of the sum of all outputs is finite where the input is silence."""
    shapes = row.prepare(np.random.default_rng(0).standard_normal(samples))
    inputs = [jnp.zeros(np.shape(x), jnp.complex64 if np.iscomplexobj(x) else jnp.float32) for x in shapes]

    def total(*values):
        output = row.ours(*values)
        output = output if isinstance(output, tuple) else (output,)
        return sum(jnp.sum(part.real) + jnp.sum(part.imag) for part in output)

    gradients = jax.jit(jax.grad(total, argnums=tuple(range(len(inputs)))))(*inputs)
    return all(bool(jnp.isfinite(gradient).all()) for gradient in gradients)


# ── half precision ──

LEVELS = (0, 20, 40, 60, 80)
# Largest difference in decibels at 0–20, 20–40, 40–60 and 60–80 dB below the maximum.
HALF_BUDGETS = {"bfloat16": (0.1, 0.5, 5.0, 30.0), "float16": (0.01, 0.1, 1.0, 10.0)}


def half_precision(dtype: str, audio) -> list[tuple[float, float]]:
    """Largest and median difference in decibels of `LogMel` of audio in 16 bits, by level below the clip's maximum.

    Raises:
      ValueError: if a value is not finite.
    """
    log_mel = representations.LogMel(RATE, 2048, 512, 128)
    exact = np.asarray(log_mel(jnp.asarray(audio, jnp.float32)))
    rounded = np.asarray(log_mel(jnp.asarray(audio, jnp.float32).astype(dtype)))
    if not np.isfinite(rounded).all():
        raise ValueError(f"log-mel of {dtype} holds values that are not finite")
    below = exact.max() - exact
    found = []
    for low, high in itertools.pairwise(LEVELS):
        # The floor itself, 80 dB below, is left out.
        difference = np.abs(rounded - exact)[(below >= low) & (below < high) & (below < 79.99)]
        found.append((float(difference.max(initial=0)), float(np.median(difference)) if difference.size else 0.0))
    return found


# ── the page ──


def embedded_clips(seconds: float) -> dict[str, np.ndarray]:
    """Name → f32[N]: two clips of music and a recorded digit, said over and over."""
    from mirjax.data import audio, dataset

    samples = round(seconds * RATE)
    clips = {}
    for name, index in (("rhythm_small", 0), ("rhythm_small", 30), ("digits_small", 0)):
        clip = audio.decode(dataset.open_source(name).encoded(index), sample_rate=RATE)
        clips[f"{name} {index}"] = np.resize(clip, samples).astype(np.float32)
    return clips


def table(head, rows, *, texts) -> str:
    """Markdown; the first `texts` columns to the left, the others to the right."""
    lines = [head, ["---"] * texts + ["--:"] * (len(head) - texts), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def number(value: float) -> str:
    return "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-").replace("e+00", "")


def budget_text(value: float) -> str:
    return "exact" if value == 0 else f"{value:g}" if value > 0.01 else number(value)


PAGE = """# Precision

How far each transform of `mirjax.signal` is, under `jit`, from an independent oracle in float64. The error is
max|a − b| / max|b|, the worst of {clips}.
Function and oracle start from the same numbers, rounded to float32 once; under `jax.enable_x64(True)` everything,
constants included, is computed in float64. The budget is the promise: `tests/signal/test_precision.py` fails where it
is exceeded.

Written by `{command}` on {date}:
{versions}; {machine}, JAX on {backend}.

{table}

*dB*: the largest difference in decibels (or loudness units) in float32, of functions that give decibels.
*In steps*: functions that choose (a trough, a peak, a quantisation step, a bin). Where two choices are alike, rounding
may take the other; such values do not count for the error and may be one in a hundred. Here there were {far}.

{notes}
## Half precision

bfloat16 and float16 audio is converted to float32 first, so nothing underflows on the way to the logarithm and every
value is finite. What is lost is what the samples lost when they were rounded: bfloat16 keeps 8 bits of each, float16
keeps 11 (and below 6e-5 fewer). `LogMel` (22,050 Hz, 2048, 512, 128 bands, top_db 80) of such audio against the same of
float32, in dB, by how far below the clip's maximum a value lies: largest difference (median), and the budget of the
largest:

{half}

## Gradients at silence

The gradient of the sum of all outputs, in float32, of digital silence: finite for {finite} of the {rows} rows{bad}.
Functions that choose or count have the gradient 0 almost everywhere. Each module's tests hold gradients against finite
differences in float64.
"""

NOTES = """Where a budget is far above the rounding error of float32 (6e-8), there is a reason:

* `cqt`, `vqt`, `hybrid_cqt`, `chroma_cqt` against librosa: librosa halves the sample rate from octave to octave and
  builds its filters at the lower rate; the rows against a plain convolution show what ours are worth. The difference is
  largest in the last frame, where a clip is cut off in the middle of a note.
* `pseudo_cqt`: librosa keeps its filters in complex64.
* `griffin_lim`, `time_stretch_by`, `phase_vocoder`: phases of bins that hold only rounding noise are arbitrary, and
  each round or frame builds on the one before.
* `spectral_contrast`, `spectral_flatness`: they look at the weakest bins. A recording with nothing above 4 kHz (the
  digit) leaves bins that hold only the rounding noise of a float32 FFT, about 140 dB below the maximum. On the music
  the contrast is within {contrast}. Compute under `jax.enable_x64(True)` where that matters.
* `LogMel` of audio: the same noise, 80 dB below the maximum. `two_stage_hpss`: masks of it.
* `adaptive_whitening`, `pcen`: a recursion over all frames.
* `mel_to_spectrogram`: a fit by a fixed number of iterations, so float64 is no nearer.
* `estimate_tuning`: one cell of its histogram.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each clip (at least 1)")
    parser.add_argument("--recordings", nargs="*", default=[], help="further audio files to measure on")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs" / "precision.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # librosa's, of short clips

    clips = embedded_clips(options.seconds)
    for path in options.recordings:
        clip, rate = soundfile.read(path, dtype="float32", always_2d=True)
        clip = librosa.resample(clip.mean(axis=1), orig_sr=rate, target_sr=RATE)
        clips[Path(path).name] = np.resize(clip, round(options.seconds * RATE)).astype(np.float32)

    lines, failures, far, finite, contrast = [], [], 0.0, [], 0.0
    for row in ROWS:
        each = {name: measure(row, clip) for name, clip in clips.items()}
        worst = functools.reduce(Measured.worst, each.values())
        if worst.exceeds(row):
            failures.append(f"{row.function} ({row.oracle}): {worst}, budgets {row.budget} and {row.budget64}")
        if "contrast" in row.function:
            contrast = max(found.float32 for name, found in each.items() if "digits" not in name)
        far = max(far, worst.far)
        finite.append(silent_gradient_is_finite(row))
        if not finite[-1]:
            failures.append(f"{row.function}: its gradient at silence is not finite")
        name, _, setting = row.function.partition(", ")
        name = (
            f"`{name.replace(' and ', '`, `')}`"
            + (f", {setting}" if setting else "")
            + (" (in steps)" if row.steps else "")
        )
        cells = (number(worst.float32), budget_text(row.budget), number(worst.float64), budget_text(row.budget64))
        lines.append((name, row.oracle, *cells, number(worst.decibels) if row.unit == "dB" else ""))
        print(*lines[-1], *(f"{found.float32:.1e}" for found in each.values()), sep="  ", file=sys.stderr, flush=True)

    half = []
    for dtype, budgets in HALF_BUDGETS.items():
        found = [half_precision(dtype, clip) for clip in clips.values()]
        cells = []
        for i, budget in enumerate(budgets):
            largest, median = (max(clip[i][k] for clip in found) for k in (0, 1))
            cells.append(f"{largest:.2g} ({median:.2g}), budget {budget:g}")
            if largest > budget:
                failures.append(f"log-mel of {dtype}, {LEVELS[i]} to {LEVELS[i + 1]} dB down: {largest:.3g} dB")
        half.append((dtype, *cells))

    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "librosa", "scipy", "numpy"))
    bad = [row.function for row, fine in zip(ROWS, finite, strict=True) if not fine]
    page = PAGE.format(
        clips=f"{len(clips)} clips of {options.seconds:g} s at 22,050 Hz: two of music (`rhythm_small`: sampled "
        "instruments\nplayed from scores) and a recorded spoken digit (`digits_small`, said over and over)"
        + "".join(f", {Path(path).name}" for path in options.recordings),
        command=COMMAND,
        date=datetime.date.today(),
        versions=versions,
        machine=platform.machine(),
        backend=jax.default_backend(),
        table=table(("function", "oracle", "float32", "budget", "float64", "budget", "dB"), lines, texts=2),
        far="none" if far == 0 else f"at most {100 * far:.2g} % of a clip's",
        notes=NOTES.format(contrast=number(contrast)),
        half=table(("input", *(f"{a}–{b} dB below" for a, b in itertools.pairwise(LEVELS))), half, texts=1),
        finite="all" if not bad else len(ROWS) - len(bad),
        rows=len(ROWS),
        bad="" if not bad else "; not for " + ", ".join(bad),
    )
    options.output.write_text(page)
    print(f"{options.output}: {len(ROWS)} rows", file=sys.stderr)
    if failures:
        raise SystemExit("\n".join(failures))


if __name__ == "__main__":
    main()

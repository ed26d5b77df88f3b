"""What `signal.py` compares: for each function, every library's way to do it, and what is true of the result.

Arrays: inputs [B, …] in our layout (time before frequency); the error compares the first clip in that layout.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

SECONDS = 350_000 / 12_000
SETTINGS = ((12_000, 512, 256, 96), (22_050, 1024, 512, 128), (22_050, 2048, 512, 128), (44_100, 2048, 512, 128))
CALL = 8  # clips a call, of the batches that are cut
RATE, N_FFT, HOP = 22_050, 2048, 512
STRETCHES = (0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.15, 1.25)


@dataclass(frozen=True)
class Contender:
    """One library's way to do it.

    hold: batch of numpy arrays → what the library starts from, not timed
    call: held → result, and only when it is done
    first: result → the first clip's as a numpy array, laid out as the oracle's
    check: held → result whose error is measured, where that is not `call`'s
    function: ours, as it is called without jit
    """

    hold: Callable
    call: Callable
    first: Callable
    check: Callable | None = None
    function: Callable | None = None


@dataclass(frozen=True)
class Case:
    """One line of a table, before it is measured.

    makers: {library: () → Contender}; ImportError means that the library is left out
    oracle: first clip in float64 → f64 array; None for ours in float64
    source: audio f32[B, N] → input of all contenders
    probe: () → (input of one clip, true output), where the error is not measured on the clips
    select: output → the part that is compared
    """

    title: str
    sample_rate: int
    makers: dict
    oracle: Callable | None = None
    source: Callable = lambda audio: audio
    probe: Callable | None = None
    select: Callable = lambda output: output
    remark: str = ""


def ours(function, *, check=None):
    """`function` of a batch under jit; the first of several results stands for all of them in the error."""
    import jax
    import numpy as np

    compiled = jax.jit(function)
    return Contender(
        jax.device_put,
        lambda batch: jax.block_until_ready(compiled(batch)),
        lambda output: np.asarray(jax.tree.leaves(output)[0])[0],
        check and jax.jit(check),
        function,
    )


def each(function, *, hold=None, first=None, check=None):
    """`function` of one clip, clip after clip."""
    import numpy as np

    def loop(function):
        return lambda clips: [function(clip) for clip in clips]

    return Contender(
        lambda batch: [clip if hold is None else hold(clip) for clip in batch],
        loop(function),
        lambda output: np.asarray(output[0] if first is None else first(output[0])),
        check and loop(check),
    )


def turned(clip):
    """[T, F] ↔ librosa's [F, T]."""
    return clip.T


# ── log-mel ──


def torch_decibels(power):
    import torch

    decibels = 10 * torch.log10(torch.clamp(power, min=1e-10))
    return torch.maximum(decibels, decibels.amax((-2, -1), keepdim=True) - 80)


def in_calls(function):
    """`function` of parts of 8 clips."""
    return lambda parts: [function(part) for part in parts]


def parts(batch, hold):
    return [hold(batch[i : i + CALL]) for i in range(0, len(batch), CALL)]


def log_mel_cases():
    return [log_mel(*setting) for setting in SETTINGS]


def log_mel(sample_rate, n_fft, hop, n_mels):
    def filters(dtype):
        from mirjax.signal import filters

        return filters.mel_filters(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels).astype(dtype)

    def mirjax():
        from mirjax.signal import mel, representations

        def power(audio):
            return mel.mel_spectrogram(audio, sample_rate=sample_rate, n_fft=n_fft, hop_length=hop, n_mels=n_mels)

        return ours(representations.LogMel(sample_rate, n_fft, hop, n_mels), check=power)

    def librosa():
        import librosa

        bank = filters("float32")

        def power(clip):
            spectrum = librosa.stft(clip, n_fft=n_fft, hop_length=hop)
            return bank @ (spectrum.real**2 + spectrum.imag**2)

        return each(lambda clip: librosa.power_to_db(power(clip)), first=turned, check=power)

    def torch():
        import torch

        bank, window = torch.from_numpy(filters("float32")), torch.hann_window(n_fft)

        def power(clip):
            spectrum = torch.stft(clip, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
            return bank @ (spectrum.real**2 + spectrum.imag**2)

        hold = torch.from_numpy
        return each(lambda clip: torch_decibels(power(clip)), hold=hold, first=turned, check=power)

    def nnaudio():
        import torch
        from nnAudio.features.mel import MelSpectrogram

        setting = {"sr": sample_rate, "n_fft": n_fft, "hop_length": hop, "n_mels": n_mels, "fmin": 0, "fmax": None}
        layer = MelSpectrogram(**setting, pad_mode="constant", verbose=False)
        return Contender(
            lambda batch: parts(batch, torch.from_numpy),
            in_calls(lambda part: torch_decibels(layer(part))),
            lambda output: output[0][0].T.numpy(),
            in_calls(layer),
        )

    def torchlibrosa():
        import torch
        from torchlibrosa.stft import LogmelFilterBank, Spectrogram

        spectrogram = Spectrogram(n_fft=n_fft, hop_length=hop, pad_mode="constant")
        bank = {"sr": sample_rate, "n_fft": n_fft, "n_mels": n_mels, "fmin": 0, "fmax": sample_rate / 2}
        linear = LogmelFilterBank(**bank, is_log=False)
        return Contender(
            lambda batch: parts(batch, torch.from_numpy),
            in_calls(lambda part: torch_decibels(linear(spectrogram(part)))),
            lambda output: output[0][0, 0].numpy(),
            in_calls(lambda part: linear(spectrogram(part))),
        )

    def oracle(clip):
        import librosa
        import numpy as np

        bank = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, dtype=np.float64)
        return (bank @ np.abs(librosa.stft(clip, n_fft=n_fft, hop_length=hop)) ** 2).T

    def calls_of_8():
        whole = mirjax()
        return Contender(lambda batch: parts(batch, whole.hold), in_calls(whole.call), lambda output: None)

    makers = {"mirjax": mirjax, "librosa": librosa, "torch": torch, "nnAudio": nnaudio, "torchlibrosa": torchlibrosa}
    return Case(f"{sample_rate} {n_fft}/{hop}/{n_mels}", sample_rate, {**makers, "calls of 8": calls_of_8}, oracle)


# ── the other functions ──


def our_spectrum(audio):
    """STFT c64[B, T, F] of audio, as numpy."""
    import numpy as np

    from mirjax.signal import stft

    return np.asarray(stft.stft(audio, n_fft=N_FFT, hop_length=HOP))


def our_mel(audio):
    import numpy as np

    from mirjax.signal import mel

    return np.asarray(mel.mel_spectrogram(audio, sample_rate=RATE, n_fft=N_FFT, hop_length=HOP))


def stft_cases():
    def mirjax():
        from mirjax.signal import stft

        return ours(functools.partial(stft.stft, n_fft=N_FFT, hop_length=HOP))

    def librosa():
        import librosa

        return each(functools.partial(librosa.stft, n_fft=N_FFT, hop_length=HOP), first=turned)

    def torch():
        import torch

        window = torch.hann_window(N_FFT)
        setting = {"window": window, "pad_mode": "constant", "return_complex": True}
        return each(lambda clip: torch.stft(clip, N_FFT, HOP, **setting), hold=torch.from_numpy, first=turned)

    makers = {"mirjax": mirjax, "librosa": librosa, "torch": torch}
    return [Case(f"STFT {N_FFT}/{HOP}", RATE, makers, lambda clip: librosa().call([clip])[0].T)]


def istft_cases():
    length = round(SECONDS * RATE)
    frame = {"n_fft": N_FFT, "hop_length": HOP, "length": length}

    def mirjax():
        from mirjax.signal import stft

        return ours(functools.partial(stft.istft, **frame))

    def librosa():
        import librosa

        return each(functools.partial(librosa.istft, **frame), hold=turned)

    def torch():
        import torch

        window = torch.hann_window(N_FFT)
        return each(
            lambda spectrum: torch.istft(spectrum, N_FFT, HOP, window=window, length=length),
            hold=lambda spectrum: torch.from_numpy(spectrum).T,
        )

    makers = {"mirjax": mirjax, "librosa": librosa, "torch": torch}
    return [Case("inverse STFT", RATE, makers, lambda clip: librosa().call([clip.T])[0], our_spectrum)]


def mfcc_cases():
    def mirjax():
        from mirjax.signal import cepstral

        return ours(functools.partial(cepstral.mfcc, sample_rate=RATE))

    def librosa():
        import librosa

        return each(lambda clip: librosa.feature.mfcc(y=clip, sr=RATE), first=turned)

    def oracle(clip):
        import librosa
        import numpy as np

        bank = librosa.filters.mel(sr=RATE, n_fft=N_FFT, dtype=np.float64)
        power = bank @ np.abs(librosa.stft(clip, n_fft=N_FFT, hop_length=HOP)) ** 2
        return librosa.feature.mfcc(S=librosa.power_to_db(power)).T

    return [Case("MFCC, 20", RATE, {"mirjax": mirjax, "librosa": librosa}, oracle)]


def griffin_lim_cases():
    length, rounds, momentum = round(SECONDS * RATE), 32, 0.99

    def source(audio):
        import numpy as np

        return np.abs(our_spectrum(audio))

    def mirjax():
        from mirjax.signal import stft

        return ours(functools.partial(stft.griffin_lim, num_iterations=rounds, hop_length=HOP, length=length))

    def librosa():
        import librosa

        setting = {"n_iter": rounds, "hop_length": HOP, "length": length, "init": None}
        return each(functools.partial(librosa.griffinlim, **setting), hold=turned)

    def torch():
        import torch

        window = torch.hann_window(N_FFT)

        def refine(magnitude):
            phases, previous = torch.ones_like(magnitude, dtype=torch.complex64), 0
            for _ in range(rounds):
                audio = torch.istft(magnitude * phases, N_FFT, HOP, window=window, length=length)
                rebuilt = torch.stft(audio, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)
                phases = rebuilt - momentum / (1 + momentum) * previous
                phases, previous = phases / (phases.abs() + 1e-16), rebuilt
            return torch.istft(magnitude * phases, N_FFT, HOP, window=window, length=length)

        return each(refine, hold=lambda magnitude: torch.from_numpy(magnitude).T)

    makers = {"mirjax": mirjax, "librosa": librosa, "torch": torch}
    remark = "32 rounds amplify roundings"
    return [Case("Griffin-Lim, 32", RATE, makers, lambda m: librosa().call([m.T])[0], source, remark=remark)]


RESAMPLES = "librosa resamples from octave to octave: a direct transform is about 1 % off"


def nnaudio_cqt(kind, n_bins, bins_per_octave, output_format):
    """nnAudio's transform scaled as librosa's, of a batch: [B, F, T] or, complex, [B, F, T, 2]."""
    from nnAudio.features import cqt

    from mirjax.signal.cqt import C1

    setting = {"hop_length": HOP, "fmin": C1, "n_bins": n_bins, "bins_per_octave": bins_per_octave}
    layer = getattr(cqt, kind)(sr=RATE, **setting, pad_mode="constant", output_format=output_format, verbose=False)
    return functools.partial(layer, normalization_type="librosa")


def cqt_cases():
    def mirjax():
        from mirjax.signal import cqt

        return ours(functools.partial(cqt.cqt, sample_rate=RATE))

    def librosa():
        import librosa

        return each(functools.partial(librosa.cqt, sr=RATE), first=turned)

    def nnaudio(kind):
        import torch

        layer = nnaudio_cqt(kind, 84, 12, "Complex")

        def first(output):
            return torch.view_as_complex(output[0].contiguous()).T.numpy()

        return Contender(torch.from_numpy, layer, first)

    makers = {
        "mirjax": mirjax,
        "librosa": librosa,
        "nnAudio 1992": functools.partial(nnaudio, "CQT1992v2"),
        "nnAudio 2010": functools.partial(nnaudio, "CQT2010v2"),
    }

    def oracle(clip):
        return abs(librosa().call([clip])[0].T)

    return [Case("CQT, 84 bins", RATE, makers, oracle, select=abs, remark=RESAMPLES + "; magnitudes")]


def chroma_cases():
    def mirjax():
        from mirjax.signal import chroma

        return ours(functools.partial(chroma.chroma_stft, sample_rate=RATE))

    def librosa(name):
        import librosa

        function = getattr(librosa.feature, name)
        return each(lambda clip: function(y=clip, sr=RATE, tuning=0.0), first=turned)

    def mirjax_cqt():
        from mirjax.signal import chroma

        return ours(functools.partial(chroma.chroma_cqt, sample_rate=RATE))

    def nnaudio(kind):
        import torch

        from mirjax.signal import chroma

        layer = nnaudio_cqt(kind, 252, 36, "Magnitude")
        matrix = torch.from_numpy(chroma.cq_to_chroma(252, bins_per_octave=36).astype("float32"))

        def fold(batch):
            output = matrix @ layer(batch)
            return output / output.amax(1, keepdim=True)

        return Contender(torch.from_numpy, fold, lambda output: output[0].T.numpy())

    def oracle(name):
        return lambda clip: librosa(name).call([clip])[0].T

    return [
        Case(
            "chroma of STFT",
            RATE,
            {"mirjax": mirjax, "librosa": functools.partial(librosa, "chroma_stft")},
            oracle("chroma_stft"),
        ),
        Case(
            "chroma of CQT, 252 bins",
            RATE,
            {
                "mirjax": mirjax_cqt,
                "librosa": functools.partial(librosa, "chroma_cqt"),
                "nnAudio 1992": functools.partial(nnaudio, "CQT1992v2"),
                "nnAudio 2010": functools.partial(nnaudio, "CQT2010v2"),
            },
            oracle("chroma_cqt"),
            remark=RESAMPLES + ", and more in quiet frames, whose classes are relative to their own largest",
        ),
    ]


def resample_cases():
    quick = {"num_zeros": 32, "rolloff": 0.9}
    return [
        resample(44_100, 16_000, passed=0.9),
        resample(44_100, 16_000, passed=0.8, **quick),
        resample(44_100, 48_000, passed=0.9),
        resample(44_100, 48_000, passed=0.8, **quick),
    ]


def resample(orig_rate, target_rate, *, passed, **setting):
    lower = min(orig_rate, target_rate) / 2

    def mirjax():
        from mirjax.signal import resample

        return ours(functools.partial(resample.resample, orig_rate=orig_rate, target_rate=target_rate, **setting))

    def soxr(quality):
        import soxr

        return each(lambda clip: soxr.resample(clip, orig_rate, target_rate, quality=quality))

    def scipy():
        from scipy.signal import resample_poly

        common = math.gcd(orig_rate, target_rate)
        return each(lambda clip: resample_poly(clip, target_rate // common, orig_rate // common))

    def probe():
        import numpy as np

        frequencies = np.linspace(0.01, passed, 90) * lower
        phases = np.random.default_rng(0).uniform(0, 2 * np.pi, len(frequencies))

        def tones(rate):
            times = np.arange(rate) / rate
            return sum(np.sin(2 * np.pi * f * times + p) for f, p in zip(frequencies, phases, strict=True)) / 90

        return tones(orig_rate)[None], tones(target_rate)

    def select(output):
        cut = target_rate // 10  # a tone that begins or ends is no tone
        return output[cut:-cut]

    title = f"resampling {orig_rate} → {target_rate}"
    return Case(
        title + (", " + ", ".join(f"{name}={value}" for name, value in setting.items()) if setting else ""),
        orig_rate,
        {
            "mirjax": mirjax,
            "soxr HQ": functools.partial(soxr, "HQ"),
            "soxr VHQ": functools.partial(soxr, "VHQ"),
            "scipy poly": scipy,
        },
        probe=probe,
        select=select,
        remark=f"90 tones up to {passed * lower:.0f} Hz against their formula",
    )


def hpss_cases():
    def mirjax():
        from mirjax.signal import hpss

        return ours(hpss.hpss)

    def librosa():
        import librosa

        return each(librosa.decompose.hpss, hold=turned, first=lambda parts: parts[0].T)

    def source(audio):
        import numpy as np

        return np.abs(our_spectrum(audio))

    makers = {"mirjax": mirjax, "librosa": librosa}
    return [Case("HPSS of magnitudes", RATE, makers, lambda clip: librosa().call([clip.T])[0][0].T, source)]


def pcen_cases():
    setting = {"hop_length": HOP}

    def mirjax():
        from mirjax.signal import compression

        return ours(functools.partial(compression.pcen, sample_rate=RATE, **setting))

    def librosa():
        import librosa
        import numpy as np

        def hold(clip):
            return np.ascontiguousarray(clip.T)

        return each(functools.partial(librosa.pcen, sr=RATE, **setting), hold=hold, first=turned)

    makers = {"mirjax": mirjax, "librosa": librosa}
    return [
        Case(
            "PCEN of 128 bands", RATE, makers, lambda clip: librosa().call([clip.T])[0].T, lambda a: 2**31 * our_mel(a)
        )
    ]


def yin_cases():
    setting = {"fmin": 65.4, "fmax": 2093.0}

    def mirjax():
        from mirjax.signal import pitch

        return ours(functools.partial(pitch.yin, sample_rate=RATE, **setting))

    def librosa():
        import librosa

        return each(functools.partial(librosa.yin, sr=RATE, **setting))

    def oracle(clip):
        return librosa().call([clip])[0]

    return [Case("YIN, 65–2093 Hz", RATE, {"mirjax": mirjax, "librosa": librosa}, oracle)]


def tempogram_cases():
    def source(audio):
        import numpy as np

        from mirjax.signal import mel, rhythm

        return np.asarray(rhythm.onset_strength(mel.power_to_db(our_mel(audio))))

    def mirjax():
        from mirjax.signal import rhythm

        return ours(rhythm.tempogram)

    def librosa():
        import librosa

        function = librosa.feature.tempogram
        return each(lambda envelope: function(onset_envelope=envelope, sr=RATE), first=turned)

    makers = {"mirjax": mirjax, "librosa": librosa}
    return [Case("tempogram, 384 lags", RATE, makers, lambda clip: librosa().call([clip])[0].T, source)]


def loudness_cases():
    rate = 48_000
    # ITU-R BS.1770-5, annex 1, tables 1 and 2.
    sections = (
        (1.53512485958697, -2.69169629040638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585),
        (1, -2, 1, 1, -1.99004745483398, 0.99007225036621),
    )

    def mirjax():
        from mirjax.signal import loudness

        return ours(functools.partial(loudness.integrated_loudness, sample_rate=rate))

    def scipy(dtype):
        import numpy as np
        from scipy.signal import sosfilt

        sos = np.array(sections, dtype)
        hop = rate // 10

        def integrated(clip):
            filtered = sosfilt(sos, clip)
            squares = (filtered[: len(clip) // hop * hop].reshape(-1, hop) ** 2).mean(axis=1)
            energy = np.lib.stride_tricks.sliding_window_view(squares, 4).mean(axis=1)
            energy = energy[energy > 10 ** ((-70 + 0.691) / 10)]
            return -0.691 + 10 * np.log10(energy[energy > 0.1 * energy.mean()].mean())

        return each(integrated)

    makers = {
        "mirjax": mirjax,
        "scipy float64": functools.partial(scipy, "float64"),
        "scipy float32": functools.partial(scipy, "float32"),
    }
    return [Case("loudness (BS.1770), 48 kHz", rate, makers, lambda clip: scipy("float64").call([clip])[0])]


def time_stretch_cases():
    def mirjax():
        import numpy as np

        from mirjax.signal import augment

        rates = np.array(STRETCHES, np.float32)
        return ours(lambda audio: augment.time_stretch_by(audio, rates[: len(audio)]))

    def librosa():
        import librosa
        import numpy as np

        def stretch(clips):
            return [librosa.effects.time_stretch(clip, rate=rate) for clip, rate in zip(clips, STRETCHES, strict=False)]

        return Contender(list, stretch, lambda output: np.asarray(output[0]))

    def oracle(clip):
        return librosa().call([clip])[0][: len(clip)]

    return [
        Case(
            "time stretch, a rate a clip",
            RATE,
            {"mirjax": mirjax, "librosa": librosa},
            oracle,
            select=lambda output: output[: round(SECONDS * RATE)],
            remark="roundings of the phases add up; ours ends after the clip's own length, librosa goes on to the end",
        )
    ]


CASES = {
    "log_mel": log_mel_cases,
    "stft": stft_cases,
    "istft": istft_cases,
    "mfcc": mfcc_cases,
    "griffin_lim": griffin_lim_cases,
    "chroma": chroma_cases,
    "resample": resample_cases,
    "hpss": hpss_cases,
    "pcen": pcen_cases,
    "yin": yin_cases,
    "tempogram": tempogram_cases,
    "loudness": loudness_cases,
    "time_stretch": time_stretch_cases,
    "cqt": cqt_cases,
}

"""Log-mel spectrograms against librosa, torch.stft, nnAudio and torchlibrosa, as ratios of processor time.

29.17 s clips of real sound, power mel, decibels floored 80 dB below the maximum, at four settings and in batches of 1
and 8. Every library starts from float32 samples it already holds and uses its own best batch form: librosa and
torch.stft clip after clip (a whole batch is slower for both), the others the batch at once. The error is that of the
power mel against float64 `librosa.filters.mel @ abs(librosa.stft)²`, relative to the clip's largest value. A library
that is not installed is left out by name.

Usage: python benchmarks/log_mel.py [--rounds 5] [--threads 1]
"""

import argparse
import functools
import sys

from _measure import alternate, pin, print_table, ratio, recordings

SETTINGS = ((12_000, 512, 256, 96), (22_050, 1024, 512, 128), (22_050, 2048, 512, 128), (44_100, 2048, 512, 128))
SECONDS = 350_000 / 12_000
TARGETS = {"librosa": 2.5, "torch.stft": 2, "nnAudio": 7, "torchlibrosa": 7}
ERROR_TARGET = 1e-6


def mirjax_mel(sample_rate, n_fft, hop, n_mels):
    import jax
    import numpy as np

    from mirjax.signal import mel, representations

    power = jax.jit(
        lambda audio: mel.mel_spectrogram(audio, sample_rate=sample_rate, n_fft=n_fft, hop_length=hop, n_mels=n_mels)
    )
    decibels = jax.jit(representations.LogMel(sample_rate, n_fft, hop, n_mels))
    hold = jax.device_put
    return hold, lambda held: decibels(held).block_until_ready(), lambda held: np.asarray(power(held))


def librosa_mel(sample_rate, n_fft, hop, n_mels):
    import librosa
    import numpy as np

    # The filters are made once: melspectrogram would make them anew in every call.
    filters = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels)

    def power(clip):
        spectrum = librosa.stft(clip, n_fft=n_fft, hop_length=hop)
        return filters @ (spectrum.real**2 + spectrum.imag**2)

    return (
        np.asarray,
        lambda audio: [librosa.power_to_db(power(clip)) for clip in audio],
        lambda audio: np.stack([power(clip).T for clip in audio]),
    )


def torch_decibels(power):
    import torch

    decibels = 10 * torch.log10(torch.clamp(power, min=1e-10))
    return torch.maximum(decibels, decibels.amax((-2, -1), keepdim=True) - 80)


def torch_mel(sample_rate, n_fft, hop, n_mels):
    import librosa
    import torch

    filters = torch.from_numpy(librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels))
    window = torch.hann_window(n_fft)

    def power(clip):
        spectrum = torch.stft(clip, n_fft, hop, window=window, pad_mode="constant", return_complex=True)
        return filters @ (spectrum.real**2 + spectrum.imag**2)

    return (
        torch.from_numpy,
        lambda audio: [torch_decibels(power(clip)) for clip in audio],
        lambda audio: torch.stack([power(clip).T for clip in audio]).numpy(),
    )


def nnaudio_mel(sample_rate, n_fft, hop, n_mels):
    import torch
    from nnAudio.features.mel import MelSpectrogram

    layer = MelSpectrogram(
        sr=sample_rate,
        n_fft=n_fft,
        hop_length=hop,
        n_mels=n_mels,
        fmin=0,
        fmax=None,
        pad_mode="constant",
        verbose=False,
    )
    return (
        torch.from_numpy,
        lambda audio: torch_decibels(layer(audio)),
        lambda audio: layer(audio).transpose(1, 2).numpy(),
    )


def torchlibrosa_mel(sample_rate, n_fft, hop, n_mels):
    import torch
    from torchlibrosa.stft import LogmelFilterBank, Spectrogram

    spectrogram = Spectrogram(n_fft=n_fft, hop_length=hop, pad_mode="constant")
    bank = {"sr": sample_rate, "n_fft": n_fft, "n_mels": n_mels, "fmin": 0, "fmax": sample_rate / 2}
    linear = LogmelFilterBank(**bank, is_log=False)
    return (
        torch.from_numpy,
        lambda audio: torch_decibels(linear(spectrogram(audio))),
        lambda audio: linear(spectrogram(audio))[:, 0].numpy(),
    )


LIBRARIES = {
    "mirjax": mirjax_mel,
    "librosa": librosa_mel,
    "torch.stft": torch_mel,
    "nnAudio": nnaudio_mel,
    "torchlibrosa": torchlibrosa_mel,
}


def reference(audio, sample_rate, n_fft, hop, n_mels):
    """Power mel f64[B, T, n_mels] in float64."""
    import librosa
    import numpy as np

    filters = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, dtype=np.float64)
    return np.stack(
        [
            (filters @ np.abs(librosa.stft(clip.astype(np.float64), n_fft=n_fft, hop_length=hop)) ** 2).T
            for clip in audio
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    pin(options.threads)

    absent = set()
    try:
        import torch

        torch.set_num_threads(options.threads)
        torch.set_grad_enabled(False)
    except ImportError:
        absent = set(LIBRARIES) - {"mirjax", "librosa"}
    rows = []
    for setting in SETTINGS:
        sample_rate, n_fft, hop, n_mels = setting
        clips = recordings(sample_rate, round(SECONDS * sample_rate), 8)
        for batch in (1, 8):
            print(f"{sample_rate} Hz, {n_fft}/{hop}/{n_mels}, batch {batch}", file=sys.stderr, flush=True)
            audio, contenders, errors = clips[:batch], {}, {}
            expected = reference(audio[:1], *setting)[0]
            for library, make in LIBRARIES.items():
                if library in absent:
                    continue
                try:
                    hold, decibels, power = make(*setting)
                except ImportError:
                    absent.add(library)
                    continue
                contenders[library] = functools.partial(decibels, hold(audio.copy()))
                errors[library] = abs(power(hold(audio[:1].copy()))[0] - expected).max() / expected.max()
            times = alternate(contenders, rounds=options.rounds)
            row = [f"{sample_rate} {n_fft}/{hop}/{n_mels}", batch, f"{1e3 * times['mirjax'].cpu:.2f}"]
            missed = [] if errors["mirjax"] <= ERROR_TARGET else [f"error ≤ {ERROR_TARGET:.0e}"]
            for library, least in TARGETS.items():
                if library in absent:
                    row.append("–")
                    continue
                gain = times[library].cpu / times["mirjax"].cpu
                row.append(ratio(gain))
                missed += [f"{library} ≥ {least}×"] * (gain < least)
            row += [f"{errors[library]:.0e}" if library in errors else "–" for library in LIBRARIES]
            rows.append([*row, "missed: " + ", ".join(missed) if missed else "met"])
    for library in sorted(absent):
        print(f"{library} is not installed: left out", file=sys.stderr)
    head = ["setting", "batch", "mirjax ms", *(f"× {library} (≥ {least})" for library, least in TARGETS.items())]
    print_table([*head, *(f"error {library}" for library in LIBRARIES), "verdict"], rows)


if __name__ == "__main__":
    main()

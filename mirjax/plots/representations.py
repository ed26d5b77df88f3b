"""A figure of what `mirjax.signal` makes of one clip.

Names: `plot_representations`.
"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mirjax.plots import canvas


def plot_representations(audio, sample_rate, path) -> None:
    """Draw what `mirjax.signal` makes of one clip, side by side over time, all in one colour map.

    Decibels run from 80 below to each panel's maximum (the two separated parts: the whole's), other values from the
    lowest to the highest half per cent of the panel.

    Args:
        audio: f32[N], one channel of at least 2 s (some 8 s are best).
        sample_rate: hertz, at least 8000.
        path: PNG to write.

    Raises:
        ValueError: for more than one channel, a shorter clip or a lower rate.
    """
    import math

    from PIL import Image

    from mirjax.signal import compression, cqt, filtered, filters, hpss, mel, representations, rhythm, stft

    if np.ndim(audio) != 1 or sample_rate < 8000 or len(audio) < 2 * sample_rate:
        raise ValueError(
            f"audio of shape {np.shape(audio)} at {sample_rate} Hz: give one channel of at least 2 s at 8000 Hz or more"
        )
    rate, n_fft, hop = int(sample_rate), 2048, 512
    octaves = min(7, math.floor(math.log2(rate / 2.2 / cqt.C1)))
    frame = {"sample_rate": rate, "hop_length": hop}
    log_mel = representations.LogMel(rate, n_fft, hop, 128, compression=compression.Linear())
    pcen = representations.LogMel(
        rate, n_fft, hop, 128, power=1.0, compression=compression.PCEN(rate, hop, scale=2.0**31)
    )
    bank = {"sample_rate": rate, "frame_sizes": (n_fft,), "num_bands": (12,), "fmax": min(17_000.0, 0.45 * rate)}
    lag = filtered.difference_lag(n_fft, hop)

    spectrum = stft.stft(audio, n_fft=n_fft, hop_length=hop)
    energies = np.abs(np.asarray(spectrum)) ** 2
    bands = np.asarray(log_mel(audio))
    harmonic, percussive = (np.abs(np.asarray(part)) ** 2 @ log_mel.filters().T for part in hpss.hpss(spectrum))
    filtered_bands = filtered.filtered_spectrogram(audio, hop_length=hop, end="extend", **bank)
    onsets = rhythm.onset_strength(mel.power_to_db(bands), n_fft=n_fft, hop_length=hop)
    slowest, fastest = math.ceil(60 * rate / hop / 30), math.floor(60 * rate / hop / 300)
    tempi = np.asarray(rhythm.tempogram(onsets))[:, fastest : slowest + 1]

    spread = (125, 250, 500, 1000, 2000, 4000, 8000, 16_000)
    edges = filters.mel_to_hz(np.linspace(0, filters.hz_to_mel(rate / 2), 130))
    mel_axis = (*canvas.hertz(edges[1:-1], (250, *spread[2:])), "Hz (mel scale)")
    even = (*canvas.hertz(np.arange(1 + n_fft // 2) * rate / n_fft, range(0, rate // 2 + 1, 2000)), "Hz")
    centres = filtered.log_filters(sample_rate=rate, frame_size=n_fft, fmax=bank["fmax"]).argmax(axis=1) * rate / n_fft
    bands_axis = (*canvas.hertz(centres, spread), "Hz (centre)")
    notes = (12 * np.arange(octaves + 1), [f"C{octave}" for octave in range(1, octaves + 2)], "note")
    classes = ((0, 2, 4, 5, 7, 9, 11), "C D E F G A B".split(), "pitch class")
    bpm = (30, 40, 60, 80, 120, 240)
    tempo_axis = ([60 * rate / hop / tempo - fastest for tempo in bpm], list(map(str, bpm)), "beats a minute")
    decibels = {"vmin": -80, "vmax": 0}
    together = bands.max()
    images = {
        "STFT, dB": (canvas.decibels(energies), even, decibels),
        "mel, dB": (canvas.decibels(bands), mel_axis, decibels),
        "mel, PCEN": (pcen(audio), mel_axis, {}),
        "MFCC 1–19": (
            representations.MFCC(representations.LogMel(rate, n_fft, hop, 128))(audio)[:, 1:],
            (np.array([0, 4, 9, 14, 18]), ["1", "5", "10", "15", "19"], "coefficient"),
            {},
        ),
        "constant-Q, dB": (
            canvas.decibels(
                representations.LogCQT(**frame, n_bins=12 * octaves, compression=compression.Linear())(audio)
            ),
            notes,
            decibels,
        ),
        "chroma": (representations.Chroma(**frame, n_fft=2 * n_fft)(audio), classes, {}),
        "CENS": (representations.CENS(**frame, n_octaves=octaves)(audio), classes, {}),
        "filtered, 12 bands an octave, log": (filtered_bands, bands_axis, {}),
        "its rises over time": (filtered.positive_differences(filtered_bands, lag=lag), bands_axis, {}),
        "harmonic part, mel, dB": (10 * np.log10(np.maximum(harmonic / together, 1e-8)), mel_axis, decibels),
        "percussive part, mel, dB": (10 * np.log10(np.maximum(percussive / together, 1e-8)), mel_axis, decibels),
        "tempogram": (tempi, tempo_axis, {}),
    }

    figure = Figure(figsize=(10.5, 10.5), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.04, w_pad=0.05, hspace=0.02, wspace=0.02)
    axes = figure.subplots(5, 3).ravel()
    seconds, step = len(audio) / rate, max(1, len(audio) // 1500)
    pieces = np.asarray(audio)[: len(audio) // step * step].reshape(-1, step)
    times = np.arange(len(pieces)) * step / rate
    axes[0].fill_between(times, pieces.min(axis=1), pieces.max(axis=1), color=canvas.COLOURS[0], linewidth=0.3)
    axes[0].set_ylabel("amplitude", **canvas.STYLE)
    canvas.finish(axes[0], "waveform")
    places = [*range(1, 12), 13]
    for place, (title, (values, (ticks, labels, unit), limits)) in zip(places, images.items(), strict=True):
        axis, values = axes[place], np.asarray(values).T
        low, high = np.percentile(values, (0.5, 99.5))
        image = axis.imshow(
            values,
            cmap="magma",
            origin="lower",
            aspect="auto",
            extent=(-hop / 2 / rate, (values.shape[1] - 0.5) * hop / rate, -0.5, len(values) - 0.5),
            interpolation="none",
            **({"vmin": low, "vmax": high} | limits),
        )
        axis.set_yticks(ticks, labels)
        axis.set_ylabel(unit, **canvas.STYLE)
        canvas.finish(axis, title)
    axes[13].invert_yaxis()
    axes[12].plot(np.arange(len(onsets)) * hop / rate, onsets, color=canvas.COLOURS[0], linewidth=0.9)
    axes[12].set_ylabel("mean rise, dB", **canvas.STYLE)
    canvas.finish(axes[12], "onset strength")
    for axis in axes[:14]:
        axis.set_xlim(0, seconds)
        axis.tick_params(labelbottom=axis in axes[11:14])
    for axis in axes[11:14]:
        axis.set_xlabel("seconds", **canvas.STYLE)
    axes[14].set_axis_off()
    bar = figure.colorbar(image, cax=axes[14].inset_axes([0.05, 0.5, 0.9, 0.1]), orientation="horizontal")
    bar.set_ticks(bar.mappable.get_clim(), labels=["lowest\n−80 dB", "highest\n0 dB"], **canvas.STYLE)
    canvas.save(figure, path)
    with Image.open(path) as picture:  # a palette makes it a third of the size
        small = picture.convert("RGB").quantize(192, dither=Image.Dither.NONE)
    small.save(path, "PNG", optimize=True)

"""Looking inside a network: filters, maps, answers over time, and the sound of a map.

Arrays: one clip f32[N] in; times in seconds from its first sample. Nothing here is trained or learnt: an untrained
network gives noise.
`mirjax.plots` draws what these functions return.

Source: Choi et al., "Auralisation of deep convolutional neural networks: listening to learned features", ISMIR 2015
(late-breaking), after Zeiler & Fergus, "Visualizing and understanding convolutional networks", ECCV 2014; the taggram
is musicnn's (Pons & Serra 2019). ARCHITECTURES §6.6, §10.
Names: `Map`, `first_layer_filters`, `feature_maps`, `step_times`, `taggram`, `auralise`, `write_wav`.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mirjax.models import weights
from mirjax.signal import compression, stft, windows
from mirjax.signal.representations import LogMel, Spectrogram, Waveform

ANSWERS = {"sigmoid": jax.nn.sigmoid, "softmax": jax.nn.softmax, "linear": lambda logits: logits}
_BATCH = 8


class Map(NamedTuple):
    """One layer's map of a clip: values f32[T', C] or f32[T', F', C], and the times f64[T'] of its steps' centres."""

    times: np.ndarray
    values: np.ndarray


def _clip(model, audio):
    """The clip as f32[N], refused where it is anything else."""
    audio = np.asarray(audio)
    if not np.issubdtype(audio.dtype, np.floating) or not np.isfinite(audio).all():
        raise ValueError(f"audio is {audio.dtype} or not finite; give floats in [-1, 1]")
    audio = audio.astype(jnp.result_type(float))
    channels = model.representation.num_channels
    expected = ("N",) if channels == 1 else (channels, "N")
    if audio.ndim != len(expected) or (channels > 1 and audio.shape[0] != channels):
        raise ValueError(f"audio of shape {audio.shape}: give one clip [{', '.join(map(str, expected))}]")
    return audio


# ── filters ──


def first_layer_filters(model, variables) -> list[tuple[str, np.ndarray]]:
    """Kernels that meet the input itself, as the input has its axes.

    Which they are is read from their shapes: they take as many channels as the input has (or all its bands). In a
    network of width 1 later layers may have such kernels too.

    Args:
      model: a `taggers.Model`.
      variables: its variables.

    Returns:
      (path, kernel) of each, in the order of the paths: f32[kt, kf, n] frames × bands, or f32[k, n] samples of a
      waveform, or frames for filters that see no bands. Of several channels each has its own entry, `path[channel]`.

    Raises:
      ValueError: no such kernel: a network that begins with recurrent layers, or with filters that are computed.
    """
    channels = model.representation.num_channels
    bands = 0 if isinstance(model.representation, Waveform) else model.representation.num_bins
    kernels = {
        path.removeprefix("params/").removesuffix("/kernel"): np.asarray(value)
        for path, value in sorted(weights.flatten({"params": variables["params"]}).items())
        if path.endswith("/kernel") and np.ndim(value) > 2
    }
    in_front = {path: kernel for path, kernel in kernels.items() if path.startswith("front_end")}
    for group in (in_front, kernels):
        found = []
        for path, kernel in group.items():
            if kernel.ndim == 3 and bands and kernel.shape[1] == bands:
                found.append((path, kernel))
            elif kernel.shape[-2] == channels:
                parts = np.moveaxis(kernel, -2, 0)
                found += [(path if channels == 1 else f"{path}[{i}]", part) for i, part in enumerate(parts)]
        if found:
            return found
    raise ValueError(f"no kernel of this network meets its input directly; its kernels: {', '.join(kernels) or 'none'}")


# ── maps ──


def step_times(model, num_steps: int, num_frames: int) -> np.ndarray:
    """Times of the centres of a map's steps, f64[num_steps] seconds.

    The geometry of the network says where a step lies: of the layers after which the network has that many steps, the
    last one counts. A map of a side branch with steps of its own is spread evenly over the clip.

    Args:
      model: a `taggers.Model`.
      num_steps: steps T' of the map.
      num_frames: frames T of the clip's representation (or samples).
    """
    first, jump, left, place = 0.0, 1, num_frames, None
    if left == num_steps:
        place = first, jump
    for window in model.windows:
        if math.isinf(window.size):
            if not window.keeps:
                first, jump = (num_frames - 1) / 2, num_frames
        else:
            after = window.num_steps(left)
            padding = window.padding
            if padding == "same":
                padding = max((after - 1) * window.stride + window.size - left, 0)
            first += ((window.size - 1) / 2 - padding // 2) * jump
            jump *= window.stride
        left = window.num_steps(left)
        if left == num_steps:
            place = first, jump
    if place is None:
        place = (num_frames / num_steps - 1) / 2, num_frames / num_steps
    representation = model.representation
    offset = 0.0
    if not getattr(representation, "center", True):  # such frames begin where centred ones have their middle
        length = getattr(representation, "win_length", None) or getattr(representation, "n_fft", 0)
        offset = length / 2 / representation.sample_rate
    return offset + (place[0] + place[1] * np.arange(num_steps)) / representation.frame_rate


@functools.partial(jax.jit, static_argnums=0)
def _all_maps(model, variables, x, shift, scale):
    _, state = model.apply(variables, (x - shift) * scale, method="embed", mutable=["maps"])
    return {path[-1].key: value for path, value in jax.tree_util.tree_leaves_with_path(state.get("maps", {}))}


def _moments(moments, dtype):
    mean, deviation = moments
    if not deviation > 0:
        raise ValueError(f"moments={moments}: the deviation must be positive")
    return jnp.asarray(mean, dtype), jnp.asarray(1 / deviation, dtype)


def feature_maps(model, variables, audio, *, moments: tuple[float, float] = (0.0, 1.0)) -> dict[str, Map]:
    """What every layer with positions makes of a clip.

    Args:
      model: a `taggers.Model`.
      variables: its variables.
      audio: f32[N].
      moments: mean and deviation by which the representation is standardised.

    Returns:
      {layer: `Map`}, the layers of `feature_layers` first.

    Raises:
      ValueError: audio that is not one clip, or too short for the network.
    """
    x = model.representation(_clip(model, audio))[None]
    found = _all_maps(model, variables, x, *_moments(moments, x.dtype))
    names = [*(name for name in model.feature_layers if name in found), *found]
    return {
        name: Map(step_times(model, found[name].shape[1], x.shape[1]), np.asarray(found[name][0]))
        for name in dict.fromkeys(names)
        if found[name].ndim > 2
    }


# ── answers over time ──


@functools.partial(jax.jit, static_argnums=0)
def _logits(model, variables, x, shift, scale):
    return model.apply(variables, (x - shift) * scale, method="embed").get("logits")


def taggram(
    model,
    variables,
    audio,
    *,
    window: float | None = None,
    hop: float | None = None,
    answer: str = "sigmoid",
    moments: tuple[float, float] = (0.0, 1.0),
) -> tuple[np.ndarray, np.ndarray]:
    """What a network says of a whole clip, window by window.

    The representation of the whole clip is cut into windows of frames, as musicnn does, and they go through the
    network a few at a time, so a long track needs no more memory than its representation. What is left behind the
    last whole window is not heard.

    Args:
      model: a `taggers.Model` with a head that gives one answer a clip.
      variables: its variables.
      audio: f32[N].
      window: seconds, rounded to whole frames; the length of the published input when None.
      hop: seconds from window to window, at least a frame; the window when None.
      answer: `sigmoid`, `softmax` or `linear` (the logits).
      moments: mean and deviation by which the representation is standardised.

    Returns:
      (times f64[T'] of the windows' centres in seconds, answers f32[T', K]).

    Raises:
      ValueError: a clip shorter than one window, a length that the network does not take, no head, a tracker.
    """
    if answer not in ANSWERS:
        raise ValueError(f"answer={answer!r} is not one of {', '.join(ANSWERS)}")
    rate = model.representation.frame_rate
    for name, value in (("window", window), ("hop", hop)):
        if value is not None and not (value * rate >= 0.5 and math.isfinite(value)):
            raise ValueError(f"{name}={value} seconds is not a frame of {1 / rate:.4g} s; give a longer one")
    steps = model.num_steps if window is None else round(window * rate)
    if steps is None:
        raise ValueError("window: this network takes any length; say how many seconds a window has")
    if model.fixed and steps != model.num_steps:
        raise ValueError(
            f"window={window}: this network takes {model.num_steps} frames, {model.num_steps / rate:.4g} s, and no "
            "other length; leave window out"
        )
    jump = steps if hop is None else round(hop * rate)
    x = model.representation(_clip(model, audio))
    if x.shape[0] < steps:
        raise ValueError(
            f"audio makes {x.shape[0]} frames and a window has {steps} ({steps / rate:.4g} s); give a longer clip, "
            "repeat it, or choose a shorter window where the network takes one"
        )
    moments = _moments(moments, x.dtype)
    starts = np.arange(0, x.shape[0] - steps + 1, jump)
    rows = []
    for first in range(0, len(starts), _BATCH):
        batch = starts[first : first + _BATCH]
        filled = np.pad(batch, (0, _BATCH - len(batch)), mode="edge")  # one shape, one compilation
        logits = _logits(model, variables, jnp.stack([x[i : i + steps] for i in filled]), *moments)
        if logits is None:
            raise ValueError("this network has no head and answers nothing; `features.extract` has its features")
        if isinstance(logits, dict):
            raise ValueError(f"this network answers for {', '.join(logits)}; a taggram shows one head")
        if logits.ndim != 2:
            raise ValueError("this network answers at every step by itself: its logits are the taggram")
        rows.append(np.asarray(ANSWERS[answer](logits))[: len(batch)])
    offset = step_times(model, x.shape[0], x.shape[0])[0]  # of the first frame's centre
    return offset + (starts + (steps - 1) / 2) / rate, np.concatenate(rows)


# ── auralisation ──


def _expand(values, of):
    """The compressed values back on their linear scale."""
    if isinstance(of, compression.Linear):
        return values
    if isinstance(of, compression.Decibels):
        return 10.0 ** (values / 10)  # up to the reference, which cancels
    if isinstance(of, compression.LogOffset):
        return of.base**values - of.offset
    if isinstance(of, compression.LogFloor):
        return of.base**values
    if isinstance(of, compression.LogScaled):
        return (of.base**values - 1) / of.scale
    raise ValueError(f"no way back through {of!r}; auralise a network with Linear, Decibels or a logarithm")


def _silence(x, of):
    """The value that no sound has."""
    nothing = np.asarray(of(jnp.zeros((1, 1), x.dtype))).item()
    if isinstance(of, compression.Decibels) and of.top_db is not None:
        return max(nothing, float(x.max()) - of.top_db)
    return nothing


def _carry_back(model, variables, x, silence, layer, channel, moments):
    """J(x)ᵀ (f(x) − f(silence)) for the map f of a layer, f64 of x's shape."""
    shift, scale = _moments(moments, x.dtype)

    def read(x):
        maps = _all_maps(model, variables, x[None], shift, scale)
        if layer not in maps:
            raise ValueError(f"layer={layer!r} is not one of {', '.join(maps)}")
        values = maps[layer]
        if channel is None:
            return values
        if not 0 <= channel < values.shape[-1]:
            raise ValueError(f"channel={channel}: {layer} has {values.shape[-1]} channels, from 0 on")
        return values[..., channel]

    values, transpose = jax.vjp(read, x)
    quiet = read(jnp.full_like(x, silence))
    return np.asarray(transpose(values - quiet)[0], np.float64)


def auralise(
    model,
    variables,
    audio,
    layer: str,
    channel: int | None = None,
    *,
    moments: tuple[float, float] = (0.0, 1.0),
) -> np.ndarray:
    """The part of a clip that a feature map answers to, as sound.

    The map, less what silence gives, goes back through the transposed network: convolutions transposed, rectifiers
    open where they were open, each pooled value back where its maximum was (the network's Jacobian at this clip, by
    `jax.vjp`). What comes out positive is scaled to the input's range and laid on silence, the compression undone, and
    the transposed filter bank spreads it over the bins: there |Y| = |X| · (Mᵀ m′ / Mᵀ m)^(1/p), with m the clip's
    bands, m′ the ones carried back, M the bank (one row a bin without a bank), p the exponent of the spectrogram; Y
    has the phase of X. So a network that changes nothing gives the clip back, in all bins that the bank covers.
    A map of a waveform network comes back as a waveform by itself, and gets the clip's peak.

    Args:
      model: a `taggers.Model` on a waveform, a spectrogram or mel bands.
      variables: its variables.
      audio: f32[N].
      layer: a name of `feature_maps`.
      channel: of the layer; all of them together when None.
      moments: mean and deviation by which the representation is standardised.

    Returns:
      f32[N], no band of it louder than the clip's loudest; silence where the map has no positive answer.

    Raises:
      ValueError: unknown layer or channel, a representation from which there is no way back.
    """
    representation = model.representation
    kind = type(representation)
    if kind not in (Waveform, Spectrogram, LogMel) or representation.num_channels != 1:
        raise ValueError(
            f"no way back from {representation!r}; auralise a network on one channel's waveform, "
            "spectrogram or mel bands"
        )
    audio = _clip(model, audio)
    x = representation(audio)
    if kind is Waveform:
        back = _carry_back(model, variables, x, 0.0, layer, channel, moments)
        scale = np.abs(audio).max() / np.abs(back).max() if back.any() else 0.0
        return np.asarray(back * scale, audio.dtype)
    _expand(np.zeros(1), representation.compression)  # refused before the work
    silence = _silence(x, representation.compression)
    back = np.maximum(_carry_back(model, variables, x, silence, layer, channel, moments), 0)
    if not back.max() > 0:
        return np.zeros_like(audio)
    heard = np.asarray(x, np.float64)
    back *= (heard.max() - silence) / back.max()

    def bands(values):
        energies = _expand(values, representation.compression) - _expand(silence, representation.compression)
        energies = np.maximum(energies, 0) ** (1 / getattr(representation, "mel_power", 1.0))
        return energies @ representation.filters() if kind is LogMel else energies

    before, after = bands(heard), bands(silence + back)
    gain = np.where(before > 0, after / np.where(before > 0, before, 1), 0) ** (1 / representation.power)
    return np.asarray(_resynthesis(representation, audio)(gain), audio.dtype)


def _resynthesis(representation, audio):
    """Gains f64[T, bins] of the spectrum that a representation is made of → the clip f64[N] with them.

    Uncentred frames cover a clip's ends with next to nothing of their window, which would blow up any change there: on
    the way back frames are added before and after, with the gain of the first and the last one.
    """
    n_fft, hop_length, center = representation.n_fft, representation.hop_length, representation.center
    frame = {"n_fft": n_fft, "hop_length": hop_length, "center": center}
    length = representation.win_length or n_fft
    if getattr(representation, "start_aligned", False):
        frame["window"] = np.pad(windows.get_window(representation.window, length), (0, n_fft - length))
        reach = length
    else:
        frame |= {"window": representation.window, "win_length": representation.win_length}
        reach = n_fft
    if center is True:
        spectrum = np.asarray(stft.stft(audio, **frame, pad_mode=representation.pad_mode))
        before = after = 0
    else:
        before = -(-n_fft // hop_length)
        count = 1 + (len(audio) - reach) // hop_length
        after = 2 * before + 1
        total = (before + count + after - 1) * hop_length + n_fft
        padded = np.pad(audio, (before * hop_length, max(total - before * hop_length - len(audio), 0)))
        spectrum = np.asarray(stft.stft(padded, **frame))

    def invert(gain):
        everywhere = np.pad(gain, ((before, len(spectrum) - before - len(gain)), (0, 0)), mode="edge")
        changed = (spectrum * everywhere).astype(spectrum.dtype)
        start = before * hop_length
        return np.asarray(stft.istft(changed, **frame, length=start + len(audio)), np.float64)[start:]

    return invert


def write_wav(path, audio, sample_rate: int) -> None:
    """Write a waveform f32[N] as a WAV file of 16 bits; louder than 1, it is turned down to 1.

    Raises:
      ValueError: audio that is not one channel of finite samples, or a rate that is no whole number of hertz.
    """
    import soundfile

    audio = np.asarray(audio, np.float64)
    if audio.ndim != 1 or not audio.size or not np.isfinite(audio).all():
        raise ValueError(f"audio of shape {audio.shape}: give one channel f32[N] of finite samples")
    if sample_rate != int(sample_rate) or sample_rate < 1:
        raise ValueError(f"sample_rate={sample_rate!r} must be a whole number of hertz")
    soundfile.write(path, audio / max(np.abs(audio).max(), 1.0), int(sample_rate), format="WAV", subtype="PCM_16")

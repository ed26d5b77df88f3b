"""Harmonic-percussive separation by median filtering.

Arrays: spectra `[..., T, F]` (time before frequency), audio `[..., N]`.
Source: FitzGerald (2010), with the margins of Driedger, Müller & Disch (2014); soft masks and edges as librosa has
them. Two stages with a long and a short window: Tachibana, Ono & Sagayama (2014), as features by Leglaive, Hennequin &
Badeau (2015).
Names: `median_filter`, `softmask`, `hpss`, `hpss_audio`, `two_stage_hpss`, `TwoStages`.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, stft

_BLOCK_ROWS = 256


def _merge(a: list[int], b: list[int], network: list) -> list[int]:
    """Batcher's odd-even merge of two sorted runs of wires; appends its comparators, returns the wires in order."""
    if not a or not b:
        return a or b
    if len(a) == len(b) == 1:
        network.append((a[0], b[0]))
        return [a[0], b[0]]
    even, odd = _merge(a[::2], b[::2], network), _merge(a[1::2], b[1::2], network)
    ordered = even[:1]
    for low, high in zip(odd, even[1:], strict=False):
        network.append((low, high))
        ordered += [low, high]
    pairs = min(len(odd), len(even) - 1)
    return ordered + odd[pairs:] + even[1 + pairs :]


def _sort(wires: list[int], network: list) -> list[int]:
    if len(wires) < 2:
        return wires
    middle = (len(wires) + 1) // 2
    return _merge(_sort(wires[:middle], network), _sort(wires[middle:], network), network)


@functools.lru_cache
def _network(size: int) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Comparators that sort the first (size + 1) / 2 wires and the others, and the two sorted runs."""
    network: list[tuple[int, int]] = []
    half = (size + 1) // 2
    first = _sort(list(range(half)), network)
    rest = _sort(list(range(half, size)), network)
    return network, first, rest


def _median(values: list[jax.Array]) -> jax.Array:
    """Element-wise median of an odd number of arrays, by minima and maxima alone: one fused loop without a stack."""
    network, first, rest = _network(len(values))
    values = list(values)
    for low, high in network:
        a, b = values[low], values[high]
        values[low], values[high] = jnp.minimum(a, b), jnp.maximum(a, b)
    a, b = [values[wire] for wire in first], [values[wire] for wire in rest]
    # The r-th smallest of two sorted runs is min over i of max(a_i, b_{r−i}); r = len(a), a_0 = b_0 = −∞.
    candidates = [a[-1]] + [jnp.maximum(a[i - 1], b[len(a) - i - 1]) for i in range(1, len(a))]
    if len(b) == len(a):
        candidates.append(b[-1])
    return functools.reduce(jnp.minimum, candidates)


def _pad(values, size, axis):
    """Mirror `size` // 2 rows or columns at both ends, the edge repeated."""
    padding = [(0, 0)] * values.ndim
    padding[axis] = (size // 2, size // 2)
    return jnp.pad(values, padding, mode="symmetric")


def _views(padded, size, axis):
    """The `size` shifted views of padded values that hold the samples of every window."""
    length = padded.shape[axis] - size + 1
    return [lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(size)]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _filter(values, size, axis):
    # In a loop over two or more blocks of rows: XLA does not fuse across a loop, and would otherwise compute the whole
    # network anew for every use of the result.
    length = values.shape[0]
    rows = min(_BLOCK_ROWS, -(-length // 2))
    blocks = -(-length // rows)
    padded = jnp.pad(_pad(values, size, axis), ((0, blocks * rows - length), (0, 0)))
    taken = (rows + size - 1 if axis == 0 else rows, padded.shape[1])

    def filter_block(first):
        return _median(_views(lax.dynamic_slice(padded, (first, 0), taken), size, axis))

    output = lax.map(filter_block, jnp.arange(blocks) * rows)
    return output.reshape(-1, values.shape[1])[:length]


@_filter.defjvp
def _filter_jvp(size, axis, primals, tangents):
    # The median moves with the sample it is (their mean, where several are equal). Differentiating the network would
    # keep all its intermediates; the comparisons of this loop are made again in the backward pass.
    (values,), (tangent,) = primals, tangents
    median = _filter(values, size, axis)
    padded, padded_tangent = _pad(values, size, axis), _pad(tangent, size, axis)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def add(total, i):
        moved, count = total
        view, move = (lax.dynamic_slice_in_dim(p, i, values.shape[axis], axis) for p in (padded, padded_tangent))
        hit = view == median
        return (moved + jnp.where(hit, move, 0), count + hit), None

    (moved, count), _ = lax.scan(add, (jnp.zeros_like(values), jnp.zeros_like(values)), jnp.arange(size))
    return median, moved / count


@functools.partial(jax.jit, static_argnames=("size", "axis"))
def _median_filter(values, size, axis):
    clips = values.reshape(-1, *values.shape[-2:])
    return lax.map(lambda clip: _filter(clip, size, axis), clips).reshape(values.shape)


def _odd(**sizes):
    checks.integer(**sizes)
    for name, size in sizes.items():
        if size % 2 == 0:
            raise ValueError(f"{name}={size} is even, so its median has no middle; take {size - 1} or {size + 1}")


def median_filter(spectrogram: jax.Array, *, kernel_size: int, axis: int) -> jax.Array:
    """Running median along time (axis=−2) or frequency (axis=−1), mirrored at the ends with the edge repeated.

    Selected by a network of minima and maxima that XLA fuses into one loop, so nothing larger than the input is kept.
    The gradient goes to the sample that is the median, in equal parts where several are equal.

    Args:
      spectrogram: f32[..., T, F].
      kernel_size: odd number of frames or bins. Compile time grows faster than it: 0.3 s at 31, 1 s at 101.
      axis: −2 for time, −1 for frequency.

    Returns:
      f32[..., T, F], as scipy.ndimage.median_filter(mode="reflect").

    Raises:
      ValueError: for an even kernel, another axis, or an array that is not real, has fewer than two axes, is empty or
        not finite.
    """
    spectrogram = checks.as_array(spectrogram, "spectrogram", min_ndim=2)
    _odd(kernel_size=kernel_size)
    checks.choice("axis", axis, (-2, -1))
    return _median_filter(spectrogram, kernel_size, axis % 2)


def _softmask(values, reference, power, split_zeros):
    largest = jnp.maximum(values, reference)
    silent = largest < jnp.finfo(values.dtype).tiny
    if math.isinf(power):
        return (values > reference).astype(values.dtype)
    # Ratios to the larger of the two; a ratio of 0 is kept out of the power, whose derivative there is infinite
    # for exponents below 1.
    largest = jnp.where(silent, 1, largest)

    def raised(x):
        positive = x > 0
        return jnp.where(positive, jnp.where(positive, x / largest, 1) ** power, 0)

    a, b = raised(values), raised(reference)
    mask = a / jnp.where(silent, 1, a + b)
    return jnp.where(silent, 0.5 if split_zeros else 0.0, mask)


def softmask(values: jax.Array, reference: jax.Array, *, power: float = 1.0, split_zeros: bool = False) -> jax.Array:
    """Soft mask values^p / (values^p + reference^p), in [0, 1].

    Args:
      values: f32[...], not negative.
      reference: f32[...] of the same shape, not negative.
      power: exponent p; infinity gives the hard mask values > reference (as 0 and 1).
      split_zeros: what silence in both gets: 0.5 if true, else 0.

    Returns:
      f32[...].

    Raises:
      ValueError: for shapes that differ, a power that is not above 0, or, outside of `jit`, negative values.
    """
    values = checks.as_array(values, "values")
    reference = checks.as_array(reference, "reference")
    if values.shape != reference.shape:
        raise ValueError(f"values of shape {values.shape} and reference of shape {reference.shape} must agree")
    _exponent(power)
    _non_negative(values=values, reference=reference)
    return _softmask(values, reference, power, split_zeros)


def _exponent(power):
    if not power > 0:
        raise ValueError(f"power={power!r} must be above 0; float('inf') gives a hard mask")


def _non_negative(**arrays):
    for name, array in arrays.items():
        if not isinstance(array, jax.core.Tracer) and (np.asarray(array) < 0).any():
            raise ValueError(f"{name} holds negative numbers; give magnitudes or powers")


def _pair(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


@functools.partial(jax.jit, static_argnames=("kernel_size", "power", "mask", "margin"))
def _hpss(spectrum, kernel_size, power, mask, margin):
    @functools.partial(jax.checkpoint, prevent_cse=False)
    def separate(clip):
        magnitude = stft.to_power(stft.power(clip), 1) if jnp.iscomplexobj(clip) else clip
        harmonic = _filter(magnitude, kernel_size[0], 0)
        percussive = _filter(magnitude, kernel_size[1], 1)
        split = margin == (1, 1)
        masks = (
            _softmask(harmonic, percussive * margin[0], power, split),
            _softmask(percussive, harmonic * margin[1], power, split),
        )
        return masks if mask else (clip * masks[0], clip * masks[1])

    parts = stft.per_clip(separate, spectrum.reshape(-1, *spectrum.shape[-2:]))
    return tuple(part.reshape(spectrum.shape) for part in parts)


def _settings(kernel_size, power, margin):
    kernel_size, margin = _pair(kernel_size), _pair(margin)
    if len(kernel_size) != 2 or len(margin) != 2:
        raise ValueError(f"kernel_size={kernel_size} and margin={margin}: give one number or (harmonic, percussive)")
    _odd(**{"kernel_size[0]": kernel_size[0], "kernel_size[1]": kernel_size[1]})
    _exponent(power)
    if not all(1 <= m < math.inf for m in margin):
        raise ValueError(f"margin={margin} must be numbers of at least 1; 1 to 10 is usual")
    return {"kernel_size": kernel_size, "power": float(power), "margin": tuple(float(m) for m in margin)}


def hpss(
    spectrum: jax.Array,
    *,
    kernel_size: int | tuple[int, int] = 31,
    power: float = 2.0,
    mask: bool = False,
    margin: float | tuple[float, float] = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Split a spectrum into its harmonic part (steady in time) and its percussive part (steady in frequency).

    H = median of |S| over time, P = median of |S| over frequency; M_h = H^p / (H^p + (margin_h·P)^p) and likewise
    M_p; the parts are M_h·S and M_p·S. With a margin of 1 they add up to S.

    Args:
      spectrum: f32[..., T, F] magnitudes or c64[..., T, F] STFT.
      kernel_size: odd frames of the harmonic filter and bins of the percussive one, one number or a pair.
      power: exponent p of the masks; infinity for hard masks.
      mask: return the two masks, f32[..., T, F], instead of the parts.
      margin: how much larger a part must be to count as such, one number or a pair, at least 1; the rest is S − H − P.

    Returns:
      (harmonic, percussive), each of the shape of `spectrum`.

    Raises:
      ValueError: for settings outside those ranges, integers, negative magnitudes, empty or non-finite arrays.

    Reference: FitzGerald (2010); Driedger, Müller & Disch (2014).
    """
    settings = _settings(kernel_size, power, margin)
    if jnp.iscomplexobj(spectrum):
        spectrum = jnp.asarray(spectrum)
        checks.as_array(spectrum.real + spectrum.imag, "spectrum", min_ndim=2)
    else:
        spectrum = checks.as_array(spectrum, "spectrum", min_ndim=2)
        _non_negative(spectrum=spectrum)
    return _hpss(spectrum, mask=mask, **settings)


def hpss_audio(
    audio: jax.Array,
    *,
    kernel_size: int | tuple[int, int] = 31,
    power: float = 2.0,
    margin: float | tuple[float, float] = 1.0,
    n_fft: int = 2048,
    hop_length: int | None = None,
    win_length: int | None = None,
    window="hann",
    center: bool = True,
    pad_mode: str = "constant",
) -> tuple[jax.Array, jax.Array]:
    """Harmonic and percussive parts of audio: f32[..., N] → two f32[..., N].

    Args:
      audio: f32[..., N].
      kernel_size, power, margin: as `hpss`.
      n_fft, hop_length, win_length, window, center, pad_mode: as `stft.stft`.

    Returns:
      (harmonic, percussive), f32[..., N]; with margin 1 they add up to the audio.

    Raises:
      ValueError: as `hpss` and `stft.stft`.
    """
    audio = checks.as_audio(audio)
    frame = {"hop_length": hop_length, "win_length": win_length, "window": window, "center": center}
    spectrum = stft.stft(audio, n_fft=n_fft, pad_mode=pad_mode, **frame)
    parts = _hpss(spectrum, mask=False, **_settings(kernel_size, power, margin))
    length = audio.shape[-1]
    return tuple(stft.istft(part, n_fft=n_fft, length=length, **frame) for part in parts)


class TwoStages(NamedTuple):
    """Parts f32[..., N] of two-stage separation; they add up to the audio.

    Attributes:
      sustained: harmonic under the long window: held notes, chords.
      harmonic: harmonic under the short window: what fluctuates, above all the singing voice.
      percussive: percussive under both windows: drums, onsets.
    """

    sustained: jax.Array
    harmonic: jax.Array
    percussive: jax.Array


def two_stage_hpss(
    audio: jax.Array,
    *,
    n_fft: tuple[int, int] = (4096, 512),
    hop_length: tuple[int, int] = (2048, 256),
    kernel_size: int | tuple[int, int] = 31,
    power: float = 2.0,
) -> TwoStages:
    """Separate twice: with a long window, then what was percussive in it with a short one.

    A singing voice wavers, so a long window sees it as percussive and a short one as harmonic. The first stage takes
    away the sustained accompaniment, the second splits the remainder in voice and drums. Leglaive et al. feed the mel
    bands of `harmonic` and `percussive` of audio at 16 kHz to their voice detector.
    Tachibana's stages minimise a divergence; these are median filters, which serve the same purpose.

    Args:
      audio: f32[..., N]; the default windows suppose 16 kHz.
      n_fft: samples of the long and the short window.
      hop_length: their hops in samples.
      kernel_size, power: as `hpss`, for both stages.

    Returns:
      `TwoStages`.

    Raises:
      ValueError: as `hpss_audio`, and if the first window is not the longer one.

    Reference: Tachibana, Ono & Sagayama (2014); Leglaive, Hennequin & Badeau (2015), section 2; ARCHITECTURES §10.
    """
    if len(n_fft) != 2 or len(hop_length) != 2 or not n_fft[0] > n_fft[1]:
        raise ValueError(f"n_fft={n_fft}, hop_length={hop_length}: give (long, short) windows and their hops")
    settings = {"kernel_size": kernel_size, "power": power}
    sustained, rest = hpss_audio(audio, n_fft=n_fft[0], hop_length=hop_length[0], **settings)
    harmonic, percussive = hpss_audio(rest, n_fft=n_fft[1], hop_length=hop_length[1], **settings)
    return TwoStages(sustained, harmonic, percussive)

"""Constant-Q and variable-Q transforms and their inverse.

Arrays: audio `[..., N]` → complex spectrum `[..., T, F]`, bins from low to high, frame t centred on sample
t · hop_length, T = 1 + N // hop_length.
Source: Brown (1991); Schörkhuber et al. (2014) for the variable Q; librosa's filters and scales. librosa halves the
sample rate from octave to octave; here every filter meets the audio at its own rate, so there is no resampling error
and no dropped coefficient (librosa's `sparsity`). The filters act in the time domain: the dozen or so of one length
are one matrix product, which takes less time than the FFTs of that length would.
Names: `cqt`, `vqt`, `icqt`, `ivqt`, `pseudo_cqt`, `hybrid_cqt`, `harmonic_cqt`, `magnitude`, `cqt_frames`,
`cqt_frame_length`, `cqt_frequencies`, `wavelet_lengths`, `wavelet`.
"""

import dataclasses
import functools
import math
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, stft
from mirjax.signal.wavelets import (
    C1,
    Bank,
    bank_gains,
    bank_kernels,
    bank_lengths,
    bank_wavelets,
    cqt_frequencies,
    make_bank,
    wavelet,
    wavelet_lengths,
)
from mirjax.signal.windows import get_window

__all__ = [
    "C1",
    "cqt",
    "cqt_frame_length",
    "cqt_frames",
    "cqt_frequencies",
    "harmonic_cqt",
    "hybrid_cqt",
    "icqt",
    "ivqt",
    "magnitude",
    "pseudo_cqt",
    "vqt",
    "wavelet",
    "wavelet_lengths",
]

_HIGHEST = lax.Precision.HIGHEST
# Bytes of one intermediate product. On CPU a larger one leaves the cache; elsewhere it only takes memory.
_STEP_BYTES = {"cpu": 12 << 20}
_OTHER_STEP_BYTES = 64 << 20
_MOST_SLICES = 16


def _as_complex(parts: jax.Array) -> jax.Array:
    """[..., 2n] of real, then imaginary parts → complex [..., n]."""
    real, imaginary = jnp.split(parts, 2, axis=-1)
    return lax.complex(real, imaginary)


def _correlate(audio, kernel: np.ndarray, *, hop_length: int, frames: int, pad: int) -> jax.Array:
    """Kernel responses at the frames: audio f32[B, N] whose sample `pad` is time 0 → f32[B, T, 2n].

    With rows of r hops of audio from every hop on, S[t, h], and the kernel in pieces as long as a row, W[j, h, n], the
    correlation is Y[t, n] = Σ_j Σ_h S[t + r·j, h] W[j, h, n]: one product with all W side by side, then a sum of
    shifted slices. r makes the rows about as wide as the product, so that frames as long as the kernel, which would
    be far wider than both, never exist. Long clips go through it in blocks of frames.
    """
    num_clips, samples = audio.shape
    length, columns = kernel.shape
    r = max(1, round(math.sqrt(length * columns) / hop_length))
    row = r * hop_length
    pieces = -(-length // row)
    budget = _STEP_BYTES.get(jax.default_backend(), _OTHER_STEP_BYTES) // audio.dtype.itemsize
    frame_values = row + pieces * columns
    block = min(frames, max(budget // frame_values, pieces * r))
    blocks = -(-frames // block)
    together = max(1, budget // (frame_values * (block + pieces * r)))

    centre = pieces * row // 2
    before = centre - length // 2
    kernel = np.pad(kernel, ((before, pieces * row - length - before), (0, 0)))
    kernel = kernel.reshape(pieces, row, columns).swapaxes(0, 1).reshape(row, -1)
    kernel = jnp.asarray(kernel, audio.dtype)

    halo = pieces * r - 1  # hops that a block's last frames need beyond its own
    num_hops = blocks * block + (block if blocks > 1 else halo)
    after = num_hops * hop_length - samples - (centre - pad)
    hops = lax.pad(audio, jnp.zeros((), audio.dtype), ((0, 0, 0), (centre - pad, after, 0)))
    hops = hops.reshape(num_clips, num_hops, hop_length)
    if blocks > 1:
        own = hops[:, :-block].reshape(num_clips, blocks, block, hop_length)
        following = hops[:, block:].reshape(num_clips, blocks, block, hop_length)
        hops = jnp.concatenate([own, following[:, :, :halo]], axis=2)
    hops = hops.reshape(num_clips * blocks, block + halo, hop_length)

    def respond(hops):
        count = len(hops) - r + 1
        if r <= _MOST_SLICES:
            rows = jnp.concatenate([hops[j : j + count] for j in range(r)], axis=1)
        else:
            # Slower to gather, but the compiler would take seconds over hundreds of slices.
            flat = hops.reshape(-1)
            rows = jax.vmap(lambda t: lax.dynamic_slice(flat, (t * hop_length,), (row,)))(jnp.arange(count))
        product = jnp.matmul(rows, kernel, precision=_HIGHEST).reshape(count, pieces, columns)
        # Σ_j product[t + r·j, j]: r rows more at the end of each piece's turn the diagonal into a column.
        flat = product.swapaxes(0, 1).reshape(-1, columns)
        shifted = jnp.pad(flat, ((0, r * pieces), (0, 0))).reshape(pieces, count + r, columns)
        return shifted[:, :block].sum(axis=0)

    response = lax.map(respond, hops, batch_size=min(together, len(hops)))
    return response.reshape(num_clips, blocks * block, columns)[:, :frames]


@functools.partial(jax.jit, static_argnames=("bank", "hop_length", "pad_mode"))
def _transform(audio, *, bank, hop_length, pad_mode):
    clips = audio.reshape(-1, audio.shape[-1])
    frames = 1 + audio.shape[-1] // hop_length
    pad = 0
    if pad_mode != "constant":
        pad = max(len(kernel) for kernel in bank_kernels(bank)) // 2
        clips = jnp.pad(clips, ((0, 0), (pad, pad)), mode=pad_mode)
    responses = [
        _as_complex(_correlate(clips, kernel, hop_length=hop_length, frames=frames, pad=pad))
        for kernel in bank_kernels(bank)
    ]
    return jnp.concatenate(responses, axis=-1).reshape(*audio.shape[:-1], frames, -1)


def vqt(
    audio: jax.Array,
    *,
    sample_rate: float,
    hop_length: int = 512,
    fmin: float | None = None,
    n_bins: int = 84,
    bins_per_octave: int = 12,
    tuning: float = 0.0,
    filter_scale: float = 1.0,
    norm: float | None = 1,
    window="hann",
    scale: bool = True,
    gamma: float | None = None,
    intervals: tuple[float, ...] | None = None,
    pad_mode: str = "constant",
) -> jax.Array:
    """Variable-Q transform X[t, k] = g_k Σ_n x[t·hop − n] w_k[n] exp(2πi f_k n / sr).

    The window w_k has L_k = Q·sr / (f_k + γ/α) samples and unit `norm`; g_k = √L_k when `scale`, else L_k. A tone of
    amplitude A at f_k thus gives |X| = A √L_k / 2 (or A L_k / 2) with norm 1, and white noise of variance σ² gives
    E|X|² = σ² · 1.5 with a Hann window and `scale`, at every bin.

    Args:
      audio: f32[..., N].
      sample_rate: hertz.
      hop_length: samples from frame to frame, any number.
      fmin: lowest centre frequency, hertz; C1 = 32.7 Hz when None.
      n_bins: number of bins.
      bins_per_octave: bins an octave; it sets Q as well.
      tuning: shift of all bins, in fractions of a bin.
      filter_scale: below 1 for shorter filters, sharper in time and blurred in frequency.
      norm: 1, 2 or inf norm of each filter, or None.
      window: name or (name, parameter).
      scale: divide by the square root of the filter's length.
      gamma: hertz added to each bandwidth; 0 is the constant Q, None the ear's bandwidths.
      intervals: ratios of one octave's bins to its first, in place of the equal temperament.
      pad_mode: what is outside the clip, one of `stft.PAD_MODES`.

    Returns:
      c64[..., T, n_bins], T = 1 + N // hop_length.

    Raises:
      ValueError: for bins whose filter passes half the sample rate, filters too long to be built, unknown settings.

    Reference: Schörkhuber, Klapuri, Holighaus & Dörfler (2014).
    """
    audio = checks.as_audio(audio)
    checks.choice("pad_mode", pad_mode, stft.PAD_MODES)
    bank = make_bank(
        sample_rate=sample_rate,
        hop_length=hop_length,
        fmin=fmin,
        n_bins=n_bins,
        bins_per_octave=bins_per_octave,
        tuning=tuning,
        filter_scale=filter_scale,
        norm=norm,
        window=window,
        scale=scale,
        gamma=gamma,
        intervals=intervals,
    )
    return _of_bank(audio, bank, hop_length, pad_mode)


def _of_bank(audio, bank, hop_length, pad_mode):
    pad_mode = "constant" if pad_mode == "empty" else pad_mode
    return _transform(audio, bank=bank, hop_length=int(hop_length), pad_mode=pad_mode)


def cqt(audio: jax.Array, *, sample_rate: float, hop_length: int = 512, **settings) -> jax.Array:
    """Constant-Q transform: f32[..., N] → c64[..., T, n_bins].

    Args, returns and errors: as `vqt`, whose `gamma` is 0 here.

    Reference: Brown (1991).
    """
    if "gamma" in settings:
        raise ValueError("a constant Q has no gamma; call vqt")
    return vqt(audio, sample_rate=sample_rate, hop_length=hop_length, gamma=0.0, **settings)


def cqt_frame_length(*, sample_rate: float, **settings) -> int:
    """Samples of a frame in `cqt_frames`: an even number, a little above the longest filter's length."""
    return max(len(kernel) for kernel in bank_kernels(make_bank(sample_rate=sample_rate, **settings)))


def cqt_frames(frames: jax.Array, *, sample_rate: float, **settings) -> jax.Array:
    """`vqt` of frames that are already cut, one by one: for streams.

    Args:
      frames: f32[..., cqt_frame_length(…)]; the middle sample, frame_length // 2, is the frame's time.
      sample_rate: hertz.
      **settings: as `vqt`, but `gamma` is 0 unless given (the hop length decides where filters begin and end).

    Returns:
      c64[..., n_bins]. The products are those of `vqt` summed in another order (2e-6 of the maximum in float32).

    Raises:
      ValueError: as `vqt`, and for frames of another length.
    """
    frames = checks.as_array(frames, "frames")
    kernels = bank_kernels(make_bank(sample_rate=sample_rate, **settings))
    length = max(map(len, kernels))
    if frames.shape[-1] != length:
        raise ValueError(f"frames of {frames.shape[-1]} samples; these filters need {length} (cqt_frame_length)")
    responses = []
    for kernel in kernels:
        cut = (length - len(kernel)) // 2
        part = frames[..., cut : length - cut]
        responses.append(_as_complex(jnp.matmul(part, jnp.asarray(kernel, frames.dtype), precision=_HIGHEST)))
    return jnp.concatenate(responses, axis=-1)


def harmonic_cqt(
    audio: jax.Array,
    *,
    sample_rate: float,
    harmonics: tuple[float, ...] = (0.5, 1, 2, 3, 4, 5),
    hop_length: int = 256,
    fmin: float | None = None,
    n_bins: int = 360,
    bins_per_octave: int = 60,
    **settings,
) -> jax.Array:
    """Constant-Q transforms from h · fmin upwards, one for each harmonic h: f32[..., N] → c64[..., T, n_bins, H].

    Bin k of channel h is the h-th harmonic of bin k's frequency, so harmonics of one tone lie in one place. Channels
    that are whole numbers of bins apart are cut from one transform (0.5, 1, 2 and 4 of the default); with `intervals`,
    whose steps differ, each channel is a transform of its own.

    Args and errors: as `cqt`; no `harmonics` are an error too. Long filters: the default takes 140 MB of constants at
    22,050 Hz in float32.

    Reference: Bittner et al. (2017), section 3.
    """
    if not len(harmonics):
        raise ValueError("harmonics=() names no channel; give at least one multiple of fmin, such as (1, 2)")
    checks.positive(**{f"harmonics[{i}]": h for i, h in enumerate(harmonics)})
    equal = settings.get("intervals") is None
    families: dict[float, list[tuple[int, int]]] = {}  # lowest harmonic → (channel, bins above it)
    for channel in sorted(range(len(harmonics)), key=lambda i: harmonics[i]):
        for lowest, members in families.items():
            bins = bins_per_octave * math.log2(harmonics[channel] / lowest)
            if abs(bins - round(bins)) < 1e-9 and (equal or harmonics[channel] == lowest):
                members.append((channel, round(bins)))
                break
        else:
            families[harmonics[channel]] = [(channel, 0)]
    channels = {}
    for lowest, members in families.items():
        transform = cqt(
            audio,
            sample_rate=sample_rate,
            hop_length=hop_length,
            fmin=(C1 if fmin is None else fmin) * lowest,
            n_bins=n_bins + max(bins for _, bins in members),
            bins_per_octave=bins_per_octave,
            **settings,
        )
        channels |= {channel: transform[..., bins : bins + n_bins] for channel, bins in members}
    return jnp.stack([channels[channel] for channel in range(len(harmonics))], axis=-1)


def _covered(half: int, hop_length: int, frames: int, length: int) -> np.ndarray:
    """Σ_t w²[n − t·hop] of a Hann window of 2·half samples, relative to endless frames, float64[length]."""
    energy = get_window("hann", 2 * half) ** 2
    total = np.zeros(max(length, (frames - 1) * hop_length) + 2 * half)
    for t in range(frames):
        total[t * hop_length : t * hop_length + 2 * half] += energy
    return total[half : half + length] * hop_length / energy.sum()


@functools.partial(jax.jit, static_argnames=("bank", "hop_length", "length"))
def _synthesise(spectrum, *, bank, hop_length, length):
    clips = spectrum.reshape(-1, *spectrum.shape[-2:])
    frames = clips.shape[1]
    energies = np.array([np.sum(np.abs(values) ** 2) for values, _ in bank_wavelets(bank)])
    widths = np.asarray(bank.bandwidths) * np.asarray(bank.frequencies) / bank.sample_rate
    weights = 2 * hop_length * widths / (energies * bank_gains(bank) ** 2)
    audio, first = 0, 0
    for kernel in bank_kernels(bank):
        part = slice(first, first + kernel.shape[1] // 2)
        first = part.stop
        weighted = clips[..., part] * jnp.asarray(weights[part], clips.real.dtype)[None, None]

        def analyse(audio, kernel=kernel):
            return _correlate(audio, kernel, hop_length=hop_length, frames=frames, pad=0)

        like = jax.ShapeDtypeStruct((len(clips), length), weighted.real.dtype)
        (wave,) = jax.linear_transpose(analyse, like)(jnp.concatenate([weighted.real, weighted.imag], axis=-1))
        # Below a quarter (outside the frames, or where frames do not overlap) there is nothing to make up for.
        covered = np.maximum(_covered(len(kernel) // 2, hop_length, frames, length), 0.25)
        audio = audio + wave / jnp.asarray(covered, wave.dtype)[None]
    return audio.reshape(*spectrum.shape[:-2], length)


def _caller():
    """Stack level, for a warning from here, of the first caller outside of this module."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame, level = frame.f_back, level + 1
    return level


def ivqt(
    spectrum: jax.Array, *, sample_rate: float, hop_length: int = 512, length: int | None = None, **settings
) -> jax.Array:
    """Approximate inverse of `vqt`: every coefficient puts its wavelet back.

    x[n] = Σ_k c_k Σ_t Re(X[t, k] conj(w_k[t·hop − n])), c_k so that neighbouring filters together give each frequency
    its own amplitude. It needs hops of at most half the shortest filter and a signal between the lowest and the
    highest bin; then the error is about one per cent. Longer hops, librosa's default of 512 among them, leave gaps
    between the wavelets of the high bins: half the signal may be lost, and a warning says so.

    Args:
      spectrum: c64[..., T, n_bins].
      sample_rate: hertz.
      hop_length: as in `vqt`.
      length: samples to return; (T − 1) · hop_length when None, which takes two frames.
      **settings: as `vqt` (without `n_bins` and `pad_mode`).

    Returns:
      f32[..., length].

    Raises:
      ValueError: as `vqt`; for a real spectrum, one with NaN or infinity, one of a single frame without `length`.
    """
    if np.ndim(spectrum) < 2 or 0 in np.shape(spectrum):
        raise ValueError(f"spectrum of shape {np.shape(spectrum)} must be [..., T, F] and not empty")
    spectrum = jnp.asarray(spectrum)
    if not jnp.issubdtype(spectrum.dtype, jnp.complexfloating):
        raise ValueError(f"spectrum is {spectrum.dtype}; a complex one is needed (magnitudes have lost their phase)")
    if not isinstance(spectrum, jax.core.Tracer) and not checks.all_finite(spectrum):
        raise ValueError("spectrum holds NaN or infinity; repair or drop such clips")
    if length is None and spectrum.shape[-2] == 1:
        raise ValueError(f"spectrum of shape {spectrum.shape} has one frame and so no default length; give length=")
    settings.setdefault("gamma", None)
    bank = make_bank(sample_rate=sample_rate, hop_length=hop_length, n_bins=spectrum.shape[-1], **settings)
    shortest = bank_lengths(bank).min()
    if hop_length > shortest / 2:
        warnings.warn(
            f"hop_length={hop_length} is more than half the shortest filter, {shortest:.0f} samples: the inverse has "
            f"gaps and may be half wrong; transform with hop_length={max(1, int(shortest / 2))} or less",
            stacklevel=_caller(),
        )
    length = (spectrum.shape[-2] - 1) * hop_length if length is None else length
    checks.integer(length=length)
    frames = min(spectrum.shape[-2], math.ceil((length + bank_lengths(bank).max()) / hop_length))
    return _synthesise(spectrum[..., :frames, :], bank=bank, hop_length=int(hop_length), length=int(length))


def icqt(spectrum: jax.Array, *, sample_rate: float, hop_length: int = 512, **settings) -> jax.Array:
    """Approximate inverse of `cqt`: c64[..., T, n_bins] → f32[..., length]; as `ivqt` with `gamma` 0."""
    return ivqt(spectrum, sample_rate=sample_rate, hop_length=hop_length, gamma=0.0, **settings)


def _sparsify(rows: np.ndarray, quantile: float) -> np.ndarray:
    """Rows without their smallest values, as many as make up less than `quantile` of a row's sum of magnitudes."""
    magnitudes = np.abs(rows)
    ordered = np.sort(magnitudes, axis=1)
    share = np.cumsum(ordered, axis=1) / ordered.sum(axis=1, keepdims=True)
    smallest = np.take_along_axis(ordered, np.argmax(share >= quantile, axis=1)[:, None], axis=1)
    return np.where(magnitudes >= smallest, rows, 0)


@functools.lru_cache(maxsize=4)
def _pseudo_filters(bank: Bank, hop_length: int, sparsity: float) -> np.ndarray:
    """Magnitudes of the wavelets' spectra, weighted for `pseudo_cqt`, float64[n_bins, n_fft // 2 + 1]."""
    lengths = bank_lengths(bank)
    wavelets = [
        wavelet(f, length, sample_rate=bank.sample_rate, window=bank.window, norm=bank.norm)[0]
        for f, length in zip(bank.frequencies, lengths, strict=True)
    ]
    n_fft = 2 ** math.ceil(math.log2(max(lengths.max(), 2 ** (1 + math.ceil(math.log2(hop_length))))))
    spectra = np.stack([np.abs(np.fft.fft(values, n_fft)[: n_fft // 2 + 1]) for values in wavelets])
    weights = lengths / n_fft / np.sqrt(n_fft) * (1 if bank.scale else np.sqrt(lengths))
    filters = _sparsify(spectra, sparsity) * weights[:, None]
    filters.setflags(write=False)
    return filters


@functools.partial(jax.jit, static_argnames=("bank", "hop_length", "sparsity", "pad_mode"))
def _pseudo(audio, *, bank, hop_length, sparsity, pad_mode):
    filters = _pseudo_filters(bank, hop_length, sparsity)
    n_fft = 2 * (filters.shape[1] - 1)
    used = np.flatnonzero(filters.any(axis=0))
    used = slice(int(used[0]), int(used[-1]) + 1)
    matrix = jnp.asarray(filters[:, used].T, audio.dtype)
    window = jnp.asarray(get_window("hann", n_fft), audio.dtype)

    def magnitudes(frames):
        power = stft.power(jnp.fft.rfft(frames * window[None])[:, used])
        return jnp.matmul(stft.to_power(power, 1), matrix, precision=_HIGHEST)

    return stft.map_frames(audio, magnitudes, frame_length=n_fft, hop_length=hop_length, pad_mode=pad_mode)


def _share_of_filters(sparsity):
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity={sparsity} must be in [0, 1); 0 keeps all of each filter")


def pseudo_cqt(
    audio: jax.Array,
    *,
    sample_rate: float,
    hop_length: int = 512,
    sparsity: float = 0.01,
    pad_mode: str = "constant",
    **settings,
) -> jax.Array:
    """Magnitudes of one STFT, gathered into constant-Q bins: f32[..., N] → f32[..., T, n_bins].

    The magnitude spectrum of a Hann-windowed frame as long as the longest filter (at least two hops, a power of 2)
    times the magnitudes of the filters' spectra: quick and blurred in time, without phase.

    Args:
      audio, sample_rate, hop_length, pad_mode: as `vqt`.
      sparsity: share of each filter's spectrum to drop, in [0, 1), the smallest values first.
      **settings: as `cqt`.

    Raises:
      ValueError: as `vqt`.

    Reference: librosa.pseudo_cqt.
    """
    audio = checks.as_audio(audio)
    _share_of_filters(sparsity)
    bank = make_bank(sample_rate=sample_rate, hop_length=hop_length, **settings)
    return _pseudo(audio, bank=bank, hop_length=int(hop_length), sparsity=float(sparsity), pad_mode=pad_mode)


def hybrid_cqt(
    audio: jax.Array,
    *,
    sample_rate: float,
    hop_length: int = 512,
    sparsity: float = 0.01,
    pad_mode: str = "constant",
    **settings,
) -> jax.Array:
    """Magnitudes: `pseudo_cqt` where a filter padded to a power of 2 is shorter than two hops, else |`cqt`|.

    Args, returns and errors: as `pseudo_cqt`.
    """
    audio = checks.as_audio(audio)
    checks.choice("pad_mode", pad_mode, stft.PAD_MODES)
    _share_of_filters(sparsity)
    bank = make_bank(sample_rate=sample_rate, hop_length=hop_length, **settings)
    full = int((2 ** np.ceil(np.log2(bank_lengths(bank))) >= 2 * hop_length).sum())
    parts = []
    if full:
        # As librosa has it, the filters' ends are those of a transform of these bins alone.
        grids = make_bank(sample_rate=sample_rate, hop_length=hop_length, **settings | {"n_bins": full}).grids
        lower = dataclasses.replace(_bins(bank, slice(full)), grids=grids)
        parts.append(magnitude(_of_bank(audio, lower, hop_length, pad_mode)))
    if full < len(bank.frequencies):
        upper = _bins(bank, slice(full, None))
        parts.append(
            _pseudo(audio, bank=upper, hop_length=int(hop_length), sparsity=float(sparsity), pad_mode=pad_mode)
        )
    return jnp.concatenate(parts, axis=-1)


def _bins(bank: Bank, bins: slice) -> Bank:
    return dataclasses.replace(
        bank, frequencies=bank.frequencies[bins], bandwidths=bank.bandwidths[bins], grids=bank.grids[bins]
    )


def magnitude(spectrum: jax.Array) -> jax.Array:
    """|X| of a complex spectrum c64[...] → f32[...], with gradient 0 where X is 0 and no overflow of |X|².

    Raises:
      ValueError: for anything but complex numbers.
    """
    spectrum = jnp.asarray(spectrum)
    if not jnp.issubdtype(spectrum.dtype, jnp.complexfloating):
        raise ValueError(f"spectrum is {spectrum.dtype}; a complex one is needed (magnitudes are what comes out)")
    largest = lax.stop_gradient(jnp.maximum(jnp.abs(spectrum.real), jnp.abs(spectrum.imag)))
    scale = jnp.where(largest < jnp.finfo(largest.dtype).tiny, 1, largest)
    return scale * stft.to_power(stft.power(lax.complex(spectrum.real / scale, spectrum.imag / scale)), 1)

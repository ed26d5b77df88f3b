"""Short-time Fourier transform, its inverse, and what is built on the two.

Arrays: audio `[..., N]` ↔ spectrum `[..., T, F]`, F = 1 + n_fft // 2. With centred frames, frame t has its middle at
sample t · hop_length and T = 1 + N // hop_length (n_fft even).
Source: librosa's conventions (periodic window, padded with zeros to n_fft on both sides; centred frames);
Griffin & Lim (1984), Perraudin et al. (2013); Flanagan & Golden (1966).
Names: `stft`, `istft`, `spectrogram`, `griffin_lim`, `phase_vocoder`, `frame`, `map_frames`, `num_frames`.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks
from mirjax.signal.windows import get_window, pad_window

__all__ = [
    "frame",
    "get_window",
    "griffin_lim",
    "istft",
    "map_frames",
    "num_frames",
    "phase_vocoder",
    "power",
    "spectrogram",
    "stft",
]

PAD_MODES = ("constant", "reflect", "edge", "symmetric", "linear_ramp", "empty")
# XLA's CPU allocator hands every buffer above 32 MiB back to the kernel, so a clip whose frames fit in a few
# megabytes is transformed whole and a longer one in blocks of frames inside one loop.
_HELD_BYTES = 32 << 20
_WHOLE_CLIP_BYTES = 4 << 20
_BLOCK_FRAMES = 128


def padding(center: bool | tuple[int, int], frame_length: int) -> tuple[int, int]:
    """Samples put before and after a clip: frame_length // 2 each for centred frames, none otherwise, or as given."""
    if isinstance(center, bool):
        return (frame_length // 2,) * 2 if center else (0, 0)
    if not isinstance(center, tuple) or len(center) != 2:
        raise ValueError(f"center={center!r} must be True, False, or the samples to pad (before, after)")
    checks.integer(least=0, before=center[0], after=center[1])
    return center


def num_frames(num_samples: int, *, frame_length: int, hop_length: int, center: bool | tuple[int, int] = True) -> int:
    """Frames that `num_samples` samples give.

    Raises:
      ValueError: if uncentred frames do not fit in the samples.
    """
    padded = num_samples + sum(padding(center, frame_length))
    if padded < frame_length:
        raise ValueError(
            f"{num_samples} samples are shorter than one frame of {frame_length}; pad the audio or use center=True"
        )
    return 1 + (padded - frame_length) // hop_length


def per_clip(function, *arrays: jax.Array):
    """`function` of each row of `arrays`: one after the other on a CPU, whose cache holds one clip, or side by side.

    Rows that an explicit mesh lays over devices stay there, each device taking its own. (A loop over rows that an
    automatic mesh has laid out is gathered first: use `jax.shard_map`.)
    """
    layout = jax.typeof(arrays[0]).sharding.spec
    if layout and layout[0] is not None:
        rows = jax.P(layout[0])
        # check_vma: the loops inside begin with constants, which do not vary over devices.
        local = jax.shard_map(functools.partial(per_clip, function), in_specs=rows, out_specs=rows, check_vma=False)
        return local(*arrays)
    if jax.default_backend() == "cpu":
        return lax.map(lambda row: function(*row), arrays)
    return jax.vmap(function)(*arrays)


def map_frames(
    audio: jax.Array,
    function,
    *,
    frame_length: int,
    hop_length: int,
    center: bool | tuple[int, int] = True,
    pad_mode: str = "constant",
) -> jax.Array:
    """Apply `function` to overlapping frames.

    On a CPU clips and blocks of frames come one after the other, so memory is bounded whatever their number; an
    accelerator takes all frames of the batch at once.

    Args:
      audio: f32[..., N].
      function: frames f32[t, frame_length] → [t, ...]; must treat every frame alike.
      frame_length: samples a frame.
      hop_length: samples from frame to frame.
      center: put the middle of frame t at sample t · hop_length, padding the clip by frame_length // 2 on both sides;
        or the two numbers of samples to pad.
      pad_mode: what is outside the clip, one of `PAD_MODES`.

    Returns:
      [..., T, ...], T = `num_frames`. Call it under `jit`: the loops inside compile anew at every direct call.

    Raises:
      ValueError: for lengths below 1, an unknown `pad_mode`, or audio shorter than a frame.
    """
    checks.integer(frame_length=frame_length, hop_length=hop_length)
    checks.choice("pad_mode", pad_mode, PAD_MODES)
    *leading, num_samples = audio.shape
    if num_samples < 1:
        raise ValueError(f"audio of shape {audio.shape} holds no samples; give at least one")
    frames = num_frames(num_samples, frame_length=frame_length, hop_length=hop_length, center=center)
    before, behind = padding(center, frame_length)
    # An accelerator takes all frames of all clips in one piece.
    small = frames * frame_length * audio.dtype.itemsize <= _WHOLE_CLIP_BYTES or jax.default_backend() != "cpu"
    block = frames if small else _BLOCK_FRAMES
    blocks = -(-frames // block)
    segment = (block - 1) * hop_length + frame_length
    after = max(0, (blocks - 1) * block * hop_length + segment - num_samples - before)
    clips = audio.reshape(-1, num_samples)
    # Padded once for all clips, unless that copy were handed back to the kernel and paged in anew at each call.
    together = clips.size * audio.dtype.itemsize <= _HELD_BYTES

    def pad(clips):
        widths = [(0, 0)] * (clips.ndim - 1)
        if (before or behind) and pad_mode not in ("constant", "empty"):
            clips = jnp.pad(clips, [*widths, (before, behind)], mode=pad_mode)
            return jnp.pad(clips, [*widths, (0, max(0, after - behind))])
        return jnp.pad(clips, [*widths, (before, after)])

    def transform_block(clip, start):
        part = lax.dynamic_slice(clip, (start,), (segment,))
        offsets = jnp.arange(block) * hop_length
        return function(jax.vmap(lambda offset: lax.dynamic_slice(part, (offset,), (frame_length,)))(offsets))

    def transform_clip(clip):
        clip = clip if together else pad(clip)
        if blocks == 1:
            return transform_block(clip, 0)[:frames]
        starts = jnp.arange(blocks) * (block * hop_length)
        output = lax.map(lambda start: transform_block(clip, start), starts)
        return output.reshape(blocks * block, *output.shape[2:])[:frames]

    output = per_clip(transform_clip, pad(clips) if together else clips)
    return output.reshape(*leading, *output.shape[1:])


@functools.partial(jax.jit, static_argnames=("frame_length", "hop_length", "center", "pad_mode"))
def _frame(audio, **settings):
    return map_frames(audio, lambda frames: frames, **settings)


def frame(
    audio: jax.Array, *, frame_length: int, hop_length: int, center: bool = True, pad_mode: str = "constant"
) -> jax.Array:
    """Overlapping frames: f32[..., N] → f32[..., T, frame_length]; arguments and errors as `map_frames`."""
    audio = checks.as_audio(audio)
    return _frame(audio, frame_length=frame_length, hop_length=hop_length, center=center, pad_mode=pad_mode)


def power(spectrum: jax.Array) -> jax.Array:
    """|X|² of a complex spectrum, without the square root of `abs`."""
    return spectrum.real**2 + spectrum.imag**2


def to_power(energy: jax.Array, exponent: float) -> jax.Array:
    """|X|^exponent from |X|², with gradient 0 where the energy is 0."""
    if exponent == 2:
        return energy
    silent = energy == 0
    raised = jnp.where(silent, 1, energy)
    raised = jnp.sqrt(raised) if exponent == 1 else raised ** (exponent / 2)
    return jnp.where(silent, 0, raised)


def windowed(n_fft: int, hop_length: int | None, win_length: int | None, window) -> tuple[int, np.ndarray]:
    """Hop and window f64[n_fft] with librosa's defaults: win_length = n_fft, hop_length = win_length // 4."""
    checks.integer(n_fft=n_fft)
    win_length = n_fft if win_length is None else win_length
    values = pad_window(window, win_length, n_fft)
    hop_length = max(1, win_length // 4) if hop_length is None else hop_length
    checks.integer(hop_length=hop_length)
    return hop_length, values


@functools.partial(jax.jit, static_argnames=("exponent", "hop_length", "center", "pad_mode"))
def _transform(audio, window, exponent, *, hop_length, center, pad_mode):
    def transform(frames):
        spectrum = jnp.fft.rfft(frames * window[None])
        return spectrum if exponent is None else to_power(power(spectrum), exponent)

    return map_frames(
        audio, transform, frame_length=len(window), hop_length=hop_length, center=center, pad_mode=pad_mode
    )


def stft(
    audio: jax.Array,
    *,
    n_fft: int = 2048,
    hop_length: int | None = None,
    win_length: int | None = None,
    window="hann",
    center: bool = True,
    pad_mode: str = "constant",
) -> jax.Array:
    """Short-time Fourier transform X[t, k] = Σ_n w[n] x[t·hop − n_fft//2 + n] exp(−2πikn / n_fft).

    Args:
      audio: f32[..., N].
      n_fft: transform length in samples, even or odd.
      hop_length: samples from frame to frame; win_length // 4 when None.
      win_length: samples of the window, padded with zeros on both sides to n_fft; n_fft when None.
      window: name, (name, parameter) or values (`windows.get_window`).
      center: frame t is centred on sample t · hop_length; otherwise it begins there.
      pad_mode: what centred frames see outside the clip: one of `PAD_MODES`.

    Returns:
      c64[..., T, 1 + n_fft // 2] (c128 of f64 audio).

    Raises:
      ValueError: for a window longer than n_fft, a hop below 1, integer or empty or non-finite audio, uncentred frames
        longer than the clip.
    """
    audio = checks.as_audio(audio)
    hop_length, window = windowed(n_fft, hop_length, win_length, window)
    window = jnp.asarray(window, audio.dtype)
    return _transform(audio, window, None, hop_length=hop_length, center=center, pad_mode=pad_mode)


def spectrogram(
    audio: jax.Array,
    *,
    n_fft: int = 2048,
    hop_length: int | None = None,
    win_length: int | None = None,
    window="hann",
    center: bool = True,
    pad_mode: str = "constant",
    power: float = 1.0,
) -> jax.Array:
    """|STFT|^power: f32[..., N] → f32[..., T, 1 + n_fft // 2]; arguments and errors as `stft`.

    The complex spectrum never exists as a whole. The gradient of a silent bin is 0.
    """
    checks.positive(power=power)
    audio = checks.as_audio(audio)
    hop_length, window = windowed(n_fft, hop_length, win_length, window)
    window = jnp.asarray(window, audio.dtype)
    return _transform(audio, window, float(power), hop_length=hop_length, center=center, pad_mode=pad_mode)


def overlap_add(frames: jax.Array, hop_length: int) -> jax.Array:
    """Sum of frames [T, L] placed `hop_length` samples apart: [(T − 1) · hop_length + L].

    Each frame is cut in pieces of one hop; piece r of all frames is one shifted row-major array, so L / hop_length
    additions do it without a scatter.
    """
    count, length = frames.shape
    pieces = -(-length // hop_length)
    frames = jnp.pad(frames, ((0, 0), (0, pieces * hop_length - length))).reshape(count, pieces, hop_length)
    total = jnp.zeros((count + pieces - 1, hop_length), frames.dtype)

    def add(r, total):
        piece = lax.dynamic_index_in_dim(frames, r, 1, keepdims=False)
        there = lax.dynamic_slice(total, (r, 0), (count, hop_length))
        return lax.dynamic_update_slice(total, there + piece, (r, 0))

    total = lax.fori_loop(0, pieces, add, total)
    return total.reshape(-1)[: (count - 1) * hop_length + length]


def _inverse_energy(window: np.ndarray, frames: int, hop_length: int, dtype) -> np.ndarray:
    """1 / Σ_t w²[n − t·hop], 1 where no window reaches, f64[(frames − 1) · hop_length + len(window)]."""
    pieces = -(-len(window) // hop_length)
    energy = np.pad(window**2, (0, pieces * hop_length - len(window))).reshape(pieces, hop_length)
    total = np.zeros((frames + pieces - 1, hop_length))
    for r in range(pieces):
        total[r : r + frames] += energy[r]
    total = total.reshape(-1)[: (frames - 1) * hop_length + len(window)]
    tiny = float(jnp.finfo(dtype).tiny)
    return np.where(total > tiny, 1 / np.maximum(total, tiny), 1.0)


@functools.partial(jax.jit, static_argnames=("hop_length", "start", "length"))
def _invert(spectrum, window, scale, *, hop_length, start, length):
    def invert(clip):
        frames = jnp.fft.irfft(clip, n=len(window)) * window[None]
        total = overlap_add(frames, hop_length) * scale
        total = jnp.pad(total, (0, max(0, start + length - len(total))))
        return total[start : start + length]

    clips = per_clip(invert, spectrum.reshape(-1, *spectrum.shape[-2:]))
    return clips.reshape(*spectrum.shape[:-2], length)


def _as_spectrum(spectrum):
    """Complex spectrum [..., T, F], checked; half-precision has no complex numbers."""
    if np.ndim(spectrum) < 2 or 0 in np.shape(spectrum):
        raise ValueError(f"spectrum of shape {np.shape(spectrum)} must be [..., T, F] and not empty")
    spectrum = jnp.asarray(spectrum)
    if not jnp.issubdtype(spectrum.dtype, jnp.complexfloating):
        raise ValueError(f"spectrum is {spectrum.dtype}; a complex one is needed (for magnitudes use griffin_lim)")
    if not isinstance(spectrum, jax.core.Tracer) and not checks.all_finite(spectrum):
        raise ValueError("spectrum holds NaN or infinity; repair or drop such clips")
    return spectrum


def istft(
    spectrum: jax.Array,
    *,
    n_fft: int | None = None,
    hop_length: int | None = None,
    win_length: int | None = None,
    window="hann",
    center: bool = True,
    length: int | None = None,
) -> jax.Array:
    """Inverse of `stft`: the signal whose transform is nearest to `spectrum` in the least squares.

    x[n] = Σ_t w[n − t·hop] x_t[n − t·hop] / Σ_t w²[n − t·hop]; samples that no window reaches are left undivided.

    Args:
      spectrum: c64[..., T, 1 + n_fft // 2].
      n_fft: transform length; 2 (F − 1) when None, so an odd one must be given.
      hop_length, win_length, window, center: as in `stft`.
      length: samples to return, cut or padded with zeros; all that the frames cover when None.

    Returns:
      f32[..., length].

    Raises:
      ValueError: for a real spectrum, an `n_fft` that does not fit its bins, or `length` below 1.

    Reference: Griffin & Lim (1984), equation 6.
    """
    spectrum = _as_spectrum(spectrum)
    frames, bins = spectrum.shape[-2:]
    n_fft = 2 * (bins - 1) if n_fft is None else n_fft
    hop_length, window = windowed(n_fft, hop_length, win_length, window)
    if bins != 1 + n_fft // 2:
        raise ValueError(f"spectrum has {bins} bins, but n_fft={n_fft} gives {1 + n_fft // 2}; pass its own n_fft")
    start = n_fft // 2 if center else 0
    if length is not None:
        checks.integer(length=length)
        frames = min(frames, math.ceil((length + 2 * start) / hop_length))
    covered = n_fft + hop_length * (frames - 1)
    real = jnp.finfo(spectrum.dtype).dtype
    length = covered - 2 * start if length is None else length
    if length < 1:
        raise ValueError(f"{frames} centred frames of n_fft={n_fft} cover no samples; give length=")
    return _invert(
        spectrum[..., :frames, :],
        jnp.asarray(window, real),
        jnp.asarray(_inverse_energy(window, frames, hop_length, real), real),
        hop_length=hop_length,
        start=start,
        length=length,
    )


def _phasor(spectrum):
    """Unit phasors of a spectrum; 1 where it is 0, with gradient 0 there."""
    silent = power(spectrum) == 0
    safe = jnp.where(silent, 1, spectrum)
    return safe / jnp.sqrt(power(safe))


def griffin_lim(
    magnitude: jax.Array,
    *,
    key: jax.Array | None = None,
    num_iterations: int = 32,
    n_fft: int | None = None,
    hop_length: int | None = None,
    win_length: int | None = None,
    window="hann",
    center: bool = True,
    pad_mode: str = "constant",
    momentum: float = 0.99,
    length: int | None = None,
) -> jax.Array:
    """Audio whose magnitude spectrogram approaches `magnitude`.

    Each round replaces the magnitude of STFT(ISTFT(S e^{iφ})) by S; the fast variant extrapolates it first by
    momentum / (1 + momentum) of the previous round's.

    Args:
      magnitude: f32[..., T, 1 + n_fft // 2], not negative.
      key: PRNG key of the initial phases; all 0 when None.
      num_iterations: rounds.
      n_fft, hop_length, win_length, window, center, pad_mode: as in `stft`.
      momentum: 0 is the original algorithm.
      length: samples to return, as in `istft`.

    Returns:
      f32[..., length].

    Reference: Griffin & Lim (1984); Perraudin, Balazs & Søndergaard (2013).
    """
    magnitude = checks.as_array(magnitude, "magnitude", min_ndim=2)
    checks.integer(num_iterations=num_iterations)
    if not 0 <= momentum < math.inf:
        raise ValueError(f"momentum={momentum} must not be negative; 0 is the original algorithm, 0.99 the fast one")
    bins = magnitude.shape[-1]
    n_fft = 2 * (bins - 1) if n_fft is None else n_fft
    hop_length, window = windowed(n_fft, hop_length, win_length, window)
    if bins != 1 + n_fft // 2:
        raise ValueError(f"magnitude has {bins} bins, but n_fft={n_fft} gives {1 + n_fft // 2}; pass its own n_fft")
    frames, start = magnitude.shape[-2], n_fft // 2 if center else 0
    if length is None:
        length = n_fft + hop_length * (frames - 1) - 2 * start
    checks.integer(length=length)
    angles = jnp.zeros_like(magnitude)
    if key is not None:
        angles = jax.random.uniform(key, magnitude.shape, magnitude.dtype, 0, 2 * np.pi)
    return _griffin_lim(
        magnitude,
        angles,
        jnp.asarray(window, magnitude.dtype),
        jnp.asarray(_inverse_energy(window, frames, hop_length, magnitude.dtype), magnitude.dtype),
        jnp.asarray(momentum / (1 + momentum), magnitude.dtype),
        num_iterations=num_iterations,
        hop_length=hop_length,
        center=center,
        pad_mode=pad_mode,
        length=length,
    )


@functools.partial(jax.jit, static_argnames=("num_iterations", "hop_length", "center", "pad_mode", "length"))
def _griffin_lim(magnitude, angles, window, scale, weight, *, num_iterations, hop_length, center, pad_mode, length):
    frames, start = magnitude.shape[-2], len(window) // 2 if center else 0

    def inverse(phases):
        return _invert(magnitude * phases, window, scale, hop_length=hop_length, start=start, length=length)

    def forward(audio):
        spectrum = _transform(audio, window, None, hop_length=hop_length, center=center, pad_mode=pad_mode)
        missing = max(0, frames - spectrum.shape[-2])  # a short `length` cuts frames off; they stay silent
        return jnp.pad(spectrum, [(0, 0)] * (spectrum.ndim - 2) + [(0, missing), (0, 0)])[..., :frames, :]

    def refine(carry, _):
        phases, previous = carry
        rebuilt = forward(inverse(phases))
        return (_phasor(rebuilt - weight * previous), rebuilt), None

    phases = jnp.exp(1j * angles)
    (phases, _), _ = lax.scan(refine, (phases, jnp.zeros_like(phases)), length=num_iterations)
    return inverse(phases)


def _wrap(angle):
    """Angle in [−π, π]."""
    return angle - 2 * np.pi * jnp.round(angle / (2 * np.pi))


def phase_vocoder(
    spectrum: jax.Array, *, rate: float, hop_length: int | None = None, n_fft: int | None = None
) -> jax.Array:
    """Stretch a spectrum in time by 1 / rate, keeping its frequencies.

    Output frame t interpolates the magnitudes at input frame t · rate; its phase is the sum of the phase advances met
    on the way (kept modulo 2π, so that long clips lose no digits).

    Args:
      spectrum: c64[..., T, 1 + n_fft // 2].
      rate: above 1 is faster, below slower.
      hop_length: samples from frame to frame; n_fft // 4 when None.
      n_fft: transform length; 2 (F − 1) when None.

    Returns:
      c64[..., ⌈T / rate⌉, F]. For one rate a clip in a batch see `stretch.time_stretch_by`.

    Reference: Flanagan & Golden (1966); Dolson (1986).
    """
    spectrum = _as_spectrum(spectrum)
    checks.positive(rate=rate)
    n_fft = 2 * (spectrum.shape[-1] - 1) if n_fft is None else n_fft
    hop_length = n_fft // 4 if hop_length is None else hop_length
    checks.integer(n_fft=n_fft, hop_length=hop_length)
    return _phase_vocoder(spectrum, rate=float(rate), hop_length=hop_length, n_fft=n_fft)


@functools.partial(jax.jit, static_argnames=("rate", "hop_length", "n_fft"))
def _phase_vocoder(spectrum, *, rate, hop_length, n_fft):
    frames, bins = spectrum.shape[-2:]
    steps = np.arange(0, frames, rate, dtype=np.float64)
    before = steps.astype(int)
    real = jnp.finfo(spectrum.dtype).dtype
    # The expected advance 2πk · hop / n_fft, reduced in whole numbers.
    advance = jnp.asarray(2 * np.pi * (np.arange(bins) * hop_length % n_fft) / n_fft, real)
    padded = jnp.pad(spectrum, [(0, 0)] * (spectrum.ndim - 2) + [(0, 2), (0, 0)])
    silent = power(padded) == 0
    angle = jnp.angle(jnp.where(silent, 1, padded))
    magnitude = to_power(power(padded), 1)
    weight = jnp.asarray(steps - before, real)[:, None]
    weight = weight.reshape((1,) * (spectrum.ndim - 2) + weight.shape)
    stretched = (1 - weight) * magnitude[..., before, :] + weight * magnitude[..., before + 1, :]
    advance = advance.reshape((1,) * (spectrum.ndim - 1) + advance.shape)
    moves = _wrap(angle[..., before[:-1] + 1, :] - angle[..., before[:-1], :] - advance) + advance
    moves = jnp.concatenate([angle[..., :1, :], moves], axis=-2)
    phase = lax.associative_scan(lambda a, b: _wrap(a + b), moves, axis=moves.ndim - 2)
    return lax.complex(stretched * jnp.cos(phase), stretched * jnp.sin(phase))

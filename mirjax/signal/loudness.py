"""Loudness after ITU-R BS.1770, and the recursive filters it needs.

Arrays: audio f32[..., N] (one channel) or f32[..., C, N] where `channels` names several; loudness f32[...] or, of
successive windows, f32[..., T], in LKFS (the same as LUFS).
Source: ITU-R BS.1770-5 (2023), annex 1; the windows of EBU Tech 3341 (2016).

A recursive filter is run in blocks: within a block it is one matrix product with the impulse response, and the states
between blocks are summed in about log₂ steps with powers of the transition matrix. All matrices are computed in
float64 in coordinates in which the transition never amplifies the state, so float32 keeps its precision even with poles
close to 1.
Names: `integrated_loudness`, `momentary_loudness`, `short_term_loudness`, `normalise_loudness`, `k_weighting`,
`k_weight`, `Filter`, `recursive_filter`.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, stft

_HIGHEST = lax.Precision.HIGHEST
_BLOCK = 128
# Annex 1, tables 1 and 2: (b, a) at 48 kHz of the shelf (the head) and of the high-pass.
_TABLED = (
    ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)),
    ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)),
)
# Annex 1, table 3 (left, right, centre, low-frequency effects, left and right surround).
CHANNEL_WEIGHTS = {
    "mono": (1.0,),
    "stereo": (1.0, 1.0),
    "5.0": (1.0, 1.0, 1.0, 1.41, 1.41),
    "5.1": (1.0, 1.0, 1.0, 0.0, 1.41, 1.41),
}


@dataclasses.dataclass(frozen=True)
class Filter:
    """A cascade of recursive filters, y = Π (Σ b_k z⁻ᵏ / Σ a_k z⁻ᵏ) x.

    Attributes:
      sections: (b, a) of each, tuples of numbers, a[0] = 1.
    """

    sections: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]

    @property
    def num_states(self) -> int:
        """Numbers that stand for the past."""
        return sum(max(len(b), len(a)) - 1 for b, a in self.sections)


@functools.lru_cache(maxsize=64)
def _realise(section):
    """State space (A, B, C, D) of one section in float64, with A·Aᵀ + B·Bᵀ = I.

    In these coordinates white noise gives uncorrelated states of equal size, and no power of A amplifies.
    """
    order = max(map(len, section)) - 1
    b, a = (np.pad(np.asarray(values, np.float64), (0, order + 1 - len(values))) for values in section)
    transition = np.eye(order, k=1)
    transition[:, 0] -= a[1:]
    into, out = b[1:] - a[1:] * b[0], np.eye(1, order)[0]
    radius = np.abs(np.linalg.eigvals(transition)).max()
    if radius >= 1:
        raise ValueError(f"the filter has a pole at radius {radius:.6g}; poles must lie inside the unit circle")
    # Covariance P of the states under white noise: P = A·P·Aᵀ + B·Bᵀ.
    system = np.eye(order**2) - np.kron(transition, transition)
    covariance = np.linalg.solve(system, np.outer(into, into).reshape(-1)).reshape(order, order)
    scales, axes = np.linalg.eigh((covariance + covariance.T) / 2)
    scales = np.sqrt(np.maximum(scales, 1e-24 * scales.max()))
    scales = np.where(scales > 0, scales, 1)
    transform, inverse = axes * scales, (axes / scales).T
    return inverse @ transition @ transform, inverse @ into, out @ transform, b[0]


def _respond(transition, into, samples):
    """[A^(n−1)·B, …, A·B, B]: what each of n samples leaves in the state, f64[n, states]; and A^n."""
    columns, power = [], np.eye(len(transition))
    for _ in range(samples):
        columns.append(power @ into)
        power = transition @ power
    return np.stack(columns[::-1]) if columns else np.zeros((0, len(transition))), power


@functools.lru_cache(maxsize=64)
def _matrices(section, tail: int):
    """Samples → (outputs, state), state → outputs, powers of A from block to block; samples → state for the tail."""
    transition, into, out, through = _realise(section)
    left, step = _respond(transition, into, _BLOCK)
    observe, row = [], out
    for _ in range(_BLOCK):
        observe.append(row)
        row = row @ transition
    response = np.concatenate([[through], np.stack(observe[:-1]) @ into])
    lag = np.arange(_BLOCK) - np.arange(_BLOCK)[:, None]
    product = np.concatenate([np.where(lag >= 0, response[np.abs(lag)], 0.0), left], axis=1)
    powers = []
    while np.abs(step).max() > 1e-20 and len(powers) < 40:
        powers.append(step)
        step = step @ step
    return product, np.stack(observe), powers, *_respond(transition, into, tail)


@functools.partial(jax.jit, static_argnames=("section",))
def _recursive_filter(audio, state, section):
    samples, dtype = audio.shape[-1], audio.dtype
    blocks = -(-samples // _BLOCK)
    tail = samples - (blocks - 1) * _BLOCK
    product, observe, powers, left, last = (
        [jnp.asarray(m, dtype) for m in part] if isinstance(part, list) else jnp.asarray(part, dtype)
        for part in _matrices(section, tail)
    )

    def run(clip, before):
        parts = jnp.pad(clip, (0, blocks * _BLOCK - samples)).reshape(blocks, _BLOCK)
        both = jnp.matmul(parts, product, precision=_HIGHEST)
        # State before each block: Σ_j A^(128·(t−j)) u_j, doubling the reach of the sum in every step.
        states = jnp.concatenate([before[None], both[:-1, _BLOCK:]])
        for k, power in enumerate(powers):
            if 1 << k >= blocks:
                break
            earlier = jnp.matmul(states[: -(1 << k)], power.T, precision=_HIGHEST)
            states = states + jnp.pad(earlier, ((1 << k, 0), (0, 0)))
        output = both[:, :_BLOCK] + jnp.matmul(states, observe.T, precision=_HIGHEST)
        after = jnp.matmul(last, states[-1], precision=_HIGHEST)
        after = after + jnp.matmul(parts[-1, :tail], left, precision=_HIGHEST)
        return output.reshape(-1)[:samples], after

    output, after = stft.per_clip(run, audio.reshape(-1, samples), state.reshape(-1, state.shape[-1]))
    return output.reshape(audio.shape), after.reshape(state.shape)


def recursive_filter(audio: jax.Array, filter: Filter, state: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Filter audio recursively; blocks of any length, chained by the state, give what the whole clip gives.

    Args:
      audio: f32[..., N].
      filter: the coefficients.
      state: f32[..., filter.num_states] of the block before; None at the start (silence before).

    Returns:
      (filtered f32[..., N], state f32[..., filter.num_states]).

    Raises:
      ValueError: for poles on or outside the unit circle, an a[0] that is not 1, a state of another shape, bad audio.
    """
    audio = checks.as_audio(audio)
    if not filter.num_states:
        gain = float(np.prod([b[0] for b, _ in filter.sections]))
        raise ValueError(f"{filter} has no memory; multiply by its gain {gain:g} instead")
    shape = (*audio.shape[:-1], filter.num_states)
    state = jnp.zeros(shape, audio.dtype) if state is None else jnp.asarray(state, audio.dtype)
    if state.shape != shape:
        raise ValueError(f"state of shape {state.shape} does not fit audio of shape {audio.shape}; it must be {shape}")
    # Section by section: the joint states of many poles near 1 are nearly dependent, and float64 cannot part them.
    for b, a in filter.sections:
        if not np.isfinite([*b, *a]).all() or a[0] != 1:
            raise ValueError(f"section b={b}, a={a} must hold finite numbers with a[0] = 1; divide b and a by a[0]")
    after, start = [], 0
    for section in filter.sections:
        stop = start + Filter((section,)).num_states
        if stop == start:
            audio = audio * section[0][0]
            continue
        audio, last = _recursive_filter(audio, state[..., start:stop], section)
        after.append(last)
        start = stop
    return audio, jnp.concatenate(after, axis=-1)


@functools.lru_cache(maxsize=32)
def k_weighting(sample_rate: float) -> Filter:
    """K-weighting at any sample rate: the shelf and the high-pass of BS.1770.

    The tabled filters are taken back to the analogue ones by the bilinear transform, z⁻¹ = (1 − s)/(1 + s), and
    transformed anew with the frequency axis scaled so that each keeps its own corner frequency. At 48 kHz this gives
    the table.

    Args:
      sample_rate: hertz, above twice the shelf's corner at 1.68 kHz.

    Raises:
      ValueError: for a lower rate.
    """
    checks.positive(sample_rate=sample_rate)
    # Rows: s², s, 1 of (b₀, b₁, b₂) in terms of s; its own inverse up to a factor of 4.
    bilinear = np.array([[1.0, -1.0, 1.0], [2.0, 0.0, -2.0], [1.0, 1.0, 1.0]])
    sections = []
    for b, a in _TABLED:
        numerator, denominator = bilinear @ b, bilinear @ a
        warped = np.sqrt(denominator[2] / denominator[0])
        corner = np.arctan(warped) * 48_000 / np.pi
        if sample_rate <= 2.2 * corner:
            raise ValueError(
                f"sample_rate={sample_rate} is too low for K-weighting; take {2.2 * corner:.0f} Hz or more"
            )
        scale = warped / np.tan(np.pi * corner / sample_rate)
        powers = np.array([scale**2, scale, 1.0])
        b, a = (np.linalg.solve(bilinear, powers * analogue) for analogue in (numerator, denominator))
        sections.append((tuple(map(float, b / a[0])), (1.0, *map(float, a[1:] / a[0]))))
    return Filter(tuple(sections))


def k_weight(audio: jax.Array, *, sample_rate: float, state: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """K-weighted audio f32[..., N] and the state f32[..., 4] that continues it; errors as `recursive_filter`."""
    return recursive_filter(audio, k_weighting(sample_rate), state)


def _weights(channels, audio):
    if isinstance(channels, str):
        checks.choice("channels", channels, CHANNEL_WEIGHTS)
        channels = CHANNEL_WEIGHTS[channels]
        if len(channels) == 1:
            return None
    weights = np.asarray(channels, np.float64)
    if weights.ndim != 1 or not (weights >= 0).all():
        raise ValueError(f"channels={channels!r} must be a name or one weight of at least 0 for each channel")
    if audio.ndim < 2 or audio.shape[-2] != len(weights):
        raise ValueError(f"audio of shape {audio.shape} must be [..., {len(weights)}, N] for {len(weights)} channels")
    return weights


@functools.partial(jax.jit, static_argnames=("filter", "hop_length"))
def _mean_squares(audio, filter, hop_length):
    """Mean square of each whole hop of the filtered audio, clip by clip: f32[..., N] → f32[..., N // hop_length]."""
    pieces = audio.shape[-1] // hop_length

    def run(clip):
        filtered, _ = recursive_filter(clip, filter)
        return (filtered[: pieces * hop_length].reshape(pieces, hop_length) ** 2).mean(axis=-1)

    squares = stft.per_clip(run, audio.reshape(-1, audio.shape[-1]))
    return squares.reshape(*audio.shape[:-1], pieces)


def _energies(audio, sample_rate, channels, hops):
    """Weighted sum over channels of the mean square in windows of `hops` · 100 ms, 100 ms apart: f32[..., T]."""
    audio = checks.as_audio(audio)
    weights = _weights(channels, audio)
    filter = k_weighting(sample_rate)
    hop_length = round(sample_rate / 10)
    if audio.shape[-1] < hops * hop_length:
        raise ValueError(
            f"audio of {audio.shape[-1]} samples is shorter than one window of {hops / 10:g} s "
            f"({hops * hop_length} samples at {sample_rate:g} Hz); loudness is not defined for it"
        )
    squares = _mean_squares(audio, filter, hop_length)
    if weights is not None:
        squares = jnp.einsum("...ct,c->...t", squares, jnp.asarray(weights, squares.dtype), precision=_HIGHEST)
    windows = squares.shape[-1] - hops + 1
    return sum(squares[..., i : i + windows] for i in range(hops)) / hops


def level(energy: jax.Array, *, amin: float = 1e-12) -> jax.Array:
    """LKFS of weighted mean squares, −0.691 + 10·log₁₀ of them, −120.691 at the lowest."""
    return -0.691 + 10 * jnp.log10(jnp.maximum(energy, amin))


def momentary_loudness(audio: jax.Array, *, sample_rate: float, channels="mono") -> jax.Array:
    """Loudness of windows of 400 ms, 100 ms apart.

    Args:
      audio: f32[..., N], or f32[..., C, N] for several channels; full scale is 1.
      sample_rate: hertz. The hop is sample_rate / 10 rounded to whole samples.
      channels: "mono", "stereo", "5.0", "5.1" (L, R, C, LFE, Ls, Rs) or one weight for each channel.

    Returns:
      f32[..., T] LKFS, at least −120.7 (digital silence). T = N // hop − 3: windows that are not full are left out.

    Raises:
      ValueError: for audio shorter than a window, channels that do not fit, a rate below 3.7 kHz, bad audio.

    Reference: EBU Tech 3341 (2016), section 2.2.
    """
    return level(_energies(audio, sample_rate, channels, 4))


def short_term_loudness(audio: jax.Array, *, sample_rate: float, channels="mono") -> jax.Array:
    """Loudness of windows of 3 s, 100 ms apart; arguments, values and errors as `momentary_loudness`."""
    return level(_energies(audio, sample_rate, channels, 30))


def integrated_loudness(audio: jax.Array, *, sample_rate: float, channels="mono") -> jax.Array:
    """Loudness of whole clips, gated: windows below −70 LKFS and those 10 LU below the mean of the rest do not count.

    Args:
      audio, sample_rate, channels: as `momentary_loudness`.

    Returns:
      f32[...] LKFS; −120.7 if no window is above −70, infinity if the energy overflows (1e19 and above in float32).

    Raises:
      ValueError: as `momentary_loudness`.

    Reference: ITU-R BS.1770-5, annex 1, equations 3–7.
    """
    energy = _energies(audio, sample_rate, channels, 4)

    def gated_mean(above):
        count = jnp.maximum(above.sum(axis=-1), 1).astype(energy.dtype)
        return jnp.where(above, energy, 0).sum(axis=-1) / count

    audible = energy > 10 ** ((-70 + 0.691) / 10)
    relative = 0.1 * gated_mean(audible)
    gated = level(gated_mean(audible & (energy > relative[..., None])))
    return jnp.where(jnp.isfinite(energy).all(axis=-1), gated, jnp.inf)


def normalise_loudness(audio: jax.Array, *, sample_rate: float, target: float = -23.0, channels="mono") -> jax.Array:
    """Scale clips to an integrated loudness; clips without a window above −70 LKFS stay as they are.

    Peaks may exceed 1 afterwards.

    Args:
      audio, sample_rate, channels: as `momentary_loudness`.
      target: LKFS; −23 is EBU R 128's.

    Returns:
      Array of the shape of `audio`.

    Raises:
      ValueError: as `momentary_loudness`, and for a target that is not finite.
    """
    if not np.isfinite(target):
        raise ValueError(f"target={target!r} must be a number of LKFS, such as -23")
    audio = checks.as_audio(audio)
    axes = (-1,) if _weights(channels, audio) is None else (-2, -1)
    # Clips far above full scale are brought there first, or their energy would overflow.
    peak = lax.stop_gradient(jnp.abs(audio).max(axis=axes, keepdims=True))
    audio = audio / jnp.where(peak > 1e6, peak, 1)
    loudness = integrated_loudness(audio, sample_rate=sample_rate, channels=channels)
    gain = jnp.where(loudness > -70, 10 ** ((target - loudness) / 20), 1)
    return audio * gain.reshape(*gain.shape, *(1,) * len(axes))

"""Compressions of spectrograms: decibels, logarithms, per-channel energy normalisation (PCEN).

Arrays: spectrograms f32[..., T, F] of power, energy or magnitude, not negative; the result has the same shape.
As functions, and as values that a representation carries: frozen, hashable, callable, with `needs_whole_clip`, the
reason (a sentence, "" when there is none) why frames cannot be compressed as they come.
Source: librosa's conventions and defaults; Wang et al. (2017) and Lostanlen et al. (2019) for PCEN.
Names: `power_to_db`, `amplitude_to_db`, `db_to_power`, `db_to_amplitude`, `log_offset`, `log_floor`, `log_scaled`,
`pcen`; `Linear`, `Decibels`, `LogOffset`, `LogFloor`, `LogScaled`, `PCEN`.
"""

import dataclasses
import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks
from mirjax.signal.filtered import maximum_filter


def as_spectrogram(values, name: str = "spectrogram") -> jax.Array:
    """Checked values; no frames at all are let through, as streams have chunks that complete none."""
    return jnp.asarray(values) if 0 in np.shape(values) else checks.as_array(values, name, min_ndim=0)


def _not_negative(spectrogram):
    """The same, after refusing negative numbers where they are known (outside of `jit`)."""
    if not isinstance(spectrogram, jax.core.Tracer) and (np.asarray(spectrogram) < 0).any():
        raise ValueError("spectrogram holds negative numbers; give powers or magnitudes, not decibels")
    return spectrogram


def _item_axes(values):
    """The last two axes (time and frequency), or all of an array that has fewer."""
    return tuple(range(-min(2, values.ndim), 0))


def _reference_db(power, ref, amin):
    """Decibels of the reference: a number, or one for each item in a shape that broadcasts."""
    if isinstance(ref, str):
        checks.choice("ref", ref, ("max",))
        ref = jnp.max(power, axis=_item_axes(power), keepdims=True)
    elif isinstance(ref, numbers.Real):
        if not (math.isfinite(ref) and ref != 0):
            raise ValueError(f"ref={ref!r} must be a finite number other than 0, 'max' or an array")
        return 10 * math.log10(max(amin, abs(ref)))
    elif callable(ref) or ref is None:
        raise ValueError(f"ref={ref!r} must be a number, 'max' (the loudest value of each item) or an array")
    else:
        known = not isinstance(ref, jax.core.Tracer)
        if known and not (np.isfinite(np.asarray(ref)).all() and (np.asarray(ref) != 0).all()):
            raise ValueError(f"ref={ref!r} must hold finite numbers other than 0")
        ref = jnp.abs(jnp.asarray(ref, power.dtype))
        if ref.ndim and ref.shape != power.shape[:-2]:
            raise ValueError(
                f"ref of shape {ref.shape} must hold one value for each item of a spectrogram of shape {power.shape}: "
                f"give shape {power.shape[:-2]}"
            )
        ref = ref.reshape(*ref.shape, *[1] * (power.ndim - ref.ndim))
    return 10 * jnp.log10(jnp.maximum(ref, amin))


def _representable(dtype, **values):
    """Refuse floors that are 0 (or without digits) in the numbers computed with."""
    for name, value in values.items():
        if value < float(jnp.finfo(dtype).tiny):
            raise ValueError(f"{name}={value!r} is below the smallest {dtype} number with all digits; raise it")


def _decibels(power, ref, amin, top_db):
    if power.size == 0:
        return power
    _representable(power.dtype, amin=amin)
    db = 10 * jnp.log10(jnp.maximum(power, amin)) - _reference_db(power, ref, amin)
    return db if top_db is None else jnp.maximum(db, db.max(axis=_item_axes(db), keepdims=True) - top_db)


def check_decibels(*, amin: float = 1.0, top_db: float | None) -> None:
    """Refuse an `amin` that is not above 0 and a negative `top_db`."""
    checks.positive(amin=amin)
    if top_db is not None and not (isinstance(top_db, numbers.Real) and top_db >= 0):
        raise ValueError(f"top_db={top_db!r} must be a number of at least 0, or None for no floor")


def power_to_db(power: jax.Array, *, ref=1.0, amin: float = 1e-10, top_db: float | None = 80.0) -> jax.Array:
    """Decibels 10 log10(max(amin, power)) − 10 log10(max(amin, |ref|)), at least the item's maximum − `top_db`.

    Args:
      power: f32[..., T, F], not negative.
      ref: power of 0 dB: a number, "max" (the maximum of each item over time and frequency) or an array f32[...].
      amin: smallest power.
      top_db: range below the maximum of each item over time and frequency; None for no floor.

    Returns:
      f32[..., T, F].

    Raises:
      ValueError: for a `ref` of 0 or of the wrong shape, amin ≤ 0, top_db < 0, integer or complex or non-finite power.
    """
    check_decibels(amin=amin, top_db=top_db)
    return _decibels(as_spectrogram(power, "power"), ref, amin, top_db)


def amplitude_to_db(amplitude: jax.Array, *, ref=1.0, amin: float = 1e-5, top_db: float | None = 80.0) -> jax.Array:
    """Decibels 20 log10 of magnitudes f32[..., T, F]; `ref` and `amin` are magnitudes, the rest as `power_to_db`.

    The floor is taken before the logarithm and nothing is squared, so no small magnitude is lost in float32.
    """
    check_decibels(amin=amin, top_db=top_db)
    magnitude = jnp.abs(as_spectrogram(amplitude, "amplitude"))
    # Twice the decibels of the magnitude itself.
    return 2 * _decibels(magnitude, ref, amin, None if top_db is None else top_db / 2)


def db_to_power(db: jax.Array, *, ref: float = 1.0) -> jax.Array:
    """Power ref · 10^(db / 10) of decibels."""
    checks.positive(ref=ref)
    return ref * jnp.exp(as_spectrogram(db, "db") * (math.log(10) / 10))


def db_to_amplitude(db: jax.Array, *, ref: float = 1.0) -> jax.Array:
    """Magnitude ref · 10^(db / 20) of decibels."""
    checks.positive(ref=ref)
    return ref * jnp.exp(as_spectrogram(db, "db") * (math.log(10) / 20))


def _check_base(base):
    checks.positive(base=base)
    if base == 1:
        raise ValueError("base=1 has no logarithm; give 10, 2 or math.e")


def _in_base(log, base):
    return log if base == math.e else log / math.log(base)


def log_offset(spectrogram: jax.Array, *, offset: float, base: float = math.e) -> jax.Array:
    """log_base(x + offset) of f32[..., T, F]; offset > 0 in the units of x."""
    checks.positive(offset=offset)
    _check_base(base)
    spectrogram = as_spectrogram(spectrogram)
    _representable(spectrogram.dtype, offset=offset)
    return _in_base(jnp.log(spectrogram + offset), base)


def log_floor(spectrogram: jax.Array, *, floor: float, base: float = math.e) -> jax.Array:
    """log_base(max(x, floor)) of f32[..., T, F]; floor > 0 in the units of x."""
    checks.positive(floor=floor)
    _check_base(base)
    spectrogram = as_spectrogram(spectrogram)
    _representable(spectrogram.dtype, floor=floor)
    return _in_base(jnp.log(jnp.maximum(spectrogram, floor)), base)


def log_scaled(spectrogram: jax.Array, *, scale: float = 10_000.0, base: float = 10.0) -> jax.Array:
    """log_base(1 + scale · x) of f32[..., T, F]: 0 at silence. The defaults are Pons' (2019) networks'."""
    checks.positive(scale=scale)
    _check_base(base)
    return _in_base(jnp.log1p(scale * _not_negative(as_spectrogram(spectrogram))), base)


def pcen_coefficient(*, sample_rate: float, hop_length: int, time_constant: float = 0.4) -> float:
    """Smoothing coefficient of a time constant in seconds: the positive root b of τ² b² + b − 1 = 0.

    τ = time_constant · sample_rate / hop_length is the time constant in frames; b = (√(1 + 4τ²) − 1) / 2τ².

    Reference: Lostanlen et al. (2019), section II.
    """
    checks.positive(sample_rate=sample_rate, hop_length=hop_length, time_constant=time_constant)
    tau = time_constant * sample_rate / hop_length
    return (math.sqrt(1 + 4 * tau**2) - 1) / (2 * tau**2)


@jax.jit
def _smooth(energy, b, state):
    def step(smooth, frame):
        smooth = (1 - b) * smooth + b * frame
        return smooth, smooth

    state, smooth = lax.scan(step, state, jnp.moveaxis(energy, -2, 0))
    return jnp.moveaxis(smooth, 0, -2), state


def pcen(
    spectrogram: jax.Array,
    *,
    sample_rate: float = 22_050,
    hop_length: int = 512,
    gain: float = 0.98,
    bias: float = 2.0,
    power: float = 0.5,
    time_constant: float = 0.4,
    eps: float = 1e-6,
    b: float | None = None,
    max_size: int = 1,
    state: jax.Array | None = None,
    return_state: bool = False,
):
    """Per-channel energy normalisation: an automatic gain per band, then a root.

    M[t] = (1 − b) M[t−1] + b S[t];  P = (S / (eps + M)^gain + bias)^power − bias^power.
    With power 0 it is log(1 + S / (eps + M)^gain), with bias 0 the bare root.

    Args:
      spectrogram: f32[..., T, F], not negative; librosa's advice is to scale samples in [-1, 1] by 2^31 beforehand.
      sample_rate: hertz.
      hop_length: samples from frame to frame.
      gain, bias, power: α, δ and r, not negative.
      time_constant: of the smoother, seconds; unused when `b` is given.
      eps: keeps the gain finite at silence.
      b: smoothing coefficient in [0, 1]; `pcen_coefficient` when None.
      max_size: bands over which S is maximised before it is smoothed (vibrato suppression); 1 for none.
      state: f32[..., F], M before the first frame; ones when None, as librosa has it.
      return_state: also return M after the last frame, with which the next block of frames goes on.

    Returns:
      f32[..., T, F]; or (f32[..., T, F], f32[..., F]).

    Raises:
      ValueError: for settings out of range, a state of another shape, integer or non-finite input.

    Reference: Wang et al. (2017); Lostanlen et al. (2019).
    """
    energy = _not_negative(checks.as_array(spectrogram, "spectrogram", min_ndim=2))
    for name, value in (("gain", gain), ("bias", bias), ("power", power)):
        if not (isinstance(value, numbers.Real) and 0 <= value < math.inf):
            raise ValueError(f"{name}={value!r} must be a number of at least 0")
    checks.positive(eps=eps, time_constant=time_constant)
    checks.integer(max_size=max_size)
    if b is None:
        b = pcen_coefficient(sample_rate=sample_rate, hop_length=hop_length, time_constant=time_constant)
    if not (isinstance(b, numbers.Real) and 0 <= b <= 1):
        raise ValueError(f"b={b!r} must lie in [0, 1]")
    shape = energy.shape[:-2] + energy.shape[-1:]
    state = jnp.ones(shape, energy.dtype) if state is None else jnp.asarray(state, energy.dtype)
    if state.shape != shape:
        raise ValueError(f"state of shape {state.shape} must be {shape}: one value for each band of each item")
    smooth, state = _smooth(maximum_filter(energy, max_size), np.asarray(b, energy.dtype), state)
    # (eps + M)^-gain in the log domain, where float32 keeps its digits when M is far below eps.
    normalised = energy * jnp.exp(-gain * (math.log(eps) + jnp.log1p(smooth / eps)))
    if power == 0:
        output = jnp.log1p(normalised)
    elif bias == 0:
        silent = normalised == 0
        output = jnp.where(silent, 0, jnp.where(silent, 1, normalised) ** power)
    else:
        output = bias**power * jnp.expm1(power * jnp.log1p(normalised / bias))
    return (output, state) if return_state else output


@dataclasses.dataclass(frozen=True)
class Linear:
    """No compression."""

    needs_whole_clip = ""

    def __call__(self, spectrogram: jax.Array) -> jax.Array:
        """The spectrogram f32[..., T, F], unchanged."""
        return spectrogram


@dataclasses.dataclass(frozen=True)
class Decibels:
    """`power_to_db` with its arguments (ref: a number or "max")."""

    ref: float | str = 1.0
    amin: float = 1e-10
    top_db: float | None = 80.0

    @property
    def needs_whole_clip(self) -> str:
        """Why it must see the whole clip at once, or ""."""
        if self.ref == "max":
            return "ref='max' is relative to the loudest frame of the clip; give ref a number"
        if self.top_db is not None:
            return f"top_db={self.top_db:g} is measured from the loudest frame of the clip; set top_db=None"
        return ""

    def __call__(self, power: jax.Array) -> jax.Array:
        """Power f32[..., T, F] → decibels f32[..., T, F]."""
        return power_to_db(power, ref=self.ref, amin=self.amin, top_db=self.top_db)


@dataclasses.dataclass(frozen=True)
class LogOffset:
    """`log_offset` with its arguments."""

    offset: float
    base: float = math.e

    needs_whole_clip = ""

    def __call__(self, spectrogram: jax.Array) -> jax.Array:
        """f32[..., T, F] → f32[..., T, F]."""
        return log_offset(spectrogram, offset=self.offset, base=self.base)


@dataclasses.dataclass(frozen=True)
class LogFloor:
    """`log_floor` with its arguments."""

    floor: float
    base: float = math.e

    needs_whole_clip = ""

    def __call__(self, spectrogram: jax.Array) -> jax.Array:
        """f32[..., T, F] → f32[..., T, F]."""
        return log_floor(spectrogram, floor=self.floor, base=self.base)


@dataclasses.dataclass(frozen=True)
class LogScaled:
    """`log_scaled` with its arguments."""

    scale: float = 10_000.0
    base: float = 10.0

    needs_whole_clip = ""

    def __call__(self, spectrogram: jax.Array) -> jax.Array:
        """f32[..., T, F] → f32[..., T, F]."""
        return log_scaled(spectrogram, scale=self.scale, base=self.base)


@dataclasses.dataclass(frozen=True)
class PCEN:
    """`pcen` with its arguments, of the spectrogram times `scale`.

    It streams with a state: `step(spectrogram, state)` → (compressed, state), the state of the first block being None.
    """

    sample_rate: float = 22_050
    hop_length: int = 512
    gain: float = 0.98
    bias: float = 2.0
    power: float = 0.5
    time_constant: float = 0.4
    eps: float = 1e-6
    b: float | None = None
    max_size: int = 1
    scale: float = 1.0

    needs_whole_clip = ""

    def __call__(self, spectrogram: jax.Array) -> jax.Array:
        """f32[..., T, F] → f32[..., T, F]."""
        return self.step(spectrogram, None)[0]

    def step(self, spectrogram: jax.Array, state: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """The next frames f32[..., T, F] and the state f32[..., F] → the same, compressed, and the new state."""
        settings = dataclasses.asdict(self)
        scale = settings.pop("scale")
        return pcen(spectrogram * scale, state=state, return_state=True, **settings)

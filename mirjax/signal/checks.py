"""What every function of `signal` asks of its input, said once.

Shapes, types and settings are known when a function is traced, so they are checked even under `jit`; values are known
only outside of it, so a NaN is found there when the function is called directly.
Names: `as_audio`, `as_array`, `all_finite`, `positive`, `integer`, `choice`, `frequency_range`.
"""

import difflib
import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np


def all_finite(values) -> bool:
    """Found where the values are: an array on a device is not copied to the host."""
    if not isinstance(values, jax.Array):
        return bool(np.isfinite(values).all())
    with jax.ensure_compile_time_eval():  # also for an array that a traced function closes over
        return bool(jnp.isfinite(values).all())


def as_array(values, name: str = "values", *, min_ndim: int = 1, check_finite: bool = True) -> jax.Array:
    """Real floating-point array of at least `min_ndim` axes, none of them empty.

    float16 and bfloat16 become float32, in which all transforms are computed.

    Raises:
      ValueError: for integers, complex numbers, an empty array, too few axes; for NaN or infinity outside of `jit`.
    """
    if values is None or isinstance(values, str | bytes):
        raise ValueError(f"{name} is {values!r:.40}; give an array of numbers (mirjax.data.audio.decode reads files)")
    dtype = values.dtype if hasattr(values, "dtype") else np.asarray(values).dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        remedy = "divide integer samples by 32768 (int16)" if jnp.issubdtype(dtype, jnp.integer) else "give real floats"
        raise ValueError(f"{name} is {dtype}; floating-point numbers are needed: {remedy}")
    shape = np.shape(values)
    if len(shape) < min_ndim or 0 in shape:
        raise ValueError(f"{name} of shape {shape} must have at least {min_ndim} axes, none of them empty")
    if check_finite and not isinstance(values, jax.core.Tracer) and not all_finite(values):
        raise ValueError(f"{name} holds NaN or infinity; repair or drop such clips")
    array = jnp.asarray(values)
    return array.astype(jnp.float32) if array.dtype.itemsize < 4 else array


def as_audio(audio, name: str = "audio", *, min_samples: int = 1) -> jax.Array:
    """Audio f32[..., N] or f64[..., N] with N ≥ `min_samples`; errors as `as_array`."""
    if audio is None or isinstance(audio, str | bytes):
        return as_array(audio, name)  # its error names the remedy
    shape = np.shape(audio)
    if not shape or shape[-1] < min_samples:
        raise ValueError(f"{name} of shape {shape} needs at least {min_samples} samples on its last axis; pad it")
    return as_array(audio, name)


def positive(**values) -> None:
    """Refuse settings that are not finite numbers above 0 (a hop of 0, a rate of 0)."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < math.inf:
            raise ValueError(f"{name}={value!r} must be a number above 0")


def integer(*, least: int = 1, **values) -> None:
    """Refuse settings that are not whole numbers of at least `least`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
            raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")


def choice(name: str, value, allowed) -> None:
    """Refuse a name that is not among `allowed`, and say which one comes nearest."""
    allowed = list(allowed)
    if value not in allowed:
        near = difflib.get_close_matches(str(value), map(str, allowed), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{name}={value!r} is unknown{hint}; choose one of {', '.join(map(repr, allowed))}")


def frequency_range(fmin: float, fmax: float | None, sample_rate: float) -> float:
    """Upper edge in hertz (half the sample rate for None), after checking 0 ≤ fmin < fmax ≤ sample_rate / 2."""
    positive(sample_rate=sample_rate)
    if not isinstance(fmin, numbers.Real) or not isinstance(fmax, numbers.Real | None):
        raise ValueError(
            f"fmin={fmin!r} must be a number of hertz, and fmax={fmax!r} one or None (half the sample rate)"
        )
    fmax = sample_rate / 2 if fmax is None else fmax
    if not 0 <= fmin < fmax <= sample_rate / 2:
        raise ValueError(
            f"need 0 <= fmin < fmax <= {sample_rate / 2:g} Hz (half the sample rate), got fmin={fmin}, fmax={fmax}"
        )
    return fmax

"""Pooling of maps, with a derivative of the maximum that is fast on a CPU.

Arrays: maps `[B, T, C]` or `[B, T, F, C]`; windows (time × frequency). Incomplete windows are dropped.

XLA's own derivative of a maximum over windows (select-and-scatter) costs, on a CPU, more than the convolution below
it. Windows that do not overlap need none: each position belongs to one window, and has its derivative if it is the
place of the maximum. The first of equal maxima has it all, as in PyTorch and XLA: a clip's silence, whose positions
all tie, is not counted more than once. `benchmarks/training.py` measures it. The values are those of
`lax.reduce_window`, which XLA fuses with a convolution before it. Forward and reverse derivatives of any order work.

Names: `max_pool`, `pool`, `ALL`.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

ALL = -1  # as a pooling size: the whole axis


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_pool(x: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """Maximum over windows side by side.

    Args:
      x: f32[B, T, C] or f32[B, T, F, C].
      window: steps, or steps and bands, of a window; no longer than the map.

    Returns:
      f32[B, T // window₀, C] or f32[B, T // window₀, F // window₁, C].
    """
    return _reduce_max(x, window, window)


@max_pool.defjvp
def _max_pool_jvp(window, primals, tangents):
    y = max_pool(*primals, window)
    x, dx = (_in_windows(each, window) for each in (*primals, *tangents))
    axes = tuple(2 + 2 * i for i in range(len(window)))  # within a window
    shape = (1, *(size for w in window for size in (1, w)), 1)
    place = np.arange(math.prod(window), dtype=np.int32).reshape(shape)
    first = jnp.where(x == jnp.expand_dims(y, axes), place, place.size).min(axes, keepdims=True)
    return y, jnp.where(place == first, dx, 0).sum(axes)


def _in_windows(x, window):
    """[B, T, …, C] → [B, T // window₀, window₀, …, C]."""
    counts = [size // w for size, w in zip(x.shape[1:-1], window, strict=True)]
    whole = [count * w for count, w in zip(counts, window, strict=True)]
    x = lax.slice(x, (0,) * x.ndim, (x.shape[0], *whole, x.shape[-1]))
    pairs = (size for pair in zip(counts, window, strict=True) for size in pair)
    return x.reshape(x.shape[0], *pairs, x.shape[-1])


def _reduce_max(x, window, stride):
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *stride, 1), "VALID")


def pool(x: jax.Array, window: tuple[int, ...], stride: tuple[int, ...] | None = None, kind: str = "max") -> jax.Array:
    """Pooling of [B, T, C] or [B, T, F, C]; incomplete windows are dropped, ALL takes the whole axis.

    Args:
      x: the map.
      window: its size along each axis.
      stride: steps from window to window along each axis; None: the window itself.
      kind: "max" or "mean".
    """
    sizes = x.shape[1:-1]
    window = tuple(size if w == ALL else w for w, size in zip(window, sizes, strict=True))
    stride = window if stride is None else tuple(1 if s == ALL else s for s in stride)
    if kind == "mean":
        total = lax.reduce_window(x, 0.0, lax.add, (1, *window, 1), (1, *stride, 1), "VALID")
        return total / math.prod(window)
    return max_pool(x, window) if stride == window else _reduce_max(x, window, stride)

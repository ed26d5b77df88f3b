"""Convolution of maps in the form that is fast forwards, with derivatives that are fast too.

Arrays: maps `[B, T, C]` or `[B, T, F, C]`, kernels `(k…, in, out)`, written (time × frequency). All products run at
`Precision.HIGHEST`.

The derivative with respect to the *input* is a convolution with as many outputs as the input has channels. Of one
channel (a spectrogram below a learnt normalisation) and a long kernel, a CPU computes it up to 100 times slower than
the convolution itself. So the input's tangent runs through the same sum written with the windows along the kernel's
longer axis as channels, whose transposition is a matrix product and a sum of shifted slices.

Names: `convolve`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

_HIGHEST = lax.Precision.HIGHEST
_LONG = 8  # shorter kernels gain nothing


def convolve(x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], pads: tuple[tuple[int, int], ...]) -> jax.Array:
    """Convolution of [B, T, C] or [B, T, F, C] with a kernel (k…, C, n) → [B, T', n] or [B, T', F', n].

    Args:
      x: the map.
      kernel: its weights.
      strides: steps from window to window along each axis.
      pads: zeros (before, after) along each axis.
    """
    if x.ndim == 4 and x.shape[2] == kernel.shape[1] and pads[1] == (0, 0):  # as tall as the map: bands are channels
        flat = kernel.reshape(kernel.shape[0], -1, kernel.shape[-1])
        return _convolve(x.reshape(*x.shape[:2], -1), flat, strides[:1], pads[:1])[:, :, None]
    if x.ndim == 4 and x.shape[-1] == 1 and strides == (1, 1) and max(kernel.shape[:2]) >= _LONG:
        return _convolve_image(x, kernel, pads)
    return _convolve(x, kernel, strides, pads)


def _convolve(x, kernel, strides, pads):
    numbers = ("NWC", "WIO", "NWC") if x.ndim == 3 else ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=numbers, precision=_HIGHEST)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _convolve_image(x, kernel, pads):
    return _convolve(x, kernel, (1, 1), pads)


def _convolve_image_jvp(pads, primals, tangents):
    x, kernel = primals
    y = _convolve_image(x, kernel, pads)
    dy = jnp.zeros_like(y)
    if not isinstance(tangents[0], SymbolicZero):
        dy = _convolve_windows(tangents[0], kernel, pads)
    if not isinstance(tangents[1], SymbolicZero):
        dy = dy + _convolve_image(x, tangents[1], pads)
    return y, dy


_convolve_image.defjvp(_convolve_image_jvp, symbolic_zeros=True)


def _convolve_windows(x, kernel, pads):
    """The same convolution of [B, T, F, 1], with windows along the longer axis as channels."""
    longer = int(kernel.shape[1] >= kernel.shape[0])
    size = kernel.shape[longer]
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    steps = x.shape[1 + longer] - size + 1
    windows = [lax.slice_in_dim(x, i, i + steps, axis=1 + longer) for i in range(size)]
    flat = jnp.expand_dims(jnp.moveaxis(kernel[:, :, 0], longer, 1), longer)
    return _convolve(jnp.concatenate(windows, axis=-1), flat, (1, 1), ((0, 0), (0, 0)))

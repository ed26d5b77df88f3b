"""Back-ends: the part of a network that summarises a front-end's map.

Arrays: maps `[B, T', C]` in and out.
Source: the shared back-end of Pons' thesis, in its randomly weighted form (ARCHITECTURES §5.2, "extra layers").
Names: `ExtraLayers`.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from mirjax.models import layers


class ExtraLayers(nn.Module):
    """Convolution, residual, max-pooling by two, residual; each convolution 7 steps long and followed by ReLU.

    The residual adds the activated output to its input, with no activation after the sum.

    Attributes:
      n: filters of every layer.
      legacy_collapse: average as the released code does: of each map one number (its mean over time and channels) in
        the first slot, and zeros in the other n − 1.
    """

    n: int
    legacy_collapse: bool = False

    feature_layers = ("extra1", "extra2", "extra3")

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Map f32[B, T, C] → map f32[B, (T − 6) // 2, n]."""
        if x.shape[1] < 8:
            raise ValueError(f"the extra layers need at least 8 steps and got {x.shape[1]}; raise `seconds`")
        x = self._convolve(x, "extra1", same=False)
        self._expose("extra1", x)
        x = x + self._convolve(x, "extra2", same=True)
        self._expose("extra2", x)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 1), (1, 2, 1), "VALID")
        x = x + self._convolve(x, "extra3", same=True)
        self._expose("extra3", x)
        return x

    def _convolve(self, x, name, *, same):
        kernel, bias = layers.Weights((7, x.shape[-1], self.n), name=f"conv_{name}")()
        return layers.conv1d(x, kernel, bias, same=same)

    def _expose(self, name, x):
        mean = None
        if self.legacy_collapse:
            mean = jnp.zeros((x.shape[0], self.n), x.dtype).at[:, 0].set(x.mean(axis=(1, 2)))
        layers.expose(self, name, x, mean=mean)

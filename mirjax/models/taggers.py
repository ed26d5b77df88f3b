"""Whole networks: a representation, a front-end and, where there is one, a back-end.

Arrays: audio `[B, N]` → the last map `[B, T', C]` (or `[B, T', F', C]`). The features of a network are the averages of
the maps its parts expose; `mirjax.features` collects them.
Names: `Network`.
"""

from collections.abc import Callable

import jax
from flax import linen as nn


class Network(nn.Module):
    """A front-end and an optional back-end behind a fixed representation.

    Attributes:
      representation: value of `mirjax.signal.representations`, audio f32[..., N] → what the front-end takes.
      front_end: module of `frontends`.
      back_end: module of `backends`, or None.
    """

    representation: Callable
    front_end: nn.Module
    back_end: nn.Module | None = None

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the maps that make the features, in order."""
        return self.front_end.feature_layers + (self.back_end.feature_layers if self.back_end else ())

    def embed(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Representation f32[B, T, F] or f32[B, N] → last map."""
        x = self.front_end(x, train=train)
        return x if self.back_end is None else self.back_end(x, train=train)

    def __call__(self, audio: jax.Array, *, train: bool = False) -> jax.Array:
        """Audio f32[B, N] (or f32[B, C, N] if the representation has C channels) → last map.

        Raises:
          ValueError: for other channels than the representation's.
        """
        channels = getattr(self.representation, "num_channels", 1)
        if audio.ndim != (2 if channels == 1 else 3):
            expected, remedy = (
                ("[B, N]", "average the channels: audio.mean(axis=-2)")
                if channels == 1
                else (f"[B, {channels}, N]", "repeat a mono clip on a new axis")
            )
            raise ValueError(f"audio of shape {audio.shape}; this network takes {expected}: {remedy}")
        return self.embed(self.representation(audio), train=train)

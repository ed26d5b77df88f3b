"""Whole networks: a representation, a front-end and, where there are, a back-end and a head.

Arrays: audio `[B, N]` (or `[B, C, N]`) → `{"embedding": [B, D], "logits": [B, K]}`, for trackers `[B, T', D]` and
`[B, T', K]`. The features of a network are the averages of the maps its parts expose; `mirjax.features` collects them.
Names: `Model`, `Network`, `num_samples`, `real_steps`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mirjax.models import geometry, layers
from mirjax.models.geometry import Window
from mirjax.signal.descriptors import TwoStageHPSS
from mirjax.signal.representations import Waveform


class Model(nn.Module):
    """What all networks share. A subclass has the field `representation`, and says what it does in `forward`.

    `forward(x, *, train, steps)` takes the representation and returns {"embedding": …} and, with a head, {"logits": …};
    `feature_layers` names the exposed maps that make the features, `windows` is its geometry in time. A network for one
    input length only says so by `num_steps` (frames, or samples of a waveform) and `fixed = True`.
    """

    num_steps = None
    fixed = False
    repeats_to = 0  # shorter inputs are repeated up to so many steps by the network itself

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the maps that make the features, in order."""
        raise NotImplementedError

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the network does to time, from the representation on."""
        raise NotImplementedError

    @property
    def is_variable(self) -> bool:
        """Whether clips of several lengths may share a batch: padding beyond `length` is then invisible."""
        return not self.fixed

    def embed(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> dict[str, jax.Array]:
        """The network after its representation.

        Args:
          x: f32[B, T, F], f32[B, T, F, C] or f32[B, N]; the computation runs in its dtype.
          train: batch statistics and dropout (needs the rng `dropout`).
          steps: int32[B], real frames (or samples) of each row; all when None.

        Returns:
          `embedding` f32[B, D] (trackers f32[B, T', D]) and, with a head, `logits` f32[B, K] (f32[B, T', K]).

        Raises:
          ValueError: another rank, number of bands or length than the network takes; padding it cannot mask.
        """
        self._check(x, steps)
        if steps is not None:
            steps = _real(steps, x.shape[0], x.shape[1], "steps")
        return self.forward(x, train=train, steps=steps)

    def _check(self, x, steps):
        is_waveform = isinstance(self.representation, Waveform)
        channels = self.representation.num_channels
        expected = () if is_waveform else (self.representation.num_bins,) + ((channels,) if channels > 1 else ())
        if x.ndim != 2 + len(expected) or x.shape[2:] != expected:
            axes = ", ".join(["B", "N" if is_waveform else "T", *map(str, expected)])
            raise ValueError(
                f"input of shape {x.shape}; this network takes [{axes}], as its representation "
                f"({type(self.representation).__name__}) makes of audio: call the network with the audio"
            )
        unit = "samples" if is_waveform else "frames"
        if self.fixed and x.shape[1] != self.num_steps:
            longer = x.shape[1] > self.num_steps
            remedy = "cut the clip into windows (`features` does)" if longer else "repeat or pad the clip"
            raise ValueError(
                f"input of {x.shape[1]} {unit}; this network takes {self.num_steps}, to which its dense layer is tied: "
                f"{remedy}, or choose a network with a variable back-end"
            )
        if steps is not None and not self.is_variable:
            raise ValueError("length: this network does not mask padding; give clips of one length, without `length`")
        geometry.require(self.windows, max(x.shape[1], self.repeats_to), "this network", unit)

    def __call__(
        self, audio: jax.Array, *, train: bool = False, length: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """Audio f32[B, N] (or f32[B, C, N] if the representation has C channels) → embedding and logits.

        Args:
          audio: the clips.
          train: as in `embed`.
          length: int32[B], real samples of each row; what lies beyond is padding.

        Raises:
          ValueError: for other channels than the representation's; and as `embed`.
        """
        channels = getattr(self.representation, "num_channels", 1)
        if audio.ndim != (2 if channels == 1 else 3):
            expected, remedy = (
                ("[B, N]", "average the channels: audio.mean(axis=-2)")
                if channels == 1
                else (f"[B, {channels}, N]", "repeat a mono clip on a new axis")
            )
            raise ValueError(f"audio of shape {audio.shape}; this network takes {expected}: {remedy}")
        if length is None:
            return self.embed(self.representation(audio), train=train)
        if isinstance(self.representation, TwoStageHPSS):
            raise ValueError("length: TwoStageHPSS hears padding (its medians reach over it); give clips of one length")
        length = _real(length, audio.shape[0], audio.shape[-1], "length")
        steps = real_steps(self.representation, length)
        beyond = jnp.arange(audio.shape[-1])[None] >= length[:, None]
        audio = jnp.where(beyond if channels == 1 else beyond[:, None], 0, audio)
        return self.embed(self.representation(audio), train=train, steps=steps)


class Network(Model):
    """A front-end, an optional back-end and an optional head behind a fixed representation.

    Attributes:
      representation: value of `mirjax.signal.representations`, audio f32[..., N] → what the front-end takes.
      front_end: module of `frontends`, or any part (`blocks`).
      back_end: module of `backends`, or None: the averages of the front-end's maps are the embedding.
      head: `blocks.Head`, or None.
      num_steps: frames (or samples) of the published input; None where any number was used.
      fixed: True when only that length works.
      features: names of the maps that make the features; all the parts' when empty.
    """

    representation: Callable
    front_end: nn.Module
    back_end: nn.Module | None = None
    head: nn.Module | None = None
    num_steps: int | None = None
    fixed: bool = False
    features: tuple[str, ...] = ()

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the maps that make the features, in order."""
        parts = (self.front_end, self.back_end)
        return self.features or tuple(name for part in parts if part is not None for name in part.feature_layers)

    @property
    def windows(self) -> tuple[Window, ...]:
        """What front-end and back-end do to time; a part that does not say so counts as doing nothing."""
        parts = (self.front_end, self.back_end)
        return tuple(window for part in parts for window in getattr(part, "windows", ()))

    @property
    def is_variable(self) -> bool:
        """Whether both parts mask padding: they have `windows`, and nothing says `masks = False`."""
        parts = [part for part in (self.front_end, self.back_end) if part is not None]
        return not self.fixed and all(hasattr(part, "windows") and getattr(part, "masks", True) for part in parts)

    @property
    def repeats_to(self) -> int:
        """Steps up to which the front-end repeats a shorter input."""
        return getattr(self.front_end, "num_frames", 0)

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> dict[str, jax.Array]:
        """Representation → embedding and logits."""
        x = self._run(self.front_end, x, train, steps)
        if steps is not None:
            steps = geometry.num_steps(self.front_end.windows, steps)
        if self.back_end is not None:
            x = self._run(self.back_end, x, train, steps)
            if steps is not None:
                steps = geometry.num_steps(self.back_end.windows, steps)
        if self.head is None:
            return {"embedding": layers.mean_over_positions(x, steps) if self.back_end is None else x}
        embedding, logits = self.head(x, train=train, steps=steps if x.ndim > 2 else None)
        return {"embedding": embedding} | ({} if logits is None else {"logits": logits})

    def _run(self, part, x, train, steps):
        return part(x, train=train) if steps is None else part(x, train=train, steps=steps)


@functools.lru_cache(maxsize=256)
def num_samples(representation, num_steps: int) -> int:
    """Fewest samples from which a representation makes `num_steps` frames (for a waveform: the samples)."""
    if isinstance(representation, Waveform):
        return num_steps
    low, high = 1, (num_steps + 1) * representation.hop_length + 2**16
    while low < high:
        middle = (low + high) // 2
        try:
            enough = representation.shape(middle)[0] >= num_steps
        except ValueError:  # too short for a frame
            enough = False
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def _real(counted, rows, most, name):
    """Real steps of each row, int32[B]: refused when they cannot be, clipped to 1…most where they are traced."""
    counted = jnp.asarray(counted)
    if counted.shape != (rows,) or not jnp.issubdtype(counted.dtype, jnp.integer):
        given = f"{counted.dtype}{list(counted.shape)}"
        raise ValueError(f"{name} is {given} and must be whole numbers [{rows}], one for each row")
    if not isinstance(counted, jax.core.Tracer) and not all(1 <= each <= most for each in np.asarray(counted)):
        raise ValueError(f"{name}={np.asarray(counted).tolist()} must lie from 1 to {most}, the padded clips' own")
    return jnp.clip(counted, 1, most)


def real_steps(representation, length: jax.Array) -> jax.Array:
    """Frames that the representation makes of clips of `length` int32[B] samples, each by itself: int32[B]."""
    if isinstance(representation, Waveform):
        return length
    first, second, third = (num_samples(representation, i) for i in (1, 2, 3))
    later = 2 + (length - second) // (third - second)  # from the second frame on they come at a regular distance
    return jnp.where(length < first, 0, jnp.where(length < second, 1, later))

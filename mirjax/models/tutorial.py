"""Networks of the ISMIR 2018 tutorial on deep learning for MIR: vocal, genre and mood, and the Siamese branch.

Arrays: patches `[B, 80, 80]`, time before frequency; the notebooks have frequency first, so their kernels and pools
are turned round here.
Source: the notebooks of Lidy, Schindler & Böck (ISMIR 2018); ARCHITECTURES §9.1 and §9.2.
Names: `tutorial_vocal`, `tutorial_genre`, `tutorial_siamese`, `SiameseBranch`, `constrain`.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from mirjax.models import backends, blocks, geometry, layers, taggers
from mirjax.models.blocks import BatchNorm, Conv, Head, Norm, Stack
from mirjax.models.geometry import Window
from mirjax.models.zoo import scaled
from mirjax.signal.presets import preset


def _patch():
    settings = preset("tutorial")
    return settings.representation, settings.num_frames


def tutorial_vocal(n: int, *, num_classes: int = 1, num_convs: int = 1) -> taggers.Network:
    """Instrumental or vocal: convolutions and a dense layer, all of them linear.

    Args:
      n: filters of every convolution, 16 in the tutorial; the dense layer has 16 n units.
      num_classes: outputs.
      num_convs: convolutions, each with a pooling by 2×2; the tutorial has 1 and 2.

    Raises:
      ValueError: no convolution, or more than an 80×80 patch can take.
    """
    representation, num_frames = _patch()
    if not 1 <= num_convs <= 4:
        raise ValueError(f"num_convs={num_convs} must be from 1 to 4: each one halves the patch of {num_frames} frames")
    conv = Conv(n, (3, 3), padding="valid", activation="linear", pool=(2, 2), init="glorot_uniform")
    head = Head(num_classes, hidden=(scaled(256, n, 16),), activation="linear")
    return taggers.Network(
        representation, Stack((conv,) * num_convs), backends.Flatten(), head, num_steps=num_frames, fixed=True
    )


def tutorial_genre(n: int, *, num_classes: int = 8) -> taggers.Network:
    """ "CompactCNN" for genres, and with four outputs for moods: three blocks, a dense layer.

    Args:
      n: filters of the first layer, 32 in the tutorial; the others have 2 n, the dense layer 4 n units.
      num_classes: outputs: 8 genres, 4 moods.
    """
    representation, num_frames = _patch()
    conv = Conv(n, (3, 3), activation="elu", norm=Norm(), norm_first=True, init="glorot_uniform")
    specs = (
        dataclasses.replace(conv, pool=(4, 2)),
        dataclasses.replace(conv, filters=2 * n, pool=(4, 3)),
        dataclasses.replace(conv, filters=2 * n, pool=(5, 2)),
    )
    head = Head(num_classes, hidden=(4 * n,), dropout=(0.2, 0.0))
    front_end = Stack(specs, input_norm=Norm(axis=2))
    return taggers.Network(representation, front_end, backends.Flatten(), head, num_steps=num_frames, fixed=True)


def tutorial_siamese(n: int) -> "SiameseBranch":
    """One branch of the Siamese network; both branches are this one, applied twice.

    Args:
      n: filters of both stacks, 16 in the tutorial; the embedding has 16 n values.
    """
    representation, num_frames = _patch()
    return SiameseBranch(representation, n, num_steps=num_frames)


class SiameseBranch(taggers.Model):
    """Tall and wide filters side by side, and an embedding whose Euclidean distance is the dissimilarity.

    In training each stack gets its own Gaussian noise. The dense layer's kernel has unit norm for every unit: the
    trainer applies `constrain` to the parameters after every update.

    Attributes:
      representation: audio → f32[..., 80, 80].
      n: filters of each stack.
      noise: standard deviation of the noise on the input in training.
      num_steps: frames of the input.
    """

    representation: Callable
    n: int
    noise: float = 0.2
    num_steps: int = 80

    fixed = True
    feature_layers = ("stack_a", "stack_b")

    @property
    def _stacks(self):
        conv = Conv(self.n, (11, 21), pool=(4, 20), init="glorot_uniform")
        return {"stack_a": conv, "stack_b": dataclasses.replace(conv, kernel=(21, 11), pool=(20, 4))}

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the longer stack does to time."""
        branches = (blocks.conv_windows((spec,), (name,)) for name, spec in self._stacks.items())
        return (*geometry.longest(branches), geometry.everything("flatten"))

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> dict[str, jax.Array]:
        """Patch f32[B, 80, 80] → {"embedding": f32[B, 16 n]}."""
        input_norm = BatchNorm(Norm(), name="input_norm")
        flat = []
        for name, spec in self._stacks.items():
            y = x[..., None]
            if train:
                y = y + self.noise * jax.random.normal(self.make_rng("dropout"), y.shape, y.dtype)
            y = blocks.ConvBlock(spec, name=f"{name}_block")(input_norm(y, train=train), train=train)
            y = BatchNorm(Norm(), name=f"{name}_norm")(y, train=train)
            layers.expose(self, name, y)
            flat.append(y.reshape(y.shape[0], -1))
        embedding = blocks.Dense(scaled(256, self.n, 16), name="dense")(jnp.concatenate(flat, axis=-1))
        return {"embedding": nn.elu(layers.units(embedding))}


def constrain(params: Mapping) -> dict:
    """Parameters of a `SiameseBranch` with unit norm restored to each unit of its dense layer: W[:, j] / ‖W[:, j]‖.

    Args:
      params: the collection `params`, after an update.

    Returns:
      The same tree with the kernel of `dense` f32[in, units] normalised.
    """
    kernel = params["dense"]["kernel"]
    norm = jnp.sqrt((kernel**2).sum(axis=0, keepdims=True))
    return {**params, "dense": {**params["dense"], "kernel": kernel / (norm + 1e-7)}}

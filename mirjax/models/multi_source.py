"""Kim et al.'s networks: one trunk, split sooner or later between the sources that it learns from.

Arrays: stereo spectrograms `[B, T, 128, 2]` (audio `[B, 2, N]`) → embedding `[B, 16 n · m]` for m branches, logits
`{source: [B, 50]}`. Kernels and pools (time × frequency).
The source "self" has no labels: its head takes the embeddings of two clips, by `MultiSource.self_logits`.
Source: Kim, Urbano, Liem & Hanjalic, "One deep music representation to rule them all? A comparative analysis of
different representation learning strategies", Neural Computing and Applications 2020; ARCHITECTURES §8.
Names: `kim_ss_r`, `kim_ms_sr_fc`, `kim_ms_cr_6`, `kim_ms_cr_4`, `kim_ms_cr_2`, `kim_mss_cr`; `Trunk`, `MultiSource`,
`SingleSource`, `SOURCES`.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from mirjax.models import backends, blocks, geometry, layers, taggers
from mirjax.models.blocks import Conv, Head, Norm, Stack
from mirjax.models.geometry import Window
from mirjax.models.zoo import scaled
from mirjax.signal.presets import preset

SOURCES = ("self", "bpm", "year", "tag", "taste", "cdr_tag", "lyrics", "artist")
CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv61", "conv62")
_NORM = Norm(epsilon=1e-5, momentum=0.9, unbiased=True)  # PyTorch's


def kim_ss_r(n: int, *, source: str = "tag", num_classes: int = 50) -> "SingleSource":
    """SS-R: the trunk alone, learnt from one source; logits [B, 50] without a dictionary.

    Args:
      n: filters of the first layer, 16 in the paper; all widths scale with it, the embedding has 16 n values.
      source: one of `SOURCES`; "self" has no logits, but `self_logits`.
      num_classes: outputs.

    Raises:
      ValueError: an unknown source.
    """
    return _network(SingleSource, n, (source,), 0, num_classes)


def kim_ms_sr_fc(n: int, *, sources: tuple[str, ...] = SOURCES, num_classes: int = 50) -> "MultiSource":
    """MS-SR@FC: all sources share the whole trunk; embedding [B, 16 n].

    Args:
      n: as in `kim_ss_r`.
      sources: what to learn from, of `SOURCES`.
      num_classes: outputs of each source but "self".

    Raises:
      ValueError: an unknown source, the same one twice, or none.
    """
    return _network(MultiSource, n, sources, len(CONVS), num_classes)


def kim_ms_cr_6(n: int, *, sources: tuple[str, ...] = SOURCES, num_classes: int = 50) -> "MultiSource":
    """MS-CR@6: the sources share conv1–conv5; embedding [B, 16 n · m]. Arguments as in `kim_ms_sr_fc`."""
    return _network(MultiSource, n, sources, 5, num_classes)


def kim_ms_cr_4(n: int, *, sources: tuple[str, ...] = SOURCES, num_classes: int = 50) -> "MultiSource":
    """MS-CR@4: the sources share conv1–conv3; embedding [B, 16 n · m]. Arguments as in `kim_ms_sr_fc`."""
    return _network(MultiSource, n, sources, 3, num_classes)


def kim_ms_cr_2(n: int, *, sources: tuple[str, ...] = SOURCES, num_classes: int = 50) -> "MultiSource":
    """MS-CR@2: the sources share conv1; embedding [B, 16 n · m]. Arguments as in `kim_ms_sr_fc`."""
    return _network(MultiSource, n, sources, 1, num_classes)


def kim_mss_cr(n: int, *, sources: tuple[str, ...] = SOURCES, num_classes: int = 50) -> "MultiSource":
    """MSS-CR: one SS-R network for each source; embedding [B, 16 n · m]. Arguments as in `kim_ms_sr_fc`."""
    return _network(MultiSource, n, sources, 0, num_classes)


def _network(kind, n, sources, num_shared, num_classes):
    sources = tuple(sources)
    if unknown := [source for source in sources if source not in SOURCES]:
        raise ValueError(f"sources: {', '.join(map(repr, unknown))} is not known; choose of {', '.join(SOURCES)}")
    if not sources or len(set(sources)) < len(sources):
        raise ValueError(f"sources={sources!r} must be at least one, and each only once")
    settings = preset("kim")
    return kind(settings.representation, n, sources, num_shared, num_classes, settings.num_frames)


def _convs(n):
    """The seven convolutions of the trunk."""
    conv = Conv(0, (3, 3), norm=_NORM, norm_first=True, init="glorot_uniform")
    pooled = dataclasses.replace(conv, pool=(2, 2))
    first = dataclasses.replace(pooled, kernel=(5, 5), stride=(2, 1), padding=((2, 2), (2, 2)))
    last = dataclasses.replace(conv, kernel=(1, 1))
    kinds = (first, pooled, pooled, pooled, pooled, conv, last)
    filters = (16, 32, 64, 64, 128, 256, 256)
    return tuple(
        dataclasses.replace(spec, filters=scaled(size, n, 16)) for spec, size in zip(kinds, filters, strict=True)
    )


class Trunk(nn.Module):
    """Convolutions to the last one, global average, and the dense layer whose activations are the representation.

    Attributes:
      specs: the convolutions.
      names: of their maps.
      units: of the dense layer.
      fc: name of its map.
    """

    specs: tuple[Conv, ...]
    names: tuple[str, ...]
    units: int
    fc: str

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, F, C] → f32[B, units]."""
        stack = Stack(self.specs, names=self.names, name="convs")
        x = stack(x, train=train, steps=steps)
        if steps is not None:
            steps = geometry.num_steps(stack.windows, steps)
        x = backends.GlobalPool(("mean",), over_bands=True)(x, train=train, steps=steps)
        x = blocks.Dense(self.units, name="dense")(x)
        x = nn.relu(layers.units(blocks.BatchNorm(_NORM, name="batch_norm")(x, train=train)))
        layers.expose(self, self.fc, x)
        return x


class MultiSource(taggers.Model):
    """A shared beginning, and from there on a branch and an output layer for each source.

    The features are the fc-feature layers of all branches; their concatenation is the embedding. Any number of frames
    works, since the trunk ends in a global average.

    Attributes:
      representation: audio f32[..., 2, N] → f32[..., T, 128, 2].
      n: filters of the first layer.
      sources: names of the sources, in the order of the embedding.
      num_shared: convolutions that all share; 7 shares the dense layer too.
      num_classes: outputs of each source but "self".
      num_steps: frames of the published input.
    """

    representation: Callable
    n: int
    sources: tuple[str, ...]
    num_shared: int
    num_classes: int = 50
    num_steps: int = 216

    @property
    def _is_one(self):
        return self.num_shared == len(CONVS)

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the fc-feature layers: `fc` if it is shared, else one for each source."""
        return ("fc",) if self._is_one else tuple(f"{source}_fc" for source in self.sources)

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the trunk does to time."""
        return (*blocks.conv_windows(_convs(self.n), CONVS), geometry.everything("the global average"))

    def setup(self):
        """Parts by name: `stem` or `trunk`, `branches_SOURCE`, `outputs_SOURCE`, `self_head`."""
        specs, units, k = _convs(self.n), scaled(256, self.n, 16), self.num_shared
        if self._is_one:
            self.trunk = Trunk(specs, CONVS, units, "fc")
        else:
            if k:
                self.stem = Stack(specs[:k], names=CONVS[:k])
            self.branches = {
                source: Trunk(specs[k:], tuple(f"{source}_{name}" for name in CONVS[k:]), units, f"{source}_fc")
                for source in self.sources
            }
        self.outputs = {
            source: blocks.Dense(self.num_classes, kernel_init="torch") for source in self.sources if source != "self"
        }
        if "self" in self.sources:
            hidden = (scaled(128, self.n, 16),)
            self.self_head = Head(2, hidden=hidden, dropout=0.5, norm=_NORM, norm_first=True, output_init="torch")
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> dict:
        """Spectrogram f32[B, T, 128, 2] → {"embedding": f32[B, D], "logits": {source: f32[B, K]}}, "self" left out."""
        if self._is_one:
            shared = self.trunk(x, train=train, steps=steps)
            found = dict.fromkeys(self.sources, shared)
            embedding = shared
        else:
            if self.num_shared:
                x = self.stem(x, train=train, steps=steps)
                steps = None if steps is None else geometry.num_steps(self.stem.windows, steps)
            found = {source: branch(x, train=train, steps=steps) for source, branch in self.branches.items()}
            embedding = jnp.concatenate([found[source] for source in self.sources], axis=-1)
        if "self" in self.sources and self.is_initializing():
            self.self_logits(embedding, embedding)
        logits = {
            source: self.outputs[source](self.dropout(found[source], deterministic=not train))
            for source in self.sources
            if source != "self"
        }
        return {"embedding": embedding} | ({"logits": logits} if logits else {})

    def self_logits(self, first: jax.Array, second: jax.Array, *, train: bool = False) -> jax.Array:
        """Are two clips of the same track? By `model.apply(variables, first, second, method="self_logits")`.

        Args:
          first: embedding f32[B, D] of one clip; the part that "self" has in it is used.
          second: embedding of the other one.
          train: batch statistics and dropout.

        Returns:
          logits f32[B, 2]: different tracks, the same track.

        Raises:
          ValueError: when "self" is not among the sources.
        """
        if "self" not in self.sources:
            raise ValueError(f"sources={self.sources!r} of this network lack 'self', which compares two clips")
        size = scaled(256, self.n, 16)
        start = 0 if self._is_one else size * self.sources.index("self")
        pair = jnp.concatenate([first[:, start : start + size], second[:, start : start + size]], axis=-1)
        return self.self_head(pair, train=train)[1]


class SingleSource(MultiSource):
    """SS-R: one source, whose logits come without a dictionary."""

    def forward(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> dict[str, jax.Array]:
        """Spectrogram f32[B, T, 128, 2] → {"embedding": f32[B, D], "logits": f32[B, K]}, for "self" no logits."""
        found = super().forward(x, train=train, steps=steps)
        if "logits" in found:
            found["logits"] = found["logits"][self.sources[0]]
        return found

"""Networks of Choi's taggers and of his tutorial: convolutional, recurrent, dense over frames, and autoencoders.

Arrays: spectrograms `[B, T, F]` in; kernels and pools (time × frequency). Every constructor takes a width n first and
scales all hidden widths with it; n at its published value gives the published widths.
Sources: Choi, Fazekas & Sandler (ISMIR 2016); Choi et al. (ICASSP 2017, ISMIR 2017); Choi et al., "A tutorial on deep
learning for music information retrieval" (2017); Korzeniowski & Widmer (ISMIR 2016); ARCHITECTURES §10. The
singing-voice networks that the tutorial cites are in `singing`.
Names: `music_tagger_cnn`, `music_tagger_crnn`, `compact_cnn`, `k2c2`, `conv1d`, `deep_chroma`, `deep_chroma_madmom`,
`autoencoder`, `seq2seq_autoencoder`; `Padded`, `Autoencoder`, `Seq2Seq`, `stretch`.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from mirjax.models import backends, blocks, geometry, layers, recurrent, taggers
from mirjax.models.blocks import Conv, Head, Norm, Stack
from mirjax.models.geometry import Window
from mirjax.models.zoo import scaled
from mirjax.signal.presets import preset

FRAMES = 1366  # 29.12 s at 12 kHz, a frame every 256 samples
BANDS, TIME = Norm(axis=2), Norm(axis=1)
COMPACT_POOLS = ((4, 2), (4, 3), (5, 2), (4, 2), (4, 4))
TAGGER_POOLS = ((4, 2), (4, 2), (4, 2), (5, 3), (4, 4))
CRNN_POOLS = ((2, 2), (3, 3), (4, 4), (4, 4))
WIDTHS_0_1M = (20, 41, 41, 62, 83)

_POSITIONS = backends.GlobalPool(("mean",), over_bands=True)


def _log_mel(*, legacy_power=False):
    return preset("choi_tagger_legacy" if legacy_power else "choi_tagger").representation


def _elu_blocks(widths, pools, dropout=0.0):
    """3×3 convolution, batch norm, ELU, pooling: the block of all of Choi's taggers."""
    block = Conv(0, (3, 3), activation="elu", norm=Norm(), norm_first=True, dropout=dropout, init="glorot_uniform")
    return tuple(
        dataclasses.replace(block, filters=width, pool=pool) for width, pool in zip(widths, pools, strict=True)
    )


def _widths(widths, n, published):
    return tuple(scaled(width, n, published) for width in widths)


# ── taggers ──


def music_tagger_cnn(
    n: int, *, num_classes: int = 50, legacy_input_norm: bool = False, legacy_power: bool = False
) -> taggers.Network:
    """MusicTaggerCNN as its weights are: five blocks on 1366 frames, whose one last position meets the output layer.

    Longer clips leave more positions, which are averaged.

    Args:
      n: filters of the first layer, 32 in the release; the others are 4 n, 4 n, 6 n and 8 n.
      num_classes: outputs.
      legacy_input_norm: normalise the input for each of 1366 frames, as the release does, instead of for each band.
      legacy_power: decibels of the squared power, as the released weights were trained on.
    """
    specs = _elu_blocks(_widths((32, 128, 128, 192, 256), n, 32), TAGGER_POOLS)
    front_end = Stack(specs, input_norm=TIME if legacy_input_norm else BANDS)
    return taggers.Network(
        _log_mel(legacy_power=legacy_power),
        front_end,
        _POSITIONS,
        Head(num_classes),
        num_steps=FRAMES,
        fixed=legacy_input_norm,
    )


def music_tagger_crnn(
    n: int, *, num_classes: int = 50, legacy_input_norm: bool = False, legacy_gates: bool = False
) -> taggers.Network:
    """MusicTaggerCRNN: four blocks on 1366 frames between 37 of zeros on either side, then two GRUs.

    The GRUs reset before the recurrent product (Cho et al. 2014).

    Args:
      n: filters of the first layer, 64 in the release; the others have 2 n, the GRUs n / 2 units.
      num_classes: outputs.
      legacy_input_norm: normalise the input for each of 1440 frames, as the release does, instead of for each band.
      legacy_gates: piecewise linear gates ("hard sigmoid"), the default of the Keras 1 that trained the release,
        instead of logistic ones.
    """
    specs = _elu_blocks(_widths((64, 128, 128, 128), n, 64), CRNN_POOLS, dropout=0.1)
    front_end = blocks.Chain((Padded(37), Stack(specs, input_norm=TIME if legacy_input_norm else BANDS)))
    gates = "hard_sigmoid" if legacy_gates else "sigmoid"
    units = _widths((32, 32), n, 64)
    back_end = recurrent.Recurrent("gru", units, many_to_many=False, gate_activation=gates, names=("gru1", "gru2"))
    return taggers.Network(
        _log_mel(), front_end, back_end, Head(num_classes, dropout=0.3), num_steps=FRAMES, fixed=legacy_input_norm
    )


def compact_cnn(n: int, *, num_classes: int = 50) -> taggers.Network:
    """The network of transfer learning (Choi et al. 2017): five blocks of n filters, whose averages are 5 n features.

    Longer clips than 1366 frames leave more than one position, which are averaged before the output layer.

    Args:
      n: filters of every layer, 32 in the paper.
      num_classes: outputs.
    """
    front_end = Stack(_elu_blocks((n,) * 5, COMPACT_POOLS))
    return taggers.Network(_log_mel(), front_end, _POSITIONS, Head(num_classes), num_steps=FRAMES)


def k2c2(n: int, *, num_classes: int = 50, widths: tuple[int, ...] = WIDTHS_0_1M) -> taggers.Network:
    """k2c2 of the ICASSP 2017 comparison: five blocks, with the pools of MusicTaggerCNN.

    Args:
      n: filters of the first layer; n = widths[0] gives exactly `widths`, else they all scale with n / widths[0].
      num_classes: outputs.
      widths: filters of the five layers.

    Raises:
      ValueError: other than five widths.
    """
    widths = tuple(widths)
    if len(widths) != 5 or min(widths) < 1:
        raise ValueError(f"widths={widths!r} must be the filters of five layers, such as {WIDTHS_0_1M}")
    front_end = Stack(_elu_blocks(_widths(widths, n, widths[0]), TAGGER_POOLS))
    return taggers.Network(_log_mel(), front_end, _POSITIONS, Head(num_classes), num_steps=FRAMES)


def conv1d(n: int, *, num_classes: int = 50) -> taggers.Network:
    """k1c2, c1-p1-c1-p1-d1-d1-d1: two convolutions over time, the first as tall as the spectrogram; widths are ours.

    Args:
      n: filters of both convolutions, 64 here; the two dense layers have 2 n units.
      num_classes: outputs.
    """
    block = Conv(n, (4,), activation="elu", norm=Norm(), norm_first=True, pool=(4,), init="glorot_uniform")
    head = Head(num_classes, hidden=(2 * n, 2 * n), activation="elu", dropout=0.5)
    return taggers.Network(_log_mel(), Stack((block, block)), backends.Flatten(), head, num_steps=FRAMES, fixed=True)


# ── deep chroma ──


def deep_chroma(n: int, *, num_classes: int = 12) -> taggers.Network:
    """Deep chroma as published: 15 frames of 178 bins → three dense layers of n → 12 pitch classes, for every frame.

    The first dense layer is a convolution 15 frames long, so that one pass gives a whole recording's chroma; beyond
    the ends there is silence.

    Args:
      n: units of each of the three layers, 512 in the paper.
      num_classes: outputs of a frame.
    """
    return _deep_chroma("deep_chroma", n, num_classes)


def deep_chroma_madmom(n: int, *, num_classes: int = 12) -> taggers.Network:
    """Deep chroma as in madmom: 105 bins; else as `deep_chroma`.

    Args:
      n: units of each of the three layers, 256 in madmom.
      num_classes: outputs of a frame.
    """
    return _deep_chroma("deep_chroma_madmom", n, num_classes)


def _deep_chroma(name, n, num_classes):
    front_end = Stack((Conv(n, (preset(name).num_frames,), init="glorot_uniform"),))
    head = Head(num_classes, hidden=(n, n), dropout=0.5)
    features = (*front_end.feature_layers, *head.layer_names)
    return taggers.Network(preset(name).representation, front_end, head=head, features=features)


# ── autoencoders ──


def autoencoder(n: int) -> "Autoencoder":
    """The compact CNN and its mirror image around a bottleneck; ours, after the tutorial's figure.

    Args:
      n: filters of every layer, 32 here; the bottleneck has 2 n units.
    """
    return Autoencoder(_log_mel(), Stack(_elu_blocks((n,) * 5, COMPACT_POOLS)), 2 * n, num_steps=FRAMES)


def seq2seq_autoencoder(n: int) -> "Seq2Seq":
    """One GRU reads the frames, another one writes them, last frame first; ours, after the tutorial's text.

    Args:
      n: units of both GRUs, 128 here.
    """
    encoder = recurrent.Recurrent("gru", (n,), many_to_many=False, names=("encoded",))
    decoder = recurrent.Recurrent("gru", (n,), names=("decoded",))
    return Seq2Seq(_log_mel(), encoder, decoder, num_steps=FRAMES)


class Padded(nn.Module):
    """Frames of zeros before and after a spectrogram; from here on they count as real.

    Attributes:
      frames: zeros on each side.
    """

    frames: int

    feature_layers = ()

    @property
    def windows(self) -> tuple[Window, ...]:
        """More steps, and nothing else."""
        return (Window("the zeros around the clip", 1, padding=2 * self.frames),)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """[B, T, …] → [B, T + 2 frames, …]."""
        return layers.pad_time(blocks.mask_time(x, steps), self.frames, self.frames)


def stretch(x: jax.Array, window: tuple[int, int], sizes: tuple[int, int]) -> jax.Array:
    """The way back through a pooling: each position of [B, T, F, C] repeated `window` times.

    Args:
      x: pooled map.
      window: of the pooling (time × frequency).
      sizes: of the map before it; positions that its incomplete windows dropped get the last value.
    """
    for axis, (repeats, size) in enumerate(zip(window, sizes, strict=True), start=1):
        x = jnp.repeat(x, repeats, axis=axis)
        missing = [(0, 0)] * 4
        missing[axis] = (0, size - x.shape[axis])
        x = jnp.pad(x, missing, mode="edge")
    return x


class Autoencoder(taggers.Model):
    """Blocks, a bottleneck, and the blocks mirrored: `reconstruction` f32[B, T, F] beside the embedding.

    Each mirrored block undoes a pooling by repetition and convolves to the filters of the block before; the last one
    is linear. Trained by the squared error of the reconstruction.

    Attributes:
      representation: audio → f32[..., T, F].
      encoder: a `blocks.Stack` of pooled 2-D blocks.
      bottleneck: size of the embedding.
      num_steps: frames of the input.
    """

    representation: Callable
    encoder: Stack
    bottleneck: int
    num_steps: int

    fixed = True
    feature_layers = ("bottleneck",)

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the encoder and the bottleneck do to time."""
        return (*self.encoder.windows, geometry.everything("the bottleneck"))

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> dict[str, jax.Array]:
        """Spectrogram f32[B, T, F] → {"embedding": f32[B, D], "reconstruction": f32[B, T, F]}."""
        specs = self.encoder.specs
        sizes = [x.shape[1:3]]
        for spec in specs:
            sizes.append(tuple(size // pool for size, pool in zip(sizes[-1], spec.pool, strict=True)))
        maps = self.encoder(x, train=train)
        embedding = blocks.Dense(self.bottleneck, name="bottleneck_layer")(maps.reshape(maps.shape[0], -1))
        layers.expose(self, "bottleneck", embedding)
        back = blocks.Dense(maps[0].size, name="expansion_layer")(embedding).reshape(maps.shape)
        for i in reversed(range(len(specs))):
            spec = dataclasses.replace(specs[i], pool=None, filters=specs[i - 1].filters)
            if i == 0:
                spec = dataclasses.replace(spec, filters=1, activation="linear", norm=None)
            back = stretch(back, specs[i].pool, sizes[i])
            back = blocks.ConvBlock(spec, name=f"mirrored{i + 1}_block")(back, train=train)
        return {"embedding": embedding, "reconstruction": back[..., 0]}


class Seq2Seq(taggers.Model):
    """An encoder's last state, from which a decoder writes the frames in reverse order.

    The decoder gets the state as its input at every step, and no frame that it has written. The reconstruction is
    turned back into the order of the input, so that both may be subtracted.

    Attributes:
      representation: audio → f32[..., T, F].
      encoder: `recurrent.Recurrent`, many to one.
      decoder: `recurrent.Recurrent`, many to many.
      num_steps: frames of the input; any number works.
    """

    representation: Callable
    encoder: nn.Module
    decoder: nn.Module
    num_steps: int | None = None

    feature_layers = ("state",)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The encoder sees all frames."""
        return self.encoder.windows

    @nn.compact
    def forward(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> dict[str, jax.Array]:
        """Spectrogram f32[B, T, F] → {"embedding": f32[B, D], "reconstruction": f32[B, T, F]}, zeros in padding."""
        state = self.encoder(x, train=train, steps=steps)
        layers.expose(self, "state", state)
        repeated = jnp.broadcast_to(state[:, None], (*x.shape[:2], state.shape[-1]))
        written = blocks.Dense(x.shape[-1], name="output")(self.decoder(repeated, train=train, steps=steps))
        last = x.shape[1] if steps is None else steps[:, None]
        order = jnp.clip(last - 1 - jnp.arange(x.shape[1])[None], 0)
        frames = jnp.take_along_axis(written, jnp.broadcast_to(order, x.shape[:2])[..., None], axis=1)
        return {"embedding": state, "reconstruction": blocks.mask_time(frames, steps)}

"""Timbre networks of Pons' thesis (3.4) and their baselines: phonemes, predominant instrument, auto-tagging.

Arrays: spectrograms `[B, T, F]` → one vector a clip → logits; shapes are (time × frequency). The proposed networks are
one layer of `ManyShapes`, of which the maximum over frequency makes timbre independent of pitch; the baselines are
`Stack`s of small squares.
Source: Pons, Slizovskaia, Gong, Gómez & Serra, "Timbre analysis of music audio signals with convolutional neural
networks", EUSIPCO 2017; Han, Kim & Lee 2017; Dieleman & Schrauwen 2014; Choi, Fazekas & Sandler 2016; ARCHITECTURES §4.
Names: `phonemes`, `phonemes_small_rectangular`, `phonemes_mlp`, `irmas_single`, `irmas_multi`, `han`, `mtt_timbre`,
`mtt_dieleman`, `mtt_small_rectangular`, `mtt_choi`; parts `ReshapedAxes`.
"""

import dataclasses

import jax
from flax import linen as nn

from mirjax.models import backends, geometry, taggers
from mirjax.models.blocks import ALL, Chain, Conv, Head, Norm, Stack
from mirjax.models.rhythm_filters import ManyShapes
from mirjax.models.zoo import scaled
from mirjax.signal.compression import LogFloor
from mirjax.signal.presets import preset
from mirjax.signal.representations import LogMel

_LASAGNE = Norm(epsilon=1e-4, momentum=0.9)
_KERAS = Norm(epsilon=1e-3, momentum=0.99)
_SQUARE = (3, 3)


def _network(representation, front_end, head, num_steps, back_end=None, **settings):
    representation = preset(representation).representation if isinstance(representation, str) else representation
    back_end = back_end or backends.Flatten()
    return taggers.Network(representation, front_end, back_end, head, num_steps=num_steps, fixed=True, **settings)


# ── singing-voice phonemes (jingju) ──


def phonemes(n: int = 4, *, num_classes: int = 29) -> taggers.Network:
    """Filters of six shapes, 50 and 70 of 80 bands tall and 1, 5, 10 frames long; the maximum over all time.

    Args:
      n: density: 32 n, 16 n and 8 n filters of the two shapes of 1, 5 and 10 frames.
      num_classes: outputs; 29 in code and weights, 32 in the paper.
    """
    specs = tuple(
        Conv(filters * n, (frames, bands), padding="valid", activation="elu", pool=(ALL, 2), init="he_uniform")
        for frames, filters in ((1, 32), (5, 16), (10, 8))
        for bands in (50, 70)
    )
    # One step is left of time, so the back-end's maximum only drops the axis, and any length is taken.
    back_end, head = backends.GlobalPool(("max",)), Head(num_classes, dropout=0.32)
    representation = preset("phonemes").representation
    return taggers.Network(representation, ManyShapes(specs), back_end, head, num_steps=21)


def phonemes_small_rectangular(n: int = 60, *, num_classes: int = 29) -> taggers.Network:
    """Five layers of 3 × 3 filters with batch norm.

    Args:
      n: filters of the first and the last layer; the others have 84 at 60.
      num_classes: outputs; 29 in code and weights, 32 in the paper.
    """
    middle = scaled(84, n, 60)
    layers = ((n, (2, 2)), (middle, (1, 2)), (middle, (1, 2)), (middle, (1, 2)), (n, None))
    specs = tuple(
        Conv(filters, _SQUARE, padding="valid", norm=_KERAS, norm_first=True, pool=pool, init="he_uniform")
        for filters, pool in layers
    )
    return _network("phonemes", Stack(specs), Head(num_classes), 21)


def phonemes_mlp(n: int = 511, *, num_classes: int = 29, dropout: float = 0.251) -> taggers.Network:
    """Two dense layers on five frames.

    Args:
      n: units of both layers: 511 for dan, 475 for laosheng.
      num_classes: outputs; 29 in code and weights, 32 in the paper.
      dropout: rate before the second and the output layer: 0.251 for dan, 0.291 for laosheng.
    """
    head = Head(num_classes, hidden=(n, n), activation="elu", dropout=(0.0, dropout, dropout), kernel_init="he_uniform")
    representation = preset("phonemes").representation
    features = ("dense1", "dense2")
    return taggers.Network(representation, backends.Flatten(), None, head, num_steps=5, fixed=True, features=features)


def phonemes_mlp_laosheng(n: int = 475, *, num_classes: int = 29, dropout: float = 0.291) -> taggers.Network:
    """`phonemes_mlp` as found for the role type laosheng."""
    return phonemes_mlp(n, num_classes=num_classes, dropout=dropout)


# ── predominant instrument (IRMAS) ──


def _irmas_front_end(n, pool, dropout=0.0):
    specs = tuple(
        Conv(
            filters * n,
            (frames, bands),
            activation="elu",
            norm=_KERAS,
            norm_first=True,
            pool=pool,
            dropout=dropout,
            init="he_normal",
        )
        for frames, filters in ((1, 4), (3, 2), (5, 1))
        for bands in (5, 80)
    )
    return ManyShapes(specs, merge="channels")


def _irmas(legacy_power):
    return "irmas_legacy" if legacy_power else "irmas"


def irmas_single(n: int = 32, *, num_classes: int = 11, legacy_power: bool = False) -> taggers.Network:
    """Filters of six shapes, 5 and 80 of 96 bands tall and 1, 3, 5 frames long; the maximum over 32 frames.

    Args:
      n: filters of the two shapes of 5 frames; those of 3 have 2 n, those of 1 frame 4 n.
      num_classes: outputs.
      legacy_power: decibels of the squared power, as released (ARCHITECTURES §11, row 12).
    """
    return _network(_irmas(legacy_power), _irmas_front_end(n, (32, 96)), Head(num_classes, dropout=0.5), 128)


def irmas_multi(n: int = 32, *, num_classes: int = 11, legacy_power: bool = False) -> taggers.Network:
    """The filters of `irmas_single`, the maximum over 32 frames and 24 bands; two layers of 3 × 3, one dense layer.

    Args:
      n: filters of the two shapes of 5 frames; the layers of 3 × 3 have 4 n, the dense one 8 n.
      num_classes: outputs.
      legacy_power: decibels of the squared power, as released (ARCHITECTURES §11, row 12).
    """
    deep = Conv(
        4 * n, _SQUARE, activation="elu", norm=_KERAS, norm_first=True, pool=(2, 2), dropout=0.25, init="he_normal"
    )
    stack = Stack((deep, dataclasses.replace(deep, dropout=0.0)))
    front_end = Chain((_irmas_front_end(n, (32, 24), dropout=0.25), stack))
    head = Head(num_classes, hidden=(8 * n,), activation="elu", dropout=0.5, kernel_init="he_normal")
    return _network(_irmas(legacy_power), front_end, head, 128)


HAN_INPUT = LogMel(
    sample_rate=22_050, n_fft=1024, hop_length=512, n_mels=128, power=1.0, compression=LogFloor(1e-7)
)  # one second is 43 frames; magnitudes and the floor of the logarithm are ours


def han(n: int = 32, *, num_classes: int = 11) -> taggers.Network:
    """Eight layers of 3 × 3 filters, each padded once more than `same`, so that maps grow; the maximum over everything.

    Args:
      n: filters of the first pair of layers; the next pairs have 2 n, 4 n, 8 n, the dense layer 32 n.
      num_classes: outputs.

    Reference:
      Han, Kim & Lee, "Deep convolutional neural networks for predominant instrument recognition in polyphonic music",
      IEEE/ACM TASLP 2017.
    """
    padding = ((2, 2), (2, 2))
    specs = []
    for i in range(4):
        first = Conv(n * 2**i, _SQUARE, padding=padding, activation="leaky_relu_0.33", init="glorot_uniform")
        second = dataclasses.replace(first, pool=(3, 3), dropout=0.25)
        specs += [first, first if i == 3 else second]
    back_end = backends.GlobalPool(("max",), over_bands=True)
    head = Head(num_classes, hidden=(32 * n,), activation="leaky_relu_0.33", dropout=(0.0, 0.5))
    return taggers.Network(HAN_INPUT, Stack(tuple(specs)), back_end, head, num_steps=43)


# ── auto-tagging (MagnaTagATune) ──


class ReshapedAxes(nn.Module):
    """What the released auto-tagging code does where it meant to transpose: [C, T] read as [T, C].

    Each step of the result holds neighbouring channels, whole, instead of one moment of all channels.
    """

    masks = False
    feature_layers = ()
    windows = (geometry.everything("the legacy reshape", keeps=True),)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, C] → [B, T, C] of the same numbers in another order; it has no place for `steps`."""
        return x.swapaxes(1, 2).reshape(x.shape)


# Bands of a filter → filters of 1, 3, 5, 7 frames.
_MTT_SHAPES = {100: (10, 6, 3, 3), 75: (15, 10, 5, 5), 25: (15, 10, 5, 5)}


def mtt_timbre(n: int = 1, *, num_classes: int = 50, legacy_reshape: bool = False) -> taggers.Network:
    """Filters of twelve shapes, the maximum over frequency and four frames, and one convolution over time.

    Args:
      n: multiple of the filters: 92 n in the first layer, 32 n in the second; the dense layer keeps its 100.
      num_classes: outputs.
      legacy_reshape: feed the second convolution with scrambled axes, as released (ARCHITECTURES §11, row 15).
    """
    specs = tuple(
        Conv(
            filters * n,
            (frames, bands),
            padding=("same", "valid"),
            activation="elu",
            pool=(4, ALL),
            init="lecun_uniform",
        )
        for bands, sizes in _MTT_SHAPES.items()
        for frames, filters in zip((1, 3, 5, 7), sizes, strict=True)
    )
    second = Stack((Conv(32 * n, (8,), padding="valid", activation="elu", pool=(4,), init="lecun_uniform"),))
    parts = (ManyShapes(specs), ReshapedAxes(), second) if legacy_reshape else (ManyShapes(specs), second)
    head = Head(num_classes, hidden=(100,), activation="elu", dropout=0.5)
    return _network("mtt_timbre", Chain(parts), head, 187)


def mtt_dieleman(n: int = 32, *, num_classes: int = 50) -> taggers.Network:
    """Two convolutions over time, 8 steps long and of all bands, each with the maximum over four steps; a dense layer.

    Args:
      n: filters of both layers; the dense layer has 100 at 32.
      num_classes: outputs.

    Reference:
      Dieleman & Schrauwen, "End-to-end learning for music audio", ICASSP 2014.
    """
    conv = Conv(n, (8,), padding="valid", pool=(4,), init="glorot_uniform")
    return _network("mtt_timbre", Stack((conv, conv)), Head(num_classes, hidden=(scaled(100, n, 32),)), 187)


def mtt_small_rectangular(n: int = 32, *, num_classes: int = 50) -> taggers.Network:
    """Five layers of 3 × 3 filters with batch norm, dropout before each.

    Args:
      n: filters of the first layer; the others have n, 2 n, n, n / 2.
      num_classes: outputs.
    """
    layers = ((n, (4, 1)), (n, (1, 4)), (2 * n, (2, 2)), (n, (2, 2)), (scaled(16, n, 32), None))
    specs = tuple(
        Conv(
            filters,
            _SQUARE,
            padding="valid",
            activation="elu",
            norm=_LASAGNE,
            norm_first=True,
            bias=False,
            pool=pool,
            dropout=0.25 if pool else 0.0,
            init="lecun_uniform",
        )
        for filters, pool in layers
    )
    return _network("mtt_timbre", Stack(specs, input_dropout=0.25), Head(num_classes, dropout=0.5), 187)


# Filters at n = 128, and poolings that leave one position of 187 × 96.
_CHOI_LAYERS = {
    4: ((128, (3, 2)), (384, (4, 4)), (768, (4, 3)), (2048, (3, 4))),
    5: ((128, (3, 2)), (256, (3, 2)), (512, (3, 2)), (1024, (3, 3)), (2048, (2, 4))),
}


def mtt_choi(n: int = 128, *, num_classes: int = 50, num_layers: int = 5) -> taggers.Network:
    """A fully convolutional network: layers of 3 × 3 filters with batch norm, pooled until one position is left.

    Args:
      n: filters of the first layer, 2048 in the last one at 128.
      num_classes: outputs.
      num_layers: 4 or 5: FCN-4 and FCN-5 of the reference.

    Raises:
      ValueError: another number of layers.

    Reference:
      Choi, Fazekas & Sandler, "Automatic tagging using deep convolutional neural networks", ISMIR 2016.
    """
    if num_layers not in _CHOI_LAYERS:
        raise ValueError(f"num_layers={num_layers!r} is not one of {', '.join(map(str, _CHOI_LAYERS))}")
    specs = tuple(
        Conv(
            scaled(filters, n, 128),
            _SQUARE,
            norm=_KERAS,
            norm_first=True,
            pool=pool,
            dropout=0.5,
            init="he_normal",
        )
        for filters, pool in _CHOI_LAYERS[num_layers]
    )
    representation = dataclasses.replace(preset("mtt_timbre").representation, n_mels=96)
    return _network(representation, Stack(specs), Head(num_classes), 187)

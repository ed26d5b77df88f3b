"""musicnn and its companion networks: filter shapes of musical sense, residual convolutions, several ways to pool time.

Arrays: log-mel spectrograms `[B, T, 96]` in, 187 frames (3 s) as published; (n, **options) → `taggers.Network`. Shapes
of kernels are (time × frequency). All but those that end in a flattened map take any length.
Source: Pons & Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", 2019, and its
training repository; ARCHITECTURES §6.6.
Names: `musicnn_shapes`, `musicnn`, `musicnn_big`, `musicnn_residual`, `musicnn_attention`, `musicnn_autopool`,
`musicnn_rnn`, `dieleman_66k`, `vgg_32`, `vgg_128`, `timbre_185k`.
"""

from mirjax.models import attention, recurrent
from mirjax.models.backends import DenseConcat, Flatten, GlobalPool
from mirjax.models.blocks import ALL, Chain, Conv, Head, Norm, Stack
from mirjax.models.frontends import FilterShapes
from mirjax.models.taggers import Network
from mirjax.models.zoo import scaled
from mirjax.signal.presets import preset

_NUM_BANDS = 96


# ── front-end ──


def musicnn_shapes(timbral: int = 204, temporal: int = 51) -> FilterShapes:
    """musicnn's front-end, for any back-end: two timbral shapes and three lengths of temporal ones.

    Args:
      timbral: filters of each timbral shape (7×38 and 7×67: four and seven tenths of 96 bands).
      temporal: filters of each temporal length (128, 64, 32 frames).
    """
    shapes = tuple((7, tenths * _NUM_BANDS // 10, timbral) for tenths in (4, 7))
    return FilterShapes(shapes, tuple((frames, temporal) for frames in (128, 64, 32)))


# ── musicnn and its variants ──


def _musicnn_head(units: int, num_classes: int) -> Head:
    return Head(
        num_classes,
        (units,),
        dropout=0.5,
        input_norm=Norm(),
        norm=Norm(),
        kernel_init="he_truncated",
        output_init="he_truncated",
    )


def _tagger(front_end, back_end, head, *, fixed=False) -> Network:
    used = preset("musicnn")
    return Network(used.representation, front_end, back_end, head, used.num_frames, fixed)


def _musicnn(n, published, units, num_classes, pool, *, front_end=None, dense=True, legacy_residual=False):
    """Front-end, residual convolutions of n filters, pooling over time, dense layer of `units` at the published n."""
    front_end = front_end or musicnn_shapes(scaled(204, n, published), scaled(51, n, published))
    middle = DenseConcat(n, dense=dense, legacy_residual=legacy_residual)
    head = _musicnn_head(scaled(units, n, published), num_classes)
    return _tagger(front_end, Chain((middle, pool)), head)


def musicnn(n: int, *, num_classes: int = 50, legacy_residual: bool = False) -> Network:
    """musicnn: timbral and temporal filters, residual convolutions, everything concatenated, maximum ‖ mean over time.

    Args:
      n: filters of the residual convolutions (64); the front-end's 204 and 51 and the 200 units scale with it.
      num_classes: outputs.
      legacy_residual: as in `backends.DenseConcat` (§11, row 42).

    Reference: Pons & Serra 2019; ARCHITECTURES §6.6.
    """
    return _musicnn(n, 64, 200, num_classes, GlobalPool(), legacy_residual=legacy_residual)


def musicnn_big(n: int, *, num_classes: int = 50, legacy_residual: bool = False) -> Network:
    """musicnn with residual convolutions of 512 filters and 500 units, behind the same front-end.

    Args:
      n: filters of the residual convolutions (512); the front-end's 204 and 51 and the 500 units scale with it.
      num_classes, legacy_residual: as in `musicnn`.

    Reference: musicnn's release, 2019; ARCHITECTURES §6.6.
    """
    return _musicnn(n, 512, 500, num_classes, GlobalPool(), legacy_residual=legacy_residual)


def musicnn_residual(n: int, *, num_classes: int = 50, legacy_residual: bool = False) -> Network:
    """musicnn whose pooling sees the last residual map alone.

    Args:
      n, num_classes, legacy_residual: as in `musicnn`.

    Reference: musicnn's training repository, 2019; ARCHITECTURES §6.6.
    """
    return _musicnn(n, 64, 200, num_classes, GlobalPool(), dense=False, legacy_residual=legacy_residual)


def _one_shape(n: int) -> FilterShapes:
    return FilterShapes(((7, 38, scaled(576, n, 64)),))


def musicnn_attention(
    n: int, *, num_classes: int = 50, legacy_residual: bool = False, legacy_positions: bool = False
) -> Network:
    """One timbral shape, residual convolutions, all concatenated, then attention over time with sinusoidal positions.

    Args:
      n: filters of the residual convolutions (64); the front-end's 576 filters and the 200 units scale with it.
      num_classes, legacy_residual: as in `musicnn`.
      legacy_positions: positions as that repository computes them (`attention.sinusoids`).

    Reference: musicnn's training repository, 2019; ARCHITECTURES §6.6.
    """
    pool = attention.Attention(legacy_positions=legacy_positions)
    return _musicnn(n, 64, 200, num_classes, pool, front_end=_one_shape(n), legacy_residual=legacy_residual)


def musicnn_autopool(n: int, *, num_classes: int = 50, legacy_residual: bool = False) -> Network:
    """As `musicnn_attention`, with auto-pool (McFee et al. 2018): a learnt place between mean and maximum.

    Args:
      n, num_classes, legacy_residual: as in `musicnn_attention`.

    Reference: musicnn's training repository, 2019; McFee, Salamon & Bello 2018; ARCHITECTURES §6.6.
    """
    pool = attention.AutoPool()
    return _musicnn(n, 64, 200, num_classes, pool, front_end=_one_shape(n), legacy_residual=legacy_residual)


def musicnn_rnn(n: int, *, num_classes: int = 50, legacy_residual: bool = False) -> Network:
    """`musicnn_residual` with two LSTM layers in the place of the pooling; their last step is the embedding.

    Args:
      n: filters of the residual convolutions (64); the 512 units of each LSTM scale with it too.
      num_classes, legacy_residual: as in `musicnn`.

    Reference: musicnn's training repository, 2019; ARCHITECTURES §6.6.
    """
    units = (scaled(512, n, 64),) * 2
    lstm = recurrent.Recurrent("lstm", units, many_to_many=False, two_biases=True)
    return _musicnn(n, 64, 200, num_classes, lstm, dense=False, legacy_residual=legacy_residual)


# ── baselines of the same repository, for one input length ──


def _dense_100(n: int, num_classes: int, published: int) -> Head:
    units = (scaled(100, n, published),)
    return Head(num_classes, units, kernel_init="he_truncated", output_init="he_truncated")


def dieleman_66k(n: int, *, num_classes: int = 50) -> Network:
    """Two convolutions over all bands, each 8 frames long and max-pooled by 4, and a dense layer of 100.

    Args:
      n: filters of both convolutions (32); the 100 units scale with it.
      num_classes: outputs.

    Reference: Dieleman & Schrauwen, ICASSP 2014, as in musicnn's training repository; ARCHITECTURES §6.6.
    """
    first = Conv(n, (8, ALL), padding="valid", pool=(4, 1))
    second = Conv(n, (8, 1), padding="valid", pool=(4, 1))  # of the one band that is left
    return _tagger(Stack((first, second), Norm()), Flatten(), _dense_100(n, num_classes, 32), fixed=True)


def _vgg(n, num_classes):
    pools = ((4, 1), (2, 2), (2, 2), (2, 2), (4, 4))
    strides = ((2, 2), *pools[1:])  # the first windows overlap in time and leave every other band out
    rates = (0.25,) * 4 + (0.0,)
    specs = tuple(
        Conv(n, (3, 3), norm=Norm(), pool=pool, pool_stride=stride, dropout=rate)
        for pool, stride, rate in zip(pools, strides, rates, strict=True)
    )
    head = Head(num_classes, dropout=0.5, output_init="he_truncated")
    return _tagger(Stack(specs, Norm()), Flatten(), head, fixed=True)


def vgg_32(n: int, *, num_classes: int = 50) -> Network:
    """Five blocks of 3×3 convolution, ReLU, batch norm and max-pooling; the first pooling is 4×1 in steps of 2×2.

    Args:
      n: filters of every block (32).
      num_classes: outputs.

    Reference: musicnn's training repository, 2019; ARCHITECTURES §6.6.
    """
    return _vgg(n, num_classes)


def vgg_128(n: int, *, num_classes: int = 50) -> Network:
    """`vgg_32` of 128 filters.

    Args:
      n: filters of every block (128).
      num_classes: outputs.

    Reference: musicnn's training repository and release, 2019; ARCHITECTURES §6.6.
    """
    return _vgg(n, num_classes)


def timbre_185k(n: int, *, num_classes: int = 50) -> Network:
    """Twelve timbral shapes (1, 3, 5, 7 frames × 76, 57, 19 bands), a convolution over time, and a dense layer of 100.

    Args:
      n: filters of the convolution over time (32); the shapes' filters and the 100 units scale with it.
      num_classes: outputs.

    Reference: Pons, Slizovskaia, Gong, Gómez & Serra, EUSIPCO 2017, as in musicnn's training repository;
      ARCHITECTURES §6.6.
    """
    filters = {76: (10, 6, 3, 3), 57: (15, 10, 5, 5), 19: (15, 10, 5, 5)}
    shapes = tuple(
        (frames, bands, scaled(count, n, 32))
        for bands, counts in filters.items()
        for frames, count in zip((1, 3, 5, 7), counts, strict=True)
    )
    over_time = Stack((Conv(n, (8,), padding="valid", pool=(4,)),), names=("conv2",))
    front_end = Chain((FilterShapes(shapes, kernel_init="he_truncated"), over_time))
    return _tagger(front_end, Flatten(), _dense_100(n, num_classes, 32), fixed=True)

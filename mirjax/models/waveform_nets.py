"""Networks beside those of the at-scale study: SampleCNN, Dieleman & Schrauwen, reference taggers, learnt filter banks.

Arrays: waveforms `[B, N]` or spectrograms `[B, T, F]` → `{"embedding": [B, D], "logits": [B, K]}`.
Networks that flatten time before a dense layer take one input length (`fixed`). Where sources leave a layer open, the
constructor says what was taken.
Source: ARCHITECTURES §1.2 (second table), §6.6, §7.3b.
Names: `Learnable`, `sample_cnn`, `dieleman_waveform`, `dieleman_spectrogram`, `dieleman_waveform_194k`, `vgg_450k`,
`timbre_220k`, `sincnet`, `leaf`.
"""

import jax
from flax import linen as nn

from mirjax.models import backends, blocks, learnable, taggers
from mirjax.models.at_scale import SharedBackEnd, sample_stack, shared_head
from mirjax.models.blocks import Conv, Norm, Stack
from mirjax.models.frontends import FilterShapes
from mirjax.models.geometry import Window
from mirjax.models.zoo import scaled
from mirjax.signal.presets import preset

_SAMPLE_CNN = (128, 128, 128, 256, 256, 256, 256, 256, 256, 512)
_CHOI_POOLS = ((4, 2), (4, 2), (4, 2), (5, 3), (4, 4))
# (frames, bands, filters) at twice the companion code's filters; bands are .8, .6 and .2 of 96.
_TIMBRE = (
    *((1, 76, 20), (3, 76, 12), (5, 76, 6), (7, 76, 6)),
    *((1, 57, 30), (3, 57, 20), (5, 57, 10), (7, 57, 10)),
    *((1, 19, 30), (3, 19, 20), (5, 19, 10), (7, 19, 10)),
)


def sample_cnn(
    n: int, *, num_classes: int = 50, last_kernel: int = 3, squeeze_excitation: bool = False, ratio: int = 16
) -> taggers.Network:
    """SampleCNN 3⁹: eleven layers of filters three samples long.

    A clip of 59,049 samples leaves one step; of longer ones the steps are averaged.

    Args:
      n: filters of the first layer; all other widths go with it (128 … 512).
      num_classes: tags.
      last_kernel: steps of the last convolution: 3, which alone gives the published count, or 1 as in the author's
        Keras file (ARCHITECTURES §11, row 22).
      squeeze_excitation: gate every pooled map, after Kim, Lee & Nam (2018), without their multi-level features.
      ratio: of the gates' hidden layer.

    Raises:
      ValueError: another last kernel.

    Reference: Lee, Park, Kim & Nam (2017), "Sample-level deep convolutional neural networks for music auto-tagging
      using raw waveforms"; ARCHITECTURES §6.6.
    """
    if last_kernel not in (1, 3):
        raise ValueError(f"last_kernel={last_kernel!r} must be 3 or 1")

    def conv(width, kernel=3, **settings):
        return Conv(scaled(width, n, 128), (kernel,), norm=Norm(), norm_first=True, init="he_uniform", **settings)

    specs = (
        conv(_SAMPLE_CNN[0], stride=(3,), padding="valid"),
        *(conv(width, pool=(3,)) for width in _SAMPLE_CNN[1:]),
    )
    last = Stack((conv(512, last_kernel),), names=("conv11",), unit="steps")
    return taggers.Network(
        preset("sample_cnn").representation,
        blocks.Chain((sample_stack(specs, ratio if squeeze_excitation else 0), last)),
        backends.GlobalPool(("mean",)),
        blocks.Head(num_classes, dropout=0.5, output_init="he_uniform"),
        num_steps=preset("sample_cnn").num_frames,
    )


def _dieleman(representation, specs, names, num_steps, units, num_classes):
    return taggers.Network(
        representation,
        Stack(specs, names=names, unit="samples" if names[0] == "frames" else "frames"),
        backends.Flatten(),
        blocks.Head(num_classes, (units,)),
        num_steps=num_steps,
        fixed=True,
    )


def _pooled(filters):
    return Conv(filters, (8,), padding="valid", pool=(4,))


def dieleman_waveform(n: int, *, num_classes: int = 50, length: int = 256, stride: int = 256) -> taggers.Network:
    """Strided convolution of the waveform in place of a spectrogram, then `dieleman_spectrogram`'s layers.

    The paper gives the convolutions (32 filters of length 8, pooling by 4), the dense layer (100) and the frames;
    128 filters in the strided layer, as many as mel bands, and the biases are taken by us.

    Args:
      n: filters of the second and third convolution; all other widths go with it (32; 128 strided, 100 units).
      num_classes: tags.
      length, stride: of the frames, in samples; the paper's best are 256 and 256.

    Reference: Dieleman & Schrauwen (2014), "End-to-end learning for music audio".
    """
    width, units = scaled(32, n, 32), scaled(100, n, 32)
    frames = Conv(scaled(128, n, 32), (length,), (stride,), padding="valid")
    return _dieleman(
        preset("at_scale_waveform").representation,
        (frames, _pooled(width), _pooled(width)),
        ("frames", "pool2", "pool3"),
        preset("at_scale_waveform").num_frames,
        units,
        num_classes,
    )


def dieleman_spectrogram(n: int, *, num_classes: int = 50) -> taggers.Network:
    """Two convolutions over time on 128 mel bands, each pooled by 4, and a dense layer.

    Taken by us: the mel spectrogram of frames of 512 samples every 256 (the paper's best has frames of 256, which leave
    mel bands without a bin), and log10(1 + 10,000 x) of its power.

    Args:
      n: filters of both convolutions; the dense layer goes with it (32, 100 units).
      num_classes: tags.

    Reference: Dieleman & Schrauwen (2014), "End-to-end learning for music audio".
    """
    width, units = scaled(32, n, 32), scaled(100, n, 32)
    return _dieleman(
        preset("mtt_timbre").representation,
        (_pooled(width), _pooled(width)),
        ("pool1", "pool2"),
        preset("mtt_timbre").num_frames,
        units,
        num_classes,
    )


def dieleman_waveform_194k(n: int, *, num_classes: int = 50, length: int = 512, filters: int = 96) -> taggers.Network:
    """The thesis' re-implementation of `dieleman_waveform`, in the layouts that give its 194k parameters.

    Args:
      n: filters of the second and third convolution; all other widths go with it (64; 96 strided, 100 units).
      num_classes: tags.
      length: of the frames in samples, one every 256: 512, or 256 with 128 filters.
      filters: of the strided layer at n = 64.

    Reference: ARCHITECTURES §1.2, §14; no code was released.
    """
    width, units = scaled(64, n, 64), scaled(100, n, 64)
    frames = Conv(scaled(filters, n, 64), (length,), (256,), padding="valid")
    return _dieleman(
        preset("at_scale_waveform").representation,
        (frames, _pooled(width), _pooled(width)),
        ("frames", "pool2", "pool3"),
        preset("at_scale_waveform").num_frames,
        units,
        num_classes,
    )


def vgg_450k(n: int, *, num_classes: int = 50) -> taggers.Network:
    """The thesis' reproduction of Choi's VGG: five blocks of 3×3 convolution, batch normalisation, ELU, pooling.

    The poolings are those for 1366 frames of 96 bands; what was done with 3 s is not known. Maps of longer clips are
    averaged. The input is the at-scale study's spectrogram.

    Args:
      n: filters of the first layer; all other widths go with it (64-128-128-128-64).
      num_classes: tags.

    Reference: ARCHITECTURES §6.6.
    """
    specs = tuple(
        Conv(
            scaled(width, n, 64),
            (3, 3),
            activation="elu",
            norm=Norm(),
            norm_first=True,
            pool=pool,
            init="glorot_uniform",
        )
        for width, pool in zip((64, 128, 128, 128, 64), _CHOI_POOLS, strict=True)
    )
    names = tuple(f"pool{i}" for i in range(1, 6))
    return taggers.Network(
        preset("at_scale").representation,
        Stack(specs, input_norm=Norm(axis=2), names=names),
        backends.GlobalPool(("mean",)),
        blocks.Head(num_classes),
        num_steps=1366,
    )


def timbre_220k(n: int, *, num_classes: int = 50) -> taggers.Network:
    """Timbral filters of twelve shapes on 96 bands, a convolution over time, a dense layer.

    Taken from the thesis' section 3.4: dropout ½ before both dense layers.

    Args:
      n: filters of the first shape, 1×76; all other widths go with it (20; 184 in all, 32, 100 units).
      num_classes: tags.

    Reference: ARCHITECTURES §1.2, §6.6 (companion code, twice its filters).
    """
    shapes = tuple((frames, bands, scaled(width, n, 20)) for frames, bands, width in _TIMBRE)
    front_end = blocks.Chain(
        (
            FilterShapes(shapes, kernel_init="he_truncated"),
            Stack((Conv(scaled(32, n, 20), (8,), padding="valid", pool=(4,)),), names=("pool2",)),
        )
    )
    return taggers.Network(
        preset("at_scale").representation,
        front_end,
        backends.Flatten(),
        blocks.Head(num_classes, (scaled(100, n, 20),), dropout=0.5),
        num_steps=preset("at_scale").num_frames,
        fixed=True,
    )


# ── learnt filter banks ──


class Learnable(nn.Module):
    """A front-end of `mirjax.models.learnable` as a part of a network: its map in the dtype of the input.

    Attributes:
      part: the front-end.
    """

    part: nn.Module

    @property
    def masks(self) -> bool:
        """Whether the front-end masks padding."""
        return self.part.masks

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the front-end's maps, in order."""
        return self.part.feature_layers

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the front-end does to time."""
        return self.part.windows

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Input of the front-end → its map [B, T', C]."""
        return self.part(x, train=train, **({} if steps is None else {"steps": steps})).astype(x.dtype)


def _learnt(front_end, filters, units, num_classes):
    return taggers.Network(
        preset("at_scale_waveform").representation,
        Learnable(front_end),
        SharedBackEnd(filters),
        shared_head(units, num_classes),
        num_steps=preset("at_scale_waveform").num_frames,
    )


def sincnet(n: int, *, num_classes: int = 50, filters: int = 64, units: int = 200) -> taggers.Network:
    """SincNet's three layers and the shared back-end, narrow; the composition is ours.

    Args:
      n: learnt band-pass filters; all other widths go with it (80; 60, 60, F = 64, U = 200).
      num_classes: tags.
      filters, units: F and U of the back-end at n = 80.

    Reference: Ravanelli & Bengio (2018), "Speaker recognition from raw waveform with SincNet"; ARCHITECTURES §7.3b.
    """
    front_end = learnable.SincNet(num_filters=n, widths=(scaled(60, n, 80),) * 2)
    return _learnt(front_end, scaled(filters, n, 80), scaled(units, n, 80), num_classes)


def leaf(n: int, *, num_classes: int = 50, filters: int = 64, units: int = 200) -> taggers.Network:
    """LEAF and the shared back-end, narrow; the composition is ours.

    Args:
      n: learnt Gabor filters; all other widths go with it (40; F = 64, U = 200).
      num_classes: tags.
      filters, units: F and U of the back-end at n = 40.

    Reference: Zeghidour, Teboul, de Chaumont Quitry & Tagliasacchi (2021), "LEAF"; ARCHITECTURES §7.3b.
    """
    return _learnt(learnable.Leaf(num_filters=n), scaled(filters, n, 40), scaled(units, n, 40), num_classes)

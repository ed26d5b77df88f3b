"""Networks for few training examples: SB-CNN, a small VGG, a timbre network, a prototypical embedding, and VGGish.

Arrays: spectrograms `[B, T, F]` in; (n, **options) → `taggers.Network`. Shapes of kernels are (time × frequency).
With `log_learn=True` the logarithm of the input is learnt: y = ln(exp(a) x + softplus(b)) takes the place of log10.
Source: Pons' thesis, chapter 6; Pons, Serrà & Serra, "Training neural audio classifiers with few data", ICASSP 2019;
ARCHITECTURES §7.1–7.5; Hershey et al. 2017 (VGGish).
Names: `sb_cnn`, `few_shot_vgg`, `few_shot_timbre`, `prototypical`, `vggish`; parts `Compression`, `ClassMaximum`,
`Projection`.
"""

import jax
from flax import linen as nn

from mirjax.models import backends, blocks, geometry, layers, learnable
from mirjax.models.blocks import ALL, Chain, Conv, Head, Norm, Stack
from mirjax.models.taggers import Network
from mirjax.models.zoo import scaled
from mirjax.signal.presets import preset

# ── parts ──


class Compression(nn.Module):
    """The learnt logarithm (`learnable.LogLearn`) as the first layer of a network; it has no map among the features."""

    feature_layers = ()
    windows = ()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Power spectrogram f32[B, T, F], not negative → f32[B, T, F]; computed in float32 at least."""
        return learnable.LogLearn(name="log_learn")(x, train=train).astype(x.dtype)


class ClassMaximum(nn.Module):
    """A head without parameters: of each class' own values the largest is its logit.

    Attributes:
      num_classes: classes; the values of one class lie side by side.
    """

    num_classes: int

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """x [B, n · num_classes] → (x, logits [B, num_classes])."""
        return x, x.reshape(x.shape[0], self.num_classes, -1).max(axis=-1)


class Projection(nn.Module):
    """Flattens a map and takes it through dense layers with ReLU: the back-end of one input length.

    Attributes:
      units: of the layers.
      relu_last: ReLU after the last layer too.
      kernel_init: name of an initialiser.
    """

    units: tuple[int, ...]
    relu_last: bool = False
    kernel_init: str = "glorot_uniform"

    masks = False
    feature_layers = ()
    windows = (geometry.everything("flatten"),)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Map [B, T, …, C] → [B, D]; values in the order time, frequency, channel."""
        x = x.reshape(x.shape[0], -1)
        for i, units in enumerate(self.units, start=1):
            x = blocks.Dense(units, kernel_init=self.kernel_init, name=f"dense{i}_layer")(x)
            if self.relu_last or i < len(self.units):
                x = nn.relu(layers.units(x))
            layers.expose(self, f"dense{i}", x)
        return x


# ── supervised networks ──


def _network(stack: Stack, back_end, head, log_learn, *, fixed=True) -> Network:
    """A stack on the spectrograms of chapter 6, log10 or learnt."""
    used = preset("few_shot_linear" if log_learn else "few_shot")
    front_end = Chain((Compression(), stack)) if log_learn else stack
    return Network(used.representation, front_end, back_end, head, used.num_frames, fixed)


def sb_cnn(n: int, *, num_classes: int = 10, log_learn: bool = False, input_norm: bool | None = None) -> Network:
    """SB-CNN (Salamon & Bello): three 5×5 convolutions, two of them pooled, and a dense layer of 64.

    Args:
      n: filters of the first layer (24); 48 and 48 filters and 64 units scale with it.
      num_classes: outputs.
      log_learn: learn the logarithm.
      input_norm: batch normalisation of the input; None: with `log_learn` only, as published.

    Reference: Salamon & Bello, IEEE Signal Processing Letters 24 (2017); Pons, Serrà & Serra 2019; ARCHITECTURES §7.2.
    """

    def block(filters, pool=None):
        return Conv(scaled(filters, n, 24), (5, 5), padding="valid", pool=pool, init="glorot_uniform")

    norm = Norm() if (log_learn if input_norm is None else input_norm) else None
    stack = Stack((block(24, (4, 2)), block(48, (4, 2)), block(48)), norm)
    head = Head(num_classes, (scaled(64, n, 24),), dropout=0.5)
    return _network(stack, backends.Flatten(), head, log_learn)


def _vgg(n: int, input_norm: Norm) -> Stack:
    block = Conv(n, (3, 3), activation="elu", norm=Norm(), pool=(2, 2), init="glorot_uniform")
    return Stack((block,) * 5, input_norm)


def few_shot_vgg(n: int, *, num_classes: int = 10, log_learn: bool = False) -> Network:
    """Five blocks of 3×3 convolution, ELU, batch norm and 2×2 pooling, then one dense layer.

    Args:
      n: filters of every block (32).
      num_classes: outputs.
      log_learn: learn the logarithm.

    Reference: Pons, Serrà & Serra 2019; ARCHITECTURES §7.2.
    """
    return _network(_vgg(n, Norm()), backends.Flatten(), Head(num_classes, dropout=0.5), log_learn)


def few_shot_timbre(n: int, *, num_classes: int = 10, log_learn: bool = False) -> Network:
    """One linear 7×108 filter for each class; the logit is its maximum over time and frequency. Takes any length.

    Args:
      n: filters of each class (1); with more of them the largest counts, which is ours.
      num_classes: outputs.
      log_learn: learn the logarithm.

    Reference: Pons, Serrà & Serra 2019; ARCHITECTURES §7.2.
    """
    spec = Conv(n * num_classes, (7, 108), padding="valid", activation="linear", pool=(ALL, ALL), init="glorot_uniform")
    pool = backends.GlobalPool(("max",), over_bands=True)  # of one position: takes the axes away
    return _network(Stack((spec,), Norm()), pool, ClassMaximum(num_classes), log_learn, fixed=False)


def prototypical(
    n: int, *, embedding_size: int = 10, log_learn: bool = False, legacy_input_norm: bool = False
) -> Network:
    """The embedding of the prototypical network: `few_shot_vgg` with a linear layer at its end, and no logits.

    Args:
      n: filters of every block (128).
      embedding_size: D.
      log_learn: learn the logarithm.
      legacy_input_norm: normalise the input for each frame position, as the released code does (§11, row 27), instead
        of by one scale and one shift.

    Reference: Snell, Swersky & Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017; Pons, Serrà & Serra
      2019; ARCHITECTURES §7.4.
    """
    stack = _vgg(n, Norm(axis=1) if legacy_input_norm else Norm())
    head = Head(0, (embedding_size,), activation="linear", dropout=0.5)
    return _network(stack, backends.Flatten(), head, log_learn)


# ── transfer ──


def vggish(n: int, *, num_classes: int = 0, embedding_size: int = 0, relu_embedding: bool = False) -> Network:
    """VGGish: six 3×3 convolutions, two dense layers of 4096, and an embedding of 128.

    Args:
      n: filters of the first layer (64); all others, the dense layers and the embedding scale with it.
      num_classes: outputs of a dense layer on the embedding; 0: none.
      embedding_size: instead of classes, D of a linear layer on the embedding, for prototypes; 0: none.
      relu_embedding: ReLU on the 128 values, as in the code of chapter 6 (§11, row 41); later releases have none.

    Raises:
      ValueError: both num_classes and embedding_size.

    Reference: Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017; ARCHITECTURES
      §7.5.
    """
    if num_classes and embedding_size:
        raise ValueError(f"num_classes={num_classes} and embedding_size={embedding_size}: give one of the two")

    def block(filters, pool=None):
        return Conv(scaled(filters, n, 64), (3, 3), pool=pool, init="normal_01")

    specs = (
        block(64, (2, 2)),
        block(128, (2, 2)),
        block(256),
        block(256, (2, 2)),
        block(512),
        block(512, (2, 2)),
    )
    names = ("conv1", "conv2", "conv3_1", "conv3_2", "conv4_1", "conv4_2")
    units = tuple(scaled(size, n, 64) for size in (4096, 4096, 128))
    back_end = Projection(units, relu_embedding, "normal_01")
    head = None
    if num_classes:
        head = Head(num_classes, output_init="normal_01")
    elif embedding_size:
        head = Head(0, (embedding_size,), activation="linear", kernel_init="normal_01")
    used = preset("vggish")
    return Network(used.representation, Stack(specs, names=names), back_end, head, used.num_frames, True)

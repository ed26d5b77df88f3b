"""A space of small networks, to ask whether the untrained rank predicts the trained one.

First the ten of the screening study at the widths of about 120 features, then networks drawn with a seed: front-end
shape × depth × number of filters × pooling × activation × batch norm × back-end. A name says all of it, so that it
alone rebuilds the network, and two names are two networks:

    vgg-n24                                    an architecture of the study, and its width parameter
    space/square3-d4-f24-p2x3-elu-bn-mean      shape, depth, filters, pooling, activation, norm, back-end

Shapes (time × frequency; LogMel at 12 kHz with 96 bands, or the waveform). The opening layer, then kernels of 3 steps
(`square5`: of 5×5):

    square3, square5   3×3 or 5×5 on the spectrogram, pooled in time and frequency
    vertical           7×80: timbre, the maximum over the 17 places of the frequency axis
    bands              64×1 on every band, the maximum over the bands
    rhythm             64 on the mean over the bands
    mixed              7×80, 7×38, 64×1 and 32×1 side by side, a quarter of the filters each
    frames             5 steps in time, the bands as channels
    sample             3 samples with stride 3, then sample-level layers
    frame              512 samples with stride 256, then layers over these frames

Every layer pools in time (of `sample` and `frame` from the second on: of depth 1 they are p1), and never so much that
1.8 s would be too short. The study's VGG is narrower (n = 24), as it repeats any clip up to 1376 frames.
A third of the drawn networks normalise by the batch, between convolution (then without a bias) and activation. As
running averages start at 0 and 1, untrained features hardly know of it (a factor of 1.0005 a layer), though trained
networks do: it is a choice that no untrained rank can see, a part of the question and so the smaller part of the space.
`attention` and `gru` are not drawn for `sample`, which leaves thousands of steps a second.

Features, as everywhere, are the averages of all layers' maps; the logits come from the back-end's vector alone.
Names: `names`, `build`, `with_head`, `parse`, `Spec`, `SHAPES`, `BACK_ENDS`, `STUDY_N`, `BandMean`, `MeanHead`.
"""

import dataclasses
import hashlib
import re

import jax
from flax import linen as nn

from mirjax.models import attention, backends, blocks, frontends, layers, recurrent, taggers, zoo
from mirjax.models.blocks import ALL, Chain, Conv, Head, Norm, Stack
from mirjax.signal.representations import LogMel, Waveform

SHAPES = ("square3", "square5", "vertical", "bands", "rhythm", "mixed", "frames", "sample", "frame")
BACK_ENDS = ("mean", "max", "mean+max", "mean+std", "attention", "gru")
STUDY_N = {name: 24 if name == "vgg" else zoo.num_filters(name, 120) for name in zoo.STUDY}
MOST = 1000  # of about 19,000

_DEPTHS = (1, 2, 3, 4, 5)
_FILTERS = (8, 12, 16, 24, 32, 48)
_POOLS = (2, 3, 4)
_ACTIVATIONS = ("relu", "elu")
_NORMS = ("nonorm", "nonorm", "bn")
_LONGEST_STRIDE = 81  # frames from one output step to the next: 1.7 s at most; and as many bands, of 96
_SQUARE = ("square3", "square5")
_WAVEFORM = ("sample", "frame")
_NAME = re.compile(r"space/(\w+)-d(\d+)-f(\d+)-p(\d+)(?:x(\d+))?-(relu|elu)-(bn|nonorm)-([a-z+]+)")


@dataclasses.dataclass(frozen=True)
class Spec:
    """A drawn network as a value.

    Attributes:
      shape: of the front-end, one of `SHAPES`.
      depth: convolution layers.
      filters: of every layer, a multiple of 4.
      pool: time steps that a layer pools; 1 where none does.
      band_pool: bands that a layer pools; 0 for shapes that keep no bands.
      activation: `relu` or `elu`.
      batch_norm: whether layers normalise by the batch.
      back_end: one of `BACK_ENDS`.
    """

    shape: str
    depth: int
    filters: int
    pool: int
    band_pool: int
    activation: str
    batch_norm: bool
    back_end: str

    @property
    def name(self) -> str:
        """The name that `parse` reads."""
        pools = f"{self.pool}x{self.band_pool}" if self.band_pool else f"{self.pool}"
        norm = "bn" if self.batch_norm else "nonorm"
        return f"space/{self.shape}-d{self.depth}-f{self.filters}-p{pools}-{self.activation}-{norm}-{self.back_end}"


def names(count: int = 60, seed: int = 0) -> tuple[str, ...]:
    """Names of the space: the study's ten, then drawn ones, every shape as often as the others.

    Fewer are the first of more, whatever the version of any library.

    Args:
      count: how many, from 1 to `MOST`.
      seed: of the draw.

    Raises:
      ValueError: another count.
    """
    if not 1 <= count <= MOST:
        raise ValueError(f"count={count} must be from 1 to {MOST}")
    found = dict.fromkeys(f"{name}-n{n}" for name, n in STUDY_N.items())  # an ordered set
    number = 0
    while len(found) < count:
        found[_drawn(SHAPES[number % len(SHAPES)], seed, number).name] = None
        number += 1
    return tuple(found)[:count]


def _drawn(shape, seed, number) -> Spec:
    """Network `number` of a seed; by a hash, as generators may change their streams from version to version."""

    def pick(field, options):
        digest = hashlib.sha256(f"{seed}/{number}/{field}".encode()).digest()
        return options[int.from_bytes(digest[:8], "big") % len(options)]

    depth = pick("depth", _DEPTHS)
    pools = [size for size in _POOLS if size**depth <= _LONGEST_STRIDE]
    few = shape == "square5"  # whose products are many
    return Spec(
        shape=shape,
        depth=depth,
        filters=pick("filters", [n for n in _FILTERS if n <= 32] if few else _FILTERS),
        pool=1 if shape in _WAVEFORM and depth == 1 else pick("pool", pools),
        band_pool=pick("band_pool", pools) if shape in _SQUARE else 0,
        activation=pick("activation", _ACTIVATIONS),
        batch_norm=pick("norm", _NORMS) == "bn",
        back_end=pick("back_end", BACK_ENDS[:4] if shape == "sample" else BACK_ENDS),
    )


def parse(name: str) -> Spec | None:
    """What a name says: a `Spec`, or None for a network of the study.

    Raises:
      ValueError: no name of this space.
    """
    study, _, n = name.rpartition("-n")
    if study in zoo.STUDY and n.isdecimal() and int(n):
        return None
    found = _NAME.fullmatch(name)
    if found:
        shape, depth, filters, pool, band_pool, activation, norm, back_end = found.groups()
        spec = Spec(shape, int(depth), int(filters), int(pool), int(band_pool or 0), activation, norm == "bn", back_end)
        known = shape in SHAPES and back_end in BACK_ENDS and bool(spec.band_pool) == (shape in _SQUARE)
        pools = spec.pool > 0 and (spec.pool == 1) == (shape in _WAVEFORM and spec.depth == 1)
        if known and pools and spec.depth and spec.filters and spec.filters % 4 == 0 and spec.name == name:
            return spec
    raise ValueError(
        f"name={name!r} is none of this space; give NAME-nN with a network of the study ({', '.join(zoo.STUDY)}), or "
        f"space/SHAPE-dD-fF-pP-ACTIVATION-NORM-BACKEND: a shape of {', '.join(SHAPES)}; F a multiple of 4; pP, or pPxP "
        f"for {' and '.join(_SQUARE)}; relu or elu; bn or nonorm; a back-end of {', '.join(BACK_ENDS)} (see `names`)"
    )


def build(name: str, *, num_classes: int | None = None) -> taggers.Network:
    """The network of a name.

    Args:
      name: as `names` gives it.
      num_classes: outputs of its head; None leaves the head out.

    Returns:
      A network whose untrained features are the same with and without a head.

    Raises:
      ValueError: no name of this space.
    """
    spec = parse(name)
    if spec is None:
        study, _, n = name.rpartition("-n")
        network = zoo.build(study, int(n))
        return network if num_classes is None else with_head(network, num_classes)
    representation = Waveform() if spec.shape in _WAVEFORM else LogMel()
    head = None if num_classes is None else Head(num_classes)
    return taggers.Network(representation, _front_end(spec), _back_end(spec), head)


def with_head(network: taggers.Network, num_classes: int) -> taggers.Network:
    """A network of the study with a dense layer on the average of its last map over all positions.

    Its other weights have the same names, so that under one key they, and all features, are those of the network
    without a head. Where one layer makes the features, the head sees them all; else those of the last layer.

    Args:
      network: a network without a head.
      num_classes: outputs.

    Raises:
      ValueError: a network that has a head, or num_classes below 1.
    """
    if network.head is not None:
        raise ValueError("this network has a head; build it without one, or with its own num_classes")
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} must be at least 1")
    return network.clone(head=MeanHead(num_classes))


class MeanHead(nn.Module):
    """The average over all positions of a map, and a dense layer on it.

    Attributes:
      num_classes: outputs.
    """

    num_classes: int

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Map [B, T, C] or [B, T, F, C], or a vector [B, C] → (average [B, C], logits [B, K])."""
        x = layers.mean_over_positions(x, steps)
        return x, blocks.Dense(self.num_classes, name="output")(x)


class BandMean(nn.Module):
    """The mean over frequency: a spectrogram [B, T, F] → [B, T, 1], a map [B, T, F, C] → [B, T, C]."""

    feature_layers = ()
    windows = ()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map → map of as many steps."""
        return x.mean(axis=2, keepdims=x.ndim == 3)


def _front_end(spec: Spec) -> nn.Module:
    """The opening layer of a shape, and the layers behind it."""
    shape, pool = spec.shape, spec.pool

    def block(filters, kernel, pool, **options):
        norm = Norm(momentum=0.9) if spec.batch_norm else None  # small sets: few steps, averages that follow
        options |= {"activation": spec.activation, "norm": norm, "norm_first": True, "bias": norm is None}
        return Conv(filters, kernel, pool=pool, **options)

    def stack(first, rest):
        return Stack((first, *(rest,) * (spec.depth - 1)), unit="samples" if shape == "sample" else "frames")

    def shaped(frames, bands, filters):
        return block(filters, (frames, bands), (pool, ALL), padding=("same", "valid"))

    n = spec.filters
    flat, tall = block(n, (3,), (pool,)), block(n, (3, 1), (pool, 1))  # layers without, or with one last, band
    if shape in _SQUARE:
        size = 3 if shape == "square3" else 5
        square = block(n, (size, size), (pool, spec.band_pool))
        return stack(square, square)
    if shape == "vertical":
        return stack(shaped(7, 80, n), tall)
    if shape == "bands":
        return stack(shaped(64, 1, n), tall)
    if shape == "rhythm":
        return Chain((BandMean(), stack(block(n, (64,), (pool,)), flat)))
    if shape == "mixed":
        sizes = ((7, 80), (7, 38), (64, 1), (32, 1))
        sides = [Stack((shaped(*size, n // 4),), names=("shape_{}x{}".format(*size),)) for size in sizes]
        rest = (Stack((tall,) * (spec.depth - 1)),) if spec.depth > 1 else ()
        return Chain((frontends.Parallel(tuple(sides)), *rest))
    if shape == "frames":
        return stack(block(n, (5,), (pool,)), flat)
    if shape == "sample":
        return stack(block(n, (3,), None, stride=(3,), padding="valid"), flat)
    return stack(block(n, (512,), None, stride=(256,), padding="valid"), flat)


def _back_end(spec: Spec) -> nn.Module:
    """A vector for each clip; attention and recurrence run over time, on the mean over what bands are left."""
    if spec.back_end == "attention":
        summary = attention.Attention(kernel=1, positions=False)
    elif spec.back_end == "gru":
        summary = recurrent.Recurrent("gru", (spec.filters,), many_to_many=False)
    else:
        return backends.GlobalPool(tuple(spec.back_end.split("+")), over_bands=True)
    return Chain((BandMean(), summary)) if spec.shape in _SQUARE else summary

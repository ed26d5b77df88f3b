"""Plans of released networks: which array of their files goes where.

Each docstring says what else belongs to the weights: the input they were trained with, and what of the released code
their numbers contain. Nothing is downloaded here.
Names: `musicnn_plan`, `musicnn_vgg_plan`, `vggish_plan`, `music_tagger_cnn_plan`, `music_tagger_crnn_plan`,
`compact_cnn_plan`.
"""

from mirjax.models.convert.layouts import Layer


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def musicnn_plan() -> tuple[Layer, ...]:
    """musicnn's checkpoints (MTT_musicnn, MSD_musicnn, MSD_musicnn_big; ISC), by `from_tf`.

    Their input: preset `musicnn`, 16 kHz, mel bands rounded to half precision before log10(10000x + 1), 187 frames. The
    pooled vector lies there as (channel, max and mean), here as (max and mean, channel), so the rows of the batch norm
    and of the dense layer behind it change places. Use `legacy_residual=False`, as the release repository does.
    """
    norms = iter(_numbered("batch_normalization", i) for i in range(11))
    layers = [Layer("batch_norm", next(norms), "front_end/input_norm")]
    shapes = ("timbral_7x38", "timbral_7x67", "temporal_128", "temporal_64", "temporal_32")
    for i, shape in enumerate(shapes):
        layers.append(Layer("conv", _numbered("conv2d", i), f"front_end/{shape}_block"))
        layers.append(Layer("batch_norm", next(norms), f"front_end/{shape}_block/batch_norm"))
    for i in (1, 2, 3):
        layers.append(Layer("conv", f"conv2d_{4 + i}", f"back_end/parts_0/mid{i}_block", flat=True))
        layers.append(Layer("batch_norm", next(norms), f"back_end/parts_0/mid{i}_norm"))
    pooled = ("cs", (-1, 2), "sc")
    layers.append(Layer("batch_norm", next(norms), "head/input_norm", inputs=pooled))
    layers.append(Layer("dense", "dense", "head/dense1_layer", inputs=pooled))
    layers.append(Layer("batch_norm", next(norms), "head/dense1_norm"))
    layers.append(Layer("dense", "dense_1", "head/output"))
    return tuple(layers)


def musicnn_vgg_plan() -> tuple[Layer, ...]:
    """The VGGs of musicnn's repository (MTT_vgg, MSD_vgg; ISC), for `vgg_128`, by `from_tf`; input as musicnn's."""
    layers = [Layer("batch_norm", "batch_normalization", "front_end/input_norm")]
    for i in range(1, 6):
        layers.append(Layer("conv", f"{i}CNN", f"front_end/conv{i}_block"))
        layers.append(Layer("batch_norm", f"batch_normalization_{i}", f"front_end/conv{i}_block/batch_norm"))
    return (*layers, Layer("dense", "dense", "head/output"))


def vggish_plan() -> tuple[Layer, ...]:
    """VGGish's slim checkpoint (Apache-2.0), for `vggish`, by `from_tf`.

    Its input: preset `vggish`, 16 kHz, magnitudes, ln(x + 0.01), 96 frames of 64 bands. The release goes on with a PCA
    and quantisation, which are no part of the network; its embedding is linear, the code of the thesis has a ReLU
    (`relu_embedding=True`).
    """
    groups = {"conv1": "conv1", "conv2": "conv2"} | {
        f"conv{i}/conv{i}_{j}": f"conv{i}_{j}" for i in (3, 4) for j in (1, 2)
    }
    convolutions = tuple(
        Layer("conv", f"vggish/{theirs}", f"front_end/{ours}_block") for theirs, ours in groups.items()
    )
    dense = ("fc1/fc1_1", "fc1/fc1_2", "fc2")
    return convolutions + tuple(
        Layer("dense", f"vggish/{theirs}", f"back_end/dense{i}_layer") for i, theirs in enumerate(dense, start=1)
    )


def _choi_blocks(num_blocks, conv="conv{}", norm="bn{}", place="front_end") -> tuple[Layer, ...]:
    return tuple(
        layer
        for i in range(1, num_blocks + 1)
        for layer in (
            Layer("conv", conv.format(i), f"{place}/conv{i}_block", axes="ft"),
            Layer("batch_norm", norm.format(i), f"{place}/conv{i}_block/batch_norm"),
        )
    )


def music_tagger_cnn_plan() -> tuple[Layer, ...]:
    """MusicTaggerCNN's Keras 1 file, for `music_tagger_cnn`, by `from_keras(…, version=1)`.

    `…_theano.h5` wants `ordering="th", flipped=True`; `…_tensorflow.h5` wants `ordering="th"`, as its code runs with
    that ordering only and its kernels are turned already. The first batch norm is over the 1366 frames, not the bands:
    build the network with `legacy_input_norm=True`. The weights were trained on decibels of amplitude⁴: preset
    `choi_tagger_legacy` (§11, rows 38 and 39).
    """
    first = Layer("batch_norm", "bn_0_freq", "front_end/input_norm")
    return (first, *_choi_blocks(5), Layer("dense", "output", "head/output"))


def music_tagger_crnn_plan() -> tuple[Layer, ...]:
    """MusicTaggerCRNN's Keras 1 file, for `music_tagger_crnn`, by `from_keras(…, version=1)`.

    Orderings, frame-wise first batch norm (over the 1440 padded frames) and input as `music_tagger_cnn_plan`. Keras 1's
    GRU has hard sigmoids for gates, clip(0.2 x + 0.5, 0, 1): build the network with `legacy_gates=True`.
    """
    place = "front_end/parts_1"
    first = Layer("batch_norm", "bn_0_freq", f"{place}/input_norm")
    recurrent = tuple(Layer("gru", f"gru{i}", f"back_end/gru{i}") for i in (1, 2))
    return (first, *_choi_blocks(4, place=place), *recurrent, Layer("dense", "output", "head/output"))


def compact_cnn_plan(
    conv: str = "convolution2d_{}", norm: str = "batchnormalization_{}", output: str = "dense_1"
) -> tuple[Layer, ...]:
    """The compact CNN of transfer learning (Keras 1), for `compact_cnn`, by `from_keras(…, version=1)`.

    Its file keeps the five blocks in one group: give `from_keras` a list for each layer, under these names. Orderings
    as `music_tagger_cnn_plan`; input: preset `choi_tagger`, decibels of power. Its batch norm is Keras 1's mode 2,
    which takes the statistics of the batch at inference too: with the running averages, as here, numbers differ.

    Args:
      conv, norm: names of the i-th convolution and batch norm.
      output: name of the tagger's dense layer; "" for the file without it.
    """
    blocks = _choi_blocks(5, conv, norm)
    return (*blocks, Layer("dense", output, "head/output")) if output else blocks

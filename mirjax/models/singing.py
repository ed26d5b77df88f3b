"""Singing-voice detectors of Schlüter: is there a voice in the middle of 1.6 s? (n) → `taggers.Network`.

Arrays: spectrogram patches `[B, 115, 80]` → logits `[B, 1]`; kernels and pools (time × frequency).
Sources: Schlüter & Grill, "Exploring data augmentation for improved singing voice detection with neural networks",
ISMIR 2015; Schlüter, "Learning to pinpoint singing voice from weakly labeled examples", ISMIR 2016; ARCHITECTURES §10.
Names: `singing_voice_2016`, `singing_voice_2015`.
"""

from mirjax.models import backends, taggers
from mirjax.models.blocks import Conv, Head, Stack
from mirjax.models.zoo import scaled
from mirjax.signal.presets import preset


def singing_voice_2016(n: int, *, num_classes: int = 1) -> taggers.Network:
    """Five convolutions, the last one 18 bands tall; the network that Choi's tutorial cites.

    Args:
      n: filters of the first layer, 64 in the paper; the others have n / 2, 2 n, n and 2 n, the dense layers 4 n and n.
      num_classes: outputs.
    """
    return _network(n, (_conv(n, 128, kernel=(3, 18), pool=(1, 4)),), None, num_classes)


def singing_voice_2015(n: int, *, num_classes: int = 1) -> taggers.Network:
    """Four 3×3 convolutions in two pairs.

    Args:
      n: filters of the first layer, 64 in the paper; the others have n / 2, 2 n and n, the dense layers 4 n and n.
      num_classes: outputs.
    """
    return _network(n, (), (3, 3), num_classes)


def _conv(n, filters, *, kernel=(3, 3), pool=None):
    filters = scaled(filters, n, 64)
    return Conv(filters, kernel, padding="valid", activation="leaky_relu_0.01", pool=pool, init="orthogonal")


def _network(n, fifth, last_pool, num_classes):
    convs = (_conv(n, 64), _conv(n, 32, pool=(3, 3)), _conv(n, 128), _conv(n, 64, pool=last_pool), *fifth)
    head = Head(
        num_classes,
        hidden=(scaled(256, n, 64), n),
        activation="leaky_relu_0.01",
        dropout=0.5,
        kernel_init="orthogonal",
        output_init="orthogonal",
    )
    settings = preset("singing_voice")
    return taggers.Network(
        settings.representation, Stack(convs), backends.Flatten(), head, num_steps=settings.num_frames, fixed=True
    )

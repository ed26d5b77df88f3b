"""Weights of other frameworks as trees of this project: layouts of Keras, PyTorch and TensorFlow, plans of networks.

A *plan* is data: a tuple of `Layer`, one for each layer of the source, that says where it goes and what kind it is.
`from_torch`, `from_keras` and `from_tf` carry arrays along a plan; nothing is read from the network or the disk here,
no framework is imported, no weights are shipped: the caller reads the file with the framework that wrote it.

Licences, as their repositories state them: musicnn's weights lie in its ISC-licensed repository, VGGish's are
Apache-2.0; Choi's taggers' and the compact CNN's are in public repositories, whose terms are the user's to check.
madmom's models are CC BY-NC-SA 4.0 (not for commercial use, share alike): there is no plan for them, and none should
be added.
"""

from mirjax.models.convert.layouts import Layer, from_keras, from_tf, from_torch
from mirjax.models.convert.plans import (
    compact_cnn_plan,
    music_tagger_cnn_plan,
    music_tagger_crnn_plan,
    musicnn_plan,
    musicnn_vgg_plan,
    vggish_plan,
)

__all__ = [
    "Layer",
    "compact_cnn_plan",
    "from_keras",
    "from_tf",
    "from_torch",
    "music_tagger_cnn_plan",
    "music_tagger_crnn_plan",
    "musicnn_plan",
    "musicnn_vgg_plan",
    "vggish_plan",
]

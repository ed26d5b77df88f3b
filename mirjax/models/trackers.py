"""Sequence networks of onset, beat, downbeat and singing-voice trackers: one output a frame.

Arrays: representation `[B, T, F]` → `{"embedding": [B, T', D], "logits": [B, T', K]}`, logits before sigmoid or
softmax. T' = T, except where `onset_cnn` is told not to pad.
Source: the ISMIR 2018 tutorial, madmom (Böck et al. 2016; layers as its released weights have them, which are for
non-commercial use only and so not here), Leglaive et al. 2015; ARCHITECTURES §9.3, 9.4, 10.
Names: `tutorial_onset_rnn`, `onset_rnn`, `onset_rnn_online`, `onset_cnn`, `beat_blstm`, `beat_lstm_online`,
`downbeat_blstm`, `onset_postprocess`, `leglaive`; parts `SideBySide`, `AsSequence`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import linen as nn

from mirjax.models import blocks, taggers
from mirjax.models.blocks import Conv
from mirjax.models.geometry import Window
from mirjax.models.recurrent import Recurrent
from mirjax.models.zoo import scaled
from mirjax.signal.compression import Decibels
from mirjax.signal.descriptors import OnsetStrength
from mirjax.signal.presets import preset
from mirjax.signal.representations import LogMel

CONTEXT = 7  # frames before and after the one that the onset CNN decides on


def _tracker(representation, cell, units, *, num_classes, num_steps=None, **options):
    """Recurrent layers and an output on every step."""
    recurrent = Recurrent(cell, units, **options)
    return taggers.Network(representation, recurrent, head=blocks.Head(num_classes), num_steps=num_steps)


# ── onsets ──


def tutorial_onset_rnn(n: int, *, num_classes: int = 1, cell: str = "rnn") -> taggers.Network:
    """Onset network of the ISMIR 2018 tutorial: three bidirectional layers of n units a direction.

    `cell="lstm"`: the slides' variant without tanh units (Keras' LSTM: no peepholes).
    """
    representation = preset("tutorial_onset").representation
    return _tracker(representation, cell, (n,) * 3, num_classes=num_classes, bidirectional=True)


def onset_rnn(n: int, *, num_classes: int = 1) -> taggers.Network:
    """madmom's onset network: three bidirectional tanh layers of n units a direction."""
    representation = preset("onset_rnn").representation
    return _tracker(representation, "rnn", (n,) * 3, num_classes=num_classes, bidirectional=True)


def onset_rnn_online(n: int, *, num_classes: int = 1) -> taggers.Network:
    """madmom's onset network that hears the past only: three tanh layers of n units."""
    return _tracker(preset("onset_rnn_online").representation, "rnn", (n,) * 3, num_classes=num_classes)


def onset_cnn(n: int, *, num_classes: int = 1, activation: str = "tanh", padded: bool = True) -> taggers.Network:
    """Onset network of two convolutions (n and 2 n filters) and a dense layer, slid over the sequence.

    The layer of 256 units that sees seven steps is computed as a convolution, so that neighbouring frames share
    everything below it.

    Args:
      n: filters of the first layer.
      num_classes: outputs a frame.
      activation: of the convolutions: `tanh` as in the released weights; the paper's best is `relu`.
      padded: repeat the first and the last frame seven times, so that every frame has an output (as madmom does); else
        there are T − 14, the first one for frame 7.

    Reference: Schlüter & Böck 2014; ARCHITECTURES §9.4.
    """
    convolutions = (
        Conv(n, (7, 3), padding="valid", activation=activation, pool=(1, 3), init="glorot_uniform"),
        Conv(
            scaled(20, n, 10),
            (3, 3),
            padding="valid",
            activation=activation,
            pool=(1, 3),
            dropout=0.5,
            init="glorot_uniform",
        ),
    )
    dense = Conv(scaled(256, n, 10), (7,), padding="valid", activation="sigmoid", init="glorot_uniform")
    front_end = blocks.Chain(
        (
            SideBySide(3, CONTEXT if padded else 0),
            blocks.Stack(convolutions),
            AsSequence(),
            blocks.Stack((dense,), names=("dense1",)),
        )
    )
    head = blocks.Head(num_classes, dropout=0.5)
    return taggers.Network(preset("onset_cnn").representation, front_end, head=head, num_steps=2 * CONTEXT + 1)


def onset_postprocess(n: int, *, num_classes: int = 1) -> taggers.Network:
    """Network that cleans an onset activation f32[B, T, 1] of 100 frames a second: two bidirectional layers of n units.

    Give the activation of another network to `embed`. Called with audio it hears spectral flux instead, which stands
    in for the activation.
    """
    flux = OnsetStrength(LogMel(44_100, 2048, 441, 80, compression=Decibels(top_db=None)))
    return _tracker(flux, "rnn", (n,) * 2, num_classes=num_classes, bidirectional=True)


# ── beats ──


def beat_blstm(n: int, *, num_classes: int = 1, bands_per_octave: int = 6, peepholes: bool = True) -> taggers.Network:
    """madmom's beat network: three bidirectional LSTM layers of n units a direction.

    Args:
      n: units of a direction of a layer.
      num_classes: outputs a frame.
      bands_per_octave: of the three resolutions; 6 (266 inputs, the networks of 2015) or 3 (138, those of 2013).
      peepholes: whether the gates see the cell.
    """
    representation = dataclasses.replace(preset("beat_blstm").representation, num_bands=(bands_per_octave,) * 3)
    return _blstm(representation, n, num_classes, peepholes=peepholes, bidirectional=True)


def beat_lstm_online(n: int, *, num_classes: int = 1, peepholes: bool = True) -> taggers.Network:
    """madmom's beat network that hears the past only: three LSTM layers of n units."""
    return _blstm(preset("beat_lstm_online").representation, n, num_classes, peepholes=peepholes)


def downbeat_blstm(n: int, *, num_classes: int = 3, peepholes: bool = True) -> taggers.Network:
    """madmom's downbeat network: as `beat_blstm`; no beat, beat and downbeat exclude each other (softmax)."""
    return _blstm(preset("downbeat_blstm").representation, n, num_classes, peepholes=peepholes, bidirectional=True)


def _blstm(representation, n, num_classes, **options):
    return _tracker(representation, "lstm", (n,) * 3, num_classes=num_classes, forget_bias=0.0, **options)


# ── singing voice ──


def leglaive(n: int, *, num_classes: int = 1) -> taggers.Network:
    """Singing-voice network: bidirectional LSTM layers of n, 2/3 n and 4/3 n units a direction (30, 20, 40).

    Trained on sequences of 218 frames; takes any number.
    """
    units = tuple(scaled(size, n, 30) for size in (30, 20, 40))
    voice = preset("leglaive")
    return _tracker(
        voice.representation, "lstm", units, num_classes=num_classes, num_steps=voice.num_frames, bidirectional=True
    )


# ── parts ──


class SideBySide(nn.Module):
    """Spectrograms that lie side by side become channels, normalised by constants: [B, T, C·F] → [B, T, F, C].

    The mean and the variance of every band of every channel are held like batch norm's running averages, without a
    scale or a shift: 0 and 1 at first, fitted in training (or set by hand to those of the training data).

    Attributes:
      num_channels: C.
      context: times that the first and the last real frame are repeated, before and after.
    """

    num_channels: int
    context: int = 0

    feature_layers = ()

    @property
    def windows(self) -> tuple[Window, ...]:
        """Frames are added, none is used up."""
        return (Window("the repeated frames", 1, padding=2 * self.context),) if self.context else ()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """x f32[B, T, C·F] → f32[B, T + 2·context, F, C].

        Raises:
          ValueError: bands that cannot be divided among the channels.
        """
        if x.shape[-1] % self.num_channels:
            raise ValueError(f"{x.shape[-1]} bands cannot be shared by {self.num_channels} channels of one size")
        normalise = blocks.BatchNorm(blocks.Norm(epsilon=1e-5), affine=False, name="normalise")
        x = normalise(blocks.mask_time(x, steps), train=train, steps=steps)
        if self.context:
            last = jnp.full(x.shape[:1], x.shape[1] - 1) if steps is None else jnp.maximum(steps - 1, 0)
            frames = jnp.arange(-self.context, x.shape[1] + self.context)
            frames = jnp.clip(frames[None], 0, last[:, None])
            x = jnp.take_along_axis(x, frames[..., None], axis=1)
        return jnp.moveaxis(x.reshape(*x.shape[:2], self.num_channels, -1), 2, 3)


class AsSequence(nn.Module):
    """The bands of a map become channels: [B, T, F, C] → [B, T, F·C]."""

    feature_layers = ()
    windows = ()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """x [B, T, F, C] → [B, T, F·C]."""
        return x.reshape(*x.shape[:2], -1)

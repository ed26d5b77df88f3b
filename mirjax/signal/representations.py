"""Representations: what a model sees of the audio, as values.

A representation is a frozen dataclass without parameters, `audio f32[..., N] → f32[..., T, F]`, that knows its
`sample_rate`, `frame_rate` and `num_bins`. Models carry one, so a model and its input cannot drift apart.
Names: `Waveform`, `LogMel`.
"""

import dataclasses

import jax

from mirjax.signal import mel, stft


@dataclasses.dataclass(frozen=True)
class Waveform:
    """The samples themselves, f32[..., N] → f32[..., N]: for networks that learn from the waveform."""

    sample_rate: int = 12_000

    num_bins = 1

    @property
    def frame_rate(self) -> float:
        """Steps per second."""
        return float(self.sample_rate)

    def shape(self, num_samples: int) -> tuple[int, ...]:
        """Shape of the representation of `num_samples` samples."""
        return (num_samples,)

    def __call__(self, audio: jax.Array) -> jax.Array:
        """Audio f32[..., N], unchanged."""
        return audio


@dataclasses.dataclass(frozen=True)
class LogMel:
    """Log-mel spectrogram in decibels; the defaults are chapter 4 of Pons' thesis.

    Attributes:
      sample_rate: hertz.
      n_fft: frame length in samples.
      hop_length: hop in samples.
      n_mels: mel bands from 0 Hz to half the sample rate (Slaney).
      top_db: floor below each clip's maximum, decibels (reference power 1).

    Reference: Pons (2019), section 4.3; ARCHITECTURES §5.1.
    """

    sample_rate: int = 12_000
    n_fft: int = 512
    hop_length: int = 256
    n_mels: int = 96
    top_db: float = 80.0

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def num_bins(self) -> int:
        """Frequency bands."""
        return self.n_mels

    def shape(self, num_samples: int) -> tuple[int, ...]:
        """Shape (T, F) of the representation of `num_samples` samples."""
        return (stft.num_frames(num_samples, self.hop_length), self.n_mels)

    def __call__(self, audio: jax.Array) -> jax.Array:
        """Audio f32[..., N] → decibels f32[..., T, n_mels]."""
        power = mel.mel_spectrogram(
            audio,
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            n_mels=self.n_mels,
        )
        return mel.power_to_db(power, top_db=self.top_db)

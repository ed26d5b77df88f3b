"""Descriptors: representations of one musical property at a time, as values like those of `representations`.

`audio f32[..., N] → f32[..., T, F]`; most have a single value a frame. All but `TwoStageHPSS` come in pieces as well.
Names: `OnsetStrength`, `Tempogram`, `Pitch`, `SpectralShape`, `Loudness`, `HarmonicPercussive`, `TwoStageHPSS`,
`PreEmphasis`, `Resampled`.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from mirjax.signal import checks, hpss, loudness, mel, pitch, resample, rhythm, spectral, stft
from mirjax.signal.compression import Decibels
from mirjax.signal.representations import Derived, LogMel, Representation, compress
from mirjax.signal.streaming import Frames, Local, Recurrence, WholeClip

_LIBROSA = LogMel(22_050, 2048, 512, 128, compression=Decibels(top_db=None))
_LEGLAIVE = LogMel(16_000, 512, 256, 40, compression=Decibels(top_db=None))


@dataclasses.dataclass(frozen=True)
class OnsetStrength(Derived):
    """Onset envelope of a log-mel spectrogram, one value a frame.

    Attributes:
      log_mel: a `LogMel`; librosa's default is in decibels with top_db=80, which cannot be streamed.
      lag, max_size, aggregate: as in `rhythm.onset_strength`.
    """

    source = "log_mel"

    log_mel: LogMel = _LIBROSA
    lag: int = 1
    max_size: int = 1
    aggregate: str = "mean"

    num_bins = 1

    def stages(self):
        """Log-mel, mean rise."""
        settings = {
            "lag": self.lag,
            "max_size": self.max_size,
            "aggregate": self.aggregate,
            "center": self.log_mel.center,
            "n_fft": self.log_mel.n_fft,
            "hop_length": self.hop_length,
        }
        delay = self.log_mel.n_fft // (2 * self.hop_length) if self.log_mel.center else 0

        def envelope(bands):
            return rhythm.onset_strength(bands, **settings)[..., None]

        return (*self.log_mel.stages(), Local(envelope, self.lag + delay, 0))


@dataclasses.dataclass(frozen=True)
class Tempogram(Derived):
    """Local autocorrelation of an onset envelope: f32[..., N] → f32[..., T, win_length].

    Attributes:
      onsets: the envelope's representation.
      win_length, window, norm: as in `rhythm.tempogram`.
    """

    source = "onsets"

    onsets: OnsetStrength = OnsetStrength()
    win_length: int = 384
    window: str | tuple = "hann"
    norm: float | None = math.inf

    @property
    def num_bins(self) -> int:
        """Lags."""
        return self.win_length

    def stages(self):
        """Onset envelope, autocorrelation of the frames around each."""

        def transform(envelope):
            return rhythm.tempogram(envelope[..., 0], win_length=self.win_length, window=self.window, norm=self.norm)

        reach = self.win_length // 2
        return (*self.onsets.stages(), Local(transform, reach, reach))


@dataclasses.dataclass(frozen=True)
class Pitch(Representation):
    """Fundamental frequency by YIN in hertz, one value a frame.

    Attributes:
      sample_rate: hertz.
      fmin, fmax: range in hertz; C2 to C7.
      frame_length, hop_length, trough_threshold, pad_mode: as in `pitch.yin`.
    """

    sample_rate: int = 22_050
    fmin: float = 65.41
    fmax: float = 2093.0
    frame_length: int = 2048
    hop_length: int = 512
    trough_threshold: float = 0.1
    pad_mode: str = "constant"

    num_bins = 1

    def stages(self):
        """Frames."""

        def transform(frames):
            settings = {"fmin": self.fmin, "fmax": self.fmax, "sample_rate": self.sample_rate}
            return pitch.yin_frames(frames, trough_threshold=self.trough_threshold, **settings)[..., None]

        return (Frames(transform, self.frame_length, self.hop_length, True, self.pad_mode),)


@dataclasses.dataclass(frozen=True)
class SpectralShape(Representation):
    """Level and shape of each magnitude spectrum: rms, centroid, bandwidth, roll-off, flatness, f32[..., T, 5].

    Attributes:
      sample_rate: hertz.
      n_fft, hop_length, window, pad_mode: as in `stft.stft`; the level is that of the samples, not windowed.
      roll_percent: as in `spectral.spectral_rolloff`.
    """

    sample_rate: int = 22_050
    n_fft: int = 2048
    hop_length: int = 512
    window: str | tuple = "hann"
    pad_mode: str = "constant"
    roll_percent: float = 0.85

    num_bins = 5

    def stages(self):
        """Frames."""
        checks.positive(sample_rate=self.sample_rate)
        if not 0 < self.roll_percent < 1:
            raise ValueError(f"roll_percent={self.roll_percent!r} must lie between 0 and 1")
        hop_length, window = stft.windowed(self.n_fft, self.hop_length, None, self.window)
        hertz = np.fft.rfftfreq(self.n_fft, 1 / self.sample_rate)

        def describe(frames):
            magnitude = stft.to_power(stft.power(jnp.fft.rfft(frames * jnp.asarray(window[None], frames.dtype))), 1)
            values = (
                spectral.rms_of_frames(frames),
                spectral.centroid(magnitude, hertz),
                spectral.bandwidth(magnitude, hertz),
                spectral.rolloff(magnitude, hertz, roll_percent=self.roll_percent),
                spectral.flatness(magnitude),
            )
            return jnp.stack(values, axis=-1)

        return (Frames(describe, self.n_fft, hop_length, True, self.pad_mode),)


@dataclasses.dataclass(frozen=True)
class Loudness(Representation):
    """Momentary (400 ms) or short-term (3 s) loudness in LKFS, ten values a second, f32[..., T, 1], one channel.

    The first value stands for the first full window. The integrated loudness is gated by a whole clip
    (`loudness.integrated_loudness`) and no representation.

    Attributes:
      sample_rate: hertz.
      windows: tenths of a second that a value covers: 4 or 30.
    """

    sample_rate: int = 48_000
    windows: int = 4

    num_bins = 1

    @property
    def hop_length(self) -> int:
        """Samples from value to value."""
        return round(self.sample_rate / 10)

    def stages(self):
        """K-weighting, level of each window."""

        def weight(audio, state):
            return loudness.k_weight(audio, sample_rate=self.sample_rate, state=state)

        def level(frames):
            hops = (frames**2).reshape(len(frames), self.windows, self.hop_length).mean(axis=-1)
            return loudness.level(hops.mean(axis=-1, keepdims=True))

        return (
            Recurrence(weight, axis=-1),
            Frames(level, self.windows * self.hop_length, self.hop_length, center=False),
        )


@dataclasses.dataclass(frozen=True)
class HarmonicPercussive(Derived):
    """Log-mel bands of the harmonic part and, behind them, of the percussive part: f32[..., T, 2·n_mels].

    Attributes:
      log_mel: a `LogMel` (energies are taken of the separated magnitudes).
      kernel_size, power, margin: as in `hpss.hpss`.
    """

    source = "log_mel"

    log_mel: LogMel = _LIBROSA
    kernel_size: int = 31
    power: float = 2.0
    margin: float = 1.0

    @property
    def num_bins(self) -> int:
        """Bands of both parts."""
        return 2 * self.log_mel.num_bins

    def stages(self):
        """Magnitudes, separation, mel bands, compression."""
        source = self.log_mel
        if source.start_aligned:
            raise ValueError("start_aligned=True has no meaning here: parts are separated in centred windows")
        hop_length, window = stft.windowed(source.n_fft, source.hop_length, source.win_length, source.window)
        bank = source.filters()

        def magnitude(frames):
            return stft.to_power(stft.power(jnp.fft.rfft(frames * jnp.asarray(window[None], frames.dtype))), 1)

        def separate(magnitudes):
            settings = {"kernel_size": self.kernel_size, "power": self.power, "margin": self.margin}
            parts = hpss.hpss(magnitudes, **settings)
            bands = [mel.apply_filters(part**source.power, bank) for part in parts]
            return jnp.concatenate(bands, axis=-1)

        reach = self.kernel_size // 2
        return (
            Frames(magnitude, source.n_fft, hop_length, source.center, source.pad_mode),
            Local(separate, reach, reach),
            *source.between(),
            compress(source.compression),
        )


@dataclasses.dataclass(frozen=True)
class TwoStageHPSS(Derived):
    """Log-mel bands of the voice-like and the percussive part of two-stage separation, f32[..., T, 2·n_mels].

    Attributes:
      log_mel: a `LogMel`.
      n_fft, hop_length_stages, kernel_size: as in `hpss.two_stage_hpss`.

    Reference: Leglaive, Hennequin & Badeau (2015), section 2.
    """

    source = "log_mel"

    log_mel: LogMel = _LEGLAIVE
    n_fft: tuple[int, int] = (4096, 512)
    hop_length_stages: tuple[int, int] = (2048, 256)
    kernel_size: int = 31

    @property
    def num_bins(self) -> int:
        """Bands of both parts."""
        return 2 * self.log_mel.num_bins

    def stages(self):
        """Both separations, log-mel bands."""
        if self.log_mel.num_channels != 1:
            raise ValueError(f"num_channels={self.log_mel.num_channels}: the separation takes one channel at a time")

        def transform(audio):
            parts = hpss.two_stage_hpss(
                audio, n_fft=self.n_fft, hop_length=self.hop_length_stages, kernel_size=self.kernel_size
            )
            bands = [self.log_mel(part) for part in (parts.harmonic, parts.percussive)]
            return jnp.concatenate(bands, axis=-1)

        reason = "the two separations invert a transform of the whole clip; use HarmonicPercussive, which has one"
        return (WholeClip(transform, reason),)


@dataclasses.dataclass(frozen=True)
class PreEmphasis(Derived):
    """Another representation of the audio after y[n] = x[n] − coef · x[n − 1].

    Attributes:
      then: what is made of it.
      coef: 0 to 1.
    """

    source = "then"

    then: Representation
    coef: float = 0.97

    def stages(self):
        """Emphasis, then the rest; the first sample is extrapolated from the first two."""
        emphasise = Local(lambda audio: spectral.preemphasis(audio, coef=self.coef), 1, 1, axis=-1)
        return (emphasise, *self.then.stages())


@dataclasses.dataclass(frozen=True)
class _Resampling(Frames):
    """Frames of `resample.Plan`, whose last outputs end with the clip."""

    plan: resample.Plan | None = None
    axis = -1

    def finish(self, state):
        if state.values is None or not state.values.shape[-1]:
            return None
        left = state.values.shape[-1] - state.skip - self.plan.before
        outputs = -(-left * self.plan.up // self.plan.down)
        if outputs <= 0:
            return self._no_frames(state.values).reshape(*state.values.shape[:-1], 0)
        frames = -(-outputs // self.plan.num_outputs)
        after = state.skip + (frames - 1) * self.hop_length + self.frame_length - state.values.shape[-1]
        samples = self._pad(state.values, 0, max(0, after))[..., state.skip :]
        rest = self._map(samples, False)[..., :frames, :]
        return rest.reshape(*rest.shape[:-2], -1)[..., :outputs]

    def step(self, state, chunk):
        state, frames = super().step(state, chunk)
        return state, frames.reshape(*frames.shape[:-2], -1)


@dataclasses.dataclass(frozen=True)
class Resampled(Derived):
    """Another representation of audio that comes at a different sample rate.

    Attributes:
      then: what is made of the resampled audio; its own `sample_rate` is the target.
      sample_rate: hertz of the audio given.
      num_zeros: as in `resample.resample`.
    """

    source = "then"

    then: Representation
    sample_rate: int = 44_100
    num_zeros: int = 128

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.then.frame_rate

    def stages(self):
        """Resampling, then the rest."""
        rates = {"orig_rate": self.sample_rate, "target_rate": self.then.sample_rate, "num_zeros": self.num_zeros}
        plan = resample.plan(**rates)
        if plan.up == plan.down:
            return self.then.stages()
        first = _Resampling(
            lambda frames: resample.resample_frames(frames, plan),
            plan.frame_length,
            plan.hop_length,
            (plan.before, 0),
            whole=lambda audio: resample.resample(audio, **rates),
            plan=plan,
        )
        return (first, *self.then.stages())

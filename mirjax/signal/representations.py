"""Representations: what a model sees of the audio, as values.

A representation is a frozen dataclass without parameters, `audio f32[..., N] → f32[..., T, F]`, that knows its
`sample_rate`, `frame_rate` and `num_bins`. Models carry one, so a model and its input cannot drift apart. All but those
that look at a whole clip also come in pieces, `init`, `step`, `finish` (see `streaming`), with the same numbers.
`descriptors` has more of them (onsets, tempo, pitch, loudness, …), `presets` those of the literature.
Names: `Representation`, `Waveform`, `Spectrogram`, `LogMel`, `MFCC`, `LogCQT`, `Chroma`, `CENS`, `FilteredSpectrogram`.
"""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mirjax.signal import cepstral, checks, chroma, cqt, filtered, filters, mel, stft
from mirjax.signal.compression import Decibels, Linear
from mirjax.signal.streaming import Chain, Frames, Local, Pointwise, Recurrence, WholeClip


@functools.partial(jax.jit, static_argnums=0)
def _whole(representation, audio):
    return Chain(representation.stages())(audio)


@functools.partial(jax.jit, static_argnums=0)
def _step(representation, state, samples):
    return Chain(representation.stages()).step(state, samples)


@functools.partial(jax.jit, static_argnums=0)
def _finish(representation, state, samples):
    chain = Chain(representation.stages())
    if samples is None:
        return chain.finish(state)
    state, ready = chain.step(state, samples)
    rest = chain.finish(state)
    return ready if rest is None else jnp.concatenate([ready, rest], axis=chain.stages[-1].axis)


@functools.partial(jax.tree_util.register_dataclass, data_fields=("waiting", "inner"), meta_fields=("begun",))
@dataclasses.dataclass(frozen=True)
class State:
    """State of a stream.

    Attributes:
      waiting: samples [..., n] that complete no frame yet; None before the first chunk.
      inner: the stages' states.
      begun: whether a frame has been completed.
    """

    waiting: jax.Array | np.ndarray | None
    inner: tuple
    begun: bool = False


class Representation:
    """What all representations share; a subclass is a frozen dataclass that says its `stages` and `num_bins`.

    With `num_channels` above 1 the audio is [..., C, N] and the frames are [..., T, F, C].
    """

    num_channels = 1
    hop_length = 1

    def __post_init__(self):
        try:
            hash(self)
        except TypeError as error:
            raise ValueError(
                f"{type(self).__name__} holds a setting that cannot be hashed ({error}); give windows by name, numbers "
                "instead of arrays, tuples instead of lists"
            ) from None

    def stages(self) -> tuple:
        """Stages of `streaming` that make the frames of samples f32[..., N]."""
        raise NotImplementedError

    @property
    def num_bins(self) -> int:
        """Values a frame."""
        raise NotImplementedError

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        checks.positive(sample_rate=self.sample_rate, hop_length=self.hop_length)
        return self.sample_rate / self.hop_length

    def shape(self, num_samples: int) -> tuple[int, ...]:
        """Shape (T, F), or (T, F, C), of the representation of `num_samples` samples."""
        channels = () if self.num_channels == 1 else (self.num_channels,)
        return jax.eval_shape(self, jax.ShapeDtypeStruct((*channels, num_samples), jnp.float32)).shape

    def _check(self, audio):
        checks.positive(sample_rate=self.sample_rate)
        checks.integer(num_channels=self.num_channels)
        return checks.as_audio(self._check_channels(audio))

    def _check_channels(self, audio):
        if self.num_channels > 1 and (np.ndim(audio) < 2 or np.shape(audio)[-2] != self.num_channels):
            raise ValueError(
                f"audio of shape {np.shape(audio)} must be [..., {self.num_channels}, N]: {type(self).__name__} has "
                f"num_channels={self.num_channels}; repeat a mono clip on a new axis"
            )
        return audio

    def _channels_last(self, frames):
        return frames if self.num_channels == 1 or frames is None else jnp.moveaxis(frames, -3, -1)

    def __call__(self, audio: jax.Array) -> jax.Array:
        """Audio f32[..., N] → f32[..., T, F].

        Raises:
          ValueError: for integer, empty or (outside of `jit`) non-finite audio, channels that do not fit, or settings
            that contradict each other.
        """
        return self._channels_last(_whole(self, self._check(audio)))

    def init(self) -> State:
        """State of a stream before its first sample.

        Raises:
          ValueError: if the representation needs the whole clip; it says why and what to change.
        """
        checks.positive(sample_rate=self.sample_rate)
        return State(None, Chain(self.stages()).init())

    def step(self, state: State, chunk: jax.Array) -> tuple[State, jax.Array]:
        """(state, samples f32[..., n]) → (state, the frames they complete f32[..., t, F], t ≥ 0).

        Chunks may have any length. What does not complete a frame waits, so that few programs are compiled. The same
        state may be stepped from again: nothing is changed in place.

        Raises:
          ValueError: for bad samples, a chunk whose other axes are not those of the chunks before, no state.
        """
        if not isinstance(state, State):
            raise ValueError(f"state is {type(state).__name__}; begin with state = representation.init()")
        empty = np.ndim(chunk) > 0 and np.shape(chunk)[-1] == 0
        samples = jnp.asarray(self._check_channels(chunk), float) if empty else self._check(chunk)
        waiting = state.waiting
        if waiting is not None and waiting.shape[:-1] != samples.shape[:-1]:
            raise ValueError(
                f"chunk of shape {samples.shape} does not go on from chunks of shape {(*waiting.shape[:-1], '...')}; "
                "begin a new stream for other clips"
            )
        if not isinstance(samples, jax.core.Tracer) and not isinstance(waiting, jax.core.Tracer):
            samples = np.asarray(samples)  # the host joins and cuts without compiling
        join = np.concatenate if isinstance(samples, np.ndarray) else jnp.concatenate
        samples = samples if waiting is None else join([waiting, samples], axis=-1)
        first, hop = _rhythm(self)
        due = 0 if state.begun else first
        count = samples.shape[-1]
        taken = due + (count - due) // hop * hop if count >= due else 0
        if not taken:
            return dataclasses.replace(state, waiting=samples), self._channels_last(self._no_frames(samples))
        inner, frames = _step(self, state.inner, samples[..., :taken])
        return State(samples[..., taken:], inner, True), self._channels_last(frames)

    def _no_frames(self, samples):
        shape, dtype = _nothing(self, samples.shape[:-1], samples.dtype)
        return jnp.zeros(shape, dtype)

    def finish(self, state: State) -> jax.Array | None:
        """The frames f32[..., t, F] that waited for the clip's end; None if there were no samples or never are any.

        A clip too short for an uncentred frame has no frames here, where the whole clip is an error.
        """
        if state.waiting is None:
            return None
        waiting = state.waiting if state.waiting.shape[-1] else None
        return self._channels_last(_finish(self, state.inner, waiting))


class Derived(Representation):
    """A representation made of another, which the field named `source` holds, in step with it."""

    source: ClassVar[str]

    @property
    def sample_rate(self) -> int:
        """Hertz."""
        return getattr(self, self.source).sample_rate

    @property
    def hop_length(self) -> int:
        """Samples from frame to frame."""
        return getattr(self, self.source).hop_length

    @property
    def num_channels(self) -> int:
        """Channels of the audio."""
        return getattr(self, self.source).num_channels

    @property
    def num_bins(self) -> int:
        """Values a frame."""
        return getattr(self, self.source).num_bins


@functools.lru_cache
def _rhythm(representation):
    return Chain(representation.stages()).rhythm


@functools.lru_cache
def _nothing(representation, leading, dtype):
    """Shape and type of no frames."""
    chain = Chain(representation.stages())
    _, frames = jax.eval_shape(chain.step, chain.init(), jax.ShapeDtypeStruct((*leading, 0), dtype))
    return frames.shape, frames.dtype


def compress(values) -> Pointwise | Recurrence | WholeClip:
    """The stage of a compression.

    Raises:
      ValueError: for anything but a value of `compression`.
    """
    if not callable(values) or not hasattr(values, "needs_whole_clip"):
        raise ValueError(f"compression={values!r} must be a value such as compression.Decibels() or LogScaled(10_000)")
    if values.needs_whole_clip:
        return WholeClip(values, values.needs_whole_clip)
    return Recurrence(values.step) if hasattr(values, "step") else Pointwise(values)


def unless_empty(function, num_bins):
    """`function`, and no frames for no frames."""

    def guarded(values):
        return function(values) if values.size else jnp.zeros((*values.shape[:-1], num_bins), values.dtype)

    return guarded


@dataclasses.dataclass(frozen=True)
class Waveform(Representation):
    """The samples themselves, f32[..., N] → f32[..., N]: for networks that learn from the waveform."""

    sample_rate: int = 12_000

    num_bins = 1

    def stages(self):
        """One that does nothing."""
        return (Pointwise(lambda audio: audio, axis=-1),)


@dataclasses.dataclass(frozen=True)
class Spectrogram(Representation):
    """|STFT|^power, compressed.

    Attributes:
      sample_rate: hertz.
      n_fft, hop_length, win_length, window, center, pad_mode: as in `stft.stft`; the window by name.
      power: 1 for magnitudes, 2 for energies.
      compression: value of `compression`.
    """

    sample_rate: int = 22_050
    n_fft: int = 2048
    hop_length: int = 512
    win_length: int | None = None
    window: str | tuple = "hann"
    center: bool = True
    pad_mode: str = "constant"
    power: float = 1.0
    compression: object = Linear()
    num_channels: int = 1

    @property
    def num_bins(self) -> int:
        """Frequency bins."""
        return 1 + self.n_fft // 2

    def stages(self):
        """Frames, compression."""
        checks.positive(power=self.power)
        hop_length, window = stft.windowed(self.n_fft, self.hop_length, self.win_length, self.window)

        def magnitude(frames):
            spectrum = jnp.fft.rfft(frames * jnp.asarray(window[None], frames.dtype))
            return stft.to_power(stft.power(spectrum), self.power)

        return (
            Frames(magnitude, self.n_fft, hop_length, self.center, self.pad_mode),
            compress(self.compression),
        )


@dataclasses.dataclass(frozen=True)
class LogMel(Representation):
    """Compressed mel spectrogram; the defaults are chapter 4 of Pons' thesis.

    Attributes:
      sample_rate: hertz.
      n_fft, hop_length, win_length, window, center, pad_mode: as in `stft.stft`; the window by name.
      n_mels, fmin, fmax, scale, norm, weighting: as in `filters.mel_filters`.
      power: 2 for energies, 1 for magnitudes.
      compression: value of `compression`.
      start_aligned: frames of `win_length` samples, with the zeros up to `n_fft` behind them (VGGish), not around.
      mel_power: exponent of the mel bands before the compression (2: decibels of amplitude⁴, a slip of released code).
      half_precision: round the mel bands to float16 before the compression (musicnn).
      num_channels: 1 for mono.

    Reference: Pons (2019), section 4.3; ARCHITECTURES §5.1.
    """

    sample_rate: int = 12_000
    n_fft: int = 512
    hop_length: int = 256
    n_mels: int = 96
    compression: object = Decibels()
    fmin: float = 0.0
    fmax: float | None = None
    scale: str = "slaney"
    norm: str | float | None = "slaney"
    weighting: str = "hertz"
    win_length: int | None = None
    window: str | tuple = "hann"
    center: bool = True
    pad_mode: str = "constant"
    power: float = 2.0
    start_aligned: bool = False
    mel_power: float = 1.0
    half_precision: bool = False
    num_channels: int = 1

    @property
    def num_bins(self) -> int:
        """Mel bands."""
        return self.n_mels

    def filters(self) -> np.ndarray:
        """The filter bank, f64[n_mels, 1 + n_fft // 2]."""
        return filters.mel_filters(
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            n_mels=self.n_mels,
            fmin=self.fmin,
            fmax=self.fmax,
            scale=self.scale,
            norm=self.norm,
            weighting=self.weighting,
        )

    def bands(self) -> Frames:
        """The stage that makes mel bands of samples."""
        checks.positive(power=self.power, mel_power=self.mel_power)
        hop_length, window = stft.windowed(self.n_fft, self.hop_length, self.win_length, self.window)
        length = self.n_fft
        if self.start_aligned:
            length = self.win_length or self.n_fft
            window = np.pad(stft.get_window(self.window, length), (0, self.n_fft - length))
        bank = self.filters()

        def transform(frames):
            frames = jnp.pad(frames, ((0, 0), (0, self.n_fft - length)))
            return mel.mel_of_frames(frames, window=window, filters=bank, power=self.power)

        return Frames(transform, length, hop_length, self.center, self.pad_mode)

    def between(self) -> tuple:
        """The stages between mel bands and compression."""
        between = []
        if self.mel_power != 1:
            between.append(Pointwise(lambda bands: bands**self.mel_power))
        if self.half_precision:
            between.append(Pointwise(lambda bands: bands.astype(jnp.float16).astype(bands.dtype)))
        return tuple(between)

    def stages(self):
        """Frames, compression."""
        return (self.bands(), *self.between(), compress(self.compression))


@dataclasses.dataclass(frozen=True)
class MFCC(Derived):
    """Mel-frequency cepstral coefficients of a log-mel spectrogram, with their derivatives behind them.

    Attributes:
      log_mel: a `LogMel`; the default is librosa's.
      n_mfcc, dct_type, norm, lifter: as in `cepstral.log_mel_to_mfcc`.
      deltas: derivatives in time, 0, 1 or 2 orders, by `cepstral.delta` of the coefficients.
      delta_width: frames they are fitted to.
      delta_mode: what they see outside the clip; "interp" needs `delta_width` frames.
    """

    source = "log_mel"

    log_mel: LogMel = LogMel(sample_rate=22_050, n_fft=2048, hop_length=512, n_mels=128)
    n_mfcc: int = 20
    dct_type: int = 2
    norm: str | None = "ortho"
    lifter: float = 0
    deltas: int = 0
    delta_width: int = 9
    delta_mode: str = "nearest"

    @property
    def num_bins(self) -> int:
        """Coefficients and derivatives."""
        return self.n_mfcc * (1 + self.deltas)

    def stages(self):
        """Log-mel, cosine transform, derivatives."""
        if self.deltas not in (0, 1, 2):
            raise ValueError(f"deltas={self.deltas!r} must be 0, 1 or 2 orders of derivatives")
        transform = functools.partial(
            cepstral.log_mel_to_mfcc, n_mfcc=self.n_mfcc, dct_type=self.dct_type, norm=self.norm, lifter=self.lifter
        )
        stages = (*self.log_mel.stages(), Pointwise(unless_empty(transform, self.n_mfcc)))
        if not self.deltas:
            return stages
        settings = {"width": self.delta_width, "mode": self.delta_mode}

        def derive(coefficients):
            orders = [cepstral.delta(coefficients, order=order, **settings) for order in range(1, 1 + self.deltas)]
            return jnp.concatenate([coefficients, *orders], axis=-1)

        if self.delta_mode == "wrap":
            return (*stages, WholeClip(derive, "delta_mode='wrap' sees the clip's end at its start; use 'nearest'"))
        # At its ends "interp" looks as far as it is wide.
        reach = self.delta_width - 1 if self.delta_mode == "interp" else self.delta_width // 2
        return (*stages, Local(derive, reach, reach))


@dataclasses.dataclass(frozen=True)
class LogCQT(Representation):
    """Constant-Q (or variable-Q) energies, compressed.

    Attributes:
      sample_rate: hertz.
      hop_length, fmin, n_bins, bins_per_octave, tuning, filter_scale, gamma, window, pad_mode: as in `cqt.vqt`; gamma 0
        is the constant Q. The tuning is a number; to estimate it (`tuning.estimate_tuning`) takes a whole clip.
      power: 2 for energies, 1 for magnitudes.
      compression: value of `compression`.
    """

    sample_rate: int = 22_050
    hop_length: int = 512
    fmin: float | None = None
    n_bins: int = 84
    bins_per_octave: int = 12
    tuning: float = 0.0
    filter_scale: float = 1.0
    gamma: float | None = 0.0
    window: str | tuple = "hann"
    pad_mode: str = "constant"
    power: float = 2.0
    compression: object = Decibels()

    @property
    def num_bins(self) -> int:
        """Frequency bins."""
        return self.n_bins

    def magnitude(self) -> Frames:
        """The stage that makes |X|^power of samples."""
        checks.positive(power=self.power)
        settings = {
            "sample_rate": self.sample_rate,
            "hop_length": self.hop_length,
            "fmin": self.fmin,
            "n_bins": self.n_bins,
            "bins_per_octave": self.bins_per_octave,
            "tuning": self.tuning,
            "filter_scale": self.filter_scale,
            "gamma": self.gamma,
            "window": self.window,
        }

        def of_frames(frames):
            return stft.to_power(stft.power(cqt.cqt_frames(frames, **settings)), self.power)

        def of_clip(audio):
            return stft.to_power(stft.power(cqt.vqt(audio, pad_mode=self.pad_mode, **settings)), self.power)

        length = cqt.cqt_frame_length(**settings)
        return Frames(of_frames, length, self.hop_length, True, self.pad_mode, whole=of_clip)

    def stages(self):
        """Transform, compression."""
        return (self.magnitude(), compress(self.compression))


@dataclasses.dataclass(frozen=True)
class Chroma(Representation):
    """Chroma from the STFT: the energy of each pitch class, each frame divided by its norm.

    Attributes:
      sample_rate: hertz.
      n_fft, hop_length, window, pad_mode: as in `stft.stft`.
      n_chroma: pitch classes.
      tuning: of the bins, in fractions of a bin; a number, as an estimate takes a whole clip.
      norm: of each frame: inf, 1, 2 or None.
    """

    sample_rate: int = 22_050
    n_fft: int = 2048
    hop_length: int = 512
    window: str | tuple = "hann"
    pad_mode: str = "constant"
    n_chroma: int = 12
    tuning: float = 0.0
    norm: float | None = math.inf

    @property
    def num_bins(self) -> int:
        """Pitch classes."""
        return self.n_chroma

    def stages(self):
        """Frames."""
        hop_length, window = stft.windowed(self.n_fft, self.hop_length, None, self.window)
        bank = chroma.chroma_filters(
            sample_rate=self.sample_rate, n_fft=self.n_fft, n_chroma=self.n_chroma, tuning=self.tuning
        )

        def transform(frames):
            energies = mel.mel_of_frames(frames, window=window, filters=bank, power=2.0)
            return chroma.normalise_frames(energies, norm=self.norm)

        return (Frames(transform, self.n_fft, hop_length, True, self.pad_mode),)


@dataclasses.dataclass(frozen=True)
class CENS(Representation):
    """Chroma energy normalised statistics: quantised, smoothed constant-Q chroma.

    Attributes:
      sample_rate: hertz.
      hop_length, fmin, n_octaves, bins_per_octave, tuning, n_chroma: as in `chroma.chroma_cqt`.
      norm, win_len_smooth: as in `chroma.smooth_cens`.
    """

    sample_rate: int = 22_050
    hop_length: int = 512
    fmin: float | None = None
    n_octaves: int = 7
    bins_per_octave: int = 36
    tuning: float = 0.0
    n_chroma: int = 12
    norm: float | None = 2
    win_len_smooth: int | None = 41

    @property
    def num_bins(self) -> int:
        """Pitch classes."""
        return self.n_chroma

    def stages(self):
        """Constant-Q magnitudes, chroma, smoothing."""
        transform = LogCQT(
            sample_rate=self.sample_rate,
            hop_length=self.hop_length,
            fmin=self.fmin,
            n_bins=self.n_octaves * self.bins_per_octave,
            bins_per_octave=self.bins_per_octave,
            tuning=self.tuning,
            power=1.0,
        )
        fold = functools.partial(
            chroma.cqt_to_chroma,
            bins_per_octave=self.bins_per_octave,
            n_chroma=self.n_chroma,
            fmin=self.fmin,
            norm=None,
        )
        smooth = functools.partial(chroma.smooth_cens, norm=self.norm, win_len_smooth=self.win_len_smooth)
        reach = (self.win_len_smooth or 0) // 2 + 1
        return (
            transform.magnitude(),
            Pointwise(unless_empty(fold, self.n_chroma)),
            Local(smooth, reach, reach),
        )


@dataclasses.dataclass(frozen=True)
class FilteredSpectrogram(Representation):
    """Filtered spectrograms of several resolutions with their rises over time: what onset and beat networks see.

    Attributes:
      sample_rate: hertz.
      frame_sizes, hop_length, num_bands, mul, add, log, origin, end: as in `filtered.filtered_spectrogram`.
      bank_scale, fmin, fmax, unique: `scale` and others of the filter banks there.
      diff_ratio: `filtered.difference_lag`'s; None for no differences.
      max_size: width of the maximum filter of the differences, 1 for none.

    Reference: ARCHITECTURES §9.3, 9.4, 10.
    """

    sample_rate: int = 44_100
    frame_sizes: tuple[int, ...] = (1024, 2048, 4096)
    hop_length: int = 441
    num_bands: tuple[int, ...] = (3, 6, 12)
    mul: float = 1.0
    add: float = 1.0
    log: str | None = "log10"
    diff_ratio: float | None = 0.5
    max_size: int = 1
    bank_scale: str = "log"
    fmin: float = 30.0
    fmax: float = 17_000.0
    unique: bool = True
    origin: str = "center"
    end: str = "normal"

    @property
    def _bank(self):
        return {
            "sample_rate": self.sample_rate,
            "frame_sizes": self.frame_sizes,
            "num_bands": self.num_bands,
            "scale": self.bank_scale,
            "fmin": self.fmin,
            "fmax": self.fmax,
            "unique": self.unique,
        }

    @property
    def num_bins(self) -> int:
        """Bands and rises of all resolutions."""
        return sum(filtered.band_counts(**self._bank)) * (1 if self.diff_ratio is None else 2)

    def stages(self):
        """Frames of the largest size, differences."""
        checks.choice("origin", self.origin, filtered.ORIGINS)
        checks.choice("end", self.end, filtered.ENDS)
        length = filtered.frame_length(self.frame_sizes)
        before = length // 2 if self.origin == "center" else length - 1
        # "normal" has a frame for each t · hop < N, "extend" one more when t · hop = N.
        after = length - before - (1 if self.end == "normal" else 0)
        transform = functools.partial(
            filtered.filtered_frames, mul=self.mul, add=self.add, log=self.log, origin=self.origin, **self._bank
        )
        stages = (Frames(transform, length, self.hop_length, (before, after)),)
        if self.diff_ratio is None:
            return stages
        lags = [filtered.difference_lag(size, self.hop_length, diff_ratio=self.diff_ratio) for size in self.frame_sizes]
        stack = functools.partial(
            filtered.stack_differences, counts=filtered.band_counts(**self._bank), lags=lags, max_size=self.max_size
        )
        return (*stages, Local(stack, max(lags), 0))

"""Learnable front-ends: representations whose few parameters are trained with the network.

Arrays: waveforms `[B, N]` or spectrograms `[B, T, F]` in, maps `[B, T', C]` out; frequencies and widths are stored in
the units of their papers. Each starts at a known representation, keeps its parameters in their valid range at every
call (whatever an optimiser does to them), and has finite gradients at silence. Integers are refused; float16 and
bfloat16 are computed in, and come back as, float32, as in `mirjax.signal`.
`windows` says what each does to time; those with `masks = False` need clips of one length, to the others `steps
int32[B]` says how many steps of each row are real.
Source: Pons et al. (2019), log-learn (ARCHITECTURES §7.3); Ravanelli & Bengio (2018), SincNet; Zeghidour et al. (2021),
LEAF (both §7.3b); Wang et al. (2017), trainable PCEN.
Names: `LogLearn`, `SincFilters`, `SincNet`, `GaborFilters`, `SPCEN`, `Leaf`, `LearnableSTFT`, `LearnableMel`
(put one behind another by `blocks.Chain`).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from mirjax.models import geometry, layers
from mirjax.models.geometry import Window
from mirjax.signal import checks, filters, stft

_HIGHEST = lax.Precision.HIGHEST
# Full width at half maximum of a Gaussian of standard deviation 1 is 2 √(2 ln 2).
_HALF_WIDTH = math.sqrt(2 * math.log(2))


def _constant(values):
    """Initialiser that gives the same values for every key."""
    return lambda key: jnp.asarray(values, jnp.result_type(float))


def _row(values: jax.Array, ndim: int) -> jax.Array:
    """[C] as [1, …, 1, C]."""
    return values.reshape((1,) * (ndim - 1) + (-1,))


def _mel_points(low: float, high: float, count: int) -> np.ndarray:
    """Frequencies in hertz at equal distances on the HTK mel scale, f64[count]."""
    low, high = filters.hz_to_mel(np.array([low, high]), scale="htk")
    return filters.mel_to_hz(np.linspace(low, high, count), scale="htk")


def _as_waveforms(x, least: int, what: str) -> jax.Array:
    """Floating-point waveforms [B, N], at least float32; values are not looked at."""
    shape = np.shape(x)
    if len(shape) != 2 or shape[1] < least:
        raise ValueError(f"{what} needs waveforms [B, N] of at least {least} samples, got shape {shape}; pad the clip")
    return checks.as_array(x, f"the input of {what}", check_finite=False)


def _as_spectrogram(x, what: str) -> jax.Array:
    """Floating-point spectrogram [B, T, F], at least float32; values are not looked at."""
    shape = np.shape(x)
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"{what} needs a spectrogram [B, T, F], got shape {shape}")
    return checks.as_array(x, f"the input of {what}", check_finite=False)


class LogLearn(nn.Module):
    """Learnt logarithmic compression y = ln(exp(a) x + softplus(b)); two parameters.

    Attributes:
      a: initial a; α = exp(7) = 1096.633.
      b: initial b; β = softplus(1) = 1.313262.

    Reference: Pons, Serrà & Serra (2019), "Training neural audio classifiers with few data"; ARCHITECTURES §7.3.
    """

    a: float = 7.0
    b: float = 1.0

    feature_layers = ("log_learn",)
    windows = ()
    masks = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Power or magnitude spectrogram f32[B, T, F], not negative → f32[B, T, F]."""
        x = _as_spectrogram(x, "log-learn")
        a, b = self.param("a", _constant(self.a)), self.param("b", _constant(self.b))
        y = jnp.log(jnp.exp(a).astype(x.dtype) * x + nn.softplus(b).astype(x.dtype))
        layers.expose(self, "log_learn", y, steps=steps)
        return y


# ── SincNet ──


class SincFilters(nn.Module):
    """Band-pass filters, the difference of two sincs under a Hamming window; two parameters a filter.

    g[n] = (f₂ sinc(2 f₂ n) − f₁ sinc(2 f₁ n)) / (f₂ − f₁) · w[n], so the middle sample is 1;
    f₁ = f_min + |low|, f₂ = f₁ + b_min + |band|, both kept below half the sample rate.
    `low` and `band` are fractions of the sample rate; initially neighbouring bands at equal distances in mel from 30 Hz
    to half the sample rate less f_min + b_min, as the authors' code has it.

    Attributes:
      num_filters: filters.
      length: odd number of samples.
      sample_rate: hertz.
      min_low: lowest f₁, hertz.
      min_band: least f₂ − f₁, hertz.
    """

    num_filters: int = 80
    length: int = 251
    sample_rate: float = 16_000
    min_low: float = 50.0
    min_band: float = 50.0

    @nn.compact
    def edges(self) -> tuple[jax.Array, jax.Array]:
        """Cut-off frequencies (f₁, f₂) as fractions of the sample rate, f32[num_filters] each."""
        checks.integer(num_filters=self.num_filters, length=self.length)
        checks.positive(sample_rate=self.sample_rate, min_low=self.min_low, min_band=self.min_band)
        nyquist, least, band = 0.5, self.min_low / self.sample_rate, self.min_band / self.sample_rate
        top = self.sample_rate / 2 - self.min_low - self.min_band
        if top <= 30:
            raise ValueError(
                f"sample_rate={self.sample_rate} leaves no room for min_low={self.min_low} and min_band={self.min_band}"
            )
        points = _mel_points(30, top, self.num_filters + 1) / self.sample_rate
        low = self.param("low", _constant(points[:-1]))
        width = self.param("band", _constant(np.diff(points)))
        lower = jnp.minimum(least + jnp.abs(low), nyquist - band)
        return lower, jnp.minimum(lower + band + jnp.abs(width), nyquist)

    def __call__(self) -> jax.Array:
        """Returns kernel f32[length, 1, num_filters]."""
        if self.length % 2 == 0:
            raise ValueError(f"length={self.length} must be odd, so that the filters have a middle")
        lower, upper = self.edges()
        n = jnp.asarray(np.arange(self.length) - self.length // 2, lower.dtype)[:, None]
        window = 0.54 + 0.46 * np.cos(2 * np.pi * (np.arange(self.length) / max(self.length - 1, 1) - 0.5))
        lower, upper = lower[None], upper[None]
        band_pass = (upper * jnp.sinc(2 * upper * n) - lower * jnp.sinc(2 * lower * n)) / (upper - lower)
        return (band_pass * jnp.asarray(window, lower.dtype)[:, None])[:, None]


def _convolve_waveform(x, kernel, *, group: int = 16):
    """`valid` convolution of a waveform [B, L] with [k, n] → [B, L − k + 1, n], as one matrix product.

    A row of the matrix holds what `group` neighbouring steps share, so the windows take little memory, and the gradient
    is a matrix product too, where XLA's gradient of a long convolution on a CPU is fifty times slower.
    """
    size, num_filters = kernel.shape
    num_steps = x.shape[1] - size + 1
    groups = -(-num_steps // group)
    spans = -(-(size + group - 1) // group)
    x = jnp.pad(x, ((0, 0), (0, (groups + spans - 1) * group - x.shape[1])))
    rows = x.reshape(x.shape[0], -1, group)
    windows = jnp.concatenate([rows[:, i : i + groups] for i in range(spans)], axis=-1)
    shifted = [jnp.pad(kernel, ((i, spans * group - size - i), (0, 0))) for i in range(group)]
    maps = jnp.matmul(windows, jnp.concatenate(shifted, axis=1), precision=_HIGHEST)
    return maps.reshape(x.shape[0], groups * group, num_filters)[:, :num_steps]


def _convolve_max(x, kernel, bias, *, pool, absolute=False):
    """`valid` convolution [B, T, C] → [B, T', n], of which |y| or y, and the maximum over `pool` steps; in blocks."""
    size, num_filters = kernel.shape[0], kernel.shape[-1]

    def convolve(part):
        if kernel.shape[1] == 1:
            maps = _convolve_waveform(part[..., 0], kernel[:, 0])
        else:
            steps = part.shape[1] - size + 1
            taps = (jnp.matmul(part[:, i : i + steps], kernel[i], precision=_HIGHEST) for i in range(size))
            maps = sum(taps)
        maps = jnp.abs(maps) if absolute else maps + _row(bias, 3)
        return maps.reshape(maps.shape[0], -1, pool, num_filters).max(axis=2)

    return layers.in_time_blocks(
        jax.checkpoint(convolve),  # unpooled maps are computed again for the gradient, not kept
        x,
        num_steps=(x.shape[1] - size + 1) // pool,
        stride=pool,
        reach=pool + size - 1,
        step_bytes=x.dtype.itemsize * x.shape[0] * pool * num_filters,
    )


class SincNet(nn.Module):
    """Learnt band-pass filters on the waveform, then two convolutions; each max-pooled, normalised, leaky ReLU.

    Only the first layer's output is made absolute. Layer normalisation is the authors': mean and deviation over time
    for each channel; the gain and offset are one for each channel, where theirs are one for each channel and step,
    which ties a network to one clip length.

    Attributes:
      num_filters: band-pass filters.
      length: their length in samples.
      widths: filters of the following convolutions.
      kernel_size: length of their filters in steps.
      pool: max-pooling after each convolution.
      sample_rate: hertz.
      negative_slope: of the leaky ReLU.

    Reference: Ravanelli & Bengio (2018), "Speaker recognition from raw waveform with SincNet"; ARCHITECTURES §7.3b.
    """

    num_filters: int = 80
    length: int = 251
    widths: tuple[int, ...] = (60, 60)
    kernel_size: int = 5
    pool: int = 3
    sample_rate: float = 16_000
    negative_slope: float = 0.2

    masks = False

    @property
    def stride(self) -> int:
        """Samples from step to step."""
        return self.pool ** (1 + len(self.widths))

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the maps that are averaged, in order."""
        return ("sinc", *(f"conv{i}" for i in range(2, len(self.widths) + 2)))

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the layers do to time; their normalisation sees the whole clip."""
        sizes = (self.length, *(self.kernel_size for _ in self.widths))
        return tuple(
            window
            for name, size in zip(self.feature_layers, sizes, strict=True)
            for window in (
                Window(name, size),
                Window(f"the pooling after {name}", self.pool, self.pool),
                geometry.everything(f"the normalisation after {name}", keeps=True),
            )
        )

    @property
    def least_samples(self) -> int:
        """Samples that give one step."""
        return geometry.shortest(self.windows)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Waveform f32[B, N] → map f32[B, T', widths[-1]], T' about N / 27."""
        checks.integer(kernel_size=self.kernel_size, pool=self.pool)
        x = _as_waveforms(x, self.least_samples, "SincNet")
        kernel = SincFilters(self.num_filters, self.length, self.sample_rate, name="filters")().astype(x.dtype)
        layers.tally(x.shape[1] - self.length + 1, kernel)
        x = self._activate(_convolve_max(x[..., None], kernel, None, pool=self.pool, absolute=True), "sinc")
        for i, width in enumerate(self.widths, start=2):
            kernel, bias = layers.Weights((self.kernel_size, x.shape[-1], width), name=f"weights{i}")()
            layers.tally(x.shape[1] - self.kernel_size + 1, kernel)
            x = _convolve_max(x, kernel.astype(x.dtype), bias.astype(x.dtype), pool=self.pool)
            x = self._activate(x, f"conv{i}")
        return x

    def _activate(self, x, name):
        x = nn.LayerNorm(
            epsilon=1e-6,
            reduction_axes=1,
            feature_axes=-1,
            use_fast_variance=False,
            param_dtype=jnp.result_type(float),
            name=f"norm_{name}",
        )(x)
        x = nn.leaky_relu(layers.units(x), self.negative_slope)
        layers.expose(self, name, x)
        return x


# ── LEAF ──


class GaborFilters(nn.Module):
    """Complex band-pass filters under a Gaussian; two parameters a filter.

    φ[n] = exp(iηn) exp(−n² / 2σ²) / (√(2π) σ), η in [0, π] radians a sample, σ in [4 √(2 ln 2) / π, W √(2 ln 2) / π]
    samples, so that the response is between a frame's resolution and a quarter of the band wide.
    Initially triangles at equal distances in mel: η at the peak, σ from the width where their square root is above one
    half (three quarters of the base). The released code takes both from a bank of 257 bins, rounded to them.

    Attributes:
      num_filters: filters.
      length: odd number of samples (W).
      sample_rate: hertz.
      fmin: lower edge of the first triangle, hertz.
      fmax: upper edge of the last triangle, hertz; half the sample rate less 200 Hz (7800 Hz at 16 kHz) when None.
    """

    num_filters: int = 40
    length: int = 401
    sample_rate: float = 16_000
    fmin: float = 60.0
    fmax: float | None = None

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        """Returns (real part, imaginary part) of the kernel, f32[length, num_filters] each."""
        checks.integer(num_filters=self.num_filters, length=self.length)
        if self.length % 2 == 0:
            raise ValueError(f"length={self.length} must be odd, so that the filters have a middle")
        fmax = self.sample_rate / 2 - 200 if self.fmax is None else self.fmax
        fmax = checks.frequency_range(self.fmin, fmax, self.sample_rate)
        points = _mel_points(self.fmin, fmax, self.num_filters + 2)
        centre = self.param("centre", _constant(2 * np.pi * points[1:-1] / self.sample_rate))
        half_width = 0.75 * (points[2:] - points[:-2]) / self.sample_rate
        width = self.param("width", _constant(_HALF_WIDTH / (np.pi * half_width)))
        centre = jnp.clip(centre, 0, np.pi)[None]
        width = jnp.clip(width, 4 * _HALF_WIDTH / np.pi, self.length * _HALF_WIDTH / np.pi)[None]
        n = jnp.asarray(np.arange(self.length) - self.length // 2, width.dtype)[:, None]
        gaussian = jnp.exp(-0.5 * (n / width) ** 2) / (math.sqrt(2 * math.pi) * width)
        return gaussian * jnp.cos(centre * n), gaussian * jnp.sin(centre * n)


class SPCEN(nn.Module):
    """Per-channel energy normalisation with all four parameters of each channel learnt.

    y = (E / (ε + M)^α + δ)^{1/r} − δ^{1/r}, M(t) = (1 − s) M(t − 1) + s E(t), M(−1) = E(0);
    α in [0, 1], r ≥ 1, s in [0, 1], δ ≥ 10⁻³ at every call.
    At silence the gradient with respect to E is finite but large: ε^−α δ^(1/r − 1) / r = 1.2 · 10¹¹ with the initial
    values. To train layers in front of it, raise `floor`, or keep energies off 0 as `Leaf` does (`least_energy`).

    Attributes:
      alpha, delta, root, smooth: initial α, δ, r, s.
      floor: ε.

    Reference: Wang et al. (2017), "Trainable frontend for robust and far-field keyword spotting"; Zeghidour et al.
      (2021), section 3.3.
    """

    alpha: float = 0.96
    delta: float = 2.0
    root: float = 2.0
    smooth: float = 0.04
    floor: float = 1e-12

    feature_layers = ("spcen",)
    windows = (geometry.everything("spcen", keeps=True),)
    masks = True  # the average runs forward: padding comes after all real frames

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Energies f32[B, T, F], not negative → f32[B, T, F]."""
        x = _as_spectrogram(x, "sPCEN")

        def parameter(name, initial, low, high=None):
            values = self.param(name, _constant(np.full(x.shape[-1], initial)))
            return _row(jnp.clip(values, low, high).astype(x.dtype), 3)

        alpha = parameter("alpha", self.alpha, 0, 1)
        delta = parameter("delta", self.delta, 1e-3)
        power = 1 / parameter("root", self.root, 1)
        smooth = parameter("smooth", self.smooth, 0, 1)
        y = (x / (self.floor + _smoothed(x, smooth)) ** alpha + delta) ** power - delta**power
        layers.expose(self, "spcen", y, steps=steps)
        return y


def _smoothed(x, smooth):
    """M(t) = (1 − s) M(t − 1) + s x(t) over axis 1, M(−1) = x(0), by doubling spans instead of step by step."""
    decay = jnp.broadcast_to(1 - smooth, x.shape)
    inputs = jnp.concatenate([x[:, :1], smooth * x[:, 1:]], axis=1)

    def join(early, late):
        return early[0] * late[0], late[0] * early[1] + late[1]

    return lax.associative_scan(join, (decay, inputs), axis=1)[1]


class Leaf(nn.Module):
    """Learnable alternative to the mel spectrogram: Gabor filters, squared modulus, Gaussian low-pass, sPCEN.

    The low-pass of filter c is exp(−½ (2n / (W − 1) / σ_c)²), |n| ≤ W / 2, σ_c in [2 / W, 0.5]; with stride 160.
    Both convolutions are padded as TensorFlow pads `SAME`. 7 parameters a filter.

    Attributes:
      num_filters: Gabor filters N.
      length: samples of the Gabor filters and of the low-pass (W).
      stride: samples from frame to frame.
      sample_rate: hertz.
      fmin, fmax: of the initial mel bank (`GaborFilters`).
      low_pass: initial σ.
      least_energy: energies are raised to it before sPCEN, as in the released code; 0 for the paper's equations.

    Reference: Zeghidour, Teboul, de Chaumont Quitry & Tagliasacchi (2021), "LEAF"; ARCHITECTURES §7.3b.
    """

    num_filters: int = 40
    length: int = 401
    stride: int = 160
    sample_rate: float = 16_000
    fmin: float = 60.0
    fmax: float | None = None
    low_pass: float = 0.4
    least_energy: float = 1e-5

    feature_layers = ("leaf",)
    masks = False

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the layers do to time."""
        return (
            Window("gabor", self.length, padding="same"),
            Window("the low-pass", self.length, self.stride, "same"),
            *SPCEN.windows,
        )

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Waveform f32[B, N] → f32[B, ⌈N / stride⌉, num_filters]."""
        checks.integer(stride=self.stride)
        x = _as_waveforms(x, 1, "LEAF")
        gabor = GaborFilters(self.num_filters, self.length, self.sample_rate, self.fmin, self.fmax, name="filters")()
        kernel = jnp.concatenate(gabor, axis=1).astype(x.dtype)
        sigma = self.param("low_pass", _constant(np.full(self.num_filters, self.low_pass)))
        sigma = jnp.clip(sigma, 2 / self.length, 0.5)[None]
        place = np.linspace(-1, 1, self.length)[:, None]
        low_pass = jnp.exp(-0.5 * (jnp.asarray(place, sigma.dtype) / sigma) ** 2).astype(x.dtype)
        layers.tally(x.shape[1], kernel)
        layers.tally(-(-x.shape[1] // self.stride), low_pass)
        energy = jnp.maximum(self._energies(x, kernel, low_pass), self.least_energy)
        layers.expose(self, "energy", energy)
        y = SPCEN(name="spcen")(energy)
        layers.expose(self, "leaf", y)
        return y

    def _energies(self, x, kernel, low_pass):
        """Σ_n g[n] |x ∗ φ|²[t · stride + n], in blocks of frames."""
        num_samples, size, stride = x.shape[1], self.length, self.stride
        num_steps = -(-num_samples // stride)
        surplus = max((num_steps - 1) * stride + size - num_samples, 0)
        before = surplus // 2 + size // 2
        # The second channel marks real samples: beyond the clip the low-pass sees zeros, not the filters' tails.
        marked = jnp.stack([x, jnp.ones_like(x)], axis=-1)
        spans = -(-size // stride)  # a frame's samples as whole strides, which need no gather
        reach = spans * stride + size - 1
        after = max(0, (num_steps - 1) * stride + reach - num_samples - before)
        marked = layers.pad_time(marked, before, after)
        taps = jnp.pad(low_pass, ((0, spans * stride - size), (0, 0))).reshape(spans, stride, -1)

        def frames(part):
            steps = (part.shape[1] - reach) // stride + 1
            maps = _convolve_waveform(part[..., 0], kernel)
            real, imaginary = jnp.split(maps, 2, axis=-1)
            inside = part[:, size // 2 : size // 2 + maps.shape[1], 1:]
            energy = ((real**2 + imaginary**2) * inside).reshape(x.shape[0], -1, stride, self.num_filters)
            return sum((energy[:, i : i + steps] * taps[i][None, None]).sum(axis=2) for i in range(spans))

        return layers.in_time_blocks(
            jax.checkpoint(frames),
            marked,
            num_steps=num_steps,
            stride=stride,
            reach=reach,
            step_bytes=x.dtype.itemsize * x.shape[0] * stride * 3 * self.num_filters,
        )


# ── transforms that begin exact ──


class LearnableSTFT(nn.Module):
    """Spectrogram |Σ_n w[n] x[n] (C[n, k] − i S[n, k])|^power with a learnt window w, learnt kernels C and S, or both.

    Initially `stft.spectrogram`.

    Attributes:
      n_fft: frame length in samples.
      hop_length: samples from frame to frame; win_length // 4 when None.
      win_length: samples of the window, in the middle of n_fft; n_fft when None.
      window: initial window (`stft.get_window`).
      center, pad_mode, power: as in `stft.spectrogram`.
      learn_window: the window's `win_length` values are parameters.
      learn_kernels: the cosines and sines are 2 · n_fft · (1 + n_fft // 2) parameters; otherwise an FFT does it.
    """

    n_fft: int = 2048
    hop_length: int | None = None
    win_length: int | None = None
    window: str | tuple = "hann"
    center: bool = True
    pad_mode: str = "constant"
    power: float = 2.0
    learn_window: bool = True
    learn_kernels: bool = True

    feature_layers = ("spectrogram",)
    masks = False

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the frames do to time."""
        win_length = self.n_fft if self.win_length is None else self.win_length
        hop_length = max(1, win_length // 4) if self.hop_length is None else self.hop_length
        return (Window("spectrogram", self.n_fft, hop_length, 2 * (self.n_fft // 2) if self.center else 0),)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Waveform f32[B, N] → f32[B, T, 1 + n_fft // 2]."""
        checks.integer(n_fft=self.n_fft)
        checks.positive(power=self.power)
        x = _as_waveforms(x, 1, "a learnable STFT")
        if not (self.learn_window or self.learn_kernels):
            raise ValueError("learn_window=False and learn_kernels=False leave nothing to learn; use stft.spectrogram")
        win_length = self.n_fft if self.win_length is None else self.win_length
        hop_length, padded = stft.windowed(self.n_fft, self.hop_length, win_length, self.window)
        before = (self.n_fft - win_length) // 2
        window = jnp.asarray(padded, x.dtype)
        if self.learn_window:
            window = self.param("window", _constant(padded[before : before + win_length])).astype(x.dtype)
            window = jnp.pad(window, (before, self.n_fft - win_length - before))
        bins = 1 + self.n_fft // 2
        if self.learn_kernels:
            kernels = self.param("kernels", _constant(_fourier(self.n_fft))).astype(x.dtype)

        def transform(frames):
            if not self.learn_kernels:
                energy = stft.power(jnp.fft.rfft(frames * window[None]))
            else:
                parts = jnp.matmul(frames * window[None], kernels, precision=_HIGHEST)
                energy = parts[:, :bins] ** 2 + parts[:, bins:] ** 2
            return stft.to_power(energy, self.power)

        y = stft.map_frames(
            x,
            transform,
            frame_length=self.n_fft,
            hop_length=hop_length,
            center=self.center,
            pad_mode=self.pad_mode,
        )
        layers.expose(self, "spectrogram", y)
        return y


def _fourier(n_fft: int) -> np.ndarray:
    """Cosines, then sines, of 2πnk / n_fft, f64[n_fft, 2 · (1 + n_fft // 2)]; nk is reduced modulo n_fft first."""
    turns = np.outer(np.arange(n_fft), np.arange(1 + n_fft // 2)) % n_fft * (2 * np.pi / n_fft)
    return np.concatenate([np.cos(turns), np.sin(turns)], axis=1)


class LearnableMel(nn.Module):
    """Filter bank on a spectrogram whose weights are parameters; initially `filters.mel_filters`.

    The weights used are max(w, 0). At exactly 0, where most of them begin, that maximum passes half of the gradient, so
    a filter may grow bins it did not have.

    Attributes:
      sample_rate: hertz.
      n_fft: frame length of the spectrogram in samples.
      n_mels: bands.
      fmin: lower edge of the first band, hertz.
      fmax: upper edge of the last band, hertz; half the sample rate when None.
      scale, norm: of the initial bank, as in `filters.mel_filters`.
    """

    sample_rate: float
    n_fft: int = 2048
    n_mels: int = 128
    fmin: float = 0.0
    fmax: float | None = None
    scale: str = "slaney"
    norm: str | float | None = "slaney"

    feature_layers = ("mel",)
    windows = ()
    masks = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Spectrogram f32[B, T, 1 + n_fft // 2] → f32[B, T, n_mels]."""
        x = _as_spectrogram(x, "a learnable mel bank")
        if x.shape[-1] != 1 + self.n_fft // 2:
            raise ValueError(f"n_fft={self.n_fft} has {1 + self.n_fft // 2} bins, the spectrogram {x.shape[-1]}")
        bank = filters.mel_filters(
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            n_mels=self.n_mels,
            fmin=self.fmin,
            fmax=self.fmax,
            scale=self.scale,
            norm=self.norm,
        )
        weights = jnp.maximum(self.param("filters", _constant(bank.T)), 0).astype(x.dtype)
        layers.tally(x.shape[1], weights)
        y = jnp.matmul(x, weights, precision=_HIGHEST)
        layers.expose(self, "mel", y, steps=steps)
        return y

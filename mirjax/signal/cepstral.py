"""Cepstral coefficients, their inverse, and differences in time.

Arrays: log-mel spectrograms `[..., T, n_mels]` → MFCC `[..., T, n_mfcc]`; features of any kind `[..., T, D]`.
Source: librosa's and scipy's conventions and defaults; Savitzky & Golay (1964) for deltas; the MFCC baseline of Pons &
Serra (2019, section 4.4).
Names: `dct_matrix`, `idct_matrix`, `mfcc`, `log_mel_to_mfcc`, `mfcc_to_log_mel`, `mfcc_to_mel`, `delta`, `difference`,
`mfcc_statistics`.
"""

import functools
import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mirjax.signal import checks, compression, mel, stft

DELTA_MODES = ("interp", "nearest", "mirror", "constant", "wrap")
_PAD_MODES = {"nearest": "edge", "mirror": "reflect", "constant": "constant", "wrap": "wrap"}


@functools.lru_cache(typed=True)
def _dct(size, dct_type, norm):
    checks.integer(size=size, least=2 if dct_type == 1 else 1)
    checks.choice("dct_type", dct_type, (1, 2, 3))
    checks.choice("norm", norm, ("ortho", None))
    k, n = np.arange(size)[:, None], np.arange(size)[None]
    if dct_type == 1:
        basis = 2 * np.cos(np.pi * k * n / (size - 1))
        basis[:, [0, -1]] /= 2
        if norm == "ortho":
            basis[:, [0, -1]] *= np.sqrt(2)
            basis[[0, -1]] /= np.sqrt(2)
            basis /= np.sqrt(2 * (size - 1))
    else:
        basis = 2 * np.cos(np.pi * k * (2 * n + 1) / (2 * size))  # type 2; its transpose is type 3
        if norm == "ortho":
            basis /= np.sqrt(2 * size)
            basis[0] /= np.sqrt(2)
        elif dct_type == 3:
            basis[0] /= 2
        basis = basis.T if dct_type == 3 else basis
    basis.setflags(write=False)
    return basis


def dct_matrix(num_coefficients: int, num_bands: int, *, dct_type: int = 2, norm: str | None = "ortho") -> np.ndarray:
    """First rows of a discrete cosine transform, f64[num_coefficients, num_bands].

    Args:
      num_coefficients: rows kept, at most `num_bands`.
      num_bands: length of the transform.
      dct_type: 1, 2 or 3, as scipy.fft.dct counts them.
      norm: "ortho" for the orthonormal transform, None for the plain sums (with their factor of 2).

    Raises:
      ValueError: for another type or norm, or more coefficients than bands.
    """
    checks.integer(num_coefficients=num_coefficients, num_bands=num_bands)
    if num_coefficients > num_bands:
        raise ValueError(f"{num_coefficients} coefficients of {num_bands} bands; ask for at most as many as bands")
    return _dct(num_bands, dct_type, norm)[:num_coefficients]


def idct_matrix(num_bands: int, num_coefficients: int, *, dct_type: int = 2, norm: str | None = "ortho") -> np.ndarray:
    """Inverse of `dct_matrix`, taking the coefficients that are not there as 0: f64[num_bands, num_coefficients]."""
    checks.integer(num_coefficients=num_coefficients, num_bands=num_bands)
    if num_coefficients > num_bands:
        raise ValueError(f"{num_coefficients} coefficients need at least as many bands, not {num_bands}; raise n_mels")
    inverse = {1: 1, 2: 3, 3: 2}[dct_type] if dct_type in (1, 2, 3) else dct_type
    basis = _dct(num_bands, inverse, norm)[:, :num_coefficients]
    return basis if norm == "ortho" else basis / (2 * (num_bands - 1 if dct_type == 1 else num_bands))


def _lifter(lifter, num_coefficients):
    if isinstance(lifter, bool) or not isinstance(lifter, numbers.Real) or not 0 <= lifter < math.inf:
        raise ValueError(f"lifter={lifter!r} must be a number of at least 0; 0 is none")
    if lifter == 0:
        return np.ones(num_coefficients)
    return 1 + lifter / 2 * np.sin(np.pi * np.arange(1, 1 + num_coefficients) / lifter)


def _project(values, matrix):
    """Values f32[..., n] times the transpose of a constant f64[m, n]."""
    return jnp.matmul(values, jnp.asarray(matrix.T, values.dtype), precision=lax.Precision.HIGHEST)


def log_mel_to_mfcc(
    log_mel: jax.Array, *, n_mfcc: int = 20, dct_type: int = 2, norm: str | None = "ortho", lifter: float = 0
) -> jax.Array:
    """Cepstral coefficients of a log-mel spectrogram: f32[..., T, n_mels] → f32[..., T, n_mfcc].

    Args:
      log_mel: f32[..., T, n_mels], decibels or any other logarithm.
      n_mfcc: coefficients kept.
      dct_type: 1, 2 or 3.
      norm: "ortho" or None.
      lifter: L > 0 multiplies coefficient n = 1, 2, … by 1 + L/2 · sin(πn / L); 0 for none.

    Raises:
      ValueError: for more coefficients than bands or an unknown type or norm.
    """
    log_mel = compression.as_spectrogram(log_mel, "log_mel")
    matrix = dct_matrix(n_mfcc, log_mel.shape[-1], dct_type=dct_type, norm=norm)
    return _project(log_mel, _lifter(lifter, n_mfcc)[:, None] * matrix)


def mfcc_to_log_mel(
    mfcc: jax.Array, *, n_mels: int = 128, dct_type: int = 2, norm: str | None = "ortho", lifter: float = 0
) -> jax.Array:
    """Inverse of `log_mel_to_mfcc`, smooth where coefficients were dropped: f32[..., T, n_mels].

    Raises:
      ValueError: for fewer bands than coefficients, or a lifter that wiped out a coefficient.
    """
    mfcc = compression.as_spectrogram(mfcc, "mfcc")
    matrix = idct_matrix(n_mels, mfcc.shape[-1], dct_type=dct_type, norm=norm)
    weights = _lifter(lifter, mfcc.shape[-1])
    if np.abs(weights).min() < 1e-6:
        raise ValueError(f"lifter={lifter} sets coefficient {int(np.abs(weights).argmin())} to 0, which has no inverse")
    return _project(mfcc, matrix / weights[None])


def mfcc_to_mel(
    mfcc: jax.Array,
    *,
    n_mels: int = 128,
    dct_type: int = 2,
    norm: str | None = "ortho",
    ref: float = 1.0,
    lifter: float = 0,
) -> jax.Array:
    """Mel power spectrogram f32[..., T, n_mels] of coefficients made of decibels relative to `ref`."""
    db = mfcc_to_log_mel(mfcc, n_mels=n_mels, dct_type=dct_type, norm=norm, lifter=lifter)
    return compression.db_to_power(db, ref=ref)


def mfcc(
    audio: jax.Array,
    *,
    sample_rate: float,
    n_mfcc: int = 20,
    dct_type: int = 2,
    norm: str | None = "ortho",
    lifter: float = 0,
    top_db: float | None = 80.0,
    n_fft: int = 2048,
    hop_length: int | None = 512,
    center: bool = True,
    mel_norm="slaney",
    length: jax.Array | None = None,
    **mel_settings,
) -> jax.Array:
    """Mel-frequency cepstral coefficients with librosa's defaults.

    Args:
      audio: f32[..., N].
      sample_rate: hertz.
      n_mfcc: cepstral coefficients kept.
      dct_type, norm, lifter: as in `log_mel_to_mfcc`.
      top_db: floor below each clip's maximum, decibels; None for none.
      n_fft: frame length in samples.
      hop_length: hop in samples.
      center: as in `stft.stft`.
      mel_norm: `norm` of the mel filters.
      length: int[...] real samples when the audio is padded with zeros at the end; the floor then hangs from the
        maximum over the frames of the real clip. None: all samples are real.
      **mel_settings: n_mels and the other arguments of `mel.mel_spectrogram`.

    Returns:
      f32[..., T, n_mfcc].

    Raises:
      ValueError: as `mel.mel_spectrogram` and `log_mel_to_mfcc`.
    """
    compression.check_decibels(top_db=top_db)
    settings = {"n_fft": n_fft, "hop_length": hop_length, "center": center, "norm": mel_norm, **mel_settings}
    db = compression.power_to_db(mel.mel_spectrogram(audio, sample_rate=sample_rate, **settings), top_db=None)
    if top_db is not None:
        if length is None:
            loudest = jnp.max(db, axis=(-2, -1), keepdims=True)
        else:
            hop_length, _ = stft.windowed(n_fft, hop_length, mel_settings.get("win_length"), "hann")
            overhang = n_fft - 2 * (n_fft // 2) if center else n_fft
            last = (jnp.asarray(length)[..., None] - overhang) // hop_length
            real = (jnp.arange(db.shape[-2]).reshape(*[1] * (last.ndim - 1), -1) <= last)[..., None]
            loudest = jnp.max(db, axis=(-2, -1), keepdims=True, where=real, initial=-jnp.inf)
        db = jnp.maximum(db, loudest - top_db)
    return log_mel_to_mfcc(db, n_mfcc=n_mfcc, dct_type=dct_type, norm=norm, lifter=lifter)


@functools.lru_cache(typed=True)
def _savitzky_golay(width, order, polyorder):
    """Derivative `order` of the polynomial fitted to `width` equidistant values, at each of them: f64[width, width]."""
    t = np.arange(width) - width // 2
    fit = np.linalg.pinv(t[:, None] ** np.arange(polyorder + 1.0))
    powers = np.arange(order, polyorder + 1)
    factors = np.array([math.factorial(p) / math.factorial(p - order) for p in powers])
    return (factors * t[:, None] ** (powers - order).astype(float)) @ fit[order:]


def delta(
    features: jax.Array, *, width: int = 9, order: int = 1, polyorder: int | None = None, mode: str = "interp"
) -> jax.Array:
    """Derivative in time of a polynomial fitted to `width` frames around each: f32[..., T, D] → f32[..., T, D].

    Args:
      features: f32[..., T, D].
      width: frames, odd, at least 3.
      order: of the derivative, per frame^order.
      polyorder: of the polynomial; `order` when None.
      mode: the frames before the first and after the last: "interp" (the first and last `width` frames' own
        polynomials; needs T ≥ width), "nearest" (repeated), "mirror" (mirrored at the first and last), "constant"
        (zeros) or "wrap".

    Raises:
      ValueError: for an even width, an order that the polynomial lacks, an unknown mode, or too few frames.

    Reference: Savitzky & Golay (1964).
    """
    features = checks.as_array(features, "features", min_ndim=2)
    checks.integer(width=width, order=order)
    polyorder = order if polyorder is None else polyorder
    checks.integer(polyorder=polyorder)
    checks.choice("mode", mode, DELTA_MODES)
    if width < 3 or width % 2 == 0:
        raise ValueError(f"width={width} must be an odd number of frames of at least 3")
    if not order <= polyorder < width:
        raise ValueError(f"need order <= polyorder < width, got {order}, {polyorder}, {width}; raise width")
    frames, half = features.shape[-2], width // 2
    if mode == "interp" and frames < width:
        raise ValueError(f"mode='interp' fits {width} frames and there are {frames}; lower width or use mode='nearest'")
    rates = _savitzky_golay(width, order, polyorder)
    mode = None if mode == "interp" else _PAD_MODES[mode]
    return _delta(features, tuple(map(tuple, rates)) if mode is None else (tuple(rates[half]),), mode)


@functools.partial(jax.jit, static_argnames=("rates", "mode"))
def _delta(features, rates, mode):
    rates = np.asarray(rates)
    width, frames = rates.shape[1], features.shape[-2]
    half = width // 2
    if mode is not None:
        features = jnp.pad(features, [(0, 0)] * (features.ndim - 2) + [(half, half), (0, 0)], mode=mode)
        frames += 2 * half
    count = frames - 2 * half
    weights = rates[half if mode is None else 0]
    middle = sum(float(weights[i]) * features[..., i : i + count, :] for i in range(width))
    if mode is not None:
        return middle

    def edge(part, rows):
        return jnp.swapaxes(_project(jnp.swapaxes(part, -2, -1), rows), -2, -1)

    first = edge(features[..., :width, :], rates[:half])
    last = edge(features[..., -width:, :], rates[-half:])
    return jnp.concatenate([first, middle, last], axis=-2)


def difference(features: jax.Array, *, order: int = 1) -> jax.Array:
    """Plain differences of neighbouring frames, `order` times: f32[..., T, D] → f32[..., T − order, D]."""
    checks.integer(order=order)
    return jnp.diff(checks.as_array(features, "features", min_ndim=2), n=order, axis=-2)


def mfcc_statistics(
    audio: jax.Array, *, sample_rate: float, length: jax.Array | None = None, hop_length: int = 512
) -> jax.Array:
    """The MFCC baseline: 120 numbers a clip.

    Mean, then population standard deviation over time, of the 20 coefficients, of their first differences and of
    their second differences.

    Args:
      audio: f32[..., N], padded with zeros at the end; at least 2048 samples.
      sample_rate: hertz.
      length: int[...] real samples of each clip (at least 2048); None when all are real.
      hop_length: hop in samples.

    Returns:
      f32[..., 120].

    Reference: Pons & Serra (2019), section 4.4; plain differences as in the released code, not regression deltas.
    """
    audio = checks.as_audio(audio)
    if audio.shape[-1] < 2048:
        raise ValueError(f"audio of {audio.shape[-1]} samples is shorter than one frame; pad it to 2048 samples")
    coefficients = mfcc(audio, sample_rate=sample_rate, length=length, hop_length=hop_length)
    num_samples = audio.shape[-1] if length is None else length
    num_real = 1 + jnp.asarray(num_samples)[..., None] // hop_length
    statistics = []
    for order in range(3):
        values = jnp.diff(coefficients, n=order, axis=-2)
        frames = jnp.arange(values.shape[-2]).reshape(*[1] * (num_real.ndim - 1), -1)
        real = (frames < num_real - order)[..., None]
        # A clip of two frames has no second difference: its mean and deviation are 0.
        count = jnp.maximum(num_real - order, 1).astype(values.dtype)
        # Silence has a deviation of 0, whose square root has no gradient.
        mean = jnp.sum(values, axis=-2, where=real) / count
        variance = jnp.sum((values - mean[..., None, :]) ** 2, axis=-2, where=real) / count
        constant = variance == 0
        deviation = jnp.where(constant, 0, jnp.sqrt(jnp.where(constant, 1, variance)))
        statistics += [mean, deviation]
    return jnp.concatenate(statistics, axis=-1)

"""Window functions, float64 and periodic, as constants of a traced function.

Source: the cosine sums are Harris (1978); every other name is `scipy.signal.get_window`'s. Essentia's two windows are
symmetric and scaled to Σ|w| = 2 (its `Windowing` with default options; ARCHITECTURES §2).
Names: `get_window`, `pad_window`.
"""

import functools

import numpy as np

from mirjax.signal import checks

# Coefficients a of Σ_k (−1)^k a_k cos(2πkn / N).
_COSINE_SUMS = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "ones": (1.0,),
}
_ESSENTIA = {"essentia_hann": (0.5, 0.5), "essentia_blackmanharris62": (0.44959, 0.49364, 0.05677)}


def _cosine_sum(coefficients, length: int, period: int) -> np.ndarray:
    n = np.arange(length)
    return sum((-1) ** k * a * np.cos(2 * np.pi * k * n / period) for k, a in enumerate(coefficients))


@functools.lru_cache(typed=True)
def _named(window, length: int) -> np.ndarray:
    if length == 1:
        values = np.ones(1)  # a cosine sum would be its first value, often 0
    elif window in _COSINE_SUMS:
        values = _cosine_sum(_COSINE_SUMS[window], length, length) * np.ones(length)
    elif window in _ESSENTIA:
        values = _cosine_sum(_ESSENTIA[window], length, max(length - 1, 1))
        values = 2 * values / np.abs(values).sum()
    else:
        import scipy.signal

        try:
            values = scipy.signal.get_window(window, length, fftbins=True)
        except ValueError as error:
            raise ValueError(
                f"window={window!r} is unknown ({error}); give 'hann', 'hamming', another name of "
                "scipy.signal.get_window, ('kaiser', beta), or an array"
            ) from None
    values.setflags(write=False)
    return values


def get_window(window, length: int) -> np.ndarray:
    """Periodic window f64[length].

    Args:
      window: a name ("hann", "hamming", "blackman", "ones", "essentia_hann", "essentia_blackmanharris62", or any of
        `scipy.signal.get_window`'s), a tuple of name and parameters such as ("kaiser", 8.6), a function of the length,
        or the window's values themselves.
      length: samples.

    Raises:
      ValueError: for an unknown name, or values of another length.
    """
    checks.integer(window_length=length)
    if isinstance(window, str | float) or (isinstance(window, tuple) and isinstance(window[0], str)):
        return _named(window, length)
    values = np.asarray(window(length) if callable(window) else window)
    if values.shape != (length,):
        raise ValueError(f"window of shape {values.shape} must have win_length={length} values")
    if np.iscomplexobj(values) or not np.isfinite(values.astype(np.float64)).all():
        raise ValueError("window holds complex numbers, NaN or infinity; give finite real values")
    return values.astype(np.float64)


def pad_window(window, win_length: int, n_fft: int) -> np.ndarray:
    """Window of `win_length` samples in the middle of `n_fft` zeros, f64[n_fft].

    Raises:
      ValueError: if `win_length` exceeds `n_fft`.
    """
    checks.integer(win_length=win_length, n_fft=n_fft)
    if win_length > n_fft:
        raise ValueError(f"win_length={win_length} is longer than n_fft={n_fft}; shorten the window or raise n_fft")
    before = (n_fft - win_length) // 2
    return np.pad(get_window(window, win_length), (before, n_fft - win_length - before))

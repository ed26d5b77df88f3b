"""Short-time Fourier power spectra.

Arrays: audio `[..., N]` → power `[..., T, F]` with F = n_fft // 2 + 1 and T = 1 + N // hop_length (centred frames).
Source: librosa's `stft` conventions (periodic Hann window, centred frames, zeros outside the clip).
Names: `power_spectrogram`, `map_frames`, `hann_window`, `num_frames`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# XLA's CPU allocator hands every buffer above 32 MiB back to the kernel, so a clip whose frames fit in a few
# megabytes is transformed whole and a longer one in blocks of frames inside one loop.
_WHOLE_CLIP_BYTES = 4 << 20
_BLOCK_FRAMES = 128


def hann_window(n_fft: int) -> np.ndarray:
    """Periodic Hann window, float64[n_fft]."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)


def num_frames(num_samples: int, hop_length: int) -> int:
    """Frames of a centred transform of `num_samples` samples (n_fft even)."""
    return 1 + num_samples // hop_length


def map_frames(audio: jax.Array, function, *, n_fft: int, hop_length: int) -> jax.Array:
    """Apply `function` to centred frames, bounded in memory whatever the clip's length.

    Args:
      audio: f32[..., N].
      function: frames f32[t, n_fft] → f32[t, F]; must treat every frame alike.
      n_fft: frame length in samples, even.
      hop_length: hop in samples.

    Returns:
      f32[..., T, F] with T = 1 + N // hop_length.

    Raises:
      ValueError: if `n_fft` is odd or not positive, `hop_length` is not positive, or there are no samples.
    """
    if n_fft < 2 or n_fft % 2:
        raise ValueError(f"n_fft={n_fft} must be a positive even number of samples")
    if hop_length < 1:
        raise ValueError(f"hop_length={hop_length} must be at least 1 sample")
    *leading, num_samples = audio.shape
    if num_samples < 1:
        raise ValueError(f"audio of shape {audio.shape} holds no samples; give at least one")
    frames = num_frames(num_samples, hop_length)
    block = frames if frames * n_fft * audio.dtype.itemsize <= _WHOLE_CLIP_BYTES else _BLOCK_FRAMES
    blocks = -(-frames // block)
    segment = (block - 1) * hop_length + n_fft
    after = max(0, (blocks - 1) * block * hop_length + segment - num_samples - n_fft // 2)
    padded = jnp.pad(audio.reshape(-1, num_samples), ((0, 0), (n_fft // 2, after)))

    def transform_block(clip, start):
        part = lax.dynamic_slice(clip, (start,), (segment,))
        offsets = jnp.arange(block) * hop_length
        return function(jax.vmap(lambda offset: lax.dynamic_slice(part, (offset,), (n_fft,)))(offsets))

    def transform_clip(clip):
        starts = jnp.arange(blocks) * (block * hop_length)
        output = lax.map(lambda start: transform_block(clip, start), starts)
        return output.reshape(blocks * block, -1)[:frames]

    output = lax.map(transform_clip, padded)
    return output.reshape(*leading, frames, output.shape[-1])


def power_spectrum(frames: jax.Array) -> jax.Array:
    """Power spectrum |FFT|² of Hann-windowed frames: f32[t, n_fft] → f32[t, n_fft // 2 + 1]."""
    spectrum = jnp.fft.rfft(frames * jnp.asarray(hann_window(frames.shape[-1])[None], frames.dtype))
    return spectrum.real**2 + spectrum.imag**2


def power_spectrogram(audio: jax.Array, *, n_fft: int, hop_length: int) -> jax.Array:
    """Power spectrogram |STFT|² with a periodic Hann window and centred, zero-padded frames.

    Args:
      audio: f32[..., N].
      n_fft: frame length in samples, even.
      hop_length: hop in samples.

    Returns:
      f32[..., T, n_fft // 2 + 1], T = 1 + N // hop_length.
    """
    return map_frames(audio, power_spectrum, n_fft=n_fft, hop_length=hop_length)

"""Batches: clips of one length as dictionaries of arrays.

Arrays: `audio f32[B, N]`, `label int32[B]`, `length int32[B]` (real samples), `mask bool[B]` (False for rows
that only fill the batch up), `id` (tuple of B strings). An experiment's clips are fitted as waveforms, before
any transform. Names: `fit_length`, `batches`.
"""

from collections.abc import Iterator

import numpy as np

FITS = ("repeat", "zero")


def fit_length(audio: np.ndarray, num_samples: int, fit: str = "repeat") -> np.ndarray:
    """Bring a clip to `num_samples`: a longer one is cropped from the start, a shorter one repeated or
    padded.

    Args:
      audio: f32[..., N].
      num_samples: length wanted.
      fit: `repeat` (the clip over and over) or `zero` (silence after it).

    Returns:
      f32[..., num_samples].

    Raises:
      ValueError: an unknown `fit`.
    """
    if fit not in FITS:
        raise ValueError(f"fit={fit!r} is not one of {', '.join(FITS)}")
    missing = num_samples - audio.shape[-1]
    if missing <= 0:
        return audio[..., :num_samples]
    if fit == "repeat":
        return np.tile(audio, (1,) * (audio.ndim - 1) + (-(-num_samples // audio.shape[-1]),))[..., :num_samples]
    return np.pad(audio, ((0, 0),) * (audio.ndim - 1) + ((0, missing),))


def batches(
    clips, *, num_samples: int, fit: str = "repeat", batch_size: int = 8, indices=None
) -> Iterator[dict[str, object]]:
    """Batches of fitted clips, in order; the last one is filled up with silent rows whose mask is False.

    Args:
      clips: decoded clips (`mirjax.data.audio`).
      num_samples: length of every row.
      fit: as `fit_length`.
      batch_size: rows B of every batch.
      indices: which clips; all of them when None.
    """
    classes = {label: i for i, label in enumerate(sorted(set(clips.labels)))}
    indices = range(len(clips)) if indices is None else indices
    for start in range(0, len(indices), batch_size):
        chosen = indices[start : start + batch_size]
        rows = [clips.audio(i) for i in chosen]
        audio = np.zeros((batch_size, *rows[0].shape[:-1], num_samples), np.float32)
        length = np.zeros(batch_size, np.int32)
        label = np.zeros(batch_size, np.int32)
        for row, (i, clip) in enumerate(zip(chosen, rows, strict=True)):
            audio[row] = fit_length(clip, num_samples, fit)
            length[row] = min(clip.shape[-1], num_samples)
            label[row] = classes[clips.labels[i]]
        yield {
            "audio": audio,
            "label": label,
            "length": length,
            "mask": np.arange(batch_size) < len(chosen),
            "id": tuple(clips.ids[i] for i in chosen) + ("",) * (batch_size - len(chosen)),
        }

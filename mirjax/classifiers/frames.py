"""Least squares over all frames of clips, from sums: every frame is a row with its clip's target and weight.

Conventions
-----------
M clips of T_i frames with states s_t f64[H], targets Y f64[M, K], weights w_i ≥ 0. The read-out is linear and a clip's
target that of all its frames, so that the products with the targets are those of the clips' mean states s̄_i,

    Σ_i w_i Σ_t (s_t − s̄)(y_i − ȳ)ᵀ = Σ_i w_i T_i (s̄_i − s̄)(y_i − ȳ)ᵀ,

s̄ and ȳ being 0 without an intercept. Only Σ_i w_i Σ_t (s_t − s̄)(s_t − s̄)ᵀ needs the frames, some clips at a time.

Names
-----
* `Frames`: those sums; `FramePath`: all ridges of them
* `frame_moments`: mean and deviation over the frames of clips
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from mirjax.classifiers.arithmetic import power_of_two
from mirjax.classifiers.gram import Gram
from mirjax.classifiers.reservoir import BLOCK


def frame_moments(clips: Sequence, sample_weight=None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation f64[F] each over all frames of clips f64[T, F], weighted by clip; a deviation of 0 is 1."""
    sample_weight = np.ones(len(clips)) if sample_weight is None else sample_weight
    counted = [(w, clip) for w, clip in zip(sample_weight, clips, strict=True) if w > 0]
    size = power_of_two(np.max([np.abs(clip).max(axis=0) for _, clip in counted], axis=0))
    total = sum(w * len(clip) for w, clip in counted)
    mean = sum(w * (clip / size).sum(axis=0) for w, clip in counted) / total
    squares = sum(w * ((clip / size - mean) ** 2).sum(axis=0) for w, clip in counted)
    deviation = np.sqrt(squares / total)
    # A feature that never changes has a deviation of rounding only.
    constant = deviation <= 10 * np.finfo(np.float64).eps * np.abs(mean)
    return mean * size, np.where(constant, 1, deviation * size)


@dataclasses.dataclass(frozen=True, eq=False)
class Frames:
    """What the least squares of all frames need beside the mean states of the clips.

    Attributes:
        products: Σ_i w_i Σ_t (s_t − s̄)(s_t − s̄)ᵀ, f64[H, H]; s̄ is 0 without an intercept.
        lengths: frames of each clip, [M].
    """

    products: np.ndarray
    lengths: np.ndarray

    @classmethod
    def gather(cls, reservoir, clips, sample_weight, fit_intercept):
        """From training clips, some at a time: memory does not grow with their number."""
        lengths = np.array([len(clip) for clip in clips])
        weights = sample_weight * lengths
        means = reservoir.summaries(clips)
        center = np.average(means, axis=0, weights=weights) if fit_intercept else np.zeros(means.shape[1])

        def batches():
            for start in range(0, len(clips), BLOCK):
                part = slice(start, start + BLOCK)
                for states, w in zip(reservoir.states(clips[part]), sample_weight[part], strict=True):
                    yield states - center, np.zeros((len(states), 1)), np.full(len(states), w)

        return cls(Gram.empty(len(center), 1).add_batches(batches()).products, lengths)

    def normal_equations(self, means, targets, sample_weight, fit_intercept):
        """(products [H, H], s̄ [H], Σ w T (s̄_i − s̄)(y_i − ȳ)ᵀ [H, K], ȳ [K]), a clip's target being its frames'."""
        w = sample_weight * self.lengths
        center, mean = np.zeros(means.shape[1]), np.zeros(targets.shape[1])
        if fit_intercept:
            center, mean = np.average(means, axis=0, weights=w), np.average(targets, axis=0, weights=w)
        return self.products, center, ((means - center) * w[:, None]).T @ (targets - mean), mean


class FramePath:
    """All ridges of a least-squares problem of frames from one eigendecomposition.

    Args:
        frames: a `Frames`.
        means: s̄_i f64[M, H].
        targets: f64[M, K].
        ridges: in units of the mean diagonal of `Frames.products`, at least 0, [R].
        sample_weight: w f64[M].
        fit_intercept: whether states and targets are centred.

    Attributes:
        weights: f64[R, H, K].
        intercepts: f64[R, K].
    """

    def __init__(self, frames, means, targets, ridges, sample_weight, fit_intercept):
        products, center, cross, mean = frames.normal_equations(means, targets, sample_weight, fit_intercept)
        values, vectors = np.linalg.eigh(products)
        penalties = np.asarray(ridges) * np.diagonal(products).mean()
        rotated = vectors.T @ cross
        # Without a ridge, eigenvalues that are rounding count as zero, as in `solvers.solve_gram`.
        noise = len(values) * np.finfo(values.dtype).eps * values[-1]
        kept = values > np.where(penalties > 0, 0, noise)[:, None]
        inverse = np.where(kept, 1 / np.where(kept, values + penalties[:, None], 1), 0)
        self.weights = vectors @ (inverse[:, :, None] * rotated)
        self.intercepts = mean - center @ self.weights

    def predict(self, means):
        """Mean outputs over the frames of clips with mean states [M, H]: f64[1, ridges, M, K]."""
        return (means @ self.weights + self.intercepts[:, None])[None]

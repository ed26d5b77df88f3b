"""From scores of windows to the decision on a clip.

Convention
----------
A clip is cut into windows (patches, chunks), and a network scores each: `scores f[W, K]`, finite, of W
windows and K classes or tags; `clip int[W]` says which clip 0 … M−1 a window belongs to, in any order. What
comes out has one row a clip, in the order of their numbers. `weights f[W] >= 0` weigh the windows, say by how
much of each is sound rather than padding; leave rows that only fill a batch out (`scores[mask]`,
`clip[mask]`). Sums are in float64.

Procedures
----------
* mean over consecutive windows, then the metrics of tags (thesis ch. 3.4 MTT, ch. 5): :func:`mean_over_windows`
* majority vote of a song's chunks (Ballroom, ch. 3.2 and 3.3): :func:`majority_vote`
* instruments of IRMAS (ch. 3.4), strategy s1: :func:`mean_over_windows`, :func:`threshold` of
  :data:`IRMAS_MEAN_GRID` (the paper reports .2); s2: :func:`max_normalised_sum`, :func:`threshold` of
  :data:`IRMAS_SUM_GRID`. The released code scores every threshold of the grid on the test set; here
  :func:`choose_threshold` takes one on the validation set
* moods of the ISMIR 2018 tutorial: :func:`round_outputs`, then exact match, Hamming loss and ROC-AUC of the
  rounded outputs

References
----------
Pons, Lidy and Serra 2016, Experimenting with musically motivated convolutional neural networks. Pons,
Slizovskaia, Gong, Gómez and Serra 2017, Timbre analysis of music audio signals with convolutional neural
networks. Han, Kim and Lee 2017, Deep convolutional neural networks for predominant instrument recognition in
polyphonic music (s1 and s2).
"""

from typing import NamedTuple

import numpy as np

from mirjax import metrics

IRMAS_MEAN_GRID = (0.10, 0.12, 0.14, 0.16, 0.18, 0.20, 0.22, 0.24)
IRMAS_SUM_GRID = (0.25, 0.30, 0.35, 0.40, 0.45, 0.50, 0.55, 0.60)
ROUNDING = 1e-12  # sums of the same windows in another order agree up to this share


class Votes(NamedTuple):
    """Outcome of a vote: `shares f64[M, K]` of the votes, which add up to 1, and the `winners int[M]`."""

    shares: np.ndarray
    winners: np.ndarray


def mean_over_windows(scores, clip, *, num_clips: int | None = None, weights=None) -> np.ndarray:
    """Average the scores of each clip's windows.

    Args:
        scores: f[W, K], finite.
        clip: int[W], the clip of each window.
        num_clips: M; by default the highest of `clip` plus 1, which cannot see that the last clips lack windows.
        weights: of the windows, f[W] >= 0; by default equal.

    Returns:
        f64[M, K].

    Raises:
        ValueError: shapes that do not fit, a score that is not finite, weights that are negative or not finite,
            a `clip` outside 0 … M−1, or a clip without a window of weight above 0.
    """
    scores, clip, weights, num_clips = _check_windows(scores, clip, num_clips, weights)
    total = _sum_by_clip(weights[:, None], clip, num_clips)
    return _sum_by_clip(scores * weights[:, None], clip, num_clips) / total


def majority_vote(scores, clip, *, num_clips: int | None = None, weights=None) -> Votes:
    """Let each window vote for its highest class (the first of equal ones), and the clip take the majority.

    Of classes with equally many votes, the one with the higher mean score over the clip's windows wins; of
    those with an equal mean too, the first.

    Args:
        scores: f[W, K], finite.
        clip: int[W], the clip of each window.
        num_clips: M; by default the highest of `clip` plus 1.
        weights: of the windows' votes and of the means, f[W] >= 0; by default equal.

    Returns:
        Shares of the votes and the winning classes. Decide by `winners`: the arg-max of `shares` knows nothing
        of the means.

    Raises:
        ValueError: as in :func:`mean_over_windows`.

    Reference:
        Pons, Lidy and Serra 2016; it does not say how ties are broken.
    """
    means = mean_over_windows(scores, clip, num_clips=num_clips, weights=weights)
    ballots = np.eye(means.shape[1])[np.argmax(np.asarray(scores), axis=1)]
    shares = mean_over_windows(ballots, clip, num_clips=num_clips, weights=weights)
    means = np.where(_is_highest(shares), means, -np.inf)
    return Votes(shares, np.argmax(_is_highest(means), axis=1))


def max_normalised_sum(scores, clip, *, num_clips: int | None = None, weights=None) -> np.ndarray:
    """Sum the scores of each clip's windows, and divide by the clip's highest sum (strategy s2 of IRMAS).

    Args:
        scores: f[W, K] >= 0, finite: outputs of softmax or sigmoid.
        clip: int[W], the clip of each window.
        num_clips: M; by default the highest of `clip` plus 1.
        weights: of the windows, f[W] >= 0; by default equal.

    Returns:
        f64[M, K] in [0, 1]; every clip's highest class has 1, so every threshold gives it at least one class.

    Raises:
        ValueError: as in :func:`mean_over_windows`, a negative score, or a clip whose scores are all 0.

    Reference:
        Han, Kim and Lee 2017, section III.
    """
    scores, clip, weights, num_clips = _check_windows(scores, clip, num_clips, weights)
    sums = _sum_by_clip(scores * weights[:, None], clip, num_clips)
    highest = sums.max(1, keepdims=True)
    if scores.min() < 0 or not highest.all():
        raise ValueError(
            f"scores go down to {scores.min()}, and {np.sum(highest == 0)} clips have only 0; "
            "give outputs of softmax or sigmoid, not logits"
        )
    return sums / highest


def threshold(scores, t) -> np.ndarray:
    """Decide for the tags whose score reaches a threshold: `scores >= t`.

    Args:
        scores: f[M, K], without NaN.
        t: one threshold, or f[K], one for each tag.

    Returns:
        bool[M, K].

    Raises:
        ValueError: a NaN, or thresholds that are neither one nor K.
    """
    scores, t = np.asarray(scores), np.asarray(t)
    if scores.ndim != 2 or t.shape not in ((), scores.shape[1:]):
        raise ValueError(f"t {t.shape} must be one number or one for each tag of scores {scores.shape} [clips, tags]")
    if np.isnan(scores).any() or np.isnan(t).any():
        raise ValueError("scores or t hold NaN, which no threshold can decide; find where the network gave it")
    return scores >= t


def choose_threshold(targets, scores, grid, *, average: str = "micro") -> float:
    """Choose the threshold with the highest F1, on clips of the validation set.

    Args:
        targets: bool or 0/1 `[M, K]`.
        scores: f[M, K], without NaN.
        grid: thresholds to choose from, such as :data:`IRMAS_MEAN_GRID`.
        average: "micro" or "macro", of :func:`mirjax.metrics.precision_recall_f1`.

    Returns:
        One of `grid`, the first of equally good ones.

    Raises:
        ValueError: an empty grid, no threshold with a right decision (F1 = 0 everywhere), or as in
            :func:`threshold` and :func:`mirjax.metrics.precision_recall_f1`.
    """
    f1 = [metrics.precision_recall_f1(targets, threshold(scores, t), average=average).f1 for t in grid]
    if not f1 or not max(f1):
        raise ValueError(
            f"no threshold of grid={[float(t) for t in grid]} has F1 > 0 on {len(scores)} clips; "
            "give thresholds within the range of the scores, and clips with tags"
        )
    return float(grid[int(np.argmax(f1))])


def round_outputs(scores) -> np.ndarray:
    """Round outputs to 0 and 1, to the even one at .5: True where above .5.

    The tutorial gives the rounded outputs to ROC-AUC too; :func:`mirjax.metrics.roc_auc` takes them as scores.
    Such an area is the mean of recall and specificity at .5, mostly lower than that of the outputs.

    Args:
        scores: f[M, K] in [0, 1].

    Returns:
        bool[M, K].

    Raises:
        ValueError: a score outside [0, 1], or NaN.
    """
    scores = np.asarray(scores)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(
            f"scores from {scores.min()} to {scores.max()} are not within [0, 1]; give outputs of softmax or sigmoid"
        )
    return scores > 0.5


def _is_highest(values: np.ndarray) -> np.ndarray:
    """bool[M, K]: values as high as their row's highest, up to rounding, so that ties are ties in any order."""
    highest = values.max(1, keepdims=True)
    return values >= highest - ROUNDING * np.abs(highest)


def _sum_by_clip(values: np.ndarray, clip: np.ndarray, num_clips: int) -> np.ndarray:
    """Sums over the windows of each clip, all of which have some."""
    order = np.argsort(clip, kind="stable")
    return np.add.reduceat(values[order], np.searchsorted(clip[order], np.arange(num_clips)), axis=0)


def _check_windows(scores, clip, num_clips, weights) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    scores, clip = np.asarray(scores, np.float64), np.asarray(clip)
    weights = np.ones(len(clip)) if weights is None else np.asarray(weights, np.float64)
    if scores.ndim != 2 or not scores.size or clip.shape != scores.shape[:1] or weights.shape != clip.shape:
        raise ValueError(
            f"scores {scores.shape} must be [windows, classes], clip {clip.shape} and weights {weights.shape} "
            "[windows], and not empty"
        )
    if not np.issubdtype(clip.dtype, np.integer):
        raise ValueError(f"clip of {clip.dtype} must hold integers, the number of each window's clip")
    num_clips = int(clip.max()) + 1 if num_clips is None else num_clips
    if clip.min() < 0 or clip.max() >= num_clips:
        raise ValueError(
            f"clip goes from {clip.min()} to {clip.max()}, not within 0 … {num_clips - 1}; leave padding windows out"
        )
    bad = np.flatnonzero(~np.isfinite(scores).all(1))
    if len(bad):
        raise ValueError(
            f"scores of {len(bad)} windows are not finite, the first window {bad[0]} of clip {clip[bad[0]]}; "
            "find where the network gave them"
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"weights from {weights.min()} to {weights.max()} must be finite and >= 0")
    empty = np.flatnonzero(np.bincount(clip, weights, num_clips) == 0)
    if len(empty):
        raise ValueError(
            f"{len(empty)} of {num_clips} clips have no window of weight above 0, the first clip {empty[0]}; "
            "pad short clips to one window, or leave them out and number the others anew"
        )
    return scores, clip, weights, num_clips

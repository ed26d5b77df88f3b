"""What every clip adds to an area under a curve: numbers whose mean is the area, for intervals and paired tests.

Convention
----------
`targets bool[M, K]`, `scores f[M, K]` as in :mod:`mirjax.metrics`. An area A(w), seen as a function of the clips'
weights w, has at equal weights the *share* of clip m

    u_m = A + M · ∂A/∂w_m        (Σw = M),      mean of u_m = A,

because A does not change when all weights are multiplied. The shares take the place of the decisions `correct[S, M]` in
:mod:`mirjax.statistics`: its bootstrap of first order over seeds and clips (or groups), its test against the best and
its split of the variance then hold for areas. For the ROC this is DeLong's method; with real resampling a tag with few
clips would at times lose them all, and the area under precision and recall would rise with every repeated clip. (That
area is itself too high for tags with few clips: intervals are about its mean over samples of this size.)

The derivatives, T and F being the clips with and without a tag that score at least as high as clip i, P and N all of
them, p(·) the share of the other kind that is below (ties count one half):

    ROC: (p_m − A) / P for a clip with the tag, (p_m − A) / N for one without, p_m being there the share above it
    AP:  1/P · [y_m · (T_m / (T_m + F_m) − A) + Σ_{i with the tag, below or tied with m} d_i],
         d_i = F_i / (T_i + F_i)² if clip m has the tag, else −T_i / (T_i + F_i)²

Names: :func:`area_shares`, :func:`error_shares`.

References
----------
DeLong, DeLong and Clarke-Pearson 1988, Comparing the areas under two or more correlated receiver operating
characteristic curves. Efron 1982, The jackknife, the bootstrap and other resampling plans, ch. 6 (infinitesimal).
"""

import numpy as np


def area_shares(targets, scores) -> dict[str, np.ndarray]:
    """Shares of clips in the ROC-AUC and PR-AUC that are averaged over tags.

    Args:
        targets: bool `[M, K]`.
        scores: f[M, K], finite, higher where the tag is likelier.

    Returns:
        {"roc_auc": f64[M], "pr_auc": f64[M]}, whose means are those of :func:`mirjax.metrics.score_tags`; tags without
        a clip (for ROC also those that all clips have) are left out.
    """
    targets = np.ascontiguousarray(np.asarray(targets, bool).T)
    scores = np.ascontiguousarray(np.asarray(scores, np.float64).T)
    num_clips = targets.shape[1]
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked, has = (np.take_along_axis(values, order, axis=1) for values in (scores, targets))
    first, last = _ties(ranked)
    true, false = np.cumsum(has, axis=1), np.cumsum(~has, axis=1)
    total_true, total_false = true[:, -1:], false[:, -1:]
    (true_from, true_above), (false_from, false_above) = (
        (_at(counts, last), _at(counts - own, first)) for counts, own in ((true, has), (false, ~has))
    )
    with np.errstate(invalid="ignore", divide="ignore"):  # 0/0 for tags that lack a kind of clip
        half_true, half_false = (true_from + true_above) / 2, (false_from + false_above) / 2
        placed = np.where(has, 1 - half_false / total_false, half_true / total_true)
        area = (placed * has).sum(1, keepdims=True) / total_true
        of_roc = area + num_clips * (placed - area) / np.where(has, total_true, total_false)

        size = true_from + false_from
        precision = true_from / size
        area = (precision * has).sum(1, keepdims=True) / total_true
        gained, lost = (_at(_suffix_sums(has * part / size**2), first) for part in (false_from, true_from))
        of_pr = area + num_clips / total_true * np.where(has, precision - area + gained, -lost)
    some, not_all = total_true[:, 0] > 0, total_false[:, 0] > 0
    return {
        name: _unsorted(values, order)[kept].mean(axis=0)
        for name, values, kept in (("roc_auc", of_roc, some & not_all), ("pr_auc", of_pr, some))
    }


def error_shares(targets, scores) -> np.ndarray:
    """Shares f64[M] of clips in the root of the mean squared error over clips and tags.

    Args:
        targets: f[M, K].
        scores: f[M, K].
    """
    squares = ((np.asarray(scores, np.float64) - np.asarray(targets, np.float64)) ** 2).mean(axis=1)
    root = np.sqrt(squares.mean())
    return np.zeros(len(squares)) if root == 0 else root + (squares - root**2) / (2 * root)


def _ties(ranked) -> tuple[np.ndarray, np.ndarray]:
    """Number of the first and of the last clip with the same score, for sorted scores f64[K, M]."""
    numbers = np.broadcast_to(np.arange(ranked.shape[1]), ranked.shape)
    differs = ranked[:, 1:] != ranked[:, :-1]
    edge = np.ones((len(ranked), 1), bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, differs]), numbers, 0), axis=1)
    ends = np.where(np.hstack([differs, edge]), numbers, ranked.shape[1])
    return first, np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]


def _at(values, numbers):
    return np.take_along_axis(values, numbers, axis=1)


def _suffix_sums(values):
    return np.cumsum(values[:, ::-1], axis=1)[:, ::-1]


def _unsorted(values, order):
    """Values of sorted clips in the order of the clips."""
    found = np.empty_like(values)
    np.put_along_axis(found, order, values, axis=1)
    return found

"""Whether one ranking of networks predicts another: rank correlations, their intervals, noise, regret.

Convention
----------
A networks are scored twice, untrained and trained (or by a proxy and trained). Scores come as `[A]`, as `[A, S]` with
S seeds of each network, or as `[A, S, M]`, 1 where the decision on one of M clips was right, else 0. Higher is better.
Seeds are *nested*: seed 0 of one network has nothing to do with seed 0 of another, and the two sides may have different
numbers of them. Clips are *crossed*: all networks meet the same M. A network's score is its mean. Infinite scores `[A]`
(some proxies give them) rank at the ends.

What the interval is of
-----------------------
ρ, the rank correlation of mean scores in the population that the networks were drawn from, each scored with as many
seeds and clips as here. Noise of seeds and clips makes ρ smaller than the correlation of noise-free scores: what it
would be without is told by :func:`attenuation`, and what is in reach by :func:`noise_ceiling`.

The bootstrap
-------------
Each resample draws networks and, independently, clips (clusters of them where `groups` are given). Networks bring all
their seeds with them: to draw seeds again within a network would count their noise twice, as it is in the means
already, and pull every resampled correlation towards 0 (Davison and Hinkley 1997, section 3.8). Networks are crossed
with clips and the noise of a single (network, clip) cell is met in both, so three variances are taken, of the
correlation under networks alone V_n, under clips alone V_c, and under both V_nc, on the scale z = arcsin r where
bounds stay within [−1, 1]. To first order V_nc = V_n + V_c + V_e with V_e that noise, and the truth holds it once,

    V = max(V_n + V_c − V_e, V_n) = max(2 (V_n + V_c) − V_nc, V_n).

The interval is a percentile interval: quantiles of the deviations of z under both from their mean, rescaled to V.
Nothing widens it for few networks, as the terms of second order that a bootstrap adds do: in simulations of 12, 20 and
60 networks, with noise of all kinds, 95 % intervals held ρ in 95 to 98 % of cases (of the others most lay above it;
tests/test_rankings.py).

What is here
------------
* :func:`spearman`, :func:`kendall`, :func:`partial_rank_correlation`: the correlations
* :func:`correlation_interval`: one with its interval
* :func:`attenuation`, :func:`noise_ceiling`: what seed noise does to it
* :func:`regret`: what the best of the first k costs

References
----------
Spearman 1904, The proof and measurement of association between two things. Kendall 1945, The treatment of ties in
ranking problems. Owen 2007, The pigeonhole bootstrap. Davison and Hinkley 1997, Bootstrap methods and their
application.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np

CHUNK_VALUES = 1 << 21  # values of a resample held at a time: 16 MB
KINDS = ("spearman", "kendall")
DIGITS = 12  # of a mean accuracy, beyond which a difference is rounding
MOST_SPLITS = 1000  # of seeds into halves; more are sampled


@dataclass(frozen=True)
class CorrelationInterval:
    """A rank correlation with its interval, and what that interval leaves out ("" for nothing)."""

    correlation: float
    low: float
    high: float
    leaves_out: str


@dataclass(frozen=True)
class Attenuation:
    """A correlation of means over seeds, the reliabilities of both sides, and the correlation without seed noise.

    `disattenuated` is None where a reliability is not known (one seed) or not positive; `note` says why, or that the
    estimate is beyond 1.
    """

    observed: float
    reliability_untrained: float | None
    reliability_trained: float | None
    disattenuated: float | None
    note: str


@dataclass(frozen=True)
class NoiseCeiling:
    """What seed noise lets any ranking reach.

    `halves`: correlation of two disjoint halves of the seeds; `repeat`: of two runs of the whole study with all
    seeds; `perfect`: of the noise-free ranking with the measured one, √repeat.
    """

    halves: float
    repeat: float
    perfect: float


@dataclass(frozen=True)
class Regret:
    """Best trained score of all minus the best of the untrained top `k`; `random`: expected for k drawn at random."""

    k: int
    regret: float
    random: float


# ── correlations ──


def spearman(x, y):
    """Spearman's ρ: Pearson's correlation of ranks, ties sharing their mean rank.

    Args:
        x: scores `[..., A]`.
        y: scores `[..., A]`.

    Returns:
        ρ in [−1, 1], `[...]`; NaN where all x or all y are equal.

    Raises:
        ValueError: shapes that differ, or fewer than two networks.
    """
    x, y = _pair(x, y)
    return _pearson(_ranks(x), _ranks(y))


def kendall(x, y):
    """Kendall's τ-b: concordant minus discordant pairs, over √(pairs untied in x · pairs untied in y).

    Args:
        x: scores `[..., A]`.
        y: scores `[..., A]`.

    Returns:
        τ-b in [−1, 1], `[...]`; NaN where all x or all y are equal.

    Raises:
        ValueError: shapes that differ, or fewer than two networks.
    """
    x, y = _pair(x, y)
    first, second = np.triu_indices(x.shape[-1], 1)
    dx, dy = (np.sign(values[..., first] - values[..., second]) for values in (x, y))
    with np.errstate(invalid="ignore"):
        found = (dx * dy).sum(-1) / np.sqrt(np.abs(dx).sum(-1) * np.abs(dy).sum(-1))
    return _scalar(np.clip(found, -1, 1))


def partial_rank_correlation(x, y, controls):
    """Spearman's ρ of x and y with what the ranks of the controls tell of each taken out.

    The correlation of the residuals of x's and y's ranks after a linear fit to the controls' ranks: whether x says
    something of y that, say, the number of parameters does not.

    Args:
        x: scores `[..., A]`.
        y: scores `[..., A]`.
        controls: C of them, `[..., A, C]` or, for one, `[..., A]`.

    Returns:
        ρ in [−1, 1], `[...]`; NaN where the controls' ranks leave nothing of x or y.

    Raises:
        ValueError: shapes that do not fit, or as many controls as networks allow no fit of.
    """
    x, y = _pair(x, y)
    controls = np.asarray(controls, float)
    controls = controls[..., None] if controls.ndim == x.ndim else controls
    num, num_controls = x.shape[-1], controls.shape[-1]
    if controls.shape[:-1] != x.shape or num < num_controls + 3:
        raise ValueError(
            f"controls {controls.shape} for scores {x.shape}: give [..., A, C], with at least C + 3 networks"
        )
    ranks = _centred(_ranks(np.moveaxis(controls, -1, -2)))  # [..., C, A]
    basis = np.moveaxis(ranks, -1, -2) @ np.linalg.pinv(np.moveaxis(ranks, -1, -2), rcond=1e-10)  # onto their span
    residuals = []
    for values in (x, y):
        centred = _centred(_ranks(values))
        rest = centred - (basis @ centred[..., None])[..., 0]
        lost = (rest**2).sum(-1) <= 1e-12 * (centred**2).sum(-1)
        residuals.append(np.where(lost[..., None], 0, rest))
    return _pearson(*residuals)


def correlation_interval(
    untrained, trained, *, kind="spearman", controls=None, groups=None, level=0.95, num_resamples=2000, seed=0
) -> CorrelationInterval:
    """Rank correlation between mean scores with its interval; the maths is at the head of this module.

    Where only one side comes with clips (the other a proxy, which has none), that side's clips are drawn.

    Args:
        untrained: `[A]`, `[A, S]` or `[A, S, M]`.
        trained: `[A]`, `[A, S']` or `[A, S', M]`.
        kind: `spearman` or `kendall`.
        controls: `[A]` or `[A, C]`: the partial rank correlation instead (`spearman` only).
        groups: what clips share, `[M]`, or None: clips of one group are drawn together.
        level: coverage.
        num_resamples: bootstrap resamples.
        seed: of the resampling.

    Returns:
        The correlation and its interval.

    Raises:
        ValueError: shapes that do not fit, fewer than four networks, scores that are all equal, or an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not one of {', '.join(KINDS)}")
    if controls is not None and kind != "spearman":
        raise ValueError(f"kind={kind!r} takes no controls; leave them out, or take kind='spearman'")
    sides, num_clips = _sides(untrained, trained)
    num = len(sides[0])
    if num < 4:
        raise ValueError(f"{num} networks show no distribution of correlations; give four at least")
    sums, sizes, leaves_out = _cluster_sums(sides, groups, num_clips)
    controls = None if controls is None else np.asarray(controls, float).reshape(num, -1)

    def correlate(x, y, networks):
        if controls is not None:
            return partial_rank_correlation(x, y, controls[networks])
        return (spearman if kind == "spearman" else kendall)(x, y)

    everyone = np.arange(num)
    correlation = correlate(*map(_means, sides), everyone)
    if np.isnan(correlation):
        raise ValueError("the scores (or what the controls leave of them) are all equal; there is nothing to rank")
    found = {"networks": [], "clips": [], "both": []}
    for networks, means in _resamples(sides, sums, sizes, num_resamples, seed):
        observed = (_means(side)[networks] for side in sides)
        found["networks"].append(correlate(*observed, networks))
        if len(sizes) > 1:
            found["clips"].append(correlate(*means, np.broadcast_to(everyone, networks.shape)))
            found["both"].append(correlate(*(np.take_along_axis(m, networks, 1) for m in means), networks))
    z = {name: _on_scale(values) for name, values in found.items() if values}
    variance = z["networks"].var()
    if "both" in z:
        variance = max(2 * (variance + z["clips"].var()) - z["both"].var(), variance)
    drawn = z.get("both", z["networks"])
    rescale = math.sqrt(variance) / drawn.std() if drawn.std() > 0 else 0.0
    bounds = np.quantile(drawn - drawn.mean(), [(1 - level) / 2, (1 + level) / 2]) * rescale
    low, high = np.sin(np.clip(np.arcsin(correlation) + bounds, -np.pi / 2, np.pi / 2))
    return CorrelationInterval(float(correlation), float(low), float(high), leaves_out)


def _resamples(sides, sums, sizes, num_resamples, seed):
    """Chunks of resamples: numbers of the networks drawn [R, A], and both sides' means over the clips drawn [R, A]."""
    num = len(sides[0])
    for_networks, for_clips = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    chunk = max(1, CHUNK_VALUES // max(num**2, len(sizes)))
    for start in range(0, num_resamples, chunk):
        count = min(chunk, num_resamples - start)
        networks, means = for_networks.integers(num, size=(count, num)), None
        if len(sizes) > 1:
            weights = for_clips.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=count)
            means = [
                np.broadcast_to(_means(side), (count, num))
                if total is None
                else np.round(weights @ total.T / (weights @ sizes * side.shape[1])[:, None], DIGITS)
                for side, total in zip(sides, sums, strict=True)
            ]
        yield networks, means


# ── noise ──


def attenuation(untrained, trained, *, kind="spearman") -> Attenuation:
    """Reliability of both sides from seed noise, and the correlation as it would be without that noise.

    One-way ANOVA on each side, networks as groups: MS_b between networks, MS_w within them. The reliability of a
    mean over S seeds is rel = (MS_b − MS_w) / MS_b, which is the intraclass correlation of one seed stepped up by
    Spearman and Brown, and r / √(rel_u · rel_t) is Spearman's correction. For Spearman's correlation the reliabilities
    are those of ranks, given seed by seed: where most networks are no better than chance, a few good ones make scores
    reliable while most ranks are noise. The correction is exact for Pearson's correlation and close for Spearman's;
    seed noise must be of like size in all networks only on average. What the choice of clips does is not in it; both
    sides met the same clips, and that part of the noise, which they share, remains.

    Args:
        untrained: `[A, S]` (or `[A, S, M]`, of which the mean over clips is taken).
        trained: `[A, S']` or `[A, S', M]`.
        kind: correlation of the means, `spearman` or `pearson`.

    Returns:
        The reliabilities and correlations.

    Raises:
        ValueError: shapes that do not fit, or an unknown kind.

    Reference:
        Spearman 1904. Shrout and Fleiss 1979, Intraclass correlations: uses in assessing rater reliability, ICC(1, k).
    """
    if kind not in ("spearman", "pearson"):
        raise ValueError(f"kind={kind!r} is not one of spearman, pearson")
    sides, _ = _sides(untrained, trained)
    means = [_means(side) for side in sides]
    observed = float(spearman(*means) if kind == "spearman" else _pearson(*means))
    of_seeds = [_by_seed(side) for side in sides]
    if kind == "spearman":
        of_seeds = [_ranks(values.T).T for values in of_seeds]
    reliabilities = [_reliability(values) for values in of_seeds]
    lacking = [name for name, rel in zip(("untrained", "trained"), reliabilities, strict=True) if rel is None]
    noise = [name for name, rel in zip(("untrained", "trained"), reliabilities, strict=True) if rel == 0]
    if lacking:
        return Attenuation(observed, *reliabilities, None, f"one seed shows no noise: {' and '.join(lacking)}")
    if noise:
        return Attenuation(observed, *reliabilities, None, f"networks differ no more than seeds: {' and '.join(noise)}")
    corrected = observed / math.sqrt(reliabilities[0] * reliabilities[1])
    note = "beyond 1: an estimate; read it as 1 within its error" if abs(corrected) > 1 else ""
    return Attenuation(observed, *reliabilities, corrected, note)


def noise_ceiling(trained, *, kind="spearman", seed=0) -> NoiseCeiling:
    """Expected rank correlation between independent halves of the seeds, and what follows from it.

    All ways to draw two disjoint halves of ⌊S / 2⌋ seeds are averaged (a sample of them beyond `MOST_SPLITS`). A half
    has reliability r; all S seeds have k r / (1 + (k − 1) r) with k = S / ⌊S / 2⌋ (Spearman and Brown), and no ranking
    can be expected to correlate with the measured one better than the root of that (where most networks are no better
    than chance, not even that well).

    Args:
        trained: `[A, S]` or `[A, S, M]`, at least two seeds.
        kind: `spearman` or `kendall`; the step-up is close for the first and rough for the second.
        seed: of the sample of halves.

    Returns:
        The three correlations; NaN for `repeat` and `perfect` where halves correlate negatively.

    Raises:
        ValueError: fewer than two seeds or networks, or an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not one of {', '.join(KINDS)}")
    scores = _by_seed(_scores(trained, "trained"))
    num_seeds = scores.shape[1]
    if num_seeds < 2:
        raise ValueError(f"trained {scores.shape} has one seed and no halves; run two at least")
    half = num_seeds // 2
    first, second = np.array(_halves(num_seeds, half, seed)).transpose(1, 0, 2)
    correlate = spearman if kind == "spearman" else kendall
    halves = float(np.mean(correlate(scores[:, first].mean(-1).T, scores[:, second].mean(-1).T)))
    times = num_seeds / half
    if not halves >= 0:
        return NoiseCeiling(halves, math.nan, math.nan)
    repeat = times * halves / (1 + (times - 1) * halves)
    return NoiseCeiling(halves, repeat, math.sqrt(repeat))


def _halves(num_seeds, half, seed):
    """Pairs of disjoint sets of `half` seeds, each pair once."""
    if math.comb(num_seeds, half) * math.comb(num_seeds - half, half) // 2 > MOST_SPLITS:
        rng = np.random.default_rng(seed)
        orders = [rng.permutation(num_seeds) for _ in range(MOST_SPLITS)]
        return [(order[:half], order[half : 2 * half]) for order in orders]
    found = []
    for first in itertools.combinations(range(num_seeds), half):
        others = [s for s in range(first[0] + 1, num_seeds) if s not in first]  # each pair once: the lowest comes first
        found += [(first, second) for second in itertools.combinations(others, half)]
    return found


def _reliability(scores) -> float | None:
    """(MS_b − MS_w) / MS_b of scores [A, S], at least 0; None with one seed."""
    num_seeds = scores.shape[1]
    if num_seeds < 2:
        return None
    between = num_seeds * scores.mean(1).var(ddof=1)
    within = scores.var(1, ddof=1).mean()
    return float(max(0.0, (between - within) / between)) if between > 0 else 0.0


# ── regret ──


def regret(untrained, trained, k: int) -> Regret:
    """What is lost by training only the k networks that rank first untrained.

    Where untrained scores tie at the k-th place, the expectation over which of them are taken. The best is picked by
    measured trained scores, in which seed noise favours the many over the few: regrets are a little too large.

    Args:
        untrained: `[A]`, `[A, S]` or `[A, S, M]`.
        trained: `[A]`, `[A, S']` or `[A, S', M]`.
        k: 1 to A.

    Returns:
        The regret, and that of k networks drawn at random: best − Σᵢ y₍ᵢ₎ C(i − 1, k − 1) / C(A, k), y sorted upwards.

    Raises:
        ValueError: shapes that do not fit, or k that is not from 1 to A.
    """
    sides, _ = _sides(untrained, trained)
    x, y = (_means(side) for side in sides)
    if not 1 <= k <= len(x):
        raise ValueError(f"k={k} must be from 1 to {len(x)}, the number of networks")
    last = np.sort(x)[-k]
    surely, tied = y[x > last], y[x == last]
    best = _expected_maximum(np.maximum(tied, surely.max(initial=-np.inf)), k - len(surely))
    return Regret(k, float(y.max() - best), float(y.max() - _expected_maximum(y, k)))


def _expected_maximum(values, k) -> float:
    """Expected maximum of k of n values, drawn without replacement."""
    n = len(values)
    shares = [math.comb(i, k - 1) / math.comb(n, k) for i in range(n)]
    return float(np.sort(values) @ shares)


# ── scores and their shapes ──


def _scores(values, name) -> np.ndarray:
    values = np.asarray(values, float)
    if values.ndim not in (1, 2, 3) or not values.size:
        raise ValueError(f"{name} {values.shape} must be [networks], [networks, seeds] or [networks, seeds, clips]")
    if np.isnan(values).any() or (values.ndim > 1 and np.isinf(values).any()):
        raise ValueError(f"{name} holds NaN, or infinities to average; leave those networks out, or give ranks [A]")
    return _ranks(values) if np.isinf(values).any() else values


def _sides(untrained, trained) -> tuple[list, int]:
    """Both sides as arrays, and the number of clips (0 without)."""
    sides = [_scores(untrained, "untrained"), _scores(trained, "trained")]
    clips = {side.shape[2] for side in sides if side.ndim == 3}
    if len(sides[0]) != len(sides[1]) or len(clips) > 1:
        raise ValueError(
            f"untrained {sides[0].shape} and trained {sides[1].shape} must be of the same networks and clips"
        )
    return sides, clips.pop() if clips else 0


def _means(side) -> np.ndarray:
    """Scores [A]: as they are, or means, rounded so that equal ones tie whatever the order of summation."""
    return side if side.ndim == 1 else np.round(side.reshape(len(side), -1).mean(1), DIGITS)


def _by_seed(side) -> np.ndarray:
    """Scores [A, S]."""
    return side.mean(2) if side.ndim == 3 else side.reshape(len(side), -1)


def _cluster_sums(sides, groups, num_clips):
    """Of each side the sums [A, G] over seeds and a cluster's clips (None without clips); sizes; what is left out."""
    if not num_clips:
        return [None, None], np.ones(0), "the choice of the clips (scores came without)"
    groups = np.arange(num_clips) if groups is None else np.asarray(groups)
    if groups.shape != (num_clips,):
        raise ValueError(f"groups {groups.shape} must name one group for each of the {num_clips} clips")
    codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    order = np.argsort(codes, kind="stable")
    sums = [np.add.reduceat(side.sum(1)[:, order], starts, axis=1) if side.ndim == 3 else None for side in sides]
    return sums, sizes.astype(float), "" if len(sizes) > 1 else "the choice of the clips (they are one group)"


def _pair(x, y):
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or not x.ndim or x.shape[-1] < 2:
        raise ValueError(f"scores {x.shape} and {y.shape} must be of the same networks, two at least")
    return x, y


def _ranks(values) -> np.ndarray:
    from scipy import stats

    return stats.rankdata(values, axis=-1)


def _centred(values) -> np.ndarray:
    return values - values.mean(-1, keepdims=True)


def _pearson(x, y):
    x, y = _centred(x), _centred(y)
    with np.errstate(invalid="ignore"):
        return _scalar(np.clip((x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1)), -1, 1))


def _scalar(values):
    return float(values) if np.ndim(values) == 0 else values


def _on_scale(chunks) -> np.ndarray:
    """arcsin of the resampled correlations, without those that are not defined (all scores drawn equal)."""
    values = np.concatenate([np.atleast_1d(chunk) for chunk in chunks])
    return np.arcsin(values[~np.isnan(values)])

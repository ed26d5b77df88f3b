"""How sure a ranking of architectures is: intervals, tests and variance, from per-clip decisions.

Convention
----------
`correct[S, M]`: one architecture, S networks (seeds) × M clips, 1 where the decision was right,
else 0. All seeds meet the same clips: the two factors are *crossed*. `groups[M]`: what clips share (a
speaker, an album); clips of one group are drawn together. Without groups every clip is its own cluster. G is
the number of clusters. `weights[M]` weigh clips in every mean: with M / (F·n_f) for the n_f clips of fold f,
the mean over clips is the mean over F folds.

The model and its bootstrap
---------------------------
correct = μ + seed_s + cluster_g + residual_sg. Let ȳ be the (weighted) mean, and

    Z[s, g] = (G / Σw) · Σ_{m in g} w_m (correct[s, m] − ȳ),     mean of Z over s and g = 0,

the linearised influence of each cell (for clusters of unequal size the mean is a ratio). The pigeonhole
bootstrap draws seeds and clusters independently and weighs cell (s, g) by u_s·v_g. We keep the terms of first
order,

    d* = mean_s (u_s − 1) Z[s, ·] + mean_g (v_g − 1) Z[·, g],

since the product term counts the residual once more, and draw n − 1 out of n with weights
n/(n−1)·multiplicity, whose variance is exactly s²/n (the plain bootstrap's is too small by (n−1)/n: a third
for three seeds). So Var(d*) = V_s + V_g with V_s = s²(row means)/S, V_g = s²(column means)/G. Both hold the
residual V_e = MS_e/(SG), the truth holds it once: the deviations are rescaled to V = max(V_s + V_g − V_e,
V_s, V_g), unbiased but for the maximum. V is itself an estimate from few seeds and clusters, with
Satterthwaite's degrees of freedom df = (V_s + V_g)² / (V_s²/(S−1) + V_g²/(G−1)): deviations are widened from
the normal to Student's t with df.

Differences of two architectures use the same clusters for both (what makes a clip hard cancels) and
independent seeds (networks of different architectures share nothing; where they do, raw and standardised
input, this is conservative).

What is here
------------
* :func:`bootstrap_interval`, :func:`bootstrap_intervals`: the mean accuracy with its interval
* :func:`fold_weights`: weights that turn a mean over clips into the mean over folds
* :func:`compare_with_best`: every architecture against the best one, selection accounted for
* :func:`paired_difference`: two architectures named beforehand
* :func:`variance_components`, :func:`kendall_between_seeds`, :func:`seeds_to_separate`: where the uncertainty
  is
* :func:`holm`, :func:`average_ranks`, :func:`rank_correlation`: over families and data sets

References
----------
Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1(2). Rao and Wu 1988, Resampling
inference with complex survey data, JASA 83(401). Satterthwaite 1946, An approximate distribution of estimates
of variance components. Cameron, Gelbach and Miller 2011, Robust inference with multiway clustering. Hsu 1996,
Multiple comparisons, ch. 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

CHUNK_VALUES = 1 << 21  # resampling weights held at a time: 16 MB, whatever the number of clips
TAIL = 0.995  # where a family of about ten, tested at 5 %, decides
ROUNDING = 1e-12  # differences of accuracies that should tie do so up to this


@dataclass(frozen=True)
class Interval:
    """A mean accuracy in [0, 1] with its interval, and what that interval leaves out ("" for nothing)."""

    mean: float
    low: float
    high: float
    leaves_out: str


@dataclass(frozen=True)
class Difference:
    """A difference of two mean accuracies with its interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """One architecture against the best; `difference` ≤ 0 is its accuracy minus the best one's.

    `low` and `high` bound that one difference (paired, not widened for having picked the best), `p` accounts
    for the picking, `p_holm` also for the number of architectures, `t_test_p` is the plain two-sample t-test
    over networks. The best itself has None for every p; `t_test_p` is None with fewer than two networks.
    """

    difference: float
    low: float
    high: float
    p: float | None
    p_holm: float | None
    t_test_p: float | None


@dataclass(frozen=True)
class VarianceComponents:
    """Variance of one decision due to the seed, the clip, and the rest (their interaction)."""

    seed: float
    clip: float
    residual: float


@dataclass(frozen=True)
class _Influence:
    """What the bootstrap needs of A architectures: means `[A]`, Z's margins, and the variances they imply."""

    means: np.ndarray  # [A]
    seed_margins: list  # A arrays [S_a]: Z averaged over clusters
    cluster_margins: np.ndarray  # [A, G]: Z averaged over seeds
    seed_variance: np.ndarray  # V_s [A]
    residual_variance: np.ndarray  # V_e [A]

    def variances(self, contrast):
        """V, V_s + V_g and df of Σ_a contrast[..., a] · mean_a."""
        contrast = np.asarray(contrast, float)
        num_clusters = self.cluster_margins.shape[1]
        margins = contrast @ self.cluster_margins
        cluster = (margins**2).sum(-1) / (num_clusters - 1) / num_clusters
        seeds = np.array([max(len(m) - 1, 1) for m in self.seed_margins])
        seed, residual = contrast**2 @ self.seed_variance, contrast**2 @ self.residual_variance
        variance = np.maximum(seed + cluster - residual, np.maximum(seed, cluster))
        variance = np.where(variance > ROUNDING**2, variance, 0)
        spread = contrast**4 @ (self.seed_variance**2 / seeds) + cluster**2 / (num_clusters - 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            df = np.where(spread > 0, (seed + cluster) ** 2 / spread, np.inf)
        return variance, seed + cluster, df

    def moderated(self) -> tuple[np.ndarray, np.ndarray]:
        """V_s drawn towards the family's common value, and its df, both `[A]` (Smyth 2004, sections 4 and 6.2)."""
        from scipy import optimize, special

        df = np.array([len(m) - 1 for m in self.seed_margins], float)
        several = df > 0
        if several.sum() < 3:
            return self.seed_variance, np.maximum(df, 1)
        d = df[several] / 2
        # Seeds that tie say nothing about the spread: below what the residual alone leaves behind in 2 % of cases.
        v = np.maximum(self.seed_variance[several], 0.02 * self.residual_variance[several] + ROUNDING**2)
        logs = np.log(v) - special.digamma(d) + np.log(d)
        excess = logs.var(ddof=1) - special.polygamma(1, d).mean()
        if excess > 1e-3:  # the networks differ in how much their seeds vary: trigamma(prior / 2) = excess
            prior = 2 * optimize.brentq(lambda x: special.polygamma(1, x) - excess, 1e-3, 1e4)
            common = np.exp(logs.mean() + special.digamma(prior / 2) - np.log(prior / 2))
            shared = (prior * common + df * self.seed_variance) / (prior + df)
        else:
            prior = np.inf
            shared = np.full(len(df), (df @ self.seed_variance) / df.sum())
        # All of one pooled variance have as many df as there are: no more may come out of the sum in `family_df`.
        pooled = df.sum() * len(d) / (4 * (len(d) - 1))
        # Half-way only where a network's own is larger, lest the family hide an unsteady one.
        shared = (shared + np.maximum(shared, self.seed_variance)) / 2
        return np.where(several, shared, 0), np.minimum(df + prior, np.maximum(np.maximum(df, 1), pooled))

    def family_df(self, a: int, seed_variance, seed_df) -> float:
        """df of h_a + mean of the other h_b: the variance that the largest difference from `a` draws on."""
        num, num_clusters = self.cluster_margins.shape
        centred = self.cluster_margins - self.cluster_margins.mean(0)
        cluster = (centred**2).sum(1) / (num_clusters - 1) / num_clusters * num / (num - 1)
        weights = np.where(np.arange(num) == a, 1, 1 / (num - 1))
        spread = weights**2 @ (seed_variance**2 / seed_df + cluster**2 / ((num_clusters - 1) * (num - 1) / num))
        return (weights @ (seed_variance + cluster)) ** 2 / spread if spread > 0 else np.inf


def _clusters(groups, num_clips: int) -> tuple[np.ndarray, str]:
    """Cluster number of every clip; one single group cannot be resampled, so its clips are."""
    if groups is None:
        return np.arange(num_clips), ""
    groups = np.asarray(groups)
    if groups.shape != (num_clips,):
        raise ValueError(f"groups {groups.shape} must name one group for each of the {num_clips} clips")
    codes = np.unique(groups, return_inverse=True)[1]
    if codes.max() == 0:
        return np.arange(num_clips), "the spread between groups (there is one)"
    return codes, ""


def _influence(corrects, groups, weights) -> _Influence:
    corrects = [np.asarray(correct, float) for correct in corrects]
    num_clips = corrects[0].shape[-1]
    for index, correct in enumerate(corrects):
        if correct.ndim != 2 or correct.shape[1] != num_clips or not len(correct) or num_clips < 2:
            raise ValueError(
                f"correct[{index}] has shape {correct.shape}; give [seeds, clips], the same two clips or more"
            )
    clusters, _ = _clusters(groups, num_clips)
    weights = np.ones(num_clips) if weights is None else np.asarray(weights, float)
    weights = weights / weights.sum()
    num_clusters = clusters.max() + 1
    means, seed_margins, cluster_margins, seed_variance, residual_variance = [], [], [], [], []
    for correct in corrects:
        num_seeds = len(correct)
        mean = float(np.mean(correct @ weights))
        scaled = num_clusters * weights * (correct - mean)
        z = np.stack([np.bincount(clusters, row, num_clusters) for row in scaled])
        rows, columns = z.mean(1), z.mean(0)
        rest = z - rows[:, None] - columns
        several = num_seeds > 1
        means.append(mean)
        seed_margins.append(rows if several else np.zeros(1))
        cluster_margins.append(columns)
        seed_variance.append(rows.var(ddof=1) / num_seeds if several else 0.0)
        cells = z.size * (num_seeds - 1) * (num_clusters - 1)
        residual_variance.append((rest**2).sum() / cells if several else 0.0)
    return _Influence(
        np.array(means),
        seed_margins,
        np.stack(cluster_margins),
        np.array(seed_variance),
        np.array(residual_variance),
    )


def _multiplicities(rng, num_resamples: int, n: int) -> np.ndarray:
    """How often each of n was drawn in n − 1 draws, times n/(n−1): float `[num_resamples, n]` of mean 1."""
    drawn = rng.integers(n, size=(num_resamples, n - 1)) + n * np.arange(num_resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=num_resamples * n).reshape(num_resamples, n) * (n / (n - 1))


def _deviations(influence: _Influence, num_resamples: int, seed: int, seed_variance=None) -> np.ndarray:
    """First-order deviations d* of all means, `[num_resamples, A]`: clusters shared, seeds independent.

    With `seed_variance` the seeds' part is normal with that variance instead of resampled.
    """
    cluster_rng, seed_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    num_clusters = influence.cluster_margins.shape[1]
    chunk = max(1, CHUNK_VALUES // num_clusters)
    deviations = (
        np.concatenate(
            [
                _multiplicities(cluster_rng, min(chunk, num_resamples - start), num_clusters)
                @ influence.cluster_margins.T
                for start in range(0, num_resamples, chunk)
            ]
        )
        / num_clusters
    )
    if seed_variance is not None:
        return deviations + seed_rng.standard_normal(deviations.shape) * np.sqrt(seed_variance)
    for column, margins in enumerate(influence.seed_margins):
        if len(margins) > 1:  # margins have mean 0, so weights of mean 1 need no centring
            deviations[:, column] += _multiplicities(seed_rng, num_resamples, len(margins)) @ margins / len(margins)
    return deviations


def _bounds(deviations, variance, raw_variance, df, level: float) -> tuple[float, float]:
    """Percentiles of the deviations, rescaled to `variance` and widened from the normal to Student's t."""
    from scipy import stats

    if variance == 0:
        return 0.0, 0.0
    upper = (1 + level) / 2
    widen = np.sqrt(variance / raw_variance) * stats.t.ppf(upper, df) / stats.norm.ppf(upper)
    low, high = np.quantile(deviations, [1 - upper, upper]) * widen
    return float(low), float(high)


def _as_normal(difference, variance, df):
    """The deviation that a normal exceeds as often as Student's t with df exceeds `difference`."""
    from scipy import stats

    scale = np.sqrt(variance)
    return scale * stats.norm.isf(stats.t.sf(difference / scale, df)) if variance > 0 else difference


def fold_weights(folds) -> np.ndarray:
    """Weights f64[M], 1 in sum, that turn the mean over clips into the mean over folds; folds [M] are names."""
    _, codes, counts = np.unique(folds, return_inverse=True, return_counts=True)
    return (1 / (counts * len(counts)))[codes]


def bootstrap_intervals(
    corrects: Sequence,
    groups=None,
    *,
    weights=None,
    level=0.95,
    num_resamples=2000,
    seed=0,
    single_split=False,
) -> list[Interval]:
    """Mean accuracy of several architectures on the same clips, each with its interval.

    The maths is at the head of this module. Bounds are percentiles of the widened deviations around the mean,
    kept within [0, 1]. Where every decision is right (or wrong) nothing varies: then the bound is Clopper and
    Pearson's, with the clips as trials.

    Args: corrects: A arrays `[S_a, M]` of 0 and 1. groups: group of every clip `[M]`, or None. weights:
    weight of every clip `[M]`, or None for equal ones. level: coverage. num_resamples: bootstrap resamples.
    seed: of the resampling. single_split: the decisions come from one split into training and test clips;
    only named in `leaves_out`.

    Returns:
        A intervals.

    Raises:
        ValueError: shapes that do not fit.
    """
    influence = _influence(corrects, groups, weights)
    num_clips = np.shape(corrects[0])[1]
    deviations = _deviations(influence, num_resamples, seed)
    variance, raw_variance, df = influence.variances(np.eye(len(corrects)))
    one_group = _clusters(groups, num_clips)[1]
    intervals = []
    for index, mean in enumerate(influence.means):
        low, high = _bounds(deviations[:, index], variance[index], raw_variance[index], df[index], level)
        if variance[index] == 0:
            miss = 1 - ((1 - level) / 2) ** (1 / num_clips)
            low, high = (-miss if mean > 1 - ROUNDING else 0.0), (miss if mean < ROUNDING else 0.0)
        one_seed = "the spread between seeds (there is one)" if len(influence.seed_margins[index]) == 1 else ""
        one_split = "the choice of the split (there is one)" if single_split else ""
        intervals.append(
            Interval(
                mean=float(mean),
                low=float(np.clip(mean + low, 0, 1)),
                high=float(np.clip(mean + high, 0, 1)),
                leaves_out="; ".join(filter(None, [one_seed, one_group, one_split])),
            )
        )
    return intervals


def bootstrap_interval(
    correct, groups=None, *, weights=None, level=0.95, num_resamples=2000, seed=0, single_split=False
) -> Interval:
    """Mean accuracy of one architecture with its interval; see :func:`bootstrap_intervals`.

    Args: correct: `[S, M]` of 0 and 1. groups: group of every clip `[M]`, or None. weights: weight of every
    clip `[M]`, or None for equal ones. level: coverage. num_resamples: bootstrap resamples. seed: of the
    resampling. single_split: the decisions come from one split into training and test clips; only named in
    `leaves_out`.

    Returns:
        The interval.

    Raises:
        ValueError: shapes that do not fit.
    """
    options = dict(level=level, num_resamples=num_resamples, seed=seed, single_split=single_split)
    return bootstrap_intervals([correct], groups, weights=weights, **options)[0]


def paired_difference(
    first, second, groups=None, *, weights=None, level=0.95, num_resamples=2000, seed=0
) -> Difference:
    """Accuracy of `first` minus `second`, two architectures named before looking at the results.

    Args:
        first: `[S, M]` of 0 and 1.
        second: `[S', M]`, the same clips.
        groups: group of every clip `[M]`, or None.
        weights: weight of every clip `[M]`, or None for equal ones.
        level: coverage.
        num_resamples: bootstrap resamples.
        seed: of the resampling.

    Returns:
        The difference, its interval and two-sided p-value, (1 + exceedances) / (1 + resamples).

    Raises:
        ValueError: shapes that do not fit.
    """
    influence = _influence([first, second], groups, weights)
    contrast = np.array([1.0, -1.0])
    deviations = _deviations(influence, num_resamples, seed) @ contrast
    variance, raw_variance, df = influence.variances(contrast)
    difference = float(contrast @ influence.means)
    low, high = _bounds(deviations, variance, raw_variance, df, level)
    if variance == 0:
        p = 1.0 if difference == 0 else 1 / (1 + num_resamples)
    else:
        threshold = _as_normal(abs(difference), variance, df) * np.sqrt(raw_variance / variance)
        p = (1 + np.sum(np.abs(deviations) >= threshold - ROUNDING)) / (1 + num_resamples)
    return Difference(difference, difference + low, difference + high, float(p))


def compare_with_best(
    corrects: Sequence, groups=None, *, weights=None, level=0.95, num_resamples=2000, seed=0
) -> list[Comparison]:
    """Compare every architecture with the one observed to be best.

    The best of K equal architectures looks better than the rest just for being picked, so a paired test
    against it rejects too often. Here the gap is compared with that of a world in which all are equal,

        p_a = P( max_b (d*_b − d*_a) ≥ best − mean_a ),

    d* being joint deviations: clusters resampled and shared, each difference rescaled as at the head of this
    module. Two or three seeds cannot show a distribution's tail nor, each architecture by itself, its width: so
    the seeds' part is drawn as normal with V_s drawn towards the family's common value (empirical Bayes; half-way
    only where a network's own is larger, lest the family hide an unsteady one). The maximum draws on the variances
    of all K, h_b = V_s,b + h_b(clusters), the latter from margins centred over architectures: it is widened by
    Student's t with Satterthwaite's df of h_a + mean_{b≠a} h_b, in the tail (TAIL) where families decide. Holm's
    step-down over all K then guards the family.

    Simulated families of equals see a rejection in 2 to 5 % of cases where networks vary alike, and in up to 8 %
    where half of them vary four to ten times as much as the others (tests/test_statistics.py). The test is
    conservative where some architectures are far behind. With one seed it compares these very networks.

    Args:
        corrects: K arrays `[S_a, M]` of 0 and 1, on the same clips.
        groups: group of every clip `[M]`, or None.
        weights: weight of every clip `[M]`, or None for equal ones.
        level: coverage of the differences' intervals.
        num_resamples: bootstrap resamples.
        seed: of the resampling.

    Returns:
        K comparisons, in the order given; the first of equally good ones counts as the best.

    Raises:
        ValueError: shapes that do not fit.

    Reference:
        Hsu 1996, Multiple comparisons, ch. 4 (multiple comparisons with the best). Smyth 2004, Linear models and
        empirical Bayes methods for assessing differential expression in microarray experiments.
    """
    from scipy import stats

    influence = _influence(corrects, groups, weights)
    num, best = len(corrects), int(np.argmax(influence.means))
    deviations = _deviations(influence, num_resamples, seed)
    seed_variance, seed_df = influence.moderated()
    family = replace(influence, seed_variance=seed_variance)
    family_deviations = _deviations(influence, num_resamples, seed, seed_variance)
    accuracies = [np.average(np.asarray(correct, float), axis=1, weights=weights) for correct in corrects]
    gaps = influence.means[best] - influence.means
    bounds, ps = np.zeros((num, 2)), np.ones(num)
    for a in range(num):
        if a == best:
            continue
        contrasts = np.eye(num) - np.eye(num)[a]
        chosen = [values[best] for values in influence.variances(contrasts)]
        bounds[a] = _bounds(deviations[:, best] - deviations[:, a], *chosen, level)
        variances, raw_variances, _ = family.variances(contrasts)
        rescale = np.sqrt(variances / np.where(raw_variances > 0, raw_variances, 1))
        widen = stats.t.ppf(TAIL, family.family_df(a, seed_variance, seed_df)) / stats.norm.ppf(TAIL)
        largest = ((family_deviations - family_deviations[:, a : a + 1]) * rescale).max(1) * widen
        ps[a] = (1 + np.sum(largest >= gaps[a] - ROUNDING)) / (1 + num_resamples)
    return [
        Comparison(0.0, 0.0, 0.0, None, None, None)
        if a == best
        else Comparison(
            difference=float(-gaps[a]),
            low=float(-gaps[a] - bounds[a, 1]),
            high=float(-gaps[a] - bounds[a, 0]),
            p=float(ps[a]),
            p_holm=float(p_holm),
            t_test_p=two_sample_t_test(accuracies[best], accuracies[a]),
        )
        for a, p_holm in enumerate(holm(ps))
    ]


def two_sample_t_test(first, second) -> float | None:
    """The study's own test: Student's two-sample t-test on the networks' accuracies, variances taken as
    equal.

    Args:
        first: accuracies of one architecture's networks `[S]`.
        second: of the other's `[S']`.

    Returns: Two-sided p-value; None with fewer than two networks on either side, or where no network differs
    from its kin.

    Reference:
        Pons and Serra 2019, Randomly weighted CNNs for (music) audio classification.
    """
    from scipy import stats

    n, m = len(first), len(second)
    if min(n, m) < 2 or np.ptp(first) + np.ptp(second) < ROUNDING:
        return None
    pooled = ((n - 1) * np.var(first, ddof=1) + (m - 1) * np.var(second, ddof=1)) / (n + m - 2)
    t = (np.mean(first) - np.mean(second)) / np.sqrt(pooled * (1 / n + 1 / m))
    return float(2 * stats.t.sf(abs(t), n + m - 2))


def holm(pvalues) -> np.ndarray:
    """Holm's step-down adjustment: p_(i) · (m − i + 1), made monotone, at most 1.

    Args:
        pvalues: m p-values.

    Returns:
        Adjusted p-values `[m]`, in the order given.

    Reference:
        Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    pvalues = np.asarray(pvalues, float)
    order = np.argsort(pvalues, kind="stable")
    adjusted = np.empty_like(pvalues)
    adjusted[order] = np.minimum(
        np.maximum.accumulate(pvalues[order] * np.arange(len(pvalues), 0, -1)) if len(pvalues) else [], 1
    )
    return adjusted


def variance_components(correct) -> VarianceComponents:
    """Split the variance of a decision into seeds, clips and the rest: two-way random ANOVA, method of
    moments.

    σ²_seed = (MS_seed − MS_e)/M, σ²_clip = (MS_clip − MS_e)/S, σ²_residual = MS_e; negative estimates become
    0.

    Args:
        correct: `[S, M]` of 0 and 1, at least two seeds and two clips.

    Returns:
        The three variances.

    Raises:
        ValueError: fewer than two seeds or clips.

    Reference:
        Searle, Casella and McCulloch 1992, Variance components, ch. 4.
    """
    correct = np.asarray(correct, float)
    num_seeds, num_clips = correct.shape
    if min(num_seeds, num_clips) < 2:
        raise ValueError(f"correct {correct.shape} has too few seeds or clips to split the variance; give two of each")
    rows, columns, mean = correct.mean(1), correct.mean(0), correct.mean()
    ms_seed = num_clips * ((rows - mean) ** 2).sum() / (num_seeds - 1)
    ms_clip = num_seeds * ((columns - mean) ** 2).sum() / (num_clips - 1)
    rest = correct - rows[:, None] - columns + mean
    ms_residual = (rest**2).sum() / ((num_seeds - 1) * (num_clips - 1))
    return VarianceComponents(
        seed=float(max(0.0, (ms_seed - ms_residual) / num_clips)),
        clip=float(max(0.0, (ms_clip - ms_residual) / num_seeds)),
        residual=float(ms_residual),
    )


def kendall_between_seeds(accuracies) -> float | None:
    """Whether every seed ranks the architectures alike: Kendall's τ-b, averaged over pairs of seeds.

    Args:
        accuracies: `[S, K]`, S seeds × K architectures.

    Returns:
        Mean τ-b in [−1, 1]; None with fewer than two seeds or architectures, or where a seed ties them all.

    Reference:
        Kendall 1945, The treatment of ties in ranking problems.
    """
    from scipy import stats

    accuracies = np.asarray(accuracies, float)
    if min(accuracies.shape) < 2:
        return None
    pairs = zip(*np.triu_indices(len(accuracies), 1), strict=True)
    mean = np.mean([stats.kendalltau(accuracies[i], accuracies[j]).statistic for i, j in pairs])
    return None if np.isnan(mean) else float(mean)


def seeds_to_separate(first, second, groups=None, *, weights=None, level=0.95, limit=100_000) -> int | None:
    """How many seeds would separate two architectures, were their observed difference the true one.

    The smallest S with |difference| ≥ t_df · sqrt(V(S)), V(S) = σ²_cluster/G + Σ σ²_seed/S + Σ
    σ²_residual/(S·G) with the components at hand (method of moments) and Satterthwaite's df. More seeds
    shrink all but the first term.

    Args:
        first: `[S, M]` of 0 and 1, at least two seeds.
        second: `[S', M]`, the same clips, at least two seeds.
        groups: group of every clip `[M]`, or None.
        weights: weight of every clip `[M]`, or None for equal ones.
        level: 1 − the level of the two-sided test.
        limit: the largest number looked at.

    Returns: Number of seeds of each, 2 at least; None where no number would do, the clips alone leaving too
    much doubt: then only more clips (or groups) help.

    Raises:
        ValueError: a single seed, or shapes that do not fit.
    """
    from scipy import stats

    if min(len(first), len(second)) < 2:
        raise ValueError(f"{len(first)} and {len(second)} seeds do not show how seeds differ; run two of each at least")
    influence = _influence([first, second], groups, weights)
    num_clusters = influence.cluster_margins.shape[1]
    margins = influence.cluster_margins[0] - influence.cluster_margins[1]
    residual = influence.residual_variance  # V_e = σ²_e/(S·G) at today's S
    today = np.array([len(first), len(second)])
    cluster = max(0.0, (margins**2).sum() / (num_clusters - 1) / num_clusters - residual.sum())
    per_seed = float(np.sum(np.maximum(influence.seed_variance, residual) * today))  # (σ²_seed + σ²_e/G), both
    seeds = np.arange(2, limit + 1)
    variance = cluster + per_seed / seeds
    spread = cluster**2 / (num_clusters - 1) + (per_seed / seeds) ** 2 / (2 * (seeds - 1))
    with np.errstate(invalid="ignore"):
        df = np.where(spread > 0, variance**2 / spread, np.inf)
    difference = abs(influence.means[0] - influence.means[1])
    enough = (difference > 0) & (difference >= stats.t.ppf((1 + level) / 2, df) * np.sqrt(variance))
    return int(seeds[np.argmax(enough)]) if enough.any() else None


def average_ranks(scores) -> np.ndarray:
    """Average the ranks (1 = highest score) of K architectures over data sets; ties share their mean rank.

    Args:
        scores: `[D, K]`, D data sets × K architectures.

    Returns:
        Average ranks `[K]`.

    Reference:
        Demšar 2006, Statistical comparisons of classifiers over multiple data sets, section 3.2.
    """
    from scipy import stats

    return stats.rankdata(-np.asarray(scores, float), axis=1).mean(0)


def rank_correlation(scores) -> np.ndarray:
    """Spearman's rank correlation between data sets.

    Args:
        scores: `[D, K]`, D data sets × K architectures.

    Returns:
        `[D, D]` in [−1, 1]; NaN beside a data set where all scores are equal.

    Reference:
        Spearman 1904, The proof and measurement of association between two things.
    """
    from scipy import stats

    ranks = stats.rankdata(np.asarray(scores, float), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.atleast_2d(np.corrcoef(ranks))

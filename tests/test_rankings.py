"""Oracles: scipy, published and hand-worked tables, brute force, and simulations in which the truth is known."""

import itertools

import numpy as np
import pytest
from scipy import stats

from mirjax import rankings


def simulate(rng, *, networks, seeds, clips, rho, structure=0.0):
    """Decisions [A, S, M] of both sides: abilities that correlate by rho, seeds that vary, clips of all difficulties.

    With `structure` networks of a kind find the same clips hard, untrained and trained.
    """
    abilities = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=networks)
    clip, kind, taste = rng.normal(size=clips), rng.normal(size=(networks, 1)), rng.normal(size=clips)
    sides = []
    for ability in abilities.T:
        seed = 0.1 * rng.normal(size=(networks, seeds, 1))
        noise = rng.normal(size=(networks, seeds, clips)) + structure * (kind * taste)[:, None]
        sides.append(0.3 + 0.3 * ability[:, None, None] + seed + clip + noise > 0)
    return sides


def scores(rng, *, networks, seeds, rho, deviations):
    """Scores [A, S] of both sides with seed noise, abilities of variance 1 correlated by rho."""
    abilities = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=networks)
    return [a[:, None] + d * rng.normal(size=(networks, seeds)) for a, d in zip(abilities.T, deviations, strict=True)]


# ── correlations ──


@pytest.mark.parametrize("levels", [3, 10, None])
def test_correlations_match_scipy(levels):
    """Oracle: scipy.stats, with many ties, few and none, one pair and many at a time."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 4, 5, 30))
    y = y + x
    if levels:
        x, y = np.round(x * levels / 4), np.round(y * levels / 4)
    for ours, theirs in ((rankings.spearman, stats.spearmanr), (rankings.kendall, stats.kendalltau)):
        found = ours(x, y)
        assert found.shape == (4, 5)
        for i, j in np.ndindex(4, 5):
            assert found[i, j] == pytest.approx(theirs(x[i, j], y[i, j]).statistic, abs=1e-12)
        assert isinstance(ours(x[0, 0], y[0, 0]), float)
        assert np.isnan(ours(np.ones(5), np.arange(5)))


def test_partial_correlation_of_one_control_is_the_textbooks():
    """Oracle: (r_xy − r_xz r_yz) / √((1 − r_xz²)(1 − r_yz²)) of scipy's Spearman correlations."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=40)
    x, y = np.round(z + rng.normal(size=(2, 40)), 1)
    xy, xz, yz = (stats.spearmanr(a, b).statistic for a, b in ((x, y), (x, z), (y, z)))
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert rankings.partial_rank_correlation(x, y, z) == pytest.approx(expected, abs=1e-12)
    assert rankings.partial_rank_correlation(x, y, np.ones(40)) == pytest.approx(xy, abs=1e-12)
    assert np.isnan(rankings.partial_rank_correlation(np.exp(z), y, z))


def test_partial_correlation_of_several_controls():
    """Oracle: residuals of numpy's least squares on ranks with a constant, pair by pair; a control told twice."""
    rng = np.random.default_rng(2)
    controls = rng.normal(size=(3, 25, 2))
    x, y = controls.sum(-1) + rng.normal(size=(2, 3, 25))
    found = rankings.partial_rank_correlation(x, y, controls)
    for i in range(3):
        design = np.column_stack([np.ones(25), stats.rankdata(controls[i], axis=0)])
        rests = [r - design @ np.linalg.lstsq(design, r, rcond=None)[0] for r in map(stats.rankdata, (x[i], y[i]))]
        assert found[i] == pytest.approx(np.corrcoef(*rests)[0, 1], abs=1e-10)
    twice = np.concatenate([controls, controls[..., :1]], axis=-1)
    np.testing.assert_allclose(rankings.partial_rank_correlation(x, y, twice), found, atol=1e-10)


# ── intervals ──


@pytest.mark.parametrize("kind, theirs", [("spearman", stats.spearmanr), ("kendall", stats.kendalltau)])
def test_interval_over_networks_is_the_percentile_interval(kind, theirs):
    """Oracle: a loop over the same draws with scipy's correlation; quantiles shifted to it on the scale of arcsin."""
    x, y = scores(np.random.default_rng(3), networks=15, seeds=2, rho=0.6, deviations=(0.3, 0.3))
    found = rankings.correlation_interval(x, y, kind=kind, num_resamples=200, seed=5)
    draws = np.random.default_rng(np.random.SeedSequence(5).spawn(2)[0]).integers(15, size=(200, 15))
    means = x.mean(1), y.mean(1)
    z = np.arcsin([theirs(means[0][d], means[1][d]).statistic for d in draws])
    r = theirs(*means).statistic
    low, high = np.sin(np.arcsin(r) + np.quantile(z - z.mean(), [0.025, 0.975]))
    assert (found.correlation, found.low, found.high) == pytest.approx((r, low, high), abs=1e-9)
    assert "clips" in found.leaves_out


def test_interval_over_networks_and_clips_is_the_formula_of_the_head():
    """Oracle: the three variances by loops over the same draws, with scipy's correlation of means over copied clips."""
    untrained, trained = simulate(np.random.default_rng(1), networks=30, seeds=3, clips=12, rho=0.9, structure=2)
    found = rankings.correlation_interval(untrained, trained, num_resamples=150, seed=2)
    for_networks, for_clips = (np.random.default_rng(s) for s in np.random.SeedSequence(2).spawn(2))
    networks = for_networks.integers(30, size=(150, 30))
    copies = for_clips.multinomial(12, np.full(12, 1 / 12), size=150)

    def z(networks, clips):
        means = [side[networks][..., clips].mean((1, 2)).round(12) for side in (untrained, trained)]
        return np.arcsin(stats.spearmanr(*means).statistic)

    everyone, clips = np.arange(30), [np.repeat(np.arange(12), each) for each in copies]
    n = np.var([z(drawn, np.arange(12)) for drawn in networks])
    c = np.var([z(everyone, drawn) for drawn in clips])
    both = np.array([z(*drawn) for drawn in zip(networks, clips, strict=True)])
    assert 2 * (n + c) - both.var() > 1.5 * n  # clips matter here
    factor = np.sqrt((2 * (n + c) - both.var()) / both.var())
    bounds = z(everyone, np.arange(12)) + factor * np.quantile(both - both.mean(), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(np.sin(bounds.clip(-np.pi / 2, np.pi / 2))), abs=1e-9)


def test_clips_told_twice_say_nothing_new():
    """Oracle: identity; two copies of every clip, grouped, are the clip."""
    untrained, trained = simulate(np.random.default_rng(4), networks=12, seeds=2, clips=30, rho=0.8)
    once = rankings.correlation_interval(untrained, trained, num_resamples=100)
    twice = [np.repeat(side, 2, axis=2) for side in (untrained, trained)]
    grouped = rankings.correlation_interval(*twice, groups=np.repeat(np.arange(30), 2), num_resamples=100)
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high), abs=1e-12)
    assert rankings.correlation_interval(*twice, num_resamples=100) != grouped
    alone = rankings.correlation_interval(*twice, groups=np.zeros(60), num_resamples=100)
    assert "one group" in alone.leaves_out and not once.leaves_out


def test_interval_in_chunks(monkeypatch):
    """Oracle: identity; memory is bounded and the resamples are the same."""
    untrained, trained = simulate(np.random.default_rng(5), networks=10, seeds=2, clips=40, rho=0.8)
    proxy = trained.mean((1, 2))
    for first in (untrained, proxy):
        whole = rankings.correlation_interval(first, trained, kind="kendall", num_resamples=100)
        with monkeypatch.context() as patch:
            patch.setattr(rankings, "CHUNK_VALUES", 1000)
            assert rankings.correlation_interval(first, trained, kind="kendall", num_resamples=100) == whole


def test_controls_take_out_what_size_explains():
    """Oracle: simulation; both sides follow size alone, so that nothing is left once it is known."""
    rng = np.random.default_rng(6)
    size = rng.normal(size=60)
    x, y = (size[:, None] + 0.5 * rng.normal(size=(60, 3)) for _ in range(2))
    plain = rankings.correlation_interval(x, y, num_resamples=300)
    partial = rankings.correlation_interval(x, y, controls=size, num_resamples=300)
    assert plain.low > 0.7
    assert partial.low < 0 < partial.high
    assert partial.correlation == rankings.partial_rank_correlation(x.mean(1), y.mean(1), size)


CASES = {
    "60 networks": dict(networks=60, seeds=3, clips=100, rho=0.7),
    "20 networks": dict(networks=20, seeds=2, clips=100, rho=0.7),
    "structured": dict(networks=60, seeds=2, clips=60, rho=0.4, structure=0.8),
    "none": dict(networks=30, seeds=2, clips=60, rho=0.0),
}


def coverage(case, kind, studies, resamples):
    """Share of simulated studies whose 95 % interval holds the mean correlation of such studies."""
    correlate, rng = getattr(rankings, kind), np.random.default_rng(7)
    truth = np.mean([correlate(*(s.mean((1, 2)) for s in simulate(rng, **case))) for _ in range(600)])
    held = 0
    for study in range(studies):
        sides = simulate(rng, **case)
        found = rankings.correlation_interval(*sides, kind=kind, num_resamples=resamples, seed=study)
        held += found.low <= truth <= found.high
    return held / studies


def test_interval_holds_the_truth():
    """Oracle: simulation; 95 % intervals of 100 studies hold the population's correlation (within binomial error)."""
    assert 0.9 <= coverage(CASES["20 networks"], "spearman", 100, 200) < 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", rankings.KINDS)
@pytest.mark.parametrize("case", CASES)
def test_interval_holds_the_truth_in_every_case(case, kind):
    """Oracle: simulation; 400 studies of each kind, 93 to 99 % of which hold it (measured: 95 to 98)."""
    held = coverage(CASES[case], kind, 400, 400)
    print(f"{case}, {kind}: {100 * held:.1f} %")
    assert 0.93 <= held <= 0.99


def test_infinite_scores_rank_at_the_ends():
    """Oracle: identity; the same order in finite numbers."""
    trained = np.random.default_rng(13).normal(size=(6, 2))
    wild, tame = [-np.inf, 3, 1, np.inf, -np.inf, 2], [-9, 3, 1, 9, -9, 2]
    for kind in rankings.KINDS:
        found = [rankings.correlation_interval(x, trained, kind=kind, num_resamples=50) for x in (wild, tame)]
        assert found[0] == found[1]
    assert rankings.regret(wild, trained, 1) == rankings.regret(tame, trained, 1)


# ── noise ──


def test_reliability_of_a_published_table():
    """Oracle: Shrout & Fleiss 1979, table 2: six targets, four judges, ICC(1, 4) = .44."""
    judged = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    found = rankings.attenuation(judged, judged, kind="pearson")
    assert found.reliability_untrained == found.reliability_trained == pytest.approx(0.44, abs=0.005)
    assert found.observed == pytest.approx(1)
    assert found.disattenuated == pytest.approx(1 / found.reliability_trained) and "beyond 1" in found.note


@pytest.mark.parametrize(
    "kind, ranked", [("pearson", lambda r: r), ("spearman", lambda r: 6 / np.pi * np.arcsin(r / 2))]
)
def test_disattenuated_correlation_is_that_without_noise(kind, ranked):
    """Oracle: simulation; normal abilities correlated by 0.7 and noisy seeds, reliabilities 0.75 and 0.9.

    One seed then has 0.5 and 0.75, of ranks 6/π arcsin(r/2), which three seeds step up to 3 r / (1 + 2 r).
    """
    true, expected = ranked(0.7), [3 * r / (1 + 2 * r) for r in (ranked(0.5), ranked(0.75))]
    rng = np.random.default_rng(8)
    drawn = [scores(rng, networks=60, seeds=3, rho=0.7, deviations=(1, np.sqrt(1 / 3))) for _ in range(300)]
    found = [rankings.attenuation(*sides, kind=kind) for sides in drawn]
    assert np.mean([f.reliability_untrained for f in found]) == pytest.approx(expected[0], abs=0.02)
    assert np.mean([f.reliability_trained for f in found]) == pytest.approx(expected[1], abs=0.02)
    assert np.mean([f.observed for f in found]) < true - 0.08
    assert np.mean([f.disattenuated for f in found]) == pytest.approx(true, abs=0.02)


def test_noise_of_ranks_where_most_networks_are_at_chance():
    """Oracle: simulation; 40 networks within a point of chance, 20 far above, seen twice through noise of 3.5 points.

    Both sides rank the same abilities, so the correlation without noise is 1.
    """
    rng, of_ranks, of_scores = np.random.default_rng(14), [], []
    for _ in range(200):
        ability = np.concatenate([rng.normal(0, 0.01, 40), rng.uniform(0.1, 0.6, 20)])
        sides = ability[:, None] + rng.normal(0, 0.035, (2, 60, 2))
        found, blind = rankings.attenuation(*sides), rankings.attenuation(*sides, kind="pearson")
        of_ranks.append(found.disattenuated)
        of_scores.append(found.observed / np.sqrt(blind.reliability_untrained * blind.reliability_trained))
    assert np.mean(of_scores) < 0.8 and 0.84 < np.mean(of_ranks) < 1


def test_attenuation_says_what_it_does_not_know():
    """Oracle: hand-worked: one seed shows no noise; networks whose seeds cancel differ no more than these."""
    several = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.7]])
    found = rankings.attenuation(several[:, :1], several)
    assert found.disattenuated is None and found.reliability_untrained is None and "untrained" in found.note
    same = np.array([[0.0, 1.0], [1.0, 0.1], [0.2, 0.9]])
    found = rankings.attenuation(several, same)
    assert found.reliability_trained == 0 and found.disattenuated is None and "trained" in found.note


def test_noise_ceiling_of_few_seeds_by_hand():
    """Oracle: scipy, with the three ways to halve four seeds typed in, and the fifteen of five by their number."""
    rng = np.random.default_rng(9)
    trained = scores(rng, networks=12, seeds=4, rho=0, deviations=(0.5, 0.5))[0]
    splits = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    each = [stats.spearmanr(trained[:, a].mean(1), trained[:, b].mean(1)).statistic for a, b in splits]
    found = rankings.noise_ceiling(trained)
    r = np.mean(each)
    assert (found.halves, found.repeat) == pytest.approx((r, 2 * r / (1 + r)))
    assert found.perfect == pytest.approx(np.sqrt(found.repeat))
    pairs = rankings._halves(5, 2, 0)
    assert len({frozenset(map(frozenset, pair)) for pair in pairs}) == len(pairs) == 15
    assert all(not set(a) & set(b) for a, b in pairs)
    assert len(rankings._halves(20, 10, 0)) == rankings.MOST_SPLITS


@pytest.mark.parametrize("trained, halves", [([[1, 3], [2, 2], [3, 1]], -1), ([[1, 2, 3], [2, 3, 1], [3, 1, 2]], -0.5)])
def test_seeds_that_disagree_have_no_ceiling(trained, halves):
    """Hand-worked: two seeds rank three networks the other way round, three of them in a circle."""
    found = rankings.noise_ceiling(trained)
    assert found.halves == pytest.approx(halves)
    assert np.isnan(found.repeat) and np.isnan(found.perfect)


@pytest.mark.parametrize("seeds", [3, 4])
def test_noise_ceiling_is_what_a_repetition_gives(seeds):
    """Oracle: simulation; correlations of a study with its repetition, and with the noise-free abilities."""
    rng, ceilings, repeats, perfects = np.random.default_rng(10), [], [], []
    for _ in range(150):
        ability = rng.normal(size=60)
        first, second = ability[:, None] + rng.normal(size=(2, 60, seeds))
        found = rankings.noise_ceiling(first)
        ceilings.append((found.repeat, found.perfect))
        repeats.append(rankings.spearman(first.mean(1), second.mean(1)))
        perfects.append(rankings.spearman(ability, first.mean(1)))
    assert np.mean(ceilings, axis=0) == pytest.approx((np.mean(repeats), np.mean(perfects)), abs=0.02)


# ── regret ──


def test_regret_by_hand():
    """Oracle: worked by hand; the best trained network ranks third untrained, and two tie for the second place."""
    untrained, trained = [0.9, 0.5, 0.5, 0.2], [0.6, 0.9, 0.7, 0.8]
    found = {k: rankings.regret(untrained, trained, k) for k in (1, 2, 3, 4)}
    assert [found[k].regret for k in found] == pytest.approx([0.3, (0 + 0.2) / 2, 0, 0])
    assert found[1].random == pytest.approx(0.9 - np.mean(trained))
    assert found[4].random == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_regret_of_chance_is_the_mean_over_all_choices(k):
    """Oracle: brute force over all sets of k; untrained scores that all tie leave nothing but chance."""
    trained = np.random.default_rng(11).integers(0, 5, 7) / 10
    best = np.mean([max(chosen) for chosen in itertools.combinations(trained, k)])
    found = rankings.regret(np.ones(7), trained, k)
    assert (found.regret, found.random) == pytest.approx((trained.max() - best,) * 2)


def test_regret_takes_seeds_and_clips():
    """Oracle: identity; scores by seed and clip are their means."""
    untrained, trained = simulate(np.random.default_rng(12), networks=8, seeds=2, clips=20, rho=0.5)
    assert rankings.regret(untrained, trained, 3) == rankings.regret(untrained.mean((1, 2)), trained.mean(2), 3)


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: rankings.spearman([1, 2], [1, 2, 3]), "same networks"),
        (lambda: rankings.kendall([1], [1]), "two at least"),
        (lambda: rankings.partial_rank_correlation([1, 2, 3], [1, 2, 3], [1, 2, 3]), "at least C"),
        (lambda: rankings.correlation_interval(np.ones(5), np.arange(5)), "all equal"),
        (lambda: rankings.correlation_interval(np.arange(3), np.arange(3)), "four at least"),
        (lambda: rankings.correlation_interval(np.arange(5), np.arange(5), kind="pearson"), "spearman, kendall"),
        (lambda: rankings.correlation_interval(*np.eye(2, 5), kind="kendall", controls=np.arange(5)), "no controls"),
        (lambda: rankings.correlation_interval(np.ones((5, 2, 9)), np.ones((5, 2, 8))), "same networks and clips"),
        (lambda: rankings.correlation_interval(*np.eye(10).reshape(2, 5, 1, 10), groups=[1]), "10 clips"),
        (lambda: rankings.correlation_interval([1, np.nan, 2, 3], [1, 2, 3, 4]), "NaN"),
        (lambda: rankings.correlation_interval(np.full((4, 2), np.inf), [1, 2, 3, 4]), "infinities"),
        (lambda: rankings.attenuation(np.eye(3), np.eye(3), kind="kendall"), "pearson"),
        (lambda: rankings.noise_ceiling(np.ones((5, 1))), "one seed"),
        (lambda: rankings.regret([1, 2], [1, 2], 3), "from 1 to 2"),
    ],
)
def test_bad_input_is_refused(call, match):
    """Oracle: the remedies the docstrings promise."""
    with pytest.raises(ValueError, match=match):
        call()

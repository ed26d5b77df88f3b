"""Oracles: scipy, hand-worked tables, exact variances, and simulations in which the truth is known."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from mirjax import statistics


def simulate(rng, *, num, seeds, clips, groups=None, gain=0.0, seed_sd=0.1):
    """Decisions of `num` equal architectures (the first `gain` better), as a probit model of crossed effects.

    Clips differ in difficulty, also for each architecture by itself; so do groups; seeds differ by `seed_sd`.
    """
    codes = None if groups is None else np.arange(clips) % groups
    clip = rng.normal(0, 1.5, clips) + (0 if groups is None else rng.normal(0, 0.7, groups)[codes])
    corrects = []
    for index in range(num):
        own = rng.normal(0, 0.7, clips) + (0 if groups is None else rng.normal(0, 0.4, groups)[codes])
        unsteady = seed_sd if np.isscalar(seed_sd) else seed_sd[index % len(seed_sd)]
        noise = rng.normal(0, unsteady, (seeds, 1)) + rng.normal(0, 0.8, (seeds, clips))
        corrects.append((0.5 + (gain if index == 0 else 0) + clip + own + noise > 0).astype(float))
    return corrects, codes


def true_mean(groups, seed_sd=0.1):
    variance = 1.5**2 + 0.7**2 + 0.8**2 + seed_sd**2 + (0 if groups is None else 0.7**2 + 0.4**2)
    return stats.norm.cdf(0.5 / np.sqrt(variance))


@pytest.mark.parametrize(
    "case",
    [
        dict(num=10, seeds=3, clips=200),
        dict(num=2, seeds=3, clips=200),
        dict(num=10, seeds=3, clips=200, groups=10),
        dict(num=2, seeds=3, clips=200, groups=10),
        dict(num=10, seeds=3, clips=200, groups=4),
        dict(num=2, seeds=3, clips=200, groups=4),
        dict(num=10, seeds=3, clips=300, seed_sd=1.0),
        dict(num=10, seeds=3, clips=300, seed_sd=(0.08, 0.25)),
    ],
    ids=lambda case: " ".join(f"{key}={value}" for key, value in case.items()),
)
def test_no_false_alarms_when_nothing_differs(case):
    # Oracle: simulated families of equal architectures; at the 5 % level at most 7 % may see any rejection.
    rng, families = np.random.default_rng(0), 500 if case["num"] == 2 else 200
    alarms = 0
    for family in range(families):
        corrects, groups = simulate(rng, **case)
        comparisons = statistics.compare_with_best(corrects, groups, num_resamples=399, seed=family)
        alarms += any(c.p_holm is not None and c.p_holm <= 0.05 for c in comparisons)
    print(f"{case}: {100 * alarms / families:.1f} % of families with a rejection")
    assert alarms / families <= 0.07


@pytest.mark.parametrize("groups, least", [(None, 0.9), (20, 0.85)])
def test_finds_fifteen_points(groups, least):
    # Oracle: simulation with one of five architectures about 15 points ahead of four equal ones.
    rng, found, gaps = np.random.default_rng(0), [], []
    for family in range(40):
        corrects, codes = simulate(rng, num=5, seeds=3, clips=240, groups=groups, gain=0.85)
        comparisons = statistics.compare_with_best(corrects, codes, num_resamples=399, seed=family)
        found.append(np.mean([c.p_holm <= 0.05 for c in comparisons[1:] if c.p_holm is not None]))
        gaps.append(corrects[0].mean() - np.mean(corrects[1:]))
    assert 0.12 < np.mean(gaps) < 0.18
    assert np.mean(found) >= least


@pytest.mark.parametrize("groups, least", [(None, 0.92), (10, 0.91), (4, 0.88)])
def test_intervals_cover_the_truth(groups, least):
    # Oracle: the probit model's mean accuracy, which 95 % intervals must hold about as often.
    rng, runs = np.random.default_rng(0), 400
    truth = true_mean(groups)
    inside = 0
    for run in range(runs):
        (correct,), codes = simulate(rng, num=1, seeds=3, clips=200, groups=groups)
        interval = statistics.bootstrap_interval(correct, codes, num_resamples=399, seed=run)
        inside += interval.low <= truth <= interval.high
    print(f"groups={groups}: {100 * inside / runs:.1f} % covered")
    assert least <= inside / runs <= 0.995


def test_one_seed_gives_the_t_interval():
    # Oracle: scipy's t-interval of a mean; many clips, so that the bootstrap distribution is normal.
    correct = (np.arange(500) % 3 > 0).astype(float)[None]
    interval = statistics.bootstrap_interval(correct, num_resamples=20_000)
    low, high = stats.t.interval(0.95, 499, correct.mean(), stats.sem(correct[0]))
    assert interval.mean == pytest.approx(correct.mean())
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-3)
    assert "seeds" in interval.leaves_out


def test_deviations_have_the_unbiased_variance():
    # Oracle: s²/n of seeds plus s²/n of group means, by numpy.
    rng = np.random.default_rng(0)
    correct = rng.integers(0, 2, (3, 40)).astype(float)
    groups = np.repeat(["a", "b", "c", "d", "e"], 8)
    influence = statistics._influence([correct], groups, None)
    deviations = statistics._deviations(influence, 200_000, 0)[:, 0]
    by_group = correct.reshape(3, 5, 8).mean((0, 2))
    expected = correct.mean(1).var(ddof=1) / 3 + by_group.var(ddof=1) / 5
    assert deviations.mean() == pytest.approx(0, abs=1e-3)
    assert deviations.var() == pytest.approx(expected, rel=0.02)
    assert influence.variances(np.eye(1))[1][0] == pytest.approx(expected)


def test_equal_decisions_in_groups_of_copies_change_nothing():
    # Identity: clips copied k times and grouped hold no more information than the clips themselves.
    correct = np.random.default_rng(0).integers(0, 2, (3, 30)).astype(float)
    once = statistics.bootstrap_interval(correct)
    copied = statistics.bootstrap_interval(np.repeat(correct, 4, 1), np.repeat(np.arange(30), 4))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))


def test_weights_make_the_mean_over_folds():
    # Worked by hand: folds of 2 and 4 clips with accuracies 1/2 and 3/4 have the mean 5/8, not 4/6.
    correct = np.array([[1, 0, 1, 1, 1, 0]], float)
    weights = np.array([1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 4, 1 / 4])
    interval = statistics.bootstrap_interval(correct, weights=weights)
    assert interval.mean == pytest.approx(5 / 8)
    assert interval.low < 5 / 8 < interval.high


def test_what_an_interval_leaves_out():
    # By hand: one seed, one group and one split are each named; a full design leaves nothing out.
    correct = np.random.default_rng(0).integers(0, 2, (2, 12))
    assert statistics.bootstrap_interval(correct, np.arange(12) % 3).leaves_out == ""
    text = statistics.bootstrap_interval(correct[:1], ["same"] * 12, single_split=True).leaves_out
    assert all(word in text for word in ("seeds", "groups", "split"))


def test_all_right_still_has_an_interval():
    # Oracle: scipy's exact (Clopper-Pearson) interval for 20 of 20.
    interval = statistics.bootstrap_interval(np.ones((1, 20)))
    exact = stats.binomtest(20, 20).proportion_ci(0.95, method="exact")
    assert (interval.low, interval.high) == pytest.approx((exact.low, 1.0))
    assert statistics.bootstrap_interval(np.zeros((2, 20))).high == pytest.approx(1 - exact.low)


def test_paired_difference_is_the_paired_t_test():
    # Oracle: scipy's paired t-test over clips, for one network of each and many clips.
    rng = np.random.default_rng(3)
    first = rng.integers(0, 2, (1, 400)).astype(float)
    second = np.where(rng.random((1, 400)) < 0.75, first, rng.random((1, 400)) < 0.35)
    result = statistics.paired_difference(first, second, num_resamples=40_000)
    oracle = stats.ttest_rel(first[0], second[0])
    low, high = oracle.confidence_interval(0.95)
    assert result.difference == pytest.approx(first.mean() - second.mean())
    assert 0.001 < oracle.pvalue < 0.2
    assert result.p == pytest.approx(oracle.pvalue, abs=0.01)
    assert (result.low, result.high) == pytest.approx((low, high), abs=2e-3)


def test_comparisons_are_consistent_and_deterministic():
    # Oracles: means by hand, scipy's ttest_ind, Holm by its definition.
    corrects, groups = simulate(np.random.default_rng(1), num=4, seeds=3, clips=60, groups=6)
    result = statistics.compare_with_best(corrects, groups)
    assert result == statistics.compare_with_best(corrects, groups)
    means = [correct.mean() for correct in corrects]
    best = int(np.argmax(means))
    assert result[best].p is None and result[best].difference == 0
    others = [index for index in range(4) if index != best]
    assert statistics.holm([1.0 if i == best else result[i].p for i in range(4)])[others] == pytest.approx(
        [result[i].p_holm for i in others]
    )
    for index in others:
        assert result[index].difference == pytest.approx(means[index] - means[best])
        assert result[index].low < result[index].difference < result[index].high
        oracle = stats.ttest_ind(corrects[best].mean(1), corrects[index].mean(1)).pvalue
        assert result[index].t_test_p == pytest.approx(oracle)


def test_identical_networks_are_never_separated():
    # By hand: the same decisions give p = 1, and one network has no t-test.
    correct = np.random.default_rng(0).integers(0, 2, (1, 50))
    first, second = statistics.compare_with_best([correct, correct])
    assert first.p is None and second.p == 1 and second.p_holm == 1 and second.t_test_p is None
    assert statistics.paired_difference(correct, correct).p == 1


def test_memory_stays_bounded():
    # Bound: 10 networks on 10,000 clips, 2000 resamples, would take 160 MB of weights at once.
    correct = np.random.default_rng(0).integers(0, 2, (10, 10_000)).astype(float)
    tracemalloc.start()
    statistics.bootstrap_interval(correct)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6


def test_variance_components_by_hand():
    # Worked by hand: rows 1 1 0 / 1 0 0 → SS_seed 1/6, SS_clip 1, SS_rest 1/3 on 1, 2, 2 degrees of freedom,
    # so MS 1/6, 1/2, 1/6: seeds (1/6 − 1/6)/3 = 0, clips (1/2 − 1/6)/2 = 1/6, rest 1/6.
    components = statistics.variance_components(np.array([[1, 1, 0], [1, 0, 0]]))
    assert (components.seed, components.clip, components.residual) == pytest.approx((0, 1 / 6, 1 / 6), abs=1e-12)
    with pytest.raises(ValueError, match="two of each"):
        statistics.variance_components(np.ones((1, 3)))


def test_kendall_between_seeds():
    # Oracle: scipy's kendalltau (τ-b, with ties) over the three pairs of seeds.
    accuracies = np.round(np.random.default_rng(0).random((3, 8)), 1)
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.mean([stats.kendalltau(accuracies[i], accuracies[j])[0] for i, j in pairs])
    assert statistics.kendall_between_seeds(accuracies) == pytest.approx(expected)
    assert statistics.kendall_between_seeds([[0.1, 0.2, 0.3]] * 2) == pytest.approx(1)
    assert statistics.kendall_between_seeds(accuracies[:1]) is None


def test_seeds_to_separate():
    # By hand: all clips alike, so only seeds matter; the answer is the smallest S of the two-sample t-test.
    def networks(*right):  # of 100 clips
        return np.stack([np.isin(np.arange(100), order[:number]) for order, number in right]).astype(float)

    rng = np.random.default_rng(0)
    first = networks(*((rng.permutation(100), number) for number in (60, 70, 80)))
    second = networks(*((rng.permutation(100), number) for number in (50, 60, 70)))
    seeds = statistics.seeds_to_separate(first, second)
    assert seeds is not None and seeds > 3
    assert statistics.seeds_to_separate(networks((range(100), 99), (range(100), 98)), second[:2]) <= 3
    # One clip apart, the same one for every seed: no number of seeds will do.
    a, b = np.zeros((3, 100)), np.zeros((3, 100))
    a[:, 0] = 1
    assert statistics.seeds_to_separate(a, b) is None
    assert statistics.seeds_to_separate(a, a) is None
    with pytest.raises(ValueError, match="two of each"):
        statistics.seeds_to_separate(a[:1], b)


def test_seeds_to_separate_holds_when_they_are_run():
    # Oracle: simulation. With the seeds it names, the paired test finds the difference about half the time or more.
    rng = np.random.default_rng(5)
    corrects, _ = simulate(rng, num=2, seeds=4, clips=2000, gain=0.12, seed_sd=0.1)
    seeds = statistics.seeds_to_separate(*corrects)
    assert 2 <= seeds <= 60
    found = 0
    for run in range(20):
        pair, _ = simulate(rng, num=2, seeds=seeds, clips=2000, gain=0.12, seed_sd=0.1)
        found += statistics.paired_difference(*pair, num_resamples=299, seed=run).p <= 0.05
    assert found >= 8


def test_holm_by_hand():
    # Worked by hand: .01·4, .02·3, max(.06, .03·2), max(.06, .5) and back in the order given.
    assert statistics.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert statistics.holm([0.6, 0.9]) == pytest.approx([1, 1])
    assert len(statistics.holm([])) == 0


def test_ranks_over_data_sets():
    # Oracle: scipy's spearmanr; ranks by hand.
    scores = np.array([[0.9, 0.5, 0.7, 0.5], [0.8, 0.6, 0.9, 0.1], [0.1, 0.2, 0.3, 0.4]])
    assert statistics.average_ranks(scores[:2]) == pytest.approx([1.5, 3.25, 1.5, 3.75])
    assert statistics.rank_correlation(scores) == pytest.approx(stats.spearmanr(scores.T).statistic)


def test_refuses_shapes_that_do_not_fit():
    # By hand: different clips, or groups for other clips, are named.
    with pytest.raises(ValueError, match=r"correct\[1\]"):
        statistics.compare_with_best([np.ones((2, 5)), np.ones((2, 6))])
    with pytest.raises(ValueError, match="groups"):
        statistics.bootstrap_interval(np.ones((2, 5)), [1, 2])

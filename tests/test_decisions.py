"""Oracles: cases worked by hand, plain loops over clips, and scikit-learn's F1 for the choice of a threshold."""

import numpy as np
import pytest
import sklearn.metrics

from mirjax import decisions, metrics


def random_windows(seed, num_clips=9, num_classes=4):
    """Windows of clips of 1 to 6 windows, shuffled: scores f64[W, K], clip int[W], weights f64[W]."""
    rng = np.random.default_rng(seed)
    clip = rng.permutation(np.repeat(np.arange(num_clips), rng.integers(1, 7, num_clips)))
    return rng.dirichlet(np.ones(num_classes), len(clip)), clip, rng.uniform(0.1, 2, len(clip))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_each_clip_is_that_of_a_loop(seed, weighted):
    """Oracle: numpy's average and a count of votes, clip by clip."""
    scores, clip, weights = random_windows(seed)
    weights = weights if weighted else None
    means = decisions.mean_over_windows(scores, clip, weights=weights)
    votes = decisions.majority_vote(scores, clip, weights=weights)
    sums = decisions.max_normalised_sum(scores, clip, weights=weights)
    for m in range(9):
        of_clip = clip == m
        own = weights[of_clip] if weighted else np.ones(of_clip.sum())
        assert means[m] == pytest.approx(np.average(scores[of_clip], axis=0, weights=own), rel=1e-14)
        count = np.zeros(4)
        for window, weight in zip(scores[of_clip], own, strict=True):
            count[window.argmax()] += weight
        assert votes.shares[m] == pytest.approx(count / own.sum(), rel=1e-14)
        assert count[votes.winners[m]] == pytest.approx(count.max(), rel=1e-14)
        total = (own[:, None] * scores[of_clip]).sum(0)
        assert sums[m] == pytest.approx(total / total.max(), rel=1e-14)


@pytest.mark.parametrize("seed", range(10))
def test_order_of_windows_does_not_matter(seed):
    """Identity: the same windows in another order, where scores of few digits make ties of votes and means."""
    scores, clip, _ = random_windows(seed, num_clips=40, num_classes=3)
    scores, order = scores.round(1), np.random.default_rng(seed).permutation(len(clip))
    for rule in (decisions.mean_over_windows, decisions.max_normalised_sum):
        assert np.max(np.abs(rule(scores, clip) - rule(scores[order], clip[order]))) < 1e-15
    first, second = (decisions.majority_vote(scores[i], clip[i]) for i in (np.arange(len(clip)), order))
    assert np.array_equal(first.winners, second.winners) and np.array_equal(first.shares, second.shares)


def test_votes_by_hand():
    """By hand: a majority against the mean; a tie of votes broken by the mean; ties of both; a tie in a window."""
    scores = [
        # Clip 0: class 1 wins two of three windows although class 0 has the mean.
        ([0.9, 0.1, 0.0], 0),
        ([0.4, 0.6, 0.0], 0),
        ([0.4, 0.6, 0.0], 0),
        # Clip 1: one vote each for 0 and 2; means .35 and .45. Class 1 has the best mean, .5 − but no vote.
        ([0.51, 0.49, 0.2], 1),
        ([0.19, 0.51, 0.7], 1),
        # Clip 2: one vote each; 1 and 2 have equal means: the first, 1. In floats class 2 is ahead in the last
        # bit, .1 + .2 + .3 > .3 + .2 + .1, and would be behind in the other order of windows.
        ([0.0, 0.3, 0.1], 2),
        ([0.2, 0.2, 0.2], 2),
        ([0.0, 0.1, 0.3], 2),
        # Clip 3: a window without preference votes for the first class.
        ([0.25, 0.25, 0.25], 3),
    ]
    windows, clip = (np.array(column) for column in zip(*scores, strict=True))
    votes = decisions.majority_vote(windows, clip)
    assert votes.shares == pytest.approx(np.array([[1, 2, 0], [1.5, 0, 1.5], [1, 1, 1], [3, 0, 0]]) / 3)
    assert votes.winners.tolist() == [1, 2, 1, 0]
    assert decisions.mean_over_windows(windows, clip)[1] == pytest.approx([0.35, 0.5, 0.45])
    # Weighed 3:1:1, the first window of clip 0 outvotes the other two.
    weights = np.where(np.arange(9) == 0, 3, 1)
    assert decisions.majority_vote(windows, clip, weights=weights).winners[0] == 0
    # Weighed 2:1:1, votes tie, and the weighed means decide: .51 to .49 (unweighed: .48 to .52).
    windows_of_one = [[0.6, 0.4], [0.42, 0.58], [0.42, 0.58]]
    assert decisions.majority_vote(windows_of_one, [0, 0, 0], weights=[2, 1, 1]).winners.tolist() == [0]
    # A window of weight 0 is as if it were not there.
    weights = np.array([0, 1, 1, 1, 0, 1, 1, 1, 1])
    assert decisions.majority_vote(windows, clip, weights=weights).shares[:2].tolist() == [[0, 1, 0], [1, 0, 0]]


def test_instruments_by_hand():
    """By hand: strategies s1 and s2 of IRMAS on two excerpts of two and three windows."""
    windows = np.array([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [1, 0, 0], [0.5, 0.5, 0], [0.75, 0, 0.25]], np.float32)
    clip = np.array([0, 0, 1, 1, 1])
    means = decisions.mean_over_windows(windows, clip)
    assert means == pytest.approx(np.array([[0.375, 0.25, 0.375], [0.75, 1 / 6, 1 / 12]]))
    assert decisions.threshold(means, 0.2).tolist() == [[True, True, True], [True, False, False]]
    sums = decisions.max_normalised_sum(windows, clip)
    assert sums == pytest.approx(np.array([[1, 2 / 3, 1], [1, 2 / 9, 1 / 9]]))
    assert decisions.threshold(sums, 0.25).tolist() == [[True, True, True], [True, False, False]]
    # The grids of the released code: .10 to .24 by .02, .25 to .60 by .05.
    assert decisions.IRMAS_MEAN_GRID == pytest.approx(np.linspace(0.10, 0.24, 8))
    assert decisions.IRMAS_SUM_GRID == pytest.approx(np.linspace(0.25, 0.60, 8))


def test_threshold_by_hand():
    """By hand: a score at the threshold is in; a threshold for each tag."""
    scores = np.array([[0.5, 0.2], [0.49, 0.6]])
    assert decisions.threshold(scores, 0.5).tolist() == [[True, False], [False, True]]
    assert decisions.threshold(scores, [0.45, 0.7]).tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("average", ["micro", "macro"])
@pytest.mark.parametrize("seed", range(10))
def test_chosen_threshold_has_the_best_f1(seed, average):
    """Oracle: scikit-learn's F1 at every threshold of the grid."""
    rng = np.random.default_rng(seed)
    targets = rng.random((60, 5)) < 0.3
    scores = (0.4 * targets + rng.random((60, 5))).round(2)
    grid = np.linspace(0.1, 1.3, 25)
    f1 = [sklearn.metrics.f1_score(targets, scores >= t, average=average, zero_division=0) for t in grid]
    chosen = decisions.choose_threshold(targets, scores, grid, average=average)
    assert isinstance(chosen, float)
    assert f1[grid.tolist().index(chosen)] == pytest.approx(max(f1), rel=1e-14)


def test_chosen_threshold_by_hand():
    """By hand: .4, .5 and .6 part the clips alike, and the first is taken, whatever the order of the grid."""
    targets, scores = [[1], [0]], [[0.7], [0.3]]
    assert decisions.choose_threshold(targets, scores, (0.2, 0.4, 0.5, 0.6)) == 0.4
    assert decisions.choose_threshold(targets, scores, (0.9, 0.6, 0.4)) == 0.6


def test_tutorial_by_hand():
    """By hand: rounding at .5 as numpy does, and the three numbers of the moods."""
    outputs = np.array([[0.9, 0.5], [0.6, 0.51], [0.1, 0.2], [0.2, 0.8]])
    targets = np.array([[1, 1], [0, 1], [0, 0], [0, 1]])
    rounded = decisions.round_outputs(outputs)
    assert np.array_equal(rounded, np.round(outputs))
    assert rounded.tolist() == [[True, False], [True, True], [False, False], [False, True]]
    assert metrics.exact_match(targets, rounded) == 2 / 4
    assert metrics.hamming_loss(targets, rounded) == 2 / 8
    areas = metrics.roc_auc(targets, rounded)  # means of recall and specificity: (1 + 2/3)/2, (2/3 + 1)/2
    assert areas.values == pytest.approx([5 / 6, 5 / 6], rel=1e-15)
    assert areas.mean == pytest.approx(sklearn.metrics.roc_auc_score(targets, np.round(outputs)), rel=1e-14)


def test_one_window_is_the_clip():
    """Identity: a clip of one window has its scores."""
    scores = np.array([[0.2, 0.5, 0.3]])
    assert np.array_equal(decisions.mean_over_windows(scores, [0]), scores)
    assert decisions.majority_vote(scores, [0]).shares.tolist() == [[0, 1, 0]]
    assert np.array_equal(decisions.max_normalised_sum(scores, [0]), scores / 0.5)


RULES = (decisions.mean_over_windows, decisions.majority_vote, decisions.max_normalised_sum)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_refuses_windows_that_do_not_fit(rule):
    """By hand: what has no meaning is named."""
    scores, clip = np.full((4, 2), 0.5), np.array([0, 0, 2, 2])
    with pytest.raises(ValueError, match="1 of 3 clips have no window of weight above 0, the first clip 1"):
        rule(scores, clip)
    with pytest.raises(ValueError, match="2 of 4 clips have no window"):
        rule(scores, clip, num_clips=4)
    with pytest.raises(ValueError, match="1 of 1 clips"):
        rule(scores, np.zeros(4, int), weights=np.zeros(4))
    with pytest.raises(ValueError, match="clip goes from 0 to 2, not within 0 … 1"):
        rule(scores, clip, num_clips=2)
    with pytest.raises(ValueError, match="clip goes from -1"):
        rule(scores, clip - 1)
    with pytest.raises(ValueError, match="float64 must hold integers"):
        rule(scores, clip / 2)
    for wrong in ((scores[0], clip), (scores, clip[:3]), (np.zeros((0, 2)), np.zeros(0, int))):
        with pytest.raises(ValueError, match="not empty"):
            rule(*wrong)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="scores of 1 windows are not finite, the first window 2 of clip 1"):
            rule(np.where(np.arange(4)[:, None] == 2, bad, scores), clip // 2)
    for weights in (np.full(4, -1.0), np.full(4, np.nan)):
        with pytest.raises(ValueError, match=r"weights from .* must be finite and >= 0"):
            rule(scores, clip // 2, weights=weights)
    with pytest.raises(ValueError, match=r"weights \(3,\)"):
        rule(scores, clip // 2, weights=np.ones(3))


def test_refuses_decisions_without_meaning():
    """By hand: what has no meaning is named."""
    with pytest.raises(ValueError, match=r"scores go down to -0.5.*not logits"):
        decisions.max_normalised_sum([[1.0, -0.5]], [0])
    with pytest.raises(ValueError, match="1 clips have only 0"):
        decisions.max_normalised_sum([[0.0, 0.0], [1.0, 0.0]], [0, 1])
    with pytest.raises(ValueError, match=r"t \(3,\) must be one number"):
        decisions.threshold(np.ones((3, 2)), [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="NaN"):
        decisions.threshold([[np.nan]], 0.5)
    with pytest.raises(ValueError, match="within"):
        decisions.round_outputs([[0.2, 1.1]])
    with pytest.raises(ValueError, match="within"):
        decisions.round_outputs([[np.nan]])
    with pytest.raises(ValueError, match=r"no threshold of grid=\[2.0\] has F1 > 0 on 2 clips"):
        decisions.choose_threshold([[1], [0]], [[0.7], [0.3]], (2.0,))
    with pytest.raises(ValueError, match="no threshold"):
        decisions.choose_threshold([[1]], [[0.7]], ())
    with pytest.raises(ValueError, match="'weighted' is not known"):
        decisions.choose_threshold([[1]], [[0.7]], (0.5,), average="weighted")

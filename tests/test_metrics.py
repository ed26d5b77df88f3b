"""Oracles: scikit-learn's metrics, tag by tag and on average, and cases worked by hand."""

import warnings

import numpy as np
import pytest
import sklearn.metrics

from mirjax import metrics


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [str, int])
@pytest.mark.parametrize("seed", range(5))
def test_scores_match_scikit_learn(kind, seed, weighted):
    """Oracle: scikit-learn, with classes that only the truth or only the prediction knows."""
    rng = np.random.default_rng(seed)
    names = np.array(["jig", "reel", "waltz", "tango", "samba"] if kind is str else [7, 3, 11, 2, 5])
    labels, predictions = names[rng.integers(0, 4, 60)], names[rng.integers(1, 5, 60)]
    weights = rng.choice([0, 0.3, 2], 60) * (labels != names[2]) if weighted else None  # one class weighs nothing
    sample_weight = {"sample_weight": weights}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "y_pred contains classes not in y_true"
        expected = {
            "accuracy": sklearn.metrics.accuracy_score(labels, predictions, **sample_weight),
            "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(labels, predictions, **sample_weight),
            "macro_f1": sklearn.metrics.f1_score(labels, predictions, average="macro", **sample_weight),
        }
    scores = metrics.score(labels, predictions, weights=weights)
    assert tuple(scores) == metrics.METRICS
    assert scores == pytest.approx(expected, rel=1e-12)
    for name in metrics.METRICS:
        assert getattr(metrics, name)(labels, predictions, weights=weights) == scores[name]
    for classes in (None, names):
        counts = metrics.confusion_matrix(labels, predictions, classes, weights=weights)
        expected = sklearn.metrics.confusion_matrix(labels, predictions, labels=classes, **sample_weight)
        assert counts.dtype == expected.dtype
        assert counts == pytest.approx(expected, rel=1e-14)


def test_by_hand():
    """By hand: a a a b → a a b b. Recall 2/3 and 1; F1 of a 4/5, of b 2/3."""
    scores = metrics.score(["a", "a", "a", "b"], ["a", "a", "b", "b"])
    assert scores == pytest.approx({"accuracy": 3 / 4, "balanced_accuracy": 5 / 6, "macro_f1": 11 / 15})
    # A class of weight 0 has no recall, and F1 = 0.
    assert metrics.score(["a", "b"], ["a", "b"], weights=[1, 0]) == {
        "accuracy": 1,
        "balanced_accuracy": 1,
        "macro_f1": 0.5,
    }
    assert (
        sklearn.metrics.f1_score(["a", "b"], ["a", "b"], average="macro", sample_weight=[1, 0], zero_division=0) == 0.5
    )


def test_refuses_bad_input():
    """By hand: what has no meaning is named."""
    with pytest.raises(ValueError, match="not empty"):
        metrics.score([], [])
    with pytest.raises(ValueError, match="length"):
        metrics.score(["a"], ["a", "b"])
    with pytest.raises(ValueError, match=r"\['z'\] are not among"):
        metrics.confusion_matrix(["a", "z"], ["a", "b"], ["b", "a"])
    for weights in ([1.0], [1, -1], [0, 0], [1, np.nan], [1, np.inf]):
        with pytest.raises(ValueError, match="one for each of 2 clips"):
            metrics.score(["a", "b"], ["a", "b"], weights=weights)


# How scores of tags may look: all different, mostly tied, constant, and of the precision of a network.
SCORES = {
    "different": lambda rng, shape: rng.normal(size=shape),
    "tied": lambda rng, shape: rng.integers(-2, 3, shape) / 4,
    "constant": lambda rng, shape: np.full(shape, 0.3),
    "float32": lambda rng, shape: (1 / (1 + np.exp(rng.normal(0, 9, shape)))).astype(np.float32),
    "some tags tied": lambda rng, shape: np.where(np.arange(shape[1]) % 2, rng.normal(size=shape), 0) + 0.0,
}
WEIGHTS = {
    "equal": lambda rng, num_clips: None,
    "real": lambda rng, num_clips: rng.uniform(0.01, 5, num_clips),
    "some zero": lambda rng, num_clips: rng.integers(0, 3, num_clips) * 0.7,
}


def random_tags(seed, kind, weights):
    """Clips with tags of all frequencies: none has tag 3, all have tag 5, and one has tag 7."""
    rng = np.random.default_rng(seed)
    targets = rng.random((80, 9)) < rng.uniform(0.03, 0.9, 9)
    targets[:, 3], targets[:, 5], targets[:, 7] = False, True, np.arange(80) == 11
    scores, weights = SCORES[kind](rng, targets.shape), WEIGHTS[weights](rng, 80)
    return targets, scores if kind == "constant" else scores + 0.5 * targets.astype(scores.dtype), weights


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("seed", range(6))
def test_areas_match_scikit_learn(seed, kind, weights):
    """Oracle: roc_auc_score and average_precision_score of each tag, with ties, weights and tags that lack clips."""
    targets, scores, weights = random_tags(seed, kind, weights)
    present = np.ones(80, bool) if weights is None else weights > 0
    found = metrics.score_tags(targets, scores, weights=weights)
    assert tuple(found) == metrics.TAG_METRICS
    for name, oracle in zip(
        metrics.TAG_METRICS, (sklearn.metrics.roc_auc_score, sklearn.metrics.average_precision_score), strict=True
    ):
        expected, left_out = np.full(9, np.nan), {}
        for k in range(9):
            if not targets[present, k].any():
                left_out[k] = "no positive clip"
            elif targets[present, k].all() and name == "roc_auc":
                left_out[k] = "no negative clip"
            else:
                expected[k] = oracle(targets[:, k], scores[:, k], sample_weight=weights)
        assert found[name].values == pytest.approx(expected, rel=1e-13, nan_ok=True)
        assert found[name].mean == pytest.approx(np.nanmean(expected), rel=1e-13)
        assert found[name].left_out == left_out and 3 in left_out
        alone = getattr(metrics, name)(targets, scores, weights=weights)
        assert np.array_equal(alone.values, found[name].values, equal_nan=True) and alone.mean == found[name].mean


@pytest.mark.parametrize("seed", range(5))
def test_areas_average_as_scikit_learn(seed):
    """Oracle: scikit-learn's macro average, where every tag has clips of both kinds."""
    targets, scores, _ = random_tags(seed, "tied", "equal")
    targets, scores = targets[:, :3], scores[:, :3]
    found = metrics.score_tags(targets.astype(np.int8), scores)
    assert found["roc_auc"].mean == pytest.approx(sklearn.metrics.roc_auc_score(targets, scores), rel=1e-14)
    assert found["pr_auc"].mean == pytest.approx(sklearn.metrics.average_precision_score(targets, scores), rel=1e-14)
    assert not found["roc_auc"].left_out


def test_areas_by_hand():
    """By hand: 3 positives and 2 negatives, one tie between the kinds; and the trapezoid, which is another number."""
    targets, scores = np.array([[1, 1, 0, 1, 0]]).T, np.array([[0.9, 0.5, 0.5, 0.3, 0.1]]).T
    # Of 6 pairs: .9 wins 2; .5 ties 1 and wins 1; .3 wins 1 of 2. The last tag of three has no clips.
    assert metrics.roc_auc(targets, scores).values == pytest.approx([(2 + 1.5 + 1) / 6], rel=1e-15)
    # Points (recall, precision): (1/3, 1), (2/3, 2/3), (1, 3/4), then the last negative.
    average_precision = (1 + 2 / 3 + 3 / 4) / 3
    assert metrics.pr_auc(targets, scores).values == pytest.approx([average_precision], rel=1e-15)
    precision, recall, _ = sklearn.metrics.precision_recall_curve(targets[:, 0], scores[:, 0])
    assert abs(sklearn.metrics.auc(recall, precision) - average_precision) > 0.01
    # Weighed: positives 1, 2, 3 against negatives 4, 1. (1·5 + 2·(½·4 + 1) + 3·1) / (6·5).
    assert metrics.roc_auc(targets, scores, weights=[1, 2, 4, 3, 1]).mean == pytest.approx(14 / 30, rel=1e-15)


def test_tags_are_named():
    """By hand: names of the tags that are left out, and the mean over the others."""
    targets = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [1, 0, 1, 0]])
    scores = np.array([[0.9, 0.2, 0.3, 0.1], [0.1, 0.2, 0.1, 0.6], [0.8, 0.1, 0.2, 0.1]])
    found = metrics.score_tags(targets, scores, ["rock", "harp", "music", "slow"])
    assert found["roc_auc"].left_out == {"harp": "no positive clip", "music": "no negative clip"}
    assert found["roc_auc"].values == pytest.approx([1, np.nan, np.nan, 0.25], nan_ok=True)
    assert found["roc_auc"].mean == 0.625
    assert found["pr_auc"].left_out == {"harp": "no positive clip"}
    assert found["pr_auc"].values == pytest.approx([1, np.nan, 1, 1 / 3], nan_ok=True)
    # As absent, a clip of weight 0 may take the last positive with it.
    assert metrics.pr_auc(targets, scores, weights=[0, 1, 1], tags=list("abcd")).left_out == {
        "b": "no positive clip",
        "d": "no positive clip",
    }


@pytest.mark.parametrize("seed", range(20))
def test_areas_stay_within_their_range(seed):
    """Identity: a perfect ranking has exactly 1 and a reversed one ROC 0, whatever the weights."""
    rng = np.random.default_rng(seed)
    targets = rng.random((200, 5)) < 0.3
    scores, weights = targets + rng.random(targets.shape), rng.lognormal(0, 6, 200)
    found = metrics.score_tags(targets, scores, weights=weights)
    assert found["roc_auc"].values.tolist() == [1] * 5 and found["pr_auc"].values.tolist() == [1] * 5
    assert metrics.roc_auc(targets, -scores, weights=weights).values.tolist() == [0] * 5


@pytest.mark.parametrize("seed", range(5))
def test_areas_know_only_the_order(seed):
    """Identity: clips in another order, monotone scores and doubled clips change nothing."""
    targets, scores, _ = random_tags(seed, "tied", "equal")
    order = np.random.default_rng(seed).permutation(80)
    for name in metrics.TAG_METRICS:
        values = getattr(metrics, name)(targets, scores).values
        for other in (
            getattr(metrics, name)(targets[order], scores[order]),
            getattr(metrics, name)(targets, np.exp(3 * scores)),
            getattr(metrics, name)(np.tile(targets, (2, 1)), np.tile(scores, (2, 1))),
            getattr(metrics, name)(targets, scores, weights=np.full(80, 2.0)),
        ):
            assert other.values == pytest.approx(values, rel=1e-14, nan_ok=True)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("seed", range(10))
def test_decisions_match_scikit_learn(seed, weights):
    """Oracle: precision_recall_fscore_support, hamming_loss and accuracy_score, with tags nobody has or is given."""
    rng = np.random.default_rng(seed)
    targets, _, weights = random_tags(seed, "tied", weights)
    decisions = targets ^ (rng.random(targets.shape) < 0.15)
    decisions[:, [1, 3]] = False
    for average in ("micro", "macro"):
        expected = sklearn.metrics.precision_recall_fscore_support(
            targets, decisions, average=average, sample_weight=weights, zero_division=0
        )
        found = metrics.precision_recall_f1(targets, decisions, average=average, weights=weights)
        assert tuple(found) == pytest.approx(expected[:3], rel=1e-13)
        assert found.f1 == found[2]
    for ours, oracle in (
        (metrics.hamming_loss, sklearn.metrics.hamming_loss),
        (metrics.exact_match, sklearn.metrics.accuracy_score),
    ):
        expected = oracle(targets, decisions, sample_weight=weights)
        assert ours(targets, decisions.astype(int), weights=weights) == pytest.approx(expected, rel=1e-13)


def test_decisions_by_hand():
    """By hand: two tags, three clips; no decision at all is 0 throughout."""
    targets, decisions = [[1, 0], [1, 1], [0, 0]], [[1, 0], [0, 1], [0, 1]]
    micro = metrics.precision_recall_f1(targets, decisions)
    assert micro == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    macro = metrics.precision_recall_f1(targets, decisions, average="macro")
    assert macro == pytest.approx(((1 + 1 / 2) / 2, (1 / 2 + 1) / 2, 2 / 3))
    assert metrics.hamming_loss(targets, decisions) == pytest.approx(2 / 6)
    assert metrics.exact_match(targets, decisions) == pytest.approx(1 / 3)
    assert metrics.precision_recall_f1(np.zeros((1, 2)), np.zeros((1, 2))) == (0, 0, 0)
    assert metrics.exact_match(np.zeros((1, 2)), np.zeros((1, 2))) == 1


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("seed", range(5))
def test_errors_match_scikit_learn(seed, weights):
    """Oracle: root_mean_squared_error of each tag, their mean, and mean_squared_error over all."""
    rng = np.random.default_rng(seed)
    targets, scores = rng.random((40, 6)), rng.normal(size=(40, 6)).astype(np.float32)
    weights = WEIGHTS[weights](rng, 40)
    found = metrics.root_mean_squared_error(targets, scores, weights=weights)
    sample_weight = {"sample_weight": weights}
    expected = sklearn.metrics.root_mean_squared_error(targets, scores, multioutput="raw_values", **sample_weight)
    assert found.values == pytest.approx(expected, rel=1e-13)
    assert found.mean == pytest.approx(sklearn.metrics.root_mean_squared_error(targets, scores, **sample_weight))
    overall = np.sqrt(sklearn.metrics.mean_squared_error(targets, scores, **sample_weight))
    assert found.overall == pytest.approx(overall, rel=1e-13)
    assert metrics.score_values(targets, scores, weights=weights) == {"rmse": found.overall}
    assert tuple(metrics.score_values(targets, scores)) == metrics.VALUE_METRICS


def test_errors_by_hand():
    """By hand: errors 3 and 4 of two tags of one clip."""
    found = metrics.root_mean_squared_error([[1, 2]], [[4, -2]])
    assert found.values.tolist() == [3, 4] and found.mean == 3.5
    assert found.overall == pytest.approx(np.sqrt(12.5))


def test_refuses_tags_without_meaning():
    """By hand: what has no meaning is named."""
    targets, scores = np.array([[1, 0], [0, 1], [1, 1]]), np.full((3, 2), 0.5)
    for value in (np.nan, np.inf, -np.inf):
        bad = scores.copy()
        bad[2, 1] = value
        for metric in (metrics.roc_auc, metrics.pr_auc):
            with pytest.raises(ValueError, match=r"scores\[2, 1\] = .*\(clip 2, tag 'harp'\) is not finite; 1 of 6"):
                metric(targets, bad, tags=["rock", "harp"])
        with pytest.raises(ValueError, match=r"scores\[2, 1\] .* not finite"):
            metrics.root_mean_squared_error(targets, bad)
        with pytest.raises(ValueError, match=r"targets\[2, 1\] .* not finite"):
            metrics.root_mean_squared_error(bad, targets)
    for wrong in (targets * 2, targets - 0.5, np.where(targets, np.nan, 0), np.where(targets, "yes", "no")):
        with pytest.raises(ValueError, match=r"targets\[0, .* is not 0 or 1"):
            metrics.roc_auc(wrong, scores)
        with pytest.raises(ValueError, match=r"decisions\[0, .* is not 0 or 1"):
            metrics.precision_recall_f1(targets, wrong)
    for metric in (metrics.roc_auc, metrics.hamming_loss, metrics.exact_match, metrics.root_mean_squared_error):
        for other in (targets[:, 0], targets[:2], targets[:, :1]):
            with pytest.raises(ValueError, match="must have one shape"):
                metric(targets, other)
        with pytest.raises(ValueError, match="not be empty"):
            metric(np.zeros((0, 2)), np.zeros((0, 2)))
        with pytest.raises(ValueError, match=r"give a single tag as \[clips, 1\]"):
            metric(targets[:, 0], targets[:, 0])
        for weights in (np.ones(2), [1, -1, 1], np.zeros(3), [1, np.nan, 1]):
            with pytest.raises(ValueError, match="one for each of 3 clips"):
                metric(targets, targets, weights=weights)
    for tags in (["rock"], ["rock", "rock"]):
        with pytest.raises(ValueError, match="give each column its own name"):
            metrics.roc_auc(targets, scores, tags=tags)
    with pytest.raises(ValueError, match="'samples' is not known; choose"):
        metrics.precision_recall_f1(targets, targets, average="samples")


def test_refuses_clips_that_tell_nothing():
    """By hand: no positive at all; one clip; all positive, of which the average precision is 1."""
    scores = np.array([[0.1, 0.2], [0.3, 0.4]])
    with pytest.raises(ValueError, match=r"pr_auc means nothing for any tag: .0: 'no positive clip', 1: 'no positive"):
        metrics.pr_auc(np.zeros((2, 2)), scores)
    with pytest.raises(ValueError, match=r"roc_auc means nothing .*'b': 'no negative clip'"):
        metrics.roc_auc(np.array([[1, 0]]), scores[:1], tags=["b", "a"])
    with pytest.raises(ValueError, match="roc_auc means nothing"):
        metrics.score_tags(np.ones((2, 2)), scores)
    assert metrics.pr_auc(np.ones((2, 2)), scores).values.tolist() == [1, 1]

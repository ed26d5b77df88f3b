"""Echo state networks against loops, scikit-learn's ridge, and tasks whose answer is known."""

import functools
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from mirjax.classifiers import reservoir as layers
from mirjax.classifiers.echo import EchoStateClassifier
from mirjax.classifiers.frames import FramePath, Frames, frame_moments
from mirjax.classifiers.reservoir import Reservoir

UNITS = 60


def error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def loop(reservoir, clip, initial=None):
    """Jaeger's update, frame by frame, in numpy's float64."""
    state = np.zeros(len(reservoir.bias)) if initial is None else initial
    states = []
    for frame in clip:
        drive = np.tanh(reservoir.input_weights @ frame + reservoir.recurrent_weights @ state + reservoir.bias)
        state = (1 - reservoir.leak_rate) * state + reservoir.leak_rate * drive
        states.append(state)
    return np.array(states)


@functools.cache
def spoken():
    """Real clips: 13 MFCC a frame of 80 spoken digits (standardised), and their labels."""
    from mirjax.data import audio, dataset
    from mirjax.experiments.sequences import FrontEnd

    source = dataset.open_source("digits_small")
    front_end = FrontEnd()
    clips = [front_end.frames(audio.decode(source.encoded(i), sample_rate=8000)) for i in range(0, 240, 3)]
    frames = np.concatenate(clips)
    clips = [(clip - frames.mean(axis=0)) / frames.std(axis=0) for clip in clips]
    return clips, np.array(source.labels)[::3]


@pytest.fixture(params=[False, True], ids=["forwards", "both_ways"])
def reservoir(request):
    return Reservoir.draw(13, UNITS, 1, leak_rate=0.4, bidirectional=request.param)


def test_states(reservoir):
    """Oracle: the update as a loop in numpy, on real clips of many lengths."""
    clips, _ = spoken()
    for clip, states in zip(clips, reservoir.states(clips), strict=True):
        expected = loop(reservoir, clip)
        if reservoir.bidirectional:
            expected = np.concatenate([expected, loop(reservoir, clip[::-1])[::-1]], axis=1)
        assert states.shape == (len(clip), reservoir.num_states)
        assert error(states, expected) < 1e-12


def test_summaries(reservoir):
    """Oracle: means over every frame repeated often enough to be cut into equal parts, and the last states."""
    clips, _ = spoken()
    states = reservoir.states(clips)
    for segments in (1, 3, 4):
        parts = [np.repeat(s, segments, axis=0).reshape(segments, len(s), -1).mean(axis=1).ravel() for s in states]
        assert error(reservoir.summaries(clips, segments=segments), np.array(parts)) < 1e-12
    last = np.array([np.concatenate([s[-1, :UNITS], s[0, UNITS:]]) for s in states])
    assert error(reservoir.summaries(clips, summary="last"), last) < 1e-12


def test_segment_weights_of_few_frames():
    """Oracle: two frames in three parts, by hand."""
    assert np.allclose(layers.segment_weights(2, 3), [[1, 0], [0.5, 0.5], [0, 1]], rtol=0, atol=1e-15)
    assert np.allclose(layers.segment_weights(5, 2).sum(axis=1), 1, rtol=0, atol=1e-15)


@pytest.mark.parametrize("spectral_radius", [0.0, 0.5, 0.95, 1.3])
@pytest.mark.parametrize("density", [0.1, 1.0])
def test_spectral_radius(spectral_radius, density):
    """Oracle: numpy.linalg.eigvals; the share of connections within five deviations of the binomial."""
    weights = Reservoir.draw(2, 200, 3, spectral_radius=spectral_radius, density=density).recurrent_weights
    assert abs(np.abs(np.linalg.eigvals(weights)).max() - spectral_radius) < 1e-12
    if spectral_radius:
        assert abs((weights != 0).mean() - density) <= 5 * np.sqrt(density * (1 - density)) / 200


def test_states_forget():
    """Oracle: the echo-state property; two initial states meet, at least as fast as (1 − a + a‖W‖)^t."""
    reservoir = Reservoir.draw(13, UNITS, 0, spectral_radius=0.3, leak_rate=0.5)
    clip = np.concatenate(spoken()[0][:4])
    norm = np.linalg.norm(reservoir.recurrent_weights, 2)
    first, second = np.ones(UNITS), -np.ones(UNITS)
    (a,), (b,) = (reservoir.states([clip], initial=s) for s in (first, second))
    gap = np.linalg.norm(a - b, axis=1)
    assert norm < 1
    bound = np.linalg.norm(first - second) * (0.5 + 0.5 * norm) ** np.arange(1, len(clip) + 1)
    assert (gap <= bound + 1e-14).all()
    assert gap[-1] < 1e-12


@pytest.mark.parametrize("summary", ["mean", "last"])
def test_padding_and_neighbours(reservoir, summary):
    """Oracle: each clip by itself, to the last bit, whatever stands behind or beside it."""
    clips, _ = spoken()
    together = reservoir.summaries(clips, summary=summary)
    alone = np.concatenate([reservoir.summaries([clip], summary=summary) for clip in clips[:6]])
    assert np.array_equal(together[:6], alone)
    order = np.random.default_rng(0).permutation(len(clips))
    assert np.array_equal(reservoir.summaries([clips[i] for i in order], summary=summary), together[order])
    lengths = np.array([len(clip) for clip in clips])
    padded = np.full((len(clips), lengths.max() + 50, 13), 7.0)
    for i, clip in enumerate(clips):
        padded[i, : len(clip)] = clip
    cut = layers.as_sequences(padded, lengths)
    assert np.array_equal(reservoir.summaries(cut, summary=summary), together)


def test_padding_does_not_change_predictions():
    """Oracle: the list of unpadded clips."""
    clips, y = spoken()
    lengths = np.array([len(clip) for clip in clips])
    padded = np.zeros((len(clips), lengths.max() + 9, 13))
    for i, clip in enumerate(clips):
        padded[i, : len(clip)] = clip
    listed = EchoStateClassifier(hidden_units=UNITS).fit(clips, y)
    other = EchoStateClassifier(hidden_units=UNITS).fit(padded, y, lengths=lengths)
    assert np.array_equal(listed.decision_function(clips), other.decision_function(padded, lengths))
    assert np.array_equal(listed.predict(clips), other.predict(padded, lengths=lengths))


def test_one_frame_is_an_elm():
    """Oracle: scikit-learn's Ridge on a·tanh(xW + b): clips of one frame make it an extreme learning machine."""
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    network = EchoStateClassifier(hidden_units=UNITS, ridge=0.01, standardise=False).fit(x, y)
    hidden = 0.3 * np.tanh(x @ network.reservoir_.input_weights.T + network.reservoir_.bias)
    targets = np.where(y[:, None] == np.arange(3), 1.0, -1.0)
    oracle = Ridge(0.01 * ((hidden - hidden.mean(axis=0)) ** 2).sum(axis=0).mean(), solver="cholesky")
    assert error(network.decision_function(x), oracle.fit(hidden, targets).predict(hidden)) < 1e-9


@pytest.mark.parametrize("fit_intercept", [True, False], ids=["intercept", "origin"])
@pytest.mark.parametrize("weighted", [False, True], ids=["forwards", "weighted_both_ways"])
def test_frames(fit_intercept, weighted):
    """Oracle: scikit-learn's Ridge on a table of all frames, scores averaged over each clip's frames."""
    clips, y = spoken()
    w = np.random.default_rng(0).integers(0, 3, len(clips)).astype(float) if weighted else np.ones(len(clips))
    network = EchoStateClassifier(
        hidden_units=UNITS,
        summary="frames",
        bidirectional=weighted,
        ridge=1e-3,
        fit_intercept=fit_intercept,
        standardise=False,
    ).fit(clips, y, sample_weight=w)
    states = network.reservoir_.states(clips)
    rows, weights = np.concatenate(states), np.repeat(w, [len(s) for s in states])
    targets = np.where(np.repeat(y, [len(s) for s in states])[:, None] == network.classes_, 1.0, -1.0)
    center = np.average(rows, axis=0, weights=weights) if fit_intercept else 0
    penalty = 1e-3 * (weights[:, None] * (rows - center) ** 2).sum(axis=0).mean()
    oracle = Ridge(penalty, fit_intercept=fit_intercept, solver="cholesky").fit(rows, targets, sample_weight=weights)
    assert abs(network.penalty_ / penalty - 1) < 1e-9
    expected = np.array([oracle.predict(s).mean(axis=0) for s in states])
    assert error(network.decision_function(clips), expected) < 1e-8


@pytest.mark.parametrize("summary", ["mean", "frames"])
def test_kfold_and_validation_equal_refits(summary):
    """Oracle: a fit of its own for every fold and ridge, standardisation and λ learnt in it."""
    clips, y = spoken()
    ridges = (1e-4, 1e-2, 1.0)
    settings = {"hidden_units": UNITS, "summary": summary, "digits": 0}
    # An estimator that learns from its rows is fitted anew in each fold, so the refits are the definition.
    network = EchoStateClassifier(**settings, ridge=ridges, select="kfold", folds=4).fit(clips, y)
    from sklearn.model_selection import KFold, StratifiedKFold

    splitter = StratifiedKFold if np.unique(y, return_counts=True)[1].min() >= 4 else KFold
    right = np.zeros((len(ridges), len(clips)))
    for train, test in splitter(4, shuffle=True, random_state=0).split(clips, y):
        for r, ridge in enumerate(ridges):
            refit = EchoStateClassifier(**settings, ridge=ridge).fit([clips[i] for i in train], y[train])
            right[r, test] = refit.predict([clips[i] for i in test]) == y[test]
    assert np.allclose(network.selection_scores_[0], right.mean(axis=1), rtol=0, atol=1e-12)
    train, valid = slice(0, None, 2), slice(1, None, 2)
    chosen = EchoStateClassifier(**settings, ridge=ridges, select="validation")
    chosen.fit(clips[train], y[train], validation=(clips[valid], y[valid]))
    refits = [EchoStateClassifier(**settings, ridge=r).fit(clips[train], y[train]) for r in ridges]
    expected = [(refit.predict(clips[valid]) == y[valid]).mean() for refit in refits]
    assert np.allclose(chosen.selection_scores_[0], expected, rtol=0, atol=1e-12)


def test_remembers_a_sum():
    """Oracle: the answer is known; the label is whether the frames 2 and 3 before the last add up to more than 0.

    The last frame alone tells nothing, and a network without memory stays at chance.
    """
    generator = np.random.default_rng(0)
    clips = [generator.uniform(-1, 1, (int(length), 1)) for length in generator.integers(10, 20, 1000)]
    clips = [clip for clip in clips if abs(clip[-3, 0] + clip[-4, 0]) > 0.3]
    y = np.array([clip[-3, 0] + clip[-4, 0] > 0 for clip in clips])
    settings = {"summary": "last", "leak_rate": 1.0, "input_scale": 0.1, "ridge": 1e-8, "standardise": False}

    def accuracy(spectral_radius):
        network = EchoStateClassifier(hidden_units=30, spectral_radius=spectral_radius, **settings)
        network.set_params(bias_scale=0.0, digits=0)
        return (network.fit(clips[:400], y[:400]).predict(clips[400:]) == y[400:]).mean()

    assert accuracy(0.9) > 0.95
    assert accuracy(0.0) < 0.6


def test_memory_of_a_delay_line():
    """Oracle: Jaeger (2001), a line of N linear units remembers the last N inputs exactly and no more."""
    units = 8
    line = Reservoir(np.eye(units, 1) * 1e-4, np.eye(units, k=-1), np.zeros(units))
    signal = np.random.default_rng(0).uniform(-1, 1, (200, 1))
    (states,) = line.states([signal])
    for delay in range(units):
        assert error(states[units:, delay] / 1e-4, signal[units - delay : 200 - delay, 0]) < 1e-6
    # Input N steps back is independent of all of them.
    residual = np.linalg.lstsq(states[units:], signal[: 200 - units, 0], rcond=None)[1]
    assert residual / (signal[: 200 - units, 0] ** 2).sum() > 0.9


@pytest.mark.parametrize("summary", ["mean", "last", "frames"])
def test_weight_is_repetition(summary):
    """Oracle: clips of weight 2 given twice, clips of weight 0 left out."""
    clips, y = spoken()
    w = np.random.default_rng(1).integers(0, 3, len(clips))
    weighted = EchoStateClassifier(hidden_units=UNITS, summary=summary).fit(clips, y, sample_weight=w)
    repeated = np.repeat(np.arange(len(clips)), w)
    other = EchoStateClassifier(hidden_units=UNITS, summary=summary).fit([clips[i] for i in repeated], y[repeated])
    assert error(weighted.decision_function(clips), other.decision_function(clips)) < 1e-9


@pytest.mark.parametrize("summary", ["mean", "frames"])
def test_probabilities(summary):
    """Identity: probabilities sum to 1 and rank the classes as the scores do; a list and a padded array agree."""
    clips, y = spoken()
    network = EchoStateClassifier(hidden_units=UNITS, summary=summary, calibration="temperature", folds=3).fit(clips, y)
    probabilities = network.predict_proba(clips)
    assert np.allclose(probabilities.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert np.array_equal(network.classes_[probabilities.argmax(axis=1)], network.predict(clips))
    short = np.stack([clip[:10] for clip in clips])
    padded = np.pad(short, ((0, 0), (0, 5), (0, 0)))
    assert np.array_equal(network.predict_proba(padded, lengths=[10] * len(clips)), network.predict_proba(list(short)))


def test_scale_of_a_feature_does_not_count():
    """Identity: standardisation takes out the unit of every feature."""
    clips, y = spoken()
    scale, shift = np.logspace(-2, 2, 13), np.linspace(-5, 5, 13)
    network = EchoStateClassifier(hidden_units=UNITS).fit(clips, y)
    moved = [clip * scale + shift for clip in clips]
    other = EchoStateClassifier(hidden_units=UNITS).fit(moved, y)
    assert error(other.decision_function(moved), network.decision_function(clips)) < 1e-9


@pytest.mark.parametrize("unit", [1.0, 1e160, 1e-170], ids=["plain", "large", "small"])
def test_frame_moments(unit):
    """Oracle: scikit-learn's StandardScaler on the table of frames before a unit of measurement came in."""
    clips = spoken()[0][:9]
    weights = np.arange(9) % 3
    frames, w = np.concatenate(clips) + 1, np.repeat(weights, [len(clip) for clip in clips])
    oracle = StandardScaler().fit(frames, sample_weight=w)
    mean, deviation = frame_moments([(clip + 1) * unit for clip in clips], weights)
    np.testing.assert_allclose(mean / unit, oracle.mean_, rtol=0, atol=1e-12)
    np.testing.assert_allclose(deviation / unit, oracle.scale_, rtol=1e-12)


def test_clone_pickle_and_arrays():
    """Identity: copies decide alike, and the network comes back from its arrays."""
    clips, y = spoken()
    network = EchoStateClassifier(hidden_units=UNITS, bidirectional=True, segments=2).fit(clips, y)
    scores = network.decision_function(clips)
    for copy in (pickle.loads(pickle.dumps(network)), clone(network).fit(clips, y)):
        assert np.array_equal(copy.decision_function(clips), scores)
    restored = clone(network).restore(network.learnt())
    assert np.array_equal(restored.decision_function(clips), scores)


BAD_SETTINGS = [
    ({"hidden_units": 0}, "hidden_units=0"),
    ({"segments": 1.5}, "segments=1.5"),
    ({"summary": "max"}, "summary='max'"),
    ({"summary": "last", "segments": 2}, "segments=2"),
    ({"leak_rate": 0}, "leak_rate=0"),
    ({"leak_rate": 1.5}, "leak_rate=1.5"),
    ({"spectral_radius": -1}, "spectral_radius=-1"),
    ({"input_scale": np.inf}, "input_scale=inf"),
    ({"density": 0}, "density=0"),
    ({"hidden_units": 3, "density": 1e-9}, "density=1e-09"),
    ({"ridge": -1}, "ridge=-1"),
    ({"select": "loo"}, "select='loo'"),
    ({"hidden_units": 10**6}, r"recurrent weights \[1000000, 1000000\] would take .* use fewer hidden_units"),
    ({"hidden_units": "400"}, "hidden_units='400'"),
    ({"segments": "2"}, "segments='2'"),
    ({"leak_rate": "slow"}, "leak_rate='slow'"),
    ({"spectral_radius": "0.9"}, "spectral_radius='0.9'"),
    ({"input_scale": "0.1"}, "input_scale='0.1'"),
    ({"bias_scale": "0.1"}, "bias_scale='0.1'"),
    ({"density": "0.1"}, "density='0.1'"),
    ({"random_state": "one"}, "random_state='one'"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS, ids=[m for _, m in BAD_SETTINGS])
def test_bad_settings(settings, message):
    """Oracle: a ValueError that names parameter and value; nothing is learnt."""
    clips, y = spoken()
    network = EchoStateClassifier(**{"hidden_units": 20} | settings)
    with pytest.raises(ValueError, match=message):
        network.fit(clips, y)
    assert not hasattr(network, "output_weights_")


def _with(clip):
    return [*spoken()[0][:-1], clip]


BAD_CLIPS = [
    ("nan", lambda: _with(np.full((4, 13), np.nan)), "clip 79 holds NaN"),
    ("width", lambda: _with(np.ones((4, 12))), "clip 79 has 12 features"),
    ("empty", lambda: _with(np.ones((0, 13))), r"clip 79 has shape \(0, 13\)"),
    ("flat", lambda: _with(np.ones(13)), r"clip 79 has shape \(13,\)"),
    ("fewer", lambda: spoken()[0][:-1], "inconsistent numbers of samples"),
]


@pytest.mark.parametrize(("make", "message"), [case[1:] for case in BAD_CLIPS], ids=[case[0] for case in BAD_CLIPS])
def test_bad_clips(make, message):
    """Oracle: a ValueError that names the clip; a fitted network stays as it was."""
    clips, y = spoken()
    network = EchoStateClassifier(hidden_units=20).fit(clips, y)
    before = network.decision_function(clips)
    with pytest.raises(ValueError, match=message):
        network.fit(make(), y)
    assert np.array_equal(network.decision_function(clips), before)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [([0, 5], "lengths=0…5"), ([5, 7], "lengths=5…7"), ([5], r"lengths is int64\[1\]"), ([1.0, 2.0], "float64")],
    ids=["zero", "long", "few", "real"],
)
def test_bad_lengths(lengths, message):
    """Oracle: a ValueError that names the lengths."""
    with pytest.raises(ValueError, match=message):
        EchoStateClassifier(hidden_units=5).fit(np.ones((2, 6, 3)), [0, 1], lengths=lengths)


def test_other_width_at_prediction():
    """Oracle: scikit-learn's message for another number of features."""
    clips, y = spoken()
    network = EchoStateClassifier(hidden_units=20).fit(clips, y)
    with pytest.raises(ValueError, match="X has 12 features, but EchoStateClassifier is expecting 13"):
        network.predict([clip[:, :12] for clip in clips])
    with pytest.raises(ValueError, match="lengths belong to an array"):
        network.predict(clips, lengths=[1] * len(clips))


def test_frames_without_a_ridge_by_hand():
    """Oracle: the inverse of diag(1, 1e-6); its Gram matrix has an eigenvalue of 1e-12, which is no rounding."""
    means, ones = np.diag([1, 1e-6]), np.ones(2)
    frames = Frames(means**2, ones)
    path = FramePath(frames, means, np.eye(2), [0.0], ones, False)
    np.testing.assert_allclose(path.weights[0], np.diag([1, 1e6]), rtol=1e-12)
    np.testing.assert_allclose(path.predict(means)[0, 0], np.eye(2), rtol=1e-12)
    zero = FramePath(Frames(np.diag([1, 1e-17]), ones), means, np.eye(2), [0.0], ones, False)
    np.testing.assert_allclose(zero.weights[0], np.diag([1, 0]), atol=1e-12)

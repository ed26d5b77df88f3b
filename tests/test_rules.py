"""Oracles: sequences worked by hand, torch's ReduceLROnPlateau (frozen), the loops of the authors' code spelt out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirjax import rules

NAN, INF = math.nan, math.inf


def follow(rule, values, monitor="valid_loss"):
    """Scale and stop after each epoch."""
    state, scales, stops = rule.init(), [], []
    for value in values:
        state = rule.update(state, {monitor: value, "epoch": 3})
        scales.append(float(state.scale))
        stops.append(bool(state.stop))
    return scales, stops


def test_constant_changes_nothing():
    """Oracle: its definition."""
    assert follow(rules.constant(), [3.0, NAN, 5.0]) == ([1.0] * 3, [False] * 3)
    state = rules.constant().init()
    assert rules.constant().update(state, {}) == state


def test_counter_by_hand():
    """Oracle: the thesis' rule by hand, halving after more than 2 and stopping after more than 4 worse epochs."""
    #         best  +1   +2   best +3   tie: best, halved  +1   +2   +3   best: halved  +1   +2   +3   +4   +5: stop
    values = [1.00, 1.1, 1.2, 0.9, 1.0, 0.9, 1.0, 1.0, 1.0, 0.80, 0.9, 0.9, 0.9, 0.9, 0.9]
    scales = [1.00, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]
    rule = rules.counter("valid_loss", 2, 4)
    assert follow(rule, values) == (scales, [False] * 14 + [True])
    # A better epoch that comes too early leaves the counter: 2 before it and 1 after it are 3.
    assert follow(rule, [1.0, 1.1, 1.1, 0.9, 0.8, 1.1, 0.7])[0] == [1.0] * 6 + [0.5]
    # Smaller values are worse where larger is better.
    accuracies = [-value for value in values]
    assert follow(rules.counter("valid_accuracy", 2, 4), accuracies, "valid_accuracy") == (
        scales,
        [False] * 14 + [True],
    )
    # Not a number and infinity are worse, also in the first epoch; a stop stays.
    assert follow(rules.counter("valid_loss", 0, 2), [NAN, INF, 1.0, NAN, NAN, -INF, 0.5, 0.4]) == (
        [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25],
        [False] * 5 + [True] * 3,
    )


@pytest.mark.parametrize(("halve_after", "stop_after"), [(20, 40), (3, 10)])
@pytest.mark.parametrize("seed", range(4))
def test_counter_is_the_loop_of_the_authors(halve_after, stop_after, seed):
    """Oracle: the loop of the code of CBMI 2016 and EUSIPCO 2017, written out, on random walks with ties."""
    rng = np.random.default_rng(seed)
    losses = (np.round(rng.normal(size=300).cumsum() * 4) / 4 - 0.06 * np.arange(300)).astype(np.float32)
    best, count, rate, rates, stopped_at = np.inf, 0, 1.0, [], None
    for epoch, loss in enumerate(losses):
        if loss > best:
            count += 1
            if count > stop_after:
                stopped_at = epoch
                break
        else:
            if count > halve_after:
                rate /= 2
                count = 0
            best = loss
        rates.append(rate)
    scales, stops = follow(rules.counter("train_loss", halve_after, stop_after), losses, "train_loss")
    assert scales[: len(rates)] == rates
    assert (stops.index(True) if any(stops) else None) == stopped_at
    assert min(rates) < 1 or stopped_at is not None


def test_halve_every_by_hand():
    """Oracle: by hand, for the instrument network (5, .5) and singing voice detection (1, .85)."""
    assert follow(rules.halve_every(5), [1.0] * 11)[0] == [1.0] * 4 + [0.5] * 5 + [0.25] * 2
    scales, stops = follow(rules.halve_every(1, factor=0.85), [NAN] * 4)
    np.testing.assert_allclose(scales, [0.85, 0.7225, 0.614125, 0.52200625], rtol=1e-7)
    assert not any(stops)


def test_plateau_by_hand():
    """Oracle: by hand; the second epoch in a row without improvement halves, and the count starts anew."""
    #         best  tie  2: halved  1   2: halved  best   1    best 1    NaN 2: halved
    values = [1.00, 1.0, 1.20, 1.10, 1.30, 0.90, 0.95, 0.85, 0.9, NAN]
    scales = [1.00, 1.0, 0.50, 0.50, 0.25, 0.25, 0.25, 0.25, 0.25, 0.125]
    assert follow(rules.plateau("valid_loss", 0.5, 2), values) == (scales, [False] * 10)
    # Improvements by no more than min_delta are none, and do not move the best.
    scales, _ = follow(rules.plateau("valid_loss", 0.5, 2, min_delta=0.25), [1.0, 0.875, 0.75, 0.5, 0.375, 0.25])
    assert scales == [1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
    assert follow(rules.plateau("valid_loss", 0.5, 1, floor=0.2), [1.0] * 5)[0] == pytest.approx(
        [1, 0.5, 0.25, 0.2, 0.2]
    )


@pytest.mark.parametrize(
    ("options", "scales"),
    [
        (
            {"patience": 2},
            [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.125, 0.125, 0.0625, 0.0625, 0.03125],
        ),
        ({"patience": 3}, [1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]),
        (
            {"patience": 3, "min_delta": 0.02, "floor": 0.3},
            [1, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3],
        ),
    ],
)
def test_plateau_against_torch(options, scales):
    """Oracle: torch 2.13, ReduceLROnPlateau(SGD(lr=1), factor=.5, threshold_mode="abs"), patience one less, frozen."""
    values = [1.0, 0.9, 0.95, 0.9, 0.85, 0.84, 0.86, 0.87, NAN, 0.9, 0.845, 0.7, 0.71, 0.72, 0.73, 0.74]
    assert follow(rules.plateau("valid_loss", 0.5, **options), values)[0] == pytest.approx(scales, rel=1e-6)


def test_plateau_of_an_accuracy_against_torch():
    """Oracle: as above with mode="max", factor=.1, patience=1, threshold=.015."""
    values = [0.1, 0.3, 0.3, 0.2, 0.35, 0.34, 0.36, 0.361, 0.2, NAN, 0.5, 0.49, 0.48]
    scales = [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-3, 1e-3, 1e-4]
    rule = rules.plateau("valid_accuracy", 0.1, 2, min_delta=0.015)
    assert follow(rule, values, "valid_accuracy")[0] == pytest.approx(scales, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_cumulative_plateau_is_the_loop_of_the_companion_code(seed):
    """Oracle: the loop of the training code of the companion networks, written out; it acts one epoch later."""
    values = np.random.default_rng(seed).normal(size=200).astype(np.float32) - np.linspace(0, 2, 200, dtype=np.float32)
    patience, waited, best, rate, rates = 7, 0, np.inf, 1.0, []
    for value in values:
        if waited >= patience:
            rate /= 2
            waited = 0
        if value >= best:
            waited += 1
        else:
            best = value
        rates.append(rate)
    scales, _ = follow(rules.plateau("valid_loss", 0.5, patience, cumulative=True), values)
    assert scales[:-1] == rates[1:]
    assert scales != follow(rules.plateau("valid_loss", 0.5, patience), values)[0]


def test_stop_early_by_hand():
    """Oracle: by hand; onset detection has min_delta, the code for few examples counts without reset."""
    values = [1.0, 1.0, 0.9, 0.95, NAN, 0.8, 0.9, 0.9, 0.9, 0.1]
    stops = [False] * 8 + [True] * 2
    assert follow(rules.stop_early("valid_loss", 3), values) == ([1.0] * 10, stops)
    assert follow(rules.stop_early("valid_loss", 3, cumulative=True), values)[1] == [False] * 4 + [True] * 6
    # Steps of less than min_delta add up against the best that counted.
    _, stops = follow(rules.stop_early("valid_loss", 2, min_delta=0.25), [1.0, 0.875, 0.625, 0.5, 0.375])
    assert stops == [False] * 4 + [True]


def test_cumulative_stop_is_the_loop_of_the_code_for_few_examples():
    """Oracle: its loop written out, which stops when more than 200 epochs did not improve on the best accuracy."""
    values = np.random.default_rng(0).integers(0, 50, 400).astype(np.float32)
    best, count, stopped_at = -np.inf, 0, None
    for epoch, value in enumerate(values):
        if value <= best:
            count += 1
            if count > 200:
                stopped_at = epoch
                break
        best = max(best, value)
    rule = rules.stop_early("train_accuracy", 201, cumulative=True)
    assert follow(rule, values, "train_accuracy")[1].index(True) == stopped_at


def test_divide_on_plateau_by_hand():
    """Oracle: by hand; 0.1, then 0.05, then 0.01, two stale epochs each, every rate with a best of its own."""
    rule = rules.divide_on_plateau("valid_loss", (0.1, 0.05, 0.01), 2)
    #         best  1    best 1    2   | best 1    best 1    2   | best 1    2: stop
    values = [1.00, 1.1, 0.9, 0.9, 0.9, 2.0, 2.1, 1.5, 1.6, NAN, 1.0, 1.0, 1.0, 0.1, 1.0, 1.0]
    scales = [1.00, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    found, stops = follow(rule, values)
    assert found == pytest.approx(scales, rel=1e-7)
    assert stops == [False] * 12 + [True] * 4
    # The author's rates are each a fifth of the one before.
    scales, stops = follow(rules.divide_on_plateau(patience=1), [1.0] * 10)
    assert scales == pytest.approx([1, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008, 0.0016, 0.0016, 0.0016])
    assert stops == [False] * 9 + [True]


def test_combine_by_hand():
    """Oracle: by hand; scales are multiplied, the first to stop stops."""
    rule = rules.combine(rules.halve_every(2), rules.plateau("valid_loss", 0.5, 1), rules.stop_early("valid_loss", 3))
    scales, stops = follow(rule, [1.0, 1.0, 0.9, 1.0, 1.0, 1.0])
    assert scales == [1.0, 0.25, 0.25, 0.0625, 0.03125, 0.0078125]
    assert stops == [False] * 5 + [True]
    with pytest.raises(ValueError, match="at least one rule"):
        rules.combine()


EVERY_RULE = {
    "constant()": [1.0] * 3,
    "counter(valid_loss, 1, 3)": [1.0, 1.1, 1.1, 0.9, 0.95, 0.8, 1.0, 1.0, 1.0, 1.0],
    "halve_every(2)": [1.0] * 6,
    "plateau(valid_loss, .3, 2)": [1.0, 1.1, 1.1, 0.9, 0.95, 0.8, 1.0, 1.0, 1.0],
    "stop_early(valid_loss, 3)": [1.0, 1.1, 1.1, 0.9, 0.95, 0.8, 1.0, 1.0, 1.0],
    "divide_on_plateau(valid_loss, 1/.3/.07, 2)": [1.0, 1.1, 1.1, 0.9, 0.95, 0.8, 1.0, 1.0, 1.0],
    "plateau(valid_loss, .7, 1) + halve_every(3) + stop_early(valid_loss, 5)": [1.0, 1.1, 1.1, 0.9, 0.95, 0.8, 1.0],
}


@pytest.mark.parametrize("place", [np.array, jnp.array])
@pytest.mark.parametrize("text", EVERY_RULE)
def test_state_survives_a_flat_list(text, place):
    """Oracle: the undisturbed sequence; after every epoch the state goes through a list of arrays, and back."""
    values = EVERY_RULE[text]
    rule = rules.make_rule(text)
    undisturbed = state = rule.init()
    for value in values:
        undisturbed = rule.update(undisturbed, {"valid_loss": value})
        leaves, kinds = jax.tree.leaves(state), jax.tree.leaves(rule.init())
        assert all(isinstance(leaf, np.ndarray) for leaf in leaves)
        assert [(leaf.shape, leaf.dtype) for leaf in leaves] == [((), leaf.dtype) for leaf in kinds]
        state = jax.tree.unflatten(jax.tree.structure(rule.init()), [place(leaf) for leaf in leaves])
        state = rule.update(state, {"valid_loss": value})
        if state.memory:
            assert jax.tree.leaves(state) == jax.tree.leaves(undisturbed)
    assert follow(rule, values)[0][-1] == state.scale


def test_types_of_a_state():
    """Oracle: what a checkpoint is told: float32 and int32 arrays without axes, and a bool."""
    state = rules.counter().init()
    state = rules.counter().update(state, {"train_loss": np.float64(0.5)})
    kinds = {"scale": state.scale, "stop": state.stop, **state.memory}
    assert {name: str(leaf.dtype) for name, leaf in kinds.items()} == {
        "scale": "float32",
        "stop": "bool",
        "best": "float32",
        "count": "int32",
    }


def test_update_leaves_the_old_state_alone():
    """Oracle: a copy made before; another run from the same state gives the same."""
    rule = rules.counter("valid_loss", 0, 2)
    state = rule.update(rule.init(), {"valid_loss": 1.0})
    copy = [leaf.copy() for leaf in jax.tree.leaves(state)]
    first = rule.update(state, {"valid_loss": 2.0})
    assert jax.tree.leaves(state) == copy
    assert jax.tree.leaves(rule.update(state, {"valid_loss": 2.0})) == jax.tree.leaves(first)


@pytest.mark.parametrize("kind", [float, np.float32, np.float64, jnp.float32, lambda value: np.array([value])])
def test_ties_are_ties_whatever_the_type(kind):
    """Oracle: 0.1 is not a float32; the same value again is no improvement and no worsening."""
    assert follow(rules.stop_early("valid_loss", 2), [kind(0.1)] * 3)[1] == [False, False, True]
    assert follow(rules.counter("valid_loss", 0, 1), [kind(0.1)] * 4) == ([1.0] * 4, [False] * 4)


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [
        ("train_loss", "min"),
        ("loss", "min"),
        ("valid_hamming_loss", "min"),
        ("valid_rmse", "min"),
        ("valid_accuracy", "max"),
        ("valid_roc_auc", "max"),
        ("lossless", "max"),
    ],
)
def test_direction_follows_the_name(monitor, mode):
    """Oracle: which of two values is better, by hand."""
    better = [1.0, 0.5] if mode == "min" else [0.5, 1.0]
    other = "max" if mode == "min" else "min"
    assert follow(rules.stop_early(monitor, 1), better, monitor)[1] == [False, False]
    assert follow(rules.stop_early(monitor, 1), better[::-1], monitor)[1] == [False, True]
    assert follow(rules.stop_early(monitor, 1, mode=other), better, monitor)[1] == [False, True]


@pytest.mark.parametrize(
    ("text", "rule", "metric"),
    [
        ("constant", rules.constant(), "valid_loss"),
        ("counter", rules.counter(), "train_loss"),
        ("counter(train_loss,2,4)", rules.counter("train_loss", 2, 4), "train_loss"),
        (" counter ( valid_accuracy , stop_after = 4, halve_after=2,factor=.1 ) ", None, "valid_accuracy"),
        ("halve_every(1, factor=.85)", rules.halve_every(1, factor=0.85), "valid_loss"),
        ("plateau(valid_loss,.5,patience=3)", rules.plateau(patience=3), "valid_loss"),
        ("plateau(patience=2, min_delta=1e-1, cumulative=true)", None, "valid_loss"),
        ("stop_early(valid_loss, 3, mode=max)", rules.stop_early("valid_loss", 3, mode="max"), "valid_loss"),
        ("divide_on_plateau(rates=1e+2/1e+1/.5, patience=1)", None, "valid_loss"),
        ("halve_every(3)+stop_early(valid_loss,2)", None, "valid_loss"),
    ],
)
def test_text_is_the_call(text, rule, metric):
    """Oracle: the same rule called in Python, on a random sequence."""
    if rule is None:
        rule = {
            "counter": rules.counter("valid_accuracy", 2, 4, factor=0.1),
            "plateau": rules.plateau(patience=2, min_delta=0.1, cumulative=True),
            "divide": rules.divide_on_plateau("valid_loss", (100.0, 10.0, 0.5), 1),
            "halve": rules.combine(rules.halve_every(3), rules.stop_early("valid_loss", 2)),
        }[text.split("_")[0].split("(")[0].strip()]
    values = np.random.default_rng(1).normal(size=30)
    assert follow(rules.make_rule(text), values, metric) == follow(rule, values, metric)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "known rules: constant, counter"),
        ("countr(3)", "'countr' is unknown; known rules: constant, counter"),
        ("counter(train_loss", "is not name"),
        ("halve_every(5)+", "'' is not name"),
        ("halve_every(5)halve_every(5)", "is not name"),
        ("halve_every(__import__('os'))", "is not name"),
        ("plateau(factr=.5)", r"unexpected keyword argument 'factr'; it is plateau\(monitor.*patience"),
        ("counter(train_loss,20,40,.5)", "too many positional"),
        ("stop_early(valid_loss)", "missing a required argument: 'patience'"),
        ("counter(halve_after=3, train_loss)", "in order come before"),
        ("counter(train_loss, monitor=valid_loss)", "multiple values for argument 'monitor'"),
        ("plateau(factor=.5, factor=.6)", "given twice"),
        ("counter(train_loss,,40)", "halve_after has no value"),
        ("counter(train_loss,many)", "halve_after='many' must be a whole number"),
        ("counter(20,40)", "monitor='20' must be the name of a metric"),
        ("counter(train_loss,40,20)", "halve_after=40 must be below stop_after=20"),
        ("plateau(factor=2)", "factor=2.0 must lie between 0 and 1"),
        ("plateau(patience=0)", "patience=0 must be a whole number of at least 1"),
        ("plateau(min_delta=nan)", "min_delta=nan"),
        ("plateau(floor=2)", "floor=2.0 must lie in"),
        ("stop_early(valid_loss,3,mode=up)", "mode='up' must be 'min'"),
        ("divide_on_plateau(rates=1/2)", "must fall"),
        ("divide_on_plateau(rates=)", "must be learning rates above 0"),
    ],
)
def test_mistakes_are_named(text, message):
    """Oracle: the house rule on errors: the name, the value and the remedy."""
    with pytest.raises(rules.config.UsageError, match=message):
        rules.make_rule(text)


def test_missing_metrics_are_named():
    """Oracle: the house rule on errors."""
    rule = rules.stop_early("valid_loss", 3)
    with pytest.raises(
        ValueError, match="'valid_loss' is not among the metrics of the epoch; known: epoch, train_loss"
    ):
        rule.update(rule.init(), {"epoch": 1, "train_loss": 0.3})
    for value in (np.zeros(2), "low", None):
        with pytest.raises(ValueError, match="must be one number"):
            rule.update(rule.init(), {"valid_loss": value})

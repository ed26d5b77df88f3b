"""Oracles: one or two steps by hand in numpy float64, torch's optimisers (frozen), the gradient of the penalty."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mirjax import optimisers
from mirjax.optimisers import make_optimiser, make_schedule, penalty


@pytest.fixture(autouse=True)
def in_64_bits():
    with jax.enable_x64(True):
        yield


def tree(seed):
    """Leaves of every kind: convolution, dense, recurrent, biases, normalisation, a learnable front-end."""
    rng = np.random.default_rng(seed)
    return {
        "front_end": {
            "conv1": {"kernel": rng.normal(size=(3, 2, 4)), "bias": rng.normal(size=4)},
            "norm": {"scale": rng.normal(size=4), "bias": rng.normal(size=4)},
            "bank": {"filters": rng.normal(size=(5, 2)), "low": rng.normal(size=2)},
        },
        "back_end": {
            "forward": {
                "kernel": rng.normal(size=(4, 6)),
                "recurrent_kernel": rng.normal(size=(2, 6)),
                "bias": rng.normal(size=6),
                "peepholes": rng.normal(size=(3, 2)),
            }
        },
        "head": {"kernel": rng.normal(size=(2, 3)), "bias": rng.normal(size=3)},
    }


PARAMS, GRADIENTS = tree(0), tree(1)
NAMES = {
    "kernels": {"kernel", "recurrent_kernel"},
    "all": {"kernel", "recurrent_kernel", "bias", "scale", "filters", "low", "peepholes"},
}


def penalised(on):
    """bool of each leaf, by hand."""

    def by_hand(keys, leaf):
        return leaf.shape == (3, 2, 4) if on == "convolutions" else keys[-1].key in NAMES[on]

    return jax.tree_util.tree_map_with_path(by_hand, PARAMS)


def steps(optimiser, gradients=(GRADIENTS,), params=PARAMS):
    """Parameters after an update for each gradient, compiled."""
    params = jax.tree.map(jnp.asarray, params)
    state = optimiser.init(params)
    update = jax.jit(optimiser.update)
    for gradient in gradients:
        updates, state = update(jax.tree.map(jnp.asarray, gradient), state, params)
        params = optax.apply_updates(params, updates)
    return params


def assert_same(found, expected, rtol=1e-12):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-14)


# ── L2 ──


@pytest.mark.parametrize("on", optimisers.L2_ON)
@pytest.mark.parametrize(("reduction", "factor"), [("half", 1.0), ("sum", 2.0)])
def test_coupled_l2_by_hand(on, reduction, factor):
    """Oracle: w − rate · (g + factor · l2 · w) in numpy, on the leaves that the term is about."""
    expected = jax.tree.map(
        lambda w, g, chosen: w - 0.1 * (g + (factor * 0.03 * w if chosen else 0)), PARAMS, GRADIENTS, penalised(on)
    )
    optimiser = make_optimiser("sgd", 0.1, l2=0.03, l2_reduction=reduction, l2_on=on)
    assert_same(steps(optimiser), expected)


@pytest.mark.parametrize("on", optimisers.L2_ON)
@pytest.mark.parametrize(("reduction", "factor"), [("half", 0.5), ("sum", 1.0)])
def test_penalty_by_hand(on, reduction, factor):
    """Oracle: the sum of squares in numpy, and `add_l2` as its gradient."""
    chosen = zip(jax.tree.leaves(PARAMS), jax.tree.leaves(penalised(on)), strict=True)
    expected = factor * 0.03 * sum((leaf**2).sum() for leaf, is_chosen in chosen if is_chosen)
    settings = {"l2": 0.03, "l2_reduction": reduction, "l2_on": on}
    assert float(penalty(PARAMS, **settings)) == pytest.approx(expected, rel=1e-12)
    term = optimisers.add_l2(**settings)
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    assert_same(term.update(zeros, term.init(PARAMS), PARAMS)[0], jax.grad(penalty)(PARAMS, **settings))
    assert float(penalty(PARAMS, 0.0)) == 0


def test_every_reduction_and_place_differs():
    """Oracle: counts of leaves by hand; no two settings are the same by mistake."""
    values = {(r, on): float(penalty(PARAMS, 1.0, l2_reduction=r, l2_on=on)) for r in ("half", "sum") for on in NAMES}
    assert len(set(values.values())) == 4
    counts = {on: sum(jax.tree.leaves(penalised(on))) for on in optimisers.L2_ON}
    assert counts == {"kernels": 4, "convolutions": 1, "all": 12}


def test_adam_with_coupled_and_decoupled_l2_by_hand():
    """Oracle: two steps of both in numpy; coupled L2 is in the moments, decoupled L2 is not."""
    rate, l2, b1, b2, eps = 0.1, 0.3, 0.8, 0.95, 1e-3
    gradients = [np.array([0.5, -2.0]), np.array([1.5, 0.1])]
    results = {}
    for coupled in (True, False):
        w, m, v = np.array([1.0, -3.0]), 0.0, 0.0
        for t, g in enumerate(gradients, 1):
            g = g + l2 * w if coupled else g
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
            w = w - rate * (step if coupled else step + l2 * w)
        results[coupled] = w
    build = functools.partial(make_optimiser, learning_rate=rate, betas=(b1, b2), eps=eps, l2=l2)
    params, gradients = {"kernel": np.array([1.0, -3.0])}, [{"kernel": g} for g in gradients]
    for name, coupled, expected in [
        ("adam", None, True),
        ("adam", True, True),
        ("adam", False, False),
        ("adamw", None, False),
        ("adamw", False, False),
    ]:
        assert_same(steps(build(name, l2_coupled=coupled), gradients, params), {"kernel": results[expected]})
    assert not np.allclose(results[True], results[False], rtol=1e-2)


def test_decoupled_l2_of_sgd_by_hand():
    """Oracle: two steps in numpy; the momentum never sees the term, coupled it does."""
    w, buffer = 2.0, 0.0
    for g in (1.0, -0.5):
        buffer = 0.9 * buffer + g
        w = w - 0.1 * (buffer + 2 * 0.05 * w)
    optimiser = make_optimiser("sgd", 0.1, momentum=0.9, l2=0.05, l2_reduction="sum", l2_coupled=False)
    found = steps(optimiser, [{"kernel": np.array(g)} for g in (1.0, -0.5)], {"kernel": np.array(2.0)})
    assert float(found["kernel"]) == pytest.approx(w, rel=1e-12)


# ── clipping ──


def test_the_norm_is_clipped_with_the_penalty_in_it():
    """Oracle: by hand: gradient (3, 4) + l2 · w (0, 8) = (3, 12) of norm √153, cut to 5; shorter ones stay."""
    params = {"a": {"kernel": np.array([0.0, 8.0])}, "b": {"bias": np.array([7.0])}}
    gradients = {"a": {"kernel": np.array([3.0, 4.0])}, "b": {"bias": np.array([0.0])}}
    optimiser = make_optimiser("sgd", 0.1, clip_norm=5.0, l2=1.0)
    expected = np.array([0.0, 8.0]) - 0.1 * np.array([3.0, 12.0]) * 5 / math.sqrt(153)
    assert_same(steps(optimiser, [gradients], params), {"a": {"kernel": expected}, "b": {"bias": np.array([7.0])}})
    # One norm for all parameters: (3, 4, 12) has 13; slow parts count in full.
    gradients["b"]["bias"] = np.array([12.0])
    expected = {"a": {"kernel": np.array([0, 8]) - np.array([3, 4]) * 5 / 13}, "b": {"bias": 7 - 0.5 * 60 / 13}}
    expected["b"]["bias"] = np.array([expected["b"]["bias"]])
    assert_same(steps(make_optimiser("sgd", 1.0, clip_norm=5.0, slow={"b": 0.5}), [gradients], params), expected)
    assert_same(
        steps(make_optimiser("sgd", 1.0, clip_norm=13.1), [gradients], params),
        jax.tree.map(np.subtract, params, gradients),
    )


def test_values_are_clipped_with_the_penalty_in_them():
    """Oracle: by hand: −6 + 0.5 · 4 = −4 and 7 + 1 = 8 against 5; a bias has no penalty."""
    params = {"kernel": np.array([4.0, 2.0]), "bias": np.array([4.0])}
    gradients = {"kernel": np.array([-6.0, 7.0]), "bias": np.array([-6.0])}
    found = steps(make_optimiser("sgd", 0.1, clip_value=5.0, l2=0.5), [gradients], params)
    assert_same(found, {"kernel": np.array([4.4, 1.5]), "bias": np.array([4.5])})


def test_momentum_sees_the_clipped_gradient():
    """Oracle: two steps by hand: 10 and 10, each cut to 5; the second step is 0.9 · 5 + 5."""
    optimiser = make_optimiser("sgd", 0.1, momentum=0.9, clip_value=5.0)
    found = steps(optimiser, [{"w": np.array(10.0)}] * 2, {"w": np.array(0.0)})
    assert float(found["w"]) == pytest.approx(-0.1 * (5 + 9.5), rel=1e-12)


# ── two learning rates ──


def test_parts_learn_at_rates_of_their_own():
    """Oracle: by hand: −rate · factor · g; the longer of two paths counts, other parts keep the rate."""
    slow = {"front_end": 1e-4, "front_end/conv1": 0.5, "head/bias": 0.0}
    expected = jax.tree.map(lambda w, g: w - 0.1 * g, PARAMS, GRADIENTS)
    expected["front_end"] = jax.tree.map(lambda w, g: w - 1e-5 * g, PARAMS["front_end"], GRADIENTS["front_end"])
    parts = PARAMS["front_end"]["conv1"], GRADIENTS["front_end"]["conv1"]
    expected["front_end"]["conv1"] = jax.tree.map(lambda w, g: w - 0.05 * g, *parts)
    expected["head"]["bias"] = PARAMS["head"]["bias"]
    assert_same(steps(make_optimiser("sgd", 0.1, slow=slow)), expected)


def test_slow_parts_of_adam_move_slowly():
    """Oracle: Adam's first step is the rate, whatever the gradient; after its moments a factor is a rate."""
    params, gradients = {"old": np.array(1.0), "older": np.array(1.0)}, {"old": np.array(7.0), "older": np.array(7.0)}
    found = steps(make_optimiser("adam", 0.1, eps=1e-12, slow={"old": 1e-4}), [gradients], params)
    assert float(found["old"]) == pytest.approx(1 - 1e-5, rel=1e-12)
    assert float(found["older"]) == pytest.approx(0.9, rel=1e-11)  # "old" is no part of "older"


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("frontend", "nearest: front_end"),
        ("front_end/conv2", "nearest: front_end/conv1"),
        ("front", "nearest: front_end"),
        ("vggish", "nearest: back_end, front_end, head"),
        ("a/b/c/d/e", "nearest: back_end, front_end, head"),
    ],
)
def test_unknown_parts_are_named(path, nearest):
    """Oracle: the house rule on errors; a part that is not there is no part at the full rate."""
    with pytest.raises(ValueError, match=f"'{path}' is no part of the parameters; {nearest}"):
        make_optimiser("sgd", 0.1, slow={path: 0.1}).init(PARAMS)


# ── torch ──


SLOPE, CURVE = np.array([0.5, -1.0, 0.2]), np.array([1.0, 0.1, 3.0])
TORCH = {
    "nesterov": [0.7362342587363783, -1.7808955307461118, 1.5133829498880362],
    "momentum": [0.80745103885, -1.842642564183188, 1.87421599988],
    "nesterov_l2": [0.742563273700573, -1.7662964818751834, 1.5926915124536776],
    "falling": [0.7740509752700526, -1.8131343346830733, 1.7137184965844714],
    "adam": [0.5043581712001537, -1.5003806481616135, 2.501733012179958],
    "adam_l2": [0.5069576272887697, -1.501430692904635, 2.502713805089957],
    "adamw": [0.46576613126319866, -1.4123331271147324, 2.365212782099885],
}


@pytest.mark.parametrize(
    ("case", "optimiser"),
    [
        ("nesterov", lambda: make_optimiser("sgd", 0.01, momentum=0.95, nesterov=True)),
        ("momentum", lambda: make_optimiser("sgd", 0.01, momentum=0.9)),
        ("nesterov_l2", lambda: make_optimiser("sgd", 0.01, momentum=0.9, nesterov=True, l2=0.1)),
        (
            "falling",
            lambda: make_optimiser(
                "sgd", make_schedule("exponential", 0.01, every=2, factor=0.85), momentum=0.95, nesterov=True
            ),
        ),
        ("adam", lambda: make_optimiser("adam", 0.1)),
        ("adam_l2", lambda: make_optimiser("adam", 0.1, betas=(0.8, 0.95), eps=1e-3, l2=0.1)),
        ("adamw", lambda: make_optimiser("adamw", 0.1, l2=0.1)),
    ],
)
def test_five_steps_against_torch(case, optimiser):
    """Oracle: torch 2.13 in float64, frozen.

    Five steps of w on Σ ½ curve · w² + slope · w from (1, −2, 3), with SGD(lr=.01, momentum=.95, nesterov=True);
    SGD(momentum=.9), without and with weight_decay=.1 and nesterov; StepLR(2, .85); Adam(lr=.1); Adam(betas=(.8, .95),
    eps=1e-3, weight_decay=.1); AdamW(lr=.1, weight_decay=.1).
    """
    optimiser = optimiser()
    params = {"kernel": jnp.array([1.0, -2.0, 3.0])}
    state = optimiser.init(params)
    for _ in range(5):
        gradients = {"kernel": CURVE * params["kernel"] + SLOPE}
        updates, state = optimiser.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    rtol = 1e-6 if case == "falling" else 1e-12  # the schedule is computed in float32
    np.testing.assert_allclose(params["kernel"], TORCH[case], rtol=rtol)


def test_nesterov_without_momentum_is_plain_descent():
    """Oracle: w − rate · g; the Ballroom networks are trained with "Nesterov, momentum 0"."""
    expected = jax.tree.map(lambda w, g: w - 0.02 * g, PARAMS, GRADIENTS)
    assert_same(steps(make_optimiser("sgd", 0.01, nesterov=True), [GRADIENTS] * 2), expected)


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("name", optimisers.OPTIMISERS)
def test_types_stay(name, x64):
    """Oracle: the type of the parameters, with numbers of numpy and a schedule, in 32 and 64 bits."""
    with jax.enable_x64(x64):
        params = {"kernel": jnp.ones((2, 2), jnp.float32), "bias": jnp.ones(2, jnp.float32)}
        for rate in (np.float64(0.1), make_schedule("inverse", 0.1, decay=0.1)):
            options = {"l2": np.float64(0.1), "clip_norm": np.float64(1.0), "slow": {"bias": np.float64(0.5)}}
            own = (
                {"momentum": np.float64(0.9)}
                if name == "sgd"
                else {"betas": np.array([0.9, 0.99]), "eps": np.float64(1e-7)}
            )
            optimiser = make_optimiser(name, rate, **options, **own)
            state = optimiser.init(params)
            updates, after = jax.jit(optimiser.update)(params, state, params)
            assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32")}
            kinds = [[leaf.dtype for leaf in jax.tree.leaves(tree)] for tree in (state, after)]
            assert kinds[0] == kinds[1]
        assert penalty(params, 0.1).dtype == jnp.float32


# ── schedules ──


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (("constant", {}), [0.1] * 4),
        (("inverse", {"decay": 0.5}), [0.1, 0.1 / 1.5, 0.05, 0.04]),
        (("steps", {"boundaries": (2, 5), "factor": 0.2}), [0.1, 0.1, 0.02, 0.02, 0.02, 0.004, 0.004]),
        (("exponential", {"every": 3, "factor": 0.85}), [0.1] * 3 + [0.085] * 3 + [0.07225] * 2),
        (("exponential", {"every": 2, "factor": 0.25, "staircase": False}), [0.1, 0.05, 0.025, 0.0125]),
        (
            ("cosine", {"num_steps": 8, "end": 0.01}),
            [0.1, 0.09657458, 0.08681981, 0.07222075, 0.055, 0.03777925, 0.02318019, 0.01342542, 0.01, 0.01],
        ),
        (
            ("cosine", {"num_steps": 8, "warmup_steps": 4}),
            [0.02, 0.04, 0.06, 0.08, 0.1, 0.05 * (1 + math.sqrt(0.5)), 0.05, 0.05 * (1 - math.sqrt(0.5)), 0, 0],
        ),
    ],
)
def test_schedules_by_hand(schedule, rates):
    """Oracle: by hand, and torch 2.13's CosineAnnealingLR(8, .01), MultiStepLR([2, 5], .2), StepLR(3, .85), frozen."""
    name, options = schedule
    function = make_schedule(name, 0.1, **options)
    np.testing.assert_allclose([float(function(step)) for step in range(len(rates))], rates, rtol=2e-6, atol=1e-9)
    compiled = jax.jit(jax.vmap(lambda step: jnp.asarray(function(step))))(jnp.arange(len(rates), dtype=jnp.int32))
    np.testing.assert_allclose(compiled, rates, rtol=2e-6, atol=1e-8)


def test_keras_decay_of_the_tutorial():
    """Oracle: by hand: Adam .003 with decay .01 has half the rate after 100 updates, and starts with all of it."""
    schedule = make_schedule("inverse", 0.003, decay=0.01)
    assert [float(schedule(step)) for step in (0, 100, 300)] == pytest.approx([0.003, 0.0015, 0.00075])
    found = steps(make_optimiser("adam", schedule, eps=1e-12), [{"w": np.array(5.0)}], {"w": np.array(1.0)})
    assert float(found["w"]) == pytest.approx(0.997, rel=1e-7)


# ── mistakes ──


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("adm", 0.1, {}), "name='adm' is unknown; nearest: adam"),
        (("sgd", 0, {}), "learning_rate=0 must be a number above 0"),
        (("sgd", math.nan, {}), "learning_rate=nan"),
        (("sgd", 0.1, {"momentum": 1.0}), r"momentum=1.0 must lie in \[0, 1\)"),
        (("adam", 0.1, {"momentum": 0.9}), "momentum=0.9 and nesterov=False are sgd's; adam has betas and eps"),
        (("adam", 0.1, {"nesterov": True}), "are sgd's"),
        (("sgd", 0.1, {"eps": 1e-7}), "are Adam's"),
        (("adam", 0.1, {"betas": (0.9, 1.0)}), "betas"),
        (("adam", 0.1, {"eps": 0.0}), "eps=0.0 must be a number above 0"),
        (("sgd", 0.1, {"l2": -1.0}), "l2=-1.0 must be a number of at least 0"),
        (("sgd", 0.1, {"l2_reduction": "mean"}), "l2_reduction='mean' is unknown; nearest: half, sum"),
        (("sgd", 0.1, {"l2_on": "kernel"}), "l2_on='kernel' is unknown; nearest: kernels"),
        (("adamw", 0.1, {"l2_coupled": True}), "name that"),
        (("sgd", 0.1, {"clip_norm": 5.0, "clip_value": 5.0}), "exclude each other"),
        (("sgd", 0.1, {"clip_norm": 0.0}), "clip_norm=0.0 must be a number above 0"),
        (("sgd", 0.1, {"clip_value": -1.0}), "clip_value=-1.0"),
        (("sgd", 0.1, {"slow": {"head": -1.0}}), "factor of 'head'=-1.0"),
    ],
)
def test_mistakes_are_named(arguments, message):
    """Oracle: the house rule on errors: the name, the value and the remedy."""
    name, rate, options = arguments
    with pytest.raises(ValueError, match=message):
        make_optimiser(name, rate, **options)


def test_a_penalty_of_nothing_is_refused():
    """Oracle: the house rule on silent fallbacks."""
    params = {"head": {"weight": jnp.ones((2, 2)), "kernel": jnp.ones((2, 2))}}
    for on, tree in (("kernels", {"weight": jnp.ones(2)}), ("convolutions", params)):
        with pytest.raises(ValueError, match=f"have no {on} for L2"):
            make_optimiser("sgd", 0.1, l2=0.1, l2_on=on).init(tree)
        with pytest.raises(ValueError, match=f"have no {on} for L2"):
            penalty(tree, 0.1, l2_on=on)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cosin", {}, "name='cosin' is unknown; nearest: cosine"),
        ("cosine", {}, "cosine needs more steps"),
        ("cosine", {"num_steps": 5, "warmup_steps": 5}, "warmup_steps=5 of num_steps=5"),
        ("cosine", {"num_steps": 5, "end": -1.0}, "end=-1.0"),
        ("exponential", {"every": 3}, "missing a required argument: 'factor'; its options: every, factor, staircase"),
        ("exponential", {"every": 0, "factor": 0.5}, "every=0"),
        ("constant", {"decay": 0.1}, "unexpected keyword argument 'decay'; its options: none"),
        ("inverse", {"decay": -1.0}, "decay=-1.0 must be a number of at least 0"),
        ("steps", {"boundaries": (5, 2)}, r"boundaries=\(5, 2\)"),
        ("steps", {"boundaries": ()}, r"boundaries=\(\)"),
    ],
)
def test_mistakes_in_schedules_are_named(name, options, message):
    """Oracle: the house rule on errors."""
    with pytest.raises(ValueError, match=message):
        make_schedule(name, 0.1, **options)

"""Zero-cost scores. Oracles: finite differences, hand-worked linear networks, literal numpy, scikit-learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import signal
from sklearn.linear_model import RidgeClassifier

from mirjax import features, proxies
from mirjax.models import backends, blocks, counts, layers, space, taggers
from mirjax.signal.representations import LogMel

LABELS = np.array([0, 1, 2, 1, 0, 2])


@functools.cache
def drawn(name, num_classes=3):
    """(model, its variables with biases off 0, standardised noise f32[6, …] of half a second)."""
    model = space.build(name, num_classes=num_classes)
    variables = features.initialise(model, jax.random.key(0), 6000)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: leaf + jnp.asarray(0.02 * rng.normal(size=leaf.shape), leaf.dtype), variables)
    x = rng.normal(size=(6, *model.representation.shape(6000)))
    return model, variables, jnp.asarray(x + 0.5 * LABELS.reshape(6, *(1,) * (x.ndim - 1)), jnp.float32)


@functools.cache
def linear():
    """A network x̄ → x̄ W₁ W₂ with nothing else in it, and both matrices."""
    front_end = blocks.Stack((blocks.Conv(4, (1,), activation="linear", bias=False),))
    model = taggers.Network(LogMel(), front_end, backends.GlobalPool(("mean",)), blocks.Head(3))
    variables = features.initialise(model, jax.random.key(1), 6000)
    first, second = (leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim > 1)
    return model, variables, np.asarray(first, np.float64)[0], np.asarray(second, np.float64)


def test_sizes_are_those_of_the_zoo():
    """Oracle: `counts.count` and `features.gigaflops`, which are tested against published counts."""
    model, variables, x = drawn("space/square3-d2-f8-p2x2-relu-bn-mean")
    assert proxies.num_parameters(model, variables, x, LABELS) == counts.count(model)
    assert proxies.gigaflops(model, variables, x, LABELS) == pytest.approx(features.gigaflops(model, 6000))


# ── gradients ──


@pytest.mark.parametrize(
    "name", ["space/rhythm-d1-f4-p3-elu-bn-mean", "space/sample-d2-f4-p3-relu-nonorm-mean+std", "temporal-n1"]
)
def test_gradient_norm_and_snip_by_finite_differences(name):
    """Oracle: the loss in numpy, one weight moved at a time, in float64."""
    model, variables, x = drawn(name)
    found = proxies.gradient_norm(model, variables, x, LABELS), proxies.snip(model, variables, x, LABELS)
    with jax.enable_x64(True):
        variables, x = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), (variables, x))
        flat, rebuild = ravel_pytree(variables["params"])

        @jax.jit
        @jax.vmap
        def logits(flat):
            params = variables | {"params": rebuild(flat)}
            return model.apply(params, x, train=True, method="embed", mutable=["batch_stats"])[0]["logits"]

        moves = 1e-6 * np.concatenate([np.eye(flat.size), -np.eye(flat.size)])
        values = np.concatenate([np.asarray(logits(np.asarray(flat) + part)) for part in np.array_split(moves, 16)])
    highest = values.max(-1, keepdims=True)
    normaliser = np.log(np.exp(values - highest).sum(-1)) + highest[..., 0]
    losses = (normaliser - values[:, np.arange(6), LABELS]).mean(1)
    gradient = (losses[: flat.size] - losses[flat.size :]) / 2e-6
    expected = np.linalg.norm(gradient), np.abs(gradient * np.asarray(flat)).sum()
    assert found == pytest.approx(expected, rel=1e-4)


def test_snip_and_norm_of_a_linear_network_by_hand():
    """Oracle: ∂L/∂W₂ = mean hᵀ(p − y), ∂L/∂W₁ = mean x̄ᵀ(p − y) W₂ᵀ, in numpy."""
    model, variables, first, second = linear()
    x = np.random.default_rng(2).normal(size=(6, 9, 96)).astype(np.float32)
    mean = x.astype(np.float64).mean(1)
    odds = np.exp(mean @ first @ second)
    error = (odds / odds.sum(1, keepdims=True) - np.eye(3)[LABELS]) / 6
    to_second, to_first = (mean @ first).T @ error, mean.T @ (error @ second.T)
    expected = np.abs(second * to_second).sum() + np.abs(first * to_first).sum()  # biases are 0
    assert proxies.snip(model, variables, x, LABELS) == pytest.approx(expected, rel=1e-4)
    norm = np.sqrt((to_second**2).sum() + (to_first**2).sum() + (error.sum(0) ** 2).sum())
    assert proxies.gradient_norm(model, variables, x, LABELS) == pytest.approx(norm, rel=1e-4)


# ── synaptic flow ──


def test_synflow_of_a_linear_network_by_hand():
    """Oracle: two layers, through each of which all of R = 1ᵀ|W₁||W₂|1 flows; and far beyond float32's largest."""
    model, variables, first, second = linear()
    x = np.zeros((2, 9, 96), np.float32)
    total = 2 * (np.abs(first) @ np.abs(second)).sum()
    assert proxies.synflow(model, variables, x, None) == pytest.approx(np.log10(total), abs=1e-6)
    large = jax.tree.map(lambda leaf: leaf * np.float32(1e25), variables)
    assert proxies.synflow(model, large, x, None) == pytest.approx(np.log10(total) + 50, abs=1e-6)
    dead = jax.tree.map(jnp.zeros_like, variables)
    assert proxies.synflow(model, dead, x, None) == -np.inf


@pytest.mark.parametrize("back_end", ["mean+std", "mean+max", "attention"])
def test_synflow_by_finite_differences(back_end):
    """Oracle: Σ w ∂R/∂w is the derivative of R by a factor of all weights; that of |w|, with ReLU and pooling, at 1."""
    model, variables, x = drawn(f"space/square3-d2-f4-p2x2-relu-nonorm-{back_end}")
    with jax.enable_x64(True):
        weights = jax.tree.map(lambda w: jnp.abs(jnp.asarray(np.asarray(w, np.float64))), variables["params"])

        @jax.jit
        def flow(factor):
            scaled = jax.tree.map(lambda w: factor * w, weights)
            return model.apply({"params": scaled}, jnp.ones((1, *x.shape[1:])), method="embed")["logits"].sum()

        expected = (flow(1 + 1e-5) - flow(1 - 1e-5)) / 2e-5
    assert proxies.synflow(model, variables, x, None) == pytest.approx(np.log10(float(expected)), abs=1e-6)


def test_synflow_says_nothing_of_gates():
    """Oracle: the docstring; a GRU's gates are shut by positive weights, to the last bit."""
    model = space.build("space/square5-d1-f32-p2x4-elu-nonorm-gru", num_classes=3)
    variables = features.initialise(model, jax.random.key(0), 6000)
    assert proxies.synflow(model, variables, np.zeros((1, 24, 96), np.float32), None) == -np.inf


def test_synflow_does_not_know_of_batch_norm():
    """Oracle: the network without it, times √(1 + ε) a layer; averages, scales and shifts off their first values."""
    found = {}
    for norm in ("bn", "nonorm"):
        model = space.build(f"space/frames-d3-f8-p2-relu-{norm}-mean", num_classes=3)
        variables = features.initialise(model, jax.random.key(0), 6000)
        x = np.zeros((1, 24, 96), np.float32)
        found[norm] = proxies.synflow(model, variables, x, None)
        if norm == "bn":
            moved = jax.tree.map(lambda leaf: leaf, variables)
            for tree, name in ((moved["params"]["front_end"], "scale"), (moved["batch_stats"]["front_end"], "var")):
                for block in tree.values():
                    block["batch_norm"][name] = block["batch_norm"][name] * 7
            assert proxies.synflow(model, moved, x, None) == found[norm]
    assert found["bn"] + 3 / 2 * np.log10(1.001) == pytest.approx(found["nonorm"], abs=1e-4)


# ── how unlike examples are ──


def test_jacobian_covariance_in_numpy():
    """Oracle: each example's gradient by itself, numpy's corrcoef and eigenvalues of the plain matrix."""
    model, variables, x = drawn("temporal-n4")  # whose gradients are not of mean 0

    @jax.jit
    def gradient(example):
        return jax.grad(lambda e: model.apply(variables, e[None], method="embed")["logits"].sum())(example)

    rows = np.stack([np.asarray(gradient(example)).ravel() for example in x])
    values = np.linalg.eigvals(np.corrcoef(rows)).real
    expected = -np.sum(np.log(values + 1e-5) + 1 / (values + 1e-5))
    assert proxies.jacobian_covariance(model, variables, x, LABELS) == pytest.approx(expected, rel=1e-4)
    assert proxies.jacobian_covariance(model, variables, x.at[1].set(x[0]), LABELS) < -9e4  # an eigenvalue of 0
    dead = jax.tree.map(jnp.zeros_like, variables)
    assert proxies.jacobian_covariance(model, dead, x, LABELS) == -np.inf


def test_naswot_in_numpy():
    """Oracle: signs of a strided product in numpy, Hamming distances in a loop, log of numpy's determinant."""
    model, variables, x = drawn("space/sample-d1-f4-p1-relu-nonorm-mean")
    block = variables["params"]["front_end"]["conv1_block"]
    frames = np.asarray(x)[:, : x.shape[1] // 3 * 3].reshape(6, -1, 3)
    codes = (frames @ np.asarray(block["kernel"])[:, 0] + np.asarray(block["bias"]) > 0).reshape(6, -1)
    kernel = np.array([[codes.shape[1] - np.sum(a != b) for b in codes] for a in codes], float)
    expected = np.log(np.linalg.det(kernel))
    assert proxies.naswot(model, variables, x, LABELS) == pytest.approx(expected, rel=1e-5)
    assert proxies.naswot(model, variables, x.at[1].set(x[0]), LABELS) == -np.inf


def correlate(x, kernel):
    """scipy's `same` correlation of [B, T, F, C] with (kt, kf, C, n), odd kernels."""
    found = np.zeros((*x.shape[:3], kernel.shape[3]))
    for b, c, n in np.ndindex(len(x), x.shape[3], kernel.shape[3]):
        found[b, :, :, n] += signal.correlate(x[b, :, :, c], kernel[:, :, c, n], mode="same")
    return found


RECTIFIERS = {"relu": lambda x: np.maximum(x, 0), "elu": lambda x: np.where(x > 0, x, np.expm1(x))}


@pytest.mark.parametrize("kind", RECTIFIERS)
def test_naswot_counts_units_before_pooling(kind):
    """Oracle: scipy's correlations, maxima over 2 × 2 and Hamming distances in numpy; recurrent layers have none."""
    model, variables, x = drawn(f"space/square3-d2-f4-p2x2-{kind}-nonorm-gru")
    blocks_ = [
        {
            name: np.asarray(leaf, np.float64)
            for name, leaf in variables["params"]["front_end"][f"conv{i}_block"].items()
        }
        for i in (1, 2)
    ]
    first = correlate(np.asarray(x, np.float64)[..., None], blocks_[0]["kernel"]) + blocks_[0]["bias"]
    pooled = RECTIFIERS[kind](first).reshape(6, 12, 2, 48, 2, 4).max((2, 4))
    second = correlate(pooled, blocks_[1]["kernel"]) + blocks_[1]["bias"]
    codes = np.concatenate([each.reshape(6, -1) > 0 for each in (first, second)], axis=1)
    kernel = np.array([[np.sum(a == b) for b in codes] for a in codes], float)
    assert kernel[0, 0] == 24 * 96 * 4 + 12 * 48 * 4
    assert proxies.naswot(model, variables, x, LABELS) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-6)


@pytest.mark.parametrize(
    "name, positions",
    [
        ("vgg", [1376 * 96, 344 * 48, 86 * 16, 17 * 8, 4 * 4]),
        ("7x96", [18]),
        ("7x86", [18 * 11]),
        ("temporal", [24] * 15),
        ("timbral", [24 * 11] * 7 + [24 * 59] * 7),
        ("sample", [2000, 2000, 666, 222, 74, 24, 8]),
        ("frame", [172, 166, 166, 83]),
    ],
)
def test_units_of_the_study(name, positions):
    """Hand-worked from the layers of ARCHITECTURES §5.2: positions of 24 frames or 6,000 samples, for one filter."""
    model, variables, x = drawn(f"{name}-n1")
    same = sum(proxies._same_codes(model, variables, x))
    np.testing.assert_array_equal(np.diag(same), sum(positions))
    with layers.record_units():
        plain = model.apply(variables, x, method="embed")["logits"]
    np.testing.assert_allclose(plain, model.apply(variables, x, method="embed")["logits"], atol=1e-5)


# ── the input, and all together ──


@pytest.mark.parametrize("name", ["temporal-n4", "sample-n3"])
def test_linear_classifier_leaves_each_out(name):
    """Oracle: scikit-learn's RidgeClassifier, fitted anew without each example."""
    model, variables, x = drawn(name)
    x = np.concatenate([x, x + np.random.default_rng(3).normal(size=x.shape), x**2 / 2])
    labels = np.tile(LABELS, 3)
    labels[[2, 7, 11]] = 0
    pooled = np.concatenate([x.mean(1).reshape(18, -1), x.std(1).reshape(18, -1)], axis=1)
    pooled = (pooled - pooled.mean(0)) / pooled.std(0)
    right = 0
    for i in range(18):
        others = np.arange(18) != i
        fitted = RidgeClassifier(alpha=1.0).fit(pooled[others], labels[others])
        right += fitted.predict(pooled[i : i + 1])[0] == labels[i]
    assert 0 < right < 18
    assert proxies.linear_on_pooled_input(model, variables, x, labels) == pytest.approx(right / 18)


@pytest.mark.parametrize("name", ["space/frames-d2-f8-p2-relu-bn-mean+max", "space/frame-d1-f8-p1-elu-nonorm-gru"])
def test_scores_do_not_know_the_order_of_clips(name):
    """Oracle: identity; and every score is a finite float."""
    model, variables, x = drawn(name)
    order = np.array([3, 1, 5, 0, 4, 2])
    for proxy, score in proxies.PROXIES.items():
        found = score(model, variables, x, LABELS)
        assert isinstance(found, float) and np.isfinite(found), proxy
        assert score(model, variables, x[order], LABELS[order]) == pytest.approx(found, rel=1e-3), proxy


def test_vote_by_hand():
    """Oracle: ranks of four networks, typed in; ties share theirs, infinities are ends."""
    scores = {"a": [0.1, 0.2, 0.3, 0.4], "b": [5, 5, -np.inf, np.inf]}
    np.testing.assert_allclose(proxies.vote(scores), [1.75, 2.25, 2, 4])
    for bad in ({}, {"a": [1, 2], "b": [1]}, {"a": [[1, 2]]}, {"a": [1, np.nan]}):
        with pytest.raises(ValueError, match="scores"):
            proxies.vote(bad)


def test_bad_input_is_refused():
    """Oracle: the remedies the docstrings promise."""
    model, variables, x = drawn("temporal-n4")
    with pytest.raises(ValueError, match="from 0"):
        proxies.snip(model, variables, x, LABELS + 1)
    with pytest.raises(ValueError, match="whole numbers"):
        proxies.gradient_norm(model, variables, x, LABELS[:3])
    for score in (proxies.naswot, proxies.jacobian_covariance, proxies.linear_on_pooled_input):
        with pytest.raises(ValueError, match="at least two"):
            score(model, variables, x[:1], LABELS[:1])
    bare = space.build("temporal-n4")
    with pytest.raises(ValueError, match="num_classes"):
        proxies.synflow(bare, {"params": {"front_end": variables["params"]["front_end"]}}, x, LABELS)

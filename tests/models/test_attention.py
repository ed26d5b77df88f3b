"""Attention: torch's, numpy's, and the identities that hold for it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirjax.models import attention

KEY = jax.random.key(0)


def _map(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_multi_head_attention_is_torchs():
    """Oracle: torch.nn.MultiheadAttention with its weights copied, with and without padding."""
    pytest.importorskip("torch")
    import torch_backends

    x, real = _map(2, 7, 12), np.arange(7)[None] < np.array([[7], [4]])
    tree, wanted = torch_backends.multi_head(3, x, real)
    found = attention.MultiHeadAttention(3).apply({"params": tree}, x, jnp.asarray(real))
    np.testing.assert_allclose(found[0], wanted[0], atol=1e-5)
    np.testing.assert_allclose(found[1, :4], wanted[1, :4], atol=1e-5)


def test_multi_head_attention_is_numpys():
    """Oracle: one head after the other, one query after the other, in numpy."""
    x, heads = _map(5, 6), 2
    part = attention.MultiHeadAttention(heads)
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(part.init, KEY, x[None])
    variables = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32) / 2, shapes)
    weights = variables["params"]
    q, k, v = (x @ weights[name]["kernel"] + weights[name]["bias"] for name in ("query", "key", "value"))
    wanted = np.zeros((5, 6))
    for h in range(heads):
        own = slice(3 * h, 3 * h + 3)
        for t in range(5):
            scores = np.array([q[t, own] @ k[n, own] for n in range(5)]) / math.sqrt(3)
            shares = np.exp(scores) / np.exp(scores).sum()
            wanted[t, own] = sum(shares[n] * v[n, own] for n in range(5))
    wanted = wanted @ weights["output"]["kernel"] + weights["output"]["bias"]
    np.testing.assert_allclose(part.apply(variables, x[None])[0], wanted, atol=1e-5)


@pytest.mark.parametrize("score", ["bilinear", "dot"])
def test_self_attention_is_its_equations(score):
    """Oracle: eqs. 2.17-2.19 of ARCHITECTURES §10, written out in numpy."""
    x = _map(6, 4)
    part = attention.SelfAttention(score)
    variables = part.init(KEY, x[None])
    kernel = variables["params"]["self_attention1_bilinear"]["kernel"] if score == "bilinear" else np.eye(4)
    wanted = []
    for t in range(6):
        b = np.array([x[t] @ kernel @ x[n] for n in range(6)]) / 2  # √C
        alpha = np.exp(b) / np.exp(b).sum()
        wanted.append(sum(alpha[n] * x[n] for n in range(6)))
    np.testing.assert_allclose(part.apply(variables, x[None])[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("part", [attention.SelfAttention(), attention.MultiHeadAttention(2)])
def test_self_attention_knows_no_order(part):
    """Identity: steps in another order give the same outputs in that order."""
    x, order = _map(1, 8, 4), np.random.default_rng(1).permutation(8)
    variables = part.init(KEY, x)
    np.testing.assert_allclose(part.apply(variables, x[:, order]), part.apply(variables, x)[:, order], atol=1e-5)


def test_positions_give_attention_an_order():
    """Identity: kernel 1 without positions, the clip's order does not matter; with them it does."""
    x = _map(1, 8, 4)
    for positions in (False, True):
        part = attention.Attention(kernel=1, positions=positions)
        variables = part.init(KEY, x)
        forwards, backwards = part.apply(variables, x), part.apply(variables, x[:, ::-1])
        assert np.allclose(forwards, backwards, atol=1e-5) != positions


def test_autopool_goes_from_mean_to_maximum():
    """Identity: α = 0 is the mean, a large α the maximum, a large negative one the minimum, one per channel alike."""
    x = _map(2, 9, 4)
    pool, each = attention.AutoPool(), attention.AutoPool(per_channel=True)
    initial = pool.init(KEY, x)
    assert initial["params"]["alpha"].shape == ()
    np.testing.assert_allclose(pool.apply(initial, x), x.mean(axis=1), atol=1e-6)
    for alpha, wanted in ((1e4, x.max(axis=1)), (-1e4, x.min(axis=1))):
        np.testing.assert_allclose(pool.apply({"params": {"alpha": jnp.float32(alpha)}}, x), wanted, atol=1e-6)
    alphas = jnp.array([0.0, 1e4, -1e4, 1.0])
    found = each.apply({"params": {"alpha": alphas}}, x)
    last = np.exp(x[..., 3])
    wanted = [x[..., 0].mean(1), x[..., 1].max(1), x[..., 2].min(1), (x[..., 3] * last).sum(1) / last.sum(1)]
    np.testing.assert_allclose(found, np.stack(wanted, axis=1), atol=1e-5)


@pytest.mark.parametrize("scale", [1e4, 1e10])
def test_attention_of_large_maps_is_finite(scale):
    """Identity: scores so large that one step takes all give that step, compiled too (maps of untrained networks)."""
    x = jnp.asarray(_map(2, 20, 8) * scale)
    pool = attention.AutoPool()
    pooled = jax.jit(pool.apply)({"params": {"alpha": jnp.float32(0.3)}}, x)
    if scale > 1e5:
        np.testing.assert_array_equal(pooled, x.max(axis=1))
    for part in (pool, attention.Attention(), attention.SelfAttention("dot")):
        variables = part.init(KEY, x)
        gradient = jax.jit(jax.grad(lambda x, part=part, v=variables: part.apply(v, x).sum()))(x)
        assert np.isfinite(gradient).all()


def test_sinusoids():
    """Oracle: Vaswani et al. §3.5 at hand-worked places; the legacy ones as the companion networks' code has them."""
    found, legacy = attention.sinusoids(4, 6), attention.sinusoids(4, 6, legacy=True)
    assert found.shape == (4, 6)
    np.testing.assert_allclose(found[0], [0, 1] * 3)
    np.testing.assert_allclose(found[3, 2:4], [math.sin(3 / 10_000 ** (1 / 3)), math.cos(3 / 10_000 ** (1 / 3))])
    np.testing.assert_allclose(legacy[3, 3], math.cos(3 / 10_000))
    np.testing.assert_allclose(legacy[:, 0], found[:, 0])


def test_masked_softmax_leaves_nothing_beyond():
    """Identity: weights sum to 1 over what is real, are 0 elsewhere, equal everywhere where nothing is real."""
    real = jnp.array([[True, True, False], [False, False, False]])
    weights = attention.masked_softmax(jnp.array([[1.0, 1.0, 99.0], [1.0, 2.0, 3.0]]), real, axis=1)
    np.testing.assert_allclose(weights, [[0.5, 0.5, 0], [1 / 3] * 3], rtol=1e-6)


def test_too_many_heads():
    """Contract: the error names both numbers."""
    with pytest.raises(ValueError, match="heads=5 for 4 channels"):
        attention.MultiHeadAttention(5).init(KEY, jnp.zeros((1, 3, 4)))


def test_bfloat16_stays():
    """Contract: bfloat16 in, bfloat16 out, near to float32."""
    x = _map(2, 9, 4)
    for part in (attention.Attention(), attention.AutoPool(), attention.SelfAttention()):
        variables = part.init(KEY, x)
        found = part.apply(variables, x.astype(jnp.bfloat16))
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(np.float32), part.apply(variables, x), atol=0.05)

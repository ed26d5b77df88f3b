"""General back-ends, alone and behind any front-end."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

from mirjax.models import attention, backends, blocks, frontends, geometry, taggers
from mirjax.models.blocks import Chain, Conv, Head, Stack
from mirjax.signal.representations import LogMel, Waveform

_POOL = backends.GlobalPool(("max", "mean"))


def _network(back_end):
    """Torch's side of it is in `torch_backends`."""
    return taggers.Network(LogMel(n_mels=8), Stack((Conv(6, (3,)),)), back_end, Head(3), num_steps=19)


NETWORKS = {
    "pools": backends.GlobalPool(("max", "mean", "std")),
    "flatten": backends.Flatten(),
    "dense_concat": Chain((backends.DenseConcat(4), _POOL)),
    "dense_concat_legacy": Chain((backends.DenseConcat(4, dense=False, legacy_residual=True), _POOL)),
    "strided": backends.StridedConv(5, num_layers=2),
    "fully_convolutional": backends.FullyConvolutional(5, activation="linear"),
    "attention": attention.Attention(),
    "attention_legacy": attention.Attention(legacy_positions=True),
    "autopool": attention.AutoPool(),
    "self_attention": Chain((attention.SelfAttention(), backends.GlobalPool(("mean",)))),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_frozen_torch(case):
    """Oracle: torch's outputs for torch's weights, frozen by `parity.py`."""
    parity.assert_same(_network(NETWORKS[case]), *parity.load("backends", case))


def test_live_torch():
    """Oracle: torch, run now."""
    for case, found in parity.live("backends").items():
        parity.assert_same(_network(NETWORKS[case]), *found)


# ── alone ──

VECTORS = {
    "pool": backends.GlobalPool(("max", "mean", "std")),
    "pool_over_bands": backends.GlobalPool(("std", "max"), over_bands=True),
    "flatten": backends.Flatten(),
    "dense_concat": Chain((backends.DenseConcat(4), _POOL)),
    "strided": backends.StridedConv(4, num_layers=2, norm=blocks.Norm()),
    "fully_convolutional": backends.FullyConvolutional(4),
    "fully_convolutional_3": backends.FullyConvolutional(4, kernel=(3,), norm=blocks.Norm()),
    "attention": attention.Attention(),
    "attention_1": attention.Attention(units=1, positions=False),
    "autopool": attention.AutoPool(),
    "autopool_per_channel": attention.AutoPool(per_channel=True),
    "self_attention": Chain((attention.SelfAttention(), _POOL)),
}
SEQUENCES = {
    "dense_concat": backends.DenseConcat(4),
    "residual": backends.DenseConcat(4, num_layers=2, kernel=4, dense=False, norm=None),
    "strided": backends.StridedConv(4, kernel=3, pool=()),
    "self_attention": attention.SelfAttention(num_layers=2),
    "self_attention_dot": attention.SelfAttention(score="dot"),
}
MASKED = [f"v/{name}" for name in VECTORS if name != "flatten"] + [f"s/{name}" for name in SEQUENCES]


def _part(name):
    kind, _, name = name.partition("/")
    return (VECTORS if kind == "v" else SEQUENCES)[name]


def _init(part, x, **options):
    """Variables drawn into the shapes of `init`, which is quicker than an initialisation; variances positive."""
    shapes = jax.eval_shape(functools.partial(part.init, **options), jax.random.key(0), x)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.1, 0.4, leaf.shape), leaf.dtype), dict(shapes))


@pytest.mark.parametrize(
    ("name", "bands"), [(name, ()) for name in MASKED] + [("v/pool", (3,)), ("v/pool_over_bands", (3,))]
)
def test_padding_is_invisible(name, bands):
    """Identity: a padded row gives what the row alone gives, whatever lies beyond."""
    part = _part(name)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 17, *bands, 5)).astype(np.float32)
    variables = _init(part, x)
    padded = x.copy()
    padded[1, 11:] = 100 * rng.standard_normal(padded[1, 11:].shape)
    apply = jax.jit(part.apply)
    together = apply(variables, padded, steps=jnp.array([17, 11]))
    alone = apply(variables, x[1:, :11])
    if together.ndim > 2:
        together = together[:, : geometry.num_steps(part.windows, 11)]
    assert alone.shape == together[1:].shape
    np.testing.assert_allclose(together[1:], alone, rtol=2e-5, atol=2e-6)


def test_padding_is_not_in_the_statistics_of_training():
    """Identity: the batch's statistics do not see the padding."""
    part = backends.DenseConcat(4)
    x = jax.random.normal(jax.random.key(0), (2, 17, 5))
    variables = _init(part, x)
    train = functools.partial(part.apply, steps=jnp.array([17, 11]), train=True, mutable=["batch_stats"])
    seen = [jax.jit(train)(variables, each)[1] for each in (x, x.at[1, 11:].set(1e3))]
    for one, other in zip(*map(jax.tree.leaves, seen), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("name", MASKED)
def test_gradients_are_finite_at_constant_maps_and_at_empty_rows(name):
    """Contract: no NaN at silence, nor from a row without a step."""
    part = _part(name)
    x, steps = jnp.full((2, 12, 4), 0.3), jnp.array([12, 0])
    variables = part.init(jax.random.key(0), x)
    value, gradients = jax.value_and_grad(lambda v, x: part.apply(v, x, steps=steps).sum(), argnums=(0, 1))(
        variables, x
    )
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_pools_are_numpys():
    """Oracle: numpy's max, mean and population deviation, in the order asked for."""
    x = np.random.default_rng(1).standard_normal((2, 9, 3, 4)).astype(np.float32)
    wanted = np.concatenate([f(x.reshape(2, 9, 12), axis=1) for f in (np.std, np.max, np.mean)], axis=-1)
    pool = backends.GlobalPool(("std", "max", "mean"))
    np.testing.assert_allclose(pool.apply({}, x), wanted, rtol=1e-5, atol=1e-6)
    wanted = np.concatenate([x.mean(axis=(1, 2)), x.max(axis=(1, 2))], axis=-1)
    pool = backends.GlobalPool(("mean", "max"), over_bands=True)
    np.testing.assert_allclose(pool.apply({}, x), wanted, rtol=1e-5, atol=1e-6)


def test_flatten_is_numpys_ravel():
    """Oracle: numpy's C order of (time, frequency, channel)."""
    x = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(backends.Flatten().apply({}, x), x.reshape(2, -1))
    assert not backends.Flatten.masks


def _size(part, x):
    shapes = jax.eval_shape(part.init, jax.random.key(0), x)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_dense_concat_has_musicnns_parameters():
    """Oracle: musicnn's 787,159 of ARCHITECTURES §1.2 less its front and its head, computed by hand from §6.6."""
    front = 2 + 204 * (7 * 38 + 1) + 204 * (7 * 67 + 1) + 51 * (128 + 64 + 32 + 3) + 2 * 561
    head = 4 * 753 + (1506 * 200 + 200) + 400 + (200 * 50 + 50)
    x = jax.ShapeDtypeStruct((1, 187, 561), jnp.float32)
    assert _size(backends.DenseConcat(), x) == 787_159 - front - head
    assert _size(backends.DenseConcat(legacy_residual=True), x) == 787_159 - front - head
    # Attention 2,406,940 and autopool 636,701: 576 channels before, 768 after.
    front = 2 + 576 * (7 * 38 + 1) + 2 * 576
    head = 2 * 768 + (768 * 200 + 200) + 400 + (200 * 50 + 50)
    mid = _size(backends.DenseConcat(), jax.ShapeDtypeStruct((1, 187, 576), jnp.float32))
    x = jax.ShapeDtypeStruct((1, 187, 768), jnp.float32)
    assert mid + _size(attention.Attention(), x) == 2_406_940 - front - head
    assert mid + _size(attention.AutoPool(), x) == 636_701 - front - head


def test_legacy_residual_ignores_its_later_norms():
    """Oracle: ARCHITECTURES §11, row 42: normalisations 2 and 3 are there and do nothing; by default they act."""
    x = jax.random.normal(jax.random.key(0), (1, 9, 5))
    for legacy in (True, False):
        part = backends.DenseConcat(4, legacy_residual=legacy)
        variables = _init(part, x)
        before = part.apply(variables, x)
        variables["params"]["mid3_norm"]["scale"] *= 2
        assert (np.abs(part.apply(variables, x) - before).max() == 0) == legacy


def test_head_commutes_with_the_mean_of_class_maps():
    """Identity: a dense layer on the mean over time = the mean of a 1×1 convolution's class maps."""
    x = jax.random.normal(jax.random.key(0), (2, 9, 8))
    model = _network(backends.FullyConvolutional(5))
    variables = model.init(jax.random.key(1), x, method="embed")
    found, sown = model.apply(variables, x, method="embed", mutable=["maps"])
    maps = sown["maps"]["back_end"]["class_maps"]
    output = variables["params"]["head"]["output"]
    scores = (maps @ output["kernel"] + output["bias"][None, None]).mean(axis=1)
    np.testing.assert_allclose(found["logits"], scores, rtol=1e-5, atol=1e-6)


def test_fully_convolutional_over_bands():
    """Identity: a 1×1 kernel on a map with bands = the 1-D one on every band, averaged."""
    x = jax.random.normal(jax.random.key(0), (2, 9, 4, 3))
    flat = backends.FullyConvolutional(5, activation="linear")
    part = backends.FullyConvolutional(5, kernel=(1, 1), activation="linear")
    variables = part.init(jax.random.key(1), x)
    kernel, bias = (variables["params"]["class_maps_block"][name] for name in ("kernel", "bias"))
    one = {"params": {"class_maps_block": {"kernel": kernel[0], "bias": bias}}}
    wanted = np.mean([flat.apply(one, x[:, :, i]) for i in range(4)], axis=0)
    np.testing.assert_allclose(part.apply(variables, x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("part", "shape", "words"),
    [
        (backends.GlobalPool(("median",)), (1, 4, 3), "median.*max, mean, std"),
        (backends.GlobalPool(()), (1, 4, 3), "kinds"),
        (backends.GlobalPool(), (1, 4), r"\[B, T, C\]"),
        (backends.StridedConv(2, kernel=2, stride=3), (1, 9, 3), "stride=3 with kernel=2"),
        (backends.StridedConv(2, kernel=8, stride=4), (1, 5, 3), "at least 8 steps and got 5: strided1"),
        (backends.FullyConvolutional(2, kernel=(1, 1)), (1, 9, 3), "kernel="),
        (attention.Attention(units=2), (1, 9, 3), "units=2 for a map of 3 channels"),
        (attention.SelfAttention(score="cosine"), (1, 9, 3), "score='cosine'"),
    ],
)
def test_bad_settings_are_named(part, shape, words):
    """Contract: errors carry the name, the value and the remedy."""
    with pytest.raises(ValueError, match=words):
        part.init(jax.random.key(0), jnp.zeros(shape))


# ── behind any front-end ──

FRONTS = {
    "bands": (LogMel(), Stack((Conv(2, (3, 3), pool=(2, 16)),)), (40, 96)),
    "timbral": (LogMel(), frontends.Timbral(1), (20, 96)),
    "sample_level": (Waveform(), frontends.SampleLevel(14), (20 * 3**7,)),
}
BACKS = [f"v/{name}" for name in VECTORS] + [f"s/{name}" for name in SEQUENCES]


@functools.cache
def _map(front):
    """(variables, map) of a front-end: random ones, of a random input."""
    _, front_end, shape = FRONTS[front]
    x = jax.random.normal(jax.random.key(0), (2, *shape))
    variables = _init(front_end, x)
    return variables, jax.jit(front_end.apply)(variables, x)


@pytest.mark.parametrize("back", [*BACKS, "extra"])
@pytest.mark.parametrize("front", FRONTS)
def test_any_front_end_with_any_back_end(front, back):
    """Contract: shapes, finite values, jit = eager, and as many steps as the geometry says."""
    representation, front_end, shape = FRONTS[front]
    back_end = backends.ExtraLayers(4) if back == "extra" else _part(back)
    model = taggers.Network(representation, front_end, back_end, Head(3, hidden=(5,)))
    between = (geometry.num_steps(model.windows, shape[0]),) if back[0] in "se" else ()
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    outputs = jax.eval_shape(functools.partial(model.init_with_output, method="embed"), jax.random.key(0), x)[0]
    assert {name: leaf.shape for name, leaf in outputs.items()} == {
        "embedding": (2, *between, 5),
        "logits": (2, *between, 3),
    }
    assert model.is_variable == (front == "bands" and back not in ("v/flatten", "extra"))
    _, middle = _map(front)
    assert middle.shape[1] == geometry.num_steps(front_end.windows, shape[0])
    variables = _init(back_end, middle)
    found, eager = jax.jit(back_end.apply)(variables, middle), back_end.apply(variables, middle)
    assert found.shape[:-1] == (2, *between)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, eager, rtol=1e-4, atol=1e-5 * np.abs(eager).max())


def test_a_network_is_its_parts_one_after_the_other():
    """Identity: the network's embedding = the back-end of the front-end's map."""
    representation, front_end, shape = FRONTS["bands"]
    model = taggers.Network(representation, front_end, _part("v/dense_concat"))
    x = jax.random.normal(jax.random.key(0), (2, *shape))
    variables, middle = _map("bands")
    back = _init(model.back_end, middle)
    whole = {kind: {"back_end": back[kind]} for kind in back}
    whole["params"]["front_end"] = variables["params"]
    found = model.apply(whole, x, method="embed")["embedding"]
    np.testing.assert_allclose(found, model.back_end.apply(back, middle), rtol=1e-5)

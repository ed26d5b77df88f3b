"""The space of small networks. Oracles: numpy re-computations, identities, and its own clauses as a contract.

Every network is held against the contract by shapes alone; a few run in CI, all of them with `-m slow`.
"""

import collections
import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mirjax import features
from mirjax.models import counts, geometry, space, zoo
from mirjax.signal.representations import Waveform

NAMES = space.names()
DRAWN = NAMES[len(zoo.STUDY) :]
SAMPLE_RATE = 12_000


def input_of(model, seconds, rows=2, seed=0):
    """A standardised representation of noise."""
    shape = (rows, *model.representation.shape(int(seconds * SAMPLE_RATE)))
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def close(found, expected, tolerance=1e-5):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


# ── names ──


def test_names_never_change():
    """Oracle: frozen names; a table made with them must be readable ever after."""
    assert NAMES[:3] == ("vgg-n24", "7x96-n160", "7x86-n160")
    assert DRAWN[:3] == (
        "space/square3-d5-f32-p2x2-elu-nonorm-mean+max",
        "space/square5-d2-f16-p3x2-relu-nonorm-mean+std",
        "space/vertical-d5-f48-p2-relu-bn-mean+max",
    )
    assert hashlib.sha256(" ".join(NAMES).encode()).hexdigest()[:16] == "4823048d972adcb3"


def test_names_are_distinct_nested_and_balanced():
    """Oracle: the docstring's claims, counted."""
    assert len(set(NAMES)) == len(NAMES) == 60
    assert space.names(25) == NAMES[:25] and space.names(100)[:60] == NAMES
    other = space.names(60, seed=1)
    assert other[:10] == NAMES[:10] and not set(other[10:]) & set(DRAWN[:20])
    specs = [space.parse(name) for name in DRAWN]
    shapes = collections.Counter(spec.shape for spec in specs)
    assert set(shapes) == set(space.SHAPES) and max(shapes.values()) - min(shapes.values()) <= 1
    assert 10 <= sum(spec.batch_norm for spec in specs) <= 20
    for field, values in {"depth": 5, "filters": 6, "activation": 2, "back_end": len(space.BACK_ENDS)}.items():
        assert len({getattr(spec, field) for spec in specs}) == values


def test_a_name_is_its_network():
    """Oracle: identity over 500 drawn names; no two of them say the same."""
    specs = [space.parse(name) for name in space.names(500)[10:]]
    assert [spec.name for spec in specs] == list(space.names(500)[10:])
    assert len(set(specs)) == len(specs)
    assert space.parse("vgg-n3") is None and space.build("vgg-n3") == zoo.build("vgg", 3)


@pytest.mark.parametrize(
    "name",
    [
        "vgg",
        "vgg-n0",
        "nothing-n8",
        "space/cube-d2-f8-p2-relu-bn-mean",
        "space/bands-d2-f8-p2-relu-bn-median",
        "space/bands-d2-f8-p2x2-relu-bn-mean",  # keeps no bands
        "space/square3-d2-f8-p2-relu-bn-mean",
        "space/bands-d2-f9-p2-relu-bn-mean",
        "space/bands-d02-f8-p2-relu-bn-mean",  # two names would be one network
        "space/bands-d0-f8-p2-relu-bn-mean",
        "space/bands-d2-f8-p1-relu-bn-mean",
        "space/sample-d1-f8-p2-relu-bn-mean",  # depth 1 has no pooling
    ],
)
def test_other_names_are_refused(name):
    """Oracle: the grammar of the module's head."""
    with pytest.raises(ValueError, match="none of this space"):
        space.build(name)


def test_bad_numbers_are_refused():
    """Oracle: the docstrings."""
    for count in (0, space.MOST + 1):
        with pytest.raises(ValueError, match=f"count={count}"):
            space.names(count)
    assert len(space.names(space.MOST)) == space.MOST
    headed = space.build("temporal-n4", num_classes=3)
    with pytest.raises(ValueError, match="has a head"):
        space.with_head(headed, 3)
    with pytest.raises(ValueError, match="num_classes=0"):
        space.with_head(zoo.build("temporal", 4), 0)


# ── the contract ──


@pytest.mark.parametrize("name", NAMES)
def test_every_network_by_shapes(name):
    """Oracle: the clauses: takes 2 to 12 s, costs at most 0.15 GFLOP a second, features, logits, small."""
    model = space.build(name, num_classes=7)
    short, long = (model.representation.shape(seconds * SAMPLE_RATE)[0] for seconds in (2, 12))
    assert max(geometry.shortest(model.windows), 1) <= short or model.repeats_to
    spec = counts.input_spec(model, short)
    found = jax.eval_shape(functools.partial(model.init, method="embed"), jax.random.key(0), spec)
    assert set(model.feature_layers) <= {
        path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(found["features"])
    }
    variables = {kind: found[kind] for kind in ("params", "batch_stats") if kind in found}
    for steps in (short, long):
        x = jax.ShapeDtypeStruct((3, steps, *spec.shape[2:]), spec.dtype)
        outputs = jax.eval_shape(functools.partial(model.apply, method="embed"), variables, x)
        assert outputs["logits"].shape == (3, 7) and outputs["embedding"].ndim == 2
    assert 2e-9 * sum(layer.multiply_adds for layer in counts.layers_of(model, short)) <= 0.15 * 2
    assert counts.count(model) <= 120_000
    assert name in NAMES[:10] or model.is_variable
    drawn = space.parse(name)
    if drawn is not None:
        paths = ["/".join(part.key for part in path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
        convolutions = [path for path in paths if path.endswith("_block/bias")]
        assert ("batch_stats" in variables) == drawn.batch_norm
        assert not drawn.batch_norm or all("score_block" in path for path in convolutions)  # the attention's own


# One of each back-end, and the shapes that are cheap to compile.
CHOSEN = (
    "space/square3-d2-f8-p2x2-relu-bn-gru",
    "space/vertical-d1-f8-p2-relu-nonorm-max",
    "space/rhythm-d2-f12-p3-relu-bn-mean",
    "space/mixed-d1-f8-p2-elu-nonorm-mean+max",
    "space/frames-d1-f8-p2-elu-nonorm-attention",
    "space/sample-d2-f8-p3-relu-bn-mean+std",
)


@pytest.mark.parametrize("name", [*CHOSEN, *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES)])
def test_gradients_and_padding(name):
    """Oracle: gradients of every weight finite, and not all 0; a padded row gives what it gives alone."""
    model = space.build(name, num_classes=3)
    variables = features.initialise(model, jax.random.key(0), 2 * SAMPLE_RATE)
    x = input_of(model, 2)

    @jax.jit
    @jax.value_and_grad
    def loss(params, x):
        outputs, _ = model.apply(variables | {"params": params}, x, train=True, method="embed", mutable=["batch_stats"])
        return -jax.nn.log_softmax(outputs["logits"])[:, 0].mean()

    value, gradients = loss(variables["params"], x)
    assert np.isfinite(value)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(np.asarray(leaf)).all()
    assert any(np.abs(np.asarray(leaf)).max() > 0 for leaf in jax.tree.leaves(gradients))
    if model.is_variable:
        short = max(x.shape[1] * 9 // 10, geometry.shortest(model.windows))
        run = jax.jit(functools.partial(model.apply, method="embed"))
        padded = run(variables, x.at[:, short:].set(100), steps=jnp.array([short, short]))
        alone = run(variables, x[:, :short])
        close(padded["logits"], alone["logits"], 1e-4)


# ── what they compute ──


def convolve(x, kernel, stride=(1, 1)):
    """x [T, F, C] with kernel (kt, kf, C, D), position by position: [T', F', D]."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(0, 1))[:: stride[0], :: stride[1]]
    return np.einsum("tfcij,ijcd->tfd", windows, kernel)


def pool(x, size, bands=1):
    """Maxima of [T, F, D] over windows of (size, bands), the rest at the ends dropped."""
    x = x[: len(x) // size * size, : x.shape[1] // bands * bands]
    return x.reshape(len(x) // size, size, x.shape[1] // bands, bands, -1).max(axis=(1, 3))


def padded(x, kernel, bands=False):
    """x with the zeros of "same" in time, and in frequency where asked for."""
    sides = [((k - 1) // 2, k // 2) for k in kernel.shape[:2]]
    return np.pad(x, (sides[0], sides[1] if bands else (0, 0), (0, 0)))


RECOMPUTED = {
    "space/square3-d1-f4-p2x3-relu-nonorm-mean": lambda x, k: pool(convolve(padded(x, k, True), k), 2, 3),
    "space/vertical-d1-f4-p2-relu-nonorm-mean": lambda x, k: pool(convolve(padded(x, k), k), 2, 17),
    "space/bands-d1-f4-p3-relu-nonorm-mean": lambda x, k: pool(convolve(padded(x, k), k), 3, 96),
    "space/rhythm-d1-f4-p3-relu-nonorm-mean": lambda x, k: pool(convolve(padded(x.mean(1, keepdims=True), k), k), 3),
    "space/frames-d1-f4-p2-relu-nonorm-mean": lambda x, k: pool(convolve(padded(x.swapaxes(1, 2), k), k), 2),
    "space/sample-d1-f4-p1-relu-nonorm-mean": lambda x, k: convolve(x, k, (3, 1)),
    "space/frame-d1-f4-p1-relu-nonorm-mean": lambda x, k: convolve(x, k, (256, 1)),
}


@pytest.mark.parametrize("name", RECOMPUTED)
def test_opening_layers(name):
    """Oracle: numpy in float64, by the words of the module's head: convolve, ReLU, maximum, mean."""
    model = space.build(name, num_classes=3)
    variables = features.initialise(model, jax.random.key(1), SAMPLE_RATE)
    x = input_of(model, 1, rows=1)
    outputs = jax.jit(functools.partial(model.apply, method="embed"))(variables, x)
    (kernel,) = (leaf for leaf in jax.tree.leaves(variables["params"]["front_end"]) if leaf.ndim > 1)
    kernel = np.asarray(kernel, np.float64)
    kernel = kernel[:, None] if kernel.ndim == 3 else kernel
    x = np.asarray(x, np.float64)[0]
    maps = RECOMPUTED[name](x[..., None] if x.ndim == 2 else x[:, None, None], kernel)
    expected = np.maximum(maps, 0).mean(axis=(0, 1))
    close(outputs["embedding"][0], expected)
    output = variables["params"]["head"]["output"]
    close(outputs["logits"][0], expected @ np.asarray(output["kernel"]) + np.asarray(output["bias"]), 1e-4)


def test_mixed_has_its_four_shapes():
    """Oracle: the kernels' shapes, typed in."""
    params = counts.parameters_of(space.build("space/mixed-d2-f16-p2-relu-nonorm-mean"))
    kernels = [shape for path, shape in params if path.endswith("kernel")]
    assert sorted(kernels) == [(3, 1, 16, 16), (7, 38, 1, 4), (7, 80, 1, 4), (32, 1, 1, 4), (64, 1, 1, 4)]


def test_untrained_features_hardly_know_of_batch_norm():
    """Oracle: √(1 + ε) a layer, ε = 1e-3, with the same kernels. The norm stands before the ReLU."""
    x, found = None, {}
    for norm in ("bn", "nonorm"):
        model = space.build(f"space/frames-d2-f8-p2-relu-{norm}-mean")
        x = input_of(model, 2)
        variables = features.initialise(model, jax.random.key(0), SAMPLE_RATE)
        found[norm] = features.layer_means(model, variables, x)
        trained = model.apply(variables, x, train=True, method="embed", mutable=["maps", "batch_stats"])[1]
        assert np.asarray(trained["maps"]["front_end"]["conv1"]).min() == 0
    for depth, layer in enumerate(("conv1", "conv2"), start=1):
        close(found["bn"][layer] * 1.001 ** (depth / 2), found["nonorm"][layer])


# ── heads ──


@pytest.mark.parametrize("name", [*NAMES[:10], DRAWN[0], DRAWN[-1]])
def test_a_head_leaves_all_other_weights(name):
    """Oracle: identity, number for number, under one key."""
    bare, headed = (
        features.initialise(space.build(name, num_classes=k), jax.random.key(3), 2 * SAMPLE_RATE) for k in (None, 5)
    )
    head = headed["params"].pop("head")
    assert head["output"]["kernel"].shape[1] == 5
    assert jax.tree.structure(bare) == jax.tree.structure(headed)
    for a, b in zip(jax.tree.leaves(bare), jax.tree.leaves(headed), strict=True):
        np.testing.assert_array_equal(a, b)


FEW = ("temporal-n8", "frame-n40")


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES[:10] if n not in FEW)])
def test_a_head_leaves_the_features(name):
    """Oracle: identity; features of audio with and without a head, and the head's input among them."""
    audio = np.random.default_rng(0).normal(size=(2, 2 * SAMPLE_RATE)).astype(np.float32) / 10
    bare, headed = space.build(name), space.build(name, num_classes=5)
    key = jax.random.key(4)
    drawn = features.initialise(headed, key, audio.shape[1])
    found = features.extract(headed, drawn, audio)
    np.testing.assert_array_equal(found, features.extract(bare, features.initialise(bare, key), audio))
    outputs = jax.jit(functools.partial(headed.apply, method="embed"))(drawn, headed.representation(audio))
    embedding = np.asarray(outputs["embedding"])
    close(embedding, found[:, -embedding.shape[1] :], 1e-4)
    output = drawn["params"]["head"]["output"]
    close(outputs["logits"], embedding @ output["kernel"] + output["bias"][None], 1e-4)


def test_waveform_networks_take_waveforms():
    """Oracle: the module's head."""
    for name in DRAWN:
        model = space.build(name)
        assert isinstance(model.representation, Waveform) == (space.parse(name).shape in ("sample", "frame"))

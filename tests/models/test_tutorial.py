"""Networks of the ISMIR 2018 tutorial."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity
import pytest

from mirjax.data import audio, dataset
from mirjax.models import counts, tutorial, zoo

KEY = jax.random.key(0)


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def start(model, x):
    """First variables, compiled as one program."""
    return jax.jit(functools.partial(model.init, method="embed"))(KEY, x)


def run(model, variables, x, **options):
    """The network, compiled as one program."""
    return jax.jit(functools.partial(model.apply, method="embed", **options))(variables, x)


@pytest.mark.parametrize(
    ("name", "trainable", "total"),
    [
        ("tutorial_vocal", 6_230_689, 6_230_689),
        ("tutorial_vocal/two_conv", 1_330_097, 1_330_097),
        ("tutorial_genre", 106_536, 107_016),
        ("tutorial_genre/moods", 106_020, 106_500),
        ("tutorial_siamese", 663_106, 663_172),
    ],
)
def test_counts(name, trainable, total):
    """Oracle: ARCHITECTURES section 1.5."""
    model = zoo.build(name)
    assert (counts.count(model), counts.count(model, "total")) == (trainable, total)


def test_flattened_sizes():
    """Oracle: ARCHITECTURES sections 9.1, 9.2 and 12: 39·39·16 values, 384, and 2,560."""
    kernels = [counts.variable_shapes(zoo.build(name))["params"] for name in ("tutorial_vocal", "tutorial_genre")]
    assert [tree["head"]["dense1_layer"]["kernel"].shape[0] for tree in kernels] == [39 * 39 * 16, 384]
    model = zoo.build("tutorial_siamese")
    assert counts.variable_shapes(model)["params"]["dense"]["kernel"].shape == (2_560, 256)
    found = {layer.name: layer.shape for layer in counts.layers_of(model)}
    assert found["stack_a"] == (20, 4, 16)  # the notebook's (4, 20, 16), bands first
    assert found["stack_b"] == (4, 20, 16)


def test_genres_are_normalised_by_band():
    """Oracle: ARCHITECTURES section 9.1: 80 scales, one for each of the bands, which come second here."""
    model = tutorial.tutorial_genre(2)
    x = normal(1, 80, 80)
    variables = start(model, x)
    averages = variables["batch_stats"]["front_end"]["input_norm"]["mean"]
    assert averages.shape == (80,)
    shifted = {**variables, "batch_stats": jax.tree.map(lambda leaf: leaf, variables["batch_stats"])}
    shifted["batch_stats"]["front_end"]["input_norm"]["mean"] = averages + jnp.arange(80.0)
    moved = run(model, shifted, x + jnp.arange(80.0)[None, None])["logits"]
    np.testing.assert_allclose(moved, run(model, variables, x)["logits"], atol=1e-4)


def test_torch_agrees_frozen():
    """Oracle: torch 2.13, outputs frozen by `torch_choi.py`."""
    parity.assert_same(tutorial.tutorial_siamese(2), *parity.load("choi", "siamese"))


def test_torch_agrees_live():
    """Oracle: torch, run now."""
    parity.assert_same(tutorial.tutorial_siamese(2), *parity.live("choi")["siamese"])


def test_siamese_noise_is_for_training_only():
    """Oracle: ARCHITECTURES section 9.2: Gaussian noise in training; the embedding has no logits beside it."""
    model, x = tutorial.tutorial_siamese(1), normal(2, 80, 80)
    variables = start(model, x)
    plain = run(model, variables, x)
    assert set(plain) == {"embedding"}
    assert plain["embedding"].shape == (2, 16)

    def train(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return np.asarray(run(model, variables, x, train=True, rngs=rngs, mutable=["batch_stats"])[0]["embedding"])

    np.testing.assert_array_equal(train(1), train(1))
    assert np.abs(train(1) - train(2)).max() > 1e-4


def test_constraint_has_unit_norm():
    """Oracle: numpy's norm of every column; the other parameters stay as they are."""
    params = start(tutorial.tutorial_siamese(1), normal(1, 80, 80))["params"]
    found = tutorial.constrain(params)
    np.testing.assert_allclose(np.linalg.norm(found["dense"]["kernel"], axis=0), 1, atol=1e-5)
    before, after = ({**tree, "dense": tree["dense"]["bias"]} for tree in (params, found))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    again = tutorial.constrain(found)["dense"]["kernel"]
    np.testing.assert_allclose(again, found["dense"]["kernel"], atol=1e-6)


@pytest.mark.parametrize("name", ["tutorial_vocal", "tutorial_genre", "tutorial_siamese"])
def test_one_filter_and_twice_the_filters(name):
    """Oracle: n = 1 builds; twice the filters have up to four times the parameters."""
    n = zoo.lookup(name).n
    assert counts.count(zoo.build(name, 1)) > 0
    assert 2 < counts.count(zoo.build(name, 2 * n)) / counts.count(zoo.build(name, n)) < 4.1


def test_errors_name_what_is_wrong():
    """Oracle: DESIGN section 6.8: the name, the value, the remedy."""
    with pytest.raises(ValueError, match="num_convs=5"):
        tutorial.tutorial_vocal(1, num_convs=5)
    with pytest.raises(ValueError, match="takes 80"):
        tutorial.tutorial_genre(1).init(KEY, normal(1, 81, 80), method="embed")
    with pytest.raises(ValueError, match="length"):
        tutorial.tutorial_siamese(1).init(KEY, normal(1, 80, 80), steps=jnp.array([80]), method="embed")


def test_loss_falls():
    """Oracle: contrastive loss of pairs (ARCHITECTURES section 9.2), with the constraint, on embedded audio."""
    source = dataset.open_source("rhythm_small")
    order = np.argsort(source.labels, kind="stable")
    chosen = order[[0, 1, 20, 21, 40, 41, 60, 61]]  # every second neighbour is of the same class
    clips = jnp.stack([audio.decode(source.encoded(int(i)), sample_rate=16_000)[: 80 * 1024 - 1] for i in chosen])
    labels = np.array([source.labels[i] for i in chosen])
    alike = jnp.asarray(labels == np.roll(labels, 1), jnp.float32)
    assert 0 < alike.sum() < len(alike)
    model = tutorial.tutorial_siamese(1)
    x = model.representation(clips)[:, :80]
    x = (x - x.mean()) / x.std()
    variables = start(model, x)
    params, stats, optimiser = tutorial.constrain(variables["params"]), variables["batch_stats"], optax.adam(3e-3)
    state, losses = optimiser.init(params), []

    def loss(params, stats, key):
        output, new = model.apply(
            {"params": params, "batch_stats": stats},
            x,
            train=True,
            method="embed",
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        difference = output["embedding"] - jnp.roll(output["embedding"], 1, axis=0)
        distance = jnp.sqrt(jnp.maximum((difference**2).sum(axis=1), 1e-7))
        far = jnp.maximum(1 - distance, 0) ** 2
        return (alike * distance**2 + (1 - alike) * far).mean(), new["batch_stats"]

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for key in jax.random.split(KEY, 12):
        (value, stats), gradients = step(params, stats, key)
        updates, state = optimiser.update(gradients, state)
        params = tutorial.constrain(optax.apply_updates(params, updates))
        losses.append(float(value))
    assert np.mean(losses[-3:]) < 0.8 * losses[0]

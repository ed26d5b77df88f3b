"""Networks of few training examples, and VGGish: counts, sizes, gates, torch's outputs, and a loss that falls."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity
import pytest

from mirjax import features
from mirjax.data import audio, dataset
from mirjax.models import counts, few_shot, zoo
from mirjax.models.entries.few_shot import ENTRIES
from mirjax.signal.compression import Linear

KEY = jax.random.key(0)
NAMES = [entry.name for entry in ENTRIES]
CHAPTER_6 = NAMES[:4]
CASES = {
    "sb_cnn": ("sb_cnn", 2, {"log_learn": True}),
    "vgg": ("few_shot_vgg", 2, {}),
    "timbre": ("few_shot_timbre", 1, {"num_classes": 4}),
    "prototypical": ("prototypical", 2, {}),
    "prototypical_legacy": ("prototypical", 2, {"legacy_input_norm": True}),
    "vggish": ("vggish", 1, {"num_classes": 10}),
    "vggish_relu": ("vggish", 1, {"num_classes": 10, "relu_embedding": True}),
}


def shapes_of(name, n=None, **options):
    params = counts.variable_shapes(zoo.build(name, n, **options))["params"]
    return {path: leaf.shape for path, leaf in parity.flatten(jax.tree.map(lambda s: np.zeros(s.shape), params))}


def count(name, n=None, **options):
    return counts.count(zoo.build(name, n, **options))


# ── counts and sizes ──


def test_counts():
    """Oracle: ARCHITECTURES 1.3 and 7.4, all variants, with the legacy flag and without."""
    assert count("sb_cnn") == 241_434
    assert count("sb_cnn/15") == 241_759
    assert count("sb_cnn/input_norm") == 241_434 + 2
    assert count("sb_cnn/log_learn") == 241_434 + 2 + 2
    assert count("few_shot_vgg") == 42_764
    assert count("few_shot_vgg/15") == 45_329
    assert count("few_shot_timbre") == 7_572
    assert count("few_shot_timbre/15") == 11_357
    assert count("prototypical", legacy_input_norm=True) == 613_642
    assert count("prototypical") == 613_388
    for name in CHAPTER_6[1:]:
        assert count(name, log_learn=True) == count(name) + 2
    assert count("vggish") == count("vggish", relu_embedding=True) == 72_141_184
    assert count("vggish/head10") == 72_141_184 + 1_290
    assert count("vggish/head15") == 72_141_184 + 1_935
    assert count("vggish/embedding10") == 72_141_184 + 1_290


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_table(entry):
    """Contract: the table's integers are those of the networks it builds."""
    for each in entry.counts:
        name = f"{entry.name}/{each.variant}" if each.variant else entry.name
        assert count(name, **each.legacy) == each.reproduced
        assert count(name) == (each.trainable or each.reproduced)


def test_flattened_sizes():
    """Oracle: ARCHITECTURES 12: SB-CNN 2,400; VGG 512 (2,048 at 128 filters); VGGish 12,288."""
    assert shapes_of("sb_cnn")["head/dense1_layer/kernel"] == (2400, 64)
    assert shapes_of("few_shot_vgg")["head/output/kernel"] == (512, 10)
    assert shapes_of("prototypical")["head/dense1_layer/kernel"] == (2048, 10)
    vggish = shapes_of("vggish/head10")
    assert vggish["back_end/dense1_layer/kernel"] == (12_288, 4096)
    assert vggish["back_end/dense3_layer/kernel"] == (4096, 128)
    assert vggish["head/output/kernel"] == (128, 10)


def test_width_scales_all_layers_but_the_output():
    """Oracle: widths by hand, half the published ones; and n = 1 builds."""
    half = shapes_of("sb_cnn", 12)
    assert [half[f"front_end/conv{i}_block/kernel"][-1] for i in (1, 2, 3)] == [12, 24, 24]
    assert half["head/output/kernel"] == (32, 10)
    assert shapes_of("vggish", 32)["back_end/dense3_layer/kernel"] == (2048, 64)
    assert shapes_of("few_shot_timbre", 3)["front_end/conv1_block/kernel"] == (7, 108, 1, 30)
    assert shapes_of("prototypical", 8, embedding_size=3)["head/dense1_layer/kernel"] == (128, 3)
    for name in NAMES:
        assert count(name, 1) > 0


def test_lengths():
    """Oracle: ARCHITECTURES 7.2: a flattened map ties a network to its patch, a global maximum does not."""
    for name in NAMES:
        model = zoo.build(name, 1)
        assert model.num_steps == (96 if name == "vggish" else 128)
        assert model.fixed == (name != "few_shot_timbre") == (not model.is_variable)
    with pytest.raises(ValueError, match="this network takes 128"):
        zoo.build("sb_cnn", 1).embed(jnp.zeros((1, 100, 128)))
    with pytest.raises(ValueError, match="needs at least 7 frames and got 6"):
        zoo.build("few_shot_timbre", 1).embed(jnp.zeros((1, 6, 128)))


# ── options and outputs ──


def test_log_learn_begins_at_the_published_gates():
    """Oracle: ARCHITECTURES 12: α = 1096.633158, β = 1.313262; the input is then the power spectrogram itself."""
    for name in CHAPTER_6:
        model = zoo.build(name, 1, log_learn=True)
        assert isinstance(model.representation.compression, Linear)
        assert not isinstance(zoo.build(name, 1).representation.compression, Linear)
    x = jnp.linspace(0, 3, 24).reshape(1, 4, 6)
    part = few_shot.Compression()
    variables = part.init(KEY, x)
    gates = variables["params"]["log_learn"]
    assert float(jnp.exp(gates["a"])) == pytest.approx(1096.633158, abs=1e-3)
    assert float(jax.nn.softplus(gates["b"])) == pytest.approx(1.313262, abs=1e-6)
    expected = np.log(1096.633158 * np.asarray(x, np.float64) + 1.313262)
    assert np.abs(np.asarray(part.apply(variables, x)) - expected).max() < 1e-5 * expected.max()
    assert part.apply(variables, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_outputs():
    """Oracle: ARCHITECTURES 7.2, 7.4, 7.5: logits or a bare embedding, of these sizes."""
    sizes = {}
    for name in (*NAMES, "vggish/head15", "vggish/embedding10"):
        model = zoo.build(name, 1)
        variables = counts.variable_shapes(model)
        found = jax.eval_shape(functools.partial(model.apply, method="embed"), variables, counts.input_spec(model))
        sizes[name] = {key: value.shape for key, value in found.items()}
    assert sizes["few_shot_timbre"] == {"embedding": (1, 10), "logits": (1, 10)}
    assert sizes["sb_cnn"]["logits"] == sizes["few_shot_vgg"]["logits"] == (1, 10)
    assert sizes["prototypical"] == {"embedding": (1, 10)}
    assert sizes["vggish"] == {"embedding": (1, 2)}
    assert sizes["vggish/head15"] == {"embedding": (1, 2), "logits": (1, 15)}
    assert sizes["vggish/embedding10"] == {"embedding": (1, 10)}
    with pytest.raises(ValueError, match="give one of the two"):
        zoo.build("vggish", 1, num_classes=5, embedding_size=5)


def test_several_filters_of_a_class_compete():
    """Oracle: by hand: the logit is the largest of the class' own values."""
    x = jnp.array([[1.0, 5.0, 3.0, 2.0, -4.0, -1.0]])
    embedding, logits = few_shot.ClassMaximum(3).apply({}, x)
    assert embedding is x
    assert logits.tolist() == [[5.0, 3.0, -1.0]]


@pytest.mark.parametrize("case", CASES)
def test_against_frozen_torch(case):
    """Oracle: torch, frozen by parity.py."""
    name, n, options = CASES[case]
    parity.assert_same(zoo.build(name, n, **options), *parity.load("few_shot", case))


def test_against_live_torch():
    """Oracle: torch, live."""
    for case, values in parity.live("few_shot").items():
        name, n, options = CASES[case]
        parity.assert_same(zoo.build(name, n, **options), *values)


def test_padding_is_invisible():
    """Identity: a padded row gives what the row alone gives, where the length is free, learnt logarithm included."""
    model = zoo.build("few_shot_timbre/log_learn", 1)
    x = jax.random.uniform(KEY, (1, 12, 128))
    variables = features.initialise(model, KEY)
    alone = model.apply(variables, x, method="embed")["logits"]
    padded = jnp.pad(x, ((0, 0), (0, 5), (0, 0)), constant_values=50.0)
    found = model.apply(variables, padded, steps=jnp.array([12]), method="embed")["logits"]
    assert np.abs(alone - found).max() <= 1e-6 * np.abs(alone).max()


def test_loss_falls():
    """Learning: the small VGG with a learnt logarithm on eight recordings; the gates move too."""
    source = dataset.open_source("rhythm_small")
    labels = sorted(set(source.labels))
    rows = range(0, len(source), 9)
    model = zoo.build("few_shot_vgg", 4, num_classes=len(labels), log_learn=True)
    clips = np.stack([audio.decode(source.encoded(i), sample_rate=44_100)[:130_100] for i in rows])
    targets = jnp.array([labels.index(source.labels[i]) for i in rows])
    x = model.representation(jnp.asarray(clips))[:, :128]
    variables = features.initialise(model, KEY)
    params, stats, values = variables["params"], variables["batch_stats"], []
    optimiser = optax.adam(1e-2)
    state = optimiser.init(params)

    def loss(params, stats, key):
        outputs, new = model.apply(
            {"params": params, "batch_stats": stats},
            x,
            train=True,
            method="embed",
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        entropy = optax.softmax_cross_entropy_with_integer_labels(outputs["logits"], targets)
        return entropy.mean(), new["batch_stats"]

    @jax.jit
    def update(params, stats, state, key):
        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params, stats, key)
        change, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, change), stats, state, value

    for key in jax.random.split(KEY, 14):
        params, stats, state, value = update(params, stats, state, key)
        values.append(float(value))
    assert np.mean(values[-3:]) < 0.8 * np.mean(values[:3])
    assert float(params["front_end"]["parts_0"]["log_learn"]["a"]) != 7.0

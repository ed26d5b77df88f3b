"""Kim et al.: the trunk, the strategies of sharing it, the self head."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity
import pytest

from mirjax.data import audio, dataset
from mirjax.models import counts, multi_source, zoo
from mirjax.models.multi_source import SOURCES

KEY = jax.random.key(0)
STRATEGIES = {
    "kim_ms_sr_fc": (563_632, 0, 719_760),
    "kim_ms_cr_6": (135_344, 428_288, 3_717_776),
    "kim_ms_cr_4": (24_176, 539_456, 4_495_952),
    "kim_ms_cr_2": (848, 562_784, 4_659_248),
    "kim_mss_cr": (0, 563_632, 4_665_184),
}


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def start(model, x):
    """First variables, compiled as one program."""
    return jax.jit(functools.partial(model.init, method="embed"))(KEY, x)


def run(model, variables, x, **options):
    """The network, compiled as one program."""
    return jax.jit(functools.partial(model.apply, method="embed", **options))(variables, x)


# ── counts and shapes ──


def test_counts_of_one_source():
    """Oracle: ARCHITECTURES section 1.4, layer by layer and as a whole."""
    assert counts.count(zoo.build("kim_ss_r")) == 576_482
    assert counts.count(zoo.build("kim_ss_r/self")) == 629_810
    params = counts.variable_shapes(zoo.build("kim_ss_r"))["params"]
    trunk = params["branches_tag"]
    convs = [sum(int(np.prod(block[name].shape)) for name in ("kernel", "bias")) for block in trunk["convs"].values()]
    assert convs == [816, 4_640, 18_496, 36_928, 73_856, 295_168, 65_792]
    scales = jax.tree.leaves([block["batch_norm"] for block in trunk["convs"].values()])
    assert sum(leaf.size for leaf in scales) == 1_632
    assert sum(leaf.size for leaf in jax.tree.leaves(trunk)) == 563_632
    assert sum(leaf.size for leaf in jax.tree.leaves([trunk["dense"], trunk["batch_norm"]])) == 65_792 + 512
    assert sum(leaf.size for leaf in jax.tree.leaves(params["outputs_tag"])) == 12_850
    head = counts.variable_shapes(zoo.build("kim_ss_r/self"))["params"]["self_head"]
    assert sum(leaf.size for leaf in jax.tree.leaves(head)) == 66_178


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("sources", [SOURCES, ("tag",), ("self", "bpm", "tag"), ("year", "artist", "lyrics")])
def test_size_by_number_of_sources(name, sources):
    """Oracle: ARCHITECTURES section 8.7, the formula of figure 15; section 1.4 for all eight sources."""
    shared, branch, eight = STRATEGIES[name]
    heads = sum(66_178 if source == "self" else 12_850 for source in sources)
    expected = shared + (branch * len(sources)) + heads
    assert counts.count(zoo.build(name, sources=sources)) == expected
    assert expected == eight or len(sources) < 8


def test_size_relative_to_one_source():
    """Oracle: ARCHITECTURES section 1.4: 1.2 and about 6.3 times the mean SS-R, 583,148; by truncation."""
    single = [counts.count(zoo.build("kim_ss_r", source=source)) for source in SOURCES]
    assert np.mean(single) == 583_148
    ratios = [counts.count(zoo.build(name)) / np.mean(single) for name in ("kim_ms_sr_fc", "kim_ms_cr_6")]
    assert [round(ratio, 3) for ratio in ratios] == [1.234, 6.375]


def test_maps_of_the_trunk():
    """Oracle: ARCHITECTURES table 8.2 for 216 frames of 128 bands."""
    found = {layer.name: layer.shape for layer in counts.layers_of(zoo.build("kim_ms_sr_fc"), 216)}
    assert [found[name] for name in multi_source.CONVS] == [
        (54, 64, 16),
        (27, 32, 32),
        (13, 16, 64),
        (6, 8, 64),
        (3, 4, 128),
        (3, 4, 256),
        (3, 4, 256),
    ]
    assert found["fc"] == (256,)


@pytest.mark.parametrize("name", STRATEGIES)
def test_size_of_the_representation(name):
    """Oracle: ARCHITECTURES table 8.2: 256 for MS-SR@FC, else 256 for each source; logits [B, 50] of all but self."""
    model = zoo.build(name)
    spec = counts.input_spec(model)
    output, _ = jax.eval_shape(lambda x: model.init_with_output(KEY, x, method="embed"), spec)
    size = 256 if name == "kim_ms_sr_fc" else 256 * 8
    assert output["embedding"].shape == (1, size)
    assert counts.num_features(model) == size
    assert {source: leaf.shape for source, leaf in output["logits"].items()} == {
        source: (1, 50) for source in SOURCES if source != "self"
    }


# ── layers ──


def check_parity(x, variables, outputs):
    """Embedding by `parity`, then the logits of the source and of the pair."""
    model = multi_source.kim_ms_cr_4(2, sources=("self", "tag"), num_classes=7)
    parity.assert_same(model, x, variables, {"embedding": outputs["embedding"]})
    found = model.apply(variables, x, method="embed")
    pair = model.apply(variables, found["embedding"], found["embedding"][::-1], method="self_logits")
    for got, wanted in ((found["logits"]["tag"], outputs["tag"]), (pair, outputs["pair"])):
        assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_torch_agrees_frozen():
    """Oracle: torch 2.13, outputs frozen by `torch_multi_source.py`."""
    check_parity(*parity.load("multi_source", "ms_cr_4"))


def test_torch_agrees_live():
    """Oracle: torch, run now."""
    check_parity(*parity.live("multi_source")["ms_cr_4"])


def test_the_self_head_tells_its_own_block_from_the_others():
    """Oracle: the embedding's layout: only the block of "self" moves its logits; the order of the pair matters."""
    model = multi_source.kim_ms_cr_6(1, sources=("tag", "self"))
    x = normal(2, 64, 128, 2)
    variables = start(model, x)
    first, second = normal(2, 3, 32)

    def compare(first, second):
        return np.asarray(model.apply(variables, first, second, method="self_logits"))

    logits = compare(first, second)
    assert logits.shape == (3, 2)
    np.testing.assert_array_equal(compare(first.at[:, :16].add(9), second), logits)
    assert np.abs(compare(first.at[:, 16:].add(9), second) - logits).max() > 1e-3
    assert np.abs(compare(second, first) - logits).max() > 1e-3


def test_one_source_has_plain_logits():
    """Oracle: the brief of SS-R: logits [B, 50]; "self" has none of a single clip."""
    x = normal(1, 64, 128, 2)
    for source, keys in (("bpm", {"embedding", "logits"}), ("self", {"embedding"})):
        model = multi_source.kim_ss_r(1, source=source, num_classes=3)
        output, variables = model.init_with_output(KEY, x, method="embed")
        assert set(output) == keys
        if source == "bpm":
            assert output["logits"].shape == (1, 3)
        else:
            pair = model.apply(variables, output["embedding"], output["embedding"], method="self_logits")
            assert pair.shape == (1, 2)


def test_stereo_audio():
    """Oracle: ARCHITECTURES section 8.1: audio [B, 2, N] in, features [B, T, 128, 2] between; mono is refused."""
    model = multi_source.kim_ms_sr_fc(1, sources=("tag",))
    clip = normal(2, 1, 20_000) / 10
    variables = model.init(KEY, jnp.repeat(clip, 2, axis=1))
    assert model.apply(variables, jnp.repeat(clip, 2, axis=1))["embedding"].shape == (2, 16)
    with pytest.raises(ValueError, match=r"\[B, 2, N\]"):
        model.apply(variables, clip[:, 0])


# ── widths, errors, learning ──


@pytest.mark.parametrize("name", ["kim_ss_r", *STRATEGIES])
def test_one_filter_and_twice_the_filters(name):
    """Oracle: n = 1 builds; twice the filters have nearly four times the parameters."""
    assert counts.count(zoo.build(name, 1)) > 0
    assert 3.5 < counts.count(zoo.build(name, 32)) / counts.count(zoo.build(name, 16)) < 4


def test_errors_name_what_is_wrong():
    """Oracle: DESIGN section 6.8: the name, the value, the remedy."""
    with pytest.raises(ValueError, match=r"'tags'.*choose of self, bpm"):
        multi_source.kim_ms_cr_2(1, sources=("tags",))
    with pytest.raises(ValueError, match="only once"):
        multi_source.kim_ms_cr_2(1, sources=("tag", "tag"))
    with pytest.raises(ValueError, match="at least one"):
        multi_source.kim_mss_cr(1, sources=())
    model = multi_source.kim_ms_sr_fc(1, sources=("tag",))
    variables = start(model, normal(1, 64, 128, 2))
    with pytest.raises(ValueError, match="'self'"):
        model.apply(variables, normal(1, 16), normal(1, 16), method="self_logits")
    with pytest.raises(ValueError, match="at least"):
        model.apply(variables, normal(1, 60, 128, 2), method="embed")


def test_loss_falls():
    """Oracle: cross-entropy of classes and of same or different track together (section 8.3), on embedded audio."""
    source = dataset.open_source("rhythm_small")
    chosen = range(0, len(source), 12)
    clips = jnp.stack([audio.decode(source.encoded(i), sample_rate=22_050)[:40_000] for i in chosen])
    _, labels = np.unique([source.labels[i] for i in chosen], return_inverse=True)
    model = multi_source.kim_ms_sr_fc(2, sources=("self", "tag"), num_classes=int(labels.max()) + 1)
    x = model.representation(jnp.stack([clips, clips], axis=1))
    x = (x - x.mean()) / x.std()
    crops = jnp.concatenate([x[:, :72], x[:, 72:144]])  # two of each track
    variables = start(model, crops)
    params, stats, optimiser = variables["params"], variables["batch_stats"], optax.adam(1e-2)
    state, losses, half = optimiser.init(params), [], len(chosen)
    targets, same = jnp.asarray(np.tile(labels, 2)), jnp.repeat(jnp.array([1, 0]), half)

    def loss(params, stats, key):
        rngs = {"dropout": key}
        output, new = model.apply(
            {"params": params, "batch_stats": stats},
            crops,
            train=True,
            method="embed",
            rngs=rngs,
            mutable=["batch_stats"],
        )
        first, second = output["embedding"][:half], output["embedding"][half:]
        pair, newer = model.apply(
            {"params": params, "batch_stats": new["batch_stats"]},
            jnp.concatenate([first, first]),
            jnp.concatenate([second, jnp.roll(second, 1, axis=0)]),
            train=True,
            method="self_logits",
            rngs=rngs,
            mutable=["batch_stats"],
        )
        entropy = optax.softmax_cross_entropy_with_integer_labels
        return entropy(output["logits"]["tag"], targets).mean() + entropy(pair, same).mean(), newer["batch_stats"]

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for key in jax.random.split(KEY, 15):
        (value, stats), gradients = step(params, stats, key)
        updates, state = optimiser.update(gradients, state)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    assert np.mean(losses[-3:]) < 0.8 * losses[0]

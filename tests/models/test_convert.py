"""Oracle: outputs computed by PyTorch and Keras themselves, frozen with their weights by `make_convert_fixtures.py`."""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from mirjax.models import blocks, choi, companions, convert, few_shot, recurrent, taggers, weights
from mirjax.models.convert import Layer
from mirjax.signal.representations import LogMel

FROZEN = Path(__file__).parent / "frozen"


def load(name):
    """(source's arrays, output)."""
    with np.load(FROZEN / f"convert_{name}.npz") as stored:
        arrays = dict(stored)
    return {key[2:]: value for key, value in arrays.items() if key.startswith("s:")}, arrays["y"]


def load_keras(name):
    """({layer: [arrays]}, output)."""
    source, y = load(name)
    layers = {}
    for key, value in source.items():  # in the order of their numbers
        layers.setdefault(key.rpartition(":")[0], []).append(value)
    return layers, y


def draw(*shape):
    return np.random.RandomState(1).standard_normal(shape).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def _embed(model, variables, x):
    return model.apply(variables, x, method="embed")


def error(model, variables, x, y, output="logits"):
    got = np.asarray(_embed(model, variables, x)[output])
    assert got.shape == y.shape
    return np.abs(got - y).max() / np.abs(y).max()


def network(front_end, head=None, **options):
    return taggers.Network(LogMel(n_mels=options.pop("bands", 12)), front_end, head=head, **options)


# ── PyTorch ──

TORCH_STACK = (
    blocks.Conv(3, (3, 5), norm=blocks.Norm(1e-5), norm_first=True, pool=(4, 4)),
    blocks.Conv(4, (3, 2), padding="valid"),
)
TORCH_PLAN = (
    Layer("batch_norm", "norm0", "front_end/input_norm"),
    Layer("conv", "conv1", "front_end/conv1_block", axes="ft"),
    Layer("batch_norm", "norm1", "front_end/conv1_block/batch_norm"),
    Layer("conv", "conv2", "front_end/conv2_block", axes="ft"),
    Layer("dense", "dense1", "head/dense1_layer", inputs=("cft", (4, 2, 3), "tfc")),
    Layer("batch_norm", "norm2", "head/dense1_norm"),
    Layer("dense", "output", "head/output"),
)


def torch_network():
    from mirjax.models import backends

    head = blocks.Head(2, (5,), norm=blocks.Norm(1e-5))
    stack = blocks.Stack(TORCH_STACK, input_norm=blocks.Norm(1e-5))
    return network(stack, head, back_end=backends.Flatten(), num_steps=20, fixed=True)


def test_torch_frequency_first():
    """Oracle: PyTorch: 2-D convolutions with frequency first, batch norms, dense layers on a flattened map."""
    state, y = load("torch")
    variables = convert.from_torch(state, TORCH_PLAN, model=torch_network())
    assert error(torch_network(), variables, draw(2, 20, 12), y) < 1e-5


def test_the_flags_matter():
    """Hand-worked: without the order of the flattened axes the same shapes give other numbers."""
    state, y = load("torch")
    wrong = tuple(dataclasses.replace(layer, inputs=None) for layer in TORCH_PLAN)
    variables = convert.from_torch(state, wrong, model=torch_network())
    assert error(torch_network(), variables, draw(2, 20, 12), y) > 0.05


def sequence_network(*parts):
    conv = blocks.Stack((blocks.Conv(5, (3,), padding="valid"),), names=("last",))
    return network(blocks.Chain((*parts, conv)), blocks.Head(0), bands=6)


def test_torch_sequences():
    """Oracle: PyTorch: two layers of bidirectional LSTM, a GRU, a 1-D convolution."""
    state, y = load("torch_sequences")
    for two_biases in (True, False):
        lstm = recurrent.Recurrent("lstm", (4, 4), bidirectional=True, two_biases=two_biases)
        gru = recurrent.Recurrent("gru", (3,), two_biases=True, reset_after=True, names=("gru",))
        model = sequence_network(lstm, gru)
        plan = (
            *(
                Layer("lstm", f"lstm_l{i}", f"front_end/parts_0/recurrent{i + 1}", directions=2, two_biases=two_biases)
                for i in (0, 1)
            ),
            Layer("gru", "gru", "front_end/parts_1/gru", two_biases=True),
            Layer("conv", "conv", "front_end/parts_2/last_block", axes="t"),
        )
        variables = convert.from_torch(state, plan, model=model)
        assert error(model, variables, draw(2, 9, 6), y, "embedding") < 1e-5
    with pytest.raises(ValueError, match="gru: a GRU that resets after its product needs both biases"):
        convert.from_torch(state, (plan[0], plan[1], Layer("gru", "gru", "gru")))


@pytest.mark.parametrize("name", ["torch", "torch_sequences"])
def test_torch_live(name, tmp_path, monkeypatch):
    """Oracle: the frozen arrays are what torch gives today."""
    pytest.importorskip("torch")
    import importlib.util

    spec = importlib.util.spec_from_file_location("make_fixtures", Path(__file__).parent / "make_convert_fixtures.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    kept = {}
    monkeypatch.setattr(maker, "write", lambda name, source, y: kept.update({name: (source, np.asarray(y))}))
    maker.torch_fixtures()
    source, y = load(name)
    assert all(np.array_equal(value, kept[name][0][key]) for key, value in source.items())
    np.testing.assert_allclose(kept[name][1], y, atol=1e-5)


# ── Keras ──


def test_keras():
    """Oracle: Keras: convolution, batch norm, dense layer on a flattened map, channels last."""
    from mirjax.models import backends

    layers, y = load_keras("keras")
    spec = blocks.Conv(3, (3, 5), activation="elu", norm=blocks.Norm(), norm_first=True, pool=(4, 4))
    stack = blocks.Stack((spec,), input_norm=blocks.Norm())
    model = network(stack, blocks.Head(2), back_end=backends.Flatten(), num_steps=20, fixed=True)
    plan = (
        Layer("batch_norm", "norm0", "front_end/input_norm"),
        Layer("conv", "conv1", "front_end/conv1_block"),
        Layer("batch_norm", "norm1", "front_end/conv1_block/batch_norm"),
        Layer("dense", "output", "head/output"),
    )
    variables = convert.from_keras(layers, plan, model=model)
    assert error(model, variables, draw(2, 20, 12), y) < 1e-5
    deviations = {
        name: [*arrays[:3], np.sqrt(arrays[3])] if "norm" in name else arrays for name, arrays in layers.items()
    }
    again = convert.from_keras(deviations, plan, version=1, deviation=True, model=model)
    assert error(model, again, draw(2, 20, 12), y) < 1e-5


def test_keras_sequences():
    """Oracle: Keras: bidirectional LSTM, GRUs that reset after and before the product, 1-D convolution."""
    layers, y = load_keras("keras_sequences")
    model = sequence_network(
        recurrent.Recurrent("lstm", (4,), bidirectional=True, names=("lstm",)),
        recurrent.Recurrent("gru", (3,), reset_after=True, two_biases=True, names=("after",)),
        recurrent.Recurrent("gru", (3,), names=("before",)),
    )
    plan = (
        Layer("lstm", "lstm", "front_end/parts_0/lstm", directions=2),
        Layer("gru", "gru_after", "front_end/parts_1/after", two_biases=True),
        Layer("gru", "gru_before", "front_end/parts_2/before"),
        Layer("conv", "conv", "front_end/parts_3/last_block", axes="t"),
    )
    variables = convert.from_keras(layers, plan, model=model)
    assert error(model, variables, draw(2, 9, 6), y, "embedding") < 1e-5


def test_keras_1_lstm_gates():
    """Hand-worked: i, c, f, o as four triples of W, U, b; here i, f, g, o side by side."""
    gates = {gate: [np.full((2, 3), i), np.full((3, 3), i), np.full(3, i)] for i, gate in enumerate("icfo")}
    arrays = [array for gate in "icfo" for array in gates[gate]]
    found = convert.from_keras({"a": arrays}, (Layer("lstm", "a", "a"),), version=1)["params"]["a_forward"]
    for name in ("kernel", "recurrent_kernel", "bias"):
        np.testing.assert_array_equal(np.atleast_2d(found[name])[0], np.repeat([0, 2, 1, 3], 3))


# ── released networks, at small widths ──

RELEASED = {
    "music_tagger_cnn": (
        lambda: choi.music_tagger_cnn(2, num_classes=5, legacy_input_norm=True),
        convert.music_tagger_cnn_plan,
        (1, 1366, 96),
    ),
    "music_tagger_crnn": (
        lambda: choi.music_tagger_crnn(4, num_classes=5, legacy_input_norm=True),
        convert.music_tagger_crnn_plan,
        (1, 1366, 96),
    ),
    "compact_cnn": (lambda: choi.compact_cnn(3, num_classes=5), convert.compact_cnn_plan, (1, 1366, 96)),
    "musicnn": (lambda: companions.musicnn(2, num_classes=5), convert.musicnn_plan, (2, 40, 96)),
    "musicnn_vgg": (lambda: companions.vgg_128(3, num_classes=5), convert.musicnn_vgg_plan, (2, 187, 96)),
    "vggish": (lambda: few_shot.vggish(1), convert.vggish_plan, (1, 96, 64)),
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_networks(name):
    """Oracle: the network written in Keras, its weights laid out as the released file has them."""
    make, plan, shape = RELEASED[name]
    if name.startswith("music_") or name == "compact_cnn":
        layers, y = load_keras(name)
        variables = convert.from_keras(layers, plan(), version=1, ordering="th", flipped=True, model=make())
    else:
        source, y = load(name)
        source |= {"global_step": np.zeros(()), "beta1_power": np.zeros(())}
        variables = convert.from_tf(source, plan(), model=make())
    output = "embedding" if name == "vggish" else "logits"
    assert error(make(), variables, draw(*shape), y, output) < 1e-5


def test_kernels_of_theano_are_turned():
    """Oracle: Keras' own output, which the same kernels give only when they are turned and read frequency first."""
    layers, y = load_keras("compact_cnn")
    x, model = draw(1, 1366, 96), choi.compact_cnn(3, num_classes=5)
    assert error(model, convert.from_keras(layers, convert.compact_cnn_plan(), version=1, ordering="th"), x, y) > 1e-3
    plan = tuple(dataclasses.replace(layer, axes="tf") for layer in convert.compact_cnn_plan())
    assert error(model, convert.from_keras(layers, plan, version=1, ordering="th", flipped=True), x, y) > 1e-3


@pytest.mark.parametrize("name", RELEASED)
def test_plans_fit_the_published_widths(name):
    """Oracle: the variables that the networks have at their published widths: each path in the plan, none besides."""
    from mirjax.models import counts

    model = {
        "music_tagger_cnn": lambda: choi.music_tagger_cnn(32, legacy_input_norm=True),
        "music_tagger_crnn": lambda: choi.music_tagger_crnn(64, legacy_input_norm=True),
        "compact_cnn": lambda: choi.compact_cnn(32),
        "musicnn": lambda: companions.musicnn(64),
        "musicnn_vgg": lambda: companions.vgg_128(128),
        "vggish": lambda: few_shot.vggish(64),
    }[name]()
    modules = {path.rpartition("/")[0].partition("/")[2] for path in weights.flatten(counts.variable_shapes(model))}
    planned = {f"{each.ours}_forward" if each.kind == "gru" else each.ours for each in RELEASED[name][1]()}
    assert modules == planned


# ── errors ──


def test_errors_name_the_layer():
    """Hand-worked: missing, left over, of another shape, of another kind."""
    state, _ = load("torch")
    with pytest.raises(ValueError, match=r"the state_dict holds no conv9\.weight; not used yet: conv1\.bias"):
        convert.from_torch(state, (Layer("conv", "conv9", "a"),))
    with pytest.raises(ValueError, match=r"holds more than the plan asks for: conv2\.bias, conv2\.weight"):
        convert.from_torch(state, (*TORCH_PLAN[:3], *TORCH_PLAN[4:]))
    with pytest.raises(ValueError, match=r"conv1: shape \(3, 1, 5, 3\) for a dense; it must have 2 axes"):
        convert.from_torch(state, (Layer("dense", "conv1", "a"),))
    with pytest.raises(ValueError, match=r"dense1 has 24 inputs, which do not split into \(5, 2, 3\)"):
        convert.from_torch(state, (Layer("dense", "dense1", "a", inputs=("cft", (5, 2, 3), "tfc")),))
    with pytest.raises(ValueError, match="the plan fills params/a/kernel twice"):
        convert.from_torch(state, (Layer("conv", "conv1", "a"), Layer("conv", "conv2", "a")))
    with pytest.raises(ValueError, match=r"the state_dict, converted, do not fit this network.*of another shape"):
        convert.from_torch(
            state,
            (*TORCH_PLAN[:1], dataclasses.replace(TORCH_PLAN[1], axes="tf"), *TORCH_PLAN[2:]),
            model=torch_network(),
        )
    with pytest.raises(ValueError, match="kind='pool' of a is not one of conv"):
        Layer("pool", "a", "a")
    with pytest.raises(ValueError, match="axes='f' of a is not one of"):
        Layer("conv", "a", "a", axes="f")


def test_keras_errors():
    """Hand-worked: another number of arrays, an ordering that this version does not have."""
    with pytest.raises(ValueError, match="a has 3 arrays; a batch_norm of this version has 4"):
        convert.from_keras({"a": [np.zeros(2)] * 3}, (Layer("batch_norm", "a", "a"),))
    with pytest.raises(ValueError, match="a has 3 arrays; a gru of this version has 9"):
        convert.from_keras({"a": [np.zeros(2)] * 3}, (Layer("gru", "a", "a"),), version=1)
    with pytest.raises(ValueError, match="version=2, ordering='th'"):
        convert.from_keras({}, (), ordering="th")
    with pytest.raises(ValueError, match="no converter reads them"):
        convert.from_tf({}, (Layer("lstm", "a", "a"),))

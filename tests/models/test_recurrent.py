"""Recurrent layers against torch, against loops written out by hand, and against themselves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import parity
import pytest

from mirjax.models import blocks, geometry, layers, taggers
from mirjax.models.recurrent import Recurrent
from mirjax.signal.presets import preset

TORCH = {"two_biases": True, "forget_bias": 0.0}
CASES = {
    "lstm": Recurrent("lstm", (5, 3), bidirectional=True, **TORCH),
    "gru": Recurrent("gru", (5, 3), bidirectional=True, reset_after=True, **TORCH),
    "rnn": Recurrent("rnn", (5, 3), **TORCH),
    "last": Recurrent("gru", (4,), bidirectional=True, many_to_many=False, reset_after=True, **TORCH),
}
VARIANTS = {
    "rnn": Recurrent("rnn", (4, 3), bidirectional=True),
    "lstm": Recurrent("lstm", (3,), two_biases=True, many_to_many=False),
    "lstm peepholes": Recurrent("lstm", (3,), peepholes=True, bidirectional=True),
    "gru": Recurrent("gru", (3,), bidirectional=True, many_to_many=False),
    "gru after": Recurrent("gru", (3,), reset_after=True, two_biases=True),
}
variants = pytest.mark.parametrize("layer", VARIANTS.values(), ids=VARIANTS)


def random_variables(layer, x, seed=0):
    """Variables of which none is zero."""
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    rng = np.random.default_rng(seed)
    return {"params": jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.6, leaf.shape), leaf.dtype), shapes)}


@pytest.fixture(scope="module")
def x():
    """A log-mel-like sequence."""
    return jnp.asarray(np.random.default_rng(1).normal(size=(3, 11, 6)), jnp.float32)


def _network(layer):
    return taggers.Network(preset("leglaive").representation, layer, head=blocks.Head(2))


@pytest.mark.parametrize("case", CASES)
def test_frozen(case):
    """Oracle: torch.nn.LSTM, GRU and RNN, frozen by `parity.py`."""
    parity.assert_same(_network(CASES[case]), *parity.load("recurrent", case))


def test_live():
    """Oracle: torch.nn.LSTM, GRU and RNN, run now."""
    made = parity.live("recurrent")
    for case, layer in CASES.items():
        parity.assert_same(_network(layer), *made[case])


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _lstm_with_peepholes(weights, x):
    """One row, one direction, one number at a time: f64[T, C] → f64[T, n]."""
    kernel, recurrent, bias = weights["kernel"], weights["recurrent_kernel"], weights["bias"]
    n = len(recurrent)
    h, c, outputs = np.zeros(n), np.zeros(n), []
    for frame in x:
        old_h, old_c, h, c = h, c, np.zeros(n), np.zeros(n)
        for j in range(n):
            i, f, g, o = (
                frame @ kernel[:, gate * n + j] + old_h @ recurrent[:, gate * n + j] + bias[gate * n + j]
                for gate in range(4)
            )
            i = _sigmoid(i + weights["peepholes"][0, j] * old_c[j])
            f = _sigmoid(f + weights["peepholes"][1, j] * old_c[j])
            c[j] = f * old_c[j] + i * np.tanh(g)
            h[j] = _sigmoid(o + weights["peepholes"][2, j] * c[j]) * np.tanh(c[j])
        outputs.append(h)
    return np.stack(outputs)


def _hard_sigmoid(x):
    return np.minimum(np.maximum(0.2 * x + 0.5, 0), 1)


def _gru_reset_before(weights, x, gate=_sigmoid):
    """Cho et al. 2014, eqs. 5 to 8 (Keras 1): f64[T, C] → f64[T, n]."""
    w_z, w_r, w_h = np.split(weights["kernel"], 3, axis=1)
    u_z, u_r, u_h = np.split(weights["recurrent_kernel"], 3, axis=1)
    b_z, b_r, b_h = np.split(weights["bias"], 3)
    h, outputs = np.zeros(len(u_z)), []
    for frame in x:
        z = gate(frame @ w_z + h @ u_z + b_z)
        r = gate(frame @ w_r + h @ u_r + b_r)
        h = z * h + (1 - z) * np.tanh(frame @ w_h + (r * h) @ u_h + b_h)
        outputs.append(h)
    return np.stack(outputs)


@pytest.mark.parametrize(
    ("cell", "loop", "options"),
    [
        ("lstm", _lstm_with_peepholes, {"peepholes": True}),
        ("gru", _gru_reset_before, {}),
        ("gru", functools.partial(_gru_reset_before, gate=_hard_sigmoid), {"gate_activation": "hard_sigmoid"}),
    ],
    ids=["peepholes", "reset before", "hard gates"],
)
def test_written_out(cell, loop, options, x):
    """Oracle: the recursion of one row in plain numpy loops, float64, in both directions."""
    layer = Recurrent(cell, (4,), bidirectional=True, **options)
    variables = random_variables(layer, x)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    found = layer.apply(variables, x)
    last = layer.clone(many_to_many=False).apply(variables, x)
    for row in range(len(x)):
        frames = np.asarray(x[row], np.float64)
        forward = loop(weights["recurrent1_forward"], frames)
        backward = loop(weights["recurrent1_backward"], frames[::-1])[::-1]
        wanted = np.concatenate([forward, backward], axis=1)
        assert np.abs(found[row] - wanted).max() < 1e-6
        assert np.abs(last[row] - np.concatenate([forward[-1], backward[0]])).max() < 1e-6


@variants
def test_padding_is_invisible(layer, x):
    """Oracle: a row alone, at its own length; also its gradient, whatever the padding holds."""

    @jax.jit
    def run(params, x, steps=None):
        def total(params):
            found, state = layer.apply({"params": params}, x, steps=steps, mutable=["features"])
            return (found[-1] ** 2).sum(), (found[-1], {name: each[-1] for name, each in state["features"].items()})

        return jax.value_and_grad(total, has_aux=True)(params)

    params = random_variables(layer, x)["params"]
    padded = x[:2].at[1, 6:].set(jnp.nan)
    (_, (found, features)), gradient = run(params, padded, jnp.asarray([11, 6]))
    (_, (wanted, own)), alone = run(params, x[1:2, :6])
    if layer.many_to_many:
        assert not found[6:].any()
        found = found[:6]
    assert np.abs(found - wanted).max() < 1e-6
    assert set(features) == set(layer.feature_layers)
    for name in features:
        assert np.abs(features[name] - own[name]).max() < 1e-6
    for ours, reference in zip(jax.tree.leaves(gradient), jax.tree.leaves(alone), strict=True):
        assert np.abs(ours - reference).max() < 1e-5 * max(1, np.abs(reference).max())


def test_a_row_of_one_step(x):
    """Oracle: that step alone: both directions start and end there."""
    layer = Recurrent("rnn", (4,), bidirectional=True, many_to_many=False)
    variables = random_variables(layer, x)
    found = layer.apply(variables, x, steps=jnp.asarray([1, 1, 1]))
    assert np.abs(found - layer.apply(variables, x[:, :1])).max() < 1e-6


@variants
def test_shapes_and_types(layer, x):
    """Oracle: the widths asked for; bfloat16 in, bfloat16 out; float64 under x64."""
    width = 3 * (2 if layer.bidirectional else 1)
    shape = (3, 11, width) if layer.many_to_many else (3, width)
    assert geometry.num_steps(layer.windows, 11) == (11 if layer.many_to_many else 1)
    init = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    assert (init[0].shape, init[0].dtype) == (shape, jnp.float32)
    half = jax.eval_shape(layer.apply, init[1], x.astype(jnp.bfloat16))
    assert (half.shape, half.dtype) == (shape, jnp.bfloat16)
    with jax.enable_x64(True):
        double = jax.eval_shape(layer.init_with_output, jax.random.key(0), np.asarray(x, np.float64))
        assert {leaf.dtype for leaf in jax.tree.leaves(double)} == {np.dtype(np.float64)}


def test_bfloat16_and_maps(x):
    """Oracle: float32 within bfloat16's digits; a map with bands is the sequence of its columns."""
    layer = Recurrent("lstm", (4,), peepholes=True)
    variables = random_variables(layer, x)
    found = layer.apply(variables, x)
    half = layer.apply(variables, x.astype(jnp.bfloat16)).astype(jnp.float32)
    assert np.abs(half - found).max() < 0.05
    assert (layer.apply(variables, x.reshape(3, 11, 2, 3)) == found).all()


def test_multiply_adds(x):
    """Oracle: T · (inputs + units) · gates · units of each direction, added by hand."""
    layer = Recurrent("gru", (4, 3), bidirectional=True)
    with layers.count_multiply_adds() as counted:
        jax.eval_shape(layer.init, jax.random.key(0), x)
    assert sum(counted) == 2 * 11 * 3 * ((6 + 4) * 4 + (8 + 3) * 3)


def test_initial_weights(x):
    """Oracle: what the initialisers promise: orthogonal gates, a forget gate that is open (Keras) or not (torch)."""
    weights = Recurrent("lstm", (5,)).init(jax.random.key(0), x)["params"]["recurrent1_forward"]
    for gate in np.split(np.asarray(weights["recurrent_kernel"]), 4, axis=1):
        assert np.abs(gate @ gate.T - np.eye(5)).max() < 1e-5
    assert weights["bias"].tolist() == [0] * 5 + [1] * 5 + [0] * 10
    kernel = np.asarray(weights["kernel"])
    assert 0.8 * np.sqrt(6 / 11) < np.abs(kernel).max() <= np.sqrt(6 / 11)  # Glorot's bound of one gate
    closed = Recurrent("lstm", (5,), forget_bias=0.0).init(jax.random.key(0), x)["params"]["recurrent1_forward"]
    assert not closed["bias"].any()


def test_dropout_between_layers(x):
    """Oracle: dropout leaves one layer alone, and changes two in training only."""
    key = {"dropout": jax.random.key(3)}
    for units, differs in (((3,), False), ((3, 2), True)):
        layer = Recurrent("rnn", units, dropout=0.5)
        variables = random_variables(layer, x)
        trained = layer.apply(variables, x, train=True, rngs=key)
        assert (np.abs(trained - layer.apply(variables, x)).max() > 1e-3) == differs


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Recurrent("mgu", (4,)), "'mgu' is not one of rnn, lstm, gru"),
        (Recurrent("rnn", (4,), peepholes=True), "peepholes=True needs cell='lstm'"),
        (Recurrent("lstm", (4,), reset_after=True), "reset_after=True needs cell='gru'"),
        (Recurrent("lstm", (4, 0)), "at least one unit"),
        (Recurrent("lstm", ()), "at least one layer"),
        (Recurrent("lstm", (4,), names=("a", "b")), "each of the 1 layers"),
        (Recurrent("lstm", (4,), kernel_init="magic"), "initialiser 'magic'"),
    ],
)
def test_errors(layer, message, x):
    """Oracle: the words of each message."""
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(layer.init, jax.random.key(0), x)


def test_wrong_input():
    """Oracle: the words of each message."""
    layer = Recurrent("lstm", (4,))
    with pytest.raises(ValueError, match=r"\[B, T, C\]"):
        jax.eval_shape(layer.init, jax.random.key(0), jnp.ones((2, 5)))
    with pytest.raises(ValueError, match="at least 1 steps"):
        jax.eval_shape(layer.init, jax.random.key(0), jnp.ones((2, 0, 5)))

"""Sequence networks: counts, inputs, the onset CNN's context, torch, and whether they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity
import pytest

from mirjax.models import counts, geometry, trackers, zoo
from mirjax.models.entries.trackers import ENTRIES

# n, inputs, parameters: ARCHITECTURES §1.5, 9.3, 9.4.
PUBLISHED = {
    "tutorial_onset_rnn": (314, 24_651),
    "onset_rnn": (266, 22_251),
    "onset_rnn_online": (236, 9_126),
    "onset_cnn": (240, 289_693),
    "beat_blstm": (266, 89_301),
    "beat_blstm/2013": (138, 63_701),
    "beat_lstm_online": (162, 29_251),
    "downbeat_blstm": (314, 99_003),
    "onset_postprocess": (1, 161),
    "leglaive": (80, 65_601),
}
NETWORKS = {"onset_rnn": 4, "leglaive": 6, "onset_cnn": 2}  # n of the torch cases


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    """Oracle: ARCHITECTURES section 1.5 (integers) and 9.4 (inputs)."""
    inputs, parameters = PUBLISHED[name]
    model = zoo.build(name)
    assert model.representation.num_bins == inputs
    assert counts.count(model) == parameters
    entry, variant = zoo.variant(name)
    assert (variant or entry.counts[0]).reproduced == parameters
    assert model.representation.sample_rate == entry.sample_rate
    assert model.representation.frame_rate == pytest.approx(62.5 if name == "leglaive" else 100)


def test_onset_cnn_constants():
    """Oracle: ARCHITECTURES section 1.5: 480 constants of the input normalisation are not counted."""
    assert counts.count(trackers.onset_cnn(10), "total") == 289_693 + 480


def test_every_entry_is_tested():
    """Oracle: the table's own names."""
    assert {entry.name for entry in ENTRIES} == {name.split("/")[0] for name in PUBLISHED}


def test_peepholes_and_cells():
    """Oracle: 450 peepholes (ARCHITECTURES 1.5); three LSTM gates more than a tanh layer, counted by hand."""
    with_peepholes = counts.count(trackers.beat_blstm(25))
    assert with_peepholes - counts.count(trackers.beat_blstm(25, peepholes=False)) == 450
    assert counts.count(trackers.tutorial_onset_rnn(25, cell="lstm")) == 4 * (24_651 - 51) + 51


def test_widths():
    """Oracle: the papers' proportions at another n, counted by hand."""
    model = trackers.leglaive(3)
    assert model.front_end.units == (3, 2, 4)
    assert trackers.leglaive(1).front_end.units == (1, 1, 1)
    assert [part.specs[0].filters for part in trackers.onset_cnn(5).front_end.parts[1::2]] == [5, 128]
    assert counts.count(trackers.downbeat_blstm(1, num_classes=2)) == (314 + 2 * 2) * 8 + 3 * (2 * 7 + 2 * 4) + 3 * 2


def _initialised(model, x):
    drawn = jax.jit(lambda key: model.init(key, x, method="embed"))(jax.random.key(0))
    return {kind: drawn[kind] for kind in ("params", "batch_stats") if kind in drawn}


def test_onset_cnn_sizes():
    """Oracle: ARCHITECTURES section 9.4: 15×80×3 → 9×26×10 → 7×8×20 = 1,120 → 256 → 1."""
    model = trackers.onset_cnn(10, padded=False)
    shapes = counts.variable_shapes(model)["params"]["front_end"]
    assert shapes["parts_1"]["conv1_block"]["kernel"].shape == (7, 3, 3, 10)
    assert np.prod(shapes["parts_3"]["dense1_block"]["kernel"].shape) == 1120 * 256
    assert geometry.receptive_field(model.windows) == 15
    assert geometry.num_steps(model.windows, 40) == 26
    assert geometry.num_steps(trackers.onset_cnn(10).windows, 40) == 40
    with pytest.raises(ValueError, match="at least 15 frames and got 14"):
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x, method="embed"), jnp.ones((1, 14, 240)))


def test_onset_cnn_decides_on_windows():
    """Oracle: the network run on each window of 15 frames by itself, the ends repeated by hand (numpy)."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 9, 240)), jnp.float32)
    model = trackers.onset_cnn(1)
    variables = _initialised(model, x)
    found = model.apply(variables, x, method="embed")["logits"][0]
    repeated = np.pad(np.asarray(x[0]), ((7, 7), (0, 0)), mode="edge")
    windows = jnp.asarray(np.stack([repeated[t : t + 15] for t in range(9)]))
    each = trackers.onset_cnn(1, padded=False).apply(variables, windows, method="embed")["logits"][:, 0]
    assert np.abs(found - each).max() < 1e-5 * np.abs(each).max()


def test_side_by_side():
    """Oracle: numpy on a padded batch: channels, statistics of the real frames, the last real frame repeated."""
    x = np.random.default_rng(0).normal(2, 3, size=(2, 5, 6))
    part = trackers.SideBySide(3, context=2)
    x32, steps = jnp.asarray(x, jnp.float32), jnp.asarray([5, 3])
    variables = part.init(jax.random.key(0), x32)
    plain = part.apply(variables, x32, steps=steps)
    row = np.concatenate([x[1, :1], x[1, :1], x[1, :3], x[1, 2:3], x[1, 2:3]])
    wanted = np.stack([row[:, 0:2], row[:, 2:4], row[:, 4:6]], axis=-1) / np.sqrt(1 + 1e-5)
    assert np.abs(plain[1, :7] - wanted).max() < 1e-5
    _, state = part.apply(variables, x32, train=True, steps=steps, mutable=["batch_stats"])
    real = np.concatenate([x[0], x[1, :3]])
    averages = state["batch_stats"]["normalise"]
    assert np.abs(averages["mean"] - 0.01 * real.mean(axis=0)).max() < 1e-6
    assert np.abs(averages["var"] - (0.99 + 0.01 * real.var(axis=0))).max() < 1e-5
    with pytest.raises(ValueError, match="7 bands cannot be shared by 3"):
        trackers.SideBySide(3).init(jax.random.key(0), jnp.ones((1, 2, 7)))


@pytest.mark.parametrize("name", NETWORKS)
def test_frozen(name):
    """Oracle: torch, frozen by `parity.py`."""
    parity.assert_same(zoo.build(name, NETWORKS[name]), *parity.load("recurrent", name))


def test_live():
    """Oracle: torch, run now."""
    made = parity.live("recurrent")
    for name, n in NETWORKS.items():
        parity.assert_same(zoo.build(name, n), *made[name])


@pytest.mark.parametrize("name", ["onset_rnn_online", "beat_lstm_online"])
def test_online_networks_hear_the_past_only(name):
    """Oracle: causality: what comes after a frame changes nothing before it."""
    model = zoo.build(name, 2)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, model.representation.num_bins)), jnp.float32)
    variables = _initialised(model, x)
    before = model.apply(variables, x, method="embed")["logits"]
    after = model.apply(variables, x.at[:, 5:].set(9.0), method="embed")["logits"]
    assert (before[:, :5] == after[:, :5]).all()
    assert (before[:, 5:] != after[:, 5:]).all()


def test_postprocess_from_audio(embedded_clip):
    """Oracle: the issue: a network that cannot be screened says why; its audio input stands in for an activation."""
    entry = zoo.lookup("onset_postprocess")
    assert "activation" in entry.not_screened
    assert all(not other.not_screened for other in ENTRIES if other.name != entry.name)
    model = zoo.build("onset_postprocess", 2)
    flux = model.representation(jnp.asarray(embedded_clip[0])[None])
    assert flux.shape[-1] == 1
    logits = model.apply(_initialised(model, flux), flux, method="embed")["logits"]
    assert logits.shape == flux.shape


def test_loss_falls():
    """Oracle: the loss at the start, on three recordings; targets are the frames where their spectra rise most."""
    from mirjax.data import audio, dataset

    source = dataset.open_source("rhythm_small")
    clips = [audio.decode(source.encoded(i), sample_rate=44_100)[:44_100] for i in (0, 20, 40)]
    model = trackers.onset_rnn(3)
    x = model.representation(jnp.asarray(np.stack(clips)))
    loudness = np.asarray(x).sum(axis=-1)
    rises = np.diff(loudness, axis=1, append=0)
    targets = jnp.asarray(rises > np.quantile(rises, 0.9), x.dtype)[..., None]
    params = _initialised(model, x)["params"]
    optimiser = optax.adam(0.02)

    @jax.jit
    def step(params, state):
        def loss(params):
            logits = model.apply({"params": params}, x, train=True, method="embed")["logits"]
            return optax.sigmoid_binary_cross_entropy(logits, targets).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimiser.init(params), []
    for _ in range(20):
        params, state, value = step(params, state)
        losses.append(float(value))
    assert losses[-1] < 0.7 * losses[0]

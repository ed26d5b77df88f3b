"""Harmonic filters with a residual CNN, and the patch transformer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import parity
import pytest

from mirjax.data import audio, dataset
from mirjax.models import backends, counts, geometry, modern, taggers
from mirjax.models.blocks import Chain, Conv, Head, Norm, Stack
from mirjax.models.entries.modern import ENTRIES
from mirjax.signal.representations import LogMel, Spectrogram

KEY = jax.random.key(0)
_FILTERS = modern.HarmonicFilters(num_harmonics=3, num_bands=16, bands_per_semitone=1, fmin=500.0)

# Torch's side of them is in `torch_modern`.
NETWORKS = {
    "harmonic_cnn": taggers.Network(
        Spectrogram(sample_rate=16_000, n_fft=128, hop_length=64, power=2.0),
        Chain(
            (_FILTERS, modern.ResidualCNN((4, 4, 6), ((2, 2), (2, 2), (3, 2)), (False, True, False))),
        ),
        backends.GlobalPool(("max",)),
        Head(5, hidden=(6,), norm=Norm(1e-5, 0.9), norm_first=True),
    ),
    "patch_transformer": taggers.Network(
        LogMel(sample_rate=16_000, n_mels=32),
        Chain(
            (
                Stack((Conv(12, (16, 16), (16, 16), "valid", "linear"),), input_norm=Norm(), names=("patches",)),
                modern.PatchEncoder(num_blocks=2, heads=3),
            )
        ),
        backends.GlobalPool(("mean",), over_bands=True),
        Head(5),
    ),
}


@pytest.mark.parametrize("case", NETWORKS)
def test_frozen_torch(case):
    """Oracle: torch's outputs for torch's weights, frozen by `parity.py`."""
    parity.assert_same(NETWORKS[case], *parity.load("modern", case))


def test_live_torch():
    """Oracle: torch, run now."""
    for case, found in parity.live("modern").items():
        parity.assert_same(NETWORKS[case], *found)


def test_parameters():
    """Oracle: the layers' parameters added up by hand (no count was published)."""

    def conv(inputs, outputs):
        return 9 * inputs * outputs + outputs + 2 * outputs

    harmonic = 1 + 2 * 6 + conv(6, 128) + 6 * conv(128, 128) + conv(128, 256) + 4 * conv(256, 256)
    harmonic += 256 * 256 + 256 + 2 * 256 + 256 * 50 + 50
    block = 2 * 2 * 128 + 4 * (128 * 128 + 128) + (128 * 512 + 512) + (512 * 128 + 128)
    transformer = 2 + (256 * 128 + 128) + 6 * 128 + 4 * block + 2 * 128 + 128 * 50 + 50
    for entry, wanted in zip(ENTRIES, (harmonic, transformer), strict=True):
        assert counts.count(getattr(modern, entry.name)(entry.n)) == wanted == entry.counts[0].reproduced
    assert counts.count(modern.harmonic_cnn(128, learn_q=False)) == harmonic - 1


@pytest.mark.parametrize("make", [modern.harmonic_cnn, modern.patch_transformer])
def test_widths(make):
    """Contract: n = 1 builds, n that is no multiple of the heads too, wider is larger, the classes do not scale."""
    sizes = [counts.count(make(n)) for n in (1, 3, 33, 70)]
    assert sizes == sorted(sizes)
    shapes = counts.variable_shapes(make(3, num_classes=7))
    assert shapes["params"]["head"]["output"]["bias"].shape == (7,)


def test_steps():
    """Oracle: floor(frames / 288) of the poolings 2⁵·3², floor(frames / 16) patches; 313 frames are 5 s."""
    harmonic, transformer = modern.harmonic_cnn(1), modern.patch_transformer(1)
    assert geometry.shortest(harmonic.windows) == 288
    assert harmonic.representation.shape(80_000)[0] == harmonic.num_steps
    assert geometry.num_steps(transformer.front_end.windows, 313) == 19
    assert geometry.shortest(transformer.windows) == 16
    for model, steps in ((harmonic, 287), (transformer, 15)):
        x = jnp.zeros((1, steps, model.representation.num_bins))
        with pytest.raises(ValueError, match=f"needs at least {steps + 1} frames and got {steps}"):
            jax.eval_shape(functools.partial(model.init, method="embed"), KEY, x)


def test_harmonics_are_triangles_on_a_semitone_grid():
    """Oracle: the paper's equations at hand-worked notes: A4 and its harmonics, bandwidth 0.1079 f + 24.7 at Q = 1."""
    part = modern.HarmonicFilters()
    centres = part.centres()
    assert centres.shape == (128, 6)
    a4 = 2 * 45  # half semitones above C1
    np.testing.assert_allclose(centres[a4], 440 * np.arange(1, 7), rtol=1e-9)
    variables = part.init(KEY, 8001, method="filters")
    bank = part.apply(variables, 8001, method="filters")  # a bin a hertz
    half = (0.1079 * 880 + 24.7) / 2
    np.testing.assert_allclose(bank[880, a4, 1], 1, atol=1e-6)
    np.testing.assert_allclose(bank[890, a4, 1], 1 - 10 / half, atol=1e-5)
    assert bank[int(880 + half) + 1, a4, 1] == 0
    narrow = part.apply({"params": {"q": jnp.float32(2)}}, 8001, method="filters")
    np.testing.assert_allclose(narrow[890, a4, 1], 1 - 20 / half, atol=1e-5)


def test_a_tone_lights_its_harmonics():
    """Identity: of a sine of 1760 Hz the filter of A6 / h answers in channel h most, and q has a gradient."""
    bins = jnp.zeros((1, 1, 8001)).at[0, 0, 1760].set(1.0)
    part = modern.HarmonicFilters()
    variables = part.init(KEY, bins)
    found = part.apply(variables, bins)[0, 0]
    for h in (2, 4):
        assert np.argmax(found[:, h - 1]) == round(24 * np.log2(1760 / h / part.fmin))
    gradient = jax.grad(lambda v: part.apply(v, bins.at[0, 0, 1765].set(1.0)).sum())(variables)["params"]["q"]
    assert np.isfinite(gradient) and gradient != 0
    silent = jax.grad(lambda v: part.apply(v, 0 * bins).sum())(variables)["params"]["q"]
    assert silent == 0


def test_bad_settings_are_named():
    """Contract: errors carry the name, the value and the remedy."""
    with pytest.raises(ValueError, match="num_bands=140"):
        modern.HarmonicFilters(num_bands=140).centres()
    with pytest.raises(ValueError, match="power spectrogram"):
        modern.HarmonicFilters().init(KEY, jnp.zeros((1, 4, 257, 1)))
    narrow = modern.ResidualCNN((2, 2), ((2, 2), (2, 4)), (False, False))
    with pytest.raises(ValueError, match="at least 8 bands and got 7"):
        narrow.init(KEY, jnp.zeros((1, 8, 7, 1)))


@pytest.mark.parametrize("case", NETWORKS)
def test_padding_is_invisible(case):
    """Identity: a padded row gives what the row alone gives, whatever lies beyond."""
    x, variables, _ = parity.load("modern", case)
    kept = x.shape[1] - 10 if case == "harmonic_cnn" else 37
    padded = x.copy()
    padded[1, kept:] = 50
    apply = jax.jit(lambda x, steps=None: NETWORKS[case].apply(variables, x, steps=steps, method="embed")["logits"])
    together, alone = apply(padded, jnp.array([x.shape[1], kept])), apply(x[1:, :kept])
    np.testing.assert_allclose(together[1:], alone, rtol=1e-4, atol=1e-5)


def test_loss_falls():
    """Learning: a few steps of Adam on drum loops, the small transformer."""
    source, chosen = dataset.open_source("rhythm_small"), range(0, 72, 9)
    clips = [audio.decode(source.encoded(i), sample_rate=16_000) for i in chosen]
    found = [str(source[i].label) for i in chosen]
    names = sorted(set(found))
    labels = jnp.array([names.index(label) for label in found])
    model = modern.patch_transformer(8, num_classes=len(names), num_blocks=1, dropout=0.0)
    x = model.representation(jnp.stack([np.resize(clip, 24_000) for clip in clips]))
    variables = jax.jit(functools.partial(model.init, method="embed"))(KEY, x)
    stats, optimiser = variables["batch_stats"], optax.adam(1e-2)

    def loss(params):
        logits = model.apply({"params": params, "batch_stats": stats}, x, method="embed")["logits"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def step(params, state):
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    params, values = variables["params"], []
    state = optimiser.init(params)
    for _ in range(15):
        params, state, value = step(params, state)
        values.append(float(value))
    assert len(names) > 1
    assert values[-1] < 0.7 * values[0]

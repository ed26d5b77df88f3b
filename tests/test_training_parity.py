"""The training step against torch: the same weights, the same batches of real audio, twenty steps of each optimiser."""

import functools
from pathlib import Path

import jax
import numpy as np
import parity
import pytest

from mirjax import optimisers, rules, train
from mirjax.data import audio, dataset
from mirjax.models import backends, blocks, taggers
from mirjax.models.blocks import Conv
from mirjax.signal.representations import LogMel, Waveform
from mirjax.tasks import tagger, tagging

FRAMES, SAMPLES, CLASSES, DIGITS = 48, 2187, 3, 10
TORCH = blocks.Norm(epsilon=1e-5, momentum=0.9, unbiased=True)
L2 = 0.02


def spectrogram(norm):
    """Three layers of 3×3, normalised before, after and after the activation where they are."""
    layers = (
        Conv(6, (3, 3), norm=norm, norm_first=True, bias=norm is None, pool=(2, 4)),
        Conv(6, (3, 3), norm=norm, bias=norm is None, activation="elu", pool=(3, 4)),
        Conv(8, (3, 3), norm=norm, bias=norm is None, pool=(2, 2), pool_kind="mean"),
    )
    head = blocks.Head(CLASSES, hidden=(12,), norm=norm, bias=norm is None)
    return taggers.Network(LogMel(), blocks.Stack(layers), backends.GlobalPool(("max", "mean")), head)


def waveform():
    """Sample-level layers, normalised in turn before and after the activation."""
    def layer(number, **options):
        return Conv(8, (3,), norm=TORCH, norm_first=number % 2 == 0, bias=False, **options)

    layers = (layer(0, stride=(3,), padding="valid"), *(layer(i, pool=(3,)) for i in range(1, 5)))
    return taggers.Network(Waveform(), blocks.Stack(layers), backends.GlobalPool(("max", "mean")), blocks.Head(DIGITS))


TASKS = {
    "spectrogram": tagging.Tagging(spectrogram(None)),
    "waveform": tagging.Tagging(tagger.build("sample", 6, DIGITS)),
    "spectrogram_norm": tagging.Tagging(spectrogram(TORCH)),
    "waveform_norm": tagging.Tagging(waveform(), "binary_cross_entropy", "sigmoid"),
}
OPTIMISERS = {
    "sgd": (optimisers.make_optimiser("sgd", 0.1), None),
    "adam": (optimisers.make_optimiser("adam", 3e-3), None),
    "adamw": (optimisers.make_optimiser("adamw", 1e-3, l2=1.0), None),
    "nesterov": (
        optimisers.make_optimiser("sgd", 0.02, momentum=0.9, nesterov=True, l2=L2, clip_norm=0.5),
        functools.partial(optimisers.penalty, l2=L2),
    ),
}
CASES = [
    ("spectrogram", "sgd"),
    ("spectrogram", "adam"),
    ("waveform", "sgd"),
    ("waveform", "adam"),
    ("spectrogram_norm", "nesterov"),
    ("spectrogram_norm", "adamw"),
    ("waveform_norm", "nesterov"),
    ("waveform_norm", "adamw"),
]


@functools.cache
def clips(kind):
    """The real audio: the golden log-mel, or all spoken digits at 8 kHz, in the order of their files' names."""
    if kind == "representation":
        with np.load(Path(__file__).parent / "golden" / "inputs.npz") as stored:
            return [stored["logmel"]]
    source = dataset.open_source("digits_small")
    order = sorted(range(len(source)), key=lambda i: source.ids[i])
    return [audio.decode(source.encoded(i), sample_rate=8000) for i in order]


def trained(case, name, rows, variables, label):
    """Losses of our steps and the last state."""
    kind, length = ("audio", SAMPLES) if case.startswith("waveform") else ("representation", FRAMES)
    optimiser, penalty = OPTIMISERS[name]
    step = train.make_step(TASKS[case], optimiser, penalty=penalty)
    statistics = tagging.input_statistics(clips(kind), "all")
    losses, state = [], None
    for places, labels in zip(rows, label, strict=True):
        patches = np.stack([clips(kind)[clip][start : start + length] for clip, start in places])
        labels = labels.astype(np.int32 if labels.ndim == 1 else np.float32)
        batch = {kind: patches, "label": labels, "mask": np.ones(len(places), bool)}
        if state is None:
            state = step.init(jax.random.key(0), batch, rules.constant(), variables | {"input": statistics})
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return np.array(losses), step.host(state)


def compare(case, name, rows, variables, outputs):
    """(largest relative difference of the losses, largest difference of weights over the largest weight)."""
    losses, state = trained(case, name, rows, variables, outputs["label"])
    wanted = outputs[f"{name}/losses"]
    assert np.ptp(wanted) > 0.1 * np.abs(wanted).max()  # something is learnt
    found = dict(parity.flatten({"params": state.params, **state.state}))
    expected = {path.split("/", 1)[1]: v for path, v in outputs.items() if path.startswith(f"{name}/") and "/params/" in path or path.startswith(f"{name}/batch_stats/")}
    assert set(expected) == {path for path in found if not path.startswith("input/")}
    begun = dict(parity.flatten(variables))
    largest = max(np.abs(v).max() for path, v in expected.items() if path.startswith("params/"))
    moved = max(np.abs(v - begun[path]).max() for path, v in expected.items() if path.startswith("params/"))
    assert moved > 0.01 * largest
    apart = max(np.abs(found[path] - v).max() / (largest if path.startswith("params/") else np.abs(v).max()) for path, v in expected.items())
    return np.abs(losses / wanted - 1).max(), apart


@pytest.mark.parametrize("case, name", CASES)
def test_steps_against_torch_frozen(case, name):
    """Oracle: torch's losses and weights, frozen by `parity.py`."""
    losses, weights = compare(case, name, *parity.load("training", case))
    assert losses < 1e-4
    assert weights < 1e-4


@functools.cache
def live():
    return parity.live("training")


@pytest.mark.parametrize("case, name", CASES)
def test_steps_against_torch_live(case, name):
    """Oracle: torch now."""
    losses, weights = compare(case, name, *live()[case])
    assert losses < 1e-4
    assert weights < 1e-4

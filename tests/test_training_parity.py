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
CASES = [(case, name) for case in ("spectrogram", "waveform") for name in ("sgd", "adam")]
CASES += [(f"{case}_norm", name) for case, _ in CASES[::2] for name in ("nesterov", "adamw")]


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


def differences(case, name, rows, variables, outputs):
    """Largest relative differences of the losses, and of weights and running averages, each kind over its largest."""
    losses, state = trained(case, name, rows, variables, outputs["label"])
    found = dict(parity.flatten({"params": state.params, **state.state}))
    wanted = {path.removeprefix(f"{name}/"): value for path, value in outputs.items() if path.startswith(f"{name}/")}
    told = wanted.pop("losses")
    assert set(wanted) == {path for path in found if not path.startswith("input/")}
    apart = [np.abs(losses / told - 1).max()]
    for kind in state.state.keys() - {"input"} | {"params"}:
        paths = [path for path in wanted if path.startswith(f"{kind}/")]
        scale = max(np.abs(wanted[path]).max() for path in paths)
        apart.append(max(np.abs(found[path] - wanted[path]).max() for path in paths) / scale)
    return apart


def assert_small(case, losses, *others):
    """What the issue asks of the losses; rounding is all that may differ, and batch norm makes more of it."""
    assert losses < 1e-4
    assert max(others) < (2e-4 if case.endswith("norm") else 2e-5)


@pytest.mark.parametrize("case, name", CASES)
def test_twenty_steps_against_torch_frozen(case, name):
    """Oracle: torch's losses, weights and running averages, frozen by `parity.py`."""
    assert_small(case, *differences(case, name, *parity.load("training", case)))


@functools.cache
def live():
    return parity.live("training")


@pytest.mark.parametrize("case, name", CASES)
def test_twenty_steps_against_torch_live(case, name):
    """Oracle: torch now."""
    assert_small(case, *differences(case, name, *live()[case]))


@pytest.mark.parametrize("case", TASKS)
def test_the_frozen_steps_learn(case):
    """Weights that stood still would agree with anything: they move fifty times what may differ, at least."""
    _, variables, outputs = parity.load("training", case)
    begun = dict(parity.flatten({"params": variables["params"]}))
    largest = max(np.abs(value).max() for value in begun.values())
    for name in {name for of, name in CASES if of == case}:
        moved = max(np.abs(outputs[f"{name}/{path}"] - value).max() for path, value in begun.items())
        assert moved > 0.01 * largest
        assert np.ptp(outputs[f"{name}/losses"]) > 0.1

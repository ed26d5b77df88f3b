"""Parity with torch: run live where it is installed, and from frozen arrays that the same script made where it is not.

A family has a script `torch_FAMILY.py` beside this one whose `make() -> {case: (x, variables, outputs)}` computes
with torch alone: x as `Model.embed` takes it, variables as a tree of this project filled with torch's weights, outputs
by name (`embedding`, `logits`). `python tests/models/parity.py FAMILY` (in an environment with torch) freezes them into
`frozen/FAMILY_CASE.npz`, weights and inputs of float32, a few hundred kB at most.
"""

import importlib
import sys
from pathlib import Path

import numpy as np

FROZEN = Path(__file__).parent / "frozen"


def flatten(tree, prefix=""):
    """{"params/front_end/conv1/kernel": array} of a tree of dictionaries."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", np.asarray(value)


def unflatten(pairs):
    """The tree of `flatten`'s pairs."""
    tree = {}
    for path, value in pairs:
        *parents, leaf = path.split("/")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[leaf] = value
    return tree


def load(family, case):
    """(x, variables, outputs) as frozen."""
    with np.load(FROZEN / f"{family}_{case}.npz") as stored:
        arrays = dict(stored)
    weights = [(key[2:], value) for key, value in arrays.items() if key.startswith("w:")]
    return arrays["x"], unflatten(weights), {key[2:]: value for key, value in arrays.items() if key.startswith("y:")}


def live(family):
    """{case: (x, variables, outputs)} computed by torch now; the test is skipped where torch is not installed."""
    import pytest

    pytest.importorskip("torch")
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        return importlib.import_module(f"torch_{family}").make()
    finally:
        sys.path.pop(0)


def assert_same(model, x, variables, outputs, tolerance=1e-5):
    """The network has these variables and gives these outputs: max|a − b| / max|b| within the tolerance."""
    import jax

    from mirjax.models import counts

    expected = {path: value.shape for path, value in flatten(jax.tree.map(np.zeros_like, _shapes(counts, model)))}
    assert {path: value.shape for path, value in flatten(variables)} == expected
    found = model.apply(variables, x, method="embed")
    for name, wanted in outputs.items():
        got = np.asarray(found[name], np.float64)
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() <= tolerance * np.abs(wanted).max(), name


def _shapes(counts, model):
    import jax

    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), counts.variable_shapes(model))


if __name__ == "__main__":
    FROZEN.mkdir(exist_ok=True)
    for case, (x, variables, outputs) in live(sys.argv[1]).items():
        arrays = {f"w:{path}": value for path, value in flatten(variables)}
        arrays |= {f"y:{name}": np.asarray(value) for name, value in outputs.items()}
        np.savez_compressed(FROZEN / f"{sys.argv[1]}_{case}.npz", x=x, **arrays)

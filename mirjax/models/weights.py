"""Weights of a network in one file: plain trees in, plain trees out, no pickle.

A file is an `.npz` with one array for each variable, named by its path (`params/front_end/conv1_block/kernel`), and,
where given, a note of what the weights belong to: the input they were trained with is as much a part of them as their
values, so `save` stores it and `load` refuses a network with another one.
Names: `save`, `load`, `metadata`, `flatten`, `unflatten`, `check`.
"""

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mirjax.models import counts

_METADATA = ":metadata"
_REMEDY = "write the file again with mirjax.models.weights.save"


def flatten(tree: Mapping, prefix: str = "") -> dict[str, np.ndarray]:
    """{"params/front_end/conv1/kernel": array, …} of a tree of dictionaries, in its order.

    Raises:
      ValueError: a name that is no string or holds a slash, a leaf that is no array of numbers.
    """
    found = {}
    for key, value in tree.items():
        if not isinstance(key, str) or not key or "/" in key or key == _METADATA:
            raise ValueError(f"{prefix}{key!r}: names of variables must be strings without a slash")
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= flatten(value, f"{path}/")
        else:
            found[path] = value if hasattr(value, "shape") else np.asarray(value)
    return found


def unflatten(arrays: Mapping[str, np.ndarray]) -> dict:
    """The tree of `flatten`'s paths.

    Raises:
      ValueError: a path that goes on below another array.
    """
    tree = {}
    for path, value in arrays.items():
        *parents, leaf = path.split("/")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ValueError(f"{path} lies below {part!r}, which is an array; {_REMEDY}")
        node[leaf] = value
    return tree


def _listed(paths, most=6) -> str:
    paths = list(paths)
    return ", ".join(paths[:most]) + (f" and {len(paths) - most} more" if len(paths) > most else "")


def check(variables: Mapping, model, what: str = "variables") -> None:
    """Hold a tree against what a network has: every path, every shape.

    Args:
      variables: {"params": …, "batch_stats": …}.
      model: a `taggers.Model`.
      what: the tree, as the error message names it.

    Raises:
      ValueError: names what is missing, what is surplus, and what has another shape, at once.
    """
    expected = {path: tuple(leaf.shape) for path, leaf in flatten(counts.variable_shapes(model)).items()}
    found = {path: tuple(leaf.shape) for path, leaf in flatten(variables).items()}
    missing = [path for path in expected if path not in found]
    surplus = [path for path in found if path not in expected]
    others = [
        f"{path} {found[path]} instead of {shape}"
        for path, shape in expected.items()
        if path in found and found[path] != shape
    ]
    wrong = {"missing": missing, "surplus": surplus, "of another shape": others}
    arrays = {path: np.asarray(leaf) for path, leaf in flatten(variables).items()}
    wrong["no finite floats"] = [
        path
        for path, leaf in arrays.items()
        if leaf.dtype.kind not in "fV" or not np.isfinite(leaf.astype(np.float64)).all()
    ]
    if any(wrong.values()):
        said = "; ".join(f"{name}: {_listed(paths)}" for name, paths in wrong.items() if paths)
        raise ValueError(
            f"{what} do not fit this network: {said}. Build it with the n and the options of the weights"
            " (weights.metadata(path) has them where they were stored)"
        )


def save(path, variables: Mapping, *, model=None, metadata: Mapping | None = None) -> None:
    """Write variables as one `.npz`; a reader, or a crash at any moment, sees the old file or the new one.

    Args:
      path: file to write; its folder must exist.
      variables: {"params": …} and, with batch norm, {"batch_stats": …}; arrays of floats.
      model: the network they belong to: they are checked against it, and its input's settings are stored.
      metadata: anything else worth keeping that JSON can hold (name, n, options, …).

    Raises:
      ValueError: variables that do not fit the model, names or values that the file cannot hold.
    """
    path = Path(path)
    if model is not None:
        check(variables, model)
    arrays = {}
    for key, value in flatten(variables).items():
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{path}: {key} is {array.dtype}, which an .npz cannot hold; cast it to float32 first")
        arrays[key] = array
    note = dict(metadata or {})
    if model is not None:
        note["representation"] = repr(model.representation)
    try:
        arrays[_METADATA] = np.array(json.dumps(note, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: metadata must be plain values of JSON ({error})") from None
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(unfinished, 0o644)
        os.replace(unfinished, path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _read(path) -> tuple[dict[str, np.ndarray], dict]:
    try:
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with opened as stored:
            arrays = {}
            for key in stored.files:
                try:
                    arrays[key] = stored[key]
                except ValueError as error:
                    raise ValueError(f"array {key!r}: {error}") from None
        note = json.loads(str(arrays.pop(_METADATA, "{}")))
        if not isinstance(note, dict):
            raise ValueError("its metadata is no dictionary")
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError, AttributeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no weights ({error}); {_REMEDY}") from None
    return arrays, note


def metadata(path) -> dict:
    """What `save` was told about the weights, and the `representation` they were trained with (its repr).

    Raises:
      ValueError: a file that holds no weights.
    """
    return _read(path)[1]


def load(path, *, model=None) -> dict:
    """Read variables that `save` wrote.

    Args:
      path: the file.
      model: the network that they are for: every path and shape, and its input, are checked. Its weights are
        float32, or float64 under `jax_enable_x64`; values come as they were stored.

    Returns:
      {"params": …, "batch_stats": …} of NumPy arrays.

    Raises:
      ValueError: a file that holds no weights; weights of another network, or trained with another input.
    """
    arrays, note = _read(path)
    try:
        variables = unflatten(arrays)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if model is not None:
        check(variables, model, f"{path}: its variables")
        wanted = note.get("representation")
        if wanted is not None and wanted != repr(model.representation):
            raise ValueError(
                f"{path}: trained on {wanted}, but this network takes {model.representation!r}; give the network that "
                "representation (`model.clone(representation=…)`), or load without `model`"
            )
    return variables

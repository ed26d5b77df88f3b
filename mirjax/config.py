"""Experiments as values: reading a config file and changing fields from a command line.

A config file holds one module-level `experiment`, a frozen dataclass. `key=value` arguments replace its fields; lists
separate with commas. Nothing here imports JAX, so mistakes are answered at once.
Names: `UsageError`, `load`, `override`, `plain`, `digest`, `nearest`.
"""

import dataclasses
import difflib
import hashlib
import json
import runpy
import types
import typing
from pathlib import Path


class UsageError(ValueError):
    """A mistake in what was asked for: an unknown name or key, a value of the wrong kind."""


def nearest(name: str, known) -> str:
    """The known names most like `name`, or all of them, for an error message."""
    known = sorted(map(str, known))
    return ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known)


def available(folder: Path) -> list[Path]:
    """Config files of a folder, sorted by name."""
    return sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))


def load(name: str, folder: Path):
    """Read the experiment of a config file.

    Args:
      name: a path, or the name of a file in `folder` (with or without `.py`).
      folder: where named configs live.

    Returns:
      (experiment, path of the file).

    Raises:
      UsageError: no such file, or it holds no `experiment`.
    """
    path = Path(name)
    if not path.is_file():
        path = folder / f"{name.removesuffix('.py')}.py"
    if not path.is_file():
        names = [known.stem for known in available(folder)]
        raise UsageError(f"config {name!r} is neither a file nor in configs/; nearest: {nearest(name, names)}")
    try:
        experiment = runpy.run_path(str(path)).get("experiment")
    except Exception as error:  # whatever its code raises is a mistake in the file
        raise UsageError(f"config {path} cannot be read: {type(error).__name__}: {error}") from error
    if not dataclasses.is_dataclass(experiment) or isinstance(experiment, type):
        raise UsageError(f"config {path} holds no `experiment`; assign a frozen dataclass to that name")
    return experiment, path


def override(experiment, arguments: list[str]):
    """Replace fields of an experiment from `key=value` arguments.

    Raises:
      UsageError: an argument without `=`, an unknown key, a value of the wrong kind.
    """
    kinds = typing.get_type_hints(type(experiment))
    known = [field.name for field in dataclasses.fields(experiment)]
    changes = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals:
            raise UsageError(f"argument {argument!r} is not key=value; known keys: {', '.join(known)}")
        if key not in known:
            raise UsageError(f"key {key!r} is not a field of this experiment; nearest: {nearest(key, known)}")
        changes[key] = parse(text, kinds[key], key)
    return dataclasses.replace(experiment, **changes)


def parse(text: str, kind, key: str):
    """A value of the given kind from its text; a comma separates the values of a list.

    Raises:
      UsageError: the text is not of that kind.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        # Where text is expected "none" is a word like any other (group=none), and only nothing is None.
        if type(None) in inner and (text == "" or (text.lower() == "none" and str not in inner)):
            return None
        errors = []
        for choice in (choice for choice in inner if choice is not type(None)):
            try:
                return parse(text, choice, key)
            except UsageError as error:
                errors.append(error)
        raise errors[-1]
    if origin is tuple:
        return tuple(parse(part.strip(), inner[0], key) for part in text.split(",") if part.strip())
    if kind is bool:
        if text.lower() in ("true", "1", "yes", "false", "0", "no"):
            return text.lower() in ("true", "1", "yes")
        raise UsageError(f"{key}={text!r} must be true or false")
    if kind in (int, float):
        if kind is int and "," in text:
            raise UsageError(f"{key}={text!r} must be one whole number")
        try:
            return kind(text)
        except ValueError:
            noun = "a whole number" if kind is int else "a number"
            raise UsageError(f"{key}={text!r} must be {noun}") from None
    return text


def plain(values):
    """Values as JSON has them; anything that is not one as its text."""
    return json.loads(json.dumps(values, default=repr))


def digest(values, length: int = 8) -> str:
    """Fingerprint of JSON values: the first hexadecimal digits of a SHA-256."""
    text = json.dumps(values, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:length]

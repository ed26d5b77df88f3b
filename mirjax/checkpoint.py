"""Checkpoints of a run: all that its continuation depends on, in one folder that is whole or not there.

A checkpoint holds the state of training and the best weights so far, and a description (JSON) of what they belong to:
the network, the configuration, the data. The data position follows from the step, so no reader's state is kept. A
checkpoint comes to be under another name and is renamed at last; what a kill leaves behind is cleared before the next
one is saved. The newest two are kept: should the newest be damaged (its values have a checksum), the one before it
gives the same end, later.

Values are restored bit for bit, on any number of devices.
Names: `Checkpoints`, `CheckpointError`, `clear`. Orbax is used here only.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

_log = logging.getLogger("mirjax")
_STATE, _ABOUT = "state", "about"
_MOST_TOLD = 6  # differences in an error


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another network or configuration."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: where they lie; made when it is not there.
      about: what they belong to, JSON values by name: `architecture`, `configuration`, …; compared on restoring.
    """

    def __init__(self, folder, about: Mapping):
        self.folder = Path(folder).absolute()
        self.about = json.loads(json.dumps(about))

    @property
    def steps(self) -> list[int]:
        """Numbers of the checkpoints that lie there, whole or damaged."""
        return sorted(int(path.name) for path in self.folder.glob("[0-9]*") if path.name.isdecimal())

    @contextlib.contextmanager
    def _manager(self, *, saves: bool) -> Iterator:
        import orbax.checkpoint as ocp

        # Orbax clears in the background and waits for that before it saves, but not before it closes.
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=saves, create=saves
        )
        with _quiet(), ocp.CheckpointManager(self.folder, options=options) as manager:
            yield manager

    def save(self, tree) -> None:
        """Save a tree that has a `step` leaf under `state` (`{"state": TrainState, "best": Best}`).

        Raises:
          OSError: the disk takes no more; earlier checkpoints are as they were.
        """
        import orbax.checkpoint as ocp

        step, arrays = int(tree["state"].step), _arrays(tree)
        note = {"about": self.about, "leaves": _leaves(arrays), "checksum": _checksum(arrays)}
        try:
            with self._manager(saves=True) as manager:
                manager.save(
                    step,
                    args=ocp.args.Composite(**{_STATE: ocp.args.StandardSave(arrays), _ABOUT: ocp.args.JsonSave(note)}),
                    force=True,
                )
        except (OSError, ValueError) as error:
            if not _is_full(error):
                raise
            raise OSError(
                errno.ENOSPC,
                f"no space to save step {step} in {self.folder}; earlier checkpoints are kept: free some space and "
                "repeat the command",
            ) from error

    def restore(self, like):
        """The newest whole checkpoint as a tree like the given one, or None where there is none.

        Args:
          like: a tree of the same structure, shapes and dtypes.

        Raises:
          CheckpointError: of another network or configuration (names what differs), or all damaged.
        """
        import orbax.checkpoint as ocp

        if not self.folder.is_dir():
            return None
        arrays = _arrays(like)
        with self._manager(saves=False) as manager:
            steps = sorted(manager.all_steps(), reverse=True)
            failures = []
            for step in steps:
                try:
                    note = manager.restore(step, args=ocp.args.Composite(**{_ABOUT: ocp.args.JsonRestore()}))[_ABOUT]
                    about, leaves, checksum = (note[name] for name in ("about", "leaves", "checksum"))
                except Exception as error:  # a torn file raises almost anything
                    failures.append(f"step {step}: {_first_line(error)}")
                    continue
                self._compare(self.about, about, step)
                self._compare(_leaves(arrays), leaves, step)
                try:
                    args = ocp.args.Composite(**{_STATE: ocp.args.StandardRestore(arrays)})
                    restored = manager.restore(step, args=args)[_STATE]
                    if _checksum(restored) != checksum:
                        raise ValueError("its values are not those that were saved")
                except Exception as error:
                    failures.append(f"step {step}: {_first_line(error)}")
                    continue
                for failure in failures:
                    _log.warning("%s: damaged checkpoint left aside, %s", self.folder, failure)
                    shutil.rmtree(self.folder / failure.split()[1].rstrip(":"), ignore_errors=True)
                return _like(restored, like)
        if failures:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read ({'; '.join(failures)}); delete the folder to begin anew"
            )
        return None

    def _compare(self, here: Mapping, there: Mapping, step: int) -> None:
        differing = [
            f"{name}: {here.get(name)!r} (there: {there.get(name)!r})"
            for name in sorted({*there, *here})
            if there.get(name) != here.get(name)
        ]
        if differing:
            more = f" and {len(differing) - _MOST_TOLD} more" if len(differing) > _MOST_TOLD else ""
            raise CheckpointError(
                f"checkpoint {step} in {self.folder} is of another run: {'; '.join(differing[:_MOST_TOLD])}{more}. "
                "Choose another folder, or give those values"
            )


def clear(folder) -> None:
    """Delete a folder with all checkpoints in it; what a kill leaves of it the next call deletes."""
    folder = Path(folder)
    doomed = folder.with_name(f".{folder.name}.deleted")
    shutil.rmtree(doomed, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.replace(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _is_key(leaf) -> bool:
    return isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _arrays(tree):
    """The leaves as numpy arrays, PRNG keys as their data."""
    return jax.tree.map(lambda leaf: np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf), tree)


def _leaves(arrays) -> dict[str, str]:
    """Type and shape of every array, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def _checksum(arrays) -> int:
    """CRC-32 of all values, in the order of the leaves."""
    found = 0
    for leaf in jax.tree.leaves(arrays):
        found = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data if leaf.size else b"", found)
    return found


def _like(restored, like):
    """Restored numpy arrays with the keys of the template as keys again."""

    def typed(new, old):
        return jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else np.asarray(new)

    return jax.tree.map(typed, restored, like)


def _is_full(error) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "RESOURCE_EXHAUSTED" in str(error) or (
        "No space left" in str(error)
    )  # fmt: skip


def _first_line(error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextlib.contextmanager
def _quiet():
    """Orbax and absl tell of every step; warnings and errors are enough.

    Of a torn file one error is: the other threads of its reader cannot deliver theirs any more, and say so each.
    """
    levels = {name: logging.getLogger(name).level for name in ("absl", "orbax")}
    hook = sys.unraisablehook

    def tell(what):
        if str(what.exc_value) != "Event loop is closed":
            hook(what)

    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.unraisablehook = tell
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

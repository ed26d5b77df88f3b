"""Checkpoints of a run: all that its continuation depends on, in one folder that is whole or not there.

A checkpoint holds the state of training and the best weights so far, and a description (JSON) of what they belong to:
the network, the configuration, the data. The data position follows from the step, so no reader's state is kept. A
checkpoint comes to be under another name and is renamed at last; what a kill leaves behind is cleared when the folder
is opened. The newest two are kept: should the newest be damaged, the one before it gives the same end, later.

Values are restored bit for bit, on any number of devices.
Names: `Checkpoints`, `CheckpointError`. Orbax is used here only.
"""

import contextlib
import errno
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import numpy as np

_log = logging.getLogger("mirjax")
_STATE, _ABOUT = "state", "about"


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another network or configuration."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
      folder: where they lie; made when it is not there.
      about: what they belong to, JSON values by name: `architecture`, `configuration`, …; compared when one is restored.
    """

    def __init__(self, folder, about: Mapping):
        self.folder = Path(folder).absolute()
        self.about = json.loads(json.dumps(about))

    @contextlib.contextmanager
    def _manager(self) -> Iterator:
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=True, create=True
        )
        with _quiet(), ocp.CheckpointManager(self.folder, options=options) as manager:
            yield manager

    def save(self, tree) -> None:
        """Save a tree that has a `step` leaf under `state` (`{"state": TrainState, "best": Best}`).

        Raises:
          OSError: the disk takes no more; earlier checkpoints are as they were.
        """
        import orbax.checkpoint as ocp

        step = int(tree["state"].step)
        try:
            with self._manager() as manager:
                manager.save(
                    step,
                    args=ocp.args.Composite(
                        **{_STATE: ocp.args.StandardSave(_arrays(tree)), _ABOUT: ocp.args.JsonSave(self.about)}
                    ),
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
        with self._manager() as manager:
            steps = sorted(manager.all_steps(), reverse=True)
            failures = []
            for step in steps:
                try:
                    about = manager.restore(step, args=ocp.args.Composite(**{_ABOUT: ocp.args.JsonRestore()}))[_ABOUT]
                except Exception as error:  # a torn file raises almost anything
                    failures.append(f"step {step}: {_first_line(error)}")
                    continue
                self._compare(about, step)
                try:
                    args = ocp.args.Composite(**{_STATE: ocp.args.StandardRestore(_arrays(like))})
                    restored = _like(manager.restore(step, args=args)[_STATE], like)
                except Exception as error:
                    failures.append(f"step {step}: {_first_line(error)}")
                    continue
                for failure in failures:
                    _log.warning("%s: damaged checkpoint left aside, %s", self.folder, failure)
                    shutil.rmtree(self.folder / failure.split()[1].rstrip(":"), ignore_errors=True)
                return restored
        if failures:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read ({'; '.join(failures)}); delete the folder to begin anew"
            )
        return None

    def _compare(self, there: Mapping, step: int) -> None:
        differing = [
            f"{name}: {self.about.get(name)!r} (there: {there.get(name)!r})"
            for name in sorted({*there, *self.about})
            if there.get(name) != self.about.get(name)
        ]
        if differing:
            raise CheckpointError(
                f"checkpoint {step} in {self.folder} is of another run: {'; '.join(differing)}. Choose another folder, or "
                "give those values"
            )

    def clear(self) -> None:
        """Delete all checkpoints of the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_key(leaf) -> bool:
    return isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _arrays(tree):
    """The leaves as numpy arrays, PRNG keys as their data."""
    return jax.tree.map(lambda leaf: np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf), tree)


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
    """Orbax and absl tell of every step; warnings and errors are enough."""
    levels = {name: logging.getLogger(name).level for name in ("absl", "orbax")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

"""The feature store: features on disk in blocks of clips, so that hours of extraction survive anything.

A table of features is named by everything its numbers depend on and kept as one file for every 64 clips, written as
soon as the block is done. A store that cannot write (disk full, no permission) says so once and the work goes on
without it.
Names: `FeatureStore`, `BLOCK`.
"""

import logging
import os
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

BLOCK = 64

_log = logging.getLogger("mirjax")


class FeatureStore:
    """Blocks of features under a folder, or nowhere.

    Attributes:
      folder: where the blocks lie; None keeps nothing.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self._failed = False

    def _path(self, key: str, start: int) -> Path:
        return self.folder / "features" / key[:2] / key / f"{start:07d}.npz"

    def get(self, key: str, start: int) -> tuple[np.ndarray, float] | None:
        """The block (features f32[b, D], seconds a clip) that starts at clip `start`, or None.

        A file that cannot be read whole counts as absent.
        """
        if self.folder is None:
            return None
        try:
            with np.load(self._path(key, start), allow_pickle=False) as block:
                return block["features"], float(block["seconds"])
        except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile):
            return None

    def put(self, key: str, start: int, features: np.ndarray, seconds: float) -> None:
        """Write a block, whole or not at all."""
        if self.folder is None or self._failed:
            return
        path = self._path(key, start)
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
                temporary = file.name
                np.savez(file, features=features, seconds=seconds)
            os.replace(temporary, path)
        except OSError as error:
            self._failed = True
            message = f"features are not cached any more: {path.parent} cannot be written ({error})"
            warnings.warn(message, stacklevel=2)
            _log.warning(message)
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)

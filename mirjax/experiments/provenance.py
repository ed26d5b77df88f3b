"""What made the records of a run: versions, the commit, the log.

Names: `versions`, `commit`, `logging_to`.
"""

import contextlib
import importlib.metadata
import logging
import subprocess
from pathlib import Path

_log = logging.getLogger("mirjax")


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on, and the platform."""
    import jax

    packages = ("mirjax", "jax", "jaxlib", "flax", "numpy", "scipy", "scikit-learn", "soundfile", "soxr")
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | {"platform": jax.default_backend()}


def commit() -> str | None:
    """The commit of the code that runs, with `-dirty` when files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None


@contextlib.contextmanager
def logging_to(workdir: Path):
    """Let `workdir/log.txt` collect what the package logs."""
    handler = logging.FileHandler(workdir / "log.txt", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = _log.level
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        _log.setLevel(level)
        handler.close()

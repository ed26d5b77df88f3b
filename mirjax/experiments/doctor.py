"""A look at the machine: versions, devices, golden checks on this device, decoders, cache folders.

Names: `examine`.
"""

import importlib.metadata
import io
import platform
import shutil
from pathlib import Path

import numpy as np

from mirjax.data import dataset

_PACKAGES = (
    "mirjax jax jaxlib flax optax orbax-checkpoint tensorflow-datasets librosa soundfile soxr numpy scipy scikit-learn"
)
_FORMATS = ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF")


def examine(cache: Path | None = None) -> tuple[list[str], bool]:
    """Look at versions, devices, numbers, decoders and folders.

    Args:
      cache: the cache folder; the user's when None.

    Returns:
      (lines of text, whether the golden checks hold and WAV, FLAC, OGG and MP3 decode).
    """
    import jax

    lines = [f"python {platform.python_version()} on {platform.platform()}"]
    for package in _PACKAGES.split():
        try:
            lines.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{package} is not installed")
    devices = jax.devices()
    lines.append(f"devices: {len(devices)} × {devices[0].device_kind} ({jax.default_backend()})")
    lines.append(f"jax_enable_x64: {jax.config.jax_enable_x64}")
    checks = golden_checks()
    for what, error, bound in checks:
        verdict = "ok" if error <= bound else "WRONG: do not trust numbers made on this device"
        lines.append(f"golden {what}: error {error:.1e}, allowed {bound:.0e}: {verdict}")
    decoders = _decoders()
    lines.append("decoders: " + ", ".join(f"{name} {'yes' if works else 'NO'}" for name, works in decoders.items()))
    cache = cache or Path.home() / ".cache" / "mirjax"
    lines.append(f"cache: {cache} ({_folder_state(cache)})")
    lines.append(f"prepared data sets: {dataset.default_data_dir()} ({_folder_state(dataset.default_data_dir())})")
    needed = ("WAV", "FLAC", "OGG", "MP3")
    return lines, all(error <= bound for _, error, bound in checks) and all(decoders.get(name) for name in needed)


def golden_checks() -> list[tuple[str, float, float]]:
    """(what, error, allowed error) of the mel core, the MFCC baseline and one network on this device."""
    from mirjax import features
    from mirjax.models import zoo

    with np.load(Path(dataset.__file__).parent / "embedded" / "golden" / "golden.npz") as stored:
        golden = dict(stored)
    variables: dict = {}
    for path, value in golden.items():
        *parents, leaf = path.split("/")
        if parents:
            node = variables
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = value
    model = zoo.build("timbral_temporal", int(golden["n"]))
    audio = golden["wave12k"][None]
    decibels = np.asarray(model.representation(audio))[0]
    baseline = features.mfcc_features(audio, sample_rate=12_000)[0]
    values = features.extract(model, variables, audio)[0]
    largest = np.abs(golden["features"]).max()
    return [
        ("log-mel against librosa (dB)", float(np.abs(decibels - golden["logmel"]).max()), 5e-3),
        ("MFCC against librosa", float(np.abs(baseline - golden["mfcc120"]).max()), 1e-3),
        ("timbral_temporal against torch", float(np.abs(values - golden["features"]).max() / largest), 1e-5),
    ]


def _decoders() -> dict[str, bool]:
    """Formats that a second of sound survives, and ffmpeg for what soundfile cannot read."""
    import soundfile

    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    works = {}
    for name in _FORMATS:
        file = io.BytesIO()
        try:
            soundfile.write(file, tone, 16_000, format=name)
            file.seek(0)
            works[name] = len(soundfile.read(file)[0]) >= len(tone)
        except (RuntimeError, ValueError, TypeError):
            works[name] = False
    return works | {"ffmpeg (m4a, wma)": shutil.which("ffmpeg") is not None}


def _folder_state(folder: Path) -> str:
    if not folder.exists():
        return "not there yet"
    files = [file for file in folder.rglob("*") if file.is_file()]
    return f"{len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB"

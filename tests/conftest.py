"""Settings of all tests: fake devices, strict ranks, a compilation cache, and the golden vectors."""

import os
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "mirjax" / "jax-tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

GOLDEN = Path(__file__).parent / "golden"
# Widths of the golden vectors, chosen by their makers.
GOLDEN_N = {
    "vgg": 24,
    "7x96": 120,
    "7x86": 120,
    "timbral": 8,
    "temporal": 8,
    "timbral_temporal": 4,
    "timbral_time": 4,
    "sample": 17,
    "frame": 30,
    "frame_many": 15,
}


def _canonical(name, stored):
    """Weights of a golden file, (out, in, height, width) in torch's order, as a tree of this project."""
    parts = {}
    for key in stored.files:
        if not key.startswith("w_"):
            continue
        kind, *numbers = key[2:].split("_")
        weights = stored[key]
        if name in ("7x96", "7x86") or kind == "v":  # bands as input channels
            kernel = weights.transpose(3, 1, 2, 0)
        else:
            kernel = weights.transpose(2, 3, 1, 0)
            kernel = kernel if name == "vgg" else kernel[0]
        if name == "vgg":
            place = ("front_end", f"conv{int(kind) + 1}")
        elif name in ("7x96", "7x86"):
            place = ("front_end", "conv")
        elif name == "sample":
            place = ("front_end", f"stack{int(kind) + 1}")
        elif kind == "f":
            place = ("front_end", f"conv_frame_{numbers[0]}")
        elif kind == "b":
            place = ("back_end", f"conv_extra{int(numbers[0]) + 1}")
        else:
            layer = f"conv_timbral_{numbers[1]}x{numbers[0]}" if kind == "v" else f"conv_temporal_{numbers[0]}"
            branch = () if "_" not in name else (f"branches_{'vt'.index(kind)}",)
            place = ("front_end", *branch, layer)
        node = parts
        for part in place:
            node = node.setdefault(part, {})
        node.update(kernel=kernel, bias=np.zeros(kernel.shape[-1], kernel.dtype))
    return {"params": parts}


@pytest.fixture(scope="session")
def golden_inputs():
    """Waveform, log-mel and MFCC of one clip, made with librosa."""
    with np.load(GOLDEN / "inputs.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="session")
def golden_network():
    """name → (n, variables, features, legacy features or None), made with torch."""

    def load(name):
        with np.load(GOLDEN / f"{name}.npz") as stored:
            legacy = stored["features_legacy"] if "features_legacy" in stored.files else None
            return GOLDEN_N[name], _canonical(name, stored), stored["features"], legacy

    return load


@pytest.fixture(scope="session")
def embedded_clip():
    """A real recording (a spoken digit) at 12 kHz and its neighbours: list of f32[N]."""
    from mirjax.data import audio, dataset

    source = dataset.open_source("digits_small")
    return [audio.decode(source.encoded(i), sample_rate=12_000) for i in range(0, 240, 40)]


@pytest.fixture(scope="module", autouse=True)
def _forget_programs():
    """Programs hold their constants (filter banks, kernels); a session of all tests would keep gigabytes of them."""
    yield
    jax.clear_caches()

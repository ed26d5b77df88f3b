"""Every row of docs/precision.md against its budget, on one short clip: the table cannot rot."""

import importlib.util
import sys
from pathlib import Path

import pytest

from mirjax.data import audio, dataset

_PATH = Path(__file__).parents[2] / "benchmarks" / "precision.py"


def _load():
    before = list(sys.path)
    try:
        spec = importlib.util.spec_from_file_location("benchmarks_precision", _PATH)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # its dataclasses look themselves up there
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path[:] = before


precision = _load()


@pytest.fixture(scope="module")
def clip():
    """1.2 s of music at 22,050 Hz, rendered with sampled instruments."""
    source = dataset.open_source("rhythm_small")
    return audio.decode(source.encoded(6), sample_rate=precision.RATE)[20_000:46_500]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("row", precision.ROWS, ids=lambda row: f"{row.function} ~ {row.oracle}")
def test_within_budget(clip, row):
    """Oracle: the row's own (librosa, scipy or numpy in float64)."""
    found = precision.measure(row, clip)
    assert not found.exceeds(row), f"{found}; budgets {row.budget} and {row.budget64}"


@pytest.mark.parametrize("dtype", precision.HALF_BUDGETS)
def test_half_precision(clip, dtype):
    """Oracle: the same log-mel of float32 audio; finite, and within a bound that grows with the distance in level."""
    found = precision.half_precision(dtype, clip)
    assert all(largest <= budget for (largest, _), budget in zip(found, precision.HALF_BUDGETS[dtype], strict=True))


def test_every_row_is_on_the_page():
    """Oracle: docs/precision.md itself."""
    page = (_PATH.parents[1] / "docs" / "precision.md").read_text()
    assert [
        row.function
        for row in precision.ROWS
        if f"`{row.function.partition(', ')[0].partition(' and ')[0]}`" not in page
    ] == []

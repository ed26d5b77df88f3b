"""Every config says what it is and runs in small."""

import ast
from pathlib import Path

import pytest

from mirjax import config

FOLDER = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("path", config.available(FOLDER), ids=lambda path: path.stem)
def test_smoke(path, tmp_path):
    """Oracle: each run leaves records whose values lie between 0 and 1, and a report."""
    import dataclasses

    header = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert "launch.py run" in header
    experiment, _ = config.load(path.stem, FOLDER)
    small = dataclasses.replace(experiment.smoke(), cache=str(tmp_path / "cache"))
    records = small.run(tmp_path / "run", progress=False)
    assert records
    assert all(0 <= record["value"] <= 1 for record in records)
    assert small.report([tmp_path / "run"]).to_text()
    assert (tmp_path / "run" / "report.md").stat().st_size

"""Every config says what it is and runs in small."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from mirjax import config

FOLDER = Path(__file__).parents[1] / "configs"


CONFIGS = config.available(FOLDER)
# One of each kind of experiment, and of each procedure that no other has; `-m slow` runs the others.
CHOSEN = {
    "ballroom_cnns", "boosted_trees", "choi_chroma", "elm_gap", "irmas", "phonemes", "rank_correlation",
    "screen_batchnorm", "screen_quickstart", "train_quickstart", "training_size", "whole_song",
}  # fmt: skip


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_plan(path):
    """Hand-worked: a header with the command, and a forecast of the small run, which does nothing with dry_run."""
    header = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert "launch.py run" in header
    small = dataclasses.replace(config.load(path.stem, FOLDER)[0].smoke(), dry_run=True)
    assert len(small.forecast()) > 40 and small.run(progress=False) == []


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=() if p.stem in CHOSEN else pytest.mark.slow) for p in CONFIGS],
    ids=lambda path: path.stem,
)
def test_smoke(path, tmp_path):
    """Oracle: each run leaves records whose values lie between 0 and 1, and a report."""
    experiment, _ = config.load(path.stem, FOLDER)
    small = dataclasses.replace(experiment.smoke(), cache=str(tmp_path / "cache"))
    records = small.run(tmp_path / "run", progress=False)
    assert records
    assert all(0 <= record["value"] <= 1 for record in records)
    assert small.report([tmp_path / "run"]).to_text()
    assert (tmp_path / "run" / "report.md").stat().st_size


def test_forecast_counts_networks_that_begin_with_others():
    """Hand-worked: the Ballroom study trains time_frequency twice, once from time and frequency."""
    told = config.load("ballroom_cnns", FOLDER)[0].smoke().forecast()
    assert "4 networks" in told and "time_frequency begun with time+frequency" in told


def told_commands():
    """(config, settings) of every `launch.py run` in the README, the docs and the configs' headers, data left out."""
    root = FOLDER.parent
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md")), *sorted(FOLDER.glob("*.py"))):
        text = re.sub(r"\\+\n\s*", " ", path.read_text(encoding="utf-8"))
        for name, rest in re.findall(r"launch\.py run ([a-z_]+)((?: +[a-z_]+=[^\s`]*)*)", text):
            yield " ".join([name, *(word for word in rest.split() if not word.startswith("data=") and "$" not in word)])


@pytest.mark.parametrize("command", sorted(set(told_commands())))
def test_commands_that_are_told_are_accepted(command):
    """Hand-worked: the settings fit the config and each other (the data that they are meant for are not here)."""
    name, *settings = command.split()
    config.override(config.load(name, FOLDER)[0], settings)


def test_commands_are_found():
    """Hand-picked: one of a line, one of two lines, and as many as were counted, about."""
    found = set(told_commands())
    songs = "architectures=at_scale_waveform/songs_1m,at_scale_spectrogram/songs_1m"
    assert {"training_size labels=many", f"training_size labels=values patch=15 {songs}"} <= found and len(found) > 40

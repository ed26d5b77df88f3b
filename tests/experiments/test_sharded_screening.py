"""Screenings in parts: their union is one run, whoever computed what, in which order, and whatever was killed."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mirjax import config, results
from mirjax.config import UsageError
from mirjax.data import dataset
from mirjax.experiments import report, screening_run, shards
from mirjax.experiments.screening import Screening
from mirjax.experiments.shards import Unit

ROOT = Path(__file__).parents[2]
TIMINGS = ("seconds", "feature_seconds_per_clip")


@pytest.fixture(scope="module")
def screening(tmp_path_factory):
    return Screening(
        name="small",
        data="rhythm_small",
        architectures="temporal,7x96",
        n="temporal:2,7x96:3",
        seeds=2,
        classifiers="knn,elm",
        input="raw,standardised",
        scaling="standard",
        seconds=2.0,
        cache=str(tmp_path_factory.mktemp("cache")),
    )


@pytest.fixture(scope="module")
def finished(screening, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    screening.run(folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def parts(screening, tmp_path_factory):
    """The folders of three parts."""
    whole = tmp_path_factory.mktemp("parts") / "run"
    return [dataclasses.replace(screening, shard=f"{part}/3").execute(whole, progress=False)[1] for part in (1, 2, 3)]


@pytest.fixture
def copied(parts, tmp_path):
    """The same parts, to be spoilt: what their whole is called."""
    for part in parts:
        shutil.copytree(part, tmp_path / part.name)
    return tmp_path / "run"


@pytest.fixture
def nothing_computed(monkeypatch):
    def compute(*_):
        raise AssertionError("a cell is computed though it is there")

    monkeypatch.setattr(screening_run.Run, "compute", compute)


def untimed(folder):
    return [
        {key: value for key, value in record.items() if key not in TIMINGS} for record in results.read_records(folder)
    ]


def predictions(*folders):
    return {path.name: path.read_bytes() for folder in folders for path in (folder / "predictions").iterdir()}


def same_run(one, other):
    assert untimed(one) == untimed(other)
    assert predictions(one) == predictions(other)


def test_union_of_the_parts_is_one_run(parts, finished):
    """Oracle: the run made in one go: the same records, each once, and the same decisions."""
    assert [part.name for part in parts] == ["run-shard-1-of-3", "run-shard-2-of-3", "run-shard-3-of-3"]
    each = [untimed(part) for part in parts]
    assert all(each)
    united = {record["fingerprint"]: record for records in each for record in records}
    assert len(united) == sum(map(len, each))
    assert united == {record["fingerprint"]: record for record in untimed(finished)}
    assert predictions(*parts) == predictions(finished)


def test_reports_of_the_parts_are_the_report_of_the_run(parts, finished, tmp_path):
    """Oracle: the table of the run made in one go, word for word but for the milliseconds of its features."""

    def words(folders):
        made = report.build_report(folders, tmp_path / "out")
        times = [row.feature_seconds_per_clip for table in made.tables for row in table.rows]
        assert len(times) > 10
        tables = [
            dataclasses.replace(
                table, rows=tuple(dataclasses.replace(row, feature_seconds_per_clip=0.0) for row in table.rows)
            )
            for table in made.tables
        ]
        return dataclasses.replace(made, tables=tuple(tables)).to_text()

    assert words(parts[::-1]) == words([finished])


def test_the_whole_takes_over_what_parts_left(screening, copied, finished, nothing_computed):
    """Oracle: the run made in one go, in its order; nothing is computed, the parts' folders go."""
    records, used = dataclasses.replace(screening, workdir=str(copied)).gather(3, progress=False)
    assert used == copied and len(records) == len(untimed(finished))
    same_run(copied, finished)
    assert [path.name for path in copied.parent.iterdir()] == ["run"]


def test_killed_anywhere_and_run_again(screening, copied, finished):
    """Oracle: the undisturbed run. One part is torn, one is gone, and the whole was killed while it took over."""
    screening.run(copied, progress=False)
    _, second, third = sorted(copied.parent.glob("run-shard-*"))
    lines = (second / "records.jsonl").read_text().splitlines(keepends=True)
    (second / "records.jsonl").write_text("".join(lines[:-20]) + lines[-20][:30])
    shutil.rmtree(third)
    lines = (copied / "records.jsonl").read_text().splitlines(keepends=True)
    (copied / "records.jsonl").write_text("".join(lines[:40]) + lines[40][:30])
    dataclasses.replace(screening, workdir=str(copied)).gather(3, progress=False)
    same_run(copied, finished)


def test_parts_resume_and_repeat(screening, copied, parts, nothing_computed):
    """Oracle: the bytes before; what a part lacks it takes over from the whole beside it."""
    first = copied.with_name(parts[0].name)
    before = (first / "records.jsonl").read_bytes()
    study = dataclasses.replace(screening, shard="1/3")
    study.run(copied, progress=False)
    assert (first / "records.jsonl").read_bytes() == before
    screening.run(copied, progress=False)
    for part in copied.parent.glob("run-shard-*"):
        shutil.rmtree(part)
    assert study.run(copied, progress=False)
    same_run(first, parts[0])


def test_a_part_in_use_or_with_more_in_it_stays(screening, copied, nothing_computed):
    """Oracle: by hand: of three parts one is locked, and one holds a record that the whole does not have."""
    first, second, third = sorted(copied.parent.glob("run-shard-*"))
    line = json.loads((second / "records.jsonl").read_text().splitlines()[0])
    with (second / "records.jsonl").open("a") as file:
        file.write(json.dumps(line | {"fingerprint": "of another study"}) + "\n")
    with results.RunFolder.open(first, json.loads((first / "config.json").read_text())):
        dataclasses.replace(screening, workdir=str(copied)).gather(3, progress=False)
    assert first.exists() and second.exists() and not third.exists()


def test_more_parts_than_there_is_work(screening, tmp_path):
    """Oracle: by hand: the last of 40 parts has no cell, and is a run folder like any other."""
    study = dataclasses.replace(screening, architectures="temporal", n="2", seeds=1, shard="40/40")
    records, folder = study.execute(tmp_path / "run", progress=False)
    assert records == [] == results.read_records(folder)
    assert "run again" in report.build_report([folder]).to_text()


def test_what_is_divided_does_not_tell_runs_apart(screening):
    """Oracle: the settings of the whole; folders by hand."""
    part = dataclasses.replace(screening, shard="2/8")
    assert part.settings() == dataclasses.replace(screening, processes=4).settings() == screening.settings()
    assert part.default_workdir() == screening.default_workdir()
    assert shards.folder(Path("runs/x"), "2/8") == Path("runs/x-shard-2-of-8")
    assert screening.as_part(1, 8).shard == "2/8" and part.as_part(0, 3).shard == "2/8"
    smoke = dataclasses.replace(screening, processes=4).smoke()
    assert smoke.processes is None and smoke.shard is None


@pytest.mark.parametrize(
    "wrong", [{"shard": text} for text in ("0/8", "9/8", "2", "2/8/9", "-1/2", "a/b", "")] + [{"processes": 0}]
)
def test_divisions_that_cannot_be(screening, wrong):
    """Oracle: by hand."""
    with pytest.raises(UsageError, match=next(iter(wrong))):
        dataclasses.replace(screening, **wrong)
    with pytest.raises(UsageError, match="both divide"):
        dataclasses.replace(screening, shard="1/2", processes=2)
    with pytest.raises(UsageError, match=r"for `launch\.py run`"):
        dataclasses.replace(screening, processes=2).run()
    with pytest.raises(UsageError, match="in one piece"):
        dataclasses.replace(screening, shard="1/2").features()


def test_division_is_even():
    """Oracle: by hand: the longest first, each to the part with the least to do (2 s more for each unit)."""
    units = [Unit("a", str(i), None, "raw", (0,), seconds) for i, seconds in enumerate([10, 50, 20, 31, 8, 1])]
    # 50 → 1, 31 → 2, 20 → 3, 10 → 3 (22), 8 → 2 (33), 1 → 3 (34)
    assert shards.shard_of(units, 3) == [3, 1, 3, 2, 2, 3]
    assert shards.shard_of(units, 1) == [1] * 6


def test_units_larger_than_a_share_are_cut_by_seeds(screening):
    """Oracle: by hand: every cell in one unit, none split; one network and many seeds still divide."""
    study = dataclasses.replace(screening, architectures="temporal", n="2", seeds=9, input="raw")
    sources, networks = study.sources(), study.networks()
    assert [unit.seeds for unit in shards.units(study, sources, networks, 1)] == [tuple(range(9))] * 2
    cut = shards.units(study, sources, networks, 8)
    assert cut[0][:4] == ("rhythm_small", None, None, "raw") and cut[0].seeds == tuple(range(9))
    assert sum((unit.seeds for unit in cut[1:]), ()) == tuple(range(9))
    assert len(cut) > 3
    source = dataset.open_source("rhythm_small")
    run = screening_run.Run(study, [source], False)
    for cell in run.cells(source):
        assert sum(shards.holds([unit], "rhythm_small", cell) for unit in cut) == 1
        assert not shards.holds(cut, "digits_small", cell)


SMALL = ["data=rhythm_small", "architectures=temporal", "seeds=1", "classifiers=elm", "input=raw", "seconds=6"]


def launch(*arguments, **environment):
    command = [sys.executable, str(ROOT / "launch.py"), "run", "screen_quickstart", *SMALL, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def study(*arguments):
    return config.override(config.load("screen_quickstart", ROOT / "configs")[0], [*SMALL, *arguments])


def test_processes_of_the_command_line(tmp_path):
    """Oracle: the run of one process: the same records in the same order; repeated, the same bytes."""
    own = [f"cache={tmp_path / 'cache'}", f"workdir={tmp_path / 'run'}"]
    done = launch(*own, "processes=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("architecture") and f"report and figures: {tmp_path / 'run'}/" in done.stdout
    assert "[1] part 2/2: " in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "run"]
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    study(own[0]).run(tmp_path / "alone", progress=False)
    same_run(tmp_path / "run", tmp_path / "alone")
    # As the second of two tasks under SLURM: its part alone, taken over from the whole.
    slurm = {"SLURM_JOB_ID": "9", "SLURM_STEP_NODELIST": "node1", "SLURM_LOCALID": "1", "SLURM_NTASKS": "2"}
    task = launch(*own, **slurm, SLURM_PROCID="1")
    assert task.returncode == 0, task.stderr
    assert f"part 2/2: 9 records in {tmp_path / 'run-shard-2-of-2'}/" in task.stdout
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before


def test_a_part_that_fails_fails_the_run(tmp_path):
    """Oracle: the worker's message and status; another process holds the second folder, so nothing is gathered."""
    own = [f"cache={tmp_path / 'cache'}", f"workdir={tmp_path / 'run'}"]
    with results.RunFolder.open(tmp_path / "run-shard-2-of-2", study().settings() | {"datasets": {}}):
        done = launch(*own, "processes=2")
    assert done.returncode == 1
    assert f"[1] launch.py: {tmp_path / 'run-shard-2-of-2'} is in use by process {os.getpid()}" in done.stderr
    assert "process 1 of 2 ended with status 1" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_number_of_processes_that_others_did_not_start():
    """Oracle: by hand: three asked for, the second of two started."""
    done = launch("processes=3", MIRJAX_NUM_PROCESSES="2", MIRJAX_PROCESS_ID="1")
    assert done.returncode == 2
    assert "processes=3, but 2 were started" in done.stderr

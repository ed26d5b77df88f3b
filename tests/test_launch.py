"""The command line: exit statuses, speed, names, and the main job in small."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[1]


def launch(*arguments, cwd=None, home=None):
    environment = os.environ | ({"HOME": str(home)} if home else {})
    command = [sys.executable, str(ROOT / "launch.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, ["run", "report", "features", "prepare", "list", "doctor"]),
        ([], 2, []),
        (["rnu"], 2, ["nearest: run"]),
        (["run"], 2, ["CONFIG"]),
        (["run", "screen_quikstart"], 2, ["nearest: screen_quickstart"]),
        (["run", "screen_quickstart", "sedes=2"], 2, ["'sedes'", "nearest: seeds"]),
        (["run", "screen_quickstart", "architectures=vgg,tembral"], 2, ["'tembral'", "timbral"]),
        (["run", "screen_quickstart", "classifiers=elm,svn"], 2, ["svn"]),
        (["run", "screen_quickstart", "data=digits_smal"], 2, ["digits_small"]),
        (["run", "screen_quickstart", "seeds=many"], 2, ["seeds='many'"]),
        (["list", "architecture"], 2, ["nearest: architectures"]),
        (["prepare", "spoken_digit"], 2, ["source=DIR"]),
        (["report"], 2, ["RUN"]),
        (["report", "nowhere"], 2, ["'nowhere' holds no records.jsonl"]),
        (["features", "screen_quickstart"], 2, ["out=FILE.npz"]),
        (["run", "screen_quickstart", "processes=many"], 2, ["processes='many'"]),
        (["run", "screen_quickstart", "processes=0"], 2, ["processes=0", "at least 1"]),
        (["run", "screen_quickstart", "shard=9/8"], 2, ["shard='9/8'", "2/8"]),
        (["run", "screen_quickstart", "shard=1/2", "processes=2"], 2, ["both divide"]),
        (["run", "screen_batchnorm", "processes=2"], 2, ["BatchNormStudy has no processes=", "Screening", "Training"]),
        (["run", "screen_batchnorm", "shard=1/2"], 2, ["BatchNormStudy has no shard="]),
    ],
)
def test_wrong_usage_is_answered_at_once(arguments, status, words):
    """Oracle: CONTRACT, "Commands": exit 2, the nearest known names, under a second, without importing jax."""
    began = time.process_time(), time.perf_counter()
    done = launch(*arguments)
    assert done.returncode == status
    for word in words:
        assert word in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert time.perf_counter() - began[1] < 5  # the promise is a second; a busy machine is given room


def test_wrong_usage_does_not_import_jax():
    """Oracle: the interpreter's own list of imported modules."""
    for arguments in (
        ["--help"],
        ["run", "screen_quickstart", "sedes=2"],
        ["run", "screen_quickstart", "architectures=x"],
        ["run", "screen_quickstart", "processes=2", "data=x"],
        ["run", "screen_batchnorm", "processes=2"],
    ):
        code = (
            "import sys\n"
            "import launch\n"
            f"try: launch.main({arguments!r})\n"
            "except SystemExit: pass\n"
            "print(sorted({'jax', 'scipy', 'sklearn', 'librosa', 'matplotlib'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_lists():
    """Oracle: the folders themselves; rows of networks have a test of their own (`test_listing`)."""
    configs = {row["name"] for row in json.loads(launch("list", "configs", "--json").stdout)}
    assert configs == {path.stem for path in (ROOT / "configs").glob("*.py")}
    data = {row["name"] for row in json.loads(launch("list", "datasets", "--json").stdout)}
    assert {"digits_small", "rhythm_small"} <= data
    assert launch("list", "architectures", "--width", "121").returncode == 2


@pytest.mark.slow
def test_list_of_networks_with_their_counts():
    """Oracle: ARCHITECTURES §1: what was published, and the integer counted on the built module; and table 1.6."""
    rows = {row["name"]: row for row in json.loads(launch("list", "architectures", "--json", "--width", "3500").stdout)}
    assert len(rows) >= 80 and all(row["width"] == 3500 for row in rows.values())
    assert (rows["vgg"]["n"], rows["vgg"]["features"], rows["vgg"]["parameters"]) == (717, 3585, 18_517_242)
    done = launch("list", "architectures", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    for name, published, reproduced in (
        ("black_box", "3,275,312", 3_275_312),
        ("irmas_multi", "743k", 743_723),
        ("at_scale_waveform/front_2_back_64_500", "1.3M", 1_366_010),
        ("musicnn_rnn", "3.8M", 3_871_363),
        ("music_tagger_crnn", "396,786", 396_786),
        ("kim_ms_cr_6", None, 3_717_776),
        ("beat_blstm/2013", "63,701", 63_701),
    ):
        assert (rows[name]["published"], rows[name]["reproduced"]) == (published, reproduced)


def test_describe():
    """Oracle: ARCHITECTURES §4.2 (IRMAS: maps of 4 × 4 × 448 → 128); usage as the contract has it."""
    done = launch("describe", "irmas_multi")
    assert done.returncode == 0
    for words in ("743k", "743,723", "Pons", "logits", "head/output/kernel"):
        assert words in done.stdout
    assert "n                  3" in launch("describe", "vgg", "n=3").stdout
    for arguments, words in (
        (["irmas_mlti"], "nearest: irmas_multi"),
        (["vgg", "n=0"], "n='0' must be a whole number from 1 to 10000"),
        (["vgg", "m=3"], "nearest: n"),
        (["black_box/lang"], "known: black_box/long"),
        ([], "usage"),
    ):
        done = launch("describe", *arguments)
        assert done.returncode == 2 and words in done.stderr


def test_doctor():
    """Oracle: the golden vectors inside; a healthy machine exits 0."""
    done = launch("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "jax ",
        "devices:",
        "jax_enable_x64",
        "golden log-mel",
        "golden timbral_temporal",
        "decoders:",
        "cache:",
    ):
        assert words in done.stdout
    assert "WRONG" not in done.stdout


def test_the_main_job_in_small(tmp_path):
    """Oracle: the files CONTRACT lists, exit 0, and the second run adding no record."""
    command = ["run", "screen_quickstart", "data=rhythm_small", "architectures=temporal,7x96", "n=temporal:4,7x96:4"]
    command += ["seeds=2", "seconds=3", f"cache={tmp_path / 'cache'}", f"workdir={tmp_path / 'run'}"]
    done = launch(*command)
    assert done.returncode == 0, done.stderr
    assert "temporal" in done.stdout
    files = {path.name for path in (tmp_path / "run").iterdir()}
    names = "config.json records.jsonl predictions report.md report.csv report.tex accuracy.png pareto.png log.txt"
    assert set(names.split()) <= files
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    assert launch(*command).returncode == 0
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before
    refused = launch(*command, "fit=zero")
    assert refused.returncode == 2
    assert "fit='zero'" in refused.stderr
    again = launch("report", tmp_path / "run", f"out={tmp_path / 'out'}")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out" / "report.csv").read_bytes() == (tmp_path / "run" / "report.csv").read_bytes()
    small = [part for part in command if not part.startswith("workdir")]
    assert launch("features", *small[1:], f"out={tmp_path / 'x.npz'}").returncode == 0
    with np.load(tmp_path / "x.npz") as table:
        assert set(table.files) >= {"features", "ids", "labels", "names"}
        assert table["features"].shape == (72, len(table["names"]))


def test_the_batch_norm_study_and_its_report(tmp_path):
    """Oracle: the files its report writes; `report` of such a folder makes the same, and mixes with no screening."""
    run = tmp_path / "run"
    command = ["run", "screen_batchnorm", "n=4", "seeds=2", "batch_sizes=1,9", "orders=sorted", "seconds=6"]
    done = launch(*command, f"workdir={run}", f"cache={tmp_path / 'cache'}")
    assert done.returncode == 0, done.stderr
    before = (run / "report.md").read_bytes()
    assert launch("report", run).returncode == 0
    assert (run / "report.md").read_bytes() == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "records.jsonl").write_text('{"options": {}, "fingerprint": "0"}\n')
    assert launch("report", run, other).returncode == 2


def test_dry_run_and_failures(tmp_path):
    """Oracle: CONTRACT: 0 done, 1 failed; nothing computed by a dry run."""
    done = launch("run", "screen_quickstart", "dry_run=True", f"workdir={tmp_path / 'run'}")
    assert done.returncode == 0
    assert "cells" in done.stdout
    assert not (tmp_path / "run").exists()
    (tmp_path / "empty").mkdir()
    failed = launch("run", "screen_quickstart", f"data={tmp_path / 'empty'}", f"workdir={tmp_path / 'run'}")
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr


def test_a_random_split_of_grouped_data_must_be_asked_for_by_name(tmp_path):
    """Oracle: CONTRACT and issue: refused with both remedies named; each remedy then works."""
    rng = np.random.default_rng(0)
    rows = ["path,label,speaker"]
    for i in range(20):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * rng.normal(size=6_000), 12_000)
        rows.append(f"{i}.wav,{'ab'[i % 2]},s{i // 2 % 10}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    command = ["run", "screen_quickstart", f"data={tmp_path}", "architectures=temporal", "n=4", "seeds=1"]
    command += ["classifiers=knn", "input=raw", "seconds=0.5", f"cache={tmp_path / 'cache'}"]
    refused = launch(*command, f"workdir={tmp_path / 'refused'}")
    assert refused.returncode != 0
    for word in ("speaker", "group=speaker", "group=none"):
        assert word in refused.stderr
    assert not (tmp_path / "refused").exists()
    for group in ("none", "speaker"):
        done = launch(*command, f"group={group}", f"workdir={tmp_path / group}")
        assert done.returncode == 0, done.stderr
        rows = (tmp_path / group / "predictions").glob("*temporal*")
        groups = {json.loads(line)["group"] for path in rows for line in path.read_text().splitlines()}
        assert len(groups) == {"none": 20, "speaker": 10}[group]


def test_prepare_without_a_folder(tmp_path):
    """Oracle: a clear error, exit 1."""
    failed = launch("prepare", "spoken_digit", f"source={tmp_path / 'gone'}", f"data_dir={tmp_path}")
    assert failed.returncode in (1, 2)
    assert "gone" in failed.stderr
    assert "Traceback" not in failed.stderr


TOGETHER = """
import dataclasses
from pathlib import Path

@dataclasses.dataclass(frozen=True)
class Together:
    communicates = True
    processes: int | str | None = None
    torn: bool = False
    dry_run: bool = False

    def sources(self):
        return []

    def execute(self, *, progress):
        import jax, numpy as np
        from jax.experimental import multihost_utils

        if self.torn and jax.process_index() == 1:
            raise ValueError("clip 17 is torn")
        self.__dict__["sum"] = int(multihost_utils.process_allgather(np.array([1 + jax.process_index()])).sum())
        return [], Path(f"folder-{progress}")

    def report(self, folders):
        self.__dict__["folders"] = folders
        return self

    def to_text(self):
        return f"sum {self.sum} of {self.folders}"

experiment = Together()
"""


def test_processes_that_communicate(tmp_path):
    """Oracle: 1 + 2 by hand, told once; the message and status of a process that fails while the other waits for it."""
    (tmp_path / "together.py").write_text(TOGETHER)
    done = launch("run", tmp_path / "together.py", "processes=2")
    assert done.returncode == 0, done.stderr
    # JAX's own line, written in pieces by every process, so that one may stand in the midst of another.
    told = [line for line in done.stdout.splitlines() if "[Gloo]" not in line and "peer ranks" not in line]
    assert told == [f"sum 3 of [{Path('folder-True')!r}]", "", told[-1]]
    began = time.perf_counter()
    failed = launch("run", tmp_path / "together.py", "processes=2", "torn=true")
    assert failed.returncode == 1
    assert "[1] launch.py: clip 17 is torn" in failed.stderr
    assert time.perf_counter() - began < 60
    alone = launch("run", tmp_path / "together.py", "processes=auto")
    assert alone.returncode == 1
    assert "JAX cannot join other processes here" in alone.stderr and "srun" in alone.stderr

"""Runs librosa's own tests twice, with librosa and with ours in its place, and writes what came of it.

    python tests/external/scorecard.py FOLDER [--files core,filters] [--select EXPRESSION] [--accept]

FOLDER holds librosa's `tests/` (with `tests/data/`); nothing is written into it. What librosa itself passes here is the
denominator. `scorecard.json` holds the counts, the names of failures and the largest errors, and under "known" the
floor: failures and delegations that were there before, a list that a run shortens and only --accept lengthens.
Names: `run_suite`, `make_card`, `find_regressions`, `update_known`, `render`, `FILES`.
"""

import argparse
import collections
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CARD = HERE / "scorecard.json"
FILES = (
    "filters convert failures met_features features constantq multichannel decompose effects onset beat core".split()
)
# Errors vary with the suite's random inputs.
ERROR_SLACK, ERROR_FLOOR = 10, 1e-12


def environment(scratch):
    """Environment of the suite's processes: 64 bit, and every cache below `scratch`."""
    dropped = ("XLA_FLAGS", "PYTEST_ADDOPTS", "LIBROSA_CACHE_DIR", "LIBROSA_DATA_DIR")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {
        "JAX_PLATFORMS": "cpu",
        **kept,
        "JAX_ENABLE_X64": "1",
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "NUMBA_CACHE_DIR": str(scratch / "numba"),
        "MPLBACKEND": "Agg",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",  # a checkout of librosa in FOLDER must not be imported
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
    }


def list_files(folder):
    """Every file below a folder with its size and time of change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        found[str(path.relative_to(folder))] = (state.st_size, state.st_mtime_ns)
    return found


def run_file(folder, name, scratch, *, substitute, select=None):
    """Run one of the suite's files in a process of its own; returns (tests by id, summary)."""
    who = "ours" if substitute else "librosa"
    report, log = scratch / f"{who}_{name}.jsonl", scratch / f"{who}_{name}.log"
    settings = scratch / "pytest.ini"
    settings.write_text("[pytest]\n")  # none of the folder's own settings, which may ask for plugins
    command = [sys.executable, "-m", "pytest", "-p", "librosa_plugin", "-p", "no:cacheprovider", "-c", str(settings)]
    command += ["--rootdir", str(folder), "--librosa-isolation", "--external-report", str(report), "-q", "--tb=short"]
    command += ["--substitute", "--compare"] if substitute else []
    command += ["-k", select] if select else []
    with open(log, "w") as output:
        process = subprocess.run(
            [*command, f"tests/test_{name}.py"],
            cwd=folder,
            env=environment(scratch),
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    records = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
    if not records or "summary" not in records[-1]:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise RuntimeError(f"test_{name}.py with {who} ended early (code {process.returncode}); {log}:\n{tail}")
    summary = records.pop()
    return {record["id"]: record for record in records}, summary


def run_suite(folder, scratch, *, files=FILES, select=None):
    """Both runs of every file; the folder must be as before afterwards. Returns {file: (theirs, ours, summary)}."""
    folder, scratch = Path(folder).resolve(), Path(scratch)
    present = [name for name in files if (folder / "tests" / f"test_{name}.py").exists()]
    if not present or not (folder / "tests" / "data").is_dir():
        raise FileNotFoundError(f"{folder} holds no librosa tests: tests/test_*.py and tests/data/ are needed")
    before = list_files(folder)
    results = {}
    for name in present:
        theirs, _ = run_file(folder, name, scratch, substitute=False, select=select)
        mine, summary = run_file(folder, name, scratch, substitute=True, select=select)
        results[f"test_{name}.py"] = (theirs, mine, summary)
        print(f"test_{name}.py: {len(mine)} tests", file=sys.stderr, flush=True)
    if list_files(folder) != before:
        raise RuntimeError(f"the run changed files in {folder}")
    return results


def _function(test_id):
    return test_id.partition("[")[0]


def _grouped(records):
    """Failures by test function: how many, which, and what the first said."""
    groups = {}
    for record in records:
        says = record.get("message", record["outcome"])
        group = groups.setdefault(_function(record["id"]), {"count": 0, "says": says, "cases": []})
        group["count"] += 1
        group["cases"].append(record["id"].partition("[")[2].removesuffix("]"))
    return groups


def _file_card(theirs, mine, summary):
    asked = {test for test, record in theirs.items() if record["outcome"] == "passed"}
    expected = {test for test, record in theirs.items() if record["outcome"] == "xfailed"}
    absent = {"outcome": "absent"}
    passed = [mine[test] for test in asked if mine.get(test, absent)["outcome"] == "passed"]
    failed = [mine.get(test, {"id": test, **absent}) for test in sorted(asked)]
    failed = [record for record in failed if record["outcome"] != "passed"]
    lost = [mine.get(test, {"id": test, **absent}) for test in sorted(expected)]
    lost = [record for record in lost if record["outcome"] != "xfailed"]
    delegated = [record for record in passed if record["delegated"]]
    return {
        "collected": len(theirs),
        "denominator": len(asked),
        "passed": len(passed),
        "passed_by_ours": sum(bool(record["ours"]) and not record["delegated"] for record in passed),
        "passed_delegated": len(delegated),
        "passed_untouched": sum(not record["ours"] and not record["delegated"] for record in passed),
        "failed": _grouped(failed),
        "delegated": dict(sorted(collections.Counter(_function(record["id"]) for record in delegated).items())),
        "expected_failures": {"librosa": len(expected), "ours": len(expected) - len(lost), "lost": _grouped(lost)},
        "not_asked": len(theirs) - len(asked) - len(expected),
        "passed_where_librosa_fails": sum(
            record["outcome"] == "passed" and theirs.get(test, absent)["outcome"] in ("failed", "error")
            for test, record in mine.items()
        ),
        "largest_error": {
            bits: max(value for _, b, value in summary["errors"] if b == bits)
            for bits in sorted({b for _, b, _ in summary["errors"]})
        },
        "seconds": {
            "librosa": round(sum(record["seconds"] for record in theirs.values())),
            "ours": round(sum(record["seconds"] for record in mine.values())),
        },
    }


def _functions_card(summaries):
    """What became of the calls of each function, over all files."""
    functions = {}
    for path in sorted({path for summary in summaries for path in summary["substituted"]}):
        calls = {
            kind: sum(summary[kind].get(path, 0) for summary in summaries)
            for kind in ("ours", "refused", "delegated", "compared", "shapes_differ")
        }
        errors = {}
        for summary in summaries:
            for name, bits, value in summary["errors"]:
                if name == path:
                    errors[bits] = max(errors.get(bits, 0.0), value)
        functions[path] = calls | {"largest_error": errors}
    return functions


def make_card(results, folder):
    """The scorecard of `run_suite`'s results, without its floor."""
    summaries = [summary for _, _, summary in results.values()]
    files = {name: _file_card(*result) for name, result in results.items()}
    counts = [key for key, value in next(iter(files.values())).items() if isinstance(value, int)]
    reasons = sum((collections.Counter(summary["reasons"]) for summary in summaries), collections.Counter())
    data = sorted(path.name for path in (Path(folder) / "tests" / "data").iterdir())
    packages = ("mirjax", "jax", "jaxlib", "numpy", "scipy", "librosa", "numba", "pytest")
    return {
        "suite": "librosa's own tests",
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in packages},
        "fixtures": {
            "files": len(data),
            "stft": [name for name in data if name.startswith("core-stft-")],
            "istft": [name for name in data if name.startswith("core-istft-")],
        },
        "total": {key: sum(card[key] for card in files.values()) for key in counts}
        | {
            "failed": sum(group["count"] for card in files.values() for group in card["failed"].values()),
            "expected_failures": sum(card["expected_failures"]["librosa"] for card in files.values()),
            "expected_failures_lost": sum(
                group["count"] for card in files.values() for group in card["expected_failures"]["lost"].values()
            ),
        },
        "files": files,
        "functions": _functions_card(summaries),
        "absent": sorted({path for summary in summaries for path in summary["absent"]}),
        "reasons_to_delegate": dict(sorted(reasons.items())),
    }


def _standing(card):
    """What a card holds against us: ids of failed tests and of lost expected failures, functions that delegate."""
    failed, lost, delegated = set(), set(), set()
    for content in card["files"].values():
        delegated |= set(content["delegated"])
        for found, groups in ((failed, content["failed"]), (lost, content["expected_failures"]["lost"])):
            for function, group in groups.items():
                found |= {f"{function}[{case}]" if case else function for case in group["cases"]}
    return {"failed": failed, "lost": lost, "delegated": delegated}


def find_regressions(card, known):
    """Sentences on all that is worse than the floor `known` of an earlier card (None: there is no floor)."""
    if known is None:
        return []
    worse = []
    for kind, names in _standing(card).items():
        worse += [f"{kind}: {name}" for name in sorted(names - set(known[kind]))]
    for path, content in card["functions"].items():
        for bits, value in content["largest_error"].items():
            bound = max(ERROR_SLACK * known["errors"].get(path, {}).get(bits, float("inf")), ERROR_FLOOR)
            if value > bound:
                worse.append(f"error of {path} in {bits}: {value:.2e}, floor {bound:.2e}")
    return worse


def update_known(card, known):
    """The floor after a run: what has been mended leaves it, nothing enters it; a first run founds it."""
    standing = _standing(card)
    errors = {path: content["largest_error"] for path, content in card["functions"].items()}
    if known is None:
        return {kind: sorted(names) for kind, names in standing.items()} | {"errors": errors}
    files = set(card["files"])
    kept = {
        kind: [name for name in known[kind] if name in names or name.partition("::")[0] not in files]
        for kind, names in standing.items()
    }
    return kept | {"errors": errors | known["errors"]}


def render(card):
    """The card as a table of text."""
    columns = ("denominator", "passed", "passed_by_ours", "passed_delegated", "passed_untouched")
    rows = [("file", "librosa", "passed", "by ours", "delegated", "untouched", "failed", "xfail", "lost", "error")]
    notes = []
    for name, content in card["files"].items():
        expected = content["expected_failures"]
        failed, lost = content["failed"], expected["lost"]
        bad = [sum(group["count"] for group in groups.values()) for groups in (failed, lost)]
        errors = ", ".join(f"{bits} {value:.0e}" for bits, value in content["largest_error"].items())
        rows.append((name, *(content[key] for key in columns), bad[0], expected["librosa"], bad[1], errors))
        for kind, groups in (("failed", failed), ("lost", lost)):
            for test, group in groups.items():
                notes.append(f"{kind}: {test} ({group['count']}): {group['says'][:160]}")
    keys = (*columns, "failed", "expected_failures", "expected_failures_lost")
    rows.append(("all", *(card["total"][key] for key in keys), ""))
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    table = ["  ".join(str(cell).ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]
    if card["absent"]:
        notes.append(f"absent from ours: {', '.join(card['absent'])}")
    return "\n".join([*table, *notes])


def read_known(path=CARD):
    """The floor of the committed card, or None."""
    return json.loads(path.read_text())["known"] if path.exists() else None


def write_card(card, path=CARD):
    """Write the card as JSON."""
    path.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")


def main():
    """Run the suite from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", default=",".join(FILES), help="names without test_ and .py, by commas")
    parser.add_argument("--select", help="pytest's -k; the card is then printed, not written")
    parser.add_argument("--accept", action="store_true", help="found the floor anew on this run")
    parser.add_argument("--scratch", type=Path, help="folder for reports, logs and caches")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = arguments.scratch or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        files = arguments.files.split(",")
        results = run_suite(arguments.folder, scratch, files=files, select=arguments.select)
    card = make_card(results, arguments.folder)
    known = None if arguments.accept else read_known()
    print(render(card))
    worse = find_regressions(card, known)
    print("\n".join(["", *worse]) if worse else "no floor is broken")
    if set(files) == set(FILES) and not arguments.select:
        write_card(card | {"known": update_known(card, known)})
    sys.exit(bool(worse))


if __name__ == "__main__":
    main()

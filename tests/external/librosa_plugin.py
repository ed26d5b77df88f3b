"""pytest plugin: run librosa's own tests, unmodified, with librosa's functions or with ours, and keep the account.

    PYTHONPATH=tests/external python -m pytest -p librosa_plugin --external-report FILE [--substitute] [--compare] ...

Every test becomes one JSON line of the report: its outcome, the calls that ours answered and those that fell to
librosa (`substitution.Ledger`), fixtures included. The last line sums up the calls.
"""

import collections
import contextlib
import ctypes
import gc
import json
import resource
import sys
from pathlib import Path

import pytest
import substitution


def pytest_addoption(parser):
    group = parser.getgroup("external")
    group.addoption("--external-report", help="file that gets one JSON line a test")
    group.addoption("--substitute", action="store_true", help="put our functions in the place of librosa's")
    group.addoption("--compare", action="store_true", help="ask librosa too at each call, and keep the largest error")


def pytest_configure(config):
    if config.getoption("--external-report"):
        config.pluginmanager.register(Account(config), "external-account")


# Thousands of settings, each compiled with its constants, would fill the memory.
MEMORY_LIMIT = 3 << 30


def _resident_bytes():
    """Memory of this process; 0 where the system does not tell."""
    statistics = Path("/proc/self/statm")
    return int(statistics.read_text().split()[1]) * resource.getpagesize() if statistics.exists() else 0


def _forget_compiled():
    import jax

    jax.clear_caches()
    for module in [module for name, module in sys.modules.items() if name.startswith("mirjax.")]:
        for value in list(vars(module).values()):
            getattr(value, "cache_clear", lambda: None)()
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


class Account:
    """Records outcomes and calls of one session."""

    def __init__(self, config):
        self.absent, self.substituted = [], []
        if config.getoption("--substitute"):
            import adapters  # noqa: F401  registers itself

            self.substituted, self.absent = substitution.install(compare=config.getoption("--compare"))
        else:
            substitution.import_all_of_librosa()
        self.fixtures = {}
        self.current = {}
        self.file = open(config.getoption("--external-report"), "w")

    def write(self, record):
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        """Calls made by a fixture count for every test that uses it."""
        before = substitution.LEDGER.counts()
        yield
        after = substitution.LEDGER.counts()
        self.fixtures[fixturedef.argname] = [b - a for a, b in zip(before, after, strict=True)]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item, nextitem):
        before = substitution.LEDGER.counts()
        self.current = {"id": item.nodeid.removeprefix("tests/"), "outcome": "passed", "seconds": 0.0}
        yield
        after = substitution.LEDGER.counts()
        for i, name in enumerate(("ours", "delegated")):
            calls = after[i] - before[i]
            for fixture in getattr(item, "fixturenames", ()):
                calls += self.fixtures.get(fixture, (collections.Counter(),) * 2)[i]
            self.current[name] = sorted(calls)
        self.write(self.current)
        if self.substituted and _resident_bytes() > MEMORY_LIMIT:
            _forget_compiled()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = (yield).get_result()
        record = self.current
        record["seconds"] = round(record["seconds"] + report.duration, 3)
        if hasattr(report, "wasxfail"):
            record["outcome"] = "xfailed" if report.outcome == "skipped" else "xpassed"
        elif report.outcome == "failed":
            record["outcome"] = "failed" if report.when == "call" else "error"
        elif report.outcome == "skipped" and record["outcome"] == "passed":
            record["outcome"] = "skipped"
        if report.outcome == "failed" and call.excinfo is not None:
            text = call.excinfo.exconly().strip().splitlines()
            place = call.excinfo.traceback[-1]
            record["message"] = f"{' '.join(text)[:300]} ({place.path.name}:{place.lineno + 1})"

    def pytest_sessionfinish(self):
        ledger = substitution.LEDGER
        self.write(
            {
                "summary": True,
                "substituted": self.substituted,
                "absent": self.absent,
                "ours": ledger.ours,
                "refused": ledger.refused,
                "delegated": ledger.delegated,
                "reasons": ledger.reasons,
                "compared": ledger.compared,
                "shapes_differ": ledger.shapes_differ,
                "errors": [[*key, value] for key, value in sorted(ledger.errors.items())],
            }
        )

    def pytest_unconfigure(self):
        self.file.close()

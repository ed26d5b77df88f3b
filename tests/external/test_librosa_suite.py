"""librosa's own test suite, unmodified, with our functions in the place of librosa's; and tests of the adapters."""

import importlib
import inspect
import json
import os
import re
import warnings
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
VARIABLE = "MIRJAX_EXTERNAL_LIBROSA"


@pytest.fixture
def scorecard(monkeypatch):
    """The module that runs the suite; this folder is no package, as the suite's processes import from it."""
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module("scorecard")


@pytest.fixture
def substitution(monkeypatch):
    """The module of wrappers, with every adapter registered and none installed."""
    monkeypatch.syspath_prepend(HERE)
    importlib.import_module("adapters")
    return importlib.import_module("substitution")


@pytest.mark.slow
def test_librosa_suite(scorecard, tmp_path, capsys):
    """Oracle: librosa 0.11's own tests and their MATLAB fixtures, as far as librosa itself passes them here."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        message = (
            f"{VARIABLE} is not set, so librosa's own tests did NOT run against ours: set it to a folder that holds "
            "librosa 0.11's tests/ with tests/data/ (a checkout at tag 0.11.0 with librosa-test-data)"
        )
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    known = scorecard.read_known()
    card = scorecard.make_card(scorecard.run_suite(folder, tmp_path), folder)
    scorecard.write_card(card | {"known": scorecard.update_known(card, known)})
    with capsys.disabled():
        print("\n" + scorecard.render(card))
    worse = scorecard.find_regressions(card, known)
    assert not worse, "below the floor of scorecard.json:\n" + "\n".join(worse)


def test_adapters_have_librosas_signatures(substitution):
    """Oracle: the signatures of the installed librosa."""
    for path, (function, _, _) in substitution.ADAPTERS.items():
        module, _, name = path.rpartition(".")
        theirs = inspect.signature(getattr(importlib.import_module(f"librosa.{module}"), name)).parameters.values()
        wanted = {"kwargs" if p.kind is p.VAR_KEYWORD else p.name for p in theirs}
        mine = inspect.signature(function).parameters.values()
        if not any(p.kind is p.VAR_KEYWORD for p in mine):
            required = {p.name for p in mine if p.default is p.empty}
            assert required <= wanted <= {p.name for p in mine}, path


def test_every_unsupported_call_is_in_the_table(substitution):
    """Identity: the reasons that adapters give are the entries of `UNSUPPORTED`, each of them used."""
    adapters = importlib.import_module("adapters")
    used = set(re.findall(r'unsupported\("([^"]+)"\)', (HERE / "adapters.py").read_text()))
    assert used == set(adapters.UNSUPPORTED)


def test_every_call_is_accounted_for(substitution, monkeypatch):
    """Hand-worked: an answer and a refusal are ours, an unsupported call is librosa's and counted as such."""
    import librosa

    ledger = substitution.Ledger()
    monkeypatch.setattr(substitution, "LEDGER", ledger)

    def original(x, *, scale=1.0, **kwargs):
        return scale * x

    def adapted(x, scale, kwargs):
        if scale == 0:
            raise ValueError("scale=0")
        if kwargs:
            raise substitution.Unsupported("more")
        return scale * x + 0.25

    call = substitution._wrapper("module.name", original, adapted, True)
    call.comparing = True
    assert call(2.0, scale=3.0) == 6.25
    with pytest.raises(librosa.ParameterError, match="scale=0"):
        call(2.0, scale=0)
    assert call(2.0, other=1) == 2.0
    assert (ledger.ours, ledger.refused, ledger.delegated) == (
        {"module.name": 2},
        {"module.name": 1},
        {"module.name": 1},
    )
    assert ledger.errors == {("module.name", "float64"): 0.25 / 6}


def record(test, outcome, ours=(), delegated=()):
    """One line of the plugin's report."""
    return {"id": test, "outcome": outcome, "ours": list(ours), "delegated": list(delegated), "seconds": 0.0}


def results(outcome="passed", delegated=(), error=1e-7):
    """What `run_suite` returns of a suite of three tests."""
    theirs = [record("t.py::a[1]", "passed"), record("t.py::b", "xfailed"), record("t.py::c", "failed")]
    mine = [
        record("t.py::a[1]", outcome, ["stft"], delegated),
        record("t.py::b", "xfailed", ["stft"]),
        record("t.py::c", "passed"),
    ]
    summary = {"substituted": ["stft"], "absent": [], "reasons": {}, "errors": [["stft", "float32", error]]}
    summary |= {kind: {} for kind in ("ours", "refused", "delegated", "compared", "shapes_differ")}
    return {"t.py": ({r["id"]: r for r in theirs}, {r["id"]: r for r in mine}, summary)}


@pytest.fixture
def folder(tmp_path):
    """A folder with one fixture."""
    (tmp_path / "tests" / "data").mkdir(parents=True)
    (tmp_path / "tests" / "data" / "core-stft-001.mat").touch()
    return tmp_path


def test_card_counts(scorecard, folder):
    """Hand-worked: what librosa fails is not asked, what fell to librosa is not passed by ours."""
    card = scorecard.make_card(results(delegated=["stft"]), folder)
    content = card["files"]["t.py"]
    assert (content["denominator"], content["passed"], content["passed_by_ours"], content["passed_delegated"]) == (
        1,
        1,
        0,
        1,
    )
    assert content["not_asked"] == 1 and content["passed_where_librosa_fails"] == 1
    assert card["fixtures"]["stft"] == ["core-stft-001.mat"]
    assert json.loads(json.dumps(card)) == card and "t.py" in scorecard.render(card)


@pytest.mark.parametrize(
    ("worse", "message"),
    [
        ({"outcome": "failed"}, "failed: t.py::a[1]"),
        ({"delegated": ["stft"]}, "delegated: t.py::a"),
        ({"error": 1e-5}, "error of stft in float32"),
    ],
)
def test_floor(scorecard, folder, worse, message):
    """Hand-worked: a new failure, a new delegation or ten times the error break the floor, and do not enter it."""
    known = scorecard.update_known(scorecard.make_card(results(), folder), None)
    card = scorecard.make_card(results(**worse), folder)
    assert scorecard.find_regressions(scorecard.make_card(results(), folder), known) == []
    (sentence,) = scorecard.find_regressions(card, known)
    assert sentence.startswith(message)
    assert scorecard.update_known(card, known) == known
    # What was known before is no regression, and is forgotten once mended.
    accepted = scorecard.update_known(card, None)
    assert scorecard.find_regressions(card, accepted) == []
    mended = scorecard.update_known(scorecard.make_card(results(), folder), accepted)
    assert not mended["failed"] and not mended["delegated"]


def test_a_folder_without_tests_is_refused(scorecard, tmp_path):
    """Hand-worked: the error says what the folder must hold."""
    with pytest.raises(FileNotFoundError, match="tests/data/ are needed"):
        scorecard.run_suite(tmp_path, tmp_path)

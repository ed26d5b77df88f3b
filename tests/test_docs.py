"""The pages of docs/: every name on them exists, every example runs, none of librosa's features is passed over."""

import importlib
import re
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "librosa.md").read_text(encoding="utf-8")


def tables():
    """(heads, cells) of every row of every table; a head is a column's title."""
    heads = None
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            heads = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if heads is None:
            heads = [cell.strip() for cell in cells]
        elif set(line) - set("| -:"):
            yield heads, cells


def names(title):
    """Backticked names in the columns of that title that look like `module.name`."""
    for heads, cells in tables():
        for head, cell in zip(heads, cells, strict=True):
            if head == title:
                yield from (name for name in re.findall(r"`([^`]+)`", cell) if re.fullmatch(r"\w+(\.\w+)+", name))


def resolve(name):
    """The object of a dotted name, its modules imported on the way."""
    first, *rest = name.split(".")
    found, path = importlib.import_module(first), first
    for part in rest:
        path += f".{part}"
        if not hasattr(found, part):
            importlib.import_module(path)
        found = getattr(found, part)
    return found


def test_every_name_exists():
    """Oracle: Python's import of each."""
    ours, theirs = set(names("ours")), set(names("librosa"))
    assert len(ours) > 90 and len(theirs) > 130
    for name in ours:
        resolve(name if name.startswith("mirjax.") else f"mirjax.signal.{name}")
    for name in theirs:
        assert name.startswith("librosa."), name
        resolve(name)
    # In the third column as well, whatever reads like one of our modules' names.
    modules = {path.stem for path in (DOCS.parent / "mirjax" / "signal").glob("[a-z]*.py")}
    for name in re.findall(r"`(\w+\.\w+)`", PAGE):
        if name.split(".")[0] in modules:
            resolve(f"mirjax.signal.{name}")


@pytest.mark.parametrize(
    "module", ["feature", "feature.inverse", "filters", "effects", "onset", "beat", "decompose", "segment", "sequence"]
)
def test_nothing_of_librosa_is_passed_over(module):
    """Oracle: the public names of librosa's modules."""
    found = importlib.import_module(f"librosa.{module}")
    public = set(found.__all__) - {"inverse"}
    assert {f"librosa.{module}.{name}" for name in public} <= set(names("librosa"))


def test_transforms_of_librosas_core_are_there():
    """Oracle: librosa.core's functions of audio and of spectra, by the name of their first argument."""
    import inspect

    public = [name for name in librosa.core.__all__ if callable(getattr(librosa, name, None))]
    taken = [n for n in public if next(iter(inspect.signature(getattr(librosa, n)).parameters), "") in ("y", "S", "D")]
    assert len(taken) > 20
    assert {f"librosa.{name}" for name in taken} - {"librosa.get_duration"} <= set(names("librosa"))


def test_examples_run():
    """Oracle: the comments of the examples, by their shapes and by the whole clip."""
    scope = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(code, "docs/librosa.md", "exec"), scope)
    assert scope["power"].shape == (8, 44, 128) and scope["mfcc"].shape == (8, 44, 20)
    assert scope["log_mel"].shape(12_000) == (47, 96) and scope["musicnn"].sample_rate == 16_000
    assert scope["slope"].shape == (22_050,)
    whole = scope["live"](scope["clip"])
    assert whole.shape == scope["frames"].shape and abs(whole - scope["frames"]).max() <= 1e-4


@pytest.mark.filterwarnings("ignore:.*hidden units keep fewer")
def test_examples_of_the_classifiers_run():
    """Oracle: the page's own assertion, and the accuracies that README names."""
    page = (DOCS / "classifiers.md").read_text(encoding="utf-8")
    scope = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "docs/classifiers.md", "exec"), scope)
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    line = next(line for line in readme.splitlines() if line.startswith("print(published.score"))
    said = [float(number) for number in re.findall(r"0\.\d\d", line)]
    x, y = scope["x"][1000:], scope["y"][1000:]
    assert [round(scope[name].score(x, y), 2) for name in ("published", "chosen")] == said


def test_examples_of_training_run(tmp_path, monkeypatch):
    """Oracle: the page: records of the network and its baselines, a tagger with the eight rhythms, a finite loss."""
    page = (DOCS / "training.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    soundfile.write("song.wav", np.sin(np.arange(100_000) / 9), 12_000)
    scope = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(code, "docs/training.md", "exec"), scope)
    assert {record["architecture"] for record in scope["records"]} == {scope["network"], "mfcc", "majority", "chance"}
    assert {*scope["by_windows"], *scope["at_once"]} <= {*scope["tagger"].names}
    assert len(scope["tagger"].names) == 8 and 0 < float(scope["metrics"]["loss"]) < 20


def test_example_of_the_zoo_runs(tmp_path, monkeypatch, capsys):
    """Oracle: ARCHITECTURES §1.2 (musicnn: 787,159), and the comments of the example."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    code = next(code for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "zoo.match" in code)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-2:] == ["787159 10", "(2, 64) (2, 10)"]


@pytest.mark.parametrize("name", ["representations.png", "zoo_pareto.png"])
def test_figures_are_small(name):
    """Oracle: the PNG signature and the size that a page may load."""
    content = (DOCS / name).read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) < 400_000

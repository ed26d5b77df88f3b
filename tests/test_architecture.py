"""Oracle: DESIGN §2 (the floors). Reads every import of the package and holds it against them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mirjax"
FLOORS = [
    {
        "signal",
        "classifiers",
        "metrics",
        "decisions",
        "rules",
        "optimisers",
        "results",
        "statistics",
        "rankings",
        "config",
    },
    {"data", "models"},
    {"features", "inspection", "train", "checkpoint", "processes", "proxies"},
    {"tasks"},
    {"experiments", "plots"},
]
ONLY_IN = {
    "flax": ("models",),
    "librosa": ("data/audio.py", "plots/"),
    "matplotlib": ("plots/",),
    "orbax": ("checkpoint.py",),
    "tensorflow_datasets": ("data/",),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = ["mirjax", *path.relative_to(PACKAGE).parent.parts][
                    : None if node.level == 1 else 1 - node.level
                ]
                yield ".".join([*base, node.module or ""]).rstrip(".")
                yield from (".".join([*base, node.module or "", alias.name]).replace("..", ".") for alias in node.names)
            else:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(parts):
    name = parts[0].removesuffix(".py")
    return next((i for i, floor in enumerate(FLOORS) if name in floor), None), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    relative = path.relative_to(PACKAGE)
    if relative.name == "__init__.py" and len(relative.parts) == 1:
        return
    floor, package = place(relative.parts)
    assert floor is not None, f"{relative} stands on no floor"
    for name in imports(path):
        top, *rest = name.split(".")
        allowed = ONLY_IN.get(top)
        if allowed is not None:
            assert str(relative).startswith(allowed), f"{relative} imports {name}"
        if top == "mirjax" and rest:
            other, other_package = place(rest)
            if other is None:  # mirjax.__version__ and the like
                continue
            assert other_package == package or other < floor or (other == floor == 4 or other == floor == 0), (
                f"{relative} imports {name}"
            )
            # Signal and classifiers are foundations: they know nothing of the rest of their floor.
            if package in ("signal", "classifiers", "metrics", "results", "statistics", "rankings"):
                assert other_package == package, f"{relative} imports {name}"


def test_the_reader_sees_every_form_of_import(tmp_path):
    """Hand-worked: absolute, from, aliased and nested imports."""
    file = tmp_path / "sample.py"
    file.write_text(
        "import librosa as r\nfrom mirjax import features\nfrom mirjax.models import zoo\n"
        "def f():\n    import flax.linen\n"
    )
    assert {"librosa", "mirjax.features", "mirjax.models.zoo", "flax.linen"} <= set(imports(file))


@pytest.mark.parametrize(
    "module",
    [
        "config",
        "results",
        "metrics",
        "models.zoo",
        "data.catalogue",
        "experiments.screening",
        "experiments.training",
        "rules",
    ],
)
def test_names_are_known_without_jax(module):
    """A command line that only looks names up must not pay for JAX."""
    heavy = "{'jax', 'flax', 'sklearn', 'librosa', 'scipy'}"
    code = f"import sys, mirjax.{module}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "package", ["signal.mel", "models.frontends", "classifiers.elm", "features", "train", "checkpoint", "tasks.tagger"]
)
def test_core_needs_no_audio_library(package):
    """A GPU machine without librosa, TFDS or soundfile still runs the core."""
    code = (
        "import sys\n"
        "for name in ('librosa', 'tensorflow_datasets', 'soundfile', 'soxr', 'matplotlib'): sys.modules[name] = None\n"
        f"import mirjax.{package}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Experiments as values: overrides, lists, errors."""

import dataclasses

import numpy as np
import pytest

from mirjax import config
from mirjax.config import UsageError
from mirjax.experiments.screening import Screening


@dataclasses.dataclass(frozen=True)
class Sample:
    count: int = 1
    rate: float = 0.5
    name: str | None = None
    flag: bool = False
    items: tuple[str, ...] = ("a",)
    seeds: int | tuple[int, ...] = 3


def test_overrides_by_hand():
    """Oracle: CONTRACT: overrides are fields, lists separate with commas."""
    changed = config.override(Sample(), ["count=4", "rate=2", "name=x,y", "flag=true", "items=a, b", "seeds=0,2"])
    assert changed == Sample(4, 2.0, "x,y", True, ("a", "b"), (0, 2))
    assert config.override(Sample(), ["seeds=5", "name="]) == Sample(seeds=5)
    assert config.override(Screening(), ["group=none"]).group == "none"
    assert config.override(Screening(seconds=3.0), ["seconds=none"]).seconds is None


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("cuont=3", "nearest: count"),
        ("count", "not key=value"),
        ("count=three", "whole number"),
        ("count=1,2", "one whole number"),
        ("rate=fast", "must be a number"),
        ("flag=perhaps", "true or false"),
        ("seeds=0,x", "whole number"),
    ],
)
def test_mistakes_are_named(argument, message):
    """Oracle: name, value and remedy in every error."""
    with pytest.raises(UsageError, match=message):
        config.override(Sample(), [argument])


def test_configs_by_name_and_path(tmp_path):
    """Oracle: hand-made config files."""
    (tmp_path / "one.py").write_text(
        "from mirjax.experiments.screening import Screening\nexperiment = Screening(seeds=2)\n"
    )
    (tmp_path / "none.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("x = (\n")
    (tmp_path / "raises.py").write_text("experiment = 1 / 0\n")
    (tmp_path / "type.py").write_text("from mirjax.experiments.screening import Screening as experiment\n")
    for name in ("one", "one.py", str(tmp_path / "one.py")):
        experiment, path = config.load(name, tmp_path)
        assert experiment.seeds == (0, 1)
        assert path == tmp_path / "one.py"
    for name, message in (
        ("onee", "nearest: one"),
        ("none", "no `experiment`"),
        ("broken", "cannot be read"),
        ("raises", "ZeroDivisionError"),
        ("type", "no `experiment`"),
    ):
        with pytest.raises(UsageError, match=message):
            config.load(name, tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architectures": "vgg,temporral"}, "nearest: temporal"),
        ({"classifiers": "elm,svn"}, "classifiers='svn' is not one of"),
        ({"width": 121}, "width=121"),
        ({"n": "24"}, "n=24 is for one architecture"),
        ({"n": "vgg:x"}, "'x' must be a whole number"),
        ({"n": "vgg:0"}, "must be a whole number from 1"),
        ({"n": "simple:3"}, "'simple', which is not screened; nearest: sample"),
        ({"seeds": 0}, "seeds=0 must be at least 1"),
        ({"seeds": (0, 0)}, "names 0 twice"),
        ({"seeds": (-1,)}, "seeds=-1 must lie from 0"),
        ({"seeds": (1, 2**32 + 1)}, "seeds=4294967297 must lie"),
        ({"seeds": 1.5}, "must be a number of seeds"),
        ({"n": "vgg:4,vgg:5"}, "n names 'vgg' twice"),
        ({"n": "vgg:²"}, "'²' must be a whole number"),
        ({"architectures": (3,)}, "neither a name nor a"),
        ({"seconds": "5"}, "seconds=5 must be positive"),
        ({"seconds": 1e-6}, "seconds=1e-06 must be positive"),
        ({"data": ""}, "data is empty"),
        ({"seconds": 0.0}, "seconds=0.0 must be positive"),
        ({"fit": "loop"}, "fit='loop' is not one of repeat, zero"),
        ({"protocol": "loo"}, "protocol='loo'"),
        ({"selection": "best"}, "selection='best'"),
        ({"input": "rw"}, "input='rw'"),
        ({"scaling": "minmax"}, "scaling='minmax'"),
    ],
)
def test_a_screening_refuses_what_it_does_not_know(fields, message):
    """Oracle: CONTRACT, "A screening's fields"."""
    with pytest.raises(UsageError, match=message):
        Screening(**fields)


def test_defaults_and_names_of_the_contract():
    """Oracle: CONTRACT, "A screening's fields" (default first)."""
    screening = Screening()
    assert screening.data == ("digits_small", "rhythm_small")
    assert screening.architectures == tuple(
        "vgg 7x96 7x86 timbral temporal timbral_temporal timbral_time sample frame frame_many".split()
    )
    assert (screening.width, screening.seeds, screening.classifiers) == ((120,), (0, 1, 2), ("elm", "svm"))
    assert (screening.input, screening.scaling, screening.protocol) == (("raw",), ("none",), "auto")
    assert screening.num_samples == 350_000
    assert (screening.fit, screening.legacy_collapse, screening.strict, screening.dry_run) == (
        "repeat",
        False,
        False,
        False,
    )


def test_seeds_and_n_of_any_kind():
    """Oracle: CONTRACT: seeds=N are seeds 0…N−1, a list is a list; hand-made equals."""
    for seeds in (3, "3", np.int64(3), range(3), np.arange(3), [0, 1, 2], "0,1,2"):
        assert Screening(seeds=seeds).seeds == (0, 1, 2)
        assert all(type(seed) is int for seed in Screening(seeds=seeds).seeds)
    assert Screening(n={"vgg": 24, "sample": np.int64(17)}).n == "vgg:24,sample:17"
    assert Screening(architectures="vgg", n=np.int64(24)).n == "24"


def test_run_folder_name_ignores_what_may_grow():
    """Oracle: CONTRACT: more seeds, architectures, classifiers or data sets extend a run in place."""
    base = Screening(name="x")
    assert base.default_workdir().parts[0] == "runs"
    assert base.default_workdir().name.startswith("x-")
    grown = dataclasses.replace(base, seeds=5, architectures="vgg", classifiers="knn", data="rhythm_small", cache="c")
    assert grown.default_workdir() == base.default_workdir()
    for change in ({"seconds": 3.0}, {"width": 3500}, {"input": "standardised"}, {"fit": "zero"}, {"group": "none"}):
        assert dataclasses.replace(base, **change).default_workdir() != base.default_workdir()

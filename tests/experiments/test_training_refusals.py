"""Bad input of a training: each error names the field, its value and what to do, before any work."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mirjax import config
from mirjax.config import UsageError
from mirjax.experiments.screening import Screening
from mirjax.experiments.training import Training

REFUSED = [
    ({"data": ()}, "data is empty; give at least one"),
    ({"architectures": "vgg,vgg"}, "architectures names 'vgg' twice"),
    ({"architectures": "vggg"}, "architectures='vggg' is not known; nearest: vgg"),
    ({"architectures": "k2c2/m9"}, "architectures='k2c2/m9': no such variant; known: k2c2/m0_1"),
    ({"architectures": "tutorial_siamese"}, "architectures='tutorial_siamese' has no output to be trained as a tagger"),
    ({"architectures": (3,)}, "architecture 3 is neither a name nor a `models.taggers.Network`"),
    ({"n": "vgg:24"}, "n='vgg:24' names no architecture of musicnn; write n=vgg:24,sample:17"),
    ({"n": "0"}, "n='0': '0' must be a whole number from 1 to 10000"),
    ({"n": "musicnn:x"}, "n='musicnn:x': 'x' must be a whole number from 1 to 10000"),
    ({"seeds": 0}, "seeds=0 must be"),
    ({"labels": "several"}, "labels='several' is not one of one, many, values"),
    ({"loss": "hinge"}, "loss='hinge' is not one of auto, cross_entropy, binary_cross_entropy, squared_error"),
    ({"weights": "sqrt"}, "weights='sqrt' is not one of none, balanced"),
    ({"targets": (0.02,)}, "targets=(0.02,) must be two numbers within [0, 1], the lower one first: .02,.98"),
    ({"targets": (0.98, 0.02)}, "targets=(0.98, 0.02) must be two numbers within [0, 1], the lower one first"),
    ({"targets": (-0.1, 1.0)}, "targets=(-0.1, 1.0) must be two numbers within [0, 1]"),
    ({"level": "loud"}, "level='loud' is not one of none, peak"),
    ({"patches": "all"}, "patches='all' is not one of random, windows"),
    ({"aggregate": "median"}, "aggregate='median' is not one of mean, vote"),
    ({"aggregate": "vote", "labels": "many"}, "aggregate=vote is for one class a clip; with labels=many use mean"),
    ({"normalise": "frame"}, "normalise='frame' is not one of none, all, band, place, patch_mean"),
    ({"normalise": "place", "whole": True}, "normalise=place is of patches of one length; with whole=true use all"),
    ({"normalise_on": "test"}, "normalise_on='test' is not one of train, everything"),
    ({"hear": "never"}, "hear='never' is not one of auto, ahead, in_step"),
    ({"augment": ("reverb",)}, "augment='reverb' is not known; nearest: "),
    ({"fit": "mirror"}, "fit='mirror' is not one of repeat, zero"),
    ({"optimiser": "lion"}, "optimiser='lion' is not one of sgd, adam, adamw"),
    ({"learning_rate": 0.0}, "learning_rate=0.0 must be positive"),
    ({"learning_rate": float("nan")}, "learning_rate=nan must be positive"),
    ({"l2_on": "biases"}, "l2_on='biases' is not one of kernels, "),
    ({"l2_reduction": "mean"}, "l2_reduction='mean' is not one of half, sum"),
    ({"rule": "halve"}, "rule 'halve' is unknown; known rules: "),
    ({"rule": "stop_early(valid_loss, soon)"}, "rule 'stop_early(valid_loss, soon)': patience='soon' must be a whole"),
    ({"rule": "plateau(valid_los)"}, "rule='plateau(valid_los)' with labels=one: monitor='valid_los' is not among the"),
    ({"rule": "stop_early(valid_rmse,3)"}, "rule='stop_early(valid_rmse,3)' with labels=one: monitor='valid_rmse'"),
    ({"monitor": "valid_roc_auc"}, "monitor='valid_roc_auc' is not measured with labels=one; known: train_loss, valid"),
    ({"monitor": "valid_accuracy", "labels": "many"}, "monitor='valid_accuracy' is not measured with labels=many"),
    ({"epochs": 0}, "epochs=0 must be at least 1"),
    ({"batch_size": 0}, "batch_size=0 must be at least 1"),
    ({"accumulate": 0}, "accumulate=0 must be at least 1"),
    ({"threads": 0}, "threads=0 must be at least 1"),
    ({"workers": -1}, "workers=-1 must be at least 0"),
    ({"made_folds": 1}, "made_folds=1 must be at least 2"),
    ({"seconds": 0.0}, "seconds=0.0 must be a positive number of seconds, less than a day"),
    ({"patch": -1.0}, "patch=-1.0 must be a positive number of seconds, less than a day"),
    ({"hop": float("nan")}, "hop=nan must be a positive number of seconds, less than a day"),
    ({"evaluation_hop": 1e6}, "evaluation_hop=1000000.0 must be a positive number of seconds, less than a day"),
    ({"validation": 0.6}, "validation=0.6 must be a share from 0 to below 0.6"),
    ({"validation": 0.0}, "validation=0 leaves no clips for rule='stop_early(valid_loss,20)', retrain or"),
    ({"validation": 0.0, "rule": "constant()", "retrain": True}, "validation=0 leaves no clips for rule='constant()'"),
    ({"validation": 0.0, "rule": "constant()", "back_to_best": True}, "validation=0 leaves no clips for rule="),
    ({"processes": "banana"}, "processes='banana' must be a whole number of at least 1, or auto"),
    ({"processes": 0}, "processes=0 must be a whole number of at least 1, or auto"),
    ({"processes": 2.5}, "processes=2.5 must be a whole number"),
    ({"classifiers": ("foo",)}, "classifiers='foo' is not one of "),
    ({"average": float("nan")}, "average=nan must be a decay from 0 to below 1"),
    ({"parallel": "xmap"}, "parallel='xmap' is not one of jit, pmap"),
    ({"dtype": "int8"}, "dtype='int8' is not one of None, float32, bfloat16, float16, float64"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_wrong_fields(fields, message):
    """Hand-worked: name, value and remedy, when the value is made."""
    with pytest.raises(UsageError, match=re.escape(message)):
        Training(**fields)


LATER = [
    ({"schedule": "cosin"}, "schedule='cosin'.*is unknown; nearest: cosine"),
    ({"schedule": "inverse"}, "schedule='inverse': schedule 'inverse': missing a required argument: 'decay'"),
    ({"schedule": "inverse(decay)"}, r"schedule='inverse\(decay\)' must be a name, or name\(option=number, …\)"),
    ({"schedule": "inverse(decay=-1)"}, r"schedule='inverse\(decay=-1\)': decay=-1.0 must be a number of at least 0"),
    ({"momentum": 0.9}, "momentum=0.9 and nesterov=False are sgd's; adam has betas and eps"),
    ({"clip_norm": 1.0, "clip_value": 1.0}, "clip_norm=1.0 and clip_value=1.0 exclude each other; give one"),
    ({"l2": -1.0}, "l2=-1.0 must be a number of at least 0"),
    ({"learning_rate": float("inf")}, "learning_rate=inf must be"),
    ({"clip_norm": float("nan")}, "clip_norm=nan must be"),
    (
        {"batch_size": 7},
        "batch_size=7: batches of 7 rows .* by 2 devices in accumulate=1 parts; choose a multiple of 2",
    ),
    ({"patch": 0.5}, r"patch=0.5 s: tutorial_vocal takes 5.056 s, no more and no less; leave patch out"),
    (
        {"patch": 600.0, "architectures": "musicnn"},
        r"patch=600 s is more than 10 times as long as the clips of rhythm_small \(at most 12 s\)",
    ),
    ({"folds": ("9",)}, "folds='9' is no fold of rhythm_small; known: 0, 1, 2"),
    ({"targets": (0.02, 0.98)}, r"targets=\(0.02, 0.98\) soften binary outputs; loss='cross_entropy' has \(0, 1\)"),
    ({"labels": "values", "weights": "balanced"}, "weights=balanced is for classes and tags; these labels are values"),
    ({"hear": "ahead", "augment": ("gain",)}, "hear=ahead cannot go with augment=gain, which changes audio"),
    ({"data": ("nowhere",)}, "nowhere"),
]


@pytest.mark.parametrize(("fields", "message"), LATER, ids=lambda value: value if isinstance(value, str) else "")
def test_wrong_fields_that_the_run_finds(fields, message, tmp_path, cache):
    """Hand-worked: name, value and remedy, before the first step."""
    settings = {"architectures": "tutorial_vocal", "n": "1", "epochs": 1, "folds": ("0",), "classifiers": ("elm",)}
    experiment = Training(**(settings | {"cache": str(cache)} | fields))
    with pytest.raises(ValueError, match=message):
        experiment.run(tmp_path, progress=False)
    assert not list(tmp_path.glob("weights/*"))


def test_wrong_optimisers_are_wrong_usage():
    """Hand-worked: a dry run tells them too, as what they are, and networks that the space does not have."""
    for kind in (Training, Screening):
        with pytest.raises(UsageError, match="name='space/square3-d2-f8-p2-relu-bn-mean' is none of this space"):
            kind(architectures="space/square3-d2-f8-p2-relu-bn-mean").check()
    with pytest.raises(UsageError, match=r"momentum=0\.9 and nesterov=False are sgd's"):
        Training(momentum=0.9).check()
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "launch.py"), "run", "train_quickstart", "momentum=.9", "dry_run=true"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "momentum=0.9 and nesterov=False are sgd's" in done.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Decoded audio."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("epoch=3", "key 'epoch' is not a field of this experiment; nearest: epochs"),
        ("epochs=many", "epochs='many' must be a whole number"),
        ("targets=.1,high", "targets='high' must be a number"),
        ("nesterov=perhaps", "nesterov='perhaps' must be true or false"),
    ],
)
def test_wrong_overrides(argument, message):
    """Hand-worked: what a command line may get wrong."""
    with pytest.raises(UsageError, match=message):
        config.override(Training(), [argument])

"""Runs scikit-learn's own estimator checks on every estimator of mirjax.classifiers, and writes what came of it.

    python tests/external/scikit_learn_scorecard.py [--only NAME] [--write]

Estimators are found by reading the package's modules, instances are in `make_instances`: a class without one is an
error. `scikit_learn.json` holds, for each instance, how many checks passed, which were skipped and why, which failed.
Names: `find_estimators`, `make_instances`, `check`, `make_card`, `expected_failures`, `ABSTRACT`.
"""

import argparse
import importlib
import inspect
import json
import pkgutil
import sys
import time
import warnings
from pathlib import Path

import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.utils.estimator_checks import check_estimator

HERE = Path(__file__).resolve().parent
CARD = HERE / "scikit_learn.json"

ABSTRACT = {
    "Readout": "says how a read-out is solved; subclasses say what the hidden activations are",
    "ClassifierReadout": "a Readout that labels, still without hidden activations",
    "Probe": "what the probes share",
    "ProbeClassifier": "a Probe that labels, still without scores",
    "RegressorReadout": "a Readout that gives values, still without hidden activations",
}
"""Public classes that are no estimators by themselves, and why."""

HELD_OUT_BY_ROW = (
    "decides by rows held out: of a row written twice one copy is held out while the other is fitted, a row of weight "
    "2 is held out whole; the choice of ridge, or the calibration, is then another"
)


def expected_failures(estimator):
    """Check → why this estimator may fail it: none but the weights of what is decided by rows held out."""
    params = estimator.get_params(deep=False)
    if params.get("select") in ("kfold", "loo") or params.get("calibration") is not None:
        return {"check_sample_weight_equivalence_on_dense_data": HELD_OUT_BY_ROW}
    return {}


def find_estimators():
    """Name → class of every public estimator that a module of mirjax.classifiers defines, abstract ones included."""
    import mirjax.classifiers

    found = {}
    for module in pkgutil.walk_packages(mirjax.classifiers.__path__, "mirjax.classifiers."):
        loaded = importlib.import_module(module.name)
        for name, value in vars(loaded).items():
            own = inspect.isclass(value) and issubclass(value, BaseEstimator) and value.__module__ == module.name
            if own and not name.startswith("_"):
                found[name] = value
    return found


def make_instances():
    """Instance name → estimator, small enough for some fifty fits; every class once and its kinds of fit."""
    found = find_estimators()
    table = {
        "ELMClassifier": [{}, {"ridge": 1e-2}, *_variants()],
        "ELMRegressor": [{}, {"ridge": [1e-3, 1.0], "select": "kfold", "folds": 2}],
        "SVMClassifier": [{}, {"kernel": "linear", "C": 0.1}],
        "NearestNeighbours": [{}, {"n_neighbors": 3}, {"n_neighbors": 3, "metric": "cosine"}],
        "LinearProbe": [{}, {"kind": "svm"}],
        "SGDProbe": [{}],
        "MLPProbe": [{"hidden": (32,), "max_iter": 300}],
        "MLPProbeRegressor": [{"hidden": (16,), "max_iter": 100}],
        "GMMClassifier": [{}, {"priors": "training"}],
        "ArcCosineClassifier": [
            {},
            {"fit_intercept": False},
            {"ridge": [1e-3, 1.0], "select": "loo"},
            {"calibration": "temperature", "folds": 3},
        ],
        "ArcCosineRegressor": [{}],
        "MultilayerELMClassifier": [{"layers": (10, 20)}, {"layers": (10,), "hidden_units": 20}],
        "MultilayerELMRegressor": [{"layers": (10, 20)}],
        "EchoStateClassifier": [
            {"hidden_units": 20},
            {"hidden_units": 20, "summary": "frames"},
            {"hidden_units": 20, "bidirectional": True, "summary": "last"},
        ],
    }
    instances = {}
    for name, settings in table.items():
        for setting in settings if name in found else ():
            if name.startswith("ELM"):
                setting = {"hidden_units": 20} | setting
            written = ", ".join(f"{key}={value!r}" for key, value in setting.items())
            instances[f"{name}({written})"] = found[name](**setting)
    if "Scaled" in found:
        for name in ("SVMClassifier", "NearestNeighbours"):
            instances[f"Scaled({name}())"] = found["Scaled"](found[name]())
        instances["Scaled(ELMClassifier())"] = found["Scaled"](found["ELMClassifier"](hidden_units=20))
    return instances


def _variants():
    """Settings of the ELM beyond the published one; fewer where its class has fewer parameters."""
    known = inspect.signature(find_estimators()["ELMClassifier"]).parameters
    variants = [
        {"ridge": [1e-3, 1.0], "select": "loo"},
        {"ridge": [1e-3, 1.0], "select": "gcv"},
        {"ridge": [1e-3, 1.0], "select": "kfold", "folds": 2},
        {"ridge": 1e-2, "fit_intercept": True, "class_weight": "balanced"},
        {"ridge": 1e-2, "calibration": "temperature", "folds": 2},
        {"ridge": 1e-2, "weights": "orthogonal"},
        {"ridge": 1e-2, "weights": "sparse"},
        {"ridge": 1e-2, "weights": "whitened"},
        {"ridge": 1e-2, "activation": "sigmoid", "alpha": 0.5},
        {"ridge": 1e-2, "scaling": "standard"},
    ]
    return [setting for setting in variants if set(setting) <= set(known)]


def check(estimator):
    """One instance's line of the card: counts, skips with reasons, failures with justification or message."""
    expected = expected_failures(estimator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # precision warnings of tables made to be awkward
        try:
            outcomes = check_estimator(
                clone(estimator), on_skip=None, on_fail=None, expected_failed_checks=expected or None
            )
        except Exception as error:  # before the first check: clone or the tags
            outcomes = [{"check_name": "clone and tags", "status": "failed", "exception": error}]
    line = {"passed": sum(one["status"] == "passed" for one in outcomes), "skipped": {}, "expected": {}, "failed": {}}
    for one in outcomes:
        if one["status"] == "skipped":
            line["skipped"][one["check_name"]] = str(one["exception"])
        elif one["status"] == "xfail":
            line["expected"][one["check_name"]] = expected[one["check_name"]]
        elif one["status"] == "failed":
            line["failed"][one["check_name"]] = f"{type(one['exception']).__name__}: {one['exception']}"
    return line


def make_card(only=""):
    """The card of all instances whose name holds `only`."""
    lines = {}
    for name, estimator in make_instances().items():
        if only in name:
            start = time.process_time()
            lines[name] = check(estimator)
            line = lines[name]
            print(f"{time.process_time() - start:6.1f} s  {line['passed']:3} passed  {name}", file=sys.stderr)
            for failed, message in line["failed"].items():
                print(f"          {failed}: {message[:300]}", file=sys.stderr)
    return {"scikit-learn": sklearn.__version__, "estimators": lines}


def main():
    """Print the card, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a part of an instance's name")
    parser.add_argument("--write", action="store_true", help=f"write {CARD.name} (all instances only)")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write makes the card of all instances; leave out --only")
    card = make_card(options.only)
    failed = [name for name, line in card["estimators"].items() if line["failed"]]
    if options.write and failed:
        parser.exit(1, f"{len(failed)} instances fail, so {CARD.name} is left as it is\n")
    if options.write:
        CARD.write_text(json.dumps(card, indent=1) + "\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())

"""Classifiers for screening: closed-form and kernel machines in scikit-learn manners, and their grids.

Features are `x f64[M, D]` (one row a clip), labels `y [M]` (text or whole numbers). Everything is computed in
float64, whatever the dtype of the features.

Learners
--------
* `ELMClassifier`, `ELMRegressor`: extreme learning machine, output weights in closed form (`elm`)
* `ArcCosineClassifier`, `ArcCosineRegressor`: the same with infinitely many units (`kernel`)
* `MultilayerELMClassifier`, `MultilayerELMRegressor`: behind stacked ELM autoencoders (`multilayer`)
* `EchoStateClassifier`: a random recurrent layer over sequences of frames (`echo`)
* `SVMClassifier`: scikit-learn's SVC through a precomputed kernel (`svm`)
* `NearestNeighbours`: the k nearest training clips vote (`knn`)
* `LinearProbe`, `SGDProbe`, `MLPProbe`, `MLPProbeRegressor` (`probes`), `GMMClassifier` (`mixture`): the
  literature's others
* `Scaled`: any classifier behind a standardisation learnt from its training rows (`scaling`)

Beneath them
------------
`readout` (what all with a closed form share), `hidden` (random layers), `closed_form` (every ridge, nested size and
fold from one factorisation), `solvers` (one solution, and how many digits it has), `gram` and `sharded` (sums over
batches, devices and hosts), `seeds` (many hidden layers at once), `calibration`, `targets`, `pseudo_inverse`.

Names
-----
* `make_grid`: predictions of all settings of one classifier, for many training and test sets (`grid`); `GRIDS`,
  `DETERMINISTIC`: its names
* `held_out_scores`, `fit_seeds`, `predict_seeds`: many hidden layers and feature sets at once (`seeds`)
* `Gram`: sums over the rows of batches; `PrecisionWarning`: given when an answer has few digits
* `find_classes`: the sorted labels and their indices, checked
* `save`, `load`: fitted classifiers as one .npz file without pickles

The names are imported when they are first used, so that `import mirjax.classifiers` needs neither jax nor
scikit-learn.
"""

import importlib
import json
import zipfile

import numpy as np

__all__ = [
    "DETERMINISTIC",
    "GRIDS",
    "ArcCosineClassifier",
    "ArcCosineRegressor",
    "ELMClassifier",
    "ELMRegressor",
    "EchoStateClassifier",
    "GMMClassifier",
    "Gram",
    "LinearProbe",
    "MLPProbe",
    "MLPProbeRegressor",
    "MultilayerELMClassifier",
    "MultilayerELMRegressor",
    "NearestNeighbours",
    "PrecisionWarning",
    "SGDProbe",
    "SVMClassifier",
    "Scaled",
    "find_classes",
    "fit_seeds",
    "held_out_scores",
    "load",
    "make_grid",
    "predict_seeds",
    "save",
]

GRIDS = {
    "elm": ("grid", "ELMGrid"),
    "elm_ridge": ("ridge_grid", "RidgeGrid"),
    "elm_orthogonal": ("ridge_grid", "OrthogonalGrid"),
    "elm_sparse": ("ridge_grid", "SparseGrid"),
    "elm_whitened": ("ridge_grid", "WhitenedGrid"),
    "elm_loo": ("ridge_grid", "LeaveOneOutGrid"),
    "elm_orthogonal_loo": ("ridge_grid", "OrthogonalLeaveOneOutGrid"),
    "elm_gcv": ("ridge_grid", "GeneralisedGrid"),
    "elm_kernel": ("ridge_grid", "KernelGrid"),
    "svm": ("grid", "SVMGrid"),
    "knn": ("grid", "KNNGrid"),
    "knn_cosine": ("ridge_grid", "CosineGrid"),
    "linear": ("ridge_grid", "LinearGrid"),
    "linear_svm": ("ridge_grid", "LinearSVMGrid"),
    "mlp": ("ridge_grid", "PerceptronGrid"),
    "gmm": ("ridge_grid", "MixtureGrid"),
}
"""Names of the grids that `make_grid` knows, and where each is."""

DETERMINISTIC = ("elm_kernel", "svm", "knn", "knn_cosine", "linear", "linear_svm")
"""Those that draw nothing, so that one seed says all."""

_FORMAT = "mirjax.classifiers 1"
_CLASSIFIERS = {
    "ArcCosineClassifier": "kernel",
    "ArcCosineRegressor": "kernel",
    "EchoStateClassifier": "echo",
    "ELMClassifier": "elm",
    "ELMRegressor": "elm",
    "GMMClassifier": "mixture",
    "LinearProbe": "probes",
    "MLPProbe": "probes",
    "MLPProbeRegressor": "probes",
    "MultilayerELMClassifier": "multilayer",
    "MultilayerELMRegressor": "multilayer",
    "NearestNeighbours": "knn",
    "SGDProbe": "probes",
    "SVMClassifier": "svm",
}
_MODULES = (
    _CLASSIFIERS
    | dict.fromkeys(("fit_seeds", "held_out_scores", "predict_seeds"), "seeds")
    | {"Scaled": "scaling", "make_grid": "grid", "Gram": "gram", "PrecisionWarning": "solvers"}
)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def find_classes(y):
    """The sorted classes of labels y [M] and each label's index among them.

    Raises:
        ValueError: y is continuous, or has a single class.
    """
    from sklearn.utils.multiclass import check_classification_targets

    check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"y has one class only, {classes.tolist()[0]!r}; a classifier needs clips of two classes or more"
        )
    return classes, codes


def save(classifier, path):
    """Write a fitted classifier to one .npz file that holds arrays and text only (no pickles).

    An SVM and nearest neighbours are kept as their training rows, from which `load` fits them again (their fits are
    deterministic); the others as what they learnt.

    Args:
        classifier: a fitted learner of this package, or one of them in `Scaled`.
        path: where to write; an existing file is replaced.

    Raises:
        ValueError: another kind of object, labels that are neither text nor numbers, or parameters that JSON
            cannot hold.
        sklearn.exceptions.NotFittedError: the classifier has not been fitted.
    """
    from sklearn.utils.validation import check_is_fitted

    inner, scaling = classifier, {}
    if type(classifier).__name__ == "Scaled":
        check_is_fitted(classifier)
        inner = classifier.estimator_
        scaling = {"scaling/mean": classifier.mean_, "scaling/deviation": classifier.deviation_}
    name = type(inner).__name__
    if name not in _CLASSIFIERS:
        raise ValueError(f"classifier is a {name}; save takes {', '.join(_CLASSIFIERS)}, or one of them in Scaled")
    check_is_fitted(inner)
    try:
        params = inner.get_params(deep=False).items()
        # JSON's keys are text; labels, the keys of class_weight, need not be.
        params = {key: {"pairs": list(value.items())} if isinstance(value, dict) else value for key, value in params}
        params = json.dumps(params, default=lambda number: number.item())
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{name}'s parameters {inner.get_params(deep=False)} do not fit into JSON") from error
    arrays = {f"learnt/{key}": _plain(key, value) for key, value in inner.learnt().items()}
    with open(path, "wb") as file:
        np.savez(file, format=_FORMAT, name=name, params=params, allow_pickle=False, **scaling, **arrays)


def load(path):
    """Read a classifier that `save` wrote; it predicts what the saved one did.

    Args:
        path: a file written by `save`.

    Returns:
        The fitted classifier (a `Scaled` where one was saved).

    Raises:
        ValueError: the file is something else, is damaged, or names an unknown classifier.
    """
    arrays = _read(path)
    if str(arrays.get("format")) != _FORMAT:
        found = f"format {arrays['format']!s}" if "format" in arrays else f"arrays {sorted(arrays)[:8]}"
        raise ValueError(f"{path} is an .npz file but not a saved classifier ({found}); expected {_FORMAT!r}")
    name = str(arrays.get("name"))
    if name not in _CLASSIFIERS:
        raise ValueError(f"{path} holds a {name!r}, which is none of {', '.join(_CLASSIFIERS)}")
    learnt = {key.removeprefix("learnt/"): value for key, value in arrays.items() if key.startswith("learnt/")}
    try:
        params = json.loads(str(arrays["params"])).items()
        params = {key: dict(value["pairs"]) if isinstance(value, dict) else value for key, value in params}
        classifier = __getattr__(name)(**params)
        classifier = classifier.restore(learnt)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} says it holds a {name} but its contents do not fit one: {error!r}") from error
    if "scaling/mean" not in arrays:
        return classifier
    return __getattr__("Scaled").around(classifier, arrays["scaling/mean"], arrays["scaling/deviation"])


def _plain(key, value):
    """The array, text kept in object arrays turned into text arrays."""
    value = np.asarray(value)
    if value.dtype != object:
        return value
    if not all(isinstance(item, str) for item in value.flat):
        raise ValueError(f"{key} holds objects such as {value.flat[0]!r}; labels must be text or numbers")
    return value.astype(str)


def _read(path):
    """All arrays of an .npz file; a ValueError that says what the file is when it is not one."""
    with open(path, "rb") as file:
        head = file.read(16)
    if not zipfile.is_zipfile(path):
        kinds = {b"\x93NUMPY": "a single .npy array", b"PK": "a torn .npz or zip file", b"\x80": "a pickle"}
        kind = next((kind for magic, kind in kinds.items() if head.startswith(magic)), None)
        kind = kind or ("empty" if not head else f"a file that begins with {head!r}")
        raise ValueError(f"{path} is {kind}, not a classifier written by mirjax.classifiers.save")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise ValueError(f"{path} is a zip file but not a saved classifier: {error}") from error
    # A zip of other things is given back as raw bytes, member by member.
    if not all(isinstance(value, np.ndarray) for value in arrays.values()):
        raise ValueError(f"{path} is a zip file of {sorted(arrays)[:8]}, not a saved classifier")
    return arrays

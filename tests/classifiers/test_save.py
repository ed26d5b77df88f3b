"""Saved classifiers: the same predictions after loading, no pickles, and plain words about other files."""

import json
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Perceptron

import mirjax.classifiers
from mirjax.classifiers import ELMClassifier, NearestNeighbours, Scaled, SVMClassifier, load, save

X, LABELS = load_wine(return_X_y=True)
LABELS = np.array(["cha-cha", "rumba", "waltz"])[LABELS]
CLASSIFIERS = (
    ELMClassifier(hidden_units=40, ridge=1e-3, random_state=np.int64(3)),
    SVMClassifier(C=8.0, gamma=2.0**-9),
    SVMClassifier(kernel="linear", C=0.1),
    NearestNeighbours(n_neighbors=5),
    Scaled(ELMClassifier(hidden_units=40)),
    Scaled(SVMClassifier()),
    Scaled(NearestNeighbours()),
)


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=repr)
@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS.astype(object), LABELS == "waltz", np.unique(LABELS, return_inverse=True)[1]],
    ids=["text", "object", "bool", "int"],
)
def test_a_loaded_classifier_predicts_the_same(classifier, labels, tmp_path):
    """Oracle: the classifier that was saved; its parameters and its predictions to the bit."""
    fitted = classifier.fit(X[::2], labels[::2])
    save(fitted, tmp_path / "tagger")
    again = load(tmp_path / "tagger")
    assert type(again) is type(fitted)
    inner, again_inner = (getattr(one, "estimator", one) for one in (fitted, again))
    assert again_inner.get_params() == inner.get_params()
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    method = "predict_proba" if hasattr(fitted, "predict_proba") else "decision_function"
    np.testing.assert_array_equal(getattr(again, method)(X), getattr(fitted, method)(X))
    with np.load(tmp_path / "tagger", allow_pickle=False) as file:
        assert all(file[key].dtype != object for key in file.files)


def test_says_what_another_file_is(tmp_path):
    """Oracle: files of known kinds; the message names the kind."""
    path = tmp_path / "file"
    save(NearestNeighbours().fit(X, LABELS), path)
    whole = path.read_bytes()
    contents = {
        "is empty": b"",
        "a file that begins with b'RIFF": b"RIFF\x00\x00",
        "a pickle": pickle.dumps({"class": "SVC"}),
        "a torn .npz or zip file": whole[: len(whole) // 2],
    }
    for message, content in contents.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load(path)
    with open(path, "wb") as file:
        np.save(file, X)
    with pytest.raises(ValueError, match=r"a single \.npy array"):
        load(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("word/document.xml", "<xml/>")
    with pytest.raises(ValueError, match=r"a zip file of \['word/document.xml'\]"):
        load(path)
    with open(path, "wb") as file:
        np.savez(file, features=X, ids=LABELS)
    with pytest.raises(ValueError, match=r"not a saved classifier \(arrays \['features', 'ids'\]\)"):
        load(path)
    with open(path, "wb") as file:
        np.savez(file, tricks=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load(path)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.npz")


SEVERAL = np.stack([LABELS == "waltz", LABELS != "rumba"], axis=1).astype(int)
VALUES, SEQUENCES = X[:, :2] ** 2, X[:, :12].reshape(-1, 4, 3) / 100
CHOICE = {"ridge": (1e-3, 1e-1), "select": "kfold", "folds": 3}
MACHINES = {
    "ArcCosineClassifier": ({}, CHOICE | {"calibration": "platt"}, {"fit_intercept": False, "ridge": 0.0}),
    "ArcCosineRegressor": ({}, CHOICE),
    "ELMClassifier": (
        {"hidden_units": 30},
        {"hidden_units": (10, 30), "scaling": "standard", "calibration": "temperature"} | CHOICE,
        {"hidden_units": (10, 30), "ridge": (1e-3, 1e-1), "select": "loo", "calibration": "platt"},
        {"hidden_units": 30, "weights": "whitened", "fit_intercept": True, "class_weight": "balanced"},
        {"hidden_units": 30, "ridge": 1e-3, "class_weight": {"cha-cha": 1.0, "rumba": 2.0, "waltz": 0.5}},
        {"hidden_units": 30, "alpha": 0.5, "activation": "tanh", "dtype": "float32", "digits": 0},
        {"hidden_units": 30, "alpha": 0, "activation": "grbf", "digits": 0},
    ),
    "ELMRegressor": ({"hidden_units": 30}, {"hidden_units": (10, 30), "scaling": "standard"} | CHOICE),
    "EchoStateClassifier": ({}, CHOICE | {"calibration": "platt"}),
    "GMMClassifier": ({}, {"components": 2, "priors": "training"}),
    "LinearProbe": ({}, {"kind": "svm"}),
    "MLPProbe": ({"hidden": (8, 4), "max_iter": 20},),
    "MLPProbeRegressor": ({"hidden": (8,), "max_iter": 20},),
    "MultilayerELMClassifier": (
        {"layers": (8, 20)},
        {"layers": (8, 20), "hidden_units": (10, 30), "calibration": "temperature"} | CHOICE,
    ),
    "MultilayerELMRegressor": ({"layers": (8, 20)}, {"layers": (8, 20), "hidden_units": (10, 30)} | CHOICE),
    "NearestNeighbours": ({}, {"metric": "cosine"}),
    "SGDProbe": ({},),
    "SVMClassifier": ({}, {"kernel": "linear"}),
}
ALL = [(name, params) for name, choices in MACHINES.items() for params in choices]


def same(fitted, again, x):
    """Every prediction, to the bit."""
    assert type(again) is type(fitted)
    methods = [name for name in ("predict", "predict_proba", "decision_function") if hasattr(fitted, name)]
    for name in methods:
        np.testing.assert_array_equal(getattr(again, name)(x), getattr(fitted, name)(x), err_msg=name, strict=True)
    assert [name for name in ("predict", "predict_proba", "decision_function") if hasattr(again, name)] == methods


def test_every_learner_is_saved_here():
    """Oracle: the table of learners that the package saves."""
    assert MACHINES.keys() == mirjax.classifiers._CLASSIFIERS.keys()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "params"), ALL, ids=[f"{name}-{i}" for i, (name, _) in enumerate(ALL)])
def test_every_learner_predicts_the_same_after_loading(name, params, tmp_path):
    """Oracle: the machine that was saved: labels, scores and probabilities to the bit, what was chosen, its like."""
    x = SEQUENCES if name.startswith("Echo") else X
    kind = getattr(mirjax.classifiers, name)
    tables = [VALUES[:, 0], VALUES] if name.endswith("Regressor") else [LABELS, LABELS == "waltz"]
    if not name.endswith("Regressor") and hasattr(kind(**params), "select") and "class_weight" not in params:
        tables.append(SEVERAL)
    for y in tables[: 1 if isinstance(params.get("class_weight"), dict) else None]:
        fitted = kind(**params).fit(x[::2], y[::2])
        save(fitted, tmp_path / "machine.npz")
        again = load(tmp_path / "machine.npz")
        same(fitted, again, x)
        numbers = {key: value for key, value in vars(fitted).items() if isinstance(value, (int, float, np.number))}
        learnt = [key for key in numbers if key.endswith("_")]
        assert {key: getattr(again, key) for key in learnt} == {key: numbers[key] for key in learnt}
        if hasattr(fitted, "selection_scores_"):
            np.testing.assert_array_equal(again.selection_scores_, fitted.selection_scores_)
        # A copy of the copy, and the same machine fitted anew.
        save(again, tmp_path / "again.npz")
        same(fitted, load(tmp_path / "again.npz"), x)
        if "folds" not in params or name.startswith("ELM"):
            same(fitted, again.fit(x[::2], y[::2]), x)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "params"), ALL, ids=[f"{name}-{i}" for i, (name, _) in enumerate(ALL)])
def test_every_classifier_is_saved_in_scaled(name, params, tmp_path):
    """Oracle: the machine that was saved; what gives values or takes sequences is refused."""
    scaled = Scaled(getattr(mirjax.classifiers, name)(**params))
    if name.endswith("Regressor"):
        with pytest.raises(ValueError, match=f"estimator is a {name}, which gives no labels; scale in front"):
            scaled.fit(X, VALUES[:, 0])
    elif name.startswith("Echo"):
        with pytest.raises(ValueError, match=r"dim 3|3 dim"):
            scaled.fit(SEQUENCES, LABELS)
    else:
        save(scaled.fit(X[::2], LABELS[::2]), tmp_path / "machine.npz")
        same(scaled, load(tmp_path / "machine.npz"), X)
        before = pickle.dumps(scaled)
        with pytest.raises(ValueError, match="one class only"):
            scaled.fit(X[:, :4], np.full(len(X), "rumba"))
        assert pickle.dumps(scaled) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Oracle"}, "holds a 'Oracle', which is none of ArcCosineClassifier, "),
        ({"format": "mirjax.classifiers 9"}, "format mirjax.classifiers 9"),
        ({"params": json.dumps({"depth": 3})}, "contents do not fit"),
        ({"learnt/y": None}, "contents do not fit"),
    ],
)
def test_refuses_a_changed_file(changes, message, tmp_path):
    """Oracle: a saved file with one entry changed or left out."""
    path = tmp_path / "file.npz"
    save(NearestNeighbours().fit(X, LABELS), path)
    arrays = dict(np.load(path)) | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(ValueError, match=message):
        load(path)


def test_refuses_what_it_cannot_save(tmp_path):
    """Oracle: the contract; nothing is written."""
    path = tmp_path / "file"
    with pytest.raises(ValueError, match="is a Perceptron; save takes ArcCosineClassifier"):
        save(Perceptron().fit(X, LABELS), path)
    with pytest.raises(NotFittedError):
        save(SVMClassifier(), path)
    with pytest.raises(ValueError, match="random_state"):
        save(ELMClassifier(hidden_units=3, random_state=np.random.SeedSequence(1)).fit(X, LABELS), path)
    assert not path.exists()


def test_the_package_imports_neither_jax_nor_scikit_learn():
    """Oracle: sys.modules of a fresh interpreter."""
    code = "import sys, mirjax.classifiers; print(sorted({'jax', 'sklearn', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'Forest'"):
        mirjax.classifiers.Forest  # noqa: B018


def test_weights_of_classes_keep_their_keys(tmp_path):
    """Oracle: the dict that was given; JSON alone would turn its keys into text."""
    y = np.arange(len(X)) % 3
    weights = {0: 1.0, np.int64(1): 2.0, 2: 0.5}
    fitted = ELMClassifier(hidden_units=10, ridge=1e-2, class_weight=weights).fit(X, y)
    save(fitted, tmp_path / "file.npz")
    again = load(tmp_path / "file.npz")
    assert again.class_weight == weights
    np.testing.assert_array_equal(again.fit(X, y).output_weights_, fitted.output_weights_)

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

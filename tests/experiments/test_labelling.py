"""A fitted network labels new audio, before and after it is saved."""

import dataclasses

import numpy as np
import pytest
import soundfile

from mirjax.config import UsageError
from mirjax.data import dataset
from mirjax.experiments.labelling import fit_labeller, load_labeller
from mirjax.experiments.screening import Screening


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    return Screening(
        data="digits_small",
        architectures="7x96",
        n="24",
        seeds=1,
        classifiers="elm",
        scaling="standard",
        seconds=1.0,
        cache=cache,
    )


@pytest.mark.parametrize("classifier", ["elm", "svm", "knn"])
def test_labels_survive_saving(classifier, study, tmp_path):
    """Oracle: the labels of the training clips themselves, most of which every fitted classifier must know."""
    labeller = fit_labeller(dataclasses.replace(study, classifiers=classifier), progress=False)
    source = dataset.open_source("digits_small")
    paths, truth = [], []
    for i in range(0, 240, 7):
        paths.append(tmp_path / f"{i}.wav")
        paths[-1].write_bytes(source.encoded(i))
        truth.append(source.labels[i])
    labels = labeller.predict(paths)
    assert np.mean(np.array(labels) == truth) > 0.7
    assert labeller.predict(paths[:1]) == labels[:1]
    labeller.save(tmp_path / "kept")
    again = load_labeller(tmp_path / "kept")
    assert again.predict(paths) == labels
    assert (again.hyperparameters, again.classes) == (labeller.hyperparameters, labeller.classes)


def test_what_cannot_be_labelled_is_named(study, tmp_path):
    """Oracle: the errors the docstrings promise."""
    labeller = fit_labeller(study, progress=False)
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 12_000)
    for name in ("text.wav", "empty.wav", "missing.wav"):
        with pytest.raises(ValueError, match=name):
            labeller.predict([tmp_path / name])
    with pytest.raises(ValueError, match="no clips"):
        labeller.predict([])
    with pytest.raises(ValueError, match="holds no labeller"):
        load_labeller(tmp_path)
    with pytest.raises(UsageError, match="seeds names 2"):
        fit_labeller(dataclasses.replace(study, seeds=2))
    with pytest.raises(UsageError, match="standardised_train"):
        fit_labeller(dataclasses.replace(study, input="standardised_train"))

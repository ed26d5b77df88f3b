"""Oracle: scikit-learn's metrics, and a case worked by hand."""

import warnings

import numpy as np
import pytest
import sklearn.metrics

from mirjax import metrics


@pytest.mark.parametrize("kind", [str, int])
@pytest.mark.parametrize("seed", range(5))
def test_scores_match_scikit_learn(kind, seed):
    # Oracle: scikit-learn, with classes that only the truth or only the prediction knows.
    rng = np.random.default_rng(seed)
    names = np.array(["jig", "reel", "waltz", "tango", "samba"] if kind is str else [7, 3, 11, 2, 5])
    labels, predictions = names[rng.integers(0, 4, 60)], names[rng.integers(1, 5, 60)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "y_pred contains classes not in y_true"
        expected = {
            "accuracy": sklearn.metrics.accuracy_score(labels, predictions),
            "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(labels, predictions),
            "macro_f1": sklearn.metrics.f1_score(labels, predictions, average="macro"),
        }
    scores = metrics.score(labels, predictions)
    assert tuple(scores) == metrics.METRICS
    assert scores == pytest.approx(expected, rel=1e-12)
    for name in metrics.METRICS:
        assert getattr(metrics, name)(labels, predictions) == scores[name]
    assert np.array_equal(
        metrics.confusion_matrix(labels, predictions), sklearn.metrics.confusion_matrix(labels, predictions)
    )
    assert np.array_equal(
        metrics.confusion_matrix(labels, predictions, names),
        sklearn.metrics.confusion_matrix(labels, predictions, labels=names),
    )


def test_by_hand():
    # Worked by hand: a a a b → a a b b. Recall 2/3 and 1; F1 of a 4/5, of b 2/3.
    scores = metrics.score(["a", "a", "a", "b"], ["a", "a", "b", "b"])
    assert scores == pytest.approx({"accuracy": 3 / 4, "balanced_accuracy": 5 / 6, "macro_f1": 11 / 15})


def test_refuses_bad_input():
    # By hand: what has no meaning is named.
    with pytest.raises(ValueError, match="not empty"):
        metrics.score([], [])
    with pytest.raises(ValueError, match="length"):
        metrics.score(["a"], ["a", "b"])
    with pytest.raises(ValueError, match=r"\['z'\] are not among"):
        metrics.confusion_matrix(["a", "z"], ["a", "b"], ["b", "a"])

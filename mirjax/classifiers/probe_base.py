"""What all probes share: checked fits, learnt plain arrays, scores and labels.

Conventions
-----------
`x f64[M, D]` features, one row a clip; K classes, scores f64[M, K], of two classes f64[M, 1].

Names
-----
* `Probe`: fits that are all or nothing, `learnt` and `restore`
* `ProbeClassifier`: decisions from a subclass's `_scores`
* `is_number`: what parameters must be
"""

import contextlib
from numbers import Real

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from mirjax.classifiers.arithmetic import is_whole, one_blas_thread


def is_number(value):
    """Whether a parameter is a finite number (no truth value, no text)."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_) and bool(np.isfinite(value))


class Probe(BaseEstimator):
    """What all probes share: checked fits, plain arrays, scores."""

    _LEARNT = ()

    def _checked(self, X):
        check_is_fitted(self)
        return validate_data(self, X, dtype=np.float64, reset=False)

    @contextlib.contextmanager
    def _all_or_nothing(self):
        """One BLAS thread; after an error the probe is what it was before."""
        before = dict(vars(self))
        try:
            with one_blas_thread():
                yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _need_whole(self, name):
        self._refuse(name, is_whole(getattr(self, name)), "a whole number, at least 1")

    def _need_above_0(self, name):
        value = getattr(self, name)
        self._refuse(name, is_number(value) and value > 0, "a number, finite and above 0")

    def _refuse(self, name, holds, remedy):
        if not holds:
            raise ValueError(f"{name}={getattr(self, name)!r} must be {remedy}")

    def learnt(self):
        """What `fit` learnt, by name, for `mirjax.classifiers.save`."""
        return {name: getattr(self, name) for name in self._LEARNT}

    def restore(self, arrays):
        """Take back what `learnt` gave; returns self."""
        for name in self._LEARNT:
            setattr(self, name, arrays[name] if np.ndim(arrays[name]) else arrays[name].item())
        return self


class ProbeClassifier(ClassifierMixin, Probe):
    """A probe with scores [M, K], of two classes [M, 1], from `_scores`."""

    def decision_function(self, X):
        """Scores [M, K], the label being that of the largest; with two classes [M], positive for `classes_[1]`."""
        scores = self._scores(self._checked(X))
        return scores if scores.shape[1] > 1 else scores[:, 0]

    def predict(self, X):
        """The label [M] of the largest score."""
        return self._labels(self._scores(self._checked(X)))

    def _labels(self, scores):
        return self.classes_[scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(int)]

    def _odds(self, scores):
        """Probabilities [M, K] of scores that are logits."""
        return softmax(scores, axis=1) if scores.shape[1] > 1 else np.hstack([expit(-scores), expit(scores)])

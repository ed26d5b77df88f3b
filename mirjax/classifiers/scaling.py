"""Features standardised by the training rows.

Names
-----
* `standardisation`: mean and deviation of the columns
* `Scaled`: a classifier behind the standardisation of its training rows
"""

import copy

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from mirjax.classifiers.arithmetic import power_of_two


def standardisation(x, sample_weight=None):
    """Mean and population standard deviation f64[D] of the columns of x [M, D]; a deviation of 0 becomes 1.

    A column of one value has exactly that mean and deviation 0, whatever rounding says. A deviation in the last digits
    of the largest value is rounding too, and counts as 0.

    Args:
        x: rows [M, D].
        sample_weight: weights [M], at least 0; None is 1 each. Rows of weight 0 count as absent.
    """
    if sample_weight is not None and not np.all(counted := sample_weight > 0):
        x, sample_weight = x[counted], sample_weight[counted]
    size = power_of_two(np.abs(x).max(axis=0))
    x = x / size
    if sample_weight is None:
        mean, deviation = x.mean(axis=0), x.std(axis=0)
    else:
        mean = np.average(x, axis=0, weights=sample_weight)
        deviation = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=sample_weight))
    constant = x.max(axis=0) == x.min(axis=0)
    varies = ~constant & (deviation > 1e-12 * np.abs(x).max(axis=0))
    return np.where(constant, x[0], mean) * size, np.where(varies, deviation * size, 1.0)


def _has(method):
    return lambda scaled: hasattr(scaled.estimator, method)


class Scaled(ClassifierMixin, BaseEstimator):
    """A classifier behind the standardisation of its training rows.

    Args:
        estimator: the classifier; `fit` works on a clone of it. What it chooses by itself (`select=`) it chooses with
            this scaling held fixed: clips held out inside have had their part in mean and deviation.

    Attributes:
        mean_, deviation_: of the training rows, f64[D] (see `standardisation`).
        estimator_: the fitted classifier.
        classes_: its labels, sorted [K].
        n_features_in_: D.
    """

    def __init__(self, estimator):
        self.estimator = estimator

    @classmethod
    def around(cls, fitted, mean, deviation):
        """The fitted value of its learnt parts."""
        scaled = cls(clone(fitted))
        scaled.estimator_, scaled.mean_, scaled.deviation_ = fitted, mean, deviation
        scaled.classes_, scaled.n_features_in_ = fitted.classes_, len(mean)
        return scaled

    def fit(self, X, y):
        """Learn the standardisation of X [M, D], then fit to scaled rows and labels y [M].

        Returns:
            self; as it was if an error is raised.

        Raises:
            ValueError: the estimator gives values and not labels, or what its own `fit` raises.
        """
        if not is_classifier(self.estimator):
            raise ValueError(
                f"estimator is a {type(self.estimator).__name__}, which gives no labels; scale in front of it by its "
                "own scaling='standard', or by a Pipeline with StandardScaler"
            )
        fitted = copy.copy(self)
        X, y = validate_data(fitted, X, y, dtype=np.float64)
        fitted.mean_, fitted.deviation_ = standardisation(X)
        fitted.estimator_ = clone(self.estimator).fit(fitted._scale(X), y)
        fitted.classes_ = fitted.estimator_.classes_
        self.__dict__ = vars(fitted)
        return self

    def predict(self, X):
        """The labels [M]."""
        X = self._checked(X)
        return self.estimator_.predict(X)

    @available_if(_has("decision_function"))
    def decision_function(self, X):
        """The classifier's scores."""
        X = self._checked(X)
        return self.estimator_.decision_function(X)

    @available_if(_has("predict_proba"))
    def predict_proba(self, X):
        """The classifier's probabilities [M, K]."""
        X = self._checked(X)
        return self.estimator_.predict_proba(X)

    def _checked(self, X):
        check_is_fitted(self)
        return self._scale(validate_data(self, X, dtype=np.float64, reset=False))

    def _scale(self, x):
        return (x - self.mean_[None, :]) / self.deviation_[None, :]

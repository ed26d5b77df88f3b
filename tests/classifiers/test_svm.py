"""The support vector machine against scikit-learn's SVC on the features themselves."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.svm import SVC

from mirjax.classifiers.svm import SVMClassifier, inner_products


@pytest.mark.parametrize("load", [load_wine, load_digits, load_breast_cancer])
@pytest.mark.parametrize("params", [{}, {"gamma": 2.0**-9, "C": 32.0}, {"kernel": "linear", "C": 0.1}])
def test_predictions_are_those_of_svc(load, params):
    """Oracle: sklearn.svm.SVC with its own kernels; same support vectors, predictions and scores."""
    x, y = load(return_X_y=True)
    x, y = x[:400], y[:400]
    train = np.arange(len(x)) % 3 != 0
    ours = SVMClassifier(**params).fit(x[train], y[train])
    theirs = SVC(**({"kernel": "rbf", "C": 2.0, "gamma": "auto"} | params)).fit(x[train], y[train])
    np.testing.assert_array_equal(ours.predict(x[~train]), theirs.predict(x[~train]))
    np.testing.assert_array_equal(ours.svc_.support_, theirs.support_)
    np.testing.assert_allclose(ours.svc_.dual_coef_, theirs.dual_coef_, rtol=1e-12)
    scores = theirs.decision_function(x[~train])
    np.testing.assert_allclose(ours.decision_function(x[~train]), scores, rtol=1e-9, atol=1e-9)


def test_inner_products_are_blas_dot_products():
    """Oracle: scipy.linalg.blas.ddot, pair by pair, to the bit (what libsvm calls)."""
    from scipy.linalg.blas import ddot

    x = 30 * np.abs(np.random.default_rng(0).normal(size=(70, 500)))
    np.testing.assert_array_equal(inner_products(x, x[:9]), [[ddot(a, b) for b in x[:9]] for a in x])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"kernel": "poly"}, "kernel='poly'"),
        ({"C": 0.0}, "C=0.0"),
        ({"C": np.inf}, "C=inf must be a number, finite"),
        ({"C": "1"}, "C='1' must be a number"),
        ({"gamma": "scale"}, "gamma='scale'"),
        ({"gamma": np.inf}, "gamma=inf must be 'auto' or a finite number"),
    ],
)
def test_refuses_parameters_out_of_range(params, message):
    """Oracle: the contract, the message carries name and value."""
    with pytest.raises(ValueError, match=message):
        SVMClassifier(**params).fit(np.eye(2), [0, 1])


@pytest.mark.parametrize("y", [np.zeros(4), np.arange(4) / 3], ids=["one class", "continuous"])
def test_a_failed_fit_changes_nothing(y):
    """Oracle: the attributes before."""
    fitted = SVMClassifier().fit(np.eye(3), [0, 1, 1])
    before = dict(vars(fitted))
    with pytest.raises(ValueError):
        fitted.fit(np.ones((4, 7)), y)
    assert vars(fitted) == before


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_refuses_features_too_large_for_the_kernel(kernel):
    """Oracle: the contract; the attributes and predictions before."""
    x, y = load_wine(return_X_y=True)
    fitted = SVMClassifier(kernel=kernel).fit(x[:, :5], y)
    before = dict(vars(fitted))
    with pytest.raises(ValueError, match="leave float64, in row 0; scale the features"):
        fitted.fit(x * 1e160, y)
    assert vars(fitted) == before
    if kernel == "linear":
        with pytest.raises(ValueError, match="scale the features"):
            fitted.predict(x[:, :5] * 1e306)

"""Standardisation against scikit-learn's StandardScaler and hand-worked columns."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.preprocessing import StandardScaler

from mirjax.classifiers.scaling import standardisation


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("unit", [1.0, 1e160, 1e307 / 4254, 1e-170], ids=["plain", "large", "largest", "small"])
@pytest.mark.parametrize("load", [load_wine, load_digits, load_breast_cancer], ids=["wine", "digits", "cancer"])
def test_moments_in_any_unit(load, unit, weighted):
    """Oracle: StandardScaler of real features before a unit of measurement came in; 1e307 is next to the largest."""
    x, _ = load(return_X_y=True)
    w = np.random.default_rng(0).integers(0, 3, len(x)).astype(float) if weighted else None
    oracle = StandardScaler().fit(x, sample_weight=w)
    mean, deviation = standardisation(x * unit, w)
    varies = oracle.var_ > 0
    np.testing.assert_allclose(mean / unit, oracle.mean_, rtol=1e-12)
    np.testing.assert_allclose(deviation[varies] / unit, oracle.scale_[varies], rtol=1e-11)
    assert (deviation[~varies] == 1).all()


@pytest.mark.parametrize("unit", [1.0, 0.1, 1e-3])
def test_a_power_of_two_is_exact(unit):
    """Oracle: numpy's mean and deviation of the columns, to the last bit: the division inside rounds nothing."""
    x = load_breast_cancer(return_X_y=True)[0] * unit
    mean, deviation = standardisation(x)
    np.testing.assert_array_equal(mean, x.mean(0))
    np.testing.assert_array_equal(deviation, x.std(0))


def test_rows_of_weight_zero_are_absent():
    """Oracle: 1 and 2 by hand; and a column that is constant without the row left out."""
    x = np.array([[1, 5], [2, 5], [1e20, 7]])
    mean, deviation = standardisation(x, np.array([1.0, 1.0, 0.0]))
    np.testing.assert_array_equal(mean, [1.5, 5])
    np.testing.assert_array_equal(deviation, [0.5, 1])

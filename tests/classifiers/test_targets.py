"""Labels and values as targets and back, and weights of classes."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.preprocessing import LabelBinarizer, MultiLabelBinarizer
from sklearn.utils.class_weight import compute_sample_weight

from mirjax.classifiers.targets import Encoding, weigh_classes

THREE = np.array(["waltz", "rumba", "tango", "rumba", "waltz"])
INDICATOR = MultiLabelBinarizer().fit_transform([(0, 2), (1,), (), (0, 1, 2)])


@pytest.mark.parametrize(
    "y",
    [THREE, THREE.astype(object), THREE == "waltz", np.array([7, -3, 7, 5]), np.array([1.0, 0.0, 1.0])],
    ids=["text", "object", "bool", "int", "whole float"],
)
def test_classes_are_a_binarizers(y):
    """Oracle: sklearn.preprocessing.LabelBinarizer of −1 and +1; two classes have one column."""
    encoding, targets = Encoding.fit(y)
    np.testing.assert_array_equal(targets, LabelBinarizer(neg_label=-1).fit_transform(y))
    np.testing.assert_array_equal(encoding.classes, np.unique(y))
    np.testing.assert_array_equal(encoding.decode(0.1 * targets), y)
    np.testing.assert_array_equal(encoding.encode(y[:2]), targets[:2])
    assert (encoding.kind, encoding.num_outputs, targets.dtype) == ("classes", targets.shape[1], np.float64)


def test_a_score_of_zero_is_the_first_class():
    """Oracle: scikit-learn's rule for binary scores, positive for `classes_[1]` only above 0; ties go to the first."""
    encoding, _ = Encoding.fit(["no", "yes"])
    assert encoding.decode(np.array([[0.0], [1e-300], [-1.0]])).tolist() == ["no", "yes", "no"]
    encoding, _ = Encoding.fit(THREE)
    assert encoding.decode(np.zeros((1, 3))).tolist() == ["rumba"]


@pytest.mark.parametrize("wrap", [np.asarray, csr_array], ids=["dense", "sparse"])
def test_several_labels_a_clip(wrap):
    """Oracle: the indicator itself, as ±1."""
    encoding, targets = Encoding.fit(wrap(INDICATOR))
    np.testing.assert_array_equal(targets, 2 * INDICATOR - 1)
    np.testing.assert_array_equal(encoding.decode(targets), INDICATOR)
    assert encoding.kind == "multilabel" and encoding.classes.tolist() == [0, 1, 2]


@pytest.mark.parametrize("y", [np.array([1.5, -2, 3]), np.array([[1.5, 2], [3, 4]]), np.array([[1.0], [2]])])
def test_values_stay_as_they_are(y):
    """Oracle: y."""
    encoding, targets = Encoding.fit(y, regression=True)
    np.testing.assert_array_equal(targets, y.reshape(len(y), -1))
    np.testing.assert_array_equal(encoding.decode(targets), y)
    assert encoding.classes is None


def test_classes_named_beforehand():
    """Oracle: LabelBinarizer fitted to all classes; a part of the table may lack some, even all but one."""
    encoding, targets = Encoding.fit(["tango"], classes=["waltz", "tango", "rumba", "tango"])
    np.testing.assert_array_equal(targets, LabelBinarizer(neg_label=-1).fit(THREE).transform(["tango"]))
    assert encoding.classes.tolist() == ["rumba", "tango", "waltz"]


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (THREE, ["waltz", "polka"], r"labels unseen at fit, \['polka'\]; the classes are .*: leave these clips out"),
        ([0, 1, 2], ["a", "b"], r"labels unseen at fit, \['a', 'b'\]"),
        ([0, 1, 2], [0.5, 1], r"labels unseen at fit, \[0.5\]"),
        (THREE.astype(object), np.array(["waltz", 3], object), r"labels unseen at fit, \[3\]"),
        (INDICATOR, INDICATOR[:, :2], "y has 2 labels a clip; the fitted problem has 3"),
        (INDICATOR, [0, 1, 2, 1], "several labels a clip are zeros and ones"),
        (INDICATOR, 2 * INDICATOR, "several labels a clip are zeros and ones"),
    ],
)
def test_refuses_labels_it_has_not_seen(first, then, message):
    """Oracle: the contract; name, value and remedy."""
    encoding, _ = Encoding.fit(first)
    with pytest.raises(ValueError, match=message):
        encoding.encode(then)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["tango", "tango"], "one class only, 'tango'; a classifier needs clips of two classes or more"),
        ([0.5, 1.7, 0.2], "continuous"),
        (np.array(["a", 3], object), "y mixes labels of several types, such as text and numbers; give all as text"),
        (np.array([[1, 2], [3, 4]]), "should be a 1d array"),
    ],
)
def test_refuses_what_are_no_labels(y, message):
    """Oracle: the contract."""
    with pytest.raises(ValueError, match=message):
        Encoding.fit(y)


def test_refuses_values_that_do_not_fit():
    """Oracle: the contract."""
    encoding, _ = Encoding.fit(np.ones((3, 2)), regression=True)
    with pytest.raises(ValueError, match="y has 1 columns; the fitted problem has 2"):
        encoding.encode(np.ones(3))
    with pytest.raises(ValueError, match="not finite; leave these clips out"):
        encoding.encode([[1, np.nan]])


@pytest.mark.parametrize("class_weight", ["balanced", {"waltz": 2, "rumba": 0.5, "tango": 0}, None], ids=str)
def test_class_weights_are_scikit_learns(class_weight):
    """Oracle: sklearn.utils.class_weight.compute_sample_weight."""
    expected = compute_sample_weight(class_weight, THREE)
    np.testing.assert_allclose(weigh_classes(THREE, class_weight, np.ones(5)), expected, rtol=1e-15)
    repeats = np.array([2, 0, 1, 3, 1])
    rows = np.repeat(np.arange(5), repeats)
    total = np.bincount(rows, weights=weigh_classes(THREE[rows], class_weight, np.ones(len(rows))), minlength=5)
    np.testing.assert_allclose(weigh_classes(THREE, class_weight, repeats.astype(float)), total, rtol=1e-15)


@pytest.mark.parametrize(
    ("y", "class_weight", "message"),
    [
        (THREE, "even", "class_weight='even' is neither None, 'balanced' nor a dict"),
        (THREE, 2.0, "class_weight=2.0 is neither"),
        (THREE, ["waltz"], "is neither None, 'balanced' nor a dict"),
        (THREE, {"waltz": 1}, r"no weight for \['rumba', 'tango'\]; give one for every class"),
        (THREE, {"waltz": 1, "rumba": -1, "tango": 1}, "finite numbers of at least 0"),
        (THREE, {"waltz": 1, "rumba": np.nan, "tango": 1}, "finite numbers of at least 0"),
        (THREE, {"waltz": 1, "rumba": "much", "tango": 1}, "finite numbers of at least 0"),
        (INDICATOR, "balanced", "one label a clip; give sample_weight instead"),
    ],
)
def test_refuses_class_weights(y, class_weight, message):
    """Oracle: the contract."""
    with pytest.raises(ValueError, match=message):
        weigh_classes(y, class_weight, np.ones(len(y)))

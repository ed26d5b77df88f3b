"""Labels and values as the columns of a least-squares problem, and back.

Conventions
-----------
`targets f64[M, K]`, one row a clip.

============  =================================  ==============================================================
kind          y                                  targets
============  =================================  ==============================================================
classes       [M], text or whole numbers         ±1, one class against the rest; of two classes one column
multilabel    [M, L] of zeros and ones           ±1, a column a label
regression    [M] or [M, L], numbers             y itself
============  =================================  ==============================================================

Names
-----
* `Encoding`: the kind of a problem and its classes; `fit`, `encode`, `decode`
* `weigh_classes`: a weight for every clip from weights of classes
"""

import dataclasses
from collections.abc import Mapping
from numbers import Real

import numpy as np
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from mirjax.classifiers import find_classes


@dataclasses.dataclass(frozen=True, eq=False)
class Encoding:
    """How labels or values of one problem are written as targets.

    Attributes:
        kind: `classes`, `multilabel` or `regression`.
        classes: the sorted labels [K]; the numbers of the labels of `multilabel`; None of a regression.
        num_outputs: columns of the targets: K, 1 of two classes.
        is_flat: whether decoded values have one axis.
    """

    kind: str
    classes: np.ndarray | None
    num_outputs: int
    is_flat: bool

    @classmethod
    def fit(cls, y, *, regression=False, classes=None):
        """The encoding of y and its targets f64[M, K].

        Args:
            y: labels or values (see the module).
            regression: whether y are values.
            classes: all labels there will be, where y need not hold every one of them (for parts of a table).

        Raises:
            ValueError: one class only, labels that are continuous or of several kinds.
        """
        if regression:
            y = np.asarray(y, dtype=np.float64)
            encoding = cls("regression", None, 1 if y.ndim == 1 else y.shape[1], y.ndim == 1)
        elif _is_indicator(y):
            y = _indicator(y)
            encoding = cls("multilabel", np.arange(y.shape[1]), y.shape[1], False)
        else:
            check_classification_targets(y)
            y = column_or_1d(y, warn=True)
            found, _ = find_classes(y if classes is None else classes)
            encoding = cls("classes", found, len(found) if len(found) > 2 else 1, True)
        return encoding, encoding.encode(y)

    def encode(self, y):
        """Targets f64[M, K] of further labels or values.

        Raises:
            ValueError: labels that are not among the classes, another number of columns.
        """
        if self.kind == "regression":
            y = np.asarray(y, dtype=np.float64)
            columns = y.reshape(len(y), -1)
            if columns.shape[1] != self.num_outputs:
                raise ValueError(f"y has {columns.shape[1]} columns; the fitted problem has {self.num_outputs}")
            if not np.isfinite(columns).all():
                raise ValueError("y has values that are not finite; leave these clips out")
            return columns
        if self.kind == "multilabel":
            y = _indicator(y)
            if y.shape[1] != self.num_outputs:
                raise ValueError(f"y has {y.shape[1]} labels a clip; the fitted problem has {self.num_outputs}")
            return np.where(y != 0, 1.0, -1.0)
        y = column_or_1d(y)
        known = set(self.classes.tolist())
        unseen = [label for label in dict.fromkeys(y.tolist()) if label not in known]
        if unseen:
            raise ValueError(
                f"y has labels unseen at fit, {unseen[:5]}; the classes are {self.classes.tolist()[:10]}: leave these "
                "clips out, or name all classes when fitting first"
            )
        columns = self.classes if len(self.classes) > 2 else self.classes[1:]
        return np.where(y[:, None] == columns[None, :], 1.0, -1.0)

    def decode(self, scores):
        """Labels [M], indicator int[M, L] or values from scores f64[M, K]."""
        if self.kind == "regression":
            return scores[:, 0] if self.is_flat else scores
        if self.kind == "multilabel":
            return (scores > 0).astype(int)
        return self.classes[scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(int)]


def weigh_classes(y, class_weight, sample_weight):
    """Weights f64[M] of clips, multiplied by those of their classes.

    Args:
        y: labels [M].
        class_weight: None; a weight for every label; or `balanced`: n / (K n_k), n_k the weight of class k.
        sample_weight: f64[M], at least 0.

    Raises:
        ValueError: labels without a weight, weights below 0, several labels a clip.
    """
    if class_weight is None:
        return sample_weight
    y = np.asarray(y)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise ValueError(f"class_weight={class_weight!r} is for one label a clip; give sample_weight instead")
    classes, codes = np.unique(y, return_inverse=True)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight={class_weight!r} is neither None, 'balanced' nor a dict of weights")
        totals = np.bincount(codes, weights=sample_weight)
        shares = np.where(totals > 0, sample_weight.sum() / (np.count_nonzero(totals) * np.maximum(totals, 1e-300)), 0)
        return sample_weight * shares[codes]
    if not isinstance(class_weight, Mapping):
        raise ValueError(f"class_weight={class_weight!r} is neither None, 'balanced' nor a dict of weights")
    missing = [label for label in classes.tolist() if label not in class_weight]
    if missing:
        raise ValueError(f"class_weight has no weight for {missing[:5]}; give one for every class")
    weights = [class_weight[label] for label in classes.tolist()]
    if not all(isinstance(weight, Real) and 0 <= weight < np.inf for weight in weights):
        raise ValueError(f"class_weight={class_weight!r} must hold finite numbers of at least 0")
    return sample_weight * np.array(weights, dtype=np.float64)[codes]


def _is_indicator(y):
    try:
        return type_of_target(y, input_name="y") == "multilabel-indicator"
    except TypeError as error:
        raise ValueError("y mixes labels of several types, such as text and numbers; give all as text") from error


def _indicator(y):
    y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    if y.ndim != 2 or not np.isin(y, (0, 1)).all():
        raise ValueError(f"y has shape {y.shape}; several labels a clip are zeros and ones [M, L]")
    return y

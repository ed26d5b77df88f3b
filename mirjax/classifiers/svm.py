"""Support vector machine: scikit-learn's SVC through a precomputed kernel.

Conventions
-----------
`x f64[M, D]` features, one row a clip. Kernels: `linear` x·x', `rbf` exp(−γ‖x − x'‖²).

SVC computes every kernel entry anew for every setting of a grid; here inner products and distances are
computed once and shared. So that the optimiser walks the same path and the predictions are SVC's, the entries
are made as libsvm makes them: in training ‖x‖² + ‖x'‖² − 2x·x' with BLAS's dot product pair by pair (a matrix
product sums in another order, and equal predictions would rest on luck), in prediction the squared differences
summed.

Source
------
Chang and Lin (2011), LIBSVM: a library for support vector machines; C-SVC, one against one.

Names
-----
* `SVMClassifier`: the classifier, in scikit-learn manners
* `inner_products`, `training_kernel`, `prediction_kernel`: its parts, shared with `grid`
"""

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.base import ClassifierMixin
from sklearn.svm import SVC
from sklearn.utils.validation import validate_data

from mirjax.classifiers import find_classes
from mirjax.classifiers.probe_base import Probe, is_number

_BLOCK = 64  # rows a block: two blocks of 3,584 features stay in a second-level cache


def inner_products(a, b):
    """Inner products a·b of all rows: `[M, D], [N, D] → f64[M, N]`, each BLAS's dot product of two rows.

    Entries are symmetric to the bit, and do not depend on the other rows.
    """
    products = np.empty((len(a), len(b)))
    for i in range(0, len(a), _BLOCK):
        for j in range(0, len(b), _BLOCK):
            rows, columns = a[i : i + _BLOCK, None], b[None, j : j + _BLOCK]
            products[i : i + _BLOCK, j : j + _BLOCK] = np.vecdot(rows, columns)
    return products


def training_kernel(products, gamma):
    """exp(−γ(‖x‖² + ‖x'‖² − 2x·x')) of the inner products [n, n] of training rows."""
    squares = np.diagonal(products)
    return np.exp(-gamma * (squares[:, None] + squares[None, :] - 2 * products))


def prediction_kernel(squared_distances, gamma):
    """exp(−γ‖x − x'‖²) of the squared distances [m, n] between test and training rows."""
    return np.exp(-gamma * squared_distances)


def _finite(kernel):
    if not np.isfinite(kernel).all():
        row = np.flatnonzero(~np.isfinite(kernel).all(axis=1))[0]
        raise ValueError(f"X has products of rows that leave float64, in row {row}; scale the features")
    return kernel


class SVMClassifier(ClassifierMixin, Probe):
    """C-support vector classification, one against one, with `sklearn.svm.SVC`'s predictions.

    Args:
        kernel: `rbf` or `linear`.
        C: weight of the slack, above 0.
        gamma: γ of the rbf kernel, above 0; `auto` is 1/D.

    Attributes:
        classes_: the labels, sorted [K].
        svc_: the `sklearn.svm.SVC(kernel="precomputed")` behind it.
        x_fit_, y_fit_: the training rows and labels.
        n_features_in_: D.

    Reference:
        Chang and Lin (2011).
    """

    def __init__(self, *, kernel="rbf", C=2.0, gamma="auto"):
        self.kernel = kernel
        self.C = C
        self.gamma = gamma

    def fit(self, X, y):
        """Fit to features X [M, D] and labels y [M] of at least two classes; returns self, as it was after an error.

        Raises:
            ValueError: a parameter out of range, features not finite or too large for the kernel, a single class.
        """
        if self.kernel not in ("rbf", "linear"):
            raise ValueError(f"kernel={self.kernel!r} is neither 'rbf' nor 'linear'")
        self._need_above_0("C")
        auto = isinstance(self.gamma, str) and self.gamma == "auto"
        self._refuse("gamma", auto or (is_number(self.gamma) and self.gamma > 0), "'auto' or a finite number above 0")
        with self._all_or_nothing():
            self.x_fit_, self.y_fit_ = validate_data(self, X, y, dtype=np.float64, order="C")
            self.classes_, _ = find_classes(self.y_fit_)
            with np.errstate(over="ignore", invalid="ignore"):
                kernel = inner_products(self.x_fit_, self.x_fit_)
                if self.kernel == "rbf":
                    kernel = training_kernel(kernel, self._gamma)
            self.svc_ = SVC(kernel="precomputed", C=self.C).fit(_finite(kernel), self.y_fit_)
        return self

    def decision_function(self, X):
        """SVC's one-against-rest scores [M, K]; with two classes [M], for `classes_[1]`.

        As in SVC, the label is a vote of the pairs and need not be the class of the largest score.
        """
        kernel = self._kernel_to_training(X)
        return self.svc_.decision_function(kernel)

    def predict(self, X):
        """The labels [M]."""
        kernel = self._kernel_to_training(X)
        return self.svc_.predict(kernel)

    @property
    def _gamma(self):
        return 1 / self.n_features_in_ if self.gamma == "auto" else self.gamma

    def _kernel_to_training(self, X):
        X = np.ascontiguousarray(self._checked(X))
        if self.kernel == "linear":
            with np.errstate(over="ignore", invalid="ignore"):
                return _finite(inner_products(X, self.x_fit_))
        return prediction_kernel(cdist(X, self.x_fit_, "sqeuclidean"), self._gamma)

    def learnt(self):
        """The training rows and labels, for `mirjax.classifiers.save`."""
        return {"x": self.x_fit_, "y": self.y_fit_}

    def restore(self, arrays):
        """Fit again to what `learnt` gave; returns self."""
        return self.fit(arrays["x"], arrays["y"])

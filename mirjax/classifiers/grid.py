"""All settings of a classifier at once, over many training and test sets of one table of features.

A screening asks for the predictions of every grid setting on every fold, outer and inner, of thousands of
feature tables. A grid holds one table `x f64[M, D]` with its labels `y [M]`, computes once what the settings
and the folds share, and answers for any pair of index sets. The answer is that of the single classifier
fitted to those rows, does not depend on what was asked before, and is the same to the bit when asked again.

The grids
---------
`elm`   6 settings: 100, 250, 500, 1200, 1800, 2500 hidden units, the fewer the first of the more
`svm`   32 settings: rbf with γ = 2⁻³, 2⁻⁵, … 2⁻¹³, 1/D (`auto`), and linear, each with C = 0.1, 2, 8, 32
`knn`   1, 3, 5, 10, 20, 30, 50, 100 neighbours, no more than clips; a smaller training set votes whole

What is shared
--------------
*ELM.* Let H [M, h] be the hidden activations of all rows. Where h ≥ M, H = LQ with orthonormal rows in Q, so
that for the rows of any training set pinv(H) = Qᵀ pinv(L) and H' pinv(H) = L' pinv(L): the small L [M, M]
stands for H, singular values included, and L of more units follows from L of fewer and the new units. A
training set is picked by zeroing the other rows, which leaves the pseudo-inverse of the rest as it is, so
that all folds share one compiled program.
*SVM.* Inner products and squared distances, once (for every training set when it scales the features); see
`svm`.
*kNN.* One sorting for all k.

Source
------
Grids: Pons and Serra (2019), Randomly weighted CNNs for (music) audio classification, and its released code.

Names
-----
* `make_grid`: a `Grid` by its name
* `Grid`: `settings`, `classes`, `predict`, `scores`, `fit`
"""

import importlib
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import sklearn
from scipy.spatial.distance import cdist
from sklearn.svm import SVC

from mirjax.classifiers import GRIDS, elm, find_classes, knn, pseudo_inverse, svm
from mirjax.classifiers.arithmetic import double_precision, one_blas_thread
from mirjax.classifiers.hidden import draw_layer
from mirjax.classifiers.scaling import Scaled, standardisation

ELM_HIDDEN_UNITS = (100, 250, 500, 1200, 1800, 2500)
SVM_GAMMAS = (2.0**-3, 2.0**-5, 2.0**-7, 2.0**-9, 2.0**-11, 2.0**-13, "auto")
SVM_CS = (0.1, 2.0, 8.0, 32.0)
KNN_NEIGHBOURS = (1, 3, 5, 10, 20, 30, 50, 100)
SCALINGS = ("none", "standard")
_THREADS = 2


def make_grid(name, x, y, *, scaling="none", seed=0):
    """A grid of classifiers over one table of features.

    Args:
        name: a key of `mirjax.classifiers.GRIDS`: `elm`, `svm`, `knn`, and those of `ridge_grid`.
        x: features [M, D] of all clips, finite.
        y: labels [M], text or whole numbers, two classes or more.
        scaling: `none`, or `standard`: every column less its mean and divided by its population standard
            deviation over the training rows (a deviation of 0 divides by 1), anew for every training set.
        seed: of the ELM's hidden layer; the others draw nothing.

    Returns:
        A `Grid`.

    Raises:
        ValueError: an unknown name or scaling, features that are not finite, lengths that differ, one class
            only.
    """
    if name not in GRIDS:
        raise ValueError(f"classifier {name!r} is unknown; there are {', '.join(GRIDS)}")
    if scaling not in SCALINGS:
        raise ValueError(f"scaling={scaling!r} is unknown; there are {', '.join(SCALINGS)}")
    x = np.array(x, dtype=np.float64, order="C")
    y = np.array(y)
    if x.ndim != 2 or y.shape != x.shape[:1] or 0 in x.shape:
        raise ValueError(f"x has shape {x.shape} and y {y.shape}; they must be [M, D] and [M], and not empty")
    faults = np.argwhere(~np.isfinite(x))
    if len(faults):
        row, column = faults[0]
        raise ValueError(
            f"x has {len(faults)} values that are not finite, in {len(np.unique(faults[:, 0]))} rows, "
            f"first x[{row}, {column}]={x[row, column]}; leave these clips out"
        )
    module, kind = GRIDS[name]
    return getattr(importlib.import_module(f"mirjax.classifiers.{module}"), kind)(x, y, scaling, seed)


class Grid(ABC):
    """All settings of one classifier over one table of features; made by `make_grid`.

    Attributes:
        settings: the settings in order, dicts of the classifier's parameters.
        classes: the sorted labels [K] of the whole table.
    """

    settings: tuple[dict, ...]

    def __init__(self, x, y, scaling, seed):
        self.x, self.y, self.scaling, self.seed = x, y, scaling, seed
        self.classes, self.codes = find_classes(y)

    def predict(self, train, test):
        """Predictions of every setting.

        Args:
            train: indices [n] of the training rows, each at most once, of at least two classes.
            test: indices [m] of the rows to label.

        Returns:
            Labels [G, m], one row a setting.

        Raises:
            ValueError: indices that are not of the table, training rows given twice or of one class only.
        """
        train, test = self._checked(train, test)
        return self.classes[self._predict(train, test)]

    def scores(self, setting, train, test):
        """Predictions and scores of one setting.

        Args:
            setting: index into `settings`.
            train, test: as in `predict`.

        Returns:
            Labels [m], the row of `predict`, and scores f64[m, K], whose columns follow `classes`: ELM
            outputs, SVC's one-against-rest scores (their largest need not be the label, which is a vote of
            the pairs), shares of the votes. A class without training rows is never predicted; it gets the
            lowest score of the other classes less 1 (nearest neighbours: share 0).
        """
        train, test = self._checked(train, test)
        codes, scores = self._scores(setting, train, test)
        return self.classes[codes], scores

    def fit(self, setting, train):
        """The classifier of one setting, fitted to the training rows; in `Scaled` with scaling `standard`."""
        train, _ = self._checked(train, train)
        classifier = self._classifier(self.settings[setting], len(train))
        if self.scaling == "standard":
            classifier = Scaled(classifier)
        return classifier.fit(self.x[train], self.y[train])

    @abstractmethod
    def _predict(self, train, test):
        """Class indices int[G, m]."""

    @abstractmethod
    def _scores(self, setting, train, test):
        """Class indices int[m] and scores f64[m, K] of one setting."""

    @abstractmethod
    def _classifier(self, setting, num_train): ...

    def _checked(self, train, test):
        train, test = np.asarray(train), np.asarray(test)
        for name, rows in (("train", train), ("test", test)):
            if rows.ndim != 1 or not len(rows) or not np.issubdtype(rows.dtype, np.integer):
                raise ValueError(f"{name} is {rows.dtype}{list(rows.shape)}; give the indices of its rows")
            if rows.min() < 0 or rows.max() >= len(self.x):
                raise ValueError(f"{name} has indices {rows.min()}…{rows.max()}; there are {len(self.x)} rows")
        rows, counts = np.unique(train, return_counts=True)
        if len(rows) < len(train):
            raise ValueError(f"train has row {rows[counts > 1][0]} more than once; give every row once")
        if len(np.unique(self.codes[train])) < 2:
            label = self.classes.tolist()[self.codes[train[0]]]
            raise ValueError(f"train has one class only, {label!r}; it needs clips of two classes or more")
        return train, test

    def _scaled(self, train):
        """The table, scaled by the training rows when asked for."""
        if self.scaling == "none":
            return self.x
        mean, deviation = standardisation(self.x[train])
        return (self.x - mean[None, :]) / deviation[None, :]

    def _complete(self, scores, present):
        """Scores [m, len(present)] as [m, K], absent classes below the others."""
        complete = np.repeat(scores.min(axis=1, keepdims=True) - 1, len(self.classes), axis=1)
        complete[:, present] = scores
        return complete


class ELMGrid(Grid):
    """Six sizes of the published extreme learning machine."""

    settings = tuple({"hidden_units": units} for units in ELM_HIDDEN_UNITS)

    def __init__(self, x, y, scaling, seed):
        super().__init__(x, y, scaling, seed)
        layer = draw_layer(x.shape[1], ELM_HIDDEN_UNITS[-1], seed)
        self._layer = layer.weights, layer.bias
        self._targets = np.where(self.codes[:, None] == np.arange(len(self.classes))[None, :], 1.0, -1.0)
        self._shared = self._designs(x) if scaling == "none" else None

    def _designs(self, x):
        """For every size a matrix whose rows stand for the rows of H."""
        with one_blas_thread(), double_precision():
            return pseudo_inverse.reduce_activations(pseudo_inverse.activate(x, *self._layer), ELM_HIDDEN_UNITS)

    def _predict(self, train, test):
        return self._outputs(self.settings, train, test).argmax(axis=2)

    def _scores(self, setting, train, test):
        scores = self._outputs([self.settings[setting]], train, test)[0]
        return scores.argmax(axis=1), scores

    def _outputs(self, settings, train, test):
        designs = self._shared or self._designs(self._scaled(train))
        in_train = np.zeros((len(self.x), 1))
        in_train[train] = 1
        present = np.unique(self.codes[train])

        def outputs(setting):
            design = designs[self.settings.index(setting)]
            with double_precision():
                outputs = np.asarray(pseudo_inverse.fit_and_score(design, in_train, self._targets))[test][:, present]
            if len(present) == 2:
                outputs[:, 0] = -outputs[:, 1]
            return self._complete(outputs, present)

        with one_blas_thread(), ThreadPoolExecutor(_THREADS) as pool:
            return np.stack(list(pool.map(outputs, settings)))

    def _classifier(self, setting, num_train):
        return elm.ELMClassifier(**setting, random_state=self.seed)


class SVMGrid(Grid):
    """The study's 32 settings of the support vector machine."""

    settings = (
        *({"kernel": "rbf", "gamma": gamma, "C": C} for gamma in SVM_GAMMAS for C in SVM_CS),
        *({"kernel": "linear", "C": C} for C in SVM_CS),
    )

    def __init__(self, x, y, scaling, seed):
        super().__init__(x, y, scaling, seed)
        if scaling == "none":
            self._products = svm.inner_products(x, x)
            self._distances = cdist(x, x, "sqeuclidean")

    def _geometry(self, train, test):
        """Inner products [n, n] and [m, n], and squared distances [m, n], to the training rows."""
        if self.scaling == "none":
            pairs = np.ix_(test, train)
            return self._products[np.ix_(train, train)], self._products[pairs], self._distances[pairs]
        x = self._scaled(train)
        return (
            svm.inner_products(x[train], x[train]),
            svm.inner_products(x[test], x[train]),
            cdist(x[test], x[train], "sqeuclidean"),
        )

    def _predict(self, train, test):
        products, test_products, distances = self._geometry(train, test)

        def predictions(kernel):
            gram, test_gram = self._kernels(*kernel, products, test_products, distances)
            # What scikit-learn would check on every call is known here, and costs as much as the fit.
            with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
                return [self._fitted(gram, C, train).predict(test_gram) for C in SVM_CS]

        kernels = [*(("rbf", gamma) for gamma in SVM_GAMMAS), ("linear", None)]
        # libsvm lets go of the interpreter while it optimises.
        with ThreadPoolExecutor(_THREADS) as pool:
            return np.concatenate(list(pool.map(predictions, kernels)))

    def _scores(self, setting, train, test):
        setting = self.settings[setting]
        gram, test_gram = self._kernels(setting["kernel"], setting.get("gamma"), *self._geometry(train, test))
        svc = self._fitted(gram, setting["C"], train)
        scores = svc.decision_function(test_gram)
        scores = scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)
        return svc.predict(test_gram), self._complete(scores, svc.classes_)

    def _kernels(self, kernel, gamma, products, test_products, distances):
        if kernel == "linear":
            return products, test_products
        gamma = 1 / self.x.shape[1] if gamma == "auto" else gamma
        return svm.training_kernel(products, gamma), svm.prediction_kernel(distances, gamma)

    def _fitted(self, gram, C, train):
        return SVC(kernel="precomputed", C=C).fit(gram, self.codes[train])

    def _classifier(self, setting, num_train):
        return svm.SVMClassifier(**setting)


class KNNGrid(Grid):
    """The study's numbers of neighbours."""

    def __init__(self, x, y, scaling, seed):
        super().__init__(x, y, scaling, seed)
        self.settings = tuple({"n_neighbors": k} for k in KNN_NEIGHBOURS if k <= len(x))
        if scaling == "none":
            self._distances = cdist(x, x, "sqeuclidean")

    def _predict(self, train, test):
        return self._shares(self.settings, train, test).argmax(axis=2)

    def _scores(self, setting, train, test):
        shares = self._shares([self.settings[setting]], train, test)[0]
        return shares.argmax(axis=1), shares

    def _shares(self, settings, train, test):
        if self.scaling == "none":
            distances = self._distances[np.ix_(test, train)]
        else:
            x = self._scaled(train)
            distances = cdist(x[test], x[train], "sqeuclidean")
        ks = [min(setting["n_neighbors"], len(train)) for setting in settings]
        codes = self.codes[train][knn.rank_neighbours(distances, max(ks))]
        return np.stack([knn.count_votes(codes, k, len(self.classes)) / k for k in ks])

    def _classifier(self, setting, num_train):
        return knn.NearestNeighbours(n_neighbors=min(setting["n_neighbors"], num_train))

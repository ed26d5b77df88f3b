"""Grids of machines with a ridge, of their kernel limit, and of the probes (see `grid` for what a grid is).

The grids
---------
`elm_ridge`            60 settings: the six sizes × ten ridges (`elm.RIDGES`), all from one path a training set
`elm_orthogonal`       the same with orthogonal hidden weights
`elm_sparse`           the same with hidden weights of which a tenth is not 0
`elm_whitened`         the same with hidden weights in the space where the training rows are white
`elm_loo`              one setting: the 60 are chosen among by leaving out one training clip at a time
`elm_orthogonal_loo`   the same with orthogonal hidden weights
`elm_gcv`              the same as `elm_loo`, chosen by generalised cross-validation
`elm_kernel`           ten ridges of the kernel limit (`kernel`)
`knn_cosine`           the numbers of neighbours of `knn`, by cosine distance
`linear`               logistic regression, C = 10⁻³ … 10³
`linear_svm`           C = 0.1, 1, 2
`mlp`                  one setting: 2 × 256 hidden units
`gmm`                  1, 2, 4 and 8 Gaussians a class, no more than half the clips of its smallest class

A machine that chooses by itself does so with the scaling of its training rows held fixed.

Source
------
Linear machine and neighbours: the released code of Pons and Serra (2019); multilayer perceptron: Kim, Urbano, Liem and
Hanjalic (2020), One deep music representation to rule them all?, Neural Computing and Applications 32.

Names
-----
* `RidgeGrid`, `OrthogonalGrid`, `LeaveOneOutGrid`, …: the grids, made by `grid.make_grid`
"""

from abc import abstractmethod

import numpy as np

from mirjax.classifiers import elm, kernel, knn, mixture, probes
from mirjax.classifiers.closed_form import RidgePath
from mirjax.classifiers.grid import ELM_HIDDEN_UNITS, KNN_NEIGHBOURS, Grid
from mirjax.classifiers.hidden import draw_layer
from mirjax.classifiers.kernel_path import KernelPath
from mirjax.classifiers.scaling import Scaled


class _AdaptedGrid(Grid):
    """Settings that a training set may change: in `fit` as in `predict` and `scores`."""

    def fit(self, setting, train):
        """As `Grid.fit`."""
        train, _ = self._checked(train, train)
        classifier = self._classifier(self._adapted(self.settings[setting], train), len(train))
        if self.scaling == "standard":
            classifier = Scaled(classifier)
        return classifier.fit(self.x[train], self.y[train])

    def _adapted(self, setting, train):
        """The setting's parameters for a training set."""
        return setting


class _PathGrid(_AdaptedGrid):
    """Settings that share one path (`closed_form`) a training set."""

    @abstractmethod
    def _path(self, x, train, targets):
        """The path fitted to the training rows, and what it predicts for: rows of all clips."""

    def _predict(self, train, test):
        return self._outputs(train, test).argmax(axis=2)

    def _scores(self, setting, train, test):
        scores = self._outputs(train, test)[setting]
        return scores.argmax(axis=1), scores

    def _outputs(self, train, test):
        """Scores f64[G, m, K]."""
        present = np.unique(self.codes[train])
        targets = np.where(self.codes[train][:, None] == present[None, :], 1.0, -1.0)
        path, rows = self._path(self._scaled(train), train, targets)
        outputs = path.predict(rows[test])
        outputs = outputs.reshape(-1, *outputs.shape[2:])
        return np.stack([self._complete(scores, present) for scores in outputs])


class RidgeGrid(_PathGrid):
    """Nested sizes × ridges of an extreme learning machine.

    λ is a ridge times the mean diagonal of HᵀH of the widest layer, for every size. The machine that `fit` gives has
    few units and not the others: its `ridge` is the same λ in units of its own mean diagonal.
    """

    weights = "normal"
    settings = tuple({"hidden_units": units, "ridge": ridge} for units in ELM_HIDDEN_UNITS for ridge in elm.RIDGES)

    def __init__(self, x, y, scaling, seed):
        super().__init__(x, y, scaling, seed)
        self._layer = self._drawn()
        self._hidden = self._layer(self.x) if scaling == "none" else None

    def _drawn(self, rows=None):
        return draw_layer(self.x.shape[1], ELM_HIDDEN_UNITS[-1], self.seed, weights=self.weights, x=rows)

    def _path(self, x, train, targets):
        hidden = self._layer(x) if self._hidden is None else self._hidden
        return RidgePath(hidden[train], targets, sizes=ELM_HIDDEN_UNITS, ridges=elm.RIDGES), hidden

    def _adapted(self, setting, train):
        rows = self._scaled(train)[train]
        squares = (self._drawn(rows)(rows) ** 2).mean(axis=0)
        own = squares[: setting["hidden_units"]].mean()
        return setting | {"ridge": setting["ridge"] * float(squares.mean() / own if own > 0 else 1)}

    def _classifier(self, setting, num_train):
        return elm.ELMClassifier(**setting, weights=self.weights, random_state=self.seed)


class OrthogonalGrid(RidgeGrid):
    """The same with orthogonal hidden weights."""

    weights = "orthogonal"


class SparseGrid(RidgeGrid):
    """The same with sparse hidden weights."""

    weights = "sparse"


class WhitenedGrid(RidgeGrid):
    """The same with hidden weights in the space where the training rows are white, drawn for every training set."""

    weights = "whitened"

    def __init__(self, x, y, scaling, seed):
        Grid.__init__(self, x, y, scaling, seed)

    def _path(self, x, train, targets):
        hidden = self._drawn(x[train])(x)
        return RidgePath(hidden[train], targets, sizes=ELM_HIDDEN_UNITS, ridges=elm.RIDGES), hidden


class KernelGrid(_PathGrid):
    """Ridges of the kernel limit."""

    settings = tuple({"ridge": ridge} for ridge in elm.RIDGES)

    def __init__(self, x, y, scaling, seed):
        super().__init__(x, y, scaling, seed)
        self._kernel = kernel.arc_cosine_kernel(x) if scaling == "none" else None

    def _path(self, x, train, targets):
        products = kernel.arc_cosine_kernel(x) if self._kernel is None else self._kernel
        columns = products[:, train]
        return KernelPath(columns[train], targets, ridges=elm.RIDGES), columns

    def _classifier(self, setting, num_train):
        return kernel.ArcCosineClassifier(**setting, fit_intercept=False)


class _EstimatorGrid(_AdaptedGrid):
    """Settings that share nothing: one estimator each."""

    def _predict(self, train, test):
        return np.stack([self._scores(number, train, test)[0] for number in range(len(self.settings))])

    def _scores(self, setting, train, test):
        x, present = self._scaled(train), np.unique(self.codes[train])
        parameters = self._adapted(self.settings[setting], train)
        fitted = self._classifier(parameters, len(train)).fit(x[train], self.codes[train])
        decide = getattr(fitted, "decision_function", None) or fitted.predict_proba
        scores = decide(x[test])
        scores = scores if scores.ndim == 2 else np.stack([-scores, scores], axis=1)
        return fitted.predict(x[test]), self._complete(scores, present)


class LeaveOneOutGrid(_EstimatorGrid):
    """The machine that chooses among sizes and ridges by itself."""

    weights, select = "normal", "loo"

    def __init__(self, x, y, scaling, seed):
        super().__init__(x, y, scaling, seed)
        self.settings = ({"select": self.select, "weights": self.weights},)

    def _classifier(self, setting, num_train):
        return elm.ELMClassifier(**setting, hidden_units=ELM_HIDDEN_UNITS, ridge=elm.RIDGES, random_state=self.seed)


class OrthogonalLeaveOneOutGrid(LeaveOneOutGrid):
    """The same with orthogonal hidden weights."""

    weights = "orthogonal"


class GeneralisedGrid(LeaveOneOutGrid):
    """The same, chosen by generalised cross-validation."""

    select = "gcv"


class CosineGrid(_EstimatorGrid):
    """Nearest neighbours by cosine distance."""

    def __init__(self, x, y, scaling, seed):
        super().__init__(x, y, scaling, seed)
        self.settings = tuple({"n_neighbors": k} for k in KNN_NEIGHBOURS if k <= len(x))

    def _classifier(self, setting, num_train):
        return knn.NearestNeighbours(n_neighbors=min(setting["n_neighbors"], num_train), metric="cosine")


class LinearGrid(_EstimatorGrid):
    """Logistic regression."""

    settings = tuple({"kind": "logistic", "C": 10.0**exponent} for exponent in range(-3, 4))

    def _classifier(self, setting, num_train):
        return probes.LinearProbe(**setting)


class LinearSVMGrid(LinearGrid):
    """Linear support vector machines, one against the rest."""

    settings = tuple({"kind": "svm", "C": C} for C in (0.1, 1.0, 2.0))


class PerceptronGrid(_EstimatorGrid):
    """Multilayer perceptron."""

    settings = ({"hidden": (256, 256), "max_iter": 200},)

    def _classifier(self, setting, num_train):
        return probes.MLPProbe(**setting, random_state=self.seed)


class MixtureGrid(_EstimatorGrid):
    """A Gaussian mixture a class."""

    def __init__(self, x, y, scaling, seed):
        super().__init__(x, y, scaling, seed)
        most = max(1, np.bincount(self.codes).min() // 2)
        self.settings = tuple({"components": number} for number in (1, 2, 4, 8) if number <= most)

    def _adapted(self, setting, train):
        # A training set may have fewer clips of a class than the table promised.
        smallest = np.unique(self.codes[train], return_counts=True)[1].min()
        return {"components": min(setting["components"], int(smallest))}

    def _classifier(self, setting, num_train):
        return mixture.GMMClassifier(**setting, random_state=self.seed)

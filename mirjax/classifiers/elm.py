"""Extreme learning machines: a random hidden layer, and output weights in closed form.

Conventions
-----------
`x f64[M, D]` features, one row a clip; H hidden units; K classes or outputs. The published machine draws input
weights W and biases b from N(0, 1), and with targets Y of ±1 (one against the rest)

    H = max(xW + b, 0),    β = pinv(H) Y,    scores = max(x'W + b, 0) β,

the label being the class of the largest score (`ELMClassifier()`). Other layers are in `hidden`, other solutions
(ridge, intercept, choice of size and ridge by closed forms) in `readout`. Activations are JAX's, on its default
device; factorisations are LAPACK's on the host (the pseudo-inverse is JAX's too). All in float64, whatever the dtype
of x and the state of `jax_enable_x64`, on the host's CPU where the default backend has no float64; or, with
`dtype="float32"`, activations in float32 and everything after them in float64.

Source
------
Huang, Zhu and Siew (2006), Extreme learning machine: theory and applications, Neurocomputing 70; hidden layer
and cut-off as in the released code of Pons and Serra (2019), Randomly weighted CNNs for (music) audio
classification; batch by batch: Liang, Huang, Saratchandran and Sundararajan (2006), A fast and accurate online
sequential learning algorithm, IEEE Trans. Neural Networks 17 (there by recursive inverses, here by sums).

Names
-----
* `ELMClassifier`, `ELMRegressor`: the machines, in scikit-learn manners
* `RIDGES`: a path of ridges to choose from
"""

import copy
from numbers import Real

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, validate_data

from mirjax.classifiers.arithmetic import check_memory, double_precision, one_blas_thread
from mirjax.classifiers.gram import Gram
from mirjax.classifiers.hidden import HiddenLayer, draw_layer
from mirjax.classifiers.pseudo_inverse import CUTOFF, pseudo_inverse_product
from mirjax.classifiers.readout import ClassifierReadout, RegressorReadout
from mirjax.classifiers.scaling import standardisation
from mirjax.classifiers.solvers import GROWTH, Diagnosis
from mirjax.classifiers.targets import Encoding, weigh_classes

RIDGES = tuple(10.0**exponent for exponent in range(-8, 2))
"""A path of ten ridges: raw features of random networks ask for the smallest, standardised ones for 10⁻³ to 1."""


def _takes_batches(machine):
    """Whether the settings allow fitting batch by batch; an AttributeError says why not."""
    sizes, ridges = machine._sizes(), np.atleast_1d(machine.ridge)
    if len(sizes) * len(ridges) > 1 or machine.select is not None:
        raise AttributeError(
            f"select={machine.select!r}, {len(sizes)} sizes and {len(ridges)} ridges: batch by batch there is "
            "nothing to select by; give one size and one ridge, select=None"
        )
    if machine._layer_is_learnt:
        raise AttributeError(
            f"scaling={machine.scaling!r}, weights={machine.weights!r}, alpha={machine.alpha!r}: the hidden layer is "
            "learnt from all training rows, which never come together batch by batch; scale the features before, and "
            "use weights that are drawn, alpha=1"
        )
    if not machine._is_regressor and (machine.calibration is not None or machine.class_weight == "balanced"):
        raise AttributeError(
            f"calibration={machine.calibration!r}, class_weight={machine.class_weight!r}: both need all rows at once; "
            "give None, or a dict of class weights"
        )
    return True


class _ELM:
    """What classifier and regressor share."""

    @property
    def _layer_is_learnt(self):
        return self.scaling != "none" or self.weights == "whitened" or self.alpha != 1

    def _candidates(self, validation):
        if self.scaling not in ("none", "standard"):
            raise ValueError(f"scaling={self.scaling!r} is unknown; there are none, standard")
        if not isinstance(self.dtype, str) or self.dtype not in ("float64", "float32"):
            raise ValueError(f"dtype={self.dtype!r} must be 'float64' or 'float32'")
        for name in ("alpha", "rbf_width", "density"):
            if not isinstance(getattr(self, name), Real):
                raise ValueError(f"{name}={getattr(self, name)!r} must be a number")
        return super()._candidates(validation)

    def _draw(self, x, sample_weight):
        scaled = x
        self.mean_, self.deviation_ = np.zeros(x.shape[1]), np.ones(x.shape[1])
        if self.scaling == "standard":
            self.mean_, self.deviation_ = standardisation(x, sample_weight)
            scaled = (x - self.mean_) / self.deviation_
        check_memory(
            "the hidden activations", (len(x), self._sizes()[-1]), remedy="fit batch by batch with partial_fit"
        )
        self.layer_ = self._drawn(x.shape[1], scaled, sample_weight)

    def _drawn(self, num_features, x=None, sample_weight=None):
        return draw_layer(
            num_features,
            self._sizes()[-1],
            self.random_state,
            weights=self.weights,
            activation=self.activation,
            alpha=self.alpha,
            rbf_width=self.rbf_width,
            density=self.density,
            x=x,
            sample_weight=sample_weight,
        )

    def _hidden(self, x):
        scaled = (x - self.mean_) / self.deviation_ if self.scaling == "standard" else x
        return self.layer_(scaled, dtype=np.dtype(self.dtype)).astype(np.float64, copy=False)

    def _keep(self, size):
        self.layer_ = self.layer_.first(size)

    def _solve(self, table, size):
        super()._solve(table, size)
        if self.dtype != "float32":
            return
        root, hidden = np.sqrt(table.sample_weight)[:, None], table.hidden[:, :size]
        scores = hidden @ self.output_weights_ + self.intercept_
        self._count_digits(np.sum((root * hidden) ** 2), np.sum((root * scores) ** 2))

    def _count_digits(self, hidden_squares, score_squares):
        """Lower `digits_` to what activations in float32 leave; warns.

        Activations of root mean square m are taken to be off by ε m each, independently, which moves the scores by
        ε m |β|. Sums over features and the weights' own change add to that: `GROWTH`. An estimate: scores of clips with
        real features were off by up to 30 times as much at tiny ridges, and mostly by less.
        """
        m = np.sqrt(hidden_squares / len(self.output_weights_))
        moved = np.finfo(np.float32).eps * m * np.linalg.norm(self.output_weights_)
        error = GROWTH * moved / np.sqrt(score_squares) if score_squares > 0 else 1.0
        digits = min(self.digits_, float(np.clip(-np.log10(max(error, 1e-16)), 0, 16)))
        warned, self.digits_ = self.digits_ < self.digits, digits
        if not warned:
            diagnosis = Diagnosis("activations in float32", self.condition_number_, digits)
            diagnosis.check(self.digits, type(self).__name__)

    def _solve_rows(self, rows, targets):
        if self.penalty_ > 0:
            return super()._solve_rows(rows, targets)
        with double_precision():
            weights, s = (np.asarray(a) for a in pseudo_inverse_product(rows, targets))
        kept = s[s > CUTOFF * s[0]]
        condition = float(kept[0] / kept[-1]) if len(kept) else 1.0
        digits = float(np.clip(-np.log10(np.finfo(np.float64).eps * condition), 0, 16))
        diagnosis = Diagnosis("pseudo-inverse", condition, digits, rank=len(kept))
        return weights, diagnosis.check(self.digits, type(self).__name__)

    @property
    def hidden_weights_(self):
        """Input weights f64[D, H]."""
        return self._layer().weights

    @property
    def hidden_bias_(self):
        """Biases f64[H]."""
        return self._layer().bias

    def _layer(self):
        if "layer_" not in vars(self):
            raise AttributeError(f"this {type(self).__name__} is not fitted")
        return self.layer_

    # ── batch by batch ────────────────────────────────────────────────────────────────────────────────────────────

    def solve(self):
        """Solve for the output weights from the sums, with the `ridge` that is set now; returns self."""
        return self._become(self._begun()._solved())

    def forget(self, X, y, sample_weight=None):
        """Take the rows of a batch away again (unlearning), and solve; arguments and errors as of `partial_fit`.

        Raises:
            ValueError: also where more rows are taken away than there are, or others than were added.
        """
        changed = self._begun()
        hidden, targets, weights = changed._batch(X, y, sample_weight)
        changed.gram_ = changed.gram_.subtract(hidden, targets, weights)
        return self._become(changed._solved())

    def merge(self, other):
        """Take in the rows that another machine of the same layer has seen, and solve; returns self.

        Raises:
            ValueError: the other has another hidden layer, other classes, or no sums, or is no such machine.
        """
        if not isinstance(other, type(self)):
            raise ValueError(
                f"other is a {type(other).__name__}; only a {type(self).__name__} merges with a {type(self).__name__}"
            )
        changed, other = self._begun(), other._begun()
        mine, its = changed.layer_.arrays(), other.layer_.arrays()
        if mine.keys() != its.keys() or not all(np.array_equal(mine[name], its[name]) for name in mine):
            raise ValueError(
                "the machines have different hidden layers; give both the same hidden_units, weights, activation and "
                "random_state, and features of the same width"
            )
        ours, theirs = changed._encoding, other._encoding
        if ours.kind != theirs.kind or not np.array_equal(ours.classes, theirs.classes):
            raise ValueError(
                f"the machines have different classes, {ours.kind} {ours.classes} and {theirs.kind} {theirs.classes}; "
                "name all of them in the first call of partial_fit"
            )
        changed.gram_ = changed.gram_.merge(other.gram_)
        return self._become(changed._solved())

    def _begun(self):
        if "gram_" not in vars(self):
            raise ValueError(f"this {type(self).__name__} has no sums; call partial_fit first (fit keeps none)")
        return copy.copy(self)

    def _update(self, X, y, classes, sample_weight, *, solve):
        begun = "gram_" in vars(self)
        changed = copy.copy(self) if begun else self._unfitted()
        if not begun:
            changed._begin(X, y, classes)
        elif classes is not None and not np.array_equal(np.unique(classes), self._encoding.classes):
            raise ValueError(
                f"classes={list(classes)} are not those of the first batch, {self._encoding.classes.tolist()}"
            )
        hidden, targets, weights = changed._batch(X, y, sample_weight)
        changed.gram_ = changed.gram_.add(hidden, targets, weights)
        return self._become(changed._solved() if solve else changed)

    def _begin(self, X, y, classes):
        sizes, ridges = self._candidates(None)
        x, y = self._checked(X, y)
        self._encoding, _ = Encoding.fit(y, regression=self._is_regressor, classes=classes)
        if self._encoding.classes is not None:
            self.classes_ = self._encoding.classes
        self.mean_, self.deviation_ = np.zeros(x.shape[1]), np.ones(x.shape[1])
        self.layer_ = self._drawn(x.shape[1])
        self.hidden_units_, self.ridge_ = sizes[0], ridges[0]
        self.gram_ = Gram.empty(sizes[0], self._encoding.num_outputs)

    def _batch(self, X, y, sample_weight):
        """Hidden activations, targets and weights of a batch, checked."""
        numeric = {"y_numeric": True} if self._is_regressor else {}
        x, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, reset=False, **numeric)
        weights = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        if not self._is_regressor:
            weights = weigh_classes(y, self.class_weight, weights)
        return self._hidden(x), self._encoding.encode(y), weights

    def _solved(self):
        """Set the output weights from the sums, for the ridge as it is set now; returns self."""
        sizes, ridges = self._candidates(None)
        if sizes != (self.hidden_units_,):
            raise ValueError(
                f"hidden_units={self.hidden_units!r}, but the sums are those of {self.hidden_units_}; set it back, or "
                "begin anew with a clone"
            )
        gram, self.ridge_ = self.gram_, ridges[0]
        self.penalty_ = gram.penalty(self.ridge_, fit_intercept=self.fit_intercept)
        with one_blas_thread():
            weights, intercept, diagnosis = gram.diagnosed_solve(self.ridge_, fit_intercept=self.fit_intercept)
        self.output_weights_, self.intercept_ = weights, intercept
        if not self._is_regressor:
            self.calibration_ = None
        self._diagnose(diagnosis.check(self.digits, type(self).__name__))
        if self.dtype == "float32":
            squares = np.sum(weights * (gram.products @ weights + 2 * gram.hidden_sum[:, None] * intercept[None, :]))
            squares += gram.weight * np.sum(intercept**2)
            self._count_digits(np.trace(gram.products), max(float(squares), 0.0))
        return self

    def _learnt_layer(self):
        return self.layer_.arrays() | {"mean": self.mean_, "deviation": self.deviation_}

    def _restore_layer(self, arrays):
        self.mean_, self.deviation_ = arrays["mean"], arrays["deviation"]
        self.layer_ = HiddenLayer.from_arrays(arrays)


class ELMClassifier(_ELM, ClassifierReadout):
    """Extreme learning machine that labels; by default the published one.

    Args:
        hidden_units: number of hidden units, at least 1; or several, rising, of which `select` chooses one. With one
            `random_state`, fewer units are the first ones of more units.
        ridge: λ in units of the mean diagonal of HᵀH (of the widest layer); 0 is the pseudo-inverse. Several, e.g.
            `RIDGES`, for `select` to choose from.
        weights: of the layer: `normal`, `uniform`, `orthogonal`, `sparse` or `whitened` (see `hidden`).
        activation: a key of `hidden.ACTIVATIONS`, or `grbf`.
        alpha, rbf_width: share of the projection in the argument, and width of the radial part (see `hidden`).
        density: share of the features that a unit with `sparse` weights sees.
        scaling: `none`; or `standard`: features less their mean, by their deviation, over the training rows.
        fit_intercept: whether the outputs have an intercept, which is not penalised.
        select: None, `validation`, `kfold`, `loo` or `gcv` (see `readout`).
        criterion: what decides: `accuracy`, `squared_error`, or `auto` (accuracy; with several labels a clip the
            squared error). Of equal accuracies the smaller squared error wins.
        folds: number of folds, or a scikit-learn splitter.
        class_weight: None, `balanced` or a dict of weights of labels.
        calibration: None, `temperature` or `platt`: how `predict_proba` is learnt, on clips held out (weighed like
            the fit, so that with `class_weight` the classes are as likely as their weights). Labels remain those of
            the scores.
        dtype: `float64`, or `float32` for the activations alone.
        digits: decimal digits of the predictions below which fit warns (`solvers.PrecisionWarning`).
        random_state: seed of the hidden layer, for `numpy.random.default_rng`, and of the folds.

    Attributes:
        layer_: the `hidden.HiddenLayer`; hidden_weights_, hidden_bias_: its weights f64[D, H] and biases f64[H].
        mean_, deviation_: of the training rows (0 and 1 without scaling).
        gram_: the sums of `partial_fit`.
        classes_, output_weights_, intercept_, hidden_units_, ridge_, penalty_, condition_number_, rank_, digits_,
            selection_scores_, calibration_, n_features_in_: as in `readout.Readout`.

    Example:
        >>> elm = ELMClassifier(hidden_units=(100, 500, 2500), ridge=RIDGES, scaling="standard", select="kfold")

    Reference:
        Huang, Zhu and Siew (2006); hidden layer, grid and cut-off: Pons and Serra (2019).
    """

    def __init__(
        self,
        *,
        hidden_units=1200,
        ridge=0.0,
        weights="normal",
        activation="relu",
        alpha=1.0,
        rbf_width=1.0,
        density=0.1,
        scaling="none",
        fit_intercept=False,
        select=None,
        criterion="auto",
        folds=10,
        class_weight=None,
        calibration=None,
        dtype="float64",
        digits=4,
        random_state=0,
    ):
        self.hidden_units = hidden_units
        self.ridge = ridge
        self.weights = weights
        self.activation = activation
        self.alpha = alpha
        self.rbf_width = rbf_width
        self.density = density
        self.scaling = scaling
        self.fit_intercept = fit_intercept
        self.select = select
        self.criterion = criterion
        self.folds = folds
        self.class_weight = class_weight
        self.calibration = calibration
        self.dtype = dtype
        self.digits = digits
        self.random_state = random_state

    @available_if(_takes_batches)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Add the rows of a batch and solve: memory does not grow with the number of rows.

        The sums of `gram.Gram` are kept as `gram_`. The result is that of `fit` to all rows up to rounding, whatever
        the size and order of the batches; with ridge 0 the rank is decided by eigenvalues of HᵀH, which know half
        the digits of the pseudo-inverse's singular values. After `fit`, the first batch begins anew. To go on in
        another process, pickle the machine; or `save` it and `gram_`, `load` it and set `gram_` (`Gram.load`).

        Args:
            X: features [B, D], finite.
            y: labels or values of the batch.
            classes: all labels there will be; needed with the first batch unless it has them all.
            sample_weight: weights [B], at least 0.

        Returns:
            self; unchanged if an error is raised.

        Raises:
            ValueError: labels unseen in the first batch, another width, values that are not finite.
            AttributeError: settings that need all rows at once: a hidden layer that is learnt from them, several
                sizes or ridges to select from, calibration.
        """
        return self._update(X, y, classes, sample_weight, solve=True)

    @available_if(_takes_batches)
    def accumulate(self, X, y, classes=None, sample_weight=None):
        """`partial_fit` without the solution; `solve` gives it when all batches are in."""
        return self._update(X, y, classes, sample_weight, solve=False)


class ELMRegressor(_ELM, RegressorReadout):
    """Extreme learning machine that gives values.

    Args: as of `ELMClassifier`, without `class_weight` and `calibration`; `criterion` is the squared error.

    Attributes: as of `ELMClassifier`, without classes.

    Reference:
        Huang, Zhu and Siew (2006).
    """

    def __init__(
        self,
        *,
        hidden_units=1200,
        ridge=0.0,
        weights="normal",
        activation="relu",
        alpha=1.0,
        rbf_width=1.0,
        density=0.1,
        scaling="none",
        fit_intercept=False,
        select=None,
        criterion="auto",
        folds=10,
        dtype="float64",
        digits=4,
        random_state=0,
    ):
        self.hidden_units = hidden_units
        self.ridge = ridge
        self.weights = weights
        self.activation = activation
        self.alpha = alpha
        self.rbf_width = rbf_width
        self.density = density
        self.scaling = scaling
        self.fit_intercept = fit_intercept
        self.select = select
        self.criterion = criterion
        self.folds = folds
        self.dtype = dtype
        self.digits = digits
        self.random_state = random_state

    @available_if(_takes_batches)
    def partial_fit(self, X, y, sample_weight=None):
        """Add the rows of a batch and solve; as `ELMClassifier.partial_fit`."""
        return self._update(X, y, None, sample_weight, solve=True)

    @available_if(_takes_batches)
    def accumulate(self, X, y, sample_weight=None):
        """`partial_fit` without the solution; `solve` gives it when all batches are in."""
        return self._update(X, y, None, sample_weight, solve=False)

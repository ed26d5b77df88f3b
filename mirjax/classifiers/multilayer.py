"""Multilayer extreme learning machine: stacked autoencoders, each solved in closed form, and a linear read-out.

Conventions
-----------
`x f64[M, D]`, one row a clip. A layer of L units on its input x (D features, then the layer before's units) is

    a = g(xW + b),    W'W = I (L ≤ D) or WW' = I (L > D), |b| = 1, both at random,
    β [L, D] minimises Σ_i w_i |x_i - a_i β|² + λ |β|²,    λ = ridge · mean diagonal of AᵀA,
    next x = g(xβᵀ), or xβᵀ itself where L = D.

The random weights serve to find β only; what is passed on is the input seen through βᵀ. After the last layer comes
the read-out, on its units themselves (the paper) or, with `hidden_units`, on an ordinary random layer (`hidden`) of
that many ReLU units.

Two things are not in the paper. Features are scaled to mean 0 and deviation 1 over the training rows, at the input and
in front of every g(xβᵀ), since a saturated sigmoid passes nothing on (`standardise=False` leaves this out). And where
L = D the paper inverts A; here β is that of a ridge there too, as A has as many rows as there are clips.

Source
------
Kasun, Zhou, Huang and Vong (2013), Representational learning with extreme learning machine for big data, IEEE
Intelligent Systems 28 (ELM-AE, ML-ELM).

Names
-----
* `MultilayerELMClassifier`, `MultilayerELMRegressor`: the learners
* `Autoencoder`: one layer; `fit_autoencoder`: its closed form
"""

import dataclasses
from numbers import Integral, Real

import numpy as np
from sklearn.utils.validation import check_is_fitted

from mirjax.classifiers import solvers
from mirjax.classifiers.arithmetic import check_memory
from mirjax.classifiers.draws import orthonormal_rows, random_stream
from mirjax.classifiers.hidden import ACTIVATIONS, HiddenLayer, draw_layer
from mirjax.classifiers.readout import ClassifierReadout, RegressorReadout
from mirjax.classifiers.scaling import standardisation


@dataclasses.dataclass(frozen=True, eq=False)
class Autoencoder:
    """One layer x → g(xV + c): V is βᵀ and c zero, or they are such that xV + c has mean 0 and deviation 1.

    Attributes:
        weights: V f64[D, L].
        bias: c f64[L].
        activation: a key of `hidden.ACTIVATIONS`, or `identity`.
    """

    weights: np.ndarray
    bias: np.ndarray
    activation: str

    def __call__(self, x):
        """The next representation f64[M, L] of x f64[M, D]."""
        if self.activation == "identity":
            return x @ self.weights + self.bias
        return HiddenLayer(self.weights, self.bias, activation=self.activation)(x)


def fit_autoencoder(x, units, random, *, ridge, activation="sigmoid", standardise=True, sample_weight=None):
    """Draw a layer's random weights and solve for β.

    Args:
        x: f64[M, D].
        units: L.
        random: a numpy Generator.
        ridge: λ in units of the mean diagonal of AᵀA (weighted), at least 0.
        activation: g, a key of `hidden.ACTIVATIONS`; with L = D it makes β but is not applied to xβᵀ.
        standardise: whether xβᵀ is scaled to mean 0 and deviation 1 before g.
        sample_weight: f64[M], at least 0.

    Returns:
        An `Autoencoder`.

    Raises:
        ValueError: a ridge or an activation out of range, more memory than this machine has.

    Reference:
        Kasun et al. (2013), equations 4 to 9.
    """
    if not (np.isscalar(ridge) and isinstance(ridge, Real) and 0 <= ridge < np.inf):
        raise ValueError(f"ridge={ridge!r} must be a number, finite and at least 0")
    _check_activation(activation)
    num_rows, num_features = x.shape
    check_memory("the activations of a layer", (num_rows, units))
    w = np.ones(num_rows) if sample_weight is None else sample_weight
    weights, bias = _draw(num_features, units, random)
    rows = np.sqrt(w)[:, None] * HiddenLayer(weights, bias, activation=activation)(x)
    penalty = ridge * float((rows**2).sum(axis=0).mean())
    output_weights, _ = solvers.solve_rows(rows, np.sqrt(w)[:, None] * x, penalty)
    weights = np.ascontiguousarray(output_weights.T)
    mean, deviation = standardisation(x @ weights, w) if standardise else (np.zeros(units), np.ones(units))
    return Autoencoder(weights / deviation, -mean / deviation, "identity" if units == num_features else activation)


def _check_activation(activation):
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r} is none of {', '.join(ACTIVATIONS)}")


def _draw(num_features, units, random):
    """Orthonormal columns (or rows, of a wide layer) f64[D, L] and a bias of length 1 f64[L]."""
    few, many = sorted((num_features, units))
    basis = orthonormal_rows(many, few, random)
    bias = random.standard_normal(units)
    return basis if few == num_features else basis.T, bias / np.linalg.norm(bias)


class _Multilayer:
    """What classifier and regressor share."""

    _layer_is_learnt = True

    def _candidates(self, validation):
        _check_activation(self.activation)
        self._layer_ridges()
        return super()._candidates(validation)

    def _sizes(self):
        widths = self._widths()
        return (widths[-1],) if self.hidden_units is None else tuple(np.atleast_1d(self.hidden_units).tolist())

    def _widths(self):
        widths = self.layers if np.ndim(self.layers) else (self.layers,)
        if not len(widths) or not all(isinstance(width, Integral) and width >= 1 for width in widths):
            raise ValueError(f"layers={self.layers!r} must be one or more whole numbers of at least 1")
        return tuple(int(width) for width in widths)

    def _layer_ridges(self):
        widths, ridges = self._widths(), np.asarray(self.layer_ridge, dtype=np.float64)
        if ridges.ndim > 1 or ridges.size not in (1, len(widths)):
            raise ValueError(
                f"layer_ridge={self.layer_ridge!r} must be one number, or one for each of {len(widths)} layers"
            )
        if not (np.isfinite(ridges) & (ridges >= 0)).all():
            raise ValueError(f"layer_ridge={self.layer_ridge!r} must be finite and at least 0")
        return np.broadcast_to(ridges.ravel() if ridges.ndim else ridges, len(widths)).tolist()

    def _draw(self, x, sample_weight):
        widths, ridges = self._widths(), self._layer_ridges()
        ones = np.zeros(x.shape[1]), np.ones(x.shape[1])
        self.mean_, self.deviation_ = standardisation(x, sample_weight) if self.standardise else ones
        x, self.autoencoders_ = (x - self.mean_) / self.deviation_, []
        for number, (width, ridge) in enumerate(zip(widths, ridges, strict=True)):
            layer = fit_autoencoder(
                x,
                width,
                random_stream(self.random_state, 4, number),
                ridge=ridge,
                activation=self.activation,
                standardise=self.standardise,
                sample_weight=sample_weight,
            )
            self.autoencoders_.append(layer)
            x = layer(x)
        self.layer_ = None
        if self.hidden_units is not None:
            self.layer_ = draw_layer(x.shape[1], self._sizes()[-1], self.random_state)

    def represent(self, X):
        """The last representation f64[M, L] of features X [M, D], in front of the read-out's own layer."""
        check_is_fitted(self)
        return self._represent(self._checked_rows(X))

    def _represent(self, x):
        x = (x - self.mean_) / self.deviation_
        for layer in self.autoencoders_:
            x = layer(x)
        return x

    def _hidden(self, x):
        x = self._represent(x)
        return x if self.layer_ is None else self.layer_(x)

    def _keep(self, size):
        if self.layer_ is not None:
            self.layer_ = self.layer_.first(size)

    def _learnt_layer(self):
        arrays = {"mean": self.mean_, "deviation": self.deviation_, "count": np.asarray(len(self.autoencoders_))}
        for number, layer in enumerate(self.autoencoders_):
            for name, value in vars(layer).items():
                arrays[f"{number}/{name}"] = np.asarray(value)
        if self.layer_ is not None:
            arrays |= {f"last/{name}": value for name, value in self.layer_.arrays().items()}
        return arrays

    def _restore_layer(self, arrays):
        self.mean_, self.deviation_ = arrays["mean"], arrays["deviation"]
        names = [field.name for field in dataclasses.fields(Autoencoder)]
        self.autoencoders_ = []
        for number in range(int(arrays["count"])):
            values = {name: arrays[f"{number}/{name}"] for name in names}
            self.autoencoders_.append(Autoencoder(**(values | {"activation": values["activation"].item()})))
        last = {key.removeprefix("last/"): value for key, value in arrays.items() if key.startswith("last/")}
        self.layer_ = HiddenLayer.from_arrays(last) if last else None


class MultilayerELMClassifier(_Multilayer, ClassifierReadout):
    """Stacked ELM autoencoders and a read-out of ±1 targets, all in closed form.

    Args:
        layers: units of the autoencoders, one after the other.
        hidden_units: ReLU units of a random layer between the last autoencoder and the read-out, of which, if there
            are several numbers, `select` chooses one; None for no such layer, as in the paper.
        activation: g, a key of `hidden.ACTIVATIONS`.
        layer_ridge: ridge of the autoencoders, in units of the mean diagonal of AᵀA; one number or one a layer.
        standardise: whether features are scaled to mean 0 and deviation 1 at the input and in front of every g.
        ridge: ridge of the read-out, in units of the mean diagonal of HᵀH; several, of which `select` chooses one.
        fit_intercept: whether the outputs have an intercept, which is not penalised.
        select: None, `validation` or `kfold`. The layers are learnt from the training rows, so `loo` and `gcv` are
            refused and `kfold` learns them anew in every fold.
        criterion: `accuracy`, `squared_error` or `auto`: what decides (`readout`).
        folds: number of folds, or a scikit-learn splitter.
        class_weight: None, `balanced` or a dict of weights of labels.
        calibration: None, `temperature` or `platt`: how `predict_proba` is learnt, on clips held out.
        digits: decimal digits of the read-out below which fit warns.
        random_state: seed of all random weights and of the folds.

    Attributes:
        autoencoders_: list of `Autoencoder`.
        mean_, deviation_: f64[D] of the features.
        layer_: the `hidden.HiddenLayer` of `hidden_units`, or None.
        output_weights_, intercept_, hidden_units_, ridge_, penalty_, condition_number_, digits_, selection_scores_,
            classes_, n_features_in_: as in `readout.Readout`.

    Reference:
        Kasun, Zhou, Huang and Vong (2013).
    """

    def __init__(
        self,
        *,
        layers=(100, 1000),
        hidden_units=None,
        activation="sigmoid",
        layer_ridge=1e-2,
        standardise=True,
        ridge=1e-3,
        fit_intercept=True,
        select=None,
        criterion="auto",
        folds=10,
        class_weight=None,
        calibration=None,
        digits=4,
        random_state=0,
    ):
        self.layers = layers
        self.hidden_units = hidden_units
        self.activation = activation
        self.layer_ridge = layer_ridge
        self.standardise = standardise
        self.ridge = ridge
        self.fit_intercept = fit_intercept
        self.select = select
        self.criterion = criterion
        self.folds = folds
        self.class_weight = class_weight
        self.calibration = calibration
        self.digits = digits
        self.random_state = random_state


class MultilayerELMRegressor(_Multilayer, RegressorReadout):
    """Stacked ELM autoencoders and a least-squares read-out, all in closed form.

    Args:
        layers, hidden_units, activation, layer_ridge, standardise, ridge, fit_intercept, select, folds, digits,
            random_state: as of `MultilayerELMClassifier`.
        criterion: `squared_error` or `auto`, which are one here.

    Attributes: as of `MultilayerELMClassifier`, without classes.

    Reference:
        Kasun, Zhou, Huang and Vong (2013).
    """

    def __init__(
        self,
        *,
        layers=(100, 1000),
        hidden_units=None,
        activation="sigmoid",
        layer_ridge=1e-2,
        standardise=True,
        ridge=1e-3,
        fit_intercept=True,
        select=None,
        criterion="auto",
        folds=10,
        digits=4,
        random_state=0,
    ):
        self.layers = layers
        self.hidden_units = hidden_units
        self.activation = activation
        self.layer_ridge = layer_ridge
        self.standardise = standardise
        self.ridge = ridge
        self.fit_intercept = fit_intercept
        self.select = select
        self.criterion = criterion
        self.folds = folds
        self.digits = digits
        self.random_state = random_state

"""A linear read-out of hidden activations, solved in closed form: what all learners of this package share.

Conventions
-----------
`hidden f64[M, H]`, `targets f64[M, K]` (see `targets`), weights of clips w f64[M]. The output weights β [H, K] and the
intercept b [K] (0 unless asked for) minimise

    Σ_i w_i |y_i − h_i β − b|² + λ |β|²,    λ = ridge · mean diagonal of HᵀH (full width, weighted, centred with b).

With several ridges or hidden sizes, one is chosen by closed forms from clips held out:

=============  ====================================================================================================
select         held out
=============  ====================================================================================================
`validation`   the clips given to `fit` as `validation=(X, y)`
`kfold`        every fold once; stratified and shuffled by `random_state`, groups kept together
`loo`          every clip once (PRESS)
`gcv`          none: generalised cross-validation, a squared error corrected for the degrees of freedom
=============  ====================================================================================================

All are exact for the hidden layer at hand, λ being that of all rows. A layer that is itself learnt from the training
rows (standardisation, whitening, centres) is learnt anew in every fold by `kfold`, with that fold's λ; `loo` and `gcv`
cannot do so and refuse.

Names
-----
* `Readout`: base class of the estimators
"""

import copy
from abc import abstractmethod
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from mirjax.classifiers.arithmetic import is_whole, one_blas_thread
from mirjax.classifiers.targets import Encoding, weigh_classes

SELECTIONS = (None, "validation", "kfold", "loo", "gcv")
CRITERIA = ("auto", "accuracy", "squared_error")
CALIBRATIONS = (None, "temperature", "platt")


class Readout(BaseEstimator):
    """Estimator with hidden activations and a read-out in closed form.

    A subclass says what the hidden activations are: `_draw` makes the layer for a training table, `_hidden` gives the
    activations of any rows, `_sizes` the nested numbers of units (the first ones of the widest layer) to choose from.
    It takes, in its own `__init__`, `ridge`, `fit_intercept`, `select`, `criterion`, `folds`, `digits`, `random_state`
    and, if it classifies, `class_weight` and `calibration`.

    Attributes:
        classes_: the sorted labels [K] (classifiers).
        output_weights_: f64[H, K]; of two classes f64[H, 1], the weights of `classes_[1]`.
        intercept_: f64[K].
        hidden_units_: H, as chosen.
        ridge_, penalty_: as chosen, relative and absolute (λ).
        condition_number_, rank_, digits_: of the system that was solved, and the decimal digits it leaves.
        selection_scores_: f64[sizes, ridges], the more the better: the share of held-out weight labelled rightly, or
            less the mean squared error (not with `select=None`).
        calibration_: `calibration.Calibration`, or None.
        n_features_in_: D.
    """

    _is_regressor = False
    _layer_is_learnt = False

    @abstractmethod
    def _draw(self, x, sample_weight):
        """Make the hidden layer for training rows x f64[M, D] of weights f64[M]; sets attributes."""

    @abstractmethod
    def _hidden(self, x):
        """Hidden activations f64[M, H] of rows x f64[M, D]."""

    def _sizes(self):
        try:
            return tuple(np.atleast_1d(self.hidden_units).tolist())
        except ValueError:  # lists of several lengths
            return ()

    def _keep(self, size):
        """Keep the first `size` hidden units of the widest layer; called after a choice."""

    def _path(self, hidden, targets, sizes, ridges, sample_weight):
        from mirjax.classifiers.closed_form import RidgePath

        return RidgePath(
            hidden,
            targets,
            sizes=sizes,
            ridges=ridges,
            sample_weight=sample_weight,
            fit_intercept=self.fit_intercept,
        )

    # ── fitting ───────────────────────────────────────────────────────────────────────────────────────────────────

    def fit(self, X, y, sample_weight=None, *, groups=None, validation=None):
        """Draw the hidden layer and solve for the output weights.

        Args:
            X: features [M, D], finite.
            y: labels [M] of at least two classes, an indicator [M, L], or values [M] or [M, L].
            sample_weight: weights [M], at least 0; a row of weight 0 is as if it were not there.
            groups: labels [M]; rows of one group are held out together (`select="kfold"`, and calibration). Refused
                with `loo` and `gcv`, which cannot.
            validation: (X, y) of the clips that decide with `select="validation"`; `class_weight` weighs them too.

        Returns:
            self; as it was if an error is raised.

        Raises:
            ValueError: a parameter out of range, features that are not finite, a single class, several settings and
                no way to select one.
        """
        fitted = self._unfitted()
        fitted._fit(X, y, sample_weight, groups, validation)
        return self._become(fitted)

    def _unfitted(self):
        """A copy without what was learnt."""
        unfitted = copy.copy(self)
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(unfitted, name)
        return unfitted

    def _become(self, changed):
        """Take the state of a changed copy, all of it at once; returns self."""
        self.__dict__ = vars(changed)
        return self

    def __sklearn_is_fitted__(self):
        return hasattr(self, "output_weights_")

    def _fit(self, X, y, sample_weight, groups, validation):
        sizes, ridges = self._candidates(validation)
        x, y = self._checked(X, y)
        sample_weight = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        groups = _checked_groups(groups, len(x))
        if groups is not None and self.select in ("loo", "gcv"):
            raise ValueError(
                f"groups are given, but select={self.select!r} holds out clip by clip; use select='kfold', which keeps "
                "groups together, or leave groups out"
            )
        if not self._is_regressor:
            sample_weight = weigh_classes(y, self.class_weight, sample_weight)
        kept = sample_weight > 0
        if not kept.any():
            raise ValueError("sample_weight is 0 everywhere; at least one clip must count")
        x, y, sample_weight = x[kept], y[kept], sample_weight[kept]
        groups = None if groups is None else groups[kept]
        encoding, targets = Encoding.fit(y, regression=self._is_regressor)
        if validation is not None:
            validation = self._checked_validation(encoding, validation)
        with one_blas_thread():
            self._draw(x, sample_weight)
            hidden = self._hidden(x)
            table = _Table(x, hidden, targets, sample_weight, groups)
            self._encoding = encoding
            chosen, held_out = (0, 0), None
            if self.select is not None:
                chosen, held_out = self._select(table, sizes, ridges, validation)
            size, self.ridge_ = sizes[chosen[0]], ridges[chosen[1]]
            self._solve(table, size)
            if not self._is_regressor:
                self.calibration_ = self._calibrate(table, size, held_out)
        self._keep(size)
        self.hidden_units_ = size
        if encoding.classes is not None:
            self.classes_ = encoding.classes

    def _candidates(self, validation):
        """Sizes and ridges, all parameters checked."""
        ridges = self._ridges()
        sizes = self._sizes()
        if not sizes or not all(map(is_whole, sizes)):
            raise ValueError(f"hidden_units={self.hidden_units!r} must be whole numbers of at least 1")
        if list(sizes) != sorted(set(sizes)):
            raise ValueError(f"hidden_units={self.hidden_units!r} must rise; each size is the first units of the next")
        if self.select not in SELECTIONS:
            raise ValueError(f"select={self.select!r} is unknown; there are {SELECTIONS}")
        if self.select is None and len(sizes) * len(ridges) > 1:
            raise ValueError(
                f"{len(sizes)} sizes and {len(ridges)} ridges leave a choice; give one of each, or select='loo'"
            )
        if (self.select == "validation") != (validation is not None):
            raise ValueError(
                f"select={self.select!r} and validation={'None' if validation is None else 'given'}: clips for "
                "validation are given to fit with select='validation', and only then"
            )
        if self.select in ("loo", "gcv") and self._layer_is_learnt:
            raise ValueError(
                f"select={self.select!r} would leave the held-out clip in what the hidden layer learnt from the "
                "training clips; use select='kfold', which learns it anew in every fold, or scale the features before "
                "(Scaled, or a Pipeline), which holds that scaling fixed"
            )
        if self.select in ("loo", "gcv") and 0 in ridges:
            raise ValueError(
                f"ridge={self.ridge!r}: select={self.select!r} has no closed form at 0; give ridges above 0"
            )
        if self.criterion not in CRITERIA:
            raise ValueError(f"criterion={self.criterion!r} is unknown; there are {', '.join(CRITERIA)}")
        if self.criterion == "accuracy" and (self._is_regressor or self.select == "gcv"):
            who = "a regression" if self._is_regressor else "select='gcv'"
            raise ValueError(f"criterion='accuracy': {who} goes by the squared error; give 'squared_error' or 'auto'")
        if not (is_whole(self.folds, 2) or hasattr(type(self.folds), "get_n_splits")):
            raise ValueError(f"folds={self.folds!r} must be a whole number of at least 2, or a scikit-learn splitter")
        if not (isinstance(self.digits, Real) and 0 <= self.digits <= 16):
            raise ValueError(f"digits={self.digits!r} must lie from 0 to 16")
        seeds = self.random_state if isinstance(self.random_state, tuple | list) else (self.random_state,)
        if any(isinstance(seed, str | float) or (isinstance(seed, Integral) and seed < 0) for seed in seeds):
            raise ValueError(f"random_state={self.random_state!r} must be whole, at least 0 (or None)")
        if not self._is_regressor and self.calibration not in CALIBRATIONS:
            raise ValueError(f"calibration={self.calibration!r} is unknown; there are {CALIBRATIONS}")
        return sizes, ridges

    def _ridges(self):
        try:
            ridges = tuple(np.atleast_1d(self.ridge).tolist())
        except ValueError:  # lists of several lengths
            ridges = ()
        if not ridges or not all(isinstance(ridge, Real) and 0 <= ridge < np.inf for ridge in ridges):
            raise ValueError(f"ridge={self.ridge!r} must be one number or a sequence of them, finite and at least 0")
        return tuple(map(float, ridges))

    def _checked(self, X, y):
        """Features f64[M, D] and y."""
        numeric = {"y_numeric": True} if self._is_regressor else {}
        x, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, **numeric)
        if self._is_regressor and y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        return x, y

    def _checked_rows(self, X):
        """Features f64[M, D] for prediction."""
        return validate_data(self, X, dtype=np.float64, reset=False)

    def _checked_validation(self, encoding, validation):
        try:
            X, y = validation
        except (TypeError, ValueError) as error:
            raise ValueError(
                "validation must be a pair (X, y) of clips that are not among the training clips"
            ) from error
        try:
            x, targets = self._checked_rows(X), encoding.encode(y)
        except ValueError as error:
            raise ValueError(f"validation: {error}") from error
        if len(x) != len(targets):
            raise ValueError(f"validation has {len(x)} rows in X and {len(targets)} in y; give one label a row")
        weights = np.ones(len(x))
        if not self._is_regressor:
            weights = weigh_classes(y, self.class_weight, weights)
        if not weights.any():
            raise ValueError("validation has only clips of classes whose class_weight is 0; give some of the others")
        return x, targets, weights

    def _solve(self, table, size):
        """Set the output weights for the chosen size and ridge."""
        hidden, targets, w = table.hidden[:, :size], table.targets, table.sample_weight
        if self.fit_intercept:
            center, mean = np.average(table.hidden, axis=0, weights=w), np.average(targets, axis=0, weights=w)
        else:
            center, mean = np.zeros(table.hidden.shape[1]), np.zeros(targets.shape[1])
        root = np.sqrt(w)[:, None]
        self.penalty_ = float(self.ridge_ * (((table.hidden - center) * root) ** 2).sum(axis=0).mean())
        rows = (hidden - center[:size]) * root
        self.output_weights_, diagnosis = self._solve_rows(rows, (targets - mean) * root)
        self.intercept_ = mean - center[:size] @ self.output_weights_
        self._diagnose(diagnosis)

    def _solve_rows(self, rows, targets):
        """Output weights of the problem without weights and intercept, and their `solvers.Diagnosis`; warns."""
        from mirjax.classifiers.solvers import solve_rows

        return solve_rows(rows, targets, self.penalty_, digits=self.digits)

    def _diagnose(self, diagnosis):
        self.condition_number_, self.rank_, self.digits_ = diagnosis.condition, diagnosis.rank, diagnosis.digits

    # ── choosing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _select(self, table, sizes, ridges, validation):
        """Indices of the chosen size and ridge, and that choice's outputs f64[M, K] for clips held out (or None)."""
        if self.select == "gcv":
            path = self._path(table.hidden, table.targets, sizes, ridges, table.sample_weight)
            self.selection_scores_ = -np.asarray(path.generalised_cross_validation())
            return _first_best(self.selection_scores_), None
        if self.select == "validation":
            x, targets, weights = validation
            path = self._path(table.hidden, table.targets, sizes, ridges, table.sample_weight)
            outputs = path.predict(self._hidden(x))
        else:
            outputs = self._held_out(table, sizes, ridges, alone=self.select == "loo")
            targets, weights = table.targets, table.sample_weight
        right, error = self._rate(outputs, targets, weights)
        self.selection_scores_ = -error if right is None else right
        chosen = _first_best(self.selection_scores_, -error)
        return chosen, None if self.select == "validation" else outputs[chosen]

    def _held_out(self, table, sizes, ridges, *, alone):
        """Outputs f64[sizes, ridges, M, K] for every clip by a fit without it (`alone`) or without its fold."""
        if alone:
            path = self._path(table.hidden, table.targets, sizes, ridges, table.sample_weight)
            return path.leave_one_out()
        folds, ridges = self._folds(table), np.asarray(ridges)
        # No closed form leaves rows out of a pseudo-inverse, or of what a layer learnt: these are fitted again.
        again = np.flatnonzero(self._layer_is_learnt | (ridges == 0))
        closed = np.setdiff1d(np.arange(len(ridges)), again)
        outputs = np.empty((len(sizes), len(ridges), *table.targets.shape))
        if len(closed):
            path = self._path(table.hidden, table.targets, sizes, ridges[closed], table.sample_weight)
            outputs[:, closed] = path.leave_out(folds)
        for test in folds if len(again) else ():
            train = np.setdiff1d(np.arange(len(table.x)), test)
            other, w = clone(self), table.sample_weight[train]
            other.n_features_in_ = self.n_features_in_
            other._draw(table.x[train], w)
            path = other._path(other._hidden(table.x[train]), table.targets[train], sizes, ridges[again], w)
            outputs[:, again[:, None], test[None, :]] = path.predict(other._hidden(table.x[test]))
        return outputs

    def _fold_seed(self):
        """`random_state` as scikit-learn's splitters take it: None or a number below 2³²."""
        seed = self.random_state
        if seed is None or (is_whole(seed, 0) and seed < 2**32):
            return seed
        sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        return int(sequence.generate_state(1)[0])

    def _folds(self, table):
        """Test rows of every fold."""
        n, codes = len(table.x), None
        if self._encoding.kind == "classes":
            codes = np.searchsorted(self._encoding.classes, self._encoding.decode(table.targets))
        if not is_whole(self.folds):
            splits = list(self.folds.split(table.x, codes if codes is not None else table.targets, table.groups))
            times = np.bincount(np.concatenate([test for _, test in splits]), minlength=n)
            if (times != 1).any() or any(len(train) + len(test) != n for train, test in splits):
                raise ValueError(
                    f"folds={self.folds!r} must hold out every row once and train on all others; row "
                    f"{(times != 1).argmax()} is held out {times[(times != 1).argmax()]} times"
                )
        elif table.groups is not None:
            count = min(self.folds, len(np.unique(table.groups)))
            if count < 2:
                raise ValueError("groups are all alike; rows of one group are held out together, so two are needed")
            settings = {"n_splits": count, "shuffle": True, "random_state": self._fold_seed()}
            stratify = codes is not None and np.bincount(codes).min() >= count
            splitter = StratifiedGroupKFold(**settings) if stratify else GroupKFold(**settings)
            splits = splitter.split(table.x, codes, table.groups)
        else:
            count = min(self.folds, n)
            if count < 2:
                raise ValueError(f"n_samples={n} leaves nothing to fit when it is held out; give two clips or more")
            settings = {"shuffle": True, "random_state": self._fold_seed()}
            if codes is None or np.bincount(codes).min() < count:
                splits = KFold(count, **settings).split(table.x)
            else:
                splits = StratifiedKFold(count, **settings).split(table.x, codes)
        return [test for _, test in splits if len(test)]

    def _rate(self, outputs, targets, weights):
        """Share of weight labelled rightly (None if not the criterion), and mean squared error: [sizes, ridges]."""
        error = np.einsum("srmk,m->sr", (outputs - targets) ** 2, weights) / (weights.sum() * targets.shape[1])
        kind = self._encoding.kind
        if self.criterion == "squared_error" or (self.criterion == "auto" and kind != "classes"):
            return None, error
        if outputs.shape[-1] == 1 or kind == "multilabel":
            right = ((outputs > 0) == (targets > 0)).mean(axis=-1)
        else:
            right = outputs.argmax(axis=-1) == targets.argmax(axis=-1)
        return right @ weights / weights.sum(), error

    def _calibrate(self, table, size, held_out):
        """Probabilities from scores of clips held out."""
        if self.calibration is None:
            return None
        from mirjax.classifiers import calibration

        if held_out is None:
            alone = self.ridge_ > 0 and not self._layer_is_learnt and table.groups is None
            held_out = self._held_out(table, (size,), (self.ridge_,), alone=alone)[0, 0]
        return calibration.fit(
            held_out,
            table.targets,
            kind=self.calibration,
            problem=self._encoding.kind,
            sample_weight=table.sample_weight,
        )

    # ── using ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _scores(self, X):
        x = self._checked_rows(X)
        with one_blas_thread():
            return self._hidden(x) @ self.output_weights_ + self.intercept_

    def predict(self, X):
        """The label [M] of the largest score, the indicator [M, L], or the values."""
        check_is_fitted(self)
        return self._encoding.decode(self._scores(X))

    def learnt(self):
        """What `fit` learnt, as plain arrays by name, for `mirjax.classifiers.save`."""
        names = ("output_weights_", "intercept_", "ridge_", "penalty_", "condition_number_", "digits_", "hidden_units_")
        arrays = {name: np.asarray(getattr(self, name)) for name in names}
        arrays["rank_"] = np.asarray(-1 if self.rank_ is None else self.rank_)
        arrays["n_features_in_"] = np.asarray(self.n_features_in_)
        encoding = self._encoding
        arrays["encoding/kind"] = np.asarray(encoding.kind)
        arrays["encoding/shape"] = np.asarray([encoding.num_outputs, encoding.is_flat])
        if encoding.classes is not None:
            arrays["encoding/classes"] = encoding.classes
        if getattr(self, "calibration_", None) is not None:
            arrays["calibration/slope"] = np.asarray(self.calibration_.slope)
            arrays["calibration/intercept"] = np.asarray(self.calibration_.intercept)
        if hasattr(self, "selection_scores_"):
            arrays["selection_scores_"] = self.selection_scores_
        return arrays | {f"layer/{name}": value for name, value in self._learnt_layer().items()}

    def restore(self, arrays):
        """Take back what `learnt` gave; returns self."""
        from mirjax.classifiers.calibration import Calibration

        for name, value in arrays.items():
            if name.endswith("_") and "/" not in name:
                setattr(self, name, value if value.ndim else value.item())
        self.rank_ = None if self.rank_ < 0 else self.rank_
        outputs, is_flat = arrays["encoding/shape"].tolist()
        kind = arrays["encoding/kind"].item()
        self._encoding = Encoding(kind, arrays.get("encoding/classes"), outputs, bool(is_flat))
        if self._encoding.classes is not None:
            self.classes_ = self._encoding.classes
        if not self._is_regressor:
            self.calibration_ = None
        if "calibration/slope" in arrays:
            self.calibration_ = Calibration(
                kind=self.calibration,
                problem=kind,
                slope=arrays["calibration/slope"],
                intercept=arrays["calibration/intercept"],
            )
        self._restore_layer({key.removeprefix("layer/"): a for key, a in arrays.items() if key.startswith("layer/")})
        return self

    @abstractmethod
    def _learnt_layer(self):
        """The hidden layer's arrays by name."""

    @abstractmethod
    def _restore_layer(self, arrays):
        """Take back what `_learnt_layer` gave."""


class ClassifierReadout(ClassifierMixin, Readout):
    """A `Readout` that labels."""

    def decision_function(self, X):
        """Scores [M, K], about +1 for the class, −1 for others; with two classes [M], for `classes_[1]`."""
        check_is_fitted(self)
        scores = self._scores(X)
        return scores[:, 0] if self._encoding.kind == "classes" and scores.shape[1] == 1 else scores

    @available_if(lambda self: self.calibration is not None)
    def predict_proba(self, X):
        """Probabilities [M, K] of the classes (they sum to 1), or [M, L] of the labels (each by itself)."""
        check_is_fitted(self)
        probabilities = self.calibration_.probabilities(self._scores(X))
        if self._encoding.kind == "classes" and probabilities.shape[1] == 1:
            return np.concatenate([1 - probabilities, probabilities], axis=1)
        return probabilities

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = self.class_weight is None  # weights of classes are for one label a clip
        return tags


class RegressorReadout(RegressorMixin, Readout):
    """A `Readout` that gives values."""

    _is_regressor = True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class _Table:
    """Training rows with their activations, targets, weights and groups."""

    def __init__(self, x, hidden, targets, sample_weight, groups):
        self.x, self.hidden, self.targets = x, hidden, targets
        self.sample_weight, self.groups = sample_weight, groups


def _checked_groups(groups, num_rows):
    if groups is None:
        return None
    groups = np.asarray(groups)
    if groups.shape != (num_rows,):
        raise ValueError(f"groups has shape {groups.shape}; give one label for each of the {num_rows} rows")
    return groups


def _first_best(scores, ties=None):
    """Indices (size, ridge) of the largest score; among equals the largest of `ties`, then the first."""
    if ties is not None:  # shares of equal weight may be added up in different orders
        scores = np.where(scores >= scores.max() - 1e-12, ties, -np.inf)
    flat = scores.argmax()
    return tuple(int(i) for i in np.unravel_index(flat, scores.shape))

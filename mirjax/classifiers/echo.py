"""Echo state network: a random recurrent layer over frames, and a read-out in closed form.

Conventions
-----------
A clip is a sequence of frames u_t, `f[T, F]`; M clips are a list of such arrays, or `f[M, T, F]` with `lengths int[M]`
(frames from a clip's length on are padding). Nothing is trained but the read-out: a clip's states in the recurrent
layer (`reservoir`) become one row (or each of them does), and the rows meet the solver of every closed form here
(`readout`).

A table `x f[M, F]` is M clips of one frame each, and the network an extreme learning machine of a·tanh units.

Source
------
Jaeger (2001), The "echo state" approach to analysing and training recurrent neural networks, GMD report 148; Jaeger,
Lukoševičius, Popovici and Siewert (2007), Optimization and applications of echo state networks with leaky-integrator
neurons; Lukoševičius (2012), A practical guide to applying echo state networks.

Names
-----
* `EchoStateClassifier`: the classifier, in scikit-learn manners

`reservoir` has the layer and what a sequence is, `frames` the least squares over all frames.
"""

from numbers import Integral

import numpy as np
from sklearn.utils import check_consistent_length
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_y, check_is_fitted

from mirjax.classifiers import solvers
from mirjax.classifiers.frames import FramePath, Frames, frame_moments
from mirjax.classifiers.readout import ClassifierReadout
from mirjax.classifiers.reservoir import Reservoir, as_sequences

SUMMARIES = ("mean", "last", "frames")


class EchoStateClassifier(ClassifierReadout):
    """Echo state network with a read-out in closed form.

    With `summary="frames"` every frame's state is a row with its clip's target and weight. Scores are then averaged
    over a clip's frames, and as the read-out is linear that is the score of its mean state. So the solver needs no
    table of frames: their (centred) Gram matrix is summed clip by clip, and their products with the targets are those
    of the clips' mean states, weighted by their lengths.

    Args:
        hidden_units: H.
        spectral_radius: largest |eigenvalue| of the recurrent weights.
        input_scale: standard deviation of the input weights.
        bias_scale: standard deviation of the biases.
        leak_rate: a, above 0, at most 1; 1 keeps nothing but through the recurrent weights.
        density: share of recurrent connections that there are.
        bidirectional: run backwards too.
        summary: a clip's row: `mean` over the frames of each part, `last` state, or `frames` (see above).
        segments: equal parts of a clip, side by side in its row (`mean`).
        standardise: bring every feature to mean 0 and deviation 1 over the training frames (a deviation of 0 divides
            by 1).
        ridge: λ in units of the mean diagonal of the Gram matrix; several to choose from.
        fit_intercept: learn b.
        select: None, `validation`, `kfold`, and where nothing is learnt from the training frames (no `standardise`, not
            `frames`) `loo` or `gcv`.
        criterion: `accuracy`, `squared_error`, or `auto`.
        folds: their number, or a splitter.
        class_weight: None, `balanced`, or a dict.
        calibration: None, `temperature` or `platt`.
        digits: decimal digits that the read-out shall have; fewer warn.
        random_state: seed of the reservoir.

    Attributes:
        reservoir_: the `Reservoir`.
        mean_, deviation_: of the training frames, f64[F] (0 and 1 without `standardise`).
        hidden_units_: width of a clip's row.
        n_features_in_: F.
        classes_, output_weights_, intercept_, ridge_, penalty_, condition_number_, rank_, digits_, selection_scores_,
            calibration_: as in `readout.Readout`.

    Reference:
        Jaeger (2001); Jaeger et al. (2007); Lukoševičius (2012), sections 3 and 4.
    """

    def __init__(
        self,
        *,
        hidden_units=400,
        spectral_radius=0.9,
        input_scale=0.3,
        bias_scale=0.1,
        leak_rate=0.3,
        density=0.1,
        bidirectional=False,
        summary="mean",
        segments=1,
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
        self.hidden_units = hidden_units
        self.spectral_radius = spectral_radius
        self.input_scale = input_scale
        self.bias_scale = bias_scale
        self.leak_rate = leak_rate
        self.density = density
        self.bidirectional = bidirectional
        self.summary = summary
        self.segments = segments
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

    def fit(self, X, y, sample_weight=None, *, groups=None, validation=None, lengths=None):
        """Draw the reservoir and solve for the read-out.

        Args:
            X: M clips: a list of [T, F] arrays, an array [M, T, F], or a table [M, F] of clips of one frame; finite.
            y: labels [M] of at least two classes, or an indicator [M, L].
            sample_weight: weights of clips [M], at least 0; a clip of weight 0 is as if it were not there.
            groups: labels [M]; clips of one group are held out together (`select="kfold"`, and calibration).
            validation: (X, y) of the clips that decide with `select="validation"`.
            lengths: int[M] real frames of an array [M, T, F].

        Returns:
            self.

        Raises:
            ValueError: a parameter out of range, clips without frames or of different widths, features that are not
                finite, a single class, several ridges and no way to select one.
        """
        return super().fit(_cut(X, lengths), y, sample_weight, groups=groups, validation=validation)

    def predict(self, X, lengths=None):
        """The label [M] of the largest score, or the indicator [M, L]; X and lengths as in `fit`."""
        check_is_fitted(self)
        return super().predict(_cut(X, lengths))

    def decision_function(self, X, lengths=None):
        """Scores [M, K], about +1 for the class, −1 for others; with two classes [M]; X and lengths as in `fit`."""
        check_is_fitted(self)
        return super().decision_function(_cut(X, lengths))

    @available_if(lambda self: self.calibration is not None)
    def predict_proba(self, X, lengths=None):
        """Probabilities [M, K] of the classes, or [M, L] of the labels; X and lengths as in `fit`."""
        check_is_fitted(self)
        return super().predict_proba(_cut(X, lengths))

    # ── what a `Readout` asks for ─────────────────────────────────────────────────────────────────────────────────

    @property
    def _layer_is_learnt(self):
        # The Gram matrix of all frames is kept with the layer, so it too is made anew in every fold.
        return self.standardise or self.summary == "frames"

    def _sizes(self):
        return (self.hidden_units * (2 if self.bidirectional else 1) * self.segments,)

    def _candidates(self, validation):
        if self.summary not in SUMMARIES:
            raise ValueError(f"summary={self.summary!r} is not one of {', '.join(SUMMARIES)}")
        for name in ("hidden_units", "segments"):
            if not (isinstance(value := getattr(self, name), Integral) and value >= 1):
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
        if self.segments > 1 and self.summary != "mean":
            raise ValueError(f"segments={self.segments} are parts of summary='mean'; with {self.summary!r} give 1")
        return super()._candidates(validation)

    def _checked(self, X, y):
        if not _holds_sequences(X):
            x, y = super()._checked(X, y)
            return _ragged(as_sequences(x)), y
        clips = as_sequences(X)
        y = _check_y(y, multi_output=True, estimator=self)
        check_consistent_length(clips, y)
        self.n_features_in_ = clips[0].shape[1]
        return _ragged(clips), y

    def _checked_rows(self, X):
        if not _holds_sequences(X):
            return _ragged(as_sequences(super()._checked_rows(X)))
        clips = as_sequences(X)
        if clips[0].shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {clips[0].shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input (in every frame)"
            )
        return _ragged(clips)

    def _draw(self, x, sample_weight):
        num_features = x[0].shape[1]
        self.mean_, self.deviation_ = np.zeros(num_features), np.ones(num_features)
        if self.standardise:
            self.mean_, self.deviation_ = frame_moments(x, sample_weight)
        self.reservoir_ = Reservoir.draw(
            num_features,
            self.hidden_units,
            self.random_state,
            spectral_radius=self.spectral_radius,
            input_scale=self.input_scale,
            bias_scale=self.bias_scale,
            density=self.density,
            leak_rate=self.leak_rate,
            bidirectional=self.bidirectional,
        )
        self._frames = None
        if self.summary == "frames":
            self._frames = Frames.gather(self.reservoir_, self._scaled(x), sample_weight, self.fit_intercept)

    def _scaled(self, x):
        return [(clip - self.mean_) / self.deviation_ for clip in x]

    def _hidden(self, x):
        summary = "mean" if self.summary == "frames" else self.summary
        return self.reservoir_.summaries(self._scaled(x), summary=summary, segments=self.segments)

    def _path(self, hidden, targets, sizes, ridges, sample_weight):
        if self.summary != "frames":
            return super()._path(hidden, targets, sizes, ridges, sample_weight)
        return FramePath(self._frames, hidden, targets, ridges, sample_weight, self.fit_intercept)

    def _solve(self, table, size):
        if self.summary != "frames":
            return super()._solve(table, size)
        products, center, cross, mean = self._frames.normal_equations(
            table.hidden, table.targets, table.sample_weight, self.fit_intercept
        )
        self.penalty_ = float(self.ridge_ * np.diagonal(products).mean())
        self.output_weights_, diagnosis = solvers.solve_gram(products, cross, self.penalty_)
        self.intercept_ = mean - center @ self.output_weights_
        self._diagnose(diagnosis.check(self.digits, type(self).__name__))

    def _keep(self, size):
        self._frames = None

    def _learnt_layer(self):
        reservoir = self.reservoir_
        return {
            "input_weights": reservoir.input_weights,
            "recurrent_weights": reservoir.recurrent_weights,
            "bias": reservoir.bias,
            "mean": self.mean_,
            "deviation": self.deviation_,
        }

    def _restore_layer(self, arrays):
        names = ("input_weights", "recurrent_weights", "bias")
        self.reservoir_ = Reservoir(
            *(arrays[name] for name in names), leak_rate=float(self.leak_rate), bidirectional=bool(self.bidirectional)
        )
        self.mean_, self.deviation_ = arrays["mean"], arrays["deviation"]


def _holds_sequences(X) -> bool:
    """Whether X is a list (or array of objects) of [T, F] arrays, or an array [M, T, F]; else it is a table."""
    if getattr(X, "ndim", 1) == 3:
        return True
    if not (isinstance(X, list | tuple) or getattr(X, "dtype", None) == np.dtype(object)):
        return False
    return len(X) > 0 and np.ndim(X[0]) == 2


def _cut(X, lengths):
    return X if lengths is None else as_sequences(X, lengths)


def _ragged(clips) -> np.ndarray:
    """Clips as an array of objects [M], so that they can be chosen by index."""
    array = np.empty(len(clips), object)
    for i, clip in enumerate(clips):  # array[:] = clips would spread clips of one length over axes
        array[i] = clip
    return array

"""Echo state network: a random recurrent layer over frames, and a read-out in closed form.

Conventions
-----------
A clip is a sequence of frames u_t, `f[T, F]`; M clips are a list of such arrays, or `f[M, T, F]` with `lengths int[M]`
(frames from a clip's length on are padding). H units hold the state

    s_t = (1 − a) s_{t−1} + a tanh(W_in u_t + W s_{t−1} + b),    s_0 = 0,

with leak rate a, and W rescaled so that its largest |eigenvalue| is the spectral radius. Nothing here is trained but
the read-out: a clip's states become one row (or each of them does), and the rows meet the solver of every closed form
here (`readout`). Padding changes nothing, nor do a clip's neighbours: to the last bit, as clips are computed in blocks
of one size. Run backwards too (`bidirectional`), the same weights meet the frames from last to first, and the states of
both directions stand side by side.

A table `x f[M, F]` is M clips of one frame each, and the network an extreme learning machine of a·tanh units.

Source
------
Jaeger (2001), The "echo state" approach to analysing and training recurrent neural networks, GMD report 148; Jaeger,
Lukoševičius, Popovici and Siewert (2007), Optimization and applications of echo state networks with leaky-integrator
neurons; Lukoševičius (2012), A practical guide to applying echo state networks.

Names
-----
* `EchoStateClassifier`: the classifier, in scikit-learn manners
* `Reservoir`: the recurrent layer; `Reservoir.draw` draws one
* `as_sequences`: clips as a list of f64[T, F], checked
* `segment_weights`: the mean over parts of a clip as weights of its frames
"""

import dataclasses
import functools
from collections.abc import Sequence
from numbers import Integral, Real

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from sklearn.utils import check_consistent_length
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_y, check_is_fitted

from mirjax.classifiers import solvers
from mirjax.classifiers.arithmetic import double_precision, one_blas_thread
from mirjax.classifiers.gram import Gram
from mirjax.classifiers.readout import ClassifierReadout

BLOCK = 64  # clips of one compiled program; the last block is filled up, so that a clip's digits are its own
STEP = 32  # frames are padded to a multiple of it: few programs for many lengths
SUMMARIES = ("mean", "last", "frames")


def segment_weights(length: int, segments: int) -> np.ndarray:
    """Weights of a clip's frames in the means over its equal parts.

    Frame t lasts from t to t + 1, part j from jT/S to (j + 1)T/S; a frame counts in a part as much as they overlap:

        w_jt = S/T · max(0, min(t + 1, (j + 1)T/S) − max(t, jT/S)).

    Args:
        length: T frames, at least 1.
        segments: S parts, at least 1; more than there are frames repeat them.

    Returns:
        f64[S, T], every row summing to 1.
    """
    t = np.arange(length)[None, :]
    edges = np.arange(segments + 1)[:, None] * (length / segments)
    return np.maximum(0, np.minimum(t + 1, edges[1:]) - np.maximum(t, edges[:-1])) * (segments / length)


def as_sequences(X, lengths=None) -> list[np.ndarray]:
    """Clips as a list of f64[T, F].

    Args:
        X: a list of [T, F] arrays; an array [M, T, F]; or a table [M, F] of clips of one frame.
        lengths: int[M] real frames of an array [M, T, F]; None when all are real.

    Raises:
        ValueError: no clips; a clip without frames, of another width, or with values that are not finite; lengths
            that do not fit.
    """
    if lengths is not None and not (hasattr(X, "ndim") and X.ndim == 3):
        raise ValueError("lengths belong to an array X[M, T, F]; a list of clips tells their lengths itself")
    if hasattr(X, "ndim") and X.ndim == 2:
        X = np.asarray(X)[:, None, :]
    clips = [_as_clip(i, clip) for i, clip in enumerate(X)]
    if not clips:
        raise ValueError("X holds no clips; give at least one [T, F] array")
    if lengths is not None:
        lengths = np.asarray(lengths)
        if lengths.shape != (len(clips),) or not np.issubdtype(lengths.dtype, np.integer):
            raise ValueError(
                f"lengths is {lengths.dtype}{list(lengths.shape)}; give one whole number a clip, {len(clips)}"
            )
        if lengths.min() < 1 or lengths.max() > len(clips[0]):
            raise ValueError(
                f"lengths={lengths.min()}…{lengths.max()} must lie from 1 to the {len(clips[0])} frames of X"
            )
        clips = [clip[:length] for clip, length in zip(clips, lengths, strict=True)]
    for i, clip in enumerate(clips):
        if clip.shape[1] != clips[0].shape[1]:
            raise ValueError(f"clip {i} has {clip.shape[1]} features a frame and clip 0 has {clips[0].shape[1]}")
        if not np.isfinite(clip).all():
            raise ValueError(f"clip {i} holds NaN or infinity; leave those frames out or mend them")
    return clips


def _as_clip(i: int, clip) -> np.ndarray:
    clip = np.asarray(clip, np.float64)
    if clip.ndim != 2 or 0 in clip.shape:
        raise ValueError(f"clip {i} has shape {clip.shape}; give [frames, features], one frame and feature or more")
    return clip


@dataclasses.dataclass(frozen=True, eq=False)
class Reservoir:
    """A recurrent layer with fixed weights.

    Attributes:
        input_weights: W_in, f64[H, F].
        recurrent_weights: W, f64[H, H].
        bias: b, f64[H].
        leak_rate: a, above 0, at most 1.
        bidirectional: run from last to first frame too; states are then 2H wide.
    """

    input_weights: np.ndarray
    recurrent_weights: np.ndarray
    bias: np.ndarray
    leak_rate: float = 1.0
    bidirectional: bool = False

    @classmethod
    def draw(
        cls,
        num_inputs: int,
        units: int,
        seed,
        *,
        spectral_radius: float = 0.9,
        input_scale: float = 0.1,
        bias_scale: float = 0.1,
        density: float = 0.1,
        leak_rate: float = 0.3,
        bidirectional: bool = False,
    ) -> "Reservoir":
        """Draw a layer from normal distributions.

        Args:
            num_inputs: F.
            units: H.
            seed: for `numpy.random.default_rng`.
            spectral_radius: largest |eigenvalue| of W, at least 0; below 1 states forget in practice.
            input_scale: standard deviation of W_in, at least 0.
            bias_scale: standard deviation of b, at least 0.
            density: share of connections that there are, above 0, at most 1.
            leak_rate: a, above 0, at most 1.
            bidirectional: run from last to first frame too.

        Raises:
            ValueError: a value out of range; so few connections that none close a circle (all eigenvalues 0).
        """
        for name, value in (("num_inputs", num_inputs), ("units", units)):
            if not (isinstance(value, Integral) and value >= 1):
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
        for name, value in (
            ("spectral_radius", spectral_radius),
            ("input_scale", input_scale),
            ("bias_scale", bias_scale),
        ):
            if not (isinstance(value, Real) and 0 <= value < np.inf):
                raise ValueError(f"{name}={value!r} must be finite and at least 0")
        for name, value in (("density", density), ("leak_rate", leak_rate)):
            if not (isinstance(value, Real) and 0 < value <= 1):
                raise ValueError(f"{name}={value!r} must be above 0 and at most 1")
        generator = np.random.default_rng(seed)
        weights = generator.standard_normal((units, units)) * (generator.random((units, units)) < density)
        with one_blas_thread():
            radius = np.abs(np.linalg.eigvals(weights)).max()
        if spectral_radius > 0:
            # Rounding gives the eigenvalues of a nilpotent matrix as roots of eps.
            if radius <= 1e-3 * np.abs(weights).max(initial=0) or radius == 0:
                raise ValueError(
                    f"density={density} leaves {units} units without a circle of connections, so no spectral radius "
                    "to scale; raise density or units"
                )
            weights = weights * (spectral_radius / radius)
        else:
            weights = np.zeros_like(weights)
        return cls(
            input_scale * generator.standard_normal((units, num_inputs)),
            weights,
            bias_scale * generator.standard_normal(units),
            float(leak_rate),
            bool(bidirectional),
        )

    @property
    def num_states(self) -> int:
        """Width of a state: H, or 2H in both directions."""
        return len(self.bias) * (2 if self.bidirectional else 1)

    def states(self, clips: Sequence, *, initial=None) -> list[np.ndarray]:
        """The state after every frame.

        Args:
            clips: M arrays f[T, F].
            initial: state before the first frame, f[H]; zeros when None.

        Returns:
            M arrays f64[T, H]; with both directions f64[T, 2H], the second half being that of the reversed clip at
            the same frame.
        """
        found: list = [None] * len(clips)
        for members, frames, lengths in self._blocks(clips):
            with double_precision():
                states = np.asarray(_states(frames, lengths, *self._weights(initial)))
            for row, i in enumerate(members):
                found[i] = states[: len(clips[i]), row]
        if self.bidirectional:
            other = dataclasses.replace(self, bidirectional=False).states(_reversed(clips), initial=initial)
            found = [np.concatenate([a, b[::-1]], axis=1) for a, b in zip(found, other, strict=True)]
        return found

    def summaries(self, clips: Sequence, *, summary: str = "mean", segments: int = 1) -> np.ndarray:
        """One row a clip from its states, without keeping them.

        Args:
            clips: M arrays f[T, F].
            summary: `mean` over the frames of each part, or `last`: the state after the last frame (backwards: after
                the first).
            segments: S equal parts of the clip (`mean`).

        Returns:
            f64[M, S · H]: part by part, in each the states forwards and, in both directions, backwards.
        """
        parts = segments if summary == "mean" else 1
        found = np.empty((len(clips), parts, len(self.bias)))
        for members, frames, lengths in self._blocks(clips):
            weights = np.zeros((len(frames), BLOCK, parts))
            for row, i in enumerate(members):
                length = len(clips[i])
                if summary == "mean":
                    weights[:length, row] = segment_weights(length, parts).T
                else:
                    weights[length - 1, row] = 1
            with double_precision():
                found[members] = np.asarray(_weighted_states(frames, lengths, weights, *self._weights()))[
                    : len(members)
                ]
        if self.bidirectional:
            # The first part of a clip is the last of the reversed one.
            forwards = dataclasses.replace(self, bidirectional=False)
            other = forwards.summaries(_reversed(clips), summary=summary, segments=segments)
            found = np.concatenate([found, other.reshape(found.shape)[:, ::-1]], axis=2)
        return found.reshape(len(clips), -1)

    def _weights(self, initial=None):
        initial = np.zeros(len(self.bias)) if initial is None else np.asarray(initial, np.float64)
        if initial.shape != self.bias.shape:
            raise ValueError(f"initial has shape {initial.shape}; give one value for each of {len(self.bias)} units")
        initial = np.broadcast_to(initial, (BLOCK, len(initial)))
        return self.input_weights.T, self.recurrent_weights.T, self.bias, self.leak_rate, initial

    def _blocks(self, clips):
        """Clip numbers, frames f64[T, BLOCK, F] and lengths int32[BLOCK] of clips of similar length."""
        lengths = np.array([len(clip) for clip in clips], np.int32)
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), BLOCK):
            members = order[start : start + BLOCK]
            frames = np.zeros((-(-lengths[members[-1]] // STEP) * STEP, BLOCK, self.input_weights.shape[1]))
            for row, i in enumerate(members):
                if np.shape(clips[i])[1:] != frames.shape[2:]:
                    raise ValueError(f"clip {i} has shape {np.shape(clips[i])}; give [frames, {frames.shape[2]}]")
                frames[: lengths[i], row] = clips[i]
            yield members, frames, np.concatenate([lengths[members], np.zeros(BLOCK - len(members), np.int32)])


def _reversed(clips):
    return [np.asarray(clip)[::-1] for clip in clips]


def _update(state, frame, t, lengths, input_weights, recurrent_weights, bias, leak_rate):
    """The state after frame t [B, F]; clips that are over keep theirs."""
    product = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    drive = jnp.tanh(product(frame, input_weights) + product(state, recurrent_weights) + bias[None, :])
    return jnp.where((t < lengths)[:, None], (1 - leak_rate) * state + leak_rate * drive, state)


@jax.jit
def _states(frames, lengths, input_weights, recurrent_weights, bias, leak_rate, initial):
    """`[T, B, F] → [T, B, H]`."""

    def step(state, inputs):
        state = _update(state, *inputs, lengths, input_weights, recurrent_weights, bias, leak_rate)
        return state, state

    return lax.scan(step, initial, (frames, jnp.arange(len(frames))))[1]


@jax.jit
def _weighted_states(frames, lengths, weights, input_weights, recurrent_weights, bias, leak_rate, initial):
    """Sums of states over time with weights [T, B, S]: `[T, B, F] → [B, S, H]`, memory independent of T."""

    def step(carry, inputs):
        state, total = carry
        frame, t, weight = inputs
        state = _update(state, frame, t, lengths, input_weights, recurrent_weights, bias, leak_rate)
        return (state, total + weight[:, :, None] * state[:, None, :]), None

    total = jnp.zeros((*weights.shape[1:], initial.shape[1]), initial.dtype)
    return lax.scan(step, (initial, total), (frames, jnp.arange(len(frames)), weights))[0][1]


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
            self._frames = _Frames.gather(self.reservoir_, self._scaled(x), sample_weight, self.fit_intercept)

    def _scaled(self, x):
        return [(clip - self.mean_) / self.deviation_ for clip in x]

    def _hidden(self, x):
        summary = "mean" if self.summary == "frames" else self.summary
        return self.reservoir_.summaries(self._scaled(x), summary=summary, segments=self.segments)

    def _path(self, hidden, targets, sizes, ridges, sample_weight):
        if self.summary != "frames":
            return super()._path(hidden, targets, sizes, ridges, sample_weight)
        return _FramePath(self._frames, hidden, targets, ridges, sample_weight, self.fit_intercept)

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


def frame_moments(clips: Sequence, sample_weight=None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation f64[F] each over all frames of clips f64[T, F], weighted by clip; a deviation of 0 is 1."""
    sample_weight = np.ones(len(clips)) if sample_weight is None else sample_weight
    total = sum(w * len(clip) for w, clip in zip(sample_weight, clips, strict=True))
    mean = sum(w * clip.sum(axis=0) for w, clip in zip(sample_weight, clips, strict=True)) / total
    squares = sum(w * ((clip - mean) ** 2).sum(axis=0) for w, clip in zip(sample_weight, clips, strict=True))
    deviation = np.sqrt(squares / total)
    # A feature that never changes has a deviation of rounding only.
    constant = deviation <= 10 * np.finfo(np.float64).eps * np.abs(mean)
    return mean, np.where(constant, 1, deviation)


@dataclasses.dataclass(frozen=True, eq=False)
class _Frames:
    """What the least squares of all frames need beside the mean states of the clips.

    Attributes:
        products: Σ_i w_i Σ_t (s_t − s̄)(s_t − s̄)ᵀ, f64[H, H]; s̄ is 0 without an intercept.
        lengths: frames of each clip, [M].
    """

    products: np.ndarray
    lengths: np.ndarray

    @classmethod
    def gather(cls, reservoir, clips, sample_weight, fit_intercept):
        """From training clips, some at a time: memory does not grow with their number."""
        lengths = np.array([len(clip) for clip in clips])
        weights = sample_weight * lengths
        means = reservoir.summaries(clips)
        center = np.average(means, axis=0, weights=weights) if fit_intercept else np.zeros(means.shape[1])

        def batches():
            for start in range(0, len(clips), BLOCK):
                part = slice(start, start + BLOCK)
                for states, w in zip(reservoir.states(clips[part]), sample_weight[part], strict=True):
                    yield states - center, np.zeros((len(states), 1)), np.full(len(states), w)

        return cls(Gram.empty(len(center), 1).add_batches(batches()).products, lengths)

    def normal_equations(self, means, targets, sample_weight, fit_intercept):
        """(products [H, H], s̄ [H], Σ w T (s̄_i − s̄)(y_i − ȳ)ᵀ [H, K], ȳ [K]), a clip's target being its frames'."""
        w = sample_weight * self.lengths
        center, mean = np.zeros(means.shape[1]), np.zeros(targets.shape[1])
        if fit_intercept:
            center, mean = np.average(means, axis=0, weights=w), np.average(targets, axis=0, weights=w)
        return self.products, center, ((means - center) * w[:, None]).T @ (targets - mean), mean


class _FramePath:
    """All ridges of a least-squares problem of frames from one eigendecomposition."""

    def __init__(self, frames, means, targets, ridges, sample_weight, fit_intercept):
        products, center, cross, mean = frames.normal_equations(means, targets, sample_weight, fit_intercept)
        values, vectors = np.linalg.eigh(products)
        penalties = np.asarray(ridges) * np.diagonal(products).mean()
        rotated = vectors.T @ cross
        kept = values > np.where(penalties > 0, 0, solvers.CUTOFF[values.dtype] * values[-1])[:, None]
        inverse = np.where(kept, 1 / np.where(kept, values + penalties[:, None], 1), 0)
        self.weights = vectors @ (inverse[:, :, None] * rotated)
        self.intercepts = mean - center @ self.weights

    def predict(self, means):
        """Mean outputs over the frames of clips with mean states [M, H]: f64[1, ridges, M, K]."""
        return (means @ self.weights + self.intercepts[:, None])[None]


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

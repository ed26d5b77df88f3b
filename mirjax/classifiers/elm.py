"""Extreme learning machine: a random hidden layer and output weights in closed form.

Conventions
-----------
`x f64[M, D]` features, one row a clip; H hidden units; K classes. With input weights W and biases b drawn
from N(0, 1), and targets Y of ±1 (one against the rest),

    H = max(xW + b, 0),    β = pinv(H) Y,    scores = max(x'W + b, 0) β,

the label being the class of the largest score. The pseudo-inverse keeps the singular values above
1e6·eps·σ_max. All arithmetic is JAX's in float64, whatever the dtype of x and the state of `jax_enable_x64`,
on the default device, or on the host's CPU where the default backend has no float64.

Source
------
Huang, Zhu and Siew (2006), Extreme learning machine: theory and applications, Neurocomputing 70; hidden layer
and cut-off as in the released code of Pons and Serra (2019), Randomly weighted CNNs for (music) audio
classification.

Names
-----
* `ELMClassifier`: the classifier, in scikit-learn manners
* `draw_hidden_layer`, `activate`, `pseudo_inverse_product`, `double_precision`: its parts, shared with `grid`
* `reduce_activations`, `fit_and_score`, `one_blas_thread`: for many fits to subsets of the same rows
"""

import contextlib
import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from mirjax.classifiers import find_classes

CUTOFF = 1e6 * np.finfo(np.float64).eps
"""Singular values at or below this share of the largest count as zero."""

_WITH_FLOAT64 = ("cpu", "gpu", "cuda", "rocm")


@contextlib.contextmanager
def double_precision():
    """JAX in float64 for the calling thread, on a device that has it; afterwards all is as it was."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(True))
        if jax.default_backend() not in _WITH_FLOAT64:
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        yield


def draw_hidden_layer(num_features, hidden_units, seed):
    """Draw a hidden layer from N(0, 1), unit by unit: the first units do not depend on how many follow.

    Args:
        num_features: D.
        hidden_units: H.
        seed: for `numpy.random.default_rng`.

    Returns:
        Input weights f64[D, H] and biases f64[H].
    """
    layer = np.random.default_rng(seed).standard_normal((hidden_units, num_features + 1))
    return layer[:, :num_features].T, layer[:, num_features]


@jax.jit
def activate(x, weights, bias):
    """Hidden activations max(xW + b, 0): `[M, D], [D, H], [H] → [M, H]`."""
    return jnp.maximum(x @ weights + bias[None, :], 0)


@jax.jit
def pseudo_inverse_product(hidden, targets, ridge=0.0):
    """pinv(H) Y by the singular value decomposition H = U diag(σ) Vᵀ.

    Without a ridge 1/σ stands for σ > `CUTOFF`·σ_max and 0 for the rest. With one, σ/(σ² + λ) stands for
    every σ (Tikhonov), where λ = ridge · mean(diag(HᵀH)).

    Args:
        hidden: H, [M, H]; rows of zeros leave the result as it is without them.
        targets: Y, [M, K]; zero where a row of `hidden` is.
        ridge: λ in units of the mean diagonal of HᵀH, at least 0.

    Returns:
        The product [H, K] and the singular values [min(M, H)] in descending order.
    """
    u, s, vt = jnp.linalg.svd(hidden, full_matrices=False)
    penalty = ridge * jnp.sum(s**2) / hidden.shape[1]
    kept = s > jnp.where(ridge > 0, 0, CUTOFF * s[0])
    inverse = jnp.where(kept, s / jnp.where(kept, s**2 + penalty, 1), 0)
    return vt.T @ (inverse[:, None] * (u.T @ targets)), s


@functools.partial(jax.jit, static_argnums=1)
def reduce_activations(hidden, sizes):
    """Small matrices that stand for the first h columns of H in closed forms over any of its rows.

    Where h ≥ M, H = LQ with orthonormal rows in Q; then pinv(H) = Qᵀ pinv(L) and H' pinv(H) = L' pinv(L) for
    all subsets of rows, and L has the singular values of H. L of more units follows from L of fewer and the
    new units.

    Args:
        hidden: H, [M, max(sizes)].
        sizes: numbers of hidden units in ascending order.

    Returns:
        For every size h the first h columns of H [M, h] if h < M, else L [M, M].
    """
    designs, factor, used = [], jnp.zeros((0, len(hidden))), 0
    for size in sizes:
        if size < len(hidden):
            designs.append(hidden[:, :size])
        else:
            factor = jnp.linalg.qr(jnp.concatenate([factor, hidden[:, used:size].T]), mode="r")
            designs.append(factor.T)
            used = size
    return designs


@jax.jit
def fit_and_score(design, in_train, targets):
    """Outputs [M, K] for all rows of a design, fitted to the rows where `in_train` [M, 1] is 1 and not 0.

    Rows of zeros leave the pseudo-inverse of the rest as it is, so all training sets share one compiled
    program.
    """
    weights, _ = pseudo_inverse_product(design * in_train, targets * in_train)
    return design @ weights


@functools.cache
def _blas():
    import scipy.linalg  # noqa: F401  XLA's LAPACK is scipy's: loaded first, so that the controller finds it
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


_ONE_AT_A_TIME = threading.Lock()


@contextlib.contextmanager
def one_blas_thread():
    """BLAS on one thread, for the whole process; a second thread that asks waits.

    On matrices of some hundred rows this is faster than two threads, ten times so when another process is busy
    (OpenBLAS's threads wait for each other by spinning), and the rounding does not depend on the number of cores.
    """
    with _ONE_AT_A_TIME, _blas().limit(limits=1, user_api="blas"):
        yield


class ELMClassifier(ClassifierMixin, BaseEstimator):
    """Extreme learning machine with ReLU hidden units.

    Args:
        hidden_units: number of hidden units, at least 1. With one `random_state`, fewer units are the first
            ones of more units.
        ridge: Tikhonov regularisation in units of the mean diagonal of HᵀH; 0 is the pseudo-inverse.
        random_state: seed of the hidden layer, for `numpy.random.default_rng`.

    Attributes:
        classes_: the labels, sorted [K].
        hidden_weights_, hidden_bias_: f64[D, H] and f64[H].
        output_weights_: f64[H, K]; with two classes f64[H, 1], the weights of `classes_[1]`.
        rank_: number of singular values of H above the cut-off.
        condition_number_: the largest singular value over the smallest above the cut-off (1 if H is zero).
        n_features_in_: D.

    Reference:
        Huang, Zhu and Siew (2006); hidden layer, grid and cut-off: Pons and Serra (2019).
    """

    _LEARNT = ("classes_", "hidden_weights_", "hidden_bias_", "output_weights_", "rank_", "condition_number_")

    def __init__(self, *, hidden_units=1200, ridge=0.0, random_state=0):
        self.hidden_units = hidden_units
        self.ridge = ridge
        self.random_state = random_state

    def fit(self, X, y):
        """Solve for the output weights.

        Args:
            X: features [M, D], finite.
            y: labels [M] of at least two classes.

        Returns:
            self.

        Raises:
            ValueError: a parameter out of range, features that are not finite, a single class.
        """
        if not self.hidden_units >= 1:
            raise ValueError(f"hidden_units={self.hidden_units!r} must be at least 1")
        if not 0 <= self.ridge < np.inf:
            raise ValueError(f"ridge={self.ridge!r} must be finite and at least 0")
        X, y = validate_data(self, X, y, dtype=np.float64)
        self.classes_, codes = find_classes(y)
        columns = np.arange(len(self.classes_)) if len(self.classes_) > 2 else np.array([1])
        targets = np.where(codes[:, None] == columns[None, :], 1.0, -1.0)
        self.hidden_weights_, self.hidden_bias_ = draw_hidden_layer(X.shape[1], self.hidden_units, self.random_state)
        with one_blas_thread(), double_precision():
            hidden = activate(X, self.hidden_weights_, self.hidden_bias_)
            weights, s = (np.asarray(a) for a in pseudo_inverse_product(hidden, targets, float(self.ridge)))
        self.output_weights_ = weights
        kept = s[s > CUTOFF * s[0]]
        self.rank_ = len(kept)
        self.condition_number_ = float(kept[0] / kept[-1]) if len(kept) else 1.0
        return self

    def decision_function(self, X):
        """Scores [M, K], about +1 for the class, −1 for others; with two classes [M], for `classes_[1]`."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        with double_precision():
            hidden = activate(X, self.hidden_weights_, self.hidden_bias_)
            scores = np.asarray(hidden @ self.output_weights_)
        return scores if len(self.classes_) > 2 else scores[:, 0]

    def predict(self, X):
        """The label [M] of the largest score."""
        scores = self.decision_function(X)
        return self.classes_[scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0).astype(int)]

    def learnt(self):
        """What `fit` learnt, by name, for `mirjax.classifiers.save`."""
        return {name: getattr(self, name) for name in self._LEARNT}

    def restore(self, arrays):
        """Take back what `learnt` gave; returns self."""
        for name in self._LEARNT:
            setattr(self, name, arrays[name] if arrays[name].ndim else arrays[name].item())
        self.n_features_in_ = self.hidden_weights_.shape[0]
        return self

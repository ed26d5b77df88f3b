"""A mixture of diagonal Gaussians for every class, fitted by scikit-learn.

Conventions
-----------
`x f64[M, D]` features, one row a clip or a frame, taken as they are; K classes of J components. What was learnt is
kept as plain arrays, from which all scores are computed (`probe_base`). There are no weights of rows: scikit-learn's
mixtures know none.

Source
------
Reynolds and Rose (1995), Robust text-independent speaker identification using Gaussian mixture speaker models, IEEE
Transactions on Speech and Audio Processing 3; 40 diagonal components a class on MFCC frames in Pons, Slizovskaia, Gong,
Gomez and Serra (2017), Timbre analysis of music audio signals with convolutional neural networks.

Names
-----
* `GMMClassifier`: the classifier, of rows and of clips of frames
"""

import numpy as np
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from mirjax.classifiers import find_classes
from mirjax.classifiers.probe_base import ProbeClassifier, is_number


class GMMClassifier(ProbeClassifier):
    """A mixture of Gaussians with diagonal covariances for every class; the likeliest class wins.

    log p(x | k) = log Σ_j π_kj N(x; μ_kj, diag σ²_kj), by expectation-maximisation from k-means.

    Args:
        components: Gaussians a class, at least 1. On frames of MFCC the thesis has 40; every class needs as many
            rows (and 2), so a set of some clips a class takes 1 to 5.
        priors: "equal", or "training" for the shares of the training rows.
        reg_covar: added to every variance (in the square of the features' unit), at least 0.
        max_iter: most iterations of EM, at least 1.
        random_state: seed of k-means.

    Attributes:
        classes_: the labels, sorted [K].
        weights_, means_, variances_: π f64[K, J], μ and σ² f64[K, J, D].
        log_priors_: f64[K].
        n_iter_: iterations taken, int[K].
        n_features_in_: D.

    Reference:
        Reynolds and Rose (1995), Robust text-independent speaker identification using Gaussian mixture speaker models.
    """

    _LEARNT = ("classes_", "weights_", "means_", "variances_", "log_priors_", "n_iter_", "n_features_in_")

    def __init__(self, *, components=1, priors="equal", reg_covar=1e-6, max_iter=100, random_state=0):
        self.components = components
        self.priors = priors
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X, y):
        """Fit to features X [M, D] and labels y [M] of at least two classes; returns self.

        Raises:
            ValueError: a parameter out of range, features that are not finite or above 1e150, a single class, a class
                with fewer rows than components (or with one row).
        """
        self._need_whole("components")
        self._refuse("priors", self.priors in ("equal", "training"), "'equal' or 'training'")
        self._refuse("reg_covar", is_number(self.reg_covar) and self.reg_covar >= 0, "a number, finite and at least 0")
        self._need_whole("max_iter")
        with self._all_or_nothing():
            X, y = validate_data(self, X, y, dtype=np.float64)
            if np.abs(X).max() > 1e150:
                raise ValueError(f"X reaches {np.abs(X).max():.3g}, whose square leaves float64; scale the features")
            self.classes_, codes = find_classes(y)
            rows = np.bincount(codes)
            least = max(self.components, 2)
            if rows.min() < least:
                rarest = self.classes_.tolist()[rows.argmin()]
                raise ValueError(
                    f"components={self.components!r} needs {least} rows of every class; {rarest!r} has {rows.min()}; "
                    "lower components or leave the class out"
                )
            # EM takes variances as E[x²] − μ², which cancels far from 0: it works about the mean of the class.
            centres = np.stack([X[codes == k].mean(axis=0) for k in range(len(rows))])
            # k-means adds up in the order in which its threads finish; one thread makes the sum the same every time.
            with threadpool_limits(1):
                mixtures = [self._mixture().fit(X[codes == k] - centre) for k, centre in enumerate(centres)]
            self.weights_, means, self.variances_ = (
                np.stack([getattr(mixture, name) for mixture in mixtures])
                for name in ("weights_", "means_", "covariances_")
            )
            self.means_ = centres[:, None, :] + means
            shares = rows / rows.sum() if self.priors == "training" else np.full(len(rows), 1 / len(rows))
            self.log_priors_ = np.log(shares)
            self.n_iter_ = np.array([mixture.n_iter_ for mixture in mixtures])
        return self

    def _mixture(self):
        return GaussianMixture(
            self.components,
            covariance_type="diag",
            reg_covar=self.reg_covar,
            max_iter=self.max_iter,
            random_state=self.random_state,
        )

    def log_likelihoods(self, X):
        """log p(x | k) of every row and class, f64[M, K]."""
        return self._log_likelihoods(self._checked(X))

    def _log_likelihoods(self, x):
        likelihoods = np.empty((len(x), len(self.classes_)))
        for k, (weights, means, variances) in enumerate(zip(self.weights_, self.means_, self.variances_, strict=True)):
            # Σ (x − μ)²/σ² as three products, about the middle of the class so that little cancels.
            middle = means.mean(axis=0)
            z, means, precisions = x - middle[None, :], means - middle[None, :], 1 / variances
            with np.errstate(over="ignore", invalid="ignore"):  # refused below
                distances = z**2 @ precisions.T - 2 * z @ (precisions * means).T + (precisions * means**2).sum(axis=1)
            logarithms = np.log(2 * np.pi * variances).sum(axis=1)
            with np.errstate(divide="ignore"):  # a component without a row weighs nothing
                log_weights = np.log(weights)
            likelihoods[:, k] = logsumexp(log_weights[None, :] - (distances + logarithms[None, :]) / 2, axis=1)
        far = ~np.isfinite(likelihoods).all(axis=1)
        if far.any():
            raise ValueError(
                f"X is so far from the classes in row {far.argmax()} that the square of the distance leaves float64; "
                "scale the features as those of fit, or leave such rows out"
            )
        return likelihoods

    def _scores(self, x):
        return self._posterior_scores(self._log_likelihoods(x))

    def _posterior_scores(self, likelihoods):
        """log p(x | k) + log p(k); of two classes the difference [M, 1]."""
        scores = likelihoods + self.log_priors_[None, :]
        return scores if scores.shape[1] > 2 else scores[:, 1:] - scores[:, :1]

    def predict_proba(self, X):
        """Probabilities p(k | x), f64[M, K]."""
        return self._odds(self._scores(self._checked(X)))

    def score_clips(self, clips):
        """Log-likelihoods of clips, their frames taken for independent: Σ_t log p(x_t | k).

        Args:
            clips: M sequences of frames f64[T, D], each T ≥ 1 of its own.

        Returns:
            f64[M, K], without the priors.

        Raises:
            ValueError: no clip, a clip without a frame, of another width, or not finite.
        """
        check_is_fitted(self)
        clips = [np.asarray(clip, np.float64) for clip in clips]
        for i, clip in enumerate(clips):
            if clip.ndim != 2 or not len(clip) or clip.shape[1] != self.n_features_in_:
                raise ValueError(f"clips[{i}] has shape {clip.shape}; it must be [T ≥ 1, {self.n_features_in_}]")
        if not clips:
            raise ValueError("clips is empty; give one clip of frames [T, D] or more")
        frames = self.log_likelihoods(np.concatenate(clips))
        return np.add.reduceat(frames, np.cumsum([0, *(len(clip) for clip in clips[:-1])]), axis=0)

    def predict_clips(self, clips):
        """The label [M] of every clip of frames [T, D], from `score_clips` and the priors (once a clip)."""
        return self._labels(self._posterior_scores(self.score_clips(clips)))

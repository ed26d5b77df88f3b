"""What a path of ridge regressions is asked for, whatever solves its cells (`closed_form`, `kernel_path`).

Conventions
-----------
`targets f[n, K]`, w ≥ 0 a weight per row (1 without). A cell is a (size, ridge) of S sizes and R ridges. With weights
and an intercept everything is solved in the rows' own units, B = √w (Y − mean); rows of weight 0 (not *live*) have no
part in it and are predicted afterwards.

Source
------
Allen (1974), The relationship between variable selection and data augmentation, Technometrics 16 (PRESS); Golub, Heath
and Wahba (1979), Generalized cross-validation as a method for choosing a good ridge parameter, Technometrics 21.

Names
-----
* `RegressionPath`: checks, held-out predictions, degrees of freedom and generalised cross-validation of all cells
* `checked_matrix`: a finite matrix in float64 or float32
"""

import numpy as np

from mirjax.classifiers.arithmetic import one_blas_thread
from mirjax.classifiers.inverses import TOLERANCE


def checked_matrix(name, values, rows=None):
    """A matrix of finite numbers, float32 if it is that and else float64.

    Args:
        name: what an error calls it.
        values: f[n, m], neither of them 0.
        rows: n, if that is known.

    Raises:
        ValueError: another shape, or values that are not finite.
    """
    values = np.asarray(values)
    if values.dtype != np.float32:
        values = values.astype(np.float64, copy=False)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"{name} has shape {values.shape}; give a matrix of at least one row and one column")
    if rows is not None and len(values) != rows:
        raise ValueError(f"{name} has {len(values)} rows, the activations {rows}; give one row a clip to both")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise ValueError(f"{name} is not finite in row {row}; remove or repair such rows")
    return values


class RegressionPath:
    """Targets, weights and ridges, checked; and all that does not depend on how a cell is solved.

    A subclass sets `sizes`, calls `_set_scale` with the unit of the ridges, and gives `predict`, `_held_out(folds)`
    (residuals of live rows in their own units, by the fits without each fold, or without each row where folds is
    None), `_training_cells` (size index, ridge index, n − df and residuals of every cell), `_without(rows)` (the
    problem without some rows) and `_seen_from(rows, path)` (what that problem's `predict` takes for these rows).
    """

    def __init__(self, num_rows, targets, ridges, sample_weight, fit_intercept, dtype):
        self._dtype = np.dtype(dtype)
        if self._dtype not in TOLERANCE:
            raise ValueError(f"dtype={dtype!r} must be float64 or float32")
        self._all_targets = checked_matrix("targets", targets, num_rows).astype(np.float64, copy=False)
        self.ridges = np.atleast_1d(np.asarray(ridges, np.float64))
        if self.ridges.ndim != 1 or not self.ridges.size:
            raise ValueError(f"ridges={ridges!r} must be a sequence of at least one number")
        if not ((self.ridges >= 0) & np.isfinite(self.ridges)).all():
            raise ValueError(f"ridges={self.ridges.tolist()} must be finite and at least 0")
        weight = np.ones(num_rows) if sample_weight is None else np.asarray(sample_weight, np.float64)
        if weight.shape != (num_rows,) or not ((weight >= 0) & np.isfinite(weight)).all() or not weight.any():
            raise ValueError(
                f"sample_weight of shape {weight.shape} must hold {num_rows} finite numbers of at least 0, not all 0"
            )
        self._weight, self._fit_intercept = weight, bool(fit_intercept)
        self._live = np.flatnonzero(weight)
        self._root = np.sqrt(weight[self._live])
        self._total = weight.sum()
        self._unit = (self._root / np.sqrt(self._total)).astype(self._dtype) if fit_intercept else None
        self._mean_targets = np.zeros(self._all_targets.shape[1])
        if fit_intercept:
            self._mean_targets = self._mean(self._all_targets)
        targets = (self._all_targets[self._live] - self._mean_targets[None, :]) * self._root[:, None]
        self._targets = targets.astype(self._dtype, copy=False)

    def _mean(self, values):
        return self._weight @ values / self._total

    def _set_scale(self, scale):
        # Activations of nothing but zeros have no scale; any penalty gives them weights of 0.
        self.penalties = self.ridges * (scale if scale > 0 else 1.0)
        self.ridges.flags.writeable = self.penalties.flags.writeable = False

    def _need_ridge(self, what):
        if not self.ridges.all():
            raise ValueError(f"{what} needs ridges above 0, these are {self.ridges.tolist()}; leave 0 out or raise it")

    def _shape(self, *rest):
        return (len(self.sizes), len(self.ridges), *rest)

    def _check_cell(self, size_index, ridge_index):
        for name, index, count in zip(("size", "ridge"), (size_index, ridge_index), self._shape(), strict=True):
            if not 0 <= index < count:
                raise ValueError(f"{name}_index={index} must be from 0 to {count - 1}")

    def _check_folds(self, folds):
        num_rows = len(self._weight)
        seen = np.zeros(num_rows, bool)
        checked = []
        for number, rows in enumerate(folds):
            rows = np.asarray(rows)
            if rows.ndim != 1 or not rows.size or not np.issubdtype(rows.dtype, np.integer):
                raise ValueError(f"fold {number} must be a non-empty vector of row numbers, not {rows!r:.60}")
            if rows.min() < 0 or rows.max() >= num_rows:
                raise ValueError(
                    f"fold {number} holds row {rows.min() if rows.min() < 0 else rows.max()}; "
                    f"rows go from 0 to {num_rows - 1}"
                )
            if seen[rows].any() or len(np.unique(rows)) < len(rows):
                raise ValueError(f"fold {number} holds a row twice or one of an earlier fold; a row is held out once")
            if not np.delete(self._weight, rows).any():
                raise ValueError(f"fold {number} leaves no row of positive weight to fit; use more folds")
            seen[rows] = True
            checked.append(rows)
        if not checked:
            raise ValueError("folds is empty; give at least one vector of row numbers")
        return checked

    @one_blas_thread()
    def leave_one_out(self):
        """Prediction of every row by the fit without it (PRESS), exact and without refits.

        The fit does not see a row of weight 0, whose prediction is that of the whole fit.

        Returns:
            f64[S, R, n, K].

        Raises:
            ValueError: a ridge of 0, or a single row of positive weight.
        """
        self._need_ridge("leave_one_out")
        if len(self._live) < 2:
            raise ValueError("leave_one_out needs two rows of positive weight or more, there is 1")
        out = np.empty(self._shape(*self._all_targets.shape))
        residuals = self._held_out(None)
        out[:, :, self._live] = self._all_targets[self._live] - residuals / self._root[:, None]
        self._predict_weightless(out, np.arange(len(self._weight)), self)
        return out

    @one_blas_thread()
    def leave_out(self, folds):
        """Prediction of every fold's rows by the fit without them, exact and without refits.

        The penalties are those of all rows. The fit does not see rows of weight 0; their predictions are those of
        the fit without the other rows of their fold (which is refitted if it holds such a row).

        Args:
            folds: vectors of row numbers; they may be unequal, and need not cover all rows.

        Returns:
            f64[S, R, n, K]; NaN for the rows of no fold.

        Raises:
            ValueError: a ridge of 0; a row outside 0..n − 1, or in two folds or twice in one; a fold without rows or
                with all rows of positive weight.
        """
        self._need_ridge("leave_out")
        folds = self._check_folds(folds)
        position = np.cumsum(self._weight > 0) - 1
        live_folds = [position[rows[self._weight[rows] > 0]] for rows in folds]
        residuals = self._held_out([rows for rows in live_folds if len(rows)])
        out = np.full(self._shape(*self._all_targets.shape), np.nan)
        out[:, :, self._live] = self._all_targets[self._live] - residuals / self._root[:, None]
        for rows in folds:
            if not self._weight[rows].all():
                self._predict_weightless(out, rows, self._without(rows))
        return out

    def _predict_weightless(self, out, rows, path):
        rows = rows[self._weight[rows] == 0]
        if len(rows):
            out[:, :, rows] = path.predict(self._seen_from(rows, path))

    @one_blas_thread()
    def degrees_of_freedom(self):
        """Trace of the hat matrix, the intercept included; for ridge 0 the rank: f64[S, R]."""
        out = np.empty(self._shape())
        for i, j, free, _ in self._training_cells():
            out[i, j] = len(self._live) - free
        return out

    @one_blas_thread()
    def generalised_cross_validation(self):
        """N · RSS / (N − df)², averaged over outputs; RSS is the weighted sum of squares and N the sum of weights.

        Weights count as repetitions, so that a weight of 2 is the row twice.

        Returns:
            f64[S, R].

        Raises:
            ValueError: a ridge of 0; weights whose sum does not exceed the degrees of freedom.

        Reference:
            Golub, Heath and Wahba (1979), equation 1.4.
        """
        self._need_ridge("generalised_cross_validation")
        out = np.empty(self._shape())
        for i, j, free, residuals in self._training_cells():
            free = self._total - len(self._live) + free
            if not free > 0:
                raise ValueError(
                    f"sample_weight sums to {self._total:.6g}, not above the degrees of freedom "
                    f"{self._total - free:.6g}; weights count as repetitions: scale them to sum to the number of rows"
                )
            squares = np.square(residuals, dtype=np.float64).sum(0)
            out[i, j] = self._total * squares.mean() / free**2
        return out

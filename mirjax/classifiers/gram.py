"""Accumulators of a closed form: sums of products that stand for any number of rows.

Conventions
-----------
Rows are clips: hidden activations h_i (H of them), targets y_i (K), weights w_i ≥ 0 (1 if not given). A `Gram` holds

    products = Σ w h hᵀ,  cross = Σ w h yᵀ,  hidden_sum = Σ w h,  target_sum = Σ w y,  target_squares = Σ w y²,

which is all that ridge regression needs of the rows. Its memory is 8·H·(H + K) bytes for any number of rows. A `Gram`
never changes: `add`, `subtract` and `merge` give another one, so that a failed call leaves everything as it was.
All is float64 on the host; `sharded.accumulate` makes the same sums on many devices and hosts.

Rounding
--------
With u = 2⁻⁵³ every product of a batch of b rows is rounded at most b + 4 times (root of the weight, weighting, product,
sum), and a sum of batches once for each batch. With γ ≈ (b + 5)u and the inequality of Cauchy and Schwarz,

    |computed − exact|_ij ≤ sqrt(r_i r_j),    r ← r + (b + 5)u · diag(batch) + u · diag(sum),

r being the field `rounding` [H]; `target_rounding` [K] is the same of the targets. For n rows in m equal batches
r_j ≤ (n/m + 5 + (m + 1)/2)·u·products_jj, hence never more than (n + 6)·u. So whatever the order of the rows and the
sizes of the batches, two results differ by at most (n + 6)·2⁻⁵²·sqrt(products_ii · products_jj); rows of whole numbers
(sums below 2⁵³) without weights give the same bits. Values below 1e-154 are apart: float64 holds their squares with
fewer digits, and as 0 below 1e-162. Scale such features.

Source
------
Bounds: Higham (2002), Accuracy and stability of numerical algorithms, sections 3.1 and 3.3. Regression from such sums,
row after row: Liang, Huang, Saratchandran and Sundararajan (2006), A fast and accurate online sequential learning
algorithm for feedforward networks, IEEE TNN 17 (there by inverses, here by sums, which can be merged and do not drift).

Names
-----
* `Gram`: the accumulator
* `check_range`: refuses sums that overflowed; `locked`: a read-only array
"""

import dataclasses
import math
import numbers
import os
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
from scipy.linalg import blas

from mirjax.classifiers.arithmetic import check_memory, one_blas_thread
from mirjax.classifiers.solvers import PrecisionWarning, check_penalty, solve_gram

UNIT_ROUNDOFF = np.finfo(np.float64).eps / 2

_FORMAT = "mirjax.classifiers.gram 2"
_SMALLEST = np.finfo(np.float64).tiny / UNIT_ROUNDOFF
_CENTRING = 4  # roundings in a centred sum: of the sum, of the two that make the means, of the weight
_BLOCK = 256  # columns of a triangle that are handled together: small enough for the cache


@dataclasses.dataclass(frozen=True, eq=False)
class Gram:
    """Sums over rows, see the module.

    Attributes:
        products: Σ w h hᵀ, f64[H, H].
        cross: Σ w h yᵀ, f64[H, K].
        hidden_sum: Σ w h, f64[H].
        target_sum: Σ w y, f64[K].
        target_squares: Σ w y², f64[K].
        weight: Σ w.
        count: number of rows of weight above 0.
        rounding: r, f64[H]: `products[i, j]` is exact to sqrt(r_i r_j).
        target_rounding: the same of `target_squares`, f64[K].
    """

    products: np.ndarray
    cross: np.ndarray
    hidden_sum: np.ndarray
    target_sum: np.ndarray
    target_squares: np.ndarray
    weight: float
    count: int
    rounding: np.ndarray
    target_rounding: np.ndarray

    def __post_init__(self):
        if np.ndim(self.cross) != 2:
            raise ValueError(f"cross has shape {np.shape(self.cross)}; it must have two axes, [H, K]")
        hidden_units, num_outputs = np.shape(self.cross)
        shapes = {
            "products": (hidden_units, hidden_units),
            "cross": (hidden_units, num_outputs),
            "hidden_sum": (hidden_units,),
            "target_sum": (num_outputs,),
            "target_squares": (num_outputs,),
            "rounding": (hidden_units,),
            "target_rounding": (num_outputs,),
        }
        for name, shape in shapes.items():
            array = np.asarray(getattr(self, name), np.float64)
            array = array.copy() if array.flags.writeable else array.view()  # a caller may go on writing to his
            if array.shape != shape:
                raise ValueError(
                    f"{name} has shape {array.shape}; beside cross {np.shape(self.cross)} it must be {shape}"
                )
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def empty(cls, hidden_units, num_outputs):
        """Sums over no rows, for H hidden units and K outputs.

        Raises:
            ValueError: a width below 1, or more than the memory holds.
        """
        for name, value in (("hidden_units", hidden_units), ("num_outputs", num_outputs)):
            if not (isinstance(value, numbers.Integral) and value >= 1):
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
        check_memory("the Gram matrix", (hidden_units, hidden_units), remedy="use fewer hidden_units")
        h, k = np.zeros(hidden_units), np.zeros(num_outputs)
        products, cross = locked(np.zeros((hidden_units, hidden_units))), np.zeros((hidden_units, num_outputs))
        return cls(products, cross, h, k, k, 0.0, 0, h, k)

    @property
    def hidden_units(self):
        """H."""
        return self.cross.shape[0]

    @property
    def num_outputs(self):
        """K."""
        return self.cross.shape[1]

    @property
    def digits(self):
        """Decimal digits that the sum of squares of each hidden unit has left, f64[H] (inf where nothing was added)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            digits = np.log10(np.diagonal(self.products) / self.rounding)
        return np.where(self.rounding > 0, np.maximum(digits, 0), np.inf)

    def add(self, hidden, targets, sample_weight=None):
        """With the rows of one batch.

        Args:
            hidden: f[b, H], finite.
            targets: f[b, K], finite.
            sample_weight: f[b], at least 0; None is 1 each. Weight 0 is as if the row were not there.

        Returns:
            A new `Gram`; this one stays as it is.

        Raises:
            ValueError: another width, a value that is not finite, a weight below 0, or sums beyond float64.
        """
        return self.add_batches([(hidden, targets, sample_weight)])

    def add_batches(self, batches):
        """With the rows of many batches (hidden, targets) or (hidden, targets, sample_weight); see `add`.

        Gives what repeated `add` gives, to the last bit, and copies the sums once and not for each batch.
        """
        return self._absorb(batches, 1)

    def subtract(self, hidden, targets, sample_weight=None, *, digits=6):
        """Without the rows of one batch: unlearning.

        What is left is exact to `rounding`, which stays as large as the sums once were: to take away nearly all rows
        costs the digits that were needed to hold them. Then the sums of the rows that remain are better made anew.

        Args:
            hidden, targets, sample_weight: rows that were added before, see `add`.
            digits: a `PrecisionWarning` says so when a hidden unit keeps fewer decimal digits than this.

        Returns:
            A new `Gram`; this one stays as it is. Units that keep less than their rounding are 0 in it.

        Raises:
            ValueError: more rows or weight than there are, sums of squares, of units or targets, that
                would be below 0 by more than rounding, or what `add` raises.
        """
        left = self._absorb([(hidden, targets, sample_weight)], -1)
        left = _checked_difference(self, left)
        lost = np.flatnonzero((left.digits < digits) & (left.digits < self.digits))
        if len(lost):
            worst = lost[left.digits[lost].argmin()]
            before, after = np.minimum(self.digits, 16)[worst], left.digits[worst]
            message = (
                f"{len(lost)} of {self.hidden_units} hidden units keep fewer than digits={digits} decimal digits "
                f"after {self.count - left.count} of {self.count} rows were taken away; the worst, unit {worst}, lost "
                f"{before - after:.1f} and keeps {after:.1f}. Add the remaining rows to an empty Gram instead"
            )
            warnings.warn(message, PrecisionWarning, stacklevel=2)
        return left

    def merge(self, other):
        """The rows of both: commutative to the last bit, associative to rounding.

        Raises:
            ValueError: another number of hidden units or outputs, or sums beyond float64.
        """
        if not isinstance(other, Gram):
            raise TypeError(f"a Gram merges with another, not with a {type(other).__name__}")
        if other.cross.shape != self.cross.shape:
            raise ValueError(
                f"Gram matrices of {self.hidden_units} hidden units and {self.num_outputs} outputs and of "
                f"{other.hidden_units} and {other.num_outputs} do not merge; they must come from one hidden layer and "
                "one encoding of the targets"
            )
        names = (field.name for field in dataclasses.fields(self))
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        locked(sums["products"])
        sums["rounding"] = sums["rounding"] + UNIT_ROUNDOFF * np.diagonal(sums["products"])
        sums["target_rounding"] = sums["target_rounding"] + UNIT_ROUNDOFF * sums["target_squares"]
        return check_range(Gram(**sums))

    def __add__(self, other):
        return self.merge(other) if isinstance(other, Gram) else NotImplemented

    def first(self, hidden_units):
        """The sums of the first hidden units."""
        if not (isinstance(hidden_units, numbers.Integral) and 1 <= hidden_units <= self.hidden_units):
            raise ValueError(
                f"hidden_units={hidden_units!r} must be between 1 and {self.hidden_units}, a whole number of them"
            )
        h = hidden_units
        cut = {"products": self.products[:h, :h], "cross": self.cross[:h]}
        return dataclasses.replace(self, **cut, hidden_sum=self.hidden_sum[:h], rounding=self.rounding[:h])

    def centred(self):
        """Sums of the same rows less their weighted means: products f64[H, H] and cross f64[H, K].

        Σ w (h − h̄)(h − h̄)ᵀ = Σ w h hᵀ − (Σ w h)(Σ w h)ᵀ / Σ w. The difference keeps the absolute rounding of the
        minuend, so that a unit of mean m and deviation s loses log10(1 + m²/s²) digits. One that has none left is
        constant as far as can be told, and 0 here.

        Raises:
            ValueError: there are no rows.
        """
        return self._centred()[:2]

    def _centred(self):
        """`centred`, and whether more than a constant was lost.

        The products of a constant unit with all others and with the targets are rounding too, so one beyond it tells
        of a unit that varies by less than its own sum of squares can show, down to 1e-12 or so of its mean.
        """
        self._need_rows()
        products = self.products - np.multiply.outer(self.hidden_sum, self.hidden_sum / self.weight)
        cross = self.cross - np.multiply.outer(self.hidden_sum, self.target_sum / self.weight)
        products = (products + products.T) / 2
        constant = np.diagonal(products) <= _CENTRING * self.rounding
        # Squares that are no normal numbers have no such bound, and tell nothing.
        root = np.sqrt(np.maximum(np.concatenate([self.rounding, self.target_rounding]), _SMALLEST))
        rests = np.hstack([products[constant], cross[constant]])
        varied = bool((np.abs(rests) > _CENTRING * np.multiply.outer(root[: len(constant)][constant], root)).any())
        products[constant], products[:, constant], cross[constant] = 0, 0, 0
        return products, cross, varied

    def penalty(self, ridge, *, fit_intercept=False):
        """λ = ridge · mean diagonal of the products, centred ones with an intercept.

        Raises:
            ValueError: a ridge below 0 or not finite, or no rows.
        """
        ridge = check_penalty("ridge", ridge)
        self._need_rows()
        diagonal = np.diagonal(self.products)
        if fit_intercept:
            diagonal = diagonal - self.hidden_sum**2 / self.weight
            diagonal = np.where(diagonal > _CENTRING * self.rounding, diagonal, 0)  # as in `centred`
        return float(ridge * diagonal.mean())

    def solve(self, ridge, *, size=None, fit_intercept=False, digits=4):
        """Output weights that minimise Σ w |y − hβ − b|² + λ|β|².

        Args:
            ridge: in units of the mean diagonal, see `penalty`; λ is that of the full width for every size.
            size: number of leading hidden units to use; all by default.
            fit_intercept: with b, which is not penalised; else b = 0.
            digits: a `PrecisionWarning` tells if the weights have fewer decimal digits than this.

        Returns:
            The weights β f64[size, K] and the intercept b f64[K].

        Raises:
            ValueError: no rows, or a ridge or size out of range.
        """
        weights, intercept, diagnosis = self.diagnosed_solve(ridge, size=size, fit_intercept=fit_intercept)
        diagnosis.check(digits)
        return weights, intercept

    def diagnosed_solve(self, ridge, *, size=None, fit_intercept=False):
        """`solve`, with what `solvers.solve_gram` knows of the answer: weights, intercept, `solvers.Diagnosis`.

        Its digits are fewer where the sums themselves have lost some: to centring, to `subtract`, to float32.
        """
        penalty = self.penalty(ridge, fit_intercept=fit_intercept)
        part = self if size is None else self.first(size)
        products, cross, varied = part._centred() if fit_intercept else (part.products, part.cross, False)
        weights, diagnosis = solve_gram(products, cross, penalty)
        # Units that were found constant have no say in the answer: their rounding counts for nothing.
        rounding = part.rounding[(np.diagonal(products) > 0) | (np.diagonal(part.products) <= part.rounding)].sum()
        trace, lost = np.trace(products), math.inf if varied else 0.0
        if trace > 0 and rounding > 0:
            # trace(r) bounds the error's norm; sums of as many rows in float64 have a bound of `fresh` of the trace.
            fresh = (min(self.count, 100_000) + 6) * UNIT_ROUNDOFF
            lost = max(lost, math.log10(rounding / trace / fresh))
        diagnosis = dataclasses.replace(diagnosis, digits=max(0.0, diagnosis.digits - lost))
        intercept = np.zeros(self.num_outputs)
        if fit_intercept:
            intercept = (part.target_sum - part.hidden_sum @ weights) / part.weight
        return weights, intercept, diagnosis

    def squared_error(self, weights, intercept=None):
        """Σ w (y − hβ − b)² of each output, f64[K], over the rows in the sums.

        It is found as Σwy² − 2β·Σwhy + βᵀ(Σwhhᵀ)β + …, so that it is exact to about 1e-16 of Σwy² (more with large β)
        and not of itself: a fit that leaves less reads as 0 or so.

        Args:
            weights: β f[size, K], for the first `size` hidden units.
            intercept: b f[K]; None is 0.

        Raises:
            ValueError: another width, of either.
        """
        weights = np.asarray(weights, np.float64)
        if weights.ndim != 2 or len(weights) > self.hidden_units or weights.shape[1] != self.num_outputs:
            raise ValueError(
                f"weights have shape {weights.shape}; expected [H, K] with H up to {self.hidden_units} and "
                f"K = {self.num_outputs}"
            )
        h = len(weights)
        b = np.zeros(self.num_outputs) if intercept is None else np.asarray(intercept, np.float64)
        if b.shape != (self.num_outputs,):
            raise ValueError(f"intercept has shape {b.shape}; expected ({self.num_outputs},), one for each output")
        error = (
            self.target_squares
            - 2 * np.sum(weights * self.cross[:h], axis=0)
            + np.sum(weights * (self.products[:h, :h] @ weights), axis=0)
            + b * (2 * (self.hidden_sum[:h] @ weights - self.target_sum) + self.weight * b)
        )
        return np.maximum(error, 0)

    def save(self, path):
        """Write to one .npz file without pickles; until all of it is written an older file of that name stays.

        Args:
            path: where to write; the folder must exist.
        """
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        try:
            with open(unfinished, "wb") as file:
                np.savez(file, format=_FORMAT, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path):
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is torn, of another format, or something else, or its sums are no finite numbers.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            found = str(arrays.pop("format", "no format"))
        except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError, NotImplementedError) as e:
            raise ValueError(f"{path} is torn, or no file that Gram.save wrote: {e}") from e
        except TypeError as e:  # a single .npy array has no members
            raise ValueError(f"{path} holds a single array; it is no file that Gram.save wrote") from e
        if found != _FORMAT:
            raise ValueError(f"{path} is of another format, {found!r}, than {_FORMAT!r}")
        names = {field.name for field in dataclasses.fields(cls)}
        if set(arrays) != names:
            raise ValueError(f"{path} holds {sorted(arrays)}; a Gram has {sorted(names)}")
        for name, array in arrays.items():
            if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
                raise ValueError(f"{path} holds {name} with values that are no finite numbers; make the sums anew")
            if name in ("weight", "count") and array.shape:
                raise ValueError(f"{path} holds {name} of shape {array.shape}; a Gram has one number")
        return cls(**arrays | {"weight": float(arrays["weight"]), "count": int(arrays["count"])})

    def _need_rows(self):
        if not self.weight > 0:
            raise ValueError("the Gram matrix holds no rows of weight above 0; add some first")

    def _absorb(self, batches, sign):
        """Add (or with sign −1 take away) batches; BLAS's syrk makes one triangle only, half of the multiplies."""
        names = ("products", "cross", "hidden_sum", "target_sum", "target_squares", "rounding", "target_rounding")
        products, cross, hidden_sum, target_sum, target_squares, rounding, target_rounding = (
            np.array(getattr(self, name), order="F") for name in names
        )
        weight, count, part = self.weight, self.count, np.zeros_like(products)
        diagonal = np.einsum("ii->i", products)
        with one_blas_thread():
            for batch in batches:
                hidden, targets, sample_weight = _checked_batch(batch, self.hidden_units, self.num_outputs)
                if not len(hidden):
                    continue
                scaled, weighted = hidden, targets
                if sample_weight is not None:
                    scaled, weighted = np.sqrt(sample_weight)[:, None] * hidden, sample_weight[:, None] * targets
                # A batch is summed by itself first: added to the sums row by row it would be rounded far more often.
                part = blas.dsyrk(sign, scaled.T, c=part, lower=1, overwrite_c=1)
                _add_lower(products, part)
                rounding += UNIT_ROUNDOFF * ((len(hidden) + 5) * np.abs(np.diagonal(part)) + np.abs(diagonal))
                cross += sign * (hidden.T @ weighted)
                hidden_sum += sign * (hidden.sum(0) if sample_weight is None else sample_weight @ hidden)
                target_sum += sign * weighted.sum(0)
                squares = np.sum(weighted * targets, axis=0)
                target_squares += sign * squares
                target_rounding += UNIT_ROUNDOFF * ((len(hidden) + 5) * squares + np.abs(target_squares))
                weight += sign * (len(hidden) if sample_weight is None else math.fsum(sample_weight))
                count += sign * (len(hidden) if sample_weight is None else int(np.count_nonzero(sample_weight)))
        _mirror(products)
        sums = locked(products).T, np.ascontiguousarray(cross), hidden_sum, target_sum, target_squares
        return check_range(Gram(*sums, float(weight), count, rounding, target_rounding))


def _checked_batch(batch, hidden_units, num_outputs):
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        what = f"of {len(batch)} parts" if isinstance(batch, (tuple, list)) else f"that is a {type(batch).__name__}"
        raise ValueError(f"a batch {what}; expected (hidden, targets) or (hidden, targets, sample_weight)")
    hidden, targets, sample_weight = batch if len(batch) == 3 else (*batch, None)
    hidden = _checked_table("hidden", hidden, hidden_units)
    targets = _checked_table("targets", targets, num_outputs)
    if len(targets) != len(hidden):
        raise ValueError(f"targets have {len(targets)} rows but hidden has {len(hidden)}")
    if sample_weight is None:
        return hidden, targets, None
    sample_weight = np.asarray(sample_weight, np.float64)
    if sample_weight.shape != (len(hidden),):
        raise ValueError(f"sample_weight has shape {sample_weight.shape}; expected ({len(hidden)},), one for each row")
    wrong = ~(np.isfinite(sample_weight) & (sample_weight >= 0))
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(f"sample_weight[{i}]={sample_weight[i]} must be finite and at least 0")
    return hidden, targets, sample_weight


def _checked_table(name, table, width):
    table = np.ascontiguousarray(table, np.float64)
    if table.ndim != 2 or table.shape[1] != width:
        raise ValueError(f"{name} has shape {table.shape}; this Gram takes [rows, {width}]")
    if not np.isfinite(table).all():
        i, j = (int(at) for at in np.argwhere(~np.isfinite(table))[0])
        raise ValueError(f"{name}[{i}, {j}]={table[i, j]} must be finite; leave such rows out or replace the value")
    return table


def check_range(gram, dtype=np.float64):
    """The Gram, refused where its sums overflowed in the dtype that they were made in."""
    if not (np.isfinite(np.diagonal(gram.products)).all() and np.isfinite(gram.target_squares).all()):
        limit = f"{np.dtype(dtype)} ({np.finfo(dtype).max:.1e})".replace("+", "")
        raise ValueError(f"sums of squares exceed {limit}; scale the hidden activations and targets down")
    return gram


def locked(array):
    """The array, from now on read-only, so that a `Gram` takes it as it is."""
    array.flags.writeable = False
    return array


def _checked_difference(before, left):
    """`left` = `before` less rows, refused where they cannot have been among them, and free of remains of rounding."""
    if left.count < 0:
        raise ValueError(f"{before.count - left.count} rows cannot be taken away: the Gram holds {before.count}")
    slack = 4 * UNIT_ROUNDOFF * (before.count + 5) * before.weight
    if left.weight < -slack or (left.count > 0 and left.weight <= 0) or (left.count == 0 and left.weight > slack):
        raise ValueError(
            f"rows of weight {before.weight - left.weight:g} cannot be taken away: the Gram holds {before.weight:g} "
            f"in {before.count} rows, and {left.count} rows would be left"
        )
    diagonal = np.diagonal(left.products)
    wrong = diagonal < -left.rounding if left.count else np.abs(diagonal) > left.rounding
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"these rows are not among those added: without them hidden unit {i} would have a sum of squares of "
            f"{diagonal[i]:g} (it has {before.products[i, i]:g})"
        )
    squares = left.target_squares
    wrong = squares < -left.target_rounding if left.count else np.abs(squares) > left.target_rounding
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"these targets are not among those added: without them output {i} would have a sum of squares of "
            f"{squares[i]:g} (it has {before.target_squares[i]:g})"
        )
    if left.count == 0:
        return Gram.empty(left.hidden_units, left.num_outputs)
    left = dataclasses.replace(left, target_squares=np.maximum(squares, 0))
    dead = diagonal <= left.rounding
    if not dead.any():
        return left
    products, cross, hidden_sum = left.products.copy(), left.cross.copy(), left.hidden_sum.copy()
    products[dead], products[:, dead], cross[dead], hidden_sum[dead] = 0, 0, 0, 0
    return dataclasses.replace(left, products=locked(products), cross=cross, hidden_sum=hidden_sum)


def _add_lower(total, part):
    for start in range(0, len(total), _BLOCK):
        total[start:, start : start + _BLOCK] += part[start:, start : start + _BLOCK]


def _mirror(matrix):
    """Copy the lower triangle to the upper one, in place."""
    for start in range(0, len(matrix), _BLOCK):
        block = matrix[start:, start : start + _BLOCK]
        square = block[: block.shape[1]]
        square[:] = np.tril(square) + np.tril(square, -1).T
        matrix[start : start + _BLOCK, start + _BLOCK :] = block[block.shape[1] :].T

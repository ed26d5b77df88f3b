"""The accumulator against numpy in extended precision, scikit-learn's Ridge and hand-worked sums."""

import dataclasses
import functools
import math
import os
import pickle
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from mirjax.classifiers.gram import Gram
from mirjax.classifiers.solvers import PrecisionWarning

U = 2.0**-53
FIELDS = [field.name for field in dataclasses.fields(Gram)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpool_limits(1, user_api="blas"):
        yield


def dead_features(num_clips=400, num_features=60, seed=0):
    """Averages of ReLU maps of an untrained network: non-negative, alike, tens in size, a fifth of them dead."""
    random = np.random.default_rng(seed)
    loudness = np.abs(random.normal(size=(num_clips, 8))) @ np.abs(random.normal(size=(8, num_features)))
    x = 7 * loudness * (1 + 0.2 * random.normal(size=loudness.shape)) - 5 * random.exponential(size=num_features)
    x[:, random.random(num_features) < 0.2] = 0
    return np.maximum(x, 0), random.integers(0, 8, num_clips)


@functools.cache
def table(name):
    """Rows of hidden activations, ±1 targets and weights (some of them 0)."""
    x, y = {"digits": load_digits, "wine": load_wine, "wine-scaled": load_wine}.get(
        name, lambda return_X_y: dead_features()
    )(return_X_y=True)
    x = StandardScaler().fit_transform(x) if name == "wine-scaled" else x
    weights = np.random.default_rng(0).exponential(size=len(x))
    weights[::9] = 0
    return x.astype(float), np.where(y[:, None] == np.unique(y), 1.0, -1.0), weights


TABLES = ["digits", "wine", "wine-scaled", "dead"]


def gather(hidden, targets, weights=None, size=100, order=None):
    order = np.arange(len(hidden)) if order is None else order
    parts = [order[i : i + size] for i in range(0, len(order), size)]
    empty = Gram.empty(hidden.shape[1], targets.shape[1])
    return empty.add_batches((hidden[p], targets[p], None if weights is None else weights[p]) for p in parts)


def exact(hidden, weights):
    """H'WH in extended precision."""
    hidden = hidden.astype(np.longdouble)
    return hidden.T @ (weights.astype(np.longdouble)[:, None] * hidden)


def assert_equal(a, b):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def ridge_regression(hidden, targets, ridge, weights, fit_intercept, size=None):
    """scikit-learn's, at the penalty of the full width."""
    mean = np.average(hidden, axis=0, weights=weights) if fit_intercept else 0
    penalty = ridge * np.mean(weights @ (hidden - mean) ** 2)
    model = Ridge(alpha=penalty, fit_intercept=fit_intercept, solver="svd")
    model.fit(hidden[:, :size], targets, sample_weight=weights)
    return model.coef_.T, np.broadcast_to(model.intercept_, targets.shape[1])


def test_two_rows_by_hand():
    """Oracle: worked by hand. Rows (1, 2) → 3 of weight 2 and (0, −1) → 5 of weight 1."""
    gram = Gram.empty(2, 1).add([[1, 2], [0, -1]], [[3], [5]], [2, 1])
    np.testing.assert_allclose(gram.products, [[2, 4], [4, 9]], rtol=1e-15)
    np.testing.assert_allclose(gram.cross, [[6], [7]], rtol=1e-15)
    np.testing.assert_allclose(gram.hidden_sum, [2, 3])
    assert (gram.target_sum[0], gram.target_squares[0], gram.weight, gram.count) == (11, 43, 3, 2)
    # Means 2/3, 1 and 11/3: 2 − 4/3, 4 − 2, 9 − 3; 6 − 22/3, 7 − 11.
    products, cross = gram.centred()
    np.testing.assert_allclose(products, [[2 / 3, 2], [2, 6]], rtol=1e-14)
    np.testing.assert_allclose(cross, [[-4 / 3], [-4]], rtol=1e-14)
    assert gram.penalty(0.5) == pytest.approx(0.5 * 5.5)
    assert gram.penalty(0.5, fit_intercept=True) == pytest.approx(0.5 * (2 / 3 + 6) / 2)
    # β = (1, 1): residuals 0 and 6, error 36; with b = 1: residuals −1 and 5, error 2 + 25.
    assert gram.squared_error([[1.0], [1.0]])[0] == pytest.approx(36)
    assert gram.squared_error([[1.0], [1.0]], [1.0])[0] == pytest.approx(27)


@pytest.mark.parametrize("name", TABLES)
def test_rounding_is_within_its_bound(name):
    """Oracle: numpy in extended precision."""
    hidden, targets, weights = table(name)
    true = exact(hidden, weights)
    for size in (1, 7, 100, len(hidden)):
        gram = gather(hidden, targets, weights, size)
        assert (np.abs(gram.products - true) <= np.sqrt(np.outer(gram.rounding, gram.rounding))).all()
        assert (gram.rounding <= (len(hidden) + 6) * U * np.diagonal(gram.products) * (1 + 1e-9)).all()
        scale = np.sqrt(np.outer(np.diagonal(true), weights @ targets**2)).astype(float)
        assert (np.abs(gram.cross - hidden.T @ (weights[:, None] * targets)) <= (len(hidden) + 6) * U * scale).all()
        uneven = targets * np.arange(1.0, 1 + targets.shape[1]) / 3
        gram, true_squares = gather(hidden, uneven, weights, size), np.diagonal(exact(uneven, weights))
        assert (np.abs(gram.target_squares - true_squares) <= gram.target_rounding).all()
        assert (gram.target_rounding <= (len(hidden) + 6) * U * gram.target_squares * (1 + 1e-9)).all()


@pytest.mark.parametrize("name", TABLES)
def test_order_and_batch_size_matter_within_the_bound(name):
    """Oracle: the bound of the module, (n + 6)·2⁻⁵²·sqrt(d_i d_j), between any two orders and batch sizes."""
    hidden, targets, weights = table(name)
    random, reference = np.random.default_rng(1), gather(hidden, targets, weights, len(hidden))
    d = np.sqrt(np.diagonal(reference.products))
    bound, worst = (len(hidden) + 6) * 2 * U * np.outer(d, d), 0.0
    for size in [1, 2, 3, *random.integers(4, len(hidden), 7).tolist()]:
        other = gather(hidden, targets, weights, size, random.permutation(len(hidden)))
        difference = np.abs(other.products - reference.products)
        assert (difference <= bound).all()
        worst = max(worst, np.max(difference / np.where(bound > 0, bound, 1)))
        assert other.count == reference.count
        assert other.weight == pytest.approx(reference.weight, rel=1e-13)
    print(f"\n{name}: {worst:.1e} of the bound, n = {len(hidden)}")


def test_whole_numbers_give_the_same_bits():
    """Oracle: integer arithmetic."""
    x, y = load_digits(return_X_y=True)
    targets = np.where(y[:, None] == np.arange(10), 1.0, -1.0)
    for size in (1, 13, 1797):
        gram = gather(x, targets, None, size, np.random.default_rng(size).permutation(len(x)))
        np.testing.assert_array_equal(gram.products, x.astype(int).T @ x.astype(int))
        np.testing.assert_array_equal(gram.cross, x.T @ targets)
        assert (gram.weight, gram.count) == (1797, 1797)


def test_wide_matrices_are_symmetric():
    """Oracle: numpy; 600 columns are more than two blocks of the triangle."""
    random = np.random.default_rng(0)
    hidden, targets = random.normal(size=(50, 600)), random.normal(size=(50, 2))
    gram = Gram.empty(600, 2).add(hidden, targets).add(hidden[:9], targets[:9])
    np.testing.assert_array_equal(gram.products, gram.products.T)
    np.testing.assert_allclose(gram.products, hidden.T @ hidden + hidden[:9].T @ hidden[:9], atol=1e-12)


@pytest.mark.parametrize("fit_intercept", [False, True], ids=["origin", "intercept"])
@pytest.mark.parametrize("name", TABLES)
def test_solution_is_scikit_learns(name, fit_intercept):
    """Oracle: sklearn.linear_model.Ridge (SVD) on the whole table; training error from its residuals."""
    hidden, targets, weights = table(name)
    gram = gather(hidden, targets, weights, 50)
    for ridge, size in ((1e-2, None), (1e-4, 10), (10.0, 13)):
        beta, b = gram.solve(ridge, size=size, fit_intercept=fit_intercept)
        expected, intercept = ridge_regression(hidden, targets, ridge, weights, fit_intercept, size)
        scores = hidden[:, :size] @ expected + intercept
        np.testing.assert_allclose(hidden[:, :size] @ beta + b, scores, atol=1e-9 * np.abs(scores).max())
        error = gram.squared_error(beta, b)
        np.testing.assert_allclose(error, weights @ (targets - hidden[:, :size] @ beta - b) ** 2, rtol=1e-9)


def test_weights_are_repetitions_and_zero_is_absence():
    """Oracle: the rows themselves, repeated and left out."""
    hidden, targets, _ = table("digits")
    counts = np.random.default_rng(3).integers(0, 4, len(hidden))
    weighted = gather(hidden, targets, counts)
    repeated = gather(np.repeat(hidden, counts, axis=0), np.repeat(targets, counts, axis=0))
    np.testing.assert_allclose(weighted.products, repeated.products, rtol=1e-12)
    assert (weighted.weight, weighted.count) == (repeated.weight, np.count_nonzero(counts))
    kept = counts > 0
    without = gather(hidden[kept], targets[kept], counts[kept])
    np.testing.assert_allclose(weighted.products, without.products, rtol=1e-12)
    assert without.count == weighted.count


def test_merging():
    """Oracle: all rows at once; commutative to the last bit, associative within the bound; `+` is merge."""
    hidden, targets, weights = table("digits")
    a, b, c = (gather(hidden[i::3], targets[i::3], weights[i::3]) for i in range(3))
    assert_equal(a.merge(b), b.merge(a))
    assert_equal(a + b, a.merge(b))
    left, right, whole = (a + b) + c, a + (b + c), gather(hidden, targets, weights)
    bound = 2 * (len(hidden) + 6) * U * np.sqrt(np.outer(*[np.diagonal(whole.products)] * 2))
    for merged in (left, right):
        assert (np.abs(merged.products - whole.products) <= bound).all()
        assert (np.abs(merged.products - exact(hidden, weights)) <= np.sqrt(np.outer(*[merged.rounding] * 2))).all()
        assert merged.count == whole.count
    np.testing.assert_array_equal((a + Gram.empty(64, 10)).products, a.products)
    with pytest.raises(TypeError, match="not with a int"):
        a.merge(0)


def test_batches_at_once_are_batches_one_by_one():
    """Oracle: repeated `add`, to the last bit."""
    hidden, targets, weights = table("wine")
    gram = Gram.empty(hidden.shape[1], 3)
    for i in range(0, len(hidden), 20):
        gram = gram.add(hidden[i : i + 20], targets[i : i + 20], weights[i : i + 20])
    assert_equal(gram, gather(hidden, targets, weights, 20))


def test_leading_units():
    """Oracle: the sums of fewer columns."""
    hidden, targets, weights = table("wine")
    few, all_units = gather(hidden[:, :5], targets, weights), gather(hidden, targets, weights).first(5)
    np.testing.assert_allclose(all_units.products, few.products, rtol=1e-14)
    np.testing.assert_allclose(all_units.cross, few.cross, rtol=1e-13, atol=1e-12)
    assert all_units.hidden_units == 5 and all_units.count == few.count


@pytest.mark.parametrize("name", TABLES)
def test_unlearning(name):
    """Oracle: the sums of the remaining rows, made anew; the error is within the stated rounding."""
    hidden, targets, weights = table(name)
    half = len(hidden) // 2
    before = gather(hidden, targets, weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        left = before.subtract(hidden[half:], targets[half:], weights[half:])
    true = exact(hidden[:half], weights[:half])
    assert (np.abs(left.products - true) <= np.sqrt(np.outer(left.rounding, left.rounding))).all()
    assert left.count == np.count_nonzero(weights[:half])
    beta, b = left.solve(1e-2, fit_intercept=True)
    expected, intercept = ridge_regression(hidden[:half], targets[:half], 1e-2, weights[:half], True)
    np.testing.assert_allclose(hidden @ beta + b, hidden @ expected + intercept, atol=1e-9)
    assert before.count == np.count_nonzero(weights)  # as it was


def test_unlearning_everything_leaves_nothing():
    """Oracle: the empty Gram."""
    hidden, targets, weights = table("digits")
    order = np.random.default_rng(0).permutation(len(hidden))
    left = gather(hidden, targets, weights, 50).subtract(hidden[order], targets[order], weights[order])
    assert_equal(left, Gram.empty(64, 10))


def test_lost_digits_are_told():
    """Oracle: the rows that remain are 10⁻⁵ of the ones taken away, their squares 10⁻¹⁰: about ten digits are lost."""
    random = np.random.default_rng(0)
    loud, soft, targets = 1e5 * random.random((50, 4)), random.random((50, 4)), np.ones((50, 1))
    gram = Gram.empty(4, 1).add(soft, targets).add(loud, targets)
    with pytest.warns(
        PrecisionWarning, match=r"4 of 4 hidden units keep fewer than digits=6 .* 50 of 100 rows"
    ) as told:
        left = gram.subtract(loud, targets)
    assert told[0].filename == __file__
    error = np.abs(left.products - soft.T @ soft)
    assert (error <= np.sqrt(np.outer(left.rounding, left.rounding))).all()
    assert 2 < left.digits.max() < 6 and error.max() / left.products.max() > 1e-9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gram.subtract(loud, targets, digits=2)
        gram.subtract(soft, targets)
    # The digits that the sums lost are missing from the answer, too.
    whole, rest = (part.diagnosed_solve(1e-2)[2].digits for part in (gram, left))
    assert rest < whole - 8


def test_loud_targets_are_taken_away_within_their_rounding():
    """Oracle: the sums of squares of the remaining rows; nothing is refused, nothing is below 0."""
    random = np.random.default_rng(0)
    hidden, targets = random.random((300, 4)), random.random((300, 2)) * [1, 0]
    targets[100:] *= 1e8
    left = gather(hidden, targets, size=7).subtract(hidden[100:200], targets[100:200])
    left = left.subtract(hidden[200:], targets[200:])
    kept = np.sum(targets[:100] ** 2, axis=0)
    assert (np.abs(left.target_squares - kept) <= left.target_rounding).all() and (left.target_squares >= 0).all()
    assert left.target_rounding[0] > 0 and kept[1] == left.target_rounding[1] == 0


def test_a_unit_below_rounding_is_dead():
    """Oracle: a unit that answers to the removed rows alone has a sum of squares of 0, not of some rounding."""
    random = np.random.default_rng(0)
    hidden, targets = random.random((90, 3)), random.normal(size=(90, 1))
    hidden[:60, 1] = 0
    gram = gather(hidden, targets, size=7)
    with pytest.warns(PrecisionWarning, match=r"1 of 3 hidden units .* the worst, unit 1, .* keeps 0\.0"):
        left = gram.subtract(hidden[60:], targets[60:])
    assert (left.products[1] == 0).all() and left.cross[1] == 0
    beta, _ = left.solve(1e-3)
    assert beta[1] == 0


def test_constant_units_are_centred_to_nothing():
    """Oracle: scikit-learn's Ridge, whose weight for a constant column is 0."""
    hidden, targets, weights = table("wine")
    hidden = np.column_stack([hidden, np.full(len(hidden), 1e3 / 3)])
    products, cross = gather(hidden, targets, weights).centred()
    assert (products[-1] == 0).all() and (products[:, -1] == 0).all() and (cross[-1] == 0).all()


@pytest.mark.parametrize("beside", [0, 2], ids=["alone", "beside-sound-units"])
@pytest.mark.parametrize("mean", [1e6, 1e7, 1e8, 1e10])
def test_digits_that_centring_wipes_out_are_told(mean, beside):
    """Oracle: scikit-learn's Ridge on the units less their mean; the warning says to centre first."""
    random = np.random.default_rng(0)
    hidden = random.normal(size=(200, 5)) @ random.normal(size=(5, 5))
    targets = hidden @ random.normal(size=(5, 2))
    expected, _ = ridge_regression(hidden, targets, 1e-6, np.ones(200), True)
    far = hidden + np.where(np.arange(5) < beside, 0, mean)
    with pytest.warns(PrecisionWarning, match=r"centre them before they are summed"):
        beta, _ = gather(far, targets).solve(1e-6, fit_intercept=True)
    error = np.abs(beta - expected).max() / np.abs(expected).max()
    digits = gather(far, targets).diagnosed_solve(1e-6, fit_intercept=True)[2].digits
    assert digits == 0 or error <= 10.0**-digits
    assert digits == 0 or mean < 1e8


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [1, 7, 100, 5000])
@pytest.mark.parametrize("value", [5.0, 1 / 3, 1e8 / 3, 1e-5])
def test_constant_units_cost_no_digits(value, size, weighted):
    """Oracle: scikit-learn's Ridge, whose weight for a constant column is 0; no warning, alone or beside others."""
    random = np.random.default_rng(0)
    hidden, weights = random.normal(size=(4000, 3)) + 10, random.exponential(size=4000) if weighted else np.ones(4000)
    targets = hidden[:, :1] + random.normal(size=(4000, 2)) + 100
    expected, _ = ridge_regression(hidden, targets, 3e-3, weights, True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        alone, b = gather(np.full((4000, 2), value), targets, weights, size).solve(1e-3, fit_intercept=True)
        both = np.column_stack([hidden, np.full(4000, value)])
        beta, _ = gather(both, targets, weights, size).solve(4e-3, fit_intercept=True, digits=8)  # 4 units, not 3
    assert (alone == 0).all() and (beta[3] == 0).all()
    np.testing.assert_allclose(b, weights @ targets / weights.sum(), rtol=1e-12)
    np.testing.assert_allclose(beta[:3], expected, atol=1e-9)


@pytest.mark.parametrize("size", [1e-152, 1e-158, 1e-162, 1e-170, 1e-300])
def test_units_next_to_nothing_cost_no_digits(size):
    """Oracle: the answer without them. Exponentials and bells make such units; their squares are 0 or nearly."""
    random = np.random.default_rng(0)
    hidden, targets = random.random((2000, 3)), 1e3 * random.normal(size=(2000, 2)) + 1e3
    tiny = size * random.random((2000, 2))
    expected, _ = ridge_regression(hidden, targets, 5e-2 / 3, np.ones(2000), True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        gram = gather(np.column_stack([hidden, tiny, np.full(2000, 5.0)]), targets)
        beta, _ = gram.solve(1e-1 / 3, fit_intercept=True)
    np.testing.assert_allclose(beta, np.concatenate([expected, np.zeros((3, 2))]), atol=1e-9)


@pytest.mark.parametrize("exponent", [-515, -530, 500])
def test_digits_at_the_ends_of_float64(exponent):
    """Oracle: the same rows times a power of two. Squares below 2e-308 have fewer digits, and the answer says so."""
    hidden, targets, _ = table("wine-scaled")
    beta, _, sound = gather(hidden, targets).diagnosed_solve(1e-2)
    found, _, diagnosis = gather(np.ldexp(hidden, exponent), targets).diagnosed_solve(1e-2)
    error = np.abs(np.ldexp(found, exponent) - beta).max() / np.abs(beta).max()
    assert error <= 10.0**-diagnosis.digits
    assert (diagnosis.digits == sound.digits) == (exponent > -511)


def test_arrays_of_the_caller_are_copied():
    """Oracle: the numbers given; the caller goes on to write to his arrays. Read-only ones are taken as they are."""
    gram = gather(*table("wine")[:2])
    arrays = {name: np.array(value) for name, value in vars(gram).items() if isinstance(value, np.ndarray)}
    again = Gram(**arrays, weight=gram.weight, count=gram.count)
    for array in arrays.values():
        array[...] = 99
    assert_equal(again, gram)
    assert np.shares_memory(gram.first(3).products, gram.products)


@pytest.mark.parametrize("kind", ["gram", "empty"])
def test_saved_and_loaded(tmp_path, kind):
    """Oracle: the saved one; adding on gives what an undisturbed run gives, to the last bit. Pickles too."""
    hidden, targets, weights = table("wine")
    rows, rest = slice(0, 100 if kind == "gram" else 0), slice(100 if kind == "gram" else 0, None)
    first = Gram.empty(hidden.shape[1], 3).add(hidden[rows], targets[rows], weights[rows])
    path = tmp_path / "sums"
    path.write_bytes(b"older")
    first.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["sums"]
    for again in (Gram.load(path), pickle.loads(pickle.dumps(first))):
        assert_equal(again, first)
        resumed, calm = (gram.add(hidden[rest], targets[rest], weights[rest]) for gram in (again, first))
        assert_equal(resumed, calm)


def test_a_write_that_fails_leaves_the_older_file(tmp_path, monkeypatch):
    """Oracle: the bytes of the older file; no fragment beside it."""
    gram = Gram.empty(3, 1).add(np.eye(3), np.ones((3, 1)))
    gram.save(tmp_path / "sums.npz")
    before = (tmp_path / "sums.npz").read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        gram.add(np.eye(3), np.ones((3, 1))).save(tmp_path / "sums.npz")
    assert [entry.name for entry in tmp_path.iterdir()] == ["sums.npz"]
    assert (tmp_path / "sums.npz").read_bytes() == before


def test_other_files_are_refused(tmp_path):
    """Oracle: a ValueError with the path and what is wrong, at every length of a torn file."""
    path = tmp_path / "sums.npz"
    Gram.empty(3, 1).add(np.eye(3), np.ones((3, 1))).save(path)
    content = path.read_bytes()
    for length in [0, 1, *range(100, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"sums\.npz is torn"):
            Gram.load(path)
    middle = content.index(b"products.npy") + 140  # in an array
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with pytest.raises(ValueError, match="torn"):
        Gram.load(path)
    np.savez(path, x=np.ones(3))
    with pytest.raises(ValueError, match=r"of another format, 'no format', than 'mirjax\.classifiers\.gram 2'"):
        Gram.load(path)
    np.savez(path, format="mirjax.classifiers.gram 2", x=np.ones(3))
    with pytest.raises(ValueError, match="holds"):
        Gram.load(path)
    with open(path, "wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(ValueError, match="single array"):
        Gram.load(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="torn, or no file"):
        Gram.load(path)
    with pytest.raises(FileNotFoundError):
        Gram.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"products": np.full((3, 3), np.nan)}, "sums.npz holds products with values that are no finite numbers"),
        ({"target_sum": np.array([1j])}, "holds target_sum with values"),
        ({"rounding": np.array(["a", "b", "c"])}, "holds rounding with values"),
        ({"weight": np.inf}, "holds weight with values"),
        ({"weight": np.ones(2)}, r"holds weight of shape \(2,\); a Gram has one number"),
        ({"count": np.ones((1, 1), int)}, r"holds count of shape \(1, 1\)"),
        ({"cross": np.ones(3)}, r"cross has shape \(3,\); it must have two axes"),
    ],
    ids=["nan", "complex", "text", "inf", "weights", "counts", "1d"],
)
def test_files_of_something_else_are_refused(tmp_path, change, message):
    """Oracle: the errors the docstring promises."""
    gram = Gram.empty(3, 1).add(np.eye(3), np.ones((3, 1)))
    np.savez(tmp_path / "sums.npz", format="mirjax.classifiers.gram 2", **vars(gram) | change)
    with pytest.raises(ValueError, match=message):
        Gram.load(tmp_path / "sums.npz")


HIDDEN, TARGETS = np.ones((4, 3)), np.ones((4, 2))


def spoilt(array, value):
    array = array.copy()
    array[2, 1] = value
    return array


@pytest.mark.parametrize("method", ["add", "subtract"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((np.ones((4, 5)), TARGETS), r"hidden has shape \(4, 5\); this Gram takes \[rows, 3\]"),
        ((HIDDEN, np.ones((4, 1))), r"targets has shape \(4, 1\); this Gram takes \[rows, 2\]"),
        ((HIDDEN, np.ones(4)), r"targets has shape \(4,\)"),
        ((HIDDEN, TARGETS[:3]), "targets have 3 rows but hidden has 4"),
        ((spoilt(HIDDEN, np.nan), TARGETS), r"hidden\[2, 1\]=nan must be finite"),
        ((HIDDEN, spoilt(TARGETS, np.inf)), r"targets\[2, 1\]=inf must be finite"),
        ((HIDDEN, TARGETS, [1, 1, -1, 1]), r"sample_weight\[2\]=-1.0 must be finite and at least 0"),
        ((HIDDEN, TARGETS, [1, 1, 1, np.nan]), r"sample_weight\[3\]=nan"),
        ((HIDDEN, TARGETS, [1, 1]), r"sample_weight has shape \(2,\); expected \(4,\)"),
        ((HIDDEN * 1e200, TARGETS), "exceed float64"),
    ],
    ids=["width", "outputs", "1d", "rows", "nan", "inf", "negative", "nan-weight", "weights", "overflow"],
)
def test_bad_rows_leave_the_sums_as_they_were(method, rows, message):
    """Oracle: the errors the docstring promises, and the sums before."""
    gram, twin = (Gram.empty(3, 2).add(np.eye(3), np.ones((3, 2))).add(HIDDEN, TARGETS) for _ in range(2))
    with pytest.raises(ValueError, match=message), np.errstate(over="ignore", invalid="ignore"):
        getattr(gram, method)(*rows)
    assert_equal(gram, twin)
    with pytest.raises(ValueError, match="read-only"):
        gram.products[0, 0] = 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((np.ones((5, 2)), np.ones((5, 1))), "5 rows cannot be taken away: the Gram holds 4"),
        ((np.ones((2, 2)), np.ones((2, 1)), [3, 3]), "rows of weight 6 cannot be taken away: .* holds 4 in 4 rows"),
        ((np.ones((2, 2)), np.ones((2, 1)), [2, 2]), "2 rows would be left"),
        ((np.ones((4, 2)), np.ones((4, 1)), [0.5] * 4), "0 rows would be left"),
        ((np.array([[1.0, 5]]), np.ones((1, 1))), "not among those added: without them hidden unit 1 would .* -21"),
        ((np.array([[1.0, 1], [0, 0], [1, 1], [1, 1]]), np.ones((4, 1))), "not among those added"),
        ((np.ones((1, 2)), np.full((1, 1), 3)), "these targets are not among .* output 0 would have .* -5 .it has 4"),
        ((np.ones((4, 2)), np.array([[1.0], [0], [1], [1]])), "these targets are not among .* squares of 1 "),
    ],
    ids=["rows", "weight", "all-weight", "half-weight", "square", "others", "target", "other-targets"],
)  # fmt: skip
def test_rows_that_are_not_there_are_not_taken_away(rows, message):
    """Oracle: four rows of ones; sums of squares are 4."""
    gram = Gram.empty(2, 1).add(np.ones((4, 2)), np.ones((4, 1)))
    with pytest.raises(ValueError, match=message):
        gram.subtract(*rows)
    assert gram.count == 4 and (gram.products == 4).all() and gram.target_squares == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda gram: gram.merge(Gram.empty(4, 2)), "of 3 hidden units and 2 outputs and of 4 and 2 do not merge"),
        (lambda gram: gram + Gram.empty(3, 1), "of 3 hidden units and 2 outputs and of 3 and 1 do not merge"),
        (lambda gram: gram.solve(-1.0), r"ridge=-1.0 must be finite and at least 0"),
        (lambda gram: gram.solve(np.nan), "ridge=nan"),
        (lambda gram: gram.solve("1"), "ridge='1' must be a number"),
        (lambda gram: gram.solve(1.0, size=2.5), r"hidden_units=2\.5 must be between 1 and 3, a whole number"),
        (lambda gram: gram.solve(1.0, size=4), "hidden_units=4 must be between 1 and 3"),
        (lambda gram: gram.first(0), "hidden_units=0 must be between 1 and 3"),
        (lambda gram: gram.squared_error(np.ones((4, 2))), r"weights have shape \(4, 2\); expected \[H, K\]"),
        (lambda gram: gram.squared_error(np.ones((3, 2)), np.ones(3)), r"intercept has shape \(3,\); expected \(2,\)"),
        (lambda gram: gram.add_batches([(HIDDEN,)]), "a batch of 1 parts; expected"),
        (lambda gram: gram.add_batches([HIDDEN]), "a batch that is a ndarray; expected"),
        (lambda gram: Gram.empty(3, 2).solve(1.0), "holds no rows"),
        (lambda gram: Gram.empty(3, 2).add(HIDDEN, TARGETS, np.zeros(4)).centred(), "holds no rows"),
        (lambda gram: Gram.empty(0, 2), "hidden_units=0 must be a whole number of at least 1"),
        (lambda gram: Gram.empty(2.5, 2), r"hidden_units=2\.5 must be a whole number"),
        (lambda gram: Gram.empty(10**7, 2), "GiB of memory .* use fewer hidden_units"),
        (lambda gram: Gram(**vars(gram) | {"hidden_sum": np.ones(4)}), r"hidden_sum has shape \(4,\)"),
    ],
    ids=[
        "merge-units", "merge-outputs", "ridge", "nan-ridge", "text-ridge", "half-size", "size", "first", "weights",
        "intercept", "one-part", "no-tuple", "empty", "weightless", "no-units", "half-units", "memory", "shapes",
    ],
)  # fmt: skip
def test_bad_calls(call, message):
    """Oracle: the errors the docstrings promise."""
    with pytest.raises(ValueError, match=message):
        call(Gram.empty(3, 2).add(HIDDEN, TARGETS))


def test_no_rows_change_nothing():
    """Oracle: the Gram before."""
    gram = Gram.empty(3, 2).add(HIDDEN, TARGETS)
    assert_equal(gram.add(HIDDEN[:0], TARGETS[:0]), gram)
    assert_equal(gram.add_batches([]), gram)
    assert math.isinf(Gram.empty(3, 2).digits.min())

"""Regularised least squares against numpy, scipy and hand-worked cases; the digits promised against those there."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from sklearn.datasets import load_digits, load_wine

from mirjax.classifiers import arithmetic, solvers, solvers_f32, triangles
from mirjax.classifiers.arithmetic import one_blas_thread
from mirjax.classifiers.solvers import Diagnosis, PrecisionWarning, solve_gram, solve_rows

DIRECT = [method for method in solvers.METHODS if method != "refined"]
EPS = np.finfo(np.float64).eps


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with one_blas_thread():
        yield


def random_layer(x, hidden_units, seed=0):
    """ReLU units of N(0, 1) weights, rounded to float32 once, so that every method is given the same numbers."""
    layer = np.random.default_rng(seed).standard_normal((hidden_units, x.shape[1] + 1))
    return np.maximum(x @ layer[:, :-1].T + layer[:, -1], 0).astype(np.float32)


def real_problem(name, num_clips=None, hidden_units=100):
    """Hidden units of scikit-learn's sets and targets of ±1: "digits" or "wine", raw or standardised."""
    source, _, kind = name.partition(" ")
    x, y = {"digits": load_digits, "wine": load_wine}[source](return_X_y=True)
    x, y = x[:num_clips], y[:num_clips]
    if kind == "standardised":
        x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    return random_layer(x, hidden_units), np.where(y[:, None] == np.unique(y), 1.0, -1.0)


def augmented_lstsq(hidden, targets, penalty):
    """Oracle: numpy's least squares (singular values) of [H; √λ I], [Y; 0] in float64."""
    hidden = hidden.astype(np.float64)
    h = hidden.shape[1]
    if penalty == 0:
        return np.linalg.lstsq(hidden, targets, rcond=1e6 * EPS)[0]
    rows = np.concatenate([hidden, np.sqrt(penalty) * np.eye(h)])
    return np.linalg.lstsq(rows, np.concatenate([targets, np.zeros((h, targets.shape[1]))]), rcond=0)[0]


def mean_diagonal(hidden):
    return float((hidden.astype(np.float64) ** 2).sum() / hidden.shape[1])


def prediction_error(hidden, weights, expected):
    a, b = (hidden.astype(np.float64) @ w for w in (weights, expected))
    return np.abs(a - b).max() / np.abs(b).max()


# ── by hand ──


@pytest.mark.parametrize("method", solvers.METHODS)
def test_two_by_two_by_hand(method):
    """Oracle: worked by hand. H = diag(1, 2), Y = (3, 10), λ = 1: β = (1·3 / 2, 2·10 / 5) = (1.5, 4)."""
    weights, diagnosis = solve_rows(np.diag([1.0, 2.0]), np.array([[3.0], [10.0]]), 1.0, method=method)
    np.testing.assert_allclose(weights, [[1.5], [4.0]], rtol=1e-14)
    assert diagnosis.digits > 13 and diagnosis.converged
    squared = method in ("auto", "cholesky", "dual")  # (4 + 1) / (1 + 1) and its root
    assert diagnosis.condition == pytest.approx(2.5 if squared else 2.5**0.5, rel=0.05)


def test_gram_by_hand():
    """Oracle: worked by hand. HᵀH = [[2, 1], [1, 2]], HᵀY = (1, 0), λ = 1: β = (3, −1) / 8, κ = 4 / 2."""
    weights, diagnosis = solve_gram(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[1.0], [0.0]]), 1.0)
    np.testing.assert_allclose(weights, [[3 / 8], [-1 / 8]], rtol=1e-14)
    assert diagnosis.method == "cholesky" and diagnosis.rank is None
    assert diagnosis.condition == pytest.approx(2, rel=0.05)


def test_equal_columns_share_their_weight():
    """Oracle: worked by hand. H = [[1, 1], [1, 1]], Y = (2, 2), λ = 0: the shortest β is (1, 1), of rank 1."""
    for method in ("auto", "svd", "qr", "tsqr", "cholesky", "dual"):
        weights, diagnosis = solve_rows(np.ones((2, 2)), np.full((2, 1), 2.0), 0, method=method)
        np.testing.assert_allclose(weights, [[1.0], [1.0]], rtol=1e-13)
        assert diagnosis.rank == 1
    weights, diagnosis = solve_gram(np.full((2, 2), 2.0), np.full((2, 1), 4.0), 0)
    np.testing.assert_allclose(weights, [[1.0], [1.0]], rtol=1e-13)
    assert diagnosis.rank == 1 and diagnosis.method == "eigh"


def test_nothing_at_all_has_the_weight_zero():
    """Oracle: worked by hand. H = 0: the shortest β is 0."""
    for method in ("auto", "svd", "cholesky", "dual", "qr", "tsqr"):
        weights, _ = solve_rows(np.zeros((3, 2)), np.ones((3, 1)), 0, method=method)
        np.testing.assert_array_equal(weights, 0)
    weights, diagnosis = solve_gram(np.zeros((2, 2)), np.zeros((2, 1)), 0)
    np.testing.assert_array_equal(weights, 0)
    assert diagnosis.rank == 0


# ── against numpy ──


@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("num_clips", [60, 500])
@pytest.mark.parametrize("method", solvers.METHODS)
def test_float64_is_numpys(method, num_clips, ridge):
    """Oracle: numpy.linalg.lstsq of the augmented rows in float64; standardised digits, n < h and n > h."""
    hidden, targets = real_problem("digits standardised", num_clips)
    penalty = ridge * mean_diagonal(hidden)
    weights, diagnosis = solve_rows(hidden, targets, penalty, method=method)
    assert weights.shape == (100, 10) and weights.dtype == np.float64
    assert prediction_error(hidden, weights, augmented_lstsq(hidden, targets, penalty)) <= 10.0**-diagnosis.digits
    assert diagnosis.digits >= 4


@pytest.mark.parametrize("ridge", [0, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("name", ["digits raw", "digits standardised", "wine raw", "wine standardised"])
@pytest.mark.parametrize("num_clips", [80, None])
def test_promised_digits_are_there(name, num_clips, ridge):
    """Oracle: numpy.linalg.lstsq in float64. Every method, both precisions: never fewer digits than promised."""
    hidden, targets = real_problem(name, num_clips, 120)
    penalty = ridge * mean_diagonal(hidden)
    expected = augmented_lstsq(hidden, targets, penalty)
    own = 14 - max(0, np.log10(np.linalg.cond(hidden.astype(float)))) if ridge == 0 else 16  # the oracle's
    for method in solvers.METHODS:
        for dtype in (np.float64, np.float32):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PrecisionWarning)
                weights, diagnosis = solve_rows(hidden, targets, penalty, method=method, dtype=dtype)
            error = prediction_error(hidden, weights, expected)
            promised = min(diagnosis.digits, max(own, 5), 12.5)
            assert promised == 0 or error <= 10.0**-promised, (method, dtype, error, diagnosis)


@pytest.mark.parametrize(
    ("method", "ridge", "bound"),
    [
        ("cholesky", 1e-2, 3e-3),
        ("qr", 1e-2, 1e-4),
        ("qr", 1e-8, 3e-4),
        ("tsqr", 1e-2, 1e-4),
        ("tsqr", 1e-8, 3e-4),
        ("svd", 1e-2, 1e-4),
        ("auto", 1e-8, 3e-4),
        ("refined", 1e-2, 1e-10),
        ("refined", 1e-8, 1e-8),
    ],
)
def test_float32_within_stated_bounds(method, ridge, bound):
    """Oracle: numpy.linalg.lstsq in float64, on hidden units of raw digits."""
    hidden, targets = real_problem("digits raw", 1000, 300)
    penalty = ridge * mean_diagonal(hidden)
    weights, _ = solve_rows(hidden, targets, penalty, method=method, dtype=np.float32)
    assert prediction_error(hidden, weights, augmented_lstsq(hidden, targets, penalty)) <= bound


@pytest.mark.parametrize("num_clips", [60, 400])
def test_penalty_zero_is_the_published_pseudo_inverse(num_clips):
    """Oracle: numpy.linalg.pinv with the cut-off 1e6·eps, of a layer with dead and doubled units."""
    hidden, targets = real_problem("digits standardised", num_clips, 80)
    hidden = np.concatenate([hidden, hidden[:, :7], np.zeros((num_clips, 5), np.float32)], axis=1)
    s = np.linalg.svd(hidden.astype(float), compute_uv=False)
    expected = np.linalg.pinv(hidden.astype(float), rcond=1e6 * EPS) @ targets
    for method in ("auto", "svd", "qr", "tsqr"):
        weights, diagnosis = solve_rows(hidden, targets, 0, method=method)
        assert np.abs(weights - expected).max() / np.abs(expected).max() <= 1e-10
        if num_clips == 400:  # R of the rows is singular
            assert "svd" in diagnosis.method and diagnosis.rank == (s > 1e6 * EPS * s[0]).sum()


@pytest.mark.parametrize("ridge", [0, 1e-6, 1e-2])
def test_gram_is_scipys(ridge):
    """Oracle: scipy.linalg.solve, of the same HᵀH + λI, for symmetric positive definite matrices."""
    hidden, targets = real_problem("digits standardised", 800)
    hidden = hidden.astype(np.float64)
    products, cross, penalty = hidden.T @ hidden, hidden.T @ targets, ridge * mean_diagonal(hidden)
    expected = scipy.linalg.solve(products + penalty * np.eye(100), cross, assume_a="pos")
    weights, diagnosis = solve_gram(products, cross, penalty)
    assert np.abs(weights - expected).max() / np.abs(expected).max() <= 10 * EPS * diagnosis.condition
    true = np.linalg.cond(products + penalty * np.eye(100))
    assert true / 3 <= diagnosis.condition <= true * 1.01


@pytest.mark.parametrize("refine", [0, 10])
def test_gram_in_float32_and_refined(refine):
    """Oracle: scipy.linalg.solve in float64; corrections by float64 residuals regain what float32 lost."""
    hidden, targets = real_problem("digits standardised", 800)
    hidden = hidden.astype(np.float64)
    products, cross, penalty = hidden.T @ hidden, hidden.T @ targets, 1e-3 * mean_diagonal(hidden)
    expected = scipy.linalg.solve(products + penalty * np.eye(100), cross, assume_a="pos")
    weights, diagnosis = solve_gram(products, cross, penalty, dtype=np.float32, refine=refine)
    error = np.abs(weights - expected).max() / np.abs(expected).max()
    assert error <= (1e-10 if refine else 1e-2) and (error > 1e-7 or refine)
    assert diagnosis.converged and diagnosis.method == ("refined" if refine else "cholesky")
    assert error <= 10.0**-diagnosis.digits


def test_dead_units_cost_no_digits():
    """Oracle: the same Gram matrix without the units that never fire."""
    hidden, targets = real_problem("digits standardised", 400)
    hidden = hidden.astype(np.float64)
    alive, sound = solve_gram(hidden.T @ hidden, hidden.T @ targets, 0)
    wider = np.concatenate([hidden, np.zeros((400, 9))], axis=1)
    weights, diagnosis = solve_gram(wider.T @ wider, wider.T @ targets, 0)
    np.testing.assert_array_equal(weights[:100], alive)
    np.testing.assert_array_equal(weights[100:], 0)
    assert diagnosis == sound


@pytest.mark.parametrize("nearly", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rank_deficient_gram_is_cut_off_and_says_so(dtype, nearly):
    """Oracle: numpy.linalg.lstsq of the rows; the rank is theirs, eigenvalues ≤ H·eps·largest counting as zero.

    Sums of units rounded to float32 are nearly, not quite, of that rank: the rows tell, their products cannot. What is
    lost then is said.
    """
    hidden, targets = real_problem("digits standardised", 400, 40)
    sums = hidden[:, :10] + hidden[:, 10:20] if nearly else hidden[:, :10].astype(float) + hidden[:, 10:20]
    hidden = np.concatenate([hidden, sums], axis=1).astype(np.float64)
    weights, diagnosis = solve_gram(hidden.T @ hidden, hidden.T @ targets, 0, dtype=dtype)
    expected = np.linalg.lstsq(hidden, targets, rcond=1e6 * EPS)[0]
    assert diagnosis.method == "eigh" and diagnosis.rank == np.linalg.matrix_rank(hidden, rtol=1e-6) == 40
    error = prediction_error(hidden, weights, expected)
    assert error <= (1e-8 if dtype == np.float64 else 5e-2) or nearly
    assert diagnosis.digits == 0 or error <= 10.0**-diagnosis.digits


def test_auto_pays_for_digits_only_where_they_are_missing():
    """Oracle: the rule itself. Cholesky of the smaller side, then QR; without a penalty singular values."""
    hidden, targets = real_problem("digits raw", 400)
    penalty = 1e-8 * mean_diagonal(hidden)
    assert solve_rows(hidden, targets, penalty, digits=3)[1].method == "cholesky"
    assert solve_rows(hidden, targets, penalty, digits=9)[1].method == "qr"
    assert solve_rows(hidden[:50], targets[:50], penalty, digits=3)[1].method == "dual"
    assert solve_rows(hidden, targets, 0)[1].method == "svd"


@pytest.mark.parametrize("num_blocks", [1, 2, 5, 8])
def test_tree_of_blocks_is_one_qr(num_blocks):
    """Oracle: numpy.linalg.qr of all rows at once, up to the signs of rows."""
    hidden, targets = real_problem("digits standardised", 1600, 60)
    hidden = hidden.astype(np.float64)
    factor, product = triangles.tsqr(hidden, targets, 0.5, block=-(-1600 // num_blocks))
    q, r = np.linalg.qr(np.concatenate([hidden, np.sqrt(0.5) * np.eye(60)]))
    signs = np.sign(np.diag(r) * np.diag(factor))[:, None]
    assert np.abs(signs * factor - r).max() / np.abs(r).max() <= 1e-13
    assert np.abs(signs * product - q[:1600].T @ targets).max() / np.abs(product).max() <= 1e-12


def test_huge_and_tiny_values_in_float32():
    """Oracle: the same problem in units in which nothing leaves float32's range; powers of two, so to the bit."""
    hidden, targets = real_problem("digits standardised", 300, 40)
    for method in ("cholesky", "qr", "svd"):
        weights, _ = solve_rows(hidden, targets, 3.0, method=method, dtype=np.float32)
        for scale in (2.0**90, 2.0**-90):
            scaled, _ = solve_rows(hidden * np.float32(scale), targets, 3.0 * scale**2, method=method, dtype=np.float32)
            np.testing.assert_array_equal(scaled * scale, weights)


@pytest.mark.parametrize("method", solvers.METHODS)
@pytest.mark.parametrize(
    ("exponent", "dtype"),
    [(-500, float), (500, float), (-531, float), (990, float), (-135, np.float32), (120, np.float32)],
)
def test_features_at_the_ends_of_the_range(exponent, dtype, method):
    """Oracle: numpy.linalg.lstsq of the rows as float64 at a size of 1 (float32's smallest ones have few bits)."""
    hidden, targets = real_problem("digits standardised", 200, 20)
    given = np.ldexp(hidden.astype(dtype), exponent)
    rows = np.ldexp(given.astype(float), -exponent)
    for ridge in (0, 1e-3) if abs(exponent) <= 500 else (0,):  # beyond, float64 does not hold the penalty
        penalty = ridge * mean_diagonal(rows)
        absolute = float(np.ldexp(penalty, 2 * exponent))
        for work in (float, np.float32):
            weights, diagnosis = solve_rows(given, targets, absolute, method=method, dtype=work)
            error = prediction_error(rows, np.ldexp(weights, exponent), augmented_lstsq(rows, targets, penalty))
            assert error <= 10.0 ** -min(diagnosis.digits, 12.5) and (diagnosis.digits > 2 or method == "dual")


@pytest.mark.parametrize("method", solvers.METHODS)
def test_targets_at_the_end_of_float32(method):
    """Oracle: numpy.linalg.lstsq of the same targets times a power of two, in float64."""
    hidden, targets = real_problem("digits standardised", 200, 20)
    given = (targets * 1e-40).astype(np.float32)
    expected = augmented_lstsq(hidden, np.ldexp(given.astype(float), 133), 1.0)
    for work in (float, np.float32):
        weights, diagnosis = solve_rows(hidden, given, 1.0, method=method, dtype=work)
        error = prediction_error(hidden, np.ldexp(weights, 133), expected)
        assert error <= 10.0 ** -min(diagnosis.digits, 12.5) and (diagnosis.digits > 2 or method == "dual")


@pytest.mark.parametrize("exponent", [-1029, -1065, 1000])
def test_gram_at_the_ends_of_the_range(exponent):
    """Oracle: scipy.linalg.solve at a size of 1; what the smallest numbers have lost is missing from the digits."""
    hidden, targets = real_problem("digits standardised", 200, 20)
    hidden = hidden.astype(float) / 2**6
    products, cross, penalty = hidden.T @ hidden, hidden.T @ targets, 1e-1 * mean_diagonal(hidden)
    expected = scipy.linalg.solve(products + penalty * np.eye(20), cross, assume_a="pos")
    for dtype in (float, np.float32):
        weights, diagnosis = solve_gram(
            np.ldexp(products, exponent),
            np.ldexp(cross, exponent // 2),
            float(np.ldexp(penalty, exponent)),
            dtype=dtype,
        )
        found = np.ldexp(weights, exponent - exponent // 2)
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert error <= 10.0**-diagnosis.digits


# ── what is said of digits ──


def test_warning_names_condition_digits_and_remedy():
    """Oracle: the contract: condition number, digits got and asked, larger ridge, standardise, float64."""
    hidden, targets = real_problem("digits raw", 400)
    message = r"scores: about \d\.\d correct digits of 9 asked for, by cholesky; the condition number is \d\.\de\+\d\d"
    _, diagnosis = solve_rows(hidden, targets, 1e-8 * mean_diagonal(hidden), method="cholesky")
    with pytest.warns(PrecisionWarning, match=message) as caught:
        assert diagnosis.check(9, "scores") is diagnosis
    assert caught[0].filename == __file__
    for remedy in ("Raise the ridge", "standardise the features", "centre them", "float64", "svd"):
        assert remedy in str(caught[0].message)
    with pytest.warns(PrecisionWarning) as caught:
        solve_rows(hidden, targets, 1e-8 * mean_diagonal(hidden), method="cholesky", digits=9)
    assert caught[0].filename == __file__


def test_no_warning_where_digits_suffice(recwarn):
    """Oracle: the contract. Nothing is said where nothing is missing or nothing was asked."""
    hidden, targets = real_problem("digits standardised", 400)
    solve_rows(hidden, targets, 1.0, digits=8)
    solve_rows(hidden, targets, 1e-9, method="cholesky", dtype=np.float32)
    Diagnosis("qr", 10.0, 6.0).check(6, "w")
    assert not [w for w in recwarn if issubclass(w.category, PrecisionWarning)]


def test_a_refinement_that_does_not_converge_is_reported():
    """Oracle: a layer of rank 40 of 50 without penalty, where no float32 factor corrects anything."""
    hidden, targets = real_problem("digits standardised", 400, 40)
    hidden = np.concatenate([hidden, hidden[:, :10]], axis=1)
    with pytest.warns(PrecisionWarning, match="by refined, whose corrections did not converge"):
        weights, diagnosis = solve_rows(hidden, targets, 0, method="refined")
    assert not diagnosis.converged and diagnosis.digits < 3 and np.isfinite(weights).all()
    products = hidden.T.astype(float) @ hidden + 1e-7 * mean_diagonal(hidden) * np.eye(50)
    _, diagnosis = solve_gram(products, hidden.T @ targets, 0, dtype=np.float32, refine=1)
    assert not diagnosis.converged or diagnosis.method == "eigh"


def test_condition_number_is_numpys():
    """Oracle: numpy.linalg.cond of the augmented rows, within the factor of 2 that is promised."""
    for name in ("digits raw", "wine raw", "wine standardised"):
        hidden, targets = real_problem(name, 150)
        for ridge in (1e-6, 1e-2):
            penalty = ridge * mean_diagonal(hidden)
            true = np.linalg.cond(np.concatenate([hidden, np.sqrt(penalty) * np.eye(100)]).astype(float))
            for method in ("qr", "tsqr", "svd"):
                _, diagnosis = solve_rows(hidden, targets, penalty, method=method)
                assert true / 2 <= diagnosis.condition <= true * 1.01


# ── on a device without float64 ──


@pytest.mark.parametrize("num_clips", [120, 700])
@pytest.mark.parametrize("ridge", [1e-6, 1e-3, 1.0])
def test_device_variants_within_bounds(ridge, num_clips):
    """Oracle: numpy.linalg.lstsq in float64; digits raw. JAX is in float32 throughout."""
    hidden, targets = real_problem("digits raw", num_clips, 200)
    penalty = float(np.float32(ridge * mean_diagonal(hidden)))
    expected = augmented_lstsq(hidden, targets, penalty)
    true = np.linalg.cond(np.concatenate([hidden.astype(float), np.sqrt(penalty) * np.eye(200)]))
    arguments = jnp.asarray(hidden), jnp.asarray(targets, jnp.float32), penalty
    with jax.enable_x64(False):
        high, low, condition, size = solvers_f32.refined_f32(*arguments)
        plain, plain_condition = solvers_f32.tsqr_f32(*arguments, block=256)
        weights, squared = solvers_f32.cholesky_f32(*arguments)
    assert high.dtype == low.dtype == plain.dtype == weights.dtype == jnp.float32
    refined = np.asarray(high, np.float64) + np.asarray(low, np.float64)
    assert prediction_error(hidden, refined, expected) <= (1e-5 if num_clips < 200 else 1e-8) and size < 1e-6
    assert prediction_error(hidden, np.asarray(plain, np.float64), expected) <= 5e-4
    if ridge >= 1e-3:
        error = prediction_error(hidden, np.asarray(weights, np.float64), expected)
        assert error <= max(np.finfo(np.float32).eps * float(squared), 1e-6)
    assert true / 3 <= plain_condition <= true * 1.1 and (num_clips < 200 or true / 3 <= condition <= true * 1.1)


def test_pairs_of_floats_hold_twice_the_digits():
    """Oracle: numpy in float64, of sums whose terms cancel."""
    random = np.random.default_rng(0)
    columns, high = (random.normal(size=shape).astype(np.float32) for shape in ((500, 30), (500, 3)))
    columns[250:], high[250:] = columns[:250], -high[:250] * np.float32(1 + 2**-10)
    whole, rest = jax.jit(solvers_f32._accumulate)(jnp.asarray(columns), jnp.asarray(high), jnp.zeros((500, 3)))
    expected = columns.astype(np.float64).T @ high.astype(np.float64)
    found = np.asarray(whole, np.float64) + np.asarray(rest, np.float64)
    assert np.abs(found - expected).max() / (np.abs(columns.T) @ np.abs(high)).max() <= 1e-10


# ── what is refused ──

GOOD = np.eye(3), np.ones((3, 1))
BAD = np.array([[1.0, np.nan], [0, 1], [2, 3]])


@pytest.mark.parametrize(
    ("hidden", "targets", "penalty", "options", "message"),
    [
        pytest.param(*GOOD, -1.0, {}, "penalty=-1.0 must be finite and at least 0", id="negative penalty"),
        pytest.param(*GOOD, np.nan, {}, "penalty=nan", id="nan penalty"),
        pytest.param(*GOOD, "1", {}, "penalty='1' must be a number, finite and at least 0", id="text penalty"),
        pytest.param(*GOOD, [1.0], {}, r"penalty=\[1\.0\] must be a number", id="penalties"),
        pytest.param(BAD, GOOD[1], 1.0, {}, r"hidden\[0, 1\] is nan; remove or replace", id="nan"),
        pytest.param(GOOD[0], GOOD[1] * np.inf, 1.0, {}, r"targets\[0, 0\] is inf", id="inf targets"),
        pytest.param(GOOD[0], np.ones((2, 1)), 1.0, {}, "hidden has 3 rows, targets 2", id="rows"),
        pytest.param(GOOD[0], np.ones(3), 1.0, {}, r"targets has shape \(3,\); it must have two axes", id="vector"),
        pytest.param(np.ones((0, 3)), np.ones((0, 1)), 1.0, {}, r"hidden has shape \(0, 3\)", id="empty"),
        pytest.param(*GOOD, 1.0, {"method": "pinv"}, "method='pinv' is unknown; choose from auto", id="method"),
        pytest.param(*GOOD, 1.0, {"dtype": np.float16}, "dtype=float16 must be float64 or float32", id="dtype"),
        pytest.param(*GOOD, 1.0, {"dtype": "abc"}, "dtype='abc' must be float64 or float32", id="no dtype"),
    ],
)
def test_rows_refused(hidden, targets, penalty, options, message):
    """Oracle: the contract, name, value and remedy."""
    with pytest.raises(ValueError, match=message):
        solve_rows(hidden, targets, penalty, **options)


@pytest.mark.parametrize("method", solvers.METHODS)
@pytest.mark.parametrize(
    ("size", "target", "penalty", "dtype", "message"),
    [
        pytest.param(1e-160, 1.0, 1.0, float, "penalty=1 is out of the range of float64 .* scale", id="penalty"),
        pytest.param(1e-30, 1.0, 1.0, np.float32, "penalty=1 is out of the range of float32", id="float32 penalty"),
        pytest.param(
            1e-200, 1e200, 0.0, float, r"output weights, .* out of the range .* scale the features", id="over"
        ),
        pytest.param(1e200, 1e-200, 0.0, float, r"output weights, .* out of the range", id="under"),
        pytest.param(1e-310, 1.0, 0.0, float, r"output weights, .* out of the range", id="tiny"),
    ],
)
def test_weights_beyond_float64_are_refused(size, target, penalty, dtype, message, method):
    """Oracle: the weight of diag(size) is target / size, and of a penalty 1 target·size; neither is a number here."""
    with pytest.raises(ValueError, match=message):
        solve_rows(np.eye(3) * size, np.full((3, 1), target), penalty, method=method, dtype=dtype)


@pytest.mark.parametrize(
    ("products", "cross", "penalty", "message"),
    [
        pytest.param(np.eye(3), np.ones((2, 1)), 1.0, "products has 3 rows, cross 2", id="widths"),
        pytest.param(np.ones((3, 2)), np.ones((3, 1)), 1.0, "HᵀH is square", id="square"),
        pytest.param(-np.eye(2), np.ones((2, 1)), 1.0, "products has -1 on its diagonal", id="negative diagonal"),
        pytest.param(np.eye(2), np.ones((2, 1)), -2.0, "penalty=-2.0", id="negative penalty"),
        pytest.param(np.eye(2) * 1e-310, np.ones((2, 1)), 9e3, "penalty=9000 is out of the range", id="large penalty"),
        pytest.param(np.eye(2) * 1e-300, np.full((2, 1), 1e9), 0.0, "weights, .* out of the range", id="weights"),
        pytest.param(np.full((2, 2), np.inf), np.ones((2, 1)), 1.0, r"products\[0, 0\] is inf", id="inf"),
    ],
)
def test_gram_refused(products, cross, penalty, message):
    """Oracle: the contract, name, value and remedy."""
    with pytest.raises(ValueError, match=message):
        solve_gram(products, cross, penalty)


def test_more_units_than_memory_are_refused(monkeypatch):
    """Oracle: the contract; the machine is said to have 1 MiB."""
    monkeypatch.setattr(arithmetic, "physical_memory", lambda: 2**20)
    hidden = np.ones((5, 300))
    with pytest.raises(ValueError, match=r"on 5 rows of h=300 units would take .* GiB .* this machine has .*; lower h"):
        solve_rows(hidden, np.ones((5, 1)), 1.0, method="cholesky")
    solve_rows(hidden, np.ones((5, 1)), 1.0)  # the smaller side is 5

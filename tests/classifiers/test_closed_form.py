"""The closed forms against brute-force refits by scikit-learn, explicit hat matrices and hand-worked cases."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge, RidgeClassifierCV, RidgeCV
from sklearn.model_selection import GroupKFold
from threadpoolctl import threadpool_limits

from mirjax.classifiers import closed_form, inverses
from mirjax.classifiers.closed_form import RidgePath
from mirjax.classifiers.kernel_path import KernelPath
from mirjax.classifiers.pseudo_inverse import CUTOFF


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """LAPACK on two threads is ten times slower while another process is busy."""
    with threadpool_limits(1, user_api="blas"):
        yield


def relu_features(num_rows, width, seed=0, data=load_wine, scaled=True):
    """Random ReLU activations and ±1 targets of shuffled rows of a real data set."""
    x, y = data(return_X_y=True)
    random = np.random.default_rng(seed)
    rows = random.permutation(len(x))[:num_rows]
    x, y = x[rows], y[rows]
    if scaled:
        x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-12)
    hidden = np.maximum(x @ random.standard_normal((x.shape[1], width)) + random.standard_normal(width), 0)
    return hidden, np.where(y[:, None] == np.unique(y), 1.0, -1.0)


def penalties_of(hidden, ridges, weight=None, intercept=False):
    """The definition: ridge times the mean diagonal of the weighted, centred Gram matrix of full width."""
    weight = np.ones(len(hidden)) if weight is None else weight
    centred = hidden - np.average(hidden, axis=0, weights=weight) * intercept
    return np.asarray(ridges) * np.mean(np.diag(centred.T @ (weight[:, None] * centred)))


def refit(hidden, targets, penalty, intercept, weight, train, test):
    """scikit-learn's fit to some rows and its predictions for others; rows of weight 0 are left out."""
    weight = np.ones(len(hidden)) if weight is None else weight
    train = train[weight[train] > 0]
    model = Ridge(alpha=penalty, fit_intercept=intercept, solver="svd")
    model.fit(hidden[train], targets[train], sample_weight=weight[train])
    return model.predict(hidden[test]).reshape(len(test), -1)


def brute_force(hidden, targets, sizes, penalties, intercept, weight, folds):
    """Held-out predictions by one refit a fold and cell; NaN for rows in no fold."""
    out = np.full((len(sizes), len(penalties), *targets.shape), np.nan)
    for i, size in enumerate(sizes):
        for j, penalty in enumerate(penalties):
            for rows in folds:
                train = np.setdiff1d(np.arange(len(hidden)), rows)
                out[i, j, rows] = refit(hidden[:, :size], targets, penalty, intercept, weight, train, rows)
    return out


def weights_like(kind, num_rows, seed=1):
    random = np.random.default_rng(seed)
    if kind == "none":
        return None
    weight = random.uniform(0.1, 3, num_rows)
    if kind == "zeros":
        weight[random.permutation(num_rows)[: num_rows // 8]] = 0
    return weight


FOLDS = {
    "equal": lambda n, random: np.split(random.permutation(n), 5),
    "unequal": lambda n, random: np.split(random.permutation(n), [1, 3, n // 4, n // 2]),
    "grouped": lambda n, random: [
        test for _, test in GroupKFold(4).split(np.zeros(n), groups=random.geometric(0.1, n))
    ],
    "some rows": lambda n, random: [random.permutation(n)[:7]],
}

# Sizes below the folds, between folds and rows, about the rows, and above them; 60 rows.
GRIDS = {
    "n > h": ((3, 10, 40), [1e-4, 1e-2, 1.0]),
    "n < h": ((70, 150), [1e-4, 1e-2, 1.0]),
    "straddling": ((5, 30, 59, 60, 61, 120), [1e-3, 1e-1]),
    "one size, many ridges": ((25,), np.logspace(-4, 1, 30)),
    "one size above, many ridges": ((90,), np.logspace(-4, 1, 30)),
}


@pytest.mark.parametrize("weighting", ["none", "positive", "zeros"])
@pytest.mark.parametrize("intercept", [False, True], ids=["through 0", "intercept"])
@pytest.mark.parametrize("grid", GRIDS)
def test_every_cell_is_scikit_learns_refit(grid, intercept, weighting):
    """Oracle: sklearn.linear_model.Ridge, fitted anew for every cell: weights, fits, predictions for other rows."""
    sizes, ridges = GRIDS[grid]
    hidden, targets = relu_features(75, max(sizes) + 4)
    hidden, new, targets = hidden[:60], hidden[60:], targets[:60]
    weight = weights_like(weighting, 60)
    path = RidgePath(hidden, targets, sizes=sizes, ridges=ridges, sample_weight=weight, fit_intercept=intercept)
    assert path.sizes == sizes
    np.testing.assert_array_equal(path.ridges, ridges)
    np.testing.assert_allclose(path.penalties, penalties_of(hidden, ridges, weight, intercept), rtol=1e-12)
    fitted, predicted = path.fitted(), path.predict(new)
    live = np.flatnonzero(np.ones(60) if weight is None else weight)
    for i, size in enumerate(sizes):
        for j, penalty in enumerate(path.penalties):
            model = Ridge(alpha=penalty, fit_intercept=intercept, solver="svd")
            model.fit(hidden[live, :size], targets[live], sample_weight=None if weight is None else weight[live])
            coefficients, constant = path.solve(i, j)
            assert coefficients.shape == (size, 3) and constant.shape == (3,)
            scale = np.abs(model.coef_).max()
            np.testing.assert_allclose(coefficients, model.coef_.T, atol=1e-9 * scale)
            np.testing.assert_allclose(constant, np.broadcast_to(model.intercept_, 3), atol=1e-9)
            np.testing.assert_allclose(fitted[i, j], model.predict(hidden[:, :size]), atol=1e-9)
            np.testing.assert_allclose(predicted[i, j], model.predict(new[:, :size]), atol=1e-9)


@pytest.mark.parametrize("weighting", ["none", "positive", "zeros"])
@pytest.mark.parametrize("intercept", [False, True], ids=["through 0", "intercept"])
@pytest.mark.parametrize("kind", FOLDS)
@pytest.mark.parametrize("grid", GRIDS)
def test_held_out_folds_are_scikit_learns_refits(grid, kind, intercept, weighting):
    """Oracle: sklearn.linear_model.Ridge, fitted anew without every fold, at the penalty of all rows."""
    sizes, ridges = GRIDS[grid]
    ridges = ridges if len(ridges) < 9 else [*ridges[::12]] * 10  # as many, but fewer to fit anew
    hidden, targets = relu_features(60, max(sizes) + 4)
    weight = weights_like(weighting, 60)
    folds = FOLDS[kind](60, np.random.default_rng(2))
    path = RidgePath(hidden, targets, sizes=sizes, ridges=ridges, sample_weight=weight, fit_intercept=intercept)
    few = min(len(ridges), 3)
    expected = brute_force(hidden, targets, sizes, path.penalties[:few], intercept, weight, folds)
    found = path.leave_out(folds)
    assert found.shape == (len(sizes), len(ridges), 60, 3)
    np.testing.assert_allclose(found[:, :few], expected, atol=1e-8)
    np.testing.assert_array_equal(np.isnan(found[0, 0, :, 0]), ~np.isin(np.arange(60), np.concatenate(folds)))


@pytest.mark.parametrize("weighting", ["none", "positive", "zeros"])
@pytest.mark.parametrize("intercept", [False, True], ids=["through 0", "intercept"])
@pytest.mark.parametrize("grid", GRIDS)
def test_held_out_rows_are_scikit_learns_refits(grid, intercept, weighting):
    """Oracle: sklearn.linear_model.Ridge, fitted anew without every row."""
    sizes, ridges = GRIDS[grid]
    hidden, targets = relu_features(60, max(sizes) + 4)
    weight = weights_like(weighting, 60)
    path = RidgePath(hidden, targets, sizes=sizes, ridges=ridges, sample_weight=weight, fit_intercept=intercept)
    rows = [np.array([row]) for row in range(0, 60, 4)]
    cells = slice(0, 60, 17)
    expected = brute_force(hidden, targets, sizes, path.penalties[cells], intercept, weight, rows)
    found = path.leave_one_out()
    np.testing.assert_allclose(found[:, cells, ::4], expected[:, :, ::4], atol=1e-8)
    alone = path.leave_out([np.array([row]) for row in range(60)])
    np.testing.assert_allclose(found, alone, atol=1e-8)


@pytest.mark.parametrize("intercept", [False, True], ids=["through 0", "intercept"])
@pytest.mark.parametrize("width", [30, 170, 400])
def test_leave_one_out_is_ridge_cvs(width, intercept):
    """Oracle: sklearn.linear_model.RidgeCV(store_cv_results=True), squared errors of rows left out, weighted too."""
    hidden, targets = relu_features(170, width)
    weight = weights_like("positive", 170)
    for w in (None, weight):
        path = RidgePath(hidden, targets, ridges=[1e-3, 1e-1, 10], sample_weight=w, fit_intercept=intercept)
        model = RidgeCV(alphas=path.penalties, fit_intercept=intercept, store_cv_results=True)
        model.fit(hidden, targets, sample_weight=w)
        # scikit-learn's errors are times the root of the weight.
        errors = (path.leave_one_out()[0] - targets) ** 2 * (1 if w is None else w[:, None])
        np.testing.assert_allclose(errors.transpose(1, 2, 0), model.cv_results_, rtol=1e-6, atol=1e-10)
        best = errors.mean((1, 2)).argmin()
        assert path.penalties[best] == pytest.approx(model.alpha_)


def test_leave_one_out_selects_what_ridge_classifier_cv_selects():
    """Oracle: sklearn.linear_model.RidgeClassifierCV on the same activations: penalty, coefficients, labels."""
    hidden, targets = relu_features(170, 120)
    labels = targets.argmax(1)
    path = RidgePath(hidden, targets, ridges=np.logspace(-5, 2, 12), fit_intercept=True)
    model = RidgeClassifierCV(alphas=path.penalties).fit(hidden, labels)
    best = ((path.leave_one_out()[0] - targets) ** 2).mean((1, 2)).argmin()
    assert path.penalties[best] == pytest.approx(model.alpha_)
    np.testing.assert_allclose(path.solve(0, best)[0], model.coef_.T, atol=1e-9)
    np.testing.assert_array_equal(path.fitted()[0, best].argmax(1), model.predict(hidden))


@pytest.mark.parametrize("weighting", ["none", "positive", "zeros"])
@pytest.mark.parametrize("intercept", [False, True], ids=["through 0", "intercept"])
@pytest.mark.parametrize("grid", GRIDS)
def test_generalised_cross_validation_by_its_definition(grid, intercept, weighting):
    """Oracle: the explicit hat matrix (numpy.linalg.inv): df is its trace, GCV = N RSS / (N − df)²."""
    sizes, ridges = GRIDS[grid]
    hidden, targets = relu_features(60, max(sizes) + 4)
    weight = weights_like(weighting, 60)
    path = RidgePath(hidden, targets, sizes=sizes, ridges=ridges, sample_weight=weight, fit_intercept=intercept)
    w = np.ones(60) if weight is None else weight
    degrees, criterion = path.degrees_of_freedom(), path.generalised_cross_validation()
    assert degrees.shape == criterion.shape == (len(sizes), len(ridges))
    for i, size in enumerate(sizes):
        for j, penalty in enumerate(path.penalties):
            design = hidden[:, :size]
            damping = penalty * np.eye(size)
            if intercept:  # a column of ones without penalty
                design = np.concatenate([design, np.ones((60, 1))], 1)
                damping = np.pad(damping, (0, 1))
            hat = design @ np.linalg.inv(design.T @ (w[:, None] * design) + damping) @ (design.T * w)
            squares = (w[:, None] * (targets - hat @ targets) ** 2).sum(0)
            assert degrees[i, j] == pytest.approx(np.trace(hat), rel=1e-7)
            assert criterion[i, j] == pytest.approx(
                np.mean(w.sum() * squares / (w.sum() - np.trace(hat)) ** 2), rel=1e-5
            )


def test_two_by_two_by_hand():
    """Oracle: worked by hand. H = [[2, 0], [0, 1]], Y = (1, 3): mean diagonal 5/2, ridge 2/5, so λ = 1."""
    path = RidgePath(np.array([[2.0, 0], [0, 1]]), np.array([[1.0], [3]]), sizes=(1, 2), ridges=[0.4, 0])
    np.testing.assert_allclose(path.penalties, [1, 0])
    # β = 2 / (4 + 1), 3 / (1 + 1); hat = diag(4/5, 1/2).
    np.testing.assert_allclose(path.solve(1, 0)[0][:, 0], [0.4, 1.5])
    np.testing.assert_allclose(path.solve(0, 0)[0][:, 0], [0.4])
    np.testing.assert_allclose(path.solve(1, 1)[0][:, 0], [0.5, 3])
    np.testing.assert_array_equal(path.solve(1, 0)[1], [0])
    np.testing.assert_allclose(path.fitted()[:, 0, :, 0], [[0.8, 0], [0.8, 1.5]])
    np.testing.assert_allclose(path.degrees_of_freedom(), [[0.8, 1], [1.3, 2]])
    np.testing.assert_allclose(path.condition_numbers(), [[1, 1], [2.5, 4]])
    ridged = RidgePath(np.array([[2.0, 0], [0, 1]]), np.array([[1.0], [3]]), ridges=[0.4])
    # Without a row its unit has no data: the prediction is 0. GCV = 2 (0.2² + 1.5²) / (2 − 1.3)².
    np.testing.assert_allclose(ridged.leave_one_out()[0, 0, :, 0], [0, 0], atol=1e-15)
    np.testing.assert_allclose(ridged.generalised_cross_validation(), [[2 * (0.04 + 2.25) / 0.49]])


@pytest.mark.parametrize("intercept", [False, True], ids=["through 0", "intercept"])
@pytest.mark.parametrize("kind", ["RidgePath n > h", "RidgePath n < h", "KernelPath"])
def test_weights_are_repetitions(kind, intercept):
    """Oracle: the same rows repeated; a weight of 0 is a row removed. Copies of a row are in one fold."""
    hidden, targets = relu_features(40, 90 if kind == "RidgePath n < h" else 25)
    weight = np.random.default_rng(0).integers(0, 4, 40)
    copies = np.repeat(np.arange(40), weight)
    folds = np.array_split(np.random.default_rng(3).permutation(40), 4)
    repeated_folds = [np.flatnonzero(np.isin(copies, rows)) for rows in folds]
    settings = dict(ridges=[1e-3, 0.1], fit_intercept=intercept)
    if kind == "KernelPath":
        kernel = hidden @ hidden.T
        weighted = KernelPath(kernel, targets, sample_weight=weight, **settings)
        repeated = KernelPath(kernel[np.ix_(copies, copies)], targets[copies], **settings)
        new, new_repeated = kernel[:7], kernel[:7][:, copies]
    else:
        sizes = None if hidden.shape[1] < 40 else (50, 90)
        weighted = RidgePath(hidden, targets, sample_weight=weight, sizes=sizes, **settings)
        repeated = RidgePath(hidden[copies], targets[copies], sizes=sizes, **settings)
        new = new_repeated = hidden[:7]
    np.testing.assert_allclose(weighted.penalties, repeated.penalties)
    np.testing.assert_allclose(weighted.predict(new), repeated.predict(new_repeated), atol=1e-9)
    np.testing.assert_allclose(weighted.degrees_of_freedom(), repeated.degrees_of_freedom())
    np.testing.assert_allclose(
        weighted.generalised_cross_validation(), repeated.generalised_cross_validation(), rtol=1e-6
    )
    np.testing.assert_allclose(weighted.leave_out(folds)[:, :, copies], repeated.leave_out(repeated_folds), atol=1e-8)


@pytest.mark.parametrize("weighting", ["none", "positive", "zeros"])
def test_kernel_path_is_kernel_ridge(weighting):
    """Oracle: sklearn.kernel_ridge.KernelRidge(kernel="precomputed"), fitted anew without every fold and row."""
    hidden, targets = relu_features(60, 90)
    kernel = np.exp(-((hidden[:, None] - hidden[None]) ** 2).sum(2) / 500)
    new, kernel, targets = kernel[50:, :50], kernel[:50, :50], targets[:50]
    weight = weights_like(weighting, 50)
    w = np.ones(50) if weight is None else weight
    path = KernelPath(kernel, targets, ridges=[1e-3, 0.1], sample_weight=weight)
    np.testing.assert_allclose(path.penalties, np.array([1e-3, 0.1]) * np.average(np.diag(kernel), weights=w))
    folds = [
        *FOLDS["unequal"](50, np.random.default_rng(1)),
    ]
    left_out, one_out = path.leave_out(folds), path.leave_one_out()
    singles = [np.array([row]) for row in range(50)]
    for j, penalty in enumerate(path.penalties):

        def predict(train, cross):
            train = train[w[train] > 0]
            model = KernelRidge(alpha=penalty, kernel="precomputed")  # noqa: B023
            return model.fit(kernel[np.ix_(train, train)], targets[train], w[train]).predict(cross[:, train])

        np.testing.assert_allclose(path.predict(new)[0, j], predict(np.arange(50), new), atol=1e-9)
        np.testing.assert_allclose(path.fitted()[0, j], predict(np.arange(50), kernel), atol=1e-9)
        for found, splits in ((left_out, folds), (one_out, singles)):
            for rows in splits:
                expected = predict(np.setdiff1d(np.arange(50), rows), kernel[rows])
                np.testing.assert_allclose(found[0, j, rows], expected, atol=1e-8)


@pytest.mark.parametrize("weighting", ["none", "positive", "zeros"])
@pytest.mark.parametrize("intercept", [False, True], ids=["through 0", "intercept"])
@pytest.mark.parametrize("width", [20, 90])
def test_kernel_path_on_a_gram_matrix_is_ridge(width, intercept, weighting):
    """Oracle: sklearn.linear_model.Ridge on H at the absolute penalty that KernelPath takes for K = HHᵀ."""
    hidden, targets = relu_features(60, width)
    weight = weights_like(weighting, 60)
    path = KernelPath(hidden @ hidden.T, targets, ridges=[1e-3, 0.1], sample_weight=weight, fit_intercept=intercept)
    total = 60 if weight is None else weight.sum()
    np.testing.assert_allclose(path.penalties, penalties_of(hidden, [1e-3, 0.1], weight, intercept) * width / total)
    for j, penalty in enumerate(path.penalties):
        expected = refit(hidden, targets, penalty, intercept, weight, np.arange(60), np.arange(60))
        np.testing.assert_allclose(path.fitted()[0, j], expected, atol=1e-8)
        dual, constant = path.solve(0, j)
        np.testing.assert_allclose(hidden @ (hidden.T @ dual) + constant, expected, atol=1e-8)
    folds = FOLDS["equal"](60, np.random.default_rng(1))
    expected = brute_force(hidden, targets, [width], path.penalties, intercept, weight, folds)
    np.testing.assert_allclose(path.leave_out(folds), expected, atol=1e-8)
    # The same from the primal side, at the ridges that are the same penalties.
    ridges = path.penalties / penalties_of(hidden, [1.0], weight, intercept)
    primal = RidgePath(hidden, targets, ridges=ridges, sample_weight=weight, fit_intercept=intercept)
    for name in ("leave_one_out", "degrees_of_freedom", "generalised_cross_validation"):
        np.testing.assert_allclose(getattr(path, name)(), getattr(primal, name)(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("width", [40, 100, 250])
def test_ridge_zero_is_the_pseudo_inverse(width):
    """Oracle: numpy.linalg.pinv with the released cut-off; scikit-learn centres likewise for an intercept."""
    hidden, targets = relu_features(100, width)
    path = RidgePath(hidden, targets, sizes=(10, width), ridges=[1e-2, 0])
    expected = np.linalg.pinv(hidden, rcond=CUTOFF) @ targets
    weights, intercept = path.solve(1, 1)
    np.testing.assert_allclose(weights, expected, atol=1e-10 * np.abs(expected).max())
    np.testing.assert_array_equal(intercept, 0)
    np.testing.assert_allclose(path.fitted()[1, 1], hidden @ expected, atol=1e-9)
    assert path.degrees_of_freedom()[1, 1] == np.linalg.matrix_rank(hidden, rtol=CUTOFF)
    s = np.linalg.svd(hidden, compute_uv=False)
    s = s[s > CUTOFF * s[0]]
    assert path.condition_numbers()[1, 1] == pytest.approx((s[0] / s[-1]) ** 2)
    if width > 100:  # as many units as rows, which differ: no error is left
        np.testing.assert_allclose(path.fitted()[1, 1], targets, atol=1e-9)
    for name in ("leave_one_out", "generalised_cross_validation"):
        with pytest.raises(ValueError, match=rf"{name} needs ridges above 0.*leave 0 out or raise it"):
            getattr(path, name)()
    with pytest.raises(ValueError, match="leave_out needs ridges above 0"):
        path.leave_out([[0, 1]])
    kernel = KernelPath(hidden @ hidden.T, targets, ridges=[0])
    assert np.abs(kernel.fitted()[0, 0] - hidden @ expected).max() < 1e-5


def exact_ridge(hidden, targets, penalty, train, test):
    """Ridge by least squares on the augmented matrix, which has the digits of singular values (numpy.linalg.lstsq)."""
    width = hidden.shape[1]
    design = np.concatenate([hidden[train], np.sqrt(penalty) * np.eye(width)])
    right = np.concatenate([targets[train], np.zeros((width, targets.shape[1]))])
    return hidden[test] @ np.linalg.lstsq(design, right, rcond=None)[0]


@pytest.mark.parametrize("ridge", [1e-6, 1e-8, 1e-10, 1e-12])
@pytest.mark.parametrize("width", [60, 140, 300])
def test_near_singular_raw_features(width, ridge):
    """Oracle: numpy.linalg.lstsq on the augmented matrix, per fold, on raw features (wine: values up to 1680)."""
    hidden, targets = relu_features(150, width, scaled=False)
    path = RidgePath(hidden, targets, sizes=(30, width), ridges=[ridge])
    folds = FOLDS["equal"](150, np.random.default_rng(0))
    found, alone, fitted = path.leave_out(folds), path.leave_one_out(), path.fitted()
    everything = np.arange(150)
    for i, size in enumerate((30, width)):
        part = hidden[:, :size]
        condition = np.linalg.cond(np.concatenate([part, np.sqrt(path.penalties[0]) * np.eye(size)]))
        bound = 1e3 * np.finfo(float).eps * condition
        expected = exact_ridge(part, targets, path.penalties[0], everything, everything)
        assert np.abs(fitted[i, 0] - expected).max() <= max(1e-7, bound) * np.abs(expected).max()
        for rows in folds:
            expected = exact_ridge(part, targets, path.penalties[0], np.setdiff1d(everything, rows), rows)
            assert np.abs(found[i, 0, rows] - expected).max() <= max(1e-7, bound) * np.abs(expected).max()
        for row in range(0, 150, 30):
            expected = exact_ridge(part, targets, path.penalties[0], np.delete(everything, row), [row])
            assert np.abs(alone[i, 0, row] - expected).max() <= max(1e-7, bound) * max(1, np.abs(expected).max())


@pytest.mark.parametrize("intercept", [False, True], ids=["through 0", "intercept"])
@pytest.mark.parametrize("width", [20, 60])
def test_a_unit_that_one_row_alone_excites(width, intercept):
    """Oracle: sklearn.linear_model.Ridge refits; the leverage of that row is 1 up to 1e-12, so the fold is refitted."""
    hidden, targets = relu_features(50, width)
    hidden[:, 3] = 0
    hidden[17, 3] = 1e6
    path = RidgePath(hidden, targets, ridges=[1e-13, 1e-11], fit_intercept=intercept)
    folds = FOLDS["equal"](50, np.random.default_rng(0))
    expected = brute_force(hidden, targets, [width], path.penalties, intercept, None, folds)
    np.testing.assert_allclose(path.leave_out(folds), expected, atol=1e-6)
    expected = brute_force(hidden, targets, [width], path.penalties, intercept, None, [[17]])[:, :, 17]
    np.testing.assert_allclose(path.leave_one_out()[:, :, 17], expected, atol=1e-6)


@pytest.mark.parametrize("intercept", [False, True], ids=["through 0", "intercept"])
@pytest.mark.parametrize("width", [50, 300])
def test_float32_beside_float64(width, intercept):
    """Oracle: sklearn.linear_model.Ridge in float64; errors relative to the largest prediction by ridge."""
    hidden, targets = relu_features(200, width, data=load_digits)
    ridges = [1e-3, 1e-2, 1e-1, 1.0]
    path = RidgePath(hidden, targets, ridges=ridges, fit_intercept=intercept, dtype=np.float32)
    folds = FOLDS["equal"](200, np.random.default_rng(0))
    penalties = penalties_of(hidden, ridges, None, intercept)
    np.testing.assert_allclose(path.penalties, penalties, rtol=1e-6)
    expected = brute_force(hidden, targets, [width], penalties, intercept, None, folds)[0]
    found = path.leave_out(folds)
    assert found.dtype == np.float64
    errors = np.abs(found[0] - expected).max((1, 2)) / np.abs(expected).max((1, 2))
    assert (errors <= np.array([5e-4, 1e-4, 5e-5, 2e-5])).all(), errors


def test_float32_activations_are_computed_in_float64():
    """Oracle: the same activations given in float64."""
    hidden, targets = relu_features(60, 30)
    hidden = hidden.astype(np.float32)
    single, double = (RidgePath(h, targets, ridges=[1e-3]).fitted() for h in (hidden, hidden.astype(np.float64)))
    np.testing.assert_allclose(single, double, atol=1e-12)


@pytest.mark.parametrize("width", [20, 80])
@pytest.mark.parametrize("count", [1, 40], ids=["one ridge", "many ridges"])
def test_condition_numbers(width, count):
    """Oracle: numpy.linalg.cond of the Gram matrix and penalty, in the 2-norm or within √h above it (1-norm)."""
    hidden, targets = relu_features(60, width)
    path = RidgePath(hidden, targets, sizes=(10, width), ridges=np.logspace(-4, 0, count), fit_intercept=True)
    centred = hidden - hidden.mean(0)
    for i, size in enumerate(path.sizes):
        gram = centred[:, :size].T @ centred[:, :size]
        true = np.array([np.linalg.cond(gram + penalty * np.eye(size)) for penalty in path.penalties])
        ratio = path.condition_numbers()[i] / true
        assert (ratio >= 0.3).all() and (ratio <= np.sqrt(size)).all()
        if size > 60 or count > 1:
            np.testing.assert_allclose(ratio, 1, rtol=1e-6)


@pytest.mark.parametrize("intercept", [False, True], ids=["through 0", "intercept"])
@pytest.mark.parametrize("width", [10, 50])
def test_constant_activations_have_weights_of_zero(width, intercept):
    """Oracle: sklearn.linear_model.Ridge; a layer of zeros, and one that only an intercept explains."""
    targets = relu_features(30, 1)[1]
    for value in (0.0, 0.1) if intercept else (0.0,):
        path = RidgePath(np.full((30, width), value), targets, ridges=[1e-6, 1.0], fit_intercept=intercept)
        expected = targets.mean(0) * intercept
        np.testing.assert_array_equal(path.solve(0, 0)[0], 0)
        np.testing.assert_allclose(path.fitted() - expected, 0, atol=1e-14)
        left = (targets.sum(0) - targets) / 29 * intercept
        np.testing.assert_allclose(path.leave_one_out() - left, 0, atol=1e-10)
        np.testing.assert_allclose(path.degrees_of_freedom(), intercept, atol=1e-12)


def test_no_cell_depends_on_the_others():
    """Oracle: the same cell alone, on whichever side and by whichever factorisation it is then solved."""
    hidden, targets = relu_features(100, 130)
    folds = FOLDS["grouped"](100, np.random.default_rng(0))
    sizes, ridges = (20, 90, 130), [1e-3, 1e-2, 1]
    whole = RidgePath(hidden, targets, sizes=sizes, ridges=ridges, fit_intercept=True).leave_out(folds)
    many = RidgePath(hidden, targets, sizes=sizes, ridges=ridges * 20, fit_intercept=True).leave_out(folds)
    np.testing.assert_allclose(many, np.tile(whole, (1, 20, 1, 1)), atol=1e-9)


GOOD = dict(hidden=np.eye(4), targets=np.ones((4, 1)), ridges=[1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(hidden=np.zeros((0, 3)), targets=np.zeros((0, 1))), r"hidden has shape \(0, 3\); give a matrix"),
        (dict(hidden=np.zeros(4)), r"hidden has shape \(4,\)"),
        (dict(hidden=np.diag([1, 2, np.nan, 1])), "hidden is not finite in row 2; remove or repair"),
        (dict(targets=np.full((4, 1), np.inf)), "targets is not finite in row 0"),
        (dict(targets=np.ones((3, 1))), "targets has 3 rows, the activations 4"),
        (dict(targets=np.ones(4)), r"targets has shape \(4,\)"),
        (dict(ridges=[]), "ridges=.* must be a sequence of at least one number"),
        (dict(ridges=[1.0, -0.1]), r"ridges=\[1.0, -0.1\] must be finite and at least 0"),
        (dict(ridges=[np.nan]), r"ridges=\[nan\] must be finite"),
        (dict(sizes=()), r"sizes=\(\) must ascend"),
        (dict(sizes=(0, 2)), r"sizes=\(0, 2\) must ascend from at least 1 to at most the 4 hidden units"),
        (dict(sizes=(2, 2)), r"sizes=\(2, 2\) must ascend"),
        (dict(sizes=(2, 5)), r"sizes=\(2, 5\) must ascend"),
        (dict(sample_weight=[1, 1, 1]), r"sample_weight of shape \(3,\) must hold 4 finite numbers"),
        (dict(sample_weight=[1, 1, 1, -1]), "sample_weight .* at least 0"),
        (dict(sample_weight=[0, 0, 0, 0]), "not all 0"),
        (dict(dtype=np.int32), "dtype=.* must be float64 or float32"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_problems(change, message):
    with pytest.raises(ValueError, match=message):
        RidgePath(**(GOOD | change))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (np.ones((4, 3)), r"kernel has shape \(4, 3\); the kernel of the rows fitted is square"),
        (np.triu(np.ones((4, 4))), "kernel differs from its transpose by 1; give a symmetric matrix"),
        (np.diag([1.0, 1, np.nan, 1]), "kernel is not finite in row 2"),
    ],
    ids=["oblong", "asymmetric", "nan"],
)
def test_bad_kernels(kernel, message):
    with pytest.raises(ValueError, match=message):
        KernelPath(kernel, np.ones((4, 1)), ridges=[1.0])


def test_indefinite_kernel():
    path = KernelPath(np.diag([1.0, -1]), np.ones((2, 1)), ridges=[1.0])
    with pytest.raises(ValueError, match="kernel has the eigenvalue -1 beside 1; it must be positive semidefinite"):
        path.fitted()


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([], "folds is empty"),
        ([[0], []], "fold 1 must be a non-empty vector"),
        ([[True, False]], "fold 0 must be a non-empty vector of row numbers"),
        ([[0, 0]], "fold 0 holds a row twice or one of an earlier fold"),
        ([[0, 1], [1]], "fold 1 holds a row twice or one of an earlier fold"),
        ([[4]], "fold 0 holds row 4; rows go from 0 to 3"),
        ([[-1]], "fold 0 holds row -1"),
        ([[0, 1, 2, 3]], "fold 0 leaves no row of positive weight to fit; use more folds"),
    ],
    ids=["none", "empty", "mask", "twice", "overlap", "above", "below", "all"],
)
def test_bad_folds(folds, message):
    for path in (RidgePath(**GOOD), KernelPath(np.eye(4), np.ones((4, 1)), ridges=[1.0])):
        with pytest.raises(ValueError, match=message):
            path.leave_out(folds)


def test_bad_calls():
    path, kernel = RidgePath(**GOOD), KernelPath(np.eye(4), np.ones((4, 1)), ridges=[1.0])
    with pytest.raises(ValueError, match="hidden has 3 units, the fitted activations 4"):
        path.predict(np.ones((2, 3)))
    with pytest.raises(ValueError, match="kernel has 3 columns, the kernel fitted 4 rows"):
        kernel.predict(np.ones((2, 3)))
    with pytest.raises(ValueError, match="hidden is not finite in row 1"):
        path.predict(np.diag([0, np.nan, 1, 1]))
    with pytest.raises(ValueError, match="size_index=1 must be from 0 to 0"):
        path.solve(1, 0)
    with pytest.raises(ValueError, match="ridge_index=-1 must be from 0 to 0"):
        kernel.solve(0, -1)
    with pytest.raises(ValueError, match="leave_one_out needs two rows of positive weight"):
        RidgePath(**GOOD, sample_weight=[0, 0, 1, 0]).leave_one_out()
    with pytest.raises(ValueError, match=r"sample_weight sums to 0.4.*scale them to sum to the number of rows"):
        RidgePath(**GOOD | dict(ridges=[1e-3]), sample_weight=[0.1] * 4).generalised_cross_validation()


def test_leave_one_out_does_no_fold_work(monkeypatch):
    """Property: laziness; neither fold blocks nor weights are computed for it."""
    for module, name in ((closed_form, "leave_fold_out_of"), (inverses, "solve_positive")):
        monkeypatch.setattr(module, name, None)
    hidden, targets = relu_features(60, 80)
    path = RidgePath(hidden, targets, sizes=(20, 80), ridges=[1e-3, 1])
    monkeypatch.setattr(path, "_weights", None, raising=False)
    assert np.isfinite(path.leave_one_out()).all()

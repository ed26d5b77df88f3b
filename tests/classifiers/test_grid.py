"""The grids against scikit-learn and numpy, setting by setting and fold by fold."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from mirjax.classifiers import pseudo_inverse
from mirjax.classifiers.grid import make_grid
from mirjax.classifiers.scaling import Scaled, standardisation

CUTOFF = 1e6 * np.finfo(float).eps
NAMES, SCALINGS = ("elm", "svm", "knn"), ("none", "standard")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Numpy's pinv on two threads is ten times slower while another process is busy."""
    with threadpool_limits(1, user_api="blas"):
        yield


def real(load=load_digits, num_clips=150):
    """Real features of the first clips: counts 0…16 with dead columns (digits), columns up to 1,680 (wine)."""
    x, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:num_clips]
    return x[order], np.array([f"class {label}" for label in y[order]])


def dead(num_clips=150, num_features=112, seed=0):
    """Averages of ReLU maps of an untrained network: non-negative, alike, tens in size, a fifth of them dead."""
    random = np.random.default_rng(seed)
    loudness = np.abs(random.normal(size=(num_clips, 8))) @ np.abs(random.normal(size=(8, num_features)))
    x = 7 * loudness * (1 + 0.2 * random.normal(size=loudness.shape)) - 5 * random.exponential(size=num_features)
    x[:, random.random(num_features) < 0.2] = 0
    x[3] = x[7]  # one clip twice
    return np.maximum(x, 0), np.array([f"class {label}" for label in random.integers(0, 8, num_clips)])


def fold(num_clips, number=0, of=5):
    rows = np.random.default_rng(1).permutation(num_clips)
    in_test = np.arange(num_clips) % of == number
    return rows[~in_test], rows[in_test]


def scaled(x, train, scaling):
    return StandardScaler().fit(x[train]).transform(x) if scaling == "standard" else x


def numpys_elm(x, y, train, test, units, seed=0):
    """Scores of the definition in numpy, fitted to the training rows only, and the condition number above the cut."""
    layer = np.random.default_rng(seed).standard_normal((units, x.shape[1] + 1))
    hidden = np.maximum(x @ layer[:, :-1].T + layer[:, -1], 0)
    targets = np.where(y[train][:, None] == np.unique(y[train]), 1.0, -1.0)
    s = np.linalg.svd(hidden[train], compute_uv=False)
    scores = hidden[test] @ (np.linalg.pinv(hidden[train], rcond=CUTOFF) @ targets)
    return scores, s[0] / s[s > CUTOFF * s[0]].min()


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("table", [real(), real(load_wine), dead()], ids=["digits", "wine", "dead"])
def test_elm_predicts_what_numpy_does(table, scaling):
    """Oracle: numpy.linalg.pinv (cut-off 1e6·eps) of the training rows in float64, on every test row and size."""
    x, y = table
    grid = make_grid("elm", x, y, scaling=scaling, seed=4)
    assert [setting["hidden_units"] for setting in grid.settings] == [100, 250, 500, 1200, 1800, 2500]
    for number in range(2):
        train, test = fold(len(x), number)
        labels = grid.predict(train, test)
        for index, setting in enumerate(grid.settings):
            z, units = scaled(x, train, scaling), setting["hidden_units"]
            expected, condition = numpys_elm(z, y, train, test, units, seed=4)
            np.testing.assert_array_equal(labels[index], grid.classes[expected.argmax(1)])
            scores = grid.scores(index, train, test)[1]
            tolerance = max(1e-10, 10 * np.finfo(float).eps * condition)
            assert np.abs(scores - expected).max() <= tolerance * np.abs(expected).max()


def test_elm_with_more_clips_than_the_smaller_sizes():
    """Oracle: numpy.linalg.pinv, where 100 and 250 hidden units are fewer than the clips and 500 are more."""
    x, y = real(num_clips=400)
    train, test = fold(400)
    labels = make_grid("elm", x, y).predict(train, test)
    for index, units in enumerate((100, 250, 500)):
        expected, _ = numpys_elm(x, y, train, test, units)
        np.testing.assert_array_equal(labels[index], np.unique(y)[expected.argmax(1)])


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize(
    "table", [real(), real(load_wine), real(load_breast_cancer), dead()], ids=["digits", "wine", "cancer", "dead"]
)
def test_svm_predicts_what_svc_does(table, scaling):
    """Oracle: sklearn.svm.SVC on the features themselves, all 32 settings; its scores too."""
    x, y = table
    grid = make_grid("svm", x, y, scaling=scaling)
    assert len(grid.settings) == 32
    train, test = fold(len(x))
    labels = grid.predict(train, test)
    z = (x - standardisation(x[train])[0]) / standardisation(x[train])[1] if scaling == "standard" else x
    for index, setting in enumerate(grid.settings):
        svc = SVC(**setting).fit(z[train], y[train])
        np.testing.assert_array_equal(labels[index], svc.predict(z[test]), err_msg=str(setting))
        if index % 5 == 0:
            one, scores = grid.scores(index, train, test)
            np.testing.assert_array_equal(one, labels[index])
            expected = svc.decision_function(z[test])
            expected = np.stack([-expected, expected], 1) if expected.ndim == 1 else expected
            np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-9)


def test_svm_settings_are_the_thesis_grid():
    """Oracle: the thesis' table. γ 2⁻³ … 2⁻¹³ and 1/#features, C 0.1, 2, 8, 32, rbf and linear."""
    settings = make_grid("svm", *real()).settings
    gammas = [0.125, 0.03125, 0.0078125, 0.001953125, 0.00048828125, 0.0001220703125, "auto"]
    expected = [{"kernel": "rbf", "gamma": gamma, "C": C} for gamma in gammas for C in (0.1, 2, 8, 32)]
    assert list(settings) == expected + [{"kernel": "linear", "C": C} for C in (0.1, 2, 8, 32)]


@pytest.mark.parametrize("scaling", SCALINGS)
def test_knn_predicts_what_scikit_learn_does(scaling):
    """Oracle: KNeighborsClassifier by brute force; 100 neighbours of 90 training rows are all of them."""
    x, y = real(num_clips=112)
    x = x + 1e-3 * np.random.default_rng(0).normal(size=x.shape)  # no equal distances
    train, test = fold(112)
    grid = make_grid("knn", x, y, scaling=scaling)
    assert [setting["n_neighbors"] for setting in grid.settings] == [1, 3, 5, 10, 20, 30, 50, 100]
    z = scaled(x, train, scaling)
    for index, (setting, labels) in enumerate(zip(grid.settings, grid.predict(train, test), strict=True)):
        k = min(setting["n_neighbors"], len(train))
        knn = KNeighborsClassifier(k, algorithm="brute").fit(z[train], y[train])
        np.testing.assert_array_equal(labels, knn.predict(z[test]))
        np.testing.assert_allclose(grid.scores(index, train, test)[1], knn.predict_proba(z[test]), rtol=1e-15)
    assert [s["n_neighbors"] for s in make_grid("knn", x[:12], y[:12]).settings] == [1, 3, 5, 10]


def test_standardisation_is_scikit_learns():
    """Oracle: StandardScaler; a column of one value, whose mean rounds, is divided by 1."""
    x = real(load_wine)[0]
    scaler = StandardScaler().fit(x)
    np.testing.assert_allclose(standardisation(x), [scaler.mean_, scaler.scale_], rtol=1e-12)
    mean, deviation = standardisation(np.full((10, 1), 0.1))
    assert mean == 0.1 and deviation == 1
    rounding = 0.1 + np.spacing(0.1) * (np.arange(10) % 2)[:, None]
    assert standardisation(rounding)[1] == StandardScaler().fit(rounding).scale_ == 1


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", NAMES)
def test_the_fitted_classifier_predicts_the_same(name, scaling):
    """Oracle: the estimator of the same setting, itself tested against numpy or scikit-learn."""
    x, y = real()
    grid = make_grid(name, x, y, scaling=scaling, seed=2)
    train, test = fold(len(x))
    labels = grid.predict(train, test)
    for index in (0, len(grid.settings) // 2, len(grid.settings) - 1):
        fitted = grid.fit(index, train)
        assert isinstance(fitted, Scaled) == (scaling == "standard")
        np.testing.assert_array_equal(fitted.predict(x[test]), labels[index])


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", NAMES)
def test_answers_do_not_depend_on_what_was_asked(name, scaling):
    """Oracle: a fresh grid asked once; labels and scores equal to the bit, the x64 flag as before."""
    x, y = dead()
    folds = [fold(len(x), number) for number in range(3)]
    asked = make_grid(name, x, y, scaling=scaling)
    flag = jax.config.jax_enable_x64
    for train, test in [*folds[::-1], (folds[0][0][:80], folds[0][1])]:
        asked.predict(train, test)
    fresh = make_grid(name, x.copy(), y, scaling=scaling)
    np.testing.assert_array_equal(asked.predict(*folds[0]), fresh.predict(*folds[0]))
    for ours, theirs in zip(asked.scores(2, *folds[1]), fresh.scores(2, *folds[1]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(asked.scores(2, *folds[1])[0], asked.predict(*folds[1])[2])
    assert jax.config.jax_enable_x64 == flag


@pytest.mark.parametrize("name", NAMES)
def test_float32_features_are_their_float64_values(name):
    """Oracle: the same grid on the same values in float64."""
    x, y = real()
    x = (x + 0.1).astype(np.float32)
    train, test = fold(len(x))
    labels, scores = make_grid(name, x, y).scores(1, train, test)
    expected = make_grid(name, x.astype(np.float64), y).scores(1, train, test)
    np.testing.assert_array_equal(labels, expected[0])
    np.testing.assert_array_equal(scores, expected[1])


@pytest.mark.parametrize("missing", [1, 8])
@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_training_clips_is_never_predicted(name, missing):
    """Oracle: the estimator fitted to the remaining classes (8 of 10 missing: two are left)."""
    x, y = real()
    grid = make_grid(name, x, y)
    train, test = fold(len(x))
    train = train[~np.isin(y[train], grid.classes[-missing:])]
    for index in (0, len(grid.settings) - 1):
        labels, scores = grid.scores(index, train, test)
        fitted = grid.fit(index, train)
        np.testing.assert_array_equal(labels, fitted.predict(x[test]))
        np.testing.assert_array_equal(labels, grid.predict(train, test)[index])
        assert np.isfinite(scores).all() and scores.shape == (len(test), 10)
        assert (scores[:, -missing:] <= scores[:, :-missing].min(axis=1, keepdims=True)).all()


@pytest.mark.parametrize("scaling", SCALINGS)
def test_labels_of_test_clips_do_not_matter(scaling):
    """Oracle: the same grid with other labels on the clips outside the training set, to the bit."""
    x, y = dead()
    train, test = fold(len(x))
    other = y.copy()
    other[test] = np.roll(y[test], 3)
    for name in NAMES:
        one, two = (make_grid(name, x, labels, scaling=scaling).scores(1, train, test) for labels in (y, other))
        np.testing.assert_array_equal(one[1], two[1])


def test_one_compiled_program_for_all_folds():
    """Oracle: jax's count of compiled programs, before and after more folds of other lengths."""
    x, y = real(num_clips=60)
    grid = make_grid("elm", x, y)
    grid.predict(*fold(60))
    count = pseudo_inverse.fit_and_score._cache_size()
    for length in (20, 31, 44):
        grid.predict(fold(60, 1)[0][:length], fold(60, 1)[1])
    assert pseudo_inverse.fit_and_score._cache_size() == count


def test_refuses_bad_input():
    """Oracle: the contract, each message carries the name, the value and the remedy."""
    x, y = real()
    hole = x.copy()
    hole[5, 7], hole[9, 2] = np.nan, np.inf
    for args, options, message in (
        (("forest", x, y), {}, "classifier 'forest' is unknown; there are elm, elm_ridge, "),
        (("elm", x, y), {"scaling": "minmax"}, "scaling='minmax' is unknown; there are none, standard"),
        (("svm", hole, y), {}, r"2 values that are not finite, in 2 rows, first x\[5, 7\]=nan; leave these"),
        (("knn", x, y[:-1]), {}, r"x has shape \(150, 64\) and y \(149,\)"),
        (("elm", x, np.full(150, "waltz")), {}, "one class only, 'waltz'"),
        (("elm", x, np.linspace(0, 1, 150)), {}, "continuous"),
    ):
        with pytest.raises(ValueError, match=message):
            make_grid(*args, **options)
    grid = make_grid("svm", x, y)
    one = np.flatnonzero(y == "class 3")
    for train, test, message in (
        (one, [0], "train has one class only, 'class 3'"),
        ([0, 1, 2, 1], [3], "row 1 more than once"),
        ([0, 1, 150], [3], "indices 0…150; there are 150 rows"),
        ([0, 1, 2], [-1], "test has indices -1"),
        ([0, 1, 2], [], "give the indices"),
        (np.arange(150) < 100, [3], "train is bool"),
    ):
        with pytest.raises(ValueError, match=message):
            grid.predict(train, test)

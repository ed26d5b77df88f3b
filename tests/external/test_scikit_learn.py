"""scikit-learn's own checks on every estimator of mirjax.classifiers, and what its tools do with fitted ones."""

import functools
import importlib.util
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_diabetes, load_wine
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits


def _load_scorecard():
    """The module beside this one; this folder is no package."""
    place = Path(__file__).with_name("scikit_learn_scorecard.py")
    spec = importlib.util.spec_from_file_location("scikit_learn_scorecard", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


card = _load_scorecard()
COMMITTED = json.loads(card.CARD.read_text()) if card.CARD.exists() else {"estimators": {}}
INSTANCES = card.make_instances()
every_instance = pytest.mark.parametrize("name", INSTANCES)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """LAPACK on two threads is ten times slower while another process is busy."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(autouse=True)
def no_warnings():
    """Small networks do not converge and awkward tables lose digits; both are said, and tested elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_no_estimator_is_forgotten():
    """Oracle: the classes in the package's modules; each has an instance in the scorecard's table, or is abstract."""
    found = card.find_estimators()
    covered = {type(estimator).__name__ for estimator in INSTANCES.values()}
    forgotten = set(found) - covered - set(card.ABSTRACT)
    assert not forgotten, f"{sorted(forgotten)} have no instance in scikit_learn_scorecard.make_instances; add one each"
    gone = set(card.ABSTRACT) - set(found)
    assert not gone, f"{sorted(gone)} in ABSTRACT are no longer there; take them out"
    assert not covered & set(card.ABSTRACT)
    for name in card.ABSTRACT:
        bases = [value for other, value in found.items() if other in covered and issubclass(value, found[name])]
        assert bases, f"{name} is listed as abstract and nothing derives from it"


def test_the_card_is_of_these_instances():
    """Oracle: the table of instances; the committed card holds no other, and nothing that failed."""
    again = "run tests/external/scikit_learn_scorecard.py --write"
    assert set(COMMITTED["estimators"]) == set(INSTANCES), again
    assert not [name for name, line in COMMITTED["estimators"].items() if line["failed"]]
    excused = {check for line in COMMITTED["estimators"].values() for check in line["expected"]}
    assert excused <= {"check_sample_weight_equivalence_on_dense_data"}


@every_instance
def test_scikit_learns_checks(name):
    """Oracle: scikit-learn's own suite (check_estimator), and the committed card's counts for its version."""
    line = card.check(INSTANCES[name])
    assert not line["failed"], "\n".join(f"{check}: {message}" for check, message in line["failed"].items())
    committed = COMMITTED["estimators"].get(name)
    assert committed, "not in the card: run tests/external/scikit_learn_scorecard.py --write"
    if COMMITTED["scikit-learn"] != sklearn.__version__:
        warnings.warn(f"the card is of scikit-learn {COMMITTED['scikit-learn']}; counts not compared", stacklevel=1)
        return
    # What is skipped depends on what is installed (pandas) and set (SCIPY_ARRAY_API).
    count = line["passed"] + len(line["skipped"])
    assert count == committed["passed"] + len(committed["skipped"])
    assert line["expected"] == committed["expected"]


@functools.cache
def table(for_classifier):
    """Real rows, standardised: wine with labels of text, or diabetes."""
    x, y = (load_wine if for_classifier else load_diabetes)(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:120]
    x, y = StandardScaler().fit_transform(x[order]), y[order]
    return x, np.array(["cha-cha", "rumba", "waltz"])[y] if for_classifier else y / 100


def answers(fitted, x):
    """All that a fitted estimator says of rows."""
    methods = [name for name in ("predict", "decision_function", "predict_proba") if hasattr(fitted, name)]
    return {name: getattr(fitted, name)(x) for name in methods}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@every_instance
def test_copies_of_fitted_estimators(name):
    """Oracle: the fitted estimator before and after; its pickle, its clone fitted again, a Pipeline of it."""
    x, y = table(is_classifier(INSTANCES[name]))
    fitted = clone(INSTANCES[name]).fit(x[:80], y[:80])
    expected = answers(fitted, x[80:])
    if is_classifier(fitted):
        assert list(fitted.classes_) == ["cha-cha", "rumba", "waltz"]
        assert fitted.score(x[80:], y[80:]) >= 0.7
    assert_same(answers(pickle.loads(pickle.dumps(fitted)), x[80:]), expected)
    again = clone(fitted)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        again.predict(x[80:])
    assert_same(answers(again.fit(x[:80], y[:80]), x[80:]), expected)
    assert_same(answers(fitted, x[80:]), expected)
    scaler = StandardScaler().fit(x[:80])
    pipeline = make_pipeline(StandardScaler(), clone(fitted)).fit(x[:80], y[:80])
    expected = answers(clone(fitted).fit(scaler.transform(x[:80]), y[:80]), scaler.transform(x[80:]))
    assert_same(answers(pickle.loads(pickle.dumps(pipeline)), x[80:]), expected)


@every_instance
def test_selection_tools(name):
    """Oracle: the loop over folds written out, and the estimator fitted with the parameters that the search chose."""
    estimator = INSTANCES[name]
    x, y = table(is_classifier(estimator))
    folds = KFold(2)
    expected = np.empty_like(y)
    for train, test in folds.split(x):
        expected[test] = clone(estimator).fit(x[train], y[train]).predict(x[test])
    np.testing.assert_array_equal(cross_val_predict(estimator, x, y, cv=folds), expected)
    params = estimator.get_params()
    grid = {"random_state": [1, 2]} if "random_state" in params else {"C": [0.1, 1.0]} if "C" in params else None
    grid = grid or next({key: [1, 2]} for key in params if key.endswith(("n_neighbors", "__C", "__random_state")))
    search = GridSearchCV(estimator, grid, cv=folds, error_score="raise").fit(x, y)
    best = clone(estimator).set_params(**search.best_params_).fit(x, y)
    np.testing.assert_array_equal(search.predict(x), best.predict(x))


@every_instance
def test_dtype_and_output_settings_do_not_matter(name):
    """Oracle: the same values in float64; scikit-learn's output containers, which concern transformers only."""
    x, y = table(is_classifier(INSTANCES[name]))
    single = x.astype(np.float32)
    expected = answers(
        clone(INSTANCES[name]).fit(single.astype(np.float64)[:80], y[:80]), single[80:].astype(np.float64)
    )
    assert_same(answers(clone(INSTANCES[name]).fit(single[:80], y[:80]), single[80:]), expected)
    with sklearn.config_context(transform_output="pandas"):
        assert_same(answers(clone(INSTANCES[name]).fit(single[:80], y[:80]), single[80:]), expected)

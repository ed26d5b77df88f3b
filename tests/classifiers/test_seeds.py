"""Many seeds at once against scikit-learn's Ridge refits, seed by seed and fold by fold."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_wine
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from mirjax.classifiers import seeds as many
from mirjax.classifiers.hidden import draw_layer
from mirjax.classifiers.seeds import fit_seeds, held_out_scores, predict_seeds
from mirjax.classifiers.solvers import PrecisionWarning

SEEDS, RIDGES = [0, 7], [1e-6, 1e-3, 1.0]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """LAPACK on two threads is ten times slower while another process is busy."""
    with threadpool_limits(1, user_api="blas"):
        yield


def table(load=load_wine, num_clips=120, standardised=True):
    x, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:num_clips]
    x, y = x[order], y[order]
    if standardised:
        x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    return x, np.where(y[:, None] == np.unique(y), 1.0, -1.0)


def dead(num_clips=120, num_features=40, seed=0):
    """Averages of ReLU maps of an untrained network: non-negative, alike, tens in size, a fifth of them dead."""
    random = np.random.default_rng(seed)
    loudness = np.abs(random.normal(size=(num_clips, 8))) @ np.abs(random.normal(size=(8, num_features)))
    x = 7 * loudness * (1 + 0.2 * random.normal(size=loudness.shape)) - 5 * random.exponential(size=num_features)
    x[:, random.random(num_features) < 0.2] = 0
    return np.maximum(x, 0), random.choice([-1.0, 1.0], (num_clips, 2))


TABLES = {
    "wine": table(),
    "digits": table(load_digits),
    "digits raw": table(load_digits, standardised=False),
    "dead": dead(),
}


def uneven_folds(num_clips):
    """Five folds of very different sizes, in no order, with numbers that have gaps."""
    return np.random.default_rng(1).choice([-3, 0, 1, 4, 9], num_clips, p=[0.05, 0.1, 0.15, 0.3, 0.4])


def refits(x, targets, folds, seed, sizes, ridges, fit_intercept, **layer):
    """Scores [Z, R, M, K] of one Ridge fit for every size, ridge and fold."""
    hidden = draw_layer(x.shape[1], sizes[-1], seed, **layer)(x)
    gram = hidden - hidden.mean(0) * fit_intercept
    mean_diagonal = np.diag(gram.T @ gram).mean()
    scores = np.empty((len(sizes), len(ridges), *targets.shape))
    for z, h in enumerate(sizes):
        for r, ridge in enumerate(ridges):
            model = Ridge(ridge * mean_diagonal, fit_intercept=fit_intercept, solver="svd")
            for fold in np.unique(folds):
                test = folds == fold
                scores[z, r, test] = model.fit(hidden[~test, :h], targets[~test]).predict(hidden[test, :h])
    return scores


def error(ours, theirs):
    """Largest error of each setting [Z, R] relative to its largest score."""
    return np.abs(ours - theirs).max((-2, -1)) / np.abs(theirs).max((-2, -1))


@pytest.mark.parametrize("fit_intercept", [False, True], ids=["plain", "intercept"])
@pytest.mark.parametrize("name", TABLES)
def test_held_out_scores_are_those_of_refits(name, fit_intercept):
    """Oracle: sklearn.linear_model.Ridge (SVD) refitted for every seed, size, ridge and uneven fold; n = 120."""
    x, targets = TABLES[name]
    folds, sizes = uneven_folds(len(x)), [20, 100, 120, 250]
    scores = held_out_scores(x, targets, folds, SEEDS, hidden_units=sizes, ridges=RIDGES, fit_intercept=fit_intercept)
    assert scores.shape == (1, 2, 4, 3, *targets.shape)
    for s, seed in enumerate(SEEDS):
        expected = refits(x, targets, folds, seed, sizes, RIDGES, fit_intercept)
        # λ_max of the Gram matrix is at most its trace, H times the mean diagonal: eps · H / ridge, and 100 for care.
        bound = 1e2 * np.finfo(float).eps * (1 + np.array(sizes)[:, None] / np.array(RIDGES)[None, :])
        assert (error(scores[0, s], expected) <= bound).all()


@pytest.mark.parametrize("weights", ["orthogonal", "sparse", "uniform"])
def test_leave_one_out_with_other_layers(weights):
    """Oracle: sklearn.linear_model.Ridge refitted without each row."""
    x, targets = (part[:40] for part in TABLES["wine"])
    folds = np.arange(40)
    layer = {"weights": weights, "activation": "sine"}
    scores = held_out_scores(x, targets, folds, [3], hidden_units=[15, 60], ridges=[1e-2], fit_intercept=True, **layer)
    assert error(scores[0, 0], refits(x, targets, folds, 3, [15, 60], [1e-2], True, **layer)).max() <= 1e-11


def test_float32_where_it_can_be_trusted():
    """Oracle: sklearn.linear_model.Ridge refits in float64; standardised features, ridges of 1e-2 and above."""
    x, targets = TABLES["wine"]
    folds = uneven_folds(len(x))
    scores = held_out_scores(
        x, targets, folds, [0], hidden_units=[50, 250], ridges=[1e-2, 1.0], fit_intercept=True, dtype=np.float32
    )
    assert scores.dtype == np.float64
    assert (error(scores[0, 0], refits(x, targets, folds, 0, [50, 250], [1e-2, 1.0], True)) <= [[5e-3, 1e-4]] * 2).all()


def held_out_by_lstsq(hidden, targets, folds, penalty):
    """Scores of one least-squares solution of [H; √λ I] for every fold."""
    scores, eye = np.empty_like(targets), np.sqrt(penalty) * np.eye(hidden.shape[1])
    for fold in np.unique(folds):
        rows = np.concatenate([hidden[folds != fold], eye])
        right = np.concatenate([targets[folds != fold], np.zeros((len(eye), targets.shape[1]))])
        scores[folds == fold] = hidden[folds == fold] @ np.linalg.lstsq(rows, right)[0]
    return scores


@pytest.mark.parametrize("num_clips, hidden_units", [(24, 24), (120, 24), (120, 60), (120, 130), (60, 200)])
@pytest.mark.parametrize("name", ["wine", "shifted"])
def test_lost_digits_warn(name, hidden_units, num_clips):
    """Oracle: numpy.linalg.lstsq of [H; √λ I] for every fold; scores off by more than 1e-4 have warned, once a call."""
    x, targets = (part[:num_clips] for part in TABLES["wine"])
    x = x + 50 if name == "shifted" else x
    hidden, folds, asked = draw_layer(x.shape[1], hidden_units, 0)(x), np.arange(num_clips) % 6, 0
    for dtype, ridges, limit in ((np.float64, [1e-14, 1e-12, 1e-9, 1e-5], 1e-4), (np.float32, [1e-4, 1.0], 1e-2)):
        for ridge in ridges:
            with warnings.catch_warnings(record=True) as given:
                warnings.simplefilter("always")
                try:
                    scores = held_out_scores(
                        x, targets, folds, [0], hidden_units=hidden_units, ridges=[ridge], dtype=dtype
                    )[0, 0, 0, 0]
                except ValueError:  # no factorisation: nothing to warn of
                    continue
            penalty = ridge * (hidden**2).sum() / hidden_units
            off = np.abs(scores - held_out_by_lstsq(hidden, targets, folds, penalty)).max()
            assert [warning.category for warning in given] in ([], [PrecisionWarning])
            assert given or off <= limit
            assert not given or 1 + hidden_units / ridge >= limit / (10 * np.finfo(dtype).eps)
            asked += 1
    assert asked >= 4


def test_the_warning_names_the_worst():
    """Oracle: the contract; n = h = 24 leaves 4e-4 at a ridge of 1e-12, and 1e-2 is above suspicion."""
    x, targets = (part[:24] for part in TABLES["wine"])
    settings = {"folds": np.arange(24), "seeds": [3, 5], "hidden_units": 24}
    with pytest.warns(
        PrecisionWarning, match=r"held_out_scores: about .* of 4 .*ridge 1e-12, feature set 0, seed [35]"
    ):
        held_out_scores(x, targets, ridges=[1e-2, 1e-12], **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held_out_scores(x, targets, ridges=[1e-2], **settings)
    with pytest.warns(PrecisionWarning, match=r"fit_seeds: .*ridge 1e-05, .*seed [35].*or take dtype=float64"):
        fit_seeds(x, targets, [3, 5], hidden_units=24, ridge=1e-5, dtype=np.float32)


@pytest.mark.parametrize("fit_intercept", [False, True], ids=["plain", "intercept"])
@pytest.mark.parametrize("hidden_units", [40, 300])
def test_condition_numbers(hidden_units, fit_intercept):
    """Oracle: numpy.linalg.cond of the smaller regularised Gram matrix, within a factor of 2."""
    x, targets = TABLES["digits"]
    fitted = fit_seeds(x, targets, SEEDS, hidden_units=hidden_units, ridge=1e-4, fit_intercept=fit_intercept)
    for s, seed in enumerate(SEEDS):
        hidden = draw_layer(x.shape[1], hidden_units, seed)(x)
        hidden = hidden - hidden.mean(0) * fit_intercept
        small = hidden @ hidden.T if hidden_units > len(x) else hidden.T @ hidden
        expected = np.linalg.cond(small + 1e-4 * (hidden**2).sum() / hidden_units * np.eye(len(small)))
        assert expected / 2 <= fitted.condition_numbers[0, s] <= expected * (1 + 1e-6)


def test_feature_sets_of_several_widths():
    """Oracle: each feature set and seed by itself; columns of zeros are rounding at most."""
    targets, folds = TABLES["digits"][1], uneven_folds(120)
    sets = [TABLES["digits"][0], TABLES["digits"][0][:, 10:47], TABLES["dead"][0]]
    settings = {"hidden_units": [30, 200], "ridges": RIDGES}
    together = held_out_scores(sets, targets, folds, SEEDS, **settings)
    for a, x in enumerate(sets):
        for s, seed in enumerate(SEEDS):
            alone = held_out_scores(x, targets, folds, [seed], **settings)[0, 0]
            assert error(together[a, s], alone).max() <= 1e-9
    np.testing.assert_array_equal(
        held_out_scores(np.stack([sets[0]] * 2), targets, folds, SEEDS, **settings)[1], together[0]
    )


@pytest.mark.parametrize("memory", [1.0, 1.5, 3.2, np.inf])
def test_the_chunk_does_not_matter(memory):
    """Oracle: all seeds and sets in one chunk; on a CPU equal to the bit."""
    x, targets = TABLES["wine"]
    folds, seeds = uneven_folds(len(x)), [5, 1, 2, 8, 3]
    sets = np.stack([x, x**2, -x])
    settings = {"hidden_units": [50, 200], "ridges": RIDGES, "fit_intercept": True}
    counts = {"rows": 120, "features": 13, "sizes": (50, 200), "outputs": 3, "ridges": 3, "dtype": np.float64}
    one = many.chunk_bytes(1, **counts, fold=(5, np.unique(folds, return_counts=True)[1].max()))
    whole = held_out_scores(sets, targets, folds, seeds, **settings)
    np.testing.assert_array_equal(held_out_scores(sets, targets, folds, seeds, memory=memory * one, **settings), whole)


@pytest.mark.parametrize("hidden_units", [60, 200])
def test_the_vmapped_program_gives_the_same(hidden_units, monkeypatch):
    """Oracle: sklearn.linear_model.Ridge refits; the program of accelerators, run on the CPU (one size, so that no two
    batched LAPACK calls wait for each other)."""
    x, targets = TABLES["wine"]
    folds = np.arange(len(x))
    monkeypatch.setattr(many, "_vmapped", lambda: True)
    scores = held_out_scores(x, targets, folds, SEEDS, hidden_units=hidden_units, ridges=RIDGES)
    for s, seed in enumerate(SEEDS):
        expected = refits(x, targets, folds, seed, [hidden_units], RIDGES, False)
        assert (
            error(scores[0, s], expected) <= 1e2 * np.finfo(float).eps * (1 + hidden_units / np.array(RIDGES))
        ).all()


@pytest.mark.parametrize("fit_intercept", [False, True], ids=["plain", "intercept"])
@pytest.mark.parametrize("hidden_units", [40, 300])
@pytest.mark.parametrize("weights", ["normal", "whitened"])
def test_fitted_weights_are_ridges(weights, hidden_units, fit_intercept):
    """Oracle: sklearn.linear_model.Ridge (SVD) on the hidden layer of each seed and set, and its predictions."""
    x, targets = TABLES["digits"]
    sets, ridge = [x[:100], x[:100, 20:50]], 1e-2
    fitted = fit_seeds(
        sets, targets[:100], SEEDS, hidden_units=hidden_units, ridge=ridge, weights=weights, fit_intercept=fit_intercept
    )
    scores = predict_seeds(fitted, [x[100:], x[100:, 20:50]])
    for a, one in enumerate([x, x[:, 20:50]]):
        for s, seed in enumerate(SEEDS):
            layer = draw_layer(one.shape[1], hidden_units, seed, weights=weights, x=one[:100])
            np.testing.assert_array_equal(fitted.layers[a][s].weights, layer.weights)
            hidden = layer(one)
            gram = hidden[:100] - hidden[:100].mean(0) * fit_intercept
            model = Ridge(ridge * (gram**2).sum() / hidden_units, fit_intercept=fit_intercept, solver="svd")
            model.fit(hidden[:100], targets[:100])
            assert np.abs(fitted.output_weights[a, s].T - model.coef_).max() <= 1e-9 * np.abs(model.coef_).max()
            assert error(scores[a, s], model.predict(hidden[100:])) <= 1e-10


def test_the_peak_stays_within_memory():
    """Oracle: VmHWM of a process of its own; 60 seeds unchunked take 600 MB. Compilers and allocators take some too."""
    code = """
import numpy as np
from mirjax.classifiers import seeds
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
random = np.random.default_rng(0)
x, targets, folds = random.normal(size=(400, 300)), random.normal(size=(400, 4)), np.arange(400) % 5
settings = {"hidden_units": (100, 300, 1000), "ridges": (1e-2, 1.0)}
# A small table loads JAX and LAPACK.
seeds.held_out_scores(x[:60], targets[:60], folds[:60], [0], hidden_units=(10, 45, 100), ridges=(1e-2, 1.0))
before = peak()
scores = seeds.held_out_scores(x, targets, folds, range(60), memory=100 * 2**20, **settings)
print(peak() - before - scores.nbytes)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(run.stdout) <= (100 + 200) * 2**20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.ones(3)}, r"x has shape \[3\]"),
        ({"x": []}, r"x has feature sets of shapes \[\]"),
        ({"x": [np.ones((4, 2)), np.ones((5, 2))]}, r"shapes \[\(4, 2\), \(5, 2\)\]"),
        ({"x": np.full((4, 2), np.nan)}, "feature set 0 has NaN or infinite values, first in row 0"),
        ({"targets": np.ones(4)}, r"targets has shape \[4\]; expected \[4, K\]"),
        ({"targets": np.full((4, 1), np.inf)}, "targets has NaN or infinite"),
        ({"folds": [0.5, 1, 2, 3]}, r"folds float64\[4\] must be a whole number"),
        ({"folds": [1, 1, 1, 1]}, r"folds has one fold only, \[1\]"),
        ({"seeds": []}, r"seeds=\[\]"),
        ({"seeds": [-1]}, r"seeds=\[-1\]"),
        ({"hidden_units": [9, 3]}, r"hidden_units=\[9, 3\]"),
        ({"hidden_units": 2.5}, "hidden_units=2.5"),
        ({"ridges": [0.0]}, r"ridges=\[0.0\]"),
        ({"ridges": [np.nan]}, r"ridges=\[nan\]"),
        ({"memory": 0}, "memory=0 must be a number of bytes above 0"),
        ({"memory": np.nan}, "memory=nan must be a number of bytes above 0"),
        ({"memory": "1G"}, "memory='1G' must be a number of bytes above 0"),
        ({"ridges": ["small"]}, r"ridges=\['small'\] must be numbers above 0"),
        ({"hidden_units": "many"}, "hidden_units='many'"),
        ({"seeds": "zero"}, "seeds='zero'"),
        ({"dtype": "double precision"}, "dtype='double precision' must be float32 or float64"),
        ({"memory": 10}, "memory=10 bytes is less than the .* bytes that one seed takes"),
        ({"dtype": np.float16}, "must be float32 or float64"),
        ({"weights": "whitened"}, "weights='whitened' looks at the rows held out"),
        ({"weights": "orthagonal"}, "did you mean 'orthogonal'"),
        ({"activation": "grbf"}, "activation='grbf'"),
        ({"activation": "rellu"}, "did you mean 'relu'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_refuses_bad_input(changes, message):
    """Oracle: the contract; the message carries name, value and remedy."""
    good = {
        "x": np.eye(4),
        "targets": np.eye(4),
        "folds": [0, 0, 1, 1],
        "seeds": [0],
        "hidden_units": 5,
        "ridges": [1.0],
    }
    with pytest.raises(ValueError, match=message):
        held_out_scores(**(good | changes))


def test_refuses_a_ridge_that_float32_cannot_solve():
    """Oracle: the contract; raw features of rank below H have no factorisation in float32."""
    x, targets = TABLES["digits raw"]
    with pytest.raises(ValueError, match=r"ridge \[1e-12\] is too small .* float32.*float64"):
        held_out_scores(x, targets, uneven_folds(120), [0], hidden_units=110, ridges=[1e-12, 1.0], dtype=np.float32)


def test_refuses_other_feature_sets():
    """Oracle: the contract; widths of the fit and of the prediction are named."""
    fitted = fit_seeds(np.eye(4), np.eye(4), [0], hidden_units=5, ridge=1.0)
    with pytest.raises(ValueError, match=r"columns, fitted were \(4,\)"):
        predict_seeds(fitted, np.eye(3))

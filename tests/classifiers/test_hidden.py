"""Random hidden layers against numpy and scipy restatements, and the moments their distributions must have."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits, load_wine

from mirjax.classifiers import arithmetic, hidden
from mirjax.classifiers.arithmetic import double_precision
from mirjax.classifiers.hidden import ACTIVATIONS, HiddenLayer, draw_layer

KINDS = ("normal", "uniform", "orthogonal", "sparse", "whitened")

RESTATED = {
    "sine": np.sin,
    "tanh": np.tanh,
    "tribas": lambda a: np.clip(1 - np.abs(a), 0, 1),
    "inv_tribas": lambda a: np.clip(np.abs(a), 0, 1),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "hardlim": lambda a: np.where(a > 0, 1.0, 0.0),
    "softlim": lambda a: np.clip(a, 0, 1),
    "gaussian": lambda a: np.exp(-(a**2)),
    "multiquadric": lambda a: np.sqrt(1 + a**2),
    "inv_multiquadric": lambda a: 1 / np.sqrt(1 + a**2),
    "reclinear": lambda a: np.maximum(a, 0),
    "relu": lambda a: np.maximum(a, 0),
}


@functools.cache
def features(name="wine"):
    """Real features, standardised (wine, digits) or as they are (raw wine)."""
    x, _ = load_digits(return_X_y=True) if name == "digits" else load_wine(return_X_y=True)
    if name == "raw":
        return x
    deviation = x.std(0)
    return (x - x.mean(0)) / np.where(deviation > 0, deviation, 1)


def restated(layer, x):
    """The definition of the general random layer, in numpy and in float64, from the layer's arrays."""
    argument = 0
    if layer.weights is not None:
        argument = layer.alpha * (x @ layer.weights + layer.bias)
    if layer.centres is not None:
        distances = cdist(x, layer.centres) / layer.radii
        if layer.activation == "grbf":
            return np.exp(-(distances**layer.exponents))
        argument = argument + (1 - layer.alpha) * layer.rbf_width * distances
    return RESTATED[layer.activation](argument)


def test_names():
    """Oracle: the list in the released random layer."""
    assert set(ACTIVATIONS) == set(RESTATED) and len(RESTATED) == 12
    assert ACTIVATIONS["relu"] is ACTIVATIONS["reclinear"]


@pytest.mark.parametrize("name", RESTATED)
def test_activations_are_their_formulas(name):
    """Oracle: the formulas in numpy at longdouble, from 0 through moderate to large arguments of both signs."""
    sizes = np.concatenate([[0, 0.5, 1, 1 - 1e-9, 1 + 1e-9], np.geomspace(1e-12, 1e3, 101), [1e4]])
    a = np.concatenate([-sizes, sizes])
    with double_precision():
        found = np.asarray(ACTIVATIONS[name](jax.numpy.asarray(a)))
    assert found.dtype == np.float64
    with np.errstate(under="ignore", over="ignore"):
        expected = RESTATED[name](a.astype(np.longdouble)).astype(np.float64)
    np.testing.assert_allclose(found, expected, rtol=2e-15, atol=2e-16)


@pytest.mark.parametrize("name", sorted(set(RESTATED) - {"sine"}))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_of_huge_arguments(name, dtype):
    """Oracle: the limits of the formulas, without NaN, and without infinity below the largest number."""
    a = np.array([-np.inf, -1e30, 1e30, np.inf], dtype)
    limits = {
        "tanh": [-1, -1, 1, 1],
        "tribas": [0, 0, 0, 0],
        "inv_tribas": [1, 1, 1, 1],
        "sigmoid": [0, 0, 1, 1],
        "hardlim": [0, 0, 1, 1],
        "softlim": [0, 0, 1, 1],
        "gaussian": [0, 0, 0, 0],
        "multiquadric": [np.inf, 1e30, 1e30, np.inf],
        "inv_multiquadric": [0, 1e-30, 1e-30, 0],
        "reclinear": [0, 0, 1e30, np.inf],
        "relu": [0, 0, 1e30, np.inf],
    }
    with double_precision():
        found = np.asarray(ACTIVATIONS[name](jax.numpy.asarray(a)))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, np.array(limits[name]), rtol=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("activation", RESTATED)
def test_layer_is_the_general_random_layers(activation, alpha):
    """Oracle: the definition in numpy float64 on wine; to 1e-14 of the largest, hardlim's steps left out."""
    x = features()
    layer = draw_layer(13, 40, 0, activation=activation, alpha=alpha, rbf_width=0.3, x=x)
    found, expected = layer(x), restated(layer, x)
    assert found.dtype == np.float64 and found.shape == (len(x), 40)
    assert np.abs(found - expected).max() / np.abs(expected).max() <= 1e-14


def test_generalised_radial_basis():
    """Oracle: numpy, from the two conditions g(N) = 1 − λ and g(F) = λ that define τ and r."""
    x = features()
    layer = draw_layer(13, 40, 0, activation="grbf", alpha=0, x=x)
    found, expected = layer(x), restated(layer, x)
    assert np.abs(found - expected).max() <= 1e-14
    distances = np.sort(cdist(layer.centres, layer.centres), axis=1)
    at = np.exp(-((distances[:, [1, -1]] / layer.radii[:, None]) ** layer.exponents[:, None]))
    np.testing.assert_allclose(at, np.broadcast_to([1 - 1e-3, 1e-3], (40, 2)), rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_activations_in_float32(kind):
    """Oracle: numpy in float64; error against the largest, at most sums of D + 1 roundings of the terms."""
    x = features("digits")
    layer = draw_layer(64, 200, 0, weights=kind, x=x)
    found, expected = layer(x, np.float32), restated(layer, x)
    assert found.dtype == np.float32
    terms = np.abs(x) @ np.abs(layer.weights) + np.abs(layer.bias)
    assert (np.abs(found - expected) <= 4 * np.sqrt(64) * np.finfo(np.float32).eps * terms).all()
    assert np.abs(found - expected).max() / np.abs(expected).max() <= 1e-6


def test_distances_keep_their_digits_in_float32():
    """Oracle: numpy in float64, at rows a few last digits away from a centre: 1e-6 of each distance."""
    x = features() + 100.0
    layer = draw_layer(13, 20, 0, alpha=0.0, x=x)
    centres = layer.centres.astype(np.float32)
    near = centres * np.float32(1 + 1e-5)
    rounded = dataclasses.replace(layer, centres=centres.astype(float))
    expected = np.linalg.norm(near.astype(float) - centres, axis=1) / layer.radii
    np.testing.assert_allclose(np.diagonal(rounded(near, np.float32)), expected, rtol=1e-6)


def test_normal_draw_is_numpys():
    """Oracle: one draw of numpy's generator, a row a unit, the bias last: to the last bit."""
    drawn = np.random.default_rng(7).standard_normal((50, 14))
    layer = draw_layer(13, 50, 7)
    np.testing.assert_array_equal(layer.weights, drawn[:, :13].T)
    np.testing.assert_array_equal(layer.bias, drawn[:, 13])
    assert layer.centres is layer.radii is layer.exponents is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden_units", [1, 5, 13, 14, 150, 300])
def test_fewer_units_are_the_first_of_more(kind, hidden_units):
    """Oracle: the same draw of more units; to the last bit, whitened ones to rounding."""
    x = features()
    more, fewer = (draw_layer(13, h, 3, weights=kind, x=x) for h in (301, hidden_units))
    tolerance = {"rtol": 1e-12, "atol": 1e-13} if kind == "whitened" else {"rtol": 0}
    np.testing.assert_allclose(fewer.weights, more.weights[:, :hidden_units], **tolerance)
    np.testing.assert_allclose(fewer.bias, more.bias[:hidden_units], **tolerance)
    cut = more.first(hidden_units)
    np.testing.assert_array_equal(cut.weights, more.weights[:, :hidden_units])
    np.testing.assert_allclose(cut(x), more(x)[:, :hidden_units], rtol=1e-13, atol=1e-13)


def test_panels_do_not_change_the_basis():
    """Oracle: the same draw of more units, over the panels and blocks of a wide orthogonal layer: to the last bit."""
    more = draw_layer(300, 640, 1, weights="orthogonal")
    for hidden_units in (1, 127, 128, 129, 300, 301, 600):
        fewer = draw_layer(300, hidden_units, 1, weights="orthogonal")
        np.testing.assert_array_equal(fewer.weights, more.weights[:, :hidden_units])


def test_centres_are_nested_and_radii_the_full_layers():
    """Oracle: the same draw of more units."""
    x = features()
    more = draw_layer(13, 50, 3, alpha=0.5, x=x)
    fewer = draw_layer(13, 20, 3, alpha=0.5, x=x)
    np.testing.assert_array_equal(fewer.centres, more.centres[:20])
    np.testing.assert_array_equal(fewer.weights, more.weights[:, :20])
    np.testing.assert_array_equal(more.first(20).radii, more.radii[:20])
    np.testing.assert_allclose(more.radii, cdist(more.centres, more.centres).max() / 10, rtol=1e-15)
    np.testing.assert_allclose(fewer.radii, cdist(fewer.centres, fewer.centres).max() / np.sqrt(40), rtol=1e-15)


def test_centres_fill_the_bounding_box():
    """Oracle: the Kolmogorov-Smirnov test of scipy against the uniform distribution; rows of weight 0 do not count."""
    x = features()
    outlier = np.concatenate([x, np.full((1, 13), 1e6)])
    weight = np.r_[np.ones(len(x)), 0]
    layer = draw_layer(13, 4000, 0, alpha=0.0, x=outlier, sample_weight=weight)
    np.testing.assert_array_equal(layer.centres, draw_layer(13, 4000, 0, alpha=0.0, x=x).centres)
    places = (layer.centres - x.min(0)) / np.ptp(x, axis=0)
    assert places.min() >= 0 and places.max() <= 1
    assert min(stats.kstest(column, "uniform").pvalue for column in places.T) > 1e-3 / 13


@pytest.mark.parametrize("kind", KINDS)
def test_permuted_units_permute_the_activations(kind):
    """Oracle: the activations of the layer as drawn, their columns permuted."""
    x, order = features(), np.random.default_rng(0).permutation(60)
    layer = draw_layer(13, 60, 0, weights=kind, x=x)
    permuted = HiddenLayer(layer.weights[:, order], layer.bias[order])
    np.testing.assert_allclose(permuted(x), layer(x)[:, order], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind", ["normal", "uniform", "orthogonal", "sparse"])
def test_moments_of_the_draws(kind):
    """Oracle: mean 0 and the variance of each distribution, within 5 standard errors; biases N(0, 1), independent."""
    layer = draw_layer(20, 20_000, 0, weights=kind, density=0.25)
    variance, fourth = {"uniform": (1 / 3, 1 / 5), "sparse": (1, 3 * 4)}.get(kind, (1, 3))
    assert np.abs(layer.weights.mean(1)).max() <= 5 * np.sqrt(variance / 20_000)
    bound = 5 * np.sqrt((fourth - variance**2) / 20_000)
    assert np.abs((layer.weights**2).mean(1) - variance).max() <= bound
    assert np.abs((layer.weights**4).mean() - fourth) <= 0.1 * fourth
    assert stats.kstest(layer.bias, "norm").pvalue > 1e-3
    products = layer.weights * layer.bias / np.sqrt(variance)
    assert np.abs(products.mean(1)).max() <= 5 / np.sqrt(20_000)


def test_orthogonal_blocks():
    """Oracle: orthogonality by numpy to 1e-12 within blocks; lengths and entries by scipy's chi and normal."""
    num_features = 150
    layer = draw_layer(num_features, 20 * num_features + 7, 0, weights="orthogonal")
    lengths = np.linalg.norm(layer.weights, axis=0)
    directions = layer.weights / lengths
    for start in range(0, directions.shape[1], num_features):
        block = directions[:, start : start + num_features]
        assert np.abs(block.T @ block - np.eye(block.shape[1])).max() <= 1e-12
    assert np.abs(directions[:, :150].T @ directions[:, 150:300]).max() > 0.1
    expected = stats.chi(num_features)
    assert abs(lengths.mean() - expected.mean()) <= 5 * expected.std() / np.sqrt(len(lengths))
    assert stats.kstest(lengths, expected.cdf).pvalue > 1e-3
    assert stats.kstest(layer.weights[:, ::150].ravel(), "norm").pvalue > 1e-3
    assert stats.kstest(layer.weights[0], "norm").pvalue > 1e-3


@pytest.mark.parametrize("density, kept", [(1e-9, 1), (0.1, 2), (0.5, 10), (1.0, 20)])
def test_sparse_units_see_some_features(density, kept):
    """Oracle: counts by numpy, features alike by scipy's chi-square; at density 1 the normal layer."""
    layer = draw_layer(20, 3000, 0, weights="sparse", density=density)
    seen = layer.weights != 0
    assert (seen.sum(0) == kept).all()
    normal = draw_layer(20, 3000, 0).weights
    np.testing.assert_allclose(layer.weights[seen], (normal * np.sqrt(20 / kept))[seen], rtol=1e-15)
    if kept < 20:
        assert stats.chisquare(seen.sum(1)).pvalue > 1e-3


@pytest.mark.parametrize("name", ["wine", "raw", "digits"])
def test_whitened_arguments_have_unit_variance(name):
    """Oracle: numpy's weighted variance and mean of x·w over the training rows; digits have features without spread."""
    x = features(name)
    weight = np.random.default_rng(0).integers(0, 3, len(x)).astype(float)
    num_features = x.shape[1]
    layer = draw_layer(num_features, 100, 0, weights="whitened", x=x, sample_weight=weight)
    projected = x @ layer.weights
    np.testing.assert_allclose(np.cov(projected.T, aweights=weight, ddof=0).diagonal(), 1, rtol=1e-9)
    normal = np.random.default_rng(0).standard_normal((100, num_features + 1))[:, -1]
    mean = np.average(projected + layer.bias, axis=0, weights=weight)
    np.testing.assert_allclose(mean, normal, rtol=0, atol=1e-9)


def test_whitened_directions_are_isotropic():
    """Oracle: correlations of the arguments are the inner products of independent directions: variance 1/D."""
    x = features()
    layer = draw_layer(13, 400, 0, weights="whitened", x=x)
    correlations = np.corrcoef((x @ layer.weights).T)[np.triu_indices(400, 1)]
    assert abs(correlations.mean()) <= 0.01
    assert correlations.var() == pytest.approx(1 / 13, rel=0.05)


def test_whitening_weights_and_repeats_are_one():
    """Oracle: the layer of the table with rows repeated and left out."""
    x = features("raw")
    weight = np.random.default_rng(1).integers(0, 4, len(x))
    weighted = draw_layer(13, 50, 0, weights="whitened", x=x, sample_weight=weight)
    repeated = draw_layer(13, 50, 0, weights="whitened", x=np.repeat(x, weight, axis=0))
    np.testing.assert_allclose(weighted.weights, repeated.weights, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(weighted.bias, repeated.bias, rtol=1e-9, atol=1e-9)


def test_whitening_does_not_see_units_of_measurement():
    """Oracle: the activations before the features were scaled and shifted."""
    x = features("raw")
    scale, shift = np.geomspace(1e-6, 1e6, 13), np.linspace(-3, 3, 13)
    plain = draw_layer(13, 50, 0, weights="whitened", x=x)
    other = draw_layer(13, 50, 0, weights="whitened", x=(x + shift) * scale)
    np.testing.assert_allclose(other((x + shift) * scale), plain(x), rtol=0, atol=1e-8)


@pytest.mark.parametrize("unit", [1e160, 1e-170], ids=["large", "small"])
def test_whitening_of_features_whose_squares_are_no_numbers(unit):
    """Oracle: numpy's variance of x·w, which is 1 whatever the unit; one feature as it was beside them."""
    x = features() * np.r_[1, np.full(12, unit)]
    layer = draw_layer(13, 50, 0, weights="whitened", x=x)
    np.testing.assert_allclose((x @ layer.weights).var(0), 1, rtol=1e-9)


@pytest.mark.parametrize("unit", [1e140, 1e-130], ids=["large", "small"])
@pytest.mark.parametrize("activation", ["tanh", "grbf"])
def test_centres_do_not_see_units_of_measurement(activation, unit):
    """Oracle: numpy's restatement of the layer in the unit of the features as they were."""
    x = features()
    layer = draw_layer(13, 40, 0, alpha=0.0, activation=activation, x=x * unit)
    plain = dataclasses.replace(layer, centres=layer.centres / unit, radii=layer.radii / unit)
    np.testing.assert_allclose(layer(x * unit), restated(plain, x), rtol=1e-12, atol=1e-14)


def test_whitening_drops_directions_without_spread():
    """Oracle: copies, a sum and constants among the features leave the weights finite and variance 1."""
    x = features()
    x = np.concatenate([x, x[:, :2], x[:, :1] + x[:, 1:2], np.full((len(x), 1), 0.1)], axis=1)
    layer = draw_layer(17, 80, 0, weights="whitened", x=x)
    assert np.abs(layer.weights).max() < 100
    assert (layer.weights[-1] == 0).all()
    np.testing.assert_allclose((x @ layer.weights).var(0), 1, rtol=1e-9)


def test_chunks_of_rows_do_not_matter(monkeypatch):
    """Oracle: the same layer in one chunk; one row as the batch; no row at all."""
    x = features("digits")
    layer = draw_layer(64, 100, 0, alpha=0.7, x=x)
    whole = layer(x)
    monkeypatch.setattr(hidden, "CHUNK_BYTES", 8 * 100 * 300)
    np.testing.assert_allclose(layer(x), whole, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(layer(x[5:6]), whole[5:6], rtol=1e-13, atol=1e-13)
    assert layer(x[:0]).shape == (0, 100)


def test_apply_in_jit_and_vmap():
    """Oracle: the layer called by itself, three seeds at once."""
    x = features()
    layers = [draw_layer(13, 30, seed, alpha=0.5, x=x, activation="tanh") for seed in range(3)]
    with double_precision():
        params = jax.tree.map(lambda *leaves: np.stack(leaves), *(layer.params() for layer in layers))
        function = functools.partial(hidden.apply, **layers[0].settings)
        found = np.asarray(jax.jit(jax.vmap(function, (0, None)))(params, x))
    for layer, activations in zip(layers, found, strict=True):
        np.testing.assert_allclose(activations, layer(x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("settings", [{}, {"alpha": 0.3, "activation": "tanh"}, {"alpha": 0, "activation": "grbf"}])
def test_arrays_there_and_back(settings, tmp_path):
    """Oracle: the layer before it was written to a file of plain arrays."""
    x = features()
    layer = draw_layer(13, 30, 0, x=x, **settings)
    np.savez(tmp_path / "layer.npz", **layer.arrays(), something_else=np.zeros(3))
    with np.load(tmp_path / "layer.npz", allow_pickle=False) as stored:
        back = HiddenLayer.from_arrays(stored)
    assert back.settings == layer.settings
    np.testing.assert_array_equal(back(x), layer(x))
    assert (back.hidden_units, back.num_features) == (30, 13)


def test_seeds():
    """Oracle: a seed sequence is its number; other seeds draw otherwise; None draws anew."""
    one, same = draw_layer(13, 5, 4), draw_layer(13, 5, np.random.SeedSequence(4))
    np.testing.assert_array_equal(one.weights, same.weights)
    for kind in KINDS:
        drawn = [
            draw_layer(13, 5, seed, weights=kind, x=features()).weights for seed in (4, 5, None, None, np.int64(4))
        ]
        assert all((drawn[0] != other).any() for other in drawn[1:4]) and (drawn[2] != drawn[3]).any()
        np.testing.assert_array_equal(drawn[0], drawn[4])


X = np.arange(12.0).reshape(4, 3)
BAD = {
    "no units": ({"hidden_units": 0}, "hidden_units=0 must be a whole number of at least 1"),
    "half a unit": ({"hidden_units": 2.5}, "hidden_units=2.5"),
    "no features": ({"num_features": 0}, "num_features=0"),
    "misspelt activation": ({"activation": "reclinaer"}, "did you mean 'reclinear'"),
    "misspelt weights": ({"weights": "ortogonal"}, "did you mean 'orthogonal'"),
    "alpha": ({"alpha": 1.5}, r"alpha=1.5 must be in \[0, 1\]"),
    "alpha is NaN": ({"alpha": np.nan}, "alpha=nan"),
    "grbf with weights": ({"activation": "grbf"}, "set alpha=0"),
    "grbf of two": ({"activation": "grbf", "alpha": 0, "hidden_units": 2, "x": X}, "at least 3"),
    "one centre": ({"alpha": 0.5, "hidden_units": 1, "x": X}, "at least 2"),
    "weights without a part": ({"alpha": 0, "weights": "sparse", "x": X}, "have no part"),
    "rbf width": ({"rbf_width": 0}, "rbf_width=0"),
    "density": ({"weights": "sparse", "density": 0}, "density=0"),
    "whitened without x": ({"weights": "whitened"}, "weights='whitened' needs the training rows"),
    "centres without x": ({"alpha": 0.5}, "alpha=0.5 needs the training rows"),
    "width of x": ({"alpha": 0.5, "x": X[:, :2]}, r"x has shape \(4, 2\)"),
    "weights of rows": ({"alpha": 0.5, "x": X, "sample_weight": [1, 2]}, "sample_weight of shape"),
    "negative weights": ({"alpha": 0.5, "x": X, "sample_weight": [1, 2, -1, 1]}, "sample_weight of shape"),
    "no row counts": ({"alpha": 0.5, "x": X, "sample_weight": np.zeros(4)}, "no row of weight above 0"),
    "constant x, whitened": ({"weights": "whitened", "x": np.ones((4, 3))}, "constant in all features"),
    "constant x, centres": ({"alpha": 0.5, "x": np.ones((4, 3))}, "constant in all features"),
    "constant x, grbf": ({"alpha": 0, "activation": "grbf", "x": np.ones((4, 3))}, "rows that differ"),
    "NaN in x, centres": ({"alpha": 0.5, "x": np.where(X == 4, np.nan, X)}, r"x\[1, 1\] is nan"),
    "infinity in x, whitened": ({"weights": "whitened", "x": np.where(X == 4, np.inf, X)}, r"x\[1, 1\] is inf"),
    "infinite weights": ({"alpha": 0.5, "x": X, "sample_weight": [1, 1, 1, np.inf]}, "4 finite numbers"),
    "large x": ({"alpha": 0, "x": X * 1e160}, r"x spreads over 9.0e\+160.*standardise"),
    "small x": ({"alpha": 0.5, "x": X * 1e-170}, r"x spreads over 9.0e-170.*standardise"),
    "alpha is text": ({"alpha": "half"}, "alpha='half' must be a number"),
    "rbf width is text": ({"rbf_width": "1"}, "rbf_width='1' must be a number"),
    "density is text": ({"weights": "sparse", "density": "0.1"}, "density='0.1' must be a number"),
    "negative seed": ({"seed": -1}, "seed=-1 .random_state. must be a whole number of at least 0"),
    "half a seed": ({"seed": 1.5}, "seed=1.5 .random_state. must be a whole number"),
    "seed is text": ({"seed": "one"}, "seed='one' .random_state. must be a whole number"),
    "generator": ({"seed": np.random.default_rng(0)}, "another layer each time"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(case):
    """Oracle: the contract, the message carries name, value and remedy."""
    changed, message = BAD[case]
    arguments = {"num_features": 3, "hidden_units": 4, "seed": 0} | changed
    with pytest.raises(ValueError, match=message):
        draw_layer(arguments.pop("num_features"), arguments.pop("hidden_units"), arguments.pop("seed"), **arguments)


def test_layer_refuses_other_rows():
    """Oracle: the contract."""
    layer = draw_layer(3, 4, 0)
    with pytest.raises(ValueError, match=r"shape \(2, 5\), but the hidden layer takes \[M, 3\]"):
        layer(np.ones((2, 5)))
    with pytest.raises(ValueError, match="dtype=int32"):
        layer(X, np.int32)
    for hidden_units in (0, 5):
        with pytest.raises(ValueError, match=f"hidden_units={hidden_units} must be between 1 and the layer's 4"):
            layer.first(hidden_units)


def test_refuses_more_than_the_memory(monkeypatch):
    """Oracle: arithmetic: 2**27 + 1 rows of 8 bytes and a machine of 1 GiB."""
    monkeypatch.setattr(arithmetic, "physical_memory", lambda: 2.0**30)
    with pytest.raises(ValueError, match=r"hidden layer \[134217729, 4\] would take 4.0 GiB .* use fewer hidden_units"):
        draw_layer(3, 2**27 + 1, 0)
    layer = draw_layer(1, 2**10, 0)
    rows = np.broadcast_to(np.zeros((1, 1)), (2**17 + 1, 1))
    with pytest.raises(ValueError, match=r"hidden activations .* would take 1.0 GiB .*partial_fit"):
        layer(rows)

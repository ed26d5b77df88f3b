"""Max-pooling, and what is differentiated in another form than computed. Oracles: XLA's own derivatives, torch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from jax.test_util import check_grads

from mirjax.models import convolution, layers, pooling
from mirjax.models.pooling import ALL

HIGHEST = lax.Precision.HIGHEST


def stock_pool(x, window, stride=None):
    """`lax.reduce_window`, whose derivative is XLA's."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *(stride or window), 1), "VALID")


def stock_convolve(x, kernel, pads, stride=1):
    """One convolution, whose derivative is XLA's."""
    numbers = ("NWC", "WIO", "NWC") if x.ndim == 3 else ("NHWC", "HWIO", "NHWC")
    strides = (stride,) * (x.ndim - 2)
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=numbers, precision=HIGHEST)


def same(size):
    """Zeros before and after."""
    return (size - 1) // 2, size // 2


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def differences(found, wanted):
    """max|a − b| / max|b| of each array."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return [float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in pairs]


# ── the maximum ──


@pytest.mark.parametrize(
    ("shape", "window"),
    [((2, 8, 6, 3), (2, 2)), ((2, 9, 7, 3), (4, 3)), ((1, 5, 11, 2), (1, 11)), ((2, 10, 4), (3,)), ((2, 3, 4), (4,))],
)
def test_derivative_without_ties(shape, window):
    """Oracle: XLA's select-and-scatter, to the bit; values: `lax.reduce_window`. Incomplete windows are dropped."""
    x = draw(0, *shape)
    wanted, derivative = jax.vjp(lambda x: stock_pool(x, window), x)
    found, ours = jax.vjp(lambda x: pooling.pool(x, window), x)
    weights = draw(1, *wanted.shape)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(ours(weights)[0], derivative(weights)[0])


def test_first_of_equal_maxima():
    """Oracle: torch 2.13's max_pool2d and max_pool1d, frozen: of tied maxima the first, row by row, has all of it."""
    x = jnp.array([[0.0, 0, 1, 2, 2], [0, 0, 2, 1, 5], [3, 1, -1, -1, 9], [3, 3, -1, -1, 9], [7, 7, 7, 7, 7]])
    wanted = np.zeros((5, 5))
    wanted[0, 0], wanted[0, 3], wanted[2, 0], wanted[2, 2] = 1, 10, 100, 1000
    weights = jnp.array([[1.0, 10], [100, 1000]])
    found = jax.grad(lambda x: (pooling.pool(x[None, ..., None], (2, 2))[0, ..., 0] * weights).sum())(x)
    np.testing.assert_array_equal(found, wanted)
    line = jnp.array([4.0, 4, 4, 1, 2, 2, 8])
    found = jax.grad(lambda x: pooling.pool(x[None, :, None], (3,))[0, :, 0] @ jnp.array([1.0, 2]))(line)
    np.testing.assert_array_equal(found, [1, 0, 0, 0, 2, 0, 0])


@pytest.mark.parametrize("kind", ["silence", "rounded", "lowest"])
def test_ties_are_counted_once(kind):
    """Oracle: the sum: what comes in for a window goes out to it, in XLA's place."""
    x = {
        "silence": jnp.zeros((2, 8, 6, 3)),
        "rounded": jnp.round(draw(0, 2, 8, 6, 3)),
        "lowest": jnp.full((2, 8, 6, 3), -jnp.inf),
    }[kind]
    weights = draw(1, 2, 2, 3, 3)
    (found,) = jax.vjp(lambda x: pooling.pool(x, (4, 2)), x)[1](weights)
    np.testing.assert_allclose(found.reshape(2, 2, 4, 3, 2, 3).sum((2, 4)), weights, rtol=1e-6)
    if kind != "lowest":
        np.testing.assert_array_equal(found, jax.vjp(lambda x: stock_pool(x, (4, 2)), x)[1](weights)[0])


def test_all_orders_and_both_modes():
    """Oracle: finite differences in float64, forwards and backwards, first and second order."""
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), (2, 7, 4, 2))
        check_grads(lambda x: pooling.pool(x, (3, 2)) ** 3, (x,), order=2, modes=("fwd", "rev"))


def test_transformations():
    """Oracle: row by row without `vmap` and `jit`; in bfloat16 the same places are chosen."""

    def derivative(x):
        return jax.grad(lambda x: (pooling.pool(x, (2, ALL)) ** 2).sum())(x)

    x = jnp.round(4 * draw(0, 3, 2, 6, 5, 2)) / 4  # exact in bfloat16, with ties
    alone = jnp.stack([derivative(row) for row in x])
    np.testing.assert_array_equal(jax.jit(jax.vmap(derivative))(x), alone)
    narrow = jax.vmap(derivative)(x.astype(jnp.bfloat16))
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_array_equal(narrow.astype(jnp.float32), alone)


def test_overlapping_windows():
    """Oracle: finite differences in float64."""
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), (1, 7, 5, 2))
        check_grads(lambda x: pooling.pool(x, (3, 2), (2, 1)), (x,), order=1, modes=("rev",))


# ── the convolution of one channel ──


@pytest.mark.parametrize(
    ("kernel", "pads"),
    [((3, 9), ((1, 1), (0, 0))), ((10, 2), ((0, 0), (1, 0))), ((9, 9), ((4, 4), (4, 4))), ((1, 12), ((0, 2), (0, 0)))],
)
def test_convolution_of_one_channel(kernel, pads):
    """Oracle: XLA's derivatives with respect to the input, the kernel, and both, in float64; forwards too."""
    with jax.enable_x64(True):
        x, k = draw(0, 2, 14, 12, 1), draw(1, *kernel, 1, 5)

        def ours(x, k):
            return (convolution.convolve(x, k, (1, 1), pads) ** 2).sum()

        def stock(x, k):
            return (stock_convolve(x, k, pads) ** 2).sum()

        assert ours(x, k) == stock(x, k)
        for argnums in (0, 1, (0, 1)):
            found, wanted = (jax.jit(jax.grad(f, argnums))(x, k) for f in (ours, stock))
            assert max(differences(found, wanted)) <= 1e-13
        check_grads(ours, (x, k), order=2, modes=("fwd", "rev"))


def test_no_convolution_of_nothing():
    """Oracle: the program: a kernel's derivative alone convolves twice, as XLA's own does."""
    x, k = draw(0, 2, 14, 12, 1), draw(1, 1, 9, 1, 5)
    pads = ((0, 0), (0, 0))
    ours = jax.make_jaxpr(jax.grad(lambda k: (convolution.convolve(x, k, (1, 1), pads) ** 2).sum()))(k)
    stock = jax.make_jaxpr(jax.grad(lambda k: (stock_convolve(x, k, pads) ** 2).sum()))(k)
    assert str(ours).count("conv_general_dilated[") == str(stock).count("conv_general_dilated[") == 2


# ── the fast forms of `layers` ──


def _plain_conv1d(x, kernel, bias):
    return nn.relu(stock_convolve(x, kernel, [same(kernel.shape[0])]) + bias[None, None])


def _plain_vertical(x, kernel, bias):
    maps = stock_convolve(x[..., None], kernel, [same(kernel.shape[0]), (0, 0)])
    return nn.relu(maps + bias[None, None, None]).max(axis=2)


def _plain_conv1d_max(x, kernel, bias):
    return stock_pool(_plain_conv1d(x, kernel, bias), (3,))


def _plain_strided(x, kernel, bias):
    return nn.relu(stock_convolve(x[..., None], kernel, [(0, 0)], stride=4) + bias[None, None])


def _plain_stacks(x, first, second):
    maps = nn.relu(stock_convolve(x[..., None], first[0], [(0, 0)], stride=3) + first[1][None, None])
    return maps.mean(axis=1), _plain_conv1d_max(maps, *second)


def _plain_norm_max(x, kernel):
    maps = stock_convolve(x, kernel, [(1, 1), (1, 1)])
    mean, variance = (f(maps, axis=(0, 1, 2), keepdims=True) for f in (jnp.mean, jnp.var))
    return stock_pool((maps - mean) / jnp.sqrt(variance + 1e-3), (2, 3))


def _pair(seed, size, channels, n):
    return draw(seed, size, channels, n), draw(seed + 1, n)


FORMS = {
    "conv1d": (
        functools.partial(layers.conv1d, same=True),
        _plain_conv1d,
        lambda n: (draw(0, 2, 90, 3), *_pair(1, 7, 3, n)),
    ),
    "conv1d of one channel": (
        functools.partial(layers.conv1d, same=True),
        _plain_conv1d,
        lambda n: (draw(0, 2, 150, 1), *_pair(1, 20, 1, n)),
    ),
    "vertical": (
        functools.partial(layers.vertical_max, same_time=True),
        _plain_vertical,
        lambda n: (draw(0, 2, 60, 20), draw(1, 3, 18, 1, n), draw(2, n)),
    ),
    "vertical, many shifts": (
        functools.partial(layers.vertical_max, same_time=True),
        _plain_vertical,
        lambda n: (draw(0, 2, 60, 20), draw(1, 3, 6, 1, n), draw(2, n)),
    ),
    "vertical, whole": (
        functools.partial(layers.vertical_max, same_time=True),
        _plain_vertical,
        lambda n: (draw(0, 2, 60, 20), draw(1, 3, 20, 1, n), draw(2, n)),
    ),
    "conv1d_max": (
        functools.partial(layers.conv1d_max, pool=3),
        _plain_conv1d_max,
        lambda n: (draw(0, 2, 100, 4), *_pair(1, 3, 4, n)),
    ),
    "strided": (
        functools.partial(layers.strided_conv, stride=4),
        _plain_strided,
        lambda n: (draw(0, 2, 400), *_pair(1, 16, 1, n)),
    ),
    "stacks": (
        functools.partial(layers.sample_stacks, pool=3),
        _plain_stacks,
        lambda n: (draw(0, 2, 400), _pair(1, 3, 1, n), _pair(3, 3, n, n)),
    ),
    "norm": (
        functools.partial(layers.conv2d_norm_max, pool=(2, 3)),
        _plain_norm_max,
        lambda n: (draw(0, 3, 9, 8, 2), draw(1, 3, 3, 2, n)),
    ),
}


@pytest.mark.parametrize("n", [4, 33])
@pytest.mark.parametrize("form", FORMS)
def test_derivatives_of_fast_forms(form, n, monkeypatch):
    """Oracle: the definition written with XLA's operations, and their derivatives, in float64; no loop is left."""
    monkeypatch.setattr(layers, "_BLOCK_BYTES", 1)  # blocks of 16 steps
    fast, plain, inputs = FORMS[form]
    with jax.enable_x64(True):
        arguments = inputs(n)

        def loss(function, *arguments):
            values = function(*arguments)
            return sum((each**2).sum() for each in jax.tree.leaves(values)), values

        def run(function):
            return jax.jit(jax.grad(functools.partial(loss, function), tuple(range(len(arguments))), has_aux=True))

        assert max(differences(run(fast)(*arguments), run(plain)(*arguments))) <= 1e-12
        assert max(differences(jax.jit(fast)(*arguments), plain(*arguments))) <= 1e-12
        loops = ("while[", "scan[")
        assert any(loop in str(jax.make_jaxpr(fast)(*arguments)) for loop in loops)
        assert not any(loop in str(jax.make_jaxpr(run(fast))(*arguments)) for loop in loops)

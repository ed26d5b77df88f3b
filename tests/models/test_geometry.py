"""What layers do to time. Oracles: `jax.lax` shapes of the same layers, hand-worked cases."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mirjax.models import geometry
from mirjax.models.geometry import Window


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 2, "same"])
def test_steps_of_one_layer(size, stride, padding):
    """Oracle: the shape of `lax.conv_general_dilated`, for every length from the shortest on."""
    window = Window("conv", size, stride, padding)
    pads = "SAME" if padding == "same" else [(padding // 2, padding - padding // 2)]
    for steps in range(1, 24):
        shape = jax.eval_shape(
            lambda x: lax.conv_general_dilated(
                x, jnp.zeros((size, 1, 1)), (stride,), pads, dimension_numbers=("NWC", "WIO", "NWC")
            ),
            jax.ShapeDtypeStruct((1, steps, 1), jnp.float32),
        ).shape
        assert window.num_steps(steps) == shape[1]
        if shape[1]:
            assert window.least(shape[1]) <= steps
            assert window.num_steps(window.least(shape[1])) == shape[1]
    counted = np.array([window.num_steps(steps) for steps in range(1, 24)])
    assert (np.asarray(window.num_steps(jnp.arange(1, 24))) == counted).all()


def test_receptive_fields_by_hand():
    """Hand-worked: 3×3 convolutions and pools; a strided first layer; a global one."""
    conv, pool = Window("conv", 3, padding="same"), Window("pool", 2, 2)
    assert geometry.receptive_field([conv]) == 3
    assert geometry.receptive_field([conv, conv]) == 5
    assert geometry.receptive_field([conv, pool, conv]) == 3 + 1 + 2 * 2
    assert geometry.receptive_field([Window("frame", 512, 32), Window("extra", 7)]) == 512 + 6 * 32
    assert geometry.receptive_field([conv, geometry.everything("mean")]) == math.inf
    assert geometry.stride([Window("a", 3, 3), Window("b", 3), Window("c", 2, 2)]) == 6
    assert geometry.longest([(conv,), (conv, conv), (pool,)]) == (conv, conv)


@pytest.mark.parametrize("sizes", list(itertools.product((1, 3, 4), (1, 3), (1, 2, 5))))
def test_the_shortest_input_works_and_one_less_does_not(sizes):
    """Oracle: counting upwards from one step."""
    windows = (Window("a", sizes[0], 2), Window("b", sizes[1], 1, "same"), Window("c", sizes[2], 3, 1))
    works = next(steps for steps in range(1, 200) if geometry.num_steps(windows, steps) >= 1)
    assert geometry.shortest(windows) == works
    geometry.require(windows, works, "this")
    if works > 1:
        with pytest.raises(ValueError, match=rf"this needs at least {works} frames and got {works - 1}: "):
            geometry.require(windows, works - 1, "this")


def test_the_layer_that_runs_out_is_named():
    """Hand-worked: 10 steps leave 8 after a valid kernel of 3, and a pooling of 9 finds too few."""
    windows = (Window("conv1", 3), Window("the pooling after conv1", 9, 9))
    with pytest.raises(ValueError, match=r"at least 11 samples and got 10: the pooling after conv1 needs 9 .* has 8"):
        geometry.require(windows, 10, "net", "samples")

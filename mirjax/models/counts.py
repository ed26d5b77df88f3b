"""Sizes of a network, from shapes alone: parameters by the conventions of the literature, inputs, layers.

Names: `CONVENTIONS`, `input_spec`, `variable_shapes`, `count`, `num_features`, `receptive_field`, `Layer`, `layers_of`,
`parameters_of`.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from mirjax.models import geometry, layers
from mirjax.signal.representations import Waveform

CONVENTIONS = ("trainable", "total", "no batch norm")


def input_spec(model, steps: int | None = None) -> jax.ShapeDtypeStruct:
    """Shape of one clip's representation for a network: [1, T, F], [1, T, F, C] or [1, N].

    Args:
      model: a `taggers.Model`.
      steps: frames (or samples); the published input's when None, or the shortest that works.
    """
    least = max(geometry.shortest(model.windows), 1)
    steps = steps or getattr(model, "num_steps", None) or least
    representation = model.representation
    if isinstance(representation, Waveform):
        return jax.ShapeDtypeStruct((1, steps), jnp.result_type(float))
    channels = (representation.num_channels,) if representation.num_channels > 1 else ()
    return jax.ShapeDtypeStruct((1, steps, representation.num_bins, *channels), jnp.result_type(float))


@functools.lru_cache(maxsize=512)
def variable_shapes(model):
    """Shapes of the variables of a network: {"params": …} and, with batch norm, {"batch_stats": …}."""
    return {name: found for name, found in _init(model).items() if name in ("params", "batch_stats")}


def _init(model):
    """Shapes of all that initialising a network gives, its maps and features included."""
    return jax.eval_shape(functools.partial(model.init, method="embed"), jax.random.key(0), input_spec(model))


def count(model, convention: str = "trainable") -> int:
    """Parameters of a network.

    Args:
      model: a `taggers.Model`.
      convention: `trainable`: kernels, biases, scales and shifts of batch norm; `total`: with its running averages;
        `no batch norm`: without either.

    Raises:
      ValueError: an unknown convention.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention={convention!r} is not one of {', '.join(CONVENTIONS)}")
    shapes = variable_shapes(model)
    total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))
    averages = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.get("batch_stats", {})))
    # A scale and a shift go with every mean and variance.
    return total + {"trainable": 0, "total": averages, "no batch norm": -averages}[convention]


def num_features(model) -> int:
    """Length of the feature vector: channels of all maps in `feature_layers`."""
    found = jax.tree_util.tree_leaves_with_path(_init(model)["features"])
    sizes = {path[-1].key: leaf.shape[-1] for path, leaf in found}
    return sum(sizes[name] for name in model.feature_layers)


def receptive_field(model) -> float:
    """Frames (or samples) that one output sees; infinite for global, recurrent and attentive networks."""
    field = geometry.receptive_field(model.windows)
    return model.num_steps if model.fixed else field


@dataclasses.dataclass(frozen=True)
class Layer:
    """One exposed layer of a network.

    Attributes:
      name: of its map.
      shape: of the map, without the batch: (T, C), (T, F, C) or (C,).
      multiply_adds: of a clip, since the layer exposed before.
    """

    name: str
    shape: tuple[int, ...]
    multiply_adds: int


def layers_of(model, steps: int | None = None) -> list[Layer]:
    """Exposed layers of a network in the order of computation, then its outputs, for its published input or `steps`."""
    run = functools.partial(model.apply, method="embed", mutable=["maps", "features"])
    variables = variable_shapes(model)  # before counting: initialising traces the network too
    with layers.count_multiply_adds() as counted, layers.record_layers() as seen:
        outputs, _ = jax.eval_shape(run, variables, input_spec(model, steps))
    found, before = [], 0
    for name, shape, so_far in seen:
        found.append(Layer(name, shape[1:], so_far - before))
        before = so_far
    if sum(counted) > before:
        last = jax.tree.leaves(outputs.get("logits", outputs["embedding"]))[0]
        found.append(Layer("logits" if "logits" in outputs else "embedding", last.shape[1:], sum(counted) - before))
    return found


def parameters_of(model) -> list[tuple[str, tuple[int, ...]]]:
    """(path, shape) of all trainable parameters, in the order of their names."""
    leaves = jax.tree_util.tree_leaves_with_path(variable_shapes(model)["params"])
    return [("/".join(part.key for part in path), leaf.shape) for path, leaf in leaves]

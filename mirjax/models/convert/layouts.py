"""How frameworks lay out the weights of a layer, and the way from there to this project's layout.

This project: convolutions `kernel (kt, kf, in, out)` or `(k, in, out)`, dense `kernel (in, out)`, batch norm `scale`,
`bias` and, in `batch_stats`, `mean` and `var`; recurrent layers as in `mirjax.models.recurrent` (LSTM gates i, f, g, o;
GRU z, r, h̃). A convolution here is a correlation: the kernel is not flipped.

| source | convolution | dense | batch norm | LSTM, GRU |
|---|---|---|---|---|
| PyTorch | (out, in, k…) | (out, in) | weight, bias, running_mean, running_var | (G·H, in): ifgo; rzn; two biases |
| Keras 2, 3 | (k…, in, out) | (in, out) | gamma, beta, mean, var | (in, G·H): ifco; zrh; two biases if reset after |
| Keras 1, "tf" | (k…, in, out) | (in, out) | gamma, beta, mean, "std" | one W, U, b a gate: icfo; zrh |
| Keras 1, "th" | (out, in, k…) | (in, out) | the same | the same |
| TensorFlow 1 | (k…, in, out) | (in, out) | gamma, beta, moving_mean, moving_variance | – |

Theano convolves where the others correlate, so kernels trained on it are turned by 180° (`flipped`). Keras 1 calls its
fourth array of a batch norm running_std; from 1.0 on it holds the variance, Keras 0.x held the deviation
(`deviation`) [from the sources as remembered; checked on no file]. Keras 1's recurrent gates are hard sigmoids by
default, which no layout can carry.
Names: `Layer`, `from_torch`, `from_keras`, `from_tf`.
"""

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence

import numpy as np

from mirjax.models import weights

KINDS = ("conv", "dense", "batch_norm", "lstm", "gru")
_TORCH_GATES = {"lstm": "ifgo", "gru": "rzh"}
_KERAS_GATES = {"lstm": "ifgo", "gru": "zrh"}
_KERAS1_GATES = {"lstm": "igfo", "gru": "zrh"}
_OUR_GATES = {"lstm": "ifgo", "gru": "zrh"}


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of a plan.

    Attributes:
      kind: `conv`, `dense`, `batch_norm`, `lstm` or `gru`.
      theirs: its name in the source.
      ours: path of its module in the tree (`front_end/conv1_block`), or its map's name for recurrent layers
        (`back_end/recurrent1`; `_forward` and `_backward` are added).
      axes: of a convolution there: `tf` time first, `ft` frequency first, `t` one axis.
      flat: a kernel of two axes there that is one over time here, with bands and channels as channels.
      inputs: of a dense layer or a batch norm on a flattened map: axes there, their sizes, axes here, by letters:
        ("cft", (32, 6, 4), "tfc"); one size may be −1.
      directions: 2 for a bidirectional layer.
      two_biases: the recurrent layer here keeps the source's two biases; else they are added (impossible for a GRU
        that resets after the product).
    """

    kind: str
    theirs: str
    ours: str
    axes: str = "tf"
    flat: bool = False
    inputs: tuple[str, tuple[int, ...], str] | None = None
    directions: int = 1
    two_biases: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} of {self.theirs} is not one of {', '.join(KINDS)}")
        if self.axes not in ("tf", "ft", "t"):
            raise ValueError(f"axes={self.axes!r} of {self.theirs} is not one of tf, ft, t")


class _Source:
    """Arrays by name, of which every one must be used."""

    def __init__(self, arrays, what, ignore=()):
        self.arrays = arrays
        self.what = what
        self.left = {name for name in arrays if not any(fnmatch.fnmatch(name, pattern) for pattern in ignore)}

    def has(self, name):
        return name in self.arrays

    def take(self, *names):
        """The array that has one of these names."""
        for name in names:
            if name in self.arrays:
                self.left.discard(name)
                return self.arrays[name]
        near = ", ".join(sorted(self.left)[:8]) or "nothing"
        raise ValueError(f"{self.what} holds no {' or '.join(names)}; not used yet: {near}. Give another plan")

    def finish(self):
        if self.left:
            raise ValueError(
                f"{self.what} holds more than the plan asks for: {', '.join(sorted(self.left)[:8])}. Give another plan "
                "or leave those out"
            )


def _need(array, ndim, layer):
    array = np.asarray(array)
    if array.ndim != ndim:
        raise ValueError(f"{layer.theirs}: shape {array.shape} for a {layer.kind}; it must have {ndim} axes")
    return array.astype(np.float64 if array.dtype == np.float64 else np.float32)


def _kernel(array, layer, *, channels_first, flipped=False):
    """A convolution's kernel as (k…, in, out)."""
    kernel = np.asarray(array)
    if layer.axes == "t" and kernel.ndim == 4:  # Keras 1, either ordering: (k, 1, in, out)
        kernel, channels_first = kernel[:, 0], False
    kernel = _need(kernel, 2 + len(layer.axes), layer)
    if channels_first:
        kernel = np.moveaxis(kernel, (0, 1), (-1, -2))
    if flipped:
        kernel = np.flip(kernel, tuple(range(kernel.ndim - 2)))
    if layer.axes == "ft":
        kernel = kernel.swapaxes(0, 1)
    return kernel.reshape(kernel.shape[0], -1, kernel.shape[-1]) if layer.flat else kernel


def _rows(array, layer):
    """The first axis in our order."""
    if layer.inputs is None:
        return array
    theirs, sizes, ours = layer.inputs
    if sorted(theirs) != sorted(ours) or len(sizes) != len(theirs):
        raise ValueError(f"inputs={layer.inputs} of {layer.theirs}: the same letters twice, and a size for each")
    try:
        apart = array.reshape(*sizes, *array.shape[1:])
    except ValueError:
        raise ValueError(
            f"{layer.theirs} has {array.shape[0]} inputs, which do not split into {sizes} ({theirs})"
        ) from None
    order = [theirs.index(letter) for letter in ours]
    return apart.transpose(*order, *range(len(sizes), apart.ndim)).reshape(array.shape)


def _columns(parts, gates, kind):
    """Gates side by side in our order; `parts` in the source's."""
    return np.concatenate([parts[gates.index(gate)] for gate in _OUR_GATES[kind]], axis=-1)


class _Tree:
    """Our variables, as they fill up."""

    def __init__(self):
        self.arrays = {}

    def put(self, collection, path, **arrays):
        for name, array in arrays.items():
            key = f"{collection}/{path}/{name}"
            if key in self.arrays:
                raise ValueError(f"the plan fills {key} twice")
            self.arrays[key] = np.ascontiguousarray(array)

    def batch_norm(self, layer, gamma, beta, mean, variance):
        gamma, beta, mean, variance = (_rows(_need(a, 1, layer), layer) for a in (gamma, beta, mean, variance))
        self.put("params", layer.ours, scale=gamma, bias=beta)
        self.put("batch_stats", layer.ours, mean=mean, var=variance)

    def recurrent(self, layer, direction, kernel, recurrent_kernel, bias, recurrent_bias=None):
        path = f"{layer.ours}_{('forward', 'backward')[direction]}"
        if recurrent_bias is not None and not layer.two_biases:
            if layer.kind == "gru":
                raise ValueError(
                    f"{layer.theirs}: a GRU that resets after its product needs both biases; two_biases=True"
                )
            bias, recurrent_bias = bias + recurrent_bias, None
        if layer.two_biases:
            second = np.zeros_like(bias) if recurrent_bias is None else recurrent_bias
            self.put("params", path, recurrent_bias=second)
        self.put("params", path, kernel=kernel, recurrent_kernel=recurrent_kernel, bias=bias)

    def finish(self, model, what):
        variables = weights.unflatten(self.arrays)
        if model is not None:
            weights.check(variables, model, f"{what}, converted,")
        return variables


def from_torch(state: Mapping[str, np.ndarray], plan: Sequence[Layer], *, model=None) -> dict:
    """Variables of a PyTorch `state_dict`.

    Args:
      state: {name: array}, as `{name: value.numpy() for name, value in module.state_dict().items()}` gives it;
        `num_batches_tracked` is ignored.
      plan: where each module goes.
      model: the network to check the result against.

    Returns:
      {"params": …} and, with batch norm, {"batch_stats": …}.

    Raises:
      ValueError: an array that is missing, left over, or of another shape.
    """
    source, tree = _Source(state, "the state_dict", ("*num_batches_tracked",)), _Tree()
    for layer in plan:
        name = layer.theirs
        if layer.kind == "batch_norm":
            parts = ("weight", "bias", "running_mean", "running_var")
            tree.batch_norm(layer, *(source.take(f"{name}.{part}") for part in parts))
        elif layer.kind in _TORCH_GATES:
            number = "" if name.endswith(tuple("0123456789")) and "_l" in name else "_l0"
            name, _, level = f"{name}{number}".rpartition("_l")
            for direction in range(layer.directions):
                end = f"_l{level}" + ("_reverse" if direction else "")
                matrices = [_need(source.take(f"{name}.weight_{part}{end}"), 2, layer).T for part in ("ih", "hh")]
                biases = [_need(source.take(f"{name}.bias_{part}{end}"), 1, layer) for part in ("ih", "hh")]
                gates = _TORCH_GATES[layer.kind]
                arrays = [_columns(np.split(a, len(gates), axis=-1), gates, layer.kind) for a in (*matrices, *biases)]
                tree.recurrent(layer, direction, *arrays)
        else:
            weight = source.take(f"{name}.weight")
            if layer.kind == "dense":
                kernel = _rows(_need(weight, 2, layer).T, layer)
            else:
                kernel = _kernel(weight, layer, channels_first=True)
            tree.put("params", layer.ours, kernel=kernel)
            if source.has(f"{name}.bias"):
                tree.put("params", layer.ours, bias=_need(source.take(f"{name}.bias"), 1, layer))
    source.finish()
    return tree.finish(model, source.what)


def from_keras(
    layers: Mapping[str, Sequence[np.ndarray]],
    plan: Sequence[Layer],
    *,
    version: int = 2,
    ordering: str = "tf",
    flipped: bool = False,
    deviation: bool = False,
    model=None,
) -> dict:
    """Variables of Keras layers.

    Args:
      layers: {layer's name: its arrays in Keras' order}, as `{layer.name: layer.get_weights() for …}` gives it; of an
        HDF5 file of Keras 1: `{name: [group[w][()] for w in group.attrs["weight_names"]] for name, group in …}`.
      plan: where each layer goes.
      version: 1, or 2 for all later ones: recurrent layers, and the ordering, differ.
      ordering: of Keras 1: `th` for kernels (out, in, k…), `tf` for (k…, in, out). Later versions only have the second,
        whatever the `data_format`.
      flipped: kernels trained on Theano: turned by 180°.
      deviation: the last array of a batch norm is the standard deviation (Keras 0.x).
      model: the network to check the result against.

    Returns:
      {"params": …} and, with batch norm, {"batch_stats": …}.

    Raises:
      ValueError: a layer that is missing or left over, an array of another number or shape.
    """
    if version not in (1, 2) or ordering not in ("tf", "th") or (version == 2 and ordering == "th"):
        raise ValueError(f"version={version}, ordering={ordering!r}: give version 1 with tf or th, or 2 with tf")
    given = {name: arrays for name, arrays in layers.items() if len(arrays)}  # poolings have none
    source, tree = _Source(given, "the Keras file"), _Tree()
    for layer in plan:
        arrays = list(source.take(layer.theirs))
        if layer.kind == "batch_norm":
            _count(arrays, (4,), layer)
            *others, variance = arrays
            tree.batch_norm(layer, *others, np.square(variance) if deviation else variance)
        elif layer.kind in _KERAS_GATES:
            size, rest = divmod(len(arrays), layer.directions)
            wanted = 3 if version == 2 else 3 * len(_KERAS1_GATES[layer.kind])
            if rest or size != wanted:
                _count(arrays, (wanted * layer.directions,), layer)
            for direction in range(layer.directions):
                part = arrays[direction * size : (direction + 1) * size]
                read = _keras_recurrent if version == 2 else _keras1_recurrent
                tree.recurrent(layer, direction, *read(part, layer))
        else:
            _count(arrays, (1, 2), layer)
            if layer.kind == "dense":
                kernel = _rows(_need(arrays[0], 2, layer), layer)
            else:
                kernel = _kernel(arrays[0], layer, channels_first=ordering == "th", flipped=flipped)
            tree.put("params", layer.ours, kernel=kernel)
            for bias in arrays[1:]:
                tree.put("params", layer.ours, bias=_need(bias, 1, layer))
    source.finish()
    return tree.finish(model, source.what)


def _count(arrays, wanted, layer):
    if len(arrays) not in wanted:
        numbers = " or ".join(map(str, wanted))
        raise ValueError(f"{layer.theirs} has {len(arrays)} arrays; a {layer.kind} of this version has {numbers}")


def _keras_recurrent(arrays, layer):
    kernel, recurrent_kernel = (_need(a, 2, layer) for a in arrays[:2])
    biases = np.atleast_2d(arrays[2])  # [2, G·H] for a GRU that resets after the product
    gates = _KERAS_GATES[layer.kind]
    return [_columns(np.split(a, len(gates), axis=-1), gates, layer.kind) for a in (kernel, recurrent_kernel, *biases)]


def _keras1_recurrent(arrays, layer):
    gates = _KERAS1_GATES[layer.kind]
    return [
        _columns([_need(a, ndim, layer) for a in arrays[first::3]], gates, layer.kind)
        for first, ndim in ((0, 2), (1, 2), (2, 1))
    ]


def from_tf(
    variables: Mapping[str, np.ndarray],
    plan: Sequence[Layer],
    *,
    ignore: Sequence[str] = ("*Adam*", "*Momentum*", "*global_step*", "beta?_power", "*save_counter*"),
    model=None,
) -> dict:
    """Variables of a TensorFlow 1 checkpoint: `layers` (kernel, bias) and slim (weights, biases), batch norm of both.

    Args:
      variables: {name: array}; `reader = tf.train.load_checkpoint(path)` and
        `{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}` give it.
      plan: where each layer goes.
      ignore: patterns of names that the optimiser left.
      model: the network to check the result against.

    Returns:
      {"params": …} and, with batch norm, {"batch_stats": …}.

    Raises:
      ValueError: an array that is missing, left over, or of another shape; a recurrent layer.
    """
    source, tree = _Source(variables, "the checkpoint", tuple(ignore)), _Tree()
    for layer in plan:
        name = layer.theirs
        if layer.kind == "batch_norm":
            parts = ("gamma", "beta", "moving_mean", "moving_variance")
            tree.batch_norm(layer, *(source.take(f"{name}/{part}") for part in parts))
            continue
        if layer.kind in _OUR_GATES:
            raise ValueError(f"{name}: TensorFlow 1 has too many recurrent layouts; no converter reads them")
        weight = source.take(f"{name}/kernel", f"{name}/weights")
        if layer.kind == "dense":
            kernel = _rows(_need(weight, 2, layer), layer)
        else:
            kernel = _kernel(weight, layer, channels_first=False)
        tree.put("params", layer.ours, kernel=kernel)
        if source.has(f"{name}/bias") or source.has(f"{name}/biases"):
            tree.put("params", layer.ours, bias=_need(source.take(f"{name}/bias", f"{name}/biases"), 1, layer))
    source.finish()
    return tree.finish(model, source.what)

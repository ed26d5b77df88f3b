"""Building blocks of trained networks: convolution blocks written as data, batch normalisation, dense heads.

Arrays: maps `[B, T, C]` or `[B, T, F, C]`; kernels `(k…, in, out)`, shapes (time × frequency). Computation runs in the
dtype of the input (parameters are cast to it, so bfloat16 inputs compute in bfloat16), products at
`Precision.HIGHEST`; parameters are float32, or float64 under `jax_enable_x64`.

Variable length: `steps int32[B]` counts the real steps of each row. Blocks zero what lies beyond before they
convolve, so a padded clip gives what the clip alone gives; `None` means that every step is real.
A part's `windows` (`mirjax.models.geometry`) say what it does to time.
Names: `Norm`, `Conv`, `ConvBlock`, `Stack`, `Chain`, `BatchNorm`, `Dense`, `Head`, `mask_time`, `activation`, `pool`,
`initialiser`, `conv_windows`, `statistics_over`, `statistics_axis`, `ALL`, `ACTIVATIONS`.
"""

import contextlib
import contextvars
import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from mirjax.models import geometry, layers
from mirjax.models.convolution import convolve
from mirjax.models.geometry import Window
from mirjax.models.pooling import ALL, pool

_HIGHEST = lax.Precision.HIGHEST
_statistics_axis: contextvars.ContextVar = contextvars.ContextVar("statistics_axis", default=None)

# Rising functions, all of them: a maximum may be taken before or after.
ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": nn.relu,
    "elu": nn.elu,
    "tanh": nn.tanh,
    "sigmoid": nn.sigmoid,
    "hard_sigmoid": lambda x: jnp.clip(0.2 * x + 0.5, 0, 1),  # Keras 1's
    "leaky_relu_0.01": lambda x: nn.leaky_relu(x, 0.01),
    "leaky_relu_0.33": lambda x: nn.leaky_relu(x, 0.33),
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The function of that name in `ACTIVATIONS`.

    Raises:
      ValueError: an unknown name; lists the known ones.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name!r} is not one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def mask_time(x: jax.Array, steps: jax.Array | None, fill: float = 0.0) -> jax.Array:
    """x [B, T, …] with `fill` beyond the real steps int32[B] of each row; x itself when steps is None."""
    if steps is None:
        return x
    real = jnp.arange(x.shape[1])[None] < steps[:, None]
    return jnp.where(real.reshape(real.shape + (1,) * (x.ndim - 2)), x, jnp.asarray(fill, x.dtype))


# ── initialisers ──


def _scaled(kind, scale, fan):
    def draw(key, shape):
        receptive = math.prod(shape[:-2])
        fan_in, fan_out = receptive * shape[-2], receptive * shape[-1]
        variance = scale / {"in": fan_in, "average": (fan_in + fan_out) / 2}[fan]
        return layers.draw(key, shape, kind) * math.sqrt(variance)

    return draw


_INITIALISERS = {
    "he_truncated": layers.he_truncated,
    "he_normal": _scaled("normal", 2, "in"),
    "he_uniform": _scaled("uniform", 2, "in"),
    "lecun_uniform": _scaled("uniform", 1, "in"),
    "glorot_uniform": _scaled("uniform", 1, "average"),
    "normal_01": lambda key, shape: layers.draw(key, shape, "truncated") * (0.01 * layers.TRUNCATED_STD),
    "orthogonal": lambda key, shape: nn.initializers.orthogonal()(key, shape, jnp.result_type(float)),
    "torch": _scaled("uniform", 1 / 3, "in"),
}


def initialiser(name: str) -> Callable[[jax.Array, tuple[int, ...]], jax.Array]:
    """Initialiser of kernels `(k…, in, out)` by name: (key, shape) → f32[*shape].

    `he_truncated`, `he_normal`, `he_uniform` (variance 2 / fan-in), `lecun_uniform` (1 / fan-in; Lasagne's HeUniform),
    `glorot_uniform` (1 / mean of fan-in and fan-out), `normal_01` (N(0, 0.01) cut at ±0.02), `orthogonal`,
    `torch` (PyTorch's default: 1 / (3 fan-in), uniform).

    Raises:
      ValueError: an unknown name; lists the known ones.
    """
    if name not in _INITIALISERS:
        raise ValueError(f"initialiser {name!r} is not one of {', '.join(_INITIALISERS)}")
    return _INITIALISERS[name]


# ── normalisation ──


@contextlib.contextmanager
def statistics_over(axis_name: str | tuple[str, ...]):
    """Let batch statistics be those of all devices' rows, while a network is traced inside `pmap` or `shard_map`.

    Real positions are counted over all devices, however they are spread: as one device with the whole batch. Under
    `jit` a batch is one whatever devices share it, and nothing is needed.

    Args:
      axis_name: of the mapped axis (or axes).
    """
    token = _statistics_axis.set(axis_name)
    try:
        yield
    finally:
        _statistics_axis.reset(token)


def statistics_axis() -> str | tuple[str, ...] | None:
    """Of `statistics_over`, while it holds; for layers that take statistics of a batch in their own way."""
    return _statistics_axis.get()


@dataclasses.dataclass(frozen=True)
class Norm:
    """Settings of a batch normalisation.

    Attributes:
      epsilon: added to the variance: 1e-3 TensorFlow and Keras, 1e-4 Lasagne, 1e-5 PyTorch.
      momentum: new average = momentum · old + (1 − momentum) · batch.
      axis: axis with a scale and a shift for each position: −1 the channels; 1 the time steps (fixed length only);
        2 the bands of [B, T, F, …]; None one scale and one shift for the whole map.
      unbiased: the running variance follows the unbiased estimate of the batch's (PyTorch).
    """

    epsilon: float = 1e-3
    momentum: float = 0.99
    axis: int | None = -1
    unbiased: bool = False


class BatchNorm(nn.Module):
    """Batch normalisation by running averages, or with train=True by the batch: y = (x − μ) / √(σ² + ε) · γ + β.

    Padding steps do not count in the batch's statistics.

    Attributes:
      norm: settings.
      affine: learn γ and β; else they are 1 and 0.
    """

    norm: Norm = Norm()
    affine: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """x [B, …, C] → the same shape; collection `batch_stats` holds the running averages."""
        norm = self.norm
        axis = None if norm.axis is None else norm.axis % x.ndim
        shape = tuple(x.shape[i] if i == axis else 1 for i in range(x.ndim))
        size = math.prod(shape)
        scale, bias = jnp.ones(size), jnp.zeros(size)
        if self.affine:
            scale, bias = self.param("scale", lambda key: scale), self.param("bias", lambda key: bias)
        averages = [self.variable("batch_stats", "mean", jnp.zeros, size)]
        averages += [self.variable("batch_stats", "var", jnp.ones, size)]
        if train:
            moments = self._of_batch(x, tuple(i for i in range(x.ndim) if i != axis), steps)
            if not self.is_initializing():
                self._update(averages, moments)
            mean, variance = moments[:2]
        else:
            mean, variance = (average.value for average in averages)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        factor = scale * lax.rsqrt(variance.astype(scale.dtype) + norm.epsilon)
        mean, factor, bias = (each.astype(wide).reshape(shape) for each in (mean, factor, bias))
        return ((x.astype(wide) - mean) * factor + bias).astype(x.dtype)

    def _of_batch(self, x, others, steps):
        """Mean and variance over the other axes' real positions, and how many those are."""
        values, real, count = x.astype(jnp.promote_types(x.dtype, jnp.float32)), None, x.size // self._size(x, others)
        if steps is not None:
            real = (jnp.arange(x.shape[1])[None] < steps[:, None]).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
            real = jnp.broadcast_to(real, x.shape)
            count = real.sum() / self._size(x, others)
        if (axis := _statistics_axis.get()) is None:
            count = count if real is None else jnp.maximum(count, 1)
            return values.mean(others, where=real), values.var(others, where=real), count
        count = jnp.maximum(lax.psum(count, axis), 1).astype(values.dtype)
        mean = lax.psum(values.sum(others, keepdims=True, where=real), axis) / count
        variance = lax.psum(jnp.square(values - mean).sum(others, where=real), axis) / count
        return mean.reshape(variance.shape), variance, count

    @staticmethod
    def _size(x, others):
        return x.size // math.prod(x.shape[i] for i in others)

    def _update(self, averages, moments):
        mean, variance, count = moments
        if self.norm.unbiased:
            variance = variance * (count / jnp.maximum(count - 1, 1))
        keep = self.norm.momentum
        for average, batch in zip(averages, (mean, variance), strict=True):
            average.value = keep * average.value + (1 - keep) * batch.reshape(-1).astype(average.value.dtype)


# ── convolution blocks ──


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution block as data: convolution, [norm], activation, [norm], [pooling], [dropout], in this order.

    Attributes:
      filters: output channels.
      kernel: (kt,) for maps [B, T, C], (kt, kf) for [B, T, F, C]; ALL takes the whole axis.
      stride: steps from window to window, one for each axis of the kernel; 1 for all when empty.
      padding: "same" (as TensorFlow and JAX), "valid", or one of them or a pair (before, after) for each axis.
      activation: name in `ACTIVATIONS`.
      norm: batch normalisation, or None.
      norm_first: normalise before the activation (else after it).
      bias: False leaves the convolution's bias out.
      pool: pooling window, one size for each axis; ALL takes the whole axis; None does not pool.
      pool_stride: None: the window itself (incomplete windows are dropped).
      pool_kind: "max" or "mean".
      dropout: rate, after the pooling.
      init: name of an initialiser.
    """

    filters: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: str | tuple = "same"
    activation: str = "relu"
    norm: Norm | None = None
    norm_first: bool = False
    bias: bool = True
    pool: tuple[int, ...] | None = None
    pool_stride: tuple[int, ...] | None = None
    pool_kind: str = "max"
    dropout: float = 0.0
    init: str = "he_truncated"

    def __post_init__(self):
        activation(self.activation), initialiser(self.init)  # unknown names are refused here

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the convolution, one for each axis."""
        return self.stride or (1,) * len(self.kernel)

    def pads(self, sizes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Zeros (before, after) along each axis of an input of these sizes."""
        padding = self.padding if isinstance(self.padding, tuple) else (self.padding,) * len(self.kernel)
        kernel = self.whole_kernel(sizes)
        return tuple(_pads(*each) for each in zip(padding, kernel, self.strides, sizes, strict=True))

    def whole_kernel(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """The kernel's sizes with ALL replaced by the axis' length."""
        return tuple(size if k == ALL else k for k, size in zip(self.kernel, sizes, strict=True))


def _pads(padding, size, stride, length) -> tuple[int, int]:
    if padding == "same":
        surplus = max((-(-length // stride) - 1) * stride + size - length, 0)
        return surplus // 2, surplus - surplus // 2
    return (0, 0) if padding == "valid" else tuple(padding)


def conv_windows(specs: tuple[Conv, ...], names: tuple[str, ...] | None = None, *, axis: int = 0) -> tuple[Window, ...]:
    """What blocks one after the other do to time (axis 0) or frequency (axis 1)."""
    windows = []
    for i, spec in enumerate(specs):
        name = names[i] if names else f"conv{i + 1}"
        padding = spec.padding[axis] if isinstance(spec.padding, tuple) else spec.padding
        padding = padding if padding == "same" else 0 if padding == "valid" else sum(padding)
        size = math.inf if spec.kernel[axis] == ALL else spec.kernel[axis]
        windows.append(Window(name, size, spec.strides[axis], padding))
        if spec.pool and spec.pool[axis] != 1:
            size = math.inf if spec.pool[axis] == ALL else spec.pool[axis]
            step = 1 if math.isinf(size) else (spec.pool_stride or spec.pool)[axis]
            windows.append(Window(f"the pooling after {name}", size, step))
        elif spec.pool and spec.pool_stride and spec.pool_stride[axis] != 1:
            windows.append(Window(f"the pooling after {name}", 1, spec.pool_stride[axis]))
    return tuple(windows)


class ConvBlock(nn.Module):
    """One `Conv`.

    Attributes:
      spec: what to compute.
    """

    spec: Conv

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Map [B, T, C] or [B, T, F, C] → map after the block; `steps` counts the real steps of x."""
        spec = self.spec
        x = mask_time(x, steps)
        sizes = x.shape[1:-1]
        shape = (*spec.whole_kernel(sizes), x.shape[-1], spec.filters)
        kernel = self.param("kernel", initialiser(spec.init), shape).astype(x.dtype)
        x = convolve(x, kernel, spec.strides, spec.pads(sizes))
        layers.tally(math.prod(x.shape[1:-1]), kernel)
        if steps is not None:
            steps = conv_windows((dataclasses.replace(spec, pool=None),))[0].num_steps(steps)
        if spec.bias:
            bias = self.param("bias", lambda key, shape: jnp.zeros(shape), (spec.filters,))
            x = x + bias.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
        if spec.norm and spec.norm_first:
            x = BatchNorm(spec.norm, name="batch_norm")(x, train=train, steps=steps)
        # All activations rise, so they commute with the maximum; pooled first, they have less to do.
        early = spec.pool and spec.pool_kind == "max" and (spec.norm is None or spec.norm_first)
        if spec.activation != "linear":
            layers.units(x)
        if early:
            x = self._pool(x, steps)
        x = activation(spec.activation)(x)
        if spec.norm and not spec.norm_first:
            x = BatchNorm(spec.norm, name="batch_norm")(x, train=train, steps=steps)
        if spec.pool and not early:
            x = self._pool(x, steps)
        if spec.dropout:
            x = nn.Dropout(spec.dropout)(x, deterministic=not train)
        return x

    def _pool(self, x, steps):
        spec = self.spec
        if steps is not None and spec.pool[0] == ALL:
            if spec.pool_kind == "mean":
                raise ValueError("a mean over all of time within a block takes no padded clips; use a back-end's")
            x = mask_time(x, steps, -jnp.inf)
        return pool(x, spec.pool, spec.pool_stride, spec.pool_kind)


class Stack(nn.Module):
    """Convolution blocks one after the other: a front-end of any VGG-like or sample-level network.

    Takes spectrograms [B, T, F] or [B, T, F, C] with 2-D kernels, waveforms [B, N] or maps [B, T, C] with 1-D ones.

    Attributes:
      specs: the blocks.
      input_norm: batch normalisation of the input, or None.
      input_dropout: rate of the dropout on the input.
      names: of the maps; `conv1`, `conv2`, … when empty.
      features: names of the maps that make the features; all when empty.
      unit: of the input's steps, for error messages.
    """

    specs: tuple[Conv, ...]
    input_norm: Norm | None = None
    input_dropout: float = 0.0
    names: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    unit: str = "frames"

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names of all maps, in order."""
        return self.names or tuple(f"conv{i + 1}" for i in range(len(self.specs)))

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the maps that make the features, in order."""
        return self.features or self.layer_names

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the stack does to time."""
        return conv_windows(self.specs, self.layer_names)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Input → map [B, T', C] or [B, T', F', C].

        Raises:
          ValueError: an input too short, or with too few bands, for some layer.
        """
        dims = len(self.specs[0].kernel)
        while x.ndim < dims + 2:
            x = x[..., None]
        if x.ndim != dims + 2:
            raise ValueError(f"a map of shape {x.shape} for {dims}-D kernels; it must have {dims + 2} axes")
        geometry.require(self.windows, x.shape[1], "this stack", self.unit)
        if dims == 2:
            geometry.require(conv_windows(self.specs, self.layer_names, axis=1), x.shape[2], "this stack", "bands")
        if self.input_norm:
            x = BatchNorm(self.input_norm, name="input_norm")(x, train=train, steps=steps)
        if self.input_dropout:
            x = nn.Dropout(self.input_dropout)(x, deterministic=not train)
        for name, spec in zip(self.layer_names, self.specs, strict=True):
            x = ConvBlock(spec, name=f"{name}_block")(x, train=train, steps=steps)
            if steps is not None:
                steps = geometry.num_steps(conv_windows((spec,)), steps)
            layers.expose(self, name, x, steps=steps)
        return x


class Chain(nn.Module):
    """Parts one after the other, each fed with the map of the one before.

    Attributes:
      parts: modules.
      features: names of the maps that make the features; all the parts' when empty.
    """

    parts: tuple[nn.Module, ...]
    features: tuple[str, ...] = ()

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """Names of the maps that make the features, in order."""
        return self.features or tuple(name for part in self.parts for name in part.feature_layers)

    @property
    def masks(self) -> bool:
        """Whether every part masks padding."""
        return all(getattr(part, "masks", True) for part in self.parts)

    @property
    def windows(self) -> tuple[Window, ...]:
        """What the chain does to time."""
        return tuple(window for part in self.parts for window in part.windows)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None) -> jax.Array:
        """Input of the first part → output of the last one."""
        for part in self.parts:
            if steps is None:
                x = part(x, train=train)
            else:
                x = part(x, train=train, steps=steps)
                steps = geometry.num_steps(part.windows, steps)
        return x


# ── dense layers ──


class Dense(nn.Module):
    """Dense layer on the last axis: x [..., in] → [..., units].

    Attributes:
      units: outputs.
      bias: False leaves the bias out.
      kernel_init: name of an initialiser.
    """

    units: int
    bias: bool = True
    kernel_init: str = "glorot_uniform"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [..., in] → [..., units]."""
        kernel = self.param("kernel", initialiser(self.kernel_init), (x.shape[-1], self.units)).astype(x.dtype)
        layers.tally(math.prod(x.shape[1:-1]), kernel)
        y = jnp.matmul(x, kernel, precision=_HIGHEST)
        if self.bias:
            bias = self.param("bias", lambda key, shape: jnp.zeros(shape), (self.units,))
            y = y + bias.astype(x.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
        return y


class Head(nn.Module):
    """Dense layers on an embedding, or on every step of a sequence, that end in the logits.

    Each hidden layer: [dropout], dense, activation, [norm]; then [dropout] and the logits.

    Attributes:
      num_classes: outputs; 0: none, the last hidden layer is the embedding.
      hidden: units of the hidden layers.
      activation: of the hidden layers, a name in `ACTIVATIONS`.
      dropout: rate before every dense layer (one number), or one rate for each of them.
      input_norm: batch normalisation of the embedding, before all, or None.
      norm: batch normalisation after each hidden activation (`norm_first`: before it), or None.
      norm_first: normalise before the activation.
      bias: False leaves the hidden layers' biases out (not the output's).
      kernel_init: initialiser of the hidden layers.
      output_init: initialiser of the output layer.
    """

    num_classes: int
    hidden: tuple[int, ...] = ()
    activation: str = "relu"
    dropout: float | tuple[float, ...] = 0.0
    input_norm: Norm | None = None
    norm: Norm | None = None
    norm_first: bool = False
    bias: bool = True
    kernel_init: str = "glorot_uniform"
    output_init: str = "glorot_uniform"

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Names under which the hidden layers are exposed."""
        return tuple(f"dense{i + 1}" for i in range(len(self.hidden)))

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool = False, steps: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        """Embedding [B, D] or sequence [B, T, D] → (last hidden layer, logits [B, K] or [B, T, K])."""
        rates = self.dropout if isinstance(self.dropout, tuple) else (self.dropout,) * (len(self.hidden) + 1)
        norm = functools.partial(BatchNorm, self.norm)
        if self.input_norm:
            x = BatchNorm(self.input_norm, name="input_norm")(x, train=train, steps=steps)
        for i, (name, units) in enumerate(zip(self.layer_names, self.hidden, strict=True)):
            x = nn.Dropout(rates[i])(x, deterministic=not train)
            x = Dense(units, self.bias, self.kernel_init, name=f"{name}_layer")(x)
            if self.norm and self.norm_first:
                x = norm(name=f"{name}_norm")(x, train=train, steps=steps)
            x = activation(self.activation)(layers.units(x))
            if self.norm and not self.norm_first:
                x = norm(name=f"{name}_norm")(x, train=train, steps=steps)
            layers.expose(self, name, x, steps=steps if x.ndim > 2 else None)
        if not self.num_classes:
            return x, None
        dropped = nn.Dropout(rates[-1])(x, deterministic=not train)
        return x, Dense(self.num_classes, kernel_init=self.output_init, name="output")(dropped)

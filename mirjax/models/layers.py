"""Convolutions in the forms that are fast, behind weights in the canonical layout.

Arrays: maps `[B, T, C]` or `[B, T, F, C]`; kernels `(k…, in, out)` whatever form the computation takes; kernels are
written (time × frequency). All products run at `Precision.HIGHEST`, so CPU, GPU and TPU agree.

Three rewritings, all exact, decide the speed on a CPU: pooling comes before the (monotone) activation, so that XLA
fuses convolution and pooling and the unpooled map never exists; a kernel as tall as its input is a 1-D convolution
with the bands as channels; and a layer of few filters computes several frequency shifts at once as extra outputs.
Long maps are computed in blocks of time inside one loop, because buffers above some megabytes are paid for in
page faults. `benchmarks/random_features.py` measures them. They are for values: XLA differentiates convolutions within
a loop some forty times slower than outside of one, so derivatives are those of the plain form of the same sum (of few
filters: of the fast form, in one block), which then gives the values beside them too, to float32 rounding.

Names: `Weights`, `he_truncated`, `draw`, `conv1d`, `conv1d_max`, `conv2d_max`, `conv2d_norm_max`, `vertical_max`,
`strided_conv`, `sample_stacks`, `expose`, `mean_over_positions`, `tally`, `count_multiply_adds`,
`record_layers`, `units`, `record_units`.
"""

import contextlib
import contextvars
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from mirjax.models.convolution import convolve
from mirjax.models.pooling import max_pool

_HIGHEST = lax.Precision.HIGHEST
_BLOCK_BYTES = 4 << 20
_DRAW_BLOCK = 1 << 14
_FEW = 32  # filters; with fewer, extra outputs are worth their work
TRUNCATED_STD = 0.87962566103423978  # standard deviation of N(0, 1) truncated at ±2

_multiply_adds: contextvars.ContextVar[list | None] = contextvars.ContextVar("multiply_adds", default=None)
_exposed: contextvars.ContextVar[list | None] = contextvars.ContextVar("exposed", default=None)
_units: contextvars.ContextVar[list | None] = contextvars.ContextVar("units", default=None)


@contextlib.contextmanager
def count_multiply_adds():
    """Collect, while a network is traced, the multiply-adds of its convolutions as the literature defines them.

    Yields a list of integers, one per convolution and trace; the surplus work of the fast forms is not counted.
    """
    token = _multiply_adds.set([])
    try:
        yield _multiply_adds.get()
    finally:
        _multiply_adds.reset(token)


@contextlib.contextmanager
def record_layers():
    """Collect, while a network is traced, what it exposes: a list of (name, shape of the map, multiply-adds so far).

    Multiply-adds are told inside `count_multiply_adds`, and 0 outside of it.
    """
    token = _exposed.set([])
    try:
        yield _exposed.get()
    finally:
        _exposed.reset(token)


@contextlib.contextmanager
def record_units():
    """Collect, while a network is traced, what enters its activations, every position before any pooling.

    Yields a list of maps f[B, …]. Inside, layers compute in their plain forms, which hold these maps; values agree to
    rounding. The activations within recurrent layers and attention are not told.
    """
    token = _units.set([])
    try:
        yield _units.get()
    finally:
        _units.reset(token)


def units(x: jax.Array) -> jax.Array:
    """x itself, the input of an activation f[B, …], told inside `record_units`."""
    if (seen := _units.get()) is not None:
        seen.append(x)
    return x


def tally(num_positions: int, kernel: jax.Array | None = None) -> None:
    """Count multiply-adds of one clip: positions times the kernel's weights (or the whole number, without a kernel)."""
    if (counted := _multiply_adds.get()) is not None:
        counted.append(num_positions * (1 if kernel is None else math.prod(kernel.shape)))


@functools.partial(jax.jit, static_argnames=("num_blocks", "dtype", "kind"))
def _draw_blocks(key, *, num_blocks, dtype, kind="truncated"):
    draw = {
        "truncated": functools.partial(jax.random.truncated_normal, lower=-2, upper=2),
        "normal": jax.random.normal,
        "uniform": functools.partial(jax.random.uniform, minval=-1, maxval=1),
    }[kind]
    draw = functools.partial(draw, shape=(_DRAW_BLOCK,), dtype=dtype)
    return lax.map(draw, jax.random.split(key, num_blocks)).ravel()


def draw(key: jax.Array, shape: tuple[int, ...], kind: str) -> jax.Array:
    """Independent draws of mean 0 and variance 1: f32[*shape].

    Drawn in blocks of one size, so that all layers of all networks share one compiled sampler.

    Args:
      key: PRNG key.
      shape: of the result.
      kind: `truncated` (normal, cut at two of its own deviations), `normal` or `uniform`.
    """
    size = math.prod(shape)
    draws = _draw_blocks(key, num_blocks=-(-size // _DRAW_BLOCK), dtype=jnp.result_type(float), kind=kind)
    if not isinstance(draws, jax.core.Tracer):
        draws = np.asarray(draws)  # the same arithmetic, without a compilation for every shape
    deviation = {"truncated": TRUNCATED_STD, "normal": 1, "uniform": math.sqrt(1 / 3)}[kind]
    return jnp.asarray(draws[:size].reshape(shape) / draws.dtype.type(deviation))


def he_truncated(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """He-normal weights truncated at two standard deviations, fan-in scaled: f32[*shape].

    The distribution of `variance_scaling(2, "fan_in", "truncated_normal")`; drawn as in `draw`.
    """
    size, fan_in = math.prod(shape), math.prod(shape[:-1])
    draws = _draw_blocks(key, num_blocks=-(-size // _DRAW_BLOCK), dtype=jnp.result_type(float))
    if not isinstance(draws, jax.core.Tracer):
        draws = np.asarray(draws)  # the same arithmetic, without a compilation for every shape
    return jnp.asarray(draws[:size].reshape(shape) * draws.dtype.type(math.sqrt(2 / fan_in) / TRUNCATED_STD))


class Weights(nn.Module):
    """Kernel of the given canonical shape `(k…, in, out)` and a bias of zeros."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, dtype=None) -> tuple[jax.Array, jax.Array]:
        """Returns (kernel f32[*shape], bias f32[out]), cast to a dtype if one is given."""
        kernel = self.param("kernel", he_truncated, self.shape)
        bias = self.param("bias", lambda key, shape: jnp.zeros(shape), self.shape[-1:])
        return (kernel, bias) if dtype is None else (kernel.astype(dtype), bias.astype(dtype))


def expose(
    module: nn.Module,
    name: str,
    values: jax.Array,
    *,
    mean: jax.Array | None = None,
    steps: jax.Array | None = None,
) -> None:
    """Offer a layer's map by name.

    The map goes to the collection `maps` and its average over all positions to `features`; each is kept only when the
    caller makes that collection mutable.

    Args:
      module: the module that owns the map.
      name: the map's name.
      values: f32[B, T', C] or f32[B, T', F', C]; or f32[B, C], its own average.
      mean: f32[B, C] when the average is already known or is not the plain one.
      steps: int32[B], the real steps of each row, over which to average; all when None.
    """

    if (seen := _exposed.get()) is not None:
        seen.append((name, values.shape, sum(_multiply_adds.get() or ())))

    def last(_, new):
        return new

    def nothing():
        return None

    module.sow("maps", name, values, reduce_fn=last, init_fn=nothing)
    if module.is_mutable_collection("features"):
        averages = mean_over_positions(values, steps) if mean is None else mean
        module.sow("features", name, averages, reduce_fn=last, init_fn=nothing)


def mean_over_positions(values: jax.Array, steps: jax.Array | None = None) -> jax.Array:
    """Average of [B, T, C] or [B, T, F, C] over all positions, or over each row's first `steps` int32[B]: [B, C]."""
    axes = tuple(range(1, values.ndim - 1))
    if steps is None:
        return values.mean(axis=axes)
    real = (jnp.arange(values.shape[1])[None] < steps[:, None]).reshape(*values.shape[:2], *(1,) * (values.ndim - 2))
    count = jnp.maximum(steps, 1)[:, None] * math.prod(values.shape[2:-1])
    return jnp.where(real, values, 0).sum(axis=axes) / count.astype(values.dtype)


def _add(x, bias):
    return x + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _relu(x, bias):
    return nn.relu(units(_add(x, bias)))


def _relu_max(x, bias, pool):
    """ReLU(max + bias), pooled over `pool` positions of each axis."""
    if _units.get() is not None:
        units(_add(x, bias))
    return nn.relu(_add(max_pool(x, pool), bias))


def _same_padding(kernel_size: int) -> tuple[int, int]:
    return ((kernel_size - 1) // 2, kernel_size // 2)


def pad_time(x: jax.Array, before: int, after: int) -> jax.Array:
    """Zeros before and after the time axis of [B, T, …]."""
    return jnp.pad(x, ((0, 0), (before, after)) + ((0, 0),) * (x.ndim - 2))


def _differentiated_as(plain, few_in_one_block=False):
    """Decorates a fast form f(*arrays, **settings): its values without derivatives; with them, all is `plain`'s.

    Inside `record_units` all is `plain`'s too.

    `few_in_one_block`: with few filters (arrays[1] is the kernel) f(…, blocked=False) takes the place of `plain`.
    """

    def decorate(fast):
        def call(*arrays, **settings):
            if _units.get() is not None:
                return plain(*arrays, **settings)
            few = few_in_one_block and arrays[1].shape[-1] < _FEW
            form = functools.partial(fast, blocked=False, **settings) if few else functools.partial(plain, **settings)
            values = jax.custom_jvp(functools.partial(fast, **settings))
            values.defjvp(lambda primals, tangents: jax.jvp(form, primals, tangents))
            return values(*arrays)

        return functools.wraps(fast)(call)

    return decorate


def in_time_blocks(
    function, x: jax.Array, *, num_steps: int, stride: int, reach: int, step_bytes: int, blocked: bool = True
):
    """Compute `num_steps` output steps in blocks, each from the inputs it reaches.

    Args:
      function: f32[B, (b − 1)·stride + reach, …] → f32[B, b, C].
      x: f32[B, T, …], T ≥ (num_steps − 1)·stride + reach.
      num_steps: output steps.
      stride: input steps between two output steps.
      reach: input steps of one output step.
      step_bytes: memory of one output step's intermediate values, for the size of a block.
      blocked: False makes one block of all.

    Returns:
      f32[B, num_steps, C].
    """
    num_blocks = -(-num_steps // max(16, _BLOCK_BYTES // max(1, step_bytes)))
    if num_blocks == 1 or not blocked:
        return function(x[:, : (num_steps - 1) * stride + reach])
    block = -(-num_steps // num_blocks)  # even: the steps computed twice are fewer than the blocks
    span = (block - 1) * stride + reach
    first = jax.eval_shape(function, jax.ShapeDtypeStruct((x.shape[0], span, *x.shape[2:]), x.dtype))
    output = jnp.zeros((x.shape[0], num_steps, *first.shape[2:]), first.dtype)

    def fill(i, output):
        # The last block is moved back to end with the map: some steps are computed twice, and nothing is padded.
        start = jnp.minimum(i * block, num_steps - block)
        part = lax.dynamic_slice_in_dim(x, start * stride, span, axis=1)
        return lax.dynamic_update_slice_in_dim(output, function(part), start, axis=1)

    return lax.fori_loop(0, num_blocks, fill, output)


def _convolve1d(x, kernel, stride=1):
    return lax.conv_general_dilated(
        x, kernel, (stride,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"), precision=_HIGHEST
    )


def _convolve2d(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=_HIGHEST
    )


def _repeat_kernel(kernel, count):
    """The kernel that gives `count` neighbouring steps at once: (k, C, n) → (k + count − 1, C, count · n)."""
    size, channels, num_filters = kernel.shape
    shifted = [jnp.pad(kernel, ((i, count - 1 - i), (0, 0), (0, 0))) for i in range(count)]
    return jnp.stack(shifted, axis=2).reshape(size + count - 1, channels, count * num_filters)


@_differentiated_as(lambda x, kernel, bias: _relu(_convolve1d(x, kernel), bias), few_in_one_block=True)
def _convolve_in_groups(x, kernel, bias, *, blocked=True):
    """Valid 1-D convolution and ReLU; few filters: neighbouring steps as extra outputs, of which 64 fill a core."""
    size, channels, num_filters = kernel.shape
    num_steps = x.shape[1] - size + 1
    # One channel reads its inputs as a matrix of windows, which grouping makes smaller: worth it up to 256 filters.
    enough = 4 if channels == 1 and num_filters < 256 else -(-64 // num_filters)
    group = min(enough, -(-size // 2))
    groups = -(-num_steps // group)
    reach = size + group - 1
    wide = _repeat_kernel(kernel, group)
    x = pad_time(x, 0, groups * group - num_steps)

    def convolve(part):
        if channels > 1:
            maps = _convolve1d(part, wide, group)
        else:
            starts = group * jnp.arange((part.shape[1] - reach) // group + 1)
            windows = jax.vmap(lambda i: lax.dynamic_slice_in_dim(part[..., 0], i, reach, axis=1), out_axes=1)
            maps = jnp.matmul(windows(starts), wide[:, 0], precision=_HIGHEST)
        return _relu(maps.reshape(*maps.shape[:2], group, num_filters), bias)

    step_bytes = 4 * x.shape[0] * (group * num_filters + (group * channels if channels > 1 else reach))
    maps = in_time_blocks(
        convolve, x, num_steps=groups, stride=group, reach=reach, step_bytes=step_bytes, blocked=blocked
    )
    return maps.reshape(x.shape[0], groups * group, num_filters)[:, :num_steps]


def conv1d(x: jax.Array, kernel: jax.Array, bias: jax.Array, *, same: bool = False) -> jax.Array:
    """1-D convolution over time, stride 1, and ReLU: f32[B, T, C] → f32[B, T', n]; kernel (k, C, n)."""
    if same:
        x = pad_time(x, *_same_padding(kernel.shape[0]))
    tally(x.shape[1] - kernel.shape[0] + 1, kernel)
    return _convolve_in_groups(x, kernel, bias)


def strided_conv(x: jax.Array, kernel: jax.Array, bias: jax.Array, *, stride: int, same: bool = False) -> jax.Array:
    """Strided convolution of a waveform, and ReLU: f32[B, N] → f32[B, T', n]; kernel (k, 1, n).

    With a stride that divides the kernel length the samples of one stride become channels, so that neighbouring frames
    share their multiplications' inputs. `same` pads as TensorFlow and JAX do.
    """
    size, _, num_filters = kernel.shape
    num_samples = x.shape[1]
    if same:
        num_steps = -(-num_samples // stride)
        surplus = max((num_steps - 1) * stride + size - num_samples, 0)
        x = pad_time(x, surplus // 2, surplus - surplus // 2)
    else:
        num_steps = (num_samples - size) // stride + 1
    tally(num_steps, kernel)
    used = (num_steps - 1) * stride + size
    x = x[:, :used].reshape(x.shape[0], used // stride, stride)
    return _convolve_in_groups(x, kernel.reshape(size // stride, stride, num_filters), bias)


def conv1d_max(x: jax.Array, kernel: jax.Array, bias: jax.Array, *, pool: int) -> jax.Array:
    """`same` 1-D convolution, ReLU, max-pooling over `pool` steps: f32[B, T, C] → f32[B, T // pool, n].

    Few filters: the outputs of one pooling window are computed together from the inputs they share.
    """
    tally(x.shape[1], kernel)
    return _conv1d_max(pad_time(x, *_same_padding(kernel.shape[0])), kernel, bias, pool=pool)


@_differentiated_as(lambda x, kernel, bias, *, pool: _relu_max(_convolve1d(x, kernel), bias, (pool,)))
def _conv1d_max(x, kernel, bias, *, pool):
    size, _, num_filters = kernel.shape
    num_steps = (x.shape[1] - size + 1) // pool
    reach = pool + size - 1

    if num_filters < 64:
        wide = _repeat_kernel(kernel, pool)

        def convolve(part):
            maps = _convolve1d(part, wide, pool)
            return _relu(maps.reshape(*maps.shape[:2], pool, num_filters).max(axis=2), bias)
    else:

        def convolve(part):
            return _relu_max(_convolve1d(part, kernel), bias, (pool,))

    step_bytes = 4 * x.shape[0] * pool * num_filters
    return in_time_blocks(convolve, x, num_steps=num_steps, stride=pool, reach=reach, step_bytes=step_bytes)


def conv2d_max(x: jax.Array, kernel: jax.Array, bias: jax.Array, *, pool: tuple[int, int]) -> jax.Array:
    """`same` 2-D convolution, then max-pooling, no activation: f32[B, T, F, C] → f32[B, T // pool₀, F // pool₁, n]."""
    tally(x.shape[1] * x.shape[2], kernel)
    maps = _convolve2d(x, kernel)
    if _units.get() is not None:
        units(_add(maps, bias))
    return _add(max_pool(maps, pool), bias)


def conv2d_norm_max(
    x: jax.Array, kernel: jax.Array, *, pool: tuple[int, int], epsilon: float = 1e-3, axis_name=None
) -> jax.Array:
    """`same` 2-D convolution, batch normalisation by the batch at hand, max-pooling, before the activation.

    y = (x∗k − μ) / √(σ² + ε), with μ and the population variance σ² of x∗k itself per channel over batch, time and
    frequency; scale 1 and shift 0, as at initialisation. A bias would cancel. Normalisation is increasing, so pooling
    comes before it and the unpooled map exists for one clip at a time, however big the batch.

    Args:
      x: f32[B, T, F, C]; every row counts in the statistics.
      kernel: f32[kt, kf, C, n].
      pool: pooling window.
      epsilon: ε.
      axis_name: of a mapped axis whose devices hold equal shares of the batch (`blocks.statistics_axis`), or None.

    Returns:
      y f32[B, T // pool₀, F // pool₁, n].
    """
    tally(x.shape[1] * x.shape[2], kernel)
    pooled, mean, variance = _conv2d_moments(x, kernel, pool=pool)
    if axis_name is not None:
        own, mean = mean, lax.pmean(mean, axis_name)
        variance = lax.pmean(variance + jnp.square(own - mean), axis_name)  # within the shares, and between them
    if _units.get() is not None:
        units(_add(_convolve2d(x, kernel), -mean))
    return _add(pooled, -mean) * lax.rsqrt(variance + epsilon).reshape(1, 1, 1, -1)


def _conv2d_moments_plain(x, kernel, *, pool):
    maps = _convolve2d(x, kernel)
    return max_pool(maps, pool), maps.mean(axis=(0, 1, 2)), maps.var(axis=(0, 1, 2))


@_differentiated_as(_conv2d_moments_plain)
def _conv2d_moments(x, kernel, *, pool):
    """Pooled maps, and mean and variance of the unpooled ones, clip by clip."""

    def one_clip(clip):
        pooled, mean, variance = _conv2d_moments_plain(clip[None], kernel, pool=pool)
        return pooled[0], mean, variance

    pooled, means, variances = lax.map(one_clip, x)
    # Within clips and between them: clips are of one size.
    return pooled, means.mean(axis=0), variances.mean(axis=0) + means.var(axis=0)


def vertical_max(x: jax.Array, kernel: jax.Array, bias: jax.Array, *, same_time: bool) -> jax.Array:
    """Convolve a spectrogram with vertical filters, keep the maximum over their frequency positions, and ReLU.

    Args:
      x: f32[B, T, F].
      kernel: f32[kt, kf, 1, n], kf ≤ F; `valid` in frequency.
      bias: f32[n].
      same_time: zeros before and after in time (T' = T), else `valid` (T' = T − kt + 1).

    Returns:
      f32[B, T', n].
    """
    if same_time:
        x = pad_time(x, *_same_padding(kernel.shape[0]))
    tally((x.shape[1] - kernel.shape[0] + 1) * (x.shape[2] - kernel.shape[1] + 1), kernel)
    return _vertical_max(x, kernel, bias)


def _vertical_max_plain(x, kernel, bias):
    maps = convolve(x[..., None], kernel, (1, 1), ((0, 0), (0, 0)))
    return _relu_max(maps, bias, (1, maps.shape[2]))[:, :, 0]


@_differentiated_as(_vertical_max_plain, few_in_one_block=True)
def _vertical_max(x, kernel, bias, *, blocked=True):
    num_frames, height, _, num_filters = kernel.shape
    num_bands = x.shape[2]
    shifts = num_bands - height + 1
    num_steps = x.shape[1] - num_frames + 1
    flat = kernel[:, :, 0]

    if shifts == 1 or (num_filters < _FEW and shifts <= 11):  # all shifts at once, bands as channels
        rows = [jnp.pad(flat, ((0, 0), (s, shifts - 1 - s), (0, 0))) for s in range(shifts)]
        wide = jnp.stack(rows, axis=2).reshape(num_frames, num_bands, shifts * num_filters)

        def convolve_max(part):
            maps = _convolve1d(part, wide)
            return _relu(maps.reshape(*maps.shape[:2], shifts, num_filters).max(axis=2), bias)
    else:  # `group` shifts at once as extra outputs; one when there are filters enough
        group = min(shifts, -(-_FEW // num_filters))
        blocks = -(-shifts // group)
        rows = [jnp.pad(flat, ((0, 0), (s, group - 1 - s), (0, 0))) for s in range(group)]
        wide = jnp.stack(rows, axis=2).reshape(num_frames, height + group - 1, 1, group * num_filters)
        x = jnp.pad(x, ((0, 0), (0, 0), (0, blocks * group - shifts)))
        # Shifts beyond the last lose every maximum; added, this fuses with the convolution where a selection would not.
        surplus = np.where(np.arange(blocks * group) < shifts, 0, -np.inf).repeat(num_filters)
        surplus = jnp.asarray(surplus.reshape(1, 1, blocks, -1), x.dtype)

        def convolve_max(part):
            maps = lax.conv_general_dilated(
                part[..., None],
                wide,
                (1, group),
                "VALID",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                precision=_HIGHEST,
            )
            if blocks * group > shifts:
                maps = maps + surplus
            maps = maps.max(axis=2)
            return _relu(maps.reshape(*maps.shape[:2], group, num_filters).max(axis=2), bias)

    step_bytes = 4 * x.shape[0] * shifts * num_filters
    return in_time_blocks(
        convolve_max, x, num_steps=num_steps, stride=1, reach=num_frames, step_bytes=step_bytes, blocked=blocked
    )


def sample_stacks(
    x: jax.Array,
    first: tuple[jax.Array, jax.Array],
    second: tuple[jax.Array, jax.Array],
    *,
    pool: int,
) -> tuple[jax.Array, jax.Array]:
    """The first two layers of a sample-level network, without ever holding the first one's map.

    The first map has one step for every three samples (239 MB a clip at 512 filters), so each block of the second
    layer computes the part of it that it reaches.

    Args:
      x: f32[B, N] waveform.
      first: kernel f32[k, 1, n] with stride k, `valid`, followed by ReLU; and its bias.
      second: kernel f32[k₂, n, m], `same`; and its bias.
      pool: max-pooling after the second convolution.

    Returns:
      (mean over time of the first map f32[B, n], pooled second map f32[B, T' // pool, m], after ReLU).
    """
    for kernel in (first[0], second[0]):
        tally(x.shape[1] // first[0].shape[0], kernel)
    return _sample_stacks(x, first, second, pool=pool)


def _sample_stacks_plain(x, first, second, *, pool):
    (kernel1, bias1), (kernel2, bias2) = first, second
    stride = kernel1.shape[0]
    samples = x[:, : x.shape[1] // stride * stride].reshape(x.shape[0], -1, stride)
    maps = _relu(jnp.matmul(samples, kernel1[:, 0], precision=_HIGHEST), bias1)
    padded = pad_time(maps, *_same_padding(kernel2.shape[0]))
    return maps.mean(axis=1), _relu_max(_convolve1d(padded, kernel2), bias2, (pool,))


@_differentiated_as(_sample_stacks_plain)
def _sample_stacks(x, first, second, *, pool):
    (kernel1, bias1), (kernel2, bias2) = first, second
    stride, _, num_first = kernel1.shape
    size, _, num_second = kernel2.shape
    steps = x.shape[1] // stride
    if num_second < _FEW:
        return _narrow_sample_stacks(x, first, second, steps=steps, pool=pool)
    samples = x[:, : steps * stride].reshape(-1, steps, stride)
    # A column of ones marks real steps: beyond the ends the second layer's padding is zero whatever the bias.
    marked = jnp.concatenate([samples, jnp.ones_like(samples[..., :1])], axis=-1)

    def first_map(part):
        return _relu(jnp.matmul(part[..., :stride], kernel1[:, 0], precision=_HIGHEST), bias1) * part[..., stride:]

    block = max(16, _BLOCK_BYTES // (4 * x.shape[0] * num_first))
    blocked = pad_time(marked, 0, -steps % block).reshape(x.shape[0], -1, block, stride + 1)
    sums = lax.map(lambda part: first_map(part).sum(axis=1), jnp.moveaxis(blocked, 1, 0))
    mean = sums.sum(axis=0) / steps

    def second_map(part):
        return _relu_max(_convolve1d(first_map(part), kernel2), bias2, (pool,))

    pooled = in_time_blocks(
        second_map,
        pad_time(marked, *_same_padding(size)),
        num_steps=steps // pool,
        stride=pool,
        reach=pool + size - 1,
        step_bytes=4 * x.shape[0] * pool * (num_first + num_second),
    )
    return mean, pooled


def _narrow_sample_stacks(x, first, second, *, steps, pool):
    """`sample_stacks` for few filters: one row of a matrix holds all a pooling window needs of the first map."""
    (kernel1, bias1), (kernel2, bias2) = first, second
    stride, _, num_first = kernel1.shape
    size, _, num_second = kernel2.shape
    phases = pool + size - 1
    # Eights of filters are aligned in memory; the added ones are zero and cut off again.
    more_first, more_second = -num_first % 8, -num_second % 8
    width1, width2 = num_first + more_first, num_second + more_second
    kernel2 = jnp.pad(kernel2, ((0, 0), (0, more_first), (0, more_second))).reshape(size * width1, width2)
    # The bias is the weight of a column of ones, zero beyond the ends: there the first map is zero whatever the bias.
    with_bias = jnp.concatenate([kernel1[:, 0], bias1[None]])
    wide = _repeat_kernel(jnp.pad(with_bias, ((0, 0), (0, more_first)))[None], phases).reshape(-1, phases * width1)

    before = _same_padding(size)[0]
    windows = -(-steps // pool)
    num_blocks = -(-windows // max(16, _BLOCK_BYTES // (4 * x.shape[0] * phases * width1)))
    block = -(-windows // num_blocks)
    samples = x[:, : steps * stride].reshape(-1, steps, stride)
    marked = jnp.concatenate([samples, jnp.ones_like(samples[..., :1])], axis=-1)
    marked = pad_time(marked, before, (num_blocks * block + 1) * pool - steps - before)
    rows = marked.reshape(x.shape[0], num_blocks * block + 1, -1)
    shared = (phases - pool) * (stride + 1)

    def fill(i, carry):
        total, pooled = carry
        part = lax.dynamic_slice_in_dim(rows, i * block, block + 1, axis=1)
        part = jnp.concatenate([part[:, :-1], part[:, 1:, :shared]], axis=-1)
        maps = nn.relu(jnp.matmul(part, wide, precision=_HIGHEST))
        total += maps[..., before * width1 : (before + pool) * width1].sum(axis=1)
        each = [
            jnp.matmul(maps[..., p * width1 : (p + size) * width1], kernel2, precision=_HIGHEST) for p in range(pool)
        ]
        best = _relu(functools.reduce(jnp.maximum, each)[..., :num_second], bias2)
        return total, lax.dynamic_update_slice_in_dim(pooled, best, i * block, axis=1)

    total = jnp.zeros((x.shape[0], pool * width1), x.dtype)
    pooled = jnp.zeros((x.shape[0], num_blocks * block, num_second), x.dtype)
    total, pooled = lax.fori_loop(0, num_blocks, fill, (total, pooled))
    mean = total.reshape(-1, pool, width1).sum(axis=1)[:, :num_first] / steps
    return mean, pooled[:, : steps // pool]

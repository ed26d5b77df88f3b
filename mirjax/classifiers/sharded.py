"""Gram matrices over batches that are spread over many devices and hosts.

Conventions
-----------
A batch is x [B, …] with targets [B, K] and weights [B] (or none). Its rows are shared out over the devices of this
process; Z = sqrt(w) [h(x), y, 1] being what one device makes of its rows, that device keeps its own sum of ZᵀZ (the
blocks on and below the diagonal, in place: donated buffers). At the very end one all-reduce adds the sums of all
devices of all processes. Before it, the processes tell each other a few whole numbers: their widths, and whether all
went well.

Every process (`jax.distributed`) feeds batches of its own. They take no steps together, so the numbers and sizes of
batches may differ from process to process: one that has fewer, or none, waits in the all-reduce for the others. If one
raises an error, the others raise a RuntimeError that names it instead of waiting for ever; one that is killed is found
by JAX's heartbeat (`heartbeat_timeout_seconds` of `jax.distributed.initialize`, 100 by default).

Precision
---------
Sums are float64 where the devices have it. Where they have not, they are float32 pairs (sum, what its rounding lost:
Knuth's two-sum), so that the error is that of one batch's product and does not grow with their number; the all-reduce
keeps it so: the leading bits of the parts are cut to a common exponent, where their sum is exact. The field `rounding`
of the result states the bound.

Memory of a device: about 0.6·(H + K + 1)² numbers (float32 pairs: twice that) and a few batches.

Source
------
Two-sum: Knuth (1997), The Art of Computer Programming 2, section 4.2.2. Cutting to a common exponent: Rump, Ogita and
Oishi (2008), Accurate floating-point summation, part I, SIAM J. Sci. Comput. 31, section 3.

Names
-----
* `accumulate`: batches → `gram.Gram`, the same one on every process. On the CPU of one machine `Gram.add_batches` takes
  three quarters of its time: BLAS has a product that makes one triangle only.
"""

import collections
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mirjax.classifiers.arithmetic import _WITH_FLOAT64
from mirjax.classifiers.gram import Gram, check_range, locked
from mirjax.classifiers.hidden import HiddenLayer, apply
from mirjax.classifiers.solvers import check_dtype

_NEVER = np.iinfo(np.int32).max
_AHEAD = 2  # steps that may wait for their device: the next batch is made while one is worked on, and no more are kept
_UNITS = {"highest": 2.0**-24, "high": 2.0**-11, "default": 2.0**-8}  # float32 products: float32, TF32, bfloat16


def accumulate(layer, batches, *, mesh=None, precision="highest", dtype=None, compensated=None):
    """Sum the products of hidden activations and targets over batches, on all devices.

    Args:
        layer: a `hidden.HiddenLayer`, or a jax function x [B, …] → hidden [B, H] that treats rows independently.
        batches: yields (x, targets) or (x, targets, weights) with x [B, …], targets [B, K], weights [B] ≥ 0 (None: 1).
            The first batch sets the shape that is compiled; larger ones are cut, smaller ones filled up with rows of
            weight 0. This process' own rows only. Arrays of numpy or JAX.
        mesh: the `jax.sharding.Mesh` of the devices to use, whatever its axes; all devices of all processes by default.
            It must hold devices of one process or of all.
        precision: of the products: "highest", or "high" and "default", which on accelerators multiply in fewer bits.
        dtype: float64 or float32, of x, the layer and the sums; None is float64 where the devices have it.
        compensated: sums as float32 pairs; None is yes for float32 and no for float64.

    Returns:
        The `Gram` over all rows of all processes: the same bits on every process.

    Raises:
        ValueError: no batches, batches that do not fit each other or the layer, a value that is not finite or a weight
            below 0 (with the number of the batch), or processes whose widths differ.
        RuntimeError: another process failed.
    """
    devices = list(jax.devices() if mesh is None else mesh.devices.flat)
    own = [device for device in devices if device.process_index == jax.process_index()]
    crowd = {device.process_index for device in devices}
    if not own or (len(crowd) > 1 and len(crowd) < jax.process_count()):
        raise ValueError(
            f"mesh has devices of process(es) {sorted(crowd)}; it must hold those of process {jax.process_index()} "
            f"only, or of all {jax.process_count()}"
        )
    dtype = check_dtype(dtype or (np.float64 if own[0].platform in _WITH_FLOAT64 else np.float32))
    if precision not in _UNITS:
        raise ValueError(f"precision={precision!r} must be one of {', '.join(_UNITS)}")
    compensated = dtype == np.float32 if compensated is None else bool(compensated)
    function, params = _as_function(layer, dtype)
    local = _LocalSums(function, params, tuple(own), dtype, precision, compensated)
    trouble = None
    try:
        local.add(batches)
        local.check()
    except Exception as error:
        if len(crowd) == 1:
            raise
        trouble = error
    facts = _tell_all(local.facts(trouble)) if len(crowd) > 1 else local.facts(trouble)[None]
    if trouble is not None:
        raise trouble
    widths, steps, rows = _agreed(facts)
    hidden_units, num_outputs = widths
    with jax.enable_x64(dtype == np.float64):
        sums, counts = _reduced(local.state(*widths), tuple(devices), compensated)
    unit = np.finfo(np.float64).eps / 2 if dtype == np.float64 else _UNITS[precision]
    # Rounding of one batch's product, then of the sums: once a step and a device; pairs keep what that loses.
    terms = rows + 5 + (2 if compensated else steps + len(devices))
    return _as_gram(sums, hidden_units, num_outputs, counts, terms * unit, dtype)


def _as_function(layer, dtype):
    """A pure function of params and x, the same object for equal settings, and the params."""
    if isinstance(layer, HiddenLayer):
        return _layer_function(**layer.settings), layer.params(dtype)
    if not callable(layer):
        raise ValueError(f"layer={layer!r} must be a HiddenLayer or a function of x")
    return _plain_function(layer), {}


@functools.lru_cache(maxsize=16)
def _layer_function(**settings):
    return functools.partial(apply, **settings)


@functools.lru_cache(maxsize=4)
def _plain_function(layer):
    return lambda params, x: layer(x)


class _LocalSums:
    """Sums of this process, one part on each of its devices."""

    def __init__(self, function, params, devices, dtype, precision, compensated):
        self._function, self._devices, self._dtype = function, devices, dtype
        self._precision, self._compensated = precision, compensated
        self._rows = NamedSharding(_mesh(devices), P("rows"))
        with jax.enable_x64(dtype == np.float64):
            self._params = jax.device_put(params, NamedSharding(_mesh(devices), P()))
        self._state, self._widths, self._steps, self._size = None, (0, 0), 0, 0
        self._first_step = []  # of each batch

    def add(self, batches):
        """Take one step a batch, or more where it is larger than the first."""
        waiting = collections.deque()
        for number, batch in enumerate(batches):
            x, targets, weights = _checked(batch, number)
            if not len(x):
                continue
            self._size = self._size or -(-len(x) // len(self._devices)) * len(self._devices)
            self._first_step.append((self._steps, number))
            for start in range(0, len(x), self._size):
                piece = slice(start, start + self._size)
                waiting.append(
                    self._step(x[piece], targets[piece], None if weights is None else weights[piece], number)
                )
                if len(waiting) > _AHEAD:
                    waiting.popleft().block_until_ready()

    def _step(self, x, targets, weights, number):
        weights = np.ones(len(x)) if weights is None else weights
        # The batches themselves are made outside of this: their own arithmetic stays as its author meant it.
        with jax.enable_x64(self._dtype == np.float64):
            filled = [self._filled(array) for array in (x, targets, weights)]
            try:
                hidden = jax.eval_shape(self._function, self._params, filled[0])
            except (TypeError, ValueError) as error:
                raise ValueError(f"the layer does not take x {x.shape} of batch {number}: {error}") from error
            shape = getattr(hidden, "shape", None)
            if shape is None or len(shape) != 2 or shape[0] != self._size:
                raise ValueError(f"the layer makes {shape} of x {filled[0].shape}; expected ({self._size}, H)")
            widths = shape[1], targets.shape[1]
            if self._state is None:
                self._widths, self._state = widths, self.state(*widths)
            if widths != self._widths:
                raise ValueError(
                    f"batch {number} has {widths[0]} hidden units and {widths[1]} outputs, the first one had "
                    f"{self._widths[0]} and {self._widths[1]}"
                )
            program = _step_program(self._function, self._devices, self._precision, self._compensated)
            self._state, done = program(self._state, self._params, *filled, np.int32(self._steps))
        self._steps += 1
        if self._steps * self._size >= _NEVER:
            raise ValueError(f"more than {_NEVER} rows on one process; merge the Gram matrices of several calls")
        return done

    def _filled(self, array):
        """The array on the devices, filled up with zeros; a copy, so that the caller may use its buffer again."""
        if isinstance(array, jax.Array):
            missing = [(0, self._size - len(array))] + [(0, 0)] * (array.ndim - 1)
            return jax.device_put(jnp.pad(array.astype(self._dtype), missing), self._rows)
        whole = np.zeros((self._size, *array.shape[1:]), self._dtype)
        whole[: len(array)] = array
        return jax.device_put(whole, self._rows)

    def state(self, hidden_units, num_outputs):
        """The sums; zeros where nothing was added."""
        if self._state is not None:
            return self._state
        width, count = hidden_units + num_outputs + 1, len(self._devices)

        def zeros():
            sums = tuple(jnp.zeros((count, width - start, stop - start), self._dtype) for start, stop in _blocks(width))
            lost = jax.tree.map(jnp.zeros_like, sums) if self._compensated else ()
            return sums, lost, jnp.zeros(count, jnp.int32), jnp.full(count, _NEVER, jnp.int32)

        return jax.jit(zeros, out_shardings=self._rows)()

    def check(self):
        """Raise if a value of some batch was not a number."""
        if self._state is None:
            return
        step = int(np.min([shard.data for shard in self._state[3].addressable_shards]))
        if step < _NEVER:
            number = max(number for first, number in self._first_step if first <= step)
            raise ValueError(
                f"batch {number} has targets, weights or hidden activations that are not finite, or weights below 0; "
                "leave such rows out"
            )

    def facts(self, trouble):
        """What the other processes must know, int32[5]: widths, steps, rows a device and step, whether it failed."""
        return np.array(
            [*self._widths, self._steps, self._size // len(self._devices), trouble is not None], dtype=np.int32
        )


def _checked(batch, number):
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        what = f"has {len(batch)} parts" if isinstance(batch, (tuple, list)) else f"is a {type(batch).__name__}"
        raise ValueError(f"batch {number} {what}; expected (x, targets) or (x, targets, weights)")
    x, targets, weights = (*batch, None) if len(batch) == 2 else batch
    x, targets = (a if isinstance(a, jax.Array) else np.asarray(a) for a in (x, targets))
    weights = weights if weights is None or isinstance(weights, jax.Array) else np.asarray(weights)
    if x.ndim < 2 or targets.ndim != 2 or len(targets) != len(x):
        raise ValueError(f"batch {number} has x {x.shape} and targets {targets.shape}; expected [B, …] and [B, K]")
    if weights is not None and weights.shape != (len(x),):
        raise ValueError(f"batch {number} has weights {weights.shape}; expected ({len(x)},)")
    return x, targets, weights


def _tell_all(facts):
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(facts))


def _agreed(facts):
    """Widths, the largest number of steps and of rows a step and device, from the facts of all processes."""
    if failed := np.flatnonzero(facts[:, 4]).tolist():
        raise RuntimeError(f"process(es) {failed} failed while they added batches; their own output says why")
    if not facts[:, 2].any():
        raise ValueError("there are no batches; accumulate needs one row or more")
    widths = {tuple(row[:2].tolist()): int(i) for i, row in reversed(list(enumerate(facts))) if row[2]}
    if len(widths) > 1:
        told = "; ".join(f"process {i}: {h} hidden units, {k} outputs" for (h, k), i in sorted(widths.items()))
        raise ValueError(f"processes have different widths ({told}); give all the same layer and classes")
    return next(iter(widths)), int(facts[:, 2].max()), int(facts[:, 3].max())


def _mesh(devices):
    return Mesh(np.array(devices), ("rows",), axis_types=(AxisType.Auto,))


def _blocks(width):
    """Column ranges of the blocks; below the diagonal they hold 5/8 of a matrix when there are four."""
    step = max(256, -(-width // 4))
    return [(start, min(start + step, width)) for start in range(0, width, step)]


@functools.lru_cache(maxsize=8)
def _step_program(function, devices, precision, compensated):
    """(state, params, x, targets, weights, step) → (state, the count again, which is free to be waited for)."""

    def step(state, params, x, targets, weights, number):
        sums, lost, count, first_bad = state
        counted = weights > 0
        hidden = jnp.where(counted[:, None], function(params, x).astype(weights.dtype), 0)
        good = jnp.isfinite(hidden).all() & jnp.isfinite(targets).all() & (jnp.isfinite(weights) & (weights >= 0)).all()
        z = jnp.sqrt(weights)[:, None] * jnp.concatenate([hidden, targets, jnp.ones_like(targets[:, :1])], axis=1)
        parts = [
            lax.dot_general(z[:, start:], z[:, start:stop], (((0,), (0,)), ((), ())), precision=precision)[None]
            for start, stop in _blocks(z.shape[1])
        ]
        if compensated:
            pairs = [_two_sum(a, b) for a, b in zip(sums, parts, strict=True)]
            sums = tuple(total for total, _ in pairs)
            lost = tuple(old + new for old, (_, new) in zip(lost, pairs, strict=True))
        else:
            sums = tuple(a + b for a, b in zip(sums, parts, strict=True))
        count = count + counted.sum(dtype=jnp.int32)
        return (sums, lost, count, jnp.where(good, first_bad, jnp.minimum(first_bad, number))), count + 0

    rows = P("rows")
    specs = (rows, P(), rows, rows, rows, P())
    mapped = jax.shard_map(step, mesh=_mesh(devices), in_specs=specs, out_specs=(rows, rows), check_vma=False)
    return jax.jit(mapped, donate_argnums=0)


def _two_sum(a, b):
    """a + b, rounded, and exactly what the rounding lost."""
    total = a + b
    rest = total - a
    return total, (a - (total - rest)) + (b - rest)


def _reduced(state, devices, compensated):
    """Add up the parts of all devices: blocks as numpy arrays in float64, and the number of rows."""
    sharding = NamedSharding(_mesh(devices), P("rows"))

    def as_global(leaf):
        shards = [shard.data for shard in leaf.addressable_shards]
        return jax.make_array_from_single_device_arrays((len(devices), *leaf.shape[1:]), sharding, shards)

    sums, lost, counts = _reduce_program(devices, compensated)(*jax.tree.map(as_global, state[:3]))
    sums = [np.asarray(part.addressable_data(0), np.float64) for part in sums]
    if compensated:
        sums = [a + np.asarray(b.addressable_data(0), np.float64) for a, b in zip(sums, lost, strict=True)]
    return sums, sum(np.asarray(counts.addressable_data(0)).tolist())


@functools.lru_cache(maxsize=4)
def _reduce_program(devices, compensated):
    def reduce(sums, lost, count):
        sums, lost = jax.tree.map(lambda part: part[0], (sums, lost))
        if compensated:
            sums, rest = _cut(sums, len(devices))
            lost = tuple(a + b for a, b in zip(lost, rest, strict=True))
        sums, lost = lax.psum((sums, lost), "rows")
        return sums, lost, lax.all_gather(count, "rows", tiled=True)

    specs = dict(in_specs=P("rows"), out_specs=P(), check_vma=False)
    return jax.jit(jax.shard_map(reduce, mesh=_mesh(devices), **specs))


def _cut(sums, num_parts):
    """Cut blocks into leading bits, whose sum over the devices is exact, and exactly the rest.

    |ZᵀZ|_ij ≤ sqrt(d_i d_j) for the diagonal d: the largest d of all devices sets one exponent for each element.
    """
    width = sums[0].shape[0]
    diagonal = jnp.concatenate([jnp.diagonal(part) for part in sums])
    scale = jnp.sqrt(lax.pmax(diagonal, "rows"))
    spare = math.ceil(math.log2(num_parts + 2)) + 1
    leading = []
    for part, (start, stop) in zip(sums, _blocks(width), strict=True):
        _, exponent = jnp.frexp(scale[start:, None] * scale[None, start:stop])
        grid = jnp.ldexp(jnp.ones_like(part), exponent + spare)
        leading.append((part + grid) - grid)
    return tuple(leading), tuple(part - top for part, top in zip(sums, leading, strict=True))


def _as_gram(blocks, hidden_units, num_outputs, count, rounding, dtype):
    """The `Gram` that is in the blocks of ZᵀZ, Z = [h, y, 1], made in some dtype with a relative rounding.

    Numbers below the normal ones may be 0 to a device: in float32 (1e-38, so activations of 1e-19) each of a few
    operations a row can lose so much more.
    """
    h, k = hidden_units, num_outputs
    full = np.zeros((h + k + 1, h + k + 1))
    for block, (start, stop) in zip(blocks, _blocks(len(full)), strict=True):
        full[start:, start:stop] = np.tril(block)
        full[start:stop, stop:] = block[stop - start :].T
        full[start:stop, start:stop] += np.tril(block[: stop - start], -1).T
    diagonal = np.diagonal(full).copy()
    bound = rounding * diagonal + (4 * count * float(np.finfo(dtype).tiny) if dtype == np.float32 else 0.0)
    gram = Gram(
        products=locked(full[:h, :h].copy()),
        cross=full[:h, h : h + k].copy(),
        hidden_sum=full[:h, -1].copy(),
        target_sum=full[h : h + k, -1].copy(),
        target_squares=diagonal[h : h + k],
        weight=float(diagonal[-1]),
        count=count,
        rounding=bound[:h],
        target_rounding=bound[h : h + k],
    )
    return check_range(gram, dtype)

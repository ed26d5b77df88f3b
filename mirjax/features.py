"""Features: averages of a network's maps, with given weights or with random ones over many seeds.

Arrays: audio `[B, N]` → features `[B, D]`, for S seeds `[S, B, D]`. Maps never leave the compiled function.

Every clip is computed by one program of fixed shape: one clip at a time on a CPU, where that is fastest, and blocks
of eight elsewhere, the last one filled up; several devices share the blocks. So the numbers do not depend on the batch,
the order or the number of clips or seeds. They may depend on the device, and on a CPU on the number of cores that the
process may use, by which XLA divides some convolutions: within 1e-5 of the largest value (3e-7 was seen).

A network for one input length only sees a longer clip as consecutive windows, of which the features are averaged. A
clip too short for a network is repeated up to the length it was published for, where there is one. A mono clip goes to
both channels of a stereo network.

Source: Pons & Serra (2019): features are averages over all positions of the selected maps.
Names: `initialise`, `extract`, `extract_each`, `random_features`, `select`, `layer_means`, `windows`, `mfcc_features`,
`exposed`, `representation_sums`, `moments`, `num_parameters`, `num_features`, `feature_names`, `gigaflops`, `program`,
`numerics`.
"""

import dataclasses
import functools
import hashlib
import itertools
import math
import os
import re
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mirjax.models import geometry
from mirjax.models import layers as model_layers
from mirjax.signal import cepstral

# MFCC clips keep their own lengths; rounding those up to few sizes keeps compilations few, and padding is invisible.
_MFCC_GRID = 4


_KEPT = ("params", "batch_stats")


def _spec(model, num_samples):
    return jax.ShapeDtypeStruct((1, *model.representation.shape(num_samples)), jnp.result_type(float))


def _window_spec(model, num_samples):
    """What the network itself sees of a clip: all of it, or one window."""
    spec = _spec(model, num_samples)
    if getattr(model, "fixed", False):
        return jax.ShapeDtypeStruct((1, model.num_steps, *spec.shape[2:]), spec.dtype)
    return jax.eval_shape(functools.partial(_long_enough, model), spec)


def _long_enough(model, x):
    """x [B, T, …], repeated in time up to the published length if it is too short for the network."""
    published = getattr(model, "num_steps", None)
    if not published or x.shape[1] >= geometry.shortest(model.windows):
        return x
    return jnp.concatenate([x] * -(-published // x.shape[1]), axis=1)[:, :published]


def initialise(model, key: jax.Array, num_samples: int = 350_000):
    """Random variables of a model, without running it; running averages of batch norm at 0 and 1.

    Args:
      model: a `taggers.Model`.
      key: PRNG key.
      num_samples: samples of a clip (weights do not depend on it for these networks).

    Returns:
      A tree of variables, kernels canonical `(k…, in, out)`.
    """
    variables = model.lazy_init(key, _window_spec(model, num_samples), method="embed", mutable=list(_KEPT))
    return {kind: variables[kind] for kind in _KEPT if kind in variables}


def windows(x: jax.Array, num_steps: int) -> jax.Array:
    """Consecutive windows of a representation: [B, T, …] → [P, B, num_steps, …], P = max(1, T // num_steps).

    What is left over at the end is dropped; a clip shorter than one window is repeated up to it.
    """
    if x.shape[1] < num_steps:
        repeats = -(-num_steps // x.shape[1])
        x = jnp.concatenate([x] * repeats, axis=1)
    count = x.shape[1] // num_steps
    x = x[:, : count * num_steps].reshape(x.shape[0], count, num_steps, *x.shape[2:])
    return jnp.moveaxis(x, 1, 0)


@dataclasses.dataclass(frozen=True)
class Selection:
    """A network of which other layers make the features; otherwise it is that network.

    Attributes:
      model: a `taggers.Model`.
      feature_layers: names of maps it exposes.
    """

    model: object
    feature_layers: tuple[str, ...]

    def __getattr__(self, name):
        return getattr(object.__getattribute__(self, "model"), name)


def select(model, layers):
    """The same network with features from other layers.

    Args:
      model: a `taggers.Model`.
      layers: names of maps that it exposes (`exposed`), in the order wanted.

    Raises:
      ValueError: a name that the network does not expose; lists those it does.
    """
    layers, known = (layers,) if isinstance(layers, str) else tuple(layers), exposed(model)
    for name in layers:
        if name not in known:
            raise ValueError(f"layers={name!r} is not exposed by this network; known: {', '.join(known)}")
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers={layers!r} must name at least one layer, and each once")
    return Selection(getattr(model, "model", model), layers)


@functools.lru_cache(maxsize=256)
def exposed(model, num_samples: int = 350_000) -> tuple[str, ...]:
    """Names of all maps that a network exposes; those that make its features come first."""

    def run(key, x):
        return model.init(key, x, method="embed")["features"]

    found = jax.eval_shape(run, jax.random.key(0), _window_spec(model, num_samples))
    names = [path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(found)]
    return tuple(dict.fromkeys([*model.feature_layers, *names]))


@functools.lru_cache(maxsize=256)
def _trace(model, num_samples):
    """Shapes of variables and of features by layer, multiply-adds, and the program's text, computing nothing."""

    spec, seen = _spec(model, num_samples), _window_spec(model, num_samples)

    def run(key, x):
        drawn = model.init(key, jnp.zeros(seen.shape, seen.dtype), method="embed")
        variables = {kind: drawn[kind] for kind in _KEPT if kind in drawn}
        return variables, layer_means(model, variables, x)

    program, (variables, averages) = jax.make_jaxpr(run, return_shape=True)(jax.random.key(0), spec)
    channels = () if _channels(model) == 1 else (_channels(model),)
    audio = jax.ShapeDtypeStruct((1, *channels, num_samples), spec.dtype)
    digest = hashlib.sha256()
    for part in (program, jax.make_jaxpr(model.representation)(audio)):
        digest.update(re.sub(r"0x[0-9a-f]+", "", str(part.jaxpr)).encode())  # without addresses of functions
        for constant in part.consts:
            digest.update(np.asarray(constant).tobytes())
    with model_layers.count_multiply_adds() as counted:
        jax.eval_shape(functools.partial(model.apply, method="embed", mutable=["features"]), variables, seen)
    num_windows = max(1, spec.shape[1] // model.num_steps) if getattr(model, "fixed", False) else 1
    multiply_adds = sum(counted) * num_windows
    return variables, averages, multiply_adds, digest.hexdigest()


def program(model, num_samples: int = 350_000) -> str:
    """Fingerprint of what a model computes, from the waveform to its averages, drawing its weights included.

    It changes with the code of the model's parts, their constants and fields, and with the number of samples; what
    JAX's settings add is in `numerics`.
    """
    return _trace(model, num_samples)[3]


def numerics() -> dict[str, object]:
    """JAX's settings that change a random network: 64 bits, the generator of its weights."""
    return {
        "x64": jnp.result_type(float) == np.float64,
        "prng": str(jax.config.jax_default_prng_impl),
        "threefry_partitionable": bool(jax.config.jax_threefry_partitionable),
    }


def num_parameters(model, num_samples: int = 350_000) -> int:
    """Number of trainable parameters: weights, biases, batch norm's scales and shifts."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(_trace(model, num_samples)[0]["params"]))


def num_features(model, num_samples: int = 350_000) -> int:
    """Length of the feature vector."""
    return sum(leaf.shape[-1] for leaf in _trace(model, num_samples)[1].values())


def gigaflops(model, num_samples: int = 350_000) -> float:
    """Arithmetic of the network's products per clip, a multiply-add counting two, in units of 1e9."""
    return 2e-9 * _trace(model, num_samples)[2]


def feature_names(model, num_samples: int = 350_000) -> tuple[str, ...]:
    """`layer/channel` of every feature, in order."""
    averages = _trace(model, num_samples)[1]
    return tuple(f"{layer}/{i}" for layer in model.feature_layers for i in range(averages[layer].shape[-1]))


def layer_means(model, variables, x):
    """Averages of a model's maps for its representation x: {layer: f32[B, C]}, in the model's order."""

    def of_window(x):
        _, state = model.apply(variables, x, method="embed", mutable=["features"])
        found = {path[-1].key: value for path, value in jax.tree_util.tree_leaves_with_path(state["features"])}
        return {name: found[name] for name in model.feature_layers}

    if not getattr(model, "fixed", False):
        return of_window(_long_enough(model, x))
    parts = windows(x, model.num_steps)
    if len(parts) == 1:
        averages = of_window(parts[0])
    else:
        averages = jax.tree.map(lambda each: each.mean(axis=0), jax.lax.map(of_window, parts, batch_size=8))
    return {name: averages[name] for name in model.feature_layers}


def _block_size() -> int:
    return 1 if jax.default_backend() == "cpu" else 8


@functools.lru_cache(maxsize=64)
def _compiled(model, num_devices):
    """The two programs of a model: its representation, and its features from there."""
    mesh = jax.make_mesh((num_devices,), ("clip",), axis_types=(AxisType.Auto,), devices=jax.local_devices())
    clips, whole = NamedSharding(mesh, PartitionSpec("clip")), NamedSharding(mesh, PartitionSpec())

    def sharded(function, num_whole):
        specs = (PartitionSpec("clip"),) + (PartitionSpec(),) * num_whole
        mapped = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("clip"), check_vma=False)
        return jax.jit(mapped)

    def embed(x, variables, shift, scale):
        averages = layer_means(model, variables, (x - shift) * scale)
        return jnp.concatenate(list(averages.values()), axis=-1)

    return sharded(model.representation, 0), sharded(embed, 3), clips, whole


def _clips(audio):
    """Clips f32[N] of an array f32[B, N], an iterable of clips, or an iterable of batches (rows of their mask)."""
    for item in audio:
        if isinstance(item, dict):
            yield from item["audio"][np.asarray(item["mask"])]
        else:
            yield item


def _channels(model) -> int:
    return getattr(model.representation, "num_channels", 1)


def _num_threads(model) -> int:
    """Blocks computed at a time: on a CPU small networks leave cores idle, and large ones fill them and the memory."""
    small = gigaflops(model) < 10
    return min(4, os.cpu_count() or 1) if small and jax.default_backend() == "cpu" else 1


def _as_blocks(audio, size, channels=1):
    """Blocks f32[size, N] of clips, the last one filled up with zeros, and the number of real clips in each."""
    pending = []
    for clip in _clips(audio):
        clip = np.asarray(clip)
        if clip.ndim == 0:
            raise ValueError("audio of one axis is one clip; give a batch [1, N], or a list of clips")
        if not np.issubdtype(clip.dtype, np.floating) or not np.isfinite(clip).all():
            raise ValueError(f"clip {len(pending)} of a block is {clip.dtype} or not finite; give floats in [-1, 1]")
        clip = clip.astype(jnp.result_type(float), copy=False)
        if channels > 1 and clip.ndim == 1:
            clip = np.tile(clip, (channels, 1))
        pending.append(clip)
        expected = (clip.shape[-1],) if channels == 1 else (channels, clip.shape[-1])
        if clip.shape != expected or clip.shape != pending[0].shape:
            shapes = f"{pending[-1].shape} after {pending[0].shape}"
            raise ValueError(f"clips must be f32[N] of one length, got {shapes}; fit them, and give audio as [B, N]")
        if len(pending) == size:
            yield np.stack(pending), size
            pending = []
    if pending:
        filled = np.zeros((size, *pending[0].shape), pending[0].dtype)
        filled[: len(pending)] = pending
        yield filled, len(pending)


def extract_each(model, trees, audio, *, moments: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Features of clips under each of several trees of variables: f32[S, B, D]; otherwise as `extract`.

    The representation of a clip is computed once for all trees.
    """
    mean, deviation = moments
    if not deviation > 0:
        raise ValueError(f"moments={moments}: the deviation must be positive; a constant input cannot be standardised")
    num_devices = jax.local_device_count()
    represent, embed, clips, whole = _compiled(model, num_devices)
    dtype = jnp.result_type(float)
    shift, scale, *trees = jax.device_put((np.asarray(mean, dtype), np.asarray(1 / deviation, dtype), *trees), whole)

    def features_of(block_and_real):
        block, real = block_and_real
        with jax.enable_x64(dtype == np.float64):  # which other threads do not inherit
            x = represent(jax.device_put(block, clips))
            return np.stack([np.asarray(embed(x, tree, shift, scale))[:real] for tree in trees])

    blocks = _as_blocks(audio, num_devices * _block_size(), _channels(model))
    rows = []
    num_threads = _num_threads(model)
    with ThreadPoolExecutor(num_threads) as threads:
        while window := list(itertools.islice(blocks, num_threads)):
            rows += threads.map(features_of, window)
    if not rows:
        raise ValueError("audio holds no clips; give at least one")
    return np.concatenate(rows, axis=1)


def extract(model, variables, audio, *, moments: tuple[float, float] = (0.0, 1.0), layers=None) -> np.ndarray:
    """Features of clips under given weights.

    Args:
      model: a `taggers.Model`.
      variables: its variables, as `initialise` gives them.
      audio: f32[B, N], or an iterable of clips f32[N] of one length or of batches (`mirjax.data.loader`).
      moments: mean and deviation by which the representation is standardised; (0, 1) leaves it as it is.
      layers: names of the maps that make the features (`exposed`); the network's own choice when None.

    Returns:
      f32[B, D].

    Raises:
      ValueError: no clips, a clip too short for the network, or a deviation that is not positive.
    """
    model = model if layers is None else select(model, layers)
    return extract_each(model, [variables], audio, moments=moments)[0]


def random_features(
    model, keys: jax.Array, audio, *, moments: tuple[float, float] = (0.0, 1.0), layers=None
) -> np.ndarray:
    """Features of clips under random weights, for many seeds at once.

    The representation of a clip is computed once for all seeds; memory holds the seeds' weights, one block of clips
    and their maps.

    Args:
      model: a `taggers.Model`.
      keys: PRNG keys [S].
      audio: f32[B, N], or an iterable of clips f32[N] of one length or of batches (`mirjax.data.loader`).
      moments: mean and deviation by which the representation is standardised; (0, 1) leaves it as it is.
      layers: as `extract`.

    Returns:
      f32[S, B, D]; row s equals `extract(model, initialise(model, keys[s]), audio)`.

    Raises:
      ValueError: as `extract`.
    """
    if jnp.ndim(keys) != 1:
        raise ValueError(f"keys of shape {jnp.shape(keys)} must be [S]; jax.random.split(key, S) makes S of them")
    model = model if layers is None else select(model, layers)
    return extract_each(model, [initialise(model, key) for key in keys], audio, moments=moments)


def representation_sums(model, audio) -> list[tuple[int, float, float]]:
    """Count, sum and sum of squares of every clip's representation, in float64."""
    num_devices = jax.local_device_count()
    represent, _, clips, _ = _compiled(model, num_devices)
    sums = []
    for block, real in _as_blocks(audio, num_devices * _block_size(), _channels(model)):
        for values in np.asarray(represent(jax.device_put(block, clips)), np.float64)[:real]:
            sums.append((values.size, float(values.sum()), float((values**2).sum())))
    return sums


def moments(sums) -> tuple[float, float]:
    """Mean and population deviation of all values, from `representation_sums` of any clips in any order."""
    count = sum(size for size, _, _ in sums)
    mean = math.fsum(total for _, total, _ in sums) / count
    return mean, math.sqrt(max(0.0, math.fsum(squares for _, _, squares in sums) / count - mean**2))


@functools.lru_cache
def _compiled_mfcc(sample_rate):
    return jax.jit(lambda audio, length: cepstral.mfcc_statistics(audio, sample_rate=sample_rate, length=length))


def mfcc_features(audio, *, sample_rate: int) -> np.ndarray:
    """The MFCC baseline of clips of any length.

    Args:
      audio: iterable of clips f32[N]; clips under 2,048 samples are padded with zeros to that.
      sample_rate: hertz.

    Returns:
      f32[B, 120].
    """
    rows = []
    for clip in audio:
        length = max(len(clip), 2048)
        grid = 2 ** max(0, math.ceil(math.log2(length)) - _MFCC_GRID)
        padded = np.zeros(-(-length // grid) * grid, jnp.result_type(float))
        padded[: len(clip)] = clip
        rows.append(np.asarray(_compiled_mfcc(sample_rate)(padded, length)))
    return np.stack(rows)

"""Features: averages of a network's maps, with given weights or with random ones over many seeds.

Arrays: audio `[B, N]` → features `[B, D]`, for S seeds `[S, B, D]`. Maps never leave the compiled function.

Every clip is computed by one program of fixed shape: one clip at a time on a CPU, where that is fastest, and blocks
of eight elsewhere, the last one filled up; several devices share the blocks. So the numbers do not depend on the batch,
the order or the number of clips or seeds. They may depend on the device, and on a CPU on the number of cores that the
process may use, by which XLA divides some convolutions: within 1e-5 of the largest value (3e-7 was seen).

Source: Pons & Serra (2019): features are averages over all positions of the selected maps.
Names: `initialise`, `extract`, `extract_each`, `random_features`, `layer_means`, `mfcc_features`,
`representation_sums`, `moments`, `num_parameters`, `num_features`, `feature_names`, `gigaflops`, `program`, `numerics`.
"""

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

from mirjax.models import layers
from mirjax.signal import cepstral

# MFCC clips keep their own lengths; rounding those up to few sizes keeps compilations few, and padding is invisible.
_MFCC_GRID = 4


def _spec(model, num_samples):
    return jax.ShapeDtypeStruct((1, *model.representation.shape(num_samples)), jnp.result_type(float))


def initialise(model, key: jax.Array, num_samples: int = 350_000):
    """Random variables of a model, without running it.

    Args:
      model: a `taggers.Network`.
      key: PRNG key.
      num_samples: samples of a clip (weights do not depend on it for these networks).

    Returns:
      A tree of variables, kernels canonical `(k…, in, out)`.
    """
    variables = model.lazy_init(key, _spec(model, num_samples), method="embed", mutable=["params"])
    return {"params": variables["params"]}


@functools.lru_cache(maxsize=256)
def _trace(model, num_samples):
    """Shapes of variables and of features by layer, multiply-adds, and the program's text, computing nothing."""

    def run(key, x):
        variables = {"params": model.init(key, x, method="embed")["params"]}
        return variables, layer_means(model, variables, x)

    spec = _spec(model, num_samples)
    with layers.count_multiply_adds() as counted:
        program, (variables, averages) = jax.make_jaxpr(run, return_shape=True)(jax.random.key(0), spec)
    audio = jax.ShapeDtypeStruct((1, num_samples), spec.dtype)
    digest = hashlib.sha256()
    for part in (program, jax.make_jaxpr(model.representation)(audio)):
        digest.update(re.sub(r"0x[0-9a-f]+", "", str(part.jaxpr)).encode())  # without addresses of functions
        for constant in part.consts:
            digest.update(np.asarray(constant).tobytes())
    # `init` and `apply` each trace the network once, so its products were counted twice.
    return variables, averages, sum(counted) // 2, digest.hexdigest()


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
    """Number of weights and biases."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(_trace(model, num_samples)[0]))


def num_features(model, num_samples: int = 350_000) -> int:
    """Length of the feature vector."""
    return sum(leaf.shape[-1] for leaf in _trace(model, num_samples)[1].values())


def gigaflops(model, num_samples: int = 350_000) -> float:
    """Arithmetic of the network's convolutions per clip, a multiply-add counting two, in units of 1e9."""
    return 2e-9 * _trace(model, num_samples)[2]


def feature_names(model, num_samples: int = 350_000) -> tuple[str, ...]:
    """`layer/channel` of every feature, in order."""
    averages = _trace(model, num_samples)[1]
    return tuple(f"{layer}/{i}" for layer in model.feature_layers for i in range(averages[layer].shape[-1]))


def layer_means(model, variables, x):
    """Averages of a model's maps for its representation x: {layer: f32[B, C]}, in the model's order."""
    _, state = model.apply(variables, x, method="embed", mutable=["features"])
    found = {}
    for path, value in jax.tree_util.tree_leaves_with_path(state["features"]):
        found[path[-1].key] = value
    return {name: found[name] for name in model.feature_layers}


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


def _num_threads(model) -> int:
    """Blocks computed at a time: on a CPU small networks leave cores idle, and large ones fill them and the memory."""
    small = gigaflops(model) < 10
    return min(4, os.cpu_count() or 1) if small and jax.default_backend() == "cpu" else 1


def _as_blocks(audio, size):
    """Blocks f32[size, N] of clips, the last one filled up with zeros, and the number of real clips in each."""
    pending = []
    for clip in _clips(audio):
        pending.append(np.asarray(clip, jnp.result_type(float)))
        if pending[-1].ndim != 1 or pending[-1].shape != pending[0].shape:
            shapes = f"{pending[-1].shape} after {pending[0].shape}"
            raise ValueError(f"clips must be f32[N] of one length, got {shapes}; fit them, and give audio as [B, N]")
        if len(pending) == size:
            yield np.stack(pending), size
            pending = []
    if pending:
        filled = np.zeros((size, len(pending[0])), pending[0].dtype)
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

    blocks = _as_blocks(audio, num_devices * _block_size())
    rows = []
    num_threads = _num_threads(model)
    with ThreadPoolExecutor(num_threads) as threads:
        while window := list(itertools.islice(blocks, num_threads)):
            rows += threads.map(features_of, window)
    if not rows:
        raise ValueError("audio holds no clips; give at least one")
    return np.concatenate(rows, axis=1)


def extract(model, variables, audio, *, moments: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Features of clips under given weights.

    Args:
      model: a `taggers.Network`.
      variables: its variables, as `initialise` gives them.
      audio: f32[B, N], or an iterable of clips f32[N] of one length or of batches (`mirjax.data.loader`).
      moments: mean and deviation by which the representation is standardised; (0, 1) leaves it as it is.

    Returns:
      f32[B, D].

    Raises:
      ValueError: no clips, a clip too short for the network, or a deviation that is not positive.
    """
    return extract_each(model, [variables], audio, moments=moments)[0]


def random_features(model, keys: jax.Array, audio, *, moments: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Features of clips under random weights, for many seeds at once.

    The representation of a clip is computed once for all seeds; memory holds the seeds' weights, one block of clips
    and their maps.

    Args:
      model: a `taggers.Network`.
      keys: PRNG keys [S].
      audio: f32[B, N], or an iterable of clips f32[N] of one length or of batches (`mirjax.data.loader`).
      moments: mean and deviation by which the representation is standardised; (0, 1) leaves it as it is.

    Returns:
      f32[S, B, D]; row s equals `extract(model, initialise(model, keys[s]), audio)`.

    Raises:
      ValueError: as `extract`.
    """
    if jnp.ndim(keys) != 1:
        raise ValueError(f"keys of shape {jnp.shape(keys)} must be [S]; jax.random.split(key, S) makes S of them")
    return extract_each(model, [initialise(model, key) for key in keys], audio, moments=moments)


def representation_sums(model, audio) -> list[tuple[int, float, float]]:
    """Count, sum and sum of squares of every clip's representation, in float64."""
    num_devices = jax.local_device_count()
    represent, _, clips, _ = _compiled(model, num_devices)
    sums = []
    for block, real in _as_blocks(audio, num_devices * _block_size()):
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

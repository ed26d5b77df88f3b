"""A training step, and what is around it, against torch: ratios in one run.

step     forward, backward and an update by SGD of a small VGG tagger: four 3×3 convolutions of F filters, each with
         ReLU and 2×2 max-pooling, mean over time, dense layer to 50 tags, binary cross-entropy, 16 patches of T × 96.
         mirjax is `train.make_step` on the same network made of `blocks`. stock is JAX as it comes: the order
         convolution, ReLU, pooling, with the derivative that XLA has for pooling. torch in its default layout and in
         channels_last, in the usual order (convolution, ReLU, pooling) and with pooling first
pool     max-pooling and its derivative alone
input    convolution of one channel with its derivatives by kernel and by input, as below a learnt normalisation
loader   training through the loader (random patches, made by its threads while the step runs) against steps on one
         batch that is there; patches of log-mels and of audio that is heard in the step, of 64 clips of 29 s in memory,
         and of audio of 32 clips of four minutes in the cache of decoded files.
         All of it shares the core, so the ratio is what making batches costs and waiting for them
devices  the step on 1, 2, 4 and 8 fake devices of this core (of the processor, whatever else there is), by jit and by
         pmap, each in a process of its own
compile  processor seconds of the first step, and of the process until its end, without and with JAX's cache
memory   growth of VmHWM (of an accelerator: of its peak in use) over one step, above weights and batch, in a process of
         its own

Contenders start from the same weights and batches, and the losses of their first steps must agree. On an accelerator
times are those of the clock, bfloat16 is a contender, and torch takes no part unless it has the accelerator as well.

Usage: python benchmarks/training.py [--only step,pool,…] [--rounds 5] [--threads 1]
"""

import sys

sys.path.append(sys.path.pop(0))  # behind the standard library, whose `signal` one of the scripts' names would hide

import argparse
import functools
import itertools
import os
import subprocess
import tempfile
import time

from _measure import alternate, peak_growth, pin, print_table, ratio

BATCH, BANDS, TAGS, RATE = 16, 96, 50, 0.05
NETWORKS = ((376, 32, False), (188, 64, False), (376, 32, True))  # frames, filters, batch normalisation
SAMPLE_RATE = 12_000  # of LogMel()
TARGETS = {"default": 1.1, "channels_last": 0.85}
TOLERANCE = 1e-4
GEMM_SIZE = 1024
POOLS = (((376, 96, 32), (2, 2)), ((188, 48, 64), (4, 3)), ((128, 59, 32), (1, 59)), ((94, 11, 64), (1, 11)))
KERNELS = ((7, 86, 51), (3, 38, 32), (64, 1, 32), (3, 3, 32))
SECTIONS = "step,pool,input,loader,devices,compile,memory"


def title(frames, filters, norm):
    return f"T={frames} F={filters}" + (", batch norm" if norm else "")


def batch(frames, rows=BATCH):
    import numpy as np

    rng = np.random.default_rng(0)
    return {
        "representation": rng.standard_normal((rows, frames, BANDS), np.float32),
        "label": rng.integers(0, 2, (rows, TAGS)).astype(np.float32),
        "mask": np.ones(rows, bool),
    }


# ── the contenders: functions without arguments that make a step and return its loss ──


def task(filters, norm, dtype=None):
    from mirjax.models import backends, blocks, taggers
    from mirjax.signal.representations import LogMel
    from mirjax.tasks import tagging

    norms = {"norm": blocks.Norm(), "norm_first": True, "bias": False} if norm else {}
    stack = blocks.Stack((blocks.Conv(filters, (3, 3), pool=(2, 2), **norms),) * 4)
    network = taggers.Network(LogMel(), stack, backends.GlobalPool(("mean",)), blocks.Head(TAGS))
    return tagging.Tagging(network, loss="binary_cross_entropy", output="sigmoid", dtype=dtype)


def mirjax_step(frames, filters, norm, dtype=None, stream=None, **options):
    """The step of `train.make_step`, on one batch or on those of a stream, and the weights it begins with."""
    import jax
    import numpy as np

    from mirjax import optimisers, rules, train

    step = train.make_step(task(filters, norm, dtype), optimisers.make_optimiser("sgd", RATE), **options)
    stream = stream or itertools.repeat(batch(frames))
    state = step.init(jax.random.key(0), next(stream), rules.constant())
    params = jax.tree.map(np.array, step.host(state.params))

    def run():
        nonlocal state
        state, metrics = step(state, next(stream))
        return float(step.host(metrics["loss"]))

    return run, params


def layers_of(params):
    """Kernels and biases (or scales and shifts) of the four convolutions, and of the dense layer."""
    blocks = [params["front_end"][f"conv{i}_block"] for i in range(1, 5)]
    norms = [block.get("batch_norm", {"scale": None, "bias": block.get("bias")}) for block in blocks]
    output = params["head"]["output"]
    return [(b["kernel"], n["scale"], n["bias"]) for b, n in zip(blocks, norms, strict=True)], output


def stock_step(frames, params):
    """JAX with `lax.reduce_window`, written as most networks are."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from jax import lax

    rows = {name: jnp.asarray(values) for name, values in batch(frames).items()}

    def loss(params):
        convolutions, output = layers_of(params)
        x = rows["representation"][..., None]
        for kernel, scale, shift in convolutions:
            x = lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=lax.Precision.HIGHEST
            )
            if scale is not None:
                centred = x - x.mean((0, 1, 2), keepdims=True)
                x = centred * lax.rsqrt((centred**2).mean((0, 1, 2), keepdims=True) + 1e-3) * scale
            x = jax.nn.relu(x + shift)
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = x.mean(1).reshape(BATCH, -1) @ output["kernel"] + output["bias"]
        return optax.sigmoid_binary_cross_entropy(x, rows["label"]).mean()

    def update(params):
        value, gradient = jax.value_and_grad(loss)(params)
        return jax.tree.map(lambda p, g: p - RATE * g, params, gradient), value

    compiled = jax.jit(update, donate_argnums=0)
    params = jax.tree.map(lambda leaf: jnp.array(np.array(leaf)), params)

    def run():
        nonlocal params
        params, value = compiled(params)
        return float(value)

    return run


def torch_step(frames, params, channels_last, pool_first):
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional as F

    layout = torch.channels_last if channels_last else torch.contiguous_format
    device = torch_device()
    convolutions, output = layers_of(params)
    convs, norms = nn.ModuleList(), nn.ModuleList()
    for kernel, scale, shift in convolutions:
        convs.append(nn.Conv2d(*kernel.shape[2:], 3, padding=1, bias=scale is None))
        convs[-1].weight.data = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
        if scale is None:
            convs[-1].bias.data = torch.from_numpy(shift.copy())
        norms.append(nn.Identity() if scale is None else nn.BatchNorm2d(len(scale), eps=1e-3))
    dense = nn.Linear(*output["kernel"].shape)
    dense.weight.data = torch.from_numpy(output["kernel"].T.copy())
    dense.bias.data = torch.from_numpy(output["bias"].copy())
    model = nn.ModuleList((convs, norms, dense)).to(device=device, memory_format=layout)
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE)
    rows = batch(frames)
    signal = torch.from_numpy(rows["representation"])[:, None].to(device=device, memory_format=layout)
    label = torch.from_numpy(rows["label"]).to(device)

    def run():
        x = signal
        for convolve, normalise in zip(convs, norms, strict=True):
            x = normalise(convolve(x))
            x = F.relu(F.max_pool2d(x, 2)) if pool_first else F.max_pool2d(F.relu(x), 2)
        x = dense(x.mean(2).transpose(1, 2).reshape(BATCH, -1))
        loss = F.binary_cross_entropy_with_logits(x, label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return run


def torch_device():
    """Where torch takes part: the processor, or the accelerator if JAX runs on one; None if it does not."""
    import jax

    try:
        import torch
    except ImportError:
        return None
    if jax.default_backend() == "cpu":
        return "cpu"
    return "cuda" if torch.cuda.is_available() else None


def contenders(frames, filters, norm):
    import jax

    functions = {}
    functions["mirjax"], params = mirjax_step(frames, filters, norm)
    if jax.default_backend() != "cpu":
        functions["bfloat16"] = mirjax_step(frames, filters, norm, dtype="bfloat16")[0]
    functions["stock"] = stock_step(frames, params)
    if torch_device():
        for order in ("", ", pool first"):
            for layout in ("default", "channels_last"):
                functions[layout + order] = torch_step(frames, params, layout == "channels_last", bool(order))
    return functions


# ── sections ──


def clock():
    """Which time counts: the processor's, or on an accelerator the clock's."""
    import jax

    return "cpu" if jax.default_backend() == "cpu" else "wall"


def over(times, name, kind=None):
    """How many times longer than mirjax a contender takes."""
    kind = kind or clock()
    return ratio(getattr(times[name], kind) / getattr(times["mirjax"], kind)) if name in times else "–"


def product(dtype):
    """A matrix product in a type, of a size at which it is near the device's peak."""
    import jax
    import numpy as np

    size = gemm_size()
    square = jax.numpy.asarray(np.random.default_rng(0).standard_normal((size, size), np.float32), dtype)
    multiply = jax.jit(functools.partial(jax.numpy.matmul, precision="highest"))
    return lambda: multiply(square, square).block_until_ready()


def share_of_product(times, work, name, dtype):
    """The arithmetic of a step over that of a matrix product in the same time."""
    if name not in times:
        return "–"
    seconds, of_product = (getattr(times[each], clock()) for each in (name, f"product, {dtype}"))
    return f"{work / seconds / (2e-9 * gemm_size() ** 3 / of_product):.0%}"


def gemm_size():
    """Rows of a matrix whose square keeps the device busy."""
    import jax

    return GEMM_SIZE if jax.default_backend() == "cpu" else 8 * GEMM_SIZE


def measure_step(rounds):
    import jax

    from mirjax.models import layers

    rows = []
    for settings in NETWORKS:
        print(f"step {title(*settings)}", file=sys.stderr, flush=True)
        functions = contenders(*settings)
        losses = {name: [run() for _ in range(3)] for name, run in functions.items()}
        for name, values in losses.items():
            error = max(abs(a - b) / b for a, b in zip(values, losses["mirjax"], strict=True))
            assert name == "bfloat16" or error <= TOLERANCE, f"{name}: losses differ by {error:.1e}"
        kinds = {"mirjax": "float32", "bfloat16": "bfloat16"}
        functions |= {f"product, {dtype}": product(dtype) for name, dtype in kinds.items() if name in functions}
        times = alternate(functions, rounds=rounds)

        learner = task(*settings[1:])
        with layers.count_multiply_adds() as counted:
            jax.eval_shape(lambda rows: learner.init(jax.random.key(0), rows), batch(settings[0], 1))  # noqa: B023
        work = 3 * 2e-9 * BATCH * sum(counted)  # forward, by the kernels and by the inputs
        seconds = getattr(times["mirjax"], clock())
        shares = [share_of_product(times, work, *pair) for pair in kinds.items()]
        figures = {name: getattr(times[name], clock()) / seconds for name in TARGETS if name in times}
        missed = [f"{name} {figure:.2f}" for name, figure in figures.items() if figure < TARGETS[name]]
        others = ("default", "channels_last", "default, pool first", "channels_last, pool first", "stock", "bfloat16")
        rows.append(
            [
                title(*settings),
                f"{1e3 * seconds:.0f}",
                f"{work / seconds:.0f}",
                *shares,
                *(over(times, name) for name in others),
                over(times, "default", "wall"),
                "missed: " + ", ".join(missed) if missed else "met" if figures else "–",
            ]
        )
    print_table(
        "step|ms|GFLOP/s|of GEMM|bfloat16: of GEMM|× default|× channels_last|× default, pool first|"
        "× channels_last, pool first|× stock|× bfloat16|× default, wall|≥ 1.1, ≥ 0.85".split("|"),
        rows,
    )


def torch_derivative(function, arrays, layout=None):
    """Runs a function of tensors [B, C, T, F] and its derivatives by all of them."""
    import torch

    tensors = [torch.from_numpy(array).to(torch_device()) for array in arrays]
    tensors = [t.contiguous(memory_format=layout or torch.contiguous_format).requires_grad_() for t in tensors]
    weights = torch.ones_like(function(*tensors))

    def run():
        gradients = torch.autograd.grad(function(*tensors), tensors, weights)
        if torch_device() == "cuda":
            torch.cuda.synchronize()
        return gradients

    return run


def compare_derivatives(ours, stock, theirs, arrays, to_torch, rounds):
    """Ratios of value and derivatives, all of them asked to agree."""
    import jax
    import numpy as np

    arrays = [jax.device_put(array) for array in arrays]

    def jax_derivative(function):
        derive = jax.jit(lambda *arrays: jax.grad(lambda *a: function(*a).sum(), tuple(range(len(arrays))))(*arrays))
        return lambda: jax.block_until_ready(derive(*arrays))

    functions = {"mirjax": jax_derivative(ours), "stock": jax_derivative(stock)}
    wanted = functions["stock"]()
    found = {"mirjax": functions["mirjax"]()}
    if torch_device():
        import torch

        def turn(arrays, orders):
            return [np.asarray(array).transpose(order).copy() for array, order in zip(arrays, orders, strict=True)]

        for name, layout in (("default", None), ("channels_last", torch.channels_last)):
            functions[name] = torch_derivative(theirs, turn(arrays, to_torch), layout)
            gradients = [each.cpu() for each in functions[name]()]
            found[name] = turn(gradients, [np.argsort(order) for order in to_torch])
    for name, gradients in found.items():
        for a, b in zip(gradients, wanted, strict=True):
            error = float(np.abs(np.asarray(a) - b).max() / np.abs(b).max())
            assert error <= TOLERANCE, f"{name}: derivatives differ by {error:.1e}"
    times = alternate(functions, rounds=rounds, most=10)
    seconds = getattr(times["mirjax"], clock())
    return [f"{1e3 * seconds:.1f}", *(over(times, name) for name in ("stock", "default", "channels_last"))]


def measure_pool(rounds):
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    from mirjax.models import pooling

    lines = []
    for shape, window in POOLS:

        def stock(x, window=window):
            return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *window, 1), "VALID")

        def theirs(x, window=window):
            import torch

            return torch.nn.functional.max_pool2d(x, window)

        x = np.random.default_rng(0).standard_normal((BATCH, *shape), np.float32)
        ours = functools.partial(pooling.pool, window=window)
        name = f"{'×'.join(map(str, x.shape))} by {window[0]}×{window[1]}"
        lines.append([name, *compare_derivatives(ours, stock, theirs, [x], [(0, 3, 1, 2)], rounds)])
    print_table("pool|ms|× stock|× default|× channels_last".split("|"), lines)


def measure_input(rounds):
    import numpy as np
    from jax import lax

    from mirjax.models import convolution

    lines, none = [], ((0, 0), (0, 0))
    for *size, filters in KERNELS:

        def stock(x, kernel):
            numbers = ("NHWC", "HWIO", "NHWC")
            return lax.conv_general_dilated(x, kernel, (1, 1), none, dimension_numbers=numbers, precision="highest")

        def ours(x, kernel):
            return convolution.convolve(x, kernel, (1, 1), none)

        def theirs(x, kernel):
            import torch

            return torch.nn.functional.conv2d(x, kernel)

        rng = np.random.default_rng(0)
        arrays = [rng.standard_normal(shape, np.float32) for shape in ((BATCH, 187, BANDS, 1), (*size, 1, filters))]
        turns = [(0, 3, 1, 2), (3, 2, 0, 1)]
        figures = compare_derivatives(ours, stock, theirs, arrays, turns, rounds)
        lines.append([f"187×96 with {size[0]}×{size[1]} ({filters})", *figures])
    print_table("input|ms|× stock|× default|× channels_last".split("|"), lines)


def loader_clips(folder):
    """(name, clips) of which the loader cuts patches; those of files only where something decodes them."""
    import importlib.util
    from pathlib import Path

    import numpy as np

    from mirjax.data import audio, dataset, patches

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (64, TAGS)).astype(np.float32)
    for name, shape in (("representation", (1376, BANDS)), ("audio", (352_256,))):
        arrays = [rng.standard_normal(shape, np.float32) for _ in range(64)]
        axis = -1 if name == "audio" else 0
        yield name, patches.Clips(arrays.__getitem__, np.full(64, shape[0]), labels, name, axis)
    if importlib.util.find_spec("soundfile") is None:
        return
    import soundfile

    for i in range(32):
        path = Path(folder, "clips", str(i % 2), f"{i:02}.wav")
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(240 * SAMPLE_RATE), SAMPLE_RATE)
    source = dataset.open_source(Path(folder, "clips"))
    clips = audio.load_clips(source, sample_rate=SAMPLE_RATE, cache=Path(folder, "cache"), progress=False)
    yield "audio of cached files", patches.Clips(clips.audio, clips.lengths, labels[:32], "audio", -1, cut=clips.piece)


def measure_loader(rounds):
    import numpy as np

    from mirjax.data import patches

    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name, clips in loader_clips(folder):
            for settings in NETWORKS[:2]:
                steps = settings[0] if clips.time_axis == 0 else (settings[0] - 1) * 256
                batches = patches.TrainingBatches(clips, np.arange(len(clips.lengths)), BATCH, steps)
                numbers = itertools.count()
                functions = {
                    "step": mirjax_step(*settings, stream=itertools.repeat(batches[0]))[0],
                    "loop": mirjax_step(*settings, stream=batches.iterate())[0],
                    "batch": lambda batches=batches, numbers=numbers: batches[next(numbers)],
                }
                times = alternate(functions, rounds=rounds, least=4)  # steps enough to empty what was made ahead
                step, loop = (times[name].wall for name in ("step", "loop"))
                figures = [f"{1e3 * seconds:.1f}" for seconds in (times["batch"].cpu, step, loop)]
                lines.append([f"{title(*settings)}, {name}", *figures, ratio(loop / step)])
    print_table("loader|batch, ms of the processor|step, ms|through the loader, ms|× step".split("|"), lines)


def measure_devices(rounds):
    lines = []
    for parallel in ("jit", "pmap"):
        each = [float(child("devices", f"{parallel},{rounds}", devices=count)) for count in (1, 2, 4, 8)]
        ratios = (ratio(seconds / each[0]) for seconds in each[1:])
        lines.append([f"{title(*NETWORKS[2])}, {parallel}", f"{1e3 * each[0]:.0f}", *ratios])
    print_table("devices|1: ms|2: × 1|4: × 1|8: × 1".split("|"), lines)


def child_devices(given):
    parallel, rounds = given.split(",")
    run, _ = mirjax_step(*NETWORKS[2], parallel=parallel)
    print(getattr(alternate({"step": run}, rounds=int(rounds))["step"], clock()))


def measure_compile(_):
    lines = []
    for i, settings in enumerate(NETWORKS):
        with tempfile.TemporaryDirectory() as cache:
            cold, warm = (child("compile", str(i), cache=cache).split() for _ in range(2))
        lines.append([title(*settings), *(f"{float(each):.1f}" for each in (*cold, *warm))])
    print_table("compile|first step, s|process, s|cached first step, s|process, s".split("|"), lines)


def child_compile(given):
    run, _ = mirjax_step(*NETWORKS[int(given)])
    ready = time.process_time()
    run()
    print(time.process_time() - ready, time.process_time())


def measure_memory(_):
    names = ["mirjax", "stock"] + (["default", "channels_last"] if torch_device() else [])
    lines = []
    for i, settings in enumerate(NETWORKS):
        each = [float(child("memory", f"{i},{name}")) for name in names]
        lines.append([title(*settings), f"{each[0]:.0f}", *(ratio(megabytes / each[0]) for megabytes in each[1:])])
    print_table(["memory", "MB", *(f"× {name}" for name in names[1:])], lines)


def child_memory(given):
    i, name = given.split(",")
    settings = NETWORKS[int(i)]
    run, params = mirjax_step(*settings)
    if name == "stock":
        run = stock_step(settings[0], params)
    elif name != "mirjax":
        run = torch_step(settings[0], params, name == "channels_last", False)
    print(device_growth(run, name) or peak_growth(run))


def device_growth(run, name):
    """As `peak_growth`, of an accelerator's memory; None on the processor."""
    import jax

    if jax.default_backend() == "cpu":
        return None
    if name in ("mirjax", "stock"):
        device = jax.devices()[0]
        before = device.memory_stats()["bytes_in_use"]
        run()
        return (device.memory_stats()["peak_bytes_in_use"] - before) / 1e6
    import torch

    run()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def child(kind, given, devices=1, cache=None):
    """What a measurement in a process of its own prints."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags} | ({"JAX_PLATFORMS": "cpu"} if kind == "devices" else {})
    if cache:
        names = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
        environment |= dict(zip(names, (cache, "0"), strict=True)) | {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    command = [sys.executable, __file__, "--child", kind, given]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return found.stdout.splitlines()[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=SECTIONS, help="comma-separated sections")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    chosen = options.only.split(",")
    for name in chosen:
        if name not in SECTIONS.split(","):
            parser.error(f"--only {name}: the sections are {SECTIONS}")
    pin(options.threads)
    if options.child:
        globals()[f"child_{options.child[0]}"](options.child[1])
        return
    if torch_device():
        import torch

        torch.set_num_threads(options.threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # ours are float32 throughout
    for i, name in enumerate(chosen, start=1):
        print(f"{i}/{len(chosen)} {name}", file=sys.stderr, flush=True)
        globals()[f"measure_{name}"](options.rounds)
        print()


if __name__ == "__main__":
    main()

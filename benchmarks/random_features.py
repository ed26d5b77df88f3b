"""Features per second and peak memory of the ten random networks against plain torch, as ratios.

One 29.17 s clip, the network alone: both sides start from the same log-mel (or waveform) and end with the feature
vector, so the representation is in neither time (`signal.py` measures it). Contenders:

mirjax  the compiled program that `mirjax.features.extract_each` runs for every clip
port    torch written as the study's released code has it: conv2d, activation, max_pool2d; conv1d where a network is 1-D
tuned   torch with what made it faster on this kind of machine: conv1d for filters of full height, blocks of time, the
        maximum before the activation

Same weights, same clip; the outputs must agree. Peak memory is the growth of VmHWM over one call, above input and
weights, in a fresh process for each.

Usage: python benchmarks/random_features.py [--width 120|3500] [--architectures NAME,…] [--rounds 5] [--threads 1]
"""

import sys

sys.path.append(sys.path.pop(0))  # behind the standard library, whose `signal` one of the scripts' names would hide

import argparse
import functools
import subprocess

from _measure import alternate, peak_growth, pin, print_table, ratio, recordings

NUM_SAMPLES = 350_000
TOLERANCE = 1e-5
MEMORY_TARGET = 200  # MB, every network
GEMM_SIZE = 1024


def targets(name, n):
    """Least ratio to the port, to the tuned port, and least share of the matrix product's rate; None: no target."""
    if name in ("timbral_temporal", "timbral_time"):
        return 2.5, 1.5, None
    if name in ("7x96", "7x86"):
        return None, None, 0.8 if n >= 100 else 0.6
    if name == "vgg":
        return (3 if n <= 90 else 1.2), None, None
    return None, None, None


# The torch side: {layer: mean over its map} of one clip, from weights {path: (weight in torch's order, bias)}.


def _blocks(x, reach, step, function):
    """`function` over blocks of `step` output frames of x [..., T, F], summed over time, with the number of frames."""
    import torch

    frames = x.shape[-2] - reach + 1
    parts = [function(x[..., i : min(i + step, frames) + reach - 1, :]) for i in range(0, frames, step)]
    return torch.stack(parts).sum(0) / frames


def torch_vgg(x, w, tuned):
    import torch.nn.functional as F

    x = x.repeat(1, -(-1376 // x.shape[1]), 1)[:, :1376][:, None]
    for i, pool in enumerate(((4, 2), (4, 3), (5, 2), (4, 2), (4, 4)), start=1):
        weight, bias = w[f"conv{i}"]
        x = F.conv2d(x, weight, bias, padding=1)
        x = F.elu(F.max_pool2d(x, pool)) if tuned else F.max_pool2d(F.elu(x), pool)
        yield x.mean((2, 3))


def torch_vertical(x, weight, bias, tuned, pad=False):
    import torch.nn.functional as F

    filters, _, frames, height = weight.shape
    if pad:
        x = F.pad(x, (0, 0, (frames - 1) // 2, frames // 2))
    if not tuned:
        maps = F.relu(F.conv2d(x[:, None], weight, bias))
        return F.max_pool2d(maps, (1, maps.shape[3])).mean((2, 3))
    if height == x.shape[2]:
        flat = weight[:, 0].transpose(1, 2).contiguous()
        return F.relu(F.conv1d(x.transpose(1, 2).contiguous(), flat, bias)).mean(2)
    step = 172 if filters <= 128 else max(32, 172 * 128 // filters)
    return _blocks(x, frames, step, lambda part: F.relu(F.conv2d(part[:, None], weight, bias).amax(3)).sum(2))


def torch_temporal(x, w, tuned, lengths):
    import torch.nn.functional as F

    x = x.mean(2)[:, None]
    for length in lengths:
        weight, bias = w[f"conv_temporal_{length}"]
        yield F.relu(F.conv1d(F.pad(x, ((length - 1) // 2, length // 2)), weight, bias)).mean(2)


def torch_timbral(x, w, tuned):
    for frames, height in ((7, 86), (3, 86), (1, 86), (7, 38), (3, 38), (1, 38)):
        yield torch_vertical(x, *w[f"conv_timbral_{frames}x{height}"], tuned, pad=True)


def torch_sample(x, w, tuned):
    import torch.nn.functional as F

    weight, bias = w["stack1"]
    x = F.relu(F.conv1d(x[:, None], weight, bias, stride=3))
    yield x.mean(2)
    for i in range(2, 8):
        weight, bias = w[f"stack{i}"]
        x = F.conv1d(x, weight, bias, padding=1)
        x = F.relu(F.max_pool1d(x, 3)) if tuned else F.max_pool1d(F.relu(x), 3)
        yield x.mean(2)


def torch_frame(x, w, tuned, lengths=(512,)):
    import torch
    import torch.nn.functional as F

    samples, maps = x[:, None], []
    for length in lengths:
        weight, bias = w[f"conv_frame_{length}"]
        x = samples
        if len(lengths) > 1:
            surplus = (-(-x.shape[2] // 32) - 1) * 32 + length - x.shape[2]
            x = F.pad(x, (max(surplus, 0) // 2, max(surplus, 0) - max(surplus, 0) // 2))
        maps.append(F.relu(F.conv1d(x, weight, bias, stride=32)))
        yield maps[-1].mean(2)
    x = F.relu(F.conv1d(torch.cat(maps, 1), *w["conv_extra1"]))
    yield x.mean(2)
    x = x + F.relu(F.conv1d(x, *w["conv_extra2"], padding=3))
    yield x.mean(2)
    x = F.max_pool1d(x, 2)
    x = x + F.relu(F.conv1d(x, *w["conv_extra3"], padding=3))
    yield x.mean(2)


def torch_features(name, x, w, tuned):
    """Features f32[B, D] of a representation [B, T, F] or [B, N] by torch."""
    import torch

    long, short = (165, 128, 64, 32), (64, 32, 16, 8)
    means = {
        "vgg": lambda: torch_vgg(x, w, tuned),
        "7x96": lambda: [torch_vertical(x, *w["conv"], tuned)],
        "7x86": lambda: [torch_vertical(x, *w["conv"], tuned)],
        "timbral": lambda: torch_timbral(x, w, tuned),
        "temporal": lambda: torch_temporal(x, w, tuned, long),
        "timbral_temporal": lambda: [*torch_timbral(x, w, tuned), *torch_temporal(x, w, tuned, long)],
        "timbral_time": lambda: [*torch_timbral(x, w, tuned), *torch_temporal(x, w, tuned, short)],
        "sample": lambda: torch_sample(x, w, tuned),
        "frame": lambda: torch_frame(x, w, tuned),
        "frame_many": lambda: torch_frame(x, w, tuned, (512, 256, 128, 64, 32)),
    }[name]()
    return torch.cat(list(means), 1)


def torch_weights(tree):
    """Every layer's kernel (k…, in, out) and bias as torch has them: (out, in, k…) and (out)."""
    import numpy as np
    import torch

    found = {}
    for name, node in tree.items():
        if "kernel" not in node:
            found |= torch_weights(node)
            continue
        kernel, bias = np.asarray(node["kernel"]), np.asarray(node["bias"])
        kernel = np.moveaxis(kernel, (-1, -2), (0, 1))
        found[name] = torch.from_numpy(kernel.copy()), torch.from_numpy(bias.copy())
    return found


def prepare(name, width, contenders):
    """The contenders' functions for one network, each without arguments and giving f32[1, D]; and the model."""
    import jax
    import numpy as np

    from mirjax import features
    from mirjax.models import zoo

    model = zoo.build(name, zoo.num_filters(name, width))
    variables = features.initialise(model, jax.random.key(0), NUM_SAMPLES)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape, np.float32) if leaf.ndim == 1 else np.asarray(leaf), variables
    )
    x = np.asarray(model.representation(recordings(12_000, NUM_SAMPLES, 1)))
    functions = {}
    if "mirjax" in contenders:
        _, embed, _, _ = features._compiled(model, 1)
        arguments = jax.device_put((x, variables, np.float32(0), np.float32(1)))
        functions["mirjax"] = lambda: np.asarray(embed(*arguments))
    if set(contenders) - {"mirjax"}:
        import torch

        weights, tensor = torch_weights(variables["params"]), torch.from_numpy(x.copy())

        def run(tuned):
            with torch.inference_mode():
                return torch_features(name, tensor, weights, tuned).numpy()

        functions |= {kind: functools.partial(run, kind == "tuned") for kind in ("port", "tuned") if kind in contenders}
    return model, functions


def memory(name, width, contender):
    """Peak growth in MB of one contender, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", contender, "--architectures", name, "--width", str(width)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def compare(name, width, rounds):
    """One line of the table."""
    import jax
    import numpy as np

    from mirjax import features
    from mirjax.models import zoo

    model, functions = prepare(name, width, ("mirjax", "port", "tuned"))
    expected = functions["port"]()
    error = 0.0
    for contender in ("mirjax", "tuned"):
        found = functions[contender]()
        assert found.shape == expected.shape, f"{name}: {contender} gives {found.shape}, the port {expected.shape}"
        error = float(np.abs(found - expected).max() / np.abs(expected).max())
        assert error <= TOLERANCE, f"{name}: {contender} and the port differ by {error:.1e} of the largest feature"
        if contender == "mirjax":
            agreement = error
    square = jax.device_put(np.random.default_rng(0).standard_normal((GEMM_SIZE, GEMM_SIZE), np.float32))
    multiply = jax.jit(lambda a: a @ a)
    functions["product"] = lambda: multiply(square).block_until_ready()

    times = alternate(functions, rounds=rounds)
    cpu = {contender: time.cpu for contender, time in times.items()}
    work = features.gigaflops(model, NUM_SAMPLES)
    share = work / cpu["mirjax"] / (2e-9 * GEMM_SIZE**3 / cpu["product"])
    figures = cpu["port"] / cpu["mirjax"], cpu["tuned"] / cpu["mirjax"], share
    megabytes = {contender: memory(name, width, contender) for contender in ("mirjax", "port")}

    n = zoo.num_filters(name, width)
    wanted, missed = [], []
    for figure, least, text in zip(
        figures, targets(name, n), ("≥ {}× port", "≥ {}× tuned", "≥ {:.0%} of GEMM"), strict=True
    ):
        if least is not None:
            wanted.append(text.format(least))
            missed += [text.format(least)] * (figure < least)
    wanted.append(f"≤ {MEMORY_TARGET} MB")
    missed += [wanted[-1]] * (megabytes["mirjax"] > MEMORY_TARGET)
    return [
        name,
        n,
        f"{work:.2f}",
        f"{1e3 * cpu['mirjax']:.1f}",
        f"{work / cpu['mirjax']:.0f}",
        f"{share:.0%}",
        f"{work / cpu['port']:.0f}",
        f"{work / cpu['tuned']:.0f}",
        ratio(figures[0]),
        ratio(figures[1]),
        ratio(times["port"].wall / times["mirjax"].wall),
        f"{megabytes['mirjax']:.0f}",
        f"{megabytes['port']:.0f}",
        ratio(megabytes["port"] / max(megabytes["mirjax"], 1)),
        f"{agreement:.0e}",
        ", ".join(wanted),
        "missed: " + ", ".join(missed) if missed else "met",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=120, choices=(120, 3500))
    parser.add_argument("--architectures", default="all", help="comma-separated names of the zoo")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-of", choices=("mirjax", "port", "tuned"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    pin(options.threads)

    from mirjax.models import zoo

    known = zoo.names()
    chosen = known if options.architectures == "all" else tuple(options.architectures.split(","))
    for name in chosen:
        zoo.lookup(name)
    if options.memory_of != "mirjax":
        import torch

        torch.set_num_threads(options.threads)
    if options.memory_of:
        _, functions = prepare(chosen[0], options.width, (options.memory_of,))
        print(peak_growth(functions[options.memory_of]))
        return
    rows = []
    for i, name in enumerate(chosen, start=1):
        print(f"{i}/{len(chosen)} {name}", file=sys.stderr, flush=True)
        rows.append(compare(name, options.width, options.rounds))
    print_table(
        "network|n|GFLOP|mirjax ms|GFLOP/s|of GEMM|port GFLOP/s|tuned GFLOP/s|× port|× tuned|× port, wall|"
        "MB mirjax|MB port|× MB|difference|target|verdict".split("|"),
        rows,
    )


if __name__ == "__main__":
    main()

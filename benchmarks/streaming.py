"""A closed form over any number of rows: accumulated from batches that are made on the fly and forgotten.

Rows x are normal, labels those of a planted linear model with noise; hidden activations max(xW + b, 0). Prints time,
rate, the process' peak memory after the first batches and at the end (which must be flat), the accuracy on rows not
seen beside that of the planted model itself, and what the cost model makes of it for more rows and devices:

    seconds = n·h·(h + 2D + 2K) / (rate · devices),   bytes = 8·h²·(devices + 6) on one host, whatever n

(multiplies and adds, the products counted once above the diagonal; + 6: the sums while they are fetched and solved).
On CPUs the rates are by processor time over threads, on accelerators by the clock.

by      sharded: `sharded.accumulate` on JAX's devices; host: `Gram.add_batches`, BLAS, activations by JAX
        With --checkpoint the sums are saved every --chunk rows, and a run that was stopped goes on from there.

Usage: python benchmarks/streaming.py [--rows 1e6] [--hidden 2500] [--features 120] [--classes 10] [--batch 1000]
           [--dtype float64] [--by sharded] [--devices 1] [--threads 1] [--checkpoint sums.npz] [--chunk 1e6]
"""

import sys

sys.path.append(sys.path.pop(0))  # behind the standard library, whose `signal` one of the scripts' names would hide

import argparse
import os
import time
from pathlib import Path

from _measure import _status, pin, print_table

RIDGE = 1e-3
HELD_OUT = 20_000
NOISE = 2.0  # of the planted scores, whose deviation is sqrt(D)
EXTRAPOLATED = (1e6, 1e7, 1e8)
DEVICES = (1, 8, 64)
MEMORY = ("start MB", "peak at batch 5 MB", "peak at the last batch MB", "peak at the end MB")  # VmRSS, then VmHWM


def maker(num_features, num_classes, batch):
    """number of a batch → (x f32[B, D], label i32[B], planted label i32[B]), always the same rows for a number."""
    import jax
    import jax.numpy as jnp

    planted = jax.random.normal(jax.random.key(1), (num_features, num_classes))

    @jax.jit
    def make(number):
        of_x, of_noise = jax.random.split(jax.random.fold_in(jax.random.key(2), number))
        x = jax.random.normal(of_x, (batch, num_features))
        scores = jnp.matmul(x, planted, precision="highest")
        noisy = scores + NOISE * jax.random.normal(of_noise, scores.shape)
        return x, noisy.argmax(1), scores.argmax(1)

    return make


def batches(make, numbers, num_classes, watch):
    import numpy as np

    classes = np.arange(num_classes)
    for number in numbers:
        watch(number)
        x, label, _ = make(number)
        yield x, np.where(np.asarray(label)[:, None] == classes, 1.0, -1.0)


def accumulate(by, layer, source, num_classes, dtype):
    from mirjax.classifiers.gram import Gram
    from mirjax.classifiers.sharded import accumulate

    if by == "sharded":
        return accumulate(layer, source, dtype=dtype)
    return Gram.empty(layer.hidden_units, num_classes).add_batches((layer(x, dtype), y) for x, y in source)


def held_out(layer, weights, intercept, make, first, batch, dtype):
    """Accuracy of the solution, and of the planted model, on rows after the last one."""
    import numpy as np

    right, planted_right, count = 0, 0, 0
    for number in range(first, first + -(-HELD_OUT // batch)):
        x, label, planted = (np.asarray(a) for a in make(number))
        right += np.sum((layer(x, dtype) @ weights + intercept).argmax(1) == label)
        planted_right += np.sum(planted == label)
        count += len(x)
    return right / count, planted_right / count


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--hidden", type=int, default=2500)
    parser.add_argument("--features", type=int, default=120)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float64")
    parser.add_argument("--by", choices=["sharded", "host"], default="sharded")
    parser.add_argument("--devices", type=int, default=1, help="fake CPU devices; ignored where there is another kind")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--chunk", type=float, default=1e6)
    return parser.parse_args(arguments)


def main(arguments):
    options = parse(arguments)
    pin(options.threads)
    os.environ["JAX_NUM_CPU_DEVICES"] = str(options.devices)
    import jax
    import numpy as np

    from mirjax.classifiers.gram import Gram
    from mirjax.classifiers.hidden import draw_layer

    h, d, k, batch = options.hidden, options.features, options.classes, options.batch
    layer, dtype = draw_layer(d, h, 0), np.dtype(options.dtype)
    make = maker(d, k, batch)
    total = round(options.rows) // batch  # batches, all of them full
    if total < 7:
        raise SystemExit(f"--rows {options.rows:g}: at least 7 batches of {batch} are needed to see memory stay flat")
    chunk = max(1, round(options.chunk) // batch) if options.checkpoint else total
    gram = Gram.empty(h, k)
    if options.checkpoint and options.checkpoint.exists():
        gram = Gram.load(options.checkpoint)
        print(f"{options.checkpoint} holds {gram.count:,} rows: going on from there", flush=True)
    done = begun = gram.count // batch
    if done >= total:
        raise SystemExit(f"{options.checkpoint} holds all {gram.count:,} rows; ask for more or remove it")
    base, peaks = _status("VmRSS"), []
    accumulate(options.by, layer, batches(make, range(3), k, lambda _: None), k, dtype)  # compiles
    start, cpu = time.perf_counter(), time.process_time()

    def watch(number):
        if number in (begun + 5, total - 1):
            peaks.append(_status("VmHWM"))
        if number and number % max(1, total // 20) == 0:
            seconds = time.perf_counter() - start
            print(f"  {number * batch:,} rows, {seconds:,.0f} s, VmHWM {_status('VmHWM'):.0f} MB", file=sys.stderr)

    while done < total:
        end = min(done + chunk, total)
        part = accumulate(options.by, layer, batches(make, range(done, end), k, watch), k, dtype)
        gram, done = (part if gram.count == 0 else gram + part), end
        if options.checkpoint:
            gram.save(options.checkpoint)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    weights, intercept = gram.solve(RIDGE, fit_intercept=True)
    solved, peak = time.perf_counter() - start - seconds, _status("VmHWM")
    accuracy, planted = held_out(layer, weights, intercept, make, total, batch, dtype)

    rows = (total - begun) * batch
    work = h * (h + 2 * d + 2 * k)
    spent = cpu / options.threads if jax.devices()[0].platform == "cpu" else seconds  # others may be busy here, too
    rate = rows * work / spent
    devices = jax.device_count() if options.by == "sharded" else 1
    print(f"\n{gram.count:,} rows, h = {h}, D = {d}, K = {k}, batches of {batch}, {options.dtype}, {options.by}:")
    print(f"{devices} {jax.devices()[0].platform} device(s), {options.threads} thread(s)\n")
    print_table(
        ["rows", "seconds", "CPU seconds", "rows/s", "GFLOP/s", "solve s", *MEMORY],
        [
            [f"{rows:,}", f"{seconds:.1f}", f"{cpu:.1f}", f"{rows / spent:,.0f}", f"{rate / 1e9:.1f}", f"{solved:.2f}"]
            + [f"{value:.0f}" for value in (base, peaks[0], peaks[-1], peak)]
        ],
    )
    print(f"\naccuracy on {HELD_OUT:,} rows not seen: {accuracy:.4f}; the planted model's own: {planted:.4f}")
    print(f"digits of the least exact hidden unit, by its bound: {gram.digits.min():.1f}")
    print(f"memory by the model: {8 * h**2 * (devices + 6) / 1e6:,.0f} MB above the start\n")
    # No device waits for another before the one all-reduce: their rates add up as long as the batches come in time.
    print_table(
        ["extrapolated from this run, not measured", *[f"{count} such device(s)" for count in DEVICES]],
        [
            [f"{n:.0e} rows", *[f"{n * work / rate * devices / count / 3600:,.3f} h" for count in DEVICES]]
            for n in EXTRAPOLATED
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1:])

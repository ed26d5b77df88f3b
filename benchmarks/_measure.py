"""How the benchmarks measure: one core, one thread, contenders alternated in one process, medians.

`pin` must run before numpy, jax or torch are imported: their thread pools read the environment and the cores once.
"""

import ctypes
import gc
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path


def pin(threads: int = 1) -> None:
    """Bind this process to `threads` cores, and every library's thread pool with it."""
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise SystemExit(f"--threads {threads}: this machine lends 1 to {len(cores)}")
    os.sched_setaffinity(0, cores[-threads:])  # the last ones: other jobs gather on the first
    for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)


@dataclass(frozen=True)
class Time:
    """Median seconds of one call: of the processor (all threads, kernel included) and by the clock."""

    cpu: float
    wall: float


def alternate(contenders: dict, *, rounds: int, least: float = 0.05, most: float = float("inf")) -> dict[str, Time]:
    """Time functions without arguments, in turn, the order reversed on odd rounds.

    Each is called once to warm up and then, a round, as often as makes `least` seconds. One that has taken `most`
    seconds sits out the rounds that are left. A function must return only when its work is done.
    """
    repeats = {}
    for name, function in contenders.items():
        for _ in range(2):  # the first call may compile; its time decides only whether a second one is affordable
            cpu, wall = time.process_time(), time.perf_counter()
            function()
            spent = max(time.process_time() - cpu, time.perf_counter() - wall)  # an accelerator's work is no CPU time
            if spent > 1:
                break
        repeats[name] = max(1, round(least / max(spent, 1e-6)))
    samples, taken = {name: [] for name in contenders}, dict.fromkeys(contenders, 0.0)
    for i in range(rounds):
        for name in list(contenders)[:: 1 if i % 2 == 0 else -1]:
            if taken[name] >= most:
                continue
            function, count = contenders[name], repeats[name]
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(count):
                function()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            samples[name].append((cpu / count, wall / count))
            taken[name] += wall
    return {name: Time(*map(statistics.median, zip(*pairs, strict=True))) for name, pairs in samples.items()}


def _status(field):
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status has no {field}: peak memory is measured on Linux only")


def peak_growth(function) -> float:
    """Megabytes by which one call raises the process' resident memory at its peak (VmHWM), after a warming call."""
    function()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the warming call freed would hide in the heap
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = _status("VmRSS")
    function()
    return _status("VmHWM") - before


def ratio(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def print_table(head, rows) -> None:
    """One Markdown table; the first column to the left, the others to the right."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    print("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines), flush=True)


def recordings(sample_rate: int, num_samples: int, count: int):
    """Clips of real sound f32[count, num_samples]: the embedded rhythms, repeated to the length asked for.

    Where their decoder is not installed: the golden tests' clip, each time from elsewhere on, its samples taken as if
    they were of that rate.
    """
    import numpy as np

    from mirjax.data import audio, dataset

    try:
        source = dataset.open_source("rhythm_small")
        clips = [audio.decode(source.encoded(i), sample_rate=sample_rate) for i in range(count)]
    except (ImportError, OSError):  # no soundfile, or no library below it
        golden = np.load(Path(__file__).parents[1] / "tests" / "golden" / "inputs.npz")["wave12k"]
        clips = [np.roll(golden, -2_000 * i) for i in range(count)]
    return np.stack([np.resize(clip, num_samples) for clip in clips]).astype(np.float32)

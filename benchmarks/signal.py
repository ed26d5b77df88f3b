"""The audio core against librosa, torch, nnAudio, torchlibrosa, soxr and scipy: ratios of time, memory and error.

First table: log-mel spectrograms of 29.17 s clips at four settings and in batches of 1, 8 and 64 (in one call, and in
calls of 8). Decibels are timed; the error is that of the power mel. Second table: the other functions, at 22,050 Hz
and with librosa's defaults unless their rows say otherwise.

Every library starts from float32 arrays that it already holds and uses its own best batch form: librosa, torch.stft,
soxr and scipy clip after clip (a whole batch is slower for them), nnAudio and torchlibrosa the batch at once, 8 clips
a call and no batch of 64 (it is eight of 8). Ours runs under `jit`, as in a model; "direct" is the public function
called without it, checks of the values included. Filters of log-mel are made once for every library; librosa makes
those of its other functions anew in every call, and has no other way.

The error is max|a − b| / max|b| over the first clip; b is librosa in float64 (ours in float64 on the CPU where librosa
is not installed), or what a row's remark says. MB is the growth of resident memory at its peak over one call, above the
input, in a fresh process. A library that is not installed is left out by name.

On an accelerator the figures of time are the clock's instead of the processor's, the peers stay on the CPU, our MB are
XLA's plan (temporary and output buffers), and a column says which fraction of the memory's bandwidth a call reaches:
bytes of input and output over time, as a share of what x + 1 reaches on 256 MB.

Usage: python benchmarks/signal.py [--only log_mel,stft,…] [--rounds 5] [--threads 1] [--quick]
"""

import sys

sys.path.append(sys.path.pop(0))  # behind the standard library, whose `signal` this script's name would hide

import argparse
import functools
import math
import os
import platform
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from _measure import alternate, peak_growth, pin, print_table, ratio, recordings
from _signal_peers import CALL, CASES, SECONDS

TARGETS = {"librosa": 2.5, "torch": 2, "nnAudio": 7, "torchlibrosa": 7}  # log-mel, batches up to 8
ERROR_TARGET = 1e-6
PATIENCE = 20  # seconds of rounds after which a slow contender sits out the rest


def set_torch(threads):
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)


def expected(case, x):
    """(input of the check f[1, ...], what is true of it)."""
    import jax
    import numpy as np

    if case.probe:
        return case.probe()
    double = x[0].astype(np.complex128 if np.iscomplexobj(x) else np.float64)
    try:
        return x[:1], case.oracle(double)
    except ImportError:
        with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
            contender = case.makers["mirjax"]()
            return x[:1], contender.first((contender.check or contender.call)(contender.hold(double[None])))


def error(case, contender, x, truth):
    """max|a − b| / max|b| of what is compared."""
    import numpy as np

    single = x.astype(np.complex64 if np.iscomplexobj(x) else np.float32)
    found = contender.first((contender.check or contender.call)(contender.hold(single)))
    truth, found = (case.select(np.atleast_1d(values)) for values in (truth, found))
    length = min(len(truth), len(found))
    return float(np.abs(found[:length] - truth[:length]).max() / np.abs(truth[:length]).max())


def memory(address, library, x, folder, threads):
    """Peak growth in MB over one call, in a process of its own."""
    import numpy as np

    np.save(Path(folder) / "x.npy", x)
    command = [sys.executable, __file__, "--memory-of", library, "--only", address, "--threads", str(threads)]
    result = subprocess.run(
        [*command, "--input", str(Path(folder) / "x.npy")], check=True, capture_output=True, text=True
    )
    return float(result.stdout.split()[-1])


def planned_memory(function, held):
    """MB of temporary and output buffers, as XLA plans them."""
    import jax

    plan = jax.jit(function).lower(held).compile().memory_analysis()
    return (plan.temp_size_in_bytes + plan.output_size_in_bytes) / 2**20


def copy_rate():
    """Bytes a second, read and written, of x + 1 on 256 MB."""
    import jax
    import jax.numpy as jnp

    add = jax.jit(lambda x: x + 1)
    x = jnp.zeros(64 << 20, jnp.float32)
    seconds = alternate({"copy": lambda: add(x).block_until_ready()}, rounds=5)["copy"].wall
    return 2 * x.nbytes / seconds


@dataclass(frozen=True)
class Measured:
    """Figures of one case and batch, by library; "direct" and "calls of 8" are ours too."""

    seconds: dict
    megabytes: dict
    errors: dict
    bandwidth: float | None


BATCHED = ("nnAudio", "torchlibrosa")  # a batch at once: 64 clips are eight calls of 8, not timed again
OURS = ("mirjax", "direct", "calls of 8")


def measure(address, case, audio, options, folder, rate, absent):
    """One case with one batch; `rate` is the memory's on an accelerator, else None."""
    import jax
    import numpy as np

    print(f"{case.title}, batch {len(audio)}", file=sys.stderr, flush=True)
    x = np.ascontiguousarray(case.source(audio))
    probe, truth = expected(case, x)
    calls, errors, megabytes = {}, {}, {}
    for library, make in case.makers.items():
        if library in (("calls of 8",) if len(audio) <= CALL else BATCHED):
            continue
        try:
            contender = make()
        except ImportError as missing:
            absent.add(missing.name)
            continue
        held = contender.hold(x.copy())
        calls[library] = functools.partial(contender.call, held)
        if library != "calls of 8":
            errors[library] = error(case, contender, probe, truth)
        if library == "mirjax":
            calls["direct"] = lambda f=contender.function, held=held: jax.block_until_ready(f(held))
        if rate is not None and library == "mirjax":
            megabytes[library] = planned_memory(contender.function, held)
        elif rate is None or library not in OURS:
            megabytes[library] = memory(address, library, x, folder, options.threads)
    times = alternate(calls, rounds=options.rounds, most=PATIENCE)
    seconds = {library: spent.cpu if rate is None else spent.wall for library, spent in times.items()}
    bandwidth = None
    if rate is not None:
        moved = x.nbytes + sum(leaf.nbytes for leaf in jax.tree.leaves(calls["mirjax"]()))
        bandwidth = moved / seconds["mirjax"] / rate
    return Measured(seconds, megabytes, errors, bandwidth)


def milliseconds(seconds):
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def slashed(figures, libraries, form):
    return " / ".join(format(figures[library], form) if library in figures else "–" for library in libraries)


def log_mel_row(case, batch, measured, form):
    """One line of the first table; `form` is "mirjax" (one call) or "calls of 8"."""
    libraries, seconds = ["mirjax", *TARGETS], measured.seconds
    row = [
        case.title,
        batch if batch <= CALL else f"{batch}, {form if form in seconds and form != 'mirjax' else 'one call'}",
    ]
    row += [milliseconds(seconds[form]), milliseconds(seconds["direct"]) if form == "mirjax" else "–"]
    missed = [] if measured.errors["mirjax"] <= ERROR_TARGET else [f"error ≤ {ERROR_TARGET:.0e}"]
    for library, least in TARGETS.items():
        gain = seconds[library] / seconds[form] if library in seconds else None
        row.append("–" if gain is None else ratio(gain))
        missed += [f"{library} ≥ {least}×"] * (gain is not None and gain < least)
    megabytes = measured.megabytes | {"mirjax": measured.megabytes.get(form, math.nan)}
    row += [slashed(megabytes, libraries, ".0f"), slashed(measured.errors, libraries, ".0e")]
    row += [] if measured.bandwidth is None else [f"{measured.bandwidth:.0%}" if form == "mirjax" else "–"]
    verdict = "missed: " + ", ".join(missed) if missed else "met"
    return [*row, verdict if batch <= CALL or form != "mirjax" else "–"]


def other_row(case, batch, measured):
    """One line of the second table: the best peer first."""
    seconds = measured.seconds
    peers = sorted((library for library in seconds if library not in OURS), key=seconds.get)
    gains = [f"{ratio(seconds[peer] / seconds['mirjax'])} {peer}" for peer in peers] or ["–"]
    best = seconds[peers[0]] / seconds["mirjax"] if peers else math.nan

    def beside(figures, form):
        return ", ".join(f"{figures[peer]:{form}} {peer}" for peer in peers) or "–"

    row = [case.title, batch, milliseconds(seconds["mirjax"]), milliseconds(seconds["direct"])]
    row += [gains[0], ", ".join(gains[1:]) or "–"]
    row += [f"{measured.megabytes['mirjax']:.0f}", beside(measured.megabytes, ".0f")]
    row += [f"{measured.errors['mirjax']:.0e}", beside(measured.errors, ".0e")]
    row += [] if measured.bandwidth is None else [f"{measured.bandwidth:.0%}"]
    return [*row, case.remark, "–" if math.isnan(best) else "quicker" if best >= 1 else "slower"]


def head_line(options, rate):
    """What was measured on which machine."""
    import jax

    device = jax.devices()[0]
    versions = ", ".join(f"{name} {version}" for name, version in installed())
    clock = "processor time" if rate is None else "wall time; the peers run on the CPU"
    lines = [f"Ratios of {clock}. {device.platform} ({device.device_kind}), {platform.machine()}, {versions}."]
    lines += [f"Host: {options.threads} thread, {options.rounds} rounds, load {os.getloadavg()[0]:.1f} at the start."]
    if rate is not None:
        lines.append(f"Of bandwidth: share of {rate / 1e9:.0f} GB/s, the rate of x + 1 on 256 MB (read and written).")
    return "\n".join(lines)


def installed():
    from importlib import metadata

    for name in ("jax", "librosa", "torch", "nnAudio", "torchlibrosa", "soxr", "scipy", "numpy"):
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, "not installed"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", help=f"comma-separated names of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="3 rounds, batches of 1")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--input", help=argparse.SUPPRESS)
    options = parser.parse_args()
    pin(options.threads)
    if options.memory_of not in (*OURS, "librosa"):
        set_torch(options.threads)
    if options.memory_of:
        import numpy as np

        name, index = options.only.split(".")
        contender = CASES[name]()[int(index)].makers[options.memory_of]()
        print(peak_growth(functools.partial(contender.call, contender.hold(np.load(options.input)))))
        return
    chosen = list(CASES) if options.only is None else options.only.split(",")
    if unknown := set(chosen) - set(CASES):
        parser.error(f"--only {','.join(sorted(unknown))}: choose among {', '.join(CASES)}")
    options.rounds = min(options.rounds, 3) if options.quick else options.rounds

    import jax

    rate = None if jax.default_backend() == "cpu" else copy_rate()
    absent, log_mels, others = set(), [], []
    print(head_line(options, rate), end="\n\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            for i, case in enumerate(CASES[name]()):
                for batch in (1,) if options.quick else (1, 8, 64) if name == "log_mel" else (1, 8):
                    audio = recordings(case.sample_rate, round(SECONDS * case.sample_rate), batch)
                    measured = measure(f"{name}.{i}", case, audio, options, folder, rate, absent)
                    if name == "log_mel":
                        forms = ("mirjax", "calls of 8") if batch > CALL else ("mirjax",)
                        rows = [log_mel_row(case, batch, measured, form) for form in forms]
                        log_mels += rows
                    else:
                        rows = [other_row(case, batch, measured)]
                        others += rows
                    for row in rows:
                        print(*row, sep=" | ", file=sys.stderr, flush=True)
    bandwidth = [] if rate is None else ["of bandwidth"]
    if log_mels:
        order = " / ".join(["mirjax", *TARGETS])
        gains = [f"× {library} (≥ {least})" for library, least in TARGETS.items()]
        head = ["log-mel", "batch", "mirjax ms", "direct ms", *gains, f"MB {order}", f"error {order}"]
        print_table([*head, *bandwidth, "verdict"], log_mels)
    if others:
        head = "function|batch|mirjax ms|direct ms|× best peer|× others|MB mirjax|MB peers|error mirjax|error peers"
        print(end="\n" if log_mels else "")
        print_table([*head.split("|"), *bandwidth, "error: how", "verdict"], others)
    for library in sorted(absent):
        print(f"{library} is not installed: left out", file=sys.stderr)


if __name__ == "__main__":
    main()

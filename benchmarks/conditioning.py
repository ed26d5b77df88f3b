"""How many digits of the closed form are right: errors against float64 by n, h, ridge, features and method.

Features of a random network (7×96, 400 filters) on quarter seconds of the embedded rhythms and on the embedded spoken
digits; a hidden layer of ReLU units with N(0, 1) weights on them, as they are and standardised. H is rounded to
float32 once and given to every method. The error is max|a − b| / max|b| of the predictions on the fitted rows against
singular values in float64 (numpy), which are themselves held against QR of [H; √λ I] in float64.

Usage: python benchmarks/conditioning.py [--output docs/conditioning.md] [--quick]
Writes the page and exits 1 where fewer digits are there than a `Diagnosis` promised.
"""

import sys

sys.path.append(sys.path.pop(0))  # behind the standard library, whose `signal` one of the scripts' names would hide

import argparse
import collections
import dataclasses
import datetime
import importlib.metadata
import platform
import time
import warnings
from pathlib import Path

from _measure import pin, recordings

COMMAND = "python benchmarks/conditioning.py"
RIDGES = (0, 1e-10, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1)
FEW_RIDGES = (1e-8, 1e-4, 1e-2)
SHAPES = {(300, 100): RIDGES, (300, 500): RIDGES, (1000, 100): RIDGES, (1000, 500): RIDGES, (3000, 500): RIDGES}
LARGE = {(300, 2000): RIDGES, (1000, 2000): FEW_RIDGES, (3000, 100): RIDGES, (3000, 2000): FEW_RIDGES}
HELD_OUT = 456
HOST = {
    "Cholesky, float64": ("cholesky", "float64"),
    "QR, float64": ("qr", "float64"),
    "TSQR, float64": ("tsqr", "float64"),
    "refined": ("refined", "float32"),
    "Cholesky, float32": ("cholesky", "float32"),
    "QR, float32": ("qr", "float32"),
    "TSQR, float32": ("tsqr", "float32"),
    "SVD, float32": ("svd", "float32"),
}
DEVICE = {"JAX Cholesky": "cholesky_f32", "JAX TSQR": "tsqr_f32", "JAX refined": "refined_f32"}
EXACT_GRAM = "float32, exact Gram"
DEVICE_SHAPES = ((300, 500), (1000, 500))
SVD_AT_MOST = 500  # units; float32's singular values of more take longer than all else together


@dataclasses.dataclass(frozen=True)
class Case:
    """One answer: what it was of, and how far it is from float64."""

    features: str
    n: int
    h: int
    ridge: float
    method: str
    error: float
    held_out: float
    agreement: float
    promised: float = float("nan")

    @property
    def found(self):
        import numpy as np

        return -np.log10(max(self.error, 1e-16))


def rhythm_table():
    """Features [3456, 400] and codes [3456] of quarter seconds of the embedded rhythms."""
    import numpy as np

    from mirjax.data import dataset

    labels = dataset.open_source("rhythm_small").labels
    audio = recordings(12_000, 12_000 * 12, len(labels)).reshape(-1, 3000)
    return embed(audio), np.repeat(np.unique(labels, return_inverse=True)[1], len(audio) // len(labels))


def digit_table():
    """Features [240, 400] and codes [240] of the embedded spoken digits, padded to half a second."""
    import numpy as np

    from mirjax.data import audio, dataset

    source = dataset.open_source("digits_small")
    clips = [audio.decode(source.encoded(i), sample_rate=12_000)[:6000] for i in range(len(source))]
    return embed(np.stack([np.pad(c, (0, 6000 - len(c))) for c in clips])), np.unique(
        source.labels, return_inverse=True
    )[1]


def embed(audio):
    import jax
    import numpy as np

    from mirjax import features
    from mirjax.models import zoo

    model = zoo.build("7x96", 400)
    variables = features.initialise(model, jax.random.key(0), audio.shape[1])
    return features.extract(model, variables, audio.astype(np.float32)).astype(np.float64)


def hidden_layer(x, hidden_units, dtype="float32"):
    import numpy as np

    layer = np.random.default_rng(1).standard_normal((hidden_units, x.shape[1] + 1))
    return np.maximum(x @ layer[:, :-1].T + layer[:, -1], 0).astype(dtype)


def problems(quick):
    """(features' name, rows fitted f32[n, h], targets [n, K], rows held out f32[m, h], ridges)."""
    import numpy as np

    for source, table in (("rhythms", rhythm_table), ("spoken digits", digit_table)):
        x, codes = table()
        order = np.random.default_rng(0).permutation(len(x))
        x, codes = x[order], codes[order]
        last = min(HELD_OUT, len(x) // 6)
        shapes = {(len(x) - last, 100): RIDGES, (len(x) - last, 500): RIDGES} if len(x) < 1000 else SHAPES
        if source == "rhythms" and not quick:
            shapes = shapes | LARGE
        for kind in ("raw", "standardised"):
            rows = x
            if kind == "standardised":
                rows = (x - x[:-last].mean(0)) / np.where(x[:-last].std(0) > 0, x[:-last].std(0), 1)
            hidden = hidden_layer(rows, max(h for _, h in shapes))
            targets = np.where(codes[:, None] == np.unique(codes), 1.0, -1.0)
            for (n, h), ridges in shapes.items():
                fitted = np.ascontiguousarray(hidden[:n, :h])
                yield f"{source}, {kind}", fitted, targets[:n], np.ascontiguousarray(hidden[-last:, :h]), ridges


class Reference:
    """β by the singular values of H in float64, one decomposition for all penalties."""

    def __init__(self, hidden, targets):
        import numpy as np

        self.hidden = hidden.astype(np.float64)
        u, self.s, self.vt = np.linalg.svd(self.hidden, full_matrices=False)
        self.projected = u.T @ targets
        self.mean = float((self.hidden**2).sum() / hidden.shape[1])

    def weights(self, penalty):
        import numpy as np

        from mirjax.classifiers.pseudo_inverse import CUTOFF

        kept = self.s > (0 if penalty > 0 else CUTOFF * self.s[0])
        inverse = np.where(kept, self.s / np.where(kept, self.s**2 + penalty, 1), 0)
        return self.vt.T @ (inverse[:, None] * self.projected)


def exact_gram(hidden, targets, penalty):
    """What compensated sums could give at most: the Gram matrix exact (float64), rounded to float32, solved there."""
    import numpy as np
    import scipy.linalg

    dual = len(hidden) < hidden.shape[1]
    side = (hidden.T if dual else hidden).astype(np.float64)
    gram = (side.T @ side + penalty * np.eye(side.shape[1])).astype(np.float32)
    right = (targets if dual else side.T @ targets).astype(np.float32)
    try:
        solution = scipy.linalg.cho_solve(scipy.linalg.cho_factor(gram), right)
    except np.linalg.LinAlgError:
        return np.full((hidden.shape[1], targets.shape[1]), np.nan)
    return side @ solution if dual else solution.astype(np.float64)


def device(function, hidden, targets, penalty):
    """(weights in float64, digits promised)."""
    import jax.numpy as jnp
    import numpy as np

    from mirjax.classifiers import solvers_f32

    *weights, condition = getattr(solvers_f32, function)(
        jnp.asarray(hidden), jnp.asarray(targets, jnp.float32), np.float32(penalty)
    )[: 3 if function == "refined_f32" else 2]
    return sum(np.asarray(part, np.float64) for part in weights), float(condition)


def measure(quick):
    """All cases, and the largest disagreement of the two references."""
    import numpy as np

    from mirjax.classifiers.solvers import PrecisionWarning, solve_rows

    warnings.simplefilter("ignore", PrecisionWarning)
    cases = []
    for name, hidden, targets, held_out, ridges in problems(quick):
        n, h = hidden.shape
        print(f"{name}, {n} × {h}", file=sys.stderr, flush=True)
        reference = Reference(hidden, targets)
        others = held_out.astype(np.float64)
        for ridge in ridges:
            penalty = float(np.float32(ridge * reference.mean))
            best = reference.weights(penalty)
            expected = reference.hidden @ best, others @ best

            def keep(method, weights, promised=float("nan"), expected=expected, ridge=ridge):
                found = reference.hidden @ weights, others @ weights  # noqa: B023
                errors = [
                    np.abs(a - b).max() / np.abs(b).max() if np.isfinite(a).all() else np.inf
                    for a, b in zip(found, expected, strict=True)
                ]
                same = np.mean(found[1].argmax(1) == expected[1].argmax(1))
                cases.append(Case(name, n, h, ridge, method, *errors, same, promised))  # noqa: B023

            for label, (method, dtype) in HOST.items():
                if (method == "svd" and h > SVD_AT_MOST) or (h > n and method == "tsqr"):
                    continue
                if method == "cholesky" and h > n:
                    method = "dual"
                if n * h > 2e6 and label in ("TSQR, float64", "TSQR, float32"):
                    continue
                weights, diagnosis = solve_rows(hidden, targets, penalty, method=method, dtype=np.dtype(dtype))
                keep(label, weights, diagnosis.digits)
            keep(EXACT_GRAM, exact_gram(hidden, targets, penalty))
            if (n, h) in DEVICE_SHAPES and ridge:
                for label, function in DEVICE.items():
                    if function != "tsqr_f32" or n >= h:
                        keep(label, device(function, hidden, targets, penalty)[0])
    return cases


def centring():
    """Rows of a table: Cholesky in float32 of H and of centred H and Y, the intercept of the latter unpenalised."""
    import numpy as np

    from mirjax.classifiers.solvers import solve_rows

    lines = []
    for name, hidden, targets, _, _ in problems(quick=True):
        n, h = hidden.shape
        if (n, h) != (1000, 500):
            continue
        centred = (hidden - hidden.mean(0, dtype=np.float64)).astype(np.float32)
        for kind, rows, right in (("off", hidden, targets), ("on", centred, targets - targets.mean(0))):
            reference = Reference(rows, right)
            share = reference.s[0] ** 2 / reference.mean / h
            cells = []
            for ridge in (1e-8, 1e-6, 1e-4, 1e-3, 1e-2):
                penalty = float(np.float32(ridge * reference.mean))
                best = reference.hidden @ reference.weights(penalty)
                found = reference.hidden @ solve_rows(rows, right, penalty, method="cholesky", dtype=np.float32)[0]
                cells.append(number(np.abs(found - best).max() / np.abs(best).max()))
            lines.append((name, kind, f"{share:.2f}", *cells))
    return lines


def rounding():
    """Rows of a table: float64 throughout, but H of 1000 × 500 rounded to float32, against H in float64."""
    import numpy as np

    x, codes = rhythm_table()
    order = np.random.default_rng(0).permutation(len(x))[:1000]
    x, targets, lines = x[order], np.where(codes[order, None] == np.unique(codes), 1.0, -1.0), []
    for kind in ("raw", "standardised"):
        rows = x if kind == "raw" else (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
        hidden = hidden_layer(rows, 500, "float64")
        one, other = Reference(hidden, targets), Reference(hidden.astype(np.float32), targets)
        cells = []
        for ridge in RIDGES:
            a, b = (of.hidden @ of.weights(ridge * one.mean) for of in (other, one))
            cells.append(number(np.abs(a - b).max() / np.abs(b).max()))
        lines.append((kind, *cells))
    return lines


def timing(n, h):
    """Processor seconds of every method on standardised rhythms at ridge 1e-4, best of 3, or of 1 that is slow."""
    import jax
    import numpy as np

    from mirjax.classifiers.solvers import solve_rows

    x, codes = rhythm_table()
    order = np.random.default_rng(0).permutation(len(x))[:n]
    x, targets = x[order], np.where(codes[order, None] == np.unique(codes), 1.0, -1.0)
    hidden = hidden_layer((x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1), h)
    penalty = 1e-4 * float((hidden.astype(np.float64) ** 2).sum() / h)
    calls = {
        label: lambda m=method, d=dtype: solve_rows(hidden, targets, penalty, method=m, dtype=np.dtype(d))
        for label, (method, dtype) in {**HOST, "SVD, float64": ("svd", "float64")}.items()
    }
    calls |= {
        label: lambda f=f: jax.block_until_ready(device(f, hidden, targets, penalty)) for label, f in DEVICE.items()
    }
    times = {}
    for label, call in calls.items():
        if h > SVD_AT_MOST and "SVD" in label:
            continue
        samples = []
        while len(samples) < (2 if samples and min(samples) > 1 else 4):
            start = time.process_time()
            call()
            samples.append(time.process_time() - start)
        times[label] = min(samples[1:])
    return times


def time_row(h, found, labels):
    return (f"3000 × {h}", *(f"{1e3 * found[label]:.0f}" if label in found else "" for label in labels))


def number(value):
    import numpy as np

    return (
        "fails"
        if not np.isfinite(value)
        else "< 1e-13"
        if value < 1e-13
        else f"{value:.0e}".replace("e-0", "e-").replace("e+00", "")
    )


def ridge_text(ridge):
    return f"{ridge:.0e}".replace("e-0", "e-") if 0 < ridge < 1 else f"{ridge:g}"


def table(head, rows, texts=1):
    lines = [head, ["---"] * texts + ["--:"] * (len(head) - texts), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def worst(cases, key, value=max):
    groups = collections.defaultdict(list)
    for case in cases:
        groups[key(case)].append(case.error)
    return {name: value(errors) for name, errors in groups.items()}


def error_tables(cases):
    """One table a kind of features: ridge by method, worst over all n and h."""
    methods = [*HOST, EXACT_GRAM, *DEVICE]
    parts = []
    for kind in ("raw", "standardised"):
        found = worst([c for c in cases if c.features.endswith(kind)], lambda c: (c.method, c.ridge))
        rows = [(m, *(number(found[m, ridge]) if (m, ridge) in found else "" for ridge in RIDGES)) for m in methods]
        parts.append(f"Features {kind}:\n\n" + table(("method", *map(ridge_text, RIDGES)), rows))
    return "\n\n".join(parts)


def shape_table(cases, ridge):
    """n × h by method at one ridge, the worse of raw and standardised rhythms."""
    found = worst([c for c in cases if c.ridge == ridge and "rhythms" in c.features], lambda c: (c.n, c.h, c.method))
    methods = [*HOST, EXACT_GRAM]
    shapes = sorted({(n, h) for n, h, _ in found})
    rows = [(f"{n} × {h}", *(number(found[n, h, m]) if (n, h, m) in found else "" for m in methods)) for n, h in shapes]
    return table(("n × h", *methods), rows)


def label_table(cases):
    """Least share of held-out labels that are float64's, ridge by method, where it is not 100 % at every ridge."""
    rows = []
    for kind in ("raw", "standardised"):
        for method in [*HOST, EXACT_GRAM, *DEVICE]:
            of = [c for c in cases if c.method == method and c.features.endswith(kind)]
            same = [[c.agreement for c in of if c.ridge == ridge] for ridge in RIDGES]
            cells = [f"{100 * min(shares):.1f}" if shares else "" for shares in same]
            if not set(cells) <= {"100.0", ""}:
                rows.append((kind, method, *cells))
    return table(("features", "method", *map(ridge_text, RIDGES)), rows, texts=2)


def promise_table(cases):
    """Digits found less digits promised, for every method: fewest, median; and on held-out rows."""
    import numpy as np

    rows = []
    for method in HOST:
        of = [c for c in cases if c.method == method and c.promised > 0]
        if not of:
            continue
        spare = [min(c.found, 13) - min(c.promised, 13) for c in of]
        beyond = [min(-np.log10(max(c.held_out, 1e-16)), 13) - min(c.promised, 13) for c in of]
        rows.append((method, len(of), f"{min(spare):.1f}", f"{np.median(spare):.1f}", f"{min(beyond):.1f}"))
    return table(("method", "cases", "fewest", "median", "fewest, held-out rows"), rows)


PAGE = """# Conditioning

How many digits of the closed form are right, and what to do where they are too few. The output weights minimise
|Hβ − Y|² + λ|β|²; λ = ridge × mean diagonal of HᵀH.

**The rule in one line:** Gram matrices in float64 and Cholesky from ridge 1e-6 on; below that, or without float64, the
rows themselves (QR, or `refined`); without a ridge singular values with the cut-off; and let `Diagnosis.check` speak.

* `solve_rows(..., digits=d)` does so by itself: Cholesky of the smaller side, QR of [H; √λ I] where that promises fewer
  than d digits, singular values where λ = 0. Fewer digits than asked for give a `PrecisionWarning` with the condition
  number.
* The promise is an error of 10 · eps · κ, κ being the condition number of the matrix factorised: of [H; √λ I] for QR,
  TSQR and SVD, and the square of that for Cholesky. κ² ≤ 1 + λ_max / λ, and λ_max is the greater part of the trace with
  raw features (units are never negative, so their mean is no zero), a third of it with standardised ones.
* Cholesky in float64 has 8 digits or more in every case below. In float32 and raw features it has 2 from ridge 1e-3 on
  and none below 1e-4; with standardised features 3 at any ridge. QR and TSQR in float32 have 3 to 6 at any ridge but 0.
* Here H has full rank with standardised features. With raw ones units are dead or alike, κ is infinite and a ridge or a
  cut-off must stand in for it.
* `refined` corrects a float32 factor (of the Gram matrix; where that does not contract, of the rows) by float64
  residuals. For n ≥ h it has more digits than Cholesky in float64 at about its price, for n < h about as many. It
  cannot do without a ridge where H is of deficient rank, and says so. On a device without float64, `refined_f32` does
  the same with residuals in pairs of floats.
* Centring H (as `fit_intercept` does) takes most of the one large eigenvalue away: a digit with raw features, next to
  nothing with standardised ones.
* Tried and not kept: compensated sums of the Gram matrix in float32 for a factor in float32. "{exact}" below
  has the *exact* Gram matrix rounded to float32, which no compensation can better: its factor loses the same digits.

Errors are max|a − b| / max|b| of predictions on the fitted rows, against singular values in float64 (numpy), which QR
in float64 confirms (second line). H is rounded to float32 once and all are given the same numbers. Features: a random
network (7×96, 400 filters) on quarter seconds of the embedded rhythms (n = 300, 1000, 3000) and on the embedded spoken
digits (n = 200). h = 100, 500, 2000; at n = 1000 and 3000, h = 2000 was measured at ridges 1e-8, 1e-4 and 1e-2 only,
so that these columns are of harder problems than their neighbours. `fails`: not a number.

Written by `{command}` on {date}: {versions};
{machine}, one thread, JAX on {backend}.

## Error by ridge and method, the worst of all n and h

{errors}

Cholesky is of the smaller side (dual where n < h); where it meets a matrix that is not positive definite it goes on
by eigenvalues, with a cut-off, and its `Diagnosis` says "eigh" and promises little. A ridge of 0 has no answer but
with a cut-off, and the cut-offs of float32 and float64 differ: with raw features these are two different answers.
TSQR is measured for n ≥ h, SVD in float32 for h ≤ {svd_limit}, the JAX functions for h = 500 and n = 300, 1000.

## Error by n and h at ridge 1e-4, the worse of raw and standardised rhythms

{shapes}

## Labels of held-out rows that are float64's, per cent, the fewest of all n and h

{labels}

All methods and features that are not in this table have 100 % at every ridge.

## Digits promised and digits there

Digits found less digits promised (both cut at 13), over all cases that promise any. Not one may be negative on fitted
rows, or the benchmark fails. Rows that were not fitted may move along directions the fit never saw: there a promise
may be short by as much as the last column says.

{promises}

## Centring

Cholesky in float32 at n = 1000, h = 500, by ridge (relative to the mean diagonal of the centred matrix where centred).

{centring}

## Rounding H alone

What hidden activations computed in float32 cost, with all else in float64: n = 1000, h = 500, by ridge.

{rounded}

## Cost

Processor milliseconds on one thread at ridge 1e-4, condition estimate included:

{times}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs" / "conditioning.md")
    parser.add_argument("--quick", action="store_true", help="no h = 2000")
    options = parser.parse_args()
    pin()

    import jax

    cases = measure(options.quick)
    broken = [c for c in cases if 0 < c.promised and min(c.found, 13) < min(c.promised, 13)]
    times = {h: timing(3000, h) for h in ((500,) if options.quick else (500, 2000))}
    centred = centring()
    page = PAGE.format(
        exact=EXACT_GRAM,
        command=COMMAND,
        date=datetime.date.today(),
        versions=", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "scipy", "numpy")),
        machine=platform.machine(),
        backend=jax.default_backend(),
        errors=error_tables(cases),
        svd_limit=SVD_AT_MOST,
        shapes=shape_table(cases, 1e-4),
        labels=label_table(cases),
        promises=promise_table(cases),
        centring=table(
            ("features", "centred", "λ_max / trace", *("1e-8 1e-6 1e-4 1e-3 1e-2".split())), centred, texts=2
        ),
        times=table(("n × h", *times[500]), [time_row(h, found, times[500]) for h, found in times.items()]),
        rounded=table(("features", *map(ridge_text, RIDGES)), rounding()),
    )
    options.output.write_text(page)
    print(f"{options.output}: {len(cases)} cases", file=sys.stderr)
    if broken:
        raise SystemExit("fewer digits than promised:\n" + "\n".join(map(str, broken)))


if __name__ == "__main__":
    main()

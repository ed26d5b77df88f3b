"""Closed forms and grids of classifiers against their peers, as ratios of processor time, with memory and accuracy.

fit        one solution with a ridge of 1e-2 for n rows and h hidden units: `solve_rows` on given activations, and
           `ELMClassifier.fit` with them, against scikit-learn's Ridge (Cholesky) and RidgeClassifier and numpy's pinv
grid       6 hidden sizes × 10 ridges × 10 folds from one `RidgePath`, against scikit-learn's Ridge refitted in 30 of
           the 600 cells (five ridges of every size, folds in turn; times 20) and numpy's pinv per setting (every size
           on one fold; times 10 folds and 10 ridges, as a grid that inverts one matrix per setting would)
loo        leave-one-out of 10 ridges and the solution of the best, against RidgeClassifierCV
streaming  `ELMClassifier.accumulate` batch by batch and `solve`, against one fit of all rows and, on the same
           activations (of mean square 1) in one pass, SGDClassifier's `partial_fit`
elm        the 6 sizes of the study without a ridge on ten folds, against pinv of every size and fold (what the study's
           code does) and scikit-learn's least squares, a refit likewise
svm        the 32 settings of the study against one SVC each on every fold

Rows are segments of the embedded rhythms, told apart by averages of a random network (7×96); hidden layers are of
ReLU units with N(0, 1) weights, on these features standardised or, where it says raw, as they are. Segments of a
rhythm lie in training and test rows alike (in streaming they overlap, and the last second is for tests): the
accuracies compare solvers, not features. Same rows, same penalty, same activations for all; the script stops where
labels differ, but for pinv without a ridge and SGD, which solve another problem, and scikit-learn's least squares,
whose cut-off is another.

MB is how far one call raises the resident memory at its peak (VmHWM) above its input, in another process for each
size; of refits that of the largest, of the study's grids that on one fold. Both sides warm up on a few rows first.

Usage: python benchmarks/classifiers.py [--parts fit,grid,loo,streaming,elm,svm] [--rounds 3] [--quick] [--no-memory]
           [--clips 216,360] [--folds 10]
"""

import sys

sys.path.append(sys.path.pop(0))  # behind the standard library, whose `signal` one of the scripts' names would hide

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from _measure import alternate, peak_growth, pin, print_table, ratio, recordings

NUM_FEATURES = 3585
NUM_RHYTHMS = 72
SECONDS = 12
WARMING = 240  # rows
MOST = 8.0  # seconds of one contender, after which it sits out the rounds that are left
SCORES_WITHIN = 1e-6  # of the largest: rounding at a ridge of 1e-8 of the mean diagonal
BATCHES = (500, 1000)
STREAMED = 3000  # samples of a segment, in seven frames and more

# Settings by part: (rows, …); the first are those of --quick. The last number of fit, loo and streaming is h.
SETTINGS = {
    "fit": [(1000, 500), (1000, 2500), (5000, 500), (5000, 2500)],
    "grid": [(1000, "standardised"), (1000, "raw"), (3000, "standardised"), (3000, "raw")],
    "loo": [(1000, 2000), (3000, 1200)],
    "streaming": [(20_000, 1000)],
    "elm": None,  # by --clips
    "svm": None,
}
TABLES = {"fit": (6000, 448), "streaming": (72 * 313, 120)}  # rows and features; else the rows of the setting and 448


@dataclass
class Peer:
    """One against which mirjax is timed.

    Attributes:
        run: without arguments; returns an answer.
        compare: (its answer, mirjax's answer) → text for both accuracies; raises where they must agree and do not.
        times: what its time is multiplied by, being that of a part of the work.
        least: the target.
        lean: what its memory is measured of; None is `run`.
    """

    run: Callable
    compare: Callable
    times: float = 1
    least: float | None = None
    lean: Callable | None = None


@dataclass
class Contest:
    """mirjax and its peers at one size; a peer's name may say what of mirjax it is against."""

    part: str
    size: str
    mirjax: Callable
    peers: dict[str, Peer]
    lean: Callable | None = None


# ── features ────────────────────────────────────────────────────────────────────────────────────────────────────────


def table(num_clips, num_features=NUM_FEATURES, samples=None):
    """Segments of the rhythms, of equal length side by side, or of `samples` at equal distances.

    Returns:
        Features f64[M, D], labels [M], and where in its rhythm each segment begins, in samples [M].
    """
    import jax
    import numpy as np

    from mirjax import features
    from mirjax.data import dataset
    from mirjax.models import zoo

    source = dataset.open_source("rhythm_small")
    each = -(-num_clips // NUM_RHYTHMS)
    audio = recordings(12_000, 12_000 * SECONDS, NUM_RHYTHMS)
    if samples is None:
        samples = audio.shape[1] // each
    starts = np.linspace(0, audio.shape[1] - samples, each).astype(int)
    audio = np.stack([audio[:, start : start + samples] for start in starts], axis=1).reshape(-1, samples)
    model = zoo.build("7x96", num_features)
    x = features.extract(model, features.initialise(model, jax.random.key(0), samples), audio)
    chosen = np.random.default_rng(0).permutation(len(x))[:num_clips]
    return x.astype(np.float64)[chosen], np.repeat(source.labels, each)[chosen], np.tile(starts, NUM_RHYTHMS)[chosen]


def load(part, setting, folder):
    """The table of a setting, made once."""
    import numpy as np

    rows, width = TABLES.get(part, (setting[0], NUM_FEATURES if part in ("elm", "svm") else 448))
    path = Path(folder) / f"{rows}_{width}.npz"
    if not path.exists():
        x, y, starts = table(rows, width, STREAMED if part == "streaming" else None)
        np.savez(path, x=x, y=y, starts=starts)
    with np.load(path) as arrays:
        return arrays["x"], arrays["y"], arrays["starts"]


def standardise(x):
    deviation = x.std(axis=0)
    return (x - x.mean(axis=0)) / (deviation + (deviation == 0))


def activate(x, hidden_units):
    """Hidden activations of the published layer f64[M, H], by numpy."""
    import numpy as np

    from mirjax.classifiers.hidden import draw_layer

    layer = draw_layer(x.shape[1], hidden_units, 0)
    return np.maximum(x @ layer.weights + layer.bias, 0)


def encode(y):
    """Class indices [M] and targets of ±1 [M, K]."""
    import numpy as np

    classes, codes = np.unique(y, return_inverse=True)
    return codes, np.where(codes[:, None] == np.arange(len(classes)), 1.0, -1.0)


def folds(y, count):
    from sklearn.model_selection import StratifiedKFold

    return list(StratifiedKFold(count, shuffle=True, random_state=0).split(y, y))


# ── what is compared ────────────────────────────────────────────────────────────────────────────────────────────────


def both(peer, mirjax):
    return f"{peer:.4f} / {mirjax:.4f}"


def same_scores(peer, mirjax, what):
    """Stop unless scores agree to rounding and all labels are equal."""
    import numpy as np

    difference = np.abs(peer - mirjax).max() / np.abs(mirjax).max()
    assert difference <= SCORES_WITHIN, f"{what}: scores differ by {difference:.1e} of the largest"
    differ = np.sum(peer.argmax(-1) != mirjax.argmax(-1))
    assert not differ, f"{what}: {differ} labels differ"


def fit(setting, rows):
    """One solution, with the activations given and from the features on."""
    import numpy as np
    from sklearn.linear_model import Ridge, RidgeClassifier

    from mirjax.classifiers.elm import ELMClassifier
    from mirjax.classifiers.solvers import solve_rows

    (n, h), (x, y, _) = setting, rows
    n, x = min(n, len(x) - 100), standardise(x)
    hidden, (codes, targets) = activate(x, h), encode(y)
    train, test, size = hidden[:n], hidden[-1000:], f"{n} × {h}"
    penalty = 1e-2 * (train**2).sum(axis=0).mean()
    elm = ELMClassifier(hidden_units=h, ridge=1e-2)

    def accuracy(scores):
        return np.mean(scores.argmax(axis=1) == codes[-1000:])

    def same(name):
        def compare(peer, mirjax):
            same_scores(test @ peer, test @ mirjax, f"fit, {size}, {name}")
            return both(accuracy(test @ peer), accuracy(test @ mirjax))

        return compare

    def whole_peer():
        hidden = activate(x[:n], h)
        return RidgeClassifier(alpha=penalty, fit_intercept=False).fit(hidden, y[:n]).coef_.T

    sklearn_ridge = Ridge(alpha=penalty, fit_intercept=False, solver="cholesky")
    sklearn_classifier = RidgeClassifier(alpha=penalty, fit_intercept=False)
    solve = Contest(
        "fit, solving",
        size,
        lambda: solve_rows(train, targets[:n], penalty)[0],
        {
            "numpy pinv (no ridge)": Peer(
                lambda: np.linalg.pinv(train) @ targets[:n],
                lambda peer, mirjax: both(accuracy(test @ peer), accuracy(test @ mirjax)),
            ),
            "sklearn Ridge": Peer(lambda: sklearn_ridge.fit(train, targets[:n]).coef_.T, same("Ridge")),
            "sklearn RidgeClassifier": Peer(
                lambda: sklearn_classifier.fit(train, y[:n]).coef_.T, same("RidgeClassifier")
            ),
        },
    )
    from_features = Contest(
        "fit, whole",
        size,
        lambda: elm.fit(x[:n], y[:n]).output_weights_,
        {"numpy, RidgeClassifier": Peer(whole_peer, same("RidgeClassifier, whole"))},
    )
    return [solve, from_features]


def grid(setting, rows):
    """All sizes, ridges and folds."""
    import numpy as np
    from sklearn.linear_model import Ridge

    from mirjax.classifiers.closed_form import RidgePath
    from mirjax.classifiers.elm import RIDGES
    from mirjax.classifiers.grid import ELM_HIDDEN_UNITS as SIZES

    (n, scaling), (x, y, _) = setting, rows
    hidden = activate(standardise(x) if scaling == "standardised" else x, SIZES[-1])
    codes, targets = encode(y)
    splits = folds(y, 10)
    penalties = np.array(RIDGES) * (hidden**2).sum(axis=0).mean()
    # Every other ridge, those left out by one size taken by the next; 30 cells, three on each fold.
    cells = [(i, j) for i in range(len(SIZES)) for j in range(i % 2, len(RIDGES), 2)]
    cells = [(i, j, k % len(splits)) for k, (i, j) in enumerate(cells)]

    def path():
        return RidgePath(hidden, targets, sizes=SIZES, ridges=RIDGES).leave_out([test for _, test in splits])

    def refits(cells):
        out = []
        for i, j, k in cells:
            (train, test), h = splits[k], SIZES[i]
            ridge = Ridge(alpha=penalties[j], fit_intercept=False).fit(hidden[train, :h], targets[train])
            out.append(ridge.predict(hidden[test, :h]))
        return out

    def inverses(sizes):
        train, test = splits[0]
        return [hidden[test, :h] @ (np.linalg.pinv(hidden[train, :h]) @ targets[train]) for h in sizes]

    def right(scores, test):
        return np.mean(scores.argmax(axis=-1) == codes[test])

    def same(peer, mirjax):
        accuracies = []
        for (i, j, k), scores in zip(cells, peer, strict=True):
            test = splits[k][1]
            same_scores(scores, mirjax[i, j, test], f"grid, {n} {scaling}, {SIZES[i]} units, ridge {RIDGES[j]:g}")
            accuracies.append((right(scores, test), right(mirjax[i, j, test], test)))
        return both(*np.mean(accuracies, axis=0))

    def best(peer, mirjax):
        test = splits[0][1]
        chosen = (mirjax.argmax(axis=-1) == codes).mean(axis=-1).max(axis=0).argmax()
        ours = [right(mirjax[i, chosen, test], test) for i in range(len(SIZES))]
        return f"{both(np.mean([right(scores, test) for scores in peer]), np.mean(ours))} (ridge {RIDGES[chosen]:g})"

    peers = {
        "sklearn Ridge, 30 of 600": Peer(
            lambda: refits(cells), same, 600 / len(cells), 15, lean=lambda: refits([(len(SIZES) - 1, 5, 0)])
        )
    }
    if scaling == "standardised" or n <= 1000:
        peers["numpy pinv, 6 of 600"] = Peer(lambda: inverses(SIZES), best, 100, 100, lean=lambda: inverses(SIZES[-1:]))
    return [Contest("grid, 6 × 10 × 10", f"{n}, {scaling}", path, peers)]


def loo(setting, rows):
    """Leave-one-out over ten ridges."""
    import numpy as np
    from sklearn.linear_model import RidgeClassifierCV

    from mirjax.classifiers.closed_form import RidgePath
    from mirjax.classifiers.elm import RIDGES

    (n, h), (x, y, _) = setting, rows
    hidden, (_, targets) = activate(standardise(x), h), encode(y)
    penalties = np.array(RIDGES) * (hidden**2).sum(axis=0).mean()

    def ours():
        path = RidgePath(hidden, targets, ridges=RIDGES)
        errors = ((path.leave_one_out()[0] - targets) ** 2).mean(axis=(1, 2))
        return errors, path.solve(0, errors.argmin())[0]

    def theirs():
        ridge = RidgeClassifierCV(alphas=penalties, fit_intercept=False, store_cv_results=True).fit(hidden, y)
        return ridge.cv_results_.mean(axis=(0, 1)), ridge.coef_.T

    def same(peer, mirjax):
        chosen = mirjax[0].argmin()
        assert chosen == peer[0].argmin(), f"loo, {n} × {h}: ridge {chosen} against {peer[0].argmin()}"
        difference = abs(peer[0][chosen] / mirjax[0][chosen] - 1)
        assert difference <= SCORES_WITHIN, f"loo, {n} × {h}: errors differ by {difference:.1e}"
        same_scores(hidden @ peer[1], hidden @ mirjax[1], f"loo, {n} × {h}")
        return f"held-out mse {both(peer[0][chosen], mirjax[0][chosen])}"

    return [Contest("loo, 10 ridges", f"{n} × {h}", ours, {"sklearn RidgeClassifierCV": Peer(theirs, same)})]


def streaming(setting, rows):
    """Batch by batch against all at once."""
    import numpy as np
    from sklearn.linear_model import SGDClassifier

    from mirjax.classifiers.elm import ELMClassifier

    (n, h), (x, y, starts) = setting, rows
    x, codes = standardise(x), encode(y)[0]
    train = np.flatnonzero(np.argsort(np.argsort(starts, kind="stable")) < 0.89 * len(x))[:n]
    test = np.flatnonzero(starts >= starts[train].max() + STREAMED)  # the last second, which no training row reaches
    classes, labels = np.unique(y), y[train]
    x, x_test = x[train], x[test]

    def accuracy(scores):
        return np.mean(scores.argmax(axis=1) == codes[test])

    def accumulated(batch):
        elm = ELMClassifier(hidden_units=h, ridge=1e-2)
        for i in range(0, len(x), batch):
            elm.accumulate(x[i : i + batch], labels[i : i + batch], classes)
        return elm.solve().decision_function(x_test)

    def whole():
        return ELMClassifier(hidden_units=h, ridge=1e-2).fit(x, labels).decision_function(x_test)

    def descended(batch):
        sgd, scale = SGDClassifier(random_state=0), None
        for i in range(0, len(x), batch):
            hidden = activate(x[i : i + batch], h)
            scale = scale or 1 / np.sqrt(np.mean(hidden**2))
            sgd.partial_fit(scale * hidden, labels[i : i + batch], classes)
        return sgd.decision_function(scale * activate(x_test, h))

    def same(peer, mirjax):
        same_scores(peer, mirjax, "streaming")
        return both(accuracy(peer), accuracy(mirjax))

    def each(peer, mirjax):
        return both(accuracy(peer), accuracy(mirjax))

    contests = []
    for batch in BATCHES:
        contests.append(
            Contest(
                f"streaming, batches of {batch}",
                f"{len(x)} × {h}",
                lambda batch=batch: accumulated(batch),
                {
                    "mirjax, one fit": Peer(whole, same),
                    "sklearn SGD partial_fit": Peer(lambda batch=batch: descended(batch), each),
                },
            )
        )
    return contests


# ── the study's grids ───────────────────────────────────────────────────────────────────────────────────────────────


def grid_predictions(name, x, y, splits):
    """Predictions [G, M] on all folds, the grid made once."""
    import numpy as np

    from mirjax.classifiers.grid import make_grid

    made = make_grid(name, x, y)
    return np.concatenate([made.predict(train, test) for train, test in splits], axis=1)


def elm_refits(x, y, splits, solve):
    """The same by output weights `solve(H, Y)`, anew for every size and fold."""
    import numpy as np

    from mirjax.classifiers.grid import ELM_HIDDEN_UNITS

    hidden, classes = activate(x, ELM_HIDDEN_UNITS[-1]), np.unique(y)
    _, targets = encode(y)
    predictions = []
    for train, test in splits:
        outputs = [hidden[test, :h] @ solve(hidden[train, :h], targets[train]) for h in ELM_HIDDEN_UNITS]
        predictions.append(np.stack([classes[scores.argmax(axis=1)] for scores in outputs]))
    return np.concatenate(predictions, axis=1)


def numpy_pinv(hidden, targets):
    import numpy as np

    from mirjax.classifiers.pseudo_inverse import CUTOFF

    return np.linalg.pinv(hidden, rcond=CUTOFF) @ targets


def least_squares(hidden, targets):
    from sklearn.linear_model import LinearRegression

    return LinearRegression(fit_intercept=False).fit(hidden, targets).coef_.T


def svm_refits(x, y, splits):
    import numpy as np
    from sklearn.svm import SVC

    from mirjax.classifiers.grid import SVMGrid

    predictions = [
        np.stack([SVC(**setting).fit(x[train], y[train]).predict(x[test]) for setting in SVMGrid.settings])
        for train, test in splits
    ]
    return np.concatenate(predictions, axis=1)


def study(name, setting, rows):
    """A grid of the published study, on features as they are."""
    import numpy as np

    (n, count), (x, y, _) = setting, rows
    splits = folds(y, count)
    labels = np.concatenate([y[test] for _, test in splits])
    refits = {
        "elm": {
            "numpy pinv": (lambda s: elm_refits(x, y, s, numpy_pinv), None),
            "sklearn LinearRegression": (lambda s: elm_refits(x, y, s, least_squares), None),
        },
        "svm": {"sklearn SVC": (lambda s: svm_refits(x, y, s), 20)},
    }[name]

    def compare(peer_name):
        def same(peer, mirjax):
            share = np.mean(peer == mirjax)
            exact = peer_name != "sklearn LinearRegression"  # its cut-off of singular values is another
            assert share == 1 or not exact, f"{name}, {n}: {1 - share:.2%} of predictions differ from {peer_name}"
            accuracies = both(np.mean(peer == labels), np.mean(mirjax == labels))
            return accuracies if exact else f"{accuracies}, {share:.2%} alike"

        return same

    settings = {"elm": 6, "svm": 32}[name]
    return [
        Contest(
            f"{name}, {settings} × {len(splits)}",
            f"{n}, raw, {x.shape[1]} features",
            lambda: grid_predictions(name, x, y, splits),
            {
                peer: Peer(lambda run=run: run(splits), compare(peer), 1, least, lambda run=run: run(splits[:1]))
                for peer, (run, least) in refits.items()
            },
            lean=lambda: grid_predictions(name, x, y, splits[:1]),
        )
    ]


def contests(part, setting, rows):
    if part in ("elm", "svm"):
        return study(part, setting, rows)
    return {"fit": fit, "grid": grid, "loo": loo, "streaming": streaming}[part](setting, rows)


# ── measuring ───────────────────────────────────────────────────────────────────────────────────────────────────────


def peaks(part, setting, folder):
    """Peak growth in MB by contest and contender, each warmed up on few rows."""
    rows = load(part, setting, folder)
    few = contests(part, setting, [array[:WARMING] for array in rows])
    found = []
    for full, small in zip(contests(part, setting, rows), few, strict=True):
        runs = {"mirjax": (small.lean or small.mirjax, full.lean or full.mirjax)}
        runs |= {
            name: (small.peers[name].lean or small.peers[name].run, p.lean or p.run) for name, p in full.peers.items()
        }
        growths = {}
        for name, pair in runs.items():
            calls = iter(pair)
            growths[name] = peak_growth(lambda calls=calls: next(calls)())
        found.append(growths)
    return found


def measure_memory(part, setting, folder):
    """`peaks` in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", json.dumps([part, setting]), "--tables", str(folder)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def lines(contest, rounds, memory):
    """The contest's lines of the table."""
    answers = {}

    def keep(name, function):
        def run():
            answers[name] = function()

        return run

    runs = {"mirjax": keep("mirjax", contest.mirjax)}
    runs |= {name: keep(name, peer.run) for name, peer in contest.peers.items()}
    times = alternate(runs, rounds=rounds, most=MOST)
    for name, peer in contest.peers.items():
        accuracies = peer.compare(answers[name], answers["mirjax"])
        seconds = peer.times * times[name].cpu
        gain = seconds / times["mirjax"].cpu
        yield [
            contest.part,
            contest.size,
            name,
            f"{seconds:.3g}",
            f"{times['mirjax'].cpu:.3g}",
            f"{gain:.2f}" if gain < 2 else ratio(gain),
            accuracies,
            f"{memory[name]:.0f} / {memory['mirjax']:.0f}" if memory else "",
            f"≥ {peer.least}×" if peer.least else "",
            ("met" if gain >= peer.least else "missed") if peer.least else "",
        ]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", default=",".join(SETTINGS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of the smallest setting of each part")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--clips", default="216,360", help="comma-separated numbers of segments of elm and svm")
    parser.add_argument("--folds", type=int, default=10, help="of elm and svm")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--tables", help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.parts.split(",")) - set(SETTINGS)
    if unknown:
        parser.error(f"--parts {','.join(sorted(unknown))}: there are {', '.join(SETTINGS)}")
    return options


def main():
    options = parse()
    pin()
    if options.memory_of:
        part, setting = json.loads(options.memory_of)
        print(json.dumps(peaks(part, setting, options.tables)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts.split(","):
            settings = SETTINGS[part] or [(int(clips), options.folds) for clips in options.clips.split(",")]
            for setting in settings[:1] if options.quick else settings:
                print(f"{part}, {setting}", file=sys.stderr, flush=True)
                found = contests(part, setting, load(part, setting, folder))
                memory = [None] * len(found) if options.no_memory else measure_memory(part, setting, folder)
                for contest, megabytes in zip(found, memory, strict=True):
                    rows += lines(contest, 1 if options.quick else options.rounds, megabytes)
    print_table(
        "part|size|peer|peer s|mirjax s|×|accuracy, peer / mirjax|MB, peer / mirjax|target|verdict".split("|"), rows
    )


if __name__ == "__main__":
    main()

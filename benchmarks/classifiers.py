"""Grids of classifiers against plain refits, setting by setting and fold by fold, as ratios of processor time.

Ten folds of segments of the embedded rhythms, told apart by features of a random network (7×96, 3,585 filters).

ELM  the 6 sizes of the study, closed form, against numpy: one hidden layer, then `pinv` of every size on every
     fold (what the study's code does); and against scikit-learn's least squares, a refit likewise
SVM  the 32 settings of the study against one `SVC` each on every fold

Predictions must be those of numpy's pinv and of SVC on every clip of every fold and setting.

Usage: python benchmarks/classifiers.py [--classifiers elm,svm] [--clips 216,360] [--folds 10] [--rounds 1]
"""

import sys

sys.path.append(sys.path.pop(0))  # behind the standard library, whose `signal` one of the scripts' names would hide

import argparse

from _measure import alternate, pin, print_table, ratio, recordings

NUM_FEATURES = 3585
NUM_RHYTHMS = 72
SECONDS = 12
TARGETS = {"numpy pinv": None, "sklearn LinearRegression": 15, "sklearn SVC": 20}


def table(num_clips):
    """Features f64[M, 3585] and labels [M] of equal segments of the rhythms."""
    import jax
    import numpy as np

    from mirjax import features
    from mirjax.data import dataset
    from mirjax.models import zoo

    source = dataset.open_source("rhythm_small")
    each = -(-num_clips // NUM_RHYTHMS)
    audio = recordings(12_000, 12_000 * SECONDS, NUM_RHYTHMS).reshape(NUM_RHYTHMS * each, -1)
    model = zoo.build("7x96", NUM_FEATURES)
    x = features.extract(model, features.initialise(model, jax.random.key(0), audio.shape[1]), audio)
    chosen = np.random.default_rng(0).permutation(len(x))[:num_clips]
    return x.astype(np.float64)[chosen], np.repeat(source.labels, each)[chosen]


def folds(y, count):
    from sklearn.model_selection import StratifiedKFold

    return list(StratifiedKFold(count, shuffle=True, random_state=0).split(y, y))


def grid_predictions(name, x, y, splits):
    """Predictions [G, m] on every fold, the grid made once."""
    from mirjax.classifiers.grid import make_grid

    grid = make_grid(name, x, y)
    return [grid.predict(train, test) for train, test in splits]


def elm_refits(x, y, splits, solve):
    """The same by output weights `solve(H, Y)`, anew for every size and fold."""
    import numpy as np

    from mirjax.classifiers import elm
    from mirjax.classifiers.grid import ELM_HIDDEN_UNITS

    weights, bias = elm.draw_hidden_layer(x.shape[1], ELM_HIDDEN_UNITS[-1], 0)
    hidden = np.maximum(x @ weights + bias, 0)
    classes, codes = np.unique(y, return_inverse=True)
    targets = np.where(codes[:, None] == np.arange(len(classes)), 1.0, -1.0)
    predictions = []
    for train, test in splits:
        outputs = [hidden[test, :h] @ solve(hidden[train, :h], targets[train]) for h in ELM_HIDDEN_UNITS]
        predictions.append(np.stack([classes[scores.argmax(axis=1)] for scores in outputs]))
    return predictions


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

    return [
        np.stack([SVC(**setting).fit(x[train], y[train]).predict(x[test]) for setting in SVMGrid.settings])
        for train, test in splits
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--classifiers", default="elm,svm")
    parser.add_argument("--clips", default="216,360", help="comma-separated numbers of segments")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    pin()

    import numpy as np

    rows = []
    for num_clips in map(int, options.clips.split(",")):
        x, y = table(num_clips)
        splits = folds(y, options.folds)
        for name in options.classifiers.split(","):
            print(f"{name}, {num_clips} clips", file=sys.stderr, flush=True)
            peers = {
                "elm": {
                    "numpy pinv": lambda x=x, y=y, s=splits: elm_refits(x, y, s, numpy_pinv),
                    "sklearn LinearRegression": lambda x=x, y=y, s=splits: elm_refits(x, y, s, least_squares),
                },
                "svm": {"sklearn SVC": lambda x=x, y=y, s=splits: svm_refits(x, y, s)},
            }[name]
            answers = {}

            def answer(key, function, answers=answers):
                def run():
                    answers[key] = np.concatenate(function(), axis=1)

                return run

            contenders = {"mirjax": answer("mirjax", lambda n=name, x=x, y=y, s=splits: grid_predictions(n, x, y, s))}
            contenders |= {peer: answer(peer, function) for peer, function in peers.items()}
            times = alternate(contenders, rounds=options.rounds)
            for peer in peers:
                same = np.mean(answers[peer] == answers["mirjax"])
                exact = peer != "sklearn LinearRegression"  # its cut-off of singular values is another
                assert same == 1 or not exact, (
                    f"{name}, {num_clips} clips: {1 - same:.2%} of predictions differ from {peer}"
                )
                gain, least = times[peer].cpu / times["mirjax"].cpu, TARGETS[peer]
                rows.append(
                    [
                        f"{name}, {len(answers['mirjax'])} settings × {len(splits)} folds",
                        num_clips,
                        x.shape[1],
                        peer,
                        f"{times[peer].cpu:.2f}",
                        f"{times['mirjax'].cpu:.2f}",
                        ratio(gain),
                        f"{same:.2%}",
                        f"≥ {least}×" if least else "",
                        ("met" if gain >= least else "missed") if least else "",
                    ]
                )
    print_table("grid|clips|features|peer|peer s|mirjax s|×|same predictions|target|verdict".split("|"), rows)


if __name__ == "__main__":
    main()

"""Tables of a scale study, from records and predictions alone: lines through the shares, whole clips against windows.

Lines
-----
y = a + b x by least squares over N scores y (one a network: its seed on one share, averaged over folds), x the
number of training clips, in thousands, or its logarithm to base ten. The slope's interval is b ± t(N − 2) · s_b. Shares
are nested and seeds meet the same test clips, so it tells how well the line is known for these clips, not for others.

Whole clips against windows
---------------------------
The same weights, so the difference is taken network by network. Of accuracy the interval is the cluster bootstrap over
seeds and clips of `mirjax.statistics`, fed with the differences of each network on each clip; of other metrics, which
have no clips, it is Student's over trainings (seeds and folds).

Names: `Line`, `fit_line`, `Difference`, `compare_evaluations`, `fit_shares`, `ScaleReport`, `build_report`.
"""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mirjax import results, statistics

LEVEL = 0.95


class Line(NamedTuple):
    """A straight line through scores: its slope with the 95 % interval (None of two scores), intercept and R²."""

    slope: float
    low: float | None
    high: float | None
    intercept: float
    r_squared: float


def fit_line(x, y) -> Line:
    """The least-squares line.

    Args:
      x: f[N], two different numbers or more.
      y: f[N].

    Raises:
      ValueError: arrays of unequal length, or x that do not differ.
    """
    from scipy import stats

    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or x.ndim != 1 or len(set(x.tolist())) < 2:
        raise ValueError(f"x {x.shape} and y {y.shape} must be of one length, with two different x or more")
    spread = ((x - x.mean()) ** 2).sum()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / spread
    intercept = y.mean() - slope * x.mean()
    rest, total = ((y - intercept - slope * x) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    low = high = None
    if len(x) > 2:
        half = stats.t.ppf((1 + LEVEL) / 2, len(x) - 2) * np.sqrt(rest / (len(x) - 2) / spread)
        low, high = float(slope - half), float(slope + half)
    return Line(float(slope), low, high, float(intercept), float(1 - rest / total) if total else 0.0)


class Fit(NamedTuple):
    """Scores of one network over shares, and the lines through them.

    Attributes:
      dataset, architecture, n, whole, metric: of what.
      sizes: numbers of training clips, ascending; means over folds.
      means: of the scores at each size.
      runs: scores at each size.
      by_size: line per 1000 clips.
      by_log: line per tenfold of clips.
    """

    dataset: str
    architecture: str
    n: int | None
    whole: bool
    metric: str
    sizes: tuple[float, ...]
    means: tuple[float, ...]
    runs: int
    by_size: Line
    by_log: Line


class Difference(NamedTuple):
    """Whole clips less windows, of the same weights; the interval is None where one training is all there is."""

    dataset: str
    architecture: str
    n: int | None
    share: float
    metric: str
    windows: float
    whole: float
    low: float | None
    high: float | None
    interval_over: str


@dataclasses.dataclass(frozen=True, eq=False)
class _Trained:
    """The records of one network on one share, under one evaluation and metric: {seed: {fold: record}}."""

    records: dict

    @property
    def scores(self) -> list[float]:
        """Of each seed, the mean over its folds."""
        return [float(np.mean([r["value"] for r in of.values()])) for of in self.records.values()]

    @property
    def size(self) -> float:
        """Training clips, mean over folds."""
        return float(np.mean([r["n_train"] for of in self.records.values() for r in of.values()]))


def _gather(records) -> dict[tuple, dict[tuple, _Trained]]:
    """{(dataset, architecture, n, other options, metric): {(share, whole): trained}}, in the order of the records."""
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for record in records:
        options = dict(record["options"] or {})
        if record["classifier"] != "trained" or "train_share" not in options:
            continue
        share, whole = options.pop("train_share"), options.pop("whole", False)
        others = json.dumps(options, sort_keys=True)
        key = (record["dataset"], record["architecture"], record["n"], others, record["metric"])
        found[key][share, whole][record["seed"]][record["fold"]] = record
    return {key: {setting: _Trained(dict(of)) for setting, of in settings.items()} for key, settings in found.items()}


def fit_shares(records) -> list[Fit]:
    """Lines through the scores of every network that was trained on two shares or more."""
    fits = []
    for (dataset, architecture, n, _, metric), settings in _gather(records).items():
        for whole in (False, True):
            chosen = sorted((each for (_, way), each in settings.items() if way == whole), key=lambda each: each.size)
            if len({each.size for each in chosen}) < 2:
                continue
            x = np.concatenate([np.full(len(each.scores), each.size) for each in chosen])
            y = np.concatenate([each.scores for each in chosen])
            fits.append(
                Fit(
                    *(dataset, architecture, n, whole, metric),
                    sizes=tuple(each.size for each in chosen),
                    means=tuple(float(np.mean(each.scores)) for each in chosen),
                    runs=max(len(each.scores) for each in chosen),
                    by_size=fit_line(x / 1000, y),
                    by_log=fit_line(np.log10(x), y),
                )
            )
    return fits


def compare_evaluations(records, workdirs: Sequence = ()) -> list[Difference]:
    """Whole clips against windows, for every network that was evaluated in both ways.

    Args:
      records: of run folders.
      workdirs: the folders, for the predictions; without them every interval is over trainings.
    """
    found = []
    for (dataset, architecture, n, _, metric), settings in _gather(records).items():
        for (share, is_whole), whole in settings.items():
            windows = settings.get((share, False))
            if not is_whole or windows is None:
                continue
            values = _pairs(windows, whole)
            if not len(values):
                continue
            interval, over = _over_trainings(values[:, 1] - values[:, 0]), "trainings"
            if metric == "accuracy" and workdirs:
                interval, over = _over_clips(windows, whole, workdirs), "seeds and clips"
            means = values.mean(0).tolist()
            found.append(Difference(dataset, architecture, n, share, metric, *means, *interval, over))
    return found


def _pairs(windows: _Trained, whole: _Trained) -> np.ndarray:
    """Values f64[trainings, 2] of the trainings that both have."""
    return np.array(
        [
            (windows.records[seed][fold]["value"], record["value"])
            for seed, of in whole.records.items()
            for fold, record in of.items()
            if fold in windows.records.get(seed, {})
        ]
    )


def _over_trainings(differences) -> tuple[float | None, float | None]:
    from scipy import stats

    if len(differences) < 2:
        return None, None
    half = stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return float(differences.mean() - half), float(differences.mean() + half)


def _over_clips(windows: _Trained, whole: _Trained, workdirs) -> tuple[float, float]:
    rights, rows = [], []
    for seed in (seed for seed in whole.records if seed in windows.records):
        of_seed = []
        for trained in (whole, windows):
            name = next(iter(trained.records[seed].values()))["predictions"]
            rows = sorted(_predictions(workdirs, name), key=lambda row: row["id"])
            of_seed.append([row["prediction"] == row["label"] for row in rows])
        rights.append(np.subtract(*np.array(of_seed, float)))
    groups = np.array([str(row["id"] if row["group"] is None else row["group"]) for row in rows])
    weights = statistics.fold_weights([row["fold"] for row in rows])
    nothing = np.zeros((1, len(rows)))  # the difference of each network is taken already
    found = statistics.paired_difference(np.array(rights), nothing, groups, weights=weights)
    return found.low, found.high


def _predictions(workdirs, name) -> list[dict]:
    folders = [folder for folder in map(Path, workdirs) if (folder / "predictions" / name).is_file()]
    return results.read_predictions(folders[0] if folders else workdirs[0], name)


# ── the report ────────────────────────────────────────────────────────────────────────────────────


@dataclasses.dataclass(frozen=True, eq=False)
class ScaleReport:
    """A training's report and the tables of a scale study.

    Attributes:
      report: `report.Report`.
      fits: lines through the shares.
      differences: whole clips against windows.
    """

    report: object
    fits: tuple[Fit, ...]
    differences: tuple[Difference, ...]

    @property
    def summary(self) -> str:
        """The tables, as text; empty where nothing was varied."""
        return "\n\n".join(filter(None, [_text_of_fits(self.fits), _text_of_differences(self.differences)]))

    def to_text(self) -> str:
        """The report for a terminal."""
        return "\n\n".join(filter(None, [self.summary, self.report.to_text()]))


def build_report(workdirs: Sequence, out: str | Path | None = None) -> ScaleReport:
    """Summarise run folders; beside the training's report, `scale.md` and `scale.csv` are written.

    Args:
      workdirs: run folders; what several of them hold is merged.
      out: where to write; the first run folder when None.
    """
    from mirjax.experiments import report

    records = list({r["fingerprint"]: r for workdir in workdirs for r in results.read_records(workdir)}.values())
    found = ScaleReport(
        report.build_report(workdirs, out), tuple(fit_shares(records)), tuple(compare_evaluations(records, workdirs))
    )
    folder = Path(out or workdirs[0])
    (folder / "scale.csv").write_text(_csv(records), encoding="utf-8", newline="\n")
    if found.summary:
        (folder / "scale.md").write_text(f"```\n{found.summary}\n```\n", encoding="utf-8", newline="\n")
    return found


def _label(architecture, n, *more) -> str:
    return " ".join([architecture if n is None else f"{architecture} n={n}", *filter(None, more)])


def _with_interval(value, low, high) -> str:
    return f"{100 * value:+.2f}" + ("" if low is None else f" [{100 * low:+.2f}, {100 * high:+.2f}]")


def _text_of_fits(fits) -> str:
    lines = []
    for fit in fits:
        steps = ", ".join(f"{size:g}: {100 * mean:.1f}" for size, mean in zip(fit.sizes, fit.means, strict=True))
        name = _label(fit.architecture, fit.n, fit.whole and "whole")
        lines += [
            f"{fit.dataset}, {name}, {fit.metric} in %, {fit.runs} runs",
            f"  clips: score     {steps}",
            f"  per 1000 clips   {_with_interval(*fit.by_size[:3])}  R² {fit.by_size.r_squared:.3f}",
            f"  per tenfold      {_with_interval(*fit.by_log[:3])}  R² {fit.by_log.r_squared:.3f}",
        ]
    return "\n".join(
        ["Lines through the shares of the training clips, slopes in points [95 %]", *lines] if lines else []
    )


def _text_of_differences(differences) -> str:
    lines = []
    for each in differences:
        lines.append(
            f"{each.dataset}, {_label(each.architecture, each.n, each.share != 1 and f'share {each.share:g}')}, "
            f"{each.metric}: windows {100 * each.windows:.2f}, whole {100 * each.whole:.2f}, difference "
            f"{_with_interval(each.whole - each.windows, each.low, each.high)}, over {each.interval_over}"
        )
    head = "Whole clips against averaged windows, the same weights, in % and points [95 %]"
    return "\n".join([head, *lines] if lines else [])


def _csv(records) -> str:
    lines = ["dataset,architecture,n,whole,metric,seed,train_share,n_train,value"]
    for (dataset, architecture, n, _, metric), settings in _gather(records).items():
        for (share, whole), trained in settings.items():
            for seed, score in zip(trained.records, trained.scores, strict=True):
                row = (dataset, architecture, n or "", whole, metric, seed, share, f"{trained.size:g}", f"{score:.6g}")
                lines.append(",".join(map(str, row)))
    return "\n".join(lines) + "\n"

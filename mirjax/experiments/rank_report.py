"""What a run of `rank_correlation` says: how well each untrained score ranks networks as their training does.

A *method* is one way to score a network without training it: a classifier on its untrained features, under one kind of
input; a proxy; the vote of several (mean rank of the last untrained method, SynFlow and NASWOT). Its correlation with
the trained accuracy is over the networks of one data set, on the same test clips, with a 95 % interval from a bootstrap
over networks, seeds and clips (`mirjax.rankings`). Proxies have no scale, and may be infinite: their values are ranks
among the networks, seed by seed. A method that lacks some networks is judged on the others.

Files: `table.csv` (a line for each network, data set, method, input and seed; `correct` are the test clips in order,
eight a byte, in hexadecimal), `rank_report.md`, `rank_scatter.png`, `rank_correlations.png`.
Names: `RankReport`, `SetResult`, `MethodResult`, `build_report`, `read_table`, `COLUMNS`.
"""

import csv
import dataclasses
import io
import warnings
from pathlib import Path

import numpy as np
import scipy.stats

from mirjax import rankings, results, statistics
from mirjax.experiments import proxy_scores
from mirjax.experiments.report import CLAIMS

COLUMNS = ("network", "set", "kind", "method", "input", "seed", "value", "seconds", "epochs", "correct")
TOP = (1, 3, 5, 10)
VOTERS = ("synflow", "naswot")
SIZES = ("num_parameters", "gigaflops")
FEWEST = 3  # networks that have a rank


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Scores of A networks by one method.

    Attributes:
      values: f64[A, S], higher is better; S seeds. Of proxies, ranks among the networks from 1.
      correct: bool[A, S, M] decisions on the test clips, or None (proxies).
      seconds: median for a network and seed.
    """

    values: np.ndarray
    correct: np.ndarray | None
    seconds: float

    @property
    def sample(self) -> np.ndarray:
        """What intervals are drawn from: decisions where there are any."""
        return self.values if self.correct is None else self.correct.astype(float)


@dataclasses.dataclass(frozen=True)
class MethodResult:
    """How a method ranks networks on one data set; intervals are None with fewer than five networks."""

    name: str
    num_networks: int
    spearman: rankings.CorrelationInterval | None
    kendall: rankings.CorrelationInterval | None
    partial: float
    attenuation: rankings.Attenuation | None
    regrets: tuple[rankings.Regret, ...]
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class SetResult:
    """One data set: its networks, what training made of them, and every method."""

    name: str
    networks: tuple[str, ...]
    trained: Scores
    ceiling: rankings.NoiseCeiling | None
    methods: tuple[MethodResult, ...]
    best_untrained: dict[str, np.ndarray]
    orderings: tuple[tuple, ...]
    num_clips: int


@dataclasses.dataclass(frozen=True, eq=False)
class RankReport:
    """All data sets of a run, and its table."""

    sets: tuple[SetResult, ...]
    rows: tuple[dict, ...]

    def to_csv(self) -> str:
        """`table.csv`."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def to_text(self) -> str:
        """For a terminal."""
        return self.to_markdown()

    def to_markdown(self) -> str:
        """The report in full."""
        lines = ["# Does the untrained rank predict the trained one?", ""]
        for found in self.sets:
            accuracy = found.trained.values.mean(1)
            lines += [
                f"## {found.name}",
                "",
                f"{len(found.networks)} networks, {found.trained.values.shape[1]} trained seeds, {found.num_clips} "
                f"test clips. Trained accuracy from {100 * accuracy.min():.1f} to {100 * accuracy.max():.1f} %, median "
                f"{100 * np.median(accuracy):.1f} %; best: {found.networks[int(accuracy.argmax())]}.",
            ]
            if found.ceiling is not None:
                lines.append(
                    f"Noise ceiling: two halves of the trained seeds correlate {found.ceiling.halves:.2f}; no ranking "
                    f"can be expected above {found.ceiling.perfect:.2f}."
                )
            for method, untrained in found.best_untrained.items():
                wins = int((accuracy > untrained).sum())
                gain = 100 * float(np.mean(accuracy - untrained))
                lines.append(
                    f"Trained against untrained ({method}): {wins} of {len(accuracy)} networks are better trained, "
                    f"{gain:+.1f} points on average."
                )
            header = ["method", "Spearman", "Kendall", "given size", "without seed noise"]
            header += [f"regret@{k}" for k in TOP] + ["s a network"]
            lines += ["", "| " + " | ".join(header) + " |", "|:--" + "|--:" * (len(header) - 1) + "|"]
            for each in found.methods:
                regrets = {regret.k: regret for regret in each.regrets}
                cells = [each.name, _interval(each.spearman), _interval(each.kendall), _number(each.partial)]
                cells.append("–" if each.attenuation is None else _number(each.attenuation.disattenuated))
                cells += [f"{100 * regrets[k].regret:.1f}" if k in regrets else "–" for k in TOP]
                lines.append("| " + " | ".join([*cells, f"{each.seconds:.2g}"]) + " |")
            random = {regret.k: regret.random for each in found.methods[:1] for regret in each.regrets}
            cells = ["at random", "0", "0", "–", "–"]
            cells += [f"{100 * random[k]:.1f}" if k in random else "–" for k in TOP]
            lines += ["| " + " | ".join([*cells, "0"]) + " |", ""]
            lacking = [e for e in found.methods if e.num_networks < len(found.networks)]
            if lacking:
                told = "; ".join(f"{e.name}: {e.num_networks} of {len(found.networks)} networks" for e in lacking)
                lines += [f"Judged on fewer networks: {told}.", ""]
            if found.orderings:
                chosen = list(found.best_untrained)[-1]
                lines += [f"| published ordering | untrained, {chosen} (points, 95 %) | trained (points, 95 %) |"]
                lines += ["|:--|--:|--:|"]
                for claim, untrained, trained in found.orderings:
                    told = [
                        f"{100 * d.difference:+.1f} ({100 * d.low:+.1f} … {100 * d.high:+.1f})"
                        for d in (untrained, trained)
                    ]
                    lines.append(f"| {claim} | {told[0]} | {told[1]} |")
                alike = sum(u.difference * t.difference > 0 for _, u, t in found.orderings)
                clear = [(u, t) for _, u, t in found.orderings if t.low * t.high > 0]
                right = sum(u.difference * t.difference > 0 for u, t in clear)
                lines += [
                    "",
                    f"Untrained and trained differences point the same way in {alike} of {len(found.orderings)}, and "
                    f"in {right} of the {len(clear)} where the trained interval leaves out 0.",
                    "",
                ]
        if len(self.sets) > 1:
            lines += self._over_sets()
        lines += [
            "Intervals: 95 %, bootstrap over networks, seeds and clips. Given size: Spearman with the ranks of "
            "parameters and FLOPs taken out. Without seed noise: the correlation over the root of both reliabilities. "
            "Regret@k: points lost by training only the k networks that rank first, against the best of all.",
            "",
        ]
        return "\n".join(lines)

    def _over_sets(self) -> list[str]:
        """A table of every method's correlation on every data set, the highest mean first."""
        tables = [{each.name: each for each in found.methods if each.spearman is not None} for found in self.sets]
        common = [name for name in tables[0] if all(name in table for table in tables)]
        rows = []
        for name in common:
            found = [table[name] for table in tables]
            losses = [next((r.regret for r in each.regrets if r.k == 5), np.nan) for each in found]
            rows.append((name, [each.spearman.correlation for each in found], 100 * float(np.mean(losses))))
        rows.sort(key=lambda row: -np.mean(row[1]))
        header = ["method", *(found.name for found in self.sets), "mean", "mean regret@5"]
        lines = ["## All data sets", "", "Spearman's correlation with trained accuracy:", ""]
        lines += ["| " + " | ".join(header) + " |", "|:--" + "|--:" * (len(header) - 1) + "|"]
        for name, correlations, loss in rows:
            numbers = [f"{value:.2f}" for value in (*correlations, np.mean(correlations))]
            lines.append("| " + " | ".join([name, *numbers, f"{loss:.1f}" if np.isfinite(loss) else "–"]) + " |")
        return [*lines, ""]

    def write(self, out: Path) -> None:
        """Write the table, the text and the figures."""
        from mirjax import plots

        out.mkdir(parents=True, exist_ok=True)
        (out / "table.csv").write_text(self.to_csv(), encoding="utf-8")
        (out / "report.md").write_text(self.to_markdown(), encoding="utf-8")
        plots.plot_rank_scatter(self.sets, out / "rank_scatter.png")
        plots.plot_rank_correlations(self.sets, out / "rank_correlations.png")


def _number(value) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.2f}"


def _interval(found) -> str:
    return "–" if found is None else f"{found.correlation:.2f} ({found.low:.2f}…{found.high:.2f})"


# ── from the folders ──


def build_report(workdirs, out: Path | None = None) -> RankReport:
    """Read run folders (or tables), write table, text and figures, and return them.

    Args:
      workdirs: run folders of `rank_correlation`, or `.csv` tables such a run has written.
      out: where the files go; the first folder when None.

    Raises:
      ValueError: a folder that holds no such run; tables alone, and no folder to write to.
    """
    workdirs = [Path(workdir) for workdir in workdirs]
    if out is None and workdirs[0].is_file():
        raise ValueError(f"{workdirs[0]} is a table; say where the report goes (out=FOLDER)")
    rows = [row for workdir in workdirs for row in read_table(workdir)]
    report = RankReport(tuple(_judge(name, rows) for name in dict.fromkeys(row["set"] for row in rows)), tuple(rows))
    report.write(Path(out) if out is not None else workdirs[0])
    return report


def read_table(path: Path) -> list[dict]:
    """Rows of `COLUMNS` of a run folder, or of a table that was written.

    Raises:
      ValueError: nothing of the kind is there.
    """
    path = Path(path)
    if path.is_file():
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or set(rows[0]) != set(COLUMNS):
            raise ValueError(f"{path} is no table of a rank correlation (columns {', '.join(COLUMNS)})")
        return [
            row | {"seed": int(row["seed"]), "value": float(row["value"]), "seconds": float(row["seconds"])}
            for row in rows
        ]
    rows = []
    for folder in sorted(each.parent for each in path.glob("*/untrained")):
        name = folder.name
        decisions = _of_trained(folder / "trained", name)
        tested = set(decisions[0]["clips"]) if decisions else None
        rows += [_row(name, "trained", found, found["clips"]) for found in decisions]
        rows += [_row(name, "untrained", found, tested) for found in _of_screening(folder / "untrained", name, tested)]
        for line in proxy_scores.read_scores(folder / "proxies.jsonl"):
            if line["value"] is not None:
                rows.append(
                    {"network": line["network"], "set": name, "kind": "proxy", "method": line["proxy"], "input": "",
                     "seed": line["seed"], "value": float(f"{line['value']:.6g}"), "seconds": line["seconds"],
                     "epochs": "", "correct": ""}
                )  # fmt: skip
    if not rows:
        raise ValueError(
            f"{path} holds no rank correlation; give the folder that `launch.py run rank_correlation` made"
        )
    return rows


def _row(name, kind, found, clips) -> dict:
    correct = np.array([found["correct"][clip] for clip in sorted(clips)], bool)
    return {
        "network": found["network"],
        "set": name,
        "kind": kind,
        "method": found["method"],
        "input": found["input"],
        "seed": found["seed"],
        "value": round(float(correct.mean()), 6),
        "seconds": found["seconds"],
        "epochs": found["epochs"],
        "correct": f"{len(correct)}:{np.packbits(correct).tobytes().hex()}",
    }


def _cells(folder: Path):
    """One record of every cell with its decisions {clip: right}."""
    with warnings.catch_warnings(action="ignore"):
        records = results.read_records(folder)
    seen = {}
    for record in records:
        if record["predictions"] and record["predictions"] not in seen:
            seen[record["predictions"]] = record
    for name, record in seen.items():
        rows = results.read_predictions(folder, name)
        yield record, {row["id"]: row["label"] == row["prediction"] for row in rows}


def _of_trained(folder: Path, name: str) -> list[dict]:
    if not (folder / "records.jsonl").is_file():
        return []
    found = [
        {"network": r["architecture"], "method": "trained", "input": "", "seed": r["seed"], "seconds": r["seconds"],
         "epochs": r["hyperparameters"].get("epochs", ""), "correct": correct, "clips": tuple(correct)}
        for r, correct in _cells(folder) if r["classifier"] == "trained"
    ]  # fmt: skip
    return found


def _of_screening(folder: Path, name: str, tested) -> list[dict]:
    return [
        {"network": r["architecture"], "method": r["classifier"], "input": r["input"], "seed": r["seed"], "epochs": "",
         "seconds": round(r["feature_seconds_per_clip"] * (r["n_train"] + r["n_test"]) + r["seconds"], 4),
         "correct": correct}
        for r, correct in _cells(folder)
        if r["num_features"] and r["architecture"] != "mfcc" and (tested is None or tested <= set(correct))
    ]  # fmt: skip


# ── what it says ──


def _judge(name: str, rows) -> SetResult:
    rows = [row for row in rows if row["set"] == name]
    groups: dict[tuple, dict] = {}
    for row in rows:
        label = row["method"] + (f" ({row['input']})" if row["input"] else "")
        groups.setdefault((row["kind"], label), {}).setdefault(row["network"], {})[row["seed"]] = row
    trained = next((tree for (kind, _), tree in groups.items() if kind == "trained"), None)
    if trained is None:
        raise ValueError(f"{name}: no network has been trained yet; run again, it goes on")
    untrained = [label for (kind, label) in groups if kind == "untrained"]
    of_all = [tree for (kind, _), tree in groups.items() if kind == "untrained"]
    networks = [n for n in trained if all(n in tree for tree in of_all)]
    measured = _scores(trained, networks)
    scores, known = {}, {}
    for (kind, label), tree in groups.items():
        first = min(seed for of_network in tree.values() for seed in of_network)
        own = np.array([i for i, network in enumerate(networks) if first in tree.get(network, ())], int)
        if kind != "trained" and len(own) >= FEWEST:
            scores[label], known[label] = _scores(tree, [networks[i] for i in own]), own
    whole = [label for label, own in known.items() if len(own) == len(networks)]
    sizes = np.stack([scores[s].values.mean(1) for s in SIZES if s in whole], axis=-1) if SIZES[0] in whole else None
    if untrained and all(voter in whole for voter in VOTERS):
        chosen = untrained[-1]
        from mirjax import proxies

        ranks = proxies.vote({label: scores[label].values.mean(1) for label in (chosen, *VOTERS)})
        spent = sum(scores[label].seconds for label in (chosen, *VOTERS))
        label = f"vote of {chosen}, {', '.join(VOTERS)}"
        scores[label], known[label] = Scores(np.asarray(ranks)[:, None], None, spent), np.arange(len(networks))
    found = tuple(
        _method(label, each, _of(measured, known[label]), None if sizes is None else sizes[known[label]])
        for label, each in scores.items()
    )
    several = measured.values.shape[1] > 1
    return SetResult(
        name,
        tuple(networks),
        measured,
        rankings.noise_ceiling(measured.sample) if several else None,
        found,
        {label: scores[label].values.mean(1) for label in untrained},
        tuple(_orderings(networks, scores, untrained, measured)),
        measured.correct.shape[2],
    )


def _scores(tree, networks) -> Scores:
    seeds = sorted(set.intersection(*(set(tree[n]) for n in networks)))
    rows = [[tree[n][seed] for seed in seeds] for n in networks]
    values = np.array([[row["value"] for row in line] for line in rows])
    correct = None
    if rows[0][0]["correct"]:
        correct = np.array([[_unpack(row["correct"]) for row in line] for line in rows])
    else:
        values = scipy.stats.rankdata(values, axis=0)
    return Scores(values, correct, float(np.median([row["seconds"] for line in rows for row in line])))


def _of(scores: Scores, chosen) -> Scores:
    """Scores of some networks."""
    correct = None if scores.correct is None else scores.correct[chosen]
    return Scores(scores.values[chosen], correct, scores.seconds)


def _unpack(text: str) -> np.ndarray:
    count, _, digits = text.partition(":")
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))[: int(count)].astype(bool)


def _method(label, scores, trained, sizes) -> MethodResult:
    means, truth = scores.values.mean(1), trained.values.mean(1)
    enough = len(means) >= 5 and np.ptp(means) > 0 and np.ptp(truth) > 0
    intervals = [
        rankings.correlation_interval(scores.sample, trained.sample, kind=kind) if enough else None
        for kind in ("spearman", "kendall")
    ]
    sized = enough and sizes is not None and label not in SIZES
    return MethodResult(
        label,
        len(means),
        *intervals,
        float(rankings.partial_rank_correlation(means, truth, sizes)) if sized else float("nan"),
        rankings.attenuation(scores.sample, trained.sample) if enough and scores.correct is not None else None,
        tuple(rankings.regret(means, truth, k) for k in TOP if k <= len(means)),
        scores.seconds,
    )


def _orderings(networks, scores, untrained, trained):
    """(claim, untrained difference, trained difference) for every published ordering of two networks that are here."""
    short = {network.rpartition("-n")[0]: i for i, network in enumerate(networks)}
    if not untrained:
        return
    seen = set()
    for claim in CLAIMS:
        pair = frozenset((claim.first, claim.second))
        if pair in seen or not pair <= short.keys():
            continue
        seen.add(pair)
        i, j = short[claim.first], short[claim.second]
        differences = [
            statistics.paired_difference(each.correct[i].astype(int), each.correct[j].astype(int))
            for each in (scores[untrained[-1]], trained)
        ]
        yield f"{claim.first} {claim.relation} {claim.second} ({claim.made_for})", *differences

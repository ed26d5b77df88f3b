"""What a run of `rank_correlation` says: how well each untrained score ranks networks as their training does.

A *method* is one way to score a network without training it: a classifier on its untrained features, under one kind of
input; a proxy; the vote of several (mean rank of the last untrained method, SynFlow and NASWOT). Its correlation with
the trained accuracy is over the networks of one data set, on the same test clips, with a 95 % interval from a bootstrap
over networks, which bring their seeds, and clips (`mirjax.rankings`). Proxies have no scale: their values are ranks
among the networks, seed by seed, and where one is not finite the network is none of its.

All networks of a method have the same seeds. A seed that fewer than three in four of them have (a run that goes on) is
not used yet; a network that lacks one of the others (a training that diverged, a proxy that is not finite) is left out,
for all methods where it is not trained or not screened. What is left out is said.

Files: `table.csv` (`rank_table`), `report.md`, `rank_scatter.png`, `rank_correlations.png`.
Names: `RankReport`, `SetResult`, `MethodResult`, `Ordering`, `Scores`, `build_report`.
"""

import collections
import dataclasses
from pathlib import Path

import numpy as np
import scipy.stats

from mirjax import rankings, statistics
from mirjax.experiments import rank_table
from mirjax.experiments.report import CLAIMS

TOP = (1, 3, 5, 10)
VOTERS = ("synflow", "naswot")
SIZES = ("num_parameters", "gigaflops")
INPUT = "linear_on_pooled_input"  # one value for every network that hears alike
FEWEST = 3  # networks that have a rank
MOST = 0.75  # of the networks have a seed that is used
NAMED = 8  # networks, of those that are left out
NOTE = (
    "Intervals: 95 %, bootstrap over networks, which bring their seeds, and clips, drawn one by one. Given size: "
    "Spearman with the ranks of parameters and FLOPs taken out; given size, input: and that of a linear classifier on "
    "the pooled input, which tells spectrogram from waveform. Without seed noise: correlation over the root of both "
    "reliabilities, which are those of ranks. Regret@k: points lost by training only the k networks that rank first, "
    "against the best of all. Vote: mean of the ranks by these methods (ours; not a vote of the literature). Where "
    "data come in folds, trained networks give the clips that validate up, and untrained classifiers, whose settings "
    "are chosen in inner folds, are fitted to them. Standardised input: by one mean and deviation of the whole set, "
    "test clips (not their labels) included; trained networks standardise by their training clips."
)


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Scores of A networks by one method.

    Attributes:
      values: f64[A, S], higher is better; S seeds. Of proxies, ranks among the networks from 1.
      correct: bool[A, S, M] decisions on the test clips, or None (proxies).
      seconds: median over networks of their quickest seed (the first one compiles).
      epochs: int[N], of N trainings (one a fold); None of others.
    """

    values: np.ndarray
    correct: np.ndarray | None
    seconds: float
    epochs: np.ndarray | None = None

    @property
    def means(self) -> np.ndarray:
        """f64[A], over seeds; equal ones are equal, whatever the rounding."""
        return np.round(self.values.mean(1), 12)

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
    partial_input: float
    attenuation: rankings.Attenuation | None
    regrets: tuple[rankings.Regret, ...]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Ordering:
    """A published ordering of two networks: their differences untrained and trained.

    `clear`: the trained interval leaves out 0, over several seeds (one shows how two trainings differ, not networks).
    """

    claim: str
    untrained: statistics.Difference
    trained: statistics.Difference
    clear: bool

    @property
    def agrees(self) -> bool:
        """Whether both differences have one sign."""
        return self.untrained.difference * self.trained.difference > 0


@dataclasses.dataclass(frozen=True, eq=False)
class SetResult:
    """One data set: its networks, what training made of them, and every method."""

    name: str
    networks: tuple[str, ...]
    trained: Scores
    ceiling: rankings.NoiseCeiling | None
    methods: tuple[MethodResult, ...]
    untrained: dict[str, np.ndarray]
    orderings: tuple[Ordering, ...]
    num_clips: int
    notes: tuple[str, ...] = ()

    @property
    def several(self) -> bool:
        """Whether networks were trained under several seeds."""
        return self.trained.values.shape[1] > 1


@dataclasses.dataclass(frozen=True, eq=False)
class RankReport:
    """All data sets of a run, its table, and what could not be judged."""

    sets: tuple[SetResult, ...]
    rows: tuple[dict, ...]
    notes: tuple[str, ...] = ()

    def to_text(self) -> str:
        """For a terminal."""
        return self.to_markdown()

    def to_markdown(self) -> str:
        """The report in full."""
        lines = ["# Does the untrained rank predict the trained one?", ""]
        lines += [line for note in self.notes for line in (note, "")]
        if len(self.sets) > 1:
            lines += self._over_sets() + self._gains() + self._orderings()
        for found in self.sets:
            lines += _told(found)
        return "\n".join([*lines, NOTE, ""])

    def _over_sets(self) -> list[str]:
        """A table of every method's correlation on every data set, the highest mean first."""
        tables = [{each.name: each for each in found.methods if each.spearman is not None} for found in self.sets]
        common = [name for name in tables[0] if all(name in table for table in tables)]
        rows = []
        for name in common:
            found = [table[name] for table in tables]
            losses = [next((r.regret for r in each.regrets if r.k == 5), np.nan) for each in found]
            left = np.mean([each.partial_input for each in found])
            rows.append((name, [each.spearman.correlation for each in found], left, 100 * float(np.mean(losses))))
        rows.sort(key=lambda row: -np.mean(row[1]))
        header = ["method", *(found.name for found in self.sets), "mean", "given size, input", "regret@5"]
        told = "Spearman's correlation with trained accuracy; the last three columns are means over the data sets:"
        lines = ["## All data sets", "", told, ""]
        lines += ["| " + " | ".join(header) + " |", "|:--" + "|--:" * (len(header) - 1) + "|"]
        for name, correlations, left, loss in rows:
            numbers = [_number(value) for value in (*correlations, np.mean(correlations), left)]
            lines.append("| " + " | ".join([name, *numbers, f"{loss:.1f}" if np.isfinite(loss) else "–"]) + " |")
        lacking = dict.fromkeys(name for table in tables for name in table if name not in common)
        return [*lines, ""] + ([f"Not on all data sets: {', '.join(lacking)}.", ""] if lacking else [])

    def _gains(self) -> list[str]:
        """A table of what training made of every data set, beside all untrained methods that any of them has."""
        methods = list(dict.fromkeys(name for found in self.sets for name in found.untrained))
        header = ["data set", "networks", "trained seeds", "halves agree", "ceiling", "test clips", "trained, median"]
        header += methods
        lines = ["| " + " | ".join(header) + " |", "|:--" + "|--:" * (len(header) - 1) + "|"]
        for found in self.sets:
            accuracy = found.trained.means
            gains = [accuracy - found.untrained[name] if name in found.untrained else None for name in methods]
            ceiling = (None, None) if found.ceiling is None else (found.ceiling.halves, found.ceiling.perfect)
            num_seeds = found.trained.values.shape[1]
            cells = [found.name, len(accuracy), num_seeds, *map(_number, ceiling), found.num_clips]
            cells += [f"{100 * np.median(accuracy):.1f}"]
            cells += ["–" if each is None else f"{100 * each.mean():+.1f} ({np.sum(each > 0)})" for each in gains]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        told = (
            "How well halves of the trained seeds rank networks alike (no method can be expected above the ceiling), "
            "and what training gained over the same networks untrained, as each method reads them: mean points of "
            "accuracy on the test clips (in brackets the networks that are better trained):"
        )
        return [told, "", *lines, ""]

    def _orderings(self) -> list[str]:
        """A table of the published orderings: the untrained difference of two networks, then the trained one."""
        of_sets = [{each.claim: each for each in found.orderings} for found in self.sets]
        claims = list(dict.fromkeys(claim for found in of_sets for claim in found))
        if not claims:
            return []

        def told(each):
            if each is None:
                return "–"
            return f"{100 * each.untrained.difference:+.0f} → {100 * each.trained.difference:+.0f}{'*' * each.clear}"

        header = ["published ordering", *(found.name for found in self.sets)]
        lines = ["| " + " | ".join(header) + " |", "|:--" + "|--:" * len(self.sets) + "|"]
        for claim in claims:
            lines.append("| " + " | ".join([claim, *(told(found.get(claim)) for found in of_sets)]) + " |")
        what = (
            "Points of the first network over the second, untrained → trained; * where the trained interval, over "
            "several seeds, leaves out 0:"
        )
        summed = f"They {_agreement([each for found in of_sets for each in found.values()], 'with *')}."
        return [what, "", *lines, "", summed, ""]

    def write(self, out: Path) -> None:
        """Write the table, the text and the figures."""
        from mirjax import plots

        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / "table.csv").write_text(rank_table.to_csv(self.rows), encoding="utf-8")
            (out / "report.md").write_text(self.to_markdown(), encoding="utf-8")
        except OSError as error:
            raise ValueError(
                f"the report cannot be written to {out} ({error}); name a folder for it: out=FOLDER"
            ) from None
        plots.plot_rank_scatter(self.sets, out / "rank_scatter.png")
        plots.plot_rank_correlations(self.sets, out / "rank_correlations.png")


def _told(found: SetResult) -> list[str]:
    """What the report says of a data set."""
    accuracy, epochs, num_seeds = found.trained.means, found.trained.epochs, found.trained.values.shape[1]
    length = ""
    if epochs.size:  # a table made by hand may not tell
        folds = epochs.size / accuracy.size / num_seeds
        length = (
            f" A training took {found.trained.seconds / folds:.0f} s and {np.median(epochs):.0f} epochs (median; "
            f"{epochs.min()} to {epochs.max()}, which {np.sum(epochs == epochs.max())} of {epochs.size} reached)."
        )
    lines = [
        f"## {found.name}",
        "",
        f"{len(found.networks)} networks, {num_seeds} trained seed{'s'[: num_seeds > 1]}, {found.num_clips} "
        f"test clips. Trained accuracy from {100 * accuracy.min():.1f} to {100 * accuracy.max():.1f} %, median "
        f"{100 * np.median(accuracy):.1f} %; best: {found.networks[int(accuracy.argmax())]}.{length}",
        "",
        *(line for note in found.notes for line in (note, "")),
    ]
    if num_seeds == 1:
        lines.append(
            "* With one trained seed the intervals compare these very trainings: noise of the seeds is not in "
            "them, and what the correlations would be without it is not known."
        )
    if found.ceiling is not None:
        above = f"no ranking can be expected above {found.ceiling.perfect:.2f}"
        above = above if np.isfinite(found.ceiling.perfect) else "no ranking can be expected to find theirs"
        lines.append(f"* Noise ceiling: two halves of the trained seeds correlate {found.ceiling.halves:.2f}; {above}.")
    for method, untrained in found.untrained.items():
        wins = int((accuracy > untrained).sum())
        gain = 100 * float(np.mean(accuracy - untrained))
        lines.append(
            f"* Trained against untrained ({method}): {wins} of {len(accuracy)} networks are better trained, "
            f"{gain:+.1f} points on average."
        )
    header = ["method", "Spearman", "Kendall", "given size", "given size, input", "without seed noise"]
    header += [f"regret@{k}" for k in TOP] + ["s a network"]
    lines += ["", "| " + " | ".join(header) + " |", "|:--" + "|--:" * (len(header) - 1) + "|"]
    for each in found.methods:
        regrets = {regret.k: regret for regret in each.regrets}
        cells = [each.name, _interval(each.spearman), _interval(each.kendall)]
        cells += [_number(each.partial), _number(each.partial_input)]
        cells.append("–" if each.attenuation is None else _number(each.attenuation.disattenuated))
        cells += [f"{100 * regrets[k].regret:.1f}" if k in regrets else "–" for k in TOP]
        lines.append("| " + " | ".join([*cells, f"{each.seconds:.2g}"]) + " |")
    random = {regret.k: regret.random for each in found.methods[:1] for regret in each.regrets}
    cells = ["at random", "0", "0", "–", "–", "–"]
    cells += [f"{100 * random[k]:.1f}" if k in random else "–" for k in TOP]
    lines += ["| " + " | ".join([*cells, "0"]) + " |", ""]
    lacking = [e for e in found.methods if e.num_networks < len(found.networks)]
    told_of_noise: dict[str, list[str]] = {}
    for each in found.methods:
        if found.several and each.attenuation is not None and each.attenuation.note:
            told_of_noise.setdefault(each.attenuation.note, []).append(each.name)
    for note, names in told_of_noise.items():
        lines += [f"Without seed noise ({', '.join(names)}): {note}.", ""]
    if lacking:
        told = "; ".join(f"{e.name}: {e.num_networks} of {len(found.networks)} networks" for e in lacking)
        lines += [f"Judged on fewer networks: {told}.", ""]
    if found.orderings:
        chosen = list(found.untrained)[-1]
        lines += [f"| published ordering | untrained, {chosen} (points, 95 %) | trained (points, 95 %) |"]
        lines += ["|:--|--:|--:|"]
        for each in found.orderings:
            told = [
                f"{100 * d.difference:+.1f} ({100 * d.low:+.1f} … {100 * d.high:+.1f})"
                for d in (each.untrained, each.trained)
            ]
            lines.append(f"| {each.claim} | {told[0]} | {told[1]} |")
        summed = _agreement(found.orderings, "whose trained interval leaves out 0")
        lines += ["", f"Untrained and trained differences {summed}.", ""]
    return lines


def _agreement(orderings, clear: str) -> str:
    """In how many orderings both differences have one sign, of all and of those that are clear."""
    told = f"point the same way in {sum(each.agrees for each in orderings)} of {len(orderings)}"
    of_clear = [each.agrees for each in orderings if each.clear]
    return f"{told}, and in {sum(of_clear)} of the {len(of_clear)} {clear}" if of_clear else told


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
    rows = rank_table.read_table(*workdirs)
    sets, notes = [], []
    for name in dict.fromkeys(row["set"] for row in rows):
        try:
            sets.append(_judge(name, [row for row in rows if row["set"] == name]))
        except _TooFew as error:
            notes.append(str(error))
    if not sets:
        raise ValueError("; ".join(notes))
    report = RankReport(tuple(sets), tuple(rows), tuple(notes))
    report.write(Path(out) if out is not None else workdirs[0])
    return report


class _TooFew(ValueError):
    """A data set without networks to rank."""


# ── what it says ──


def _judge(name: str, rows) -> SetResult:
    groups: dict[tuple, dict] = {}
    for row in rows:
        if row["kind"] == "proxy" and not np.isfinite(row["value"]):
            continue
        label = row["method"] + (f" ({row['input']})" if row["input"] else "")
        groups.setdefault((row["kind"], label), {}).setdefault(row["network"], {})[row["seed"]] = row
    trees = {kind: {label: tree for (k, label), tree in groups.items() if k == kind} for kind in rank_table.KINDS}
    trained = next(iter(trees["trained"].values()), {})
    seeds, networks = _complete(trained)
    for tree in trees["untrained"].values():
        screened = _complete(tree)[1]
        networks = [network for network in networks if network in screened]
    if len(networks) < FEWEST:
        raise _TooFew(
            f"{name}: {len(networks)} networks are trained and screened, and ranks need {FEWEST}; run again, it goes on"
        )
    measured = _scores(trained, seeds, networks, f"{name}, trained")
    scores, known = {}, {}
    for label, tree in (trees["untrained"] | trees["proxy"]).items():
        own_seeds, finite = _complete(tree)
        own = np.array([i for i, network in enumerate(networks) if network in finite], int)
        if len(own) >= FEWEST:
            scores[label] = _scores(tree, own_seeds, [networks[i] for i in own], f"{name}, {label}")
            known[label] = own
    if trees["untrained"] and all(voter in scores for voter in VOTERS):
        label, vote, own = _vote(list(trees["untrained"])[-1], scores, known)
        if len(own) >= FEWEST:
            scores[label], known[label] = vote, own
    sizes, hearing = (_controls(names, scores, known, len(networks)) for names in (SIZES, (*SIZES, INPUT)))
    found = []
    for label, each in scores.items():
        controls = [None if c is None or label in SIZES else c[known[label]] for c in (sizes, hearing)]
        found.append(_method(label, each, _of(measured, known[label]), measured.means.max(), *controls))
    return SetResult(
        name,
        tuple(networks),
        measured,
        rankings.noise_ceiling(measured.sample) if len(seeds) > 1 else None,
        tuple(found),
        {label: scores[label].means for label in trees["untrained"]},
        tuple(_orderings(networks, scores, list(trees["untrained"]), measured)),
        measured.correct.shape[2],
        tuple(_left_out(trees, networks)),
    )


def _complete(tree) -> tuple[list[int], list[str]]:
    """The seeds of a method that are used, and the networks that have all of them."""
    counts = collections.Counter(seed for of_network in tree.values() for seed in of_network)
    seeds = sorted(seed for seed, count in counts.items() if count >= MOST * len(tree))
    seeds = seeds or [seed for seed, _ in counts.most_common(1)]
    return seeds, [network for network, have in tree.items() if have.keys() >= set(seeds)]


def _left_out(trees, networks):
    """Notes of the seeds and networks that are known and not used."""
    for label, tree in (trees["trained"] | trees["untrained"]).items():
        used, _ = _complete(tree)
        for seed in sorted({seed for of_network in tree.values() for seed in of_network} - set(used)):
            have = sum(seed in of_network for of_network in tree.values())
            yield f"Not used yet: seed {seed} of {label}, which {have} of {len(tree)} networks have."
    everyone = [network for kind in ("trained", "untrained") for tree in trees[kind].values() for network in tree]
    if lacking := [network for network in dict.fromkeys(everyone) if network not in networks]:
        more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
        yield f"Left out, since a training or a screening of theirs lacks: {', '.join(lacking[:NAMED])}{more}."


def _vote(chosen, scores, known) -> tuple[str, Scores, np.ndarray]:
    """(label, ranks, which networks) of the vote of a method and `VOTERS`, on the networks that all of them have."""
    from mirjax import proxies

    voters = (chosen, *VOTERS)
    own = np.array([i for i in known[chosen] if all(i in known[voter] for voter in VOTERS)], int)
    means = {voter: scores[voter].means[np.searchsorted(known[voter], own)] for voter in voters}
    ranks = np.asarray(proxies.vote(means)) if len(own) else np.zeros(0)
    return f"vote: {', '.join(voters)}", Scores(ranks[:, None], None, sum(scores[v].seconds for v in voters)), own


def _controls(names, scores, known, count) -> np.ndarray | None:
    """f64[A, …] of methods that all networks have; None where one is lacking."""
    if any(name not in scores or len(known[name]) < count for name in names):
        return None
    return np.stack([scores[name].means for name in names], axis=-1)


def _scores(tree, seeds, networks, where: str) -> Scores:
    rows = [[tree[n][seed] for seed in seeds] for n in networks]
    seconds = float(np.median([min(row["seconds"] for row in line) for line in rows]))
    if not rows[0][0]["correct"]:
        values = np.array([[row["value"] for row in line] for line in rows])
        return Scores(scipy.stats.rankdata(values, axis=0), None, seconds)
    decisions = [[rank_table.unpack(row["correct"]) for row in line] for line in rows]
    lengths = {len(each): network for network, line in zip(networks, decisions, strict=True) for each in line}
    if len(lengths) > 1:
        told = ", ".join(f"{network} {count}" for count, network in lengths.items())
        raise ValueError(f"{where}: networks were tested on different numbers of clips ({told}); report them apart")
    correct = np.array(decisions)
    epochs = np.array([int(number) for line in rows for row in line for number in row["epochs"].split()])
    return Scores(correct.mean(2), correct, seconds, epochs if rows[0][0]["kind"] == "trained" else None)


def _of(scores: Scores, chosen) -> Scores:
    """Scores of some networks."""
    correct = None if scores.correct is None else scores.correct[chosen]
    return Scores(scores.values[chosen], correct, scores.seconds)


def _method(label, scores, trained, best, sizes, hearing) -> MethodResult:
    """A method on the networks that it knows; `best`: trained, of all networks, which it may not know."""
    means, truth = scores.means, trained.means
    regrets = [rankings.regret(scores.sample, trained.sample, k) for k in TOP if k <= len(means)]
    unknown = float(best - truth.max())
    enough = len(means) >= 5 and np.ptp(means) > 0 and np.ptp(truth) > 0
    intervals = [
        rankings.correlation_interval(scores.sample, trained.sample, kind=kind) if enough else None
        for kind in ("spearman", "kendall")
    ]

    def partial(controls):
        if not enough or controls is None or (label == INPUT and controls is hearing):
            return float("nan")
        if len(means) < controls.shape[1] + 3:  # too few to take so much out
            return float("nan")
        return float(rankings.partial_rank_correlation(means, truth, controls))

    return MethodResult(
        label,
        len(means),
        *intervals,
        partial(sizes),
        partial(hearing),
        rankings.attenuation(scores.sample, trained.sample) if enough and scores.correct is not None else None,
        tuple(rankings.Regret(each.k, each.regret + unknown, each.random + unknown) for each in regrets),
        scores.seconds,
    )


def _orderings(networks, scores, untrained, trained):
    """Every published ordering of two networks that are here."""
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
        before, after = [
            statistics.paired_difference(each.correct[i].astype(int), each.correct[j].astype(int))
            for each in (scores[untrained[-1]], trained)
        ]
        clear = trained.values.shape[1] > 1 and after.low * after.high > 0
        yield Ordering(f"{claim.first} {claim.relation} {claim.second} ({claim.made_for})", before, after, clear)

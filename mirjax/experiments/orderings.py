"""The published orderings of untrained networks, each held against the tables of a report.

Source: Pons and Serra 2019, Randomly weighted CNNs for (music) audio classification; ARCHITECTURES §5.7.
Names: :class:`Claim`, :data:`CLAIMS`, :data:`BEST_CLAIM`, :class:`OrderingResult`, :func:`judge`, :func:`verdict_of`.
"""

import json
from collections import defaultdict
from dataclasses import dataclass

from mirjax import statistics

EQUALITY_MARGIN = 0.05  # networks count as equal when the whole interval of their difference is within ± 5 points


@dataclass(frozen=True)
class Claim:
    """A published ordering: `first` is better than (`>`) or as good as (`=`) `second`.

    `made_for` names the data it was made for, `classifiers` and `widths` (None for any) those it speaks of.
    """

    first: str
    relation: str
    second: str
    made_for: str
    classifiers: tuple[str, ...] | None = None
    widths: tuple[int | None, ...] | None = None


EVERYWHERE = "everywhere"
CLAIMS = (
    Claim("sample", ">", "frame_many", EVERYWHERE),
    Claim("frame_many", ">", "frame", EVERYWHERE),
    Claim("7x86", ">", "7x96", "all but GTZAN ELM"),
    Claim("7x86", "=", "7x96", "GTZAN (ELM)", ("elm",)),
    Claim("vgg", "=", "timbral_temporal", "GTZAN (SVM)", ("svm",)),
    Claim("vgg", "=", "timbral_temporal", "GTZAN (ELM, 120)", ("elm",), (120, None)),
    Claim("timbral_temporal", ">", "vgg", "GTZAN (ELM, 3500)", ("elm",), (3500,)),
    Claim("temporal", ">", "timbral_temporal", "Ballroom"),
    Claim("vgg", ">", "timbral_time", "US8K"),
)
BEST_CLAIM = Claim("best network", ">", "mfcc", EVERYWHERE)
ORDERING_NOTE = (
    "Published orderings (ARCHITECTURES §5.7): first minus second in points, paired bootstrap clustered as above, each "
    "by itself (no correction over claims). An order is decided when the interval excludes 0; equality is reproduced "
    f"when the interval lies within ± {100 * EQUALITY_MARGIN:.0f} points and refuted when it excludes 0. That the best "
    "network beats mfcc is tested with the choice of the best accounted for."
)


@dataclass(frozen=True)
class OrderingResult:
    """What one table says about one claim; the difference is first minus second."""

    claim: Claim
    dataset: str
    classifier: str
    scaling: str
    width: int | None
    input: str
    difference: statistics.Difference
    verdict: str


def judge(table, clips) -> list[OrderingResult]:
    """Hold the published orderings, of untrained networks, against a table, for every input that both have.

    Args:
        table: a `report.Table`.
        clips: its clips, with `groups` and `weights`.

    Returns:
        A result for every claim and input that the table can tell of; none of a table of trained networks.
    """
    if table.is_trained:
        return []
    rows = defaultdict(dict)
    for row in sorted((row for row in table.rows if row.rank), key=lambda row: row.n or 0):
        if not row.is_baseline:
            # Released averaging touches the frame-level networks only: rows that differ in it still meet.
            options = {key: value for key, value in row.options.items() if key != "legacy_collapse"}
            rows[row.input, json.dumps(options, sort_keys=True)][row.architecture] = row  # of several n the largest
    found = []

    def add(claim, kind, first, second, verdict=None):
        difference = statistics.paired_difference(first.correct, second.correct, clips.groups, weights=clips.weights)
        verdict = verdict or verdict_of(claim.relation, difference)
        place = (table.dataset, table.classifier, table.scaling, table.width, kind)
        found.append(OrderingResult(claim, *place, difference, verdict))

    for claim in CLAIMS:
        if claim.classifiers is not None and table.classifier not in claim.classifiers:
            continue
        if claim.widths is not None and table.width not in claim.widths:
            continue
        for (kind, _), named in sorted(rows.items()):
            if claim.first in named and claim.second in named:
                add(claim, kind, named[claim.first], named[claim.second])
    mfcc = next((row for row in table.rows if row.architecture == "mfcc"), None)
    networks = [row for row in table.rows if row.rank and not row.is_baseline]
    if mfcc and networks:
        # The best network was picked among many: its lead needs the test that knows, its lag does not.
        p = mfcc.comparison.p if mfcc.comparison else None
        verdict = None if p is None else "reproduced" if p <= 0.05 else "undecided"
        add(BEST_CLAIM, networks[0].input, networks[0], mfcc, verdict)
    return found


def verdict_of(relation: str, difference: statistics.Difference) -> str:
    """`reproduced`, `refuted` or `undecided`, by the interval of the difference."""
    differs = difference.low > 0 or difference.high < 0
    if relation == "=":
        within = max(abs(difference.low), abs(difference.high)) <= EQUALITY_MARGIN
        return "refuted" if differs else "reproduced" if within else "undecided"
    return "undecided" if not differs else "reproduced" if difference.low > 0 else "refuted"

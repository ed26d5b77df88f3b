"""A screening in parts: which cells are whose, and what other parts have done already.

Parts never communicate. Each computes the division anew, from the configuration and the numbers of clips alone, and
keeps its cells in a run folder of its own, `WORKDIR-shard-2-of-8`. Cells are divided by units: those of one data set,
network and input, which share features; a unit larger than a fair share is cut by seeds; the baselines of a data set
are one unit. The union of all parts is one run: the same records, by their fingerprints.

A run takes over the cells that it finds in the folders beside its own, its parts' or its whole's, instead of computing
them: that is how parts become one run folder, and how a new division goes on with what an earlier one left.

Names: `parse`, `folder`, `Unit`, `units`, `shard_of`, `part`, `holds`, `extraction_seconds`, `related`, `Beside`,
`discard`.
"""

import contextlib
import itertools
import json
import math
import re
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mirjax import results
from mirjax.config import UsageError

_PART = r"-shard-\d+-of-\d+"
_DIGEST = r"-[0-9a-f]{8}"  # of a run of other data or code beside the first


class Unit(NamedTuple):
    """Cells that are computed together; no `architecture` means the baselines."""

    dataset: str
    architecture: str | None
    n: int | None
    input: str
    seeds: tuple[int, ...]
    seconds: float


def holds(units: Sequence[Unit], dataset: str, cell) -> bool:
    """Whether a cell of a data set is in one of the units."""
    network = (None, None, "raw") if cell.network is None else (cell.architecture, cell.network.n, cell.input)
    return any((dataset, *network) == unit[:4] and (cell.network is None or cell.seed in unit.seeds) for unit in units)


def parse(shard: str) -> tuple[int, int]:
    """(part, number of parts) of a text like `2/8`, parts counting from 1.

    Raises:
      UsageError: it is not of that form.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"shard={shard!r} must be like 2/8, the second of eight parts: from 1/8 to 8/8")
    return int(match[1]), int(match[2])


def folder(workdir: Path, shard: str) -> Path:
    """The run folder of a part."""
    part, count = parse(shard)
    return workdir.with_name(f"{workdir.name}-shard-{part}-of-{count}")


def extraction_seconds(gflops: float) -> float:
    """Estimated time of one clip's features with one seed, at 50 GFLOP/s: two cores of a laptop."""
    return 0.004 + gflops / 50


def units(screening, sources, networks, count: int) -> list[Unit]:
    """All units of a screening, in the order of its cells, none much above a `count`-th of the work."""
    from mirjax import features

    tables = len(screening.classifiers) * len(screening.scaling)
    found = []
    for source in sources:
        clips = len(source)
        classify = tables * 1.2e-5 * clips * min(clips, 2500)  # measured on the study's ELM and SVM
        name, seeds = source.facts.name, screening.seeds
        found.append(Unit(name, None, None, "raw", seeds, clips * 0.005 + len(seeds) * classify))
        for network in networks:
            gflops = features.gigaflops(network.module, network.num_samples)
            seconds = len(seeds) * (clips * extraction_seconds(gflops) + classify)
            found += [Unit(name, network.name, network.n, kind, seeds, seconds) for kind in screening.input]
    fair = sum(unit.seconds for unit in found) / count
    return [piece for unit in found for piece in _cut(unit, math.ceil(unit.seconds / fair))]


def _cut(unit: Unit, pieces: int) -> list[Unit]:
    """A unit in pieces of whole seeds; the baselines stay together."""
    number = len(unit.seeds)
    pieces = 1 if unit.architecture is None else min(pieces, number)
    bounds = [number * i // pieces for i in range(pieces + 1)]
    return [
        unit._replace(seeds=unit.seeds[start:stop], seconds=unit.seconds * (stop - start) / number)
        for start, stop in itertools.pairwise(bounds)
    ]


def shard_of(units: Sequence[Unit], count: int) -> list[int]:
    """Divide units: the part of each, from 1; the longest first, each to the part with the least to do."""
    load, parts = [0.0] * count, [0] * len(units)
    for i in sorted(range(len(units)), key=lambda i: -units[i].seconds):
        least = load.index(min(load))
        load[least] += units[i].seconds + 2.0  # seconds to compile
        parts[i] = least + 1
    return parts


def part(screening, sources, networks) -> list[Unit]:
    """The units of a screening's own part."""
    number, count = parse(screening.shard)
    found = units(screening, sources, networks, count)
    return [unit for unit, whose in zip(found, shard_of(found, count), strict=True) if whose == number]


def related(requested: Path, used: Path) -> list[Path]:
    """Run folders of the parts of a whole; for a part, of the others and of the whole.

    Args:
      requested: the run folder as it was named.
      used: the one that is used: that, or the one beside it for other data or code. It is not among them.
    """
    whole = re.sub(f"{_PART}$", "", requested.name)
    part = _PART if whole == requested.name else f"({_PART})?"
    name = re.compile(f"{re.escape(whole)}{part}({_DIGEST})?")
    return [
        path
        for path in sorted(requested.parent.glob("*"))
        if path != used and name.fullmatch(path.name) and (path / "records.jsonl").is_file()
    ]


class Beside:
    """Cells that lie complete in other run folders; what is added to those later is not seen."""

    def __init__(self, folders: Sequence[Path] = ()):
        self._folders = [(path, {record["fingerprint"]: record for record in _records(path)}) for path in folders]

    def holds(self, prints: Sequence[str]) -> bool:
        """Whether the cell of these fingerprints is there."""
        return self._find(prints) is not None

    def take(self, prints: Sequence[str]) -> tuple[list[dict], list[dict] | None]:
        """Its records and predictions.

        Raises:
          ValueError: damaged predictions.
        """
        path, records = self._find(prints)
        rows = [records[fingerprint] for fingerprint in prints]
        name = rows[0]["predictions"]
        return rows, None if name is None else results.read_predictions(path, name)

    def _find(self, prints):
        for path, records in self._folders:
            if records.keys() >= set(prints):
                name = records[prints[0]]["predictions"]
                if name is None or (path / "predictions" / name).is_file():
                    return path, records
        return None


def _records(path: Path) -> list[dict]:
    with warnings.catch_warnings(action="ignore"):  # a torn last line: another process writes, or was killed
        return results.read_records(path)


def discard(requested: Path, used: Path, count: int) -> None:
    """Remove the folders of `count` parts that the whole has taken over; one in use, or with more in it, stays.

    Args:
      requested: the whole's run folder as it was named.
      used: the one that was used.
      count: number of parts.
    """
    done = {record["fingerprint"] for record in results.read_records(used)}
    part = re.compile(rf"{re.escape(requested.name)}-shard-\d+-of-{count}({_DIGEST})?")
    for path in [path for path in requested.parent.glob("*") if part.fullmatch(path.name)]:
        if not (path / "config.json").is_file():
            continue
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        with contextlib.suppress(results.RunFolderBusy), results.RunFolder.open(path, config) as opened:
            if opened.done <= done:
                shutil.rmtree(path)

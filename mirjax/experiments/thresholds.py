"""What stored scores of tags are worth by other measures: decisions by thresholds, and areas with tags left out.

A training with `labels=many` keeps the scores of its test clips (`predictions/`) and of the validation clips that chose
the weights (`validation/`, by the weights before any retraining). From these alone, and without a network:

* `score_thresholds`: precision, recall and F1, micro and macro, by the two rules of the instrument study (IRMAS):
  s1 holds the mean of a clip's outputs against a threshold, s2 their sum over the clip's highest sum. Once with the
  threshold that the paper reports (s1: .2; none is reported for s2), once with the one of the grid that has the highest
  micro F1 on the validation clips.
* `score_areas`: ROC-AUC and PR-AUC without some tags; the released code of the auto-tagging study leaves one out
  (ARCHITECTURES §11, row 16).

Both return records (`mirjax.results.RECORD_FIELDS`), of which `hyperparameters` tells rule and threshold, or what was
left out, and `selection` how the threshold was chosen: `published` or `validation`.
Source: Han, Kim & Lee 2017, section III; Pons et al., EUSIPCO 2017; ARCHITECTURES §4.2.
Names: `RULES`, `score_thresholds`, `score_areas`, `to_text`, `keep_validation`.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mirjax import decisions, metrics, results

FOLDER = "validation"


class Rule(NamedTuple):
    """Whether a clip's scores are divided by its highest, the thresholds to choose from, and the published one."""

    normalised: bool
    grid: tuple[float, ...]
    published: float | None


RULES = {
    "s1": Rule(False, decisions.IRMAS_MEAN_GRID, 0.2),
    "s2": Rule(True, decisions.IRMAS_SUM_GRID, None),
}


def keep_validation(workdir, name: str, rows: Iterable[dict]) -> None:
    """Write what a cell says of its validation clips: rows as of `predictions/`, under the same name."""
    path = Path(workdir) / FOLDER / name
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(f".{name}.tmp")
    part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    os.replace(part, path)


def score_thresholds(workdir, rules: Sequence[str] = ("s1", "s2")) -> list[dict]:
    """Precision, recall and F1 of every network, seed and fold of a run, by threshold rules.

    Args:
      workdir: the folder of a run with `labels=many` whose outputs are probabilities and are averaged over windows.
      rules: names in `RULES`.

    Returns:
      Records, in the order of the run: metrics `micro_precision`, `micro_recall`, `micro_f1` and the same of `macro`,
      which counts tags that no clip has and none is given as 0.

    Raises:
      ValueError: an unknown rule; no such run; files that are missing; scores of votes.
    """
    if unknown := [name for name in rules if name not in RULES]:
        raise ValueError(f"rules={unknown[0]!r} is not one of {', '.join(RULES)}")
    found = []
    for record, test in _cells(workdir):
        if record["options"].get("aggregate") == "vote":
            raise ValueError(f"{workdir} holds shares of votes, not outputs; train with aggregate=mean for these rules")
        valid = _validation(workdir, record)
        for name in rules:
            rule = RULES[name]
            targets, scores = test.targets, _by(rule, test.scores)
            chosen = {} if rule.published is None else {"published": rule.published}
            if valid is not None:
                chosen["validation"] = decisions.choose_threshold(valid.targets, _by(rule, valid.scores), rule.grid)
            for how, threshold in chosen.items():
                decided = decisions.threshold(scores, threshold)
                for average in ("micro", "macro"):
                    values = metrics.precision_recall_f1(targets, decided, average=average)._asdict()
                    for measure, value in values.items():
                        settings = {"rule": name, "threshold": threshold}
                        found.append(_record(record, f"{average}_{measure}", value, settings, how))
    return found


def score_areas(workdir, without: Sequence[str] = ()) -> list[dict]:
    """ROC-AUC and PR-AUC of every network, seed and fold of a run, without some tags.

    Args:
      workdir: the folder of a run with `labels=many`.
      without: names of the tags that are left out. Which was last in the released code's order of 50 is not known.

    Returns:
      Records, in the order of the run; tags without a positive clip stay out as in the run itself.

    Raises:
      ValueError: a tag that the run does not have; no such run; files that are missing.
    """
    found = []
    for record, test in _cells(workdir):
        if unknown := [tag for tag in without if tag not in test.tags]:
            raise ValueError(f"without={unknown[0]!r} is no tag of {record['dataset']}; known: {', '.join(test.tags)}")
        kept = [i for i, tag in enumerate(test.tags) if tag not in without]
        areas = metrics.score_tags(test.targets[:, kept], test.scores[:, kept], [test.tags[i] for i in kept])
        for metric, area in areas.items():
            found.append(_record(record, metric, area.mean, {"without": list(without)}, record["selection"]))
    return found


def to_text(records: Sequence[dict]) -> str:
    """A table for a terminal: a line for each network, rule and choice; values are means over seeds and folds, in %."""
    groups: dict[tuple, dict[str, list[float]]] = {}
    for record in records:
        settings = record["hyperparameters"]
        key = (record["dataset"], record["architecture"], settings.get("rule", "areas"), record["selection"])
        groups.setdefault(key, {}).setdefault(record["metric"], []).append(record["value"])
        if "threshold" in settings:
            groups[key].setdefault("threshold", []).append(settings["threshold"])
    lines = []
    for key, values in groups.items():
        thresholds = sorted(set(values.pop("threshold", ())))
        at = f" at {', '.join(f'{t:g}' for t in thresholds)}" if thresholds else ""
        shown = "  ".join(f"{metric} {100 * np.mean(each):.1f}" for metric, each in values.items())
        lines.append(f"{', '.join(key[:3])} ({key[3]}{at}): {shown}")
    return "\n".join(lines)


class _Tagged(NamedTuple):
    """Clips of one fold: targets bool[M, K], scores f64[M, K] and the K tags."""

    targets: np.ndarray
    scores: np.ndarray
    tags: tuple[str, ...]


def _cells(workdir) -> Iterator[tuple[dict, _Tagged]]:
    """The first record of every trained network, seed and fold, and its test clips."""
    seen, files = set(), {}
    for record in results.read_records(workdir):
        name, fold = record["predictions"], record["fold"]
        if record["classifier"] != "trained" or record["options"].get("labels") != "many" or (name, fold) in seen:
            continue
        seen.add((name, fold))
        if name not in files:
            files = {name: results.read_predictions(workdir, name)}
        yield record, _tagged(files[name], fold)
    if not seen:
        raise ValueError(f"{workdir} holds no network trained with labels=many; give the folder of such a run")


def _validation(workdir, record) -> _Tagged | None:
    """The validation clips of a record; None for a training without any."""
    if record["options"].get("monitor") not in record["hyperparameters"]:
        return None
    path = Path(workdir) / FOLDER / record["predictions"]
    if not path.is_file():
        raise ValueError(f"{path} is missing, by which thresholds are chosen; run again into an empty workdir")
    return _tagged([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()], record["fold"])


def _tagged(rows, fold) -> _Tagged:
    rows = [row for row in rows if row["fold"] == fold]
    tags = tuple(rows[0]["scores"])
    named = [{part.strip() for part in row["label"].split("|")} for row in rows]
    targets = np.array([[tag in each for tag in tags] for each in named])
    return _Tagged(targets, np.array([[row["scores"][tag] for tag in tags] for row in rows]), tags)


def _by(rule: Rule, scores: np.ndarray) -> np.ndarray:
    """Scores as a rule compares them. A clip's sum is its mean times its windows, so the means will do."""
    return decisions.max_normalised_sum(scores, np.arange(len(scores))) if rule.normalised else scores


def _record(record, metric, value, settings, selection) -> dict:
    """A record of another measure of the same scores."""
    own = {"metric": metric, "value": float(value), "hyperparameters": settings, "selection": selection}
    return record | own | {"fingerprint": results.fingerprint(scores=record["fingerprint"], **own)}

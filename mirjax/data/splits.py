"""Partitions: which clips train, choose and test.

Cross-validation has K folds, each the test set once; a split has one. The data's own assignment comes first
(folds, then split); folds made here are stratified by class, shuffled with a seed, and keep groups together.
Made folds do not depend on the order of the clips. Clips are numbered as in `mirjax.data.audio.Clips`.

A random split of clips that belong together (one speaker's, one artist's) tests on what was trained on, and
flatters every model. So where data look grouped, a random split is refused unless it is asked for by name
(`group="none"`).

Names: `Fold`, `Partition`, `partition`, `inner_folds`, `validation`.
"""

import hashlib
import math
import warnings
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from .audio import Clips
from .catalogue import unknown_name

NUM_FOLDS = 5
GROUP_COLUMNS = frozenset({"group", "speaker", "artist", "singer", "performer", "subject", "source"})


@dataclass(frozen=True, eq=False)
class Fold:
    """One division of the clips into training, validation and test.

    Args:
        name: the fold's name in records.
        train, test: int64, clip numbers, ascending.
        valid: int64, clip numbers, ascending, or None (cross-validation).
    """

    name: str
    train: np.ndarray
    valid: np.ndarray | None
    test: np.ndarray


@dataclass(frozen=True, eq=False)
class Partition:
    """How a data set is divided.

    Args:
        kind: "cv" or "split".
        folds: K folds; a split has one.
        hash: 16 hex digits of the sha256 over clip ids and assignments, whatever the order of the clips.
        note: how it was made, one sentence.
        ids: str[M], the clips it is about.
        groups: str[M], what is independent of what: the group column, else the ids.
    """

    kind: str
    folds: tuple[Fold, ...]
    hash: str
    note: str
    ids: np.ndarray
    groups: np.ndarray


def partition(clips: Clips, *, protocol: str = "auto", group: str | None = None, seed: int = 0) -> Partition:
    """Divide clips into folds, or into training, validation and test.

    Args:
        clips: from `load_clips` (its ids, labels, splits, folds, metadata are used, its audio is not).
        protocol: "auto" (the data's folds when it has them, else its split, else 5 made folds), "cv" (the
            data's folds, else 5 made ones), "split" (the data's split). A split without "valid" has a fifth
            of its training clips, stratified and group-safe, carved off.
        group: metadata column whose values must not straddle a fold; "none" ignores groups; default: what
            `open_source` was told, else what the catalogue says.
        seed: of the shuffle, where folds are made.

    Returns:
        A `Partition`.

    Raises:
        ValueError: unknown protocol or column; no split where one is asked for, or one without train or test;
            fewer than two folds; a class in a test fold that its training clips do not have; a class with
            fewer clips, or fewer groups, than folds; a given group that straddles the data's own folds or
            split; a random split of data that look grouped.
    """
    if protocol not in ("auto", "cv", "split"):
        raise unknown_name("protocol", protocol, ("auto", "cv", "split"))
    name, asked = clips.name, clips.group if group is None else group
    column = clips.facts.group if asked is None else None if asked == "none" else asked
    if column is not None and column not in clips.metadata:
        raise unknown_name(f"group column of {name}", column, clips.metadata, "or group=none for no groups")
    groups = None if column is None else clips.metadata[column]
    if protocol == "split" and clips.splits is None:
        raise ValueError(f"protocol='split', but {name} has no split; add a column `split` or use protocol=cv")
    if protocol != "split" and clips.folds is not None:
        kind, note = "cv", f"the data's own {len(set(clips.folds))} folds"
        folds = _own_folds(clips)
    elif protocol != "cv" and clips.splits is not None:
        kind, note = "split", "the data's own split"
        fold = _own_split(clips)
        if not len(fold.valid):
            _refuse_random(clips, asked, "carving validation clips at random")
            train, valid = _carve(clips, fold.train, groups, seed)
            fold = Fold(fold.name, train, valid, fold.test)
            note += f", a fifth of train made validation (stratified{_kept(column)}, seed {seed})"
        folds = (fold,)
    else:
        _refuse_random(clips, asked, "making random folds")
        kind, note = "cv", f"{NUM_FOLDS} made folds, stratified, shuffled{_kept(column)}, seed {seed}"
        folds = _made_folds(clips, groups, column, seed)
    if straddling := [] if groups is None else _straddling(folds, groups):
        sides = f"{len(straddling)} of {len(set(groups))} groups are on both sides"
        if asked is not None:  # the catalogue's own group may: a published split is the protocol, leak or not
            raise ValueError(
                f"{name}: group={column!r} straddles {note}: {sides}, first {straddling[0]!r}; "
                "choose another column or protocol, or group=none"
            )
        note += f"; of {column!r} {sides} of it"
    if column is None and asked is None:  # a division made here would have been refused
        for looks in _grouped_columns(clips):
            values = clips.metadata[looks]
            if straddling := _straddling(folds, values):
                sides = f"{len(straddling)} of {len(set(values))} values of {looks!r} are on both sides of it"
                note += f"; no group was given, yet {sides}"
    for fold in folds:
        _check_classes(name, fold, clips.labels)
    return Partition(kind, folds, _hash(clips.ids, folds), note, clips.ids, clips.ids if groups is None else groups)


def inner_folds(
    fold: Fold, partition: Partition, labels: np.ndarray, *, max_folds: int = 5, seed: int = 0
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Folds inside the training clips of one fold, for choosing hyper-parameters without its test clips.

    The other outer folds, merged round robin into at most `max_folds`, each are the validation clips once: as
    group-safe as the outer ones. Where fewer than two others are, at most `max_folds` stratified, group-safe
    folds are made.

    Args:
        fold: the outer fold.
        partition: the partition it is of.
        labels: str[M], of all clips.
        max_folds: at most so many inner folds, 2 or more.
        seed: of the shuffle, where folds are made.

    Returns:
        Pairs (train int64, valid int64) of clip numbers, ascending.

    Raises:
        ValueError: max_folds below 2, or training clips that cannot be divided in two.
    """
    if max_folds < 2:
        raise ValueError(f"max_folds={max_folds}; give 2 or more")
    others = [other for other in partition.folds if other is not fold and other.name != fold.name]
    if len(others) >= 2:
        count = min(max_folds, len(others))
        valid = [np.concatenate([other.test for other in others[k::count]]) for k in range(count)]
        valid = [np.intersect1d(part, fold.train) for part in valid]
    else:
        unique = len(set(partition.groups)) == len(partition.groups)
        valid = _stratify(partition.ids, labels, None if unique else partition.groups, fold.train, max_folds, seed)
        if len(valid) < 2:
            raise ValueError(
                f"fold {fold.name!r}: {len(fold.train)} training clips are too few for selection=nested "
                "(or their groups are); use selection=legacy, or selection=validation with a split"
            )
    return tuple((np.setdiff1d(fold.train, part), part) for part in valid if len(part))


def validation(
    fold: Fold, partition: Partition, labels: np.ndarray, *, share: float = 0.2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Training clips of a fold in two: those to train on, and those that choose among what was learnt.

    The next outer folds choose, as many as come nearest to the share; where one is already more than half as much
    again, or a class would be lost, clips are drawn, stratified and group-safe, as near to the share as small classes
    and groups allow.

    Args:
        fold: the outer fold.
        partition: the partition it is of.
        labels: str[M], of all clips.
        share: of the training clips that choose, above 0 and below 1.
        seed: of the draw.

    Returns:
        (train int64, valid int64), clip numbers, ascending.

    Raises:
        ValueError: a share out of its range, or training clips that cannot be divided.
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share} must lie above 0 and below 1")
    names = [other.name for other in partition.folds]
    if fold.name in names and len(names) > 2:
        place = names.index(fold.name)
        others = [partition.folds[(place + i) % len(names)].test for i in range(1, len(names))]
        wanted = share * len(fold.train)
        count = max(1, round(wanted / max(1, np.mean([len(other) for other in others]))))
        valid = np.intersect1d(np.concatenate(others[:count]), fold.train)
        rest = np.setdiff1d(fold.train, valid)
        if 0 < len(valid) <= 1.5 * wanted and set(labels[rest]) == set(labels[fold.train]):
            return rest, valid
    unique = len(set(partition.groups)) == len(partition.groups)
    groups = None if unique else partition.groups
    near = Fraction(share).limit_denominator(max(20, math.ceil(1 / min(share, 1 - share))))
    made = _stratify(partition.ids, labels, groups, fold.train, near.denominator, seed)
    count = max(1, min(len(made) - 1, round(near * len(made))))  # of few clips or groups fewer parts are made
    for first in range(len(made)):
        # A small class lies in parts beside each other, so the parts that are taken lie apart.
        valid = np.sort(np.concatenate([made[(first + i * len(made) // count) % len(made)] for i in range(count)]))
        rest = np.setdiff1d(fold.train, valid)
        if len(valid) and set(labels[rest]) == set(labels[fold.train]):
            return rest, valid
    raise ValueError(
        f"fold {fold.name!r}: no validation clips can be taken from its {len(fold.train)} training clips without "
        "losing a class; add clips, mark some `valid` in a split column, or use validation=0"
    )


def _own_folds(clips: Clips) -> tuple[Fold, ...]:
    names = sorted(set(clips.folds.tolist()))
    if len(names) < 2:
        raise ValueError(f"{clips.name} has one fold only ({names[0]!r}); give two or more, or leave the column out")
    try:
        names.sort(key=float)
    except ValueError:
        pass  # names that are no numbers stay in alphabetical order
    return tuple(
        Fold(name, np.flatnonzero(clips.folds != name), None, np.flatnonzero(clips.folds == name)) for name in names
    )


def _own_split(clips: Clips) -> Fold:
    parts = {part: np.flatnonzero(clips.splits == part) for part in ("train", "valid", "test")}
    if lacking := [part for part in ("train", "test") if not len(parts[part])]:
        raise ValueError(
            f"{clips.name}: its split has no {' and no '.join(lacking)} clips "
            f"({dict(Counter(clips.splits.tolist()))}); fill them in or use protocol=cv"
        )
    return Fold("split", parts["train"], parts["valid"], parts["test"])


def _carve(clips: Clips, train: np.ndarray, groups: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    for valid in _stratify(clips.ids, clips.labels, groups, train, NUM_FOLDS, seed):
        rest = np.setdiff1d(train, valid)
        if len(valid) and set(clips.labels[rest]) == set(clips.labels[train]):
            return rest, valid
    raise ValueError(
        f"{clips.name}: no validation clips can be carved off its {len(train)} training clips without losing "
        "a class; mark some clips `valid` in the split column"
    )


def _made_folds(clips: Clips, groups: np.ndarray | None, column: str | None, seed: int) -> tuple[Fold, ...]:
    label, count = Counter(clips.labels.tolist()).most_common()[-1]
    if count < NUM_FOLDS:
        raise ValueError(
            f"{clips.name}: class {label!r} has {count} clips, fewer than the {NUM_FOLDS} folds to be made; "
            "add clips, leave the class out, or give a column `fold` of your own"
        )
    if groups is not None and len(set(groups)) < NUM_FOLDS:
        raise ValueError(
            f"{clips.name}: group={column!r} has {len(set(groups))} values, fewer than the {NUM_FOLDS} "
            "folds to be made; give a column `fold` of your own, or group=none for a random split"
        )
    everything = np.arange(len(clips.ids))
    parts = _stratify(clips.ids, clips.labels, groups, everything, NUM_FOLDS, seed)
    if empty := [k for k, test in enumerate(parts) if not len(test)]:
        raise ValueError(
            f"{clips.name}: the groups of {column!r} are too uneven for {NUM_FOLDS} folds ({len(empty)} stay "
            "empty); give a column `fold` of your own"
        )
    return tuple(Fold(str(k), np.setdiff1d(everything, test), None, test) for k, test in enumerate(parts))


def _stratify(ids, labels, groups, among, num_folds, seed) -> list[np.ndarray]:
    """Test parts of stratified, shuffled, group-safe folds of the clips `among`; fewer where clips are
    few."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    among = among[np.argsort(ids[among], kind="stable")]  # so that folds do not depend on the order of the clips
    num_folds = min(num_folds, max(Counter(labels[among].tolist()).values()))
    if groups is not None:
        num_folds = min(num_folds, len(set(groups[among])))
    if num_folds < 2:
        return []
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = kind(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # the callers check what matters
        parts = folds.split(among, labels[among], None if groups is None else groups[among])
        return [np.sort(among[test]) for _, test in parts]


def _refuse_random(clips: Clips, asked: str | None, what: str) -> None:
    if asked is not None or clips.facts.group is not None:
        return
    for column in _grouped_columns(clips):
        raise ValueError(
            f"{clips.name}: {what} would put clips of one {column!r} on both sides; say "
            f"group={column} to keep them together, or group=none to ask for a random split by name"
        )


def _grouped_columns(clips: Clips) -> list[str]:
    """Metadata columns whose names and values say that clips belong together."""
    return [
        column
        for column, values in clips.metadata.items()
        if column.lower() in GROUP_COLUMNS and 1 < len(set(values)) < len(values)
    ]


def _straddling(folds: tuple[Fold, ...], groups: np.ndarray) -> list[str]:
    """Groups that have test clips and other clips in one fold."""
    straddling = set()
    for fold in folds:
        rest = fold.train if fold.valid is None else np.concatenate([fold.train, fold.valid])
        straddling |= set(groups[fold.test].tolist()) & set(groups[rest].tolist())
        if fold.valid is not None:
            straddling |= set(groups[fold.valid].tolist()) & set(groups[fold.train].tolist())
    return sorted(straddling)


def _check_classes(name: str, fold: Fold, labels: np.ndarray) -> None:
    trained = set(labels[fold.train].tolist())
    for part, clips in (("test", fold.test), ("validation", fold.valid)):
        if unseen := sorted(set(() if clips is None else labels[clips].tolist()) - trained):
            raise ValueError(
                f"{name}: {len(unseen)} classes of the {part} clips of fold {fold.name!r} have no training "
                f"clips ({', '.join(unseen[:5])}); move clips between folds, or leave the classes out"
            )


def _hash(ids: np.ndarray, folds: tuple[Fold, ...]) -> str:
    order = np.argsort(ids, kind="stable")
    digest = hashlib.sha256("\n".join(ids[order].tolist()).encode())
    for fold in folds:
        digest.update(f"\n{fold.name}\n".encode())
        parts = np.full(len(ids), "-")
        parts[fold.train], parts[fold.test] = "r", "e"
        if fold.valid is not None:
            parts[fold.valid] = "v"
        digest.update("".join(parts[order]).encode())
    return digest.hexdigest()[:16]


def _kept(column: str | None) -> str:
    return f", values of {column!r} kept together" if column else ""

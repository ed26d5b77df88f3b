"""Sources: random access to the clips of a data set, wherever they lie.

A source is one of
- an embedded set (`mirjax.data.catalogue.EMBEDDED`),
- a set prepared by `mirjax.data.builders.prepare` (read through TFDS, without TensorFlow),
- a folder `class/clip`: the first path component is the class, files may be nested deeper,
- a CSV manifest `path,label[,split][,fold][,…]` in UTF-8, paths relative to it; further columns are metadata.
  A folder that holds a `manifest.csv` is that manifest. Upper and lower case of these four column names and of
  split names are one.

Opening reads names and columns, never audio; whatever is wrong with those is an error at once. Whatever is
wrong with a file shows when it is decoded (`mirjax.data.audio`), and a missing file counts among those.

Names: `Source`, `Example`, `open_source`, `default_data_dir`.
"""

import csv
import errno
import logging
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from .catalogue import EMBEDDED, PREPARED, Facts, describe, names, unknown_name

logger = logging.getLogger(__name__)

AUDIO_EXTENSIONS = frozenset(
    ".aac .aif .aifc .aiff .au .caf .flac .m4a .mp3 .mp4 .oga .ogg .opus .snd .w64 .wav .wave .wma".split()
)
SPLIT_NAMES = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "test": "test"}
MANIFEST = "manifest.csv"


@dataclass(frozen=True)
class Example:
    """One clip of a source.

    Args:
        id: the clip's identifier, unique in its source.
        label: class name.
        encoded: the audio file's bytes as stored.
    """

    id: str
    label: str
    encoded: bytes = field(repr=False)


@dataclass(frozen=True)
class Source:
    """Random access to the M clips of a data set; `source[i]` is an `Example`.

    Args:
        facts: what is true of the data set; `facts.name` is its name in records.
        ids: M clip identifiers: relative posix path (folder), the path as written (manifest), stored id
            (TFDS).
        labels: M class names.
        splits: M names "train" | "valid" | "test", or None.
        folds: M fold names, or None.
        metadata: all further columns, M strings each.
        group: as asked: the metadata column whose values belong together, "none" (ignore groups), or None
            (the catalogue's column, if it has one).
        notes: what was ignored at opening, as sentences.
        read: clip number → bytes of its file; OSError where it cannot be read.
    """

    facts: Facts
    ids: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...] | None
    folds: tuple[str, ...] | None
    metadata: dict[str, tuple[str, ...]]
    group: str | None
    notes: tuple[str, ...]
    read: Callable[[int], bytes] = field(repr=False)

    @property
    def groups(self) -> tuple[str, ...] | None:
        """The group of each clip, or None."""
        column = self.facts.group if self.group is None else self.group
        return None if column in (None, "none") else self.metadata[column]

    def encoded(self, i: int) -> bytes:
        """Bytes of clip i's file as stored; OSError where it cannot be read."""
        return self.read(i)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> Example:
        return Example(self.ids[i], self.labels[i], self.encoded(i))


def default_data_dir() -> Path:
    """Where prepared sets lie unless told otherwise: `mirjax/tfds` in the user's cache folder."""
    return Path.home() / ".cache" / "mirjax" / "tfds"


def open_source(
    name_or_path: str | os.PathLike, *, data_dir: str | os.PathLike | None = None, group: str | None = None
) -> Source:
    """Open a data set by name, folder or manifest.

    Args:
        name_or_path: an embedded name, a prepared name, a folder `class/clip`, a folder with a manifest.csv,
            or a manifest file, tried in this order.
        data_dir: where prepared sets lie; default `default_data_dir()`.
        group: the metadata column whose values belong together (a speaker's clips); "none" asks for groups to
            be ignored; default: what the catalogue says, else no groups.

    Returns:
        A `Source`; no audio has been read yet.

    Raises:
        ValueError: unknown name or column; no audio files; fewer than two classes; empty label; duplicate id;
            unknown split name; a path that is absolute or leaves the manifest's folder; missing column; a
            file name or a manifest that is not UTF-8; no rows. All offenders are counted and the first few
            named.
    """
    name = os.fspath(name_or_path)
    if name in EMBEDDED:
        return _open_manifest(Path(__file__).parent / "embedded" / name / MANIFEST, EMBEDDED[name], group)
    if name in PREPARED:
        return _open_prepared(name, Path(data_dir) if data_dir is not None else default_data_dir(), group)
    path = Path(name)
    if name and path.is_dir():
        facts = Facts(path.resolve().name)
        if (path / MANIFEST).is_file():
            return _open_manifest(path / MANIFEST, facts, group)
        return _open_folder(path, facts, group)
    if path.is_file():
        if path.suffix.lower() != ".csv":
            raise ValueError(f"data={name!r} is a file but no manifest; give a folder or a .csv file (path,label,…)")
        return _open_manifest(path, Facts(path.resolve().parent.name if path.name == MANIFEST else path.stem), group)
    raise unknown_name("data set", name, names(), "nor is there a folder or a manifest (.csv) of that name")


def _source(facts, group, where, *, ids, labels, splits, folds, metadata, read, notes=()) -> Source:
    """The checks that all kinds of source share."""
    where = _printable(where)
    if foreign := [repr(name) for name in (facts.name, *ids) if name != _printable(name)]:
        raise ValueError(f"{where}: names that are not UTF-8, {_first(foreign)}; rename the files (convmv does)")
    if empty := [ids[i] for i, label in enumerate(labels) if not label]:
        raise ValueError(
            f"{where}: empty label of {_first(empty)}; give every clip a class (or, with labels=many, `-` where it has "
            "none of the tags)"
        )
    normal = [posixpath.normpath(i) for i in ids]
    if twice := [i for i, count in Counter(normal).items() if count > 1]:
        raise ValueError(f"{where}: duplicate ids, {_first(twice)}; list every clip once")
    if splits is not None:
        if unknown := [f"{s!r} of {i}" for i, s in zip(ids, splits, strict=True) if s.lower() not in SPLIT_NAMES]:
            raise ValueError(f"{where}: unknown split name, {_first(unknown)}; known: {', '.join(SPLIT_NAMES)}")
        splits = tuple(SPLIT_NAMES[s.lower()] for s in splits)
    if folds is not None and (empty := [i for i, f in zip(ids, folds, strict=True) if not f]):
        raise ValueError(f"{where}: empty fold of {_first(empty)}; fill the column or leave it out")
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise ValueError(
            f"{where}: at least 2 different labels are needed, found {len(classes)} ({', '.join(classes)}); give clips "
            "of another class, or other tags"
        )
    column = facts.group if group is None else group
    if column not in (None, "none"):
        if column not in metadata:
            raise unknown_name(f"group column of {where}", column, metadata, "or group=none for no groups")
        if empty := [i for i, g in zip(ids, metadata[column], strict=True) if not g]:
            raise ValueError(f"{where}: no value in group column {column!r} for {_first(empty)}; fill it")
    for note in notes:
        logger.warning("%s: %s", where, note)
    return Source(facts, tuple(ids), tuple(labels), splits, folds, metadata, group, tuple(notes), read)


def _open_folder(root: Path, facts: Facts, group: str | None) -> Source:
    ids, ignored, unreadable, visited = [], Counter(), [], set()
    for folder, folders, files in os.walk(root, onerror=unreadable.append, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link back to a parent would never end
            ignored["folders linked twice"] += 1
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in files:
            path = Path(folder, file).relative_to(root)
            if file.startswith("."):
                ignored["hidden"] += 1
            elif path.suffix.lower() not in AUDIO_EXTENSIONS:
                ignored[f"not audio ({path.suffix or 'no extension'})"] += 1
            elif len(path.parts) == 1:
                ignored["audio outside any class folder"] += 1
            else:
                ids.append(path.as_posix())
    if unreadable:
        raise ValueError(f"{root}: unreadable folder, {_first([str(e.filename) for e in unreadable])}; allow reading")
    note = _printable("files ignored: " + ", ".join(f"{count} {why}" for why, count in sorted(ignored.items())))
    if not ids:
        raise ValueError(
            f"{root}: no audio files in class folders ({note if ignored else 'the folder is empty'}); "
            f"lay them out as class/clip.wav or add a {MANIFEST} (path,label)"
        )
    ids.sort()
    return _source(
        facts,
        group,
        f"folder {root}",
        ids=ids,
        labels=[PurePosixPath(i).parts[0].strip() for i in ids],
        splits=None,
        folds=None,
        metadata={},
        read=partial(_read_file, root, tuple(ids)),
        notes=(note,) if ignored else (),
    )


def _open_manifest(manifest: Path, facts: Facts, group: str | None) -> Source:
    columns = read_manifest(manifest)
    ids = columns.pop("path")
    return _source(
        facts,
        group,
        f"manifest {manifest}",
        ids=ids,
        labels=columns.pop("label"),
        splits=_filled(columns.pop("split", None)),
        folds=_filled(columns.pop("fold", None)),
        metadata=columns,
        read=partial(_read_file, manifest.parent, ids),
    )


def read_manifest(manifest: Path) -> dict[str, tuple[str, ...]]:
    """Read the columns of a manifest and check its form and its paths.

    Args:
        manifest: a CSV file in UTF-8 with at least the columns path and label.

    Returns:
        Column name → its M values, stripped of surrounding blanks; path, label, split and fold in lower case.

    Raises:
        ValueError: no UTF-8, NUL characters, no rows, missing or doubled columns, rows of another length, or
            paths that are empty, absolute, or leave the manifest's folder.
    """
    try:
        with open(manifest, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            numbered = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        raise ValueError(f"manifest {manifest} is not UTF-8 ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"manifest {manifest} is not CSV ({error}); save it as comma-separated text") from error
    if nul := [f"line {number}" for number, row in numbered if "\0" in "".join(row)]:
        raise ValueError(f"manifest {manifest}: NUL characters in {_first(nul)}; remove them")
    rows = [row for _, row in numbered]
    header = [name.strip() for name in rows[0]] if rows else []
    header = [name.lower() if name.lower() in ("path", "label", "split", "fold") else name for name in header]
    if missing := [name for name in ("path", "label") if name not in header]:
        raise ValueError(
            f"manifest {manifest}: no column {' and no column '.join(missing)} "
            f"(first line: {','.join(header) or 'empty'}); the first line reads path,label[,split][,fold][,…]"
        )
    if doubled := [name for name, count in Counter(header).items() if count > 1]:
        raise ValueError(f"manifest {manifest}: doubled columns, {_first(doubled)}; name each column once")
    if len(rows) == 1:
        raise ValueError(f"manifest {manifest} is empty: it has no rows after its first line; list one clip a row")
    if odd := [",".join(row) for row in rows[1:] if len(row) != len(header)]:
        raise ValueError(
            f"manifest {manifest}: rows that have not {len(header)} fields, {_first(odd)}; "
            'put fields that hold commas in "quotes"'
        )
    columns = {name: tuple(row[c].strip() for row in rows[1:]) for c, name in enumerate(header)}
    if outside := [repr(path) for path in columns["path"] if _leaves_folder(path)]:
        raise ValueError(
            f"manifest {manifest}: paths that are empty, absolute or outside its folder, {_first(outside)}; "
            "write them relative to the manifest"
        )
    return columns


def _open_prepared(name: str, data_dir: Path, group: str | None) -> Source:
    where = data_dir / f"mirjax_{name}"
    versions = sorted(
        (v for v in where.glob("*.*.*") if (v / "dataset_info.json").is_file()),
        key=lambda v: [int(number) for number in re.findall(r"\d+", v.name)],
    )
    if not versions:
        raise ValueError(
            f"data={name!r} is not prepared under data_dir={data_dir}; "
            f"run launch.py prepare {name} source=FOLDER data_dir={data_dir}"
        )
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(versions[-1])
    sources = {split: builder.as_data_source(split) for split in sorted(builder.info.splits)}
    # Sorted by id: TFDS stores examples in an order of its own.
    rows = sorted(
        ({k: v for k, v in example.items() if k != "audio"} | {"at": (split, k)} for split in sources
         for k, example in enumerate(sources[split])),
        key=lambda row: row["id"],
    )  # fmt: skip
    classes = builder.info.features["label"].names
    columns = {
        key: tuple(v.decode() if isinstance(v, bytes) else str(v) for v in (row[key] for row in rows))
        for key in rows[0]
        if key not in ("at", "label")
    }
    places = tuple(row["at"] for row in rows)
    return _source(
        describe(name),
        group,
        f"prepared set {name}",
        ids=columns.pop("id"),
        labels=[classes[row["label"]] for row in rows],
        splits=_filled(columns.pop("split")),
        folds=_filled(columns.pop("fold")),
        metadata=columns,
        read=partial(_read_example, sources, places),
    )


def _read_file(root: Path, ids: tuple[str, ...], i: int) -> bytes:
    path = root / ids[i]
    if not path.is_file():  # a pipe or a device would be read for ever
        raise FileNotFoundError(errno.ENOENT, "missing or not a file", os.fspath(path))
    return path.read_bytes()


def _read_example(sources, places, i: int) -> bytes:
    split, k = places[i]
    return bytes(sources[split][k]["audio"])


def _filled(column: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """A column that is empty throughout is no column."""
    return column if column is not None and any(column) else None


def _printable(text: str) -> str:
    """Text without the surrogates that stand for bytes of a file name that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _leaves_folder(path: str) -> bool:
    rooted = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
    normal = posixpath.normpath(path.replace("\\", "/"))
    return bool(not path or rooted or normal == "." or normal == ".." or normal.startswith("../"))


def _first(offenders: Sequence[str], n: int = 5) -> str:
    """ "7: a, b, c, d, e, …": all offenders counted, the first n named."""
    return f"{len(offenders)}: {', '.join(map(str, offenders[:n]))}{', …' if len(offenders) > n else ''}"

"""Records of an experiment and the folder that keeps them, through interruptions and extensions.

Convention
---------- A *record* is a dict of :data:`RECORD_FIELDS`: one value of one metric on one fold, a line of
`WORKDIR/records.jsonl`. A *cell* is one (dataset, architecture, width, n, input, options, seed, classifier,
scaling); its records, all folds × metrics, are appended together, after its per-clip decisions went to
`WORKDIR/predictions/NAME`, one JSON line `{id, fold, group, label, prediction, scores}` a clip. A record's
`fingerprint` is a hash of everything that changes its value. `WORKDIR/config.json` keeps the configuration
and facts of the data sets; `WORKDIR/.lock` names the process at work and is held by flock, so a killed one
frees it.

What may happen at any moment
-----------------------------
A kill leaves a predictions file without records, or a part of a cell's records with a torn last line.
:meth:`RunFolder.open` cuts the torn line off, :meth:`RunFolder.keep_complete` the rest of that cell, and the
rerun does it again: the file ends with the bytes of an undisturbed run, timings aside.

What is here
------------
* :class:`RunFolder`: the folder of a run, for the one process that writes
* :func:`read_records`, :func:`read_predictions`: for everyone who reads
* :func:`fingerprint`: the hash of an identity
"""

import contextlib
import hashlib
import json
import os
import socket
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

RECORD_FIELDS = (
    "experiment",
    "dataset",
    "fold",
    "architecture",
    "width",
    "n",
    "input",
    "options",
    "seed",
    "classifier",
    "scaling",
    "protocol",
    "selection",
    "hyperparameters",
    "metric",
    "value",
    "n_train",
    "n_test",
    "num_parameters",
    "num_features",
    "gflops",
    "seconds",
    "feature_seconds_per_clip",
    "split_hash",
    "commit",
    "versions",
    "fingerprint",
    "predictions",
)
# Keys of a configuration whose lists and dicts may grow in place.
EXTENDABLE = ("data", "architectures", "n", "seeds", "classifiers", "datasets")
PREDICTION_FIELDS = ("id", "fold", "group", "label", "prediction", "scores")


class ConfigMismatch(ValueError):
    """The run folder holds another configuration, or other data under the same name."""


class RunFolderBusy(RuntimeError):
    """Another process is at work in the run folder."""


def _plain(value):
    """JSON for numpy's numbers and arrays, and for paths."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} of {type(value).__name__} cannot be written as JSON; give numbers, text, lists, dicts")


def _json(value, **options) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain, **options)


def fingerprint(**identity) -> str:
    """Hash everything that changes a record's value.

    Args:
        **identity: names and values that JSON can hold; their order does not matter.

    Returns:
        16 hexadecimal digits: the head of the SHA-256 of the canonical JSON (sorted keys, no spaces).

    Raises:
        ValueError: a value that is not finite.
    """
    canonical = _json(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _replace(path: Path, text: str) -> None:
    """Write a file so that readers, and a crash at any moment, see the old content or the new, never a
    part."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _parse(path: Path) -> tuple[list[dict], int, bool]:
    """Records of a file, the bytes they take, and whether a torn line follows them."""
    content = path.read_bytes() if path.exists() else b""
    records, end = [], 0
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not line.endswith(b"\n") or "fingerprint" not in record:
                raise ValueError
        except ValueError as error:
            if number < len(lines):
                raise ValueError(
                    f"{path}, line {number}: not a record: {line[:60]!r}; a kill tears the last line only, so the file "
                    "was damaged otherwise: restore it, or delete the line"
                ) from error
            return records, end, True
        records.append(record)
        end += len(line)
    return records, end, False


def read_records(workdir) -> list[dict]:
    """Read the records of a run folder; a torn last line is left out with a warning.

    Args:
        workdir: the run folder.

    Returns:
        Records in the order in which they were written.

    Raises:
        ValueError: no such file, or a damaged line that is not the last.
    """
    path = Path(workdir) / "records.jsonl"
    if not path.is_file():
        raise ValueError(f"{workdir} holds no records.jsonl; give the folder of a run")
    records, _, torn = _parse(path)
    if torn:
        warnings.warn(f"{path}: the last line is torn and left out; the next run repairs it", stacklevel=2)
    return records


def read_predictions(workdir, name: str) -> list[dict]:
    """Read the per-clip decisions of one cell.

    Args:
        workdir: the run folder.
        name: the record's `predictions`.

    Returns:
        One dict of :data:`PREDICTION_FIELDS` for each clip.

    Raises:
        ValueError: no such file, or a damaged one: a line that is no JSON, or not a dict of those fields.
    """
    path = Path(workdir) / "predictions" / name
    try:
        with open(path, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict) or not set(PREDICTION_FIELDS) <= row.keys():
                raise ValueError(f"line {number} is not a dict of {', '.join(PREDICTION_FIELDS)}")
            if not isinstance(row["scores"], dict | None):
                raise ValueError(f"line {number}: scores are not a dict")
        return rows
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing; run again, and its cell is computed anew") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; delete it and run again") from error


def _merge(old: dict, new: dict, extendable: Iterable[str], ignored: Iterable[str], path: Path) -> dict:
    """The old configuration extended by the new, or ConfigMismatch that names every differing key."""
    merged, differing = dict(old), []
    for key, value in new.items():
        known = old.get(key)
        if key in ignored or (key in old and known == value):
            merged[key] = value
        elif key in extendable and isinstance(known, list) and isinstance(value, list):
            merged[key] = known + [item for item in value if item not in known]
        elif key in extendable and isinstance(known, dict) and isinstance(value, dict):
            for name in (name for name in value if known.get(name, value[name]) != value[name]):
                differing += _differences(f"{key}.{name}", known[name], value[name])
            merged[key] = known | value
        else:
            differing.append(f"{key}={value!r} (there: {known!r})")
    differing += [f"{k} is not given (there: {old[k]!r})" for k in old.keys() - new.keys() - {"datasets", *ignored}]
    if differing:
        raise ConfigMismatch(
            f"{path.parent} holds a run with another configuration: {'; '.join(sorted(differing))}. "
            "Choose another workdir, or give those values"
        )
    return merged


def _differences(name: str, known, value) -> list[str]:
    if isinstance(known, dict) and isinstance(value, dict) and known.keys() == value.keys():
        return [f"{name}.{k}={value[k]!r} (there: {known[k]!r})" for k in value if value[k] != known[k]]
    return [f"{name}={value!r} (there: {known!r})"]


def check_config(workdir, config: Mapping, *, extendable: Sequence[str] = EXTENDABLE) -> None:
    """Raise ConfigMismatch if a run folder could not be opened with this configuration; writes nothing."""
    _read_config(Path(workdir), json.loads(_json(dict(config))), set(extendable), set())


@contextlib.contextmanager
def held(workdir) -> Iterator[None]:
    """Make a folder if need be, and hold it: nobody else has the right to write until the end of the `with` block.

    Raises:
        RunFolderBusy: another process holds it.
        ValueError: a place where no folder can be.
    """
    import fcntl

    path = Path(workdir)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ValueError(f"workdir {path} cannot be a run folder: {error}; choose another workdir") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 200).decode(errors="replace").strip() or "another process"
            raise RunFolderBusy(
                f"{path} is in use by {holder}; wait for it to end, or choose another workdir"
            ) from error
        os.truncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
        os.truncate(lock, 0)
    finally:
        os.close(lock)  # frees it, as the end of the process does


class RunFolder:
    """A run's folder, open for the one process that writes to it; made by :meth:`open`.

    Attributes:
        path: the folder.
        records: the records it holds, in order.
        done: their fingerprints.
        config: what config.json holds.
    """

    def __init__(self, path: Path, config: dict):
        self.path = path
        self.config = config
        self._file = path / "records.jsonl"
        self.records, end, torn = _parse(self._file)
        self.done = {record["fingerprint"] for record in self.records}
        if torn:
            os.truncate(self._file, end)

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        workdir,
        config: Mapping,
        *,
        extendable: Sequence[str] = EXTENDABLE,
        ignored: Sequence[str] = (),
    ) -> Iterator["RunFolder"]:
        """Open or make a run folder, with exclusive right to write until the end of the `with` block.

        Args:
            workdir: the folder; made when it is not there.
            config: the run's configuration, of JSON values.
            extendable: keys whose lists (or dicts) may grow; the file keeps the union, old values first.
            ignored: keys that may differ; the file keeps the latest value.

        Yields:
            The folder. A torn last line of records.jsonl has been cut off.

        Raises:
            ConfigMismatch: the folder's configuration differs otherwise; nothing has been written.
            RunFolderBusy: another process holds the folder.
            ValueError: records.jsonl is damaged elsewhere than at its end.
        """
        path = Path(workdir)
        config = json.loads(_json(dict(config)))
        keys = (set(extendable), set(ignored))
        _read_config(path, config, *keys)  # before the lock, which may write a file
        with held(path):
            merged = _read_config(path, config, *keys)
            run = cls(path, merged)
            (path / "predictions").mkdir(exist_ok=True)
            run._write_config(merged)
            yield run

    def _write_config(self, config: dict) -> None:
        text = _json(config, indent=2) + "\n"
        path = self.path / "config.json"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            _replace(path, text)
        self.config = config

    def keep_complete(self, cells: Mapping[object, Iterable[str]]) -> int:
        """Remove what cannot be finished by appending: parts of cells, and records whose decisions are gone.

        Args:
            cells: for every cell of the run, the fingerprints of all its records.

        Returns:
            Number of records removed.
        """
        names = {None, *(file.name for file in (self.path / "predictions").iterdir())}
        drop = {record["fingerprint"] for record in self.records if record["predictions"] not in names}
        done = self.done
        for fingerprints in cells.values():
            fingerprints = set(fingerprints)
            if not fingerprints <= done - drop:
                drop |= fingerprints & done
        records = [record for record in self.records if record["fingerprint"] not in drop]
        removed = len(self.records) - len(records)
        if removed:
            _replace(self._file, "".join(_json(record) + "\n" for record in records))
            self.records, self.done = records, self.done - drop
        return removed

    def append(self, records: Sequence[Mapping], rows: Iterable[Mapping] = (), name: str | None = None) -> None:
        """Add the records of one cell: its decisions first, then all records in one write.

        Args:
            records: dicts of :data:`RECORD_FIELDS`; `predictions` is filled in.
            rows: dicts of :data:`PREDICTION_FIELDS`, one a clip.
            name: file name of the decisions, unique to the cell; None when there are none (chance).

        Raises:
            ValueError: missing, unknown or repeated fields or fingerprints, or values that are not finite.
            OSError: the disk is full; the folder is as it was before.
        """
        if name is not None and Path(name).name != name:
            raise ValueError(f"predictions name {name!r} must be a plain file name")
        fingerprints = {record.get("fingerprint") for record in records}
        if len(fingerprints) < len(records) or fingerprints & self.done:
            raise ValueError(f"fingerprints {sorted(map(str, fingerprints))} repeat; skip cells that are done")
        lines = []
        for record in records:
            record = {**record, "predictions": name}
            if wrong := set(record) ^ set(RECORD_FIELDS):
                raise ValueError(f"record fields {sorted(wrong)} are missing or unknown; give exactly RECORD_FIELDS")
            lines.append(_json({field: record[field] for field in RECORD_FIELDS}) + "\n")
        if name is not None:
            decisions = "".join(_json({field: row[field] for field in PREDICTION_FIELDS}) + "\n" for row in rows)
            _replace(self.path / "predictions" / name, decisions)
        self._append_bytes("".join(lines).encode())
        self.records += map(json.loads, lines)
        self.done |= fingerprints

    def _append_bytes(self, content: bytes) -> None:
        file = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        size = os.fstat(file).st_size
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        except OSError:
            os.ftruncate(file, size)
            raise
        finally:
            os.close(file)


def _read_config(path: Path, config: dict, extendable: set, ignored: set) -> dict:
    file = path / "config.json"
    if not file.is_file():
        return config
    try:
        old = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(old, dict):
            raise ValueError(f"it holds {old!r}")
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}; restore it, or choose another workdir") from error
    return _merge(old, config, extendable, ignored, file)

"""Learning curves of a run folder: what every epoch of a training measured.

`WORKDIR/curves/NAME-FOLD.jsonl` has a JSON line an epoch (`epoch`, `step`, `seconds`, `scale` of the learning rate,
`train_loss`, `valid_…`); NAME is that of the cell's predictions. The weights that were kept are those after `best_step`
of the records' hyper-parameters.
Names: :class:`Curve`, :class:`CurveWriter`, :func:`read_curves`, :func:`describe`.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mirjax.config import UsageError

LOSSES = ("train_loss", "valid_loss")
# What stands beside the losses where the weights were chosen by one of them.
USUAL = ("valid_accuracy", "valid_roc_auc", "valid_rmse")


class Curve(NamedTuple):
    """One training: a network on one fold under one seed.

    Attributes:
        seed, fold: which.
        epochs: how many it took.
        best: the epoch whose weights were kept; None where the file is gone.
        metric: what was measured beside the losses, the one that chose the weights if it did; None for nothing.
        rows: an epoch each; none where the file is gone.
    """

    seed: object
    fold: str
    epochs: int
    best: int | None
    metric: str | None
    rows: tuple[dict, ...]


class CurveWriter:
    """Writes the curve of a training at work, and TensorBoard's events if asked for.

    What came after the checkpoint from which the training goes on comes again, so it is taken out first.

    Args:
        folder: the run folder.
        name: of the curve, without its suffix.
        step: from which the training goes on; 0 at the start.
        tensorboard: write `WORKDIR/tensorboard/NAME` too; UsageError without tensorboardX.
        writes: False in all processes but the first: nothing is written.

    Attributes:
        earlier: seconds of the epochs made before the training was interrupted.
    """

    def __init__(self, folder, name: str, step: int, tensorboard: bool, writes: bool):
        self._file, self._board, self.earlier = None, None, 0.0
        if not writes:
            return
        path = Path(folder) / "curves" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        kept = [row for row in _read(path) if row["step"] <= step]
        self.earlier = kept[-1]["seconds"] if kept else 0.0
        unfinished = path.with_name(f".{path.name}")  # a kill in between must not lose the epochs of the checkpoint
        unfinished.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        unfinished.replace(path)
        self._file = open(path, "a", encoding="utf-8")
        if tensorboard:
            try:
                from tensorboardX import SummaryWriter
            except ImportError as error:
                raise UsageError("tensorboard=true needs the package tensorboardX: pip install tensorboardX") from error
            self._board = SummaryWriter(str(Path(folder) / "tensorboard" / name), purge_step=step)

    def add(self, row: dict) -> None:
        """Append an epoch; its `seconds` count from the very start, whatever interruptions there were."""
        if self._file is None:
            return
        row = row | {"seconds": round(self.earlier + row["seconds"], 3)}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in row.items():
                if name not in ("epoch", "step"):
                    self._board.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Close the files."""
        for each in (self._file, self._board):
            if each is not None:
                each.close()


def read_curves(workdir, records: Iterable[dict]) -> tuple[Curve, ...]:
    """Curves of one cell.

    Args:
        workdir: the run folder.
        records: one record of every fold.

    Returns:
        A curve a fold, none for what was not trained in epochs (a baseline, weights evaluated in a second way).
    """
    found = []
    for record in records:
        chosen = record["hyperparameters"] or {}
        if record["classifier"] != "trained" or not record["predictions"] or "epochs" not in chosen:
            continue
        name = record["predictions"].removesuffix(".jsonl")
        rows = _read(Path(workdir) / "curves" / f"{name}-{record['fold']}.jsonl")
        best = next((row["epoch"] for row in rows if row["step"] == chosen.get("best_step")), None)
        measured = [name for name in (record["options"].get("monitor"), *USUAL) if rows and name in rows[-1]]
        metric = next((name for name in measured if name not in LOSSES), None)
        found.append(Curve(record["seed"], record["fold"], chosen["epochs"], best, metric, rows))
    return tuple(found)


def describe(curves: Sequence[tuple[str, Sequence[Curve]]]) -> str:
    """Say in a sentence how many epochs networks took, and which was best.

    Args:
        curves: (name, its curves) of networks.

    Returns:
        The sentence; nothing where there are no curves.
    """
    told = []
    for name, own in curves:
        if own:
            bests = [curve.best for curve in own if curve.best is not None]
            best = f", best {_spread(bests)}" if bests else ""
            told.append(f"{name} {_spread([curve.epochs for curve in own])}{best}")
    if not told:
        return ""
    return f"Epochs, and the one whose weights were kept (median, least–most over folds and seeds): {'; '.join(told)}."


def _spread(numbers: list[int]) -> str:
    median, low, high = np.median(numbers), min(numbers), max(numbers)
    return f"{median:g}" if low == high else f"{median:g} ({low}–{high})"


def _read(path: Path) -> tuple[dict, ...]:
    """Rows of a curve; what follows a torn line is left out, and so is what never was a row."""
    if not path.is_file():
        return ()
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not {"epoch", "step", "scale", "train_loss"} <= row.keys():
            break
        rows.append(row)
    return tuple(rows)

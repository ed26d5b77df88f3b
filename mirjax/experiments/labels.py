"""Labels of a data set as a task takes them: one class a clip, many tags, or values.

A clip's label is a class name; or tags `a|b|c` (`-` for none); or values `a:0.3|b:0.9` (a name alone is 1, one not
named 0).
Names: `Table`, `table`, `prediction_rows`, `judge_decisions`.
"""

import dataclasses

import numpy as np

from mirjax import decisions, metrics


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Labels of M clips.

    Attributes:
      kind: `one`, `many` or `values`.
      names: K classes or tags, sorted.
      values: int32[M] classes, or f32[M, K].
    """

    kind: str
    names: tuple[str, ...]
    values: np.ndarray

    @property
    def metrics(self) -> tuple[str, ...]:
        """What clips are judged by."""
        return {"one": metrics.METRICS, "many": metrics.TAG_METRICS, "values": ("rmse",)}[self.kind]

    def loss(self, asked: str) -> str:
        """The loss: as asked, or by the kind of labels when `auto`."""
        usual = {"one": "cross_entropy", "many": "binary_cross_entropy", "values": "squared_error"}
        return usual[self.kind] if asked == "auto" else asked

    def num_outputs(self, loss: str) -> int:
        """Outputs of a network: one for two classes under another loss than cross-entropy, else one for each name."""
        single = self.kind == "one" and len(self.names) == 2 and self.loss(loss) != "cross_entropy"
        return 1 if single else len(self.names)

    def balanced(self, chosen) -> tuple[float, ...]:
        """Weights of classes (of tags: of their positives) inverse to their number among some clips, 1 on average.

        Raises:
          ValueError: values, which have no numbers of clips; or a tag that none of the clips has.
        """
        if self.kind == "values":
            raise ValueError("weights=balanced is for classes and tags; these labels are values")
        values = self.values[chosen]
        if self.kind == "one":
            counts = np.bincount(values, minlength=len(self.names))
            return tuple((len(values) / np.maximum(1, counts) / np.count_nonzero(counts)).tolist())
        counts = values.sum(0)
        if (empty := np.flatnonzero(counts == 0)).size:
            listed = ", ".join(self.names[i] for i in empty[:5])
            raise ValueError(f"weights=balanced: no training clip has {listed}; leave these tags out")
        return tuple(((len(values) - counts) / counts).tolist())


def table(clips, kind: str) -> Table:
    """The labels of clips.

    Args:
      clips: decoded clips (`mirjax.data.audio.Clips`).
      kind: `one`, `many` or `values`.

    Raises:
      ValueError: a value that is no number from 0 to 1, a tag without a name or one named twice (tells the clip); no
        clip with a tag.
    """
    if kind == "one":
        names, values = np.unique(clips.labels, return_inverse=True)
        return Table(kind, tuple(map(str, names)), values.astype(np.int32))
    rows = []
    for clip, label in zip(clips.ids, clips.labels, strict=True):
        parts = [part.strip() for part in str(label).split("|") if part.strip() not in ("", "-")]
        pairs = [part.rpartition(":") if kind == "values" and ":" in part else (part, "", "1") for part in parts]
        wanted = "tag|tag" if kind == "many" else "tag:number|tag:number, numbers from 0 to 1"
        try:
            row = {name.strip(): float(value) for name, _, value in pairs}
        except ValueError:
            raise ValueError(f"{clips.name}: label {str(label)!r} of {clip} must be {wanted}") from None
        if len(row) < len(pairs) or "" in row or not all(0 <= value <= 1 for value in row.values()):
            raise ValueError(f"{clips.name}: label {str(label)!r} of {clip} must be {wanted}, each tag once")
        rows.append(row)
    names = sorted({name for row in rows for name in row})
    if not names:
        raise ValueError(f"{clips.name}: no clip has a tag; with labels={kind} a label is {wanted}, or - for none")
    values = np.array([[row.get(name, 0.0) for name in names] for row in rows], np.float32)
    return Table(kind, tuple(names), values)


def prediction_rows(clips, partition, fold, truth, scores, table: Table) -> list[dict]:
    """What is kept of every test clip of a fold: id, fold, group, label, prediction and scores."""
    if table.kind == "one":
        if scores.shape[1] == 1:
            scores = np.concatenate([1 - scores, scores], axis=1)
        decided = [table.names[i] for i in scores.argmax(-1)]
    else:
        decided = ["|".join(n for n, s in zip(table.names, row, strict=True) if s > 0.5) or "-" for row in scores]
    return [
        {
            "id": str(clips.ids[i]),
            "fold": fold.name,
            "group": str(partition.groups[i]),
            "label": str(clips.labels[i]),
            "prediction": str(label),
            "scores": {name: float(f"{score:.6g}") for name, score in zip(table.names, row, strict=True)},
        }
        for i, label, row in zip(fold.test, decided, scores, strict=True)
    ]


def judge_decisions(rows) -> dict[str, float]:
    """How many tags outputs get right when they are rounded, from stored predictions.

    Args:
      rows: `prediction_rows` of many tags, such as `results.read_predictions` returns them.

    Returns:
      `exact_match` and `hamming_loss` of the outputs rounded to 0 and 1; `roc_auc` of the outputs, and
      `rounded_roc_auc`, which ranks clips by the rounded ones, as the tutorial's notebook does.

    Raises:
      ValueError: no rows, or labels that the scores do not have.

    Reference:
      Schindler, Lidy & Böck, ISMIR 2018 tutorial, moods; ARCHITECTURES §9.1.
    """
    rows = list(rows)
    if not rows:
        raise ValueError("there are no predictions; give the rows of at least one clip")
    names = list(rows[0]["scores"])
    tags = [{part.strip() for part in str(row["label"]).split("|")} - {"-", ""} for row in rows]
    if unknown := sorted(set().union(*tags) - set(names)):
        raise ValueError(f"labels {', '.join(unknown[:5])} are no tags of the scores ({', '.join(names[:5])}, …)")
    truth = np.array([[name in own for name in names] for own in tags])
    scores = np.array([[row["scores"][name] for name in names] for row in rows])
    rounded = decisions.round_outputs(scores)
    return {
        "exact_match": metrics.exact_match(truth, rounded),
        "hamming_loss": metrics.hamming_loss(truth, rounded),
        "roc_auc": metrics.roc_auc(truth, scores, tags=names).mean,
        "rounded_roc_auc": metrics.roc_auc(truth, rounded, tags=names).mean,
    }

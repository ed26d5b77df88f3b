"""The work of the descriptors baseline: descriptors of all clips, trees on every fold, records as of a training.

Names: `Run`.
"""

import importlib.metadata
import time
from collections.abc import Iterator

import numpy as np

from mirjax import config
from mirjax.experiments import cells, labels, training_run
from mirjax.experiments.descriptors_baseline import ARCHITECTURE, boost
from mirjax.tasks import tagging


class Run(training_run.Run):
    """The baseline at work; `screening` is the experiment."""

    def cells(self, clips) -> Iterator[cells.Cell]:
        """Chance and the majority where clips have one label, then the trees."""
        if self.screening.labels == "one":
            for name in ("chance", "majority"):
                yield cells.Cell(name, None, "raw", {}, 0, "none", "none")
        yield cells.Cell(ARCHITECTURE, None, "raw", self.screening.options(), 0, "trained", "none")

    def fingerprints(self, cell, clips, partition) -> list[str]:
        """Of all records of a cell, in the order in which they are written."""
        if cell.architecture != ARCHITECTURE:
            return super().fingerprints(cell, clips, partition)
        identity = {
            "numbers": cells.NUMBERS,
            "numerics": self.numerics,
            "scikit-learn": importlib.metadata.version("scikit-learn"),
            "data": clips.content_hash,
            "split": partition.hash,
            "protocol": partition.kind,
            "program": self.networks[0].program,
            "options": cell.options,
        }
        return self.fingerprints_of(identity, clips, partition, self.labels(clips).metrics)

    def train_cell(self, cell, clips, partition, prints) -> tuple[list[dict], list[dict]]:
        """Records and predictions: trees on every fold."""
        table, kind = self.labels(clips), self.screening.labels
        x, seconds_per_clip = self.descriptors(clips)
        began = time.perf_counter()
        outcomes, predictions = [], []
        for fold in self.folds(partition, clips):
            found = boost(
                *(x, table.values, fold.train, fold.valid, fold.test),
                kind=kind,
                num_outputs=len(table.names),
                **self.screening.trees(),
            )
            outcome = tagging.Outcome(fold.test, found.scores, 0.0)
            values = tagging.judge(outcome, table.values, loss=table.loss("auto"), tags=table.names)
            chosen = {"rounds": float(np.median(found.rounds))}
            outcomes.append((fold, {metric: values[metric] for metric in table.metrics}, chosen))
            truth = table.values[fold.test]
            predictions += labels.prediction_rows(clips, partition, fold, truth, found.scores, table)
        seconds = time.perf_counter() - began
        sizes = {"num_features": x.shape[1], "feature_seconds_per_clip": seconds_per_clip}
        rows = self.records(cell, clips, partition, outcomes, prints, seconds, sizes)
        return [row | {"selection": "validation"} for row in rows], predictions

    def descriptors(self, clips) -> tuple[np.ndarray, float]:
        """Descriptors f32[M, D] of all clips, and seconds a clip; blocks that are stored are not computed."""
        describe = self.networks[0]
        key = config.digest([cells.NUMBERS, self.versions, clips.content_hash, describe.program], 32)
        return self.by_clip(key, clips, describe)

"""The work of a scale study: trainings on shares, and trained weights evaluated once more on whole clips.

Names: `Run`, `WholeClips`.
"""

import dataclasses
from collections.abc import Iterator

import jax

from mirjax.config import UsageError
from mirjax.experiments import cells, fitting, training_run
from mirjax.tasks import tagger


class WholeClips(fitting.Fitting):
    """No training: the weights of the cell that is evaluated by windows, evaluated on whole clips.

    Attributes:
      trained: the fitting of that cell on this fold.
    """

    def __init__(self, trained: fitting.Fitting, cell, name: str):
        super().__init__(trained.run_, cell, trained.clips_, trained.fold, name)
        self.trained = trained
        self.experiment = self.experiment.as_training(whole=True)

    def run(self):
        """As of a training, with nothing chosen; without the weights it trains them first."""
        path = self.run_.folder / "weights" / f"{self.trained.name}.npz"
        if not path.is_file():
            self.trained.run()
        variables = tagger.load_tagger(path, model=self.network.module).variables
        outcome = self.predict(self.task(self.fold.train), variables, self.fold.test)
        return outcome, {}, self.embedding_size(variables)


class Run(training_run.Run):
    """A scale study at work; `screening` is the study."""

    def __init__(self, study, sources, progress: bool):
        if "whole" in study.evaluations and jax.process_count() > 1:
            raise UsageError("evaluations=whole: weights are evaluated again by one process; start one")
        super().__init__(study, sources, progress)

    def cells(self, clips) -> Iterator[cells.Cell]:
        """Those of a training, for every share and evaluation."""
        study = self.screening
        for cell in super().cells(clips):
            if cell.classifier != "trained":
                yield cell
                continue
            for share in study.shares:
                for way in study.evaluations:
                    own = {"train_share": share, "whole": way == "whole"}
                    yield dataclasses.replace(cell, options=cell.options | own)

    def fitting(self, cell, clips, partition, fold, name, begin):
        """A training, or what evaluates its weights on whole clips."""
        if not cell.options["whole"]:
            return super().fitting(cell, clips, partition, fold, name, begin)
        windows = dataclasses.replace(cell, options=cell.options | {"whole": False})
        begin = [(each.network, self._name(each, clips, partition, fold)) for each in self.earlier(windows, clips)]
        of_windows = self._name(windows, clips, partition, fold)
        return WholeClips(super().fitting(windows, clips, partition, fold, of_windows, begin), cell, name)

    def _name(self, cell, clips, partition, fold) -> str:
        """Of the files of a cell on a fold."""
        return f"{training_run.file_name(clips, cell, self.fingerprints(cell, clips, partition))}-{fold.name}"

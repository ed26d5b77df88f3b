"""Music tagging at scale: a training on several shares of the training clips, heard in windows and as whole clips.

`ScaleStudy` is a `Training` with the thesis' procedure as its defaults and two lists more:

* `shares` of the training clips, the smaller within the larger, stratified by class. Validation and test clips stay.
  The report fits a line to score against the number of training clips, and against its logarithm.
* `evaluations`: `windows` (scores of consecutive windows, averaged) and `whole` (the clip at once). Each network is
  trained once and chosen by windows; the same weights are then evaluated in each way. The report has their difference,
  paired by network and clip.

A row of a record has the options `train_share` and `whole` of a training. Beside what a training leaves, the run folder
holds `scale.md` and `scale.csv` (a line for each score of a network, averaged over folds).
Source: Pons, Nieto, Prockup, Schmidt, Ehmann & Serra, "End-to-end learning for music audio tagging at scale", ISMIR
2018; Pons' thesis (2019), chapter 5; ARCHITECTURES §6.4.
Names: `ScaleStudy`; its work is in `scale_run`, its tables in `scale_report`.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from mirjax.config import UsageError
from mirjax.experiments.training import Training
from mirjax.models import zoo

EVALUATIONS = ("windows", "whole")
_NARROWER = 8  # networks of a smoke


@dataclasses.dataclass(frozen=True)
class ScaleStudy(Training):
    """Train networks on shares of the training clips and evaluate each in one or two ways.

    Batch size, L2, epochs and the rule are those of the companion networks; the thesis names Adam, its rate and the
    losses only.

    Attributes:
      shares: of the training clips; each network is trained on each of them.
      evaluations: `windows`, `whole`, or both.
      (others): as in `Training`, whose `train_share` and `whole` give way to these.
    """

    name: str = "scale"
    architectures: tuple[str, ...] = ("at_scale_waveform", "at_scale_spectrogram")
    normalise: str = "all"
    l2: float = 1e-5
    rule: str = "plateau(valid_loss, .5, 75, cumulative=true)"
    epochs: int = 600
    batch_size: int = 32
    shares: tuple[float, ...] = (1.0,)
    evaluations: tuple[str, ...] = ("windows",)

    def __post_init__(self):
        for field in ("shares", "evaluations"):
            value = getattr(self, field)
            value = (value,) if isinstance(value, str | int | float) else tuple(value)
            if not value or len(set(value)) < len(value):
                raise UsageError(f"{field}={value!r} must name at least one, and none twice")
            object.__setattr__(self, field, value)
        for share in self.shares:
            if not 0 < share <= 1:
                raise UsageError(f"shares={share} must be above 0, at most 1")
        for way in self.evaluations:
            if way not in EVALUATIONS:
                raise UsageError(f"evaluations={way!r} is not one of {', '.join(EVALUATIONS)}")
        if self.whole or self.train_share != 1:
            raise UsageError("whole= and train_share= are for one training; a scale study has evaluations= and shares=")
        if self.processes not in (None, 1) and "whole" in self.evaluations:
            raise UsageError(f"processes={self.processes}: weights are evaluated again by one process; leave it away")
        super().__post_init__()

    def smoke(self) -> "ScaleStudy":
        """The same study, tiny: its first network with an eighth of the filters, the last two shares, short clips."""
        first = self.architectures[0]
        return dataclasses.replace(
            super().smoke(),
            architectures=(first,),
            n=str(max(1, zoo.lookup(first).n // _NARROWER)) if isinstance(first, str) else None,
            seconds=6.0,
            evaluation_hop=self.evaluation_hop,
            shares=self.shares[-2:],
            batch_size=min(self.batch_size, 16),
            classifiers=self.classifiers[:1],
        )

    def worker(self, sources: list, progress: bool):
        """What trains and evaluates the cells."""
        from mirjax.experiments import scale_run

        return scale_run.Run(self, sources, progress)

    def as_training(self, **changes) -> Training:
        """One training of the study, with some of its fields changed."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(Training)}
        return Training(**own | changes)

    def forecast(self) -> str:
        """What a run would compute."""
        shares = ", ".join(f"{share:g}" for share in self.shares)
        return f"{super().forecast()}, on {shares} of the training clips, evaluated by {' and '.join(self.evaluations)}"

    def report(self, workdirs: Sequence, out: str | Path | None = None):
        """A training's report, and the tables of shares and evaluations (`scale_report.ScaleReport`)."""
        from mirjax.experiments import scale_report

        return scale_report.build_report(workdirs, out)

"""Does the untrained rank predict the trained one? A space of networks, screened and trained on the same clips.

Every network of `mirjax.models.space` is screened untrained (ELM and SVM on random features, several seeds, both
inputs), trained (several seeds, weights chosen on validation clips) and scored by what costs little (`mirjax.proxies`).
Each data set has a folder of its own in the run folder, with a screening (`untrained/`), a training (`trained/`) and
`proxies.jsonl`; each of them resumes by itself, and so does the whole. `table.csv` gathers it: a line for each network,
data set, method, input and seed, with the decisions on the test clips, so that other proxies can be tested on it.
Names: `RankCorrelation`.
"""

import dataclasses
from pathlib import Path

from mirjax import config, results, train
from mirjax.config import UsageError
from mirjax.experiments import proxy_scores, screening, training
from mirjax.experiments.experiment import Experiment

_ELSEWHERE = ("strict", "dry_run", "data_dir", "cache", "workdir")  # where a run lies, and what it skips


@dataclasses.dataclass(frozen=True)
class RankCorrelation(Experiment):
    """Untrained and trained ranks of a space of networks.

    Attributes:
      name: names the run folder.
      data: data sets, as in a screening.
      seconds: clip length on each of them (one for all, or one each).
      networks: how many of the space, the study's ten first; or their names.
      space_seed: of the draw of the others.
      seeds: of untrained weights (and of proxies): N for 0…N−1, or a list.
      trained_seeds: of trained ones.
      classifiers: of the untrained features.
      input: of the untrained networks, as in a screening; trained ones standardise by their training clips.
      protocol, group: as in a screening.
      folds: names of the folds that are trained on and compared; all when None.
      epochs, batch_size, learning_rate, clip_norm, rule, monitor: of the training.
      proxies: whether to compute the proxies.
      strict, dry_run, data_dir, cache, workdir: as in a screening.
    """

    name: str = "rank_correlation"
    data: tuple[str, ...] = ("rhythm_small",)
    seconds: tuple[float, ...] = (6.0,)
    networks: int | tuple[str, ...] = 60
    space_seed: int = 0
    seeds: int | tuple[int, ...] = 3
    trained_seeds: int | tuple[int, ...] = 2
    classifiers: tuple[str, ...] = ("elm", "svm")
    input: tuple[str, ...] = ("raw", "standardised")
    protocol: str = "auto"
    group: str | None = None
    folds: tuple[str, ...] | None = None
    epochs: int = 150
    batch_size: int = 16
    learning_rate: float = 5e-3
    clip_norm: float | None = None
    rule: str = "plateau(valid_loss,factor=.4,patience=8)+stop_early(valid_loss,25)"
    monitor: str = "valid_loss"
    proxies: bool = True
    strict: bool = False
    dry_run: bool = False
    data_dir: str | None = None
    cache: str | None = None
    workdir: str | None = None

    growing = ("data", "seconds", "networks", "seeds", "trained_seeds")

    def __post_init__(self):
        for field in ("data", "seeds", "trained_seeds", "classifiers", "input"):
            object.__setattr__(self, field, screening.as_tuple(field.removeprefix("trained_"), getattr(self, field)))
        seconds = self.seconds if isinstance(self.seconds, tuple | list) else (self.seconds,)
        try:
            object.__setattr__(self, "seconds", tuple(map(float, seconds)))
        except (TypeError, ValueError):
            raise UsageError(f"seconds={self.seconds!r} must be numbers, such as 5 or 6,2") from None
        if len(self.seconds) not in (1, len(self.data)):
            raise UsageError(
                f"seconds={self.seconds} must be one length, or one for each of the {len(self.data)} data sets"
            )
        if isinstance(self.networks, list):
            object.__setattr__(self, "networks", tuple(self.networks))
        if not isinstance(self.networks, int | tuple):
            raise UsageError(f"networks={self.networks!r} must be a whole number, or names of `mirjax.models.space`")
        if (self.networks if isinstance(self.networks, int) else len(self.networks)) < 3:
            raise UsageError(f"networks={self.networks} must be at least 3, to have ranks")

    def sources(self) -> list:
        """The data sets, opened but not decoded; raises as a screening's."""
        return screening.open_sources(self.data, self.data_dir, self.group)

    def space(self) -> tuple[str, ...]:
        """Names of the networks."""
        from mirjax.models import space

        return space.names(self.networks, self.space_seed) if isinstance(self.networks, int) else self.networks

    def parts(self) -> list[tuple[str, screening.Screening, training.Training]]:
        """(data set, its screening, its training), in order."""
        names, found = self.space(), []
        lengths = self.seconds * len(self.data) if len(self.seconds) == 1 else self.seconds
        for data, seconds, source in zip(self.data, lengths, self.sources(), strict=True):
            shared = {
                "data": (data,),
                "architectures": names,
                "seconds": seconds,
                "protocol": self.protocol,
                "group": self.group,
                "strict": self.strict,
                "data_dir": self.data_dir,
                "cache": self.cache,
            }
            untrained = screening.Screening(
                name=f"{self.name}_untrained",
                seeds=self.seeds,
                classifiers=self.classifiers,
                input=self.input,
                scaling=("standard",),
                **shared,
            )
            trained = training.Training(
                name=f"{self.name}_trained",
                seeds=self.trained_seeds,
                folds=self.folds,
                normalise="all",
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                clip_norm=self.clip_norm,
                rule=self.rule,
                monitor=self.monitor,
                classifiers=("svm",),
                **shared,
            )
            found.append((source.facts.name, untrained, trained))
        return found

    def smoke(self) -> "RankCorrelation":
        """The same study, tiny: three cheap networks, one set, one fold, one epoch."""
        return dataclasses.replace(
            self,
            data=("rhythm_small",),
            seconds=(3.0,),
            networks=("temporal-n8", "space/rhythm-d1-f12-p3-relu-nonorm-max", "space/frames-d1-f8-p2-elu-nonorm-mean"),
            seeds=2,
            trained_seeds=1,
            classifiers=("elm",),
            input=("raw",),
            protocol="auto",
            group=None,
            folds=("0",),
            epochs=1,
        )

    def settings(self) -> dict:
        """What decides the numbers, as JSON values."""
        kept = [field.name for field in dataclasses.fields(self) if field.name not in _ELSEWHERE]
        return config.plain({name: getattr(self, name) for name in kept})

    def forecast(self) -> str:
        """What a run would compute."""
        networks = len(self.space())
        count = len(self.data) * networks
        return (
            f"{networks} networks on {len(self.data)} data sets: {count * len(self.seeds)} × {len(self.input)} tables "
            f"of untrained features, {count * len(self.trained_seeds)} trainings a fold, and proxies"
        )

    def check(self) -> None:
        """Refuse what the screening or the training of a data set would refuse."""
        for _, untrained, trained in self.parts():
            untrained.check()
            trained.check()

    def execute(self, workdir: str | Path | None = None, *, progress: bool = True) -> tuple[list[dict], Path | None]:
        """As `run`, and tells the run folder: (records, folder)."""
        parts = self.parts()
        self.check()
        if self.dry_run:
            return [], None
        folder, records = Path(workdir or self.workdir or self.default_workdir()), []
        if self.folds is not None:  # a wrong name is told before the screening, not after it
            from mirjax.experiments import training_run

            for _, _, trained in parts:
                run = training_run.Run(trained, trained.sources(), progress)
                for clips in run.load():
                    run.divide(clips)
        diverged = []
        for name, untrained, trained in parts:
            with results.held(folder / name):
                records += untrained.run(folder / name / "untrained", progress=progress)
                if self.proxies:
                    scores = folder / name / "proxies.jsonl"
                    proxy_scores.add_scores(scores, trained, self.seeds, progress=progress)
                try:
                    records += trained.run(folder / name / "trained", progress=progress)
                except train.NotFinite as error:  # the other data sets are not to wait for it
                    diverged.append(f"{name}: {error}")
        if diverged:
            raise train.NotFinite("; ".join(diverged))
        return records, folder

    def report(self, workdirs, out: str | Path | None = None):
        """Table, correlations and figures of a run folder (`rank_report.build_report`)."""
        from mirjax.experiments import rank_report

        return rank_report.build_report(workdirs, out)

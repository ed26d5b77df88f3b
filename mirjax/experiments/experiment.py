"""What all studies are: frozen values that say what to compute, and compute what a run folder lacks.

A study is a dataclass with the fields `name`, `data`, `workdir`, `dry_run` and what it needs beside them; `sources()`
opens its data sets, `settings()` is what a run folder remembers of it (JSON values), `forecast()` says what a run would
compute, `smoke()` is the study in small, and `worker()` does the work.
Names: `Experiment`.
"""

from collections.abc import Sequence
from pathlib import Path

from mirjax import config


class Experiment:
    """A study; a base class without fields.

    Attributes:
      growing: settings that may grow in place, and so are no part of the run folder's name. Widths (`n`) belong to
        architectures and grow with them, but as they were asked for they are a part.
    """

    growing: Sequence[str] = ("data",)

    def worker(self, sources: list, progress: bool):
        """What computes the study (`cells.Run`)."""
        raise NotImplementedError

    def check(self) -> None:
        """Refuse what can be told to be wrong before the data are read, but takes more than the fields to see.

        Raises:
          UsageError: such a setting.
        """

    def place(self, workdir: Path) -> Path:
        """Where a run lies that was to lie in a folder; a part lies beside the others."""
        return workdir

    def default_workdir(self) -> Path:
        """`runs/NAME-FINGERPRINT`; what may grow in place does not count."""
        fixed = {key: value for key, value in self.settings().items() if key not in self.growing}
        if "n" in self.growing:
            fixed["n"] = self.n
        return Path("runs") / f"{self.name}-{config.digest(fixed)}"

    def run(self, workdir: str | Path | None = None, *, progress: bool = True) -> list[dict]:
        """Compute what is missing and return the records of this study.

        Args:
          workdir: the run folder; `self.workdir`, else `default_workdir()`, when None. A part's lies beside it.
          progress: show progress bars.

        Returns:
          Records in the order of the run folder (CONTRACT: "What a run leaves"); with `dry_run`, none.

        Raises:
          UsageError: something unknown was asked for.
          ValueError: data that cannot be used; a run folder (or checkpoint) of another configuration, left as it is.
          results.RunFolderBusy: another process is at work in the folder.
          train.NotFinite: of a training, a loss became NaN; the last checkpoint is kept.
          train.Interrupted: of a training, SIGTERM or Ctrl-C came; everything was saved, and the same call goes on.
        """
        return self.execute(workdir, progress=progress)[0]

    def execute(self, workdir: str | Path | None = None, *, progress: bool = True) -> tuple[list[dict], Path | None]:
        """As `run`, and tells the run folder: (records, folder)."""
        sources = self.sources()
        self.check()
        if self.dry_run:
            return [], None
        given = workdir or self.workdir
        folder = self.place(Path(given or self.default_workdir()))
        return self.worker(sources, progress).execute(folder, or_beside=not given)

    def report(self, workdirs: Sequence, out: str | Path | None = None):
        """Tables and figures of run folders, from their records (`report.build_report`)."""
        from mirjax.experiments import report

        return report.build_report(workdirs, out)

"""Screening: rank architectures without training them.

Randomly weighted networks make features, a closed-form or grid-searched classifier scores them on every fold, and each
score becomes a record as soon as it is known. A run that was interrupted, or repeated with more seeds, architectures,
classifiers or data sets, goes on where it stands.

Source: Pons & Serra, "Randomly weighted CNNs for (music) audio classification", ICASSP 2019.
Names: `Screening`.
"""

import dataclasses
from pathlib import Path

import numpy as np

from mirjax import config
from mirjax.config import UsageError
from mirjax.data import catalogue, loader
from mirjax.experiments import cells
from mirjax.experiments.cells import SAMPLE_RATE
from mirjax.models import zoo

CLASSIFIERS = ("elm", "svm", "knn")
INPUTS = ("raw", "standardised", "standardised_train")
SCALINGS = ("none", "standard")
PROTOCOLS = ("auto", "cv", "split")
SELECTIONS = ("auto", "nested", "validation", "legacy")
STUDY_SECONDS = 350_000 / SAMPLE_RATE  # 29.17 s

_LISTS = ("data", "architectures", "width", "seeds", "classifiers", "input", "scaling")
_ELSEWHERE = ("data_dir", "cache", "workdir", "strict", "dry_run")


@dataclasses.dataclass(frozen=True)
class Screening:
    """A screening of untrained architectures.

    Attributes:
      name: names the run folder.
      data: embedded names, prepared TFDS names, folders (`class/clip`), manifest files.
      architectures: `all`, names of the zoo, or Linen modules (`taggers.Network`).
      width: 120 or 3500 features, nearly: the n of ARCHITECTURES table 1.6.
      n: free width parameter: a number for one architecture, or `vgg:24,sample:17`.
      seeds: N for seeds 0…N−1, or a list of seeds.
      classifiers: `elm`, `svm`, `knn`.
      input: `raw`; `standardised` (one scalar mean and deviation over the whole set: transductive);
        `standardised_train` (per fold, from its training clips).
      scaling: of the features: `none`, or `standard` (by training clips).
      protocol: `auto`, `cv`, `split`.
      selection: of hyper-parameters: `nested` (default with folds), `validation` (default with a split), `legacy`
        (the best score on the test folds, as in the study).
      group: metadata column that must not straddle a fold; `none` to ask for a random split by name.
      seconds: clip length of the networks; the study's 350,000 samples (29.17 s) when None.
      fit: how a shorter waveform gets there: `repeat` or `zero`.
      legacy_collapse: average the frame-level networks' extra layers as the released code does.
      strict: stop at the first faulty file instead of leaving it out.
      dry_run: print what would be computed, and compute nothing.
      data_dir: where prepared sets lie.
      cache: where decoded audio and features lie; the user's cache folder when None.
      workdir: where the run lies; `runs/NAME-FINGERPRINT` when None.
    """

    name: str = "screening"
    data: tuple[str, ...] = ("digits_small", "rhythm_small")
    architectures: tuple[str, ...] = ("all",)
    width: tuple[int, ...] = (120,)
    n: str | None = None
    seeds: int | tuple[int, ...] = 3
    classifiers: tuple[str, ...] = ("elm", "svm")
    input: tuple[str, ...] = ("raw",)
    scaling: tuple[str, ...] = ("none",)
    protocol: str = "auto"
    selection: str = "auto"
    group: str | None = None
    seconds: float | None = None
    fit: str = "repeat"
    legacy_collapse: bool = False
    strict: bool = False
    dry_run: bool = False
    data_dir: str | None = None
    cache: str | None = None
    workdir: str | None = None

    def __post_init__(self):
        for field in _LISTS:
            value = getattr(self, field)
            if isinstance(value, str):
                value = tuple(part.strip() for part in value.split(",") if part.strip())
            elif isinstance(value, list):
                value = tuple(value)
            elif field == "seeds" and isinstance(value, int):
                if value < 1:
                    raise UsageError(f"seeds={value} must be at least 1")
                value = tuple(range(value))
            elif not isinstance(value, tuple):
                value = (value,)
            if not value:
                raise UsageError(f"{field} is empty; give at least one")
            if repeated := [item for i, item in enumerate(value) if item in value[:i]]:
                raise UsageError(f"{field} names {repeated[0]!r} twice")
            object.__setattr__(self, field, value)
        if isinstance(self.n, int):
            object.__setattr__(self, "n", str(self.n))
        if self.architectures == ("all",):
            object.__setattr__(self, "architectures", zoo.names())
        for field, choices in (
            ("classifiers", CLASSIFIERS),
            ("input", INPUTS),
            ("scaling", SCALINGS),
            ("protocol", PROTOCOLS),
            ("selection", SELECTIONS),
            ("fit", loader.FITS),
        ):
            value = getattr(self, field)
            for item in value if isinstance(value, tuple) else (value,):
                if item not in choices:
                    raise UsageError(f"{field}={item!r} is not one of {', '.join(choices)}")
        if any(seed < 0 for seed in self.seeds):
            raise UsageError(f"seeds={min(self.seeds)} must not be negative")
        if self.seconds is not None and not 0 < self.seconds < 86_400:
            raise UsageError(f"seconds={self.seconds} must be positive, and less than a day")
        _widths(self)

    @property
    def num_samples(self) -> int:
        """Samples of every clip after fitting."""
        return round((self.seconds or STUDY_SECONDS) * SAMPLE_RATE)

    def sources(self) -> list:
        """The data sets, opened but not decoded.

        Raises:
          UsageError: an unknown name, or two data sets of one name.
          ValueError: a folder or manifest that cannot be used.
        """
        from mirjax.data import dataset

        sources = []
        for name in self.data:
            if name not in catalogue.names() and not Path(name).exists():
                known = config.nearest(name, catalogue.names())
                raise UsageError(f"data={name!r} is no known data set, folder or manifest; nearest: {known}")
            sources.append(dataset.open_source(name, data_dir=self.data_dir, group=self.group))
        names = [source.facts.name for source in sources]
        if twice := [name for i, name in enumerate(names) if name in names[:i]]:
            raise UsageError(f"two data sets are called {twice[0]!r}; rename one folder")
        return sources

    def networks(self) -> list[cells.Architecture]:
        """The networks to be screened, built."""
        built = []
        for architecture, width, n in _widths(self):
            if isinstance(architecture, str):
                module = zoo.build(architecture, n, legacy_collapse=self.legacy_collapse)
                built.append(cells.Architecture(architecture, width, n, module))
            else:
                name = f"{type(architecture.front_end).__name__}-{config.digest(repr(architecture), 6)}"
                built.append(cells.Architecture(name, None, None, architecture))
        return built

    def smoke(self) -> "Screening":
        """The same study, tiny: one architecture, one seed, embedded data."""
        return dataclasses.replace(
            self,
            data=("rhythm_small",),
            architectures=("temporal",),
            n=None,
            seeds=1,
            classifiers=("elm",),
            seconds=6.0,
            group=None,
            protocol="auto",
            selection="auto",
        )

    def settings(self) -> dict:
        """What a run folder remembers, as JSON values; where things lie is not part of it."""
        return {key: value for key, value in config.to_dict(self).items() if key not in _ELSEWHERE}

    def default_workdir(self) -> Path:
        """`runs/NAME-FINGERPRINT`; what may grow in place does not count."""
        fixed = {key: value for key, value in self.settings().items() if key not in cells.GROWING}
        return Path("runs") / f"{self.name}-{config.digest(fixed)}"

    def run(self, workdir: str | Path | None = None, *, progress: bool = True) -> list[dict]:
        """Compute what is missing and return the records of this screening.

        Args:
          workdir: the run folder; `self.workdir`, else `default_workdir()`, when None.
          progress: show progress bars.

        Returns:
          Records in the order of the run folder (CONTRACT: "What a run leaves"); with `dry_run`, none.

        Raises:
          UsageError: something unknown was asked for.
          ValueError: data that cannot be used; a run folder of another configuration, which is left as it is.
        """
        sources = self.sources()
        if self.dry_run:
            return []
        return cells.Run(self, sources, progress).execute(Path(workdir or self.workdir or self.default_workdir()))

    def forecast(self) -> str:
        """What a run would compute, with estimated time and memory, from shapes alone."""
        return _forecast(self, self.sources())

    def report(self, workdirs, out: str | Path | None = None):
        """Tables and figures of run folders, from their records (`report.build_report`)."""
        from mirjax.experiments import report

        return report.build_report(workdirs, out)

    def features(self, *, progress: bool = True) -> dict[str, np.ndarray]:
        """The features themselves, of all data sets, architectures and seeds.

        Returns:
          `features` f32[M, D], `ids` [M], `datasets` [M], `labels` [M] and `names` [D], a column's name being
          `architecture/n/seed/layer/channel`.

        Raises:
          ValueError: as `run`; an input standardised per fold, of which there is no single table.
        """
        if "standardised_train" in self.input:
            raise UsageError("input=standardised_train differs by fold; ask for features of raw or standardised input")
        return cells.Run(self, self.sources(), progress).tables()


def _widths(screening: Screening) -> list[tuple[object, int | None, int | None]]:
    """(architecture, width, n) of every network, from `architectures`, `width` and `n`."""
    names = [name for name in screening.architectures if isinstance(name, str)]
    for name in names:
        try:
            zoo.lookup(name)
        except ValueError as error:
            raise UsageError(str(error)) from None
    free = {}
    for part in (screening.n or "").split(","):
        name, colon, number = part.strip().rpartition(":")
        if not part.strip():
            continue
        if not colon:
            if len(screening.architectures) != 1 or not names:
                raise UsageError(f"n={number} is for one architecture; for several write n=vgg:24,sample:17")
            name = names[0]
        if name not in names:
            raise UsageError(f"n names {name!r}, which is not screened; nearest: {config.nearest(name, names)}")
        if not number.isdigit() or not 1 <= int(number) <= 10_000:
            raise UsageError(f"n={part.strip()!r}: {number!r} must be a whole number from 1 to 10000")
        free[name] = int(number)
    networks = []
    for architecture in screening.architectures:
        if not isinstance(architecture, str):
            networks.append((architecture, None, None))
        elif architecture in free:
            networks.append((architecture, None, free[architecture]))
        else:
            for width in screening.width:
                try:
                    networks.append((architecture, width, zoo.num_filters(architecture, width)))
                except ValueError as error:
                    raise UsageError(str(error)) from None
    return networks


def _forecast(screening: Screening, sources) -> str:
    """Cells, estimated time and memory, from shapes alone."""
    from mirjax import features

    networks = screening.networks()
    clips = sum(len(source) for source in sources)
    repeats = len(screening.input) * len(screening.seeds)
    lines, total = [], 0.0
    for network in networks:
        gflops = features.gigaflops(network.module, screening.num_samples)
        weights = 4e-6 * features.num_parameters(network.module, screening.num_samples) * len(screening.seeds)
        seconds = clips * repeats * (0.004 + gflops / 50)  # 50 GFLOP/s: two cores of a laptop
        total += seconds
        lines.append(
            f"  {network.name:18s} n={network.n}  {gflops:9.3f} GFLOP a clip  about {seconds:8.1f} s"
            f"  about {200 + weights:6.0f} MB"
        )
    num_cells = len(networks) * repeats * len(screening.scaling) * len(screening.classifiers) * len(sources)
    return "\n".join(
        [
            f"{num_cells} cells: {len(sources)} data sets ({clips} clips) × {len(networks)} networks × {repeats} inputs"
            f" and seeds × {len(screening.scaling)} scalings × {len(screening.classifiers)} classifiers",
            *lines,
            f"about {total / 60:.1f} minutes of feature extraction on two cores, and classification beside it",
        ]
    )

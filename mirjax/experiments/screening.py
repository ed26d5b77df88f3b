"""Screening: rank architectures without training them.

Randomly weighted networks make features, a closed-form or grid-searched classifier scores them on every fold, and each
score becomes a record as soon as it is known. A run that was interrupted, or repeated with more seeds, architectures,
classifiers or data sets, goes on where it stands.

Source: Pons & Serra, "Randomly weighted CNNs for (music) audio classification", ICASSP 2019.
Names: `Screening`.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path

import numpy as np

from mirjax import classifiers, config
from mirjax.config import UsageError
from mirjax.data import catalogue, loader
from mirjax.experiments import cells, screening_run, shards
from mirjax.experiments.cells import SAMPLE_RATE
from mirjax.experiments.experiment import Experiment
from mirjax.models import zoo

CLASSIFIERS = tuple(classifiers.GRIDS)
INPUTS = ("raw", "standardised", "standardised_train")
SCALINGS = ("none", "standard")
PROTOCOLS = ("auto", "cv", "split")
SELECTIONS = ("auto", "nested", "validation", "legacy")
STUDY_SECONDS = 350_000 / SAMPLE_RATE  # 29.17 s

_LISTS = ("data", "architectures", "width", "seeds", "classifiers", "input", "scaling")
_ELSEWHERE = ("data_dir", "cache", "workdir", "strict", "dry_run", "processes", "shard")


@dataclasses.dataclass(frozen=True)
class Screening(Experiment):
    """A screening of untrained architectures.

    Attributes:
      name: names the run folder.
      data: embedded names, prepared TFDS names, folders (`class/clip`), manifest files.
      architectures: names of the zoo, or Linen modules (`taggers.Model`); `all` are the ten of the study, `zoo` is
        every network that can be screened (one of those whose untrained features are equal), a family's name
        (`list architectures`) its members among them.
      width: 120 or 3500 features, nearly: the n of ARCHITECTURES table 1.6.
      layers: names of the maps that make the features; every network's own choice when empty.
      n: free width parameter: a number for one architecture, or `vgg:24,sample:17`.
      seeds: N for seeds 0…N−1, or a list of seeds.
      classifiers: names of `mirjax.classifiers.GRIDS`: `elm` (the study's), `svm`, `knn`, `elm_ridge`, …
      input: `raw`; `standardised` (one scalar mean and deviation over the whole set: transductive);
        `standardised_train` (per fold, from its training clips).
      scaling: of the features: `none`, or `standard` (by training clips).
      protocol: `auto`, `cv`, `split`.
      selection: of hyper-parameters: `nested` (default with folds), `validation` (default with a split), `legacy`
        (the best score on the test folds, as in the study).
      group: metadata column that must not straddle a fold; `none` to ask for a random split by name.
      seconds: clip length of the networks; the study's 350,000 samples (29.17 s) when None.
      fit: how a shorter waveform gets there: `repeat` or `zero`. (A clip of that length which is too short for a
        network is repeated up to the length the network was published for.)
      legacy_collapse: average the frame-level networks' extra layers as the released code does.
      strict: stop at the first faulty file instead of leaving it out.
      dry_run: print what would be computed, and compute nothing.
      data_dir: where prepared sets lie.
      cache: where decoded audio and features lie; the user's cache folder when None.
      workdir: where the run lies; `runs/NAME-FINGERPRINT` when None.
      processes: of `launch.py run`: so many on this machine compute a part each; one run folder comes of it.
      shard: compute one part of several, as `2/8`, in a run folder of its own: WORKDIR-shard-2-of-8. The whole, run
        afterwards, takes over what the parts left beside it.
    """

    communicates = False  # its processes need nothing of each other

    name: str = "screening"
    data: tuple[str, ...] = ("digits_small", "rhythm_small")
    architectures: tuple[str, ...] = ("all",)
    width: tuple[int, ...] = (120,)
    n: str | None = None
    layers: tuple[str, ...] = ()
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
    processes: int | None = None
    shard: str | None = None

    growing = cells.GROWING

    def __post_init__(self):
        for field in _LISTS:
            object.__setattr__(self, field, as_tuple(field, getattr(self, field)))
        if self.layers:
            object.__setattr__(self, "layers", as_tuple("layers", self.layers))
        if self.n is not None and not isinstance(self.n, str):
            pairs = self.n.items() if isinstance(self.n, Mapping) else [("", self.n)]
            object.__setattr__(self, "n", ",".join(f"{name}:{n}".removeprefix(":") for name, n in pairs))
        object.__setattr__(self, "architectures", _expanded(self.architectures))
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
        for architecture in self.architectures:
            if not isinstance(architecture, str) and not hasattr(architecture, "feature_layers"):
                raise UsageError(f"architecture {architecture!r} is neither a name nor a `models.taggers.Network`")
        for seed in self.seeds:
            if not 0 <= seed < 2**32:
                raise UsageError(f"seeds={seed} must lie from 0 to 2³² − 1")
        if self.seconds is not None and not (
            isinstance(self.seconds, Real) and 1 / SAMPLE_RATE <= self.seconds < 86_400
        ):
            raise UsageError(f"seconds={self.seconds} must be positive (a sample or more), and less than a day")
        if self.processes is not None and not (isinstance(self.processes, Integral) and self.processes >= 1):
            raise UsageError(f"processes={self.processes!r} must be a whole number, at least 1")
        if self.shard is not None:
            shards.parse(self.shard)
            if (self.processes or 1) > 1:
                raise UsageError(f"processes={self.processes} and shard={self.shard} both divide; give one of them")
        _widths(self)

    @property
    def num_samples(self) -> int:
        """Samples of every clip after fitting, at the study's 12 kHz."""
        return self.samples_at(SAMPLE_RATE)

    def samples_at(self, sample_rate: int) -> int:
        """Samples of a clip at the sample rate of a network."""
        return round((self.seconds or STUDY_SECONDS) * sample_rate)

    def sources(self) -> list:
        """The data sets, opened but not decoded.

        Raises:
          UsageError: an unknown name, or two data sets of one name.
          ValueError: a folder or manifest that cannot be used.
        """
        return open_sources(self.data, self.data_dir, self.group)

    def networks(self) -> list[cells.Architecture]:
        """The networks to be screened, built."""
        from mirjax import features
        from mirjax.models import space

        built = []
        for architecture, width, n in _widths(self):
            module = architecture
            if is_of_space(architecture):
                module = space.build(architecture)
            elif isinstance(architecture, str):
                collapses = self.legacy_collapse and architecture in zoo.COLLAPSING
                module = zoo.build(architecture, n, **({"legacy_collapse": True} if collapses else {}))
            num_samples = self.samples_at(getattr(module.representation, "sample_rate", SAMPLE_RATE))
            if self.layers:
                try:
                    module = features.select(module, self.layers)
                except ValueError as error:
                    raise UsageError(f"{name_of(architecture)}: {error}") from None
            built.append(cells.Architecture(name_of(architecture), width, n, module, num_samples))
        return built

    def smoke(self) -> "Screening":
        """The same study, tiny: one architecture, one seed, embedded data."""
        return dataclasses.replace(
            self,
            data=("rhythm_small",),
            architectures=("temporal",),
            n=None,
            layers=(),
            seeds=1,
            classifiers=("elm",),
            seconds=6.0,
            group=None,
            protocol="auto",
            selection="auto",
            processes=None,
            shard=None,
        )

    def settings(self) -> dict:
        """What a run folder remembers, as JSON values; where things lie is not part of it."""
        networks: dict[str, list] = {}
        for architecture, _, n in _widths(self):
            networks.setdefault(name_of(architecture), []).append(n)
        kept = [field.name for field in dataclasses.fields(self) if field.name not in _ELSEWHERE]
        settings = {name: getattr(self, name) for name in kept}
        return config.plain(settings | {"architectures": list(networks), "n": networks})

    def check(self) -> None:
        """Refuse several processes where there is one, and names that are none of the space."""
        check_space(self.architectures)
        if (self.processes or 1) > 1 and not self.dry_run:
            raise UsageError(f"processes={self.processes} is for `launch.py run`; from Python run parts: shard='1/4' …")

    def place(self, workdir: Path) -> Path:
        """The run folder, or that of a part beside it."""
        return workdir if self.shard is None else shards.folder(workdir, self.shard)

    def worker(self, sources: list, progress: bool) -> screening_run.Run:
        """What computes the cells."""
        return screening_run.Run(self, sources, progress)

    def as_part(self, rank: int, count: int) -> "Screening":
        """What process `rank` of `count` computes: its part, unless a part was asked for."""
        return dataclasses.replace(self, processes=None, shard=self.shard or f"{rank + 1}/{count}")

    def gather(self, count: int, *, progress: bool = True) -> tuple[list[dict], Path]:
        """As `execute`, once `count` parts are done: takes over their cells, and removes their folders."""
        whole = dataclasses.replace(self, processes=None, shard=None)
        records, used = whole.execute(progress=progress)
        shards.discard(Path(self.workdir or self.default_workdir()), used, count)
        return records, used

    def forecast(self) -> str:
        """What a run would compute, with estimated time and memory, from shapes alone."""
        return _forecast(self, self.sources())

    def features(self, *, progress: bool = True) -> dict[str, np.ndarray]:
        """The features themselves, of all data sets, architectures and seeds.

        Returns:
          `features` f32[M, D], `ids` [M], `datasets` [M], `labels` [M] and `names` [D], a column's name being
          `architecture/n/input/seed/layer/channel`.

        Raises:
          ValueError: as `run`; an input standardised per fold, of which there is no single table.
        """
        if self.shard is not None:
            raise UsageError(f"shard={self.shard}: parts hold records; the table of features is made in one piece")
        if "standardised_train" in self.input:
            raise UsageError("input=standardised_train differs by fold; ask for features of raw or standardised input")
        return screening_run.Run(self, self.sources(), progress).tables()


def open_sources(data, data_dir, group) -> list:
    """Data sets by name, opened but not decoded; raises as `Screening.sources`."""
    from mirjax.data import dataset

    sources = []
    for name in data:
        if name not in catalogue.names() and not Path(name).exists():
            known = config.nearest(name, catalogue.names())
            raise UsageError(f"data={name!r} is no known data set, folder or manifest; nearest: {known}")
        sources.append(dataset.open_source(name, data_dir=data_dir, group=group))
    names = [source.facts.name for source in sources]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise UsageError(f"two data sets are called {twice[0]!r}; rename one folder")
    return sources


def as_tuple(field: str, value) -> tuple:
    """A list field as a tuple: from text with commas, one value or several; seeds=N are the seeds 0…N−1."""
    if field == "seeds":
        if isinstance(value, str):
            value = config.parse(value, int | tuple[int, ...], "seeds")
        if isinstance(value, Integral):
            if value < 1:
                raise UsageError(f"seeds={value} must be at least 1")
            value = range(value)
        value = tuple(value) if isinstance(value, Iterable) else (value,)
        if not all(isinstance(seed, Integral) for seed in value):
            raise UsageError(f"seeds={value!r} must be a number of seeds, or whole numbers")
        value = tuple(int(seed) for seed in value)
    elif isinstance(value, str):
        value = tuple(part.strip() for part in value.split(",") if part.strip())
    elif isinstance(value, list | tuple):
        value = tuple(value)
    else:
        value = (value,)
    if not value:
        raise UsageError(f"{field} is empty; give at least one")
    if repeated := [item for i, item in enumerate(value) if item in value[:i]]:
        raise UsageError(f"{field} names {repeated[0]!r} twice")
    return value


def _expanded(architectures: tuple) -> tuple:
    """Names of groups replaced by their members: `all` (the study's ten), `zoo`, families; each network once."""
    screened = zoo.screened()
    families = {family: tuple(n for n in members if n in screened) for family, members in zoo.families().items()}
    groups = families | {"all": zoo.STUDY, "zoo": screened}
    members = []
    for each in architectures:
        found = groups.get(each, (each,)) if isinstance(each, str) else (each,)
        members += [member for member in found if member not in members]
    return tuple(members)


def is_of_space(architecture) -> bool:
    """Whether this is a name of `mirjax.models.space`, which is checked when it is built: `space/…` or `vgg-n24`."""
    if not isinstance(architecture, str):
        return False
    study, _, n = architecture.rpartition("-n")
    return architecture.startswith("space/") or (study in zoo.STUDY and n.isdecimal())


def check_space(architectures) -> None:
    """Refuse names that are none of `mirjax.models.space`, which takes JAX to know.

    Raises:
      UsageError: such a name.
    """
    from mirjax.models import space

    for architecture in filter(is_of_space, architectures):
        try:
            space.parse(architecture)
        except ValueError as error:
            raise UsageError(str(error)) from None


def name_of(architecture) -> str:
    """Name of an architecture in records; that of a module tells its type and a digest of its fields."""
    if isinstance(architecture, str):
        return architecture
    part = getattr(architecture, "front_end", architecture)
    return f"{type(part).__name__}-{config.digest(repr(architecture), 6)}"


def _widths(screening: Screening) -> list[tuple[object, int | None, int | None]]:
    """(architecture, width, n) of every network, from `architectures`, `width` and `n`."""
    names = [name for name in screening.architectures if isinstance(name, str) and not is_of_space(name)]
    for name in names:
        try:
            entry = zoo.lookup(name)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if entry.not_screened:
            raise UsageError(f"architectures={name!r} cannot be screened: {entry.not_screened}")
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
        if not (number.isascii() and number.isdigit() and 1 <= int(number) <= 10_000):
            raise UsageError(f"n={part.strip()!r}: {number!r} must be a whole number from 1 to 10000")
        if name in free:
            raise UsageError(f"n names {name!r} twice")
        free[name] = int(number)
    networks = []
    for architecture in screening.architectures:
        if not isinstance(architecture, str) or is_of_space(architecture):
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
        gflops = features.gigaflops(network.module, network.num_samples)
        weights = 4e-6 * features.num_parameters(network.module, network.num_samples) * len(screening.seeds)
        seconds = clips * repeats * shards.extraction_seconds(gflops)
        total += seconds
        lines.append(
            f"  {network.name:18s} n={network.n}  {gflops:9.3f} GFLOP a clip  about {seconds:8.1f} s"
            f"  about {200 + weights:6.0f} MB"
        )
    tables = len(screening.scaling) * len(screening.classifiers)
    drawing = len(set(screening.classifiers) - set(classifiers.DETERMINISTIC))
    baselines = 2 + len(screening.scaling) * (drawing * len(screening.seeds) + len(screening.classifiers) - drawing)
    num_cells = len(sources) * (len(networks) * repeats * tables + baselines)
    return "\n".join(
        [
            f"{num_cells} cells: {len(sources)} data sets ({clips} clips) × {len(networks)} networks × {repeats} inputs"
            f" and seeds × {tables} scalings and classifiers, and {baselines} of mfcc, majority and chance",
            *lines,
            f"about {total / 60:.1f} minutes of feature extraction on two cores, and classification beside it",
        ]
    )

"""The batch-norm experiment: an untrained network with batch statistics sees the company that a clip is in.

A VGG without training has no running averages, so its batch normalisation can only use the batch at hand. When clips
come sorted by class, all clips of a batch, test clips included, are shifted by statistics that belong to their class:
the labels leak into the features. Where these shifts differ more between classes than clips do within them, scores
rise, most when a batch is a whole class; where they do not, scores fall, even below chance, because the test clips of a
class then balance its training clips around one common mean. Shuffled batches leak nothing, though the score may still
depend on their size. Without batch norm a clip's features are the same in any batch.

Convention: a *curve* is one way of filling batches (sorted by class and then by id; shuffled, anew for every seed;
without batch norm), an accuracy f64[B, S] for each of B batch sizes and S seeds. Batches are cut from the whole data
set in that order, training and test clips alike, and the last, smaller one keeps its real size. Without batch norm the
features are really extracted in those batches too, so that their sameness is measured and not assumed.

Source: J. Pons (2019), thesis, section 4.2 and figure 4.5; ARCHITECTURES §5.5, §5.7.
Names: `BatchNormStudy`, `order_clips`, `batch_features`; its report is in `batchnorm_report`.
"""

import dataclasses
import functools
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mirjax import config
from mirjax.config import UsageError
from mirjax.data import loader
from mirjax.experiments import cells, screening, screening_run
from mirjax.experiments.experiment import Experiment
from mirjax.experiments.store import BLOCK

ORDERS = ("sorted", "shuffled")
WITHOUT = "without batch norm"

_ELSEWHERE = ("data_dir", "cache", "workdir", "strict", "dry_run")


@dataclasses.dataclass(frozen=True)
class BatchNormStudy(Experiment):
    """Accuracy of an untrained VGG with batch statistics, by batch size and order of the clips.

    Attributes:
      name: names the run folder.
      data: embedded names, prepared TFDS names, folders (`class/clip`), manifest files.
      n: filters of every layer.
      seeds: N for seeds 0…N−1, or a list of seeds; of the weights and of the shuffle.
      batch_sizes: 1, 2, 5, 10, 20, 50, … up to the clips of the smallest class, that number included, when None.
      orders: how batches are filled: `sorted`, `shuffled`; without batch norm the first of them is taken.
      scaling: of the features: `none`, or `standard` (by training clips).
      protocol: `auto`, `cv`, `split`.
      selection: of the SVM's setting: `auto`, `nested`, `validation`, `legacy`, as in a screening.
      group: metadata column that must not straddle a fold; `none` to ask for a random split by name.
      seconds: clip length; the study's 350,000 samples (29.17 s) when None.
      fit: how a shorter waveform gets there: `repeat` or `zero`.
      strict: stop at the first faulty file instead of leaving it out.
      dry_run: print what would be computed, and compute nothing.
      data_dir: where prepared sets lie.
      cache: where decoded audio and features lie; the user's cache folder when None.
      workdir: where the run lies; `runs/NAME-FINGERPRINT` when None.
    """

    name: str = "batchnorm"
    data: tuple[str, ...] = ("rhythm_small",)
    n: int = 32
    seeds: int | tuple[int, ...] = 3
    batch_sizes: tuple[int, ...] | None = None
    orders: tuple[str, ...] = ORDERS
    scaling: tuple[str, ...] = ("none",)
    protocol: str = "auto"
    selection: str = "auto"
    group: str | None = None
    seconds: float | None = None
    fit: str = "repeat"
    strict: bool = False
    dry_run: bool = False
    data_dir: str | None = None
    cache: str | None = None
    workdir: str | None = None

    growing = ("data", "seeds")

    def __post_init__(self):
        for field in ("orders", "batch_sizes"):
            value = getattr(self, field)
            if value is not None:
                object.__setattr__(self, field, (value,) if isinstance(value, str | int) else tuple(value))
        for field in ("data", "seeds", "scaling"):  # a screening checks and completes what it has too
            object.__setattr__(self, field, getattr(self._screening, field))
        for order in self.orders:
            if order not in ORDERS:
                raise UsageError(f"orders={order!r} is not one of {', '.join(ORDERS)}")
        for field in ("orders", "batch_sizes"):
            value = getattr(self, field)
            if value is not None and (not value or len(set(value)) < len(value)):
                raise UsageError(f"{field}={value!r} must name at least one, and none twice")
        if self.batch_sizes is not None:
            if min(self.batch_sizes) < 1:
                raise UsageError(f"batch_sizes={min(self.batch_sizes)} must be at least 1")
            object.__setattr__(self, "batch_sizes", tuple(sorted(self.batch_sizes)))

    @property
    def _screening(self) -> screening.Screening:
        """The screening of the same clips by the plain network."""
        shared = ("data", "seeds", "scaling", "protocol", "selection", "group", "seconds", "fit", "data_dir")
        return screening.Screening(
            architectures=("vgg",),
            n=str(self.n),
            classifiers=("svm",),
            **{field: getattr(self, field) for field in shared},
        )

    @property
    def num_samples(self) -> int:
        """Samples of every clip after fitting."""
        return self._screening.num_samples

    def sources(self) -> list:
        """The data sets, opened but not decoded; raises as a screening's."""
        return self._screening.sources()

    def networks(self) -> list[cells.Architecture]:
        """The network with batch norm, and without; under one seed their weights are the same."""
        plain = self._screening.networks()[0]
        normalised = plain.module.clone(front_end=plain.module.front_end.clone(batch_norm=True))
        return [dataclasses.replace(plain, module=normalised), plain]

    def sizes(self, labels) -> tuple[int, ...]:
        """The batch sizes for clips of these labels.

        Raises:
          UsageError: a batch size above the number of clips.
        """
        least = min(Counter(map(str, labels)).values())
        if self.batch_sizes is None:
            steps = (digit * 10**power for power in itertools.count() for digit in (1, 2, 5))
            return (*itertools.takewhile(lambda step: step < least, steps), least)
        if self.batch_sizes[-1] > len(labels):
            raise UsageError(
                f"batch_sizes={self.batch_sizes[-1]} is more than the {len(labels)} clips there are; its smallest "
                f"class has {least}"
            )
        return self.batch_sizes

    def smoke(self) -> "BatchNormStudy":
        """The same study, tiny: embedded data, few filters, single clips against whole classes."""
        return dataclasses.replace(
            self,
            data=("rhythm_small",),
            n=4,
            seeds=2,
            batch_sizes=(1, 9),
            orders=("sorted",),
            scaling=("standard",),
            seconds=12.0,
            group=None,
            protocol="auto",
            selection="auto",
        )

    def settings(self) -> dict:
        """What a run folder remembers, as JSON values; where things lie is not part of it."""
        kept = [field.name for field in dataclasses.fields(self) if field.name not in _ELSEWHERE]
        return config.plain({name: getattr(self, name) for name in kept})

    def worker(self, sources: list, progress: bool) -> screening_run.Run:
        """What computes the study; `options` of its records tell batch_norm, batch_size and order."""
        return _Run(self, sources, progress)

    def forecast(self) -> str:
        """What a run would compute, with estimated time and memory, from shapes alone."""
        from mirjax import features

        gflops = features.gigaflops(self.networks()[0].module, self.num_samples)
        lines, num_cells, num_tables = [], 0, 0
        seconds = 0.0
        for source in self.sources():
            sizes = self.sizes(source.labels)
            tables = len(sizes) * (len(self.orders) + 1) * len(self.seeds)
            seconds += tables * len(source) * (0.01 + gflops / 50)  # 50 GFLOP/s: two cores of a laptop
            megabytes = 400 + 6 * max(sizes) * self.n / 32
            lines.append(
                f"  {source.facts.name}: {len(source)} clips in batches of {', '.join(map(str, sizes))}; about "
                f"{megabytes:.0f} MB"
            )
            num_cells, num_tables = num_cells + tables * len(self.scaling), num_tables + tables
        return "\n".join(
            [
                f"{num_cells} cells: {num_tables} feature tables ({len(self.orders)} orders and without batch norm, "
                f"{len(self.seeds)} seeds), {len(self.scaling)} scalings, SVM",
                *lines,
                f"about {seconds / 60:.1f} minutes of feature extraction on two cores, classification beside it",
            ]
        )

    def report(self, workdirs: Sequence, out: str | Path | None = None):
        """Tables and the figure of run folders, from their records (`batchnorm_report.build_report`)."""
        from mirjax.experiments import batchnorm_report

        return batchnorm_report.build_report(workdirs, out)


# ── the work ──────────────────────────────────────────────────────────────────────────────────────


def order_clips(ids, labels, order: str, seed: int) -> np.ndarray:
    """Clip numbers int[M] in the order in which batches are cut: by class and id, or a permutation of that."""
    by_class = np.lexsort((ids, labels))
    return by_class if order == "sorted" else by_class[np.random.default_rng(seed).permutation(len(by_class))]


def batch_features(module, variables, batches) -> np.ndarray:
    """Features of clips in the batches they come in: f32[M, D].

    Args:
      module: a `taggers.Network`; one with batch norm sees each batch as a whole.
      variables: its variables.
      batches: as of `loader.batches`; rows outside the mask enter no statistics.
    """
    from mirjax import features

    if not module.front_end.batch_norm:
        return features.extract(module, variables, batches)
    represent, embed = _compiled(module)
    rows = []
    for batch in batches:
        clips = batch["audio"][batch["mask"]]
        # One clip at a time, as without batch norm: a program of one shape.
        rows.append(np.asarray(embed(variables, np.stack([np.asarray(represent(clip)) for clip in clips]))))
    return np.concatenate(rows)


@functools.lru_cache(maxsize=8)
def _compiled(module):
    import jax
    import jax.numpy as jnp

    from mirjax import features

    def embed(variables, x):
        return jnp.concatenate(list(features.layer_means(module, variables, x).values()), axis=-1)

    return jax.jit(module.representation), jax.jit(embed)


class _Run(screening_run.Run):
    """The study at work; `screening` is the study."""

    def cells(self, clips) -> Iterator[cells.Cell]:
        study = self.screening
        shared = {"seconds": round(study.num_samples / cells.SAMPLE_RATE, 6), "fit": study.fit}
        normalised, plain = self.networks
        for network, order in [*((normalised, order) for order in study.orders), (plain, study.orders[0])]:
            for size in study.sizes(clips.labels):
                options = {"batch_norm": network is normalised, "batch_size": size, "order": order} | shared
                for seed in study.seeds:
                    for scaling in study.scaling:
                        yield cells.Cell(network.name, network, "raw", options, seed, "svm", scaling)

    def compute(self, clips, partition, todo, bar):
        for _, group in itertools.groupby(todo, key=lambda item: (item[0].options, item[0].seed)):
            group = list(group)
            cell = group[0][0]
            order = cell.options["order"] if cell.options["batch_norm"] else WITHOUT
            bar.set_postfix_str(f"{clips.name} {order}, batches of {cell.options['batch_size']}")
            table = self.table(clips, cell)
            for cell, prints in group:
                yield cell, *self.classify(cell, clips, partition, [table], prints)

    def table(self, clips, cell) -> tuple[np.ndarray, float]:
        """Features f32[M, D] of one cell and seconds a clip; blocks of whole batches are stored."""
        import jax

        from mirjax import features

        module, size = cell.network.module, cell.options["batch_size"]
        order = order_clips(clips.ids, clips.labels, cell.options["order"], cell.seed)
        key = config.digest(
            [cells.NUMBERS, self.versions, clips.content_hash, cell.network.program, cell.options, cell.seed], 32
        )
        variables, rows, seconds = None, [], 0.0
        step = size * -(-BLOCK // size)
        for start in range(0, len(order), step):
            block = self.store.get(key, start)
            if block is None:
                if variables is None:
                    variables = features.initialise(module, jax.random.key(cell.seed), self.screening.num_samples)
                batches = loader.batches(
                    clips,
                    num_samples=self.screening.num_samples,
                    fit=self.screening.fit,
                    batch_size=size,
                    indices=order[start : start + step],
                )
                began = time.perf_counter()
                values = batch_features(module, variables, batches)
                if not np.isfinite(values).all():
                    raise ValueError(f"{cell.architecture} seed {cell.seed} on {clips.name}: features are not finite")
                block = values, (time.perf_counter() - began) / len(values)
                self.store.put(key, start, *block)
            rows.append(block[0])
            seconds += block[1] * len(block[0])
        values = np.concatenate(rows)
        table = np.empty_like(values)
        table[order] = values
        return table, seconds / len(order)

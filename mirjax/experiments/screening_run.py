"""The work of a screening: features of untrained networks, and the scores of closed-form classifiers on them.

Cells of one network and input share its features; blocks of features that are stored are not computed again.
Names: `Run`, `accuracies`, `select`.
"""

import itertools
import time
from collections.abc import Iterator

import numpy as np

from mirjax import config, metrics
from mirjax.classifiers import DETERMINISTIC
from mirjax.experiments import cells
from mirjax.experiments.cells import NUMBERS, SAMPLE_RATE, Architecture, Cell, prediction_rows
from mirjax.experiments.store import BLOCK
from mirjax.models import zoo


class Run(cells.Run):
    """A screening at work."""

    def cells(self, clips) -> Iterator[Cell]:
        """All cells of a data set: chance and majority, the MFCC baseline, then the networks."""
        screening = self.screening
        for name in ("chance", "majority"):
            yield Cell(name, None, "raw", {}, 0, "none", "none")
        for scaling in screening.scaling:
            for classifier in screening.classifiers:
                for seed in (0,) if classifier in DETERMINISTIC else screening.seeds:
                    yield Cell("mfcc", None, "raw", {}, seed, classifier, scaling)
        for network in self.networks:
            options = {"seconds": round(screening.num_samples / SAMPLE_RATE, 6), "fit": screening.fit}
            if screening.legacy_collapse and network.name in zoo.COLLAPSING:
                options["legacy_collapse"] = True
            if screening.layers:
                options["layers"] = list(screening.layers)
            for kind in screening.input:
                for seed in screening.seeds:
                    for scaling in screening.scaling:
                        for classifier in screening.classifiers:
                            yield Cell(network.name, network, kind, options, seed, classifier, scaling)

    # ── features ──────────────────────────────────────────────────────────────────────────────────

    def mfcc(self, clips) -> tuple[np.ndarray, float]:
        """The MFCC baseline of all clips f32[M, 120], and seconds a clip."""
        from mirjax import features

        key = config.digest([NUMBERS, self.versions, clips.content_hash, "mfcc"], 32)
        return self.by_clip(key, clips, lambda audio: features.mfcc_features([audio], sample_rate=SAMPLE_RATE)[0])

    def by_clip(self, key: str, clips, describe) -> tuple[np.ndarray, float]:
        """What `describe` makes of the audio of each clip, f32[M, D], and seconds a clip; stored blocks are taken."""
        rows, seconds = [], 0.0
        for start in range(0, len(clips), BLOCK):
            block = self.store.get(key, start)
            if block is None:
                values, durations = [], []
                for i in range(start, min(start + BLOCK, len(clips))):
                    began = time.perf_counter()
                    values.append(describe(clips.audio(i)))
                    durations.append(time.perf_counter() - began)
                # The median leaves out the clips whose length was new and had to be compiled for.
                block = np.stack(values), float(np.median(durations))
                self.store.put(key, start, *block)
            rows.append(block[0])
            seconds += block[1] * len(block[0])
        return np.concatenate(rows), seconds / len(clips)

    def moments(self, network: Architecture, clips, indices=None) -> tuple[float, float]:
        """Mean and deviation of the representation over clips (all, or some)."""
        from mirjax import features

        key = (clips.name, network.module.representation)
        if key not in self._sums:
            self._sums[key] = features.representation_sums(network.module, self.batches(clips, network))
        sums = self._sums[key]
        mean, deviation = features.moments(sums if indices is None else [sums[i] for i in indices])
        if deviation == 0:
            raise ValueError(f"{clips.name}: every clip's input is constant; nothing to standardise, use input=raw")
        return mean, deviation

    def network_features(self, network, clips, seeds, moments) -> dict[int, tuple[np.ndarray, float]]:
        """Features f32[M, D] and seconds a clip, for every seed; blocks that are stored are not computed."""
        import jax

        from mirjax import features

        screening = self.screening
        identity = [
            NUMBERS,
            self.versions,
            clips.content_hash,
            network.program,
            network.num_samples,
            network.sample_rate,
            screening.fit,
        ]
        keys = {seed: config.digest([*identity, list(moments), seed], 32) for seed in seeds}
        found = {seed: [] for seed in seeds}
        trees = {}
        for start in range(0, len(clips), BLOCK):
            stored = {seed: self.store.get(keys[seed], start) for seed in seeds}
            missing = [seed for seed in seeds if stored[seed] is None]
            for seed in missing:
                if seed not in trees:
                    trees[seed] = features.initialise(network.module, jax.random.key(seed), network.num_samples)
            if missing:
                indices = range(start, min(start + BLOCK, len(clips)))

                def extract(indices, chosen):
                    batches = self.batches(clips, network, indices)
                    return features.extract_each(
                        network.module, [trees[seed] for seed in chosen], batches, moments=moments
                    )

                if start == 0:
                    extract(indices[:1], missing[:1])  # compiles, so that seconds are those of the work
                began = time.perf_counter()
                values = extract(indices, missing)
                seconds = (time.perf_counter() - began) / (len(indices) * len(missing))
                for seed, rows in zip(missing, values, strict=True):
                    if not np.isfinite(rows).all():
                        raise ValueError(f"{network.name} seed {seed} on {clips.name}: features are not finite")
                    stored[seed] = rows, seconds
                    self.store.put(keys[seed], start, rows, seconds)
            for seed in seeds:
                found[seed].append(stored[seed])
        return {
            seed: (
                np.concatenate([rows for rows, _ in blocks]),
                sum(len(rows) * seconds for rows, seconds in blocks) / len(clips),
            )
            for seed, blocks in found.items()
        }

    def tables(self) -> dict[str, np.ndarray]:
        """What `Screening.features` returns."""
        from mirjax import features

        parts, names = [], None
        self.check_lengths()
        for clips in self.load():
            columns, names = [], []
            for network in self.networks:
                for kind in self.screening.input:
                    moments = self.moments(network, clips) if kind == "standardised" else (0.0, 1.0)
                    found = self.network_features(network, clips, self.screening.seeds, moments)
                    for seed, (values, _) in found.items():
                        columns.append(values)
                        label = f"{network.name}/{network.n}/{kind}/{seed}"
                        names += [
                            f"{label}/{name}" for name in features.feature_names(network.module, network.num_samples)
                        ]
            parts.append((np.concatenate(columns, axis=1), clips))
        return {
            "features": np.concatenate([values for values, _ in parts]),
            "ids": np.concatenate([clips.ids for _, clips in parts]),
            "datasets": np.concatenate([np.full(len(clips), clips.name) for _, clips in parts]),
            "labels": np.concatenate([clips.labels for _, clips in parts]),
            "names": np.array(names),
        }

    # ── scores ────────────────────────────────────────────────────────────────────────────────────

    def compute(self, clips, partition, todo, bar) -> Iterator[tuple[Cell, list[dict], list[dict] | None]]:
        """Compute cells in order; cells of one network and input share its features."""
        for (network, kind, name), group in itertools.groupby(
            todo, key=lambda item: (item[0].network, item[0].input, item[0].architecture)
        ):
            group = list(group)
            bar.set_postfix_str(f"{clips.name} {name}")
            if name in ("chance", "majority"):
                for cell, prints in group:
                    yield cell, *self.without_features(cell, clips, partition, prints)
                continue
            seeds = sorted({cell.seed for cell, _ in group})
            if name == "mfcc":
                table = self.mfcc(clips)
                by_fold = [{seed: table for seed in seeds}]
            elif kind == "standardised_train":
                by_fold = [
                    self.network_features(network, clips, seeds, self.moments(network, clips, fold.train))
                    for fold in partition.folds
                ]
            else:
                moments = self.moments(network, clips) if kind == "standardised" else (0.0, 1.0)
                by_fold = [self.network_features(network, clips, seeds, moments)]
            for cell, prints in group:
                yield (
                    cell,
                    *self.classify(cell, clips, partition, [tables[cell.seed] for tables in by_fold], prints),
                )

    def classify(self, cell, clips, partition, tables, prints) -> tuple[list[dict], list[dict]]:
        """Records and predictions of one cell, from one table of features for all folds or one for each."""
        from mirjax.classifiers import grid as grids

        began = time.perf_counter()
        made = [
            grids.make_grid(cell.classifier, x, clips.labels, scaling=cell.scaling, seed=cell.seed) for x, _ in tables
        ]
        of_fold = made if len(made) > 1 else made * len(partition.folds)
        if (selection := self.selection(partition)) == "legacy":
            scored = [
                accuracies(grid, clips.labels, fold.train, fold.test)
                for grid, fold in zip(of_fold, partition.folds, strict=True)
            ]
            chosen = [int(np.mean(scored, axis=0).argmax())] * len(partition.folds)
        else:
            chosen = [
                select(grid, clips.labels, fold, partition, selection)
                for grid, fold in zip(of_fold, partition.folds, strict=True)
            ]
        outcomes, predictions = [], []
        for grid, fold, setting in zip(of_fold, partition.folds, chosen, strict=True):
            labels, scores = grid.scores(setting, fold.train, fold.test)
            outcomes.append((fold, metrics.score(clips.labels[fold.test], labels), grid.settings[setting]))
            predictions += prediction_rows(clips, partition, fold, labels, scores, grid.classes)
        seconds = time.perf_counter() - began
        feature_seconds = float(np.mean([seconds for _, seconds in tables]))
        sizes = {"num_features": int(tables[0][0].shape[1]), "feature_seconds_per_clip": feature_seconds}
        return self.records(cell, clips, partition, outcomes, prints, seconds, sizes), predictions

    def without_features(self, cell, clips, partition, prints) -> tuple[list[dict], list[dict] | None]:
        """Chance and the majority class: no network, no classifier."""
        outcomes, predictions = [], []
        for fold in partition.folds:
            truth = clips.labels[fold.test]
            if cell.architecture == "majority":
                classes, counts = np.unique(clips.labels[fold.train], return_counts=True)
                label = classes[counts.argmax()]
                labels = np.full(len(truth), label)
                known = np.unique(clips.labels)
                scores = np.repeat((known == label)[None].astype(float), len(truth), axis=0)
                predictions += prediction_rows(clips, partition, fold, labels, scores, known)
                outcomes.append((fold, metrics.score(truth, labels), {}))
            else:
                share = 1 / len(np.unique(clips.labels))
                priors = np.unique(truth, return_counts=True)[1] / len(truth)
                f1 = float(np.mean(2 * priors * share / (priors + share)))  # at the expected counts
                values = {"accuracy": share, "balanced_accuracy": share, "macro_f1": f1}
                outcomes.append((fold, values, {}))
        sizes = {"num_features": 0, "feature_seconds_per_clip": 0.0}
        return self.records(cell, clips, partition, outcomes, prints, 0.0, sizes), predictions or None


def accuracies(grid, labels, train, test) -> np.ndarray:
    """Accuracy of every setting of a grid, fitted to `train` and scored on `test`: f64[G]."""
    return (grid.predict(train, test) == labels[test][None]).mean(axis=1)


def select(grid, labels, fold, partition, selection) -> int:
    """The setting with the best accuracy inside the training clips, or on the validation clips; the first if tied."""
    if len(grid.settings) == 1:
        return 0
    if selection == "validation":
        return int(accuracies(grid, labels, fold.train, fold.valid).argmax())
    inner = cells.inner_folds(fold, partition, labels)
    return int(np.mean([accuracies(grid, labels, train, valid) for train, valid in inner], axis=0).argmax())

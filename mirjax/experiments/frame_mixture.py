"""Gaussian mixtures of MFCC frames, the baseline of the phoneme study, beside networks trained on the same folds.

13 coefficients of the networks' log-mel (preset `phonemes`) with their first and second derivatives over 11 frames,
standardised by the frames that are fitted to; for every class a mixture of diagonal Gaussians; a clip is of the class
under which its frames, taken for independent, are likeliest. The `context` at both ends of a clip is heard by the
derivatives and takes no part else. With `retrain` validation clips are fitted to as well: the mixtures choose nothing.

Convention: frames f64[T, 39] a clip; a score is the mean of log p(frame | class) over a clip's frames.
Records have the architecture `mfcc_frames` and the classifier `gmm`.
Source: Pons, Slizovskaia, Gong, Gómez & Serra, EUSIPCO 2017; ARCHITECTURES §4.1 (the mel bands beneath, and the equal
priors, are ours).
Names: `NAME`, `FRAMES`, `cells_of`, `compute`, `classify`.
"""

import dataclasses
import time
from collections.abc import Iterator

import numpy as np

from mirjax.experiments import cells
from mirjax.signal.presets import preset
from mirjax.signal.representations import MFCC

NAME = "mfcc_frames"
FRAMES = MFCC(preset("phonemes").representation, n_mfcc=13, deltas=2, delta_width=11)


def cells_of(experiment) -> Iterator[cells.Cell]:
    """The baseline's cells of a training: one a seed, none without `mixture`."""
    if not experiment.mixture:
        return
    named = ("mixture", "context", "seconds", "fit", "validation", "retrain")
    options = {name: getattr(experiment, name) for name in named}
    for seed in experiment.seeds:
        yield cells.Cell(NAME, None, "raw", options, seed, "gmm", "standard")


def compute(run, clips, partition, todo) -> Iterator[tuple[cells.Cell, list[dict], list[dict]]]:
    """Cells, records and predictions of a training at work (`training_run.Run`), in order."""
    if not todo:
        return
    from mirjax import metrics

    frames, per_clip = _frames_of(run, clips)
    folds = run.folds(partition, clips)
    for cell, prints in todo:
        began = time.perf_counter()
        outcomes, predictions = [], []
        for fold in folds:
            fitted = np.union1d(fold.train, fold.valid) if run.screening.retrain else fold.train
            labels, scores, classes = classify(
                frames, clips.labels, fitted, fold.test, components=run.screening.mixture, seed=cell.seed
            )
            fold = dataclasses.replace(fold, train=fitted)
            outcomes.append((fold, metrics.score(clips.labels[fold.test], labels), {}))
            predictions += cells.prediction_rows(clips, partition, fold, labels, scores, classes)
        width = frames[0].shape[1]
        sizes = {"num_features": width, "feature_seconds_per_clip": per_clip}
        rows = run.records(cell, clips, partition, outcomes, prints, time.perf_counter() - began, sizes)
        learnt = len(classes) * run.screening.mixture * (2 * width + 1)
        selection = "validation_refit" if run.screening.retrain else "validation"
        yield cell, [row | {"num_parameters": learnt, "selection": selection} for row in rows], predictions


def classify(frames, labels, train, test, *, components: int = 40, seed: int = 0):
    """Fit a mixture a class to the frames of some clips, and decide on others.

    Args:
      frames: f64[T, D] of each of M clips.
      labels: str[M].
      train, test: int[…], numbers of clips.
      components: Gaussians a class.
      seed: of k-means, where they begin.

    Returns:
      (labels str[M'], scores f64[M', K], the K classes).

    Raises:
      ValueError: a class with fewer frames than Gaussians.
    """
    from mirjax.classifiers.mixture import GMMClassifier

    lengths = np.array([len(frames[i]) for i in test])
    rows = np.concatenate([frames[i] for i in train])
    mean, deviation = rows.mean(axis=0, keepdims=True), rows.std(axis=0, keepdims=True)
    deviation = np.where(deviation <= 1e-7 * np.abs(mean), 1, deviation)
    targets = np.repeat(labels[train], [len(frames[i]) for i in train])
    mixtures = GMMClassifier(components=components, random_state=seed).fit((rows - mean) / deviation, targets)
    scores = mixtures.score_clips([(frames[i] - mean) / deviation for i in test]) / lengths[:, None]
    return mixtures.classes_[scores.argmax(axis=1)], scores, mixtures.classes_


def _frames_of(run, clips) -> tuple[list[np.ndarray], float]:
    """Frames f64[T, 39] of every clip without its context, and seconds a clip."""
    import jax

    from mirjax.data.loader import fit_length

    experiment, heard, compiled = run.screening, run.heard(clips, FRAMES), jax.jit(FRAMES)
    context = round(experiment.context * FRAMES.frame_rate)
    began, found = time.perf_counter(), []
    for i in range(len(clips)):
        audio = heard.audio(i)
        if experiment.seconds:
            audio = fit_length(audio, round(experiment.seconds * FRAMES.sample_rate), experiment.fit)
        values = np.asarray(compiled(audio), np.float64)
        if len(values) <= 2 * context:
            raise ValueError(
                f"{clips.name}: {clips.ids[i]} has {len(values)} frames, no more than two contexts of "
                f"{experiment.context} s; lengthen it, leave it out or lower context"
            )
        found.append(values[context : len(values) - context])
    return found, (time.perf_counter() - began) / len(clips)

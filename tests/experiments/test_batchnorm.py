"""The batch-norm experiment: its statistics, its batches, its leak and its analysis of variance."""

import dataclasses

import jax
import numpy as np
import pytest
import soundfile
from scipy import signal, stats

from mirjax import config, features, results
from mirjax.config import UsageError
from mirjax.data import loader
from mirjax.experiments import batchnorm, batchnorm_report, screening_run
from mirjax.experiments.batchnorm import BatchNormStudy
from mirjax.experiments.batchnorm_report import WITHOUT
from mirjax.results import RECORD_FIELDS, ConfigMismatch

SECONDS = 1.0
RATE = 12_000
POOLS = ((4, 2), (4, 3), (5, 2), (4, 2), (4, 4))
TIMINGS = ("seconds", "feature_seconds_per_clip")


class Clips:
    """What the loader needs of clips in memory."""

    def __init__(self, audio):
        self.audio = lambda i: audio[i]
        self.labels = np.array(["a"] * len(audio))
        self.ids = np.arange(len(audio)).astype(str)

    def __len__(self):
        return len(self.ids)


def literal_features(spectrograms, params):
    """conv → batch norm → ELU → pool, word for word, in numpy and scipy at float64: f64[B, D]."""
    x = np.tile(spectrograms.astype(float), (1, -(-1376 // spectrograms.shape[1]), 1))[:, :1376, :, None]
    averages = []
    for i, (time, bands) in enumerate(POOLS, start=1):
        kernel = np.asarray(params[f"conv{i}"]["kernel"], float)
        maps = np.zeros((*x.shape[:3], kernel.shape[3]))
        for clip in range(len(x)):
            for out in range(kernel.shape[3]):
                for c in range(kernel.shape[2]):
                    maps[clip, ..., out] += signal.correlate2d(x[clip, ..., c], kernel[..., c, out], mode="same")
        flat = maps.reshape(-1, maps.shape[-1])
        y = (maps - flat.mean(axis=0)) / np.sqrt(flat.var(axis=0, ddof=0) + 1e-3)
        y = np.where(y > 0, y, np.expm1(np.minimum(y, 0)))
        frames, rows = y.shape[1] // time, y.shape[2] // bands
        y = y[:, : frames * time, : rows * bands].reshape(len(y), frames, time, rows, bands, -1)
        x = y.max(axis=(2, 4))
        averages.append(x.mean(axis=(1, 2)))
    return np.concatenate(averages, axis=1)


@pytest.fixture(scope="module")
def networks():
    return [architecture.module for architecture in BatchNormStudy(n=3).networks()]


def test_features_of_batches(networks, embedded_clip):
    """Oracle: the definition in numpy and scipy at float64; the last, smaller batch knows no filling rows."""
    normalised, _ = networks
    clips = Clips([loader.fit_length(clip, RATE) for clip in embedded_clip[:3]])
    variables = features.initialise(normalised, jax.random.key(0))
    batches = loader.batches(clips, num_samples=RATE, batch_size=2)
    found = batchnorm.batch_features(normalised, variables, batches)
    spectrograms = np.stack([np.asarray(normalised.representation(clips.audio(i))) for i in range(3)])
    params = variables["params"]["front_end"]
    wanted = np.concatenate([literal_features(spectrograms[:2], params), literal_features(spectrograms[2:], params)])
    assert found.shape == (3, 15)
    assert np.abs(found - wanted).max() / np.abs(wanted).max() < 3e-6
    assert np.abs(found[0] - literal_features(spectrograms[:1], params)[0]).max() > 1e-2  # the company matters


def test_bias_and_weights(networks):
    """Identity: a seed gives both networks the same weights; normalisation cancels a bias."""
    normalised, plain = networks
    first, second = (features.initialise(module, jax.random.key(5)) for module in networks)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first, second))
    assert features.num_parameters(normalised) == features.num_parameters(plain)
    assert features.gigaflops(normalised) == features.gigaflops(plain)
    shifted = jax.tree.map(lambda leaf: leaf + 1.0 if leaf.ndim == 1 else leaf, first)
    x = np.random.default_rng(0).normal(size=(2, 1376, 96)).astype(np.float32)
    before, after = (features.layer_means(normalised, variables, x) for variables in (first, shifted))
    assert all((before[name] == after[name]).all() for name in before)


def test_without_batch_norm_the_batch_does_not_matter(networks, embedded_clip):
    """Identity: the same bits in batches of any size and order."""
    _, plain = networks
    clips = Clips([loader.fit_length(clip, RATE) for clip in embedded_clip])
    variables = features.initialise(plain, jax.random.key(0))
    tables = []
    for size, order in ((1, [0, 1, 2, 3, 4, 5]), (2, [0, 1, 2, 3, 4, 5]), (4, [3, 0, 5, 1, 4, 2])):
        batches = loader.batches(clips, num_samples=RATE, batch_size=size, indices=order)
        table = np.empty((6, 15), np.float32)
        table[order] = batchnorm.batch_features(plain, variables, batches)
        tables.append(table)
    assert (tables[0] == tables[1]).all() and (tables[0] == tables[2]).all()


def test_order_of_clips():
    """Hand-worked: by class, then by id; a shuffle has every clip once, and its seed decides."""
    ids, labels = np.array(["d", "a", "c", "b"]), np.array(["y", "y", "x", "x"])
    assert batchnorm.order_clips(ids, labels, "sorted", 0).tolist() == [3, 2, 1, 0]
    ids, labels = np.arange(50).astype(str), np.array(["x", "y"] * 25)
    one, again, other = (batchnorm.order_clips(ids, labels, "shuffled", seed) for seed in (1, 1, 2))
    assert sorted(one) == list(range(50)) and (one == again).all() and (one != other).any()


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ((9, 12), (1, 2, 5, 9)),
        ((10, 10), (1, 2, 5, 10)),
        ((100, 300), (1, 2, 5, 10, 20, 50, 100)),
        ((1, 3), (1,)),
    ],
)
def test_default_batch_sizes(counts, wanted):
    """Hand-worked: 1, 2, 5, 10, … and the clips of the smallest class."""
    labels = [f"class {i}" for i, count in enumerate(counts) for _ in range(count)]
    assert BatchNormStudy().sizes(labels) == wanted


def test_analysis_of_variance():
    """Oracle: sums of squares between and within, and scipy's F distribution."""
    accuracy = np.random.default_rng(3).uniform(0.3, 0.6, (4, 3)) + np.array([[0.0], [0.1], [0.1], [0.2]])
    between = 3 * ((accuracy.mean(axis=1) - accuracy.mean()) ** 2).sum() / 3
    within = ((accuracy - accuracy.mean(axis=1, keepdims=True)) ** 2).sum() / 8
    found = batchnorm_report.analyse(accuracy)
    assert found.f == pytest.approx(between / within, rel=1e-10)
    assert found.p == pytest.approx(stats.f.sf(between / within, 3, 8), rel=1e-10)
    for seeds in np.random.default_rng(4).uniform(size=(20, 3)):  # scipy's rounding makes some of these negative
        assert batchnorm_report.analyse(np.repeat([seeds], 6, axis=0)) == batchnorm_report.Anova(0.0, 1.0)
    assert batchnorm_report.analyse(np.full((4, 3), 0.5)) == batchnorm_report.Anova(None, None)
    assert batchnorm_report.analyse(accuracy[:, :1]) == batchnorm_report.Anova(None, None)
    assert batchnorm_report.analyse(np.array([[0.5, 0.5], [0.75, 0.75]])) == batchnorm_report.Anova(np.inf, 0.0)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Three classes of eight clips: six that are the very same sounds in every class, and two of the class's own."""
    folder = tmp_path_factory.mktemp("data") / "twins"
    folder.mkdir()
    rng = np.random.default_rng(0)
    t = np.arange(RATE) / RATE
    common = [0.2 * np.sin(2 * np.pi * rng.uniform(300, 900) * t) + 0.02 * rng.normal(size=RATE) for _ in range(6)]
    own = {"low": np.sin(2 * np.pi * 100 * t), "high": np.sin(2 * np.pi * 5000 * t), "noise": rng.normal(size=RATE)}
    rows = ["path,label,fold"]
    for label, sound in own.items():
        clips = [*common, 0.3 * sound, 0.25 * sound + 0.001 * rng.normal(size=RATE)]
        for i, clip in enumerate(clips):
            soundfile.write(folder / f"{label}{i}.wav", np.clip(clip, -1, 1).astype(np.float32), RATE, subtype="FLOAT")
            rows.append(f"{label}{i}.wav,{label},{i % 4}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def finished(twins, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    study = BatchNormStudy(
        data=str(twins),
        n=4,
        seeds=2,
        batch_sizes=(1, 8),
        scaling=("standard",),
        seconds=SECONDS,
        cache=str(folder / "c"),
    )
    return study, study.run(folder / "run", progress=False), folder / "run"


def shared_accuracy(workdir, records, **options):
    """Accuracy over the clips that all classes share, from the stored predictions of all seeds."""
    names = {r["predictions"] for r in records if options.items() <= r["options"].items()}
    rows = [row for name in sorted(names) for row in results.read_predictions(workdir, name)]
    rows = [row for row in rows if int(row["id"].removesuffix(".wav")[-1]) < 6]
    assert len(rows) == 2 * 18  # two seeds
    return np.mean([row["label"] == row["prediction"] for row in rows])


def test_sorted_batches_leak_the_labels(finished):
    """Oracle: a clip that is the same in three classes is told right in one of them, unless its label has leaked."""
    _, records, workdir = finished
    for order in ("sorted", "shuffled"):
        assert shared_accuracy(workdir, records, batch_norm=True, batch_size=1, order=order) == 1 / 3
    for size in (1, 8):
        assert shared_accuracy(workdir, records, batch_norm=False, batch_size=size) == 1 / 3
    leaked = shared_accuracy(workdir, records, batch_norm=True, batch_size=8, order="sorted")
    assert leaked > 1 / 3 + 0.3
    assert leaked > shared_accuracy(workdir, records, batch_norm=True, batch_size=8, order="shuffled") + 0.2


def test_records_and_report(finished, tmp_path):
    """Oracle: CONTRACT's fields; scipy's f_oneway on the records' own means."""
    study, records, workdir = finished
    cells_in = {(*sorted(r["options"].items()), r["seed"]) for r in records}
    assert len(cells_in) == 3 * 2 * 2 and len(records) == len(cells_in) * 4 * 3  # folds × metrics
    assert all(tuple(record) == RECORD_FIELDS for record in records)
    assert {record["classifier"] for record in records} == {"svm"}
    report = study.report([workdir], tmp_path / "out")
    (panel,) = report.panels
    for curve in panel.curves:
        wanted = {"batch_norm": curve.name != WITHOUT} | ({} if curve.name == WITHOUT else {"order": curve.name})
        groups = [
            [
                np.mean(
                    [
                        r["value"]
                        for r in records
                        if r["metric"] == "accuracy"
                        and r["seed"] == seed
                        and r["options"]["batch_size"] == size
                        and wanted.items() <= r["options"].items()
                    ]
                )
                for seed in (0, 1)
            ]
            for size in (1, 8)
        ]
        assert curve.accuracy == pytest.approx(np.array(groups))
        if curve.name == WITHOUT:
            assert "scores the same at every batch size" in curve.statement
        elif np.ptp(groups):
            assert curve.anova.p == pytest.approx(stats.f_oneway(*groups).pvalue)
    assert [curve.name for curve in panel.curves] == ["sorted", "shuffled", WITHOUT]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.md", "report.csv", "batchnorm.png"}
    assert len((tmp_path / "out" / "report.csv").read_text().splitlines()) == 1 + 3 * 2
    assert "one-way ANOVA" in report.to_text() and max(map(len, report.to_text().splitlines())) <= 120


def test_a_run_resumes_and_grows(finished, tmp_path, monkeypatch):
    """Identity: broken off and extended by a seed, the records are those of an undisturbed run, timings aside."""
    study, records, workdir = finished
    classify, count = screening_run.Run.classify, iter(range(100))

    def break_off(*arguments):
        if next(count) == 3:
            raise KeyboardInterrupt
        return classify(*arguments)

    first = dataclasses.replace(study, seeds=1)
    monkeypatch.setattr(screening_run.Run, "classify", break_off)
    with pytest.raises(KeyboardInterrupt):
        first.run(tmp_path / "run", progress=False)
    monkeypatch.undo()
    assert len(first.run(tmp_path / "run", progress=False)) == len(records) // 2
    grown = study.run(tmp_path / "run", progress=False)

    def plain(rows):
        rows = [{key: value for key, value in row.items() if key not in TIMINGS} for row in rows]
        return sorted(rows, key=lambda row: row["fingerprint"])

    assert plain(grown) == plain(records)
    before = (workdir / "records.jsonl").read_bytes()
    assert study.run(workdir, progress=False) == records
    with pytest.raises(ConfigMismatch, match="n=5"):
        dataclasses.replace(study, n=5).run(workdir, progress=False)
    assert (workdir / "records.jsonl").read_bytes() == before


def test_incomplete_seeds_are_left_out(finished, tmp_path):
    """Hand-worked: a seed that lacks a batch size is named and not averaged."""
    _, _, workdir = finished
    lines = (workdir / "records.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"batch_size": 8' not in line or '"seed": 1' not in line]
    (tmp_path / "records.jsonl").write_text("".join(kept))
    report = batchnorm_report.summarise([tmp_path])
    assert [curve.seeds for curve in report.panels[0].curves] == [(0,)] * 3
    assert len(report.warnings) == 3 and "seeds [1]" in report.to_text()
    assert "fewer than two seeds" in report.to_markdown()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("orders=random", "sorted, shuffled"),
        ("orders=sorted,sorted", "none twice"),
        ("batch_sizes=0,2", "at least 1"),
        ("batch_sizes=2,x", "whole number"),
        ("n=0", "1 to 10000"),
        ("selection=best", "nested"),
        ("seed=3", "seeds"),
    ],
)
def test_mistakes(override, words):
    """Hand-worked: the message names the remedy."""
    with pytest.raises(UsageError, match=words):
        config.override(BatchNormStudy(), [override])


def test_a_batch_bigger_than_the_set(twins, tmp_path):
    """Hand-worked: 24 clips, batches of 25."""
    study = BatchNormStudy(data=str(twins), batch_sizes=25, seconds=SECONDS, cache=str(tmp_path))
    with pytest.raises(UsageError, match="24 clips"):
        study.forecast()
    assert "1, 2, 5, 8" in dataclasses.replace(study, batch_sizes=None).forecast()

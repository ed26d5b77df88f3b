"""Oracles: the points that went in, read back from the figure or its pixels; the PNG's own header."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest

from mirjax import plots
from mirjax.experiments.machines import Machine
from mirjax.plots import canvas

NAMES = (
    "vgg",
    "7x96",
    "7x86",
    "timbral",
    "temporal",
    "timbral_temporal",
    "timbral_time",
    "sample",
    "frame",
    "frame_many",
)


def make_row(architecture, accuracy, *, rank=1, input="raw", gflops=0.1, n=8, interval=0.05):
    low_high = interval and SimpleNamespace(low=accuracy - interval, high=min(1, accuracy + interval))
    return SimpleNamespace(
        architecture=architecture,
        accuracy=accuracy,
        rank=rank,
        input=input,
        n=n,
        gflops=gflops,
        interval=low_high,
        is_baseline=architecture in ("mfcc", "majority", "chance"),
    )


def make_table(rows, dataset="digits_small", classifier="elm", width=120):
    references = [make_row(name, 0.1, rank=None, n=None, gflops=0, interval=None) for name in ("majority", "chance")]
    return SimpleNamespace(
        dataset=dataset,
        classifier=classifier,
        scaling="none",
        protocol="cv",
        selection="nested",
        width=width,
        rows=(*rows, make_row("mfcc", 0.55, gflops=0, n=None), *references),
        label=lambda row: row.architecture,
    )


def many_tables(datasets=("digits_small", "rhythm_small")):
    rng = np.random.default_rng(0)
    return [
        make_table(
            [
                make_row(name, rng.uniform(0.3, 0.9), input=kind, gflops=0.02 * 1.7**index)
                for index, name in enumerate(NAMES)
                for kind in ("raw", "standardised")
            ],
            dataset,
            classifier,
        )
        for dataset in datasets
        for classifier in ("elm", "svm")
    ]


def figures(monkeypatch):
    kept = []
    monkeypatch.setattr(canvas, "save", lambda figure, path: kept.append(figure))
    return kept


@pytest.mark.parametrize("plot", [plots.plot_accuracy, plots.plot_pareto])
def test_writes_a_png_and_the_same_again(tmp_path, plot):
    # Oracle: the PNG signature and size in its header; identity of bytes.
    tables = many_tables()
    plot(tables, tmp_path / "a.png")
    plot(tables, tmp_path / "b.png")
    content = (tmp_path / "a.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    assert width > 1000 and height > 600
    assert content == (tmp_path / "b.png").read_bytes()
    with pytest.raises(ValueError, match="no tables"):
        plot([], tmp_path / "c.png")


def test_accuracy_shows_every_point_sorted(monkeypatch):
    # Oracle: the accuracies that went in, architectures from the best down, baselines as lines.
    kept = figures(monkeypatch)
    rows = [make_row("vgg", 0.8), make_row("frame", 0.4), make_row("sample", 0.6)]
    plots.plot_accuracy([make_table(rows)], "unused")
    (axis,) = [axis for axis in kept[0].axes if axis.get_visible()]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["vgg", "sample", "mfcc", "frame"]
    points = {round(line.get_xdata()[0], 6): line.get_ydata()[0] for line in axis.lines if line.get_marker() == "o"}
    assert points == pytest.approx({80: 0, 60: 1, 55: 2, 40: 3})
    intervals = [tuple(line.get_xdata()) for line in axis.lines if len(line.get_xdata()) == 2]
    assert any(pair == pytest.approx((75, 85)) for pair in intervals)
    assert axis.get_ylim()[0] > axis.get_ylim()[1]  # the best on top
    labels = [text.get_text() for text in kept[0].legends[0].get_texts()]
    assert labels == ["elm", "majority", "chance"]


def test_many_classifiers_are_told_apart(monkeypatch):
    # Oracle: the legend; no two of its entries have one colour and one marker.
    kept = figures(monkeypatch)
    tables = [make_table([make_row("vgg", 0.5)], classifier=f"c{n}") for n in range(20)]
    plots.plot_accuracy(tables, "unused")
    handles = kept[0].legends[0].legend_handles[:20]
    assert len({(handle.get_color(), handle.get_marker()) for handle in handles}) == 20


def test_classifiers_against_the_reference(monkeypatch):
    # Oracle: the differences that went in, in points, the best on top.
    kept = figures(monkeypatch)
    best = Machine("kernel", "none", 0.6, (0.02, 0.06), {"a": 0.02, "b": 0.06}, 0.01, 0.07)
    worst = Machine("elm", "standard", 0.4, (-0.1,), {"a": -0.1}, -0.2, 0.0)
    plots.plot_machines([best, worst], "unused")
    (axis,) = kept[0].axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["kernel, none", "elm, standard"]
    means = {line.get_ydata()[0]: line.get_xdata()[0] for line in axis.lines if line.get_marker() == "D"}
    assert means == pytest.approx({0: 4, 1: -10}) and axis.get_ylim()[0] > axis.get_ylim()[1]
    with pytest.raises(ValueError, match="no classifiers to compare"):
        plots.plot_machines([], "unused")


def test_pareto_front_and_labels(monkeypatch):
    # Worked by hand: cheap temporal and dear vgg are on the front, sample, dearer and worse than timbral, is not.
    kept = figures(monkeypatch)
    rows = [
        make_row("temporal", 0.4, gflops=0.01),
        make_row("timbral", 0.6, gflops=0.1),
        make_row("sample", 0.5, gflops=0.3),
        make_row("vgg", 0.8, gflops=2.0),
    ]
    plots.plot_pareto([make_table(rows)], "unused")
    (axis,) = kept[0].axes
    front = next(line for line in axis.lines if line.get_linewidth() == 3)
    assert list(front.get_xdata())[:3] == [0.01, 0.1, 2.0]
    assert list(front.get_ydata())[:3] == pytest.approx([40, 60, 80])
    assert sorted(text.get_text() for text in axis.texts) == ["sample", "temporal", "timbral", "vgg"]


def test_labels_do_not_cover_each_other(monkeypatch):
    # By hand: the boxes of ten names, close together, are apart and inside the panel.
    from matplotlib.text import Text

    kept = figures(monkeypatch)
    rows = [make_row(name, 0.6 + 0.01 * index, gflops=0.2 + 0.02 * index) for index, name in enumerate(NAMES)]
    rows.append(make_row("cheap", 0.3, gflops=0.01))
    plots.plot_pareto([make_table(rows)], "unused")
    (axis,) = kept[0].axes
    renderer = kept[0].canvas.get_renderer()
    boxes = [Text.get_window_extent(text, renderer) for text in axis.texts]
    assert len(boxes) == 11
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:index])
        assert axis.get_window_extent().containsx(box.x0) and axis.get_window_extent().containsx(box.x1)


def test_costs_that_nobody_knows(tmp_path):
    # By hand: networks without GFLOPs leave an empty panel rather than an error.
    plots.plot_pareto([make_table([make_row("custom", 0.7, gflops=None, n=None)])], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize("plot", [plots.plot_accuracy, plots.plot_pareto])
def test_a_data_set_may_be_called_anything(tmp_path, monkeypatch, plot):
    # By hand: dollar signs, which matplotlib would take for a formula (and refuse this one), stay in the title.
    kept, save = [], canvas.save
    monkeypatch.setattr(canvas, "save", lambda figure, path: (kept.append(figure), save(figure, path)))
    plot(many_tables(("$\\foo$ {",)), tmp_path / "a.png")
    assert kept[0].axes[0].get_title(loc="left") == "$\\foo$ {"


def test_leaves_pyplot_alone():
    # Oracle: pyplot's own list of figures.
    import subprocess
    import sys

    code = "import sys, mirjax.plots; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_representations_of_a_clip(tmp_path, monkeypatch):
    """Oracle: the PNG's header and size; by hand, a tone of A4 is brightest at 440 Hz, at A and at note 45 above C1."""
    kept, save = [], canvas.save
    monkeypatch.setattr(canvas, "save", lambda figure, path: (kept.append(figure), save(figure, path)))
    tone = np.sin(2 * np.pi * 440 * np.arange(2 * 12_000) / 12_000).astype(np.float32)
    plots.plot_representations(tone, 12_000, tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) < 400_000
    panels = {axis.get_title(loc="left"): axis for axis in kept[0].axes}
    assert {"waveform", "STFT, dB", "mel, PCEN", "CENS", "tempogram", "onset strength"} <= set(panels)
    brightest = {
        title: int(np.asarray(axis.images[0].get_array()).sum(axis=1).argmax())
        for title, axis in panels.items()
        if axis.images
    }
    assert brightest["STFT, dB"] == round(440 * 2048 / 12_000)
    assert brightest["constant-Q, dB"] == 45 and brightest["chroma"] == brightest["CENS"] == 9
    for axis in panels.values():
        if axis.images:
            assert axis.get_ylabel() and axis.images[0].get_cmap().name == "magma"
    with pytest.raises(ValueError, match=r"audio of shape \(2, 24000\) at 12000 Hz: give one channel"):
        plots.plot_representations(np.stack([tone, tone]), 12_000, tmp_path / "b.png")


# ── looking inside a network ──


def is_png(path, most=400_000):
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) < most
    return content


def keep(monkeypatch):
    kept, save = [], canvas.save
    monkeypatch.setattr(canvas, "save", lambda figure, path: (kept.append(figure), save(figure, path)))
    return kept


def all_axes(figure):
    return [axis for axis in figure.axes if axis.get_visible()]


def test_filters_in_milliseconds_and_hertz(tmp_path, monkeypatch):
    """By hand: the pixels are the kernel's values, axes in ms and Hz; a sine of 1 kHz lets 1 kHz pass."""
    from mirjax.signal.representations import LogMel, Waveform

    kept = keep(monkeypatch)
    rng = np.random.default_rng(0)
    tall, short, time = rng.normal(size=(3, 96, 2)), rng.normal(size=(5, 8, 12)), rng.normal(size=(64, 4))
    filters = [("a/$tall", tall), ("short", short), ("time", time)]
    plots.plot_filters(filters, tmp_path / "a.png", representation=LogMel())
    is_png(tmp_path / "a.png")
    axes = all_axes(kept[0])
    assert len(axes) == 2 + 8 + 2
    np.testing.assert_array_equal(np.asarray(axes[1].images[0].get_array()), tall[..., 1].T)
    assert axes[0].get_ylabel() == "Hz" and "1,000" in [text.get_text() for text in axes[0].get_yticklabels()]
    assert axes[0].get_xlabel() == "ms" and axes[0].images[0].get_extent()[1] == pytest.approx(3 * 256 / 12)
    assert axes[2].get_ylabel() == "bands"
    assert axes[-1].images[0].get_extent()[3] == pytest.approx(12_000 / 256 / 2)

    sine = np.stack([np.sin(2 * np.pi * hertz * np.arange(256) / 12_000) for hertz in (3000, 1000)], axis=-1)
    plots.plot_filters([("wave", sine)], tmp_path / "b.png", representation=Waveform(12_000))
    shape, passed = all_axes(kept[1])
    np.testing.assert_allclose(np.asarray(shape.images[0].get_array())[0], sine[:, 1])
    picture = np.asarray(passed.images[0].get_array())
    assert (picture.argmax(axis=0) / (len(picture) - 1) * 6000).round(-2).tolist() == [1000, 3000]


def test_feature_maps_of_a_clip(tmp_path, monkeypatch):
    """By hand: rows and times of the pictures are those of the maps; bands lie above each other, channel by channel."""
    kept = keep(monkeypatch)
    rng = np.random.default_rng(0)
    maps = {
        "$conv": (np.arange(5) + 0.5, rng.normal(size=(5, 4, 8))),
        "pooled": (np.array([2.5]), rng.normal(size=(1, 3))),
    }
    plots.plot_feature_maps(maps, tmp_path / "a.png")
    is_png(tmp_path / "a.png")
    first, second = kept[0].axes
    picture = np.asarray(first.images[0].get_array())
    assert picture.shape == (6 * 4, 5)
    np.testing.assert_array_equal(picture[4:8], maps["$conv"][1][:, :, 1].T)
    assert first.images[0].get_extent()[:2] == [0, 5] and first.get_xlim() == (0, 5)
    assert second.images[0].get_array().shape == (3, 1) and second.images[0].get_extent()[:2] == [0, 5]
    assert second.get_xlabel() == "seconds" and "4 bands" in first.get_title(loc="left")


def test_receptive_fields_layer_by_layer(tmp_path, monkeypatch):
    """Hand-worked: 3 samples stride 3, then 3 of those, then everything, at 1 kHz: 3 ms, 9 ms, the right edge."""
    from mirjax.models.geometry import Window, everything
    from mirjax.signal.representations import Waveform

    kept = keep(monkeypatch)
    windows = (Window("conv1", 3, 3), Window("conv2", 3), everything("all", keeps=True))
    model = SimpleNamespace(windows=windows, representation=Waveform(1000))
    plots.plot_receptive_field(model, tmp_path / "a.png")
    is_png(tmp_path / "a.png")
    (axis,) = kept[0].axes
    assert [bar.get_width() for bar in axis.patches[:2]] == [3, 9]
    assert axis.patches[2].get_width() == axis.get_xlim()[1]
    assert [line.get_xdata()[0] for line in axis.lines] == [3, 3, 3]
    assert [text.get_text() for text in axis.texts] == ["3 ms", "9 ms", "everything"]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["conv1", "conv2", "all"]
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.plot_receptive_field(SimpleNamespace(windows=(), representation=Waveform()), tmp_path / "b.png")


def test_taggram(tmp_path, monkeypatch):
    """By hand: the strongest tags on top, times as given, names that are no formulas."""
    kept = keep(monkeypatch)
    values = np.stack([np.full(4, 0.1), np.linspace(0.5, 0.9, 4), np.full(4, 0.3)], axis=1)
    plots.plot_taggram(np.arange(4) + 1.5, values, tmp_path / "a.png", tags=["quiet", "$\\loud$", "so-so"], most=2)
    is_png(tmp_path / "a.png")
    axis = kept[0].axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["$\\loud$", "so-so"]
    np.testing.assert_array_equal(np.asarray(axis.images[0].get_array()), values[:, [1, 2]].T)
    assert axis.images[0].get_extent()[:2] == [1, 5]
    plots.plot_taggram(np.zeros(1), values[:1], tmp_path / "b.png")
    with pytest.raises(ValueError, match="2 tags for 3 answers"):
        plots.plot_taggram(np.arange(4), values, tmp_path / "c.png", tags=["a", "b"])
    with pytest.raises(ValueError, match=r"values of shape \(4, 3\) and 3 times"):
        plots.plot_taggram(np.arange(3), values, tmp_path / "c.png")


# ── learning curves ──


def make_curve(epochs, *, best=None, metric="valid_accuracy", scales=(1.0,), valid=True):
    from mirjax.experiments.curves import Curve

    rows = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "step": epoch, "scale": scales[min(epoch, len(scales)) - 1], "train_loss": 1 / epoch}
        rows.append(row | ({"valid_loss": 2 / epoch, metric: epoch / 10} if valid else {}))
    return Curve(0, "0", epochs, best, metric if valid else None, tuple(rows))


def test_curves_by_hand(tmp_path, monkeypatch):
    """By hand: thin lines are the runs, the thick one their mean as far as half of them went, dots best epochs."""
    kept = keep(monkeypatch)
    runs = (make_curve(4, best=2, scales=(1.0, 1.0, 0.5)), make_curve(2, best=1), make_curve(3, best=3))
    plots.plot_curves([("set", "$net_(", runs)], tmp_path / "a.png")
    is_png(tmp_path / "a.png")
    losses, beside, measured = (
        kept[0].axes if kept[0].axes[1].get_yscale() == "log" else np.array(kept[0].axes)[[0, 2, 1]]
    )
    assert losses.get_title(loc="left") == "$net_(" and measured.get_ylabel() == "accuracy"
    thick = [line for line in losses.lines if line.get_linewidth() == 2]
    assert [list(line.get_xdata()) for line in thick] == [[1, 2, 3], [1, 2, 3]]
    assert list(thick[0].get_ydata()) == pytest.approx([1, 1 / 2, 1 / 3])
    thin = [line for line in losses.lines if line.get_linewidth() == 0.7]
    assert sorted(len(line.get_xdata()) for line in thin) == [2, 2, 3, 3, 4, 4]
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in measured.lines if line.get_marker() == "o"]
    assert dots == [(2, pytest.approx(0.2)), (1, pytest.approx(0.1)), (3, pytest.approx(0.3))]
    assert list(beside.lines[0].get_ydata()) == [1, 1, 0.5, 0.5]
    assert [text.get_text() for text in beside.get_yticklabels()] == ["1", "0.5"]
    labels = [text.get_text() for text in kept[0].legends[0].get_texts()]
    assert {"training loss", "validation loss", "weights that were kept", "scale of the rate (right)"} < set(labels)


def test_curves_without_validation_and_of_many_networks(tmp_path, monkeypatch):
    """By hand: one panel without dots, second axis or legend for them; 24 panels of 26 networks, and that is said."""
    kept = keep(monkeypatch)
    plots.plot_curves([("set", "net", (make_curve(3, valid=False),))], tmp_path / "a.png")
    (axis,) = kept[0].axes
    assert [line.get_linewidth() for line in axis.lines] == [1.6]
    assert [text.get_text() for text in kept[0].legends[0].get_texts()] == ["training loss"]
    plots.plot_curves([(f"set{i % 2}", f"net{i}", (make_curve(2),)) for i in range(26)], tmp_path / "b.png")
    assert len(kept[1].axes) == 48 and kept[1].axes[0].get_title(loc="left") == "set0: net0"
    assert "the first 24 of 26" in [text.get_text() for text in kept[1].legends[0].get_texts()]
    with pytest.raises(ValueError, match="no learning curves"):
        plots.plot_curves([], tmp_path / "c.png")


def test_another_score_is_named(monkeypatch):
    """By hand: the axis says what is drawn; without mfcc none is in the legend."""
    kept = figures(monkeypatch)
    table = make_table([make_row("vgg", 0.8)])
    table.rows = tuple(row for row in table.rows if row.architecture != "mfcc")
    plots.plot_accuracy([table], "unused", what="score, %")
    plots.plot_pareto([table], "unused", what="score, %")
    assert kept[0].axes[0].get_xlabel() == "score, % (95 % interval)" and kept[1].axes[0].get_ylabel() == "score, %"
    assert "best mfcc" not in [text.get_text() for text in kept[1].legends[0].get_texts()]

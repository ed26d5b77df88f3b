"""Figures of a report: accuracy with intervals, and accuracy against cost.

Convention
----------
Functions take the tables of :class:`mirjax.experiments.report.Report` and write a PNG; equal tables give equal
figures. Nothing here touches pyplot's global state, so figures can be made in threads and notebooks alike. One
panel is one data set; a *series* is what its rows share: classifier, input, and where they differ scaling,
selection, protocol and width.

What is here
------------
* :func:`plot_accuracy`: mean accuracy with its interval, architectures sorted
* :func:`plot_pareto`: accuracy against GFLOPs a clip, with the Pareto front
* :func:`plot_machines`: every classifier against the reference, over all networks and data sets
* :func:`plot_curves`: loss and metric of trained networks by epoch
* :func:`plot_batchnorm`: accuracy against batch size, for every way of filling batches
* :func:`plot_representations`: what `mirjax.signal` makes of one clip, from waveform to tempogram
* :func:`plot_filters`: filters of a network's first layer, in milliseconds and hertz
* :func:`plot_feature_maps`: what every layer makes of one clip
* :func:`plot_receptive_field`: what one step of every layer sees
* :func:`plot_taggram`: what a network says of a clip, over time
* :func:`plot_rank_scatter`, :func:`plot_rank_correlations`: untrained against trained ranks
"""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

# Okabe and Ito's colours, told apart by the colour-blind, dark ones first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = {"raw": "o", "standardised": "D", "standardised_train": "s"}
AGAIN = "^vPX*<>"  # in place of the marker where all colours have been used before
INPUT_NAMES = {"standardised": "standardised (transductive)", "standardised_train": "standardised (train)"}
STYLE = {"fontsize": 8}
REFERENCES = {"majority": ("#666666", (0, (4, 2))), "chance": ("#999999", (0, (1, 2)))}


def _series(tables) -> dict:
    """Label, colour and marker of every (table key, input), in a fixed order."""
    names = ("classifier", "scaling", "selection", "protocol", "width")
    keys = {}
    for table in tables:
        key = tuple(getattr(table, name) for name in names)
        for row in table.rows:
            if row.rank:
                keys[key, "raw" if row.is_baseline else row.input] = None
    varies = [len({key[index] for key, _ in keys}) > 1 for index in range(len(names))]
    inputs = list(dict.fromkeys(kind for _, kind in keys))
    groups = list(dict.fromkeys(key for key, _ in keys))
    found = {}
    for key in groups:
        for kind in sorted(inputs, key=lambda kind: list(MARKERS).index(kind) if kind in MARKERS else 9):
            if (key, kind) not in keys:
                continue
            parts = [key[0]]
            parts += [f"{name} {value}" for name, value, v in zip(names[1:], key[1:], varies[1:], strict=True) if v]
            parts += [INPUT_NAMES.get(kind, kind)] if len(inputs) > 1 else []
            times, place = divmod(groups.index(key), len(COLOURS))
            marker = AGAIN[(times - 1) % len(AGAIN)] if times else MARKERS.get(kind, "^")
            found[key, kind] = (", ".join(parts), COLOURS[place], marker, kind == "raw")
    return found


def _points(tables, dataset):
    """(series key, table, row) of every ranked row of a data set, and its majority and chance."""
    points, references = [], {}
    for table in tables:
        if table.dataset == dataset:
            key = (table.classifier, table.scaling, table.selection, table.protocol, table.width)
            for row in table.rows:
                if row.rank:
                    points.append(((key, "raw" if row.is_baseline else row.input), table, row))
                else:
                    references[row.architecture] = 100 * row.accuracy
    return points, references


def _names(points) -> dict:
    """Row → name of its line: the architecture, with n where a series holds several."""
    counts = defaultdict(set)
    for series, table, row in points:
        counts[series, table.label(row)].add(row.n)
    several = {label for (_, label), ns in counts.items() if len(ns) > 1}
    return {
        id(row): table.label(row) + (f" n={row.n}" if table.label(row) in several else "") for _, table, row in points
    }


def _datasets(tables) -> list[str]:
    return list(dict.fromkeys(table.dataset for table in tables))


def _figure(num_panels: int, panel_height: float, num_labels: int):
    """Panels, at most three in a row, and room for a legend below."""
    columns = 2 if num_panels == 4 else min(num_panels, 3)
    rows = -(-num_panels // columns)
    legend = 0.35 + 0.2 * -(-num_labels // (2 if columns == 1 else 3))
    width = 5.6 if columns == 1 else 3.9 * columns
    figure = Figure(figsize=(width, rows * panel_height + legend), layout="constrained", dpi=200)
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.06, w_pad=0.06, hspace=0.04, wspace=0.04)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in axes[num_panels:]:
        spare.set_visible(False)
    return figure, axes[:num_panels], 2 if columns == 1 else 3


def _finish(axis, title) -> None:
    # A folder may be called $x$, which is no formula.
    axis.set_title(title, fontsize=9, loc="left", fontweight="bold", parse_math=False)
    axis.tick_params(labelsize=8, length=2.5)
    axis.spines[["top", "right"]].set_visible(False)


def _legend(figure, handles, columns) -> None:
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, **STYLE)


def _save(figure, path) -> None:
    figure.savefig(Path(path), format="png", metadata={"Software": None})


def plot_accuracy(tables, path, *, what: str = "accuracy, %") -> None:
    """Draw accuracies with their intervals, architectures from the best down, majority and chance as lines.

    Args:
        tables: the report's tables, of one or several data sets.
        path: PNG to write.
        what: is drawn, where it is another score.

    Raises:
        ValueError: no tables.
    """
    from matplotlib.lines import Line2D

    if not tables:
        raise ValueError("no tables to plot; run a screening first")
    series, datasets = _series(tables), _datasets(tables)
    content = {dataset: _points(tables, dataset) for dataset in datasets}
    lines = {dataset: len(set(_names(points).values())) for dataset, (points, _) in content.items()}
    slots = len(series)
    spacing = max(0.2, 0.1 + 0.062 * slots)  # inches a line
    figure, axes, columns = _figure(len(datasets), 0.75 + spacing * max(lines.values()), slots + 2)
    for axis, dataset in zip(axes, datasets, strict=True):
        points, references = content[dataset]
        names = _names(points)
        best = defaultdict(float)
        for _, _, row in points:
            best[names[id(row)]] = max(best[names[id(row)]], row.accuracy)
        order = sorted(best, key=lambda name: (-best[name], name))
        present = [key for key in series if any(key == point[0] for point in points)]
        step = 0.76 / max(1, len(present))
        for key, _, row in points:
            offset = (present.index(key) - (len(present) - 1) / 2) * step
            _, colour, marker, filled = series[key]
            height = order.index(names[id(row)]) + offset
            low, high = 100 * row.interval.low, 100 * row.interval.high
            axis.plot([low, high], [height, height], color=colour, linewidth=1.1, solid_capstyle="butt", alpha=0.75)
            axis.plot(
                100 * row.accuracy,
                height,
                marker,
                color=colour,
                markersize=4.2 if slots < 5 else 3.4,
                markerfacecolor=colour if filled else "white",
                markeredgewidth=1.0,
            )
        for name, value in references.items():
            colour, dashes = REFERENCES[name]
            axis.axvline(value, color=colour, linestyle=dashes, linewidth=1, zorder=0)
        axis.set_yticks(range(len(order)), order)
        for tick, name in zip(axis.get_yticklabels(), order, strict=True):
            tick.set_style("italic" if name.split(" ")[0] == "mfcc" else "normal")
        axis.set_ylim(len(order) - 0.5, -0.5)
        for height in range(len(order) - 1):
            axis.axhline(height + 0.5, color="#e6e6e6", linewidth=0.6, zorder=0)
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.set_xlabel(f"{what} (95 % interval)", **STYLE)
        _finish(axis, dataset)
        axis.tick_params(axis="y", length=0)
    handles = [
        Line2D(
            [], [], color=c, marker=m, markersize=4, markerfacecolor=c if filled else "white", linewidth=1.1, label=n
        )
        for n, c, m, filled in series.values()
    ]
    shown = [name for name in REFERENCES if any(name in references for _, references in content.values())]
    handles += [Line2D([], [], color=REFERENCES[n][0], linestyle=REFERENCES[n][1], label=n) for n in shown]
    _legend(figure, handles, columns)
    _save(figure, path)


def plot_machines(machines, path) -> None:
    """Draw the mean difference of every classifier from the reference with its interval, data sets as small points.

    Args:
        machines: what `mirjax.experiments.machines.compare_machines` gives, best first.
        path: PNG to write.

    Raises:
        ValueError: no machines.
    """
    if not machines:
        raise ValueError("no classifiers to compare; run a screening with svm and another one")
    figure, (axis,), _ = _figure(1, 0.9 + 0.2 * len(machines), 0)
    scalings = sorted({machine.scaling for machine in machines})
    for height, machine in enumerate(machines):
        colour = COLOURS[scalings.index(machine.scaling)]
        points = [100 * value for value in machine.by_dataset.values()]
        axis.plot(points, [height] * len(points), "o", color=colour, markersize=2.2, alpha=0.5)
        axis.plot([100 * machine.low, 100 * machine.high], [height, height], color=colour, linewidth=1.2)
        axis.plot(100 * np.mean(machine.differences), height, "D", color=colour, markersize=4)
    axis.axvline(0, color="#666666", linewidth=0.9, zorder=0)
    axis.set_yticks(range(len(machines)), [f"{machine.classifier}, {machine.scaling}" for machine in machines], **STYLE)
    axis.invert_yaxis()
    axis.set_xlabel("points of accuracy above svm (mean, 95 % interval, data sets)", fontsize=8)
    _finish(axis, "classifiers on the same features")
    _save(figure, path)


_MOST_NAMED = 30  # networks of a figure that can all have their names


def plot_pareto(tables, path, *, what: str = "accuracy, %") -> None:
    """Draw accuracy against GFLOPs a clip, with the front of networks that no cheaper one beats.

    A network is named once, at its best point; its other points stand on the same vertical, since neither input nor
    classifier changes its cost. Of more than 30 networks those on the front are named, the five best and the five
    worst. MFCC, which costs no network, is a line.

    Args:
        tables: the report's tables, of one or several data sets.
        path: PNG to write.
        what: is drawn, where it is another score.

    Raises:
        ValueError: no tables.
    """
    from matplotlib.lines import Line2D

    if not tables:
        raise ValueError("no tables to plot; run a screening first")
    series, datasets = _series(tables), _datasets(tables)
    figure, axes, columns = _figure(len(datasets), 3.3, len(series) + 2)
    labels = []
    for axis, dataset in zip(axes, datasets, strict=True):
        points, _ = _points(tables, dataset)
        names = _names(points)
        networks = [(key, row) for key, _, row in points if row.gflops and not row.is_baseline]
        named = {}
        for key, row in networks:
            x, y = row.gflops, 100 * row.accuracy
            _, colour, marker, filled = series[key]
            axis.plot(
                x, y, marker, color=colour, markersize=4.2, markerfacecolor=colour if filled else "white", zorder=3
            )
            spot = (names[id(row)], x)
            named[spot] = max(named.get(spot, 0), y)
        front = []
        for x, y in sorted(((x, y) for (_, x), y in named.items()), key=lambda point: (point[0], -point[1])):
            if not front or y > front[-1][1]:
                front.append((x, y))
        if len(named) > _MOST_NAMED:
            order = sorted(named, key=named.get)
            ends = {*order[:5], *order[-5:]}
            named = {spot: y for spot, y in named.items() if (spot[1], y) in front or spot in ends}
        mfcc = max((100 * row.accuracy for _, _, row in points if row.architecture == "mfcc"), default=None)
        if mfcc is not None:
            axis.axhline(mfcc, color="#444444", linewidth=0.9, zorder=0)
        if networks:
            axis.set_xscale("log")
            xs = [row.gflops for _, row in networks]
            axis.set_xlim(min(xs) / 1.8, max(xs) * 1.8)
            right = axis.get_xlim()[1]
            steps = [*front, (right, front[-1][1])]
            axis.step(
                [x for x, _ in steps], [y for _, y in steps], where="post", color="#bbbbbb", linewidth=3, zorder=1
            )
        ys = [100 * row.accuracy for _, row in networks] + ([] if mfcc is None else [mfcc])
        margin = 0.08 * (max(ys, default=0) - min(ys, default=0) or 10)
        axis.set_ylim(min(ys, default=0) - margin, max(ys, default=0) + 1.6 * margin)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xlabel("GFLOPs a clip", **STYLE)
        axis.set_ylabel(what, **STYLE)
        axis.grid(color="#eeeeee", linewidth=0.6)
        axis.set_axisbelow(True)
        _finish(axis, dataset)
        labels.append((axis, named, [(row.gflops, 100 * row.accuracy) for _, row in networks]))
    handles = [
        Line2D([], [], color=c, marker=m, markersize=4, markerfacecolor=c if filled else "white", linestyle="", label=n)
        for n, c, m, filled in series.values()
    ]
    handles.append(Line2D([], [], color="#bbbbbb", linewidth=3, label="Pareto front"))
    if any(row.architecture == "mfcc" for table in tables for row in table.rows):
        handles.append(Line2D([], [], color="#444444", linewidth=0.9, label="best mfcc"))
    _legend(figure, handles, columns)
    figure.draw_without_rendering()  # settles the layout, so that labels can be placed in pixels
    for axis, named, taken in labels:
        _place_labels(axis, named, taken)
    _save(figure, path)


def _place_labels(axis, named, points) -> None:
    """Name points where no other point, name or edge is in the way, the nearest free place first."""
    renderer = axis.figure.canvas.get_renderer()
    inside = axis.get_window_extent(renderer)
    size = 3.0 * axis.figure.dpi / 72
    to_pixels = axis.transData.transform
    taken = [(x - size, y - size, x + size, y + size) for x, y in map(to_pixels, points)]
    places = [
        (dx, dy, horizontal, vertical)
        for distance in (5, 10, 16, 24, 34)
        for dx, dy, horizontal, vertical in (
            (0, distance, "center", "bottom"),
            (distance, 0, "left", "center"),
            (-distance, 0, "right", "center"),
            (0, -distance, "center", "top"),
            (distance, 0.7 * distance, "left", "bottom"),
            (-distance, 0.7 * distance, "right", "bottom"),
            (distance, -0.7 * distance, "left", "top"),
            (-distance, -0.7 * distance, "right", "top"),
        )
    ]
    for (name, x), y in sorted(named.items(), key=lambda item: (-item[1], item[0])):
        choices = []
        for number, (dx, dy, horizontal, vertical) in enumerate(places):
            label = axis.annotate(
                name,
                (x, y),
                (dx, dy),
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                fontsize=7,
                path_effects=[withStroke(linewidth=2, foreground="white")],
                arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "#888888", "shrinkA": 0, "shrinkB": 2}
                if max(abs(dx), abs(dy)) > 5
                else None,
            )
            label.set_in_layout(False)
            label.update_positions(renderer)
            box = Text.get_window_extent(label, renderer)  # the name's own extent, without its line
            overlap = sum(
                max(0, min(box.x1, right) - max(box.x0, left)) * max(0, min(box.y1, top) - max(box.y0, bottom))
                for left, bottom, right, top in taken
            )
            overlap += 1e6 * (box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1)
            choices.append((overlap, number, label, (box.x0, box.y0, box.x1, box.y1)))
            if overlap == 0:
                break
        chosen = min(choices, key=lambda choice: choice[:2])
        for _, _, label, _ in choices:
            if label is not chosen[2]:
                label.remove()
        taken.append(chosen[3])


MOST_CURVES = 24  # networks of one figure
_CURVES = {"train_loss": COLOURS[0], "valid_loss": COLOURS[1]}


def plot_curves(panels, path) -> None:
    """Draw learning curves, a panel a network: losses above, what was measured beside them below.

    A thin line is one fold and seed, a dot the epoch whose weights were kept; the thick line is the mean, as far as at
    least half of them went. Where the rate changes, its scale is a dashed grey line against the right edge.

    Args:
        panels: (data set, network, curves with rows of `mirjax.experiments.curves.Curve`); the first 24 are drawn.
        path: PNG to write.

    Raises:
        ValueError: no panels.
    """
    from matplotlib.lines import Line2D

    if not panels:
        raise ValueError("no learning curves to plot; train networks first")
    shown = panels[:MOST_CURVES]
    columns = 2 if len(shown) == 4 else min(len(shown), 3)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(6.2 if columns == 1 else 4.2 * columns, 3.9 * rows + 0.5), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.05, w_pad=0.08, hspace=0, wspace=0)
    grid = figure.add_gridspec(rows, columns)
    several, looks = len({dataset for dataset, _, _ in panels}) > 1, {}
    for place, (dataset, network, curves) in enumerate(shown):
        drawn = [curve for curve in curves if curve.rows]
        measured = next((curve.metric for curve in drawn if curve.metric), None)
        parts = grid[place].subgridspec(2, 1, height_ratios=(3, 2)) if measured else [grid[place]]
        losses = last = figure.add_subplot(parts[0])
        for name, label in (("train_loss", "training loss"), ("valid_loss", "validation loss")):
            looks |= _plot_runs(losses, drawn, name, label)
        looks |= _plot_scale(losses, drawn)
        losses.set_ylabel("loss", **STYLE)
        _finish(losses, f"{dataset}: {network}" if several else network)
        if measured:
            last = figure.add_subplot(parts[1], sharex=losses)
            looks |= _plot_runs(last, drawn, measured, "metric of the validation clips")
            last.set_ylabel(measured.removeprefix("valid_").replace("roc_auc", "ROC-AUC").replace("_", " "), **STYLE)
            losses.tick_params(labelbottom=False)
            _finish(last, "")
        losses.set_xlim(0, 1.02 * max(curve.rows[-1]["epoch"] for curve in drawn) + 0.1)
        last.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        last.set_xlabel("epoch", **STYLE)
    if len(shown) < len(panels):
        looks[f"the first {len(shown)} of {len(panels)}"] = {"linestyle": ""}
    handles = [Line2D([], [], label=label, **look) for label, look in looks.items()]
    _legend(figure, handles, 2 if columns == 1 else 3)
    _save(figure, path)


def _plot_runs(axis, curves, name, label) -> dict:
    """One measure of several runs, thin, and their mean, thick; what to say of it in the legend."""
    colour, found, looks = _CURVES.get(name, COLOURS[2]), [], {}
    for curve in curves:
        run = {row["epoch"]: row[name] for row in curve.rows if name in row}
        if run:
            found.append(run)
        if curve.best in run and name != "train_loss":
            axis.plot(curve.best, run[curve.best], "o", color=colour, markersize=3.5, zorder=3)
            looks["weights that were kept"] = {"color": "#666666", "marker": "o", "markersize": 4, "linestyle": ""}
    for run in found:
        single = len(found) == 1
        axis.plot(
            list(run), list(run.values()), color=colour, linewidth=1.6 if single else 0.7, alpha=1 if single else 0.45
        )
    if len(found) > 1:
        counts = Counter(epoch for run in found for epoch in run)
        epochs = sorted(epoch for epoch, count in counts.items() if 2 * count >= len(found))
        means = [np.mean([run[epoch] for run in found if epoch in run]) for epoch in epochs]
        axis.plot(epochs, means, color=colour, linewidth=2)
    return ({label: {"color": colour, "linewidth": 2}} if found else {}) | looks


def _plot_scale(axis, curves) -> dict:
    """The scale of the rate against an axis on the right, where it changes; what to say of it in the legend."""
    runs = [[(row["epoch"], row["scale"]) for row in curve.rows] for curve in curves]
    if len({scale for run in runs for _, scale in run}) < 2:
        return {}
    beside, look = axis.twinx(), {"color": "#888888", "linewidth": 0.8, "linestyle": (0, (3, 1))}
    for run in runs:
        epochs, scales = zip(*run, strict=True)
        beside.step(epochs, scales, where="post", **look)
    beside.set_yscale("log")
    known = sorted({scale for run in runs for _, scale in run if scale > 0}, reverse=True)
    ticks = known[:: -(-len(known) // 6)]
    beside.set_yticks(ticks, [f"{scale:.3g}" for scale in ticks])
    beside.set_yticks([], minor=True)
    beside.tick_params(labelsize=7, length=2.5, colors="#777777")
    beside.spines[["top", "right"]].set_visible(False)
    return {"scale of the rate (right)": look}


def plot_batchnorm(panels, path) -> None:
    """Draw accuracy against batch size, one line for each way of filling batches, deviations over seeds as bars.

    Args:
        panels: of a `mirjax.experiments.batchnorm.BatchNormReport`.
        path: PNG to write.

    Raises:
        ValueError: no panels.
    """
    if not panels:
        raise ValueError("no panels to plot; run a batch-norm study first")
    names = {"sorted": "batch norm, clips sorted by class", "shuffled": "batch norm, clips shuffled"}
    looks = {}
    for curve in (curve for panel in panels for curve in panel.curves):
        if curve.name not in looks:
            index = list(names).index(curve.name) if curve.name in names else len(names)
            looks[curve.name] = {"color": COLOURS[index], "marker": "oDs"[index], "linestyle": ("-", "--", ":")[index]}
    figure, axes, columns = _figure(len(panels), 2.8, len(looks))
    handles = {}
    for axis, panel in zip(axes, panels, strict=True):
        for curve in panel.curves:
            bars = None if len(curve.seeds) < 2 else 100 * curve.deviations
            handles[curve.name] = axis.errorbar(
                curve.batch_sizes,
                100 * curve.means,
                bars,
                label=names.get(curve.name, curve.name),
                linewidth=1.3,
                markersize=4,
                capsize=2.5,
                elinewidth=0.8,
                **looks[curve.name],
            )
        sizes = sorted({size for curve in panel.curves for size in curve.batch_sizes})
        axis.set_xscale("log")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.set_xticks([], minor=True)
        axis.set_xlabel("clips in a batch", **STYLE)
        axis.set_ylabel("accuracy, % (± s.d. over seeds)", **STYLE)
        axis.grid(color="#eeeeee", linewidth=0.6)
        axis.set_axisbelow(True)
        same = [other for other in panels if other.dataset == panel.dataset]
        _finish(axis, panel.dataset if len(same) == 1 else f"{panel.dataset}, n={panel.n}, scaling {panel.scaling}")
    _legend(figure, list(handles.values()), columns)
    _save(figure, path)


def _decibels(power):
    """Decibels below the largest value, at least −80."""
    power = np.asarray(power, np.float64)
    return np.maximum(10 * np.log10(np.maximum(power, 1e-20) / max(power.max(), 1e-20)), -80)


def _hertz(frequencies, ticks):
    """Places and labels of `ticks` hertz on an axis of bins with these centre frequencies, as far as they reach."""
    ticks = [tick for tick in ticks if frequencies[0] <= tick <= frequencies[-1]]
    return np.interp(ticks, frequencies, np.arange(len(frequencies))), [f"{tick:,}" for tick in ticks]


def plot_representations(audio, sample_rate, path) -> None:
    """Draw what `mirjax.signal` makes of one clip, side by side over time, all in one colour map.

    Decibels run from 80 below to each panel's maximum (the two separated parts: the whole's), other values from the
    lowest to the highest half per cent of the panel.

    Args:
        audio: f32[N], one channel of at least 2 s (some 8 s are best).
        sample_rate: hertz, at least 8000.
        path: PNG to write.

    Raises:
        ValueError: for more than one channel, a shorter clip or a lower rate.
    """
    import math

    from PIL import Image

    from mirjax.signal import compression, cqt, filtered, filters, hpss, mel, representations, rhythm, stft

    if np.ndim(audio) != 1 or sample_rate < 8000 or len(audio) < 2 * sample_rate:
        raise ValueError(
            f"audio of shape {np.shape(audio)} at {sample_rate} Hz: give one channel of at least 2 s at 8000 Hz or more"
        )
    rate, n_fft, hop = int(sample_rate), 2048, 512
    octaves = min(7, math.floor(math.log2(rate / 2.2 / cqt.C1)))
    frame = {"sample_rate": rate, "hop_length": hop}
    log_mel = representations.LogMel(rate, n_fft, hop, 128, compression=compression.Linear())
    pcen = representations.LogMel(
        rate, n_fft, hop, 128, power=1.0, compression=compression.PCEN(rate, hop, scale=2.0**31)
    )
    bank = {"sample_rate": rate, "frame_sizes": (n_fft,), "num_bands": (12,), "fmax": min(17_000.0, 0.45 * rate)}
    lag = filtered.difference_lag(n_fft, hop)

    spectrum = stft.stft(audio, n_fft=n_fft, hop_length=hop)
    energies = np.abs(np.asarray(spectrum)) ** 2
    bands = np.asarray(log_mel(audio))
    harmonic, percussive = (np.abs(np.asarray(part)) ** 2 @ log_mel.filters().T for part in hpss.hpss(spectrum))
    filtered_bands = filtered.filtered_spectrogram(audio, hop_length=hop, end="extend", **bank)
    onsets = rhythm.onset_strength(mel.power_to_db(bands), n_fft=n_fft, hop_length=hop)
    slowest, fastest = math.ceil(60 * rate / hop / 30), math.floor(60 * rate / hop / 300)
    tempi = np.asarray(rhythm.tempogram(onsets))[:, fastest : slowest + 1]

    spread = (125, 250, 500, 1000, 2000, 4000, 8000, 16_000)
    edges = filters.mel_to_hz(np.linspace(0, filters.hz_to_mel(rate / 2), 130))
    mel_axis = (*_hertz(edges[1:-1], (250, *spread[2:])), "Hz (mel scale)")
    even = (*_hertz(np.arange(1 + n_fft // 2) * rate / n_fft, range(0, rate // 2 + 1, 2000)), "Hz")
    centres = filtered.log_filters(sample_rate=rate, frame_size=n_fft, fmax=bank["fmax"]).argmax(axis=1) * rate / n_fft
    bands_axis = (*_hertz(centres, spread), "Hz (centre)")
    notes = (12 * np.arange(octaves + 1), [f"C{octave}" for octave in range(1, octaves + 2)], "note")
    classes = ((0, 2, 4, 5, 7, 9, 11), "C D E F G A B".split(), "pitch class")
    bpm = (30, 40, 60, 80, 120, 240)
    tempo_axis = ([60 * rate / hop / tempo - fastest for tempo in bpm], list(map(str, bpm)), "beats a minute")
    decibels = {"vmin": -80, "vmax": 0}
    together = bands.max()
    images = {
        "STFT, dB": (_decibels(energies), even, decibels),
        "mel, dB": (_decibels(bands), mel_axis, decibels),
        "mel, PCEN": (pcen(audio), mel_axis, {}),
        "MFCC 1–19": (
            representations.MFCC(representations.LogMel(rate, n_fft, hop, 128))(audio)[:, 1:],
            (np.array([0, 4, 9, 14, 18]), ["1", "5", "10", "15", "19"], "coefficient"),
            {},
        ),
        "constant-Q, dB": (
            _decibels(representations.LogCQT(**frame, n_bins=12 * octaves, compression=compression.Linear())(audio)),
            notes,
            decibels,
        ),
        "chroma": (representations.Chroma(**frame, n_fft=2 * n_fft)(audio), classes, {}),
        "CENS": (representations.CENS(**frame, n_octaves=octaves)(audio), classes, {}),
        "filtered, 12 bands an octave, log": (filtered_bands, bands_axis, {}),
        "its rises over time": (filtered.positive_differences(filtered_bands, lag=lag), bands_axis, {}),
        "harmonic part, mel, dB": (10 * np.log10(np.maximum(harmonic / together, 1e-8)), mel_axis, decibels),
        "percussive part, mel, dB": (10 * np.log10(np.maximum(percussive / together, 1e-8)), mel_axis, decibels),
        "tempogram": (tempi, tempo_axis, {}),
    }

    figure = Figure(figsize=(10.5, 10.5), layout="constrained", dpi=100)
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.04, w_pad=0.05, hspace=0.02, wspace=0.02)
    axes = figure.subplots(5, 3).ravel()
    seconds, step = len(audio) / rate, max(1, len(audio) // 1500)
    pieces = np.asarray(audio)[: len(audio) // step * step].reshape(-1, step)
    times = np.arange(len(pieces)) * step / rate
    axes[0].fill_between(times, pieces.min(axis=1), pieces.max(axis=1), color=COLOURS[0], linewidth=0.3)
    axes[0].set_ylabel("amplitude", **STYLE)
    _finish(axes[0], "waveform")
    places = [*range(1, 12), 13]
    for place, (title, (values, (ticks, labels, unit), limits)) in zip(places, images.items(), strict=True):
        axis, values = axes[place], np.asarray(values).T
        low, high = np.percentile(values, (0.5, 99.5))
        image = axis.imshow(
            values,
            cmap="magma",
            origin="lower",
            aspect="auto",
            extent=(-hop / 2 / rate, (values.shape[1] - 0.5) * hop / rate, -0.5, len(values) - 0.5),
            interpolation="none",
            **({"vmin": low, "vmax": high} | limits),
        )
        axis.set_yticks(ticks, labels)
        axis.set_ylabel(unit, **STYLE)
        _finish(axis, title)
    axes[13].invert_yaxis()
    axes[12].plot(np.arange(len(onsets)) * hop / rate, onsets, color=COLOURS[0], linewidth=0.9)
    axes[12].set_ylabel("mean rise, dB", **STYLE)
    _finish(axes[12], "onset strength")
    for axis in axes[:14]:
        axis.set_xlim(0, seconds)
        axis.tick_params(labelbottom=axis in axes[11:14])
    for axis in axes[11:14]:
        axis.set_xlabel("seconds", **STYLE)
    axes[14].set_axis_off()
    bar = figure.colorbar(image, cax=axes[14].inset_axes([0.05, 0.5, 0.9, 0.1]), orientation="horizontal")
    bar.set_ticks(bar.mappable.get_clim(), labels=["lowest\n−80 dB", "highest\n0 dB"], **STYLE)
    _save(figure, path)
    with Image.open(path) as picture:  # a palette makes it a third of the size
        small = picture.convert("RGB").quantize(192, dither=Image.Dither.NONE)
    small.save(path, "PNG", optimize=True)


def _centres(representation):
    """Centre frequencies of a representation's bands in hertz; None where they have none."""
    if hasattr(representation, "filters"):
        bank = np.asarray(representation.filters())
        return bank @ (np.arange(bank.shape[1]) * representation.sample_rate / representation.n_fft) / bank.sum(axis=1)
    if representation.num_bins == 1 + getattr(representation, "n_fft", 0) // 2:
        return np.arange(representation.num_bins) * representation.sample_rate / representation.n_fft
    return None


def _plain_labels(axis):
    for text in axis.get_yticklabels():  # a tag may be called $x$, which is no formula
        text.set_parse_math(False)


def plot_filters(filters, path, *, representation, most: int = 8) -> None:
    """Draw the filters of a network's first layer: red adds, blue subtracts.

    Filters over frames and bands are pictures, in milliseconds and, where they are as tall as the spectrogram, hertz
    (others can lie anywhere, so they count bands from their lowest). Filters over time alone, of a waveform or of all
    bands' mean, are rows sorted by the frequency that they let pass most, beside their frequency responses.

    Args:
        filters: what :func:`mirjax.inspection.first_layer_filters` returns.
        path: PNG to write.
        representation: of the network.
        most: pictures of each shape.
    """
    rate, centres = representation.frame_rate, None
    if any(kernel.ndim == 3 for _, kernel in filters):
        centres = _centres(representation)
    figure = Figure(figsize=(8, 0.4 + 1.7 * len(filters)), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    rows = np.atleast_1d(figure.subfigures(len(filters), 1, squeeze=False).ravel())
    for row, (name, kernel) in zip(rows, filters, strict=True):
        kernel = np.asarray(kernel, np.float64)
        milliseconds, limit = 1000 * kernel.shape[0] / rate, np.abs(kernel).max() or 1
        colours = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "aspect": "auto", "interpolation": "none"}
        row.suptitle(
            f"{name}, {'×'.join(map(str, kernel.shape[:-1]))}, {kernel.shape[-1]} filters",
            fontsize=9,
            fontweight="bold",
            parse_math=False,
        )
        if kernel.ndim == 3:
            axes = row.subplots(1, most, sharey=True, squeeze=False)[0]
            height = kernel.shape[1]
            for axis, picture in zip(axes, np.moveaxis(kernel, -1, 0), strict=False):
                axis.imshow(picture.T, origin="lower", extent=(0, milliseconds, -0.5, height - 0.5), **colours)
            for axis in axes:
                _finish(axis, "")
                axis.set_xticks([0, milliseconds], ["0", f"{milliseconds:.3g}"])
                axis.tick_params(labelleft=axis is axes[0])
                axis.set_visible(bool(axis.images))
            if centres is not None and height == len(centres):
                ticks = _hertz(centres, (125, 500, 1000, 2000, 4000, 8000))
                axes[0].set_yticks(*ticks)
                axes[0].set_ylabel("Hz", **STYLE)
            else:
                axes[0].yaxis.set_major_locator(MaxNLocator(4, integer=True))
                axes[0].set_ylabel("bands", **STYLE)
            axes[0].set_xlabel("ms", **STYLE)
            continue
        size = max(512, 4 * kernel.shape[0])
        response = np.abs(np.fft.rfft(kernel, size, axis=0))
        order = response.argmax(axis=0).argsort(kind="stable")
        shape, passed = row.subplots(1, 2)
        across = (-0.5, kernel.shape[1] - 0.5)
        shape.imshow(kernel.T[order], origin="lower", extent=(0, milliseconds, *across), **colours)
        shape.set_xlabel("ms", **STYLE)
        decibels = _decibels(response[:, order] ** 2)
        passed.imshow(
            np.maximum(decibels, -40),
            origin="lower",
            extent=(*across, 0, rate / 2),
            cmap="magma",
            aspect="auto",
            interpolation="none",
        )
        passed.set_ylabel("Hz", **STYLE)
        passed.set_xlabel("filter, 40 dB from dark to bright", **STYLE)
        shape.set_ylabel("filter", **STYLE)
        shape.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        passed.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        for axis in (shape, passed):
            _finish(axis, "")
    _save(figure, path)


def plot_feature_maps(maps, path, *, most: int = 6) -> None:
    """Draw the maps of one clip, one panel a layer, over one time axis, each from its smallest to its largest value.

    Args:
        maps: what :func:`mirjax.inspection.feature_maps` returns.
        path: PNG to write.
        most: channels of a map with bands, drawn one above the other; a map without has all its channels as rows.
    """
    figure = Figure(figsize=(8, 0.5 + 1.5 * len(maps)), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(maps), 1, squeeze=False, sharex=True).ravel()
    end = 0.0
    for axis, (name, (times, values)) in zip(axes, maps.items(), strict=True):
        values, shape = np.asarray(values, np.float64), np.shape(values)
        shown = min(most, shape[-1]) if values.ndim == 3 else shape[-1]
        rows = np.moveaxis(values[..., :shown], -1, 1).reshape(shape[0], -1)
        half = (times[-1] - times[0]) / (2 * (len(times) - 1)) if len(times) > 1 else max(times[0], 1e-3)
        end = max(end, times[-1] + half)
        axis.imshow(
            rows.T,
            origin="lower",
            extent=(times[0] - half, times[-1] + half, 0, shown),
            cmap="magma",
            aspect="auto",
            interpolation="none",
        )
        if values.ndim == 3:
            axis.hlines(np.arange(1, shown), times[0] - half, times[-1] + half, color="white", linewidth=0.8)
            axis.set_yticks(np.arange(shown) + 0.5, list(map(str, range(shown))))
        else:
            axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axis.set_ylabel("channel", **STYLE)
        bands = f", {shape[1]} bands each" if values.ndim == 3 else ""
        _finish(axis, f"{name}: {shape[0]} steps, {shown} of {shape[-1]} channels{bands}")
    axes[0].set_xlim(0, end)
    axes[-1].set_xlabel("seconds", **STYLE)
    _save(figure, path)


def plot_receptive_field(model, path) -> None:
    """Draw how much of the signal one step of every layer sees, on a logarithmic axis, and how far its steps lie apart.

    Layers that see everything (recurrence, attention, pooling over all of time) reach the right edge.

    Args:
        model: a `taggers.Model`; of branches side by side the longest is drawn.
        path: PNG to write.

    Raises:
        ValueError: a network that says nothing of its layers.
    """
    import math

    from mirjax.models import geometry

    windows, rate = tuple(model.windows), model.representation.frame_rate
    if not windows:
        raise ValueError(f"{type(model).__name__} has no layers that do anything to time; nothing to draw")
    prefixes = [windows[: i + 1] for i in range(len(windows))]
    fields = [1000 * geometry.receptive_field(prefix) / rate for prefix in prefixes]
    strides = [1000 * geometry.stride(prefix) / rate for prefix in prefixes]
    finite = [field for field in fields if math.isfinite(field)] or [1000 / rate]
    edge = 8 * max(*finite, *strides)
    figure = Figure(figsize=(7, 0.8 + 0.24 * len(windows)), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for place, (window, field, stride) in enumerate(zip(windows, fields, strides, strict=True)):
        sees_all = math.isinf(field)
        axis.barh(place, edge if sees_all else field, color=COLOURS[4], height=0.7, hatch="//" if sees_all else None)
        if not sees_all or window.keeps:
            axis.plot([stride, stride], [place - 0.35, place + 0.35], color=COLOURS[1], linewidth=1.5)
        said = "everything" if sees_all else f"{field:,.0f} ms"
        outline = [withStroke(linewidth=2, foreground="white")]
        place_it = {"xytext": (-4 if sees_all else 4, 0), "ha": "right" if sees_all else "left", "va": "center"}
        at = (edge if sees_all else field, place)
        axis.annotate(said, at, textcoords="offset points", path_effects=outline, **place_it, **STYLE)
    axis.set_xscale("log")
    axis.set_xlim(min(1000 / rate, *strides) / 4, edge)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_ylim(len(windows) - 0.4, -0.6)
    axis.set_yticks(range(len(windows)), [window.name for window in windows])
    _plain_labels(axis)
    axis.set_xlabel("milliseconds that a step sees; the line: from step to step", **STYLE)
    _finish(axis, "")
    _save(figure, path)


def plot_taggram(times, values, path, *, tags=None, most: int = 20) -> None:
    """Draw what a network says of a clip over time, the strongest tags on top.

    Args:
        times: f64[T'], seconds, as :func:`mirjax.inspection.taggram` gives them.
        values: f32[T', K] in [0, 1].
        path: PNG to write.
        tags: names of the K tags; their numbers when None.
        most: tags to draw, those with the highest mean.

    Raises:
        ValueError: another number of names, times or axes.
    """
    values, times = np.asarray(values, np.float64), np.asarray(times)
    if values.ndim != 2 or len(times) != len(values) or not values.size:
        raise ValueError(f"values of shape {values.shape} and {len(times)} times: give [T', K] and T'")
    tags = list(map(str, range(values.shape[1]) if tags is None else tags))
    if len(tags) != values.shape[1]:
        raise ValueError(f"{len(tags)} tags for {values.shape[1]} answers; give one name each")
    order = np.argsort(-values.mean(axis=0), kind="stable")[:most]
    half = (times[-1] - times[0]) / (2 * (len(times) - 1)) if len(times) > 1 else 0.5
    figure = Figure(figsize=(8, 1.0 + 0.2 * len(order)), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    image = axis.imshow(
        values[:, order].T,
        extent=(times[0] - half, times[-1] + half, len(order) - 0.5, -0.5),
        cmap="magma",
        vmin=0,
        vmax=1,
        aspect="auto",
        interpolation="none",
    )
    axis.set_yticks(range(len(order)), [tags[i] for i in order])
    _plain_labels(axis)
    axis.set_xlabel("seconds", **STYLE)
    _finish(axis, "")
    figure.colorbar(image, ax=axis, pad=0.01).ax.tick_params(labelsize=8)
    _save(figure, path)


def plot_rank_scatter(sets, path) -> None:
    """Trained against untrained accuracy of every network, a panel a data set.

    Args:
        sets: of a :class:`mirjax.experiments.rank_report.RankReport`.
        path: PNG to write.
    """
    columns = min(3, len(sets))
    rows = -(-len(sets) // columns)
    figure = Figure(figsize=(4.2 * columns, 4.0 * rows), layout="constrained", dpi=200)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(sets) :]:
        axis.remove()
    for axis, found in zip(axes, sets, strict=False):
        trained = 100 * found.trained.means
        for colour, (label, untrained) in zip(COLOURS, found.untrained.items(), strict=False):
            axis.scatter(100 * untrained, trained, s=14, color=colour, alpha=0.75, linewidths=0, label=label)
        span = [min(axis.get_xlim()[0], axis.get_ylim()[0]), max(axis.get_xlim()[1], axis.get_ylim()[1])]
        axis.plot(span, span, color="#999999", linewidth=0.8, zorder=0)
        axis.set_xlabel("untrained accuracy, %", **STYLE)
        axis.set_ylabel("trained accuracy, %", **STYLE)
        axis.legend(fontsize=7, loc="lower right")  # framed: its dots are no networks
        _finish(axis, found.name)
    _save(figure, path)


def plot_rank_correlations(sets, path) -> None:
    """Spearman's correlation of every method with the trained accuracy, with its interval, a panel a data set.

    Args:
        sets: of a :class:`mirjax.experiments.rank_report.RankReport`.
        path: PNG to write.
    """
    names = list(dict.fromkeys(each.name for found in sets for each in found.methods))
    figure = Figure(figsize=(2.2 + 2.6 * len(sets), 0.8 + 0.28 * len(names)), layout="constrained", dpi=200)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(sets), squeeze=False, sharey=True)[0]
    for axis, found in zip(axes, sets, strict=True):
        by_name = {each.name: each.spearman for each in found.methods}
        for row, name in enumerate(names):
            interval = by_name.get(name)
            if interval is None:
                continue
            colour = COLOURS[0] if name in found.untrained else COLOURS[1]
            axis.plot([interval.low, interval.high], [row, row], color=colour, linewidth=1.5)
            axis.plot(interval.correlation, row, "o", color=colour, markersize=4)
        axis.axvline(0, color="#999999", linewidth=0.8)
        axis.set_xlim(-1, 1)
        axis.set_yticks(range(len(names)), names, fontsize=7)
        axis.set_xlabel("Spearman's ρ with trained accuracy", **STYLE)
        _finish(axis, found.name)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    _save(figure, path)

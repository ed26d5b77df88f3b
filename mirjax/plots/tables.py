"""Figures of a report's tables: accuracy with intervals, accuracy against cost, classifiers against each other.

One panel is one data set; a *series* is what its rows share: classifier, input, and where they differ scaling,
selection, protocol and width.
Names: `plot_accuracy`, `plot_pareto`, `plot_machines`.
"""

from collections import defaultdict

import numpy as np
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from mirjax.plots import canvas

MARKERS = {"raw": "o", "standardised": "D", "standardised_train": "s"}
AGAIN = "^vPX*<>"  # in place of the marker where all colours have been used before
INPUT_NAMES = {"standardised": "standardised (transductive)", "standardised_train": "standardised (train)"}
REFERENCES = {"majority": ("#666666", (0, (4, 2))), "chance": ("#999999", (0, (1, 2)))}
_MOST_NAMED = 30  # networks of a figure that can all have their names


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
            times, place = divmod(groups.index(key), len(canvas.COLOURS))
            marker = AGAIN[(times - 1) % len(AGAIN)] if times else MARKERS.get(kind, "^")
            found[key, kind] = (", ".join(parts), canvas.COLOURS[place], marker, kind == "raw")
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
    figure, axes, columns = canvas.figure(len(datasets), 0.75 + spacing * max(lines.values()), slots + 2)
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
        axis.set_xlabel(f"{what} (95 % interval)", **canvas.STYLE)
        canvas.finish(axis, dataset)
        axis.tick_params(axis="y", length=0)
    handles = [
        Line2D(
            [], [], color=c, marker=m, markersize=4, markerfacecolor=c if filled else "white", linewidth=1.1, label=n
        )
        for n, c, m, filled in series.values()
    ]
    shown = [name for name in REFERENCES if any(name in references for _, references in content.values())]
    handles += [Line2D([], [], color=REFERENCES[n][0], linestyle=REFERENCES[n][1], label=n) for n in shown]
    canvas.legend(figure, handles, columns)
    canvas.save(figure, path)


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
    figure, (axis,), _ = canvas.figure(1, 0.9 + 0.2 * len(machines), 0)
    scalings = sorted({machine.scaling for machine in machines})
    for height, machine in enumerate(machines):
        colour = canvas.COLOURS[scalings.index(machine.scaling)]
        points = [100 * value for value in machine.by_dataset.values()]
        axis.plot(points, [height] * len(points), "o", color=colour, markersize=2.2, alpha=0.5)
        axis.plot([100 * machine.low, 100 * machine.high], [height, height], color=colour, linewidth=1.2)
        axis.plot(100 * np.mean(machine.differences), height, "D", color=colour, markersize=4)
    axis.axvline(0, color="#666666", linewidth=0.9, zorder=0)
    axis.set_yticks(
        range(len(machines)), [f"{machine.classifier}, {machine.scaling}" for machine in machines], **canvas.STYLE
    )
    axis.invert_yaxis()
    axis.set_xlabel("points of accuracy above svm (mean, 95 % interval, data sets)", fontsize=8)
    canvas.finish(axis, "classifiers on the same features")
    canvas.save(figure, path)


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
    figure, axes, columns = canvas.figure(len(datasets), 3.3, len(series) + 2)
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
        axis.set_xlabel("GFLOPs a clip", **canvas.STYLE)
        axis.set_ylabel(what, **canvas.STYLE)
        axis.grid(color="#eeeeee", linewidth=0.6)
        axis.set_axisbelow(True)
        canvas.finish(axis, dataset)
        labels.append((axis, named, [(row.gflops, 100 * row.accuracy) for _, row in networks]))
    handles = [
        Line2D([], [], color=c, marker=m, markersize=4, markerfacecolor=c if filled else "white", linestyle="", label=n)
        for n, c, m, filled in series.values()
    ]
    handles.append(Line2D([], [], color="#bbbbbb", linewidth=3, label="Pareto front"))
    if any(row.architecture == "mfcc" for table in tables for row in table.rows):
        handles.append(Line2D([], [], color="#444444", linewidth=0.9, label="best mfcc"))
    canvas.legend(figure, handles, columns)
    figure.draw_without_rendering()  # settles the layout, so that labels can be placed in pixels
    for axis, named, taken in labels:
        _place_labels(axis, named, taken)
    canvas.save(figure, path)


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

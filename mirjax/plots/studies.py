"""Figures of studies: learning curves, accuracy against batch size, untrained against trained ranks.

Names: `plot_curves`, `plot_batchnorm`, `plot_rank_scatter`, `plot_rank_correlations`.
"""

from collections import Counter

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mirjax.plots import canvas

MOST_CURVES = 24  # networks of one figure
_CURVES = {"train_loss": canvas.COLOURS[0], "valid_loss": canvas.COLOURS[1]}


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
        losses.set_ylabel("loss", **canvas.STYLE)
        canvas.finish(losses, f"{dataset}: {network}" if several else network)
        if measured:
            last = figure.add_subplot(parts[1], sharex=losses)
            looks |= _plot_runs(last, drawn, measured, "metric of the validation clips")
            last.set_ylabel(
                measured.removeprefix("valid_").replace("roc_auc", "ROC-AUC").replace("_", " "), **canvas.STYLE
            )
            losses.tick_params(labelbottom=False)
            canvas.finish(last, "")
        losses.set_xlim(0, 1.02 * max(curve.rows[-1]["epoch"] for curve in drawn) + 0.1)
        last.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        last.set_xlabel("epoch", **canvas.STYLE)
    if len(shown) < len(panels):
        looks[f"the first {len(shown)} of {len(panels)}"] = {"linestyle": ""}
    handles = [Line2D([], [], label=label, **look) for label, look in looks.items()]
    canvas.legend(figure, handles, 2 if columns == 1 else 3)
    canvas.save(figure, path)


def _plot_runs(axis, curves, name, label) -> dict:
    """One measure of several runs, thin, and their mean, thick; what to say of it in the legend."""
    colour, found, looks = _CURVES.get(name, canvas.COLOURS[2]), [], {}
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
            looks[curve.name] = {
                "color": canvas.COLOURS[index],
                "marker": "oDs"[index],
                "linestyle": ("-", "--", ":")[index],
            }
    figure, axes, columns = canvas.figure(len(panels), 2.8, len(looks))
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
        axis.set_xlabel("clips in a batch", **canvas.STYLE)
        axis.set_ylabel("accuracy, % (± s.d. over seeds)", **canvas.STYLE)
        axis.grid(color="#eeeeee", linewidth=0.6)
        axis.set_axisbelow(True)
        same = [other for other in panels if other.dataset == panel.dataset]
        canvas.finish(
            axis, panel.dataset if len(same) == 1 else f"{panel.dataset}, n={panel.n}, scaling {panel.scaling}"
        )
    canvas.legend(figure, list(handles.values()), columns)
    canvas.save(figure, path)


_IN_A_ROW = 4  # panels of correlations


def plot_rank_scatter(sets, path) -> None:
    """Trained against untrained accuracy of every network, a panel a data set.

    Args:
        sets: of a :class:`mirjax.experiments.rank_report.RankReport`.
        path: PNG to write.
    """
    handles = {}
    most = max(len(found.untrained) for found in sets)
    figure, axes, columns = canvas.figure(len(sets), 3.6, most)
    for axis, found in zip(axes, sets, strict=True):
        trained = 100 * found.trained.means
        for colour, (label, untrained) in zip(canvas.COLOURS, found.untrained.items(), strict=False):
            handles[label] = axis.scatter(
                100 * untrained, trained, s=14, color=colour, alpha=0.75, linewidths=0, label=label
            )
        span = [min(axis.get_xlim()[0], axis.get_ylim()[0]), max(axis.get_xlim()[1], axis.get_ylim()[1])]
        axis.plot(span, span, color="#999999", linewidth=0.8, zorder=0)
        axis.set_xlabel("untrained accuracy, %", **canvas.STYLE)
        axis.set_ylabel("trained accuracy, %", **canvas.STYLE)
        canvas.finish(axis, found.name)
    canvas.legend(figure, list(handles.values()), columns)
    canvas.save(figure, path)


def plot_rank_correlations(sets, path) -> None:
    """Spearman's correlation of every method with the trained accuracy, with its interval, a panel a data set.

    Args:
        sets: of a :class:`mirjax.experiments.rank_report.RankReport`.
        path: PNG to write.
    """
    names = list(dict.fromkeys(each.name for found in sets for each in found.methods))
    columns = min(len(sets), _IN_A_ROW)
    rows = -(-len(sets) // columns)
    size = (2.2 + 2.6 * columns, (0.8 + 0.28 * len(names)) * rows)
    figure = Figure(figsize=size, layout="constrained", dpi=200)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axis in axes[len(sets) :]:
        axis.set_axis_off()
    for axis, found in zip(axes, sets, strict=False):
        by_name = {each.name: each.spearman for each in found.methods}
        for row, name in enumerate(names):
            interval = by_name.get(name)
            if interval is None:
                continue
            colour = canvas.COLOURS[0] if name in found.untrained else canvas.COLOURS[1]
            axis.plot([interval.low, interval.high], [row, row], color=colour, linewidth=1.5)
            axis.plot(interval.correlation, row, "o", color=colour, markersize=4)
        axis.axvline(0, color="#999999", linewidth=0.8)
        axis.set_xlim(-1, 1)
        axis.set_yticks(range(len(names)), names, fontsize=7)
        axis.set_xlabel("Spearman's ρ with trained accuracy", **canvas.STYLE)
        canvas.finish(axis, found.name)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    canvas.save(figure, path)

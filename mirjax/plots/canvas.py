"""What all figures share: panels, titles, a legend, colours and axes.

Nothing here touches pyplot's global state, so figures can be made in threads and notebooks alike.
Names: `COLOURS`, `STYLE`, `figure`, `finish`, `legend`, `save`, `plain_labels`, `decibels`, `hertz`.
"""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by the colour-blind, dark ones first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLE = {"fontsize": 8}


def figure(num_panels: int, panel_height: float, num_labels: int):
    """(figure, its axes, columns of a legend): panels, at most three in a row, and room for a legend below."""
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


def finish(axis, title) -> None:
    """Give a panel its title, and the looks of all others."""
    # A folder may be called $x$, which is no formula.
    axis.set_title(title, fontsize=9, loc="left", fontweight="bold", parse_math=False)
    axis.tick_params(labelsize=8, length=2.5)
    axis.spines[["top", "right"]].set_visible(False)


def legend(figure, handles, columns) -> None:
    """One legend below all panels."""
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, **STYLE)


def save(figure, path) -> None:
    """Write a PNG; equal figures give equal files."""
    figure.savefig(Path(path), format="png", metadata={"Software": None})


def plain_labels(axis) -> None:
    """Let labels of the vertical axis be text: a tag may be called $x$, which is no formula."""
    for text in axis.get_yticklabels():
        text.set_parse_math(False)


def decibels(power):
    """Decibels below the largest value, at least −80."""
    power = np.asarray(power, np.float64)
    return np.maximum(10 * np.log10(np.maximum(power, 1e-20) / max(power.max(), 1e-20)), -80)


def hertz(frequencies, ticks):
    """Places and labels of `ticks` hertz on an axis of bins with these centre frequencies, as far as they reach."""
    ticks = [tick for tick in ticks if frequencies[0] <= tick <= frequencies[-1]]
    return np.interp(ticks, frequencies, np.arange(len(frequencies))), [f"{tick:,}" for tick in ticks]

"""Figures of networks: filters, what every layer makes of a clip and sees of it, what the network says of it.

Names: `plot_filters`, `plot_feature_maps`, `plot_receptive_field`, `plot_taggram`.
"""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from mirjax.plots import canvas


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
                canvas.finish(axis, "")
                axis.set_xticks([0, milliseconds], ["0", f"{milliseconds:.3g}"])
                axis.tick_params(labelleft=axis is axes[0])
                axis.set_visible(bool(axis.images))
            if centres is not None and height == len(centres):
                ticks = canvas.hertz(centres, (125, 500, 1000, 2000, 4000, 8000))
                axes[0].set_yticks(*ticks)
                axes[0].set_ylabel("Hz", **canvas.STYLE)
            else:
                axes[0].yaxis.set_major_locator(MaxNLocator(4, integer=True))
                axes[0].set_ylabel("bands", **canvas.STYLE)
            axes[0].set_xlabel("ms", **canvas.STYLE)
            continue
        size = max(512, 4 * kernel.shape[0])
        response = np.abs(np.fft.rfft(kernel, size, axis=0))
        order = response.argmax(axis=0).argsort(kind="stable")
        shape, passed = row.subplots(1, 2)
        across = (-0.5, kernel.shape[1] - 0.5)
        shape.imshow(kernel.T[order], origin="lower", extent=(0, milliseconds, *across), **colours)
        shape.set_xlabel("ms", **canvas.STYLE)
        decibels = canvas.decibels(response[:, order] ** 2)
        passed.imshow(
            np.maximum(decibels, -40),
            origin="lower",
            extent=(*across, 0, rate / 2),
            cmap="magma",
            aspect="auto",
            interpolation="none",
        )
        passed.set_ylabel("Hz", **canvas.STYLE)
        passed.set_xlabel("filter, 40 dB from dark to bright", **canvas.STYLE)
        shape.set_ylabel("filter", **canvas.STYLE)
        shape.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        passed.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        for axis in (shape, passed):
            canvas.finish(axis, "")
    canvas.save(figure, path)


def _centres(representation):
    """Centre frequencies of a representation's bands in hertz; None where they have none."""
    if hasattr(representation, "filters"):
        bank = np.asarray(representation.filters())
        return bank @ (np.arange(bank.shape[1]) * representation.sample_rate / representation.n_fft) / bank.sum(axis=1)
    if representation.num_bins == 1 + getattr(representation, "n_fft", 0) // 2:
        return np.arange(representation.num_bins) * representation.sample_rate / representation.n_fft
    return None


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
        axis.set_ylabel("channel", **canvas.STYLE)
        bands = f", {shape[1]} bands each" if values.ndim == 3 else ""
        canvas.finish(axis, f"{name}: {shape[0]} steps, {shown} of {shape[-1]} channels{bands}")
    axes[0].set_xlim(0, end)
    axes[-1].set_xlabel("seconds", **canvas.STYLE)
    canvas.save(figure, path)


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
        axis.barh(
            place, edge if sees_all else field, color=canvas.COLOURS[4], height=0.7, hatch="//" if sees_all else None
        )
        if not sees_all or window.keeps:
            axis.plot([stride, stride], [place - 0.35, place + 0.35], color=canvas.COLOURS[1], linewidth=1.5)
        said = "everything" if sees_all else f"{field:,.0f} ms"
        outline = [withStroke(linewidth=2, foreground="white")]
        place_it = {"xytext": (-4 if sees_all else 4, 0), "ha": "right" if sees_all else "left", "va": "center"}
        at = (edge if sees_all else field, place)
        axis.annotate(said, at, textcoords="offset points", path_effects=outline, **place_it, **canvas.STYLE)
    axis.set_xscale("log")
    axis.set_xlim(min(1000 / rate, *strides) / 4, edge)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_ylim(len(windows) - 0.4, -0.6)
    axis.set_yticks(range(len(windows)), [window.name for window in windows])
    canvas.plain_labels(axis)
    axis.set_xlabel("milliseconds that a step sees; the line: from step to step", **canvas.STYLE)
    canvas.finish(axis, "")
    canvas.save(figure, path)


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
    canvas.plain_labels(axis)
    axis.set_xlabel("seconds", **canvas.STYLE)
    canvas.finish(axis, "")
    figure.colorbar(image, ax=axis, pad=0.01).ax.tick_params(labelsize=8)
    canvas.save(figure, path)

"""Figures of results, in the colours of Okabe and Ito, which colour-blind readers can tell apart."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lanpaint.images import replacing

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def new_figure(**options: Any) -> Any:
    """An empty matplotlib figure that needs no display and does not change the state of pyplot."""
    from matplotlib.figure import Figure

    return Figure(layout="constrained", **options)


def save(figure: Any, path: str | Path, dpi: int = 110) -> None:
    """Write a figure to a file. If that fails, an existing file stays as it was."""
    with replacing(Path(path)) as part:
        figure.savefig(part, dpi=dpi)


Panel = tuple[str, np.ndarray, np.ndarray]


@dataclass
class Curve:
    """Points of a curve: x, y, the standard error of y, and the evaluations of the score that each point took.

    An ``x`` of None means that the method does not have the setting of the x axis. It is drawn as a horizontal line.
    """

    x: list[float | None]
    y: list[float]
    error: list[float]
    nfe: list[int]


def against_evaluations(
    curves: Mapping[str, Sequence[tuple[int, float]]],
    path: str | Path,
    *,
    metric: str = "KL (nats)",
    title: str = "",
    floor: float | None = None,
    logarithmic: bool = True,
) -> None:
    """Plot a metric against evaluations of the score per sample, a curve for each name.

    Args:
        curves: Name → (evaluations, metric) of each run. Metrics that are not finite are left out, and counted in the
            legend.
        path: File to write.
        metric: Label of the metric.
        title: Title above the axes.
        floor: The metric of an equal number of exact samples, drawn as a line; None for no line.
        logarithmic: Whether the metric's axis is logarithmic.
    """
    figure = new_figure(figsize=(7.2, 4.6))
    axes = figure.subplots()
    for i, (name, points) in enumerate(curves.items()):
        points = sorted(points)
        _draw(axes, i, name, [nfe for nfe, _ in points], [value for _, value in points], logarithmic=logarithmic)
    _finish(axes, "evaluations of the score per sample", metric, title, floor, logarithmic)
    axes.legend(fontsize=9)
    save(figure, path)


def curves_along(
    curves: Mapping[str, Curve],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    floor: float | None,
    logarithmic: bool,
    with_evaluations: bool,
    path: str | Path,
) -> None:
    """Plot a metric against a setting, a curve for each name. A second panel can show it against the evaluations.

    Args:
        curves: Name → points of the curve. Points that are not finite are left out, and counted in the legend.
        xlabel: Label of the setting.
        ylabel: Label of the metric.
        title: Title above the axes.
        floor: Value of the metric for exact samples, drawn as a line; None for no line.
        logarithmic: Whether the metric's axis is logarithmic.
        with_evaluations: Whether to draw the second panel.
        path: File to write.
    """
    figure = new_figure(figsize=(11.5 if with_evaluations else 7.2, 4.2))
    panels = figure.subplots(1, 2 if with_evaluations else 1, sharey=True, squeeze=False)[0]
    for i, (name, curve) in enumerate(curves.items()):
        if curve.x[0] is None:
            style = {"color": COLOURS[i % len(COLOURS)], "linestyle": "--", "linewidth": 1.2}
            if math.isfinite(curve.y[0]):
                panels[0].axhline(curve.y[0], label=name, **style)
            else:
                panels[0].plot([], [], label=f"{name} (diverged)", **style)
        else:
            x = [math.nan if value is None else value for value in curve.x]
            _draw(panels[0], i, name, x, curve.y, curve.error, logarithmic=logarithmic)
            for value, y in zip(x, curve.y, strict=True):
                if math.isinf(value) and math.isfinite(y):  # cannot be placed on the axis
                    panels[0].axhline(y, color=COLOURS[i % len(COLOURS)], linestyle="-.", label=f"{name}, at infinity")
        if with_evaluations:
            _draw(panels[1], i, name, curve.nfe, curve.y, curve.error, logarithmic=logarithmic)
    _finish(panels[0], xlabel, ylabel, title, floor, logarithmic)
    if with_evaluations:
        _finish(panels[1], "evaluations of the score per sample", "", title, floor, logarithmic)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    save(figure, path)


@dataclass
class PointPanel:
    """A panel of points: a value and its standard error for each name, and the value of exact samples."""

    title: str
    xlabel: str
    points: dict[str, tuple[float, float]]
    floor: float | None
    logarithmic: bool


def points_by_name(names: Sequence[str], panels: Sequence[PointPanel], path: str | Path) -> None:
    """Plot a metric of several names, a line of the panel for each; panels stand five in a row.

    Args:
        names: The names, from top to bottom.
        panels: The panels. A value of infinity is written as a word, and NaN is left out.
        path: File to write.
    """
    columns = min(5, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(figsize=(2.2 + 2.4 * columns, rows * (1.0 + 0.24 * len(names))))
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid, panels, strict=False):
        for place, name in enumerate(names):
            value, error = panel.points.get(name, (math.nan, math.nan))
            if math.isinf(value):
                axes.text(
                    0.5, place, "diverged", transform=axes.get_yaxis_transform(), ha="center", va="center", size=7
                )
            elif math.isfinite(value):
                bar = None if math.isnan(error) else [[error], [error]]
                axes.errorbar([value], [place], xerr=bar, color=COLOURS[0], marker="o", markersize=5, capsize=2)
        if panel.floor is not None:
            axes.axvline(panel.floor, color="black", linestyle=":", linewidth=1)
        if panel.logarithmic:
            axes.set_xscale("log")
        axes.set_title(panel.title, fontsize=9)
        axes.set_xlabel(panel.xlabel, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(visible=True, alpha=0.3)
    grid[0].set_yticks(range(len(names)), names)
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    save(figure, path)


def _draw(
    axes: Any,
    i: int,
    name: str,
    x: Sequence[float],
    y: Sequence[float],
    error: Sequence[float] | None = None,
    *,
    logarithmic: bool = True,
) -> None:
    drawn = [k for k, value in enumerate(y) if math.isfinite(value) and (value > 0 or not logarithmic)]
    lost = sum(not math.isfinite(value) for value in y)
    axes.errorbar(
        [x[k] for k in drawn],
        [y[k] for k in drawn],
        None if error is None else [error[k] for k in drawn],
        color=COLOURS[i % len(COLOURS)],
        marker=MARKERS[i % len(MARKERS)],
        linestyle="-" if i < len(COLOURS) else "--",
        capsize=2,
        label=name + (f" ({lost} diverged)" if lost else ""),
    )


def _finish(axes: Any, xlabel: str, ylabel: str, title: str, floor: float | None, logarithmic: bool) -> None:
    is_empty = not any(len(line.get_xdata()) for line in axes.lines)
    if is_empty:  # a logarithmic axis needs a number
        axes.text(0.5, 0.5, "no run has a number to draw", transform=axes.transAxes, ha="center")
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        return
    if floor is not None and math.isfinite(floor):
        axes.axhline(floor, color="0.5", linestyle=":", label="exact samples")
    low, high = axes.get_xlim()
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title, yscale="log" if logarithmic else "linear")
    if (low > 0 and high > 4 * low) or "evaluations" in xlabel:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:g}".lstrip("0.")[:1] in "235" else "")
    axes.grid(alpha=0.3, which="both")


def clouds(
    rows: Sequence[Sequence[Panel]],
    path: str | Path,
    background: np.ndarray | None = None,
    edge: float = 2.6,
    shown: int = 2_000,
) -> None:
    """Plot sets of samples in the plane, one panel per set. Marked samples are red.

    Args:
        rows: Rows of panels. A panel is a title, samples (n, 2), and booleans (n,), True for the samples to mark. A
            panel without samples leaves its place empty.
        path: File to write.
        background: Samples (n, 2) to draw in grey behind the samples of every panel.
        edge: The axes go from −edge to edge.
        shown: Largest number of samples to draw in a panel.
    """
    columns = max(len(row) for row in rows)
    figure = new_figure(figsize=(2.3 * columns, 2.9 * len(rows)))
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for axis in panels.flat:
        axis.set_visible(False)
    for row, line in zip(panels, rows, strict=True):
        for axis, (title, points, marked) in zip(row, line, strict=False):
            if not len(points):
                continue
            points, marked = points[:shown], marked[:shown]
            axis.set_visible(True)
            if background is not None:
                axis.scatter(*background.T, s=1, color="0.8", linewidths=0, rasterized=True)
            axis.scatter(*points[~marked].T, s=1.2, color=COLOURS[0], linewidths=0, rasterized=True)
            axis.scatter(*points[marked].T, s=5, color=COLOURS[1], linewidths=0, rasterized=True)
            axis.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal")
            axis.set_title(title, fontsize=9)
            axis.tick_params(labelsize=7)
    for axis in panels[-1]:
        axis.set_xlabel("x (asked)", fontsize=8)
    for axis in panels[:, 0]:
        axis.set_ylabel("y (known)", fontsize=8)
    save(figure, path)


def draw_density(axes: Any, target: Any, level: Any, edge: float = 2.5, points: int = 121) -> None:
    """Draw the density of a distribution in the plane at a noise level. Darker grey is a higher density.

    Args:
        axes: Matplotlib axes.
        target: An object with ``log_prob(x, level)``, such as a :class:`lanpaint_toys.GaussianMixture`.
        level: The :class:`~lanpaint.NoiseLevel`.
        edge: The axes go from −edge to edge.
        points: Grid points along each axis.
    """
    grid, shape = _grid(edge, points)
    density = target.log_prob(grid, level).exp().reshape(shape).T
    axes.imshow(
        density, origin="lower", extent=(-edge, edge, -edge, edge), cmap="Greys", vmax=1.6 * float(density.max())
    )
    axes.set(aspect="equal")


def draw_field(axes: Any, field: Any, level: Any, edge: float = 2.5, points: int = 13, color: str = COLOURS[0]) -> None:
    """Draw a vector field in the plane at a noise level, as arrows.

    An arrow's length is proportional to the 0.4th power of the vector's length, so that short vectors can be seen.

    Args:
        axes: Matplotlib axes.
        field: Function (x, level) → vectors, with x and the vectors of shape (B, 2): a score, or a field of this
            library.
        level: The :class:`~lanpaint.NoiseLevel`.
        edge: The arrows start on a grid from −edge to edge.
        points: Arrows along each axis.
        color: Colour of the arrows.
    """
    grid, _ = _grid(0.93 * edge, points)
    vectors = field(grid, level)
    length = vectors.norm(dim=1, keepdim=True)
    drawn = vectors / length.clamp(min=1e-9) * (length / length.max()) ** 0.4
    axes.quiver(*grid.T, *drawn.T, color=color, angles="xy", scale=16, width=0.005)
    axes.set(aspect="equal", xlim=(-edge, edge), ylim=(-edge, edge))


def _grid(edge: float, points: int) -> tuple[Any, tuple[int, int]]:
    import torch

    side = torch.linspace(-edge, edge, points, dtype=torch.float64)
    return torch.cartesian_prod(side, side), (points, points)


def film(figure: Any, draw: Callable[[int], Any], frames: int, interval: int = 300) -> Any:
    """An animation with a slider and buttons, for a notebook or for a web page made from the notebook.

    Args:
        figure: The matplotlib figure.
        draw: Function that draws frame ``i`` = 0, 1, … into the figure. It must clear what it drew before.
        frames: Number of frames.
        interval: Time from frame to frame, in milliseconds.

    Returns:
        An ``IPython.display.HTML`` that contains all frames. It needs no running kernel.

    Raises:
        ValueError: For less than one frame.
    """
    from IPython.display import HTML
    from matplotlib import rc_context
    from matplotlib.animation import FuncAnimation

    if frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    with rc_context({"savefig.dpi": 60, "animation.embed_limit": 20}):
        page = FuncAnimation(figure, draw, frames=frames, interval=interval).to_jshtml(default_mode="once")
    # Matplotlib's page loads a font for its buttons and needs a wide screen. This page needs neither.
    page = re.sub(r"<link[^>]*>", "", page).replace("width: 374px", "width: 100%; max-width: 374px")
    return HTML(re.sub(r'<i class="fa fa-([a-z -]+)"></i>', lambda icon: _BUTTONS[icon[1]], page))


_BUTTONS = {
    "minus": "−",
    "fast-backward": "«",
    "step-backward": "‹",
    "play fa-flip-horizontal": "◀",
    "pause": "‖",
    "play": "▶",
    "step-forward": "›",
    "fast-forward": "»",
    "plus": "+",
}

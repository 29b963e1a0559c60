"""Pictures of results. Colours are those of Okabe and Ito, which colour-blind readers tell apart."""

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
    """A figure that needs no display and touches no state of pyplot's."""
    from matplotlib.figure import Figure

    return Figure(layout="constrained", **options)


def save(figure: Any, path: str | Path, dpi: int = 110) -> None:
    """Write a figure, in whole or not at all."""
    with replacing(Path(path)) as part:
        figure.savefig(part, dpi=dpi)


Panel = tuple[str, np.ndarray, np.ndarray]


@dataclass
class Curve:
    """Points of a curve: where, the value, its standard error, and the evaluations that it took.

    An ``x`` of None is that of a method without this setting: it is drawn as a line across.
    """

    x: list[float | None]
    y: list[float]
    error: list[float]
    nfe: list[int]


def kl_against_evaluations(
    curves: Mapping[str, Sequence[tuple[int, float]]], floor: float, title: str, path: str | Path
) -> None:
    """KL in nats against evaluations of the score per sample, a curve for each name; infinite values are left out.

    Args:
        curves: Name → (evaluations, KL) of each run.
        floor: KL of as many exact samples, drawn as a line.
        title: Above the axes.
        path: Where the picture goes.
    """
    figure = new_figure(figsize=(7.2, 4.6))
    axes = figure.subplots()
    for i, (name, points) in enumerate(curves.items()):
        points = sorted(points)
        _draw(axes, i, name, [nfe for nfe, _ in points], [kl for _, kl in points])
    _finish(axes, "evaluations of the score per sample", "KL (nats)", title, floor, logarithmic=True)
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
    """A figure of merit along a setting, a curve for each name; with a second panel along the evaluations if asked.

    Args:
        curves: Name → its points; those that are not finite are left out and counted in the legend.
        xlabel: Of the setting.
        ylabel: Of the figure.
        title: Above the axes.
        floor: The figure of exact samples, drawn as a line; None if there is none.
        logarithmic: Whether the figure's axis is.
        with_evaluations: Whether to draw the second panel.
        path: Where the picture goes.
    """
    figure = new_figure(figsize=(11.5 if with_evaluations else 7.2, 4.2))
    panels = figure.subplots(1, 2 if with_evaluations else 1, sharey=True, squeeze=False)[0]
    for i, (name, curve) in enumerate(curves.items()):
        if curve.x[0] is None:
            style = {"color": COLOURS[i % len(COLOURS)], "linestyle": "--", "linewidth": 1.2}
            panels[0].axhline(curve.y[0], label=name, **style)
        else:
            x = [math.nan if value is None else value for value in curve.x]
            _draw(panels[0], i, name, x, curve.y, curve.error)
            for value, y in zip(x, curve.y, strict=True):
                if math.isinf(value):  # off the axis
                    panels[0].axhline(y, color=COLOURS[i % len(COLOURS)], linestyle="-.", label=f"{name}, at infinity")
        if with_evaluations:
            _draw(panels[1], i, name, curve.nfe, curve.y, curve.error)
    _finish(panels[0], xlabel, ylabel, title, floor, logarithmic)
    if with_evaluations:
        _finish(panels[1], "evaluations of the score per sample", "", title, floor, logarithmic)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    save(figure, path)


def _draw(
    axes: Any, i: int, name: str, x: Sequence[float], y: Sequence[float], error: Sequence[float] | None = None
) -> None:
    drawn = [k for k, value in enumerate(y) if math.isfinite(value) and value > 0]
    lost = len(y) - len(drawn)
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
    """Samples in the plane, a panel each; those marked are red.

    Args:
        rows: Rows of panels: a title, samples (n, 2), which of them to mark (n,). Without samples the place is empty.
        path: Where the picture goes.
        background: Samples (n, 2) to draw in grey behind all others.
        edge: The axes go from −edge to edge.
        shown: At most so many samples a panel.
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
    """The density of a planar law at a noise level, in greys; darker is likelier.

    Args:
        axes: Of matplotlib.
        target: With ``log_prob(x, level)``, such as a :class:`toy_models.GaussianMixture`.
        level: The :class:`~lanpaint.NoiseLevel`.
        edge: The axes go from −edge to edge.
        points: Grid points a side.
    """
    grid, shape = _grid(edge, points)
    density = target.log_prob(grid, level).exp().reshape(shape).T
    axes.imshow(
        density, origin="lower", extent=(-edge, edge, -edge, edge), cmap="Greys", vmax=1.6 * float(density.max())
    )
    axes.set(aspect="equal")


def draw_field(axes: Any, field: Any, level: Any, edge: float = 2.5, points: int = 13, color: str = COLOURS[0]) -> None:
    """A planar vector field at a noise level: arrows whose length is compressed, so that short ones can be seen.

    Args:
        axes: Of matplotlib.
        field: Function (x, level) → vectors, both of shape (B, 2): a score, or a field of this library.
        level: The :class:`~lanpaint.NoiseLevel`.
        edge: The arrows stand on a grid from −edge to edge.
        points: Arrows a side.
        color: Of the arrows.
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
    """A figure that is stepped through by hand or played, in a notebook and in a page that was made of it.

    Args:
        figure: The figure.
        draw: Draws the frame of a number, from 0; it clears what it draws anew.
        frames: How many.
        interval: Milliseconds from one to the next.

    Returns:
        An ``IPython.display.HTML`` with all frames in it, a slider and buttons; it needs no running kernel.

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
    # Matplotlib fetches its buttons' font and counts on a wide page; this needs no network, and fits a phone.
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

"""Pictures of results. Colours are those of Okabe and Ito, which colour-blind readers tell apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
        drawn = sorted((nfe, kl) for nfe, kl in points if math.isfinite(kl) and kl > 0)
        lost = len(points) - len(drawn)
        axes.plot(
            [nfe for nfe, _ in drawn],
            [kl for _, kl in drawn],
            color=COLOURS[i % len(COLOURS)],
            marker=MARKERS[i % len(MARKERS)],
            label=name + (f" ({lost} diverged)" if lost else ""),
        )
    axes.axhline(floor, color="0.5", linestyle=":", label="exact samples")
    axes.set(xscale="log", yscale="log", xlabel="evaluations of the score per sample", ylabel="KL (nats)", title=title)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:g}"[0] in "2346" else "")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=9)
    save(figure, path)

"""How fast each dynamics forgets, per evaluation of the score: docs/contraction.png and the tables of docs/dynamics.md.

    python docs/studies/contraction.py

On a Gaussian of precisions 1 and 1/κ, with the damping A = 1, the spectral radius ρ of a step's map is exact. Its
worth is 1/(−ln ρ), the evaluations in which what is remembered of the start falls by e; the fewer the better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import LogNorm

from lanpaint import HFHR, Dynamics, FastLangevin, Langevin, Underdamped
from lanpaint.plotting import new_figure, save
from lanpaint.verification import affine_step, gaussian_drift

CONDITIONS = (1, 10, 100)
STEPS = np.geomspace(0.01, 50, 45)
FRICTIONS = np.geomspace(0.05, 20, 32)
FAMILY: dict[str, Callable[[float], Dynamics]] = {
    "FLD": FastLangevin,
    "HFHR, Ψ = 2": lambda friction: HFHR(friction, psi=2.0),
    "HFHR, Ψ = 10": lambda friction: HFHR(friction, psi=10.0),
    "BAOAB": lambda friction: Underdamped(1.0, friction),
    "UBU": lambda friction: Underdamped(1.0, friction, "UBU"),
}
WITHOUT_FRICTION = {"Langevin": Langevin(), "OU": FastLangevin(math.inf)}


def figures(dynamics: Dynamics, condition: float, step: float) -> tuple[float, float]:
    """ρ, and the relative error of the worse of the two variances of x (∞ where the step is unstable)."""
    precision = torch.diag(torch.tensor([1.0, 1 / condition], dtype=torch.float64))
    affine = affine_step(dynamics, gaussian_drift(precision, torch.zeros(2).double(), 1.0, step), 2)
    radius = affine.spectral_radius
    if not radius < 1:
        return radius, math.inf
    variances = np.diag(affine.stationary_covariance())[:2]
    return radius, float(np.abs(variances / [1, condition] - 1).max())


def memory(radius: float) -> float:
    """Evaluations in which the memory falls by e."""
    return -1 / math.log(radius) if 0 < radius < 1 else (0.0 if radius <= 0 else math.inf)


def main() -> None:
    """Compute, print, draw."""
    grids = {}
    for name, make in FAMILY.items():
        for condition in CONDITIONS:
            grids[name, condition] = np.array(
                [[figures(make(friction), condition, step) for step in STEPS] for friction in FRICTIONS]
            )
    for name, dynamics in WITHOUT_FRICTION.items():
        for condition in CONDITIONS:
            grids[name, condition] = np.array([[figures(dynamics, condition, step) for step in STEPS]])
    _print(grids)
    _draw(grids)


def _print(grids: dict[tuple[str, int], np.ndarray]) -> None:
    for bound in (math.inf, 0.01):
        title = "any bias" if math.isinf(bound) else f"variances within {bound:.0%}"
        print(f"\n| {title} | " + " | ".join(f"κ = {c}" for c in CONDITIONS) + " |")
        print("|---" * (len(CONDITIONS) + 1) + "|")
        for name in [*WITHOUT_FRICTION, *FAMILY]:
            cells = []
            for condition in CONDITIONS:
                radius, bias = np.moveaxis(grids[name, condition], -1, 0)
                radius = np.where(bias <= bound, radius, np.inf)
                row, column = np.unravel_index(np.argmin(radius), radius.shape)
                settings = f"τ = {STEPS[column]:.2g}" + (f", γ = {FRICTIONS[row]:.2g}" if name in FAMILY else "")
                cells.append(f"{memory(radius[row, column]):.2g} ({settings})")
            print(f"| {name} | " + " | ".join(cells) + " |")


def _draw(grids: dict[tuple[str, int], np.ndarray]) -> None:
    figure = new_figure(figsize=(9.6, 11.2))
    axes = figure.subplots(len(FAMILY), len(CONDITIONS), sharex=True, sharey=True)
    for row, name in zip(axes, FAMILY, strict=True):
        for axis, condition in zip(row, CONDITIONS, strict=True):
            radius = grids[name, condition][..., 0]
            worth = np.array([[max(memory(r), 0.1) for r in line] for line in radius])
            image = axis.pcolormesh(
                STEPS, FRICTIONS, np.ma.masked_invalid(worth), norm=LogNorm(0.1, 1000), cmap="cividis_r"
            )
            best = np.unravel_index(np.argmin(radius), radius.shape)
            axis.plot(STEPS[best[1]], FRICTIONS[best[0]], "*", color="#D55E00", markersize=12)
            axis.set(xscale="log", yscale="log")
            axis.set_title(f"{name}, κ = {condition}", fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel("step dτ, in units of 1/A")
    for axis in axes[:, 0]:
        axis.set_ylabel("friction γ")
    bar = figure.colorbar(image, ax=axes, shrink=0.4, pad=0.02)
    bar.set_label("evaluations in which memory falls by e (white: unstable)")
    save(figure, Path(__file__).parents[1] / "contraction.png", dpi=90)


if __name__ == "__main__":
    main()

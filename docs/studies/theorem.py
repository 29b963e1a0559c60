"""Theorem 4.1 measured on gauss2 by linear algebra: docs/theorem.png and the table of docs/dynamics.md.

    python docs/studies/theorem.py

At a fixed noise level the score is affine and the dynamics of Eq. 13 settles in a Gaussian, which is compared with q_λ.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from lanpaint import BiG, NoiseLevel, Observation
from lanpaint.plotting import COLOURS, new_figure, save
from lanpaint.verification import limit_law
from lanpaint_toys import Gaussian

RHO, OBSERVED = 0.8, 1.0
TWINS = 1 - 1e-9  # correlation of two coordinates that are one number, as far as any level here can tell
SIGMAS = np.geomspace(10**-3.5, 10**-0.5, 13)
LAMS = (0.0, 4.0, 8.0, 16.0)


def compare(sigma: float, lam: float, correlation: float = RHO) -> dict[str, float]:
    """Distances of the stationary law of the BiG dynamics from q_λ, and the ratio of Fig. 9, at σ = √(1 − ᾱ)."""
    level = NoiseLevel(math.sqrt(1 - sigma**2), sigma)
    clean = [[1.0, correlation], [correlation, 1.0]]
    target = Gaussian([0.0, 0.0], clean)
    observation = Observation(torch.full((1, 2), OBSERVED, dtype=torch.float64), known=torch.tensor([False, True]))
    field = BiG(target, observation, lam)
    mean, cov = limit_law(field.drift(level, torch.ones(2, dtype=torch.float64)), 2)

    # q_λ (Eq. 11): log q = log p(x, y) − (1 + λ) log p(y) + (1 + λ) log p(y | y_o); the variance of y is 1 at any ᾱ.
    joint = (1 - sigma**2) * np.array(clean) + sigma**2 * np.eye(2)
    precision = np.linalg.inv(joint) + np.diag([0.0, (1 + lam) * (1 / sigma**2 - 1)])
    q_mean = np.linalg.solve(precision, [0.0, (1 + lam) * float(level.alpha) * OBSERVED / sigma**2])
    q_cov = np.linalg.inv(precision)

    away = mean - q_mean
    kl = 0.5 * (np.trace(precision @ cov) - 2 + away @ precision @ away - np.linalg.slogdet(precision @ cov)[1])
    return {
        "root of KL": math.sqrt(max(kl, 0.0)),
        "variance of x": abs(cov[0, 0] - q_cov[0, 0]),
        "ratio, z ~ q": _ratio(field, level, lam, joint, q_mean, q_cov),
        "ratio, z ~ p": _ratio(field, level, lam, joint, np.zeros(2), joint),
    }


def _ratio(field: BiG, level: NoiseLevel, lam: float, joint: np.ndarray, mean: np.ndarray, cov: np.ndarray) -> float:
    """E‖s_y* − g_λ‖ / E‖s_y*‖ (Fig. 9) under a Gaussian law of z = (x, y); both are affine in z."""
    precision = np.linalg.inv(joint)
    dropped = -(1 + lam) * (precision[1] - np.array([0.0, 1.0]))  # (1 + λ) ∇_y log p(x | y)
    zero, unit = torch.zeros(1, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    start = float(field(zero, level)[0, 1])
    big = (field(unit, level)[:, 1] - start).numpy()
    lost, ideal = (_mean_norm(row @ mean + c, row @ cov @ row) for row, c in ((dropped, 0.0), (big + dropped, start)))
    return lost / ideal


def _mean_norm(mean: float, variance: float) -> float:
    """E|u| for a normal u."""
    deviation = math.sqrt(variance)
    return deviation * math.sqrt(2 / math.pi) * math.exp(-(mean**2) / (2 * variance)) + mean * math.erf(
        mean / (deviation * math.sqrt(2))
    )


def main() -> None:
    """Compute, print, draw."""
    figures = {g: [compare(s, g) for s in SIGMAS] for g in LAMS}
    names = list(figures[0.0][0])
    print("| slope in √(1 − ᾱ) | " + " | ".join(f"λ = {g:g}" for g in LAMS) + " |")
    print("|---" * (len(LAMS) + 1) + "|")
    for name in names:
        slopes = [np.polyfit(np.log(SIGMAS[:9]), np.log([row[name] for row in figures[g][:9]]), 1)[0] for g in LAMS]
        print(f"| {name} | " + " | ".join(f"{slope:.3f}" for slope in slopes) + " |")

    print("\nroot of KL where x₀ = y₀, at falling √(1 − ᾱ):")
    for lam in (0.0, 8.0):
        values = (compare(sigma, lam, TWINS)["root of KL"] for sigma in (0.1, 0.03, 0.01))
        print(f"λ = {lam:g}: " + ", ".join(f"{value:.3f}" for value in values))

    figure = new_figure(figsize=(10.5, 4.2))
    left, right = figure.subplots(1, 2)
    for colour, lam in zip(COLOURS, LAMS, strict=False):
        rows = figures[lam]
        left.plot(SIGMAS, [r["root of KL"] for r in rows], "o-", color=colour, label=f"√KL, λ = {lam:g}")
        left.plot(
            SIGMAS,
            [r["variance of x"] for r in rows],
            "s--",
            color=colour,
            mfc="none",
            label=None if lam else "error of Var x, any λ",
        )
        right.plot(SIGMAS, [r["ratio, z ~ q"] for r in rows], "o-", color=colour, label=f"z ~ q, λ = {lam:g}")
        right.plot(
            SIGMAS,
            [r["ratio, z ~ p"] for r in rows],
            "s--",
            color=colour,
            mfc="none",
            label=None if lam else "z ~ p, any λ",
        )
    titles = ("BiG dynamics against $q_\\lambda$", "what BiG drops, over the ideal score (Fig. 9)")
    heights = ("distance from $q_\\lambda$", "ratio of mean norms")
    for axis, title, height in zip((left, right), titles, heights, strict=True):
        for power in (1, 2):
            line = SIGMAS**power / SIGMAS[-1] ** power * 0.3
            axis.plot(SIGMAS, line, ":", color="0.4", label=f"slope {power}")
        axis.set(xscale="log", yscale="log", xlabel=r"$\sqrt{1-\bar\alpha}$", ylabel=height, title=title)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, ncol=2)
    save(figure, Path(__file__).parents[1] / "theorem.png", dpi=90)


if __name__ == "__main__":
    main()

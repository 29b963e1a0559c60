"""What chains of windows and averages over windows sample, exactly: the tables of docs/chains.md, and docs/chains.png.

    python docs/studies/chains.py                 # Gaussian processes: no sampling, all covariances are exact

A strip of 64 entries, windows of 16. On a Gaussian each sampler is an affine map of its random numbers. So a window is
x_new = A x_overlap + L ξ, and the covariance of the whole strip follows by linear algebra. The divergence is
KL(chain ‖ truth) in nats per entry.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.plotting import COLOURS, MARKERS, new_figure, save
from lanpaint.tiling import starts
from lanpaint_toys import Gaussian

LENGTH, WINDOW = 64, 16
OVERLAPS = (1, 2, 4, 8, 12)
PROCESSES: dict[str, Callable[[Tensor], Tensor]] = {
    "AR(1), correlation 0.9": lambda distance: 0.9**distance,
    "long memory, 1/(1 + d/4)": lambda distance: 1 / (1 + distance / 4),
}
SAMPLERS: dict[str, Callable[[lp.Score], lp.Sampler]] = {
    "LanPaint, 20 × 5": lambda score: lp.LanPaint(score, steps=20, expected_noise=0.1),
    "ALM, 30 steps": lambda score: lp.ALM(score, steps=30),
    "ALM, fixed noise, 40 steps": lambda score: lp.ALM(score, steps=40, partner="fixed"),
    "SyncSDE, 60 steps": lambda score: lp.SyncSDE(score, steps=60),
    "Replace, 120 steps": lambda score: lp.Replace(score, steps=120),
}


class Basis:
    """Row i of the batch gets a 1 for the i-th random number that a row draws; the others get zeros."""

    def __init__(self) -> None:
        self.drawn = 0

    def __call__(self, like: Tensor) -> Tensor:
        """The next numbers."""
        out = torch.zeros_like(like)
        for column in range(like.shape[1]):
            if self.drawn < len(out):
                out[self.drawn, column] = 1
            self.drawn += 1
        return out


def covariance(correlation: Callable[[Tensor], Tensor], length: int) -> Tensor:
    """Covariance of a stationary process."""
    at = torch.arange(length, dtype=torch.float64)
    return correlation((at[:, None] - at[None]).abs())


def spread(sampler: lp.Sampler, length: int, known: Tensor) -> Tensor:
    """Covariance of what a sampler makes, with known entries of 0."""
    count = Basis()
    sampler(lp.Observation(torch.zeros(1, length, dtype=torch.float64), known), noise=count)
    noise = Basis()
    made = sampler(lp.Observation(torch.zeros(count.drawn, length, dtype=torch.float64), known), noise=noise)
    return made.mT @ made


def response(sampler: lp.Sampler, known: Tensor) -> Tensor:
    """A: how the mean of the other entries follows the known ones, shape (new, known)."""
    values = torch.zeros(int(known.sum()), len(known), dtype=torch.float64)
    values[:, known] = torch.eye(len(values), dtype=torch.float64)
    made = sampler(lp.Observation(values, known), noise=torch.zeros_like)
    return made[:, ~known].mT


def exact(cov: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """A and covariance of the exact conditional."""
    gain = torch.linalg.solve(cov[known][:, known], cov[known][:, ~known]).mT
    return gain, cov[~known][:, ~known] - gain @ cov[known][:, ~known]


def chained(first: Tensor, gain: Callable[[int], Tensor], added: Callable[[int], Tensor], overlap: int) -> Tensor:
    """Covariance of a strip, from that of its first window and the map of a window whose overlap is given."""
    cov = torch.zeros(LENGTH, LENGTH, dtype=torch.float64)
    cov[:WINDOW, :WINDOW] = first
    begins = starts(LENGTH, WINDOW, overlap)
    for before, start in pairwise(begins):
        end, shared = before + WINDOW, before + WINDOW - start
        a, new = gain(shared), slice(end, start + WINDOW)
        cov[new, :end] = a @ cov[start:end, :end]
        cov[:end, new] = cov[new, :end].mT
        cov[new, new] = a @ cov[start:end, start:end] @ a.mT + added(shared)
    return cov


def divergence(cov: Tensor, truth: Tensor) -> float:
    """KL(N(0, cov) ‖ N(0, truth)) per entry."""
    ratio = torch.linalg.solve(truth, cov)
    return (
        0.5 * float(ratio.trace() - len(cov) - torch.linalg.slogdet(cov)[1] + torch.linalg.slogdet(truth)[1]) / LENGTH
    )


def across(cov: Tensor, overlap: int) -> float:
    """Correlation of the two neighbours at the first seam."""
    left, right = WINDOW - 1, WINDOW
    return float(cov[left, right] / (cov[left, left] * cov[right, right]).sqrt())


def gaussian() -> None:
    """Print the tables and draw the figure."""
    figure = new_figure(figsize=(10, 3.6))
    for axes, (process, correlation) in zip(figure.subplots(1, 2), PROCESSES.items(), strict=True):
        truth, window = covariance(correlation, LENGTH), covariance(correlation, WINDOW)
        score = Gaussian([0.0] * WINDOW, window)
        print(f"\n{process}: KL per entry, and correlation at the first seam (truth {float(truth[0, 1]):.3f})")
        print("overlap", *OVERLAPS, sep=" | ")
        curves: dict[str, list[float]] = {}

        def row(name: str, covs: list[Tensor], truth: Tensor = truth, curves: dict[str, list[float]] = curves) -> None:
            curves[name] = [divergence(cov, truth) for cov in covs]
            cells = (f"{d:.4f}, {across(c, o):.3f}" for d, c, o in zip(curves[name], covs, OVERLAPS, strict=True))
            print(name, *cells, sep=" | ", flush=True)

        def masks(shared: int) -> Tensor:
            return torch.arange(WINDOW) < shared

        row(
            "chain, exact windows",
            [
                chained(window, lambda n, w=window: exact(w, masks(n))[0], lambda n, w=window: exact(w, masks(n))[1], o)
                for o in OVERLAPS
            ],
        )
        nothing = torch.zeros(WINDOW, dtype=torch.bool)
        for name, make in SAMPLERS.items():
            sampler, maps = make(score), {}
            first = spread(sampler, WINDOW, nothing)
            for shared in {s for o in OVERLAPS for s in _shared(o)}:
                known = masks(shared)
                maps[shared] = response(sampler, known), spread(sampler, WINDOW, known)[~known][:, ~known]
            row(
                f"chain, {name}",
                [chained(first, lambda n, m=maps: m[n][0], lambda n, m=maps: m[n][1], o) for o in OVERLAPS],
            )
        whole = torch.zeros(LENGTH, dtype=torch.bool)
        averages = [lp.Sampler(lp.WindowedScore(score, WINDOW, o), steps=120) for o in OVERLAPS]
        row(
            "average (MultiDiffusion, SyncTweedies), 120 steps",
            [spread(sampler, LENGTH, whole) for sampler in averages],
        )
        synced = spread(lp.StochSync(score, WINDOW, steps=26, ode_steps=5), LENGTH, whole)
        print(f"StochSync, 26 steps of 5 | {divergence(synced, truth):.4f}, {across(synced, 0):.3f}")
        joint = spread(lp.Sampler(Gaussian([0.0] * LENGTH, truth), steps=120), LENGTH, whole)
        print(f"model of the whole strip, 120 steps | {divergence(joint, truth):.4f}")
        for number, (name, values) in enumerate(curves.items()):
            style = {"color": COLOURS[number % 8], "marker": MARKERS[number % 8], "label": name}
            axes.semilogy(OVERLAPS, [max(value, 1e-5) for value in values], **style)
        axes.set(xlabel="overlap (window 16)", ylabel="KL per entry (nats)", title=process)
    figure.axes[0].legend(fontsize=7, loc="center", bbox_to_anchor=(0.55, 0.33))
    save(figure, Path(__file__).parents[1] / "chains.png")


def _shared(overlap: int) -> set[int]:
    """The overlaps that occur in a strip; that of the last window may be larger."""
    begins = starts(LENGTH, WINDOW, overlap)
    return {before + WINDOW - start for before, start in pairwise(begins)}


if __name__ == "__main__":
    gaussian()

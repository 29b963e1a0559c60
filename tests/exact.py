"""Exact algebra of one step of a dynamics on a Gaussian target: no sampling.

On a Gaussian every score is affine, so a step maps the dynamics' variables z (position, momentum, …) to F z + b + N ξ
with ξ the standard normal numbers that it draws. F, b and N are read off by feeding zeros and unit vectors; the
stationary covariance solves Σ = F Σ Fᵀ + N Nᵀ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from lanpaint import Drift, Dynamics, State


class ScriptedNoise:
    """A noise source that returns zeros, but for one draw in which row i has ``units[i]``."""

    def __init__(self, draw: int = -1, units: Tensor | None = None) -> None:
        self.draw, self.units, self.count = draw, units, 0

    def __call__(self, like: Tensor) -> Tensor:
        numbers = torch.zeros_like(like)
        if self.count == self.draw and self.units is not None:
            numbers = self.units.to(like)
        self.count += 1
        return numbers


def zero_noise(like: Tensor) -> Tensor:
    return torch.zeros_like(like)


@dataclass(frozen=True)
class AffineStep:
    """z' = F z + b + N ξ, z the variables one after the other, d numbers each."""

    linear: np.ndarray
    offset: np.ndarray
    noise: np.ndarray

    @property
    def spectral_radius(self) -> float:
        return float(np.abs(np.linalg.eigvals(self.linear)).max())

    def stationary_covariance(self) -> np.ndarray:
        assert self.spectral_radius < 1, f"the step is not contractive: spectral radius {self.spectral_radius}"
        return scipy.linalg.solve_discrete_lyapunov(self.linear, self.noise @ self.noise.T)

    def stationary_mean(self) -> np.ndarray:
        return np.linalg.solve(np.eye(len(self.offset)) - self.linear, self.offset)


def settled(dynamics: Dynamics, x: Tensor, drift: Drift) -> State:
    """A state past its first step, so that every variable is there."""
    return dynamics.step(dynamics.init(x, drift, zero_noise), drift, zero_noise)


def affine_step(dynamics: Dynamics, drift: Drift, dim: int) -> AffineStep:
    """Read F, b and N off one step of ``dynamics`` in ``dim`` dimensions."""
    state = settled(dynamics, torch.zeros(1, dim, dtype=torch.float64), drift)
    names = [n for n in ("x", "momentum", "constant") if getattr(state, n, None) is not None]
    size = len(names) * dim

    def advance(z: Tensor, noise: ScriptedNoise) -> Tensor:
        parts = dict(zip(names, z.split(dim, dim=1), strict=True))
        out = dynamics.step(replace(state, **parts), drift, noise)
        return torch.cat([getattr(out, n) for n in names], dim=1)

    counter = ScriptedNoise()
    offset = advance(torch.zeros(1, size, dtype=torch.float64), counter)
    linear = advance(torch.eye(size, dtype=torch.float64), ScriptedNoise()) - offset
    units, start = torch.eye(dim, dtype=torch.float64), torch.zeros(dim, size, dtype=torch.float64)
    columns = [advance(start, ScriptedNoise(draw, units)) - offset for draw in range(counter.count)]
    return AffineStep(linear.mT.numpy(), offset[0].numpy(), torch.cat(columns).mT.numpy())


def gaussian_drift(precision: Tensor, mean: Tensor, damping: float, step: float) -> Drift:
    """The score −Λ (x − m) with the given damping and step."""
    return Drift(lambda x: -(x - mean) @ precision, damping, step)


def measured_order(errors: Sequence[float], steps: Sequence[float]) -> float:
    """Slope of log error against log step."""
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])

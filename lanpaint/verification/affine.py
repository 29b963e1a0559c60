"""One step of a dynamics on a Gaussian, by exact algebra.

The score of a Gaussian is affine. So a step of most dynamics is an affine map of its state z (position, momentum, …),

    z' = F z + b + N ξ,

where ξ are the standard normal numbers that the step draws. F, b and N are read from the code, by calling it with zeros
and unit vectors. All else is linear algebra, without sampling:

- The stationary covariance solves Σ = F Σ Fᵀ + N Nᵀ.
- The order of the bias is the order in which the error of Σ shrinks as the time step goes to 0.
- The spectral radius of F is the factor by which one step contracts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lanpaint.drift import Drift
from lanpaint.dynamics import Dynamics, State
from lanpaint.randomness import NoiseSource

Path = tuple[str, ...]


class ScriptedNoise:
    """A noise source that returns zeros, except in the draw number ``draw`` (from 0), where row i is ``units[i]``.

    Attributes:
        shapes: Shape of each draw so far.
    """

    def __init__(self, draw: int = -1, units: Tensor | None = None) -> None:
        self.draw, self.units = draw, units
        self.shapes: list[torch.Size] = []

    def __call__(self, like: Tensor) -> Tensor:
        """The next draw, of the shape of ``like``."""
        numbers = torch.zeros_like(like)
        if len(self.shapes) == self.draw and self.units is not None:
            numbers = self.units.to(like).reshape(like.shape)
        self.shapes.append(like.shape)
        return numbers


def zero_noise(like: Tensor) -> Tensor:
    """A noise source that returns zeros."""
    return torch.zeros_like(like)


class NotAffineError(ValueError):
    """Raised when a step is not affine on a Gaussian: it accepts and rejects, or it is not linear in the score."""


@dataclass(frozen=True)
class AffineStep:
    """One step of a dynamics on a Gaussian: z' = F z + b + N ξ. z has k variables with d entries each, in sequence.

    Attributes:
        linear: F, shape (kd, kd).
        offset: b, shape (kd,).
        noise: N, shape (kd, number of random numbers in a step).
        names: Names of the k variables. The first is the position, ``x``.
    """

    linear: np.ndarray
    offset: np.ndarray
    noise: np.ndarray
    names: tuple[str, ...]

    @property
    def spectral_radius(self) -> float:
        """Largest magnitude of an eigenvalue of F. Below 1, the distribution converges by this factor in each step."""
        return float(np.abs(np.linalg.eigvals(self.linear)).max())

    def stationary_covariance(self) -> np.ndarray:
        """The stationary covariance: the solution of Σ = F Σ Fᵀ + N Nᵀ.

        Raises:
            ValueError: When the step is not a contraction.
        """
        import scipy.linalg

        if not self.spectral_radius < 1:
            raise ValueError(f"the step is not a contraction: its spectral radius is {self.spectral_radius:.4g}")
        return np.asarray(scipy.linalg.solve_discrete_lyapunov(self.linear, self.noise @ self.noise.T))

    def stationary_mean(self) -> np.ndarray:
        """The stationary mean: the fixed point of z' = F z + b."""
        return np.asarray(np.linalg.solve(np.eye(len(self.offset)) - self.linear, self.offset))

    def block(self, matrix: np.ndarray, row: str, column: str) -> np.ndarray:
        """The (d, d) block of a (kd, kd) matrix for the variables named ``row`` and ``column``."""
        dim = len(self.offset) // len(self.names)
        i, j = self.names.index(row) * dim, self.names.index(column) * dim
        return matrix[i : i + dim, j : j + dim]


def gaussian_drift(
    precision: Tensor, mean: Tensor, damping: Tensor | float, step: Tensor | float, known: Tensor | None = None
) -> Drift:
    """A drift: the score −Λ (x − m) of a Gaussian, its log density, the damping A and the time step dτ = ``step``.

    With ``known`` there are two regions, as in :class:`~lanpaint.drift.Drift`.
    """

    def log_density(x: Tensor) -> Tensor:
        return -0.5 * (((x - mean) @ precision) * (x - mean)).flatten(1).sum(1)

    return Drift(lambda x: -(x - mean) @ precision, damping, step, known, log_density)


def settled(dynamics: Dynamics, x: Tensor, drift: Drift) -> State:
    """A state after one step without noise. Some dynamics have all their variables only after the first step."""
    return dynamics.step(dynamics.init(x, drift, zero_noise), drift, zero_noise)


def _leaves(record: Any, shape: torch.Size, path: Path = ()) -> dict[Path, Tensor]:
    """Path → tensor, for the tensors of shape ``shape`` in a record and in the records inside it."""
    found: dict[Path, Tensor] = {}
    for item in fields(record):
        key, value = (*path, item.name), getattr(record, item.name)
        if isinstance(value, Tensor) and value.shape == shape:
            found[key] = value
        elif is_dataclass(value) and not isinstance(value, type):
            found |= _leaves(value, shape, key)
    return found


def _with(record: Any, path: Path, value: Tensor) -> Any:
    """The record with the tensor at ``path`` replaced."""
    name, *rest = path
    return replace(record, **{name: _with(getattr(record, name), tuple(rest), value) if rest else value})


def affine_step(dynamics: Dynamics, drift: Drift, dim: int) -> AffineStep:
    """F, b and N of one step of ``dynamics`` on a Gaussian drift in ``dim`` dimensions, in float64.

    The variables are the tensors of the position's shape in the state, except those that a step returns unchanged.

    Raises:
        NotAffineError: When the step is not affine.
    """
    start = torch.zeros(1, dim, dtype=torch.float64)
    state = settled(dynamics, start, drift)
    after = _leaves(dynamics.step(state, drift, zero_noise), start.shape)
    before = _leaves(state, start.shape)
    paths = [path for path, value in after.items() if path in before and value is not before[path]]
    paths.sort(key=lambda path: path != ("x",))
    size = len(paths) * dim

    def advance(z: Tensor, noise: NoiseSource) -> Tensor:
        moved = state
        for path, part in zip(paths, z.split(dim, dim=1), strict=True):
            moved = _with(moved, path, part)
        found = _leaves(dynamics.step(moved, drift, noise), torch.Size((len(z), dim)))
        return torch.cat([found[path] for path in paths], dim=1)

    linear, offset, noise = _read_off(advance, size)
    affine = AffineStep(linear.mT.numpy(), offset.numpy(), noise.mT.numpy(), tuple(".".join(path) for path in paths))
    # Compare with a step from random points with random noise. It differs if the step is not affine.
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(7, size, generator=generator, dtype=torch.float64)
    drawn: list[Tensor] = []

    def random(like: Tensor) -> Tensor:
        drawn.append(torch.randn(like.shape, generator=generator, dtype=like.dtype))
        return drawn[-1]

    got = advance(z, random)
    xi = torch.cat([draw.reshape(len(z), -1) for draw in drawn], dim=1) if drawn else torch.zeros(7, 1).double()
    expected = z @ linear + offset + (xi @ noise if xi.shape[1] == len(noise) else math.nan)
    if not bool(((got - expected).abs() <= 1e-8 * (1 + expected.abs().amax())).all()):
        raise NotAffineError(f"a step of {type(dynamics).__name__} is not affine on a Gaussian")
    return affine


def affine_start(dynamics: Dynamics, drift: Drift, dim: int) -> AffineStep:
    """F, b and N of ``init`` and the first step of ``dynamics``, as a function of the position at which it starts.

    F has the shape (kd, d). The variables, and what is raised, are as for :func:`affine_step`.
    """
    names = affine_step(dynamics, drift, dim).names

    def start(x: Tensor, noise: NoiseSource) -> Tensor:
        found = _leaves(dynamics.step(dynamics.init(x, drift, noise), drift, noise), x.shape)
        return torch.cat([found[tuple(name.split("."))] for name in names], dim=1)

    linear, offset, noise = _read_off(start, dim)
    return AffineStep(linear.mT.numpy(), offset.numpy(), noise.mT.numpy(), names)


def _read_off(function: Callable[[Tensor, NoiseSource], Tensor], size: int) -> tuple[Tensor, Tensor, Tensor]:
    """(Fᵀ, b, Nᵀ) of a function z, ξ → F z + b + N ξ of rows z of ``size`` entries."""
    counter = ScriptedNoise()
    offset = function(torch.zeros(1, size, dtype=torch.float64), counter)
    linear = function(torch.eye(size, dtype=torch.float64), zero_noise) - offset
    columns = [
        function(
            torch.zeros(shape.numel(), size, dtype=torch.float64),
            ScriptedNoise(draw, torch.eye(shape.numel(), dtype=torch.float64)),
        )
        - offset
        for draw, shape in enumerate(counter.shapes)
    ]
    return linear, offset[0], torch.cat(columns) if columns else torch.zeros(1, offset.shape[1], dtype=torch.float64)


def limit_law(drift: Drift, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of the stationary distribution of dz = P f(z) dτ + √(2P) dW, for an affine f.

    Overdamped dynamics with the drift f converges to this distribution as all time steps go to 0. The diagonal matrix P
    holds the time step of each entry. Only the ratios of these time steps matter. If f is not a gradient, as the BiG
    score is not, the distribution depends on the ratios.

    Raises:
        ValueError: When f does not draw back to a fixed point.
    """
    import scipy.linalg

    zero, unit = torch.zeros(1, dim, dtype=torch.float64), torch.eye(dim, dtype=torch.float64)
    offset = drift(zero)
    slope = (drift(unit) - offset).mT.numpy()
    speeds = drift.broadcast(drift.time_step, zero).expand(1, dim)[0].numpy()
    pull = speeds[:, None] * slope
    if not np.linalg.eigvals(pull).real.max() < 0:
        raise ValueError("the drift does not draw back to a fixed point, so there is no stationary distribution")
    mean = -np.linalg.solve(slope, offset[0].numpy())
    return mean, np.asarray(scipy.linalg.solve_continuous_lyapunov(pull, -2 * np.diag(speeds)))


def measured_order(errors: Sequence[float], steps: Sequence[float]) -> float:
    """Order of the errors in the time step: the slope of log error against log time step.

    ∞ when all errors are rounding errors.
    """
    if max(errors) < 1e-11:
        return math.inf
    return float(np.polyfit(np.log(steps), np.log(np.maximum(errors, 1e-300)), 1)[0])

"""The interface of a solver: a pair of pure functions on an immutable state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score


@dataclass(frozen=True)
class SolverState:
    """All that a solver remembers between two steps.

    Attributes:
        x: State at the current level, shape (B, …). A sampler replaces it between two steps.
        prediction: The model's answer at the last step, or None before the first.
    """

    x: Tensor
    prediction: Prediction | None = None


class Solver(ABC):
    """One outer step of the reverse process, from a noise level to a cleaner one."""

    def levels(self, steps: int) -> list[NoiseLevel] | None:
        """The levels that the solver insists on for a number of steps; None when it takes any."""
        return None

    def evaluations(self, levels: Sequence[NoiseLevel]) -> list[int]:
        """Evaluations of the score in each of the outer steps between S + 1 levels: S numbers, 1 each by default."""
        return [1] * (len(levels) - 1)

    def init(self, x: Tensor, steps: int) -> SolverState:
        """The state at the first level of a run of ``steps`` steps."""
        return SolverState(x)

    @abstractmethod
    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> SolverState:
        """From ``level`` to ``next_level``; a new state, the old one unchanged."""

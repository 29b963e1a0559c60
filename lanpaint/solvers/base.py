"""The interface of a solver: a pair of pure functions on an immutable state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.device import move_like
from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score


@dataclass(frozen=True)
class SolverState:
    """All that a solver remembers between two steps.

    Attributes:
        x: State at the current level, shape (B, …). A sampler may replace it between two steps.
        prediction: The model's prediction in the last step, or None before the first step.
    """

    x: Tensor
    prediction: Prediction | None = None


def keep_still(x: Tensor, before: Tensor, level: NoiseLevel, next_level: NoiseLevel) -> Tensor:
    """The state x after a step, where entries whose level does not change are those of ``before``, bit for bit.

    A formula would change such an entry by its rounding. At σ = 0 it would give what the model answers there.
    """
    if level.alpha.numel() == next_level.alpha.numel() == 1:
        return before if level.numbers == next_level.numbers else x
    still = (level.alpha == next_level.alpha) & (level.sigma == next_level.sigma)
    if still.device.type == "cpu" and not bool(still.any()):
        return x
    return torch.where(move_like(still, x).bool(), before, x)


class Solver(ABC):
    """The base class of solvers: outer steps of the reverse process, each from a noise level to a cleaner level."""

    def levels(self, steps: int) -> list[NoiseLevel] | None:
        """The levels that the solver requires for S = ``steps`` outer steps, S + 1 of them; None if it takes any."""
        return None

    def evaluations(self, levels: Sequence[NoiseLevel]) -> list[int]:
        """Evaluations of the score in each outer step between S + 1 levels: S numbers, all 1 by default."""
        return [1] * (len(levels) - 1)

    def init(self, x: Tensor, steps: int) -> SolverState:
        """The state at the first level of a run of ``steps`` outer steps, from x of shape (B, …)."""
        return SolverState(x)

    @abstractmethod
    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> SolverState:
        """The state at ``next_level`` after one outer step from ``level``.

        Where levels differ from entry to entry, an entry whose level is the same at ``next_level`` must stay as it is.

        Args:
            state: State at ``level``. It is not changed.
            score: The model.
            level: The present noise level.
            next_level: The next, cleaner noise level.
            noise: Source of standard normal numbers.
        """

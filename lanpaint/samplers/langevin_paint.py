"""Langevin inpainting, TFG (Cornwall et al., 2024; LanPaint, Sec. 3.3 and Appendix A).

Inner steps of overdamped Langevin dynamics move the unknown part, the known part being held at its forward-diffused
value. Targets the decoupled law p(x | y) p(y | y_o), exact at σ = 0. Inner steps + 1 evaluations per step, no
gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lanpaint.dynamics import Dynamics, Langevin
from lanpaint.fields import BiG, Decoupled, FieldDrift
from lanpaint.noise import NoiseLevel
from lanpaint.observation import Observation
from lanpaint.samplers.langevin_sampler import LangevinSampler, check_step_size
from lanpaint.score import Score


class LangevinPaint(LangevinSampler):
    """TFG: Langevin steps on the unknown part alone.

    The step is dτ = η √(1 − ᾱ) in variance-preserving notation (Appendix A), η σ √(α² + σ²) in any.

    Args:
        score: The model, as in :class:`Sampler`.
        inner_steps: N ≥ 0; or a sequence of S numbers, one for each level.
        step_size: η > 0; 0.04 is the paper's value.
        dynamics: Overdamped Langevin, Euler–Maruyama, by default.
        **options: Those of :class:`Sampler`.

    Raises:
        ValueError: For N < 0 or η ≤ 0, and as :class:`Sampler`.
    """

    remedy = "lower step_size (η), or use LanPaint, whose integrator takes longer steps"

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        inner_steps: int | Sequence[int] = 5,
        step_size: float = 0.04,
        dynamics: Dynamics | None = None,
        **options: Any,
    ) -> None:
        check_step_size(step_size)
        super().__init__(
            score, dynamics=Langevin() if dynamics is None else dynamics, inner_steps=inner_steps, **options
        )
        self.inner_steps, self.step_size = inner_steps, step_size

    def field(self, observation: Observation) -> BiG:
        """The decoupled field (Eq. 7)."""
        return Decoupled(self.score, observation)

    def drift(self, level: NoiseLevel, observation: Observation) -> FieldDrift:
        """The decoupled drift; the known part has a step of 0, which holds it."""
        unknown = self.step_size * level.sigma * torch.sqrt(level.alpha**2 + level.sigma**2)
        return self.field(observation).drift(level, torch.stack([unknown, torch.zeros_like(unknown)]))

"""Langevin inpainting, TFG (Cornwall et al., 2024; LanPaint, Sec. 3.3 and Appendix A).

Inner steps of overdamped Langevin dynamics move the unknown part. The known part is held at its forward-diffused value.
The target is the decoupled distribution p(x | y) p(y | y_o), which is the exact conditional at σ = 0. With N inner
steps the method takes N + 1 evaluations per outer step, and no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lanpaint.dynamics import Dynamics, Langevin
from lanpaint.fields import BiG, Decoupled, FieldDrift
from lanpaint.noise import NoiseLevel, reciprocal
from lanpaint.observation import Observation
from lanpaint.samplers.langevin_sampler import LangevinSampler, check_step_size
from lanpaint.score import Score


class LangevinPaint(LangevinSampler):
    """TFG (LanPaint, Sec. 3.3): Langevin steps that move the unknown part alone.

    The time step is dτ = η √(1 − ᾱ) in variance-preserving coordinates (Appendix A), and η σ √(α² + σ²) in any.

    Args:
        score: The model, as in :class:`Sampler`.
        inner_steps: N ≥ 0, inner steps at each level; or a sequence of S numbers, one for each level.
        step_size: η > 0; 0.04 is the paper's value.
        dynamics: The dynamics of the inner steps; :class:`~lanpaint.Langevin` by default.
        **options: Options of :class:`Sampler`.

    Raises:
        TypeError: For a ``step_size`` that is not a number, a ``dynamics`` that is no Dynamics, and as
            :class:`Sampler`.
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
        """The decoupled drift at a level. The time step of the known part is 0, so the known part does not move."""
        unknown = self.step_size * level.sigma * torch.sqrt(level.alpha**2 + level.sigma**2)
        field = self.field(observation)
        known = torch.zeros_like(field.time_scale(level)[1])
        if observation.draws is not None:  # what is released moves as the unknown part does, less where it is stiffer
            shorter = field.time_scale(level)[1] * reciprocal(field.time_scale(level)[0])
            known = torch.where(observation.draws.entries, unknown * shorter, 0.0)
        return field.drift(level, torch.stack(torch.broadcast_tensors(unknown, known)))

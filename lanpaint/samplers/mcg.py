"""Manifold constrained gradients, MCG (Chung et al., 2022, Alg. 1, with H a mask; LanPaint, Appendix A).

The gradient step of DPS for the unknown part, and replacement of the known part at every level: its Eq. 14 and 15. A
heuristic. One evaluation per step, differentiated through the network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lanpaint.noise import NoiseLevel
from lanpaint.samplers.dps import DPS
from lanpaint.samplers.replace import Replace
from lanpaint.score import Score


class MCG(DPS, Replace):
    """MCG: :class:`~lanpaint.Replace` with the gradient step of :class:`~lanpaint.DPS`.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        step_size: ζ > 0, in the paper α = ζ/‖y_o − x̂₀‖; 0.1 is the value of LanPaint's Appendix A.
        **options: Those of :class:`~lanpaint.DPS` and :class:`Sampler`.

    Raises:
        ValueError: As :class:`~lanpaint.DPS`.
    """

    def __init__(
        self, score: Score | Callable[[Tensor, NoiseLevel], Tensor], *, step_size: float = 0.1, **options: Any
    ) -> None:
        super().__init__(score, step_size=step_size, **options)

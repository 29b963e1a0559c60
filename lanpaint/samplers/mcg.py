"""Manifold constrained gradients, MCG (Chung et al., 2022, Alg. 1, with H a mask; LanPaint, Appendix A).

The unknown part takes the gradient step of DPS (Eq. 14). The known part is replaced at every level (Eq. 15). The method
is a heuristic. It takes one evaluation per outer step, differentiated through the network.
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
        step_size: ζ > 0, where the paper has α = ζ/‖y_o − x̂₀‖; 0.1 is the value of LanPaint's Appendix A.
        **options: Options of :class:`~lanpaint.DPS` and :class:`Sampler`.

    Raises:
        TypeError: As :class:`~lanpaint.DPS`.
        ValueError: As :class:`~lanpaint.DPS`.
    """

    takes_noise = False  # known entries are replaced at every level

    def __init__(
        self, score: Score | Callable[[Tensor, NoiseLevel], Tensor], *, step_size: float = 0.1, **options: Any
    ) -> None:
        super().__init__(score, step_size=step_size, **options)

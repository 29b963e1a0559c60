"""Tweedie moment projected diffusions, TMPD (Boys et al., 2024).

In the notation of :mod:`lanpaint.samplers.guided`, the matrix of MMPS is replaced by its row sums, entry by entry,

    u = (y − A x̂₀) / (s² + A V Aᵀ 1)

The method is a heuristic. It equals :class:`~lanpaint.MMPS` where A V Aᵀ is diagonal, as for one known entry. Row sums
can be negative, where known entries are anticorrelated given x; they are cut off at 0, and an entry whose s² and row
sum are both 0 has no guidance. It takes one evaluation per outer step and two backward passes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.samplers.guided import Guided, on_known


class TMPD(Guided):
    """TMPD (Boys et al., 2024): guidance by the row sums of the covariance of x₀ given x.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        **options: ``checkpoint`` of :class:`~lanpaint.DPS` and options of :class:`Sampler`. The solver is
            ``DDIM(1.0)``, the ancestral step, by default.

    Raises:
        TypeError: As :class:`Sampler`.
        ValueError: For ``checkpoint=True`` with a score that holds no network, and as :class:`Sampler`. In the first
            step: when the score gives no gradient.
    """

    def weights(
        self, error: Tensor, covariance: Callable[[Tensor], Tensor], level: NoiseLevel, observation: Observation
    ) -> Tensor:
        """V Aᵀ u, with u from the row sums."""
        ones = on_known(observation, torch.ones_like(error))
        sums = on_known(observation, covariance(ones)).clamp(min=0)
        return covariance(error * reciprocal(on_known(observation, cast_like(observation.noise**2, sums) + sums)))

"""Moment matching posterior sampling, MMPS (Rozet et al., 2024, "Learning Diffusion Priors from Observations by EM").

In the notation of :mod:`lanpaint.samplers.guided`, u solves

    (s² I + A V Aᵀ) u = y − A x̂₀

This treats p(x₀ | x) as a Gaussian of its true mean and covariance. So x̃₀ is E[x₀ | x, y] exactly if the data are
Gaussian, and the samples follow the exact posterior, noise s included, as the steps get shorter. On any other data the
method is a heuristic.

The equation is solved by n iterations of generalised conjugate residuals from 0, the iterates of GMRES. V of a network
is neither symmetric nor positive. Conjugate gradients may break down there; the residual of this solution never grows.
n = 1 is enough where A V Aᵀ has one eigenvalue, as for one known entry. It takes one evaluation per outer step, and n
backward passes: V Aᵀ u is a sum of the products that the iterations make.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lanpaint.checks import check_whole
from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.samplers.gradients import dot
from lanpaint.samplers.guided import Guided, on_known
from lanpaint.score import Score


class MMPS(Guided):
    """MMPS (Rozet et al., 2024): guidance by the true covariance of x₀ given x. Exact on Gaussians.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        iterations: n ≥ 1, iterations of the solution for u, each of one backward pass. 1 is the default of the azula
            library; the paper takes a few.
        **options: ``checkpoint`` of :class:`~lanpaint.DPS` and options of :class:`Sampler`. The solver is
            ``DDIM(1.0)``, the ancestral step, by default.

    Raises:
        TypeError: As :class:`Sampler`.
        ValueError: For ``iterations`` below 1, ``checkpoint=True`` with a score that holds no network, and as
            :class:`Sampler`. In the first step: when the score gives no gradient.
    """

    def __init__(
        self, score: Score | Callable[[Tensor, NoiseLevel], Tensor], *, iterations: int = 1, **options: Any
    ) -> None:
        check_whole("iterations", iterations, least=1)
        super().__init__(score, **options)
        self.iterations = iterations

    def weights(
        self, error: Tensor, covariance: Callable[[Tensor], Tensor], level: NoiseLevel, observation: Observation
    ) -> Tensor:
        """V Aᵀ u, with u from the solution of the linear equation."""
        shift, residual, square = torch.zeros_like(error), error, cast_like(observation.noise**2, error)
        passed: list[tuple[Tensor, Tensor]] = []  # V p and (s² I + A V Aᵀ) p of earlier directions p
        for _ in range(self.iterations):
            moved = covariance(residual)
            image = square * residual + on_known(observation, moved)
            for earlier_moved, earlier in passed:
                share = dot(image, earlier) * reciprocal(dot(earlier, earlier))
                moved, image = moved - share * earlier_moved, image - share * earlier
            length = dot(residual, image) * reciprocal(dot(image, image))
            shift, residual = shift + length * moved, residual - length * image
            passed.append((moved, image))
        return shift

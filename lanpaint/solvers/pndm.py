"""PNDM as a pseudo linear multistep method, PLMS (Liu et al., 2022, arXiv:2202.09778).

The step is DDIM's, x' = α' (x − σ ε̃)/α + σ' ε̃, with a combination ε̃ of the predictions of this step and of up to three
earlier ones. Their weights are those of the Adams–Bashforth methods:

    first        ε̂
    second       (3 ε̂ − ε̂₋₁)/2
    third        (23 ε̂ − 16 ε̂₋₁ + 5 ε̂₋₂)/12
    later        (55 ε̂ − 59 ε̂₋₁ + 37 ε̂₋₂ − 9 ε̂₋₃)/24

With z = x/α and r = σ/α the flow is dz = ε̂ dr, and the step z' = z + (r' − r) ε̃. The weights give the mean of ε̂ over
the number of the level, where the mean over r is needed. If r is a smooth function of the number, the two differ by
O(h²). So the method has order 2, as the paper proves. If levels are even in r, it has order 4 but for its first steps.
If steps alternate in length, the weights do not even give the slope of ε̂, and the method has order 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score
from lanpaint.solvers.base import Solver, SolverState, keep_still
from lanpaint.solvers.multistep import MultistepState, on_one_device

# Weights of the earlier predictions, the latest first. The weight of the present prediction makes the sum 1.
_ADAMS_BASHFORTH = ((), (-1 / 2,), (-16 / 12, 5 / 12), (-59 / 24, 37 / 24, -9 / 24))


class PNDM(Solver):
    """PNDM with linear multistep steps only, PLMS (Liu et al., 2022). Second order, one evaluation per step.

    The first three steps use one, two and three predictions. The paper makes them by pseudo Runge–Kutta steps of four
    evaluations each, and diffusers (``skip_prk_steps=True``) makes the first by two. So S steps cost S evaluations
    here, S + 1 there, and S + 9 in the paper.

    The levels must be a smooth function of their number, as in every spacing of this library, else the order is 1. The
    first step of an entry after steps in which its level did not change has order 1. A sample that was changed since
    the last step, by inner steps or known values, begins anew.
    """

    def init(self, x: Tensor, steps: int) -> MultistepState:
        """The state at the first level, without history."""
        return MultistepState(x)

    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> MultistepState:
        """The state at ``next_level``: DDIM's step with the combined prediction."""
        assert isinstance(state, MultistepState)
        history, prediction = state.recalled(), score.predict(state.x, level)
        epsilon, lam = prediction.epsilon, level.log_snr / 2
        length = next_level.sigma - next_level.alpha * level.sigma * reciprocal(level.alpha)  # α' (r' − r)
        x = next_level.perturb(prediction.denoised, epsilon)
        length, *lams = on_one_device([length, lam, *(before for _, before in history)], x)
        for weight, (earlier, _) in zip(_weights(lams), history, strict=True):
            x = x + cast_like(length * weight, x) * (earlier - epsilon)
        x = keep_still(x, state.x, level, next_level)
        return MultistepState(x, prediction, ((epsilon, lam), *history)[:3], x)


def _weights(lams: Sequence[Tensor]) -> list[Tensor]:
    """The weight of each earlier prediction, shape of the levels; 0 where the level stayed at a step since then.

    Args:
        lams: λ of the present prediction, and of the earlier ones.
    """
    usable = lams[0] > -math.inf
    weights = [torch.zeros_like(lams[0]) for _ in lams[1:]]
    for number, (now, before) in enumerate(itertools.pairwise(lams)):
        usable = usable & (before < now)
        added = _ADAMS_BASHFORTH[number + 1]
        for i, weight in enumerate(added):
            last = _ADAMS_BASHFORTH[number][i] if i < number else 0.0
            weights[i] = weights[i] + (weight - last) * usable.to(now.dtype)
    return weights

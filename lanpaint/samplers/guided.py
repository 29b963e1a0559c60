"""Samplers whose outer steps follow an estimate of E[x₀ | x, y], where plain sampling follows x̂₀ = E[x₀ | x].

With the likelihood of a measurement, N(y; A x₀, s² I) with A the rows of known entries, and by Tweedie's second moment,

    x̃₀ = x̂₀ + V Aᵀ u,      V = Cov[x₀ | x] = (σ²/α) J,      J = ∂x̂₀/∂x,      ε̃ = (x − α x̃₀)/σ

The methods differ in u. For a noise level that differs from entry to entry, V = (σ²/α) Jᵀ still holds. Any solver steps
with x̃₀ and ε̃. If x̃₀ is E[x₀ | x, y], the samples follow the posterior as the steps get shorter.

One thing is added to the papers: V Aᵀ u is shortened where it moves A x̂₀ by more than ‖y − A x̂₀‖, per sample. Bayes'
rule with a true covariance never does. J of a network does, at much noise, where it is no covariance at all: without
the bound ΠGDM with Bayes' weight and TMPD diverge on the shipped digits, and MMPS does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.gradients import check_checkpoint, dot, known_error, pullback
from lanpaint.samplers.sampler import Sampler
from lanpaint.score import Score, ScoreWrapper
from lanpaint.solvers import DDIM


class Guided(Sampler):
    """The base of ΠGDM, MMPS and TMPD. Subclasses define :meth:`weights`.

    An exact observation is set at the end only. An observation with noise is taken as a measurement at every level.

    Args:
        score: The model, as in :class:`Sampler`; differentiable.
        checkpoint: As in :class:`~lanpaint.DPS`.
        **options: Options of :class:`Sampler`. The solver is ``DDIM(1.0)``, the ancestral step, by default.

    Raises:
        ValueError: For ``checkpoint=True`` with a score that holds no network, and as :class:`Sampler`. In the first
            step: when the score gives no gradient.
    """

    remedy = "more steps, or a measurement with noise: Observation(…, noise=…)"
    takes_noise = True

    def __init__(
        self, score: Score | Callable[[Tensor, NoiseLevel], Tensor], *, checkpoint: bool = False, **options: Any
    ) -> None:
        if options.get("solver") is None:
            options["solver"] = DDIM(1.0)
        super().__init__(score, **options)
        self.checkpoint = checkpoint
        if checkpoint:
            check_checkpoint(self.score)

    def weights(
        self, error: Tensor, covariance: Callable[[Tensor], Tensor], level: NoiseLevel, observation: Observation
    ) -> Tensor:
        """V Aᵀ u, shape of x.

        Args:
            error: y − A x̂₀ on the known entries, 0 elsewhere; shape of x.
            covariance: The function v → V v on tensors of the shape of x. Each call is one backward pass.
            level: The noise level.
            observation: What is known, with its ``noise`` s.
        """
        raise NotImplementedError(f"{type(self).__name__} has no weights()")

    def posterior(self, x: Tensor, level: NoiseLevel, observation: Observation) -> Prediction:
        """x̃₀ and ε̃ at x, shape (B, …), from one evaluation."""
        prediction, product = pullback(self.score, x, level, self.checkpoint)
        scale = cast_like(level.sigma**2 * reciprocal(level.alpha), x)
        error = known_error(observation, prediction)
        shift = self.weights(error, lambda vector: scale * product(vector), level, observation)
        reached = on_known(observation, shift)  # A x̂₀ moves by this
        shift = shift * (dot(error, error) * reciprocal(dot(reached, reached))).sqrt().clamp(max=1)
        epsilon = prediction.epsilon - cast_like(level.alpha * reciprocal(level.sigma), x) * shift
        return Prediction(x, level, denoised=prediction.denoised + shift, epsilon=epsilon)

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The solver's step with x̃₀ and ε̃."""
        score = _Posterior(self, measured(state.observation))
        begun = replace(state.memory.solver, x=state.x)
        return self.advanced(state, self.solver.step(begun, score, visit.level, visit.next_level, noise), visit)


def measured(observation: Observation) -> Observation:
    """The observation, with its measurement at all levels: a run holds a part of it only, below the noise."""
    return observation.whole if observation.is_noisy else observation


def on_known(observation: Observation, vector: Tensor) -> Tensor:
    """Aᵀ A v: the vector on the known entries, 0 elsewhere."""
    return torch.where(observation.known, vector, 0.0)


class _Posterior(ScoreWrapper):
    """The score that a guided sampler's solver sees."""

    def __init__(self, sampler: Guided, observation: Observation) -> None:
        super().__init__(sampler.score)
        self._posterior, self._observation = sampler.posterior, observation

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        return self._posterior(x, level, self._observation)

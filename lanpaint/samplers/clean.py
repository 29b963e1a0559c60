"""The outer step D that many methods share, and samplers that change x̂₀ in it.

A step from (α, σ) to (α', σ') takes a clean estimate x̃₀, a noise estimate ε̃ and a standard deviation τ ≤ σ',

    D(x̃₀, ε̃; τ):    x' = α' x̃₀ + √(σ'² − τ²) ε̃ + τ ξ,       ξ standard normal

With x̂₀ and ε̂ of the model and τ = 0 it is the Euler step. Methods differ in three choices.

    x̃₀     x̂₀ after the known values were used
    ε̃      the network's ε̂, or recomputed from x and x̃₀: (x − α x̃₀)/σ. The two differ on known entries
    τ      ancestral: η σ' √(1 − k²), k = α σ'/(σ α'). η = 1 is DDPM with its small variance
           share: η σ'. It does not depend on the length of the step. So share 1 is not ancestral: even without
           guidance and with infinitely many steps, it loses variance
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.sampler import Sampler, refuse_solver


def ancestral(level: NoiseLevel, next_level: NoiseLevel, eta: float = 1.0) -> Tensor:
    """τ = η σ' √(1 − k²) of DDIM and DDPM, shape of the levels; η σ' from a level without signal."""
    kept = level.alpha * next_level.sigma * reciprocal(level.sigma * next_level.alpha)
    return eta * next_level.sigma * (1 - kept**2).clamp(min=0).sqrt()


def recomputed(x: Tensor, clean: Tensor, level: NoiseLevel) -> Tensor:
    """ε̃ = (x − α x̃₀)/σ, shape of x; 0 where σ = 0."""
    return (x - cast_like(level.alpha, x) * clean) * cast_like(reciprocal(level.sigma), x)


def kept_noise(next_level: NoiseLevel, tau: Tensor) -> Tensor:
    """√(σ'² − τ²), the factor of ε̃ in D, shape of the level."""
    return (next_level.sigma**2 - tau**2).clamp(min=0).sqrt()


def clean_step(clean: Tensor, epsilon: Tensor, next_level: NoiseLevel, tau: Tensor, fresh: Tensor) -> Tensor:
    """D(x̃₀, ε̃; τ), shape of x.

    Args:
        clean: x̃₀, shape of x.
        epsilon: ε̃, shape of x.
        next_level: (α', σ').
        tau: τ, shape of the level, at most σ'.
        fresh: ξ, standard normal, shape of x.
    """
    kept = cast_like(kept_noise(next_level, tau), clean)
    return cast_like(next_level.alpha, clean) * clean + kept * epsilon + cast_like(tau, clean) * fresh


def measured(observation: Observation) -> Observation:
    """What a likelihood of the clean values needs: of a measurement with noise all of it, at every level."""
    return observation.whole if observation.is_noisy else observation


def toward(prediction: Prediction, observation: Observation, weight: Tensor) -> Tensor:
    """x̂₀ with its known entries moved towards y, x̂₀ + w (y − x̂₀), shape of x. ``weight`` is w, shape of the level."""
    denoised = prediction.denoised
    moved = denoised + cast_like(weight, denoised) * (observation.values - denoised)
    return observation.replace_known(denoised, moved)


class CleanSampler(Sampler):
    """A sampler whose outer step is D. Subclasses give x̃₀ by :meth:`clean` and τ by :meth:`tau`.

    It takes one evaluation per outer step.

    Args:
        score: The model, as in :class:`Sampler`.
        **options: Options of :class:`Sampler`, except a solver.

    Attributes:
        epsilon: Whether ε̃ is the network's, or recomputed from x and x̃₀.

    Raises:
        ValueError: For a solver, and as :class:`Sampler`.
    """

    epsilon: Literal["network", "recomputed"] = "network"

    def __init__(self, score: Any, **options: Any) -> None:
        refuse_solver(type(self).__name__, options)
        super().__init__(score, **options)

    def estimate(self, x: Tensor, observation: Observation, visit: Visit) -> tuple[Prediction, Tensor]:
        """The prediction at x and x̃₀. A method with gradients overrides this function, and has no :meth:`clean`."""
        prediction = self.score.predict(x, visit.level)
        return prediction, self.clean(prediction, observation, visit)

    def clean(self, prediction: Prediction, observation: Observation, visit: Visit) -> Tensor:
        """x̃₀, shape of x, from the prediction at ``visit.level``. The values of ``observation`` are y."""
        raise NotImplementedError(f"{type(self).__name__} must override clean()")

    def tau(self, level: NoiseLevel, next_level: NoiseLevel) -> Tensor:
        """τ, shape of the levels; 0 by default."""
        return torch.zeros_like(next_level.sigma)

    def step(self, clean: Tensor, epsilon: Tensor, visit: Visit, observation: Observation, fresh: Tensor) -> Tensor:
        """D(x̃₀, ε̃; τ), shape of x."""
        return clean_step(clean, epsilon, visit.next_level, self.tau(visit.level, visit.next_level), fresh)

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The outer step D(x̃₀, ε̃; τ)."""
        observation = measured(state.observation)
        prediction, clean = self.estimate(state.x, observation, visit)
        is_network = self.epsilon == "network"
        epsilon = prediction.epsilon if is_network else recomputed(state.x, clean, visit.level)
        x = self.step(clean, epsilon, visit, observation, noise(state.x))
        return replace(state, x=x, level=visit.next_level, prediction=prediction)

"""FPS-SMC, a filtering perspective (Dou & Song, 2024, ICLR, OpenReview tplXNcHZs1, Alg. 2), with H a mask.

The observation gets a path of its own from noise to y, drawn once for all particles of a group. Each level of the path
is then an observation of the particles there, with standard deviation α s for a measurement with noise s. With
N(m, f I) the step of the model's chain (:mod:`lanpaint.samplers.chain`, f = s² there), k² + τ²/σ'² = 1, and ξ
standard normal:

    path      y' = α' y + σ' k (y_t − α y)/σ + τ ξ                                          a forward path, backwards
    weight    w = N(y'; m, f + α'² s²) over known entries
    move      known entries ~ N(κ y' + (1 − κ) m, κ α'² s²),    κ = f/(f + α'² s²);    unknown entries ~ N(m, f)

With s = 0 known entries are y': :class:`~lanpaint.Replace` on one path, with weights. That is SMCDiff (Trippe et al.,
2022, arXiv:2206.04119). One particle is FPS.

For s = 0 the law is exact as K → ∞ and the steps shrink, so that the model's chain is the reversal of the forward
process. For s > 0 it is a heuristic: the noise of the measurement is taken to be drawn anew at every level, and the
product of these likelihoods is too sharp. It takes K evaluations per outer step, one for each particle, and no
gradients. InverseBench has a share of fresh noise, 0.85, for which the path is no forward path. For s = 0,
:class:`~lanpaint.SMCDiff` adds moves within a level, which find more with fewer particles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.chain import log_normal
from lanpaint.samplers.clean import ancestral, clean_step, measured, recomputed
from lanpaint.samplers.gradient_free_chain import GradientFreeChain
from lanpaint.samplers.particles import Particles, repeated_level
from lanpaint.score import Score


@dataclass(frozen=True)
class Paths(Particles):
    """Particles, and the path of the observation at their level, shape (B K, …), equal within a group."""

    path: Tensor | None = None


class FPSSMC(GradientFreeChain):
    """FPS-SMC (Dou & Song, 2024), and SMCDiff where the observation has no noise. Published with 100 steps.

    Args:
        score: The model, as in :class:`Sampler`.
        particles: K ≥ 1, particles for each sample; 20 in InverseBench.
        threshold: As in :class:`~lanpaint.TwistedSMC`; the paper resamples at every level.
        data_variance: As in :class:`~lanpaint.TwistedSMC`.
        **options: Options of :class:`Sampler`, except a solver.

    Attributes:
        cloud: As in :class:`~lanpaint.TwistedSMC`, but the evidence is that of the path.

    Raises:
        ValueError: As :class:`~lanpaint.TwistedSMC`.
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        particles: int = 20,
        threshold: float = 1.0,
        data_variance: float = 1.0,
        **options: Any,
    ) -> None:
        options |= {"particles": particles, "threshold": threshold, "data_variance": data_variance}
        super().__init__(score, **options)

    def begin(self, observation: Observation, noise: NoiseSource, start: Tensor | None) -> SamplerState:
        """The particles at the first level, with known entries on the path."""
        state = super().begin(observation, noise, start)
        level, observation, x = state.level, state.observation, state.x
        norm = reciprocal((level.alpha**2 + level.sigma**2).sqrt())
        path = level.perturb(observation.values, self.shared(cast_like(norm, x) * x))
        memory = Paths(state.memory.log_weights, state.memory.log_resampled, path=path)
        return replace(state, x=observation.replace_known(x, path), memory=memory)

    def shared(self, fresh: Tensor) -> Tensor:
        """The numbers of the first particle of each group for all its particles, shape (B K, …)."""
        groups = fresh.reshape(-1, self.particles, *fresh.shape[1:])
        return groups[:, :1].expand_as(groups).reshape(fresh.shape)

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """A step of the path; weigh, resample, move."""
        x, level, observation, particles = state.x, state.level, measured(state.observation), state.memory
        next_level = repeated_level(visit.next_level, self.particles, x.ndim)
        prediction = self.score.predict(x, level)
        chain = self.chain(level, next_level)
        mean, deviation = chain.mean(prediction, next_level), chain.deviation
        values, tau = observation.values, ancestral(level, next_level)
        epsilon = recomputed(particles.path, values, level)
        path = clean_step(values, epsilon, next_level, tau, self.shared(noise(x)))
        blur = (next_level.alpha * observation.noise) ** 2
        ratio = log_normal(path - mean, deviation**2 + blur, observation.known.expand_as(x))
        rows, memory = particles.weighted(ratio).resampled(self.threshold, noise)
        mean, fresh = mean[rows], noise(x)
        pull = deviation**2 * reciprocal(deviation**2 + blur)  # κ
        known = mean + cast_like(pull, x) * (path - mean) + cast_like((pull * blur).sqrt(), x) * fresh
        x = observation.replace_known(mean + cast_like(deviation, x) * fresh, known)
        return replace(
            state, x=x, level=next_level, prediction=prediction, memory=Paths(**vars(memory) | {"path": path})
        )

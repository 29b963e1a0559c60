"""Input guidance: away from what the model would say if it saw less of the input (AsyncPatch, Sec. 3.3).

The model is asked at the state z_s, and at z_t, in which a region of the input has more noise. With the weight w ≥ 0,

    s̄ = (1 + w) s(z_s; s) − w s(z_t; t)                                   (Papa et al., 2026, Eq. 8)

In inpainting the region is the known part. At t = 1 there, the second score is that of the unknown part alone, and the
guidance is classifier-free guidance whose condition is the known part. Guidance with classes comes first, at both
levels (Eq. 6, 7): ``InputGuidance(GuidedScore(conditional, unconditional, scale), …)``.

Like classifier-free guidance, it does not sample the density p(x | y)^(1+w) / p(x)^w. On a Gaussian in one unknown x of
variance c, with conditional mean m and variance v, the probability-flow ODE samples a Gaussian of variance v (v/c)^w;
see ``docs/asyncpatch.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lanpaint.checks import check_between, check_real
from lanpaint.device import move_like
from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.randomness import Generators, NormalNoise
from lanpaint.schedules import Flow, Schedule
from lanpaint.score import Score, as_score


class InputGuidance(Score):
    """A score guided by a region of its own input (AsyncPatch, Eq. 8), from two evaluations of the model.

    The model must take a level per entry. The noise that the region gets is drawn once in a run, so the guided score is
    a function of x and level, and solvers converge.

    Args:
        score: The model.
        region: Where the input guides, boolean, of a shape that broadcasts to the samples': the known part.
        weight: w of Eq. 8; 0 changes nothing.
        time: t in (0, 1], the time of the region in the second evaluation, as in :class:`TimePath`. Entries that are
            noisier keep their level.
        generator: Source of the noise: one generator, or one per sample.

    Raises:
        TypeError: For a region that is not boolean.
        ValueError: For a weight that is not finite, or a time outside (0, 1].
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        region: Tensor,
        weight: float,
        time: float = 1.0,
        generator: Generators = None,
    ) -> None:
        self.guided = as_score(score)
        if not isinstance(region, Tensor) or region.dtype != torch.bool:
            what = region.dtype if isinstance(region, Tensor) else type(region).__name__
            raise TypeError(f"region must be a boolean tensor, got {what}")
        check_real("weight (w)", weight)
        if not math.isfinite(weight):
            raise ValueError(f"weight (w) must be a finite number, got {weight}")
        if not check_between("time", time, 0, 1) > 0:
            raise ValueError("time must be above 0: at 0 both evaluations are the same")
        self.region, self.weight, self.time = region.cpu(), float(weight), float(time)
        self.schedule = self.guided.schedule
        self._noise, self._drawn = NormalNoise(generator), None

    _drawn: Tensor | None

    @property
    def needs_signal(self) -> bool:
        """``needs_signal`` of the model, which also sees the region without signal if ``time`` is 1."""
        return self.guided.needs_signal

    @property
    def unguided(self) -> Score:
        """The model without the guidance by the region, and without its own."""
        return self.guided.unguided

    def reset(self) -> None:
        """Forget the noise: the next run draws its own."""
        self._drawn = None
        super().reset()

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """The guided prediction at x of shape (B, …)."""
        prediction = self.guided.predict(x, level)
        if not self.weight:
            return prediction
        if self._drawn is None or self._drawn.shape != x.shape:
            self._drawn = self._noise(x)
        noisier, changes = self._noisier(level)
        changed = move_like(changes, x).bool()
        ratio = noisier.alpha * reciprocal(level.alpha)
        added = (noisier.sigma**2 - (ratio * level.sigma) ** 2).clamp(min=0).sqrt()
        corrupted = torch.where(changed, cast_like(ratio, x) * x + cast_like(added, x) * move_like(self._drawn, x), x)
        other = self.guided.predict(corrupted, noisier)
        # Scores are combined: ε̂ = −σ s. Where the level is the same, this is a combination of ε̂ and of x̂₀.
        share = torch.where(changes, level.sigma * reciprocal(noisier.sigma), 1.0)
        epsilon = torch.lerp(cast_like(share, x) * other.epsilon, prediction.epsilon, 1 + self.weight)
        denoised = torch.lerp(other.denoised, prediction.denoised, 1 + self.weight)
        sigma, inverse = cast_like(level.sigma, x), cast_like(reciprocal(level.alpha), x)
        denoised = torch.where(changed, inverse * (x - sigma * epsilon), denoised)
        return Prediction(x, level, denoised=denoised, epsilon=epsilon)

    def _noisier(self, level: NoiseLevel) -> tuple[NoiseLevel, Tensor]:
        """The level with the region at the time t, and the entries whose level is another, of one shape."""
        schedule: Schedule = self.schedule or Flow()
        most = schedule.at(self.time)
        changes = self.region & (level.sigma * most.alpha < most.sigma * level.alpha).cpu()
        norm = ((level.alpha**2 + level.sigma**2) / (most.alpha**2 + most.sigma**2)).sqrt()
        if level.alpha.numel() != 1 or bool(changes.any()):
            alpha = torch.where(changes, most.alpha * norm, level.alpha)
            sigma = torch.where(changes, most.sigma * norm, level.sigma)
            return NoiseLevel(alpha, sigma), changes
        return level, changes

"""Metropolis correction: accept or reject each step (Metropolis et al., 1953; Hastings, 1970).

With the correction, the stationary distribution is exact for any step length. A proposal x' ~ N(μ(x), v) is accepted
with probability min(1, p(x') N(x; μ(x'), v) / (p(x) N(x'; μ(x), v))), separately for each sample of the batch. That
needs the log density of the target, which diffusion models do not give. LanPaint leaves the correction out because of
its cost. Here it is the unbiased reference on targets with a known density.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lanpaint.drift import Coefficient, Drift, add_terms
from lanpaint.dynamics.base import Dynamics, State
from lanpaint.dynamics.langevin import Langevin
from lanpaint.noise import reciprocal
from lanpaint.randomness import NoiseSource


class GaussianProposal(Protocol):
    """A dynamics of the position alone whose step is Gaussian: x' = x + move · s(x) + scatter · ξ."""

    def proposal(self, drift: Drift, x: Tensor) -> tuple[Coefficient, Coefficient]:
        """``move`` and ``scatter``, as coefficients of x."""


@dataclass(frozen=True)
class MetropolisState(State):
    """State of :class:`Metropolis`.

    Attributes:
        x: Position, shape (B, …).
        score: s(x), shape of x; None before the first step.
        log_density: log p(x) up to a constant, shape (B,); None before the first step.
        accepted: Which samples accepted the last proposal, boolean, shape (B,); None before the first step.
    """

    score: Tensor | None = None
    log_density: Tensor | None = None
    accepted: Tensor | None = None


class Metropolis(Dynamics):
    """A dynamics with Gaussian steps, each of which is accepted or rejected (Hastings, 1970).

    Each step takes one evaluation of score and density. The first step after :meth:`init` takes two. Entries with time
    step 0 do not move.

    Args:
        dynamics: A dynamics of the position alone with Gaussian steps: :class:`Langevin`, or :class:`FastLangevin` with
            friction ∞ and order 1.

    Raises:
        TypeError: For any other dynamics.
        ValueError: In a run, for a drift that has no log density.
    """

    def __init__(self, dynamics: GaussianProposal) -> None:
        if isinstance(dynamics, type) or not callable(getattr(dynamics, "proposal", None)):
            name = dynamics.__name__ if isinstance(dynamics, type) else type(dynamics).__name__
            raise TypeError(
                f"the dynamics {name} has no Gaussian proposal to correct; take Langevin() "
                "or FastLangevin(friction=math.inf, order=1)"
            )
        dynamics.proposal(Drift(torch.neg, 1.0, 1.0), torch.zeros(1))  # so that an error comes now, not during a run
        self.dynamics = dynamics

    def evaluations(self, inner_steps: int) -> int:
        """Evaluations at one level: one for each proposal, and one for the first state."""
        return inner_steps + 1 if inner_steps else 0

    def init(self, x: Tensor, drift: Drift, noise: NoiseSource) -> MetropolisState:
        """The state at x, with nothing evaluated yet. The coefficients of the level are computed here.

        Raises:
            ValueError: For a drift without a log density.
        """
        if drift.log_density is None:
            raise ValueError(
                "the drift has no log density, which the Metropolis correction needs: use a score with log_prob "
                "(lanpaint_toys) and a sampler that does not move the known part, LangevinPaint or Sampler"
            )
        self._proposal(drift, x)
        return MetropolisState(x)

    def _proposal(self, drift: Drift, x: Tensor) -> tuple[Coefficient, Coefficient, Coefficient, Coefficient]:
        """Move and scatter of the proposal, their ratio (0 on entries that do not move), and 1 on entries that move."""

        def solve() -> tuple[Coefficient, Coefficient, Coefficient, Coefficient]:
            move, scatter = self.dynamics.proposal(drift, x)
            if isinstance(scatter, Tensor):
                return move, scatter, reciprocal(scatter) * move, (scatter > 0).to(x.dtype)
            return move, scatter, move / scatter if scatter else 0.0, float(scatter > 0)

        return drift.once(self, x, solve)

    def step(self, state: State, drift: Drift, noise: NoiseSource) -> MetropolisState:
        """The state after one proposal, which each sample accepts or rejects."""
        assert isinstance(state, MetropolisState)
        assert drift.log_density is not None
        x, score, log_density = state.x, state.score, state.log_density
        if score is None or log_density is None:
            score, log_density = drift(x), drift.log_density(x)
        move, scatter, pull, moving = self._proposal(drift, x)
        xi = noise(x)
        proposed = add_terms(x, (move, score), (scatter, xi))
        new_score, new_log_density = drift(proposed), drift.log_density(proposed)
        # The noise ξ' of the way back, from x = x' + move s(x') + scatter ξ'. It is −ξ on entries that do not move.
        back = -xi - pull * (score + new_score)
        backward, forward = (_per_sample(moving * z**2) for z in (back, xi))
        log_ratio = new_log_density - log_density + 0.5 * (forward - backward).to(log_density)
        log_ratio = log_ratio.to(torch.promote_types(log_ratio.dtype, torch.float32))
        accepted = torch.special.log_ndtr(noise(torch.empty_like(log_ratio))) < log_ratio  # log of a uniform number
        rows = accepted.view(accepted.shape + (1,) * (x.ndim - accepted.ndim))
        return MetropolisState(
            torch.where(rows, proposed, x),
            torch.where(rows, new_score, score),
            torch.where(accepted, new_log_density, log_density),
            accepted,
        )


def _per_sample(x: Tensor) -> Tensor:
    """Sums over all but the batch, shape (B,)."""
    return x.flatten(1).sum(1) if x.ndim > 1 else x


class MALA(Metropolis):
    """Metropolis-adjusted Langevin algorithm (Roberts & Tweedie, 1996): :class:`Metropolis` with :class:`Langevin`."""

    def __init__(self) -> None:
        super().__init__(Langevin())

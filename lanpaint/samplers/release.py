"""What a soft observation holds at each level, and its release.

Where all entries have one level, an entry is held to the diffused observation until it is released (differential
diffusion; Levin & Fried, 2023). Each sampler conditions on what is held, as on any observation.

Where levels differ from entry to entry, an entry may wait at the level of its release (:meth:`Plan.with_release`). It
is drawn from p_t(y | y_o) once, and does not move while it waits. The model sees its draw at its level, so the other
entries follow their distribution given the draw.

A measurement with noise is released at the level of its noise, as a draw at that level.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lanpaint.device import move_like
from lanpaint.noise import NoiseLevel
from lanpaint.observation import Draws
from lanpaint.plan import Plan, Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState


def release(state: SamplerState, visit: Visit, plan: Plan, noise: NoiseSource) -> tuple[SamplerState, Tensor | None]:
    """The state before it enters the level of a visit, with the observation that is held there.

    Args:
        state: The state. Its kind is ``"start"`` if the run begins with this visit.
        visit: The visit that is about to begin.
        plan: The plan of the run.
        noise: Source of standard normal numbers.

    Returns:
        The state, which does not change where the observation is not soft; and the entries that wait in this visit,
        boolean, or None if no entry waits.
    """
    observation, step = state.observation, visit.step
    if observation.change is None:
        known = observation.at_level(visit.level)
        return (state if known is observation else replace(state, observation=known)), None
    whole, releases, steps, x = observation.whole, observation.releases(plan.steps), plan.steps, state.x
    assert whole.change is not None
    soft, still = whole.change < 1, _still(plan, step)
    if state.kind == "start":  # levels before this one were left out, or entries wait from here on
        drawn = soft & (releases >= step) if step else soft & still
    else:
        drawn = soft & (releases == step) & ~(_still(plan, step - 1) if step else still)
    anew = move_like(drawn, whole.known)
    fresh = torch.where(anew, whole.diffused(state.level, noise(x)), 0.0)
    held, draws = observation.held(step, steps), _with(observation.draws, drawn, fresh, state.level)
    x = torch.where(anew, fresh, x)
    waiting = soft & (releases > step) & still & (visit.level.sigma > 0).cpu()
    gone = soft & (releases <= step)
    held.draws = None if draws is None or not bool(gone.any()) else replace(draws, entries=draws.entries & gone)
    if not bool(waiting.any()):
        return replace(state, x=x, observation=held), None
    # The sampler has nothing to do with entries that wait: the model sees them at their level.
    return replace(state, x=x, observation=held.without(waiting)), move_like(waiting, whole.known)


def _with(draws: Draws | None, drawn: Tensor, fresh: Tensor, level: NoiseLevel) -> Draws:
    """The draws, with those that are new: ``drawn`` at ``level``, with the values ``fresh``, 0 elsewhere."""
    alpha, sigma = (torch.where(drawn, each.cpu().double(), 1.0) for each in (level.alpha, level.sigma))
    if draws is None:
        return Draws(drawn, fresh, NoiseLevel(alpha, sigma))
    before, at = draws.level, torch.where(move_like(drawn, fresh).bool(), fresh, draws.at)
    level = NoiseLevel(torch.where(drawn, alpha, before.alpha), torch.where(drawn, sigma, before.sigma))
    return Draws(draws.entries | drawn, at, level)


def _still(plan: Plan, step: int) -> Tensor:
    """The entries whose level stays the same in an outer step. None do, where all entries have one level."""
    level, next_level = plan.levels[step], plan.levels[step + 1]
    if level.alpha.numel() == next_level.alpha.numel() == 1:
        return torch.zeros((), dtype=torch.bool)
    return ((level.alpha == next_level.alpha) & (level.sigma == next_level.sigma)).cpu()

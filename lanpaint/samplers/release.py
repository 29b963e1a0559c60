"""What a soft observation holds at each level, and its release.

Where all entries have one level, an entry is held to the diffused observation until it is released (differential
diffusion; Levin & Fried, 2023). Each sampler conditions on what is held, as on any observation.

Where levels differ from entry to entry, an entry may wait at the level of its release (:meth:`Plan.with_release`). It
is drawn from p_t(y | y_o) once, and does not move while it waits. The model sees its draw at its level, so the other
entries follow their distribution given the draw.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

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
        return state, None
    whole, releases, steps = observation.whole, observation.releases(plan.steps), plan.steps
    waiting = _waiting(plan, step, state.x)
    if state.kind == "start":  # levels before this one were left out, or entries wait from here on
        drawn = releases >= step if step else waiting
    else:
        waited = _waiting(plan, step - 1, state.x) if step else None
        drawn = releases == step if waited is None else (releases == step) & ~waited
    held, x = observation.held(step, steps), state.x
    fresh = whole.diffused(state.level, noise(x))
    if drawn is not None:
        x = torch.where(whole.known & drawn, fresh, x)
    if waiting is not None:
        waiting = waiting & held.known & (visit.level.sigma > 0).to(x.device)
        held = held.without(waiting)  # the sampler has nothing to do with it: the model sees it at its level
    return replace(state, x=x, observation=held), waiting


def _waiting(plan: Plan, step: int, x: Tensor) -> Tensor | None:
    """The entries whose level stays the same in an outer step; None where all entries have one level."""
    level, next_level = plan.levels[step], plan.levels[step + 1]
    if level.alpha.numel() == next_level.alpha.numel() == 1:
        return None
    waiting = (level.alpha == next_level.alpha) & (level.sigma == next_level.sigma)
    return waiting.to(x.device)

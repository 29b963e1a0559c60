"""The fast preset in units of the known values, where nobody has told the standard deviation of the data."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from lanpaint.observation import Observation
from lanpaint.schedules import VP, Schedule
from lanpaint.solvers import Solver
from lanpaint.spacings import Focused

WIDE = 4.0
"""Known values with more than so many standard deviations of the data for their own are no accident."""


def chooses_levels(options: dict[str, Any]) -> bool:
    """Whether neither a solver nor another option of a sampler chooses the levels."""
    solver = options.get("solver")
    has_levels = isinstance(solver, Solver) and solver.levels(options.get("steps", 20)) is not None
    return not has_levels and all(options.get(name) is None for name in ("spacing", "levels", "plan"))


def in_units(numbers: Any, schedule: Schedule | None, sampler: Any, observation: Observation) -> Any:
    """The sampler; or a copy with levels, inner steps and steps in units of the known values, if those are wide.

    They are wide if their standard deviation is above 4. A smaller one than 1 changes nothing: a part that is known can
    be more uniform than the data. The number of evaluations stays as it is. Waits for the device once.

    Args:
        numbers: Inner steps: a sequence, or a function of levels and ``scale``.
        schedule: The schedule that the sampler was given.
        sampler: A :class:`~lanpaint.LanPaint` with the fast preset.
        observation: The known part.
    """
    scale = observation.spread
    if scale <= WIDE:
        return sampler
    fitted = copy.copy(sampler)
    fitted.data_scale, fitted._fit = scale, None
    vars(fitted)["original"] = sampler  # no submodule
    levels = Focused(scale)(schedule or sampler.score.schedule or VP.linear(), sampler.steps)
    counts = numbers(levels, scale=scale) if callable(numbers) else numbers
    each = [sampler.dynamics.evaluations(count) * getattr(sampler, "particles", 1) for count in counts]
    fitted.plan = replace(sampler.plan, levels=levels, inner_steps=counts, inner_evaluations=each)
    return fitted

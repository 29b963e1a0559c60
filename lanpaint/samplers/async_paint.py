"""Inpainting as a schedule of times, for networks that take a time for each pixel (AsyncPatch, Sec. 3.2, Eq. 4).

    τ_i(u) = 0 at known entries,   1 − u at unknown ones                                       u from 0 to 1

The model sees the known entries as they are, at the time 0, and the unknown ones at the noise level of the step. Its
score of the unknown entries is then that of p(x_t | y_o) itself (Eq. 5). So an outer step is an ordinary step of the
solver: one evaluation, no guidance and no inner steps. For an exact score the law is exact, in the limit of many steps.

A network's score at such levels is not exact. Inner steps of Langevin dynamics on it, at each level, correct errors of
the earlier steps, as in LanPaint. They are an option here: N inner steps take N more evaluations.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from lanpaint.dynamics import Dynamics, FastLangevin
from lanpaint.fields import Decoupled, FieldDrift
from lanpaint.noise import NoiseLevel
from lanpaint.observation import Observation
from lanpaint.samplers.langevin_sampler import LangevinSampler, check_step_size
from lanpaint.score import NetworkScore, Score, ScoreWrapper


class AsyncPaint(LangevinSampler):
    """Known entries at time 0, unknown ones from 1 to 0 (AsyncPatch, Eq. 4). For models that take maps of times.

    The levels of a run follow from the observation. An entry of a soft observation waits, noisy, at the level of its
    release. For other paths of times, give a plan of :class:`~lanpaint.TimePath` to any sampler.

    Args:
        score: The model, as in :class:`Sampler`. It must take levels that differ from entry to entry: an exact score,
            or a :class:`~lanpaint.NetworkScore` with ``time_maps=True``.
        inner_steps: N ≥ 0, Langevin steps of the unknown part at each level; or a sequence of S numbers.
        step_size: η > 0. The time step of an inner step is η σ². 0.15 is LanPaint's.
        dynamics: The dynamics of the inner steps; :class:`~lanpaint.FastLangevin` by default.
        **options: Options of :class:`Sampler`.

    Raises:
        TypeError: For a ``step_size`` that is no number, a ``dynamics`` that is no Dynamics, and as :class:`Sampler`.
        ValueError: For N < 0 or η ≤ 0, a network that takes no maps, a plan whose levels differ from entry to entry,
            and as :class:`Sampler`.
    """

    takes_noise = False

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        inner_steps: int | Sequence[int] = 0,
        step_size: float = 0.15,
        dynamics: Dynamics | None = None,
        **options: Any,
    ) -> None:
        check_step_size(step_size)
        network = score
        while isinstance(network, ScoreWrapper):
            network = network.wrapped
        if isinstance(network, NetworkScore) and not network.time_maps:
            raise ValueError(
                "AsyncPaint needs a network with a time for each pixel, as emoji-async has, and this one takes one "
                "noise level for all; take LanPaint, or declare NetworkScore(…, time_maps=True) if it takes maps"
            )
        dynamics = FastLangevin() if dynamics is None else dynamics
        super().__init__(score, dynamics=dynamics, inner_steps=inner_steps, **options)
        self.inner_steps, self.step_size = inner_steps, step_size
        if any(level.alpha.numel() != 1 for level in self.levels):
            raise ValueError("AsyncPaint makes its maps of levels from the observation; give a plan of one level each")

    def fitted(self, observation: Observation) -> AsyncPaint:
        """A copy of this sampler whose levels are clean where the observation is known."""
        change = (~observation.known).double() if observation.change is None else observation.change
        if change.ndim > 2 and bool((change == change[:, :1]).all()):
            change = change[:, :1]  # one time for all channels
        fitted = copy.copy(self)
        plan = self.plan.with_release(change)
        fitted.plan = replace(plan, outer_evaluations=self.solver.evaluations(plan.levels))
        return fitted

    def drift(self, level: NoiseLevel, observation: Observation) -> FieldDrift:
        """The model's score on the unknown part. No time passes for the known part, whose σ is 0."""
        field = Decoupled(self.score, observation)
        return field.drift(level, self.step_size * field.time_scale(level))

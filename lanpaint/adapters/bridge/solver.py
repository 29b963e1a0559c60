"""The pipeline's scheduler as the outer step, as the pipeline itself would make it."""

from __future__ import annotations

import copy
import weakref
from typing import Any, Protocol

import torch
from torch import Tensor

from lanpaint.adapters.bridge.folding import Folding
from lanpaint.adapters.schedulers import DiffusersSolver, SchedulerState, begin, stepped
from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score


class Evaluation(Prediction):
    """A prediction that remembers what the pipeline's network gave, and for which latents."""

    def __init__(self, views: Prediction, output: Tensor, latents: Tensor) -> None:
        super().__init__(views.x, views.level, **views._given)
        self.output, self.latents = output, latents


class SteppedRun(Protocol):
    """What the solver tells of its steps to the run that it is part of.

    Attributes:
        position: The scheduler that is stepped, and the number of its next step.
        step_options: Arguments that the pipeline gave to its scheduler's step.
        in_outer_step: Whether an outer step is being made.
        stage_levels: The levels of the scheduler's evaluations.
        folding: The form in which the pipeline steps its latents.
    """

    position: tuple[Any, int]
    step_options: dict[str, Any]
    in_outer_step: bool
    stage_levels: tuple[NoiseLevel, ...]
    folding: Folding

    def stepped(self, x: Tensor, latents: Tensor) -> None:
        """Note that x is the sampler's copy of these latents, which no one has moved."""

    def is_unmoved(self, x: Tensor, latents: Tensor) -> bool:
        """Whether x is what the latents of an evaluation were, before they were cast."""


class PipelineSolver(DiffusersSolver):
    """The outer step of the pipeline's scheduler.

    Args:
        scheduler: A copy of it, already set to its times.
        run: The run that the solver is part of.
    """

    def __init__(self, scheduler: Any, run: SteppedRun) -> None:
        self.check(scheduler)
        self.scheduler, self.timesteps = scheduler, {}
        self._stages: dict[int, list[int]] = {}
        self._run = weakref.proxy(run)
        self._levels: list[NoiseLevel] | None = None

    def levels(self, steps: int) -> list[NoiseLevel]:
        """The levels before each outer step, and clean data; the number of steps is the pipeline's."""
        if self._levels is None:  # checked once, asked for again by samplers
            self._levels = super().levels(steps)
        return list(self._levels)

    def init(self, x: Tensor, steps: int) -> SchedulerState:
        """With a copy of the scheduler."""
        state = super().init(x, steps)
        self._run.position = state.scheduler, 0
        return state

    def step(
        self, state: Any, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> SchedulerState:
        """All stages of the scheduler's next step."""
        self._run.position, self._run.in_outer_step = (state.scheduler, state.index), True
        stepped = super().step(state, score, level, next_level, noise)
        self._run.in_outer_step = False
        return stepped

    def _stage_levels(self, scheduler: Any) -> tuple[NoiseLevel, ...]:
        return tuple(self._run.stage_levels)

    def _set(self, steps: int) -> Any:
        return self.scheduler

    def _fresh(self, steps: int, device: torch.device | str = "cpu") -> Any:
        scheduler = copy.deepcopy(self.scheduler)
        if torch.device(device).type == "cpu":  # for its levels; those of a run stay where the pipeline has put them
            for name, value in vars(scheduler).items():
                if isinstance(value, Tensor):
                    setattr(scheduler, name, value.cpu())
        begin(scheduler, 0)
        return scheduler

    def _advance(
        self, scheduler: Any, index: int, prediction: Prediction, x: Tensor, options: dict[str, Any]
    ) -> Tensor:
        self._run.position = scheduler, index + 1
        if not isinstance(prediction, Evaluation):  # rewritten, or combined from several evaluations
            return super()._advance(scheduler, index, prediction, x, options)
        output, latents = prediction.output, prediction.latents
        # A state that no one has moved is stepped in the pipeline's own dtype, so that it stays what it would be there.
        # (One that was moved is float32, and is not a 16-bit number any more.)
        unmoved = latents.dtype == x.dtype or self._run.is_unmoved(x, latents)
        if not unmoved:
            output, latents = output.to(x.dtype), x
        folding = self._run.folding
        output, latents = folding.fold(output), folding.fold(latents)
        options = {**self._run.step_options, **{name: value for name, value in options.items() if name == "order"}}
        after = folding.unfold(stepped(scheduler, index, output, latents, options))
        moved: Tensor = after.to(x.dtype)
        if unmoved:
            self._run.stepped(moved, after)
        return moved

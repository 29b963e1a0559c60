"""The times that a pipeline is shown: one for each evaluation, and each tells what is evaluated when it is reached."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.reading import evaluation_times, level_of, lists_levels, stage_level, view_of
from lanpaint.noise import NoiseLevel
from lanpaint.plan import Plan
from lanpaint.schedules import VP, Flow


@dataclass(frozen=True, eq=False)
class Place:
    """Where an evaluation is made.

    Attributes:
        level: The level of the same σ/α in the scheduler's coordinates.
        factor: What a state of the sampler is multiplied by to be one of the scheduler's.
        time: The pipeline's time there.
        index: Its place in the scheduler's list of times; None for a level between two of them.
        nearest: The place in that list that is nearest.
    """

    level: NoiseLevel
    factor: float
    time: float
    index: int | None
    nearest: int


class Places:
    """The places of levels among the times of a scheduler.

    Args:
        scheduler: A scheduler of diffusers that has been set to its times.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.times = [float(time) for time in evaluation_times(scheduler).tolist()]
        self.levels = tuple(stage_level(scheduler, index) for index in range(len(self.times)))
        self._angles = [_angle(level) for level in self.levels]
        self._known: dict[tuple[float, float], Place] = {}

    def of(self, level: NoiseLevel) -> Place:
        """The place of a level. What was found is kept, since a run asks for the same few levels.

        Raises:
            ValueError: For a level of several entries.
        """
        if level.alpha.numel() != 1:
            raise ValueError(
                f"a pipeline takes one noise level for the batch, got levels of shape {tuple(level.shape)}; "
                "use a network adapter (lanpaint.adapters.networks)"
            )
        key = level.numbers
        if key not in self._known:
            self._known[key] = self._find(NoiseLevel(*key))
        return self._known[key]

    def _find(self, level: NoiseLevel) -> Place:
        angle = _angle(level)
        nearest = self._nearest(angle)
        if abs(self._angles[nearest] - angle) < 1e-6 * angle:
            there = self.levels[nearest]
            return Place(there, norm(there) / norm(level), self.times[nearest], nearest, nearest)
        there, time = _between(self.scheduler, level)
        return Place(there, norm(there) / norm(level), time, None, self._nearest(_angle(there)))

    def _nearest(self, angle: float) -> int:
        distances = [abs(there - angle) for there in self._angles]
        return distances.index(min(distances))

    def declared(self, plan: Plan, stages: list[list[int]] | None, first: int = 0) -> list[Place]:
        """The places of all evaluations of a plan.

        Args:
            plan: The sampler's.
            stages: For the pipeline's scheduler as the solver, the places in its list of each outer step's stages. None
                for another solver, whose evaluations are taken to be made where its step begins.
            first: Number of the first outer step.
        """
        places: list[Place] = []
        for visit in plan.visits(first):
            last = [] if stages is None else [self.of(self.levels[index]) for index in stages[visit.step]]
            here = [self.of(visit.level)] * max(visit.evaluations - len(last), 0)
            places += [*here, *last][: visit.evaluations]
        return places


class LiveTimes(Tensor):
    """A list of times, shape (E,), whose iteration ends when the sampler does.

    Entries are written as evaluations are asked for, so what a pipeline took from the list beforehand follows too. All
    that is computed from it is a plain tensor.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    goes_on: Callable[[int], bool]
    fractions: dict[int, float]

    @staticmethod
    def made(times: Tensor, goes_on: Callable[[int], bool], fractions: dict[int, float]) -> LiveTimes:
        """The list of these times.

        Args:
            times: Shape (E,).
            goes_on: Is asked before each of them but the first, with its number.
            fractions: By their numbers, times that are no whole numbers in a list that has only those.
        """
        live: LiveTimes = times.as_subclass(LiveTimes)
        live.goes_on, live.fractions = goes_on, fractions
        return live

    def __iter__(self) -> Iterator[Tensor]:
        """The times, as long as the sampler goes on."""
        for number, time in enumerate(self.as_subclass(Tensor).unbind()):
            if number and not self.goes_on(number):
                return
            yield time if number not in self.fractions else torch.tensor(self.fractions[number], device=self.device)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A plain copy."""
        return self.as_subclass(Tensor).clone()


def norm(level: NoiseLevel) -> float:
    """√(α² + σ²)."""
    return math.hypot(*level.numbers)


def _angle(level: NoiseLevel) -> float:
    alpha, sigma = level.numbers
    return math.atan2(sigma, alpha)


@functools.cache
def _flow() -> Flow:
    return Flow()


def _between(scheduler: Any, level: NoiseLevel) -> tuple[NoiseLevel, float]:
    """The level in the scheduler's coordinates, and the pipeline's time, of a σ/α that is none of its list."""
    if view_of(scheduler) == "flow":
        time = _flow().time(level)
        return _flow().level(time), float(time) * scheduler.config.num_train_timesteps
    if lists_levels(scheduler):
        return level.rescale(1 / norm(level)), _angle(level) / (math.pi / 2)
    schedule = VP(scheduler.alphas_cumprod)
    exploding = float(level_of(scheduler, 0).alpha) == 1
    return level.rescale(1 / (float(level.alpha) if exploding else norm(level))), float(schedule.time(level))

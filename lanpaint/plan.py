"""The plan of a run: which noise levels are visited, in which order, with how many inner steps and evaluations.

A plan is data, and complete before the run begins. So pipelines, progress bars and tables of costs can read from the
plan what a sampler is going to do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from lanpaint.checks import check_whole, shown
from lanpaint.noise import NoiseLevel
from lanpaint.observation import release_step

MOST_STEPS = 10_000
"""Most outer steps, or inner steps at a level, that a command line or a grid may ask for. More is a slip."""


@dataclass(frozen=True, eq=False)
class Visit:
    """One visit to a noise level: the inner steps there, and the outer step to the next level.

    Attributes:
        step: Number of the outer step, from 0.
        level: The level that is visited.
        next_level: The level that the outer step leads to.
        inner_steps: Number of inner steps in this visit.
        evaluations: Evaluations of the score in the inner steps and the outer step of this visit.
    """

    step: int
    level: NoiseLevel
    next_level: NoiseLevel
    inner_steps: int
    evaluations: int


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run does, step by step: the noise levels, and the inner and outer steps with their evaluations.

    Args:
        levels: S + 1 noise levels. σ/α must never rise, and the last level must be clean (α = 1, σ = 0). A level has
            the shape () for the whole batch, or a shape that broadcasts to the samples': one level per sample, or one
            per pixel (a schedule that differs from region to region).
        inner_steps: Inner steps at each of the S levels from which an outer step starts: one number for all levels, or
            S numbers. With None, the sampler that is given the plan chooses.
        order: Numbers of the outer steps, in the order in which they are made: 0, …, S − 1 by default. A number may be
            followed by a smaller number. Then the state is diffused forward to the level of that outer step (time
            travel).
        inner_evaluations: Evaluations of the score in all inner steps of one visit, S numbers. The sampler declares
            them; by default each inner step takes one.
        outer_evaluations: Evaluations of the score in each outer step, S numbers. The sampler declares them; 1 by
            default.

    Raises:
        TypeError: For levels that are no :class:`NoiseLevel`.
        ValueError: For fewer than two levels, levels that rise or do not end clean, a level without signal and noise,
            ``inner_steps`` or evaluations that are not S numbers, and an order that skips a step or does not end with
            the last step.
    """

    levels: Sequence[NoiseLevel]
    inner_steps: Sequence[int] | int | None = None
    order: Sequence[int] | None = None
    inner_evaluations: Sequence[int] | None = None
    outer_evaluations: Sequence[int] | None = None

    def __post_init__(self) -> None:
        levels = _checked(self.levels)
        steps = len(levels) - 1
        inner_steps: tuple[int, ...] | None = None
        if isinstance(self.inner_steps, Sequence):
            inner_steps = tuple(self.inner_steps)
        elif self.inner_steps is not None:
            check_whole("inner_steps", self.inner_steps, least=0)
            inner_steps = (self.inner_steps,) * steps
        for number in inner_steps or ():
            check_whole("inner_steps", number, least=0)
        if self.order is not None and not isinstance(self.order, Sequence):
            raise TypeError(f"order must be a sequence of outer steps, got {shown(self.order)}")
        order = tuple(range(steps)) if self.order is None else tuple(self.order)
        _check_order(order, steps)
        inner = self.inner_evaluations if self.inner_evaluations is not None else inner_steps or (0,) * steps
        outer = self.outer_evaluations if self.outer_evaluations is not None else (1,) * steps
        counts = {"inner_steps": inner_steps or inner, "inner_evaluations": inner, "outer_evaluations": outer}
        for name, numbers in counts.items():
            if not isinstance(numbers, Sequence):
                raise TypeError(f"{name} must be one whole number for each of {steps} levels, got {shown(numbers)}")
            for number in numbers:
                check_whole(name, number, least=0)
            if len(numbers) != steps:
                raise ValueError(f"{name} must be a number, or one for each of {steps} levels; got {len(numbers)}")
        settled = {"levels": levels, "inner_steps": inner_steps, "order": order}
        evaluations = {"inner_evaluations": tuple(inner), "outer_evaluations": tuple(outer)}
        for name, value in (settled | evaluations).items():
            object.__setattr__(self, name, value)

    @property
    def steps(self) -> int:
        """Number of outer steps S. Each outer step is made once, or more often with time travel."""
        return len(self.levels) - 1

    @cached_property
    def scale(self) -> float:
        """The largest √(α² + σ²) of the levels: the largest size of the state in the run, for data of order 1."""
        return max(
            math.hypot(*level.numbers)
            if level.alpha.numel() == 1
            else float((level.alpha**2 + level.sigma**2).max()) ** 0.5
            for level in self.levels
        )

    @property
    def evaluations(self) -> int:
        """Number of evaluations of the score in a whole run. Each evaluation is for the whole batch."""
        return sum(visit.evaluations for visit in self.visits())

    def visits(self, first: int = 0) -> Iterator[Visit]:
        """The visits to the levels, in the order in which they are made, from outer step number ``first`` on."""
        inner, outer = self.inner_evaluations, self.outer_evaluations
        assert self.order is not None
        assert inner is not None
        assert outer is not None
        for step in self.order:
            if step < first:
                continue
            number = self.inner_steps[step] if isinstance(self.inner_steps, tuple) else 0
            yield Visit(step, self.levels[step], self.levels[step + 1], number, inner[step] + outer[step])

    def with_inner_steps(self, inner_steps: int | Sequence[int], evaluations: Sequence[int] | None = None) -> Plan:
        """The plan with these inner steps. If the plan has inner steps already, it keeps them.

        Args:
            inner_steps: One number for all levels, or S numbers, one for each level.
            evaluations: Evaluations of the score in all inner steps at each level, S numbers; by default one for each
                inner step.

        Raises:
            ValueError: For numbers below 0, or not S numbers.
        """
        kept = inner_steps if self.inner_steps is None else self.inner_steps
        return replace(self, inner_steps=kept, inner_evaluations=evaluations)

    def with_particles(self, particles: int) -> Plan:
        """The plan in which each evaluation is made for each of K = ``particles`` particles."""
        inner, outer = (
            [particles * n for n in each or ()] for each in (self.inner_evaluations, self.outer_evaluations)
        )
        return replace(self, inner_evaluations=inner, outer_evaluations=outer)

    def with_release(self, change: Tensor) -> Plan:
        """The plan with levels that differ from entry to entry, for an observation that is soft.

        An entry that may change by c waits at the level at which it is released (:meth:`lanpaint.Observation.soft`),
        and follows the levels of this plan from there on. An entry of c = 0 is clean at all levels. The model must take
        such levels.

        Args:
            change: c of each entry, floating point from 0 to 1, broadcastable to the samples. The observation has the
                same.

        Raises:
            ValueError: When the levels of this plan differ from entry to entry already.
        """
        if any(level.alpha.numel() != 1 for level in self.levels):
            raise ValueError("the levels of the plan differ from entry to entry already; give a plan of one level each")
        alphas, sigmas = torch.tensor([level.numbers for level in self.levels], dtype=torch.float64).unbind(1)
        releases = release_step(change.cpu().double(), self.steps).long()
        own = [releases.clamp(min=step) for step in range(self.steps + 1)]
        return replace(self, levels=[NoiseLevel(alphas[at], sigmas[at]) for at in own])

    def with_time_travel(self, block: int, times: int) -> Plan:
        """The plan in which each block of ``block`` outer steps is made ``times`` + 1 times (RePaint, Alg. 1).

        Raises:
            ValueError: For a block below 1, or times below 0.
        """
        check_whole("travel (τ)", block, least=1)
        check_whole("travels (K)", times, least=0)
        order: list[int] = []
        for first in range(0, self.steps, block):
            order += list(range(first, min(first + block, self.steps))) * (times + 1)
        return replace(self, order=order)


def even(levels: Sequence[NoiseLevel], inner_steps: int, scale: float = 1.0) -> list[int]:
    """Inner steps at each of the S levels before the last, all equal to ``inner_steps``."""
    return [inner_steps] * (len(levels) - 1)


def falling(levels: Sequence[NoiseLevel], inner_steps: int, scale: float = 1.0) -> list[int]:
    """Inner steps at each of the S levels before the last, ``inner_steps`` at the first and fewer in equal parts later.

    Level number k = 0, …, S − 1 has ``inner_steps`` (S − k)/S, rounded, with a half rounded up.

    Example:
        >>> falling([NoiseLevel(1.0, sigma) for sigma in (8.0, 2.0, 0.5, 0.1, 0.0)], 4)
        [4, 3, 2, 1]
    """
    steps = len(levels) - 1
    return [int(inner_steps * (steps - step) / steps + 0.5) for step in range(steps)]


def rising(levels: Sequence[NoiseLevel], inner_steps: int, scale: float = 1.0) -> list[int]:
    """The inner steps of :func:`falling` in the opposite order: most of them at the cleanest level."""
    return falling(levels, inner_steps, scale)[::-1]


def late(levels: Sequence[NoiseLevel], inner_steps: int, scale: float = 1.0) -> list[int]:
    """Inner steps at each of the S levels before the last, S times ``inner_steps`` in all, most of them at low noise.

    With r = σ/(α s) for data of standard deviation s = ``scale``, level number n = 1, …, S gets a share in proportion
    to n² r/(r + 0.03). Inner steps at much noise are forgotten at later levels, and at little noise a step of the
    length of σ moves next to nothing. A level that varies within the samples counts by its mean σ and α.

    Example:
        >>> late([NoiseLevel(1.0, sigma) for sigma in (8.0, 2.0, 0.5, 0.1, 0.0)], 4)
        [1, 2, 5, 8]
    """
    ratios = [float(level.sigma.mean() / level.alpha.mean()) / scale for level in levels[:-1]]
    shares = [(number + 1) ** 2 / (1 + 0.03 / ratio) if ratio else 0.0 for number, ratio in enumerate(ratios)]
    passed = list(itertools.accumulate(shares))
    until = [round(len(shares) * inner_steps * share / passed[-1]) for share in passed]
    return [after - before for before, after in itertools.pairwise([0, *until])]


class _CheckedLevels(tuple[NoiseLevel, ...]):
    """Levels that a plan has checked already, so that a plan made from this plan need not check them again."""


def _checked(levels: Sequence[NoiseLevel]) -> _CheckedLevels:
    if isinstance(levels, _CheckedLevels):
        return levels
    if not isinstance(levels, Sequence) or not all(isinstance(level, NoiseLevel) for level in levels):
        raise TypeError(f"levels must be a list of NoiseLevel(alpha, sigma), got {shown(levels)}")
    if len(levels) < 2 or not _always(levels[-1], lambda alpha, sigma: (alpha == 1) & (sigma == 0)):
        raise ValueError("levels must be at least two, noisiest first, the last one clean: NoiseLevel(1.0, 0.0)")
    if not all(_always(level, lambda alpha, sigma: (alpha > 0) | (sigma > 0)) for level in levels):
        raise ValueError("every level needs α > 0 or σ > 0, got a level with α = σ = 0; leave that level out")
    # σ/α falls if the angle of (α, σ) falls. The angle is finite at α = 0 too.
    for step, (here, there) in enumerate(itertools.pairwise(_angle(level) for level in levels)):
        risen = there > here * (1 + 1e-6)  # tolerance for float32 levels
        if risen if isinstance(risen, bool) else bool(risen.any()):
            raise ValueError(f"σ/α must never rise along levels, but it rises from level {step} to {step + 1}")
    return _CheckedLevels(levels)


def _always(level: NoiseLevel, holds: Callable[[Any, Any], Any]) -> bool:
    """Whether ``holds(α, σ)`` is true at every entry of the level."""
    if level.alpha.numel() == 1:
        return bool(holds(*level.numbers))
    return bool(holds(level.alpha, level.sigma).all())


def _angle(level: NoiseLevel) -> Any:
    """The angle atan2(σ, α): a number for a level of one entry, else a tensor."""
    if level.alpha.numel() == 1:
        alpha, sigma = level.numbers
        return math.atan2(sigma, alpha)
    return torch.atan2(level.sigma, level.alpha)


def _check_order(order: Sequence[int], steps: int) -> None:
    whole = all(isinstance(step, Integral) and 0 <= step < steps for step in order)
    if not whole or not order or order[0] != 0 or order[-1] != steps - 1:
        raise ValueError(f"order must list outer steps from 0 to {steps - 1}, first and last, got {list(order)!r:.60}")
    for before, after in itertools.pairwise(order):
        if after > before + 1:
            raise ValueError(f"order skips from outer step {before} to {after}; a state can only be diffused forward")

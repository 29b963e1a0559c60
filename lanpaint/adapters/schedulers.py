"""Any scheduler of diffusers as a solver.

The scheduler makes the outer steps and sets the noise levels, in the coordinates that it uses itself. Some schedulers
make one outer step in several stages (Heun, KDPM2, single-step DPM-Solver). All stages together are one outer step
here, with one evaluation for each stage.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.reading import (
    evaluation_times,
    is_inner,
    is_pseudo_numerical,
    output_of,
    stage_level,
    time_for,
)
from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.randomness import NoiseSource, NormalNoise
from lanpaint.score import Score
from lanpaint.solvers.base import Solver, SolverState

_OLD, _BACK = REMEMBERED = ("old_pred_original_sample", "timestep_back")
"""Arguments of a ``step`` that a pipeline keeps from the step before: x̂₀, and the time."""

_MEMORIES = ("lower_order_nums", "model_outputs", "timestep_list", "last_sample", "ets", "derivatives")
"""Where schedulers of diffusers keep what they remember of earlier steps."""

# (class, fingerprint) of the schedulers that have passed DiffusersSolver._check_known_answer in this process.
_PASSED: set[tuple[type, str]] = set()


def fingerprint(scheduler: Any) -> str:
    """A text of all that a scheduler's steps depend on: its class, its settings and its times."""
    sigmas = getattr(scheduler, "sigmas", None)
    numbers = [values.tolist() for values in (scheduler.timesteps, sigmas) if isinstance(values, Tensor)]
    return f"{type(scheduler).__module__}.{type(scheduler).__qualname__} {dict(scheduler.config)} {numbers}"


class _Point(Score):
    """The exact score when all data are one point c: x̂₀ = c at every x."""

    def __init__(self, point: Tensor) -> None:
        self.point = point

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        return Prediction(x, level, denoised=self.point)


@dataclass(frozen=True)
class SchedulerState(SolverState):
    """State of :class:`DiffusersSolver`.

    Attributes:
        scheduler: A copy of the scheduler for this run. Each step changes what the copy remembers.
        index: Index of the scheduler's next step.
        levels: The noise levels of all of the scheduler's evaluations, in order.
        first: Index of the step with which it began.
        reached: The state x as the last step left it, or None before the first step.
    """

    scheduler: Any = None
    index: int = 0
    levels: tuple[NoiseLevel, ...] = ()
    first: int = 0
    reached: Tensor | None = None

    @property
    def was_moved(self) -> bool:
        """Whether a sampler has changed x since the last step, so that what the scheduler remembers is of no use."""
        return self.reached is not None and self.x is not self.reached and not torch.equal(self.x, self.reached)


class DiffusersSolver(Solver):
    """A diffusers scheduler as the solver. It makes the outer steps and sets the noise levels.

    Args:
        scheduler: Any scheduler of diffusers with a ``step(model_output, timestep, sample)``. It is copied, and never
            changed. Its ``prediction_type`` says which model output its ``step`` expects. The model may predict
            something else: the prediction is converted.
        **timesteps: Further arguments of its ``set_timesteps``, such as ``mu`` for a flow with dynamic shifting.

    A stochastic scheduler draws its random numbers from the run's generator. If the noise source has no generator, a
    new generator is made, with a seed that the noise source draws.

    A scheduler that remembers earlier predictions begins anew, with a step of first order, where a sampler has changed
    x since its last step, by inner steps or known values: :mod:`lanpaint.solvers.multistep` says why.

    Raises:
        ValueError: For an object that is not a scheduler, and for one whose ``step`` takes something else.
    """

    def __init__(self, scheduler: Any, **timesteps: Any) -> None:
        self.check(scheduler)
        self.scheduler, self.timesteps = copy.deepcopy(scheduler), timesteps
        self._stages: dict[int, list[int]] = {}  # number of outer steps → stages of each

    @staticmethod
    def check(scheduler: Any) -> None:
        """Raise ValueError for what cannot be a solver."""
        name = type(scheduler).__name__
        if not callable(getattr(scheduler, "step", None)) or not callable(getattr(scheduler, "set_timesteps", None)):
            raise ValueError(f"{name} is no scheduler: it has no step() or no set_timesteps(); give one of diffusers'")
        wanted = [one for one in inspect.signature(scheduler.step).parameters if one not in REMEMBERED][:3]
        if wanted[-1:] != ["sample"]:
            raise ValueError(
                f"{name} is not supported: its step takes {', '.join(wanted)}, and not model_output, timestep, sample; "
                "exchange it (pipe.scheduler = …) for another of its kind, such as a DDIM scheduler"
            )

    def levels(self, steps: int) -> list[NoiseLevel]:
        """The noise level before each outer step, then the level of clean data.

        Raises:
            ValueError: When the scheduler's levels cannot be read, or its steps fail the check against a known answer.
        """
        try:
            scheduler = self._set(steps)
            count = len(evaluation_times(scheduler))
            starts = [index for index in range(count) if not is_inner(scheduler, index)]
            stages = self._stage_levels(scheduler)
            levels = [stages[index] for index in starts] + [NoiseLevel(1.0, 0.0)]
            ends = [*starts[1:], count]
            self._stages[len(starts)] = [end - start for start, end in zip(starts, ends, strict=True)]
            passed = type(scheduler), fingerprint(scheduler)
            if passed not in _PASSED:
                self._check_known_answer(levels, steps)
                _PASSED.add(passed)
        except (AttributeError, KeyError, TypeError) as error:
            name = type(self.scheduler).__name__
            raise ValueError(
                f"{name} cannot be used as a solver ({type(error).__name__}: {error}); give one of lanpaint.solvers"
            ) from error
        return levels

    def evaluations(self, levels: Sequence[NoiseLevel]) -> list[int]:
        """Evaluations in each outer step, one for each stage. The levels must come from :meth:`levels`."""
        return list(self._stages.get(len(levels) - 1, super().evaluations(levels)))

    def init(self, x: Tensor, steps: int) -> SchedulerState:
        """The state at the start: x, and a copy of the scheduler on which ``set_timesteps(steps)`` was called."""
        scheduler = self._fresh(steps, x.device)
        return SchedulerState(x, scheduler=scheduler, levels=self._stage_levels(scheduler))

    def _stage_levels(self, scheduler: Any) -> tuple[NoiseLevel, ...]:
        return tuple(stage_level(scheduler, index) for index in range(len(evaluation_times(scheduler))))

    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> SchedulerState:
        """All stages of the scheduler's next step."""
        assert isinstance(state, SchedulerState)
        scheduler, index, first_index, x = state.scheduler, state.index, state.first, state.x
        if not same_noise(level, state.levels[index]):  # the run begins later, or goes back to a noisier level
            index = first_index = self._index(state, level)
            begin(scheduler, index)
        elif remembers(scheduler) and state.was_moved:
            first_index = index
            begin(scheduler, index)
        options = {**self._random(scheduler, noise, x), **_order(scheduler, index - first_index, first_index)}
        first = None
        while True:
            here = level if first is None else state.levels[index]
            prediction = score.predict(x, here)
            first = first or prediction
            x = self._advance(scheduler, index, prediction, x, options)
            index += 1
            if index >= len(state.levels) or not is_inner(scheduler, index):
                return SchedulerState(x, first, scheduler, index, state.levels, first_index, x)

    def _advance(
        self, scheduler: Any, index: int, prediction: Prediction, x: Tensor, options: dict[str, Any]
    ) -> Tensor:
        """The state x after one call of the scheduler's ``step``."""
        output = output_of(scheduler, prediction)
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(x, scheduler.timesteps[index])  # some schedulers warn without this call
        if _parameter(type(scheduler), "prev_timestep") is not None and index + 1 < len(scheduler.timesteps):  # type: ignore[arg-type]
            options = {**options, "prev_timestep": scheduler.timesteps[index + 1]}
        return stepped(scheduler, index, output, x, options).to(x.dtype)

    @staticmethod
    def _index(state: SchedulerState, level: NoiseLevel) -> int:
        """Index of the scheduler's step that starts an outer step at ``level``."""
        for index, candidate in enumerate(state.levels):
            if not is_inner(state.scheduler, index) and same_noise(level, candidate):
                return index
        raise ValueError(f"{level} is not a level of this run's {type(state.scheduler).__name__}")

    def _check_known_answer(self, levels: list[NoiseLevel], steps: int) -> None:
        """Raise ValueError if the scheduler leaves a distribution that is known exactly.

        All data are one point c. Then the state at every level is α c + σ ε, and no step of any length may change
        that. The score is exact too. So a wrong state means that this adapter misread the scheduler: its levels, its
        coordinates, or the model output that it expects. The bounds leave room for schedulers that are a little too
        noisy.
        """
        point = torch.full((1, 1, 32, 32), 0.7)
        noise = NormalNoise(torch.Generator().manual_seed(0))
        level = levels[0]
        state: SolverState = self.init(level.perturb(point, noise(point)), steps)
        for level, next_level in itertools.pairwise(levels):
            state = self.step(state, _Point(point), level, next_level, noise)
            alpha, sigma = next_level.alpha.float(), next_level.sigma.float()
            error = (state.x - alpha * point).mean().abs() - 0.3 * sigma
            if not (error < 0.05 and 0.5 * sigma < state.x.std() < 2 * sigma + 0.05):
                raise ValueError(
                    f"{type(self.scheduler).__name__} fails a check with a known answer (all data are one point): its "
                    "coordinates, or the output that it expects, are not those of an ε, v, x₀ or flow model, or "
                    f"{len(levels) - 1} steps are too few for it; give a solver of lanpaint.solvers"
                )

    def _set(self, steps: int) -> Any:
        """A scheduler that has been set to ``steps``, for its levels to be read."""
        return self._fresh(steps)

    def _fresh(self, steps: int, device: torch.device | str = "cpu") -> Any:
        """A copy of the scheduler, set to ``steps`` and to its first step."""
        scheduler = copy.deepcopy(self.scheduler)
        scheduler.set_timesteps(steps, device=device, **self.timesteps)
        begin(scheduler, 0)
        return scheduler

    @staticmethod
    def _random(scheduler: Any, noise: NoiseSource, x: Tensor) -> dict[str, Any]:
        """The ``generator`` argument for the scheduler's ``step``; empty for a scheduler that takes none."""
        if _parameter(type(scheduler), "generator") is None:  # type: ignore[arg-type]
            return {}
        generator = getattr(noise, "generator", None)
        if generator is None:
            seed = int(noise(torch.zeros(1, dtype=torch.float64)).abs() * 2**40)
            generator = torch.Generator(x.device).manual_seed(seed)
        return {"generator": generator}


def stepped(scheduler: Any, index: int, output: Tensor, x: Tensor, options: dict[str, Any]) -> Tensor:
    """The state after one call of a scheduler's ``step``, with what it wants to be told of its earlier steps.

    Args:
        scheduler: A scheduler that has been set to its times.
        index: Number of the step.
        output: The model's output.
        x: The state before.
        options: Further arguments.
    """
    if is_pseudo_numerical(scheduler):
        _complete_history(scheduler, output)
    given = {"model_output": output, "timestep": time_for(scheduler, index, x), "sample": x}
    if _parameter(type(scheduler), _OLD) is None:  # type: ignore[arg-type]
        after: Tensor = scheduler.step(*given.values(), return_dict=False, **options)[0]
        return after
    old = vars(scheduler).get(_OLD)
    back = None if old is None else scheduler.timesteps[index - 1]
    told = {_OLD: old, _BACK: back}
    after, vars(scheduler)[_OLD] = scheduler.step(**given, **told, return_dict=False, **options)
    return after


def begin(scheduler: Any, index: int) -> None:
    """Have a scheduler go on at a step, with nothing to remember."""
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(index)
    vars(scheduler).pop(_OLD, None)
    for name in _MEMORIES:
        if (kept := vars(scheduler).get(name)) is not None:
            setattr(scheduler, name, _forgotten(kept, name))
    if is_pseudo_numerical(scheduler):  # it counts its calls
        scheduler.counter, scheduler.cur_model_output, scheduler.cur_sample = index, 0, None


def remembers(scheduler: Any) -> bool:
    """Whether a scheduler's step depends on what it was given in earlier steps."""
    return any(name in vars(scheduler) for name in (*_MEMORIES, _OLD))


def _forgotten(kept: Any, name: str) -> Any:
    """What a scheduler has in place of a memory before its first step."""
    if name == "lower_order_nums":
        return 0
    return [None] * len(kept) if name in ("model_outputs", "timestep_list") else [] if isinstance(kept, list) else None


def _complete_history(scheduler: Any, output: Tensor) -> None:
    """Put what a pseudo numerical method would remember by now in its place, where it has begun at a later step.

    Equal outputs make its step Euler's.
    """
    number, first = scheduler.counter, len(scheduler.prk_timesteps)
    due = 0 if number < max(first, 2) else 3 if first else min(number - 1, 3)
    history = scheduler.ets
    scheduler.ets = [*history[:1] * (due - len(history)), *history] if history else [output] * due


def _order(scheduler: Any, made: int, first: int) -> dict[str, int]:
    """The ``order`` argument for the step of a scheduler that would count steps that were left out as history (LMS)."""
    order = _parameter(type(scheduler), "order") if first else None  # type: ignore[arg-type]
    return {} if order is None else {"order": min(order.default, made + 1)}


@functools.cache
def _parameter(kind: Any, name: str) -> inspect.Parameter | None:
    """A parameter of the ``step`` of a class of schedulers, if it has one of that name."""
    return inspect.signature(kind.step).parameters.get(name)


def same_noise(level: NoiseLevel, other: NoiseLevel) -> bool:
    """Whether two levels have the same α and the same σ, up to float32 rounding."""
    if level.alpha.numel() == other.alpha.numel() == 1:
        pairs = zip(level.numbers, other.numbers, strict=True)
        return all(math.isclose(one, two, rel_tol=1e-6, abs_tol=1e-12) for one, two in pairs)
    return bool(
        torch.allclose(level.alpha, other.alpha, rtol=1e-6, atol=1e-12)
        and torch.allclose(level.sigma, other.sigma, rtol=1e-6, atol=1e-12)
    )

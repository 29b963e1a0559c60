"""Any scheduler of diffusers as a solver.

The outer step is the scheduler's own, and so are the levels, in the scheduler's own coordinates. A step of several
stages (Heun, KDPM2, single-step DPM-Solver) is one outer step here, with as many evaluations.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score
from lanpaint.solvers.base import Solver, SolverState


def level_of(scheduler: Any, index: int) -> NoiseLevel:
    """The level of a scheduler's sample before the step ``index``, after its ``set_timesteps``.

    Raises:
        ValueError: For a scheduler from which it cannot be read.
    """
    name = type(scheduler).__name__
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None and len(sigmas) == len(scheduler.timesteps) + 1:
        sigma = torch.as_tensor(sigmas[index]).double().cpu()
        if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):  # the DPM-Solver family: VP or flow by its settings
            alpha, sigma = scheduler._sigma_to_alpha_sigma_t(sigma)
            return NoiseLevel(alpha, sigma)
        if name.startswith("FlowMatch"):
            return NoiseLevel(1 - sigma, sigma)
        return NoiseLevel(torch.ones_like(sigma), sigma)
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if alphas is None:
        raise ValueError(f"{name} has neither sigmas nor alphas_cumprod: its noise levels cannot be read")
    alpha = alphas[int(scheduler.timesteps[index])].double().cpu()
    return NoiseLevel(alpha.sqrt(), (1 - alpha).sqrt())


@dataclass(frozen=True)
class SchedulerState(SolverState):
    """State of :class:`DiffusersSolver`.

    Attributes:
        scheduler: The run's own copy of the scheduler; what it remembers changes with each step.
        index: The number of the scheduler's next step.
    """

    scheduler: Any = None
    index: int = 0


class DiffusersSolver(Solver):
    """A diffusers scheduler as the outer step, with its own levels.

    Args:
        scheduler: Any scheduler of diffusers with a ``step(model_output, timestep, sample)``. It is copied, and never
            changed. Its ``prediction_type`` says what it wants to be given, not what the model predicts.
        **timesteps: Further arguments of its ``set_timesteps``, such as ``mu`` for a flow with dynamic shifting.

    Random numbers of stochastic schedulers come from the run's generator, or from one that is seeded by the noise
    source when it has none.

    Raises:
        ValueError: For a scheduler that has no levels, or that changes its times within a step (PNDM).
    """

    def __init__(self, scheduler: Any, **timesteps: Any) -> None:
        name = type(scheduler).__name__
        if not callable(getattr(scheduler, "step", None)) or not callable(getattr(scheduler, "set_timesteps", None)):
            raise ValueError(f"{name} is no scheduler: it has no step() and set_timesteps()")
        if name == "PNDMScheduler":
            raise ValueError(
                "PNDMScheduler evaluates its first steps at times of its own, with states in between that are not "
                "samples of any level; use DPMSolverMultistepScheduler.from_config(scheduler.config)"
            )
        self.scheduler, self.timesteps = copy.deepcopy(scheduler), timesteps

    def levels(self, steps: int) -> list[NoiseLevel]:
        """The levels before each outer step, and clean data."""
        scheduler = self._fresh(steps)
        starts = [index for index in range(len(scheduler.timesteps)) if not _is_inner(scheduler, index)]
        return [level_of(scheduler, index) for index in starts] + [NoiseLevel(1.0, 0.0)]

    def init(self, x: Tensor, steps: int) -> SchedulerState:
        """With a copy of the scheduler, set to ``steps``."""
        return SchedulerState(x, scheduler=self._fresh(steps, x.device))

    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> SchedulerState:
        """All stages of the scheduler's next step."""
        assert isinstance(state, SchedulerState)
        scheduler, index, x = state.scheduler, state.index, state.x
        options = self._random(scheduler, noise, x)
        first = None
        while True:
            here = level if first is None else self._stage_level(scheduler, index)
            prediction = score.predict(x, here)
            first = first or prediction
            output = _output(scheduler, prediction)
            x = scheduler.step(output, scheduler.timesteps[index], x, return_dict=False, **options)[0].to(x.dtype)
            index += 1
            if index >= len(scheduler.timesteps) or not _is_inner(scheduler, index):
                return SchedulerState(x, first, scheduler, index)

    def _fresh(self, steps: int, device: torch.device | str = "cpu") -> Any:
        scheduler = copy.deepcopy(self.scheduler)
        scheduler.set_timesteps(steps, device=device, **self.timesteps)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)
        return scheduler

    @staticmethod
    def _stage_level(scheduler: Any, index: int) -> NoiseLevel:
        between = getattr(scheduler, "sigmas_interpol", None)
        if between is None:
            return level_of(scheduler, index)
        sigma = torch.as_tensor(between[index]).double().cpu()
        return NoiseLevel(torch.ones_like(sigma), sigma)

    @staticmethod
    def _random(scheduler: Any, noise: NoiseSource, x: Tensor) -> dict[str, Any]:
        if "generator" not in inspect.signature(scheduler.step).parameters:
            return {}
        generator = getattr(noise, "generator", None)
        if generator is None:
            seed = int(noise(torch.zeros(1, dtype=torch.float64)).abs() * 2**40)
            generator = torch.Generator(x.device).manual_seed(seed)
        return {"generator": generator}


def _is_inner(scheduler: Any, index: int) -> bool:
    """Whether the step ``index`` continues the one before, from a state that is not a sample of its level."""
    orders = getattr(scheduler, "order_list", None)  # single-step DPM-Solver: 1, 2, 3, 1, 2, 3, …
    if orders is not None:
        return bool(orders[index] > 1)
    return scheduler.order == 2 and index % 2 == 1 and len(scheduler.timesteps) % 2 == 1


def _output(scheduler: Any, prediction: Prediction) -> Tensor:
    """The model output that the scheduler expects, of an evaluation in the scheduler's coordinates."""
    if type(scheduler).__name__.startswith("FlowMatch"):
        return prediction.flow
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return prediction.epsilon
    if kind in ("sample", "original_sample"):
        return prediction.denoised
    if kind == "flow_prediction":
        return prediction.flow
    if kind == "v_prediction":  # in variance-preserving coordinates, whatever those of the sample
        level = prediction.level
        norm = (level.alpha**2 + level.sigma**2).sqrt()
        return (level.alpha * prediction.epsilon - level.sigma * prediction.denoised) / norm
    raise ValueError(f"{type(scheduler).__name__} wants prediction_type {kind!r}, which is not known here")

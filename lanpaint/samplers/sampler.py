"""The base class of all samplers: five functions of one immutable state, called by :mod:`lanpaint.samplers.loop`.

A new sampler overrides the functions in which it differs from the base class, and declares its evaluations in its plan.
Whatever it remembers from one function to the next goes into ``memory`` of the state.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lanpaint.callbacks import Callback, FiniteCheck, ProgressBar
from lanpaint.checks import shown
from lanpaint.dynamics import State
from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Plan, Visit
from lanpaint.randomness import Generators, NoiseSource, NormalNoise, checked_noise
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.loop import run
from lanpaint.samplers.posterior_flow import PosteriorFlow
from lanpaint.schedules import VP, Schedule
from lanpaint.score import Score, as_score
from lanpaint.solvers import Euler, Solver, SolverState
from lanpaint.spacings import Spacing, as_spacing

Part = TypeVar("Part", State, SolverState)
TakesNoise = bool | Literal["one number"]
_NOWHERE = torch.empty(0)


def without_x(part: Part) -> Part:
    """The state of a solver or dynamics, without x and the last prediction: the :class:`SamplerState` holds both."""
    empty: dict[str, Any] = {"x": _NOWHERE}
    if isinstance(part, SolverState):
        empty["prediction"] = None
    return replace(part, **empty)


@dataclass(frozen=True)
class Memory:
    """What a sampler remembers between two steps. Samplers that remember more extend this class.

    Attributes:
        solver: State of the solver, without x and the last prediction.
    """

    solver: SolverState


class Sampler(nn.Module):
    """Unconditional sampling, and the base of every conditional sampler.

    Args:
        score: The model: a :class:`~lanpaint.score.Score` or a function ``score(x, level)``.
        steps: Outer steps S ≥ 1.
        solver: The solver that makes the outer steps; :class:`Euler` by default, as in the paper. A diffusers solver
            chooses the levels too.
        schedule: Noise schedule; by default the schedule of the model if it has one, else the linear VP schedule of
            the paper's benchmarks.
        spacing: Which levels of the schedule to visit: ``"paper"`` (uniform in time, the default), ``"logsnr"``,
            ``"karras"``, or a function of (schedule, steps).
        levels: S + 1 noise levels, instead of schedule and spacing. σ/α must never rise, and the last level must be
            clean (α = 1, σ = 0). A level has shape () for the whole batch, or a shape that broadcasts to the samples'.
        plan: A :class:`~lanpaint.Plan` instead of steps, schedule, spacing and levels. It has the levels, the inner
            steps at each level, and the order of visits.
        callbacks: See :mod:`lanpaint.callbacks`.
        progress: Show a progress bar.

    Attributes:
        plan: The :class:`~lanpaint.Plan` of every run, with the evaluations that this sampler declares.
        takes_noise: Whether the sampler conditions on a measurement with noise. If not, it conditions on exact values.
            ``"one number"`` if the noise must be the same for all known entries.

    Raises:
        TypeError: When ``score`` is neither a Score nor a function, and when a solver, schedule, plan or callback is
            not an instance of its class.
        ValueError: When levels are given in more than one way; for a number of steps below 1, an unknown spacing,
            levels that rise or do not end clean; and when the first level has no signal (α = 0) and the score does not
            determine x̂₀ there.

    Warns:
        UserWarning: When a level lies outside of the schedule that the model was made for.
    """

    remedy: str = "the score is not finite there; check the model, its dtype and the levels"
    takes_noise: TakesNoise = False

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        steps: int = 20,
        solver: Solver | None = None,
        schedule: Schedule | None = None,
        spacing: str | Spacing | None = None,
        levels: Sequence[NoiseLevel] | None = None,
        plan: Plan | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = False,
    ) -> None:
        super().__init__()
        self.score: Score = as_score(score)
        self.solver = Euler() if solver is None else solver
        parts = (("solver", self.solver, Solver), ("schedule", schedule, Schedule), ("plan", plan, Plan))
        for name, part, kind in parts:
            if part is not None and not isinstance(part, kind):
                raise TypeError(f"{name} must be an instance of {kind.__name__}, got {shown(part)}")
        solvers = self.solver.levels(steps)
        sources = {
            "levels": levels,
            "plan": plan,
            "schedule or spacing": spacing if schedule is None else schedule,
            "the solver's own levels": solvers,
        }
        used = [source for source, value in sources.items() if value is not None]
        if len(used) > 1:
            raise ValueError(f"levels come from one place, got {' and '.join(used)}; leave all but one out")
        if not used or schedule is not None or spacing is not None:
            levels = as_spacing("paper" if spacing is None else spacing)(
                schedule or self.score.schedule or VP.linear(), steps
            )
        plan = plan or Plan(solvers if solvers is not None else levels if levels is not None else [])
        self._solver_steps = plan.steps if solvers is None else steps
        _check_levels_for(self.score, plan.levels)
        self.plan: Plan = replace(plan, outer_evaluations=self.solver.evaluations(plan.levels))
        if not isinstance(callbacks, Sequence):
            raise TypeError(f"callbacks must be a list of Callback instances, got {shown(callbacks)}")
        self.callbacks: list[Callback] = [FiniteCheck(), *callbacks, *([ProgressBar()] if progress else [])]
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must be Callback instances, got {shown(callback)}")

    @property
    def steps(self) -> int:
        """Number of outer steps S."""
        return self.plan.steps

    @property
    def levels(self) -> list[NoiseLevel]:
        """The S + 1 noise levels of the plan."""
        return list(self.plan.levels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.score!r}, steps={self.steps})"

    # The five functions that the loop calls

    def begin(self, observation: Observation, noise: NoiseSource, start: Tensor | None) -> SamplerState:
        """The state at the first level: ``start``, or drawn from N(0, α² + σ²); known entries that are clean there."""
        observation = observation.draw(noise)
        step = observation.first_step(self.steps)
        level = self.plan.levels[step]
        x = self._start(level, observation, noise, start)
        return SamplerState(x, level, observation, memory=self.remember(x), step=step)

    def enter(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The state at the level of the visit: unchanged, or diffused forward to that level in time travel."""
        if state.level is visit.level:
            return state
        x = renoise(state.x, state.level, visit.level, noise(state.x))
        memory = replace(state.memory, solver=self.remember(x).solver)
        return replace(state, x=x, level=visit.level, memory=memory)

    def refine(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The state after one inner step at the level of the visit."""
        raise NotImplementedError(f"{type(self).__name__} has inner steps but no refine()")

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The state after the outer step to the next level, which the solver makes."""
        begun, observation = replace(state.memory.solver, x=state.x), state.observation
        measured = observation.is_noisy and observation.draws is not None
        score = PosteriorFlow(self.score, observation) if measured else self.score
        return self.advanced(state, self.solver.step(begun, score, visit.level, visit.next_level, noise), visit)

    def finish(self, state: SamplerState, noise: NoiseSource) -> SamplerState:
        """The state with the samples: known entries are set to the observation."""
        return replace(state, x=state.observation.finish(state.x))

    # What the five functions share

    def remember(self, x: Tensor) -> Memory:
        """The memory at the start of a run, or after time travel."""
        begun = self.solver.init(x, self._solver_steps)
        if not isinstance(begun, SolverState):
            raise TypeError(f"a solver's init must return a SolverState, got {type(begun).__name__}")
        return Memory(without_x(begun))

    @staticmethod
    def advanced(state: SamplerState, solved: SolverState, visit: Visit) -> SamplerState:
        """The state at the next level, from the state of the solver after its step.

        Raises:
            TypeError: When the solver's step returned no SolverState.
        """
        if not isinstance(solved, SolverState):
            raise TypeError(f"a solver's step must return a SolverState, got {type(solved).__name__}")
        check_same_kind("a solver's step", solved.x, state.x)
        memory = replace(state.memory, solver=without_x(solved))
        return replace(state, x=solved.x, level=visit.next_level, prediction=solved.prediction, memory=memory)

    @staticmethod
    def _start(level: NoiseLevel, observation: Observation, noise: NoiseSource, start: Tensor | None) -> Tensor:
        values, level = observation.values, level.to(observation.values)
        x = (level.alpha**2 + level.sigma**2).sqrt() * noise(values) if start is None else _checked(start, values)
        if level.alpha.numel() == 1:
            return x
        clean = observation.exact & (level.sigma == 0)  # the model sees these values at every level
        return torch.where(clean, level.alpha * values, x)

    # Running

    def __call__(
        self,
        observation: Observation | Sequence[int],
        *,
        generator: Generators = None,
        start: Tensor | None = None,
        noise: NoiseSource | None = None,
    ) -> Tensor:
        """Draw samples.

        Args:
            observation: The known part, an :class:`~lanpaint.Observation`. If nothing is known, the shape (B, …) of the
                samples, which are then float32 on the CPU. For another dtype or device, or a model on a GPU, use
                :meth:`Observation.none`.
            generator: One generator, or a sequence of generators, one per sample.
            start: State at the first level, shape (B, …); by default drawn from N(0, α² + σ²).
            noise: A source of standard normal numbers, instead of a generator.

        Returns:
            Samples of shape (B, …) in the observation's dtype, at least float32. Known entries are bit for bit equal to
            the observation; if the observation has noise, they are drawn from it.

        Raises:
            DivergenceError: As soon as the state is not finite, or ten thousand times too large.
            TypeError: For an ``observation`` that is neither an Observation nor a shape, a ``generator`` that is no
                generator, a ``start`` that is no tensor, and a ``noise`` that is no function.
            ValueError: When ``start``, the generators or the levels do not fit the observation, and when both
                ``generator`` and ``noise`` are given.
        """
        sampler = self._fitted(observation)
        steps = run(sampler, *sampler._prepare(observation, generator, start, noise))
        with torch.no_grad():
            while True:  # a for loop would keep the last state alive during the next step
                try:
                    next(steps)
                except StopIteration as end:
                    x: Tensor = end.value
                    return x

    def iterate(
        self,
        observation: Observation | Sequence[int],
        *,
        generator: Generators = None,
        start: Tensor | None = None,
        noise: NoiseSource | None = None,
    ) -> Generator[SamplerState, None, Tensor]:
        """Step by hand: yield a :class:`~lanpaint.SamplerState` when a level is entered and after every step.

        It takes the arguments of :meth:`__call__` and raises the same errors. ``x`` of the last state is the result,
        which the generator also returns.

        Example:
            >>> import torch, lanpaint as lp
            >>> from lanpaint_toys import Gaussian
            >>> target = Gaussian(mean=[0.0, 0.0], cov=[[1.0, 0.8], [0.8, 1.0]])
            >>> observation = lp.Observation(torch.ones(4, 2), known=torch.tensor([False, True]))
            >>> for state in lp.LanPaint(target.score, steps=2, inner_steps=1).iterate(observation):
            ...     print(state.kind, state.step, tuple(state.x.shape))
            start 0 (4, 2)
            inner 0 (4, 2)
            outer 0 (4, 2)
            start 1 (4, 2)
            inner 1 (4, 2)
            outer 1 (4, 2)
        """
        sampler = self._fitted(observation)
        return torch.no_grad()(run)(sampler, *sampler._prepare(observation, generator, start, noise))

    def _fitted(self, observation: Observation | Sequence[int]) -> Sampler:
        return self.fitted(observation) if isinstance(observation, Observation) else self

    def fitted(self, observation: Observation) -> Sampler:
        """The sampler that runs for an observation: this one, unless a subclass adapts its plan to what is known."""
        return self

    def _prepare(
        self,
        observation: Observation | Sequence[int],
        generator: Generators,
        start: Tensor | None,
        noise: NoiseSource | None,
    ) -> tuple[SamplerState, NoiseSource]:
        """The first state and the source of noise, from the arguments of a call."""
        if not isinstance(observation, Observation):
            if isinstance(observation, (Tensor, str)) or not isinstance(observation, Sequence):
                raise TypeError(
                    "observation must be an Observation(values, known), or the shape (B, …) of the samples, "
                    f"got {type(observation).__name__}"
                )
            observation = Observation.none(observation)
        if noise is not None and generator is not None:
            raise ValueError("give generator or noise, not both")
        noise = NormalNoise(generator) if noise is None else checked_noise(noise)
        if observation.is_noisy and not self.takes_noise:
            raise ValueError(
                f"{type(self).__name__} conditions on exact values and takes no noise of a measurement "
                f"(noise={observation.noise_in_words}); use LanPaint, "
                "or values that are drawn: Observation(…, jitter=…)"
            )
        if observation.noise.ndim and self.takes_noise == "one number":
            raise ValueError(
                f"{type(self).__name__} takes one noise for all known entries, got {observation.noise_in_words}; "
                "use LanPaint, or give the noise of the measurement as a number"
            )
        for level in self.plan.levels:
            _check_fit(level, observation)
        return self.begin(observation, noise, start), noise


def _checked(start: object, values: Tensor) -> Tensor:
    """The given first state, in the dtype and on the device of the samples."""
    if (
        not isinstance(start, Tensor)
        or start.is_complex()
        or start.layout is not torch.strided
        or start.is_meta
        or start.is_quantized
    ):
        what = type(start).__name__ if not isinstance(start, Tensor) else f"{start.dtype}, {start.layout}"
        raise TypeError(f"start must be a dense tensor of real numbers, got {what}")
    if start.shape != values.shape:
        raise ValueError(f"start must have the samples' shape {tuple(values.shape)}, got {tuple(start.shape)}")
    if not bool(torch.isfinite(start).all()):
        raise ValueError("start has entries that are NaN or infinite")
    return start.to(values)


def check_same_kind(what: str, x: Tensor, before: Tensor) -> None:
    """Raise unless ``what`` gave an x of the shape, dtype and device that the state had ``before``.

    Raises:
        TypeError: For an x that is no tensor.
        ValueError: For an x of another shape, dtype or device.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{what} must give a state whose x is a tensor, got {type(x).__name__}")
    if x.shape != before.shape or x.dtype != before.dtype or x.device != before.device:
        raise ValueError(
            f"{what} must keep the shape, dtype and device of x, {tuple(before.shape)}, {before.dtype}, "
            f"{before.device}; got {tuple(x.shape)}, {x.dtype}, {x.device}"
        )


def renoise(x: Tensor, level: NoiseLevel, noisier: NoiseLevel, noise: Tensor) -> Tensor:
    """Forward diffusion from (α', σ') = ``level`` to (α, σ) = ``noisier``: (α/α') x + √(σ² − (α/α')² σ'²) ε.

    ``noise`` is ε, standard normal, shape of x. Where ``level`` has no signal (α' = 0), the result is σ ε.
    """
    ratio = noisier.alpha * reciprocal(level.alpha)
    added = (noisier.sigma**2 - (ratio * level.sigma) ** 2).clamp(min=0).sqrt()
    return cast_like(ratio, x) * x + cast_like(added, x) * noise


def refuse_solver(sampler: str, options: dict[str, Any]) -> None:
    """Raise ValueError if a solver is among the options of a sampler that makes its outer steps itself."""
    if options.get("solver") is not None:
        raise ValueError(f"{sampler} makes its own outer steps and takes no solver; leave solver out")


def _check_levels_for(score: Score, levels: Sequence[NoiseLevel]) -> None:
    """Raise ValueError if the score needs signal and the first level has none; warn of levels outside its schedule."""
    if score.needs_signal and bool((levels[0].alpha == 0).any()):
        raise ValueError(
            "the first level has α = 0, where a score (or ε) does not determine x̂₀; start just below: "
            "spacing 'logsnr' (--levels logsnr), Flow(first_time=0.999), or levels of your own"
        )
    if score.schedule is not None:
        outside = sum(not score.schedule.covers(level) for level in levels[:-1])
        if outside:
            warnings.warn(
                f"{outside} of {len(levels) - 1} levels lie outside the schedule that the model was made for; "
                "a network is evaluated at the nearest level inside",
                stacklevel=4,
            )


def _check_fit(level: NoiseLevel, observation: Observation) -> None:
    """Raise ValueError for a level that does not broadcast to the samples."""
    try:
        fits = np.broadcast_shapes(level.shape, observation.shape) == observation.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"a level of shape {tuple(level.shape)} does not broadcast to samples of shape "
            f"{tuple(observation.shape)}; one level per sample: level.per_sample({len(observation.shape)})"
        )

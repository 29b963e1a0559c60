"""The base of all samplers: five functions of one immutable state, which :mod:`lanpaint.samplers.loop` calls in turn.

A sampler that is written anew overrides those of the five in which it differs, and declares its evaluations in its
plan. Whatever it remembers between two of them goes into the state's ``memory``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lanpaint.callbacks import Callback, FiniteCheck, ProgressBar
from lanpaint.dynamics import State
from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.plan import Plan, Visit
from lanpaint.randomness import Generators, NoiseSource, NormalNoise
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.loop import run
from lanpaint.schedules import VP, Schedule
from lanpaint.score import Score, as_score
from lanpaint.solvers import Euler, Solver, SolverState
from lanpaint.spacings import Spacing, as_spacing

Part = TypeVar("Part", State, SolverState)
_NOWHERE = torch.empty(0)


def without_x(part: Part) -> Part:
    """The state of a solver or a dynamics without x and without the last prediction: the sampler's state holds both."""
    empty: dict[str, Any] = {"x": _NOWHERE}
    if isinstance(part, SolverState):
        empty["prediction"] = None
    return replace(part, **empty)


@dataclass(frozen=True)
class Memory:
    """What a sampler remembers between two steps; samplers that remember more extend it.

    Attributes:
        solver: State of the solver, without x and the last prediction.
    """

    solver: SolverState


class Sampler(nn.Module):
    """Unconditional sampling, and the base of every conditional sampler.

    Args:
        score: The model: a :class:`~lanpaint.score.Score` or a function ``score(x, level)``.
        steps: Outer steps S ≥ 1.
        solver: Outer step; Euler by default, as in the paper. One of diffusers brings its own levels.
        schedule: Noise schedule; by default the model's own, else the linear VP schedule of the paper's benchmarks.
        spacing: Which of its levels to visit: ``"paper"`` (uniform in time, the default), ``"logsnr"``, ``"karras"``,
            or a function of (schedule, steps).
        levels: The levels themselves instead of schedule and spacing: of σ/α that never rises, the last one clean
            (α = 1, σ = 0). Each of shape () for the batch, or any that broadcasts to the samples'.
        plan: A :class:`~lanpaint.Plan` instead of all these: levels, inner steps at each of them, and the order of
            visits.
        callbacks: See :mod:`lanpaint.callbacks`.
        progress: Show a progress bar.

    Attributes:
        plan: The :class:`~lanpaint.Plan` of every run, with the evaluations that this sampler declares.

    Raises:
        TypeError: When ``score`` is neither, and for other parts that are not what they should be.
        ValueError: For levels that are given twice over, a number of steps below 1, an unknown spacing, levels that
            rise or do not end clean, and a first level without signal (α = 0) for a score that then does not determine
            x̂₀.

    Warns:
        UserWarning: When a level lies outside of what the model's own schedule covers.
    """

    remedy: str = "the score itself is not finite there; check the model, its dtype and the levels"

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
        self.solver = solver or Euler()
        parts = (("solver", self.solver, Solver), ("schedule", schedule, Schedule), ("plan", plan, Plan))
        for name, part, kind in parts:
            if part is not None and not isinstance(part, kind):
                raise TypeError(f"{name} must be a {kind.__name__}, an instance, got {part!r:.60}")
        solvers = self.solver.levels(steps)
        sources = {
            "levels": levels,
            "plan": plan,
            "schedule or spacing": schedule or spacing,
            "the solver's own levels": solvers,
        }
        given = [source for source, value in sources.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"levels come from one place, got {' and '.join(given)}; leave all but one out")
        if not given or schedule is not None or spacing is not None:
            levels = as_spacing(spacing or "paper")(schedule or self.score.schedule or VP.linear(), steps)
        plan = plan or Plan(solvers or levels or [])
        self._solver_steps = plan.steps if solvers is None else steps
        _check_levels_for(self.score, plan.levels)
        self.plan: Plan = replace(plan, outer_evaluations=self.solver.evaluations(plan.levels))
        self.callbacks: list[Callback] = [FiniteCheck(), *callbacks, *([ProgressBar()] if progress else [])]
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must be Callback instances, got {callback!r:.60}")

    @property
    def steps(self) -> int:
        """Number of outer steps S."""
        return self.plan.steps

    @property
    def levels(self) -> list[NoiseLevel]:
        """The noise levels of the plan, S + 1 of them."""
        return list(self.plan.levels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.score!r}, steps={self.steps})"

    # The five functions that the loop calls

    def begin(self, observation: Observation, noise: NoiseSource, start: Tensor | None) -> SamplerState:
        """The state at the first level, from ``start`` or drawn from N(0, α² + σ²)."""
        observation = observation.draw(noise)
        x = self._start(self.plan.levels[0], observation.values, noise, start)
        return SamplerState(x, self.plan.levels[0], observation, memory=self.remember(x))

    def enter(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The state as a level is entered: unchanged, or diffused forward to it in time travel."""
        if state.level is visit.level:
            return state
        x = renoise(state.x, state.level, visit.level, noise(state.x))
        memory = replace(state.memory, solver=self.remember(x).solver)
        return replace(state, x=x, level=visit.level, memory=memory)

    def refine(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """One inner step at the level of the visit."""
        raise NotImplementedError(f"{type(self).__name__} has inner steps but no refine()")

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The outer step to the next level: that of the solver."""
        begun = replace(state.memory.solver, x=state.x)
        return self.advanced(state, self.solver.step(begun, self.score, visit.level, visit.next_level, noise), visit)

    def finish(self, state: SamplerState, noise: NoiseSource) -> SamplerState:
        """The samples: known entries are set to the observation."""
        return replace(state, x=state.observation.finish(state.x))

    # What they share

    def remember(self, x: Tensor) -> Memory:
        """The memory at the start of a run, or after time travel."""
        return Memory(without_x(self.solver.init(x, self._solver_steps)))

    @staticmethod
    def advanced(state: SamplerState, solved: SolverState, visit: Visit) -> SamplerState:
        """The state at the next level, from that of the solver after its step."""
        if not isinstance(solved, SolverState):
            raise TypeError(f"a solver's step must return a SolverState, got {type(solved).__name__}")
        memory = replace(state.memory, solver=without_x(solved))
        return replace(state, x=solved.x, level=visit.next_level, prediction=solved.prediction, memory=memory)

    @staticmethod
    def _start(level: NoiseLevel, values: Tensor, noise: NoiseSource, start: Tensor | None) -> Tensor:
        level = level.to(values)
        if start is None:
            return (level.alpha**2 + level.sigma**2).sqrt() * noise(values)
        if start.shape != values.shape:
            raise ValueError(f"start must have the samples' shape {tuple(values.shape)}, got {tuple(start.shape)}")
        if not bool(torch.isfinite(start).all()):
            raise ValueError("start has entries that are NaN or infinite")
        return start.to(values)

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
            observation: What is known, or the shape (B, …) of the samples when nothing is: they are then float32 on the
                CPU, else see :meth:`Observation.none`. A GPU's model needs an observation there.
            generator: One generator, or a sequence of one per sample.
            start: State at the first level, shape (B, …); by default drawn from N(0, α² + σ²).
            noise: Instead of a generator, any source of standard normal numbers.

        Returns:
            Samples of shape (B, …) in the observation's dtype, float32 at least. Known entries are bit for bit those
            of the observation, or those drawn from it where it has noise.

        Raises:
            DivergenceError: As soon as the state is not finite, or ten thousand times too large.
            TypeError: For a ``generator`` that is none.
            ValueError: When ``start``, the generators or the levels do not fit the observation.
        """
        steps = run(self, *self._prepare(observation, generator, start, noise))
        with torch.no_grad():
            while True:  # rather than a loop over states, whose variable would hold the last one beside the next
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
        """Step by hand: the loop, one :class:`~lanpaint.SamplerState` after every inner and outer step.

        Takes the arguments of a call. The ``x`` of the last state is the result, and the generator's value.

        Example:
            >>> import torch, lanpaint as lp
            >>> from toy_models import Gaussian
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
        return torch.no_grad()(run)(self, *self._prepare(observation, generator, start, noise))

    def _prepare(
        self,
        observation: Observation | Sequence[int],
        generator: Generators,
        start: Tensor | None,
        noise: NoiseSource | None,
    ) -> tuple[SamplerState, NoiseSource]:
        """The first state and the source of noise, from the arguments of a call."""
        if not isinstance(observation, Observation):
            if isinstance(observation, Tensor) or not isinstance(observation, Sequence):
                raise TypeError(
                    "give an Observation(values, known), or the shape (B, …) of the samples, "
                    f"got {type(observation).__name__}"
                )
            observation = Observation.none(observation)
        if noise is not None and generator is not None:
            raise ValueError("give generator or noise, not both")
        noise = noise or NormalNoise(generator)
        for level in self.plan.levels:
            _check_fit(level, observation)
        return self.begin(observation, noise, start), noise


def renoise(x: Tensor, level: NoiseLevel, noisier: NoiseLevel, noise: Tensor) -> Tensor:
    """Forward diffusion from (α', σ') = ``level`` to (α, σ) = ``noisier``: (α/α') x + √(σ² − (α/α')² σ'²) ε.

    ``noise`` is ε, standard normal of x's shape. Without signal at ``level`` there is none to keep, and σ ε is drawn.
    """
    ratio = noisier.alpha * reciprocal(level.alpha)
    added = (noisier.sigma**2 - (ratio * level.sigma) ** 2).clamp(min=0).sqrt()
    return cast_like(ratio, x) * x + cast_like(added, x) * noise


def refuse_solver(sampler: str, options: dict[str, Any]) -> None:
    """Raise ValueError when the options of a sampler that is its own solver name another."""
    if options.get("solver") is not None:
        raise ValueError(f"{sampler} makes its own outer steps and takes no solver; leave solver out")


def _check_levels_for(score: Score, levels: Sequence[NoiseLevel]) -> None:
    """Raise ValueError for a first level at which the score says nothing; warn of levels that it was not made for."""
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
                "a network is asked at the nearest level inside",
                stacklevel=4,
            )


def _check_fit(level: NoiseLevel, observation: Observation) -> None:
    """Raise ValueError for a level that does not broadcast to the samples."""
    try:
        fits = torch.broadcast_shapes(level.shape, observation.shape) == observation.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"a level of shape {tuple(level.shape)} does not broadcast to samples of shape "
            f"{tuple(observation.shape)}; one level per sample: level.per_sample({len(observation.shape)})"
        )

"""Samplers whose inner steps are steps of a dynamics: LanPaint and LangevinPaint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from torch import Tensor

from lanpaint.checks import check_whole, shown
from lanpaint.drift import Drift
from lanpaint.dynamics import Dynamics, State
from lanpaint.noise import NoiseLevel
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.replace import Replace
from lanpaint.samplers.sampler import Memory, TakesNoise, check_same_kind, without_x
from lanpaint.score import Score


def check_step_size(step_size: float) -> None:
    """Raise TypeError or ValueError unless η is a positive finite number."""
    if isinstance(step_size, bool) or not isinstance(step_size, Real):
        raise TypeError(f"step_size (η) must be a number, got {step_size!r}")
    if not 0 < step_size < float("inf"):
        raise ValueError(f"step_size (η) must be a positive finite number, got {step_size}")


@dataclass(frozen=True)
class LangevinMemory(Memory):
    """What a sampler with a dynamics remembers between two steps.

    Attributes:
        solver: State of the solver, without x.
        dynamics: State of the dynamics, without x; None before the first level with inner steps.
        drift: The drift that the inner steps of the present level follow; None after the outer step.
    """

    dynamics: State | None = None
    drift: Drift | None = None


class LangevinSampler(Replace):
    """:class:`Replace` with inner steps of a dynamics at each level. Subclasses define :meth:`drift`.

    Args:
        score: The model, as in :class:`Sampler`.
        dynamics: The dynamics of the inner steps.
        inner_steps: N ≥ 0 for all levels; or S numbers, one for each level; or a function of the S + 1
            levels of the plan that returns S numbers.
        **options: Options of :class:`Sampler`.

    Raises:
        TypeError: For a ``dynamics`` that is no :class:`~lanpaint.Dynamics`, and as :class:`Sampler`.
        ValueError: For N < 0, a sequence that has not S numbers, and as :class:`Sampler`.
    """

    takes_noise: TakesNoise = True

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        *,
        dynamics: Dynamics,
        inner_steps: int | Sequence[int] | Callable[[Sequence[NoiseLevel]], Sequence[int]],
        **options: Any,
    ) -> None:
        if not isinstance(dynamics, Dynamics):
            raise TypeError(f"dynamics must be an instance of Dynamics such as Langevin(), got {shown(dynamics)}")
        super().__init__(score, **options)
        self.dynamics = dynamics
        if not callable(inner_steps) and not isinstance(inner_steps, Sequence):
            check_whole("inner_steps", inner_steps, least=0)
        numbers = inner_steps(self.plan.levels) if callable(inner_steps) else inner_steps
        plan = self.plan.with_inner_steps(numbers)
        assert isinstance(plan.inner_steps, tuple)
        self.plan = replace(plan, inner_evaluations=[dynamics.evaluations(number) for number in plan.inner_steps])

    def drift(self, level: NoiseLevel, observation: Observation) -> Drift:
        """The drift that the inner steps at ``level`` follow."""
        raise NotImplementedError(f"{type(self).__name__} has inner steps but no drift()")

    def remember(self, x: Tensor) -> LangevinMemory:
        """The memory at the start of a run, or after time travel."""
        return LangevinMemory(super().remember(x).solver)

    def enter(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The state with known entries drawn from p_t(y | y_o), and the dynamics started at the new level."""
        state = super().enter(state, visit, noise)
        if not visit.inner_steps:
            return state
        drift, last = self.drift(visit.level, state.observation), state.memory.dynamics
        begun = (
            self.dynamics.init(state.x, drift, noise)
            if last is None
            else self.dynamics.warm_start(last, state.x, drift, noise)
        )
        return self._moved(state, begun, drift)

    def refine(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """One step of the dynamics."""
        drift = state.memory.drift
        moved = self.dynamics.step(replace(state.memory.dynamics, x=state.x), drift, noise)
        prediction, drift.prediction = drift.prediction, None  # only the state holds it, so its memory can be freed
        return replace(self._moved(state, moved, drift), prediction=prediction)

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The outer step of the solver. The drift of the level is dropped."""
        return super().advance(replace(state, memory=replace(state.memory, drift=None)), visit, noise)

    def _moved(self, state: SamplerState, dynamics: State, drift: Drift) -> SamplerState:
        if not isinstance(dynamics, State):
            what = type(dynamics).__name__
            raise TypeError(f"init and step of {type(self.dynamics).__name__} must return a State, got {what}")
        check_same_kind(f"the dynamics {type(self.dynamics).__name__}", dynamics.x, state.x)
        return replace(state, x=dynamics.x, memory=replace(state.memory, dynamics=without_x(dynamics), drift=drift))

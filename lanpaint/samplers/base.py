"""The loop that all samplers share.

    x ~ prior at the first level
    for each level, noisiest first:
        enter the level: known entries are forward-diffused anew                            (LanPaint, Eq. 8)
        repeat N times: one step of the dynamics on the joint state                          (inner steps)
        one step of the solver to the next level                                             (outer step)
    known entries are set to the observation

A sampler is a choice of solver, dynamics and field for this loop; what it does not choose it does not run. One that is
no such choice has its own inner step or its own way to leave a level.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from lanpaint.callbacks import Callback, FiniteCheck, Moment, ProgressBar, Stop
from lanpaint.drift import Drift
from lanpaint.dynamics import Dynamics, State
from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.randomness import Generators, NoiseSource, NormalNoise
from lanpaint.schedules import VP, Schedule
from lanpaint.score import Score, as_score
from lanpaint.solvers import Euler, Solver, SolverState
from lanpaint.spacings import Spacing, as_spacing


def _check_levels(levels: list[NoiseLevel], score: Score) -> None:
    if not all(isinstance(level, NoiseLevel) for level in levels):
        raise TypeError(f"levels must be NoiseLevel(alpha, sigma), got {levels[:3]!r:.60}")
    if len(levels) < 2 or bool((levels[-1].sigma != 0).any()) or bool((levels[-1].alpha != 1).any()):
        raise ValueError("levels must be at least two, noisiest first, the last one clean: NoiseLevel(1.0, 0.0)")
    if any(bool(((level.alpha == 0) & (level.sigma == 0)).any()) for level in levels):
        raise ValueError("a level has α = σ = 0, where there is nothing left of signal or noise")
    # σ/α falls where the angle does, α = 0 included.
    angles = [torch.atan2(level.sigma, level.alpha) for level in levels]
    for step, (here, there) in enumerate(itertools.pairwise(angles)):
        if bool((there > here * (1 + 1e-6)).any()):  # levels may be float32
            raise ValueError(f"noise must never rise along levels, but σ/α does from level {step} to {step + 1}")
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


def check_whole(name: str, value: object, least: int) -> None:
    """Raise ValueError unless a setting is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def refuse_solver(sampler: str, options: dict[str, Any]) -> None:
    """Raise ValueError when the options of a sampler that is its own solver name another."""
    if options.get("solver") is not None:
        raise ValueError(f"{sampler} makes its own outer steps and takes no solver; leave solver out")


def renoise(x: Tensor, level: NoiseLevel, noisier: NoiseLevel, noise: Tensor) -> Tensor:
    """Forward diffusion from (α', σ') = ``level`` to (α, σ) = ``noisier``: (α/α') x + √(σ² − (α/α')² σ'²) ε.

    ``noise`` is ε, standard normal of x's shape. Without signal at ``level`` there is none to keep, and σ ε is drawn.
    """
    ratio = noisier.alpha * reciprocal(level.alpha)
    added = (noisier.sigma**2 - (ratio * level.sigma) ** 2).clamp(min=0).sqrt()
    return cast_like(ratio, x) * x + cast_like(added, x) * noise


# What a solver's state holds for x while the sampler moves it.
_ELSEWHERE = torch.empty(0)


class Sampler:
    """Unconditional sampling, and the loop of every conditional sampler.

    Args:
        score: The model: a :class:`~lanpaint.score.Score` or a function ``score(x, level)``.
        steps: Outer steps S ≥ 1.
        solver: Outer step; Euler by default, as in the paper. One of diffusers brings its own levels.
        schedule: Noise schedule; by default the model's own, else the linear VP schedule of the paper's benchmarks.
        spacing: Which of its levels to visit: ``"paper"`` (uniform in time, the default), ``"logsnr"``, ``"karras"``,
            or a function of (schedule, steps).
        levels: The levels themselves instead of schedule and spacing: of σ/α that never rises, the last one clean
            (α = 1, σ = 0). Each of shape () for the batch, or any that broadcasts to the samples'.
        callbacks: See :mod:`lanpaint.callbacks`.
        progress: Show a progress bar.

    Raises:
        TypeError: When ``score`` is neither, and for other parts that are not what they should be.
        ValueError: For levels that are given twice over, a number of steps below 1, an unknown spacing, levels that
            rise or do not end clean, and a first level without signal (α = 0) for a score that then does not determine
            x̂₀.

    Warns:
        UserWarning: When a level lies outside of what the model's own schedule covers.
    """

    inner_steps: int = 0
    dynamics: Dynamics | None = None
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
        callbacks: Sequence[Callback] = (),
        progress: bool = False,
    ) -> None:
        self.score = as_score(score)
        self.solver = solver or Euler()
        for name, part, kind in (("solver", self.solver, Solver), ("schedule", schedule, Schedule)):
            if part is not None and not isinstance(part, kind):
                raise TypeError(f"{name} must be a {kind.__name__}, an instance, got {part!r:.60}")
        own = self.solver.levels(steps)
        sources = {"levels": levels, "schedule or spacing": schedule or spacing, "the solver's own levels": own}
        given = [source for source, value in sources.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"levels come from one place, got {' and '.join(given)}; leave all but one out")
        if own is None and levels is None:
            levels = as_spacing(spacing or "paper")(schedule or self.score.schedule or VP.linear(), steps)
        self.levels = list(own or levels or [])
        self._asked_steps = len(self.levels) - 1 if own is None else steps
        _check_levels(self.levels, self.score)
        self.scale = max(float((level.alpha**2 + level.sigma**2).max()) for level in self.levels) ** 0.5
        self.callbacks = [FiniteCheck(), *callbacks, *([ProgressBar()] if progress else [])]
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise TypeError(f"callbacks must be Callback instances, got {callback!r:.60}")

    @property
    def steps(self) -> int:
        """Number of outer steps S."""
        return len(self.levels) - 1

    @property
    def allocation(self) -> list[int]:
        """Inner steps at each level, S of them: ``inner_steps`` at every one, here."""
        return [self.inner_steps] * self.steps

    def enter(self, x: Tensor, level: NoiseLevel, observation: Observation, noise: NoiseSource) -> Tensor:
        """The state as a level is entered: unchanged here."""
        return x

    def drift(self, level: NoiseLevel, observation: Observation) -> Drift:
        """The drift of the inner steps at a level; samplers with inner steps override it."""
        raise NotImplementedError(f"{type(self).__name__} has inner steps but no drift")

    def route(self) -> Iterable[int]:
        """Numbers of the outer steps in the order in which they are made, the last one last: 0 … S − 1 here.

        Where a number does not follow from the one before, the state is diffused forward to its level (time travel).
        """
        return range(self.steps)

    def begin(self, moment: Moment, last: State | None, noise: NoiseSource) -> Moment:
        """The moment before the first inner step of a level, of kind ``"inner"``; unchanged where there are none.

        ``last`` is the state after the inner steps of the level before, None at the first.
        """
        if self.dynamics is None or not self.allocation[moment.step]:
            return moment
        drift, x = self.drift(moment.level, moment.observation), moment.x
        state = self.dynamics.init(x, drift, noise) if last is None else self.dynamics.warm_start(last, x, drift, noise)
        return replace(moment, kind="inner", drift=drift, state=state)

    def inner_step(self, moment: Moment, noise: NoiseSource) -> Moment:
        """One inner step: of the dynamics, here."""
        assert self.dynamics is not None
        assert moment.drift is not None
        assert moment.state is not None
        state = self.dynamics.step(moment.state, moment.drift, noise)
        return replace(moment, inner=moment.inner + 1, x=state.x, prediction=moment.drift.prediction, state=state)

    def leave(self, state: SolverState, moment: Moment, next_level: NoiseLevel, noise: NoiseSource) -> SolverState:
        """The outer step from a level to the next: of the solver, here."""
        return self.solver.step(state, self.score, moment.level, next_level, noise)

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
        run = self._run(*self._prepare(observation, generator, start, noise))
        with torch.no_grad():
            while True:  # rather than a loop over moments, whose variable would hold the last one beside the next
                try:
                    next(run)
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
    ) -> Generator[Moment, None, Tensor]:
        """Step by hand: the loop, one :class:`~lanpaint.callbacks.Moment` after every inner and outer step.

        Takes the arguments of a call. The ``x`` of the last moment is the result, and the generator's value.

        Example:
            >>> import torch, lanpaint as lp
            >>> from toy_models import Gaussian
            >>> target = Gaussian(mean=[0.0, 0.0], cov=[[1.0, 0.8], [0.8, 1.0]])
            >>> observation = lp.Observation(torch.ones(4, 2), known=torch.tensor([False, True]))
            >>> for moment in lp.LanPaint(target.score, steps=2, inner_steps=1).iterate(observation):
            ...     print(moment.kind, moment.step, tuple(moment.x.shape))
            start 0 (4, 2)
            inner 0 (4, 2)
            outer 0 (4, 2)
            start 1 (4, 2)
            inner 1 (4, 2)
            outer 1 (4, 2)
        """
        return torch.no_grad()(self._run)(*self._prepare(observation, generator, start, noise))

    def _prepare(
        self,
        observation: Observation | Sequence[int],
        generator: Generators,
        start: Tensor | None,
        noise: NoiseSource | None,
    ) -> tuple[Moment, NoiseSource]:
        """The moment before the first level, and the source of noise, from the arguments of a call."""
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
        self._check_fit(observation)
        observation = observation.draw(noise)
        x = self._start(self.levels[0], observation, noise, start)
        return Moment("start", 0, 0, self.levels[0], x, observation), noise

    def _start(self, level: NoiseLevel, observation: Observation, noise: NoiseSource, start: Tensor | None) -> Tensor:
        level = level.to(observation.values)
        if start is None:
            return (level.alpha**2 + level.sigma**2).sqrt() * noise(observation.values)
        if start.shape != observation.shape:
            raise ValueError(f"start must have the samples' shape {tuple(observation.shape)}, got {tuple(start.shape)}")
        if not bool(torch.isfinite(start).all()):
            raise ValueError("start has entries that are NaN or infinite")
        return start.to(observation.values)

    def _check_fit(self, observation: Observation) -> None:
        for level in self.levels:
            try:
                fits = torch.broadcast_shapes(level.shape, observation.shape) == observation.shape
            except RuntimeError:
                fits = False
            if not fits:
                raise ValueError(
                    f"a level of shape {tuple(level.shape)} does not broadcast to samples of shape "
                    f"{tuple(observation.shape)}; one level per sample: level.per_sample({len(observation.shape)})"
                )

    def _run(self, moment: Moment, noise: NoiseSource) -> Generator[Moment, None, Tensor]:
        try:
            stop = self._call("on_run_start", moment)
            solver_state, last = self.solver.init(moment.x, self._asked_steps), None
            allocation = self.allocation
            for step in self.route():
                if stop is Stop.RUN:
                    break
                level, next_level = self.levels[step : step + 2]
                x = moment.x
                if moment.level is not level:
                    x = renoise(x, moment.level, level, noise(x))
                    solver_state = self.solver.init(x, self._asked_steps)
                x = self.enter(x, level, moment.observation, noise)
                moment = Moment("start", step, 0, level, x, moment.observation, moment.prediction)
                del x
                stop = self._call("on_level_start", moment)
                yield moment
                if stop is None:
                    moment = self.begin(moment, last, noise)
                    last = last if moment.state is None else None  # not kept while the level has its own
                while moment.kind == "inner" and moment.inner < allocation[step] and stop is None:
                    stop = self._call("on_inner_start", moment)
                    if stop is None:
                        moment = replace(moment, prediction=None)  # the next one takes its place
                        moment = self.inner_step(moment, noise)
                        stop = self._call("on_inner_end", moment)
                        yield moment
                if stop is Stop.RUN:
                    break
                last = moment.state or last
                solver_state = replace(solver_state, x=moment.x)
                moment = replace(moment, prediction=None, drift=None, state=None)
                solver_state = self.leave(solver_state, moment, next_level, noise)
                x = solver_state.x if step < self.steps - 1 else moment.observation.finish(solver_state.x)
                moment = replace(moment, kind="outer", level=next_level, x=x, prediction=solver_state.prediction)
                solver_state = replace(solver_state, x=_ELSEWHERE, prediction=None)
                stop = self._call("on_level_end", moment)
                yield moment
            else:
                stop = None
            if stop is Stop.RUN:  # on the way: the model's best guess of the clean data, for one evaluation
                prediction = self.score.predict(moment.x, moment.level)
                x = moment.observation.finish(prediction.denoised)
                moment = replace(moment, kind="outer", level=self.levels[-1], x=x, prediction=prediction, state=None)
                FiniteCheck().check(self, moment)
                yield moment
        except BaseException:
            try:
                self._call("on_run_end", moment)
            except Exception as second:  # the first error is the one to report
                warnings.warn(f"on_run_end failed as well: {second}", stacklevel=2)
            raise
        self._call("on_run_end", moment)
        return moment.x

    def _call(self, hook: str, moment: Moment) -> Stop | None:
        """Call a hook of every callback; the strongest request to stop wins."""
        requests, error = [], None
        for callback in self.callbacks:
            try:
                requests.append(getattr(callback, hook)(self, moment))
            except Exception as raised:
                if hook != "on_run_end":
                    raise
                error = error or raised  # the others still get to close what they hold
        if error is not None:
            raise error
        return Stop.RUN if Stop.RUN in requests else Stop.LEVEL if Stop.LEVEL in requests else None

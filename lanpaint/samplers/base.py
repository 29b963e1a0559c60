"""The loop that all samplers share.

    x ~ prior at the first level
    for each level, noisiest first:
        enter the level: known entries are forward-diffused anew                            (LanPaint, Eq. 8)
        repeat N times: one step of the dynamics on the joint state                          (inner steps)
        one step of the solver to the next level                                             (outer step)
    known entries are set to the observation

A sampler is a choice of solver, dynamics and field for this loop; what it does not choose it does not run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lanpaint.callbacks import Callback, FiniteCheck, Moment, ProgressBar, Stop
from lanpaint.dynamics import Dynamics
from lanpaint.fields import FieldDrift
from lanpaint.noise import NoiseLevel
from lanpaint.observation import Observation
from lanpaint.randomness import Generators, NoiseSource, NormalNoise
from lanpaint.schedules import VP, Schedule
from lanpaint.score import Score, as_score
from lanpaint.solvers import Euler, Solver
from lanpaint.spacings import Spacing, as_spacing


class Sampler:
    """Unconditional sampling, and the loop of every conditional sampler.

    Args:
        score: The model: a :class:`~lanpaint.score.Score` or a function ``score(x, level)``.
        steps: Outer steps S ≥ 1.
        solver: Outer step; Euler by default, as in the paper.
        schedule: Noise schedule; by default the model's own, else the linear VP schedule of the paper's benchmarks.
        spacing: Which of its levels to visit: ``"paper"`` (uniform in time), ``"logsnr"``, ``"karras"``, or a function
            of (schedule, steps).
        levels: The levels themselves, noisiest first and ending at σ = 0, instead of the three above.
        callbacks: See :mod:`lanpaint.callbacks`.
        progress: Show a progress bar.

    Raises:
        TypeError: When ``score`` is neither.
        ValueError: For a number of steps below 1, an unknown spacing, or levels that do not end at σ = 0.
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
        spacing: str | Spacing = "paper",
        levels: Sequence[NoiseLevel] | None = None,
        callbacks: Sequence[Callback] = (),
        progress: bool = False,
    ) -> None:
        self.score = as_score(score)
        self.solver = solver or Euler()
        if levels is None:
            levels = as_spacing(spacing)(schedule or self.score.schedule or VP.linear(), steps)
        self.levels = list(levels)
        if len(self.levels) < 2 or bool((self.levels[-1].sigma != 0).any()):
            raise ValueError("levels must be at least two, noisiest first, the last one with sigma = 0")
        self.callbacks = [FiniteCheck(), *callbacks, *([ProgressBar()] if progress else [])]

    @property
    def steps(self) -> int:
        """Number of outer steps S."""
        return len(self.levels) - 1

    def enter(self, x: Tensor, level: NoiseLevel, observation: Observation, noise: NoiseSource) -> Tensor:
        """The state as a level is entered: unchanged here."""
        return x

    def drift(self, level: NoiseLevel, observation: Observation) -> FieldDrift:
        """The drift of the inner steps at a level; samplers with inner steps override it."""
        raise NotImplementedError(f"{type(self).__name__} has inner steps but no drift")

    def __call__(
        self,
        observation: Observation | Sequence[int],
        *,
        generator: Generators = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """Draw samples.

        Args:
            observation: What is known, or the shape (B, …) of the samples when nothing is.
            generator: One generator, or a sequence of one per sample.
            start: State at the first level, shape (B, …); by default drawn from N(0, α² + σ²).

        Returns:
            Samples of shape (B, …) in the observation's dtype, float32 at least. Known entries are bit for bit those
            of the observation.

        Raises:
            DivergenceError: As soon as the state is not finite.
            ValueError: When ``start`` or the generators do not fit the observation.
        """
        x = None
        for moment in self.iterate(observation, generator=generator, start=start):
            x = moment.x
        assert x is not None
        return x

    def iterate(
        self,
        observation: Observation | Sequence[int],
        *,
        generator: Generators = None,
        start: Tensor | None = None,
        noise: NoiseSource | None = None,
    ) -> Iterator[Moment]:
        """Step by hand: the loop, one :class:`~lanpaint.callbacks.Moment` after every inner and outer step.

        Takes the arguments of a call, and a ``noise`` source in place of a generator. The ``x`` of the last moment is
        the result.

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
        observation = observation if isinstance(observation, Observation) else Observation.none(observation)
        noise = noise or NormalNoise(generator)
        observation = observation.draw(noise)
        x = self._start(observation, noise, start)
        return self._run(Moment("start", 0, 0, self.levels[0], x, observation), noise)

    def _start(self, observation: Observation, noise: NoiseSource, start: Tensor | None) -> Tensor:
        level = self.levels[0].to(observation.values)
        if start is None:
            return (level.alpha**2 + level.sigma**2).sqrt() * noise(observation.values)
        if start.shape != observation.shape:
            raise ValueError(f"start must have the samples' shape {tuple(observation.shape)}, got {tuple(start.shape)}")
        return start.to(observation.values)

    @torch.no_grad()
    def _run(self, moment: Moment, noise: NoiseSource) -> Iterator[Moment]:
        try:
            stop = self._call("on_run_start", moment)
            solver_state = self.solver.init(moment.x)
            for step in range(self.steps):
                if stop is Stop.RUN:
                    break
                level, next_level = self.levels[step : step + 2]
                x = self.enter(moment.x, level, moment.observation, noise)
                moment = Moment("start", step, 0, level, x, moment.observation, moment.prediction)
                stop = self._call("on_level_start", moment)
                yield moment
                if self.dynamics is not None and self.inner_steps and stop is None:
                    drift = self.drift(level, moment.observation)
                    moment = replace(moment, kind="inner", drift=drift, state=self.dynamics.init(x, drift, noise))
                while moment.state is not None and moment.inner < self.inner_steps and stop is None:
                    stop = self._call("on_inner_start", moment)
                    if stop is None:
                        moment = self._inner_step(moment, noise)
                        stop = self._call("on_inner_end", moment)
                        yield moment
                if stop is Stop.RUN:
                    break
                solver_state = replace(solver_state, x=moment.x)
                solver_state = self.solver.step(solver_state, self.score, level, next_level, noise)
                x = solver_state.x if step < self.steps - 1 else moment.observation.finish(solver_state.x)
                moment = replace(
                    moment, kind="outer", level=next_level, x=x, prediction=solver_state.prediction, state=None
                )
                stop = self._call("on_level_end", moment)
                yield moment
            else:
                stop = None
            if stop is Stop.RUN:  # on the way: the model's best guess of the clean data, for one evaluation
                prediction = self.score.predict(moment.x, moment.level)
                x = moment.observation.finish(prediction.denoised)
                moment = replace(moment, kind="outer", level=self.levels[-1], x=x, prediction=prediction, state=None)
                yield moment
        except BaseException:
            try:
                self._call("on_run_end", moment)
            except Exception as second:  # the first error is the one to report
                warnings.warn(f"on_run_end failed as well: {second}", stacklevel=2)
            raise
        self._call("on_run_end", moment)

    def _inner_step(self, moment: Moment, noise: NoiseSource) -> Moment:
        assert self.dynamics is not None
        assert isinstance(moment.drift, FieldDrift)
        assert moment.state is not None
        state = self.dynamics.step(moment.state, moment.drift, noise)
        return replace(moment, inner=moment.inner + 1, x=state.x, prediction=moment.drift.prediction, state=state)

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

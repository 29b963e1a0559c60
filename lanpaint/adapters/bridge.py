"""A sampler inside a diffusers pipeline that was not written for one.

A pipeline owns its loop: text encoding, guidance, ControlNet, LoRA and offloading all happen between two calls of
``scheduler.step(model_output, time, latents)``. So the loop is not rebuilt but turned inside out. For the length of a
call a stand-in takes the place of the pipeline's scheduler and shows it a list of times in which each is repeated once
per evaluation that the sampler will ask for:

    the pipeline                                      the sampler, in a greenlet of its own
    latents = prepare_latents(…)            ─────→    start; runs until it wants to know the score at some x
    for time in scheduler.timesteps:                  …
        output = network(latents, time)               (waits)
        latents = scheduler.step(output, …) ─────→    goes on with the score; runs until the next x, or to its end
    decode(latents)                                   x is the sample

The sampler is plain, synchronous code that knows nothing of this. Its outer step is that of the pipeline's own
scheduler, given the pipeline's own model output and random numbers. How often it will ask, and at which levels, is
found by running it on a tiny tensor beforehand.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.guidance import RegionalScale
from lanpaint.adapters.schedulers import (
    DiffusersSolver,
    SchedulerState,
    fingerprint,
    level_of,
    prediction_of,
    same_noise,
    stage_level,
    view_of,
)
from lanpaint.callbacks import Callback, EarlyStop, RunningSampler
from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.observation import Observation
from lanpaint.randomness import Generators, NoiseSource, NormalNoise
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.sampler import Sampler
from lanpaint.schedules import VP, Flow
from lanpaint.score import Score

SamplerFactory = Callable[..., Sampler]
KnownPart = Observation | Callable[[Tensor], Observation] | None


def _greenlet() -> Any:
    try:
        import greenlet
    except ImportError as error:
        raise ImportError(
            "a sampler inside a pipeline needs greenlet; install it with: pip install greenlet"
        ) from error
    return greenlet


@dataclass(frozen=True)
class _Planned:
    """One evaluation that the sampler will ask for.

    Attributes:
        level: The level in the sampler's coordinates.
        own: The level of the same σ/α in the scheduler's coordinates.
        time: The pipeline's time there.
        index: Its place in the scheduler's own list of times; None for a level between two of them.
    """

    level: NoiseLevel
    own: NoiseLevel
    time: float
    index: int | None


# Plans that were made in this process, by all that they depend on: ten thousand pictures need one.
_PLANS: dict[bytes, tuple[list[_Planned], bool]] = {}
_MOST_PLANS = 64


class _Evaluation(Prediction):
    """A prediction that remembers what the pipeline's network gave, and for which latents."""

    def __init__(self, views: Prediction, output: Tensor, latents: Tensor) -> None:
        super().__init__(views.x, views.level, **views._given)
        self.output, self.latents = output, latents


class PipelineScore(Score):
    """The score that a pipeline computes between two steps of its scheduler: guidance and all else included.

    It answers only while the pipeline runs, with one level for the whole batch, and has no gradient.
    """

    def __init__(self, run: _Run) -> None:
        self._run = run

    @property
    def needs_signal(self) -> bool:
        """True for ε-prediction."""
        return view_of(self._run.scheduler) == "epsilon"

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """One evaluation, made by the pipeline."""
        if level.alpha.numel() != 1:
            raise ValueError(
                f"a pipeline takes one noise level for the batch, got levels of shape {tuple(level.shape)}; "
                "use a network adapter (lanpaint.adapters.networks)"
            )
        if torch.is_grad_enabled() and x.requires_grad:
            raise ValueError(
                "a pipeline gives no gradient of its score; for samplers that need one use a network adapter "
                "(lanpaint.adapters.networks), or a sampler that needs none, such as LanPaint"
            )
        return self._run.evaluate(x, level)


class _PipelineSolver(DiffusersSolver):
    """The outer step of the pipeline's scheduler, already set to its times, as the pipeline itself would make it."""

    def __init__(self, run: _Run) -> None:
        super().__init__(run.scheduler)
        self._run = run
        self._levels: list[NoiseLevel] | None = None

    def levels(self, steps: int) -> list[NoiseLevel]:
        if self._levels is None:  # checked once, asked for again by samplers
            self._levels = super().levels(steps)
        return list(self._levels)

    def _fresh(self, steps: int, device: torch.device | str = "cpu") -> Any:
        scheduler = copy.deepcopy(self.scheduler)
        if torch.device(device).type == "cpu":  # planning; a run's own stay where the pipeline has put them
            for name, value in vars(scheduler).items():
                if isinstance(value, Tensor):
                    setattr(scheduler, name, value.cpu())
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(0)
        return scheduler

    def init(self, x: Tensor, steps: int) -> SchedulerState:
        state = super().init(x, steps)
        self._run.stands_at = state.scheduler, 0
        return state

    def step(
        self, state: Any, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> SchedulerState:
        self._run.stands_at = state.scheduler, state.index
        return super().step(state, score, level, next_level, noise)

    def _advance(
        self, scheduler: Any, index: int, prediction: Prediction, x: Tensor, options: dict[str, Any]
    ) -> Tensor:
        self._run.stands_at = scheduler, index + 1
        if not isinstance(prediction, _Evaluation):  # planning, or a sampler that combined evaluations
            return super()._advance(scheduler, index, prediction, x, options)
        output, latents = prediction.output, prediction.latents
        # A state that no one has moved is stepped in the pipeline's own dtype, so that it stays what it would be there.
        # (One that was moved is float32, and is not a 16-bit number any more.)
        untouched = latents.dtype == x.dtype or torch.equal(latents.to(x.dtype), x)
        if not untouched:
            output, latents = output.to(x.dtype), x
        time = scheduler.timesteps[index]
        stepped = scheduler.step(output, time, latents, return_dict=False, **self._run.step_options)[0]
        if untouched:
            self._run.dtype = stepped.dtype
        return stepped.to(x.dtype)


class _OuterSteps(Callback):
    def __init__(self, run: _Run) -> None:
        self._run = run

    def on_level_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        self._run.outer_steps += 1


class _Run:
    """One call of the pipeline: the plan, the greenlet in which the sampler runs, and what passes between the two."""

    def __init__(self, scheduler: Any, factory: SamplerFactory, nothing_known: bool) -> None:
        self.scheduler = scheduler
        self.stands_at: tuple[Any, int] = scheduler, 0
        self.step_options: dict[str, Any] = {}
        self.outer_steps = 0
        self.done: Tensor | None = None
        self.handed: Tensor  # the latents that the pipeline holds
        self.known: Tensor  # where what is known lies in them
        self._worker: Any = None
        self._asked = 0
        self._answer: Callable[[Tensor, NoiseLevel], Prediction] | None = None
        self._grid = [stage_level(scheduler, index) for index in range(len(scheduler.timesteps))]
        self._angles = [_angle(level) for level in self._grid]
        self.sampler = self._make(factory)
        self.plan, self.begins_at_start = self._dry_run(nothing_known)
        self.stands_at = scheduler, 0
        self.sampler.callbacks.append(_OuterSteps(self))

    # Planning

    def _make(self, factory: SamplerFactory) -> Sampler:
        solver = _PipelineSolver(self)
        levels = solver.levels(0)
        score = PipelineScore(self)
        try:
            sampler = factory(score, solver=solver, steps=len(levels) - 1)
        except ValueError as error:  # perhaps one that makes its own outer steps; any other reason comes up again
            try:
                sampler = factory(score, levels=levels)
            except TypeError:
                raise error from None
        if not isinstance(sampler, Sampler):
            raise TypeError(
                f"the sampler must be made as factory(score, solver=…, steps=…), such as LanPaint or "
                f"functools.partial(LanPaint, inner_steps=3), and it made {sampler!r:.60}"
            )
        if any(isinstance(callback, EarlyStop) for callback in sampler.callbacks):
            raise ValueError(
                "EarlyStop ends a level when the data say so, but a pipeline's evaluations are planned beforehand: "
                "leave it out, or use a network adapter (lanpaint.adapters.networks)"
            )
        return sampler

    def _dry_run(self, nothing_known: bool) -> tuple[list[_Planned], bool]:
        """The evaluations that the sampler asks for, and whether the first is at the very state it started from."""
        kinds = [type(part) for part in (self.sampler, self.sampler.dynamics, self.sampler.solver) if part is not None]
        ours = all(kind.__module__.startswith("lanpaint.") for kind in kinds)  # these ask the same for any data
        key = self._settings(nothing_known) if ours else None
        if key is not None and key in _PLANS:
            return _PLANS[key]
        callbacks, self.sampler.callbacks = self.sampler.callbacks, []
        try:
            asked = others = self._asked_levels(nothing_known, seed=0)
            if not ours:
                others = self._asked_levels(nothing_known, seed=1)
        finally:
            self.sampler.callbacks, self._answer = callbacks, None
        name = type(self.sampler).__name__
        if others is not asked and [repr(level) for level, _ in asked] != [repr(level) for level, _ in others]:
            raise ValueError(
                f"how often {name} evaluates its model depends on the data ({len(asked)} or {len(others)} times "
                "in two trials), but a pipeline's evaluations are planned beforehand; fix their number"
            )
        if not asked:
            raise ValueError(f"{name} never evaluates its model; there is nothing for the pipeline to do")
        levels = {id(level): level for level, _ in asked}  # few, asked for again and again
        places = {number: self._place(level) for number, level in levels.items()}
        plan = [places[id(level)] for level, _ in asked], asked[0][1]
        if key is not None:
            _PLANS[key] = plan
            while len(_PLANS) > _MOST_PLANS:
                _PLANS.pop(next(iter(_PLANS)))
        return plan

    def _settings(self, nothing_known: bool) -> bytes | None:
        """All that the plan of a sampler of ours depends on; None where that cannot be written down."""
        sampler = self.sampler
        if type(sampler.solver) is not _PipelineSolver:
            return None
        own = {name: part for name, part in vars(sampler).items() if name not in ("score", "solver", "callbacks")}
        own["levels"] = [(float(level.alpha), float(level.sigma)) for level in sampler.levels]
        try:
            return pickle.dumps((type(sampler), own, nothing_known, fingerprint(self.scheduler)))
        except Exception:  # something that cannot be pickled: it is planned anew each time
            return None

    def _asked_levels(self, nothing_known: bool, seed: int) -> list[tuple[NoiseLevel, bool]]:
        asked: list[tuple[NoiseLevel, bool]] = []
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(1, 2, 2, 2, generator=generator)
        known = torch.zeros(start.shape, dtype=torch.bool)
        known[..., 1] = not nothing_known
        answer = _planned_answer(seed)

        def record(x: Tensor, level: NoiseLevel) -> Prediction:
            asked.append((level, torch.equal(x, start)))
            return answer(x, level)

        self._answer = record
        with torch.random.fork_rng(devices=[]):  # schedulers that draw without a generator
            self.sampler(Observation(torch.zeros_like(start), known), start=start, generator=generator)
        return asked

    def _place(self, level: NoiseLevel) -> _Planned:
        level = NoiseLevel(level.alpha.reshape(()), level.sigma.reshape(()))
        angle = _angle(level)
        nearest = self._nearest(angle)
        if abs(self._angles[nearest] - angle) < 1e-6 * angle:
            return _Planned(level, self._grid[nearest], float(self.scheduler.timesteps[nearest]), nearest)
        own, time = _between(self.scheduler, level)
        return _Planned(level, own, time, None)

    def _nearest(self, angle: float) -> int:
        distances = [abs(own - angle) for own in self._angles]
        return distances.index(min(distances))

    def times(self) -> tuple[Tensor, list[int]]:
        """The times to show to the pipeline, and for each the place of its level among the scheduler's own."""
        own = self.scheduler.timesteps
        nearest = functools.cache(lambda number: self._nearest(_angle(different[number].own)))
        different = {id(planned): planned for planned in self.plan}  # few, asked for again and again
        places = [nearest(id(planned)) for planned in self.plan]
        if all(planned.index is not None for planned in self.plan):
            return own[places], places
        dtype = own.dtype if own.is_floating_point() else torch.float32
        return torch.tensor([planned.time for planned in self.plan], dtype=dtype, device=own.device), places

    # Running

    @property
    def begun(self) -> bool:
        """Whether the sampler runs, or has run."""
        return self._worker is not None

    def start(self, latents: Tensor, known: KnownPart, noise: NoiseSource) -> Tensor:
        """Start the sampler at the pipeline's first latents; returns those of its first evaluation."""
        state = latents if latents.dtype == torch.float64 else latents.float()
        observation = _fit(known(latents) if callable(known) else known, state)
        self.dtype, self.known = latents.dtype, observation.known.expand(observation.shape)
        self._worker = _greenlet().greenlet(lambda: self.sampler(observation, start=state, noise=noise))
        return self.resume()

    def resume(self, *output: Tensor) -> Tensor:
        """Let the sampler run until its next evaluation or its end; returns the latents for the pipeline."""
        self._worker.parent = _greenlet().getcurrent()
        with _own_gradient_mode():
            x = self._worker.switch(*output)
        if self._worker.dead:
            self.done = x = x.to(self.dtype)
        self.handed = x
        return x

    def evaluate(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """The sampler's side: give x to the pipeline, wait for what its network says."""
        if self._answer is not None:
            return self._answer(x, level)
        if self._worker is None or self._worker is not _greenlet().getcurrent():
            raise RuntimeError("this score answers only to the sampler that runs inside the pipeline")
        planned = self._next(level)
        factor = _norm(planned.own) / _norm(level)
        latents = (x if factor == 1 else x * factor).to(self.dtype)
        self._present = planned
        with _own_gradient_mode():
            output = self._worker.parent.switch(latents)
        mean = output[:, : x.shape[1]] if output.shape[1] == 2 * x.shape[1] else output  # without a learned variance
        return _Evaluation(prediction_of(self.scheduler, mean.to(x.dtype), x, level), output, latents)

    def _next(self, level: NoiseLevel) -> _Planned:
        if self._asked < len(self.plan) and same_noise(level, self.plan[self._asked].level):
            self._asked += 1
            return self.plan[self._asked - 1]
        planned = self.plan[self._asked].level if self._asked < len(self.plan) else "none"
        raise ValueError(
            f"evaluation {self._asked + 1} of {type(self.sampler).__name__} was planned at {planned} and is asked for "
            f"at {level}: a pipeline's evaluations are planned beforehand, so neither sampler nor callback may end a "
            "level early or otherwise let their number depend on the data"
        )

    def scale(self, sample: Tensor) -> Tensor:
        """What the scheduler does to the network's input, at the level of the present evaluation."""
        planned = self._present if self.begun else self.plan[0]
        scheduler, index = self.stands_at
        if planned.index is not None and index < len(self._grid) and same_noise(self._grid[index], planned.own):
            return scheduler.scale_model_input(sample, scheduler.timesteps[index])
        if float(planned.own.alpha) != 1:  # only variance-exploding coordinates are not those of the network
            return sample
        return sample / _norm(planned.own)

    def expects(self, sample: Tensor) -> bool:
        """Whether the pipeline's latents are those that it was given; usually the very tensor."""
        latents = self.handed
        return sample is latents or (
            sample.shape == latents.shape and torch.equal(sample.to(latents.dtype), latents.to(sample.device))
        )

    @property
    def waiting(self) -> bool:
        """Whether the sampler waits for an evaluation."""
        return self._worker is not None and not self._worker.dead

    def close(self) -> None:
        """End the sampler where it stands, if it has not come to its end."""
        if self.waiting:
            self._worker.parent = _greenlet().getcurrent()
            with _own_gradient_mode():
                self._worker.throw()


@contextlib.contextmanager
def _own_gradient_mode() -> Iterator[None]:
    """Each side of a switch finds the gradient mode that it left; PyTorch keeps one for the thread."""
    enabled = torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_grad_enabled(enabled)


def _norm(level: NoiseLevel) -> float:
    return math.hypot(float(level.alpha), float(level.sigma))


def _angle(level: NoiseLevel) -> float:
    return math.atan2(float(level.sigma), float(level.alpha))


def _between(scheduler: Any, level: NoiseLevel) -> tuple[NoiseLevel, float]:
    """The level in the scheduler's coordinates, and the pipeline's time, of a σ/α that is none of its own."""
    first = level_of(scheduler, 0)
    if view_of(scheduler) == "flow":
        return Flow().level(Flow().time(level)), float(Flow().time(level)) * scheduler.config.num_train_timesteps
    schedule = VP(scheduler.alphas_cumprod)
    own = level.rescale(1 / (float(level.alpha) if float(first.alpha) == 1 else _norm(level)))
    return own, float(schedule.time(level))


def _planned_answer(seed: int) -> Callable[[Tensor, NoiseLevel], Prediction]:
    """A model whose every answer is another, for planning."""
    generator = torch.Generator().manual_seed(seed)

    def answer(x: Tensor, level: NoiseLevel) -> Prediction:
        return Prediction(x, level, denoised=0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype))

    return answer


def _fit(observation: Observation | None, latents: Tensor) -> Observation:
    """The observation for the batch of the pipeline, in its place: ``latents`` has the shape, dtype and device."""
    if observation is None:
        return Observation.none(latents.shape, latents.dtype, str(latents.device))
    if observation.shape[1:] != latents.shape[1:] or len(latents) % len(observation.values):
        raise ValueError(
            f"the observation has shape {tuple(observation.shape)} and the pipeline's latents {tuple(latents.shape)}; "
            "give one, or one per prompt, in the layout of the pipeline's latents and for the same height and width"
        )
    repeats = len(latents) // len(observation.values)
    values = observation.values.to(latents).repeat_interleave(repeats, 0)
    known = observation.known.expand_as(observation.values).repeat_interleave(repeats, 0)
    return Observation(values, _compact(known).to(latents.device), observation.noise)


def _compact(mask: Tensor) -> Tensor:
    """A mask with one entry in place of a dimension along which it does not vary: channels, above all.

    What a dynamics computes for known and unknown part takes the shape of the mask.
    """
    for dimension in range(mask.ndim):
        one = mask.narrow(dimension, 0, 1)
        if torch.equal(one.expand_as(mask), mask):
            mask = one
    return mask


class Bridge:
    """What stands in a pipeline for the length of a ``with`` block, and makes a run of each of its calls.

    Attributes:
        sampler: The sampler of the present call, or the last; None before the first.
        planned: Evaluations planned for it, those of a pipeline with guidance counted once.
        evaluations: Evaluations made so far.
        outer_steps: Outer steps made so far.
    """

    def __init__(self, pipe: Any, factory: SamplerFactory, known: KnownPart, noise: NoiseSource | None) -> None:
        scheduler: Any = getattr(pipe, "scheduler", None)
        if not callable(getattr(scheduler, "set_timesteps", None)):
            raise TypeError(f"{type(pipe).__name__} has no scheduler to stand in for; give a pipeline of diffusers")
        if not callable(factory) or isinstance(factory, Sampler):
            raise TypeError(
                f"give the sampler's class, or a function that makes one, got {factory!r:.60}; "
                "with options: functools.partial(LanPaint, inner_steps=3)"
            )
        DiffusersSolver(scheduler)  # refuses what cannot be one
        self._pipe, self._factory, self._known, self._noise = pipe, factory, known, noise
        self._scheduler = scheduler
        self._signature = inspect.signature(type(scheduler).step)
        self._nothing_known = known is None or (isinstance(known, Observation) and not bool(known.known.any()))
        self._run: _Run | None = None
        self._first: tuple[Tensor, NoiseSource] | None = None
        self._tick: Callable[[int], Any] | None = None
        self._sights = False
        self._regional: RegionalScale | None = None
        self.planned = self.evaluations = 0

    @property
    def sampler(self) -> Sampler | None:  # noqa: D102
        return None if self._run is None else self._run.sampler

    @property
    def outer_steps(self) -> int:  # noqa: D102
        return 0 if self._run is None else self._run.outer_steps

    def guidance(self, scale: float, known_scale: float) -> RegionalScale:
        """A weight of classifier-free guidance to call the pipeline with: ``known_scale`` on what is known.

        Raises:
            ValueError: For a weight that is no number; in the call, from a pipeline whose guidance it does not reach.
        """
        self._regional = RegionalScale(scale, known_scale)
        return self._regional

    def stand_in(self) -> Any:
        """A scheduler of the same class, with the same attributes and signatures, whose steps come here."""
        kind: Any = type(self._scheduler)
        names = ("set_timesteps", "scale_model_input", "step")
        methods = {name: _redirected(getattr(kind, name), getattr(self, name)) for name in names if hasattr(kind, name)}
        own: Any = type(kind.__name__, (kind,), {"__module__": kind.__module__, "__doc__": kind.__doc__, **methods})
        stand_in = object.__new__(own)
        vars(stand_in).update(vars(copy.deepcopy(self._scheduler)))
        return stand_in

    def set_timesteps(self, stand_in: Any, *args: Any, **kwargs: Any) -> None:
        """Plan a run, and show the pipeline its times."""
        self.close()
        scheduler = copy.deepcopy(self._scheduler)
        scheduler.set_timesteps(*args, **kwargs)
        run = _Run(scheduler, self._factory, self._nothing_known)
        times, places = run.times()
        # Without prepare_latents the pipeline's first latents are seen only when it has evaluated them. Where the
        # sampler does not begin with just that evaluation, it is one more.
        self._sights = not hasattr(self._pipe, "prepare_latents") and not run.begins_at_start
        if self._sights:
            times, places = torch.cat([times[:1], times]), [places[0], *places]
        vars(stand_in).update(vars(copy.deepcopy(scheduler)))
        stand_in.timesteps = times
        sigmas = getattr(scheduler, "sigmas", None)
        if isinstance(sigmas, Tensor) and len(sigmas) > len(scheduler.timesteps):  # some pipelines read them
            stand_in.sigmas = torch.cat([sigmas[places], sigmas[-1:]])
        self._run, self.planned, self.evaluations = run, len(times), 0
        self._begin()

    def prepare_latents(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Let the pipeline draw its first latents, and put the sampler's first evaluation in their place."""
        if self._run is not None and self._run.waiting:  # latents of something else, in mid-run
            return original(*args, **kwargs)
        generator = inspect.signature(original).bind(*args, **kwargs).arguments.get("generator")
        noise = self._noise or apart_from(generator, self._pipe)
        result = original(*args, **kwargs)
        several = isinstance(result, (tuple, list))
        latents = (result[0] if several else result).clone()  # written to, and it may be the caller's own
        self._first = latents, noise
        self._begin()
        return type(result)((latents, *result[1:])) if several else latents

    def _begin(self) -> None:
        """Start the sampler when times and latents are there; a pipeline may make them in either order."""
        if self._run is not None and not self._run.begun and self._first is not None:
            (latents, noise), self._first = self._first, None
            latents.copy_(self._run.start(latents, self._known, noise))
            self._run.handed = latents
            if self._regional is not None:
                self._regional.hold(self._run.known)

    def scale_model_input(self, stand_in: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Scale the network's input as the scheduler would at the level of the evaluation."""
        assert self._run is not None
        return self._run.scale(sample)

    def step(self, stand_in: Any, *args: Any, **kwargs: Any) -> Any:
        """Take the network's output to the sampler; returns what it wants to be evaluated next."""
        if self._run is None:
            raise RuntimeError(f"{type(self._pipe).__name__} steps its scheduler without set_timesteps")
        options = self._signature.bind(stand_in, *args, **kwargs).arguments
        _, output, time, sample = (options.pop(name) for name in list(options)[:4])
        return_dict = options.pop("return_dict", True)
        latents = self._next_latents(self._run, output, time, sample, options)
        if not return_dict:
            return (latents, latents)
        from diffusers.schedulers.scheduling_utils import SchedulerOutput

        return SchedulerOutput(prev_sample=latents)

    def _next_latents(self, run: _Run, output: Tensor, time: Any, sample: Tensor, options: dict[str, Any]) -> Tensor:
        name = type(self._pipe).__name__
        if self.evaluations == 0 and abs(float(time) - run.plan[0].time) > 1e-3:
            raise ValueError(
                f"{name} begins at time {float(time):g}, not at the first of its scheduler, {run.plan[0].time:g}; "
                "a sampler needs all of them: use a text-to-image or text-to-video pipeline, without a strength or a "
                "denoising_end"
            )
        self.evaluations += 1
        if self._tick is not None:
            self._tick(1)
        run.step_options = options
        if self._regional is not None and not self._regional.was_used():
            raise ValueError(
                f"{name} does not guide this evaluation where another weight can be given to the known part: it needs "
                "classifier-free guidance that is on in all steps (a scale that is large enough, a negative prompt for "
                "some); leave known_guidance_scale out, or use a network adapter (lanpaint.adapters.networks)"
            )
        if not run.begun:
            noise = self._noise or apart_from(options.get("generator"), self._pipe)
            run.start(sample, self._known, noise)
            if self._sights:
                return run.handed
        elif not run.expects(sample):
            raise ValueError(
                f"{name}, or a callback given to it, changed its latents between two evaluations; "
                "only the sampler may, so leave that callback out"
            )
        return run.handed if run.done is not None else run.resume(output)

    def progress_bar(self, original: Callable[..., Any], iterable: Any = None, total: Any = None) -> Any:
        """The pipeline's own bar, which counts evaluations."""
        if iterable is not None or self._run is None:
            return original(iterable=iterable, total=total)
        bar = original(total=self.planned)
        self._tick, bar.update = bar.update, lambda *_: None  # the pipeline's own ticks leave out some
        return bar

    def check_end(self) -> None:
        """Raise RuntimeError when the pipeline has come to its end and the sampler has not."""
        run = self._run
        if run is not None and run.waiting and not getattr(self._pipe, "interrupt", False):
            raise RuntimeError(
                f"{type(self._pipe).__name__} ended after {self.evaluations} of {self.planned} evaluations, and the "
                "sampler is not at its end; it must go through all times of its scheduler"
            )

    def close(self) -> None:
        """End what runs."""
        self._tick = None
        if self._run is not None:
            self._run.close()


def _redirected(original: Callable[..., Any], method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)  # pipelines ask for the signature
    def redirected(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method(self, *args, **kwargs)

    return redirected


def apart_from(generator: Any, pipe: Any = None) -> NormalNoise:
    """Noise that is determined by the pipeline's generators, and takes no number from them.

    So the pipeline draws the numbers that it would draw without a sampler.

    Args:
        generator: A generator, a list of one per image, or None for the global one of the pipeline's device.
        pipe: The pipeline, for its device.
    """
    if isinstance(generator, (list, tuple)):
        return NormalNoise([_offspring(one) for one in generator])
    if generator is None:
        device = torch.device(getattr(pipe, "_execution_device", "cpu"))
        cuda = device.type == "cuda"
        generator = torch.cuda.default_generators[device.index or 0] if cuda else torch.default_generator
    return NormalNoise(_offspring(generator))


def _offspring(generator: torch.Generator) -> torch.Generator:
    device = generator.device
    twin = torch.Generator(device)
    twin.set_state(generator.get_state())
    seed = torch.randint(2**62, (), generator=twin, device=device)
    return torch.Generator(device).manual_seed(int(seed))


@contextlib.contextmanager
def bridged(
    pipe: Any,
    sampler: SamplerFactory,
    observation: KnownPart = None,
    *,
    generator: Generators = None,
    noise: NoiseSource | None = None,
) -> Iterator[Bridge]:
    """Have a diffusers pipeline sample with a sampler of this library, in every call of it within the block.

    The pipeline is the same object afterwards, whatever happens in the block. ``callback_on_step_end`` is called after
    each evaluation; :class:`~lanpaint.Inpainter` does all that goes with images and masks.

    The known part takes another weight of classifier-free guidance when the pipeline is called with
    ``guidance_scale=bridge.guidance(7.5, 0.0)``; see :mod:`lanpaint.adapters.guidance`.

    Args:
        pipe: Any text-to-image or text-to-video pipeline, or an unconditional one, that samples by its ``scheduler``.
        sampler: The sampler's class, or a function that makes one: called as ``sampler(score, solver=…, steps=…)``, or
            ``sampler(score, levels=…)`` for one that takes no solver. It must ask for a number of evaluations that does
            not depend on data, and for no gradient. ``functools.partial(LanPaint, inner_steps=3)`` has options.
        observation: What is known of the latents, in the pipeline's own layout, of batch 1 or one per prompt; or a
            function that is given the pipeline's first latents and returns that. None when nothing is.
        generator: The sampler's own random numbers. By default they are determined by the generator that the pipeline
            is called with, and take no number from it.
        noise: Instead of a generator, any source of standard normal numbers.

    Raises:
        ImportError: Without greenlet.
        TypeError: For a pipeline without a scheduler, or a sampler that is no sampler.
        ValueError: For a scheduler that is not understood; within the block, for a sampler whose evaluations cannot be
            planned or that needs gradients, and an observation of another shape than the latents.

    Example:
        >>> import torch, lanpaint as lp
        >>> from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel
        >>> from lanpaint.adapters.bridge import bridged
        >>> unet = UNet2DModel(
        ...     sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4,
        ...     block_out_channels=(8, 8), attention_head_dim=4,
        ...     down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        ... )
        >>> pipe = DDPMPipeline(unet, DDIMScheduler())
        >>> pipe.set_progress_bar_config(disable=True)
        >>> known = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> known[..., :4] = True
        >>> with bridged(pipe, lp.LanPaint, lp.Observation(torch.zeros(1, 1, 8, 8), known)) as bridge:
        ...     image = pipe(num_inference_steps=3, output_type="np").images[0]
        >>> image.shape, float(abs(image[:, :4] - 0.5).max())
        ((8, 8, 1), 0.0)
        >>> bridge.evaluations  # 3 × (5 + 1), and one to see where the pipeline starts
        19
    """
    if generator is not None and noise is not None:
        raise ValueError("give generator or noise, not both")
    _greenlet()
    bridge = Bridge(pipe, sampler, observation, noise or (None if generator is None else NormalNoise(generator)))
    changed = {"scheduler": bridge.stand_in()}
    for name in ("prepare_latents", "progress_bar"):
        if callable(getattr(pipe, name, None)):
            changed[name] = functools.wraps(getattr(pipe, name))(
                functools.partial(getattr(bridge, name), getattr(pipe, name))
            )
    before = {name: vars(pipe)[name] for name in changed if name in vars(pipe)}
    try:
        for name, value in changed.items():
            object.__setattr__(pipe, name, value)  # past the pipeline's own, which would write to its config
        yield bridge
        bridge.check_end()
    finally:
        for name in changed:
            if name in before:
                object.__setattr__(pipe, name, before[name])
            else:
                vars(pipe).pop(name, None)
        bridge.close()

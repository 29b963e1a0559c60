"""A pipeline for the length of a ``with`` block, in which a sampler runs."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import math
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.bridge.call import (
    CALLED_BY,
    OuterStepCallback,
    Steps,
    called_class,
    check_all_times,
    named_arguments,
    turn,
)
from lanpaint.adapters.bridge.conversation import greenlet_module
from lanpaint.adapters.bridge.folding import Folding
from lanpaint.adapters.bridge.noise import apart_from, generator_states, restore
from lanpaint.adapters.bridge.part import Part
from lanpaint.adapters.bridge.run import DENOISED, KnownPart, Run, SamplerFactory, as_number
from lanpaint.adapters.bridge.stand_in import Companion, StepArguments, make_stand_in
from lanpaint.adapters.guidance import BESIDE, WEIGHTS, RegionalScale, conditional_weight
from lanpaint.adapters.modular.blocks import guiders, is_modular, loops, told_once, with_host, without_guidance
from lanpaint.adapters.schedulers import DiffusersSolver
from lanpaint.observation import Observation
from lanpaint.randomness import Generators, NoiseSource, NormalNoise
from lanpaint.samplers import Sampler
from lanpaint.solvers import Solver


class _OtherStartError(Exception):
    """The latents that a pipeline steps first are not those that it has prepared, or are a part of them."""


class Bridge:
    """What makes a run of a sampler of each call of a pipeline, for the length of a ``with`` block.

    Attributes:
        sampler: The sampler of the present call, or of the last one; None before the first.
        planned: Evaluations that its plan declares; those of a pipeline with guidance count once.
        evaluations: Evaluations made so far.
        outer_steps: Outer steps made so far.
        sample: What the sampler of the present call, or of the last one, has made, in the pipeline's own layout; None
            before it has come to its end.
        scheduler: The pipeline's own scheduler.
        stand_in: What takes its place.
        loop: The denoising loop of a modular pipeline that was entered last, with its ``state`` then.
    """

    def __init__(
        self,
        pipe: Any,
        factory: SamplerFactory,
        known: KnownPart,
        noise: NoiseSource | None,
        solver: Solver | None = None,
    ) -> None:
        if not callable(factory) or isinstance(factory, Sampler):
            raise TypeError(
                f"give the sampler's class, or a function that makes one, got {factory!r:.60}; "
                "with options: functools.partial(LanPaint, inner_steps=3)"
            )
        DiffusersSolver.check(pipe.scheduler)
        self._pipe, self._factory, self._known, self._noise, self._solver = pipe, factory, known, noise, solver
        self.scheduler: Any = pipe.scheduler
        self._nothing_known = known is None or (isinstance(known, Observation) and not bool(known.known.any()))
        self._thread = threading.get_ident()
        self._run: Run | None = None
        self._first: tuple[Tensor, Tensor, NoiseSource] | None = None
        self._part: Part | None = None
        self._tick: Callable[[int], Any] | None = None
        self._regional: list[RegionalScale] = []
        self._weights: list[RegionalScale] = []
        self._beside, self._guides = "", False
        self._known_scale: float | None = None
        self._steps: Steps | None = None
        self._generator: Any = None
        self._in_call = self._by_sight = self._has_companion = False
        self._gives_denoised = DENOISED in named_arguments(pipe)
        self.loop: Any = None
        self.state: Any = None
        self.stand_in = make_stand_in(self.scheduler, self)

    @property
    def sampler(self) -> Sampler | None:  # noqa: D102
        return None if self._run is None else self._run.sampler

    @property
    def sample(self) -> Tensor | None:  # noqa: D102
        return None if self._run is None else self._run.sample

    @property
    def planned(self) -> int:  # noqa: D102
        return 0 if self._run is None else self._run.declared + self._by_sight

    @property
    def evaluations(self) -> int:  # noqa: D102
        return 0 if self._run is None else self._run.evaluations + self._by_sight

    @property
    def outer_steps(self) -> int:  # noqa: D102
        return 0 if self._run is None else self._run.outer_steps

    def guidance(self, scale: float, known_scale: float) -> RegionalScale:
        """A weight of classifier-free guidance to call the pipeline with: ``known_scale`` on what is known.

        Raises:
            ValueError: For a weight that is no number; in the call, from a pipeline whose guidance it does not reach.
        """
        regional = RegionalScale(scale, known_scale, conditional_weight(self._pipe))
        self._regional = [regional]
        return regional

    def guide_known(self, known_scale: float) -> None:
        """Have the guiders of a modular pipeline give what is known another weight, in every call within the block.

        Raises:
            ValueError: For a weight that is no number, and a pipeline without a guider that has a weight.
        """
        self._known_scale = known_scale
        if not self._regional_guiders():
            raise ValueError(f"{type(self._pipe).__name__} has no guider with a weight; leave known_guidance_scale out")

    def _regional_guiders(self) -> dict[str, Any]:
        """Copies of the guiders of a modular pipeline, whose weight is another one on what is known."""
        own: dict[str, Any] = {}
        if self._known_scale is not None:
            own = {name: copy.copy(guider) for name, guider in guiders(self._pipe).items()}
            for guider in own.values():
                guider.guidance_scale = RegionalScale(guider.guidance_scale, self._known_scale)
            self._regional = [guider.guidance_scale for guider in own.values()]
        return own

    # The call

    def call(self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the pipeline with arguments that fit a sampler, and see to it that the sampler comes to its end."""
        name = type(self._pipe).__name__
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                f"{name} paints in another thread; call it by Inpainter or within bridged, which wait for their turn, "
                f"or take another pipeline object of the same parts: {name}(**pipe.components)"
            )
        if self._in_call:
            raise RuntimeError(f"{name} is called within a call of its own, in which a sampler runs; finish that first")
        if self._pipe.scheduler is not self.stand_in:
            raise RuntimeError(
                f"the scheduler of {name} was exchanged while a sampler stands in for it; exchange it before"
            )
        if is_modular(self._pipe):
            check_all_times(self._pipe, kwargs)
            self._steps, self._generator = None, kwargs.get("generator")
            self._weights, self._beside = [], ""
        else:
            args, kwargs = self._arguments(original, args, kwargs)
        self._in_call, self._by_sight, self._part = True, False, None
        self._has_companion = self._guides = False
        replaced = self._regional_guiders() if self._known_scale is not None else {}
        own = {name: getattr(self._pipe, name) for name in replaced}
        try:
            for part, guider in replaced.items():
                object.__setattr__(self._pipe, part, guider)
            with told_once():
                states = generator_states(self._generator)
                try:
                    output = original(self._pipe, *args, **kwargs)
                except _OtherStartError:  # the first latents are not those that were prepared: read them when stepped
                    self._by_sight = True
                    restore(states)
                    output = original(self._pipe, *args, **kwargs)
            self.check_end()
            return output
        finally:
            for part, guider in own.items():
                object.__setattr__(self._pipe, part, guider)
            self._release()  # the pipeline may have kept a weight
            self._in_call, self._first, self.loop, self.state = False, None, None, None
            self.close()

    def _arguments(
        self, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            bound = inspect.signature(original).bind(self._pipe, *args, **kwargs)
        except TypeError:  # the pipeline tells it better
            return args, kwargs
        given, parameters = bound.arguments, bound.signature.parameters
        check_all_times(self._pipe, given)
        self._steps, self._generator = None, given.get("generator")
        if "num_inference_steps" in parameters:
            steps = given.get("num_inference_steps", parameters["num_inference_steps"].default)
            if isinstance(steps, int) and not isinstance(steps, bool):
                given["num_inference_steps"] = self._steps = Steps(steps)
        self._weigh(given, parameters)
        callback = given.get("callback_on_step_end")
        if callback is not None:
            tensors = "callback_on_step_end_tensor_inputs"
            if hasattr(callback, "tensor_inputs") and tensors in parameters:  # as pipelines do with such a callback
                given[tensors] = callback.tensor_inputs
            given["callback_on_step_end"] = OuterStepCallback(
                callback, lambda: self.outer_steps, self._count_outer_steps, self._check_interrupt
            )
        return bound.args[1:], bound.kwargs

    def _weigh(self, given: dict[str, Any], parameters: Mapping[str, inspect.Parameter]) -> None:
        """Put in the place of each weight of guidance one that can be left out of an evaluation."""
        self._weights, self._beside = [], ""
        for name in WEIGHTS:
            weight: Any = given.get(name, parameters[name].default) if name in parameters else None
            plain = isinstance(weight, (int, float)) and not isinstance(weight, bool) and math.isfinite(weight)
            if plain and not isinstance(weight, RegionalScale):
                weight = given[name] = RegionalScale(weight, conditional=conditional_weight(self._pipe, name))
            if isinstance(weight, RegionalScale) and not any(weight is regional for regional in self._regional):
                self._weights.append(weight)
        self._beside = next((name for name in BESIDE if given.get(name)), "")

    def _release(self) -> None:
        for weight in self._weights:
            weight.release()

    def _count_outer_steps(self) -> int:
        assert self._run is not None
        return sum(1 for _ in self._run.sampler.plan.visits(self._run.first_step))

    def _check_interrupt(self) -> None:
        """End an interrupted run with the model's best guess, before the pipeline reads its latents."""
        run = self._run
        if run is None or not run.is_waiting or not getattr(self._pipe, "interrupt", False):
            return
        made, declared = run.evaluations, run.declared
        if run.give_best_guess():
            warnings.warn(
                f"{type(self._pipe).__name__} was interrupted after {made} of {declared} evaluations: the result is "
                "the model's best guess at that point",
                stacklevel=2,
            )

    def _goes_on(self, number: int) -> bool:
        self._check_interrupt()
        return self._run is None or self._run.sample is None

    # What the pipeline calls

    def plan_run(self, scheduler: Any) -> Run:
        """A run of a scheduler that has been set to its times."""
        if is_modular(self._pipe):
            sighting = not any(loops(self._pipe._blocks))
        else:
            sighting = self._by_sight or not hasattr(self._pipe, "prepare_latents")  # first seen in the first step
        by_step = is_modular(self._pipe) and not sighting
        return Run(scheduler, self._factory, self._solver, sighting and not self._nothing_known, by_step)

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        """Plan a run, and show the pipeline its times."""
        self.close()
        self._release()
        scheduler = copy.deepcopy(self.scheduler)
        args = tuple(int(value) if isinstance(value, Steps) else value for value in args)
        kwargs = {name: int(value) if isinstance(value, Steps) else value for name, value in kwargs.items()}
        scheduler.set_timesteps(*args, **kwargs)
        self._run = run = self.plan_run(scheduler)
        if self._steps is not None:
            self._steps.evaluations = run.declared
        vars(self.stand_in).update(_copied(scheduler))
        if not is_modular(self._pipe) or run.sighting:  # else blocks prepare something for each step first
            run.show(self.stand_in, self._goes_on)
        self._begin()

    def prepare_latents(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Let the pipeline draw its first latents, and put the sampler's first evaluation in their place."""
        if self._by_sight or (self._run is not None and self._run.is_waiting):  # or of something else, in mid-run
            return original(*args, **kwargs)
        generator = inspect.signature(original).bind(*args, **kwargs).arguments.get("generator")
        noise = self._noise or apart_from(generator, self._pipe)
        result = original(*args, **kwargs)
        several = isinstance(result, (tuple, list))
        latents = result[0] if several else result
        handed = latents.clone()  # is written to; ``latents`` are the sampler's start, and may be the caller's own
        self._first = latents, handed, noise
        self._begin()
        return type(result)((handed, *result[1:])) if several else handed

    def enter_loop(self, loop: Any, state: Any) -> None:
        """Put the sampler's first evaluation in place of the latents with which a modular pipeline's loop starts."""
        run, latents, name = self._run, state.get("latents"), type(self._pipe).__name__
        if run is None or not isinstance(latents, Tensor):
            raise ValueError(
                f"the loop of {name} makes its latents or its times itself, in parts of a whole perhaps, where no "
                "sampler can run in it"
            )
        if run.has_begun:
            raise ValueError(f"{name} has a second loop at the times of the first, in which no sampler can run")
        if not torch.equal(torch.as_tensor(state.get("timesteps")).cpu(), run.scheduler.timesteps.cpu()):
            raise ValueError(
                f"{name} leaves out some of the times of its scheduler; a sampler needs all of them: use it without a "
                "picture of its own, a strength or a denoising_end"
            )
        self.loop, self.state = loop, copy.copy(state)
        self.state.values = dict(state.values)
        run.show(self.stand_in, self._goes_on)
        state.set("timesteps", self.stand_in.timesteps)
        state.set("latents", self.prepare_latents(lambda generator: latents, state.get("generator")))

    def run_loop(self, loop: Any, state: Any) -> tuple[Any, Any]:
        """Run the loop of a modular pipeline, whose scheduler is set to its times, with the sampler in it."""
        pipe = self._pipe
        self._run = self.plan_run(copy.deepcopy(self.scheduler))
        vars(self.stand_in).update(_copied(self.scheduler))
        own = with_host(loop, self)
        object.__setattr__(pipe, "scheduler", self.stand_in)
        try:
            stepped: tuple[Any, Any] = own(pipe, state)
            self.check_end()
            return stepped
        finally:
            object.__setattr__(pipe, "scheduler", self.scheduler)
            self.loop = self.state = None
            self.close()
            vars(self.stand_in).clear()  # its methods lead back to the bridge

    def loop_step(
        self, original: Callable[..., Any], components: Any, state: Any, numbers: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Call the sub-blocks of a loop with the number of the step.

        What a pipeline prepares for each of its steps, such as a table of guidance weights, is found by that number,
        not by the number of the evaluation.
        """
        assert self._run is not None
        if "i" in numbers:
            numbers, state.timesteps = {**numbers, "i": self._run.present_place}, self._run.scheduler.timesteps
        with contextlib.nullcontext() if self._run.guided else without_guidance(components, state):
            stepped: tuple[Any, Any] = original(components, state, **numbers)
        return stepped

    def _begin(self) -> None:
        """Start the sampler when times and latents are there; a pipeline may make them in either order."""
        run = self._run
        if run is None or run.has_begun or self._first is None:
            return
        (latents, handed, noise), self._first = self._first, None
        run.has_companion = self._has_companion
        run.take_over_end()
        handed.copy_(run.begin(latents, self._known, noise))
        run.latents = handed
        self._hold_known(run)

    def _hold_known(self, run: Run) -> None:
        for weight in (*self._regional, *self._weights):
            if run.known is not None:
                weight.hold(run.known, functools.partial(getattr, weakref.proxy(run), "guided"))

    def scale_model_input(self, sample: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Scale the network's input as the scheduler would at the level of the evaluation."""
        assert self._run is not None
        return self._run.scale(sample)

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Take the network's output to the sampler; returns what it wants to be evaluated next."""
        run, name = self._run, type(self._pipe).__name__
        if run is None:
            raise RuntimeError(f"{name} steps its scheduler without set_timesteps")
        given = StepArguments(self.scheduler, args, kwargs)
        if self._gives_denoised and DENOISED not in given.options:
            self.stand_in._step_index = 1  # the pipeline takes this call back by subtracting 1
            return run.converted(given.sample, given.output)
        if run.sample is None and not run.asks_for(given.time):
            self._tell_time(run, as_number(given.time))
        run.evaluations += 1
        if self._tick is not None:
            self._tick(1)
        run.step_options = given.options
        used = [regional.was_used() for regional in self._regional]
        self._guides = any(weight.was_used() for weight in self._weights) or any(used) or self._guides
        if not run.guided:
            self._check_unguided()
        elif used and not any(used):
            raise ValueError(
                f"{name} does not guide this evaluation where another weight can be given to the known part: it needs "
                "classifier-free guidance that is on in all steps (a scale that is large enough, a negative prompt for "
                "some); leave known_guidance_scale out, or use a network adapter (lanpaint.adapters.networks)"
            )
        if run.latents is not None and run.folding.fold(run.latents).numel() != given.sample.numel():
            self._part = Part.of(run.latents, given.sample) if run.evaluations == 1 else None
            if self._part is None:
                raise self._by_parts(run.latents.shape, given.sample.shape)
            if not self._nothing_known:
                raise _OtherStartError
            run.restart()
        if run.has_begun and run.sample is None and not run.expects(given.sample):
            if run.latents is not None and given.sample.shape != run.folding.fold(run.latents).shape:
                raise self._by_parts(run.latents.shape, given.sample.shape)
            if run.evaluations > 1 or self._by_sight:
                raise ValueError(
                    f"{name}, or a callback given to it, changed its latents between two evaluations, and only the "
                    "sampler may: leave that callback out, or take a pipeline of its model that leaves its latents to "
                    "its scheduler"
                )
            if not self._nothing_known:
                raise _OtherStartError
            run.restart()
        if not run.has_begun:
            noise = self._noise or apart_from(given.options.get("generator") or self._generator, self._pipe)
            run.folding = Folding.of_halves(given.sample, given.output)
            sample, output = run.folding.unfold(given.sample), run.folding.unfold(given.output)
            if self._part is not None and not self._part.is_of(given.sample):
                raise self._by_parts(self._part.latents, given.sample.shape)
            known = self._known if self._part is None else self._part.of_known(self._known)
            run.has_companion = self._has_companion
            latents = run.sight(sample, output, known, noise)
            self._hold_known(run)
            return given.result(run.folding.fold(latents))
        if run.sample is not None:
            return given.result(run.folding.fold(run.sample))
        run.dtype = given.sample.dtype  # some cast what they have prepared
        return given.result(run.folding.fold(run.resume(run.folding.unfold(given.output))))

    def _check_unguided(self) -> None:
        """Raise ValueError when the pipeline may have guided an evaluation that the sampler wants without guidance."""
        name, on = type(self._pipe).__name__, getattr(self._pipe, "do_classifier_free_guidance", False)
        told = f"the sampler asks {name} for predictions without guidance"
        if self._beside:
            raise ValueError(f"{told}, and with {self._beside} it always guides; leave {self._beside} out")
        if self._weights and not self._guides and on is True:
            raise ValueError(f"{told}, and it guides in a way of its own; call it without guidance (a scale of 1)")

    def _by_parts(self, latents: torch.Size, stepped: torch.Size) -> ValueError:
        if latents[1:] == stepped[1:]:
            return ValueError(
                f"{type(self._pipe).__name__} steps its scheduler several times for one evaluation, with "
                f"{stepped[0]} latents for {latents[0]}, and a sampler steps once; use a later one of its family"
            )
        whole, part = ("×".join(map(str, shape[1:])) for shape in (latents, stepped))
        return ValueError(
            f"{type(self._pipe).__name__} prepares latents of {whole} and steps {part}: by parts, one after the other "
            "perhaps; a sampler needs all of them at once: use a text-to-image or text-to-video pipeline of its family "
            "(its class has from_pipe(pipe)); a picture that it begins with can be a known frame of a video"
        )

    def _tell_time(self, run: Run, time: float) -> None:
        name = type(self._pipe).__name__
        if run.evaluations == 0:
            raise ValueError(
                f"{name} begins at time {time:g}, not at the first of its scheduler, {run.present_time:g}; "
                "a sampler needs all of them: use a text-to-image or text-to-video pipeline, without a strength or a "
                "denoising_end"
            )
        raise ValueError(
            f"{name} evaluates at time {time:g} and the sampler asks for {run.present_time:g}: it has copied the times "
            "of its scheduler beforehand; take a sampler that keeps to the evaluations of its plan"
        )

    def copied(self, memo: dict[int, Any]) -> Any:
        """A deep copy of the stand-in, which steps something else beside the latents."""

        def is_outer(number: int) -> bool:
            run = self._run
            if run is not None and run.first_step:
                raise ValueError(
                    f"{type(self._pipe).__name__} samples something beside its latents, sound perhaps, and begins with "
                    "the latents; leave strength out, or give a mask with white in it"
                )
            return run is None or run.is_outer(number)

        self._has_companion = True
        scheduler = self.scheduler if self._run is None else self._run.scheduler
        companion = Companion(scheduler, self.plan_run, is_outer, self._check_latents_first).make_stand_in()
        if self._run is not None:
            for name in ("timesteps", "sigmas"):
                if hasattr(self.stand_in, name):
                    setattr(companion, name, copy.deepcopy(getattr(self.stand_in, name)))
        return companion

    def _check_latents_first(self) -> None:
        """Raise ValueError when a copy of the scheduler is stepped before the scheduler itself."""
        run = self._run
        if run is not None and run.is_waiting and not run.evaluations:
            raise ValueError(
                f"{type(self._pipe).__name__} steps each part of its latents, its frames perhaps, with a copy of its "
                "scheduler, and a sampler needs all of them at once; use a text-to-video pipeline of its family that "
                "steps them together (its class has from_pipe(pipe))"
            )

    def progress_bar(
        self, original: Callable[..., Any], iterable: Any = None, total: Any = None, **options: Any
    ) -> Any:
        """The pipeline's own bar, which counts evaluations."""
        if iterable is not None or self._run is None:
            return original(iterable=iterable, total=total, **options)
        bar = original(total=self.planned, **options)
        self._tick, bar.update = bar.update, lambda *_: None  # the pipeline's own ticks leave out some
        return bar

    # The end

    def check_end(self) -> None:
        """Raise RuntimeError when the pipeline has come to its end and the sampler has not."""
        run, name = self._run, type(self._pipe).__name__
        if run is not None and run.is_waiting and not run.evaluations:
            raise RuntimeError(
                f"{name} never calls its scheduler's step: it samples in a way of its own, where no sampler can run; "
                "take a pipeline of its model that steps its latents by its scheduler"
            )
        if run is not None and run.is_waiting:
            raise RuntimeError(
                f"{name} ended after {run.evaluations} of {run.declared} evaluations, and the "
                "sampler is not at its end; it must go through all times of its scheduler"
            )

    def close(self) -> None:
        """End what runs."""
        self._tick = None
        if self._run is not None:
            self._run.close()


def _copied(scheduler: Any) -> dict[str, Any]:
    """The attributes of a scheduler; those that it may change are copies."""
    return {
        name: value if isinstance(value, Tensor) else copy.deepcopy(value) for name, value in vars(scheduler).items()
    }


@contextlib.contextmanager
def bridged(
    pipe: Any,
    sampler: SamplerFactory,
    observation: KnownPart = None,
    *,
    solver: Solver | None = None,
    generator: Generators = None,
    noise: NoiseSource | None = None,
) -> Iterator[Bridge]:
    """Have a diffusers pipeline sample with a sampler of this library, in every call of it within the block.

    The pipeline is the same object afterwards, whatever happens in the block. Another thread that wants a sampler in
    the same pipeline waits until the block has ended. ``callback_on_step_end`` is called after each outer step, with
    ``pipe.num_timesteps`` their number. :class:`~lanpaint.Inpainter` does all that goes with images and masks.

    The known part takes another weight of classifier-free guidance when the pipeline is called with
    ``guidance_scale=bridge.guidance(7.5, 0.0)``; see :mod:`lanpaint.adapters.guidance`.

    Args:
        pipe: Any text-to-image or text-to-video pipeline, modular or not, or an unconditional one, that samples by its
            ``scheduler``.
        sampler: The sampler's class, or a function that makes one: called as ``sampler(score, solver=…, steps=…)``, or
            ``sampler(score, levels=…)`` for one that takes no solver. It must ask for no gradient, and for no more
            evaluations than its plan declares. ``functools.partial(LanPaint, inner_steps=3)`` has options.
        observation: What is known of the latents, in the pipeline's own layout, of batch 1 or one per prompt; or a
            function that is given the pipeline's first latents and returns that. None when nothing is.
        solver: Another outer step than that of the pipeline's scheduler, whose levels are kept.
        generator: The sampler's own random numbers. By default they are determined by the generator that the pipeline
            is called with, and take no number from it.
        noise: Instead of a generator, any source of standard normal numbers.

    Raises:
        ImportError: Without greenlet.
        RuntimeError: Within a block of the same pipeline in the same thread.
        TypeError: For a pipeline without a scheduler, or a sampler that is no sampler.
        ValueError: For a scheduler that is not understood; within the block, for arguments by which the pipeline leaves
            out some of its times, a sampler that needs gradients or more evaluations than it declares, and an
            observation of another shape than the latents.

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
    if not callable(getattr(getattr(pipe, "scheduler", None), "set_timesteps", None)):
        what = pipe.__name__ if isinstance(pipe, type) else type(pipe).__name__
        raise TypeError(f"pipe must be a pipeline of diffusers with a scheduler to stand in for, got {what}")
    greenlet_module()
    source = noise or (None if generator is None else NormalNoise(generator))
    with turn(pipe):
        bridge = Bridge(pipe, sampler, observation, source, solver)
        changed: dict[str, Any] = {"scheduler": bridge.stand_in, CALLED_BY: bridge}
        for name in ("prepare_latents", "progress_bar"):
            if callable(getattr(pipe, name, None)):
                changed[name] = functools.wraps(getattr(pipe, name))(
                    functools.partial(getattr(bridge, name), getattr(pipe, name))
                )
        if is_modular(pipe):
            changed["_blocks"] = with_host(pipe._blocks, bridge)
        kind: Any = type(pipe)
        before = {name: vars(pipe)[name] for name in changed if name in vars(pipe)}
        try:
            for name, value in changed.items():
                object.__setattr__(pipe, name, value)  # past the pipeline's own, which would write to its config
            object.__setattr__(pipe, "__class__", called_class(kind))
            yield bridge
        finally:
            object.__setattr__(pipe, "__class__", kind)
            for name in changed:
                if name in before:
                    object.__setattr__(pipe, name, before[name])
                else:
                    vars(pipe).pop(name, None)
            bridge.close()
            vars(bridge.stand_in).clear()  # its methods lead back to the bridge
            changed.clear()

"""One call of a pipeline: the sampler that runs in it, and what passes between the two."""

from __future__ import annotations

import copy
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lanpaint.adapters.bridge.conversation import Conversation
from lanpaint.adapters.bridge.folding import Folding
from lanpaint.adapters.bridge.solver import Evaluation, PipelineSolver
from lanpaint.adapters.bridge.times import LiveTimes, Place, Places
from lanpaint.adapters.reading import evaluation_times, input_scale, is_inner, prediction_of, view_of
from lanpaint.adapters.schedulers import begin, same_noise
from lanpaint.callbacks import Callback, RunningSampler
from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.observation import Observation
from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers import Sampler
from lanpaint.score import Score
from lanpaint.solvers import Solver

SamplerFactory = Callable[..., Sampler]
KnownPart = Observation | Callable[[Tensor], Observation] | None


DENOISED = "pred_original_sample"
"""Argument of a scheduler's step that takes x̂₀ from a pipeline that guides that, in place of the model's output."""


class PipelineScore(Score):
    """The score that a pipeline computes between two steps of its scheduler: guidance and all else included.

    It answers only while the pipeline runs, with one level for the whole batch, and has no gradient.
    """

    def __init__(self, run: Run, guided: bool = True) -> None:
        self._run = weakref.proxy(run)
        self._guided = guided
        self._needs_signal = view_of(run.scheduler) == "epsilon"
        self._is_flow = view_of(run.scheduler) == "flow"

    @property
    def unguided(self) -> PipelineScore:
        """The same without classifier-free guidance: the network with the prompt alone."""
        other = PipelineScore.__new__(PipelineScore)
        other._run, other._guided = self._run, False
        other._needs_signal, other._is_flow = self._needs_signal, self._is_flow
        return other

    @property
    def is_flow(self) -> bool:
        """Whether the scheduler is one of rectified flow."""
        return self._is_flow

    @property
    def needs_signal(self) -> bool:
        """True for ε-prediction."""
        return self._needs_signal

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """One evaluation, made by the pipeline."""
        if torch.is_grad_enabled() and x.requires_grad:
            raise ValueError(
                "a pipeline gives no gradient of its score; for samplers that need one use a network adapter "
                "(lanpaint.adapters.networks), or a sampler that needs none, such as LanPaint"
            )
        prediction: Prediction = self._run.evaluate(x, level, self._guided)
        return prediction


class _Counter(Callback):
    """Counts the outer steps of a run, and notes what is held in each."""

    def __init__(self, run: Run) -> None:
        self._run = weakref.proxy(run)

    def on_level_start(self, sampler: RunningSampler, state: SamplerState) -> None:
        self._run.observation = state.observation

    def on_level_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        self._run.outer_steps += 1


class Run:
    """One call of the pipeline.

    Args:
        scheduler: A copy of the pipeline's scheduler, set to its times.
        factory: What makes the sampler.
        solver: Another solver than the pipeline's scheduler, or None.
        sighting: Whether the pipeline makes one more evaluation, at its own first latents, which it does not show
            before.
        by_step: Whether the pipeline finds σ by the number of the step, not by that of the evaluation.

    Attributes:
        sampler: The sampler.
        declared: Evaluations that the pipeline is shown.
        evaluations: Evaluations made.
        outer_steps: Outer steps made.
        first_step: Number of the first outer step; 0 before the start.
        latents: The latents that the pipeline holds.
        known: Where what is known lies in the latents, boolean; None before the start.
        guided: Whether the sampler asks for the evaluation that runs with guidance.
        sample: The sampler's result, in the pipeline's dtype; None until then.
        folding: The form in which the pipeline steps its latents.
        has_companion: Whether the pipeline samples something beside its latents, which begins with noise.
    """

    def __init__(
        self,
        scheduler: Any,
        factory: SamplerFactory,
        solver: Solver | None = None,
        sighting: bool = False,
        by_step: bool = False,
    ) -> None:
        self.scheduler, self.sighting, self._by_step = scheduler, sighting, by_step
        self.position: tuple[Any, int] = (scheduler, 0)
        self.step_options: dict[str, Any] = {}
        self.in_outer_step = False
        self.guided = True
        self.evaluations = self.outer_steps = self.first_step = 0
        self._outer: list[bool] = []
        self._fractions: dict[int, float] = {}
        self._sigmas: Tensor | None = None
        self.known: Tensor | None = None
        self.latents: Tensor | None = None
        self.sample: Tensor | None = None
        self.folding = Folding()
        self.has_companion = False
        self._conversation: Conversation | None = None
        self._unmoved: tuple[Tensor, Tensor] | None = None
        self._last: Prediction | None = None
        self._asked = 0
        self.places = Places(scheduler)
        self.stage_levels = self.places.levels
        self.sampler = self._make(factory, solver)
        self.position = (scheduler, 0)  # the check of the scheduler has moved it
        stages = None
        if isinstance(self.sampler.solver, PipelineSolver):
            starts = [index for index in range(len(self.places.times)) if not is_inner(scheduler, index)]
            ends = [*starts[1:], len(self.places.times)]
            stages = [list(range(start, end)) for start, end in zip(starts, ends, strict=True)]
        else:
            _note_outer_steps(self.sampler, self)
        self._stages = stages
        self._declared = self.places.declared(self.sampler.plan, stages)
        if not self._declared:
            raise ValueError(f"{type(self.sampler).__name__} declares no evaluations; there is nothing to do")
        self._present = self._declared[0]
        if sighting:
            self._declared = [self._declared[0], *self._declared]
        self.sampler.callbacks.append(_Counter(self))

    @property
    def declared(self) -> int:  # noqa: D102
        return len(self._declared)

    def asks_for(self, time: Any) -> bool:
        """Whether the pipeline has evaluated at the time that it was asked for.

        The pipeline's time is read at the first evaluation, and where the run has left its plan: a time on an
        accelerator would be waited for.
        """
        declared = self._declared[min(self.evaluations, len(self._declared) - 1)]
        if self.evaluations and self._present.time == declared.time:
            return True
        return abs(as_number(time) - self.present_time) < 1e-3

    @property
    def present_time(self) -> float:
        """The time of the evaluation that the pipeline is asked for."""
        return self._present.time

    @property
    def present_place(self) -> int:
        """The place in the scheduler's list of times that is nearest to the evaluation that is asked for."""
        return self._present.nearest

    def is_outer(self, number: int) -> bool:
        """Whether the evaluation of this number, from 0, belongs to an outer step."""
        number -= self.sighting
        return 0 <= number < len(self._outer) and self._outer[number]

    def _make(self, factory: SamplerFactory, solver: Solver | None) -> Sampler:
        outer = PipelineSolver(self.scheduler, self)
        levels = outer.levels(0)
        score = PipelineScore(self)
        if solver is not None:
            sampler = factory(score, solver=solver, levels=levels)
        else:
            try:
                sampler = factory(score, solver=outer, steps=len(levels) - 1)
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
        return sampler

    # What the pipeline is shown

    def show(self, stand_in: Any, goes_on: Callable[[int], bool]) -> None:
        """Write the times of all evaluations into what the pipeline holds, and their σ where the scheduler has them.

        ``goes_on`` is asked before each evaluation but the first whether there is one.
        """
        scheduler, nearest = self.scheduler, [place.nearest for place in self._declared]
        own = evaluation_times(scheduler)
        if all(place.index is not None for place in self._declared):
            self._times = own[nearest]
        else:
            dtype = own.dtype if own.is_floating_point() else torch.float32
            self._times = torch.tensor([place.time for place in self._declared], dtype=dtype, device=own.device)
        end = scheduler.timesteps[len(own) :]  # the time of clean data, which pipelines skip
        if len(end):
            shown = torch.cat([self._times, end])
            self._times = shown[: len(self._times)]
        else:
            shown = self._times
        stand_in.timesteps = LiveTimes.made(shown, goes_on, self._fractions)
        sigmas = getattr(scheduler, "sigmas", None)
        self._sigmas = None
        if isinstance(sigmas, Tensor) and len(sigmas) > len(own) and not self._by_step:  # some pipelines read them
            self._sigmas = stand_in.sigmas = torch.cat([_ending_apart(scheduler, sigmas[nearest]), sigmas[-1:]])

    def take_over_end(self) -> None:
        """Step to the last σ that the pipeline has written in place of the scheduler's own, if it has."""
        if self._sigmas is not None:
            self.scheduler.sigmas[-1:].copy_(self._sigmas[-1:])

    def _announce(self, place: Place) -> None:
        """Put the next evaluation's time where the pipeline is going to look for it."""
        number = self.evaluations
        declared = self._declared[number] if number < len(self._declared) else None
        if declared is not None and place is not declared and place.time != declared.time:
            self._write(number, place)

    def _write(self, number: int, place: Place) -> None:
        """Write the time of a place into what the pipeline holds."""
        self._times[number] = place.time
        if not self._times.is_floating_point() and place.index is None:
            self._fractions[number] = place.time
        if self._sigmas is not None:
            self._sigmas[number] = self.scheduler.sigmas[place.nearest]

    def _leave_out(self, first: int) -> None:
        """Take back the evaluations of the outer steps before number ``first``, in which all is held."""
        shown = self._declared[: self.sighting]
        self._declared = [*shown, *self.places.declared(self.sampler.plan, self._stages, first)]
        self._present = self._declared[self.sighting]
        for number in range(self.sighting, len(self._declared)):
            self._write(number, self._declared[number])

    # Running

    @property
    def has_begun(self) -> bool:
        """Whether the sampler runs, or has run."""
        return self._conversation is not None

    @property
    def is_waiting(self) -> bool:
        """Whether the sampler waits for an evaluation."""
        return self._conversation is not None and self._conversation.is_waiting

    def begin(self, latents: Tensor, known: KnownPart, noise: NoiseSource) -> Tensor:
        """Start the sampler at the pipeline's first latents; returns those of its first evaluation."""
        return self._hand_over(self._begin(latents, known, noise))

    def _begin(self, latents: Tensor, known: KnownPart, noise: NoiseSource) -> Tensor | None:
        start = latents if latents.dtype == torch.float64 else latents.float()
        observation = fit(known(latents) if callable(known) else known, start)
        if self.has_companion:
            observation = observation.from_first_level()
        steps = self.sampler.steps
        held = observation.held(steps - 1, steps)  # to the end
        self.dtype, self.known = latents.dtype, held.known.expand(observation.shape)
        self.stepped(start, latents)
        sampler, self.observation, self.first_step = self.sampler, observation, observation.first_step(steps)
        if self.first_step:
            self._leave_out(self.first_step)
        self._conversation = Conversation(lambda: sampler(observation, start=start, noise=noise))
        asked: Tensor | None = self._conversation.begin()
        return asked

    def sight(self, latents: Tensor, output: Tensor, known: KnownPart, noise: NoiseSource) -> Tensor:
        """The same for a pipeline that has evaluated its first latents already.

        Where the sampler begins with just that evaluation, ``output`` is its answer.
        """
        first = self._present
        asked = self._begin(latents, known, noise)
        if asked is not None and self._present is first and self.guided and torch.equal(asked, latents):
            if self.sighting:  # that evaluation is the sampler's first
                self.sighting = False
                del self._declared[0]
                for number, place in enumerate(self._declared):
                    self._write(number, place)
            return self.resume(output)
        return self._hand_over(asked)

    def restart(self) -> None:
        """Undo the start, for the sampler to begin with other latents."""
        assert self._conversation is not None
        self._conversation.close()
        self._conversation = self.latents = None
        self._asked, self._present = 0, self._declared[0]
        self._outer.clear()

    def resume(self, output: Tensor) -> Tensor:
        """Give the sampler what the network says of the latents; returns the next ones for the pipeline."""
        assert self._conversation is not None
        return self._hand_over(self._conversation.answer(output))

    def _hand_over(self, asked: Tensor | None) -> Tensor:
        if asked is None:
            assert self._conversation is not None
            self.sample = asked = self._conversation.result.to(self.dtype)
        else:
            self._announce(self._present)
        self.latents = asked
        return asked

    def evaluate(self, x: Tensor, level: NoiseLevel, guided: bool = True) -> Prediction:
        """The sampler's side: give x to the pipeline, wait for what its network says."""
        conversation = self._conversation
        if conversation is None:
            raise RuntimeError("this score answers only to the sampler that runs inside the pipeline")
        self._asked += 1
        plan = self.sampler.plan
        if self._asked > plan.evaluations:
            raise ValueError(
                f"{type(self.sampler).__name__} asks for evaluation {self._asked} of its score and declares "
                f"{plan.evaluations}; evaluations() of its dynamics or solver, or its plan, must tell how many it makes"
            )
        self._present = place = self.places.of(level)
        self.guided = guided
        self._outer.append(self.in_outer_step)
        if not isinstance(self.sampler.solver, PipelineSolver):  # whose evaluations are not the scheduler's stages
            self.in_outer_step = False  # the first one stands for all of a step
        if self._unmoved is not None and self._unmoved[0] is x and place.factor == 1:
            latents = self._unmoved[1]
        else:
            latents = (x if place.factor == 1 else x * place.factor).to(self.dtype)
        output = conversation.ask(latents)
        denoised = self.step_options.get(DENOISED)
        if denoised is None:
            views = prediction_of(self.scheduler, output.to(x.dtype), x, level)
        else:
            views = Prediction(x, level, denoised=denoised.to(x.dtype))
        evaluation = Evaluation(views, output, latents)
        if guided or self._last is None:
            self._last = evaluation
        return evaluation

    def stepped(self, x: Tensor, latents: Tensor) -> None:
        """Note that x is the sampler's copy of these latents, which no one has moved."""
        latents = latents.to(self.dtype)  # a scheduler may return others, of which the pipeline makes its own
        self._unmoved = (x, latents) if x.dtype != latents.dtype else None

    def is_unmoved(self, x: Tensor, latents: Tensor) -> bool:
        """Whether x is what the latents of an evaluation were, before they were cast."""
        return self._unmoved is not None and self._unmoved[0] is x and self._unmoved[1] is latents

    def scale(self, sample: Tensor) -> Tensor:
        """What the scheduler does to the network's input, at the level of the present evaluation."""
        place, (scheduler, index) = self._present, self.position
        levels = self.places.levels
        if place.index is not None and index < len(levels) and same_noise(levels[index], place.level):
            scaled: Tensor = scheduler.scale_model_input(sample, scheduler.timesteps[index])
            return scaled
        scale = input_scale(self.scheduler, place.level)
        return sample if scale == 1 else sample * scale

    def converted(self, sample: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
        """What the scheduler's step makes of a model's output at the level of the present evaluation; steps nothing.

        Returns:
            The state after the step, and x̂₀.
        """
        scheduler = copy.deepcopy(self.scheduler)
        begin(scheduler, self._present.nearest)
        time = scheduler.timesteps[self._present.nearest]
        stepped: tuple[Tensor, Tensor] = scheduler.step(output, time, sample, return_dict=False)
        return stepped

    def expects(self, sample: Tensor) -> bool:
        """Whether the pipeline's latents are those that it was given; usually the very tensor."""
        latents = self.latents
        assert latents is not None
        if sample is latents:
            return True
        folded = self.folding.fold(latents)
        if folded.shape == sample.shape and torch.equal(folded.to(sample), sample):
            return True
        folding = Folding.of(latents, sample)
        self.folding = folding or self.folding
        return folding is not None

    def give_best_guess(self) -> bool:
        """End the run with x̂₀ of the last evaluation in the latents that the pipeline holds; False before the first."""
        if self._last is None or self.latents is None or self._conversation is None:
            return False
        held, denoised = self.observation, self._last.denoised
        every = len(held.values) // len(denoised)  # particles of a sample that share what is known, or 1
        guess = held.rows(slice(None, None, every)).finish(denoised)
        self._conversation.close()
        self.latents.copy_(guess)
        self.sample = self.latents
        return True

    def close(self) -> None:
        """End the sampler where it stands, if it has not come to its end."""
        if self._conversation is not None:
            self._conversation.close()
        self._last = self._unmoved = None


def _ending_apart(scheduler: Any, sigmas: Tensor) -> Tensor:
    """The σ of all evaluations; those of one level differ in their last digits where the network is told the next one.

    The network of a flow map is told where a step ends, and a step that ends where it begins is left out. A step to a
    σ next to its own has the velocity that the score needs.
    """
    if "r_timestep" not in inspect.signature(type(scheduler).step).parameters:
        return sigmas
    apart = sigmas.clone()
    for number in range(1, len(apart)):
        if sigmas[number] == sigmas[number - 1]:
            apart[number] = apart[number - 1] * (1 - 8 * torch.finfo(apart.dtype).eps)
    return apart


def as_number(time: Any) -> float:
    """The time that a pipeline gives to its scheduler's step; some give one per sample."""
    return float(time.reshape(-1)[0] if isinstance(time, Tensor) else time)


def _note_outer_steps(sampler: Sampler, run: Run) -> None:
    """Tell the run of the outer steps of a sampler that makes them without the pipeline's scheduler."""
    advance, made, told = type(sampler).advance, weakref.ref(sampler), weakref.proxy(run)

    def noted(state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        told.in_outer_step, stepping = True, made()
        assert stepping is not None
        state = advance(stepping, state, visit, noise)
        told.in_outer_step = False
        return state

    vars(sampler)["advance"] = noted


def fit(observation: Observation | None, latents: Tensor) -> Observation:
    """The observation for the batch of the pipeline, in its place: ``latents`` has the shape, dtype and device."""
    if observation is None:
        return Observation.none(latents.shape, latents.dtype, str(latents.device))
    if not isinstance(observation, Observation):
        raise TypeError(
            "observation must be an Observation, or a function of the latents that gives one, "
            f"got {type(observation).__name__}"
        )
    if observation.shape[1:] != latents.shape[1:] or len(latents) % len(observation.values):
        raise ValueError(
            f"the observation has shape {tuple(observation.shape)} and the pipeline's latents {tuple(latents.shape)}; "
            "give one, or one per prompt, in the layout of the pipeline's latents and for the same height and width"
        )
    repeats = len(latents) // len(observation.values)
    values = observation.values.to(latents).repeat_interleave(repeats, 0)
    known = observation.known.expand_as(observation.values).repeat_interleave(repeats, 0)
    change = observation.change
    if change is not None:
        change = _compact(change.expand_as(observation.values).repeat_interleave(repeats, 0)).to(latents.device)
    noise = observation.rearranged_noise(lambda each: _compact(each.repeat_interleave(repeats, 0)))
    return observation.like(values, _compact(known).to(latents.device), change, noise)


def _compact(mask: Tensor) -> Tensor:
    """A mask with one entry in place of a dimension along which it does not vary: channels, above all.

    What a dynamics computes for known and unknown part takes the shape of the mask.
    """
    for dimension in range(mask.ndim):
        one = mask.narrow(dimension, 0, 1)
        if torch.equal(one.expand_as(mask), mask):
            mask = one
    return mask

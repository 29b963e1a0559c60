"""What a pipeline holds in place of its scheduler: an object of the same class, whose calls go elsewhere."""

from __future__ import annotations

import copy
import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from lanpaint.adapters.bridge.run import Run
from lanpaint.adapters.schedulers import REMEMBERED

_REDIRECTED = ("set_timesteps", "scale_model_input", "step")


class Receiver(Protocol):
    """Where the calls of a stand-in go."""

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        """Plan a run."""

    def scale_model_input(self, sample: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The network's input."""

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """Take the network's output; returns what is evaluated next."""

    def copied(self, memo: dict[int, Any]) -> Any:
        """A deep copy of the stand-in."""


def make_stand_in(scheduler: Any, receiver: Receiver) -> Any:
    """An object of the class of ``scheduler``, with its attributes and signatures, whose calls go to the receiver."""
    kind: Any = type(scheduler)
    stand_in = object.__new__(kind)
    vars(stand_in).update(vars(copy.deepcopy(scheduler)))
    for name in _REDIRECTED:
        if hasattr(kind, name):
            vars(stand_in)[name] = _redirected(getattr(scheduler, name), getattr(receiver, name))
    copied = receiver.copied
    vars(stand_in)["__deepcopy__"] = lambda memo: copied(memo)  # a method would take the receiver along into copies
    return stand_in


def _redirected(original: Callable[..., Any], method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)  # pipelines ask for the signature
    def redirected(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return redirected


class StepArguments:
    """What a pipeline gives to its scheduler's step.

    Args:
        scheduler: The scheduler.
        args: As the pipeline gives them.
        kwargs: Likewise.

    Attributes:
        output: The network's output.
        time: The time of the evaluation.
        sample: The latents that were evaluated.
        options: All other arguments, for the scheduler's own step.
    """

    def __init__(self, scheduler: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = _signature(scheduler.__class__).bind(scheduler, *args, **kwargs).arguments
        for name in REMEMBERED:  # by the pipeline, of its own steps
            given.pop(name, None)
        _, self.output, self.time, self.sample = (given.pop(name) for name in list(given)[:4])
        self._return_dict = given.pop("return_dict", True)
        self.options: dict[str, Any] = given

    def result(self, latents: Tensor) -> Any:
        """The latents in the form in which the pipeline wants them."""
        if not self._return_dict:
            return (latents, latents)
        from diffusers.schedulers.scheduling_utils import SchedulerOutput

        return SchedulerOutput(prev_sample=latents)


@functools.cache
def _signature(kind: Any) -> inspect.Signature:
    return inspect.signature(kind.step)


class Companion:
    """The receiver of a deep copy of a stand-in, by which a pipeline steps something else beside its latents.

    Sound beside a video, say: it is at the level of the latents all the time. So it is stepped by the scheduler in the
    sampler's outer steps, and stays as it is in the inner ones.

    Args:
        scheduler: The pipeline's scheduler.
        plan_run: Makes a run of a scheduler that has been set to its times.
        is_outer: Whether the evaluation of a number belongs to an outer step.
        before_step: Called before each step.
    """

    def __init__(
        self,
        scheduler: Any,
        plan_run: Callable[[Any], Run],
        is_outer: Callable[[int], bool],
        before_step: Callable[[], None],
    ) -> None:
        self._scheduler, self._plan_run = copy.deepcopy(scheduler), plan_run
        self._is_outer, self._before_step = is_outer, before_step
        self._calls = self._steps = 0
        self._stand_in: Callable[[], Any] = lambda: None

    def make_stand_in(self) -> Any:
        """What the pipeline holds of it; the companion lives as long as that does."""
        stand_in = make_stand_in(self._scheduler, self)
        self._stand_in = weakref.ref(stand_in)
        return stand_in

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        """Set the scheduler to its times, and show one for each evaluation."""
        self._scheduler.set_timesteps(*args, **kwargs)
        self._calls = self._steps = 0
        stand_in = self._stand_in()
        vars(stand_in).update(vars(copy.deepcopy(self._scheduler)))
        self._plan_run(copy.deepcopy(self._scheduler)).show(stand_in, lambda number: True)

    def scale_model_input(self, sample: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As the scheduler does at its present step."""
        times = self._scheduler.timesteps
        scaled: Tensor = self._scheduler.scale_model_input(sample, times[min(self._steps, len(times) - 1)])
        return scaled

    def step(self, *args: Any, **kwargs: Any) -> Any:
        """The scheduler's step after an evaluation of an outer step; after another the sample stays as it is."""
        self._before_step()
        given = StepArguments(self._scheduler, args, kwargs)
        number, self._calls = self._calls, self._calls + 1
        if not self._is_outer(number):
            return given.result(given.sample)
        if self._steps == len(self._scheduler.timesteps):
            raise ValueError(
                "the pipeline samples something beside its latents, sound perhaps, with a copy of its scheduler, which "
                "cannot travel back in time as the sampler does; take a sampler that visits each level once"
            )
        time, self._steps = self._scheduler.timesteps[self._steps], self._steps + 1
        stepped = self._scheduler.step(given.output, time, given.sample, return_dict=False, **given.options)[0]
        return given.result(stepped)

    def copied(self, memo: dict[int, Any]) -> Any:
        """Another companion."""
        return Companion(self._scheduler, self._plan_run, self._is_outer, self._before_step).make_stand_in()

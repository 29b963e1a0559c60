"""The network of a modular pipeline as a score with a gradient, by the blocks of its loop.

The pipeline runs until its loop is about to make its first step: prompts are encoded, and all that the loop needs is in
its state. After that the sub-blocks of the loop are called one evaluation at a time, from outside, until they give the
network's output to the scheduler. So guidance, a ControlNet and whatever else is in the loop belong to the score.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lanpaint.adapters.bridge.stand_in import StepArguments, make_stand_in
from lanpaint.adapters.guidance import RegionalScale, Unguided
from lanpaint.adapters.modular.blocks import guiders, inputs, told_once, with_host, without_guidance


class _Reached(BaseException):
    """The loop is about to make its first step. No Exception, which blocks report before they pass it on."""

    def __init__(self, loop: Any, state: Any, numbers: dict[str, Any]) -> None:
        super().__init__()
        self.loop, self.state, self.numbers = loop, state, numbers


class _Stepped(BaseException):
    """The scheduler was given the network's output."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


class _Door:
    """The host that stops a loop at its first step."""

    loop: Any = None

    def enter_loop(self, loop: Any, state: Any) -> None:
        self.loop = loop

    def loop_step(
        self, original: Callable[..., Any], components: Any, state: Any, numbers: dict[str, Any]
    ) -> tuple[Any, Any]:
        raise _Reached(self.loop, state, numbers)

    def progress_bar(self, original: Callable[..., Any], iterable: Any = None, total: Any = None) -> Any:
        return contextlib.nullcontext(iterable)


class _Catcher:
    """The receiver of a stand-in that takes the network's output, and leaves its input as it is."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        self._scheduler.set_timesteps(*args, **kwargs)

    def scale_model_input(self, sample: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return sample

    def step(self, *args: Any, **kwargs: Any) -> Any:
        raise _Stepped(StepArguments(self._scheduler, args, kwargs).output)

    def copied(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self._scheduler, memo)


class LoopNetwork(nn.Module):
    """The blocks of a modular pipeline's loop as a function of (x, time). The networks are submodules.

    Args:
        pipe: The pipeline. It is not changed.
        call: The arguments of its call: the prompt, the size, ….
        clock: From the schedule's time to the pipeline's.
        known_scale: Weight of classifier-free guidance at the known part; None for the weight of the guider.
        known: The known part, boolean, broadcastable to x; for ``known_scale``.

    Raises:
        ValueError: For a pipeline without a loop of blocks, and for an argument that it does not take.
    """

    def __init__(
        self,
        pipe: Any,
        call: dict[str, Any],
        clock: Callable[[Tensor], Tensor],
        known_scale: float | None = None,
        known: Tensor | None = None,
    ) -> None:
        super().__init__()
        takes, name = inputs(pipe), type(pipe).__name__
        unknown = set(call) - (set(takes) - {"output"})
        if unknown:
            raise ValueError(f"{name} does not take {', '.join(sorted(unknown))}; it takes {', '.join(sorted(takes))}")
        self._pipe, self._call, self._clock, self._known = pipe, call, clock, known
        self._per_prompt = next((name for name in takes if name.endswith("_per_prompt")), None)
        self._prepared: dict[int, tuple[Any, Any, Any, dict[str, Any]]] = {}
        self._scales: list[RegionalScale] = []
        self._known_scale = known_scale
        loop, self._rows = self._prepare(1)[1], 1
        self._rows = len(self._prepared[1][2].latents)
        parts = {spec.name: getattr(pipe, spec.name, None) for spec in loop.expected_components}
        self.networks = nn.ModuleDict({name: part for name, part in parts.items() if isinstance(part, nn.Module)})
        self._dtype = next((part.dtype for part in self.networks.parameters() if part.is_floating_point()), None)

    def _prepare(self, repeats: int) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Components, loop, state and numbers of the first step, for so many pictures of each prompt."""
        if repeats not in self._prepared:
            pipe, door = copy.copy(self._pipe), _Door()
            vars(pipe)["_blocks"] = with_host(self._pipe._blocks, door)
            vars(pipe)["scheduler"] = copy.deepcopy(self._pipe.scheduler)
            for name, guider in guiders(self._pipe).items():
                vars(pipe)[name] = own = copy.copy(guider)
                if self._known_scale is not None:
                    own.guidance_scale = RegionalScale(own.guidance_scale, self._known_scale)
                    self._scales.append(own.guidance_scale)
            call = {**self._call} if self._per_prompt is None else {**self._call, self._per_prompt: repeats}
            try:
                with told_once():
                    pipe(**call)
            except _Reached as reached:
                loop, state, numbers = reached.loop, reached.state, reached.numbers
            else:
                raise ValueError(
                    f"{type(pipe).__name__} has no loop whose blocks can be called one by one; use "
                    "bridged or Inpainter, which need no gradient"
                )
            _check_one_state(type(pipe).__name__, state)
            vars(pipe)["scheduler"] = make_stand_in(pipe.scheduler, _Catcher(pipe.scheduler))
            self._prepared[repeats] = pipe, loop, state, numbers
        return self._prepared[repeats]

    @property
    def unguided(self) -> Unguided:
        """The same without guidance."""
        return Unguided(self)

    def forward(self, x: Tensor, time: Tensor, guided: bool = True) -> Tensor:
        """The network's output with guidance, (B, …), at x, (B, …), and at the schedule's time, (B,)."""
        if len(x) % self._rows or (self._per_prompt is None and len(x) != self._rows):
            raise ValueError(
                f"x has {len(x)} rows and there are {self._rows} prompts; give the same number of rows for each prompt"
            )
        pipe, loop, prepared, numbers = self._prepare(len(x) // self._rows)
        state = self._like(prepared, x)
        times = self._clock(time)
        values = set(times.tolist())
        present = times[0] if len(values) == 1 else times
        steps = [abs(float(step) - min(values)) for step in prepared.timesteps.tolist()]
        state.latents = x
        for scale in self._scales:
            assert self._known is not None
            scale.hold(self._known.to(x.device).expand(x.shape))
        try:
            with contextlib.nullcontext() if guided else without_guidance(pipe, state):
                for block in loop.sub_blocks.values():
                    call: Any = inspect.unwrap(type(block).__call__)  # past torch.no_grad
                    pipe, state = call(block, pipe, state, **{**numbers, "i": steps.index(min(steps)), "t": present})
        except _Stepped as stepped:
            output = stepped.output
        else:
            raise ValueError(f"the loop of {type(pipe).__name__} gives its scheduler no output of a network")
        return output.chunk(2, dim=1)[0] if output.shape[1] == 2 * x.shape[1] else output  # without a learned variance

    def _like(self, state: Any, x: Tensor) -> Any:
        """A copy of the loop's state whose tensors are on the device of x, and of its dtype where networks have it."""

        def like(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.to(x.device, x.dtype if value.dtype == self._dtype else value.dtype)
            if isinstance(value, dict):
                return {name: like(part) for name, part in value.items()}
            if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
                return type(value)(like(part) for part in value)
            return x.dtype if isinstance(value, torch.dtype) and value == self._dtype else value

        return type(state)(**{name: like(value) for name, value in state.as_dict().items()})


def _check_one_state(name: str, state: Any) -> None:
    """Raise ValueError for the state of a loop that denoises something else than one tensor of latents."""
    if not isinstance(getattr(state, "latents", None), Tensor) or not hasattr(state, "timesteps"):
        raise ValueError(
            f"the loop of {name} makes its latents or its times itself, in parts of a whole perhaps; it is no score of "
            "one state"
        )
    if any(hasattr(value, "set_timesteps") for value in state.as_dict().values()):
        raise ValueError(
            f"{name} samples something beside its latents, sound perhaps, which has a level in a run only; use bridged "
            "or Inpainter"
        )

"""What a modular pipeline takes, where its denoising loop is, and what comes after it.

A modular pipeline is a tree of blocks. Each reads from and writes to one state, a dictionary of named values. Some
blocks choose one of their sub-blocks by what is in the state. The denoising loop is a block too: it calls its
sub-blocks once for each time.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

HOST = "_lanpaint_host"
"""Attribute of a loop under which its class finds its host."""


class Host(Protocol):
    """What is done as a loop goes on."""

    def enter_loop(self, loop: Any, state: Any) -> None:
        """Before the loop starts; the state may be changed."""

    def loop_step(
        self, original: Callable[..., Any], components: Any, state: Any, numbers: dict[str, Any]
    ) -> tuple[Any, Any]:
        """Call the sub-blocks, ``original(components, state, **numbers)``."""

    def progress_bar(self, original: Callable[..., Any], iterable: Any = None, total: Any = None) -> Any:
        """The bar of the loop."""


def is_modular(pipe: Any) -> bool:
    """Whether a pipeline is put together of blocks."""
    return hasattr(pipe, "_blocks") and hasattr(type(pipe), "blocks")


def is_loop(block: Any) -> bool:
    """Whether a block calls its sub-blocks once for each time."""
    return hasattr(block, "loop_step")


@contextlib.contextmanager
def told_once() -> Iterator[None]:
    """Within the context, an error in a block is raised and not written to the log as well, by each block around it."""
    log = logging.getLogger("diffusers.modular_pipelines.modular_pipeline")
    log.addFilter(_is_news)
    try:
        yield
    finally:
        log.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().lstrip().startswith("Error in block")


def inputs(pipe: Any) -> dict[str, Any]:
    """The arguments of a modular pipeline's call and their defaults, without the mask of its own inpainting."""
    declared = {declared.name: declared.default for declared in pipe._blocks.inputs if declared.name}
    declared.pop("mask_image", None)
    return {**declared, "output": None}


def guiders(pipe: Any) -> dict[str, Any]:
    """The components of a modular pipeline that guide by a weight, by name."""
    parts = pipe.components
    return {
        name: part
        for name, part in parts.items()
        if hasattr(part, "prepare_inputs") and hasattr(part, "guidance_scale")
    }


_WEIGHT_OF_LOOP = {"Ideogram4": "gw"}
"""Loops that guide without a guider, and the name of the weight in their state, which is 1 without guidance."""


@contextlib.contextmanager
def without_guidance(pipe: Any, state: Any) -> Iterator[None]:
    """Within the context, the sub-blocks of a loop make the prediction with the prompt alone.

    Guiders of all kinds are switched off, so that nothing else is evaluated, and their own state stays as it is.

    Raises:
        ValueError: For a guider that has no switch.
    """
    held = {name: part for name, part in pipe.components.items() if hasattr(part, "prepare_inputs")}
    weight = next((name for kind, name in _WEIGHT_OF_LOOP.items() if type(pipe).__name__.startswith(kind)), "")
    guidance = getattr(state, weight, None)
    try:
        for name, guider in held.items():
            if not callable(getattr(guider, "disable", None)):
                raise ValueError(
                    f"the sampler asks {type(pipe).__name__} for predictions without guidance, and its {name} "
                    f"({type(guider).__name__}) has no disable(); take a guider of diffusers"
                )
            off = copy.copy(guider)
            off.disable()
            object.__setattr__(pipe, name, off)
        if guidance is not None:
            setattr(state, weight, torch.ones_like(guidance))
        yield
    finally:
        for name, guider in held.items():
            object.__setattr__(pipe, name, guider)
        if guidance is not None:
            setattr(state, weight, guidance)


def loops(block: Any) -> Iterator[Any]:
    """The denoising loops in a tree of blocks."""
    if is_loop(block):
        yield block
    else:
        for part in block.sub_blocks.values():
            yield from loops(part)


def after(block: Any, loop: Any) -> list[Any]:
    """The blocks of a tree that run after a loop of it, in order."""
    if block is loop:
        return []
    parts = list(block.sub_blocks.values())
    place = next(place for place, part in enumerate(parts) if any(one is loop for one in loops(part)))
    chooses = hasattr(block, "select_block")
    return [*after(parts[place], loop), *([] if chooses else parts[place + 1 :])]


def with_host(blocks: Any, host: Host) -> Any:
    """A copy of a tree of blocks whose loops ask a host."""
    copied = copy.deepcopy(blocks)
    for loop in loops(copied):
        vars(loop)[HOST] = host
        kind: Any = type(loop)
        loop.__class__ = _hosted_class(kind)
    return copied


@functools.cache
def _hosted_class(kind: Any) -> type:
    @functools.wraps(kind.__call__)
    def call(self: Any, components: Any, state: Any) -> Any:
        vars(self)[HOST].enter_loop(self, state)
        return kind.__call__(self, components, state)

    def loop_step(self: Any, components: Any, state: Any, **numbers: Any) -> Any:
        return vars(self)[HOST].loop_step(functools.partial(kind.loop_step, self), components, state, numbers)

    def progress_bar(self: Any, iterable: Any = None, total: Any = None) -> Any:
        return vars(self)[HOST].progress_bar(functools.partial(kind.progress_bar, self), iterable, total)

    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    methods = {"__call__": call, "loop_step": loop_step, "progress_bar": progress_bar}
    return type(kind.__name__, (kind,), names | methods)


class _Caught(BaseException):
    """What a decoder was given. No Exception, which blocks report before they pass it on."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.given = given


def decoder_input(pipe: Any, blocks: list[Any], state: Any, latents: Tensor) -> Tensor:
    """What the blocks after the loop give to the first decoder that they call, for some latents.

    Nothing is decoded, and the state and its generators are left as they are.

    Raises:
        ValueError: When they call no decoder.
    """
    tried = copy.copy(state)
    tried.values = {name: _cloned(value) for name, value in state.values.items()}
    tried.values |= {"latents": latents, "output_type": "pt"}
    decoders = [part for part in pipe.components.values() if callable(getattr(part, "decode", None))]
    decoders = [part for part in decoders if isinstance(part, torch.nn.Module)]

    def catch(given: Tensor, *args: Any, **kwargs: Any) -> None:
        raise _Caught(given)

    before = [vars(part).get("decode") for part in decoders]
    try:
        for part in decoders:
            vars(part)["decode"] = catch
        with torch.random.fork_rng(), torch.no_grad():
            for block in blocks:
                pipe, tried = block(pipe, tried)
    except _Caught as caught:
        return caught.given
    finally:
        for part, own in zip(decoders, before, strict=True):
            if own is None:
                vars(part).pop("decode", None)
            else:
                vars(part)["decode"] = own
    raise ValueError(
        f"{type(pipe).__name__} calls no decoder after its loop, so where a picture lies in its latents is not known; "
        "give bridged an observation of its latents"
    )


def _cloned(value: Any) -> Any:
    if isinstance(value, torch.Generator):
        clone = torch.Generator(value.device)
        clone.set_state(value.get_state())
        return clone
    return [_cloned(one) for one in value] if isinstance(value, list) else value

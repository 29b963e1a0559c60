"""Random numbers that follow from those of a pipeline, and take none of them."""

from __future__ import annotations

from typing import Any

import torch

from lanpaint.randomness import NormalNoise


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
    """A generator that is seeded by the next number of another, which keeps that number."""
    device = generator.device
    twin = torch.Generator(device)
    twin.set_state(generator.get_state())
    seed = torch.randint(2**62, (), generator=twin, device=device)
    return torch.Generator(device).manual_seed(int(seed))


def generator_states(generators: Any) -> list[tuple[torch.Generator, torch.Tensor]]:
    """The states of a pipeline's generators and of the global one, for :func:`restore`."""
    several = generators if isinstance(generators, (list, tuple)) else [generators]
    used = [one for one in several if isinstance(one, torch.Generator)]
    return [(one, one.get_state()) for one in (*used, torch.default_generator)]


def restore(states: list[tuple[torch.Generator, torch.Tensor]]) -> None:
    """Set generators back to their states."""
    for generator, state in states:
        generator.set_state(state)

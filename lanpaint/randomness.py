"""Random numbers: explicit generators, one for the batch or one per sample.

A *noise source* is a function of a tensor that returns standard normal numbers of the tensor's shape. Samplers and
dynamics take all random numbers from a noise source, so a test can supply numbers of its choice.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from lanpaint.checks import shown
from lanpaint.device import move_like

NoiseSource = Callable[[Tensor], Tensor]
Generators = torch.Generator | Iterable[torch.Generator] | None


class NormalNoise:
    """Standard normal numbers from explicit generators; the global generator is never touched.

    Args:
        generator: One generator for the batch, or a sequence of generators, one per sample. With one per sample, a
            sample's numbers do not depend on the other samples of the batch. Numbers are drawn on the generator's
            device and then moved, so a CPU generator gives the same numbers on every device. With None, a new generator
            is made on the state's device and seeded from the system's entropy.

    Raises:
        TypeError: When ``generator`` is neither a generator, nor a sequence of generators, nor None.
    """

    def __init__(self, generator: Generators = None) -> None:
        if generator is not None and not isinstance(generator, torch.Generator):
            generators = list(generator) if isinstance(generator, Iterable) else [generator]
            if not generators or not all(isinstance(g, torch.Generator) for g in generators):
                raise TypeError(
                    "generator must be a torch.Generator or one per sample, "
                    f"got {shown(generator)}; lanpaint.seeded(seeds) makes them"
                )
            generator = generators
        self.generator = generator

    def __call__(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape, dtype and device of ``like``, whose first dimension is the batch.

        Raises:
            ValueError: When a sequence of generators was given and its length is not the batch size.
        """
        if self.generator is None:
            self.generator = torch.Generator(like.device)
            self.generator.seed()
        if isinstance(self.generator, torch.Generator):
            return move_like(self._draw(like.shape, like.dtype, self.generator), like)
        if len(self.generator) != like.shape[0]:
            raise ValueError(
                f"got {len(self.generator)} generators for a batch of {like.shape[0]}; give one per sample"
            )
        rows = [self._draw(like.shape[1:], like.dtype, generator) for generator in self.generator]
        if len({row.device for row in rows}) > 1:
            rows = [move_like(row, like) for row in rows]
        return move_like(torch.stack(rows), like)

    @staticmethod
    def _draw(shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        """Standard normal numbers on the generator's device."""
        return torch.randn(shape, generator=generator, dtype=dtype, device=generator.device)


def checked_noise(source: NoiseSource) -> NoiseSource:
    """A source of noise whose answers are checked: ``source`` itself if it is a :class:`NormalNoise`.

    Raises:
        TypeError: When ``source`` is no function.
    """
    if isinstance(source, NormalNoise):
        return source
    if isinstance(source, type) or not callable(source):
        raise TypeError(f"noise must be a function of x, as NormalNoise(generator) is, got {shown(source)}")
    return _CheckedNoise(source)


class _CheckedNoise:
    def __init__(self, source: NoiseSource) -> None:
        self.source = source

    @property
    def generator(self) -> Any:
        """The generator of the source, if it has one: a scheduler of diffusers draws from it."""
        return getattr(self.source, "generator", None)

    def __call__(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape and dtype of ``like``.

        Raises:
            ValueError: When the source gives something else.
        """
        numbers = self.source(like)
        if isinstance(numbers, Tensor) and numbers.shape == like.shape and numbers.device == like.device:
            if numbers.dtype == like.dtype:
                return numbers
            if numbers.is_floating_point():
                return numbers.to(like.dtype)
        what = type(numbers).__name__
        if isinstance(numbers, Tensor):
            what = f"{tuple(numbers.shape)}, {numbers.dtype}, {numbers.device}"
        raise ValueError(
            f"noise must return floating-point numbers of its argument's shape and device, {tuple(like.shape)}, "
            f"{like.device}; got {what}"
        )


def seeded(seeds: Sequence[int], device: str = "cpu") -> list[torch.Generator]:
    """One generator per seed, so that each sample of a batch has random numbers that depend on its seed alone."""
    try:
        numbers = [operator.index(seed) for seed in seeds]
        torch.device(device)
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f"seeds must be whole numbers, one for each sample, of a device of PyTorch, got {shown(seeds)}, {device!r}"
        ) from error
    for number in numbers:
        if not 0 <= number < 2**32:
            raise ValueError(f"a seed must be from 0 to 2^32 − 1, since more bits would not count, got {number}")
    return [torch.Generator(device).manual_seed(number) for number in numbers]

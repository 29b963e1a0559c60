"""Random numbers: explicit generators, one for the batch or one per sample.

A *noise source* is a function that returns standard normal numbers shaped as the tensor it is given. Everything random
enters a sampler or a dynamics through one, so a test can put its own numbers there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

NoiseSource = Callable[[Tensor], Tensor]
Generators = torch.Generator | Sequence[torch.Generator] | None


class NormalNoise:
    """Standard normal numbers from explicit generators; the global generator is never touched.

    Args:
        generator: One generator for the batch, or a sequence of one per sample, in which case a sample's numbers do not
            depend on the batch it rides in. None seeds a fresh generator from the system's entropy. Numbers are drawn
            on the generator's device and moved, so a CPU generator gives the same numbers on every device.
    """

    def __init__(self, generator: Generators = None) -> None:
        if generator is None:
            generator = torch.Generator()
            generator.seed()
        if not isinstance(generator, torch.Generator):
            generator = list(generator)
            if not generator or not all(isinstance(g, torch.Generator) for g in generator):
                raise TypeError("generator must be a torch.Generator or a sequence of them, one per sample")
        self.generator = generator

    def __call__(self, like: Tensor) -> Tensor:
        """Standard normal numbers of the shape, dtype and device of ``like``, whose first dimension is the batch.

        Raises:
            ValueError: When there is one generator per sample and their number is not the batch size.
        """
        if isinstance(self.generator, torch.Generator):
            return self._draw(like, self.generator)
        if len(self.generator) != like.shape[0]:
            raise ValueError(
                f"got {len(self.generator)} generators for a batch of {like.shape[0]}; give one per sample"
            )
        return torch.stack([self._draw(row, g) for row, g in zip(like, self.generator, strict=True)])

    @staticmethod
    def _draw(like: Tensor, generator: torch.Generator) -> Tensor:
        drawn = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device)
        return drawn.to(like.device)


def seeded(seeds: Sequence[int], device: str = "cpu") -> list[torch.Generator]:
    """One generator per seed, for a batch whose samples do not depend on each other."""
    return [torch.Generator(device).manual_seed(int(seed)) for seed in seeds]

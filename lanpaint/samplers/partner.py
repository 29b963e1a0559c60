"""The partner trajectory X_t of SyncSDE and ALM: the known content at each noise level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.noise import NoiseLevel, Prediction, reciprocal
from lanpaint.observation import Observation
from lanpaint.randomness import NoiseSource
from lanpaint.samplers.sampler import Memory
from lanpaint.score import Score

Partner = Literal["inversion", "fixed", "fresh"]


@dataclass(frozen=True)
class PartnerMemory(Memory):
    """What SyncSDE and ALM remember.

    Attributes:
        partner: X_t at the present level, shape of x; only its known entries are used.
        ahead: X_{t−1} if it was made already; else None.
        fixed: The noise of all X_t, shape of x, for forward diffusion with fixed noise; else None.
        inverted: X_t at each of the S + 1 levels, for DDIM inversion; else empty.
        reused: The prediction at Y_t before its last update; None if Eq. 2 evaluates the model anew.
    """

    partner: Tensor | None = None
    ahead: Tensor | None = None
    fixed: Tensor | None = None
    inverted: tuple[Tensor, ...] = ()
    reused: Prediction | None = None


def check_weight(name: str, weight: float) -> None:
    """Raise TypeError or ValueError unless a weight is a finite number of at least 0."""
    check_real(name, weight)
    if not 0 <= weight < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0, got {weight}")


def content(memory: PartnerMemory, known: Observation, level: NoiseLevel, step: int, noise: NoiseSource) -> Tensor:
    """X_t at the level before outer step number ``step``: inverted, or diffused forward with fixed or fresh noise."""
    if memory.inverted:
        return memory.inverted[step]
    return known.diffused(level, noise(known.values) if memory.fixed is None else memory.fixed)


def invert(score: Score, source: Tensor, levels: Sequence[NoiseLevel]) -> tuple[Tensor, ...]:
    """DDIM inversion of a clean source: X at each of the levels, the noisiest first (ALM, Sec. 4.2).

    Each step evaluates the model at the level that it goes to, as the model knows no ε at σ = 0.
    """
    x, trajectory = source, [source]
    for level, noisier in zip(reversed(levels[1:]), reversed(levels[:-1]), strict=True):
        here, there = level.to(x), noisier.to(x)
        factor = ((there.alpha**2 + there.sigma**2) / (here.alpha**2 + here.sigma**2)).sqrt()
        epsilon = score.predict(x * factor, noisier).epsilon
        x = noisier.perturb((x - here.sigma * epsilon) * reciprocal(here.alpha), epsilon)
        trajectory.append(x)
    return tuple(reversed(trajectory))

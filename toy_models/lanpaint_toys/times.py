"""Times to train a time-map network at: a time for each pixel, drawn in one of several ways (AsyncPatch, Fig. 2).

A map of times says how noisy each pixel is: 0 is clean, and 1 is pure noise. The paper's Appendix C names three
properties of a way to draw maps: the **spatial scale** over which pixels share a time, the **mean** over the picture,
and the **spread**, the largest time minus the smallest.

    SynchronousTimes    one uniform time for all pixels        what an ordinary network is trained at
    IndependentTimes    a uniform time for each pixel          mean near 1/2, spread near 1, scale 1
    PatchTimes          a uniform time for each patch          mean near 1/2 unless patches are large
    AsyncPatchTimes     a uniform mean, then patches around    mean uniform, spread from 0 to 1, every scale
    PerlinTimes         one time in a blob, 0 or 1 elsewhere   what inpainting sees
    PathTimes           the paths of the likelihood bound      the weights of Eq. 48 are in the law of the times

Each is a small frozen object with `draw`. The global generator of PyTorch is used if none is given.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint_toys.evaluation import spread_positions

Size = tuple[int, int]

WEIGHTINGS = ("velocity", "elbo")
"""Names of the weightings of `pixel_weights`."""

_LEAST = 1e-3  # the least time whose ELBO weight is used: (1 − t)/t grows without bound as t falls to 0


class Times(ABC):
    """A way to draw maps of times."""

    @abstractmethod
    def draw(self, count: int, size: Size, generator: torch.Generator | None = None) -> Tensor:
        """Return maps ``(count, 1, height, width)``, float32, of times in [0, 1].

        Args:
            count: Number of maps.
            size: Height and width.
            generator: Source of the random numbers; by default PyTorch's global generator.
        """

    def draw_weighted(self, count: int, size: Size, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return maps as `draw`, and a weight for the loss of each pixel, both ``(count, 1, height, width)``."""
        times = self.draw(count, size, generator)
        return times, torch.ones_like(times)


@dataclass(frozen=True)
class SynchronousTimes(Times):
    """One uniform time for all pixels, as for an ordinary network."""

    def draw(self, count: int, size: Size, generator: torch.Generator | None = None) -> Tensor:
        """Return maps as `Times.draw`."""
        return spread_positions(count, generator).view(-1, 1, 1, 1).repeat(1, 1, *size)


@dataclass(frozen=True)
class IndependentTimes(Times):
    """A uniform time for each pixel."""

    def draw(self, count: int, size: Size, generator: torch.Generator | None = None) -> Tensor:
        """Return maps as `Times.draw`."""
        return torch.rand(count, 1, *size, generator=generator)


@dataclass(frozen=True)
class PatchTimes(Times):
    """A uniform time for each patch of a grid (Fig. 2, patchwise sampling).

    Attributes:
        scales: Sides of a patch in pixels, of which each map draws one uniformly. Empty for all powers of two from one
            pixel up to a patch that covers the picture. The grid is shifted by random offsets, so the patches at its
            edges are smaller.
    """

    scales: tuple[int, ...] = ()

    def draw(self, count: int, size: Size, generator: torch.Generator | None = None) -> Tensor:
        """Return maps as `Times.draw`."""
        return _patches(count, size, self.scales, generator)


@dataclass(frozen=True)
class AsyncPatchTimes(Times):
    """A mean time for the picture, then a uniform time for each patch in the largest symmetric interval around it.

    The mean m is uniform in [low, high]. A patch has a uniform time in [m − δ, m + δ] with δ = min(m − low, high − m)
    (Fig. 2, AsyncPatch sampling; its bound δ ≤ 1/2 holds by itself). So m is the expected mean of the map. With few
    patches its actual mean scatters around m, by δ/√(3 K) for K patches of equal size.

    Attributes:
        low: Smallest time.
        high: Largest time.
        scales: As in `PatchTimes`.
    """

    low: float = 0.0
    high: float = 1.0
    scales: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"times must be 0 ≤ low < high ≤ 1, got low {self.low} and high {self.high}")

    def draw(self, count: int, size: Size, generator: torch.Generator | None = None) -> Tensor:
        """Return maps as `Times.draw`."""
        mean = self.low + (self.high - self.low) * spread_positions(count, generator).view(-1, 1, 1, 1)
        delta = torch.minimum(mean - self.low, self.high - mean).clamp(min=0)
        uniform = _patches(count, size, self.scales, generator)
        return (mean + delta * (2 * uniform - 1)).clamp(self.low, self.high)


@dataclass(frozen=True)
class PerlinTimes(Times):
    """One uniform time in the blobs of a Perlin mask; elsewhere all clean or all noise (Fig. 2, Perlin sampling; RAD).

    The paper writes U(0, 1) in bold for the time in the mask, and does not say whether its pixels share it. Here they
    do, as in inpainting.

    Attributes:
        cells: Distances of the gradients of the Perlin noise in pixels, of which each map draws one uniformly. Empty
            for all powers of two from 4 up to the picture's longer side.
        clean: Probability that the background is clean (time 0) and not noise (time 1). The paper writes B(0, 1).

    The share of the picture in the mask is uniform in [0, 1].
    """

    cells: tuple[int, ...] = ()
    clean: float = 0.5

    def draw(self, count: int, size: Size, generator: torch.Generator | None = None) -> Tensor:
        """Return maps as `Times.draw`."""
        cells = self.cells or tuple(scale for scale in _powers(size) if scale >= 4) or (max(size),)
        chosen = torch.randint(len(cells), (count,), generator=generator).tolist()
        noise = torch.stack([perlin_noise(size, cells[number], generator) for number in chosen])
        share = torch.rand(count, 1, 1, generator=generator)
        rank = noise.flatten(1).argsort(1).argsort(1).view_as(noise) / noise[0].numel()
        time = spread_positions(count, generator)[torch.randperm(count, generator=generator)].view(-1, 1, 1)
        background = (torch.rand(count, 1, 1, generator=generator) >= self.clean).float()
        return torch.where(rank < share, time, background)[:, None]


@dataclass(frozen=True)
class PathTimes(Times):
    """Points of the random monotone paths over which the paper's likelihood bound averages (App. B, Eq. 28 and 33).

    On a path, patch j has the time t_j = 1 − exp(−a_j s), with a rate a_j ~ Exp(1) and s from 0 to infinity. The bound
    integrates the loss of each patch over its own time along the path. Here s is drawn with the density 1/(1 + s)². So
    the weight of a patch is dt_j/ds (1 + s)² = a_j exp(−a_j s) (1 + s)², which has the mean 1 at each s.

    With the weights of Eq. 48 in place of these paths, the estimator would have a variance that is of no use: they
    have a factor 1/(Σ h)^N for N patches.

    Attributes:
        scales: As in `PatchTimes`.
    """

    scales: tuple[int, ...] = ()

    def draw(self, count: int, size: Size, generator: torch.Generator | None = None) -> Tensor:
        """Return maps as `Times.draw`."""
        return self.draw_weighted(count, size, generator)[0]

    def draw_weighted(self, count: int, size: Size, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return maps and weights as `Times.draw_weighted`."""
        rates = -torch.log1p(-_patches(count, size, self.scales, generator))
        place = spread_positions(count, generator).view(-1, 1, 1, 1).clamp(max=1 - 1e-6)
        s = place / (1 - place)
        return -torch.expm1(-rates * s), rates * torch.exp(-rates * s) * (1 + s) ** 2


@dataclass(frozen=True)
class MixedTimes(Times):
    """Each map is drawn in one of several ways.

    Attributes:
        parts: The ways.
        shares: Probability of each way.
    """

    parts: tuple[Times, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.parts) != len(self.shares) or not self.parts or abs(sum(self.shares) - 1) > 1e-9:
            raise ValueError(f"shares must be one for each of {len(self.parts)} parts and sum to 1, got {self.shares}")

    def draw(self, count: int, size: Size, generator: torch.Generator | None = None) -> Tensor:
        """Return maps as `Times.draw`."""
        return self.draw_weighted(count, size, generator)[0]

    def draw_weighted(self, count: int, size: Size, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return maps and weights as `Times.draw_weighted`."""
        chosen = torch.multinomial(torch.tensor(self.shares), count, replacement=True, generator=generator)
        times, weights = torch.empty(count, 1, *size), torch.empty(count, 1, *size)
        for number, part in enumerate(self.parts):
            rows = chosen == number
            if bool(rows.any()):
                times[rows], weights[rows] = part.draw_weighted(int(rows.sum()), size, generator)
        return times, weights


TIMES: dict[str, Times] = {
    "synchronous": SynchronousTimes(),
    "independent": IndependentTimes(),
    "perlin": PerlinTimes(),
    "patchwise": PatchTimes(),
    "asyncpatch": AsyncPatchTimes(),
    "path": PathTimes(),
    "mixed": MixedTimes((AsyncPatchTimes(), PerlinTimes()), (0.5, 0.5)),
}
"""Name → way to draw times, for the command line of `lanpaint_toys.train`."""


def pixel_weights(times: Tensor, weighting: str) -> Tensor:
    """Return the weight of the squared error e² of the velocity at each time, shape of `times`.

    ``"velocity"`` is 1. ``"elbo"`` is (1 − t)/t: −½ d(SNR)/dt times the squared error of x_0, with SNR = (1 − t)²/t²,
    as the likelihood bound of one time has it (Eq. 10). With `PathTimes` the loss is then the bound of Theorem 1, up to
    a constant, and with a smaller weight at times below 0.001.

    Args:
        times: Times from 0 to 1.
        weighting: One of `WEIGHTINGS`.

    Raises:
        ValueError: For another weighting.
    """
    if weighting == "velocity":
        return torch.ones_like(times)
    if weighting == "elbo":
        return (1 - times) / times.clamp(min=_LEAST)
    raise ValueError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")


def mean_and_spread(times: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of each map and its spread, both ``(count,)`` (App. C)."""
    flat = times.flatten(1)
    return flat.mean(1), flat.amax(1) - flat.amin(1)


def scale_of(times: Tensor) -> Tensor:
    """Return a spatial scale of each map, ``(count,)``, in pixels: 1/share of neighbours whose times differ.

    A neighbour is the pixel to the right or the pixel below. For a grid of patches of side p it is close to p. A map
    with one time has an infinite scale.
    """
    across, down = times.diff(dim=-1) != 0, times.diff(dim=-2) != 0
    return 1 / torch.cat([across.flatten(1), down.flatten(1)], 1).float().mean(1)


def perlin_noise(size: Size, cell: int, generator: torch.Generator | None = None) -> Tensor:
    """Return Perlin's gradient noise ``(height, width)`` (Perlin, 1985), at a random offset within its cell.

    Args:
        size: Height and width.
        cell: Distance of the gradients in pixels.
        generator: Source of the random numbers.
    """
    height, width = size
    rows, columns = height // cell + 3, width // cell + 3
    angle = 2 * math.pi * torch.rand(rows, columns, generator=generator)
    gradients = torch.stack([torch.cos(angle), torch.sin(angle)])
    offset = torch.rand(2, generator=generator)
    places = [(torch.arange(n) + 0.5) / cell + shift for n, shift in zip(size, offset, strict=True)]
    (i, j), (v, u) = [place.long() for place in places], [place.frac() for place in places]

    def pull(di: int, dj: int) -> Tensor:
        gradient = gradients[:, (i + di)[:, None], (j + dj)[None, :]]
        return gradient[0] * (v - di)[:, None] + gradient[1] * (u - dj)[None, :]

    fade_v, fade_u = ((6 * part**2 - 15 * part + 10) * part**3 for part in (v, u))
    top = torch.lerp(pull(0, 0), pull(0, 1), fade_u[None, :])
    bottom = torch.lerp(pull(1, 0), pull(1, 1), fade_u[None, :])
    return torch.lerp(top, bottom, fade_v[:, None])


def _powers(size: Size) -> tuple[int, ...]:
    """Return the powers of two from 1 to the first that covers the picture."""
    return tuple(2**power for power in range((max(size) - 1).bit_length() + 1))


def _patches(count: int, size: Size, scales: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """Return maps ``(count, 1, height, width)`` of one uniform number for each patch of a grid at a random offset."""
    sides = tuple(scales) or _powers(size)
    chosen = torch.randint(len(sides), (count,), generator=generator).tolist()
    maps = []
    for side in (sides[number] for number in chosen):
        if side >= max(size):
            maps.append(torch.rand(1, 1, generator=generator).expand(size))
            continue
        rows, columns = ((torch.arange(n) + int(torch.randint(side, (1,), generator=generator))) // side for n in size)
        values = torch.rand(int(rows[-1]) + 1, int(columns[-1]) + 1, generator=generator)
        maps.append(values[rows[:, None], columns[None, :]])
    return torch.stack(maps)[:, None]

"""Operators that take something from a picture: resolution, colour, sharpness, coefficients, channels.

Each is a :class:`~lanpaint.LinearOperator` on samples of shape (C, H, W), and keeps that shape in the rotated basis.
:class:`CompressiveSensing` takes samples of any shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lanpaint.checks import check_real, check_whole
from lanpaint.device import Constants
from lanpaint.linear import LinearOperator, hartley

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601
Shape = Sequence[int]


def _picture(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"the shape of a picture must be (channels, height, width), got {tuple(shape)}")
    return shape[0], shape[1], shape[2]


def _complete(row: Tensor) -> Tensor:
    """An orthogonal matrix whose first row is ``row``, of norm 1: a Householder reflection."""
    size = len(row)
    away = row - torch.eye(size, dtype=row.dtype)[0]
    square = away.square().sum()
    if square < 1e-24:
        return torch.eye(size, dtype=row.dtype)
    return torch.eye(size, dtype=row.dtype) - 2 * torch.outer(away, away) / square


class AveragePooling(LinearOperator):
    """The mean of each block of f × f pixels: y has shape (B, C, H/f, W/f). Its inverse problem is super-resolution.

    V is a rotation within each block, and all singular values are 1/f.

    Args:
        shape: (C, H, W) of a sample.
        factor: f ≥ 2, which divides H and W.

    Raises:
        ValueError: When f is below 2 or does not divide both sides.
    """

    def __init__(self, shape: Shape, factor: int) -> None:
        channels, height, width = _picture(shape)
        check_whole("factor", factor, least=2)
        if height % factor or width % factor:
            raise ValueError(f"factor must divide the sides of a picture, got {factor} for {height} × {width} pixels")
        self.factor = factor
        block = _complete(torch.full((factor,), factor**-0.5, dtype=torch.float64))
        self._block = Constants(block, block.mT)
        singular = torch.zeros(channels, height, width)
        singular[:, ::factor, ::factor] = 1 / factor
        super().__init__(singular)

    def rotate(self, x: Tensor) -> Tensor:
        """Each block, turned so that its first entry is f times the block's mean."""
        return self._turn(x, self._block.like(x)[0])

    def unrotate(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`rotate`."""
        return self._turn(z, self._block.like(z)[1])

    def _turn(self, x: Tensor, block: Tensor) -> Tensor:
        f = self.factor
        blocks = x.unflatten(-1, (-1, f)).unflatten(-3, (-1, f))  # (B, C, H/f, f, W/f, f)
        return torch.einsum("ip,jq,bchpwq->bchiwj", block, block, blocks).flatten(-2).flatten(-3, -2)

    def pack(self, c: Tensor) -> Tensor:
        """The first coefficient of each block."""
        return c[..., :: self.factor, :: self.factor]

    def unpack(self, y: Tensor) -> Tensor:
        """The first coefficient of each block, and 0 for the others."""
        c = y.new_zeros(len(y), *self.shape)
        c[..., :: self.factor, :: self.factor] = y
        return c


class Grey(LinearOperator):
    """A weighted sum of the channels: y has shape (B, 1, H, W). Its inverse problem is colourisation.

    V is a rotation of the channels of each pixel.

    Args:
        shape: (C, H, W) of a sample, C ≥ 2.
        weights: A weight for each channel; by default the luma of red, green and blue, or equal weights.

    Raises:
        ValueError: For a single channel, and weights that do not fit.
    """

    def __init__(self, shape: Shape, weights: Sequence[float] | None = None) -> None:
        channels, height, width = _picture(shape)
        if channels < 2:
            raise ValueError("a grey picture has no colours to take; give a shape with two channels or more")
        if weights is None:
            weights = _LUMA if channels == 3 else [1 / channels] * channels
        row = torch.tensor(weights, dtype=torch.float64)
        norm = float(row.norm())
        if len(row) != channels or not 0 < norm < math.inf:
            raise ValueError(f"weights must be {channels} finite numbers, not all 0, got {tuple(weights)}")
        self._channels = Constants(_complete(row / norm))
        singular = torch.zeros(channels, height, width)
        singular[0] = norm
        super().__init__(singular)

    def rotate(self, x: Tensor) -> Tensor:
        """The channels of each pixel, turned so that the first is the weighted sum over the norm of the weights."""
        return torch.einsum("ij,bjhw->bihw", *self._channels.like(x), x)

    def unrotate(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`rotate`."""
        return torch.einsum("ji,bjhw->bihw", *self._channels.like(z), z)

    def pack(self, c: Tensor) -> Tensor:
        """The first channel."""
        return c[:, :1]

    def unpack(self, y: Tensor) -> Tensor:
        """The first channel, and 0 for the others."""
        return torch.cat([y, y.new_zeros(len(y), self.shape[0] - 1, *self.shape[1:])], 1)


class Blur(LinearOperator):
    """A Gaussian blur with periodic edges: y has the shape of x. Its inverse problem is deblurring.

    V is the Hartley transform. The singular values are those of the blur, and frequencies that it weakens to less than
    ``least`` are taken as lost: A y has them no longer.

    Args:
        shape: (C, H, W) of a sample.
        deviation: Standard deviation of the blur in pixels, > 0.
        least: Smallest singular value that counts, in (0, 1).

    Raises:
        ValueError: For numbers outside of these ranges.
    """

    def __init__(self, shape: Shape, deviation: float, least: float = 0.05) -> None:
        channels, height, width = _picture(shape)
        check_real("deviation", deviation)
        if not 0 < deviation < math.inf or not 0 < least < 1:
            raise ValueError(f"deviation must be positive and least in (0, 1), got {deviation} and {least}")
        away = torch.arange(-math.ceil(8 * deviation), math.ceil(8 * deviation) + 1, dtype=torch.float64)
        weights = torch.exp(-0.5 * (away / deviation) ** 2)
        rows, columns = (
            torch.cos(2 * math.pi * torch.outer(torch.fft.fftfreq(n, dtype=torch.float64), away)) @ weights
            for n in (height, width)
        )
        rows, columns = rows / weights.sum(), columns / weights.sum()
        gain = rows[:, None] * columns
        super().__init__(torch.where(gain >= least, gain, 0.0).expand(channels, -1, -1).clone())

    def rotate(self, x: Tensor) -> Tensor:
        """The Hartley transform of each channel."""
        return hartley(x, (-2, -1))

    def unrotate(self, z: Tensor) -> Tensor:
        """The Hartley transform of each channel, which is its own inverse."""
        return hartley(z, (-2, -1))

    def pack(self, c: Tensor) -> Tensor:
        """A picture, from its seen coefficients."""
        return hartley(torch.where(self.known.to(c.device), c, 0.0), (-2, -1))

    def unpack(self, y: Tensor) -> Tensor:
        """The seen coefficients of a picture, and 0 for the others."""
        return torch.where(self.known.to(y.device), hartley(y, (-2, -1)), 0.0)


class CompressiveSensing(LinearOperator):
    """Products with random orthonormal vectors: y has shape (B, m).

    The vectors are random rows of the Hartley transform of all entries, each entry multiplied by a random sign. All
    singular values are 1.

    Args:
        shape: Shape of a sample, without its batch dimension.
        count: m, number of measurements, at least 1 and at most the number of entries.
        seed: Seed of the signs and rows.

    Raises:
        ValueError: For an m outside of its range.
    """

    def __init__(self, shape: Shape, count: int, seed: int = 0) -> None:
        entries = math.prod(shape)
        check_whole("count", count, least=1, most=entries)
        generator = torch.Generator().manual_seed(seed)
        self._signs = Constants(torch.randint(0, 2, tuple(shape), generator=generator).double() * 2 - 1)
        self._rows = torch.randperm(entries, generator=generator)[:count].sort().values
        singular = torch.zeros(entries)
        singular[self._rows] = 1
        super().__init__(singular.reshape(tuple(shape)))

    def rotate(self, x: Tensor) -> Tensor:
        """The Hartley transform of the entries with their signs."""
        return hartley((self._signs.like(x)[0] * x).flatten(1), (1,)).reshape(x.shape)

    def unrotate(self, z: Tensor) -> Tensor:
        """The inverse of :meth:`rotate`."""
        return self._signs.like(z)[0] * hartley(z.flatten(1), (1,)).reshape(z.shape)

    def pack(self, c: Tensor) -> Tensor:
        """The seen coefficients as a list."""
        return c.flatten(1)[:, self._rows.to(c.device)]

    def unpack(self, y: Tensor) -> Tensor:
        """The seen coefficients at their places, and 0 for the others."""
        c = y.new_zeros(len(y), self.singular.numel())
        c[:, self._rows.to(y.device)] = y
        return c.reshape(len(y), *self.shape)


class Channels(LinearOperator):
    """Some channels of a picture: y has shape (B, number of kept channels, H, W). The others are asked for.

    Args:
        shape: (C, H, W) of a sample.
        kept: Numbers of the channels that are kept, from 0 to C − 1.

    Raises:
        ValueError: For numbers that are none of the channels', or given twice.
    """

    def __init__(self, shape: Shape, kept: Sequence[int]) -> None:
        channels, height, width = _picture(shape)
        self.kept = list(kept)
        if not self.kept or sorted(set(self.kept)) != sorted(self.kept) or not set(self.kept) <= set(range(channels)):
            raise ValueError(f"kept must be some of the channels 0 to {channels - 1}, each once, got {self.kept}")
        singular = torch.zeros(channels, height, width)
        singular[self.kept] = 1
        super().__init__(singular)

    def rotate(self, x: Tensor) -> Tensor:
        """X itself."""
        return x

    def unrotate(self, z: Tensor) -> Tensor:
        """Z itself."""
        return z

    def pack(self, c: Tensor) -> Tensor:
        """The kept channels."""
        return c[:, self.kept]

    def unpack(self, y: Tensor) -> Tensor:
        """The kept channels at their places, and 0 for the others."""
        c = y.new_zeros(len(y), *self.shape)
        c[:, self.kept] = y
        return c


OPERATORS: dict[str, Callable[[Shape], LinearOperator]] = {
    "pool2": lambda shape: AveragePooling(shape, 2),
    "pool4": lambda shape: AveragePooling(shape, 4),
    "grey": Grey,
    "blur": lambda shape: Blur(shape, 1.5),
    "sense": lambda shape: CompressiveSensing(shape, math.prod(shape) // 4),
    "red": lambda shape: Channels(shape, [0]),
}
"""Name → operator for samples of a shape, as the benchmark spells them: means of 2 × 2 or 4 × 4 pixels, luma, a
Gaussian blur of 1.5 pixels, random products (a quarter as many as entries), and the red channel alone."""

PICTURES = ("pool2", "pool4", "grey", "blur", "red")
"""Names of the operators whose measurement is a picture."""

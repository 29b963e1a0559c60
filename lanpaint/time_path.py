"""Paths of time maps: each entry of a sample has its own time, and its own way from noise to data.

AsyncPatch Diffusion (Papa et al., 2026, arXiv:2606.07079, Sec. 3.2) gives each pixel or token i a time τ_i(u) in
[0, 1], which falls as u goes from 0 to 1. At τ = 1 the entry is noise, at τ = 0 it is data. The distribution of the
noisy state at the times τ(u) is known for any such path, so every path leads to the same distribution of the data:

    synchronous       τ_i(u) = 1 − u                             ordinary diffusion
    inpainting        τ_i(u) = 0 where i is known, else 1 − u    (Eq. 4)
    autoregressive    group k goes from 1 to 0 for u from (k − 1)/K to k/K, one group after the other
    easy first        τ_i(u) = 1 − u/d_i until it is 0, with a short duration d_i where the sample is easy

A network that was trained with time maps samples along any of them. :meth:`TimePath.plan` makes a
:class:`~lanpaint.Plan` with one level per entry, for every sampler.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lanpaint.checks import as_numbers, check_between, check_whole, shown
from lanpaint.noise import NoiseLevel
from lanpaint.plan import Plan
from lanpaint.schedules import Schedule

_ROUNDING = 1e-6  # times that miss a bound by less are put on it


class TimePath:
    """Times τ(u) of all entries for u from 0 to 1, as a function of u that gives a time map.

    A time map is a number, or a tensor of a shape that broadcasts to the samples', such as (H, W) for images of shape
    (B, C, H, W). Its numbers lie in [0, 1]. They may not rise with u, and all are 0 at u = 1. They may start below 1:
    then the sampler starts from noisy data (``start=``), or from data where they are 0.

    Args:
        function: τ, called as ``function(u)`` with a Python number u.

    Raises:
        TypeError: When ``function`` is not callable.

    Example:
        >>> import torch, lanpaint as lp
        >>> left_first = lp.TimePath(lambda u: torch.tensor([max(1 - 2 * u, 0.0), min(2 - 2 * u, 1.0)]))
        >>> [level.sigma.tolist() for level in left_first.plan(lp.Flow(), steps=4).levels]
        [[1.0, 1.0], [0.5, 1.0], [0.0, 1.0], [0.0, 0.5], [0.0, 0.0]]
    """

    def __init__(self, function: Callable[[float], Tensor | float]) -> None:
        if not callable(function):
            raise TypeError(f"a time path is a function of u that gives times, got {shown(function)}")
        self._function = function

    @classmethod
    def synchronous(cls) -> TimePath:
        """One time 1 − u for all entries."""
        return cls(lambda u: 1 - u)

    @classmethod
    def inpainting(cls, known: Tensor) -> TimePath:
        """Time 0 at known entries, 1 − u at all others (Eq. 4).

        Args:
            known: Boolean, True where known, of a shape that broadcasts to the samples'.

        Raises:
            TypeError: For a tensor that is not boolean.
        """
        _check_mask("known", known)
        unknown = (~known).cpu().double()
        return cls(lambda u: unknown * (1 - u))

    @classmethod
    def autoregressive(cls, groups: Sequence[Tensor]) -> TimePath:
        """Group after group: each goes from time 1 to 0 in one of K equal parts of the path, the others wait.

        With a number of steps that is a multiple of K, no step moves two groups.

        Args:
            groups: K boolean masks of one shape, in the order in which they are made. Each entry is in one of them. See
                :func:`raster_patches`.

        Raises:
            TypeError: For masks that are not boolean.
            ValueError: For no masks, masks of different shapes, empty ones, and masks that overlap or leave gaps.
        """
        place, count = check_groups(groups).double(), len(groups)
        return cls(lambda u: (place + 1 - count * u).clamp(0, 1))

    @classmethod
    def easy_first(cls, difficulty: Tensor, fastest: float = 0.5) -> TimePath:
        """Entries that are easy go faster (Sec. 5.5): entry i takes the part d_i of the path, then it is clean.

        d_i is ``fastest`` where the difficulty is 0, 1 where it is 1, and in proportion between.

        Args:
            difficulty: From 0, easiest, to 1, hardest; floating point, of a shape that broadcasts to the samples'. For
                example the predicted error of each pixel, divided by its largest value.
            fastest: In (0, 1].

        Raises:
            TypeError: For a ``difficulty`` that is no floating-point tensor.
            ValueError: For a ``difficulty`` outside [0, 1], or ``fastest`` outside (0, 1].
        """
        if not isinstance(difficulty, Tensor) or not difficulty.is_floating_point():
            raise TypeError(f"difficulty must be a floating-point tensor, got {shown(difficulty)}")
        difficulty = _between("difficulty", difficulty.detach().cpu().double())
        if not check_between("fastest", fastest, 0, 1) > 0:
            raise ValueError("fastest must be above 0: an entry cannot be made in no step")
        duration = fastest + (1 - fastest) * difficulty
        return cls(lambda u: (1 - u / duration).clamp(min=0))

    @classmethod
    def of_positions(cls, function: Callable[[float, Tensor], Tensor], shape: Sequence[int]) -> TimePath:
        """τ(u, position) of your own.

        Args:
            function: Called as ``function(u, positions)``, with positions of shape ``(d, *shape)``, float64: the d
                coordinates of the middle of each entry, from 0 to 1 along each axis. It returns times of shape
                ``shape``.
            shape: Shape of the time map, d sizes.

        Raises:
            TypeError: When ``function`` is not callable.
            ValueError: For sizes that are not whole numbers of at least 1.
        """
        if not callable(function):
            raise TypeError(f"a time path is a function of u and positions, got {shown(function)}")
        for size in shape:
            check_whole("shape", size, least=1)
        axes = [(torch.arange(size, dtype=torch.float64) + 0.5) / size for size in shape]
        positions = torch.stack(torch.meshgrid(*axes, indexing="ij")) if axes else torch.zeros(0, dtype=torch.float64)

        def path(u: float) -> Tensor:
            times = as_numbers("times", function(u, positions.clone()))
            if times.shape != torch.Size(shape):
                got, wanted = tuple(times.shape), tuple(shape)
                raise ValueError(f"the path must give times of shape {wanted}, got {got} at u = {u:.4g}")
            return times

        return cls(path)

    def starting_at(self, first: Tensor | float) -> TimePath:
        """The path with all its times multiplied by ``first``, in [0, 1]: noise that does not start at 1.

        The state at the first level is then noisy data: ``start=plan.levels[0].perturb(data, noise)``.

        Args:
            first: A number, or a time map.

        Raises:
            ValueError: For times outside [0, 1].
        """
        first = _between("first", as_numbers("first", first).cpu())
        return TimePath(lambda u: first * as_numbers("times", self._function(u)).cpu())

    def __call__(self, u: float) -> Tensor:
        """The time map at u in [0, 1], float64, on the CPU, checked to lie in [0, 1].

        Raises:
            TypeError: When the function gives no numbers.
            ValueError: For a u or times outside [0, 1].
        """
        u = check_between("u", u, 0, 1)
        return _between(f"times at u = {u:.4g}", as_numbers("times", self._function(u)).detach().cpu())

    def maps(self, steps: int) -> list[Tensor]:
        """The S + 1 time maps at u = 0, 1/S, …, 1, checked.

        Raises:
            TypeError: When the function gives no numbers.
            ValueError: For times outside [0, 1], times that rise or do not end at 0, and maps of different shapes.
        """
        check_whole("steps", steps, least=1)
        maps = [self(step / steps) for step in range(steps + 1)]
        for step, (before, after) in enumerate(itertools.pairwise(maps)):
            if before.shape != after.shape:
                shapes = f"{tuple(before.shape)} and {tuple(after.shape)}"
                raise ValueError(f"the time maps of a path must have one shape, got {shapes}")
            rise = float((after - before).max()) if after.numel() else 0.0
            if rise > _ROUNDING:
                ends = f"u = {step / steps:.4g} to {(step + 1) / steps:.4g}"
                raise ValueError(f"times must never rise with u, but one rises by {rise:.4g} from {ends}")
            maps[step + 1] = torch.minimum(before, after)
        if bool((maps[-1] != 0).any()):
            raise ValueError(f"times must be 0 at u = 1, where all is data; got up to {float(maps[-1].max()):.4g}")
        return maps

    def plan(self, schedule: Schedule, steps: int) -> Plan:
        """The plan of a run along this path, with S = ``steps`` outer steps at u = 0, 1/S, …, 1.

        A time of 0 is clean data and a time of 1 the noisiest level of the schedule, with the schedule's own shift.

        Args:
            schedule: The schedule of the model.
            steps: S, at least 1.

        Returns:
            A plan whose levels have the shape of the time maps.

        Raises:
            TypeError: For a ``schedule`` that is no schedule.
            ValueError: For times outside [0, 1], times that rise or do not end at 0, and maps of different shapes.
        """
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must be a Schedule such as Flow(), got {shown(schedule)}")
        levels: list[NoiseLevel] = []
        before: Tensor | None = None
        for times in self.maps(steps):
            level = schedule.at(times)
            if before is not None and times.shape:  # equal times, equal levels, bit for bit
                last, still = levels[-1], times == before
                level = NoiseLevel(level.alpha.where(~still, last.alpha), level.sigma.where(~still, last.sigma))
            levels.append(level)
            before = times
        return Plan(levels)


def raster_patches(shape: Sequence[int], size: int) -> list[Tensor]:
    """The square patches of a map, row by row, as boolean masks: groups for :meth:`TimePath.autoregressive`.

    For another order, order the list.

    Args:
        shape: Shape (H, W) of the map.
        size: Height and width of a patch. Patches at the lower and the right end are smaller if it does not divide H or
            W.

    Returns:
        ⌈H/size⌉ · ⌈W/size⌉ masks of shape (H, W).

    Raises:
        ValueError: For a shape that is not two sizes, or sizes below 1.
    """
    if len(shape) != 2:
        raise ValueError(f"shape must be (H, W), got {shown(tuple(shape))}")
    height, width = shape
    for name, value in (("shape", height), ("shape", width), ("size", size)):
        check_whole(name, value, least=1)
    row, column = torch.arange(height) // size, torch.arange(width) // size
    across = math.ceil(width / size)
    patches = row[:, None] * across + column
    return [patches.eq(number) for number in range(math.ceil(height / size) * across)]


def check_groups(groups: object) -> Tensor:
    """The number of the group of each entry, from a list of boolean masks of one shape.

    Raises:
        TypeError: For anything but a list of boolean masks.
        ValueError: For no masks, masks of different shapes, empty ones, and masks that overlap or leave gaps.
    """
    if not isinstance(groups, (Sequence, Tensor)) or not len(groups):
        raise TypeError(f"groups must be a list of boolean masks, got {shown(groups)}")
    for number, group in enumerate(groups):
        _check_mask(f"group {number}", group)
        if group.shape != groups[0].shape:
            shapes = f"{tuple(groups[0].shape)} and {tuple(group.shape)}"
            raise ValueError(f"groups must be masks of one shape, got {shapes}")
        if not bool(group.any()):
            raise ValueError(f"group {number} has no entry; leave it out")
    members, place = (torch.zeros(groups[0].shape, dtype=torch.long) for _ in range(2))
    for number, group in enumerate(groups):
        members += group.cpu()
        place = place.masked_fill(group.cpu(), number)
    if int(members.max()) > 1:
        raise ValueError(f"groups overlap: {int((members > 1).sum())} entries are in more than one of them")
    if int(members.min()) < 1:
        raise ValueError(f"groups leave gaps: {int((members < 1).sum())} entries are in none of them")
    return place


def _between(name: str, times: Tensor) -> Tensor:
    """Times within [0, 1]; those that miss a bound by no more than rounding are put on it."""
    low, high = (float(times.min()), float(times.max())) if times.numel() else (0.0, 0.0)
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        raise ValueError(f"{name} must lie between 0 and 1, got {low:.4g} … {high:.4g}")
    return times.clamp(0, 1)


def _check_mask(name: str, mask: object) -> None:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        what = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{name} must be a boolean tensor, got {what}")

"""Observations: which entries of x₀ are known, and to what values.

As in LanPaint, Sec. 3.3, y is the known part of the state, x the unknown part, and y_o the observed clean values of y.
Forward diffusion of the observation is Gaussian at every level,

    p_t(y | y_o) = N(α y_o, σ²).

A *noisy* observation is a measurement y_o = y₀ + s n with standard normal n, and the result follows the Bayesian
posterior p(x, y) N(y_o; y₀, s²). Up to the factor α, such a measurement is a state at the level where σ = α s. So y_t
and y_o can be taken as two points of one forward diffusion of y₀, and both conditional distributions are exact:

    σ > α s    y_t is a diffusion of the measurement     p(y_t | y_o) = N(α y_o, σ² − α² s²)
    σ < α s    the measurement is a diffusion of y_t     p(y_o | y_t) ∝ N(α y_o; y_t, α² s² − σ²)

Above the level σ = α s a sampler conditions on y_o as on exact values, with the smaller variance. Below it y is free,
and its score is that of the model plus that of the measurement. With a noise for each entry, each has its own level.

A *soft* observation says for each entry how much it may change, c from 0 to 1. During the first S (1 − c) of S outer
steps, rounded up, the entry is held to the diffused observation. Then it is released: it is drawn from p_t(y | y_o)
once more, and is unknown from there on. So an entry of c = 0 is known, and an entry of c = 1 is unknown. At each level
a sampler sees an ordinary observation of what is held there. This is differential diffusion (Levin & Fried, 2023,
arXiv:2306.00950). With one c for all entries it is SDEdit (Meng et al., 2021), which diffusers calls img2img, and c is
its strength.

A released entry has been drawn at the level (α_c, σ_c), as x_c. At a cleaner level (α, σ) its x is distributed given
the draw too, p(x | x_c) ∝ p(x) N(x_c; r x, v) with r = α_c/α and v = σ_c² − r² σ². Inner steps that follow the score of
p(x) alone would forget the draw. :class:`~lanpaint.BiG` adds the score of the second factor, r (x_c − r x)/v.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lanpaint.checks import check_real, shown
from lanpaint.device import move_like
from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.randomness import NoiseSource

_MOST_ENTRIES = 2**40  # of a state; more is a slip


@dataclass(frozen=True)
class Draws:
    """Entries of a soft observation that were drawn at their levels and released.

    Attributes:
        entries: Which they are, boolean, on the CPU.
        at: The draws x_c, shape of the state; 0 at all other entries.
        level: Their levels (α_c, σ_c), shape of ``entries``; anything at all other entries.
    """

    entries: Tensor
    at: Tensor
    level: NoiseLevel

    def pulls(self, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """The factors of the score of N(x_c; r x, v) at ``level``, r/v of x_c and r²/v of −x, where there are draws.

        Both are 0 at other entries, and infinite at the level of the draw.
        """
        ratio = self.level.alpha * reciprocal(level.alpha)
        variance = (self.level.sigma**2 - (ratio * level.sigma) ** 2).clamp(min=0)
        fresh = variance <= 1e-9 * self.level.sigma**2
        pull = torch.where(fresh, math.inf, ratio / torch.where(fresh, 1.0, variance))
        return torch.where(self.entries, pull, 0.0), torch.where(self.entries, pull * ratio, 0.0)


class Observation:
    """Known entries of a batch of samples.

    Args:
        values: Observed values y_o, shape (B, …), floating point. Values at unknown entries are ignored, and may be
            NaN. float16 and bfloat16 become float32, the dtype of the sampler's state.
        known: Boolean mask, True where known, broadcastable to the shape of ``values``. All or no entries may be known.
        noise: Standard deviation s ≥ 0 of the measurement, in the units of ``values``: a number, or a floating-point
            tensor, broadcastable to the shape of ``values``, with one for each entry. Where s > 0 the result follows
            the posterior p(x, y) N(y_o; y₀, s²): the model has its say in y, and known entries do not come back as
            they were. Where s = 0 they do. Noise at unknown entries is ignored. Samplers that condition on exact
            values only, or take one number only, refuse it (``Sampler.takes_noise``).
        jitter: Standard deviation of values that are drawn once per sample, y₀ ~ N(y_o, jitter²), and then conditioned
            on exactly. The result follows p(x | y) N(y; y_o, jitter²): the distribution of y comes from the observation
            alone, and not from the model. Every sampler takes it.

    Attributes:
        noise: s, float64, on the CPU: of no dimensions if it is the same for all known entries, else 0 at unknown ones.
        is_noisy: Whether s > 0 at a known entry.
        is_empty: Whether no entry is known.
        change: How much each entry may change, from 0 to 1, of a soft observation (:meth:`soft`), on the CPU; None of
            any other.
        draws: What a soft observation has drawn of the entries that it holds no longer, or a measurement below its
            noise; None before.

    Raises:
        TypeError: When ``values`` is not a floating-point tensor or ``known`` not a boolean one.
        ValueError: When the shapes do not broadcast, a known value is not finite, ``noise`` or ``jitter`` is negative,
            or both are given.

    Example:
        >>> import torch, lanpaint as lp
        >>> from lanpaint_toys import Gaussian
        >>> target = Gaussian(mean=[0.0, 0.0], cov=torch.eye(2))
        >>> noise = torch.tensor([0.0, 1.0])  # the first entry is exact; the second one's posterior is N(1, 1/2)
        >>> observation = lp.Observation(torch.full((4000, 2), 2.0), torch.tensor(True), noise)
        >>> paint = lp.LanPaint(target, steps=10, expected_noise=1.0)
        >>> x = paint(observation, generator=torch.Generator().manual_seed(0))
        >>> [round(float(column), 1) for column in x.mean(0)]
        [2.0, 1.0]
    """

    def __init__(self, values: Tensor, known: Tensor, noise: Tensor | float = 0.0, *, jitter: float = 0.0) -> None:
        if not isinstance(values, Tensor) or not values.is_floating_point():
            what = values.dtype if isinstance(values, Tensor) else type(values).__name__
            raise TypeError(f"values must be a floating-point tensor, got {what}; images: map 0…255 to −1…1 first")
        for name, tensor in (("values", values), ("known", known)):
            if isinstance(tensor, Tensor) and (tensor.layout is not torch.strided or tensor.is_meta):
                raise TypeError(
                    f"{name} must be a dense tensor with numbers in it, got {tensor.layout}, {tensor.device}"
                )
        if not isinstance(known, Tensor) or known.dtype != torch.bool:
            what = known.dtype if isinstance(known, Tensor) else type(known).__name__
            raise TypeError(
                f"known must be a boolean tensor (True where known), got {what}; for a mask: known = mask < 0.5"
            )
        if values.ndim < 1 or values.shape[0] < 1:
            raise ValueError(f"values must have shape (B, …) with B ≥ 1, got {tuple(values.shape)}")
        try:
            fits = np.broadcast_shapes(values.shape, known.shape) == values.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"known must broadcast to the shape of values, got {tuple(known.shape)} for {tuple(values.shape)}"
            )
        self.noise, self.jitter = _as_noise(noise, known, values.shape), _as_deviation("jitter", jitter)
        self.is_noisy = bool((self.noise > 0).any())
        if self.is_noisy and jitter:
            raise ValueError("give noise (of a measurement) or jitter (values that are drawn), not both")
        if values.dtype.itemsize < 4:
            values = values.float()
        known = known.to(values.device, copy=True)
        values = torch.where(known, values, 0.0)
        if not bool(torch.isfinite(values).all()):
            bad = int((~torch.isfinite(values)).sum())
            raise ValueError(f"{bad} known values are NaN or infinite; mark those entries as unknown")
        self.values, self.known = values, known
        self.is_empty = not bool(known.any())  # waits for the device here, so that a run does not have to
        self.change: Tensor | None = None
        self._whole: Observation | None = None  # of what is held of a soft observation
        self.draws: Draws | None = None
        self._bounds = 0.0, 1.0

    @classmethod
    def none(cls, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu") -> Observation:
        """An observation of ``shape`` (B, …) in which no entry is known.

        Raises:
            ValueError: For a shape that is none.
        """
        whole = isinstance(shape, Sequence) and all(isinstance(n, Integral) and n > 0 for n in shape)
        if not whole or not shape or math.prod(shape) > _MOST_ENTRIES:
            raise ValueError(f"the shape must be positive whole numbers (B, …), got {shown(shape)}")
        values = torch.zeros(tuple(shape), dtype=dtype, device=device)
        return cls(values, torch.zeros((1,) * values.ndim, dtype=torch.bool, device=device))

    @classmethod
    def soft(cls, values: Tensor, change: Tensor | float, *, jitter: float = 0.0) -> Observation:
        """An observation whose entries may change, each as much as ``change`` says.

        A run begins at the first level at which an entry is released, so it is shorter where no entry has ``change`` 1.
        (The samples of a batch begin together: this is the one thing in which a sample depends on its batch.)

        Args:
            values: As above; values of entries whose ``change`` is 1 are ignored.
            change: c from 0 (known) to 1 (unknown), floating point, broadcastable to the shape of ``values``: the share
                of the outer steps, up to the last one, in which the entry is free. A number is one c for all entries,
                which other tools call strength.
            jitter: As above.

        Raises:
            TypeError: As above, and when ``change`` is neither a number nor a floating-point tensor.
            ValueError: As above, and when ``change`` lies outside of [0, 1].

        Example:
            >>> import torch, lanpaint as lp
            >>> from lanpaint_toys import Gaussian
            >>> target = Gaussian(mean=[0.0, 0.0, 0.0], cov=torch.eye(3) * 0.5 + 0.5)
            >>> observation = lp.Observation.soft(torch.full((1000, 3), 2.0), torch.tensor([0.0, 0.3, 1.0]))
            >>> paint = lp.LanPaint(target, steps=10)
            >>> x = paint(observation, generator=torch.Generator().manual_seed(0))
            >>> [round(float(column), 1) for column in (x - 2).abs().mean(0)]
            [0.0, 0.6, 1.1]
        """
        if isinstance(change, (int, float)) and not isinstance(change, bool):
            change = torch.tensor(float(change))
        if not isinstance(change, Tensor) or not change.is_floating_point():
            what = change.dtype if isinstance(change, Tensor) else type(change).__name__
            raise TypeError(f"change must be a number or a floating-point tensor from 0 to 1, got {what}")
        least, most = (float(bound) for bound in change.aminmax()) if change.numel() else (math.nan, math.nan)
        if not 0 <= least <= most <= 1:
            raise ValueError(f"change must lie between 0 (known) and 1 (unknown), got {least:g} … {most:g}")
        observation = cls(values, change < 1, jitter=jitter)
        if bool(((change > 0) & (change < 1)).any()):
            observation.change = change.detach().to("cpu", torch.float32, copy=True)
            observation._bounds = least, most
        return observation

    @property
    def shape(self) -> torch.Size:
        """Shape (B, …) of the state."""
        return self.values.shape

    @cached_property
    def largest(self) -> float:
        """Largest magnitude of a known value; 0 when no entry is known. Waits for the device at the first access."""
        return float(self.values.abs().amax()) if self._whole is None else self._whole.largest

    @property
    def exact(self) -> Tensor:
        """Which entries are known without noise, boolean, broadcastable to the shape."""
        return self.known & cast_like(self.noise == 0, self.known)

    def noise_or(self, default: float) -> Tensor:
        """s, and ``default`` where it is 0: of a method whose likelihood needs a width."""
        return torch.where(self.noise > 0, self.noise, default)

    def is_above(self, level: NoiseLevel) -> Tensor:
        """Whether a level has at least the noise of the measurement, σ ≥ α s; boolean, shape of the level and s."""
        return level.sigma >= level.alpha * cast_like(self.noise, level.alpha) * (1 - 1e-9)

    @cached_property
    def spread(self) -> float:
        """Standard deviation of all known values of the batch; 0 for fewer than two. Waits for the device once."""
        if self._whole is not None:
            return self._whole.spread
        values = self.values  # 0 at unknown entries
        parts = self.known.expand_as(values), values, values.square()
        count, total, square = (part.sum(dtype=torch.float64).item() for part in parts)
        return math.sqrt(max(square - total**2 / count, 0.0) / (count - 1)) if count > 1 else 0.0

    def variance(self, level: NoiseLevel) -> Tensor:
        """Variance σ² of p_t(y | y_o), shape of the level and s.

        With the noise s of a measurement σ² − α² s², at levels with at least as much noise; at least (0.001 α s)², so
        that nothing is divided by 0 at the level σ = α s.
        """
        if not self.is_noisy:
            return level.sigma**2
        measured = (level.alpha * cast_like(self.noise, level.alpha)) ** 2
        return torch.maximum(level.sigma**2 - measured, 1e-6 * measured)

    def score(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Score of p_t(y | y_o) at the state x, (α y_o − x)/variance; meaningful at known entries only."""
        level = level.to(x)
        return (level.alpha * self.values - x) * cast_like(reciprocal(self.variance(level)), x)

    def diffused(self, level: NoiseLevel, noise: Tensor) -> Tensor:
        """A draw from p_t(y | y_o) (LanPaint, Eq. 8), given standard normal ``noise`` of the state's shape."""
        level = level.to(self.values)
        return level.alpha * self.values + cast_like(self.variance(level).sqrt(), noise) * noise

    def at_level(self, level: NoiseLevel) -> Observation:
        """What is known at a level: this observation, or below the noise of a measurement the measurement as a draw.

        Below it y is free, and known to have been diffused to y_o at the level (α, σ) = (1, s).
        """
        whole = self.whole
        if not whole.is_noisy or whole.is_empty:
            return whole
        above = whole.is_above(level)
        if bool(above.all()):
            return whole
        held = copy.copy(whole)
        held.known = whole.known & move_like(above, whole.known)
        held.values = torch.where(held.known, whole.values, 0.0)
        known, above = whole._known_on_cpu, above.cpu()
        held.is_empty = not bool((known & above).any())
        held._whole = whole
        held.draws = Draws(known & ~above, whole.values, NoiseLevel(1.0, whole.noise))
        return held

    @cached_property
    def _known_on_cpu(self) -> Tensor:
        return self.known.cpu()

    def draw(self, noise: NoiseSource) -> Observation:
        """An observation whose values are drawn as y_o + jitter · ξ. Without jitter, this observation itself."""
        if not self.jitter:
            return self
        drawn = self.like(self.values + self.jitter * noise(self.values), self.known)
        drawn.jitter = 0.0
        return drawn

    def like(
        self, values: Tensor, known: Tensor, change: Tensor | None = None, noise: Tensor | None = None
    ) -> Observation:
        """An observation of other values with the same noise, or with ``noise``; if soft, with what ``change`` says."""
        if self.change is None:
            return Observation(values, known, self.noise if noise is None else noise, jitter=self.jitter)
        return Observation.soft(values, self.change if change is None else change, jitter=self.jitter)

    def rearranged_noise(self, rearrange: Callable[[Tensor], Tensor]) -> Tensor:
        """The noise of entries that are rearranged by a function of tensors of the shape (B, …)."""
        return rearrange(self.noise.expand(self.shape)) if self.noise.ndim else self.noise

    def rows(self, which: Tensor | slice) -> Observation:
        """The observation of some samples of the batch, as they are held now."""
        noise = self.rearranged_noise(lambda each: each[which.cpu() if isinstance(which, Tensor) else which])
        return Observation(self.values[which], self.known.expand(self.shape)[which], noise)

    # Soft observations

    def first_step(self, steps: int) -> int:
        """Number of the first of ``steps`` outer steps in which an entry is free; the last step at the latest."""
        return 0 if self.change is None else min(release_step(self._bounds[1], steps), steps - 1)

    def from_first_level(self) -> Observation:
        """This observation, for a run that visits all levels: those too at which a soft observation holds all."""
        longer = copy.copy(self)
        longer._bounds = self._bounds[0], 1.0
        return longer

    def held(self, step: int, steps: int) -> Observation:
        """What is held during outer step number ``step`` of ``steps``: this observation itself, if it is not soft."""
        if self.change is None:
            return self
        whole = self.whole
        held = copy.copy(whole)
        held._whole = whole
        held.known = whole.known & move_like(self.releases(steps) > step, whole.known)
        held.values = torch.where(held.known, whole.values, 0.0)
        held.is_empty = release_step(self._bounds[0], steps) <= step
        return held

    def without(self, entries: Tensor) -> Observation:
        """What is held of a soft observation, without some entries (boolean, broadcastable to the shape)."""
        held = copy.copy(self)
        held.known = self.known & ~move_like(entries, self.known)
        held.values = torch.where(held.known, self.values, 0.0)
        return held

    @property
    def whole(self) -> Observation:
        """The soft observation that this one is what is held of; this one itself, if it is none such."""
        return self._whole or self

    def releases(self, steps: int) -> Tensor:
        """Numbers of the outer steps, of ``steps``, before which entries are released; on the CPU, as ``change``."""
        assert self.change is not None
        return release_step(self.change, steps)

    def replace_known(self, x: Tensor, replacement: Tensor) -> Tensor:
        """The state x with its known entries taken from ``replacement``; x itself when no entry is known."""
        return x if self.is_empty else torch.where(self.known, replacement, x)

    def finish(self, x: Tensor) -> Tensor:
        """The state x with its known entries set to the observed values, bit for bit, but for those with noise."""
        return torch.where(self.exact, self.values, x) if self.is_noisy else self.replace_known(x, self.values)

    @property
    def noise_in_words(self) -> str:
        """The noise of known entries: a number, or the least and the largest."""
        if not self.noise.ndim:
            return f"{self.noise:g}"
        of_known = self.noise.expand(self.shape)[self.whole._known_on_cpu.expand(self.shape)]
        return f"{of_known.min():g}…{of_known.max():g}"

    def __repr__(self) -> str:
        share = float(self.known.float().mean())
        drawn = f", jitter={self.jitter:g}" if self.jitter else ""
        soft = "" if self.change is None else f", change={self._bounds[0]:g}…{self._bounds[1]:g}"
        return f"Observation(shape={tuple(self.shape)}, known={share:.1%}, noise={self.noise_in_words}{drawn}{soft})"


def _as_deviation(name: str, deviation: Tensor | float) -> float:
    check_real(name, deviation)
    if not (math.isfinite(deviation) and deviation >= 0):
        raise ValueError(f"{name} must be a finite standard deviation of at least 0, got {deviation}")
    return float(deviation)


def _as_noise(noise: Tensor | float, known: Tensor, shape: torch.Size) -> Tensor:
    """The noise of an observation as float64 on the CPU: one number if it is the same for all known entries."""
    if not isinstance(noise, (Tensor, Real)):
        raise TypeError(f"noise must be a number or a dense floating-point tensor, got {shown(noise)}")
    if not isinstance(noise, Tensor) or noise.numel() == 1:
        return torch.tensor(_as_deviation("noise", noise), dtype=torch.float64)
    if not noise.is_floating_point() or noise.layout is not torch.strided or noise.is_meta:
        raise TypeError(f"noise must be a number or a dense floating-point tensor, got {noise.dtype}, {noise.layout}")
    try:
        fits = np.broadcast_shapes(shape, noise.shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"noise must broadcast to the shape of values, got {tuple(noise.shape)} for {tuple(shape)}")
    known = known.cpu()
    each = torch.where(known, noise.detach().to("cpu", torch.float64), 0.0)
    seen = each[known.expand(each.shape)]
    bad = seen[~(torch.isfinite(seen) & (seen >= 0))]
    if len(bad):
        raise ValueError(
            f"noise must be finite standard deviations of at least 0, got {float(bad[0])} at known entries"
        )
    return each if bool((seen != seen[:1]).any()) else each.amax()


def release_step(change: Any, steps: int) -> Any:
    """Outer steps, of ``steps``, during which an entry that may change by c, a number or a tensor, is held.

    They are S (1 − c), rounded up: 0 for c = 1, and S for c = 0.
    """
    held = steps * (1 - change) - 1e-4  # so that the rounding of c does not hold an entry for one step more
    return held.ceil().clamp(min=0) if isinstance(held, Tensor) else max(math.ceil(held), 0)

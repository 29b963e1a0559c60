"""Observations: which entries of x₀ are known, and to what values.

As in LanPaint, Sec. 3.3, y is the known part of the state, x the unknown part, and y_o the observed clean values of y.
Forward diffusion of the observation is Gaussian at every level,

    p_t(y | y_o) = N(α y_o, σ² + α² s²),

where s is the standard deviation of the observed values. By default s = 0, as in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, reciprocal
from lanpaint.randomness import NoiseSource


class Observation:
    """Known entries of a batch of samples.

    Args:
        values: Observed values y_o, shape (B, …), floating point. Values at unknown entries are ignored, and may be
            NaN. float16 and bfloat16 become float32, the dtype of the sampler's state.
        known: Boolean mask, True where known, broadcastable to the shape of ``values``. All or no entries may be known.
        noise: Standard deviation s ≥ 0 of the observed values, in the units of ``values``. With s > 0 a sampler draws
            the known entries once per sample, y₀ ~ N(y_o, s²), and conditions on y₀ exactly. Then the diffused y
            follows p_t(y | y_o), and the result follows p(x | y) N(y; y_o, s²) for any λ. This is not the Bayesian
            posterior p(x, y) N(y_o; y, s²): the distribution of y comes from the observation alone. (Inner steps that
            move y with the score of the wide p_t(y | y_o) would be worse: y would keep moving, and x would lag behind
            y.)

    Attributes:
        is_empty: Whether no entry is known.

    Raises:
        TypeError: When ``values`` is not a floating-point tensor or ``known`` not a boolean one.
        ValueError: When the shapes do not broadcast, a known value is not finite, or ``noise`` is negative.
    """

    def __init__(self, values: Tensor, known: Tensor, noise: float = 0.0) -> None:
        if not isinstance(values, Tensor) or not values.is_floating_point():
            what = values.dtype if isinstance(values, Tensor) else type(values).__name__
            raise TypeError(f"values must be a floating-point tensor, got {what}; images: map 0…255 to −1…1 first")
        if not isinstance(known, Tensor) or known.dtype != torch.bool:
            what = known.dtype if isinstance(known, Tensor) else type(known).__name__
            raise TypeError(
                f"known must be a boolean tensor (True where known), got {what}; for a mask: known = mask < 0.5"
            )
        if values.ndim < 1 or values.shape[0] < 1:
            raise ValueError(f"values must have shape (B, …) with B ≥ 1, got {tuple(values.shape)}")
        try:
            fits = torch.broadcast_shapes(values.shape, known.shape) == values.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"known must broadcast to the shape of values, got {tuple(known.shape)} for {tuple(values.shape)}"
            )
        if not (math.isfinite(noise) and noise >= 0):
            raise ValueError(f"noise must be a finite standard deviation of at least 0, got {noise}")
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.float()
        known = known.to(values.device, copy=True)
        values = torch.where(known, values, 0.0)
        if not bool(torch.isfinite(values).all()):
            bad = int((~torch.isfinite(values)).sum())
            raise ValueError(f"{bad} known values are NaN or infinite; mark those entries as unknown")
        self.values, self.known, self.noise = values, known, float(noise)
        self.is_empty = not bool(known.any())  # waits for the device here, so that a run does not have to

    @classmethod
    def none(cls, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu") -> Observation:
        """An observation of ``shape`` (B, …) in which no entry is known."""
        values = torch.zeros(tuple(shape), dtype=dtype, device=device)
        return cls(values, torch.zeros((1,) * values.ndim, dtype=torch.bool, device=device))

    @property
    def shape(self) -> torch.Size:
        """Shape (B, …) of the state."""
        return self.values.shape

    @cached_property
    def largest(self) -> float:
        """Largest magnitude of a known value; 0 when no entry is known. Waits for the device at the first access."""
        return float(self.values.abs().amax())

    def variance(self, level: NoiseLevel) -> Tensor:
        """Variance σ² + α² s² of p_t(y | y_o), shape of the level."""
        return level.sigma**2 + level.alpha**2 * self.noise**2 if self.noise else level.sigma**2

    def score(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """Score of p_t(y | y_o) at the state x, (α y_o − x)/(σ² + α² s²); meaningful at known entries only."""
        level = level.to(x)
        return (level.alpha * self.values - x) * reciprocal(self.variance(level))

    def diffused(self, level: NoiseLevel, noise: Tensor) -> Tensor:
        """A draw from p_t(y | y_o) (LanPaint, Eq. 8), given standard normal ``noise`` of the state's shape."""
        level = level.to(self.values)
        return level.alpha * self.values + self.variance(level).sqrt() * noise

    def draw(self, noise: NoiseSource) -> Observation:
        """An observation without noise, whose values are drawn as y_o + s ξ. With s = 0, this observation itself."""
        if not self.noise:
            return self
        return Observation(self.values + self.noise * noise(self.values), self.known)

    def replace_known(self, x: Tensor, replacement: Tensor) -> Tensor:
        """The state x with its known entries taken from ``replacement``; x itself when no entry is known."""
        return x if self.is_empty else torch.where(self.known, replacement, x)

    def finish(self, x: Tensor) -> Tensor:
        """The state x with its known entries set to the observed values, bit for bit."""
        return self.replace_known(x, self.values)

    def __repr__(self) -> str:
        share = float(self.known.float().mean())
        return f"Observation(shape={tuple(self.shape)}, known={share:.1%}, noise={self.noise:g})"

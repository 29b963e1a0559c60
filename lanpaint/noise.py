"""Noise levels: all that an algorithm needs to know about a model's formalism.

Every diffusion or flow model perturbs clean data x₀ with Gaussian noise ε ~ N(0, I),

    x = α x₀ + σ ε,

and a *noise level* is the pair (α, σ). Variance-preserving models have α² + σ² = 1, variance-exploding ones α = 1,
rectified flows α + σ = 1 (LanPaint, Appendix E). No algorithm of this library converts between these formalisms: if x
is scaled by c, then (α, σ) scale by c, the score by 1/c, and nothing else changes.

A network predicts one of five views of the posterior mean, with x̂₀ = E[x₀ | x] and ε̂ = E[ε | x]:

    denoised    x̂₀
    epsilon     ε̂ = (x − α x̂₀) / σ
    score       s = ∇ log p(x) = −ε̂ / σ                                        (LanPaint, Eq. 41 and 105)
    v           v = α ε̂ − σ x̂₀           diffusion's velocity (Salimans & Ho, 2022, Eq. 11)
    flow        u = ε̂ − x̂₀               rectified flow's velocity dx/ds for α = 1 − s, σ = s (LanPaint, Eq. 56)

:class:`Prediction` converts between the views. No other code does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lanpaint.checks import as_numbers
from lanpaint.device import move_like

View = Literal["score", "denoised", "epsilon", "v", "flow"]
VIEWS: tuple[str, ...] = get_args(View)


def _as_level_tensor(value: Tensor | float, name: str) -> Tensor:
    if isinstance(value, (int, float)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and non-negative, got [{float(value)}]")
        return torch.tensor(value, dtype=torch.float64)
    tensor = value if isinstance(value, Tensor) else as_numbers(name, value)
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor or a number, got dtype {tensor.dtype}")
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    # Values on another device are not checked, because reading them would wait for it. Levels are made on the CPU.
    if tensor.device.type == "cpu" and not _is_finite_and_positive(tensor):
        raise ValueError(f"{name} must be finite and non-negative, got {tensor.flatten()[:4].tolist()}")
    return tensor


def _is_finite_and_positive(tensor: Tensor) -> bool:
    if tensor.numel() == 1:
        return 0 <= float(tensor) < math.inf
    return bool((torch.isfinite(tensor) & (tensor >= 0)).all())


def reciprocal(x: Tensor) -> Tensor:
    """1/x, and 0 where x is 0, so that an entry with σ = 0 has a score of 0 and stays."""
    if not x.shape and x.device.type == "cpu" and not x.requires_grad:
        number = float(x)
        return x.new_tensor(1 / number if number else 0.0)
    zero = x == 0
    return x.masked_fill(zero, 1.0).reciprocal().masked_fill(zero, 0.0)


def cast_like(coefficient: Tensor, like: Tensor) -> Tensor:
    """A coefficient of a level's shape in the dtype and on the device of ``like``, so that the two can be combined.

    A 0-d coefficient stays as it is: PyTorch treats it as a number, so it neither changes the dtype of x nor waits for
    the device. Any other coefficient is moved, without waiting for the device.
    """
    return move_like(coefficient, like) if coefficient.shape else coefficient


@dataclass(frozen=True, eq=False)
class NoiseLevel:
    """How much signal and how much noise a state x = α x₀ + σ ε has.

    Args:
        alpha: Scale α ≥ 0 of the clean data; a number or a floating-point tensor that broadcasts against x.
        sigma: Standard deviation σ ≥ 0 of the noise; a number or a floating-point tensor that broadcasts against x.

    A 0-d tensor is one level for the batch. Shape ``(B, 1, …, 1)`` is one level per sample (see :meth:`per_sample`).
    Any other shape that broadcasts against x gives a level per pixel or token. Entries with σ = 0 are clean already
    and stay as they are.

    Numbers become float64 tensors. So coefficients are computed in double precision and rounded once, where they are
    combined with x. float16 and bfloat16 become float32.

    Raises:
        TypeError: For a tensor that is not floating point.
        ValueError: For values that are negative or not finite, or shapes that do not broadcast with each other.
    """

    alpha: Tensor
    sigma: Tensor

    def __init__(self, alpha: Tensor | float, sigma: Tensor | float) -> None:
        a, s = _as_level_tensor(alpha, "alpha"), _as_level_tensor(sigma, "sigma")
        if isinstance(alpha, (int, float)) and isinstance(sigma, (int, float)):
            self.__dict__["numbers"] = float(alpha), float(sigma)
        try:
            # torch's own function loads SymPy, half a second
            shape = a.shape if a.shape == s.shape else np.broadcast_shapes(a.shape, s.shape)
        except ValueError as error:
            raise ValueError(
                f"alpha and sigma must broadcast with each other, got shapes {tuple(a.shape)} and {tuple(s.shape)}"
            ) from error
        object.__setattr__(self, "alpha", a if a.shape == shape else a.expand(shape))
        object.__setattr__(self, "sigma", s if s.shape == shape else s.expand(shape))

    @property
    def shape(self) -> torch.Size:
        """Shape of α and σ: ``()`` for one level per batch."""
        return self.alpha.shape

    @cached_property
    def numbers(self) -> tuple[float, float]:
        """α and σ of a level of one entry, as Python numbers."""
        return float(self.alpha), float(self.sigma)

    @property
    def log_snr(self) -> Tensor:
        """Logarithm of the signal-to-noise ratio α²/σ², in nats; −∞ where α = 0, +∞ where σ = 0."""
        return 2 * (self.alpha.log() - self.sigma.log())

    @property
    def relative_sigma(self) -> Tensor:
        """σ/α: the noise in units of the clean data, which variance-exploding models call σ (LanPaint, Eq. 48)."""
        return self.sigma / self.alpha

    @cached_property
    def score_of_epsilon(self) -> Tensor:
        """The factor −1/σ that turns ε̂ into the score; 0 where σ = 0."""
        if "numbers" in self.__dict__ and self.sigma.dtype == torch.float64:
            sigma = self.numbers[1]
            return torch.tensor(-1 / sigma if sigma else 0.0, dtype=torch.float64)
        return -reciprocal(self.sigma)

    def rescale(self, factor: Tensor | float) -> NoiseLevel:
        """The level of c x, with c = ``factor``, if this is the level of x."""
        return NoiseLevel(self.alpha * factor, self.sigma * factor)

    def per_sample(self, ndim: int) -> NoiseLevel:
        """A level of shape ``(B,)`` as shape ``(B, 1, …, 1)`` with ``ndim`` dimensions: one level per sample.

        Raises:
            ValueError: When the level has another shape.
        """
        if len(self.shape) != 1:
            raise ValueError(f"per_sample takes a level of shape (B,), got {tuple(self.shape)}")
        shape = (-1,) + (1,) * (ndim - 1)
        return NoiseLevel(self.alpha.reshape(shape), self.sigma.reshape(shape))

    def to(self, like: Tensor) -> NoiseLevel:
        """This level with α and σ cast to the dtype and device of ``like`` (:func:`cast_like`)."""
        alpha, sigma = cast_like(self.alpha, like), cast_like(self.sigma, like)
        if alpha is self.alpha and sigma is self.sigma:
            return self
        level = object.__new__(NoiseLevel)  # values are checked already, and float16 is allowed here, as in x
        object.__setattr__(level, "alpha", alpha)
        object.__setattr__(level, "sigma", sigma)
        return level

    def perturb(self, clean: Tensor, epsilon: Tensor) -> Tensor:
        """Forward diffusion α x₀ + σ ε (LanPaint, Eq. 2); ``clean`` and ``epsilon`` have the same shape."""
        level = self.to(clean)
        return level.alpha * clean + level.sigma * epsilon

    def __repr__(self) -> str:
        if not self.shape:
            return f"NoiseLevel(alpha={float(self.alpha):.6g}, sigma={float(self.sigma):.6g})"
        return f"NoiseLevel(shape={tuple(self.shape)})"


class Prediction:
    """The result of one evaluation of a model at x, in any of the five views.

    Args:
        x: The state that was evaluated, of any shape.
        level: The noise level of x.
        views: At least one of ``score=``, ``denoised=``, ``epsilon=``, ``v=``, ``flow=``, shaped as x. The other views
            are computed from it when they are asked for. Give two views where a single view loses information. At
            α = 0 the score does not determine x̂₀. At σ = 0 x̂₀ does not determine the score: there, ε̂ computed from x̂₀
            is 0, and a score that was not given is 0.

    Raises:
        ValueError: When no view is given, or a name that is not the name of a view.
    """

    def __init__(self, x: Tensor, level: NoiseLevel, **views: Tensor) -> None:
        if not views or any(name not in VIEWS for name in views):
            raise ValueError(f"a Prediction takes at least one of {', '.join(VIEWS)}, got {', '.join(views) or 'none'}")
        self.x = x
        self.level = level.to(x)
        self._given = views

    @property
    def is_flow(self) -> bool:
        """Whether the model gave the velocity of a rectified flow."""
        return "flow" in self._given

    @property
    def is_lost(self) -> bool:
        """Whether x is finite and the model's output has NaN or infinite values. Waits for the device."""
        answers = all(bool(torch.isfinite(view).all()) for view in self._given.values())
        return bool(torch.isfinite(self.x).all()) and not answers

    @cached_property
    def denoised(self) -> Tensor:
        """Posterior mean x̂₀ = E[x₀ | x], Tweedie's estimate (LanPaint, Eq. 106)."""
        given, alpha, sigma, x = self._given, self.level.alpha, self.level.sigma, self.x
        if "denoised" in given:
            return given["denoised"]
        if "flow" in given:
            return (x - sigma * given["flow"]) / (alpha + sigma)
        if "v" in given:
            return (alpha * x - sigma * given["v"]) / (alpha**2 + sigma**2)
        if "epsilon" in given:
            return (x - sigma * given["epsilon"]) / alpha
        return (x + sigma**2 * given["score"]) / alpha

    @cached_property
    def epsilon(self) -> Tensor:
        """Posterior mean of the noise ε̂ = E[ε | x]."""
        given, alpha, sigma, x = self._given, self.level.alpha, self.level.sigma, self.x
        if "epsilon" in given:
            return given["epsilon"]
        if "score" in given:
            return -sigma * given["score"]
        if "flow" in given:
            return (x + alpha * given["flow"]) / (alpha + sigma)
        if "v" in given:
            return (sigma * x + alpha * given["v"]) / (alpha**2 + sigma**2)
        return (x - alpha * given["denoised"]) * reciprocal(sigma)

    @cached_property
    def score(self) -> Tensor:
        """Score ∇ log p(x) = −ε̂/σ."""
        return self._given["score"] if "score" in self._given else self.epsilon * self.level.score_of_epsilon

    @property
    def score_or_epsilon(self) -> tuple[Tensor, bool]:
        """(score, True) if the model gave the score, else (ε̂, False). Not converting ε̂ saves an operation on x."""
        return (self.score, True) if "score" in self._given else (self.epsilon, False)

    @cached_property
    def v(self) -> Tensor:
        """Diffusion's velocity v = α ε̂ − σ x̂₀."""
        given = self._given
        return given["v"] if "v" in given else self.level.alpha * self.epsilon - self.level.sigma * self.denoised

    @cached_property
    def flow(self) -> Tensor:
        """Rectified flow's velocity u = ε̂ − x̂₀."""
        return self._given["flow"] if "flow" in self._given else self.epsilon - self.denoised

"""The pull of a partner trajectory X_t on the known part of Y_t, and the units of SyncSDE's and ALM's updates.

X_t pulls as a measurement would,

    p(X_t | Y_t) = N(Y_t, v)          so the score of Y_t gets (X_t − Y_t)/v                          (ALM, Eq. 3 and 4)

In native coordinates, with c of :func:`norm` and primes for the next level, v is

    eq4         (c/c') (α'/α − σ'/σ) σ²/w₁     a deterministic step then moves by w₁ (c'/c) (X_t − Y_t)     (ALM, Eq. 2)
    constant    σ²/w₁                          w₁ = 1/λ                                   (SyncSDE; Lee et al., 2025)
    eq28        c² s²/w₁                       s of :func:`ddpm_deviation`                                 (ALM, Eq. 28)
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, Prediction, cast_like, reciprocal
from lanpaint.observation import Observation
from lanpaint.score import Score, ScoreWrapper

Precision = Literal["eq4", "constant", "eq28"]
Coordinates = Literal["auto", "diffusion", "flow"]


def norm(level: NoiseLevel, flow: bool) -> Tensor:
    """c: the factor between native coordinates and those of the formalism, α + σ for a flow, else √(α² + σ²)."""
    return level.alpha + level.sigma if flow else (level.alpha**2 + level.sigma**2).sqrt()


def ddpm_deviation(level: NoiseLevel, next_level: NoiseLevel) -> Tensor:
    """S = √((1 − ᾱ')/(1 − ᾱ)) √(1 − ᾱ/ᾱ'), with ᾱ = α²/(α² + σ²): DDPM's standard deviation (ALM, Eq. 12)."""
    here, there = (each.alpha**2 * reciprocal(each.alpha**2 + each.sigma**2) for each in (level, next_level))
    return ((1 - there) * reciprocal(1 - here) * (1 - here * reciprocal(there))).clamp(min=0).sqrt()


def decay(level: NoiseLevel, next_level: NoiseLevel, flow: bool) -> Tensor:
    """The decay of the weights: s (ALM, Eq. 12), for a flow t⁴ with t = σ/(α + σ) (ALM, Eq. 27)."""
    return (level.sigma / (level.alpha + level.sigma)) ** 4 if flow else ddpm_deviation(level, next_level)


def gain(precision: str, weight: Tensor | float, level: NoiseLevel, next_level: NoiseLevel, flow: bool) -> Tensor:
    """σ²/(α v): by how much a pull of variance v moves x̂₀, in units of X_t − Y_t; 0 where v is 0 or α is."""
    if precision == "eq4":
        moved = next_level.alpha - level.alpha * next_level.sigma * reciprocal(level.sigma)
        return weight * norm(next_level, flow) * reciprocal(moved * norm(level, flow))
    if precision == "constant":
        return weight * reciprocal(level.alpha)
    variance = (norm(level, flow) * ddpm_deviation(level, next_level)) ** 2
    return weight * level.sigma**2 * reciprocal(level.alpha * variance)


class Pulled(ScoreWrapper):
    """The score of Y_t with the pull of its partner on the known part (ALM, Eq. 3).

    Args:
        score: The model.
        observation: Says which entries are known.
        target: X_t, or X_{t−1}; shape of x.
        gain: By how much x̂₀ moves, in units of X_t − Y_t; shape of the level.
    """

    def __init__(self, score: Score, observation: Observation, target: Tensor, gain: Tensor) -> None:
        super().__init__(score)
        self.observation, self.target, self.gain = observation, target, gain

    def rewrite(self, prediction: Prediction) -> Prediction:
        """The prediction whose score has (X_t − Y_t)/v more on the known part; x = α x̂₀ + σ ε̂ still holds."""
        x, level = prediction.x, prediction.level
        pull = self.observation.replace_known(torch.zeros_like(x), self.target - x)
        of_noise = cast_like(self.gain, x) * level.alpha * reciprocal(level.sigma)
        denoised = prediction.denoised + cast_like(self.gain, x) * pull
        return Prediction(x, level, denoised=denoised, epsilon=prediction.epsilon - of_noise * pull)

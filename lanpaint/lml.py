"""LML: a prediction that is corrected by the last one (Wang et al., "LML", Alg. 1).

The method multiplies ε̂ by the inverse of a damped low-rank Hessian, (ε̃ ε̃ᵀ + λ I)⁻¹ with ε̃ = (1 − κ) ε̂ + κ ε̂_prev,
and rescales the result to the norm of ε̂. By Sherman and Morrison, up to a positive factor, per sample,

    g = ε̂ − ε̃ ⟨ε̃, ε̂⟩ / (λ + ‖ε̃‖²)

As it stands the two terms of g cancel but for a share λ/‖ε̂‖², so rounding turns g. With d = ε̂ − ε̂_prev, E = ‖ε̂‖²,
a = ⟨d, ε̂⟩ and b = ‖d‖² the same direction is, without cancellation,

    g ∝ (λ − κ a + κ² b) ε̂ + κ (E − κ a) d

To first order in κ that is ε̂ + β d⊥, where d⊥ is the part of d at right angles to ε̂, and β = κ E/λ. So β is what
matters, and it is what one sets here. ε̂ + ½ d is the two-step Adams–Bashforth step for even steps. The rescaling drops
the part of d along ε̂. So LML extrapolates the direction alone, and stays of first order for every β. λ is given in
units of E here, so that it does not depend on the number of entries.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.score import Score, ScoreWrapper


class LML(ScoreWrapper):
    """A score whose predictions are corrected by the prediction at the level before.

    The correction is of ε̂; for a model that predicts the velocity of a rectified flow, of that velocity. Evaluations at
    one level are all corrected by the last evaluation at the level before.

    Args:
        score: The model.
        beta: β ≥ 0, the strength of the correction in the limit of a small κ; 0 corrects nothing.
        kappa: κ in [0, 1) of the published form, with ``damping``, instead of ``beta``.
        damping: λ/‖ε̂‖² > 0 of the published form. β is ``kappa / damping``. The paper has λ = 0.0008 to 0.001, with
            κ = 0.001 for SDXL, 0.004 for latents of CelebA-HQ and 0.006 for PixArt.
        below: The correction acts at levels with σ/α below this number only. LML leaves the first share of a run alone.
        keep_denoised: Whether x̂₀ stays that of the uncorrected ε̂, as LML has it under DDIM. Then the solver does not
            converge as the steps get shorter: its error stays near a number that grows with β. By default x̂₀ follows
            from g, as LML has it under DPM-Solver.

    Raises:
        ValueError: For numbers outside of these ranges, and unless either ``beta`` or both ``kappa`` and ``damping``
            are given.
    """

    def __init__(
        self,
        score: Score,
        beta: float | None = None,
        *,
        kappa: float | None = None,
        damping: float | None = None,
        below: float = math.inf,
        keep_denoised: bool = False,
    ) -> None:
        super().__init__(score)
        if (beta is None) == (kappa is None) or (kappa is None) != (damping is None):
            raise ValueError("give beta (β), or both kappa (κ) and damping (λ)")
        if beta is not None and not 0 <= beta < math.inf:
            raise ValueError(f"beta (β) must be a number of at least 0, got {beta}")
        if kappa is not None and damping is not None and not (0 <= kappa < 1 and 0 < damping < math.inf):
            raise ValueError(f"kappa (κ) must lie in [0, 1) and damping (λ) above 0, got {kappa} and {damping}")
        if not below > 0:
            raise ValueError(f"below must be a positive value of σ/α, got {below}")
        self.beta, self.kappa, self.damping = beta, kappa, damping
        self.below, self.keep_denoised = below, keep_denoised
        self._level: NoiseLevel | None = None
        self._last: Tensor | None = None  # at the present level
        self._before: Tensor | None = None  # at the level before

    def reset(self) -> None:
        """Forget the predictions of the last run."""
        super().reset()
        self._level = self._last = self._before = None

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """The corrected prediction, from one evaluation of the model."""
        prediction = self.wrapped.predict(x, level)
        view = "flow" if prediction.is_flow else "epsilon"
        value: Tensor = getattr(prediction, view)
        if level is not self._level:
            self._level, self._before = level, self._last
        self._last = value
        before = self._before
        if (
            self.beta == 0
            or before is None
            or before.shape != value.shape
            or not bool((level.relative_sigma < self.below).all())
        ):
            return prediction
        views = {view: self._corrected(value, before)}
        if self.keep_denoised:
            views["denoised"] = prediction.denoised
        return Prediction(x, level, **views)

    def _corrected(self, value: Tensor, before: Tensor) -> Tensor:
        """The corrected direction with the norm of ``value``, per sample."""
        flat = value.flatten(1)
        change = flat - before.flatten(1)
        energy = flat.square().sum(1, keepdim=True)
        along = (change * flat).sum(1, keepdim=True)
        if self.beta is not None:
            share = 1 - self.beta * along / energy
            turned = share * flat + self.beta * change
        else:
            assert self.kappa is not None
            assert self.damping is not None
            kappa, size = self.kappa, change.square().sum(1, keepdim=True)
            turned = (self.damping * energy - kappa * along + kappa**2 * size) * flat
            turned = turned + kappa * (energy - kappa * along) * change
        turned = turned * (energy.sqrt() / turned.norm(dim=1, keepdim=True))
        return torch.where(energy > 0, turned, flat).view_as(value)

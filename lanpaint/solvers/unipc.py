"""UniPC (Zhao et al., 2023, arXiv:2302.04867): a multistep predictor, and a corrector that costs no evaluation.

With x̂₀ in λ = log(α/σ), as DPM-Solver++ (:mod:`lanpaint.solvers.multistep` has the integrals):

    predictor, UniP-p    x' = DDIM step + Σ cᵢ (x̂₀₋ᵢ − x̂₀)      a polynomial through x̂₀ and p − 1 earlier ones
    corrector, UniC-p    the same step, with a polynomial through x̂₀' too

The model is evaluated next where the predictor ends. So the corrector of a step is applied at the start of the next
step, before its predictor, and the last step is not corrected.

UniP-p has order p, and UniC-p makes it p + 1. UniP-3 is 3M with the right second derivative, and UniP-2 is 2M if
B = 1 − e^(−h). B(h) matters only where the polynomial is a line, in UniP-2 and UniC-1; in all others it cancels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lanpaint.device import move_like
from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.randomness import NoiseSource
from lanpaint.score import Score
from lanpaint.solvers.base import Solver, SolverState, keep_still
from lanpaint.solvers.multistep import BH, MultistepState, Placed, beyond_first_order, on_one_device


@dataclass(frozen=True)
class UniPCState(MultistepState):
    """State of :class:`UniPC`.

    Attributes:
        x: State at the current level, shape (B, …).
        prediction: The model's prediction in the last step, or None before the first step.
        history: Pairs (x̂₀, λ) of earlier steps, the latest first; ``order`` of them at most.
        reached: The state as the predictor left it, or None before the first step.
        euler: The first-order step to the current level, or None before the first step.
    """

    euler: Tensor | None = None


class UniPC(Solver):
    """UniPC-p with prediction of x̂₀ (Zhao et al., 2023). Order p + 1, one evaluation per step.

    The first steps have lower orders, which are corrected too: UniPC-2 has order 3 from the start, and UniPC-3 order 4
    with an error of order 3 from its first steps. A step that starts at α = 0 or ends at σ = 0 has order 1, and so has
    the first step of an entry after steps in which its level did not change. There is no lower order in the step before
    the last, which diffusers has by default.

    The corrector takes the change of x̂₀ since the last level for its change along the flow. Where a sampler has changed
    x since the predictor, by inner steps or known values, that is wrong, and the corrected state would lack what the
    sampler did. Such a sample is not corrected, and begins anew with a first-order step. Within
    :class:`~lanpaint.LanPaint` with inner steps at every level the solver is therefore :class:`Euler`.

    Args:
        order: p, 2 or 3. The default 2 suits models with classifier-free guidance, and 3 suits models without.
        bh: ``"bh2"`` has B(h) = 1 − e^(−h), ``"bh1"`` has B(h) = h, which is advised for fewer than ten steps without
            guidance. With p = 3 they differ in the first two steps only.

    Raises:
        ValueError: For an order other than 2 and 3, and for another B(h).
    """

    def __init__(self, order: int = 2, bh: BH = "bh2") -> None:
        if not isinstance(order, int) or order not in (2, 3):
            raise ValueError(f"order must be 2 or 3, got {order!r}; order 1 is Euler()")
        if bh not in ("bh1", "bh2"):
            raise ValueError(f"bh must be bh1 (B = h) or bh2 (B = 1 − e^(−h)), got {bh!r}")
        self.order, self.bh = order, bh

    def init(self, x: Tensor, steps: int) -> UniPCState:
        """The state at the first level, without history."""
        return UniPCState(x)

    def step(
        self, state: SolverState, score: Score, level: NoiseLevel, next_level: NoiseLevel, noise: NoiseSource
    ) -> UniPCState:
        """The state at ``next_level``: the corrector of the last step, and the predictor from there."""
        assert isinstance(state, UniPCState)
        history, prediction = state.recalled(), score.predict(state.x, level)
        now = prediction.denoised, level.log_snr / 2
        euler = next_level.perturb(prediction.denoised, prediction.epsilon)
        change = self._correction(state, history, now, level)
        if change is not None:  # x̂₀ stays as it is, so the change of x is one of its noise
            euler = euler + cast_like(next_level.sigma * reciprocal(level.sigma), euler) * change
        x = euler + beyond_first_order(now, history[: self.order - 1], next_level, "denoised", self.bh)
        x = keep_still(x, state.x, level, next_level)
        return UniPCState(x, prediction, (now, *history)[: self.order], x, euler)

    def _correction(
        self, state: UniPCState, history: tuple[Placed, ...], now: Placed, level: NoiseLevel
    ) -> Tensor | None:
        """What the corrector of the last step adds to x, shape (B, …); 0 for entries that are not corrected."""
        if state.euler is None:
            return None
        last, *earlier = history
        corrected = state.euler + beyond_first_order(last, [now, *earlier], level, "denoised", self.bh)
        lam, before = on_one_device([now[1], last[1]], state.x)
        h = lam - before
        moved = move_like(torch.isfinite(h) & (h > 0), state.x).bool()
        return torch.where(moved, corrected - state.x, 0.0)

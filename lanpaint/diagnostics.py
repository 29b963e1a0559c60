"""The diagnostics of ALM (arXiv:2606.31323, Appendices C and D): do its two approximations hold for a model?"""

from __future__ import annotations

import torch
from torch import Tensor

from lanpaint.callbacks import Callback, RunningSampler
from lanpaint.noise import NoiseLevel
from lanpaint.sampler_state import SamplerState
from lanpaint.score import Score, as_score


def blend_deviation(
    score: Score, state: Tensor, partner: Tensor, level: NoiseLevel, mask: Tensor, changed: Tensor
) -> Tensor:
    """How much the score of the blend E = X (1 − M) + Y M depends on the edge of the mask (ALM, Eq. 29).

    Args:
        score: The model.
        state: Y_t, shape (B, …).
        partner: X_t, shape (B, …).
        level: Their noise level.
        mask: M, 1 where unknown, floating point, broadcastable to the state.
        changed: Another mask, dilated or with noise along its edge.

    Returns:
        ‖s(E') − s(E)‖ / ‖s(E)‖ for each sample, shape (B,).
    """
    score = as_score(score)
    before, after = (
        score.predict(torch.lerp(partner, state, each.to(state)), level).epsilon for each in (mask, changed)
    )
    return (after - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)


class UpdateSizes(Callback):
    """Sizes of the inner steps of a run: of ALM's updates Δⁱ, whose one-step form takes all of them as equal.

    Attributes:
        sizes: For each level, the mean of ‖Δⁱ‖ over steps and samples, in the coordinates of x (ALM, Eq. 30).
        changes: For each level, the mean of ‖Δⁱ⁺¹ − Δⁱ‖; 0 with one step (ALM, Eq. 31).
    """

    def __init__(self) -> None:
        self.sizes: list[float] = []
        self.changes: list[float] = []

    def on_run_start(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Forget an earlier run."""
        self.sizes, self.changes = [], []

    def on_level_start(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Begin a level."""
        self._last, self._before = None, state.x
        self._level: tuple[list[Tensor], list[Tensor]] = [], []

    _last: Tensor | None
    _before: Tensor

    def on_inner_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Measure a step."""
        update = (state.x - self._before).flatten(1)
        self._level[0].append(update.norm(dim=1).mean())
        if self._last is not None:
            self._level[1].append((update - self._last).norm(dim=1).mean())
        self._last, self._before = update, state.x

    def on_level_end(self, sampler: RunningSampler, state: SamplerState) -> None:
        """Keep the means of a level. Reads numbers from the device."""
        for kept, measured in zip((self.sizes, self.changes), self._level, strict=True):
            kept.append(float(torch.stack(measured).mean()) if measured else 0.0)

"""The score of a canvas that is larger than a model's window: the average of the model over overlapping windows.

    x̂₀ = D⁻¹ Σ_i W_iᵀ x̂₀(W_i x)          ε̂ the same          W_i cuts window i, D counts the windows over an entry

A step of a solver is linear in (x, x̂₀, ε̂). So with this score, a deterministic solver is MultiDiffusion (Bar-Tal et
al., 2023, arXiv:2302.08113), which averages the windows' next states, and also SyncTweedies (Kim et al., 2024,
arXiv:2403.14370), which averages their x̂₀. New noise is drawn on the canvas, so that its variance does not shrink.
Averaging is exact only where the windows do not interact: docs/chains.md has the law.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lanpaint.checks import check_whole
from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.score import Score, ScoreWrapper
from lanpaint.tiling import Part, Tiling


class WindowedScore(ScoreWrapper):
    """A score of canvases of any size, averaged over windows of a model (MultiDiffusion, SyncTweedies).

    Every sampler, solver and dynamics drives it unchanged. One evaluation of it calls the model for all windows.

    Args:
        score: The model of one window, as in :class:`Sampler`.
        window: Entries of a window along the last axes: a number for the last axis, or one for each of several last
            axes. None is a whole axis. Videos (B, C, F, H, W) in windows of 16 frames: ``(16, None, None)``.
        overlap: Entries that neighbours share, a number or one for each axis.
        batch: Windows in one call of the model; fewer take less memory.
        shifted: Whether windows without an overlap are shifted by half of a window.

    Raises:
        ValueError: For an overlap that is not below the window, and as :class:`~lanpaint.ScoreWrapper`; at a call, for
            a canvas smaller than a window.

    Example:
        >>> import torch, lanpaint as lp
        >>> from lanpaint_toys import Gaussian
        >>> window = Gaussian([0.0] * 4, torch.eye(4))
        >>> lp.Sampler(lp.WindowedScore(window, window=4, overlap=1), steps=5)((2, 100)).shape
        torch.Size([2, 100])
    """

    def __init__(
        self,
        score: Score | Callable[[Tensor, NoiseLevel], Tensor],
        window: int | Sequence[int | None],
        overlap: int | Sequence[int],
        *,
        batch: int = 16,
        shifted: bool = False,
    ) -> None:
        super().__init__(score)
        check_whole("batch", batch, least=1)
        self.tiling, self.batch = Tiling(window, overlap, shifted), batch

    def predict(self, x: Tensor, level: NoiseLevel) -> Prediction:
        """The average of the predictions of all windows."""
        parts = self.tiling.parts(x.shape)
        denoised, epsilon = torch.zeros_like(x), torch.zeros_like(x)
        size = self.batch if level.alpha.numel() == 1 else 1
        for first in range(0, len(parts), size):
            some = parts[first : first + size]
            answer = self.wrapped.predict(torch.cat([x[part] for part in some]), _cut(level, some[0], x))
            for number, part in enumerate(some):
                rows = slice(number * len(x), (number + 1) * len(x))
                denoised[part] += answer.denoised[rows]
                epsilon[part] += answer.epsilon[rows]
        count = self.tiling.count(x.shape).to(x)
        return Prediction(x, level, denoised=denoised / count, epsilon=epsilon / count)


def _cut(level: NoiseLevel, part: Part, x: Tensor) -> NoiseLevel:
    """The level of a window. Axes along which it does not vary stay 1: a network may want one time for all channels."""

    def cut(values: Tensor) -> Tensor:
        values = values.reshape((1,) * (x.ndim - values.ndim) + values.shape)
        return values[tuple(p if n > 1 else slice(None) for p, n in zip(part, values.shape, strict=True))]

    return level if level.alpha.numel() == 1 else NoiseLevel(cut(level.alpha), cut(level.sigma))

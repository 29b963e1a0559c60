"""Replace: the known entries are overwritten at every level, and nothing else is done (LanPaint, Eq. 8).

A heuristic: it draws y from p_t(y | y_o) but leaves x somewhere between p_t(x) and p_t(x | y) (Eq. 9). One evaluation
per step, no gradients.
"""

from __future__ import annotations

from torch import Tensor

from lanpaint.noise import NoiseLevel
from lanpaint.observation import Observation
from lanpaint.randomness import NoiseSource
from lanpaint.samplers.base import Sampler


class Replace(Sampler):
    """The Replace method (Song & Ermon, 2019; LanPaint, Eq. 8). Arguments are those of :class:`Sampler`."""

    def enter(self, x: Tensor, level: NoiseLevel, observation: Observation, noise: NoiseSource) -> Tensor:
        """Known entries drawn from p_t(y | y_o)."""
        return observation.replace_known(x, observation.diffused(level, noise(x)))

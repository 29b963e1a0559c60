"""Replace: the known entries are overwritten at every level, and nothing else is done (LanPaint, Eq. 8).

The method is a heuristic: y is drawn from p_t(y | y_o), but the distribution of x stays somewhere between p_t(x) and
p_t(x | y) (Eq. 9). It takes one evaluation per outer step, and no gradients.
"""

from __future__ import annotations

from dataclasses import replace

from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.sampler import Sampler


class Replace(Sampler):
    """The Replace method (Song & Ermon, 2019; LanPaint, Eq. 8). It has the arguments of :class:`Sampler`."""

    def enter(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The state with known entries drawn from p_t(y | y_o)."""
        state = super().enter(state, visit, noise)
        drawn = state.observation.diffused(visit.level, noise(state.x))
        return replace(state, x=state.observation.replace_known(state.x, drawn))

"""Blended diffusion (Avrahami, Lischinski & Fried, 2022, arXiv:2111.14818, Alg. 2; latents: arXiv:2206.02779).

After each outer step to (α', σ') the known entries are overwritten by α' y + σ' ξ, and nothing else is done. It is
:class:`~lanpaint.Replace` with the replacement after instead of before the step: the same random numbers give the same
states, but for the first level, where it replaces nothing, and the last one, where it replaces once more.

The method is a heuristic, with the law of Replace. It takes the evaluations of the solver, and no gradients. The
published settings are 50 DDIM steps, of which the first quarter is left out: that is
:meth:`Observation.soft(values, 0.75) <lanpaint.Observation.soft>` for the entries that may change. The published code
noises y to the level that a step leaves, and not to the one that it reaches.
"""

from __future__ import annotations

from dataclasses import replace

from lanpaint.plan import Visit
from lanpaint.randomness import NoiseSource
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.sampler import Sampler


class Blended(Sampler):
    """Blended diffusion (Avrahami et al., 2022). It has the arguments of :class:`Sampler`."""

    def advance(self, state: SamplerState, visit: Visit, noise: NoiseSource) -> SamplerState:
        """The solver's step, and known entries drawn at the level that it reaches."""
        state = super().advance(state, visit, noise)
        drawn = state.observation.diffused(visit.next_level, noise(state.x))
        return replace(state, x=state.observation.replace_known(state.x, drawn))

"""Samplers: the loop, solver outside and dynamics inside.

============================  ==========================================  ==============  =========
sampler                       targets                                     NFE per step    gradients
============================  ==========================================  ==============  =========
:class:`Replace`              heuristic                                   1               no
:class:`RePaint`              exact conditional, by many short steps      N + 1           no
:class:`LangevinPaint` (TFG)  exact conditional                           N + 1           no
:class:`LanPaint`             exact conditional                           N + 1           no
:class:`DDRM`                 heuristic                                   1               no
:class:`MCG`, :class:`DPS`    heuristic                                   1               yes
:class:`CoPaint`              heuristic                                   G + 1           yes
:class:`TwistedSMC`           exact conditional of the discretised chain  K               yes
============================  ==========================================  ==============  =========

The rows of LanPaint's ablation (Table 3) are one class, at one ``step_size``: ``LanPaint(lam=0,
dynamics=Langevin())`` is "None (Langevin)", ``LanPaint(dynamics=Langevin())`` "+ BiG score", ``LanPaint(lam=0)``
"+ FLD" and ``LanPaint()`` both. :class:`LangevinPaint` is not one of them but the paper's baseline TFG: it holds the
known part within a level, and its step has another schedule.
"""

from lanpaint.samplers.copaint import CoPaint
from lanpaint.samplers.ddrm import DDRM
from lanpaint.samplers.dps import DPS
from lanpaint.samplers.langevin_paint import LangevinPaint
from lanpaint.samplers.langevin_sampler import LangevinMemory, LangevinSampler
from lanpaint.samplers.lanpaint import LanPaint
from lanpaint.samplers.mcg import MCG
from lanpaint.samplers.repaint import RePaint
from lanpaint.samplers.replace import Replace
from lanpaint.samplers.sampler import Memory, Sampler
from lanpaint.samplers.smc import Particles, TwistedSMC

__all__ = [
    "DDRM",
    "DPS",
    "MCG",
    "CoPaint",
    "LanPaint",
    "LangevinMemory",
    "LangevinPaint",
    "LangevinSampler",
    "Memory",
    "Particles",
    "RePaint",
    "Replace",
    "Sampler",
    "TwistedSMC",
]

"""Samplers: algorithms that draw samples, with a solver for outer steps and often a dynamics for inner steps.

docs/methods.md is a table of all of them: what each targets, what it costs, and where it is published.

The rows of LanPaint's ablation (Table 3) are settings of one class, :class:`LanPaint`, with equal ``step_size``:

- "None (Langevin)" is ``LanPaint(lam=0, dynamics=Langevin())``,
- "+ BiG score" is ``LanPaint(dynamics=Langevin())``,
- "+ FLD" is ``LanPaint(lam=0)``,
- the full method is ``LanPaint()``.

:class:`LangevinPaint` is no row of the ablation. It is TFG, a baseline of the paper: it keeps the known part fixed
within a level, and its step length depends on the noise level in a different way.
"""

from lanpaint.samplers.alm import ALM
from lanpaint.samplers.async_paint import AsyncPaint
from lanpaint.samplers.blended import Blended
from lanpaint.samplers.copaint import CoPaint
from lanpaint.samplers.daps import DAPS
from lanpaint.samplers.ddnm import DDNM
from lanpaint.samplers.ddrm import DDRM
from lanpaint.samplers.diffpir import DiffPIR
from lanpaint.samplers.ding import DING
from lanpaint.samplers.dps import DPS
from lanpaint.samplers.flowchef import FlowChef
from lanpaint.samplers.flowdps import FlowDPS
from lanpaint.samplers.fpssmc import FPSSMC
from lanpaint.samplers.guided import Guided
from lanpaint.samplers.langevin_paint import LangevinPaint
from lanpaint.samplers.langevin_sampler import LangevinMemory, LangevinSampler
from lanpaint.samplers.lanpaint import LanPaint
from lanpaint.samplers.latino import LATINO
from lanpaint.samplers.mcg import MCG
from lanpaint.samplers.mcgdiff import MCGDiff
from lanpaint.samplers.mgdm import MGDM
from lanpaint.samplers.mgps import MGPS
from lanpaint.samplers.midpoint import MidpointSampler
from lanpaint.samplers.mmps import MMPS
from lanpaint.samplers.particles import Particles
from lanpaint.samplers.pigdm import PiGDM
from lanpaint.samplers.pnpdm import PnPDM
from lanpaint.samplers.reddiff import REDDiff
from lanpaint.samplers.repaint import RePaint
from lanpaint.samplers.replace import Replace
from lanpaint.samplers.sampler import Memory, Sampler
from lanpaint.samplers.smc import TwistedSMC
from lanpaint.samplers.smcdiff import SMCDiff
from lanpaint.samplers.stochsync import StochSync
from lanpaint.samplers.syncsde import SyncSDE
from lanpaint.samplers.tmpd import TMPD

__all__ = [
    "ALM",
    "DAPS",
    "DDNM",
    "DDRM",
    "DING",
    "DPS",
    "FPSSMC",
    "LATINO",
    "MCG",
    "MGDM",
    "MGPS",
    "MMPS",
    "TMPD",
    "AsyncPaint",
    "Blended",
    "CoPaint",
    "DiffPIR",
    "FlowChef",
    "FlowDPS",
    "Guided",
    "LanPaint",
    "LangevinMemory",
    "LangevinPaint",
    "LangevinSampler",
    "MCGDiff",
    "Memory",
    "MidpointSampler",
    "Particles",
    "PiGDM",
    "PnPDM",
    "REDDiff",
    "RePaint",
    "Replace",
    "SMCDiff",
    "Sampler",
    "StochSync",
    "SyncSDE",
    "TwistedSMC",
]

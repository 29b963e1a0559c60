"""Samplers: the loop, solver outside and dynamics inside."""

from lanpaint.samplers.base import Sampler
from lanpaint.samplers.langevin_paint import LangevinPaint
from lanpaint.samplers.lanpaint import LanPaint
from lanpaint.samplers.replace import Replace

__all__ = ["LanPaint", "LangevinPaint", "Replace", "Sampler"]

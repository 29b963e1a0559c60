"""Dynamics: inner steps of stochastic differential equations that leave the law of a drift invariant."""

from lanpaint.dynamics.base import Dynamics, State
from lanpaint.dynamics.fast_langevin import FastLangevin, FastLangevinState
from lanpaint.dynamics.langevin import Langevin

__all__ = ["Dynamics", "FastLangevin", "FastLangevinState", "Langevin", "State"]

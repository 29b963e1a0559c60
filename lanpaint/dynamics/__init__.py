"""Dynamics: stochastic differential equations whose steps, the inner steps, leave a distribution invariant.

The score of that distribution is the drift.
"""

from lanpaint.dynamics.base import Dynamics, State
from lanpaint.dynamics.fast_langevin import FastLangevin, FastLangevinState
from lanpaint.dynamics.hfhr import HFHR
from lanpaint.dynamics.langevin import Langevin
from lanpaint.dynamics.lm_langevin import LMLangevin
from lanpaint.dynamics.metropolis import MALA, Metropolis, MetropolisState
from lanpaint.dynamics.partial_refresh import PartialRefresh, PartialRefreshState
from lanpaint.dynamics.preconditioned import Preconditioned, PreconditionedState
from lanpaint.dynamics.secant import SecantLangevin, SecantState
from lanpaint.dynamics.underdamped import Underdamped, UnderdampedState

__all__ = [
    "HFHR",
    "MALA",
    "Dynamics",
    "FastLangevin",
    "FastLangevinState",
    "LMLangevin",
    "Langevin",
    "Metropolis",
    "MetropolisState",
    "PartialRefresh",
    "PartialRefreshState",
    "Preconditioned",
    "PreconditionedState",
    "SecantLangevin",
    "SecantState",
    "State",
    "Underdamped",
    "UnderdampedState",
]

"""Solvers: outer steps from one noise level to the next."""

from lanpaint.solvers.base import Solver, SolverState
from lanpaint.solvers.euler import Euler

__all__ = ["Euler", "Solver", "SolverState"]

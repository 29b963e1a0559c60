"""Solvers: numerical methods that make the outer steps of the reverse process."""

from lanpaint.solvers.base import Solver, SolverState
from lanpaint.solvers.ddim import DDIM, DDPM
from lanpaint.solvers.dpm_solver import DPMSolver
from lanpaint.solvers.euler import Euler
from lanpaint.solvers.heun import Heun
from lanpaint.solvers.pndm import PNDM
from lanpaint.solvers.unipc import UniPC

__all__ = ["DDIM", "DDPM", "PNDM", "DPMSolver", "Euler", "Heun", "Solver", "SolverState", "UniPC"]

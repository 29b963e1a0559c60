"""Targets with exact scores and exact conditional samples, and small networks that are trained here."""

from lanpaint_toys.gaussian import Gaussian, GaussianMixture
from lanpaint_toys.problems import Problem, gauss2, star500

__all__ = ["Gaussian", "GaussianMixture", "Problem", "gauss2", "star500"]

"""Targets with exact scores and exact conditional samples, and small networks that are trained here."""

from toy_models.gaussian import Gaussian, GaussianMixture
from toy_models.problems import Problem, gauss2, star500

__all__ = ["Gaussian", "GaussianMixture", "Problem", "gauss2", "star500"]

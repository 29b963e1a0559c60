"""Benchmarks of methods against exact samples and held-out images: single runs, grids of runs, and reports."""

from lanpaint.bench.grid import Section, expand, read_grid, run_sections
from lanpaint.bench.results import Results
from lanpaint.bench.runs import Result, Settings, run
from lanpaint.bench.targets import AnalyticTarget, ImageTarget, SeriesTarget, Target, make_target
from lanpaint.methods import METHODS, Method, find_method, make_sampler

__all__ = [
    "METHODS",
    "AnalyticTarget",
    "ImageTarget",
    "Method",
    "Result",
    "Results",
    "Section",
    "SeriesTarget",
    "Settings",
    "Target",
    "expand",
    "find_method",
    "make_sampler",
    "make_target",
    "read_grid",
    "run",
    "run_sections",
]

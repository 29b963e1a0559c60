"""Training-free conditional sampling with diffusion and flow models: Score × Dynamics × Solver × Sampler."""

from importlib.metadata import PackageNotFoundError, version

from lanpaint.callbacks import (
    Callback,
    DivergenceError,
    EarlyStop,
    FiniteCheck,
    LightningLogger,
    Moment,
    ProgressBar,
    Stop,
    TrajectoryRecorder,
)
from lanpaint.drift import Drift
from lanpaint.dynamics import Dynamics, FastLangevin, Langevin, State
from lanpaint.fields import BiG, Decoupled
from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.observation import Observation
from lanpaint.randomness import NormalNoise, seeded
from lanpaint.samplers import LangevinPaint, LanPaint, Replace, Sampler
from lanpaint.schedules import VE, VP, Flow, Schedule
from lanpaint.score import CountedScore, GuidedScore, NetworkScore, Score, as_score
from lanpaint.solvers import Euler, Solver, SolverState
from lanpaint.spacings import Karras, uniform_log_snr, uniform_time

try:
    __version__ = version("lanpaint")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

__all__ = [
    "VE",
    "VP",
    "BiG",
    "Callback",
    "CountedScore",
    "Decoupled",
    "DivergenceError",
    "Drift",
    "Dynamics",
    "EarlyStop",
    "Euler",
    "FastLangevin",
    "FiniteCheck",
    "Flow",
    "GuidedScore",
    "Karras",
    "LanPaint",
    "Langevin",
    "LangevinPaint",
    "LightningLogger",
    "Moment",
    "NetworkScore",
    "NoiseLevel",
    "NormalNoise",
    "Observation",
    "Prediction",
    "ProgressBar",
    "Replace",
    "Sampler",
    "Schedule",
    "Score",
    "Solver",
    "SolverState",
    "State",
    "Stop",
    "TrajectoryRecorder",
    "as_score",
    "seeded",
    "uniform_log_snr",
    "uniform_time",
]

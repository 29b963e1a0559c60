"""Training-free conditional sampling with diffusion and flow models: Score × Dynamics × Solver × Sampler."""

from importlib.metadata import PackageNotFoundError, version

from lanpaint.adapters.bridge import bridged
from lanpaint.adapters.schedulers import DiffusersSolver
from lanpaint.adapters.series import SeriesModel, load_series_model
from lanpaint.callbacks import (
    Callback,
    DivergenceError,
    EarlyStop,
    FiniteCheck,
    LightningLogger,
    ProgressBar,
    Stop,
    TrajectoryRecorder,
)
from lanpaint.chain import Chain
from lanpaint.degradations import AveragePooling, Blur, Channels, CompressiveSensing, Grey
from lanpaint.drift import Drift
from lanpaint.dynamics import (
    HFHR,
    MALA,
    Dynamics,
    FastLangevin,
    Langevin,
    LMLangevin,
    Metropolis,
    PartialRefresh,
    Preconditioned,
    SecantLangevin,
    State,
    Underdamped,
)
from lanpaint.fields import BiG, Decoupled
from lanpaint.fitted import FittedGaussian
from lanpaint.inpainter import Inpainter
from lanpaint.input_guidance import InputGuidance
from lanpaint.likelihood import LikelihoodBound, likelihood_bound
from lanpaint.linear import LinearOperator, RotatedScore
from lanpaint.lml import LML
from lanpaint.noise import NoiseLevel, Prediction
from lanpaint.observation import Observation
from lanpaint.painting import (
    Cancelled,
    Painter,
    Progress,
    Result,
    Settings,
    Summary,
    Task,
    open_painter,
    paint_folder,
)
from lanpaint.pair_operator import PairOperator
from lanpaint.pipeline_window import PipelineWindow
from lanpaint.plan import Plan, Visit
from lanpaint.preview import Preview
from lanpaint.randomness import NormalNoise, seeded
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers import (
    ALM,
    DAPS,
    DDNM,
    DDRM,
    DING,
    DPS,
    FPSSMC,
    LATINO,
    MCG,
    MGDM,
    MGPS,
    MMPS,
    TMPD,
    AsyncPaint,
    Blended,
    CoPaint,
    DiffPIR,
    FlowChef,
    FlowDPS,
    LangevinMemory,
    LangevinPaint,
    LangevinSampler,
    LanPaint,
    MCGDiff,
    Memory,
    Particles,
    PiGDM,
    PnPDM,
    REDDiff,
    RePaint,
    Replace,
    Sampler,
    SMCDiff,
    StochSync,
    SyncSDE,
    TwistedSMC,
)
from lanpaint.schedules import VE, VP, Flow, Schedule
from lanpaint.score import CountedScore, GuidedScore, NetworkScore, Score, ScoreWrapper, as_score
from lanpaint.series import complete_series
from lanpaint.skeletons import Skeleton, read_skeleton
from lanpaint.solvers import DDIM, DDPM, PNDM, DPMSolver, Euler, Heun, Solver, SolverState, UniPC
from lanpaint.spacings import Focused, Karras, linspace_time, uniform_log_snr, uniform_time
from lanpaint.stein import SteinCheck, stein_check
from lanpaint.time_path import TimePath, raster_patches
from lanpaint.units import Units
from lanpaint.verification import verify
from lanpaint.windowed import WindowedScore

try:
    __version__ = version("lanpaint")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0+unknown"

__all__ = [
    "ALM",
    "DAPS",
    "DDIM",
    "DDNM",
    "DDPM",
    "DDRM",
    "DING",
    "DPS",
    "FPSSMC",
    "HFHR",
    "LATINO",
    "LML",
    "MALA",
    "MCG",
    "MGDM",
    "MGPS",
    "MMPS",
    "PNDM",
    "TMPD",
    "VE",
    "VP",
    "AsyncPaint",
    "AveragePooling",
    "BiG",
    "Blended",
    "Blur",
    "Callback",
    "Cancelled",
    "Chain",
    "Channels",
    "CoPaint",
    "CompressiveSensing",
    "CountedScore",
    "DPMSolver",
    "Decoupled",
    "DiffPIR",
    "DiffusersSolver",
    "DivergenceError",
    "Drift",
    "Dynamics",
    "EarlyStop",
    "Euler",
    "FastLangevin",
    "FiniteCheck",
    "FittedGaussian",
    "Flow",
    "FlowChef",
    "FlowDPS",
    "Focused",
    "Grey",
    "GuidedScore",
    "Heun",
    "Inpainter",
    "InputGuidance",
    "Karras",
    "LMLangevin",
    "LanPaint",
    "Langevin",
    "LangevinMemory",
    "LangevinPaint",
    "LangevinSampler",
    "LightningLogger",
    "LikelihoodBound",
    "LinearOperator",
    "MCGDiff",
    "Memory",
    "Metropolis",
    "NetworkScore",
    "NoiseLevel",
    "NormalNoise",
    "Observation",
    "Painter",
    "PairOperator",
    "PartialRefresh",
    "Particles",
    "PiGDM",
    "PipelineWindow",
    "Plan",
    "PnPDM",
    "Preconditioned",
    "Prediction",
    "Preview",
    "Progress",
    "ProgressBar",
    "REDDiff",
    "RePaint",
    "Replace",
    "Result",
    "RotatedScore",
    "SMCDiff",
    "Sampler",
    "SamplerState",
    "Schedule",
    "Score",
    "ScoreWrapper",
    "SecantLangevin",
    "SeriesModel",
    "Settings",
    "Skeleton",
    "Solver",
    "SolverState",
    "State",
    "SteinCheck",
    "StochSync",
    "Stop",
    "Summary",
    "SyncSDE",
    "Task",
    "TimePath",
    "TrajectoryRecorder",
    "TwistedSMC",
    "Underdamped",
    "UniPC",
    "Units",
    "Visit",
    "WindowedScore",
    "as_score",
    "bridged",
    "complete_series",
    "likelihood_bound",
    "linspace_time",
    "load_series_model",
    "open_painter",
    "paint_folder",
    "raster_patches",
    "read_skeleton",
    "seeded",
    "stein_check",
    "uniform_log_snr",
    "uniform_time",
    "verify",
]

"""The presets of LanPaint: the paper's settings, and those that need fewer evaluations (docs/frontier.md)."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lanpaint.checks import check_real
from lanpaint.dynamics import FastLangevin, PartialRefresh
from lanpaint.fields import BiG
from lanpaint.noise import NoiseLevel, cast_like, reciprocal
from lanpaint.plan import even, falling, late, rising
from lanpaint.sampler_state import SamplerState
from lanpaint.samplers.data_scale import WIDE
from lanpaint.samplers.langevin_sampler import check_step_size
from lanpaint.spacings import Focused, uniform_time

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "lam": 8.0,
        "step_size": 0.15,
        "dynamics": lambda lam: FastLangevin(15.0),
        "spacing": lambda scale: uniform_time,
        "allocate": even,
    },
    "fast": {
        "lam": 20.0,
        "step_size": 1.0,
        "dynamics": lambda lam: PartialRefresh(kept_momentum(lam)),
        "spacing": Focused,
        "allocate": late,
    },
    **{
        name: {
            "lam": 5.0,
            "step_size": 0.2,
            "dynamics": lambda lam: FastLangevin(math.inf, order=1),
            "spacing": lambda scale: uniform_time,
            "allocate": allocate,
        }
        for name, allocate in {"lanpaint2": falling, "lanpaint2-rising": rising}.items()
    },
}
"""Name → settings: ``paper`` from Appendix A, ``fast`` from the measurements of docs/frontier.md.

``lanpaint2`` has the settings that the notes on LanPaint's releases 2.0 and 2.1 name: λ = 5, η = 0.2, an overdamped
dynamics (here its exact step), and inner steps "linear in the share of noise that remains". ``lanpaint2-rising`` reads
the last point the other way round. The published code was not read, and constants that the notes do not name are ours.
"""


def kept_momentum(lam: float) -> float:
    """C of the fast preset for a weight λ of BiG: 0.25 + 0.37/√(1 + λ), at λ = 20 0.33.

    With the longest step of the preset, all Gaussians are stable below 0.42 for λ = 8, and below 0.30 for λ = ∞.
    """
    return 0.25 + 0.37 / math.sqrt(1 + max(lam, 0.0))


def fast_time_step(field: BiG, level: NoiseLevel, step_size: float, scale: float = 1.0) -> Tensor:
    """dτ = d²/2 of the fast preset on the unknown and the known part, shape ``(2, *level)``, in units of x².

    With r = σ/(α s) for data of standard deviation s = ``scale``, and w = 1/(1 + (r/0.7)²), the unknown part has
    d = √η σ (0.8 + 0.85 w), and the known part d = √(2η/A), which is √η σ √(2/(1+λ)). So a step is shorter where modes
    of the data still merge, and its bias is smaller there.
    """
    weight = 1 / (1 + (level.sigma * reciprocal(level.alpha) / (0.7 * scale)) ** 2)
    pace = torch.where(level.alpha > 0, 0.8 + 0.85 * weight, 0.8)
    unknown, known = field.time_scale(level)
    known = torch.where(known > 0, 1 / field.damping(level)[1], 0.0)
    return step_size * torch.stack(torch.broadcast_tensors(unknown * pace**2 / 2, known))


def find_preset(name: str) -> dict[str, Any]:
    """The settings of a preset. Raises ValueError for another name."""
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def check_settings(lam: float, step_size: float, scale: float) -> None:
    """Raise TypeError or ValueError unless λ > −1, η > 0 and s > 0 are finite numbers."""
    check_step_size(step_size)
    check_real("lam (λ)", lam)
    if not lam > -1:
        raise ValueError(f"lam (λ) must exceed −1, got {lam}; at −1 nothing ties the known part to y_o")
    check_real("data_scale (s)", scale)
    if not 0 < scale < math.inf:
        raise ValueError(f"data_scale (s) must be a positive finite number, got {scale}")


def fast_start(state: SamplerState, scale: float, is_drawn: bool) -> SamplerState:
    """The first state of the fast preset: where it was drawn, with the standard deviation √(α² s² + σ²).

    Warns if the known values are much wider than data of standard deviation s = ``scale``. Waits for the device once.
    """
    spread = state.observation.spread
    if spread > WIDE * scale:
        warnings.warn(
            f"the known values have a standard deviation of {spread:.3g}, and the fast preset expects about {scale:g}; "
            "give the data's standard deviation as data_scale, or normalise the data and the score",
            stacklevel=4,
        )
    if not is_drawn or scale == 1:
        return state
    level = state.level
    ratio = (((level.alpha * scale) ** 2 + level.sigma**2) / (level.alpha**2 + level.sigma**2)).sqrt()
    return replace(state, x=cast_like(ratio, state.x) * state.x)

"""The names of dynamics, solvers and shipped models, as the command line and result files spell them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lanpaint.dynamics import HFHR, Dynamics, FastLangevin, Langevin, SecantLangevin, Underdamped
from lanpaint.solvers import DDIM, DDPM, DPMSolver, Euler, Heun, Solver

DYNAMICS: dict[str, Callable[..., Dynamics]] = {
    "langevin": Langevin,
    "fld": FastLangevin,
    "ou": partial(FastLangevin, math.inf),
    "hfhr": HFHR,
    "baoab": partial(Underdamped, scheme="BAOAB"),
    "obabo": partial(Underdamped, scheme="OBABO"),
    "ubu": partial(Underdamped, scheme="UBU"),
    "secant": SecantLangevin,
}
"""Name → dynamics. Metropolis correction needs a density and a preconditioner a matrix: those are Python's alone."""

SOLVERS: dict[str, Callable[[], Solver]] = {
    "euler": Euler,
    "ddim": partial(DDIM, 1.0),
    "ddpm": DDPM,
    "heun": Heun,
    "2m": DPMSolver,
    "3m": partial(DPMSolver, 3),
}
"""Name → solver; ``ddim`` has η = 1, since η = 0 is ``euler``."""


def make_dynamics(name: str, friction: float | None = None) -> Dynamics:
    """A dynamics by its name, with its own friction where it has one and ``friction`` is None.

    Raises:
        ValueError: For an unknown name, or a friction where there is none to choose.
    """
    if name not in DYNAMICS:
        raise ValueError(f"unknown dynamics {name!r}; expected one of {', '.join(DYNAMICS)}")
    options: dict[str, Any] = {} if friction is None else {"friction": friction}
    if options and name in ("langevin", "ou", "secant"):
        raise ValueError(f"{name} has no friction to choose; leave it out, or take fld, hfhr, baoab, obabo or ubu")
    return DYNAMICS[name](**options)


def make_solver(name: str) -> Solver:
    """A solver by its name.

    Raises:
        ValueError: For an unknown name.
    """
    if name not in SOLVERS:
        raise ValueError(f"unknown solver {name!r}; expected one of {', '.join(SOLVERS)}")
    return SOLVERS[name]()


SHIPPED = ("digits", "emoji-pixel", "emoji-flow", "emoji-latent")
"""Models whose weights are part of the project."""


def model_folder(name: str) -> str:
    """The folder of a model that the project ships; any other folder or hub id as it is.

    Raises:
        ValueError: For a name that can be none of these.
    """
    import toy_models

    if name in SHIPPED:
        return str(Path(toy_models.__file__).parent / "weights" / name)
    if not name or ("/" not in name.strip("/.") and not Path(name).exists()):
        raise ValueError(
            f"unknown model {name!r}; give {', '.join(SHIPPED)}, a diffusers folder, or a hub id such as org/name"
        )
    return name

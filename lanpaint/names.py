"""The names of dynamics, solvers and shipped models, as the command line and result files spell them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lanpaint.dynamics import (
    HFHR,
    Dynamics,
    FastLangevin,
    Langevin,
    LMLangevin,
    PartialRefresh,
    SecantLangevin,
    Underdamped,
)
from lanpaint.options import Option, arguments_of
from lanpaint.own import find_own, is_own, make_own, unknown
from lanpaint.solvers import DDIM, DDPM, PNDM, DPMSolver, Euler, Heun, Solver, UniPC

DYNAMICS: dict[str, Callable[..., Dynamics]] = {
    "langevin": Langevin,
    "fld": FastLangevin,
    "ou": partial(FastLangevin, math.inf),
    "hfhr": HFHR,
    "lml": LMLangevin,
    "baoab": partial(Underdamped, scheme="BAOAB"),
    "obabo": partial(Underdamped, scheme="OBABO"),
    "ubu": partial(Underdamped, scheme="UBU"),
    "secant": SecantLangevin,
    "refresh": PartialRefresh,
}
"""Name → dynamics. MALA and preconditioned dynamics have no names: they need a density or a matrix, given in Python."""

_DYNAMICS = ("dynamics", Dynamics, "a lanpaint.Dynamics")

SOLVERS: dict[str, Callable[[], Solver]] = {
    "euler": Euler,
    "ddim": partial(DDIM, 1.0),
    "ddpm": DDPM,
    "heun": Heun,
    "2m": DPMSolver,
    "3m": partial(DPMSolver, 3),
    "dpm2m": partial(DPMSolver, 2, "epsilon"),
    "dpm3m": partial(DPMSolver, 3, "epsilon"),
    "pndm": PNDM,
    "unipc2": UniPC,
    "unipc3": partial(UniPC, 3),
}
"""Name → solver; ``ddim`` has η = 1, since η = 0 is ``euler``. DPM-Solver++ is ``2m`` and ``3m``."""


def make_dynamics(name: str, friction: float | None = None, **options: Any) -> Dynamics:
    """A dynamics of this library by its name, or your own dynamics as ``module:name``.

    Args:
        name: One of :data:`DYNAMICS`, or ``module:name``, the name of a class, an instance, or a function that returns
            an instance.
        friction: Friction γ of the dynamics; by default the dynamics' default.
        **options: Other options of the dynamics.

    Raises:
        ValueError: For an unknown name, an option that the dynamics does not have, and a dynamics that cannot be made.
    """
    options |= {} if friction is None else {"friction": friction}
    lacking = sorted(set(options) - set(dynamics_options(name)))
    if lacking:
        raise ValueError(f"{name} has no {' or '.join(lacking)} to choose; leave it out, or take another dynamics")
    return DYNAMICS[name](**options) if name in DYNAMICS else make_own(name, *_DYNAMICS, **options)


def dynamics_options(name: str) -> dict[str, Option]:
    """Name → option, for all options of one dynamics.

    Raises:
        ValueError: For an unknown name.
    """
    if name not in DYNAMICS and not is_own(name):
        raise unknown("dynamics", name, list(DYNAMICS))
    make = DYNAMICS[name] if name in DYNAMICS else find_own(name, *_DYNAMICS)
    if isinstance(make, Dynamics) or not callable(make):
        return {}
    found = {name: argument.option for name, argument in arguments_of(make).items()}
    return {name: option for name, option in found.items() if option is not None}


def all_dynamics_options() -> dict[str, Option]:
    """Name → option, for all options of all dynamics in :data:`DYNAMICS`."""
    return {name: option for dynamics in DYNAMICS for name, option in dynamics_options(dynamics).items()}


def make_solver(name: str) -> Solver:
    """A solver of this library by its name, or your own solver as ``module:name``.

    ``module:name`` is the name of a class, an instance, or a function that returns an instance.

    Raises:
        ValueError: For an unknown name, and a solver that cannot be made.
    """
    if name in SOLVERS:
        return SOLVERS[name]()
    if not is_own(name):
        raise unknown("solver", name, list(SOLVERS))
    return make_own(name, "solver", Solver, "a lanpaint.Solver")


SHIPPED = ("digits", "emoji-pixel", "emoji-flow", "emoji-async", "emoji-latent", "textures")
"""Names of the models of pictures whose weights are part of the project."""

SEQUENCES = ("motion",)
"""Names of the models of sequences whose weights are part of the project."""


def model_folder(name: str, shipped: tuple[str, ...] = SHIPPED) -> str:
    """The folder of a shipped model. Another folder, or a hub id, is returned as it is.

    Args:
        name: A name, a folder or a hub id.
        shipped: The names that are meant, :data:`SHIPPED` or :data:`SEQUENCES`.

    Raises:
        ValueError: For a name that is no such model, no folder and no hub id; and if the weights are not installed.
    """
    from lanpaint_toys.shipped import weights_folder

    if name in shipped:
        place = weights_folder(name)
        if not place.is_dir():
            raise ValueError(
                f"the weights of {name} are not installed: pip install 'lanpaint[weights]', "
                "or in a checkout, pip install ./toy_models/lanpaint_toys/weights"
            )
        return str(place)
    if name in SHIPPED + SEQUENCES:
        kind = "sequences" if name in SEQUENCES else "pictures"
        raise ValueError(f"{name} is a model of {kind}; give {', '.join(shipped)}, or a folder of diffusers")
    if not name or ("/" not in name.strip("/.") and not Path(name).exists()):
        raise ValueError(
            f"unknown model {name!r}; give {', '.join(shipped)}, a diffusers folder, or a hub id such as org/name"
        )
    return name

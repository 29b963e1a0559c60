"""The methods that are compared, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from lanpaint.dynamics import Langevin
from lanpaint.names import make_dynamics, make_solver
from lanpaint.plan import check_whole
from lanpaint.samplers import (
    DDRM,
    DPS,
    MCG,
    CoPaint,
    LangevinPaint,
    LanPaint,
    RePaint,
    Replace,
    Sampler,
    TwistedSMC,
)
from lanpaint.score import Score

_INNER = {"inner_steps", "step_size", "dynamics", "friction"}
METHODS: dict[str, tuple[Callable[..., Sampler], set[str]]] = {
    "replace": (Replace, set()),
    "repaint": (RePaint, {"inner_steps"}),
    "langevin": (LangevinPaint, _INNER),
    "fld": (partial(LanPaint, lam=0.0), _INNER | {"expected_noise"}),
    "big": (
        lambda score, dynamics=None, **o: LanPaint(score, dynamics=dynamics or Langevin(), **o),
        _INNER | {"lam"},
    ),
    "lanpaint": (LanPaint, _INNER | {"expected_noise", "lam", "preset"}),
    "ddrm": (DDRM, set()),
    "mcg": (MCG, {"step_size"}),
    "dps": (DPS, {"step_size"}),
    "copaint": (CoPaint, {"inner_steps", "step_size"}),
    "tds": (TwistedSMC, {"particles"}),
}
"""Name → the sampler, and the options that it has of those that methods differ in."""


def options_of(method: str) -> set[str]:
    """The options that a method has, of those that methods differ in.

    Raises:
        ValueError: For an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}")
    return METHODS[method][1] | ({"solver"} if method not in ("ddrm", "tds") else set())


def make_sampler(method: str, score: Score, *, steps: int, inner_steps: int, **options: Any) -> Sampler:
    """A sampler by the name that benchmarks use; options that are None take the method's default.

    ``fld`` is LanPaint with λ = 0 and ``big`` LanPaint with Euler–Maruyama steps, the two halves of the paper's
    ablation. Dynamics and solver are given by name too, see :mod:`lanpaint.names`.

    Raises:
        ValueError: For an unknown name, or an option that the method does not have.
    """
    own = options_of(method)
    make = METHODS[method][0]
    check_whole("inner_steps", inner_steps, least=0)
    options = {name: value for name, value in options.items() if value is not None}
    if "inner_steps" in own:
        options["inner_steps"] = inner_steps
    takes = own - {"inner_steps"}
    unknown = sorted(set(options) - takes - {"inner_steps", "spacing", "callbacks", "progress"})
    if unknown:
        raise ValueError(f"{method} has no {' or '.join(unknown)}; it takes {', '.join(sorted(takes)) or 'none'}")
    if "solver" in options:
        options["solver"] = make_solver(options["solver"])
    if "dynamics" in options:
        options["dynamics"] = make_dynamics(options["dynamics"], options.pop("friction", None))
    elif method in ("langevin", "big") and "friction" in options:
        raise ValueError(f"{method} has no friction without dynamics; give --dynamics fld, hfhr, baoab, obabo or ubu")
    return make(score, steps=steps, **options)

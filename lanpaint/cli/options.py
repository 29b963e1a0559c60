"""What several commands share: options, devices, quiet libraries."""

from __future__ import annotations

import os
import warnings
from typing import Annotated, Any

import torch
import typer

DTYPES = {
    **{"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16},
    **{"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16},
}

Steps = Annotated[int, typer.Option(help="Outer steps S.")]
InnerSteps = Annotated[int, typer.Option(help="Inner steps N at each level.")]
Levels = Annotated[
    str | None,
    typer.Option(
        help="Spacing of the noise levels: paper, logsnr or karras [paper; fast: logsnr].", show_default=False
    ),
]
Lam = Annotated[
    float | None, typer.Option(help="Weight λ > −1 of BiG on the known part [paper: 8].", show_default=False)
]
Preset = Annotated[str | None, typer.Option(help="Settings of lanpaint: paper, or fast [paper].", show_default=False)]
StepSize = Annotated[
    float | None,
    typer.Option(help="Step η of the inner steps [paper: 0.15; fast 2; langevin 0.04].", show_default=False),
]
Friction = Annotated[
    float | None, typer.Option(help="Friction γ; inf for the overdamped limit [paper: 15].", show_default=False)
]
ExpectedNoise = Annotated[
    float | None, typer.Option(help="Expected noise a of the data; 0 for images [paper: 0].", show_default=False)
]
Dynamics = Annotated[
    str | None,
    typer.Option(
        help="Inner steps: langevin, fld, ou (fld at infinite friction), hfhr, baoab, obabo, ubu or secant [fld].",
        show_default=False,
    ),
]
Solver = Annotated[
    str | None,
    typer.Option(help="Outer step of a pixel model: euler, ddim (η = 1), ddpm, heun, 2m or 3m [euler]."),
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of all random numbers.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def quiet_libraries() -> None:
    """Keep the notices of diffusers' dependencies off the terminal."""
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning, module="diffusers")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def find_device(name: str | None) -> torch.device:
    """The named device, or the GPU if there is one.

    Raises:
        ValueError: When it is not there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} is not available here; give cpu, or leave --device out") from error
    return device


def find_dtype(name: str) -> torch.dtype:
    """The named floating-point type.

    Raises:
        ValueError: For an unknown name.
    """
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; expected one of {', '.join(DTYPES)}")
    return DTYPES[name]


def sampler_options(given: dict[str, Any]) -> dict[str, Any]:
    """Options of :class:`~lanpaint.LanPaint` of those on the command line: parts by name, None for its default.

    Raises:
        ValueError: For an unknown name, or a friction where there is none to choose.
    """
    from lanpaint.names import make_dynamics, make_solver

    options = {name: value for name, value in given.items() if value is not None}
    if "dynamics" in options:
        options["dynamics"] = make_dynamics(options["dynamics"], options.pop("friction", None))
    if "solver" in options:
        options["solver"] = make_solver(options["solver"])
    return options

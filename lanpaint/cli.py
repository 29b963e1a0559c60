"""The command line: ``lanpaint demo``, ``lanpaint inpaint``, ``lanpaint bench``."""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer

from lanpaint.callbacks import DivergenceError
from lanpaint.names import DYNAMICS, SOLVERS

if TYPE_CHECKING:
    from lanpaint.bench import Row

app = typer.Typer(
    help="Training-free conditional sampling with diffusion and flow models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

Steps = Annotated[int, typer.Option(help="Outer steps S.")]
InnerSteps = Annotated[int, typer.Option(help="Inner steps N at each level.")]
Levels = Annotated[
    str | None,
    typer.Option(
        help="Spacing of the noise levels: paper, logsnr or karras [paper; fast: logsnr].", show_default=False
    ),
]
Guidance = Annotated[
    float | None, typer.Option(help="Guidance λ > −1 of the known part [paper: 8].", show_default=False)
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
Solver = Annotated[str, typer.Option(help="Outer step: euler, ddim (η = 1), ddpm, heun, 2m or 3m.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of all random numbers.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def _quiet_libraries() -> None:
    """Keep the notices of diffusers' dependencies off the terminal."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} is not available here; give cpu, or leave --device out") from error
    return device


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; expected one of {', '.join(DTYPES)}")
    return DTYPES[name]


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the picture goes.")] = Path("lanpaint-demo.png"),
    count: Annotated[int, typer.Option(help="Held-out digits that the figures are a mean over.")] = 64,
    seed: Seed = 0,
) -> None:
    """Inpaint real held-out digits under the paper's four masks, offline, and draw the result."""
    from lanpaint.demo import MaskResult, digits_score, draw, held_out_digits, run
    from lanpaint.images import check_output

    _quiet_libraries()
    check_output(output, (".png", ".pdf", ".svg", ".jpg"))
    start = time.perf_counter()
    truth, score = held_out_digits(count), digits_score()

    print(f"{len(truth)} held-out handwritten digits of 8×8 pixels; PSNR on the hole, mean over the digits")
    print(f"{'mask':<14}{'Replace':>20}{'LanPaint':>22}")

    def report(result: MaskResult) -> None:
        cells = [f"{result.psnr[m]:5.2f} dB {result.nfe[m]:4d} NFE {result.seconds[m]:4.1f} s" for m in result.filled]
        print(f"{result.mask:<14}" + "  ".join(cells), flush=True)

    results = run(score, truth, seed, report)
    draw(results, output)
    print(f"picture: {output.resolve()}  ({time.perf_counter() - start:.0f} s in all)")


@app.command()
def inpaint(
    image: Annotated[Path, typer.Argument(help="Image file, 8 bits per channel.")],
    mask: Annotated[
        Path | None, typer.Argument(help="Mask file: white is repainted. Left out: the image's transparent pixels are.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the result goes (.png).")] = ...,  # type: ignore[assignment]
    model: Annotated[str, typer.Option(help="digits, a diffusers folder, or a hub id.")] = "digits",
    steps: Steps = 20,
    inner_steps: InnerSteps = 5,
    guidance: Guidance = None,
    step_size: StepSize = None,
    friction: Friction = None,
    expected_noise: ExpectedNoise = None,
    preset: Preset = None,
    levels: Levels = None,
    dynamics: Dynamics = None,
    solver: Solver = "euler",
    seed: Seed = 0,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, … [the GPU if there is one].", show_default=False)
    ] = None,
    dtype: Annotated[str, typer.Option(help="What the network computes in: float32, float16, bfloat16.")] = "float32",
    quiet: Quiet = False,
) -> None:
    """Repaint the masked part of an image with an unconditional pixel-space model; the rest stays bit for bit."""
    from lanpaint.adapters.diffusers import load_pixel_model
    from lanpaint.bench import make_sampler
    from lanpaint.images import check_output, read_mask, read_picture, to_pixels, write_picture
    from lanpaint.observation import Observation
    from lanpaint.randomness import seeded
    from lanpaint.score import CountedScore

    _quiet_libraries()
    check_output(output)
    for given in (image, mask):
        if given is not None and output.exists() and given.exists() and output.samefile(given):
            raise ValueError(f"the output {output} is the {'image' if given is image else 'mask'} itself; name another")
    picture = read_picture(image)
    known = _known(picture, image, mask, read_mask)
    where = _device(device)
    options: dict[str, Any] = {
        "guidance": guidance,
        "step_size": step_size,
        "friction": friction,
        "expected_noise": expected_noise,
        "preset": preset,
        "dynamics": dynamics,
        "solver": solver,
    }
    if model == "digits":
        from toy_models.digits import FOLDER

        source: str | Path = FOLDER
    else:
        source = model
    network = load_pixel_model(source, device=where, dtype=_dtype(dtype))
    network.check_size(*picture.size)
    if picture.size != network.sample_size and all(network.sample_size):
        print(
            f"note: the model was trained on {network.sample_size[1]}×{network.sample_size[0]} images, "
            f"this one is {picture.size[1]}×{picture.size[0]}",
            file=sys.stderr,
        )
    if bool(known.all()):
        print("note: nothing is repainted: no pixel of the mask is white (128 or above)", file=sys.stderr)
    if mask is not None and picture.opaque is not None:
        print("note: the image's transparency is left out of the result", file=sys.stderr)
    picture = picture.with_channels(network.channels)
    score = CountedScore(network)
    sampler = make_sampler(
        "lanpaint",
        score,
        steps=steps,
        inner_steps=inner_steps,
        spacing=levels,
        progress=not quiet and sys.stderr is not None,
        **options,
    )
    observation = Observation(picture.values().to(where), known.to(where))
    x = sampler(observation, generator=seeded([seed]))
    write_picture(output, torch.where(known, picture.pixels, to_pixels(x[0])))
    print(f"{output}: {float((~known).float().mean()):.1%} repainted, {score.evaluations} NFE")


def _known(picture: Any, image: Path, mask: Path | None, read_mask: Any) -> torch.Tensor:
    if mask is None:
        if picture.opaque is None:
            raise ValueError(f"{image} has no transparent pixels; give a mask file (white is repainted)")
        return picture.opaque
    known: torch.Tensor = read_mask(mask)
    if tuple(known.shape) != picture.size:
        raise ValueError(
            f"the mask is {known.shape[1]}×{known.shape[0]} and the image {picture.size[1]}×{picture.size[0]}; "
            "resize the mask to the image"
        )
    return known


@app.command()
def bench(
    target: Annotated[str, typer.Argument(help="gaussian (gauss2) or star (star500).")],
    method: Annotated[
        str,
        typer.Option(
            help="replace, repaint, langevin (TFG), fld (lanpaint with λ = 0), big (lanpaint with Langevin steps), "
            "lanpaint, ddrm, mcg, dps, copaint or tds (twisted SMC)."
        ),
    ] = "lanpaint",
    steps: Annotated[str, typer.Option(help="Outer steps S; several as 5,10,20 [20].", show_default=False)] = "",
    inner_steps: Annotated[
        str, typer.Option(help="Inner steps N at each level; several as 2,5,10 [5].", show_default=False)
    ] = "",
    preset: Preset = None,
    levels: Levels = None,
    dynamics: Annotated[
        str | None,
        typer.Option(
            help=f"Inner steps: {', '.join(DYNAMICS)}; several as fld,ubu, or all [lanpaint: fld].", show_default=False
        ),
    ] = None,
    solver: Annotated[
        str, typer.Option(help=f"Outer step: {', '.join(SOLVERS)}; several as heun,2m, or all.")
    ] = "euler",
    guidance: Guidance = None,
    step_size: StepSize = None,
    friction: Friction = None,
    expected_noise: ExpectedNoise = None,
    samples: Annotated[
        int | None, typer.Option(help="Number of samples [gaussian 20,000; star 10,000].", show_default=False)
    ] = None,
    seed: Seed = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Picture of KL against evaluations, for several runs.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each run.")] = False,
    quiet: Quiet = False,
) -> None:
    """Measure a method against an exact answer: KL in nats, its floor, evaluations and seconds.

    With several steps, inner steps, dynamics or solvers, every combination is run: a table, and a picture with -o.
    """
    from lanpaint.bench import compare, run
    from lanpaint.images import check_output

    grid: dict[str, Any] = {"dynamics": _names(dynamics, DYNAMICS), "solvers": _names(solver, SOLVERS)}
    grid["steps"] = _counts("steps", steps or ("5,10,20,50" if len(grid["solvers"]) > 1 else "20"))
    several_inner = "1,2,5,10,20" if len(grid["dynamics"]) > 1 else "5"
    grid["inner_steps"] = _counts("inner-steps", inner_steps or several_inner)
    options: dict[str, Any] = {
        "preset": preset,
        "levels": levels,
        "guidance": guidance,
        "step_size": step_size,
        "friction": friction,
        "expected_noise": expected_noise,
        "samples": samples,
        "seed": seed,
        "progress": not (quiet or as_json),
    }
    if all(len(values) == 1 for values in grid.values()):
        if output is not None:
            raise ValueError("--output draws several runs; leave it out, or give several --steps, --dynamics, …")
        single: dict[str, Any] = {name: values[0] for name, values in grid.items() if name != "solvers"}
        row = run(target, method, **single, solver=solver, **options)
        if as_json:
            print(_json(row))
        else:
            print(
                f"{row.target}, {row.method}, {row.steps} × {row.inner_steps}, {row.levels} levels, "
                f"{row.samples} samples"
            )
            print(f"kl {row.kl:.4g} nats   floor {row.floor:.2g}   nfe {row.nfe}   {row.seconds:.1f} s")
        return
    if output is not None:
        check_output(output, (".png", ".pdf", ".svg", ".jpg"))
    rows: list[Row] = []
    runs = compare(target, method, **grid, **options)
    if not as_json:
        print("| dynamics | solver | steps | inner | NFE | KL (nats) | floor | seconds |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
    for row in runs:
        rows.append(row)
        own = row.dynamics or "own"
        kl = f"{row.kl:.4g}" if math.isfinite(row.kl) else "diverged"
        table = f"| {own} | {row.solver} | {row.steps} | {row.inner_steps} | {row.nfe} | {kl} | {row.floor:.2g} | "
        print(_json(row) if as_json else f"{table}{row.seconds:.1f} |", flush=True)
    if output is not None:
        _draw_comparison(rows, output)
        print(f"picture: {output.resolve()}", file=sys.stderr)


def _names(given: str | None, known: Mapping[str, Any]) -> list[Any]:
    return list(known) if given == "all" else [None] if given is None else [name.strip() for name in given.split(",")]


def _counts(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--{option} takes whole numbers separated by commas, got {text!r}") from None


def _json(row: Row) -> str:
    values = row.as_dict()
    return json.dumps({name: None if value == math.inf else value for name, value in values.items()})


def _draw_comparison(rows: list[Row], path: Path) -> None:
    """A curve for each dynamics and solver, along the steps."""
    from lanpaint.plotting import kl_against_evaluations

    curves: dict[str, list[tuple[int, float]]] = {}
    several = {name for name in ("dynamics", "solver") if len({getattr(row, name) for row in rows}) > 1}
    for row in rows:
        parts = [getattr(row, name) or "own" for name in ("dynamics", "solver") if name in several or not several]
        curves.setdefault(", ".join(parts), []).append((row.nfe, row.kl))
    first = rows[0]
    title = f"{first.target}, {first.method}, {first.levels} levels, {first.samples} samples"
    kl_against_evaluations(curves, sum(row.floor for row in rows) / len(rows), title, path)


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit status 1."""
    for stream in (sys.stdout, sys.stderr):  # a terminal without λ or × is no reason to lose a result
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except (ValueError, DivergenceError, ImportError, OSError) as error:
        if os.environ.get("LANPAINT_DEBUG"):
            raise
        print(f"lanpaint: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # not foreseen, and still no traceback for a user
        if os.environ.get("LANPAINT_DEBUG"):
            raise
        reason = " ".join(str(error).split())[:300]
        print(f"lanpaint: {type(error).__name__}: {reason} (LANPAINT_DEBUG=1 shows where)", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

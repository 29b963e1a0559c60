"""``lanpaint bench``."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lanpaint.cli.options import ExpectedNoise, Friction, Guidance, Levels, Preset, Quiet, Seed, StepSize
from lanpaint.names import DYNAMICS, SOLVERS

if TYPE_CHECKING:
    from lanpaint.bench import Row


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

"""``lanpaint bench`` and ``lanpaint report``."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lanpaint.cli.options import (
    OWN,
    SAMPLING,
    Device,
    Pairs,
    Quiet,
    find_device,
    given_texts,
    with_method_flags,
)
from lanpaint.methods import METHODS, all_options
from lanpaint.names import DYNAMICS, SOLVERS, all_dynamics_options
from lanpaint.options import Option
from lanpaint.spacings import SPACINGS
from lanpaint_toys.problems import PROBLEMS

if TYPE_CHECKING:
    from lanpaint.bench import Result, Section


def _several(what: str, default: str) -> Any:
    """A flag that takes several values, separated by commas, in the help's section on sampling."""
    return typer.Option(help=f"{what} [{default}].", show_default=False, rich_help_panel=SAMPLING)


@with_method_flags
def bench(
    target: Annotated[
        str,
        typer.Argument(
            help=f"{', '.join(PROBLEMS)}; MODEL:MASK such as digits:box; module:function for your own problem; "
            "several targets separated by commas; a YAML file of grids; or a table of a paper, "
            "such as papers/lanpaint-1."
        ),
    ],
    method: Annotated[
        str | None,
        _several(
            f"{', '.join(METHODS)}, {OWN}, or all; langevin is TFG, fld lanpaint with λ = 0, big lanpaint with "
            "Langevin steps, tds twisted SMC",
            "lanpaint",
        ),
    ] = None,
    steps: Annotated[str | None, _several("Outer steps S", "20; for several solvers 5,10,20,50")] = None,
    inner_steps: Annotated[
        str | None,
        _several("Inner steps N at each level", "5; for several dynamics 1,2,5,10,20; your own method: its default"),
    ] = None,
    levels: Annotated[
        str | None, _several(f"Spacing of the noise levels: {', '.join(SPACINGS)}", "paper; fast: focused")
    ] = None,
    dynamics: Annotated[
        str | None, _several(f"Dynamics of the inner steps: {', '.join(DYNAMICS)}, {OWN}, or all", "the method's")
    ] = None,
    solver: Annotated[
        str | None, _several(f"Solver of the outer steps: {', '.join(SOLVERS)}, {OWN}, or all", "euler")
    ] = None,
    option: Pairs = None,
    images: Annotated[
        str | None, typer.Option(help="Folder or zip of images, for a MODEL that is a folder.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The model of a grid's targets MODEL:MASK, such as a folder.", show_default=False),
    ] = None,
    trial: Annotated[
        bool, typer.Option("--trial", help="Of a grid: ten samples and two steps in each run, to see whether all work.")
    ] = False,
    samples: Annotated[
        int | None,
        typer.Option(help="Number of samples [20,000; planar mixtures 10,000; images 240].", show_default=False),
    ] = None,
    seed: Annotated[str, typer.Option(help="Seed of all random numbers; several as 0,1,2.")] = "0",
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            "-r",
            help="File that a line of JSON is appended to for each run. Runs in the file are not run again.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Picture of KL against evaluations, for several runs.", show_default=False),
    ] = None,
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON for each run.")] = False,
    quiet: Quiet = False,
    **flags: str | None,
) -> None:
    """Measure methods against exact answers or held-out images.

    Every option about sampling takes several values, separated by commas, as in --lam 0,8. Every combination is run and
    gives a row; -o draws a picture of all. In brackets are the methods that have an option, and their defaults.

    By --option too: evaluations, a budget instead of --steps; fills, samples of each observation; lml, the β of LML;
    and of a pipeline prompt, guidance_scale and dtype.
    """
    from lanpaint.bench import Results, expand, read_grid, run_sections
    from lanpaint.bench.grid import Section, is_paper, paper_grid
    from lanpaint.callbacks import DivergenceError
    from lanpaint.images import check_output

    grid: dict[str, list[Any]] = _parts(
        {"method": (method, METHODS), "dynamics": (dynamics, DYNAMICS), "solver": (solver, SOLVERS)}
    )
    texts = given_texts({"steps": steps, "inner_steps": inner_steps, "levels": levels, **flags}, option)
    for name in ("target", "method", "dynamics", "solver", "samples", "seed", "images"):
        if name in texts:
            instead = "name it before the options" if name == "target" else f"give it by --{name}"
            raise ValueError(f"{name} is given by --option; {instead}")
    grid |= _values(texts, grid)
    if target.lower().endswith((".yaml", ".yml")) or is_paper(target):
        if grid or seed != "0":
            raise ValueError(
                f"{target} sets what is run; leave {next(iter(grid), 'seed')} out, or write it in the file"
            )
        path = paper_grid(target) if is_paper(target) else Path(target)
        sections = read_grid(path, images, model, samples, trial)
        results = results or Path(Path(target).stem + (".trial" if trial else "") + ".jsonl")
    else:
        if model is not None or trial:
            raise ValueError(
                f"--{'model' if model is not None else 'trial'} is for a grid; name the model in the target"
            )
        if len(grid.get("solver", "")) > 1:
            grid.setdefault("steps", [5, 10, 20, 50])
        if len(grid.get("dynamics", "")) > 1:
            grid.setdefault("inner_steps", [1, 2, 5, 10, 20])
        grid |= {} if samples is None else {"samples": [samples]}
        grid |= {
            "target": [name.strip() for name in target.split(",")],
            "seed": Option("seed", int).parse_several(seed),
        }
        grid |= {} if images is None else {"images": [images]}
        sections = [Section("", tuple(expand(grid)))]
    count = sum(len(section.runs) for section in sections)
    if output is not None:
        if count == 1:
            raise ValueError("--output draws several runs; leave it out, or give several --steps, --dynamics, …")
        check_output(output, (".png", ".pdf", ".svg", ".jpg"))
        if results is not None and output.resolve() == results.resolve():
            raise ValueError(f"--output and --results are one file, {output}; name another for the picture")
    merit = _common_merit(sections) if output is not None else ""
    kept = None if results is None else Results(results)
    if kept is not None:
        kept.check_writable()
    rows: list[Result] = []
    with _Bar(count, shown=not (quiet or as_json) and count > 1) as bar:
        own_bar = count == 1 and not (quiet or as_json)
        where = str(find_device(device))
        runs = run_sections(sections, kept, device=where, notice=bar.notice, each=bar.advance, progress=own_bar)
        write = _json_line if as_json else _describe if count == 1 else _table(sections)
        for row in runs:
            rows.append(row)
            if count == 1 and row.diverged:
                raise DivergenceError(row.diverged)
            bar.write(write(row))
    if output is not None:
        _draw_comparison(rows, merit, output)
        print(f"picture: {output.resolve()}", file=sys.stderr)
    if kept is not None and not as_json:
        print(f"results: {kept.path.resolve()}  (lanpaint report {kept.path})", file=sys.stderr)


def report(
    results: Annotated[Path, typer.Argument(help="File of results that lanpaint bench has written.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for report.md, figures.csv and the pictures.")
    ] = Path("report"),
    figures: Annotated[
        str,
        typer.Option(help="Further metrics to tabulate, such as stray,seconds. The main metrics are always there."),
    ] = "",
    title: Annotated[str, typer.Option(help="Heading of the report.")] = "Benchmark",
) -> None:
    """Make tables and pictures from a file of results."""
    from lanpaint.bench import Results
    from lanpaint.bench.report import write_report

    if not results.exists():
        raise ValueError(f"{results} does not exist; lanpaint bench … --results {results} makes it")
    rows = Results(results)
    written = write_report(rows, output, [name.strip() for name in figures.split(",") if name.strip()], title)
    if rows.is_cut:
        print(f"note: the last line of {results} is incomplete and left out; its run was killed", file=sys.stderr)
    print(f"{written}: {len(rows.rows)} run{'s' * (len(rows.rows) > 1)}")


class _Bar:
    """A progress bar over runs on stderr. Rows are printed on stdout, above the bar."""

    def __init__(self, count: int, shown: bool) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=count, disable=not shown or sys.stderr is None, unit="run", leave=False)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def advance(self) -> None:
        self._bar.update()

    def write(self, text: str) -> None:
        self._bar.clear()
        print(text, flush=True)
        self._bar.refresh()

    def notice(self, line: str) -> None:
        self._bar.clear()
        print(f"note: {line}", file=sys.stderr)
        self._bar.refresh()


def _parts(given: Mapping[str, tuple[str | None, Mapping[str, Any]]]) -> dict[str, list[Any]]:
    """Kind of part → names, from kind → (text that the user gave, available names). "all" stands for all names."""
    return {
        kind: [part for name in text.split(",") for part in (available if name.strip() == "all" else [name.strip()])]
        for kind, (text, available) in given.items()
        if text is not None
    }


def _values(texts: Mapping[str, str], parts: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Name → values, parsed with the types that the methods and dynamics in ``parts`` declare."""
    from lanpaint.bench.grid import options_of
    from lanpaint.bench.runs import FIELDS

    named = {name: next(iter(methods.values())) for name, methods in all_options().items()}
    options = {**FIELDS, **all_dynamics_options(), **named, **options_of(parts)}
    return {name: options.get(name, Option(name)).parse_several(text) for name, text in texts.items()}


def _json_line(row: Result) -> str:
    return row.as_json()


def _describe(row: Result) -> str:
    s = row.settings
    inner = "" if s.inner_steps is None else f" × {s.inner_steps}"
    method = s.method + (f" {s.preset}" if s.preset else "")
    levels = "" if s.levels is None else f" {s.levels} levels,"
    lines = [f"{s.target}, {method}, {s.steps}{inner},{levels} {s.samples} samples"]
    merit = row.merits[0] if row.merits else "kl"
    figure, spread = row.figures.get(merit, math.nan), row.figures.get(f"{merit}_error", math.nan)
    if merit == "psnr":
        first = f"psnr {figure:.2f} ± {spread:.2f} dB on the hole"
    else:
        unit = " nats" if merit == "kl" else "" if math.isnan(spread) else f" ± {spread:.2g}"
        first = f"{merit} {figure:.4g}{unit}"
        first += f"   floor {row.floors[merit]:.2g}" if merit in row.floors else ""
    seconds, memory = row.seconds * (s.samples or 1), row.memory / 1024
    lines.append(f"{first}   nfe {row.nfe}   {seconds:.1f} s   {memory:.1f} KiB a sample")
    for name, value in row.figures.items():
        if name != merit and not name.endswith("_error"):
            floor = f"   floor {row.floors[name]:.3g}" if name in row.floors else ""
            error = f" ± {row.figures[name + '_error']:.2g}" if name + "_error" in row.figures else ""
            lines.append(f"  {name:<20}{value:.4g}{error}{floor}")
    return "\n".join(lines)


def _table(sections: Sequence[Section]) -> Callable[[Result], str]:
    """A function that formats a result as a table row. The columns are the settings that differ between the runs.

    The first row comes with the table's head, which names its metric. A row of another metric names it in its cell.
    """
    from lanpaint.bench.report import cell, varying

    runs = [settings for section in sections for settings in section.runs]
    names = varying(runs) or ["method"]
    names += ["seed"] if len({settings.seed for settings in runs}) > 1 else []
    merits: list[str] = []

    def write(row: Result) -> str:
        merit = row.merits[0] if row.merits else "kl"
        value = "diverged" if row.diverged else f"{row.figures.get(merit, math.nan):.4g}"
        merits.append(merit)
        if merit != merits[0]:
            value = f"{merit} {value}"
        is_own = row.settings.method not in METHODS  # whose defaults only its code knows
        cells = [cell(name, row.settings.get(name), is_own) for name in names]
        floor = f"{row.floors[merit]:.2g}" if merit in row.floors else "–"
        cells += [str(row.nfe), value, floor, f"{row.seconds * (row.settings.samples or 1):.1f}"]
        head = (
            "| " + " | ".join([*names, "NFE", merit, "floor", "seconds"]) + " |\n" + "|---" * (len(names) + 4) + "|\n"
        )
        return (head if len(merits) == 1 else "") + "| " + " | ".join(cells) + " |"

    return write


def _common_merit(sections: Sequence[Section]) -> str:
    """The metric that all runs are compared by.

    Raises:
        ValueError: When the targets are compared by different metrics, which one picture cannot show.
    """
    runs = [run for section in sections for run in section.runs]
    merits = {run.find_target().merits[0]: run.target for run in sorted(runs, key=lambda run: run.target)}
    if len(merits) > 1:
        told = " and ".join(f"{target} by {merit}" for merit, target in merits.items())
        raise ValueError(f"--output draws one metric, and the runs are compared on {told}; leave --output out")
    return next(iter(merits))


def _draw_comparison(rows: list[Result], merit: str, path: Path) -> None:
    """Draw a metric against evaluations. A curve joins runs that differ only in outer steps, inner steps or seed."""
    from lanpaint.bench.report import TITLES, cell, common, varying
    from lanpaint.bench.targets import LARGER_IS_BETTER
    from lanpaint.plotting import against_evaluations

    along = {"steps", "inner_steps", "seed"}
    names = [name for name in varying([row.settings for row in rows]) if name not in along] or ["method"]
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        label = ", ".join(cell(name, row.settings.get(name)) for name in names)
        curves.setdefault(label, []).append((row.nfe, row.figures.get(merit, math.nan)))
    floors = [row.floors[merit] for row in rows if merit in row.floors]
    against_evaluations(
        curves,
        path,
        metric=TITLES.get(merit, merit),
        title=common([row.settings for row in rows], ("target", "method", "preset", "levels", "samples")),
        floor=sum(floors) / len(floors) if floors else None,
        logarithmic=merit not in LARGER_IS_BETTER,
    )

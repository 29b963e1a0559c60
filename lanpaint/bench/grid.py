"""Grids of runs, from a YAML file or from lists of settings. A file of results lets an interrupted grid continue."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lanpaint.bench.results import Results
from lanpaint.bench.runs import NAMES, OF_EVERY_METHOD, Result, Settings, run
from lanpaint.checks import as_path, shown
from lanpaint.methods import all_options, find_method
from lanpaint.names import all_dynamics_options
from lanpaint.options import Option

MOST_RUNS = 100_000
"""Most runs of a grid. More is a slip."""


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes:
        title: Heading of the section.
        runs: The runs that the section compares.
    """

    title: str
    runs: tuple[Settings, ...]


def expand(grid: Mapping[str, Any]) -> list[Settings]:
    """The runs of a grid: every combination of the values of settings that are lists. No run occurs twice.

    With several methods, an option is left out for a method that does not have it. With a single method, an option that
    the method does not have is an error.

    Raises:
        ValueError: For an unknown setting, a value that does not fit, or an option that none of the methods has.
    """
    if not isinstance(grid, Mapping):
        raise TypeError(f"a grid must map each setting to a value or a list of values, got {shown(grid)}")
    lists = {name: value if isinstance(value, list) else [value] for name, value in grid.items()}
    empty = [name for name, value in lists.items() if not value]
    if empty:
        raise ValueError(f"{empty[0]} is an empty list; give at least one value")
    options = options_of(lists)
    names = dict.fromkeys([*NAMES, *options, *all_options(), *all_dynamics_options()])
    unknown = [name for name in grid if name not in names]
    if unknown:
        raise ValueError(f"unknown setting {unknown[0]!r}; expected some of {', '.join(names)}")
    if "target" not in grid:
        raise ValueError(f"target is missing among the settings {', '.join(map(str, grid)) or '(none)'}; give one")
    count = math.prod(len(values) for values in lists.values())
    if count > MOST_RUNS:
        raise ValueError(f"the grid has {count:,} runs, and may have {MOST_RUNS:,}; give fewer values")
    several = len(lists.get("method", [])) > 1
    runs: dict[Settings, None] = {}
    left_out, taken = set(), set()
    for combination in itertools.product(*lists.values()):
        settings = Settings.of(dict(zip(lists, combination, strict=True)))
        if several:
            values = settings.given()
            has = OF_EVERY_METHOD | find_method(settings.method).takes(settings.dynamics)
            left_out |= set(values) - has
            taken |= has
            settings = Settings.of({name: value for name, value in values.items() if name in has})
        runs[settings.complete()] = None
    nowhere = sorted(left_out - taken - {"inner_steps"})
    if nowhere:
        raise ValueError(f"none of {', '.join(lists['method'])} has {' or '.join(nowhere)}; leave it out")
    return list(runs)


def options_of(grid: Mapping[str, Sequence[Any]]) -> dict[str, Option]:
    """Name → option, for all options of the methods and dynamics in a grid whose values are lists.

    Raises:
        ValueError: For an unknown method or dynamics.
    """
    options: dict[str, Option] = {}
    for method in grid.get("method", ["lanpaint"]):
        for dynamics in [None, *(name for name in grid.get("dynamics", []) if isinstance(name, str))]:
            options = find_method(str(method)).options(dynamics) | options
    return options


def read_grid(path: str | Path, images: str | None = None) -> list[Section]:
    """The sections of a YAML file.

    The file is a grid, or a list of grids. A grid maps each setting to a value or to a list of values. It may have a
    ``title``. Grids with the same title form one section.

    Args:
        path: The file.
        images: Folder or zip of images, for the runs whose grid has no ``images``.

    Raises:
        ValueError: When the file cannot be read, or a grid in it is not valid.
    """
    import yaml

    path = as_path("a grid", path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    sections: list[Section] = []
    for place, grid in enumerate(content if isinstance(content, list) else [content], 1):
        if not isinstance(grid, dict):
            raise ValueError(f"{path}: entry {place} must have settings (target: …), got {type(grid).__name__}")
        title = str(grid.pop("title", f"{path.stem} {place}"))
        try:
            runs = tuple(expand(grid if images is None else {"images": images} | grid))
        except ValueError as error:
            raise ValueError(f"{path}: {title}: {error}") from error
        same = [number for number, section in enumerate(sections) if section.title == title]
        if same:  # grids with the same title form one section
            sections[same[0]] = Section(title, (*sections[same[0]].runs, *runs))
        else:
            sections.append(Section(title, runs))
    if not sections:
        raise ValueError(f"{path} has no grid; give settings (target: …)")
    return sections


def run_sections(
    sections: Sequence[Section],
    results: Results | None = None,
    *,
    device: str = "cpu",
    notice: Callable[[str], None] = lambda line: None,
    each: Callable[[], None] = lambda: None,
    progress: bool = False,
) -> Iterator[Result]:
    """Yield the result of every run. A run whose result is in ``results`` already is not run again.

    Args:
        sections: The runs.
        results: The file that results are read from and appended to; None for no file.
        device: The device to sample on.
        notice: Called with a line of text about metrics that cannot be computed. Each line is passed once.
        each: Called after every run.
        progress: Show a progress bar for each run.
    """
    told: set[str] = set()

    def once(line: str) -> None:
        if line not in told:
            told.add(line)
            notice(line)

    for section in sections:
        for settings in section.runs:
            if results is not None:
                results.refresh()  # another process may have made the run meanwhile
            found = results.find(settings) if results else []
            row = next((row for row in found if row.section == section.title), None)
            if row is None:
                if found:
                    row = replace(found[0], section=section.title)
                else:
                    row, x = run(settings, device=device, notice=once, progress=progress)
                    row = replace(row, section=section.title)
                    if results is not None:
                        results.keep(settings, x)
                try:
                    if results is not None:
                        row = results.add(row)
                except OSError:
                    if results is not None and not found:
                        results.forget(settings)
                    raise
            each()
            yield row

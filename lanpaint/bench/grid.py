"""Grids of runs, from a YAML file or from lists of settings. A file of results lets an interrupted grid continue."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lanpaint.bench.runs import NAMES, OF_EVERY_METHOD, Result, Settings, run
from lanpaint.checks import as_path, shown
from lanpaint.images import replacing
from lanpaint.methods import all_options, find_method
from lanpaint.names import all_dynamics_options
from lanpaint.options import Option

MOST_RUNS = 100_000
"""Most runs of a grid. More is a slip."""
KEPT = 2_000
"""Number of samples of a run on a planar target that are stored for pictures, in a folder beside the results."""


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


class Results:
    """A file of results with one line of JSON for each run. Lines are only ever appended.

    Args:
        path: The file. It is made when the first line is written.

    Attributes:
        rows: The results in the file.

    Raises:
        ValueError: When the folder is missing, or a line is not a result. An incomplete last line is no error: it is
            left by a run that was killed while writing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = as_path("a file of results", path)
        self.rows: list[Result] = []
        if self.path.is_dir():
            raise ValueError(f"{self.path} is a folder; give a file of results")
        if not self.path.absolute().parent.is_dir():
            raise ValueError(f"cannot write {self.path}: the folder {self.path.absolute().parent} does not exist")
        if not self.path.exists():
            return
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is not a file of results, which is text; give another file") from error
        except OSError as error:
            raise ValueError(f"cannot read {self.path}: {error.strerror or error}") from error
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    self.rows.append(Result.from_json(line))
            except ValueError as error:
                if number == len(lines) and line.startswith('{"section"'):  # incomplete: the run was killed
                    break
                raise ValueError(f"{self.path}, line {number}: {error}; give another file") from error

    def find(self, settings: Settings) -> list[Result]:
        """The rows with these settings that the installed version of lanpaint has made."""
        from importlib.metadata import version

        return [
            row for row in self.rows if row.settings == settings and row.versions.get("lanpaint") == version("lanpaint")
        ]

    def add(self, row: Result) -> None:
        """Append a row. The whole row is on the disk when this returns.

        Raises:
            OSError: When the row cannot be written. The file is then as it was before.
        """
        try:
            size = self._cut_short()
            try:
                with self.path.open("ab") as file:
                    file.write(row.as_json().encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            except BaseException:  # of a full disk, or Ctrl-C
                self._restore(size)
                raise
        except OSError as error:
            raise OSError(f"cannot write {self.path}: {error.strerror or error}") from error
        self.rows.append(row)

    def _cut_short(self) -> int | None:
        """Remove an incomplete last line from the file. Returns the file's size in bytes; None if there is no file."""
        if not self.path.exists():
            return None
        with self.path.open("rb+") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
            return file.seek(0, os.SEEK_END)

    def _restore(self, size: int | None) -> None:
        """Make the file as it was before a row was written: of so many bytes, or not there."""
        with contextlib.suppress(OSError):
            if size is None:
                self.path.unlink(missing_ok=True)
            else:
                os.truncate(self.path, size)

    def samples_path(self, settings: Settings) -> Path:
        """The file in which the samples of a run on a planar target are stored."""
        import hashlib

        name = hashlib.sha256(repr(sorted(settings.given().items())).encode()).hexdigest()[:16]
        return self.path.with_name(self.path.name + ".samples") / f"{name}.npy"

    def keep(self, settings: Settings, x: Tensor | None) -> None:
        """Store the first :data:`KEPT` samples for pictures, if the samples have shape (B, 2)."""
        if x is None or x.ndim != 2 or x.shape[1] != 2:
            return
        path = self.samples_path(settings)
        try:
            path.parent.mkdir(exist_ok=True)
            with replacing(path) as part:
                np.save(part, x[:KEPT].float().numpy())
        except OSError as error:
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # only if it is empty
            raise OSError(f"cannot write {path}: {error.strerror or error}") from error

    def forget(self, settings: Settings) -> None:
        """Remove the stored samples of a run, and the folder if it is empty then."""
        path = self.samples_path(settings)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()

    def kept(self, settings: Settings) -> np.ndarray | None:
        """The stored samples (B, 2) of a run; None if there are none."""
        path = self.samples_path(settings)
        return np.load(path) if path.exists() else None


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
                        results.add(row)
                except OSError:
                    if results is not None and not found:
                        results.forget(settings)
                    raise
            each()
            yield row

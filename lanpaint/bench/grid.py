"""Grids of runs, from a YAML file or from lists of settings. A file of results lets an interrupted grid continue."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lanpaint.bench.results import Results
from lanpaint.bench.runs import NAMES, OF_EVERY_METHOD, Result, Settings, run
from lanpaint.bench.targets import make_target, needs_images, takes_images
from lanpaint.checks import as_path, check_whole, shown
from lanpaint.methods import METHODS, all_options, find_method
from lanpaint.names import all_dynamics_options
from lanpaint.options import Option
from lanpaint.plan import MOST_STEPS
from lanpaint.samplers import Sampler, TwistedSMC

PAPERS = Path(__file__).parent / "papers"
"""Folder of the grids that are tables of papers."""
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
    the method does not have is an error. The method ``all`` stands for every method of the library.

    ``evaluations`` instead of ``steps`` is a budget: the most steps whose evaluations of the score, those of all
    particles together, are not more. A method that cannot do a single step for it is left out.

    With several targets, ``images``, ``prompt``, ``guidance_scale`` and ``dtype`` are for those that take them.

    Raises:
        ValueError: For an unknown setting, a value that does not fit, an option that none of the methods has, and a
            budget that suffices for none of the methods.
    """
    if not isinstance(grid, Mapping):
        raise TypeError(f"a grid must map each setting to a value or a list of values, got {shown(grid)}")
    lists = {name: _listed(value) for name, value in grid.items()}
    if "all" in lists.get("method", []):
        lists["method"] = [*dict.fromkeys([*METHODS, *(name for name in lists["method"] if name != "all")])]
    budgets = lists.get("evaluations")
    if budgets is not None:
        if "steps" in lists:
            raise ValueError("steps follow from evaluations; leave one of them out")
        for budget in budgets:
            check_whole("evaluations", budget, least=1, most=MOST_STEPS)
    empty = [name for name, value in lists.items() if not value]
    if empty:
        raise ValueError(f"{empty[0]} is an empty list; give at least one value")
    options = options_of(lists)
    names = dict.fromkeys([*NAMES, "evaluations", *options, *all_options(), *all_dynamics_options()])
    unknown = [name for name in grid if name not in names]
    if unknown:
        near = get_close_matches(str(unknown[0]), names) or [*NAMES, "evaluations"]
        told = f"expected {', '.join(near)} or another option of lanpaint bench --help"
        raise ValueError(f"unknown setting {unknown[0]!r}; {told}")
    if "target" not in grid:
        raise ValueError(f"target is missing among the settings {', '.join(map(str, grid)) or '(none)'}; give one")
    count = math.prod(len(values) for values in lists.values())
    if count > MOST_RUNS:
        raise ValueError(f"the grid has {count:,} runs, and may have {MOST_RUNS:,}; give fewer values")
    several = len(lists.get("method", [])) > 1
    targets = [str(target) for target in lists["target"]]
    pictured, needed = any(map(takes_images, targets)), any(map(needs_images, targets))
    runs: dict[Settings, None] = {}
    left_out, taken = set(), set()
    for combination in itertools.product(*lists.values()):
        chosen = dict(zip(lists, combination, strict=True))
        budget = chosen.pop("evaluations", None)
        settings = Settings.of(chosen)
        if pictured and not takes_images(settings.target):
            settings = replace(settings, images=None, prompt=None, guidance_scale=None, dtype=None)
        elif needed and not needs_images(settings.target):
            settings = replace(settings, images=None)
        if several:
            values = settings.given()
            has = OF_EVERY_METHOD | find_method(settings.method).takes(settings.dynamics)
            left_out |= set(values) - has
            taken |= has
            settings = Settings.of({name: value for name, value in values.items() if name in has})
        if budget is not None:
            steps = _affordable(settings, budget)
            if not steps:
                continue
            settings = replace(settings, steps=steps)
        runs[settings.complete()] = None
    if not runs:
        raise ValueError(
            f"{max(budgets or [0])} evaluations suffice for no step of {', '.join(lists.get('method', ['lanpaint']))}"
        )
    nowhere = sorted(left_out - taken - {"inner_steps"})
    if nowhere:
        raise ValueError(f"none of {', '.join(lists['method'])} has {' or '.join(nowhere)}; leave it out")
    return list(runs)


def _has_model(grid: Mapping[str, Any]) -> bool:
    return any(str(target).startswith("MODEL:") for target in _listed(grid.get("target", "")))


def _with_model(grid: dict[str, Any], model: str | None) -> dict[str, Any]:
    """A grid with its model in place of ``MODEL`` in its targets."""
    own = grid.pop("model", None)
    targets = _listed(grid.get("target", ""))
    if not _has_model(grid):
        return grid
    chosen = own if model is None else model
    if chosen is None:
        raise ValueError("its targets have a MODEL of your choice; give one (--model FOLDER_OR_HUB_ID)")
    return grid | {"target": [re.sub("^MODEL(?=:)", lambda _: str(chosen), str(target)) for target in targets]}


def _tried(grid: dict[str, Any], samples: int) -> dict[str, Any]:
    """A grid of runs with at most two steps, and two updates of ALM in a step."""
    kept = {name: value for name, value in grid.items() if name not in ("evaluations", "fills")}
    for name in {"steps", "iterations"} & kept.keys() | {"steps"}:
        kept[name] = list(dict.fromkeys(min(number, 2) for number in _listed(kept.get(name, 2))))
    return kept | {"samples": samples}


def _needs_any(grid: Mapping[str, Any]) -> bool:
    return any(needs_images(str(target)) for target in _listed(grid.get("target", "")))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _affordable(settings: Settings, budget: int) -> int:
    """The most outer steps whose evaluations are at most ``budget``; 0 if a single step needs more."""
    any_target = replace(settings, target="gaussian", images=None, samples=None, fills=None, seed=0)
    low, high = 0, budget + 1  # affordable, and not
    one, two = (_evaluations(replace(any_target, steps=steps)) for steps in (1, 2))
    guess = 1 + (budget - one) // max(two - one, 1)  # right where every step costs the same
    while high - low > 1:
        steps = min(max(guess, low + 1), high - 1)
        low, high = (steps, high) if _evaluations(replace(any_target, steps=steps)) <= budget else (low, steps)
        guess = guess + 1 if low == guess else (low + high) // 2
    return low


@functools.lru_cache(maxsize=10_000)
def _evaluations(settings: Settings) -> int:
    return evaluations_of(settings.sampler(make_target(settings.target)))


def evaluations_of(sampler: Sampler) -> int:
    """Evaluations of the score for a sample, of all particles. The plan of twisted SMC counts its particles as one."""
    return sampler.plan.evaluations * (sampler.particles if isinstance(sampler, TwistedSMC) else 1)


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


def is_paper(name: str) -> bool:
    """Whether a name is that of a paper's table, ``papers/…``, and not ``papers/…:MASK``."""
    return name.startswith("papers/") and ":" not in name


def paper_grid(name: str) -> Path:
    """The file of a paper's table, from its name such as ``papers/lanpaint-1``.

    Raises:
        ValueError: For an unknown name.
    """
    names = [f"papers/{path.stem}" for path in sorted(PAPERS.glob("*.yaml"))]
    if name.removesuffix(".yaml") not in names:
        raise ValueError(f"unknown table {name}; there are {', '.join(names)}")
    return PAPERS / f"{name.removesuffix('.yaml').removeprefix('papers/')}.yaml"


def read_grid(
    path: str | Path,
    images: str | None = None,
    model: str | None = None,
    samples: int | None = None,
    trial: bool = False,
) -> list[Section]:
    """The sections of a YAML file.

    The file is a grid, or a list of grids. A grid maps each setting to a value or to a list of values. It may have a
    ``title``. Grids with the same title form one section. A target may begin with ``MODEL:``, which stands for the
    ``model`` of the grid.

    Args:
        path: The file.
        images: Folder or zip of images, for the grids without ``images`` whose models come without images.
        model: The model that takes the place of the grids' own ``model``.
        samples: Number of samples of all runs, in place of the grids' own numbers.
        trial: Whether all runs have at most two steps, and ten samples if ``samples`` is not given. So one sees whether
            a grid runs, before it takes days.

    Raises:
        ValueError: When the file cannot be read, a grid in it is not valid, or none of them takes the model or the
            images.
    """
    path = as_path("a grid", path)
    content = _read_yaml(path)
    grids = [grid for grid in (content if isinstance(content, list) else [content]) if isinstance(grid, dict)]
    if model is not None and not any(map(_has_model, grids)):
        raise ValueError(f"{path} has no target MODEL:MASK; leave the model out, or write it in the file")
    if images is not None and grids and not any(map(_needs_any, grids)):
        raise ValueError(f"no target of {path} needs images; leave them out")
    sections: list[Section] = []
    for place, grid in enumerate(content if isinstance(content, list) else [content], 1):
        if not isinstance(grid, dict):
            raise ValueError(f"{path}: entry {place} must have settings (target: …), got {type(grid).__name__}")
        title = " ".join(str(grid.pop("title", None) or f"{path.stem} {place}").split())
        try:
            grid = _with_model(grid, model) | ({} if samples is None else {"samples": samples})
            grid = _tried(grid, samples or 10) if trial else grid
            runs = tuple(expand({"images": images} | grid if images is not None and _needs_any(grid) else grid))
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


def _read_yaml(path: Path) -> Any:
    """The content of a YAML file. Of a setting that is given twice, YAML would keep the last; here it is an error."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            twice = next((key for key in keys if key != "<<" and keys.count(key) > 1), None)
            if twice is not None:
                raise ValueError(
                    f"{path}, line {node.start_mark.line + 1}: {twice} is given twice; give a list of values"
                )
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


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

    Of several runs, one that a method refuses is left out, and told by ``notice``; of a single one the error is raised.

    Args:
        sections: The runs.
        results: The file that results are read from and appended to; None for no file.
        device: The device to sample on.
        notice: Called with a line of text about metrics that cannot be computed, and runs that a method refuses. Each
            line is passed once.
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
                    try:
                        row, x = run(settings, device=device, notice=once, progress=progress)
                    except ValueError as error:
                        if sum(len(other.runs) for other in sections) == 1:
                            raise
                        once(f"{settings.method} refuses {settings.target}: {error}")
                        each()
                        continue
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

"""Tables and pictures made from a file of results."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import math
import re
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lanpaint.bench.results import Results
from lanpaint.bench.runs import Result, Settings, names_of
from lanpaint.bench.targets import LARGER_IS_BETTER, AnalyticTarget, Target
from lanpaint.images import replacing
from lanpaint.plotting import Curve, PointPanel, clouds, curves_along, points_by_name

SYMBOLS = {
    "inner_steps": "N",
    "steps": "S",
    "step_size": "η",
    "lam": "λ",
    "expected_noise": "a",
    "friction": "γ",
    "particles": "K",
}
TITLES = {
    "kl": "KL (nats)",
    "psnr": "PSNR on the hole (dB)",
    "psnr_whole": "PSNR (dB)",
    "ssim": "SSIM on the hole",
    "ssim_whole": "SSIM",
    "ms_ssim": "MS-SSIM",
    "fsim": "FSIM",
    "mse": "MSE",
    "lpips": "LPIPS",
    "fid": "FID",
    "mmd": "MMD²",
    "mmd_p": "p of MMD²",
    "kernel": "MMD² in features",
    "kernel_p": "p of MMD² in features",
    "energy": "energy distance",
    "energy_p": "p of energy distance",
    "sliced_wasserstein": "sliced Wasserstein distance",
    "stray": "share of stray samples",
    "coverage": "share of modes covered",
    "histogram_kl": "histogram KL (nats)",
    "gaussian_kl": "KL of the fitted Gaussian (nats)",
    "error": "RMS error of the missing entries",
    "join": "jump at the joins over the true one",
    "bend": "bend at the joins over the true one",
    "diversity": "diversity over the true one",
    "seam": "shift of colour at the seam",
    "residual": "largest |A x − y|",
    "cover50": "truth inside of the central 50 %",
    "cover90": "truth inside of the central 90 %",
    "rank": "distance of the ranks from uniform",
    "spread": "spread of the fills over their error",
    "psnr_mean": "PSNR of the mean of the fills (dB)",
    "pit": "KL of the conditional ranks (nats)",
    "mass50": "samples inside of the exact central 50 %",
    "mass90": "samples inside of the exact central 90 %",
    "width": "mean square from the exact mean over the exact one",
    "mmse_gap": "excess error of the mean over the exact one",
    "wrong_mode": "share of samples in a wrong mode",
}
COSTS = {"seconds": "seconds a sample", "memory": "bytes a sample"}
"""Costs of a run that are tabulated like metrics where they are asked for, with their titles."""
_OF_PICTURES = ("psnr_whole", "ssim", "ssim_whole", "ms_ssim", "fsim", "mse", "lpips")
TITLES |= COSTS | {f"{name}_pasted": f"{TITLES[name]}, known pixels pasted" for name in _OF_PICTURES}
MOST_CLOUDS = 16

Group = dict[Settings, list[Result]]  # settings with the seed set to 0 → results with these settings, of all seeds


def varying(runs: Sequence[Settings]) -> list[str]:
    """Names of the settings that differ between the runs. Seed, number of samples and images are not considered."""
    names = [name for name in names_of(runs) if name not in ("seed", "samples", "images")]
    return [name for name in names if len({settings.get(name) for settings in runs}) > 1]


def cell(name: str, value: Any, is_own: bool = False) -> str:
    """The value of a setting as text for a reader; ``is_own`` for a method of one's own."""
    if value is None:
        if is_own and name in ("levels", "solver", "inner_steps"):
            return "own"
        return {"preset": "paper"}.get(name, "own" if name == "dynamics" else "–")
    if name == "images":
        return Path(value).name  # a report is read elsewhere, where the path says nothing
    return f"{value:g}" if isinstance(value, float) else str(value)


def write_report(results: Results, folder: str | Path, further: Sequence[str] = (), title: str = "Benchmark") -> Path:
    """Write ``report.md``, ``figures.csv`` and the pictures of a file of results.

    Args:
        results: The results.
        folder: Folder to write to, made if it is missing. Existing files of these names are overwritten.
        further: Names of metrics to tabulate in addition to the metrics in ``Result.merits``; also ``seconds`` and
            ``memory``.
        title: Heading of the Markdown file.

    Returns:
        The path of the Markdown file.

    Raises:
        ValueError: When the folder is a file, there are no results, no result has one of the further metrics, or the
            report could overwrite the results.
        OSError: When the report cannot be written.
    """
    rows, folder = results.latest, Path(folder)
    if not rows:
        raise ValueError(f"{results.path} holds no results; give a file that lanpaint bench has written")
    available = {name for row in rows for name in row.figures} | COSTS.keys()
    missing = [name for name in further if name not in available]
    if missing:
        raise ValueError(f"no run has the figure {missing[0]!r}; there are {', '.join(sorted(available))}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder for the report")
    source = results.path.resolve()
    if source.parent == folder.resolve() and (source.suffix == ".png" or source.name in ("report.md", "figures.csv")):
        raise ValueError(f"a report in {folder} could overwrite the results {results.path}; give another folder")
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = [f"# {title}\n", _preamble(rows, len(results.rows) - len(rows))]
        stems: set[str] = set()
        for section in dict.fromkeys(row.section for row in rows):
            part = [row for row in rows if row.section == section]
            text.append(f"## {' '.join(section.split()) or 'Runs'}\n")
            text += _section(section, part, results, folder, further, stems)
        _write(folder / "figures.csv", _csv(rows))
        _write(folder / "report.md", "\n".join(text).rstrip() + "\n")
    except BaseException as error:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if it is empty
        if isinstance(error, OSError) and error.strerror:
            raise OSError(f"cannot write the report to {folder}: {error.strerror}") from error
        raise
    return folder / "report.md"


def _write(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _preamble(rows: list[Result], older: int) -> str:
    versions = sorted({", ".join(f"{name} {number}" for name, number in row.versions.items()) for row in rows})
    devices = sorted({row.device for row in rows})
    number = "1 run" if len(rows) == 1 else f"{len(rows)} runs"
    return (
        f"{number}; {'; '.join(versions)}; {'; '.join(devices)}. Means over the seeds with their standard "
        "errors (of one seed: over the images, where there are images). `figures.csv` has every figure of every run."
        + (f" {older} runs that a later version has made again are left out." if older else "")
        + "\n"
    )


def _section(
    title: str, rows: list[Result], results: Results, folder: Path, further: Sequence[str], stems: set[str]
) -> list[str]:
    """The text of a section. It has a part for each target, or one part if only the target could be an axis.

    ``stems`` are the names of pictures so far. The section's are added.
    """
    names = varying([row.settings for row in rows])
    along = _axis(names, rows)
    targets = list(dict.fromkeys(row.settings.target for row in rows))
    text = []
    for target in targets if along else [None]:
        part = [row for row in rows if target in (None, row.settings.target)]
        if along and len(targets) > 1:
            text.append(f"### {target}\n")
        stem = _stem(f"{title} {target}" if along and len(targets) > 1 else title, stems)
        text += _part(part, along, stem, results, folder, further)
    return text


def _axis(names: list[str], rows: list[Result]) -> str | None:
    """The setting with the most values, among settings whose values are numbers; None if none has several values."""
    values = {name: {row.settings.get(name) for row in rows} - {None} for name in names}
    values = {name: found for name, found in values.items() if len(found) > 1 and all(map(_is_number, found))}
    return max(values, key=lambda name: len(values[name])) if values else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _stem(title: str, stems: set[str]) -> str:
    """The name of a section's pictures, other than the names so far, to which it is added."""
    stem = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:80] or "runs"
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    # a picture of samples is called STEM-samples
    new = next(name for name in names if not {name, f"{name}-samples"} & stems)
    stems |= {new, f"{new}-samples"}
    return new


def _part(
    rows: list[Result], along: str | None, stem: str, results: Results, folder: Path, further: Sequence[str]
) -> list[str]:
    group: Group = {}
    for row in rows:
        group.setdefault(_seedless(row.settings), []).append(row)
    names = varying(list(group))
    along = along if along and any(settings.get(along) is not None for settings in group) else None
    column = along or ("target" if "target" in names else None)
    curve_names = _telling(list(group), [name for name in names if name != column])
    labels = {settings: _label(settings, curve_names) for settings in group}
    if len({(labels[settings], settings.get(column) if column else None) for settings in group}) < len(group):
        # runs that differ in what no table shows otherwise: the number of samples, or the images
        curve_names += [name for name in ("samples", "images") if len({settings.get(name) for settings in group}) > 1]
        labels = {settings: _label(settings, curve_names) for settings in group}
    shared = [name for name in names_of(list(group)) if name not in ("seed", "images", "preset", "particles")]
    text = [f"Common to all: {common(list(group), shared)}.\n"]
    had = {name for row in rows for name in row.figures} | COSTS.keys()
    merits = [*dict.fromkeys(m for row in rows for m in row.merits), *(name for name in further if name in had)]
    if column is None:
        text.append(_overview(group, labels, merits))
    else:
        for merit in merits:
            text += [f"**{TITLES.get(merit, merit)}**\n", _pivot(group, labels, column, merit)]
        if along:
            text.append(_cost(group, labels, along))
    if along and merits:
        picture = f"{stem}.png"
        _draw_curves(group, labels, along, merits[0], folder / picture)
        text.append(f"![{TITLES.get(merits[0], merits[0])} along {along}]({picture})\n")
    elif merits and len(group) > 1:
        _draw_points(group, labels, column, folder / f"{stem}.png")
        text.append(f"![What every run comes to, with standard errors; exact samples are a dotted line]({stem}.png)\n")
    if _draw_clouds(group, labels, column, results, folder / f"{stem}-samples.png"):
        text.append(f"![Samples of every method beside exact ones; stray samples in red]({stem}-samples.png)\n")
    return text


def _seedless(settings: Settings) -> Settings:
    from dataclasses import replace

    return replace(settings, seed=0)


def _telling(runs: Sequence[Settings], names: Sequence[str]) -> list[str]:
    """Few of the settings ``names`` that distinguish the runs as well as all of them do. The method comes first."""

    def kinds(chosen: Sequence[str]) -> int:
        return len({tuple(settings.get(name) for name in chosen) for settings in runs})

    chosen: list[str] = []
    for name in sorted(names, key=lambda name: {"method": 0, "preset": 1}.get(name, 2)):
        if kinds([*chosen, name]) > max(1, kinds(chosen)) and kinds(chosen) < kinds(names):
            chosen.append(name)
    return chosen or ["method"]


def _label(settings: Settings, names: Sequence[str]) -> str:
    parts = []
    for name in names:
        value = settings.get(name)
        names_default = name in ("preset", "dynamics") and "method" not in names  # then a default gets a label, too
        if value is not None or names_default:
            told = f"{SYMBOLS[name]} = " if name in SYMBOLS else f"{name.replace('_', ' ')} "
            before = "" if isinstance(value, str) or value is None else told
            parts.append(before + cell(name, value))
    return ", ".join(parts).replace("lanpaint, fast", "lanpaint fast") or settings.method


def common(runs: Sequence[Settings], names: Sequence[str]) -> str:
    """The settings, among ``names``, that have the same value in all runs that have the setting, as text."""
    values = {name: {settings.get(name) for settings in runs} - {None} for name in names}
    parts = [f"{name.replace('_', ' ')} {cell(name, *found)}" for name, found in values.items() if len(found) == 1]
    return ", ".join(parts)


def _value(row: Result, figure: str) -> float:
    return float(getattr(row, figure)) if figure in COSTS else row.figures.get(figure, math.nan)


def mean(rows: Sequence[Result], figure: str) -> tuple[float, float]:
    """Mean of a metric over the seeds, and its standard error.

    If a run diverged, the mean is infinite: the worst value of the metric. If a run does not have the metric, the mean
    is NaN. With a single seed the standard error is that of the run, NaN if the run has none.
    """
    worst = -math.inf if figure in LARGER_IS_BETTER else math.inf
    values = [worst if row.diverged else _value(row, figure) for row in rows]
    if not all(math.isfinite(value) for value in values):
        return (
            worst if worst in values else sum(values)
        ), math.nan  # of an infinite PSNR, or of a metric that is lacked
    if len(values) == 1:
        return values[0], rows[0].figures.get(f"{figure}_error", math.nan)
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5


def _figure(rows: Sequence[Result], figure: str) -> str:
    """The mean of a metric, as text for a table."""
    value, error = mean(rows, figure)
    if math.isinf(value):
        return "diverged" if any(row.diverged for row in rows) else "∞" if value > 0 else "−∞"
    if math.isnan(value):
        return "–"
    return f"{value:.3g}" + ("" if math.isnan(error) else f" ± {error:.1g}")


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str]) -> str:  # whatever a prompt or an option has in it
        return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([row(head), "|---" * len(head) + "|", *map(row, lines)]) + "\n"


def _values(group: Group, column: str) -> list[Any]:
    values = {settings.get(column) for settings in group}
    ordered = sorted(values - {None}) if column != "target" else list(dict.fromkeys(s.target for s in group))
    return ordered + [None] * (None in values)


def _pivot(group: Group, labels: dict[Settings, str], column: str, figure: str) -> str:
    """A table of a metric, with a line for each label and a column for each value of the setting ``column``."""
    values = _values(group, column)
    cells = {(labels[s], s.get(column)): _figure(rows, figure) for s, rows in group.items()}
    lines = [[label, *(cells.get((label, value), "") for value in values)] for label in dict.fromkeys(labels.values())]
    floors = []
    for value in values:
        found = [
            row.floors[figure]
            for s, rows in group.items()
            if s.get(column) == value
            for row in rows
            if figure in row.floors
        ]
        floors.append(f"{statistics.fmean(found):.2g}" if found else "")
    if any(floors):
        lines.append(["exact samples", *floors])
    prefix = f"{column.replace('_', ' ')} " if column != "target" else ""
    return _table(["", *("none" if v is None else prefix + cell(column, v) for v in values)], lines)


def _overview(group: Group, labels: dict[Settings, str], figures: Sequence[str]) -> str:
    head = ["", *(TITLES.get(f, f) for f in figures), "NFE", "ms a sample", "KiB a sample"]
    return _table(head, [[labels[s], *(_figure(r, f) for f in figures), *_costs(r)] for s, r in group.items()])


def _cost(group: Group, labels: dict[Settings, str], along: str) -> str:
    """A table of the cost of each label, at the largest value of the setting ``along``."""
    largest = max(v for v in _values(group, along) if v is not None)
    lines = [[labels[s], *_costs(rows)] for s, rows in group.items() if s.get(along) in (largest, None)]
    return _table([f"at {along.replace('_', ' ')} {cell(along, largest)}", "NFE", "ms a sample", "KiB a sample"], lines)


def _costs(rows: Sequence[Result]) -> list[str]:
    seconds = statistics.fmean(row.seconds for row in rows)
    return [f"{rows[0].nfe}", f"{1000 * seconds:.3g}", f"{rows[0].memory / 1024:.3g}"]


def _draw_curves(group: Group, labels: dict[Settings, str], along: str, figure: str, path: Path) -> None:
    """Draw a metric against the setting ``along``, and against the evaluations if the setting changes their number."""
    curves: dict[str, Curve] = {label: Curve([], [], [], []) for label in dict.fromkeys(labels.values())}
    for settings, rows in sorted(group.items(), key=lambda item: item[0].get(along) or 0):
        value, error = mean(rows, figure)
        curve = curves[labels[settings]]
        curve.x.append(settings.get(along))
        curve.y.append(value)
        curve.error.append(0.0 if math.isnan(error) else error)
        curve.nfe.append(rows[0].nfe)
    floors = [row.floors[figure] for rows in group.values() for row in rows if figure in row.floors]
    floor = statistics.fmean(floors) if floors else None
    first = next(iter(group))
    symbol = f" {SYMBOLS[along]}" if along in SYMBOLS else ""
    curves_along(
        curves,
        xlabel=along.replace("_", " ") + symbol,
        ylabel=TITLES.get(figure, figure),
        title=first.target,
        floor=floor,
        logarithmic=figure not in LARGER_IS_BETTER,
        with_evaluations=along in ("steps", "inner_steps"),
        path=path,
    )


def _draw_points(group: Group, labels: dict[Settings, str], column: str | None, path: Path) -> None:
    """Draw the first metric of each label, in a panel for each target."""
    panels = []
    for value in _values(group, column) if column else [None]:
        chosen = {s: rows for s, rows in group.items() if column is None or s.get(column) == value}
        merit = next((row.merits[0] for rows in chosen.values() for row in rows if row.merits), None)
        if merit is None:
            continue
        points = {labels[settings]: mean(rows, merit) for settings, rows in chosen.items()}
        floors = [row.floors[merit] for rows in chosen.values() for row in rows if merit in row.floors]
        floor = statistics.fmean(floors) if floors else None
        finite = [number for number, _ in points.values() if math.isfinite(number)]
        logarithmic = merit not in LARGER_IS_BETTER and bool(finite) and min([*finite, floor or 1.0]) > 0
        title = next(iter(chosen)).target if value is None else str(value)
        panels.append(PointPanel(title, TITLES.get(merit, merit), points, floor, logarithmic))
    points_by_name(list(dict.fromkeys(labels.values())), panels, path)


def _draw_clouds(group: Group, labels: dict[Settings, str], column: str | None, results: Results, path: Path) -> bool:
    """Draw the stored samples of the runs of the first seed, a row for each value of ``column``.

    Returns False, and draws nothing, if there are no samples, too many panels, several targets, or a target of one's
    own that is not here.
    """
    panels: dict[tuple[str, Any], tuple[str, np.ndarray, np.ndarray]] = {}
    targets = {settings.target for settings in group}
    if len(targets) > 1 or not any(results.kept(rows[0].settings) is not None for rows in group.values()):
        return False
    try:
        target = next(iter(group)).find_target()
    except ValueError as error:  # the file was made on another machine
        warnings.warn(f"without pictures of samples: {' '.join(str(error).split())}", stacklevel=2)
        return False
    for settings, rows in group.items():
        kept = results.kept(rows[0].settings)
        if kept is not None:
            value = settings.get(column) if column else None
            head = labels[settings]
            if column and value is not None:
                head += f", {SYMBOLS.get(column, column)} = {cell(column, value)}"
            panels[labels[settings], value] = (f"{head}\n{_merit(rows)}", kept, _stray(rows[0].settings, kept))
    if not 0 < len(panels) <= MOST_CLOUDS:
        return False
    settings = rows[0].settings
    exact = target.draw(len(next(iter(panels.values()))[1]), torch.Generator().manual_seed(1)).numpy()
    background = _background(target)
    values = list(dict.fromkeys(value for _, value in panels))
    per_row = [[panel for (_, value), panel in panels.items() if value == row] for row in values]
    if len(per_row) == 1 or max(map(len, per_row)) == 1:
        flat = [panel for row in per_row for panel in row]
        flat.insert(0, ("exact", exact, _stray(settings, exact)))
        per_row = [flat[start : start + 5] for start in range(0, len(flat), 5)]
    else:
        per_row[0].insert(0, ("exact", exact, _stray(settings, exact)))
        for row in per_row[1:]:
            row.insert(0, ("", exact[:0], np.zeros(0, dtype=bool)))
    clouds(per_row, path, background)
    return True


def _background(target: Target) -> np.ndarray | None:
    """Samples of the joint distribution, if all samples share one observation; else None.

    In such a problem all samples of a method lie on a line.
    """
    if not isinstance(target, AnalyticTarget) or target.problem.observed is None:
        return None
    return target.problem.target.sample(4_000, torch.Generator().manual_seed(2)).numpy()


def _merit(rows: Sequence[Result]) -> str:
    return f"KL {rows[0].kl:.3g}" if not rows[0].diverged else "diverged"


def _stray(settings: Settings, x: np.ndarray) -> np.ndarray:
    """Booleans (n,), True for samples that are far from every mode of the target."""
    from lanpaint_toys.problems import stray

    target = settings.find_target()
    assert isinstance(target, AnalyticTarget)
    law = target.problem.target
    if len(law.weights) == 1:
        return np.zeros(len(x), dtype=bool)
    return stray(torch.from_numpy(x), law).numpy() if len(x) else np.zeros(0, dtype=bool)


def _csv(rows: list[Result]) -> str:
    figures = list(dict.fromkeys(name for row in rows for name in row.figures))
    names = names_of([row.settings for row in rows])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["section", *names, *figures, *(f"floor_{n}" for n in figures), "nfe", "seconds", "memory", "diverged"]
    )
    for row in rows:
        settings = row.settings.given()
        if "images" in settings:  # a report is read elsewhere, where the path says nothing
            settings["images"] = Path(settings["images"]).name
        writer.writerow(
            [
                row.section,
                *(settings.get(name, "") for name in names),
                *(row.figures.get(name, "") for name in figures),
                *(row.floors.get(name, "") for name in figures),
                row.nfe,
                row.seconds,
                row.memory,
                row.diverged or "",
            ]
        )
    return text.getvalue()

"""Tables and pictures of the neutral benchmark, from what `make benchmark` has finished so far: docs/neutral.md.

    python docs/studies/neutral.py FOLDER docs/neutral

The first folder has exact.jsonl, images.jsonl, motion.jsonl and emoji.jsonl, each as far as it has come, and gets
cost.json: the time of every method on eight digits, in seconds of the processor, which other programs on the machine do
not lengthen.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import lanpaint as lp
from lanpaint.bench import METHODS, Result, Results, expand, make_target
from lanpaint.bench.grid import evaluations_of
from lanpaint.plotting import COLOURS, MARKERS, new_figure, save

Table = dict[str, dict[str, list[Result]]]  # method → column → runs of all seeds
Figure = Callable[[Result], float]
EXACT = ("gaussian", "stiff24", "star", "thin", "far", "moons", "laplace", "student")
STRIDES = {"error": "error", "kernel": "distance in features", "join": "jump at the joins, over the true one"}
BUDGETS = (4, 8, 30, 60, 120, 220, 550)


def name_of(row: Result) -> str:
    """The method, with its preset."""
    return row.settings.method + (" fast" if row.settings.preset == "fast" else "")


def budget_of(row: Result) -> int:
    """The budget of evaluations that a run was made for: the smallest that it does not exceed."""
    spent = row.nfe
    if row.diverged:  # then it has stopped before
        spent = evaluations_of(row.settings.sampler(row.settings.find_target()))
    return next(budget for budget in BUDGETS if spent <= budget)


def figure_of(name: str) -> Figure:
    """A metric of a run, infinite if the run diverged."""
    return lambda row: math.inf if row.diverged else row.figures.get(name, math.nan)


def mean(rows: Sequence[Result], figure: Figure) -> float:
    """The mean over the seeds."""
    return statistics.fmean(figure(row) for row in rows)


def tabulated(rows: Sequence[Result], column: Callable[[Result], str]) -> Table:
    """Runs by method and column."""
    table: Table = {}
    for row in rows:
        table.setdefault(name_of(row), {}).setdefault(column(row), []).append(row)
    return table


def columns_of(table: Table) -> list[str]:
    """The columns of a table, exact targets in the order of the study."""
    found = dict.fromkeys(column for cells in table.values() for column in cells)
    return sorted(found, key=lambda column: (*EXACT, column.partition(",")[0]).index(column.partition(",")[0]))


def ranked(table: Table, figure: Figure, floor: float) -> list[str]:
    """Methods by the mean logarithm of a metric over all columns, the best first. Those with gaps come last."""
    columns = columns_of(table)

    def place(name: str) -> tuple[int, float]:
        values = [mean(cells, figure) for cells in table[name].values()]
        worst = [min(max(value, floor), 10.0) if math.isfinite(value) else 10.0 for value in values]
        return len(columns) - len(values), statistics.fmean(map(math.log, worst))

    return sorted(table, key=place)


def number(value: float, digits: int = 2) -> str:
    """A number for a table."""
    return "diverged" if math.isinf(value) else "–" if math.isnan(value) else f"{value:.{digits}g}"


def written(table: Table, order: Sequence[str], figure: str, digits: int = 2, floors: bool = True) -> str:
    """A Markdown table of a metric: the mean over the seeds, with its standard error if there are several."""
    columns = columns_of(table)
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in order:
        cells = []
        for column in columns:
            rows = table[name].get(column, [])
            values = [figure_of(figure)(row) for row in rows]
            text = number(statistics.fmean(values), digits) if values else ""
            if len(values) > 1 and all(map(math.isfinite, values)):
                text += f" ± {statistics.stdev(values) / len(values) ** 0.5:.1g}"
            cells.append(text)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if floors:
        cells = []
        for column in columns:
            found = [
                row.floors[figure]
                for cells_of in table.values()
                for row in cells_of.get(column, [])
                if figure in row.floors
            ]
            cells.append(number(statistics.fmean(found), digits) if found else "")
        if any(cells):
            lines.append(f"| exact samples | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def heat_map(table: Table, order: Sequence[str], path: Path, floor: float) -> None:
    """Draw a metric of every method on every target; the colour is its logarithm."""
    columns = columns_of(table)
    figure = new_figure(figsize=(1.05 * len(columns) + 2.2, 0.27 * len(order) + 1.0))
    axes = figure.subplots()
    values = np.full((len(order), len(columns)), np.nan)
    for i, name in enumerate(order):
        for j, column in enumerate(columns):
            if column in table[name]:
                value = mean(table[name][column], figure_of("pit"))
                values[i, j] = value
                axes.text(j, i, number(value), ha="center", va="center", fontsize=7)
    shown = np.log10(np.clip(np.where(np.isinf(values), 10, values), floor, 3))
    axes.imshow(shown, aspect="auto", cmap="RdYlGn_r", vmin=math.log10(floor), vmax=math.log10(3), alpha=0.75)
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.set_yticks(range(len(order)), order, fontsize=8)
    axes.set_title("KL of the ranks of samples in their exact conditional, nats (green: exact)", fontsize=9)
    save(figure, path, dpi=120)


def against_budget(rows: Sequence[Result], order: Sequence[str], path: Path) -> None:
    """Draw the metric against evaluations on each target: the best methods in colour, all others in grey."""
    targets = list(dict.fromkeys(row.settings.target for row in rows))
    several = [t for t in targets if len({budget_of(r) for r in rows if r.settings.target == t}) > 1][:8]
    figure = new_figure(figsize=(13, 6.4))
    panels = figure.subplots(2, 4, squeeze=False).flat
    for axes, target in zip(panels, several, strict=False):
        for place, name in reversed(list(enumerate(order))):
            points: dict[int, list[float]] = {}
            for row in rows:
                if row.settings.target == target and name_of(row) == name:
                    points.setdefault(budget_of(row), []).append(figure_of("pit")(row))
            xy = sorted((x, statistics.fmean(y)) for x, y in points.items())
            xy = [(x, y) for x, y in xy if math.isfinite(y) and y > 0]
            best = place < 8
            style = {"color": COLOURS[place], "marker": MARKERS[place], "label": name} if best else {"color": "0.8"}
            axes.plot(*zip(*xy, strict=True) if xy else ([], []), linewidth=1.4 if best else 0.8, markersize=4, **style)
        floors = [row.floors["pit"] for row in rows if row.settings.target == target]
        axes.axhline(statistics.fmean(floors), color="0.3", linestyle=":", linewidth=1)
        axes.set(xscale="log", yscale="log", title=target)
        axes.set_xticks(BUDGETS, [str(b) for b in BUDGETS], fontsize=7)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center", fontsize=8)
    figure.supxlabel("evaluations", fontsize=9)
    figure.supylabel("KL of the ranks, nats (dotted: exact samples)", fontsize=9)
    save(figure, path, dpi=110)


def intervals(panels: Sequence[tuple[str, Table]], order: Sequence[str], path: Path, names: tuple[str, str]) -> None:
    """Draw how many samples lie in the exact intervals of 50 % and 90 %, or how many truths in those of the fills."""
    figure = new_figure(figsize=(7.5 if len(panels) == 1 else 3.6 * len(panels) + 1, 0.24 * len(order) + 1.2))
    for axes, (title, table) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
    ):
        for place, name in enumerate(order):
            for figure_name, colour in zip(names, COLOURS, strict=False):
                values = [mean(rows, figure_of(figure_name)) for rows in table.get(name, {}).values()]
                values = [value for value in values if math.isfinite(value)]
                axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.55, markersize=4)
        for level, colour in zip((0.5, 0.9), COLOURS, strict=False):
            axes.axvline(level, color=colour, linewidth=1)
        axes.set_yticks(range(len(order)), order, fontsize=8)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(order) - 0.5, -0.5))
        axes.set_title(title, fontsize=9)
        axes.grid(alpha=0.3)
    save(figure, path, dpi=110)


def bars(parts: Sequence[tuple[str, Table, str]], path: Path, order: Sequence[str], clip: bool = False) -> None:
    """Draw metrics, a panel each: a dot for each target. With ``clip``, what is above 4 medians is drawn there."""
    figure = new_figure(figsize=(3.6 * len(parts) + 1, 0.24 * len(order) + 1.4))
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for axes, (title, table, metric) in zip(panels, parts, strict=True):
        every = [mean(rows, figure_of(metric)) for cells in table.values() for rows in cells.values()]
        edge = 4 * statistics.median(filter(math.isfinite, every)) if clip else math.inf
        for i, column in enumerate(columns_of(table)):
            xy = [
                (mean(table[name][column], figure_of(metric)), place)
                for place, name in enumerate(order)
                if column in table.get(name, {})
            ]
            xy = [(x, y) for x, y in xy if math.isfinite(x)]
            if xy:
                x, y = zip(*((min(x, edge), y) for x, y in xy), strict=True)
                axes.plot(x, y, MARKERS[i], color=COLOURS[i], markersize=4.5, label=column.rpartition(":")[2])
        axes.set_title(title, fontsize=9)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    panels[0].set_yticks(range(len(order)), order, fontsize=8)
    panels[0].invert_yaxis()
    save(figure, path, dpi=110)


def rank_strips(table: Table, order: Sequence[str], path: Path, title: str) -> None:
    """Draw the histogram of ranks of every method on every target as a strip of colours: white where it is flat."""
    columns = [c for c in columns_of(table) if any(r.ranks for cells in table.values() for r in cells.get(c, []))]
    if not columns:
        return
    figure = new_figure(figsize=(1.45 * len(columns) + 1.9, 0.22 * len(order) + 1.2))
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, column in zip(panels, columns, strict=True):
        rows = [[row.ranks for row in table.get(name, {}).get(column, []) if row.ranks] for name in order]
        bins = max(len(ranks) for found in rows for ranks in found)
        flat = [np.mean(found, 0) * bins if found else np.full(bins, np.nan) for found in rows]
        shown = np.log2(np.clip(np.array(flat), 0.25, 4))
        image = axes.imshow(shown, aspect="auto", cmap="PuOr_r", vmin=-2, vmax=2, interpolation="nearest")
        axes.set_facecolor("0.8")  # where there is none
        axes.set_title(column.rpartition(":")[2], fontsize=9)
        axes.set_xticks([-0.5, (bins - 1) / 2, bins - 0.5], ["0", "½", "1"], fontsize=7)
    panels[0].set_yticks(range(len(order)), order, fontsize=8)
    bar = figure.colorbar(image, ax=list(panels), shrink=0.6, ticks=[-2, -1, 0, 1, 2])
    bar.ax.set_yticklabels(["¼", "½", "1", "2", "4"], fontsize=8)
    figure.suptitle(title, fontsize=9)
    save(figure, path, dpi=110)


def dots(table: Table, order: Sequence[str], path: Path, metrics: Sequence[tuple[str, str, float]]) -> None:
    """Draw metrics of exact targets, a panel each: a dot for each target; a line where exact samples are."""
    figure = new_figure(figsize=(3.4 * len(metrics) + 1.2, 0.24 * len(order) + 1.4))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, (metric, title, exact) in zip(panels, metrics, strict=True):
        for i, column in enumerate(columns_of(table)):
            found = {n: table[n][column] for n in order if column in table[n]}
            found = {n: r for n, r in found.items() if any(metric in row.figures for row in r)}
            xy = [(mean(r, figure_of(metric)), order.index(n)) for n, r in found.items()]
            xy = [(x, y) for x, y in xy if math.isfinite(x)]
            if xy:
                x, y = zip(*xy, strict=True)
                colour = COLOURS[i % len(COLOURS)]
                axes.plot(x, y, MARKERS[i % len(MARKERS)], color=colour, markersize=4.5, label=column, alpha=0.8)
        axes.axvline(exact, color="0.3", linestyle=":", linewidth=1)
        axes.set_title(title, fontsize=9)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    for axes, (metric, _, _) in zip(panels, metrics, strict=True):
        if metric == "width":
            axes.set_xscale("log")
        if metric == "mmse_gap":
            axes.set_xscale("symlog", linthresh=0.1)
    panels[0].set_yticks(range(len(order)), order, fontsize=8)
    panels[0].invert_yaxis()
    save(figure, path, dpi=110)


def seeds_of(rows: Sequence[Result], column: Callable[[Result], str], line: Callable[[Result], str]) -> str:
    """A Markdown table that counts methods by their number of seeds: 4 × 3 means that 4 methods have 3 seeds."""
    cells: dict[str, dict[str, dict[str, set[int]]]] = {}
    for row in rows:
        seeds = cells.setdefault(line(row), {}).setdefault(column(row), {}).setdefault(name_of(row), set())
        seeds.add(row.settings.seed)
    columns = columns_of({"": {c: [] for found in cells.values() for c in found}})
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in sorted(cells, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else name)):
        texts = []
        for each in columns:
            numbers = [len(seeds) for seeds in cells[name].get(each, {}).values()]
            texts.append(", ".join(f"{numbers.count(n)} × {n}" for n in sorted(set(numbers), reverse=True)))
        lines.append(f"| {name} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def measure_cost(path: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of the processor for an evaluation of one digit, of every method; measured once and kept."""
    costs: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    target = make_target("digits:box")
    observation = lp.Observation(target.draw(8, None), target.known)  # type: ignore[arg-type]
    for name in METHODS:
        if name in costs:
            continue
        try:
            (settings,) = expand(
                {"target": "digits:box", "method": [name, "tds"], "evaluations": 30, "particles": 4, "samples": 10}
            )[:1]
        except ValueError:
            continue
        if settings.method != name:
            continue
        with contextlib.suppress(lp.DivergenceError):
            settings.sampler(target, steps=1)(observation, generator=lp.seeded(range(8)))
        sampler = settings.sampler(target)
        score = next(part for part in sampler.modules() if isinstance(part, lp.CountedScore))
        start = time.process_time()
        with contextlib.suppress(lp.DivergenceError):
            sampler(observation, generator=lp.seeded(range(8)))
        spent = time.process_time() - start
        costs[name] = {"nfe": score.rows / 8, "ms": 1000 * spent / score.rows}
        path.write_text(json.dumps(costs))
    return costs


def cost_bars(costs: dict[str, dict[str, float]], memory: dict[str, float], path: Path) -> None:
    """Draw the time of an evaluation and the memory of a sample, of every method; with a gradient in another colour."""
    names = sorted(costs, key=lambda name: costs[name]["ms"])
    colours = [COLOURS[1] if METHODS[name].needs_gradient else COLOURS[0] for name in names]
    figure = new_figure(figsize=(8.5, 0.24 * len(names) + 1.2))
    left, right = figure.subplots(1, 2, sharey=True)
    left.barh(names, [costs[name]["ms"] for name in names], color=colours)
    left.set_title("ms of the processor an evaluation", fontsize=9)
    for name, colour in zip(names, colours, strict=True):
        if name in memory:
            right.plot([memory[name]], [name], "o", color=colour)
    right.set(xscale="log")
    right.set_title("KiB a sample (orange: with a gradient)", fontsize=9)
    for axes in (left, right):
        axes.grid(alpha=0.3, axis="x")
        axes.tick_params(labelsize=8)
    left.invert_yaxis()
    save(figure, path, dpi=110)


def main(source: Path, folder: Path) -> None:
    """Write tables.md and the pictures."""
    folder.mkdir(exist_ok=True)
    exact, images, motion, emoji = (
        list({(row.settings, row.section[:8]): row for row in Results(source / f"{part}.jsonl").latest}.values())
        if (source / f"{part}.jsonl").exists()
        else []
        for part in ("exact", "images", "motion", "emoji")
    )
    text = ["# Tables of the neutral benchmark\n"]
    counts = f"{len(images)} on digits, {len(motion)} on movements, {len(emoji)} on emoji"
    text.append(f"{len(exact)} runs on exact targets, {counts}.\n")
    text.append(
        "A number with ± is the mean of two or three seeds with its standard error, any other that of seed 0.\n"
    )
    if exact:
        heading = "## Which cells have how many seeds\n"
        told = "Lines are evaluations. *4 × 3* says that four methods have three seeds.\n"
        text += [heading, told, seeds_of(exact, lambda row: row.settings.target, lambda row: str(budget_of(row)))]
    main_rows = [row for row in exact if row.section.startswith("Exact answers")]
    table = tabulated([row for row in main_rows if budget_of(row) == 60], lambda row: row.settings.target)
    floor = 0.003
    order = ranked(table, figure_of("pit"), floor)
    if table:
        heat_map(table, order, folder / "exact.png", floor)
        against_budget(exact, order, folder / "budget.png")
        intervals(
            [("share of samples in the exact 50 % and 90 %", table)],
            order,
            folder / "intervals.png",
            ("mass50", "mass90"),
        )
        rank_strips(
            table,
            order,
            folder / "ranks.png",
            "how often F(x | y) of samples is in each twentieth (white: exact; grey: none kept)",
        )
        modes = [("wrong_mode", "share in a wrong mode", 0.0), ("mmse_gap", "excess error of the mean of 8 fills", 0.0)]
        dots(table, order, folder / "modes.png", [*modes, ("width", "mean square from the exact mean", 1.0)])
    for budget in (60, 30, 220, 120, 550):
        part = tabulated([row for row in main_rows if budget_of(row) == budget], lambda row: row.settings.target)
        if part:
            text += [
                f"## {budget} evaluations: KL of the ranks (nats)\n",
                written(part, ranked(part, figure_of("pit"), floor), "pit"),
            ]
    few = tabulated(
        [row for row in exact if row.section == "Few evaluations"],
        lambda row: f"{row.settings.target}, {budget_of(row)}",
    )
    if few:
        text += [
            "## 4 and 8 evaluations: KL of the ranks (nats)\n",
            written(few, ranked(few, figure_of("pit"), floor), "pit"),
        ]
    for metric, title in (
        ("sliced_wasserstein", "sliced Wasserstein distance of the joint samples"),
        ("wrong_mode", "share of samples in a wrong mode"),
        ("stray", "share of stray samples"),
        ("mass90", "share of samples inside of the exact central 90 %"),
        ("mass50", "share of samples inside of the exact central 50 %"),
        ("width", "mean square from the exact mean, over the exact one"),
        ("mmse_gap", "excess error of the mean of the fills, over the exact variance"),
    ):
        has = {n: {c: r for c, r in cells.items() if any(metric in x.floors for x in r)} for n, cells in table.items()}
        has = {name: cells for name, cells in has.items() if cells}
        if has:
            text += [f"## 60 evaluations: {title}\n", written(has, [n for n in order if n in has], metric)]
    digits = tabulated([r for r in images if r.section.startswith("Held-out digits")], lambda row: row.settings.target)
    fills = tabulated([r for r in images if r.section.startswith("Calibration")], lambda row: row.settings.target)
    shown = [r for r in emoji if r.section.startswith("Held-out emoji")]
    faces, more = (
        tabulated([r for r in shown if r.settings.samples == count], lambda row: row.settings.target)
        for count in (12, 64)
    )
    spread = tabulated([r for r in emoji if r.section.startswith("Calibration")], lambda row: row.settings.target)
    moves = tabulated([r for r in motion if r.section.startswith("Held-out")], lambda row: row.settings.target)
    paths = tabulated([r for r in motion if r.section.startswith("Calibration")], lambda row: row.settings.target)
    parts, strides = [], []
    for place, each, metrics in (
        ("digits, 60 evaluations", digits, ("psnr", "ssim", "seam", "energy")),
        ("digits, 19 fills each, 30 evaluations", fills, ("cover50", "cover90", "spread", "rank", "psnr_mean")),
        ("emoji, 30 evaluations", faces, ("psnr", "kernel", "seam")),
        ("64 emoji, 60 evaluations", more, ("psnr", "kernel", "seam")),
        ("emoji, 19 fills each, 30 evaluations", spread, ("cover50", "cover90", "spread", "psnr_mean")),
        ("movements, 30 evaluations", moves, ("error", "kernel", "join", "bend", "diversity", "spread")),
        ("movements, 19 fills each, 30 evaluations", paths, ("cover50", "cover90", "spread")),
    ):
        for metric in metrics:
            if each:
                better = 1 if metrics[0] == "error" else -1
                best = sorted(each, key=lambda n: better * mean(next(iter(each[n].values())), figure_of(metrics[0])))
                text += [f"## {place}: {metric}\n", written(each, best, metric, 3)]
                if each is moves and metric in STRIDES:
                    strides.append((STRIDES[metric], each, metric))
                elif each in (digits, faces) and (metric in ("psnr", "kernel") or (metric, each) == ("seam", digits)):
                    parts.append((f"{place}: {metric}", each, metric))
    if strides:
        bars(strides, folder / "movements.png", [name for name in order if name in moves], clip=True)
    if parts:
        names = [n for n in order if any(n in part[1] for part in parts)]
        names += [n for part in parts for n in part[1] if n not in names]
        bars(parts, folder / "pictures.png", list(dict.fromkeys(names)))
    panels = [(name, each) for name, each in (("digits", fills), ("emoji", spread), ("movements", paths)) if each]
    if panels:
        names = [name for name in order if any(name in each for _, each in panels)]
        intervals(panels, names, folder / "fills.png", ("cover50", "cover90"))
    strips = [name for name in order if any(r.ranks for rows in fills.get(name, {}).values() for r in rows)]
    if strips:
        told = "rank of the true pixel\namong 19 fills (white: calibrated)"
        rank_strips(fills, strips, folder / "fill-ranks.png", told)
    pictures = [*images, *motion, *emoji]
    if pictures:
        told = seeds_of(pictures, lambda row: row.settings.target, lambda row: row.section)
        text += ["## Trained models: which cells have how many seeds\n", told]
    costs = measure_cost(source / "cost.json")
    lines = ["| | gradient | ms of the processor an evaluation | KiB a sample |", "|---|---|---|---|"]
    kept = {name: next(iter(cells.values()))[0].memory / 1024 for name, cells in digits.items()}
    cost_bars(costs, kept, folder / "cost.png")
    for name in sorted(costs, key=lambda n: costs[n]["ms"]):
        memory = f"{kept[name]:.3g}" if name in kept else ""
        gradient = "yes" if METHODS[name].needs_gradient else ""
        lines.append(f"| {name} | {gradient} | {costs[name]['ms']:.2g} | {memory} |")
    text += ["## Cost on digits, eight at once\n", "\n".join(lines) + "\n"]
    (folder / "tables.md").write_text("\n".join(text).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("give the folder of results and the folder to write to: neutral.py benchmark docs/neutral")
    main(Path(sys.argv[1]), Path(sys.argv[2]))

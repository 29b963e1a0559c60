"""Motion completion: the table and the figure of docs/motion.md.

    python docs/studies/motion.py RESULTS.jsonl

Five methods complete the middle 6.4 seconds of the 40 held-out series of BasicMotions: the three tasks of ALM, Sec. 4.4
(arXiv:2606.31323), and a missing channel. Each has 30 evaluations of the network for a completion, and two completions.
A row is written as soon as it is measured, and the study goes on from there. An argument more, a number, says how many
rows to measure before the table is printed.
"""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.bench import Settings, expand, make_target
from lanpaint.plotting import COLOURS, new_figure, save
from lanpaint_toys import motion

TASKS = {
    "motion:last-half": "last half",
    "motion:middle-half": "middle half",
    "motion:acc_y": "one channel",
    "motion:first-half": "first half",
}
METHODS = {
    "line": "no model: a straight line",
    "replace": "Replace",
    "dps": "reconstruction guidance (DPS)",
    "syncsde": "SyncSDE",
    "alm": "ALM",
    "lanpaint": "LanPaint",
}
COLUMNS = {
    "error": "error",
    "kernel": "MMD² in features",
    "diversity": "diversity",
    "spread": "spread",
    "join": "jump",
    "bend": "bend",
}
EVALUATIONS, FILLS = 30, 2
PAGE = Path(__file__).parents[1]


def measured(task: str, method: str) -> dict[str, float]:
    """The figures of one run."""
    target = make_target(task)
    truth = target.draw(40, torch.Generator()).repeat_interleave(FILLS, 0)
    evaluations = 0
    if method == "line":
        x = straight(truth, target.known)
    else:
        sampler = settings_of(task, method).sampler(target)
        x = sampler(lp.Observation(truth, target.known), generator=lp.seeded(range(len(truth))))
        evaluations = sampler.plan.evaluations
    return {"evaluations": evaluations, **target.figures(x, truth, lambda line: None, FILLS)}


def straight(truth: Tensor, known: Tensor) -> Tensor:
    """A line between the known neighbours in time; a known value held, or 0, where there is one or none."""
    x, steps = truth.clone(), np.arange(truth.shape[-1])
    for channel, seen in enumerate(known.numpy()):
        for row in x[:, channel]:
            row[~seen] = torch.from_numpy(np.interp(steps[~seen], steps[seen], row[seen])).float() if seen.any() else 0
    return x


def show(rows: dict[str, dict[str, float]]) -> None:
    """Print the table in Markdown."""
    for task, title in TASKS.items():
        print(f"\n| {title} | evaluations | " + " | ".join(COLUMNS.values()) + " |\n|---|---|" + "---|" * len(COLUMNS))
        for method, name in METHODS.items():
            row = rows.get(f"{task} {method}")
            if row is None:
                continue
            cells = []
            for figure in COLUMNS:
                error = row.get(f"{figure}_error")
                digits = 3 if figure in ("error", "kernel") else 2
                cells.append("–" if figure not in row else f"{row[figure]:.{digits}f}")
                cells[-1] += "" if error is None or figure not in row else f" ± {error:.{digits}f}"
            print(f"| {name} | {row['evaluations']} | " + " | ".join(cells) + " |")


def draw() -> None:
    """Draw docs/motion.png: two completions of a walk and of a run by each method, beside the truth."""
    model = lp.load_series_model(motion.FOLDER)
    series, activities = motion.load_motion("test")
    rows = [activities.index(name) for name in ("walking", "running")]
    truth = motion.middle_windows(series[rows])
    known = torch.ones(6, 64, dtype=torch.bool)
    known[:, 32:] = False
    figure = new_figure(figsize=(11, 9))
    samplers = {method: name for method, name in METHODS.items() if method != "line"}
    axes = figure.subplots(len(samplers), 2, sharex=True, sharey="col")
    times = torch.arange(64) / 10
    given = truth.repeat_interleave(FILLS, 0)
    for row, (method, name) in enumerate(samplers.items()):
        sampler = settings_of("motion:last-half", method).sampler(make_target("motion:last-half"))
        made = model.units.restore(sampler(lp.Observation(given, known), generator=lp.seeded(range(len(given)))))
        for column, activity in enumerate(("walking", "running")):
            axis = axes[row, column]
            axis.plot(times, model.units.restore(truth)[column, 1], color="0.6", linewidth=2.5, label="truth")
            for fill in range(FILLS):
                part = made[FILLS * column + fill, 1, 31:]
                axis.plot(times[31:], part, color=COLOURS[fill], linewidth=1.2, label=f"completion {fill + 1}")
            axis.axvline(3.15, color="0.3", linestyle=":", linewidth=1)
            axis.set_title(f"{name}, {activity}", fontsize=9)
    axes[0, 0].legend(fontsize=7, loc="upper left")
    for axis in axes[:, 0]:
        axis.set_ylabel("acc_y (m/s²)", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("time (s)", fontsize=8)
    save(figure, PAGE / "motion.png")


def settings_of(task: str, method: str) -> Settings:
    """The settings of a run with at most the budget of evaluations."""
    return expand({"target": task, "method": method, "evaluations": EVALUATIONS, "samples": 80, "fills": FILLS})[0]


def main(path: Path, most: int = 100) -> None:
    """Measure what is not in the file, print the table, draw the figure."""
    rows: dict[str, Any] = {}
    if path.exists():
        rows = dict(map(json.loads, path.read_text(encoding="utf-8").splitlines()))
    for task, method in product(TASKS, METHODS):
        if (name := f"{task} {method}") not in rows and most > 0:
            rows[name] = measured(task, method)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, rows[name]]) + "\n")
            most -= 1
    show(rows)
    draw()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))

"""How far samplers end from the exact law on a Gaussian of two entries, by exact algebra: docs/methods.md.

    python -m docs.studies.laws docs/laws.png

The problem and the algebra are those of `tests/samplers/reference_problem.py`: on a Gaussian each of these samplers is
an affine map of its random numbers.
"""

from __future__ import annotations

import math
import sys
from functools import partial

import lanpaint as lp
from lanpaint.bench.grid import evaluations_of
from lanpaint.plotting import COLOURS, MARKERS, new_figure, save
from tests.samplers.reference_problem import TARGET, end, levels
from tests.samplers.test_guided import ODE
from tests.samplers.test_zoo import ROWS

STEPS = (10, 20, 50, 100, 200, 500)
MAKES = {name: row[0] for name, row in ROWS.items() if name != "Blended"} | {
    "ΠGDM, Bayes weight": partial(lp.PiGDM, weight="bayes", **ODE),
    "ΠGDM, paper weight": partial(lp.PiGDM, **ODE),
    "FlowDPS": lp.FlowDPS,
    "LanPaint": lp.LanPaint,
}
NOISE = {"ΠGDM, Bayes weight": 0.01}


def divergence(mean: float, variance: float) -> float:
    """KL in nats of N(mean, variance) from the exact N(0.8, 0.36)."""
    ratio = variance / 0.36
    return 0.5 * (ratio - 1 - math.log(ratio) + (mean - 0.8) ** 2 / 0.36)


def main(path: str) -> None:
    """Draw the divergence of each sampler against its evaluations, and print the laws at the ends."""
    curves = {}
    for name, make in MAKES.items():
        laws = [end(make, steps, noise=NOISE.get(name, 0.0)) for steps in STEPS]
        spent = [evaluations_of(make(TARGET, levels=levels(steps))) for steps in STEPS]
        far = [divergence(float(law[0]), float(law[2])) for law in laws]
        curves[name] = spent, far
        mean, variance = float(laws[-1][0]), float(laws[-1][2])
        print(f"{name:<24} mean {mean:.4f}, variance {variance:.4f}, {far[-1]:.1e} nats", flush=True)
    figure = new_figure(figsize=(9, 5))
    axes = figure.subplots()
    for place, name in enumerate(sorted(curves, key=lambda name: -curves[name][1][-1])):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        style = "-" if place < len(COLOURS) else "--"
        axes.plot(*curves[name], style, color=colour, marker=marker, markersize=4, linewidth=1.2, label=name)
    axes.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="KL from the exact conditional law, nats")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8)  # in the order of the last values
    save(figure, path, dpi=110)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("give the picture to write: python -m docs.studies.laws docs/laws.png")
    main(sys.argv[1])

"""Time and memory of ALM in one step against N iterations, measured in one run: a table of docs/alm.md.

    python docs/studies/alm_cost.py    # two minutes of a core

The right half of two held-out digits, 5 outer steps, the same random numbers for all. Time is of the processor, so that
other work on the machine counts little; of few iterations it is the mean of several runs. Memory is the peak of the
tensors that a run makes; the network's weights are not among them. "Away" is the root mean square distance of the fill
from that of the largest N, for pixels from −1 to 1.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.masks import MASKS
from lanpaint.memory import PeakMemory
from lanpaint_toys import digits

COUNT, STEPS = 2, 5
ITERATIONS = (1, 10, 100, 500)
MOST_MEASURED = 100  # iterations; memory does not depend on them, and measuring it takes as long again


def main() -> None:
    """Print the table."""
    score, images = load_pixel_model(digits.FOLDER), digits.load_digits("test")[0][:COUNT]
    known = MASKS["half"](8, 8)
    observation = lp.Observation(images, known)
    rows: dict[str, tuple[int, float, int, Tensor]] = {}
    readings = {
        "one step, $\\hat\\varepsilon$ reused, fixed noise": {"reuse": True, "partner": "fixed"},
        "one step, fixed noise": {"partner": "fixed"},
        "one step": {},
        **{f"{n} iterations": {"iterations": n} for n in ITERATIONS[1:]},
    }
    for name, options in readings.items():
        counted = lp.CountedScore(score)
        sampler = lp.ALM(counted, steps=STEPS, **options)
        runs = max(1, 30 // sampler.iterations)
        if runs > 1:
            sampler(observation, generator=lp.seeded(range(COUNT)))  # the first run of all is slower
        counted.evaluations, start = 0, time.process_time()
        for _ in range(runs):
            made = sampler(observation, generator=lp.seeded(range(COUNT)))
        seconds, evaluations = (time.process_time() - start) / runs, counted.evaluations // runs
        with PeakMemory() as memory:
            if sampler.iterations <= MOST_MEASURED:
                sampler(observation, generator=lp.seeded(range(COUNT)))
        rows[name] = evaluations, seconds, memory.peak, made
        print(f"{name}: {evaluations} evaluations, {rows[name][1]:.2f} s", flush=True)
    unit, last = rows["one step"], list(rows.values())[-1][3]
    print("\n| | evaluations | a step | time | memory | away |\n|---|---|---|---|---|---|")
    for name, (evaluations, duration, peak, made) in rows.items():
        away = float((made - last)[(~known).expand_as(made)].square().mean().sqrt())
        inversion = 0 if "fixed" in name else STEPS
        print(
            f"| {name} | {evaluations} | {(evaluations - inversion) / STEPS:g} | {duration / unit[1]:.2f} | "
            f"{f'{peak / unit[2]:.2f}' if peak else '–'} | {away:.1e} |"
        )
    print(f"\nunits: {unit[1]:.2f} s and {unit[2] / 2**20:.2f} MiB for two digits; {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()

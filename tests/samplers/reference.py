"""Samples of every sampler as they were before the loop was rebuilt, and how to make them anew.

``python -m tests.samplers.reference`` compares what the code gives now with ``reference.safetensors`` bit for bit and
prints what differs, by how much; with ``--write`` it stores what the code gives now. It is a gate for changes of
structure, which must change no number. It says nothing of whether the numbers are right: that is what all other tests
are for.
"""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import lanpaint as lp
from lanpaint_toys import GaussianMixture, gauss2

FILE = Path(__file__).with_suffix(".safetensors")
MIXTURE = GaussianMixture(
    [[0.0, 1.0, -1.0], [1.0, -1.0, 0.5]],
    [[[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 0.8]], [[0.4, 0.0, -0.1], [0.0, 0.6, 0.2], [-0.1, 0.2, 0.9]]],
    [0.4, 0.6],
)
TARGETS = {"gauss2": (gauss2().target, gauss2().known), "mixture": (MIXTURE, torch.tensor([False, True, True]))}
SCHEDULES = {"VP": lp.VP.linear(), "VE": lp.VE(sigma_max=20.0), "flow": lp.Flow(first_time=0.999)}
MAKERS = {
    "sampler": lp.Sampler,
    "sampler, Heun": lambda score, **o: lp.Sampler(score, solver=lp.Heun(), **o),
    "sampler, DDPM": lambda score, **o: lp.Sampler(score, solver=lp.DDPM(), **o),
    "replace": lp.Replace,
    "replace, 3M": lambda score, **o: lp.Replace(score, solver=lp.DPMSolver(3), **o),
    "repaint": lambda score, **o: lp.RePaint(score, inner_steps=2, **o),
    "repaint, Heun": lambda score, **o: lp.RePaint(score, inner_steps=2, solver=lp.Heun(), **o),
    "langevin": lambda score, **o: lp.LangevinPaint(score, inner_steps=3, **o),
    "lanpaint paper": lambda score, **o: lp.LanPaint(score, inner_steps=3, **o),
    "lanpaint fast": lambda score, **o: lp.LanPaint(score, inner_steps=3, preset="fast", **o),
    "lanpaint lam=0": lambda score, **o: lp.LanPaint(score, inner_steps=2, lam=0.0, **o),
    "lanpaint a=1 ddim": lambda score, **o: lp.LanPaint(score, expected_noise=1.0, solver=lp.DDIM(0.5), **o),
    "lanpaint fast 2M": lambda score, **o: lp.LanPaint(score, preset="fast", solver=lp.DPMSolver(), **o),
    "ddrm": lp.DDRM,
    "mcg": lp.MCG,
    "dps": lambda score, **o: lp.DPS(score, step_size=0.3, **o),
    "copaint": lambda score, **o: lp.CoPaint(score, inner_steps=2, **o),
    "copaint tt": lambda score, **o: lp.CoPaint(score, inner_steps=1, travel=2, travels=1, **o),
    "tds": lambda score, **o: lp.TwistedSMC(score, particles=5, **o),
}
DYNAMICS = {
    "langevin": lp.Langevin,
    "fld 1st order": lambda: lp.FastLangevin(order=1),
    "fld γ=1": lambda: lp.FastLangevin(1.0),
    "ou": lambda: lp.FastLangevin(math.inf),
    "hfhr": lp.HFHR,
    "baoab": lp.Underdamped,
    "obabo": lambda: lp.Underdamped(scheme="OBABO"),
    "ubu": lambda: lp.Underdamped(scheme="UBU"),
    "secant": lp.SecantLangevin,
    "diagonal": lambda: lp.Preconditioned(lp.FastLangevin(), 0.5),
}


def cases():
    """Name and sample of each case."""
    for (target, (law, known)), (name, schedule), dtype in itertools.product(
        TARGETS.items(), SCHEDULES.items(), (torch.float64, torch.float32)
    ):
        values = law.sample(4, torch.Generator().manual_seed(1)).to(dtype)
        exact, noisy = lp.Observation(values, known), lp.Observation(values, known, jitter=0.3)

        def draw(sampler, observation, seed=2):
            return sampler(observation, generator=torch.Generator().manual_seed(seed))

        where = f"{target} {name} {str(dtype)[6:]}"
        for method, make in MAKERS.items():
            yield f"{where} {method}", draw(make(law, steps=5, schedule=schedule), exact)
        for method in ("replace", "langevin", "lanpaint paper", "lanpaint fast"):
            yield f"{where} {method}, noisy", draw(MAKERS[method](law, steps=4, schedule=schedule), noisy)
        for dynamics, make in DYNAMICS.items():
            sampler = lp.LanPaint(law, steps=4, inner_steps=3, dynamics=make(), schedule=schedule)
            yield f"{where} dynamics {dynamics}", draw(sampler, exact)
            sampler = lp.LangevinPaint(law, steps=3, inner_steps=2, dynamics=make(), schedule=schedule)
            yield f"{where} held {dynamics}", draw(sampler, exact)
        seeds = lp.seeded(range(4))
        yield f"{where} seeded", lp.LanPaint(law, steps=3, schedule=schedule)(exact, generator=seeds)
        seeds = lp.seeded(range(4))
        tds = lp.TwistedSMC(law, steps=3, particles=3, schedule=schedule)
        yield f"{where} tds seeded", tds(exact, generator=seeds)


def differences():
    """Name → largest difference from what is stored, relative to the sample's largest number, where it is not 0."""
    stored, found = load_file(FILE), {}
    for name, x in cases():
        was = stored.pop(name)
        if not torch.equal(was, x):
            found[name] = float((was - x).abs().max() / was.abs().max())
    return {**found, **dict.fromkeys(stored, math.inf)}


def main() -> None:
    """Compare, or write."""
    if "--write" in sys.argv[1:]:
        save_file(dict(cases()), FILE)
        print(f"{FILE.name}: {len(load_file(FILE))} samples")
        return
    found = differences()
    for name, error in found.items():
        print(f"{name}: {error:.2g}")
    print(f"{len(load_file(FILE)) - len(found)} of {len(load_file(FILE))} samples are bit for bit what they were")


if __name__ == "__main__":
    main()

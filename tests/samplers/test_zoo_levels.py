"""The gradient-free methods where levels differ between samples or entries, and on a device that is waited for."""

import functools
import math

import pytest
import torch

import lanpaint as lp
from lanpaint.operators import OperatorCount
from lanpaint_toys import Gaussian
from tests.pretend import Elsewhere, PretendDevice, ReadyNoise
from tests.samplers.affine import DOUBLE

TARGET = Gaussian([0.3, -0.2, 0.5], [[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]])
KNOWN = torch.tensor([True, False, False])
VALUES = torch.ones(4, 3, dtype=DOUBLE)
ALL = {
    "blended": lp.Blended,
    "ding": lp.DING,
    "ddnm": lp.DDNM,
    "ddnm, paper": functools.partial(lp.DDNM, form="paper"),
    "diffpir": lp.DiffPIR,
    "daps": lp.DAPS,
    "daps, Langevin": functools.partial(lp.DAPS, langevin_steps=2),
    "pnpdm": functools.partial(lp.PnPDM, iterations=3, rho=0.5),
    "flowchef": lp.FlowChef,
    "latino": lp.LATINO,
    "reddiff": lp.REDDiff,
    "mcgdiff": functools.partial(lp.MCGDiff, particles=3),
    "fpssmc": functools.partial(lp.FPSSMC, particles=3),
}
FLOW = lp.uniform_time(lp.Flow(first_time=0.99), 6)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("name", ALL)
def test_a_level_for_each_sample_is_as_one_for_all(name, noise):
    rows = [lp.NoiseLevel(level.alpha.expand(4, 1), level.sigma.expand(4, 1)) for level in FLOW]
    each, together = (ALL[name](TARGET, levels=levels) for levels in (rows, FLOW))
    if noise and (name in ("mcgdiff", "fpssmc") or not each.takes_noise):
        with pytest.raises(ValueError, match=r"takes (no noise of )?a measurement") as caught:
            each(lp.Observation(VALUES, KNOWN, noise=noise))
        assert len(str(caught.value).splitlines()) == 1
        return
    got, expected = (
        sampler(lp.Observation(VALUES, KNOWN, noise=noise), generator=torch.Generator().manual_seed(0))
        for sampler in (each, together)
    )
    assert torch.allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_entries_may_be_released_each_at_its_own_level(name):
    change = torch.tensor([0.0, 0.5, 1.0], dtype=DOUBLE)
    sampler = ALL[name](TARGET, plan=lp.Plan(FLOW).with_release(change))
    x = sampler(lp.Observation.soft(VALUES, change), generator=torch.Generator().manual_seed(0))
    assert torch.equal(x[:, 0], VALUES[:, 0])
    assert bool((x.abs() < 20).all())


class Network(lp.Score):
    """A model that predicts ε, on any device."""

    def predict(self, x, level):
        return lp.Prediction(x, level, epsilon=0.3 * x + 0.1)


@pytest.mark.parametrize("kind", ["batch", "per entry", "noise per entry"])
@pytest.mark.parametrize("name", [name for name in ALL if name not in ("mcgdiff", "fpssmc")])
def test_no_step_waits_for_the_device(name, kind, monkeypatch):
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    with PretendDevice():
        shape = (2, 3, 4, 5)
        numbers = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        noisy = kind == "noise per entry" and ALL[name](Network(), steps=3).takes_noise
        noise = torch.linspace(0, 0.5, 5) if noisy else 0.0
        observation = lp.Observation(Elsewhere(numbers), numbers[0] < 0, noise)
        sigmas = [torch.tensor(sigma, dtype=DOUBLE) for sigma in (0.9, 0.6, 0.3)]
        if kind == "per entry":
            sigmas = [sigma - torch.linspace(0, 0.1, math.prod(shape)).double().reshape(shape) for sigma in sigmas]
        levels = [*(lp.NoiseLevel((1 - sigma**2).sqrt(), sigma) for sigma in sigmas), lp.NoiseLevel(1.0, 0.0)]
        sampler, noise = ALL[name](Network(), levels=levels), ReadyNoise()
        state = sampler.begin(observation, noise, None)
        for visit in sampler.plan.visits():
            with OperatorCount() as count:
                state = sampler.enter(state, visit, noise)
                state = sampler.advance(state.at("outer", visit.step, 0), visit, noise)
            assert not count.waits, count.waits

"""A measurement with a noise for each entry: each entry as with its noise alone, and the posterior of them all."""

import functools

import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.bridge.part import Part
from lanpaint.adapters.bridge.run import fit
from lanpaint.methods import METHODS, make_sampler
from lanpaint.operators import OperatorCount
from lanpaint.samplers.particles import repeated
from lanpaint.samplers.release import release
from lanpaint_toys import Gaussian
from tests.pretend import Elsewhere, PretendDevice, ReadyNoise
from tests.samplers.affine import DOUBLE, law
from tests.samplers.test_noisy import COV, MEAN, TARGET, divergence
from tests.samplers.test_zoo_levels import Network

# Independent entries, the last one unknown. The levels cross the noise of each in another step.
VARIANCES = torch.tensor([0.9, 0.4, 1.0, 0.7, 0.8, 0.6], dtype=DOUBLE)
APART = Gaussian([0.3, -0.2, 0.5, 0.1, -0.4, 0.2], torch.diag(VARIANCES))
VALUES = torch.tensor([1.0, -0.8, 0.4, 1.3, 0.2, 0.0], dtype=DOUBLE)
KNOWN = torch.tensor([True, True, True, True, True, False])
NOISE = torch.tensor([0.0, 0.02, 0.3, 1.0, 6.0, 9.0], dtype=DOUBLE)

AFFINE = {
    "langevin": {"inner_steps": 2},
    "fld": {"inner_steps": 2},
    "big": {"inner_steps": 2},
    "lanpaint": {"inner_steps": 2},
    "lanpaint, fast": {"inner_steps": 2, "preset": "fast", "data_scale": 1.0},
    "ddrm": {},
    "ddrm, eta_b": {"eta_b": 0.6},
    "ding": {},
    "ddnm": {},
    "ddnm, paper": {"form": "paper"},
    "ddnm, inversebench": {"form": "inversebench"},
    "diffpir": {},
    "daps": {},
    "daps, Langevin": {"langevin_steps": 2},
    "pnpdm": {"iterations": 3, "rho": 0.5},
    "latino": {},
    "pigdm": {},
    "pigdm, bayes": {"weight": "bayes"},
    "mmps": {"iterations": 5},
    "tmpd": {},
}
DRAW_FOR_DRAW = {
    "mgps": {"inner_steps": 3},
    "mgdm": {"inner_steps": 3},
    "tds": {"particles": 1},
    "mcgdiff": {"particles": 1},
    "fpssmc": {"particles": 1},
}


def make(name, options, score=APART):
    return make_sampler(name.split(",")[0], score, steps=6, spacing="logsnr", **options)


def test_every_method_that_takes_noise_is_tested_or_refuses_more_than_one():
    tested = {name.split(",")[0] for name in AFFINE | DRAW_FOR_DRAW}
    takes = {name: make(name, {}).takes_noise for name in METHODS}
    assert tested == {name for name, kind in takes.items() if kind is True}
    assert [name for name, kind in takes.items() if kind == "one number"] == ["dps"]


@pytest.mark.parametrize("name", AFFINE)
def test_the_law_of_independent_entries_is_that_with_the_noise_of_each(name):
    """On a Gaussian these samplers are affine maps of their random numbers: exact means and covariances."""

    def exact(noise):
        return law(make(name, AFFINE[name]), VALUES, KNOWN, functools.partial(lp.Observation, noise=noise))

    mean, cov = exact(NOISE)
    for i in range(5):
        one_mean, one_cov = exact(float(NOISE[i]))
        assert torch.allclose(mean[i], one_mean[i], rtol=1e-8, atol=1e-9), i
        assert torch.allclose(cov[i, i], one_cov[i, i], rtol=1e-8, atol=1e-9), i
    assert torch.allclose(cov - torch.diag(cov.diagonal()), torch.zeros_like(cov), atol=1e-9)


@pytest.mark.parametrize("name", DRAW_FOR_DRAW)
def test_independent_entries_are_drawn_as_with_the_noise_of_each(name):
    """With the same random numbers. The evidence of one particle is the product of that of each entry."""
    sampler, evidence = make(name, DRAW_FOR_DRAW[name]), torch.zeros(3, dtype=DOUBLE)
    values = VALUES.expand(3, 6)

    def drawn(known, noise):
        return sampler(lp.Observation(values, known, noise), generator=torch.Generator().manual_seed(0))

    for i in range(5):
        alone = drawn(torch.arange(6) == i, float(NOISE[i]))[:, i]
        evidence = evidence + (sampler.cloud.log_evidence if hasattr(sampler, "cloud") else 0)
        assert torch.allclose(drawn(KNOWN, NOISE)[:, i], alone, rtol=1e-9, atol=1e-9), i
    if hasattr(sampler, "cloud"):
        assert torch.allclose(sampler.cloud.log_evidence, evidence, rtol=1e-9, atol=1e-9)


def posterior(known, noise):
    """Mean and covariance of z given y = z[known] + s n, s for each entry; exact ones have a variance of 1e-14."""
    rows = torch.eye(3, dtype=DOUBLE)[known]
    gain = COV @ rows.mT @ torch.linalg.inv(rows @ COV @ rows.mT + torch.diag(noise[known] ** 2 + 1e-14))
    return MEAN + gain @ (Y[known] - rows @ MEAN), COV - gain @ rows @ COV


Y = torch.tensor([0.2, 1.1, -0.4], dtype=DOUBLE)


@pytest.mark.parametrize(
    ("make", "steps", "bound"),
    [
        (functools.partial(lp.LanPaint, TARGET, inner_steps=3, expected_noise=0.3), 10, 2e-3),
        (functools.partial(lp.LanPaint, TARGET, inner_steps=3, expected_noise=0.3, lam=0.0), 10, 2e-3),
        (functools.partial(lp.MMPS, TARGET, iterations=3), 20, 2e-2),
    ],
    ids=["lanpaint", "fld", "mmps"],
)
def test_the_posterior_of_entries_with_different_noise_is_reached_as_steps_get_finer(make, steps, bound):
    known, noise = torch.tensor([True, False, True]), torch.tensor([0.1, 0.0, 1.0], dtype=DOUBLE)
    true, errors = posterior(known, noise), []
    for count in (steps, 2 * steps, 4 * steps):
        sampler = make(steps=count, spacing="logsnr")
        got = law(sampler, Y, known, functools.partial(lp.Observation, noise=noise))
        errors.append(divergence(got, true))
    assert errors[-1] < bound
    assert errors[0] > errors[1] > errors[2]


def test_an_exact_entry_beside_a_noisy_one_comes_back_and_the_posterior_follows_both():
    known, noise = torch.tensor([False, True, True]), torch.tensor([0.0, 0.0, 0.6], dtype=DOUBLE)
    mean, cov = posterior(known, noise)
    sampler = lp.LanPaint(TARGET, steps=60, inner_steps=3, spacing="logsnr", expected_noise=0.3)
    got_mean, got_cov = law(sampler, Y, known, functools.partial(lp.Observation, noise=noise))
    assert got_mean[1] == Y[1]
    assert got_cov[1].abs().max() == 0
    free = torch.tensor([0, 2])
    got = got_mean[free], got_cov[free][:, free]
    assert divergence(got, (mean[free], cov[free][:, free])) < 2e-3


def test_a_sampler_that_takes_one_number_says_so():
    noisy = lp.Observation(VALUES[None], KNOWN, NOISE)
    with pytest.raises(ValueError, match=r"DPS takes one noise for all known entries, got 0…6; use LanPaint, or give"):
        lp.DPS(APART, steps=2)(noisy)
    with pytest.raises(ValueError, match=r"takes no noise of a measurement \(noise=0…6\); use LanPaint"):
        lp.Replace(APART, steps=2)(noisy)


def test_noise_follows_its_entries_into_particles_and_pipelines():
    noise = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4) / 10
    known = noise != 0.5
    observation = lp.Observation(torch.zeros(2, 3, 4), known, noise)
    kept = torch.where(known, noise.double(), 0.0)
    assert torch.equal(observation.noise, kept)
    assert torch.equal(repeated(observation, 2).noise, kept.repeat_interleave(2, 0))
    assert torch.equal(fit(observation, torch.zeros(4, 3, 4)).noise, kept.repeat_interleave(2, 0))
    assert torch.equal(observation.rows(torch.tensor([1, 1])).noise, kept[[1, 1]])
    latents = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    part = Part.of(latents, latents[:, 1:])
    taken = part.of_known(observation)(latents[:, 1:])
    assert torch.equal(taken.noise, kept[:, 1:])


@pytest.mark.parametrize("name", ["langevin", "fld", "lanpaint", "lanpaint, fast", "ddrm"])
def test_no_step_waits_for_the_device_on_either_side_of_the_noise(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    with PretendDevice():
        numbers = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
        observation = lp.Observation(Elsewhere(numbers), numbers[0] < 0, torch.linspace(0, 1.5, 5))
        sampler, noise = make(name, AFFINE[name], Network()), ReadyNoise()
        state = sampler.begin(observation, noise, None)
        for visit in sampler.plan.visits():
            state, _ = release(state, visit, sampler.plan, noise)
            with OperatorCount() as count:
                state = sampler.enter(state, visit, noise)
                for _ in range(visit.inner_steps):
                    state = sampler.refine(state, visit, noise)
                state = sampler.advance(state.at("outer", visit.step, 0), visit, noise)
            assert not count.waits, count.waits

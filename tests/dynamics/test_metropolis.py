"""The Metropolis correction: detailed balance exactly, and the law without bias where the uncorrected one has much."""

import math

import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint import MALA, Drift, FastLangevin, Langevin, Metropolis
from lanpaint.verification import gaussian_drift, zero_noise
from lanpaint_toys import GaussianMixture, gauss2

PROPOSALS = {"MALA": MALA(), "OU": Metropolis(FastLangevin(math.inf, order=1))}
every_proposal = pytest.mark.parametrize("dynamics", PROPOSALS.values(), ids=PROPOSALS)
MIXTURE = GaussianMixture([[-1.0], [1.5]], [0.3, 0.5], [0.4, 0.6])
CLEAN = lp.NoiseLevel(1.0, 0.0)


def _drift(step):
    return Drift(lambda x: MIXTURE.score(x, CLEAN), 0.8, step, log_density=lambda x: MIXTURE.log_prob(x, CLEAN))


def _acceptance(dynamics, x, xi, step):
    """Probability of acceptance at x with the proposal's noise ξ, found by bisection of the uniform number."""
    drift = _drift(step)
    low, high = torch.full((len(x),), -40.0).double(), torch.full((len(x),), 40.0).double()
    for _ in range(60):
        middle = (low + high) / 2
        draws = iter([xi, middle])
        state = dynamics.init(x, drift, zero_noise)
        accepted = dynamics.step(state, drift, lambda like: next(draws)).accepted  # noqa: B023
        low, high = torch.where(accepted, middle, low), torch.where(accepted, high, middle)
    return torch.special.ndtr(low)


@every_proposal
@pytest.mark.parametrize("step", [0.05, 0.6])
def test_detailed_balance_holds_to_rounding(dynamics, step):
    """p(x) q(x'|x) a(x, x') = p(x') q(x|x') a(x', x), with q, a and p computed apart."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 1, generator=generator).double() * 1.5
    xi = torch.randn(50, 1, generator=generator).double()
    move, scatter = dynamics.dynamics.proposal(_drift(step), x)
    there = x + move * MIXTURE.score(x, CLEAN) + scatter * xi
    back = (x - there - move * MIXTURE.score(there, CLEAN)) / scatter

    def flow(a, b, noise):
        log_q = -0.5 * (noise**2).sum(1)
        return MIXTURE.log_prob(a, CLEAN) + log_q + _acceptance(dynamics, a, noise, step).log()

    assert torch.allclose(flow(x, there, xi), flow(there, x, back), atol=1e-9)


@every_proposal
def test_the_law_is_exact_at_a_step_where_the_uncorrected_one_is_far_off(dynamics):
    """Mean and variance of 40,000 chains of a mixture after 60 steps from its law: within 5 standard errors."""
    count, generator = 40_000, torch.Generator().manual_seed(1)
    noise, drift = lp.NormalNoise(generator), _drift(0.5)
    start = MIXTURE.sample(count, generator)
    first, second = 0.4 * -1 + 0.6 * 1.5, 0.4 * (0.3 + 1) + 0.6 * (0.5 + 2.25)

    def moments(stepper):
        state = stepper.init(start, drift, noise)
        for _ in range(60):
            state = stepper.step(state, drift, noise)
        return float(state.x.mean()), float(state.x.square().mean())

    mean, square = moments(dynamics)
    spread = math.sqrt(second - first**2)
    assert abs(mean - first) < 5 * spread / math.sqrt(count)
    fourth = float(start.square().square().mean())
    error = 5 * math.sqrt((fourth - second**2) / count)
    assert abs(square - second) < error
    assert abs(moments(dynamics.dynamics)[1] - second) > 3 * error


@every_proposal
def test_samples_of_a_batch_are_accepted_each_on_its_own(dynamics):
    drift = gaussian_drift(torch.eye(2).double(), torch.zeros(2).double(), 0.5, 1.5)
    noise = lp.NormalNoise(torch.Generator().manual_seed(0))
    before = dynamics.init(torch.randn(200, 2, dtype=torch.float64, generator=noise.generator), drift, noise)
    after = dynamics.step(before, drift, noise)
    moved = (after.x != before.x).any(1)
    assert torch.equal(moved, after.accepted)
    assert 10 < int(moved.sum()) < 195
    assert torch.equal(after.score, drift(after.x))
    assert torch.allclose(after.log_density, drift.log_density(after.x))


def test_it_runs_inside_a_sampler_that_holds_the_known_part():
    problem, generator = gauss2(), torch.Generator().manual_seed(0)
    observation = lp.Observation(*problem.observe(2000, generator))
    counted = lp.CountedScore(problem.target)
    paint = lp.LangevinPaint(counted, steps=10, inner_steps=5, step_size=0.3, dynamics=MALA())
    x = paint(observation, generator=generator)
    assert counted.evaluations == 10 * (5 + 1 + 1)  # the first step of a level evaluates where it starts, too
    assert problem.divergence(x) < 0.2


def test_a_field_that_is_no_gradient_has_no_density():
    observation = lp.Observation(torch.zeros(3, 2).double(), torch.tensor([False, True]))
    with pytest.raises(ValueError, match=r"no log density, .* LangevinPaint or Sampler"):
        lp.LanPaint(gauss2().target, dynamics=MALA())(observation)
    with pytest.raises(ValueError, match="no log density"):
        lp.LangevinPaint(lambda x, level: -x, dynamics=MALA())(observation)


@pytest.mark.parametrize("dynamics", [FastLangevin(), FastLangevin(math.inf), lp.Underdamped(), lp.HFHR()])
def test_dynamics_without_a_gaussian_proposal_are_refused(dynamics):
    with pytest.raises(TypeError, match=r"Langevin\(\)|order=1"):
        Metropolis(dynamics)


def test_entries_with_a_step_of_zero_are_held_and_do_not_count():
    drift = Drift(
        lambda x: -x,
        [1.0, 1.0],
        [0.5, 0.0],
        torch.tensor([False, True]),
        log_density=lambda x: -0.5 * x.square().sum(1),
    )
    x = torch.tensor([[0.3, 50.0]], dtype=torch.float64)
    state = MALA().init(x, drift, zero_noise)
    out = MALA().step(state, drift, zero_noise)
    assert bool(out.accepted.all())
    assert float(out.x[0, 1]) == 50.0
    assert np.isclose(float(out.x[0, 0]), 0.15)


def test_langevin_is_a_proposal_in_the_protocol_s_sense():
    move, scatter = Langevin().proposal(Drift(torch.neg, 1.0, 0.08), torch.zeros(1, 2))
    assert (float(move), float(scatter)) == (pytest.approx(0.08), pytest.approx(0.4))

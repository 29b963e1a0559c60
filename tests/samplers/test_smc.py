"""Twisted SMC against the exact conditional of its chain, which on a Gaussian is linear algebra."""

import itertools
import math

import pytest
import torch

import lanpaint as lp
from lanpaint.samplers import TwistedSMC
from lanpaint.samplers.particles import systematic
from lanpaint_toys import Gaussian, GaussianMixture
from tests.samplers.affine import DOUBLE, Law, law

TARGET = Gaussian([0.3, -0.2, 0.5], [[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]])
KNOWN = torch.tensor([False, True, True])
VALUES = torch.tensor([0.0, 1.1, -0.4], dtype=DOUBLE)
SCHEDULES = pytest.mark.parametrize(
    "schedule", [lp.VP.linear(), lp.VE(0.02, 20.0), lp.Flow(first_time=0.99)], ids=["vp", "ve", "flow"]
)


# Few levels, so far apart that the chain's conditional is another than the target's: what is tested is the weights.
SIGMAS = (0.98, 0.85, 0.6, 0.3, 0.0)
LEVELS = [lp.NoiseLevel(math.sqrt(1 - sigma**2), sigma) for sigma in SIGMAS]


def vector(values):
    return values.double().expand(3).clone()


def chain(target, levels, data_variance=1.0):
    """Law of the chain's x₀: at each step x₀ ~ N(x̂₀, v), and x' by Bayes' rule of its two neighbours.

    v is the variance of x₀ given x for x₀ ~ N(0, a), that is 1/(1/a + α²/σ²). The forward process goes from x₀ to
    x' ~ N(α' x₀, σ'²) and on to x ~ N(ρ x', σ² − ρ² σ'²), ρ = α/α'. Levels may differ between coordinates.
    """
    eye = torch.eye(3, dtype=DOUBLE)
    alpha, sigma = vector(levels[0].alpha), vector(levels[0].sigma)
    state = Law(torch.zeros(3, dtype=DOUBLE), torch.diag(alpha**2 + sigma**2))
    for level, next_level in itertools.pairwise(levels):
        alpha, sigma, next_alpha, next_sigma = (
            vector(each) for each in (level.alpha, level.sigma, next_level.alpha, next_level.sigma)
        )
        noisy = alpha[:, None] * target.full_cov[0] * alpha + torch.diag(sigma**2)
        gain = target.full_cov[0] * alpha @ torch.linalg.inv(noisy)
        offset = target.mean - gain @ (alpha * target.mean)
        variance = torch.where(sigma > 0, 1 / (1 / data_variance + alpha**2 / sigma**2), 0.0)
        ratio = alpha / next_alpha
        added = sigma**2 - ratio**2 * next_sigma**2
        moving = next_sigma > 0
        precision = torch.where(moving, 1 / next_sigma**2 + ratio**2 / added, 1.0)
        of_clean = torch.where(moving, next_alpha / next_sigma**2 / precision, next_alpha)
        of_x = torch.where(moving, ratio / added / precision, 0.0)
        state = state.map(of_clean[:, None] * gain + torch.diag(of_x), of_clean * offset)
        state.cov = state.cov + torch.diag(torch.where(moving, 1 / precision, 0.0) + of_clean**2 * variance)
    assert state.cov.shape == eye.shape
    return state


def run(sampler, groups, seed=0, noise=0.0):
    observation = lp.Observation(VALUES.expand(groups, 3), KNOWN, noise)
    out = sampler(observation, generator=torch.Generator().manual_seed(seed))
    return out, sampler.cloud


def assert_unbiased(estimates, truth, power):
    """The mean of independent estimates is within four of its standard errors, and those are small."""
    error = estimates.std(0) / math.sqrt(len(estimates))
    assert bool((error < power).all()), error
    assert bool(((estimates.mean(0) - truth).abs() < 4 * error).all()), (estimates.mean(0), truth, error)


def assert_exact(sampler, groups, data_variance=1.0, power=0.02, noise=0.0):
    """Evidence, and mean and second state weighted by it, are unbiased for the chain's conditional, whatever K."""
    law_of_chain = chain(TARGET, sampler.levels, data_variance)
    law_of_chain.cov = law_of_chain.cov + torch.diag(torch.where(KNOWN, noise**2, 0.0).double())
    conditional, log_density = law_of_chain.condition(KNOWN, VALUES)
    _, cloud = run(sampler, groups, noise=noise)
    assert torch.equal(cloud.x[:, KNOWN], VALUES[KNOWN].expand(len(cloud.x), -1)) == (noise == 0)
    ratio = (cloud.log_evidence - log_density).exp()
    assert_unbiased(ratio, 1.0, power)
    unknown = cloud.x.reshape(groups, -1, 3)[..., 0]
    mean, second = conditional.mean[0], conditional.cov[0, 0] + conditional.mean[0] ** 2
    assert_unbiased(ratio * (cloud.weights * unknown).sum(1), mean, power)
    assert_unbiased(ratio * (cloud.weights * unknown**2).sum(1), second, power)


@pytest.mark.parametrize("data_variance", [1.0, 0.2])
@SCHEDULES
def test_without_observation_the_particles_are_the_chain(schedule, data_variance):
    """Exact mean and covariance of all random numbers, to rounding."""
    sampler = TwistedSMC(TARGET, particles=1, steps=4, schedule=schedule, data_variance=data_variance)
    mean, cov = law(sampler, VALUES, torch.zeros(3, dtype=torch.bool))
    exact = chain(TARGET, sampler.levels, data_variance)
    assert torch.allclose(mean, exact.mean, atol=1e-9)
    assert torch.allclose(cov, exact.cov, atol=1e-9)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("particles", [1, 4])
def test_evidence_and_weighted_moments_are_unbiased_for_the_chains_conditional(particles, threshold):
    assert_exact(TwistedSMC(TARGET, particles=particles, threshold=threshold, levels=LEVELS), 40_000 // particles)


@pytest.mark.parametrize("noise", [0.2, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_they_are_for_a_measurement_with_noise(noise, threshold):
    """The chain's conditional given y_o = y₀ + s n."""
    assert_exact(TwistedSMC(TARGET, particles=4, threshold=threshold, levels=LEVELS), 8_000, noise=noise, power=0.03)


@pytest.mark.parametrize("data_variance", [0.4, 3.0])
@pytest.mark.parametrize("formalism", ["ve", "flow"])
def test_they_are_in_every_formalism_and_for_another_data_variance(formalism, data_variance):
    levels = [level.rescale(1 / (level.alpha + level.sigma * (formalism == "flow"))) for level in LEVELS]
    assert_exact(TwistedSMC(TARGET, particles=8, data_variance=data_variance, levels=levels), 10_000, data_variance)


def test_they_are_where_coordinates_reach_clean_data_at_different_steps():
    """One known entry is put to its value two steps before the other, the unknown one a step before."""
    sigmas = torch.tensor([[0.9, 0.8, 0.9], [0.5, 0.3, 0.6], [0.2, 0.0, 0.4], [0.0, 0.0, 0.2], [0.0, 0.0, 0.0]])
    levels = [lp.NoiseLevel((1 - s**2).sqrt(), s) for s in sigmas.double()]
    assert_exact(TwistedSMC(TARGET, particles=8, levels=levels), 10_000)


def test_samples_follow_the_chains_conditional_when_the_particles_are_many():
    """One sample of each of 2,000 groups of 200; five standard errors, of a mean and of a variance."""
    sampler = TwistedSMC(TARGET, particles=200, levels=LEVELS)
    conditional, _ = chain(TARGET, sampler.levels).condition(KNOWN, VALUES)
    out, _ = run(sampler, 2_000)
    variance = conditional.cov[0, 0]
    assert abs(out[:, 0].mean() - conditional.mean[0]) < 5 * (variance / 2_000).sqrt()
    assert abs(out[:, 0].var() - variance) < 5 * variance * math.sqrt(2 / 2_000)


def test_the_chains_conditional_tends_to_the_exact_one_as_steps_shrink():
    """In proportion to the step, evidence included: linear algebra, no sampling. What is left is the last level's σ."""
    schedule = lp.VE(1e-3, 100.0)
    exact, log_density = Law(TARGET.mean, TARGET.full_cov[0]).condition(KNOWN, VALUES)
    errors = []
    for steps in (100, 200, 400):
        conditional, chains = chain(TARGET, lp.uniform_log_snr(schedule, steps)).condition(KNOWN, VALUES)
        differences = conditional.mean - exact.mean, (conditional.cov - exact.cov)[0], (chains - log_density)[None]
        errors.append(torch.cat(differences).abs())
    assert bool((errors[2] < 0.01).all())
    assert bool(((errors[0] / errors[1]) > 1.8).all())
    assert bool(((errors[1] / errors[2]) > 1.8).all())


def test_with_many_steps_weighted_moments_agree_with_the_exact_conditional():
    """60 levels, 200 groups of 64 weighted by their evidence; what the chain is off by is known and far below."""
    sampler = TwistedSMC(TARGET, particles=64, steps=60, schedule=lp.VE(0.003, 30.0), spacing="logsnr")
    exact, log_density = Law(TARGET.mean, TARGET.full_cov[0]).condition(KNOWN, VALUES)
    conditional, chains = chain(TARGET, sampler.levels).condition(KNOWN, VALUES)
    _, cloud = run(sampler, 200)
    share = torch.softmax(cloud.log_evidence, dim=0)[:, None] * cloud.weights
    unknown = cloud.x.reshape(200, 64, 3)[..., 0]
    mean = (share * unknown).sum()
    variance = (share * (unknown - mean) ** 2).sum()
    # Standard errors of the groups' own estimates, weights taken as they are.
    each = (cloud.weights * (unknown - mean)).sum(1).std() / math.sqrt(200)
    off = (conditional.mean - exact.mean).abs().max()
    assert off < 0.03
    assert abs(mean - exact.mean[0]) < off + 5 * each
    spread = (cloud.weights * (unknown - mean) ** 2).sum(1).std() / math.sqrt(200)
    assert abs(variance - exact.cov[0, 0]) < (conditional.cov - exact.cov).abs().max() + 5 * spread
    ratio = (cloud.log_evidence - log_density).exp()
    assert abs(ratio.mean() - (chains - log_density).exp()) < 5 * ratio.std() / math.sqrt(200)
    assert abs(chains - log_density) < 0.05


def test_mixtures_are_split_by_their_posterior_weights():
    """Two modes that the known coordinate tells apart by odds of 1 to 3: the share of samples, five standard errors."""
    target = GaussianMixture([[-2.0, 0.0], [2.0, 1.0]], 0.09, [0.5, 0.5])
    values, known = torch.tensor([[0.0, 0.5 + 0.09 * math.log(3)]], dtype=DOUBLE), torch.tensor([False, True])
    sampler = TwistedSMC(target, particles=64, steps=80, schedule=lp.VE(0.01, 30.0), spacing="logsnr")
    out = sampler(lp.Observation(values.expand(500, 2), known), generator=torch.Generator().manual_seed(0))
    # The chain's own share is 0.731 ± 0.002 at 80 steps and 0.746 ± 0.002 at 160: evidence-weighted, 1,500 groups.
    assert abs((out[:, 0] > 0).double().mean() - 0.75) < 0.019 + 5 * math.sqrt(0.75 * 0.25 / 500)


def test_systematic_draws_have_the_weights_for_their_expectation():
    """Averaged over a fine grid of the one uniform number, each index is drawn K W times."""
    weights = torch.tensor([[0.1, 0.0, 0.55, 0.35]], dtype=DOUBLE)
    uniform = (torch.arange(2000, dtype=DOUBLE)[:, None] + 0.5) / 2000
    drawn = systematic(weights.log().expand(2000, 4), lambda like: torch.special.ndtri(uniform), 4)
    assert torch.allclose(torch.bincount(drawn.flatten(), minlength=4).double() / 2000, 4 * weights[0], atol=1e-3)


def test_the_cloud_reports_weights_effective_sizes_and_evidence():
    mixture = GaussianMixture([[-2.0, 0.0, 0.0], [2.0, 1.0, 0.0]], 0.3)
    sampler = TwistedSMC(mixture, particles=16, steps=6)
    assert sampler.cloud is None
    out, cloud = run(sampler, 5)
    assert out.shape == (5, 3)
    assert cloud.x.shape == (80, 3)
    assert cloud.weights.shape == (5, 16)
    assert torch.allclose(cloud.weights.sum(1), torch.ones(5, dtype=DOUBLE))
    assert cloud.log_evidence.shape == (5,)
    assert len(cloud.ess) == 6
    assert all(bool(((ess >= 1) & (ess <= 16 + 1e-9)).all()) for ess in cloud.ess)
    members = cloud.x.reshape(5, 16, 3)
    assert all(bool((members[i] == out[i]).all(1).any()) for i in range(5))


def test_a_run_that_is_stopped_returns_one_sample_of_each_group():
    class StopAt(lp.Callback):
        def on_level_end(self, sampler, state):
            return lp.Stop.RUN if state.step == 2 else None

    sampler = TwistedSMC(TARGET, particles=7, steps=6, callbacks=[StopAt()])
    assert run(sampler, 4)[0].shape == (4, 3)
    assert run(TwistedSMC(TARGET, particles=7, steps=6), 4)[1].x.shape == (28, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"particles": 0}, r"particles \(K\) must be a whole number of at least 1, got 0"),
        ({"particles": 2.0}, r"particles \(K\) must be a whole number"),
        ({"threshold": 1.5}, "threshold must be between 0 and 1, got 1.5"),
        ({"data_variance": 0.0}, r"data_variance \(a\) must be positive and finite, got 0.0"),
        ({"solver": lp.Euler()}, "TwistedSMC makes its own outer steps and takes no solver"),
    ],
)
def test_bad_settings_are_refused_with_one_line(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        TwistedSMC(TARGET, **options)
    assert len(str(caught.value).splitlines()) == 1


def test_generators_and_starts_that_do_not_fit_are_refused():
    sampler, observation = TwistedSMC(TARGET, particles=2, steps=2), lp.Observation(VALUES.expand(3, 3), KNOWN)
    with pytest.raises(ValueError, match="got 2 generators for a batch of 3"):
        sampler.iterate(observation, generator=lp.seeded([0, 1]))
    with pytest.raises(ValueError, match=r"start must have the samples' shape \(6, 3\), got \(3, 3\)"):
        sampler(observation, start=torch.zeros(3, 3))

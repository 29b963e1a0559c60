"""MCGdiff and FPS-SMC against the exact conditional of the model's chain, by linear algebra on Gaussians."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

import lanpaint as lp
from lanpaint_toys import Gaussian
from tests.samplers.affine import DOUBLE, Law
from tests.samplers.test_smc import KNOWN, LEVELS, TARGET, VALUES, chain

EYE = torch.eye(3, dtype=DOUBLE)


def measurement(law, values, variance):
    """The law given values of known entries that have noise of a variance, and the log density of those."""
    rows = EYE[KNOWN]
    cov = rows @ law.cov @ rows.mT + variance * torch.eye(len(rows), dtype=DOUBLE)
    gain = law.cov @ rows.mT @ torch.linalg.inv(cov)
    off = values[KNOWN] - law.mean[KNOWN]
    log_density = torch.distributions.MultivariateNormal(law.mean[KNOWN], cov).log_prob(values[KNOWN])
    return Law(law.mean + gain @ off, law.cov - gain @ rows @ law.cov), log_density


def assert_unbiased(estimates, truth, power):
    """The mean of independent estimates is within four of its standard errors, and those are small."""
    error = estimates.std(0) / math.sqrt(len(estimates))
    assert error < power, error
    assert (estimates.mean(0) - truth).abs() <= 4 * error + 1e-12, (estimates.mean(0), truth, error)


def assert_exact(sampler, groups, law, log_density, noise=0.0, power=0.05):
    """Evidence, and moments weighted by it, are unbiased for a Gaussian law of all entries."""
    observation = lp.Observation(VALUES.expand(groups, 3), KNOWN, noise=noise)
    sampler(observation, generator=torch.Generator().manual_seed(0))
    cloud = sampler.cloud
    ratio = (cloud.log_evidence - log_density).exp()
    assert_unbiased(ratio, 1.0, power)
    x = cloud.x.reshape(groups, -1, 3)
    for entry in (0, 1):
        mean, second = law.mean[entry], law.cov[entry, entry] + law.mean[entry] ** 2
        assert_unbiased(ratio * (cloud.weights * x[..., entry]).sum(1), mean, power)
        assert_unbiased(ratio * (cloud.weights * x[..., entry] ** 2).sum(1), second, power)


# MCGdiff


@pytest.mark.parametrize("threshold", [0.5, 1.0])
@pytest.mark.parametrize("particles", [1, 8])
def test_mcgdiff_is_unbiased_for_the_chain_given_exact_values(particles, threshold):
    law, log_density = measurement(chain(TARGET, LEVELS), VALUES, 0.0)
    sampler = lp.MCGDiff(TARGET, particles=particles, threshold=threshold, levels=LEVELS)
    assert_exact(sampler, 40_000 // particles, law, log_density, power=0.1)
    assert torch.equal(sampler.cloud.x[:, KNOWN], VALUES[KNOWN].expand(len(sampler.cloud.x), -1))


@pytest.mark.parametrize("formalism", ["ve", "flow"])
def test_mcgdiff_is_in_every_formalism_and_for_another_data_variance(formalism):
    levels = [level.rescale(1 / (level.alpha + level.sigma * (formalism == "flow"))) for level in LEVELS]
    law, log_density = measurement(chain(TARGET, levels, 0.4), VALUES, 0.0)
    assert_exact(lp.MCGDiff(TARGET, particles=8, data_variance=0.4, levels=levels), 5_000, law, log_density)


@pytest.mark.parametrize("s", [0.1, 0.5, 1.0, 8.0])
def test_mcgdiff_with_noise_is_unbiased_where_the_chain_is_the_reversal(s):
    """Data from N(0, I) of independent entries, for which the chain with a = 1 is exact in one step.

    The levels have σ/α = 4.9 and less, so s = 8 lies above all of them, and the other ones lie between two levels or
    below the last one.
    """
    standard = Law(torch.zeros(3, dtype=DOUBLE), EYE)
    law, log_density = measurement(standard, VALUES, s**2)
    sampler = lp.MCGDiff(Gaussian([0.0] * 3, EYE.tolist()), particles=4, levels=LEVELS)
    assert_exact(sampler, 10_000, law, log_density, noise=s)


# FPS-SMC


class GivenPath(lp.FPSSMC):
    """The path is that without fresh noise, so it is the same in all groups."""

    def shared(self, fresh):
        return torch.zeros_like(fresh)


def along(levels, s):
    """The chain filtered by the path without fresh noise (Kalman): law of x₀, and log density of the path."""
    first = levels[0]
    start = torch.where(KNOWN, first.alpha * VALUES, 0.0)
    spread = float(first.alpha**2 + first.sigma**2)
    law = Law(start, torch.diag(torch.where(KNOWN, 0.0, spread).double()))
    path, logs = first.alpha * VALUES, 0.0
    for level, next_level in itertools.pairwise(levels):
        a, b = float(level.alpha), float(level.sigma)
        c, d = float(next_level.alpha), float(next_level.sigma)
        gain = a * TARGET.full_cov[0] @ torch.linalg.inv(a**2 * TARGET.full_cov[0] + b**2 * EYE)
        offset = TARGET.mean - gain @ (a * TARGET.mean)
        kept = (d / c) * (a / b)  # of ε̂; the chain's variance is that of x₀ ~ N(x̂₀, v) and of x' given x₀ and x
        variance = d**2 * (1 - kept**2) + (c * (1 - kept**2)) ** 2 / (1 + a**2 / b**2)
        matrix = c * gain + d * kept * (EYE - a * gain) / b
        law = law.map(matrix, c * offset - d * kept * a * offset / b, variance)
        path = c * VALUES + d * kept * (path - a * VALUES) / b
        law, log_density = measurement(law, path, (c * s) ** 2)
        logs = logs + log_density
    return law, logs


@pytest.mark.parametrize("s", [0.0, 0.3])
@pytest.mark.parametrize("particles", [1, 8])
def test_fps_is_unbiased_for_the_chain_given_its_path(particles, s):
    """For s > 0 the target has a likelihood at every level, with noise that is drawn anew."""
    law, log_density = along(LEVELS, s)
    assert_exact(GivenPath(TARGET, particles=particles, levels=LEVELS), 40_000 // particles, law, log_density, noise=s)


def test_one_particle_without_noise_is_replace_on_a_path_draw_for_draw():
    """With data of no variance the chain is DDPM with its small variance; the path is fed to Replace as its draws."""
    paths = []

    class Kept(lp.Callback):
        def on_level_start(self, sampler, state):
            paths.append(state.memory.path)

    def numbers(skip):
        left = iter(torch.randn(40, 5, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE))

        def noise(like):
            return next(left).reshape(like.shape) if like.numel() == 15 else torch.zeros_like(like)

        for _ in range(skip):
            next(left)
        return noise

    observation = lp.Observation(VALUES.expand(5, 3), KNOWN)
    sampler = lp.FPSSMC(TARGET, particles=1, data_variance=1e-14, levels=LEVELS, callbacks=[Kept()])
    x = sampler(observation, noise=numbers(0))

    class Fed(lp.Replace):
        def enter(self, state, visit, noise):
            return replace(state, x=state.observation.replace_known(state.x, paths[visit.step]))

        def advance(self, state, visit, noise):
            noise(state.x)  # the path's own
            return super().advance(state, visit, noise)

    expected = Fed(TARGET, solver=lp.DDIM(1.0), levels=LEVELS)(observation, noise=numbers(0))
    assert torch.allclose(x, expected, atol=1e-5)


def test_a_measurement_that_says_nothing_gives_equal_weights():
    for make in (lp.MCGDiff, lp.FPSSMC):
        sampler = make(TARGET, particles=16, levels=LEVELS, threshold=0.5)
        sampler(lp.Observation(VALUES.expand(3, 3), KNOWN, noise=1e6), generator=torch.Generator().manual_seed(0))
        assert all(bool((ess > 16 - 1e-6).all()) for ess in sampler.cloud.ess), make


def test_paths_are_forward_paths_of_the_observation():
    """y_t ~ N(α y, σ²) at every level, in 4,000 groups, by five standard errors."""
    observation = lp.Observation(VALUES.expand(4_000, 3), KNOWN)
    sampler = lp.FPSSMC(TARGET, particles=1, levels=LEVELS)
    run = sampler.iterate(observation, generator=torch.Generator().manual_seed(0))
    for state in run:
        path, level = state.memory.path[:, KNOWN], state.level
        deviation = float(level.sigma)
        error = (path.mean(0) - level.alpha * VALUES[KNOWN]).abs().max()
        assert error <= 5 * deviation / math.sqrt(4_000) + 1e-12
        assert (path.std(0) - deviation).abs().max() <= 5 * deviation / math.sqrt(8_000) + 1e-12


def test_all_particles_of_a_group_have_one_path_and_other_groups_others():
    sampler = lp.FPSSMC(TARGET, particles=3, levels=LEVELS)
    observation = lp.Observation(VALUES.expand(2, 3), KNOWN)
    states = itertools.islice(sampler.iterate(observation, generator=torch.Generator().manual_seed(0)), 4)
    for state in states:  # the last level has y
        paths = state.memory.path.reshape(2, 3, 3)[..., KNOWN]
        assert torch.equal(paths, paths[:, :1].expand_as(paths))
        assert not torch.allclose(paths[0], paths[1])


@pytest.mark.parametrize("make", [lp.MCGDiff, lp.FPSSMC])
def test_each_particle_is_an_evaluation_and_each_group_has_its_generator(make):
    score = lp.CountedScore(TARGET)
    sampler = make(score, particles=6, levels=LEVELS)
    both = sampler(lp.Observation(VALUES.expand(2, 3), KNOWN), generator=lp.seeded([0, 1]))
    assert score.evaluations == sampler.plan.evaluations == 4 * 6
    assert score.rows == 4 * 6 * 2
    alone = sampler(lp.Observation(VALUES[None], KNOWN), generator=lp.seeded([1]))
    assert torch.allclose(both[1:], alone)
    with pytest.raises(ValueError, match="makes its own outer steps and takes no solver"):
        make(TARGET, solver=lp.Euler())

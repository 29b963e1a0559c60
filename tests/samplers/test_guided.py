"""ΠGDM, MMPS, TMPD and FlowDPS: their laws on a Gaussian by exact algebra, and x̃₀ against the posterior mean."""

import functools
import itertools

import pytest
import torch

import lanpaint as lp
from lanpaint.samplers import MMPS, TMPD, FlowDPS, PiGDM
from lanpaint_toys import Gaussian
from tests.samplers.affine import DOUBLE, law
from tests.samplers.reference_problem import KNOWN, TARGET, VALUES, assert_row, end, levels

ODE = {"solver": lp.Euler()}
ROWS = {  # law of (unknown; known) of 20 and of 200 steps, as published in the specification of the methods
    "mmps": (MMPS, 0.5, (0.64, 0.80, 0.38410, 0.14830), (0.64, 0.80, 0.47413, 0.19233)),
    "pigdm, bayes": (
        functools.partial(PiGDM, weight="bayes", **ODE),
        *(0.01, (0.76115, 0.99941, 0.33996, 0.00001), (0.76031, 0.99862, 0.38449, 0.00008)),
    ),
    "pigdm, paper": (
        functools.partial(PiGDM, **ODE),
        *(0.0, (0.92087, 1.0001, 0.24042, 0.0), (1.05205, 1.0, 0.27529, 0.0)),
    ),
    "flowdps": (FlowDPS, 0.0, (0.57973, 0.87548, 0.37060, 0.06928), (0.68384, 0.93025, 0.29855, 0.03211)),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_law_at_the_end_of_problem_r_is_the_published_one(name):
    make, noise, *expected = ROWS[name]
    for steps, row in zip((20, 200), expected, strict=True):
        assert_row(make, steps, row, noise=noise)


@pytest.mark.parametrize("name", ROWS)
def test_the_law_is_the_same_in_every_coordinates(name):
    make, noise, *_ = ROWS[name]
    reference = end(make, 20, noise=noise)
    for formalism in ("ve", "flow"):
        assert torch.allclose(end(make, 20, noise=noise, formalism=formalism), reference, rtol=0, atol=1e-12)


def test_mmps_reaches_the_posterior_of_a_measurement_as_steps_get_shorter():
    """The exact posterior of R for s = 0.5: means (0.64, 0.80), variances (0.488, 0.200)."""
    off = [abs(float(end(MMPS, steps, noise=0.5)[2]) - 0.488) for steps in (100, 200, 400)]
    assert all(after < 0.6 * before for before, after in itertools.pairwise(off))


# --- x̃₀ against Gaussian conditioning ---

WIDE = Gaussian(
    [0.3, -0.2, 0.5, 0.1],
    [[1.0, 0.6, 0.2, 0.0], [0.6, 0.8, -0.1, 0.3], [0.2, -0.1, 0.5, 0.0], [0.0, 0.3, 0.0, 0.9]],
)
THREE = torch.tensor([False, True, True, True])
LEVEL = lp.NoiseLevel(0.6, 0.8)


def exact(target, known, values, x, level, noise):
    """E[x₀ | x, y] by Gaussian conditioning of x₀ on (x, y)."""
    alpha, sigma = (float(v) for v in (level.alpha, level.sigma))
    cov, eye = target.full_cov[0], torch.eye(target.dim, dtype=DOUBLE)
    rows = torch.cat([alpha * eye, eye[known]])
    spread = torch.tensor([sigma**2] * target.dim + [noise**2] * int(known.sum()), dtype=DOUBLE)
    gain = cov @ rows.mT @ torch.linalg.inv(rows @ cov @ rows.mT + torch.diag(spread))
    seen = torch.cat([x, values[:, known]], 1)
    return target.mean + (seen - target.mean @ rows.mT) @ gain.mT


def batch(dim=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, dim, dtype=DOUBLE, generator=generator), torch.randn(
        6, dim, dtype=DOUBLE, generator=generator
    )


@pytest.mark.parametrize("noise", [0.0, 0.4])
@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_mmps_with_full_iterations_has_the_posterior_mean_of_any_gaussian(noise, factor):
    x, values = batch()
    level, observation = LEVEL.rescale(factor), lp.Observation(values, THREE, noise=noise)
    true = exact(WIDE, THREE, values, x, level, noise)
    errors = []
    for n in (1, 2, 3, 5):
        prediction = MMPS(WIDE, iterations=n).posterior(x, level, observation)
        errors.append(float((prediction.denoised - true).abs().max()))
        assert torch.allclose(level.alpha * prediction.denoised + level.sigma * prediction.epsilon, x)
    assert errors[0] > errors[1] > 1e-6
    assert max(errors[2:]) < 1e-10


def test_mmps_has_the_posterior_mean_at_levels_that_differ_from_entry_to_entry():
    sigma = torch.tensor([0.3, 0.8, 1.5, 0.05], dtype=DOUBLE)
    x, values = batch()
    level = lp.NoiseLevel(torch.ones(4, dtype=DOUBLE), sigma)
    found = MMPS(WIDE, iterations=3).posterior(x, level, lp.Observation(values, THREE, noise=0.4)).denoised
    cov, eye = WIDE.full_cov[0], torch.eye(4, dtype=DOUBLE)
    rows = torch.cat([eye, eye[THREE]])
    spread = torch.diag(torch.cat([sigma**2, torch.full((3,), 0.16, dtype=DOUBLE)]))
    gain = cov @ rows.mT @ torch.linalg.inv(rows @ cov @ rows.mT + spread)
    seen = torch.cat([x, values[:, THREE]], 1)
    assert torch.allclose(found, WIDE.mean + (seen - WIDE.mean @ rows.mT) @ gain.mT, atol=1e-10)


@pytest.mark.parametrize(
    ("target", "known"),
    [
        (WIDE, torch.tensor([False, False, True, False])),
        (Gaussian([0.1] * 4, torch.diag(torch.rand(4)).tolist()), THREE),
    ],
    ids=["one known", "independent"],
)
def test_tmpd_is_mmps_where_the_covariance_of_known_entries_is_diagonal(target, known):
    x, values = batch()
    observation = lp.Observation(values, known, noise=0.3)
    moved, matched = (method.posterior(x, LEVEL, observation) for method in (TMPD(target), MMPS(target, iterations=4)))
    assert torch.allclose(moved.denoised, matched.denoised, atol=1e-12)


def test_tmpd_has_the_row_sums_of_two_correlated_known_entries():
    """Both entries of R are known: A V Aᵀ 1 is V's row sum for both, and x̃₀ = x̂₀ + V e/(s² + sum)."""
    x, values = batch(2)
    observation = lp.Observation(values, torch.tensor([True, True]), noise=0.3)
    cov = torch.tensor([[1.0, 0.8], [0.8, 1.0]], dtype=DOUBLE)
    covariance = torch.linalg.inv(torch.linalg.inv(cov) + 0.36 / 0.64 * torch.eye(2))
    clean = TARGET.denoised(x, LEVEL)
    expected = clean + (values - clean) @ covariance / (0.09 + covariance.sum(1)[0])
    assert torch.allclose(TMPD(TARGET).posterior(x, LEVEL, observation).denoised, expected, atol=1e-12)
    matched = MMPS(TARGET, iterations=2).posterior(x, LEVEL, observation).denoised
    assert float((expected - matched).abs().max()) > 0.01


@pytest.mark.parametrize("make", [TMPD, functools.partial(PiGDM, weight="bayes"), MMPS])
def test_the_estimate_never_goes_past_the_observation_whatever_the_network(make):
    """A score whose x̂₀ varies a thousand times as fast as x/α."""

    class Rough(lp.Score):
        def predict(self, x, level):
            return lp.Prediction(x, level, denoised=torch.sin(1000 * x + x.flip(1)))

    x, values = batch()
    sampler, observation = make(Rough()), lp.Observation(values, THREE, noise=0.1)
    moved = sampler.posterior(x, LEVEL, observation).denoised - Rough().denoised(x, LEVEL)
    error = values - Rough().denoised(x, LEVEL)
    assert bool((moved[:, THREE].norm(dim=1) <= error[:, THREE].norm(dim=1) * (1 + 1e-9)).all())


def test_negative_row_sums_guide_nothing():
    """Two of three known entries that are anticorrelated with the wide one: without noise they have no guidance."""
    target = Gaussian([0.0] * 3, [[4.0, -0.9, -0.9], [-0.9, 0.3, 0.2], [-0.9, 0.2, 0.3]])
    _, error = batch(3)
    observation = lp.Observation(error, torch.tensor([True] * 3))
    covariance = torch.linalg.inv(torch.linalg.inv(target.full_cov[0]) + 0.36 / 0.64 * torch.eye(3))
    sums = covariance.sum(1)
    assert (sums < 0).tolist() == [False, True, True]
    found = TMPD(target).weights(error, lambda vector: vector @ covariance, LEVEL, observation)
    assert torch.allclose(found, error[:, :1] * covariance[0] / sums[0], atol=1e-12)


@pytest.mark.parametrize("variance", [1.0, 0.3])
def test_pigdm_by_bayes_is_mmps_and_exact_on_data_of_its_variance(variance):
    target = Gaussian([0.4, -0.3, 0.2, 0.0], torch.diag(torch.full((4,), variance)).tolist())
    x, values = batch()
    observation = lp.Observation(values, THREE, noise=0.3)
    found = PiGDM(target, weight="bayes", data_variance=variance).posterior(x, LEVEL, observation).denoised
    assert torch.allclose(found, exact(target, THREE, values, x, LEVEL, 0.3), atol=1e-12)
    assert torch.allclose(found, MMPS(target).posterior(x, LEVEL, observation).denoised, atol=1e-12)


def test_the_paper_s_weight_of_pigdm_guides_more_the_more_steps_there_are():
    """0.8 is exact; the sheet has 0.92, 1.05, 1.08 of the ODE. Bayes' weight does not grow."""
    paper, bayes = (
        [float(end(PiGDM, steps, noise=0.01, weight=weight, **ODE)[0]) for steps in (20, 200)]
        for weight in ("paper", "bayes")
    )
    assert 0.9 < paper[0] < paper[1] - 0.1
    assert max(bayes) < 0.8


@pytest.mark.parametrize(("make", "count"), [(PiGDM, 1), (TMPD, 2), (functools.partial(MMPS, iterations=3), 3)])
def test_backward_passes_are_as_documented(make, count):
    passes = []

    class Watched(lp.Score):
        def predict(self, x, level):
            denoised = TARGET.denoised(x, level)
            denoised.register_hook(lambda gradient: passes.append(1))
            return lp.Prediction(x, level, denoised=denoised)

    make(Watched(), levels=levels(4))(lp.Observation(VALUES.expand(3, 2), KNOWN))
    assert len(passes) == 4 * count


# --- FlowDPS ---


def test_flowdps_without_data_step_and_fresh_noise_is_ddim():
    observation = lp.Observation(VALUES.expand(3, 2), KNOWN)
    plain, found = (
        list(sampler.iterate(observation, generator=torch.Generator().manual_seed(0)))
        for sampler in (lp.Sampler(TARGET, levels=levels(5)), FlowDPS(TARGET, kappa=0.0, eta=0.0, levels=levels(5)))
    )
    for ours, theirs in zip(found[:-1], plain[:-1], strict=True):
        assert torch.allclose(ours.x, theirs.x, atol=1e-12)


def test_flowdps_that_goes_all_the_way_to_y_is_ddnm_with_a_share_of_fresh_noise(monkeypatch):
    """With t = 1 in the blend, x̃₀ has y on the known entries; η is a share of the variance, and DDNM's of the noise."""
    import lanpaint.samplers.flowdps as module

    monkeypatch.setattr(module, "flow_time", lambda level: torch.ones_like(level.sigma))
    observation = lp.Observation(VALUES.expand(3, 2), KNOWN)
    found, expected = (
        list(sampler.iterate(observation, generator=torch.Generator().manual_seed(0)))
        for sampler in (FlowDPS(TARGET, eta=0.49, levels=levels(5)), lp.DDNM(TARGET, eta=0.7, levels=levels(5)))
    )
    for ours, theirs in zip(found[:-1], expected[:-1], strict=True):
        assert torch.allclose(ours.x, theirs.x, atol=1e-12)


def test_flowdps_loses_variance_even_without_an_observation():
    mean, cov = law(FlowDPS(TARGET, levels=levels(400)), VALUES, torch.tensor([False, False]))
    assert float(mean.abs().max()) < 1e-12
    assert float(cov.diagonal().max()) < 0.8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PiGDM(TARGET, weight="sung"), "unknown weight 'sung'; expected paper or bayes"),
        (lambda: PiGDM(TARGET, data_variance=0.0), r"data_variance \(a\) must be a positive"),
        (lambda: MMPS(TARGET, iterations=0), "iterations must be a whole number of at least 1"),
        (lambda: FlowDPS(TARGET, kappa=1.5), r"kappa \(κ\) must lie between 0 and 1, got 1.5"),
        (lambda: FlowDPS(TARGET, eta=-0.1), r"eta \(η\) must lie between 0 and 1, got -0.1"),
        (lambda: FlowDPS(TARGET, solver=lp.Heun()), "FlowDPS makes its own outer steps"),
    ],
)
def test_bad_settings_are_refused_with_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert len(str(caught.value).splitlines()) == 1

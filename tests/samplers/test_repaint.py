"""RePaint on Gaussians, where its law is known exactly; the rows of the ablation."""

import itertools

import pytest
import torch

import lanpaint as lp
from lanpaint.samplers import RePaint
from lanpaint.samplers.sampler import renoise
from lanpaint_toys import Gaussian, gauss2
from tests.samplers.affine import DOUBLE, Law, denoiser, law

TARGET = Gaussian([0.3, -0.2, 0.5], [[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]])
KNOWN = torch.tensor([False, True, False])
VALUES = torch.tensor([0.0, 1.1, 0.0], dtype=DOUBLE)
EYE = torch.eye(3, dtype=DOUBLE)


def numbers(level):
    return float(level.alpha), float(level.sigma)


def backward(state, level, next_level):
    """Euler's step in variance-exploding coordinates z = x/α: dz = (z − x̂₀)/r dr (LanPaint, Eq. 51)."""
    (alpha, sigma), (next_alpha, next_sigma) = numbers(level), numbers(next_level)
    gain, offset = denoiser(TARGET, level)
    share = (next_sigma / next_alpha) / (sigma / alpha)
    matrix = next_alpha * (share * EYE / alpha + (1 - share) * gain)
    return state.map(matrix, next_alpha * (1 - share) * offset)


def resampled(state, level, next_level):
    """Eq. 10: Euler to the next level, and the forward process back; then the known part of Eq. 8."""
    (alpha, sigma), (next_alpha, next_sigma) = numbers(level), numbers(next_level)
    ratio = alpha / next_alpha
    state = backward(state, level, next_level).map(ratio * EYE, variance=sigma**2 - (ratio * next_sigma) ** 2)
    return state.replace(KNOWN, alpha * VALUES, torch.tensor(sigma**2))


@pytest.mark.parametrize("inner", [0, 1, 4])
@pytest.mark.parametrize("schedule", [lp.VP.linear(), lp.VE(), lp.Flow(first_time=0.99)], ids=["vp", "ve", "flow"])
def test_law_of_repaint_on_a_gaussian_is_that_of_denoising_and_renoising(inner, schedule):
    """Mean and covariance of all its random numbers, to rounding; N resamplings at each level but the last."""
    sampler = RePaint(TARGET, steps=4, inner_steps=inner, schedule=schedule)
    alpha, sigma = numbers(sampler.levels[0])
    state = Law(torch.zeros(3, dtype=DOUBLE), (alpha**2 + sigma**2) * EYE)
    for step, (level, next_level) in enumerate(itertools.pairwise(sampler.levels)):
        alpha, sigma = numbers(level)
        state = state.replace(KNOWN, alpha * VALUES, torch.tensor(sigma**2))
        for _ in range(inner if step < 3 else 0):
            state = resampled(state, level, next_level)
        state = backward(state, level, next_level)
    state = state.replace(KNOWN, VALUES, torch.tensor(0.0))
    mean, cov = law(sampler, VALUES, KNOWN)
    assert torch.allclose(mean, state.mean, atol=1e-9)
    assert torch.allclose(cov, state.cov, atol=1e-9)


def test_many_short_resamplings_settle_at_the_conditional_given_the_mean_of_the_known_part():
    """p_t(x | y = α y_o): the error of the stationary law falls in proportion to the length of the step."""
    level, unknown = lp.NoiseLevel(0.8, 0.6), ~KNOWN
    noisy = Law(0.8 * TARGET.mean, 0.64 * TARGET.full_cov[0] + 0.36 * EYE)
    exact, _ = noisy.condition(KNOWN, 0.8 * VALUES)
    errors = []
    for gap in (0.04, 0.02, 0.01):
        next_level = lp.NoiseLevel((1 - (0.6 - gap) ** 2) ** 0.5, 0.6 - gap)
        state = Law(torch.zeros(3, dtype=DOUBLE), EYE)
        for _ in range(round(40 / gap)):
            state = resampled(state, level, next_level)
        assert torch.allclose(state.mean[unknown], exact.mean, atol=1e-6)
        errors.append(float((state.cov[unknown][:, unknown] - exact.cov).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.2)
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("schedule", [lp.VP.linear(), lp.VE(), lp.Flow()], ids=["vp", "ve", "flow"])
def test_renoising_has_the_law_of_forward_diffusion(schedule):
    """x₀ diffused to the cleaner level and on to the noisier one: α x₀ + N(0, σ²)."""
    levels = lp.uniform_time(schedule, 5)
    clean, ones = torch.tensor([[1.7]], dtype=DOUBLE), torch.ones(1, 1, dtype=DOUBLE)
    for noisier, level in itertools.pairwise(levels):
        mean = renoise(level.alpha * clean, level, noisier, 0 * ones)
        first = renoise(level.alpha * clean + level.sigma * ones, level, noisier, 0 * ones) - mean
        second = renoise(level.alpha * clean, level, noisier, ones) - mean
        assert torch.allclose(mean, noisier.alpha * clean, atol=1e-12)
        assert torch.allclose(first**2 + second**2, noisier.sigma**2 * ones, atol=1e-9)


def test_with_the_solver_of_ddpm_the_resampling_denoises_by_ddpm():
    """Lugmayr et al., line 7: the noise of an ancestral step is in the state, so the law is a wider one."""
    euler = law(RePaint(TARGET, steps=4, inner_steps=3), VALUES, KNOWN)[1]
    ancestral = law(RePaint(TARGET, steps=4, inner_steps=3, solver=lp.DDPM()), VALUES, KNOWN)[1]
    assert float(ancestral[0, 0]) > 1.2 * float(euler[0, 0])


def test_the_rows_of_the_ablation_run_and_each_part_helps_on_gauss2():
    """Table 3 at 20 steps of 5: BiG alone and BiG with FLD are far better than Langevin; FLD alone is no worse."""
    problem, figures = gauss2(), {}
    rows = {
        "none": {"lam": 0.0, "dynamics": lp.Langevin()},
        "big": {"dynamics": lp.Langevin()},
        "fld": {"lam": 0.0},
        "both": {},
    }
    for name, options in rows.items():
        generator = torch.Generator().manual_seed(0)
        observation = lp.Observation(*problem.observe(8000, generator))
        score = lp.CountedScore(problem.target)
        figures[name] = problem.divergence(lp.LanPaint(score, **options)(observation, generator=generator))
        assert score.evaluations == 20 * 6
    assert figures["big"] < 0.2 * figures["none"]
    assert figures["both"] < 0.2 * figures["fld"]
    assert figures["fld"] < 1.02 * figures["none"]

"""LML: its stable form against the published formula, its order on an exact flow, and that it runs everywhere."""

import itertools
import math

import pytest
import torch

import lanpaint as lp
from docs.studies import lml as study
from lanpaint_toys import Gaussian, GaussianMixture

TARGET = Gaussian([0.3, -0.2, 0.5], [[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]])
LEVELS = [lp.NoiseLevel(0.6, 0.8), lp.NoiseLevel(0.96, 0.28)]


class Given(lp.Score):
    """A score whose ε̂ are given, one for each level."""

    def __init__(self, *epsilons):
        super().__init__()
        self.epsilons = epsilons

    def predict(self, x, level):
        return lp.Prediction(x, level, epsilon=self.epsilons[LEVELS.index(level)])


def corrected(first, second, **options):
    """g at the second level, for ε̂ at the first and the second one."""
    score = lp.LML(Given(first, second), **options)
    score.predict(torch.zeros_like(first), LEVELS[0])
    return score.predict(torch.zeros_like(second), LEVELS[1]).epsilon


def two(count=5, size=40, apart=0.3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(count, size, generator=generator, dtype=torch.float64)
    second = first + apart * torch.randn(count, size, generator=generator, dtype=torch.float64)
    return first.to(dtype), second.to(dtype)


@pytest.mark.parametrize("kappa", [0.0, 0.004, 0.3])
def test_the_direction_is_that_of_the_damped_hessian_s_inverse(kappa):
    """(ε̃ ε̃ᵀ + λ I)⁻¹ ε̂ by solving the linear system, with λ in units of ‖ε̂‖²."""
    first, second = two()
    got = corrected(first, second, kappa=kappa, damping=0.01)
    for before, now, found in zip(first, second, got, strict=True):
        mixed = kappa * before + (1 - kappa) * now
        hessian = torch.outer(mixed, mixed) + 0.01 * now.square().sum() * torch.eye(len(now), dtype=torch.float64)
        solved = torch.linalg.solve(hessian, now)
        assert torch.allclose(found, solved * now.norm() / solved.norm(), atol=1e-11)


def test_in_float32_nothing_is_turned_by_rounding():
    """The published formula at κ = 0 turns float32 predictions of many entries; the stable form does not."""
    first, second = two(size=20_000, apart=0.01, dtype=torch.float32)
    assert torch.allclose(corrected(first, second, kappa=0.0, damping=1e-3), second, rtol=1e-5)
    exact = corrected(first.double(), second.double(), kappa=0.004, damping=1e-3)
    assert float((corrected(first, second, kappa=0.004, damping=1e-3) - exact).norm() / exact.norm()) < 1e-5


def test_beta_is_the_limit_of_small_kappa():
    first, second = two()
    limit = corrected(first, second, beta=0.7)
    off = [
        float((corrected(first, second, kappa=0.7 * damping, damping=damping) - limit).norm())
        for damping in (1e-2, 1e-3, 1e-4)
    ]
    assert all(after < 0.15 * before for before, after in itertools.pairwise(off))  # of first order in κ


def test_the_correction_keeps_the_norm_and_does_not_mix_samples():
    first, second = two()
    whole = corrected(first, second, beta=1.5)
    assert torch.allclose(whole.norm(dim=1), second.norm(dim=1))
    assert torch.allclose(whole[2:3], corrected(first[2:3], second[2:3], beta=1.5), atol=1e-14)
    assert torch.equal(corrected(first, second, beta=0.0), second)
    still = torch.cat([second[:1], torch.zeros_like(second[:1])])
    assert torch.isfinite(corrected(first[:2], still, beta=1.0)).all()


@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_every_strength_is_of_first_order_and_ahead_of_ddim(beta):
    plain = study.along(lp.Euler(), study.TARGET)
    made = study.along(lp.Euler(), lp.LML(study.TARGET, beta))
    errors = [study.error(made, count) for count in (40, 80, 160)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(0.9 < order < 1.1 for order in orders)
    assert errors[-1] < 0.9 * study.error(plain, 160)


def test_a_kept_estimate_of_the_clean_data_does_not_converge():
    made = study.along(lp.Euler(), lp.LML(study.TARGET, 0.5, keep_denoised=True))
    assert study.error(made, 160) > 0.8 * study.error(made, 40)


@pytest.mark.parametrize("solver", [lp.Euler(), lp.Heun(), lp.DPMSolver(2), lp.DDIM(0.5), lp.PNDM(), lp.UniPC(3)])
def test_it_runs_in_every_solver_and_keeps_what_is_known(solver):
    mixture = GaussianMixture([[0.0, 1.0], [1.0, -1.0]], [0.3, 0.5], [0.4, 0.6])
    observation = lp.Observation(torch.ones(6, 2), torch.tensor([False, True]))
    generator = torch.Generator().manual_seed(0)
    for score in (lp.LML(mixture, 0.5), lp.LML(mixture, 0.5, below=1.0)):
        x = lp.LanPaint(score, steps=6, inner_steps=2, solver=solver)(observation, generator=generator)
        assert torch.isfinite(x).all()
        assert torch.equal(x[:, 1], torch.ones(6))


def test_a_flow_model_s_velocity_is_corrected():
    class Flow(lp.ScoreWrapper):
        def rewrite(self, prediction):
            return lp.Prediction(prediction.x, prediction.level, flow=prediction.flow)

    score, plain = lp.LML(Flow(TARGET), 1.0), Flow(TARGET)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    before = score.predict(x, lp.NoiseLevel(0.2, 0.8)).flow
    got, given = (s.predict(x, lp.NoiseLevel(0.4, 0.6)) for s in (score, plain))
    change = given.flow - before
    expected = given.flow + change - given.flow * (change * given.flow).sum(1, True) / given.flow.square().sum(1, True)
    assert torch.allclose(
        got.flow, expected * given.flow.norm(dim=1, keepdim=True) / expected.norm(dim=1, keepdim=True)
    )
    assert torch.allclose(got.level.alpha * got.denoised + got.level.sigma * got.epsilon, x)


def test_the_correction_acts_below_its_level_only():
    first, second = two()
    ratio = float(LEVELS[1].relative_sigma)
    for below, acts in ((0.99 * ratio, False), (ratio, False), (1.01 * ratio, True)):
        assert torch.equal(corrected(first, second, beta=1.0, below=below), second) is not acts


def test_evaluations_of_one_level_are_corrected_by_the_level_before():
    score = lp.LML(TARGET, 1.0)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    first = score.predict(x, LEVELS[0]).epsilon
    assert torch.equal(first, TARGET.predict(x, LEVELS[0]).epsilon)
    once, again = score.predict(x, LEVELS[1]).epsilon, score.predict(x, LEVELS[1]).epsilon
    assert torch.equal(once, again)
    assert not torch.allclose(once, TARGET.predict(x, LEVELS[1]).epsilon)
    score.reset()
    assert torch.equal(score.predict(x, LEVELS[1]).epsilon, TARGET.predict(x, LEVELS[1]).epsilon)


def test_the_rate_of_the_corrected_dynamics_is_langevin_s_at_a_large_damping_and_a_quarter_of_a_small_one():
    """Where λ is small, x²/2 is a Brownian motion of drift −λ and variance 2 λ in one dimension: a gap of λ/4."""
    assert study.rate(8, 1e9) == pytest.approx(1, abs=1e-6)
    assert study.rate(1, 0.01) == pytest.approx(0.0025, rel=0.03)


def test_the_rank_one_hessian_is_off_by_more_than_the_hessian_itself():
    """On a Gaussian the mean square of ‖s sᵀ − Λ‖/‖Λ‖ is 1 + (tr Λ)²/‖Λ‖²."""
    score, hessian = study.at_samples(TARGET, lp.NoiseLevel(1.0, 0.5), 20_000)
    precision = torch.linalg.inv(TARGET.full_cov[0] + 0.25 * torch.eye(3))
    exact = math.sqrt(1 + float(precision.trace() ** 2 / precision.square().sum()))
    assert study.hessian_error(score, hessian)[0] == pytest.approx(exact, rel=0.03)
    assert torch.allclose(hessian[0], -precision, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, r"give beta \(β\), or both"),
        ({"beta": 1.0, "kappa": 0.1, "damping": 0.1}, r"give beta \(β\), or both"),
        ({"kappa": 0.1}, r"give beta \(β\), or both"),
        ({"beta": -1.0}, r"beta \(β\) must be a number of at least 0, got -1"),
        ({"beta": math.nan}, r"beta \(β\) must be a number"),
        ({"kappa": 1.0, "damping": 0.1}, r"kappa \(κ\) must lie in \[0, 1\)"),
        ({"beta": 1.0, "below": 0.0}, "below must be a positive"),
    ],
)
def test_bad_settings_are_told_in_one_line(options, told):
    with pytest.raises(ValueError, match=told):
        lp.LML(TARGET, **options)

"""BAOAB with partial refreshment: its law and its stability by exact algebra, BiG's known part included."""

import itertools
import math

import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.samplers.presets import fast_time_step, kept_momentum
from lanpaint.verification import affine_step, gaussian_drift, zero_noise
from lanpaint_toys import Gaussian

PRECISION = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
MEAN = torch.tensor([0.3, -1.0], dtype=torch.float64)
STEEPEST = float(torch.linalg.eigvalsh(PRECISION)[-1])


@pytest.mark.parametrize("keep", [0.0, 0.45, 0.9])
@pytest.mark.parametrize("part_of_the_bound", [0.001, 0.1, 0.5, 0.999])
def test_the_law_of_a_gaussian_is_exact_for_all_curvatures_below_two_over_the_time_step(keep, part_of_the_bound):
    drift = gaussian_drift(PRECISION, MEAN, 1.0, part_of_the_bound * 2 / STEEPEST)
    affine = affine_step(lp.PartialRefresh(keep), drift, 2)
    covariance = affine.block(affine.stationary_covariance(), "x", "x")
    assert np.allclose(covariance, np.linalg.inv(PRECISION.numpy()), atol=1e-9)
    assert np.allclose(affine.stationary_mean()[:2], MEAN.numpy(), atol=1e-9)


@pytest.mark.parametrize("keep", [0.0, 0.45, 0.9])
def test_a_step_is_stable_exactly_below_the_bound(keep):
    for factor, stable in ((0.999, True), (1.001, False)):
        drift = gaussian_drift(PRECISION, MEAN, 1.0, factor * 2 / STEEPEST)
        assert (affine_step(lp.PartialRefresh(keep), drift, 2).spectral_radius < 1) is stable


def test_without_kept_momentum_it_is_the_step_of_leimkuhler_and_matthews():
    """x'' − x' = h s(x') + √(h/2) (ξ' + ξ''), with d = √(2h)."""
    length, dynamics, drift = 0.3, lp.PartialRefresh(0.0), lp.Drift(lambda x: -x.pow(3), 1.0, 0.3)
    numbers = iter(torch.tensor([0.4, -1.1, 0.7]).double().reshape(3, 1, 1))
    first = dynamics.step(dynamics.init(torch.ones(1, 1).double(), drift, lambda like: next(numbers)), drift,
                          lambda like: next(numbers))  # fmt: skip
    second = dynamics.step(first, drift, lambda like: next(numbers))
    expected = first.x - length * first.x**3 + math.sqrt(length / 2) * (-1.1 + 0.7)
    assert torch.allclose(second.x, expected, atol=1e-12)


def test_the_first_kick_at_a_level_is_half_a_kick():
    drift = lp.Drift(torch.ones_like, 1.0, 0.5)  # d = 1, s = 1
    state = lp.PartialRefresh(0.0).init(torch.zeros(1, 1).double(), drift, zero_noise)
    steps = []
    for _ in range(3):
        before, state = state.x, lp.PartialRefresh(0.0).step(state, drift, zero_noise)
        steps.append(float(state.x - before))
    assert steps == pytest.approx([0.25, 0.5, 0.5])  # d · d/2 s/2, then d/2 · d s


def test_momentum_is_drawn_anew_at_each_level():
    drift, dynamics = lp.Drift(torch.neg, 1.0, 0.5), lp.PartialRefresh()
    state = dynamics.step(dynamics.init(torch.zeros(2, 3), drift, zero_noise), drift, torch.ones_like)
    again = dynamics.warm_start(state, state.x, drift, lambda like: torch.full_like(like, 7.0))
    assert again.fresh
    assert torch.equal(again.momentum, torch.full((2, 3), 7.0))


def _covariances():
    """Gaussians of all shapes, two to four entries, some known: flat, narrow, and close to singular."""
    rng = np.random.default_rng(0)
    for size, rho in itertools.product((1e-4, 1e-3, 4e-3, 0.04, 1.0, 1e3), (-0.99, 0.5, 0.999999)):
        yield size * np.array([[1, rho], [rho, 1]]), [False, True]
    for _ in range(30):
        dim = int(rng.integers(2, 5))
        root = rng.normal(size=(dim, dim)) * 10 ** rng.uniform(-2, 2, size=dim)
        yield root @ root.T + 1e-9 * np.eye(dim), [bool(i % 2) for i in range(dim)]


@pytest.mark.parametrize("lam", [0.0, 1.0, 8.0, 20.0, 200.0])
def test_with_a_known_part_that_answers_by_big_the_fast_step_contracts(lam):
    """For λ > 0 BiG is no gradient, and too much momentum would make the delayed answer of y grow."""
    level = lp.NoiseLevel(1.0, 0.02)  # the longest step in units of σ
    for covariance, known in _covariances():
        dim = len(known)
        target = Gaussian(np.zeros(dim).tolist(), torch.from_numpy(covariance))
        field = lp.BiG(target, lp.Observation(torch.zeros(1, dim).double(), torch.tensor(known)), lam)
        drift = field.drift(level, fast_time_step(field, level, 1.0))
        affine = affine_step(lp.PartialRefresh(kept_momentum(lam)), drift, dim)
        assert affine.spectral_radius < 1, (lam, covariance)


def test_too_much_momentum_is_amplified_by_big():
    """What the default c is chosen against."""
    target = Gaussian([0.0, 0.0], [[10.0, 10.0 - 1e-6], [10.0 - 1e-6, 10.0]])
    level, known = lp.NoiseLevel(1.0, 1.0), torch.tensor([False, True])
    field = lp.BiG(target, lp.Observation(torch.zeros(1, 2).double(), known), 8.0)
    step = torch.stack([torch.tensor(1.0).double(), torch.tensor(1.0 / 9).double()])
    radius = [affine_step(lp.PartialRefresh(keep), field.drift(level, step), 2).spectral_radius for keep in (0.45, 0.8)]
    assert radius[0] < 1 < radius[1]


@pytest.mark.parametrize("keep", [-0.1, 1.0, math.nan])
def test_a_part_of_the_momentum_outside_zero_to_one_is_refused(keep):
    with pytest.raises(ValueError, match=r"keep .c. must be at least 0 and below 1, got"):
        lp.PartialRefresh(keep)


def test_a_sample_does_not_depend_on_its_batch():
    target = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
    observation = lp.Observation(torch.full((5, 2), 0.3), known=torch.tensor([False, True]))
    paint = lp.LanPaint(target, preset="fast", steps=4, inner_steps=3)
    together = paint(observation, generator=lp.seeded(range(5)))
    alone = paint(lp.Observation(observation.values[3:4], observation.known), generator=lp.seeded([3]))
    assert torch.allclose(together[3:4], alone, atol=1e-6)

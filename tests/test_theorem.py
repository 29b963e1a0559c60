"""Theorem 4.1: where the BiG dynamics settles at a fixed level, and how far that is from q_λ. All by linear algebra."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

import lanpaint as lp
from lanpaint.verification import affine_step, gaussian_drift, limit_law
from lanpaint_toys import Gaussian

STUDY = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "studies" / "theorem.py"))
SIGMAS = np.geomspace(1e-3, 0.3, 8)  # near three decades; further down the covariances lose their digits


def slope(name, lam, sigmas):
    values = [STUDY["compare"](sigma, lam)[name] for sigma in sigmas]
    return np.polyfit(np.log(sigmas), np.log(values), 1)[0]


@pytest.mark.parametrize("lam", [0.0, 4.0, 8.0, 16.0])
def test_the_stationary_law_is_q_up_to_the_square_root_of_one_minus_alpha_bar(lam):
    """Total variation is at most √(KL/2), and √KL is of first order."""
    assert slope("root of KL", lam, np.geomspace(10**-3.5, 10**-0.5, 7)) == pytest.approx(1, abs=0.06)
    assert slope("root of KL", lam, SIGMAS[:4]) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("lam", [0.0, 4.0, 8.0, 16.0])
def test_what_big_drops_is_of_the_order_of_figure_9(lam):
    assert slope("ratio, z ~ q", lam, SIGMAS[:4]) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("lam", [0.0, 4.0, 8.0, 16.0])
def test_the_unknown_part_is_off_by_second_order_whatever_lam_is(lam):
    """The known part is too wide by a variance of σ², which x hears of through its regression on y, 0.8."""
    for sigma in (1e-3, 1e-2):
        assert STUDY["compare"](sigma, lam)["variance of x"] == pytest.approx(0.64 * sigma**2, rel=0.01)


@pytest.mark.parametrize("lam", [0.0, 8.0])
def test_the_rate_fails_where_what_is_dropped_grows_as_one_over_sigma(lam):
    """For x₀ = y₀, where Assumption F.1 holds: at α = 1 the ratio of the two laws' precisions does not depend on σ.

    With x and y in units of σ, p has the precision I − J/2 for J full of ones and σ → 0; the field and q follow.
    """
    half, held = np.array([[0.5, -0.5], [-0.5, 0.5]]), np.diag([0.0, 1 + lam])
    field = np.array([[1.0, 0.0], [0.0, -lam]]) @ half + held
    law = scipy.linalg.solve_continuous_lyapunov(-field, -2 * np.eye(2))
    ideal = half + held
    expected = 0.5 * (np.trace(ideal @ law) - 2 - np.linalg.slogdet(ideal @ law)[1])
    found = [STUDY["compare"](sigma, lam, STUDY["TWINS"])["root of KL"] for sigma in (0.03, 0.01)]
    assert found == pytest.approx([expected**0.5] * 2, rel=0.01)
    assert expected > 0.1


def test_a_gradient_has_its_own_law_at_any_speeds():
    precision, mean = torch.tensor([[1.6, 0.5], [0.5, 0.7]]).double(), torch.tensor([0.4, -1.1]).double()
    gaussian = gaussian_drift(precision, mean, 1.0, 0.1)
    drift = lp.Drift(gaussian, torch.ones(2), torch.tensor([0.3, 0.04]), torch.tensor([False, True]))
    for case in (gaussian, drift):
        got_mean, got_cov = limit_law(case, 2)
        assert np.allclose(got_mean, mean.numpy())
        assert np.allclose(got_cov, np.linalg.inv(precision.numpy()))


@pytest.mark.parametrize("lam", [0.0, 8.0])
def test_the_limit_law_is_that_of_small_steps(lam):
    """Of Euler–Maruyama in the BiG field, whose error falls with the step; the field is no gradient."""
    target, known = Gaussian([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]]), torch.tensor([False, True])
    field = lp.BiG(target, lp.Observation(torch.ones(1, 2, dtype=torch.float64), known), lam)
    level = lp.NoiseLevel(0.8, 0.6)
    errors = []
    for h in (4e-4, 2e-4):
        drift = field.drift(level, torch.tensor([h, 0.3 * h], dtype=torch.float64))
        mean, cov = limit_law(drift, 2)
        step = affine_step(lp.Langevin(), drift, 2)
        assert np.allclose(step.stationary_mean(), mean, atol=1e-10)
        errors.append(np.abs(step.stationary_covariance() - cov).max())
    assert errors[0] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.02)


def test_a_drift_that_pushes_away_has_no_law():
    with pytest.raises(ValueError, match="does not draw back"):
        limit_law(lp.Drift(lambda x: x, 1.0, 0.1), 2)

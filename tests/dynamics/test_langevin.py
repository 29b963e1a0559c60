import numpy as np
import pytest
import torch

from lanpaint import Drift, Langevin, State
from lanpaint.verification import affine_step, gaussian_drift, measured_order

PRECISION = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
MEAN = torch.tensor([0.3, -1.0], dtype=torch.float64)
COV = np.linalg.inv(PRECISION.numpy())


def test_a_step_is_the_formula_of_euler_maruyama():
    """Eq. 96, with the numbers ξ put in by hand."""
    x, xi = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -0.25]])
    out = Langevin().step(State(x), Drift(lambda x: -3 * x, 1.0, 0.02), lambda like: xi)
    assert torch.allclose(out.x, x - 3 * x * 0.02 + 0.2 * xi)


def test_the_mean_is_exact_and_the_bias_of_the_covariance_is_first_order():
    steps, errors = [0.1, 0.05, 0.025, 0.0125], []
    for step in steps:
        one = affine_step(Langevin(), gaussian_drift(PRECISION, MEAN, 1.0, step), 2)
        assert np.allclose(one.stationary_mean(), MEAN.numpy(), atol=1e-12)
        cov = one.stationary_covariance()
        # Closed form for Euler–Maruyama: Σ = Λ⁻¹ (1 − Λ dτ/2)⁻¹.
        exact = COV @ np.linalg.inv(np.eye(2) - PRECISION.numpy() * step / 2)
        assert np.allclose(cov, exact, rtol=1e-12)
        errors.append(np.abs(cov - COV).max())
    assert measured_order(errors, steps) == pytest.approx(1, abs=0.1)


def test_it_is_stable_up_to_twice_the_inverse_of_the_largest_precision():
    limit = 2 / np.linalg.eigvalsh(PRECISION.numpy()).max()
    for factor, stable in ((0.999, True), (1.001, False)):
        one = affine_step(Langevin(), gaussian_drift(PRECISION, MEAN, 1.0, factor * limit), 2)
        assert (one.spectral_radius < 1) is stable


def test_a_step_of_zero_holds_an_entry():
    drift = Drift(lambda x: -x, torch.ones(2), torch.tensor([0.1, 0.0]), torch.tensor([[False, True]]))
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    out = Langevin().step(State(x), drift, torch.ones_like)
    assert torch.equal(out.x[:, 1], x[:, 1])
    assert not bool((out.x[:, 0] == x[:, 0]).any())

"""PnP-DM is Gibbs sampling: its stationary law is exact for a fixed coupling, and the probability flow breaks it."""

import math
from dataclasses import replace

import pytest
import torch

import lanpaint as lp
from tests.samplers.affine import DOUBLE
from tests.samplers.reference_problem import COV, TARGET, FlowMap, end

RHO = 0.3
EYE = torch.eye(2, dtype=DOUBLE)


class Exact(lp.PnPDM):
    """x is drawn from the exact conditional given z in one step: N(C (C + ϱ²)⁻¹ z, C − C (C + ϱ²)⁻¹ C)."""

    def advance(self, state, visit, noise):
        gain = COV @ torch.linalg.inv(COV + RHO**2 * EYE)
        root = torch.linalg.cholesky(COV - gain @ COV)
        x = state.x / visit.level.alpha @ gain.mT + noise(state.x) @ root.mT
        return replace(state, x=x, level=visit.next_level, prediction=None)


class Flow(lp.PnPDM):
    """x is the clean end of the probability flow from z, as in the published code's default."""

    def advance(self, state, visit, noise):
        prediction = FlowMap().predict(state.x, visit.level)
        return replace(state, x=prediction.denoised, level=visit.next_level, prediction=prediction)


def sweeps(make, inside, count, s=0.0):
    """The law after ``count`` iterations at one coupling, over a ladder of levels from there."""
    sampler_levels = [lp.NoiseLevel(0.8, 0.8 * RHO * sigma) for sigma in inside] + [lp.NoiseLevel(1.0, 0.0)]

    def made(score, levels):
        return make(score, levels=sampler_levels, iterations=count, rho=RHO, decay=1.0, least_rho=RHO)

    return end(made, 1, noise=s)


def test_with_the_exact_conditional_the_law_is_the_posterior_with_the_couplings_noise():
    """p₀(x) N(y; x, ϱ²) for s = 0, by Gaussian conditioning; and the figures of the specification."""
    gain = COV[:, 1] / (1 + RHO**2)
    expected = torch.cat([gain, (COV - torch.outer(gain, COV[1])).diagonal()])
    got = sweeps(Exact, [1.0], 80)
    assert torch.allclose(got, expected, atol=1e-6)
    printed = torch.tensor([0.73394, 0.91743, 0.41284, 0.08257], dtype=DOUBLE)
    assert torch.allclose(got, printed, rtol=0, atol=6e-6)


def test_noise_of_the_measurement_and_the_couplings_add_up():
    s = 0.4
    gain = COV[:, 1] / (1 + RHO**2 + s**2)
    expected = torch.cat([gain, (COV - torch.outer(gain, COV[1])).diagonal()])
    assert torch.allclose(sweeps(Exact, [1.0], 80, s), expected, atol=1e-6)


def test_the_probability_flow_in_its_place_has_another_law():
    printed = torch.tensor([0.75109, 0.95780, 0.39841, 0.00258], dtype=DOUBLE)
    assert torch.allclose(sweeps(Flow, [1.0], 300), printed, rtol=0, atol=6e-6)


def test_ancestral_steps_come_to_the_exact_conditional_as_they_shrink():
    """The error is of first order in the step of log σ, once the last σ is small."""
    exact, errors = sweeps(Exact, [1.0], 15), []
    for steps in (16, 32):
        inside = [math.exp(-5 * n / steps) for n in range(steps)]
        errors.append((sweeps(lp.PnPDM, inside, 15) - exact).abs().max())
    assert errors[0] < 0.1
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("iterations", [1, 4])
def test_the_coupling_falls_to_its_least_value_and_evaluations_are_those_of_the_levels(iterations):
    levels = [lp.NoiseLevel(1.0, sigma) for sigma in (10.0, 5.0, 1.0, 0.1, 0.0)]
    sampler = lp.PnPDM(TARGET, levels=levels, iterations=iterations, rho=10.0, decay=0.4, least_rho=0.5)
    expected = [0, 1, 2, 3] + [2, 3] * (iterations > 1) + [2, 3] * (iterations > 2) + [3] * (iterations > 3)
    assert list(sampler.plan.order) == expected  # ϱ = 4, 1.6, 0.64
    assert sampler.plan.evaluations == len(expected)

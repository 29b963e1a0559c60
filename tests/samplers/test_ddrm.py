"""DDRM against its paper's equations in the paper's own coordinates."""

import functools
import itertools

import pytest
import torch

import lanpaint as lp
from lanpaint.samplers import DDRM
from lanpaint_toys import Gaussian
from tests.samplers.affine import DOUBLE, Law, denoiser, law

TARGET = Gaussian([0.3, -0.2, 0.5], [[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]])
KNOWN = torch.tensor([False, True, True])
VALUES = torch.tensor([0.0, 1.1, -0.4], dtype=DOUBLE)
EYE = torch.eye(3, dtype=DOUBLE)


def law_of_ddrm(levels, eta, eta_b, noise):
    """Kawar et al. write x/√ᾱ for the state and σ_t for its noise, that is z = x/α and r = σ/α here."""
    first = levels[0]
    state = Law(torch.zeros(3, dtype=DOUBLE), EYE * float(1 + first.relative_sigma**2))
    state = state.replace(KNOWN, VALUES, first.relative_sigma**2 - noise**2)  # Eq. 7
    for level, next_level in itertools.pairwise(levels):
        r, r_next = float(level.relative_sigma), float(next_level.relative_sigma)
        gain, offset = denoiser(TARGET, level)
        gain = gain * float(level.alpha)  # of z
        kept = (1 - eta**2) ** 0.5 * r_next / r
        # Eq. 8, first line, in the unknown rows; second or third line in the known ones.
        above = r_next >= noise
        weight = eta_b if above else (1 - eta**2) ** 0.5 * r_next / noise
        variance = r_next**2 - (eta_b * noise) ** 2 if above else (eta * r_next) ** 2
        matrix = torch.where(KNOWN[:, None], (1 - weight) * gain, gain + kept * (EYE - gain))
        vector = torch.where(KNOWN, (1 - weight) * offset + weight * VALUES, (1 - kept) * offset)
        state = state.map(matrix, vector)
        state.cov = state.cov + torch.diag(torch.where(KNOWN, variance, (eta * r_next) ** 2))
    return state


@pytest.mark.parametrize(("eta", "eta_b"), [(0.7, 1.0), (0.7, 0.6), (0.0, 1.0), (1.0, 0.3)])
@pytest.mark.parametrize("schedule", [lp.VP.linear(), lp.VE(), lp.Flow(first_time=0.99)], ids=["vp", "ve", "flow"])
@pytest.mark.parametrize("noise", [0.0, 0.6])
def test_law_of_ddrm_on_a_gaussian_is_that_of_equations_7_and_8(eta, eta_b, schedule, noise):
    sampler = DDRM(TARGET, steps=4, eta=eta, eta_b=eta_b, schedule=schedule)
    assert any(level.relative_sigma >= noise for level in sampler.levels[1:])
    state = law_of_ddrm(sampler.levels, eta, eta_b, noise)
    if not noise:
        state = state.replace(KNOWN, VALUES, torch.tensor(0.0))
    mean, cov = law(sampler, VALUES, KNOWN, functools.partial(lp.Observation, noise=noise))
    assert torch.allclose(mean, state.mean, atol=1e-9)
    assert torch.allclose(cov, state.cov, atol=1e-9)


def test_without_noise_drawn_anew_the_unknown_part_takes_eulers_steps():
    observation = lp.Observation.none((5, 3), DOUBLE)
    start = torch.randn(5, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    euler = lp.Sampler(TARGET, steps=6)(observation, start=start)
    assert torch.allclose(DDRM(TARGET, steps=6, eta=0.0)(observation, start=start), euler, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": 1.1}, r"eta \(η\) must be between 0 and 1, got 1.1"),
        ({"eta_b": -0.1}, r"eta_b \(η_b\) must be"),
        ({"solver": lp.Heun()}, "DDRM makes its own outer steps and takes no solver"),
    ],
)
def test_bad_settings_are_refused_with_one_line(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        DDRM(TARGET, **options)
    assert len(str(caught.value).splitlines()) == 1

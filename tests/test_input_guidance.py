"""Input guidance: a combination of two scores, and the law that it samples on a Gaussian."""

import math

import numpy
import pytest
import torch

import lanpaint as lp
from lanpaint_toys import Gaussian
from tests.samplers.affine import DOUBLE, law

SLOPE, VARIANCE = 0.8, 0.36
TARGET = Gaussian([0.0, 0.0], [[1.0, SLOPE], [SLOPE, 1.0]])
KNOWN = torch.tensor([False, True])
VALUES = torch.tensor([0.0, 1.5], dtype=DOUBLE)


def mean_ratio(weight, variance, prior):
    """The mean that guidance samples, in units of the conditional mean: ½(1 + w) (v/c)^(w/2) ρ^(−½) ∫ … of the docs."""
    # y = v/c + (1 − v/c)(1 − s²) takes the root at y = 1 away
    nodes, weights = numpy.polynomial.legendre.leggauss(200)
    s, low = (nodes + 1) / 2, variance / prior
    y = 1 - (1 - low) * s**2
    integral = float((weights * y ** (-(3 + weight) / 2) * math.sqrt(1 - low)).sum())
    return 0.5 * (1 + weight) * low ** ((1 + weight) / 2) * (prior / (prior - variance)) ** 0.5 * integral


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_on_a_gaussian_the_variance_is_v_times_v_over_c_to_the_weight(weight):
    """With the known part hidden in the second score, and the mean of the closed form in docs/asyncpatch.md."""
    guided = lp.InputGuidance(TARGET, KNOWN, weight, generator=torch.Generator().manual_seed(0))
    path = lp.TimePath.inpainting(KNOWN)
    smooth = lp.TimePath(lambda u: path(u) ** 2 * (3 - 2 * path(u)))
    found = []
    for steps in (100, 200):
        mean, cov = law(lp.Sampler(guided, solver=lp.Heun(), plan=smooth.plan(lp.Flow(), steps)), VALUES, KNOWN)
        assert mean[1] == VALUES[1]
        found.append((float(mean[0]), float(cov[0, 0])))
    mean, variance = ((4 * fine - coarse) / 3 for coarse, fine in zip(*found, strict=True))
    assert mean == pytest.approx(SLOPE * 1.5 * mean_ratio(weight, VARIANCE, 1.0), abs=2e-3)
    assert variance == pytest.approx(VARIANCE * VARIANCE**weight, abs=1e-3)


@pytest.mark.parametrize("time", [0.4, 1.0])
def test_the_guided_score_is_equation_8(time):
    """At an unknown entry: (1 + w) times the score given y minus w times the score given a noisier y."""
    level = lp.NoiseLevel(torch.tensor([0.7, 1.0], dtype=DOUBLE), torch.tensor([0.3, 0.0], dtype=DOUBLE))
    x = torch.tensor([[0.3, 1.5], [-1.0, 0.2]], dtype=DOUBLE)
    guided = lp.InputGuidance(TARGET, KNOWN, 1.5, time, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    noisy = lp.NoiseLevel(torch.tensor([0.7, 1 - time], dtype=DOUBLE), torch.tensor([0.3, time], dtype=DOUBLE))
    seen = torch.stack([x[:, 0], (1 - time) * x[:, 1] + time * noise[:, 1]], 1)
    expected = 2.5 * TARGET.score(x, level)[:, 0] - 1.5 * TARGET.score(seen, noisy)[:, 0]
    prediction = guided.predict(x, level)
    assert torch.allclose(-prediction.epsilon[:, 0] / 0.3, expected, atol=1e-10)
    assert torch.allclose((0.7 * prediction.denoised + 0.3 * prediction.epsilon)[:, 0], x[:, 0], atol=1e-10)


def test_the_noise_of_the_region_is_one_in_a_run_and_another_in_the_next():
    guided = lp.InputGuidance(TARGET, KNOWN, 1.0, 0.5, generator=torch.Generator().manual_seed(0))
    level = lp.NoiseLevel(torch.tensor([0.7, 1.0], dtype=DOUBLE), torch.tensor([0.3, 0.0], dtype=DOUBLE))
    x = torch.tensor([[0.3, 1.5]], dtype=DOUBLE)
    first, again = guided.score(x, level), guided.score(x, level)
    guided.reset()
    assert torch.equal(first, again)
    assert not torch.equal(first, guided.score(x, level))


def test_guidance_with_classes_comes_first_at_both_levels():
    """Eq. 6–8: the guided score of a guided score."""
    other = Gaussian([0.5, -0.5], [[1.2, 0.1], [0.1, 0.8]])
    level = lp.NoiseLevel(torch.tensor([0.7, 1.0], dtype=DOUBLE), torch.tensor([0.3, 0.0], dtype=DOUBLE))
    hidden = lp.NoiseLevel(torch.tensor([0.7, 0.0], dtype=DOUBLE), torch.tensor([0.3, 1.0], dtype=DOUBLE))
    x = torch.tensor([[0.3, 1.5]], dtype=DOUBLE)
    classes = lp.GuidedScore(TARGET, other, 3.0)  # w_c = 2
    got = lp.InputGuidance(classes, KNOWN, 1.5).predict(x, level).epsilon[:, 0] / -0.3
    clean = 3 * TARGET.score(x, level) - 2 * other.score(x, level)
    noisy = 3 * TARGET.score(x, hidden) - 2 * other.score(x, hidden)
    assert torch.allclose(got, (2.5 * clean - 1.5 * noisy)[:, 0], atol=1e-10)


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        (lambda: lp.InputGuidance(TARGET, KNOWN.float(), 1.0), TypeError, "region must be a boolean tensor, got"),
        (lambda: lp.InputGuidance(TARGET, KNOWN, math.inf), ValueError, r"weight \(w\) must be a finite number"),
        (lambda: lp.InputGuidance(TARGET, KNOWN, 1.0, 0.0), ValueError, "time must be above 0"),
        (lambda: lp.InputGuidance(TARGET, KNOWN, 1.0, 1.5), ValueError, "time must be between 0 and 1"),
    ],
)
def test_bad_arguments_are_refused(make, error, told):
    with pytest.raises(error, match=told):
        make()

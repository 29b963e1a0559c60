"""The likelihood bound of joint diffusion: what attains it, what lies below, and the estimator."""

import math

import pytest
import torch

import lanpaint as lp
from lanpaint.likelihood import _times
from lanpaint_toys import Gaussian
from lanpaint_toys.joint_bound import (
    cross_entropy,
    exact_model,
    gaussian_bound,
    mean_time_model,
    path_bound,
    path_law,
)

DOUBLE = torch.float64
DATA = torch.tensor([[1.0, 0.6, 0.3], [0.6, 0.8, 0.2], [0.3, 0.2, 0.9]], dtype=DOUBLE)
OTHER = torch.tensor([[0.7, -0.2, 0.1], [-0.2, 1.3, 0.4], [0.1, 0.4, 0.6]], dtype=DOUBLE)
TOKENS = [torch.arange(3) == i for i in range(3)]


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_the_exact_model_attains_minus_the_entropy(tokens):
    cov = DATA[:tokens, :tokens]
    entropy = 0.5 * float(torch.linalg.slogdet(2 * math.pi * math.e * cov)[1])
    assert gaussian_bound(cov, exact_model(cov), 10, 120) == pytest.approx(-entropy, abs=1e-9)


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_the_exact_model_of_another_gaussian_attains_minus_entropy_minus_kl(tokens):
    cov, other = DATA[:tokens, :tokens], OTHER[:tokens, :tokens]
    normal = torch.distributions.MultivariateNormal
    zero = torch.zeros(tokens, dtype=DOUBLE)
    data = normal(zero, cov)
    expected = -data.entropy() - torch.distributions.kl_divergence(data, normal(zero, other))
    assert gaussian_bound(cov, exact_model(other), 10, 120) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("share", [0.3, 0.1])
def test_a_model_told_the_mean_time_lies_strictly_below_its_own_likelihood(share):
    """On a path of two tokens: the bound, the log-likelihood of the law that the model generates, and −H, in order."""
    cov, omega = DATA[:2, :2], torch.tensor([share, 1 - share], dtype=DOUBLE)
    bound = path_bound(cov, mean_time_model(cov), omega, 1000)
    coarse, fine = (path_law(mean_time_model(cov), omega, nodes) for nodes in (1000, 2000))
    own = cross_entropy(cov, 2 * fine - coarse)  # the error of the steps is of first order
    assert bound < own - 0.05
    assert own < cross_entropy(cov, cov) - 0.05
    exact = [path_law(exact_model(cov), omega, nodes) for nodes in (1000, 2000)]
    assert torch.allclose(2 * exact[1] - exact[0], cov, atol=2e-3)  # the exact model generates the data on this path
    assert path_bound(cov, exact_model(cov), omega, 1000) == pytest.approx(cross_entropy(cov, cov), abs=1e-9)


@pytest.mark.parametrize("groups", [None, TOKENS, [TOKENS[0] | TOKENS[2], TOKENS[1]]], ids=["1", "3", "2"])
def test_the_estimate_of_the_exact_model_is_the_log_likelihood(groups):
    target = Gaussian([0.3, -0.5, 0.1], DATA)
    data = target.sample(2000, torch.Generator().manual_seed(0))
    bound = lp.likelihood_bound(target, data, groups=groups, draws=8, generator=torch.Generator().manual_seed(1))
    difference = bound.samples - target.log_prob(data)
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / 2000**0.5
    assert bound.error < 0.05
    assert bound.mean == pytest.approx(float(bound.samples.mean()))


def test_the_estimate_of_a_wrong_model_is_lower_by_the_divergence():
    data = Gaussian([0.0] * 3, DATA).sample(2000, torch.Generator().manual_seed(0))
    other = Gaussian([0.0] * 3, OTHER)
    bound = lp.likelihood_bound(other, data, groups=TOKENS, draws=8, generator=torch.Generator().manual_seed(1))
    difference = bound.samples - other.log_prob(data)
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / 2000**0.5


def test_the_reference_itself_has_no_error():
    """If the model is the reference, the estimate is the log-density, without noise."""
    data = 2 + 0.5 * torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    target = Gaussian([2.0] * 4, 0.25)
    bound = lp.likelihood_bound(target, data, draws=2, mean=2.0, variance=0.25)
    assert torch.allclose(bound.samples, target.log_prob(data), atol=1e-9)


def test_the_weights_of_an_evaluation_sum_to_the_number_of_tokens_times_half_the_range():
    ell, weights = _times(500, 6, (-8.0, 10.0), 0.0, torch.Generator().manual_seed(0))
    assert torch.allclose(weights.sum(1), torch.full((500,), 6 * 9.0, dtype=DOUBLE))
    assert float(ell.min()) >= -8
    assert float(ell.max()) <= 10


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"data": torch.zeros(3)}, TypeError, r"data must be a floating-point tensor of shape \(B, …\)"),
        ({"groups": TOKENS[:2]}, ValueError, "groups leave gaps: 1 entries are in none of them"),
        ({"groups": [torch.ones(2, dtype=torch.bool)]}, ValueError, "groups must broadcast to a sample's shape"),
        ({"log_snr": (3.0, -3.0)}, ValueError, "log_snr must be two finite numbers, the smaller one first"),
        ({"variance": 0.0}, ValueError, "variance must be positive and finite"),
        ({"draws": 0}, ValueError, "draws must be a whole number"),
    ],
)
def test_bad_arguments_are_refused(options, error, told):
    data = options.pop("data", torch.zeros(2, 3))
    with pytest.raises(error, match=told):
        lp.likelihood_bound(Gaussian([0.0] * 3, DATA), data, **options)

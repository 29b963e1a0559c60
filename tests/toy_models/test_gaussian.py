"""Gaussians and mixtures: every closed form against automatic differentiation, SciPy or brute force."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from lanpaint.noise import NoiseLevel
from lanpaint_toys.gaussian import Gaussian, GaussianMixture

DOUBLE = torch.float64
ROOT = Path(__file__).parents[2]


def _covariances(count, dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(count, dim, dim, generator=generator, dtype=DOUBLE)
    return root @ root.mT / dim + 0.2 * torch.eye(dim, dtype=DOUBLE)


def _means(count, dim, seed=1):
    return 2 * torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def _targets(dim):
    """One target of each kind, in ``dim`` dimensions."""
    weights = [0.5, 0.2, 0.3]
    return {
        "gaussian": Gaussian(_means(1, dim)[0], _covariances(1, dim)[0]),
        "isotropic gaussian": Gaussian(_means(1, dim)[0], 0.7),
        "one variance": GaussianMixture(_means(3, dim), 0.6, weights),
        "a variance each": GaussianMixture(_means(3, dim), [0.3, 1.0, 2.0], weights),
        "full": GaussianMixture(_means(3, dim), _covariances(3, dim), weights),
    }


KINDS = list(_targets(2))
every_kind = pytest.mark.parametrize("kind", KINDS)
POINTS, DIM = 6, 3


def _level(granularity):
    uniform = torch.rand(2, POINTS, DIM, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    alpha, sigma = 0.1 + uniform[0], 0.1 + 2 * uniform[1]
    part = {
        "batch": np.s_[0, 0],
        "one": np.s_[0, :1],
        "per sample": np.s_[:, :1],
        "per coordinate": np.s_[0],
        "both": np.s_[:],
    }[granularity]
    return NoiseLevel(alpha[part], sigma[part])


every_level = pytest.mark.parametrize("granularity", ["batch", "one", "per sample", "per coordinate", "both"])


def _points(seed=3, count=POINTS, dim=DIM, dtype=DOUBLE):
    return 3 * torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


def _scipy_log_prob(target, x, alpha, sigma):
    """Log density at one point of the law of α x₀ + σ ε, α and σ of shape (d,)."""
    densities = [
        weight * multivariate_normal(alpha * mean, np.diag(alpha) @ cov @ np.diag(alpha) + np.diag(sigma**2)).pdf(x)
        for weight, mean, cov in zip(target.weights.numpy(), target.means.numpy(), target.full_cov.numpy(), strict=True)
    ]
    return math.log(sum(densities))


# --- Density, score and posterior mean


@every_kind
@every_level
def test_log_density_is_that_of_scipy(kind, granularity):
    target, level, x = _targets(DIM)[kind], _level(granularity), _points()
    alpha, sigma = (t.expand(POINTS, DIM).numpy() for t in (level.alpha, level.sigma))
    expected = [_scipy_log_prob(target, *rows) for rows in zip(x.numpy(), alpha, sigma, strict=True)]
    np.testing.assert_allclose(target.log_prob(x, level), expected, rtol=1e-10, atol=1e-10)


@every_kind
def test_log_density_of_clean_data_is_that_of_scipy(kind):
    target, x = _targets(DIM)[kind], _points()
    expected = [_scipy_log_prob(target, row, np.ones(DIM), np.zeros(DIM)) for row in x.numpy()]
    np.testing.assert_allclose(target.log_prob(x), expected, rtol=1e-10, atol=1e-10)


@every_kind
@pytest.mark.parametrize("level", [NoiseLevel(1.0, 0.0), NoiseLevel(0.6, 0.8)], ids=["clean", "noisy"])
def test_density_in_the_plane_integrates_to_one(kind, level):
    # The trapezium rule on a smooth density whose tails are inside is good to far more digits.
    edge, step = 14.0, 0.1
    axis = torch.arange(-edge, edge + step / 2, step, dtype=DOUBLE)
    grid = torch.cartesian_prod(axis, axis)
    total = float(_targets(2)[kind].log_prob(grid, level).exp().sum()) * step**2
    assert total == pytest.approx(1.0, abs=1e-6)


@every_kind
@every_level
def test_score_is_the_gradient_of_the_log_density(kind, granularity):
    target, level, x = _targets(DIM)[kind], _level(granularity), _points().requires_grad_()
    (expected,) = torch.autograd.grad(target.log_prob(x, level).sum(), x)
    torch.testing.assert_close(target.score(x.detach(), level), expected, rtol=1e-9, atol=1e-9)


@every_kind
@every_level
def test_posterior_mean_follows_from_the_gradient_by_tweedie(kind, granularity):
    target, level, x = _targets(DIM)[kind], _level(granularity), _points().requires_grad_()
    (gradient,) = torch.autograd.grad(target.log_prob(x, level).sum(), x)
    expected = (x + level.sigma**2 * gradient).detach() / level.alpha
    torch.testing.assert_close(target.denoised(x.detach(), level), expected, rtol=1e-9, atol=1e-9)


@every_kind
@every_level
def test_prediction_can_be_differentiated(kind, granularity):
    target, level, x = _targets(DIM)[kind], _level(granularity), _points()
    direction = _points(seed=4)

    def pull(x):
        (gradient,) = torch.autograd.grad(target.log_prob(x, level).sum(), x, create_graph=True)
        return (gradient * direction).sum()

    x.requires_grad_()
    (expected,) = torch.autograd.grad(pull(x), x)
    (got,) = torch.autograd.grad((target.predict(x, level).score * direction).sum(), x)
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)


@every_kind
@pytest.mark.parametrize("shape", [(), (POINTS, 1), (DIM,), (POINTS, DIM)])
def test_pure_noise_says_only_the_mean_of_the_data(kind, shape):
    target, x = _targets(DIM)[kind], _points()
    level = NoiseLevel(torch.zeros(shape, dtype=DOUBLE), torch.full(shape, 1.7, dtype=DOUBLE))
    prediction = target.predict(x, level)
    mean = (target.weights[:, None] * target.means).sum(0).expand_as(x)
    torch.testing.assert_close(prediction.denoised, mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(prediction.score, -x / 1.7**2, rtol=1e-12, atol=1e-12)


@every_kind
def test_clean_data_is_its_own_posterior_mean(kind):
    x = _points()
    torch.testing.assert_close(_targets(DIM)[kind].denoised(x, NoiseLevel(0.7, 0.0)), x / 0.7, rtol=1e-9, atol=1e-9)


@every_kind
@pytest.mark.parametrize("granularity", ["batch", "per sample", "per coordinate"])
def test_many_points_are_answered_like_one_by_one(kind, granularity):
    target = _targets(2)[kind]
    count = 60_000  # several of the pieces into which the work is cut
    x = _points(count=count, dim=2)
    if granularity == "per sample":
        level = NoiseLevel(torch.linspace(0.1, 1, count, dtype=DOUBLE)[:, None], torch.ones((), dtype=DOUBLE))
    else:
        level = NoiseLevel(*{"batch": (0.6, 0.8), "per coordinate": (torch.tensor([0.6, 1.0]), 0.8)}[granularity])
    prediction, log_prob = target.predict(x, level), target.log_prob(x, level)
    for row in (0, 20_000, 43_690, 43_691, count - 1):
        own = NoiseLevel(level.alpha[row], level.sigma[row]) if granularity == "per sample" else level
        alone = target.predict(x[row : row + 1], own)
        torch.testing.assert_close(prediction.score[row], alone.score[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(prediction.denoised[row], alone.denoised[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(log_prob[row], target.log_prob(x[row : row + 1], own)[0], rtol=1e-12, atol=1e-12)


@every_kind
@every_level
def test_single_precision_comes_back_as_such_and_near_double_precision(kind, granularity):
    target, level = _targets(DIM)[kind], _level(granularity)
    x = _points(dtype=torch.float32)
    single, double = target.predict(x, level), target.predict(x.double(), level)
    for view in ("score", "denoised"):
        got, expected = getattr(single, view), getattr(double, view)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), expected, rtol=2e-4, atol=2e-4)
    assert target.log_prob(x, level).dtype == torch.float32


def test_components_far_away_leave_no_nan():
    target = GaussianMixture([[0.0, 0.0], [1e3, 1e3]], [1e-4, 1e-4], [1.0, 0.0])
    level = NoiseLevel(1.0, 1e-3)
    x = torch.tensor([[0.0, 0.0], [1e3, 1e3], [5e2, 5e2]], dtype=DOUBLE)
    prediction = target.predict(x, level)
    expected = -x / (1e-4 + 1e-6)  # a component of weight 0 is not there
    torch.testing.assert_close(prediction.score, expected, rtol=1e-9, atol=1e-9)
    assert bool(torch.isfinite(prediction.denoised).all())


def test_memory_for_many_points_and_components_is_bounded():
    # A new process: the high-water mark of this one may be above that of the prediction already. A fork starts anew.
    code = """
import os, resource, torch
from lanpaint.noise import NoiseLevel
from lanpaint_toys.gaussian import GaussianMixture
generator = torch.Generator().manual_seed(0)
means = torch.randn(500, 2, generator=generator, dtype=torch.float64)
full = 0.0025 * torch.eye(2, dtype=torch.float64).expand(500, 2, 2)
points = torch.randn(50_000, 2, generator=generator, dtype=torch.float64)
for cov, count in ((0.05**2, 50_000), (torch.full((500,), 0.0025), 50_000), (full, 5_000)):
    if os.fork():
        assert os.wait()[1] == 0
        continue
    target, x = GaussianMixture(means, cov), points[:count]
    target.predict(x[:2], NoiseLevel(0.6, 0.8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    prediction = target.predict(x, NoiseLevel(0.6, 0.8))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert prediction.score.shape == x.shape
    print((after - before) * 1024, flush=True)
    os._exit(0)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    )
    # Below a single one of the tensors, (points, 500) in float64, of which an answer in one piece needs several: 0.2 GB
    # of 50,000 points. Full covariances take (points, 500, 2) and 5,000 points for the same reason.
    for used, tensor in zip(map(int, done.stdout.split()), (50_000, 50_000, 2 * 5_000), strict=True):
        assert used < tensor * 500 * 8


# --- Conditionals


@every_kind
@pytest.mark.parametrize("known", [0, 1])
def test_conditional_in_the_plane_is_the_joint_density_over_the_integrated_one(kind, known):
    target, value, step = _targets(2)[kind], 0.4, 0.02
    mask = torch.arange(2) == known
    conditional = target.conditional([value if k else math.nan for k in mask.tolist()], mask)
    axis = torch.arange(-16.0, 16.0, step, dtype=DOUBLE)
    joint = torch.empty(len(axis), 2, dtype=DOUBLE)
    joint[:, known], joint[:, 1 - known] = value, axis
    density = target.log_prob(joint).exp()
    expected = density / (density.sum() * step)
    torch.testing.assert_close(conditional.log_prob(axis[:, None]).exp(), expected, rtol=1e-8, atol=1e-10)


@every_kind
@pytest.mark.parametrize("known", [mask for mask in itertools.product([True, False], repeat=4) if 0 < sum(mask) < 4])
def test_conditional_has_the_means_covariances_and_weights_of_the_schur_complement(kind, known):
    target, known = _targets(4)[kind], np.array(known)
    values = np.array([0.5, -1.0, 2.0, 0.1])
    conditional = target.conditional(values.tolist(), known.tolist())
    weights = []
    for k, (mean, cov) in enumerate(zip(target.means.numpy(), target.full_cov.numpy(), strict=True)):
        # The conditional's precision is the unknown block of the joint precision; its mean solves the quadratic form.
        precision = np.linalg.inv(cov)
        block, cross = precision[np.ix_(~known, ~known)], precision[np.ix_(~known, known)]
        expected = mean[~known] - np.linalg.inv(block) @ cross @ (values[known] - mean[known])
        np.testing.assert_allclose(conditional.means[k], expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(conditional.full_cov[k], np.linalg.inv(block), rtol=1e-9, atol=1e-9)
        marginal = multivariate_normal(mean[known], cov[np.ix_(known, known)])
        weights.append(float(target.weights[k]) * marginal.pdf(values[known]))
    np.testing.assert_allclose(conditional.weights, np.array(weights) / sum(weights), rtol=1e-9, atol=1e-12)


def test_conditional_of_a_gaussian_is_a_gaussian():
    conditional = _targets(3)["gaussian"].conditional([0.0, 1.0, 0.0], [False, True, False])
    assert isinstance(conditional, Gaussian)
    assert conditional.mean.shape == (2,)


# --- Samples

COUNT = 20_000
BOUND = 5.0  # standard errors: with the few hundred numbers compared here, one is off by chance in 10⁴ suites


def _assert_moments(samples, mean, cov):
    """Mean and covariance of ``samples`` within BOUND of their own standard errors."""
    away = samples - mean
    error = away.std(0) / math.sqrt(len(samples))
    assert float(((samples.mean(0) - mean).abs() / error).max()) < BOUND
    products = away[:, :, None] * away[:, None]
    error = products.std(0) / math.sqrt(len(samples))
    assert float(((products.mean(0) - cov).abs() / error).max()) < BOUND


def _moments(target, alpha=1.0, sigma=0.0):
    """Mean and covariance of a mixture's noisy law; α and σ numbers or of length d."""
    mean = (target.weights[:, None] * target.means).sum(0)
    away = target.means - mean
    spread = target.full_cov + away[:, :, None] * away[:, None]
    cov = (target.weights[:, None, None] * spread).sum(0)
    alpha, sigma = (torch.as_tensor(t, dtype=DOUBLE).expand(target.dim) for t in (alpha, sigma))
    return alpha * mean, alpha[:, None] * cov * alpha + torch.diag(sigma**2)


@every_kind
@pytest.mark.parametrize(
    ("alpha", "sigma"),
    [(1.0, 0.0), (0.6, 0.8), ([1.0, 0.2, 0.0], [0.0, 1.0, 2.0])],
    ids=["clean", "noisy", "per coordinate"],
)
def test_samples_have_the_mean_and_covariance_of_the_noisy_law(kind, alpha, sigma):
    target, level = _targets(3)[kind], NoiseLevel(alpha, sigma)
    samples = target.sample(COUNT, torch.Generator().manual_seed(4), level)
    _assert_moments(samples, *_moments(target, alpha, sigma))


def test_each_sample_may_have_its_own_level():
    target = _targets(3)["full"]
    half = COUNT // 2
    alpha = torch.tensor([1.0, 0.3], dtype=DOUBLE).repeat(half)[:, None]
    sigma = torch.tensor([0.1, 2.0], dtype=DOUBLE).repeat(half)[:, None]
    samples = target.sample(COUNT, torch.Generator().manual_seed(5), NoiseLevel(alpha, sigma))
    for first in (0, 1):
        _assert_moments(samples[first::2], *_moments(target, float(alpha[first]), float(sigma[first])))


def test_components_are_drawn_by_their_weights():
    target = GaussianMixture([[0.0], [10.0], [20.0]], 1e-6, [1.0, 0.0, 3.0])
    component = (target.sample(COUNT, torch.Generator().manual_seed(6))[:, 0] / 10).round().long()
    counts = component.bincount(minlength=3)
    assert int(counts[1]) == 0
    assert abs(int(counts[0]) - COUNT / 4) < BOUND * math.sqrt(COUNT * 3 / 16)  # binomial


@every_kind
def test_conditional_samples_have_the_moments_of_the_conditional_of_their_row(kind):
    target, known = _targets(3)[kind], torch.tensor([False, True, False])
    choices = torch.tensor([[math.nan, 1.0, math.nan], [math.nan, -2.0, math.nan]], dtype=DOUBLE)
    values = choices.repeat(COUNT, 1)  # 40,000 rows, in several pieces
    samples = target.sample_conditional(values, known, torch.Generator().manual_seed(7))
    assert torch.equal(samples[:, 1], values[:, 1])
    for first in (0, 1):
        conditional = target.conditional(choices[first], known)
        _assert_moments(samples[first::2][:, ~known], *_moments(conditional))


def test_conditional_samples_of_marginal_values_are_samples_of_the_joint_law():
    target = _targets(3)["full"]
    generator = torch.Generator().manual_seed(8)
    values = target.sample(COUNT, generator)
    samples = target.sample_conditional(values, torch.tensor([True, False, False]), generator)
    _assert_moments(samples, *_moments(target))
    assert not bool((samples[:, 1:] == values[:, 1:]).any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_come_in_the_dtype_asked_for(dtype):
    target = _targets(3)["full"]
    generator = torch.Generator().manual_seed(9)
    values = target.sample(5, generator, dtype=dtype)
    assert values.dtype == dtype
    assert target.sample_conditional(values, [True, False, True], generator).dtype == dtype


@every_kind
def test_samples_depend_on_the_generator_alone_and_leave_the_global_one(kind):
    target, before = _targets(3)[kind], torch.random.get_rng_state()
    first, again, other = (target.sample(10, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    conditional = [
        target.sample_conditional(first, [True, False, True], torch.Generator().manual_seed(1)) for _ in range(2)
    ]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(*conditional)
    assert torch.equal(torch.random.get_rng_state(), before)


# --- Checks


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (([0.0, 1.0], 1.0), r"means must have shape \(K, d\), got \(2,\)"),
        ((torch.zeros(0, 2), 1.0), r"means must have shape \(K, d\), got \(0, 2\)"),
        (([[0.0, 0.0]], [1.0, 2.0]), r"cov must be a number or of shape \(1,\) or \(1, 2, 2\)"),
        (([[0.0, 0.0]], torch.eye(2)), r"of shape \(1,\) or \(1, 2, 2\), got \(2, 2\)"),
        (([[0.0, 0.0]], torch.eye(3)[None]), r"got \(1, 3, 3\)"),
        (([[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]]), "cov must be symmetric"),
        (([[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]]), "positive definite, its smallest eigenvalue is -1"),
        (([[0.0, 0.0]], 0.0), "positive definite, its smallest eigenvalue is 0"),
        (([[0.0], [1.0]], [1.0, -1.0]), "positive definite"),
        (([[0.0], [1.0]], math.nan), "positive definite"),
        (([[0.0], [1.0]], 1.0, [1.0]), "weights must be 2 non-negative numbers, not all zero"),
        (([[0.0], [1.0]], 1.0, [2.0, -1.0]), "weights must be 2 non-negative"),
        (([[0.0], [1.0]], 1.0, [0.0, 0.0]), "weights must be 2 non-negative"),
        (([[0.0], [1.0]], 1.0, [math.nan, 1.0]), "weights must be 2 non-negative"),
    ],
)
def test_what_is_no_mixture_is_refused(arguments, told):
    with pytest.raises(ValueError, match=told):
        GaussianMixture(*arguments)


@pytest.mark.parametrize(("mean", "cov"), [([[0.0]], 1.0), ([0.0, 0.0], [1.0, 1.0]), ([0.0, 0.0], [[1.0]])])
def test_what_is_no_gaussian_is_refused_with_the_shapes(mean, cov):
    with pytest.raises(ValueError, match=r"mean must have shape \(d,\) and cov be a number or of shape \(d, d\), got"):
        Gaussian(mean, cov)


def test_weights_are_normalised_and_equal_by_default():
    assert GaussianMixture([[0.0], [1.0]], 1.0, [1.0, 3.0]).weights.tolist() == [0.25, 0.75]
    assert GaussianMixture([[0.0], [1.0]], 1.0).weights.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("shape", [(3,), (5, 2), (1, 5, 3)])
def test_points_of_another_shape_are_refused_with_both_shapes(shape):
    target = _targets(3)["full"]
    for method in (target.log_prob, target.score):
        with pytest.raises(ValueError, match=r"x must have shape \(B, 3\), got \(" + ", ".join(map(str, shape))):
            method(torch.zeros(shape, dtype=DOUBLE), NoiseLevel(1.0, 1.0))


@pytest.mark.parametrize("known", [[True, True, True], [False, False, False], [True, False]])
def test_conditioning_on_all_none_or_another_number_of_coordinates_is_refused(known):
    target = _targets(3)["full"]
    with pytest.raises(ValueError, match="known must be 3 booleans, some True and some False"):
        target.conditional([0.0, 0.0, 0.0], known)
    with pytest.raises(ValueError, match="known must be 3 booleans, some True and some False"):
        target.sample_conditional(torch.zeros(2, 3), known)

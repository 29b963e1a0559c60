"""The benchmark problems: the star, the two divergences and their floors."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, multivariate_normal, norm

from lanpaint_toys.gaussian import Gaussian, GaussianMixture
from lanpaint_toys.problems import (
    PROBLEMS,
    ar1,
    gauss2,
    gaussian_kl,
    histogram_kl,
    mode_coverage,
    moons,
    star500,
    star_line,
    star_outline,
    stiff,
    stray,
)

DOUBLE = torch.float64

# --- The star


def _walk(points):
    """Points at the middle of equal arcs, found by walking along the outline side by side."""
    vertices = [(2.0 if k % 2 == 0 else 0.8) * np.exp(1j * (math.pi / 2 + k * math.pi / 5)) for k in range(10)]
    vertices.append(vertices[0])
    lengths = [abs(b - a) for a, b in itertools.pairwise(vertices)]
    arc, found, side, passed = sum(lengths) / points, [], 0, 0.0
    for index in range(points):
        target = (index + 0.5) * arc
        while passed + lengths[side] < target:
            passed += lengths[side]
            side += 1
        direction = (vertices[side + 1] - vertices[side]) / lengths[side]
        found.append(vertices[side] + (target - passed) * direction)
    return np.stack([np.real(found), np.imag(found)], axis=1)


@pytest.mark.parametrize("points", [10, 30, 137, 500])
def test_star_points_are_at_the_middle_of_equal_arcs_of_the_outline(points):
    np.testing.assert_allclose(star_outline(points), _walk(points), rtol=0, atol=1e-12)


def test_star_has_ten_equal_sides_that_meet_at_two_radii_in_turn():
    sides = star_outline(500).reshape(10, 50, 2)
    gaps = sides.diff(dim=1)
    directions = gaps[:, :1] / gaps[:, :1].norm(dim=2, keepdim=True)
    lengths = gaps.norm(dim=2)
    torch.testing.assert_close(lengths, lengths[0, 0].expand_as(lengths), rtol=1e-12, atol=0)  # equally dense
    torch.testing.assert_close(gaps, lengths[..., None] * directions, rtol=1e-10, atol=1e-12)  # and straight
    # Half a gap before its first point each side begins, where the one before it has ended.
    starts, ends = sides[:, 0] - gaps[:, 0] / 2, sides[:, -1] + gaps[:, -1] / 2
    torch.testing.assert_close(ends, starts.roll(-1, dims=0), rtol=0, atol=1e-12)
    torch.testing.assert_close(starts.norm(dim=1), torch.tensor([2.0, 0.8] * 5, dtype=DOUBLE), rtol=1e-12, atol=0)
    angles = torch.atan2(starts[:, 1], starts[:, 0])
    assert float(angles[0]) == pytest.approx(math.pi / 2, abs=1e-12)
    turns = (angles.roll(-1) - angles) % (2 * math.pi)
    torch.testing.assert_close(turns, torch.full((10,), math.pi / 5, dtype=DOUBLE), rtol=1e-10, atol=0)


def test_star_lies_between_its_two_radii():
    radii = star_outline(500).norm(dim=1)
    assert 0.8 <= float(radii.min()) < 0.82
    assert 1.97 < float(radii.max()) <= 2.0


def test_star_problem_is_500_narrow_gaussians_of_equal_weight_on_the_outline():
    target = star500().target
    assert torch.equal(target.means, star_outline(500))
    torch.testing.assert_close(target.full_cov[17], 0.0025 * torch.eye(2, dtype=DOUBLE), rtol=1e-12, atol=0)
    torch.testing.assert_close(target.weights, torch.full((500,), 1 / 500, dtype=DOUBLE), rtol=1e-12, atol=0)


# --- Divergence of Gaussians


def _with_moments(mean, cov, count=40):
    """Samples whose mean and (unbiased) covariance are exactly these."""
    noise = np.random.default_rng(0).normal(size=(count, len(mean)))
    noise -= noise.mean(0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise.T))).T
    return torch.from_numpy(white @ np.linalg.cholesky(cov).T + mean)


TRUE_MEAN, TRUE_COV = np.array([0.5, -1.0]), np.array([[1.0, 0.8], [0.8, 2.0]])


def test_divergence_is_zero_for_samples_with_the_moments_of_the_target():
    target = Gaussian(TRUE_MEAN, TRUE_COV)
    assert gaussian_kl(_with_moments(TRUE_MEAN, TRUE_COV), target) == pytest.approx(0.0, abs=1e-13)


@pytest.mark.parametrize(
    ("mean", "cov"),
    [
        ([0.5, -1.0], [[3.0, 0.0], [0.0, 0.1]]),
        ([2.0, 0.0], [[1.0, 0.8], [0.8, 2.0]]),
        ([-1.0, 4.0], [[0.5, -0.2], [-0.2, 0.3]]),
    ],
)
def test_divergence_of_samples_is_that_of_the_gaussian_with_their_moments(mean, cov):
    mean, cov = np.array(mean), np.array(cov)
    # By integration over the fitted density: the trapezium rule on a smooth integrand with its tails inside.
    axes = [m + np.linspace(-12, 12, 801) * math.sqrt(v) for m, v in zip(mean, np.diag(cov), strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    fitted, true = multivariate_normal(mean, cov), multivariate_normal(TRUE_MEAN, TRUE_COV)
    cell = (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])
    expected = float((fitted.pdf(grid) * (fitted.logpdf(grid) - true.logpdf(grid))).sum() * cell)
    got = gaussian_kl(_with_moments(mean, cov), Gaussian(TRUE_MEAN, TRUE_COV))
    assert got == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("shift", [0.1, 3.0])
def test_divergence_of_a_shift_is_half_its_square_in_units_of_the_target(shift):
    samples = _with_moments(TRUE_MEAN + np.array([shift, 0.0]), TRUE_COV)
    precision = 2.0 / (1.0 * 2.0 - 0.8**2)  # upper left entry of the inverse covariance
    assert gaussian_kl(samples, Gaussian(TRUE_MEAN, TRUE_COV)) == pytest.approx(shift**2 * precision / 2, rel=1e-10)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_divergence_sees_a_variance_that_is_wrong_by_a_tenth(factor):
    samples = _with_moments(TRUE_MEAN, factor * TRUE_COV)
    expected = factor - 1 - math.log(factor)  # d/2 (f − 1 − log f), d = 2
    assert gaussian_kl(samples, Gaussian(TRUE_MEAN, TRUE_COV)) == pytest.approx(expected, rel=1e-9)


# --- Divergence of histograms

MIXTURE = GaussianMixture([[-1.0, 0.5], [1.2, -0.7]], [0.04, 0.25], [0.3, 0.7])  # all of it within [−4, 4]²


def _masses(bins, edge, target=MIXTURE):
    """Mass of the target in each square, [first coordinate, second], by Gauss–Legendre quadrature of the density."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    width = 2 * edge / bins
    left = -edge + width * np.arange(bins)
    axis = (left[:, None] + width * (nodes + 1) / 2).ravel()
    grid = torch.from_numpy(np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2))
    density = target.log_prob(grid).exp().numpy().reshape(bins, 12, bins, 12)
    return np.einsum("iajb,a,b->ij", density, weights, weights) * (width / 2) ** 2


def _centres(bins, edge, index):
    return torch.as_tensor(-edge + 2 * edge / bins * (np.asarray(index, dtype=float) + 0.5))


@pytest.mark.parametrize("square", [(3, 8), (8, 3), (0, 11), (6, 6)])
def test_all_samples_in_one_square_diverge_by_the_logarithm_of_its_mass(square):
    bins, edge = 12, 4.0
    masses = _masses(bins, edge)
    assert masses.sum() == pytest.approx(1.0, abs=1e-7)
    samples = _centres(bins, edge, square)[None].repeat(100, 1)
    counted = np.zeros((bins, bins))
    counted[square] = 1.0
    p, q = ((m + 1e-7) / (m + 1e-7).sum() for m in (counted, masses / masses.sum()))
    expected = float((p * np.log(p / q)).sum())
    assert expected > 0.5
    assert histogram_kl(samples, MIXTURE, bins, edge) == pytest.approx(expected, rel=1e-6)


def test_histogram_of_the_exact_masses_does_not_diverge():
    bins, edge, count = 10, 4.0, 1_000_000
    masses = _masses(bins, edge)
    counts = np.rint(masses * count).astype(int)
    index = np.repeat(np.argwhere(np.ones((bins, bins), dtype=bool)), counts.ravel(), axis=0)
    divergence = histogram_kl(_centres(bins, edge, index), MIXTURE, bins, edge)
    # Rounding a count changes a mass by δ ≤ 1/(2·10⁶), which costs at most about δ²/(mass + 1e-7) in each square.
    bound = float(((0.5 / count) ** 2 / (masses + 1e-7)).sum())
    assert bound < 2e-4
    assert 0 <= divergence < bound


def test_exact_masses_are_the_frequencies_of_samples():
    # KL ≤ χ² bound: with exact samples 2 N KL is about χ² with as many degrees of freedom as squares in use, below 144.
    count = 400_000
    samples = MIXTURE.sample(count, torch.Generator().manual_seed(0))
    divergence = histogram_kl(samples, MIXTURE, 12, 4.0)
    assert 0 < 2 * count * divergence < 144 + 5 * math.sqrt(2 * 144)


def test_samples_outside_count_in_the_outermost_squares():
    edge, bins = 4.0, 12
    outside = torch.tensor([[1e3, 0.1], [-5.0, 4.5], [0.1, -1e300], [1e300, 1e300]], dtype=DOUBLE)
    last = _centres(bins, edge, [0, bins - 1])
    inside = torch.stack(
        [
            torch.stack([last[1], outside[0, 1]]),
            torch.stack([last[0], last[1]]),
            torch.stack([outside[2, 0], last[0]]),
            torch.stack([last[1], last[1]]),
        ]
    )
    for far, near in zip(outside, inside, strict=True):
        got, expected = (histogram_kl(one[None], MIXTURE, bins, edge) for one in (far, near))
        assert got == pytest.approx(expected, rel=1e-12)


def test_mirrored_samples_diverge_from_a_target_that_is_not_symmetric():
    samples = MIXTURE.sample(20_000, torch.Generator().manual_seed(1))
    exact = histogram_kl(samples, MIXTURE, 20, 4.0)
    for wrong in (samples.flip(1), -samples, samples * torch.tensor([1.0, -1.0])):
        assert histogram_kl(wrong, MIXTURE, 20, 4.0) > 1.0 > 50 * exact


# --- Floors


def test_floor_of_the_fitted_gaussian_is_five_halves_over_the_number_of_samples():
    problem, repeats = gauss2(), 300
    generator = torch.Generator().manual_seed(2)
    for count in (500, 2000):
        floors = torch.tensor([problem.floor(count, generator) for _ in range(repeats)], dtype=DOUBLE)
        # 2 N KL tends to χ² with d(d + 3)/2 = 5 degrees of freedom: mean 5, variance 10. Five standard errors, and
        # the next order of the mean, below 1/50 of it at these N.
        assert abs(float(2 * count * floors.mean()) - 5) < 5 * math.sqrt(10 / repeats) + 0.1


@pytest.mark.parametrize("name", ["gaussian", "star"])
def test_floors_are_positive_and_shrink_like_one_over_the_number_of_samples(name):
    problem, generator = PROBLEMS[name](), torch.Generator().manual_seed(3)
    fewest, repeats = {"gaussian": (2_000, 400), "star": (20_000, 3)}[name]
    few, many = (sum(problem.floor(n, generator) for _ in range(repeats)) / repeats for n in (fewest, 4 * fewest))
    assert many > 0
    # A factor of 4, less what rarely visited squares take from it, with room for chance: 2 N KL is about χ² with ν = 5
    # for the Gaussian and hundreds of squares for the star, so the ratio's relative standard error √(4/ν/repeats) is
    # below 5 % in both.
    assert 3.0 < few / many < 5.0


def test_floor_of_a_histogram_is_below_its_bound():
    problem, generator = star500(), torch.Generator().manual_seed(4)
    for count in (1_000, 20_000):
        # E KL(histogram ‖ exact) ≤ log(1 + (k − 1)/N) for k squares (Paninski, 2003, Prop. 1).
        assert 0 < problem.floor(count, generator) < math.log1p(2499 / count)


# --- Observations


def _marginal_cdf(target, index):
    def cdf(y):
        deviations = target.full_cov[:, index, index].sqrt().numpy()
        return (norm.cdf((y[:, None] - target.means[:, index].numpy()) / deviations) * target.weights.numpy()).sum(1)

    return cdf


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name != "star-line"])
def test_observed_values_follow_the_marginal_of_the_known_coordinates(name):
    problem = PROBLEMS[name]()
    values, known = problem.observe(4_000, torch.Generator().manual_seed(5))
    assert known.tolist() == problem.known.tolist()
    assert 0 < int(known.sum()) < len(known)
    assert values.shape == (4_000, len(known))
    assert values.dtype == DOUBLE
    assert not bool(values[:, ~known].any())  # what is unknown is not given away
    for index in known.nonzero()[:, 0].tolist()[:2]:
        cdf = _marginal_cdf(problem.target, index)
        assert kstest(values[:, index].numpy(), cdf).pvalue > 1e-3
        # … which tells the marginal from one that is wrong by a fifth.
        assert kstest(1.2 * values[:, index].numpy(), cdf).pvalue < 1e-3


def test_a_line_has_one_value_known_and_the_exact_law_of_the_other():
    problem = star_line(1.55)
    values, known = problem.observe(50, torch.Generator().manual_seed(5))
    assert known.tolist() == [False, True]
    assert set(values[:, 1].tolist()) == {1.55}
    # The density of x given y, from the joint one on a fine grid.
    x = torch.linspace(-2.5, 2.5, 20_001, dtype=DOUBLE)
    density = problem.target.log_prob(torch.stack([x, torch.full_like(x, 1.55)], 1)).exp()
    cdf = (density.cumsum(0) / density.sum()).numpy()
    samples = problem.draw(4_000, torch.Generator().manual_seed(6))
    assert kstest(samples[:, 0].numpy(), lambda points: np.interp(points, x.numpy(), cdf)).pvalue > 1e-3
    # All samples in the bin [−0.1, 0): the divergence is the logarithm of its mass.
    mass = float(density[(x >= -0.1) & (x < 0)].sum() / density.sum())
    inside = torch.tensor([[-0.05, 1.55]], dtype=DOUBLE).expand(100, 2)
    assert problem.divergence(inside) == pytest.approx(-math.log(mass), rel=5e-3)


def test_covariances_are_what_the_names_say():
    cov = ar1().target.full_cov[0]
    assert cov.shape == (16, 16)
    assert float(cov[2, 7]) == pytest.approx(0.9**5, rel=1e-12)
    eigenvalues = torch.linalg.eigvalsh(stiff(24, 1000, 2).target.full_cov[0])
    ratios = eigenvalues[1:] / eigenvalues[:-1]
    torch.testing.assert_close(ratios, torch.full_like(ratios, 1000 ** (1 / 23)), rtol=1e-8, atol=0)
    assert float(eigenvalues[-1]) == pytest.approx(1, rel=1e-8)
    upper, lower = moons().target.means.split(60)
    torch.testing.assert_close((upper - torch.tensor([-0.5, -0.25])).norm(dim=1), torch.ones(60, dtype=DOUBLE))
    torch.testing.assert_close((lower - torch.tensor([0.5, 0.25])).norm(dim=1), torch.ones(60, dtype=DOUBLE))


# --- Modes

TRIO = GaussianMixture([[-3.0, 0.0], [0.0, 0.0], [3.0, 0.0]], [[[0.04, 0.0], [0.0, 0.01]]] * 3, [0.5, 0.3, 0.2])


def test_modes_are_covered_by_a_tenth_of_their_due():
    def samples(*counts):
        return TRIO.means.repeat_interleave(torch.tensor(counts), 0)

    assert mode_coverage(samples(500, 300, 200), TRIO) == 1
    assert mode_coverage(samples(950, 30, 20), TRIO) == 1
    assert mode_coverage(samples(951, 29, 20), TRIO) == pytest.approx(2 / 3)
    assert mode_coverage(samples(1000, 0, 0), TRIO) == pytest.approx(1 / 3)


def test_strays_are_outside_of_every_ellipsoid():
    """In the plane the ellipsoid of mass p has the squared radius −2 ln(1 − p)."""
    radius = math.sqrt(-2 * math.log(0.003))
    for factor, outside in ((0.999, False), (1.001, True)):
        reach = radius * factor
        samples = torch.tensor([[reach * 0.2, 0.0], [3.0, -reach * 0.1], [-3.0 + reach * 0.2, 0.0]], dtype=DOUBLE)
        assert stray(samples, TRIO).tolist() == [outside] * 3
    exact = stray(TRIO.sample(40_000, torch.Generator().manual_seed(8)), TRIO).double().mean()
    assert abs(float(exact) - 0.003) < 5 * math.sqrt(0.003 / 40_000)


@pytest.mark.parametrize("name", PROBLEMS)
def test_observations_and_floors_depend_on_the_generator_alone(name):
    problem, before = PROBLEMS[name](), torch.random.get_rng_state()
    first, again = (problem.observe(20, torch.Generator().manual_seed(6))[0] for _ in range(2))
    assert torch.equal(first, again)
    floors = [problem.floor(100, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert floors[0] == floors[1]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_two_gaussians_are_correlated_by_four_fifths():
    cov = [[1.0, 0.8], [0.8, 1.0]]
    problem = gauss2()
    assert problem.target.full_cov[0].tolist() == cov
    assert problem.divergence(_with_moments(np.zeros(2), np.array(cov))) == pytest.approx(0, abs=1e-13)

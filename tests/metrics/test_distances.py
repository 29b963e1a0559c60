"""Distances between samples: against their definitions, closed forms, and the level of their p-values."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm, wasserstein_distance

from lanpaint.metrics import energy_distance, mmd, sliced_wasserstein


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _draw(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=_generator(seed), dtype=torch.float64) + shift


def _by_definition(x, y, k):
    """The U-statistic, term by term."""
    n, total = len(x), 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                total += k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(y[i], x[j])
    return total / (n * (n - 1))


def test_mmd_and_energy_distance_are_their_definitions():
    x, y = _draw(9, 3, 0), _draw(9, 3, 1, 0.4)
    width = 0.7
    expected = _by_definition(x, y, lambda a, b: math.exp(-float((a - b).square().sum()) / (2 * width**2)))
    assert mmd(x, y, bandwidth=width).value == pytest.approx(expected, rel=1e-12)
    expected = _by_definition(x, y, lambda a, b: -float((a - b).norm()))
    assert energy_distance(x, y).value == pytest.approx(expected, rel=1e-12)


def test_the_bandwidth_is_the_median_distance():
    x, y = _draw(30, 2, 2), _draw(30, 2, 3, 1.0)
    both = torch.cat([x, y])
    median = float(np.median([float((both[i] - both[j]).norm()) for i in range(60) for j in range(i)]))
    near = [mmd(x, y, bandwidth=b).value for b in (0.98 * median, 1.02 * median)]
    assert min(near) <= mmd(x, y).value <= max(near)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_estimates_are_unbiased(shift):
    """Their means over many sets are the closed forms for two unit Gaussians, within five standard errors."""
    width, n, repeats = 1.3, 40, 400
    kernels, energies = [], []
    for seed in range(repeats):
        x, y = _draw(n, 1, seed), _draw(n, 1, 10_000 + seed, shift)
        kernels.append(mmd(x, y, bandwidth=width, permutations=19).value)
        energies.append(energy_distance(x, y, permutations=19).value)
    # E exp(−D²/(2h²)) for D ~ N(m, 2) is √(h²/(h² + 2)) exp(−m²/(2(h² + 2))).
    scale = math.sqrt(width**2 / (width**2 + 2))
    true_kernel = 2 * scale * (1 - math.exp(-(shift**2) / (2 * (width**2 + 2))))
    # E|D| for D ~ N(m, 2)
    root = math.sqrt(2)
    apart = root * math.sqrt(2 / math.pi) * math.exp(-(shift**2) / 4) + shift * (1 - 2 * norm.cdf(-shift / root))
    true_energy = 2 * apart - 2 * 2 / math.sqrt(math.pi)
    for values, true in ((kernels, true_kernel), (energies, true_energy)):
        assert abs(np.mean(values) - true) < 5 * np.std(values) / math.sqrt(repeats)


@pytest.mark.parametrize("test", [mmd, energy_distance])
def test_the_error_is_the_spread_of_the_estimate_over_many_draws(test):
    found = [test(_draw(150, 2, 2 * seed), _draw(150, 2, 2 * seed + 1, 0.8), permutations=19) for seed in range(200)]
    spread = np.std([one.value for one in found])
    told = np.mean([one.error for one in found])
    assert told == pytest.approx(spread, rel=0.2)  # 1/√400 = 5 % of sampling error, four of them


def test_the_error_is_its_formula():
    """2/√n times the standard deviation of h̄_i, the mean over j ≠ i of k(x_i, x_j) + k(y_i, y_j) − k(x_i, y_j) − …."""
    x, y = _draw(7, 2, 4), _draw(7, 2, 5, 0.6)
    rows = []
    for i in range(7):
        others = [j for j in range(7) if j != i]
        terms = [
            (x[i] - y[j]).norm() + (y[i] - x[j]).norm() - (x[i] - x[j]).norm() - (y[i] - y[j]).norm() for j in others
        ]
        rows.append(float(sum(terms)) / 6)
    assert energy_distance(x, y).error == pytest.approx(2 * np.std(rows, ddof=1) / math.sqrt(7), rel=1e-12)


def test_with_its_own_bandwidth_mmd_does_not_depend_on_the_unit_of_the_samples():
    x, y = _draw(9, 3, 0), _draw(9, 3, 1, 0.4)
    for unit in (1e-3, 1e3):
        assert mmd(unit * x, unit * y).value == pytest.approx(mmd(x, y).value, rel=1e-9)


@pytest.mark.parametrize("test", [mmd, energy_distance])
def test_p_values_are_uniform_for_equal_laws_and_small_for_others(test):
    """Also for pairs that share a coordinate, as an answer and its truth share what is known."""
    values, floors = [], []
    for seed in range(200):
        x, y = _draw(30, 2, seed), _draw(30, 2, 20_000 + seed)
        y[:, 1] = x[:, 1]
        found = test(x, y, permutations=99, generator=_generator(seed))
        values.append(found.p_value)
        floors.append(found.value > found.floor)
    assert kstest(values, "uniform").pvalue > 1e-3
    assert 0.01 < np.mean(floors) < 0.11  # 5 %, with four standard errors of 200 draws
    x, y = _draw(200, 2, 1), _draw(200, 2, 2, 1.0)
    y[:, 1] = x[:, 1]
    assert test(x, y).p_value == pytest.approx(1 / 501)


def test_at_most_so_many_pairs_are_used():
    x, y = _draw(50, 2, 4), _draw(50, 2, 5)
    assert mmd(x, y, at_most=20) == mmd(x[:20], y[:20])


def test_sliced_wasserstein_in_one_dimension_is_wasserstein():
    x, y = _draw(70, 1, 6), _draw(70, 1, 7, 0.3)
    assert sliced_wasserstein(x, y) == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0]), rel=1e-12)


def test_sliced_wasserstein_of_a_shift():
    """By a vector m: E|m·u| over directions u, which in the plane is 2|m|/π. 4,000 directions: 1.5 % at two sigma."""
    x, m = _draw(40, 2, 8), torch.tensor([3.0, -4.0], dtype=torch.float64)
    assert sliced_wasserstein(x, x + m, directions=4000) == pytest.approx(2 * 5 / math.pi, rel=0.02)
    assert sliced_wasserstein(x, x) == 0


def test_images_count_as_vectors():
    x, y = _draw(20, 12, 9), _draw(20, 12, 10)
    for distance in (mmd, energy_distance, sliced_wasserstein):
        assert distance(x.reshape(20, 3, 2, 2), y.reshape(20, 3, 2, 2)) == distance(x, y)


@pytest.mark.parametrize(
    ("x", "y", "options", "told"),
    [
        (
            torch.zeros(3, 2),
            torch.zeros(4, 2),
            {},
            r"two sets of n ≥ 2 samples of one shape, got \(3, 2\) and \(4, 2\)",
        ),
        (torch.zeros(1, 2), torch.zeros(1, 2), {}, "n ≥ 2"),
        (torch.full((3, 2), math.nan), torch.zeros(3, 2), {}, "NaN or infinite"),
        (torch.zeros(3, 2), torch.zeros(3, 2), {"bandwidth": 0.0}, "bandwidth must be positive, got 0"),
        (torch.zeros(3, 2), torch.zeros(3, 2), {"permutations": 5}, "permutations must be at least 19"),
    ],
)
def test_mistakes_are_told(x, y, options, told):
    with pytest.raises(ValueError, match=told):
        mmd(x, y, **options)


def test_equal_points_have_a_bandwidth_all_the_same():
    assert mmd(torch.zeros(5, 2), torch.zeros(5, 2)).value == 0

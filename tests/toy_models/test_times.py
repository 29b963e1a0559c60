"""Maps of times: the law of each pixel's time, and the mean, the spread and the spatial scale of a map (App. C)."""

import math

import pytest
import torch

from lanpaint_toys.times import (
    TIMES,
    AsyncPatchTimes,
    IndependentTimes,
    MixedTimes,
    PatchTimes,
    PathTimes,
    PerlinTimes,
    SynchronousTimes,
    mean_and_spread,
    perlin_noise,
    pixel_weights,
    scale_of,
)

COUNT, SIZE = 2500, (8, 8)


def _draw(times, count=COUNT, size=SIZE):
    return times.draw(count, size, torch.Generator().manual_seed(0))


def _distance(values, cdf):
    """Kolmogorov's distance of values to a distribution; above 1.95/√n once in a thousand times."""
    ordered = values.double().sort().values
    ranks = torch.arange(len(ordered) + 1, dtype=torch.float64) / len(ordered)
    at = cdf(ordered)
    return float(torch.maximum((ranks[1:] - at).abs(), (at - ranks[:-1]).abs()).max())


def _bound(count=COUNT):
    return 1.95 / count**0.5


@pytest.mark.parametrize("name", TIMES)
def test_maps_are_times_of_the_size_that_is_asked_for_and_follow_the_generator(name):
    maps = [TIMES[name].draw(5, (6, 9), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert maps[0].shape == (5, 1, 6, 9)
    assert maps[0].dtype == torch.float32
    assert float(maps[0].min()) >= 0
    assert float(maps[0].max()) <= 1
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


@pytest.mark.parametrize("times", [IndependentTimes(), PatchTimes()], ids=lambda times: type(times).__name__)
def test_a_pixel_of_independent_or_patchwise_times_is_uniform(times):
    assert _distance(_draw(times)[:, 0, 3, 5], lambda t: t) < _bound()


def test_synchronous_times_are_one_uniform_time():
    maps = _draw(SynchronousTimes())
    assert float(mean_and_spread(maps)[1].max()) == 0
    assert _distance(maps[:, 0, 3, 5], lambda t: t) < 1e-3  # one from each of COUNT equal parts


def test_a_pixel_of_asyncpatch_times_has_the_density_of_a_uniform_number_around_a_uniform_mean():
    """The density is −(log t + log(1 − t))/2: a mean m ≤ 1/2 gives U(0, 2m), and the other half is its mirror image."""
    t = _draw(AsyncPatchTimes())[:, 0, 3, 5]
    assert _distance(t, lambda t: (2 * t - t * t.log() + (1 - t) * torch.log1p(-t)) / 2) < _bound()


def test_means_of_independent_times_concentrate_and_those_of_asyncpatch_do_not():
    mean, spread = mean_and_spread(_draw(IndependentTimes()))
    assert float(mean.std()) == pytest.approx((1 / 12 / 64) ** 0.5, rel=0.05)
    assert float(spread.mean()) == pytest.approx(63 / 65, abs=0.002)  # of the range of 64 uniform numbers
    mean, spread = mean_and_spread(_draw(AsyncPatchTimes(scales=(1,))))
    assert float(mean.std()) == pytest.approx(12**-0.5, rel=0.03)
    # The range of 64 numbers in an interval of length 2 min(m, 1 − m), whose mean is 1/2.
    assert float(spread.mean()) == pytest.approx(63 / 65 / 2, abs=0.02)


def test_the_mean_of_asyncpatch_is_exact_in_expectation_and_scatters_with_few_patches():
    """Given m, a map of K patches has a mean of variance δ²/(3 K): for large K the mean is m itself, and uniform."""
    many = mean_and_spread(_draw(AsyncPatchTimes(scales=(1,))))[0]
    # m is drawn one from each of COUNT equal parts, in rising order.
    m = (torch.arange(COUNT) + 0.5) / COUNT
    delta = torch.minimum(m, 1 - m)
    assert float(((many - m) / (delta / (3 * 64) ** 0.5))[200:-200].std()) == pytest.approx(1, rel=0.05)
    one = _draw(AsyncPatchTimes(scales=(8,)))[:, 0, 0, 0]
    assert float(((one - m) / (delta / 3**0.5))[200:-200].std()) == pytest.approx(1, rel=0.05)


def test_bounds_of_asyncpatch_hold():
    t = _draw(AsyncPatchTimes(low=0.2, high=0.6), count=500)
    assert 0.2 <= float(t.min()) < 0.22
    assert 0.58 < float(t.max()) <= 0.6
    with pytest.raises(ValueError, match=r"0 ≤ low < high ≤ 1, got low 0\.5 and high 1\.5"):
        AsyncPatchTimes(0.5, 1.5)


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_patches_have_the_side_that_is_asked_for(side):
    scale = scale_of(_draw(PatchTimes(scales=(side,)), count=400, size=(32, 32)))
    assert float(1 / (1 / scale).mean()) == pytest.approx(side, rel=0.03)  # a grid line crosses 1/side of all pairs


def test_patches_range_from_one_pixel_to_the_whole_picture():
    maps = _draw(PatchTimes(), count=300)
    counts = {len(one.unique()) for one in maps}
    assert {1, 64} <= counts
    assert torch.isinf(scale_of(maps)).any()


def test_a_perlin_map_is_one_time_in_a_mask_and_clean_or_noise_elsewhere():
    maps = _draw(PerlinTimes(), count=600)
    inside = torch.where((maps == 0) | (maps == 1), torch.nan, maps).flatten(1)
    least, most = inside.nan_to_num(nan=2.0).amin(1), inside.nan_to_num(nan=-1.0).amax(1)
    assert torch.equal(least[least < 2], most[least < 2])  # one time in the mask
    background = maps.flatten(1)
    has = ((background == 0) | (background == 1)).any(1)
    clean, noise = (background == 0).any(1)[has].float(), (background == 1).any(1)[has].float()
    assert torch.equal(clean + noise, torch.ones_like(clean))  # never both
    assert abs(float(clean.mean()) - 0.5) < 3.3 * 0.5 / len(clean) ** 0.5
    share = inside.isfinite().float().mean(1)
    assert float(share.mean()) == pytest.approx(0.5, abs=0.04)
    assert float(share.std()) == pytest.approx(12**-0.5, rel=0.08)  # uniform
    assert _distance(least[least < 2], lambda t: t) < 0.03
    assert float((_draw(PerlinTimes(clean=1.0), count=50) == 1).float().sum()) == 0


def test_perlin_noise_is_smooth_with_the_length_of_its_cell_and_vanishes_at_gradients():
    generator = torch.Generator().manual_seed(0)
    fine, coarse = (torch.stack([perlin_noise((32, 32), cell, generator) for _ in range(60)]) for cell in (4, 16))
    for noise, cell in ((fine, 4), (coarse, 16)):
        correlation = (noise[:, :, :-cell] * noise[:, :, cell:]).mean() / noise.square().mean()
        assert abs(float(correlation)) < 0.15  # of points one cell apart
        near = (noise[:, :, :-1] * noise[:, :, 1:]).mean() / noise.square().mean()
        assert float(near) > 1 - 12 / cell**2
    assert float(coarse.abs().max()) <= 0.5**0.5 + 1e-6  # the bound of gradient noise in two dimensions


def test_the_paths_of_the_bound_have_uniform_times_under_their_weights():
    """The integral of f(t_j) over a path is ∫ f(t) dt for any patch: the average of w f(t_j) with the weights w."""
    times, weights = PathTimes(scales=(1,)).draw_weighted(4000, (4, 4), torch.Generator().manual_seed(0))
    for power in (0, 1, 3):
        values = (weights * times**power).flatten(1).mean(1)
        assert abs(float(values.mean()) - 1 / (power + 1)) < 4 * float(values.std()) / len(values) ** 0.5 + 2e-3
    # At a place s of the path, a time has the law of 1 − exp(−a s): patches of a map share s and nothing else.
    ratio = torch.log1p(-times.clamp(max=1 - 1e-6))
    ratio = (ratio[:, 0, 0, 0] / (ratio[:, 0, 0, 0] + ratio[:, 0, 1, 1])).double()
    assert _distance(ratio[ratio.isfinite()], lambda u: u) < _bound() + 0.005


def test_mixed_times_are_drawn_from_each_part_by_its_share():
    mixed = MixedTimes((PatchTimes(scales=(8,)), IndependentTimes()), (0.25, 0.75))
    flat = (mean_and_spread(_draw(mixed))[1] == 0).float()
    assert abs(float(flat.mean()) - 0.25) < 3.3 * math.sqrt(0.25 * 0.75 / COUNT)
    with pytest.raises(ValueError, match="sum to 1"):
        MixedTimes((PatchTimes(),), (0.5,))


def test_the_weighting_of_the_bound_is_that_of_the_error_of_clean_data():
    """½ |d SNR/dt| (x_0 error)² with x_0 error = t e and SNR = (1 − t)²/t²."""
    t = torch.linspace(0.05, 1, 20, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(((1 - t) / t).square().sum(), t)
    torch.testing.assert_close(pixel_weights(t, "elbo"), -slope / 2 * t**2)
    assert float(pixel_weights(torch.zeros(1), "elbo")) < math.inf
    with pytest.raises(ValueError, match="velocity, elbo"):
        pixel_weights(t, "snr")

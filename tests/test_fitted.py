"""A Gaussian process that is fitted to sequences with gaps: its score, its covariance, and what it cannot take."""

import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.fitted import FittedGaussian
from lanpaint_toys import Gaussian


def process(steps, count, channels=3, seed=0):
    """Channels of x_n = 0.8 x_{n−1} + noise, mixed, so that each has variance 1: cov_d = 0.8^d M, and M."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(count, steps + 100, channels)) * 0.6
    for n in range(1, steps + 100):
        noise[:, n] += 0.8 * noise[:, n - 1]
    mixing = np.linalg.cholesky(0.5 * np.eye(channels) + 0.5)
    return noise[:, 100:] @ mixing.T, mixing @ mixing.T


def covariance(model):
    """The covariance (C L, C L) of a window: the limit of x̂₀/α · σ²/α at much noise, by one unit vector each."""
    size, sigma = model.channels * model.length, 1e6
    units = torch.eye(size, dtype=torch.double).view(size, model.channels, model.length)
    level = lp.NoiseLevel(1.0, sigma)
    return (model.denoised(units, level) * sigma**2).flatten(1)


def with_gaps(values, steps, channels=slice(None)):
    values = values.copy()
    values[..., steps, channels] = np.nan
    return values


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_the_score_is_that_of_one_gaussian_at_every_level(monkeypatch, kept):
    monkeypatch.setattr("lanpaint.fitted._MOST", kept * 6)
    model = FittedGaussian(process(90, 1)[0], length=6)
    exact = Gaussian([0.0] * 18, covariance(model))
    x = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    for level in (lp.NoiseLevel(0.9, 0.4), lp.NoiseLevel(1.0, 3.0), lp.NoiseLevel(0.0, 1.0)):
        wanted = exact.predict(x.flatten(1), level).denoised.view_as(x)
        torch.testing.assert_close(model.denoised(x, level), wanted, rtol=1e-6, atol=1e-8)
    each = lp.NoiseLevel(*torch.tensor([[0.9, 0.5, 0.3, 1.0], [0.4, 0.5, 0.9, 2.0]])).per_sample(3)
    rows = [model.denoised(x[n : n + 1], lp.NoiseLevel(each.alpha[n], each.sigma[n])) for n in range(4)]
    torch.testing.assert_close(model.denoised(x, each), torch.cat(rows))


@pytest.mark.parametrize("gap", [None, (slice(400, 430), slice(None)), (slice(0, 700), slice(0, 1))])
def test_a_long_record_gives_the_covariances_of_its_process(gap):
    values, mixed = process(4000, 5)
    model = FittedGaussian(values if gap is None else with_gaps(values, *gap), length=8)
    at = np.arange(8)
    truth = torch.from_numpy(np.kron(mixed, 0.8 ** np.abs(at[:, None] - at)))
    found = covariance(model)
    # A correlation over 20,000 steps of this process has the standard error √((1 + 0.64)/(1 − 0.64)/20000) = 0.015.
    assert float((found - truth).abs().max()) < (0.06 if gap is None else 0.1)


@pytest.mark.parametrize("missing", [slice(0, 0), slice(40, 60), slice(45, 46)])
def test_covariances_are_of_a_stationary_process_and_keep_a_smooth_one_smooth(missing):
    t = np.arange(100) / 5
    values = with_gaps(np.stack([np.sin(t), np.cos(t) + 0.2 * np.sin(2 * t)], 1), missing)
    model = FittedGaussian(values, length=20)
    blocks = covariance(model).view(2, 20, 2, 20)
    torch.testing.assert_close(blocks[:, 1:, :, 1:], blocks[:, :-1, :, :-1], rtol=0, atol=3e-5)  # and its floor
    assert float(torch.linalg.eigvalsh(blocks.reshape(40, 40)).min()) > 0
    bend = blocks[0, :, 0].diff(n=2, dim=0).diff(n=2, dim=1).diagonal()  # variance of the second difference
    assert float(bend.max()) < 4 * (2 - 2 * np.cos(0.2)) ** 2  # a few times that of sin(t)


def test_windows_are_twice_as_long_as_the_longest_gap():
    values = np.sin(np.arange(500.0))[:, None]
    for gap, length in ((1, 64), (40, 80), (300, 256)):
        assert FittedGaussian(with_gaps(values, slice(100, 100 + gap))).length == length
    assert FittedGaussian(values[:30]).length == 30
    assert FittedGaussian(values, length=10).length == 10


def test_constants_are_kept_and_units_do_not_matter():
    t = np.arange(200.0)
    values = with_gaps(np.stack([np.sin(t / 4), np.full(200, 7.0)], 1), slice(30, 36))
    model = FittedGaussian(values)
    made = lp.complete_series(values, model)[0]
    np.testing.assert_allclose(made[30:36, 1], 7, atol=0.02)
    np.testing.assert_allclose(made[30:36, 0], np.sin(t / 4)[30:36], atol=0.15)  # a line is 0.34 off
    scaled = lp.complete_series(100 + 50 * values, FittedGaussian(100 + 50 * values))[0]
    np.testing.assert_allclose(scaled, 100 + 50 * made, atol=0.05)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.full((9, 2), np.nan), "all values are missing"),
        (with_gaps(np.ones((9, 2)), slice(1, None), 1), "channel_1 has 1 known values"),
        (np.full((9, 2), np.inf), "finite or NaN"),
        (np.ones((1, 1, 1, 1)), r"\(T, C\) or \(N, T, C\)"),
        (np.ones((0, 2)), r"\(T, C\) or \(N, T, C\)"),
    ],
)
def test_what_cannot_be_fitted_is_told(values, told):
    with pytest.raises(ValueError, match=told):
        FittedGaussian(values)


def test_settings_and_levels_that_cannot_be_are_told():
    with pytest.raises(ValueError, match="length"):
        FittedGaussian(np.ones((9, 2)), length=0)
    model = FittedGaussian(process(20, 1)[0])
    for shape in ((1, 1, 20), (20,), (1, 3, 1)):
        with pytest.raises(ValueError, match="one level for each sequence"):
            model.predict(torch.zeros(1, 3, 20), lp.NoiseLevel(torch.ones(shape), torch.ones(shape)))

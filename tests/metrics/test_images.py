"""Figures of merit of images: against their definitions."""

import math

import pytest
import torch

from lanpaint.metrics import image_figures, seam_shift


def _pair(side, seed=0, channels=1, count=3):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(count, channels, side, side, generator=generator) * 1.6 - 0.8
    return truth + 0.1 * torch.randn(truth.shape, generator=generator), truth


def _ssim_at(x, y, row, column, reach, sigma):
    """SSIM at one place, from weighted moments of brightness in [0, 1] (Wang et al., 2004)."""
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weight = torch.exp(-(offsets**2) / (2 * sigma**2))
    weight = weight[:, None] * weight / weight.sum() ** 2
    a, b = ((t[row - reach : row + reach + 1, column - reach : column + reach + 1].double() + 1) / 2 for t in (x, y))
    mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
    var_a, var_b = ((weight * t**2).sum() - m**2 for t, m in ((a, mean_a), (b, mean_b)))
    cov = (weight * a * b).sum() - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return float(top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))


@pytest.mark.parametrize(("side", "reach", "sigma"), [(40, 5, 1.5), (12, 2, 1.5 * 5 / 11)])
def test_ssim_on_the_hole_is_its_map_there(side, reach, sigma):
    x, truth = _pair(side)
    known = torch.ones(side, side, dtype=torch.bool)
    known[side // 2, side // 2 - 1 : side // 2 + 1] = False
    found = image_figures(x, truth, known)["ssim"]
    for image in range(3):
        at = [
            _ssim_at(x[image, 0].clamp(-1, 1), truth[image, 0], side // 2, c, reach, sigma)
            for c in (side // 2 - 1, side // 2)
        ]
        assert float(found[image]) == pytest.approx(sum(at) / 2, rel=1e-4)


def test_psnr_on_the_hole_and_on_the_whole():
    x, truth = _pair(16, channels=3)
    known = torch.zeros(16, 16, dtype=torch.bool)
    known[:, :8] = True
    x = torch.where(known, truth, x)
    found = image_figures(x, truth, known)
    error = (x.clamp(-1, 1) - truth)[..., 8:].square().flatten(1).mean(1)
    torch.testing.assert_close(found["psnr"], 10 * torch.log10(4 / error))
    torch.testing.assert_close(found["psnr_whole"], found["psnr"] + 10 * math.log10(2))  # half of it is perfect
    assert bool((found["ssim_whole"] > found["ssim"]).all())


def test_perfect_images_have_similarity_one_and_large_ones_five_scales():
    _, truth = _pair(176, channels=3, count=1)
    found = image_figures(truth, truth, torch.zeros(176, 176, dtype=torch.bool))
    assert float(found["ssim_whole"]) == pytest.approx(1, abs=1e-5)
    assert float(found["ms_ssim"]) == pytest.approx(1, abs=1e-5)
    assert "ms_ssim" not in image_figures(*_pair(100), torch.zeros(100, 100, dtype=torch.bool))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"two tensors \(B, C, H, W\)"):
        image_figures(torch.zeros(1, 1, 8, 8), torch.zeros(2, 1, 8, 8), torch.zeros(8, 8, dtype=torch.bool))


@pytest.mark.parametrize("shape", [(4, 4), (1, 1, 4, 4), (2, 1, 4, 4), (2, 3, 4, 4)])
def test_the_shift_at_the_seam_is_that_of_the_hole_s_pixels_beside_known_ones(shape):
    """Known are columns 0 and 1. Column 2 touches them, and is off by 0.2, 0.4 and 0 in its channels."""
    known = (torch.arange(4) < 2).expand(shape)
    truth = torch.zeros(2, 3, 4, 4)
    x = truth.clone()
    x[1, :, :, 2] = torch.tensor([0.2, -0.4, 0.0])[:, None]
    x[:, :, :, 3], x[:, :, :, 0] = 0.9, -0.9
    assert seam_shift(x, truth, known).tolist() == pytest.approx([0.0, 0.1])  # of a range of 2

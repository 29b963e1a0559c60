"""Features of small pictures, and figures in them."""

import math

import torch

from lanpaint.bench.targets import ImageTarget, standard_error
from lanpaint.masks import MASKS
from lanpaint.metrics import mmd
from lanpaint_toys.features import picture_features


def _pictures(count, side=32, seed=0):
    """Discs of random colours on white, each in a place of its own."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(count, 3, 1, 1, generator=generator) * 2 - 1
    centres = torch.rand(count, 2, generator=generator)
    rows = torch.linspace(0, 1, side)
    inside = (rows[:, None] - centres[:, 0, None, None]) ** 2 + (rows - centres[:, 1, None, None]) ** 2 < 0.07
    return torch.where(inside[:, None], colours, 1.0)


def test_features_are_the_encoder_s_middle_block_on_a_grid():
    from lanpaint_toys.features import FOLDER
    from lanpaint_toys.trained import load_autoencoder

    pictures = _pictures(3, side=64)
    encoder = load_autoencoder(FOLDER).encoder
    seen = []
    encoder.mid_block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        encoder(pictures)
    cells = seen[0].unflatten(2, (4, 4)).unflatten(4, (4, 4)).mean((3, 5))
    assert torch.allclose(picture_features(pictures), cells.flatten(1), atol=1e-5)
    assert torch.equal(picture_features(3 * pictures), picture_features((3 * pictures).clamp(-1, 1)))


def test_the_distance_in_features_sees_a_seam_that_pixels_hardly_show():
    truth, other = _pictures(60), _pictures(60, seed=1)
    torn = truth.clone()
    torn[..., 16:] = torn[..., 16:].roll(1, dims=-2)  # the right half a pixel lower
    in_features = mmd(picture_features(torn), picture_features(truth))
    assert in_features.p_value < 0.01 < mmd(torn, truth).p_value
    assert mmd(picture_features(other), picture_features(truth)).p_value > 0.01


def test_a_model_of_small_colour_pictures_is_judged_in_features():
    known = MASKS["half"](32, 32)
    truth = _pictures(20)
    target = ImageTarget("own", score=None, images=truth, known=known)
    assert target.merits == ("psnr", "kernel")
    figures = target.figures(_pictures(20, seed=1), truth, lambda line: None)
    assert {"kernel", "kernel_error", "kernel_p"} <= set(figures)
    grey = ImageTarget("own", score=None, images=truth[:, :1], known=known)
    assert "kernel" not in grey.figures(truth[:, :1], truth[:, :1], lambda line: None)


def test_standard_error_counts_families_and_not_their_variants():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(40, generator=generator)
    alone = standard_error(values, range(40))
    assert math.isclose(alone, float(values.std()) / 40**0.5, rel_tol=1e-6)
    copies, names = values.repeat_interleave(5), [row // 5 for row in range(200)]
    assert math.isclose(standard_error(copies, names), alone, rel_tol=1e-6)  # five copies say no more than one
    assert standard_error(copies, range(200)) < 0.5 * alone

"""FSIM: figures of other implementations, the properties that its paper names, and what it refuses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from skimage import data

from lanpaint.metrics import image_figures
from lanpaint.metrics.fsim import SMALLEST, feature_similarity, phase_congruency

DOUBLE = torch.float64
PARTS = {
    "camera": (slice(100, 300), slice(50, 290)),  # grey, even sides
    "chelsea": (slice(50, 251), slice(100, 299)),  # colour, odd sides
    "astronaut": (slice(None), slice(None)),  # 512 × 512, which FSIM halves
    "coffee": (slice(None), slice(None)),  # 400 × 600, which it halves too
}


def picture(name, rows=slice(None), columns=slice(None)):
    """A picture of scikit-image in [0, 1], (1, C, H, W)."""
    array = torch.from_numpy(np.ascontiguousarray(getattr(data, name)()[rows, columns])).double() / 255
    return array[None, None] if array.ndim == 2 else array.movedim(-1, 0)[None]


def blocks(x):
    """Blocks of 4 × 4 pixels, each of its mean."""
    height, width = x.shape[-2:]
    means = F.avg_pool2d(x, 4, ceil_mode=True, count_include_pad=False)
    return means.repeat_interleave(4, -1).repeat_interleave(4, -2)[..., :height, :width]


def stripes(x):
    """Stripes of three columns, brighter and darker by a tenth."""
    return (x + 0.1 * ((torch.arange(x.shape[-1]) // 3) % 2 * 2 - 1)).clamp(0, 1)


# fsim(x, y, data_range=1.0, chromatic=False) of piq 0.8.0 in float32. FSIM(chromatic=False) of piqa 1.3.2, another
# implementation, differs by at most 6e-6, but for coffee, which it does not halve.
REFERENCE = {
    ("camera", blocks): 0.787090,
    ("camera", stripes): 0.592238,
    ("chelsea", blocks): 0.724492,
    ("chelsea", stripes): 0.663057,
    ("astronaut", blocks): 0.925869,
    ("astronaut", stripes): 0.677265,
    ("coffee", blocks): 0.934968,
    ("coffee", stripes): 0.649304,
}


@pytest.mark.parametrize(("name", "spoil"), REFERENCE)
def test_it_is_that_of_another_implementation(name, spoil):
    x = picture(name, *PARTS[name])
    found = feature_similarity(2 * x - 1, 2 * spoil(x) - 1)
    assert float(found) == pytest.approx(REFERENCE[name, spoil], abs=3e-5)


def test_equal_pictures_have_one_and_the_order_does_not_count():
    x = 2 * torch.cat([picture("camera", *PARTS["camera"]), picture("camera", slice(0, 200), slice(0, 240))]) - 1
    torch.testing.assert_close(feature_similarity(x, x), torch.ones(2, dtype=DOUBLE))
    both = feature_similarity(x, x.flip(0)), feature_similarity(x.flip(0), x)
    torch.testing.assert_close(*both)
    assert both[0].max() < 0.9
    flat = torch.zeros(1, 1, 64, 64)
    assert float(feature_similarity(flat, flat)) == 1.0  # without features nothing has a weight


@pytest.mark.parametrize("kind", ["blur", "noise"])
def test_it_falls_with_blur_and_with_noise(kind):
    x = picture("camera", *PARTS["camera"])
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    spoilt = [
        F.avg_pool2d(F.pad(x, (side // 2,) * 4, mode="reflect"), side, stride=1)
        if kind == "blur"
        else x + (side - 1) / 100 * noise
        for side in (1, 3, 5, 9, 15)
    ]
    found = [float(feature_similarity(2 * x - 1, 2 * y - 1)) for y in spoilt]
    assert found[0] == pytest.approx(1)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.75


def test_phase_congruency_does_not_depend_on_brightness_and_contrast():
    """It is "dimensionless" and "contrast invariant" (Sec. II-A), but for a small constant in a quotient."""
    grey = 255 * picture("camera", *PARTS["camera"])[:, 0]
    plain = phase_congruency(grey)
    torch.testing.assert_close(phase_congruency(0.2 * grey + 90), plain, rtol=0, atol=1e-3)
    assert plain.min() >= 0
    assert 0.8 < plain.max() <= 1


def test_phase_is_congruent_at_edges_and_lines_of_either_sign():
    """At a step, a line and a dark line the phase is congruent whatever their height; less so between them."""
    grey = torch.full((1, 96, 192), 50.0, dtype=DOUBLE)
    grey[..., 48:96] = 150.0  # steps after columns 47 and 95
    grey[..., 136] = 200.0
    grey[..., 168] = 0.0
    row = phase_congruency(grey)[0, 48]
    for column in (48, 96, 136, 168):
        near = row[column - 2 : column + 2]
        assert near.max() > 0.8
    assert row[[72, 116, 152]].max() < 0.5


def test_it_is_a_figure_of_pictures_that_are_large_enough():
    known = torch.zeros(SMALLEST, SMALLEST, dtype=torch.bool)
    x = torch.rand(34, 3, SMALLEST, SMALLEST) * 2 - 1
    y = x.flip(-1)
    torch.testing.assert_close(image_figures(x, y, known)["fsim"].double(), feature_similarity(x, y))
    small = torch.zeros(1, 3, SMALLEST, SMALLEST - 1)
    assert "fsim" not in image_figures(small, small, known[:, 1:])
    for other in (small, torch.zeros(1, 2, 64, 64), torch.zeros(64, 64)):
        with pytest.raises(ValueError, match=r"FSIM takes two tensors \(B, 1 or 3, H, W\) of sides of at least 48"):
            feature_similarity(other, other)

"""Colours of a fill matched to its surroundings."""

import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.colour import matched, membrane
from tests.adapters import tiny

ROWS, COLUMNS = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 64), indexing="ij")
HOLE = ((ROWS - 0.1) / 0.7) ** 2 + (COLUMNS / 0.6) ** 2 < 1


@pytest.mark.parametrize("function", [ROWS - 2 * COLUMNS, (63 * COLUMNS) ** 2 / 2000 - (47 * ROWS) ** 2 / 2000])
def test_a_harmonic_function_is_its_own_continuation(function):
    """In units of pixels: x² − y² solves the discrete equation too."""
    known = ~HOLE[None, None]
    found = membrane(torch.where(known, function[None, None], 99.0), known)
    assert torch.equal(found[known], function[None, None][known])
    assert (found - function).abs().max() < 0.01 * (function.max() - function.min())


def test_a_picture_without_a_known_pixel_is_left_as_it_is():
    made = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    known = torch.ones(2, 1, 9, 7, dtype=torch.bool)
    known[1] = False
    got = matched(made, torch.zeros_like(made), known)
    assert torch.equal(got[1], made[1])


def test_a_shift_of_all_colours_is_taken_back_and_detail_stays():
    picture = 0.3 + 0.4 * torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([0.1, -0.05, 0.02]).reshape(1, 3, 1, 1) * (1 + 0.5 * COLUMNS)
    got = matched(picture + shift, picture, ~HOLE[None, None])
    assert (got - picture)[..., HOLE].abs().max() < 2e-3


@pytest.mark.parametrize("family", ["Stable Diffusion", "Wan"])
def test_all_outputs_of_a_pipeline_are_matched_alike_and_known_pixels_stay_exact(family):
    made = tiny.FAMILIES[family]()
    picture = torch.randint(0, 256, (made.channels, *made.size), generator=torch.Generator().manual_seed(0)) / 255
    picture = picture.transpose(0, 1) if len(made.size) == 3 else picture
    mask = torch.zeros(made.size[-2:])
    mask[4:12, 4:12] = 1
    call = {name: value for name, value in made.call.items() if name not in ("height", "width", "num_frames")}

    def paint(**more):
        inpaint, generator = lp.Inpainter(made.pipe, inner_steps=1), torch.Generator().manual_seed(0)
        return inpaint(picture, mask, steps=2, generator=generator, **call, **more)[0][0]

    plain, found = paint(output_type="pt"), paint(output_type="pt", match_colour=True)
    assert torch.equal(found[..., mask == 0], picture[..., mask == 0])
    assert not torch.equal(found[..., mask == 1], plain[..., mask == 1])
    assert np.allclose(paint(output_type="np", match_colour=True), found.movedim(-3, -1), atol=1e-6)
    images = paint(output_type="pil", match_colour=True)
    bytes_of = np.stack([np.array(image) for image in images] if isinstance(images, list) else [np.array(images)])
    values = found.movedim(-3, -1).numpy()
    assert abs(bytes_of / 255 - (values if values.ndim == 4 else values[None])).max() < 2 / 255

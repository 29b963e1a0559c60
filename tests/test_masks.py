"""What a person does to a mask: edits, and rules for known pixels applied to greys."""

import numpy as np
import pytest
import torch

from lanpaint.masks import by_shade, edited

SIDE = 21
ROWS, COLUMNS = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")


def _distance(row, column):
    return ((ROWS - row) ** 2 + (COLUMNS - column) ** 2).double().sqrt()


DOT = (_distance(10, 9) == 0).float()[None, None]
DISC = (_distance(10, 9) <= 6).float()[None, None]


@pytest.mark.parametrize("pixels", [1, 3, 5])
def test_a_dot_grows_to_a_disc(pixels):
    assert torch.equal(edited(DOT, grow=pixels)[0, 0], (_distance(10, 9) <= pixels).float())


@pytest.mark.parametrize("pixels", [1, 4])
def test_to_shrink_is_to_grow_the_rest(pixels):
    assert torch.equal(edited(DISC, grow=-pixels), 1 - edited(1 - DISC, grow=pixels))


def test_what_touches_the_border_does_not_shrink_from_it():
    half = (COLUMNS < 8).float()[None, None]
    assert torch.equal(edited(half, grow=-3)[0, 0], (COLUMNS < 5).float())
    assert torch.equal(edited(torch.ones(1, 1, 5, 5), grow=-2), torch.ones(1, 1, 5, 5))
    assert torch.equal(edited(torch.zeros(1, 1, 5, 5), grow=2), torch.zeros(1, 1, 5, 5))


def test_each_grey_grows_under_those_that_are_lighter():
    change = torch.maximum(DOT, 0.5 * (_distance(10, 15) == 0).float())
    grown = edited(change, grow=4)[0, 0]
    expected = torch.where(_distance(10, 9) <= 4, 1.0, torch.where(_distance(10, 15) <= 4, 0.5, 0.0))
    assert torch.equal(grown, expected)


def test_a_blur_is_gaussian_and_leaves_what_is_far_from_the_edge():
    half = (COLUMNS < 10).float()[None, None]
    blurred = edited(half, blur=2.0)[0, 0]
    ideal = torch.special.ndtr((9.5 - COLUMNS.double()) / 2)
    assert (blurred - ideal).abs().max() < 0.02  # cut off, and summed over pixels
    assert torch.equal(blurred[:, :4], torch.ones(SIDE, 4))
    assert torch.equal(blurred[:, 16:], torch.zeros(SIDE, 5))


def test_a_mask_is_inverted_before_it_grows():
    assert torch.equal(edited(1 - DOT, grow=2, invert=True), edited(DOT, grow=2))


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ({"grow": 1.5}, "grow must be a whole number of pixels from −1000 to 1000, got 1.5"),
        ({"grow": 2000}, "grow must be"),
        ({"blur": -1}, "blur must be a number of pixels from 0 to 1000, got -1"),
        ({"blur": float("nan")}, "blur must be"),
    ],
)
def test_edits_that_mean_nothing_are_refused(edit, told):
    with pytest.raises(ValueError, match=told):
        edited(DOT, **edit)


def test_a_rule_for_known_pixels_gives_each_cell_its_lightest_grey():
    change = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    change = (change * 10).round() / 10
    cells = by_shade(lambda known: known.unflatten(-1, (4, 2)).unflatten(-3, (4, 2)).all(-1).all(-2), change)
    assert torch.equal(cells, torch.nn.functional.max_pool2d(change, 2))


def test_many_shades_are_put_together_and_the_ends_stay():
    change = torch.linspace(0, 1, 1000)[None]
    calls = []

    def rule(known):
        calls.append(1)
        return known

    got = by_shade(rule, change)
    assert len(calls) <= 64
    assert np.abs(got - change).max() <= 1 / 64
    assert (got[0, 0], got[0, -1]) == (0, 1)
    assert bool((got >= change).all())

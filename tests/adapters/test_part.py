"""Pipelines that step a part of their latents, and keep the picture that they begin with in the rest."""

import torch

import lanpaint as lp
from lanpaint.adapters.bridge.part import Part


def _latents(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_all_frames_but_the_first_are_a_part():
    latents = _latents(2, 3, 4, 5, 5)
    latents[:, :, 1:, :2] = 0  # values that lie there several times leave no choice at a corner
    part = Part.of(latents, latents[:, :, 1:])
    assert torch.equal(part.take(latents), latents[:, :, 1:])
    other = _latents(1, 3, 4, 5, 5)
    assert torch.equal(part.take(other), other[:, :, 1:])
    assert part.is_of(other[:, :, 1:])
    assert not part.is_of(other[:, 1:, 1:])  # later it may step another part
    assert part.latents == (1, 3, 4, 5, 5)


def test_a_part_of_packed_latents_is_found_by_its_values():
    latents = _latents(2, 20, 6)  # tokens of 4 frames of 5 cells, 6 channels
    frames = latents.unflatten(1, (4, 5)).movedim(-1, 1)
    part = Part.of(latents, frames[:, :, 1:])
    other = _latents(1, 20, 6)
    assert torch.equal(part.take(other), other.unflatten(1, (4, 5)).movedim(-1, 1)[:, :, 1:])


def test_values_that_leave_a_choice_or_are_others_are_no_part():
    latents = _latents(1, 20, 6)
    frames = latents.unflatten(1, (4, 5)).movedim(-1, 1)
    assert Part.of(latents, frames[:, :, 1:] + 1) is None
    latents[:, 7] = latents[:, 8]
    assert Part.of(latents, latents.unflatten(1, (4, 5)).movedim(-1, 1)[:, :, 1:]) is None
    assert Part.of(latents, latents) is None


def test_what_is_known_of_the_latents_is_known_of_their_part():
    latents = _latents(1, 3, 4, 5, 5)
    part = Part.of(latents, latents[:, :, 1:])
    change = torch.rand(1, 1, 4, 5, 5, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    whole = lp.Observation.soft(latents, change.expand(latents.shape))
    for known in (whole, lambda like: whole if like.shape == latents.shape else None):
        taken = part.of_known(known)(latents[:, :, 1:])
        assert torch.equal(taken.values, whole.values[:, :, 1:])
        assert torch.equal(taken.known, whole.known.expand(latents.shape)[:, :, 1:])
        assert torch.equal(taken.change, whole.change.expand(latents.shape)[:, :, 1:])
    assert part.of_known(None) is None
    of_part = lp.Observation.none((1, 3, 3, 5, 5))
    assert part.of_known(of_part)(latents[:, :, 1:]) is of_part

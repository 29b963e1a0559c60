"""Pipelines that step their latents in another form than they prepare them."""

import torch

from lanpaint.adapters.bridge.folding import Folding


def _latents(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_a_form_is_found_by_its_numbers_and_undone():
    latents = _latents(2, 3, 4, 5, 5)
    forms = {
        "as it is": latents.clone(),
        "frames first": latents.transpose(1, 2),
        "channels last": latents.permute(0, 2, 3, 4, 1),
        "frames in the batch": latents.transpose(1, 2).flatten(0, 1),
    }
    for name, stepped in forms.items():
        folding = Folding.of(latents, stepped)
        assert folding is not None, name
        assert torch.equal(folding.fold(latents), stepped), name
        assert torch.equal(folding.unfold(stepped), latents), name


def test_a_form_in_another_dtype_is_found():
    latents = _latents(1, 3, 4, 5, 5)
    assert Folding.of(latents, latents.transpose(1, 2).to(torch.bfloat16)) is not None


def test_changed_latents_have_no_form():
    latents = _latents(1, 3, 4, 5, 5)
    assert Folding.of(latents, latents + 1e-3) is None
    assert Folding.of(latents, latents.transpose(1, 2).flatten(0, 1) + 1e-3) is None
    assert Folding.of(latents, latents[:, :, 1:]) is None

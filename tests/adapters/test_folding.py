"""Pipelines that step their latents in another form than they prepare them."""

import torch

from lanpaint.adapters.bridge.folding import Folding
from lanpaint.adapters.bridge.noise import generator_states, restore


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


def test_a_batch_that_is_stepped_twice_over_is_seen_by_both_halves():
    stepped, output = _latents(3, 4, 5, 5), _latents(3, 8, 5, 5)  # the model predicts a variance too
    folding = Folding.of_halves(torch.cat([stepped, stepped]), torch.cat([output, output]))
    assert torch.equal(folding.fold(stepped), torch.cat([stepped, stepped]))
    assert torch.equal(folding.unfold(torch.cat([stepped, stepped])), stepped)
    other = torch.cat([output, output])
    other[-1, 3, 0, 0] += 1
    for halves in ((torch.cat([stepped, stepped]), other), (torch.cat([stepped, stepped + 1]), other)):
        alone = Folding.of_halves(*halves)
        assert torch.equal(alone.fold(halves[0]), halves[0])


def test_the_states_of_a_list_of_generators_are_set_back():
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    states = generator_states(generators)
    before = [torch.randn(3, generator=one) for one in generators]
    restore(states)
    for numbers, one in zip(before, generators, strict=True):
        assert torch.equal(numbers, torch.randn(3, generator=one))

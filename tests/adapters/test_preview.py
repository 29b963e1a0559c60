"""Previews: pictures that are estimated from latents of any layout."""

import pytest
import torch

import lanpaint as lp
from lanpaint.preview import LinearDecoder
from tests.adapters import tiny

FAMILIES = ["LDM", "Stable Diffusion", "Flux", "SD3", "Qwen-Image", "Sana"]


def _gradients(height, width):
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([columns, rows, 1 - columns])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_picture_is_found_in_latents_of_any_layout(family):
    """With an encoder that is linear in the colours of a cell, the map from its latents is exact in every cell."""
    made = tiny.FAMILIES[family]()
    picture, seen = _gradients(*made.size), []
    inpaint = lp.Inpainter(made.pipe, inner_steps=0)
    shape = inpaint.layout.encode(picture[None]).shape
    mixing = torch.randn(shape[1], 3, generator=torch.Generator().manual_seed(0))

    def encode(pictures):
        return torch.einsum("kc,nchw->nkhw", mixing, torch.nn.functional.adaptive_avg_pool2d(pictures, shape[-2:]))

    class Keep(lp.Callback):
        def on_run_start(self, sampler, state):
            seen.append(state.x)

    inpaint.layout.encode = encode
    call = {name: value for name, value in made.call.items() if name not in ("height", "width")}
    generator = torch.Generator().manual_seed(0)
    inpaint(picture, torch.ones(made.size), steps=1, callbacks=[Keep()], generator=generator, **call)
    decoder = LinearDecoder(inpaint.layout, picture[None], seen[0])
    whole = inpaint.layout.observation(picture[None], torch.zeros(1, 1, *made.size), seen[0]).values
    pooled = torch.nn.functional.adaptive_avg_pool2d(picture, shape[-2:])
    found = torch.nn.functional.adaptive_avg_pool2d(decoder(whole)[0], shape[-2:])
    assert (found - pooled).abs().max() < 0.01


def test_previews_come_every_few_steps_with_the_known_pixels_in_them():
    made, seen = tiny.sd(), []
    picture = _gradients(16, 16)
    mask = torch.zeros(16, 16)
    mask[:, 8:] = 1
    options = {"steps": 5, "inner_steps": 1, "output_type": "pt", **made.call}
    plain, shown = (
        lp.Inpainter(made.pipe)(picture, mask, **options, **more, generator=torch.Generator().manual_seed(0)).images
        for more in ({}, {"preview": lp.Preview(lambda pictures, step: seen.append((step, pictures)), every=2)})
    )
    assert torch.equal(plain, shown)
    assert [step for step, _ in seen] == [2, 4]
    for _, pictures in seen:
        assert pictures.shape == (1, 3, 16, 16)
        assert torch.equal(pictures[0, :, :, :8], picture[:, :, :8])


def test_a_sampler_of_ones_own_shows_what_the_model_expects():
    seen = []
    values = torch.full((2, 1, 8, 8), 0.25)
    known = torch.arange(8) < 4
    sampler = lp.Replace(
        lambda x, level: -x, steps=4, callbacks=[lp.Preview(lambda x, step: seen.append((step, x)), 3)]
    )
    sampler(lp.Observation(values, known), generator=torch.Generator().manual_seed(0))
    assert [step for step, _ in seen] == [3]
    assert torch.equal(seen[0][1][..., :4], values[..., :4])


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="every must be a whole number of at least 1"):
        lp.Preview(print, every=0)
    with pytest.raises(TypeError, match="show must be a function"):
        lp.Preview("out.png")
    made = tiny.sd()
    with pytest.raises(TypeError, match=r"preview must be a lanpaint\.Preview"):
        lp.Inpainter(made.pipe)(torch.zeros(3, 16, 16), torch.ones(16, 16), preview=3, **made.call)

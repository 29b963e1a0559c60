"""Chains over the latents of real pipelines, built small."""

import pytest
import torch

import lanpaint as lp
from tests.adapters import tiny
from tests.adapters.zoo.video import animatediff

_SIZES = ("height", "width", "num_frames")


def window_of(made, size=None, **options):
    """The window of a small pipeline, and a chain of windows that overlap by two cells."""
    call = {name: value for name, value in made.call.items() if name not in _SIZES}
    size = made.size[-2:] if size is None else size
    frames = made.size[0] if len(made.size) == 3 else None
    window = lp.PipelineWindow(made.pipe, size, frames, **{"steps": 2, "inner_steps": 1, **call, **options})
    return window, lp.Chain(window, window.over(*size), overlap=2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(*shape, seed=5):
    return torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("make", [tiny.sd, tiny.flux, tiny.ldm, tiny.sana], ids=lambda make: make.__name__)
def test_latents_are_passed_on_as_they_are_and_known_cells_are_the_encoder_s(make):
    """Also where tokens are 2×2 cells (Flux) and latents are scaled. The second window is given the first one's."""
    made = make()
    height, width = made.size
    window, chain = window_of(made)
    given = []

    def paint(observation, generator):
        given.append((observation, window(observation, generator=generator)))
        return given[-1][1]

    chain.paint = paint
    wide = 2 * width - 2 * window.factor  # two windows
    known = torch.zeros(1, 1, height, wide, dtype=torch.bool)
    known[..., : height // 2, : 2 * window.multiple] = True
    observation = window.observe(pictures(height, wide), known)
    cells = chain(observation, generator=seeded())
    assert cells.shape == (1, *window.canvas(height, wide))
    held = observation.known.expand(cells.shape)
    assert int(held.sum()) == window.cells[0] * (height // 2 // window.factor) * (2 * window.multiple // window.factor)
    assert torch.equal(cells[held], observation.values[held])
    (_, first), (second, last) = given
    assert second.known[..., :2].all()
    assert not second.known[..., 2:].any()
    assert torch.equal(second.values[..., :2], first[..., -2:])
    assert torch.allclose(last[..., :2], first[..., -2:], rtol=0, atol=1e-5)


def test_a_window_is_what_the_pipeline_itself_paints_and_decodes():
    """With nothing known a window is a run of the Inpainter with the same noise, and decodes to its picture."""
    made = tiny.sd()
    window, _ = window_of(made)
    cells = window(lp.Observation.none((1, *window.cells)), generator=seeded(3))
    call = {name: value for name, value in made.call.items() if name not in _SIZES}
    inpaint = lp.Inpainter(made.pipe, inner_steps=1)
    own = inpaint(steps=2, generator=seeded(3), output_type="pt", height=16, width=16, **call).images
    assert torch.allclose(window.decode(cells), own, rtol=0, atol=1e-5)


def test_frames_of_a_video_are_streamed_and_begin_with_what_is_given():
    window, chain = window_of(animatediff())
    film, known = pictures(3, 16, 16), torch.ones(1, 1, 3, 16, 16, dtype=torch.bool)
    begun = window.observe(film, known)

    def content(start, stop):
        values, is_known = torch.zeros(1, *window.cells), torch.zeros(1, 1, *window.cells[1:], dtype=torch.bool)
        here = begun.values[:, :, start:stop]
        values[:, :, : here.shape[2]], is_known[:, :, : here.shape[2]] = here, True
        return lp.Observation(values, is_known)

    strips = [strip for _, strip in chain.stream((1, *window.canvas(16, 16, 9)), content=content, generator=seeded())]
    cells = torch.cat(strips, dim=2)
    assert cells.shape == (1, 4, 9, 8, 8)
    assert torch.equal(cells[:, :, :3], begun.values)
    assert window.decode(cells[:, :, :4]).shape == (1, 3, 4, 16, 16)


def test_what_a_pipeline_cannot_chain_is_told_in_one_line():
    sd, wan, video = tiny.sd(), tiny.wan(), animatediff()
    window, _ = window_of(sd)
    plain = {name: value for name, value in sd.call.items() if name not in _SIZES}
    cases = [
        (lambda: window_of(wan), "one latent frame for several frames"),
        (lambda: window_of(sd, (15, 16)), "the window is 16×15, and StableDiffusionPipeline takes multiples of 8"),
        (lambda: lp.PipelineWindow(sd.pipe, (16, 16), 4, **plain), "makes still images"),
        (lambda: window.canvas(16, 33), "the width must be a multiple of 2 here, got 33; 34 is one"),
        (lambda: window.canvas(16, 32, 4), "still images"),
        (lambda: window_of(video)[0].canvas(16, 16), "videos"),
        (lambda: window_of(sd)[1]((1, 4, 8, 4)), "window .8. is larger than the canvas .4."),
    ]
    for make, told in cases:
        with pytest.raises(ValueError, match=told) as error:
            make()
        assert "\n" not in str(error.value)

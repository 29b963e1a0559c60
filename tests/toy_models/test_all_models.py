"""The same object samples every model here: an exact Gaussian, digits, and emoji as diffusion, flow and latents."""

import functools

import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.adapters.networks import network_score
from lanpaint.masks import MASKS
from lanpaint_toys import digits, emoji, gauss2

MAKE = functools.partial(lp.LanPaint, steps=8, inner_steps=3)  # the object; nothing below changes it


def _fills(score, shape):
    """Pictures of the model's own, and their right halves painted anew by `MAKE`."""
    truth = lp.Sampler(score, steps=10)(shape, generator=lp.seeded(range(100, 100 + shape[0])))
    known = MASKS["half"](*shape[-2:])
    return truth, known, MAKE(score)(lp.Observation(truth, known), generator=lp.seeded(range(shape[0])))


def test_on_an_exact_gaussian():
    problem, generator = gauss2(), torch.Generator().manual_seed(0)
    observation = lp.Observation(*problem.observe(20_000, generator))
    assert problem.divergence(MAKE(problem.target)(observation, generator=generator)) < 0.1  # Replace has 0.32


@pytest.mark.parametrize("model", [digits.FOLDER, emoji.PIXEL, emoji.FLOW, emoji.LATENT], ids=lambda path: path.name)
def test_on_networks(model):
    """Fills are nearer to the truths that their known halves belong to than to the same truths in any rotated order.

    Fills that did not heed the known half would pass once in as many times as there are.
    """
    if model == emoji.LATENT:
        score, shape = network_score(emoji.load_latent_pipeline()), (24, 4, 16, 16)
    else:
        score = load_pixel_model(model)
        shape = (12, score.channels, *score.sample_size)
    truth, known, filled = _fills(score, shape)
    assert torch.equal(filled[..., known], truth[..., known])
    assert torch.isfinite(filled).all()
    error = torch.stack([(filled - truth.roll(k, 0))[..., ~known].square().mean() for k in range(len(truth))])
    assert error[0] < error[1:].min()


def test_in_a_pipeline_of_latents():
    pipe = emoji.load_latent_pipeline()
    draw = {"num_inference_steps": 20, "output_type": "np"}
    (picture,) = pipe(generator=torch.Generator().manual_seed(3), **draw).images
    mask = np.zeros((64, 64), dtype=np.float32)
    mask[:, 32:] = 1
    inpaint = lp.Inpainter(pipe, MAKE.func, inner_steps=MAKE.keywords["inner_steps"])
    arguments = {"steps": MAKE.keywords["steps"], "output_type": "np", "generator": torch.Generator().manual_seed(0)}
    (filled,) = inpaint(picture, mask, **arguments).images
    assert inpaint.bridge.evaluations == 8 * 4 + 1
    assert abs(filled[:, :32] - picture[:, :32]).max() < 1e-6
    assert filled[:, 32:].std() > 0.02
    # No seam: a jump across the hole's edge is no larger than jumps beside it are, in the truth.
    jump = abs(filled[:, 32] - filled[:, 31]).mean()
    assert jump < 3 * abs(np.diff(picture, axis=1)).mean() + 0.02

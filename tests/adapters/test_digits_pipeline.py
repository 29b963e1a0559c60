"""The trained digits as a pipeline of diffusers: through the bridge they are painted as by the model itself."""

import diffusers
import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.scheduler_names import named_scheduler
from lanpaint.demo import digits_score, held_out_digits
from lanpaint.images import hole_psnr
from lanpaint.masks import MASKS
from lanpaint.metrics import mmd
from lanpaint_toys.digits import FOLDER

COUNT, LEVEL = 64, 0.01


@pytest.fixture(scope="module")
def painted():
    """Held-out digits, what is known of them, and three ways to paint the rest: laws to compare."""
    truth, known = held_out_digits(COUNT), MASKS["box"](8, 8)
    pipe = diffusers.DiffusionPipeline.from_pretrained(FOLDER)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = type(named_scheduler("ddim", pipe.scheduler)).from_config(
        pipe.scheduler.config, timestep_spacing="trailing"
    )
    inpaint = lp.Inpainter(pipe)
    pictures = inpaint((truth + 1) / 2, ~known, steps=20, generator=lp.seeded(range(COUNT)), output_type="np").images
    assert inpaint.bridge.evaluations == 20 * 6 + 1  # and one to see where it starts
    ways = {"bridge": 2 * torch.from_numpy(pictures).permute(0, 3, 1, 2) - 1}
    for name, sampler in {"demo": lp.LanPaint, "replace": lp.Replace}.items():
        direct = sampler(digits_score())(lp.Observation(truth, known), generator=lp.seeded(range(1000, 1000 + COUNT)))
        ways[name] = direct.clamp(-1, 1)
    return truth, known, ways


def test_the_law_is_that_of_the_model_itself(painted):
    """MMD of what is painted less the truth, exchanged within pairs of one digit. It would find Replace's law."""
    truth, known, ways = painted
    error = {name: (x - truth)[..., ~known].flatten(1) for name, x in ways.items()}
    assert mmd(error["bridge"], error["demo"], permutations=999).p_value > LEVEL
    assert mmd(error["bridge"], error["replace"], permutations=999).p_value < LEVEL


def test_the_figures_are_those_of_the_demo(painted):
    """PSNR on the hole, paired over digits: no difference beyond three standard errors."""
    truth, known, ways = painted
    psnr = {name: hole_psnr(x, truth, known) for name, x in ways.items()}
    difference = psnr["bridge"] - psnr["demo"]
    error = float(difference.std()) / COUNT**0.5
    assert abs(float(difference.mean())) < 3 * error, f"{float(difference.mean()):.2f} ± {error:.2f} dB"
    assert float(psnr["bridge"].mean() - psnr["replace"].mean()) > 3 * error
    kept = known.expand_as(truth)
    assert (ways["bridge"] - truth)[kept].abs().max() < 1e-6

"""What the tables of families and schedulers say is so."""

import inspect

import diffusers
import pytest
import torch

from lanpaint.adapters.families import SUPPORTED, table
from lanpaint.adapters.latents import LatentLayout
from lanpaint.adapters.networks import FAMILIES as NETWORKS
from lanpaint.adapters.networks import Family
from lanpaint.adapters.reading import view_of
from lanpaint.adapters.scheduler_names import FLOW_SCHEDULERS, SCHEDULERS, named_scheduler
from lanpaint.inpainter import _RENORMALISED
from tests.adapters import tiny


@pytest.mark.parametrize("family", SUPPORTED, ids=lambda family: family.name)
def test_a_family_is_as_it_is_listed(family):
    for pipeline in family.pipelines:
        names = inspect.signature(getattr(diffusers, pipeline).__call__).parameters
        assert ("negative_prompt" in names) == family.negative_prompt
        weights = [weight for weight in ("true_cfg_scale", "guidance_scale") if weight in names]
        assert (weights or [None])[0] == family.guidance
        assert ("num_frames" in names) == (family.makes == "video")
        assert (pipeline in NETWORKS) == (family.network_adapter == "network_score")
        assert family.known_guidance == (bool(weights) and not pipeline.startswith(_RENORMALISED))


def test_all_that_is_tested_is_listed_and_all_that_is_listed_is_tested():
    tested = {}
    for make in tiny.FAMILIES.values():
        pipe = make().pipe
        tested[type(pipe).__name__] = "flow" if view_of(pipe.scheduler) == "flow" else "diffusion"
    listed = {pipeline: family.formalism for family in SUPPORTED for pipeline in family.pipelines}
    assert listed == tested | {  # with the code of PixArt-Σ, and of DDPM
        "PixArtAlphaPipeline": "diffusion",
        "DDIMPipeline": "diffusion",
    }
    assert set(NETWORKS) <= set(listed)
    assert len(table().splitlines()) == len(SUPPORTED) + 2


def test_a_family_of_one_s_own_has_both_methods():
    class Half(Family):
        def condition(self, request):
            return [{}]

    with pytest.raises(TypeError, match="abstract"):
        Half()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_named_scheduler_has_the_schedule_of_the_pipeline_s_own(name):
    own = diffusers.DDIMScheduler(**tiny.SD, prediction_type="v_prediction")
    made = named_scheduler(name, own)
    assert type(made).__name__ == SCHEDULERS[name][0]
    assert torch.equal(made.alphas_cumprod, own.alphas_cumprod)
    assert view_of(made) == "v"
    back = named_scheduler("ddim", made)
    assert torch.equal(back.alphas_cumprod, own.alphas_cumprod)
    assert back.config.timestep_spacing == "leading"


@pytest.mark.parametrize("name", FLOW_SCHEDULERS)
def test_a_named_scheduler_of_a_flow_has_its_shift(name):
    levels = []
    for own in (
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0),
    ):
        made = named_scheduler(name, own)
        assert type(made).__name__ == FLOW_SCHEDULERS[name][0]
        assert view_of(made) == "flow"
        made.set_timesteps(4)
        levels.append(made.sigmas)
    assert torch.equal(*levels)
    plain = named_scheduler(name, diffusers.FlowMatchEulerDiscreteScheduler())
    plain.set_timesteps(4)
    middle, shifted = float(plain.sigmas[2]), float(levels[0][2])
    assert shifted == pytest.approx(3 * middle / (1 + 2 * middle), rel=0.05)


def test_karras_spacing_is_an_ending_of_the_name():
    own = diffusers.DDIMScheduler(**tiny.SD)
    assert named_scheduler("dpm++-karras", own).config.use_karras_sigmas
    assert not named_scheduler("dpm++", own).config.use_karras_sigmas
    with pytest.raises(ValueError, match="ddim has no Karras spacing; give ddim, or"):
        named_scheduler("ddim-karras", own)


def test_names_that_a_model_does_not_have_are_told():
    flow = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    with pytest.raises(ValueError, match="unknown scheduler 'ddim' for a flow model; expected one of euler, heun"):
        named_scheduler("ddim", flow)
    with pytest.raises(ValueError, match="heun cannot shift its times with the picture's size"):
        named_scheduler("heun", flow)
    with pytest.raises(ValueError, match="unknown scheduler 'euler' for CogVideoX; expected one of ddim"):
        named_scheduler("euler", tiny.cogvideox().pipe.scheduler)


def test_hidream_takes_one_area_and_the_nearest_size_is_one_that_it_leaves_as_it_is():
    made = tiny.hidream()
    layout = LatentLayout(made.pipe)
    assert layout.nearest(16, 16, made.call) == (16, 16)
    for height, width in [(30, 10), (512, 512), (9, 40), (17, 16)]:
        nearest = layout.nearest(height, width, made.call)
        assert nearest == layout.nearest(*nearest, made.call)
        assert nearest[0] * nearest[1] <= 256
        painted = made.pipe(**{**made.call, "height": nearest[0], "width": nearest[1]}, num_inference_steps=1)
        assert painted.images[0].size == nearest[::-1]

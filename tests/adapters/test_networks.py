"""A family's network as a score: the same latents as through the bridge, and gradients."""

import functools

import diffusers
import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.networks import FAMILIES, network_score
from tests.adapters import tiny
from tests.adapters.both_ways import both_ways, observe, score_of

MADE = {
    "Stable Diffusion": tiny.sd,
    "Stable Diffusion without guidance": functools.partial(tiny.sd, guidance=1.0),
    "Stable Diffusion, v, zero SNR": tiny.sd_v,
    "SDXL": tiny.sdxl,
    "SD3": tiny.sd3,
    "Flux": tiny.flux,
    "PixArt": tiny.pixart,
    "Sana": tiny.sana,
    "Wan": tiny.wan,
    "Wan, two transformers": tiny.wan_two,
    "Qwen-Image": tiny.qwen,
    "Stable Diffusion + ControlNet": tiny.sd_controlnet,
    "Z-Image": tiny.z_image,
    "HiDream": tiny.hidream,
    "LTX": tiny.ltx,
    "CogVideoX": tiny.cogvideox,
}


def _g(seed):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("inner_steps", [0, 2])
def test_bridge_and_adapter_give_the_same_latents_for_the_same_draws(name, inner_steps):
    made = MADE[name]()
    paint = functools.partial(lp.LanPaint, inner_steps=inner_steps)
    through_bridge, direct = both_ways(made, paint)
    assert (through_bridge - direct).abs().max() < 1e-4 * direct.abs().max()


@pytest.mark.parametrize("make", [functools.partial(tiny.ddpm, diffusers.DDIMScheduler()), tiny.ldm])
def test_unconditional_pipelines_make_the_same_pictures_both_ways(make):
    pipe, paint, firsts = make().pipe, functools.partial(lp.LanPaint, inner_steps=2), []

    def first(latents):
        firsts.append(latents.clone())
        return observe(latents)

    with lp.bridged(pipe, paint, first, generator=_g(1)):
        picture = pipe(num_inference_steps=4, generator=_g(0), output_type="np").images[0]
    solver = lp.DiffusersSolver(pipe.scheduler)
    latents = paint(network_score(pipe), steps=4, solver=solver)(observe(firsts[0]), start=firsts[0], generator=_g(1))
    with torch.no_grad():
        decoded = pipe.vqvae.decode(latents / 0.5).sample if make is tiny.ldm else latents
    expected = ((decoded[0] + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()
    assert expected.std() > 0.01
    assert abs(picture - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["Stable Diffusion", "Flux"])
def test_gradient_methods_run(name):
    made = MADE[name]()
    shape = (1, 4, 8, 8) if name == "Stable Diffusion" else (1, 24, 16)
    known = torch.zeros(shape, dtype=torch.bool)
    known[:, : shape[1] // 2] = True
    observation = lp.Observation(torch.randn(shape, generator=_g(2)), known)
    scheduler = made.pipe.scheduler
    levels = lp.spacings.uniform_time(score_of(made).schedule, 3)
    x = lp.samplers.DPS(score_of(made), levels=levels)(observation, generator=_g(0))
    assert torch.isfinite(x).all()
    assert torch.equal(x[known], observation.values[known])
    assert scheduler is made.pipe.scheduler


class Damped(lp.ScoreWrapper):
    """ε̂' = 0.9 ε̂."""

    def rewrite(self, prediction):
        return lp.Prediction(prediction.x, prediction.level, epsilon=0.9 * prediction.epsilon)


class DampedFlow(lp.ScoreWrapper):
    """u' = 0.9 u, which a flow model knows at α = 0 too."""

    def rewrite(self, prediction):
        return lp.Prediction(prediction.x, prediction.level, flow=0.9 * prediction.flow)


@pytest.mark.parametrize(("name", "wrapper"), [("Stable Diffusion", Damped), ("Flux", DampedFlow)])
@pytest.mark.parametrize("inner_steps", [0, 2])
def test_a_rewritten_prediction_gives_the_same_latents_through_bridge_and_adapter(name, wrapper, inner_steps):
    def paint(score, **options):
        return lp.LanPaint(wrapper(score), inner_steps=inner_steps, **options)

    through_bridge, direct = both_ways(MADE[name](), paint)
    assert (through_bridge - direct).abs().max() < 1e-4 * direct.abs().max()
    plain, _ = both_ways(MADE[name](), functools.partial(lp.LanPaint, inner_steps=inner_steps))
    assert (through_bridge - plain).abs().max() > 1e-2 * plain.abs().max()


@pytest.mark.parametrize("name", ["Stable Diffusion + ControlNet", "Wan, two transformers", "Z-Image", "HiDream"])
def test_the_pipeline_s_networks_are_moved_with_the_score(name):
    made = MADE[name]()
    score, networks = score_of(made), [getattr(made.pipe, part) for part in made.networks]
    seen = {id(parameter) for parameter in score.parameters()}
    assert seen == {id(parameter) for network in networks for parameter in network.parameters()}
    assert score.dtype == torch.float32
    score.to(torch.bfloat16)
    assert score.dtype == torch.bfloat16
    assert {network.dtype for network in networks} == {torch.bfloat16}


def test_conditioning_follows_the_network_to_another_dtype():
    made = MADE["Stable Diffusion"]()
    score, x = score_of(made), torch.randn(1, 4, 8, 8, generator=_g(0))
    level = lp.VP.scaled_linear().level(500.0)
    whole = score.epsilon(x, level)
    double = score.to(torch.float64).epsilon(x, level)
    assert double.dtype == torch.float32
    torch.testing.assert_close(double, whole, rtol=0, atol=1e-5)


def test_the_pipeline_s_network_is_checkpointed():
    made = MADE["Stable Diffusion"]()
    known = torch.arange(8) < 4
    observation = lp.Observation(torch.randn(1, 4, 8, 8, generator=_g(2)), known)
    score, levels = score_of(made), lp.spacings.uniform_time(score_of(made).schedule, 3)
    plain, saved = (
        lp.MCG(score, levels=levels, checkpoint=save)(observation, generator=_g(0)) for save in (False, True)
    )
    torch.testing.assert_close(saved, plain, rtol=0, atol=1e-5)


def test_a_batch_has_several_rows_for_each_prompt():
    two, one = tiny.sd(images=2), tiny.sd()
    x, level = torch.randn(4, 4, 8, 8, generator=_g(0)), lp.VP.scaled_linear().level(500.0)
    scores = score_of(two).score(x, level)
    first = {key: value[:1] for key, value in two.call.items() if isinstance(value, torch.Tensor)}
    one.call = {**one.call, **first}
    assert torch.allclose(scores[:2], score_of(one).score(x[:2], level), atol=1e-5)
    with pytest.raises(ValueError, match="x has 3 rows and there are 2 prompts"):
        score_of(two).score(x[:3], level)


def test_the_prompt_is_encoded_once_by_the_pipeline_s_own_method():
    made, calls = tiny.sd(), []
    encode = made.pipe.encode_prompt

    @functools.wraps(encode)
    def counted(*args, **kwargs):
        calls.append(kwargs["do_classifier_free_guidance"])
        return encode(*args, **kwargs)

    made.pipe.encode_prompt = counted
    score = score_of(made)
    for _ in range(3):
        score.score(torch.zeros(1, 4, 8, 8), lp.VP.scaled_linear().level(500.0))
    assert calls == [True]


def test_what_is_not_known_is_told():
    ldm, sd = tiny.ldm(), tiny.sd()
    with pytest.raises(ValueError, match="LDMPipeline has no prompt and does not take prompt"):
        network_score(ldm.pipe, height=16, width=16, prompt="a cat")

    class OtherPipeline:
        pass

    with pytest.raises(ValueError, match="OtherPipeline is not one of DDPMPipeline"):
        network_score(OtherPipeline(), height=16, width=16)
    with pytest.raises(ValueError, match="encode_prompt of StableDiffusionPipeline does not take colour"):
        score_of(sd, colour="red")
    with pytest.raises(ValueError, match="makes pictures of any size; give height and width"):
        network_score(sd.pipe)
    with pytest.raises(ValueError, match="has no true_cfg_scale"):
        score_of(sd, true_cfg_scale=2.0)
    assert all(hasattr(diffusers, name) for name in FAMILIES)

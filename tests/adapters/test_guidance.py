"""One weight of guidance on what is known and another on the rest: exact in the field, the bridge and the adapters."""

import functools
import inspect

import diffusers.guiders
import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.guidance import WEIGHTS, RegionalScale
from lanpaint.adapters.modular.blocks import guiders
from lanpaint.adapters.networks import network_score
from tests.adapters import tiny, tiny_modular
from tests.adapters.both_ways import both_ways, observe, score_of
from tests.adapters.zoo import case

SD_LEVEL = lp.VP.scaled_linear().level(400.0)


def _flux():
    made = tiny.flux()
    prompt = {name: tiny.embeds(*part.shape, seed=5) for name, part in made.call.items() if "embeds" in name}
    made.call |= {f"negative_{name}": part for name, part in prompt.items()} | {"true_cfg_scale": 3.0}
    return made


GUIDED = {
    "Stable Diffusion": tiny.sd,
    "SDXL": tiny.sdxl,
    "Flux": _flux,
    "PixArt": tiny.pixart,
    "Z-Image": tiny.z_image,
    "Wan, two transformers": tiny.wan_two,
    "LTX": tiny.ltx,
    "CogVideoX": tiny.cogvideox,
}


@pytest.mark.parametrize("known_weight", [0.0, 1.0, -0.5])
def test_the_field_has_the_score_of_one_law_on_the_known_part_and_of_the_other_on_the_rest(known_weight):
    """(1+λ)(α y_o − y)/σ² − λ s_v on the known part, s_w on the rest, each s_u + w (s_c − s_u) of two networks."""
    made, guidance, weight = tiny.sd(guidance=4.0), 8.0, 4.0
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    observation = observe(x)
    known, sigma = observation.known, SD_LEVEL.sigma
    score = score_of(made, known_guidance_scale=known_weight, known=known)
    field = lp.BiG(score, observation, guidance)(x, SD_LEVEL)

    prompt, negative = made.call["prompt_embeds"], made.call["negative_prompt_embeds"]
    with_prompt, without = (
        score_of(made, guidance_scale=1.0, prompt_embeds=embeds, negative_prompt_embeds=None).score(x, SD_LEVEL)
        for embeds in (prompt, negative)
    )

    def law(w):
        return without + w * (with_prompt - without)

    pull = (SD_LEVEL.alpha * observation.values - x) / sigma**2
    expected = torch.where(known, (1 + guidance) * pull - guidance * law(known_weight), law(weight))
    assert (field - expected).abs().max() < 1e-5 * expected.abs().max()
    assert not torch.allclose(field, lp.BiG(score_of(made), observation, guidance)(x, SD_LEVEL), atol=1e-3)


@pytest.mark.parametrize("name", GUIDED)
def test_bridge_and_adapter_guide_the_known_part_alike(name):
    made, paint = GUIDED[name](), functools.partial(lp.LanPaint, inner_steps=1)
    through_bridge, direct = both_ways(made, paint, known_guidance_scale=0.5)
    assert (through_bridge - direct).abs().max() < 1e-4 * direct.abs().max()


@pytest.mark.parametrize("name", ["Stable Diffusion", "Flux", "Z-Image", "Wan, two transformers"])
def test_the_same_weight_on_both_parts_gives_the_same_bits(name):
    made, paint = GUIDED[name](), functools.partial(lp.LanPaint, inner_steps=1)
    weight = made.call.get("true_cfg_scale", made.call.get("guidance_scale", 5.0))
    plain, _ = both_ways(made, paint)
    same, _ = both_ways(made, paint, known_guidance_scale=weight)
    assert torch.equal(plain, same)


@pytest.mark.parametrize(("name", "unguided"), [("Stable Diffusion", 1.0), ("Flux", 1.0), ("Z-Image", 0.0)])
def test_the_steps_of_alm_are_guided_and_its_updates_are_not(name, unguided):
    """No guidance in Eq. 1, guidance in Eq. 2 (arXiv:2606.31323, Sec. 4.1); 0 is no guidance for Z-Image."""
    made, paint = GUIDED[name](), functools.partial(lp.ALM, w2=0.1)
    through_bridge, direct = both_ways(made, paint, unguided=unguided)
    assert (through_bridge - direct).abs().max() < 1e-4 * direct.abs().max()
    guided = both_ways(made, paint, unguided=made.call.get("true_cfg_scale", made.call.get("guidance_scale", 5.0)))[1]
    assert (guided - direct).abs().max() > 1e-3 * direct.abs().max()


def test_an_inpainter_leaves_guidance_out_of_the_updates_of_alm():
    image, mask = torch.full((3, 16, 16), 0.5), torch.zeros(16, 16)
    mask[:, 8:] = 1

    def painted(sampler, **options):
        made = tiny.sd(guidance=4.0)
        call = {name: value for name, value in made.call.items() if name not in ("height", "width")}
        generator = torch.Generator().manual_seed(0)
        return lp.Inpainter(made.pipe, sampler=sampler)(
            image, mask, steps=3, generator=generator, output_type="pt", **call, **options
        )[0]

    alm = painted(functools.partial(lp.ALM, w2=0.1))
    assert torch.equal(alm, painted(lp.ALM, w2=0.1))
    assert torch.equal(alm, painted(lambda score, **options: lp.ALM(score, w2=0.1, **options)))
    updated_with_guidance = painted(lambda score, **options: lp.ALM(score, w2=0.1, unguided=score, **options))
    assert (alm - updated_with_guidance).abs().max() > 1e-4


@pytest.mark.parametrize("name", GUIDED)
def test_the_unguided_score_of_a_classic_pipeline_is_its_network_at_the_weight_that_changes_nothing(name):
    made = GUIDED[name]()
    weight = "true_cfg_scale" if "true_cfg_scale" in made.call else "guidance_scale"
    kept = []
    with lp.bridged(made.pipe, unguided_lanpaint, lambda latents: kept.append(latents.clone()) or observe(latents)):
        made.pipe(**made.call, num_inference_steps=2, output_type="latent", generator=generator())
    x, level = (
        kept[0],
        score_of(made).schedule.level(0.5 if name not in ("Stable Diffusion", "SDXL", "PixArt") else 400.0),
    )
    alone = score_of(made, **{weight: 0.0 if name == "Z-Image" else 1.0}).epsilon(x, level)
    assert (score_of(made).unguided.epsilon(x, level) - alone).abs().max() < 1e-5 * alone.abs().max()
    assert (score_of(made).epsilon(x, level) - alone).abs().max() > 1e-4 * alone.abs().max()


# Modular pipelines

MODULAR = [name for name, make in tiny_modular.FAMILIES.items() if make().calls_per_evaluation == 2]
SILENT = ("ERNIE-Image",)  # the prompts of the small network change nothing


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def unguided_lanpaint(score, **options):
    return lp.LanPaint(score.unguided, inner_steps=1, **options)


def without_guidance(made):
    """The call without guidance, after the guiders were given the weight that changes nothing."""
    for name, guider in guiders(made.pipe).items():
        neutral = 0.0 if getattr(guider, "use_original_formulation", False) else 1.0
        made.pipe.update_components(**{name: guider.new(guidance_scale=neutral)})
    return call_of(made) | ({"guidance_schedule": (1.0, 1.0, 1.0)} if "guidance_schedule" in made.call else {})


def call_of(made):
    picture = {"image": made.extra["control_image"]} if made.extra else {}
    return {**made.call, **picture, "num_inference_steps": 3}


def through_modular(made, paint, call=None):
    """What a sampler makes in a modular pipeline, its start and its levels."""
    firsts = []

    def first(latents):
        firsts.append(latents.clone())
        return observe(latents)

    with lp.bridged(made.pipe, paint, first, solver=lp.Euler(), generator=generator(1)) as bridge:
        made.pipe(**(call or call_of(made)), generator=generator(), output_type="pt")
    return bridge.sample, firsts[0], bridge.sampler.plan.levels


@pytest.mark.parametrize("name", MODULAR)
def test_in_a_modular_pipeline_the_steps_of_alm_are_guided_and_its_updates_are_not(name):
    """And a sampler of the unguided score makes what it makes in the same pipeline without guidance."""
    made, paint = tiny_modular.FAMILIES[name](), functools.partial(lp.ALM, w2=0.1)
    through_bridge, first, levels = through_modular(made, paint)
    guided, unguided = (through_modular(made, each)[0] for each in (plain_lanpaint, unguided_lanpaint))
    has_score = name != "LTX-2"  # its sound has a level in a run only
    score = network_score(made.pipe, **call_of(made)) if has_score else None
    call = without_guidance(made)
    assert torch.equal(unguided, through_modular(made, plain_lanpaint, call)[0])
    assert name in SILENT or (unguided - guided).abs().max() > 1e-3 * guided.abs().max()
    if score is not None:
        alone = network_score(made.pipe, **call)
        sampler = paint(score, unguided=alone, levels=levels, solver=lp.Euler())
        direct = sampler(observe(first), start=first, generator=generator(1))
        assert (through_bridge - direct).abs().max() < 1e-4 * direct.abs().max()


def plain_lanpaint(score, **options):
    return lp.LanPaint(score, inner_steps=1, **options)


GUIDERS = {
    "AdaptiveProjectedGuidance": {"guidance_scale": 4.0, "adaptive_projected_guidance_momentum": -0.5},
    "AdaptiveProjectedMixGuidance": {"guidance_scale": 4.0},
    "AutoGuidance": {"guidance_scale": 4.0, "auto_guidance_layers": [0], "dropout": 1.0},
    "ClassifierFreeGuidance": {"guidance_scale": 4.0, "guidance_rescale": 0.7, "use_original_formulation": True},
    "ClassifierFreeZeroStarGuidance": {"guidance_scale": 4.0},
    "MagnitudeAwareGuidance": {"guidance_scale": 4.0},
    "PerturbedAttentionGuidance": {"guidance_scale": 4.0, "perturbed_guidance_layers": [0]},
    "SkipLayerGuidance": {"guidance_scale": 4.0, "skip_layer_guidance_layers": [0]},
    "SmoothedEnergyGuidance": {"guidance_scale": 4.0, "seg_guidance_layers": [0]},
    "TangentialClassifierFreeGuidance": {"guidance_scale": 4.0},
}


def test_every_guider_of_diffusers_can_be_left_out():
    made = tiny_modular.FAMILIES["Stable Diffusion 3"]()
    expected = through_modular(made, plain_lanpaint, without_guidance(made))[0]
    known = {name for name in dir(diffusers.guiders) if name.endswith("Guidance")}
    rest = {"BaseGuidance", "LTX2Guidance", "FrequencyDecoupledGuidance"}  # the last one needs kornia
    assert known - rest == set(GUIDERS)
    for name, options in GUIDERS.items():
        guider = getattr(diffusers.guiders, name)(**options)
        made.pipe.update_components(guider=guider)
        torch.testing.assert_close(through_modular(made, unguided_lanpaint)[0], expected, rtol=0, atol=1e-5, msg=name)
        assert made.pipe.guider is guider
        assert guider.get_state()["enabled"]


def test_known_part_and_unguided_updates_of_a_modular_pipeline_have_each_their_own_guidance():
    made, paint = tiny_modular.FAMILIES["Z-Image"](), functools.partial(lp.ALM, w2=0.1)
    made.pipe.update_components(
        guider=diffusers.guiders.ClassifierFreeGuidance(guidance_scale=4.0, use_original_formulation=True)
    )
    firsts = []

    def first(latents):
        firsts.append(latents.clone())
        return observe(latents)

    with lp.bridged(made.pipe, paint, first, solver=lp.Euler(), generator=generator(1)) as bridge:
        bridge.guide_known(0.5)
        made.pipe(**call_of(made), generator=generator(), output_type="pt")
    known = observe(firsts[0]).known
    score = network_score(made.pipe, **call_of(made), known_guidance_scale=0.5, known=known)
    alone = network_score(made.pipe, **without_guidance(made))
    sampler = paint(score, unguided=alone, levels=bridge.sampler.plan.levels, solver=lp.Euler())
    direct = sampler(observe(firsts[0]), start=firsts[0], generator=generator(1))
    assert (bridge.sample - direct).abs().max() < 1e-4 * direct.abs().max()


@pytest.mark.parametrize("name", ["Stable Diffusion 3", "Z-Image"])
def test_an_inpainter_takes_alm_by_any_door_in_a_modular_pipeline(name):
    made = tiny_modular.FAMILIES[name]()
    image, mask = torch.full((3, *made.size), 0.5), torch.zeros(made.size)
    mask[:, made.size[1] // 2 :] = 1
    call = {name: value for name, value in call_of(made).items() if name not in ("height", "width")}

    def painted(sampler, **options):
        output = lp.Inpainter(made.pipe, sampler)(
            image, mask, generator=generator(), output_type="pt", **call, **options
        )
        return output.images[0]

    alm = painted(lp.ALM, w2=0.1)
    assert torch.equal(alm, painted(functools.partial(lp.ALM, w2=0.1)))
    assert torch.equal(alm, painted(lambda score, **options: lp.ALM(lp.CountedScore(score), w2=0.1, **options)))
    assert not torch.equal(alm, painted(lambda score, **options: lp.ALM(score, w2=0.1, unguided=score, **options)))


def test_sound_is_stepped_in_the_outer_steps_whether_the_first_evaluation_answers_the_sampler_or_not():
    """Without guidance an unguided score is the score; only then is the pipeline's own first evaluation taken."""
    made = case("LTX2ImageToVideo")
    takes = inspect.signature(made.pipe.__call__).parameters

    def painted(paint):
        off = {name: weight for name, weight in WEIGHTS.items() if name in takes}
        call = {**made.call, **off, made.control_name: made.control, "num_inference_steps": 3}
        with lp.bridged(made.pipe, paint, observe, generator=generator(1)) as bridge:
            made.pipe(**call, generator=generator(), output_type="np")
        return bridge.sample

    assert torch.equal(painted(plain_lanpaint), painted(unguided_lanpaint))


def test_a_family_that_rescales_what_it_guides_does_so_for_each_weight_in_its_adapter():
    made = tiny.qwen()
    x = torch.randn(1, 24, 16, generator=torch.Generator().manual_seed(0))
    known = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    level = lp.NoiseLevel(0.6, 0.4)
    both = score_of(made, known_guidance_scale=2.0, known=known).score(x, level)
    one, other = (score_of(made, true_cfg_scale=weight).score(x, level) for weight in (2.0, 4.0))
    assert torch.equal(both, torch.where(known, one, other))


def test_it_is_the_pipeline_s_number_wherever_that_is_asked_for():
    scale = RegionalScale(7.5, 0.0)
    assert (scale > 1, scale + 1, scale * 2, 2 * scale, isinstance(scale, float)) == (True, 8.5, 15.0, 15.0, True)
    scale.hold(torch.tensor([[True, False], [False, True]]))
    assert not scale.was_used()
    assert torch.equal(scale * torch.ones(2, 2), torch.tensor([[0.0, 7.5], [7.5, 0.0]]))
    assert scale.was_used()
    rows = [scale * torch.ones(2) for _ in range(2)]  # one image after the other
    assert torch.equal(torch.stack(rows), torch.tensor([[0.0, 7.5], [7.5, 0.0]]))
    assert scale.was_used()


def test_a_weight_is_found_on_either_side_of_a_product_and_in_sums():
    known, ones = torch.tensor([[True, False]]), torch.ones(1, 2)
    guided = True
    scale = RegionalScale(3.0, 0.0, conditional=1.0)
    scale.hold(known, lambda: guided)
    ways = [  # s_u + w (s_c − s_u) with s_u = 1, s_c = 2
        lambda: ones + scale * ones,
        lambda: ones + ones * scale,
        lambda: torch.lerp(ones, 2 * ones, scale),
        lambda: 2 * ones + (scale - 1) * ones,
    ]
    for way in ways:
        guided = True
        assert torch.equal(way(), torch.tensor([[1.0, 4.0]]))
        assert scale.was_used()
        guided = False
        assert torch.equal(way(), 2 * ones)
        assert scale.was_used()
    assert torch.equal((1 - scale) * ones + scale * (2 * ones), 2 * ones)
    assert torch.full((1,), scale).item() == torch.tensor(scale).item() == 3.0
    scale.release()
    assert torch.equal(ones * scale, 3 * ones)


def test_guidance_that_cannot_be_left_out_is_told_in_one_line():
    dynamic = tiny.cogvideox()
    own_way = tiny.sd(guidance=4.0)
    unswitched = tiny_modular.FAMILIES["Stable Diffusion 3"]()
    own_way.pipe.__class__ = type("OwnWay", (type(own_way.pipe),), {"guidance_scale": 4.0})
    unswitched.pipe.guider.disable = None
    for made, told, more in [
        (dynamic, "with use_dynamic_cfg it always guides; leave use_dynamic_cfg out", {"use_dynamic_cfg": True}),
        (own_way, "guides in a way of its own; call it without guidance", {}),
        (unswitched, r"its guider \(ClassifierFreeGuidance\) has no disable", {}),
    ]:
        with pytest.raises(ValueError, match=told) as caught, lp.bridged(made.pipe, lp.ALM, observe):
            made.pipe(**{**made.call, "num_inference_steps": 2, **more})
        assert len(str(caught.value).splitlines()) == 1


def _paint(made, weight=0.0, **more):
    image, mask = torch.zeros(3, 16, 16, dtype=torch.uint8), torch.zeros(16, 16)
    mask[:, 8:] = 1
    if made.channels == 1:
        image, mask = image[:1, :8, :8], mask[:8, 4:12]
    call = {name: value for name, value in made.call.items() if name not in ("height", "width")}
    return lp.Inpainter(made.pipe)(image, mask, steps=2, inner_steps=1, known_guidance_scale=weight, **call | more)


def test_where_it_cannot_be_had_one_line_says_why():
    qwen = tiny.qwen()
    for made, told, more in [
        (tiny.ddpm(), "DDPMPipeline has no classifier-free guidance; leave known_guidance_scale out", {}),
        (qwen, "QwenImagePipeline rescales the guided output .* use a network adapter", {}),
        (tiny.sd(), "rescales the guided output .guidance_rescale", {"guidance_rescale": 0.5}),
        (tiny.sd(), "does not guide this evaluation .* leave known_guidance_scale out", {"guidance_scale": 1.0}),
        (tiny.flux(), "does not guide this evaluation", {}),
        (tiny.sd(), "known_guidance_scale must be a finite number, got 'much'", {"weight": "much"}),
    ]:
        with pytest.raises(ValueError, match=told) as caught:
            _paint(made, **more)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ValueError, match="known_guidance_scale needs known, the mask"):
        score_of(tiny.sd(), known_guidance_scale=0.0)
    with pytest.raises(ValueError, match="has no ControlNet"):
        score_of(tiny.sd(), control_image=torch.zeros(1, 3, 16, 16))
    plain = tiny.sd_controlnet()
    plain.extra = {}
    with pytest.raises(ValueError, match="needs control_image"):
        score_of(plain)

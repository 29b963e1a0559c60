"""One weight of guidance on what is known and another on the rest: exact in the field, the bridge and the adapters."""

import functools

import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.guidance import RegionalScale
from tests.adapters import tiny
from tests.adapters.both_ways import both_ways, observe, score_of

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
    guided, _ = both_ways(made, paint)
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
    updated_with_guidance = painted(lambda score, **options: lp.ALM(score, w2=0.1, **options))
    assert (alm - updated_with_guidance).abs().max() > 1e-4


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

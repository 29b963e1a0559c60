"""Modular pipelines: what holds of classic ones holds of them."""

import contextlib
import functools
import gc
import logging
import re

import diffusers
import numpy as np
import pytest
import torch
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.modular_pipelines.modular_pipeline_utils import InputParam, OutputParam

import lanpaint as lp
from lanpaint.adapters.bridge.stand_in import StepArguments
from lanpaint.adapters.modular.blocks import after, guiders, loops
from lanpaint.adapters.modular.step import LanPaintDenoiseStep, with_lanpaint
from lanpaint.adapters.networks import network_score
from lanpaint.adapters.reading import prediction_of, stage_level
from tests.adapters import modular_table, tiny, tiny_modular
from tests.adapters.both_ways import score_of
from tests.adapters.modular_table import counted, generator, picture_of, pictures_in, snapshot


def made_of(name):
    return tiny_modular.FAMILIES[name]()


def call_of(made, **more):
    image = {"image": made.extra["control_image"]} if made.extra else {}
    return {**made.call, **image, "num_inference_steps": 3, "output_type": "pt", "generator": generator(), **more}


@pytest.mark.parametrize("name", tiny_modular.FAMILIES)
def test_a_family_paints_as_a_classic_pipeline(name):
    assert modular_table.judge(made_of(name)) == dict.fromkeys(modular_table.COLUMNS, True)


def test_the_page_has_the_table_of_the_families():
    page = modular_table.MARKS.search(modular_table.PAGE.read_text(encoding="utf-8"))
    rows = [line.split(" | ")[0].removeprefix("| ") for line in page[0].splitlines() if line.startswith("| ")]
    assert rows[1:] == list(tiny_modular.FAMILIES)


def test_the_snippet_of_the_page_runs(monkeypatch):
    page = modular_table.PAGE.read_text(encoding="utf-8").split("## Modular pipelines")[1].split("\n## ")[0]
    first, second = re.findall(r"```{code-block} python\n(.*?)```", page, flags=re.DOTALL)
    made = made_of("Qwen-Image")
    spoken = {name: made.call[name] for name in made.call if "prompt" in name}

    class Encode(diffusers.ModularPipelineBlocks):
        inputs = property(lambda self: [InputParam("prompt")])
        intermediate_outputs = property(lambda self: [OutputParam(name) for name in spoken])

        def __call__(self, components, state):
            for name, value in spoken.items():
                state.set(name, value)
            return components, state

    blocks = made.pipe.blocks
    blocks.sub_blocks.insert("text_encoder", Encode(), 0)
    pipe = blocks.init_pipeline()
    pipe.update_components(**made.pipe.components)
    monkeypatch.setattr(diffusers.ModularPipeline, "from_pretrained", lambda _: pipe)
    monkeypatch.setattr(type(pipe), "load_components", lambda *_, **__: None)
    picture, mask = (numbers.numpy() for numbers in picture_of(made))
    names = {"lanpaint": lp, "photo": picture.transpose(1, 2, 0), "mask": mask}
    known = np.round(names["photo"] * 255).astype(np.uint8)[mask == 0]
    for snippet in (first, second.replace('"images"', '"images", height=16, width=24')):
        exec(compile(snippet, "docs/use-with-your-model.md", "exec"), names)
        assert np.array_equal(np.asarray(names.pop("image"))[mask == 0], known)


def test_sub_blocks_see_the_steps_and_the_bar_counts_evaluations(monkeypatch):
    made = made_of("Ideogram 4")
    (loop,) = loops(made.pipe._blocks)
    first, seen, ticks = next(iter(loop.sub_blocks.values())), [], []

    class Noted(type(first)):
        def __call__(self, components, state, **given):
            seen.append((given["i"], len(state.timesteps), bool(state.timesteps[given["i"]] == given["t"])))
            return super().__call__(components, state, **given)

    class Bar(contextlib.nullcontext):
        def update(self, count=1):
            ticks.append(count)

    def bar(self, iterable=None, total=None):
        ticks.append(total)
        made = Bar()
        made.enter_result = made
        return made

    first.__class__ = Noted
    monkeypatch.setattr(type(loop), "progress_bar", bar)
    with lp.bridged(made.pipe, functools.partial(lp.LanPaint, inner_steps=2)):
        made.pipe(**call_of(made))
    assert seen == [(step, 3, True) for step in (0, 0, 0, 1, 1, 1, 2, 2, 2)]
    assert ticks == [9] + 9 * [1]


def test_guidance_in_a_share_of_the_steps_is_at_the_same_noise_levels():
    made = made_of("Stable Diffusion 3")
    made.pipe.update_components(guider=ClassifierFreeGuidance(guidance_scale=5.0, start=0.4, stop=0.7))
    _, plain = counted(made, lambda: made.pipe(**call_of(made)))
    assert plain == 3 + 1  # the second of three steps is guided

    def paint():
        with lp.bridged(made.pipe, functools.partial(lp.LanPaint, inner_steps=2)):
            made.pipe(**call_of(made))

    assert counted(made, paint)[1] == 9 + 3


def test_the_known_part_has_a_weight_of_guidance_of_its_own():
    def painted(name="Stable Diffusion 3", **options):
        made = made_of(name)
        picture, mask = picture_of(made)
        before = snapshot(made.pipe)
        rest = {name: value for name, value in call_of(made).items() if name not in ("height", "width", "num_frames")}
        pictures = pictures_in(lp.Inpainter(made.pipe, inner_steps=2)(picture, mask, **rest, **options))
        assert snapshot(made.pipe) == before
        return pictures

    scale = made_of("Stable Diffusion 3").pipe.guider.guidance_scale
    assert torch.equal(painted(known_guidance_scale=scale), painted())
    assert (painted(known_guidance_scale=0.0) - painted()).abs().max() > 1e-4
    assert (painted("Wan 2.2", known_guidance_scale=0.0) - painted("Wan 2.2")).abs().max() > 1e-4
    with pytest.raises(ValueError, match="FluxModularPipeline has no guider with a weight; leave"):
        painted("Flux.1", known_guidance_scale=0.0)
    with pytest.raises(ValueError, match="QwenImageModularPipeline rescales the guided output"):
        painted("Qwen-Image", known_guidance_scale=0.0)


@pytest.mark.parametrize("options", [{"strength": 0.6}, {"soft": True}, {"feather": 2}, {"sampler": lp.RePaint}])
def test_what_inpainter_can_do_it_can_do_with_a_modular_pipeline(options):
    made, options = made_of("Stable Diffusion 3"), dict(options)
    picture, mask = picture_of(made)
    rest = {name: value for name, value in call_of(made).items() if name not in ("height", "width")}
    sampler = {"sampler": options.pop("sampler")} if "sampler" in options else {"inner_steps": 1}
    painted = pictures_in(lp.Inpainter(made.pipe, **sampler)(picture, 0.6 * mask, **rest, **options))
    assert torch.equal(painted[..., :6], picture[..., :6])
    assert torch.isfinite(painted).all()
    assert not torch.equal(painted[..., 8:], picture[..., 8:])


def test_pictures_of_any_size_and_several_at_a_time():
    made = made_of("Flux.1")
    pictures = torch.rand(2, 3, 21, 30, generator=generator())
    mask = torch.zeros(21, 30)
    mask[:, 15:] = 1
    rest = {name: value for name, value in call_of(made).items() if name not in ("height", "width")}
    rest |= {name: made.call[name].repeat_interleave(2, 0) for name in ("prompt_embeds", "pooled_prompt_embeds")}
    images = lp.Inpainter(made.pipe, inner_steps=0)(pictures, mask, **rest, num_images_per_prompt=2).images
    assert images.shape == (4, 3, 21, 30)
    assert torch.equal(images[..., mask == 0], pictures.repeat_interleave(2, 0)[..., mask == 0])


def test_a_call_leaves_nothing_for_the_garbage_collector():
    made = made_of("Flux.1")
    picture, mask = picture_of(made)

    def paint():
        rest = {name: value for name, value in call_of(made).items() if name not in ("height", "width")}
        lp.Inpainter(made.pipe, inner_steps=1)(picture, mask, **rest)

    paint()
    gc.collect()
    gc.disable()
    try:
        paint()
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("output", ["images", ["images", "latents"], "latents", None])
def test_the_output_is_what_was_asked_for_with_the_known_pixels_in_it(output):
    made = made_of("Flux.1")
    picture, mask = picture_of(made)
    rest = {name: value for name, value in call_of(made).items() if name not in ("height", "width")}
    painted = lp.Inpainter(made.pipe, inner_steps=0)(picture, mask, **rest, output=output)
    if output == "latents":
        assert painted.shape == (1, 4, 8, 12)
        return
    images = painted if output == "images" else painted["images"] if output else painted.images
    assert torch.equal(images[0][..., mask == 0], picture[..., mask == 0])


def test_latents_that_are_known_come_back_exactly_through_bridged():
    made = made_of("Qwen-Image")
    known = torch.zeros(1, 24, 16, dtype=torch.bool)
    known[:, :10] = True
    observation = lp.Observation(torch.randn(1, 24, 16, generator=generator()), known)
    kept = modular_table.Keep()
    with lp.bridged(made.pipe, functools.partial(lp.LanPaint, inner_steps=1, callbacks=[kept]), observation) as bridge:
        state = made.pipe(**call_of(made))
    assert torch.equal(kept.x[known], observation.values[known])
    assert bridge.evaluations == bridge.planned == 6
    assert pictures_in(state).shape == (3, 16, 24)


def test_a_run_may_end_early():
    made = made_of("Flux.1")

    class Two(lp.Callback):
        def on_level_end(self, sampler, state):
            return lp.Stop.RUN if state.step == 1 else None

    with lp.bridged(made.pipe, functools.partial(lp.LanPaint, inner_steps=1, callbacks=[Two()])) as bridge:
        _, calls = counted(made, lambda: made.pipe(**call_of(made)))
    assert calls == bridge.evaluations < bridge.planned == 6


def test_a_start_in_mid_run_is_refused_in_one_line_and_the_pipe_is_as_before(caplog):
    made = made_of("Stable Diffusion XL")
    before = snapshot(made.pipe)
    with lp.bridged(made.pipe, lp.LanPaint):
        with pytest.raises(ValueError, match=r"leaves out some of its times with strength=0\.5; a sampler needs all"):
            made.pipe(**call_of(made), strength=0.5)
        with pytest.raises(ValueError, match="StableDiffusionXLModularPipeline leaves out some of the times"):
            made.pipe(**call_of(made), image=torch.rand(1, 3, 16, 16))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert snapshot(made.pipe) == before


def test_the_mask_of_the_pipeline_s_own_inpainting_is_refused():
    made = made_of("Stable Diffusion XL")
    picture, mask = picture_of(made)
    with pytest.raises(TypeError, match="takes mask_image; the mask is called mask"):
        lp.Inpainter(made.pipe)(picture, mask_image=mask)


def test_blocks_after_the_loop_are_those_that_run_after_it():
    made = made_of("Flux.1")
    (loop,) = loops(made.pipe._blocks.get_workflow("text2image"))
    rest = after(made.pipe._blocks.get_workflow("text2image"), loop)
    assert [type(block).__name__ for block in rest] == ["FluxUnpackLatentsStep", "FluxDecodeStep"]


# The network as a score


def stepped(made, steps=3):
    """What the pipeline gives its scheduler in a call: latents, output and level of each step."""
    scheduler, seen = made.pipe.scheduler, []

    def step(*args, **kwargs):
        given = StepArguments(scheduler, args, kwargs)
        seen.append((given.sample.clone(), given.output.clone(), stage_level(scheduler, len(seen))))
        return type(scheduler).step(scheduler, *args, **kwargs)

    vars(scheduler)["step"] = step
    try:
        made.pipe(**call_of(made, num_inference_steps=steps))
    finally:
        del vars(scheduler)["step"]
    return seen


@pytest.mark.parametrize("name", [name for name in tiny_modular.FAMILIES if name != "LTX-2"])
def test_the_score_is_what_the_pipeline_predicts_and_has_its_gradient(name):
    made = made_of(name)
    seen, before = stepped(made), snapshot(made.pipe)
    given = call_of(made)
    del given["generator"], given["output_type"]
    score = network_score(made.pipe, **given)
    for x, output, level in seen:
        expected = prediction_of(made.pipe.scheduler, output.to(x.dtype), x, level).denoised
        assert (score.denoised(x, level) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert snapshot(made.pipe) == before

    score.to(torch.float64)
    x, _, level = seen[1]
    x = x.double().requires_grad_()
    weights = torch.randn(x.shape, generator=generator(), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((score.denoised(x, level) * weights).sum(), x)
    step = 1e-2 * gradient / gradient.square().mean().sqrt()  # some networks compute in float32 within
    with torch.no_grad():
        ahead, behind = (score.denoised(x + sign * step, level) for sign in (1, -1))
    difference = ((ahead - behind) * weights).sum() / 2
    assert (gradient * step).sum().item() == pytest.approx(difference.item(), rel=1e-2)


CLASSIC = {  # a guider as the classic pipeline's own guidance
    "Stable Diffusion XL": (tiny.sdxl, {"guidance_scale": 5.0}),
    "Stable Diffusion 3": (tiny.sd3, {"guidance_scale": 7.0}),
    "Flux.1": (tiny.flux, None),
    "Qwen-Image": (tiny.qwen, {"guidance_scale": 4.0}),
    "Z-Image": (tiny.z_image, {"guidance_scale": 5.0, "use_original_formulation": True}),
    "Wan 2.1": (tiny.wan, {"guidance_scale": 5.0}),
    "Wan 2.2": (tiny.wan_two, {"guidance_scale": 5.0}),
    "LTX-Video": (tiny.ltx, {"guidance_scale": 3.0}),
}


@pytest.mark.parametrize("name", CLASSIC)
def test_modular_and_classic_form_of_a_family_predict_the_same(name):
    modular = made_of(name)
    classic, guidance = CLASSIC[name]
    if guidance is not None:
        for part in guiders(modular.pipe):
            modular.pipe.update_components(**{part: ClassifierFreeGuidance(**guidance)})
    one, other = score_of(classic()), network_score(modular.pipe, **modular.call)
    for x, _, level in stepped(modular)[:2]:
        first, second = one.denoised(x, level), other.denoised(x, level)
        assert (first - second).abs().max() <= 1e-5 * first.abs().max()
        assert (first - x).abs().max() > 1e-2


def test_a_batch_of_the_score_has_several_rows_for_each_prompt_and_levels_of_its_own():
    made = made_of("Flux.1")
    (x, _, level), (_, _, other), _ = stepped(made)
    score = network_score(made.pipe, **made.call, num_inference_steps=3)
    both = torch.cat([x, 2 * x, x])
    levels = lp.NoiseLevel(
        torch.stack([level.alpha, other.alpha, other.alpha])[:, None, None],
        torch.stack([level.sigma, other.sigma, other.sigma])[:, None, None],
    )
    together = score.denoised(both, levels)
    for row, one in enumerate((level, other, other)):
        torch.testing.assert_close(together[row], score.denoised(both[row : row + 1], one)[0], rtol=0, atol=1e-5)
    doubled = {name: made.call[name].repeat_interleave(2, 0) for name in ("prompt_embeds", "pooled_prompt_embeds")}
    two = network_score(made.pipe, **{**made.call, **doubled}, num_inference_steps=3)
    with pytest.raises(ValueError, match="x has 3 rows and there are 2 prompts"):
        two.denoised(both, level)


def test_the_known_part_of_the_score_has_a_weight_of_guidance_of_its_own():
    made = made_of("Stable Diffusion 3")
    x, _, level = stepped(made)[1]
    known = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    known[..., :4] = True

    def denoised(**more):
        return network_score(made.pipe, **made.call, **more).denoised(x, level)

    two = denoised(known=known, known_guidance_scale=0.5)
    guided = denoised()
    made.pipe.update_components(guider=ClassifierFreeGuidance(guidance_scale=0.5))
    torch.testing.assert_close(two, torch.where(known, denoised(), guided), rtol=0, atol=1e-6)
    assert (denoised() - guided).abs().max() > 1e-3


def test_a_sampler_that_needs_gradients_runs_with_a_family_that_has_no_classic_form():
    made = made_of("Krea 2")
    score = network_score(made.pipe, **made.call)
    known = torch.zeros(1, 24, 16, dtype=torch.bool)
    known[:, :12] = True
    observation = lp.Observation(torch.randn(1, 24, 16, generator=generator()), known)
    levels = lp.spacings.uniform_time(score.schedule, 3)
    x = lp.DPS(score, levels=levels)(observation, generator=generator())
    assert torch.isfinite(x).all()
    assert torch.equal(x[known], observation.values[known])


def test_a_score_of_what_has_no_single_state_is_refused():
    made = made_of("LTX-2")
    with pytest.raises(ValueError, match="samples something beside its latents, sound perhaps"):
        network_score(made.pipe, **made.call)
    made = tiny_modular.chunks()
    with pytest.raises(ValueError, match="makes its latents or its times itself, in parts of a whole"):
        network_score(made.pipe, **made.call)


def test_a_pipeline_that_samples_part_by_part_is_refused():
    made = tiny_modular.chunks()
    picture, mask = picture_of(made)
    rest = {name: value for name, value in call_of(made).items() if name not in ("height", "width", "num_frames")}
    with pytest.raises(ValueError, match="the loop of HeliosModularPipeline makes its latents or its times itself"):
        lp.Inpainter(made.pipe)(picture, mask, **rest)


def test_arguments_that_a_modular_pipeline_does_not_take_are_told():
    made = made_of("Flux.1")
    with pytest.raises(ValueError, match=r"FluxModularPipeline does not take colour; it takes .*guidance_scale"):
        network_score(made.pipe, **made.call, colour="red")


# LanPaint as a block


def with_block(made):
    """A pipeline of the same parts with LanPaint in place of its loop."""
    pipe = with_lanpaint(made.pipe.blocks).init_pipeline()
    kinds = torch.nn.Module, diffusers.ConfigMixin
    pipe.update_components(**{name: part for name, part in made.pipe.components.items() if isinstance(part, kinds)})
    return pipe


@pytest.mark.parametrize("name", ["Stable Diffusion XL", "Qwen-Image", "Wan 2.1", "Flux.2", "ERNIE-Image"])
def test_the_block_paints_what_inpainter_paints(name):
    made = made_of(name)
    picture, mask = picture_of(made)
    rest = {name: value for name, value in call_of(made).items() if name not in ("height", "width", "num_frames")}
    expected = pictures_in(lp.Inpainter(made.pipe, inner_steps=2)(picture, mask, **rest))
    pipe = with_block(made)
    before = snapshot(pipe)
    painted = pictures_in(pipe(**call_of(made), known_image=picture, paint_mask=mask, inner_steps=2))
    assert torch.equal(painted, expected)
    assert torch.equal(painted[..., mask == 0], picture[..., mask == 0])
    after_call = snapshot(pipe)
    assert (after_call[0], after_call[1]) == (before[0], before[1])


def test_the_block_without_a_mask_is_the_loop():
    made = made_of("Flux.1")
    assert torch.equal(pictures_in(with_block(made)(**call_of(made))), pictures_in(made.pipe(**call_of(made))))


def test_the_block_takes_latents_and_another_sampler():
    made = made_of("Flux.1")
    known = torch.zeros(1, 24, 1, dtype=torch.bool)
    known[:, :10] = True
    values, seen = torch.randn(1, 24, 16, generator=generator()), []

    class Kept(lp.RePaint):
        def __call__(self, *args, **kwargs):
            seen.append(super().__call__(*args, **kwargs))
            return seen[0]

    pipe = with_block(made)
    given = {"known_latents": values, "known_latents_mask": known, "inner_steps": 1}
    pipe(**call_of(made), **given, sampler_options={"sampler": Kept})
    known = known.expand(values.shape)
    assert torch.equal(seen[0][known], values[known])


def test_the_block_declares_what_it_takes():
    made = made_of("Flux.1")
    step = next(block for block in every_block(with_lanpaint(made.pipe.blocks)) if type(block) is LanPaintDenoiseStep)
    assert {"known_image", "paint_mask", "known_latents", "known_latents_mask", "inner_steps"} <= set(step.input_names)
    assert "latents" in step.intermediate_output_names
    assert {"transformer", "scheduler", "vae"} <= set(step.component_names)
    for text in (step.doc, repr(with_block(made).blocks)):
        assert "LanPaint" in text
    assert "known_image" in step.doc


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"paint_mask": torch.ones(16, 24)}, "known_image and paint_mask belong together"),
        ({"known_latents": torch.zeros(1, 24, 16)}, "known_latents needs known_latents_mask"),
    ],
)
def test_what_the_block_lacks_is_told(given, message):
    made = made_of("Flux.1")
    with pytest.raises(ValueError, match=message):
        with_block(made)(**call_of(made), **given)


def test_blocks_without_a_loop_are_refused():
    blocks = made_of("Flux.1").pipe.blocks
    blocks.sub_blocks.pop("denoise")
    with pytest.raises(ValueError, match="has no denoising loop of blocks"):
        with_lanpaint(blocks)


def every_block(block):
    """A block and all within it."""
    yield block
    for part in block.sub_blocks.values():
        yield from every_block(part)

"""The layout is learned from the pipeline's own tail, and what the pipeline decodes is checked."""

import copy
import dataclasses
import functools

import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.adapters import latents
from lanpaint.adapters.latents import LatentLayout
from lanpaint.adapters.tail import Caught, NoTailError
from lanpaint.adapters.tail_map import learn_map
from tests.adapters import tiny

FAMILIES = {**tiny.FAMILIES, "LTX-2": tiny.ltx2}


@functools.cache
def _family(name):
    return FAMILIES[name]()


def _arguments(made):
    control = {"image": made.extra["control_image"]} if made.extra else {}
    return {"num_inference_steps": 3, **made.call, **control}


def _learned(made, **more):
    layout = LatentLayout(made.pipe)
    layout.learn({**_arguments(made), **more})
    return layout


def _pictures(made, seed=0):
    return torch.rand(1, made.channels, *made.size, generator=torch.Generator().manual_seed(seed))


def _given(made):
    pictures = _pictures(made)[0]
    return pictures.transpose(0, 1) if len(made.size) == 3 else pictures


def _inpaint(made, layout=None, **more):
    mask = torch.zeros(made.size[-2:])
    mask[:, made.size[-1] // 2 :] = 1
    call = {name: value for name, value in made.call.items() if name not in ("height", "width", "num_frames")}
    options = {"steps": 2, "inner_steps": 1, "generator": torch.Generator().manual_seed(0), "output_type": "np"}
    return lp.Inpainter(made.pipe, layout=layout)(_given(made), mask, **{**options, **call, **made.extra, **more})


def _by_hand(name, vae, encoded):
    """Of encoded pictures, by the formulas of the papers and repositories of the families."""
    config = {} if vae is None else vae.config
    if name == "DDPM":
        return 2 * encoded - 1
    if name in ("Qwen-Image", "Wan", "Wan, two transformers"):
        mean, std = (torch.tensor(config[key]).reshape(-1, *[1] * (encoded.ndim - 2)) for key in
                     ("latents_mean", "latents_std"))  # fmt: skip
        latents = (encoded - mean) / std
    elif name in ("LTX", "LTX-2"):
        latents = (encoded - vae.latents_mean.reshape(-1, 1, 1, 1)) / vae.latents_std.reshape(-1, 1, 1, 1)
    else:
        latents = (encoded - (config.get("shift_factor") or 0)) * config["scaling_factor"]
    if name in ("Flux", "Qwen-Image"):  # 2 × 2 cells are a token, its channels first
        return torch.nn.functional.pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)
    if name in ("LTX", "LTX-2"):
        return latents.flatten(2).transpose(1, 2)
    return latents.transpose(1, 2) if name == "CogVideoX" else latents


@pytest.mark.parametrize("name", FAMILIES)
def test_the_learned_map_is_that_of_the_family_and_the_network_is_not_called(name):
    made, calls = _family(name), []
    hooks = [getattr(made.pipe, part).register_forward_hook(lambda *_: calls.append(1)) for part in made.networks]
    before, numbers = dict(vars(made.pipe)), torch.get_rng_state()
    generator = torch.Generator().manual_seed(5)
    try:
        layout = _learned(made, generator=generator)
    finally:
        for hook in hooks:
            hook.remove()
    assert (layout.reason, calls) == ("", [])
    assert vars(made.pipe) == before
    assert torch.equal(torch.get_rng_state(), numbers)
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(5).get_state())

    encoded = layout.encode(_pictures(made))
    got, change = layout.arrange(encoded, torch.zeros(encoded.shape))
    expected = _by_hand(name, layout.vae, encoded)
    assert not bool(change.any())
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_a_cell_may_change_as_much_where_the_pipeline_packs_it():
    made = _family("Flux")
    layout = _learned(made)
    encoded = layout.encode(_pictures(made))
    cells = torch.rand(1, 1, 8, 12, generator=torch.Generator().manual_seed(1))
    _, change = layout.arrange(encoded, cells)
    packed = torch.nn.functional.pixel_unshuffle(cells.expand(encoded.shape), 2).flatten(2).transpose(1, 2)
    assert torch.equal(change, packed)


def _wan_with_a_lie():
    """A VAE whose configuration names a factor that the pipeline never applies."""
    made = tiny.wan()
    made.pipe.vae.register_to_config(scaling_factor=0.3)
    return made


class _FromConfig(LatentLayout):
    """The layout as it is read from the configuration."""

    def normalise(self, latents):
        return super().normalise(latents)


def test_a_factor_in_the_configuration_that_the_pipeline_does_not_apply_is_not_applied():
    made = _wan_with_a_lie()
    layout = _learned(made)
    encoded = layout.encode(_pictures(made))
    got, _ = layout.arrange(encoded, torch.zeros(encoded.shape))
    assert torch.allclose(got, _by_hand("Wan", layout.vae, encoded), atol=1e-5)
    _inpaint(made)


def test_where_the_layout_is_wrong_the_picture_is_refused_in_one_line():
    made = _wan_with_a_lie()
    with pytest.raises(
        ValueError, match=r"WanPipeline decodes at known cells what is .* away from the image's"
    ) as told:
        _inpaint(made, _FromConfig(made.pipe))
    assert "give a layout= for its family" in str(told.value)
    assert len(str(told.value).splitlines()) == 1
    assert _inpaint(tiny.wan(), _FromConfig(tiny.wan().pipe)) is not None  # and where it is right it is not


@pytest.mark.parametrize("rounding", [torch.float32, torch.bfloat16])
def test_half_precision_pipelines_pass_the_check_and_a_wrong_scale_does_not(rounding):
    made = tiny.sd(dtype=rounding)
    assert np.isfinite(_inpaint(made).images).all()

    class Off(LatentLayout):
        def normalise(self, latents):
            return 1.2 * super().normalise(latents)

    with pytest.raises(ValueError, match="StableDiffusionPipeline decodes at known cells"):
        _inpaint(made, Off(made.pipe))


def test_sixteen_bits_are_read_to_more_than_their_own_rounding():
    exact, rounded = _learned(tiny.sd()).learned, _learned(tiny.wan()).learned
    assert float(abs(exact.scale * 0.18215 - 1).max()) < 1e-6
    made = tiny.wan()
    made.pipe.vae.to(torch.bfloat16)
    half = _learned(made).learned
    assert half.eps == 2**-7
    assert torch.equal(half.source, rounded.source)
    assert float(abs(half.scale / rounded.scale - 1).max()) < 1e-3
    assert float(abs(half.shift - rounded.shift).max()) < 4e-3  # half a rounding step at 1


def test_prompts_are_encoded_once_though_the_tail_is_run_several_times():
    made, calls = tiny.with_clip(tiny.sd()), []
    made.pipe.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    call = {"prompt": "a cat", "negative_prompt": "a dog", "prompt_embeds": None, "negative_prompt_embeds": None}
    call |= {"generator": torch.Generator().manual_seed(0), "num_inference_steps": 2, "guidance_scale": 7.5}
    made.pipe(**call, height=16, width=16)
    alone = len(calls)
    calls.clear()
    inpaint, mask = lp.Inpainter(made.pipe, inner_steps=1), torch.ones(16, 16)
    inpaint(_given(made), mask, **call)
    assert len(calls) == alone
    before = sorted(vars(made.pipe))
    inpaint(_given(made), mask, **{**call, "prompt": "a cow"})  # nothing of the first prompt is kept
    assert len(calls) == 2 * alone
    assert sorted(vars(made.pipe)) == before


def test_a_layout_is_learned_once_for_a_size(monkeypatch):
    made, learned = tiny.sd(), []
    learn = latents.learn_map
    monkeypatch.setattr(latents, "learn_map", lambda *given, **more: learned.append(1) or learn(*given, **more))
    layout = LatentLayout(made.pipe)
    for height in (16, 16, 24, 24):
        layout.learn({**made.call, "height": height})
    assert len(learned) == 2


def test_a_preview_that_decodes_in_mid_run_is_not_taken_for_the_result():
    made = tiny.sd()

    def preview(pipe, step, time, tensors):
        pipe.vae.decode(torch.randn(1, 4, 8, 8))
        return {}

    _inpaint(made, callback_on_step_end=preview)


def test_noise_that_the_caller_wants_before_decoding_is_allowed_and_no_part_of_the_layout():
    made = tiny.ltx()
    made.pipe.vae.register_to_config(timestep_conditioning=True)
    plain, noisy = _learned(tiny.ltx()).learned, _learned(made, decode_timestep=0.05, decode_noise_scale=0.025).learned
    assert torch.equal(plain.source, noisy.source)
    assert torch.allclose(plain.scale, noisy.scale)


# The map itself


def _tail(function, shape=(2, 4, 6), dtype=torch.float32):
    """A tail that does this with its latents."""

    def caught(probe):
        return Caught(shape, dtype, function(probe(torch.zeros(shape))))

    return caught


def _patched(latents):
    """Tokens (B, 4, 6) as 6 channels of 2 × 2, with statistics per channel."""
    mean, std = torch.linspace(-2, 3, 6).reshape(6, 1, 1), torch.linspace(0.2, 5, 6).reshape(6, 1, 1)
    return latents.transpose(1, 2).reshape(-1, 6, 2, 2).flip(-1) * std.to(latents) + mean.to(latents)


@pytest.mark.parametrize("steps", [(), (torch.bfloat16,), (torch.float16,), (torch.bfloat16, torch.float32)])
def test_a_map_is_read_off_in_every_precision_also_in_one_that_it_hides(steps):
    def tail(latents):
        for dtype in steps[:1]:
            latents = latents.to(dtype)
        made = _patched(latents)
        return made.to(steps[-1]) if steps else made

    learned = learn_map(_tail(tail))
    latents = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    made = _patched(latents)
    bound = 1e-6 if not steps else 1e-2
    assert torch.allclose(learned.apply(latents).float(), made, atol=bound * 20, rtol=bound)
    back, change = learned.invert(made, torch.zeros(made.shape))
    assert torch.allclose(back, latents, atol=bound * 20, rtol=bound)
    assert not bool(change.any())


def test_a_pure_reordering_comes_back_bit_for_bit():
    learned = learn_map(_tail(lambda z: z.transpose(1, 2).reshape(2, 6, 2, 2)))
    latents = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    back, _ = learned.invert(learned.apply(latents), torch.zeros(2, 6, 2, 2))
    assert torch.equal(back, latents)


def test_large_latents_take_several_digits():
    shape = (1, 1, 600, 1000)  # a digit of float32 has 2^19 values
    order = torch.randperm(600_000, generator=torch.Generator().manual_seed(0))
    learned = learn_map(_tail(lambda z: z.reshape(1, -1)[:, order].reshape(shape), shape))
    assert torch.equal(learned.source, order)


def test_entries_that_are_not_decoded_are_free_and_added_ones_are_ignored():
    def tail(latents):  # the last token is dropped, and a constant channel added
        made = latents[:, :3].transpose(1, 2).reshape(2, 6, 1, 3)
        return torch.cat([made, torch.full((2, 1, 1, 3), 7.0)], dim=1)

    learned = learn_map(_tail(tail))
    made = tail(torch.randn(2, 4, 6))
    _, change = learned.invert(made, torch.zeros(made.shape))
    assert not bool(change[:, :3].any())
    assert bool((change[:, 3] == 1).all())


def test_frames_that_a_decoder_of_stills_takes_as_a_batch_are_one_sample():
    learned = learn_map(_tail(lambda z: z.transpose(1, 2).flatten(0, 1) / 0.5, (2, 3, 5, 2, 2)))
    assert (learned.rows, learned.decoded) == (5, (3, 2, 2))
    latents = torch.randn(2, 3, 5, 2, 2)
    assert torch.allclose(learned.apply(latents).float(), latents.transpose(1, 2).flatten(0, 1) * 2)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda z: z**3, "no number times an entry"),
        (lambda z: z.clamp(-1, 2), "no number times an entry|several times"),
        (lambda z: z * 0 + 1, "does not depend on its latents"),
        (lambda z: z.cumsum(-1), "no number times an entry|several times"),
        (lambda z: z.flip(0), "no affine map of its latents, sample by sample"),
        (lambda z: z[:, :1].expand(2, 4, 6), "several times"),
        (lambda z: z[:1].repeat(3, 1, 1), "is given 3 for latents of 2"),
    ],
)
def test_a_tail_that_is_no_such_map_is_not_learned(function, told):
    with pytest.raises(NoTailError, match=told):
        learn_map(_tail(function))


def test_a_pipeline_whose_tail_fails_falls_back_on_its_configuration():
    made = tiny.sd()
    pipe = copy.copy(made.pipe)
    layout = LatentLayout(pipe)
    layout.learn({**made.call, "height": 16, "prompt_embeds": None})  # the pipeline refuses to run without a prompt
    assert layout.learned is None
    assert layout.reason.startswith("it fails with")
    assert layout.encode(_pictures(made)).shape == (1, 4, 8, 8)


def test_a_size_is_kept_where_the_pixels_of_a_cell_are_misread(monkeypatch):
    made = _family("Stable Diffusion")
    monkeypatch.setattr(LatentLayout, "factor", property(lambda layout: 1))
    assert LatentLayout(made.pipe).nearest(16, 16, made.call) == (16, 16)


def test_a_picture_of_another_area_is_painted_at_the_size_that_the_pipeline_makes_of_it():
    made = _family("HiDream")  # it changes every size to 256 pixels in all
    photo, mask = torch.rand(3, 48, 20, generator=torch.Generator().manual_seed(0)), torch.zeros(48, 20)
    mask[:, 10:] = 1
    call = {name: value for name, value in made.call.items() if name not in ("height", "width")}
    inpaint = lp.Inpainter(made.pipe, inner_steps=1)
    painted = inpaint(photo, mask, steps=2, output_type="pt", **call).images[0]
    assert inpaint.layout.made_size == (24, 8)
    assert painted.shape == photo.shape
    assert torch.equal(painted[..., :10], photo[..., :10])


def test_what_another_call_learns_does_not_reach_a_call_that_has_begun():
    """Another thread that paints another size with the same Inpainter learns its layout before this call goes on."""
    made = _family("Stable Diffusion")
    inpaint, kept = lp.Inpainter(made.pipe, inner_steps=1), {}

    class Keep(lp.Callback):
        def on_run_start(self, sampler, state):
            kept["observation"] = state.observation

    def painted(disturb):
        def sampler(score, **options):
            if disturb:
                inpaint.layout.learned = dataclasses.replace(
                    inpaint.layout.learned, scale=2 * inpaint.layout.learned.scale
                )
            return lp.LanPaint(score, callbacks=[Keep()], **options)

        inpaint.sampler, inpaint.options = sampler, {}
        mask = torch.zeros(made.size)
        mask[:, made.size[1] // 2 :] = 1
        generator = torch.Generator().manual_seed(0)
        call = {name: value for name, value in made.call.items() if name not in ("height", "width")}
        inpaint(_pictures(made), mask, steps=2, generator=generator, output_type="pt", **call)
        return kept["observation"].values

    assert torch.equal(painted(False), painted(True))

"""Every family with its real classes, built small: it runs as planned, and what is known comes back exactly."""

import functools

import diffusers
import numpy as np
import pytest
import torch

import lanpaint as lp
from lanpaint.adapters.latents import LatentLayout
from tests.adapters import tiny

STEPS, INNER = 3, 2


@functools.cache
def _family(name):
    return tiny.FAMILIES[name]()


def _pictures(made, seed=0):
    """Random pictures, (n, C, [frames,] H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, made.channels, *made.size)
    return torch.randint(0, 256, shape, generator=generator).float() / 255


def _given(made):
    """As a caller gives them: (C, H, W), or frames first."""
    pictures = _pictures(made)[0]
    return pictures.transpose(0, 1) if len(made.size) == 3 else pictures


def _arguments(made):
    control = {"image": made.extra["control_image"]} if made.extra else {}
    return {"num_inference_steps": STEPS, "generator": torch.Generator().manual_seed(0), **made.call, **control}


def _call(made, **more):
    return made.pipe(**{**_arguments(made), **more})[0]


def _layout(made):
    """The layout that an Inpainter uses."""
    layout = LatentLayout(made.pipe)
    layout.learn(_arguments(made))
    return layout


def _inpaint(made, image, mask, sampler=lp.LanPaint, **more):
    inpaint = lp.Inpainter(made.pipe, sampler)
    sizes = ("height", "width", "num_frames")
    call = {name: value for name, value in made.call.items() if name not in sizes}
    generator = torch.Generator().manual_seed(0)
    output = inpaint(image, mask, steps=STEPS, generator=generator, **{**call, **made.extra, **more})
    return output[0], inpaint.bridge


class Networks:
    """Counts the calls of a pipeline's networks."""

    def __init__(self, made):
        self.networks, self.calls = [getattr(made.pipe, name) for name in made.networks], 0

    def __enter__(self):
        self.hooks = [network.register_forward_hook(self._tick) for network in self.networks]
        return self

    def _tick(self, *_):
        self.calls += 1

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()


class Keep(lp.Callback):
    """Keeps the observation and the last state of a run."""

    def on_level_end(self, sampler, state):
        self.x, self.observation = state.x, state.observation


def _as_tensor(made, pictures):
    """The pipeline's numpy pictures as (n, C, [frames,] H, W)."""
    tensor = torch.from_numpy(pictures).movedim(-1, -3)
    return tensor.transpose(1, 2) if len(made.size) == 3 else tensor


@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_without_a_mask_and_inner_steps_the_output_is_the_pipeline_s_bit_for_bit(name):
    made = _family(name)
    with Networks(made) as alone:
        expected = _call(made, output_type="np")
    with lp.bridged(made.pipe, functools.partial(lp.LanPaint, inner_steps=0)) as bridge, Networks(made) as counted:
        got = _call(made, output_type="np")
    assert np.array_equal(got, expected)
    assert counted.calls == alone.calls == made.calls_per_evaluation * bridge.planned


@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_it_paints_as_planned_and_what_is_known_is_exact(name):
    made, keep = _family(name), Keep()
    mask = torch.zeros(made.size[-2:])
    mask[:, made.size[-1] // 2 :] = 1
    options = {"inner_steps": INNER, "callbacks": [keep]}
    with Networks(made) as counted:
        got, bridge = _inpaint(made, _given(made), mask, output_type="np", **options)
    planned = STEPS * (INNER + 1) + (not hasattr(made.pipe, "prepare_latents"))  # one to see where it starts
    assert bridge.planned == bridge.evaluations == planned
    assert counted.calls == made.calls_per_evaluation * planned
    assert bridge.outer_steps == STEPS

    known = keep.observation.known.expand(keep.x.shape)
    assert 0.2 < float(known.float().mean()) < 0.6
    assert torch.equal(keep.x[known], keep.observation.values[known])
    kept = ~mask.bool()
    assert torch.equal(_as_tensor(made, got)[..., kept], _pictures(made)[..., kept])
    assert np.isfinite(got).all()


@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_pictures_are_laid_out_so_that_the_pipeline_decodes_them_again(name):
    """All known: the pipeline's own decoding of the encoded picture is the VAE's of the VAE's, cell by cell."""
    made, keep = _family(name), Keep()
    layout, pictures = _layout(made), _pictures(made)
    change = torch.zeros(pictures[:, :1].shape)
    paint = functools.partial(lp.Replace, callbacks=[keep])
    with lp.bridged(made.pipe, paint, functools.partial(layout.observation, pictures, change)):
        got = _as_tensor(made, _call(made, output_type="np"))
    assert bool(keep.observation.known.all())
    assert torch.equal(keep.x, keep.observation.values)
    if layout.vae is None:
        expected = pictures
    else:
        single = name == "Qwen-Image"  # a VAE of video, for stills
        pixels = (2 * pictures - 1).unsqueeze(2) if single else 2 * pictures - 1
        with torch.no_grad():
            encoded = layout.vae.encode(pixels)
            latents = (
                encoded.latent_dist.mode() if hasattr(encoded, "latent_dist")
                else encoded.latents if hasattr(encoded, "latents") else encoded.latent
            )  # fmt: skip
            temb = (torch.zeros(1),) if name == "LTX" else ()
            decoded = layout.vae.decode(latents, *temb, return_dict=False)[0]
        expected = ((decoded.squeeze(2) if single else decoded) / 2 + 0.5).clamp(0, 1)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() < 1e-4


@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_a_cell_is_known_only_when_all_pixels_under_it_are(name):
    """One unknown pixel: one cell, with the whole group of frames that it stands for, is unknown, and no other."""
    made = _family(name)
    layout, pictures = _layout(made), _pictures(made)
    known = torch.ones(pictures[:, :1].shape, dtype=torch.bool)
    known[0, 0, ..., 5, 3] = False
    if len(made.size) == 3:
        known[:, :, :3] = True  # frames 3 and 4, which are one group
        known[:, :, 4] = True
    cells = tuple(layout.encode(pictures).shape[2:])
    got = layout.cell_rule(known, cells)
    expected = torch.ones(1, 1, *cells, dtype=torch.bool)
    expected[0, 0, ..., 5 // layout.factor, 3 // layout.factor] = False
    if len(made.size) == 3:
        expected[:, :, :-1] = True
    assert torch.equal(got, expected)


@pytest.mark.parametrize("name", ["SDXL", "Flux", "SD3"])
def test_the_layout_is_that_of_diffusers_own_image_to_image_pipeline(name):
    made, layout = _family(name), _layout(_family(name))
    pictures = _pictures(made)
    posterior = made.pipe.vae.encode(2 * pictures - 1).latent_dist
    encoded = layout.encode(pictures)
    got, _ = layout.arrange(encoded, torch.zeros(encoded.shape))
    generator = torch.Generator().manual_seed(0)
    # Those draw from the encoder's distribution; with its width taken away they are ours.
    posterior.std = torch.zeros_like(posterior.std)
    encode = made.pipe.vae.encode
    made.pipe.vae.encode = lambda _: type("Encoded", (), {"latent_dist": posterior})
    parts, pixels = dict(made.pipe.components), 2 * pictures - 1
    height, width = made.size
    try:
        if name == "SDXL":
            pipe = diffusers.StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)
            given = {"generator": generator, "add_noise": False}
            expected = pipe.prepare_latents(pixels, torch.tensor([0]), 1, 1, torch.float32, "cpu", **given)
        elif name == "Flux":
            pipe = diffusers.FluxImg2ImgPipeline(**parts)
            latents = pipe._encode_vae_image(pixels, generator)
            expected = pipe._pack_latents(latents, 1, 4, height // 2, width // 2)
        else:
            pipe = diffusers.StableDiffusion3Img2ImgPipeline(**parts)
            pipe.scheduler.set_timesteps(3)
            clean = torch.zeros(1)  # no noise: the scheduler's sigma at the end
            pipe.scheduler.scale_noise = lambda sample, *_: sample
            expected = pipe.prepare_latents(pixels, clean, 1, 1, torch.float32, "cpu", generator)
    finally:
        made.pipe.vae.encode = encode
    assert torch.allclose(got, expected, atol=1e-6)


def test_a_loaded_lora_is_in_the_pipeline_s_network():
    from peft import LoraConfig

    made, mask = tiny.sd(), torch.zeros(16, 16)
    mask[:, 8:] = 1
    plain, _ = _inpaint(made, _given(made), mask, output_type="np")
    made.pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    expected = _call(made, output_type="np")
    with lp.bridged(made.pipe, lp.Replace):
        assert np.array_equal(_call(made, output_type="np"), expected)
    with_lora, _ = _inpaint(made, _given(made), mask, output_type="np")
    assert np.array_equal(plain[:, :, :8], with_lora[:, :, :8])
    assert abs(plain - with_lora).max() > 1e-3


def test_model_offloading_hooks_run_as_in_the_pipeline():
    """Without an accelerator the hooks are set by hand, as pipelines set them: on forward, encode and decode."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    made, mask = tiny.sd(), torch.zeros(16, 16)
    mask[:, 8:] = 1
    expected, _ = _inpaint(made, _given(made), mask, output_type="np")
    calls = {"unet": 0, "vae": 0}

    class Offload(ModelHook):
        def __init__(self, name):
            self.name = name

        def pre_forward(self, module, *args, **kwargs):
            calls[self.name] += 1
            module.to("cpu")
            return args, kwargs

        def post_forward(self, module, output):
            return output

    for name in calls:
        add_hook_to_module(getattr(made.pipe, name), Offload(name))
    got, bridge = _inpaint(made, _given(made), mask, output_type="np")
    assert np.array_equal(got, expected)
    assert calls == {"unet": bridge.evaluations, "vae": 2}  # the picture in, and the picture out


def test_float16_vaes_that_overflow_encode_in_float32():
    made = tiny.sdxl()
    pictures = _pictures(made)
    expected = LatentLayout(made.pipe).encode(pictures)
    made.pipe.vae.to(torch.float16)
    got = LatentLayout(made.pipe).encode(pictures)
    assert made.pipe.vae.dtype == torch.float16
    assert (got - expected).abs().max() < 0.01 * expected.abs().max()


def test_a_layout_that_does_not_fit_is_told():
    made = tiny.flux()
    layout = LatentLayout(made.pipe)
    pictures = torch.rand(1, 3, 16, 16)
    change = torch.zeros(1, 1, 16, 16)
    with (
        pytest.raises(ValueError, match=r"FluxPipeline samples latents of shape \(1, 24, 16\) and its pictures encode"),
        lp.bridged(made.pipe, lp.LanPaint, functools.partial(layout.observation, pictures, change)),
    ):
        _call(made)

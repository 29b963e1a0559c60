"""Pictures and masks in, the pipeline's own output out."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import lanpaint as lp
from lanpaint.adapters.latents import wholly_known
from lanpaint.pasting import seam_weight
from lanpaint.pasting import with_pictures as replace_pictures
from lanpaint.window import Window
from tests.adapters import tiny


@pytest.fixture(scope="module")
def sd():
    return tiny.sd()


@pytest.fixture(scope="module")
def wan():
    return tiny.wan()


def _bytes(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


PHOTO = _bytes(3, 16, 16)
RIGHT = torch.zeros(16, 16, dtype=torch.bool)
RIGHT[:, 8:] = True


def _pil(pixels):
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def _arguments(made, **more):
    sizes = ("height", "width", "num_frames")
    call = {name: value for name, value in made.call.items() if name not in sizes}
    return {"steps": 2, "inner_steps": 1, "generator": torch.Generator().manual_seed(0), **call, **more}


def _inpaint(made, image=PHOTO, mask=RIGHT, **more):
    return lp.Inpainter(made.pipe)(image, mask, **_arguments(made, **more))


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_output_types_are_those_of_diffusers_with_known_pixels_exact(sd, output_type):
    images = _inpaint(sd, output_type=output_type).images
    if output_type == "pil":
        got = torch.from_numpy(np.array(images[0])).permute(2, 0, 1)
        assert torch.equal(got[..., :8], PHOTO[..., :8])
    else:
        got = images[0] if output_type == "pt" else torch.from_numpy(images[0]).permute(2, 0, 1)
        assert torch.equal(got[..., :8], PHOTO[..., :8].float() / 255)
        assert type(images) is (torch.Tensor if output_type == "pt" else np.ndarray)
    assert not torch.equal(got[..., 8:], (PHOTO if output_type == "pil" else PHOTO.float() / 255)[..., 8:])


def test_latents_are_given_back_untouched_and_tuples_as_tuples(sd):
    latents = _inpaint(sd, output_type="latent").images
    assert latents.shape == (1, 4, 8, 8)
    images, flags = _inpaint(sd, return_dict=False)
    assert images[0].size == (16, 16)
    assert flags is None


def test_pictures_and_masks_come_in_any_form(sd, tmp_path):
    expected = np.array(_inpaint(sd).images[0])
    file, mask_file = tmp_path / "photo.png", tmp_path / "mask.png"
    _pil(PHOTO).save(file)
    white = Image.fromarray(RIGHT.numpy().astype(np.uint8) * 255)
    white.save(mask_file)
    transparent = _pil(PHOTO).copy()
    transparent.putalpha(Image.fromarray((~RIGHT).numpy().astype(np.uint8) * 255))
    array = PHOTO.permute(1, 2, 0).numpy()
    for image, mask in [
        (_pil(PHOTO), white),
        (str(file), mask_file),
        (array, RIGHT.numpy()),
        (array.astype(np.float32) / 255, RIGHT.float().numpy()),
        (PHOTO.float() / 255, RIGHT[None]),
        (PHOTO[None], RIGHT[None, None]),
        ([_pil(PHOTO)], [white]),
        (transparent, None),
    ]:
        assert np.array_equal(np.array(_inpaint(sd, image, mask).images[0]), expected)


def test_a_grey_picture_becomes_what_the_model_takes(sd):
    grey = Image.fromarray(PHOTO[0].numpy())
    got = np.array(_inpaint(sd, grey).images[0])
    assert np.array_equal(got[:, :8], PHOTO[0, :, :8].numpy()[..., None].repeat(3, 2))


def test_prompt_lists_and_several_images_per_prompt():
    made = tiny.sd(images=2)
    photos = [_pil(_bytes(3, 16, 16, seed=seed)) for seed in (1, 2)]
    both = _inpaint(made, photos, num_images_per_prompt=2, generator=lp.seeded(range(4))).images
    assert len(both) == 4
    for index, image in enumerate(both):
        assert np.array_equal(np.array(image)[:, :8], np.array(photos[index // 2])[:, :8])
    one = _inpaint(made, photos[0], num_images_per_prompt=2, generator=lp.seeded(range(4))).images
    assert np.array_equal(np.array(one[3])[:, :8], np.array(photos[0])[:, :8])
    for index in range(2):  # one generator per image: it is the same beside any other, to the rounding of the VAE
        assert abs(np.array(one[index]).astype(int) - np.array(both[index])).max() <= 1


def test_outpainting_pads_and_keeps_the_picture(sd):
    image = _inpaint(sd, mask=None, pad=(4, 2, 4, 6)).images[0]
    assert image.size == (24, 24)
    got = np.array(image)
    assert np.array_equal(got[2:18, 4:20], PHOTO.permute(1, 2, 0).numpy())
    mask = torch.zeros(16, 16)
    mask[:8] = 1
    both = np.array(_inpaint(sd, mask=mask, pad=(8, 0, 0, 0)).images[0])
    assert np.array_equal(both[8:, 8:], PHOTO.permute(1, 2, 0).numpy()[8:])
    assert not np.array_equal(both[:8, 8:], PHOTO.permute(1, 2, 0).numpy()[:8])


def test_a_feathered_seam_fades_on_the_known_side_alone(sd):
    known = ~RIGHT[None, None]
    weight = seam_weight(known, 3)[0, 0, 0]
    assert torch.allclose(weight[4:9], torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    assert torch.equal(seam_weight(known, 0), known.float())
    plain, soft = (np.array(_inpaint(sd, feather=feather).images[0]).astype(int) for feather in (0, 3))
    assert np.array_equal(plain[:, :5], soft[:, :5])
    assert np.array_equal(plain[:, 8:], soft[:, 8:])
    assert (plain[:, 5:8] != soft[:, 5:8]).any()


def test_a_seam_fades_in_a_pipeline_of_pixels_too():
    made, photo = tiny.ddpm(), _bytes(1, 8, 8)
    mask = _hole(8, 8, slice(0, 8), slice(4, 8))
    soft = np.array(_inpaint(made, photo, mask, feather=2).images[0])
    assert np.array_equal(soft[:, :2], photo[0, :, :2].numpy())
    assert (soft[:, 2:4] != photo[0, :, 2:4].numpy()).mean() > 0.5


def test_the_callback_is_called_once_per_outer_step_and_may_change_the_prompt(sd):
    steps = []

    def callback(pipe, step, time, tensors):
        steps.append((step, sorted(tensors)))
        return {"prompt_embeds": torch.zeros_like(tensors["prompt_embeds"])}

    more = {"steps": 3, "inner_steps": 2, "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}
    changed = _inpaint(sd, callback_on_step_end=callback, **more).images[0]
    assert steps == [(step, ["latents", "prompt_embeds"]) for step in range(3)]
    assert not np.array_equal(np.array(changed), np.array(_inpaint(sd, steps=3, inner_steps=2).images[0]))


def test_the_progress_bar_counts_evaluations(sd, capsys):
    sd.pipe.set_progress_bar_config(disable=False)
    try:
        _inpaint(sd, steps=3, inner_steps=4)
    finally:
        sd.pipe.set_progress_bar_config(disable=True)
    assert "15/15" in capsys.readouterr().err


def test_without_an_image_it_samples_and_without_inner_steps_as_the_pipeline_does(sd):
    arguments = _arguments(sd, inner_steps=0, output_type="np")
    got = lp.Inpainter(sd.pipe)(**arguments).images
    call = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(0), **sd.call}
    expected = sd.pipe(**{**call, "output_type": "np", "height": None, "width": None}).images
    assert np.array_equal(got, expected)


def test_options_of_a_call_go_before_those_of_the_inpainter(sd):
    inpaint = lp.Inpainter(sd.pipe, lp.LanPaint, inner_steps=3, lam=2.0)
    arguments = _arguments(sd)
    arguments.pop("inner_steps")
    inpaint(PHOTO, RIGHT, **arguments)
    assert (inpaint.bridge.sampler.inner_steps, inpaint.bridge.sampler.lam) == (3, 2.0)
    inpaint(PHOTO, RIGHT, **_arguments(sd, inner_steps=1))
    assert (inpaint.bridge.sampler.inner_steps, inpaint.bridge.sampler.lam) == (1, 2.0)


def test_the_rule_for_cells_can_be_changed(sd):
    mask = torch.zeros(16, 16)
    mask[:, 7:] = 1  # half of a cell
    counts = []

    def any_known(known, cells):
        answer = ~wholly_known(~known, cells)
        counts.append((int(answer.sum()), int(wholly_known(known, cells).sum())))
        return answer

    lp.Inpainter(sd.pipe, cell_rule=any_known)(PHOTO, mask, **_arguments(sd))
    assert counts == [(8 * 4, 8 * 3)]


def test_frames_are_grouped_as_video_vaes_do():
    known = torch.ones(1, 1, 9, 4, 4, dtype=torch.bool)
    known[:, :, 4, 0, 0] = False  # the last of frames 1 … 4
    got = wholly_known(known, (3, 2, 2))
    assert got[0, 0, :, 0, 0].tolist() == [True, False, True]
    assert int((~got).sum()) == 1
    with pytest.raises(ValueError, match="9×4×4 pixels do not divide among 3×3×2 latent cells"):
        wholly_known(known, (3, 3, 2))


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_videos_keep_their_known_frames(wan, output_type):
    video = _bytes(5, 3, 16, 16)
    masks = torch.zeros(5, 16, 16)
    masks[3:] = 1  # the last two frames, one latent frame
    frames = _inpaint(wan, video, masks, output_type=output_type).frames
    if output_type == "pil":
        got = torch.stack([torch.from_numpy(np.array(frame)).permute(2, 0, 1) for frame in frames[0]])
        assert torch.equal(got[:3], video[:3])
        again = _inpaint(wan, [_pil(frame) for frame in video], masks).frames  # the pipeline's own default: np
        assert np.array_equal((again[0] * 255).round().astype(np.uint8), got.permute(0, 2, 3, 1).numpy())
    else:
        got = frames[0] if output_type == "pt" else torch.from_numpy(frames[0]).permute(0, 3, 1, 2)
        assert torch.equal(got[:3], video[:3].float() / 255)
    assert len(got) == 5


def test_one_mask_serves_all_frames(wan):
    video = _bytes(5, 3, 16, 16)
    frames = _inpaint(wan, video, RIGHT, output_type="pt").frames
    assert torch.equal(frames[0][..., :8], video[..., :8].float() / 255)


def _pixels(images, kind):
    """uint8 (n, C, H, W) of a pipeline's output."""
    if kind == "pil":
        arrays = [np.atleast_3d(np.array(image)) for image in images]
        return torch.stack([torch.from_numpy(array).permute(2, 0, 1) for array in arrays])
    return ((images if kind == "pt" else torch.from_numpy(images).movedim(-1, 1)) * 255).round().to(torch.uint8)


SIZED = {  # pipelines that take multiples, or one size
    "multiples of 8, as its own check asks": (tiny.sd, 3, (37, 53), (40, 56), "pil"),
    "multiples of 8, np": (tiny.sd, 3, (21, 15), (24, 16), "np"),
    "multiples of 8, pt": (tiny.sd, 3, (7, 16), (8, 16), "pt"),
    "multiples of 4": (tiny.flux, 3, (17, 15), (20, 16), "pil"),
    "one size, smaller": (tiny.ddpm, 1, (37, 53), None, "pil"),
    "one size, larger": (tiny.ldm, 3, (13, 5), None, "np"),
}


@pytest.mark.parametrize("name", SIZED)
def test_a_picture_of_any_size_keeps_its_size_and_its_known_pixels(name):
    make, channels, (height, width), painted_at, kind = SIZED[name]
    made, photo, sizes = make(), _bytes(channels, height, width), []
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[height // 3 : -2, width // 3 :] = True
    inpaint = lp.Inpainter(made.pipe)
    encoded_cells = inpaint.layout.encoded_cells
    inpaint.layout.encoded_cells = lambda shown, change: (
        sizes.append(tuple(shown.shape[-2:])) or encoded_cells(shown, change)
    )
    got = _pixels(inpaint(photo, mask, **_arguments(made, output_type=kind, steps=1))[0], kind)
    assert got.shape == (1, channels, height, width)
    assert torch.equal(got[0, :, ~mask], photo[:, ~mask])
    assert (got[0, :, mask] != photo[:, mask]).any(0).float().mean() > 0.8
    assert painted_at is None or sizes == [painted_at]


@pytest.mark.parametrize(("kind", "frames"), [("pil", 4), ("np", 4), ("pt", 3)])
def test_a_video_of_any_size_and_number_of_frames_keeps_both(wan, monkeypatch, kind, frames):
    monkeypatch.setattr(type(lp.Inpainter(wan.pipe).layout), "group", 4)  # the small VAE takes 1, 5, 9, … frames
    video = _bytes(frames, 3, 13, 15)
    mask = torch.zeros(13, 15, dtype=torch.bool)
    mask[:, 8:] = True
    out = _inpaint(wan, [_pil(frame) for frame in video], mask, output_type=kind, steps=1).frames[0]
    got = _pixels(out, kind)
    assert got.shape == video.shape
    assert torch.equal(got[..., ~mask], video[..., ~mask])
    assert not torch.equal(got[..., mask], video[..., mask])


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("door", ["PIL", "path", "list", "array", "tensor"])
def test_what_a_picture_has_beside_its_colours_comes_back_by_every_door(sd, tmp_path, door):
    """In an odd size, turned by its EXIF data, with padding on one side: alpha, profile, resolution, EXIF."""
    pixels = _bytes(4, 15, 21, seed=5)
    pixels[3] = 255
    pixels[3, :3] = torch.arange(21, dtype=torch.uint8)
    lying, exif = _pil(pixels).transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    lying.save(tmp_path / "in.png", icc_profile=PROFILE, dpi=(300, 200), exif=exif)
    given = {
        "PIL": Image.open(tmp_path / "in.png"),
        "path": tmp_path / "in.png",
        "list": [Image.open(tmp_path / "in.png")],
        "array": pixels.permute(1, 2, 0).numpy(),
        "tensor": pixels.float() / 255,
    }[door]
    mask = torch.zeros(15, 21, dtype=torch.bool)
    mask[2:, 9:] = True
    image = _inpaint(sd, given, mask, pad=(0, 0, 2, 0), steps=1, inner_steps=0).images[0]
    got = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    assert got.shape == (4, 15, 23)
    assert torch.equal(got[:, :, :21][:, ~mask], pixels[:, ~mask])
    assert (got[3, :, :21][mask] == 255).all()
    assert (got[3, :, 21:] == 255).all()
    if door in ("PIL", "path", "list"):
        assert image.info["icc_profile"] == PROFILE
        assert image.info["dpi"] == pytest.approx((300, 200), abs=0.01)
        assert dict(image.getexif()) == {0x010F: "Maker"}


def test_frames_keep_their_transparency(wan):
    frames = _bytes(5, 4, 16, 16, seed=2)
    out = _inpaint(wan, [_pil(frame) for frame in frames], RIGHT, output_type="pil", steps=1, inner_steps=0).frames[0]
    for frame, image in zip(frames, out, strict=True):
        got = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        assert torch.equal(got[..., :8], frame[..., :8])
        assert (got[3, :, 8:] == 255).all()


def test_what_is_added_to_reach_a_size_is_unknown_but_in_cells_that_pixels_of_the_picture_share():
    known = torch.ones(1, 1, 37, 53, dtype=torch.bool)
    window = Window.whole(37, 53, lambda height, width: (-(-height // 16) * 16, -(-width // 16) * 16), 16, cell=8)
    assert window.size == (48, 64)
    shown, whole = window.cut(torch.arange(37 * 53).reshape(1, 1, 37, 53).float() / 2000, known)
    assert whole[..., :40, :56].all()
    assert not whole[..., 40:, :].any()
    assert not whole[..., 56:].any()
    assert torch.equal(shown[..., :37, 53:], shown[..., :37, 52:53].expand(-1, -1, -1, 11))
    known[..., 30:, 40:] = False  # a hole up to the edge stays a hole past it
    assert not window.cut(shown[..., :37, :53], known)[1][..., 30:, 40:].any()


def test_a_picture_is_not_stretched_for_a_model_that_takes_one_size():
    window = Window.whole(40, 100, lambda height, width: (16, 16))
    assert (window.height, window.width, window.size) == (100, 100, (16, 16))
    known = ~torch.from_numpy(_hole(64, 64, slice(10, 14), slice(10, 40)))[None, None]
    window = Window.around(known, 1, 16, lambda height, width: (16, 16))
    assert (window.height, window.width) == (30, 30)
    assert window.top <= 10 <= 14 <= window.top + 30


def test_a_control_picture_is_shown_in_the_same_window(monkeypatch):
    made = tiny.sd_controlnet()
    photo, control, seen = _bytes(3, 17, 15), _bytes(3, 17, 15, seed=3), []
    prepare = type(made.pipe).prepare_image
    monkeypatch.setattr(
        made.pipe,
        "prepare_image",
        lambda image, *args, **more: seen.append(image) or prepare(made.pipe, image, *args, **more),
    )
    mask = _hole(17, 15, slice(4, 9), slice(4, 9))
    for given in (_pil(control), control, control.permute(1, 2, 0).numpy()):
        call = _arguments(made, control_image=given)
        call.pop("image", None)
        _inpaint(made, photo, mask, **{k: v for k, v in call.items() if k not in ("steps", "inner_steps")})
        assert seen[-1].size == (16, 18)
        assert np.array_equal(np.array(seen[-1])[:17, :15], control.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("error", "told", "arguments"),
    [
        (TypeError, "neither StableDiffusionPipeline nor LanPaint takes colour", {"colour": 1}),
        (ValueError, "give steps or num_inference_steps, not both", {"num_inference_steps": 2}),
        (ValueError, "the mask is 8×16 and the image 16×16", {"mask": torch.ones(16, 8)}),
        (ValueError, "there is nothing to paint: give a mask", {"mask": None}),
        (ValueError, "need an image; leave them out", {"image": None}),
        (ValueError, "pad must be four whole numbers", {"pad": (1, 2, 3)}),
        (ValueError, "feather must be a whole number", {"feather": -1}),
        (ValueError, "height=32, but the image is painted at height 16; leave height out", {"height": 32}),
        (ValueError, r"must lie in \[0, 1\], got -1", {"image": PHOTO.float() / 127.5 - 1}),
        (ValueError, "must have one size", {"image": [PHOTO, PHOTO[:, :8]]}),
        (ValueError, r"shape \(5, 16, 16\) has no axis of 1, 3 or 4 channels", {"image": _bytes(5, 16, 16)}),
        (TypeError, "image must be a PIL image, a path, an array or a tensor, got int", {"image": 3}),
        (ValueError, "the image nothing.png does not exist", {"image": "nothing.png"}),
        (ValueError, "makes still images, but a video was given", {"image": PHOTO.expand(2, 3, 3, 16, 16)}),
    ],
)
def test_bad_input_is_told_in_one_line_and_before_the_pipeline_runs(sd, error, told, arguments):
    calls = []
    hook = sd.pipe.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        with pytest.raises(error, match=told) as caught:
            _inpaint(sd, **arguments)
    finally:
        hook.remove()
    assert len(str(caught.value).splitlines()) == 1
    assert not calls


def test_an_option_that_the_sampler_does_not_have_is_told_at_once(sd):
    with pytest.raises(TypeError, match="Replace has no option inner_steps"):
        lp.Inpainter(sd.pipe, lp.Replace, inner_steps=3)
    with pytest.raises(ValueError, match="not both"):
        lp.Inpainter(sd.pipe, layout=object(), cell_rule=wholly_known)


@pytest.mark.parametrize("make", [tiny.sd, tiny.flux])
def test_a_decoder_that_overflows_is_told_and_leaves_nothing_behind(make):
    made = make()
    weight = next(made.pipe.vae.decoder.parameters())
    before = weight.detach().clone()
    inpaint, shape = lp.Inpainter(made.pipe), made.size
    picture = np.zeros((*shape, 3), np.uint8)
    mask = np.ones(shape, bool)
    call = {
        "steps": 1,
        "inner_steps": 0,
        **{n: v for n, v in made.call.items() if n not in ("height", "width", "num_frames")},
    }
    with torch.no_grad():
        weight.fill_(float("inf"))
    try:
        with pytest.raises(ValueError, match=r"the decoder of .* overflows in float32: .* bfloat16") as caught:
            inpaint(picture, mask, **call)
    finally:
        with torch.no_grad():
            weight.copy_(before)
    assert len(str(caught.value).splitlines()) == 1
    assert "decode" not in vars(made.pipe.vae)
    inpaint(picture, mask, **call)


def test_a_pipeline_that_inpaints_by_itself_is_refused_with_the_one_to_take(sd):
    pipe = diffusers.StableDiffusionInpaintPipeline(**sd.pipe.components, requires_safety_checker=False)
    with pytest.raises(
        ValueError, match=r"by itself, .*called mask.*diffusers.StableDiffusionPipeline.from_pipe"
    ) as caught:
        lp.Inpainter(pipe)
    assert len(str(caught.value).splitlines()) == 1
    assert type(diffusers.AutoPipelineForText2Image.from_pipe(pipe)) is diffusers.StableDiffusionPipeline


def test_pictures_and_prompts_that_do_not_fit_are_told_as_pictures_and_prompts(sd):
    pictures = [np.zeros((16, 16, 3), np.uint8)] * 3
    with pytest.raises(ValueError, match="3 images were given and 1 is painted; give a prompt for each image"):
        lp.Inpainter(sd.pipe)(pictures, np.ones((16, 16), bool), **_call_of(sd))
    with pytest.raises(TypeError, match="takes mask_image; the mask is called mask"):
        lp.Inpainter(sd.pipe)(pictures[0], mask_image=np.ones((16, 16), bool), **_call_of(sd))


def _call_of(made):
    return {name: value for name, value in made.call.items() if name not in ("height", "width")}


def _hole(height, width, rows, columns):
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
def test_a_crop_paints_the_hole_alone_and_keeps_every_other_pixel_of_a_large_picture(sd, kind):
    """A picture that the pipeline could not take: its sides are no multiples of what it needs."""
    photo, mask = _bytes(251, 263, 3).numpy(), _hole(251, 263, slice(100, 119), slice(200, 220))
    sizes = []
    hook = sd.pipe.unet.register_forward_pre_hook(lambda unet, inputs: sizes.append(tuple(inputs[0].shape[-2:])))
    try:
        out = lp.Inpainter(sd.pipe)(photo, mask, crop=1.5, output_type=kind, **_call_of(sd), steps=2, inner_steps=1)[0]
    finally:
        hook.remove()
    made = {
        "pil": lambda: np.array(out[0]),
        "np": lambda: np.round(out[0] * 255).astype(np.uint8),
        "pt": lambda: (out[0] * 255).round().byte().permute(1, 2, 0).numpy(),
    }[kind]()
    assert made.shape == photo.shape
    assert np.array_equal(made[~mask], photo[~mask])
    assert (made[mask] != photo[mask]).any(-1).mean() > 0.9
    assert set(sizes) == {(8, 8)}  # the size that the network was trained on, in latent cells


def test_a_crop_of_the_whole_picture_at_its_size_is_no_crop(sd):
    photo, mask = _bytes(16, 16, 3).numpy(), _hole(16, 16, slice(0, 16), slice(0, 16))
    mask[4:12, 4:12] = False
    inpaint, call = lp.Inpainter(sd.pipe), {**_call_of(sd), "steps": 2, "inner_steps": 1, "output_type": "np"}
    whole, crop = (
        inpaint(photo, mask, generator=torch.Generator().manual_seed(0), crop=c, **call).images for c in (None, 1)
    )
    assert np.allclose(whole, crop, atol=1e-6)


def test_a_window_is_known_where_no_unknown_pixel_has_a_part_in_it(sd):
    known = ~torch.from_numpy(_hole(64, 64, slice(24, 40), slice(24, 40)))[None, None]
    window = Window.around(known, 2, 16, lp.Inpainter(sd.pipe).layout.nearest)
    assert (window.top, window.left, window.height, window.width, window.size) == (16, 16, 32, 32, (16, 16))
    shown, shown_known = window.cut(torch.zeros(1, 3, 64, 64), known)
    assert shown.shape == (1, 3, 16, 16)
    assert 0.5 < shown_known.float().mean() < 0.75
    assert not shown_known[..., 4:12, 4:12].any()


@pytest.mark.parametrize(("rows", "columns"), [((0, 3), (0, 3)), ((61, 64), (10, 60)), ((0, 64), (30, 31))])
@pytest.mark.parametrize("factor", [1, 2, 100])
def test_a_window_lies_in_the_picture_and_has_the_hole_in_it(rows, columns, factor):
    known = ~torch.from_numpy(_hole(64, 64, slice(*rows), slice(*columns)))[None, None]
    window = Window.around(known, factor, 16, lambda height, width: (height, width))
    inside = _hole(
        64, 64, slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)
    )
    assert 0 <= window.top <= 64 - window.height
    assert 0 <= window.left <= 64 - window.width
    assert inside[~known[0, 0].numpy()].all()
    assert factor < 100 or inside.all()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"crop": 0.5}, "crop must be a factor of at least 1, 1.5 for example, got 0.5"),
        ({"crop": "2"}, "crop must be a factor of at least 1, 1.5 for example, got '2'"),
        ({"crop": 2, "output_type": "latent"}, "crop needs pictures"),
    ],
)
def test_a_crop_that_cannot_be_is_told_in_one_line(sd, arguments, told):
    photo, mask = _bytes(64, 64, 3).numpy(), _hole(64, 64, slice(24, 40), slice(24, 40))
    with pytest.raises(ValueError, match=told) as caught:
        lp.Inpainter(sd.pipe)(photo, mask, **{**_call_of(sd), **arguments})
    assert len(str(caught.value).splitlines()) == 1


def test_the_pictures_of_an_output_are_found_by_name_and_an_output_without_any_is_told():
    from diffusers.utils import BaseOutput

    for name in ("images", "image", "frames", "videos"):
        assert replace_pictures(BaseOutput(**{name: 1, "rest": 2}), lambda made: made + 10) == {name: 11, "rest": 2}
    with pytest.raises(ValueError, match="the pipeline returns depth, and none of images, frames"):
        replace_pictures(BaseOutput(depth=1), lambda made: made)

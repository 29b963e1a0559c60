"""``lanpaint inpaint`` with pipelines of diffusers, and ``lanpaint models``: real pipelines, built small and saved."""

import functools
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from lanpaint.cli.pipelines import as_flag
from lanpaint.painting import Task
from lanpaint.painting.media import read_film
from lanpaint.painting.pipeline import PipelinePainter
from tests.adapters import tiny
from tests.command import run_lanpaint


def _random(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _save_film(path, frames, milliseconds=125):
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=milliseconds)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    tiny.with_clip(tiny.sd()).pipe.save_pretrained(folder / "sd")
    tiny.with_clip(tiny.sd_controlnet()).pipe.save_pretrained(folder / "controlnet")
    tiny.ldm().pipe.save_pretrained(folder / "ldm")
    tiny.ddpm().pipe.save_pretrained(folder / "ddpm")
    tiny.with_t5(tiny.wan()).pipe.save_pretrained(folder / "wan")
    Image.fromarray(_random(16, 16, 3)).save(folder / "photo.png")
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[:, 8:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(_random(17, 15, 3)).save(folder / "odd.png")
    Image.fromarray(np.pad(mask, ((0, 1), (0, 0)), mode="edge")[:, :15]).save(folder / "odd-mask.png")
    _save_film(folder / "film.png", _random(5, 16, 16, 3))
    _save_film(folder / "four.png", _random(4, 16, 16, 3))
    _save_film(folder / "last.gif", np.uint8([0, 0, 0, 255, 255])[:, None, None].repeat(16, 1).repeat(16, 2))
    _save_film(folder / "three.png", _random(3, 16, 16, 3))
    (folder / "broken").mkdir()
    (folder / "broken" / "model_index.json").write_text('{"_class_name": "FluxPipeline", "vae": ["diffusers", "X"]}')
    (folder / "bad.mp4").write_text("no film")
    return folder


@pytest.fixture
def lanpaint(files, monkeypatch, capsys):
    """Runs the command line in this process; returns what it printed and its exit status."""
    monkeypatch.chdir(files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    return functools.partial(run_lanpaint, monkeypatch, capsys)


def _inpaint(lanpaint, *arguments, steps=2, inner=1):
    status, out, err = lanpaint("inpaint", *arguments, "--steps", steps, "--inner-steps", inner, "-q")
    assert status == 0, err
    return out


def _array(path):
    return np.array(Image.open(path))


def test_a_text_pipeline_paints_the_white_part_by_its_prompt_and_nothing_else(files, lanpaint):
    given = ("photo.png", "mask.png", "--model", "sd", "--prompt")
    out = _inpaint(lanpaint, *given, "a cat", "-o", "cat.png", "--seed", 3, "--count", 2, steps=3, inner=2)
    assert out.splitlines() == ["cat-1.png: 50.0% repainted, 9 NFE", "cat-2.png: 50.0% repainted, 9 NFE"]
    _inpaint(lanpaint, *given, "a dog", "-o", "dog.png", "--seed", 3, steps=3, inner=2)
    _inpaint(lanpaint, *given, "a cat", "-o", "again.png", "--seed", 4, steps=3, inner=2)
    photo, first, second, dog, again = (
        _array(files / f"{name}.png") for name in ("photo", "cat-1", "cat-2", "dog", "again")
    )
    for painted in (first, second, dog):
        assert np.array_equal(painted[:, :8], photo[:, :8])
        assert not np.array_equal(painted[:, 8:], photo[:, 8:])
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, dog)
    assert np.array_equal(second, again)  # the second of a count has the next seed


def test_every_option_of_a_pipeline_reaches_it(files, lanpaint):
    out = _inpaint(
        lanpaint,
        *("odd.png", "odd-mask.png", "-o", "options.png", "--model", "sd", "--prompt", "a cat"),
        *("--negative-prompt", "a dog", "--guidance-scale", 5, "--known-guidance-scale", 0, "--scheduler"),
        *("dpm++-karras", "--dtype", "bf16", "--pad", "4,0,4,0", "--feather", 2, "--set", "eta=0.5"),
        *("--lam", 4, "--step-size", 0.1, "--dynamics", "ou", "--preset", "fast", "--expected-noise", 0.01),
    )
    assert "4 NFE" in out
    assert _array(files / "options.png").shape == (17, 23, 3)  # 15 + 8
    _inpaint(lanpaint, "odd.png", "odd-mask.png", "-o", "odd-painted.png", "--model", "sd")
    assert np.array_equal(_array(files / "odd-painted.png")[:, :8], _array(files / "odd.png")[:, :8])


def test_a_pipeline_takes_a_solver_of_ours_in_place_of_its_scheduler_s(files, lanpaint):
    given = ("photo.png", "mask.png", "--model", "sd")
    plain = _inpaint(lanpaint, *given, "-o", "own-solver.png", steps=3)
    heun = _inpaint(lanpaint, *given, "-o", "heun.png", "--solver", "heun", steps=3)
    assert "6 NFE" in plain
    assert "8 NFE" in heun  # two in each outer step but the last
    assert not np.array_equal(_array(files / "own-solver.png"), _array(files / "heun.png"))


def test_a_large_picture_is_painted_around_its_hole(files, lanpaint):
    photo = _random(200, 211, 3)
    mask = np.zeros((200, 211), np.uint8)
    mask[50:69, 120:140] = 255
    Image.fromarray(photo).save(files / "large.png")
    Image.fromarray(mask).save(files / "large-mask.png")
    _inpaint(lanpaint, "large.png", "large-mask.png", "-o", "cropped.png", "--model", "sd", "--crop", 2)
    painted = _array(files / "cropped.png")
    assert np.array_equal(painted[mask == 0], photo[mask == 0])
    assert (painted[mask > 0] != photo[mask > 0]).any(-1).mean() > 0.9


def test_a_controlnet_takes_its_picture_and_an_unconditional_pipeline_its_size(files, lanpaint):
    given = ("photo.png", "mask.png", "-o", "control.png", "--model", "controlnet")
    _inpaint(lanpaint, *given, "--control-image", "photo.png", "--set", "controlnet_conditioning_scale=0.5")
    out = _inpaint(lanpaint, "odd.png", "odd-mask.png", "-o", "ldm.png", "--model", "ldm")
    assert "5 NFE" in out  # 2 × (1 + 1), and one to see where it starts
    assert np.array_equal(_array(files / "ldm.png")[:, :8], _array(files / "odd.png")[:, :8])
    grey = Image.fromarray(_random(9, 9))
    grey.save(files / "grey.png")
    _inpaint(lanpaint, "grey.png", "-o", "ddpm.png", "--model", "ddpm", "--pad", "0,0,3,4")
    painted = _array(files / "ddpm.png")
    assert painted.shape == (13, 12)
    assert np.array_equal(painted[:9, :9], np.array(grey))


def test_a_pipeline_paints_with_any_method_that_takes_no_gradient(files, lanpaint, monkeypatch):
    (files / "my_pipeline_parts.py").write_text(
        "import lanpaint as lp\n\n\n"
        "class Mine(lp.LanPaint):\n"
        "    def __init__(self, score, *, strength=0.5, **options):\n"
        "        super().__init__(score, lam=8 * strength, **options)\n\n\n"
        "def dynamics():\n    return lp.FastLangevin(4.0)\n"
    )
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    given = ("photo.png", "mask.png", "--model", "sd", "--prompt", "a cat", "-q", "--steps", 3)
    photo, pictures = _array(files / "photo.png"), {}
    for name, options, evaluations in (
        ("replace", ("--method", "replace"), 3),
        ("repaint", ("--method", "repaint", "--inner-steps", 1), 5),
        ("ddrm", ("--method", "ddrm", "--eta", 0.2), 3),
        ("langevin", ("--method", "langevin", "--inner-steps", 1), 6),
        ("fld", ("--method", "fld", "--inner-steps", 1), 6),
        ("mine", ("--method", "my_pipeline_parts:Mine", "--inner-steps", 1, "--option", "strength=0.25"), 6),
        ("lam", ("--lam", 2, "--inner-steps", 1), 6),
        ("dynamics", ("--dynamics", "my_pipeline_parts:dynamics", "--inner-steps", 1), 6),
        ("friction", ("--friction", 4, "--inner-steps", 1), 6),
    ):
        status, out, err = lanpaint("inpaint", *given, "-o", f"{name}.png", *options)
        assert status == 0, err
        assert f"{evaluations} NFE" in out, name
        pictures[name] = _array(files / f"{name}.png")
        assert np.array_equal(pictures[name][:, :8], photo[:, :8])
    assert np.array_equal(pictures["mine"], pictures["lam"])
    assert np.array_equal(pictures["dynamics"], pictures["friction"])
    assert not np.array_equal(pictures["replace"], pictures["fld"])


def test_videos_keep_their_known_frames(files, lanpaint):
    given = ("film.png", "last.gif", "--model", "wan", "--prompt", "a cat")
    out = _inpaint(lanpaint, *given, "-o", "painted.png")
    assert "40.0% repainted" in out  # two frames of five: the GIF stores equal ones once
    before, after = (read_film(files / name, "it") for name in ("film.png", "painted.png"))
    assert torch.equal(after.frames[:3], before.frames[:3])
    assert not torch.equal(after.frames[3:], before.frames[3:])
    assert abs(after.rate - 8) < 0.1
    _inpaint(lanpaint, *given, "-o", "painted.gif")
    gif = read_film(files / "painted.gif", "it").frames
    assert gif.shape == (5, 3, 16, 16)
    assert (gif[:3].float() - before.frames[:3].float()).abs().mean() < 16  # of 256 colours a frame
    one = _inpaint(lanpaint, "film.png", "mask.png", "--model", "wan", "-o", "half.png", "--pad", "0,0,0,16")
    assert "75.0% repainted" in one
    half = read_film(files / "half.png", "it").frames
    assert half.shape == (5, 3, 32, 16)
    assert torch.equal(half[:, :, :16, :8], before.frames[..., :8])


def test_a_video_of_any_number_of_frames_keeps_it(files, lanpaint):
    _inpaint(lanpaint, "four.png", "mask.png", "--model", "wan", "-o", "painted-four.png")
    before, after = (read_film(files / name, "it").frames for name in ("four.png", "painted-four.png"))
    assert before.shape == after.shape
    assert torch.equal(after[..., :8], before[..., :8])


def test_films_go_in_and_out_through_ffmpeg(files, lanpaint):
    pytest.importorskip("imageio_ffmpeg")
    _inpaint(lanpaint, "film.png", "mask.png", "--model", "wan", "-o", "painted.mp4")
    film = read_film(files / "painted.mp4", "it")
    assert film.frames.shape == (5, 3, 16, 16)
    assert film.rate == pytest.approx(8, abs=0.1)
    grey, known = (x.float().mean(1)[..., :8] for x in (film.frames, read_film(files / "film.png", "it").frames))
    assert (grey - known).abs().mean() < 25  # lossy, and still the same picture
    _inpaint(lanpaint, "painted.mp4", "last.gif", "--model", "wan", "-o", "again.png")
    assert torch.equal(read_film(files / "again.png", "it").frames[:3], film.frames[:3])


MISTAKES = {
    "an unknown scheduler": (
        ["photo.png", "mask.png", "--model", "sd", "--scheduler", "magic"],
        "unknown scheduler 'magic' for a diffusion model; expected one of ddpm, ddim",
    ),
    "a scheduler of other models": (
        ["film.png", "mask.png", "--model", "wan", "--scheduler", "ddim"],
        "unknown scheduler 'ddim' for a flow model; expected one of euler",
    ),
    "a prompt for pixels": (
        ["photo.png", "mask.png", "--prompt", "a cat", "--offload"],
        "--prompt and --offload: only for pipelines, and this is a pixel-space model; leave it out",
    ),
    "levels for a pipeline": (
        ["photo.png", "mask.png", "--model", "sd", "--levels", "karras"],
        "--levels: only for pixel-space models; for a pipeline, --scheduler sets the levels",
    ),
    "a solver that there is not": (
        ["photo.png", "mask.png", "--model", "sd", "--solver", "newton"],
        "unknown solver 'newton'; expected one of euler,",
    ),
    **{
        f"the gradient of {method}": (
            ["photo.png", "mask.png", "--model", "sd", "--method", method],
            f"{method} needs the gradient of the score, and a pipeline gives none; take another --method",
        )
        for method in ("mcg", "dps", "copaint", "pigdm", "mmps", "tmpd", "mgps", "mgdm", "tds")
    },
    "an option that the method lacks": (
        ["photo.png", "mask.png", "--model", "sd", "--method", "langevin", "--lam", 3],
        "langevin has no lam; it takes dynamics, inner_steps, solver, step_size",
    ),
    "a value that the method refuses": (
        ["photo.png", "mask.png", "--model", "sd", "--lam", -2],
        "lam (λ) must exceed −1",
    ),
    "a prompt for a pipeline without": (
        ["photo.png", "mask.png", "--model", "ldm", "--prompt", "a cat"],
        "LDMPipeline takes no --prompt; leave that out",
    ),
    "a setting without a value": (
        ["photo.png", "mask.png", "--model", "sd", "--set", "eta"],
        "--set takes NAME=VALUE, got 'eta'",
    ),
    "a setting that it does not have": (
        ["photo.png", "mask.png", "--model", "sd", "--set", "colour=red"],
        "StableDiffusionPipeline takes no --colour",
    ),
    "a setting that has a flag": (
        ["photo.png", "mask.png", "--model", "sd", "--set", "strength=0.5"],
        "--set strength: give it by --strength",
    ),
    "a pad of three": (["photo.png", "mask.png", "--model", "sd", "--pad", "1,2,3"], "--pad takes four whole numbers"),
    "offloading without a GPU": (
        ["photo.png", "mask.png", "--model", "sd", "--device", "cpu", "--offload"],
        "there is no GPU; leave it out",
    ),
    "a film for stills": (
        ["film.png", "mask.png", "--model", "sd"],
        "the image has 5 frames and StableDiffusionPipeline makes still images",
    ),
    "a mask of other frames": (
        ["film.png", "three.png", "--model", "wan"],
        "the mask has 3 frames and the video 5; give one for all, or one per frame",
    ),
    "a film that is none": (["bad.mp4", "mask.png", "--model", "wan"], "the image bad.mp4 cannot be read"),
    "a pipeline that cannot be loaded": (
        ["photo.png", "mask.png", "--model", "broken"],
        "cannot load 'broken' as a diffusers pipeline",
    ),
    "a hub out of reach": (
        ["photo.png", "mask.png", "--model", "nobody/nothing", "--prompt", "a cat"],
        "cannot load 'nobody/nothing' from the hub",
    ),
    "nothing to paint": (["photo.png", "--model", "sd"], "has no transparent pixels; give a mask file"),
    "a picture as a film": (["photo.png", "mask.png", "--model", "sd", "-o", "x.gif"], "its ending must be .png"),
    "a control image for none": (
        ["photo.png", "mask.png", "--model", "sd", "--control-image", "photo.png"],
        "StableDiffusionPipeline has no ControlNet; leave --control-image out",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_that_says_what_to_do(files, lanpaint, name):
    arguments, told = MISTAKES[name]
    output = () if "-o" in arguments else ("-o", "x.png")
    status, _, err = lanpaint("inpaint", *arguments, *output, "--steps", 2, "--inner-steps", 1, "-q")
    assert status == 1
    assert told in err
    assert len([line for line in err.strip().splitlines() if not line.startswith("note: ")]) == 1
    assert not (files / "x.png").exists()


def test_a_missing_library_for_films_is_named_with_the_extra_that_installs_it(lanpaint, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio.v3", None)
    status, _, err = lanpaint("inpaint", "film.png", "mask.png", "--model", "wan", "-o", "x.mp4")
    assert status == 1
    assert "pip install imageio imageio-ffmpeg, or give a GIF" in err
    assert len(err.strip().splitlines()) == 1


def test_a_negative_prompt_that_the_pipeline_would_not_read_is_told():
    painter = PipelinePainter(tiny.flux().pipe, spelled=as_flag)
    task = Task("photo.png", "mask.png", "a cat", settings={"negative_prompt": "a dog"})
    with pytest.raises(ValueError, match="FluxPipeline reads a negative prompt only with a weight for it: --set true"):
        painter.paint(task)


def test_models_lists_what_is_tested(lanpaint):
    status, out, _ = lanpaint("models")
    assert status == 0
    for word in ("Stable Diffusion XL", "Wan 2", "network_score", "true_cfg_scale", "dpm++", "unipc"):
        assert word in out

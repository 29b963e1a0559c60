"""``lanpaint restore``: a small, grey, blurred or red picture, restored by a model of pixels."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

import lanpaint as lp
from lanpaint.adapters.diffusers import load_pixel_model
from lanpaint.degradations import OPERATORS, PICTURES
from lanpaint_toys.digits import FOLDER, load_digits
from tests.command import run_lanpaint
from tests.test_cli import GREY, _png_of_16_bits

QUICK = ("--steps", 3, "--inner-steps", 1, "-q")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Measurements of digits (8×8, grey) and of emoji (32×32, in colour), and what is none."""
    folder = tmp_path_factory.mktemp("measured")
    digit = ((load_digits("test")[0][0, 0] + 1) * 127.5).round().numpy().astype(np.uint8)
    small = digit.reshape(4, 2, 4, 2).mean((1, 3)).round().astype(np.uint8)
    Image.fromarray(small).save(folder / "small.png", dpi=(300, 300), icc_profile=GREY)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise by a quarter
    Image.fromarray(np.rot90(small).copy()).save(folder / "turned.png", exif=turned)
    Image.fromarray(np.dstack([small, np.full_like(small, 255)])).save(folder / "opaque.png")
    Image.fromarray(np.dstack([small, np.eye(4, dtype=np.uint8) * 255])).save(folder / "clear.png")
    Image.fromarray(digit).save(folder / "digit.png")
    Image.new("RGB", (4, 4), (200, 30, 30)).save(folder / "colours.png")
    Image.new("RGB", (32, 32), (200, 30, 30)).save(folder / "large colours.png")
    (folder / "deep.png").write_bytes(_png_of_16_bits(4, 4))
    (folder / "text.png").write_text("not an image")
    yellow = np.full((32, 32, 3), 255, np.uint8)
    yellow[8:24, 8:24] = (250, 200, 30)
    x = torch.from_numpy(yellow).permute(2, 0, 1)[None] / 127.5 - 1
    for name in PICTURES:
        y = ((OPERATORS[name]((3, 32, 32))(x)[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(y[..., 0] if y.shape[-1] == 1 else y).save(folder / f"emoji-{name}.png")
    return folder


@pytest.fixture
def run_here(files, monkeypatch, capsys):
    monkeypatch.chdir(files)
    return partial(run_lanpaint, monkeypatch, capsys, "restore")


def _read(path):
    return np.array(Image.open(path))


def test_the_result_is_a_sample_whose_means_are_the_small_picture(run_here):
    """The sample of the seed that Python gives, at the model's size; its means of 2 × 2 pixels are the measurement."""
    status, told, errors = run_here("small.png", "-o", "out.png", "--operator", "pool2", "--seed", 4, *QUICK)
    assert (status, errors) == (0, "")
    operator = lp.AveragePooling((1, 8, 8), 2)
    y = torch.from_numpy(_read("small.png")).float()[None, None] / 127.5 - 1
    paint = lp.LanPaint(operator.rotated(load_pixel_model(FOLDER)), steps=3, inner_steps=1)
    x = operator.unrotate(paint(operator.observe(y), generator=torch.Generator().manual_seed(4)))[0, 0]
    out = _read("out.png")
    assert out.dtype == np.uint8
    assert np.array_equal(out, ((x + 1) * 127.5).round().clamp(0, 255).byte().numpy())
    again = out.reshape(4, 2, 4, 2).mean((1, 3))
    away = np.abs(again - _read("small.png"))
    inside = ((x > -1) & (x < 1)).numpy().reshape(4, 2, 4, 2).all((1, 3))  # blocks that are not cut to [0, 255]
    assert inside.sum() >= 4
    assert away[inside].max() <= 0.5
    assert told == f"out.png: 75.0% restored, 6 NFE; measured again it differs by at most {away.max():.1f} of 255\n"


@pytest.mark.parametrize("name", PICTURES)
def test_every_operator_of_pictures_restores_one_in_colour(name, run_here):
    status, told, errors = run_here(
        f"emoji-{name}.png", "-o", f"restored-{name}.png", "--operator", name, "--model", "emoji-pixel", *QUICK
    )
    assert (status, errors) == (0, "")
    out = _read(f"restored-{name}.png")
    assert out.shape == (32, 32, 3)
    assert out.std() > 5
    seen = {"pool2": 1 / 4, "pool4": 1 / 16, "grey": 1 / 3, "red": 1 / 3}
    if name in seen:
        assert f": {1 - seen[name]:.1%} restored, 6 NFE" in told
    if name == "red":
        assert np.abs(out[..., 0].astype(int) - _read("emoji-red.png")).max() <= 1


def test_names_of_picture_operators_are_those_that_measure_pictures():
    measured = {name: make((3, 8, 8))(torch.zeros(1, 3, 8, 8)) for name, make in OPERATORS.items()}
    assert set(PICTURES) == {name for name, y in measured.items() if y.ndim == 4}


def test_results_count_up_with_their_seeds(run_here):
    run = partial(run_here, "small.png", "--operator", "pool2", *QUICK)
    assert run("-o", "many.png", "--count", 2, "--seed", 6)[0] == 0
    assert run("-o", "one.png", "--seed", 7)[0] == 0
    assert np.array_equal(_read("many-2.png"), _read("one.png"))
    assert not np.array_equal(_read("many-1.png"), _read("one.png"))


def test_a_photo_is_turned_upright_and_an_opaque_alpha_channel_is_none(run_here):
    for name in ("small", "turned", "opaque"):
        assert run_here(f"{name}.png", "-o", f"from-{name}.png", "--operator", "pool2", *QUICK)[0] == 0
    assert np.array_equal(_read("from-turned.png"), _read("from-small.png"))
    assert np.array_equal(_read("from-opaque.png"), _read("from-small.png"))
    out = Image.open("from-small.png")
    assert out.info["icc_profile"] == GREY
    assert out.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("options", [("--method", "pigdm"), ("--method", "ddrm", "--eta", 0.5, "--noise", 0.1)])
def test_methods_and_their_options_are_those_of_inpaint(options, run_here):
    status, told, errors = run_here(
        "small.png", "-o", "method.png", "--operator", "pool2", "--steps", 3, "-q", *options
    )
    assert (status, errors) == (0, "")
    assert "method.png: 75.0% restored, 3 NFE" in told


def test_a_blurred_picture_may_have_noise(run_here):
    status, told, errors = run_here("digit.png", "-o", "sharp.png", "--operator", "blur", "--noise", 0.1, *QUICK)
    assert (status, errors) == (0, "")
    assert told.startswith("sharp.png: ")


MISTAKES = {
    "another size": (
        ("digit.png", "pool2"),
        "digit.png is 8×8, and pool2 makes pictures of 4×4 of the model's 8×8; give",
    ),
    "colours for a grey model": (("colours.png", "pool2"), "has colours, and pool2 makes grey pictures of the model's"),
    "colours for grey": (
        ("large colours.png", "grey", "--model", "emoji-pixel"),
        "has colours, and grey makes grey pictures of the model's; convert it to grey first",
    ),
    "transparency": (("clear.png", "pool2"), "clear.png has transparent pixels, and all of a measurement is known"),
    "16 bits": (("deep.png", "pool2"), "more than 8 bits per channel"),
    "no image": (("text.png", "pool2"), "the image text.png is not an image"),
    "no file": (("nothing.png", "pool2"), "nothing.png does not exist"),
    "numbers": (("small.png", "sense"), "unknown operator 'sense'; expected one of pool2, pool4, grey, blur, red"),
    "grey of grey": (("digit.png", "grey"), "the operator grey does not suit digits: a grey picture has no colours"),
    "red of grey": (("digit.png", "red"), "the operator red does not suit digits: it takes nothing"),
    "latents": (
        ("small.png", "pool2", "--model", "emoji-latent"),
        "emoji-latent is a pipeline, and an operator is one",
    ),
    "no model": (("small.png", "pool2", "--model", "dogs"), "unknown model 'dogs'"),
    "noise of a blur": (
        ("digit.png", "blur", "--noise", 0.1, "--method", "dps"),
        "DPS takes one noise for all known entries, got 0.1…",
    ),
    "noise below 0": (("small.png", "pool2", "--noise", -1), "--noise must be between 0 and 1, got -1"),
    "noise of a method without": (("small.png", "pool2", "--noise", 0.1, "--method", "mcg"), "noise"),
    "an option of another": (("small.png", "pool2", "--method", "replace", "--lam", 3), "replace has no lam"),
    "no steps": (("small.png", "pool2", "--steps", 0), "steps must be a whole number"),
    "seeds": (("small.png", "pool2", "--seed", 2**32 - 1, "--count", 2), "--seed of the first result must be"),
    "time maps": (("small.png", "pool2", "--method", "async"), "needs a network with a time for each pixel"),
    "a divergence": (("small.png", "pool2", "--expected-noise", 50, "--step-size", 50), "lower step_size"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_the_output_stays_as_it_was(name, run_here, files):
    (image, operator, *more), message = MISTAKES[name]
    count = more[more.index("--count") + 1] if "--count" in more else 1
    kept = [files / "kept.png"] if count == 1 else [files / "kept-1.png", files / "kept-2.png"]
    for path in kept:
        path.write_bytes(b"of yesterday")
    status, told, errors = run_here(image, "-o", "kept.png", "--operator", operator, "-q", *more)
    assert (status, told) == (1, "")
    assert message in errors
    assert len(errors.strip().splitlines()) == 1
    assert all(path.read_bytes() == b"of yesterday" for path in kept)
    assert not list(files.glob(".lanpaint-*"))


def test_the_measurement_is_never_written_over(run_here, files):
    before = (files / "small.png").read_bytes()
    (files / "link.png").symlink_to("small.png")
    Image.open(files / "small.png").save(files / "twice-2.png")
    for image, output in (("small.png", "small.png"), ("small.png", "link.png"), ("twice-2.png", "twice.png")):
        count = 2 if output == "twice.png" else 1
        status, _, errors = run_here(image, "-o", output, "--operator", "pool2", "--count", count, *QUICK)
        assert status == 1
        assert "is the image itself; name another" in errors
    assert (files / "small.png").read_bytes() == before


@pytest.mark.parametrize(
    ("output", "message"), [("x.txt", "its ending must be .png"), ("text.png/x.png", "Not a directory")]
)
def test_an_output_that_cannot_be_written_is_told_first(output, message, run_here, monkeypatch):
    monkeypatch.setattr("lanpaint.adapters.diffusers.load_pixel_model", None)
    status, _, errors = run_here("small.png", "-o", output, "--operator", "pool2")
    assert status == 1
    assert message in errors

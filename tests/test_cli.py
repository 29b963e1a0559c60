"""The command line as a user meets it; where the process itself matters, in one of its own."""

import functools
import os
import struct
import subprocess
import sys
import zlib
from functools import partial
from importlib.metadata import version

import numpy as np
import pytest
from PIL import Image

import lanpaint_command
from lanpaint.cli import main
from lanpaint.methods import METHODS
from lanpaint.samplers import LanPaint, Replace, Sampler
from lanpaint_toys.digits import load_digits
from tests.command import run_lanpaint


def lanpaint(*arguments, cwd=None):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "lanpaint.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )


def _png_of_16_bits(width, height):
    """A colour PNG of 16 bits per channel, which Pillow reads but cuts to 8, and does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(6 * width)) * height
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


GREY = b"\0" * 16 + b"GRAY" + b"\0" * 108  # as much of a profile as is read


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    digit = ((load_digits("test")[0][0, 0] + 1) * 127.5).round().numpy().astype(np.uint8)
    Image.fromarray(digit).save(folder / "digit.png")
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[2:6, 2:6] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    Image.fromarray(np.dstack([digit, 255 - mask])).save(folder / "own.png")
    Image.fromarray(np.dstack([digit, np.where(np.arange(8) < 1, 90, 255 - mask)]).astype(np.uint8)).save(
        folder / "part.png", dpi=(300, 300), icc_profile=GREY
    )
    Image.fromarray(mask[:, :4]).save(folder / "narrow.png")
    Image.fromarray(np.pad(digit, (0, 1))).save(folder / "nine.png")
    Image.fromarray(np.pad(mask, (0, 1))).save(folder / "nine-mask.png")
    Image.new("RGB", (8, 8), (200, 30, 30)).save(folder / "red.png")
    (folder / "text.png").write_text("not an image")
    (folder / "deep.png").write_bytes(_png_of_16_bits(8, 8))
    frames = [Image.new("L", (8, 8), grey) for grey in (0, 255)]
    frames[0].save(folder / "film.gif", save_all=True, append_images=frames[1:])
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def run_here(files, monkeypatch, capsys):
    """Runs the command line in this process, in the folder of the files: its exit status, output and errors."""
    monkeypatch.chdir(files)

    return functools.partial(run_lanpaint, monkeypatch, capsys)


def test_inpaint_repaints_the_white_part_and_nothing_else(files, run_here):
    """In a process of its own; the same seed gives the same picture in another process."""
    first = lanpaint("inpaint", "digit.png", "mask.png", "-o", "out.png", "--seed", 3, cwd=files)
    assert first.returncode == 0, first.stderr
    assert "25.0% repainted, 120 NFE" in first.stdout
    before, after = (np.array(Image.open(files / n)) for n in ("digit.png", "out.png"))
    hole = np.array(Image.open(files / "mask.png")) == 255
    assert np.array_equal(before[~hole], after[~hole])
    assert not np.array_equal(before[hole], after[hole])
    assert run_here("inpaint", "own.png", "-o", "again.png", "--seed", 3, "-q")[::2] == (0, "")
    assert np.array_equal(np.array(Image.open(files / "again.png")), after)  # transparency is the same mask


def test_inpaint_takes_a_folder_and_every_option(run_here):
    from lanpaint_toys.digits import FOLDER

    status, printed, told = run_here(
        *("inpaint", "digit.png", "mask.png", "-o", "folder.png", "--model", FOLDER, "--steps", 3, "--inner-steps", 2),
        *("--lam", 4, "--step-size", 0.1, "--friction", "inf", "--expected-noise", 0.05, "--levels", "logsnr"),
        *("--seed", 1, "--device", "cpu", "--dtype", "bfloat16", "--quiet"),
    )
    assert status == 0, told
    assert "9 NFE" in printed
    status, printed, told = run_here(
        *("inpaint", "digit.png", "mask.png", "-o", "other.png", "--steps", 3, "--inner-steps", 2, "-q"),
        *("--dynamics", "ubu", "--friction", 2, "--solver", "heun"),
    )
    assert status == 0, told
    assert "11 NFE" in printed


@pytest.mark.parametrize(
    ("method", "options", "evaluations"),
    [
        ("ddrm", ("--eta", 0.3, "--eta-b", 0.9), 3),
        ("dps", ("--step-size", 0.5, "--checkpoint", "true", "--solver", "ddim"), 3),
        ("copaint", ("--travels", 1, "--travel", 2, "--regularization", 0.1, "--inner-steps", 1), 3 * 2 * 2),
        ("pigdm", ("--weight", "bayes", "--data-variance", 0.5), 3),
        ("mmps", ("--iterations", 2, "--solver", "heun"), 5),
        ("tmpd", (), 3),
        ("mgps", ("--midpoint", 0.75, "--inner-steps", 2), 3 + 2 * 2),
        ("mgdm", ("--sweeps", 2, "--inner-steps", 1), 1 + 4 + (1 + 2) + (1 + 1)),  # first x̂₀, fits, ancestral steps
        ("flowdps", ("--kappa", 0.9, "--eta", 0.2), 3),
        ("tds", ("--particles", 4, "--threshold", 1, "--data-variance", 0.5), 3),
        ("big", ("--lam", 2, "--dynamics", "hfhr", "--option", "psi=3"), 3 * 6),
        ("repaint", (), 2 * 6 + 1),
    ],
)
def test_inpaint_takes_every_method_with_its_own_options(files, method, options, evaluations, monkeypatch, capsys):
    monkeypatch.chdir(files)
    given = ("digit.png", "mask.png", "-o", f"{method}.png", "--method", method, "--steps", 3, "-q", *options)
    monkeypatch.setattr(sys, "argv", ["lanpaint", "inpaint", *map(str, given)])
    with pytest.raises(SystemExit) as stop:
        main()
    printed = capsys.readouterr()
    assert not stop.value.code, printed.err
    assert f"25.0% repainted, {evaluations} NFE" in printed.out
    before, after = (np.array(Image.open(files / n)) for n in ("digit.png", f"{method}.png"))
    hole = np.array(Image.open(files / "mask.png")) == 255
    assert np.array_equal(before[~hole], after[~hole])


@pytest.mark.parametrize("command", ["inpaint", "bench"])
def test_the_help_names_every_method_and_every_option_that_one_has(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lanpaint", command, "--help"])
    with pytest.raises(SystemExit):
        main()
    text = " ".join(capsys.readouterr().out.split())
    for method in METHODS.values():
        assert f" {method.name}," in text
        for option in method.options():
            assert f"--{option.replace('_', '-')} " in text
    assert "20 in the fast preset [lanpaint, big]" in text
    assert "nearly always at 1 [tds, smcdiff: 0.5; mcgdiff, fpssmc: 1]" in text
    assert "η in [0, 1]: share of the unknown part's noise that is drawn anew [ddrm: 0.7; ddnm" in text
    assert text.index("Sampling:") < text.index("--method") < text.index("Options of methods:") < text.index("--lam N")


@pytest.mark.parametrize("model", ["emoji-pixel", "emoji-flow", "emoji-async", "emoji-latent"])
def test_inpaint_takes_the_models_that_are_shipped_by_name(model, tmp_path, monkeypatch, capsys):
    side = 64 if model == "emoji-latent" else 32
    image = np.full((side, side, 4), 255, dtype=np.uint8)
    image[8:-8, 8:-8] = (250, 200, 30, 255)
    image[:, side // 2 :, 3] = 0  # transparent is painted
    Image.fromarray(image).save(tmp_path / "in.png")
    given = (tmp_path / "in.png", "-o", tmp_path / "out.png", "--model", model, "--steps", 3, "--inner-steps", 1, "-q")
    status, _, told = run_lanpaint(monkeypatch, capsys, "inpaint", *given)
    assert status == 0, told
    painted = np.array(Image.open(tmp_path / "out.png"))[..., :3]
    assert np.array_equal(painted[:, : side // 2], image[:, : side // 2, :3])
    assert painted[:, side // 2 :].std() > 5


MISTAKES = {
    "no such image": (["inpaint", "nothing.png", "mask.png", "-o", "x.png"], "nothing.png does not exist"),
    "not an image": (
        ["inpaint", "text.png", "mask.png", "-o", "x.png"],
        "the image text.png is not an image; give a PNG",
    ),
    "a folder": (["inpaint", "empty", "mask.png", "-o", "x.png"], "is a folder"),
    "mask of another size": (
        ["inpaint", "digit.png", "narrow.png", "-o", "x.png"],
        "the mask is 4×8 and the image 8×8; give a mask of the image's size",
    ),
    "no mask and no transparency": (["inpaint", "digit.png", "-o", "x.png"], "has no transparent pixels; give a mask"),
    "a crop of nothing": (
        ["inpaint", "digit.png", "mask.png", "-o", "x.png", "--crop", 0.5],
        "crop must be a factor of at least 1",
    ),
    "colours": (["inpaint", "red.png", "mask.png", "-o", "x.png"], "this image has colours"),
    "an output of no picture": (["inpaint", "digit.png", "mask.png", "-o", "x.txt"], "its ending must be .png"),
    "an output below a file": (["inpaint", "digit.png", "mask.png", "-o", "text.png/x.png"], "Not a directory"),
    "transparency for a JPEG": (
        ["inpaint", "part.png", "mask.png", "-o", "x.jpg"],
        "known pixels of the image are transparent, and JPG holds no transparency; give .png, .webp or .tif",
    ),
    "unknown model": (["inpaint", "digit.png", "mask.png", "-o", "x.png", "--model", "dogs"], "unknown model 'dogs'"),
    "a folder without a model": (
        ["inpaint", "digit.png", "mask.png", "-o", "x.png", "--model", "empty"],
        "unet and scheduler missing",
    ),
    "a hub out of reach": (
        ["inpaint", "digit.png", "mask.png", "-o", "x.png", "--model", "nobody/nothing"],
        "cannot load 'nobody/nothing'",
    ),
    "unknown device": (
        ["inpaint", "digit.png", "mask.png", "-o", "x.png", "--device", "tpu9"],
        "device 'tpu9' is not available",
    ),
    "unknown dtype": (["inpaint", "digit.png", "mask.png", "-o", "x.png", "--dtype", "int8"], "unknown dtype 'int8'"),
    "unknown levels": (
        ["inpaint", "digit.png", "mask.png", "-o", "x.png", "--levels", "even"],
        "unknown spacing 'even'",
    ),
    "no steps": (["inpaint", "digit.png", "mask.png", "-o", "x.png", "--steps", 0], "steps must be a whole number"),
    "no step size": (
        ["inpaint", "digit.png", "mask.png", "-o", "x.png", "--step-size", 0],
        "step_size (η) must be a positive",
    ),
    "no friction": (["inpaint", "digit.png", "mask.png", "-o", "x.png", "--friction", 0], "friction (γ) must be"),
    "inner steps of a method without": (
        ["inpaint", "digit.png", "mask.png", "-o", "x.png", "--method", "replace", "--inner-steps", 3],
        "replace has no inner_steps; it takes solver",
    ),
    "a number that is none": (
        ["inpaint", "digit.png", "mask.png", "-o", "x.png", "--lam", "high"],
        "--lam takes a number, got 'high'",
    ),
    "a method that is none": (
        ["inpaint", "digit.png", "mask.png", "-o", "x.png", "--method", "magic"],
        "unknown method 'magic'; expected one of replace, repaint, langevin, fld, big, lanpaint, ddrm, blended, ding",
    ),
    "unknown target": (["bench", "moon"], "unknown target 'moon'; expected one of gaussian, star"),
    "unknown method": (["bench", "gaussian", "--method", "magic"], "unknown method 'magic'"),
    "an option the method lacks": (["bench", "gaussian", "--method", "replace", "--friction", 3], "has no friction"),
    "a divergence": (
        ["bench", "star", "--samples", 200, "--expected-noise", 1, "--quiet"],
        "lower step_size (η, now 0.15) or expected_noise (a, now 1)",
    ),
    "seeds that count up beyond the last": (
        ["inpaint", "digit.png", "mask.png", "-o", "x.png", "--seed", 2**32 - 1, "--count", 2],
        "--seed of the first result must be a whole number of at least 0 and at most 4,294,967,294",
    ),
    "no such mask": (["inpaint", "digit.png", "nothing.png", "-o", "x.png"], "the mask nothing.png does not exist"),
    "the image as output": (
        ["inpaint", "digit.png", "mask.png", "-o", "digit.png"],
        "is the image itself; name another",
    ),
    "a folder that is not there": (
        ["inpaint", "digit.png", "mask.png", "-o", "x.png", "--model", "/nobody/nothing"],
        "there is no such folder",
    ),
    "16 bits": (["inpaint", "deep.png", "mask.png", "-o", "x.png"], "more than 8 bits per channel"),
    "a film": (["inpaint", "film.gif", "mask.png", "-o", "x.png"], "has 2 frames; give a still image"),
    "negative inner steps": (
        ["bench", "gauss2", "--method", "replace", "--inner-steps", -3],
        "inner_steps must be a whole number",
    ),
    "steps that are no numbers": (["bench", "gaussian", "--steps", "5,ten"], "--steps takes whole numbers separated"),
    "unknown dynamics": (["bench", "gaussian", "--dynamics", "fld,magic"], "unknown dynamics 'magic'; expected one of"),
    "unknown solver": (["bench", "gaussian", "--solver", "magic"], "unknown solver 'magic'; expected one of euler"),
    "a friction of none": (["bench", "gaussian", "--dynamics", "ou", "--friction", 3], "ou has no friction to choose"),
    "a picture of one run": (["bench", "gaussian", "-o", "x.png"], "--output draws several runs; leave it out"),
    "a dynamics of no method": (
        ["bench", "gaussian", "--method", "replace", "--dynamics", "fld,ou"],
        "replace has no dynamics; it takes solver",
    ),
    "a device that is not there": (["bench", "gaussian", "--device", "cuda:99"], "device 'cuda:99' is not available"),
    "no results": (["report", "nothing.jsonl"], "nothing.jsonl does not exist; lanpaint bench … --results"),
    "results that are none": (["report", "text.png"], "text.png, line 1: not a result of lanpaint bench"),
    "numbers that are none": (["bench", "gaussian", "--lam", "8,high"], "--lam takes numbers separated"),
    "too many digits": (["bench", "digits:box", "--samples", 1000], "at most 360, the number of images"),
    "a picture of no format": (["demo", "-o", "x.txt"], "its ending must be .png or .pdf"),
    "a dynamics to verify that is none": (["verify", "magic"], "unknown dynamics 'magic'; expected one of"),
    "no pictures there": (["demo", "--images", "nowhere", "-o", "x.png"], "nowhere does not exist"),
    "too few digits": (["demo", "--count", 2, "-o", "x.png"], "must be from 8 to"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_that_says_what_to_do(files, name, monkeypatch, capsys):
    arguments, message = MISTAKES[name]
    monkeypatch.chdir(files)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(sys, "argv", ["lanpaint", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_status:
        main()
    error = capsys.readouterr().err
    assert exit_status.value.code == 1
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (files / "x.png").exists()


def test_a_mistake_in_a_process_of_its_own_exits_with_1_and_no_traceback(files):
    run = lanpaint("inpaint", "digit.png", "narrow.png", "-o", "x.png", cwd=files)
    assert run.returncode == 1
    assert run.stderr.startswith("lanpaint: the mask is 4×8")
    assert len(run.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [("inpaint", "digit.png"), ("bench", "gaussian", "--samples", "ten"), ("paint",)])
def test_a_wrong_command_line_says_so_without_a_traceback(run_here, arguments):
    status, _, told = run_here(*arguments)
    assert status == 2
    assert "Error: " in told
    assert "Traceback" not in told


def test_an_error_that_a_swallowed_interrupt_has_led_to_is_told_as_the_interrupt(monkeypatch, capsys):
    def broken():
        raise RuntimeError("half an import")

    interrupt = lanpaint_command.Interrupt()
    with pytest.raises(KeyboardInterrupt):
        interrupt(2, None)
    monkeypatch.setattr("signal.getsignal", lambda number: interrupt)
    monkeypatch.setattr("lanpaint.cli.app", broken)
    with pytest.raises(SystemExit) as exit_status:
        main()
    assert (exit_status.value.code, capsys.readouterr().err) == (130, "lanpaint: interrupted\n")


def test_verify_tells_a_wrong_dynamics_by_its_exit_status(tmp_path, monkeypatch, capsys):
    wrong = "import lanpaint\n\n\nclass Wide(lanpaint.Dynamics):\n    def step(self, state, drift, noise):\n"
    wrong += "        h = drift.broadcast(drift.time_step, state.x)\n"
    wrong += "        return lanpaint.State(state.x + h * drift(state.x) + (4 * h).sqrt() * noise(state.x))\n"
    (tmp_path / "too_wide.py").write_text(wrong, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name, status in (("ou", 0), ("too_wide:Wide", 1)):
        monkeypatch.setattr(sys, "argv", ["lanpaint", "verify", name])
        with pytest.raises(SystemExit) as exit_status:
            main()
        assert exit_status.value.code == status
        assert ("all well" in capsys.readouterr().out) is (status == 0)


def test_demo_draws_a_picture_and_prints_figures(tmp_path, monkeypatch, capsys):
    """With three steps in the place of twenty: `make demo` runs it whole."""
    monkeypatch.setattr("lanpaint.demo.LanPaint", partial(LanPaint, steps=3))
    monkeypatch.setattr("lanpaint.demo.Replace", partial(Replace, steps=3))
    monkeypatch.setattr("lanpaint.demo.Sampler", lambda score, steps: Sampler(score, steps=3))
    given = ["demo", "--count", "8", "--pictures", "1", "-o", str(tmp_path / "demo.png")]
    monkeypatch.setattr(sys, "argv", ["lanpaint", *given])
    with pytest.raises(SystemExit) as exit_status:
        main()
    printed = capsys.readouterr().out
    assert not exit_status.value.code
    words = ("digits", "emoji", "box", "half", "checkerboard", "outpaint", "3 NFE", "18 NFE", "first picture", "next")
    for word in (*words, str(tmp_path / "demo.png")):
        assert word in printed
    picture = np.array(Image.open(tmp_path / "demo.png"))
    assert picture.shape[1] > 1000
    assert picture[..., :3].std() > 20


def test_importing_lanpaint_loads_nothing_heavy():
    """diffusers, lightning, matplotlib and their kind load where they are used first."""
    heavy = ("diffusers", "lightning", "matplotlib", "sklearn", "scipy", "sympy", "typer", "PIL", "tqdm")
    code = f"import sys, lanpaint; print([m for m in {heavy} if m in sys.modules and m not in before])"
    run = subprocess.run(
        [sys.executable, "-c", "import sys, torch; before = set(sys.modules); " + code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("more", [("--pad", "0,3,0,0"), ("--resize",)])
def test_a_picture_of_any_size_keeps_it_with_a_pixel_model(files, run_here, more):
    given = ("inpaint", "nine.png", "nine-mask.png", "-o", "painted-nine.png", "--steps", 2, "--inner-steps", 1)
    status, _, err = run_here(*given, *more)
    assert status == 0, err
    assert ("note: --resize does nothing any more" in err) == (more == ("--resize",))
    before, after = (np.array(Image.open(files / name)) for name in ("nine.png", "painted-nine.png"))
    after = after[3:] if "--pad" in more else after
    hole = np.array(Image.open(files / "nine-mask.png")) == 255
    assert after.shape == before.shape == (9, 9)
    assert np.array_equal(before[~hole], after[~hole])
    assert not np.array_equal(before[hole], after[hole])


def test_a_large_picture_is_painted_around_its_hole_with_a_pixel_model(files, run_here):
    rng = np.random.default_rng(0)
    photo, mask = rng.integers(0, 256, (101, 90), dtype=np.uint8), np.zeros((101, 90), np.uint8)
    mask[60:70, 5:20] = 255
    Image.fromarray(photo).save(files / "large.png")
    Image.fromarray(mask).save(files / "large-mask.png")
    given = ("inpaint", "large.png", "large-mask.png", "-o", "painted-large.png", "--steps", 2, "--inner-steps", 1)
    status, _, err = run_here(*given, "--crop", 2)
    assert status == 0, err
    after = np.array(Image.open(files / "painted-large.png"))
    assert np.array_equal(after[mask == 0], photo[mask == 0])
    assert (after[mask > 0] != photo[mask > 0]).mean() > 0.9
    assert run_here(*given)[0] == 1  # the whole is too large for the model


def test_a_seam_is_soft_with_a_pixel_model_too(files, run_here):
    painted = []
    for feather in (0, 1):
        given = ("inpaint", "digit.png", "mask.png", "-o", "soft.png", "--steps", 2, "--inner-steps", 1)
        assert run_here(*given, "--feather", feather)[0] == 0
        painted.append(np.array(Image.open(files / "soft.png")).astype(int))
    before, hole = np.array(Image.open(files / "digit.png")), np.array(Image.open(files / "mask.png")) == 255
    assert np.array_equal(painted[0][~hole], before[~hole])
    seam = np.zeros_like(hole)
    seam[1:7, 1:7] = True
    assert np.array_equal(painted[1][~seam], before[~seam])
    assert (painted[1][seam & ~hole] != before[seam & ~hole]).mean() > 0.5


@pytest.mark.parametrize("name", ["new/folder/painted.png", "painted.webp", "painted.tif"])
def test_alpha_profile_and_resolution_survive_with_a_pixel_model(files, run_here, name):
    status, _, err = run_here("inpaint", "part.png", "mask.png", "-o", name, "--steps", 1, "--inner-steps", 0, "-q")
    assert (status, err) == (0, "")
    before, after = Image.open(files / "part.png"), Image.open(files / name)
    given, got = np.array(before.convert("RGBA")), np.array(after.convert("RGBA"))
    hole = np.array(Image.open(files / "mask.png")) == 255
    assert np.array_equal(got[~hole], given[~hole])
    assert (got[hole][:, 3] == 255).all()
    if name != "painted.webp":  # whose pictures are RGB, and which has no resolution
        assert after.mode == "LA"
        assert after.info["icc_profile"] == GREY
        assert after.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_a_jpeg_says_that_it_is_encoded_anew(files, run_here):
    status, _, err = run_here("inpaint", "digit.png", "mask.png", "-o", "painted.jpg", "--steps", 1, "-q")
    assert (status, err.splitlines()) == (
        0,
        ["note: painted.jpg is a JPEG: known pixels are encoded anew, not bit for bit; PNG keeps them"],
    )
    before, after = (np.array(Image.open(files / name)).astype(int) for name in ("digit.png", "painted.jpg"))
    hole = np.array(Image.open(files / "mask.png")) == 255
    assert 0 < np.abs(before - after)[~hole].max() < 40


def test_a_run_that_is_broken_off_leaves_the_file_that_was_there(files, run_here, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    path = files / "kept.png"
    path.write_bytes(b"precious")
    monkeypatch.setattr("lanpaint.painting.pixels.PixelPainter.paint", stop)
    assert run_here("inpaint", "digit.png", "mask.png", "-o", "kept.png")[0] == 130
    assert path.read_bytes() == b"precious"


def test_version_is_printed(run_here):
    assert run_here("--version") == (0, f"lanpaint {version('lanpaint')}\n", "")


@pytest.mark.parametrize(
    ("model", "size", "small"), [("digits", (64, 48), "8×8"), ("emoji-pixel", (200, 150), "32×32")]
)
def test_a_photo_for_a_small_model_is_told_what_paints_photos(files, run_here, model, size, small):
    picture, mask = Image.new("RGB", size, (200, 100, 50)), Image.new("L", size, 255)
    picture.save(files / "photo.png")
    mask.save(files / "photo-mask.png")
    status, _, told = run_here("inpaint", "photo.png", "photo-mask.png", "-o", "painted-photo.png", "--model", model)
    assert status == 1
    given = f"the image is {size[0]}×{size[1]}"  # as it is, not as it is padded for the network
    assert f"{given} and the model paints {small} images; no model that comes with lanpaint" in told
    assert f"the hole alone, at {small}, with --crop 1.5" in told
    assert len(told.splitlines()) == 1
    assert not (files / "painted-photo.png").exists()

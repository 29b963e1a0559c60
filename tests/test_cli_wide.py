"""``lanpaint wide``: canvases of several windows of the digits' model, which is 8 pixels wide."""

import numpy as np
import pytest
from PIL import Image

from tests.command import run_lanpaint

FAST = ["--model", "digits", "--method", "replace", "--steps", "2", "--quiet"]


def run(monkeypatch, capsys, *arguments):
    """Exit status, and what was printed on the two streams."""
    return run_lanpaint(monkeypatch, capsys, "wide", *arguments)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3).save(path)
    return path


@pytest.mark.parametrize("order", ["forward", "backward", "outward", "average"])
def test_a_picture_is_extended_and_its_pixels_stay(monkeypatch, capsys, tmp_path, picture, order):
    out = tmp_path / "out.png"
    given = [picture, "-o", out, "--pad", "4,0,7,2", "--order", order]
    status, printed, _ = run(monkeypatch, capsys, *given, *FAST)
    assert status == 0
    made, before = np.asarray(Image.open(out)), np.asarray(Image.open(picture))
    assert made.shape == (10, 19)
    assert (made[:8, 4:12] == before).all()
    assert f"19×10, {1 - 64 / 190:.1%} painted" in printed


def test_a_picture_is_made_from_nothing_and_one_seed_gives_one_picture(monkeypatch, capsys, tmp_path):
    made = []
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        out = tmp_path / name
        size = ["--width", 14, "--height", 8, "--overlap", 4, "--seed", seed]
        assert run(monkeypatch, capsys, "-o", out, *size, *FAST)[0] == 0
        made.append(np.asarray(Image.open(out)))
    assert made[0].shape == (8, 14)
    assert (made[0] == made[1]).all()
    assert (made[0] != made[2]).any()


def test_a_state_is_deleted_when_the_picture_is_written(monkeypatch, capsys, tmp_path):
    state = tmp_path / "run.pt"
    given = ["-o", tmp_path / "out.png", "--width", 14, "--height", 8, "--state", state]
    assert run(monkeypatch, capsys, *given, *FAST)[0] == 0
    assert not state.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--width", 4, "--height", 8], "window (8) is larger than the canvas (4)"),
        (["--width", 20, "--height", 8, "--overlap", 8], "overlap must be below the window, got 8 of 8"),
        (["--width", 20, "--height", 8, "--overlap", 9, "--order", "average"], "got 9 of 8"),
        (["--width", 20, "--height", 4, "--order", "average"], "window (8) is larger than the canvas (4)"),
        (["--width", 20, "--height", 8, "--overlap", -1], "overlap"),
        (["--width", 20, "--height", 8, "--window", 7], "multiple of 2"),
        (["--width", 20], "give --width and --height"),
        (["PICTURE", "--pad", "1,1,1,1", "--width", 30], "give one of the two"),
        (["PICTURE", "--width", 6], "larger than the result"),
        (["PICTURE", "--pad", "1,1"], "four whole numbers"),
        (["--width", 20, "--height", 8, "--order", "up"], "forward, backward, outward, average"),
        (["--width", 20, "--height", 8, "--order", "average", "--state", "s.pt"], "--state"),
        (["--width", 20, "--height", 8, "--w1", "3"], "replace has no w1"),
        (["nothing.png", "--width", 20], "nothing.png"),
        (["--width", 20, "--height", 8, "--prompt", "a cat"], "--prompt: only for pipelines"),
        (["--frames", 20], "--frames: only for pipelines"),
    ],
)
def test_what_wide_cannot_do_is_told_in_one_line(monkeypatch, capsys, tmp_path, picture, arguments, told):
    given = [picture if argument == "PICTURE" else argument for argument in arguments]
    out = tmp_path / "out.png"
    status, printed, error = run(monkeypatch, capsys, "-o", out, *given, *FAST)
    assert status != 0
    assert told in error
    assert error.count("\n") == 1
    assert not printed
    assert not out.exists()

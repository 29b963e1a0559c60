"""``lanpaint inpaint`` with grey masks, strength, and edits of masks, on a pixel model."""

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from lanpaint.cli import app
from lanpaint.demo import held_out_digits

SHADES = np.repeat([0, 77, 153, 255], 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Held-out digits as pictures, and masks."""
    folder = tmp_path_factory.mktemp("digits")
    digits = ((held_out_digits(8) + 1) * 127.5).round().to(torch.uint8)
    for index, digit in enumerate(digits[:, 0].numpy()):
        Image.fromarray(digit).save(folder / f"{index}.png")
    greys = np.broadcast_to(SHADES[:, None], (8, 8)).astype(np.uint8)
    Image.fromarray(greys).save(folder / "grey.png")
    dot = np.zeros((8, 8), np.uint8)
    dot[4, 4] = 255
    Image.fromarray(dot).save(folder / "dot.png")
    Image.fromarray(255 - dot).save(folder / "all-but-a-dot.png")
    return folder


def _inpaint(folder, *arguments, picture="0.png"):
    """What is changed, and what is said."""
    out = folder / "out.png"
    call = ["inpaint", str(folder / picture), str(folder / arguments[0]), "-o", str(out), "-q", *arguments[1:]]
    run = CliRunner().invoke(app, call)
    if run.exception is not None:
        raise run.exception
    given, made = (np.asarray(Image.open(path)).astype(int) for path in (folder / picture, out))
    return abs(made - given), run.output


def test_grey_is_how_much_may_change(folder):
    flags = "grey.png", "--soft-mask", "--steps", "10", "--inner-steps", "2"
    changes, said = zip(*(_inpaint(folder, *flags, picture=f"{n}.png") for n in range(8)), strict=True)
    moved = np.mean(changes, axis=(0, 2)).reshape(4, 2).mean(1)
    assert moved[0] == 0
    assert moved[1] > 0
    assert moved[1] < moved[2:].max()
    assert all("75.0% repainted" in text for text in said)


def test_strength_leaves_out_the_first_steps(folder):
    _, said = _inpaint(folder, "dot.png", "--strength", "0.5", "--steps", "10", "--grow", "2")
    assert f"{5 * 6} NFE" in said
    _, said = _inpaint(folder, "dot.png", "--steps", "10", "--grow", "2")
    assert f"{10 * 6} NFE" in said


def test_masks_are_inverted_grown_and_shrunk(folder):
    assert "1.6% repainted" in _inpaint(folder, "all-but-a-dot.png", "--invert-mask", "--steps", "2")[1]
    assert "20.3% repainted" in _inpaint(folder, "dot.png", "--grow", "2", "--steps", "2")[1]
    with pytest.raises(ValueError, match="nothing is left to paint after --grow -1"):
        _inpaint(folder, "dot.png", "--grow", "-1")
    for flags, told in {
        ("--strength", "0"): "strength must be a number above 0",
        ("--blur", "nan"): "blur must be a number",
        ("--grow", "5000"): "grow must be a whole number",
    }.items():
        with pytest.raises(ValueError, match=told):
            _inpaint(folder, "dot.png", *flags)


def test_a_preview_is_written_beside_the_output(folder):
    path = folder / "out-preview.png"
    _inpaint(folder, "dot.png", "--steps", "6", "--preview", "3")
    shown, given, made = (np.asarray(Image.open(folder / name)) for name in (path.name, "0.png", "out.png"))
    known = np.asarray(Image.open(folder / "dot.png")) == 0
    assert np.array_equal(shown[known], given[known])
    assert np.array_equal(shown, made)  # the last step is shown as well
    path.unlink()
    _inpaint(folder, "dot.png", "--steps", "4", "--preview", "5")
    assert not path.exists()

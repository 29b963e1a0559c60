import numpy as np
import pytest
import torch
from PIL import Image

from lanpaint.images import check_output, hole_psnr, read_mask, read_picture, replacing, to_pixels, write_picture
from lanpaint.masks import MASKS


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("shape", "channels"), [((5, 7), 1), ((5, 7, 3), 3)])
def test_a_picture_survives_values_and_back_bit_for_bit(tmp_path, rng, shape, channels):
    array = rng.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / "in.png")
    picture = read_picture(tmp_path / "in.png")
    assert picture.pixels.shape == (channels, 5, 7)
    assert picture.opaque is None
    assert float(picture.values().min()) >= -1
    assert float(picture.values().max()) <= 1
    assert torch.equal(to_pixels(picture.values()[0]), picture.pixels)
    write_picture(tmp_path / "out.png", picture.pixels)
    assert np.array_equal(np.array(Image.open(tmp_path / "out.png")), array)


def test_every_one_of_256_greys_survives():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_pixels(pixels.float() / 127.5 - 1), pixels)


def test_values_outside_the_range_are_clamped_not_wrapped():
    assert to_pixels(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


def test_transparency_is_a_mask_of_its_own(tmp_path, rng):
    array = rng.integers(0, 256, (4, 6, 4), dtype=np.uint8)
    array[..., 3] = 255
    array[1:3, 2:4, 3] = [[0, 128], [254, 255]]
    Image.fromarray(array).save(tmp_path / "in.png")
    expected = torch.from_numpy(array[..., 3] == 255)
    assert torch.equal(read_picture(tmp_path / "in.png").opaque, expected)
    assert torch.equal(read_mask(tmp_path / "in.png"), expected)


def test_white_is_repainted(tmp_path):
    Image.fromarray(np.array([[0, 127], [128, 255]], dtype=np.uint8)).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
def test_every_common_mode_is_read(tmp_path, mode):
    path = tmp_path / ("in.tif" if mode == "CMYK" else "in.png")
    Image.new("RGB", (3, 2), (10, 10, 10)).convert(mode).save(path)
    picture = read_picture(path)
    assert picture.size == (2, 3)
    assert picture.opaque is None
    assert picture.pixels.dtype == torch.uint8


def test_a_coloured_picture_does_not_become_grey_silently(tmp_path):
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "in.png")
    with pytest.raises(ValueError, match="this image has colours"):
        read_picture(tmp_path / "in.png").with_channels(1)
    Image.new("RGB", (2, 2), (7, 7, 7)).save(tmp_path / "grey.png")
    assert read_picture(tmp_path / "grey.png").with_channels(1).pixels.shape == (1, 2, 2)


def test_deep_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), dtype=np.uint16)).save(tmp_path / "in.png")
    with pytest.raises(ValueError, match="convert it to 8 bits"):
        read_picture(tmp_path / "in.png")


@pytest.mark.parametrize("name", ["out.jpg", "out", "missing/out.png"])
def test_outputs_that_would_lose_pixels_or_cannot_be_written_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot write"):
        write_picture(tmp_path / name, torch.zeros(1, 2, 2, dtype=torch.uint8))


def test_masks_are_those_of_the_papers_appendix():
    """Appendix A: box 1/4 to 3/4, the right half, squares of 1/16 of the side, outside of the box."""
    known = {name: make(32, 64) for name, make in MASKS.items()}
    hole = torch.zeros(32, 64, dtype=torch.bool)
    hole[8:24, 16:48] = True
    assert torch.equal(known["box"], ~hole)
    assert torch.equal(known["outpaint"], hole)
    assert bool(known["half"][:, :32].all())
    assert not bool(known["half"][:, 32:].any())
    board = known["checkerboard"]
    for row in range(16):
        for column in range(16):
            square = board[2 * row : 2 * row + 2, 4 * column : 4 * column + 4]
            assert bool((square == ((row + column) % 2 == 0)).all())


def test_checkerboard_squares_are_at_least_one_pixel():
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    assert torch.equal(MASKS["checkerboard"](8, 8), (rows + columns) % 2 == 0)


def test_hole_psnr_sees_the_hole_alone():
    truth = torch.zeros(2, 1, 4, 4)
    known = torch.ones(4, 4, dtype=torch.bool)
    known[0, :2] = False
    x = truth.clone()
    x[:, :, 1:] = 1.0  # known: must not count
    x[0, 0, 0, :2] = 0.2
    x[1, 0, 0, :2] = torch.tensor([0.0, 2.0])  # clamped to 1: mean square 0.5
    expected = 10 * np.log10(4 / np.array([0.04, 0.5]))
    assert np.allclose(hole_psnr(x, truth, known).numpy(), expected, atol=1e-5)


def test_a_write_that_fails_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "out.png"
    path.write_text("precious")

    def fail():
        with replacing(path) as part:
            part.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_cannot_be_written_is_told_at_once(tmp_path):
    for name, reason in (("x" * 300 + ".png", "File name too long"), ("/proc/x.png", "cannot write /proc/x.png")):
        with pytest.raises(ValueError, match=reason):
            check_output(tmp_path / name)


def test_a_photo_on_its_side_is_read_upright(tmp_path, rng):
    array = rng.integers(0, 256, (4, 6), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    Image.fromarray(array).save(tmp_path / "side.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "side.png").pixels[0].numpy(), np.rot90(array, -1))

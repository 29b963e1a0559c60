import io
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image, ImageCms, features

from lanpaint.images import (
    as_image,
    check_output,
    hole_psnr,
    read_mask,
    read_picture,
    replacing,
    to_pixels,
    write_picture,
)
from lanpaint.masks import MASKS
from lanpaint.origin import Origin
from lanpaint.pictures import read_with_origins


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
    write_picture(tmp_path / "out.png", as_image(picture.pixels))
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


@pytest.mark.parametrize("name", ["out.gif", "out", "file/out.png"])
def test_outputs_that_cannot_be_written_are_refused(tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ValueError, match="cannot write"):
        write_picture(tmp_path / name, Image.new("L", (2, 2)))


def _photo(mode, rng):
    """A picture with all that pictures have, its known alpha in one corner."""
    image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8) + 150))
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825)[1] = "N"  # of its position
    image.info |= {"icc_profile": PROFILE, "dpi": (300.0, 300.0), "exif": exif.tobytes()}
    return image


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("ending", [".png", ".webp", ".tif", ".bmp"])
def test_a_file_keeps_every_pixel_and_what_its_format_holds(tmp_path, rng, mode, ending):
    image, path = _photo(mode, rng), tmp_path / "new" / "folder" / f"out{ending}"
    if (ending, mode) == (".bmp", "RGBA"):
        with pytest.raises(ValueError, match=r"BMP holds no transparency; give \.png, \.webp or \.tif"):
            write_picture(path, image)
        return
    if ending == ".bmp":
        with pytest.warns(UserWarning, match="holds no colour profile"):
            write_picture(path, image)
    else:
        write_picture(path, image)
    got = Image.open(path)
    assert np.array_equal(np.array(got.convert(mode)), np.array(image))
    origin = Origin.of(got)
    if ending != ".bmp":
        assert origin.profile == PROFILE
        assert got.getexif()[0x010F] == "Maker"
        assert got.getexif().get_ifd(0x8825)[1] == "N"
    if ending != ".webp":
        assert origin.dpi == pytest.approx((300, 300), abs=0.01)


def test_a_jpeg_is_near_its_pixels_at_full_resolution_of_colours_and_says_that_it_is_not_exact(tmp_path, rng):
    image, path = _photo("RGB", rng), tmp_path / "out.jpg"
    with pytest.warns(UserWarning, match=r"out\.jpg is a JPEG: known pixels are encoded anew, not bit for bit"):
        write_picture(path, image)
    got = Image.open(path)
    assert [layer[1:3] for layer in got.layer] == [(1, 1)] * 3  # 4:4:4
    assert got.info["icc_profile"] == PROFILE
    with pytest.raises(ValueError, match="JPG holds no transparency"):
        write_picture(path, _photo("RGBA", rng))
    assert Image.open(path).size == (8, 6)


def test_what_may_show_the_picture_as_it_was_is_left_out_of_its_exif_data(rng):
    image, exif = _photo("RGB", rng), Image.Exif()
    exif[0x0112], exif[0x0100], exif[0x010F] = 6, 8, "Maker"
    exif.get_ifd(0x8769).update({0x829A: 0.01, 0x927C: b"a preview", 0xA002: 8})
    file = io.BytesIO()
    image.save(file, "jpeg", exif=exif.tobytes())
    kept = Image.Exif()
    kept.load(Origin.of(Image.open(file)).exif)
    assert kept[0x010F] == "Maker"
    assert 0x0112 not in kept
    assert 0x0100 not in kept
    assert kept.get_ifd(0x8769) == {0x829A: 0.01}


def test_a_profile_that_does_not_fit_the_result_is_left_out_with_a_warning():
    grey = b"\0" * 16 + b"GRAY" + b"\0" * 108
    assert Origin(profile=grey).given_back(Image.new("L", (2, 2))).info["icc_profile"] == grey
    with pytest.warns(UserWarning, match="profile for GRAY and the result is RGB: the profile is left out"):
        assert "icc_profile" not in Origin(profile=grey).given_back(Image.new("RGB", (2, 2))).info


def test_cmyk_and_lab_are_painted_in_srgb_and_say_so(tmp_path, rng):
    rgb = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    with pytest.warns(UserWarning, match="in CMYK: it is painted and given back in sRGB, .* without a colour profile"):
        values, _, (origin,) = read_with_origins(rgb.convert("CMYK"))
    assert np.array_equal((values[0] * 255).round().permute(1, 2, 0).numpy(), np.array(rgb))
    assert origin == Origin()
    white = Image.new("LAB", (2, 2), (255, 128, 128))
    with pytest.warns(UserWarning, match="in LAB: .* in sRGB, converted$"):
        values = read_with_origins(white)[0]
    assert values.min() > 0.99


def test_a_painted_pixel_is_opaque_and_a_known_one_keeps_its_transparency():
    alpha = torch.tensor([[0, 100], [200, 255]], dtype=torch.uint8)
    weight = torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    image = Origin(alpha).padded((1, 0, 0, 0)).given_back(Image.new("RGB", (3, 2)), F.pad(weight, (1, 0)))
    assert np.array(image)[..., 3].tolist() == [[255, 0, 255], [255, 228, 255]]
    assert Origin(alpha).given_back(Image.new("RGB", (2, 2)), torch.zeros(2, 2)).mode == "RGB"


def test_a_photo_of_a_phone_with_a_preview_in_it_is_a_still_picture(tmp_path, rng):
    pictures = [Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)) for _ in range(2)]
    pictures[0].save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=pictures[1:])
    assert Image.open(tmp_path / "phone.jpg").n_frames == 2
    first = io.BytesIO()
    pictures[0].save(first, "JPEG")
    expected = torch.from_numpy(np.array(Image.open(first))).permute(2, 0, 1)
    assert torch.equal(read_picture(tmp_path / "phone.jpg").pixels, expected)


def test_a_heic_file_is_read_or_the_extra_that_reads_it_is_named(tmp_path, rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr("PIL.Image.MIME", {})
    path = tmp_path / "photo.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(ImportError, match=r"photo\.heic is a HEIC file, .*: pip install 'lanpaint\[heic\]'") as caught:
        read_picture(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_an_avif_file_is_read(tmp_path, rng):
    image = Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8))
    image.save(tmp_path / "photo.avif", quality=100)
    assert torch.equal(
        read_picture(tmp_path / "photo.avif").pixels,
        torch.from_numpy(np.array(Image.open(tmp_path / "photo.avif"))).permute(2, 0, 1),
    )


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError, SystemExit])
def test_a_write_that_is_broken_off_leaves_the_file_that_was_there(tmp_path, monkeypatch, stop):
    path = tmp_path / "out.png"
    path.write_bytes(b"precious")

    def broken(image, part, **options):
        part.write_bytes(b"half")
        raise stop

    monkeypatch.setattr("PIL.Image.Image.save", broken)
    with pytest.raises(stop):
        write_picture(path, Image.new("L", (2, 2)))
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


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

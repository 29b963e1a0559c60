"""Pictures and masks: the same by every door, and what cannot be understood is told."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from lanpaint.pictures import read_change, read_painted, read_pictures

SIZE = (6, 8)
RGB = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
HOLE = np.zeros(SIZE, dtype=bool)
HOLE[1:4, 2:7] = True
WHITE = HOLE.astype(np.uint8) * 255
FULL = np.full(SIZE, 255, np.uint8)


def by_path(picture, tmp_path):
    path = tmp_path / ("given.tif" if picture.mode in ("I", "F") else "given.png")
    picture.save(path)
    return path


def by_opening(picture, tmp_path):
    return Image.open(by_path(picture, tmp_path))


def by_object(picture, tmp_path):
    return picture


def in_a_list(picture, tmp_path):
    return [picture]


every_door = pytest.mark.parametrize("door", [by_path, by_opening, by_object, in_a_list])


def _palette(labels, colours):
    image = Image.fromarray(labels, "P")
    image.putpalette([*colours, *[0] * (768 - len(colours))])
    return image


STROKES = np.dstack([FULL, FULL, FULL, WHITE])
CUT_OUT = np.dstack([RGB // 2, 255 - WHITE])
MASK_IMAGES = {
    "L": Image.fromarray(WHITE),
    "1": Image.fromarray(HOLE),
    "RGB": Image.fromarray(np.dstack([WHITE] * 3)),
    "opaque RGBA": Image.fromarray(np.dstack([WHITE] * 3 + [FULL])),
    "opaque LA": Image.fromarray(np.dstack([WHITE, FULL]), "LA"),
    "L of 0 and 1": Image.fromarray(HOLE.astype(np.uint8)),
    "I of 0 and 1": Image.fromarray(HOLE.astype(np.int32)),
    "I;16": Image.fromarray(HOLE.astype(np.uint16) * 65535),
    "palette, black and white": _palette(HOLE.astype(np.uint8), [0, 0, 0, 255, 255, 255]),
    "palette, labels in dark colours": _palette(HOLE.astype(np.uint8), [0, 0, 0, 128, 0, 0]),
    "white strokes on transparency": Image.fromarray(STROKES, "RGBA"),
    "a hole cut out": Image.fromarray(CUT_OUT, "RGBA"),
}


@every_door
@pytest.mark.filterwarnings("ignore:the mask has white strokes")
@pytest.mark.parametrize("name", MASK_IMAGES)
def test_a_mask_image_paints_its_hole_by_every_door(name, door, tmp_path):
    painted = read_painted(door(MASK_IMAGES[name], tmp_path), SIZE)
    assert painted.shape == (1, 1, *SIZE)
    assert np.array_equal(painted[0, 0].numpy(), HOLE)


def test_white_strokes_on_transparency_are_told_as_they_are_understood():
    with pytest.warns(UserWarning, match="white strokes on transparency: the strokes are painted"):
        read_painted(MASK_IMAGES["white strokes on transparency"], SIZE)


NUMBERS = {
    "bool": HOLE,
    "uint8 of 0 and 1": HOLE.astype(np.uint8),
    "uint8 of 0 and 255": WHITE,
    "int64 of 0 and 1": HOLE.astype(np.int64),
    "int32 of 0 and 255": WHITE.astype(np.int32),
    "uint16 of 0 and 65535": HOLE.astype(np.uint16) * 65535,
    "float32 of 0 and 1": HOLE.astype(np.float32),
    "float64 of 0.2 and 0.7": 0.2 + 0.5 * HOLE,
    "float of 0 and 255": WHITE.astype(np.float32),
}
ARRANGED = {
    "(H, W)": lambda a: a,
    "(1, H, W)": lambda a: a[None],
    "(H, W, 1)": lambda a: a[..., None],
    "(1, 1, H, W)": lambda a: a[None, None],
    "(1, H, W, 1)": lambda a: a[None, ..., None],
    "(H, W, 3)": lambda a: np.dstack([a] * 3),
    "(3, H, W)": lambda a: np.stack([a] * 3),
}


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
@pytest.mark.parametrize("arranged", ARRANGED)
@pytest.mark.parametrize("name", NUMBERS)
def test_a_mask_of_numbers_paints_its_hole_in_every_arrangement(name, arranged, kind):
    numbers = np.ascontiguousarray(ARRANGED[arranged](NUMBERS[name]))
    if kind is torch.from_numpy and numbers.dtype == np.uint16:
        pytest.skip("torch has few operators for uint16")
    painted = read_painted(kind(numbers), SIZE)
    assert np.array_equal(painted.any(0)[0].numpy(), HOLE)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, list], ids=["array", "tensor", "list"])
@pytest.mark.parametrize("arranged", ["(H, W)", "(1, H, W)", "(H, W, 1)"])
def test_a_mask_for_each_picture_stays_a_mask_for_each(count, kind, arranged):
    holes = np.stack([np.roll(HOLE, shift, 1) for shift in range(count)])
    given = np.stack([ARRANGED[arranged](hole) for hole in holes])
    painted = read_painted(kind(given), SIZE, count)
    assert painted.shape == (count, 1, *SIZE)
    assert np.array_equal(painted[:, 0].numpy(), holes)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (np.zeros(SIZE, bool), "nothing is painted"),
        (np.zeros(SIZE, np.uint8), "nothing is painted"),
        (Image.new("L", SIZE[::-1]), "nothing is painted"),
        (HOLE * 7, r"values from 0 to 7; .* mask == 7"),
        (HOLE * -1.0, r"a mask has values from 0 to 1 or to 255, got -1 … -?0"),
        (np.where(HOLE, np.nan, 0.0), "a mask has values"),
        (HOLE * 300.0, "a mask has values"),
        (HOLE[:, :-1], "the mask is 7×6 and the image 8×6"),
        (np.array([["a"]]), "array of numbers"),
        (np.zeros((0, 8)), r"shape \(0, 8\)"),
        (3, "mask must be a PIL image, a path, an array or a tensor, got int"),
        ([], "empty list"),
        ("there/is/none.png", "does not exist"),
    ],
)
def test_a_mask_that_is_not_understood_is_told_in_one_line(mask, told):
    with pytest.raises((ValueError, TypeError), match=told) as caught:
        read_painted(mask, SIZE)
    assert len(str(caught.value).splitlines()) == 1


# Greys

GREYS = np.arange(48, dtype=np.uint8).reshape(SIZE) * 5  # 0 … 235
GREYS[5] = [247, 250, 255, 246, 8, 9, 1, 255]
SHARES = np.where(GREYS <= 8, 0.0, np.where(GREYS >= 247, 1.0, GREYS / 255))
GREY_MASKS = {
    "L": Image.fromarray(GREYS),
    "RGB": Image.fromarray(np.dstack([GREYS] * 3)),
    "opaque LA": Image.fromarray(np.dstack([GREYS, FULL]), "LA"),
    "I;16": Image.fromarray(GREYS.astype(np.uint16) * 257),
    "F": Image.fromarray(GREYS.astype(np.float32)),
    "white strokes": Image.fromarray(np.dstack([FULL, FULL, FULL, GREYS]), "RGBA"),
    "a hole cut out": Image.fromarray(np.dstack([RGB // 2, 255 - GREYS]), "RGBA"),
}


@every_door
@pytest.mark.filterwarnings("ignore:the mask has white strokes")
@pytest.mark.parametrize("name", GREY_MASKS)
def test_where_greys_are_asked_for_a_mask_tells_how_much_may_change(name, door, tmp_path):
    change = read_change(door(GREY_MASKS[name], tmp_path), SIZE, soft=True)
    assert np.allclose(change[0, 0].numpy(), SHARES, atol=1e-6)
    for end in (0, 1):
        assert np.array_equal(change[0, 0].numpy() == end, end == SHARES)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
@pytest.mark.parametrize("arranged", ARRANGED)
@pytest.mark.parametrize("numbers", [GREYS, GREYS / 255, GREYS.astype(np.float32)], ids=["bytes", "[0, 1]", "[0, 255]"])
def test_greys_of_numbers_are_the_same_in_every_arrangement(numbers, arranged, kind):
    change = read_change(kind(np.ascontiguousarray(ARRANGED[arranged](numbers))), SIZE, soft=True)
    assert np.allclose(change[0, 0].numpy(), SHARES, atol=2e-3 if arranged.count("3") else 1e-6)


def test_dim_greys_are_a_mask_where_greys_are_asked_for_and_labels_are_not():
    assert np.allclose(read_change(WHITE // 3, SIZE, soft=True)[0, 0], HOLE / 3)
    with pytest.raises(ValueError, match=r"values from 0 to 7; .* mask == 7"):
        read_change(HOLE * 7, SIZE, soft=True)
    with pytest.raises(ValueError, match="nothing is painted: no pixel of the mask is above black"):
        read_change(HOLE * 0.02, SIZE, soft=True)


def test_areas_of_grey_that_are_not_asked_for_are_told_and_soft_edges_are_not():
    area = np.zeros((32, 32), np.uint8)
    area[4:20, 4:20] = 140
    with pytest.warns(UserWarning, match="areas of grey"):
        assert read_change(area)[0, 0, 10, 10] == 1
    edges = np.array(Image.fromarray(np.kron(HOLE, np.ones((24, 24))).astype(np.uint8) * 255).resize((32, 24)))
    assert ((edges > 8) & (edges < 247)).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_change(edges)


# Pictures


@every_door
def test_a_picture_is_the_same_by_every_door(door, tmp_path):
    values, opaque = read_pictures(door(Image.fromarray(RGB), tmp_path))
    assert opaque is None
    assert torch.equal((values * 255).round().to(torch.uint8)[0], torch.from_numpy(RGB).permute(2, 0, 1))
    for given in (RGB, torch.from_numpy(RGB).permute(2, 0, 1), RGB.transpose(2, 0, 1).copy(), RGB / 255.0):
        other, opaque = read_pictures(given)
        assert torch.allclose(other.reshape(values.shape), values, atol=1e-7)


@every_door
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_what_is_transparent_is_told_by_every_door_with_or_without_an_alpha_band(door, mode, tmp_path):
    grey = np.where(HOLE, 7, RGB[..., 0] // 2 + 100).astype(np.uint8)
    alpha = 255 - WHITE
    if mode in ("RGBA", "LA"):
        bands = [grey] * (3 if mode == "RGBA" else 1)
        image = Image.fromarray(np.dstack([*bands, alpha]), mode)
    else:
        image = Image.fromarray(grey).convert(mode)
        index = int(np.array(image)[1, 2]) if mode == "P" else 0
        image.info["transparency"] = {"P": index, "RGB": (7, 7, 7), "L": 7}[mode]
    if door is by_path or door is by_opening:
        path = tmp_path / "given.png"
        image.save(path, **({"transparency": image.info["transparency"]} if "transparency" in image.info else {}))
        image = path if door is by_path else Image.open(path)
    _, opaque = read_pictures([image] if door is in_a_list else image)
    assert np.array_equal(~opaque[0, 0].numpy(), HOLE)


@every_door
def test_an_alpha_channel_that_is_opaque_says_nothing(door, tmp_path):
    values, opaque = read_pictures(door(Image.fromarray(np.dstack([RGB, FULL]), "RGBA"), tmp_path))
    assert opaque is None
    assert values.shape == (1, 3, *SIZE)


@every_door
def test_a_picture_is_turned_upright_by_every_door(door, tmp_path):
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[0x0112] = 6
    path = tmp_path / "lying.jpg"
    image.save(path, exif=exif, quality=100)
    given = {by_path: path, in_a_list: [Image.open(path)]}.get(door) or Image.open(path)
    values, _ = read_pictures(given)
    assert values.shape == (1, 3, SIZE[1], SIZE[0])


@every_door
@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_a_picture_of_more_than_eight_bits_is_refused_with_what_to_do_by_every_door(door, mode, tmp_path):
    kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    image = Image.fromarray((RGB[..., 0].astype(np.float64) * 257).astype(kinds[mode]))
    with pytest.raises(ValueError, match="has more than 8 bits per channel; convert it to 8 bits first") as caught:
        read_pictures(door(image, tmp_path))
    assert len(str(caught.value).splitlines()) == 1


def test_arrays_of_deep_integers_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match="image of int32 has more than 8 bits"):
        read_pictures(RGB.astype(np.uint16) * 257)


def test_videos_are_lists_of_frames_or_stacked():
    frames = [Image.fromarray(np.roll(RGB, shift, 0)) for shift in range(3)]
    one, _ = read_pictures(frames)
    several, opaque = read_pictures([frames, frames])
    assert opaque is None
    assert one.shape == (3, 3, *SIZE)
    assert several.shape == (2, 3, 3, *SIZE)
    assert torch.equal(several[1], one)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "image is an empty list"),
        (None, "image must be a PIL image, a path, an array or a tensor, got NoneType"),
        ([RGB, RGB[:-1]], "images of one call must have one size, got 8×5, 8×6"),
        (RGB * 2.5, r"image of floats must lie in \[0, 1\]"),
        (np.zeros((6, 8, 5)), r"shape \(6, 8, 5\) has no axis of 1, 3 or 4 channels"),
        ("none.png", "the image none.png does not exist"),
    ],
)
def test_a_picture_that_is_not_understood_is_told_in_one_line(given, told):
    with pytest.raises((ValueError, TypeError), match=told) as caught:
        read_pictures(given)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("bits", [8, 10])
def test_heic_is_read_at_8_bits_and_says_so_where_it_is_deeper(tmp_path, bits):
    """By path and by PIL alike. The file is without loss, so its values are those written, rounded to 8 bits."""
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    ramp = np.linspace(0, 2**bits - 1, 32 * 32).round().astype(np.uint16).reshape(32, 32, 1).repeat(3, 2)
    data = ramp.astype(np.uint8) if bits == 8 else ramp << (16 - bits)
    path = tmp_path / "phone.heic"
    mode = "RGB" if bits == 8 else "RGB;16"
    heif.from_bytes(mode=mode, size=(32, 32), data=data.tobytes()).save(path, quality=-1, chroma=444)
    for given in (path, Image.open(path)):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            values, opaque = read_pictures(given)
        assert opaque is None
        assert (values[0] * 255 - torch.from_numpy(ramp / (2**bits - 1)).movedim(-1, 0) * 255).abs().max() < 3
        said = "image has 10 bits per channel and is read at 8: known pixels come back at 8 bits"
        assert [str(one.message) for one in told] == ([] if bits == 8 else [said])

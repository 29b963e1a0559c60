"""Pictures from a folder or a zip: composited, resized, split by family, drawn by family."""

import zipfile

import pytest
import torch
from PIL import Image

from lanpaint_toys.images import ImageError, ImageSet, family, load_images, may_be_mirrored


def _write(folder, name, colour, size=(8, 8)):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(folder / name)


@pytest.fixture
def emoji(tmp_path):
    """Return a folder of 40 families: one with 30 variants, the others with one picture."""
    folder = tmp_path / "emoji"
    for variant in range(30):
        _write(folder, f"emoji_u1f468_{0x1F3FB + variant:x}.png", (variant, 0, 0))
    for number in range(39):
        _write(folder, f"emoji_u{0x1F400 + number:x}.png", (0, number, 1))
    return folder


def test_transparency_is_composited_on_white_exactly(tmp_path):
    image = Image.new("RGBA", (2, 2))
    image.putdata([(10, 20, 30, 255), (255, 0, 0, 0), (0, 0, 0, 51), (100, 200, 0, 102)])
    image.save(tmp_path / "a.png")
    pixels = ((load_images(tmp_path, 2).images[0] + 1) * 127.5).permute(1, 2, 0).reshape(4, 3)
    # colour * alpha + 255 * (1 - alpha), with alpha 1, 0, 1/5 and 2/5
    expected = torch.tensor([[10, 20, 30], [255, 255, 255], [204, 204, 204], [193, 233, 153]])
    torch.testing.assert_close(pixels, expected.float(), atol=1e-4, rtol=0)


def test_images_are_float32_in_range_and_square(tmp_path):
    _write(tmp_path, "wide.png", (255, 255, 255), size=(30, 10))
    _write(tmp_path, "deep/er/tall.jpg", (0, 0, 0), size=(5, 9))
    pictures = load_images(tmp_path, 4)
    assert (pictures.images.shape, pictures.images.dtype) == ((2, 3, 4, 4), torch.float32)
    assert torch.equal(pictures.images.amax((1, 2, 3)), torch.tensor([-1.0, 1.0]))
    assert pictures.families == ("deep/er/tall.jpg", "wide.png")
    assert not pictures.mirrored.any()


def test_resizing_averages_over_area(tmp_path):
    image = Image.new("L", (64, 64))
    image.putdata([255 * ((x + y) % 2) for y in range(64) for x in range(64)])
    image.save(tmp_path / "board.png")
    assert load_images(tmp_path, 8).images.abs().max() < 0.02  # the mean of black and white; picking pixels gives +-1


def test_zip_is_read_like_the_folder(emoji, tmp_path):
    with zipfile.ZipFile(tmp_path / "emoji.zip", "w") as archive:
        archive.writestr("README.md", "no picture")
        archive.writestr("__MACOSX/._emoji_u1f468.png", "no picture either")
        for file in sorted(emoji.iterdir(), reverse=True):
            archive.write(file, file.name)
    folder, archive = load_images(emoji, 8), load_images(tmp_path / "emoji.zip", 8)
    assert torch.equal(folder.images, archive.images)
    assert folder.families == archive.families
    assert torch.equal(folder.mirrored, archive.mirrored)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("emoji_u1f468_200d_1f680.png", "1f468"),
        ("1F468-1F3FB.png", "1f468"),
        ("deep/emoji_u00a9.png", "a9"),
        ("emoji_u0030_20e3.png", "30"),
        ("photo.png", "photo.png"),
        ("face.jpg", "face.jpg"),
        ("2024_05.png", "2024_05.png"),
        ("deep/photo.png", "deep/photo.png"),
    ],
)
def test_family_is_the_first_code_point_or_the_file(name, expected):
    assert family(name) == expected


def test_writing_flags_clocks_and_arrows_are_not_mirrored():
    one_way = "0©ℹ↗⌚⏩Ⓜ☎♻✏➡⤴🅿🆗🇩🈂🎌🎵🏁🏧🏴💯📅🔃🔙🔠🔢🕐🕰🗺🚩🚫🚻🛑🧮"
    either_way = "🍎🐈😀😉🙂🙈🚗🚀🛸🤖🦊🧀🪐👨👍🌍🌙🎃🏠💀🔥🗿"
    assert [sign for sign in one_way if may_be_mirrored(f"emoji_u{ord(sign):04x}.png")] == []
    assert [sign for sign in either_way if not may_be_mirrored(f"emoji_u{ord(sign):04x}.png")] == []


def test_split_keeps_families_together_and_is_the_same_when_pictures_are_added(emoji):
    pictures = load_images(emoji, 8)
    training, held_out = pictures.split(0.3)
    assert set(training.families).isdisjoint(held_out.families)
    assert len(training) + len(held_out) == len(pictures)
    assert 3 <= len(set(held_out.families)) <= 22  # 12 expected, +- 3.5 standard deviations of 2.9
    _write(emoji, "emoji_u1f3a8.png", (9, 9, 9))
    more, more_held_out = load_images(emoji, 8).split(0.3)
    assert set(training.families) <= set(more.families)
    assert set(held_out.families) <= set(more_held_out.families)


def test_draw_weighs_families_and_not_pictures(emoji):
    pictures = load_images(emoji, 8)
    rows, mirror = pictures.rows(8000, torch.Generator().manual_seed(0))
    names = torch.tensor([pictures.families[row] == "1f468" for row in rows.tolist()])
    assert abs(names.float().mean() - 1 / 40) < 0.007  # 4 standard deviations; 30/69 if pictures had equal weight
    variants = rows[names].bincount(minlength=len(pictures))
    assert (variants > 0).sum() >= 28  # of 30, about 200 draws: one is missing with probability 0.03 at most
    assert abs(mirror.float().mean() - 0.5) < 0.023


def test_draw_mirrors_only_what_may_be_mirrored():
    images = torch.arange(2.0).repeat(2, 3, 1, 1).expand(2, 3, 2, 2).contiguous()
    drawn = ImageSet(images, ("a", "b"), torch.tensor([False, False])).draw(50, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, images[:1].expand_as(drawn))
    drawn = ImageSet(images, ("a", "b"), torch.tensor([True, True])).draw(50, torch.Generator().manual_seed(0))
    mirrored = (drawn == images[0].flip(-1)).flatten(1).all(1)
    assert 10 < mirrored.sum() < 40
    assert torch.equal(drawn[~mirrored], images[:1].expand_as(drawn[~mirrored]))


def test_draw_follows_the_global_random_numbers(emoji):
    pictures = load_images(emoji, 8)
    torch.manual_seed(3)
    first = pictures.draw(10)
    torch.manual_seed(3)
    assert torch.equal(pictures.draw(10), first)


def _missing(folder):
    return folder / "nowhere"


def _text(folder):
    (folder / "a.txt").write_text("no picture")
    return folder / "a.txt"


def _empty(folder):
    (folder / "a.txt").write_text("no picture")
    return folder


def _broken(folder):
    (folder / "a.png").write_bytes(b"no picture")
    return folder


def _cut_off(folder):
    _write(folder, "a.png", (1, 2, 3), size=(50, 50))
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:80])
    return folder


def _zip_of_texts(folder):
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("a.txt", "no picture")
    return folder / "a.zip"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_missing, r"nowhere does not exist: expected a folder or a zip of images"),
        (_text, r"a\.txt is neither a folder nor a zip file"),
        (_empty, r" holds no image: expected files that end in \.png, "),
        (_zip_of_texts, r"a\.zip holds no image: expected files that end in \.png, "),
        (_broken, r"^cannot read the image a\.png in .*: UnidentifiedImageError$"),
        (_cut_off, r"^cannot read the image a\.png in .*: \w+$"),
    ],
)
def test_pictures_that_cannot_be_had_are_told_in_one_line(make, told, tmp_path):
    with pytest.raises(ImageError, match=told) as caught:
        load_images(make(tmp_path), 8)
    assert "\n" not in str(caught.value)


def test_unseen_pictures_are_those_of_held_out_families_or_all_where_there_are_none(emoji, tmp_path):
    pictures = load_images(emoji, 8)
    assert pictures.unseen().families == pictures.split()[1].families
    alone = pictures.one_per_family()
    assert len(alone.unseen()) == len(alone)

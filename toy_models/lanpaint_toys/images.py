"""Pictures from a folder or a zip, as tensors that a small model can train on.

A **family** is the set of variants of one emoji (skin tones, genders). All its pictures are training pictures, or all
are held out. A draw first chooses a family, then a variant, so that an emoji with 250 variants is drawn as often as an
emoji with a single picture. Emoji are recognised by their file names, ``emoji_u1f468_200d_1f680.png`` or
``1f468-200d-1f680.png``, and the first code point names the family. Any other file is a family with one picture.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Files with these endings, in upper or lower case, are read as pictures. All other files are ignored."""

HELD_OUT = 0.1
"""Share of the families (not of the pictures) that are held out: no model trains on them."""

# Without the prefix emoji_u, only code points from 1f000 on are recognised: 2024_05.png is not an emoji.
_EMOJI = re.compile(r"(?:emoji_u([0-9a-f]{4,6})|(1f[0-9a-f]{3}))(?:[_-][0-9a-f]{2,6})*", re.IGNORECASE)

# Blocks of code points that show things, people and animals, and so may be mirrored, except _ONE_WAY.
_PICTURES = ((0x1F300, 0x1F64F), (0x1F680, 0x1F6FF), (0x1F900, 0x1FAFF))
# Code points in _PICTURES that show writing, a sign, a flag, a clock, an arrow or musical notation. They are never
# mirrored, nor are the blocks outside _PICTURES: punctuation, digits, letters, arrows, dingbats, regional indicators.
_ONE_WAY = (
    (0x1F38C, 0x1F38C),  # crossed flags
    (0x1F3A6, 0x1F3A6),  # cinema sign
    (0x1F3B4, 0x1F3BC),  # cards, musical notes, score
    (0x1F3C1, 0x1F3C1),  # chequered flag
    (0x1F3E3, 0x1F3EA),  # post office, bank, ATM, 24-hour shop
    (0x1F3F3, 0x1F3F4),  # flags
    (0x1F4A2, 0x1F4A4),  # anger sign, zzz
    (0x1F4AF, 0x1F4DC),  # hundred points, currencies, computers, calendars, charts, books, papers
    (0x1F4F0, 0x1F4F6),  # newspaper, phones with arrows, signal bars
    (0x1F500, 0x1F50E),  # arrows, loudspeakers, magnifying glasses
    (0x1F516, 0x1F524),  # bookmark, numerals, letters, arrows with words
    (0x1F549, 0x1F54E),  # religious signs
    (0x1F550, 0x1F570),  # clocks
    (0x1F5D2, 0x1F5FA),  # notepads, calendars, newspaper, ballot, map
    (0x1F6A9, 0x1F6A9),  # flag
    (0x1F6AB, 0x1F6C5),  # signs
    (0x1F6D1, 0x1F6D2),  # stop sign, trolley
    (0x1F9E7, 0x1F9E7),  # envelope with writing
    (0x1F9EE, 0x1F9EE),  # abacus
    (0x1FAAA, 0x1FAAA),  # identity card
    (0x1FAA7, 0x1FAA7),  # placard
)


class ImageError(ValueError):
    """Raised when pictures cannot be read. Its message is one line."""


@dataclass(frozen=True)
class ImageSet:
    """Square pictures in memory, with the family of each picture.

    Attributes:
        images: ``(N, C, S, S)``, float32, in [-1, 1].
        families: ``N`` names, the family of each picture.
        mirrored: ``(N,)``, bool: whether a draw may mirror the picture.
    """

    images: Tensor
    families: tuple[str, ...]
    mirrored: Tensor

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.images)

    def where(self, keep: Tensor) -> ImageSet:
        """Return the pictures for which `keep`, ``(N,)``, bool, is true."""
        families = tuple(name for name, kept in zip(self.families, keep.tolist(), strict=True) if kept)
        return ImageSet(self.images[keep], families, self.mirrored[keep])

    def split(self, share: float = HELD_OUT) -> tuple[ImageSet, ImageSet]:
        """Return the pictures to train on, and those to hold out; no family is in both.

        Whether a family is held out depends only on its name and on `share`, so adding pictures does not change it.

        Args:
            share: Part of the families to hold out, in expectation.
        """
        held_out = torch.tensor([_fraction(name) < share for name in self.families], dtype=torch.bool)
        return self.where(~held_out), self.where(held_out)

    def one_per_family(self) -> ImageSet:
        """Return the first picture of each family."""
        first = [name not in self.families[:row] for row, name in enumerate(self.families)]
        return self.where(torch.tensor(first, dtype=torch.bool))

    def unseen(self) -> ImageSet:
        """Return the pictures that no model here was trained on.

        These are the held-out families. If every family has a single picture, they are all pictures.
        """
        return self.split()[1] if len(set(self.families)) < len(self) else self

    def families_first(self) -> ImageSet:
        """Return all pictures: the first picture of every family, then all other pictures."""
        first = torch.tensor([name not in self.families[:row] for row, name in enumerate(self.families)])
        order = torch.cat([first.nonzero(), (~first).nonzero()]).flatten()
        return ImageSet(self.images[order], tuple(self.families[row] for row in order), self.mirrored[order])

    def rows(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw pictures: a family uniformly, then a variant uniformly, mirrored with probability 1/2 if allowed.

        Args:
            count: Number of draws, with replacement.
            generator: Source of the random numbers; by default PyTorch's global generator.

        Returns:
            Rows of `images`, ``(count,)``, int64, and whether to mirror each, ``(count,)``, bool.
        """
        order, start, size = self._members
        family = torch.randint(len(size), (count,), generator=generator)
        variant = (torch.rand(count, generator=generator, dtype=torch.float64) * size[family]).long()
        rows = order[start[family] + variant]
        return rows, self.mirrored[rows] & (torch.rand(count, generator=generator) < 0.5)

    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Return `count` pictures ``(count, C, S, S)`` drawn as `rows` does."""
        rows, mirror = self.rows(count, generator)
        images = self.images[rows]
        return torch.where(mirror[:, None, None, None], images.flip(-1), images)

    @cached_property
    def _members(self) -> tuple[Tensor, Tensor, Tensor]:
        """The rows sorted by family, and where in them each family starts and how many it has."""
        names, inverse = np.unique(np.array(self.families), return_inverse=True)
        size = torch.from_numpy(np.bincount(inverse, minlength=len(names)))
        return torch.from_numpy(np.argsort(inverse, kind="stable")), size.cumsum(0) - size, size


def load_images(path: str | Path, size: int) -> ImageSet:
    """Read every picture in a folder (and the folders in it) or a zip, in the order of their names.

    Transparent parts become white. A picture that is not square loses the longer side's ends. It is then resized with
    Pillow's Lanczos filter, which averages over the area of a target pixel when it shrinks.

    Args:
        path: The folder or the zip file.
        size: Height and width of the result.

    Returns:
        The pictures ``(N, 3, size, size)``, their families, and which may be mirrored (emoji that show no writing,
        sign, flag, clock or arrow; never a file that is no emoji).

    Raises:
        ImageError: If the path is missing or neither folder nor zip, holds no picture, or a picture cannot be read.
    """
    path = Path(path)
    pixels, families, mirrored = [], [], []
    for name, content in _files(path):
        try:
            with Image.open(io.BytesIO(content)) as image:
                pixels.append(_square(image, size))
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ImageError(f"cannot read the image {name} in {path}: {type(error).__name__}") from error
        families.append(family(name))
        mirrored.append(may_be_mirrored(name))
    if not pixels:
        raise ImageError(f"{path} holds no image: expected files that end in {', '.join(SUFFIXES)}")
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return ImageSet(images.contiguous(), tuple(families), torch.tensor(mirrored))


def family(name: str) -> str:
    """Return the name of a file's family: an emoji's first code point in lower case, any other file's whole name."""
    point = _first_code_point(name)
    return name if point is None else f"{point:x}"


def may_be_mirrored(name: str) -> bool:
    """Return whether a file's picture may be mirrored, by the rule at `_PICTURES` and `_ONE_WAY`."""
    point = _first_code_point(name)
    return point is not None and _within(point, _PICTURES) and not _within(point, _ONE_WAY)


def _first_code_point(name: str) -> int | None:
    match = _EMOJI.fullmatch(PurePosixPath(name).stem)
    return int(match[1] or match[2], 16) if match else None


def _within(point: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= point <= last for first, last in ranges)


def _fraction(name: str) -> float:
    """Return a number in [0, 1) that depends on the name only, on any machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name, relative to `path`, and content of each picture, sorted by name."""
    if path.is_dir():
        names = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
        for name in sorted(filter(_is_picture, names)):
            try:
                yield name, names[name].read_bytes()
            except OSError as error:
                raise ImageError(f"cannot read {names[name]}: {error.strerror}") from error
    elif not path.exists():
        raise ImageError(f"{path} does not exist: expected a folder or a zip of images")
    elif not zipfile.is_zipfile(path):
        raise ImageError(f"{path} is neither a folder nor a zip file")
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(filter(_is_picture, archive.namelist())):
                    yield name, archive.read(name)
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
            raise ImageError(f"cannot read {path}: {error}") from error


def _is_picture(name: str) -> bool:
    parts = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts.parts)
    return parts.suffix.lower() in SUFFIXES and not hidden


def _square(image: Image.Image, size: int) -> np.ndarray:
    """Return the picture on white, ``(size, size, 3)``, uint8."""
    colours = image.convert("RGBA")
    white = Image.new("RGBA", colours.size, "white")
    flat = Image.alpha_composite(white, colours).convert("RGB")
    return np.asarray(ImageOps.fit(flat, (size, size), Image.Resampling.LANCZOS))

"""Uploads: pictures and masks from strangers, checked before anything decodes them.

What passes is a still picture of one of five formats, of at most so many bytes and pixels, and with nothing behind its
end: a file that is a picture and a document or an archive at once is refused. No upload is ever sent back: results are
pictures that are written anew from their pixels.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

FORMATS = {"PNG": ".png", "JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif"}
"""Formats that are read → ending of the file that holds one."""
_FOREIGN = (
    b"PK\x03\x04",
    b"%PDF-",
    b"<script",
    b"<svg",
    b"<html",
    b"<?php",
    b"<!doctype",
    b"#!/",
    b"Rar!",
    b"7z\xbc\xaf",
)


class Refused(Exception):  # noqa: N818 - no error of the server
    """An upload or a request that is refused: an HTTP status and one line."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def store(data: bytes, folder: Path, stem: str, what: str, most_pixels: int) -> tuple[Path, tuple[int, int]]:
    """Check an uploaded picture and keep it in a folder, under a name of ours.

    Args:
        data: The bytes of the upload.
        folder: Where the file goes.
        stem: Its name without the ending.
        what: What errors call it: "the picture".
        most_pixels: Bound on width × height.

    Returns:
        The file, and (height, width) in pixels as the picture stands upright.

    Raises:
        Refused: For what is no such picture.
    """
    from io import BytesIO

    from PIL import Image, UnidentifiedImageError

    if not data:
        raise Refused(422, f"{what} is empty; give a PNG, JPEG, WebP, BMP or GIF file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.init()  # all formats are known then; a file of several JPEGs (MPO) is opened as JPEG
            with Image.open(BytesIO(data), formats=[name for name in FORMATS if name != "MPO"]) as image:
                width, height = image.size
                if width * height > most_pixels:
                    raise Refused(
                        413, f"{what} is {width}×{height}; at most {most_pixels:,} pixels are taken: make it smaller"
                    )
                if image.format not in ("MPO", "JPEG") and getattr(image, "is_animated", False):
                    raise Refused(422, f"{what} is animated; give a still picture")
                _check_end(data, image.format or "", what)
                image.load()
                sideways = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
                ending = FORMATS[image.format or ""]
    except Refused:
        raise
    except UnidentifiedImageError:
        raise Refused(415, f"{what} is not a PNG, JPEG, WebP, BMP or GIF picture; convert it to PNG") from None
    except MemoryError:
        raise Refused(413, f"{what} is too large for this machine; make it smaller") from None
    except Exception as error:  # a broken file can make a decoder raise anything
        line = " ".join(str(error).split())[:120]
        raise Refused(422, f"{what} cannot be read ({line}); save it anew as PNG") from None
    path = folder / f"{stem}{ending}"
    path.write_bytes(data)
    return path, (width, height) if sideways else (height, width)


def _check_end(data: bytes, format_: str, what: str) -> None:
    end = {"PNG": _end_of_png, "WEBP": _end_of_webp, "BMP": _end_of_bmp, "GIF": _end_of_gif}.get(format_, _end_of_jpeg)(
        data
    )
    rest = data[end:].lower()
    foreign = any(mark.lower() in rest for mark in _FOREIGN)
    if foreign or (format_ in ("PNG", "WEBP", "BMP", "GIF") and rest.strip(b"\0\r\n ")):
        raise Refused(422, f"{what} goes on behind its end: it is another file too; save it anew as PNG")


def _end_of_png(data: bytes) -> int:
    place = 8
    while place + 12 <= len(data):
        (length,), kind = struct.unpack(">I", data[place : place + 4]), data[place + 4 : place + 8]
        place += 12 + length
        if kind == b"IEND":
            return place
    return len(data)


def _end_of_webp(data: bytes) -> int:
    return 8 + struct.unpack("<I", data[4:8])[0] if len(data) >= 12 else len(data)


def _end_of_bmp(data: bytes) -> int:
    size: int = struct.unpack("<I", data[2:6])[0]
    return size if size >= 54 else len(data)  # some writers leave the size at 0


def _end_of_gif(data: bytes) -> int:
    """Just behind the trailer of a GIF, found block by block."""

    def table(flags: int) -> int:
        return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

    def blocks(place: int) -> int:
        while place < len(data) and data[place]:
            place += data[place] + 1
        return place + 1

    place = 13 + table(data[10]) if len(data) > 13 else len(data)
    while place < len(data) - 1:
        if data[place] == 0x21:
            place = blocks(place + 2)
        elif data[place] == 0x2C and place + 9 < len(data):
            place = blocks(place + 11 + table(data[place + 9]))
        else:
            break
    return place + 1


def _end_of_jpeg(data: bytes) -> int:
    """Just behind the first end of image of a JPEG that is not inside of a segment."""
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            found = data.find(b"\xff", place)
            if found < 0:
                break
            place = found
            continue
        marker = data[place + 1]
        if marker == 0xD9:
            return place + 2
        if marker == 0xFF:
            place += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return len(data)


def check_pair(mask: Path | None, size: tuple[int, int], mask_size: Any, pad: list[int], most_pixels: int) -> None:
    """Raise Refused unless the mask has the picture's size, and the padded picture is not too large."""
    if mask is not None and mask_size != size:
        raise Refused(
            422,
            f"the mask is {mask_size[1]}×{mask_size[0]} and the picture {size[1]}×{size[0]}; "
            "give a mask of the picture's size",
        )
    height, width = size[0] + pad[1] + pad[3], size[1] + pad[0] + pad[2]
    if height * width > most_pixels:
        raise Refused(413, f"with its frame the picture is {width}×{height}; at most {most_pixels:,} pixels are taken")

"""Pictures and videos of tasks, read and written: GIF, PNG, WebP with Pillow, mp4 and similar with imageio-ffmpeg."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lanpaint.images import as_image, check_output, read_picture, replacing, write_picture
from lanpaint.masks import edited
from lanpaint.origin import Origin
from lanpaint.painting.task import Result
from lanpaint.pictures import change_of_shade, read_change, read_with_origins

FILMS = (".mp4", ".mov", ".webm", ".mkv", ".avi")
VIDEO_OUTPUTS = (".mp4", ".gif", ".png", ".webp")
_RATE = 8.0  # frames per second for a file that states no rate


@dataclass(frozen=True)
class Media:
    """A picture, or the frames of a video.

    Attributes:
        frames: uint8, shape (F, C, H, W), C = 1 for grey and 3 for colour; F = 1 for a picture.
        change: How much pixels may change, float32 from 0 (known) to 1 (painted), shape (1 or F, H, W); None if there
            is no mask and no transparency.
        rate: Frames per second; None for a picture.
        durations: How long each frame is shown, shape (F,), in milliseconds; None if all are shown equally long.
        origins: What each frame has beside its colours; empty where that is nothing.
    """

    frames: Tensor
    change: Tensor | None = None
    rate: float | None = None
    durations: Tensor | None = None
    origins: tuple[Origin, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.frames.shape[-2], self.frames.shape[-1]

    @property
    def keeps_transparency(self) -> bool:
        """Whether known pixels are transparent."""
        change = torch.zeros(1, *self.size) if self.change is None else self.change
        return any(
            origin.alpha is not None and bool(((origin.alpha < 255) & (change[min(row, len(change) - 1)] == 0)).any())
            for row, origin in enumerate(self.origins)
        )

    def images(self) -> list[Any]:
        """The frames as PIL images, with all that they have beside their colours."""
        origins = self.origins or (Origin(),) * len(self.frames)
        return [origin.given_back(as_image(frame)) for frame, origin in zip(self.frames, origins, strict=True)]


def read_media(
    image: Any,
    mask: Any,
    still: bool = False,
    mask_may_be_empty: bool = False,
    soft: bool = False,
    edits: dict[str, Any] | None = None,
) -> Media:
    """A picture or video, with its mask.

    Args:
        image: The path of a file, or a picture in memory as :mod:`lanpaint.pictures` takes it; a list of frames is a
            video.
        mask: The mask, in the same forms. It is one picture for all frames, or a video with a mask for each frame. With
            None, the transparent pixels of the image are painted.
        still: Whether videos are refused.
        mask_may_be_empty: Whether a mask is right in which nothing is painted.
        soft: Whether a grey of the mask is how much may change.
        edits: What is done to the mask, as in :func:`lanpaint.masks.edited`.

    Raises:
        ValueError: When a file is missing or cannot be read, or the image and the mask differ in size or number of
            frames.
        ImportError: For a film when imageio-ffmpeg is not installed.
    """
    if not isinstance(image, (str, Path)):
        media = _in_memory(image)
    else:
        path = Path(image)
        media = read_film(path, "the image") if not still and _is_film(path) else _still(path)
    edits = {name: value for name, value in (edits or {}).items() if value}
    if mask is not None:
        media = replace(media, change=_change(mask, media, still, mask_may_be_empty or bool(edits), soft))
    if not edits or media.change is None:
        return media
    change = edited(media.change, **edits)
    change = change if soft else (change >= 0.5).float()
    if not mask_may_be_empty and not bool(change.any()):
        flags = ", ".join(f"--{name} {value}" for name, value in edits.items())
        raise ValueError(f"nothing is left to paint after {flags}; give a mask that is larger, or change it less")
    return replace(media, change=change)


def _change(mask: Any, media: Media, still: bool, may_be_empty: bool, soft: bool) -> Tensor:
    """How much pixels may change by a mask, (1 or F, H, W)."""
    if not isinstance(mask, (str, Path)):
        change = read_change(mask, media.size, len(media.frames), may_be_empty, soft).squeeze(-3)
        if len(change) not in (1, len(media.frames)):
            raise ValueError(
                f"got {len(change)} masks for {len(media.frames)} pictures; give one for all, or one per frame"
            )
        return change
    path = Path(mask)
    if still or not _is_film(path):
        return read_change(path, media.size, may_be_empty=may_be_empty, soft=soft)[0]
    film = read_film(path, "the mask")
    shade = film.frames.float().mean(1).round() / 255 if film.change is None else film.change
    shade = _in_time(shade, film.durations, len(media.frames))
    if tuple(shade.shape[-2:]) != media.size:
        raise ValueError(
            f"the mask is {shade.shape[2]}×{shade.shape[1]} and the image {media.size[1]}×{media.size[0]}; "
            "give a mask of the image's size"
        )
    if len(shade) not in (1, len(media.frames)):
        raise ValueError(
            f"the mask has {len(shade)} frames and the video {len(media.frames)}; give one for all, or one per frame"
        )
    change = change_of_shade(shade, soft)
    if not bool(change.any()) and not may_be_empty:
        raise ValueError(f"nothing is painted: no frame of the mask {path} has a white pixel (128 or above)")
    return change


def _still(path: Path) -> Media:
    picture = read_picture(path)
    change = None if picture.opaque is None else (~picture.opaque[None]).float()
    return Media(picture.pixels[None], change, origins=(picture.origin,))


def _in_memory(picture: Any) -> Media:
    """A picture that is no file, or the frames of a video."""
    values, opaque, origins = read_with_origins(picture)
    if values.ndim != 4:
        raise ValueError(f"a task has one picture or video, got pictures of shape {tuple(values.shape)}")
    frames = (values * 255).round().to(torch.uint8)
    change = None if opaque is None else (~opaque[:, 0]).float()
    return Media(frames, change, None if len(frames) == 1 else _RATE, origins=tuple(origins))


def _is_film(path: Path) -> bool:
    """Whether a file has several frames."""
    if path.suffix.lower() in FILMS:
        return True
    if not path.is_file():
        return False  # the error is raised where the file is read
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) > 1 and image.format in ("GIF", "PNG", "WEBP")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
        return False


def read_film(path: Path, what: str) -> Media:
    """The frames of a video file.

    Raises:
        ValueError: When the file is missing or cannot be read.
        ImportError: For a film when imageio-ffmpeg is not installed.
    """
    if not path.is_file():
        raise ValueError(f"{what} {path} does not exist")
    try:
        return _read_ffmpeg(path) if path.suffix.lower() in FILMS else _read_pillow(path)
    except (OSError, SyntaxError, RuntimeError, StopIteration, IndexError, ValueError) as error:
        said = str(error).split("===")[0].strip()  # what follows is the banner of ffmpeg
        raise ValueError(f"{what} {path} cannot be read: {said}") from error


def _read_ffmpeg(path: Path) -> Media:
    iio = _imageio()
    frames = iio.imread(path, plugin="FFMPEG")
    rate = float(iio.immeta(path, plugin="FFMPEG").get("fps", _RATE))
    return Media(torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous(), rate=rate)


def _read_pillow(path: Path) -> Media:
    from PIL import Image, ImageSequence

    frames, opaque, durations, origins = [], [], [], []
    with Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            array = torch.from_numpy(np.array(frame.convert("RGBA"))).permute(2, 0, 1)
            frames.append(array[:3])
            opaque.append(array[3] == 255)
            durations.append(frame.info.get("duration") or 1000 / _RATE)
            origins.append(Origin(None if bool(opaque[-1].all()) else array[3], image.info.get("icc_profile")))
    change = (~torch.stack(opaque)).float()
    rate = 1000 * len(durations) / sum(durations)
    painted = change if bool(change.any()) else None
    return Media(torch.stack(frames), painted, rate, torch.tensor(durations), tuple(origins))


def _in_time(change: Tensor, durations: Tensor | None, count: int) -> Tensor:
    """One mask for each of ``count`` frames, from the frames of a mask file and their durations.

    A GIF stores equal consecutive frames as one frame that is shown longer.
    """
    if durations is None or len(change) in (1, count):
        return change
    ends = durations.double().cumsum(0) / durations.double().sum() * count
    if bool(((ends - ends.round()).abs() > 0.2).any()):
        return change
    return change.repeat_interleave(ends.round().long().diff(prepend=torch.zeros(1, dtype=torch.long)), 0)


def _imageio() -> Any:
    try:
        import imageio.v3
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise ImportError("films need two more packages: pip install imageio imageio-ffmpeg, or give a GIF") from error
    return imageio.v3


def check_media_output(path: Path, video: bool) -> None:
    """Check that a picture or a video can be written to ``path``.

    Raises:
        ValueError: When the ending does not fit, or the file cannot be written.
        ImportError: For an mp4 when imageio-ffmpeg is not installed.
    """
    if not video:
        check_output(path)
        return
    check_output(path, VIDEO_OUTPUTS)
    if path.suffix.lower() == ".mp4":
        _imageio()


def _check_film(part: Path, path: Path, count: int) -> None:
    """Raise OSError unless a film that was written has all its frames: ffmpeg does not tell of a full disk."""
    import imageio_ffmpeg

    try:
        found = imageio_ffmpeg.count_frames_and_secs(str(part))[0]
    except (RuntimeError, OSError):
        found = 0
    if found != count:
        raise OSError(f"cannot write {path}: {found} of {count} frames arrived in the file; is the disk full?")


def _write_mp4(path: Path, images: Sequence[Any], rate: float) -> None:
    """Write a film frame by frame: no more than one frame is in memory."""
    _imageio()
    import imageio_ffmpeg

    writer = imageio_ffmpeg.write_frames(  # the default macro_block_size would stretch the sides to multiples of 16
        str(path), images[0].size, fps=rate, codec="libx264", quality=None, macro_block_size=2,
        ffmpeg_log_level="quiet",
        output_params=["-crf", "12"],
    )  # fmt: skip
    try:
        writer.send(None)
        for image in images:
            writer.send(np.array(image.convert("RGB")).tobytes())
    finally:
        writer.close()


def write_media(path: Path, images: Sequence[Any], media: Media | Result) -> None:
    """Write painted frames as a film, or the one of a picture, at the pace of ``media``.

    An animated PNG or WebP keeps every pixel. A GIF has 256 colours per frame, and an mp4 loses detail.
    """
    if len(images) == 1 and path.suffix.lower() not in (".mp4", ".gif"):
        write_picture(path, images[0])
        return
    rate = media.rate or _RATE
    with replacing(path) as part:
        if path.suffix.lower() == ".mp4":
            _write_mp4(part, images, rate)
            _check_film(part, path, len(images))
            return
        pace: Any = 1000 / rate if media.durations is None else [round(float(time)) for time in media.durations]
        options = {"lossless": True, "exact": True} if path.suffix.lower() == ".webp" else {}
        profile = {"icc_profile": images[0].info["icc_profile"]} if "icc_profile" in images[0].info else {}
        images[0].save(part, save_all=True, append_images=list(images[1:]), duration=pace, loop=0, **options, **profile)

"""What a picture has beside its colours, kept by the reader and given back with what is painted.

That is its transparency, its colour profile, its resolution and its EXIF data. Values are painted as they are, in
whatever RGB space their profile says, and the profile is given back. A profile that does not fit the result is left out
with a warning: a grey profile where the result has colours. A picture in CMYK or Lab is converted to sRGB, by its
profile where it has one.

Of the EXIF data three things are left out: the orientation, which the reader has applied, and the thumbnail and the
notes of the camera's maker, which may show the picture as it was.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_SPACES = {b"RGB ": ("RGB", "RGBA"), b"GRAY": ("L", "LA")}  # of a profile's header, and the modes that they fit
# Tags of a file's own layout (TIFF keeps them beside EXIF data), the orientation, XMP, and the ICC profile.
_OWN = (*range(254, 270), *range(273, 282), 284, *range(288, 294), *range(317, 348), *range(512, 533), 700, 34675)
_CAMERA, _NOT_KEPT = 0x8769, (0x927C, 0xA002, 0xA003)  # the maker's notes, and the size


@dataclass(frozen=True)
class Origin:
    """What is given back of a picture beside its colours.

    Attributes:
        alpha: uint8, shape (H, W); None where the picture is opaque everywhere.
        profile: The ICC profile.
        dpi: Dots per inch along width and height.
        exif: EXIF data, without what is left out.
    """

    alpha: Tensor | None = None
    profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    exif: bytes | None = None

    @classmethod
    def of(cls, image: Any) -> Origin:
        """What a PIL image that stands upright has."""
        alpha = None
        if image.has_transparency_data:
            alpha = torch.from_numpy(np.array(image.convert("RGBA"))[..., 3].copy())
            alpha = None if bool((alpha == 255).all()) else alpha
        dpi = image.info.get("dpi")
        try:
            dpi = (float(dpi[0]), float(dpi[1])) if dpi and float(dpi[0]) > 0 and float(dpi[1]) > 0 else None
        except (TypeError, ValueError, ZeroDivisionError, IndexError):  # a file may say anything
            dpi = None
        return cls(alpha, image.info.get("icc_profile") or None, dpi, _exif(image))

    def padded(self, pad: tuple[int, int, int, int]) -> Origin:
        """The origin of a picture with so many opaque pixels more at the left, top, right and bottom."""
        if self.alpha is None:
            return self
        left, top, right, bottom = pad
        return replace(self, alpha=F.pad(self.alpha, (left, right, top, bottom), value=255))

    def given_back(self, image: Any, weight: Tensor | None = None) -> Any:
        """A PIL image with this transparency, profile, resolution and EXIF data.

        Args:
            image: The painted picture, grey or RGB.
            weight: The weight of the known picture per pixel, shape (H, W), from 0 to 1: a painted pixel is opaque.
                None keeps all of the transparency.
        """
        if self.alpha is not None:
            alpha = self.alpha.float()
            alpha = alpha if weight is None else torch.lerp(torch.full_like(alpha, 255), alpha, weight.to(alpha))
            if bool((alpha < 255).any()):
                image = image.copy()
                from PIL import Image

                image.putalpha(Image.fromarray(alpha.round().to(torch.uint8).numpy()))
        if self.profile is not None:
            space = self.profile[16:20]
            if image.mode in _SPACES.get(space, ()):
                image.info["icc_profile"] = self.profile
            else:
                warnings.warn(
                    f"the image has a colour profile for {space.decode('latin-1').strip()} and the result is "
                    f"{'grey' if image.mode[0] == 'L' else 'RGB'}: the profile is left out",
                    stacklevel=2,
                )
        if self.dpi is not None:
            image.info["dpi"] = self.dpi
        if self.exif is not None:
            image.info["exif"] = self.exif
        return image


def in_rgb(image: Any) -> Any:
    """A PIL image as it is painted: one in CMYK or Lab is converted to sRGB, by its profile where it has one."""
    if image.mode not in ("CMYK", "LAB"):
        return image
    from PIL import ImageCms

    profile, made = image.info.get("icc_profile"), None
    try:
        if profile or image.mode == "LAB":
            given = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
            made = ImageCms.profileToProfile(
                image, given, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )  # fmt: skip
    except (ImageCms.PyCMSError, OSError, ValueError):  # a broken profile, or one of another kind
        profile = None
    made = image.convert("RGB") if made is None else made
    made.info = {name: value for name, value in image.info.items() if name != "icc_profile"}
    how = " by its colour profile" if profile else " without a colour profile" if image.mode == "CMYK" else ""
    warnings.warn(f"the image is in {image.mode}: it is painted and given back in sRGB, converted{how}", stacklevel=4)
    return made


def _exif(image: Any) -> bytes | None:
    from PIL import Image

    try:
        found = image.getexif()
        if not found:
            return None
        kept = Image.Exif()
        kept.load(found.tobytes())  # without the thumbnail
        for tag in _OWN:
            kept.pop(tag, None)
        camera = kept.get_ifd(_CAMERA) if _CAMERA in kept else {}
        for tag in _NOT_KEPT:
            camera.pop(tag, None)
        return kept.tobytes() if len(kept) else None
    except Exception:  # EXIF data are written by all kinds of programs, and their reader can raise anything
        return None

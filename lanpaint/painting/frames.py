"""Frames of a film that is too long for the memory: PNG files in a folder, written and read one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from lanpaint.images import as_image, write_picture


class FrameFolder(Sequence[Any]):
    """The frames of a film as files ``00000.png``, ``00001.png``, … of a folder; a sequence of PIL images.

    Args:
        folder: The folder. It is made with the first frame.
        count: Frames of the whole film.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self._count = folder, count

    def path(self, number: int) -> Path:
        """The file of a frame."""
        return self.folder / f"{number:05d}.png"

    def write(self, first: int, frames: Tensor) -> None:
        """Write uint8 frames (F, C, H, W); a file that is there already is replaced."""
        for number, frame in enumerate(frames, first):
            write_picture(self.path(number), as_image(frame))

    def check(self, count: int) -> None:
        """Raise ValueError unless the first ``count`` frames are there."""
        missing = next((n for n in range(count) if not self.path(n).is_file()), None)
        if missing is not None:
            raise ValueError(
                f"{self.path(missing)} is missing, written by an earlier run; delete the state to begin anew"
            )

    def remove(self) -> None:
        """Delete the frames, and the folder if nothing else is in it."""
        for number in range(self._count):
            self.path(number).unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: Any) -> Any:
        from PIL import Image

        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(self._count))]
        if not 0 <= number < self._count:
            raise IndexError(number)
        with Image.open(self.path(number)) as image:
            return image.copy()

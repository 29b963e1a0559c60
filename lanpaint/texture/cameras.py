"""Cameras around a mesh that lies in the unit ball."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lanpaint.checks import check_between

_FIELD = 40.0  # of view, in degrees; far enough away that little of the surface is stretched by perspective
_MARGIN = 1.05  # of the picture around the ball


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at the middle, from where it sees all of the unit ball.

    Attributes:
        azimuth: Angle around the y axis, in degrees. At 0 the camera is on the +z side, and at 90 on the +x side.
        elevation: Angle above the horizon, in degrees, from −90 to 90.

    Raises:
        TypeError, ValueError: For angles that are no finite numbers, and an elevation beyond the poles.
    """

    azimuth: float
    elevation: float = 0.0

    def __post_init__(self) -> None:
        check_between("azimuth", self.azimuth, -360, 360)
        check_between("elevation", self.elevation, -90, 90)

    @property
    def axes(self) -> np.ndarray:
        """Unit vectors to the right, upwards and forwards, shape (3, 3)."""
        a, e = np.deg2rad([self.azimuth, self.elevation])
        right = np.array([np.cos(a), 0.0, -np.sin(a)])
        forward = -np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
        return np.stack([right, np.cross(right, forward), forward])

    @property
    def position(self) -> np.ndarray:
        """Where the camera is, shape (3,)."""
        return -self.axes[2] * _MARGIN / np.sin(np.deg2rad(_FIELD / 2))

    def rays(self, height: int, width: int) -> np.ndarray:
        """Directions from the camera through the middles of the pixels, of length 1 along its axis, shape (H·W, 3).

        The ball fits into the shorter side.
        """
        half = np.tan(np.deg2rad(_FIELD / 2)) / min(height, width)
        x = (2 * np.arange(width) + 1 - width) * half
        y = (height - 1 - 2 * np.arange(height)) * half
        grid = np.stack(np.broadcast_arrays(x[None, :], y[:, None], 1.0), -1).reshape(-1, 3)
        return grid @ self.axes

    def project(self, points: np.ndarray, height: int, width: int) -> np.ndarray:
        """(row, column, depth) of points, shape (P, 3); the middle of the first pixel is (0, 0)."""
        right, up, forward = ((points - self.position) @ self.axes.T).T
        scale = min(height, width) / (2 * np.tan(np.deg2rad(_FIELD / 2))) / forward
        return np.stack([(height - 1) / 2 - up * scale, (width - 1) / 2 + right * scale, forward], 1)


def around(count: int = 8, elevation: float = 0.0) -> tuple[Camera, ...]:
    """Cameras at equal angles around the mesh, from azimuth 0 on."""
    return tuple(Camera(360.0 * number / count, elevation) for number in range(count))


def paper_cameras() -> tuple[Camera, ...]:
    """The ten views of the ALM paper (arXiv:2606.31323, B.4): eight around at elevation 0°, and two at 30°."""
    return (*around(8), Camera(0.0, 30.0), Camera(180.0, 30.0))

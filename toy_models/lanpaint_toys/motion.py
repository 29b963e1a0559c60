"""Motion of a wrist: the data set BasicMotions, which comes with sktime.

Four students wore a watch while standing, walking, running and playing badminton. It measured acceleration and angular
velocity along three axes, ten times a second, for ten seconds (timeseriesclassification.com, BasicMotions). There are
80 series of 100 steps: 40 to train on and 40 to test on, ten of each activity. The data set does not say who made which
series, so the test series come from the same people. It names no units; the magnitudes fit m/s² without gravity, and
rad/s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from lanpaint.units import Units
from lanpaint_toys.shipped import weights_folder

FOLDER = weights_folder("motion")
"""Folder of the shipped weights."""

ACTIVITIES = ("standing", "running", "walking", "badminton")

LENGTH = 64
"""Steps of the windows that the model trains on, 6.4 seconds."""

UNITS = Units(
    channels=("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z"),
    offset=(0.0,) * 6,
    scale=(1.5,) * 3 + (0.5,) * 3,  # near the magnitudes of walking; then no training value is beyond ±1
    curve="arsinh",
    span=5.0,
    unit=("m/s²",) * 3 + ("rad/s",) * 3,
    rate=10.0,
    largest=(29.4, 27.8, 24.7, 34.9, 18.5, 24.5),
)
"""Units of the data. Badminton moves ten times as fast as standing, so the curve is not linear."""


def load_motion(split: Literal["train", "test"]) -> tuple[Tensor, list[str]]:
    """Return the series of a split, and the activity of each.

    Args:
        split: ``"train"`` or ``"test"``.

    Returns:
        ``(40, 6, 100)``, float32, in the units of `UNITS`; and 40 names of `ACTIVITIES`.

    Raises:
        ModuleNotFoundError: If sktime is not installed.
        ValueError: For an unknown split.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}, expected train or test")
    from sktime.datasets import load_basic_motions

    series, activities = load_basic_motions(split, return_X_y=True, return_type="numpy3D")
    return torch.from_numpy(series).float(), [str(name) for name in activities]


def middle_windows(series: Tensor) -> Tensor:
    """Return the window in the middle of each series, normalised: ``(N, 6, 64)`` of ``(N, 6, T)``."""
    start = (series.shape[-1] - LENGTH) // 2
    return UNITS.normalise(series[..., start : start + LENGTH])


def motion_features(windows: Tensor) -> Tensor:
    """Return features of windows: level, strength, rhythm and interplay of the channels.

    They are the mean and the logarithm of the standard deviation of each channel, its autocorrelation after 1, 2 and 4
    steps, and the correlation of each pair of channels. All are of order 1; none is learned.

    Args:
        windows: ``(N, C, T)``, normalised.

    Returns:
        ``(N, F)``, F = 45 for six channels.
    """
    centred = windows - windows.mean(2, keepdim=True)
    power = centred.square().mean(2).clamp(min=1e-6)
    lagged = [(centred[..., k:] * centred[..., :-k]).mean(2) / power for k in (1, 2, 4)]
    scaled = centred / power.sqrt()[..., None]
    row, column = torch.triu_indices(windows.shape[1], windows.shape[1], 1)
    together = (scaled @ scaled.mT / windows.shape[2])[:, row, column]
    return torch.cat([windows.mean(2), power.log() / 2, *lagged, together], 1)


def rotations(count: int, spread: float) -> Tensor:
    """Return random rotations of space, drawn with PyTorch's global random numbers.

    Args:
        count: Number of rotations.
        spread: Standard deviation of each component of the rotation vector, in radians.

    Returns:
        ``(count, 3, 3)``, orthogonal with determinant 1.
    """
    x, y, z = (spread * torch.randn(count, 3)).unbind(1)
    nought = torch.zeros_like(x)
    rows = [nought, -z, y, z, nought, -x, -y, x, nought]
    return torch.linalg.matrix_exp(torch.stack(rows, 1).view(count, 3, 3))


@dataclass(frozen=True)
class RandomMotion:
    """Windows at uniform places of series, each turned a little and made a little slower or faster.

    The watch sits a little differently on each wrist: both sensors are turned by one random rotation. A person moves
    with more or less force: all values are multiplied by one random factor.

    Attributes:
        series: ``(N, 6, T)``, in the units of `UNITS`.
        turn: Standard deviation of the rotation vector's components, in radians.
        force: Standard deviation of the logarithm of the factor.
    """

    series: Tensor
    turn: float = 0.15
    force: float = 0.15

    @cached_property
    def images(self) -> Tensor:
        """The window in the middle of each series, ``(N, 6, 64)``: they name the data."""
        return middle_windows(self.series)

    def draw(self, count: int) -> Tensor:
        """Return ``(count, 6, 64)``, normalised, drawn with PyTorch's global random numbers."""
        number, _, length = self.series.shape
        which, start = torch.randint(number, (count,)), torch.randint(length - LENGTH + 1, (count,))
        windows = torch.stack(
            [self.series[n, :, s : s + LENGTH] for n, s in zip(which.tolist(), start.tolist(), strict=True)]
        )
        turned = torch.einsum("nij,nsjt->nsit", rotations(count, self.turn), windows.unflatten(1, (2, 3)))
        force = torch.exp(self.force * torch.randn(count, 1, 1))
        return UNITS.normalise(force * turned.flatten(1, 2))

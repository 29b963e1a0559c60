"""Skeletons: the motion in a BVH file as a sequence of continuous numbers, and back.

A BVH file has three Euler angles for each joint, in degrees. They jump by 360° where a turn ends, and by more near a
gimbal lock, where a small turn changes two of them much. So a sequence has the first two columns of each joint's
rotation matrix instead (Zhou et al., CVPR 2019), six numbers that change as smoothly as the joint turns, and the three
coordinates of the root. What is known comes back character for character, and so does the hierarchy.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lanpaint.checks import as_path
from lanpaint.images import replacing

ENDING = ".bvh"
_ENCODING = "latin-1"  # keeps every byte, whatever the names of the joints are written in


@dataclass(frozen=True)
class Skeleton:
    """The motion of a BVH file; see :func:`read_skeleton`.

    Attributes:
        path: The file.
        values: (T, 3 + 6 J), float64, for T frames and J joints: the root's coordinates in the file's unit, and the
            first two columns of each joint's rotation matrix. NaN is missing.
        names: Names of the columns of ``values``: ``Hips.x``, ``Hips.y``, ``Hips.z``, ``Hips.r11``, ``Hips.r21``, …
        orders: Order of the Euler angles of each joint, such as ``ZXY``.
        lines: The lines of the file.
        frames: Numbers of the lines that are frames.
        places: Number of the cell of a line for each of the 3 + 3 J channels: the root's coordinates, and the angles.
    """

    path: Path
    values: np.ndarray
    names: tuple[str, ...]
    orders: tuple[str, ...] = field(repr=False)
    lines: tuple[str, ...] = field(repr=False)
    frames: tuple[int, ...] = field(repr=False)
    places: tuple[int, ...] = field(repr=False)

    def write(self, path: str | Path, values: np.ndarray, known: np.ndarray, names: object = ()) -> None:
        """Write the file with completed values.

        Args:
            path: A file that ends in ``.bvh``. Its folder is made if it is missing.
            values: The completed values, shape of ``self.values``.
            known: Boolean, shape of ``values``. A rotation is known if all of its six numbers are; its angles, and all
                coordinates that are known, are not written anew.
            names: Not used: the file has names.

        Raises:
            ValueError: For another ending.
            OSError: When the file cannot be written.
        """
        path = check_skeleton_output(path)
        joints = np.asarray(known[:, 3:].reshape(len(known), -1, 6).all(2))
        kept = np.concatenate([known[:, :3], np.repeat(joints, 3, 1)], 1)
        numbers = np.concatenate([values[:, :3], self._angles(values, joints)], 1)
        lines = list(self.lines)
        for frame, line in enumerate(self.frames):
            cells = re.split(r"(\s+)", lines[line])  # cells and what is between them, in turn
            first = 0 if cells[0] else 2
            for channel in np.flatnonzero(~kept[frame]):
                cells[first + 2 * self.places[channel]] = f"{numbers[frame, channel]:.6f}"
            lines[line] = "".join(cells)
        with replacing(path) as part:
            part.write_bytes("\n".join(lines).encode(_ENCODING))

    def check_names(self, channels: tuple[str, ...]) -> None:
        """Raise ValueError if a model's channels have names, and these are not the numbers of this skeleton."""
        for number, (channel, name) in enumerate(zip(channels, self.names, strict=True)):
            if channel != name and channel != f"channel_{number}":
                raise ValueError(
                    f"the model is of another skeleton: its channel {number} is {channel}, and that of {self.path} is "
                    f"{name}"
                )

    def _angles(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Angles (T, 3 J) in degrees: those of the file where known, elsewhere as near to the neighbour's as can be."""
        from pybvh.rotations import rot6d_to_euler

        turns = values[:, 3:].reshape(len(values), -1, 6)
        cells = [self.lines[line].split() for line in self.frames]
        given = np.array([[float(row[place]) for place in self.places[3:]] for row in cells]).reshape(*known.shape, 3)
        for joint, order in enumerate(self.orders):
            seen = np.flatnonzero(known[:, joint])
            made = np.flatnonzero(~known[:, joint])
            begin = seen[0] if len(seen) else 0
            for frame in [*made[made > begin], *made[made <= begin][::-1]]:
                angles = rot6d_to_euler(turns[frame, joint], order, degrees=True)
                beside = frame - 1 if frame > begin else frame + 1
                is_first = not len(seen) and frame == 0
                given[frame, joint] = angles if is_first else _nearest(angles, given[beside, joint], order)
        return given.reshape(len(values), -1)


def _nearest(angles: np.ndarray, beside: np.ndarray, order: str) -> np.ndarray:
    """Angles of the same rotation that are nearest to others: one of two triples, and whole turns."""
    first, middle, last = angles
    other = np.array([first + 180, (-middle if order[0] == order[2] else 180 - middle), last + 180])
    both = [triple + 360 * np.round((beside - triple) / 360) for triple in (angles, other)]
    return min(both, key=lambda triple: float(np.abs(triple - beside).sum()))


def check_skeleton_output(path: str | Path) -> Path:
    """The path of a file to write. Raises ValueError unless it ends in ``.bvh`` and can be written."""
    path = as_path("the output", path)
    if path.suffix.lower() != ENDING:
        raise ValueError(f"the output of a BVH file must end in {ENDING}, got {path}")
    if path.is_dir():
        raise ValueError(f"the output {path} is a folder; name a file")
    return path


def read_skeleton(path: str | Path) -> Skeleton:
    """The motion in a BVH file.

    A cell ``nan`` is missing. A rotation is missing with all of its angles, or not at all.

    Args:
        path: The file, which ends in ``.bvh``. pybvh reads it: one root with three positions in the order X, Y, Z and
            three rotations, and joints with three rotations.

    Raises:
        ImportError: Without pybvh.
        ValueError: When the file is missing, is no such BVH file, has infinite numbers, or a part of a rotation.
    """
    path = as_path("the data", path)
    if not path.is_file():
        raise ValueError(f"{path} is {'a folder, not a file' if path.is_dir() else 'not there'}")
    if path.suffix.lower() != ENDING:
        raise ValueError(f"the name of a BVH file must end in {ENDING}, got {path}")
    pybvh = _needed()
    lines = path.read_bytes().decode(_ENCODING).split("\n")
    try:
        with warnings.catch_warnings(), _in_small_letters(path) as named:
            warnings.simplefilter("ignore")
            read = pybvh.read_bvh_file(named, world_up="+y")  # else it looks for the ground, and NaN has none
        frames = _frames(lines)
        places = _places(lines, 3 + 3 * read.joint_count)
        if len(frames) != read.frame_count or any(len(lines[line].split()) != len(places) for line in frames):
            raise ValueError("there is more on the lines of its frames than numbers")
    except Exception as error:  # what a parser raises for a file of another kind is not known
        told = (str(error).replace(f"{named}", "the file").splitlines() or [""])[0].split(";")[0]
        raise ValueError(f"cannot read {path} as BVH: {told:.160}") from error
    angles = np.degrees(read.joint_angles)
    if np.isinf(read.root_pos).any() or np.isinf(angles).any():
        raise ValueError(f"{path} has infinite numbers; write nan where something is missing")
    missing = np.isnan(angles)
    partly = np.argwhere(missing.any(2) & ~missing.all(2))
    joints = [str(name) for name in read.joint_names]
    if len(partly):
        frame, joint = partly[0]
        raise ValueError(
            f"{path} has some of the angles of {joints[joint]} in frame {frame} and others missing; a rotation is "
            "missing as a whole"
        )
    turns = pybvh.rotations.euler_to_rot6d(read.joint_angles, read.euler_orders)
    names = [f"{joints[0]}.{axis}" for axis in "xyz"]
    names += [f"{joint}.r{row}{column}" for joint in joints for column in (1, 2) for row in (1, 2, 3)]
    values = np.concatenate([read.root_pos, turns.reshape(len(turns), -1)], 1)
    return Skeleton(path, values, tuple(names), tuple(read.euler_orders), tuple(lines), frames, places)


@contextlib.contextmanager
def _in_small_letters(path: Path) -> Iterator[Path]:
    """The file under a name that pybvh reads: one that ends in .bvh."""
    if path.suffix == ENDING:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"motion{ENDING}"
        copy.write_bytes(path.read_bytes())
        yield copy


def _frames(lines: list[str]) -> tuple[int, ...]:
    """Numbers of the lines behind ``Frame Time:`` that are not empty."""
    begin = next(n for n, line in enumerate(lines) if line.split()[:2] == ["Frame", "Time:"])
    return tuple(n for n in range(begin + 1, len(lines)) if lines[n].strip())


def _places(lines: Iterable[str], count: int) -> tuple[int, ...]:
    """Cells of the root's positions, of its rotations, and of all others."""
    root = next(line.split()[2:] for line in lines if line.split()[:1] == ["CHANNELS"])
    kinds = [name.lower().endswith("rotation") for name in root]
    return (
        *(n for n, turn in enumerate(kinds) if not turn),
        *(n for n, turn in enumerate(kinds) if turn),
        *range(6, count),
    )


def _needed() -> Any:
    try:
        import pybvh
    except ImportError as error:
        raise ImportError("BVH files need the package pybvh: pip install 'lanpaint[motion]'") from error
    return pybvh

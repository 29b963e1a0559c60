"""The file of results: one line of JSON for each run. Several processes may write to one file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from importlib.metadata import version
from io import FileIO
from pathlib import Path

import numpy as np
from torch import Tensor

from lanpaint.bench.runs import Result, Settings
from lanpaint.checks import as_path
from lanpaint.images import replacing

KEPT = 2_000
"""Number of samples of a run on a planar target that are stored for pictures, in a folder beside the results."""
_BEGINNING = b'{"section"'  # of every line

Key = tuple[str, Settings, str | None]


class Results:
    """A file of results. Lines are only ever appended, each by one process at a time.

    Args:
        path: The file. It is made when the first line is written.

    Attributes:
        rows: The results in the file, without repetitions: two results with the same section, settings and version of
            lanpaint count once, the first of them.
        is_cut: Whether the last line is incomplete.

    Raises:
        ValueError: When the folder is missing, or a line is not a result. An incomplete last line is no error: it is
            left by a run that was killed while writing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = as_path("a file of results", path)
        self.rows: list[Result] = []
        self.is_cut = False
        self._keys: dict[Key, Result] = {}
        self._read = self._lines = 0  # bytes and lines that have been read
        if self.path.exists() and not self.path.is_file():
            what = "a folder" if self.path.is_dir() else "not a file"
            raise ValueError(f"{self.path} is {what}; give a file of results")
        if not self.path.absolute().parent.is_dir():
            raise ValueError(f"cannot write {self.path}: the folder {self.path.absolute().parent} does not exist")
        self.refresh()

    @property
    def latest(self) -> list[Result]:
        """The results, only the last one for each section and settings, whatever version of lanpaint has made it."""
        return list({(row.section, row.settings): row for row in self.rows}.values())

    def refresh(self) -> None:
        """Read what has been appended to the file since it was read last.

        Raises:
            ValueError: When the file cannot be read, or a line is not a result.
        """
        try:
            with self.path.open("rb", buffering=0) as file:
                self._catch_up(file)
        except FileNotFoundError:
            self.rows, self._keys, self._read, self._lines = [], {}, 0, 0
        except OSError as error:
            raise ValueError(f"cannot read {self.path}: {error.strerror or error}") from error

    def _catch_up(self, file: FileIO) -> bytes:
        """Read the complete lines that are new. Returns what follows the last complete line."""
        if file.seek(0, os.SEEK_END) < self._read:  # somebody has made the file shorter
            self.rows, self._keys, self._read, self._lines = [], {}, 0, 0
        file.seek(self._read)
        *lines, rest = file.read().split(b"\n")
        for line in lines:
            self._lines += 1
            self._take(line, self._lines)
            self._read += len(line) + 1
        self.is_cut = False
        try:
            self._take(rest, self._lines + 1)
        except ValueError:
            if not rest.startswith(_BEGINNING) and not _BEGINNING.startswith(rest):
                raise
            self.is_cut = True  # the run was killed
        return rest

    def _take(self, line: bytes, number: int) -> None:
        """Take line ``number`` of the file into the rows.

        Raises:
            ValueError: When it is not a result.
        """
        try:
            row = Result.from_json(line.decode()) if line.strip() else None
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is not a file of results, which is text; give another file") from error
        except ValueError as error:
            raise ValueError(f"{self.path}, line {number}: {error}; delete the line or give another file") from error
        if row is not None and self._keys.setdefault(_key(row), row) is row:
            self.rows.append(row)

    def find(self, settings: Settings) -> list[Result]:
        """The rows with these settings that the installed version of lanpaint has made."""
        return [
            row for row in self.rows if row.settings == settings and row.versions.get("lanpaint") == version("lanpaint")
        ]

    def check_writable(self) -> None:
        """Raise unless a line can be appended to the file, as far as this can be known before.

        Raises:
            ValueError: When the file cannot be opened for writing.
        """
        try:
            existed = self.path.exists()
            with _locked(self.path) as file:
                if not existed and not file.seek(0, os.SEEK_END):
                    self.path.unlink()
        except OSError as error:
            raise ValueError(f"cannot write {self.path}: {error.strerror or error}") from error

    def add(self, row: Result) -> Result:
        """Append a row, unless another process has appended one with its section, settings and version meanwhile.

        Returns:
            The row that is in the file. The whole row is on the disk when this returns.

        Raises:
            OSError: When the row cannot be written. The file is then as it was before.
        """
        try:
            existed = self.path.exists()
            with _locked(self.path) as file:
                rest = self._catch_up(file)
                if _key(row) in self._keys and not rest:
                    return self._keys[_key(row)]
                size = file.seek(0, os.SEEK_END)
                try:
                    if rest and self._is_complete(rest):  # only its newline is missing
                        _write(file, b"\n")
                    elif rest:
                        file.truncate(size - len(rest))
                    if _key(row) not in self._keys:
                        _write(file, row.as_json().encode() + b"\n")
                    os.fsync(file.fileno())
                except BaseException:  # of a full disk, or Ctrl-C
                    with contextlib.suppress(OSError):
                        file.truncate(self._read)
                        _write(file, rest)
                        if not existed and not self._read:
                            self.path.unlink()
                    raise
                self._catch_up(file)
        except OSError as error:
            raise OSError(f"cannot write {self.path}: {error.strerror or error}") from error
        return self._keys[_key(row)]

    @staticmethod
    def _is_complete(line: bytes) -> bool:
        try:
            Result.from_json(line.decode())
        except ValueError:
            return False
        return True

    def samples_path(self, settings: Settings) -> Path:
        """The file in which the samples of a run on a planar target are stored."""
        import hashlib

        name = hashlib.sha256(repr(sorted(settings.given().items())).encode()).hexdigest()[:16]
        return self.path.with_name(self.path.name + ".samples") / f"{name}.npy"

    def keep(self, settings: Settings, x: Tensor | None) -> None:
        """Store the first :data:`KEPT` samples for pictures, if the samples have shape (B, 2)."""
        if x is None or x.ndim != 2 or x.shape[1] != 2:
            return
        path = self.samples_path(settings)
        try:
            path.parent.mkdir(exist_ok=True)
            with replacing(path) as part:
                np.save(part, x[:KEPT].float().numpy())
        except OSError as error:
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # only if it is empty
            raise OSError(f"cannot write {path}: {error.strerror or error}") from error

    def forget(self, settings: Settings) -> None:
        """Remove the stored samples of a run, and the folder if it is empty then."""
        path = self.samples_path(settings)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()

    def kept(self, settings: Settings) -> np.ndarray | None:
        """The stored samples (B, 2) of a run; None if there are none, or their file is damaged."""
        try:
            with self.samples_path(settings).open("rb") as file:
                samples = np.lib.format.read_array(file)
        except (OSError, ValueError):
            return None
        fits = samples.ndim == 2 and samples.shape[1] == 2 and len(samples) and samples.dtype.kind == "f"
        return samples if fits and np.isfinite(samples).all() else None


def _key(row: Result) -> Key:
    return row.section, row.settings, row.versions.get("lanpaint")


def _write(file: FileIO, content: bytes) -> None:
    """Write all bytes to an unbuffered file, which may take them in parts."""
    while content:
        content = content[file.write(content) :]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[FileIO]:
    """The file, opened for reading and appending, while no other process has it open by this function.

    The system gives the lock back when the process ends, however it ends.
    """
    while True:
        with path.open("ab+", buffering=0) as file:
            _lock(file)
            # Whoever had the lock before may have removed the file.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file
                return


def _lock(file: FileIO) -> None:
    """Wait until no other process has locked the file, and lock it until it is closed."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(2**40)  # a byte past the end: a locked byte cannot be read
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(file, fcntl.LOCK_EX)

"""An output folder in which nothing is lost and nothing done twice: its ledger, its claims and its temporary files.

    OUT/…                          the outputs
    OUT/.lanpaint/WORKER.jsonl     what a worker has done, a line for each picture; it is only ever appended to
    OUT/.lanpaint/WORKER.tmp/      outputs that are being written
    OUT/.lanpaint/claims/          what is being painted

An output is written to a temporary file, renamed, and then entered in the ledger. So a process that is killed at any
moment leaves whole outputs, at worst one that is not entered yet: the next run paints it again, to the same bytes. The
ledgers of all workers are merged when they are read, and the later line of an output counts. A line that a kill or a
full disk has cut off does not count.

Claims are locks of the operating system on empty files, so they end with the process that holds them. A folder on a
network file system needs one that supports ``flock`` across its machines.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lanpaint.painting.entries import LEDGER, Entry
from lanpaint.painting.media import write_media
from lanpaint.painting.task import Result

_OF_NAMES = ("File name too long", "Is a directory", "Not a directory")


class Ledger:
    """The ledger, the claims and the temporary files of one worker in an output folder.

    Args:
        out: The output folder. It is made if it is missing.
        identity: What results depend on beside their tasks (:attr:`Painter.identity`).

    Raises:
        OSError: When the folder cannot be written.
        ImportError: On systems without ``fcntl``.
    """

    def __init__(self, out: str | Path, identity: Mapping[str, Any]) -> None:
        self.out, self.home = Path(out), Path(out) / LEDGER
        self._identity = json.dumps(identity, sort_keys=True, default=str)
        self._places: dict[str, tuple[float, str, int, int]] = {}  # of an output's latest line: time, file, start, end
        self._read_up_to: dict[str, int] = {}
        self._hashes: dict[str, tuple[list[int], str]] = {}
        self._claims: dict[str, tuple[int, Path]] = {}
        with _told(self.out):
            (self.home / "claims").mkdir(parents=True, exist_ok=True)
            self._clean()
            self.worker = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"
            self._file = os.open(self.home / f"{self.worker}.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            _lock(self._file)
            self._temporary = self.home / f"{self.worker}.tmp"
            self._temporary.mkdir()
        self._end = 0
        self._number = 0
        self.refresh()

    def close(self) -> None:
        """Let go of all claims, and remove what is temporary. A second call does nothing."""
        if self._file < 0:
            return
        for output in list(self._claims):
            self.release(output)
        shutil.rmtree(self._temporary, ignore_errors=True)
        if not self._end:  # nothing was entered
            (self.home / f"{self.worker}.jsonl").unlink(missing_ok=True)
        os.close(self._file)
        self._file = -1

    def _clean(self) -> None:
        """Remove the temporary files of workers that are gone."""
        for folder in self.home.glob("*.tmp"):
            try:
                handle = os.open(folder.with_suffix(".jsonl"), os.O_RDWR)
            except FileNotFoundError:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            try:
                if _lock(handle):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)

    # What is done

    def refresh(self) -> None:
        """Read what all workers have entered since the last time."""
        for file in sorted(self.home.glob("*.jsonl")):
            start = self._read_up_to.get(file.name, 0)
            try:
                if file.stat().st_size <= start:
                    continue
                with file.open("rb") as stream:
                    stream.seek(start)
                    found = stream.read()
            except FileNotFoundError:
                continue
            for line in found.split(b"\n")[:-1]:  # what follows the last line's end was cut off
                self._place(line, file.name, start)
                start += len(line) + 1
            self._read_up_to[file.name] = start

    def _place(self, line: bytes, file: str, start: int) -> None:
        """Note where a line is. All lines of a million outputs would not fit into memory."""
        try:
            record = json.loads(line)
            output, when = record["output"], record["time"]
        except (ValueError, TypeError, KeyError):  # a line that was cut off
            return
        if output not in self._places or when >= self._places[output][0]:
            self._places[output] = when, file, start, start + len(line)

    def record(self, output: str) -> dict[str, Any] | None:
        """The latest line of an output, or None."""
        if output not in self._places:
            return None
        _, file, start, end = self._places[output]
        with (self.home / file).open("rb") as stream:
            stream.seek(start)
            record: dict[str, Any] = json.loads(stream.read(end - start))
        return record

    def is_done(self, entry: Entry, verify: bool = False) -> bool:
        """Whether an entry is painted, from this picture and mask, with these settings, and its output is there.

        Args:
            entry: The entry.
            verify: Whether the contents of all files are compared. If not, a file is taken to be the one of the ledger
                if it has its size and, for a picture or a mask, its time.
        """
        record = self.record(entry.output)
        if record is None or record.get("error") or record.get("setup") != self.setup(entry):
            return False
        for name, path in (("picture", entry.picture), ("mask", entry.mask)):
            if path is None and record.get(name) is not None:
                return False
            is_same = path is None or (not verify and record.get(f"{name}_at") == _stamp(path))
            if not is_same and record.get(name) != self.hash_of(str(path), fresh=verify):
                return False
        made = self.out / entry.output
        try:
            return made.stat().st_size == record["size"] and (not verify or _hash(made) == record["sha256"])
        except OSError:
            return False

    def setup(self, entry: Entry) -> str:
        """The hash of all that a result depends on beside the picture and the mask."""
        settings = entry.settings.given()
        control = settings.get("control_image")
        if isinstance(control, (str, Path)):
            settings["control_image"] = self.hash_of(str(control))
        whole = [self._identity, entry.prompt, entry.seed, settings]
        return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:32]

    def hash_of(self, path: str, fresh: bool = False) -> str | None:
        """The hash of a file's content; None for a file that cannot be read. Kept for the file that was asked last."""
        stamp = _stamp(path)
        known = self._hashes.get(path)
        if stamp is None:
            return None
        if known is not None and known[0] == stamp and not fresh:
            return known[1]
        try:
            found = _hash(Path(path))
        except OSError:
            return None
        if len(self._hashes) >= 64:
            self._hashes.pop(next(iter(self._hashes)))
        self._hashes[path] = stamp, found
        return found

    # What is being done

    def claim(self, output: str) -> bool:
        """Take an output for this worker. False when another worker has it."""
        if output in self._claims:
            return True
        path = self.home / "claims" / hashlib.sha256(output.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        with _told(self.out):
            while True:
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                if not _lock(handle):
                    os.close(handle)
                    return False
                try:
                    if os.fstat(handle).st_ino == path.stat().st_ino:  # the holder before has not removed it meanwhile
                        break
                except FileNotFoundError:
                    pass
                os.close(handle)
        self._claims[output] = handle, path
        return True

    def release(self, output: str) -> None:
        """Let go of an output."""
        if output in self._claims:
            handle, path = self._claims.pop(output)
            path.unlink(missing_ok=True)
            os.close(handle)

    # What has been done

    def write(self, entry: Entry, result: Result) -> None:
        """Write the output of an entry, and enter it.

        Raises:
            OSError: When it cannot be written: a full disk, for example. The output is then as it was before.
            ValueError: For transparency that its format does not hold.
        """
        path = self.out / entry.output
        self._number += 1
        part = self._temporary / f"{self._number}{path.suffix}"
        try:
            with _told(self.out):
                write_media(part, result.pictures, result)
                sha256, size = _hash(part), part.stat().st_size
                path.parent.mkdir(parents=True, exist_ok=True)
                os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        self._enter(
            entry,
            sha256=sha256,
            size=size,
            seconds=round(result.seconds, 4),
            evaluations=result.evaluations,
            **({"notes": result.notes} if result.notes else {}),
        )

    def fail(self, entry: Entry, reason: str) -> None:
        """Enter why an entry could not be painted."""
        self._enter(entry, error=reason)

    def _enter(self, entry: Entry, **values: Any) -> None:
        inputs: dict[str, Any] = {}
        for name, path in (("picture", entry.picture), ("mask", entry.mask)):
            if path is not None:
                inputs |= {name: self.hash_of(path), f"{name}_at": _stamp(path)}
        record = {
            "output": entry.output, **inputs, "setup": self.setup(entry), "seed": entry.seed, **values,
            "time": time.time(),
        }  # fmt: skip
        line = json.dumps(record).encode() + b"\n"
        with _told(self.out):
            try:
                written = os.write(self._file, line)
                if written < len(line):  # the disk is full: the next write tells it
                    written += os.write(self._file, line[written:])
                if written < len(line):
                    raise OSError(28, "No space left on device")
            except OSError:
                os.ftruncate(self._file, self._end)
                raise
        self._place(line, f"{self.worker}.jsonl", self._end)
        self._end += len(line)
        self._read_up_to[f"{self.worker}.jsonl"] = self._end


class _told:  # noqa: N801
    """Errors of writing as one line that says that the run may be given again."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        cause = error if isinstance(error, OSError) else getattr(error, "__cause__", None)
        if not isinstance(cause, OSError):
            return
        why = cause.strerror or str(cause)
        if isinstance(cause.__cause__, OSError) and cause.__cause__.strerror:
            why = cause.__cause__.strerror
        if why in _OF_NAMES:  # of this output alone
            raise ValueError(f"cannot write to {self.out}: {why}") from error
        raise OSError(
            f"cannot write to {self.out}: {why}; what is done is kept, and the same command goes on"
        ) from error


def _lock(handle: int) -> bool:
    """Lock an open file for this process, if no other has it."""
    try:
        import fcntl
    except ImportError as error:
        raise ImportError("painting a folder needs locks of files as Linux and macOS have them (fcntl)") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _stamp(path: str) -> list[int] | None:
    """Size and time of a file, by which it is taken to be the same."""
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return [found.st_size, found.st_mtime_ns]
    return None

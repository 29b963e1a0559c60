"""What becomes of a bad input, and which of it is a fault.

An input may be refused or be used. It is refused well by one line that says what was given, what was expected and what
to do. It is used well if the result is what the input says. All else is a fault of one of four kinds.
"""

import dis
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

TRACEBACK, SILENT, LOST, MISLEADING = "tracebacks", "silent wrong results", "files lost", "misleading"
FAULTS = (TRACEBACK, SILENT, LOST, MISLEADING)

# What no message to a user has: Python's and PyTorch's own words for what went wrong inside.
_INSIDE = re.compile(
    r"(?<!got )(?<!returned )NoneType(?! is no | has no )|(?<!got )<class '|<built-in|not subscriptable|"
    r"has no attribute|Traceback|unsupported operand|"
    r"expected scalar type|size of tensor|shape '\[|cannot reshape|index out of range|list index|not iterable|"
    r"must match the size|not supported between|unexpected EOF|Errno|object is not|can't multiply|unhashable type|"
    r"takes \d+ positional|required positional|keyword argument|must be real number|cannot unpack|not enough values|"
    r"cannot be interpreted|\bat::|Dataset|CUDA_|c10"
)
_LONGEST = 500


@dataclass
class Counts:
    """How the inputs of one door fared.

    Attributes:
        door: The door: command line, or Python.
        inputs: Number of inputs.
        refused: How many of them were refused.
        faults: Kind of fault → (input, what happened).
    """

    door: str
    inputs: int = 0
    refused: int = 0
    groups: Counter = field(default_factory=Counter)
    faults: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: {kind: [] for kind in FAULTS})

    def fault(self, kind: str, name: str, what: str) -> None:
        self.faults[kind].append((name, " ".join(what.split())[:600]))

    def line(self) -> str:
        """A line of the table: inputs, refused, and the four counts."""
        kinds = "".join(f"{len(self.faults[kind]):>22}" for kind in FAULTS)
        return f"{self.door:<14}{self.inputs:>8}{self.refused:>9}{kinds}"


def head() -> str:
    """The head of the table that :meth:`Counts.line` fills."""
    return f"{'door':<14}{'inputs':>8}{'refused':>9}" + "".join(f"{kind:>22}" for kind in FAULTS)


def complaint(message: str, about: tuple[str, ...]) -> str | None:
    """What is wrong with an error's text: None if it says what it is about, in one line, in the user's words."""
    if not message.strip():
        return "says nothing"
    if len(message.strip().splitlines()) > 1:
        return f"more than one line: {message}"
    if len(message) > _LONGEST:
        return f"{len(message)} characters: {message}"
    if found := _INSIDE.search(message):
        return f"speaks of {found.group()!r}: {message}"
    if about and not any(word.lower() in message.lower() for word in about):
        return f"says nothing of {' or '.join(about)}: {message}"
    return None


def raised_on_purpose(error: BaseException, root: Path) -> bool:
    """Whether an error comes from a ``raise`` in the library's own code, and not from an operation that failed."""
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    ours = any(str(root / part) in code.co_filename for part in ("lanpaint", "toy_models"))
    inside = ours or "/diffusers/" in code.co_filename  # a pipeline tells what it does not take
    return inside and code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def snapshot(folder: Path) -> dict[str, str]:
    """Name → what is there, for everything in a folder and below: of a file its inode, size and time of change."""
    found: dict[str, str] = {}
    for base, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(base, name)
            key = str(path.relative_to(folder))
            if path.is_symlink():
                found[key] = f"link to {os.readlink(path)}"
            elif path.is_dir():
                found[key] = "folder"
            else:
                status = path.lstat()
                found[key] = f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"
    return found


def changes(before: dict[str, str], after: dict[str, str], allowed: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Files that are lost or changed, and files that are new, without those that a run was allowed to write."""

    def is_allowed(name: str) -> bool:
        return any(name == other or name.startswith(f"{other}/") for other in allowed)

    lost = [name for name, what in before.items() if after.get(name) != what and not is_allowed(name)]
    new = [name for name in after if name not in before and not is_allowed(name)]
    return lost, new

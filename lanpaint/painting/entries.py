"""What a folder or a manifest asks for: an entry for each picture, and entries in batches.

Which pictures share a batch follows from the list of entries alone, not from what is done already. So a run that is
started again paints a picture in the batch in which the first run painted it, and gets the same bytes.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lanpaint.checks import as_path, check_whole, shown
from lanpaint.images import FORMATS
from lanpaint.painting.media import FILMS, VIDEO_OUTPUTS
from lanpaint.painting.task import Settings, Task

_PICTURES = (*FORMATS, ".heic", ".heif", ".avif", ".gif")
_COLUMNS = ("picture", "mask", "prompt", "seed", "settings", "output")
MANIFESTS = (".csv", ".jsonl")
LEDGER = ".lanpaint"
"""The subfolder of an output folder that has the ledger."""
_WINDOW = 16  # batches among whose pictures those of one size are looked for


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture of a folder, and where its result goes.

    Attributes:
        output: Path of the result in the output folder, with ``/``.
        picture: Path of the picture.
        mask: Path of the mask; None for the transparency of the picture.
        prompt: The prompt.
        seed: The seed.
        settings: The settings, shared among entries.
        problem: Why it cannot be painted; empty where it can.
    """

    output: str
    picture: str
    mask: str | None
    prompt: str | None
    seed: int
    settings: Settings
    problem: str = ""

    @property
    def task(self) -> Task:
        """The task of this entry."""
        return Task(self.picture, self.mask, self.prompt, self.seed, self.settings)

    def to_json(self) -> str:
        """The entry as one line of JSON: its task, and the output."""
        return json.dumps({"output": self.output, "problem": self.problem, "task": self.task.to_json()})

    @classmethod
    def from_json(cls, line: str) -> Entry:
        """The entry of a line that :meth:`to_json` has made."""
        found = json.loads(line)
        task = Task.from_json(found["task"])
        parts = (task.picture, task.mask, task.prompt, task.seed, task.checked)
        return cls(found["output"], *parts, found["problem"])


def seed_of(seed: int, output: str) -> int:
    """The seed of a picture: of the seed of the run and the name of its output, so that no other picture matters."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{output}".encode("utf-8", "surrogateescape")).digest()[:4], "big")


def list_entries(
    pictures: str | Path,
    masks: str | Path | None = None,
    *,
    prompt: str | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | Settings | None = None,
    ending: str = ".png",
    films: bool = False,
    leave_out: Sequence[Path] = (),
) -> list[Entry]:
    """The entries of a folder or a manifest, in the order of their outputs or rows.

    Args:
        pictures: A folder, searched with its subfolders, except for links and for output folders of earlier runs; or a
            manifest, ``.csv`` or ``.jsonl``, with a picture in each row. A row has ``picture``, and may have ``mask``,
            ``prompt``, ``seed``, ``settings`` (a JSON object) and ``output``. Its paths are relative to the manifest.
        masks: One file for all; a folder with a mask per picture, of the same name with any ending; or None for the
            pictures' transparency. A manifest's rows may name others.
        prompt: The prompt, where a row has none.
        seed: Seed of the run. A picture's own seed follows from it and the name of its output; a row may have its own.
        settings: The settings, to which those of a row are added.
        ending: Ending of the outputs.
        films: Whether films are pictures too, for models of videos.
        leave_out: Folders that are not searched: that of the outputs.

    Raises:
        ValueError: For a folder without pictures, a manifest that is not understood, two pictures with one output, and
            whatever a :class:`~lanpaint.Task` refuses.
    """
    pictures, masks = as_path("pictures", pictures), None if masks is None else as_path("masks", masks)
    check_whole("seed", seed, least=0, most=2**32 - 1)
    if masks is not None and not masks.exists():
        raise ValueError(f"the masks {masks} do not exist; give a file for all, or a folder with one for each picture")
    endings = tuple(VIDEO_OUTPUTS) if films else tuple(FORMATS)
    if ending not in endings:
        raise ValueError(f"the ending of outputs must be one of {', '.join(endings)}, got {ending!r}")
    base = settings if isinstance(settings, Settings) else Settings.of(settings or {})
    mask_of = _mask_finder(masks)
    if pictures.suffix.lower() in MANIFESTS and pictures.is_file():
        found = list(_rows(pictures, mask_of, prompt, seed, base, ending))
    elif pictures.is_dir():
        away = {path.resolve() for path in leave_out}
        if masks is not None:
            away |= {masks.resolve(), masks.parent.resolve() / masks.name}
        if masks is not None and masks.is_dir() and masks.resolve() == pictures.resolve():
            raise ValueError(f"the masks are the folder of pictures, {pictures}; name another, or none")
        names = _pictures_in(pictures, (*_PICTURES, *(FILMS if films else ())), away)
        outputs = [str(PurePosixPath(name).with_suffix(ending)) for name in names]
        found = []
        for name, output in zip(names, outputs, strict=True):
            mask, problem = mask_of(name)
            own = seed_of(seed, output)
            found.append(Entry(output, str(pictures / name), mask, prompt, own, base, problem))
    else:
        raise ValueError(f"{pictures} is neither a folder nor a manifest ({' or '.join(MANIFESTS)})")
    if not found:
        none = f"no pictures ({', '.join(_PICTURES)}); those of earlier runs are left out"
        raise ValueError(f"{pictures} has {none if pictures.is_dir() else 'no rows'}")
    first: dict[str, Entry] = {}
    for entry in found:
        other = first.setdefault(entry.output.casefold(), entry)
        if other is not entry:
            raise ValueError(
                f"{other.picture} and {entry.picture} would both be written to {entry.output}; rename one, or give a "
                "manifest with outputs"
            )
    return found


def _pictures_in(folder: Path, endings: tuple[str, ...], away: set[Path]) -> list[str]:
    names = []
    for where, folders, files in os.walk(folder):
        paths = {one: Path(where) / one for one in folders if one[0] != "."}
        folders[:] = [one for one, path in paths.items() if path.resolve() not in away and not (path / LEDGER).is_dir()]
        within = Path(where).relative_to(folder)
        here = {path.name for path in away if path.parent == Path(where).resolve()}  # the mask for all, for example
        names += [
            (within / name).as_posix()
            for name in files
            if name[0] != "." and Path(name).suffix.lower() in endings and name not in here
        ]
    return sorted(names)


def check_apart(entries: Sequence[Entry], out: Path) -> None:
    """Raise ValueError if an output would be written over a picture, a mask or the picture of a ControlNet."""
    real = functools.lru_cache(1024)(os.path.realpath)

    def place(path: str) -> tuple[str, str]:
        folder, name = os.path.split(path)
        return str(real(folder)), name

    def inputs() -> Iterator[str]:
        for entry in entries:
            for path in (entry.picture, entry.mask, entry.settings.control_image):
                if isinstance(path, (str, os.PathLike)):
                    yield str(path)

    folders = {place(os.path.join(out, entry.output))[0] for entry in entries}
    given = {where for where in map(place, inputs()) if where[0] in folders}  # nearly always none
    if not given:
        return
    for entry in entries:
        path = os.path.join(out, entry.output)
        if place(path) in given:
            raise ValueError(f"the output {path} is a picture or a mask of this run; name another output folder")


def _mask_finder(masks: Path | None) -> Any:
    """A function of a picture's relative name: the path of its mask, or None, and what is wrong."""
    if masks is None or not masks.is_dir():
        return lambda name: (None if masks is None else str(masks), "")
    found: dict[str, list[str]] = {}
    for name in _pictures_in(masks, (*_PICTURES, *FILMS), set()):
        found.setdefault(str(PurePosixPath(name).with_suffix("")), []).append(name)

    def mask_of(name: str) -> tuple[str | None, str]:
        fitting = found.get(str(PurePosixPath(name).with_suffix("")), [])
        if len(fitting) == 1:
            return str(masks / fitting[0]), ""
        if not fitting:
            return None, f"{masks} has no mask for {name}"
        return None, f"{masks} has {len(fitting)} masks for {name}: {', '.join(fitting)}"

    return mask_of


def _rows(manifest: Path, mask_of: Any, prompt: str | None, seed: int, base: Settings, ending: str) -> Iterator[Entry]:
    cache: dict[str, Settings] = {}
    for number, row in read_manifest(manifest):
        where = f"row {number} of {manifest}"
        unknown = set(row) - set(_COLUMNS)
        if unknown or not isinstance(row.get("picture"), str):
            raise ValueError(f"{where} has picture, and may have {', '.join(_COLUMNS[1:])}; got {', '.join(row)}")
        try:
            for name in ("picture", "mask", "output"):
                _check_name(name, row.get(name))
            given = row.get("settings") or {}
            given = _object(given) if isinstance(given, str) else given
            key = json.dumps(given, sort_keys=True)
            if key not in cache:
                cache[key] = base.updated(given)
            own = row.get("seed")
            own = int(own) if isinstance(own, str) and own.strip().isdecimal() else own
            output = row.get("output") or _inside(row["picture"], ending)
            path = PurePosixPath(output)
            is_inside = not path.is_absolute() and ".." not in path.parts and path.parts[:1] != (LEDGER,)
            if not is_inside or path.suffix.lower() not in (*FORMATS, *VIDEO_OUTPUTS):
                raise ValueError(f"output must be a relative path that ends in {ending}, got {output!r}")
            mask, problem = mask_of(row["picture"])
            if row.get("mask"):
                mask, problem = str(manifest.parent / row["mask"]), ""
            entry = Entry(
                str(path), str(manifest.parent / row["picture"]), mask, row.get("prompt") or prompt,
                seed_of(seed, str(path)) if own is None else own, cache[key], problem,
            )  # fmt: skip
            _ = entry.task
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from error
        yield entry


def _check_name(name: str, value: Any) -> None:
    try:
        good = value is None or (isinstance(value, str) and b"\0" not in os.fsencode(value))
    except UnicodeEncodeError:
        good = False
    if not good:
        raise ValueError(f"{name} must be the path of a file, got {shown(value)}")


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"settings must be a JSON object ({error}), got {shown(text)}") from error


def _inside(picture: str, ending: str) -> str:
    path = PurePosixPath(picture)
    path = PurePosixPath(path.name) if path.is_absolute() or ".." in path.parts else path
    return str(path.with_suffix(ending))


def read_manifest(manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (number, column → value) of every row of a ``.csv`` or ``.jsonl``. Empty cells are left out.

    Raises:
        ValueError: When the file cannot be read, or a row is not one.
    """
    try:
        text = manifest.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {manifest}: {error}") from error
    if manifest.suffix.lower() == ".csv":
        rows = csv.DictReader(io.StringIO(text, newline=""), restkey="…")
        try:
            for row in rows:
                yield rows.line_num, {name: value for name, value in row.items() if value not in (None, "")}
        except csv.Error as error:
            raise ValueError(f"row {rows.line_num} of {manifest} is no CSV: {error}") from error
        return
    for number, line in enumerate(text.split("\n"), 1):  # a text may have other ends of lines in it
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"row {number} of {manifest} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"row {number} of {manifest} must be a JSON object, got {line[:40]!r}")
            yield number, row


def batches(entries: Sequence[Entry], most: int, shard: tuple[int, int] = (1, 1)) -> Iterator[tuple[Entry, ...]]:
    """The entries in batches of one size and one object of settings, at most so many in a batch.

    Pictures of one size are looked for among ``16 × most`` entries that follow each other, so that a list of any length
    starts at once. Sizes are read from the files' heads.

    Args:
        entries: The entries.
        most: Entries in a batch.
        shard: (i, n): only every n-th batch, from the i-th on, i from 1.
    """
    number = 0
    for start in range(0, len(entries), _WINDOW * most):
        groups: dict[Any, list[Entry]] = {}
        for entry in entries[start : start + _WINDOW * most]:
            groups.setdefault((_size(entry.picture) if most > 1 else None, id(entry.settings)), []).append(entry)
        for group in groups.values():
            for first in range(0, len(group), most):
                if number % shard[1] == shard[0] - 1:
                    yield tuple(group[first : first + most])
                number += 1


def _size(picture: str) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with Image.open(picture) as image:
            return image.size
    except Exception:  # whatever is wrong is told when it is painted
        return None

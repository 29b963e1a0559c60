"""Files of sequences: CSV and NPY. What is known comes back as it was, in a CSV character for character.

A row is a step in time and a column a channel. In a CSV an empty cell and ``nan`` are missing. A first row with a text
in it is the header. Columns that are no channels, such as times and labels, are kept.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lanpaint.checks import as_path
from lanpaint.images import replacing

ENDINGS = (".csv", ".npy")
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Table:
    """A file of sequences.

    Attributes:
        path: The file.
        values: (T, C), or of an NPY file also (N, T, C) or (T,); floating point, NaN where missing.
        names: Names of the channels, of a CSV with a header.
        cells: Rows of cells of a CSV, the header included; empty for an NPY file.
        columns: Numbers of the columns of ``cells`` that are channels.
        delimiter: What stands between cells.
        line_end: What stands behind a row.
    """

    path: Path
    values: np.ndarray
    names: tuple[str, ...] = ()
    cells: list[list[str]] = field(default_factory=list)
    columns: tuple[int, ...] = ()
    delimiter: str = ","
    line_end: str = "\n"

    def write(self, path: str | Path, values: np.ndarray, known: np.ndarray, names: Sequence[str] = ()) -> None:
        """Write this table with completed values, as CSV or NPY.

        Args:
            path: A file that ends in ``.csv`` or ``.npy``. Its folder is made if it is missing.
            values: The completed values, shape of ``self.values``.
            known: Boolean, shape of ``values``: cells of a CSV that are not written anew.
            names: Header of a CSV that is made of an NPY file.

        Raises:
            ValueError: For another ending, and for many sequences in one CSV.
            OSError: When the file cannot be written.
        """
        path = check_table_output(path)
        if path.suffix.lower() == ".npy":
            with replacing(path) as part, part.open("wb") as file:
                np.save(file, values, allow_pickle=False)
            return
        if values.ndim > 2:
            raise ValueError(f"{path}: a CSV holds one sequence, and there are {len(values)}; write an .npy file")
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.delimiter, lineterminator=self.line_end)
        writer.writerows(self._filled(values.reshape(len(values), -1), known, names))
        with replacing(path) as part:
            part.write_bytes(text.getvalue().encode("utf-8"))

    def _filled(self, values: np.ndarray, known: np.ndarray, names: Sequence[str]) -> list[list[str]]:
        if not self.cells:  # the shortest text that reads as the same number
            return [[*names], *([str(value) for value in row] for row in values)]
        rows = [[*row] for row in self.cells]
        body = rows[len(rows) - len(values) :]
        for step, column in zip(*np.nonzero(~known), strict=True):
            body[step][self.columns[column]] = f"{values[step, column]:.6g}"
        return rows


def check_table_output(path: str | Path) -> Path:
    """The path of a file to write. Raises ValueError unless it ends in ``.csv`` or ``.npy`` and can be written."""
    path = as_path("the output", path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"the output must end in {' or '.join(ENDINGS)}, got {path}")
    if path.is_dir():
        raise ValueError(f"the output {path} is a folder; name a file")
    return path


def read_table(path: str | Path, columns: Sequence[str] | None = None, expected: Sequence[str] = ()) -> Table:
    """The sequences in a CSV or NPY file.

    Args:
        path: The file.
        columns: Names of the columns of a CSV that are the channels, in the channels' order. By default those named as
            ``expected``, if all of them are there, and else all columns.
        expected: The model's names of the channels.

    Raises:
        ValueError: When the file is missing or empty, is neither CSV nor NPY, has rows of different lengths, a text
            where a number should be, or no column of a given name.
    """
    path = as_path("the data", path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"the data must be a .csv or .npy file, or .bvh for a skeleton, got {path}")
    if not path.is_file():
        raise ValueError(f"{path} is {'a folder, not a file' if path.is_dir() else 'not there'}")
    if path.suffix.lower() == ".csv":
        return _read_csv(path, columns, expected)
    if columns is not None:
        raise ValueError(f"columns have names in a CSV, and {path} is an NPY file; leave --columns out")
    try:
        with path.open("rb") as file:
            values = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        what = "it holds Python objects" if "pickle" in str(error) else str(error).splitlines()[0]
        raise ValueError(f"cannot read {path} as an array of NumPy: {what}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        kind = getattr(values, "dtype", "several arrays")
        raise ValueError(f"{path} must hold one array of real numbers, got {kind}")
    return Table(path, values if values.dtype.kind == "f" else values.astype(np.float64))


def _read_csv(path: Path, columns: Sequence[str] | None, expected: Sequence[str]) -> Table:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8") from error
    first = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    try:
        cells = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file: {error}") from error
    if not cells:
        raise ValueError(f"{path} is empty")
    for number, row in enumerate(cells, 1):
        if len(row) != len(cells[0]):
            raise ValueError(f"{path} has {len(cells[0])} cells in its first row and {len(row)} in row {number}")
    header = any(_number(cell) is None for cell in cells[0])
    names = [cell.strip() for cell in cells[0]] if header else []
    chosen = _chosen(path, names, columns, expected, len(cells[0]))
    body = cells[header:]
    if not body:
        raise ValueError(f"{path} has a header and no rows")
    values = np.empty((len(body), len(chosen)))
    for step, row in enumerate(body):
        for place, column in enumerate(chosen):
            number_or_none = _number(row[column])
            if number_or_none is None:
                where = f"row {step + 1 + header}, column {names[column] if header else column + 1}"
                raise ValueError(
                    f"{path} has {row[column][:40]!r} in {where}, expected a number, or nothing where it is missing; "
                    "name the columns that are channels with --columns"
                )
            values[step, place] = number_or_none
    line_end = "\r\n" if first.endswith("\r") else "\n"
    return Table(path, values, tuple(names[c] for c in chosen) if header else (), cells, chosen, delimiter, line_end)


def _chosen(
    path: Path, names: list[str], columns: Sequence[str] | None, expected: Sequence[str], count: int
) -> tuple[int, ...]:
    wanted = columns if columns is not None else expected if expected and set(expected) <= set(names) else None
    if wanted is None:
        return tuple(range(count))
    if not names:
        raise ValueError(f"{path} has no header, so its columns have no names; leave --columns out")
    for name in wanted:
        if names.count(name) != 1:
            what = "no column" if name not in names else "more than one column"
            raise ValueError(f"{path} has {what} {name!r}; it has {', '.join(names)}")
    return tuple(names.index(name) for name in wanted)


def _number(cell: str) -> float | None:
    """The number in a cell, NaN in an empty one, None for a text."""
    if not cell.strip():
        return math.nan
    try:
        return float(cell)
    except ValueError:
        return None

"""A folder of pictures, painted by any number of workers that share one output folder.

:func:`paint_folder` is one worker. To have several, start it several times: in other processes, on other machines that
share the folder, by Lightning (:mod:`lanpaint.painting.lightning`) or by Ray (:mod:`lanpaint.painting.ray`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lanpaint.checks import as_path, check_whole
from lanpaint.painting.entries import Entry, batches, check_apart, list_entries
from lanpaint.painting.ledger import Ledger
from lanpaint.painting.painter import Painter, is_out_of_memory, open_painter
from lanpaint.painting.task import Result, Settings

_SHOWN = 10  # failures that a summary keeps; all are in the ledger
_WAIT = 0.2  # seconds between two looks at what other workers hold


@dataclass
class Summary:
    """What a worker has done in a folder.

    Attributes:
        painted: Pictures that this worker painted.
        kept: Pictures that were there already, or that another worker painted meanwhile.
        failed: Pictures that could not be painted.
        reasons: Output → why it failed, of the first ten.
        evaluations: Evaluations of the model, summed over the pictures that this worker painted.
        seconds: Time of the run.
    """

    painted: int = 0
    kept: int = 0
    failed: int = 0
    reasons: dict[str, str] = field(default_factory=dict)
    evaluations: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        rate = f", {self.painted / self.seconds:.2f} a second" if self.painted and self.seconds else ""
        return f"{self.painted:,} painted, {self.kept:,} there already, {self.failed:,} failed{rate}"


class Worker:
    """A painter at work in an output folder. A context manager: at its end all claims are let go of.

    Args:
        painter: The painter.
        out: The output folder.
        verify: Whether what is there already is compared by content.
    """

    def __init__(self, painter: Painter, out: str | Path, verify: bool = False) -> None:
        self.painter, self.verify = painter, verify
        self.ledger = Ledger(out, painter.identity)
        self.summary, self._start = Summary(), time.time()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.summary.seconds = time.time() - self._start
        self.ledger.close()

    def is_settled(self, entry: Entry) -> bool:
        """Whether nothing is left to do for an entry, by what the ledger says."""
        record = self.ledger.record(entry.output)
        if record is not None and record.get("error") and record["time"] >= self._start:  # of another worker, just now
            return record["setup"] == self.ledger.setup(entry)
        return self.ledger.is_done(entry, self.verify and (record is None or record["time"] < self._start))

    def claim(self, batch: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
        """The entries of a batch that this worker is to paint, and those that another worker has now."""
        open_ones = self._unsettled(batch)
        held = [entry for entry in open_ones if not self.ledger.claim(entry.output)]
        away = {entry.output for entry in held}
        self.ledger.refresh()  # another worker may have finished one before it was claimed
        return self._unsettled([entry for entry in open_ones if entry.output not in away]), held

    def _unsettled(self, batch: Sequence[Entry]) -> list[Entry]:
        settled = [self.is_settled(entry) for entry in batch]
        for entry, done in zip(batch, settled, strict=True):
            if done:
                self.ledger.release(entry.output)
                self._count_settled(entry)
        return [entry for entry, done in zip(batch, settled, strict=True) if not done]

    def _count_settled(self, entry: Entry) -> None:
        record = self.ledger.record(entry.output) or {}
        if record.get("error"):
            self._count_failed(entry, record["error"])
        else:
            self.summary.kept += 1

    def _count_failed(self, entry: Entry, reason: str) -> None:
        self.summary.failed += 1
        if len(self.summary.reasons) < _SHOWN:
            self.summary.reasons[entry.output] = reason

    def paint(self, batch: Sequence[Entry]) -> list[tuple[Entry, Result | str]]:
        """Each entry of a batch with its result, or with the reason why it has none."""
        fine = [entry for entry in batch if not entry.problem]
        outcomes = iter(self.painter.attempt_many([entry.task for entry in fine]))
        made: list[tuple[Entry, Result | str]] = []
        for entry in batch:
            outcome: Any = entry.problem or next(outcomes)
            made.append((entry, _reason(outcome) if isinstance(outcome, Exception) else outcome))
        return made

    def keep(self, entry: Entry, outcome: Result | str) -> None:
        """Write what was painted, or enter why it was not, and let go of the entry.

        Raises:
            OSError: When the folder cannot be written.
        """
        try:
            if isinstance(outcome, Result):
                try:
                    self.ledger.write(entry, outcome)
                except ValueError as error:  # of this output alone
                    outcome = _reason(error)
                else:
                    self.summary.painted += 1
                    self.summary.evaluations += outcome.evaluations
            if isinstance(outcome, str):
                self.ledger.fail(entry, outcome)
                self._count_failed(entry, outcome)
        finally:
            self.ledger.release(entry.output)


def paint_folder(
    pictures: str | Path,
    masks: str | Path | None,
    out: str | Path,
    model: Any = "digits",
    *,
    prompt: str | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | Settings | None = None,
    batch: int | None = None,
    shard: tuple[int, int] = (1, 1),
    verify: bool = False,
    ending: str = ".png",
    progress: bool = False,
    device: str | torch.device | None = None,
) -> Summary:
    """Paint a folder of pictures, or the rows of a manifest. Given again, it does what is missing or has changed.

    Nothing is lost and nothing done twice, whatever is killed and however many workers share the output folder. A
    result depends on its picture, its mask, its seed and its settings, and not on what else there is.

    Args:
        pictures: A folder, searched with its subfolders; or a manifest (``.csv``, ``.jsonl``), a row per picture with
            ``picture``, and where wanted ``mask``, ``prompt``, ``seed``, ``settings``, ``output``.
        masks: One file for all, a folder with a mask per picture, or None for the pictures' transparency.
        out: The output folder. Its subfolder ``.lanpaint`` has the ledger.
        model: As in :func:`open_painter`; a painter, or a ``functools.partial`` of what opens one.
        prompt: What to paint; only for pipelines.
        seed: Seed of the run, from which each picture's own seed follows by the name of its output.
        settings: As in :class:`Task`.
        batch: Pictures of one size that are painted at a time: by default 16 by a pixel model and 1 by a pipeline, for
            each needs its memory. A batch for which memory does not suffice is halved.
        shard: (i, n): paint the i-th of n parts, i from 1, for schedulers that start n runs.
        verify: Compare what is there by content, not only by size and time, and paint anew what differs.
        ending: Ending of the outputs, ``.png`` for example.
        progress: Whether to show a bar on stderr, with the rate and the time left.
        device: As in :func:`open_painter`.

    Returns:
        The :class:`Summary`. A picture that failed is in it, and in the ledger, with the reason; it does not end the
        run, and is tried again by the next one.

    Raises:
        ValueError: For folders, manifests, masks and settings that are not understood.
        OSError: When the output folder cannot be written, as on a full disk. What is done is kept.
        ImportError: On systems without ``fcntl``.
    """
    out = as_path("an output folder", out)
    if batch is not None:
        check_whole("batch", batch, least=1)
    _check_shard(shard)
    _check_folders(pictures, out)
    listed: dict[str, Any] = {
        "prompt": prompt,
        "seed": seed,
        "settings": settings,
        "ending": ending,
        "leave_out": [out],
    }
    entries = list_entries(pictures, masks, **listed)  # what is wrong is told before a large model is loaded
    check_apart(entries, out)
    painter = model(most=batch) if isinstance(model, partial) else open_painter(model, device=device, most=batch)
    if painter.is_video:
        entries = list_entries(pictures, masks, films=True, **listed)
        check_apart(entries, out)
    for one in {id(entry.settings): entry for entry in entries}.values():
        painter.check(one.task)
    bar: Any = None
    with Worker(painter, out, verify) as worker:
        try:
            if progress and sys.stderr is not None:
                from tqdm import tqdm

                bar = tqdm(total=-(-len(entries) // shard[1]), unit=" pictures", desc=out.name, smoothing=0.05)
            left: list[tuple[tuple[Entry, ...], list[Entry]]] = []
            for part in batches(entries, min(batch or painter.usual, painter.most), shard):
                left += _turn(worker, part, part, bar)
            while left:  # other workers have these: see that they come to an end
                time.sleep(_WAIT)
                left = [rest for part, held in left for rest in _turn(worker, part, held, bar)]
        finally:
            if bar is not None:
                bar.close()
    return worker.summary


def _turn(
    worker: Worker, batch: tuple[Entry, ...], wanted: Sequence[Entry], bar: Any
) -> list[tuple[tuple[Entry, ...], list[Entry]]]:
    """Paint a batch for the entries of it that are wanted; the batch again, with the entries that others have."""
    mine, held = worker.claim(wanted)
    needed = {entry.output for entry in mine}
    if needed:  # the whole batch, so that the bytes are those of a run that was not disturbed
        for entry, outcome in worker.paint(batch):
            if entry.output in needed:
                worker.keep(entry, outcome)
    if bar is not None:
        bar.update(len(wanted) - len(held))
    return [(batch, held)] if held else []


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if is_out_of_memory(error):
        return f"there is not enough memory ({text[-120:]})"
    if isinstance(error, (ValueError, ImportError, OSError, FloatingPointError)):
        return text[:500]
    return f"{type(error).__name__}: {text[:300]}"


def _check_shard(shard: tuple[int, int]) -> None:
    good = isinstance(shard, Sequence) and len(shard) == 2 and all(type(part) is int for part in shard)
    if not good or not 1 <= shard[0] <= shard[1]:
        raise ValueError(f"shard must be (i, n), the i-th of n parts with i from 1 to n, got {shard!r}")


def _check_folders(pictures: str | Path, out: Path) -> None:
    given = as_path("pictures", pictures)
    if out.exists() and not out.is_dir():
        raise ValueError(f"the output {out} is a file; a folder of pictures is painted into a folder")
    if given.is_dir() and out.resolve() == given.resolve():
        raise ValueError(f"the output folder is the folder of pictures, {given}; name another")

"""A folder painted by Ray Data, for clusters that run Ray. Each actor is a worker of the shared output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lanpaint.painting.entries import Entry, batches, check_apart, list_entries
from lanpaint.painting.folder import Summary, Worker
from lanpaint.painting.painter import open_painter


class PaintingActor:
    """A class for ``Dataset.map_batches``: one painter in each actor.

    Args:
        model: As in :func:`lanpaint.open_painter`.
        out: The output folder, which all actors share.
        most: As in :func:`lanpaint.open_painter`.
    """

    def __init__(self, model: str, out: str, most: int | None = None) -> None:
        self.worker = Worker(open_painter(model, most=most), out)

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[Any]]:
        """Paint the batches of entries in column ``entries``; a row for each entry that this actor has settled."""
        made: dict[str, list[Any]] = {"output": [], "error": [], "evaluations": []}
        for lines in rows["entries"]:
            batch = [Entry.from_json(line) for line in lines.splitlines()]
            mine, _ = self.worker.claim(batch)
            needed = {entry.output for entry in mine}
            for entry, outcome in self.worker.paint(batch) if needed else ():
                if entry.output in needed:
                    self.worker.keep(entry, outcome)
                    made["output"].append(entry.output)
                    made["error"].append(outcome if isinstance(outcome, str) else "")
                    made["evaluations"].append(0 if isinstance(outcome, str) else outcome.evaluations)
        return made


def paint_by_ray(
    pictures: str | Path,
    masks: str | Path | None,
    out: str | Path,
    model: str = "digits",
    *,
    workers: int = 1,
    batch: int | None = None,
    gpus: float = 0.0,
    **listed: Any,
) -> Summary:
    """Paint a folder as :func:`lanpaint.paint_folder`, on the actors of a Ray cluster.

    Args:
        pictures: As there; all nodes read them under this path.
        masks: As there.
        out: The output folder, which all nodes share.
        model: As there, by name.
        workers: Actors.
        batch: As there.
        gpus: GPUs of each actor.
        **listed: ``prompt``, ``seed`` and ``settings``, as there.

    Returns:
        The summary of all actors, without ``seconds``.

    Raises:
        ImportError: Without Ray Data.
        ValueError, OSError: As :func:`lanpaint.paint_folder`.
    """
    try:
        import ray.data
    except ImportError as error:
        raise ImportError(f"this needs Ray Data ({error}): pip install 'lanpaint[ray]'") from error
    pictures, out = Path(pictures).absolute(), Path(out).absolute()
    masks = None if masks is None else Path(masks).absolute()
    entries = list_entries(pictures, masks, leave_out=[out], **listed)
    check_apart(entries, out)
    whole = [{"entries": "\n".join(entry.to_json() for entry in part)} for part in batches(entries, batch or 16)]
    made = ray.data.from_items(whole, override_num_blocks=min(len(whole), 8 * workers)).map_batches(
        PaintingActor, fn_constructor_args=(model, str(out), batch), concurrency=workers, batch_size=1, num_gpus=gpus
    )
    summary, settled = Summary(), 0
    for row in made.iter_rows():
        settled += 1
        if row["error"]:
            summary.failed += 1
            summary.reasons.setdefault(row["output"], row["error"])
        else:
            summary.painted += 1
            summary.evaluations += row["evaluations"]
    summary.kept = len(entries) - settled
    return summary

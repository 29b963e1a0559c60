"""``lanpaint inpaint`` with a folder or a manifest."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path

import typer

from lanpaint.painting import Painter, Settings, paint_folder


def inpaint_folder(
    pictures: Path,
    masks: Path | None,
    out: Path,
    opened: partial[Painter],
    prompt: str | None,
    seed: int,
    settings: Settings,
    batch: int | None,
    shard: str | None,
    verify: bool,
    quiet: bool,
) -> None:
    """Paint a folder, print the summary, and exit with status 1 if a picture failed."""
    summary = paint_folder(
        pictures, masks, out, opened, prompt=prompt, seed=seed, settings=settings, batch=batch, shard=_parsed(shard),
        verify=verify, progress=not quiet,
    )  # fmt: skip
    print(f"{out}: {summary}")
    for output, reason in summary.reasons.items():
        print(f"{output}: {reason}", file=sys.stderr)
    if summary.failed > len(summary.reasons):
        print(f"… and {summary.failed - len(summary.reasons):,} more, in {out}/.lanpaint/", file=sys.stderr)
    if summary.failed:
        raise typer.Exit(1)


def _parsed(shard: str | None) -> tuple[int, int]:
    if shard is None:
        return 1, 1
    found = re.fullmatch(r"(\d+)/(\d+)", shard.strip())
    if found is None:
        raise ValueError(f"--shard takes I/N, such as 1/4, got {shard!r}")
    return int(found[1]), int(found[2])

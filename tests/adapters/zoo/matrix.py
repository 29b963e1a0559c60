"""The matrix of pipeline classes as text, and the file in which its verdicts are kept."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from tests.adapters.zoo.judge import COLUMNS, MISLEADING, REFUSED, RIGHT, SILENT, Verdict

PAGE = Path(__file__).parents[3] / "docs" / "use-with-your-model.md"
KEPT = Path(__file__).parent / "verdicts.json"
MARKS = re.compile(r"(<!-- zoo -->\n).*?(<!-- end of zoo -->)", re.DOTALL)
WORDS = (RIGHT, REFUSED, SILENT, MISLEADING)


def kept() -> dict[str, str]:
    """The verdicts at which the classes are held, by name."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}


def keep(verdicts: dict[str, str]) -> None:
    """Write verdicts into the file."""
    KEPT.write_text(json.dumps(dict(sorted(verdicts.items())), indent=1) + "\n", encoding="utf-8")


def counts(verdicts: dict[str, str]) -> str:
    """How many classes have which verdict."""
    of = Counter(verdicts.values())
    return f"{len(verdicts)} classes: " + ", ".join(f"{of[word]} {word}" for word in WORDS)


def line(name: str, verdict: Verdict) -> str:
    """One line of the matrix."""
    marks: dict[Any, str] = {True: "✓", False: "✗", None: "–"}
    cells = [marks[verdict.columns[column]] for column in COLUMNS]
    return f"| {name} | " + " | ".join(cells) + f" | {verdict.word} |"

"""The matrix of pipeline classes as text, and the file in which its verdicts are kept."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import lanpaint.adapters.families
from tests.adapters.zoo.judge import COLUMNS, MISLEADING, RIGHT, SILENT, Verdict
from tests.adapters.zoo.refusals import ANOTHER_CLASS, LIMIT, LIMITS, NO_ANSWER, NO_ANSWERS, full_word

PAGE = Path(__file__).parents[3] / "docs" / "use-with-your-model.md"
KEPT = Path(lanpaint.adapters.families.__file__).with_name("tested.json")
MARKS = re.compile(r"(<!-- zoo -->\n).*?(<!-- end of zoo -->)", re.DOTALL)
WORDS = (RIGHT, ANOTHER_CLASS, NO_ANSWER, LIMIT, SILENT, MISLEADING)


kept = lanpaint.adapters.families.tested


def keep(verdicts: dict[str, str]) -> None:
    """Write verdicts into the file."""
    KEPT.write_text(json.dumps(dict(sorted(verdicts.items())), indent=1) + "\n", encoding="utf-8")


def counts(verdicts: dict[str, str]) -> str:
    """How many classes have which verdict."""
    of = Counter(verdicts.values())
    return f"{len(verdicts)} classes: " + ", ".join(f"{of[word]} {word}" for word in WORDS)


def share(verdicts: dict[str, str]) -> str:
    """How many are right of the classes that have a right answer."""
    right, others = (sum(word in words for word in verdicts.values()) for words in ((RIGHT,), WORDS[3:]))
    return f"{right} of the {right + others} that have a right answer are right ({right / max(right + others, 1):.1%})"


def _reasons(title: str, reasons: dict[str, str]) -> list[str]:
    return ["", f"{title}:", "", *(f"- {name}: {reason}." for name, reason in reasons.items())]


def write_page(lines: dict[str, str], verdicts: dict[str, str]) -> None:
    """Write lines of the matrix into the page between its marks; those of other names that have a verdict stay."""
    text = PAGE.read_text(encoding="utf-8")
    written = MARKS.search(text)
    assert written is not None
    before = {row.split(" | ")[0].removeprefix("| "): row for row in written[0].splitlines() if row.startswith("| ")}
    rows = [row for name, row in sorted({**before, **lines}.items()) if name in verdicts]
    head = "| | " + " | ".join(COLUMNS) + " | verdict |"
    lists = _reasons("No right answer", NO_ANSWERS) + _reasons("Limits", LIMITS)
    told = [f"{counts(verdicts)}. {share(verdicts)}.", *lists]
    table = "\n".join([*told, "", head, "|---" * (len(COLUMNS) + 2) + "|", *rows])
    PAGE.write_text(MARKS.sub(lambda marks: f"{marks[1]}\n{table}\n\n{marks[2]}", text), encoding="utf-8")


def line(name: str, verdict: Verdict) -> str:
    """One line of the matrix."""
    marks: dict[Any, str] = {True: "✓", False: "✗", None: "–"}
    cells = [marks[verdict.columns[column]] for column in COLUMNS]
    return f"| {name} | " + " | ".join(cells) + f" | {full_word(name, verdict.word)} |"

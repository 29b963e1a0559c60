"""The page of methods says what the library has: docs/methods.md."""

import inspect
import re
from pathlib import Path

import pytest

from lanpaint.methods import METHODS
from lanpaint_toys import gauss2
from tests.samplers import test_guided, test_zoo

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")


def table(heading):
    """The rows of the first table after a heading, without its head: lists of cells."""
    lines = PAGE[PAGE.index(f"## {heading}") :].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


LINKS = [re.fullmatch(r"\{class\}`(\w+) <lanpaint\.(\w+)>`", row[0]).groups() for row in table("All methods")]
ROWS = {name: [kind, *row[1:]] for (name, kind), row in zip(LINKS, table("All methods"), strict=True)}


def test_the_table_has_every_method_once():
    assert sorted(name for name, _ in LINKS) == sorted(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_row_says_what_the_method_is_needs_and_costs(name):
    kind, _, evaluations, gradient, noise, pipelines, law, source = ROWS[name]
    method, sampler = METHODS[name], METHODS[name].sampler(gauss2().target, steps=10)
    assert kind == type(sampler).__name__
    assert int(evaluations) == sampler.plan.evaluations
    yes_or_no = ["yes" if each else "no" for each in (method.needs_gradient, sampler.takes_noise)]
    assert [gradient, noise] == yes_or_no
    assert pipelines == ("no" if method.needs_gradient else "yes")  # tests/adapters/test_zoo_pipelines.py runs them
    assert law.split()[0].strip(",;:") in ("exact", "heuristic", "none")
    text = Path(inspect.getfile(type(sampler))).read_text(encoding="utf-8")
    assert re.split(r"[ ,]", source)[0] in text, f"{source} is not named in {inspect.getfile(type(sampler))}"


def test_the_laws_on_the_gaussian_are_those_that_the_tests_check():
    checked = {name: rows for name, (_, *rows) in test_zoo.ROWS.items()}
    renamed = {"pigdm, paper": "ΠGDM, paper weight", "flowdps": "FlowDPS"}
    for name, (_, noise, *rows) in test_guided.ROWS.items():
        if not noise:
            checked[renamed[name]] = rows
    expected = [
        [name, *(f"{number:.5f}" for number in (few[0], few[2], many[0], many[2], many[1], many[3]))]
        for name, (few, many) in checked.items()
    ]
    assert table("What they sample on a Gaussian") == expected

"""Pipeline classes of the zoo are at their verdicts, neither better nor worse. ``make zoo`` checks all of them."""

import pytest

from lanpaint.adapters.families import tested
from tests.adapters.zoo import REGISTRY, case
from tests.adapters.zoo.judge import judge
from tests.adapters.zoo.matrix import PAGE, counts

PART = sorted(REGISTRY)[::4]


@pytest.mark.parametrize("name", PART)
def test_a_class_is_at_its_verdict(name):
    verdict = judge(case(name))
    assert verdict.word == tested()[name], f"{verdict.message} {verdict.columns}; python -m tests.adapters.zoo '{name}'"


def test_the_verdicts_are_those_of_the_classes_that_are_there():
    assert set(tested()) == set(REGISTRY)


def test_the_page_has_the_counts_of_the_verdicts():
    assert counts(tested()) in PAGE.read_text(encoding="utf-8")

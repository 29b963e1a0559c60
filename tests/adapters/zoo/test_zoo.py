"""Every pipeline class of the zoo is at its verdict, neither better nor worse."""

import pytest

from tests.adapters.zoo import REGISTRY, case
from tests.adapters.zoo.judge import judge
from tests.adapters.zoo.matrix import kept


@pytest.mark.parametrize("name", REGISTRY)
def test_a_class_is_at_its_verdict(name):
    verdict = judge(case(name))
    assert verdict.word == kept()[name], f"{verdict.message} {verdict.columns}; python -m tests.adapters.zoo '{name}'"


def test_the_verdicts_are_those_of_the_classes_that_are_there():
    assert set(kept()) == set(REGISTRY)

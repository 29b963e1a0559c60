"""Pipeline classes of the zoo are at their verdicts, neither better nor worse. ``make zoo`` checks all of them."""

import pytest

from lanpaint.adapters.families import tested
from tests.adapters.zoo import REGISTRY, case
from tests.adapters.zoo.judge import judge
from tests.adapters.zoo.matrix import PAGE, counts, share
from tests.adapters.zoo.refusals import LIMITS, NO_ANSWERS, full_word

SCARCE = {"PNDM", "CogVideoX, DPM", "CosmosTextToWorld", "LTXImageToVideo", "LTX2ImageToVideo", "Kandinsky5I2I"}
PART = sorted({*sorted(REGISTRY)[::4], *SCARCE})


@pytest.mark.parametrize("name", PART)
def test_a_class_is_at_its_verdict(name):
    verdict = judge(case(name))
    assert full_word(name, verdict.word) == tested()[name], (
        f"{verdict.message} {verdict.columns}; python -m tests.adapters.zoo '{name}'"
    )


def test_the_verdicts_are_those_of_the_classes_that_are_there():
    assert set(tested()) == set(REGISTRY)


def test_the_page_has_the_counts_of_the_verdicts():
    assert f"{counts(tested())}. {share(tested())}" in PAGE.read_text(encoding="utf-8")


def test_nine_in_ten_of_the_classes_that_have_a_right_answer_are_right():
    words = list(tested().values())
    right, limits = words.count("right"), words.count("refused: a limit")
    assert right >= 0.9 * (right + limits)
    assert not {"silent wrong", "misleading"} & set(words)


def test_every_reason_of_a_refusal_is_one_of_a_class_that_is_there():
    assert set(NO_ANSWERS) | set(LIMITS) <= set(REGISTRY)
    assert not set(NO_ANSWERS) & set(LIMITS)

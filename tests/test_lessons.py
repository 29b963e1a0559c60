"""The comparison of what lessons print: it sees a digit that changed, and no more than that."""

import importlib.util
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("lessons", Path(__file__).parents[1] / "notebooks" / "conftest.py")
lessons = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(lessons)


@pytest.mark.parametrize(
    ("new", "old", "alike"),
    [
        ("KL 0.0123", "KL 0.0124", True),  # a rounding
        ("KL 0.0123", "KL 0.0126", False),
        ("KL 0.0123", "KL -0.0123", False),
        ("KL  0.5\n 12", "KL 0.5\n12", True),  # the width of a column
        ("KL 0.5", "W2 0.5", False),
        ("KL 0.5 0.6", "KL 0.5", False),
        ("1.2e-05", "1.3e-05", True),
        ("1.2e-05", "1.2e-04", False),
        ("γ −0.31", "γ −0.32", True),
        ("3 of 9 runs", "5 of 9 runs", False),
        ("step_0.5", "step_0.7", False),  # a name
    ],
)
def test_words_are_compared_exactly_and_numbers_to_their_last_digit(new, old, alike):
    assert lessons.is_printed_alike(new, old) is alike
    assert lessons.is_printed_alike(old, new) is alike

"""Foreign text and foreign values, made safe to print and to compare."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from environments.checker.findings import quoted
from environments.display import clean
from environments.fingerprints import fingerprint


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain, even with é and 数", "plain, even with é and 数"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("two\nlines\x00", "two\\nlines\\x00"),
        ("\ud83d", "\\ud83d"),
        ("\u202eright to left", "\\u202eright to left"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_its_escape(text, printed):
    assert clean(text) == printed
    clean(text).encode()


def test_a_long_text_is_shortened_and_says_how_long_it_is():
    assert quoted("short") == "'short'"
    assert quoted("x" * 1000) == f"'{'x' * 60}...' (1000 characters)"


@dataclass
class Point:
    x: int
    tags: object


@pytest.mark.parametrize(
    ("value", "same"),
    [
        ({"a": 1, "b": [2, 3]}, {"b": (2, 3), "a": 1}),
        ({"x", "y", "z"}, {"z", "y", "x"}),
        (np.arange(4).reshape(2, 2), np.array([[0, 1], [2, 3]])),
        (Point(1, {"p", "q"}), Point(1, {"q", "p"})),
        (Fraction(1, 3), Fraction(2, 6)),
        (object(), object()),
    ],
)
def test_equal_content_has_equal_fingerprints(value, same):
    assert fingerprint(value) == fingerprint(same)


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": "1"}),
        (["a", "b"], ["b", "a"]),
        (np.zeros(4), np.zeros((2, 2))),
        (Point(1, None), Point(2, None)),
        ("None", None),
    ],
)
def test_other_content_has_other_fingerprints(value, other):
    assert fingerprint(value) != fingerprint(other)

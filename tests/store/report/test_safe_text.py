from __future__ import annotations

import pytest
from markupsafe import Markup

from store.report.templates import LONGEST, clipped, printed, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünï and 🌲\ttab\n", "plain, ünï and 🌲\ttab\n"),
        ("\x00\x1b\x7f", "␀␛␡"),
        ("a\r\nb\rc", "a\nb␍c"),
        ("\u202e\u2066\u200b\ufeff", "⟨U+202E⟩⟨U+2066⟩⟨U+200B⟩⟨U+FEFF⟩"),
        ("\ud800\udfff\x9b\ufffe\U0001fffe", "\ufffd" * 5),
        ("שלום", "שלום"),  # written from right to left, honestly
    ],
)
def test_what_would_be_invisible_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_long_texts_are_cut_and_say_by_how_much() -> None:
    assert clipped("abc", 3) == "abc"
    assert clipped("a" * 5000, 1000) == "a" * 1000 + "… (4,000 characters more)"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (3, 3),
        (Markup("<b>\0"), "<b>\0"),
        ("\0", "␀"),
        ("x" * 2000, clipped("x" * 2000, LONGEST)),
    ],
)
def test_every_value_passes_one_door(value: object, shown: object) -> None:
    assert printed(value) == shown

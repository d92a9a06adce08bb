"""A user's own words in our messages: bounded, with control characters visible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LONGEST = 100  # characters of a value that a message repeats
MOST_PROBLEMS = 20  # in one message


def shown(value: Any) -> str:
    """Write a value as Python would, at most `LONGEST` characters of it."""
    return _cut(repr(value))


def cut(text: str) -> str:
    """Write a word of the user's without quotes: bounded, and what does not print escaped."""
    return _cut(text if text.isprintable() else repr(text)[1:-1])


def without_long_texts(message: str, raw: Any) -> str:
    """Shorten those texts in a message that are long in the spec, whichever package's validator repeated them."""
    for text in {text for text in _texts(raw) if len(text) > LONGEST}:
        for written in (text, repr(text)[1:-1]):
            message = message.replace(written, _cut(written))
    return message


def listed(problems: Sequence[str]) -> str:
    """Write problems a line each, the first of many."""
    more = len(problems) - MOST_PROBLEMS
    return "\n".join([*problems[:MOST_PROBLEMS], *([f"and {more:,} more problems"] if more > 0 else [])])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text):,} characters)"


def _texts(raw: Any) -> Iterator[str]:
    if isinstance(raw, str):
        yield raw
    elif isinstance(raw, Mapping):
        for key, value in raw.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(raw, list | tuple):
        for value in raw:
            yield from _texts(value)

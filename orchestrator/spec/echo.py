"""A user's own words in our messages: bounded, with control characters visible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

LONGEST = 100  # characters of a value that a message repeats
MOST_PROBLEMS = 20  # in one message
DEEPEST = 40  # maps and lists in one another


def shown(value: Any) -> str:
    """Write a value as Python would, at most `LONGEST` characters of it."""
    return _cut(repr(value))


def cut(text: str) -> str:
    """Write a word of the user's without quotes: bounded, and what does not print escaped."""
    return _cut(text if text.isprintable() else repr(text)[1:-1])


def without_long_texts(message: str, raw: Any) -> str:
    """Shorten those texts in a message that are long in the spec, whichever package's validator repeated them."""
    words = {word for path, value in walk(raw) for word in (*path, value) if isinstance(word, str)}
    for text in (word for word in words if len(word) > LONGEST):
        for written in (text, repr(text)[1:-1]):
            message = message.replace(written, _cut(written))
    return message


def listed(problems: Sequence[str]) -> str:
    """Write problems a line each, the first of many."""
    more = len(problems) - MOST_PROBLEMS
    return "\n".join([*problems[:MOST_PROBLEMS], *([f"and {more:,} more problems"] if more > 0 else [])])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text):,} characters)"


def walk(raw: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every value of nested maps and lists with its keys, what holds it first; nothing below `DEEPEST`."""
    yield path, raw
    if len(path) <= DEEPEST:
        held = isinstance(raw, list | tuple)
        for key, value in raw.items() if isinstance(raw, Mapping) else enumerate(raw) if held else ():
            yield from walk(value, (*path, key))

"""Names that are shortened together, so that they still differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from store.sentences import LONG_NAME, short

PART_OF_WORD = re.compile(r"[^\W_]+\Z")  # at a text's end


def told_apart(names: Iterable[str], limit: int = LONG_NAME, longest: int | None = None) -> dict[str, str]:
    """Shorten names together, so that they still differ: by name what it is shown as; none is too long: as it is.

    First the words go that all have, then, if that is not enough, how all begin and end. What is left is cut to the
    first length from `limit` on at which no two are alike; up to `longest`, where there is room for no more.
    """
    every = list(dict.fromkeys(names))
    most = max(map(len, every), default=0)
    if most <= limit:
        return dict(zip(every, every, strict=True))
    ways = [_without_shared_words(every), _without_shared_ends(every)]
    for length in range(limit, (longest or most) + 1):
        for texts in ways:
            shown = [short(text, length) for text in texts]
            if len({*shown}) == len(every):
                return dict(zip(every, shown, strict=True))
    return {name: short(text, limit) for name, text in zip(every, ways[0], strict=True)}


def _without_shared_words(names: Sequence[str]) -> Sequence[str]:
    """Leave out the words that all names have, if every name keeps some of its own."""
    words = [name.split(" ") for name in names]
    shared = set(words[0]).intersection(*words)
    left = [" ".join(word for word in own if word not in shared) for own in words]
    return left if all(left) and len({*left}) == len(left) else names


def _without_shared_ends(names: Sequence[str]) -> Sequence[str]:
    """Leave out how all names begin and end, in whole words."""
    begin = _shared_start(names)
    rests = [name[begin:] for name in names]
    end = _shared_start([rest[::-1] for rest in rests])
    return ["\u2026" * bool(begin) + rest[: len(rest) - end] + "\u2026" * bool(end) for rest in rests]


def _shared_start(texts: Sequence[str]) -> int:
    """How many characters all texts begin with, without a part of a word."""
    first, last = min(texts), max(texts)  # all others lie between
    shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return len(PART_OF_WORD.sub("", first[:shared]))

"""What can go wrong with an objective, said to a person."""

from __future__ import annotations

from collections.abc import Collection

from environments.plugins import nearest_name
from policies.errors import PolicyError


class ObjectiveError(PolicyError, ValueError):
    """An objective, its input or its saved state is not usable; the message says what to change.

    A ValueError too, so that pydantic reports it with the key it belongs to.
    """


def expect_keys(found: Collection[str], expected: Collection[str], owner: str) -> None:
    """Refuse a saved state with keys missing or unexpected, by name."""
    missing, unexpected = set(expected) - set(found), set(found) - set(expected)
    if missing or unexpected:
        raise ObjectiveError(
            f"the saved state of {owner} does not fit this version: "
            f"missing {sorted(missing)}, unexpected {sorted(unexpected)}"
        )


def unknown(what: str, word: str, words: Collection[str]) -> str:
    """Say that a word is not known, which ones are, and which was probably meant."""
    near = nearest_name(word, words)
    hint = "" if near is None else f"; did you mean `{near}`?"
    return f"there is no {what} `{word}`; there are: {', '.join(sorted(words))}{hint}"

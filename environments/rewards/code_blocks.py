"""Code blocks of Markdown in a reply: ``` with a language on the line, up to the next ```."""

from __future__ import annotations

from collections.abc import Collection

FENCE = "```"


def last_block(text: str, languages: Collection[str]) -> str | None:
    """Give the last block in one of the languages, or in none that is named; None where there is no such block.

    A block that a reply was cut off in ends with the reply. Takes time linear in the text.
    """
    pieces = text.split(FENCE)[1::2]  # what stands after the first, third, ... fence
    for piece in reversed(pieces):
        language, newline, body = piece.partition("\n")
        if newline and language.strip().lower() in {"", *languages}:
            return body
    return None

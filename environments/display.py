"""What is shown to people: words that others wrote, made fit for a terminal, and how far long work is."""

from __future__ import annotations

import time
from collections.abc import Callable

Tell = Callable[[str], None]  # is given words for people

EVERY_S = 2.0  # between two words on how far work is


def clean(text: str) -> str:
    """Replace what a terminal would obey, and what cannot be printed at all, by its escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def brief(text: str, length: int) -> str:
    """Put a text on one line and cut it; what was cut is counted, in characters."""
    line = clean(" ".join(text.split()))
    more = len(line) - length
    return line if more <= 0 else f"{line[:length]}... ({more:,} more characters)"


def shortened(text: str, length: int = 200) -> str:
    """Cut a text that came out of data to a length, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."


class Throttle:
    """Passes words on to whoever listens, at most every `EVERY_S` seconds; nothing for the first of them."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._said_at = tell, time.monotonic()

    def is_time(self) -> bool:
        """Whether something should be said again."""
        return time.monotonic() - self._said_at > EVERY_S

    def __call__(self, text: str) -> None:
        """Pass words on."""
        self._said_at = time.monotonic()
        self._tell(text)

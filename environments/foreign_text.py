"""Words that others wrote, made fit to be kept and shown: nothing that a terminal obeys, on one line, not too long."""

from __future__ import annotations


def clean(text: str) -> str:
    """Replace what a terminal would obey, and what cannot be printed at all, by its escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def brief(text: str, length: int) -> str:
    """Put a text on one line and cut it; what was cut is counted, in characters."""
    line = clean(" ".join(text.split()))
    more = len(line) - length
    return line if more <= 0 else f"{line[:length]}... ({more:,} more characters)"

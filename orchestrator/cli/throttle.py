"""Progress of long work, on stderr: a line every few seconds, for people who wait."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_S = 3.0


def every_few_seconds(subject: str = "") -> Callable[[str], None]:
    """Make a function that prints some of what it is told."""
    from rich.text import Text

    from orchestrator.cli.console import err, plain

    said_at = time.monotonic()

    def tell(words: str) -> None:
        nonlocal said_at
        if time.monotonic() - said_at > EVERY_S:
            said_at = time.monotonic()
            err.print(Text(plain(f"{subject}{words} ...")))

    return tell

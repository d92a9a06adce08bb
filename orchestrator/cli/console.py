"""Where the commands write: results to stdout, problems to stderr, JSON plain."""

from __future__ import annotations

import json
import re
from typing import Any

from rich.console import Console
from rich.text import Text

from store.words import number as number  # what prints writes numbers the way the report does

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


LONGEST_LINE = 4000  # characters: lists of what there is are long, what somebody wrote may be longer
LONG_WORD = re.compile(r"(\S{250})\S+")  # longer than any path that a person types


def problem(message: str) -> None:
    """Say what went wrong; the message is text, never markup, and no line of it is obeyed or endless."""
    lines = (LONG_WORD.sub(r"\1...", plain(line)) for line in message.split("\n"))
    said = "\n".join(line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}..." for line in lines)
    err.print(Text("error: ", style="bold red") + Text(said))


def plain(text: str) -> str:
    """Make one harmless line of what somebody else wrote: no control characters, which a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def print_json(data: Any) -> None:
    """Print data as JSON for a program."""
    print(json.dumps(data, indent=2, ensure_ascii=False))

"""Where the commands write: results to stdout, problems to stderr, JSON plain."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.text import Text

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def problem(message: str) -> None:
    """Say what went wrong; the message is text, never markup."""
    err.print(Text("error: ", style="bold red") + Text(message))


def print_json(data: Any) -> None:
    """Print data as JSON for a program."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def number(value: float | None, digits: int = 2) -> str:
    """Write a number for a table; a missing one is a dash."""
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text

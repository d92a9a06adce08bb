"""Where a page goes: checked before the work, and in words when it cannot be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator.errors import UserError


def write_page(target: Path, what: str, write: Callable[[Path], object]) -> None:
    """Let `write` make the file; `what` names it in messages."""
    if not target.parent.is_dir():
        raise UserError(f"there is no folder {target.parent} to write the {what} into; name a file with -o")
    if target.is_dir():
        raise UserError(f"{target} is a folder: name a file with -o, such as {target / what}.html")
    try:
        write(target)
    except OSError as failed:
        raise UserError(f"{target} cannot be written: {failed.strerror}; name another with -o") from failed


def said(target: Path) -> str:
    """Say where a page is."""
    return f"{target}  {target.stat().st_size / 1000:,.0f} kB; a browser opens it"

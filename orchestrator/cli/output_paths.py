"""Where a page or a picture goes: checked before the work, and in words when it cannot be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator.errors import UserError
from store.files import replaces


def write_page(target: Path, what: str, write: Callable[[Path], object], option: str = "-o") -> None:
    """Let `write` make the file; `what` names it in messages, `option` is how the user named it."""
    if not target.parent.is_dir():
        raise UserError(
            f"there is no folder {target.parent} to write the {what} into; name a file with {option}"
        )
    if target.is_dir():
        raise UserError(f"{target} is a folder: name a file with {option}, such as {target / what}.html")
    try:
        write(target)
    except OSError as failed:
        raise UserError(
            f"{target} cannot be written: {failed.strerror}; name another with {option}"
        ) from failed


def say_where(target: Path, as_json: bool = False) -> None:
    """Say where a page is: beside JSON, and where no file was made, on stderr."""
    from orchestrator.cli.console import err, out

    is_file = replaces(target)
    size = f"  {target.stat().st_size / 1000:,.0f} kB; a browser opens it" if is_file else ""
    (err if as_json or not is_file else out).print(f"{target}{size}", markup=False)

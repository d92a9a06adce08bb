"""Where the commands write: results to stdout, problems to stderr, JSON plain.

Prompts, answers, reasons, names of files and of categories were written by others. Whatever is printed goes through
here, and nothing that a terminal would obey comes out but what rich itself says.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unicodedata import category

import typer
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment
from rich.text import Text

from environments.futures import AGAIN_S
from orchestrator.errors import UserError
from orchestrator.os_signals import exit_code_of
from store.files import replaces, try_place
from store.secrets import without_logins
from store.sentences import number as number  # what prints writes numbers the way the report does

# Unicode's controls, marks of direction, half characters, ends of lines
OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}
PROGRESS_S = 3.0  # between two lines of progress
HARMLESS = {"\n", "\u200c", "\u200d"}  # the last two join letters, or keep them apart


class _Guard(RenderHook):
    """Puts everything that is printed behind `_Guarded`."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Guarded(renderable) for renderable in renderables]


class _Guarded:
    """Something to print, its texts made visible."""

    def __init__(self, renderable: ConsoleRenderable) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def console(**options: Any) -> Console:
    """Make a console as all of ours are; options are those of rich's."""
    made = Console(highlight=False, soft_wrap=True, **options)
    made.push_render_hook(_Guard())
    return made


def visible(text: str) -> str:
    """Replace what a terminal would obey by its escape; line ends stay."""
    if text.isprintable():
        return text
    return "".join(ascii(c)[1:-1] if c not in HARMLESS and category(c) in OBEYED else c for c in text)


out = console()
err = console(stderr=True)


LONGEST_LINE = 4000  # characters: lists of what there is are long, what somebody wrote may be longer
LONG_WORD = re.compile(r"(\S{250})\S+")  # longer than any path that a person types


def problem(message: str) -> None:
    """Say what went wrong, without logins; it is text, never markup, and no line of it is obeyed or endless."""
    lines = (LONG_WORD.sub(r"\1...", plain(line)) for line in without_logins(message).split("\n"))
    said = "\n".join(line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}..." for line in lines)
    err.print(Text("error: ", style="bold red") + Text(said))


def plain(text: str) -> str:
    """Make one harmless line of what somebody else wrote: no control characters, which a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


@contextmanager
def leaving(words: str) -> Iterator[None]:
    """Let Ctrl-C end the command with these words."""
    try:
        yield
    except KeyboardInterrupt as signal:
        problem(words)
        raise typer.Exit(exit_code_of(signal)) from None


def print_json(data: Any) -> None:
    """Print data as JSON for a program; what a terminal would obey stands there as JSON's escapes."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    if not text.isprintable():
        obeyed = (c for c in set(text) if c != "\n" and visible(c) != c)
        text = text.translate({ord(c): json.dumps(c)[1:-1] for c in obeyed})
    print(text)


def every_few_seconds(subject: str) -> Callable[[str], None]:
    """Make a function that prints some of what it is told on stderr, the same seldom: progress, for people who wait."""
    said, said_at = "", time.monotonic()

    def tell(words: str) -> None:
        nonlocal said, said_at
        if (now := time.monotonic()) - said_at > (PROGRESS_S if words != said else AGAIN_S):
            said, said_at = words, now
            err.print(Text(plain(f"{subject}{words} ...")))

    return tell


def require_place(target: Path, what: str, option: str = "-o") -> None:
    """Refuse, before any work, a file that cannot be written; `what` names it, `option` is how the user named it."""
    if not target.parent.is_dir():
        raise UserError(f"there is no folder {target.parent} to write the {what} into; name a file with {option}")
    if target.is_dir():
        raise UserError(f"{target} is a folder: name a file with {option}, such as {target / what}.html")
    with _named(target, option):
        try_place(target)


def write_page(target: Path, what: str, write: Callable[[Path], object], option: str = "-o") -> None:
    """Let `write` make the file, whose place is tried before."""
    require_place(target, what, option)
    with _named(target, option):
        write(target)


@contextmanager
def _named(target: Path, option: str) -> Iterator[None]:
    """Have an error of writing a file name it, and what to do."""
    try:
        yield
    except OSError as failed:
        raise UserError(f"{target} cannot be written: {failed.strerror}; name another with {option}") from failed


def say_where(target: Path, as_json: bool = False) -> None:
    """Say where a page is: beside JSON, and where no file was made, on stderr."""
    is_file = replaces(target)
    size = f"  {target.stat().st_size / 1000:,.0f} kB; open it in a browser" if is_file else ""
    (err if as_json or not is_file else out).print(f"{target}{size}", markup=False)

"""The `evergreen` command: its verbs, a module for each or for a few alike; errors end in words, with an exit code.

Its prints may go nowhere: a pipe that was closed, a terminal that hung up, a full disk. A print must not end a run:
what it trains is worth more than what it says. So the first write that fails is the last one that is tried; the file
descriptor then leads nowhere, for everybody who writes to it.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, TextIO

NOBODY = (errno.EPIPE, errno.EIO)  # there is no one to miss what follows: `| head`, a closed terminal


class OutputStream:
    """Stands for stdout or stderr, whose end may come before the program's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None  # why the rest went nowhere

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, as long as somebody takes it; what the encoding lacks is written as an escape."""
        try:
            return self._stream.write(text)
        except OSError as failed:
            self._lose(failed)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Flush, as long as somebody takes it."""
        try:
            self._stream.flush()
        except OSError as failed:
            self._lose(failed)

    def _lose(self, failed: OSError) -> None:
        self.lost = failed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def outlast() -> None:
    """Let stdout and stderr of this process fail without consequences."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        setattr(sys, name, OutputStream(stream or open(os.devnull, "w")))  # noqa: SIM115 - None: closed from the start


def cut_short() -> str | None:
    """Say why a result is incomplete that somebody still wants; None: it is whole, or nobody reads it."""
    stream = sys.stdout
    if isinstance(stream, OutputStream):
        stream.flush()
        if stream.lost is not None and stream.lost.errno not in NOBODY:
            return f"stdout is incomplete: {stream.lost.strerror}"
    return None


def main() -> None:
    """Run the command line and exit."""
    import gc
    import traceback

    from orchestrator.os_signals import Interrupted, end_by_signals, say
    from store.secrets import without_logins

    gc.disable()  # until a verb's modules are loaded: what they make stays
    gc.set_threshold(50_000)  # others are loaded where they are used: looking among them was a sixth of `validate`
    end_by_signals()
    outlast()
    try:
        os.getcwd()
    except FileNotFoundError:
        say("error: the folder that you are in does not exist any more: cd to another one")
        sys.exit(2)
    try:
        from orchestrator.cli.app import app

        app(prog_name="evergreen")
    except (Interrupted, SystemExit) as end:
        # typer makes an exit with 130 of a signal that it meets, without a word
        signal = end if isinstance(end, Interrupted) else end.__context__ and end.__context__.__cause__
        if isinstance(signal, Interrupted):
            said, exit_code = signal.at_start()
            say(f"error: {said}")
            sys.exit(exit_code)
        if isinstance(end, SystemExit) and end.code in (0, None) and (why := cut_short()) is not None:
            say(f"error: {why}")
            sys.exit(2)
        raise
    except Exception:  # ours: a traceback, without the logins that it may quote
        say(without_logins(traceback.format_exc()))
        sys.exit(1)

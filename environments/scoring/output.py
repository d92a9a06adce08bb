"""What scoring processes print: read so that none of them waits, counted, and but for its end thrown away."""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress

from environments.foreign_text import brief

PIECE = 2**16  # bytes read at once
BUFFER = 2**20  # bytes that fit into the pipe, where the system lets us say
TAIL = 2000  # bytes of the end that are kept
SAID = 200  # characters of the last line that are shown


class ProcessOutput:
    """A pipe that many processes print into.

    Attributes:
        writer: the descriptor that they inherit.
        num_bytes: how much was printed so far.
    """

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # more than this user may have
                fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, BUFFER)
        self.num_bytes, self._tail = 0, b""
        threading.Thread(target=self._read, args=(reader,), name="scoring output", daemon=True).start()

    def last_line(self) -> str:
        """Give the last line that was printed, shortened; empty if nothing was."""
        lines = self._tail.decode(errors="replace").strip().splitlines()
        return brief(lines[-1], SAID) if lines else ""

    def close(self) -> None:
        """Let go of our end; the other is read until the last process has let go of it."""
        os.close(self.writer)

    def _read(self, reader: int) -> None:
        while data := os.read(reader, PIECE):
            self.num_bytes += len(data)
            self._tail = (self._tail + data)[-TAIL:]
        os.close(reader)

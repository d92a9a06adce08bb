"""A process that holds an environment, so that whatever happens to it happens there and can be ended.

Questions travel as pickles of our own types; answers as JSON, so that nothing of the environment's is ever unpacked on
the asking side.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Pipe, wait
from typing import Any, Self

from environments.checker.context import CheckLimits
from environments.scoring.process import command, end
from environments.sources import EnvironmentSource

TOTAL = 20  # a check may take this many times the patience for a single call
END_S = 5.0  # for a process to be gone once its connection is
SAY_S = 1.0
PRINTED = 2000  # bytes of what was printed that are looked at
PIECE = 2**16  # bytes read at once

Answer = Mapping[str, Any]


class Lost(Exception):
    """The process hangs or has ended; the message says which, as the end of a sentence."""

    def __init__(self, rule: str, sentence: str) -> None:
        super().__init__(sentence)
        self.rule = rule


class SandboxProcess:
    """The asking side; a context manager, which kills the process in the end.

    `serve(handle)` of `module` answers in the process, which seeds the hashes of strings with `hash_seed` unless the
    caller's variables say so. `at` is called with what comes next before every call that could hang.
    """

    def __init__(
        self,
        module: str,
        source: EnvironmentSource,
        limits: CheckLimits,
        at: Callable[[str], None],
        hash_seed: int,
    ) -> None:
        self._limits, self._at, self._where = limits, at, ""
        self._printed = b""  # since the last time that somebody asked, only the beginning
        self._connection, theirs = Pipe()
        self._output, printing = Pipe(duplex=False)
        with theirs, printing:
            self._process = subprocess.Popen(
                command(module, theirs.fileno()),
                stdin=subprocess.DEVNULL, stdout=printing.fileno(), stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()], start_new_session=True,
                env={"PYTHONHASHSEED": str(hash_seed), **os.environ},
            )  # fmt: skip
        os.set_blocking(self._output.fileno(), False)
        self._connection.send((source, limits))

    def ask(self, check: str, *arguments: Any) -> Answer:
        """Have a check made; raises Lost if it hangs, or has ended the process."""
        self._where = ""
        end = time.monotonic() + TOTAL * self._limits.patience_s
        try:
            self._connection.send((check, arguments))
            while True:
                self._wait(end)
                answer: Answer = json.loads(self._connection.recv_bytes())
                if "at" not in answer:
                    return answer
                self._where = answer["at"]
                self._at(self._where)
        except (EOFError, ConnectionError) as error:
            try:
                code = self._process.wait(END_S)
                how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            except subprocess.TimeoutExpired:
                how = "it closed what connects it to us"
            raise Lost("ends-process", f"{self._at_words()} ends the process ({how})") from error

    def printed(self) -> str:
        """Give what was written to the terminal since the last time, the beginning of it."""
        self._take_output()
        text, self._printed = self._printed[:PRINTED].decode(errors="replace"), b""
        return text

    def _wait(self, end: float) -> None:
        """Wait for the next word, saying now and then what is waited for."""
        patience_s = self._limits.patience_s
        give_up = time.monotonic() + patience_s
        while self._connection not in (
            heard := wait([self._connection, self._output], min(SAY_S, patience_s))
        ):
            if heard:
                self._take_output()
            else:
                self._at(self._where)
            if time.monotonic() > end:
                raise Lost("hangs", f"the check was not over after {TOTAL * patience_s:g} s")
            if time.monotonic() > give_up:
                raise Lost("hangs", f"{self._at_words()} does not come back within {patience_s:g} s")

    def _take_output(self) -> None:
        """Read what was printed so far, so that nobody waits to print; only its beginning is kept."""
        with suppress(BlockingIOError):
            while data := os.read(self._output.fileno(), PIECE):
                self._printed = (self._printed + data)[:PRINTED]

    def _at_words(self) -> str:
        return self._where or "the environment"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Kill the process and whatever it started."""
        self._process.terminate()
        end(self._process)
        self._connection.close()
        self._output.close()

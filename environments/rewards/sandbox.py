"""Running a program that a policy wrote: a process of its own, shut in as far as the system allows.

Always: another interpreter without site packages (`python -I -S`) and with an empty environment, a session of its own
that is killed as a whole, an empty working folder that is removed, limits of time, memory, files and processes.

Where Linux allows user namespaces: no network, no other processes to signal, every file outside the working folder
read-only, and the folders where sockets and devices lie emptied; as root, a user without rights besides.
`python -m environments.rewards.sandbox` says what holds here.

This keeps accidents away, and the tricks that a policy finds by itself. It is no sandbox against a determined attacker:
the program may read what our user may read, and asserts run in its own interpreter, which it can bend. Run such
training in a container.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

CHILD = Path(__file__).with_name("sandbox_child.py")
START_S = 5.0  # for the interpreter to start, not counted as the program's time
END_S = 2.0  # for it to kill what the program started
LIMITED = "limited"  # the word where it is not all that it could be
FLAGS = ("-I", "-S", "-B", "-X", "utf8")


@dataclass(frozen=True)
class SandboxLimits:
    """What a program may take."""

    timeout_s: float  # from its first line on
    memory_bytes: int = 512 * 2**20  # address space of each process
    output_bytes: int = 2**20  # of what it prints, and of each file


Spend = Callable[[float], object]  # told the seconds that a program ran, without the start of its process


def uncounted(seconds: float) -> None:
    """Take the seconds of a program that nobody adds up."""


class SandboxRefused(OSError):
    """The system does not let us run a program in these limits: a fault of the machine, not of the program."""


def printed(code: str, given: str, limits: SandboxLimits, spend: Spend = uncounted) -> str | None:
    """Run a program with this standard input; None if it fails, prints or takes too much; or SandboxRefused."""
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
        source.write(given.encode(errors="replace"))
        source.seek(0)
        with _program(code, False, limits, source, sink, spend) as program:
            ended_well = program.wait()
        sink.seek(0)
        output = sink.read(limits.output_bytes)
    return output.decode(errors="replace") if ended_well and len(output) < limits.output_bytes else None


def holds(code: str, tests: str, limits: SandboxLimits, spend: Spend = uncounted) -> bool:
    """Run a program, then asserts in its namespace; False if any of that fails or takes too long; or SandboxRefused.

    The asserts, and the word that says that they held, are sent when the program has run: leaving early, printing or
    catching everything says nothing.
    """
    with _program(code, True, limits, subprocess.DEVNULL, subprocess.DEVNULL, spend) as program:
        if program.line() != b"loaded\n":
            return False
        word = secrets.token_hex(16)
        program.send({"tests": tests, "word": word})
        return program.line(len(word)) == word.encode()


def isolation() -> str:
    """Say what holds here: "isolated", "limited" where the kernel refuses that or we stay root; or SandboxRefused."""
    with _program("", False, SandboxLimits(1.0), subprocess.DEVNULL, subprocess.DEVNULL, uncounted) as program:
        return program.isolation


class _Program:
    """A process that was started and shut in, and the socket to it."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, timeout_s: float) -> None:
        self._process, self._control, self._timeout_s = process, control, timeout_s
        self._deadline, self.isolation = time.monotonic() + START_S, ""

    def begin(self, orders: dict[str, object]) -> None:
        """Give the orders, and wait until the limits hold; from then on its time runs."""
        self.send(orders)
        self.isolation = self.line().decode().strip()
        if self.line() != b"ready\n":
            command = "python -m environments.rewards.sandbox"
            raise SandboxRefused(f"a restricted process does not start here: `{command}`")
        self._deadline = time.monotonic() + self._timeout_s

    def send(self, message: dict[str, object]) -> None:
        text = json.dumps(message).encode()
        with suppress(OSError):  # one that has gone by now is noticed when it does not answer
            self._control.settimeout(max(self._remaining(), 0.001))
            self._control.sendall(struct.pack("!I", len(text)) + text)

    def line(self, length: int | None = None) -> bytes:
        """Read a line, or so many bytes; less where the process ends or its time does."""
        found = b""
        while not (found.endswith(b"\n") if length is None else len(found) >= length):
            try:
                self._control.settimeout(max(self._remaining(), 0.001))
                part = self._control.recv(1)
            except OSError:  # its time is over, or it has gone
                return found
            if not part:
                return found
            found += part
        return found

    def wait(self) -> bool:
        """Wait for the end; say whether it came in time and without an error; SandboxRefused where nobody can say."""
        self.line()  # the other end of the socket is closed when the process ends
        if self._remaining() <= 0:
            return False
        try:
            _, status = os.waitpid(self._process.pid, 0)
        except ChildProcessError as error:  # which Popen takes for an end without an error
            why = "SIGCHLD is ignored in this process, or other code waits for its programs"
            raise SandboxRefused(f"how a program ended is not known: {why}; leave both to Python's defaults") from error
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return status == 0

    def _remaining(self) -> float:
        return self._deadline - time.monotonic()


@contextmanager
def _program(
    code: str, tests: bool, limits: SandboxLimits, stdin: IO[bytes] | int, stdout: IO[bytes] | int, spend: Spend
) -> Iterator[_Program]:
    """Start a program in an empty folder; afterwards kill all that is left of it and remove the folder."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = subprocess.Popen(
                [sys.executable, *FLAGS, str(CHILD), str(theirs.fileno())],
                stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL,
                cwd=folder, env={}, pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
            theirs.close()
            program = _Program(process, ours, limits.timeout_s)
            try:
                program.begin({"code": code, "tests": tests, **asdict(limits)})
                began = time.monotonic()
                try:
                    yield program
                finally:
                    spend(time.monotonic() - began)
            finally:
                if program.isolation == LIMITED and process.poll() is None:
                    process.terminate()
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(END_S)
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


if __name__ == "__main__":
    print(isolation())

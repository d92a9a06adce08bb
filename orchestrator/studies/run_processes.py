"""Runs as processes of their own, seen from the study: one thread each, gone when the study is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress

from orchestrator.studies.messages import Lines, Order, RunRequest, read_report, write

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
PATIENCE_S = 3.0  # until all runs are killed
LOST = -signal.SIGKILL  # the exit code of runs whose nursery died: they died with it


class RunProcesses:
    """Starts runs through a nursery, which is started when it is needed. As a context: all are gone at its end."""

    def __init__(self) -> None:
        self._nursery: subprocess.Popen[bytes] | None = None
        self._lines = Lines()
        self._going: set[str] = set()
        self._ended: dict[str, int] = {}

    def __enter__(self) -> RunProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        if self._nursery is None or self._nursery.stdin is None:
            return
        with suppress(BrokenPipeError):
            self._nursery.stdin.close()  # it then ends its runs, and itself
        try:
            self._nursery.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:  # still importing: it has no runs yet
            self._nursery.kill()
            self._nursery.wait()

    def start(self, job: RunRequest) -> RunProcess:
        """Give a job a process."""
        if self._nursery is None or self._nursery.poll() is not None:
            self._nursery = _start_nursery()
        self._going.add(job.name)
        self._ended.pop(job.name, None)
        self._send(Order(job.name, job))
        return RunProcess(self, job.name)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a run; one that has ended hears nothing."""
        self._send(Order(name, signal=number))

    def exit_code(self, name: str) -> int | None:
        """Say how a run ended; None while it goes."""
        self._listen()
        return self._ended.get(name)

    def _send(self, order: Order) -> None:
        assert self._nursery is not None
        assert self._nursery.stdin is not None
        with suppress(BrokenPipeError):  # a nursery that died is noticed by who listens
            self._nursery.stdin.write(write(order))
            self._nursery.stdin.flush()

    def _listen(self) -> None:
        """Take in the reports that have arrived; without a nursery all its runs are lost."""
        if self._nursery is None or self._nursery.stdout is None:
            return
        is_alive = self._nursery.poll() is None  # asked first: what it wrote before its end is then read
        with suppress(BlockingIOError):
            while data := os.read(self._nursery.stdout.fileno(), 1 << 16):
                for report in map(read_report, self._lines.add(data)):
                    self._end(report.name, report.exit_code)
        if not is_alive:
            for name in sorted(self._going):
                self._end(name, LOST)

    def _end(self, name: str, exit_code: int) -> None:
        self._going.discard(name)
        self._ended[name] = exit_code


class RunProcess:
    """One run's process."""

    def __init__(self, children: RunProcesses, name: str) -> None:
        self._children, self._name = children, name

    def poll(self) -> int | None:
        """Return its exit code, below 0 for the signal that killed it; None while it goes."""
        return self._children.exit_code(self._name)

    def ask_to_stop(self) -> None:
        """Ask it to finish its step, save and exit."""
        self._children.signal(self._name, signal.SIGTERM)


def _start_nursery() -> subprocess.Popen[bytes]:
    """Start the process; in a session of its own, so that Ctrl-C does not reach it.

    `-P` keeps the folder that the user happens to be in from lending it modules.
    """
    command = [sys.executable, "-P", "-m", "orchestrator.studies.fork_server", str(os.getpid())]
    nursery = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, **ONE_THREAD},
    )
    assert nursery.stdout is not None
    os.set_blocking(nursery.stdout.fileno(), False)
    return nursery

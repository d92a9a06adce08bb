"""Who runs when: so many at a time, in order; who fails is tried once more. Knows nothing of processes or clocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from orchestrator.errors import DONE, RESUMABLE

MOST_ATTEMPTS = 2  # a failed run is tried once more

Status = Literal["finished", "stopped", "failed"]


class Child(Protocol):
    """A run in a process of its own."""

    def poll(self) -> int | None:
        """Return its exit code, below 0 for the signal that killed it; None while it goes."""

    def ask_to_stop(self) -> None:
        """Ask it to finish its step, save and exit."""


@dataclass(frozen=True)
class ProcessEnd:
    """How a run ended, this time that the study was run."""

    name: str
    status: Status
    exit_code: int
    attempts: int


class Listener:
    """Told what happens to the runs; hears nothing by default."""

    def started(self, name: str, attempt: int) -> None:
        """A run was given a process; attempt 2 after a failure."""

    def ended(self, ending: ProcessEnd) -> None:
        """A run is done, for now or for good."""

    def failed_once(self, name: str, exit_code: int) -> None:
        """A run failed and will be tried again."""


class RunQueue:
    """Runs jobs by name, at most `workers` at a time, in the given order."""

    def __init__(
        self, names: Sequence[str], start: Callable[[str], Child], workers: int, listener: Listener
    ) -> None:
        self.waiting = deque(names)
        self.going: dict[str, Child] = {}
        self.endings: dict[str, ProcessEnd] = {}
        self._start, self._workers, self._listener = start, workers, listener
        self._attempts: dict[str, int] = {}
        self._is_stopping = False

    def turn(self) -> bool:
        """Take note of who ended and start who may; False once nothing goes and nothing may start."""
        for name, child in list(self.going.items()):
            exit_code = child.poll()
            if exit_code is not None:
                del self.going[name]
                self._take(name, exit_code)
        while self.waiting and len(self.going) < self._workers and not self._is_stopping:
            name = self.waiting.popleft()
            self._attempts[name] = self._attempts.get(name, 0) + 1
            self.going[name] = self._start(name)
            self._listener.started(name, self._attempts[name])
        return bool(self.going)

    def stop(self) -> None:
        """Ask all that go to stop, and start no more."""
        self._is_stopping = True
        for child in self.going.values():
            child.ask_to_stop()

    def _take(self, name: str, exit_code: int) -> None:
        status: Status = "failed"
        if exit_code == DONE:
            status = "finished"
        elif exit_code == RESUMABLE or (self._is_stopping and exit_code < 0):  # asked before it could save
            status = "stopped"
        if status == "failed" and self._attempts[name] < MOST_ATTEMPTS and not self._is_stopping:
            self._listener.failed_once(name, exit_code)
            self.waiting.appendleft(name)
            return
        self.endings[name] = ProcessEnd(name, status, exit_code, self._attempts[name])
        self._listener.ended(self.endings[name])

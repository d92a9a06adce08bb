"""Sides of a benchmark that take turns: each a process of its own, at work only while it has the turn.

The command says `n` on a side's standard input; the side does n steps and answers with one line of JSON. What a side
prints otherwise goes to its standard error.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Turns:
    """The side's end: `begin` waits for the turn, `step_done` counts, and answers after the last step of the turn."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self.spent: dict[str, float] = defaultdict(float)
        self._left, self._done = 0, 0
        self._start, self._cpu, self._tokens, self._loaded = 0.0, 0.0, 0, peak_mb()

    def begin(self) -> None:
        """Wait for a turn; the process ends when there is none any more."""
        line = sys.stdin.readline()
        if not line.strip():
            os._exit(0)  # whatever loop we are in
        self._left = self._done = int(line)
        self._tokens = 0
        self.spent.clear()
        self._start, self._cpu = time.perf_counter(), time.process_time()

    def step_done(self, num_tokens: int, before_next: Callable[[], None] | None = None) -> None:
        """Count a step; after the last one of a turn answer, and wait for the next turn.

        `before_next` is called once the times are taken, before anybody else gets the turn.
        """
        self._left, self._tokens = self._left - 1, self._tokens + num_tokens
        if self._left:
            return
        seconds = time.perf_counter() - self._start
        split = {part: spent / self._done for part, spent in self.spent.items()}
        split["other"] = seconds / self._done - sum(split.values())
        answer = {
            "seconds": seconds / self._done,
            "cpu_seconds": (time.process_time() - self._cpu) / self._done,
            "split": split,
            "tokens": self._tokens,
            "peak_mb": peak_mb(),
            "loaded_mb": self._loaded,
        }
        if before_next is not None:
            before_next()
        self._answers.write(json.dumps(answer) + "\n")
        self.begin()

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Book the time of a block."""
        start = time.perf_counter()
        yield
        self.spent[part] += time.perf_counter() - start

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Book the time of every call of a function."""

        def run(*args: Any, **kwargs: Any) -> Any:
            with self.timing(part):
                return call(*args, **kwargs)

        return run

    def book(self, part: str, seconds: float) -> None:
        """Book seconds measured elsewhere; negative ones take back what another part counted too."""
        self.spent[part] += seconds


def peak_mb() -> float:
    """Say how much memory this process has had at most, MB."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / (1e6 if sys.platform == "darwin" else 1e3)

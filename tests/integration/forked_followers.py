"""Followers forked from a process that has imported what they need, which starting them anew takes seconds for."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from orchestrator.runs import ranks
from policies import follower
from tests.integration.processes import server


class ForkedFollower:
    """What `orchestrator.runs.ranks` asks of a process that it started."""

    def __init__(self, folder: Path, rank: int, first: Callable[[], None] | None = None) -> None:
        given = (folder, rank, dict(os.environ), first)
        self._process = server().Process(target=_follow, args=given, daemon=True)
        self._process.start()
        self._asking = threading.Lock()  # of two threads that ask at once, one would be told something else

    @property
    def returncode(self) -> int | None:
        with self._asking:
            return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, seconds: float | None = None) -> None:
        self._process.join(seconds)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a follower", seconds or 0)

    def kill(self) -> None:
        self._process.kill()


def _follow(folder: Path, rank: int, environment: dict[str, str], first: Callable[[], None] | None) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with ranks._said(folder, rank).open("wb") as said:
        for descriptor in (1, 2):
            os.dup2(said.fileno(), descriptor)
    if first is not None:
        first()
    follower.main(folder, rank)


@contextmanager
def forked_followers(first: Callable[[], None] | None = None) -> Iterator[None]:
    """Have runs of this process fork their followers, each of which does this first."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranks, "_start", partial(ForkedFollower, first=first))
        yield

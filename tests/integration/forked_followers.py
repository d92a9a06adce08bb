"""Followers forked from a process that has imported what they need, which starting them anew takes seconds for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.runs import ranks
from policies import follower
from tests.integration.processes import server


class ForkedFollower:
    """What `orchestrator.runs.ranks` asks of a process that it started."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._process = server().Process(target=_follow, args=(folder, rank, dict(os.environ)), daemon=True)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, seconds: float | None = None) -> None:
        self._process.join(seconds)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a follower", seconds or 0)

    def kill(self) -> None:
        self._process.kill()


def _follow(folder: Path, rank: int, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with ranks._said(folder, rank).open("wb") as said:
        for descriptor in (1, 2):
            os.dup2(said.fileno(), descriptor)
    follower.main(folder, rank)


@contextmanager
def forked_followers() -> Iterator[None]:
    """Have runs of this process fork their followers."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranks, "_start", ForkedFollower)
        yield

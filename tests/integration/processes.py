"""Runs in processes of their own, for what only a process can suffer: signals, kills, another one's lock.

The processes are forked from one that has imported everything, so that each costs a run and not its imports.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.runs.catalog import opened
from store.errors import StoreError
from tests.conftest import wait_for_no_disk
from tests.integration.runs import At

PATIENCE_S = 200.0  # below the time limit of a test, so that what a process said is shown
IMPORTED = (
    "orchestrator.cli.app",
    "orchestrator.cli.screen",
    "orchestrator.runs.api",
    "transformers.models.llama.modeling_llama",
    "transformers.generation",
    "policies.follower",
    "sqlalchemy.dialects.sqlite",
    "reasoning_gym.factory",
    "tests.integration.processes",
)


class Process:
    """`evergreen WORDS...`, or a function, in another process; its output is in a file."""

    def __init__(self, folder: Path, *words: object, call: Callable[..., Any] | None = None) -> None:
        self.output = folder / "output.txt"
        target = call or evergreen
        self._process: ForkServerProcess = server().Process(
            target=_redirected, args=(self.output, target, tuple(words))
        )
        self._process.start()

    @property
    def pid(self) -> int | None:
        """Its number."""
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def is_going(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def end(self) -> tuple[int | None, str]:
        """Wait for the end; the exit code (below 0: minus the signal that killed it) and what was printed."""
        self._process.join(PATIENCE_S)
        return self._process.exitcode, self.output.read_text()

    def wait_for_step(self, home: Path, name: str, step: int) -> None:
        """Wait until a run in this process, or below it, has done so many steps."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.is_going():
            try:
                with opened(home) as (_, ledger):
                    if ledger.reading.run(name).num_steps >= step:
                        return
            except StoreError:
                pass  # not entered yet
            time.sleep(0.01)
        if self.is_going():
            self.signal(signal.SIGABRT)  # it then writes where each of its threads stands
        exit_code, output = self.end()
        raise AssertionError(f"{name} did not come to step {step}; exit code {exit_code}:\n{output}")


def run_and_be_killed(spec: dict[str, Any], home: Path, moment: int) -> None:
    """Run a spec in this process until SIGKILL ends it at a moment."""
    import orchestrator

    orchestrator.run(spec, home=home, watcher=At(moment, lambda: os.kill(os.getpid(), signal.SIGKILL)))


def server() -> ForkServerContext:
    """Give the process that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTED])
    return context


def evergreen(*words: object) -> None:
    """Be the command."""
    from orchestrator.cli import main

    sys.argv = ["evergreen", *map(str, words)]
    main()


def _redirected(output: Path, target: Callable[..., Any], words: tuple[object, ...]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored if the tests run under nohup
    wait_for_no_disk(pytest.MonkeyPatch())
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable()
    target(*words)

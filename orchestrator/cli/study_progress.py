"""What a person sees while a study goes: a line as a run starts or ends; on a terminal also who is how far."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from orchestrator.cli.live import can_draw
from orchestrator.cli.live_region import LiveRegion, Terminal
from orchestrator.os_signals import say
from orchestrator.studies.cost import num_steps
from orchestrator.studies.run_queue import ProcessEnd
from orchestrator.studies.runner import StudyCallback, StudyRunner
from store.sentences import duration

DRAWN_S, SAID_S = 1.0, 30.0  # between two looks at the ledger: for a picture, and for a line of progress
STOPPING = "Stopping once the running steps are saved; Ctrl-C again kills."


@contextmanager
def on_screen(console: Console, home: Path) -> Iterator[StudyCallback]:
    """Show a study while the block lasts: live on a terminal, else as plain lines."""
    if console.stderr or not can_draw():
        yield StudyScreen(console, home)
        return
    with LiveRegion(Terminal(sys.stdout)) as region:
        region.open()
        yield StudyScreen(console, home, region)


class StudyScreen(StudyCallback):
    """Prints a study's course, and draws who runs where there is a region."""

    def __init__(self, console: Console, home: Path, region: LiveRegion | None = None) -> None:
        self._console, self._home, self._region = console, home, region
        self._runner: StudyRunner | None = None
        self._begun_at = self._looked_at = time.monotonic()
        self._started_at: dict[str, float] = {}
        self._num_done = 0

    def begin(self, runner: StudyRunner) -> None:
        """Remember whom to ask."""
        self._runner, self._num_done = runner, len(runner.done_before)

    def started(self, name: str, attempt: int) -> None:
        """Say which run starts."""
        self._started_at[name] = time.monotonic()
        self._say(f"{name} {'starts' if attempt == 1 else 'is tried again'}")

    def failed_once(self, name: str, exit_code: int) -> None:
        """Say that a run will be tried again."""
        self._say(f"! {name} failed (exit code {exit_code})", "yellow")

    def ended(self, ending: ProcessEnd) -> None:
        """Say how a run ended, and what remains."""
        assert self._runner is not None
        self._num_done += ending.status == "finished"
        took = duration(time.monotonic() - self._started_at[ending.name])
        of = f"{self._num_done} of {len(self._runner.study.runs)} finished"
        if ending.status == "finished":
            self._runner.remeasure()
            self._say(f"{ending.name} finished after {took}; {of}{self._left()}")
        else:
            why = f" (exit code {ending.exit_code})" if ending.status == "failed" else ""
            self._say(f"! {ending.name} {ending.status} after {took}{why}; {of}", "yellow")

    def look(self) -> None:
        """Show now and then how far the runs are."""
        every_s = SAID_S if self._region is None else DRAWN_S
        if time.monotonic() - self._looked_at < every_s:
            return
        self._looked_at = time.monotonic()
        if self._region is not None:
            self._region.redraw(self._draw, urgent=True)
        elif steps := self._steps():
            self._say("  " + "; ".join(f"{name} {self._how_far(name, done)}" for name, done in steps.items()))

    def stopping(self) -> None:
        """Say at once that a signal was heard: this runs inside its handler."""
        if self._region is not None:
            self._region.print_now(STOPPING)
        else:
            say(STOPPING)

    def _draw(self, columns: int, lines: int) -> Sequence[Text]:
        assert self._runner is not None
        steps = self._steps()
        num_runs = len(self._runner.study.runs)
        head = f"{self._runner.study.name}: {self._num_done} of {num_runs} finished{self._left(steps)}"
        rows = [Text(head, "bold")]
        rows += [Text(f"  {name}  {self._how_far(name, done)}") for name, done in steps.items()]
        if len(rows) > lines:
            rows = [*rows[: lines - 1], Text(f"  and {len(rows) - lines + 1} more")]
        for row in rows:
            row.truncate(columns, overflow="ellipsis")
        return rows

    def _steps(self) -> dict[str, int]:
        assert self._runner is not None
        return {name: self._runner.steps_done(name) for name in self._runner.schedule.going}

    def _how_far(self, name: str, done: int) -> str:
        assert self._runner is not None
        total = num_steps(self._runner.runs[name].setting.spec)
        return f"step {done} of {total}" if done else "before its first step"

    def _left(self, steps: dict[str, int] | None = None) -> str:
        assert self._runner is not None
        left_s = self._runner.left_s(self._steps() if steps is None else steps)
        return "" if left_s is None or left_s < 1 else f"; about {duration(left_s)} left"

    def _say(self, text: str, style: str = "") -> None:
        seconds = int(time.monotonic() - self._begun_at)
        clock = f"{seconds // 60:>3}:{seconds % 60:02}  "
        self._console.print(Text.assemble(clock, (text, style)))

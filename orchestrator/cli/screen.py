"""What a person sees while a run goes: plain lines, one every few seconds, nothing that flickers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from orchestrator.callbacks import Callback
from orchestrator.cli.console import err, number, out, plain
from orchestrator.cli.options import command
from orchestrator.cli.run_state import accuracies
from orchestrator.progress import Progress
from store.records import BoundaryRecord, StepRecord

EVERY_S = 5.0  # between two lines of steady progress


class Screen(Callback):
    """Prints a run's course; `age_s`: seconds since the run began, when it is not beginning now."""

    def __init__(self, home: Path, age_s: float = 0.0) -> None:
        self._home = home
        self._said_at = 0.0
        self._begun_at = time.monotonic() - age_s
        self._first_step: tuple[int, float] | None = None

    def opening(self, text: str) -> None:
        """Say how far the opening of long data is."""
        self._say(text)

    def begin(self, name: str, folder: str) -> None:
        """Name the run, so that it can be stopped and resumed from elsewhere."""
        out.print(Text.assemble("run ", (name, "bold"), f"  {folder}"))

    def phase(self, text: str) -> None:
        """Say what begins."""
        self._say(text)

    def warm_start(self, batch: int, num_batches: int, loss: float) -> None:
        """Say how far the warm start is."""
        if self._is_time() or batch == num_batches:
            self._say(f"  batch {batch} of {num_batches}, loss {number(loss)}")

    def stage(self, at: Progress) -> None:
        """Name the stage."""
        where = at.environment or "all environments"
        self._say(f"stage {at.stage} of {at.num_stages}: {where}", "bold")

    def step(self, at: Progress, record: StepRecord) -> None:
        """Say how learning goes, now and then."""
        self._first_step = self._first_step or (at.step - 1, time.monotonic() - record.seconds)
        if not self._is_time() and at.step != at.num_steps:
            return
        pooled = {m.name: m.value for m in record.metrics if m.environment is None}
        mine = at.environment or "*"
        arms = "  ".join(f"{arm.arm} {number(arm.probability)}" for arm in record.arms if arm.bandit == mine)
        self._say(
            f"  step {at.step:>4} of {at.num_steps}  "
            f"reward {number(pooled.get('reward'))}  entropy {number(pooled.get('entropy_token'))}  "
            f"[{arms}]  {self._left(at)}"
        )

    def measuring(self, text: str, done: int, total: int) -> None:
        """Say what is being measured, if it takes long."""
        if self._is_time():
            self._say(f"  {text}")

    def boundary(self, at: Progress, record: BoundaryRecord) -> None:
        """Give every environment's held-out accuracy."""
        when = "before training" if record.after_stage == 0 else f"after stage {record.after_stage}"
        cells = "  ".join(f"{cell.environment} {number(cell.value)}" for cell in accuracies(record))
        self._say(f"{when}: accuracy  {cells}  ({record.seconds:.0f} s)")

    def decision(self, texts: Sequence[str]) -> None:
        """Pass on what was decided, and why."""
        for text in texts:
            self._say(f"  {text}")

    def event(self, texts: Sequence[str]) -> None:
        """Pass on what a person should know."""
        for text in texts:
            self._say(f"! {text}", "yellow", clock_too=True)

    def end(self, name: str, status: str, reason: str | None) -> None:
        """Say how to go on."""
        if status == "finished":
            return
        why = f" ({reason})" if status == "stopped" else ""
        err.print(Text(f"{name} {status}{why}. Go on with: {command(f'resume {name}', self._home)}"))

    def _say(self, text: str, style: str = "", clock_too: bool = False) -> None:
        """Print a line with the time; what environments and tasks wrote is in it, so it is text and one line."""
        seconds = int(time.monotonic() - self._begun_at)
        clock = f"{seconds // 60:>3}:{seconds % 60:02}  "
        out.print(Text.assemble((clock, style if clock_too else ""), (plain(text), style)))

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._said_at < EVERY_S:
            return False
        self._said_at = now
        return True

    def _left(self, at: Progress) -> str:
        """Estimate the time left for steps, from the steps of this process."""
        if self._first_step is None or at.step <= self._first_step[0]:
            return ""
        pace = (time.monotonic() - self._first_step[1]) / (at.step - self._first_step[0])
        left = int(pace * (at.num_steps - at.step))
        return f"{left // 60}:{left % 60:02} left" if left else ""

"""What a person sees while a run goes: plain lines, and on a terminal a live view below them.

The live view is drawn from the watcher's callbacks, in the trainer's own thread: between two of them it stands still.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

from rich.text import Text

from orchestrator.callbacks import Callback
from orchestrator.cli.console import err, number, out, plain
from orchestrator.cli.ledger_replay import recalled
from orchestrator.cli.live_layout import MOST_ARMS, draw
from orchestrator.cli.live_region import LiveRegion, Terminal
from orchestrator.cli.options import DEFAULT_HOME, command, in_home
from orchestrator.cli.run_state import Course, interim, measured
from orchestrator.errors import DIVERGED
from orchestrator.os_signals import STOPPING, catching_signals
from orchestrator.progress import Progress
from store.records import EVERYTHING, BoundaryRecord, StepRecord

EVERY_S = 5.0  # between two lines of steady progress
MOST_NAMED, NAMED_ENDS = 12, 3  # environments of a line that names all; of a longer list the lowest, and the highest


def how_to_go_on(name: str, reason: str | None, home: Path) -> str:
    """Say what a person does with a run that ended before its end."""
    if reason is not None and reason.startswith(DIVERGED):
        told = command(f"show {name} --events", home)
        return f"`resume` goes through the same steps again: {told} says from where a fork goes on more gently."
    return f"Go on with: {command(f'resume {name}', home)}"


class Screen(Callback):
    """Prints a run's course, as `evergreen run` does where it cannot draw.

    `home`: as commands are to name it; default: the folder that the run is in. `age_s`: seconds since the run began,
    when it is not beginning now.
    """

    def __init__(self, home: Path | None = None, age_s: float = 0.0) -> None:
        self._home = home
        self._place = home or DEFAULT_HOME  # of the run that it shows
        self._said_at = 0.0
        self._begun_at = time.monotonic() - age_s
        self._first_step: tuple[int, float] | None = None
        self._is_warm = False  # a warm start came before the first boundary

    def opening(self, text: str) -> None:
        self._say(text)

    def begin(self, name: str, folder: str) -> None:
        """Name the run, so that it can be stopped and resumed from elsewhere."""
        self._first_step, self._is_warm = None, False  # the same screen may be shown several runs
        own = Path(folder).parent
        self._place = self._home or (DEFAULT_HOME if own == DEFAULT_HOME.absolute() else own)
        out.print(Text.assemble("run ", (name, "bold"), f"  {folder}"))

    def phase(self, text: str) -> None:
        self._say(text)

    def warm_start(self, batch: int, num_batches: int, loss: float) -> None:
        if self._is_time() or batch == num_batches:
            self._say(f"  warm start: batch {batch} of {num_batches}, loss {number(loss)}")

    def warm_started(self, losses: tuple[float, float] | None) -> None:
        self._is_warm = True
        if losses is not None:
            first, last = map(number, losses)
            self._say(f"  warm start: loss {first} nats a token in its first batch, {last} in its last")

    def stage(self, at: Progress) -> None:
        where = at.environment or "all environments"
        self._say(f"stage {at.stage} of {at.num_stages}: {where}", "bold")

    def step(self, at: Progress, record: StepRecord) -> None:
        self._first_step = self._first_step or (at.step - 1, time.monotonic() - record.seconds)
        wholes = [m for m in record.metrics if m.category is None]
        where = f"  step {at.step:>4} of {at.num_steps}  "
        if looked := interim(record):
            self._say(f"{where}held-out {_held_out(looked)}")
        if not self._is_time() and at.step != at.num_steps:
            return
        own = {m.name: m.value for m in wholes if m.environment == at.environment}
        arms = [arm for arm in record.arms if arm.bandit == (at.environment or EVERYTHING)]
        shown = sorted(arms, key=lambda arm: -arm.probability)[:MOST_ARMS] if len(arms) > MOST_ARMS else arms
        chances = ", ".join(f"{arm.arm}: {number(arm.probability)}" for arm in shown)
        more = f" and {len(arms) - len(shown)} more" if len(arms) > len(shown) else ""
        self._say(
            f"{where}{at.environment or 'all'}: reward {number(own.get('reward'))}, "
            f"entropy {number(own.get('entropy_token'))}; probabilities {chances}{more}  {self._left(at)}"
        )

    def measuring(self, text: str, done: int, total: int) -> None:
        if self._is_time():
            self._say(f"  {text}")

    def boundary(self, at: Progress, record: BoundaryRecord) -> None:
        start = f"before training{', after the warm start' * self._is_warm}"
        when = start if record.after_stage == 0 else f"after stage {record.after_stage}"
        self._say(f"{when}: {_held_out(measured(record))}  ({record.seconds:.0f} s)")

    def decision(self, texts: Sequence[str]) -> None:
        for text in texts:
            self._say(f"  {text}")

    def event(self, texts: Sequence[str]) -> None:
        for text in texts:
            self._say(f"! {text}", "yellow", clock_too=True)

    def end(self, name: str, status: str, reason: str | None) -> None:
        if status == "finished":
            return
        why = f" ({in_home(reason, self._place)})" if status == "stopped" and reason else ""
        err.print(Text(f"{name} {status}{why}. {how_to_go_on(name, reason, self._place)}"))

    def _say(self, text: str, style: str = "", clock_too: bool = False) -> None:
        """Print a line with the time; what environments and tasks wrote is in it, so it is text and one line."""
        seconds = int(time.monotonic() - self._begun_at)
        clock = f"{seconds // 60:>3}:{seconds % 60:02}  "
        out.print(Text.assemble((clock, style if clock_too else ""), (plain(in_home(text, self._place)), style)))

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._said_at < EVERY_S:
            return False
        self._said_at = now
        return True

    def _left(self, at: Progress) -> str:
        if self._first_step is None or at.step <= self._first_step[0]:
            return ""
        pace = (time.monotonic() - self._first_step[1]) / (at.step - self._first_step[0])
        left = int(pace * (at.num_steps - at.step))
        return f"{left // 60}:{left % 60:02} left" if left else ""


def _held_out(values: Mapping[tuple[str, str], float | None]) -> str:
    """What was found of environments on held-out tasks, in words: accuracy and, in brackets, entropy.

    Of more than fit on a line or two their mean, and the lowest and the highest.
    """

    def said(names: Iterable[str]) -> str:
        of = [(name, *(number(values.get((name, metric))) for metric in ("pass_1", "entropy_token"))) for name in names]
        return ", ".join(f"{name} {accuracy} ({entropy})" for name, accuracy, entropy in of)

    names = list(dict.fromkeys(name for name, _ in values))
    found = {name: value for name in names if (value := values.get((name, "pass_1"))) is not None}
    if len(found) <= MOST_NAMED:
        return f"accuracy (entropy) {said(found if len(names) > MOST_NAMED else names)}"
    ranked = sorted(found, key=lambda name: found[name])
    mean = number(sum(found.values()) / len(found))
    ends = f"lowest {said(ranked[:NAMED_ENDS])}; highest {said(reversed(ranked[-NAMED_ENDS:]))}"
    return f"accuracy (entropy) of {len(found)} environments, mean {mean}; {ends}"


Recall = Callable[[str], Course]  # a run's course up to now, by its name


def can_draw() -> bool:
    """Whether stdout is a terminal that a person looks at and that lets its lines be drawn again."""
    is_dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown", "")
    return sys.stdout.isatty() and not is_dumb and not os.environ.get("CI")


@contextmanager
def on_screen(home: Path, goes_on: bool = False) -> Iterator[Callback]:
    """Show a run while the block lasts, one that `goes_on` with its past: live on a terminal, else as plain lines.

    A signal ends what is being done until the run says that there is something to save.
    """
    lines, recall = Screen(home), partial(recalled, home) if goes_on else None
    with LiveRegion(Terminal(sys.stdout)) if can_draw() else nullcontext() as region:
        screen = lines if region is None else Live(lines, region, recall=recall)
        with catching_signals(screen.stopping, is_urgent=True):
            yield screen


class Live(Callback):
    """Prints what is worth keeping and draws the rest.

    `recall` reads the past of a run that goes on: at the first event, which comes once the ledger is back at the
    checkpoint.
    """

    def __init__(
        self, lines: Screen, region: LiveRegion, course: Course | None = None, recall: Recall | None = None
    ) -> None:
        self.course = course or Course()
        self.note: str | None = None
        self._lines, self._region, self._recall = lines, region, recall
        self._name, self._is_waiting = "", False

    def opening(self, text: str) -> None:
        self._lines.opening(text)

    def begin(self, name: str, folder: str) -> None:
        """Take the terminal; a run that follows another, its twin, has a course of its own."""
        if self._name:
            self.course = Course()
        self._name = name
        self._lines.begin(name, folder)
        self.course.begin(name, folder)
        self._region.open()
        self.show(urgent=True)

    def _pass_on(self, name: str, *facts: Any, is_printed: bool = True) -> None:
        """Have the course hear of an event, and draw; what is printed too is drawn at once."""
        if is_printed:
            getattr(self._lines, name)(*facts)
        getattr(self.course, name)(*facts)
        self.show(urgent=is_printed)

    phase: Any = partialmethod(_pass_on, "phase")
    stage: Any = partialmethod(_pass_on, "stage")
    boundary: Any = partialmethod(_pass_on, "boundary")
    warm_started: Any = partialmethod(_pass_on, "warm_started")
    warm_start: Any = partialmethod(_pass_on, "warm_start", is_printed=False)
    step: Any = partialmethod(_pass_on, "step", is_printed=False)

    def measuring(self, text: str, done: int, total: int) -> None:
        self.course.measuring(text, done, total)
        self.show(urgent=done == 0)

    def decision(self, texts: Sequence[str]) -> None:
        if texts:
            self._pass_on("decision", texts)

    def event(self, texts: Sequence[str]) -> None:
        """Pass on what a person should know."""
        if texts:
            recall, self._recall = self._recall, None
            if recall is not None:
                self.course = recall(self._name)
            self._pass_on("event", texts)

    def stopping(self) -> None:
        """Say at once that a signal was heard: this runs inside its handler."""
        self.note = STOPPING
        self._region.print_now(STOPPING)

    def end(self, name: str, status: str, reason: str | None) -> None:
        self._region.close()
        self._lines.end(name, status, reason)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Draw what is told in the block once, at its end."""
        self._is_waiting = True
        yield
        self._is_waiting = False
        self.show(urgent=True)

    def show(self, urgent: bool = False) -> None:
        """Draw this moment, unless it is too soon."""
        if not self._is_waiting:
            self._region.redraw(self._draw, urgent)

    def _draw(self, columns: int, lines: int) -> list[Text]:
        return draw(self.course.snapshot(), columns, lines, self.note)

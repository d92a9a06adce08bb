"""Following a run in another process: the same view, fed by its ledger once a second. The run notices nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

from rich.text import Text

from orchestrator.callbacks import Callback
from orchestrator.cli.console import out, plain
from orchestrator.cli.ledger_replay import LedgerReplay
from orchestrator.cli.live import Live, can_draw
from orchestrator.cli.live_layout import clock
from orchestrator.cli.live_region import LiveRegion, Terminal
from orchestrator.cli.options import command
from orchestrator.cli.run_state import Course, Outline, RunState
from orchestrator.cli.screen import Screen
from orchestrator.runs.catalog import existing
from store.home import Home
from store.ledger import Ledger
from store.lock import holder

POLL_S = 1.0
WAITING = "no step yet: the warm start and the first evaluation come before it"


def follow(ledger: Ledger, place: Home, name: str, home: Path) -> None:
    """Show a run until it ends, and say how it ended; Ctrl-C ends the looking only."""
    folder = existing(place, name)
    is_held = holder(folder) is not None  # asked before reading: what was written before the end is then read
    retelling, course = LedgerReplay(ledger.reading, name, Outline.of(ledger.reading.spec(name))), Course()
    retelling.catch_up(course)
    try:
        if is_held:
            lines = Screen(home, _seconds_since(ledger.reading.run(name).created_at))
            with _watching(lines, course) as watcher:
                watcher.begin(name, str(folder))
                _until_its_end(retelling, folder, watcher)
        words = _ending(retelling, name, home)
    except KeyboardInterrupt:
        words = f"{name} goes on, nobody looks. `{command(f'stop {name}', home)}` would stop it."
    out.print(Text(plain(words)))


@contextmanager
def _watching(lines: Screen, course: Course) -> Iterator[Callback]:
    if not can_draw():
        yield lines
        return
    with LiveRegion(Terminal(sys.stdout)) as region:
        yield Live(lines, region, course)


def _seconds_since(moment: str) -> float:
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


def _until_its_end(retelling: LedgerReplay, folder: Path, watcher: Callback) -> None:
    """Tell what is new until the run ends.

    A process that takes a stopped run up again holds it before it says that it runs: that is no end.
    """
    was_running, is_held = False, True
    if retelling.pulse.num_steps == retelling.pulse.num_boundaries == 0:
        watcher.phase(WAITING)
    while is_held and not (was_running and retelling.pulse.status != "running"):
        was_running = was_running or retelling.pulse.status == "running"
        time.sleep(POLL_S)
        is_held = holder(folder) is not None
        with watcher.at_once() if isinstance(watcher, Live) else nullcontext():
            for heard in retelling.news():
                heard.tell(watcher)
            if isinstance(watcher, Live):
                watcher.note = _note(watcher.course.snapshot(), retelling.written_at)


def _note(shot: RunState, written_at: str) -> str | None:
    """Say how old the picture is, and what takes so long if that can be told."""
    if not written_at:
        return None
    is_measuring = shot.stage_step == shot.outline.steps_per_stage and shot.after_stage != shot.stage
    return f"{'measuring the boundary; ' if is_measuring else ''}written {_ago(written_at)}"


def _ending(retelling: LedgerReplay, name: str, home: Path) -> str:
    """Say how the run ended; one that says it runs while nobody runs it was killed."""
    status, num_steps = retelling.pulse.status, retelling.pulse.num_steps
    if status == "finished":
        return f"{name} finished after {num_steps} steps. `{command(f'show {name}', home)}` tells it."
    if status == "running":
        last = f"; it wrote last {_ago(retelling.written_at)}" if retelling.written_at else ""
        why = f"was killed after step {num_steps}: nobody runs it any more{last}"
    else:
        why = f"{status} at step {num_steps}: {retelling.reason()}"
    return f"{name} {why}. Go on with: {command(f'resume {name}', home)}"


def _ago(moment: str) -> str:
    seconds = _seconds_since(moment)
    return f"{seconds:.0f} s ago" if seconds < 60 else f"{clock(seconds)} ago"

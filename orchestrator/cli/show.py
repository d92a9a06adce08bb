"""show: a run told, its samples, its events, or its course as it goes. Loads no torch."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from orchestrator.callbacks import Callback
from orchestrator.cli.console import err, out, plain, print_json
from orchestrator.cli.ledger_replay import LedgerReplay
from orchestrator.cli.live_layout import clock
from orchestrator.cli.live_region import LiveRegion, Terminal
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home, RunName, command, in_home
from orchestrator.cli.run_state import Course, Outline
from orchestrator.cli.screen import Live, Screen, can_draw, how_to_go_on
from orchestrator.cli.tables import print_costs, print_events, print_samples, print_story
from orchestrator.errors import UserError
from orchestrator.runs.catalog import existing, find_run, known_environment, opened
from store.home import Home as HomeFolder
from store.ledger import Ledger
from store.ledger.access import Patience
from store.lock import holder
from store.run_summary import facts, facts_with_digests
from store.sentences import num

FOLLOWED_S = 600.0  # for a ledger that is away, while somebody follows a run


def show(
    run: RunName,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    samples: Annotated[
        str | None, typer.Option(metavar="ENV", help="Print kept completions of an environment instead.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only completions that are not correct.")] = False,
    stage: Annotated[int | None, typer.Option(help="Only completions of this stage's training.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many completions; default 20.")] = None,
    events: Annotated[
        bool, typer.Option("--events", help="Print what was decided and what went wrong instead, in order.")
    ] = False,
    times: Annotated[
        bool, typer.Option("--time", help="Print what training and looking took instead, in passes and seconds.")
    ] = False,
    show_all: Annotated[
        bool, typer.Option("--all", help="Every stage, environment and incident, where that is more than a screen.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Watch it go, also in another process, until it ends.")
    ] = False,
) -> None:
    """Tell a run: what was learnt, what it cost in entropy, what the bandits did, what went wrong.

    With --samples, print completions with their scores, newest first. With --events, every decision and incident.
    With --time, what looking took beside training. With --follow, the live view until the run ends; Ctrl-C leaves the
    run alone.
    """
    if follow and as_json:
        raise UserError("--follow is for looking; a program asks `show RUN --json` as often as it likes")
    chosen = {"--failed": failed, "--stage": stage is not None, "--limit": limit is not None}
    if samples is None and any(chosen.values()):
        idle = ", ".join(name for name, is_given in chosen.items() if is_given)
        raise UserError(f"{idle} chooses among kept completions: say --samples ENV with it, or leave it out")
    instead = {"--samples": samples is not None, "--events": events, "--time": times, "--follow": follow}
    if sum(instead.values()) > 1:
        asked = ", ".join(name for name, is_given in instead.items() if is_given)
        raise UserError(f"{asked}: each prints something else instead of the run's story; say one")
    patience = Patience(FOLLOWED_S, lambda text: err.print(text, markup=False)) if follow else None
    with opened(home, run, patience) as (place, ledger):
        find_run(ledger, run)
        if samples is not None:
            known_environment(ledger, run, samples)
            begun = len(ledger.reading.stages(run))
            if stage is not None and not 1 <= stage <= begun:
                raise UserError(f"{run} has no stage {stage}: it has begun {num(begun, 'stage')}")
            kept: list[Any] = ledger.reading.samples(run, samples, failed, stage, limit or 20)
            print_json([vars(sample) for sample in kept]) if as_json else print_samples(out, kept)
            return
        if events:
            listed = ledger.reading.events(run)
            print_json([vars(event) for event in listed]) if as_json else print_events(out, listed)
            return
        if follow:
            follow_run(ledger, place, run, home)
            return
        if times:
            found = facts(ledger, place.run_folder(run), run)
            print_json(found["looking"]) if as_json else print_costs(out, found)
            return
        story = facts_with_digests(ledger, place, run)
    print_json(story) if as_json else print_story(out, story, show_all)


POLL_S = 1.0
WAITING = "no step yet: the warm start and the first evaluation come before it"


def follow_run(ledger: Ledger, place: HomeFolder, name: str, home: Path) -> None:
    """Show a run until it ends, and say how it ended; Ctrl-C ends the looking only."""
    folder = existing(place, name)
    is_held = holder(folder) is not None  # asked before reading: what was written before the end is then read
    retelling, course = LedgerReplay(ledger.reading, name, Outline.of(ledger.reading.spec(name))), Course()
    retelling.catch_up(course)
    try:
        if is_held:
            lines = Screen(home, _seconds_since(ledger.reading.run(name).created_at))
            with LiveRegion(Terminal(sys.stdout)) if can_draw() else nullcontext() as region:
                watcher = lines if region is None else Live(lines, region, course)
                watcher.begin(name, str(folder))
                tell_until_its_end(retelling, folder, watcher)
        words = ending(retelling, name, home)
    except KeyboardInterrupt:
        words = f"{name} goes on, nobody looks. `{command(f'stop {name}', home)}` would stop it."
    out.print(Text(plain(words)))


def _seconds_since(moment: str) -> float:
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


def tell_until_its_end(retelling: LedgerReplay, folder: Path, watcher: Callback) -> None:
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
                shot, written_at = watcher.course.snapshot(), retelling.written_at
                is_measuring = shot.stage_step == shot.outline.steps_per_stage and shot.after_stage != shot.stage
                what = "measuring the boundary; " if is_measuring else ""  # it takes long
                watcher.note = f"{what}written {_ago(written_at)}" if written_at else None


def ending(retelling: LedgerReplay, name: str, home: Path) -> str:
    """Say how the run ended; one that says it runs while nobody runs it was killed."""
    status, num_steps = retelling.pulse.status, retelling.pulse.num_steps
    if status == "finished":
        return f"{name} finished after {num_steps} steps. `{command(f'show {name}', home)}` tells it."
    if status == "running":
        last = f"; it wrote last {_ago(retelling.written_at)}" if retelling.written_at else ""
        why = f"was killed after step {num_steps}: nobody runs it any more{last}"
    else:
        why = f"{status} at step {num_steps}: {in_home(retelling.reason() or 'nothing says why', home)}"
    return f"{name} {why}. {how_to_go_on(name, retelling.reason(), home)}"


def _ago(moment: str) -> str:
    seconds = _seconds_since(moment)
    return f"{seconds:.0f} s ago" if seconds < 60 else f"{clock(seconds)} ago"

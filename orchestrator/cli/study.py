"""study: many runs over settings and seeds, in parallel processes; and what a person sees while they go."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from orchestrator.cli.console import err, leaving, out, plain, print_json
from orchestrator.cli.live_region import LiveRegion, Terminal
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home, command, in_home
from orchestrator.cli.screen import can_draw
from orchestrator.errors import DONE, OUR_FAULT, RESUMABLE, UserError
from orchestrator.os_signals import say
from orchestrator.spec.setting_labels import text_of
from orchestrator.studies.cost import cost_of, num_steps, pace, rehearse
from orchestrator.studies.history import looking, refuse_changes
from orchestrator.studies.runner import ProcessEnd, StudyCallback, StudyRunner, open_study, workers_of
from orchestrator.studies.study import Study, load_study
from store.sentences import duration, num, short

CLOCK = re.compile(r"\s*\d+:\d\d  +")  # before a line that a run prints
LAST_LINES = 3  # shown of what a failed run's process printed
LOOKED_BACK = 4096  # bytes of what a run printed that hold its last line
LONGEST_SAID = 72  # characters of it


def study(
    file: Annotated[Path, typer.Argument(metavar="STUDY", help="A study file: spec, seeds, and what varies.")],
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time; default: the study's, else a core for each rank."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which runs, how much time and disk.")] = False,
    does_rehearse: Annotated[
        bool, typer.Option("--rehearse", help="With --dry-run: measure the time on a few steps, run aside.")
    ] = False,
    on: Annotated[Literal["local", "ray"], typer.Option(help="Where runs go: here, or to a Ray cluster.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="With --on ray: the cluster; default: RAY_ADDRESS, else one is started here.")
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Run a study: every setting with every seed, each run in a process of its own with one thread.

    The same command again goes on: finished runs stay, and those that a guard stopped; interrupted ones resume, missing
    ones start. Ctrl-C lets the running ones finish their step and save; a second Ctrl-C kills. A failed run is tried
    once more.
    """
    checked = load_study(file)
    if dry_run:
        print_plan(checked, home, workers, does_rehearse, as_json)
        return
    if does_rehearse:
        raise UserError("--rehearse is part of --dry-run: say both, or neither")
    with open_study(checked, home, workers, on=on, address=address) as runner:
        cost = runner.cost()  # builds every environment: what is broken is told before anything runs
        console, done = err if as_json else out, len(runner.done_before)
        where = ("" if on == "local" else f" --on {on}") + (
            "" if address is None else f" --address {shlex.quote(address)}"
        )
        again = command(f"study {shlex.quote(str(file))}{where}", home)
        already = f", {done} finished already" if done else ""
        console.print(f"study {checked.name}: {_size(checked)}{already}", markup=False)
        for line in cost.lines():
            console.print(line, markup=False)
        if (changed := runner.history.changed_comparison()) is not None:
            console.print(f"warning: {changed}", markup=False)
        for changed in runner.history.changed_stages().values():
            console.print(f"warning: {in_home(changed, home)}", markup=False)
        with leaving(f"killed; go on with: {again}"), on_screen(console) as screen:
            endings = runner.run_all(screen)
        finish(runner, endings, again, home, as_json)


def print_plan(study: Study, home: Path, workers: int | None, does_rehearse: bool, as_json: bool) -> None:
    """Print what a study would do; nothing is written, not even a home."""
    with looking(study, home) as (history, reading):
        refuse_changes(history)
        states = history.states()
        left, held = history.left(), history.held()
        measured = rehearse(study) if does_rehearse and left else pace(reading, study)
        cost = cost_of(study, left, measured, workers_of(study, workers), home)
    if as_json:
        runs = [
            {"run": run.name, "setting": run.setting.label, "seed": run.seed, "state": states[run.name]}
            for run in study.runs
        ]
        plan = dict(study.record().plan)
        print_json({"study": study.name, "plan": plan, "runs": runs, "cost": asdict(cost)})
        return
    width = max(len(setting.label) for setting in study.settings)
    lines = [f"study {study.name}: {_size(study)}; seeds {', '.join(map(str, study.seeds))}"]
    for setting in study.settings:
        changed = ", ".join(f"{field} {text_of(value)}" for field, value in setting.changes.items())
        lines.append(f"  {setting.label:<{width}}  {changed or 'the base spec as it is'}")
    lines.append(f"  runs are called {study.runs[0].name} and so on")
    for line in [*lines, *cost.lines(), *(in_home(text, home) for text in held.values())]:
        out.print(line, markup=False)


def _size(study: Study) -> str:
    settings, seeds = num(len(study.settings), "setting"), num(len(study.seeds), "seed")
    return f"{settings} x {seeds} = {num(len(study.runs), 'run')}"


def finish(runner: StudyRunner, endings: Mapping[str, ProcessEnd], again: str, home: Path, as_json: bool) -> None:
    """Sum up, say how to go on, and leave with the study's exit code."""
    finished, failed, stopped = (
        [ending for ending in endings.values() if ending.status == status]
        for status in ("finished", "failed", "stopped")
    )
    held = runner.history.held()
    stopped = [ending for ending in stopped if ending.name not in held]
    num_finished, num_open = (
        len(runner.done_before) + len(finished),
        len(stopped) + len(runner.schedule.waiting),
    )
    if as_json:
        print_facts(runner, endings, held)
    else:
        counts = f"{num_finished} of {len(runner.study.runs)} runs finished"
        counts += f", {len(failed)} failed" if failed else ""
        counts += f", {len(held)} stopped by a guard" if held else ""
        out.print(counts + (f", {num_open} to go on with" if num_open else ""))
        for ending in (*failed, *([] if runner.is_asked_to_stop else stopped)):
            print_ending(runner, ending, home)
        for text in held.values():
            out.print(plain(in_home(text, home)), markup=False)
        if num_finished:
            out.print(f"Compare them with: {command(f'compare {runner.study.name}', home)}", markup=False)
    if num_open or failed:
        err.print(f"Go on with: {again}", markup=False)
    raise typer.Exit(OUR_FAULT if failed else RESUMABLE if num_open or held else DONE)


def exited(code: int) -> str:
    """How a process ended, by its exit code, which is below 0 where a signal killed it."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def print_ending(runner: StudyRunner, ending: ProcessEnd, home: Path) -> None:
    """Say why a run failed or stopped: the end of what it printed, and where there is more."""
    log = runner.log(ending.name)
    times = "twice" if ending.attempts > 1 else "once"
    how = f"failed {times} ({exited(ending.exit_code)})" if ending.status == "failed" else "stopped"
    out.print(f"{ending.name} {how}:", markup=False)
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines[-LAST_LINES:] or ["it said nothing"]:
        out.print(f"    {plain(line)}", markup=False)
    events = f" and {command(f'show {ending.name} --events', home)}" if runner.is_known(ending.name) else ""
    out.print(f"    more in {log}{events}", markup=False)


def print_facts(runner: StudyRunner, endings: Mapping[str, ProcessEnd], held: Mapping[str, str]) -> None:
    """Say as JSON how every run stands; of those that a guard stopped, also why."""
    runs, done = [], {run.name for run in runner.done_before}
    for run in runner.study.runs:
        ending = endings.get(run.name)
        status = "stopped" if run.name in held else "not started"
        status = "finished" if run.name in done else ending.status if ending else status
        about = {"run": run.name, "setting": run.setting.label, "seed": run.seed, "status": status}
        more: dict[str, Any] = {"exit_code": ending.exit_code, "attempts": ending.attempts} if ending else {}
        more |= {"why": held[run.name]} if run.name in held else {}
        runs.append(about | more | {"log": str(runner.log(run.name))})
    print_json({"study": runner.study.name, "runs": runs})


DRAWN_S, SAID_S = 1.0, 30.0  # between two looks at the ledger: for a picture, and for a line of progress
STOPPING = "Stopping once the running steps are saved; Ctrl-C again kills."


@contextmanager
def on_screen(console: Console) -> Iterator[StudyCallback]:
    """Show a study while the block lasts: live on a terminal, else as plain lines."""
    if console.stderr or not can_draw():
        yield StudyScreen(console)
        return
    with LiveRegion(Terminal(sys.stdout)) as region:
        region.open()
        yield StudyScreen(console, region)


class StudyScreen(StudyCallback):
    """Prints a study's course, and draws who runs where there is a region."""

    def __init__(self, console: Console = out, region: LiveRegion | None = None) -> None:
        self._console, self._region = console, region
        self._runner: StudyRunner  # from `begin` on
        self._begun_at = self._looked_at = time.monotonic()
        self._started_at: dict[str, float] = {}
        self._num_done = 0

    def begin(self, runner: StudyRunner) -> None:
        self._runner, self._num_done = runner, len(runner.done_before)

    def started(self, name: str, attempt: int) -> None:
        self._started_at[name] = time.monotonic()
        self._say(f"{name} {'starts' if attempt == 1 else 'is tried again'}")

    def failed_once(self, name: str, exit_code: int) -> None:
        self._say(f"! {name} failed ({exited(exit_code)})", "yellow")

    def ended(self, ending: ProcessEnd) -> None:
        self._num_done += ending.status == "finished"
        took = duration(time.monotonic() - self._started_at[ending.name])
        of = f"{self._num_done} of {len(self._runner.study.runs)} finished"
        if ending.status == "finished":
            self._runner.remeasure()
            self._say(f"{ending.name} finished after {took}; {of}{self._left()}")
        else:
            why = f" ({exited(ending.exit_code)})" if ending.status == "failed" else ""
            self._say(f"! {ending.name} {ending.status} after {took}{why}; {of}", "yellow")

    def look(self) -> None:
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
        return {name: self._runner.steps_done(name) for name in self._runner.schedule.going}

    def _how_far(self, name: str, done: int) -> str:
        total = num_steps(self._runner.runs[name].setting.spec)
        if done:
            return f"step {done} of {total}"
        last = self._last_said(name)
        return "before its first step" + (f": {last}" if last else "")

    def _last_said(self, name: str) -> str:
        """What a run last printed since it was started: its warm start says every few seconds how far it is."""
        log, age_s = self._runner.log(name), time.monotonic() - self._started_at[name]
        with suppress(OSError), log.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mtime < time.time() - age_s:  # of an earlier attempt
                return ""
            file.seek(max(0, status.st_size - LOOKED_BACK))
            whole, _, _ = file.read().decode(errors="replace").rpartition("\n")
            lines = [line for line in whole.splitlines() if CLOCK.match(line)]
            return short(plain(CLOCK.sub("", lines[-1], count=1)).strip(), LONGEST_SAID) if lines else ""
        return ""

    def _left(self, steps: dict[str, int] | None = None) -> str:
        left_s = self._runner.left_s(self._steps() if steps is None else steps)
        return "" if left_s is None or left_s < 1 else f"; about {duration(left_s)} left"

    def _say(self, text: str, style: str = "") -> None:
        seconds = int(time.monotonic() - self._begun_at)
        clock = f"{seconds // 60:>3}:{seconds % 60:02}  "
        self._console.print(Text.assemble(clock, (text, style)))

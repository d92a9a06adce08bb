"""study: many runs over settings and seeds, in parallel processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home, command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.studies.cost import Cost
    from orchestrator.studies.run_queue import ProcessEnd
    from orchestrator.studies.runner import StudyRunner
    from orchestrator.studies.study import Study


def study(
    file: Annotated[
        Path, typer.Argument(metavar="STUDY", help="A study file: spec, seeds, and what varies.")
    ],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; default: the study's, else one a core.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which runs, how much time and disk.")
    ] = False,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="With --dry-run: measure the time on a few steps, run aside.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Run a study: every setting with every seed, each run in a process of its own with one thread.

    The same command again goes on: finished runs stay, interrupted ones resume, missing ones start. Ctrl-C lets the
    running ones finish their step and save; a second Ctrl-C kills. A failed run is tried once more.
    """
    from orchestrator.cli.console import problem
    from orchestrator.errors import UserError
    from orchestrator.os_signals import exit_code_of
    from orchestrator.studies.runner import conducting
    from orchestrator.studies.study import load_study

    checked = load_study(file)
    if dry_run:
        _tell_beforehand(checked, home, workers, rehearse, as_json)
        return
    if rehearse:
        raise UserError("--rehearse is part of --dry-run: say both, or neither")
    with conducting(checked, home, workers) as conductor:
        cost = conductor.cost()  # builds every environment: what is broken is told before anything runs
        try:
            endings = _conduct(conductor, cost, home, as_json)
        except KeyboardInterrupt as signal:
            problem(f"killed; go on with: {command(f'study {file}', home)}")
            raise typer.Exit(exit_code_of(signal)) from None
        _tell_afterwards(conductor, endings, file, home, as_json)


def _tell_beforehand(
    study: Study, home: Path, workers: int | None, does_rehearse: bool, as_json: bool
) -> None:
    """Print what a study would do; nothing is written, not even a home."""
    from orchestrator.cli.console import out, print_json
    from orchestrator.studies.cost import cost_of, pace
    from orchestrator.studies.history import looking, refuse_changes
    from orchestrator.studies.pilot import rehearse
    from orchestrator.studies.runner import workers_of

    with looking(study, home) as (history, reading):
        refuse_changes(history)
        states = history.states()
        left = [run for run in study.runs if states[run.name] != "finished"]
        measured = rehearse(study) if does_rehearse and left else pace(reading, study)
        cost = cost_of(study, left, measured, workers_of(study, workers), home)
    if as_json:
        runs = [
            {"run": run.name, "setting": run.setting.label, "seed": run.seed, "state": states[run.name]}
            for run in study.runs
        ]
        print_json(
            {"study": study.name, "plan": dict(study.record().plan), "runs": runs, "cost": cost.facts()}
        )
        return
    for line in [*_settings(study), *cost.lines()]:
        out.print(line, markup=False)


def _settings(study: Study) -> list[str]:
    """List the settings by label, each with what it changes."""
    from orchestrator.spec.setting_labels import slug, text_of

    seeds = ", ".join(map(str, study.seeds))
    width = max(len(setting.label) for setting in study.settings)
    lines = [f"study {study.name}: {_size(study)}; seeds {seeds}"]
    for setting in study.settings:
        changed = ", ".join(f"{field} {text_of(value)}" for field, value in setting.changes.items())
        lines.append(f"  {setting.label:<{width}}  {changed or 'the base spec as it is'}")
    first = study.settings[0]
    return [*lines, f"  runs are called {study.name}.{slug(first.label)}.s{study.seeds[0]} and so on"]


def _size(study: Study) -> str:
    from store.sentences import num

    settings, seeds = num(len(study.settings), "setting"), num(len(study.seeds), "seed")
    return f"{settings} x {seeds} = {num(len(study.runs), 'run')}"


def _conduct(conductor: StudyRunner, cost: Cost, home: Path, as_json: bool) -> Mapping[str, ProcessEnd]:
    from orchestrator.cli.console import err, out
    from orchestrator.cli.study_progress import on_screen

    console = err if as_json else out
    done = len(conductor.done_before)
    already = f", {done} finished already" if done else ""
    console.print(f"study {conductor.study.name}: {_size(conductor.study)}{already}", markup=False)
    for line in cost.lines():
        console.print(line, markup=False)
    if (changed := conductor.history.changed_comparison()) is not None:
        console.print(f"warning: {changed}", markup=False)
    with on_screen(console, home) as screen:
        return conductor.conduct(screen)


def _tell_afterwards(
    conductor: StudyRunner, endings: Mapping[str, ProcessEnd], file: Path, home: Path, as_json: bool
) -> None:
    """Sum up, say how to go on, and leave with the study's exit code."""
    from orchestrator.cli.console import err, out, print_json
    from orchestrator.errors import DONE, OUR_FAULT, RESUMABLE

    by_status = {
        status: [ending for ending in endings.values() if ending.status == status]
        for status in ("finished", "failed", "stopped")
    }
    num_finished = len(conductor.done_before) + len(by_status["finished"])
    num_open = len(by_status["stopped"]) + conductor.num_unstarted
    if as_json:
        print_json(_facts(conductor, endings))
    else:
        counts = f"{num_finished} of {len(conductor.study.runs)} runs finished"
        counts += f", {len(by_status['failed'])} failed" if by_status["failed"] else ""
        out.print(counts + (f", {num_open} to go on with" if num_open else ""))
        own_stops = [] if conductor.is_asked_to_stop else by_status["stopped"]
        for ending in (*by_status["failed"], *own_stops):
            _tell_ending(conductor, ending, home)
        if num_finished:
            out.print(f"Compare them with: {command(f'compare {conductor.study.name}', home)}", markup=False)
    if num_open or by_status["failed"]:
        err.print(f"Go on with: {command(f'study {file}', home)}", markup=False)
    raise typer.Exit(OUR_FAULT if by_status["failed"] else RESUMABLE if num_open else DONE)


def _tell_ending(conductor: StudyRunner, ending: ProcessEnd, home: Path) -> None:
    """Say why a run failed or stopped: the end of what it printed, and where there is more."""
    from orchestrator.cli.console import out, plain

    log = conductor.log(ending.name)
    times = "twice" if ending.attempts > 1 else "once"
    how = f"failed {times} ({exit_in_words(ending.exit_code)})" if ending.status == "failed" else "stopped"
    out.print(f"{ending.name} {how}:", markup=False)
    for line in last_lines(log):
        out.print(f"    {plain(line)}", markup=False)
    events = (
        f" and {command(f'show {ending.name} --events', home)}" if conductor.is_known(ending.name) else ""
    )
    out.print(f"    more in {log}{events}", markup=False)


def last_lines(log: Path, most: int = 3) -> list[str]:
    """Read the end of what a run's process printed."""
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-most:] or ["it said nothing"]


def exit_in_words(code: int) -> str:
    """Say how a process ended."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _facts(conductor: StudyRunner, endings: Mapping[str, ProcessEnd]) -> dict[str, Any]:
    done = {run.name for run in conductor.done_before}
    runs = []
    for run in conductor.study.runs:
        ending = endings.get(run.name)
        status = "finished" if run.name in done else ending.status if ending else "not started"
        about = {"run": run.name, "setting": run.setting.label, "seed": run.seed, "status": status}
        more = {"exit_code": ending.exit_code, "attempts": ending.attempts} if ending else {}
        runs.append(about | more | {"log": str(conductor.log(run.name))})
    return {"study": conductor.study.name, "runs": runs}

"""Interrupting a run again and again at random, and comparing its end with that of a run that nobody interrupted.

A command is killed, or asked to stop (SIGINT, SIGTERM, SIGHUP), after a random time; or it is killed from inside: in a
place (the writing of a checkpoint, a transaction, an evaluation, ...) that it enters for the n-th time, a random moment
later. Which place, how often and when is drawn from the places that the whole run entered and how long it stayed.
"""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from orchestrator.runs.catalog import opened
from store.ledger import tables
from store.records import LASTING
from store.tracker.record import Target
from tests.faults.settings import Setting
from tests.integration.processes import Process
from tests.integration.runs import Ending, ending
from tests.linux_processes import everyone
from tests.orchestrator.specs import Raw, written
from tests.store.tracker.content import series

PLACES = {  # where a run is killed: what people call it, and the functions it is in then
    "checkpoint": ["store.checkpoints:save", "store.checkpoints:_write_component"],
    "checkpoints forgotten": ["store.checkpoints:delete", "store.checkpoints:thin"],
    "transaction": ["store.ledger.ledger:_insert"],
    "evaluation": ["orchestrator.measurements.evaluation:Evaluation.run"],
    "probe": ["orchestrator.measurements.trainability:Probe.run"],
    "warm start": ["orchestrator.runs.assembly:warm_started"],
    "start-up": ["orchestrator.runs.api:lay_foundation", "orchestrator.runs.session:lay_foundation"],
    "restoring": ["orchestrator.runs.session:restore"],
    "play": ["orchestrator.rollout.player:Player.play"],
    "play ahead": ["orchestrator.rollout.prefetch:Prefetch._play_ahead"],
    "scoring": ["environments.scoring.scorer:Scorer.turns"],
    "update": ["policies.learner:Learner.learn"],
    "report": ["store.report:write"],
}
ANYWHERE, TRACKER = "anywhere", "tracker"  # in a run's own process, and the one that sends its numbers to MLflow
ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOST = 8  # interruptions of one run: then it is let go on
EVENTS_OF_GOING_ON = ("stopped", "recovered", "resumed")  # kinds of events that only an interrupted run has
TIMES = ("time/", "progress/wall_h", "looking_seconds/", "tokens_per_s")  # what no two runs have in common
RESUMABLE, NOTE = 75, "visits.json"

Visits = Mapping[str, list[float]]  # by place, how long every visit took, s


@dataclass(frozen=True)
class Aim:
    """Where to interrupt: at the n-th visit of a place, so many seconds into it; anywhere: so long after the start."""

    place: str
    delay_s: float
    number: int = 1
    signal: signal.Signals = signal.SIGKILL

    @property
    def what(self) -> str:
        """What it is counted as."""
        return f"{self.place}, asked to stop" if self.signal in ASKED else self.place

    def __str__(self) -> str:
        if self.place not in PLACES:
            return f"{self.signal.name} to {self.place} {self.delay_s:.2f} s after its start"
        return f"{self.signal.name} {1000 * self.delay_s:.1f} ms into visit {self.number} of {self.place}"


@dataclass
class Case:
    """What became of one setting: where its run was interrupted, and in what its end differs from the whole run's."""

    setting: Setting
    interruptions: list[Aim] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return str(self.setting)


def interrupt_until_it_is_over(setting: Setting, folder: Path, rng: random.Random, most: int = MOST) -> Case:
    """Run a setting whole, and once more with interruptions and resumes; say what differs in the end."""
    case, home = Case(setting), folder / "home"
    exit_code, output = Process(folder, setting.spec | {"name": "whole"}, home, folder / NOTE, call=_run_whole).end()
    if exit_code != 0:
        case.differences.append(f"the whole run ended with {exit_code}:\n{output}")
        return case
    seconds, visits = json.loads((folder / NOTE).read_text())
    spec = written(folder, setting.spec | {"name": "cut"})
    is_tracked = setting.spec["tracker"] != "none"
    while True:
        aim = _aim(seconds, visits, rng, is_tracked) if len(case.interruptions) < most else None
        words = ("resume", "cut") if (home / "cut" / "spec.yaml").exists() else ("run", spec)
        if aim is None or aim.place in (ANYWHERE, TRACKER):
            process = Process(folder, *words, "--home", home)
        else:
            process = Process(folder, aim, *words, home, call=_be_killed_inside)
        if aim is not None and aim.place == TRACKER:
            if kill_tracker(process, aim.delay_s):
                case.interruptions.append(aim)
        elif aim is not None and aim.place == ANYWHERE:
            time.sleep(aim.delay_s)
            with suppress(ProcessLookupError):  # it is over
                process.signal(aim.signal)
        exit_code, output = process.end()
        if exit_code == 0:
            break
        if why := wrong(exit_code, output, aim, home):
            case.differences.append(f"{aim}: {why}, and it said:\n{output}")
            return case
        assert aim is not None
        case.interruptions.append(aim)
    case.differences += differences(home)
    if is_tracked:
        case.differences += tracked_differences(home)
    return case


def wrong(exit_code: int | None, output: str, aim: Aim | None, home: Path) -> str:
    """Say what is wrong with how a command ended; empty: nothing."""
    if aim is None or (aim.signal == signal.SIGKILL and exit_code != -signal.SIGKILL):
        return f"it ended with {exit_code}"
    if aim.signal == signal.SIGKILL:
        return ""
    if "Traceback" in output:
        return "it ended with a traceback"
    if exit_code == RESUMABLE:
        return "" if "Go on with: evergreen resume cut" in " ".join(output.split()) else "it did not say how to go on"
    has_begun = (home / "cut" / "spec.yaml").exists()
    is_early = exit_code == 128 + aim.signal and not has_begun
    # the forked process has not come to the command yet
    return "" if is_early or (exit_code == -aim.signal and not output) else f"it ended with {exit_code}"


def _aim(seconds: float, visits: Visits, rng: random.Random, is_tracked: bool) -> Aim:
    tracker = [TRACKER] if is_tracked else []
    place = rng.choice([ANYWHERE, ANYWHERE, *tracker, *sorted(place for place in visits if visits[place])])
    if place == TRACKER:
        return Aim(place, rng.uniform(0, seconds))
    if place == ANYWHERE:
        return Aim(place, rng.uniform(0, seconds), signal=rng.choice([signal.SIGKILL, *ASKED]))
    number = rng.randint(1, (len(visits[place]) + 1) // 2)  # of what is left after an interruption there are fewer
    return Aim(place, rng.uniform(0, visits[place][number - 1]), number)


def differences(home: Path, name: str = "") -> list[str]:
    """Compare the run that was interrupted with the whole one; `name` is what their names end in."""
    whole, cut = ending(home, f"whole{name}"), ending(home, f"cut{name}")
    names = [name for name in Ending.__dataclass_fields__ if getattr(whole, name) != getattr(cut, name)]
    found = [f"{name} differs" for name in names]
    before, after = _num_rows(home, f"whole{name}"), _num_rows(home, f"cut{name}")
    return found + [
        f"{key}: {before.get(key, 0)} rows, and {after.get(key, 0)} of the interrupted one"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def tracked_differences(home: Path) -> list[str]:
    """Compare what MLflow holds of both runs, once it is up to date; times apart."""
    exit_code, output = Process(home.parent, "ui", "--catch-up-only", "--home", home).end()
    if exit_code:
        return [f"MLflow's record was not brought up to date: {output}"]
    whole, cut = (_points(home, name) for name in ("whole", "cut"))
    return [
        f"{name} in MLflow: {whole.get(name)}, and {cut.get(name)} of the interrupted one"
        for name in sorted(whole.keys() | cut.keys())
        if whole.get(name) != cut.get(name)
    ]


def _points(home: Path, run: str) -> dict[str, list[tuple[int, float]]]:
    found = series(Target(f"sqlite:///{home / 'mlflow.db'}", "evergreen", None))[run]
    return {
        name: [(step, value) for step, _, value in points]
        for name, points in found.items()
        if not name.startswith(TIMES)
    }


def kill_tracker(process: Process, after_s: float) -> bool:
    """Kill the process that sends a run's numbers, if there is one after so long."""
    time.sleep(after_s)
    for one in everyone():
        if one.parent == process.pid and any(b"store.tracker" in word for word in one.words):
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(one.pid, signal.SIGKILL)
                return True
    return False


def _num_rows(home: Path, name: str) -> dict[str, int]:
    """Count a run's rows in every table of the ledger; events by kind, without those of going on."""
    event, nums = tables.event.c, dict[str, int]()
    with opened(home) as (_, ledger), ledger.engine.connect() as connection:
        run_id = connection.execute(select(tables.run.c.run_id).where(tables.run.c.name == name)).scalar_one()
        for table in tables.metadata.sorted_tables:
            if "run_id" in table.c and table is not tables.event:
                query = select(func.count()).select_from(table).where(table.c.run_id == run_id)
                if table is tables.checkpoint:  # those of stops are the interrupted run's own
                    query = query.where(table.c.kind.in_(LASTING))
                nums[table.name] = connection.execute(query).scalar_one()
        kinds = select(event.kind, func.count()).where(event.run_id == run_id).group_by(event.kind)
        rows = connection.execute(kinds).all()
    return nums | {f"event {kind}": num for kind, num in rows if kind not in EVENTS_OF_GOING_ON}


def _run_whole(spec: Raw, home: Path, note: Path) -> None:
    import orchestrator

    began, visits = time.monotonic(), defaultdict[str, list[float]](list)

    def timed(place: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        try:
            return call()
        finally:
            visits[place].append(time.perf_counter() - began)

    _watch_places(timed)
    outcome = orchestrator.run(spec, home=home)
    note.write_text(json.dumps([time.monotonic() - began, visits]))
    os._exit(outcome.exit_code)


def _be_killed_inside(aim: Aim, verb: str, what: Any, home: Path) -> None:
    import orchestrator

    left = aim.number

    def killed(place: str, call: Callable[[], Any]) -> Any:
        nonlocal left
        if place == aim.place:
            left -= 1
            if left == 0:
                threading.Thread(target=_kill_after, args=(aim.delay_s,), daemon=True).start()
        return call()

    _watch_places(killed)
    outcome = orchestrator.resume(what, home=home) if verb == "resume" else orchestrator.run(what, home=home)
    os._exit(outcome.exit_code)


def _kill_after(seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def _watch_places(watch: Callable[[str, Callable[[], Any]], Any]) -> None:
    """Have every visit of a place go through `watch`, in this process."""
    for place, functions in PLACES.items():
        for path in functions:
            module, _, name = path.partition(":")
            owner: Any = import_module(module)
            *classes, name = name.split(".")
            for inner in classes:
                owner = getattr(owner, inner)
            setattr(owner, name, _watched(place, getattr(owner, name), watch))


def _watched(place: str, function: Callable[..., Any], watch: Callable[[str, Callable[[], Any]], Any]) -> Any:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return watch(place, functools.partial(function, *args, **kwargs))

    return run

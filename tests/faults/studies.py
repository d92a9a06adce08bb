"""Interrupting a study at random, or killing one of its runs, and comparing the runs with those of one left alone."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from store.lock import holder
from tests.faults.interruptions import ASKED, RESUMABLE, Aim, Case, differences
from tests.faults.settings import Setting
from tests.integration.processes import Process
from tests.orchestrator.studies.studies import written_study

STUDY, RUN = "study", "a run of a study"
MOST = 3
GRID = {"learner.lr": [0.003, 0.001]}


def interrupt_study(setting: Setting, folder: Path, rng: random.Random, most: int = MOST) -> Case:
    """Run a study of a setting whole, and once more with interruptions; say what differs in the end."""
    case, home = Case(setting), folder / "home"
    files = [written_study(folder, name, spec=setting.spec, grid=GRID, workers=2) for name in ("whole", "cut")]
    began = time.monotonic()
    exit_code, output = Process(folder, "study", files[0], "--home", home).end()
    seconds = time.monotonic() - began
    if exit_code != 0:
        case.differences.append(f"the whole study ended with {exit_code}:\n{output}")
        return case
    while True:
        process = Process(folder, "study", files[1], "--home", home)
        aim = _aim(seconds, rng) if len(case.interruptions) < most else None
        if aim is not None:
            time.sleep(aim.delay_s)
            for pid in [process.pid] if aim.place == STUDY else list(_pids(home))[:1]:
                assert pid is not None
                with suppress(ProcessLookupError):  # it is over
                    os.kill(pid, aim.signal)
                    case.interruptions.append(aim)
        exit_code, output = process.end()
        if exit_code == 0:
            break
        if aim is None or not _is_fine(exit_code, output, aim):
            case.differences.append(f"{aim}: the study ended with {exit_code}, and said:\n{output}")
            return case
    for name in sorted(path.name.removeprefix("whole") for path in home.glob("whole.*")):
        case.differences += [f"{name}: {text}" for text in differences(home, name)]
    return case


def _aim(seconds: float, rng: random.Random) -> Aim:
    place = rng.choice([STUDY, RUN])
    number = rng.choice([signal.SIGKILL, *ASKED]) if place == STUDY else signal.SIGKILL
    return Aim(place, rng.uniform(0, seconds), signal=number)


def _is_fine(exit_code: int | None, output: str, aim: Aim) -> bool:
    """Whether a study may end so: killed, asked to stop, or with a run to be tried again."""
    if "Traceback" in output or aim.place == RUN:
        return False
    expected = {-signal.SIGKILL} if aim.signal == signal.SIGKILL else {RESUMABLE, 128 + aim.signal, -aim.signal}
    return exit_code in expected


def _pids(home: Path) -> Iterator[int]:
    """The processes that hold a run of the study, from the newest run on."""
    for folder in sorted(home.glob("cut.*"), reverse=True):
        with suppress(OSError):
            if who := holder(folder):
                yield int(who.split()[1])

"""Running a study: what is missing is started, what was interrupted goes on, until all is done or it is stopped.

So many runs go at a time; who fails is tried once more.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from environments.scoring.pool import available_cores
from orchestrator.errors import DONE, RESUMABLE, UserError
from orchestrator.locations import completed_url, refuse_plain_secrets, remember_logins
from orchestrator.os_signals import catching_signals
from orchestrator.studies.cost import Cost, cost_of, left_s, num_steps, pace
from orchestrator.studies.history import History, State, refuse_changes
from orchestrator.studies.ray_tasks import RayTasks
from orchestrator.studies.run_processes import RunProcesses, RunRequest
from orchestrator.studies.study import Study, StudyRun, load_study
from store.errors import LedgerAway
from store.home import Home
from store.ledger import Ledger
from store.lock import holder, run_lock

POLL_S = 0.1
LOGS = "logs"  # in a study's folder
MOST_ATTEMPTS = 2  # a failed run is tried once more
WORKER = "orchestrator.cli.study_worker"  # the module that is a run's process: it prints as `evergreen run` does

Status = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class ProcessEnd:
    """How a run ended, this time that the study was run."""

    name: str
    status: Status
    exit_code: int
    attempts: int


class StudyCallback:
    """Who watches a study; hears nothing by default."""

    def begin(self, runner: StudyRunner) -> None:
        """The study is checked and about to start runs."""

    def started(self, name: str, attempt: int) -> None:
        """A run was given a process; attempt 2 after a failure."""

    def ended(self, ending: ProcessEnd) -> None:
        """A run is done, for now or for good."""

    def failed_once(self, name: str, exit_code: int) -> None:
        """A run failed and will be tried again."""

    def look(self) -> None:
        """Time has passed: a tenth of a second."""

    def stopping(self) -> None:
        """A signal asks the study to stop. Called inside its handler: nothing but `os.write` is safe here."""


class RunQueue:
    """Runs jobs by name, at most `workers` at a time, in the given order."""

    def __init__(
        self,
        names: Sequence[str],
        start: Callable[[str], None],
        processes: RunProcesses | RayTasks,
        workers: int,
        watcher: StudyCallback,
    ) -> None:
        self.waiting = deque(names)
        self.going: list[str] = []
        self.endings: dict[str, ProcessEnd] = {}
        self._start, self._processes, self._workers, self._watcher = start, processes, workers, watcher
        self._attempts: dict[str, int] = {}
        self._is_stopping = False

    def turn(self) -> bool:
        """Take note of who ended and start who may; False once nothing goes and nothing may start."""
        for name in list(self.going):
            exit_code = self._processes.exit_code(name)
            if exit_code is not None:
                self.going.remove(name)
                self._take(name, exit_code)
        while self.waiting and len(self.going) < self._workers and not self._is_stopping:
            name = self.waiting.popleft()
            self._attempts[name] = self._attempts.get(name, 0) + 1
            self._start(name)
            self.going.append(name)
            self._watcher.started(name, self._attempts[name])
        return bool(self.going)

    def stop(self) -> None:
        """Ask all that go to stop, and start no more."""
        self._is_stopping = True
        for name in self.going:
            self._processes.ask_to_stop(name)

    def _take(self, name: str, exit_code: int) -> None:
        status: Status = "failed"
        if exit_code == DONE:
            status = "finished"
        elif exit_code == RESUMABLE or (self._is_stopping and exit_code < 0):  # asked before it could save
            status = "stopped"
        if status == "failed" and self._attempts[name] < MOST_ATTEMPTS and not self._is_stopping:
            self._watcher.failed_once(name, exit_code)
            self.waiting.appendleft(name)
            return
        self.endings[name] = ProcessEnd(name, status, exit_code, self._attempts[name])
        self._watcher.ended(self.endings[name])


class StudyRunner:
    """One process's time with a study; `processes` start its runs."""

    def __init__(
        self, study: Study, home: Home, ledger: Ledger, workers: int, processes: RunProcesses | RayTasks
    ) -> None:
        self.study, self.home, self.workers = study, home, workers
        self._ledger, self._processes = ledger, processes
        self.reading = ledger.reading
        self.history = History(study, ledger.reading)
        self.runs = {run.name: run for run in study.runs}
        states = self.history.states()
        self.done_before = [run for run in study.runs if states[run.name] == "finished"]
        self.left = in_turn(self.history.left(), study, workers)
        self.measured = pace(self.reading, study)
        self.schedule = RunQueue([], self._start, self._processes, workers, StudyCallback())
        self.is_asked_to_stop = False
        self._steps_done: dict[str, int] = {}

    def cost(self) -> Cost:
        """Work out what is left to do takes; builds the environments."""
        return cost_of(self.study, self.left, self.measured, self.workers, self.home.path)

    def run_all(self, watcher: StudyCallback) -> dict[str, ProcessEnd]:
        """Start runs until all have ended; the first signal lets them finish their step, a second Ctrl-C kills.

        Returns how the runs ended that were left. Raises KeyboardInterrupt after a second Ctrl-C.
        """
        self._ledger.start_study(self.history.record())
        names = [run.name for run in self.left]
        self.schedule = RunQueue(names, self._start, self._processes, self.workers, watcher)
        watcher.begin(self)
        with self._processes, catching_signals(watcher.stopping) as signalled:
            while self.schedule.turn():
                if signalled.name is not None and not self.is_asked_to_stop:
                    self.schedule.stop()
                    self.is_asked_to_stop = True
                watcher.look()
                time.sleep(POLL_S)
        return self.schedule.endings

    def log(self, name: str) -> Path:
        """Where a run's process writes what it prints."""
        return self.home.study_folder(self.study.name) / LOGS / f"{name}.txt"

    def is_known(self, name: str) -> bool:
        """Whether the ledger knows a run: before that it has made its environments and policy at most."""
        run = self.runs[name]
        return (run.setting.label, run.seed) in self.history.names()

    def steps_done(self, name: str) -> int:
        """Read how far a run is; 0 before the ledger knows it. While the ledger is away, how far it was."""
        with suppress(LedgerAway):
            self._steps_done[name] = self.reading.pulse(name).num_steps if self.is_known(name) else 0
        return self._steps_done.get(name, 0)

    def remeasure(self) -> None:
        """Take runs that have finished meanwhile into the estimate, unless the ledger is away."""
        with suppress(LedgerAway):
            self.measured = pace(self.reading, self.study)

    def left_s(self, steps: dict[str, int]) -> float | None:
        """Estimate the seconds that remain, from the steps that the runs that go have done."""
        going = [(self.runs[name], done) for name, done in steps.items()]
        shares = [(run, min(1.0, done / num_steps(run.setting.spec))) for run, done in going]
        waiting = [(self.runs[name], 0.0) for name in self.schedule.waiting]
        return left_s([*shares, *waiting], self.measured, self.workers)[0]

    def _start(self, name: str) -> None:
        run = self.runs[name]
        spec, member = run.spec.model_dump(mode="json", by_alias=True), asdict(self.study.member(run))
        self._processes.start(RunRequest(str(self.home.path), name, str(self.log(name)), spec, member))


def in_turn(runs: Sequence[StudyRun], study: Study, workers: int) -> list[StudyRun]:
    """Sort runs by as many seeds as go at a time, then by setting.

    Runs of one seed wait for one warm start, of which one makes it; so those that begin together have other seeds.
    """
    blocks = {seed: place // workers for place, seed in enumerate(study.seeds)}
    settings = {setting.label: place for place, setting in enumerate(study.settings)}
    return sorted(runs, key=lambda run: (blocks[run.seed], settings[run.setting.label]))


def study(
    file: str | Path,
    home: str | Path | None = None,
    workers: int | None = None,
    watcher: StudyCallback | None = None,
    on: Literal["local", "ray"] = "local",
    address: str | None = None,
) -> dict[str, State]:
    """Run a study's missing runs, each in a process of its own; returns the status of every run by its name.

    `on`: this machine, or a Ray cluster, that of `address` or RAY_ADDRESS, else one on this machine.
    The same call again goes on: finished runs stay, and those that a guard stopped; interrupted ones resume. In a
    script it stands under `if __name__ == "__main__":`.
    """
    with open_study(load_study(Path(file)), home, workers, on=on, address=address) as runner:
        runner.run_all(watcher or StudyCallback())
        return runner.history.states()


@contextmanager
def open_study(
    study: Study,
    home: str | Path | None,
    workers: int | None,
    worker: str = WORKER,
    on: Literal["local", "ray"] = "local",
    address: str | None = None,
) -> Iterator[StudyRunner]:
    """Take up a study, new or begun before; nobody else may run it meanwhile.

    `worker`: the module that is a run's process on this machine (`run_processes.serve`). Raises UserError where it has
    changed since its first runs, or is run already, or there is no such cluster.
    """
    if on == "local" and address is not None:
        raise UserError("--address names a Ray cluster: say --on ray with it")
    place = Home(home)
    folder = place.study_folder(study.name)
    folder.mkdir(parents=True, exist_ok=True)
    if (who := holder(folder)) is not None:
        raise UserError(f"study {study.name} is in use by {who}; wait for it, or interrupt it there")
    refuse_plain_secrets(study.base.model_dump(mode="json", by_alias=True))
    sections = study.base.model_dump(include={"ledger", "tracker"})
    remember_logins(sections)
    with Ledger.open(completed_url(sections, "ledger", place.ledger_url)) as ledger, run_lock(folder):
        refuse_changes(History(study, ledger.reading))
        if on == "local":
            yield StudyRunner(study, place, ledger, workers_of(study, workers), RunProcesses(worker))
            return
        (folder / LOGS).mkdir(exist_ok=True)  # what nodes know the home by
        with RayTasks(address) as tasks:
            tasks.require_shared_databases(str(ledger.engine.url), study.base.tracker.model_dump())
            most = min(tasks.capacity(setting.spec.model_dump(mode="json")) for setting in study.settings)
            yield StudyRunner(study, place, ledger, workers_of(study, workers, most), tasks)


def workers_of(study: Study, workers: int | None = None, most: int | None = None) -> int:
    """Say how many runs go at a time: as asked, as the study says, or `most`.

    Without these a core of those that this process may use for each rank of a run, and one run at least.
    """
    num_ranks = max(setting.spec.resources.ranks for setting in study.settings)
    return min(workers or study.workers or most or max(1, available_cores() // num_ranks), len(study.runs))

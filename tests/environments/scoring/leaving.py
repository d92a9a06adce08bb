"""An environment whose scores start processes and leave them behind: `tests.environments.scoring.leaving:create`."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from environments import Score, Task
from tests.environments.fakes import Fake


class Leaving(Fake):
    """A completion says what is started and how the score ends, as in "forked hanging"; pids are noted in a file."""

    def __init__(self, name: str, notes: str) -> None:
        super().__init__(name, "obedient", ("easy",), (), None, 10**6, in_process=False)
        self.notes = Path(notes)

    def score(self, task: Task, completion: str) -> Score:
        what, ending = completion.split()
        {"started": self.start_program, "forked": self.fork, "escaped": self.escape}[what]()
        if ending == "hanging":
            time.sleep(600)
        if ending == "crashing":
            os._exit(7)
        return Score.of(1.0)

    def start_program(self) -> None:
        self.note(subprocess.Popen(["sleep", "600"]).pid)

    def fork(self) -> None:
        for _ in range(20):
            if os.fork() == 0:
                self.sleep()
        self.wait_for(20)

    def escape(self) -> None:
        """Leave the group and the session, and have no parent."""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                self.sleep()
            os._exit(0)
        self.wait_for(1)

    def sleep(self) -> None:
        self.note(os.getpid())
        time.sleep(600)

    def note(self, pid: int) -> None:
        with self.notes.open("a") as file:
            file.write(f"{pid}\n")

    def wait_for(self, num: int) -> None:
        while not self.notes.exists() or len(self.notes.read_text().split()) < num:
            time.sleep(0.01)


def create(name: str, notes: str) -> Leaving:
    return Leaving(name, notes)

"""Fakes with a character, for the tests of all packages: `tests.environments.fakes:create` as a type in a spec.

A task asks to repeat a number. What the score then does is the environment's character; an `obedient` one behaves as
the completion says, so one batch can hold every kind of trouble.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from environments import Category, Environment, Episode, Score, Task, Turn


def _learnable(task: Task, completion: str) -> Score:
    return Score.of(float(completion.strip() == task.answer))


def _noisy(task: Task, completion: str) -> Score:
    digest = hashlib.sha256(f"{task.key} {completion}".encode()).digest()
    return Score.of(digest[0] / 255)


def _slow(task: Task, completion: str) -> Score:
    time.sleep(0.05)
    return _learnable(task, completion)


NAP_S = 0.4  # of a reply that takes long, and no processor
LOOK_S = 0.01  # between two looks for a file that is waited for


def _waiting(task: Task, completion: str) -> Score:
    """Wait until there is the file that the completion names."""
    while not os.path.exists(completion.removeprefix("waiting ")):
        time.sleep(LOOK_S)
    return Score.of(1.0)


def _napping(task: Task, completion: str) -> Score:
    time.sleep(NAP_S)
    return Score.of(1.0)


def _hanging(task: Task, completion: str) -> Score:
    while True:
        pass


def _stuck_in_c(task: Task, completion: str) -> Score:
    return Score.of(float(9**9**9 > 0))  # no signal handler written in Python gets its turn


def _crashing(task: Task, completion: str) -> Score:
    os._exit(7)


def _exiting(task: Task, completion: str) -> Score:
    sys.exit("enough")


def _raising(task: Task, completion: str) -> Score:
    raise ValueError("cannot read this\nsecond line")


def _greedy(task: Task, completion: str) -> Score:
    return Score.of(float(len(bytearray(8 << 30)) == 0))


def _printing(task: Task, completion: str) -> Score:
    for _ in range(2000):
        os.write(1, b"\x1b[31mnobody reads this " * 50 + b"\n")
    os.write(2, b"the last \x1b[0mwords\n")
    return Score.of(1.0)


def _lying(task: Task, completion: str) -> Score:
    for descriptor in range(3, 1024):  # wherever the one to the trainer is
        with contextlib.suppress(OSError):
            os.write(descriptor, b"\0" * 8 + b"no JSON")
    return Score.of(1.0)


def _forking(task: Task, completion: str) -> Score:
    """Have a child compute apart, which then raises, returns or calls `sys.exit`, as the completion says."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return Score.of(1.0)
    if completion.endswith("raises"):
        raise ValueError("computed apart")
    if completion.endswith("exits"):
        sys.exit(0)
    return Score.of(0.0)


def _seeing(task: Task, completion: str) -> Score:
    """Tell which environment variables are seen."""
    return Score.of(1.0, **dict.fromkeys(os.environ, 1.0))


def _setting(task: Task, completion: str) -> Score:
    """Change settings of the process, and leave them so."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.alarm(600)
    os.chdir("/")
    os.umask(0o777)
    for kind in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE):
        resource.setrlimit(kind, (100, resource.getrlimit(kind)[1]))
    return Score.of(1.0)


def _set(task: Task, completion: str) -> Score:
    """Tell what `_setting` changes, and with what a program is seen to end that ends with 1."""
    umask = os.umask(0)
    return Score.of(
        1.0,
        ended_with=subprocess.run([sys.executable, "-S", "-c", "exit(1)"], check=False).returncode,
        timer=signal.alarm(0),
        directory=os.stat(".").st_ino,
        umask=umask,
        cpu=resource.getrlimit(resource.RLIMIT_CPU)[0],
        files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def _asking_for_a_key(task: Task, completion: str) -> Score:
    return Score.of(float(bool(os.environ["JUDGE_API_KEY"])))


TURN_S = 0.3  # of an episode of slow turns


def _judged_by_several(task: Task, completion: str) -> Score:
    """Right half of the time, by what was written; two components that pull apart."""
    is_right = sum(map(ord, completion)) % 2 == 0
    return Score.of(float(is_right), right=float(is_right), short=1 / (1 + len(completion)))


def _uneven(task: Task, completion: str) -> Score:
    """By the task: not to be scored, the same for all, or right half of the time by what was written."""
    kind = hashlib.sha256(task.key.encode()).digest()[0] % 4
    if kind == 0:
        return Score.unscorable("judge not reachable")
    return Score.of(1.0 if kind == 1 else float(sum(map(ord, completion)) % 2))


BEHAVIOURS: dict[str, Callable[[Task, str], Any]] = {
    "learnable": _learnable,
    "generous": lambda task, completion: Score.of(1.0),
    "hopeless": lambda task, completion: Score.of(0.0),
    "noisy": _noisy,
    "uneven": _uneven,
    "judged_by_several": _judged_by_several,
    "slow": _slow,
    "waiting": _waiting,
    "napping": _napping,
    "hanging": _hanging,
    "stuck_in_c": _stuck_in_c,
    "crashing": _crashing,
    "exiting": _exiting,
    "raising": _raising,
    "greedy": _greedy,
    "wrong_valued": lambda task, completion: Score(2.0, True),
    "not_a_number": lambda task, completion: Score(math.nan, True),
    "text_valued": lambda task, completion: Score("1.0", True),  # type: ignore[arg-type]
    "not_a_score": lambda task, completion: 1.0,
    "silent": lambda task, completion: None,
    "printing": _printing,
    "lying": _lying,
    "forking": _forking,
    "seeing": _seeing,
    "setting": _setting,
    "set": _set,
    "asking_for_a_key": _asking_for_a_key,
    "long_winded": lambda task, completion: Score.unscorable("\x1b[2J\r\u202eno\0 " + "x" * 10**6),
    "undecided": lambda task, completion: Score.unscorable("judge not reachable"),
}


class Fake(Environment):
    """Repeat a number; scored by character."""

    version = "1"

    def __init__(
        self,
        name: str,
        character: str,
        categories: Sequence[str],
        held_out: Sequence[str],
        size: int | None,
        distinct: int,
        in_process: bool,
    ) -> None:
        self.name, self.character, self.scores_in_process = name, character, in_process
        self._categories = [Category(c, trainable=c not in held_out) for c in categories]
        self._size, self._distinct = size, distinct

    @property
    def categories(self) -> list[Category]:
        return self._categories

    def size(self, category: str) -> int | None:
        return self._size

    def task(self, category: str, index: int) -> Task:
        number = str(index % self._distinct)
        return Task(self.name, category, index, ({"role": "user", "content": f"{category} {number}"},), number)

    def score(self, task: Task, completion: str) -> Score:
        behaviour = completion.split()[0] if self.character == "obedient" else self.character
        score: Score = BEHAVIOURS[behaviour](task, completion)
        return score

    def start(self, task: Task) -> Episode:
        if self.character not in ("many_turns", "slow_turns"):
            return super().start(task)
        return Countdown(task, TURN_S if self.character == "slow_turns" else 0.0)


class Countdown(Episode):
    """Three completions: the environment echoes two, and scores the share of different ones after the third."""

    def __init__(self, task: Task, seconds: float = 0.0) -> None:
        self.messages, self.seconds = task.messages, seconds
        self.heard: list[str] = []

    def step(self, completion: str) -> Turn:
        time.sleep(self.seconds if completion != "endless" else 60)
        self.heard.append(completion)
        if len(self.heard) < 3:
            return Turn(({"role": "user", "content": f"not yet, {completion}"},), None, done=False)
        return Turn(score=Score.of(len(set(self.heard)) / 3, turns=3.0))


def create(
    name: str,
    character: str = "learnable",
    categories: Sequence[str] = ("easy", "hard"),
    held_out: Sequence[str] = (),
    size: int | None = None,
    distinct: int = 10**6,
    in_process: bool = False,
) -> Environment:
    return Fake(name, character, categories, held_out, size, distinct, in_process)


def create_something_else(name: str) -> Any:
    return {"name": name}

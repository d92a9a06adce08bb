"""What a hundred environments cost: their start, a step, and a checkpoint of a million arms.

    taskset -c 1 python -m benchmarks.environments             # all of it, some minutes; or: start step checkpoint

- start: 100 environments of 5 categories, half of them files of rows, half a factory's, up to the first task that is
  played and up to the end of the first step; the first time of a process, which loads modules, and once more.
- step: 100 environments of 5 categories beside 3, in turn, 16 groups of 4 answers of one token: the ratio of each pair.
- checkpoint: all that grows with arms, the bandits' state and where every category's tasks stand, written and read;
  of one bandit (flat), and of a hundred (staged).

One process, one thread; seconds of the clock and of the processor, as others may be at work too. Exits 1 where seconds
of the processor are above what is asked: a start of 5, a step of 1.1 times as much, a checkpoint written in 2.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import orchestrator
from benchmarks.bandits import BATCH
from orchestrator.callbacks import Callback
from orchestrator.choosing.choice import make_choice
from orchestrator.progress import Progress
from orchestrator.rollout.task_sampler import TaskSampler
from orchestrator.runs.catalog import request_stop
from orchestrator.runs.environments import trainable
from orchestrator.spec.sections import CurriculumSection
from store import checkpoints
from store.checkpoints import json_component
from store.records import StepRecord

MANY, FEW, CATEGORIES = 100, 3, 5
ROWS = 500  # of a file
WARM, MEASURED, PAIRS = 3, 12, 7  # steps; runs of each
ARMS = 1_000_000
MOST_START_S, MOST_RATIO, MOST_WRITE_S = 5.0, 1.1, 2.0


class Spent(NamedTuple):
    """Seconds of the clock and of this process on processors."""

    clock: float
    processor: float

    @classmethod
    def now(cls) -> Spent:
        return cls(time.perf_counter(), time.process_time())

    def since(self, begun: Spent) -> Spent:
        return Spent(self.clock - begun.clock, self.processor - begun.processor)

    def __str__(self) -> str:
        return f"{self.clock:.2f} s ({self.processor:.2f} of the processor)"


class Marks(Callback):
    """When the first task was played, and every step was done; stops the run after some."""

    def __init__(self, home: str, num_steps: int) -> None:
        self.home, self.num_steps = home, num_steps
        self.begun, self.first_task = Spent.now(), Spent(0.0, 0.0)
        self.steps: list[Spent] = []

    def measuring(self, text: str, done: int, total: int) -> None:
        if not self.first_task.clock:
            self.first_task = Spent.now()

    def step(self, at: Progress, record: StepRecord) -> None:
        self.steps.append(Spent.now())
        if at.step == self.num_steps:
            request_stop("many", self.home)


def started(environments: Mapping[str, Any], num_steps: int, mode: str = "staged") -> Marks:
    """Run some steps in these environments."""
    spec: dict[str, Any] = {
        "name": "many",
        "environments": environments,
        "curriculum": {"mode": mode, "stages": 1, "stage": {"steps": 2 * num_steps}},
        "step": {"groups": 16, "group_size": 4},
        "objective": "rloo",
        "sampler": {"type": "transformers", "max_tokens": 1},
        "evaluate": {"items": 1, "samples": 4},
        "checkpoint": {"every_steps": 0},
        "tracker": "none",  # its process would start on the same core while the first steps are timed
    }
    with tempfile.TemporaryDirectory() as home:
        marks = Marks(home, num_steps)
        orchestrator.run(spec, home=home, watcher=marks)
    return marks


def dice(num: int, categories: int = CATEGORIES) -> dict[str, dict[str, Any]]:
    return {f"dice{k:03}": {"type": "benchmarks.growth:create", "categories": categories} for k in range(num)}


def rows(num: int, folder: Path) -> dict[str, dict[str, Any]]:
    """Sums in files, a topic a category."""
    for k in range(num):
        sums = ({"prompt": f"{i} + {k} =", "answer": str(i + k), "topic": f"t{i % CATEGORIES}"} for i in range(ROWS))
        (folder / f"{k}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums), "utf-8")
    options = {"type": "rows", "category": "topic", "reward": "exact"}
    return {f"rows{k:03}": {**options, "train": str(folder / f"{k}.jsonl")} for k in range(num)}


def of_start() -> bool:
    """Time a start twice; whether it takes too long."""
    is_late = False
    with tempfile.TemporaryDirectory() as folder:
        mixed = dice(MANY // 2) | rows(MANY - MANY // 2, Path(folder))
        for which in ("the first time of a process", "again"):
            marks = started(mixed, 1)
            task, step = marks.first_task.since(marks.begun), marks.steps[0].since(marks.begun)
            print(f"start, {MANY} x {CATEGORIES}, {which}: first task after {task}, first step done after {step}")
        is_late = step.processor > MOST_START_S
    return is_late


def of_step(mode: str) -> bool:
    """Time steps of many environments beside few; whether they cost too much more."""
    ratios: list[Spent] = []
    for _ in range(PAIRS):
        of = []
        for num in (FEW, MANY):
            ends = started(dice(num), WARM + MEASURED, mode).steps[WARM - 1 :]
            took = [end.since(begun) for begun, end in pairwise(ends)]
            of.append(Spent(*(statistics.median(seconds) for seconds in zip(*took, strict=True))))
        ratios.append(Spent(of[1].clock / of[0].clock, of[1].processor / of[0].processor))
    told = []
    for what, values in zip(("clock", "processor"), zip(*ratios, strict=True), strict=True):
        told.append(f"{what} {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
    print(
        f"step, {mode}, {MANY} environments over {FEW}, median and range of {PAIRS} pairs: {', '.join(told)}; "
        f"{1000 * of[1].clock:.0f} ms, {1000 * of[1].processor:.0f} of the processor",
        flush=True,
    )
    return statistics.median(one.processor for one in ratios) > MOST_RATIO


def of_checkpoint(mode: str, num_arms: int) -> bool:
    """Time what a checkpoint has of arms; whether writing takes too long."""
    from benchmarks.growth import create

    environments = {name: create(name, num_arms // MANY) for name in dice(MANY)}
    section = CurriculumSection.model_validate({"mode": mode, "bandit": "sec"})
    choice = make_choice(section, trainable(environments), 0)
    tasks = TaskSampler(environments, section, 0)
    tasks.draw(choice.slots(BATCH, 1, next(iter(environments)), []))
    gc.freeze()  # as a run does
    with tempfile.TemporaryDirectory() as home:
        begun = Spent.now()
        parts = [json_component("choice", 1, choice.state()), json_component("tasks", 1, tasks.state())]
        saved = checkpoints.save(Path(home), "step-1", parts)
        write, begun = Spent.now().since(begun), Spent.now()
        opened = checkpoints.open_checkpoint(Path(home) / saved.folder, {"choice": 1, "tasks": 1})
        choice.load_state(opened.read_json("choice"))
        tasks.load_state(opened.read_json("tasks"))
        read = Spent.now().since(begun)
    gc.unfreeze()
    print(
        f"checkpoint, {mode}, {num_arms:,} arms: write {write}, read {read}, {saved.num_bytes / 1e6:.1f} MB", flush=True
    )
    return write.processor > MOST_WRITE_S


PARTS: Mapping[str, Callable[[], list[bool]]] = {
    "start": lambda: [of_start()],
    "step": lambda: [of_step(mode) for mode in ("staged", "flat")],
    "checkpoint": lambda: [of_checkpoint(mode, arms) for mode in ("flat", "staged") for arms in (ARMS // 10, ARMS)],
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="which; default: all")
    chosen = parser.parse_args(arguments).part or list(PARTS)
    print(f"{date.today()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    is_above = [above for part in chosen for above in PARTS[part]()]
    print("above what is asked" if any(is_above) else "all within what is asked")
    return int(any(is_above))


if __name__ == "__main__":
    sys.exit(main())

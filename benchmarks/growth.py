"""How cost grows with categories, environments, arms, steps, runs, answers, batches and turns.

    taskset -c 1 python -m benchmarks.growth                 # all of it, about ten minutes; or: categories arms ...

Each cost is measured at several sizes; its exponent is the slope of the logarithms, fitted to all of them: 0 is flat, 1
is proportional. Exits 1 where one is above its limit, so that what is flat today stays so. `own` is what a step takes
beside playing, scoring and updating: bandits, ledger, records. Steps are told by their median, the rest by the least of
several times; one process, one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import orchestrator
from benchmarks import bandits, store
from benchmarks.step import Coin
from environments import Category, EnvironmentSource, Scorer, ScoringJob, ScoringOptions
from orchestrator.callbacks import Callback
from orchestrator.progress import Progress
from orchestrator.runs.catalog import request_stop
from store import report
from store.courses import courses
from store.ledger import Ledger
from store.ledger.history import copy_history
from store.records import StepRecord

CORE = ("seconds_play", "seconds_score", "seconds_update")
WARM, MEASURED = 3, 12  # steps of a short run


@dataclass(frozen=True)
class Cost:
    """What one thing costs at each size, in milliseconds, and how fast it may grow."""

    name: str
    limit: float  # of the exponent
    sizes: Sequence[int]
    milliseconds: Sequence[float]

    @property
    def exponent(self) -> float:
        return float(np.polyfit(np.log(self.sizes), np.log(self.milliseconds), 1)[0])


class Dice(Coin):
    """The coin of `benchmarks.step`, in so many categories."""

    def __init__(self, name: str, num_categories: int) -> None:
        self.name = name
        self._categories = [Category(str(i)) for i in range(num_categories)]

    @property
    def categories(self) -> Sequence[Category]:
        return self._categories


def create(name: str, categories: int = 4) -> Dice:
    return Dice(name, categories)


class Clock(Callback):
    """Times the steps of a run and stops it after some."""

    def __init__(self, home: str) -> None:
        self.home, self.begun, self.first_work = home, time.perf_counter(), 0.0
        self.spent: dict[str, list[float]] = defaultdict(list)
        self._last: float | None = None

    def measuring(self, text: str, done: int, total: int) -> None:
        self.first_work = self.first_work or time.perf_counter() - self.begun

    def step(self, at: Progress, record: StepRecord) -> None:
        now = time.perf_counter()
        took = {one.name: one.value or 0.0 for one in record.metrics if one.environment is None}
        if self._last is not None:
            self.spent["own"].append(now - self._last - sum(took.get(name, 0.0) for name in CORE))
            for name in CORE:
                self.spent[name.removeprefix("seconds_")].append(took.get(name, 0.0))
        self._last = time.perf_counter()
        if at.step == WARM + MEASURED:
            request_stop("growth", self.home)


def of_steps(categories: int = 4, environments: int = 1, groups: int = 16, new_tokens: int = 1) -> dict[str, float]:
    """Run some steps: milliseconds of a step by part, and of the start, up to the first evaluation."""
    spec: dict[str, Any] = {
        "name": "growth",
        "environments": {
            f"coin{i}": {"type": "benchmarks.growth:create", "categories": categories} for i in range(environments)
        },
        "curriculum": {"stages": 1, "stage": {"steps": 2 * (WARM + MEASURED)}},
        "step": {"groups": groups, "group_size": 4},
        "objective": "rloo",
        "sampler": {"type": "transformers", "max_tokens": new_tokens},
        "evaluate": {"items": 1, "samples": 4},
        "checkpoint": {"every_steps": 0},
    }
    with tempfile.TemporaryDirectory() as home:
        clock = Clock(home)
        orchestrator.run(spec, home=home, watcher=clock)
    median = {part: 1000 * statistics.median(times[WARM:]) for part, times in clock.spent.items()}
    return median | {"start": 1000 * clock.first_work}


def grown(name: str, sizes: Sequence[int], limits: Mapping[str, float], key: str) -> Iterator[Cost]:
    """Costs of a step while one option of `of_steps` grows."""
    found = [of_steps(**{key: size}) for size in sizes]
    for part, limit in limits.items():
        what = "start" if part == "start" else f"{part} of a step"
        yield Cost(f"{name}: {what}", limit, sizes, [one[part] for one in found])


def categories() -> Iterator[Cost]:
    """Own time of a step and time to the first work, by categories."""
    yield from grown("categories", (5, 100, 1000, 10_000), {"own": 0.12, "start": 0.5}, "categories")


def environments() -> Iterator[Cost]:
    """The same, by environments of four categories each."""
    yield from grown("environments", (2, 8, 32, 128), {"own": 0.12, "start": 0.5}, "environments")


def answers() -> Iterator[Cost]:
    """Playing and updating, by the length of answers: more than proportional at most by what attention adds."""
    yield from grown("answer length", (8, 16, 32, 64), {"play": 1.1, "update": 1.15}, "new_tokens")


def batches() -> Iterator[Cost]:
    """Playing, updating and the rest, by groups in a batch."""
    yield from grown("groups in a batch", (8, 32, 128), {"play": 1.05, "update": 1.05, "own": 1.0}, "groups")


def arms() -> Iterator[Cost]:
    """Pick and learn of a batch of 256, by arms."""
    sizes = (1000, 10_000, 100_000, 1_000_000)
    limits = {"headroom": 0.6, "sec": 0.6, "gated_sec": 0.6, "discounted_ucb": 0.6, "thompson": 0.8}
    for name, limit in limits.items():
        yield Cost(f"arms: {name}", limit, sizes, [bandits.of_bandit(name, size)[0] for size in sizes])


def steps() -> Iterator[Cost]:
    """Writing a step to the ledger, and a report, by steps before it."""
    sizes = (400, 4000, 40_000)
    written, reported = [], []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            path, own = Path(folder) / f"{size}.db", Path(folder) / "long"
            own.mkdir(exist_ok=True)
            with Ledger.open(f"sqlite:///{path}") as ledger:
                run = store.write_run(ledger, "long", 40, 10, 8)
            store.stretch(path, 10, size // 40, 40)
            with Ledger.open(f"sqlite:///{path}") as ledger:
                written.append(least(_writing(ledger, run, size), 40))
                reported.append(least(partial(report.write, ledger, own, "long"), 3))
    yield Cost("steps: writing one to the ledger", 0.1, sizes, written)
    yield Cost("steps: a report", 1.05, sizes, reported)


def _writing(ledger: Ledger, run: Any, done: int) -> Callable[[], None]:
    numbers = iter(range(done + 1, done + 1000))

    def write() -> None:
        number = next(numbers)
        ledger.record_step(run, store.step_of(number, 40, number, 8))

    return write


def runs() -> Iterator[Cost]:
    """The list of runs, and writing a step beside them, by runs in the ledger."""
    sizes = (10, 100, 1000)
    listed, written = [], []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            with Ledger.open(f"sqlite:///{folder}/{size}.db") as ledger:
                first = store.write_run(ledger, "run-0", 8, 25, 4)
                for number in range(1, size):
                    copy = store.begin(ledger, f"run-{number}")
                    with ledger.engine.begin() as connection:
                        copy_history(connection, first.run_id, copy.run_id)
                listed.append(least(partial(courses, ledger.reading), 5))
                written.append(least(_writing(ledger, first, 200), 40))
    yield Cost("runs: listing them", 1.05, sizes, listed)
    yield Cost("runs: writing a step of one", 0.1, sizes, written)


def turns() -> Iterator[Cost]:
    """A turn of a game, by its number: of an episode that is kept, and of one that is replayed each time."""
    options = {"id": "MountainCarContinuous-v0", "turns": 1000, "reward_range": [-1000, 100], "invalid": "end"}
    source, sizes = EnvironmentSource("car", "gymnasium", options), (2, 20, 200)
    games = source.create()
    tasks = [games.task(games.categories[0].name, index) for index in range(8)]
    for name, limit in (("kept", 0.1), ("", 1.1)):
        took = dict.fromkeys(sizes, float("inf"))
        with Scorer([source], {"car": games}, ScoringOptions(isolation="none")) as scorer:
            for turn in range(1, max(sizes) + 2):
                said = ("0.1",) * turn
                jobs = [ScoringJob(task, said, name and f"{name}{task.index}") for task in tasks]
                here = [size for size in sizes if abs(turn - size) <= 1]
                if not (here or name):
                    continue
                begun = time.process_time()
                scorer.turns(jobs)
                for size in here:  # the least of three turns
                    took[size] = min(took[size], 1000 * (time.process_time() - begun) / len(jobs))
        yield Cost(f"turns: one of a game, {name or 'replayed'}", limit, sizes, list(took.values()))


def least(work: Callable[[], object], times: int) -> float:
    """The least of several times, in milliseconds of this process's CPU."""
    found = []
    for _ in range(times):
        start = time.process_time()
        work()
        found.append(1000 * (time.process_time() - start))
    return min(found)


PARTS: Mapping[str, Callable[[], Iterator[Cost]]] = {
    "categories": categories,
    "environments": environments,
    "arms": arms,
    "steps": steps,
    "runs": runs,
    "answers": answers,
    "batches": batches,
    "turns": turns,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="which; default: all")
    chosen = parser.parse_args(arguments).part or list(PARTS)
    print(f"{date.today()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; milliseconds", flush=True)
    print(f"{'':36}{'exponent':>9}{'limit':>7}   at each size")
    above = []
    for part in chosen:
        for cost in PARTS[part]():
            sizes = ", ".join(f"{size:,}: {ms:.3g}" for size, ms in zip(cost.sizes, cost.milliseconds, strict=True))
            is_above = cost.exponent > cost.limit
            above += [cost.name] * is_above
            mark = "  <- above its limit" * is_above
            print(f"{cost.name:36}{cost.exponent:9.2f}{cost.limit:7.2f}   {sizes}{mark}", flush=True)
    print(f"above their limits: {', '.join(above)}" if above else "every exponent is below its limit")
    return int(bool(above))


if __name__ == "__main__":
    sys.exit(main())

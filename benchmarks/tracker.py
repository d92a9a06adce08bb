"""What the tracker costs the trainer: its own CPU time a step, with MLflow's tracker and without. One command:

    python -m benchmarks.tracker

Two runs of the work of `benchmarks.step` take turns, block by block, one with a tracker and one without, each with its
own ledger; the blocks of a pair follow each other, so that a busy neighbour slows both. Counted is
`time.process_time` of the trainer between the ends of its steps: everything that it does in a step, ledger and
checkpoints included, and nothing that other processes do. Goal: at most 3 % more.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import orchestrator
from benchmarks.step import SPEC
from orchestrator.callbacks import Callback
from orchestrator.runs import tracker_process
from orchestrator.runs.api import resume

NUM_WARM = 5  # steps at a block's beginning: caches, allocators; with a tracker, it is being started


class Clock(Callback):
    """Notes the trainer's CPU time at every step's end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def step(self, at: Any, record: Any) -> None:
        self.ends.append(time.process_time())

    def seconds_a_step(self) -> float:
        """Mean over the block, its first steps left out."""
        return (self.ends[-1] - self.ends[NUM_WARM]) / (len(self.ends) - 1 - NUM_WARM)


class Turns:
    """A run that is taken up for a block at a time."""

    def __init__(self, home: Path, name: str, tracker: str, num_steps: int) -> None:
        curriculum = {"stages": 1, "stage": {"steps": num_steps}}
        self.spec = {**SPEC, "name": name, "tracker": tracker, "curriculum": curriculum}
        self.home, self.done = home, 0

    def block(self, num_steps: int) -> float:
        """Go on for so many steps; CPU seconds a step."""
        clock, first = Clock(), self.done == 0
        self.done += num_steps
        if first:
            orchestrator.run(self.spec, home=self.home, until_step=self.done, watcher=clock)
        else:
            resume(self.spec["name"], home=self.home, until_step=self.done, watcher=clock)
        return clock.seconds_a_step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="of each run")
    parser.add_argument("--block", type=int, default=25, help="steps of a turn")
    options = parser.parse_args()
    if options.block < NUM_WARM + 2:
        parser.error(f"--block: the first {NUM_WARM} steps do not count, so take {NUM_WARM + 2} at least")
    if options.steps < 2 * options.block:
        parser.error("--steps: a standard error needs two blocks at least")
    starts = timed_starts()
    with tempfile.TemporaryDirectory() as home:
        runs = {
            name: Turns(Path(home), f"tracker-{name}", name, options.steps + options.block)
            for name in ("mlflow", "none")
        }
        pairs = []
        for number in range(options.steps // options.block):
            order = ("mlflow", "none") if number % 2 else ("none", "mlflow")
            spent = {name: runs[name].block(options.block) for name in order}
            pairs.append((spent["mlflow"], spent["none"]))
            print(f"block {number + 1}: {in_words(pairs[-1])}", flush=True)
    report(pairs, starts)


def timed_starts() -> list[float]:
    """Note how long the trainer is held up by starting the tracker's process."""
    seconds: list[float] = []
    start = tracker_process._start

    def timed(job: Any) -> Any:
        begun = time.perf_counter()
        process = start(job)
        seconds.append(time.perf_counter() - begun)
        return process

    tracker_process._start = timed
    return seconds


def in_words(pair: tuple[float, float]) -> str:
    tracked, plain = pair
    return f"{1000 * tracked:.1f} ms with, {1000 * plain:.1f} ms without, ratio {tracked / plain:.3f}"


def report(pairs: list[tuple[float, float]], starts: list[float]) -> None:
    ratios = sorted(tracked / plain for tracked, plain in pairs)
    mean, spread = statistics.fmean(ratios), statistics.stdev(ratios)
    print(f"\nCPU time a step, with a tracker over without, {len(ratios)} pairs of blocks:")
    print(
        f"mean ratio {mean:.3f}, standard error {spread / len(ratios) ** 0.5:.3f}, "
        f"median {statistics.median(ratios):.3f}"
    )
    print(f"least {ratios[0]:.3f}, most {ratios[-1]:.3f} (goal: at most 1.03)")
    print(f"starting the tracker holds the trainer up for {1000 * statistics.median(starts):.1f} ms, once a run")


if __name__ == "__main__":
    main()

"""Where the time of a step goes: 32 groups of 8, prompts of 14 tokens, answers of up to 8, one core.

    taskset -c 1 python -m benchmarks.step

A real run with a real ledger and real checkpoints, in a folder that is thrown away. Its task is a coin that lands
on the letters of the answer, so every group has spread and all rows go through the policy, forward and backward.
Goals: play plus update at most .4 s on a 2-GHz-class core; everything else at most 3 % of the step, which is missed
(docs/results/step.md says why); play at least 1.2 times as fast as the library's `generate`.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import orchestrator
from benchmarks.rollouts import demo
from environments import Category, Environment, Score, Task
from orchestrator.callbacks import Callback
from orchestrator.curriculum import Curriculum
from orchestrator.recording import recorder, step_metrics
from orchestrator.recording.recorder import RunRecorder
from orchestrator.rollout import player
from orchestrator.rollout.batch import RolloutBatch
from orchestrator.rollout.prefetch import Prefetch
from policies.hardware import cpu_threads
from policies.objectives import Objective
from policies.samplers.transformers import TransformersSampler
from store.ledger import Ledger

FINER: Sequence[tuple[Any, str, str]] = (  # where the rest of a step goes: owner, function, what it does
    (Prefetch, "_draw", "draw: slots and tasks"),
    (player, "samples_of", "samples laid out"),
    (Prefetch, "_rated", "groups rated for the bandits"),
    (RolloutBatch, "trajectories", "prepare: rows for the learner"),
    (Objective, "prepare", "prepare: padded, advantages"),
    (Curriculum, "control_entropy", "learn: entropy and controllers"),
    (step_metrics, "of_groups", "record: metrics of the groups"),
    (recorder, "_group", "record: a record a group"),
    (Ledger, "record_step", "ledger: one transaction"),
)
CORE = ("play", "score", "update")  # what a step is there for
NUM_STEPS, NUM_WARM = 60, 10  # the first steps are slower: caches, allocators, file creation


class Coin(Environment):
    """Prompts of 14 tokens, scored by a coin."""

    name, version, scores_in_process = "coin", "1", True

    @property
    def categories(self) -> Sequence[Category]:
        return [Category(str(i)) for i in range(4)]

    def size(self, category: str) -> None:
        return None

    def task(self, category: str, index: int) -> Task:
        letters = f"{zlib.crc32(f'{category} {index}'.encode()):08x}"
        content = f"say{category} {letters}"  # 13 characters, a token each, and the answer mark
        return Task(self.name, category, index, ({"role": "user", "content": content},), "a")

    def score(self, task: Task, completion: str) -> Score:
        return Score.of(float(zlib.crc32(completion.encode()) % 2))


def create(name: str) -> Coin:
    return Coin()


SPEC: dict[str, Any] = {
    "name": "step",
    "environments": {"coin": {"type": "benchmarks.step:create"}},
    "curriculum": {"stages": 1, "stage": {"steps": NUM_STEPS}},
    "objective": "rloo",
    "sampler": {"type": "transformers", "max_tokens": 8},
    "evaluate": {"items": 4, "samples": 4},
}


class Clock(Callback):
    """Notes when every step was over."""

    def __init__(self, finer: dict[str, list[float]]) -> None:
        self.ends: list[float] = []
        self.finer, self.sums = finer, dict[str, list[float]]()  # of the step under way, of every step

    def step(self, at: Any, record: Any) -> None:
        self.ends.append(time.perf_counter())
        for what, seconds in self.finer.items():
            self.sums.setdefault(what, []).append(sum(seconds))
            seconds.clear()


def timed(spent: dict[str, list[float]], part: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            spent[part].append(time.perf_counter() - start)

    return run


def watched(spent: dict[str, list[float]], record_step: Callable[..., None]) -> Callable[..., None]:
    """Take the curriculum's own stopwatch down when it hands a step to the recorder."""

    def run(recorder: RunRecorder, *args: Any) -> None:
        for part, seconds in args[-1].seconds.items():
            spent[part].append(seconds)
        record_step(recorder, *args)

    return run


def main() -> None:
    spent: dict[str, list[float]] = defaultdict(list)
    finer: dict[str, list[float]] = defaultdict(list)
    lengths: list[int] = []
    clock = Clock(finer)
    for owner, name, what in FINER:
        setattr(owner, name, timed(finer, what, getattr(owner, name)))
    RunRecorder.record_step = watched(spent, RunRecorder.record_step)  # type: ignore[method-assign]
    RunRecorder.save = timed(spent, "checkpoint", RunRecorder.save)  # type: ignore[method-assign]
    Ledger.record_step = timed(spent, "ledger", Ledger.record_step)  # type: ignore[method-assign]
    TransformersSampler.generate = noting(lengths, TransformersSampler.generate)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as home:
        orchestrator.run(SPEC, home=home, watcher=clock)
        with closing(sqlite3.connect(Path(home) / "evergreen.db")) as database:
            sizes = database.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC").fetchall()
    report(spent, clock, lengths)
    print(f"ledger: {sum(size for _, size in sizes) / NUM_STEPS / 1000:.1f} kB a step")
    for table, size in sizes[:5]:
        print(f"  {table:<34}{size / NUM_STEPS / 1000:>6.1f}")
    print("\nplay beside model.generate, taking turns:")
    with cpu_threads(1):
        demo(repeats=15)


def noting(lengths: list[int], generate: Callable[..., Any]) -> Callable[..., Any]:
    def run(sampler: Any, requests: Any, sampling: Any) -> Any:
        lengths.extend({len(request.ids) for request in requests})
        return generate(sampler, requests, sampling)

    return run


def report(spent: dict[str, list[float]], clock: Clock, lengths: list[int]) -> None:
    saves = sum(spent.pop("checkpoint")[1:-1]) / NUM_STEPS  # not those of the two boundaries
    median = {part: statistics.median(times[NUM_WARM:]) for part, times in spent.items()}
    gaps = [b - a for a, b in pairwise(clock.ends[NUM_WARM - 1 :])]
    step = statistics.median(gaps) + saves
    cores = [sum(of_step) for of_step in zip(*(spent[part][NUM_WARM:] for part in CORE), strict=True)]
    rest = statistics.median(gap - core for gap, core in zip(gaps, cores, strict=True)) + saves
    print(f"32 groups of 8, prompts of {min(lengths)} to {max(lengths)} tokens, answers up to 8, rloo, one thread")
    print(f"{'':12}{'ms':>8}{'share':>8}   median of {NUM_STEPS - NUM_WARM} steps")
    for part in (*CORE, "draw", "prepare", "learn", "ledger"):
        print(f"{part:<12}{1000 * median[part]:>8.1f}{median[part] / step:>8.1%}")
    print(f"{'checkpoint':<12}{1000 * saves:>8.1f}{saves / step:>8.1%}   amortised over its 20 steps")
    print(f"{'step':<12}{1000 * step:>8.1f}")
    print(f"play + update {median['play'] + median['update']:.3f} s (goal: at most .4)")
    print(
        f"all but play, score and update {1000 * rest:.1f} ms, {rest / step:.1%} of a step (goal: at most 3 %), of it"
    )
    for _, _, what in FINER:
        rest -= (took := statistics.median(clock.sums[what][NUM_WARM:]))
        print(f"  {what:<34}{1000 * took:>6.2f}")
    print(f"  {'checkpoint, amortised':<34}{1000 * saves:>6.2f}")
    print(f"  {'what no line names':<34}{1000 * (rest - saves):>6.2f}")


if __name__ == "__main__":
    main()

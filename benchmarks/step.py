"""Where the time of a step goes: 32 groups of 8, prompts of 14 tokens, answers of up to 8, one core.

    taskset -c 1 python -m benchmarks.step

A real run with a real ledger and real checkpoints, in a folder that is thrown away. Its task is a coin that lands
on the letters of the answer, so every group has spread and all rows go through the policy, forward and backward.
Goals: play plus update at most .4 s on a 2-GHz-class core; everything else at most 5 % of the step; play at least 1.2
times as fast as the library's `generate`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import orchestrator
from benchmarks.rollouts import demo
from environments import Category, Environment, Score, Task
from orchestrator.callbacks import Callback
from orchestrator.recording.recorder import RunRecorder
from policies.hardware import cpu_threads
from policies.samplers.transformers import TransformersSampler
from store.ledger import Ledger

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

    def __init__(self) -> None:
        self.ends: list[float] = []

    def step(self, at: Any, record: Any) -> None:
        self.ends.append(time.perf_counter())


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
    lengths: list[int] = []
    clock = Clock()
    RunRecorder.record_step = watched(spent, RunRecorder.record_step)  # type: ignore[method-assign]
    RunRecorder.save = timed(spent, "checkpoint", RunRecorder.save)  # type: ignore[method-assign]
    Ledger.record_step = timed(spent, "ledger", Ledger.record_step)  # type: ignore[method-assign]
    TransformersSampler.generate = noting(lengths, TransformersSampler.generate)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as home:
        orchestrator.run(SPEC, home=home, watcher=clock)
    report(spent, clock.ends, lengths)
    print("\nplay beside model.generate, taking turns:")
    with cpu_threads(1):
        demo(repeats=15)


def noting(lengths: list[int], generate: Callable[..., Any]) -> Callable[..., Any]:
    def run(sampler: Any, requests: Any, sampling: Any) -> Any:
        lengths.extend({len(request.ids) for request in requests})
        return generate(sampler, requests, sampling)

    return run


def report(spent: dict[str, list[float]], ends: list[float], lengths: list[int]) -> None:
    saves = sum(spent.pop("checkpoint")[1:-1]) / NUM_STEPS  # not those of the two boundaries
    median = {part: statistics.median(times[NUM_WARM:]) for part, times in spent.items()}
    gaps = [b - a for a, b in zip(ends[NUM_WARM:], ends[NUM_WARM + 1 :], strict=False)]
    step = statistics.median(gaps) + saves
    core = median["play"] + median["score"] + median["update"]
    print(f"32 groups of 8, prompts of {min(lengths)} to {max(lengths)} tokens, answers up to 8, rloo, one thread")
    print(f"{'':12}{'ms':>8}{'share':>8}   median of {NUM_STEPS - NUM_WARM} steps")
    for part in ("play", "score", "update", "draw", "prepare", "learn", "ledger"):
        print(f"{part:<12}{1000 * median[part]:>8.1f}{median[part] / step:>8.1%}")
    print(f"{'checkpoint':<12}{1000 * saves:>8.1f}{saves / step:>8.1%}   amortised over its 20 steps")
    print(f"{'step':<12}{1000 * step:>8.1f}")
    print(f"play + update {median['play'] + median['update']:.3f} s (goal: at most .4)")
    print(f"all but play, score and update {(step - core) / step:.1%} of a step (goal: at most 5 %)")


if __name__ == "__main__":
    main()

"""What an update costs while the next batch is played: alone, beside a thread, beside a process.

    python -m benchmarks.ahead [--case uneven] [--rounds 8]

`sampler: {ahead: 1}` plays in a thread of the learner's process. The same update of `benchmarks.versus_trl` is timed
in turns: alone, while a thread plays with a copy of the weights, while a process of its own does on the other core.
Seconds by the clock stand beside those that the learner's thread had of the CPU: what the clock has more is waiting,
for Python's lock or for a core; where CPU seconds grow too, the cores share caches or memory. Two cores, a thread each.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from typing import Any

import torch

from benchmarks import work
from benchmarks.evergreen_side import Parts, make_parts, requests_of, trajectories_of
from benchmarks.random_models import random_qwen2
from policies.samplers.contracts import Generation


def play(parts: Parts, step: int) -> tuple[list[tuple[int, ...]], list[Generation]]:
    prompts = [parts.policy.encode([{"role": "user", "content": text}]) for text in work.texts(parts.case, step)]
    return prompts, parts.sampler.generate(requests_of(parts.case, step, prompts), parts.sampling)


def play_until(stop: Any, folder: str, case: work.Case, core: int | None) -> None:
    """Play batch after batch with weights of its own."""
    if core is not None:
        os.sched_setaffinity(0, {core})
        torch.set_num_threads(1)
    parts, step = make_parts(folder, case), 0
    while not stop.is_set():
        play(parts, step)
        step += 1


@contextmanager
def a_thread(folder: str, case: work.Case) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=play_until, args=(stop, folder, case, None))
    thread.start()
    time.sleep(1.0)  # it reads its weights
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def a_process(folder: str, case: work.Case) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    stop: Event = context.Event()
    process = context.Process(target=play_until, args=(stop, folder, case, 1))
    process.start()
    time.sleep(8.0)  # it imports torch and reads its weights
    try:
        yield
    finally:
        stop.set()
        process.join()


@contextmanager
def nobody(folder: str, case: work.Case) -> Iterator[None]:
    yield


BESIDE: dict[str, Callable[..., Any]] = {"alone": nobody, "a thread": a_thread, "a process": a_process}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=work.CASES, default="uneven")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--updates", type=int, default=4, help="of a turn")
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("this takes two cores")
    torch.set_num_threads(1)
    clock: dict[str, list[float]] = {name: [] for name in BESIDE}
    cpu: dict[str, list[float]] = {name: [] for name in BESIDE}
    with tempfile.TemporaryDirectory() as folder:
        random_qwen2(seed=0, std=0.06, **work.SHAPE).save_pretrained(folder)
        parts = make_parts(folder, options.case)
        prompts, generations = play(parts, 0)
        rewards = [work.reward(parts.case, *divmod(row, work.GROUP_SIZE)) for row in range(len(generations))]
        trajectories = trajectories_of(prompts, generations, rewards)
        for turn in range(options.rounds + 1):  # the first is not counted
            for name, beside in BESIDE.items():
                with beside(folder, options.case):
                    began, had = time.perf_counter(), time.thread_time()
                    for _ in range(options.updates):
                        parts.learner.update(parts.objective.prepare(trajectories), parts.objective)
                    if turn:
                        clock[name].append((time.perf_counter() - began) / options.updates)
                        cpu[name].append((time.thread_time() - had) / options.updates)
    print(f"seconds an update, medians of {options.rounds} rounds, and times alone, medians of ratios within a round")
    print(f"{'beside':12} {'clock':>8} {'CPU':>8}   {'clock':>5} {'CPU':>5}")
    for name in BESIDE:
        ratios = [
            statistics.median(a / b for a, b in zip(seconds[name], seconds["alone"], strict=True))
            for seconds in (clock, cpu)
        ]
        print(
            f"{name:12} {statistics.median(clock[name]):8.3f} {statistics.median(cpu[name]):8.3f}   "
            f"{ratios[0]:5.2f} {ratios[1]:5.2f}"
        )


if __name__ == "__main__":
    main()

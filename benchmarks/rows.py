"""What it takes to open a large file of rows, and to draw from it. One command:

    taskset -c 1 python -m benchmarks.rows [--rows N]

Writes N rows of JSON lines as verl has them (a conversation of some 300 characters, a truth, five levels) into a
folder that is thrown away, and opens them in a fresh process: index, checks of every row, content keys, digest of the
file. Then it draws batches of 256 as the curriculum does, one task after the other, over all categories.
Goals for 1,000,000 rows: open in 60 s with at most 1.5 GB (peak resident), draw 256 in 5 ms.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH, NUM_BATCHES = 256, 200
STORY = "the quick brown fox jumps over a lazy dog and counts apples pears plums in baskets of"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    num_rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write(path, num_rows)
        print(f"{num_rows:,} rows of JSON lines, {path.stat().st_size / 1e6:.0f} MB")
        with multiprocessing.get_context("spawn").Pool(1) as fresh:
            report(fresh.apply(measure, (str(path),)))


def write(path: Path, num_rows: int) -> None:
    story = STORY.split()
    with path.open("w") as file:
        for index in range(num_rows):
            words = " ".join(story[(index * step + step) % len(story)] for step in range(1, 50))
            question = f"Problem {index}. {words} How many of them are there? Answer with one number."
            row = {
                "data_source": "benchmark",
                "prompt": [{"role": "user", "content": question}],
                "reward_model": {"style": "rule", "ground_truth": str(index % 97)},
                "extra_info": {"difficulty": index % 5 + 1, "index": index},
            }
            file.write(json.dumps(row) + "\n")


def measure(path: str) -> dict[str, Any]:
    """Runs in a process of its own, which has done nothing else."""
    from environments import EnvironmentSource, TaskStream

    options = {"train": path, "reward": "exact", "category": "extra_info.difficulty"}
    before = peak_mb()
    begun = time.perf_counter()
    environment = EnvironmentSource("rows", "rows", options).create()
    opened = time.perf_counter()
    streams = [TaskStream(environment, category.name, seed=0) for category in environment.categories]
    ready = time.perf_counter()
    batches = [timed_batch(streams) for _ in range(NUM_BATCHES)]
    return {
        "open_s": opened - begun,
        "streams_s": ready - opened,
        "before_mb": before,
        "peak_mb": peak_mb(),
        "batch_ms": batches,
        "num_categories": len(streams),
    }


def timed_batch(streams: list[Any]) -> float:
    begun = time.perf_counter()
    seen: set[str] = set()
    for slot in range(BATCH):
        (task,) = streams[slot % len(streams)].draw(1, avoid=seen)
        seen.add(task.key)
    return 1000 * (time.perf_counter() - begun)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # Linux counts in KiB


def report(found: dict[str, Any]) -> None:
    batches = found["batch_ms"]
    print(f"open        {found['open_s']:8.1f} s     goal 60")
    print(f"peak        {found['peak_mb']:8.0f} MB    goal 1,500 (before opening: {found['before_mb']:.0f})")
    print(f"streams     {1000 * found['streams_s']:8.1f} ms    of {found['num_categories']} categories, once a run")
    worst = f"worst of {len(batches)}: {max(batches):.2f}"
    print(f"draw {BATCH}    {statistics.median(batches):8.2f} ms    goal 5; {worst}")


if __name__ == "__main__":
    main()

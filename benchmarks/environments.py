"""What many arms cost a checkpoint: writing and reading a bandit's state, as the component `choice` has it.

    python -m benchmarks.environments             # 1,000, 100,000 and 1,000,000 arms; or: ARMS ...

Seconds of one time each, one thread; writing includes the state and its copy. Exits 1 where a write is over 2 s.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from benchmarks.bandits import BATCH, made
from store import checkpoints
from store.checkpoints import json_component

ARMS = (1000, 100_000, 1_000_000)
MOST_S = 2.0


def of_choice(num_arms: int) -> tuple[float, float, int]:
    """Time a `sec` bandit's state: seconds to write and to read it, and its bytes."""
    bandit = made("sec", num_arms)
    bandit.pick(BATCH)
    with tempfile.TemporaryDirectory() as home:
        began = time.perf_counter()
        saved = checkpoints.save(Path(home), "step-1", [json_component("choice", 1, bandit.state())])
        written = time.perf_counter()
        bandit.load_state(checkpoints.open_checkpoint(Path(home) / saved.folder, {"choice": 1}).read_json("choice"))
        return written - began, time.perf_counter() - written, saved.num_bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each number of arms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="*", type=int, default=ARMS)
    print(f"{date.today()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    is_late = False
    for num_arms in parser.parse_args(arguments).arms:
        write, read, num_bytes = of_choice(num_arms)
        is_late |= write > MOST_S
        print(f"{num_arms:9,} arms: write {write:.2f} s, read {read:.2f} s, {num_bytes / 1e6:.2f} MB", flush=True)
    return int(is_late)


if __name__ == "__main__":
    sys.exit(main())

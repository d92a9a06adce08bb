"""`python -m tests.faults [--interruptions N] [--seed N] [--case N]`: interrupts runs at random, counts how they end.

Exits with 1 if a run did not end as the one that nobody interrupted: digests, rows of every table, weights.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.faults.interruptions import Case, interrupt_until_it_is_over
from tests.faults.settings import setting
from tests.faults.studies import interrupt_study

STUDIES = 12  # of so many cases one is a study


def main() -> int:
    """Interrupt runs until so many interruptions have been survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--interruptions", type=int, default=100, help="how many at least, over all runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first setting")
    parser.add_argument("--case", type=int, help="only this setting, told in full")
    asked = parser.parse_args()
    began, cases = time.monotonic(), list[Case]()
    number = asked.first if asked.case is None else asked.case
    with tempfile.TemporaryDirectory(prefix="evergreen-faults-") as name:
        while sum(len(case.interruptions) for case in cases) < asked.interruptions:
            folder = Path(name) / f"case-{number}"
            folder.mkdir()
            interrupt = interrupt_study if number % STUDIES == STUDIES - 1 else interrupt_until_it_is_over
            case = interrupt(setting(number, folder), folder, random.Random(f"{asked.seed} {number}"))
            cases.append(case)
            tell(case, f"--seed {asked.seed} --case {number}")
            shutil.rmtree(folder, ignore_errors=True)  # the tracker of a process that was killed may still be ending
            number += 1
            if asked.case is not None:
                break
    print(f"\n{summary(cases)}\nin {(time.monotonic() - began) / 60:.1f} minutes")
    return 1 if any(case.differences for case in cases) else 0


def tell(case: Case, words: str) -> None:
    """Print where a run was interrupted, and what came of it."""
    print(f"{words}  {case.setting}", flush=True)
    for aim in case.interruptions:
        print(f"    {aim}")
    for difference in case.differences:
        print(f"  WRONG: {difference}")


def summary(cases: Iterable[Case]) -> str:
    """Count interruptions by place or signal, and runs by how they ended."""
    cases = list(cases)
    nums = Counter(aim.what for case in cases for aim in case.interruptions)
    wrong = sum(bool(case.differences) for case in cases)
    lines = [f"{num:>5}  {place}" for place, num in sorted(nums.items(), key=lambda item: -item[1])]
    ended = f"{len(cases) - wrong} of {len(cases)} runs ended as the one that nobody interrupted"
    return "\n".join([f"{sum(nums.values())} interruptions", *lines, f"{ended}: digests, rows of every table, weights"])


if __name__ == "__main__":
    sys.exit(main())

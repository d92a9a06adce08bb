"""Many cases, counted."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.cases import Case, make_case
from tests.fuzz.trial import Outcome, in_a_process, run_on, tried

RUN_SHARE = 0.25  # of what `validate` accepts, also run
PROCESS_SHARE = 0.002  # of all cases, through a process of their own


@dataclass
class Campaign:
    """Tries cases; every one is made again by its seed and number."""

    seed: int
    home: Path  # with a finished run `small`; cases may add runs
    folder: Path
    counts: Counter[str] = field(default_factory=Counter)
    process_share: float = PROCESS_SHARE
    num_run: int = 0
    failures: list[tuple[int, Case, Outcome]] = field(default_factory=list)

    def go(self, numbers: Iterable[int], tell: Callable[[int, Case, Outcome], None] | None = None) -> None:
        """Try the cases of these numbers."""
        for number in numbers:
            place = self.folder / str(number)
            place.mkdir(parents=True)
            case = make_case(self.seed, number, place, self.home)
            outcome = self._tried(number, case)
            self.counts[outcome.kind] += 1
            if not outcome.is_fine:
                self.failures.append((number, case, outcome))
            if tell is not None:
                tell(number, case, outcome)
            shutil.rmtree(place)

    def _tried(self, number: int, case: Case) -> Outcome:
        rng = random.Random(f"{self.seed}/{number}/how")
        if rng.random() < self.process_share:
            return in_a_process(case.words, self.folder)
        outcome = tried(case.words)
        if outcome.kind == "accepted" and case.file is not None and rng.random() < RUN_SHARE:
            self.num_run += 1
            return run_on(case, self.home)
        return outcome

    def summary(self) -> str:
        """In one line."""
        told = f"{sum(self.counts.values())} cases: {self.counts['accepted']} accepted ({self.num_run} run), "
        told += f"{self.counts['refused']} refused, {self.counts['traceback']} tracebacks, {self.counts['hang']} hangs"
        more = {"message": "bad messages", "late": "refused by run only"}
        return told + "".join(f", {self.counts[kind]} {words}" for kind, words in more.items())

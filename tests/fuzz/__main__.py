"""`python -m tests.fuzz [--cases N] [--seed N] [--case N]`: tries cases and counts them; exits with 1 if one fails."""

from __future__ import annotations

import argparse
import faulthandler
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.campaign import Campaign
from tests.fuzz.cases import Case
from tests.fuzz.trial import LIMIT_S, Outcome

MEMORY = 40 << 30  # bytes of address space: torch takes some, and a spec may ask for 1,024 threads
EVERY_S = 30.0


def main() -> int:
    """Try cases."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="only this one, told in full")
    asked = parser.parse_args()
    numbers = range(asked.first, asked.first + asked.cases) if asked.case is None else [asked.case]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory(prefix="evergreen-fuzz-") as name:
        os.chdir(name)
        campaign = Campaign(asked.seed, _home(Path(name) / "home"), Path(name) / "cases")
        said_at = time.monotonic()

        def tell(number: int, case: Case, outcome: Outcome) -> None:
            nonlocal said_at
            faulthandler.dump_traceback_later(10 * LIMIT_S, exit=True)  # what no signal interrupts
            if not outcome.is_fine or asked.case is not None:
                print(
                    f"--seed {asked.seed} --case {number}  {outcome.kind}: {case.told()}\n{outcome.said}\n",
                    flush=True,
                )
            if time.monotonic() - said_at > EVERY_S:
                said_at = time.monotonic()
                print(campaign.summary(), file=sys.stderr, flush=True)

        campaign.go(numbers, tell)
        faulthandler.cancel_dump_traceback_later()
    print(campaign.summary())
    return 1 if campaign.failures else 0


def _home(path: Path) -> Path:
    import orchestrator
    from tests.orchestrator.specs import alone

    orchestrator.run(alone("small"), home=path)
    return path


if __name__ == "__main__":
    sys.exit(main())

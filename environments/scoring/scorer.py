"""The one way to score: in the trainer where that cannot hang, in killable processes everywhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Self

from environments.contracts import Environment, Turn
from environments.scoring.jobs import ScoringJob, play
from environments.scoring.pool import KillablePool, ScoringOptions
from environments.sources import EnvironmentSource

MOST_WORKERS = 8  # by default: one process scores some thousand answers a second


class Scorer:
    """Scores completions; a context manager, since it may own processes. They start with the first job for them.

    `sources` are recipes of the environments, for the processes; `environments` the same as the trainer has them.
    """

    def __init__(
        self,
        sources: Sequence[EnvironmentSource],
        environments: Mapping[str, Environment],
        options: ScoringOptions | None = None,
    ) -> None:
        self._environments = environments
        self._options = options or ScoringOptions()
        has_affinity = hasattr(os, "sched_getaffinity")
        num_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
        self._pool = KillablePool(
            [source for source in sources if self.isolates(source.name)],
            self._options.workers or min(max(1, num_cores - 1), MOST_WORKERS),
            self._options,
        )
        self._has_reported = False

    def isolates(self, environment: str) -> bool:
        """Say whether an environment, given by name, is scored in processes."""
        if self._options.isolation == "auto":
            return not self._environments[environment].scores_in_process
        return self._options.isolation == "process"

    def turns(self, jobs: Sequence[ScoringJob]) -> list[Turn]:
        """Take the next turn of each episode; the turns in the order of the jobs.

        A score that could not be found is unscorable, its reason one of "timed out", "crashed", "out of memory",
        "bad value", "no score", "no reply", "raised <exception>: <message>", or the environment's own, on one line and
        cut at some 500 characters. It is never 0, and it ends its episode, in whichever turn. A time-out depends on the
        load of the machine: keep `timeout_s` some 20 times above what a score normally takes. A later turn has the time
        of all turns up to it, as these are taken again. Raises EnvironmentFault if an environment breaks its contract.
        """
        isolated = [i for i, job in enumerate(jobs) if self.isolates(job.task.environment)]
        turns = dict(zip(isolated, self._pool.turns([jobs[i] for i in isolated]), strict=True))
        return [
            turns[i] if i in turns else play(self._environments[job.task.environment], job)
            for i, job in enumerate(jobs)
        ]

    def take_news(self) -> list[str]:
        """Give what people should know and have not been told: that the processes print, which nobody reads."""
        output = self._pool.output
        if self._has_reported or output is None or not output.num_bytes:
            return []
        self._has_reported = True
        num, line = output.num_bytes, output.last_line()
        return [f"scorers print, which is not kept: {num:,} bytes so far, the last line: {line}"]

    def close(self) -> None:
        """End the processes and whatever they started, if there are any; `turns` would start them anew."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

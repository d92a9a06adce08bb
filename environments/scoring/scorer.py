"""The one way to score: in the trainer where that cannot hang, in killable processes everywhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field

from environments.contracts import Environment, Turn
from environments.options import Options
from environments.scoring.jobs import ScoringJob, play
from environments.scoring.pool import KillablePool
from environments.sources import EnvironmentSource

MOST_WORKERS = 8  # by default: one process scores some thousand answers a second


class ScoringOptions(Options):
    """The spec's section `scoring`."""

    isolation: Literal["auto", "process", "none"] = "auto"
    """`auto`: processes, except for environments whose scoring can neither hang nor run foreign code."""
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Processes; none given: one less than there are cores, at least 1, at most 8."""
    timeout_s: float = Field(default=2.0, gt=0, le=86_400)
    """Seconds that one score may take in a process."""
    memory_gib: float = Field(default=2.0, gt=0, le=65_536)
    """GiB that one score may allocate in a process, beyond what its environments hold."""
    env: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], ...] = ()
    """Environment variables that the processes see beside the usual ones, such as the key of a judge: by default
    they see none that may hold secrets."""


class Scorer:
    """Scores completions; a context manager, since it may own processes. They start with the first job for them.

    Args:
        sources: recipes of the environments, for the processes.
        environments: the same ones as the trainer has them, by name.
        options: the spec's section `scoring`.
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
            self._options.timeout_s,
            self._options.memory_gib,
            self._options.env,
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
        of all turns up to it, as these are taken again.

        Raises:
            EnvironmentFault: an environment breaks its contract, so that no task of it can be scored.
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

"""Which turns are taken once more: those that failed for a cause that may pass."""

from __future__ import annotations

import re

from environments.contracts import Turn
from environments.scoring.jobs import CRASHED, ScoringJob

PAUSE_S = 0.5  # before another try
MOST_PAUSES_S = 5.0  # of a batch, where everything else waits for them

# What a server does that is busy or begins anew, by the names of exceptions of the common clients.
_NO_CONNECTION = re.compile(r"raised (\w*Connect(ion)?\w*Error|\w*Timeout(Error)?|BrokenPipeError|URLError): ")


class Retries:
    """Says of every turn, once, whether it is worth another try.

    It is where a connection was not to be had; and of an environment's crashes the first of a batch, which may have
    been the machine's doing. What crashes by itself so costs a batch one score more.
    """

    def __init__(self) -> None:
        self._crashed = set[str]()  # environments, in this batch
        self._paused_s = 0.0  # in this batch

    def next_batch(self) -> None:
        """Let turns from now on be of another batch."""
        self._crashed.clear()
        self._paused_s = 0.0

    def is_worth(self, job: ScoringJob, turn: Turn) -> bool:
        """Whether a turn is to be taken once more."""
        reason = None if turn.score is None else turn.score.reason
        if reason != CRASHED:
            return reason is not None and _NO_CONNECTION.match(reason) is not None
        is_first = job.task.environment not in self._crashed
        self._crashed.add(job.task.environment)
        return is_first

    def pause_s(self) -> float:
        """Seconds to wait where everything else waits too; 0 once the batch has waited long."""
        pause_s = PAUSE_S if self._paused_s < MOST_PAUSES_S else 0.0
        self._paused_s += pause_s
        return pause_s

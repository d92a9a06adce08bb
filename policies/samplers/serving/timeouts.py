"""How long a row may take on a server: what the slowest batch so far lets expect, three times over."""

from __future__ import annotations

SLACK = 3.0
FIRST_RATE = 100.0  # tokens a second of all rows in flight, before a batch was seen
SHORTEST_S = 30.0  # a first call that compiles, or a host that is busy for a moment, is no fault


class Timeouts:
    """The slowest that a server was seen to be, in new tokens a second of all its rows together."""

    def __init__(self, fixed_s: float | None = None) -> None:
        self._fixed_s = fixed_s
        self._slowest: float | None = None

    def limit_s(self, num_tokens: int, num_rows: int) -> float:
        """Give the time after which a row of at most so many tokens, one of so many in flight, is given up."""
        if self._fixed_s is not None:
            return self._fixed_s
        return max(SHORTEST_S, SLACK * num_tokens * num_rows / (self._slowest or FIRST_RATE))

    def saw(self, num_tokens: int, seconds: float) -> None:
        """Note a batch that went well."""
        rate = num_tokens / seconds
        self._slowest = rate if self._slowest is None else min(rate, self._slowest)

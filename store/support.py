"""Which tasks can be solved at all, at one boundary against another: kept, found, lost.

A task is within reach when at least one of its samples is correct. With few samples some of what seems lost is luck: a
task counts as surely lost only where Fisher's exact test between the two counts says so, and the same measure between
two halves of one boundary's samples says how much is kept where nothing changed. Definitions and worked numbers:
plasticity reference, 2.3 (arXiv 2507.14843, definitions 3.1 to 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

SURE = 0.05  # two-sided p below which a change from some to none, or back, is no luck
Outcome = tuple[int, int]  # of a task: samples scored, samples correct


@dataclass(frozen=True)
class Support:
    """How many tasks are within reach at a reference and now (`kept`), only now (`found`), only then, never."""

    kept: int
    found: int
    lost: int
    neither: int
    surely_found: int = 0
    surely_lost: int = 0

    @property
    def num(self) -> int:
        """Tasks compared."""
        return self.kept + self.found + self.lost + self.neither

    @property
    def retention(self) -> float | None:
        """SRR: share of what was within reach that still is; None: nothing was."""
        return _share(self.kept, self.kept + self.lost)

    @property
    def discovery(self) -> float | None:
        """NDR: share of what is within reach that was not; None: nothing is."""
        return _share(self.found, self.kept + self.found)

    @property
    def harmonic(self) -> float | None:
        """SDS: harmonic mean of retention and discovery, 0 without any found; None: nothing is or was within reach."""
        if not self.kept + self.found + self.lost:
            return None
        below = self.kept**2 + 2 * self.kept * self.found + self.found * self.lost
        return 2 * self.kept * self.found / below if self.found and below else 0.0

    @property
    def net(self) -> float | None:
        """NSCR: found less lost, over all within reach then or now; below 0: the support shrinks."""
        return _share(self.found - self.lost, self.kept + self.found + self.lost)


def support(pairs: Iterable[tuple[Outcome, Outcome]]) -> Support:
    """Compare tasks at a reference and now; those with unequal numbers of samples, or none, are left out."""
    kept = found = lost = neither = surely_found = surely_lost = 0
    for (n, before), (m, now) in pairs:
        if n != m or not n:
            continue
        kept += bool(before and now)
        neither += not before and not now
        if before and not now:
            lost += 1
            surely_lost += is_sure(n, before)
        if now and not before:
            found += 1
            surely_found += is_sure(n, now)
    return Support(kept, found, lost, neither, surely_found, surely_lost)


def is_sure(n: int, c: int) -> bool:
    """Whether c correct of n against none of n is more than luck, by Fisher's exact test (6 of 64 is, 5 is not)."""
    return no_difference(n, c, n, 0) < SURE


@lru_cache(4096)
def no_difference(n: int, c: int, m: int, d: int) -> float:
    """Two-sided p of Fisher's exact test for c correct of n against d correct of m."""
    total, right = n + m, c + d

    def chance(k: int) -> float:
        return math.comb(n, k) * math.comb(m, right - k) / math.comb(total, right)

    seen = chance(c) * (1 + 1e-9)
    return min(1.0, sum(p for k in range(max(0, right - m), min(n, right) + 1) if (p := chance(k)) <= seen))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None

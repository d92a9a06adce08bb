from __future__ import annotations

import gc
import weakref
from contextlib import suppress

from orchestrator.runs.session import GARBAGE_AFTER, collecting_rarely


class Knot:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_is_looked_for_rarely_and_afterwards_as_before() -> None:
    before = gc.get_threshold()
    with suppress(RuntimeError), collecting_rarely():
        assert gc.get_threshold() == (GARBAGE_AFTER, *before[1:])
        assert gc.get_freeze_count() > 1000
        raise RuntimeError("a step failed")
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_what_a_long_run_leaves_in_cycles_is_still_found() -> None:
    with collecting_rarely():
        first = weakref.ref(Knot())
        kept = [Knot() for _ in range(2 * GARBAGE_AFTER)]
        assert first() is None
    assert len(kept) == 2 * GARBAGE_AFTER

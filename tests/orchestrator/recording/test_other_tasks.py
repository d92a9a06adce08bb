"""Which environments of a checkpoint have other held-out tasks now."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.recording.checkpoint import _on_other_tasks

BEFORE = {"anchor": {"book": "a", "maze": "b"}, "select": {"book": "c"}}


@pytest.mark.parametrize(
    ("now", "others"),
    [
        (BEFORE, {"anchor": [], "select": []}),
        ({"anchor": BEFORE["anchor"]}, {"anchor": []}),
        ({**BEFORE, "select": {"book": "d"}}, {"anchor": [], "select": ["book"]}),
    ],
    ids=["the same", "a pool that nobody looks at any more", "others in one pool"],
)
def test_a_pool_that_is_not_looked_at_any_more_is_no_change(now: dict[str, Any], others: dict[str, list[str]]) -> None:
    parts: Any = SimpleNamespace(task_sets=now)
    assert _on_other_tasks(parts, BEFORE) == others

"""Which environments of a checkpoint have other held-out tasks now."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from environments import Task
from environments.contracts import question_and_truth
from orchestrator.recording.checkpoint import _on_other_tasks
from orchestrator.recording.recorder import all_holdouts
from store.ledger.query_rows import TaskSetRow

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
    parts: Any = SimpleNamespace(
        task_sets=now, task_sets_by=lambda identify: {pool: {"book": "z", "maze": "z"} for pool in now}
    )
    assert _on_other_tasks(parts, BEFORE) == others


def test_what_earlier_versions_knew_by_prompt_alone_is_no_change() -> None:
    now = {pool: dict.fromkeys(own, "of prompt and truth") for pool, own in BEFORE.items()}
    parts: Any = SimpleNamespace(task_sets=now, task_sets_by=lambda identify: BEFORE)
    assert _on_other_tasks(parts, BEFORE) == {"anchor": [], "select": []}


def task(number: int, answer: str | None) -> Task:
    return Task("sums", "all", number, ({"role": "user", "content": f"{number} + 1?"},), answer)


def parts_of(tasks: list[Task]) -> Any:
    held_out = {"anchor": {"sums": {"all": tasks}}}
    return SimpleNamespace(held_out=held_out, environments={"sums": SimpleNamespace(closed=False)})


def test_tasks_are_told_by_what_is_right_too_and_keep_the_hash_that_an_earlier_version_gave_them() -> None:
    (first,), (corrected,) = (all_holdouts(parts_of([task(1, answer)]), ()) for answer in ("2", "3"))
    assert first.sha256 != corrected.sha256
    earlier = hashlib.sha256(task(1, "2").key.encode()).hexdigest()
    before = [TaskSetRow("sums", "all", "anchor", earlier, 0, 1)]
    assert [one.sha256 for one in all_holdouts(parts_of([task(1, "2")]), before)] == [earlier]
    assert [one.sha256 for one in all_holdouts(parts_of([task(1, None)]), ())] == [earlier], "nothing else is known"


def test_a_truth_that_is_no_json_is_told_by_what_is() -> None:
    odd = [replace(task(1, "2"), data={"truth": 1, "judge": object(), (1, 2): 3}) for _ in range(2)]
    assert question_and_truth(odd[0]) == question_and_truth(odd[1])
    assert question_and_truth(odd[0]) != question_and_truth(replace(odd[0], data={"truth": 2}))


@pytest.mark.parametrize(
    ("truth", "corrected"),
    [
        (np.int64(1), np.int64(2)),
        (np.arange(2), np.arange(3)),
        ({1, 2}, {1, 3}),
        (Decimal(1), Decimal(2)),
        (b"1", b"2"),
    ],
)
def test_a_corrected_truth_of_any_kind_is_another_task(truth: Any, corrected: Any) -> None:
    one, other = (question_and_truth(replace(task(1, None), data={"truth": x})) for x in (truth, corrected))
    assert one != other

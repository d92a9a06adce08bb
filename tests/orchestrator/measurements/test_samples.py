"""Support: which tasks are within reach, against the same tasks before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from environments import Task
from orchestrator.measurements.samples import FILE, Config, Samples
from orchestrator.progress import Progress
from orchestrator.stopwatch import Stopwatch
from tests.environments.fakes import create
from tests.orchestrator.rollout.episodes import group


def task(text: str) -> Task:
    return Task("fake", "easy", 0, ({"role": "user", "content": text},))


def samples(*held_out: str) -> Samples:
    around: Any = SimpleNamespace(
        spec=SimpleNamespace(evaluate=SimpleNamespace(samples=4)),
        environments={"fake": create("fake", categories=["easy"])},
        held_out={"anchor": {"fake": {"easy": list(map(task, held_out))}}},
        evaluation=SimpleNamespace(played=[]),
    )
    return Samples(Config(), around)


def kept(measured: Samples, stage: int, num_correct: Mapping[str, int]) -> dict[str, tuple[float | None, int]]:
    """Measure a boundary with so many of four samples of each task correct; give what was kept, of how many."""
    measured.around.evaluation.played[:] = [
        replace(group([1.0] * num + [0.0] * (4 - num), "fake", "easy"), task=task(text))
        for text, num in num_correct.items()
    ]
    at, player = Progress(4, 2, stage=stage), Any
    cells = measured.run(player, at, Stopwatch(), lambda *told: None).cells  # type: ignore[arg-type]
    return {
        cell.metric.removeprefix("support_kept_"): (cell.value, cell.num_items)
        for cell in cells
        if cell.metric.startswith(("support_kept_base", "support_kept_previous")) and cell.category is None
    }


def test_support_is_compared_on_the_same_tasks_alone() -> None:
    measured = samples()
    assert kept(measured, 0, {"a": 4, "b": 4, "c": 0}) == {}
    assert kept(measured, 1, {"c": 0, "a": 0, "b": 4}) == {"base": (0.5, 3), "previous": (0.5, 3)}
    assert kept(measured, 2, {"x": 0, "y": 0, "z": 0}) == {}, "none of them was measured before"
    assert kept(measured, 3, {"x": 0, "b": 4, "new": 1}) == {"base": (1.0, 1), "previous": (None, 1)}


@pytest.mark.parametrize("held_out", ["ab", "ba", "abc"])
def test_outcomes_without_keys_are_of_todays_tasks_in_their_order(tmp_path: Path, held_out: str) -> None:
    """Earlier versions kept them so."""
    (tmp_path / FILE).write_text(json.dumps({"base": {"fake": {"easy": [[4, 4], [4, 0]]}}, "previous": {}}))
    measured = samples(*held_out)
    measured.load(tmp_path)
    measured.save(tmp_path)
    later = samples(*held_out)
    later.load(tmp_path)
    found = {"ab": (0.0, 2), "ba": (1.0, 2)}
    expected = {"base": found[held_out]} if held_out in found else {}
    assert kept(measured, 1, {"a": 0, "b": 4}) == kept(later, 1, {"a": 0, "b": 4}) == expected

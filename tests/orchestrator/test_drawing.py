from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from environments import pool_of
from orchestrator.bandits.contracts import Pick
from orchestrator.choosing import Slot
from orchestrator.drawing import Drawing
from tests.environments.fakes import create


def drawing(seed: int = 0) -> Drawing:
    environments = {
        "endless": create("endless"),
        "small": create("small", categories=["one", "kept"], held_out=["kept"], size=12),
    }
    return Drawing(environments, seed)


def slots(*places: str) -> list[Slot]:
    split = [place.split("/") for place in places]
    return [
        Slot(i, environment, category, "main", "category", environment, Pick(str(i), category, 1.0, 0))
        for i, (environment, category) in enumerate(split)
    ]


BATCH = slots("endless/easy", "small/one", "endless/easy", "endless/hard", "small/one", "small/one")


def keys(drawn: Drawing, batch: Sequence[Slot] = BATCH) -> list[str]:
    return [task.key for task in drawn.draw(batch)]


def test_every_slot_gets_a_training_task_of_its_category_and_none_twice() -> None:
    tasks = drawing().draw(BATCH)
    assert [(task.environment, task.category) for task in tasks] == [
        (s.environment, s.category) for s in BATCH
    ]
    assert len({task.key for task in tasks}) == len(BATCH)
    assert {pool_of(task.key) for task in tasks} == {"train"}


def test_cursors_survive_json_at_any_step() -> None:
    one = drawing()
    for _ in range(8):
        other = drawing()
        other.load_state(json.loads(json.dumps(one.state())))
        assert keys(other) == keys(one)
    assert one.state()["small/one"]["epoch"] > 0, "the small category began again on the way"


def test_other_seeds_draw_other_tasks() -> None:
    assert keys(drawing(0)) == keys(drawing(0))
    assert keys(drawing(0)) != keys(drawing(1))


def test_a_category_that_is_only_held_out_is_never_drawn_from() -> None:
    assert "small/kept" not in drawing().state()
    with pytest.raises(KeyError):
        drawing().draw(slots("small/kept"))

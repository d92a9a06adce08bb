"""Whole runs in which a teacher chooses the parameters of a generator: they go on, and they resume, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.runs.api import resume, run
from tests.integration.runs import At, Killed, component, ending, kill
from tests.orchestrator.specs import Raw, small
from tests.shares import share

TEACHERS: dict[str, Any] = {
    "alp_gmm": {
        "type": "alp_gmm",
        "fit_every": 10,
        "max_components": 2,
    },  # four fits, of which three are adopted
    "riac": {"type": "riac", "region_size": 20},
    "random": "random",
}


def taught(teacher: Any) -> Raw:
    """Two boxes, in two environments, and a category without one; scores differ within groups, so that they move."""
    return small(
        "taught",
        warm_start={"environments": ["numbers"], "batches": 8, "batch_size": 16, "lr": 0.03, "warmup": 2},
        environments={
            "numbers": {
                "type": "reasoning_gym",
                "dataset": "gcd",
                "parameters": {"max_value": [9, 40]},
                "max_tokens": 3,
            },
            "sums": {
                "type": "reasoning_gym",
                "dataset": "chain_sum",
                "categories": {
                    "wide": {"parameters": {"min_digits + max_digits": [1, 3], "max_terms": [2, 5]}},
                    "plain": {"max_terms": 2},
                },
                "max_tokens": 3,
            },
        },
        curriculum={"stages": 2, "teacher": teacher, "stage": {"steps": 4, "replay": 0.25}},
        step={"groups": 6, "group_size": 4},
        scoring={"isolation": "none"},
    )


@pytest.fixture(scope="module", params=share(TEACHERS, 1))
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A run that nothing interrupted, and its teacher."""
    home = tmp_path_factory.mktemp(request.param)
    teacher = TEACHERS[request.param]
    assert run(taught(teacher), home=home).status == "finished"
    return teacher, home


def test_every_box_has_a_teacher_whose_state_moves(whole: tuple[Any, Path]) -> None:
    teacher, home = whole
    tasks = component(home, "taught", "tasks")
    assert set(tasks) == {"numbers/box", "sums/wide", "sums/plain"}
    assert "position" in tasks["sums/plain"]
    taught_of = tasks["numbers/box"]
    assert sum(taught_of["num_seen"].values()) > 10
    if teacher == TEACHERS["alp_gmm"]:
        assert taught_of["teacher"]["mixture"] is not None
        assert taught_of["teacher"]["num_learned"] > 20
    if teacher == TEACHERS["riac"]:
        assert len(taught_of["teacher"]["regions"][0]["scores"]) > 10


@pytest.mark.slow
def test_a_run_stopped_after_every_step_equals_the_uninterrupted_one(whole: tuple[Any, Path], tmp_path: Path) -> None:
    teacher, home = whole
    outcome = run(taught(teacher), home=tmp_path, until_step=1)
    under_way = []
    for step in range(2, 8):
        assert outcome.status == "stopped"
        under_way.append(component(tmp_path, "taught", "tasks")["numbers/box"]["teacher"].get("seed"))
        outcome = resume("taught", home=tmp_path, until_step=step)
    assert resume("taught", home=tmp_path).status == "finished"
    assert ending(tmp_path, "taught") == ending(home, "taught")
    if teacher == TEACHERS["alp_gmm"]:
        assert any(under_way), "at some of the stops a fit was under way"
        assert not all(under_way)


@pytest.mark.parametrize("moment", share([6, 3], 1))
def test_a_run_killed_while_a_fit_is_under_way_equals_the_uninterrupted_one(
    whole: tuple[Any, Path], tmp_path: Path, moment: int
) -> None:
    teacher, home = whole
    with pytest.raises(Killed):
        run(taught(teacher), home=tmp_path, watcher=At(moment, kill))
    assert resume("taught", home=tmp_path).status == "finished"
    assert ending(tmp_path, "taught") == ending(home, "taught")

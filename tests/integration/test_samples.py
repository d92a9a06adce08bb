"""What is read from samples, and replay by rule, in whole runs: nothing else moves, and nothing is lost by a kill."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.runs.catalog import opened
from store.answers import entropy, maj_at_k
from store.records import CellRecord
from store.turnover import turnover
from tests.integration.runs import At, Killed, ending, kill, told
from tests.orchestrator.specs import FAKE, small
from tests.shares import share

HERE = "scoring.isolation=none"


def measured(name: str = "looked", rule: str | None = None, **sections: Any) -> dict[str, Any]:
    """The small spec with `samples`; with a rule of replay it has stages enough for tasks to be lost."""
    spec = small(name, measure="samples", objective="repo_r", **sections)
    if rule is not None:
        replay = {"share": 0.5, "rule": rule, "from": "all"}
        spec["curriculum"] = {"stages": 3, "scheduler": "uniform", "stage": {"steps": 2, "replay": replay}}
    return spec


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one run that measures `samples` and replays what is due."""
    home = tmp_path_factory.mktemp("home")
    assert orchestrator.run(measured("whole", "due"), [HERE], home=home).status == "finished"
    return home


def cells(home: Path, name: str, metric: str) -> list[CellRecord]:
    with opened(home, name) as (_, ledger):
        return [*ledger.reading.matrix(name, metric)]


def test_what_is_trained_is_bit_for_bit_what_it_is_without(finished: Path) -> None:
    orchestrator.run(measured(), [HERE], home=finished)
    plain, looked = ending(finished, "small"), ending(finished, "looked")
    assert (looked.digest, looked.weights) == (plain.digest, plain.weights)
    assert told(finished, "looked")["matrices"]["pass_1"] == told(finished, "small")["matrices"]["pass_1"]
    with opened(finished, "small") as (_, ledger):
        assert all(item.answers == () for item in ledger.reading.items("small")), "kept only where they are asked for"


def test_cells_can_be_worked_out_again_from_the_answers_in_the_ledger(home: Path) -> None:
    with opened(home, "whole") as (_, ledger):
        items = ledger.reading.items("whole")
    assert all(sum(answer.num for answer in item.answers) == item.num_scored for item in items)
    assert all(sum(answer.num_correct for answer in item.answers) == item.num_correct for item in items)
    of = defaultdict(list)
    for item in items:
        if item.num_scored:
            of[item.after_stage, item.environment, item.category].append(item.answers)
    for metric, measure in (
        ("entropy_answer", lambda answers: entropy([one.num for one in answers])),
        ("maj_4", lambda answers: maj_at_k(answers, 4)),
    ):
        found = cells(home, "whole", metric)
        for cell in found:
            if cell.category is not None:
                values = [measure(answers) for answers in of[cell.after_stage, cell.environment, cell.category]]  # type: ignore[attr-defined]
                known = [value for value in values if value is not None]
                assert cell.value == pytest.approx(sum(known) / len(known)), (metric, cell)
        assert {cell.environment for cell in found} == {"numbers", "book", "noise"}
    whole = [cell for cell in cells(home, "whole", "entropy_answer") if cell.category is None]
    assert all(0 <= cell.value <= math.log(4) for cell in whole if cell.value is not None)
    assert any(cell.value for cell in whole)


def test_support_is_against_the_base_and_the_boundary_before(home: Path) -> None:
    def after(metric: str) -> set[int]:
        return {cell.after_stage for cell in cells(home, "whole", metric)}  # type: ignore[attr-defined]

    assert after("support_kept_halves") == {0, 1, 2, 3}
    assert after("support_kept_base") == after("support_kept_previous") == {1, 2, 3}
    first = {against: cells(home, "whole", f"support_net_{against}") for against in ("base", "previous")}
    values = [[cell.value for cell in found if cell.after_stage == 1] for found in first.values()]  # type: ignore[attr-defined]
    assert values[0] == values[1], "the boundary before the first stage's end is the base"


def test_a_rule_of_replay_records_its_picks_its_looks_and_its_reasons(home: Path) -> None:
    with opened(home, "whole") as (_, ledger):
        picks, looks = ledger.reading.picks("whole"), ledger.reading.holdout_queries("whole")
    by_slot = {(pick.step, pick.slot): pick for pick in picks if pick.level == "category" and pick.role == "replay"}
    drawn = [pick for pick in picks if pick.level == "replay"]
    assert {(pick.step, pick.slot) for pick in drawn} == set(by_slot)
    assert all(pick.arm == pick.environment == by_slot[pick.step, pick.slot].environment for pick in drawn)
    assert all(0 < pick.probability <= 1 for pick in drawn)
    assert {(look.after_stage, look.asker) for look in looks} == {(stage, "replay") for stage in range(4)}
    assert {look.environment for look in looks} == {"numbers", "book", "noise"}
    said = [event["text"] for event in told(home, "whole")["events"] if " replay from " in event["text"]]
    assert [text.split(":")[0] for text in said] == ["stage 1", "stage 2", "stage 3"]


def test_turnover_is_asked_of_the_ledger(home: Path) -> None:
    with opened(home, "whole") as (_, ledger):
        found, items = ledger.reading.turnover("whole"), ledger.reading.items("whole")
        repairs = ledger.reading.repairs("whole")
    assert found == turnover(items)
    assert {(one.earlier, one.later) for one in found} == {(0, 1), (1, 2), (2, 3)}
    assert sum(one.gained + one.lost for one in found) > 0, "otherwise this proves little"
    assert all(one.delay >= 1 and one.visit > one.lost_after for one in repairs)


@pytest.mark.parametrize("moment", share([7, 2, 4, 10, 11], 1))
def test_a_killed_run_measures_and_replays_as_the_uninterrupted_one(home: Path, moment: int) -> None:
    name = f"killed-{moment}"
    with pytest.raises(Killed):
        orchestrator.run(measured(name, "due"), [HERE], home=home, watcher=At(moment, kill))
    assert orchestrator.resume(name, home=home).status == "finished"
    assert ending(home, name) == ending(home, "whole")


def test_a_fork_inherits_what_was_measured_before(home: Path) -> None:
    name = orchestrator.fork("whole", 2, home=home, overrides=["name=twin", HERE]).name
    assert ending(home, name) == ending(home, "whole")


def test_a_fork_that_begins_to_measure_later_says_what_it_cannot_know(finished: Path) -> None:
    name = orchestrator.fork("small", 2, home=finished, overrides=["name=measured-late", "measure=samples", HERE]).name
    assert cells(finished, name, "support_kept_base") == []
    assert any(
        "is not known to `samples`, which began later" in event["text"] for event in told(finished, name)["events"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("moment", [1, 4])
def test_an_environment_that_joins_begins_with_its_own_base_also_after_a_kill(home: Path, moment: int) -> None:
    """At moment 1 the boundary that measured it is recorded again, from a checkpoint that knows it already."""
    joining = f"environments.maze={{type: {FAKE}, in_process: true, categories: [easy]}}"

    def forked(name: str, **options: Any) -> None:
        orchestrator.fork("whole", 2, home=home, overrides=[f"name={name}", HERE, joining], **options)

    if moment == 1:
        forked("joined")
    with pytest.raises(Killed):
        forked(f"joined-{moment}", watcher=At(moment, kill))
    orchestrator.resume(f"joined-{moment}", home=home)
    if moment == 1:
        assert ending(home, "joined-1") == ending(home, "joined")
    found = [
        cell.after_stage
        for cell in cells(home, f"joined-{moment}", "support_kept_previous")
        if cell.environment == "maze"
    ]  # type: ignore[attr-defined]
    assert set(found) == {3}


@pytest.mark.slow
def test_the_weakest_is_replayed_and_survives_a_kill(tmp_path: Path) -> None:
    orchestrator.run(measured("whole", "weakest"), [HERE], home=tmp_path)
    with pytest.raises(Killed):
        orchestrator.run(measured("cut", "weakest"), [HERE], home=tmp_path, watcher=At(7, kill))
    orchestrator.resume("cut", home=tmp_path)
    assert ending(tmp_path, "cut") == ending(tmp_path, "whole")


def test_every_look_of_a_scheduler_is_recorded(tmp_path: Path) -> None:
    curriculum = {"stages": 1, "scheduler": {"type": "boltzmann", "reward": "gain"}, "stage": {"steps": 1}}
    orchestrator.run(small(curriculum=curriculum, warm_start=None), [HERE], home=tmp_path)
    with opened(tmp_path, "small") as (_, ledger):
        looks = ledger.reading.holdout_queries("small")
        shown = [*ledger.reading.matrix("small", "pass_1", "select"), *ledger.reading.matrix("small", "pass_1", "own")]
    expected = {(cell.after_stage, cell.environment): cell.value for cell in shown if cell.category is None}
    assert {(look.after_stage, look.environment): look.value for look in looks} == expected
    assert {look.asker for look in looks} == {"scheduler"}
    assert len(looks) == 6
